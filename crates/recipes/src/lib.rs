//! Recipes for ZooKeeper and Oxkeeper on the [`zookeeper_client`] crate: what Curator is for Java.
//!
//! # The base
//! - [`Session`]: a client, and what is known of its session: connected, suspended, lost. [`SessionKeeper`] gets a
//!   new session when one is over, for recipes that outlive sessions.
//! - [`Hold`]: what is held: a fencing token, guarded writes, revocation. Guards of locks dereference to it.
//! - [`znode`]: znodes created once though replies get lost. [`sequence`]: the order of sequential names.
//!
//! # Rules that hold for all
//! Everything runs on Tokio, no user code runs on the client's own task, and every future can be dropped at every
//! point: what it made in the ensemble is then removed in the background.

mod contend;
mod error;
mod hold;
mod mutex;
pub mod sequence;
mod session;
pub mod znode;

pub use error::{Error, Result};
pub use hold::{FencingToken, Hold, Revoked};
pub use mutex::{InterProcessMutex, MutexGuard};
pub use session::{ConnectionState, LossPolicy, Session, SessionKeeper};
