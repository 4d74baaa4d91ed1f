//! What comes behind SNAP: any bytes are refused or become a state, the same in pieces of any size. The state's own
//! stream gives the same state again, and so does a start from the file that was set aside.

#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use oxkeeper_core::{
    IntakeError, ReceivedSnapshot, Replica, SnapshotIntake, SnapshotStream, empty_snapshot, recover,
};
use oxkeeper_fuzz::{disk, storage};
use oxkeeper_storage::Storage;
use oxkeeper_tree::{Tree, TreeSettings};
use oxkeeper_types::{CONFIG_PATH, QUOTA_PATH, RESERVED_PATH, StoredStat, Zxid};
use oxkeeper_wire::{Encoder, SNAPSHOT_END, SNAPSHOT_SIGNATURE};
use parking_lot::RwLock;

const ZXID: Zxid = Zxid(5);

/// What a snapshot of the tree holds of each znode, but for the key of its ACL.
fn znodes(tree: &Tree) -> BTreeMap<String, (Option<Vec<u8>>, StoredStat)> {
    let mut znodes = BTreeMap::new();
    let mut cursor = tree.snapshot_cursor();
    let mut visit = |path: &str, data: Option<&[u8]>, _: i64, stat: &StoredStat| {
        znodes.insert(path.to_owned(), (data.map(<[u8]>::to_vec), *stat));
    };
    while tree.next_znodes(&mut cursor, 100, &mut visit) {}
    znodes
}

fn assert_same(a: &Replica, b: &Replica) {
    assert_eq!(znodes(&a.tree), znodes(&b.tree));
    assert_eq!(a.tree.digest(), b.tree.digest());
    assert_eq!(a.tree.ephemerals_count(), b.tree.ephemerals_count());
    assert_eq!((&a.sessions, a.last_processed), (&b.sessions, b.last_processed));
}

/// Feeds pieces of these lengths, over and over. Also tells how many bytes were consumed, or where the refused record
/// begins.
fn take_in(
    storage: &Storage,
    settings: &TreeSettings,
    bytes: &[u8],
    lengths: [usize; 2],
) -> (Option<ReceivedSnapshot>, u64) {
    let mut intake = SnapshotIntake::begin(storage, settings, ZXID).expect("the zxid is possible");
    let mut consumed = 0;
    let mut lengths = lengths.into_iter().cycle();
    let mut left = bytes;
    while !left.is_empty() {
        let length = lengths.next().unwrap_or(1).clamp(1, left.len());
        match intake.feed(&left[..length]) {
            Ok(progress) => {
                assert!(progress.consumed == length || progress.is_complete);
                consumed += progress.consumed as u64;
                if progress.is_complete {
                    return (Some(intake.finish().expect("it is complete")), consumed);
                }
            }
            Err(IntakeError::Stream { offset, .. }) => return (None, offset),
            Err(IntakeError::Storage(error)) => panic!("there is room: {error}"),
        }
        left = &left[length..];
    }
    assert!(intake.finish().is_err(), "it is not complete");
    (None, consumed)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[mode, first, second], bytes)) = bytes.split_first_chunk() else {
        return;
    };
    let settings = TreeSettings {
        extended_types: mode & 1 != 0,
        emulate_353: mode & 2 != 0,
        ..TreeSettings::default()
    };
    let mut bytes = bytes.to_vec();
    if mode & 4 != 0 {
        let mut encoder = Encoder::new(&mut bytes);
        encoder.raw(&SNAPSHOT_END);
        encoder.string(SNAPSHOT_SIGNATURE);
    }
    let files = disk(&[]);
    let storage = storage(files.clone());
    let (received, place) = take_in(&storage, &settings, &bytes, [bytes.len(), 1]);
    let (in_pieces, same_place) = take_in(&storage, &settings, &bytes, [first.into(), second.into()]);
    assert_eq!((received.is_some(), place), (in_pieces.is_some(), same_place));
    let (Some(received), Some(in_pieces)) = (received, in_pieces) else {
        return;
    };
    assert_same(&received.replica, &in_pieces.replica);

    // A snapshot may say that these are ephemerals of a session that is gone. A start makes them again; and it
    // deletes other ephemerals of such sessions, which a learner leaves to its leader.
    let tree = &received.replica.tree;
    let is_settled = [RESERVED_PATH, QUOTA_PATH, CONFIG_PATH]
        .iter()
        .all(|path| tree.znode(path).is_some())
        && tree
            .sessions_with_ephemerals()
            .all(|(session, _)| received.replica.sessions.contains_key(&session));
    let replica = RwLock::new(received.replica);
    let mut stream = SnapshotStream::begin(&replica);
    let mut again = Vec::new();
    while stream.next_chunk(&replica, &mut again) {}
    let (resent, _) = take_in(&storage, &settings, &again, [again.len(), 1]);
    assert_same(&resent.expect("we made the stream").replica, &replica.read());

    let empty = empty_snapshot(&storage, &settings).expect("there is room");
    let end = recover(&storage, &settings, 0).expect("there is nothing").log_end;
    let mut log = storage
        .open_log(&end, || Duration::ZERO)
        .expect("logs are trusted");
    for (file, zxid) in [(empty.file, Zxid::ZERO), (received.file, ZXID)] {
        storage.install(&mut log, file, zxid, []).expect("there is room");
    }
    let recovered = recover(&oxkeeper_fuzz::storage(files), &settings, 0).expect("the file is whole");
    if is_settled {
        assert_same(&recovered.replica, &replica.read());
    }
});
