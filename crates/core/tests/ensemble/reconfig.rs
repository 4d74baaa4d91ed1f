//! Changes of the membership while the servers run.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

use oxkeeper_core::Standing;
use oxkeeper_core::membership::configuration_text;
use oxkeeper_model::client::{create, get};
use oxkeeper_types::{CONFIG_PATH, ReconfigRequest, ServerId, WriteRequest};
use oxkeeper_wire::Request;

use crate::world::World;

fn reconfig(joining: Option<&str>, leaving: Option<&str>, version: i64) -> Request<'static> {
    Request::Write(WriteRequest::Reconfig(ReconfigRequest {
        joining: joining.map(str::to_owned),
        leaving: leaving.map(str::to_owned),
        new_members: None,
        version,
    }))
}

fn leaving(server: usize) -> Request<'static> {
    reconfig(None, Some(&(server + 1).to_string()), -1)
}

/// Everybody may change the configuration.
fn world(voters: usize, observers: usize) -> World {
    World::with(voters, observers, |settings| {
        settings.tree.reconfig_enabled = true;
        settings.tree.skip_acl = true;
    })
}

fn voters(world: &World, at: usize) -> Vec<i64> {
    let zab = world.core(at).consensus().unwrap();
    assert_eq!(zab.next_configuration(), None, "at {at}");
    zab.configuration()
        .quorum
        .voters()
        .iter()
        .map(|id| id.0)
        .collect()
}

#[test]
fn the_first_leader_gives_the_configuration_its_version_and_shows_it() {
    let mut world = world(3, 0);
    for at in 0..3 {
        let client = world.connect(at);
        let shown = world.call(client, &get(CONFIG_PATH));
        assert!(
            shown.ends_with(
                "=server.1=host1:2888:3888:participant;0.0.0.0:2181\n\
                             server.2=host2:2888:3888:participant;0.0.0.0:2181\n\
                             server.3=host3:2888:3888:participant;0.0.0.0:2181\nversion=100000000"
            ),
            "{shown}"
        );
    }
}

#[test]
fn a_server_leaves_by_a_request_to_any_server_and_comes_back() {
    let mut world = world(3, 1);
    let (leader, leaves, asked) = (world.leader(), world.follower(0), world.follower(1));
    let client = world.connect(asked);
    assert_eq!(world.call(client, &leaving(leaves)), "1");
    for at in 0..4 {
        let expected: Vec<i64> = (1..=3).filter(|id| *id != leaves as i64 + 1).collect();
        assert_eq!(voters(&world, at), expected, "at {at}");
        let reader = world.connect(at);
        let shown = world.call(reader, &get(CONFIG_PATH));
        assert!(shown.ends_with("version=100000002"), "{shown}");
    }
    assert_eq!(
        world.standing(leaves),
        Standing::Following,
        "it goes on listening"
    );
    let line = format!("server.{}=host{0}:2888:3888:participant;2181", leaves + 1);
    assert_eq!(world.call(client, &reconfig(Some(&line), None, -1)), "2");
    assert_eq!(voters(&world, leader), [1, 2, 3]);
}

#[test]
fn an_observer_becomes_a_participant_that_counts() {
    let mut world = world(3, 1);
    let client = world.connect(world.follower(0));
    assert_eq!(world.standing(3), Standing::Observing);
    let line = "server.4=host4:2888:3888:participant;2181";
    world.call(client, &reconfig(Some(line), None, -1));
    world.settle();
    assert_eq!(world.standing(3), Standing::Following);
    assert_eq!(voters(&world, 3), [1, 2, 3, 4]);
}

#[test]
fn a_leader_that_leaves_hands_over_to_a_follower_at_once() {
    let mut world = world(3, 0);
    let (leader, client) = (world.leader(), world.connect(world.follower(0)));
    world.call(client, &create("/a"));
    let before_ms = world.now_ms();
    world.ask(client, &leaving(leader));
    world.settle();
    assert_ne!(world.leader(), leader);
    assert!(world.now_ms() - before_ms < 100, "without an election");
    let client = world.connect(world.leader());
    assert_eq!(world.call(client, &create("/b")), "1=/b");
    for at in 0..3 {
        let left: Vec<i64> = (1..=3).filter(|id| *id != leader as i64 + 1).collect();
        assert_eq!(voters(&world, at), left, "at {at}");
    }
}

#[test]
fn reconfig_is_refused_in_the_order_of_javas_checks() {
    let mut world = World::with(3, 0, |settings| settings.tree.skip_acl = true);
    let client = world.connect(world.leader());
    assert_eq!(world.call(client, &leaving(9)), "1:-123", "reconfigEnabled=false");

    let mut world = World::with(3, 0, |settings| settings.tree.reconfig_enabled = true);
    let client = world.connect(world.follower(0));
    assert_eq!(world.call(client, &reconfig(None, Some("1"), 77)), "1:-103");
    assert_eq!(world.call(client, &reconfig(None, Some("1,2"), -1)), "2:-8");
    assert_eq!(world.call(client, &reconfig(None, Some("one"), -1)), "3:-5");
    let strangers = "server.7=x:1:2;3,server.8=y:1:2;3,server.9=z:1:2;3,server.10=u:1:2;3";
    assert_eq!(world.call(client, &reconfig(Some(strangers), None, -1)), "4:-13");
    assert_eq!(
        world.call(client, &leaving(world.follower(0))),
        "5:-102",
        "nobody may write it"
    );
}

#[test]
fn one_reconfig_is_under_way_at_a_time_and_needs_the_new_quorum_too() {
    let mut world = world(3, 0);
    let (leader, held) = (world.leader(), world.follower(0));
    let client = world.connect(leader);
    // Of the two that are left none may be missing.
    world.hold(held);
    world.ask(client, &leaving(world.follower(1)));
    assert_eq!(
        world.take(client),
        "",
        "a quorum of the old configuration is not enough"
    );
    world.ask(client, &leaving(world.follower(1)));
    world.ask(client, &create("/a"));
    assert_eq!(world.take(client), "");
    world.release();
    let answers = world.take(client);
    let answers: Vec<&str> = answers.split('\n').collect();
    assert!(answers[answers.len() - 1].ends_with(" 2:-14 3=/a"), "{answers:?}");
}

#[test]
fn a_leader_with_an_older_configuration_is_told_of_the_newer_before_it_leads() {
    let mut world = world(3, 0);
    let (leader, away) = (world.leader(), world.follower(0));
    let client = world.connect(leader);
    world.kill(away);
    world.call(client, &reconfig(Some("server.9=host9:1:2:observer;3"), None, -1));
    world.revive(away);
    world.settle();
    let zab = world.core(away).consensus().unwrap();
    let text = configuration_text(zab.configuration());
    assert!(text.contains("server.9="), "{text}");
    assert!(zab.configuration().quorum.observers().contains(&ServerId(9)));
}
