//! A start: a snapshot and a log with right checksums and arbitrary content become a tree, or are refused. The tree's
//! own snapshot gives the same tree again.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use oxkeeper_core::{recover, write_snapshot};
use oxkeeper_fuzz::{disk, log, pieces, snapshot, storage};
use oxkeeper_tree::{Tree, TreeSettings};
use oxkeeper_types::{CONFIG_PATH, QUOTA_PATH, RESERVED_PATH, StoredStat};
use parking_lot::RwLock;

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

fuzz_target!(|bytes: &[u8]| {
    let Some((&mode, bytes)) = bytes.split_first() else {
        return;
    };
    let settings = TreeSettings {
        extended_types: mode & 1 != 0,
        emulate_353: mode & 2 != 0,
        ..TreeSettings::default()
    };
    let pieces = pieces(bytes);
    let mut files = Vec::new();
    let entries = if mode & 4 == 0 {
        &pieces[..]
    } else {
        let Some((records, entries)) = pieces.split_first() else {
            return;
        };
        files.push(("snapshot.0", snapshot(records)));
        entries
    };
    files.push(("log.1", log(entries, true)));
    let files = disk(&files);
    let Ok(recovered) = recover(&storage(files.clone()), &settings, 3) else {
        return;
    };
    // A snapshot may say that these are ephemerals of a session that is gone. A start makes them again.
    let built_in = [RESERVED_PATH, QUOTA_PATH, CONFIG_PATH];
    if built_in
        .iter()
        .any(|path| recovered.replica.tree.znode(path).is_none())
    {
        return;
    }
    let replica = RwLock::new(recovered.replica);
    write_snapshot(&replica, &storage(files.clone()), true, true).expect("there is room");
    let again = recover(&storage(files), &settings, 0)
        .expect("we wrote the snapshot")
        .replica;
    let replica = replica.into_inner();
    assert_eq!(again.last_processed, replica.last_processed);
    assert_eq!(znodes(&again.tree), znodes(&replica.tree));
    assert_eq!(again.tree.digest(), replica.tree.digest());
    assert_eq!(again.tree.ephemerals_count(), replica.tree.ephemerals_count());
    assert_eq!(again.sessions, replica.sessions);
});
