//! A disk that executes writes in order, in groups, late; and loses what is queued when its server crashes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use oxkeeper_types::Zxid;
use oxkeeper_zab::{Configuration, Entry, Event, Recovered, Write, WriteId};

#[derive(Clone, Debug, Default)]
pub(super) struct SimDisk {
    pub(super) accepted_epoch: u32,
    pub(super) current_epoch: u32,
    /// Snapshot and log together: every txn of the history.
    pub(super) history: Vec<Entry>,
    /// What is before this is only in the snapshot and cannot be read txn by txn.
    purged: Zxid,
    /// What the snapshot of the last installation showed, effects of later txns included.
    snapshot: Vec<Entry>,
    /// The zxid of that snapshot: there is nothing on disk to go back further.
    snapshot_end: Zxid,
    /// The files of the configurations; at first there are none but the settings.
    pub(super) configuration: Option<Arc<Configuration>>,
    pub(super) next_configuration: Option<Arc<Configuration>>,
    queued: VecDeque<(WriteId, Write, Vec<Entry>)>,
}

pub(super) struct Turn {
    pub(super) event: Event,
    /// The tree, when a write replaced it.
    pub(super) new_tree: Option<Vec<Entry>>,
}

impl SimDisk {
    pub(super) fn last(&self) -> Zxid {
        let last = self.history.last().map_or(Zxid::ZERO, |entry| entry.zxid);
        last.max(self.snapshot_end)
    }

    pub(super) fn contains(&self, zxid: Zxid) -> bool {
        self.history
            .binary_search_by_key(&zxid, |entry| entry.zxid)
            .is_ok()
    }

    /// Effects in the snapshot of txns that are not in `tree`.
    pub(super) fn ahead_of(&self, tree: &[Entry]) -> BTreeSet<Zxid> {
        let end = tree.last().map_or(Zxid::ZERO, |entry| entry.zxid);
        let end = end.max(self.snapshot_end);
        let later = self.snapshot.iter().map(|entry| entry.zxid);
        later.filter(|zxid| *zxid > end).collect()
    }

    /// Effects in the snapshot of txns that are not in the log.
    pub(super) fn ahead(&self) -> BTreeSet<Zxid> {
        self.ahead_of(&self.history)
    }

    pub(super) fn recover(&self, window_entries_max: usize) -> Recovered {
        let in_snapshot = self
            .history
            .partition_point(|entry| entry.zxid <= self.snapshot_end);
        let from = self.history.len() - self.history.len().min(window_entries_max);
        let from = from.max(in_snapshot);
        let before = from
            .checked_sub(1)
            .map_or(Zxid::ZERO, |before| self.history[before].zxid);
        Recovered {
            accepted_epoch: self.accepted_epoch,
            current_epoch: self.current_epoch,
            window_start: before.max(self.snapshot_end),
            window: self.history[from..].to_vec(),
        }
    }

    pub(super) fn read(&self, from: Zxid, to: Zxid) -> Option<Vec<Entry>> {
        (from > self.purged).then(|| {
            self.history
                .iter()
                .filter(|e| from <= e.zxid && e.zxid <= to)
                .cloned()
                .collect()
        })
    }

    pub(super) fn purge(&mut self, rng: &mut fastrand::Rng) {
        if !self.history.is_empty() {
            let at = rng.usize(..self.history.len());
            self.purged = self.purged.max(self.history[at].zxid);
        }
    }

    pub(super) fn queue(&mut self, id: WriteId, write: Write, staged: Vec<Entry>) {
        self.queued.push_back((id, write, staged));
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Makes a group of writes durable; a truncation or an installation ends its group.
    pub(super) fn turn(&mut self, rng: &mut fastrand::Rng) -> Option<Turn> {
        let group = rng.usize(1..=self.queued.len().max(1));
        let mut turn = None;
        for _ in 0..group {
            let (id, write, staged) = self.queued.pop_front()?;
            let replaces = matches!(write, Write::Truncate { .. } | Write::Install { .. });
            let reload = matches!(
                write,
                Write::Truncate { reload: true, .. } | Write::Install { .. }
            );
            let installed = match &write {
                Write::Install { zxid, .. } => Some(through(&staged, *zxid)),
                _ => None,
            };
            let done = self.execute(write, staged);
            let new_tree = (reload && done).then(|| installed.unwrap_or_else(|| self.history.clone()));
            let event = if done {
                Event::Durable { write: id }
            } else {
                Event::TruncateRefused { write: id }
            };
            turn = Some(Turn { event, new_tree });
            if replaces {
                break;
            }
        }
        turn
    }

    /// Some of what was queued may still have reached the disk.
    pub(super) fn crash(&mut self, rng: &mut fastrand::Rng) {
        let survive = rng.usize(0..=self.queued.len());
        for _ in 0..survive {
            if let Some((_, write, staged)) = self.queued.pop_front() {
                self.execute(write, staged);
            }
        }
        self.queued.clear();
    }

    /// False when a truncation is refused.
    fn execute(&mut self, write: Write, staged: Vec<Entry>) -> bool {
        match write {
            Write::Append(entry) => {
                assert!(
                    entry.zxid > self.last(),
                    "{} logged after {}",
                    entry.zxid,
                    self.last()
                );
                self.history.push(entry);
            }
            Write::Truncate { to, .. } => {
                let keep = self.history.partition_point(|entry| entry.zxid <= to);
                let begins_epoch = to.counter() == 0
                    && self
                        .history
                        .get(keep)
                        .is_some_and(|e| e.zxid.epoch() == to.epoch());
                let is_there = self.contains(to) || begins_epoch || to == self.snapshot_end;
                if !is_there || to < self.snapshot_end {
                    return false;
                }
                self.history.truncate(keep);
                self.purged = self.purged.min(to);
            }
            Write::Install { zxid, entries, .. } => {
                self.history = through(&staged, zxid);
                let end = self.history.last().map_or(Zxid::ZERO, |entry| entry.zxid);
                assert!(
                    end == zxid || zxid.counter() == 0,
                    "SNAP told {zxid}, it ends at {end}"
                );
                self.snapshot = staged;
                self.snapshot_end = zxid;
                self.purged = zxid;
                self.history.extend(entries);
            }
            Write::AcceptedEpoch(epoch) => {
                assert!(
                    epoch >= self.accepted_epoch,
                    "accepted epoch {} to {epoch}",
                    self.accepted_epoch
                );
                self.accepted_epoch = epoch;
            }
            Write::CurrentEpoch(epoch) => {
                assert!(
                    epoch >= self.current_epoch,
                    "current epoch {} to {epoch}",
                    self.current_epoch
                );
                assert!(
                    epoch <= self.accepted_epoch,
                    "current epoch {epoch} over {}",
                    self.accepted_epoch
                );
                self.current_epoch = epoch;
            }
            Write::NextConfiguration(next) => self.next_configuration = next,
            Write::Configuration(committed) => {
                let is_over = |next: &Arc<Configuration>| next.version <= committed.version;
                if self.next_configuration.as_ref().is_some_and(is_over) {
                    self.next_configuration = None;
                }
                self.configuration = Some(committed);
            }
        }
        true
    }
}

/// Those through `zxid`.
fn through(entries: &[Entry], zxid: Zxid) -> Vec<Entry> {
    let entries = entries.iter().filter(|entry| entry.zxid <= zxid);
    entries.cloned().collect()
}
