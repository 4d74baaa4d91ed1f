//! The shell: zkCli's commands and some more, for any ZooKeeper server, in one line of a script or typed in a terminal;
//! and `oxkeeper status`, a view of servers by their four-letter words. docs/shell.md tells users about both.
//!
//! It speaks to servers through the crate `zookeeper-client` alone. What that cannot do, the shell does not either:
//! null data is empty data to it.

mod acl;
mod arguments;
mod command;
mod ensemble;
mod failure;
mod interactive;
mod oneshot;
mod output;
mod progress;
mod quota;
mod run;
mod runtime;
mod session;
mod status;
mod table;
mod text;
mod transfer;
mod walk;
mod words;

pub use oneshot::shell;
pub use status::status;
