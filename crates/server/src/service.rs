//! What all connections of one server share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use oxkeeper_core::{Shared, Standing};
use oxkeeper_wire::{ConnectRequest, next_frame};
use parking_lot::Mutex;

use crate::channels::CoreHandle;
use crate::clock::Clock;
use crate::config::ServerConfig;
use crate::connection_throttle::ConnectionThrottle;
use crate::disk_worker::DiskStats;
use crate::member_view::MemberView;
use crate::registry::Registry;

/// One server, as its connections see it.
pub(crate) struct Service {
    pub(crate) config: ServerConfig,
    /// Where clients reach it.
    pub(crate) address: SocketAddr,
    pub(crate) clock: Clock,
    pub(crate) shared: Arc<Shared>,
    pub(crate) core: CoreHandle,
    pub(crate) view: Arc<MemberView>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) throttle: Option<Mutex<ConnectionThrottle>>,
    pub(crate) disk_stats: Arc<DiskStats>,
    /// Connections that a limit turned away.
    pub(crate) connections_rejected: AtomicU64,
    /// What `gtmk` and `stmk` show and set; nothing depends on it.
    pub(crate) trace_mask: AtomicI64,
}

impl Service {
    /// Whether clients are served at the moment.
    pub(crate) fn serves_clients(&self) -> bool {
        match self.view.standing() {
            Standing::Looking => false,
            Standing::Leading => {
                (self.config.ensemble.as_ref()).is_none_or(|ensemble| ensemble.leader_serves)
            }
            Standing::Standalone | Standing::Following | Standing::Observing | Standing::ReadOnly => true,
        }
    }

    /// The most data of a packet from another server: a request of the longest kind, and what is added to it.
    pub(crate) fn packet_bytes_max(&self) -> usize {
        let limits = &self.config.limits;
        limits.frame_bytes_max.saturating_add(limits.record_extra_bytes) as usize
    }

    /// Whether the connect request in `input` may go on; one that is incomplete is judged when it is whole.
    pub(crate) fn admits_session(&self, input: &[u8]) -> bool {
        let Some(throttle) = &self.throttle else {
            return true;
        };
        let Ok(Some(frame)) = next_frame(input, self.shared.settings.limits.request_bytes_max) else {
            return true;
        };
        match ConnectRequest::decode(&input[frame]) {
            Ok(request) => {
                throttle
                    .lock()
                    .admits(request.session, self.clock.now().monotonic_ms, fastrand::f64())
            }
            // The connection itself says what is wrong with it.
            Err(_) => true,
        }
    }

    /// The chance at which the next connect request is refused early.
    pub(crate) fn connection_drop_probability(&self) -> f64 {
        self.throttle
            .as_ref()
            .map_or(0.0, |throttle| throttle.lock().drop_probability())
    }
}
