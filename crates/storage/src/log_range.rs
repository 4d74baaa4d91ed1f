//! Reading a part of the log while it is written, for a learner that lacks it.
//!
//! Nothing here is damage: what cannot be read, a record that is only half written among it, is not there. Whether
//! the log is sound is found out at the start, by [`crate::LogReader`].

use std::io;
use std::sync::Arc;

use oxkeeper_types::Zxid;

use crate::disk::Disk;
use crate::log_reader::{LogFile, ReadLimits, follows, log_files};
use crate::{Storage, StorageError};

/// Txns by zxid, oldest first.
type Txns = Vec<(Zxid, Vec<u8>)>;

impl Storage {
    /// The txns from `from` to `to`, both included, oldest first, as they stand in the log: header, body, digest.
    /// `None` when one of them is not on disk, or when they are more than `entries_max` or have more than `bytes_max`
    /// bytes. May be called while another thread appends, and changes nothing.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read_range(
        &self,
        from: Zxid,
        to: Zxid,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Txns>, StorageError> {
        let changes = self.histories.lock().changes;
        let mut range = Range {
            from,
            to,
            entries_left: entries_max,
            bytes_left: bytes_max,
            found: Vec::new(),
        };
        let is_complete = match range.read(&self.logs, self.settings.limits) {
            Ok(is_complete) => is_complete,
            // A file was purged, or a truncation cut it: what was wanted may be gone.
            Err(StorageError::Io { cause, .. })
                if matches!(
                    cause.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                false
            }
            Err(error) => return Err(error),
        };
        // Files of two histories may not be read as one.
        let is_one_history = self.histories.lock().changes == changes;
        Ok((is_complete && is_one_history).then_some(range.found))
    }
}

struct Range {
    from: Zxid,
    to: Zxid,
    entries_left: usize,
    bytes_left: usize,
    found: Txns,
}

impl Range {
    /// Whether all were found.
    fn read(&mut self, disk: &Arc<dyn Disk>, limits: ReadLimits) -> Result<bool, StorageError> {
        let files = log_files(&**disk)?;
        let Some(first) = files.iter().rposition(|&(zxid, _)| zxid <= self.from) else {
            return Ok(false);
        };
        for (_, path) in &files[first..] {
            let mut file = match LogFile::open(&**disk, path.clone()) {
                Ok(Ok(file)) => file,
                // Made, but not written yet.
                Ok(Err(_)) | Err(StorageError::Corrupt { .. }) => continue,
                Err(error) => return Err(error),
            };
            // At the end of a file the next one goes on, or there is a gap.
            while let Ok(record) = file.next_record(limits)? {
                if record.zxid < self.from {
                    continue;
                }
                match self.found.last() {
                    None if record.zxid != self.from => return Ok(false),
                    // The same txn once more, or the error txn that Java logs under the zxid of the one before.
                    Some(&(last, _)) if record.zxid <= last => continue,
                    Some(&(last, _)) if !follows(last, record.zxid) => return Ok(false),
                    _ => {}
                }
                let length = record.length as usize;
                if record.zxid > self.to || self.entries_left == 0 || self.bytes_left < length {
                    return Ok(false);
                }
                self.entries_left -= 1;
                self.bytes_left -= length;
                self.found.push((record.zxid, file.entry(record).to_vec()));
                if record.zxid == self.to {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
