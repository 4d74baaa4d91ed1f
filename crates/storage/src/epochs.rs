//! The small files: `currentEpoch`, `acceptedEpoch` and `myid` (storage spec, section 11).

use oxkeeper_types::{ServerId, Zxid};

use crate::StorageError;
use crate::disk::{Disk, OpenMode};
use crate::layout::{VERSION_DIR, in_version_dir};

/// A file with a number is not longer, in bytes.
const NUMBER_BYTES_MAX: usize = 64;

const CURRENT_EPOCH: &str = "currentEpoch";
const ACCEPTED_EPOCH: &str = "acceptedEpoch";

/// What a member of an ensemble remembers of epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// The epoch of the last leader whose history this member has taken over. Vouches for the log.
    pub current: u32,
    /// The newest epoch it has promised to a leader. Never below `current`.
    pub accepted: u32,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochFile {
    /// [`Epochs::current`].
    Current,
    /// [`Epochs::accepted`].
    Accepted,
}

impl EpochFile {
    fn name(self) -> &'static str {
        match self {
            EpochFile::Current => CURRENT_EPOCH,
            EpochFile::Accepted => ACCEPTED_EPOCH,
        }
    }
}

/// Reads both epochs after recovery up to `last_zxid`; missing files are made.
///
/// The log may be ahead of `currentEpoch`: a server died after it had logged the first txns of an epoch and before it
/// saved the epoch. Its history is a prefix of the leader's of that epoch, and the lower epoch only weakens its vote,
/// so it may start. (Java refuses, unless it finds the new value in `currentEpoch.tmp`. That file is not looked at here:
/// nobody was told of an epoch before it was renamed, and it may be from an attempt of long ago.) The promise is never
/// below what the log shows to have been promised.
pub(crate) fn load(disk: &dyn Disk, last_zxid: Zxid) -> Result<Epochs, StorageError> {
    let of_zxid = last_zxid.epoch();
    let current = load_or_make(disk, EpochFile::Current, of_zxid)?;
    let promised = current.max(of_zxid);
    let mut accepted = load_or_make(disk, EpochFile::Accepted, promised)?;
    if accepted < current {
        return Err(refused(
            disk,
            ACCEPTED_EPOCH,
            format!("it says {accepted}, less than the current epoch {current}"),
        ));
    }
    if accepted < promised {
        save(disk, EpochFile::Accepted, promised)?;
        accepted = promised;
    }
    Ok(Epochs { current, accepted })
}

/// Writes an epoch so that after a crash the old or the new value is there, and durably.
pub(crate) fn save(disk: &dyn Disk, which: EpochFile, epoch: u32) -> Result<(), StorageError> {
    let path = in_version_dir(which.name());
    let unfinished = format!("{path}.tmp");
    let full = disk.full_path(&unfinished);
    let file = disk
        .open(&unfinished, OpenMode::Create)
        .map_err(StorageError::io(&full, "create"))?;
    file.write_at(0, epoch.to_string().as_bytes())
        .map_err(StorageError::io(&full, "write to"))?;
    file.sync_data().map_err(StorageError::io(&full, "sync"))?;
    disk.rename(&unfinished, &path).map_err(StorageError::io(
        &disk.full_path(&path),
        "rename the new epoch to",
    ))?;
    disk.sync_dir(VERSION_DIR)
        .map_err(StorageError::io(&disk.full_path(VERSION_DIR), "sync"))
}

/// Reads `myid` in the data directory; `None` when there is none.
///
/// # Errors
/// It cannot be read, or its first line is not a number.
pub fn read_myid(disk: &dyn Disk) -> Result<Option<ServerId>, StorageError> {
    Ok(read_number(disk, "myid")?.map(ServerId))
}

fn load_or_make(disk: &dyn Disk, which: EpochFile, missing: u32) -> Result<u32, StorageError> {
    if let Some(epoch) = read_epoch(disk, &in_version_dir(which.name()))? {
        return Ok(epoch);
    }
    save(disk, which, missing)?;
    Ok(missing)
}

fn read_epoch(disk: &dyn Disk, path: &str) -> Result<Option<u32>, StorageError> {
    let Some(number) = read_number(disk, path)? else {
        return Ok(None);
    };
    match u32::try_from(number) {
        Ok(epoch) => Ok(Some(epoch)),
        Err(_) => Err(refused(
            disk,
            path,
            format!("it says {number}, which is not an epoch"),
        )),
    }
}

/// The decimal number in the first line of a file, `None` when there is no such file.
fn read_number(disk: &dyn Disk, path: &str) -> Result<Option<i64>, StorageError> {
    let full = disk.full_path(path);
    if disk
        .kind(path)
        .map_err(StorageError::io(&full, "examine"))?
        .is_none()
    {
        return Ok(None);
    }
    let file = disk
        .open(path, OpenMode::Read)
        .map_err(StorageError::io(&full, "open"))?;
    let mut bytes = [0; NUMBER_BYTES_MAX];
    let read = file
        .read_at(0, &mut bytes)
        .map_err(StorageError::io(&full, "read"))?;
    let text = String::from_utf8_lossy(&bytes[..read]);
    let line = text.lines().next().unwrap_or_default();
    match line.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(StorageError::Refused {
            place: full,
            what: format!("its first line is {line:?}, not a decimal number"),
            remedy: "Write the number there, without blanks".to_owned(),
        }),
    }
}

fn refused(disk: &dyn Disk, path: &str, what: String) -> StorageError {
    let path = if path.contains('/') {
        path.to_owned()
    } else {
        in_version_dir(path)
    };
    StorageError::Refused {
        place: disk.full_path(&path),
        what,
        remedy:
            "Restore the file from a backup, or start this member with empty directories, so that it copies \
                 the state from the leader"
                .to_owned(),
    }
}
