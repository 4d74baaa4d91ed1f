//! Changing the history in one step: a learner takes over its leader's, or goes back some txns.
//!
//! Many files come and go then. What is new is staged and synced under names that no start looks at. Then the file
//! [`MARKER`], written, synced and renamed in one step, says what is to be done; with it the change has happened. Who
//! opens the directory and finds it does all of that, again if need be, and removes it. So after a crash at any
//! point there is the old history or the new one, and nothing between.
//!
//! Java does not know the marker. Should it open the directory after a crash in the middle of a change, it finds,
//! while a new history is put in place, no snapshot, and refuses to start; and while txns are taken back, the old
//! history or a part of it that is not shorter than the wanted one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oxkeeper_types::{Acl, SessionId, StoredStat, TxnDigest, Zxid};
use oxkeeper_wire::{SnapshotDigest, decode_txn_entry};

use crate::disk::{Disk, OpenMode};
use crate::layout::{
    UNFINISHED_LOG, UNFINISHED_PREFIX, VERSION_DIR, in_version_dir, log_path, parse_log_name,
    parse_snapshot_name, snapshot_path,
};
use crate::log::stage_log;
use crate::log_reader::{log_files, plan_cut};
use crate::snapshot::{SetAside, SnapshotSink, read_snapshot};
use crate::{Storage, StorageError, TxnLog};

/// What is to be done, in the directory of snapshots.
const MARKER: &str = "unfinished.change";
/// The marker while it is written.
const MARKER_TMP: &str = "unfinished.change.tmp";
/// What the marker begins and ends with.
const FIRST_LINE: &str = "oxkeeper change of history, version 1";
const LAST_LINE: &str = "end";
/// A longer marker cannot be: it has a line for each file.
const MARKER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Which of the histories that a process has seen: a state in memory belongs to the one on disk, or to one that was
/// taken away from under it. The default is what was found at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryId(pub(crate) u64);

/// Held while files come to be or go that others rest on: changes, purges and the ends of snapshots wait for each
/// other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histories(Arc<Mutex<Known>>);

/// What the lock holds.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The one on disk.
    pub(crate) current: HistoryId,
    /// The newest that was numbered.
    last: HistoryId,
    /// How often the history on disk was changed.
    pub(crate) changes: u64,
}

impl Histories {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Numbers another one.
    pub(crate) fn number_next(&mut self) -> HistoryId {
        self.last.0 += 1;
        self.last
    }
}

/// What became of a [`Storage::truncate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Truncated {
    /// The history ends there now.
    Done,
    /// It cannot end there; nothing has changed.
    Refused,
}

impl Storage {
    /// Makes a snapshot from another server, and `entries` after it, the whole history, durably. What was there
    /// before is gone then, with lower and with higher zxids; the log goes on after the new end. The state that
    /// belongs to it is the one that was received with the snapshot.
    ///
    /// After an error the log takes nothing more; at the next start there is the old history or the new one.
    ///
    /// # Errors
    /// A file cannot be written, renamed or removed.
    ///
    /// # Panics
    /// When `zxid` is not that of the snapshot, an entry is not the txn it is said to be, or one does not follow the
    /// other.
    pub fn install<'a>(
        &self,
        log: &mut TxnLog,
        mut snapshot: SetAside,
        zxid: Zxid,
        entries: impl IntoIterator<Item = (Zxid, &'a [u8])>,
    ) -> Result<(), StorageError> {
        assert_eq!(zxid, snapshot.zxid(), "the snapshot is of another txn");
        log.settle()?;
        let mut histories = self.histories.lock();
        let installed = self.install_files(&mut snapshot, entries);
        histories.changes += 1;
        log.go_on_after(installed)?;
        histories.current = snapshot.history();
        Ok(())
    }

    /// Returns the end of the new history.
    fn install_files<'a>(
        &self,
        snapshot: &mut SetAside,
        entries: impl IntoIterator<Item = (Zxid, &'a [u8])>,
    ) -> Result<Zxid, StorageError> {
        let path = in_version_dir(UNFINISHED_LOG);
        let mut newest_digest = None;
        let entries = entries.into_iter().inspect(|&(zxid, entry)| {
            if let Ok((.., Some(TxnDigest { version, tree_digest }))) = decode_txn_entry(entry) {
                newest_digest = Some(SnapshotDigest {
                    zxid,
                    version,
                    tree_digest,
                });
            }
        });
        let staged = stage_log(&*self.logs, &path, snapshot.zxid(), entries)?;
        snapshot.complete(newest_digest)?;
        let new_log = staged.map(|(first, _)| name_of(&log_path(first)));
        let new_snapshot = name_of(&snapshot_path(snapshot.zxid(), self.settings.compression));
        let mut removed_snapshots = self.snapshot_names(|_| true)?;
        removed_snapshots.retain(|name| *name != new_snapshot);
        let logs = log_files(&*self.logs)?.into_iter().rev();
        let removed_logs = logs
            .map(|(_, path)| name_of(&path))
            .filter(|name| Some(name) != new_log.as_ref())
            .collect();
        let change = Change {
            removed_snapshots,
            removed_logs,
            cut_log: None,
            new_log,
            // From here on its file belongs to the change.
            new_snapshot: Some((name_of(snapshot.release()), new_snapshot)),
        };
        change.make(&*self.snapshots, &*self.logs)?;
        Ok(staged.map_or(snapshot.zxid(), |(_, last)| last))
    }

    /// Makes `zxid` the end of the history, durably: forgets later txns, and snapshots that hold them. Refused when
    /// that cannot be: `zxid` is neither that of a txn in the log, nor the end of a snapshot, nor 0, nor is it the
    /// place (its counter is 0) where the txns of its epoch begin; or no snapshot reaches back to it. With `reload`,
    /// the state in memory has more, and is to be loaded anew.
    ///
    /// After an error the log takes nothing more; at the next start there is the old history or the new one.
    ///
    /// # Errors
    /// The log up to `zxid` is damaged, or a file cannot be changed.
    pub fn truncate(&self, log: &mut TxnLog, zxid: Zxid, reload: bool) -> Result<Truncated, StorageError> {
        log.settle()?;
        let mut histories = self.histories.lock();
        let mut removed_snapshots = self.snapshot_names(|of| of > zxid)?;
        let Some(base) = self.base_of(zxid, &mut removed_snapshots)? else {
            return Ok(Truncated::Refused);
        };
        let plan = plan_cut(&self.logs, self.settings.limits, base, zxid)?;
        let begins_epoch = zxid.counter() == 0 && plan.next.is_some_and(|next| next.epoch() == zxid.epoch());
        if plan.last != zxid && !begins_epoch {
            return Ok(Truncated::Refused);
        }
        let change = Change {
            removed_snapshots,
            removed_logs: plan.removed,
            cut_log: plan.cut,
            ..Change::default()
        };
        let made = if change == Change::default() {
            Ok(())
        } else {
            change.make(&*self.snapshots, &*self.logs)
        };
        histories.changes += 1;
        log.go_on_after(made.map(|()| plan.last))?;
        if reload {
            histories.current = histories.number_next();
        }
        Ok(Truncated::Done)
    }

    /// The zxid of the newest snapshot that the txns up to `zxid` can be replayed on. It is read to its end, as newer
    /// ones will be removed. Adds those to `removed` that were taken before `zxid`, but have effects of later txns.
    fn base_of(&self, zxid: Zxid, removed: &mut Vec<String>) -> Result<Option<Zxid>, StorageError> {
        let candidates = self.snapshot_candidates()?.plausible;
        for (of, path) in candidates.into_iter().filter(|&(of, _)| of <= zxid) {
            match read_snapshot(&*self.snapshots, &path, self.settings.limits, &mut Nobody) {
                Ok(tail) if tail.walk_end() <= zxid => return Ok(Some(of)),
                Ok(_) => removed.push(name_of(&path)),
                Err(StorageError::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.settings.trust_empty_snapshot.then_some(Zxid::ZERO))
    }

    /// The names of snapshots of these zxids, whole or not, and of what Java leaves when it dies while saving one.
    fn snapshot_names(&self, wanted: impl Fn(Zxid) -> bool) -> Result<Vec<String>, StorageError> {
        let disk = &*self.snapshots;
        let mut names = disk
            .list(VERSION_DIR)
            .map_err(StorageError::io(&disk.full_path(VERSION_DIR), "list"))?;
        names.retain(|name| zxid_of_snapshot(name).is_some_and(&wanted));
        names.sort();
        Ok(names)
    }
}

/// The name of a file without its directory.
fn name_of(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

fn zxid_of_snapshot(name: &str) -> Option<Zxid> {
    let whole = name.strip_suffix(".tmp").unwrap_or(name);
    parse_snapshot_name(whole).map(|(zxid, _)| zxid)
}

/// Takes a snapshot in for nothing but the seals.
struct Nobody;

impl SnapshotSink for Nobody {
    fn session(&mut self, _: SessionId, _: i32) -> Result<(), String> {
        Ok(())
    }
    fn acl(&mut self, _: i64, _: Vec<Acl>) -> Result<(), String> {
        Ok(())
    }
    fn znode(&mut self, _: &str, _: Option<&[u8]>, _: i64, _: &StoredStat) -> Result<(), String> {
        Ok(())
    }
}

/// What leads from one history to another. Files are named without their directory. Doing it twice does no harm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Snapshots to remove.
    pub(crate) removed_snapshots: Vec<String>,
    /// Log files to remove, newest first.
    pub(crate) removed_logs: Vec<String>,
    /// A log file to cut, and its new length in bytes.
    pub(crate) cut_log: Option<(String, u64)>,
    /// The log file that [`UNFINISHED_LOG`] becomes.
    pub(crate) new_log: Option<String>,
    /// The snapshot that is set aside, and the one that it becomes.
    pub(crate) new_snapshot: Option<(String, String)>,
}

impl Change {
    /// Makes the change. What is new must be synced, its name may not be.
    ///
    /// # Errors
    /// A file cannot be changed. The change has happened or not, which only [`resume`] can tell.
    pub(crate) fn make(&self, snapshots: &dyn Disk, logs: &dyn Disk) -> Result<(), StorageError> {
        if self.new_log.is_some() {
            sync_dir(logs)?;
        }
        let unfinished = in_version_dir(MARKER_TMP);
        let full = snapshots.full_path(&unfinished);
        let file = snapshots
            .open(&unfinished, OpenMode::Create)
            .map_err(StorageError::io(&full, "create"))?;
        file.write_at(0, self.to_text().as_bytes())
            .map_err(StorageError::io(&full, "write to"))?;
        file.sync_data().map_err(StorageError::io(&full, "sync"))?;
        // The name of the new snapshot must not be lost when that of the marker is kept.
        sync_dir(snapshots)?;
        snapshots
            .rename(&unfinished, &in_version_dir(MARKER))
            .map_err(StorageError::io(&full, "rename"))?;
        self.carry_out(snapshots, logs)
    }

    /// Does what the marker says, and removes it.
    fn carry_out(&self, snapshots: &dyn Disk, logs: &dyn Disk) -> Result<(), StorageError> {
        // Whoever wrote the marker may have been killed before this.
        sync_dir(snapshots)?;
        for name in &self.removed_snapshots {
            remove(snapshots, name)?;
        }
        if let Some((unfinished, name)) = &self.new_snapshot
            && exists(snapshots, unfinished)?
        {
            // The one of that name is old. Java must not find it without its logs.
            remove(snapshots, name)?;
        }
        sync_dir(snapshots)?;
        for name in &self.removed_logs {
            remove(logs, name)?;
        }
        if let Some((name, length)) = &self.cut_log {
            let path = in_version_dir(name);
            let full = logs.full_path(&path);
            let file = logs
                .open(&path, OpenMode::Write)
                .map_err(StorageError::io(&full, "open"))?;
            file.set_len(*length).map_err(StorageError::io(&full, "cut"))?;
            file.sync_data().map_err(StorageError::io(&full, "sync"))?;
        }
        if let Some(name) = &self.new_log {
            rename(logs, UNFINISHED_LOG, name)?;
        }
        sync_dir(logs)?;
        if let Some((unfinished, name)) = &self.new_snapshot {
            rename(snapshots, unfinished, name)?;
        }
        sync_dir(snapshots)?;
        remove(snapshots, MARKER)?;
        sync_dir(snapshots)
    }

    fn to_text(&self) -> String {
        let mut lines = vec![FIRST_LINE.to_owned()];
        lines.extend(
            self.removed_snapshots
                .iter()
                .map(|name| format!("remove-snapshot {name}")),
        );
        lines.extend(self.removed_logs.iter().map(|name| format!("remove-log {name}")));
        lines.extend(
            self.cut_log
                .iter()
                .map(|(name, length)| format!("cut-log {name} {length}")),
        );
        lines.extend(self.new_log.iter().map(|name| format!("new-log {name}")));
        let new_snapshot = self.new_snapshot.iter();
        lines.extend(new_snapshot.map(|(unfinished, name)| format!("new-snapshot {unfinished} {name}")));
        lines.push(LAST_LINE.to_owned());
        lines.join("\n") + "\n"
    }

    /// What [`Change::to_text`] wrote, or the line that it cannot have written.
    fn of_text(text: &str) -> Result<Change, String> {
        let mut change = Change::default();
        let lines = text
            .strip_suffix('\n')
            .and_then(|text| text.strip_suffix(LAST_LINE))
            .and_then(|text| text.strip_prefix(FIRST_LINE))
            .ok_or("its first or last line is missing")?;
        for line in lines.lines().skip(1) {
            let words: Vec<&str> = line.split(' ').collect();
            let is_log = |name: &str| parse_log_name(name).is_some();
            let is_snapshot = |name: &str| zxid_of_snapshot(name).is_some();
            match words[..] {
                ["remove-snapshot", name] if is_snapshot(name) => {
                    change.removed_snapshots.push(name.to_owned());
                }
                ["remove-log", name] if is_log(name) => change.removed_logs.push(name.to_owned()),
                ["cut-log", name, length] if is_log(name) => match length.parse() {
                    Ok(length) => change.cut_log = Some((name.to_owned(), length)),
                    Err(_) => return Err(format!("it cannot have the line {line:?}")),
                },
                ["new-log", name] if is_log(name) => change.new_log = Some(name.to_owned()),
                ["new-snapshot", unfinished, name]
                    if unfinished.starts_with(UNFINISHED_PREFIX)
                        && !unfinished.contains('/')
                        && is_snapshot(name) =>
                {
                    change.new_snapshot = Some((unfinished.to_owned(), name.to_owned()));
                }
                _ => return Err(format!("it cannot have the line {line:?}")),
            }
        }
        Ok(change)
    }
}

/// Completes a change that a crash has interrupted after it had happened.
///
/// # Errors
/// A file cannot be read or changed, or the marker is damaged.
pub(crate) fn resume(snapshots: &dyn Disk, logs: &dyn Disk) -> Result<(), StorageError> {
    let path = in_version_dir(MARKER);
    let full = snapshots.full_path(&path);
    let kind = snapshots
        .kind(&path)
        .map_err(StorageError::io(&full, "examine"))?;
    if kind.is_none() {
        return Ok(());
    }
    let file = snapshots
        .open(&path, OpenMode::Read)
        .map_err(StorageError::io(&full, "open"))?;
    let length = file.length().map_err(StorageError::io(&full, "examine"))?;
    let mut bytes = vec![0; usize::try_from(length.min(MARKER_BYTES_MAX)).unwrap_or_default()];
    let read = file
        .read_at(0, &mut bytes)
        .map_err(StorageError::io(&full, "read"))?;
    let text = String::from_utf8_lossy(&bytes[..read]);
    match Change::of_text(&text) {
        Ok(change) => change.carry_out(snapshots, logs),
        Err(what) => Err(StorageError::Corrupt {
            file: full,
            offset: 0,
            what,
            remedy:
                "It tells how to replace this member's history by its leader's. Start this member with empty \
                     directories; it copies the state from the leader"
                    .to_owned(),
        }),
    }
}

/// Removes what was staged for changes that have not happened.
///
/// # Errors
/// A directory cannot be listed, or a file not removed.
pub(crate) fn remove_staged(snapshots: &dyn Disk, logs: &dyn Disk) -> Result<(), StorageError> {
    remove(snapshots, MARKER_TMP)?;
    remove(logs, UNFINISHED_LOG)
}

fn exists(disk: &dyn Disk, name: &str) -> Result<bool, StorageError> {
    let path = in_version_dir(name);
    let kind = disk.kind(&path);
    let kind = kind.map_err(StorageError::io(&disk.full_path(&path), "examine"))?;
    Ok(kind.is_some())
}

/// Removes a file if it is there.
fn remove(disk: &dyn Disk, name: &str) -> Result<(), StorageError> {
    if !exists(disk, name)? {
        return Ok(());
    }
    let path = in_version_dir(name);
    disk.remove(&path)
        .map_err(StorageError::io(&disk.full_path(&path), "remove"))
}

/// Gives a file its name, if it does not have it yet.
fn rename(disk: &dyn Disk, from: &str, to: &str) -> Result<(), StorageError> {
    if !exists(disk, from)? && exists(disk, to)? {
        return Ok(());
    }
    let (from, to) = (in_version_dir(from), in_version_dir(to));
    disk.rename(&from, &to)
        .map_err(StorageError::io(&disk.full_path(&from), "rename"))
}

fn sync_dir(disk: &dyn Disk) -> Result<(), StorageError> {
    disk.sync_dir(VERSION_DIR)
        .map_err(StorageError::io(&disk.full_path(VERSION_DIR), "sync"))
}
