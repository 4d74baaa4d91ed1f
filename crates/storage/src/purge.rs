//! Removing what no recovery needs any more (storage spec, section 13).

use std::path::PathBuf;

use oxkeeper_types::Zxid;

use crate::StorageError;
use crate::disk::Disk;
use crate::layout::{VERSION_DIR, in_version_dir, parse_snapshot_name};
use crate::log_reader::log_files;
use crate::snapshot::is_plausible;

/// Fewer snapshots are never kept.
pub const SNAPSHOTS_RETAINED_MIN: usize = 3;

/// What a purge did.
#[derive(Clone, Debug, Default)]
pub struct Purged {
    /// The files removed, in that order.
    pub removed: Vec<PathBuf>,
    /// What could not be removed, and why.
    pub failed: Vec<StorageError>,
}

/// A snapshot's zxid, path, and whether it has a right to count as one.
struct Candidate {
    zxid: Zxid,
    path: String,
    is_plausible: bool,
}

/// Keeps the newest `retain` plausible snapshots and the logs from the oldest of them on. Nothing is removed when
/// there is no plausible snapshot. Only names of the documented shape are removed, and the `.tmp` that Java leaves
/// when it dies while saving; Java also removes whatever else begins with `log.` or `snapshot.`.
pub(crate) fn purge(snapshots: &dyn Disk, logs: &dyn Disk, retain: usize) -> Result<Purged, StorageError> {
    let retain = retain.max(SNAPSHOTS_RETAINED_MIN);
    let mut candidates = Vec::new();
    let names = snapshots
        .list(VERSION_DIR)
        .map_err(StorageError::io(&snapshots.full_path(VERSION_DIR), "list"))?;
    for name in names {
        let (whole, is_whole) = match name.strip_suffix(".tmp") {
            Some(whole) => (whole, false),
            None => (name.as_str(), true),
        };
        let Some((zxid, compression)) = parse_snapshot_name(whole) else {
            continue;
        };
        let path = in_version_dir(&name);
        let is_plausible = is_whole && is_plausible(snapshots, &path, compression)?;
        candidates.push(Candidate {
            zxid,
            path,
            is_plausible,
        });
    }
    candidates.sort_by_key(|candidate| candidate.zxid);
    let plausible = candidates.iter().rev().filter(|candidate| candidate.is_plausible);
    let Some(oldest) = plausible.take(retain).last().map(|candidate| candidate.zxid) else {
        return Ok(Purged::default());
    };
    // Oldest first, snapshots before logs: a crash in between leaves no snapshot without the logs after it.
    let mut purged = Purged::default();
    let removed = candidates.iter().take_while(|candidate| candidate.zxid < oldest);
    remove_all(
        snapshots,
        removed.map(|candidate| candidate.path.as_str()),
        &mut purged,
    )?;
    let files = log_files(logs)?;
    let kept = files.iter().rposition(|&(first, _)| first <= oldest).unwrap_or(0);
    remove_all(
        logs,
        files[..kept].iter().map(|(_, path)| path.as_str()),
        &mut purged,
    )?;
    Ok(purged)
}

fn remove_all<'a>(
    disk: &dyn Disk,
    paths: impl Iterator<Item = &'a str>,
    purged: &mut Purged,
) -> Result<(), StorageError> {
    let mut is_changed = false;
    for path in paths {
        let full = disk.full_path(path);
        match disk.remove(path) {
            Ok(()) => {
                is_changed = true;
                purged.removed.push(full);
            }
            Err(cause) => purged.failed.push(StorageError::io(&full, "remove")(cause)),
        }
    }
    if is_changed {
        disk.sync_dir(VERSION_DIR)
            .map_err(StorageError::io(&disk.full_path(VERSION_DIR), "sync"))?;
    }
    Ok(())
}
