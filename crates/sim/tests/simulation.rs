//! A modest number of whole ensembles in random storms: every promise at every step, and progress when the storm is
//! over. `cargo run --release -p oxkeeper-sim -- --seeds A..B` runs more of them.

use std::time::Instant;

use oxkeeper_sim::{Count, Planted, Stats, run, run_noted};

const SEEDS: std::ops::Range<u64> = 0..150;

#[test]
fn every_storm_keeps_the_promises_and_ends_in_progress() {
    let started = Instant::now();
    let mut total = Stats::default();
    let mut simulated_ms = 0;
    for seed in SEEDS {
        let report = run(seed, Planted::default(), false);
        assert_eq!(
            report.violation, None,
            "replay with: cargo run --release -p oxkeeper-sim -- --seed {seed}"
        );
        simulated_ms += report.lasted_ms;
        total.add(&report.stats);
    }
    println!("{total}");
    println!("{simulated_ms} ms simulated in {:?}", started.elapsed());
    // The storms must really have been storms.
    for what in [
        Count::Acknowledged,
        Count::Events,
        Count::Syncs,
        Count::Renewals,
        Count::Expired,
        Count::Moved,
        Count::Crashes,
        Count::DiskFailures,
        Count::Pauses,
        Count::Diffs,
        Count::Truncs,
        Count::Snaps,
        Count::LogReads,
        Count::Received,
        Count::Snapshots,
        Count::Fuzzy,
        Count::Rollovers,
        Count::Reconfigs,
    ] {
        assert!(total.of(what) > 0, "no {what:?} in any of the storms");
    }
}

#[test]
fn a_seed_replays_the_same_history() {
    for seed in [3, 38] {
        let ((first, lines), (second, again)) = (run_noted(seed), run_noted(seed));
        assert!(lines.len() > 100, "seed {seed} tells {} lines", lines.len());
        assert_eq!(lines, again, "seed {seed}");
        assert_eq!(first.lasted_ms, second.lasted_ms);
    }
}
