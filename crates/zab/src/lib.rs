//! ZooKeeper's consensus as a state machine without I/O: fast leader election and ZAB, ordering opaque txns among
//! the servers of an ensemble. Nothing here knows what a znode, a socket, a file or the time is.
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

pub use journal::{Recovered, Write, WriteId};
pub use message::{Entry, LinkId, Message};
pub use planted::PlantedBug;
pub use quorum::{QuorumError, QuorumVerifier};
pub use settings::Settings;
pub use vote::{NOBODY, NOTIFICATION_VERSION, Notification, PeerState, Vote};
pub use zab::{Action, Event, Incarnation, PeerFault, Reason, Zab};
