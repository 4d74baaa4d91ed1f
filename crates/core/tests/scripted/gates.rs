//! What stands before a request: framing, authentication, known operations, decoding.

use oxkeeper_core::CloseReason;
use oxkeeper_types::{CreateMode, SessionId, Zxid};
use oxkeeper_wire::{Request, encode_request, frame};

use super::driver::client::*;
use super::driver::{LinkState, Sim, settings};

/// The frame of a request whose body is just these bytes.
fn raw(xid: i32, op: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame(&mut bytes, |encoder| {
        encoder.int(xid);
        encoder.int(op);
        encoder.raw(body);
    });
    bytes
}

fn header(frame: &Frame) -> (i32, i64, i32) {
    match frame {
        Frame::Reply { xid, zxid, err, .. } => (*xid, zxid.0, *err),
        other => panic!("{other:?}"),
    }
}

#[test]
fn auth_is_out_of_band_and_counts_for_requests_that_come_after_it() {
    let mut sim = Sim::new();
    let (owner, a) = (sim.open(), sim.open());
    sim.ask(owner, &auth());
    sim.ask(
        owner,
        &Request::Write(create_with("/p", CreateMode::Persistent, private_acl(), "")),
    );
    sim.run();
    sim.ask(a, &create("/p/early"));
    sim.ask(a, &get("/p"));
    sim.ask(a, &who_am_i());
    let mut bytes = Vec::new();
    encode_request(&mut bytes, -4, &auth());
    sim.send(a, &bytes);
    sim.ask(a, &create("/p/late"));
    sim.ask(a, &get("/p"));
    sim.ask(a, &who_am_i());
    sim.settle();
    let frames = sim.take(a);
    assert_eq!(
        frames.len(),
        1,
        "its answer overtakes those of the requests before"
    );
    assert_eq!(header(&frames[0]), (-4, 0, 0));
    sim.run();
    assert_eq!(
        sim.seen(a),
        [
            "1:-102",
            "2:-102",
            "3=ip:10.0.0.1",
            "4=/p/late",
            "5",
            "6=digest:u,ip:10.0.0.1"
        ]
    );
}

#[test]
fn failed_authentication_closes_the_connection_and_not_the_session() {
    let mut sim = Sim::new();
    for (scheme, data) in [
        (Some("unknown"), Some(&b"x"[..])),
        (None, None),
        (Some("digest"), None),
    ] {
        let a = sim.open();
        sim.ask(a, &ephemeral("/e"));
        sim.ask(
            a,
            &Request::Auth {
                scheme: scheme.map(Into::into),
                data,
            },
        );
        sim.ask(a, &get("/"));
        sim.settle();
        let frames = sim.take(a);
        assert_eq!(header(&frames[0]), (2, 0, -115));
        assert_eq!(frames.len(), 1);
        sim.assert_closed(a, &CloseReason::AuthFailed);
        sim.run();
        let again = sim.reopen(a);
        sim.ask(again, &ephemerals());
        sim.ask(again, &Request::CloseSession);
        sim.run();
        assert_eq!(sim.seen(again), ["1=[/e]", "2"]);
    }
    assert_eq!(
        sim.shared
            .stats
            .auth_failed
            .load(std::sync::atomic::Ordering::Relaxed),
        3
    );
}

/// A learner sends the identities to its leader with each request, who takes no packet of any length.
#[test]
fn the_identities_of_a_connection_are_no_longer_than_a_request() {
    let mut settings = settings();
    settings.limits.request_bytes_max = 4096;
    let mut sim = Sim::with(settings, 1);
    let a = sim.open();
    for n in 1..=5 {
        // Again and again the same one is one.
        for _ in 0..2 {
            let data = [&[b'u'; 900][..], format!("{n}:p").as_bytes()].concat();
            sim.ask(
                a,
                &Request::Auth {
                    scheme: Some("digest".into()),
                    data: Some(&data),
                },
            );
            if n == 5 {
                break;
            }
        }
    }
    sim.settle();
    let codes: Vec<i32> = sim.take(a).iter().map(|frame| header(frame).2).collect();
    assert_eq!(codes, [0, 0, 0, 0, 0, 0, 0, 0, -115]);
    sim.assert_closed(a, &CloseReason::AuthFailed);
}

#[test]
fn where_authentication_is_enforced_nothing_else_is_possible_before_it() {
    let mut settings = settings();
    settings.auth.enforced_schemes = vec!["digest".to_owned()];
    let mut sim = Sim::with(settings, 0);
    for request in [
        get("/"),
        create("/x"),
        Request::Ping,
        Request::CloseSession,
        sync("/"),
    ] {
        let a = sim.open();
        let xid = sim.ask(a, &request);
        sim.ask(a, &get("/"));
        sim.run();
        let frames = sim.take(a);
        assert_eq!(frames.iter().map(header).collect::<Vec<_>>(), [(xid, 0, -124)]);
        sim.assert_closed(a, &CloseReason::AuthRequired);
    }
    let a = sim.open();
    sim.ask(
        a,
        &Request::Auth {
            scheme: Some("ip".into()),
            data: Some(b""),
        },
    );
    sim.ask(a, &auth());
    sim.ask(a, &create("/x"));
    sim.run();
    assert_eq!(sim.seen(a), ["1", "2", "3=/x"]);
}

#[test]
fn sasl_is_answered_by_a_null_token_and_a_null_token_closes() {
    let mut sim = Sim::new();
    let a = sim.open();
    sim.ask(
        a,
        &Request::Sasl {
            token: Some(b"hello"),
        },
    );
    sim.run();
    let Frame::Reply {
        zxid: Zxid(0),
        err: 0,
        body,
        ..
    } = &sim.take(a)[0]
    else {
        panic!()
    };
    assert_eq!(body[..], (-1_i32).to_be_bytes());
    sim.ask(a, &Request::Sasl { token: None });
    sim.run();
    assert!(matches!(
        sim.state(a),
        LinkState::Closed(CloseReason::Malformed(_))
    ));
}

#[test]
fn unknown_operations_are_refused_and_close_the_connection() {
    for op in [0, 10, 13, 50, 99, 108, -1, -10, i32::MAX, i32::MIN] {
        let mut sim = Sim::new();
        let (a, b) = (sim.open(), sim.open());
        let before = sim.core.last_proposed();
        sim.send(a, &raw(7, op, b"\0\0\0\x02/a\0\0\0\0"));
        sim.ask(a, &get("/"));
        sim.ask(b, &get("/"));
        sim.run();
        let frames = sim.take(a);
        assert_eq!(
            frames.iter().map(header).collect::<Vec<_>>(),
            [(7, -1, -6)],
            "{op}"
        );
        sim.assert_closed(a, &CloseReason::BadOperation(op));
        assert_eq!(sim.seen(b), ["1"], "other connections notice nothing");
        assert_eq!(sim.core.last_proposed(), before, "no txn comes of it");
        sim.reopen(a);
    }
}

#[test]
fn delete_container_of_a_client_closes_without_a_word_whatever_its_body() {
    for body in [&b"\0\0\0\x02/a"[..], b"", b"\xff"] {
        let mut sim = Sim::new();
        let a = sim.open();
        sim.ask(a, &create("/a"));
        sim.run();
        sim.seen(a);
        sim.send(a, &raw(2, 20, body));
        sim.run();
        assert_eq!(sim.take(a), []);
        sim.assert_closed(a, &CloseReason::BadOperation(20));
        assert!(sim.shared.replica.read().tree.znode("/a").is_some());
    }
}

#[test]
fn frames_that_cannot_be_close_their_connection_only() {
    let too_long = i32::try_from(oxkeeper_wire::REQUEST_LENGTH_MAX_DEFAULT + 1)
        .unwrap()
        .to_be_bytes();
    let cases: [&[u8]; 6] = [
        &[0xff; 4],
        &too_long,
        &[0, 0, 0, 0],
        &[0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0],
        // An auth request that ends early.
        &[0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 100, 0],
        &[0x7f, 0xff, 0xff, 0xff, 1],
    ];
    for bytes in cases {
        let mut sim = Sim::new();
        let (a, b) = (sim.open(), sim.open());
        sim.ask(a, &get("/"));
        sim.send(a, bytes);
        sim.ask(b, &get("/"));
        sim.run();
        assert_eq!(sim.seen(a), ["1"], "what came before is answered");
        assert!(
            matches!(sim.state(a), LinkState::Closed(CloseReason::Malformed(_))),
            "{bytes:?}"
        );
        assert_eq!(sim.seen(b), ["1"]);
        assert_eq!(
            sim.shared
                .stats
                .malformed
                .load(std::sync::atomic::Ordering::Relaxed),
            1
        );
        sim.reopen(a);
    }
}

#[test]
fn connect_requests_that_cannot_be_close_without_a_word() {
    for length in 0..28_u8 {
        let mut sim = Sim::new();
        let a = sim.dial();
        let mut bytes = vec![0, 0, 0, length];
        bytes.resize(4 + usize::from(length), 0);
        sim.send(a, &bytes);
        sim.run();
        assert_eq!(sim.take(a), []);
        assert!(matches!(
            sim.state(a),
            LinkState::Closed(CloseReason::Malformed(_))
        ));
        assert_eq!(sim.core.sessions().count(), 0);
    }
}

#[test]
fn bytes_may_come_one_by_one() {
    let mut sim = Sim::new();
    let a = sim.dial();
    let mut bytes = Vec::new();
    oxkeeper_wire::ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 10_000,
        session: SessionId::NONE,
        password: vec![0; 16],
        read_only: Some(true),
    }
    .encode(&mut bytes);
    encode_request(&mut bytes, 1, &create("/a"));
    encode_request(&mut bytes, 2, &set("/a", "data"));
    encode_request(&mut bytes, 3, &get("/a"));
    for byte in &bytes {
        sim.send(a, &[*byte]);
        sim.run();
    }
    sim.greeting(a);
    assert_eq!(sim.take(a).len(), 3);
}

#[test]
fn what_cannot_be_decoded_is_answered_in_its_turn_and_the_connection_stays() {
    let mut sim = Sim::new();
    let a = sim.open();
    sim.ask(a, &create("/a"));
    for op in [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 18, 19, 21, 101, 103, 104, 105, 106,
    ] {
        sim.send(a, &raw(100 + op, op, b"\0"));
    }
    sim.ask(a, &get("/a"));
    sim.run();
    let frames = sim.take(a);
    let codes: Vec<i32> = frames.iter().map(|frame| header(frame).2).collect();
    let count = frames.len();
    assert_eq!(count, 23);
    assert!(codes[1..count - 1].iter().all(|&code| code == -5), "{codes:?}");
    assert_eq!((codes[0], codes[count - 1]), (0, 0));
    let xids: Vec<i32> = frames.iter().map(|frame| header(frame).0).collect();
    assert!(xids[1..count - 1].is_sorted(), "{xids:?}");
    assert_eq!(*sim.state(a), LinkState::Open);
}

#[test]
fn bytes_behind_a_request_are_ignored() {
    let mut sim = Sim::new();
    let a = sim.open();
    sim.send(a, &raw(1, 4, b"\0\0\0\x01/\0and more"));
    sim.send(a, &raw(2, 11, b"a ping has no body"));
    sim.run();
    let frames = sim.take(a);
    assert_eq!(
        frames.iter().map(|frame| header(frame).0).collect::<Vec<_>>(),
        [1, -2]
    );
    assert!(frames.iter().all(|frame| header(frame).2 == 0));
}

#[test]
fn an_address_in_ipv6_form_is_the_ipv4_address_it_stands_for() {
    let mut sim = Sim::new();
    let a = sim.dial_from("[::ffff:10.1.2.3]:99".parse().unwrap());
    sim.send_connect(a, SessionId::NONE, &[], 10_000);
    sim.ask(a, &who_am_i());
    sim.run();
    sim.greeting(a);
    assert_eq!(sim.seen(a), ["1=ip:10.1.2.3"]);
}
