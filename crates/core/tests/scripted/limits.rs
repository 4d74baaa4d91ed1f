//! B1: what a client can make the server hold, and what happens at each limit.

use std::sync::atomic::Ordering::Relaxed;

use oxkeeper_core::{CloseReason, CoreSettings, LimitSettings};
use oxkeeper_types::AddWatchMode;
use oxkeeper_wire::Request;

use super::driver::client::*;
use super::driver::{LinkState, Sim, settings};

fn sim(limits: LimitSettings) -> Sim {
    Sim::with(CoreSettings { limits, ..settings() }, 0)
}

fn xids(seen: &[String]) -> Vec<i32> {
    seen.iter()
        .map(|text| text.split('=').next().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn requests_outstanding_max_stops_reading_of_those_with_requests_in_work() {
    let mut sim = sim(LimitSettings {
        requests_outstanding_max: 4,
        ..LimitSettings::default()
    });
    let (a, b, c) = (sim.open(), sim.open(), sim.open());
    for _ in 0..20 {
        sim.ask(a, &create("/a-"));
    }
    sim.settle();
    assert_eq!(sim.shared.outstanding.load(Relaxed), 5);
    assert_eq!(*sim.state(a), LinkState::Paused);
    assert!(sim.links[a].untaken() > 0);
    sim.ask(b, &create("/b"));
    sim.ask(b, &get("/"));
    sim.ask(c, &get("/"));
    sim.settle();
    assert_eq!(sim.seen(c), ["1"], "who has nothing in work is served");
    assert_eq!(
        sim.shared.outstanding.load(Relaxed),
        6,
        "and may have one request in work"
    );
    sim.run();
    assert_eq!(sim.take(a).len(), 20);
    assert_eq!(sim.seen(b), ["1=/b", "2"]);
    assert_eq!(sim.shared.outstanding.load(Relaxed), 0);
    assert_eq!(*sim.state(a), LinkState::Open);
}

#[test]
fn requests_per_connection_max_stops_reading_of_that_connection() {
    let mut sim = sim(LimitSettings {
        requests_per_connection_max: 3,
        ..LimitSettings::default()
    });
    let (a, b) = (sim.open(), sim.open());
    for _ in 0..4 {
        sim.ask(a, &set("/zookeeper", ""));
        sim.ask(a, &get("/"));
    }
    sim.ask(b, &create("/b"));
    sim.settle();
    assert_eq!(sim.shared.outstanding.load(Relaxed), 4);
    sim.run();
    assert_eq!(xids(&sim.seen(a)), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn delayed_reads_max_bounds_what_is_answered_in_one_hold() {
    let mut sim = sim(LimitSettings {
        delayed_reads_max: 2,
        ..LimitSettings::default()
    });
    let a = sim.open();
    sim.ask(a, &create("/a"));
    for _ in 0..5 {
        sim.ask(a, &get("/a"));
    }
    sim.settle();
    assert_eq!(sim.shared.outstanding.load(Relaxed), 3);
    sim.run();
    assert_eq!(xids(&sim.seen(a)), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn throttle_requests_max_lets_connections_wait() {
    let mut sim = sim(LimitSettings {
        throttle_requests_max: 2,
        ..LimitSettings::default()
    });
    let a = sim.open();
    for _ in 0..6 {
        sim.ask(a, &set("/zookeeper", ""));
    }
    sim.settle();
    assert_eq!(sim.shared.outstanding.load(Relaxed), 2);
    sim.run();
    assert_eq!(xids(&sim.seen(a)), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_read_that_waited_longer_than_throttled_op_wait_is_refused_and_a_ping_is_not() {
    let mut sim = sim(LimitSettings {
        throttled_op_wait_ms: 100,
        ..LimitSettings::default()
    });
    let a = sim.open();
    sim.ask(a, &create("/a"));
    sim.ask(a, &get("/a"));
    sim.ask(a, &Request::Ping);
    sim.settle();
    sim.jump(101);
    sim.ask(a, &get("/a"));
    sim.run();
    assert_eq!(sim.seen(a), ["1=/a", "2:-127", "-2", "4"]);
}

#[test]
fn output_bytes_high_water_stops_taking_requests_until_the_client_reads() {
    let mut sim = sim(LimitSettings {
        output_bytes_high_water: 2000,
        ..LimitSettings::default()
    });
    let (a, b) = (sim.open(), sim.open());
    sim.ask(a, &create("/x"));
    sim.ask(a, &set("/x", &"d".repeat(500)));
    sim.run();
    sim.seen(a);
    sim.links[a].client_reads = false;
    for _ in 0..50 {
        sim.ask(a, &get("/x"));
    }
    let sent = sim.links[a].untaken();
    sim.run();
    assert_eq!(*sim.state(a), LinkState::Paused);
    let taken = sent - sim.links[a].untaken();
    assert_eq!(
        taken,
        4 * sent / 50,
        "as many requests as fill 2000 bytes with answers of 580"
    );
    sim.ask(b, &get("/x"));
    sim.run();
    assert_eq!(sim.take(b).len(), 1);
    sim.let_read(a);
    sim.run();
    assert_eq!(xids(&sim.seen(a)), (3..=52).collect::<Vec<_>>());
}

#[test]
fn deliveries_waiting_max_closes_a_connection_that_does_not_read() {
    let mut sim = sim(LimitSettings {
        deliveries_waiting_max: 10,
        ..LimitSettings::default()
    });
    let (a, b) = (sim.open(), sim.open());
    sim.ask(a, &add_watch("/x", AddWatchMode::Persistent));
    sim.run();
    sim.seen(a);
    sim.links[a].client_reads = false;
    sim.ask(a, &get("/"));
    sim.run();
    sim.ask(b, &create("/x"));
    for _ in 0..9 {
        sim.ask(b, &set("/x", ""));
    }
    for _ in 0..10 {
        sim.settle();
        sim.commit();
    }
    sim.run();
    assert!(sim.links[a].is_up(), "10 may wait");
    sim.ask(b, &set("/x", ""));
    sim.run();
    sim.assert_closed(a, &CloseReason::Limit("deliveries_waiting_max"));
    assert_eq!(sim.take(b).len(), 11, "the others notice nothing");
    sim.let_read(a);
    let again = sim.reopen(a);
    sim.ask(again, &get("/x"));
    sim.run();
    assert_eq!(sim.take(again).len(), 1);
    assert_eq!(sim.shared.replica.read().watch_count(), 0);
}

#[test]
fn large_requests_share_a_room_and_who_finds_none_is_closed() {
    let mut sim = sim(LimitSettings {
        large_request_threshold: Some(1000),
        large_requests_bytes_max: 5000,
        ..LimitSettings::default()
    });
    let (a, b, c) = (sim.open(), sim.open(), sim.open());
    let large = "x".repeat(2000);
    sim.ask(a, &set("/zookeeper", &large));
    sim.ask(b, &set("/zookeeper", &large));
    sim.settle();
    sim.ask(c, &get("/"));
    sim.ask(c, &set("/zookeeper", &large));
    sim.settle();
    assert_eq!(sim.seen(c), ["1"]);
    sim.assert_closed(c, &CloseReason::Limit("largeRequestMaxBytes"));
    sim.hang_up(b);
    sim.run();
    assert_eq!(sim.seen(a), ["1"]);
    assert_eq!(
        sim.shared.large_request_bytes.load(Relaxed),
        0,
        "every way out gives its room back"
    );
    let again = sim.reopen(c);
    sim.ask(again, &set("/zookeeper", &large));
    sim.ask(again, &set("/zookeeper", &large));
    sim.run();
    assert_eq!(sim.seen(again), ["1", "2"]);
    assert_eq!(sim.shared.large_request_bytes.load(Relaxed), 0);
}

#[test]
fn request_bytes_max_is_the_longest_frame_that_is_taken() {
    // Path, its length, and that of the data, flags and header of a setData.
    let overhead = 8 + 4 + "/zookeeper".len() + 4 + 4;
    let max = 3000;
    let mut sim = sim(LimitSettings {
        request_bytes_max: max,
        ..LimitSettings::default()
    });
    let a = sim.open();
    sim.ask(a, &set("/zookeeper", &"x".repeat(max - overhead)));
    sim.run();
    assert_eq!(sim.seen(a), ["1"]);
    sim.ask(a, &set("/zookeeper", &"x".repeat(max - overhead + 1)));
    sim.run();
    assert!(matches!(
        sim.state(a),
        LinkState::Closed(CloseReason::Malformed(_))
    ));
    assert_eq!(sim.take(a), []);
}

#[test]
fn quotas_that_are_enforced_refuse_and_report() {
    let mut settings = settings();
    settings.tree.enforce_quota = true;
    let mut sim = Sim::with(settings, 0);
    let a = sim.open();
    for path in ["/q", "/zookeeper/quota/q"] {
        sim.ask(a, &create(path));
    }
    sim.ask(
        a,
        &Request::Write(create_with(
            "/zookeeper/quota/q/zookeeper_limits",
            oxkeeper_types::CreateMode::Persistent,
            open_acl(),
            "count=1,bytes=-1=;byteHardLimit=-1;countHardLimit=2",
        )),
    );
    sim.ask(
        a,
        &Request::Write(create_with(
            "/zookeeper/quota/q/zookeeper_stats",
            oxkeeper_types::CreateMode::Persistent,
            open_acl(),
            "count=1,bytes=0",
        )),
    );
    sim.run();
    sim.seen(a);
    for name in ["/q/1", "/q/2"] {
        sim.ask(a, &create(name));
        sim.run();
    }
    assert_eq!(sim.seen(a), ["5=/q/1", "6:-125"]);
    assert!(sim.quota_reports > 0);
}
