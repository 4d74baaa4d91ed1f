//! When the server removes containers and znodes whose time to live is over.

use oxkeeper_core::{ContainerSettings, CoreSettings};
use oxkeeper_types::{CreateMode, CreateRequest, OpCode, Txn, WriteRequest};
use oxkeeper_wire::Request;

use super::driver::client::*;
use super::driver::{End, Sim, settings};

fn sim(check_interval_ms: u64, removals_per_minute_max: u64) -> Sim {
    let mut settings = CoreSettings {
        containers: ContainerSettings {
            check_interval_ms,
            removals_per_minute_max,
        },
        ..settings()
    };
    settings.tree.extended_types = true;
    Sim::with(settings, 0)
}

fn container(path: &str) -> Request<'static> {
    Request::Write(create_with(path, CreateMode::Container, open_acl(), ""))
}

fn with_ttl(path: &str, ttl: i64) -> Request<'static> {
    Request::Write(WriteRequest::Create(CreateRequest {
        op: OpCode::CreateTtl,
        path: path.to_owned(),
        data: None,
        acl: open_acl(),
        flags: CreateMode::PersistentWithTtl as i32,
        ttl,
    }))
}

/// Keeps the session alive while time goes by.
fn pass(sim: &mut Sim, at: usize, ms: u64) {
    sim.ask(at, &Request::Ping);
    sim.run();
    sim.advance(ms);
    sim.run();
    sim.take(at);
}

fn exists(sim: &Sim, path: &str) -> bool {
    sim.shared.replica.read().tree.znode(path).is_some()
}

#[test]
fn a_container_goes_at_the_check_after_its_last_child_and_not_before_it_had_one() {
    let mut sim = sim(5000, 10_000);
    let a = sim.open_with(60_000);
    for request in [
        container("/c"),
        container("/never"),
        container("/busy"),
        create("/c/x"),
        create("/busy/x"),
    ] {
        sim.ask(a, &request);
    }
    sim.run();
    pass(&mut sim, a, 5000);
    assert!(exists(&sim, "/c"), "it has a child");
    sim.ask(a, &delete("/c/x"));
    pass(&mut sim, a, 4999);
    assert!(exists(&sim, "/c"), "nobody looked yet");
    pass(&mut sim, a, 1);
    assert!(!exists(&sim, "/c"));
    pass(&mut sim, a, 20_000);
    assert!(exists(&sim, "/never") && exists(&sim, "/busy"));
    let removal = sim
        .history
        .iter()
        .find(|logged| matches!(&logged.txn, Txn::Delete { by_server: true, .. }));
    let header = removal.expect("a delete by the server").header;
    assert_eq!((header.session.0, header.cxid), (0, 0));
}

#[test]
fn a_time_to_live_counts_from_the_last_write_and_only_without_children() {
    let mut sim = sim(1000, 10_000);
    let a = sim.open_with(60_000);
    for request in [
        with_ttl("/t", 3000),
        with_ttl("/w", 3000),
        with_ttl("/p", 3000),
        create("/p/x"),
    ] {
        sim.ask(a, &request);
    }
    sim.run();
    pass(&mut sim, a, 2000);
    sim.ask(a, &set("/w", "again"));
    pass(&mut sim, a, 1000);
    assert!(exists(&sim, "/t"), "its time is over only after 3000 ms");
    pass(&mut sim, a, 1000);
    assert!(!exists(&sim, "/t"));
    assert!(exists(&sim, "/w") && exists(&sim, "/p"));
    sim.ask(a, &delete("/p/x"));
    pass(&mut sim, a, 2000);
    assert!(
        !exists(&sim, "/w") && !exists(&sim, "/p"),
        "children do not refresh it"
    );
}

#[test]
fn removals_are_spaced() {
    // 60 a minute: one a second.
    let mut sim = sim(5000, 60);
    let a = sim.open_with(60_000);
    for n in 0..4 {
        sim.ask(a, &container(&format!("/c{n}")));
        sim.ask(a, &create(&format!("/c{n}/x")));
        sim.ask(a, &delete(&format!("/c{n}/x")));
    }
    sim.run();
    let left = |sim: &Sim| (0..4).filter(|n| exists(sim, &format!("/c{n}"))).count();
    pass(&mut sim, a, 5000);
    assert_eq!(left(&sim), 3);
    pass(&mut sim, a, 999);
    assert_eq!(left(&sim), 3);
    pass(&mut sim, a, 1);
    assert_eq!(left(&sim), 2);
    pass(&mut sim, a, 2000);
    assert_eq!(left(&sim), 0);
}

#[test]
fn a_candidate_that_is_used_again_before_its_turn_stays() {
    let mut sim = sim(5000, 60);
    let a = sim.open_with(60_000);
    for request in [
        container("/first"),
        create("/first/x"),
        delete("/first/x"),
        container("/second"),
        create("/second/x"),
        delete("/second/x"),
        with_ttl("/third", 2500),
    ] {
        sim.ask(a, &request);
    }
    sim.run();
    pass(&mut sim, a, 5000);
    let before = sim.core.last_proposed();
    let waiting: Vec<&str> = ["/first", "/second", "/third"]
        .into_iter()
        .filter(|path| exists(&sim, path))
        .collect();
    assert_eq!(waiting.len(), 2, "one removal a second");
    for path in waiting.iter().filter(|path| **path != "/third") {
        sim.ask(a, &create(&format!("{path}/new")));
    }
    sim.ask(a, &set("/third", "written"));
    pass(&mut sim, a, 2000);
    for path in waiting {
        assert!(exists(&sim, path), "{path}");
    }
    assert!(sim.core.last_proposed() > before);
}

#[test]
fn containers_found_by_a_recovery_are_looked_at_again_after_an_interval() {
    let mut sim = sim(5000, 10_000);
    let a = sim.open_with(60_000);
    for request in [container("/c"), create("/c/x"), delete("/c/x")] {
        sim.ask(a, &request);
    }
    sim.run();
    sim.restart(End::Power);
    let again = sim.reopen(a);
    pass(&mut sim, again, 4999);
    assert!(exists(&sim, "/c"));
    pass(&mut sim, again, 1);
    assert!(!exists(&sim, "/c"));
}
