//! One whole server without I/O.
//!
//! - [`ServerCore`] is the writing side: it turns requests into txns, orders them, applies what is durable and
//!   looks after sessions. One thread drives it with [`Event`]s and carries out its [`Action`]s.
//! - [`Connection`] is the order of one connection: it decodes requests, answers reads against the shared
//!   [`Replica`], sends writes to the core and keeps replies and watch events in the order the protocol promises.
//!
//! Neither holds a socket, a file, a task, a clock or a random source: bytes, time and seeds come in as arguments,
//! and what is to be done goes out as values. The shell (`oxkeeper-server`) and the simulator drive the same code.

mod auth;
mod client;
mod connection;
mod local_sessions;
mod member;
pub mod membership;
mod peer_packets;
mod planted;
mod reads;
mod reconfig;
mod recovery;
#[cfg(test)]
mod recovery_tests;
mod replica;
mod server_core;
mod sessions;
mod settings;
mod snapshot_stream;
#[cfg(test)]
mod snapshot_stream_tests;
mod stats;

pub use client::{Client, CloseReason, Delivery};
pub use connection::{Connection, Progress, Verdict};
pub use member::Standing;
pub use peer_packets::{Sender, decode_message, decode_notification, encode_message, encode_notification};
pub use planted::{Planted, PlantedBug};
pub use recovery::{Recovered, SnapshotWalk, recover, write_snapshot};
pub use replica::{Replica, Shared, WatchSets};
pub use server_core::{Action, DelayedRead, Event, ForwardBody, ServerCore};
pub use sessions::{SessionHandle, SessionTable, session_password};
pub use settings::{AuthSettings, ContainerSettings, CoreSettings, DigestAlgorithm, LimitSettings};
pub use snapshot_stream::{
    IntakeError, IntakeProgress, ReceivedSnapshot, SnapshotIntake, SnapshotStream, empty_snapshot,
};
pub use stats::{ConnectionStats, RequestStats, ServerStats};

/// The moment an event happened, as the shell or the simulator says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds of a clock that never goes back; for timeouts.
    pub monotonic_ms: u64,
    /// Milliseconds since the Unix epoch; for the times that znodes show.
    pub wall_ms: i64,
}
