//! What the disk of this server holds, and what is on its way there. Writes are executed in the order given; their
//! completions change the facts here even when the role that asked for them has ended, but a role hears only of
//! its own (Z10).

use std::collections::VecDeque;
use std::sync::Arc;

use oxkeeper_types::Zxid;

use crate::configuration::Configuration;
use crate::history::History;
use crate::message::{Entry, LinkId};

/// The end of the history of a server that has lost its data, or never had any, and was told not to begin with an
/// empty tree. It votes for nobody and promises nothing that counts until a leader has brought it a history.
pub const NO_HISTORY: Zxid = Zxid(-1);

/// A write to disk, numbered from 1 in the order of execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// What is to be made durable. A write may be merged with those after it, never overtaken by them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Append a txn to the log.
    Append(Entry),
    /// Cut the log after this zxid, strictly, and remove snapshots that contain more. `reload`: the tree contains
    /// more, load it again. To be refused, without any change, when the zxid is not in the history on disk: when it
    /// is neither the zxid of a logged txn, nor the end of a snapshot without txns between, nor 0, nor has counter
    /// 0 where the txns of its epoch begin.
    Truncate {
        /// The new end of the history.
        to: Zxid,
        /// Whether the tree is ahead of it.
        reload: bool,
    },
    /// Replace the whole history by a snapshot and these txns after it, so that after a crash either the old
    /// history is there or all of the new; and the tree by the snapshot.
    Install {
        /// The link over which the snapshot came; `None` for an empty tree.
        snapshot: Option<LinkId>,
        /// The end of the snapshot.
        zxid: Zxid,
        /// What follows it.
        entries: Vec<Entry>,
    },
    /// Save the epoch that this server has promised to follow.
    AcceptedEpoch(u32),
    /// Save the epoch whose leader's history this server has taken over.
    CurrentEpoch(u32),
    /// Save the configuration that is to follow the committed one; `None`: there is none any more.
    NextConfiguration(Option<Arc<Configuration>>),
    /// Save the committed configuration; a next one that is not newer is done with.
    Configuration(Arc<Configuration>),
}

/// What of a write is to be known when it is durable.
#[derive(Debug)]
enum InFlight {
    Append { zxid: Zxid, length: usize },
    Truncate(Zxid),
    Install(History),
    AcceptedEpoch(u32),
    CurrentEpoch(u32),
    Configuration,
}

/// What has become durable, for the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Appended(Zxid),
    Truncated,
    TruncateRefused,
    Installed,
    AcceptedEpoch,
    CurrentEpoch,
    Configuration,
}

/// What the disk holds when a server starts.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The promised epoch.
    pub accepted_epoch: u32,
    /// The epoch that vouches for the history.
    pub current_epoch: u32,
    /// The zxid before the window. [`NO_HISTORY`]: there is nothing, not even an empty tree, and nobody knows whether
    /// there was.
    pub window_start: Zxid,
    /// The last txns of the log. The tree contains them all.
    pub window: Vec<Entry>,
}

#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) history: History,
    accepted_epoch: u32,
    current_epoch: u32,
    /// With the role that asked for each.
    in_flight: VecDeque<(u64, InFlight)>,
    /// The length of the txns among them.
    in_flight_bytes: usize,
    next_write: u64,
    /// A write failed: what the disk holds is not known until it is read again.
    failed: bool,
}

impl Journal {
    pub(crate) fn new(recovered: Recovered) -> Journal {
        let mut history = History::new(recovered.window_start, recovered.window);
        history.note_all_delivered();
        Journal {
            history,
            accepted_epoch: recovered.accepted_epoch,
            current_epoch: recovered.current_epoch,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            next_write: 1,
            failed: false,
        }
    }

    pub(crate) fn accepted_epoch(&self) -> u32 {
        self.accepted_epoch
    }

    pub(crate) fn current_epoch(&self) -> u32 {
        self.current_epoch
    }

    /// How much is not durable: writes, and the bytes of their txns.
    pub(crate) fn backlog(&self) -> (usize, usize) {
        (self.in_flight.len(), self.in_flight_bytes)
    }

    /// Whether nothing is on its way, and everything arrived.
    pub(crate) fn is_quiet(&self) -> bool {
        self.in_flight.is_empty() && !self.failed
    }

    /// Notes that a write failed. The disk is never quiet again: the server must be started anew.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
    }

    /// Notes a write that is now given to the disk. A txn is part of the history from here on.
    pub(crate) fn begin(&mut self, write: &Write, incarnation: u64) -> WriteId {
        let in_flight = match write {
            Write::Append(entry) => {
                self.history.append(entry.clone());
                let (zxid, length) = (entry.zxid, entry.txn.len());
                self.in_flight_bytes += length;
                InFlight::Append { zxid, length }
            }
            Write::Truncate { to, .. } => InFlight::Truncate(*to),
            Write::Install { zxid, entries, .. } => InFlight::Install(History::new(*zxid, entries.clone())),
            Write::AcceptedEpoch(epoch) => InFlight::AcceptedEpoch(*epoch),
            Write::CurrentEpoch(epoch) => InFlight::CurrentEpoch(*epoch),
            Write::NextConfiguration(_) | Write::Configuration(_) => InFlight::Configuration,
        };
        let id = WriteId(self.next_write);
        self.next_write += 1;
        self.in_flight.push_back((incarnation, in_flight));
        id
    }

    /// Everything up to and with `through` is durable; a truncation at its end may have been `refused`. Returns the
    /// next of these, with the role that asked for it; `None` when there are no more.
    pub(crate) fn complete_next(&mut self, through: WriteId, refused: bool) -> Option<(u64, Done)> {
        assert!(
            through.0 < self.next_write,
            "write {} is durable but was never asked for",
            through.0
        );
        let next = self.next_write - self.in_flight.len() as u64;
        if next > through.0 {
            return None;
        }
        let (incarnation, in_flight) = self.in_flight.pop_front()?;
        Some((incarnation, self.adopt(in_flight, refused && next == through.0)))
    }

    fn adopt(&mut self, done: InFlight, refused: bool) -> Done {
        match done {
            InFlight::Append { zxid, length } => {
                self.in_flight_bytes -= length;
                Done::Appended(zxid)
            }
            InFlight::Truncate(_) if refused => Done::TruncateRefused,
            InFlight::Truncate(to) => {
                self.history.truncate(to);
                Done::Truncated
            }
            InFlight::Install(history) => {
                self.history = history;
                Done::Installed
            }
            InFlight::AcceptedEpoch(epoch) => {
                assert!(
                    epoch >= self.accepted_epoch,
                    "accepted epoch {} went back to {epoch}",
                    self.accepted_epoch
                );
                self.accepted_epoch = epoch;
                Done::AcceptedEpoch
            }
            InFlight::CurrentEpoch(epoch) => {
                assert!(
                    self.current_epoch <= epoch && epoch <= self.accepted_epoch,
                    "current epoch {} set to {epoch}, accepted is {}",
                    self.current_epoch,
                    self.accepted_epoch
                );
                self.current_epoch = epoch;
                Done::CurrentEpoch
            }
            InFlight::Configuration => Done::Configuration,
        }
    }
}
