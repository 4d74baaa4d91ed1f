//! From a directory to a state to go on from, and back: [`Storage`] holds the directories and is the way to all
//! else (storage spec, sections 1 and 10).
//!
//! A start goes through it in this order:
//!
//! 1. [`Storage::open`] checks the directories and makes them when missing.
//! 2. [`Storage::load`] reads the newest valid snapshot.
//! 3. [`Storage::read_log`] hands out the txns after it; at the end [`LogReader::finish`].
//! 4. For an empty directory ([`Origin::Fresh`]) the snapshot of the empty tree is written: Java refuses logs
//!    without a snapshot.
//! 5. [`Storage::open_log`] is ready for new txns.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use oxkeeper_types::{Acl, SessionId, Zxid};

use crate::StorageError;
use crate::change::{self, Histories, HistoryId};
use crate::disk::{Disk, EntryKind, OpenMode};
use crate::epochs::{self, EpochFile, Epochs};
use crate::layout::{Compression, UNFINISHED_PREFIX, VERSION_DIR, in_version_dir, parse_snapshot_name};
use crate::log::{LogSettings, TxnLog};
use crate::log_reader::{LogEnd, LogReader, ReadLimits, has_log_files, make_durable};
use crate::purge::{self, Purged};
use crate::snapshot::{SnapshotSink, SnapshotTail, SnapshotWriter, is_plausible, read_snapshot};

/// How many snapshots are tried at most.
const CANDIDATES_MAX: usize = 100;
/// The file an operator leaves to say that an empty server is meant to be empty.
const INITIALIZE: &str = "initialize";

/// How the directories are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// Make missing directories (`datadir.autocreate`).
    pub create_directories: bool,
    /// Without snapshot and log, an empty tree is meant (`db.autocreate`).
    pub create_database: bool,
    /// Logs without any snapshot are a whole history (`snapshot.trust.empty`), as old releases left them.
    pub trust_empty_snapshot: bool,
    /// How snapshots are compressed.
    pub compression: Compression,
    /// How the log is written.
    pub log: LogSettings,
    /// What is taken for damage.
    pub limits: ReadLimits,
}

impl Default for StorageSettings {
    fn default() -> StorageSettings {
        StorageSettings {
            create_directories: true,
            create_database: true,
            trust_empty_snapshot: false,
            compression: Compression::None,
            log: LogSettings::default(),
            limits: ReadLimits::default(),
        }
    }
}

/// Where a loaded state comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A snapshot; the log after its zxid is to be replayed.
    Snapshot {
        /// The file's path.
        file: std::path::PathBuf,
        /// Digest, last zxid and count.
        tail: SnapshotTail,
    },
    /// There is no snapshot, and the log alone is trusted: to be replayed from the first txn.
    TrustedLog,
    /// There is nothing and an empty tree is right: its snapshot is to be written before any log.
    Fresh,
    /// There is nothing, and nobody said that this is right: a member must not vote before it is synchronised.
    Unknown,
}

/// A state to replay the log on.
#[derive(Debug)]
pub struct Loaded<S> {
    /// What was fed, or fresh when there was no snapshot.
    pub state: S,
    /// The state holds all txns up to this one; -1 for [`Origin::Unknown`].
    pub zxid: Zxid,
    /// Where it comes from.
    pub origin: Origin,
    /// Newer snapshots that could not be used and why, newest first. For the operator to know.
    pub rejected: Vec<StorageError>,
    /// The history that the state belongs to.
    pub history: HistoryId,
}

/// The snapshots that are there.
pub(crate) struct Candidates {
    /// Zxids and paths of those worth trying, newest first.
    pub(crate) plausible: Vec<(Zxid, String)>,
    /// The newest that is not whole, other than that of an empty tree.
    implausible: Option<String>,
}

/// The data directory and the log directory of one server.
#[derive(Clone)]
pub struct Storage {
    pub(crate) snapshots: Arc<dyn Disk>,
    pub(crate) logs: Arc<dyn Disk>,
    pub(crate) settings: StorageSettings,
    pub(crate) histories: Histories,
}

impl Storage {
    /// Opens `dataDir` and, when it is another, `dataLogDir`: makes and checks the directories, completes a
    /// change of the history that a crash has interrupted, and removes what was left unfinished.
    ///
    /// # Errors
    /// A directory is missing, is not one, cannot be written, or holds files that belong to the other one.
    pub fn open(
        data_dir: Arc<dyn Disk>,
        log_dir: Option<Arc<dyn Disk>>,
        settings: StorageSettings,
    ) -> Result<Storage, StorageError> {
        let logs = log_dir.clone().unwrap_or_else(|| data_dir.clone());
        prepare_directory(&*logs, settings.create_directories)?;
        if log_dir.is_some() {
            prepare_directory(&*data_dir, settings.create_directories)?;
            refuse_names(&*logs, "snapshot.", "snapshots", "log")?;
            refuse_names(&*data_dir, "log.", "logs", "snapshot")?;
        }
        let storage = Storage {
            snapshots: data_dir,
            logs,
            settings,
            histories: Histories::default(),
        };
        change::resume(&*storage.snapshots, &*storage.logs)?;
        storage.remove_unfinished()?;
        // A process that was killed may have renamed a file (snapshot, epoch) without the directory being synced.
        storage.sync_snapshots()?;
        Ok(storage)
    }

    /// Loads the newest valid snapshot into a sink from `fresh`; each candidate gets a new one.
    /// Removes the file `initialize` in the log directory if it is there.
    ///
    /// # Errors
    /// There are snapshots but none is valid, or none at all but logs, or a file cannot be read.
    pub fn load<S: SnapshotSink>(&self, mut fresh: impl FnMut() -> S) -> Result<Loaded<S>, StorageError> {
        let is_meant_empty = self.take_initialize()? || self.settings.create_database;
        let Candidates {
            plausible: candidates,
            implausible,
        } = self.snapshot_candidates()?;
        let mut rejected = Vec::new();
        for (zxid, path) in &candidates {
            let mut state = fresh();
            match read_snapshot(&*self.snapshots, path, self.settings.limits, &mut state) {
                Ok(tail) => {
                    let file = self.snapshots.full_path(path);
                    return Ok(Loaded {
                        state,
                        zxid: *zxid,
                        origin: Origin::Snapshot { file, tail },
                        rejected,
                        history: self.histories.lock().current,
                    });
                }
                Err(error) => rejected.push(error),
            }
        }
        let place = self.snapshots.full_path(VERSION_DIR);
        if let Some(newest) = rejected.first() {
            return Err(StorageError::Refused {
                place,
                what: format!(
                    "none of its {} snapshots can be used; of the newest: {newest}",
                    rejected.len()
                ),
                remedy: "Restore the data directory from a backup".to_owned(),
            });
        }
        let (zxid, origin) = if has_log_files(&*self.logs)? {
            if !self.settings.trust_empty_snapshot {
                return Err(StorageError::Refused {
                    place,
                    what: "there are logs but no snapshot they could be replayed on".to_owned(),
                    remedy: "Restore the snapshots. Only when upgrading from a release before 3.5.3, set \
                             snapshot.trust.empty=true for one start"
                        .to_owned(),
                });
            }
            (Zxid::ZERO, Origin::TrustedLog)
        } else if let Some(path) = implausible {
            // Java goes on with an empty tree here. A torn snapshot.0 is what a crash of the first start leaves;
            // any other says that there was a state, and that it is lost.
            return Err(StorageError::Refused {
                place: self.snapshots.full_path(&path),
                what: "it is not a whole snapshot, and there is no other one and no log".to_owned(),
                remedy:
                    "Restore the data directory from a backup, or remove the file to start with an empty tree"
                        .to_owned(),
            });
        } else if is_meant_empty {
            (Zxid::ZERO, Origin::Fresh)
        } else {
            (Zxid(-1), Origin::Unknown)
        };
        Ok(Loaded {
            state: fresh(),
            zxid,
            origin,
            rejected,
            history: self.histories.lock().current,
        })
    }

    /// The txns after `after`, oldest first.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn read_log(&self, after: Zxid) -> Result<LogReader, StorageError> {
        LogReader::open(self.logs.clone(), self.settings.limits, after)
    }

    /// The log to append to, after what a reader has found. Removes the newest log files if they hold no txn, and
    /// makes all txns that were read durable.
    /// `now` is a clock that never goes back; it only measures how long syncs take.
    ///
    /// # Errors
    /// A file cannot be removed or synced; or there is no snapshot yet and logs alone are not trusted.
    pub fn open_log(
        &self,
        end: &LogEnd,
        now: impl Fn() -> Duration + Send + 'static,
    ) -> Result<TxnLog, StorageError> {
        if !self.settings.trust_empty_snapshot && self.snapshot_candidates()?.plausible.is_empty() {
            return Err(StorageError::Refused {
                place: self.snapshots.full_path(VERSION_DIR),
                what: "a log cannot be begun before there is a snapshot".to_owned(),
                remedy: "This is a defect of the server; please report it".to_owned(),
            });
        }
        for path in &end.recordless {
            self.logs
                .remove(path)
                .map_err(StorageError::io(&self.logs.full_path(path), "remove"))?;
        }
        if self.settings.log.force_sync {
            make_durable(&*self.logs, end)?;
        }
        Ok(TxnLog::new(
            self.logs.clone(),
            self.settings.log,
            self.settings.limits,
            end.last_zxid,
            Box::new(now),
        ))
    }

    /// Begins the snapshot of a state that belongs to `history` and holds all txns up to `zxid` (and maybe some
    /// effects of later ones).
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn begin_snapshot<A: AsRef<[Acl]>>(
        &self,
        history: HistoryId,
        zxid: Zxid,
        sessions: impl ExactSizeIterator<Item = (SessionId, i32)>,
        acls: impl ExactSizeIterator<Item = (i64, A)>,
    ) -> Result<SnapshotWriter, StorageError> {
        let compression = self.settings.compression;
        let histories = &self.histories;
        SnapshotWriter::begin(
            &self.snapshots,
            histories,
            history,
            zxid,
            compression,
            sessions,
            acls,
        )
    }

    /// Begins the snapshot of another server's state that holds all txns up to `zxid`. It is set aside until
    /// [`Storage::install`].
    ///
    /// # Errors
    /// The file cannot be made.
    ///
    /// # Panics
    /// When `zxid` is negative.
    pub fn begin_set_aside(&self, zxid: Zxid) -> Result<SnapshotWriter, StorageError> {
        let history = self.histories.lock().number_next();
        let compression = self.settings.compression;
        SnapshotWriter::begin_set_aside(&self.snapshots, &self.histories, history, zxid, compression)
    }

    /// What is taken for damage, in what is read from the disk and from other servers.
    pub fn limits(&self) -> ReadLimits {
        self.settings.limits
    }

    /// Removes what no recovery needs any more, keeping the newest `retain` snapshots (at least 3).
    ///
    /// # Errors
    /// A directory cannot be read. What cannot be removed is in the result instead.
    pub fn purge(&self, retain: usize) -> Result<Purged, StorageError> {
        let _held = self.histories.lock();
        purge::purge(&*self.snapshots, &*self.logs, retain)
    }

    /// The epochs of a member whose newest txn is `last_zxid`; missing files are made. The current epoch may be lower
    /// than that of the txn, the accepted one is not.
    ///
    /// # Errors
    /// A file cannot be read or made, does not hold an epoch, or the accepted epoch is below the current one.
    pub fn load_epochs(&self, last_zxid: Zxid) -> Result<Epochs, StorageError> {
        epochs::load(&*self.snapshots, last_zxid)
    }

    /// Saves an epoch durably: whoever waits for it may be answered afterwards (Z9).
    ///
    /// # Errors
    /// The file cannot be written; then the old epoch stands.
    pub fn save_epoch(&self, which: EpochFile, epoch: u32) -> Result<(), StorageError> {
        epochs::save(&*self.snapshots, which, epoch)
    }

    pub(crate) fn snapshot_candidates(&self) -> Result<Candidates, StorageError> {
        let disk = &*self.snapshots;
        let names = disk
            .list(VERSION_DIR)
            .map_err(StorageError::io(&disk.full_path(VERSION_DIR), "list"))?;
        let mut found: Vec<_> = names
            .iter()
            .filter_map(|name| Some((parse_snapshot_name(name)?, in_version_dir(name))))
            .collect();
        found.sort_by(|((a, _), path_a), ((b, _), path_b)| b.cmp(a).then(path_a.cmp(path_b)));
        let mut candidates = Vec::new();
        let mut implausible = None;
        for ((zxid, compression), path) in found {
            if candidates.len() == CANDIDATES_MAX {
                break;
            }
            if is_plausible(disk, &path, compression)? {
                candidates.push((zxid, path));
            } else if zxid > Zxid::ZERO {
                implausible.get_or_insert(path);
            }
        }
        Ok(Candidates {
            plausible: candidates,
            implausible,
        })
    }

    fn take_initialize(&self) -> Result<bool, StorageError> {
        let full = self.logs.full_path(INITIALIZE);
        let kind = self
            .logs
            .kind(INITIALIZE)
            .map_err(StorageError::io(&full, "examine"))?;
        if kind.is_none() {
            return Ok(false);
        }
        self.logs
            .remove(INITIALIZE)
            .map_err(StorageError::io(&full, "remove"))?;
        Ok(true)
    }

    fn remove_unfinished(&self) -> Result<(), StorageError> {
        let disk = &*self.snapshots;
        let names = disk
            .list(VERSION_DIR)
            .map_err(StorageError::io(&disk.full_path(VERSION_DIR), "list"))?;
        for name in names.iter().filter(|name| name.starts_with(UNFINISHED_PREFIX)) {
            let path = in_version_dir(name);
            disk.remove(&path)
                .map_err(StorageError::io(&disk.full_path(&path), "remove"))?;
        }
        change::remove_staged(disk, &*self.logs)
    }

    fn sync_snapshots(&self) -> Result<(), StorageError> {
        self.snapshots
            .sync_dir(VERSION_DIR)
            .map_err(StorageError::io(&self.snapshots.full_path(VERSION_DIR), "sync"))
    }
}

/// Makes and checks the version directory below `disk`.
fn prepare_directory(disk: &dyn Disk, create: bool) -> Result<(), StorageError> {
    let directory = disk.full_path(VERSION_DIR);
    let unusable = |what: String, remedy: &str| StorageError::Directory {
        directory: directory.clone(),
        what,
        remedy: remedy.to_owned(),
    };
    match disk
        .kind(VERSION_DIR)
        .map_err(StorageError::io(&directory, "examine"))?
    {
        Some(EntryKind::Directory) => {}
        Some(EntryKind::File) => {
            return Err(StorageError::Refused {
                place: directory.clone(),
                what: "it is a file, not a directory".to_owned(),
                remedy: "Move it away, or set dataDir and dataLogDir to other places".to_owned(),
            });
        }
        None if !create => {
            return Err(unusable(
                "it does not exist, and datadir.autocreate is false".to_owned(),
                "Create it, or check dataDir and dataLogDir",
            ));
        }
        None => {
            if let Err(error) = disk.create_dir(VERSION_DIR) {
                return Err(unusable(
                    format!("it cannot be created ({error})"),
                    "Check dataDir and dataLogDir, and who may write there",
                ));
            }
        }
    }
    // Even when it was there: whoever made it may have been killed before this.
    disk.sync_dir("")
        .map_err(StorageError::io(&disk.full_path(""), "sync"))?;
    // The only sure way to know that files can be made there.
    let probe = in_version_dir(&format!("{UNFINISHED_PREFIX}probe"));
    let written = disk
        .open(&probe, OpenMode::Create)
        .and_then(|_| disk.remove(&probe));
    match written {
        Ok(()) => Ok(()),
        Err(error) => match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Err(unusable(
                format!("files cannot be made in it ({error})"),
                "Give the server's user the right to write there",
            )),
            _ => Err(StorageError::io(&directory, "make files in")(error)),
        },
    }
}

/// With two directories, neither may hold files that only make sense in the other.
fn refuse_names(disk: &dyn Disk, prefix: &str, what: &str, kind: &str) -> Result<(), StorageError> {
    let directory = disk.full_path(VERSION_DIR);
    let names = disk
        .list(VERSION_DIR)
        .map_err(StorageError::io(&directory, "list"))?;
    match names.iter().find(|name| name.starts_with(prefix)) {
        None => Ok(()),
        Some(name) => Err(StorageError::Directory {
            directory,
            what: format!("it is the {kind} directory, but has {what} ({name})"),
            remedy: "Check dataDir and dataLogDir: these files were written with other settings".to_owned(),
        }),
    }
}
