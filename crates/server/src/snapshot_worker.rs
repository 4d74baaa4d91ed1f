//! What is done with the files besides the log: recovery at the start, snapshots while serving, purging.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use oxkeeper_core::{Replica, Shared, recover as recover_replica, write_snapshot};
use oxkeeper_storage::{
    Compression, Disk, LogSettings, ReadLimits, RealDisk, Storage, StorageError, StorageSettings, TxnLog,
};
use oxkeeper_tree::TreeSettings;
use parking_lot::RwLock;

use crate::ServeError;
use crate::config::{SnapshotCompression, StorageConfig};
use crate::disk_worker::DiskStats;

/// A server's state as found on disk, and the log to go on with.
pub(crate) struct Started {
    pub(crate) replica: Replica,
    pub(crate) log: TxnLog,
    pub(crate) storage: Storage,
}

/// Opens the directories that the configuration names.
pub(crate) fn open(config: &StorageConfig, entry_bytes_max: u32) -> Result<Storage, StorageError> {
    let disk = |directory: &Path| -> Arc<dyn Disk> { Arc::new(RealDisk::new(directory)) };
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
    config: &StorageConfig,
    entry_bytes_max: u32,
    tree: &TreeSettings,
) -> Result<Started, StorageError> {
    let begun = Instant::now();
    let storage = open(config, entry_bytes_max)?;
    let recovered = recover_replica(&storage, tree, 0)?;
    for note in &recovered.notes {
        tracing::warn!("{note}");
    }
    if recovered.is_new && !config.create_database && recovered.log_end.entries == 0 {
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
    })
}

/// Takes snapshots when told to, until nobody is left to tell. Requests that come while one is taken are one.
pub(crate) fn run(
    shared: &Shared,
    requests: &Receiver<()>,
    storage: &Storage,
    config: &StorageConfig,
    stats: &DiskStats,
) -> Result<(), ServeError> {
    while let Ok(()) = requests.recv() {
        while let Ok(()) = requests.try_recv() {}
        let begun = Instant::now();
        let snapshot = write_snapshot(
            &shared.replica,
            storage,
            config.serialize_last_processed_zxid,
            config.tree_digest,
        )
        .map_err(ServeError::Snapshot)?;
        let Some(snapshot) = snapshot else {
            tracing::info!("a snapshot was given up: its history was replaced by the leader's");
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
