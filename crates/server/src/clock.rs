//! The only place that reads the machine's clocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use oxkeeper_core::Now;

/// The clocks of one server.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// How far it was put forward.
    ahead_ms: Arc<AtomicU64>,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock {
            started: Instant::now(),
            ahead_ms: Arc::default(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let ahead = Duration::from_millis(self.ahead_ms.load(Relaxed));
        Now {
            monotonic_ms: millis(self.started.elapsed().saturating_add(ahead)),
            wall_ms: i64::try_from(wall.saturating_add(ahead).as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Puts the clock forward, for all who hold it.
    pub(crate) fn advance(&self, by: Duration) {
        self.ahead_ms.fetch_add(millis(by), Relaxed);
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
