//! Servers as processes of their own, Oxkeeper's or Java's, alone and as ensembles: what our own harnesses of faults
//! and the benchmarks are made of. They can be killed with SIGKILL, paused with SIGSTOP, cut off by the kernel
//! ([`Network`]) and left without room on their disk ([`TinyDisk`]). For tests of programs that use ZooKeeper,
//! [`crate::Server`] is quicker and needs nothing but this crate.
//!
//! ```no_run
//! use oxkeeper_testkit::process::{ServerOptions, ServerProcess, ServerProgram};
//! use oxkeeper_testkit::{Client, CreateMode};
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

mod ensemble;
mod network;
mod server;
mod tiny_disk;

pub use ensemble::{Ensemble, EnsembleOptions, MemberOptions, Mode};
pub use network::{CLIENTS, Network};
pub use server::{ServerError, ServerOptions, ServerProcess, ServerProgram, free_port};
pub use tiny_disk::TinyDisk;
