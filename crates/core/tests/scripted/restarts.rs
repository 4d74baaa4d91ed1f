//! What a restart finds: D1, and sessions that go on.

use std::sync::Arc;
use std::time::Duration;

use oxkeeper_core::{Action, Client, CloseReason, Event, ServerCore, Shared, recover};
use oxkeeper_tree::ConnectionId;
use oxkeeper_types::{CreateMode, ServerId, SessionId, Zxid};
use oxkeeper_wire::Request;

use super::driver::client::*;
use super::driver::{End, LinkState, Sim, settings};

#[test]
fn what_was_acknowledged_survives_and_what_was_not_is_never_half_there() {
    for seed in 0..50 {
        let mut sim = Sim::with(settings(), seed);
        let a = sim.open();
        sim.ask(a, &create("/x"));
        sim.run();
        for n in 0..5 {
            sim.ask(
                a,
                &multi(vec![
                    set_data("/x", &n.to_string(), -1),
                    create_with(&format!("/x/{n}"), CreateMode::Persistent, open_acl(), ""),
                ]),
            );
        }
        sim.settle();
        sim.write_log(2).unwrap();
        sim.sync_log().unwrap();
        sim.settle();
        sim.write_log(3).unwrap();
        assert_eq!(sim.take(a).len(), 3);
        sim.restart(if seed % 4 == 0 { End::Kill } else { End::Power });
        let replica = sim.shared.replica.read();
        let x = replica.tree.znode("/x").unwrap();
        let done = x.child_count();
        assert!((2..=5).contains(&done));
        assert_eq!(x.data(), Some((done - 1).to_string().as_bytes()));
        assert_eq!(replica.last_processed.0, 2 + i64::try_from(done).unwrap());
        let logged = sim.history.last().unwrap().digest.unwrap();
        assert_eq!(replica.tree.digest(), logged);
    }
}

#[test]
fn sessions_outlive_a_restart_with_id_password_ephemerals_and_their_full_timeout() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open_with(4000), sim.open_with(4000));
    sim.ask(a, &ephemeral("/a"));
    sim.ask(b, &ephemeral("/b"));
    sim.run();
    let czxid = sim.shared.replica.read().tree.znode("/a").unwrap().stat().czxid;
    for end in [End::Power, End::Kill] {
        sim.advance(3999);
        sim.restart(end);
    }
    assert!(sim.notes.is_empty(), "{:?}", sim.notes);
    sim.advance(3999);
    sim.run();
    let again = sim.reopen(a);
    sim.ask(again, &ephemerals());
    sim.run();
    assert_eq!(sim.seen(again), ["1=[/a]"]);
    sim.advance(501);
    sim.run();
    sim.ask(again, &children("/"));
    sim.run();
    assert_eq!(
        sim.seen(again),
        ["2=[a,zookeeper]"],
        "the one that did not come back has expired"
    );
    assert_eq!(
        sim.shared.replica.read().tree.znode("/a").unwrap().stat().czxid,
        czxid
    );
}

#[test]
fn new_sessions_after_a_restart_have_ids_of_their_own() {
    let mut sim = Sim::new();
    let a = sim.open();
    let first = sim.links[a].session;
    sim.jump(1);
    sim.restart(End::Kill);
    let b = sim.open();
    assert!(sim.links[b].session > first);
    // And also when the clock stands still, or goes back.
    for back in [0, 1] {
        sim.now.wall_ms -= back;
        sim.restart(End::Kill);
        let c = sim.open();
        assert_eq!(*sim.state(c), LinkState::Open);
    }
    assert_eq!(sim.core.sessions().count(), 4);
}

#[test]
fn a_closed_session_stays_closed_after_a_restart() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    sim.ask(a, &ephemeral("/a"));
    sim.ask(b, &ephemeral("/b"));
    sim.ask(a, &Request::CloseSession);
    sim.run();
    sim.restart(End::Power);
    let again = sim.dial();
    let (session, password) = (sim.links[a].session, sim.links[a].password.clone());
    sim.send_connect(again, session, &password, 10_000);
    sim.run();
    sim.assert_closed(again, &CloseReason::SessionRefused);
    let tree = &sim.shared.replica.read().tree;
    assert!(tree.znode("/a").is_none() && tree.znode("/b").is_some());
}

#[test]
fn ephemerals_of_sessions_that_nobody_knows_are_deleted_at_recovery() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    for request in [ephemeral("/lost"), ephemeral("/lost2")] {
        sim.ask(a, &request);
    }
    sim.ask(b, &ephemeral("/kept"));
    sim.run();
    // Such a snapshot is what a server leaves that was restored from an incomplete one.
    let lost = sim.links[a].session;
    sim.shared.replica.write().sessions.remove(&lost);
    sim.begin_snapshot().unwrap();
    while sim.is_taking_snapshot() {
        sim.step_snapshot(100).unwrap();
    }
    sim.restart(End::Kill);
    assert_eq!(sim.notes.len(), 1, "{:?}", sim.notes);
    assert!(sim.notes[0].contains(&lost.to_string()));
    {
        let replica = sim.shared.replica.read();
        assert!(replica.tree.znode("/lost").is_none() && replica.tree.znode("/lost2").is_none());
        assert!(replica.tree.znode("/kept").is_some());
        assert_eq!(
            replica.sessions.keys().copied().collect::<Vec<SessionId>>(),
            [sim.links[b].session]
        );
    }
    let again = sim.reopen(b);
    sim.ask(again, &create("/works"));
    sim.run();
    assert_eq!(sim.seen(again), ["1=/works"]);
}

#[test]
fn a_snapshot_taken_while_txns_are_applied_recovers_to_the_same_tree() {
    let mut sim = Sim::new();
    let a = sim.open_with(60_000);
    for n in 0..40 {
        sim.ask(a, &create(&format!("/n{n}")));
    }
    sim.run();
    sim.begin_snapshot().unwrap();
    let b = sim.open();
    for n in 0..40 {
        sim.ask(a, &set(&format!("/n{n}"), "changed"));
        sim.ask(a, &create(&format!("/n{n}/child")));
        sim.ask(a, &delete(&format!("/n{}", (n * 7) % 40)));
        sim.ask(b, &ephemeral(&format!("/e{n}")));
        sim.run();
        sim.step_snapshot(1).unwrap();
    }
    while sim.is_taking_snapshot() {
        sim.step_snapshot(1).unwrap();
    }
    sim.ask(b, &Request::CloseSession);
    sim.ask(a, &create("/last"));
    sim.run();
    let (digest, last) = {
        let replica = sim.shared.replica.read();
        (replica.tree.digest(), replica.last_processed)
    };
    for end in [End::Power, End::Kill] {
        sim.restart(end);
        let replica = sim.shared.replica.read();
        assert_eq!((replica.tree.digest(), replica.last_processed), (digest, last));
        assert_eq!(replica.tree.ephemerals_count(), 0);
    }
    assert!(sim.notes.is_empty(), "{:?}", sim.notes);
}

#[test]
fn a_snapshot_that_a_crash_left_unfinished_does_no_harm() {
    let mut sim = Sim::new();
    let a = sim.open_with(60_000);
    for n in 0..10 {
        sim.ask(a, &create(&format!("/n{n}")));
    }
    sim.run();
    for end in [End::Power, End::Kill] {
        sim.begin_snapshot().unwrap();
        sim.step_snapshot(3).unwrap();
        assert!(sim.is_taking_snapshot());
        sim.restart(end);
        assert_eq!(
            sim.shared.replica.read().tree.znode("/").unwrap().child_count(),
            11
        );
    }
}

#[test]
fn when_the_zxids_of_an_epoch_are_used_up_the_next_epoch_begins_and_its_log_can_be_read() {
    let mut sim = Sim::new();
    sim.open();
    sim.shared.replica.write().last_processed = Zxid::new(7, u32::MAX - 1);
    sim.begin_snapshot().unwrap();
    while sim.is_taking_snapshot() {
        sim.step_snapshot(100).unwrap();
    }
    sim.crash(End::Power);
    let recovered = recover(&sim.storage, &sim.settings.tree, 0).unwrap();
    let shared = Arc::new(Shared::new(recovered.replica, sim.settings.clone()));
    let mut log = sim
        .storage
        .open_log(&recovered.log_end, || Duration::ZERO)
        .unwrap();
    let mut core = ServerCore::new(shared.clone(), ServerId(1), sim.now);
    let mut zxids = Vec::new();
    for id in 1..=3 {
        let peer = "10.0.0.1:1".parse().unwrap();
        let client = Arc::new(Client::new(ConnectionId(id), peer, 0, Box::new(|| {})));
        let timeout_ms = 10_000;
        core.handle_event(
            sim.now,
            Event::OpenSession {
                client,
                timeout_ms,
                read_only: false,
            },
        );
        while let Some(action) = core.poll_action() {
            if let Action::AppendToLog { zxid, entry } = action {
                log.append(zxid, &entry).unwrap();
                zxids.push(zxid);
            }
        }
        let up_to = log.commit().unwrap().up_to;
        core.handle_event(sim.now, Event::LogDurable { up_to });
    }
    assert_eq!(zxids, [Zxid::new(7, u32::MAX), Zxid::new(8, 1), Zxid::new(8, 2)]);
    assert_eq!(shared.replica.read().last_processed, zxids[2]);
    sim.disk.crash();
    let replica = recover(&sim.storage, &sim.settings.tree, 0).unwrap().replica;
    assert_eq!((replica.last_processed, replica.sessions.len()), (zxids[2], 4));
}
