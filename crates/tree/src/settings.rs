//! What the operator decides about the tree.

/// The settings of a tree. All servers of an ensemble must agree on the first three.
#[derive(Clone, Debug)]
pub struct TreeSettings {
    /// Whether znodes may have a time to live (`zookeeper.extendedTypesEnabled`).
    pub extended_types: bool,
    /// Whether znodes with a time to live made by release 3.5.3 are recognised
    /// (`zookeeper.emulate353TTLNodes`). Of no effect without `extended_types`.
    pub emulate_353: bool,
    /// Whether txns carry the digest of the tree, and it is kept at all (`zookeeper.digest.enabled`).
    pub digest_enabled: bool,
    /// Whether closeSession txns list the ephemerals they delete (`zookeeper.closeSessionTxn.enabled`).
    pub close_session_txn: bool,
    /// Whether hard quotas are enforced and soft ones reported (`zookeeper.enforceQuota`). Usage is kept anyway.
    pub enforce_quota: bool,
    /// Whether permissions are not checked at all (`zookeeper.skipACL=yes`).
    pub skip_acl: bool,
    /// Whether reconfig is allowed (`reconfigEnabled`).
    pub reconfig_enabled: bool,
    /// How long in ms a container that never had a child is kept, 0 for ever
    /// (`znode.container.maxNeverUsedIntervalMs`).
    pub container_never_used_ms_max: i64,
    /// Whether the scheme `digest` exists (`zookeeper.DigestAuthenticationProvider.enabled`).
    pub digest_scheme_enabled: bool,
    /// Whether the scheme `x509` exists: its provider is configured.
    pub x509_scheme_enabled: bool,
    /// The subject that matches every `x509` entry (`zookeeper.X509AuthenticationProvider.superUser`).
    pub x509_super_user: Option<Box<str>>,
    /// Whether the scheme `sasl` exists: its provider is configured.
    pub sasl_scheme_enabled: bool,
    /// The id of a `sasl` entry that every `sasl` identity matches (`zookeeper.letAnySaslUserDoX`).
    pub sasl_any_user: Option<Box<str>>,
    /// Seed of the look-up tables. A random one makes it hard to flood them with colliding names; nothing that
    /// can be observed depends on it.
    pub hash_seed: u64,
}

impl Default for TreeSettings {
    /// The defaults of Java's server.
    fn default() -> TreeSettings {
        TreeSettings {
            extended_types: false,
            emulate_353: false,
            digest_enabled: true,
            close_session_txn: true,
            enforce_quota: false,
            skip_acl: false,
            reconfig_enabled: false,
            container_never_used_ms_max: 0,
            digest_scheme_enabled: true,
            x509_scheme_enabled: false,
            x509_super_user: None,
            sasl_scheme_enabled: false,
            sasl_any_user: None,
            hash_seed: 0,
        }
    }
}
