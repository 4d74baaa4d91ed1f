//! Reading the txn log (storage spec, section 5), and deciding what its damage means.
//!
//! D1 asks that recovery never invents, reorders or skips a txn. The rules that keep it:
//!
//! **Order.** Entries are handed out in rising order of zxid, each one once, and each follows the one before:
//! the next counter of the same epoch, or counter 1 of a later epoch. Anything else is a hole and refused. (A
//! failed write has a zxid and a record too, so a server leaves no holes.)
//!
//! **Repetition.** A zxid that was handed out before is not handed out again: it names the same txn (Z1), and
//! applying a txn again changes nothing (T1), so leaving it out and applying it, as Java does, end in the same
//! tree. It is accepted when the record is the same as before or is of type error; Java logs an undecodable
//! request as an error under the zxid of the txn before. Different txns under one zxid are refused.
//!
//! **The end of a file.** Servers never continue a file of an earlier run, so each crash may leave one torn file
//! anywhere in the list. Where reading a file ends, the next file that has a record decides:
//!
//! | how the file ends | next record continues directly | begins a new epoch, or there is none |
//! |---|---|---|
//! | zeros, or the file's end, after a record | fine | fine, unless a valid record stands behind: refused |
//! | record cut off by the file's end or by zeros (end byte 0) | cut, reported | cut, reported, unless a valid record stands behind: refused |
//! | complete record with a wrong checksum, wrong end byte, impossible length or too short for a txn | dropped, reported | refused |
//! | file of 0 bytes, part of a file header, or nothing but zeros | reported | reported, and removed when the log is opened for writing |
//! | wrong magic | refused | refused |
//!
//! "Continues directly" proves that some server started from exactly the good records of the torn file and that
//! clients have lived with it since; so whatever stands behind them was given up then. (Java gives up good
//! records behind a bad end byte without a word; that history is kept, and reported.) In all other cases a valid
//! record behind a damaged one means that something acknowledged may be lost, and the server does not start.
//!
//! A complete record with a wrong checksum in the last place is refused as in Java: the end byte is written with
//! the rest, so a tear does not explain it. A zero end byte is what a tear leaves in a preallocated file.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use oxkeeper_types::Zxid;

use crate::StorageError;
use crate::disk::{Disk, DiskFile, EntryKind, OpenMode};
use crate::layout::{VERSION_DIR, in_version_dir, parse_log_name};
use crate::log::BATCH_BYTES_MAX;
use crate::record::{self, END_BYTE, FILE_HEADER, LEAD_BYTES, MAGIC_BYTES, TXN_HEADER_BYTES, TYPE_ERROR};

/// What is taken for a length and what for damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// No txn, string or buffer is longer, in bytes. Memory is never taken for more than a file really holds,
    /// so this only tells a long one from a damaged length. It must not be below what a server may have
    /// written: `jute.maxbuffer` plus its extra size; a closeSession can be larger still.
    pub entry_bytes_max: u32,
}

impl Default for ReadLimits {
    fn default() -> ReadLimits {
        ReadLimits {
            entry_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// How many of the txns handed out last are remembered to recognise repetitions; the txns of a usual log file.
const REPETITION_WINDOW: usize = 100_000;
/// How much of a file is read at once.
const READ_BYTES: usize = 256 * 1024;

/// Whether `next` may stand directly after `last` in a log.
pub(crate) fn follows(last: Zxid, next: Zxid) -> bool {
    if next.epoch() == last.epoch() {
        next.0 == last.0.wrapping_add(1)
    } else {
        next > last && next.counter() == 1
    }
}

/// A txn as it stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEntry<'a> {
    /// Its place in the history.
    pub zxid: Zxid,
    /// Header, body and digest, for `wire` to decode. The checksum was right.
    pub bytes: &'a [u8],
}

/// Something that was left out of the history, for the server to tell its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub file: PathBuf,
    /// Where the good part of it ends, in bytes.
    pub offset: u64,
    /// Why it ends there.
    pub reason: String,
}

/// What reading the whole log has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// The newest txn, or where reading began when there is none.
    pub last_zxid: Zxid,
    /// How many txns were handed out.
    pub entries: u64,
    /// What was left out, oldest first.
    pub cuts: Vec<Cut>,
    /// How many records repeated a txn that had been handed out.
    pub repeated: u64,
    /// Paths of the newest files that hold no txn at all, to be removed before the log is written.
    pub(crate) recordless: Vec<String>,
    /// Paths of the files that hold a txn, oldest first, and where the good part of them ends.
    pub(crate) with_records: Vec<(String, u64)>,
}

/// Hands out the txns after a zxid, oldest first. See the module documentation for what it refuses.
pub struct LogReader {
    disk: Arc<dyn Disk>,
    limits: ReadLimits,
    /// Paths of the files not opened yet, oldest first.
    files: VecDeque<String>,
    current: Option<LogFile>,
    /// Entries up to this one are not wanted.
    after: Zxid,
    /// How the files before the current one ended, until a record shows what that means.
    ends: Vec<FileEnd>,
    /// Zxid, checksum and length of what was handed out last.
    recent: VecDeque<(Zxid, u32, u32)>,
    found: LogEnd,
}

/// Where and why reading a file ended.
struct FileEnd {
    path: String,
    offset: u64,
    why: EndKind,
    has_record: bool,
}

/// The rows of the table above.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum EndKind {
    Padding,
    Torn(&'static str),
    Damaged(String),
    NeverBegun(&'static str),
}

impl LogReader {
    /// A reader of what follows `after`: the files named from there on, and the one before them.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        limits: ReadLimits,
        after: Zxid,
    ) -> Result<LogReader, StorageError> {
        let mut files = log_files(&*disk)?;
        // A file named by a zxid up to after + 1 may hold wanted txns only if no later file is named so.
        let wanted = files
            .iter()
            .rposition(|&(zxid, _)| zxid.0 <= after.0)
            .unwrap_or(0);
        files.drain(..wanted);
        Ok(LogReader {
            disk,
            limits,
            files: files.into_iter().map(|(_, path)| path).collect(),
            current: None,
            after,
            ends: Vec::new(),
            recent: VecDeque::new(),
            found: LogEnd {
                last_zxid: after,
                ..LogEnd::default()
            },
        })
    }

    /// The next txn, `None` at the end of the log. After an error it must not be called again.
    ///
    /// # Errors
    /// A file cannot be read, or is damaged in a way that a crash does not explain.
    pub fn next_entry(&mut self) -> Result<Option<LogEntry<'_>>, StorageError> {
        loop {
            let Some(file) = &mut self.current else {
                match self.files.pop_front() {
                    Some(path) => self.open_file(path)?,
                    None => {
                        self.judge_ends(None)?;
                        return Ok(None);
                    }
                }
                continue;
            };
            match file.next_record(self.limits)? {
                Ok(record) => {
                    if self.is_wanted(record)? {
                        let file = self.current.as_ref().expect("a record was read from it");
                        return Ok(Some(LogEntry {
                            zxid: record.zxid,
                            bytes: file.entry(record),
                        }));
                    }
                }
                Err(why) => {
                    let file = self.current.take().expect("it was just read from");
                    self.ends.push(FileEnd {
                        path: file.path,
                        offset: file.offset,
                        why,
                        has_record: file.has_record,
                    });
                }
            }
        }
    }

    /// What was found, once [`LogReader::next_entry`] has returned `None`.
    ///
    /// # Panics
    /// When there is more to read: a log must not be continued in the middle.
    pub fn finish(self) -> LogEnd {
        assert!(
            self.current.is_none() && self.files.is_empty() && self.ends.is_empty(),
            "the log was not read to its end"
        );
        self.found
    }

    /// The error to stop with when the txn handed out last cannot be decoded although its checksum is right.
    pub fn refuse_entry(&self, what: &str) -> StorageError {
        let (path, offset) = match &self.current {
            Some(file) => (file.path.as_str(), file.record_offset),
            None => (VERSION_DIR, 0),
        };
        let what = format!("the txn {} cannot be understood ({what})", self.found.last_zxid);
        corrupt(&*self.disk, path, offset, what)
    }

    fn open_file(&mut self, path: String) -> Result<(), StorageError> {
        match LogFile::open(&*self.disk, path.clone())? {
            Ok(file) => self.current = Some(file),
            Err(why) => self.ends.push(FileEnd {
                path,
                offset: 0,
                why,
                has_record: false,
            }),
        }
        Ok(())
    }

    /// Decides over a valid record: hand it out, leave it out, or refuse the log.
    fn is_wanted(&mut self, record: Record) -> Result<bool, StorageError> {
        let last = self.found.last_zxid;
        if record.zxid <= self.after {
            return Ok(false);
        }
        if record.zxid <= last {
            let same = (record.zxid, record.checksum, record.length);
            if record.kind != TYPE_ERROR && !self.recent.contains(&same) {
                let what = format!(
                    "txn {} stands here a second time, but with another content",
                    record.zxid
                );
                return Err(self.corrupt_record(record, what));
            }
            self.found.repeated += 1;
            return Ok(false);
        }
        self.judge_ends(Some(record.zxid))?;
        if !follows(last, record.zxid) {
            let what = format!(
                "the log has a hole: txn {} stands after {last}, the txns between them are missing",
                record.zxid
            );
            return Err(self.corrupt_record(record, what));
        }
        if self.recent.len() == REPETITION_WINDOW {
            self.recent.pop_front();
        }
        self.recent
            .push_back((record.zxid, record.checksum, record.length));
        self.found.last_zxid = record.zxid;
        self.found.entries += 1;
        Ok(true)
    }

    fn corrupt_record(&self, record: Record, what: String) -> StorageError {
        let path = self
            .current
            .as_ref()
            .map_or(VERSION_DIR, |file| file.path.as_str());
        corrupt(&*self.disk, path, record.offset, what)
    }

    /// Decides over the ends of the files before the record `next`, or of all files.
    fn judge_ends(&mut self, next: Option<Zxid>) -> Result<(), StorageError> {
        let last = self.found.last_zxid;
        let continued = next.is_some_and(|next| next.epoch() == last.epoch() && follows(last, next));
        let ends = std::mem::take(&mut self.ends);
        let with_records = ends.iter().filter(|end| end.has_record);
        self.found
            .with_records
            .extend(with_records.map(|end| (end.path.clone(), end.offset)));
        if next.is_none() {
            let recordless = ends.iter().rev().take_while(|end| !end.has_record);
            self.found.recordless = recordless.map(|end| end.path.clone()).collect();
        }
        for end in ends {
            let reason = match &end.why {
                EndKind::Padding => None,
                EndKind::Torn(reason) | EndKind::NeverBegun(reason) => Some((*reason).to_owned()),
                EndKind::Damaged(what) => Some(what.clone()),
            };
            if !continued {
                if let EndKind::Damaged(what) = end.why {
                    return Err(corrupt(&*self.disk, &end.path, end.offset, what));
                }
                self.refuse_records_behind(&end, last, reason.as_deref())?;
            }
            if let Some(reason) = reason {
                self.found.cuts.push(Cut {
                    file: self.disk.full_path(&end.path),
                    offset: end.offset,
                    reason,
                });
            }
        }
        Ok(())
    }

    /// A valid record of a txn after `last` behind the end of the good part means that the part between is
    /// damaged, not torn.
    fn refuse_records_behind(
        &self,
        end: &FileEnd,
        last: Zxid,
        reason: Option<&str>,
    ) -> Result<(), StorageError> {
        let mut window = Window::open(&*self.disk, &end.path)?;
        if let Some((offset, zxid)) = window.find_record(end.offset, self.limits, last)? {
            let what = format!(
                "the record after txn {last} is damaged ({}), but the valid txn {zxid} stands behind it at \
                 offset {offset}",
                reason.unwrap_or("zeros")
            );
            return Err(corrupt(&*self.disk, &end.path, end.offset, what));
        }
        Ok(())
    }
}

/// The error about a place in a log, with what an operator can do.
fn corrupt(disk: &dyn Disk, path: &str, offset: u64, what: String) -> StorageError {
    let file = disk.full_path(path);
    let remedy = format!(
        "Restore the data directory from a backup; a member of an ensemble may instead be started with empty \
         directories and copies the state from the leader. To give up this txn and all later ones: \
         `truncate -s {offset} {}` and move the later log files and snapshots away",
        file.display()
    );
    StorageError::Corrupt {
        file,
        offset,
        what,
        remedy,
    }
}

/// Zxids and paths of all log files, oldest first.
pub(crate) fn log_files(disk: &dyn Disk) -> Result<Vec<(Zxid, String)>, StorageError> {
    let names = disk
        .list(VERSION_DIR)
        .map_err(StorageError::io(&disk.full_path(VERSION_DIR), "list"))?;
    let mut files: Vec<(Zxid, String)> = names
        .iter()
        .filter_map(|name| Some((parse_log_name(name)?, in_version_dir(name))))
        .collect();
    files.sort();
    Ok(files)
}

/// Removes a recordless file whose name a new log file needs.
///
/// # Errors
/// It holds a txn: then whoever opened the log did not read it.
pub(crate) fn make_way_for(disk: &Arc<dyn Disk>, limits: ReadLimits, path: &str) -> Result<(), StorageError> {
    let full = disk.full_path(path);
    if disk
        .kind(path)
        .map_err(StorageError::io(&full, "examine"))?
        .is_none()
    {
        return Ok(());
    }
    let mut window = Window::open(&**disk, path)?;
    if let Some((offset, zxid)) = window.find_record(0, limits, Zxid(0))? {
        return Err(StorageError::Corrupt {
            file: full,
            offset,
            what: format!("a new log file needs this name, but the file holds txn {zxid}"),
            remedy: "Another server may be writing here; stop it and start this one again".to_owned(),
        });
    }
    disk.remove(path).map_err(StorageError::io(&full, "remove"))
}

/// What to do to take the newest txns off the log. Files are named without their directory.
pub(crate) struct CutPlan {
    /// The newest txn that stays.
    pub(crate) last: Zxid,
    /// The oldest one that goes.
    pub(crate) next: Option<Zxid>,
    /// The file with both kinds, and where the first that goes stands.
    pub(crate) cut: Option<(String, u64)>,
    /// The files to remove, newest first.
    pub(crate) removed: Vec<String>,
}

/// Finds the txns after `zxid` in a log that is read from `base` on, the zxid of a snapshot up to it.
///
/// # Errors
/// The log cannot be read that far.
pub(crate) fn plan_cut(
    disk: &Arc<dyn Disk>,
    limits: ReadLimits,
    base: Zxid,
    zxid: Zxid,
) -> Result<CutPlan, StorageError> {
    let mut reader = LogReader::open(disk.clone(), limits, base)?;
    let mut plan = CutPlan {
        last: base,
        next: None,
        cut: None,
        removed: Vec::new(),
    };
    while let Some(entry) = reader.next_entry()? {
        if entry.zxid <= zxid {
            plan.last = entry.zxid;
            continue;
        }
        plan.next = Some(entry.zxid);
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        plan.removed = reader.files.iter().rev().map(|path| name(path)).collect();
        let file = reader.current.as_ref().expect("an entry was read from it");
        if file.record_offset == FILE_HEADER.len() as u64 {
            plan.removed.push(name(&file.path));
        } else {
            plan.cut = Some((name(&file.path), file.record_offset));
        }
        break;
    }
    Ok(plan)
}

/// Makes durable what was read. A process that was killed leaves txns that can be read but were not synced; after
/// a failed sync they can even be read from a cache that takes itself for synced. What comes next will rest on
/// them, so the end of the newest file, more than a batch, is written again as it is.
pub(crate) fn make_durable(disk: &dyn Disk, end: &LogEnd) -> Result<(), StorageError> {
    for (at, (path, length)) in end.with_records.iter().enumerate() {
        let full = disk.full_path(path);
        let file = disk
            .open(path, OpenMode::Write)
            .map_err(StorageError::io(&full, "open"))?;
        if at + 1 == end.with_records.len() {
            let mut offset = length.saturating_sub(2 * BATCH_BYTES_MAX as u64);
            let mut bytes = vec![0; READ_BYTES];
            while offset < *length {
                let count = usize::try_from(length - offset)
                    .unwrap_or(READ_BYTES)
                    .min(READ_BYTES);
                let count = file
                    .read_at(offset, &mut bytes[..count])
                    .map_err(StorageError::io(&full, "read"))?;
                if count == 0 {
                    let shrunk = io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "it became shorter while it was read",
                    );
                    return Err(StorageError::io(&full, "read")(shrunk));
                }
                file.write_at(offset, &bytes[..count])
                    .map_err(StorageError::io(&full, "write to"))?;
                offset += count as u64;
            }
        }
        file.sync_data().map_err(StorageError::io(&full, "sync"))?;
    }
    disk.sync_dir(VERSION_DIR)
        .map_err(StorageError::io(&disk.full_path(VERSION_DIR), "sync"))
}

/// A file that is being read.
pub(crate) struct LogFile {
    path: String,
    window: Window,
    /// Where the next record begins.
    offset: u64,
    /// Where the last one began.
    record_offset: u64,
    has_record: bool,
}

/// Where a valid record stands and what it is.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    offset: u64,
    /// Of the entry, in bytes.
    pub(crate) length: u32,
    checksum: u32,
    pub(crate) zxid: Zxid,
    kind: i32,
}

impl Record {
    fn entry_offset(self) -> u64 {
        self.offset + LEAD_BYTES
    }
}

impl LogFile {
    /// Opens the file before its first record, or tells why it has none: it was never begun.
    pub(crate) fn open(disk: &dyn Disk, path: String) -> Result<Result<LogFile, EndKind>, StorageError> {
        let window = Window::open(disk, &path)?;
        let mut file = LogFile {
            path,
            window,
            offset: 0,
            record_offset: 0,
            has_record: false,
        };
        Ok(match file.read_header(disk)? {
            None => Ok(file),
            Some(why) => Err(why),
        })
    }

    /// The entry of the record that was read last.
    pub(crate) fn entry(&self, record: Record) -> &[u8] {
        self.window.bytes(record.entry_offset(), record.length as usize)
    }

    /// Checks the file header; `Some` when the file was never begun.
    fn read_header(&mut self, disk: &dyn Disk) -> Result<Option<EndKind>, StorageError> {
        let header_bytes = FILE_HEADER.len();
        if self.window.length == 0 {
            return Ok(Some(EndKind::NeverBegun("the file is empty")));
        }
        let present = header_bytes.min(usize::try_from(self.window.length).unwrap_or(header_bytes));
        self.window.fill(0, present)?;
        let head = self.window.bytes(0, present);
        if present == header_bytes && head[..MAGIC_BYTES] == FILE_HEADER[..MAGIC_BYTES] {
            self.offset = header_bytes as u64;
            return Ok(None);
        }
        // A tear leaves a part of the header, and zeros behind it if the file was already lengthened.
        let equal = head.iter().zip(FILE_HEADER).take_while(|&(&a, b)| a == b).count();
        if head[equal..].iter().all(|&byte| byte == 0) && self.window.first_non_zero(equal as u64)?.is_none()
        {
            return Ok(Some(EndKind::NeverBegun(
                "the file header is torn, nothing follows it",
            )));
        }
        let what = if present < header_bytes {
            format!("the file has {present} bytes that are not the begin of a log")
        } else {
            "it does not begin with ZKLG as every log does".to_owned()
        };
        Err(corrupt(disk, &self.path, 0, what))
    }

    /// The next valid record, or why there is none.
    pub(crate) fn next_record(
        &mut self,
        limits: ReadLimits,
    ) -> Result<Result<Record, EndKind>, StorageError> {
        let record = self.window.record_at(self.offset, limits)?;
        if let Ok(record) = &record {
            self.record_offset = record.offset;
            self.offset = record.entry_offset() + u64::from(record.length) + 1;
            self.has_record = true;
        }
        Ok(record)
    }
}

/// A part of a file in memory, moved forward as it is read.
struct Window {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// The length of the file when it was opened.
    length: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn open(disk: &dyn Disk, path: &str) -> Result<Window, StorageError> {
        let full = disk.full_path(path);
        let file = disk
            .open(path, OpenMode::Read)
            .map_err(StorageError::io(&full, "open"))?;
        let length = file.length().map_err(StorageError::io(&full, "examine"))?;
        Ok(Window {
            file,
            path: full,
            length,
            start: 0,
            bytes: Vec::new(),
        })
    }

    /// Has `count` bytes from `offset` in memory. They must be there: `offset + count <= length`.
    fn fill(&mut self, offset: u64, count: usize) -> Result<(), StorageError> {
        assert!(
            offset + count as u64 <= self.length,
            "only what the file holds is read"
        );
        if offset >= self.start && offset + count as u64 <= self.start + self.bytes.len() as u64 {
            return Ok(());
        }
        let wanted = count.max(READ_BYTES);
        let left = usize::try_from(self.length - offset).unwrap_or(usize::MAX);
        self.bytes.resize(wanted.min(left), 0);
        self.start = offset;
        let read = self
            .file
            .read_at(offset, &mut self.bytes)
            .map_err(StorageError::io(&self.path, "read"))?;
        self.bytes.truncate(read);
        if read < count {
            let shrunk = io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it became shorter while it was read",
            );
            return Err(StorageError::io(&self.path, "read")(shrunk));
        }
        Ok(())
    }

    /// `count` bytes at `offset`, which [`Window::fill`] has brought in.
    fn bytes(&self, offset: u64, count: usize) -> &[u8] {
        let begin = usize::try_from(offset - self.start).expect("the window holds it");
        &self.bytes[begin..begin + count]
    }

    fn first_non_zero(&mut self, from: u64) -> Result<Option<u64>, StorageError> {
        let mut offset = from;
        while offset < self.length {
            self.fill(offset, 1)?;
            let begin = usize::try_from(offset - self.start).expect("the window holds it");
            match self.bytes[begin..].iter().position(|&byte| byte != 0) {
                Some(position) => return Ok(Some(offset + position as u64)),
                None => offset = self.start + self.bytes.len() as u64,
            }
        }
        Ok(None)
    }

    /// Checksum word and length at `offset`.
    fn lead_at(&mut self, offset: u64) -> Result<(u64, i32), StorageError> {
        self.fill(offset, 12)?;
        let lead = self.bytes(offset, 12);
        let checksum = u64::from_be_bytes(lead[..8].try_into().expect("8 bytes"));
        let length = i32::from_be_bytes(lead[8..].try_into().expect("4 bytes"));
        Ok((checksum, length))
    }

    /// The valid record at `offset`, or why there is none.
    fn record_at(
        &mut self,
        offset: u64,
        limits: ReadLimits,
    ) -> Result<Result<Record, EndKind>, StorageError> {
        let left = self.length - offset;
        if left < LEAD_BYTES {
            let count = usize::try_from(left).expect("less than 12");
            self.fill(offset, count)?;
            let zeros = self.bytes(offset, count).iter().all(|&byte| byte == 0);
            return Ok(Err(if zeros {
                EndKind::Padding
            } else {
                EndKind::Torn("the file ends inside a record's checksum or length")
            }));
        }
        let (checksum, length) = self.lead_at(offset)?;
        if length == 0 {
            return Ok(Err(if checksum == 0 {
                EndKind::Padding
            } else {
                EndKind::Torn("the last record ends after its checksum")
            }));
        }
        let length = match u32::try_from(length) {
            Ok(length) if length <= limits.entry_bytes_max => length,
            _ => {
                return Ok(Err(EndKind::Damaged(format!(
                    "a record claims a length of {length} bytes, but the limit is {}",
                    limits.entry_bytes_max
                ))));
            }
        };
        if left - LEAD_BYTES < u64::from(length) + 1 {
            return Ok(Err(EndKind::Torn("the file ends inside a record")));
        }
        self.fill(offset, 12 + length as usize + 1)?;
        let entry = self.bytes(offset + LEAD_BYTES, length as usize);
        let end_byte = self.bytes(offset + LEAD_BYTES + u64::from(length), 1)[0];
        if end_byte == 0 {
            return Ok(Err(EndKind::Torn("the last record has no end byte")));
        }
        let actual = record::checksum(entry);
        if end_byte != END_BYTE {
            let verdict = if checksum == u64::from(actual) {
                "right"
            } else {
                "wrong"
            };
            return Ok(Err(EndKind::Damaged(format!(
                "a record ends with byte 0x{end_byte:02x} instead of 0x42 (its checksum is {verdict})"
            ))));
        }
        if checksum != u64::from(actual) {
            return Ok(Err(EndKind::Damaged(format!(
                "a record's checksum is 0x{actual:x}, but 0x{checksum:x} was written"
            ))));
        }
        let Some((zxid, kind)) = record::zxid_and_type(entry) else {
            return Ok(Err(EndKind::Damaged(format!(
                "a record of {length} bytes is too short for a txn"
            ))));
        };
        Ok(Ok(Record {
            offset,
            length,
            checksum: actual,
            zxid,
            kind,
        }))
    }

    /// The first place at or behind `from` where a valid record of a txn after `last` stands, whether or not it
    /// is where a record could begin.
    fn find_record(
        &mut self,
        from: u64,
        limits: ReadLimits,
        last: Zxid,
    ) -> Result<Option<(u64, Zxid)>, StorageError> {
        let shortest = LEAD_BYTES + TXN_HEADER_BYTES as u64 + 1;
        let mut offset = from;
        while offset + shortest <= self.length {
            let (checksum, length) = self.lead_at(offset)?;
            if checksum == 0 && length == 0 {
                // The length of a record is not 0: it begins at most 11 bytes before the next byte that is not.
                match self.first_non_zero(offset)? {
                    Some(non_zero) => offset = non_zero.saturating_sub(11).max(offset + 1),
                    None => return Ok(None),
                }
                continue;
            }
            let plausible = checksum >> 32 == 0
                && usize::try_from(length).is_ok_and(|length| length >= TXN_HEADER_BYTES)
                && u64::from(length.unsigned_abs()) < self.length - offset - LEAD_BYTES;
            if plausible
                && let Ok(record) = self.record_at(offset, limits)?
                && record.zxid > last
            {
                return Ok(Some((offset, record.zxid)));
            }
            offset += 1;
        }
        Ok(None)
    }
}

/// Whether there is any log file with a txn in its name.
pub(crate) fn has_log_files(disk: &dyn Disk) -> Result<bool, StorageError> {
    match disk
        .kind(VERSION_DIR)
        .map_err(StorageError::io(&disk.full_path(VERSION_DIR), "examine"))?
    {
        Some(EntryKind::Directory) => Ok(!log_files(disk)?.is_empty()),
        _ => Ok(false),
    }
}
