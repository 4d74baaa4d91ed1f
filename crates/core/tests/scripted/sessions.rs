//! Sessions: how they begin, go on, end, and what goes with them (T3, S5).

use oxkeeper_core::{CloseReason, session_password};
use oxkeeper_types::SessionId;
use oxkeeper_wire::{ConnectRequest, ConnectResponse, Request, encode_request};

use super::driver::client::*;
use super::driver::{LinkState, Sim};

/// Keeps a session alive for `ms`.
fn live_on(sim: &mut Sim, at: usize, ms: u64) {
    for _ in 0..ms / 500 {
        sim.advance(500);
        sim.ask(at, &Request::Ping);
        sim.run();
    }
    assert_eq!(*sim.state(at), LinkState::Open);
}

fn refused() -> ConnectResponse {
    ConnectResponse::invalid(Some(false))
}

#[test]
fn a_new_session_has_an_id_of_this_server_its_password_and_a_timeout_within_bounds() {
    let mut sim = Sim::new();
    let mut last = SessionId::NONE;
    for (wanted, granted) in [
        (10_000, 10_000),
        (-1, 1000),
        (0, 1000),
        (i32::MAX, 60_000),
        (1000, 1000),
    ] {
        let at = sim.dial();
        sim.send_connect(at, SessionId::NONE, b"whatever", wanted);
        sim.run();
        let response = sim.greeting(at);
        assert_eq!(response.timeout_ms, granted);
        assert_eq!(response.session.0 >> 56, 1);
        assert_eq!(response.password, session_password(response.session));
        assert_eq!(response.read_only, Some(false));
        assert!(response.session > last);
        last = response.session;
    }
    assert_eq!(sim.core.sessions().count(), 5);
}

#[test]
fn the_connect_response_says_nothing_of_read_only_servers_to_who_did_not_ask() {
    let mut sim = Sim::new();
    let at = sim.dial();
    let mut request = ConnectRequest {
        protocol_version: 5,
        last_zxid_seen: oxkeeper_types::Zxid::ZERO,
        timeout_ms: 10_000,
        session: SessionId::NONE,
        password: Vec::new(),
        read_only: None,
    };
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    sim.send(at, &bytes);
    sim.run();
    let response = sim.greeting(at);
    assert_eq!(response.read_only, None);
    let again = sim.dial();
    request.session = response.session;
    request.password = b"wrong".to_vec();
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    sim.send(again, &bytes);
    sim.run();
    assert_eq!(sim.greeting(again), ConnectResponse::invalid(None));
}

#[test]
fn requests_sent_right_behind_the_connect_request_are_done_once_the_session_is_there() {
    let mut sim = Sim::new();
    let at = sim.dial();
    sim.send_connect(at, SessionId::NONE, &[], 10_000);
    sim.ask(at, &auth());
    sim.ask(at, &create("/a"));
    sim.ask(at, &get("/a"));
    sim.settle();
    assert_eq!(*sim.state(at), LinkState::Paused);
    sim.run();
    sim.greeting(at);
    assert_eq!(sim.seen(at), ["1", "2=/a", "3"]);
}

#[test]
fn a_renewed_session_keeps_its_id_password_and_ephemerals_and_takes_the_new_timeout() {
    let mut sim = Sim::new();
    let a = sim.open();
    sim.ask(a, &ephemeral("/e"));
    sim.run();
    sim.hang_up(a);
    let again = sim.dial();
    let (session, password) = (sim.links[a].session, sim.links[a].password.clone());
    sim.send_connect(again, session, &password, 3000);
    sim.run();
    let response = sim.greeting(again);
    assert_eq!((response.session, response.timeout_ms), (session, 3000));
    assert_eq!(response.password[..], password[..]);
    sim.ask(again, &ephemerals());
    sim.run();
    assert_eq!(sim.seen(again), ["1=[/e]"]);
    sim.advance(3500);
    sim.run();
    sim.assert_closed(again, &CloseReason::SessionExpired);
}

#[test]
fn a_wrong_password_is_refused_and_ends_the_old_connection_but_not_the_session() {
    let mut sim = Sim::new();
    let a = sim.open();
    sim.ask(a, &ephemeral("/e"));
    sim.run();
    sim.seen(a);
    for password in [&b""[..], b"0123456789abcdef", &[0; 17]] {
        let thief = sim.dial();
        let session = sim.links[a].session;
        sim.send_connect(thief, session, password, 10_000);
        sim.run();
        assert_eq!(sim.take(thief), [Frame::Connected(refused())]);
        sim.assert_closed(thief, &CloseReason::SessionRefused);
        sim.links[thief].session = session;
    }
    sim.assert_closed(a, &CloseReason::SessionRenewedElsewhere);
    assert_eq!(sim.take(a), [], "without a word");
    sim.links[a].session = sim
        .core
        .sessions()
        .by_expiry()
        .into_values()
        .next()
        .unwrap()
        .pop_first()
        .unwrap();
    let again = sim.reopen(a);
    sim.ask(again, &get("/e"));
    sim.run();
    assert_eq!(sim.seen(again), ["1"]);
}

#[test]
fn a_session_nobody_knows_is_refused() {
    let mut sim = Sim::new();
    let at = sim.dial();
    let stranger = SessionId(0x77);
    sim.send_connect(at, stranger, &session_password(stranger), 10_000);
    sim.run();
    assert_eq!(sim.take(at), [Frame::Connected(refused())]);
    sim.assert_closed(at, &CloseReason::SessionRefused);
}

#[test]
fn the_newest_connection_has_the_session_and_the_old_one_gets_no_further_answer() {
    let mut sim = Sim::new();
    let a = sim.open();
    sim.ask(a, &exists_and_watch("/x"));
    sim.run();
    sim.seen(a);
    // In work at the moment of the renewal: it is done, and nobody hears of it.
    sim.ask(a, &create("/in-work"));
    sim.settle();
    let again = sim.dial();
    let (session, password) = (sim.links[a].session, sim.links[a].password.clone());
    sim.send_connect(again, session, &password, 10_000);
    // On the way to the core behind the renewal: these are dropped.
    sim.look(again);
    sim.ask(a, &create("/late"));
    sim.ask(a, &get("/in-work"));
    sim.look(a);
    sim.run();
    assert_eq!(sim.seen(a), [] as [&str; 0]);
    sim.assert_closed(a, &CloseReason::SessionRenewedElsewhere);
    assert_eq!(sim.greeting(again).session, session);
    sim.ask(again, &create("/x"));
    sim.ask(again, &children("/"));
    sim.run();
    assert_eq!(sim.seen(again), ["1=/x", "2=[in-work,x,zookeeper]"]);
}

#[test]
fn losing_the_connection_does_not_end_the_session_before_its_time() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open_with(4000), sim.open_with(60_000));
    sim.ask(a, &ephemeral("/e"));
    sim.run();
    sim.hang_up(a);
    sim.advance(4000);
    sim.run();
    sim.ask(b, &get("/e"));
    sim.run();
    assert_eq!(sim.seen(b), ["1"]);
    sim.advance(500);
    sim.ask(b, &get("/e"));
    sim.run();
    sim.ask(b, &get("/e"));
    sim.run();
    assert_eq!(sim.seen(b), ["2", "3:-101"]);
}

#[test]
fn s5_a_session_ends_at_its_timeout_at_the_earliest_and_a_tick_later_at_the_latest() {
    for (offset, timeout_ms) in [(0, 4000), (1, 4000), (499, 4000), (250, 1000), (7, 1234)] {
        let mut sim = Sim::new();
        sim.advance(offset);
        let at = sim.open_with(timeout_ms);
        let begun = sim.now.monotonic_ms;
        while *sim.state(at) == LinkState::Open {
            sim.advance(1);
            sim.run();
        }
        let lived = i32::try_from(sim.now.monotonic_ms - begun).unwrap();
        assert!(
            (timeout_ms..=timeout_ms + 500).contains(&lived),
            "a session of {timeout_ms} lived {lived}"
        );
    }
}

#[test]
fn s5_every_request_keeps_a_session_alive_also_one_that_fails() {
    let mut sim = Sim::new();
    let requests = [
        Request::Ping,
        get("/none"),
        create("/"),
        sync("/"),
        who_am_i(),
        set_watches(oxkeeper_types::WatchPaths::default()),
    ];
    let at = sim.open_with(2000);
    for request in requests.iter().cycle().take(30) {
        sim.advance(1900);
        sim.ask(at, request);
        sim.run();
        assert_eq!(sim.take(at).len(), 1);
    }
    sim.advance(2500);
    sim.run();
    sim.assert_closed(at, &CloseReason::SessionExpired);
}

#[test]
fn an_expired_session_takes_its_ephemerals_along_and_its_connection_closes_without_a_word() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open_with(2000), sim.open_with(60_000));
    sim.ask(a, &ephemeral("/e"));
    sim.ask(
        a,
        &Request::Write(create_with(
            "/s-",
            oxkeeper_types::CreateMode::EphemeralSequential,
            open_acl(),
            "",
        )),
    );
    sim.run();
    sim.seen(a);
    sim.advance(2500);
    sim.run();
    sim.assert_closed(a, &CloseReason::SessionExpired);
    assert_eq!(sim.take(a), []);
    sim.ask(b, &children("/"));
    sim.run();
    assert_eq!(sim.seen(b), ["1=[zookeeper]"]);
    let again = sim.dial();
    let (session, password) = (sim.links[a].session, sim.links[a].password.clone());
    sim.send_connect(again, session, &password, 10_000);
    sim.run();
    assert_eq!(sim.take(again), [Frame::Connected(refused())]);
    assert_eq!(sim.core.sessions().count(), 1);
    assert_eq!(sim.shared.replica.read().sessions.len(), 1);
}

#[test]
fn a_session_whose_end_is_decided_gets_no_answer_any_more() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open_with(2000), sim.open_with(60_000));
    sim.ask(a, &create("/kept"));
    sim.settle();
    // On the way to the core when the time is over.
    sim.ask(a, &ephemeral("/late"));
    sim.ask(a, &get("/"));
    sim.jump(1);
    sim.look(a);
    sim.advance(2600);
    sim.settle();
    assert_eq!(sim.core.sessions().count(), 2, "its end is decided, not durable");
    for request in [
        get("/"),
        Request::Ping,
        ephemeral("/later"),
        sync("/"),
        Request::CloseSession,
    ] {
        sim.ask(a, &request);
    }
    let again = sim.dial();
    let (session, password) = (sim.links[a].session, sim.links[a].password.clone());
    sim.settle();
    sim.run();
    assert_eq!(sim.seen(a), ["1=/kept"]);
    sim.assert_closed(a, &CloseReason::SessionExpired);
    sim.send_connect(again, session, &password, 10_000);
    sim.ask(b, &children("/"));
    sim.run();
    assert_eq!(sim.seen(b), ["1=[kept,zookeeper]"]);
    assert_eq!(sim.take(again), [Frame::Connected(refused())]);
}

#[test]
fn a_session_whose_end_is_decided_is_not_even_answered_what_could_be_answered_at_once() {
    let mut sim = Sim::new();
    let a = sim.open_with(2000);
    sim.advance(2500);
    for request in [get("/"), Request::Ping, who_am_i()] {
        sim.ask(a, &request);
    }
    sim.settle();
    assert_eq!(sim.seen(a), [] as [&str; 0]);
    assert_eq!(*sim.state(a), LinkState::Open);
    sim.run();
    assert_eq!(sim.seen(a), [] as [&str; 0]);
    sim.assert_closed(a, &CloseReason::SessionExpired);
}

#[test]
fn a_session_cannot_be_renewed_once_its_end_is_decided() {
    let mut sim = Sim::new();
    let a = sim.open();
    sim.ask(a, &ephemeral("/e"));
    sim.run();
    sim.seen(a);
    sim.ask(a, &Request::CloseSession);
    sim.settle();
    let again = sim.dial();
    let (session, password) = (sim.links[a].session, sim.links[a].password.clone());
    sim.send_connect(again, session, &password, 10_000);
    sim.settle();
    assert_eq!(sim.take(again), [Frame::Connected(refused())]);
    sim.run();
    assert_eq!(sim.shared.replica.read().tree.ephemerals_count(), 0);
}

#[test]
fn close_session_is_answered_and_what_is_sent_behind_it_vanishes() {
    let mut sim = Sim::new();
    let a = sim.open();
    sim.ask(a, &ephemeral("/e"));
    sim.ask(a, &Request::CloseSession);
    sim.ask(a, &create("/behind"));
    sim.ask(a, &get("/"));
    sim.settle();
    sim.ask(a, &create("/later"));
    sim.send(a, &[0xff; 4]);
    sim.settle();
    sim.run();
    let frames = sim.take(a);
    assert_eq!(frames.len(), 2);
    assert!(matches!(
        frames[1],
        Frame::Reply { xid: 2, zxid, err: 0, .. } if zxid == sim.durable
    ));
    sim.assert_closed(a, &CloseReason::SessionClosed);
    let replica = sim.shared.replica.read();
    for path in ["/e", "/behind", "/later"] {
        assert!(replica.tree.znode(path).is_none(), "{path}");
    }
    assert!(replica.sessions.is_empty());
    assert_eq!(sim.core.sessions().count(), 0);
}

#[test]
fn connect_ephemeral_and_close_in_one_segment_leave_no_znode() {
    let mut sim = Sim::new();
    let at = sim.dial();
    let mut bytes = Vec::new();
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: oxkeeper_types::Zxid::ZERO,
        timeout_ms: 10_000,
        session: SessionId::NONE,
        password: vec![0; 16],
        read_only: Some(false),
    }
    .encode(&mut bytes);
    encode_request(&mut bytes, 1, &ephemeral("/e"));
    encode_request(&mut bytes, 2, &Request::CloseSession);
    sim.send(at, &bytes);
    sim.run();
    sim.greeting(at);
    assert_eq!(sim.take(at).len(), 2);
    assert_eq!(sim.shared.replica.read().tree.ephemerals_count(), 0);
    assert_eq!(sim.core.sessions().count(), 0);
}

#[test]
fn close_session_counts_although_the_client_hangs_up_right_behind_it() {
    let mut sim = Sim::new();
    let a = sim.open();
    sim.ask(a, &ephemeral("/e"));
    sim.ask(a, &Request::CloseSession);
    sim.look(a);
    sim.hang_up(a);
    sim.run();
    assert_eq!(sim.core.sessions().count(), 0);
    assert_eq!(sim.shared.replica.read().tree.ephemerals_count(), 0);
}

#[test]
fn a_session_whose_client_was_gone_before_it_began_lives_until_its_time_is_over() {
    let mut sim = Sim::new();
    let at = sim.dial();
    sim.send_connect(at, SessionId::NONE, &[], 2000);
    sim.settle();
    sim.hang_up(at);
    sim.run();
    assert_eq!(sim.shared.replica.read().sessions.len(), 1);
    sim.advance(2500);
    sim.run();
    assert_eq!(sim.shared.replica.read().sessions.len(), 0);
    assert_eq!(sim.core.sessions().count(), 0);
}

#[test]
fn a_session_that_is_renewed_by_every_connection_in_turn_lives_on() {
    let mut sim = Sim::new();
    let mut at = sim.open_with(2000);
    for _ in 0..5 {
        let next = sim.reopen(at);
        live_on(&mut sim, next, 3000);
        at = next;
    }
    sim.advance(10_500);
    sim.run();
    sim.assert_closed(at, &CloseReason::SessionExpired);
}
