//! When the server takes a snapshot (storage spec, section 9).

/// Decides after each txn whether a snapshot is due. Chance comes in from outside, so that the members of an
/// ensemble do not take theirs together and a simulation can be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotTrigger {
    /// `snapCount`: about as many txns lie between two snapshots, at least half of it.
    count: u64,
    /// `snapSizeLimitInKb` in bytes, likewise for the size of the log; `None` for no such limit.
    bytes: Option<u64>,
    count_due: u64,
    bytes_due: Option<u64>,
    counted: u64,
}

impl SnapshotTrigger {
    /// A trigger for `snap_count` txns (at least 2) or `size_bytes` of log, whichever comes first.
    /// The two random numbers may be any.
    pub fn new(snap_count: u64, size_bytes: Option<u64>, random: [u64; 2]) -> SnapshotTrigger {
        let mut trigger = SnapshotTrigger {
            count: snap_count.max(2),
            // A limit of 0 ends Java's server; here it is taken as none.
            bytes: size_bytes.filter(|&bytes| bytes > 0),
            count_due: 0,
            bytes_due: None,
            counted: 0,
        };
        trigger.restart(random);
        trigger
    }

    /// Counts a txn and tells whether a snapshot is due; `log_bytes` is [`crate::TxnLog::size`].
    pub fn count_txn(&mut self, log_bytes: u64) -> bool {
        self.counted += 1;
        self.counted > self.count_due || self.bytes_due.is_some_and(|due| log_bytes > due)
    }

    /// Begins to count anew, once the log is rolled ([`crate::TxnLog::roll`], [`crate::TxnLog::restart_size`]).
    pub fn restart(&mut self, random: [u64; 2]) {
        let spread = |limit: u64, random: u64| limit / 2 + random % (limit / 2).max(1);
        self.count_due = spread(self.count, random[0]);
        self.bytes_due = self.bytes.map(|bytes| spread(bytes, random[1]));
        self.counted = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_due_between_half_and_the_whole_count() {
        for random in [0, 1, 49, 50, 99, u64::MAX] {
            let mut trigger = SnapshotTrigger::new(100, None, [random, 0]);
            let due = (1..).find(|_| trigger.count_txn(u64::MAX)).unwrap();
            assert_eq!(due, 51 + random % 50, "more than snapCount/2 + r, r in [0, 50)");
            trigger.restart([0, 0]);
            assert!((1..=50).all(|_| !trigger.count_txn(0)) && trigger.count_txn(0));
        }
    }

    #[test]
    fn is_due_when_the_log_passes_its_size() {
        let mut trigger = SnapshotTrigger::new(1_000_000, Some(1000), [0, 499]);
        assert!(!trigger.count_txn(999));
        assert!(trigger.count_txn(1000));
        assert!(
            !SnapshotTrigger::new(100, Some(0), [0, 0]).count_txn(u64::MAX),
            "0 is no limit"
        );
    }

    #[test]
    fn the_smallest_count_still_lets_one_txn_pass() {
        let mut trigger = SnapshotTrigger::new(0, None, [7, 7]);
        assert!(!trigger.count_txn(0));
        assert!(trigger.count_txn(0));
    }
}
