//! Servers for tests.
//!
//! [`Server`] is a whole server inside the test's process, there in milliseconds; [`Ensemble`] is several of them that
//! elect a leader. Both can be killed, paused, cut off and started again, and end sessions at once. [`Proxy`] stands
//! before a server, any server that speaks the protocol, and breaks a connection at a chosen frame.
//!
//! ```
//! # fn main() -> Result<(), oxkeeper_testkit::Error> {
//! let server = oxkeeper_testkit::Server::start()?;
//! println!("clients connect to {}", server.connect_string());
//! # Ok(())
//! # }
//! ```
//!
//! [`Client`] is a small blocking client that hides nothing by retrying. The rest is what tests Oxkeeper itself:
//! [`process`] has servers, ours and Java's, as processes, [`crash`] and [`storm`] are harnesses of faults.

mod client;
pub mod crash;
mod ensemble;
mod error;
mod gate;
pub mod process;
mod proxy;
mod server;
pub mod storm;

pub use client::{Client, ClientError, REPLY_TIMEOUT_DEFAULT, Reply, Session, WatchEvent};
pub use ensemble::Ensemble;
pub use error::Error;
pub use oxkeeper_core::Standing;
pub use oxkeeper_server::config::ServerConfig;
pub use oxkeeper_types::{CreateMode, OpCode, SessionId};
pub use proxy::{Fault, Frame, FrameKind, Hits, Proxy};
pub use server::Server;
