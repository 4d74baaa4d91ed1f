//! What a member of an ensemble knows about it: who the others are, how they decide, and how patient they are.
//! Server lines, groups and weights are described in `docs/configuration.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use oxkeeper_core::membership::{Groups, Member, PeerAddress};
use oxkeeper_core::membership::{Membership, find_configuration};
use oxkeeper_types::ServerId;
use oxkeeper_zab::{Configuration, QuorumVerifier};

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
    /// `reconfigEnabled`: the membership may change while the servers run. Default false.
    pub reconfig_enabled: bool,
    /// `standaloneEnabled`: an ensemble has at least two participants. Default true.
    pub standalone_enabled: bool,
    /// `zoo.cfg`, beside which changes of the membership are saved. `None`: they are not.
    pub config_file: Option<PathBuf>,
    /// Whether `zoo.cfg` lists the servers itself.
    pub is_listed_in_config_file: bool,
    /// A later configuration that was proposed: that of the file `<zoo.cfg>.dynamic.next`.
    pub next_configuration: Option<Arc<Configuration>>,
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
    /// `leader.maxTimeToWaitForEpoch`, ms: how long an elected leader without a quorum bears that one of its electors
    /// looks for a leader again. `None` (default): until `initLimit`.
    pub epoch_wait_max_ms: Option<u64>,
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
        let membership = Membership {
            servers,
            groups: groups.clone(),
            version: config_version,
        };
        EnsembleConfig {
            config_text: membership.text(),
            reconfig_enabled: false,
            standalone_enabled: true,
            config_file: None,
            is_listed_in_config_file: false,
            next_configuration: None,
            me,
            servers: membership.servers,
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
            epoch_wait_max_ms: None,
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
        let list = self
            .config_text
            .rsplit_once("version=")
            .map_or("", |(list, _)| list);
        let places = Membership::parse(list).and_then(|list| list.configuration().map_err(|e| e.to_string()));
        let configuration = Configuration {
            version: self.config_version,
            quorum: self.quorum.clone(),
            places: places.map(|read| read.places).unwrap_or_default(),
            list: list.into(),
        };
        oxkeeper_zab::Settings {
            configuration: Arc::new(configuration),
            next_configuration: self.next_configuration.clone().filter(|_| self.reconfig_enabled),
            find_configuration: self.reconfig_enabled.then_some(find_configuration),
            epoch_wait_max_ms: self.epoch_wait_max_ms,
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
