//! The history of one server as far as memory knows it: what is appended to the log, and how much of it has been
//! delivered to the tree.
//!
//! ```text
//!   on disk only        window, in memory
//!  ────────────────┬───────────────────────────────────┬────────────────────────┐
//!                start           delivered             │ appended, not delivered│ last
//! ```

use std::collections::VecDeque;

use oxkeeper_types::Zxid;

use crate::message::Entry;
use crate::planted::PlantedBug;
use crate::settings::Settings;

/// Epochs stay below this, so that they fit the 32 signed bits of ACKEPOCH; who tells of more is not believed.
pub(crate) const EPOCH_MAX: u32 = i32::MAX as u32;

/// The history of a server. Everything in it is in the log, or on its way there.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// The last zxid before the window: the end of a snapshot, or of what the window has let go.
    start: Zxid,
    /// Ascending, all above `start`.
    entries: VecDeque<Entry>,
    /// The tree contains everything through this zxid. Not below `start`.
    delivered: Zxid,
    /// How many of `entries` are delivered.
    delivered_count: usize,
    /// The length of all txns of `entries`.
    bytes: usize,
    /// The length of those that are not delivered.
    undelivered_bytes: usize,
}

/// How a learner is brought to the leader's history (quorum spec, 6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SyncPlan {
    /// It lacks only what comes after its own last zxid.
    Diff,
    /// It first forgets everything after this zxid, which both have.
    Trunc(Zxid),
    /// Whether its last txn is in our history is to be looked up on disk.
    FromDisk,
    /// It gets everything.
    Snap,
}

impl History {
    pub(crate) fn new(start: Zxid, entries: Vec<Entry>) -> History {
        let mut history = History {
            start,
            entries: VecDeque::with_capacity(entries.len()),
            delivered: start,
            delivered_count: 0,
            bytes: 0,
            undelivered_bytes: 0,
        };
        for entry in entries {
            history.append(entry);
        }
        history
    }

    /// The end of the history.
    pub(crate) fn last(&self) -> Zxid {
        self.entries.back().map_or(self.start, |entry| entry.zxid)
    }

    pub(crate) fn start(&self) -> Zxid {
        self.start
    }

    pub(crate) fn delivered(&self) -> Zxid {
        self.delivered
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        assert!(
            entry.zxid > self.last(),
            "{} appended after {}",
            entry.zxid,
            self.last()
        );
        self.bytes += entry.txn.len();
        self.undelivered_bytes += entry.txn.len();
        self.entries.push_back(entry);
    }

    /// What follows `zxid` in the window.
    pub(crate) fn after(&self, zxid: Zxid) -> impl Iterator<Item = &Entry> {
        let from = self.entries.partition_point(|entry| entry.zxid <= zxid);
        self.entries.range(from..)
    }

    /// The next txn to deliver.
    pub(crate) fn undelivered(&self) -> Option<&Entry> {
        self.entries.get(self.delivered_count)
    }

    /// Notes that the tree has all txns.
    pub(crate) fn note_all_delivered(&mut self) {
        self.delivered_count = self.entries.len();
        self.undelivered_bytes = 0;
        self.delivered = self.last();
    }

    /// Notes that the tree gets the next txn, if there is one and it is not after `zxid`; and which.
    pub(crate) fn deliver_next(&mut self, zxid: Zxid) -> Option<Entry> {
        let next = self.entries.get(self.delivered_count)?;
        if next.zxid > zxid {
            return None;
        }
        self.delivered_count += 1;
        self.undelivered_bytes -= next.txn.len();
        self.delivered = next.zxid;
        Some(next.clone())
    }

    /// How much is not delivered: txns and their bytes.
    pub(crate) fn backlog(&self) -> (usize, usize) {
        (self.entries.len() - self.delivered_count, self.undelivered_bytes)
    }

    /// Lets go of the oldest delivered txns.
    pub(crate) fn trim(&mut self, entries_max: usize, bytes_max: usize) {
        while (self.entries.len() > entries_max || self.bytes > bytes_max)
            && self.delivered_count > 0
            && let Some(oldest) = self.entries.pop_front()
        {
            self.start = oldest.zxid;
            self.bytes -= oldest.txn.len();
            self.delivered_count -= 1;
        }
    }

    /// Forgets everything after `to`, which is in the history; the tree goes back with it.
    pub(crate) fn truncate(&mut self, to: Zxid) {
        while self.entries.back().is_some_and(|entry| entry.zxid > to)
            && let Some(last) = self.entries.pop_back()
        {
            self.bytes -= last.txn.len();
            if self.entries.len() >= self.delivered_count {
                self.undelivered_bytes -= last.txn.len();
            }
        }
        // When the window began later, nothing of it is left, and the rest is on disk.
        self.start = self.start.min(to);
        self.delivered = self.delivered.min(to);
        self.delivered_count = self.delivered_count.min(self.entries.len());
    }

    /// How a learner whose history ends at `peer` is synchronised to our history through `committed`, by the leader of
    /// epoch `led`.
    pub(crate) fn plan(&self, peer: Zxid, committed: Zxid, led: u32, settings: &Settings) -> SyncPlan {
        // (e, 0) ends a history that was taken over from the leader of e before its first txn. Whatever we have before
        // (e, 1) is then the same. Of an epoch without txns here nothing is known: its leader may have been given up
        // before a quorum had its history, and then that history may have what nobody committed. That we took it over
        // ourselves, as our current epoch says, is no proof either: we may have been told to forget it since, which is
        // durable before the epoch is.
        let of_new_epoch = peer.counter() == 0;
        if peer == committed {
            return SyncPlan::Diff;
        }
        if peer.0 < 0 {
            // A Java server without any data that was told not to begin with an empty tree.
            return SyncPlan::Snap;
        }
        if peer > committed {
            return if of_new_epoch && peer.epoch() == led {
                // It is the history that we began with, and we have proposed nothing since.
                SyncPlan::Diff
            } else if of_new_epoch {
                SyncPlan::Snap
            } else if peer.epoch() == led || (peer.epoch() == committed.epoch() && committed.counter() > 0) {
                // What it has more of a common epoch follows what was committed.
                SyncPlan::Trunc(committed)
            } else if settings.guards(PlantedBug::TruncateAcrossEpochs) {
                SyncPlan::Snap
            } else {
                SyncPlan::Trunc(committed)
            };
        }
        if peer < self.start {
            return SyncPlan::FromDisk;
        }
        if peer == self.start {
            return SyncPlan::Diff;
        }
        let above = self.entries.partition_point(|entry| entry.zxid <= peer);
        if of_new_epoch {
            let next = self.entries.get(above);
            let goes_on = next.is_some_and(|next| next.zxid.epoch() == peer.epoch());
            return match goes_on {
                true => SyncPlan::Diff,
                false => SyncPlan::Snap,
            };
        }
        let below = above
            .checked_sub(1)
            .and_then(|i| self.entries.get(i))
            .map_or(self.start, |entry| entry.zxid);
        if below == peer {
            SyncPlan::Diff
        } else if below.epoch() == peer.epoch() && below.counter() > 0 {
            SyncPlan::Trunc(below)
        } else {
            SyncPlan::Snap
        }
    }
}

/// Whether `zxid` may follow `last` in a history: nothing between them was ever proposed by the leader who proposed
/// `zxid`.
pub(crate) fn follows(last: Zxid, zxid: Zxid) -> bool {
    if last.epoch() == zxid.epoch() {
        zxid.0 == last.0 + 1
    } else {
        zxid > last && zxid.counter() == 1
    }
}

#[cfg(test)]
mod tests {
    use oxkeeper_types::ServerId;

    use super::*;
    use crate::quorum::QuorumVerifier;

    /// Each txn has 10 bytes.
    fn history(start: Zxid, zxids: &[(u32, u32)]) -> History {
        let entry = |&(epoch, counter): &(u32, u32)| Entry {
            zxid: Zxid::new(epoch, counter),
            txn: [0; 10].into(),
        };
        History::new(start, zxids.iter().map(entry).collect())
    }

    fn plan(history: &History, epoch: u32, counter: u32) -> SyncPlan {
        let settings = Settings::new(ServerId(1), QuorumVerifier::majority([ServerId(1)], []));
        history.plan(Zxid::new(epoch, counter), history.last(), 7, &settings)
    }

    #[test]
    fn a_learner_is_synchronised_by_the_least_that_is_safe() {
        let ours = history(Zxid::new(1, 7), &[(1, 8), (1, 9), (2, 1), (2, 2)]);
        assert_eq!(plan(&ours, 2, 2), SyncPlan::Diff, "nothing is missing");
        assert_eq!(plan(&ours, 1, 8), SyncPlan::Diff);
        assert_eq!(
            plan(&ours, 1, 7),
            SyncPlan::Diff,
            "the end of what the window has let go"
        );
        assert_eq!(plan(&ours, 2, 0), SyncPlan::Diff, "all of epoch 1");
        assert_eq!(
            plan(&ours, 2, 9),
            SyncPlan::Trunc(Zxid::new(2, 2)),
            "ahead in our epoch"
        );
        assert_eq!(
            plan(&ours, 1, 12),
            SyncPlan::Trunc(Zxid::new(1, 9)),
            "ahead in an epoch we know"
        );
        assert_eq!(plan(&ours, 1, 6), SyncPlan::FromDisk);
        assert_eq!(plan(&ours, 0, 0), SyncPlan::FromDisk);
    }

    #[test]
    fn a_learner_with_txns_of_an_epoch_we_lack_gets_everything() {
        let ours = history(Zxid::new(1, 7), &[(1, 8), (4, 1)]);
        assert_eq!(plan(&ours, 3, 5), SyncPlan::Snap, "between ours");
        assert_eq!(
            plan(&ours, 5, 5),
            SyncPlan::Snap,
            "after ours: its part of epoch 4 may be shorter than ours"
        );
        assert_eq!(plan(&ours, 5, 0), SyncPlan::Snap);
        assert_eq!(
            plan(&ours, 3, 0),
            SyncPlan::Snap,
            "epoch 3 may never have had a quorum, and its history what nobody committed"
        );
        assert_eq!(
            plan(&ours, 4, 0),
            SyncPlan::Diff,
            "epoch 4 goes on with what we have"
        );
    }

    #[test]
    fn a_history_that_ends_with_the_beginning_of_an_epoch_we_know_is_ours() {
        let ours = history(Zxid::new(1, 7), &[(1, 8), (4, 1)]);
        assert_eq!(
            plan(&ours, 6, 0),
            SyncPlan::Snap,
            "we may have followed it and forgotten it"
        );
        assert_eq!(plan(&ours, 7, 0), SyncPlan::Diff, "it came from us");
        assert_eq!(
            plan(&ours, 7, 3),
            SyncPlan::Trunc(Zxid::new(4, 1)),
            "our own proposals"
        );
        let led = history(Zxid::new(1, 7), &[(1, 8), (7, 1)]);
        assert_eq!(plan(&led, 7, 0), SyncPlan::Diff, "before our first txn");
    }

    #[test]
    fn a_leader_without_txns_replaces_what_others_have() {
        assert_eq!(plan(&history(Zxid::ZERO, &[]), 1, 3), SyncPlan::Snap);
        assert_eq!(plan(&history(Zxid::ZERO, &[]), 1, 0), SyncPlan::Snap);
        assert_eq!(plan(&history(Zxid::ZERO, &[]), 0, 0), SyncPlan::Diff);
        assert_eq!(plan(&history(Zxid::ZERO, &[(1, 1)]), 0, 0), SyncPlan::Diff);
    }

    #[test]
    fn a_learner_without_data_gets_everything() {
        let settings = Settings::new(ServerId(1), QuorumVerifier::majority([ServerId(1)], []));
        for ours in [history(Zxid::ZERO, &[]), history(Zxid::ZERO, &[(1, 1)])] {
            assert_eq!(ours.plan(Zxid(-1), ours.last(), 7, &settings), SyncPlan::Snap);
        }
    }

    #[test]
    fn proposals_follow_one_another_without_gaps() {
        let z = Zxid::new;
        assert!(follows(z(1, 4), z(1, 5)) && follows(z(1, 4), z(3, 1)) && follows(Zxid::ZERO, z(1, 1)));
        assert!(follows(z(2, 0), z(2, 1)));
        assert!(!follows(z(1, 4), z(1, 6)) && !follows(z(1, 4), z(1, 4)) && !follows(z(1, 4), z(2, 2)));
        assert!(!follows(z(2, 4), z(1, 5)) && !follows(z(2, 4), z(1, 1)));
    }

    #[test]
    fn the_window_keeps_what_is_not_delivered() {
        let mut history = history(Zxid::ZERO, &[(1, 1), (1, 2), (1, 3)]);
        assert_eq!(
            history.deliver_next(Zxid::new(1, 2)).map(|e| e.zxid),
            Some(Zxid::new(1, 1))
        );
        assert_eq!(
            history.deliver_next(Zxid::new(1, 2)).map(|e| e.zxid),
            Some(Zxid::new(1, 2))
        );
        assert_eq!(history.deliver_next(Zxid::new(1, 2)), None);
        history.trim(0, usize::MAX);
        assert_eq!(
            (history.start(), history.last()),
            (Zxid::new(1, 2), Zxid::new(1, 3))
        );
        assert_eq!(
            history.undelivered().map(|entry| entry.zxid),
            Some(Zxid::new(1, 3))
        );
        history.truncate(Zxid::new(1, 1));
        assert_eq!(
            (history.start(), history.last(), history.delivered()),
            (Zxid::new(1, 1), Zxid::new(1, 1), Zxid::new(1, 1))
        );
    }

    #[test]
    fn the_window_is_bounded_by_bytes_too() {
        let mut history = history(Zxid::ZERO, &[(1, 1), (1, 2), (1, 3), (1, 4)]);
        history.deliver_next(Zxid::new(1, 1));
        history.deliver_next(Zxid::new(1, 2));
        history.deliver_next(Zxid::new(1, 3));
        history.trim(100, 25);
        assert_eq!(history.start(), Zxid::new(1, 2), "20 bytes are left");
        history.trim(100, 0);
        assert_eq!(history.start(), Zxid::new(1, 3), "what is not delivered stays");
        assert_eq!(history.backlog(), (1, 10));
    }

    #[test]
    fn the_backlog_is_what_is_not_delivered() {
        let mut history = history(Zxid::ZERO, &[(1, 1), (1, 2), (1, 3)]);
        assert_eq!(history.backlog(), (3, 30));
        history.deliver_next(Zxid::new(1, 1));
        assert_eq!(history.backlog(), (2, 20));
        history.truncate(Zxid::new(1, 2));
        assert_eq!(history.backlog(), (1, 10));
        history.truncate(Zxid::ZERO);
        assert_eq!(history.backlog(), (0, 0));
        history.append(Entry {
            zxid: Zxid::new(2, 1),
            txn: [0; 7].into(),
        });
        assert_eq!(history.backlog(), (1, 7));
        history.note_all_delivered();
        assert_eq!(history.backlog(), (0, 0));
        history.trim(0, 0);
        assert_eq!(history.start(), Zxid::new(2, 1));
    }
}
