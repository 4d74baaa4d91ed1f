//! Snapshots as files (storage spec, section 6): written as a stream that becomes a file in one step, read as a
//! stream into a [`SnapshotSink`], with all seals checked and memory bounded by the largest record (B2).
//!
//! A snapshot is written under a name that neither Java nor we take for a snapshot, synced, renamed, and its
//! directory synced (D3). Java writes in place; a crash there leaves half a snapshot under its final name, which
//! the probe and the seals tell when it is read.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use oxkeeper_types::{Acl, SessionId, StoredStat, Zxid};
use oxkeeper_wire::{
    DecodeError, Decoder, Encoder, FileHeader, SNAPSHOT_END, SNAPSHOT_MAGIC, SnapshotDigest,
    decode_acl_entry, decode_seal, decode_session, decode_znode, encode_acl_entry, encode_seal,
    encode_session, encode_znode,
};
use simd_adler32::Adler32;

use crate::StorageError;
use crate::change::{Histories, HistoryId};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::layout::{
    Compression, VERSION_DIR, parse_snapshot_name, set_aside_path, snapshot_path, unfinished_path,
};
use crate::log_reader::ReadLimits;

/// How much of a file is read or written at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// What snappy-java begins with: its magic, version 1, oldest version that can read it 1.
const SNAPPY_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// How much snappy-java compresses at once.
const SNAPPY_BLOCK_BYTES: usize = 32 * 1024;
/// A longer block, compressed or not, is taken for damage; snappy-java's are [`SNAPPY_BLOCK_BYTES`].
const SNAPPY_BLOCK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The zxid of the last section and its seal.
const LAST_ZXID_SECTION_BYTES: usize = 21;
/// Longer than all sections behind the first seal together.
const TAIL_BYTES_MAX: usize = 4096;

/// A snapshot that is being written. It is a file only after [`SnapshotWriter::finish`]; dropped before, what
/// was written is removed.
///
/// [`SnapshotWriter::znode`] does no I/O, so that it can be called while the tree is held; between the holds
/// [`SnapshotWriter::write_out`] writes. Whoever calls may wait between the two to spare the disk.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    histories: Histories,
    history: HistoryId,
    unfinished: String,
    path: String,
    zxid: Zxid,
    /// What is encoded and not written yet.
    buffer: Vec<u8>,
    checksum: Adler32,
    /// How many bytes were written, before compression.
    written: u64,
    out: Compressor,
    is_finished: bool,
}

/// A finished snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// The file.
    pub path: PathBuf,
    /// The zxid in its name: the state holds all txns up to it, and possibly effects of later ones.
    pub zxid: Zxid,
    /// Its length in bytes.
    pub length: u64,
}

/// A whole snapshot from another server, synced but not part of this server's state: no start looks at it, and the
/// next one removes it. It becomes the state by [`crate::Storage::install`]; dropped before, it is removed.
///
/// Its sections are still to be written: which txn's digest the state fits is known when it is installed.
pub struct SetAside {
    writer: SnapshotWriter,
    digest: Option<SnapshotDigest>,
}

impl SetAside {
    /// The zxid it was begun with: the state holds all txns up to it, and possibly effects of later ones.
    pub fn zxid(&self) -> Zxid {
        self.writer.zxid
    }

    /// The history that begins with it.
    pub fn history(&self) -> HistoryId {
        self.writer.history
    }

    /// Writes and syncs what is missing. `later` is the digest of the newest txn that was replayed on the state: by
    /// then it has no effects of txns to come.
    pub(crate) fn complete(&mut self, later: Option<SnapshotDigest>) -> Result<(), StorageError> {
        let digest = self.digest.map(|digest| later.unwrap_or(digest));
        // Java reads the section of the last zxid, too, and warns when it is not there.
        self.writer.end(digest, Some(self.writer.zxid))?;
        Ok(())
    }

    /// The name of its file, which is no longer removed.
    pub(crate) fn release(&mut self) -> &str {
        self.writer.is_finished = true;
        &self.writer.unfinished
    }
}

impl SnapshotWriter {
    /// Begins the snapshot named `zxid` with sessions (and their timeouts in ms) and ACL lists by key.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn begin<A: AsRef<[Acl]>>(
        disk: &Arc<dyn Disk>,
        histories: &Histories,
        history: HistoryId,
        zxid: Zxid,
        compression: Compression,
        sessions: impl ExactSizeIterator<Item = (SessionId, i32)>,
        acls: impl ExactSizeIterator<Item = (i64, A)>,
    ) -> Result<SnapshotWriter, StorageError> {
        let unfinished = unfinished_path(zxid, compression);
        let mut writer = SnapshotWriter::create(disk, histories, history, zxid, compression, unfinished)?;
        let mut encoder = Encoder::new(&mut writer.buffer);
        encoder.length(sessions.len());
        for (session, timeout_ms) in sessions {
            encode_session(&mut encoder, session, timeout_ms);
        }
        encoder.length(acls.len());
        for (key, acl) in acls {
            encode_acl_entry(&mut encoder, key, acl.as_ref());
        }
        Ok(writer)
    }

    /// Begins a snapshot from another server, with which `history` will begin, without any record. They come
    /// encoded, by [`SnapshotWriter::records`], and it ends with [`SnapshotWriter::set_aside`].
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn begin_set_aside(
        disk: &Arc<dyn Disk>,
        histories: &Histories,
        history: HistoryId,
        zxid: Zxid,
        compression: Compression,
    ) -> Result<SnapshotWriter, StorageError> {
        let unfinished = set_aside_path(history, compression);
        SnapshotWriter::create(disk, histories, history, zxid, compression, unfinished)
    }

    fn create(
        disk: &Arc<dyn Disk>,
        histories: &Histories,
        history: HistoryId,
        zxid: Zxid,
        compression: Compression,
        unfinished: String,
    ) -> Result<SnapshotWriter, StorageError> {
        assert!(zxid >= Zxid::ZERO, "a snapshot cannot be named {zxid}");
        let full = disk.full_path(&unfinished);
        let file = disk
            .open(&unfinished, OpenMode::Create)
            .map_err(StorageError::io(&full, "create"))?;
        let mut writer = SnapshotWriter {
            disk: disk.clone(),
            histories: histories.clone(),
            history,
            unfinished,
            path: snapshot_path(zxid, compression),
            zxid,
            buffer: Vec::with_capacity(CHUNK_BYTES),
            checksum: Adler32::new(),
            written: 0,
            out: Compressor::new(compression, FileOut::new(file)),
            is_finished: false,
        };
        FileHeader::SNAPSHOT.encode(&mut Encoder::new(&mut writer.buffer));
        Ok(writer)
    }

    /// Adds a znode, to memory only. Parents come before their children; the root's path is empty.
    pub fn znode(&mut self, path: &str, data: Option<&[u8]>, acl_key: i64, stat: &StoredStat) {
        assert!(path != "/", "the path of the root is empty in snapshots");
        encode_znode(&mut Encoder::new(&mut self.buffer), path, data, acl_key, stat);
    }

    /// Adds records that are encoded already, to memory only: counts and sessions, ACL lists and znodes, as they
    /// stand in a snapshot, without the end of the znodes.
    pub fn records(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes wait for [`SnapshotWriter::write_out`].
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// How many bytes the snapshot has so far, before compression.
    pub fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Writes what waits in memory.
    ///
    /// # Errors
    /// The file cannot be written. The snapshot cannot be finished then; it is to be dropped.
    pub fn write_out(&mut self) -> Result<(), StorageError> {
        self.checksum.write(&self.buffer);
        self.written += self.buffer.len() as u64;
        let written = self.out.write_all(&self.buffer);
        self.buffer.clear();
        self.buffer.shrink_to(CHUNK_BYTES);
        written.map_err(StorageError::io(
            &self.disk.full_path(&self.unfinished),
            "write to",
        ))
    }

    /// Ends the znodes, adds the sections that are given, and makes it a snapshot that survives a power loss. When
    /// another history was put on disk meanwhile, nothing comes of it, and the answer is `None`.
    ///
    /// # Errors
    /// The file cannot be written, synced or renamed. No snapshot has come to be then.
    pub fn finish(
        mut self,
        digest: Option<SnapshotDigest>,
        last_zxid: Option<Zxid>,
    ) -> Result<Option<SnapshotFile>, StorageError> {
        self.end_znodes()?;
        let length = self.end(digest, last_zxid)?;
        let histories = self.histories.clone();
        let known = histories.lock();
        if known.current != self.history {
            return Ok(None);
        }
        let path = self.disk.full_path(&self.path);
        self.disk
            .rename(&self.unfinished, &self.path)
            .map_err(StorageError::io(&path, "rename the finished snapshot to"))?;
        self.is_finished = true;
        self.disk
            .sync_dir(VERSION_DIR)
            .map_err(StorageError::io(&self.disk.full_path(VERSION_DIR), "sync"))?;
        Ok(Some(SnapshotFile {
            path,
            zxid: self.zxid,
            length,
        }))
    }

    /// Ends the znodes and syncs them, but makes no snapshot of this server of them yet. `digest` is that of the state
    /// if it has no effects of txns after its zxid; `None` when digests are off.
    ///
    /// # Errors
    /// The file cannot be written or synced.
    pub fn set_aside(mut self, digest: Option<SnapshotDigest>) -> Result<SetAside, StorageError> {
        self.end_znodes()?;
        let unfinished = self.disk.full_path(&self.unfinished);
        self.out.sync().map_err(StorageError::io(&unfinished, "sync"))?;
        Ok(SetAside { writer: self, digest })
    }

    fn end_znodes(&mut self) -> Result<(), StorageError> {
        Encoder::new(&mut self.buffer).raw(&SNAPSHOT_END);
        self.seal()?;
        self.write_out()
    }

    /// Adds the sections behind the znodes and syncs the content; returns its length in bytes.
    fn end(&mut self, digest: Option<SnapshotDigest>, last_zxid: Option<Zxid>) -> Result<u64, StorageError> {
        if let Some(digest) = digest {
            digest.encode(&mut Encoder::new(&mut self.buffer));
            self.seal()?;
        }
        if let Some(zxid) = last_zxid {
            Encoder::new(&mut self.buffer).long(zxid.0);
            self.seal()?;
        }
        self.write_out()?;
        let unfinished = self.disk.full_path(&self.unfinished);
        let out = self
            .out
            .finish()
            .map_err(StorageError::io(&unfinished, "write to"))?;
        out.file
            .sync_data()
            .map_err(StorageError::io(&unfinished, "sync"))?;
        Ok(out.offset)
    }

    fn seal(&mut self) -> Result<(), StorageError> {
        self.write_out()?;
        let checksum = self.checksum.finish();
        encode_seal(&mut Encoder::new(&mut self.buffer), checksum);
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            // On failure the file stays until the next start removes it; the error that led here is reported.
            let _ = self.disk.remove(&self.unfinished);
        }
    }
}

/// A file written from front to back.
struct FileOut {
    file: Box<dyn DiskFile>,
    offset: u64,
    buffer: Vec<u8>,
}

impl FileOut {
    fn new(file: Box<dyn DiskFile>) -> FileOut {
        FileOut {
            file,
            offset: 0,
            buffer: Vec::new(),
        }
    }
}

impl Write for FileOut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.offset, &self.buffer)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

enum Compressor {
    None(FileOut),
    Gzip(GzEncoder<FileOut>),
    Snappy(Box<SnappyOut>),
    /// The file was taken out.
    Finished,
}

impl Compressor {
    fn new(compression: Compression, out: FileOut) -> Compressor {
        match compression {
            Compression::None => Compressor::None(out),
            Compression::Gzip => Compressor::Gzip(GzEncoder::new(out, flate2::Compression::default())),
            Compression::Snappy => Compressor::Snappy(Box::new(SnappyOut::new(out))),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Compressor::None(out) => out.write_all(bytes),
            Compressor::Gzip(out) => out.write_all(bytes),
            Compressor::Snappy(out) => out.write_all(bytes),
            Compressor::Finished => unreachable!("nothing is written to a finished snapshot"),
        }
    }

    /// Makes what has left the compressor durable.
    fn sync(&mut self) -> io::Result<()> {
        let out = match self {
            Compressor::None(out) => out,
            Compressor::Gzip(out) => out.get_mut(),
            Compressor::Snappy(out) => &mut out.out,
            Compressor::Finished => unreachable!("a finished snapshot is synced"),
        };
        out.flush()?;
        out.file.sync_data()
    }

    fn finish(&mut self) -> io::Result<FileOut> {
        let mut out = match std::mem::replace(self, Compressor::Finished) {
            Compressor::None(out) => out,
            Compressor::Gzip(out) => out.finish()?,
            Compressor::Snappy(out) => out.finish()?,
            Compressor::Finished => unreachable!("a snapshot is finished once"),
        };
        out.flush()?;
        Ok(out)
    }
}

/// The stream of snappy-java: a header, then blocks of a length and a raw snappy block.
struct SnappyOut {
    out: FileOut,
    block: Vec<u8>,
    encoder: snap::raw::Encoder,
}

impl SnappyOut {
    fn new(mut out: FileOut) -> SnappyOut {
        out.buffer.extend_from_slice(&SNAPPY_HEADER);
        SnappyOut {
            out,
            block: Vec::with_capacity(SNAPPY_BLOCK_BYTES),
            encoder: snap::raw::Encoder::new(),
        }
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(SNAPPY_BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == SNAPPY_BLOCK_BYTES {
                self.end_block()?;
            }
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let compressed = self.encoder.compress_vec(&self.block)?;
        let length = u32::try_from(compressed.len()).expect("a block of 32 KiB stays small");
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(&compressed)?;
        self.block.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<FileOut> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        Ok(self.out)
    }
}

/// Takes in what a snapshot holds. An error says what is wrong with the record; the snapshot is damaged then.
pub trait SnapshotSink {
    /// A session and its timeout.
    #[allow(clippy::missing_errors_doc, reason = "the trait says it")]
    fn session(&mut self, session: SessionId, timeout_ms: i32) -> Result<(), String>;
    /// An ACL list and the key that znodes have for it.
    #[allow(clippy::missing_errors_doc, reason = "the trait says it")]
    fn acl(&mut self, key: i64, acl: Vec<Acl>) -> Result<(), String>;
    /// A znode; its parent came before. The root's path is empty. Its ACL key may be of a list that the fuzzy
    /// snapshot missed; the log has it then.
    #[allow(clippy::missing_errors_doc, reason = "the trait says it")]
    fn znode(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl_key: i64,
        stat: &StoredStat,
    ) -> Result<(), String>;
}

/// What a snapshot holds besides sessions, ACL lists and znodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotTail {
    /// How many znodes there were.
    pub znodes: u64,
    /// The digest section, if there is one.
    pub digest: Option<SnapshotDigest>,
    /// The zxid the server had processed when the snapshot was finished, if it is there.
    pub last_zxid: Option<Zxid>,
}

impl SnapshotTail {
    /// The newest txn that the snapshot may have an effect of, as far as it says so.
    pub fn walk_end(&self) -> Zxid {
        let of_digest = self.digest.map_or(Zxid::ZERO, |digest| digest.zxid);
        self.last_zxid.unwrap_or(Zxid::ZERO).max(of_digest)
    }
}

/// Reads the snapshot at `path` into `sink`, which must be thrown away on an error.
///
/// # Errors
/// The file cannot be read, is damaged, or `sink` does not take a record.
pub fn read_snapshot(
    disk: &dyn Disk,
    path: &str,
    limits: ReadLimits,
    sink: &mut impl SnapshotSink,
) -> Result<SnapshotTail, StorageError> {
    let mut input = RecordReader::open(disk, path, limits)?;
    let header = input.record(FileHeader::decode)?;
    if header.magic != SNAPSHOT_MAGIC {
        return Err(input.corrupt("it does not begin with ZKSN as every snapshot does".to_owned()));
    }
    let sessions = input.record(|decoder| decoder.int())?;
    for _ in 0..sessions {
        let (session, timeout_ms) = input.record(decode_session)?;
        input.take(sink.session(session, timeout_ms))?;
    }
    let acls = input.record(|decoder| decoder.int())?;
    for _ in 0..acls {
        let (key, acl) = input.record(decode_acl_entry)?;
        input.take(sink.acl(key, acl))?;
    }
    let mut tail = SnapshotTail::default();
    loop {
        let taken = input.record(|decoder| {
            let record = decode_znode(decoder)?;
            Ok(record.map(|znode| sink.znode(&znode.path, znode.data, znode.acl_key, &znode.stat)))
        })?;
        match taken {
            Some(taken) => input.take(taken)?,
            None => break,
        }
        tail.znodes += 1;
    }
    input.seal()?;
    // What follows depends on the release and settings of the server that wrote it; its length tells.
    let left = input.left_at_most(TAIL_BYTES_MAX)?;
    if left > 0 && left != LAST_ZXID_SECTION_BYTES {
        tail.digest = Some(input.record(SnapshotDigest::decode)?);
        input.seal()?;
    }
    if input.left_at_most(1)? > 0 {
        tail.last_zxid = Some(Zxid(input.record(|decoder| decoder.long())?));
        input.seal()?;
    }
    Ok(tail)
}

/// The cheap test whether a file may be a whole snapshot; the same as Java's.
pub(crate) fn is_plausible(
    disk: &dyn Disk,
    path: &str,
    compression: Compression,
) -> Result<bool, StorageError> {
    let full = disk.full_path(path);
    let file = disk
        .open(path, OpenMode::Read)
        .map_err(StorageError::io(&full, "open"))?;
    let length = file.length().map_err(StorageError::io(&full, "examine"))?;
    let mut bytes = [0; 8];
    let (offset, expected): (u64, &[u8]) = match compression {
        Compression::None if length < 10 => return Ok(false),
        Compression::None => (length - SNAPSHOT_END.len() as u64, &SNAPSHOT_END),
        Compression::Gzip => (0, &[0x1f, 0x8b]),
        Compression::Snappy => (0, &SNAPPY_HEADER[..8]),
    };
    let bytes = &mut bytes[..expected.len()];
    let read = file
        .read_at(offset, bytes)
        .map_err(StorageError::io(&full, "read"))?;
    Ok(&bytes[..read] == expected)
}

/// Reads one record after the other, with the checksum of all of them.
struct RecordReader {
    full: PathBuf,
    input: Box<dyn Read>,
    limits: ReadLimits,
    /// Bytes that were read; those before `start` are decoded.
    buffer: Vec<u8>,
    start: usize,
    /// How many bytes are decoded.
    offset: u64,
    checksum: Adler32,
    is_at_end: bool,
}

impl RecordReader {
    fn open(disk: &dyn Disk, path: &str, limits: ReadLimits) -> Result<RecordReader, StorageError> {
        let full = disk.full_path(path);
        let name = path.rsplit('/').next().unwrap_or(path);
        // A file of another name, as a tool may be given one, tells its compression in the same way.
        let compression = match parse_snapshot_name(name) {
            Some((_, compression)) => compression,
            None => Compression::from_setting(name.rsplit('.').next().unwrap_or_default()),
        };
        let file = disk
            .open(path, OpenMode::Read)
            .map_err(StorageError::io(&full, "open"))?;
        let file = io::BufReader::with_capacity(CHUNK_BYTES, FileIn { file, offset: 0 });
        let input: Box<dyn Read> = match compression {
            Compression::None => Box::new(file),
            Compression::Gzip => Box::new(GzDecoder::new(file)),
            Compression::Snappy => Box::new(SnappyIn::new(file)),
        };
        Ok(RecordReader {
            full,
            input,
            limits,
            buffer: Vec::new(),
            start: 0,
            offset: 0,
            checksum: Adler32::new(),
            is_at_end: false,
        })
    }

    /// The next record. `decode` may be called several times, each time with more bytes, until it has enough.
    fn record<T>(
        &mut self,
        mut decode: impl FnMut(&mut Decoder<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, StorageError> {
        loop {
            let unread = &self.buffer[self.start..];
            let mut decoder = Decoder::new(unread);
            match decode(&mut decoder) {
                Ok(value) => {
                    let decoded = unread.len() - decoder.remaining();
                    self.checksum.write(&unread[..decoded]);
                    self.start += decoded;
                    self.offset += decoded as u64;
                    return Ok(value);
                }
                Err(DecodeError::Short { .. }) if !self.is_at_end => {
                    if unread.len() > self.limits.entry_bytes_max as usize {
                        let limit = self.limits.entry_bytes_max;
                        return Err(
                            self.corrupt(format!("a record is longer than the limit of {limit} bytes"))
                        );
                    }
                    self.read_more()?;
                }
                Err(error) => return Err(self.corrupt(error.to_string())),
            }
        }
    }

    /// Checks the seal that must come next.
    fn seal(&mut self) -> Result<(), StorageError> {
        let actual = self.checksum.finish();
        let sealed = self.record(decode_seal)?;
        if sealed != actual {
            return Err(self.corrupt(format!(
                "the checksum of all bytes before is 0x{actual:x}, but 0x{sealed:x} was written"
            )));
        }
        Ok(())
    }

    /// How many bytes are left, as far as it is not more than `most`.
    fn left_at_most(&mut self, most: usize) -> Result<usize, StorageError> {
        while self.buffer.len() - self.start < most && !self.is_at_end {
            self.read_more()?;
        }
        Ok(most.min(self.buffer.len() - self.start))
    }

    /// Passes the sink's verdict on.
    fn take(&self, taken: Result<(), String>) -> Result<(), StorageError> {
        taken.map_err(|what| self.corrupt(what))
    }

    fn corrupt(&self, what: String) -> StorageError {
        StorageError::Corrupt {
            file: self.full.clone(),
            offset: self.offset,
            what,
            remedy: "If an older snapshot and all logs since then are there, move this file away; otherwise restore \
                     the data directory from a backup, or, on a member of an ensemble, start with empty directories"
                .to_owned(),
        }
    }

    /// Reads more, twice as much for each time in one record, so that a long one is not decoded too often.
    fn read_more(&mut self) -> Result<(), StorageError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let more = self.buffer.len().max(CHUNK_BYTES) as u64;
        match (&mut self.input).take(more).read_to_end(&mut self.buffer) {
            Ok(read) => {
                self.is_at_end = (read as u64) < more;
                Ok(())
            }
            // These come from the decompressors: a file of the system does not complain of its content.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Err(self.corrupt(format!("it cannot be decompressed ({error})")))
            }
            Err(error) => Err(StorageError::io(&self.full, "read")(error)),
        }
    }
}

/// A file read from front to back.
struct FileIn {
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl Read for FileIn {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(self.offset, buffer)?;
        self.offset += read as u64;
        Ok(read)
    }
}

struct SnappyIn<R> {
    input: R,
    has_header: bool,
    block: Vec<u8>,
    start: usize,
    compressed: Vec<u8>,
    decoder: snap::raw::Decoder,
}

impl<R: Read> SnappyIn<R> {
    fn new(input: R) -> SnappyIn<R> {
        SnappyIn {
            input,
            has_header: false,
            block: Vec::new(),
            start: 0,
            compressed: Vec::new(),
            decoder: snap::raw::Decoder::new(),
        }
    }

    /// Reads the next block; at the end of the file the block stays empty.
    fn next_block(&mut self) -> io::Result<()> {
        let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
        if !self.has_header {
            let mut header = [0; SNAPPY_HEADER.len()];
            self.input.read_exact(&mut header)?;
            if header[..8] != SNAPPY_HEADER[..8] {
                return Err(invalid("it does not begin as snappy-java does"));
            }
            self.has_header = true;
        }
        self.block.clear();
        self.start = 0;
        let mut length = [0; 4];
        if self.input.read(&mut length[..1])? == 0 {
            return Ok(());
        }
        self.input.read_exact(&mut length[1..])?;
        let length = u32::from_be_bytes(length) as usize;
        if length == 0 || length > SNAPPY_BLOCK_BYTES_MAX {
            return Err(invalid("a snappy block has an impossible length"));
        }
        // Memory grows with what is there, not with the length that was claimed.
        self.compressed.clear();
        (&mut self.input)
            .take(length as u64)
            .read_to_end(&mut self.compressed)?;
        if self.compressed.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let decompressed = snap::raw::decompress_len(&self.compressed)?;
        if decompressed > SNAPPY_BLOCK_BYTES_MAX {
            return Err(invalid("a snappy block claims an impossible length"));
        }
        self.block.resize(decompressed, 0);
        let actual = self.decoder.decompress(&self.compressed, &mut self.block)?;
        self.block.truncate(actual);
        if self.block.is_empty() {
            return Err(invalid("a snappy block is empty"));
        }
        Ok(())
    }
}

impl<R: Read> Read for SnappyIn<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.start == self.block.len() {
            self.next_block()?;
        }
        let unread = &self.block[self.start..];
        let count = unread.len().min(buffer.len());
        buffer[..count].copy_from_slice(&unread[..count]);
        self.start += count;
        Ok(count)
    }
}
