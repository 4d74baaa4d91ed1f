//! The thread that makes txns durable: takes all that has arrived, appends it, syncs once, tells the core.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Instant;

use oxkeeper_core::Event;
use oxkeeper_storage::{SnapshotTrigger, StorageError, TxnLog};

use crate::channels::{Append, CoreHandle};
use crate::config::StorageConfig;

/// What the disk workers count.
#[derive(Debug, Default)]
pub(crate) struct DiskStats {
    /// Syncs that took longer than `fsync.warningthresholdms`.
    pub(crate) slow_syncs: AtomicU64,
    /// Snapshots taken.
    pub(crate) snapshots: AtomicU64,
}

/// Works until all senders are gone. Every error is final: what is not durable then is never acknowledged (D2).
pub(crate) fn run(
    mut log: TxnLog,
    appends: &Receiver<Vec<Append>>,
    core: &CoreHandle,
    snapshots: &Sender<()>,
    config: &StorageConfig,
    stats: &Arc<DiskStats>,
) -> Result<(), StorageError> {
    let mut trigger = SnapshotTrigger::new(
        u64::from(config.snap_count),
        config.snap_size_limit_bytes,
        [fastrand::u64(..), fastrand::u64(..)],
    );
    while let Ok(first) = appends.recv() {
        let mut wants_snapshot = false;
        let mut gathered = 0;
        let mut append = |log: &mut TxnLog, batch: Vec<Append>| {
            gathered += batch.len();
            for Append { zxid, entry } in batch {
                log.append(zxid, &entry)?;
                wants_snapshot |= trigger.count_txn(log.size());
            }
            Ok::<usize, StorageError>(gathered)
        };
        let begun = Instant::now();
        let mut batch = Some(first);
        while let Some(arrived) = batch {
            let gathered = append(&mut log, arrived)?;
            let is_full = config.batch_size_max.is_some_and(|max| gathered >= max as usize);
            batch = if is_full {
                None
            } else {
                wait_for_more(appends, begun, config)
            };
        }
        let committed = log.commit()?;
        core.submit(Event::LogDurable {
            up_to: committed.up_to,
        });
        if committed.sync_time > config.sync_warning_threshold {
            stats.slow_syncs.fetch_add(1, Relaxed);
            tracing::warn!(
                "syncing the txn log took {} ms; this slows down every write. See fsync.warningthresholdms",
                committed.sync_time.as_millis()
            );
        }
        if wants_snapshot {
            trigger.restart([fastrand::u64(..), fastrand::u64(..)]);
            log.roll()?;
            log.restart_size();
            // When a snapshot is still being taken, this one is left out.
            let _stopping = snapshots.send(());
        }
    }
    Ok(())
}

/// The next batch, if there is one or may be soon: a sync may be put off by `flushDelay` to gather more.
fn wait_for_more(
    appends: &Receiver<Vec<Append>>,
    begun: Instant,
    config: &StorageConfig,
) -> Option<Vec<Append>> {
    match appends.try_recv() {
        Ok(batch) => Some(batch),
        Err(TryRecvError::Disconnected) => None,
        Err(TryRecvError::Empty) => {
            let left = config.flush_delay.saturating_sub(begun.elapsed());
            let wait = left.min(config.write_queue_poll_time_max);
            if wait.is_zero() {
                None
            } else {
                appends.recv_timeout(wait).ok()
            }
        }
    }
}
