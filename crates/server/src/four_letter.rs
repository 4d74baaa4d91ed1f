//! Four-letter words: short questions to a server on its client port (operations spec, sections 6 and 7). The
//! answers are parsed by tools, so their form is frozen.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use oxkeeper_core::membership::configuration_text;
use oxkeeper_core::{Client, ServerCore, Standing};
use oxkeeper_types::SessionId;
use oxkeeper_zab::LearnerView;
use tokio::sync::oneshot;

use crate::config::{FOUR_LETTER_WORDS, PeerAddress};
use crate::service::Service;

/// What `srvr` and its like show: the level of ZooKeeper that this server is compatible with, then who it really is.
pub(crate) const VERSION: &str = concat!(
    "3.9.6-oxkeeper-",
    env!("CARGO_PKG_VERSION"),
    ", built on 2026-11-21 00:00 UTC"
);

/// What a telnet client sends when it is interrupted: hang up.
const TELNET_CLOSE: [u8; 4] = [0xff, 0xf4, 0xff, 0xfd];

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// What a server answers that serves no clients at the moment.
const ALWAYS_ANSWERED: [&str; 4] = ["ruok", "envi", "gtmk", "stmk"];

/// A word that was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Named(&'static str),
    SetTraceMask(i64),
    TelnetClose,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WordRequest {
    /// A word whose argument has not arrived yet.
    Incomplete,
    Word(Word),
}

/// The word that `input` (at least four bytes) begins with, or `None` when it begins with a frame.
pub(crate) fn recognise(input: &[u8]) -> Option<WordRequest> {
    let (first, rest) = input.split_first_chunk::<4>()?;
    if *first == TELNET_CLOSE {
        return Some(WordRequest::Word(Word::TelnetClose));
    }
    let name = FOUR_LETTER_WORDS.iter().find(|word| word.as_bytes() == first)?;
    if *name == "stmk" {
        return Some(match rest.first_chunk::<8>() {
            Some(mask) => WordRequest::Word(Word::SetTraceMask(i64::from_be_bytes(*mask))),
            None => WordRequest::Incomplete,
        });
    }
    Some(WordRequest::Word(Word::Named(name)))
}

/// The answer to a word.
pub(crate) async fn answer(word: Word, service: &Service) -> String {
    service.shared.stats.requests.count_received(1);
    let name = match word {
        Word::Named(name) => name,
        Word::SetTraceMask(_) => "stmk",
        Word::TelnetClose => return String::new(),
    };
    if !service.config.four_letter.is_allowed(name) {
        return format!("{name} is not executed because it is not in the whitelist.\n");
    }
    if !service.serves_clients() && !ALWAYS_ANSWERED.contains(&name) {
        return match name {
            "isro" => "null".to_owned(),
            "hash" => NOT_SERVING.trim_end().to_owned(),
            _ => NOT_SERVING.to_owned(),
        };
    }
    match name {
        "ruok" => "imok".to_owned(),
        "isro" => match service.view.standing() {
            Standing::ReadOnly => "ro".to_owned(),
            _ => "rw".to_owned(),
        },
        "gtmk" => service.trace_mask.load(Relaxed).to_string(),
        "stmk" => {
            if let Word::SetTraceMask(mask) = word {
                service.trace_mask.store(mask, Relaxed);
            }
            service.trace_mask.load(Relaxed).to_string()
        }
        "srvr" => format!("{}{}", version_lines(service), server_lines(service)),
        "stat" => stat(service),
        "cons" => {
            service
                .registry
                .clients()
                .iter()
                .map(|client| full_line(client, service))
                .collect::<String>()
                + "\n"
        }
        "crst" => {
            for client in service.registry.clients() {
                client.stats.reset();
            }
            "Connection stats reset.\n".to_owned()
        }
        "srst" => {
            service.shared.stats.reset();
            service.view.reset();
            "Server stats reset.\n".to_owned()
        }
        "dirs" => format!(
            "datadir_size: {}\nlogdir_size: {}\n",
            directory_bytes(&service.config.storage.snapshot_dir()),
            directory_bytes(&service.config.storage.txn_log_dir()),
        ),
        "conf" => conf(service),
        "envi" => environment(),
        "dump" => dump(service).await,
        "wchs" => {
            let sets = service.shared.replica.read().watch_sets();
            format!(
                "{} connections watching {} paths\nTotal watches:{}\n",
                sets.connections, sets.paths, sets.watches
            )
        }
        "wchc" => {
            let mut by_session: BTreeMap<SessionId, Vec<String>> = BTreeMap::new();
            for (session, path) in service.shared.replica.read().watch_sets().pairs {
                by_session.entry(session).or_default().push(path);
            }
            grouped(
                by_session
                    .into_iter()
                    .map(|(session, paths)| (session.to_string(), paths)),
            )
        }
        "wchp" => {
            let mut by_path: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (session, path) in service.shared.replica.read().watch_sets().pairs {
                by_path.entry(path).or_default().push(session.to_string());
            }
            grouped(by_path.into_iter())
        }
        "mntr" => monitor(service).await,
        "hash" => {
            service
                .shared
                .replica
                .read()
                .digest_history()
                .fold(String::new(), |mut text, (zxid, digest)| {
                    let _ = writeln!(text, "{zxid:x}: {digest}");
                    text
                })
        }
        _ => NOT_SERVING.to_owned(),
    }
}

/// What the server is, in the words of `srvr` and `mntr`.
fn mode(service: &Service) -> &'static str {
    match service.view.standing() {
        Standing::Standalone => "standalone",
        Standing::Looking => "looking",
        Standing::Leading => "leader",
        Standing::Following => "follower",
        Standing::Observing => "observer",
        Standing::ReadOnly => "read-only",
    }
}

/// Groups of `head` lines, each with its indented lines, and an empty line at the end.
fn grouped(groups: impl Iterator<Item = (String, Vec<String>)>) -> String {
    let mut text = String::new();
    for (head, lines) in groups {
        text.push_str(&head);
        text.push('\n');
        for line in lines {
            text.push('\t');
            text.push_str(&line);
            text.push('\n');
        }
    }
    text.push('\n');
    text
}

/// A number with up to four decimal places and at least one, as Java shows it.
fn decimal(value: f64) -> String {
    let text = format!("{value:.4}");
    let trimmed = text.trim_end_matches('0');
    match trimmed.ends_with('.') {
        true => format!("{trimmed}0"),
        false => trimmed.to_owned(),
    }
}

fn version_lines(service: &Service) -> String {
    let read_only = match service.view.standing() {
        Standing::ReadOnly => "READ-ONLY mode; serving only read-only clients\n",
        _ => "",
    };
    format!("Zookeeper version: {VERSION}\n{read_only}")
}

fn server_lines(service: &Service) -> String {
    let requests = &service.shared.stats.requests;
    let replica = service.shared.replica.read();
    let mut text = format!(
        "Latency min/avg/max: {}/{}/{}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: {}\nMode: {}\nNode count: {}\n",
        requests.latency_ms_min(),
        decimal(requests.latency_ms_average()),
        requests.latency_ms_max(),
        requests.received(),
        requests.sent(),
        service.registry.count(),
        service.shared.outstanding.load(Relaxed),
        replica.last_processed,
        mode(service),
        replica.tree.znode_count(),
    );
    if service.view.standing() == Standing::Leading {
        let _ = writeln!(
            text,
            "Proposal sizes last/min/max: {}/{}/{}",
            service.view.proposal_bytes_last.load(Relaxed),
            service.view.proposal_bytes_min.load(Relaxed),
            service.view.proposal_bytes_max.load(Relaxed),
        );
    }
    text
}

fn stat(service: &Service) -> String {
    let clients: String = service
        .registry
        .clients()
        .iter()
        .map(|client| brief_line(client) + ")\n")
        .collect();
    format!(
        "{}Clients:\n{clients}\n{}",
        version_lines(service),
        server_lines(service)
    )
}

/// An address as Java shows it: `/127.0.0.1:2181`, and IPv6 in full length.
fn java_address(address: SocketAddr) -> String {
    match address.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => format!("/{ip}:{}", address.port()),
        std::net::IpAddr::V6(ip) => {
            let groups: Vec<String> = ip.segments().iter().map(|group| format!("{group:x}")).collect();
            format!("/[{}]:{}", groups.join(":"), address.port())
        }
    }
}

fn brief_line(client: &Client) -> String {
    let interest = if client.session().is_some() { 1 } else { 0 };
    let requests = &client.stats.requests;
    format!(
        " {}[{interest}](queued={},recved={},sent={}",
        java_address(client.peer),
        client.stats.queued.load(Relaxed),
        requests.received(),
        requests.sent(),
    )
}

fn full_line(client: &Client, service: &Service) -> String {
    let mut line = brief_line(client);
    if let Some((session, timeout_ms)) = client.session() {
        let (stats, now) = (&client.stats, service.clock.now());
        let age_ms = i64::try_from(now.monotonic_ms.saturating_sub(client.established_ms)).unwrap_or(0);
        let _ = write!(
            line,
            ",sid={},lop={},est={},to={timeout_ms}",
            session.id,
            stats.last_op(),
            now.wall_ms - age_ms
        );
        let cxid = stats.last_cxid.load(Relaxed);
        if cxid >= 0 {
            let _ = write!(line, ",lcxid=0x{cxid:x}");
        }
        let _ = write!(
            line,
            ",lzxid=0x{:x},lresp={},llat={},minlat={},avglat={},maxlat={}",
            stats.last_zxid.load(Relaxed),
            stats.last_response_ms.load(Relaxed),
            stats.last_latency_ms.load(Relaxed),
            stats.requests.latency_ms_min(),
            stats.requests.latency_ms_average().floor(),
            stats.requests.latency_ms_max(),
        );
    }
    line + ")\n"
}

/// Bytes of the files in a directory and below; what cannot be read counts nothing.
fn directory_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn conf(service: &Service) -> String {
    let config = &service.config;
    let (snapshots, logs) = (config.storage.snapshot_dir(), config.storage.txn_log_dir());
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .unwrap_or_else(|_| path.to_owned())
            .display()
            .to_string()
    };
    let server_id = (config.ensemble.as_ref()).map_or(0, |ensemble| ensemble.me.0);
    let mut text = format!(
        "clientPort={}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\ntickTime={}\n\
         maxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog={}\nserverId={server_id}\n",
        service.address.port(),
        absolute(&snapshots),
        directory_bytes(&snapshots),
        absolute(&logs),
        directory_bytes(&logs),
        config.session.tick_time_ms,
        config.limits.connections_per_address_max.unwrap_or(0),
        config.session.timeout_ms_min,
        config.session.timeout_ms_max,
        config.client.backlog.map_or(-1, i64::from),
    );
    if let Some(ensemble) = &config.ensemble {
        let own = ensemble.own();
        let configuration = service.view.configuration();
        let observes = configuration.as_ref().map_or(own.is_observer, |known| {
            !known.quorum.is_voter(ensemble.me) && known.quorum.observers().contains(&ensemble.me)
        });
        let list = configuration.as_deref().map(configuration_text);
        let ports = |port: fn(&PeerAddress) -> u16| {
            let ports: Vec<String> = own.addresses.iter().map(|of| port(of).to_string()).collect();
            ports.join("|")
        };
        let _ = write!(
            text,
            "initLimit={}\nsyncLimit={}\nelectionAlg=3\nelectionPort={}\nquorumPort={}\npeerType={}\nmembership: \n{}",
            ensemble.init_limit_ticks,
            ensemble.sync_limit_ticks,
            ports(|of| of.election_port),
            ports(|of| of.quorum_port),
            i32::from(observes),
            list.as_deref().unwrap_or(&ensemble.config_text),
        );
    }
    text
}

/// The environment. Tools look at the version and the os; what only a JVM has gets a neutral value.
fn environment() -> String {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "unknown".to_owned());
    let read = |path: &str| {
        std::fs::read_to_string(path).map_or("unknown".to_owned(), |text| text.trim().to_owned())
    };
    let user_dir = std::env::current_dir().map_or("unknown".to_owned(), |dir| dir.display().to_string());
    let megabytes = |key: &str| {
        let kilobytes = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with(key))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
        kilobytes.unwrap_or(0) / 1024
    };
    let os_name = match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Mac OS X",
        other => other,
    };
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        other => other,
    };
    format!(
        "Environment:\nzookeeper.version={VERSION}\nhost.name={}\njava.version=none\njava.vendor=none\njava.home=none\n\
         java.class.path=none\njava.library.path=none\njava.io.tmpdir={}\njava.compiler=none\nos.name={os_name}\n\
         os.arch={architecture}\nos.version={}\nuser.name={}\nuser.home={}\nuser.dir={user_dir}\n\
         os.memory.free={}MB\nos.memory.max={}MB\nos.memory.total={}MB\n",
        read("/proc/sys/kernel/hostname"),
        std::env::temp_dir().display(),
        read("/proc/sys/kernel/osrelease"),
        variable("USER"),
        variable("HOME"),
        megabytes("MemAvailable:"),
        megabytes("MemTotal:"),
        megabytes("MemTotal:"),
    )
}

/// What the core shows; `None` when the server stops.
async fn look<T: Send + 'static>(
    service: &Service,
    see: impl FnOnce(&ServerCore) -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    service.core.inspect(move |core| {
        // Whoever asked may have hung up.
        let _gone = sender.send(see(core));
    });
    receiver.await.ok()
}

async fn dump(service: &Service) -> String {
    let now = service.clock.now();
    let mut text = "SessionTracker dump:\n".to_owned();
    if let Standing::Following | Standing::Observing = service.view.standing() {
        // The leader knows when they expire.
        let sessions = service.shared.replica.read().sessions.clone();
        let _ = writeln!(text, "Global Sessions({}):", sessions.len());
        for (id, timeout_ms) in sessions {
            let _ = writeln!(text, "{id}\t{timeout_ms}ms");
        }
    } else {
        let Some(sessions) = look(service, |core| core.sessions().by_expiry()).await else {
            return NOT_SERVING.to_owned();
        };
        let _ = writeln!(
            text,
            "Session Sets ({})/({}):",
            sessions.len(),
            sessions
                .values()
                .map(std::collections::BTreeSet::len)
                .sum::<usize>()
        );
        for (due_ms, ids) in &sessions {
            let _ = writeln!(
                text,
                "{} expire at {}:",
                ids.len(),
                java_date(wall_of(*due_ms, now))
            );
            for id in ids {
                let _ = writeln!(text, "\t{id}");
            }
        }
    }
    let replica = service.shared.replica.read();
    let owners: BTreeMap<SessionId, Vec<String>> = replica
        .tree
        .sessions_with_ephemerals()
        .map(|(session, _)| (session, replica.tree.ephemerals_of(session)))
        .collect();
    drop(replica);
    let _ = writeln!(
        text,
        "ephemeral nodes dump:\nSessions with Ephemerals ({}):",
        owners.len()
    );
    for (session, paths) in owners {
        let _ = writeln!(text, "{session}:");
        for path in paths {
            let _ = writeln!(text, "\t{path}");
        }
    }
    text + &connections_dump(service)
}

/// The connections by the moment at which they would be closed if nothing more were heard.
fn connections_dump(service: &Service) -> String {
    let now = service.clock.now();
    let tick = u64::from(service.config.session.tick_time_ms).max(1);
    let mut sets: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for client in service.registry.clients() {
        let (session, timeout_ms) = match client.session() {
            Some((session, timeout_ms)) => (session.id, u64::try_from(timeout_ms).unwrap_or(0)),
            None => (
                SessionId::NONE,
                crate::clock::millis(service.config.client.sessionless_timeout),
            ),
        };
        let heard_ms = client
            .stats
            .last_response_ms
            .load(Relaxed)
            .max(client.established_ms);
        let due_ms = ((heard_ms + timeout_ms) / tick + 1) * tick;
        let line = format!("\tip: {} sessionId: {session}\n", java_address(client.peer));
        sets.entry(due_ms).or_default().push(line);
    }
    let mut text = format!(
        "Connections dump:\nConnections Sets ({})/({}):\n",
        sets.len(),
        sets.values().map(Vec::len).sum::<usize>()
    );
    for (due_ms, lines) in sets {
        let _ = writeln!(
            text,
            "{} expire at {}:",
            lines.len(),
            java_date(wall_of(due_ms, now))
        );
        text.extend(lines);
    }
    text
}

fn wall_of(monotonic_ms: u64, now: oxkeeper_core::Now) -> i64 {
    let ahead = i64::try_from(monotonic_ms).unwrap_or(0) - i64::try_from(now.monotonic_ms).unwrap_or(0);
    now.wall_ms + ahead
}

/// A moment as Java's `Date` shows it, in UTC.
fn java_date(wall_ms: i64) -> String {
    use time::macros::format_description;
    let format = format_description!(
        "[weekday repr:short] [month repr:short] [day] [hour]:[minute]:[second] UTC [year]"
    );
    time::OffsetDateTime::from_unix_timestamp(wall_ms.div_euclid(1000))
        .ok()
        .and_then(|moment| moment.format(format).ok())
        .unwrap_or_else(|| wall_ms.to_string())
}

async fn monitor(service: &Service) -> String {
    let consensus = look(service, |core| {
        let consensus = core.consensus()?;
        let learners: Vec<LearnerView> = consensus.learners().collect();
        Some((consensus.peer_state(), learners, core.pending_syncs()))
    });
    let (peer_state, learners, pending_syncs) = consensus.await.flatten().unwrap_or_default();
    let standing = service.view.standing();
    let serving_ms =
        (service.clock.now().monotonic_ms).saturating_sub(service.view.serving_since_ms.load(Relaxed));
    let stats = &service.shared.stats;
    let requests = &stats.requests;
    let mut text = String::new();
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "zk_{key}\t{value}");
    };
    line("version", &VERSION);
    line("server_state", &mode(service));
    if let Some(ensemble) = &service.config.ensemble {
        line("peer_state", &peer_state);
        let configuration = service.view.configuration();
        let quorum = configuration
            .as_deref()
            .map_or(&ensemble.quorum, |known| &known.quorum);
        line("quorum_size", &quorum.voters().len());
    }
    if standing == Standing::Observing {
        line("observer_master_id", &service.view.leader.load(Relaxed));
    }
    if standing == Standing::Leading {
        let synced = |of: fn(&LearnerView) -> bool| {
            let synced = learners.iter().filter(|learner| learner.is_synced && of(learner));
            synced.count()
        };
        line("learners", &learners.len());
        line("synced_followers", &synced(|of| of.is_voter));
        let non_voting = synced(|of| !of.is_voter && !of.is_observer);
        line("synced_non_voting_followers", &non_voting);
        line("synced_observers", &synced(|of| of.is_observer));
        line("pending_syncs", &pending_syncs);
        line("leader_uptime", &serving_ms);
        let sizes = &service.view;
        line("last_proposal_size", &sizes.proposal_bytes_last.load(Relaxed));
        line("min_proposal_size", &sizes.proposal_bytes_min.load(Relaxed));
        line("max_proposal_size", &sizes.proposal_bytes_max.load(Relaxed));
    }
    {
        let replica = service.shared.replica.read();
        line("ephemerals_count", &replica.tree.ephemerals_count());
        line("znode_count", &replica.tree.znode_count());
        line("approximate_data_size", &replica.tree.approximate_data_size());
        line("watch_count", &replica.watch_count());
        line("global_sessions", &replica.sessions.len());
    }
    line("local_sessions", &0);
    line("avg_latency", &decimal(requests.latency_ms_average()));
    line("min_latency", &requests.latency_ms_min());
    line("max_latency", &requests.latency_ms_max());
    line("packets_received", &requests.received());
    line("packets_sent", &requests.sent());
    line("num_alive_connections", &service.registry.count());
    line("outstanding_requests", &service.shared.outstanding.load(Relaxed));
    line("uptime", &serving_ms);
    let (open, max) = file_descriptors();
    line("open_file_descriptor_count", &open);
    line("max_file_descriptor_count", &max);
    line(
        "connection_drop_probability",
        &decimal(service.connection_drop_probability()),
    );
    line(
        "last_client_response_size",
        &stats.response_bytes_last.load(Relaxed),
    );
    line(
        "min_client_response_size",
        &stats.response_bytes_min.load(Relaxed),
    );
    line(
        "max_client_response_size",
        &stats.response_bytes_max.load(Relaxed),
    );
    line("outstanding_tls_handshake", &0);
    line("auth_failed_count", &stats.auth_failed.load(Relaxed));
    line("non_mtls_remote_conn_count", &0);
    line("non_mtls_local_conn_count", &0);
    line("digest_mismatches_count", &stats.digest_mismatches.load(Relaxed));
    line(
        "fsync_threshold_exceed_count",
        &service.disk_stats.slow_syncs.load(Relaxed),
    );
    line("snap_count", &service.disk_stats.snapshots.load(Relaxed));
    line("oxkeeper_malformed_input_count", &stats.malformed.load(Relaxed));
    line("connection_rejected", &service.connections_rejected.load(Relaxed));
    text
}

/// Open file descriptors and their limit; -1 when the system does not say.
fn file_descriptors() -> (i64, i64) {
    let open =
        std::fs::read_dir("/proc/self/fd").map_or(-1, |entries| i64::try_from(entries.count()).unwrap_or(-1));
    let max = std::fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|limits| {
            let line = limits
                .lines()
                .find(|line| line.starts_with("Max open files"))?
                .to_owned();
            line.split_whitespace().nth(3)?.parse().ok()
        });
    (open, max.unwrap_or(-1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_frames() {
        assert_eq!(recognise(b"ruok"), Some(WordRequest::Word(Word::Named("ruok"))));
        assert_eq!(recognise(b"srvr\n"), Some(WordRequest::Word(Word::Named("srvr"))));
        assert_eq!(
            recognise(&TELNET_CLOSE),
            Some(WordRequest::Word(Word::TelnetClose))
        );
        assert_eq!(recognise(&[0, 0, 0, 45, 0]), None);
        assert_eq!(recognise(b"nope"), None);
    }

    #[test]
    fn stmk_waits_for_its_mask() {
        assert_eq!(recognise(b"stmk\0\0"), Some(WordRequest::Incomplete));
        let set = recognise(b"stmk\0\0\0\0\0\0\0\x07");
        assert_eq!(set, Some(WordRequest::Word(Word::SetTraceMask(7))));
    }

    #[test]
    fn numbers_and_dates_look_as_in_java() {
        assert_eq!(decimal(0.0), "0.0");
        assert_eq!(decimal(1.0 / 3.0), "0.3333");
        assert_eq!(decimal(2.5), "2.5");
        assert_eq!(java_date(1_795_225_415_000), "Sat Nov 21 01:43:35 UTC 2026");
        assert_eq!(java_address("[::1]:7".parse().unwrap()), "/[0:0:0:0:0:0:0:1]:7");
        assert_eq!(
            java_address("[::ffff:10.0.0.1]:7".parse().unwrap()),
            "/10.0.0.1:7"
        );
    }
}
