//! The settings of one server, grouped by what they are about. Plain values: whoever gets a [`ServerConfig`] has
//! everything, and two servers with different settings fit in one process.
//!
//! Every `Default` is ZooKeeper 3.9's default. What ZooKeeper spells as a magic number (0 or -1 for "no limit" or
//! "off") is an `Option` here. Names follow the meaning; the ZooKeeper key stands in each field's description.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ensemble::EnsembleConfig;

/// Everything one server needs to know before it starts. Made by [`super::load_file`] and its siblings, which
/// check it; a test may also fill it by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Where clients connect.
    pub client: ClientPortConfig,
    /// Directories, transaction log, snapshots, purge.
    pub storage: StorageConfig,
    /// Time and sessions.
    pub session: SessionConfig,
    /// What a client or all clients together may take.
    pub limits: LimitsConfig,
    /// What znodes there are and what is watched over in the background.
    pub znode: ZnodeConfig,
    /// Who may do what.
    pub auth: AuthConfig,
    /// Which four-letter words are answered.
    pub four_letter: FourLetterConfig,
    /// The ensemble of which this server is a member. `None`: it stands alone.
    pub ensemble: Option<EnsembleConfig>,
}

impl ServerConfig {
    /// ZooKeeper's defaults for a server that keeps everything under `data_dir` and listens on `port` of every
    /// interface.
    pub fn new(data_dir: impl Into<PathBuf>, port: u16) -> ServerConfig {
        ServerConfig {
            client: ClientPortConfig {
                port,
                ..ClientPortConfig::default()
            },
            storage: StorageConfig::new(data_dir),
            session: SessionConfig::default(),
            limits: LimitsConfig::default(),
            znode: ZnodeConfig::default(),
            auth: AuthConfig::default(),
            four_letter: FourLetterConfig::default(),
            ensemble: None,
        }
    }

    /// What `oxkeeper serve` runs without any configuration: `127.0.0.1:2181`, data in `./oxkeeper-data`.
    /// Only this host can connect, so more four-letter words are answered than ZooKeeper answers by default.
    pub fn embedded() -> ServerConfig {
        let mut config = ServerConfig::new("oxkeeper-data", 2181);
        config.client.address = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        config.four_letter = FourLetterConfig::only(["srvr", "ruok", "mntr", "stat", "conf", "isro"]);
        config
    }
}

/// The listening socket of the client protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPortConfig {
    /// `clientPortAddress`: the interface to bind. `None` (default): every interface, IPv6 and IPv4.
    pub address: Option<IpAddr>,
    /// `clientPort`: TCP port; 0 takes any free one. Default 2181, though a `zoo.cfg` must name it.
    pub port: u16,
    /// `clientPortListenBacklog`: connections the kernel holds until they are accepted. `None` (default): 1024.
    pub backlog: Option<u32>,
    /// `clientTcpKeepAlive`: SO_KEEPALIVE on accepted sockets. Default false.
    pub tcp_keep_alive: bool,
    /// `nio.sessionlessCnxnTimeout`: how long a connection may stay without a session. Default 10 s.
    pub sessionless_timeout: Duration,
}

impl Default for ClientPortConfig {
    fn default() -> Self {
        ClientPortConfig {
            address: None,
            port: 2181,
            backlog: None,
            tcp_keep_alive: false,
            sessionless_timeout: Duration::from_secs(10),
        }
    }
}

/// How new snapshots are written (`snapshot.compression.method`). Reading looks at the file's name instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotCompression {
    /// Plain, the default.
    #[default]
    None,
    /// `gz`: gzip, file suffix `.gz`.
    Gzip,
    /// `snappy`: snappy-java's stream framing, file suffix `.snappy`.
    Snappy,
}

/// What is on disk, and when it is written, synced and thrown away.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageConfig {
    /// `dataDir`: snapshots are in its `version-2`, `myid` beside that.
    pub data_dir: PathBuf,
    /// `dataLogDir`: transaction logs are in its `version-2`. Default: `dataDir`.
    pub log_dir: PathBuf,
    /// `datadir.autocreate`: create missing `version-2` directories. Default true; false makes them an error.
    pub create_directories: bool,
    /// `db.autocreate`: start with an empty tree when there is no snapshot and no log. Default true.
    pub create_database: bool,
    /// `snapshot.trust.empty`: accept logs without any snapshot. Default false.
    pub trust_empty_snapshot: bool,
    /// `snapshot.compression.method`. Default none.
    pub snapshot_compression: SnapshotCompression,
    /// `serializeLastProcessedZxid.enabled`: append the last processed zxid to snapshots. Default true.
    pub serialize_last_processed_zxid: bool,
    /// `digest.enabled`: keep the digest of the tree, write it to txns and snapshots, check it. Default true.
    pub tree_digest: bool,
    /// `snapCount`: txns between snapshots, randomised down to half of it. At least 2. Default 100000.
    pub snap_count: u32,
    /// `snapSizeLimitInKb`, in bytes: log bytes between snapshots, randomised down to half. `None`: no such
    /// limit. Default 4 GiB.
    pub snap_size_limit_bytes: Option<u64>,
    /// `txnLogSizeLimitInKb`, in bytes: a log file larger than this after a commit is ended. Default none.
    pub log_size_limit_bytes: Option<u64>,
    /// `preAllocSize`, in bytes: step by which log files are extended ahead of writing. `None`: not at all.
    /// Default 64 MiB.
    pub log_preallocation_bytes: Option<u64>,
    /// `forceSync`: sync the log before a write is acknowledged. Default true. False loses acknowledged writes
    /// when the machine (not only the process) dies.
    pub force_sync: bool,
    /// Whether anything is synced at all; no key of `zoo.cfg`. Default true. False is for tests: when the machine dies,
    /// anything may be left of the directory.
    pub sync_files: bool,
    /// `fsync.warningthresholdms`: a longer sync is logged and counted. Default 1 s.
    pub sync_warning_threshold: Duration,
    /// `flushDelay`: how long a sync may be put off to gather more txns. Default zero: sync when nothing waits.
    pub flush_delay: Duration,
    /// `maxWriteQueuePollTime`: how long to wait for the next txn before a sync that may be put off. Default: a
    /// third of `flush_delay`.
    pub write_queue_poll_time_max: Duration,
    /// `maxBatchSize`: requests after which a sync is not put off any longer. `None`: no such limit.
    /// Default 1000.
    pub batch_size_max: Option<u32>,
    /// `autopurge.snapRetainCount`: snapshots a purge keeps, with the logs they need. At least 3. Default 3.
    pub snapshots_retained: u32,
    /// `autopurge.purgeInterval` (hours in `zoo.cfg`): time between purges, the first at start. `None`: never.
    /// Default never.
    pub purge_interval: Option<Duration>,
}

impl StorageConfig {
    /// ZooKeeper's defaults with snapshots and logs under `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> StorageConfig {
        let data_dir = data_dir.into();
        StorageConfig {
            log_dir: data_dir.clone(),
            data_dir,
            create_directories: true,
            create_database: true,
            trust_empty_snapshot: false,
            snapshot_compression: SnapshotCompression::None,
            serialize_last_processed_zxid: true,
            tree_digest: true,
            snap_count: 100_000,
            snap_size_limit_bytes: Some(4_194_304 * 1024),
            log_size_limit_bytes: None,
            log_preallocation_bytes: Some(65_536 * 1024),
            force_sync: true,
            sync_files: true,
            sync_warning_threshold: Duration::from_secs(1),
            flush_delay: Duration::ZERO,
            write_queue_poll_time_max: Duration::ZERO,
            batch_size_max: Some(1000),
            snapshots_retained: 3,
            purge_interval: None,
        }
    }

    /// `dataDir/version-2`: the directory of snapshots and epoch files.
    pub fn snapshot_dir(&self) -> PathBuf {
        self.data_dir.join("version-2")
    }

    /// `dataLogDir/version-2`: the directory of transaction logs.
    pub fn txn_log_dir(&self) -> PathBuf {
        self.log_dir.join("version-2")
    }

    /// Whether anything is kept below `dir`.
    pub fn is_in(&self, dir: &Path) -> bool {
        self.data_dir.starts_with(dir) || self.log_dir.starts_with(dir)
    }

    /// Whether snapshots and logs share one directory.
    pub fn is_one_directory(&self) -> bool {
        let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        canonical(&self.data_dir) == canonical(&self.log_dir)
    }
}

/// Time and sessions. Milliseconds as whole numbers, because they travel in the protocol that way; all fit in an
/// `i32`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// `tickTime`: the unit of time in milliseconds; sessions expire in steps of it. At least 1. Default 3000.
    pub tick_time_ms: u32,
    /// `minSessionTimeout`: the shortest timeout a client gets, in milliseconds. Default 2 × `tickTime`.
    pub timeout_ms_min: u32,
    /// `maxSessionTimeout`: the longest timeout a client gets, in milliseconds. Default 20 × `tickTime`.
    pub timeout_ms_max: u32,
    /// `closeSessionTxn.enabled`: list the ephemerals to delete in the closeSession txn. Default true.
    pub close_session_txn: bool,
}

impl Default for SessionConfig {
    fn default() -> Self {
        SessionConfig {
            tick_time_ms: 3000,
            timeout_ms_min: 6000,
            timeout_ms_max: 60_000,
            close_session_txn: true,
        }
    }
}

/// Bounds on what clients may take, and what happens beyond them.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// `maxClientCnxns`: connections from one address; one more is closed at once. `None`: no limit. Default 60.
    pub connections_per_address_max: Option<u32>,
    /// `maxCnxns`: connections in all; one more is closed at once. `None` (default): no limit.
    pub connections_max: Option<u32>,
    /// `globalOutstandingLimit`: requests in the works; above it, connections with unanswered requests are not
    /// read. Default 1000.
    pub outstanding_requests_max: u32,
    /// `jute.maxbuffer`: largest frame from a client in bytes; a larger one closes the connection. At least 64.
    /// Default 1048575.
    pub frame_bytes_max: u32,
    /// `jute.maxbuffer.extrasize`: bytes beyond `frame_bytes_max` a record read from disk or a peer may have. At
    /// least 1024. Default: as `frame_bytes_max`.
    pub record_extra_bytes: u32,
    /// `largeRequestThreshold`: a frame longer than this many bytes counts as large. `None` (default): none does.
    pub large_request_threshold_bytes: Option<u32>,
    /// `largeRequestMaxBytes`: bytes of large requests in the works; one more closes its connection.
    /// Default 100 MiB.
    pub large_requests_bytes_max: u32,
    /// The request throttle.
    pub request_throttle: RequestThrottleConfig,
    /// `throttled_op_wait_time`: a request that waited longer is answered "throttled op". `None` (default): never.
    pub throttled_op_wait: Option<Duration>,
    /// The `connection_throttle_*` family. `None` (default): new sessions are not throttled.
    pub connection_throttle: Option<ConnectionThrottleConfig>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig {
            connections_per_address_max: Some(60),
            connections_max: None,
            outstanding_requests_max: 1000,
            frame_bytes_max: 0xfffff,
            record_extra_bytes: 0xfffff,
            large_request_threshold_bytes: None,
            large_requests_bytes_max: 100 * 1024 * 1024,
            request_throttle: RequestThrottleConfig::default(),
            throttled_op_wait: None,
            connection_throttle: None,
        }
    }
}

/// How many requests are let in. Those over the limit stay unread in their connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestThrottleConfig {
    /// `request_throttle_max_requests`: requests in the works at a time. `None` (default): no limit.
    pub requests_max: Option<u32>,
}

/// A token bucket for new sessions with random early drop (ZooKeeper's `BlueThrottle`). Weights are resolved:
/// where they are off, each session costs one token.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionThrottleConfig {
    /// `connection_throttle_tokens` (times the global weight): tokens in a full bucket.
    pub tokens_max: u32,
    /// `connection_throttle_fill_time`: every so often `fill_count` tokens are added. Default 1 ms.
    pub fill_time: Duration,
    /// `connection_throttle_fill_count` (times the global weight). Default 1.
    pub fill_count: u32,
    /// `connection_throttle_freeze_time`: how often the drop probability may change. `None` (default): random
    /// early drop is off.
    pub freeze_time: Option<Duration>,
    /// `connection_throttle_drop_increase`: added to the drop probability when the bucket is empty. Default 0.02.
    pub drop_increase: f64,
    /// `connection_throttle_drop_decrease`: taken from it when tokens are plenty. Default 0.002.
    pub drop_decrease: f64,
    /// `connection_throttle_decrease_ratio`: how full the bucket must be for that. Default 0.
    pub decrease_ratio: f64,
    /// Tokens a new global session costs (`connection_throttle_global_session_weight`, 3 with weights on).
    pub global_session_weight: u32,
    /// Tokens a renewed session costs (`connection_throttle_renew_session_weight`, 2 with weights on).
    pub renew_session_weight: u32,
    /// Tokens a local session costs (`connection_throttle_local_session_weight`, 1 with weights on).
    pub local_session_weight: u32,
}

/// What znodes there are and what is watched over in the background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZnodeConfig {
    /// `reconfigEnabled`: whether reconfig is allowed. A standalone server cannot do it and says so; otherwise it
    /// says that it is switched off. Default false.
    pub reconfig_enabled: bool,
    /// `extendedTypesEnabled`: allow znodes with a time to live. Default false.
    pub extended_types: bool,
    /// `emulate353TTLNodes`: read TTLs in the bit layout of ZooKeeper 3.5.3. Default false.
    pub emulate_353_ttl: bool,
    /// `enforceQuota`: refuse writes over a hard quota, instead of logging them. Default false.
    pub enforce_quota: bool,
    /// `znode.container.checkIntervalMs`: time between looks for containers and TTL znodes to delete. Default
    /// 1 min.
    pub container_check_interval: Duration,
    /// `znode.container.maxPerMinute`: deletions per minute at most. At least 1. Default 10000.
    pub container_deletions_per_minute_max: u32,
    /// `znode.container.maxNeverUsedIntervalMs`: age at which a container that never had a child is deleted.
    /// `None` (default): never.
    pub container_never_used_age_max: Option<Duration>,
}

impl Default for ZnodeConfig {
    fn default() -> Self {
        ZnodeConfig {
            reconfig_enabled: false,
            extended_types: false,
            emulate_353_ttl: false,
            enforce_quota: false,
            container_check_interval: Duration::from_secs(60),
            container_deletions_per_minute_max: 10_000,
            container_never_used_age_max: None,
        }
    }
}

pub use oxkeeper_core::DigestAlgorithm;

/// Text that must not appear in logs: its `Debug` form hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for comparison with what a client sent.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// `skipACL=yes`: no permission is checked. Default false.
    pub skip_acl: bool,
    /// `DigestAuthenticationProvider.enabled`: whether scheme `digest` exists. Default true.
    pub digest_enabled: bool,
    /// `DigestAuthenticationProvider.digestAlg`. Default SHA1.
    pub digest_algorithm: DigestAlgorithm,
    /// `DigestAuthenticationProvider.superDigest`: the digest id (`super:<base64>`) that becomes the super user.
    /// Default none.
    pub super_digest: Option<Secret>,
    /// `enforce.auth.schemes` when `enforce.auth.enabled=true`: a connection without an id of one of these
    /// schemes is refused everything but authentication. Empty (default): not enforced. Each scheme exists.
    pub enforced_schemes: BTreeSet<String>,
    /// Scheme `ensemble`, present when an `authProvider.N` names its class. Default absent.
    pub ensemble: Option<EnsembleAuth>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        AuthConfig {
            skip_acl: false,
            digest_enabled: true,
            digest_algorithm: DigestAlgorithm::Sha1,
            super_digest: None,
            enforced_schemes: BTreeSet::new(),
            ensemble: None,
        }
    }
}

/// Scheme `ensemble`: a client may say which ensemble it wants, and is sent away by another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnsembleAuth {
    /// `ensembleAuthName`: the names this server answers to. `None` (default): any.
    pub names: Option<BTreeSet<String>>,
}

/// The four-letter words of ZooKeeper 3.9, sorted.
pub const FOUR_LETTER_WORDS: [&str; 18] = [
    "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "mntr", "ruok", "srst", "srvr",
    "stat", "stmk", "wchc", "wchp", "wchs",
];

/// Which four-letter words are answered (`4lw.commands.whitelist`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FourLetterConfig {
    /// The words that are answered. Default: `srvr` alone, which is always there.
    pub allowed: BTreeSet<String>,
}

impl FourLetterConfig {
    /// `srvr` and these `words`.
    pub fn only<'a>(words: impl IntoIterator<Item = &'a str>) -> FourLetterConfig {
        FourLetterConfig {
            allowed: words.into_iter().chain(["srvr"]).map(str::to_owned).collect(),
        }
    }

    /// Every word there is.
    pub fn all() -> FourLetterConfig {
        FourLetterConfig::only(FOUR_LETTER_WORDS)
    }

    /// Whether `word` is answered.
    pub fn is_allowed(&self, word: &str) -> bool {
        self.allowed.contains(word)
    }
}

impl Default for FourLetterConfig {
    fn default() -> Self {
        FourLetterConfig::only([])
    }
}
