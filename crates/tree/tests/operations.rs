//! Each operation's checks in their order, and what it leaves behind (client spec, sections 4.3, 5, 6, 10 and 14).

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod common;

use common::*;
use oxkeeper_tree::{Caller, Tree, TreeSettings};
use oxkeeper_types::{
    CreateMode, CreateRequest, ErrorCode, Id, OpCode, OpResult, Outcome, ReconfigRequest, SessionId,
    StoredStat, Txn, WriteRequest, Zxid,
};
use oxkeeper_types::{CreateMode::*, ErrorCode::*};

fn world() -> World {
    World::new(TreeSettings::default())
}

fn with_extended_types() -> World {
    World::new(TreeSettings {
        extended_types: true,
        ..TreeSettings::default()
    })
}

fn created_path(outcome: Outcome) -> String {
    match outcome {
        Outcome::Created { path, .. } => path,
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn a_new_tree_shows_what_java_shows() {
    let world = world();
    let root = world.stat("/");
    assert_eq!((root.cversion, root.num_children, root.data_length), (-1, 1, 0));
    assert_eq!(world.stat(""), root);
    let reserved = world.stat("/zookeeper");
    assert_eq!((reserved.cversion, reserved.num_children), (-2, 2));
    let config = world.stat("/zookeeper/config");
    assert_eq!(
        (config.aversion, config.version, config.mzxid),
        (-1, 0, Zxid::ZERO)
    );
    let acl = world.tree.znode("/zookeeper/config").unwrap().acl().to_vec();
    assert_eq!(acl, [common::acl(1, "world", "anyone")]);
    assert_eq!(world.tree.znode("/").unwrap().acl(), open());
    assert_eq!(world.tree.znode("/").unwrap().data(), Some(&[][..]));
    assert_eq!(world.tree.digest().tree_digest, 1_371_985_504);
    assert_eq!(world.tree.znode("/").unwrap().descendants(), 3);
    assert_eq!(world.tree.znode_count(), 5);
    assert_eq!(world.tree.approximate_data_size(), 44);
}

#[test]
fn reads_find_exact_paths_only() {
    let mut world = world();
    world.ok(create("/a", Persistent));
    world.ok(create("/a/b", Persistent));
    for (path, exists) in [
        ("/a/b", true),
        ("/a/", false),
        ("/a//b", false),
        ("//a", false),
        ("a", false),
        ("/", true),
        ("//", false),
    ] {
        assert_eq!(world.tree.znode(path).is_some(), exists, "{path:?}");
    }
}

#[test]
fn the_first_check_of_create_that_fails_decides() {
    let mut world = world();
    world.ok(create("/p", Persistent));
    world.ok(create("/e", Ephemeral));
    let locked = vec![acl(31, "digest", "u:h")];
    world.ok(create_as(OpCode::Create, "/locked", 0, -1, open()));
    world.ok(create("/locked/x", Persistent));
    world.ok(set_acl("/locked", locked, -1));
    let none = Vec::new;
    for (request, code) in [
        // Each row breaks the rule it is about and as many later ones as it can.
        (create_as(OpCode::Create, "bad", 7, -1, none()), BadArguments),
        (create_as(OpCode::Create, "bad", -1, -1, none()), BadArguments),
        (create_as(OpCode::CreateTtl, "bad", 5, 0, none()), Unimplemented),
        (create_as(OpCode::Create, "bad", 5, -1, none()), Unimplemented),
        (create_as(OpCode::CreateTtl, "/no/x", 0, 5, none()), BadArguments),
        (create_as(OpCode::Create, "", 0, -1, none()), BadArguments),
        (create_as(OpCode::Create, "foo", 0, -1, none()), BadArguments),
        (create_as(OpCode::Create, "/no/\0", 0, -1, none()), BadArguments),
        (create_as(OpCode::Create, "/no/x/", 0, -1, none()), InvalidAcl),
        (
            create_as(OpCode::Create, "/no/x", 0, -1, vec![acl(1, "world", "x")]),
            InvalidAcl,
        ),
        (
            create_as(OpCode::Create, "/no/x", 0, -1, vec![acl(1, "auth", "")]),
            InvalidAcl,
        ),
        (create_as(OpCode::Create, "/p//x", 0, -1, open()), NoNode),
        (create_as(OpCode::Create, "foo/bar", 0, -1, open()), NoNode),
        (create_as(OpCode::Create, "/locked/x", 0, -1, open()), NoAuth),
        (create_as(OpCode::Create, "/locked/", 0, -1, open()), NoAuth),
        (create_as(OpCode::Create, "/p/", 0, -1, open()), BadArguments),
        (create_as(OpCode::Create, "/p/..", 0, -1, open()), BadArguments),
        (
            create_as(OpCode::Create, "/p/\u{1f600}", 0, -1, open()),
            BadArguments,
        ),
        (create_as(OpCode::Create, "/", 0, -1, open()), NodeExists),
        (create_as(OpCode::Create, "/p", 0, -1, open()), NodeExists),
        (
            create_as(OpCode::Create, "/e/x", 0, -1, open()),
            NoChildrenForEphemerals,
        ),
    ] {
        let shown = format!("{request:?}");
        assert_eq!(world.err(request), code, "{shown}");
    }
}

#[test]
fn the_session_check_of_create_comes_after_flags_and_before_the_path() {
    let mut world = world();
    let ids = [];
    let closing = Caller {
        session_check: Err(SessionExpired),
        ..Caller::new(SESSION, &ids, 0)
    };
    let local = Caller {
        ephemeral_check: Err(EphemeralOnLocalSession),
        ..Caller::new(SESSION, &ids, 0)
    };
    for (caller, request, code) in [
        (
            closing,
            create_as(OpCode::Create, "", 9, -1, vec![]),
            BadArguments,
        ),
        (
            closing,
            create_as(OpCode::CreateTtl, "", 5, 1, vec![]),
            Unimplemented,
        ),
        (
            closing,
            create_as(OpCode::Create, "", 0, -1, vec![]),
            SessionExpired,
        ),
        (closing, delete("/", 3), SessionExpired),
        (closing, set_data("", b"", 3), SessionExpired),
        (closing, set_acl("", vec![], 3), SessionExpired),
        (
            local,
            create_as(OpCode::Create, "", 1, -1, vec![]),
            EphemeralOnLocalSession,
        ),
        (local, create_as(OpCode::Create, "", 0, -1, vec![]), BadArguments),
    ] {
        let shown = format!("{request:?}");
        assert_eq!(
            world.prepare_as(&caller, request).txn,
            Txn::error(code),
            "{shown}"
        );
        world.apply_one();
    }
}

#[test]
fn flags_and_operation_decide_together_what_a_create_makes() {
    let mut world = with_extended_types();
    let container = i64::MIN;
    let ttl = 0xff00_0000_0000_0005_u64.cast_signed();
    for (op, flags, given_ttl, owner) in [
        (OpCode::Create, 0, -1, Ok(0)),
        (OpCode::Create, 1, -1, Ok(SESSION.0)),
        // Container flags with a plain operation make a plain znode.
        (OpCode::Create, 4, -1, Ok(0)),
        (OpCode::Create2, 4, -1, Ok(0)),
        (OpCode::CreateContainer, 4, -1, Ok(container)),
        (OpCode::CreateContainer, 0, -1, Ok(container)),
        (OpCode::CreateContainer, 1, -1, Ok(container)),
        (OpCode::CreateTtl, 5, 5, Ok(ttl)),
        (OpCode::CreateTtl, 5, 0, Err(BadArguments)),
        (OpCode::CreateTtl, 5, -1, Err(BadArguments)),
        (OpCode::CreateTtl, 5, 0xff_ffff_ffff + 1, Err(BadArguments)),
        (OpCode::Create, 5, -1, Err(BadArguments)),
        (OpCode::CreateContainer, 5, -1, Err(BadArguments)),
        // Java's server would die of applying the second of these.
        (OpCode::CreateTtl, 0, 5, Err(BadArguments)),
        (OpCode::CreateTtl, 0, -1, Err(BadArguments)),
        (OpCode::CreateTtl, 4, -1, Err(BadArguments)),
    ] {
        let outcome = world.run(create_as(op, "/n", flags, given_ttl, open()));
        let case = format!("{op:?} {flags} {given_ttl}: {outcome:?}");
        match owner {
            Err(code) => assert_eq!(outcome, Outcome::Failed(code), "{case}"),
            Ok(owner) => {
                let Outcome::Created { stat, .. } = outcome else {
                    panic!("{case}")
                };
                assert_eq!(stat.is_some(), op != OpCode::Create, "{case}");
                let znode = world.tree.znode("/n").unwrap();
                assert_eq!(znode.stored_stat().ephemeral_owner, owner, "{case}");
                let shown = if owner == SESSION.0 {
                    SESSION
                } else {
                    SessionId::NONE
                };
                assert_eq!(znode.stat().ephemeral_owner, shown, "{case}");
                world.ok(delete("/n", -1));
            }
        }
    }
    assert_eq!(
        created_path(world.ok(create_as(OpCode::CreateContainer, "/s-", 2, -1, open()))),
        "/s-0000000008"
    );
    assert_eq!(
        created_path(world.ok(create_as(OpCode::CreateTtl, "/s-", 6, 9, open()))),
        "/s-0000000009"
    );
}

#[test]
fn sequence_numbers_count_all_creates_and_no_deletes() {
    let mut world = world();
    world.ok(create("/p", Persistent));
    assert_eq!(
        created_path(world.ok(create("/p/s", PersistentSequential))),
        "/p/s0000000000"
    );
    world.ok(create("/p/x", Persistent));
    world.ok(delete("/p/x", -1));
    world.err(create("/p/s0000000000", Persistent));
    world.err(delete("/p/none", -1));
    assert_eq!(
        created_path(world.ok(create("/p/", EphemeralSequential))),
        "/p/0000000002"
    );
    assert_eq!(
        created_path(world.ok(create("/p/s", PersistentSequential))),
        "/p/s0000000003"
    );
    let stat = world.stat("/p");
    assert_eq!((stat.cversion, stat.num_children), (4 + 1, 3));
}

#[test]
fn the_sequence_sticks_at_the_end_of_its_range() {
    let settings = TreeSettings::default();
    let mut tree = Tree::begin_restore(&settings);
    let at_end = StoredStat {
        cversion: i32::MAX - 1,
        ..StoredStat::default()
    };
    tree.restore_znode("", None, -1, StoredStat::default()).unwrap();
    tree.restore_znode("/p", None, -1, at_end).unwrap();
    let negative = StoredStat {
        cversion: -5,
        ..StoredStat::default()
    };
    tree.restore_znode("/n", None, -1, negative).unwrap();
    tree.finish_restore().unwrap();
    let mut world = World {
        tree,
        ..World::new(settings)
    };
    assert_eq!(
        created_path(world.ok(create("/p/s", PersistentSequential))),
        "/p/s2147483646"
    );
    assert_eq!(
        created_path(world.ok(create("/p/s", PersistentSequential))),
        "/p/s2147483647"
    );
    assert_eq!(world.err(create("/p/s", PersistentSequential)), NodeExists);
    // The sign counts among the ten characters.
    assert_eq!(
        created_path(world.ok(create("/n/s", PersistentSequential))),
        "/n/s-000000005"
    );
}

#[test]
fn the_first_check_of_delete_that_fails_decides() {
    let mut world = world();
    world.ok(create("/locked", Persistent));
    world.ok(create("/locked/x", Persistent));
    world.ok(set_acl("/locked", vec![acl(31 & !8, "world", "anyone")], -1));
    world.ok(create("/p", Persistent));
    world.ok(create("/p/c", Persistent));
    for (path, version, code) in [
        ("/", 9, BadArguments),
        ("/zookeeper", 9, BadArguments),
        ("/zookeeper/quota", 9, BadArguments),
        ("/zookeeper/config", 9, BadArguments),
        ("", 9, BadArguments),
        ("foo", 9, BadArguments),
        ("/p/\0", 9, BadArguments),
        ("/no/x", 9, NoNode),
        ("/locked/none", 9, NoAuth),
        ("/p/none", 9, NoNode),
        ("/p/", 9, NoNode),
        ("/p", 9, BadVersion),
        ("/p", -2, BadVersion),
        ("/p", 0, NotEmpty),
    ] {
        assert_eq!(world.err(delete(path, version)), code, "{path:?}");
    }
    assert_eq!(world.run(delete("/p/c", 0)), Outcome::Done);
    assert_eq!(world.run(delete("/p", -1)), Outcome::Done);
}

#[test]
fn the_first_check_of_set_data_set_acl_and_check_that_fails_decides() {
    let mut world = world();
    world.ok(create("/n", Persistent));
    world.ok(create("/locked", Persistent));
    world.ok(set_acl("/locked", vec![acl(31, "digest", "u:h")], -1));
    for (path, version, code) in [
        ("", 9, BadArguments),
        ("/n/", 9, BadArguments),
        ("/no", 9, NoNode),
        ("/locked", 9, NoAuth),
        ("/zookeeper/config", 9, NoAuth),
        ("/n", 9, BadVersion),
        ("/n", -2, BadVersion),
    ] {
        assert_eq!(world.err(set_data(path, b"", version)), code, "setData {path:?}");
        assert_eq!(world.err(set_acl(path, open(), version)), code, "setACL {path:?}");
        if path != "/zookeeper/config" {
            assert_eq!(
                world.multi(vec![check(path, version)]),
                [code.code()],
                "check {path:?}"
            );
        }
    }
    for path in ["/no", "/locked", "/n"] {
        assert_eq!(world.err(set_acl(path, vec![], 9)), InvalidAcl);
    }
    assert_eq!(world.err(set_acl("/n/", vec![], 9)), BadArguments);
    assert_eq!(
        world.err(check("/n", 0)),
        Unimplemented,
        "a check stands in multis only"
    );
}

#[test]
fn each_operation_changes_its_own_fields_of_the_stat() {
    let mut world = world();
    world.ok(create("/p", Persistent));
    let p = world.stat("/p");
    assert_eq!((p.czxid, p.mzxid, p.pzxid), (Zxid(1), Zxid(1), Zxid(1)));
    assert_eq!((p.ctime, p.mtime), (1_000_007, 1_000_007));
    let Outcome::Changed(set) = world.ok(set_data("/p", b"xyz", 0)) else {
        panic!()
    };
    assert_eq!(
        set,
        oxkeeper_types::Stat {
            mzxid: Zxid(2),
            mtime: 1_000_014,
            version: 1,
            data_length: 3,
            ..p
        }
    );
    let Outcome::Changed(set) = world.ok(set_data("/p", b"xyz", 1)) else {
        panic!()
    };
    assert_eq!(set.version, 2, "also when the data is the same");
    let Outcome::Changed(after) = world.ok(set_acl("/p", open(), 0)) else {
        panic!()
    };
    assert_eq!(after, oxkeeper_types::Stat { aversion: 1, ..set });
    world.ok(create("/p/c", Persistent));
    assert_eq!(
        world.stat("/p"),
        oxkeeper_types::Stat {
            cversion: 1,
            num_children: 1,
            pzxid: Zxid(5),
            ..after
        }
    );
    world.ok(delete("/p/c", -1));
    assert_eq!(
        world.stat("/p"),
        oxkeeper_types::Stat {
            cversion: 2,
            pzxid: Zxid(6),
            ..after
        }
    );
}

#[test]
fn null_data_is_not_empty_data() {
    let mut world = world();
    let null = CreateRequest {
        op: OpCode::Create,
        path: "/n".into(),
        data: None,
        acl: open(),
        flags: 0,
        ttl: -1,
    };
    world.ok(WriteRequest::Create(null));
    assert_eq!(world.tree.znode("/n").unwrap().data(), None);
    assert_eq!(world.stat("/n").data_length, 0);
    world.ok(set_data("/n", b"", -1));
    assert_eq!(world.tree.znode("/n").unwrap().data(), Some(&[][..]));
    world.ok(WriteRequest::SetData {
        path: "/n".into(),
        data: None,
        version: -1,
    });
    assert_eq!(world.tree.znode("/n").unwrap().data(), None);
}

/// Otherwise a request of some hundred bytes could become a txn that no log gives back.
#[test]
fn auth_stands_for_a_bounded_number_of_bytes_in_one_request() {
    let mut world = world();
    let long = "u".repeat(1_000_000);
    world.ids.push(Id::new("digest", &format!("{long}:h")));
    let create = |n: usize| create_with(&format!("/n{n}"), b"", vec![acl(31, "auth", "")]);
    assert_eq!(world.multi((0..4).map(create).collect()), [0; 4]);
    let too_many = world.multi((4..9).map(create).collect());
    let (failed, after) = (InvalidAcl.code(), 0);
    assert_eq!(too_many, [after, after, after, after, failed]);
    assert!(world.tree.znode("/n4").is_none(), "it fails as a whole");
    let every_right = (1..=5).map(|rights| acl(rights, "auth", "")).collect();
    assert_eq!(world.err(create_with("/m", b"", every_right)), InvalidAcl);
}

#[test]
fn permissions_are_those_of_the_right_znode() {
    let mut world = world();
    world.ids.push(Id::new("digest", "u:h"));
    world.ok(create_with("/n", b"", vec![acl(31, "auth", "")]));
    assert_eq!(world.tree.znode("/n").unwrap().acl(), [acl(31, "digest", "u:h")]);
    world.ok(create("/n/c", Persistent));
    world.ids.pop();
    assert_eq!(world.err(create("/n/d", Persistent)), NoAuth);
    assert_eq!(world.err(delete("/n/c", -1)), NoAuth);
    assert_eq!(world.err(set_data("/n", b"", -1)), NoAuth);
    assert_eq!(
        world.run(set_data("/n/c", b"", -1)).to_owned(),
        Outcome::Changed(world.stat("/n/c"))
    );
    assert_eq!(world.multi(vec![check("/n", -1)]), [NoAuth.code()]);
    // A delete asks the parent alone.
    world.ids.push(Id::new("super", ""));
    world.ok(delete("/n/c", -1));
    world.ids.pop();
    world.ok(delete("/n", -1));
}

#[test]
fn closing_a_session_deletes_its_ephemerals_and_those_in_flight() {
    let mut world = world();
    let (a, b) = (SessionId(1), SessionId(2));
    world.ok(create("/p", Persistent));
    world.run_by(a, create("/p/old", Ephemeral));
    world.run_by(a, create("/p/gone", Ephemeral));
    world.run_by(a, create("/p/other", Ephemeral));
    world.run_by(b, create("/p/b", Ephemeral));
    world.prepare(a, create("/p/new", Ephemeral));
    world.prepare(a, set_data("/p/old", b"x", -1));
    world.prepare(b, delete("/p/gone", -1));
    world.prepare(b, delete("/p/other", -1));
    world.prepare(b, create("/p/other", Ephemeral));
    let txn = world.prepare(a, WriteRequest::CloseSession).txn.clone();
    let listed = vec!["/p/new".to_owned(), "/p/old".to_owned()];
    assert_eq!(
        txn,
        Txn::CloseSession {
            ephemerals: Some(listed)
        }
    );
    // Two ephemerals of the other session are left below it.
    assert_eq!(world.prepare(b, delete("/p", -1)).txn, Txn::error(NotEmpty));
    while !world.in_flight.is_empty() {
        world.apply_one();
    }
    assert_eq!(world.tree.ephemerals_of(a), [] as [&str; 0]);
    assert_eq!(world.tree.ephemerals_of(b), ["/p/b", "/p/other"]);
    assert_eq!(world.tree.ephemerals_count(), 2);
    assert_eq!(
        world.seen[world.seen.len() - 2..],
        [Seen::Deleted("/p/new".into()), Seen::Deleted("/p/old".into())]
    );
    let p = world.stat("/p");
    assert_eq!((p.num_children, p.pzxid), (2, Zxid(11)));
}

#[test]
fn closing_without_a_list_deletes_what_the_tree_knows() {
    let mut world = World::new(TreeSettings {
        close_session_txn: false,
        ..TreeSettings::default()
    });
    world.ok(create("/e", Ephemeral));
    world.prepare(SESSION, create("/f", Ephemeral));
    assert_eq!(
        world.prepare(SESSION, WriteRequest::CloseSession).txn,
        Txn::CloseSession { ephemerals: None }
    );
    world.apply_one();
    world.apply_one();
    assert_eq!(world.tree.znode_count(), 5);
}

/// Otherwise the end of a session with very many ephemerals would be a txn that no log gives back.
#[test]
fn a_very_long_list_of_ephemerals_is_left_out() {
    let mut world = world();
    let long = "e".repeat(1 << 20);
    for n in 0..16 {
        world.ok(create(&format!("/{long}{n}"), Ephemeral));
    }
    assert_eq!(
        world.prepare(SESSION, WriteRequest::CloseSession).txn,
        Txn::CloseSession { ephemerals: None }
    );
    world.apply_one();
    assert_eq!(world.tree.ephemerals_count(), 0);
}

#[test]
fn a_multi_sees_its_own_changes_and_fails_as_a_whole() {
    let mut world = world();
    world.ok(create("/p", Persistent));
    assert_eq!(
        world.multi(vec![
            create("/n", Persistent),
            set_data("/n", b"1", 0),
            set_data("/n", b"2", 1),
            check("/n", 2),
            delete("/n", 2),
            create("/q", Persistent),
            create("/q/c", Persistent),
        ]),
        [0; 7]
    );
    let before = dump(&world.tree);
    assert_eq!(
        world.multi(vec![
            create("/p/s", PersistentSequential),
            set_data("/q", b"x", -1),
            create("/p/e", Ephemeral),
            delete("/q", -1),
            create("/p/t", Persistent),
            delete("/none", -1),
        ]),
        [0, 0, 0, NotEmpty.code(), -2, -2]
    );
    assert_eq!(dump(&world.tree), before);
    assert_eq!(
        created_path(world.ok(create("/p/s", PersistentSequential))),
        "/p/s0000000000"
    );
    assert_eq!(world.multi(vec![]), [] as [i32; 0]);
    assert_eq!(world.zxid, Zxid(5), "an empty multi takes a zxid");
}

#[test]
fn a_multi_with_a_part_that_cannot_be_understood_fails_as_a_request() {
    let mut world = world();
    let before = dump(&world.tree);
    let parts = vec![create("/n", Persistent), WriteRequest::Invalid(MarshallingError)];
    assert_eq!(world.err(WriteRequest::Multi(parts)), MarshallingError);
    assert_eq!(dump(&world.tree), before);
    let parts = vec![WriteRequest::Multi(vec![])];
    assert_eq!(world.err(WriteRequest::Multi(parts)), MarshallingError);
    world.ok(create("/n", Persistent));
}

#[test]
fn a_delete_in_flight_makes_room_for_the_delete_of_the_parent() {
    let mut world = world();
    world.ok(create("/p", Persistent));
    world.ok(create("/p/c", Persistent));
    world.prepare(SESSION, delete("/p/c", -1));
    world.prepare(SESSION, delete("/p", -1));
    assert_eq!(
        (world.apply_one(), world.apply_one()),
        (Outcome::Done, Outcome::Done)
    );
    assert!(world.tree.znode("/p").is_none());
}

#[test]
fn a_multi_answers_with_the_stats_of_each_part() {
    let mut world = world();
    let Outcome::Multi(results) = world.run(WriteRequest::Multi(vec![
        create_as(OpCode::Create, "/a", 0, -1, open()),
        create_as(OpCode::Create2, "/b", 0, -1, open()),
        create("/c", Container),
        set_data("/b", b"longer data", -1),
        create("/b/d", Persistent),
        delete("/a", -1),
        check("/b", 1),
    ])) else {
        panic!()
    };
    let ops: Vec<OpCode> = results
        .iter()
        .map(|result| match result {
            OpResult::Ok { op, .. } => *op,
            OpResult::Error(code) => panic!("{code}"),
        })
        .collect();
    use OpCode::*;
    assert_eq!(ops, [Create, Create2, Create2, SetData, Create2, Delete, Check]);
    let OpResult::Ok {
        outcome: Outcome::Created { stat: Some(b), .. },
        ..
    } = &results[1]
    else {
        panic!()
    };
    assert_eq!((b.data_length, b.version, b.num_children), (4, 0, 0));
    let OpResult::Ok {
        outcome: Outcome::Changed(b),
        ..
    } = &results[3]
    else {
        panic!()
    };
    assert_eq!(
        (b.data_length, b.version, b.num_children, b.czxid),
        (11, 1, 0, Zxid(1))
    );
}

#[test]
fn a_failed_multi_in_flight_takes_back_only_what_is_its_own() {
    let mut world = world();
    world.prepare(SESSION, create("/p", Persistent));
    world.prepare(SESSION, create("/p/s", PersistentSequential));
    world.prepare(SESSION, create("/p/e", Ephemeral));
    let txn = world
        .prepare(
            SESSION,
            WriteRequest::Multi(vec![
                create("/p/s", PersistentSequential),
                set_data("/p", b"x", 0),
                delete("/p/e", -1),
                check("/p", 7),
            ]),
        )
        .txn
        .clone();
    assert!(txn.is_failed_multi());
    let Txn::Create(next) = world
        .prepare(SESSION, create("/p/s", PersistentSequential))
        .txn
        .clone()
    else {
        panic!()
    };
    assert_eq!(next.path, "/p/s0000000002");
    assert!(matches!(
        world.prepare(SESSION, set_data("/p", b"y", 0)).txn,
        Txn::SetData { version: 1, .. }
    ));
    let closing = world.prepare(SESSION, WriteRequest::CloseSession).txn.clone();
    assert_eq!(
        closing,
        Txn::CloseSession {
            ephemerals: Some(vec!["/p/e".into()])
        }
    );
    while !world.in_flight.is_empty() {
        world.apply_one();
    }
    assert!(world.overlay.is_empty());
    assert_eq!(world.stat("/p").num_children, 2);
}

#[test]
fn errors_consume_a_zxid_and_carry_no_digest() {
    let mut world = world();
    let prepared = world.prepare(SESSION, delete("/none", -1)).clone();
    assert_eq!(prepared.txn, Txn::Error { code: -101 });
    assert_eq!(prepared.digest, None);
    assert_eq!(world.apply_one(), Outcome::Failed(NoNode));
    let prepared = world
        .prepare(SESSION, WriteRequest::Multi(vec![delete("/none", -1)]))
        .clone();
    assert_eq!(
        prepared.digest.map(|digest| digest.tree_digest),
        Some(1_371_985_504)
    );
    world.apply_one();
    let prepared = world
        .prepare(SESSION, WriteRequest::CreateSession { timeout_ms: 5 })
        .clone();
    assert_eq!(prepared.txn, Txn::CreateSession { timeout_ms: 5 });
    assert!(prepared.digest.is_some());
    world.apply_one();
    assert_eq!(
        world.err(WriteRequest::Invalid(MarshallingError)),
        MarshallingError
    );
    assert_eq!(
        world.err(WriteRequest::Reconfig(ReconfigRequest::default())),
        ReconfigDisabled
    );
    world.settings.reconfig_enabled = true;
    assert_eq!(
        world.err(WriteRequest::Reconfig(ReconfigRequest::default())),
        Unimplemented
    );
    world.settings.digest_enabled = false;
    assert_eq!(world.prepare(SESSION, create("/a", Persistent)).digest, None);
}

#[test]
fn changes_are_told_in_the_order_of_the_parts() {
    let mut world = world();
    world.ok(create("/a", Persistent));
    world.multi(vec![
        create("/b", Persistent),
        set_data("/a", b"", -1),
        check("/a", -1),
        delete("/a", -1),
        create("/a", Persistent),
    ]);
    world.ok(set_acl("/a", open(), -1));
    use Seen::*;
    let (a, b) = (|| "/a".to_owned(), || "/b".to_owned());
    assert_eq!(
        world.seen,
        [
            Created(a()),
            Created(b()),
            DataChanged(a()),
            Deleted(a()),
            Created(a())
        ]
    );
}

#[test]
fn the_server_removes_containers_and_expired_znodes_but_nothing_else() {
    let mut world = with_extended_types();
    world.ok(create("/c", Container));
    world.ok(create("/t", PersistentWithTtl));
    world.ok(create("/n", Persistent));
    let remove = |path: &str| WriteRequest::DeleteContainer {
        path: path.to_owned(),
    };
    let now = world.time;
    let candidates = |world: &World, at| world.tree.expired_candidates(at, &world.settings);
    assert_eq!(
        candidates(&world, now),
        [] as [&str; 0],
        "a container that never had a child stays"
    );
    assert_eq!(world.err(remove("/c")), BadVersion);
    world.ok(create("/c/x", Persistent));
    world.ok(create("/t/x", Persistent));
    assert_eq!(candidates(&world, now + 5000), [] as [&str; 0]);
    assert_eq!(world.err(remove("/c")), NotEmpty);
    world.ok(delete("/c/x", -1));
    world.ok(delete("/t/x", -1));
    assert_eq!(candidates(&world, world.time), ["/c"]);
    let mtime = world.stat("/t").mtime;
    assert_eq!(
        candidates(&world, mtime + 1000),
        ["/c"],
        "the time to live counts from mtime"
    );
    assert_eq!(candidates(&world, mtime + 1001), ["/c", "/t"]);
    assert_eq!(
        world.err(remove("/t")),
        BadVersion,
        "not before its time, whoever asks"
    );
    assert_eq!(world.err(remove("/n")), BadVersion);
    assert_eq!(world.err(remove("/none")), NoNode);
    assert_eq!(world.err(remove("/zookeeper")), BadArguments);
    world.time = mtime + 1001;
    assert_eq!(world.run_by(SessionId::NONE, remove("/t")), Outcome::Done);
    assert_eq!(world.run_by(SessionId::NONE, remove("/c")), Outcome::Done);
    assert_eq!(candidates(&world, i64::MAX), [] as [&str; 0]);
    world.ok(create("/unused", Container));
    let settings = TreeSettings {
        container_never_used_ms_max: 10,
        ..world.settings.clone()
    };
    assert_eq!(
        world.tree.expired_candidates(world.time + 10, &settings),
        [] as [&str; 0]
    );
    assert_eq!(
        world.tree.expired_candidates(world.time + 11, &settings),
        ["/unused"]
    );
}

#[test]
fn an_ephemeral_in_flight_has_no_children_either() {
    let mut world = world();
    world.prepare(SESSION, create("/e", Ephemeral));
    assert_eq!(
        world.prepare(SESSION, create("/e/c", Persistent)).txn,
        Txn::error(NoChildrenForEphemerals)
    );
}

#[test]
fn a_pending_acl_counts_for_the_next_request() {
    let mut world = world();
    world.prepare(SESSION, set_acl("/", vec![acl(1, "world", "anyone")], -1));
    assert_eq!(
        world.prepare(SESSION, create("/x", Persistent)).txn,
        Txn::error(NoAuth)
    );
}

#[test]
fn versions_wrap_and_minus_one_is_no_wildcard_of_the_znode() {
    let settings = TreeSettings::default();
    let mut tree = Tree::begin_restore(&settings);
    let last = StoredStat {
        version: i32::MAX,
        aversion: -2,
        ..StoredStat::default()
    };
    tree.restore_znode("", None, -1, StoredStat::default()).unwrap();
    tree.restore_znode("/n", None, -1, last).unwrap();
    tree.finish_restore().unwrap();
    let mut world = World {
        tree,
        ..World::new(settings)
    };
    world.ok(set_data("/n", b"", i32::MAX));
    assert_eq!(world.stat("/n").version, i32::MIN);
    world.ok(set_acl("/n", open(), -2));
    assert_eq!(world.stat("/n").aversion, -1);
    assert_eq!(world.err(set_acl("/n", open(), 0)), BadVersion);
    world.ok(set_acl("/n", open(), -1));
    assert_eq!(world.stat("/n").aversion, 0);
}

/// Quotas.
mod quotas {
    use super::*;

    const LIMITS: &str = "/zookeeper/quota/q/zookeeper_limits";
    const STATS: &str = "/zookeeper/quota/q/zookeeper_stats";

    fn with_quota(limits: &str, enforce: bool) -> World {
        let mut world = World::new(TreeSettings {
            enforce_quota: enforce,
            ..TreeSettings::default()
        });
        world.ok(create_with("/q", b"1234", open()));
        world.ok(create_with("/q/a", b"12", open()));
        world.ok(create_with("/zookeeper/quota/q", b"", open()));
        world.ok(create_with(LIMITS, limits.as_bytes(), open()));
        world.ok(create_with(STATS, b"whatever was given", open()));
        world
    }

    fn usage(world: &World) -> String {
        String::from_utf8(world.tree.znode(STATS).unwrap().data().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn usage_follows_every_change_without_versions_and_events() {
        let mut world = with_quota("count=5,bytes=10", false);
        assert_eq!(usage(&world), "count=2,bytes=6");
        let stat = world.stat(STATS);
        world.seen.clear();
        world.ok(create_with("/q/a/b", b"123", open()));
        assert_eq!(usage(&world), "count=3,bytes=9");
        world.ok(set_data("/q", b"", -1));
        assert_eq!(usage(&world), "count=3,bytes=5");
        world.ok(delete("/q/a/b", -1));
        assert_eq!(usage(&world), "count=2,bytes=2");
        let after = world.stat(STATS);
        assert_eq!(
            after,
            oxkeeper_types::Stat {
                data_length: 15,
                ..stat
            }
        );
        assert_eq!(world.seen.len(), 3);
        world.ok(delete(LIMITS, -1));
        world.ok(delete("/q/a", -1));
        assert_eq!(
            usage(&world),
            "count=2,bytes=2",
            "without limits nothing is counted"
        );
    }

    #[test]
    fn an_own_quota_below_takes_over() {
        let mut world = with_quota("count=5,bytes=10", false);
        world.ok(create_with("/zookeeper/quota/q/a", b"", open()));
        world.ok(create_with(
            "/zookeeper/quota/q/a/zookeeper_limits",
            b"count=1,bytes=-1",
            open(),
        ));
        world.ok(create_with("/zookeeper/quota/q/a/zookeeper_stats", b"", open()));
        world.ok(create_with("/q/a/b", b"123", open()));
        assert_eq!(usage(&world), "count=2,bytes=6");
        let below = world
            .tree
            .znode("/zookeeper/quota/q/a/zookeeper_stats")
            .unwrap()
            .data();
        assert_eq!(below, Some(&b"count=2,bytes=5"[..]));
    }

    #[test]
    fn hard_limits_refuse_and_soft_ones_are_reported() {
        let hard = "count=1,bytes=1=;byteHardLimit=8;countHardLimit=3";
        let mut world = with_quota(hard, true);
        world.ok(create_with("/q/b", b"12", open()));
        assert_eq!(world.err(create_with("/q/c", b"", open())), QuotaExceeded);
        assert_eq!(
            world.err(set_data("/q/b", b"123", 77)),
            QuotaExceeded,
            "before the version"
        );
        assert_eq!(
            world.err(set_data("/q/b", b"12", 77)),
            BadVersion,
            "no difference, no check"
        );
        world.ok(set_data("/q/b", b"", -1));
        assert_eq!(
            world.multi(vec![create_with("/q/c", b"", open())]),
            [QuotaExceeded.code()]
        );
        world.settings.enforce_quota = false;
        world.ok(create_with("/q/c", b"123456789", open()));
        world.settings.enforce_quota = true;
        assert_eq!(
            world.err(set_data("/q/c", b"12345678", -1)),
            QuotaExceeded,
            "also when shrinking"
        );

        let mut world = with_quota("count=1,bytes=1", true);
        let prepared = world.prepare(SESSION, create_with("/q/b", b"12", open())).clone();
        assert!(matches!(prepared.txn, Txn::Create(_)));
        let shown: Vec<String> = prepared.quota_exceeded.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "quota of /q exceeded: count would be 3, the soft limit is 1",
                "quota of /q exceeded: bytes would be 8, the soft limit is 1"
            ]
        );
    }

    #[test]
    fn limits_count_what_is_applied() {
        let mut world = with_quota("count=-1,bytes=-1=;countHardLimit=3", true);
        for path in ["/q/b", "/q/c"] {
            assert!(matches!(
                world.prepare(SESSION, create_with(path, b"", open())).txn,
                Txn::Create(_)
            ));
        }
        world.apply_one();
        world.apply_one();
        assert_eq!(world.err(create_with("/q/d", b"", open())), QuotaExceeded);
    }

    #[test]
    fn the_difference_is_one_to_what_is_pending() {
        let mut world = with_quota("count=-1,bytes=-1=;byteHardLimit=8", true);
        assert!(matches!(
            world.prepare(SESSION, set_data("/q/a", b"", -1)).txn,
            Txn::SetData { .. }
        ));
        // Six bytes are applied; three more than none are nine.
        let txn = world.prepare(SESSION, set_data("/q/a", b"123", -1)).txn.clone();
        assert_eq!(txn, Txn::error(QuotaExceeded));
    }

    #[test]
    fn limits_that_cannot_be_read_fail_the_requests_they_are_for() {
        let mut world = with_quota("garbage", true);
        assert_eq!(world.err(create_with("/q/b", b"", open())), MarshallingError);
        world.ok(create_with("/other", b"", open()));
    }

    #[test]
    fn what_java_cannot_apply_is_refused() {
        let mut world = with_extended_types();
        assert_eq!(
            world.err(create("/zookeeper/quota/zookeeper_limits", Persistent)),
            BadArguments
        );
        world.ok(create("/zookeeper/zookeeper_limits", Persistent));
        assert_eq!(world.err(delete("/zookeeper/zookeeper_limits", -1)), BadArguments);
        world.ok(create("/zookeeper/x", Persistent));
        world.ok(create("/zookeeper/x/zookeeper_limits", Persistent));
        assert_eq!(
            world.err(delete("/zookeeper/x/zookeeper_limits", -1)),
            BadArguments
        );
        for mode in [Ephemeral, Container, PersistentWithTtl] {
            world.ok(create("/zookeeper/y", CreateMode::Persistent));
            assert_eq!(
                world.err(create("/zookeeper/y/zookeeper_limits", mode)),
                BadArguments
            );
            world.ok(delete("/zookeeper/y", -1));
        }
        world.ok(create("/zookeeper/quota/zookeeper_stats", Persistent));
        let usage = world
            .tree
            .znode("/zookeeper/quota/zookeeper_stats")
            .unwrap()
            .data();
        assert_eq!(usage, Some(&b"count=8,bytes=16"[..]), "of the whole tree");
        world.ok(set_data("/zookeeper/quota/zookeeper_stats", b"garbage", -1));
        world.ok(create("/charged-nowhere", Persistent));

        let mut world = with_quota("count=5,bytes=10", false);
        assert_eq!(world.err(set_data(STATS, b"garbage", -1)), BadArguments);
        let null = WriteRequest::SetData {
            path: STATS.into(),
            data: None,
            version: -1,
        };
        assert_eq!(world.err(null), BadArguments);
        world.ok(set_data(STATS, b"count=100,bytes=100", -1));
        world.ok(create_with("/q/b", b"12", open()));
        assert_eq!(usage_of(&world), "count=101,bytes=102");
    }

    fn usage_of(world: &World) -> String {
        usage(world)
    }

    #[test]
    fn usage_that_cannot_be_read_is_counted_anew() {
        let mut world = with_quota("count=5,bytes=10", false);
        let header = oxkeeper_types::TxnHeader {
            session: SESSION,
            cxid: 0,
            zxid: Zxid(100),
            time: 0,
        };
        let garbage = Txn::SetData {
            path: STATS.into(),
            data: Some(b"garbage".to_vec().into()),
            version: 1,
        };
        world.tree.apply(&header, garbage, &mut |_| {});
        world.zxid = Zxid(101);
        world.ok(create_with("/q/b", b"12", open()));
        assert_eq!(usage(&world), "count=3,bytes=8");
    }
}

#[test]
fn error_codes_of_the_log_come_back_as_they_are() {
    let mut world = world();
    let header = oxkeeper_types::TxnHeader {
        session: SESSION,
        cxid: 0,
        zxid: Zxid(1),
        time: 0,
    };
    for code in [
        NoNode,
        QuotaExceeded,
        ErrorCode::ThrottledOp,
        RuntimeInconsistency,
    ] {
        let outcome = world.tree.apply(&header, Txn::error(code), &mut |_| {});
        assert_eq!(outcome, Outcome::Failed(code));
    }
}

#[test]
#[should_panic(expected = "prepared for another tree")]
fn applying_what_does_not_fit_stops_the_server() {
    let mut world = world();
    let header = oxkeeper_types::TxnHeader {
        session: SESSION,
        cxid: 0,
        zxid: Zxid(1),
        time: 0,
    };
    world.tree.apply(
        &header,
        Txn::Delete {
            path: "/none".into(),
            by_server: false,
        },
        &mut |_| {},
    );
}
