//! From the server list to a server that stands alone or to a member of an ensemble.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oxkeeper_core::membership::{ServerLine, parse_group, parse_weight, read_configuration};
use oxkeeper_types::ServerId;
use oxkeeper_zab::{Configuration, QuorumError, QuorumVerifier};

use super::ensemble::{EnsembleConfig, Groups, Member};
use super::report::{ConfigError, Location, NoticeLevel};
use super::resolve::{Draft, OwnedLine, ReadFile, read_properties, resolve_host};
use crate::config_files::NEXT_SUFFIX;

/// What `extendedTypesEnabled` leaves of the numbers of servers: the rest of the byte marks znodes with a time to
/// live.
const EXTENDED_TYPES_ID_MAX: i64 = 254;

/// What is said about ensembles, before it is known whether this server is a member of one.
pub(super) struct EnsembleDraft {
    pub(super) standalone_enabled: bool,
    pub(super) dynamic_config_file: Option<(String, Location)>,
    pub(super) multi_address_enabled: bool,
    pub(super) server_lines: Vec<OwnedLine>,
    pub(super) group_lines: Vec<OwnedLine>,
    pub(super) init_limit: Option<(i32, Location)>,
    pub(super) sync_limit: Option<(i32, Location)>,
    pub(super) connect_limit: Option<(i32, Location)>,
    /// `peerType`: whether it is an observer.
    pub(super) peer_type: Option<(bool, Location)>,
    pub(super) leader_serves: bool,
    pub(super) connect_timeout: Option<Duration>,
    /// `electionPortBindRetry`; 0 is for ever.
    pub(super) bind_tries: Option<u32>,
    pub(super) listen_on_all_ips: bool,
    pub(super) tcp_keep_alive: bool,
    pub(super) local_sessions: bool,
    pub(super) local_sessions_upgrading: bool,
    pub(super) commit_log_count: Option<u32>,
    pub(super) notification_interval_min_ms: Option<u32>,
    pub(super) notification_interval_max_ms: Option<u32>,
    /// `leader.maxTimeToWaitForEpoch`; `None` for a negative one.
    pub(super) epoch_wait_max_ms: Option<u64>,
    /// `reconfigEnabled=true`.
    pub(super) reconfig: Option<Location>,
    /// `sslQuorum=true`.
    pub(super) tls: Option<Location>,
    /// A `quorum.auth` flag that requires SASL.
    pub(super) sasl: Option<Location>,
    /// Keys that only matter to a member, and of those which ask for something that is missing: what.
    pub(super) keys: Vec<(String, Location, Option<&'static str>)>,
}

impl Default for EnsembleDraft {
    fn default() -> Self {
        EnsembleDraft {
            standalone_enabled: true,
            dynamic_config_file: None,
            multi_address_enabled: false,
            server_lines: Vec::new(),
            group_lines: Vec::new(),
            init_limit: None,
            sync_limit: None,
            connect_limit: None,
            peer_type: None,
            leader_serves: true,
            connect_timeout: None,
            bind_tries: None,
            listen_on_all_ips: false,
            tcp_keep_alive: false,
            local_sessions: false,
            local_sessions_upgrading: false,
            commit_log_count: None,
            notification_interval_min_ms: None,
            notification_interval_max_ms: None,
            epoch_wait_max_ms: None,
            reconfig: None,
            tls: None,
            sasl: None,
            keys: Vec::new(),
        }
    }
}

/// The server list and where its lines stand.
type Listed = BTreeMap<ServerId, (Member, Location)>;

impl Draft {
    /// Decides from the server list whether this server stands alone, and what it must know if it does not.
    pub(super) fn finish_membership(&mut self, whole: &Location, read_file: ReadFile<'_>) {
        let mut version = 0;
        let is_listed_in_config_file = self.ensemble.dynamic_config_file.is_none();
        if let Some((name, at)) = self.ensemble.dynamic_config_file.take() {
            version = version_in_name(&name);
            let beside = self.ensemble.server_lines.drain(..);
            let beside: Vec<OwnedLine> = beside.chain(self.ensemble.group_lines.drain(..)).collect();
            for line in beside {
                let problem = format!("{} stands beside dynamicConfigFile", line.key);
                self.fail(&line.at, problem, "move it into the dynamic configuration file");
            }
            if let Err(problems) = self.read_dynamic_file(&name, &at, read_file) {
                self.problems.extend(problems);
                return;
            }
        }
        let Some(listed) = self.parse_server_lines() else {
            return;
        };
        let Some(is_member) = self.decide_membership(&listed, whole) else {
            return;
        };
        let me = match self.read_my_id(read_file) {
            Ok(me) => me,
            Err(problem) => return self.problems.push(problem),
        };
        self.name_keys_about_ensembles(is_member);
        let own = me.and_then(|me| listed.get(&me)).cloned();
        let has_client_parts = listed.values().any(|(member, _)| member.client.is_some());
        if let Some((
            Member {
                client: Some((host, port)),
                ..
            },
            at,
        )) = &own
        {
            self.take_client_port_of_server_line(host, *port, at);
        }
        if is_member {
            self.finish_member(me, listed, version, is_listed_in_config_file, whole, read_file);
        } else if let Some(line) = self.ensemble.group_lines.first() {
            let (at, text) = (
                line.at.clone(),
                format!("{} has no effect: this server stands alone", line.key),
            );
            self.notice(NoticeLevel::Warning, &at, text);
        }
        if self.client_port.is_none() && self.problems.is_empty() {
            let remedy = match own {
                None if !is_member && has_client_parts => {
                    "add clientPort=2181, or write this server's number into the file myid in dataDir"
                }
                _ => "add a line such as clientPort=2181",
            };
            self.fail(whole, "clientPort is not set, so no client could connect", remedy);
        }
    }

    fn parse_server_lines(&mut self) -> Option<Listed> {
        let mut listed = Listed::new();
        for line in std::mem::take(&mut self.ensemble.server_lines) {
            let parsed = ServerLine::parse(&line.key, &line.value, self.ensemble.multi_address_enabled);
            let parsed = parsed.map_err(|problem| format!("{}={}: {problem}", line.key, line.value));
            match parsed {
                Ok(ServerLine { id, member }) => {
                    if let Some((_, first)) = listed.insert(id, (member, line.at.clone())) {
                        let problem = format!("server {id} is listed already ({first})");
                        self.fail(&line.at, problem, "give each server a number of its own");
                        return None;
                    }
                }
                Err(problem) => {
                    let remedy = "write server.N=host:quorumPort:electionPort[:role][;[host:]clientPort]";
                    self.fail(&line.at, problem, remedy);
                    return None;
                }
            }
        }
        Some(listed)
    }

    /// Whether this server is a member of an ensemble; `None` when the list makes no sense.
    fn decide_membership(&mut self, listed: &Listed, whole: &Location) -> Option<bool> {
        let observers = listed.values().filter(|(member, _)| member.is_observer);
        let first_observer = observers.clone().next().map(|(_, at)| at.clone());
        let participants = listed.len() - observers.count();
        let first = listed
            .values()
            .map(|(_, at)| at)
            .min_by_key(|at| at.line)
            .unwrap_or(whole)
            .clone();
        match (participants, first_observer, self.ensemble.standalone_enabled) {
            (0, _, false) => {
                let problem = "standaloneEnabled is false but no participant is listed";
                let remedy =
                    "list the servers, or remove standaloneEnabled=false to run one server on its own";
                self.fail(&first, problem, remedy);
                None
            }
            (0, Some(at), true) => {
                let problem = "observers are listed without an ensemble of participants";
                self.fail(
                    &at,
                    problem,
                    "list the participants too, or remove the observers to run one server on its own",
                );
                None
            }
            (1, Some(at), true) => {
                let problem = "observers are listed with a single participant";
                let remedy = "add standaloneEnabled=false, list more participants, or remove the observers";
                self.fail(&at, problem, remedy);
                None
            }
            (0, None, true) => Some(false),
            (1, None, true) => {
                let text =
                    "one server is listed: it stands alone, and its quorum and election ports are not opened";
                self.notice(NoticeLevel::Warning, &first, text);
                Some(false)
            }
            (count, ..) => {
                if count <= 2 {
                    let text =
                        "no server failure will be tolerated: at least 3 participants are needed for that";
                    self.notice(NoticeLevel::Warning, &first, text);
                } else if count.is_multiple_of(2) {
                    let text = format!(
                        "{count} participants tolerate no more failures than {}: list an odd number",
                        count - 1
                    );
                    self.notice(NoticeLevel::Warning, &first, text);
                }
                Some(true)
            }
        }
    }

    /// Says of each key that only matters to a member what becomes of it.
    fn name_keys_about_ensembles(&mut self, is_member: bool) {
        for (key, at, missing) in std::mem::take(&mut self.ensemble.keys) {
            match missing {
                _ if !is_member => {
                    let text =
                        format!("{key} has no effect: it is about ensembles, and this server stands alone");
                    self.notice(NoticeLevel::Info, &at, text);
                }
                Some(what) => {
                    let text = format!("not supported yet: {what} ({key})");
                    self.notice(NoticeLevel::Warning, &at, text);
                }
                None => {}
            }
        }
    }

    fn finish_member(
        &mut self,
        me: Option<ServerId>,
        listed: Listed,
        version: i64,
        is_listed_in_config_file: bool,
        whole: &Location,
        read_file: ReadFile<'_>,
    ) {
        let draft = std::mem::take(&mut self.ensemble);
        for (required, name) in [
            (&draft.tls, "TLS between servers (sslQuorum)"),
            (&draft.sasl, "SASL between servers (quorum.auth)"),
        ] {
            if let Some(at) = required.clone() {
                let remedy = "remove the line on every server, or keep ZooKeeper's own servers for now";
                self.fail(&at, format!("not supported yet: {name}"), remedy);
            }
        }
        let init_limit = self.limit("initLimit", draft.init_limit, Some("10"), whole);
        let sync_limit = self.limit("syncLimit", draft.sync_limit, Some("5"), whole);
        let connect_limit = draft.connect_limit.filter(|(limit, _)| *limit != 0);
        let connect_limit = self.limit("connectToLearnerMasterLimit", connect_limit, None, whole);
        let Some(me) = me else {
            let problem = format!("there is no file {}", self.my_id_path().display());
            let remedy = "write this server's number into it: the N of its server.N line";
            return self.fail(whole, problem, remedy);
        };
        let Some((own, own_at)) = listed.get(&me) else {
            let problem = format!(
                "server {me}, as {} calls this one, is not listed",
                self.my_id_path().display()
            );
            return self.fail(
                whole,
                problem,
                format!("add a line server.{me}=..., or correct the file"),
            );
        };
        if self.config.znode.extended_types && me.0 > EXTENDED_TYPES_ID_MAX {
            let problem = format!("server {me} has a number above {EXTENDED_TYPES_ID_MAX}");
            self.fail(
                own_at,
                problem,
                "choose a lower one, or remove extendedTypesEnabled",
            );
        }
        let declared_observer = draft
            .peer_type
            .as_ref()
            .is_some_and(|(is_observer, _)| *is_observer);
        if own.is_observer != declared_observer {
            let role = |is_observer| if is_observer { "observer" } else { "participant" };
            let (listed, declared) = (role(own.is_observer), role(declared_observer));
            let at = draft.peer_type.map_or_else(|| own_at.clone(), |(_, at)| at);
            let text = format!("the server list says {listed} and peerType says {declared}: the list counts");
            self.notice(NoticeLevel::Warning, &at, text);
        }
        let first = own_at.clone();
        let servers: BTreeMap<ServerId, Member> =
            listed.into_iter().map(|(id, (member, _))| (id, member)).collect();
        let Some((quorum, groups)) = self.finish_quorum(&servers, &draft.group_lines, &first) else {
            return;
        };
        let (Some(init_limit_ticks), Some(sync_limit_ticks)) = (init_limit, sync_limit) else {
            return;
        };
        let config_file = draft.reconfig.as_ref().map(|at| PathBuf::from(&*at.file));
        let next_configuration = match &config_file {
            Some(file) => match read_next(file, read_file) {
                Ok(next) => next.map(Arc::new),
                Err(problem) => return self.problems.push(problem),
            },
            None => None,
        };
        let defaults = EnsembleConfig::new(me, servers, quorum, &groups, version);
        let interval_min = draft
            .notification_interval_min_ms
            .map_or(defaults.notification_interval_min_ms, u64::from);
        let interval_max = draft
            .notification_interval_max_ms
            .map_or(defaults.notification_interval_max_ms, u64::from);
        self.config.ensemble = Some(EnsembleConfig {
            reconfig_enabled: draft.reconfig.is_some(),
            standalone_enabled: draft.standalone_enabled,
            config_file,
            is_listed_in_config_file,
            next_configuration,
            epoch_wait_max_ms: draft.epoch_wait_max_ms,
            tick_ms: self.config.session.tick_time_ms.into(),
            init_limit_ticks,
            sync_limit_ticks,
            connect_to_leader_limit_ticks: connect_limit.unwrap_or(init_limit_ticks),
            leader_serves: draft.leader_serves,
            election_connect_timeout: draft.connect_timeout.unwrap_or(defaults.election_connect_timeout),
            election_bind_tries_max: match draft.bind_tries {
                None => defaults.election_bind_tries_max,
                Some(tries) => Some(tries).filter(|tries| *tries > 0),
            },
            quorum_listen_on_all_ips: draft.listen_on_all_ips,
            multi_address_enabled: draft.multi_address_enabled,
            tcp_keep_alive: draft.tcp_keep_alive,
            local_sessions_enabled: draft.local_sessions,
            local_sessions_upgrading_enabled: draft.local_sessions_upgrading,
            read_only_mode: self.read_only_mode,
            window_entries_max: draft
                .commit_log_count
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or(defaults.window_entries_max),
            notification_interval_min_ms: interval_min,
            notification_interval_max_ms: interval_max.max(interval_min),
            ..defaults
        });
    }

    /// A number of ticks. Without an `example` it may be missing.
    fn limit(
        &mut self,
        key: &str,
        given: Option<(i32, Location)>,
        example: Option<&str>,
        whole: &Location,
    ) -> Option<u64> {
        let remedy = format!(
            "write a number of ticks, for example {key}={}",
            example.unwrap_or("10")
        );
        match given {
            Some((ticks @ 1.., _)) => Some(u64::from(ticks.unsigned_abs())),
            Some((ticks, at)) => {
                self.fail(&at, format!("{key}={ticks} is not positive"), remedy);
                None
            }
            None => {
                if example.is_some() {
                    self.fail(whole, format!("{key} is not set"), remedy);
                }
                None
            }
        }
    }

    /// How the servers decide: by majority, or by the groups and weights of the file.
    fn finish_quorum(
        &mut self,
        servers: &BTreeMap<ServerId, Member>,
        group_lines: &[OwnedLine],
        at: &Location,
    ) -> Option<(QuorumVerifier, Groups)> {
        let ids = |observers: bool| {
            let chosen = servers
                .iter()
                .filter(move |(_, member)| member.is_observer == observers);
            chosen.map(|(id, _)| *id)
        };
        let mut groups = Groups::default();
        let Some(first_line) = group_lines.first() else {
            return Some((QuorumVerifier::majority(ids(false), ids(true)), groups));
        };
        for line in group_lines {
            let (what, number) = line.key.split_once('.').unwrap_or((&line.key, ""));
            let taken = match what {
                "group" => parse_group(number, &line.value).map(|(group, members)| {
                    groups.servers_of.entry(group).or_default().extend(members);
                }),
                _ => parse_weight(number, &line.value).map(|(server, weight)| {
                    groups.weights.insert(server, weight);
                }),
            };
            if let Err(problem) = taken {
                let remedy = "write group.N=1:2:3 with the numbers of servers, and weight.N=1";
                self.fail(
                    &line.at,
                    format!("{}={}: {problem}", line.key, line.value),
                    remedy,
                );
                return None;
            }
        }
        let strangers: Vec<ServerId> = groups
            .weights
            .keys()
            .filter(|id| servers.get(*id).is_none_or(|member| member.is_observer))
            .copied()
            .collect();
        for stranger in strangers {
            groups.weights.remove(&stranger);
            let text = format!("weight.{stranger} has no effect: server {stranger} is not a participant");
            self.notice(NoticeLevel::Warning, &first_line.at, text);
        }
        let parted: Vec<BTreeSet<ServerId>> = groups
            .servers_of
            .values()
            .map(|members| members.iter().copied().collect())
            .collect();
        match QuorumVerifier::hierarchical(parted, groups.weights.clone(), ids(false), ids(true)) {
            Ok(quorum) => Some((quorum, groups)),
            Err(error) => {
                let remedy = match error {
                    QuorumError::NoWeight => "give some servers a weight",
                    QuorumError::VoterWithoutGroup(_)
                    | QuorumError::ServerInTwoGroups(_)
                    | QuorumError::NotAVoter(_) => "put each participant into exactly one group.N line",
                };
                let at = if first_line.at.file == at.file {
                    &first_line.at
                } else {
                    at
                };
                self.fail(at, error.to_string(), remedy);
                None
            }
        }
    }

    /// The client part of the own server line is the client port; `zoo.cfg` must not say otherwise.
    fn take_client_port_of_server_line(&mut self, host: &str, port: u16, at: &Location) {
        let address = match resolve_host(host) {
            Ok(address) => address,
            Err(error) => {
                let problem = format!("client address {host} of this server cannot be resolved: {error}");
                return self.fail(at, problem, "write an address of this host");
            }
        };
        if let Some((given_port, given_at)) = self.client_port.clone() {
            let given_address = self.config.client.address;
            if given_port != port || (given_address.is_some() && given_address != address) {
                let problem = format!("clientPort contradicts the client part of this server's line ({at})");
                return self.fail(
                    &given_at,
                    problem,
                    "remove clientPort and clientPortAddress, or make them agree",
                );
            }
        }
        self.config.client.address = address;
        self.config.client.port = port;
        self.client_port = Some((port, at.clone()));
    }

    fn my_id_path(&self) -> PathBuf {
        self.config.storage.data_dir.join("myid")
    }

    /// The number in `dataDir/myid`, if there is such a file.
    fn read_my_id(&self, read_file: ReadFile<'_>) -> Result<Option<ServerId>, ConfigError> {
        if self.config.storage.data_dir.as_os_str().is_empty() {
            return Ok(None);
        }
        let path = self.my_id_path();
        let at = Location {
            file: path.to_string_lossy().into(),
            line: Some(1),
        };
        let bytes = match read_file(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) => {
                return Err(ConfigError::new(
                    &at,
                    format!("cannot be read: {error}"),
                    "make it readable",
                ));
            }
        };
        let text = String::from_utf8_lossy(&bytes);
        let first_line = text.lines().next().unwrap_or("").trim();
        first_line.parse().map(|id| Some(ServerId(id))).map_err(|_| {
            let shown: String = first_line.chars().take(40).collect();
            ConfigError::new(
                &at,
                format!("`{shown}` is not a server number"),
                "write this server's number, or remove the file if it stands alone",
            )
        })
    }

    /// Takes the server list from the file that `dynamicConfigFile` names. Nothing else may stand in it.
    fn read_dynamic_file(
        &mut self,
        name: &str,
        at: &Location,
        read_file: ReadFile<'_>,
    ) -> Result<(), Vec<ConfigError>> {
        let (file, raw) = match read_properties(name, read_file) {
            Ok(read) => read,
            Err(mut problem) if problem.at.line.is_none() => {
                problem.problem = format!("dynamicConfigFile={name} {}", problem.problem);
                problem.at = at.clone();
                return Err(vec![problem]);
            }
            Err(problem) => return Err(vec![problem]),
        };
        let is_membership = |key: &str| {
            ["server.", "group", "weight"]
                .iter()
                .any(|stem| key.starts_with(stem))
        };
        let strangers: Vec<ConfigError> = raw
            .entries
            .iter()
            .filter(|entry| !is_membership(&entry.key))
            .map(|entry| {
                let at = Location {
                    file: Arc::clone(&file),
                    line: Some(entry.line),
                };
                let problem = format!("{} does not belong into a dynamic configuration file", entry.key);
                ConfigError::new(&at, problem, "leave only server., group. and weight. lines in it")
            })
            .collect();
        if !strangers.is_empty() {
            return Err(strangers);
        }
        self.apply_all(&file, &raw);
        Ok(())
    }
}

/// The version that the name of a dynamic configuration file ends with, 0 if with none.
fn version_in_name(name: &str) -> i64 {
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    i64::from_str_radix(end, 16).unwrap_or(0)
}

/// The configuration that was proposed and is not known to be committed, if there is one.
fn read_next(config_file: &Path, read_file: ReadFile<'_>) -> Result<Option<Configuration>, ConfigError> {
    let mut name = config_file.to_owned().into_os_string();
    name.push(NEXT_SUFFIX);
    let file = PathBuf::from(name);
    let problem = |what: String| {
        let at = Location::whole(&file.to_string_lossy());
        ConfigError::new(&at, what, "remove the file if no reconfig was under way")
    };
    match read_file(&file) {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => read_configuration(&bytes).map_err(problem),
        Err(error) => Err(problem(format!("cannot be read: {error}"))),
    }
}
