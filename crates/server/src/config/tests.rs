//! Tests of the whole configuration: text in, settings, notices and problems out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::table::{Disposition, SETTINGS, Spelling};
use super::*;

/// The smallest valid file; tests add lines from line 3 on.
const BASE: &str = "dataDir=/data\nclientPort=2181\n";

pub(super) fn resolve_with(text: &str, files: &[(&str, &str)]) -> Result<LoadedConfig, InvalidConfig> {
    let files: BTreeMap<PathBuf, Vec<u8>> = files
        .iter()
        .map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec()))
        .collect();
    let read_file = |path: &Path| -> io::Result<Option<Vec<u8>>> { Ok(files.get(path).cloned()) };
    let raw = properties::parse(text.as_bytes()).expect("the syntax is valid");
    resolve::resolve(&"zoo.cfg".into(), &raw, &read_file)
}

/// What `lines` after the smallest valid file give.
fn load(lines: &str) -> LoadedConfig {
    resolve_with(&format!("{BASE}{lines}"), &[]).unwrap_or_else(|invalid| panic!("{lines}: {invalid}"))
}

/// The settings of a file that gives no reason for any notice.
fn quiet(lines: &str) -> ServerConfig {
    let loaded = load(lines);
    assert_eq!(loaded.notices, [], "{lines}");
    loaded.config
}

fn notices(lines: &str) -> Vec<String> {
    load(lines).notices.iter().map(Notice::to_string).collect()
}

fn problems(text: &str) -> Vec<String> {
    problems_with(text, &[])
}

pub(super) fn problems_with(text: &str, files: &[(&str, &str)]) -> Vec<String> {
    match resolve_with(text, files) {
        Ok(_) => panic!("{text}: is accepted"),
        Err(invalid) => invalid.problems.iter().map(ConfigError::to_string).collect(),
    }
}

/// `lines` after the smallest valid file are refused for one reason, which contains every one of `parts`.
fn check_refused(lines: &str, parts: &[&str]) {
    let problems = problems(&format!("{BASE}{lines}"));
    assert_eq!(problems.len(), 1, "{problems:?}");
    for part in parts {
        assert!(problems[0].contains(part), "{:?} lacks {part:?}", problems[0]);
    }
}

#[test]
fn smallest_file_gives_zookeepers_defaults() {
    let config = quiet("");
    assert_eq!(config, ServerConfig::new("/data", 2181));
    assert_eq!(config.storage.log_dir, PathBuf::from("/data"));
    assert_eq!(config.storage.txn_log_dir(), PathBuf::from("/data/version-2"));
    assert_eq!(
        (config.session.timeout_ms_min, config.session.timeout_ms_max),
        (6000, 60_000)
    );
    assert_eq!(config.limits.connections_per_address_max, Some(60));
    assert_eq!(config.four_letter, FourLetterConfig::only([]));
    assert!(config.four_letter.is_allowed("srvr") && !config.four_letter.is_allowed("ruok"));
}

#[test]
fn every_honoured_key_reaches_its_setting() {
    let config = quiet(
        "clientPortAddress=127.0.0.1\nclientPortListenBacklog=7\ndataLogDir=/log\ntickTime=500\n\
         minSessionTimeout=700\nmaxSessionTimeout=9000\nmaxClientCnxns=0\nautopurge.snapRetainCount=5\n\
         autopurge.purgeInterval=2\nclientTcpKeepAlive=true\nnio.sessionlessCnxnTimeout=1234\n\
         datadir.autocreate=false\ndb.autocreate=false\nsnapshot.trust.empty=true\n\
         snapshot.compression.method=gz\nserializeLastProcessedZxid.enabled=false\ndigest.enabled=false\n\
         snapCount=9\nsnapSizeLimitInKb=-1\ntxnLogSizeLimitInKb=3\npreAllocSize=64\n\
         fsync.warningthresholdms=20\nflushDelay=30\nmaxBatchSize=0\ncloseSessionTxn.enabled=false\n\
         maxCnxns=11\nglobalOutstandingLimit=12\njute.maxbuffer=0x1000\nlargeRequestThreshold=13\n\
         largeRequestMaxBytes=14\nrequest_throttle_max_requests=15\nthrottled_op_wait_time=17\nreconfigEnabled=true\nextendedTypesEnabled=true\n\
         emulate353TTLNodes=true\nenforceQuota=true\nznode.container.checkIntervalMs=18\n\
         znode.container.maxPerMinute=19\nznode.container.maxNeverUsedIntervalMs=21\n\
         DigestAuthenticationProvider.enabled=true\nDigestAuthenticationProvider.digestAlg=SHA-256\n\
         DigestAuthenticationProvider.superDigest=super:x\nenforce.auth.enabled=true\n\
         enforce.auth.schemes=digest, ensemble\n\
         authProvider.1=org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider\n\
         ensembleAuthName=a, b\n4lw.commands.whitelist=ruok, stat\nreadonlymode.enabled=true\n",
    );
    let expected = ServerConfig {
        client: ClientPortConfig {
            address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: 2181,
            backlog: Some(7),
            tcp_keep_alive: true,
            sessionless_timeout: Duration::from_millis(1234),
        },
        storage: StorageConfig {
            data_dir: "/data".into(),
            log_dir: "/log".into(),
            create_directories: false,
            create_database: false,
            trust_empty_snapshot: true,
            snapshot_compression: SnapshotCompression::Gzip,
            serialize_last_processed_zxid: false,
            tree_digest: false,
            snap_count: 9,
            snap_size_limit_bytes: None,
            log_size_limit_bytes: Some(3 * 1024),
            log_preallocation_bytes: Some(64 * 1024),
            force_sync: true,
            sync_files: true,
            sync_warning_threshold: Duration::from_millis(20),
            flush_delay: Duration::from_millis(30),
            write_queue_poll_time_max: Duration::from_millis(10),
            batch_size_max: None,
            snapshots_retained: 5,
            purge_interval: Some(Duration::from_secs(7200)),
        },
        session: SessionConfig {
            tick_time_ms: 500,
            timeout_ms_min: 700,
            timeout_ms_max: 9000,
            close_session_txn: false,
        },
        limits: LimitsConfig {
            connections_per_address_max: None,
            connections_max: Some(11),
            outstanding_requests_max: 12,
            frame_bytes_max: 0x1000,
            record_extra_bytes: 0x1000,
            large_request_threshold_bytes: Some(13),
            large_requests_bytes_max: 14,
            request_throttle: RequestThrottleConfig {
                requests_max: Some(15),
            },
            throttled_op_wait: Some(Duration::from_millis(17)),
            connection_throttle: None,
        },
        znode: ZnodeConfig {
            reconfig_enabled: true,
            extended_types: true,
            emulate_353_ttl: true,
            enforce_quota: true,
            container_check_interval: Duration::from_millis(18),
            container_deletions_per_minute_max: 19,
            container_never_used_age_max: Some(Duration::from_millis(21)),
        },
        auth: AuthConfig {
            skip_acl: false,
            digest_enabled: true,
            digest_algorithm: DigestAlgorithm::Sha256,
            super_digest: Some(Secret::new("super:x")),
            enforced_schemes: ["digest".to_owned(), "ensemble".to_owned()].into(),
            ensemble: Some(EnsembleAuth {
                names: Some(["a".to_owned(), "b".to_owned()].into()),
            }),
        },
        four_letter: FourLetterConfig::only(["ruok", "stat", "isro"]),
        ensemble: None,
    };
    assert_eq!(config, expected);
}

#[test]
fn settings_that_cost_safety_are_honoured_with_a_warning() {
    let loaded = load("forceSync=no\nskipACL=yes\n");
    assert!(!loaded.config.storage.force_sync && loaded.config.auth.skip_acl);
    let texts: Vec<_> = loaded
        .notices
        .iter()
        .map(|notice| (notice.level, notice.to_string()))
        .collect();
    assert_eq!(texts.len(), 2);
    assert!(texts.iter().all(|(level, _)| *level == NoticeLevel::Warning));
    assert!(
        texts[0]
            .1
            .starts_with("zoo.cfg:3: forceSync=no acknowledges writes before"),
        "{texts:?}"
    );
    assert!(
        texts[1]
            .1
            .starts_with("zoo.cfg:4: skipACL=yes switches every permission check off"),
        "{texts:?}"
    );
}

#[test]
fn connection_throttle_is_resolved_with_weights_in_global_sessions() {
    assert_eq!(
        quiet("connection_throttle_tokens=0\n").limits.connection_throttle,
        None
    );
    let plain = quiet("connection_throttle_tokens=100\nconnection_throttle_fill_count=5\n");
    let expected = ConnectionThrottleConfig {
        tokens_max: 100,
        fill_time: Duration::from_millis(1),
        fill_count: 5,
        freeze_time: None,
        drop_increase: 0.02,
        drop_decrease: 0.002,
        decrease_ratio: 0.0,
        global_session_weight: 1,
        renew_session_weight: 1,
        local_session_weight: 1,
    };
    assert_eq!(plain.limits.connection_throttle, Some(expected.clone()));
    let weighted = quiet(
        "connection_throttle_tokens=100\nconnection_throttle_weight_enabled=true\n\
         connection_throttle_local_session_weight=4\nconnection_throttle_freeze_time=0\n\
         connection_throttle_drop_increase=0.5\n",
    );
    let expected = ConnectionThrottleConfig {
        tokens_max: 400,
        fill_count: 4,
        freeze_time: Some(Duration::ZERO),
        drop_increase: 0.5,
        global_session_weight: 4,
        renew_session_weight: 4,
        local_session_weight: 4,
        ..expected
    };
    assert_eq!(weighted.limits.connection_throttle, Some(expected));
    check_refused(
        "connection_throttle_drop_increase=much\n",
        &["zoo.cfg:3: ", "is not a number"],
    );
}

#[test]
fn both_spellings_of_a_property_are_one_setting() {
    assert_eq!(quiet("zookeeper.snapCount=7\n").storage.snap_count, 7);
    assert_eq!(
        quiet("zookeeper.jute.maxbuffer=4096\n").limits.frame_bytes_max,
        4096
    );
    let twice = load("zookeeper.snapCount=7\nsnapCount=8\n");
    assert_eq!(twice.config.storage.snap_count, 8);
    assert_eq!(
        twice.notices[0].to_string(),
        "zoo.cfg:3: zookeeper.snapCount is given again in line 4, which counts"
    );
    assert_eq!(
        notices("zookeeper.tickTime=1\n"),
        ["zoo.cfg:3: unknown key zookeeper.tickTime has no effect; did you mean tickTime?"]
    );
}

#[test]
fn of_duplicates_the_last_counts_and_the_others_are_named() {
    let loaded = load("tickTime=abc\ntickTime=1000\n");
    assert_eq!(loaded.config.session.tick_time_ms, 1000);
    assert_eq!(loaded.notices.len(), 1);
    assert_eq!(
        loaded.notices[0].to_string(),
        "zoo.cfg:3: tickTime is given again in line 4, which counts"
    );
}

#[test]
fn unknown_keys_are_named_with_line_and_the_nearest_key() {
    assert_eq!(
        notices("maxclientcnxn=1\nfoo.bar.baz=secret\n"),
        [
            "zoo.cfg:3: unknown key maxclientcnxn has no effect; did you mean maxClientCnxns?",
            "zoo.cfg:4: unknown key foo.bar.baz has no effect",
        ]
    );
}

#[test]
fn settings_without_a_counterpart_are_noted_with_their_line() {
    let loaded = load("nio.numWorkerThreads=4\ninitLimit=10\nadmin.enableServer=false\n");
    let expected = [
        "zoo.cfg:3: nio.numWorkerThreads has no effect: there are no such threads here",
        "zoo.cfg:4: initLimit has no effect: it is about ensembles, and this server stands alone",
    ];
    assert_eq!(
        loaded.notices.iter().map(Notice::to_string).collect::<Vec<_>>(),
        expected
    );
    assert!(
        loaded
            .notices
            .iter()
            .all(|notice| notice.level == NoticeLevel::Info)
    );
}

#[test]
fn missing_features_are_warned_about_unless_they_are_switched_off() {
    assert_eq!(
        notices("admin.serverPort=8081\naudit.enable=true\nssl.keyStore.password=hush\n"),
        [
            "zoo.cfg:3: not supported yet: the HTTP admin server (admin.serverPort)",
            "zoo.cfg:4: not supported yet: the audit log (audit.enable)",
            "zoo.cfg:5: not supported yet: TLS (ssl.keyStore.password)",
        ]
    );
    quiet("audit.enable=FALSE\nsessionRequireClientSASLAuth=false\nallowSaslFailedClients=false\n");
    quiet("metricsProvider.className=org.apache.zookeeper.metrics.impl.DefaultMetricsProvider\n");
    let prometheus =
        "metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\n";
    assert_eq!(
        notices(prometheus),
        ["zoo.cfg:3: not supported yet: export of metrics (metricsProvider.className)"]
    );
    let sasl = "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n";
    assert!(notices(sasl)[0].starts_with("zoo.cfg:3: not supported yet: authentication scheme sasl"));
}

#[test]
fn what_would_be_unsafe_to_ignore_is_refused() {
    check_refused(
        "secureClientPort=2281\n",
        &["zoo.cfg:3: not supported yet: TLS (secureClientPort)"],
    );
    check_refused(
        "sessionRequireClientSASLAuth=true\n",
        &["zoo.cfg:3: not supported yet: SASL"],
    );
    check_refused(
        "enforce.auth.enabled=true\nenforce.auth.schemes=sasl\n",
        &["zoo.cfg:4: not supported yet: authentication scheme sasl"],
    );
    check_refused(
        "DigestAuthenticationProvider.digestAlg=MD5\n",
        &["zoo.cfg:3: MD5 is not a digest algorithm"],
    );
}

#[test]
fn each_check_of_zookeepers_parser_refuses_with_file_line_and_remedy() {
    assert_eq!(
        problems("clientPort=2181\n"),
        ["zoo.cfg: dataDir is not set; add a line such as dataDir=/var/lib/zookeeper"]
    );
    assert_eq!(
        problems("dataDir=/data\nclientPortAddress=127.0.0.1\n")[0],
        "zoo.cfg:2: clientPortAddress is set but \
         clientPort is not; add a line such as clientPort=2181"
    );
    assert_eq!(
        problems("dataDir=/data\n"),
        ["zoo.cfg: clientPort is not set, so no client could connect; add a line such as clientPort=2181"]
    );
    check_refused(
        "secureClientPortAddress=::1\n",
        &["zoo.cfg:3: ", "secureClientPort is not"],
    );
    check_refused(
        "tickTime=0\n",
        &["zoo.cfg:3: tickTime=0 is not positive", "tickTime=2000"],
    );
    check_refused("tickTime=-1\n", &["zoo.cfg:3: tickTime=-1 is not positive"]);
    check_refused(
        "tickTime=2000ms\n",
        &["zoo.cfg:3: tickTime=2000ms is not a whole number"],
    );
    check_refused("tickTime=3000000000\n", &["zoo.cfg:3: ", "32 bits"]);
    check_refused(
        "minSessionTimeout=5000\nmaxSessionTimeout=4000\n",
        &["zoo.cfg:4: minSessionTimeout (5000 ms) is larger than maxSessionTimeout (4000 ms)"],
    );
    check_refused(
        "maxSessionTimeout=5000\n",
        &["zoo.cfg:3: minSessionTimeout (6000 ms) is larger"],
    );
    check_refused(
        "minSessionTimeout=-2\n",
        &["zoo.cfg:3: minSessionTimeout=-2 is negative"],
    );
    check_refused(
        "electionAlg=1\n",
        &["zoo.cfg:3: electionAlg=1 does not exist", "write 3"],
    );
    check_refused("peerType=leader\n", &["zoo.cfg:3: unknown peerType `leader`"]);
    check_refused(
        "localSessionsEnabled=yes\n",
        &["zoo.cfg:3: localSessionsEnabled=yes is neither true nor false"],
    );
    check_refused(
        "metricsProvider.className=a.B\n",
        &["zoo.cfg:3: there is no metrics provider `a.B`"],
    );
    check_refused(
        "quorum.auth.learnerRequireSasl=true\n",
        &["zoo.cfg:3: ", "quorum.auth.enableSasl is not"],
    );
    check_refused(
        "quorum.auth.enableSasl=true\nquorum.auth.serverRequireSasl=true\n",
        &["zoo.cfg:4: ", "quorum.auth.learnerRequireSasl is not"],
    );
    check_refused(
        "standaloneEnabled=false\n",
        &["standaloneEnabled is false but no participant is listed"],
    );
    check_refused(
        "server.1=a:1:2:observer\n",
        &["zoo.cfg:3: observers are listed without"],
    );
    check_refused(
        "server.1=a:1:2\nserver.2=b:1:2:observer\n",
        &["zoo.cfg:4: observers are listed with a single participant"],
    );
    check_refused(
        "server.1=a:1:1\n",
        &["zoo.cfg:3: server.1=a:1:1: quorum port and election port are the same"],
    );
    check_refused(
        "enforce.auth.enabled=true\n",
        &["zoo.cfg:3: ", "enforce.auth.schemes is not set"],
    );
    check_refused(
        "enforce.auth.enabled=true\nenforce.auth.schemes=ensemble\n",
        &["zoo.cfg:4: authentication scheme ensemble does not exist"],
    );
    check_refused(
        "snapSizeLimitInKb=0\n",
        &["zoo.cfg:3: snapSizeLimitInKb is 0", "-1 for no limit"],
    );
    for port in ["-1", "65536", ""] {
        let problems = problems(&format!("dataDir=/data\nclientPort={port}\n"));
        assert!(
            problems[0].starts_with(&format!("zoo.cfg:2: clientPort={port} is not a")),
            "{problems:?}"
        );
    }
    assert!(problems("dataDir=\nclientPort=1\n")[0].starts_with("zoo.cfg:1: dataDir is empty"));
    check_refused(
        "clientPortAddress=no host\n",
        &["zoo.cfg:3: clientPortAddress=no host cannot be resolved"],
    );
}

#[test]
fn every_problem_is_reported_at_once_in_the_order_of_the_file() {
    let problems = problems("tickTime=x\nclientPort=2181\nelectionAlg=0\nsecureClientPort=1\n");
    let places: Vec<_> = problems
        .iter()
        .map(|problem| problem.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        places,
        ["zoo.cfg:1:", "zoo.cfg:3:", "zoo.cfg:4:", "zoo.cfg:"],
        "{problems:?}"
    );
}

#[test]
fn a_property_that_is_no_number_falls_back_with_a_warning() {
    let loaded = load("snapCount=many\nglobalOutstandingLimit=-5\nznode.container.maxPerMinute=0\n");
    assert_eq!(loaded.config, ServerConfig::new("/data", 2181));
    assert_eq!(
        loaded.notices.iter().map(Notice::to_string).collect::<Vec<_>>(),
        [
            "zoo.cfg:3: snapCount=many is not a whole number of 32 bits: the default is used",
            "zoo.cfg:4: globalOutstandingLimit=-5 is not a whole number of at least 0: the default is used",
            "zoo.cfg:5: znode.container.maxPerMinute=0 is not a whole number of at least 1: the default is used",
        ]
    );
}

#[test]
fn values_below_a_floor_are_raised_with_a_warning() {
    let loaded = load(
        "snapCount=0\nautopurge.snapRetainCount=1\nautopurge.purgeInterval=-1\njute.maxbuffer.extrasize=5\n",
    );
    assert_eq!(
        (
            loaded.config.storage.snap_count,
            loaded.config.storage.snapshots_retained
        ),
        (2, 3)
    );
    assert_eq!(loaded.config.storage.purge_interval, None);
    assert_eq!(loaded.config.limits.record_extra_bytes, 1024);
    assert_eq!(loaded.notices.len(), 2);
}

#[test]
fn properties_take_the_number_forms_of_java() {
    for (text, expected) in [
        ("10", 10),
        ("0x10", 16),
        ("#10", 16),
        ("010", 8),
        ("+7", 7),
        ("0", 0),
    ] {
        assert_eq!(
            quiet(&format!("globalOutstandingLimit={text}\n"))
                .limits
                .outstanding_requests_max,
            expected
        );
    }
    for text in ["", "-", "+-7", "0x", "08", "1e3", "7 7", "99999999999999999999"] {
        assert_eq!(
            load(&format!("globalOutstandingLimit={text}\n")).notices.len(),
            1,
            "{text}"
        );
    }
    assert_eq!(
        quiet("snapSizeLimitInKb=-9223372036854775808\n")
            .storage
            .snap_size_limit_bytes,
        None
    );
    let largest = quiet("snapSizeLimitInKb=9223372036854775807\n");
    assert_eq!(largest.storage.snap_size_limit_bytes, Some(u64::MAX));
}

#[test]
fn flags_of_properties_are_true_or_false_as_in_java() {
    assert!(quiet("extendedTypesEnabled=TRUE\n").znode.extended_types);
    let yes = load("extendedTypesEnabled=yes\n");
    assert!(!yes.config.znode.extended_types);
    assert_eq!(yes.notices.len(), 1);
    // Only `yes` skips ACLs.
    let skip = load("skipACL=true\n");
    assert!(!skip.config.auth.skip_acl);
    assert!(skip.notices[0].text.contains("neither yes nor no"));
}

#[test]
fn four_letter_words_follow_the_whitelist() {
    assert_eq!(
        quiet("4lw.commands.whitelist=*\n").four_letter,
        FourLetterConfig::all()
    );
    assert_eq!(
        quiet("4lw.commands.whitelist=stat, *\n").four_letter,
        FourLetterConfig::all()
    );
    assert_eq!(
        quiet("4lw.commands.whitelist=\n").four_letter,
        FourLetterConfig::only([])
    );
    assert_eq!(
        quiet("readonlymode.enabled=true\n").four_letter,
        FourLetterConfig::only(["isro"])
    );
    let loaded = load("4lw.commands.whitelist=ruok,what\n");
    assert_eq!(
        loaded.notices[0].to_string(),
        "zoo.cfg:3: 4lw.commands.whitelist: there is no four-letter word `what`"
    );
}

#[test]
fn the_one_server_line_of_the_docker_image_gives_the_client_port() {
    let text = "dataDir=/data\ndataLogDir=/datalog\ntickTime=2000\ninitLimit=5\nsyncLimit=2\n\
                autopurge.snapRetainCount=3\nautopurge.purgeInterval=0\nmaxClientCnxns=60\nstandaloneEnabled=true\n\
                admin.enableServer=true\nserver.1=localhost:2888:3888;2181\n";
    let loaded = resolve_with(text, &[("/data/myid", "1\n")]).unwrap();
    assert_eq!(
        (loaded.config.client.address, loaded.config.client.port),
        (None, 2181)
    );
    let warnings: Vec<_> = loaded
        .notices
        .iter()
        .filter(|notice| notice.level == NoticeLevel::Warning)
        .collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[1]
            .to_string()
            .starts_with("zoo.cfg:11: one server is listed: it stands alone")
    );

    let without_number = problems_with(text, &[]);
    assert!(
        without_number[0].contains("write this server's number into the file myid"),
        "{without_number:?}"
    );
    let other_number = problems_with(text, &[("/data/myid", "2")]);
    assert!(
        other_number[0].contains("clientPort is not set"),
        "{other_number:?}"
    );
    let no_number = problems_with(text, &[("/data/myid", "one")]);
    assert!(
        no_number[0].starts_with("/data/myid:1: `one` is not a server number"),
        "{no_number:?}"
    );
}

#[test]
fn client_port_must_agree_with_the_own_server_line() {
    let files = [("/data/myid", "1")];
    let text = |lines: &str| format!("dataDir=/data\nserver.1=a:1:2;127.0.0.1:2181\n{lines}");
    let agreeing = resolve_with(&text("clientPort=2181\nclientPortAddress=127.0.0.1\n"), &files).unwrap();
    assert_eq!(
        agreeing.config.client.address,
        Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
    );
    let any_address = resolve_with(&text("clientPort=2181\n"), &files).unwrap();
    assert_eq!(
        any_address.config.client.address,
        Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
    );
    for lines in [
        "clientPort=2182\n",
        "clientPort=2181\nclientPortAddress=127.0.0.2\n",
    ] {
        let problems = problems_with(&text(lines), &files);
        assert!(
            problems[0].starts_with("zoo.cfg:3: clientPort contradicts the client part"),
            "{problems:?}"
        );
    }
}

#[test]
fn dynamic_file_is_the_server_list_and_nothing_else() {
    let text = format!("{BASE}dynamicConfigFile=/dyn\n");
    let alone = resolve_with(&text, &[("/dyn", "server.1=a:1:2\n")]).unwrap();
    assert!(
        alone.notices[0]
            .to_string()
            .starts_with("/dyn:1: one server is listed")
    );
    let check = |dynamic: &str, expected: &str| {
        let problems = problems_with(&text, &[("/dyn", dynamic)]);
        assert!(problems[0].starts_with(expected), "{problems:?}");
    };
    check(
        "version=100000000\n",
        "/dyn:1: version does not belong into a dynamic configuration file",
    );
    check("server.1=a:1:2\ntickTime=1\n", "/dyn:2: tickTime does not belong");
    check("server.1=\\u1", "/dyn:1: `\\u` is not followed by");
    assert!(problems(&text)[0].starts_with("zoo.cfg:3: dynamicConfigFile=/dyn does not exist"));
    let both = problems_with(&format!("{text}server.1=a:1:2\n"), &[("/dyn", "")]);
    assert!(
        both[0].starts_with("zoo.cfg:4: server.1 stands beside dynamicConfigFile"),
        "{both:?}"
    );
}

#[test]
fn wildcard_addresses_are_every_interface() {
    for address in ["0.0.0.0", "::", "[::]"] {
        assert_eq!(
            quiet(&format!("clientPortAddress={address}\n")).client.address,
            None,
            "{address}"
        );
    }
    assert_eq!(
        quiet("clientPortAddress=[::1]\n").client.address,
        Some("::1".parse().unwrap())
    );
}

#[test]
fn argument_form_is_port_datadir_ticktime_maxcnxns() {
    let load = |arguments: &[&str]| {
        load_arguments(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
            .map(|loaded| loaded.config)
            .map_err(|invalid| invalid.to_string())
    };
    let config = load(&["0", "/data"]).unwrap();
    assert_eq!(
        (config.client.port, config.limits.connections_per_address_max),
        (0, None)
    );
    assert_eq!(config.storage.data_dir, PathBuf::from("/data"));
    assert_eq!(config.session.tick_time_ms, 3000);
    let config = load(&["2181", "/data", "1000", "5"]).unwrap();
    assert_eq!(
        (config.session.tick_time_ms, config.session.timeout_ms_max),
        (1000, 20_000)
    );
    assert_eq!(config.limits.connections_per_address_max, Some(5));
    assert!(load(&["x", "/data"]).is_err_and(|text| text.starts_with("arguments:1: clientPort=x is not")));
    assert!(load(&["1", "/data", "x"]).is_err_and(|text| text.starts_with("arguments:3: tickTime=x is not")));
    assert!(load(&["1"]).is_err_and(|text| text.contains("there are 1 arguments")));
    assert!(load(&["1", "d", "1", "1", "1"]).is_err());
}

#[test]
fn relative_directories_are_warned_about_unless_meant() {
    let notices = |dir: &str| {
        resolve_with(&format!("dataDir={dir}\nclientPort=1\n"), &[])
            .unwrap()
            .notices
    };
    assert!(
        notices("data")[0]
            .text
            .contains("relative to the working directory")
    );
    assert_eq!(notices("./data"), []);
    assert_eq!(notices("../data"), []);
}

#[test]
fn files_are_read_from_disk_up_to_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zoo.cfg");
    let name = path.to_str().unwrap();
    let problem = load_file(name).unwrap_err().to_string();
    assert!(
        problem.ends_with("zoo.cfg: does not exist; check the path"),
        "{problem}"
    );
    std::fs::write(&path, BASE).unwrap();
    assert_eq!(load_file(name).unwrap().config.client.port, 2181);
    std::fs::write(&path, "a=\\u00").unwrap();
    let problem = load_file(name).unwrap_err().to_string();
    assert!(
        problem.contains("zoo.cfg:1: `\\u` is not followed by four hexadecimal digits"),
        "{problem}"
    );
    std::fs::write(
        &path,
        vec![b'#'; usize::try_from(CONFIG_FILE_BYTES_MAX).unwrap() + 1],
    )
    .unwrap();
    let problem = load_file(name).unwrap_err().to_string();
    assert!(problem.contains("larger than 1 MiB"), "{problem}");
    let problem = load_file(dir.path().to_str().unwrap()).unwrap_err().to_string();
    assert!(problem.contains("cannot be read"), "{problem}");
}

#[test]
fn secrets_show_in_no_message() {
    let loaded = load(
        "DigestAuthenticationProvider.superDigest=hush\nssl.keyStore.password=hush\n\
         SASLAuthenticationProvider.superPassword=hush\nunknownPassword=hush\n",
    );
    assert_eq!(loaded.notices.len(), 4);
    assert!(!format!("{loaded:?}").contains("hush"), "{loaded:?}");
    assert_eq!(loaded.config.auth.super_digest.unwrap().reveal(), "hush");
}

#[test]
fn table_has_each_key_once_and_each_row_is_found_by_its_key() {
    let keys: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.key).collect();
    assert_eq!(keys.len(), SETTINGS.len());
    for setting in SETTINGS {
        let key = setting.key.replace(".*", ".x").replace(".N", ".1");
        assert_eq!(table::find(&key).map(|found| found.key), Some(setting.key));
        let prefixed = table::find(&format!("zookeeper.{key}")).map(|found| found.key);
        assert_eq!(
            prefixed,
            Some(setting.key).filter(|_| setting.spelling == Spelling::Property),
            "{key}"
        );
    }
    assert!(table::find("server.").is_none() && table::find("").is_none());
}

/// The rows of the tables of docs/configuration.md: the backquoted keys of a row's first cell, by heading.
fn documented_keys() -> BTreeMap<String, Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = std::fs::read_to_string(path).expect("docs/configuration.md is there");
    let mut heading = String::new();
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title.to_owned();
        } else if let Some(row) = line.strip_prefix("| `") {
            let cell = row.split(" | ").next().unwrap_or_default();
            let named = format!("`{cell}")
                .split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect::<Vec<_>>();
            keys.entry(heading.clone()).or_default().extend(named);
        }
    }
    keys
}

#[test]
fn documentation_lists_exactly_the_keys_of_the_table_under_what_becomes_of_them() {
    let mut documented = documented_keys();
    let mut expected: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for setting in SETTINGS {
        let heading = match setting.disposition {
            Disposition::Honoured => "Honoured",
            Disposition::WithoutEffect(_) => "Accepted without effect",
            Disposition::EnsembleOnly => "About ensembles",
            Disposition::EnsembleNotYet(_) => "Not supported yet in ensembles",
            Disposition::NotSupportedYet(_) => "Not supported yet",
        };
        expected
            .entry(heading.to_owned())
            .or_default()
            .insert(setting.key);
    }
    for (heading, keys) in expected {
        let listed = documented.remove(&heading).unwrap_or_default();
        let once: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
        assert_eq!(once.len(), listed.len(), "{heading}: a key is listed twice");
        assert_eq!(once, keys, "{heading}");
    }
    assert_eq!(documented, BTreeMap::new(), "keys under other headings");
}

#[test]
fn documentation_names_the_spelling_of_each_key_that_counts() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = std::fs::read_to_string(path).expect("docs/configuration.md is there");
    for setting in SETTINGS {
        let quoted = format!("`{}`", setting.key);
        let is_row =
            |line: &&str| line.starts_with("| `") && line.split(" | ").next().unwrap_or("").contains(&quoted);
        let row = text
            .lines()
            .find(is_row)
            .unwrap_or_else(|| panic!("{quoted} has no row"));
        if matches!(
            setting.disposition,
            Disposition::Honoured | Disposition::EnsembleOnly
        ) {
            let spelled = row.split(" | ").nth(1).map(|cell| cell.trim_end_matches(" |"));
            let expected = if setting.spelling == Spelling::File {
                "file"
            } else {
                "property"
            };
            assert_eq!(spelled, Some(expected), "{row}");
        }
    }
}

proptest! {
    #[test]
    fn any_values_of_known_keys_give_settings_or_problems(
        pairs in proptest::collection::vec((0..SETTINGS.len(), "[-+0-9a-z:;|.,=# ]{0,12}"), 0..12),
    ) {
        let mut text = BASE.to_owned();
        for (index, value) in &pairs {
            let setting = &SETTINGS[*index];
            // Names would be looked up on the network.
            if !setting.key.contains("Address") && setting.key != "server.N" {
                let key = setting.key.replace(".*", ".x").replace(".N", ".1");
                text.push_str(&format!("{key}={value}\n"));
            }
        }
        if let Ok(loaded) = resolve_with(&text, &[]) {
            let ServerConfig { session, storage, limits, znode, .. } = loaded.config;
            prop_assert!(session.tick_time_ms >= 1 && session.timeout_ms_min <= session.timeout_ms_max);
            prop_assert!(i32::try_from(session.timeout_ms_max).is_ok());
            prop_assert!(storage.snap_count >= 2 && storage.snapshots_retained >= 3);
            prop_assert!(limits.frame_bytes_max >= 64 && limits.record_extra_bytes >= 1024);
            prop_assert!(znode.container_deletions_per_minute_max >= 1);
        }
    }
}
