//! Several servers as processes that form an ensemble: of ours, of Java's, or of both.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::network::Network;
use super::server::{ServerError, ServerOptions, ServerProcess, ServerProgram};

/// The ports of every member, each on an address of its own.
const CLIENT_PORT: u16 = 21_811;
const QUORUM_PORT: u16 = 22_888;
const ELECTION_PORT: u16 = 23_888;
/// Held open as long as an ensemble lives, so that no other one takes its addresses.
const RESERVATION_PORT: u16 = 20_999;
/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(5);
/// How long one server may take to say its mode: it may be paused or cut off.
const MODE_WITHIN: Duration = Duration::from_millis(500);

/// What a server says of itself in `srvr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It leads.
    Leader,
    /// It follows.
    Follower,
    /// It follows without a vote.
    Observer,
    /// It is alone.
    Standalone,
    /// It serves reads only, without a quorum.
    ReadOnly,
}

impl Mode {
    fn parse(srvr: &str) -> Option<Mode> {
        let mode = srvr.lines().find_map(|line| line.strip_prefix("Mode: "))?;
        Some(match mode.trim() {
            "leader" => Mode::Leader,
            "follower" => Mode::Follower,
            "observer" => Mode::Observer,
            "standalone" => Mode::Standalone,
            "read-only" => Mode::ReadOnly,
            _ => return None,
        })
    }
}

/// One member.
#[derive(Clone, Debug)]
pub struct MemberOptions {
    /// Which server.
    pub program: ServerProgram,
    /// Whether it has no vote.
    pub is_observer: bool,
    /// Lines of zoo.cfg of this member alone.
    pub settings: Vec<(String, String)>,
    /// As [`ServerOptions::wrapper`].
    pub wrapper: Vec<std::ffi::OsString>,
}

impl MemberOptions {
    /// A member with a vote.
    pub fn participant(program: ServerProgram) -> MemberOptions {
        MemberOptions {
            program,
            is_observer: false,
            settings: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// A member without a vote.
    pub fn observer(program: ServerProgram) -> MemberOptions {
        MemberOptions {
            is_observer: true,
            ..MemberOptions::participant(program)
        }
    }
}

/// How to start an ensemble.
#[derive(Debug)]
pub struct EnsembleOptions {
    /// Its directory; that of member N is `server-N` in it.
    pub dir: PathBuf,
    /// The members; the first one is server 1.
    pub members: Vec<MemberOptions>,
    /// Lines of zoo.cfg of all members.
    pub settings: Vec<(String, String)>,
    /// The network the members are in; without, each has a loopback address of its own.
    pub network: Option<Network>,
}

impl EnsembleOptions {
    /// An ensemble with a tick of 200 ms, and 10 and 4 seconds to synchronise and to keep up.
    pub fn new(dir: impl Into<PathBuf>, members: Vec<MemberOptions>) -> EnsembleOptions {
        let options = EnsembleOptions {
            dir: dir.into(),
            members,
            settings: Vec::new(),
            network: None,
        };
        options
            .set("tickTime", 200)
            .set("initLimit", 50)
            .set("syncLimit", 20)
    }

    /// As many members of one program.
    pub fn of(dir: impl Into<PathBuf>, program: &ServerProgram, count: usize) -> EnsembleOptions {
        let members = vec![MemberOptions::participant(program.clone()); count];
        EnsembleOptions::new(dir, members)
    }

    /// The same with one more line in every zoo.cfg.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> EnsembleOptions {
        self.settings.retain(|(present, _)| present != key);
        self.settings.push((key.to_owned(), value.to_string()));
        self
    }
}

/// The servers of an ensemble. Dropping it kills them; in a test that fails it shows the ends of their logs
/// first.
#[derive(Debug)]
pub struct Ensemble {
    servers: Vec<ServerProcess>,
    network: Option<Network>,
    _reservation: Option<TcpListener>,
}

impl Ensemble {
    /// Starts all members and waits until all serve.
    ///
    /// # Errors
    /// When one cannot be started, ends early or takes too long.
    pub fn start(options: EnsembleOptions) -> Result<Ensemble, ServerError> {
        let mut ensemble = Ensemble::spawn(options)?;
        for server in &mut ensemble.servers {
            server.wait_until_ready()?;
        }
        Ok(ensemble)
    }

    /// Starts all members without waiting for anything.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn spawn(options: EnsembleOptions) -> Result<Ensemble, ServerError> {
        let count = options.members.len();
        let (hosts, reservation) = match &options.network {
            Some(network) => ((1..=count).map(|id| network.host(id)).collect(), None),
            None => {
                let (hosts, reservation) = reserve_loopback(count)?;
                (hosts, Some(reservation))
            }
        };
        let lines: Vec<(String, String)> = (1..)
            .zip(hosts.iter().zip(&options.members))
            .map(|(id, (host, member))| {
                let role = if member.is_observer { ":observer" } else { "" };
                let address = format!("{host}:{QUORUM_PORT}:{ELECTION_PORT}{role}");
                (format!("server.{id}"), address)
            })
            .collect();
        let mut servers = Vec::new();
        for (index, member) in options.members.into_iter().enumerate() {
            let id = index + 1;
            let mut server = ServerOptions::new(member.program, options.dir.join(format!("server-{id}")));
            server.host = hosts[index];
            server.port = Some(CLIENT_PORT);
            server.my_id = Some(u8::try_from(id).expect("few servers"));
            for (key, value) in options.settings.iter().chain(&lines).chain(&member.settings) {
                server.replace(key, value);
            }
            if member.is_observer {
                server.replace("peerType", "observer");
            }
            server.wrapper = member.wrapper;
            if let Some(network) = &options.network {
                server.wrapper.extend(network.wrapper(id));
            }
            servers.push(ServerProcess::spawn(server)?);
        }
        Ok(Ensemble {
            servers,
            network: options.network,
            _reservation: reservation,
        })
    }

    /// The ids of all members: from 1 on.
    pub fn ids(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.servers.len()
    }

    /// A member.
    ///
    /// # Panics
    /// When there is none with this id.
    pub fn server(&self, id: usize) -> &ServerProcess {
        &self.servers[id - 1]
    }

    /// A member, to be killed or started.
    ///
    /// # Panics
    /// When there is none with this id.
    pub fn server_mut(&mut self, id: usize) -> &mut ServerProcess {
        &mut self.servers[id - 1]
    }

    /// Where clients of a member connect.
    pub fn address(&self, id: usize) -> SocketAddr {
        self.server(id).address()
    }

    /// Where clients connect, of all members.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(ServerProcess::address).collect()
    }

    /// What clients of ZooKeeper take to find all members.
    pub fn connect_string(&self) -> String {
        let addresses: Vec<String> = self.addresses().iter().map(SocketAddr::to_string).collect();
        addresses.join(",")
    }

    /// The network, when the members have one of their own.
    pub fn network_mut(&mut self) -> Option<&mut Network> {
        self.network.as_mut()
    }

    /// What a member says it is; `None` when it does not answer at once, or does not serve.
    pub fn mode(&self, id: usize) -> Option<Mode> {
        Mode::parse(&self.server(id).four_letter_within("srvr", MODE_WITHIN).ok()?)
    }

    /// Who says that it leads; of several (one may not know yet that it is no leader any more) the one with the
    /// newest epoch.
    pub fn leader(&self) -> Option<usize> {
        let leaders = self.ids().filter_map(|id| {
            let srvr = self.server(id).four_letter_within("srvr", MODE_WITHIN).ok()?;
            let zxid = srvr.lines().find_map(|line| line.strip_prefix("Zxid: 0x"))?;
            let epoch = u64::from_str_radix(zxid, 16).ok()? >> 32;
            (Mode::parse(&srvr) == Some(Mode::Leader)).then_some((epoch, id))
        });
        leaders.max().map(|(_, id)| id)
    }

    /// Waits until one leads, and gives its id.
    ///
    /// # Errors
    /// [`ServerError::Timeout`] with the logs of all members.
    pub fn wait_for_leader(&self, within: Duration) -> Result<usize, ServerError> {
        self.wait_until("no server leads", within, Ensemble::leader)
    }

    /// Waits until all these members serve.
    ///
    /// # Errors
    /// [`ServerError::Timeout`] with the logs of all members.
    pub fn wait_until_serving(&self, ids: &[usize], within: Duration) -> Result<(), ServerError> {
        self.wait_until("not all servers serve", within, |ensemble| {
            ids.iter()
                .all(|id| ensemble.mode(*id).is_some_and(|mode| mode != Mode::ReadOnly))
                .then_some(())
        })
    }

    /// Waits until `condition` gives something. `failure` says what did not happen.
    ///
    /// # Errors
    /// [`ServerError::Timeout`] with the logs of all members.
    pub fn wait_until<T>(
        &self,
        failure: &'static str,
        within: Duration,
        mut condition: impl FnMut(&Ensemble) -> Option<T>,
    ) -> Result<T, ServerError> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(value) = condition(self) {
                return Ok(value);
            }
            if Instant::now() >= deadline {
                return Err(ServerError::Timeout {
                    what: failure,
                    within,
                    log: self.log_tails(),
                });
            }
            sleep(POLL);
        }
    }

    /// The ends of the logs of all members.
    pub fn log_tails(&self) -> String {
        let tail = |id: usize| format!("--- server {id}:\n{}\n", self.server(id).log_tail());
        self.ids().map(tail).collect()
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody may be there to read it.
            let _ = writeln!(io::stderr(), "{}", self.log_tails());
        }
    }
}

/// Loopback addresses that no other ensemble of this harness has, as long as the listener lives.
fn reserve_loopback(count: usize) -> Result<(Vec<Ipv4Addr>, TcpListener), ServerError> {
    for _ in 0..200 {
        let (a, b) = (fastrand::u8(1..255), fastrand::u8(1..255));
        let host = |id: usize| Ipv4Addr::new(127, a, b, u8::try_from(id).expect("few servers"));
        let Ok(reservation) = TcpListener::bind((host(254), RESERVATION_PORT)) else {
            continue;
        };
        let hosts: Vec<Ipv4Addr> = (1..=count).map(host).collect();
        let is_free = |host: &Ipv4Addr| {
            [CLIENT_PORT, QUORUM_PORT, ELECTION_PORT]
                .iter()
                .all(|port| TcpListener::bind((*host, *port)).is_ok())
        };
        if hosts.iter().all(is_free) {
            return Ok((hosts, reservation));
        }
    }
    Err(ServerError::NoPort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ensembles_have_other_addresses() {
        let (first, _held) = reserve_loopback(3).unwrap();
        let (second, _held_too) = reserve_loopback(3).unwrap();
        assert!(first.iter().all(|host| !second.contains(host)));
    }

    #[test]
    fn the_mode_is_read_from_srvr() {
        let srvr = "Zxid: 0x100000003\nMode: follower\nNode count: 5\n";
        assert_eq!(Mode::parse(srvr), Some(Mode::Follower));
        let looking = "This ZooKeeper instance is not currently serving requests\n";
        assert_eq!(Mode::parse(looking), None);
    }
}
