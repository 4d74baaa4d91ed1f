//! What a test may rely on from an ensemble in its process.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use oxkeeper_testkit::{Client, ClientError, CreateMode, Ensemble, Error, Session, Standing};

const TIMEOUT_MS: i32 = 10_000;
const PATIENCE: Duration = Duration::from_secs(20);

fn connect(ensemble: &Ensemble, id: usize) -> Client {
    let until = Instant::now() + PATIENCE;
    loop {
        match Client::connect(ensemble.server(id).address(), TIMEOUT_MS) {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < until, "server {id}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn followers(ensemble: &Ensemble, leader: usize) -> Vec<usize> {
    ensemble.ids().filter(|id| *id != leader).collect()
}

#[test]
fn three_servers_serve_at_once_and_one_leads() {
    let ensemble = Ensemble::start(3).unwrap();
    let leader = ensemble.leader().expect("they have agreed before start returns");
    assert_eq!(ensemble.wait_for_leader().unwrap(), leader);
    for id in ensemble.ids() {
        let standing = ensemble.server(id).standing().unwrap();
        let expected = match id == leader {
            true => Standing::Leading,
            false => Standing::Following,
        };
        assert_eq!(standing, expected);
        let mut client = connect(&ensemble, id);
        client
            .create(&format!("/{id}"), b"", CreateMode::Persistent)
            .unwrap();
    }
    assert_eq!(ensemble.connect_string().split(',').count(), 3);
    for (id, address) in (1..).zip(ensemble.connect_string().split(',')) {
        assert_eq!(ensemble.server(id).connect_string(), address);
    }
}

#[test]
fn one_server_is_an_ensemble_too() {
    let ensemble = Ensemble::start(1).unwrap();
    assert_eq!(ensemble.leader(), Some(1));
    connect(&ensemble, 1)
        .create("/a", b"", CreateMode::Persistent)
        .unwrap();
}

#[test]
fn the_leader_ends_a_session_that_is_connected_to_a_follower() {
    let ensemble = Ensemble::start(3).unwrap();
    let leader = ensemble.wait_for_leader().unwrap();
    let followers = followers(&ensemble, leader);
    let (mut client, mut watcher) = (connect(&ensemble, followers[0]), connect(&ensemble, followers[1]));
    client.create("/lock", b"", CreateMode::Ephemeral).unwrap();
    watcher.sync("/lock").unwrap();
    assert!(watcher.exists("/lock", true).unwrap().is_some());
    let session = client.session().id;
    let asked_a_follower = ensemble.server(followers[0]).expire_session(session);
    assert!(
        matches!(asked_a_follower, Err(Error::NotLeading(_))),
        "{asked_a_follower:?}"
    );
    assert!(ensemble.expire_session(session).unwrap());
    for server in ensemble.servers() {
        assert_eq!(
            server.sessions(),
            [watcher.session().id],
            "all have it behind them"
        );
    }
    assert_eq!(watcher.next_event().unwrap().path, "/lock");
    assert!(client.ping().is_err());
    let renewed = Client::renew(ensemble.server(followers[1]).address(), client.session());
    assert!(matches!(renewed, Err(ClientError::SessionEnded)), "{renewed:?}");
    assert!(!ensemble.expire_session(session).unwrap());
}

#[test]
fn a_killed_leader_is_replaced_and_comes_back_as_a_follower() {
    let ensemble = Ensemble::start(3).unwrap();
    let leader = ensemble.wait_for_leader().unwrap();
    let mut client = connect(&ensemble, leader);
    client.create("/kept", b"1", CreateMode::Persistent).unwrap();
    client.create("/mine", b"", CreateMode::Ephemeral).unwrap();
    ensemble.server(leader).kill().unwrap();
    let next = ensemble.wait_for_leader().unwrap();
    assert_ne!(next, leader);
    let mut client = Client::renew(ensemble.server(next).address(), client.session()).unwrap();
    assert_eq!(client.get("/kept").unwrap().0, b"1");
    client.set("/kept", b"2", -1).unwrap();
    ensemble.server(leader).restart().unwrap();
    ensemble.server(leader).wait_until_serving(PATIENCE).unwrap();
    assert_eq!(ensemble.server(leader).standing(), Some(Standing::Following));
    let mut client = Client::renew(ensemble.server(leader).address(), client.session()).unwrap();
    client.sync("/").unwrap();
    assert_eq!(client.get("/kept").unwrap().0, b"2");
    assert!(client.exists("/mine", false).unwrap().is_some());
}

#[test]
fn a_leader_that_stands_still_is_replaced_and_a_follower_is_missed_by_nobody() {
    let ensemble = Ensemble::start_with(3, |_, config| {
        let ensemble = config.ensemble.as_mut().expect("a member");
        ensemble.sync_limit_ticks = 4;
    })
    .unwrap();
    let leader = ensemble.wait_for_leader().unwrap();
    ensemble.server(leader).pause().unwrap();
    let next = ensemble.wait_for_leader().unwrap();
    assert_ne!(next, leader);
    let mut client = connect(&ensemble, next);
    client.create("/a", b"", CreateMode::Persistent).unwrap();
    ensemble.server(leader).resume();
    let until = Instant::now() + PATIENCE;
    while ensemble.server(leader).standing() != Some(Standing::Following) {
        assert!(Instant::now() < until, "it does not come back");
        std::thread::sleep(Duration::from_millis(1));
    }
    ensemble.server(leader).pause().unwrap();
    client
        .create("/b", b"", CreateMode::Persistent)
        .expect("two of three are a quorum");
}

#[test]
fn without_a_quorum_nobody_leads_and_with_it_they_go_on() {
    let ensemble = Ensemble::start(3).unwrap();
    let leader = ensemble.wait_for_leader().unwrap();
    let mut client = connect(&ensemble, leader);
    client.create("/a", b"", CreateMode::Persistent).unwrap();
    for id in followers(&ensemble, leader) {
        ensemble.server(id).kill().unwrap();
    }
    assert!(client.create("/b", b"", CreateMode::Persistent).is_err());
    let until = Instant::now() + PATIENCE;
    while ensemble.leader().is_some() {
        assert!(Instant::now() < until, "it leads nobody");
        std::thread::sleep(Duration::from_millis(1));
    }
    for id in followers(&ensemble, leader) {
        ensemble.server(id).restart().unwrap();
    }
    let leader = ensemble.wait_for_leader().unwrap();
    assert!(connect(&ensemble, leader).exists("/a", false).unwrap().is_some());
}

#[test]
fn an_ensemble_that_is_cut_off_goes_on_by_itself() {
    let ensemble = Ensemble::start(3).unwrap();
    let leader = ensemble.wait_for_leader().unwrap();
    let (mut client, gone) = (connect(&ensemble, 1), connect(&ensemble, 2));
    client.create("/a", b"", CreateMode::Persistent).unwrap();
    ensemble.cut();
    assert!(client.ping().is_err());
    for id in ensemble.ids() {
        assert!(Client::renew(ensemble.server(id).address(), client.session()).is_err());
    }
    assert_eq!(
        ensemble.leader(),
        Some(leader),
        "the servers are not cut off from one another"
    );
    assert!(ensemble.expire_session(gone.session().id).unwrap());
    ensemble.heal();
    let mut client = Client::renew(ensemble.server(3).address(), client.session()).unwrap();
    assert!(ensemble.disconnect_session(client.session().id));
    assert!(client.ping().is_err());
}

/// Waits until a server is what it is said to become.
fn wait_for_standing(ensemble: &Ensemble, id: usize, standing: Standing) {
    let until = Instant::now() + PATIENCE;
    while ensemble.server(id).standing() != Some(standing) {
        assert!(
            Instant::now() < until,
            "server {id} is {:?}, not {standing:?}",
            ensemble.server(id).standing()
        );
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_leader_cut_off_from_the_others_leads_nobody_and_comes_back_as_a_follower() {
    let ensemble = Ensemble::start(3).unwrap();
    let leader = ensemble.wait_for_leader().unwrap();
    let others = followers(&ensemble, leader);
    let mut client = connect(&ensemble, leader);
    client.create("/a", b"", CreateMode::Persistent).unwrap();
    ensemble.server(leader).isolate();
    wait_for_standing(&ensemble, leader, Standing::Looking);
    let until = Instant::now() + PATIENCE;
    let next = loop {
        match ensemble.leader() {
            Some(next) if next != leader => break next,
            _ => assert!(Instant::now() < until, "the others have no leader"),
        }
        thread::sleep(Duration::from_millis(1));
    };
    assert!(
        Client::renew(ensemble.server(leader).address(), client.session()).is_err(),
        "it serves nobody"
    );
    let mut client = Client::renew(ensemble.server(next).address(), client.session()).unwrap();
    client.create("/b", b"", CreateMode::Persistent).unwrap();
    // It stays out however long it looks: elections go on, and nobody hears of them.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(ensemble.server(leader).standing(), Some(Standing::Looking));
    ensemble.server(leader).rejoin();
    wait_for_standing(&ensemble, leader, Standing::Following);
    assert_eq!(ensemble.leader(), Some(next));
    let mut client = Client::renew(ensemble.server(leader).address(), client.session()).unwrap();
    client.sync("/").unwrap();
    assert!(client.exists("/b", false).unwrap().is_some());
    assert!(others.contains(&next));
}

#[test]
fn a_follower_cut_off_is_missed_by_nobody_and_two_cut_off_by_all() {
    let ensemble = Ensemble::start(3).unwrap();
    let leader = ensemble.wait_for_leader().unwrap();
    let others = followers(&ensemble, leader);
    let mut client = connect(&ensemble, leader);
    ensemble.server(others[0]).isolate();
    wait_for_standing(&ensemble, others[0], Standing::Looking);
    client
        .create("/a", b"", CreateMode::Persistent)
        .expect("two of three are a quorum");
    ensemble.server(others[1]).isolate();
    for id in ensemble.ids() {
        wait_for_standing(&ensemble, id, Standing::Looking);
    }
    others.iter().for_each(|id| ensemble.server(*id).rejoin());
    let leader = ensemble.wait_for_leader().unwrap();
    let mut client = connect(&ensemble, leader);
    assert!(client.exists("/a", false).unwrap().is_some());
    // A restart ends it, too.
    let follower = followers(&ensemble, leader)[0];
    ensemble.server(follower).isolate();
    ensemble.server(follower).restart().unwrap();
    ensemble.server(follower).wait_until_serving(PATIENCE).unwrap();
}

/// Writes one znode after the other through whoever answers, and says which were acknowledged.
fn write_until(stop: &AtomicBool, ensemble: &Ensemble, writer: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut number = 0;
    while !stop.load(Relaxed) {
        let id = fastrand::usize(ensemble.ids());
        // Nobody there, or no answer: another one is tried, with another znode.
        let session = Session::to_begin(TIMEOUT_MS);
        let address = ensemble.server(id).address();
        let Ok(mut client) = Client::renew_within(address, &session, Duration::from_millis(500)) else {
            continue;
        };
        while !stop.load(Relaxed) {
            number += 1;
            match client.create(&format!("/{writer}-{number}"), b"", CreateMode::Persistent) {
                Ok((path, _)) => {
                    acknowledged.push(path);
                    // Every restart reads the whole log.
                    thread::sleep(Duration::from_millis(2));
                }
                Err(_) => break,
            }
        }
    }
    acknowledged
}

#[test]
fn what_is_acknowledged_survives_kills_pauses_cuts_and_isolation_in_any_order() {
    let ensemble = Ensemble::start(3).unwrap();
    let stop = AtomicBool::new(false);
    let acknowledged: Vec<String> = thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                scope.spawn({
                    let (stop, ensemble) = (&stop, &ensemble);
                    move || write_until(stop, ensemble, writer)
                })
            })
            .collect();
        for _ in 0..30 {
            let server = ensemble.server(fastrand::usize(ensemble.ids()));
            match fastrand::u8(..5) {
                3 => {
                    server.isolate();
                    thread::sleep(Duration::from_millis(fastrand::u64(1..200)));
                    server.rejoin();
                }
                0 => server.restart().unwrap(),
                1 => {
                    server.kill().unwrap();
                    ensemble.wait_for_leader().unwrap();
                    server.restart().unwrap();
                }
                2 => {
                    server.pause().unwrap();
                    thread::sleep(Duration::from_millis(fastrand::u64(1..50)));
                    match fastrand::bool() {
                        true => server.resume(),
                        false => server.restart().unwrap(),
                    }
                }
                _ => {
                    server.cut();
                    thread::sleep(Duration::from_millis(fastrand::u64(1..50)));
                    server.heal();
                }
            }
            ensemble.wait_for_leader().unwrap();
        }
        stop.store(true, Relaxed);
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    assert!(acknowledged.len() > 30, "only {}", acknowledged.len());
    for server in ensemble.servers() {
        server.restart().unwrap();
    }
    ensemble.wait_for_leader().unwrap();
    for id in ensemble.ids() {
        let mut client = connect(&ensemble, id);
        client.sync("/").unwrap();
        let found = client.children("/", false).unwrap().0;
        let found: BTreeSet<String> = found.into_iter().map(|name| format!("/{name}")).collect();
        let lost: Vec<&String> = acknowledged
            .iter()
            .filter(|path| !found.contains(*path))
            .collect();
        assert!(
            lost.is_empty(),
            "server {id} lost {lost:?} of {}",
            acknowledged.len()
        );
    }
}
