//! What a server tells its connections and words of its part in the ensemble.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};

use oxkeeper_core::Standing;
use oxkeeper_zab::Configuration;
use parking_lot::Mutex;

/// What the server is at the moment, for connections and words. The core thread keeps it up to date.
#[derive(Debug)]
pub(crate) struct MemberView {
    /// An index into [`STANDINGS`].
    standing: AtomicUsize,
    /// When it began to serve, monotonic ms.
    pub(crate) serving_since_ms: AtomicU64,
    /// The leader that is followed; -1 for none.
    pub(crate) leader: AtomicI64,
    /// The committed configuration, once it is another than the settings say.
    configuration: Mutex<Option<Arc<Configuration>>>,
    /// Sizes of what was proposed, bytes; -1 before the first.
    pub(crate) proposal_bytes_last: AtomicI64,
    pub(crate) proposal_bytes_min: AtomicI64,
    pub(crate) proposal_bytes_max: AtomicI64,
}

const STANDINGS: [Standing; 6] = [
    Standing::Standalone,
    Standing::Looking,
    Standing::Leading,
    Standing::Following,
    Standing::Observing,
    Standing::ReadOnly,
];

impl MemberView {
    pub(crate) fn new(standing: Standing) -> MemberView {
        let view = MemberView {
            standing: AtomicUsize::new(0),
            serving_since_ms: AtomicU64::new(0),
            leader: AtomicI64::new(-1),
            configuration: Mutex::new(None),
            proposal_bytes_last: AtomicI64::new(-1),
            proposal_bytes_min: AtomicI64::new(-1),
            proposal_bytes_max: AtomicI64::new(-1),
        };
        view.set_standing(standing);
        view
    }

    pub(crate) fn standing(&self) -> Standing {
        STANDINGS[self.standing.load(Relaxed)]
    }

    pub(crate) fn configuration(&self) -> Option<Arc<Configuration>> {
        self.configuration.lock().clone()
    }

    pub(crate) fn set_configuration(&self, committed: Arc<Configuration>) {
        *self.configuration.lock() = Some(committed);
    }

    pub(crate) fn set_standing(&self, standing: Standing) {
        let at = STANDINGS.iter().position(|of| *of == standing);
        self.standing.store(at.expect("all are listed"), Relaxed);
    }

    pub(crate) fn count_proposal(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.proposal_bytes_last.store(bytes, Relaxed);
        self.proposal_bytes_max.fetch_max(bytes, Relaxed);
        let smallest = self.proposal_bytes_min.load(Relaxed);
        if smallest < 0 || bytes < smallest {
            self.proposal_bytes_min.store(bytes, Relaxed);
        }
    }

    /// Begins to count proposals anew (`srst`).
    pub(crate) fn reset(&self) {
        for size in [
            &self.proposal_bytes_last,
            &self.proposal_bytes_min,
            &self.proposal_bytes_max,
        ] {
            size.store(-1, Relaxed);
        }
    }
}
