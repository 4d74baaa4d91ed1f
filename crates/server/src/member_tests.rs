//! Whole servers of an ensemble in one process, seen from their client ports.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use oxkeeper_types::ServerId;
use oxkeeper_zab::QuorumVerifier;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::ServeError;
use crate::config::{EnsembleConfig, FourLetterConfig, Groups, Member, PeerAddress, ServerConfig};

const PATIENCE: Duration = Duration::from_secs(20);

/// The servers of a list, of which the last `observers` do not vote. Not all need to run.
struct Ensemble {
    servers: BTreeMap<ServerId, Member>,
    runtime: Runtime,
    running: BTreeMap<i64, Server>,
    dir: tempfile::TempDir,
}

struct Server {
    port: u16,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServeError>>,
}

impl Ensemble {
    fn new(count: i64, observers: i64) -> Ensemble {
        // Held together, so that they are different.
        let free: Vec<TcpListener> = (0..2 * count)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
            .collect();
        let ports: Vec<u16> = free.iter().map(|of| of.local_addr().unwrap().port()).collect();
        let servers = (1..=count)
            .zip(ports.chunks(2))
            .map(|(id, ports)| {
                let address = PeerAddress {
                    host: "127.0.0.1".to_owned(),
                    quorum_port: ports[0],
                    election_port: ports[1],
                };
                let member = Member {
                    is_observer: id > count - observers,
                    addresses: vec![address],
                    client: None,
                };
                (ServerId(id), member)
            })
            .collect();
        Ensemble {
            servers,
            runtime: Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            running: BTreeMap::new(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn start(&mut self, id: i64, change: impl FnOnce(&mut EnsembleConfig)) {
        let of = |observer: bool| {
            let of = self
                .servers
                .iter()
                .filter(move |(_, member)| member.is_observer == observer);
            of.map(|(id, _)| *id)
        };
        let quorum = QuorumVerifier::majority(of(false), of(true));
        let mut ensemble =
            EnsembleConfig::new(ServerId(id), self.servers.clone(), quorum, &Groups::default(), 0);
        change(&mut ensemble);
        let mut config = ServerConfig::new(self.dir.path().join(id.to_string()), 0);
        config.client.address = Some(Ipv4Addr::LOCALHOST.into());
        config.storage.log_preallocation_bytes = None;
        config.four_letter = FourLetterConfig::all();
        config.ensemble = Some(ensemble);
        let (stop, stopped) = oneshot::channel();
        let (ready_sender, ready) = std::sync::mpsc::channel();
        let ended = self.runtime.spawn(crate::serve(
            config,
            move |server| ready_sender.send(server.address().port()).unwrap(),
            async {
                let _dropped = stopped.await;
            },
        ));
        let port = ready.recv_timeout(PATIENCE).expect("the server starts");
        self.running.insert(id, Server { port, stop, ended });
    }

    fn stop(&mut self, id: i64) {
        let Server { stop, ended, .. } = self.running.remove(&id).unwrap();
        stop.send(()).unwrap();
        self.runtime.block_on(ended).unwrap().unwrap();
    }

    fn word(&self, id: i64, word: &str) -> String {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.running[&id].port));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(word.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// What `key` stands for in the `mntr` of a server.
    fn figure(&self, id: i64, key: &str) -> Option<String> {
        let text = self.word(id, "mntr");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("zk_{key}\t")))?;
        Some(line.to_owned())
    }

    fn mode(&self, id: i64) -> String {
        let text = self.word(id, "srvr");
        let mode = text.lines().find_map(|line| line.strip_prefix("Mode: "));
        mode.unwrap_or("not serving").to_owned()
    }

    /// Waits until the servers that run are in these modes.
    fn wait_for_modes(&self, modes: &[(i64, &str)]) {
        let until = Instant::now() + PATIENCE;
        loop {
            let found: Vec<(i64, String)> = modes.iter().map(|(id, _)| (*id, self.mode(*id))).collect();
            if found.iter().zip(modes).all(|(found, wanted)| found.1 == wanted.1) {
                return;
            }
            assert!(Instant::now() < until, "{found:?} instead of {modes:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn epoch_file(dir: &Path, id: i64, name: &str) -> String {
    std::fs::read_to_string(dir.join(id.to_string()).join("version-2").join(name)).unwrap()
}

#[test]
fn a_member_without_a_quorum_serves_nobody_and_says_so() {
    let mut ensemble = Ensemble::new(3, 0);
    ensemble.start(1, |_| {});
    for word in ["srvr", "stat", "mntr", "conf", "cons", "dump", "wchs", "dirs"] {
        assert_eq!(
            ensemble.word(1, word),
            "This ZooKeeper instance is not currently serving requests\n",
            "{word}"
        );
    }
    assert_eq!(
        ensemble.word(1, "hash"),
        "This ZooKeeper instance is not currently serving requests"
    );
    assert_eq!(ensemble.word(1, "ruok"), "imok");
    assert_eq!(ensemble.word(1, "isro"), "null");
    // A session is not opened: the connection is closed without an answer.
    let connect = [&45_u32.to_be_bytes()[..], &[0; 45]].concat();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, ensemble.running[&1].port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&connect).unwrap();
    assert_eq!(stream.read(&mut [0; 64]).unwrap_or(0), 0);
    ensemble.stop(1);
}

#[test]
fn a_quorum_elects_serves_and_loses_its_leader() {
    let mut ensemble = Ensemble::new(4, 1);
    for id in 1..=4 {
        ensemble.start(id, |_| {});
    }
    // Servers 1 and 2 may have settled it before 3 was there; whoever leads, the others follow.
    let until = Instant::now() + PATIENCE;
    let leader = loop {
        if let Some(leader) = (1..=3).find(|id| ensemble.mode(*id) == "leader") {
            break leader;
        }
        assert!(Instant::now() < until, "nobody leads");
    };
    let followers: Vec<i64> = (1..=3).filter(|id| *id != leader).collect();
    ensemble.wait_for_modes(&[
        (leader, "leader"),
        (followers[0], "follower"),
        (followers[1], "follower"),
        (4, "observer"),
    ]);
    let until = Instant::now() + PATIENCE;
    let figures = [
        "synced_followers",
        "synced_observers",
        "learners",
        "quorum_size",
        "pending_syncs",
    ];
    while figures
        .map(|key| ensemble.figure(leader, key))
        .map(Option::unwrap_or_default)
        != ["2", "1", "3", "3", "0"]
    {
        assert!(Instant::now() < until, "{}", ensemble.word(leader, "mntr"));
    }
    assert_eq!(
        ensemble.figure(leader, "peer_state").as_deref(),
        Some("leading - broadcast")
    );
    assert_eq!(
        ensemble.figure(followers[0], "peer_state").as_deref(),
        Some("following - broadcast")
    );
    assert_eq!(ensemble.figure(followers[0], "synced_followers"), None);
    assert_eq!(ensemble.figure(4, "observer_master_id"), Some(leader.to_string()));
    assert!(
        ensemble
            .word(leader, "srvr")
            .contains("Proposal sizes last/min/max: -1/-1/-1\n")
    );
    assert!(
        ensemble
            .word(followers[0], "dump")
            .contains("\nGlobal Sessions(0):\n")
    );
    let conf = ensemble.word(4, "conf");
    assert!(
        conf.contains("serverId=4\n") && conf.contains("peerType=1\nmembership: \nserver.1="),
        "{conf}"
    );
    assert!(conf.ends_with("version=0"), "{conf}");

    let epoch_before: u32 = epoch_file(ensemble.dir.path(), leader, "currentEpoch")
        .parse()
        .unwrap();
    ensemble.stop(leader);
    let heir = followers[1];
    ensemble.wait_for_modes(&[(heir, "leader"), (followers[0], "follower"), (4, "observer")]);
    let epoch: u32 = epoch_file(ensemble.dir.path(), heir, "currentEpoch")
        .parse()
        .unwrap();
    assert!(epoch > epoch_before, "{epoch} after {epoch_before}");
    // What was the leader comes back as a follower.
    ensemble.start(leader, |_| {});
    ensemble.wait_for_modes(&[(heir, "leader"), (leader, "follower")]);
    // One of three is no quorum.
    ensemble.stop(leader);
    ensemble.stop(followers[0]);
    ensemble.wait_for_modes(&[(heir, "not serving"), (4, "not serving")]);
    ensemble.stop(heir);
    ensemble.stop(4);
}

#[test]
fn a_leader_that_is_to_serve_no_clients_serves_none() {
    let mut ensemble = Ensemble::new(2, 0);
    for id in 1..=2 {
        ensemble.start(id, |config| config.leader_serves = false);
    }
    ensemble.wait_for_modes(&[(1, "follower"), (2, "not serving")]);
    let text = ensemble.word(2, "isro");
    assert_eq!(text, "null");
}
