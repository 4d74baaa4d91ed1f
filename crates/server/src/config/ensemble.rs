//! What a member of an ensemble knows about it: who the others are, how they decide, and how patient they are.
//! Server lines, groups and weights are described in `docs/configuration.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use oxkeeper_types::ServerId;
use oxkeeper_zab::QuorumVerifier;

/// One address of a server. Names are kept as written and looked up whenever they are dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Name or IP address, IPv6 without brackets.
    pub host: String,
    /// Where learners reach the server while it leads. 2888 by custom.
    pub quorum_port: u16,
    /// Where the others reach it to elect. 3888 by custom.
    pub election_port: u16,
}

/// One server of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Whether it follows without a vote.
    pub is_observer: bool,
    /// At least one; several only with `multiAddress.enabled`.
    pub addresses: Vec<PeerAddress>,
    /// Host (`0.0.0.0` when only a port is given) and port of the client part of its line.
    pub client: Option<(String, u16)>,
}

/// How servers are grouped and what they weigh, as written: group to servers, and server to weight. The meaning is
/// in [`QuorumVerifier`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// `group.G`.
    pub servers_of: BTreeMap<i64, Vec<ServerId>>,
    /// `weight.N`; a server without a line weighs 1.
    pub weights: BTreeMap<ServerId, u32>,
}

/// Everything a member of an ensemble is told about it.
#[derive(Clone, Debug, PartialEq)]
pub struct EnsembleConfig {
    /// The number in `dataDir/myid`.
    pub me: ServerId,
    /// The server list. `me` is in it.
    pub servers: BTreeMap<ServerId, Member>,
    /// Who votes, and which of them together may decide.
    pub quorum: QuorumVerifier,
    /// The version of the server list: the hexadecimal end of the name of `dynamicConfigFile`, otherwise 0.
    pub config_version: i64,
    /// The list in the form that ZooKeeper shows and sends: server lines, groups, weights, `version=<hex>`.
    pub config_text: String,
    /// `tickTime`, ms.
    pub tick_ms: u64,
    /// `initLimit`: ticks for finding a quorum and for synchronising a learner.
    pub init_limit_ticks: u64,
    /// `syncLimit`: ticks after which a silent server is given up.
    pub sync_limit_ticks: u64,
    /// `connectToLearnerMasterLimit`: ticks for reaching the leader that was elected. Default: `initLimit`.
    pub connect_to_leader_limit_ticks: u64,
    /// `leaderServes`: whether this server has clients while it leads. Default true.
    pub leader_serves: bool,
    /// `cnxTimeout`: how long dialling one address of an election port may take. Default 5 s.
    pub election_connect_timeout: Duration,
    /// `electionPortBindRetry`: how often it is tried to listen on the election port, a second apart. `None`: until
    /// it works. Default 3.
    pub election_bind_tries_max: Option<u32>,
    /// `quorumListenOnAllIPs`: listen for other servers on every interface instead of on the addresses of the own
    /// line. Default false.
    pub quorum_listen_on_all_ips: bool,
    /// `multiAddress.enabled`: servers may have several addresses and tell them; servers before 3.6 do not
    /// understand that. Default false.
    pub multi_address_enabled: bool,
    /// `tcpKeepAlive`: SO_KEEPALIVE on election connections. Default false.
    pub tcp_keep_alive: bool,
    /// `localSessionsEnabled`: new sessions are known to their server alone. Default false.
    pub local_sessions_enabled: bool,
    /// `localSessionsUpgradingEnabled`: a local session becomes a global one when it creates an ephemeral. Default
    /// false.
    pub local_sessions_upgrading_enabled: bool,
    /// `readonlymode.enabled`: serve reads to clients that allow it while there is no quorum. Default false.
    pub read_only_mode: bool,
    /// `commitLogCount`: how many txns are kept in memory for learners that come late. At least 500. Default 500.
    pub window_entries_max: usize,
    /// `fastleader.minNotificationInterval`, ms. Default 100 (Java: 200).
    pub notification_interval_min_ms: u64,
    /// `fastleader.maxNotificationInterval`, ms. Default 1000 (Java: 60000).
    pub notification_interval_max_ms: u64,
}

impl EnsembleConfig {
    /// The members as given, all else by ZooKeeper's defaults and the customary limits of 10 and 5 ticks of 2 s.
    pub fn new(
        me: ServerId,
        servers: BTreeMap<ServerId, Member>,
        quorum: QuorumVerifier,
        groups: &Groups,
        config_version: i64,
    ) -> EnsembleConfig {
        EnsembleConfig {
            config_text: config_text(&servers, groups, config_version),
            me,
            servers,
            quorum,
            config_version,
            tick_ms: 2000,
            init_limit_ticks: 10,
            sync_limit_ticks: 5,
            connect_to_leader_limit_ticks: 10,
            leader_serves: true,
            election_connect_timeout: Duration::from_secs(5),
            election_bind_tries_max: Some(3),
            quorum_listen_on_all_ips: false,
            multi_address_enabled: false,
            tcp_keep_alive: false,
            local_sessions_enabled: false,
            local_sessions_upgrading_enabled: false,
            read_only_mode: false,
            window_entries_max: 500,
            notification_interval_min_ms: 100,
            notification_interval_max_ms: 1000,
        }
    }

    /// The own line of the list.
    ///
    /// # Panics
    /// When `me` is not in `servers`; reading a configuration refuses that.
    pub fn own(&self) -> &Member {
        match self.servers.get(&self.me) {
            Some(own) => own,
            None => panic!("server {} is in its own list", self.me),
        }
    }

    /// What the consensus is told.
    pub fn zab_settings(&self) -> oxkeeper_zab::Settings {
        oxkeeper_zab::Settings {
            config_version: self.config_version,
            tick_ms: self.tick_ms,
            init_limit_ticks: self.init_limit_ticks,
            sync_limit_ticks: self.sync_limit_ticks,
            notification_interval_min_ms: self.notification_interval_min_ms,
            notification_interval_max_ms: self.notification_interval_max_ms,
            window_entries_max: self.window_entries_max,
            ..oxkeeper_zab::Settings::new(self.me, self.quorum.clone())
        }
    }
}

/// `[host]` for IPv6 addresses.
fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// The list as ZooKeeper's `QuorumVerifier.toString` writes it, servers by id.
pub(super) fn config_text(servers: &BTreeMap<ServerId, Member>, groups: &Groups, version: i64) -> String {
    let mut text = String::new();
    for (id, member) in servers {
        let mut addresses: Vec<&PeerAddress> = member.addresses.iter().collect();
        addresses.sort_by(|a, b| a.host.cmp(&b.host));
        let addresses: Vec<String> = addresses
            .iter()
            .map(|a| format!("{}:{}:{}", bracketed(&a.host), a.quorum_port, a.election_port))
            .collect();
        let role = match member.is_observer {
            true => "observer",
            false => "participant",
        };
        let client = match &member.client {
            Some((host, port)) => format!(";{}:{port}", bracketed(host)),
            None => String::new(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "server.{id}={}:{role}{client}", addresses.join("|"));
    }
    for (group, members) in &groups.servers_of {
        let members: Vec<String> = members.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "group.{group}={}", members.join(":"));
    }
    if !groups.servers_of.is_empty() {
        for (id, member) in servers {
            if !member.is_observer {
                let weight = groups.weights.get(id).copied().unwrap_or(1);
                let _ = writeln!(text, "weight.{id}={weight}");
            }
        }
    }
    let _ = write!(text, "version={version:x}");
    text
}
