//! The order of answers: S1, S3, S4, Z9, D2.

use oxkeeper_types::{CreateMode, ErrorCode, OpCode, Outcome, Permissions, WriteRequest, Zxid};
use oxkeeper_wire::{Request, decode_outcome, encode_request};

use super::driver::client::*;
use super::driver::{End, LinkState, Sim};

fn zxids(frames: &[Frame]) -> Vec<i64> {
    frames
        .iter()
        .map(|frame| match frame {
            Frame::Reply { zxid, .. } | Frame::Event { zxid, .. } => zxid.0,
            Frame::Connected(_) => panic!("a connect response in the middle"),
        })
        .collect()
}

#[test]
fn s1_replies_come_in_the_order_of_requests_whatever_they_are() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    let mixture = [
        create("/a"),
        get("/a"),
        Request::Ping,
        sync("/a"),
        set("/a", "one"),
        get("/a"),
        sync("/"),
        children("/"),
        multi(vec![set_data("/a", "two", 1), set_data("/a", "three", 2)]),
        multi_read(&["/a"]),
        create("/a"),
        get("/missing"),
        delete("/a"),
        exists_and_watch("/a"),
        who_am_i(),
    ];
    let expected = [
        "1=/a",
        "2=",
        "-2",
        "4",
        "5",
        "6=one",
        "7",
        "8=[a,b,zookeeper]",
        "9",
        "10",
        "11:-110",
        "12:-101",
        "13",
        "14:-101",
        "15=ip:10.0.0.1",
    ];
    // One commit for each txn, with the other session's writes in between.
    for request in &mixture {
        sim.ask(a, request);
        sim.ask(b, &create("/b"));
        sim.settle();
    }
    assert_eq!(
        sim.seen(a),
        [] as [&str; 0],
        "everything is behind a write that is not durable"
    );
    while sim.waiting_for_log() > 0 {
        sim.write_log(1).unwrap();
        sim.sync_log().unwrap();
        sim.settle();
    }
    let seen = sim.seen(a);
    for (seen, expected) in seen.iter().zip(expected) {
        assert_eq!(seen.trim_end_matches('='), expected.trim_end_matches('='));
    }
    assert_eq!(seen.len(), expected.len());
    assert_eq!(sim.seen(b)[0], "1=/b");
}

#[test]
fn s1_replies_of_one_look_come_in_order_too() {
    let mut sim = Sim::new();
    let a = sim.open();
    for request in [get("/"), Request::Ping, create("/a"), Request::Ping, get("/a")] {
        sim.ask(a, &request);
    }
    sim.settle();
    // What has no unanswered request before it does not wait for the disk.
    assert_eq!(sim.seen(a), ["1", "-2"]);
    sim.run();
    assert_eq!(sim.seen(a), ["3=/a", "-2", "5"]);
}

#[test]
fn s3_s4_a_read_behind_a_write_waits_for_it_and_not_for_other_sessions() {
    let mut sim = Sim::new();
    let (a, b, c) = (sim.open(), sim.open(), sim.open());
    sim.ask(a, &create("/a"));
    sim.settle();
    sim.ask(b, &create("/b"));
    sim.ask(b, &get("/b"));
    sim.ask(a, &get("/a"));
    sim.ask(c, &children("/"));
    sim.settle();
    assert_eq!(sim.seen(a), [] as [&str; 0]);
    assert_eq!(sim.seen(b), [] as [&str; 0]);
    assert_eq!(
        sim.seen(c),
        ["1=[zookeeper]"],
        "who writes nothing waits for nobody"
    );
    sim.write_log(1).unwrap();
    sim.sync_log().unwrap();
    sim.settle();
    assert_eq!(
        sim.seen(a),
        ["1=/a", "2"],
        "the write of the other session is not durable"
    );
    assert_eq!(sim.seen(b), [] as [&str; 0]);
    sim.run();
    assert_eq!(sim.seen(b), ["1=/b", "2"]);
}

#[test]
fn s3_reads_between_writes_of_one_connection_see_exactly_the_state_between() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    sim.ask(a, &create("/x"));
    sim.run();
    sim.seen(a);
    sim.ask(a, &set("/x", "a1"));
    sim.ask(a, &get("/x"));
    sim.ask(a, &set("/x", "a2"));
    sim.ask(a, &get("/x"));
    sim.settle();
    // Of another session, and in the same commit: neither read may show it.
    sim.ask(b, &set("/x", "b"));
    sim.ask(b, &get("/x"));
    sim.settle();
    sim.commit();
    sim.settle();
    assert_eq!(sim.seen(a), ["2", "3=a1", "4", "5=a2"]);
    assert_eq!(sim.seen(b), ["1", "2=b"]);
    let (c, mut txns) = (sim.open(), Vec::new());
    for text in ["c1", "c2", "c3"] {
        sim.ask(c, &set("/x", text));
        sim.ask(c, &get("/x"));
        // The core hears of each request alone, and of a commit in between.
        sim.look(c);
        sim.handle_one();
        sim.carry_out();
        sim.commit();
        sim.handle_one();
        sim.handle_one();
        txns.push(sim.history.len());
    }
    sim.run();
    assert_eq!(sim.seen(c), ["1", "2=c1", "3", "4=c2", "5", "6=c3"]);
}

#[test]
fn s1_a_read_waits_for_the_newest_write_before_it_when_older_ones_are_done_already() {
    let mut sim = Sim::new();
    let a = sim.open();
    for text in ["1", "2", "3"] {
        sim.ask(a, &set("/zookeeper", text));
    }
    sim.settle();
    for done in 1..3 {
        sim.write_log(1).unwrap();
        sim.sync_log().unwrap();
        sim.settle();
        assert_eq!(sim.seen(a), [done.to_string()]);
        sim.ask(a, &get("/zookeeper"));
        sim.settle();
        assert_eq!(sim.seen(a), [] as [&str; 0]);
    }
    sim.run();
    assert_eq!(sim.seen(a), ["3", "4=3", "5=3"]);
}

#[test]
fn z9_nothing_is_applied_shown_or_acknowledged_before_it_is_durable() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    sim.ask(b, &exists_and_watch("/a"));
    sim.run();
    sim.seen(b);
    sim.ask(a, &create("/a"));
    let newcomer = sim.dial();
    sim.send_connect(newcomer, oxkeeper_types::SessionId::NONE, &[], 10_000);
    sim.settle();
    sim.write_log(sim.waiting_for_log()).unwrap();
    sim.ask(b, &get("/a"));
    sim.settle();
    assert_eq!(sim.seen(a), [] as [&str; 0], "written is not durable");
    assert_eq!(sim.seen(b), ["2:-101"]);
    assert_eq!(sim.take(newcomer), []);
    sim.sync_log().unwrap();
    sim.settle();
    assert_eq!(sim.seen(a), ["1=/a"]);
    assert_eq!(sim.seen(b), ["Created /a"]);
    assert!(sim.greeting(newcomer).timeout_ms > 0);
}

#[test]
fn d2_after_a_failed_sync_nothing_more_is_acknowledged_and_nothing_acknowledged_is_lost() {
    let mut sim = Sim::new();
    let a = sim.open();
    sim.ask(a, &create("/kept"));
    sim.run();
    assert_eq!(sim.seen(a), ["1=/kept"]);
    sim.ask(a, &create("/lost"));
    sim.settle();
    sim.disk.fail_sync_after(0);
    sim.write_log(1).unwrap();
    assert!(sim.sync_log().is_err());
    sim.ask(a, &create("/later"));
    sim.settle();
    assert!(sim.write_log(1).is_err(), "the log takes nothing after an error");
    sim.settle();
    assert_eq!(sim.seen(a), [] as [&str; 0]);
    sim.restart(End::Power);
    let b = sim.open();
    // What became of the other is open: nobody was told.
    sim.ask(b, &get("/kept"));
    sim.ask(b, &get("/later"));
    sim.run();
    assert_eq!(sim.seen(b), ["1", "2:-101"]);
}

#[test]
fn a_sync_waits_for_all_that_was_proposed_before_and_takes_no_zxid() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    sim.ask(a, &create("/a"));
    sim.settle();
    let proposed = sim.core.last_proposed();
    sim.ask(b, &sync("/nowhere"));
    sim.ask(b, &get("/a"));
    sim.settle();
    sim.ask(a, &create("/later"));
    sim.settle();
    assert_eq!(sim.seen(b), [] as [&str; 0]);
    sim.write_log(1).unwrap();
    sim.sync_log().unwrap();
    sim.settle();
    let frames = sim.take(b);
    assert_eq!(zxids(&frames), [proposed.0, proposed.0]);
    let Frame::Reply { body, .. } = &frames[0] else {
        panic!("{frames:?}")
    };
    assert_eq!(body, b"\0\0\0\x08/nowhere", "the path comes back");
    assert_eq!(sim.core.last_proposed(), proposed.next(), "the sync took no zxid");
}

#[test]
fn a_failed_write_takes_a_zxid_and_reads_carry_the_last_applied_one() {
    let mut sim = Sim::new();
    let a = sim.open();
    let base = sim.core.last_proposed().0;
    for request in [
        create("/a"),
        get("/a"),
        create("/a"),
        get("/a"),
        set("/none", ""),
        Request::Ping,
    ] {
        sim.ask(a, &request);
    }
    sim.run();
    let frames = sim.take(a);
    assert_eq!(zxids(&frames), [1, 1, 2, 2, 3, 3].map(|n| base + n));
    sim.ask(a, &get("/a"));
    sim.run();
    let frames = sim.take(a);
    assert_eq!(zxids(&frames), [base + 3], "not the one of the znode");
}

#[test]
fn xids_are_echoed_whatever_they_are_but_for_pings() {
    let mut sim = Sim::new();
    let a = sim.open();
    for (xid, request) in [
        (0, get("/")),
        (-8, set_watches(oxkeeper_types::WatchPaths::default())),
        (i32::MIN, create("/a")),
        (-9, sync("/")),
        (77, Request::Ping),
        (i32::MAX, get("/a")),
        (i32::MAX, get("/a")),
    ] {
        let mut bytes = Vec::new();
        encode_request(&mut bytes, xid, &request);
        sim.send(a, &bytes);
    }
    sim.run();
    let xids: Vec<i32> = sim
        .take(a)
        .iter()
        .map(|frame| match frame {
            Frame::Reply { xid, err: 0, .. } => *xid,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(xids, [0, -8, i32::MIN, -9, -2, i32::MAX, i32::MAX]);
}

#[test]
fn writes_in_work_are_checked_against_those_before_them() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    let sequential = Request::Write(create_with(
        "/q/n-",
        CreateMode::PersistentSequential,
        open_acl(),
        "",
    ));
    sim.ask(a, &create("/q"));
    sim.settle();
    sim.ask(b, &sequential);
    sim.settle();
    sim.ask(a, &sequential);
    sim.ask(a, &delete("/q"));
    sim.ask(a, &Request::Write(set_data("/q", "x", 0)));
    sim.ask(a, &Request::Write(set_data("/q", "y", 0)));
    sim.run();
    assert_eq!(sim.seen(b), ["1=/q/n-0000000000"]);
    assert_eq!(
        sim.seen(a),
        ["1=/q", "2=/q/n-0000000001", "3:-111", "4", "5:-103"]
    );
}

#[test]
fn a_failed_multi_does_nothing_and_its_answer_says_which_part_failed() {
    let mut sim = Sim::new();
    let a = sim.open();
    let parts = vec![
        create_with("/m", CreateMode::Persistent, open_acl(), ""),
        create_with("/m/s-", CreateMode::EphemeralSequential, open_acl(), ""),
        set_data("/none", "", -1),
        WriteRequest::Check {
            path: "/m".to_owned(),
            version: 0,
        },
    ];
    sim.ask(a, &multi(parts));
    sim.ask(a, &get("/m"));
    sim.ask(a, &ephemerals());
    sim.run();
    let frames = sim.take(a);
    let Frame::Reply { err: 0, body, .. } = &frames[0] else {
        panic!("{frames:?}")
    };
    let codes: Vec<i32> = match decode_outcome(OpCode::Multi, 0, body).unwrap() {
        Outcome::Multi(results) => results
            .iter()
            .map(|result| match result {
                oxkeeper_types::OpResult::Error(code) => *code,
                ok @ oxkeeper_types::OpResult::Ok { .. } => panic!("{ok:?}"),
            })
            .collect(),
        other => panic!("{other:?}"),
    };
    assert_eq!(codes, [0, 0, ErrorCode::NoNode.code(), -2]);
    assert!(matches!(frames[1], Frame::Reply { err: -101, .. }));
    assert!(sim.shared.replica.read().tree.znode("/m").is_none());
}

#[test]
fn a_connection_that_comes_back_sees_no_older_state_and_its_earlier_writes_are_done() {
    let mut sim = Sim::new();
    let a = sim.open();
    sim.ask(a, &create("/a"));
    sim.ask(a, &set("/a", "before"));
    sim.settle();
    sim.hang_up(a);
    let again = sim.reopen(a);
    sim.ask(again, &get("/a"));
    sim.run();
    assert_eq!(
        sim.seen(again),
        ["1=before"],
        "the connection is gone, its requests are not"
    );
    let ahead = sim.dial();
    let mut bytes = Vec::new();
    oxkeeper_wire::ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid(sim.durable.0 + 1),
        timeout_ms: 10_000,
        session: sim.links[a].session,
        password: sim.links[a].password.clone(),
        read_only: None,
    }
    .encode(&mut bytes);
    sim.send(ahead, &bytes);
    sim.run();
    assert!(matches!(
        sim.state(ahead),
        LinkState::Closed(oxkeeper_core::CloseReason::ClientAhead { .. })
    ));
    assert_eq!(sim.take(ahead), [], "S2: it is closed without a word");
    assert_eq!(*sim.state(again), LinkState::Open, "and nobody else is");
}

#[test]
fn permissions_count_as_they_are_when_the_request_has_its_turn() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    sim.ask(a, &auth());
    sim.ask(a, &create("/x"));
    sim.run();
    sim.seen(a);
    sim.ask(a, &set_acl("/x", private_acl()));
    sim.settle();
    sim.ask(b, &set("/x", "in work is what counts for writes"));
    sim.ask(b, &get("/x"));
    let c = sim.open();
    sim.ask(c, &get("/x"));
    sim.run();
    assert_eq!(sim.seen(b), ["1:-102", "2:-102"]);
    assert_eq!(sim.seen(c), ["1:-102"]);
    sim.ask(
        a,
        &set_acl("/x", vec![oxkeeper_types::Acl::world(Permissions::READ)]),
    );
    sim.settle();
    sim.ask(b, &get("/x"));
    sim.settle();
    assert_eq!(
        sim.seen(b),
        ["3:-102"],
        "what is applied is what counts for reads"
    );
    sim.run();
    sim.ask(b, &get("/x"));
    sim.run();
    assert_eq!(sim.seen(b), ["4"]);
}
