//! The one table of every setting ZooKeeper 3.9 has: what this server does with it, and the function that takes it
//! over. `docs/configuration.md` describes the same settings, and a test holds the two together.

use std::collections::BTreeSet;
use std::time::Duration;

use super::report::ConfigError;
use super::resolve::{AuthProvider, Draft, Entry};
use super::settings::{
    DigestAlgorithm, EnsembleAuth, FOUR_LETTER_WORDS, FourLetterConfig, Secret, SnapshotCompression,
};

/// Which spellings of a key count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Only as it stands: a key that ZooKeeper's parser of `zoo.cfg` knows by name.
    File,
    /// With or without the prefix `zookeeper.`: a Java system property.
    Property,
}

/// What this server does with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// Does what ZooKeeper's documentation says.
    Honoured,
    /// Accepted; nothing here corresponds to it, and nothing is lost.
    WithoutEffect(&'static str),
    /// Honoured in an ensemble; a server that stands alone does not look at it, as in ZooKeeper.
    EnsembleOnly,
    /// Belongs to a feature of ensembles that is missing. A member warns, unless the value asks for nothing.
    EnsembleNotYet(&'static str),
    /// Belongs to a feature that is missing. A warning says so, unless the value asks for nothing.
    NotSupportedYet(&'static str),
}

type Apply = fn(&mut Draft, &Entry<'_>) -> Result<(), ConfigError>;

/// One setting.
#[derive(Clone, Copy)]
pub(super) struct Setting {
    /// The key; `x.*` stands for every key beginning with `x.`, `x.N` for every number in place of `N`.
    pub(super) key: &'static str,
    pub(super) spelling: Spelling,
    pub(super) disposition: Disposition,
    /// The value (in any case) that asks for nothing, so that a missing feature is not worth a warning.
    pub(super) inert_value: Option<&'static str>,
    /// Checks the value and, when honoured, takes it over.
    pub(super) apply: Apply,
}

impl Setting {
    /// For a missing feature: `value` switches it off.
    const fn unless(mut self, value: &'static str) -> Setting {
        self.inert_value = Some(value);
        self
    }

    /// The value must pass `apply` although nothing is done with it.
    const fn checked(mut self, apply: Apply) -> Setting {
        self.apply = apply;
        self
    }

    /// Whether `key`, without any prefix, names this setting.
    pub(super) fn matches(&self, key: &str) -> bool {
        match self.key.strip_suffix(['*', 'N']) {
            Some(stem) if stem.ends_with('.') => key.len() > stem.len() && key.starts_with(stem),
            _ => key == self.key,
        }
    }
}

const fn setting(key: &'static str, spelling: Spelling, disposition: Disposition, apply: Apply) -> Setting {
    Setting {
        key,
        spelling,
        disposition,
        inert_value: None,
        apply,
    }
}

const fn nothing(_: &mut Draft, _: &Entry<'_>) -> Result<(), ConfigError> {
    Ok(())
}

fn integer(_: &mut Draft, entry: &Entry<'_>) -> Result<(), ConfigError> {
    entry.int().map(drop)
}

fn flag(_: &mut Draft, entry: &Entry<'_>) -> Result<(), ConfigError> {
    entry.flag().map(drop)
}

/// A key of `zoo.cfg` that is honoured.
const fn file_key(key: &'static str, apply: Apply) -> Setting {
    setting(key, Spelling::File, Disposition::Honoured, apply)
}

/// A system property that is honoured.
const fn property(key: &'static str, apply: Apply) -> Setting {
    setting(key, Spelling::Property, Disposition::Honoured, apply)
}

const fn ensemble_key(key: &'static str, check: Apply) -> Setting {
    setting(key, Spelling::File, Disposition::EnsembleOnly, check)
}

const fn ensemble_property(key: &'static str, apply: Apply) -> Setting {
    setting(key, Spelling::Property, Disposition::EnsembleOnly, apply)
}

/// Of a feature of ensembles that is missing.
const fn ensemble_missing(
    key: &'static str,
    spelling: Spelling,
    what: &'static str,
    check: Apply,
) -> Setting {
    setting(key, spelling, Disposition::EnsembleNotYet(what), check)
}

const fn idle(key: &'static str, because: &'static str) -> Setting {
    setting(
        key,
        Spelling::Property,
        Disposition::WithoutEffect(because),
        nothing,
    )
}

const fn missing(key: &'static str, what: &'static str) -> Setting {
    setting(
        key,
        Spelling::Property,
        Disposition::NotSupportedYet(what),
        nothing,
    )
}

const THREADS: &str = "there are no such threads here";
const BUFFERS: &str = "there are no such buffers here";
const WATCHES: &str = "there is one watch manager here, and it keeps no dead watches";
const CACHES: &str = "reads are answered from the tree without a cache of responses";
const QUEUE: &str = "a request over the limit stays unread in its connection, so none waits in a queue or becomes stale there";
const JVM: &str = "there is no Java virtual machine here";
const CLIENT: &str = "it is about Java clients";
const TLS: &str = "TLS";
const SASL: &str = "SASL";
const ADMIN: &str = "the HTTP admin server";
const METRICS: &str = "export of metrics";
const NO_LOG: &str = "observers without a log of their own; this one keeps it";
const OBSERVER_MASTER: &str = "followers that serve observers; observers learn from the leader";
const SYNCS: &str = "a limit of the learners that are synchronised at a time";
const REACHABILITY: &str = "addresses are tried by dialling them";
const SYNC_LIMITS: &str = "how much of the log is sent instead of a snapshot cannot be tuned here";
const TESTS: &str = "it is for tests of the Java server";
const NODELAY: &str = "connections between servers never wait to gather bytes";
const PROCESSORS: &str = "there is no such chain of processors here";
const SOCKETS: &str = "no thread waits for a socket here";
const PAUSES: &str = "pauses before the leader is dialled are short at first and grow by themselves";
const TRACKER: &str = "messages are not kept to be logged";
const AUDIT: &str = "the audit log";

/// Every setting.
pub(super) const SETTINGS: &[Setting] = &[
    // Where clients connect.
    file_key("clientPort", |draft, entry| {
        draft.client_port = Some((entry.port()?, entry.at.clone()));
        Ok(())
    }),
    file_key("clientPortAddress", |draft, entry| {
        draft.client_port_address = Some((entry.value.to_owned(), entry.at.clone()));
        Ok(())
    }),
    file_key("clientPortListenBacklog", |draft, entry| {
        if let Ok(backlog @ 1..) = u32::try_from(entry.int()?) {
            draft.config.client.backlog = Some(backlog);
        }
        Ok(())
    }),
    property("clientTcpKeepAlive", |draft, entry| {
        draft.config.client.tcp_keep_alive = draft.property_flag(entry);
        Ok(())
    }),
    property("nio.sessionlessCnxnTimeout", |draft, entry| {
        if let Some(timeout) = draft.property_millis(entry, 1) {
            draft.config.client.sessionless_timeout = timeout;
        }
        Ok(())
    }),
    setting(
        "secureClientPort",
        Spelling::File,
        Disposition::NotSupportedYet(TLS),
        |draft, entry| {
            draft.secure_client_port_is_set = true;
            entry.port()?;
            Err(entry.error(
                "not supported yet: TLS (secureClientPort)",
                "remove the line and let clients use clientPort, or keep ZooKeeper's own server for now",
            ))
        },
    ),
    setting(
        "secureClientPortAddress",
        Spelling::File,
        Disposition::NotSupportedYet(TLS),
        |draft, entry| {
            draft.secure_client_port_address = Some(entry.at.clone());
            Ok(())
        },
    ),
    // Directories, log, snapshots.
    file_key("dataDir", |draft, entry| {
        draft.data_dir = Some(draft.directory(entry));
        Ok(())
    }),
    file_key("dataLogDir", |draft, entry| {
        draft.data_log_dir = Some(draft.directory(entry));
        Ok(())
    }),
    property("datadir.autocreate", |draft, entry| {
        draft.config.storage.create_directories = draft.property_flag(entry);
        Ok(())
    }),
    property("db.autocreate", |draft, entry| {
        draft.config.storage.create_database = draft.property_flag(entry);
        Ok(())
    }),
    property("snapshot.trust.empty", |draft, entry| {
        draft.config.storage.trust_empty_snapshot = draft.property_flag(entry);
        Ok(())
    }),
    property("snapshot.compression.method", |draft, entry| {
        draft.config.storage.snapshot_compression = match entry.value.to_ascii_lowercase().as_str() {
            "" => SnapshotCompression::None,
            "gz" => SnapshotCompression::Gzip,
            "snappy" => SnapshotCompression::Snappy,
            _ => {
                draft.warn(
                    entry,
                    "is not gz, snappy or empty: snapshots are not compressed, as in ZooKeeper",
                );
                SnapshotCompression::None
            }
        };
        Ok(())
    }),
    property("serializeLastProcessedZxid.enabled", |draft, entry| {
        draft.config.storage.serialize_last_processed_zxid = draft.property_flag(entry);
        Ok(())
    }),
    property("digest.enabled", |draft, entry| {
        draft.config.storage.tree_digest = draft.property_flag(entry);
        Ok(())
    }),
    property("snapCount", |draft, entry| {
        if let Some(count) = draft.property_i64(entry, i32::MIN.into(), i32::MAX.into()) {
            if count < 2 {
                draft.warn(entry, "is less than 2: taken as 2, as in ZooKeeper");
            }
            draft.config.storage.snap_count = u32::try_from(count).unwrap_or(2).max(2);
        }
        Ok(())
    }),
    property("snapSizeLimitInKb", |draft, entry| {
        if let Some(kib) = draft.property_i64(entry, i64::MIN, i64::MAX) {
            if kib == 0 {
                return Err(entry.error(
                    "snapSizeLimitInKb is 0",
                    "write -1 for no limit, or a size in KiB",
                ));
            }
            draft.config.storage.snap_size_limit_bytes = kibibytes(kib);
        }
        Ok(())
    }),
    property("txnLogSizeLimitInKb", |draft, entry| {
        if let Some(kib) = draft.property_i64(entry, i64::MIN, i64::MAX) {
            draft.config.storage.log_size_limit_bytes = kibibytes(kib);
        }
        Ok(())
    }),
    property("preAllocSize", |draft, entry| {
        if let Some(kib) = draft.property_i64(entry, i64::MIN, i64::MAX) {
            draft.config.storage.log_preallocation_bytes = kibibytes(kib);
        }
        Ok(())
    }),
    property("forceSync", |draft, entry| {
        draft.config.storage.force_sync = entry.value != "no";
        if entry.value == "no" {
            draft.warn(
                entry,
                "acknowledges writes before they are on disk: a power failure may lose them",
            );
        } else if entry.value != "yes" {
            draft.warn(entry, "is neither yes nor no: taken as yes, as in ZooKeeper");
        }
        Ok(())
    }),
    property("fsync.warningthresholdms", |draft, entry| {
        if let Some(threshold) = draft.property_millis(entry, 0) {
            draft.config.storage.sync_warning_threshold = threshold;
        }
        Ok(())
    }),
    property("flushDelay", |draft, entry| {
        if let Some(delay) = draft.property_millis(entry, i64::MIN) {
            draft.config.storage.flush_delay = delay;
        }
        Ok(())
    }),
    property("maxWriteQueuePollTime", |draft, entry| {
        draft.write_queue_poll_time = draft.property_millis(entry, i64::MIN);
        Ok(())
    }),
    property("maxBatchSize", |draft, entry| {
        if let Some(limit) = draft.property_limit(entry) {
            draft.config.storage.batch_size_max = limit;
        }
        Ok(())
    }),
    file_key("autopurge.snapRetainCount", |draft, entry| {
        let count = entry.int()?;
        if count < 3 {
            draft.warn(entry, "is less than 3: taken as 3, as in ZooKeeper");
        }
        draft.config.storage.snapshots_retained = u32::try_from(count).unwrap_or(3).max(3);
        Ok(())
    }),
    file_key("autopurge.purgeInterval", |draft, entry| {
        let hours = u32::try_from(entry.int()?).unwrap_or(0);
        draft.config.storage.purge_interval = (hours > 0).then(|| Duration::from_secs(3600) * hours);
        Ok(())
    }),
    // Time and sessions.
    file_key("tickTime", |draft, entry| {
        draft.tick_time = Some((entry.int()?, entry.at.clone()));
        Ok(())
    }),
    file_key("minSessionTimeout", |draft, entry| {
        draft.min_session_timeout = Some((entry.int()?, entry.at.clone()));
        Ok(())
    }),
    file_key("maxSessionTimeout", |draft, entry| {
        draft.max_session_timeout = Some((entry.int()?, entry.at.clone()));
        Ok(())
    }),
    property("closeSessionTxn.enabled", |draft, entry| {
        draft.config.session.close_session_txn = draft.property_flag(entry);
        Ok(())
    }),
    ensemble_key("localSessionsEnabled", |draft, entry| {
        draft.ensemble.local_sessions = entry.flag()?;
        Ok(())
    }),
    ensemble_key("localSessionsUpgradingEnabled", |draft, entry| {
        draft.ensemble.local_sessions_upgrading = entry.flag()?;
        Ok(())
    }),
    // What clients may take.
    file_key("maxClientCnxns", |draft, entry| {
        draft.config.limits.connections_per_address_max = u32::try_from(entry.int()?).ok().filter(|&n| n > 0);
        Ok(())
    }),
    property("maxCnxns", |draft, entry| {
        if let Some(limit) = draft.property_limit(entry) {
            draft.config.limits.connections_max = limit;
        }
        Ok(())
    }),
    property("globalOutstandingLimit", |draft, entry| {
        if let Some(limit) = draft.property_u32(entry, 0) {
            draft.config.limits.outstanding_requests_max = limit;
        }
        Ok(())
    }),
    property("jute.maxbuffer", |draft, entry| {
        if let Some(limit) = draft.property_u32(entry, 64) {
            draft.config.limits.frame_bytes_max = limit;
        }
        Ok(())
    }),
    property("jute.maxbuffer.extrasize", |draft, entry| {
        draft.record_extra_bytes = draft.property_i64(entry, i32::MIN.into(), i32::MAX.into());
        Ok(())
    }),
    property("largeRequestThreshold", |draft, entry| {
        if let Some(threshold) = draft.property_i64(entry, i32::MIN.into(), i32::MAX.into()) {
            if threshold == 0 || threshold < -1 {
                draft.warn(
                    entry,
                    "is neither -1 nor positive: taken as -1 (off), as in ZooKeeper",
                );
            }
            let threshold = u32::try_from(threshold).ok().filter(|&bytes| bytes > 0);
            draft.config.limits.large_request_threshold_bytes = threshold;
        }
        Ok(())
    }),
    property("largeRequestMaxBytes", |draft, entry| {
        if let Some(limit) = draft.property_u32(entry, 1) {
            draft.config.limits.large_requests_bytes_max = limit;
        }
        Ok(())
    }),
    property("request_throttle_max_requests", |draft, entry| {
        if let Some(limit) = draft.property_limit(entry) {
            draft.config.limits.request_throttle.requests_max = limit;
        }
        Ok(())
    }),
    idle("request_throttle_stall_time", QUEUE),
    idle("request_throttle_drop_stale", QUEUE),
    idle("request_stale_connection_check", QUEUE),
    idle("request_stale_latency_check", QUEUE),
    idle("request_throttler.shutdownTimeout", QUEUE),
    property("throttled_op_wait_time", |draft, entry| {
        if let Some(time) = draft.property_millis(entry, i64::MIN) {
            draft.config.limits.throttled_op_wait = Some(time).filter(|time| !time.is_zero());
        }
        Ok(())
    }),
    property("connection_throttle_tokens", |draft, entry| {
        draft.throttle.tokens = draft.property_limit(entry).flatten();
        Ok(())
    }),
    property("connection_throttle_fill_time", |draft, entry| {
        draft.throttle.fill_time = draft.property_millis(entry, 1);
        Ok(())
    }),
    property("connection_throttle_fill_count", |draft, entry| {
        draft.throttle.fill_count = draft.property_u32(entry, 0);
        Ok(())
    }),
    property("connection_throttle_freeze_time", |draft, entry| {
        let time = draft.property_i64(entry, i32::MIN.into(), i32::MAX.into());
        draft.throttle.freeze_time = time
            .and_then(|ms| u64::try_from(ms).ok())
            .map(Duration::from_millis);
        Ok(())
    }),
    property("connection_throttle_drop_increase", |draft, entry| {
        draft.throttle.drop_increase = Some(entry.real()?);
        Ok(())
    }),
    property("connection_throttle_drop_decrease", |draft, entry| {
        draft.throttle.drop_decrease = Some(entry.real()?);
        Ok(())
    }),
    property("connection_throttle_decrease_ratio", |draft, entry| {
        draft.throttle.decrease_ratio = Some(entry.real()?);
        Ok(())
    }),
    property("connection_throttle_weight_enabled", |draft, entry| {
        draft.throttle.weights_enabled = draft.property_flag(entry);
        Ok(())
    }),
    property("connection_throttle_global_session_weight", |draft, entry| {
        draft.throttle.global_session_weight = draft.property_u32(entry, 1);
        Ok(())
    }),
    property("connection_throttle_renew_session_weight", |draft, entry| {
        draft.throttle.renew_session_weight = draft.property_u32(entry, 1);
        Ok(())
    }),
    property("connection_throttle_local_session_weight", |draft, entry| {
        draft.throttle.local_session_weight = draft.property_u32(entry, 1);
        Ok(())
    }),
    // Znodes.
    file_key("reconfigEnabled", |draft, entry| {
        draft.config.znode.reconfig_enabled = entry.flag()?;
        draft.ensemble.reconfig = entry.flag()?.then(|| entry.at.clone());
        Ok(())
    }),
    property("extendedTypesEnabled", |draft, entry| {
        draft.config.znode.extended_types = draft.property_flag(entry);
        Ok(())
    }),
    property("emulate353TTLNodes", |draft, entry| {
        draft.config.znode.emulate_353_ttl = draft.property_flag(entry);
        Ok(())
    }),
    property("enforceQuota", |draft, entry| {
        draft.config.znode.enforce_quota = draft.property_flag(entry);
        Ok(())
    }),
    property("znode.container.checkIntervalMs", |draft, entry| {
        if let Some(interval) = draft.property_millis(entry, 1) {
            draft.config.znode.container_check_interval = interval;
        }
        Ok(())
    }),
    property("znode.container.maxPerMinute", |draft, entry| {
        if let Some(count) = draft.property_u32(entry, 1) {
            draft.config.znode.container_deletions_per_minute_max = count;
        }
        Ok(())
    }),
    property("znode.container.maxNeverUsedIntervalMs", |draft, entry| {
        if let Some(age) = draft.property_millis(entry, 0) {
            draft.config.znode.container_never_used_age_max = Some(age).filter(|age| !age.is_zero());
        }
        Ok(())
    }),
    // Who may do what.
    property("skipACL", |draft, entry| {
        draft.config.auth.skip_acl = entry.value == "yes";
        if entry.value == "yes" {
            draft.warn(entry, "switches every permission check off");
        } else if entry.value != "no" {
            draft.warn(
                entry,
                "is neither yes nor no: permissions are checked, as in ZooKeeper",
            );
        }
        Ok(())
    }),
    property("DigestAuthenticationProvider.enabled", |draft, entry| {
        draft.config.auth.digest_enabled = draft.property_flag(entry);
        Ok(())
    }),
    property("DigestAuthenticationProvider.digestAlg", |draft, entry| {
        draft.config.auth.digest_algorithm = match entry.value.to_ascii_uppercase().as_str() {
            "SHA1" | "SHA-1" | "SHA" => DigestAlgorithm::Sha1,
            "SHA-224" | "SHA224" => DigestAlgorithm::Sha224,
            "SHA-256" | "SHA256" => DigestAlgorithm::Sha256,
            "SHA-384" | "SHA384" => DigestAlgorithm::Sha384,
            "SHA-512" | "SHA512" => DigestAlgorithm::Sha512,
            "SHA-512/224" | "SHA512/224" => DigestAlgorithm::Sha512With224Bits,
            "SHA-512/256" | "SHA512/256" => DigestAlgorithm::Sha512With256Bits,
            _ => {
                return Err(entry.error(
                    format!("{} is not a digest algorithm known here", entry.value),
                    "write SHA1, SHA-224, SHA-256, SHA-384, SHA-512, SHA-512/224 or SHA-512/256",
                ));
            }
        };
        Ok(())
    }),
    property("DigestAuthenticationProvider.superDigest", |draft, entry| {
        if !entry.value.contains(':') {
            let text =
                "DigestAuthenticationProvider.superDigest has no `:`: no one can become super user with it";
            draft.warn_text(entry, text);
        }
        draft.config.auth.super_digest = Some(Secret::new(entry.value));
        Ok(())
    }),
    property("enforce.auth.enabled", |draft, entry| {
        draft.enforce_auth = draft.property_flag(entry).then(|| entry.at.clone());
        Ok(())
    }),
    property("enforce.auth.schemes", |draft, entry| {
        let schemes = entry
            .value
            .split(',')
            .map(|scheme| scheme.trim().to_owned())
            .collect();
        draft.enforced_schemes = Some((schemes, entry.at.clone()));
        Ok(())
    }),
    property("authProvider.N", |draft, entry| {
        match AuthProvider::from_class(entry.value) {
            AuthProvider::Ip => {}
            AuthProvider::Digest => draft.digest_provider_is_named = true,
            AuthProvider::Ensemble => {
                draft
                    .config
                    .auth
                    .ensemble
                    .get_or_insert_with(EnsembleAuth::default);
            }
            AuthProvider::Other(what) => {
                let text = format!("not supported yet: {what} ({}={})", entry.key, entry.value);
                draft.warn_text(entry, text);
            }
        }
        Ok(())
    }),
    property("ensembleAuthName", |draft, entry| {
        let names: BTreeSet<String> = entry
            .value
            .split(',')
            .map(|name| name.trim().to_owned())
            .collect();
        draft.ensemble_names = Some(names);
        Ok(())
    }),
    idle(
        "enableEagerACLCheck",
        "a request is checked once, by the server that orders it",
    ),
    missing("IPAuthenticationProvider.usexforwardedfor", ADMIN).unless("false"),
    // Four-letter words.
    property("4lw.commands.whitelist", |draft, entry| {
        let words: Vec<&str> = entry
            .value
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .collect();
        for word in &words {
            if *word != "*" && !FOUR_LETTER_WORDS.contains(word) {
                draft.warn_text(
                    entry,
                    format!("4lw.commands.whitelist: there is no four-letter word `{word}`"),
                );
            }
        }
        draft.config.four_letter = if words.contains(&"*") {
            FourLetterConfig::all()
        } else {
            FourLetterConfig::only(words)
        };
        Ok(())
    }),
    property("readonlymode.enabled", |draft, entry| {
        draft.read_only_mode = draft.property_flag(entry);
        Ok(())
    }),
    // Ensembles: the server list decides whether this server stands alone.
    file_key("server.N", |draft, entry| {
        draft.ensemble.server_lines.push(entry.to_owned_line());
        Ok(())
    }),
    file_key("group.N", |draft, entry| {
        draft.ensemble.group_lines.push(entry.to_owned_line());
        Ok(())
    }),
    file_key("weight.N", |draft, entry| {
        draft.ensemble.group_lines.push(entry.to_owned_line());
        Ok(())
    }),
    file_key("standaloneEnabled", |draft, entry| {
        draft.ensemble.standalone_enabled = entry.flag()?;
        Ok(())
    }),
    file_key("dynamicConfigFile", |draft, entry| {
        draft.ensemble.dynamic_config_file = Some((entry.value.to_owned(), entry.at.clone()));
        Ok(())
    }),
    setting(
        "multiAddress.enabled",
        Spelling::Property,
        Disposition::EnsembleOnly,
        |draft, entry| {
            draft.ensemble.multi_address_enabled = entry.flag()?;
            Ok(())
        },
    ),
    idle("multiAddress.reachabilityCheckTimeoutMs", REACHABILITY).checked(integer),
    idle("multiAddress.reachabilityCheckEnabled", REACHABILITY).checked(flag),
    ensemble_key("initLimit", |draft, entry| {
        draft.ensemble.init_limit = Some((entry.int()?, entry.at.clone()));
        Ok(())
    }),
    ensemble_key("syncLimit", |draft, entry| {
        draft.ensemble.sync_limit = Some((entry.int()?, entry.at.clone()));
        Ok(())
    }),
    ensemble_key("connectToLearnerMasterLimit", |draft, entry| {
        draft.ensemble.connect_limit = Some((entry.int()?, entry.at.clone()));
        Ok(())
    }),
    ensemble_key("electionAlg", |_, entry| match entry.int()? {
        3 => Ok(()),
        _ => Err(entry.error(
            format!("electionAlg={} does not exist", entry.value),
            "write 3 or remove the line",
        )),
    }),
    ensemble_key("peerType", |draft, entry| {
        let is_observer = match entry.value.to_ascii_lowercase().as_str() {
            "observer" => true,
            "participant" => false,
            _ => {
                let problem = format!("unknown peerType `{}`", entry.value);
                return Err(entry.error(problem, "write participant or observer"));
            }
        };
        draft.ensemble.peer_type = Some((is_observer, entry.at.clone()));
        Ok(())
    }),
    ensemble_key("quorumListenOnAllIPs", |draft, entry| {
        draft.ensemble.listen_on_all_ips = entry.flag()?;
        Ok(())
    }),
    ensemble_property("leaderServes", |draft, entry| {
        draft.ensemble.leader_serves = entry.value != "no";
        if !["yes", "no"].contains(&entry.value) {
            draft.warn(entry, "is neither yes nor no: taken as yes, as in ZooKeeper");
        }
        Ok(())
    }),
    ensemble_property("cnxTimeout", |draft, entry| {
        draft.ensemble.connect_timeout = draft.property_millis(entry, 1);
        Ok(())
    }),
    ensemble_property("electionPortBindRetry", |draft, entry| {
        draft.ensemble.bind_tries = draft.property_u32(entry, 0);
        Ok(())
    }),
    ensemble_property("tcpKeepAlive", |draft, entry| {
        draft.ensemble.tcp_keep_alive = draft.property_flag(entry);
        Ok(())
    }),
    ensemble_property("commitLogCount", |draft, entry| {
        draft.ensemble.commit_log_count = draft.property_u32(entry, 500);
        Ok(())
    }),
    ensemble_property("leader.maxTimeToWaitForEpoch", |draft, entry| {
        let limit = draft.property_i64(entry, i32::MIN.into(), i32::MAX.into());
        draft.ensemble.epoch_wait_max_ms = limit.and_then(|ms| u64::try_from(ms).ok());
        Ok(())
    }),
    ensemble_property("fastleader.minNotificationInterval", |draft, entry| {
        draft.ensemble.notification_interval_min_ms = draft.property_u32(entry, 1);
        Ok(())
    }),
    ensemble_property("fastleader.maxNotificationInterval", |draft, entry| {
        draft.ensemble.notification_interval_max_ms = draft.property_u32(entry, 1);
        Ok(())
    }),
    ensemble_missing("syncEnabled", Spelling::File, NO_LOG, flag).unless("true"),
    ensemble_missing("observer.syncEnabled", Spelling::Property, NO_LOG, nothing).unless("true"),
    ensemble_missing("observerMasterPort", Spelling::File, OBSERVER_MASTER, integer).unless("0"),
    ensemble_missing(
        "observerMaster.sizeLimit",
        Spelling::Property,
        OBSERVER_MASTER,
        nothing,
    ),
    ensemble_missing("oraclePath", Spelling::File, "an oracle for two servers", nothing),
    ensemble_missing(
        "leader.maxConcurrentSnapSyncs",
        Spelling::Property,
        SYNCS,
        nothing,
    ),
    ensemble_missing(
        "leader.maxConcurrentDiffSyncs",
        Spelling::Property,
        SYNCS,
        nothing,
    ),
    ensemble_missing("sslQuorum", Spelling::File, TLS, |draft, entry| {
        draft.ensemble.tls = entry.flag()?.then(|| entry.at.clone());
        Ok(())
    })
    .unless("false"),
    ensemble_missing("portUnification", Spelling::File, TLS, flag).unless("false"),
    ensemble_missing("sslQuorumReloadCertFiles", Spelling::File, TLS, flag).unless("false"),
    ensemble_missing("quorum.auth.enableSasl", Spelling::File, SASL, |draft, entry| {
        draft.quorum_sasl.enabled = entry.flag()?;
        Ok(())
    })
    .unless("false"),
    ensemble_missing(
        "quorum.auth.learnerRequireSasl",
        Spelling::File,
        SASL,
        |draft, entry| {
            draft.quorum_sasl.learner_requires = entry.flag()?.then(|| entry.at.clone());
            Ok(())
        },
    )
    .unless("false"),
    ensemble_missing(
        "quorum.auth.serverRequireSasl",
        Spelling::File,
        SASL,
        |draft, entry| {
            draft.quorum_sasl.server_requires = entry.flag()?.then(|| entry.at.clone());
            Ok(())
        },
    )
    .unless("false"),
    ensemble_missing(
        "quorum.auth.learner.saslLoginContext",
        Spelling::File,
        SASL,
        nothing,
    ),
    ensemble_missing(
        "quorum.auth.server.saslLoginContext",
        Spelling::File,
        SASL,
        nothing,
    ),
    ensemble_missing(
        "quorum.auth.kerberos.servicePrincipal",
        Spelling::File,
        SASL,
        nothing,
    ),
    setting(
        "quorum.cnxn.threads.size",
        Spelling::File,
        Disposition::WithoutEffect(THREADS),
        integer,
    ),
    idle("snapshotSizeFactor", SYNC_LIMITS),
    idle("forceSnapshotSync", TESTS),
    idle("test.allowDiscontinuousProposals", TESTS),
    idle("testingonly.initialZxid", TESTS),
    idle("follower.nodelay", NODELAY),
    idle("leader.nodelay", NODELAY),
    idle("follower.skipLearnerRequestToNextProcessor", PROCESSORS),
    idle(
        "forward_learner_requests_to_commit_processor_disabled",
        PROCESSORS,
    ),
    idle(
        "leader.ackLoggingFrequency",
        "late acknowledgements are not logged",
    ),
    idle("leader.closeSocketAsync", SOCKETS),
    idle("learner.closeSocketAsync", SOCKETS),
    idle("learner.asyncSending", SOCKETS),
    idle("leaderConnectDelayDuringRetryMs", PAUSES),
    idle("observer.reconnectDelayMs", PAUSES),
    idle("observer.election.DelayMs", PAUSES),
    idle("messageTracker.BufferSize", TRACKER),
    idle("messageTracker.Enabled", TRACKER),
    idle(
        "quorumCnxnTimeoutMs",
        "who dials the election port must say who it is within a second, and may be silent after that",
    ),
    // TLS.
    missing("ssl.*", TLS),
    missing("client.certReload", TLS).unless("false"),
    missing("client.portUnification", TLS).unless("false"),
    idle(
        "fips-mode",
        "nothing here depends on it as long as there is neither TLS nor SASL",
    ),
    missing("X509AuthenticationProvider.superUser", TLS),
    // SASL.
    setting(
        "sessionRequireClientSASLAuth",
        Spelling::Property,
        Disposition::NotSupportedYet(SASL),
        |draft, entry| match draft.property_flag(entry) {
            false => Ok(()),
            true => Err(entry.error(
                "not supported yet: SASL (sessionRequireClientSASLAuth), so no client could authenticate",
                "remove the line to admit clients without SASL, or keep ZooKeeper's own server for now",
            )),
        },
    )
    .unless("false"),
    missing("allowSaslFailedClients", SASL).unless("false"),
    missing("sasl.serverconfig", SASL),
    missing("SASLAuthenticationProvider.superPassword", SASL),
    missing("superUser", SASL),
    missing("superUser.*", SASL),
    missing("letAnySaslUserDoX", SASL),
    missing("java.security.auth.login.config", SASL),
    missing("java.security.krb5.conf", SASL),
    missing("sun.security.jgss.native", SASL),
    missing("kerberos.removeHostFromPrincipal", SASL),
    missing("kerberos.removeRealmFromPrincipal", SASL),
    missing("kerberos.canonicalizeHostNames", SASL),
    missing("kerberos.minReLoginTimeMs", SASL),
    missing("kinit", SASL),
    missing("requireKerberosConfig", SASL).unless("false"),
    missing("security.auth_to_local", SASL),
    missing("server.realm", SASL),
    // Admin server, metrics, audit.
    missing("admin.enableServer", ADMIN).unless("false"),
    missing("admin.serverAddress", ADMIN),
    missing("admin.serverPort", ADMIN),
    missing("admin.idleTimeout", ADMIN),
    missing("admin.commandURL", ADMIN),
    missing("admin.portUnification", ADMIN).unless("false"),
    missing("admin.forceHttps", ADMIN).unless("false"),
    missing("admin.needClientAuth", ADMIN).unless("false"),
    missing("admin.snapshot.enabled", ADMIN).unless("false"),
    missing("admin.restore.enabled", ADMIN).unless("false"),
    missing("admin.rateLimiterIntervalInMS", ADMIN),
    idle("admin.httpVersion", "it is a number of Jetty's"),
    setting(
        "metricsProvider.className",
        Spelling::File,
        Disposition::NotSupportedYet(METRICS),
        |_, entry| match entry.value.strip_prefix("org.apache.zookeeper.metrics.") {
            Some(
                "impl.DefaultMetricsProvider"
                | "impl.NullMetricsProvider"
                | "prometheus.PrometheusMetricsProvider",
            ) => Ok(()),
            _ => Err(entry.error(
                format!("there is no metrics provider `{}`", entry.value),
                "remove the line, or write org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider",
            )),
        },
    )
    .unless("org.apache.zookeeper.metrics.impl.DefaultMetricsProvider"),
    setting(
        "metricsProvider.*",
        Spelling::File,
        Disposition::NotSupportedYet(METRICS),
        nothing,
    ),
    missing("audit.enable", AUDIT).unless("false"),
    missing("audit.impl.class", AUDIT),
    missing("pathStats.enabled", "statistics of hot paths").unless("false"),
    missing("pathStats.slotCapacity", "statistics of hot paths"),
    missing("pathStats.slotDuration", "statistics of hot paths"),
    missing("pathStats.maxDepth", "statistics of hot paths"),
    missing("pathStats.sampleRate", "statistics of hot paths"),
    missing("pathStats.initialDelay", "statistics of hot paths"),
    missing("pathStats.delay", "statistics of hot paths"),
    missing("pathStats.topPathMax", "statistics of hot paths"),
    // The insides of the Java server.
    idle("serverCnxnFactory", "there is one network stack here"),
    idle("nio.numSelectorThreads", THREADS),
    idle("nio.numWorkerThreads", THREADS),
    idle("nio.shutdownTimeout", THREADS),
    idle("nio.directBufferBytes", BUFFERS),
    idle(
        "netty.advancedFlowControl.enabled",
        "there is one network stack here",
    ),
    idle(
        "netty.server.outstandingHandshake.limit",
        "there is one network stack here",
    ),
    idle(
        "netty.server.earlyDropSecureConnectionHandshakes",
        "there is one network stack here",
    ),
    idle("commitProcessor.numWorkerThreads", THREADS),
    idle("commitProcessor.maxReadBatchSize", THREADS),
    idle("commitProcessor.maxCommitBatchSize", THREADS),
    idle("commitProcessor.shutdownTimeout", THREADS),
    idle("intBufferStartingSizeBytes", BUFFERS),
    idle("maxResponseCacheSize", CACHES),
    idle("maxGetChildrenResponseCacheSize", CACHES),
    idle("watchManagerName", WATCHES),
    idle("bitHashCacheSize", WATCHES),
    idle("maxInProcessingDeadWatchers", WATCHES),
    idle("watcherCleanThreadsNum", WATCHES),
    idle("watcherCleanIntervalInSeconds", WATCHES),
    idle("watcherCleanThreshold", WATCHES),
    idle("jmx.log4j.disable", JVM),
    idle("jmx.log4j.mbean", JVM),
    setting(
        "jvm.pause.monitor",
        Spelling::File,
        Disposition::WithoutEffect(JVM),
        flag,
    ),
    setting(
        "jvm.pause.warn-threshold.ms",
        Spelling::File,
        Disposition::WithoutEffect(JVM),
        integer,
    ),
    setting(
        "jvm.pause.info-threshold.ms",
        Spelling::File,
        Disposition::WithoutEffect(JVM),
        integer,
    ),
    setting(
        "jvm.pause.sleep.time.ms",
        Spelling::File,
        Disposition::WithoutEffect(JVM),
        integer,
    ),
    idle("javax.net.debug", JVM),
    idle("jdk.tls.*", JVM),
    idle("com.sun.management.*", JVM),
    idle("client.secure", CLIENT),
    idle("clientCnxnSocket", CLIENT),
    idle("disableAutoWatchReset", CLIENT),
    idle("request.timeout", CLIENT),
    idle("sasl.client", CLIENT),
    idle("sasl.client.*", CLIENT),
    idle("sasl.clientconfig", CLIENT),
];

/// Bytes of a size in KiB; what is not positive means no limit.
fn kibibytes(kib: i64) -> Option<u64> {
    u64::try_from(kib)
        .ok()
        .filter(|&kib| kib > 0)
        .map(|kib| kib.saturating_mul(1024))
}

/// The setting that `key` names.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    let exact = |key: &str| SETTINGS.iter().find(|setting| setting.key == key);
    let matching = |key: &str| exact(key).or_else(|| SETTINGS.iter().find(|setting| setting.matches(key)));
    matching(key).or_else(|| {
        let bare = key.strip_prefix("zookeeper.")?;
        matching(bare).filter(|setting| setting.spelling == Spelling::Property)
    })
}

/// The known key nearest to a mistyped `key`, if any is near.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    let bare = key.strip_prefix("zookeeper.").unwrap_or(key);
    if bare.len() > 80 {
        return None;
    }
    let allowed = bare.chars().count().min(12) / 4;
    let distance =
        |setting: &Setting| edit_distance(&bare.to_ascii_lowercase(), &setting.key.to_ascii_lowercase());
    SETTINGS
        .iter()
        .filter(|setting| !setting.key.ends_with(".N") && !setting.key.ends_with(".*"))
        .map(|setting| (distance(setting), setting.key))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, key)| key)
}

/// How many letters must be changed, dropped or added to make one text of the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

/// Whether `key` is in the table without taking a prefix off.
pub(super) fn is_known_as_written(key: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.matches(key))
}
