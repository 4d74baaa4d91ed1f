//! A snapshot. The first byte says whether the bytes are the file as it is, or records around which header and seal
//! are made right, and how it is compressed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_fuzz::{disk, snapshot};
use oxkeeper_storage::{ReadLimits, SnapshotSink, read_snapshot};
use oxkeeper_types::{Acl, SessionId, StoredStat};

/// Counts what it is fed.
#[derive(Default)]
struct Counts {
    znodes: u64,
    bytes: usize,
}

impl SnapshotSink for Counts {
    fn session(&mut self, _: SessionId, _: i32) -> Result<(), String> {
        self.bytes += 12;
        Ok(())
    }

    fn acl(&mut self, _: i64, acl: Vec<Acl>) -> Result<(), String> {
        self.bytes += 12 + 12 * acl.len();
        Ok(())
    }

    fn znode(&mut self, path: &str, data: Option<&[u8]>, _: i64, _: &StoredStat) -> Result<(), String> {
        self.znodes += 1;
        self.bytes += 76 + data.map_or(0, <[u8]>::len);
        assert_ne!(path, "/", "that is the end");
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&mode, bytes)) = bytes.split_first() else {
        return;
    };
    let (name, content) = match mode & 3 {
        0 => ("snapshot.1", bytes.to_vec()),
        1 => ("snapshot.1.gz", bytes.to_vec()),
        2 => ("snapshot.1.snappy", bytes.to_vec()),
        _ => ("snapshot.1", snapshot(bytes)),
    };
    let length = content.len();
    let mut sink = Counts::default();
    let disk = disk(&[(name, content)]);
    let limits = ReadLimits::default();
    let read = read_snapshot(&disk, &format!("version-2/{name}"), limits, &mut sink);
    if mode & 3 == 0 || mode & 3 == 3 {
        assert!(
            sink.bytes <= length,
            "{} bytes of records in {length}",
            sink.bytes
        );
    }
    if let Ok(tail) = read {
        assert_eq!(tail.znodes, sink.znodes);
    }
});
