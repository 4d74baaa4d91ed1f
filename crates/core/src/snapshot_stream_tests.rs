//! States on their way between two replicas, whole and damaged.

use std::collections::BTreeMap;
use std::sync::Arc;

use oxkeeper_storage::{Compression, Disk, SimDisk, Storage, StorageSettings};
use oxkeeper_tree::{Tree, TreeSettings};
use oxkeeper_types::{
    Acl, CreateTxn, Id, Permissions, SessionId, StoredStat, Txn, TxnHeader, ZnodeKind, Zxid,
};
use oxkeeper_wire::{Encoder, SNAPSHOT_END, SNAPSHOT_SIGNATURE, encode_session, encode_znode};
use parking_lot::RwLock;

use crate::*;

const SESSION: SessionId = SessionId(7);
const STRANGER: SessionId = SessionId(99);

fn create(zxid: i64, path: &str, data: Option<&[u8]>, acl: &[Acl], kind: ZnodeKind) -> (TxnHeader, Txn) {
    let header = TxnHeader {
        session: if path == "/of-stranger" { STRANGER } else { SESSION },
        cxid: 1,
        zxid: Zxid(zxid),
        time: 1_000 + zxid,
    };
    let txn = Txn::Create(CreateTxn {
        path: path.to_owned(),
        data: data.map(Into::into),
        acl: acl.to_vec(),
        kind,
        parent_cversion: -1,
        with_stat: false,
    });
    (header, txn)
}

fn acl(who: &str) -> Vec<Acl> {
    vec![Acl {
        permissions: Permissions::READ,
        id: Id::new("digest", who),
    }]
}

/// A replica with all there can be in a snapshot; it has processed txn `last`.
fn replica(settings: &TreeSettings) -> RwLock<Replica> {
    let mut tree = Tree::new(settings);
    let mut zxid = 0;
    let mut add = |path: &str, data: Option<&[u8]>, acl: &[Acl], kind| {
        zxid += 1;
        let (header, txn) = create(zxid, path, data, acl, kind);
        tree.replay(&header, txn);
    };
    add("/a", Some(b"data"), &acl("one"), ZnodeKind::Persistent);
    add("/a/null", None, &acl("two"), ZnodeKind::Persistent);
    add("/a/empty", Some(b""), &acl("one"), ZnodeKind::Container);
    add("/large", Some(&[5; 300_000]), &acl("one"), ZnodeKind::Persistent);
    for path in ["/of-session", "/of-stranger"] {
        add(path, None, &acl("two"), ZnodeKind::Ephemeral);
    }
    for n in 0..600 {
        add(
            &format!("/a/{n}"),
            Some(&[1; 9]),
            &acl("one"),
            ZnodeKind::Persistent,
        );
    }
    let sessions = BTreeMap::from([(SESSION, 4000), (SessionId(-5), 30_000)]);
    RwLock::new(Replica::new(tree, Zxid(zxid), sessions))
}

fn stream(replica: &RwLock<Replica>) -> Vec<u8> {
    let mut stream = SnapshotStream::begin(replica);
    let mut bytes = Vec::new();
    while stream.next_chunk(replica, &mut bytes) {}
    assert!(!stream.next_chunk(replica, &mut bytes), "the end is the end");
    bytes
}

fn storage(disk: &SimDisk) -> Storage {
    Storage::open(Arc::new(disk.clone()), None, StorageSettings::default()).unwrap()
}

fn begin(disk: &SimDisk, zxid: Zxid) -> SnapshotIntake {
    SnapshotIntake::begin(&storage(disk), &TreeSettings::default(), zxid).unwrap()
}

/// Takes in `bytes` as they are.
fn take_in(bytes: &[u8]) -> Result<ReceivedSnapshot, IntakeError> {
    let mut intake = begin(&SimDisk::new(1), Zxid(9));
    intake.feed(bytes)?;
    intake.finish()
}

fn refusal(bytes: &[u8]) -> (u64, String) {
    match take_in(bytes) {
        Err(IntakeError::Stream { offset, what }) => (offset, what),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was taken"),
    }
}

/// Data, ACL list and stat.
type Content = (Option<Vec<u8>>, Vec<Acl>, StoredStat);

/// All that a snapshot holds, by path.
fn content(replica: &Replica) -> BTreeMap<String, Content> {
    let tree = &replica.tree;
    let mut cursor = tree.snapshot_cursor();
    let mut znodes = BTreeMap::new();
    let mut visit = |path: &str, data: Option<&[u8]>, _: i64, stat: &StoredStat| {
        let acl = tree
            .znode(if path.is_empty() { "/" } else { path })
            .unwrap()
            .acl()
            .to_vec();
        znodes.insert(path.to_owned(), (data.map(<[u8]>::to_vec), acl, *stat));
    };
    while tree.next_znodes(&mut cursor, 1000, &mut visit) {}
    znodes
}

fn assert_same(here: &Replica, there: &Replica) {
    assert_eq!(content(here), content(there));
    assert_eq!(here.sessions, there.sessions);
    assert_eq!(here.tree.digest(), there.tree.digest());
    assert_eq!(here.tree.ephemerals_count(), there.tree.ephemerals_count());
}

fn unfinished(disk: &SimDisk) -> usize {
    let names = disk.list("version-2").unwrap();
    names.iter().filter(|name| name.starts_with("unfinished")).count()
}

#[test]
fn a_state_arrives_as_it_was_in_pieces_of_any_size_and_packets_behind_it_are_left() {
    let here = replica(&TreeSettings::default());
    let bytes = stream(&here);
    let packets = b"the next packet";
    let whole = [&bytes[..], packets].concat();
    for piece in [1, 2, 7, 61, 4096, 70_000, whole.len()] {
        let disk = SimDisk::new(1);
        let mut intake = begin(&disk, Zxid(9));
        let mut consumed = 0;
        for piece in whole.chunks(piece) {
            let progress = intake.feed(piece).unwrap();
            consumed += progress.consumed;
            if progress.is_complete {
                break;
            }
            assert_eq!(progress.consumed, piece.len());
        }
        assert_eq!(consumed, bytes.len(), "pieces of {piece}");
        let there = intake.finish().unwrap();
        assert_same(&here.read(), &there.replica);
        assert_eq!(
            (there.replica.last_processed, there.file.zxid()),
            (Zxid(9), Zxid(9))
        );
        assert_eq!(stream(&RwLock::new(there.replica)).len(), bytes.len());
    }
}

#[test]
fn chunks_are_bounded_and_txns_applied_between_them_can_be_replayed() {
    let here = replica(&TreeSettings::default());
    let before = here.read().last_processed;
    let mut stream = SnapshotStream::begin(&here);
    let mut bytes = Vec::new();
    let mut later = Vec::new();
    loop {
        let mut chunk = Vec::new();
        let more = stream.next_chunk(&here, &mut chunk);
        assert!(chunk.len() < 600_000 && (!chunk.is_empty() || !more));
        bytes.extend(chunk);
        if !more {
            break;
        }
        let zxid = before.0 + 1 + i64::try_from(later.len()).unwrap();
        let txn = create(
            zxid,
            &format!("/later-{zxid}"),
            None,
            &acl("late"),
            ZnodeKind::Persistent,
        );
        here.write().tree.replay(&txn.0, txn.1.clone());
        later.push(txn);
    }
    assert!(later.len() > 1, "the walk has several holds");
    let mut there = take_in(&bytes).unwrap().replica;
    for (header, txn) in later {
        there.tree.replay(&header, txn);
    }
    assert_same(&here.read(), &there);
}

#[test]
fn a_stream_whose_tree_was_replaced_ends_without_its_signature() {
    let here = replica(&TreeSettings::default());
    let mut stream = SnapshotStream::begin(&here);
    let mut bytes = Vec::new();
    assert!(stream.next_chunk(&here, &mut bytes));
    *here.write() = replica(&TreeSettings::default()).into_inner();
    assert!(!stream.next_chunk(&here, &mut bytes));
    assert!(!bytes.ends_with(SNAPSHOT_SIGNATURE.as_bytes()));
    assert_eq!(refusal(&bytes).1, "it ends early");
}

/// The bytes between header and first seal of a snapshot that a Java server wrote, and the signature.
fn java_stream() -> Vec<u8> {
    let line = include_str!("../../wire/tests/golden/storage.hex")
        .lines()
        .find_map(|line| line.strip_prefix("snapshot "))
        .unwrap();
    let file: Vec<u8> = (0..line.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap())
        .collect();
    // Three seals, the digest and the zxid stand behind the end of the znodes.
    let mut bytes = file[16..file.len() - 13 - 20 - 13 - 8 - 13].to_vec();
    Encoder::new(&mut bytes).string(SNAPSHOT_SIGNATURE);
    bytes
}

#[test]
fn a_state_of_a_java_server_is_taken_in_and_is_the_same_when_it_is_sent_on() {
    let bytes = java_stream();
    let received = take_in(&bytes).unwrap().replica;
    assert_eq!((received.tree.znode_count(), received.sessions.len()), (13, 0));
    let again = take_in(&stream(&RwLock::new(received))).unwrap().replica;
    assert_same(&take_in(&bytes).unwrap().replica, &again);
}

#[test]
fn every_part_of_a_stream_is_incomplete_and_leaves_no_file() {
    let bytes = java_stream();
    for length in 0..bytes.len() {
        let disk = SimDisk::new(1);
        let mut intake = begin(&disk, Zxid(9));
        assert_eq!(unfinished(&disk), 1);
        let progress = intake.feed(&bytes[..length]).unwrap();
        assert_eq!((progress.consumed, progress.is_complete), (length, false));
        if length % 2 == 0 {
            let error = intake.finish().err().unwrap().to_string();
            assert!(error.contains("ends early"), "{error}");
        } else {
            drop(intake);
        }
        assert_eq!(unfinished(&disk), 0);
    }
}

/// A stream of these parts.
fn crafted(sessions: &[u8], acls: &[u8], znodes: impl FnOnce(&mut Encoder<'_>)) -> Vec<u8> {
    let mut bytes = [sessions, acls].concat();
    let mut encoder = Encoder::new(&mut bytes);
    znodes(&mut encoder);
    encoder.raw(&SNAPSHOT_END);
    encoder.string(SNAPSHOT_SIGNATURE);
    bytes
}

const NONE: &[u8] = &[0; 4];

fn znode(encoder: &mut Encoder<'_>, path: &str) {
    encode_znode(encoder, path, None, -1, &StoredStat::default());
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let root = |encoder: &mut Encoder<'_>| znode(encoder, "");
    let root_length = 4 + 4 + 8 + 60;
    assert!(take_in(&crafted(NONE, NONE, root)).is_ok(), "a root is enough");

    let (offset, what) = refusal(&crafted(NONE, NONE, |_| {}));
    assert_eq!((offset, &*what), (8, "the snapshot has no root"));
    let orphan = crafted(NONE, NONE, |encoder| {
        root(encoder);
        znode(encoder, "/a/b");
    });
    assert_eq!(
        refusal(&orphan),
        (8 + root_length, "znode \"/a/b\" has no parent".to_owned())
    );
    let twice = crafted(NONE, NONE, |encoder| {
        root(encoder);
        root(encoder);
    });
    assert!(refusal(&twice).1.contains("came twice"));
    let relative = crafted(NONE, NONE, |encoder| {
        root(encoder);
        znode(encoder, "a");
    });
    assert!(refusal(&relative).1.contains("not the path of a znode"));

    let key_zero = [&[0, 0, 0, 1][..], &[0; 8], NONE].concat();
    assert!(refusal(&crafted(NONE, &key_zero, root)).1.contains("ACL key 0"));
    let null_list = [&[0, 0, 0, 1][..], &[0, 0, 0, 0, 0, 0, 0, 1], &[0xff; 4]].concat();
    assert!(refusal(&crafted(NONE, &null_list, root)).1.contains("null"));

    let null_path = [NONE, NONE, &[0xff; 4]].concat();
    assert_eq!(refusal(&null_path), (8, "the path of a znode is null".to_owned()));
    let negative = [NONE, NONE, &[0xff, 0xff, 0xff, 0xfe]].concat();
    assert_eq!(
        refusal(&negative),
        (8, "the length -2 is not possible".to_owned())
    );

    let mut unsigned = crafted(NONE, NONE, root);
    *unsigned.last_mut().unwrap() ^= 1;
    assert!(refusal(&unsigned).1.contains("BenWasHere"));
    assert!(SnapshotIntake::begin(&storage(&SimDisk::new(1)), &TreeSettings::default(), Zxid(-1)).is_err());
}

#[test]
fn counts_below_one_mean_nothing_and_a_missing_acl_list_permits_nothing_as_in_recovery() {
    let below = &[0xff, 0xff, 0xff, 0xf0];
    let bytes = crafted(below, below, |encoder| {
        znode(encoder, "");
        encode_znode(encoder, "/a", None, 77, &StoredStat::default());
    });
    let received = take_in(&bytes).unwrap().replica;
    assert!(received.sessions.is_empty());
    let acl = received.tree.znode("/a").unwrap().acl().to_vec();
    assert!(acl.iter().all(|acl| acl.permissions == Permissions(0)), "{acl:?}");
}

#[test]
fn nothing_is_taken_for_what_is_only_claimed_and_a_record_over_the_limit_is_refused_at_once() {
    let claims = |count: i32| count.to_be_bytes();
    for bytes in [
        claims(i32::MAX).to_vec(),
        [NONE, &claims(i32::MAX)].concat(),
        [NONE, &claims(1), &[0, 0, 0, 0, 0, 0, 0, 1], &claims(i32::MAX)].concat(),
        [NONE, NONE, &claims(60_000_000)].concat(),
    ] {
        let mut intake = begin(&SimDisk::new(1), Zxid(9));
        intake.feed(&bytes).unwrap();
        intake.feed(&[0; 3]).unwrap();
        assert!(intake.buffered_bytes() < 100, "{bytes:?}");
    }
    let (offset, what) = refusal(&[NONE, NONE, &claims(i32::MAX)].concat());
    assert!(offset == 8 && what.contains("limit"), "{what}");
    let id = [&[0, 0, 0, 31][..], &claims(i32::MAX)].concat();
    let long_id = [NONE, &claims(1), &[0, 0, 0, 0, 0, 0, 0, 1], &claims(1), &id].concat();
    assert!(refusal(&long_id).1.contains("limit"));
}

#[test]
fn after_a_refusal_nothing_more_is_taken() {
    let good = crafted(NONE, NONE, |encoder| znode(encoder, ""));
    let mut intake = begin(&SimDisk::new(1), Zxid(9));
    intake.feed(&[NONE, NONE, &[0xff; 4]].concat()).unwrap_err();
    assert!(intake.feed(&good[8..]).is_err());
    assert!(intake.finish().is_err());
}

#[test]
fn a_file_that_is_set_aside_is_no_snapshot_and_vanishes_with_its_owner_or_at_the_next_start() {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    encoder.length(1);
    encode_session(&mut encoder, SESSION, 4000);
    let bytes = crafted(&bytes, NONE, |encoder| znode(encoder, ""));
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
        let disk = SimDisk::new(1);
        let settings = StorageSettings {
            compression,
            ..StorageSettings::default()
        };
        let storage = Storage::open(Arc::new(disk.clone()), None, settings).unwrap();
        let receive = || {
            let mut intake = SnapshotIntake::begin(&storage, &TreeSettings::default(), Zxid(9)).unwrap();
            intake.feed(&bytes).unwrap();
            intake.finish().unwrap()
        };
        // Two at a time do not meet.
        let received = (receive(), receive());
        assert_eq!(unfinished(&disk), 2);
        assert!(recover(&storage, &TreeSettings::default(), 0).unwrap().is_new);
        drop(received.0);
        assert_eq!(unfinished(&disk), 1);
        std::mem::forget(received.1);
        disk.kill_process();
        Storage::open(Arc::new(disk.clone()), None, settings).unwrap();
        assert_eq!(disk.list("version-2").unwrap(), [""; 0]);
    }
}

#[test]
fn the_empty_state_is_that_of_a_new_server() {
    for digest_enabled in [true, false] {
        let settings = TreeSettings {
            digest_enabled,
            ..TreeSettings::default()
        };
        let received = empty_snapshot(&storage(&SimDisk::new(1)), &settings).unwrap();
        let new = Replica::new(Tree::new(&settings), Zxid::ZERO, BTreeMap::new());
        assert_same(&new, &received.replica);
        assert_eq!(received.replica.last_processed, Zxid::ZERO);
    }
}
