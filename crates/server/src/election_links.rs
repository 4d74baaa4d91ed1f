//! The connections over which the servers of an ensemble elect their leader (quorum spec, section 2).
#![expect(dead_code, reason = "the signatures; the links follow in the next commits")]

use std::sync::Arc;

use oxkeeper_types::ServerId;
use oxkeeper_zab::Notification;

use crate::ServeError;
use crate::config::EnsembleConfig;

/// What happens on election links.
pub(crate) enum ElectionEvent {
    /// There is a new connection with this server: it wants to know what we know.
    Connected(ServerId),
    /// A server told its vote.
    Notification {
        /// Who.
        from: ServerId,
        /// What.
        notification: Notification,
    },
}

/// The election connections of this server. Dropping them closes all and ends their tasks.
pub(crate) struct ElectionLinks {}

impl ElectionLinks {
    /// Listens on the election port and is ready to dial.
    pub(crate) async fn start(
        _config: Arc<EnsembleConfig>,
        _on_event: impl Fn(ElectionEvent) + Send + Sync + 'static,
    ) -> Result<ElectionLinks, ServeError> {
        Ok(ElectionLinks {})
    }

    /// Sends to a server, dialling it if there is no connection. A notification that was not sent yet is replaced.
    pub(crate) fn send(&self, _to: ServerId, _notification: &Notification) {}
}
