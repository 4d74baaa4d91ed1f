//! One test per row of the start-up tables (storage spec, sections 1 and 10), of small files (11) and purge (13),
//! and the log writer (3, 9).

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use oxkeeper_types::{Acl, Permissions, ServerId, SessionId, StoredStat, Txn, TxnHeader, Zxid};
use oxkeeper_wire::{SnapshotDigest, encode_txn_entry};

use crate::*;

pub(crate) fn entry(zxid: i64, bytes: usize) -> Vec<u8> {
    let header = TxnHeader {
        session: SessionId(9),
        cxid: 1,
        zxid: Zxid(zxid),
        time: 0,
    };
    let txn = Txn::SetData {
        path: "/a".to_owned(),
        data: Some(vec![1; bytes].into()),
        version: 1,
    };
    let mut out = Vec::new();
    encode_txn_entry(&mut out, &header, &txn, None);
    out
}

/// Counts, and refuses a znode named `/bad`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counts {
    sessions: Vec<(SessionId, i32)>,
    acls: Vec<(i64, Vec<Acl>)>,
    znodes: Vec<(String, Option<Vec<u8>>, i64, StoredStat)>,
}

impl SnapshotSink for Counts {
    fn session(&mut self, session: SessionId, timeout_ms: i32) -> Result<(), String> {
        self.sessions.push((session, timeout_ms));
        Ok(())
    }
    fn acl(&mut self, key: i64, acl: Vec<Acl>) -> Result<(), String> {
        self.acls.push((key, acl));
        Ok(())
    }
    fn znode(&mut self, path: &str, data: Option<&[u8]>, key: i64, stat: &StoredStat) -> Result<(), String> {
        if path == "/bad" {
            return Err("/bad cannot be".to_owned());
        }
        self.znodes
            .push((path.to_owned(), data.map(<[u8]>::to_vec), key, *stat));
        Ok(())
    }
}

pub(crate) fn small_log(preallocation_bytes: u64) -> StorageSettings {
    StorageSettings {
        log: LogSettings {
            preallocation_bytes,
            ..LogSettings::default()
        },
        ..StorageSettings::default()
    }
}

pub(crate) fn open(disk: &SimDisk, settings: StorageSettings) -> Storage {
    Storage::open(Arc::new(disk.clone()), None, settings).unwrap()
}

pub(crate) fn write_snapshot(storage: &Storage, zxid: i64) -> SnapshotFile {
    let no_acls = std::iter::empty::<(i64, Vec<Acl>)>();
    let mut writer = storage
        .begin_snapshot(HistoryId::default(), Zxid(zxid), std::iter::empty(), no_acls)
        .unwrap();
    writer.znode("", Some(b""), -1, &StoredStat::default());
    writer.finish(None, Some(Zxid(zxid))).unwrap().unwrap()
}

/// Everything after `after`, and the log opened behind it.
pub(crate) fn replay(storage: &Storage, after: Zxid) -> Result<(Vec<i64>, TxnLog), StorageError> {
    let mut reader = storage.read_log(after)?;
    let mut zxids = Vec::new();
    while let Some(found) = reader.next_entry()? {
        zxids.push(found.zxid.0);
    }
    let log = storage.open_log(&reader.finish(), || Duration::ZERO)?;
    Ok((zxids, log))
}

pub(crate) fn fresh_log(disk: &SimDisk, settings: StorageSettings) -> (Storage, TxnLog) {
    let storage = open(disk, settings);
    write_snapshot(&storage, 0);
    let (_, log) = replay(&storage, Zxid(0)).unwrap();
    (storage, log)
}

pub(crate) fn append(log: &mut TxnLog, zxids: impl IntoIterator<Item = i64>) {
    for zxid in zxids {
        log.append(Zxid(zxid), &entry(zxid, 20)).unwrap();
    }
}

pub(crate) fn names(disk: &SimDisk) -> Vec<String> {
    disk.list("version-2").unwrap()
}

pub(crate) fn message(error: &StorageError) -> String {
    let text = error.to_string();
    assert!(text.contains("/sim/"), "it names the place: {text}");
    text
}

// Section 1: directories.

#[test]
fn missing_directories_are_made_durably_or_refused_with_exit_code_3() {
    let disk = SimDisk::new(1);
    open(&disk, StorageSettings::default());
    disk.crash();
    assert_eq!(disk.kind("version-2").unwrap(), Some(EntryKind::Directory));
    let settings = StorageSettings {
        create_directories: false,
        ..StorageSettings::default()
    };
    open(&disk, settings);
    let error = Storage::open(Arc::new(SimDisk::new(1)), None, settings)
        .err()
        .unwrap();
    assert_eq!(error.exit_code(), 3);
    assert!(message(&error).contains("datadir.autocreate"));
}

#[test]
fn a_version_directory_that_is_a_file_is_refused_with_exit_code_1() {
    let disk = SimDisk::new(1);
    disk.put("version-2", b"");
    let error = Storage::open(Arc::new(disk), None, StorageSettings::default())
        .err()
        .unwrap();
    assert_eq!(error.exit_code(), 1);
    assert!(message(&error).contains("not a directory"));
}

#[test]
fn files_of_the_other_directory_are_refused_with_exit_code_3() {
    for (in_data, in_logs, text) in [
        (Some("log.1"), None, "snapshot directory, but has logs (log.1)"),
        (
            None,
            Some("snapshot.0"),
            "log directory, but has snapshots (snapshot.0)",
        ),
        (Some("snapshot.0"), Some("log.1"), ""),
    ] {
        let (data, logs) = (SimDisk::new(1), SimDisk::new(2));
        for (disk, name) in [(&data, in_data), (&logs, in_logs)] {
            if let Some(name) = name {
                disk.put(&format!("version-2/{name}"), b"");
            }
        }
        let opened = Storage::open(Arc::new(data), Some(Arc::new(logs)), StorageSettings::default());
        match opened {
            Ok(_) => assert!(text.is_empty()),
            Err(error) => {
                assert_eq!(error.exit_code(), 3);
                assert!(message(&error).contains(text) && !text.is_empty(), "{error}");
            }
        }
    }
}

#[test]
fn a_directory_of_the_system_is_used_and_one_that_cannot_be_written_has_exit_code_3() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("not/there/yet");
    let storage = Storage::open(Arc::new(RealDisk::new(&data)), None, small_log(4096)).unwrap();
    assert_eq!(storage.load(Counts::default).unwrap().origin, Origin::Fresh);
    write_snapshot(&storage, 0);
    let (_, mut log) = replay(&storage, Zxid(0)).unwrap();
    append(&mut log, 1..=100);
    assert_eq!(log.commit().unwrap().up_to, Zxid(100));
    drop(log);
    let (zxids, _) = replay(&storage, Zxid(40)).unwrap();
    assert_eq!(zxids, (41..=100).collect::<Vec<_>>());
    assert!(data.join("version-2/log.1").is_file() && data.join("version-2/snapshot.0").is_file());
    assert_eq!(
        std::fs::read_dir(data.join("version-2")).unwrap().count(),
        2,
        "nothing else is left"
    );

    let file = temp.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = Storage::open(Arc::new(RealDisk::new(file.join("data"))), None, small_log(0))
        .err()
        .unwrap();
    assert!(error.to_string().contains("version-2"), "{error}");
}

#[test]
fn unfinished_snapshots_are_removed_at_start_and_java_s_leftovers_are_not_loaded() {
    let disk = SimDisk::new(1);
    write_snapshot(&open(&disk, StorageSettings::default()), 5);
    let whole = disk.content("version-2/snapshot.5").unwrap();
    disk.put("version-2/unfinished.snapshot.ff", &whole);
    disk.put("version-2/snapshot.fe.tmp", &whole);
    let storage = open(&disk, StorageSettings::default());
    assert_eq!(names(&disk), ["snapshot.5", "snapshot.fe.tmp"]);
    assert_eq!(storage.load(Counts::default).unwrap().zxid, Zxid(5));
}

// Section 10: what to start from.

#[test]
fn row_good_snapshot_and_logs_after_it() {
    let disk = SimDisk::new(1);
    let (storage, mut log) = fresh_log(&disk, small_log(0));
    append(&mut log, 1..=9);
    log.commit().unwrap();
    write_snapshot(&storage, 4);
    let loaded = open(&disk, small_log(0)).load(Counts::default).unwrap();
    assert_eq!(loaded.zxid, Zxid(4), "its name counts");
    assert!(
        matches!(loaded.origin, Origin::Snapshot { ref file, tail } if file.ends_with("snapshot.4")
        && tail.znodes == 1 && tail.last_zxid == Some(Zxid(4)))
    );
    assert_eq!(replay(&storage, loaded.zxid).unwrap().0, [5, 6, 7, 8, 9]);
}

#[test]
fn row_all_snapshots_bad_is_refused_and_each_candidate_gets_a_fresh_state() {
    let disk = SimDisk::new(1);
    let storage = open(&disk, StorageSettings::default());
    for zxid in [3, 5] {
        write_snapshot(&storage, zxid);
    }
    let spoil = |name: &str| {
        let mut bytes = disk.content(name).unwrap();
        bytes[40] ^= 1;
        disk.put(name, &bytes);
    };
    spoil("version-2/snapshot.5");
    let made = Cell::new(0);
    let fresh = || {
        made.set(made.get() + 1);
        Counts::default()
    };
    let loaded = storage.load(fresh).unwrap();
    assert_eq!((loaded.zxid, loaded.rejected.len(), made.get()), (Zxid(3), 1, 2));
    assert_eq!(loaded.state.znodes.len(), 1);
    spoil("version-2/snapshot.3");
    let error = storage.load(Counts::default).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(message(&error).contains("none of its 2 snapshots") && message(&error).contains("snapshot.5"));
}

#[test]
fn a_znode_that_the_state_does_not_take_makes_the_snapshot_bad() {
    let disk = SimDisk::new(1);
    let storage = open(&disk, StorageSettings::default());
    let no_acls = std::iter::empty::<(i64, Vec<Acl>)>();
    let mut writer = storage
        .begin_snapshot(HistoryId::default(), Zxid(1), std::iter::empty(), no_acls)
        .unwrap();
    writer.znode("/bad", None, -1, &StoredStat::default());
    writer.finish(None, None).unwrap();
    let error = storage.load(Counts::default).unwrap_err();
    assert!(message(&error).contains("/bad cannot be"));
}

#[test]
fn row_logs_without_snapshot_need_trust() {
    let disk = SimDisk::new(1);
    let (storage, mut log) = fresh_log(&disk, small_log(0));
    append(&mut log, 1..=3);
    log.commit().unwrap();
    disk.remove("version-2/snapshot.0").unwrap();
    let error = storage.load(Counts::default).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(
        message(&error).contains("logs but no snapshot") && message(&error).contains("snapshot.trust.empty")
    );
    let trusting = open(
        &disk,
        StorageSettings {
            trust_empty_snapshot: true,
            ..small_log(0)
        },
    );
    let loaded = trusting.load(Counts::default).unwrap();
    assert_eq!((loaded.zxid, loaded.origin), (Zxid(0), Origin::TrustedLog));
    assert_eq!(replay(&trusting, Zxid(0)).unwrap().0, [1, 2, 3]);
}

#[test]
fn row_nothing_is_fresh_when_it_may_be_and_unknown_otherwise() {
    let disk = SimDisk::new(1);
    assert_eq!(
        open(&disk, StorageSettings::default())
            .load(Counts::default)
            .unwrap()
            .origin,
        Origin::Fresh
    );
    let careful = StorageSettings {
        create_database: false,
        ..StorageSettings::default()
    };
    let loaded = open(&disk, careful).load(Counts::default).unwrap();
    assert_eq!((loaded.zxid, loaded.origin), (Zxid(-1), Origin::Unknown));
    disk.put("initialize", b"");
    assert_eq!(
        open(&disk, careful).load(Counts::default).unwrap().origin,
        Origin::Fresh
    );
    assert_eq!(disk.kind("initialize").unwrap(), None, "it counts once");
}

#[test]
fn initialize_is_taken_from_the_log_directory_at_every_start() {
    let (data, logs) = (SimDisk::new(1), SimDisk::new(2));
    data.put("initialize", b"");
    logs.put("initialize", b"");
    let storage = Storage::open(
        Arc::new(data.clone()),
        Some(Arc::new(logs.clone())),
        StorageSettings::default(),
    )
    .unwrap();
    write_snapshot(&storage, 7);
    assert_eq!(storage.load(Counts::default).unwrap().zxid, Zxid(7));
    assert_eq!(logs.kind("initialize").unwrap(), None);
    assert_eq!(data.kind("initialize").unwrap(), Some(EntryKind::File));
}

#[test]
fn a_torn_first_snapshot_counts_as_none_but_another_torn_one_is_not_taken_for_an_empty_server() {
    let disk = SimDisk::new(1);
    disk.put("version-2/snapshot.0", b"ZKSN");
    assert_eq!(
        open(&disk, StorageSettings::default())
            .load(Counts::default)
            .unwrap()
            .origin,
        Origin::Fresh
    );
    disk.put("version-2/snapshot.9", b"ZKSN");
    let error = open(&disk, StorageSettings::default())
        .load(Counts::default)
        .unwrap_err();
    assert!(message(&error).contains("snapshot.9"));
}

#[test]
fn a_log_cannot_be_begun_before_there_is_a_snapshot() {
    let storage = open(&SimDisk::new(1), StorageSettings::default());
    let mut reader = storage.read_log(Zxid(0)).unwrap();
    assert!(reader.next_entry().unwrap().is_none());
    assert!(storage.open_log(&reader.finish(), || Duration::ZERO).is_err());
}

#[test]
fn snapshots_hold_what_they_were_given_in_every_compression() {
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
        let disk = SimDisk::new(1);
        let storage = open(
            &disk,
            StorageSettings {
                compression,
                ..StorageSettings::default()
            },
        );
        let sessions = vec![(SessionId(1), 4000), (SessionId(i64::MIN), 5000)];
        let acls = vec![(1, vec![Acl::world(Permissions::READ)]), (9, Vec::new())];
        let mut expected = Counts {
            sessions,
            acls,
            znodes: Vec::new(),
        };
        let mut writer = storage
            .begin_snapshot(
                HistoryId::default(),
                Zxid(5),
                expected.sessions.iter().copied(),
                expected.acls.iter().map(|(k, a)| (*k, a)),
            )
            .unwrap();
        for i in 0..3000i64 {
            let data = match i % 3 {
                0 => None,
                1 => Some(Vec::new()),
                _ => Some(vec![i.to_le_bytes()[0]; usize::try_from(i * 7 % 5000).unwrap()]),
            };
            let stat = StoredStat {
                czxid: Zxid(i),
                cversion: 3,
                ephemeral_owner: -i,
                ..StoredStat::default()
            };
            let path = if i == 0 {
                String::new()
            } else {
                format!("/ünï{i}")
            };
            writer.znode(&path, data.as_deref(), 9, &stat);
            if writer.buffered_bytes() > 100_000 {
                writer.write_out().unwrap();
                assert_eq!(writer.buffered_bytes(), 0);
            }
            expected.znodes.push((path, data, 9, stat));
        }
        let digest = SnapshotDigest {
            zxid: Zxid(6),
            version: 2,
            tree_digest: u64::MAX,
        };
        writer.finish(Some(digest), Some(Zxid(7))).unwrap();
        let loaded = storage.load(Counts::default).unwrap();
        assert!(loaded.state == expected, "{compression:?}");
        let Origin::Snapshot { tail, .. } = loaded.origin else {
            panic!("{:?}", loaded.origin)
        };
        assert_eq!(
            tail,
            SnapshotTail {
                znodes: 3000,
                digest: Some(digest),
                last_zxid: Some(Zxid(7))
            }
        );
    }
}

#[test]
fn a_record_over_the_limit_is_refused_without_reading_on() {
    let disk = SimDisk::new(1);
    let storage = open(&disk, StorageSettings::default());
    let no_acls = std::iter::empty::<(i64, Vec<Acl>)>();
    let mut writer = storage
        .begin_snapshot(HistoryId::default(), Zxid(1), std::iter::empty(), no_acls)
        .unwrap();
    writer.znode("/big", Some(&vec![0; 2_000_000]), -1, &StoredStat::default());
    writer.finish(None, None).unwrap();
    storage.load(Counts::default).unwrap();
    let limits = ReadLimits {
        entry_bytes_max: 1_000_000,
    };
    let strict = open(
        &disk,
        StorageSettings {
            limits,
            ..StorageSettings::default()
        },
    );
    assert!(message(&strict.load(Counts::default).unwrap_err()).contains("longer than the limit of 1000000"));
}

#[test]
fn a_snapshot_that_fails_or_is_dropped_leaves_nothing_behind() {
    let disk = SimDisk::new(1);
    let storage = open(&disk, StorageSettings::default());
    let begin = || {
        storage
            .begin_snapshot(
                HistoryId::default(),
                Zxid(1),
                std::iter::empty(),
                std::iter::empty::<(i64, Vec<Acl>)>(),
            )
            .unwrap()
    };
    drop(begin());
    assert!(names(&disk).is_empty());
    disk.set_free_bytes(Some(10));
    assert!(matches!(begin().finish(None, None), Err(StorageError::Io { .. })));
    disk.set_free_bytes(None);
    disk.fail_sync_after(0);
    assert!(begin().finish(None, None).is_err());
    assert!(names(&disk).is_empty());
    begin().finish(None, None).unwrap();
    assert_eq!(names(&disk), ["snapshot.1"]);
}

// Sections 3 and 9: the log.

#[test]
fn a_commit_is_one_sync_and_a_new_file_costs_one_more_for_its_directory() {
    let disk = SimDisk::new(1);
    let (_, mut log) = fresh_log(&disk, small_log(0));
    append(&mut log, 1..=3);
    let before = disk.changes();
    log.commit().unwrap();
    assert_eq!(
        disk.changes() - before,
        4,
        "create, write, sync, sync of the directory"
    );
    append(&mut log, 4..=50);
    let before = disk.changes();
    log.commit().unwrap();
    assert_eq!(disk.changes() - before, 2, "write, sync");
    let before = disk.changes();
    assert_eq!(log.commit().unwrap().up_to, Zxid(50));
    assert_eq!(disk.changes(), before, "nothing to do");
}

#[test]
fn nothing_is_written_before_the_commit_and_the_file_is_named_by_its_first_txn() {
    let disk = SimDisk::new(1);
    let (_, mut log) = fresh_log(&disk, small_log(64 * 1024));
    append(&mut log, [1]);
    assert_eq!(names(&disk), ["snapshot.0"]);
    assert!(log.has_uncommitted());
    assert_eq!(log.commit().unwrap().up_to, Zxid(1));
    assert!(!log.has_uncommitted());
    assert_eq!(names(&disk), ["log.1", "snapshot.0"]);
    assert_eq!(disk.content("version-2/log.1").unwrap().len(), 65552);
    assert_eq!(log.size(), 65552);
}

#[test]
fn padding_grows_as_java_s_does() {
    let disk = SimDisk::new(1);
    let (_, mut log) = fresh_log(&disk, small_log(8192));
    let length = |disk: &SimDisk| disk.content("version-2/log.1").unwrap().len();
    let header_and_frame = 16 + 13 + 32 + 4 + 2 + 4 + 4;
    // 16 + 4096 reaches no further than 16 + 8192, so the first record stays in the first step.
    log.append(Zxid(1), &entry(1, 4096 - header_and_frame)).unwrap();
    log.commit().unwrap();
    assert_eq!(length(&disk), 16 + 8192);
    // Now 4096 bytes are written; 4096 + 4096 is still below 8208.
    log.append(Zxid(2), &entry(2, 100)).unwrap();
    log.commit().unwrap();
    assert_eq!(length(&disk), 16 + 8192);
    log.append(Zxid(3), &entry(3, 100)).unwrap();
    log.commit().unwrap();
    assert_eq!(
        length(&disk),
        16 + 2 * 8192,
        "one step more once fewer than 4096 bytes are left"
    );
    // A batch may run over the end; the next append pads to a multiple.
    log.append(Zxid(4), &entry(4, 20_000)).unwrap();
    log.commit().unwrap();
    let over = length(&disk);
    assert!(over > 16 + 2 * 8192);
    assert_eq!(log.size(), over as u64);
    log.append(Zxid(5), &entry(5, 1)).unwrap();
    log.commit().unwrap();
    assert_eq!(length(&disk), (over + 8192) / 8192 * 8192);
}

#[test]
fn a_small_preallocation_does_not_wipe_out_a_large_batch() {
    // Java's server writes the last byte of each step, and overwrites what it has just written.
    let disk = SimDisk::new(1);
    let (storage, mut log) = fresh_log(&disk, small_log(1024));
    for zxid in 1..=100 {
        log.append(Zxid(zxid), &entry(zxid, 3000)).unwrap();
    }
    log.commit().unwrap();
    assert_eq!(replay(&storage, Zxid(0)).unwrap().0.len(), 100);
}

#[test]
fn rolled_files_are_made_durable_before_the_next_one_is_begun() {
    let disk = SimDisk::new(1);
    let (storage, mut log) = fresh_log(&disk, small_log(0));
    append(&mut log, 1..=2);
    log.roll().unwrap();
    append(&mut log, 3..=4);
    log.roll().unwrap();
    append(&mut log, 5..=5);
    log.roll().unwrap();
    log.roll().unwrap();
    assert_eq!(log.commit().unwrap().up_to, Zxid(5));
    assert_eq!(names(&disk), ["log.1", "log.3", "log.5", "snapshot.0"]);
    disk.crash();
    assert_eq!(replay(&storage, Zxid(0)).unwrap().0, [1, 2, 3, 4, 5]);
}

#[test]
fn size_counts_rolled_files_until_it_is_restarted() {
    let disk = SimDisk::new(1);
    let (_, mut log) = fresh_log(&disk, small_log(4096));
    assert_eq!(log.size(), 0);
    append(&mut log, [1]);
    log.commit().unwrap();
    let one = log.size();
    assert_eq!(one, 16 + 4096);
    log.roll().unwrap();
    append(&mut log, [2]);
    log.commit().unwrap();
    assert_eq!(log.size(), 2 * one);
    log.roll().unwrap();
    log.restart_size();
    assert_eq!(log.size(), 0);
}

#[test]
fn a_file_over_the_limit_is_the_last_of_its_name() {
    let disk = SimDisk::new(1);
    let mut settings = small_log(0);
    settings.log.file_bytes_limit = Some(200);
    let (storage, mut log) = fresh_log(&disk, settings);
    for zxid in 1..=6 {
        append(&mut log, [zxid]);
        log.commit().unwrap();
    }
    assert_eq!(
        names(&disk),
        ["log.1", "log.4", "snapshot.0"],
        "16 + 3 records of 79 bytes are over 200"
    );
    assert_eq!(replay(&storage, Zxid(0)).unwrap().0.len(), 6);
}

#[test]
fn a_long_batch_is_written_in_parts_and_is_whole() {
    let disk = SimDisk::new(1);
    let (storage, mut log) = fresh_log(&disk, small_log(0));
    for zxid in 1..=30 {
        log.append(Zxid(zxid), &entry(zxid, 500_000)).unwrap();
    }
    assert!(
        log.durable_zxid() > Zxid(10),
        "memory is bounded: {}",
        log.durable_zxid()
    );
    log.commit().unwrap();
    assert_eq!(replay(&storage, Zxid(0)).unwrap().0.len(), 30);
}

#[test]
fn time_of_syncs_is_reported_once() {
    let disk = SimDisk::new(1);
    let storage = open(&disk, small_log(0));
    write_snapshot(&storage, 0);
    let mut reader = storage.read_log(Zxid(0)).unwrap();
    assert!(reader.next_entry().unwrap().is_none());
    let ticks = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let clock = ticks.clone();
    let now = move || Duration::from_millis(clock.fetch_add(7, std::sync::atomic::Ordering::Relaxed));
    let mut log = storage.open_log(&reader.finish(), now).unwrap();
    append(&mut log, [1]);
    assert_eq!(log.commit().unwrap().sync_time, Duration::from_millis(7));
    assert_eq!(log.commit().unwrap().sync_time, Duration::ZERO);
}

#[test]
fn without_force_sync_nothing_is_synced_but_everything_is_written() {
    let disk = SimDisk::new(1);
    let mut settings = small_log(0);
    settings.log.force_sync = false;
    let (storage, mut log) = fresh_log(&disk, settings);
    append(&mut log, 1..=3);
    let before = disk.changes();
    assert_eq!(log.commit().unwrap().up_to, Zxid(3));
    assert_eq!(disk.changes() - before, 2, "create, write");
    disk.kill_process();
    assert_eq!(replay(&storage, Zxid(0)).unwrap().0, [1, 2, 3]);
}

#[test]
fn after_an_error_the_log_takes_nothing_more_and_repeats_it() {
    type Fault = fn(&SimDisk);
    let faults: [(Fault, &str); 3] = [
        (|disk| disk.fail_sync_after(0), "cannot sync"),
        (|disk| disk.set_free_bytes(Some(30)), "cannot write to"),
        (|disk| disk.cut_power_after(0), "cannot write to"),
    ];
    for (fault, text) in faults {
        let disk = SimDisk::new(1);
        let (storage, mut log) = fresh_log(&disk, small_log(0));
        append(&mut log, [1]);
        log.commit().unwrap();
        append(&mut log, [2]);
        fault(&disk);
        let first = log.commit().unwrap_err().to_string();
        assert!(first.contains(text) && first.contains("log.1"), "{first}");
        // The disk would take it again; nobody knows what it has kept.
        disk.set_free_bytes(None);
        assert_eq!(log.append(Zxid(3), &entry(3, 1)).unwrap_err().to_string(), first);
        assert_eq!(log.commit().unwrap_err().to_string(), first);
        assert_eq!(log.roll().unwrap_err().to_string(), first);
        assert_eq!(
            storage
                .truncate(&mut log, Zxid(0), false)
                .unwrap_err()
                .to_string(),
            first
        );
        assert_eq!(log.durable_zxid(), Zxid(1));
        disk.crash();
        let (zxids, _) = replay(&storage, Zxid(0)).unwrap();
        assert!(zxids == [1] || zxids == [1, 2], "{zxids:?}");
    }
}

#[test]
#[should_panic(expected = "the log would have a hole")]
fn a_txn_that_leaves_a_hole_is_not_taken() {
    let (_, mut log) = fresh_log(&SimDisk::new(1), small_log(0));
    append(&mut log, [1, 3]);
}

#[test]
fn a_file_with_txns_is_never_overwritten() {
    let disk = SimDisk::new(1);
    let (storage, mut log) = fresh_log(&disk, small_log(0));
    let (_, mut second) = replay(&storage, Zxid(0)).unwrap();
    append(&mut log, 1..=3);
    log.commit().unwrap();
    append(&mut second, [1]);
    let error = second.commit().unwrap_err();
    assert!(message(&error).contains("Another server may be writing here"));
    assert_eq!(replay(&storage, Zxid(0)).unwrap().0, [1, 2, 3]);
}

// Section 11: small files.

#[test]
fn missing_epochs_are_made_from_the_last_zxid_and_saved_ones_are_kept_as_java_writes_them() {
    let disk = SimDisk::new(1);
    let storage = open(&disk, StorageSettings::default());
    let last = Zxid::new(3, 9);
    assert_eq!(
        storage.load_epochs(last).unwrap(),
        Epochs {
            current: 3,
            accepted: 3
        }
    );
    assert_eq!(disk.content("version-2/currentEpoch").unwrap(), b"3");
    storage.save_epoch(EpochFile::Accepted, 12).unwrap();
    disk.crash();
    assert_eq!(disk.content("version-2/acceptedEpoch").unwrap(), b"12");
    assert_eq!(
        storage.load_epochs(last).unwrap(),
        Epochs {
            current: 3,
            accepted: 12
        }
    );
    assert!(names(&disk).iter().all(|name| !name.ends_with(".tmp")));
}

#[test]
fn an_epoch_is_the_old_or_the_new_one_after_a_crash_at_any_point() {
    let mut seen = [false; 2];
    for seed in 0..50 {
        for cut in 0..5 {
            let disk = SimDisk::new(seed);
            let storage = open(&disk, StorageSettings::default());
            storage.save_epoch(EpochFile::Current, 1).unwrap();
            disk.cut_power_after(cut);
            let saved = storage.save_epoch(EpochFile::Current, 22).is_ok();
            disk.crash();
            let epoch = storage.load_epochs(Zxid(0)).map(|epochs| epochs.current);
            // The accepted epoch was lost before it was ever saved; only the current one is looked at.
            let epoch = epoch.unwrap_or_else(|_| {
                String::from_utf8(disk.content("version-2/currentEpoch").unwrap())
                    .unwrap()
                    .parse()
                    .unwrap()
            });
            assert!(epoch == 22 || (epoch == 1 && !saved), "{epoch}, saved: {saved}");
            seen[usize::from(epoch == 22)] = true;
        }
    }
    assert_eq!(seen, [true, true]);
}

#[test]
fn a_log_ahead_of_the_current_epoch_leaves_it_and_raises_the_promise() {
    let disk = SimDisk::new(1);
    let storage = open(&disk, StorageSettings::default());
    storage.save_epoch(EpochFile::Current, 2).unwrap();
    let ahead = Epochs {
        current: 2,
        accepted: 3,
    };
    assert_eq!(storage.load_epochs(Zxid::new(3, 1)).unwrap(), ahead);
    storage.save_epoch(EpochFile::Accepted, 2).unwrap();
    assert_eq!(storage.load_epochs(Zxid::new(3, 1)).unwrap(), ahead);
    disk.crash();
    assert_eq!(disk.content("version-2/acceptedEpoch").unwrap(), b"3");
    assert_eq!(disk.content("version-2/currentEpoch").unwrap(), b"2");
    // Somebody died while writing the new epoch, or between writing and renaming it; now or long ago.
    for unfinished in ["", "3", "4"] {
        disk.put("version-2/currentEpoch.tmp", unfinished.as_bytes());
        assert_eq!(storage.load_epochs(Zxid::new(3, 1)).unwrap(), ahead);
    }
    // A missing promise is made from whatever shows that it was given.
    storage.save_epoch(EpochFile::Current, 9).unwrap();
    disk.remove("version-2/acceptedEpoch").unwrap();
    let both = Epochs {
        current: 9,
        accepted: 9,
    };
    assert_eq!(storage.load_epochs(Zxid::new(3, 1)).unwrap(), both);
}

#[test]
fn epochs_that_contradict_each_other_or_are_none_are_refused() {
    let disk = SimDisk::new(1);
    let storage = open(&disk, StorageSettings::default());
    storage.save_epoch(EpochFile::Current, 3).unwrap();
    storage.save_epoch(EpochFile::Accepted, 2).unwrap();
    for last in [Zxid::new(1, 1), Zxid::new(3, 1), Zxid::new(4, 1)] {
        assert!(message(&storage.load_epochs(last).unwrap_err()).contains("acceptedEpoch"));
    }
    for (text, complaint) in [("three", "\"three\""), ("-1", "not an epoch"), ("", "\"\"")] {
        for file in ["acceptedEpoch", "currentEpoch"] {
            storage.save_epoch(EpochFile::Current, 3).unwrap();
            storage.save_epoch(EpochFile::Accepted, 3).unwrap();
            disk.put(&format!("version-2/{file}"), text.as_bytes());
            let error = storage.load_epochs(Zxid::new(3, 1)).unwrap_err();
            assert!(message(&error).contains(complaint) && message(&error).contains(file));
        }
    }
}

#[test]
fn myid_is_the_number_in_the_first_line_without_blanks() {
    let disk = SimDisk::new(1);
    assert_eq!(read_myid(&disk).unwrap(), None);
    for text in ["3", "3\n", "3\r\nmore"] {
        disk.put("myid", text.as_bytes());
        assert_eq!(read_myid(&disk).unwrap(), Some(ServerId(3)));
    }
    for text in ["", "3 ", " 3", "three", "\n3"] {
        disk.put("myid", text.as_bytes());
        assert!(
            message(&read_myid(&disk).unwrap_err()).contains("myid"),
            "{text:?}"
        );
    }
}

// Section 13: purge.

#[test]
fn purge_keeps_the_newest_valid_snapshots_and_every_log_they_need() {
    let disk = SimDisk::new(1);
    let (storage, mut log) = fresh_log(&disk, small_log(0));
    for zxid in 1..=20 {
        append(&mut log, [zxid]);
        log.commit().unwrap();
        if zxid % 4 == 0 {
            log.roll().unwrap();
            write_snapshot(&storage, zxid - 1);
        }
    }
    disk.put("version-2/snapshot.12", b"torn");
    disk.put("version-2/snapshot.2.tmp", b"torn");
    for stranger in ["snapshot.old", "log.backup", "snapshot.1.bak", "acceptedEpoch"] {
        disk.put(&format!("version-2/{stranger}"), b"");
    }
    // The snapshots are 0, 3, 7, 11, 15 and 19 (and a torn 18); the logs begin with 1, 5, 9, 13 and 17.
    let purged = storage.purge(1).unwrap();
    assert!(purged.failed.is_empty());
    let removed: Vec<_> = purged
        .removed
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        removed,
        [
            "snapshot.0",
            "snapshot.2.tmp",
            "snapshot.3",
            "snapshot.7",
            "log.1",
            "log.5"
        ]
    );
    for (snapshot, after) in [(0xb, 11), (0xf, 15), (0x13, 19)] {
        assert!(names(&disk).contains(&format!("snapshot.{snapshot:x}")));
        assert_eq!(
            replay(&storage, Zxid(after)).unwrap().0,
            (after + 1..=20).collect::<Vec<_>>()
        );
    }
    assert!(
        storage.purge(3).unwrap().removed.is_empty(),
        "a second purge finds nothing"
    );
    for kept in [
        "snapshot.old",
        "log.backup",
        "snapshot.1.bak",
        "acceptedEpoch",
        "snapshot.12",
    ] {
        assert!(names(&disk).iter().any(|name| name == kept), "{kept}");
    }
}

#[test]
fn purge_without_a_valid_snapshot_removes_nothing() {
    let disk = SimDisk::new(1);
    let storage = open(&disk, StorageSettings::default());
    for name in ["snapshot.1", "snapshot.2", "snapshot.3", "snapshot.4", "log.1"] {
        disk.put(&format!("version-2/{name}"), b"torn");
    }
    assert!(storage.purge(3).unwrap().removed.is_empty());
}
