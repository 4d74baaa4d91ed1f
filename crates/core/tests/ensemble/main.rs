//! What a member of an ensemble owes its clients, its learners and its leader, one promise at a time.

mod disk;
mod reconfig;
mod world;

use std::sync::Arc;

use oxkeeper_core::{CloseReason, Standing};
use oxkeeper_model::client::{
    create, delete, ephemeral, exists_and_watch, get, get_and_watch, set, set_data,
};
use oxkeeper_types::{OpCode, SessionId, WriteRequest, Zxid};
use oxkeeper_wire::{ForwardedRequest, PacketKind, Request, encode_packet_body};
use oxkeeper_zab::{Entry, Message};
use world::World;

const CLOSE: Request<'static> = Request::Write(WriteRequest::CloseSession);

fn sync() -> Request<'static> {
    Request::Sync {
        path: Some("/".into()),
    }
}

fn opaque(kind: PacketKind, data: &[u8]) -> Message {
    let mut payload = Vec::new();
    encode_packet_body(Some(data), None, &mut payload);
    Message::Opaque {
        kind: kind.0,
        zxid: Zxid(-1),
        payload: payload.into(),
    }
}

#[test]
fn a_write_through_any_server_is_seen_on_every_server() {
    let mut world = World::new(3, 1);
    assert_eq!(world.standing(3), Standing::Observing);
    for at in 0..4 {
        let client = world.connect(at);
        let path = format!("/of{at}");
        assert_eq!(world.call(client, &create(&path)), format!("1={path}"));
        assert_eq!(world.call(client, &set(&path, "x")), "2");
    }
    for at in 0..4 {
        let client = world.connect(at);
        for of in 0..4 {
            let answer = world.call(client, &get(&format!("/of{of}")));
            assert_eq!(answer, format!("{}=x", of + 1), "at {at}");
        }
    }
}

#[test]
fn a_failed_write_through_a_learner_is_answered_with_its_error() {
    let mut world = World::new(3, 0);
    let client = world.connect(world.follower(0));
    assert_eq!(world.call(client, &delete("/nothing")), "1:-101");
    assert_eq!(world.call(client, &create("/a")), "2=/a");
    assert_eq!(world.call(client, &create("/a")), "3:-110");
}

#[test]
fn replies_of_a_learner_come_in_the_order_of_requests_and_reads_see_the_writes_before_them() {
    let mut world = World::new(3, 0);
    let follower = world.follower(0);
    let client = world.connect(follower);
    world.call(client, &create("/a"));
    world.hold(follower);
    for request in [
        set("/a", "1"),
        get("/a"),
        set("/a", "2"),
        get("/a"),
        sync(),
        get("/a"),
    ] {
        world.ask(client, &request);
    }
    assert_eq!(world.take(client), "", "nothing is known before the commit came");
    world.release();
    assert_eq!(world.take(client), "2 3=1 4 5=2 6 7=2");
}

#[test]
fn sync_at_a_learner_shows_what_the_leader_had_committed() {
    let mut world = World::new(3, 0);
    let (leader, follower) = (world.leader(), world.follower(0));
    let (writer, reader) = (world.connect(leader), world.connect(follower));
    world.call(writer, &create("/a"));
    world.hold(follower);
    assert_eq!(world.call(writer, &set("/a", "new")), "2", "a quorum without it");
    assert_eq!(
        world.call(reader, &get("/a")),
        "1",
        "the learner is behind, and may be"
    );
    world.ask(reader, &sync());
    world.ask(reader, &get("/a"));
    world.release();
    assert_eq!(world.take(reader), "2 3=new");
}

#[test]
fn a_watch_left_on_one_server_tells_of_a_write_through_another() {
    let mut world = World::new(3, 0);
    let (a, b) = (world.follower(0), world.follower(1));
    let (watcher, writer) = (world.connect(a), world.connect(b));
    world.call(writer, &create("/a"));
    assert_eq!(world.call(watcher, &get_and_watch("/a")), "1");
    assert_eq!(world.call(watcher, &exists_and_watch("/b")), "2:-101");
    world.call(writer, &set("/a", "x"));
    world.call(writer, &create("/b"));
    assert_eq!(world.take(watcher), "DataChanged /a Created /b");
}

#[test]
fn a_session_lives_while_its_learner_hears_from_it_and_ends_when_it_does_not() {
    let mut world = World::new(3, 0);
    let follower = world.follower(0);
    let owner = world.connect(follower);
    let other = world.connect(world.leader());
    assert_eq!(world.call(owner, &ephemeral("/e")), "1=/e");
    for n in 2..40 {
        world.pass(200);
        assert_eq!(world.call(owner, &get("/e")), n.to_string());
        world.call(other, &sync());
    }
    world.take(other);
    for _ in 0..6 {
        world.pass(200);
        world.call(other, &sync());
    }
    assert_eq!(world.closed(owner), Some(CloseReason::SessionExpired));
    world.take(other);
    let gone = world.call(other, &get("/e"));
    assert!(gone.ends_with(":-101"), "the ephemeral is left: {gone}");
}

/// A leader takes no packet longer than a request, and what is added to it.
#[test]
fn a_learner_tells_of_many_sessions_in_several_answers() {
    let request_bytes_max = 60;
    let mut world = World::with(3, 0, |settings| {
        settings.limits.request_bytes_max = request_bytes_max;
    });
    world.packet_bytes_max = request_bytes_max;
    let follower = world.follower(0);
    let clients: Vec<usize> = (0..12).map(|_| world.connect(follower)).collect();
    for n in 1..20 {
        world.pass(100);
        for client in &clients {
            assert_eq!(world.call(*client, &get("/")), n.to_string());
        }
    }
    for client in clients {
        assert_eq!(world.closed(client), None);
    }
}

#[test]
fn a_session_ends_at_once_when_whoever_runs_the_leader_wants_that_and_a_learner_cannot() {
    let mut world = World::new(3, 0);
    let (follower, leader) = (world.follower(0), world.leader());
    let owner = world.connect(follower);
    let other = world.connect(leader);
    assert_eq!(world.call(owner, &ephemeral("/e")), "1=/e");
    let id = world.session_id(owner);
    let before = world.last_processed(leader);
    world.expire(follower, id);
    assert_eq!(world.closed(owner), None);
    assert_eq!(world.last_processed(leader), before, "nothing was proposed");
    world.expire(leader, id);
    world.expire(leader, id);
    world.expire(leader, SessionId(77));
    assert_eq!(world.closed(owner), Some(CloseReason::SessionExpired));
    assert_eq!(world.last_processed(leader), before.next(), "one txn");
    let gone = world.call(other, &get("/e"));
    assert!(gone.ends_with(":-101"), "the ephemeral is left: {gone}");
}

#[test]
fn a_session_moves_between_servers_and_its_old_connection_has_no_say() {
    let mut world = World::new(3, 0);
    let (leader, a, b) = (world.leader(), world.follower(0), world.follower(1));
    let at_a = world.connect(a);
    assert_eq!(world.call(at_a, &ephemeral("/e")), "1=/e");
    let at_b = world.reconnect(at_a, b);
    assert_eq!(world.session_id(at_b), world.session_id(at_a));
    world.ask(at_a, &set("/e", "late"));
    assert_eq!(world.take(at_a), "", "that it moved is never told");
    assert_eq!(
        world.closed(at_a),
        Some(CloseReason::SessionRenewedElsewhere),
        "moved, so the connection ends"
    );
    assert_eq!(world.call(at_b, &set("/e", "b")), "1");
    let at_leader = world.reconnect(at_b, leader);
    assert_eq!(world.call(at_leader, &set("/e", "leader")), "1");
    let back_at_a = world.reconnect(at_leader, a);
    assert!(
        world.closed(at_leader).is_some(),
        "its own connection is closed at once"
    );
    assert_eq!(world.call(back_at_a, &get("/e")), "1=leader");
    world.ask(at_b, &CLOSE);
    assert_eq!(
        world.call(back_at_a, &get("/e")),
        "2=leader",
        "a close from where the session was does not end it"
    );
    world.ask(back_at_a, &CLOSE);
    let other = world.connect(b);
    assert_eq!(world.call(other, &get("/e")), "1:-101");
}

#[test]
fn a_closed_or_unknown_session_is_refused_by_every_server() {
    let mut world = World::new(3, 0);
    let (leader, a, b) = (world.leader(), world.follower(0), world.follower(1));
    let client = world.connect(a);
    world.ask(client, &CLOSE);
    for at in [leader, a, b] {
        let again = world.reconnect(client, at);
        assert_eq!(world.closed(again), Some(CloseReason::SessionRefused), "at {at}");
        assert_eq!(world.session_id(again), SessionId::NONE);
    }
}

#[test]
fn when_the_leader_dies_all_connections_end_and_the_sessions_go_on_with_their_ephemerals() {
    let mut world = World::new(3, 0);
    let (leader, follower) = (world.leader(), world.follower(0));
    let (at_leader, at_follower) = (world.connect(leader), world.connect(follower));
    world.call(at_leader, &ephemeral("/a"));
    world.call(at_follower, &ephemeral("/b"));
    world.kill(leader);
    assert_eq!(world.closed(at_follower), Some(CloseReason::NotServing));
    world.settle();
    assert_ne!(world.leader(), leader);
    world.pass(500);
    let other = world.follower(0);
    let (a, b) = (
        world.reconnect(at_leader, other),
        world.reconnect(at_follower, other),
    );
    assert_eq!(world.call(a, &set("/b", "of a")), "1");
    assert_eq!(world.call(b, &get("/b")), "1=of a");
    assert_eq!(world.call(b, &get("/a")), "2");
}

#[test]
fn a_member_without_a_leader_turns_clients_away() {
    let mut world = World::new(3, 0);
    let follower = world.follower(0);
    let client = world.connect(follower);
    for at in 0..3 {
        if at != follower {
            world.kill(at);
        }
    }
    assert_eq!(world.standing(follower), Standing::Looking);
    for again in [world.connect(follower), world.reconnect(client, follower)] {
        assert_eq!(world.closed(again), Some(CloseReason::NotServing));
        assert_eq!(world.take(again), "");
    }
}

#[test]
fn a_request_that_the_leader_passes_over_costs_its_client_the_connection_only() {
    let mut world = World::new(3, 0);
    let (leader, follower) = (world.leader(), world.follower(0));
    let (unlucky, lucky) = (world.connect(follower), world.connect(follower));
    // The request reaches a leader that forgets it: its packet is held, and the leader "restarted" without it.
    world.hold(leader);
    world.ask(unlucky, &create("/a"));
    world.forget_held();
    world.ask(lucky, &create("/b"));
    assert_eq!(world.take(lucky), "1=/b");
    assert_eq!(world.closed(unlucky), Some(CloseReason::RequestLost));
}

#[test]
fn a_txn_that_is_none_never_reaches_the_log() {
    let mut world = World::new(3, 0);
    let follower = world.follower(0);
    let client = world.connect(follower);
    world.call(client, &create("/a"));
    let garbage = Entry {
        zxid: Zxid::new(1, 4),
        txn: Arc::from(&b"garbage"[..]),
    };
    world.forge_from_leader(follower, Message::Proposal(garbage));
    assert_eq!(world.reports.len(), 1, "{:?}", world.reports);
    assert_eq!(world.closed(client), Some(CloseReason::NotServing));
    world.settle();
    let again = world.reconnect(client, follower);
    assert_eq!(world.call(again, &get("/a")), "1");
}

#[test]
fn a_learners_malformed_packets_end_its_link_and_nothing_else() {
    let mut world = World::new(3, 0);
    let (leader, follower) = (world.leader(), world.follower(0));
    let client = world.connect(leader);
    for packet in [
        opaque(PacketKind::REQUEST, b"short"),
        opaque(PacketKind::REVALIDATE, b""),
        Message::Pong(Zxid::new(1, 0), Arc::from(&b"half"[..])),
    ] {
        let at_follower = world.connect(follower);
        world.forge_from_learner(follower, packet);
        assert_eq!(world.closed(at_follower), Some(CloseReason::NotServing));
        world.settle();
        assert_eq!(world.leader(), leader);
    }
    assert_eq!(world.reports.len(), 3);
    assert_eq!(world.call(client, &create("/a")), "1=/a");
}

#[test]
fn what_a_learner_asks_for_takes_a_zxid_even_when_it_is_nonsense() {
    let mut world = World::new(3, 0);
    let follower = world.follower(0);
    let client = world.connect(follower);
    let session = world.session_id(client);
    let requests = [
        (session, 999, &b""[..]),
        (session, 1, b"no create"),
        (SessionId(77), 1, b"no such session"),
        (session, -10, b"begun before"),
    ];
    for (n, (session, op, body)) in requests.into_iter().enumerate() {
        let mut data = Vec::new();
        let cxid = 1000 + i32::try_from(n).unwrap_or(0);
        ForwardedRequest {
            session,
            cxid,
            op,
            body,
        }
        .encode(&mut data);
        world.forge_from_learner(follower, opaque(PacketKind::REQUEST, &data));
    }
    assert_eq!(world.call(client, &create("/a")), "1=/a");
    assert_eq!(
        world.last_processed(follower),
        Zxid::new(1, 6),
        "createSession, four errors, create"
    );
}

/// A server number counts modulo 256 in the ids of its sessions, and nobody keeps a learner from naming any other.
#[test]
fn a_session_that_a_learner_begins_with_the_leaders_next_id_does_not_harm_the_leader() {
    let mut world = World::new(3, 0);
    let (leader, follower) = (world.leader(), world.follower(0));
    let first = world.connect(leader);
    let next = SessionId(world.session_id(first).0 + 1);
    let mut data = Vec::new();
    ForwardedRequest {
        session: next,
        cxid: 0,
        op: OpCode::CreateSession.code(),
        body: &1000_i32.to_be_bytes(),
    }
    .encode(&mut data);
    world.forge_from_learner(follower, opaque(PacketKind::REQUEST, &data));
    let second = world.connect(leader);
    assert_eq!(world.session_id(second), SessionId(next.0 + 1));
    assert_eq!(world.call(second, &create("/a")), "1=/a");
}

#[test]
fn expected_versions_are_checked_by_the_leader_in_the_order_of_all_clients() {
    let mut world = World::new(3, 0);
    let (a, b) = (world.connect(world.follower(0)), world.connect(world.follower(1)));
    world.call(a, &create("/a"));
    let (leader, set_0) = (world.leader(), Request::Write(set_data("/a", "x", 0)));
    world.hold(leader);
    world.ask(a, &set_0);
    world.ask(b, &set_0);
    world.release();
    assert_eq!(world.take(a), "2");
    assert_eq!(world.take(b), "1:-103");
}

#[test]
fn a_local_session_reads_and_writes_and_no_other_server_knows_it() {
    let mut world = World::with(3, 0, |settings| settings.local_sessions = true);
    for at in [world.leader(), world.follower(0)] {
        let before = world.last_processed(at);
        let client = world.connect(at);
        assert_eq!(world.last_processed(at), before, "no txn");
        let path = format!("/of{at}");
        assert_eq!(world.call(client, &create(&path)), format!("1={path}"));
        assert_eq!(world.call(client, &get(&path)), "2");
        assert_eq!(world.call(client, &ephemeral("/e")), "3:-120");
        let elsewhere = world.reconnect(client, world.follower(1));
        assert_eq!(world.closed(elsewhere), Some(CloseReason::SessionRefused));
        let here = world.reconnect(client, at);
        assert_eq!(world.call(here, &delete(&path)), "1");
        let zxid = world.last_processed(at);
        world.ask(here, &CLOSE);
        assert_eq!((world.take(here).as_str(), world.last_processed(at)), ("2", zxid));
        assert_eq!(world.closed(here), Some(CloseReason::SessionClosed));
    }
}

#[test]
fn a_local_session_expires_at_its_own_server() {
    let mut world = World::with(3, 0, |settings| settings.local_sessions = true);
    for at in [world.leader(), world.follower(0)] {
        let client = world.connect(at);
        world.pass(900);
        assert_eq!(world.closed(client), None);
        world.pass(300);
        assert_eq!(world.closed(client), Some(CloseReason::SessionExpired));
    }
}

#[test]
fn a_local_session_that_may_not_become_global_hears_so_from_its_own_server_in_order() {
    let mut world = World::with(3, 0, |settings| settings.local_sessions = true);
    for at in [world.leader(), world.follower(0)] {
        let client = world.connect(at);
        let path = format!("/of{at}");
        world.hold(world.leader());
        world.ask(client, &create(&path));
        world.ask(client, &ephemeral(&format!("{path}/e")));
        world.ask(client, &get("/"));
        world.release();
        let answers = world.take(client);
        assert!(answers.starts_with(&format!("1={path} 2:-120 3")), "{answers}");
    }
}

#[test]
fn a_local_session_becomes_global_with_its_first_ephemeral() {
    let mut world = World::with(3, 0, |settings| {
        settings.local_sessions = true;
        settings.local_sessions_upgrading = true;
    });
    for at in [world.leader(), world.follower(0)] {
        let client = world.connect(at);
        let path = format!("/of{at}");
        assert_eq!(world.call(client, &ephemeral(&path)), format!("1={path}"));
        let elsewhere = world.reconnect(client, world.follower(1));
        assert_eq!(world.call(elsewhere, &get(&path)), "1");
        world.ask(elsewhere, &CLOSE);
        let other = world.connect(at);
        assert_eq!(world.call(other, &get(&path)), "1:-101");
    }
}

#[test]
fn a_member_without_a_leader_answers_reads_of_those_who_take_that() {
    let mut world = World::with(3, 0, |settings| settings.read_only_mode = true);
    let (leader, a, b) = (world.leader(), world.follower(0), world.follower(1));
    let client = world.connect(a);
    world.call(client, &create("/a"));
    world.kill(leader);
    world.kill(b);
    world.pass(1500);
    let early = world.connect_to_read(a);
    assert_eq!(world.closed(early), Some(CloseReason::NotServing));
    // It may have been elected just before it was left alone, and have to give up first.
    world.pass(3000);
    assert_eq!(world.standing(a), Standing::ReadOnly);
    let writer = world.connect(a);
    assert_eq!(world.closed(writer), Some(CloseReason::ReadOnly));
    let global = world.reconnect_to_read(client, a);
    assert_eq!(world.closed(global), Some(CloseReason::ReadOnly));
    let reader = world.connect_to_read(a);
    assert!(world.only_reads(reader));
    assert_eq!(world.call(reader, &get("/a")), "1");
    assert_eq!(world.call(reader, &set("/a", "x")), "2:-119");
    assert_eq!(world.call(reader, &sync()), "3:-119");
    world.pass(1200);
    assert_eq!(world.closed(reader), Some(CloseReason::SessionExpired));
    let reader = world.connect_to_read(a);
    world.revive(b);
    world.settle();
    assert_eq!(world.closed(reader), Some(CloseReason::NotServing));
    let writer = world.connect(a);
    assert!(!world.only_reads(writer));
    assert_eq!(world.call(writer, &set("/a", "x")), "1");
}

#[test]
fn s2_a_client_is_turned_away_that_has_seen_more_than_the_server_has_taken_over() {
    let mut world = World::new(3, 0);
    for at in 0..3 {
        world.seen = Zxid::new(1, 0);
        let client = world.connect(at);
        assert_eq!(
            world.closed(client),
            None,
            "the beginning of the epoch, as Java's leaders show it"
        );
        world.seen = Zxid::new(1, 9);
        let ahead = world.connect(at);
        assert!(matches!(
            world.closed(ahead),
            Some(CloseReason::ClientAhead { .. })
        ));
    }
}
