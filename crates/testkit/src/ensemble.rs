//! Several servers inside the process of a test that form an ensemble.

use std::collections::BTreeMap;

use oxkeeper_server::config::{EnsembleConfig, Groups, Member, PeerAddress, QuorumVerifier, ServerConfig};
use oxkeeper_types::{ServerId, SessionId};
use tempfile::TempDir;

use crate::error::{io_error, wait_until};
use crate::server::{PATIENCE, Port, Server, default_config};
use crate::{Error, Standing};

/// For how many ticks members wait for a quorum, and for one another: 10 and 2 seconds, since a machine that runs many
/// tests may be slow.
const INIT_LIMIT_TICKS: u64 = 100;
const SYNC_LIMIT_TICKS: u64 = 20;

/// Several servers inside the process of a test that form an ensemble and have elected a leader. Each has an id, the
/// first has 1, and is a [`Server`], which can be killed, paused, cut off and started again. Dropping the ensemble ends
/// all and leaves nothing behind.
///
/// ```
/// use oxkeeper_testkit::{Client, CreateMode, Ensemble};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ensemble = Ensemble::start(3)?;
/// let leader = ensemble.wait_for_leader()?;
/// let follower = ensemble.ids().find(|id| *id != leader).expect("there are three");
/// let mut client = Client::connect(ensemble.server(follower).address(), 10_000)?;
/// client.create("/config", b"v1", CreateMode::Persistent)?;
///
/// ensemble.server(leader).kill()?;
/// let next = ensemble.wait_for_leader()?;
/// let mut client = Client::connect(ensemble.server(next).address(), 10_000)?;
/// assert_eq!(client.get("/config")?.0, b"v1");
/// # Ok(())
/// # }
/// ```
///
/// # Settings
/// Those of [`Server`]; a member is given up after 2 seconds of silence (a killed one at once), and may take 10 to get
/// in step.
#[derive(Debug)]
pub struct Ensemble {
    servers: Vec<Server>,
    /// Held until the end, also while servers are down.
    _peer_ports: Vec<Port>,
    /// Removed after the servers have ended.
    _dir: Option<TempDir>,
}

impl Ensemble {
    /// Starts so many servers, all with a vote, and waits until all serve.
    ///
    /// # Errors
    /// When there is no directory, port or thread to be had, or they do not agree on a leader in time.
    pub fn start(servers: usize) -> Result<Ensemble, Error> {
        Ensemble::start_with(servers, |_, _| ())
    }

    /// As [`Ensemble::start`], with the settings of each changed; the id of the server comes first. A port or a
    /// directory that is set is used instead of a free port and a temporary directory.
    ///
    /// # Errors
    /// As [`Ensemble::start`], and when a server cannot use what was set.
    pub fn start_with(
        servers: usize,
        change: impl FnMut(usize, &mut ServerConfig),
    ) -> Result<Ensemble, Error> {
        Ensemble::start_with_observers(servers, 0, change)
    }

    /// As [`Ensemble::start_with`], with some servers more that have no vote. They have the ids after the others.
    ///
    /// # Errors
    /// As [`Ensemble::start_with`].
    ///
    /// # Panics
    /// When nobody has a vote.
    pub fn start_with_observers(
        participants: usize,
        observers: usize,
        mut change: impl FnMut(usize, &mut ServerConfig),
    ) -> Result<Ensemble, Error> {
        assert!(participants > 0, "an ensemble has servers with a vote");
        let servers = participants + observers;
        let dir = TempDir::with_prefix("oxkeeper-").map_err(io_error("a temporary directory"))?;
        let mut peer_ports = Vec::new();
        let mut members = BTreeMap::new();
        for id in 1..=servers {
            let (quorum, election) = (Port::reserve()?, Port::reserve()?);
            let address = PeerAddress {
                host: "127.0.0.1".to_owned(),
                quorum_port: quorum.number,
                election_port: election.number,
            };
            let member = Member {
                is_observer: id > participants,
                addresses: vec![address],
                client: None,
            };
            peer_ports.extend([quorum, election]);
            members.insert(server_id(id), member);
        }
        let mut uses_dir = false;
        let started = (1..=servers).map(|id| {
            let mut config = default_config(dir.path().join(format!("server-{id}")));
            config.ensemble = Some(ensemble_config(server_id(id), &members, &config));
            change(id, &mut config);
            uses_dir |= config.storage.is_in(dir.path());
            let port = match config.client.port {
                0 => Some(Port::reserve()?),
                _ => None,
            };
            if let Some(port) = &port {
                config.client.port = port.number;
            }
            Server::launch(config, port, None)
        });
        let servers = started.collect::<Result<_, Error>>()?;
        let ensemble = Ensemble {
            servers,
            _peer_ports: peer_ports,
            _dir: uses_dir.then_some(dir),
        };
        ensemble.wait_for_leader()?;
        Ok(ensemble)
    }

    /// The ids of the servers: from 1 on.
    pub fn ids(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.servers.len()
    }

    /// A server.
    ///
    /// # Panics
    /// When there is none with this id.
    pub fn server(&self, id: usize) -> &Server {
        &self.servers[id - 1]
    }

    /// All servers, the first with id 1.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// What a client of ZooKeeper takes to find all servers.
    pub fn connect_string(&self) -> String {
        let addresses: Vec<String> = self.servers.iter().map(Server::connect_string).collect();
        addresses.join(",")
    }

    /// Who leads at the moment. (A leader that is paused does not: when it goes on, it may think so for a while.)
    pub fn leader(&self) -> Option<usize> {
        let leads = |id: &usize| {
            let server = self.server(*id);
            server.is_running() && server.standing() == Some(Standing::Leading)
        };
        // One that has lost its followers without knowing it yet is of an older epoch.
        self.ids()
            .filter(leads)
            .max_by_key(|id| self.server(*id).last_zxid())
    }

    /// Waits until one server leads and the others that run are in step with it, and gives the leader's id.
    ///
    /// # Errors
    /// When that takes too long: fewer run than make a quorum, maybe.
    pub fn wait_for_leader(&self) -> Result<usize, Error> {
        let what = || format!("no server led: {:?}", self.standings());
        wait_until(PATIENCE, what, || {
            let mut running = self.servers.iter().filter(|server| server.is_running());
            let all_follow = running.all(|server| server.standing() != Some(Standing::Looking));
            Ok(self.leader().filter(|_| all_follow))
        })
    }

    fn standings(&self) -> Vec<Option<Standing>> {
        self.servers.iter().map(Server::standing).collect()
    }

    /// Ends a session as if its time were over: the leader does. Waits until all servers that run have it behind
    /// them: its ephemerals are gone, whoever watched them is told, and its connection is closed without a word. False
    /// when there is no such session.
    ///
    /// # Errors
    /// When no server leads in time, or they do not agree in time.
    pub fn expire_session(&self, session: SessionId) -> Result<bool, Error> {
        let mut lived = false;
        let what = || format!("session {session} did not end: {:?}", self.standings());
        wait_until(PATIENCE, what, || {
            let Some(leader) = self.leader() else {
                return Ok(None);
            };
            // It may be killed or deposed meanwhile; then the next one is asked.
            let Ok(leader) = self.server(leader).running("") else {
                return Ok(None);
            };
            if leader.has_session(session) {
                lived = true;
                leader.expire_session(session);
                return Ok(None);
            }
            let behind = |server: &Server| {
                let running = server.running("");
                running.is_ok_and(|running| running.has_session(session))
            };
            Ok((!self.servers.iter().any(behind)).then_some(lived))
        })
    }

    /// [`Server::cut`] for all servers.
    pub fn cut(&self) {
        self.servers.iter().for_each(Server::cut);
    }

    /// [`Server::heal`] for all servers.
    pub fn heal(&self) {
        self.servers.iter().for_each(Server::heal);
    }

    /// [`Server::disconnect_clients`] for all servers.
    pub fn disconnect_clients(&self) -> usize {
        self.servers.iter().map(Server::disconnect_clients).sum()
    }

    /// [`Server::disconnect_session`], wherever its connection is.
    pub fn disconnect_session(&self, session: SessionId) -> bool {
        let disconnects = |server: &Server| server.disconnect_session(session);
        self.servers.iter().filter(|server| disconnects(server)).count() > 0
    }
}

fn server_id(id: usize) -> ServerId {
    ServerId(i64::try_from(id).expect("few servers"))
}

fn ensemble_config(
    me: ServerId,
    members: &BTreeMap<ServerId, Member>,
    config: &ServerConfig,
) -> EnsembleConfig {
    let ids_of = |observers: bool| {
        let its = members
            .iter()
            .filter(move |(_, member)| member.is_observer == observers);
        its.map(|(id, _)| *id)
    };
    let quorum = QuorumVerifier::majority(ids_of(false), ids_of(true));
    EnsembleConfig {
        tick_ms: u64::from(config.session.tick_time_ms),
        init_limit_ticks: INIT_LIMIT_TICKS,
        sync_limit_ticks: SYNC_LIMIT_TICKS,
        connect_to_leader_limit_ticks: INIT_LIMIT_TICKS,
        ..EnsembleConfig::new(me, members.clone(), quorum, &Groups::default(), 0)
    }
}
