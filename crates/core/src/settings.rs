//! What a server may be told, by value. The names in parentheses are the keys of `zoo.cfg`.

use oxkeeper_tree::TreeSettings;

use crate::planted::Planted;

/// The settings of one server's core.
#[derive(Clone, Debug)]
pub struct CoreSettings {
    /// How znodes, ACLs and quotas behave.
    pub tree: TreeSettings,
    /// Whether an ensemble may shrink to no less than two participants (`standaloneEnabled`).
    pub standalone_enabled: bool,
    /// Whether new sessions of members are known to one server alone (`localSessionsEnabled`).
    pub local_sessions: bool,
    /// Whether such a session becomes one that all servers know when it creates an ephemeral
    /// (`localSessionsUpgradingEnabled`).
    pub local_sessions_upgrading: bool,
    /// Whether a member without a leader answers reads (`readonlymode.enabled`).
    pub read_only_mode: bool,
    /// The basic unit of time, ms (`tickTime`); sessions expire on its multiples.
    pub tick_ms: u64,
    /// The shortest session timeout granted, ms (`minSessionTimeout`).
    pub session_timeout_ms_min: i32,
    /// The longest session timeout granted, ms (`maxSessionTimeout`).
    pub session_timeout_ms_max: i32,
    /// Who may authenticate how, and who must.
    pub auth: AuthSettings,
    /// What a client may make the server hold.
    pub limits: LimitSettings,
    /// When the server removes containers and znodes whose time to live is over.
    pub containers: ContainerSettings,
    /// The guards that a test has taken away.
    pub planted: Planted,
}

/// Authentication of clients.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// Whether the scheme digest is on (`DigestAuthenticationProvider.enabled`).
    pub digest_enabled: bool,
    /// How digest ids are computed (`DigestAuthenticationProvider.digestAlg`).
    pub digest_algorithm: DigestAlgorithm,
    /// The digest id that makes its owner super (`DigestAuthenticationProvider.superDigest`).
    pub super_digest: Option<String>,
    /// When not empty, a connection may only authenticate until it has an id of one of these schemes
    /// (`enforce.auth.enabled`, `enforce.auth.schemes`).
    pub enforced_schemes: Vec<String>,
    /// The names of the ensemble (`ensembleAuthName`) when the scheme ensemble is on; without names every one fits.
    pub ensemble_names: Option<Option<Vec<String>>>,
}

/// The hash in a digest id (`DigestAuthenticationProvider.digestAlg`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// `SHA1`, the default.
    #[default]
    Sha1,
    /// `SHA-224`.
    Sha224,
    /// `SHA-256`.
    Sha256,
    /// `SHA-384`.
    Sha384,
    /// `SHA-512`.
    Sha512,
    /// `SHA-512/224`.
    Sha512With224Bits,
    /// `SHA-512/256`.
    Sha512With256Bits,
}

/// Bounds (B1). Each says what happens when it is reached.
#[derive(Clone, Debug)]
pub struct LimitSettings {
    /// The longest request, bytes (`jute.maxbuffer`). A longer one closes its connection. So does an authentication
    /// that makes the identities of a connection longer than this, all together.
    pub request_bytes_max: usize,
    /// Requests in work in the whole server (`globalOutstandingLimit`). While there are more, a connection that has
    /// one of its own in work is not read.
    pub requests_outstanding_max: usize,
    /// Requests of one connection that are in work or wait behind one. While there are more, it is not read.
    pub requests_per_connection_max: usize,
    /// Reads of one connection that follow its writes to the core. They are answered in one hold of the replica, and
    /// their answers wait for the connection; while there are more, it is not read.
    pub delayed_reads_max: usize,
    /// Output of a connection, bytes, above which no further request of it is taken until it was sent.
    pub output_bytes_high_water: usize,
    /// Watch events and replies waiting for a connection that does not read, count; it is closed when there are more.
    pub deliveries_waiting_max: usize,
    /// Txns that a leader has proposed and not committed, and learners' syncs behind them. A learner that asks for
    /// more loses its link, and with it the requests of its clients.
    pub proposals_outstanding_max: usize,
    /// Requests in work in the whole server before connections wait (`request_throttle_max_requests`), 0 for none.
    pub throttle_requests_max: usize,
    /// How long a request may wait in that queue before it is refused, ms (`throttled_op_wait_time`), 0 for ever.
    pub throttled_op_wait_ms: u64,
    /// Frames above this many bytes count as large (`largeRequestThreshold`), `None` for none.
    pub large_request_threshold: Option<usize>,
    /// Bytes of large requests in work in the whole server (`largeRequestMaxBytes`); a request that would pass it
    /// closes its connection.
    pub large_requests_bytes_max: usize,
}

impl Default for LimitSettings {
    fn default() -> LimitSettings {
        LimitSettings {
            request_bytes_max: oxkeeper_wire::REQUEST_LENGTH_MAX_DEFAULT,
            requests_outstanding_max: 1000,
            requests_per_connection_max: 10_000,
            delayed_reads_max: 64,
            output_bytes_high_water: 256 * 1024,
            deliveries_waiting_max: 1_000_000,
            proposals_outstanding_max: 1_000_000,
            throttle_requests_max: 0,
            throttled_op_wait_ms: 0,
            large_request_threshold: None,
            large_requests_bytes_max: 100 * 1024 * 1024,
        }
    }
}

/// The reaper of containers and znodes with a time to live.
#[derive(Clone, Copy, Debug)]
pub struct ContainerSettings {
    /// Time between two looks for candidates, ms (`znode.container.checkIntervalMs`).
    pub check_interval_ms: u64,
    /// Removals per minute (`znode.container.maxPerMinute`).
    pub removals_per_minute_max: u64,
}

impl Default for ContainerSettings {
    fn default() -> ContainerSettings {
        ContainerSettings {
            check_interval_ms: 60_000,
            removals_per_minute_max: 10_000,
        }
    }
}

impl Default for AuthSettings {
    fn default() -> AuthSettings {
        AuthSettings {
            digest_enabled: true,
            digest_algorithm: DigestAlgorithm::Sha1,
            super_digest: None,
            enforced_schemes: Vec::new(),
            ensemble_names: None,
        }
    }
}

impl Default for CoreSettings {
    fn default() -> CoreSettings {
        CoreSettings {
            tree: TreeSettings::default(),
            standalone_enabled: true,
            local_sessions: false,
            local_sessions_upgrading: false,
            read_only_mode: false,
            tick_ms: 3000,
            session_timeout_ms_min: 6000,
            session_timeout_ms_max: 60_000,
            auth: AuthSettings::default(),
            limits: LimitSettings::default(),
            containers: ContainerSettings::default(),
            planted: Planted::default(),
        }
    }
}
