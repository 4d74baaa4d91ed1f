//! From what the operator wrote to what the core and the storage want to know.

use oxkeeper_core::{AuthSettings, ContainerSettings, CoreSettings, LimitSettings, Planted};
use oxkeeper_tree::TreeSettings;

use crate::clock::millis;
use crate::config::ServerConfig;

/// The settings of the core.
pub(crate) fn core_settings(config: &ServerConfig) -> CoreSettings {
    let (znode, auth, limits, session) = (&config.znode, &config.auth, &config.limits, &config.session);
    let ensemble = config.ensemble.as_ref();
    let timeout = |ms: u32| i32::try_from(ms).unwrap_or(i32::MAX);
    CoreSettings {
        tree: TreeSettings {
            extended_types: znode.extended_types,
            emulate_353: znode.emulate_353_ttl,
            digest_enabled: config.storage.tree_digest,
            close_session_txn: session.close_session_txn,
            enforce_quota: znode.enforce_quota,
            skip_acl: auth.skip_acl,
            reconfig_enabled: znode.reconfig_enabled,
            container_never_used_ms_max: znode
                .container_never_used_age_max
                .map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
            digest_scheme_enabled: auth.digest_enabled,
            hash_seed: fastrand::u64(..),
            ..TreeSettings::default()
        },
        standalone_enabled: ensemble.is_none_or(|ensemble| ensemble.standalone_enabled),
        local_sessions: ensemble.is_some_and(|ensemble| ensemble.local_sessions_enabled),
        local_sessions_upgrading: ensemble.is_some_and(|of| of.local_sessions_upgrading_enabled),
        read_only_mode: ensemble.is_some_and(|ensemble| ensemble.read_only_mode),
        tick_ms: u64::from(session.tick_time_ms),
        session_timeout_ms_min: timeout(session.timeout_ms_min),
        session_timeout_ms_max: timeout(session.timeout_ms_max),
        auth: AuthSettings {
            digest_enabled: auth.digest_enabled,
            digest_algorithm: auth.digest_algorithm,
            super_digest: auth
                .super_digest
                .as_ref()
                .map(|secret| secret.reveal().to_owned()),
            enforced_schemes: auth.enforced_schemes.iter().cloned().collect(),
            ensemble_names: auth.ensemble.as_ref().map(|ensemble| {
                ensemble
                    .names
                    .as_ref()
                    .map(|names| names.iter().cloned().collect())
            }),
        },
        limits: LimitSettings {
            request_bytes_max: limits.frame_bytes_max as usize,
            requests_outstanding_max: limits.outstanding_requests_max as usize,
            throttle_requests_max: limits.request_throttle.requests_max.unwrap_or(0) as usize,
            throttled_op_wait_ms: limits.throttled_op_wait.map_or(0, millis),
            large_request_threshold: limits.large_request_threshold_bytes.map(|bytes| bytes as usize),
            large_requests_bytes_max: limits.large_requests_bytes_max as usize,
            ..LimitSettings::default()
        },
        containers: ContainerSettings {
            check_interval_ms: millis(znode.container_check_interval),
            removals_per_minute_max: u64::from(znode.container_deletions_per_minute_max),
        },
        planted: Planted::default(),
    }
}
