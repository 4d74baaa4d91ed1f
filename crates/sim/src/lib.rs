//! Whole ensembles, the real [`oxkeeper_core::ServerCore`] with consensus, tree and storage in each server and a real
//! [`oxkeeper_core::Connection`] for each client, on a simulated network, disk and clock. One seed drives it all: the
//! settings, the storm, the people, every delay. The same seed gives the same run.
//!
//! ```text
//! people ── bytes ──▶ Connection ─▶ ServerCore ◀── bytes ──▶ ServerCore …       net.rs, clients.rs
//!    │                                 │ Write ▲ Durable
//!    ▼ replies, events                 ▼       │
//! Observer (model)                 Storage on SimDisk                            server.rs
//! ```
//!
//! - `world.rs` knows what happens next; `storm.rs` makes settings and trouble; `clock.rs` drifts.
//! - `checks.rs` knows what must hold at every step (Z1 to Z10, T1, S5, D1 and the rest of ARCHITECTURE.md); what
//!   clients must see is checked by `oxkeeper-model`.
//!
//! A run ends in calm: then all servers must serve, all people be answered, and all trees be equal within a bound.

mod checks;
mod clients;
mod clock;
mod net;
mod server;
mod stats;
mod storm;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use stats::{Count, Stats};

/// The guard that is taken away, if any, to see that the checks notice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Planted {
    /// One of the consensus.
    pub zab: Option<oxkeeper_zab::PlantedBug>,
}

/// How a run went.
#[derive(Debug)]
pub struct Report {
    /// What happened in it.
    pub stats: Stats,
    /// Simulated time, ms.
    pub lasted_ms: u64,
    /// What was violated.
    pub violation: Option<String>,
}

/// Plays one seed; `tells`: prints what happens.
pub fn run(seed: u64, planted: Planted, tells: bool) -> Report {
    let mut world = storm::world(seed, planted);
    world.tells = tells;
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    let violation = match lived {
        Ok(result) => result.err(),
        Err(panic) => Some(match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(other) => other
                .downcast::<&str>()
                .map_or("a panic".to_owned(), |text| (*text).to_owned()),
        }),
    };
    Report {
        stats: world.stats,
        lasted_ms: world.now_ms,
        violation,
    }
}
