//! ZooKeeper's consensus as a state machine without I/O: fast leader election, and the atomic broadcast (ZAB) of
//! opaque txns among the servers of an ensemble. Nothing here knows what a znode, a socket, a file or the time is.
//!
//! # What the caller owes
//!
//! [`Zab`] gets [`Event`]s and returns [`Action`]s, to be done in their order:
//!
//! ```text
//! loop {
//!     event, or the deadline of next_deadline_ms() ──▶ zab.handle(event, now_ms)
//!     while let Some(action) = zab.poll_action()    ──▶ do it; never wait for it here
//! }
//! ```
//!
//! - [`Action::Write`]s reach the disk one after the other, in groups if that is faster, and come back as
//!   [`Event::Durable`] when they and all before them survive a loss of power. Nothing is acknowledged before (Z9).
//!   When one fails, [`Event::WriteFailed`] ends this server's part in the ensemble.
//! - A [`LinkId`] is one TCP connection: what is sent over it arrives in order and once, or [`Event::LinkClosed`]
//!   comes. The shell closes a link whose queue grows over its limit; the learner then synchronises again.
//! - A snapshot is sent while txns go on to be applied. [`Event::SnapshotSent`] says that its walk is over; only then
//!   the learner hears where the history ends. [`Event::SnapshotProgress`] keeps a long one from being given up.
//! - Election links carry [`Notification`]s; only the newest to each server need arrive.
//! - The tree applies what [`Action::Deliver`] brings, in order. After a restart it contains the whole log, of which
//!   the end may not be committed; a truncation with `reload` takes that back. Clients are served between
//!   [`Action::Serve`] and [`Action::StopServing`] alone.
//! - After a restart the log may end in a later epoch than `currentEpoch` tells: the server died between the two
//!   writes. It may start all the same: the history it has is a prefix of the later leader's, and the lower epoch
//!   only weakens its vote.
//!
//! # Where to read
//!
//! `zab.rs` is the router; `election.rs`, `leader.rs` and `learner.rs` are the roles; `history.rs` decides how a
//! learner is synchronised; `journal.rs` knows what is durable; `configuration.rs` tells how the ensemble changes while
//! it runs; `quorum.rs` and `vote.rs` are arithmetic.
//!
//! Not here yet: observer masters.

mod configuration;
mod election;
mod history;
mod journal;
mod leader;
mod learner;
mod message;
mod planted;
mod quorum;
mod settings;
mod timers;
mod vote;
mod zab;

pub use configuration::Configuration;
pub use journal::{NO_HISTORY, Recovered, Write, WriteId};
pub use message::{Entry, LinkId, Message};
pub use planted::PlantedBug;
pub use quorum::{QuorumError, QuorumVerifier};
pub use settings::Settings;
pub use vote::{NOBODY, NOTIFICATION_VERSION, Notification, PeerState, Vote};
pub use zab::{Action, CloseReason, Event, Incarnation, LearnerView, PeerFault, Reason, SyncMethod, Zab};
