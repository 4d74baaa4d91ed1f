//! What runs were made of, so that storms that are none are noticed.

use std::fmt;

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Steps of the simulation.
    Steps,
    /// Leaders that began to lead.
    Elections,
    /// Leaders that were established.
    Leaders,
    /// Txns committed.
    Commits,
    /// Replies and events that clients saw.
    Frames,
    /// Watch events that clients saw.
    Events,
    /// Writes that were acknowledged.
    Acknowledged,
    /// Syncs that were answered.
    Syncs,
    /// Connections that went on with a session.
    Renewals,
    /// Sessions that the ensemble ended.
    Expired,
    /// Requests refused because their session had moved.
    Moved,
    /// Servers that crashed.
    Crashes,
    /// Crashes while writes were on their way to disk.
    LostTails,
    /// Disks that failed.
    DiskFailures,
    /// Servers that stood still.
    Pauses,
    /// Learners synchronised by DIFF.
    Diffs,
    /// By TRUNC.
    Truncs,
    /// By SNAP.
    Snaps,
    /// Logs read for a learner.
    LogReads,
    /// Snapshots taken in from a leader.
    Received,
    /// Snapshots taken.
    Snapshots,
    /// Snapshots that were being taken when something was applied.
    Fuzzy,
    /// Epochs that ended because their counter was used up.
    Rollovers,
    /// Truncations that were refused.
    RefusedTruncs,
    /// Changes of the list of servers that were committed.
    Reconfigs,
    /// Leaders that named their heir, because they do not vote any more.
    Heirs,
    /// Changes of the list that were finished by an operator.
    Remedies,
}

const COUNTS: usize = Count::Remedies as usize + 1;

/// How often everything happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats([u64; COUNTS]);

impl Stats {
    /// Something happened.
    pub(crate) fn count(&mut self, what: Count) {
        self.0[what as usize] += 1;
    }

    /// How often it happened.
    pub fn of(&self, what: Count) -> u64 {
        self.0[what as usize]
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Stats) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Count::*;
        let all: [Count; COUNTS] = [
            Steps,
            Elections,
            Leaders,
            Commits,
            Frames,
            Events,
            Acknowledged,
            Syncs,
            Renewals,
            Expired,
            Moved,
            Crashes,
            LostTails,
            DiskFailures,
            Pauses,
            Diffs,
            Truncs,
            Snaps,
            LogReads,
            Received,
            Snapshots,
            Fuzzy,
            Rollovers,
            RefusedTruncs,
            Reconfigs,
            Heirs,
            Remedies,
        ];
        for (n, what) in all.into_iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{what:?} {}", self.of(what))?;
        }
        Ok(())
    }
}
