//! Data directories of Java's server 3.9.6 (`java/record` made them) open here as Java shows them, and what is
//! read from them is written again in the same bytes.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use oxkeeper_storage::{
    Compression, Disk, HistoryId, LogSettings, Origin, RealDisk, SimDisk, SnapshotSink, SnapshotTail,
    Storage, StorageSettings,
};
use oxkeeper_types::{Acl, SessionId, StoredStat, Zxid};
use oxkeeper_wire::{decode_txn_entry, encode_txn_entry};

const DIRECTORIES: [&str; 6] = ["padded", "gz", "snappy", "digest-only", "zxid-only", "bare"];
/// The newest txn of every directory, which is also the name of its newest snapshot.
const LAST: Zxid = Zxid(0x38);

/// Keeps all that a snapshot holds.
#[derive(Default)]
struct Recorded {
    sessions: Vec<(SessionId, i32)>,
    acls: Vec<(i64, Vec<Acl>)>,
    znodes: Vec<(String, Option<Vec<u8>>, i64, StoredStat)>,
}

impl SnapshotSink for Recorded {
    fn session(&mut self, session: SessionId, timeout_ms: i32) -> Result<(), String> {
        self.sessions.push((session, timeout_ms));
        Ok(())
    }

    fn acl(&mut self, key: i64, acl: Vec<Acl>) -> Result<(), String> {
        self.acls.push((key, acl));
        Ok(())
    }

    fn znode(&mut self, path: &str, data: Option<&[u8]>, key: i64, stat: &StoredStat) -> Result<(), String> {
        self.znodes
            .push((path.to_owned(), data.map(<[u8]>::to_vec), key, *stat));
        Ok(())
    }
}

fn recorded_at(directory: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/java")
        .join(directory)
}

/// A disk with the files of a recorded directory.
fn disk_of(directory: &str) -> SimDisk {
    let disk = SimDisk::new(0);
    for entry in std::fs::read_dir(recorded_at(directory).join("version-2")).unwrap() {
        let entry = entry.unwrap();
        let path = format!("version-2/{}", entry.file_name().into_string().unwrap());
        disk.put(&path, &std::fs::read(entry.path()).unwrap());
    }
    disk
}

fn open(disk: &SimDisk, settings: StorageSettings) -> Storage {
    Storage::open(Arc::new(disk.clone()), None, settings).unwrap()
}

fn newest_snapshot(directory: &str) -> (Recorded, SnapshotTail) {
    let loaded = open(&disk_of(directory), StorageSettings::default())
        .load(Recorded::default)
        .unwrap();
    assert_eq!(loaded.zxid, LAST);
    assert!(loaded.rejected.is_empty());
    match loaded.origin {
        Origin::Snapshot { tail, .. } => (loaded.state, tail),
        origin => panic!("{directory}: {origin:?}"),
    }
}

fn entries_after(storage: &Storage, after: Zxid) -> Vec<(Zxid, Vec<u8>)> {
    let mut reader = storage.read_log(after).unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        entries.push((entry.zxid, entry.bytes.to_vec()));
    }
    let end = reader.finish();
    assert!(end.cuts.is_empty(), "{:?}", end.cuts);
    entries
}

/// A znode as Java's SnapshotFormatter prints it, without the two lines that are dates.
fn formatted(path: &str, data: Option<&[u8]>, stat: &StoredStat) -> String {
    let hex = |value: i64| format!("0x{value:014x}");
    [
        if path.is_empty() {
            "/".to_owned()
        } else {
            path.to_owned()
        },
        format!("  cZxid = {}", hex(stat.czxid.0)),
        format!("  mZxid = {}", hex(stat.mzxid.0)),
        format!("  pZxid = {}", hex(stat.pzxid.0)),
        format!("  cversion = {}", stat.cversion),
        format!("  dataVersion = {}", stat.version),
        format!("  aclVersion = {}", stat.aversion),
        format!("  ephemeralOwner = {}", hex(stat.ephemeral_owner)),
        format!("  data = {}", BASE64_STANDARD.encode(data.unwrap_or_default())),
    ]
    .join("\n")
}

#[test]
fn every_znode_and_session_is_read_as_java_prints_it() {
    for directory in DIRECTORIES {
        let expected = std::fs::read_to_string(recorded_at(directory).join("expected.txt")).unwrap();
        let (znode_text, rest) = expected
            .split_once("Session Details (sid, timeout, ephemeralCount):\n")
            .unwrap();
        let blocks = znode_text.split("----\n").skip(1);
        let mut znodes: Vec<String> = blocks
            .map(|block| {
                let lines = block
                    .lines()
                    .filter(|line| !line.contains("ctime") && !line.contains("mtime"));
                lines.collect::<Vec<_>>().join("\n")
            })
            .filter(|block| !block.is_empty())
            .collect();
        let mut sessions: Vec<String> = rest
            .lines()
            .take_while(|line| line.starts_with("0x"))
            .map(|line| line.rsplit_once(',').unwrap().0.to_owned())
            .collect();
        let (actual, _) = newest_snapshot(directory);
        let mut actual_znodes: Vec<String> = actual
            .znodes
            .iter()
            .map(|(path, data, _, stat)| formatted(path, data.as_deref(), stat))
            .collect();
        let mut actual_sessions: Vec<String> = actual
            .sessions
            .iter()
            .map(|(id, timeout)| format!("{id}, {timeout}"))
            .collect();
        for list in [
            &mut znodes,
            &mut sessions,
            &mut actual_znodes,
            &mut actual_sessions,
        ] {
            list.sort();
        }
        assert!(znodes.len() > 30 && sessions.len() == 2, "{directory}");
        assert_eq!(znodes, actual_znodes, "{directory}");
        assert_eq!(sessions, actual_sessions, "{directory}");
        assert!(actual.acls.len() >= 4, "{directory}: {:?}", actual.acls);
    }
}

#[test]
fn all_four_tails_are_told_by_their_length() {
    for (directory, has_digest, has_zxid) in [
        ("padded", true, true),
        ("gz", true, true),
        ("snappy", true, true),
        ("digest-only", true, false),
        ("zxid-only", false, true),
        ("bare", false, false),
    ] {
        let (_, tail) = newest_snapshot(directory);
        assert_eq!(tail.last_zxid, has_zxid.then_some(LAST), "{directory}");
        assert_eq!(
            tail.digest.map(|digest| (digest.zxid, digest.version)),
            has_digest.then_some((LAST, 2))
        );
    }
}

#[test]
fn logs_written_again_have_the_same_bytes() {
    for directory in DIRECTORIES {
        let disk = disk_of(directory);
        let entries = entries_after(&open(&disk, StorageSettings::default()), Zxid::ZERO);
        assert_eq!(entries.len(), 0x38, "{directory}");
        let copy = SimDisk::new(0);
        let snapshot = disk.list("version-2").unwrap();
        let snapshot = snapshot
            .iter()
            .find(|name| name.starts_with("snapshot.0"))
            .unwrap();
        copy.put(
            &format!("version-2/{snapshot}"),
            &disk.content(&format!("version-2/{snapshot}")).unwrap(),
        );
        let settings = StorageSettings {
            log: LogSettings {
                preallocation_bytes: if directory == "padded" { 64 * 1024 } else { 0 },
                ..LogSettings::default()
            },
            ..StorageSettings::default()
        };
        let storage = open(&copy, settings);
        let end = storage.read_log(Zxid::ZERO).map(|mut reader| {
            assert!(reader.next_entry().unwrap().is_none());
            reader.finish()
        });
        let mut log = storage.open_log(&end.unwrap(), || Duration::ZERO).unwrap();
        for (zxid, bytes) in entries {
            if zxid == Zxid(0x1d) {
                log.roll().unwrap();
            }
            let (header, txn, digest) = decode_txn_entry(&bytes).unwrap();
            let mut again = Vec::new();
            encode_txn_entry(&mut again, &header, &txn, digest.as_ref());
            assert_eq!(again, bytes, "{directory}: txn {zxid}");
            log.append(zxid, &again).unwrap();
            assert_eq!(log.commit().unwrap().up_to, zxid);
        }
        for file in ["version-2/log.1", "version-2/log.1d"] {
            assert!(
                copy.content(file) == disk.content(file),
                "{directory}: {file} differs"
            );
        }
    }
}

fn decompressed(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if name.ends_with(".gz") {
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    } else if name.ends_with(".snappy") {
        let mut rest = &bytes[16..];
        while let Some((length, block)) = rest.split_first_chunk() {
            let (block, later) = block.split_at(u32::from_be_bytes(*length) as usize);
            out.extend(snap::raw::Decoder::new().decompress_vec(block).unwrap());
            rest = later;
        }
    } else {
        out.extend_from_slice(bytes);
    }
    out
}

#[test]
fn snapshots_written_again_have_the_same_bytes_before_compression() {
    for directory in DIRECTORIES {
        let (state, tail) = newest_snapshot(directory);
        let (compression, name) = match directory {
            "gz" => (Compression::Gzip, "version-2/snapshot.38.gz"),
            "snappy" => (Compression::Snappy, "version-2/snapshot.38.snappy"),
            _ => (Compression::None, "version-2/snapshot.38"),
        };
        let copy = SimDisk::new(0);
        let settings = StorageSettings {
            compression,
            ..StorageSettings::default()
        };
        let acls = state.acls.iter().map(|(key, acl)| (*key, acl));
        let mut writer = open(&copy, settings)
            .begin_snapshot(HistoryId::default(), LAST, state.sessions.iter().copied(), acls)
            .unwrap();
        for (path, data, key, stat) in &state.znodes {
            writer.znode(path, data.as_deref(), *key, stat);
        }
        let file = writer.finish(tail.digest, tail.last_zxid).unwrap().unwrap();
        assert_eq!((file.zxid, file.path), (LAST, copy.full_path(name)));
        let ours = copy.content(name).unwrap();
        assert_eq!(ours.len() as u64, file.length);
        let javas = disk_of(directory).content(name).unwrap();
        assert!(
            decompressed(name, &ours) == decompressed(name, &javas),
            "{directory}: snapshot.38 differs"
        );
        assert_eq!(ours[..2], javas[..2], "{directory}");
        if directory == "snappy" {
            assert_eq!(ours[..16], javas[..16]);
        }
    }
}

#[test]
fn an_older_snapshot_and_the_log_lead_to_the_same_txn() {
    for directory in DIRECTORIES {
        let disk = disk_of(directory);
        let names = disk.list("version-2").unwrap();
        let newest = names.iter().find(|name| name.starts_with("snapshot.38")).unwrap();
        let path = format!("version-2/{newest}");
        let mut bytes = disk.content(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        disk.put(&path, &bytes);
        let storage = open(&disk, StorageSettings::default());
        let loaded = storage.load(Recorded::default).unwrap();
        assert_eq!(loaded.zxid, Zxid(0x1c), "{directory}");
        assert_eq!(loaded.rejected.len(), 1);
        assert!(
            loaded.rejected[0].to_string().contains(newest),
            "{}",
            loaded.rejected[0]
        );
        let entries = entries_after(&storage, loaded.zxid);
        let zxids: Vec<i64> = entries.iter().map(|(zxid, _)| zxid.0).collect();
        assert_eq!(zxids, (0x1d..=0x38).collect::<Vec<i64>>(), "{directory}");
    }
}

#[test]
fn a_flipped_byte_of_a_snapshot_is_noticed() {
    // Only version and dbid in the header are read by nobody, but the seals cover them too.
    let javas = disk_of("padded").content("version-2/snapshot.1c").unwrap();
    let disk = SimDisk::new(0);
    let last_znodes = javas.len() - 200;
    for at in (0..last_znodes).step_by(17).chain(last_znodes..javas.len()) {
        let mut bytes = javas.clone();
        bytes[at] ^= 1;
        disk.put("version-2/snapshot.1c", &bytes);
        let error = open(&disk, StorageSettings::default())
            .load(Recorded::default)
            .err();
        assert!(error.is_some(), "byte {at}");
    }
}

#[test]
fn every_cut_of_a_compressed_snapshot_is_noticed() {
    for (directory, name) in [("gz", "snapshot.1c.gz"), ("snappy", "snapshot.1c.snappy")] {
        let path = format!("version-2/{name}");
        let javas = disk_of(directory).content(&path).unwrap();
        let disk = SimDisk::new(0);
        // Of the gzip trailer (checksum and length of what the seals have checked already) nothing is needed.
        let needed = javas.len() - if directory == "gz" { 8 } else { 0 };
        for length in 0..needed {
            disk.put(&path, &javas[..length]);
            let loaded = open(&disk, StorageSettings::default()).load(Recorded::default);
            assert!(loaded.is_err(), "{name} cut to {length} bytes");
        }
    }
}

/// For `java/check`, which lets Java's SnapshotFormatter read what is written here.
#[test]
#[ignore = "java/check runs it, with a directory in SNAPSHOTS_FOR_JAVA"]
fn write_snapshots_for_java() {
    let directory = PathBuf::from(std::env::var("SNAPSHOTS_FOR_JAVA").unwrap());
    let (state, tail) = newest_snapshot("padded");
    for (name, compression) in [
        ("none", Compression::None),
        ("gz", Compression::Gzip),
        ("snappy", Compression::Snappy),
    ] {
        let settings = StorageSettings {
            compression,
            ..StorageSettings::default()
        };
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(directory.join(name)));
        let storage = Storage::open(disk, None, settings).unwrap();
        let mut writer = storage
            .begin_snapshot(
                HistoryId::default(),
                LAST,
                state.sessions.iter().copied(),
                state.acls.iter().map(|(key, acl)| (*key, acl)),
            )
            .unwrap();
        for (path, data, key, stat) in &state.znodes {
            writer.znode(path, data.as_deref(), *key, stat);
        }
        writer.finish(tail.digest, tail.last_zxid).unwrap();
    }
}
