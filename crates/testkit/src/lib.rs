//! What tests, the harnesses of faults and the benchmarks share: a server as a process of its own (Oxkeeper or
//! Java's), which can be killed, paused and started again on its directory, ensembles of them, and a small
//! blocking client.
//!
//! ```no_run
//! use oxkeeper_testkit::{Client, CreateMode, ServerOptions, ServerProcess, ServerProgram};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let mut server = ServerProcess::start(ServerOptions::new(ServerProgram::oxkeeper()?, dir.path()))?;
//! let mut client = Client::connect(server.address(), 10_000)?;
//! client.create("/a", b"data", CreateMode::Persistent)?;
//! server.kill()?;
//! server.restart()?;
//! let session = client.session().clone();
//! let mut client = Client::renew(server.address(), &session)?;
//! assert_eq!(client.get("/a")?.0, b"data");
//! # Ok(())
//! # }
//! ```

mod client;
pub mod crash;
mod ensemble;
mod network;
mod server;
pub mod storm;
mod tiny_disk;

pub use client::{Client, ClientError, REPLY_TIMEOUT_DEFAULT, Reply, Session, WatchEvent};
pub use ensemble::{Ensemble, EnsembleOptions, MemberOptions, Mode};
pub use network::{CLIENTS, Network};
pub use oxkeeper_types::CreateMode;
pub use server::{ServerError, ServerOptions, ServerProcess, ServerProgram, free_port};
pub use tiny_disk::TinyDisk;
