//! Truncation and installation: what is refused, what is removed, and what goes on beside them. What crashes do to
//! them is in tests/crash.rs.

use std::sync::Arc;

use oxkeeper_types::{Acl, SessionId, StoredStat, Txn, TxnDigest, TxnHeader, Zxid};
use oxkeeper_wire::{SnapshotDigest, encode_txn_entry};

use crate::recovery_tests::*;
use crate::*;

/// All files and their contents.
fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let content = |name: String| {
        let content = disk.content(&format!("version-2/{name}")).unwrap();
        (name, content)
    };
    names(disk).into_iter().map(content).collect()
}

fn set_aside(storage: &Storage, zxid: Zxid) -> SetAside {
    with_root(storage.begin_set_aside(zxid).unwrap())
        .set_aside(None)
        .unwrap()
}

fn with_root(mut writer: SnapshotWriter) -> SnapshotWriter {
    writer.records(&[0; 8]);
    writer.znode("", None, -1, &StoredStat::default());
    writer
}

fn begin(storage: &Storage, of: HistoryId, zxid: i64) -> SnapshotWriter {
    let no_acls = std::iter::empty::<(i64, Vec<Acl>)>();
    storage
        .begin_snapshot(of, Zxid(zxid), std::iter::empty(), no_acls)
        .unwrap()
}

#[test]
fn truncate_goes_back_to_any_txn_and_the_log_goes_on_from_there() {
    for back_to in 0..=9 {
        let disk = SimDisk::new(1);
        let (storage, mut log) = fresh_log(&disk, small_log(4096));
        for zxid in 1..=9 {
            append(&mut log, [zxid]);
            if zxid % 3 == 0 {
                log.commit().unwrap();
                log.roll().unwrap();
            }
        }
        write_snapshot(&storage, 5);
        let truncated = storage.truncate(&mut log, Zxid(back_to), true).unwrap();
        assert_eq!(truncated, Truncated::Done);
        disk.crash();
        let loaded = storage.load(Counts::default).unwrap();
        assert_eq!(loaded.zxid, Zxid(if back_to < 5 { 0 } else { 5 }));
        let (zxids, mut log) = replay(&storage, Zxid(0)).unwrap();
        assert_eq!(zxids, (1..=back_to).collect::<Vec<_>>());
        append(&mut log, [back_to + 1, 0x2_0000_0001]);
        log.commit().unwrap();
        assert_eq!(replay(&storage, Zxid(0)).unwrap().0.len() as i64, back_to + 2);
    }
}

#[test]
fn a_truncation_to_what_is_not_in_the_history_is_refused_and_changes_nothing() {
    let z = Zxid::new;
    let build = || {
        let disk = SimDisk::new(1);
        let (storage, mut log) = fresh_log(&disk, small_log(0));
        append(&mut log, [z(1, 1).0, z(1, 2).0]);
        log.commit().unwrap();
        write_snapshot(&storage, z(1, 2).0);
        log.roll().unwrap();
        append(&mut log, [z(3, 1).0, z(3, 2).0, z(5, 1).0]);
        log.commit().unwrap();
        (disk, storage, log)
    };
    for refused in [
        z(0, 1),
        z(1, 3),
        z(2, 0),
        z(2, 5),
        z(3, 3),
        z(4, 0),
        z(5, 2),
        z(6, 0),
        z(7, 1),
    ] {
        let (disk, storage, mut log) = build();
        let before = files(&disk);
        let truncated = storage.truncate(&mut log, refused, true).unwrap();
        assert_eq!(truncated, Truncated::Refused, "{refused}");
        assert!(files(&disk) == before, "{refused}");
        append(&mut log, [z(5, 2).0]);
        log.commit().unwrap();
    }
    for (to, end) in [
        (Zxid::ZERO, Zxid::ZERO),
        (z(1, 0), Zxid::ZERO),
        (z(1, 1), z(1, 1)),
        (z(1, 2), z(1, 2)),
        (z(3, 0), z(1, 2)),
        (z(3, 1), z(3, 1)),
        (z(5, 0), z(3, 2)),
        (z(5, 1), z(5, 1)),
    ] {
        let (disk, storage, mut log) = build();
        assert_eq!(storage.truncate(&mut log, to, true).unwrap(), Truncated::Done);
        assert_eq!((log.last_zxid(), log.durable_zxid()), (end, end), "{to}");
        disk.crash();
        let after = storage.load(Counts::default).unwrap().zxid;
        let (zxids, mut log) = replay(&storage, after).unwrap();
        assert_eq!(zxids.last().map_or(after, |&last| Zxid(last)), end, "{to}");
        append(&mut log, [z(9, 1).0]);
        log.commit().unwrap();
    }
}

#[test]
fn a_truncation_behind_the_begin_of_what_is_kept_is_refused() {
    let disk = SimDisk::new(1);
    let storage = open(&disk, small_log(0));
    write_snapshot(&storage, 5);
    let (_, mut log) = replay(&storage, Zxid(5)).unwrap();
    append(&mut log, 6..=8);
    log.commit().unwrap();
    for zxid in [0, 4] {
        let truncated = storage.truncate(&mut log, Zxid(zxid), true).unwrap();
        assert_eq!(truncated, Truncated::Refused);
    }
    assert_eq!(storage.load(Counts::default).unwrap().zxid, Zxid(5));
    // The end of a snapshot is in the history, although no txn is.
    let truncated = storage.truncate(&mut log, Zxid(5), true).unwrap();
    assert_eq!((truncated, log.last_zxid()), (Truncated::Done, Zxid(5)));
}

#[test]
fn no_snapshot_is_removed_for_a_truncation_before_an_older_one_proved_whole() {
    let disk = SimDisk::new(1);
    let (storage, mut log) = fresh_log(&disk, small_log(0));
    append(&mut log, 1..=4);
    log.commit().unwrap();
    write_snapshot(&storage, 2);
    write_snapshot(&storage, 4);
    let mut damaged = disk.content("version-2/snapshot.2").unwrap();
    damaged[20] ^= 1;
    disk.put("version-2/snapshot.2", &damaged);
    // From snapshot 0 on, txn 3 is there all the same.
    let truncated = storage.truncate(&mut log, Zxid(3), false).unwrap();
    assert_eq!(truncated, Truncated::Done);
    let loaded = storage.load(Counts::default).unwrap();
    assert_eq!((loaded.zxid, loaded.rejected.len()), (Zxid(0), 1));
    assert_eq!(replay(&storage, loaded.zxid).unwrap().0, [1, 2, 3]);

    write_snapshot(&storage, 4);
    let mut damaged = disk.content("version-2/snapshot.0").unwrap();
    damaged[20] ^= 1;
    disk.put("version-2/snapshot.0", &damaged);
    let truncated = storage.truncate(&mut log, Zxid(3), false).unwrap();
    assert_eq!(truncated, Truncated::Refused);
}

#[test]
fn a_truncation_takes_snapshots_away_that_have_effects_of_later_txns() {
    let disk = SimDisk::new(1);
    let (storage, mut log) = fresh_log(&disk, small_log(0));
    append(&mut log, 1..=4);
    log.commit().unwrap();
    let mut fuzzy = begin(&storage, HistoryId::default(), 2);
    fuzzy.znode("", None, -1, &StoredStat::default());
    fuzzy.finish(None, Some(Zxid(4))).unwrap();
    let truncated = storage.truncate(&mut log, Zxid(4), false).unwrap();
    assert_eq!((truncated, names(&disk).len()), (Truncated::Done, 3));
    let truncated = storage.truncate(&mut log, Zxid(3), false).unwrap();
    assert_eq!(truncated, Truncated::Done);
    assert_eq!(names(&disk), ["log.1", "snapshot.0"]);
    assert_eq!(replay(&storage, Zxid(0)).unwrap().0, [1, 2, 3]);
}

#[test]
fn an_installed_history_takes_the_place_of_all_that_was_there() {
    for is_split in [false, true] {
        let data = SimDisk::new(1);
        let logs = if is_split { SimDisk::new(2) } else { data.clone() };
        let log_dir: Option<Arc<dyn Disk>> = if is_split {
            Some(Arc::new(logs.clone()))
        } else {
            None
        };
        let storage = Storage::open(Arc::new(data.clone()), log_dir, small_log(4096)).unwrap();
        for zxid in [0, 5, 900] {
            write_snapshot(&storage, zxid);
        }
        // Java died while it saved these, and would take them for snapshots.
        for name in ["snapshot.ff.tmp", "snapshot.7.gz.tmp"] {
            data.put(&format!("version-2/{name}"), b"");
        }
        data.put("version-2/currentEpoch", b"0");
        let (_, mut log) = replay(&storage, Zxid(900)).unwrap();
        append(&mut log, [901]);
        log.commit().unwrap();

        let snapshot = set_aside(&storage, Zxid(5));
        let entries = [(Zxid(6), entry(6, 20)), (Zxid(7), entry(7, 20))];
        let borrowed = entries.iter().map(|(zxid, entry)| (*zxid, entry.as_slice()));
        storage.install(&mut log, snapshot, Zxid(5), borrowed).unwrap();
        assert_eq!((log.last_zxid(), log.durable_zxid()), (Zxid(7), Zxid(7)));
        append(&mut log, [8]);
        log.commit().unwrap();
        data.crash();
        logs.crash();
        let mut all = names(&data);
        all.extend(names(&logs));
        all.sort();
        all.dedup();
        assert_eq!(all, ["currentEpoch", "log.6", "log.8", "snapshot.5"]);
        assert_eq!(storage.load(Counts::default).unwrap().zxid, Zxid(5));
        assert_eq!(replay(&storage, Zxid(5)).unwrap().0, [6, 7, 8]);
    }
}

#[test]
fn an_installed_snapshot_has_the_digest_of_the_newest_txn_that_was_replayed_on_it() {
    let logged = |zxid, tree_digest: Option<u64>| {
        let header = TxnHeader {
            session: SessionId(1),
            cxid: 0,
            zxid: Zxid(zxid),
            time: 0,
        };
        let digest = tree_digest.map(|tree_digest| TxnDigest {
            version: 2,
            tree_digest,
        });
        let mut bytes = Vec::new();
        encode_txn_entry(
            &mut bytes,
            &header,
            &Txn::CreateSession { timeout_ms: 1 },
            digest.as_ref(),
        );
        (Zxid(zxid), bytes)
    };
    let all = [logged(71, Some(171)), logged(72, Some(172)), logged(73, None)];
    for (count, expected) in [(0, (70, 170)), (1, (71, 171)), (2, (72, 172)), (3, (72, 172))] {
        for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
            let settings = StorageSettings {
                compression,
                ..small_log(0)
            };
            let disk = SimDisk::new(1);
            let (storage, mut log) = fresh_log(&disk, settings);
            let received = storage.begin_set_aside(Zxid(70)).unwrap();
            let digest = SnapshotDigest {
                zxid: Zxid(70),
                version: 2,
                tree_digest: 170,
            };
            let received = with_root(received).set_aside(Some(digest)).unwrap();
            let entries = all[..count].iter().map(|(zxid, bytes)| (*zxid, bytes.as_slice()));
            storage.install(&mut log, received, Zxid(70), entries).unwrap();
            disk.crash();
            let Origin::Snapshot { tail, .. } = storage.load(Counts::default).unwrap().origin else {
                panic!("there is a snapshot");
            };
            let found = tail.digest.map(|digest| (digest.zxid.0, digest.tree_digest));
            assert_eq!((found, tail.last_zxid), (Some(expected), Some(Zxid(70))));
        }
    }
}

#[test]
fn a_snapshot_of_a_history_that_was_replaced_is_given_up() {
    let disk = SimDisk::new(1);
    let (storage, mut log) = fresh_log(&disk, small_log(0));
    append(&mut log, 1..=3);
    log.commit().unwrap();
    let found = storage.load(Counts::default).unwrap().history;
    let finish = |of, zxid| begin(&storage, of, zxid).finish(None, None).unwrap().is_some();

    // The state in memory has nothing that this takes away.
    let early = begin(&storage, found, 1);
    let truncated = storage.truncate(&mut log, Zxid(2), false).unwrap();
    assert_eq!(truncated, Truncated::Done);
    assert!(early.finish(None, None).unwrap().is_some());

    let early = begin(&storage, found, 2);
    let truncated = storage.truncate(&mut log, Zxid(1), true).unwrap();
    assert_eq!(truncated, Truncated::Done);
    assert!(early.finish(None, None).unwrap().is_none());
    assert!(!finish(found, 1), "begun later, with the state of before");
    let reloaded = storage.load(Counts::default).unwrap().history;
    assert!(reloaded != found && finish(reloaded, 1));

    let snapshot = set_aside(&storage, Zxid(70));
    let of = snapshot.history();
    let early = begin(&storage, reloaded, 1);
    assert!(!finish(of, 70), "not installed yet");
    storage.install(&mut log, snapshot, Zxid(70), []).unwrap();
    assert!(early.finish(None, None).unwrap().is_none() && !finish(reloaded, 1));
    assert!(finish(of, 71));
    assert_eq!(names(&disk), ["snapshot.46", "snapshot.47"]);
}

#[test]
fn a_damaged_marker_stops_the_start_and_says_so() {
    let line = "oxkeeper change of history, version 1\n";
    for text in [
        String::new(),
        line.to_owned(),
        format!("{line}remove-log log.1\n"),
        format!("{line}remove-log ../log.1\nend\n"),
        format!("{line}remove-log currentEpoch\nend\n"),
        format!("{line}cut-log log.1 x\nend\n"),
        format!("{line}new-snapshot unfinished.snapshot.a/b snapshot.1\nend\n"),
        format!("{line}forget everything\nend\n"),
    ] {
        let disk = SimDisk::new(1);
        drop(fresh_log(&disk, small_log(0)));
        disk.put("version-2/unfinished.change", text.as_bytes());
        let before = files(&disk);
        let error = Storage::open(Arc::new(disk.clone()), None, small_log(0))
            .err()
            .unwrap();
        assert!(message(&error).contains("unfinished.change is damaged"), "{text}");
        assert!(files(&disk) == before);
    }
}
