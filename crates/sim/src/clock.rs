//! What servers take for the time: each clock runs a little fast or slow, and the time of day may jump.

use oxkeeper_core::Now;

/// The clock of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// What it showed when the process began, ms, and when that was.
    base_local_ms: u64,
    base_world_ms: u64,
    /// How many of its milliseconds pass in a thousand.
    rate_permille: u64,
    wall_offset_ms: i64,
}

impl Clock {
    pub(crate) fn new(rng: &mut fastrand::Rng, now_ms: u64, drifts: bool) -> Clock {
        Clock {
            base_local_ms: rng.u64(1..1_000_000),
            base_world_ms: now_ms,
            rate_permille: if drifts { rng.u64(950..=1050) } else { 1000 },
            wall_offset_ms: 1_700_000_000_000,
        }
    }

    /// The time of day jumps.
    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.wall_offset_ms += by_ms;
    }

    /// The process begins anew, and with it the clock that never goes back.
    pub(crate) fn restart(&mut self, rng: &mut fastrand::Rng, now_ms: u64) {
        self.wall_offset_ms = self.now(now_ms).wall_ms - i64::try_from(now_ms).unwrap_or(0);
        self.base_local_ms = rng.u64(1..1_000_000);
        self.base_world_ms = now_ms;
    }

    pub(crate) fn now(&self, world_ms: u64) -> Now {
        let passed_ms = (world_ms - self.base_world_ms) * self.rate_permille / 1000;
        Now {
            monotonic_ms: self.base_local_ms + passed_ms,
            wall_ms: self.wall_offset_ms + i64::try_from(self.base_world_ms + passed_ms).unwrap_or(0),
        }
    }

    /// The first moment of the world at which this clock shows `local_ms`.
    pub(crate) fn world_ms(&self, local_ms: u64) -> u64 {
        let passed_ms = local_ms.saturating_sub(self.base_local_ms);
        if passed_ms > u64::MAX / 2000 {
            return u64::MAX / 2;
        }
        self.base_world_ms + (passed_ms * 1000).div_ceil(self.rate_permille)
    }
}
