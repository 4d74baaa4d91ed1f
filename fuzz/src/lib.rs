//! What several targets need: files made of arbitrary bytes whose checksums are right, so that what is behind the
//! checksums is reached.

use std::sync::Arc;

use oxkeeper_storage::{SimDisk, Storage, StorageSettings};
use oxkeeper_types::Zxid;
use oxkeeper_wire::{Encoder, FileHeader, LOG_RECORD_END, SNAPSHOT_END, encode_seal};

/// Where the zxid of a txn begins in its entry.
const ZXID_OFFSET: usize = 12;

/// Splits `bytes` into pieces, each led by its length in two bytes; the last is as long as it can be.
pub fn pieces(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// A log of `entries` with right checksums. With `renumbered` their zxids are 1, 2, 3…, as a log's must be.
pub fn log(entries: &[&[u8]], renumbered: bool) -> Vec<u8> {
    let mut log = Vec::new();
    FileHeader::LOG.encode(&mut Encoder::new(&mut log));
    for (number, entry) in (1i64..).zip(entries) {
        let mut entry = entry.to_vec();
        if let Some(zxid) = entry.get_mut(ZXID_OFFSET..ZXID_OFFSET + 8).filter(|_| renumbered) {
            zxid.copy_from_slice(&number.to_be_bytes());
        }
        let mut encoder = Encoder::new(&mut log);
        encoder.long(adler2::adler32_slice(&entry).into());
        encoder.buffer(Some(&entry));
        encoder.byte(LOG_RECORD_END);
    }
    log
}

/// A snapshot of `records`, which should be sessions, ACL lists and znodes, without their end.
pub fn snapshot(records: &[u8]) -> Vec<u8> {
    let mut snapshot = Vec::new();
    FileHeader::SNAPSHOT.encode(&mut Encoder::new(&mut snapshot));
    snapshot.extend_from_slice(records);
    snapshot.extend_from_slice(&SNAPSHOT_END);
    let checksum = adler2::adler32_slice(&snapshot);
    encode_seal(&mut Encoder::new(&mut snapshot), checksum);
    snapshot
}

/// A data directory with these files in `version-2`.
pub fn disk(files: &[(&str, Vec<u8>)]) -> SimDisk {
    let disk = SimDisk::new(1);
    for (name, content) in files {
        disk.put(&format!("version-2/{name}"), content);
    }
    disk
}

/// The storage over `disk`; a log without a snapshot will do.
pub fn storage(disk: SimDisk) -> Storage {
    let settings = StorageSettings {
        trust_empty_snapshot: true,
        ..StorageSettings::default()
    };
    Storage::open(Arc::new(disk), None, settings).expect("the directory is fine, whatever is in it")
}

/// Reads the log from its beginning to its end or to what is refused, and tells how many txns there were.
pub fn read_log(storage: &Storage) -> Option<u64> {
    let mut reader = storage.read_log(Zxid::ZERO).ok()?;
    let mut count = 0;
    let mut last = Zxid::ZERO;
    while let Some(entry) = reader.next_entry().ok()? {
        assert!(entry.zxid > last, "{} comes after {last}", entry.zxid);
        last = entry.zxid;
        count += 1;
    }
    let end = reader.finish();
    assert_eq!((end.last_zxid, end.entries), (last, count));
    Some(count)
}
