//! What is done with the files besides the log: recovery at the start, snapshots while serving, purging.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use oxkeeper_core::{Replica, Shared, SnapshotWalk, recover as recover_replica, write_snapshot};
use oxkeeper_storage::{
    Compression, Disk, LogSettings, ReadLimits, RealDisk, SnapshotFile, Storage, StorageError,
    StorageSettings, TxnLog,
};
use oxkeeper_tree::TreeSettings;
use oxkeeper_zab::NO_HISTORY;
use parking_lot::RwLock;

use crate::ServeError;
use crate::config::{EnsembleConfig, ServerConfig, SnapshotCompression, StorageConfig};
use crate::disk_worker::{DiskStats, DurableEnd};

/// Znodes written to a snapshot under one hold of the replica.
const ZNODES_PER_HOLD: usize = 500;

/// A server's state as found on disk, and the log to go on with.
pub(crate) struct Started {
    pub(crate) replica: Replica,
    pub(crate) log: TxnLog,
    pub(crate) storage: Storage,
    /// What the consensus of a member begins with.
    pub(crate) recovered: Option<oxkeeper_zab::Recovered>,
}

/// Opens the directories that the configuration names.
pub(crate) fn open(config: &StorageConfig, entry_bytes_max: u32) -> Result<Storage, StorageError> {
    let disk = |directory: &Path| -> Arc<dyn Disk> {
        Arc::new(match config.sync_files {
            true => RealDisk::new(directory),
            false => RealDisk::without_syncs(directory),
        })
    };
    let settings = StorageSettings {
        create_directories: config.create_directories,
        create_database: config.create_database,
        trust_empty_snapshot: config.trust_empty_snapshot,
        compression: match config.snapshot_compression {
            SnapshotCompression::None => Compression::None,
            SnapshotCompression::Gzip => Compression::Gzip,
            SnapshotCompression::Snappy => Compression::Snappy,
        },
        log: LogSettings {
            preallocation_bytes: config.log_preallocation_bytes.unwrap_or(0),
            force_sync: config.force_sync,
            file_bytes_limit: config.log_size_limit_bytes,
        },
        limits: ReadLimits {
            // Never below what was acknowledged: a request of the longest kind, and what is added to it.
            entry_bytes_max: ReadLimits::default().entry_bytes_max.max(entry_bytes_max),
        },
    };
    let log_dir = (!config.is_one_directory()).then(|| disk(&config.log_dir));
    Storage::open(disk(&config.data_dir), log_dir, settings)
}

/// Recovers the state and opens the log. An empty directory gets its first snapshot before that.
pub(crate) fn start(
    config: &ServerConfig,
    tree: &TreeSettings,
    ensemble: Option<&EnsembleConfig>,
) -> Result<Started, StorageError> {
    let begun = Instant::now();
    let limits = &config.limits;
    let config = &config.storage;
    let entry_bytes_max = limits.frame_bytes_max.saturating_add(limits.record_extra_bytes);
    let storage = open(config, entry_bytes_max)?;
    let window_entries_max = ensemble.map_or(0, |ensemble| ensemble.window_entries_max);
    let recovered = recover_replica(&storage, tree, window_entries_max)?;
    for note in &recovered.notes {
        tracing::warn!("{note}");
    }
    // A member waits for a leader who has the data.
    let is_blank = recovered.is_unexplained && ensemble.is_some();
    if is_blank {
        tracing::warn!(
            "there is no database: this server has no vote until a leader has sent it one (db.autocreate)"
        );
    }
    if recovered.is_unexplained && !is_blank {
        return Err(StorageError::Refused {
            place: PathBuf::from(&config.data_dir),
            what: "there is no database, and db.autocreate=false forbids to begin one".to_owned(),
            remedy: "Restore the data directory, or leave a file named initialize beside version-2"
                .to_owned(),
        });
    }
    let replica = RwLock::new(recovered.replica);
    if recovered.is_new {
        write_snapshot(
            &replica,
            &storage,
            config.serialize_last_processed_zxid,
            config.tree_digest,
        )?;
    }
    let clock = Instant::now();
    let log = storage.open_log(&recovered.log_end, move || clock.elapsed())?;
    let replica = replica.into_inner();
    let consensus = match ensemble {
        Some(_) => {
            let epochs = storage.load_epochs(replica.last_processed)?;
            Some(oxkeeper_zab::Recovered {
                accepted_epoch: epochs.accepted,
                current_epoch: epochs.current,
                window_start: if is_blank {
                    NO_HISTORY
                } else {
                    recovered.window_start
                },
                window: recovered.window,
            })
        }
        None => None,
    };
    tracing::info!(
        "{} znodes and {} sessions as of zxid {}, with {} txns replayed, in {} ms",
        replica.tree.znode_count(),
        replica.sessions.len(),
        replica.last_processed,
        recovered.log_end.entries,
        begun.elapsed().as_millis()
    );
    Ok(Started {
        replica,
        log,
        storage,
        recovered: consensus,
    })
}

/// Takes snapshots when told to, until nobody is left to tell. Requests that come while one is taken are one.
pub(crate) fn run(
    shared: &Shared,
    requests: &Receiver<()>,
    durable: &DurableEnd,
    storage: &Storage,
    config: &StorageConfig,
    stats: &DiskStats,
) -> Result<(), ServeError> {
    while let Ok(()) = requests.recv() {
        while let Ok(()) = requests.try_recv() {}
        let begun = Instant::now();
        let taken = take(shared, durable, storage, config).map_err(ServeError::Snapshot)?;
        let Some(snapshot) = taken else {
            tracing::info!(
                "a snapshot was given up: its state is replaced by the leader's, or the server stops"
            );
            continue;
        };
        stats.snapshots.fetch_add(1, Relaxed);
        tracing::info!(
            "snapshot {} of {} bytes taken in {} ms",
            snapshot.path.display(),
            snapshot.length,
            begun.elapsed().as_millis()
        );
    }
    Ok(())
}

fn take(
    shared: &Shared,
    durable: &DurableEnd,
    storage: &Storage,
    config: &StorageConfig,
) -> Result<Option<SnapshotFile>, StorageError> {
    let mut walk = SnapshotWalk::begin(&shared.replica, storage)?;
    while walk.visit(&shared.replica, ZNODES_PER_HOLD)? {}
    // A leader applies what a quorum has, maybe before its own disk. A snapshot must not know more than the log.
    if !durable.wait_for(walk.end_zxid()) {
        return Ok(None);
    }
    walk.finish(config.serialize_last_processed_zxid, config.tree_digest)
}

/// Removes old snapshots and logs now and after every `interval`.
pub(crate) async fn purge_regularly(storage: Storage, retain: usize, interval: Duration) {
    let mut moments = tokio::time::interval(interval);
    loop {
        moments.tick().await;
        let storage = storage.clone();
        match tokio::task::spawn_blocking(move || storage.purge(retain)).await {
            Ok(Ok(purged)) => {
                for file in &purged.removed {
                    tracing::info!("removed {}", file.display());
                }
                for failure in &purged.failed {
                    tracing::warn!("purging: {failure}");
                }
            }
            Ok(Err(error)) => tracing::warn!("purging: {error}"),
            Err(error) => tracing::error!("purging ended: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use oxkeeper_types::Zxid;

    use super::*;

    #[test]
    fn an_empty_directory_is_begun_with_only_when_that_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::new(dir.path(), 0);
        config.storage.create_database = false;
        let start = || start(&config, &TreeSettings::default(), None);
        let error = start().err().expect("db.autocreate=false and nothing there");
        assert!(error.to_string().contains("db.autocreate=false"), "{error}");
        let initialize = dir.path().join("initialize");
        std::fs::write(&initialize, "").unwrap();
        assert_eq!(start().unwrap().replica.last_processed, Zxid::ZERO);
        assert!(!initialize.exists(), "it is meant once");
        start().expect("now there is a snapshot");
    }
}
