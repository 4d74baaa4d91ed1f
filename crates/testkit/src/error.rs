//! Why a test's server could not do what was asked of it.

use std::io;
use std::time::Duration;

use oxkeeper_server::ServeError;

/// Why a server or a proxy of a test could not be started, or could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A directory, a socket or a thread could not be had.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The reason the system gave.
        cause: io::Error,
    },
    /// The server did not start, or stopped by itself.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// It needs a server that runs, and this one was killed or is paused.
    #[error("the server at {address} is {state}, so {what}")]
    NotRunning {
        /// Where the server is when it runs.
        address: std::net::SocketAddr,
        /// `down` or `paused`.
        state: &'static str,
        /// What does not work then.
        what: &'static str,
    },
    /// Only the leader of an ensemble can do that.
    #[error("the server at {0} does not lead: ask the ensemble")]
    NotLeading(std::net::SocketAddr),
    /// Something did not come about.
    #[error("{what} within {within:?}")]
    Timeout {
        /// What did not.
        what: String,
        /// How long it was waited for.
        within: Duration,
    },
}

pub(crate) fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::Io { what, cause }
}

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(1);

/// Waits until `condition` gives something; `failure` says what did not happen.
pub(crate) fn wait_until<T>(
    within: Duration,
    failure: impl FnOnce() -> String,
    mut condition: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let deadline = std::time::Instant::now() + within;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if std::time::Instant::now() >= deadline {
            let what = failure();
            return Err(Error::Timeout { what, within });
        }
        std::thread::sleep(POLL);
    }
}
