//! Writing the txn log (storage spec, sections 3, 9 and 12).
//!
//! Three promises beyond the format:
//!
//! - A file comes to be with its header and its first records in one write, and its directory is synced before
//!   [`TxnLog::commit`] returns (D3). A crash leaves no file that any server stumbles over.
//! - At most one write is under way without a sync: a rolled file is synced before the next one is begun, and a
//!   batch too large to be kept in memory is synced in parts. So a crash tears the log in one place only, and
//!   what it leaves is a prefix of what was appended.
//! - After the first error nothing is accepted any more: every later call returns that error (D2).

use std::sync::Arc;
use std::time::Duration;

use oxkeeper_types::Zxid;

use crate::StorageError;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::layout::{VERSION_DIR, log_path};
use crate::log_reader::{self, ReadLimits, follows};
use crate::record::{self, FILE_HEADER};

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// By how many bytes a file is lengthened ahead of what is written; 0 for not at all (`preAllocSize`).
    pub preallocation_bytes: u64,
    /// Whether a commit waits until the disk has it (`forceSync`). Without, a power loss may take txns that were
    /// acknowledged.
    pub force_sync: bool,
    /// A file whose size with padding is over this at a commit is the last of its name (`txnLogSizeLimitInKb`).
    pub file_bytes_limit: Option<u64>,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings {
            preallocation_bytes: 65_536 * 1024,
            force_sync: true,
            file_bytes_limit: None,
        }
    }
}

/// What is kept in memory of appended txns before it is written and synced without waiting for the commit.
pub(crate) const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How far ahead zeros are really written into the padding, in bytes. A sync of bytes that are written over zeros need
/// not commit a journal of the file system, as one of blocks that are new to the file must: it is faster, and does not
/// wait for what else is in the journal, such as a snapshot.
const ZEROS_AHEAD: u64 = 256 * 1024;

/// What a commit achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Every txn up to this one is durable (with `force_sync`), those of earlier commits included.
    pub up_to: Zxid,
    /// How long this commit waited for the disk to sync.
    pub sync_time: Duration,
}

/// The log, ready to take txns. It begins a new file with its first txn; no file of an earlier run is continued.
pub struct TxnLog {
    disk: Arc<dyn Disk>,
    settings: LogSettings,
    limits: ReadLimits,
    now: Box<dyn Fn() -> Duration + Send>,
    /// The newest txn appended, or the one to continue after.
    last: Zxid,
    /// The newest txn that is durable.
    durable: Zxid,
    /// A rolled file with records that are not durable yet. Comes before `current` in all that is done.
    rolled: Option<LogFile>,
    current: Option<LogFile>,
    /// Sizes of the files that were rolled since [`TxnLog::restart_size`], with their padding.
    rolled_bytes: u64,
    sync_time: Duration,
    poison: Option<StorageError>,
}

/// A file that is being written.
struct LogFile {
    path: String,
    /// `None` until the first write.
    file: Option<Box<dyn DiskFile>>,
    /// Records (at first with the file header before them) that are not written yet.
    buffer: Vec<u8>,
    /// How many bytes are written.
    written: u64,
    /// Up to where the file is written, with records or with zeros ahead of them.
    zeroed: u64,
    /// The newest txn in it.
    last: Zxid,
    /// Where the last commit ended; padding is decided by this.
    position: u64,
    /// The length with padding that Java's server would give it.
    padded: u64,
    /// The larger of `padded` and `position` at the last append or commit: what counts for limits.
    size: u64,
    /// The length the file really has.
    length: u64,
}

impl TxnLog {
    /// A log that continues after `last`. `now` is a clock that never goes back; it only measures syncs.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        settings: LogSettings,
        limits: ReadLimits,
        last: Zxid,
        now: Box<dyn Fn() -> Duration + Send>,
    ) -> TxnLog {
        TxnLog {
            disk,
            settings,
            limits,
            now,
            last,
            durable: last,
            rolled: None,
            current: None,
            rolled_bytes: 0,
            sync_time: Duration::ZERO,
            poison: None,
        }
    }

    /// The newest txn appended, or the one the log continues after.
    pub fn last_zxid(&self) -> Zxid {
        self.last
    }

    /// The newest txn that is durable.
    pub fn durable_zxid(&self) -> Zxid {
        self.durable
    }

    /// Adds a txn (header, body, digest: storage spec, section 3). It is not durable before [`TxnLog::commit`].
    ///
    /// # Errors
    /// The first error this log met, now or earlier.
    ///
    /// # Panics
    /// When `entry` is not the txn `zxid`, or `zxid` does not follow the last one: such a log could not be read.
    pub fn append(&mut self, zxid: Zxid, entry: &[u8]) -> Result<(), StorageError> {
        self.check_poison()?;
        assert_next(self.last, zxid, entry);
        let file = self.current.get_or_insert_with(|| LogFile::new(zxid));
        file.pad(self.settings.preallocation_bytes);
        record::encode(&mut file.buffer, entry);
        file.last = zxid;
        self.last = zxid;
        if file.buffer.len() > BATCH_BYTES_MAX {
            self.write_and_sync()?;
        }
        Ok(())
    }

    /// Whether something was appended since the last commit.
    pub fn has_uncommitted(&self) -> bool {
        self.durable != self.last
    }

    /// Makes everything appended durable, by one sync when no new file was begun.
    ///
    /// # Errors
    /// The first error this log met, now or earlier. Nothing appended since the last success may be acknowledged.
    pub fn commit(&mut self) -> Result<Committed, StorageError> {
        self.check_poison()?;
        self.write_and_sync()?;
        let limit = self.settings.file_bytes_limit;
        if self
            .current
            .as_ref()
            .is_some_and(|file| limit.is_some_and(|limit| file.size > limit))
        {
            self.roll()?;
        }
        Ok(Committed {
            up_to: self.durable,
            sync_time: std::mem::take(&mut self.sync_time),
        })
    }

    /// Ends the current file; the next txn begins a new one. What is not committed yet becomes durable with the
    /// next commit, before anything of the new file.
    ///
    /// # Errors
    /// The first error this log met, now or earlier.
    pub fn roll(&mut self) -> Result<(), StorageError> {
        self.check_poison()?;
        if self.rolled.is_some() {
            self.write_and_sync()?;
        }
        if let Some(file) = self.current.take() {
            self.rolled_bytes += file.size;
            if !file.buffer.is_empty() {
                self.rolled = Some(file);
            }
        }
        Ok(())
    }

    /// The bytes of log since [`TxnLog::restart_size`], padding included: what the size limit of the
    /// [`crate::SnapshotTrigger`] is compared with.
    pub fn size(&self) -> u64 {
        self.rolled_bytes + self.current.as_ref().map_or(0, |file| file.size)
    }

    /// Counts the size of the log from here on. To be called after a [`TxnLog::roll`] for a snapshot.
    pub fn restart_size(&mut self) {
        self.rolled_bytes = 0;
    }

    /// Makes everything durable and ends the file, so that the files on disk are the whole log.
    pub(crate) fn settle(&mut self) -> Result<(), StorageError> {
        self.commit()?;
        self.roll()
    }

    /// Goes on after the history on disk was changed to end elsewhere, or takes nothing more if that failed. The
    /// next txn begins a new file.
    pub(crate) fn go_on_after(&mut self, changed: Result<Zxid, StorageError>) -> Result<(), StorageError> {
        let last = self.poison_on_error(changed)?;
        assert!(
            self.current.is_none() && self.rolled.is_none(),
            "the log was not settled before the history was changed"
        );
        self.last = last;
        self.durable = last;
        Ok(())
    }

    fn check_poison(&self) -> Result<(), StorageError> {
        match &self.poison {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn poison_on_error<T>(&mut self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(error) = &result {
            self.poison = Some(error.clone());
        }
        result
    }

    fn write_and_sync(&mut self) -> Result<(), StorageError> {
        let result = self.write_and_sync_files();
        self.poison_on_error(result)
    }

    fn write_and_sync_files(&mut self) -> Result<(), StorageError> {
        if let Some(mut file) = self.rolled.take() {
            self.sync_time += file.write_and_sync(&self.disk, &self.settings, self.limits, &*self.now)?;
            self.durable = file.last;
        }
        if let Some(file) = &mut self.current
            && !file.buffer.is_empty()
        {
            self.sync_time += file.write_and_sync(&self.disk, &self.settings, self.limits, &*self.now)?;
            self.durable = file.last;
        }
        Ok(())
    }
}

/// Panics when `entry` is not the txn `zxid`, or `zxid` does not follow `last`.
fn assert_next(last: Zxid, zxid: Zxid, entry: &[u8]) {
    assert_eq!(
        record::zxid_and_type(entry).map(|(of, _)| of),
        Some(zxid),
        "the entry is of another txn"
    );
    assert!(
        follows(last, zxid),
        "txn {zxid} does not follow {last}: the log would have a hole"
    );
}

/// Writes a log of the txns after `after` to a file that is no log yet, and syncs it. Returns the first and the last
/// of them; when there is none, no file is made.
pub(crate) fn stage_log<'a>(
    disk: &dyn Disk,
    path: &str,
    after: Zxid,
    entries: impl IntoIterator<Item = (Zxid, &'a [u8])>,
) -> Result<Option<(Zxid, Zxid)>, StorageError> {
    let mut entries = entries.into_iter().peekable();
    let Some(&(first, _)) = entries.peek() else {
        return Ok(None);
    };
    let full = disk.full_path(path);
    let file = disk
        .open(path, OpenMode::Create)
        .map_err(StorageError::io(&full, "create"))?;
    let (mut last, mut offset, mut buffer) = (after, 0, FILE_HEADER.to_vec());
    let mut write = |buffer: &mut Vec<u8>| {
        let written = file.write_at(offset, buffer);
        offset += buffer.len() as u64;
        buffer.clear();
        written.map_err(StorageError::io(&full, "write to"))
    };
    for (zxid, entry) in entries {
        assert_next(last, zxid, entry);
        record::encode(&mut buffer, entry);
        last = zxid;
        if buffer.len() > BATCH_BYTES_MAX {
            write(&mut buffer)?;
        }
    }
    write(&mut buffer)?;
    file.sync_data().map_err(StorageError::io(&full, "sync"))?;
    Ok(Some((first, last)))
}

impl LogFile {
    fn new(first: Zxid) -> LogFile {
        let header = FILE_HEADER.len() as u64;
        LogFile {
            path: log_path(first),
            file: None,
            buffer: FILE_HEADER.to_vec(),
            written: 0,
            zeroed: 0,
            last: first,
            position: header,
            padded: header,
            size: header,
            length: 0,
        }
    }

    /// What Java's server does before each record: when fewer than 4096 bytes are left after the last commit's
    /// end, the file grows.
    fn pad(&mut self, preallocation: u64) {
        if preallocation > 0 && self.position + 4096 >= self.padded {
            if self.position > self.padded {
                let wanted = self.position + preallocation;
                self.padded = wanted - wanted % preallocation;
            } else {
                self.padded += preallocation;
            }
        }
        self.size = self.padded;
    }

    /// Writes the buffer and makes it durable; returns how long the sync took.
    fn write_and_sync(
        &mut self,
        disk: &Arc<dyn Disk>,
        settings: &LogSettings,
        limits: ReadLimits,
        now: &dyn Fn() -> Duration,
    ) -> Result<Duration, StorageError> {
        let path = disk.full_path(&self.path);
        let is_new = self.file.is_none();
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                log_reader::make_way_for(disk, limits, &self.path)?;
                let file = disk
                    .open(&self.path, OpenMode::Create)
                    .map_err(StorageError::io(&path, "create"))?;
                self.file.insert(file)
            }
        };
        let begin = self.written;
        self.written += self.buffer.len() as u64;
        if self.written > self.zeroed {
            self.zeroed = match settings.force_sync {
                true => self
                    .written
                    .max(self.padded.min((self.written + ZEROS_AHEAD) & !4095)),
                false => self.written,
            };
            let zeros = usize::try_from(self.zeroed - self.written).expect("at most ZEROS_AHEAD");
            self.buffer.resize(self.buffer.len() + zeros, 0);
        }
        file.write_at(begin, &self.buffer)
            .map_err(StorageError::io(&path, "write to"))?;
        self.buffer.clear();
        self.buffer.shrink_to(BATCH_BYTES_MAX / 16);
        self.length = self.length.max(self.written);
        if self.padded > self.length {
            file.set_len(self.padded)
                .map_err(StorageError::io(&path, "lengthen"))?;
            self.length = self.padded;
        }
        self.position = self.written;
        self.size = self.size.max(self.position);
        if !settings.force_sync {
            return Ok(Duration::ZERO);
        }
        let begin = now();
        file.sync_data().map_err(StorageError::io(&path, "sync"))?;
        if is_new {
            disk.sync_dir(VERSION_DIR)
                .map_err(StorageError::io(&disk.full_path(VERSION_DIR), "sync"))?;
        }
        Ok(now().saturating_sub(begin))
    }
}
