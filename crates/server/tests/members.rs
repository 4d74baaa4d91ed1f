//! Members of an ensemble as clients and operators see them: who serves, who leads, what the words say.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use oxkeeper_testkit::{Client, CreateMode, Ensemble, Server, Standing};

const PATIENCE: Duration = Duration::from_secs(20);

fn ask(server: &Server, word: &str) -> String {
    server.four_letter(word).expect("it answers")
}

/// What `key` stands for in the `mntr` of a server.
fn figure(server: &Server, key: &str) -> Option<String> {
    let text = ask(server, "mntr");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("zk_{key}\t")))?;
    Some(line.to_owned())
}

fn mode(server: &Server) -> String {
    let text = ask(server, "srvr");
    let mode = text.lines().find_map(|line| line.strip_prefix("Mode: "));
    mode.unwrap_or("not serving").to_owned()
}

/// Waits until servers are in these modes.
fn wait_for_modes(ensemble: &Ensemble, modes: &[(usize, &str)]) {
    let until = Instant::now() + PATIENCE;
    loop {
        let found: Vec<String> = modes.iter().map(|(id, _)| mode(ensemble.server(*id))).collect();
        if found.iter().zip(modes).all(|(found, wanted)| found == wanted.1) {
            return;
        }
        assert!(Instant::now() < until, "{found:?} instead of {modes:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn current_epoch(server: &Server) -> u32 {
    let file = server.data_dir().join("version-2/currentEpoch");
    let text = std::fs::read_to_string(file).expect("a member has one");
    text.parse().expect("a number")
}

#[test]
fn a_member_without_a_quorum_serves_nobody_and_says_so() {
    let ensemble = Ensemble::start(3).unwrap();
    ensemble.server(2).kill().unwrap();
    ensemble.server(3).kill().unwrap();
    wait_for_modes(&ensemble, &[(1, "not serving")]);
    let server = ensemble.server(1);
    for word in ["srvr", "stat", "mntr", "conf", "cons", "dump", "wchs", "dirs"] {
        assert_eq!(
            ask(server, word),
            "This ZooKeeper instance is not currently serving requests\n",
            "{word}"
        );
    }
    assert_eq!(
        ask(server, "hash"),
        "This ZooKeeper instance is not currently serving requests"
    );
    assert_eq!(ask(server, "ruok"), "imok");
    assert_eq!(ask(server, "isro"), "null");
    // A session is not opened: the connection is closed without an answer.
    let connect = [&45_u32.to_be_bytes()[..], &[0; 45]].concat();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&connect).unwrap();
    assert_eq!(stream.read(&mut [0; 64]).unwrap_or(0), 0);
}

#[test]
fn a_quorum_elects_serves_and_loses_its_leader() {
    let ensemble = Ensemble::start_with_observers(3, 1, |_, _| ()).unwrap();
    let leader = ensemble.wait_for_leader().unwrap();
    let server = |id| ensemble.server(id);
    let followers: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
    wait_for_modes(
        &ensemble,
        &[
            (leader, "leader"),
            (followers[0], "follower"),
            (followers[1], "follower"),
            (4, "observer"),
        ],
    );
    let until = Instant::now() + PATIENCE;
    let figures = [
        "synced_followers",
        "synced_observers",
        "learners",
        "quorum_size",
        "pending_syncs",
    ];
    while figures
        .map(|key| figure(server(leader), key))
        .map(Option::unwrap_or_default)
        != ["2", "1", "3", "3", "0"]
    {
        assert!(Instant::now() < until, "{}", ask(server(leader), "mntr"));
    }
    assert_eq!(
        figure(server(leader), "peer_state").as_deref(),
        Some("leading - broadcast")
    );
    assert_eq!(
        figure(server(followers[0]), "peer_state").as_deref(),
        Some("following - broadcast")
    );
    assert_eq!(figure(server(followers[0]), "synced_followers"), None);
    assert_eq!(figure(server(4), "observer_master_id"), Some(leader.to_string()));
    assert!(ask(server(leader), "srvr").contains("Proposal sizes last/min/max: -1/-1/-1\n"));
    assert!(ask(server(followers[0]), "dump").contains("\nGlobal Sessions(0):\n"));
    let conf = ask(server(4), "conf");
    assert!(
        conf.contains("serverId=4\n") && conf.contains("peerType=1\nmembership: \nserver.1="),
        "{conf}"
    );
    assert!(conf.ends_with("version=0"), "{conf}");

    let epoch_before = current_epoch(server(leader));
    server(leader).kill().unwrap();
    let heir = followers[1];
    wait_for_modes(
        &ensemble,
        &[(heir, "leader"), (followers[0], "follower"), (4, "observer")],
    );
    let epoch = current_epoch(server(heir));
    assert!(epoch > epoch_before, "{epoch} after {epoch_before}");
    // What was the leader comes back as a follower.
    server(leader).restart().unwrap();
    wait_for_modes(&ensemble, &[(heir, "leader"), (leader, "follower")]);
    // One of three is no quorum.
    server(leader).kill().unwrap();
    server(followers[0]).kill().unwrap();
    wait_for_modes(&ensemble, &[(heir, "not serving"), (4, "not serving")]);
}

#[test]
fn a_leader_that_is_to_serve_no_clients_serves_none() {
    let ensemble = Ensemble::start_with(2, |_, config| {
        config.ensemble.as_mut().expect("a member").leader_serves = false;
    })
    .unwrap();
    let leader = ensemble.leader().expect("it leads all the same");
    wait_for_modes(&ensemble, &[(3 - leader, "follower"), (leader, "not serving")]);
    assert_eq!(ensemble.server(leader).standing(), Some(Standing::Leading));
    assert_eq!(ask(ensemble.server(leader), "isro"), "null");
}

/// Its closeSession names them all, and is longer than any request (ZOOKEEPER-4306, which stops Java's ensembles for
/// good: no follower takes the proposal, and whoever leads next has it in its log).
#[test]
fn the_end_of_a_session_with_very_many_ephemerals_stops_nobody() {
    let ensemble = Ensemble::start(3).unwrap();
    let leader = ensemble.wait_for_leader().unwrap();
    let address = |id| ensemble.server(id).address();
    let mut owner = Client::connect(address(leader), 10_000).unwrap();
    let long = "e".repeat(100_000);
    for n in 0..30 {
        let path = format!("/{long}{n}");
        owner.create(&path, b"", CreateMode::Ephemeral).unwrap();
    }
    owner.close().unwrap();
    for id in ensemble.ids() {
        let mut client = Client::connect(address(id), 10_000).unwrap();
        client.sync("/").unwrap();
        assert_eq!(client.children("/", false).unwrap().0, ["zookeeper"]);
    }
    assert_eq!(ensemble.leader(), Some(leader));
}
