//! The shell of an Oxkeeper server: it turns bytes into events and actions into bytes, and decides nothing.
//!
//! [`config`] reads `zoo.cfg`; [`serve`] runs one server from a [`config::ServerConfig`] until it is told to stop.

pub mod config;

use std::future::Future;
use std::net::SocketAddr;

/// Why a server could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// This build has no server behind the configuration yet.
    #[error("not implemented: the server is not part of this build")]
    NotImplemented,
}

impl ServeError {
    /// The process's exit code: 1 unexpected error, 2 invalid configuration, 3 data directory, 4 admin server.
    pub fn exit_code(&self) -> u8 {
        match self {
            ServeError::NotImplemented => 1,
        }
    }
}

/// Runs one server until `shutdown` completes; `on_ready` gets the bound client address once it serves.
pub async fn serve(
    config: config::ServerConfig,
    on_ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let _ = (config, on_ready, shutdown);
    Err(ServeError::NotImplemented)
}
