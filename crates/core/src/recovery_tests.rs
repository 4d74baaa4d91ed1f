//! What a start finds besides the tree. The trees themselves are compared in `tests/random` and `tests/scripted`.

use std::sync::Arc;
use std::time::Duration;

use oxkeeper_storage::{LogSettings, SimDisk, Storage, StorageSettings};
use oxkeeper_tree::TreeSettings;
use oxkeeper_types::{SessionId, Txn, TxnHeader, Zxid};
use oxkeeper_wire::encode_txn_entry;
use parking_lot::RwLock;

use crate::*;

fn entry(zxid: Zxid) -> Vec<u8> {
    let header = TxnHeader {
        session: SessionId(zxid.0),
        cxid: 1,
        zxid,
        time: 5,
    };
    let mut bytes = Vec::new();
    encode_txn_entry(
        &mut bytes,
        &header,
        &Txn::CreateSession { timeout_ms: 4000 },
        None,
    );
    bytes
}

/// A data directory with a snapshot of the first `in_snapshot` of these txns, and a log of them all.
fn storage(zxids: &[Zxid], in_snapshot: usize) -> Storage {
    let settings = TreeSettings::default();
    let storage_settings = StorageSettings {
        log: LogSettings {
            preallocation_bytes: 0,
            ..LogSettings::default()
        },
        ..StorageSettings::default()
    };
    let storage = Storage::open(Arc::new(SimDisk::new(1)), None, storage_settings).unwrap();
    let mut replica = Replica::empty(&settings);
    for &zxid in &zxids[..in_snapshot] {
        replica.sessions.insert(SessionId(zxid.0), 4000);
        replica.last_processed = zxid;
    }
    write_snapshot(&RwLock::new(Replica::empty(&settings)), &storage, true, true).unwrap();
    let end = recover(&storage, &settings, 0).unwrap().log_end;
    let mut log = storage.open_log(&end, || Duration::ZERO).unwrap();
    for &zxid in zxids {
        log.append(zxid, &entry(zxid)).unwrap();
    }
    log.commit().unwrap();
    write_snapshot(&RwLock::new(replica), &storage, true, true).unwrap();
    storage
}

#[test]
fn the_window_is_the_end_of_the_log_behind_the_snapshot_and_no_longer_than_wanted() {
    let z = Zxid::new;
    let zxids = [z(1, 1), z(1, 2), z(1, 3), z(2, 1), z(2, 2), z(4, 1)];
    for in_snapshot in 0..=zxids.len() {
        let storage = storage(&zxids, in_snapshot);
        for window_max in 0..=zxids.len() + 1 {
            let recovered = recover(&storage, &TreeSettings::default(), window_max).unwrap();
            assert_eq!(
                recovered.replica.sessions.len(),
                zxids.len(),
                "the replica has them all"
            );
            let begin = in_snapshot.max(zxids.len().saturating_sub(window_max));
            let before = begin.checked_sub(1).map_or(Zxid::ZERO, |at| zxids[at]);
            assert_eq!(recovered.window_start, before, "{in_snapshot} {window_max}");
            let window = recovered
                .window
                .iter()
                .map(|entry| (entry.zxid, entry.txn.to_vec()));
            let expected = zxids[begin..].iter().map(|&zxid| (zxid, entry(zxid)));
            assert!(window.eq(expected), "{in_snapshot} {window_max}");
            assert!(recovered.notes.is_empty(), "{:?}", recovered.notes);
        }
    }
}

#[test]
fn a_snapshot_that_goes_beyond_the_log_is_told_to_the_operator() {
    let storage = storage(&[Zxid(1), Zxid(2)], 2);
    let replica = RwLock::new(Replica::empty(&TreeSettings::default()));
    replica.write().last_processed = Zxid(2);
    let mut walk = SnapshotWalk::begin(&replica, &storage).unwrap();
    assert_eq!(walk.end_zxid(), Zxid(2));
    replica.write().last_processed = Zxid(7);
    assert!(!walk.visit(&replica, 100).unwrap());
    assert_eq!(walk.end_zxid(), Zxid(7));
    walk.finish(true, false).unwrap();
    let notes = recover(&storage, &TreeSettings::default(), 0).unwrap().notes;
    assert!(
        notes[0].contains("up to 0x7, but the log ends at 0x2"),
        "{notes:?}"
    );
}

#[test]
fn a_walk_over_a_state_that_was_replaced_gives_up() {
    let storage = storage(&[Zxid(1)], 1);
    let replica = RwLock::new(recover(&storage, &TreeSettings::default(), 0).unwrap().replica);
    let mut walk = SnapshotWalk::begin(&replica, &storage).unwrap();
    let received = empty_snapshot(&storage, &TreeSettings::default()).unwrap();
    replica.write().replace_state(received.replica);
    assert!(!walk.visit(&replica, 1).unwrap());
    assert!(walk.finish(true, true).unwrap().is_none());
    // The state that takes its place is not the one on disk before it is installed.
    assert!(write_snapshot(&replica, &storage, true, true).unwrap().is_none());
    let end = recover(&storage, &TreeSettings::default(), 0).unwrap().log_end;
    let mut log = storage.open_log(&end, || Duration::ZERO).unwrap();
    storage.install(&mut log, received.file, Zxid::ZERO, []).unwrap();
    assert!(write_snapshot(&replica, &storage, true, true).unwrap().is_some());
    assert!(
        recover(&storage, &TreeSettings::default(), 0)
            .unwrap()
            .replica
            .sessions
            .is_empty()
    );
}
