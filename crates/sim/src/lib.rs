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
//! - `reconfigs.rs` changes the list of servers, and knows what must hold of it.
//! - `checks.rs` knows what must hold at every step (Z1 to Z10, T1, S5, D1 and the rest of ARCHITECTURE.md); what
//!   clients must see is checked by `oxkeeper-model`.
//!
//! A run ends in calm: then all servers must serve, all people be answered, and all trees be equal within a bound.

mod checks;
mod clients;
mod clock;
mod net;
mod reconfigs;
mod server;
mod stats;
mod storm;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use stats::{Count, Stats};
use world::Telling;

/// A guard of the shell, named by what goes wrong without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShellBug {
    /// Txns are told durable that are not synced.
    DurableBeforeSync,
    /// A promised epoch is told durable and never saved.
    EpochNotSaved,
    /// The configuration that is to follow is told durable and never saved.
    NextConfigurationNotSaved,
    /// A snapshot is finished before the log has what it shows.
    SnapshotBeforeLog,
    /// What goes over a link while a snapshot is sent does not wait for its end.
    StreamOvertaken,
}

/// The guard that is taken away, if any, to see that the checks notice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Planted {
    /// One of the consensus.
    #[cfg(feature = "planted-bugs")]
    pub zab: Option<oxkeeper_zab::PlantedBug>,
    /// One of the core.
    #[cfg(feature = "planted-bugs")]
    pub core: Option<oxkeeper_core::PlantedBug>,
    /// One of the shell.
    pub shell: Option<ShellBug>,
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
    let telling = if tells { Telling::Aloud } else { Telling::Nothing };
    play(seed, planted, telling).0
}

/// Plays one seed, and notes what happens.
pub fn run_noted(seed: u64) -> (Report, Vec<String>) {
    play(seed, Planted::default(), Telling::Noted(RefCell::default()))
}

fn play(seed: u64, planted: Planted, telling: Telling) -> (Report, Vec<String>) {
    let mut world = storm::world(seed, planted);
    world.telling = telling;
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
    let report = Report {
        stats: world.stats,
        lasted_ms: world.now_ms,
        violation,
    };
    let noted = match world.telling {
        Telling::Noted(lines) => lines.into_inner(),
        Telling::Nothing | Telling::Aloud => Vec::new(),
    };
    (report, noted)
}
