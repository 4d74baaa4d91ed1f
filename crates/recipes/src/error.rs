//! Why a recipe failed.

use crate::Revoked;

/// What recipes return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a recipe failed. Lost connections are not among these: recipes try again as long as the session lives. Only a
/// request that ends one connection after the other, as one does that is longer than the server takes, is given up
/// after the twentieth, as [`ConnectionLoss`](zookeeper_client::Error::ConnectionLoss).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The session is over ([`zookeeper_client::Error::SessionExpired`] and the like), or the servers refused a
    /// request.
    #[error(transparent)]
    Client(zookeeper_client::Error),
    /// What was held is held no longer, or not for sure.
    #[error("{0}")]
    Revoked(#[from] Revoked),
    /// Who holds a read lock asked for the write lock, and would wait for itself.
    #[error("a read lock cannot become a write lock; release it first")]
    UpgradeRefused,
    /// A path that is not absolute, or ends with a slash.
    #[error("not the path of a znode: {0:?}")]
    BadPath(String),
    /// A value that the recipe cannot work with.
    #[error("{0}")]
    BadArgument(&'static str),
    /// A value that its validation refuses, and why.
    #[error("not a good value: {0}")]
    Invalid(String),
    /// More than a limit of the recipe allows.
    #[error("{0}")]
    TooLarge(&'static str),
}

impl Error {
    /// Whether the session is over, so that only a new one can help.
    pub fn is_session_over(&self) -> bool {
        matches!(self, Error::Client(error) if ends_session(error))
    }
}

impl From<zookeeper_client::Error> for Error {
    fn from(error: zookeeper_client::Error) -> Error {
        match is_connection_loss(&error) {
            true => Error::Client(zookeeper_client::Error::ConnectionLoss),
            false => Error::Client(error),
        }
    }
}

/// Whether the connection broke before the reply came, so that the request was done or not.
///
/// The client says `ConnectionLoss` when a connection was closed, but gives the system's own error when it was
/// reset, and one with a message when nothing came for too long. A server that says the session has moved to
/// another one has done nothing, and closes the connection.
pub(crate) fn is_connection_loss(error: &zookeeper_client::Error) -> bool {
    use zookeeper_client::Error as E;
    matches!(
        error,
        E::ConnectionLoss | E::Custom(_) | E::Timeout | E::SessionMoved
    )
}

/// Whether no request of this session will ever succeed again.
pub(crate) fn ends_session(error: &zookeeper_client::Error) -> bool {
    use zookeeper_client::Error as E;
    matches!(error, E::SessionExpired | E::ClientClosed | E::AuthFailed)
}
