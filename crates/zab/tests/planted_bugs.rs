//! Takes the guards away, one at a time, and sees that the simulation notices within a stated number of seeds: that
//! is how we know that its checks check.

mod world;

use oxkeeper_zab::PlantedBug;

/// The first seed that finds the bug.
fn find(bug: PlantedBug, seeds_max: u64) -> (u64, String) {
    for seed in 0..seeds_max {
        if let Some(violation) = world::run_with(seed, Some(bug), false).violation {
            return (seed, violation);
        }
    }
    panic!("{bug:?} was not found in {seeds_max} seeds");
}

#[test]
#[ignore = "a survey"]
fn survey() {
    std::panic::set_hook(Box::new(|_| {}));
    use PlantedBug::*;
    for bug in [
        AckBeforeDurable,
        AckNewLeaderBeforeHistory,
        EpochBeforeHistory,
        AckEpochBeforeSaved,
        ForgetPendingAtNewLeader,
        AckProposalBeforeNewLeader,
        AnyAckIsNewLeaderAck,
        LateEventsCount,
        ElectWithWritesInFlight,
        FresherLearnerAccepted,
        AcksSurviveReconnect,
        GapsAccepted,
        TruncateAcrossEpochs,
        DiskHistoryUnchecked,
        KeepTreeOnTruncate,
        CommitWithoutQuorum,
        ForwardAfterNewLeader,
        VoteKeepsOldEpoch,
        CounterNotWatched,
        LeadWithoutQuorum,
        ReuseEpoch,
    ] {
        let found = std::panic::catch_unwind(|| find(bug, 2000));
        match found {
            Ok((seed, violation)) => println!("{bug:?}: {seed}: {}", violation.lines().next().unwrap_or_default()),
            Err(_) => println!("{bug:?}: NOT FOUND"),
        }
    }
}
