//! Ensembles of real processes: election, replication, the ways back for a server that was away, and sessions,
//! watches and ephemerals over several servers.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first surprise, also in what it calls"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxkeeper_testkit::process::{Ensemble, EnsembleOptions, MemberOptions, Mode, ServerProgram};
use oxkeeper_testkit::{Client, ClientError, CreateMode, Session};
use oxkeeper_types::{WatchEventKind, Zxid};

/// How long anything may take on a busy machine before a test gives up.
const DEADLINE: Duration = Duration::from_secs(60);
const TIMEOUT_MS: i32 = 30_000;

fn program() -> ServerProgram {
    ServerProgram::Oxkeeper(
        std::env::var("OXTEST")
            .unwrap_or(env!("CARGO_BIN_EXE_oxkeeper").into())
            .into(),
    )
}

fn start(dir: &Path, members: Vec<MemberOptions>) -> Ensemble {
    Ensemble::start(EnsembleOptions::new(dir, members).set("maxSessionTimeout", TIMEOUT_MS)).unwrap()
}

fn start_three(dir: &Path) -> Ensemble {
    start(dir, vec![MemberOptions::participant(program()); 3])
}

fn everyone(ensemble: &Ensemble) -> Vec<usize> {
    ensemble.ids().collect()
}

fn others(ensemble: &Ensemble, id: usize) -> Vec<usize> {
    ensemble.ids().filter(|other| *other != id).collect()
}

/// Asks again until the answer is `Some`.
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Connects with a session, or begins one, as soon as the server takes it.
fn connect(ensemble: &Ensemble, id: usize, session: &Session) -> Client {
    eventually("a connection", || {
        match Client::renew(ensemble.address(id), session) {
            Ok(client) => Some(client),
            Err(ClientError::Io(_) | ClientError::Closed) => None,
            Err(error) => panic!("server {id}, session {}: {error}", session.id),
        }
    })
}

fn new_session(ensemble: &Ensemble, id: usize) -> Client {
    connect(ensemble, id, &Session::to_begin(TIMEOUT_MS))
}

/// The names below `path` at a server that has applied all that was committed.
fn children(ensemble: &Ensemble, id: usize, path: &str) -> BTreeSet<String> {
    let mut client = new_session(ensemble, id);
    client.sync(path).unwrap();
    let names = client.children(path, false).unwrap().0;
    client.close().unwrap();
    names.into_iter().collect()
}

fn snapshots(ensemble: &Ensemble, id: usize) -> BTreeSet<String> {
    let entries = fs::read_dir(ensemble.server(id).version_dir()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("snapshot.")).collect()
}

#[test]
fn three_servers_have_one_leader_and_the_same_znodes() {
    let dir = tempfile::tempdir().unwrap();
    let ensemble = start_three(dir.path());
    let modes = ensemble.ids().map(|id| ensemble.mode(id));
    let leaders = modes.clone().filter(|mode| *mode == Some(Mode::Leader)).count();
    let followers = modes.filter(|mode| *mode == Some(Mode::Follower)).count();
    assert_eq!((leaders, followers), (1, 2));
    let mut stats = Vec::new();
    for id in ensemble.ids() {
        let mut client = new_session(&ensemble, id);
        let path = format!("/{id}");
        stats.push(
            client
                .create(&path, path.as_bytes(), CreateMode::Persistent)
                .unwrap()
                .1,
        );
    }
    assert!(stats.windows(2).all(|pair| pair[0].czxid < pair[1].czxid));
    for id in ensemble.ids() {
        let mut client = new_session(&ensemble, id);
        client.sync("/").unwrap();
        for (number, stat) in (1..).zip(&stats) {
            let path = format!("/{number}");
            assert_eq!(
                client.get(&path).unwrap(),
                (path.clone().into_bytes(), *stat),
                "server {id}"
            );
        }
    }
}

#[test]
fn when_the_leader_is_killed_nothing_acknowledged_is_lost_and_sessions_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut ensemble = start_three(dir.path());
    let leader = ensemble.leader().unwrap();
    let mut clients: Vec<Client> = ensemble.ids().map(|id| new_session(&ensemble, id)).collect();
    let mut acknowledged = BTreeSet::new();
    clients[0].create("/parent", b"", CreateMode::Persistent).unwrap();
    for number in 0..100 {
        let client = &mut clients[number % 3];
        let mode = if number < 3 {
            CreateMode::Ephemeral
        } else {
            CreateMode::Persistent
        };
        client.create(&format!("/parent/{number}"), b"", mode).unwrap();
        acknowledged.insert(number.to_string());
    }
    let sessions: Vec<Session> = clients.iter().map(|client| client.session().clone()).collect();
    ensemble.server_mut(leader).kill().unwrap();

    let rest = others(&ensemble, leader);
    for (number, session) in sessions.iter().enumerate() {
        let mut client = connect(&ensemble, rest[number % 2], session);
        assert_eq!(client.ephemerals().unwrap(), [format!("/parent/{number}")]);
        let name = format!("after-{number}");
        client
            .create(&format!("/parent/{name}"), b"", CreateMode::Persistent)
            .unwrap();
        acknowledged.insert(name);
        clients.push(client);
    }
    let next = ensemble.wait_for_leader(DEADLINE).unwrap();
    assert_ne!(next, leader);
    ensemble.server_mut(leader).restart().unwrap();
    assert_eq!(ensemble.mode(leader), Some(Mode::Follower));
    for id in ensemble.ids() {
        assert_eq!(children(&ensemble, id, "/parent"), acknowledged, "server {id}");
    }
}

#[test]
fn without_a_quorum_nobody_is_served_and_with_it_again_all_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut ensemble = start_three(dir.path());
    new_session(&ensemble, 1)
        .create("/before", b"", CreateMode::Persistent)
        .unwrap();
    let last = ensemble.leader().unwrap();
    let gone = others(&ensemble, last);
    for id in &gone {
        ensemble.server_mut(*id).kill().unwrap();
    }
    eventually("the last one stops serving", || {
        ensemble.mode(last).is_none().then_some(())
    });
    let refused = Client::connect(ensemble.address(last), TIMEOUT_MS);
    assert!(
        matches!(refused, Err(ClientError::Io(_) | ClientError::Closed)),
        "{refused:?}"
    );

    ensemble.server_mut(gone[0]).restart().unwrap();
    new_session(&ensemble, last)
        .create("/after", b"", CreateMode::Persistent)
        .unwrap();
    ensemble.server_mut(gone[1]).restart().unwrap();
    for id in ensemble.ids() {
        let names = children(&ensemble, id, "/");
        assert!(
            names.contains("before") && names.contains("after"),
            "server {id}: {names:?}"
        );
    }
}

#[test]
fn a_follower_that_missed_some_txns_gets_them_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut ensemble = start_three(dir.path());
    let leader = ensemble.leader().unwrap();
    let follower = others(&ensemble, leader)[0];
    let mut client = new_session(&ensemble, leader);
    client.create("/n", b"", CreateMode::Persistent).unwrap();
    ensemble.server_mut(follower).kill().unwrap();
    let before = snapshots(&ensemble, follower);
    for number in 0..200 {
        client
            .create(&format!("/n/{number}"), b"", CreateMode::Persistent)
            .unwrap();
    }
    ensemble.server_mut(follower).restart().unwrap();
    assert_eq!(children(&ensemble, follower, "/n").len(), 200);
    assert_eq!(snapshots(&ensemble, follower), before, "a SNAP leaves a snapshot");
}

#[test]
fn a_follower_that_lost_its_data_gets_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut ensemble = start_three(dir.path());
    let leader = ensemble.leader().unwrap();
    let follower = others(&ensemble, leader)[0];
    let mut client = new_session(&ensemble, leader);
    client.create("/n", b"", CreateMode::Persistent).unwrap();
    for number in 0..200 {
        client
            .create(&format!("/n/{number}"), &[b'x'; 1_000], CreateMode::Persistent)
            .unwrap();
    }
    client.create("/n/ephemeral", b"", CreateMode::Ephemeral).unwrap();
    ensemble.server_mut(follower).kill().unwrap();
    fs::remove_dir_all(ensemble.server(follower).version_dir()).unwrap();
    ensemble.server_mut(follower).restart().unwrap();
    assert_eq!(children(&ensemble, follower, "/n").len(), 201);
    assert_eq!(
        new_session(&ensemble, follower).get("/n/7").unwrap(),
        client.get("/n/7").unwrap()
    );
    // It is a full member again: with it and without another one, writes are acknowledged.
    let third = others(&ensemble, leader)[1];
    ensemble.server_mut(third).kill().unwrap();
    client.create("/n/after", b"", CreateMode::Persistent).unwrap();
    client.close().unwrap();
    let names = children(&ensemble, follower, "/n");
    assert!(
        !names.contains("ephemeral") && names.contains("after"),
        "{names:?}"
    );
}

#[test]
fn a_session_moves_to_another_server_and_leaves_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let ensemble = start_three(dir.path());
    let mut before = new_session(&ensemble, 1);
    before.create("/e", b"", CreateMode::Ephemeral).unwrap();
    for id in [2, 3, 1, 2] {
        let mut after = connect(&ensemble, id, before.session());
        assert_eq!(after.ephemerals().unwrap(), ["/e"], "server {id}");
        let written = after.set("/e", b"moved", -1).unwrap();
        assert_eq!(written.ephemeral_owner, after.session().id);
        let refused = before.set("/e", b"too late", -1);
        assert!(
            refused.is_err(),
            "the connection to the server before is good for nothing: {refused:?}"
        );
        let (data, stat) = after.get("/e").unwrap();
        assert_eq!((data.as_slice(), stat), (&b"moved"[..], written));
        before = after;
    }
}

#[test]
fn a_client_that_has_seen_more_than_a_server_is_not_taken_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let ensemble = start_three(dir.path());
    let mut client = new_session(&ensemble, 1);
    client.create("/n", b"", CreateMode::Persistent).unwrap();
    let mut ahead = client.session().clone();
    ahead.last_zxid = Zxid(ahead.last_zxid.0 + (1 << 32));
    for id in ensemble.ids() {
        let refused = Client::renew(ensemble.address(id), &ahead);
        assert!(
            matches!(refused, Err(ClientError::Io(_) | ClientError::Closed)),
            "{refused:?}"
        );
    }
}

#[test]
fn a_session_lives_for_its_timeout_after_a_change_of_leaders_and_then_expires() {
    let timeout = Duration::from_secs(4);
    let dir = tempfile::tempdir().unwrap();
    let mut ensemble = start_three(dir.path());
    let leader = ensemble.leader().unwrap();
    let rest = others(&ensemble, leader);
    let session = Session::to_begin(4_000);
    let mut kept = connect(&ensemble, leader, &session);
    let mut left = connect(&ensemble, rest[0], &session);
    kept.create("/kept", b"", CreateMode::Ephemeral).unwrap();
    left.create("/left", b"", CreateMode::Ephemeral).unwrap();
    let touched = Instant::now();
    let (kept, left) = (kept.session().clone(), left.session().clone());
    sleep(Duration::from_secs(3));
    ensemble.server_mut(leader).kill().unwrap();
    let killed = Instant::now();
    ensemble.wait_for_leader(DEADLINE).unwrap();
    // The old leader would have ended both by now. The new one cannot have led for the timeout yet.
    sleep((touched + timeout + Duration::from_millis(500)).saturating_duration_since(Instant::now()));
    let mut client = new_session(&ensemble, rest[1]);
    let both = children(&ensemble, rest[1], "/");
    let renewed = Client::renew(ensemble.address(rest[1]), &kept);
    let in_time = killed.elapsed() < timeout;
    assert!(
        in_time,
        "this machine is too slow for this test: {:?}",
        killed.elapsed()
    );
    assert!(both.contains("kept") && both.contains("left"), "{both:?}");
    let mut renewed = renewed.unwrap();

    eventually("the session that was left expires", || {
        renewed.ping().unwrap();
        client.exists("/left", false).unwrap().is_none().then_some(())
    });
    // What the leader waits at least, counted from the last moment at which it may have heard of the session.
    assert!(killed.elapsed() >= Duration::from_secs(1));
    assert!(client.exists("/kept", false).unwrap().is_some());
    for id in rest {
        let refused = Client::renew(ensemble.address(id), &left);
        assert!(
            matches!(refused, Err(ClientError::SessionEnded)),
            "server {id}: {refused:?}"
        );
    }
}

#[test]
fn watches_fire_at_one_server_for_what_happens_at_another() {
    let dir = tempfile::tempdir().unwrap();
    let ensemble = start_three(dir.path());
    let mut writer = new_session(&ensemble, 1);
    writer.create("/data", b"1", CreateMode::Persistent).unwrap();
    writer.create("/ephemeral", b"", CreateMode::Ephemeral).unwrap();
    let mut watchers: Vec<Client> = ensemble.ids().map(|id| new_session(&ensemble, id)).collect();
    for watcher in &mut watchers {
        watcher.sync("/").unwrap();
        assert_eq!(watcher.get_and_watch("/data", true).unwrap().0, b"1");
        assert!(watcher.exists("/ephemeral", true).unwrap().is_some());
        watcher.children("/", true).unwrap();
    }
    let written = writer.set("/data", b"2", -1).unwrap();
    writer.close().unwrap();
    for (id, watcher) in (1..).zip(&mut watchers) {
        let events: Vec<_> = (0..3).map(|_| watcher.next_event().unwrap()).collect();
        let kinds: Vec<_> = events
            .iter()
            .map(|event| (event.kind, event.path.as_str()))
            .collect();
        assert_eq!(kinds[0], (WatchEventKind::DataChanged, "/data"), "server {id}");
        assert!(
            kinds[1..].contains(&(WatchEventKind::Deleted, "/ephemeral")),
            "{kinds:?}"
        );
        assert!(
            kinds[1..].contains(&(WatchEventKind::ChildrenChanged, "/")),
            "{kinds:?}"
        );
        assert_eq!(watcher.get("/data").unwrap(), (b"2".to_vec(), written));
        assert_eq!(watcher.exists("/ephemeral", false).unwrap(), None);
    }
}

#[test]
fn an_observer_serves_everything_and_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = vec![MemberOptions::participant(program()); 3];
    members.push(MemberOptions::observer(program()));
    let mut ensemble = start(dir.path(), members);
    assert_eq!(ensemble.mode(4), Some(Mode::Observer));
    let mut client = new_session(&ensemble, 4);
    client
        .create("/by-observer", b"", CreateMode::Persistent)
        .unwrap();
    client.create("/ephemeral", b"", CreateMode::Ephemeral).unwrap();
    assert!(children(&ensemble, 1, "/").contains("by-observer"));
    ensemble.server_mut(4).kill().unwrap();
    new_session(&ensemble, 2)
        .create("/without-observer", b"", CreateMode::Persistent)
        .unwrap();
    ensemble.server_mut(4).restart().unwrap();
    let session = client.session().clone();
    let mut client = connect(&ensemble, 4, &session);
    client.sync("/").unwrap();
    assert_eq!(client.ephemerals().unwrap(), ["/ephemeral"]);
    assert!(client.exists("/without-observer", false).unwrap().is_some());
    // With the observer there are two of four, but of the three that count only one.
    let leader = ensemble.leader().unwrap();
    for id in everyone(&ensemble)
        .into_iter()
        .filter(|id| ![4, leader].contains(id))
    {
        ensemble.server_mut(id).kill().unwrap();
    }
    eventually("the observer stops serving", || {
        ensemble.mode(4).is_none().then_some(())
    });
    assert_eq!(ensemble.mode(leader), None);
}
