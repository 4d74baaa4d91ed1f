//! The thread that makes things durable. Txns are gathered, appended and synced together; everything else is done in
//! its place between them. The core is told of what is durable, and of nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use oxkeeper_core::{Event, IntakeError, ReceivedSnapshot, Replica, empty_snapshot, recover};
use oxkeeper_storage::{EpochFile, SnapshotTrigger, Storage, StorageError, Truncated, TxnLog};
use oxkeeper_tree::TreeSettings;
use oxkeeper_types::Zxid;
use oxkeeper_zab::{Entry, Event as ZabEvent, Write, WriteId};
use parking_lot::{Condvar, Mutex};

use crate::channels::{CoreHandle, DiskJob, DiskQueueFill};
use crate::config::StorageConfig;
use crate::config_files::ConfigFiles;

/// What the disk workers count.
#[derive(Debug, Default)]
pub(crate) struct DiskStats {
    /// Syncs that took longer than `fsync.warningthresholdms`.
    pub(crate) slow_syncs: AtomicU64,
    /// Snapshots taken.
    pub(crate) snapshots: AtomicU64,
}

/// How far the log is durable, for a snapshot to wait for.
#[derive(Debug)]
pub(crate) struct DurableEnd {
    known: Mutex<Known>,
    changed: Condvar,
}

#[derive(Debug)]
struct Known {
    zxid: Zxid,
    is_final: bool,
}

impl DurableEnd {
    pub(crate) fn new(zxid: Zxid) -> DurableEnd {
        DurableEnd {
            known: Mutex::new(Known {
                zxid,
                is_final: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Everything up to `zxid` is durable, and nothing after it.
    pub(crate) fn set(&self, zxid: Zxid) {
        self.known.lock().zxid = zxid;
        self.changed.notify_all();
    }

    /// Nothing becomes durable any more.
    pub(crate) fn stop(&self) {
        self.known.lock().is_final = true;
        self.changed.notify_all();
    }

    /// Waits until everything up to `zxid` is durable. False when the server stops before that.
    pub(crate) fn wait_for(&self, zxid: Zxid) -> bool {
        let mut known = self.known.lock();
        while known.zxid < zxid && !known.is_final {
            self.changed.wait(&mut known);
        }
        known.zxid >= zxid
    }
}

/// The disk of one server, as its worker sees it.
pub(crate) struct DiskWorker {
    pub(crate) log: TxnLog,
    pub(crate) storage: Storage,
    pub(crate) tree: TreeSettings,
    pub(crate) config: StorageConfig,
    pub(crate) core: CoreHandle,
    pub(crate) queue: Arc<DiskQueueFill>,
    pub(crate) snapshots: Sender<()>,
    pub(crate) durable: Arc<DurableEnd>,
    pub(crate) stats: Arc<DiskStats>,
    pub(crate) is_member: bool,
    /// Where configurations are saved, if they are.
    pub(crate) config_files: Option<ConfigFiles>,
    /// Set when nothing more is to be written.
    pub(crate) halted: Arc<AtomicBool>,
}

/// What is appended and not told durable.
#[derive(Default)]
struct Untold {
    is_any: bool,
    /// The number of the last of it, for a member of an ensemble.
    write: Option<WriteId>,
    wants_snapshot: bool,
}

impl DiskWorker {
    /// Works until all senders are gone. Every error is final: what is not durable then is never acknowledged (D2).
    pub(crate) fn run(mut self, jobs: &Receiver<Vec<DiskJob>>) -> Result<(), StorageError> {
        let ended = self.work(jobs);
        self.durable.stop();
        if ended.is_err() && self.is_member {
            // While the server stops, it must not vote with what it cannot keep.
            self.core.submit(Event::Ensemble(ZabEvent::WriteFailed));
        }
        ended
    }

    fn work(&mut self, jobs: &Receiver<Vec<DiskJob>>) -> Result<(), StorageError> {
        let mut trigger = SnapshotTrigger::new(
            u64::from(self.config.snap_count),
            self.config.snap_size_limit_bytes,
            random(),
        );
        while let Ok(first) = jobs.recv() {
            let begun = Instant::now();
            let (mut gathered, mut untold) = (0, Untold::default());
            let mut batch = Some(first);
            while let Some(arrived) = batch {
                gathered += arrived.len();
                let cost = DiskJob::cost(&arrived);
                for job in arrived {
                    if self.halted.load(Relaxed) {
                        return Ok(());
                    }
                    match job {
                        DiskJob::Append { zxid, entry } => {
                            self.append(zxid, &entry, &mut trigger, &mut untold)?;
                        }
                        DiskJob::Write {
                            id,
                            write: Write::Append(Entry { zxid, txn }),
                            ..
                        } => {
                            self.append(zxid, &txn, &mut trigger, &mut untold)?;
                            untold.write = Some(id);
                        }
                        DiskJob::Write { id, write, snapshot } => {
                            self.sync(&mut untold)?;
                            self.execute(id, write, snapshot)?;
                        }
                    }
                }
                self.queue.done(cost);
                let is_full = (self.config.batch_size_max).is_some_and(|max| gathered >= max as usize);
                batch = match is_full {
                    true => None,
                    false => self.wait_for_more(jobs, begun),
                };
            }
            if self.halted.load(Relaxed) {
                return Ok(());
            }
            self.sync(&mut untold)?;
            if untold.wants_snapshot {
                trigger.restart(random());
                self.log.roll()?;
                self.log.restart_size();
                // When a snapshot is still being taken, this one is left out.
                let _stopping = self.snapshots.send(());
            }
        }
        Ok(())
    }

    fn append(
        &mut self,
        zxid: Zxid,
        entry: &[u8],
        trigger: &mut SnapshotTrigger,
        untold: &mut Untold,
    ) -> Result<(), StorageError> {
        self.log.append(zxid, entry)?;
        untold.is_any = true;
        untold.wants_snapshot |= trigger.count_txn(self.log.size());
        Ok(())
    }

    /// Makes what was appended durable and tells the core.
    fn sync(&mut self, untold: &mut Untold) -> Result<(), StorageError> {
        if !std::mem::take(&mut untold.is_any) {
            return Ok(());
        }
        let committed = self.log.commit()?;
        self.durable.set(committed.up_to);
        self.core.submit(match untold.write.take() {
            Some(write) => Event::Ensemble(ZabEvent::Durable { write }),
            None => Event::LogDurable {
                up_to: committed.up_to,
            },
        });
        if committed.sync_time > self.config.sync_warning_threshold {
            self.stats.slow_syncs.fetch_add(1, Relaxed);
            tracing::warn!(
                "syncing the txn log took {} ms; this slows down every write. See fsync.warningthresholdms",
                committed.sync_time.as_millis()
            );
        }
        Ok(())
    }

    /// Does a write of a member that is no append. All before it is durable.
    fn execute(
        &mut self,
        id: WriteId,
        write: Write,
        snapshot: Option<Box<ReceivedSnapshot>>,
    ) -> Result<(), StorageError> {
        let mut event = ZabEvent::Durable { write: id };
        match write {
            Write::Append(_) => unreachable!("txns are gathered"),
            Write::AcceptedEpoch(epoch) => self.storage.save_epoch(EpochFile::Accepted, epoch)?,
            Write::CurrentEpoch(epoch) => self.storage.save_epoch(EpochFile::Current, epoch)?,
            Write::NextConfiguration(next) => {
                if let Some(files) = &self.config_files {
                    files.save_next(next.as_deref())?;
                }
            }
            Write::Configuration(committed) => {
                if let Some(files) = &self.config_files {
                    files.save(&committed)?;
                }
            }
            Write::Truncate { to, reload } => match self.storage.truncate(&mut self.log, to, reload)? {
                Truncated::Refused => event = ZabEvent::TruncateRefused { write: id },
                Truncated::Done if reload => {
                    let recovered = recover(&self.storage, &self.tree, 0)?;
                    self.replace_replica(recovered.replica);
                }
                Truncated::Done => {}
            },
            Write::Install { zxid, entries, .. } => {
                let snapshot = match snapshot {
                    Some(snapshot) => *snapshot,
                    None => match empty_snapshot(&self.storage, &self.tree) {
                        Ok(empty) => empty,
                        Err(IntakeError::Storage(error)) => return Err(error),
                        Err(error @ IntakeError::Stream { .. }) => {
                            unreachable!("the empty tree is a snapshot: {error}")
                        }
                    },
                };
                let entries = entries.iter().map(|entry| (entry.zxid, &*entry.txn));
                self.storage
                    .install(&mut self.log, snapshot.file, zxid, entries)?;
                self.replace_replica(snapshot.replica);
            }
        }
        self.durable.set(self.log.durable_zxid());
        self.core.submit(Event::Ensemble(event));
        Ok(())
    }

    fn replace_replica(&self, replica: Replica) {
        tracing::info!(
            "the tree was replaced by {} znodes as of zxid {}",
            replica.tree.znode_count(),
            replica.last_processed
        );
        self.core.submit(Event::ReplicaReloaded(Box::new(replica)));
    }

    /// The next batch, if there is one or may be soon: a sync may be put off by `flushDelay` to gather more.
    fn wait_for_more(&self, jobs: &Receiver<Vec<DiskJob>>, begun: Instant) -> Option<Vec<DiskJob>> {
        match jobs.try_recv() {
            Ok(batch) => Some(batch),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                let left = self.config.flush_delay.saturating_sub(begun.elapsed());
                match left.min(self.config.write_queue_poll_time_max) {
                    Duration::ZERO => None,
                    wait => jobs.recv_timeout(wait).ok(),
                }
            }
        }
    }
}

fn random() -> [u64; 2] {
    [fastrand::u64(..), fastrand::u64(..)]
}

#[cfg(test)]
#[path = "disk_worker_tests.rs"]
mod tests;
