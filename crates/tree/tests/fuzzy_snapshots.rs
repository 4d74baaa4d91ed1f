//! Snapshots taken while txns are applied, and what comes of replaying the log over them (T1).

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::requests::{BUILT_IN, Step, churn, steps};
use common::*;
use oxkeeper_tree::{RestoreError, Tree, TreeSettings};
use oxkeeper_types::{
    Acl, CreateMode::*, CreateTxn, ErrorCode, Outcome, SessionId, StoredStat, Txn, TxnHeader, WriteRequest,
    ZnodeKind, Zxid,
};
use proptest::prelude::*;

/// Path, data, ACL key, stat.
type SnapshotZnode = (String, Option<Box<[u8]>>, i64, StoredStat);

/// What a snapshot file has.
#[derive(Default)]
struct Snapshot {
    acls: Vec<(i64, Vec<Acl>)>,
    znodes: Vec<SnapshotZnode>,
}

impl Snapshot {
    fn restore(self, settings: &TreeSettings) -> Result<Tree, RestoreError> {
        let mut tree = Tree::begin_restore(settings);
        for (key, list) in self.acls {
            tree.restore_acl(key, list)?;
        }
        for (path, data, key, stat) in self.znodes {
            tree.restore_znode(&path, data, key, stat)?;
        }
        tree.finish_restore()?;
        Ok(tree)
    }
}

fn acls(tree: &Tree) -> Vec<(i64, Vec<Acl>)> {
    tree.acl_table()
        .into_iter()
        .map(|(key, list)| (key, list.to_vec()))
        .collect()
}

/// The whole tree at once.
fn snapshot(tree: &Tree) -> Snapshot {
    let mut snapshot = Snapshot {
        acls: acls(tree),
        ..Snapshot::default()
    };
    let mut cursor = tree.snapshot_cursor();
    while tree.next_znodes(&mut cursor, 3, &mut |path, data, key, stat| {
        snapshot
            .znodes
            .push((path.to_owned(), data.map(Into::into), key, *stat));
    }) {}
    snapshot
}

fn assert_same(left: &Tree, right: &Tree) {
    assert_eq!(dump(left), dump(right));
    assert_eq!(left.digest(), right.digest());
    assert_eq!(left.approximate_data_size(), right.approximate_data_size());
    let owners = |tree: &Tree| tree.sessions_with_ephemerals().collect::<Vec<_>>();
    assert_eq!(owners(left), owners(right));
    for (session, _) in owners(left) {
        assert_eq!(left.ephemerals_of(session), right.ephemerals_of(session));
    }
    let sorted = |tree: &Tree| {
        tree.expired_candidates(i64::MAX, &TreeSettings::default())
            .into_iter()
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(sorted(left), sorted(right));
}

/// Where in a history a snapshot is taken.
#[derive(Clone, Debug)]
struct When {
    begin: usize,
    /// How many znodes each hold visits.
    per_hold: usize,
    /// How many txns are applied between two holds.
    per_gap: usize,
    java_walk: bool,
}

/// Visits all znodes in holds, with a gap after each.
fn our_walk(world: &mut World, taken: &mut Snapshot, per_hold: usize, mut gap: impl FnMut(&mut World)) {
    let mut cursor = world.tree.snapshot_cursor();
    loop {
        let visited = taken.znodes.len();
        let more = world
            .tree
            .next_znodes(&mut cursor, per_hold, &mut |path, data, key, stat| {
                taken
                    .znodes
                    .push((path.to_owned(), data.map(Into::into), key, *stat));
            });
        assert!(taken.znodes.len() - visited <= per_hold);
        assert_eq!(cursor.is_finished(), !more);
        if !more {
            break;
        }
        gap(world);
    }
}

/// Visits znodes as Java does, with a gap after each: the names of the children are taken together with their
/// parent, and each child is looked up by its path later, whether it still is the same znode or not.
fn java_walk(world: &mut World, taken: &mut Snapshot, mut gap: impl FnMut(&mut World)) {
    let mut paths = vec!["/".to_owned()];
    while let Some(path) = paths.pop() {
        if let Some(znode) = world.tree.znode(&path) {
            let known = taken.acls.iter().find(|(_, list)| list == znode.acl());
            let is_built_in = BUILT_IN.contains(&path.as_str()) && znode.acl() == open();
            let key = known.map_or(if is_built_in { -1 } else { 1000 }, |(key, _)| *key);
            let as_stored = if path == "/" { String::new() } else { path.clone() };
            taken
                .znodes
                .push((as_stored, znode.data().map(Into::into), key, *znode.stored_stat()));
            paths.extend(
                znode
                    .children()
                    .map(|name| oxkeeper_types::join_path(&path, name)),
            );
        }
        gap(world);
    }
}

fn check_replay(history: Vec<Step>, when: When) {
    let settings = TreeSettings {
        extended_types: true,
        ..TreeSettings::default()
    };
    let mut world = World::new(settings.clone());
    let step = |world: &mut World, step: Step| {
        world.ids = step.ids;
        world.run_by(step.session, step.request);
    };
    let mut steps = history.into_iter();
    for one in steps.by_ref().take(when.begin) {
        step(&mut world, one);
    }
    let (from, at_begin) = (world.zxid, dump(&world.tree));
    let mut taken = Snapshot {
        acls: acls(&world.tree),
        ..Snapshot::default()
    };
    if when.java_walk {
        java_walk(&mut world, &mut taken, |world| {
            for one in steps.by_ref().take(when.per_gap) {
                step(world, one);
            }
        });
    } else {
        our_walk(&mut world, &mut taken, when.per_hold, |world| {
            for one in steps.by_ref().take(when.per_gap) {
                step(world, one);
            }
        });
        // Every znode that lived through the walk was visited, and none twice, for restoring would fail.
        let visited: BTreeMap<&str, Zxid> = taken
            .znodes
            .iter()
            .map(|(path, _, _, stat)| (path.as_str(), stat.czxid))
            .collect();
        for (path, (_, _, stat)) in dump(&world.tree) {
            if at_begin
                .get(&path)
                .is_some_and(|(_, _, before)| before.czxid == stat.czxid)
            {
                let as_stored = if path == "/" { "" } else { &path };
                assert_eq!(visited.get(as_stored), Some(&stat.czxid), "{path}");
            }
        }
    }
    for one in steps {
        step(&mut world, one);
    }
    let mut restored = taken
        .restore(&settings)
        .expect("the snapshot of a walk is a tree");
    for (header, txn, _) in world.history.iter().filter(|(header, _, _)| header.zxid > from) {
        let _ignored_when_unfit = restored.replay(header, txn.clone());
    }
    assert_same(&restored, &world.tree);
}

fn when() -> impl Strategy<Value = When> {
    (0_usize..60, 1_usize..3, 0_usize..12, any::<bool>()).prop_map(|(begin, per_hold, per_gap, java_walk)| {
        When {
            begin,
            per_hold,
            per_gap,
            java_walk,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// T1: whatever a snapshot caught of which txn, replaying all txns since it began gives the same tree.
    #[test]
    fn replay_over_a_fuzzy_snapshot_gives_the_same_tree(history in steps(), when in when()) {
        check_replay(history, when);
    }

    /// The same for paths that come and go all the time.
    #[test]
    fn replay_over_a_fuzzy_snapshot_of_churn_gives_the_same_tree(history in churn(), when in when()) {
        check_replay(history, when);
    }

    /// A snapshot of a tree at rest is the tree; keys and ids may differ, what can be seen may not.
    #[test]
    fn a_restored_snapshot_is_the_tree(history in steps()) {
        let mut world = World::new(TreeSettings { extended_types: true, ..TreeSettings::default() });
        for step in history {
            world.run_by(step.session, step.request);
        }
        let restored = snapshot(&world.tree).restore(&world.settings).unwrap();
        assert_same(&restored, &world.tree);
        assert_eq!(acls(&restored), acls(&world.tree));
    }
}

fn header(zxid: i64) -> TxnHeader {
    TxnHeader {
        session: SESSION,
        cxid: 0,
        zxid: Zxid(zxid),
        time: zxid * 10,
    }
}

fn create_txn(path: &str, kind: ZnodeKind, parent_cversion: i32) -> Txn {
    Txn::Create(CreateTxn {
        path: path.to_owned(),
        data: None,
        acl: vec![acl(1, "world", "anyone")],
        kind,
        parent_cversion,
        with_stat: true,
    })
}

#[test]
fn replayed_creates_of_what_is_there_bring_the_acl_and_raise_the_parent() {
    let mut world = World::new(TreeSettings::default());
    world.ok(create("/n", Persistent));
    world.ok(set_data("/n", b"later", -1));
    let before = *world.tree.znode("/n").unwrap().stored_stat();
    let outcome = world
        .tree
        .replay(&header(5), create_txn("/n", ZnodeKind::Persistent, 7));
    assert_eq!(outcome, Outcome::Failed(ErrorCode::NodeExists));
    let n = world.tree.znode("/n").unwrap();
    assert_eq!((n.data(), *n.stored_stat()), (Some(&b"later"[..]), before));
    assert_eq!(n.acl(), [acl(1, "world", "anyone")]);
    let root = *world.tree.znode("/").unwrap().stored_stat();
    assert_eq!((root.cversion, root.pzxid), (7, Zxid(5)));
    // An older one does not lower it.
    world
        .tree
        .replay(&header(3), create_txn("/m", ZnodeKind::Persistent, 2));
    let root = *world.tree.znode("/").unwrap().stored_stat();
    assert_eq!((root.cversion, root.pzxid), (7, Zxid(5)));
    // Of very old logs the counter is not known.
    world
        .tree
        .replay(&header(6), create_txn("/l", ZnodeKind::Persistent, -1));
    assert_eq!(world.tree.znode("/").unwrap().stored_stat().cversion, 8);
}

#[test]
fn replayed_txns_that_do_not_fit_are_passed_over() {
    let mut world = World::new(TreeSettings::default());
    world.ok(create("/n", Persistent));
    let before = dump(&world.tree);
    let no_node = Outcome::Failed(ErrorCode::NoNode);
    let path = "/none/x".to_owned();
    for txn in [
        create_txn("/none/x", ZnodeKind::Persistent, 1),
        create_txn("/", ZnodeKind::Persistent, 1),
        create_txn("", ZnodeKind::Persistent, 1),
        create_txn("/n/", ZnodeKind::Persistent, 1),
        create_txn("relative", ZnodeKind::Persistent, 1),
        Txn::Delete {
            path: path.clone(),
            by_server: false,
        },
        Txn::Delete {
            path: "/".into(),
            by_server: false,
        },
        Txn::SetData {
            path: path.clone(),
            data: None,
            version: 1,
        },
        Txn::SetAcl {
            path,
            acl: vec![],
            version: 1,
        },
    ] {
        assert_eq!(world.tree.replay(&header(9), txn.clone()), no_node, "{txn:?}");
    }
    assert_eq!(dump(&world.tree), before);
    // A delete that comes too late still raises the parent.
    world.tree.replay(
        &header(9),
        Txn::Delete {
            path: "/gone".into(),
            by_server: false,
        },
    );
    assert_eq!(world.stat("/").pzxid, Zxid(9));
}

#[test]
fn a_replayed_delete_takes_what_came_later_with_it() {
    let mut world = World::new(TreeSettings::default());
    for path in ["/q", "/q/a", "/q/a/b", "/q/c", "/zookeeper/quota/q"] {
        world.ok(create_with(path, b"1", open()));
    }
    world.ok(create_with(
        "/zookeeper/quota/q/zookeeper_limits",
        b"count=9,bytes=9",
        open(),
    ));
    world.ok(create_with("/zookeeper/quota/q/zookeeper_stats", b"", open()));
    world.ok(create("/q/a/b/e", Ephemeral));
    world.tree.replay(
        &header(20),
        Txn::Delete {
            path: "/q/a".into(),
            by_server: false,
        },
    );
    assert_eq!(world.tree.ephemerals_count(), 0);
    assert!(world.tree.znode("/q/a/b").is_none());
    let usage = world
        .tree
        .znode("/zookeeper/quota/q/zookeeper_stats")
        .unwrap()
        .data();
    assert_eq!(usage, Some(&b"count=2,bytes=2"[..]));
}

#[test]
fn an_acl_that_the_snapshot_lacks_permits_nothing_until_the_log_brings_it() {
    let settings = TreeSettings::default();
    let missing = Snapshot {
        acls: vec![],
        znodes: vec![
            (String::new(), None, -1, StoredStat::default()),
            ("/n".into(), None, 4, StoredStat::default()),
            ("/m".into(), None, 0, StoredStat::default()),
        ],
    };
    let mut world = World {
        tree: missing.restore(&settings).unwrap(),
        ..World::new(settings)
    };
    for path in ["/n", "/m"] {
        assert_eq!(world.err(set_data(path, b"", -1)), ErrorCode::NoAuth);
        assert_eq!(world.multi(vec![check(path, -1)]), [ErrorCode::NoAuth.code()]);
    }
    world
        .tree
        .replay(&header(5), create_txn("/n", ZnodeKind::Persistent, 1));
    world.zxid = Zxid(5);
    assert_eq!(world.multi(vec![check("/n", -1)]), [0]);
}

#[test]
fn snapshots_that_are_no_trees_are_refused() {
    let settings = TreeSettings::default();
    let znode = |path: &str| (path.to_owned(), None, -1, StoredStat::default());
    let restore = |acls: &[i64], paths: &[&str]| {
        let acls = acls.iter().map(|&key| (key, open())).collect();
        Snapshot {
            acls,
            znodes: paths.iter().map(|path| znode(path)).collect(),
        }
        .restore(&settings)
        .map(|_| ())
    };
    let path = |path: &str| path.to_owned();
    assert_eq!(restore(&[], &[]), Err(RestoreError::NoRoot));
    assert_eq!(restore(&[0], &[]), Err(RestoreError::AclKey { key: 0 }));
    assert_eq!(restore(&[2, 2], &[]), Err(RestoreError::AclKey { key: 2 }));
    assert_eq!(
        restore(&[], &["/a"]),
        Err(RestoreError::Orphan { path: path("/a") })
    );
    assert_eq!(
        restore(&[], &["", "/a/b"]),
        Err(RestoreError::Orphan { path: path("/a/b") })
    );
    assert_eq!(
        restore(&[], &["", ""]),
        Err(RestoreError::Duplicate { path: path("") })
    );
    assert_eq!(
        restore(&[], &["", "/a", "/a"]),
        Err(RestoreError::Duplicate { path: path("/a") })
    );
    assert_eq!(
        restore(&[], &["", "/a", "/a/"]),
        Err(RestoreError::Path { path: path("/a/") })
    );
    assert_eq!(
        restore(&[], &["", "a"]),
        Err(RestoreError::Path { path: path("a") })
    );
    assert_eq!(
        restore(&[], &["", "/"]),
        Err(RestoreError::Path { path: path("/") })
    );
    // Old releases have not all of the built-in znodes.
    assert_eq!(restore(&[], &["", "/zookeeper", "/zookeeper/quota"]), Ok(()));
}

#[test]
fn a_snapshot_of_an_old_release_gets_the_built_in_znodes_it_lacks() {
    let settings = TreeSettings::default();
    let znodes =
        ["", "/zookeeper"].map(|path| (path.to_owned(), Some(Box::default()), -1, StoredStat::default()));
    let restored = Snapshot {
        acls: vec![],
        znodes: znodes.into(),
    }
    .restore(&settings)
    .unwrap();
    assert_same(&restored, &Tree::new(&settings));
}

#[test]
fn quotas_work_again_after_a_restore() {
    let mut world = World::new(TreeSettings::default());
    for path in ["/q", "/q/a", "/zookeeper/quota/q"] {
        world.ok(create_with(path, b"12", open()));
    }
    world.ok(create_with(
        "/zookeeper/quota/q/zookeeper_limits",
        b"count=9,bytes=9",
        open(),
    ));
    world.ok(create_with("/zookeeper/quota/q/zookeeper_stats", b"", open()));
    world.ok(set_data(
        "/zookeeper/quota/q/zookeeper_stats",
        b"count=100,bytes=100",
        -1,
    ));
    let mut world = World {
        tree: snapshot(&world.tree).restore(&world.settings).unwrap(),
        zxid: world.zxid,
        ..World::new(world.settings)
    };
    let usage = |world: &World| {
        world
            .tree
            .znode("/zookeeper/quota/q/zookeeper_stats")
            .unwrap()
            .data()
            .map(<[u8]>::to_vec)
    };
    assert_eq!(usage(&world), Some(b"count=2,bytes=4".to_vec()));
    world.ok(delete("/q/a", -1));
    assert_eq!(usage(&world), Some(b"count=1,bytes=2".to_vec()));
}

#[test]
fn ephemerals_of_lost_sessions_can_be_deleted_after_a_restart() {
    let mut world = World::new(TreeSettings::default());
    world.run_by(SessionId(7), create("/e", Ephemeral));
    world.run_by(SessionId(8), create("/f", Ephemeral));
    let mut tree = snapshot(&world.tree).restore(&world.settings).unwrap();
    assert_eq!(
        tree.sessions_with_ephemerals().collect::<Vec<_>>(),
        [(SessionId(7), 1), (SessionId(8), 1)]
    );
    tree.delete_ephemerals_of(SessionId(7), Zxid(2));
    assert!(tree.znode("/e").is_none() && tree.znode("/f").is_some());
    assert_eq!(tree.newest_zxid(), Zxid(2));
}

#[test]
fn the_configuration_is_shown_and_survives_a_snapshot() {
    let mut world = World::new(TreeSettings::default());
    let digest = world.tree.digest();
    world
        .tree
        .set_config(b"server.1=a".to_vec().into(), Zxid(0x1_0000_0000), 77);
    let stat = world.stat("/zookeeper/config");
    assert_eq!(
        (stat.version, stat.mzxid, stat.mtime, stat.aversion),
        (-1, Zxid(0x1_0000_0000), 77, -1)
    );
    assert_eq!(world.tree.digest(), digest);
    let restored = snapshot(&world.tree).restore(&world.settings).unwrap();
    assert_same(&restored, &world.tree);
    assert_eq!(world.run(WriteRequest::CloseSession), Outcome::Done);
}
