//! Tests of what a member of an ensemble reads from its files.

use std::collections::BTreeSet;
use std::time::Duration;

use oxkeeper_types::ServerId;
use proptest::prelude::*;

use super::tests::{problems_with, resolve_with};
use super::*;

/// The smallest file of a member; tests add lines from line 8 on.
const BASE: &str = "dataDir=/data\nclientPort=2181\ninitLimit=10\nsyncLimit=5\nserver.1=a:2888:3888\n\
                    server.2=b:2888:3888\nserver.3=c:2888:3888\n";
const MY_ID: [(&str, &str); 1] = [("/data/myid", "2\n")];

fn load(lines: &str) -> LoadedConfig {
    let text = format!("{BASE}{lines}");
    resolve_with(&text, &MY_ID).unwrap_or_else(|invalid| panic!("{lines}: {invalid}"))
}

fn notices(lines: &str) -> Vec<String> {
    load(lines).notices.iter().map(Notice::to_string).collect()
}

/// The ensemble of a file that gives no reason for any notice.
fn quiet(lines: &str) -> EnsembleConfig {
    let loaded = load(lines);
    assert_eq!(loaded.notices, [], "{lines}");
    loaded.config.ensemble.expect("a member of an ensemble")
}

/// `lines` after the smallest file are refused for one reason, which contains `part`.
fn check_refused(lines: &str, part: &str) {
    check_text_refused(&format!("{BASE}{lines}"), part);
}

fn check_text_refused(text: &str, part: &str) {
    let problems = problems_with(text, &MY_ID);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains(part), "{:?} lacks {part:?}", problems[0]);
}

fn ids(numbers: &[i64]) -> BTreeSet<ServerId> {
    numbers.iter().copied().map(ServerId).collect()
}

#[test]
fn smallest_file_of_a_member_gives_zookeepers_defaults() {
    let ensemble = quiet("");
    assert_eq!(ensemble.me, ServerId(2));
    assert_eq!(
        ensemble.own().addresses,
        [PeerAddress {
            host: "b".to_owned(),
            quorum_port: 2888,
            election_port: 3888
        }]
    );
    assert_eq!(ensemble.quorum.voters(), &ids(&[1, 2, 3]));
    assert_eq!(
        ensemble.config_text,
        "server.1=a:2888:3888:participant\nserver.2=b:2888:3888:participant\n\
         server.3=c:2888:3888:participant\nversion=0"
    );
    let EnsembleConfig {
        me, servers, quorum, ..
    } = ensemble.clone();
    let expected = EnsembleConfig {
        tick_ms: 3000,
        is_listed_in_config_file: true,
        ..EnsembleConfig::new(me, servers, quorum, &Groups::default(), 0)
    };
    assert_eq!(ensemble, expected);
}

#[test]
fn every_setting_of_a_member_is_taken_over() {
    let ensemble = quiet(
        "tickTime=100\nconnectToLearnerMasterLimit=7\nelectionAlg=3\npeerType=participant\nleaderServes=no\n\
         localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true\nquorumListenOnAllIPs=true\n\
         multiAddress.enabled=true\nelectionPortBindRetry=0\ncnxTimeout=1234\ntcpKeepAlive=true\n\
         fastleader.minNotificationInterval=50\nfastleader.maxNotificationInterval=60000\n\
         commitLogCount=700\nreadonlymode.enabled=true\nleader.maxTimeToWaitForEpoch=800\n\
         reconfigEnabled=true\nstandaloneEnabled=false\n",
    );
    let EnsembleConfig {
        me, servers, quorum, ..
    } = ensemble.clone();
    let expected = EnsembleConfig {
        tick_ms: 100,
        connect_to_leader_limit_ticks: 7,
        leader_serves: false,
        local_sessions_enabled: true,
        local_sessions_upgrading_enabled: true,
        quorum_listen_on_all_ips: true,
        multi_address_enabled: true,
        election_bind_tries_max: None,
        election_connect_timeout: Duration::from_millis(1234),
        tcp_keep_alive: true,
        notification_interval_min_ms: 50,
        notification_interval_max_ms: 60_000,
        window_entries_max: 700,
        read_only_mode: true,
        epoch_wait_max_ms: Some(800),
        standalone_enabled: false,
        is_listed_in_config_file: true,
        reconfig_enabled: true,
        config_file: Some("zoo.cfg".into()),
        ..EnsembleConfig::new(me, servers, quorum, &Groups::default(), 0)
    };
    assert_eq!(ensemble, expected);
    let zab = ensemble.zab_settings();
    assert_eq!(
        (
            zab.me,
            zab.tick_ms,
            zab.init_limit_ticks,
            zab.sync_limit_ticks,
            zab.window_entries_max
        ),
        (ServerId(2), 100, 10, 5, 700)
    );
    assert_eq!(
        quiet("connectToLearnerMasterLimit=0\n").connect_to_leader_limit_ticks,
        10
    );
    let longest = quiet("fastleader.minNotificationInterval=5000\n");
    assert_eq!(
        longest.notification_interval_max_ms, 5000,
        "never below the shortest"
    );
}

#[test]
fn observers_follow_without_a_vote() {
    let observer = load("server.4=d:2888:3888:observer;2181\n")
        .config
        .ensemble
        .unwrap();
    assert_eq!(
        (observer.quorum.voters(), observer.quorum.observers()),
        (&ids(&[1, 2, 3]), &ids(&[4]))
    );
    assert!(
        observer
            .config_text
            .ends_with("server.4=d:2888:3888:observer;0.0.0.0:2181\nversion=0"),
        "{}",
        observer.config_text
    );
    let text = format!("{BASE}server.4=d:2888:3888:observer\npeerType=observer\n");
    let loaded = resolve_with(&text, &[("/data/myid", "4")]).unwrap();
    assert_eq!(loaded.notices, []);
    assert!(loaded.config.ensemble.unwrap().own().is_observer);
}

#[test]
fn the_list_says_who_votes_and_not_peer_type() {
    assert_eq!(
        notices("peerType=observer\n"),
        ["zoo.cfg:8: the server list says participant and peerType says observer: the list counts"]
    );
    let text = format!("{BASE}server.4=d:2888:3888:observer\n");
    let loaded = resolve_with(&text, &[("/data/myid", "4")]).unwrap();
    assert_eq!(
        loaded.notices[0].to_string(),
        "zoo.cfg:8: the server list says observer and peerType says participant: the list counts"
    );
}

#[test]
fn client_address_comes_from_the_own_line_or_from_client_port() {
    let text = BASE
        .replace("clientPort=2181\n", "")
        .replace("b:2888:3888", "b:2888:3888;127.0.0.1:2182");
    let config = resolve_with(&text, &MY_ID).unwrap().config;
    assert_eq!(
        (config.client.port, config.client.address),
        (2182, Some("127.0.0.1".parse().unwrap()))
    );
    let ensemble = config.ensemble.unwrap();
    assert!(
        ensemble
            .config_text
            .contains("server.2=b:2888:3888:participant;127.0.0.1:2182\n")
    );
    check_text_refused(
        &BASE.replace("b:2888:3888", "b:2888:3888;2182"),
        "zoo.cfg:2: clientPort contradicts the client part of this server's line (zoo.cfg:6)",
    );
    // That another server has a client part helps this one nothing.
    check_text_refused(
        &BASE
            .replace("clientPort=2181\n", "")
            .replace("a:2888:3888", "a:2888:3888;2181"),
        "zoo.cfg: clientPort is not set, so no client could connect; add a line such as clientPort=2181",
    );
}

#[test]
fn numbers_of_servers_that_tolerate_less_than_they_could_are_warned_about() {
    let warning = |lines: &str| {
        let found = notices(lines);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    };
    assert!(
        warning("server.4=d:1:2\n").contains("zoo.cfg:5: 4 participants tolerate no more failures than 3")
    );
    let two = BASE.replace("server.3=c:2888:3888\n", "");
    let notices = resolve_with(&two, &MY_ID).unwrap().notices;
    assert!(
        notices[0]
            .to_string()
            .contains("zoo.cfg:5: no server failure will be tolerated"),
        "{notices:?}"
    );
}

#[test]
fn standalone_enabled_false_makes_an_ensemble_of_one_server() {
    let text = "dataDir=/data\nclientPort=2181\ninitLimit=10\nsyncLimit=5\nserver.2=b:1:2\nstandaloneEnabled=false\n";
    let ensemble = resolve_with(text, &MY_ID).unwrap().config.ensemble.unwrap();
    assert_eq!(ensemble.quorum.voters(), &ids(&[2]));
    let with_observer = format!("{text}server.5=e:1:2:observer\n");
    let ensemble = resolve_with(&with_observer, &MY_ID).unwrap().config.ensemble;
    assert!(ensemble.is_some());
    assert!(
        resolve_with(&text.replace("false", "true"), &MY_ID)
            .unwrap()
            .config
            .ensemble
            .is_none()
    );
}

#[test]
fn what_a_member_cannot_do_without_is_missed_by_name() {
    let without = |line: &str, part: &str| check_text_refused(&BASE.replace(line, ""), part);
    without(
        "initLimit=10\n",
        "zoo.cfg: initLimit is not set; write a number of ticks",
    );
    without("syncLimit=5\n", "zoo.cfg: syncLimit is not set");
    check_text_refused(
        &BASE.replace("initLimit=10", "initLimit=0"),
        "zoo.cfg:3: initLimit=0 is not positive",
    );
    check_refused(
        "connectToLearnerMasterLimit=-1\n",
        "zoo.cfg:8: connectToLearnerMasterLimit=-1 is not positive",
    );
    let my_id = |files: &[(&str, &str)], part: &str| {
        let problems = problems_with(BASE, files);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(part), "{problems:?}");
    };
    my_id(
        &[],
        "zoo.cfg: there is no file /data/myid; write this server's number into it",
    );
    my_id(
        &[("/data/myid", "4")],
        "server 4, as /data/myid calls this one, is not listed; add a line server.4=",
    );
    my_id(&[("/data/myid", "")], "/data/myid:1: `` is not a server number");
    my_id(
        &[("/data/myid", "two")],
        "/data/myid:1: `two` is not a server number",
    );
    let all = problems_with("dataDir=/data\nserver.1=a:1:2\nserver.2=b:1:2\n", &[]);
    assert_eq!(all.len(), 3, "all at once: {all:?}");
}

#[test]
fn malformed_lists_are_refused_with_their_line() {
    check_refused(
        "server.4=d:1\n",
        "zoo.cfg:8: server.4=d:1: `d:1` is not host:quorumPort",
    );
    check_refused(
        "server.02=d:1:2\n",
        "zoo.cfg:8: server 2 is listed already (zoo.cfg:6)",
    );
    check_refused("server.4=d:1:2|e:1:2\n", "multiAddress.enabled is not true");
    check_refused("electionAlg=1\n", "zoo.cfg:8: electionAlg=1 does not exist");
    check_refused("peerType=boss\n", "zoo.cfg:8: unknown peerType `boss`");
    let text = format!("{BASE}server.255=z:1:2\nextendedTypesEnabled=true\n");
    let problems = problems_with(&text, &[("/data/myid", "255")]);
    assert!(
        problems[0].contains("zoo.cfg:8: server 255 has a number above 254"),
        "{problems:?}"
    );
}

#[test]
fn groups_and_weights_replace_the_majority() {
    let grouped = quiet("group.1=1:2\ngroup.2=3\nweight.2=3\nweight.3=0\n");
    assert!(grouped.quorum.contains_quorum(&ids(&[2])));
    assert!(!grouped.quorum.contains_quorum(&ids(&[1, 3])));
    assert!(
        grouped
            .config_text
            .ends_with("\ngroup.1=1:2\ngroup.2=3\nweight.1=1\nweight.2=3\nweight.3=0\nversion=0"),
        "{}",
        grouped.config_text
    );
    for (lines, part) in [
        ("group.1=1:2\n", "zoo.cfg:8: server 3 is in no group; put each"),
        ("weight.1=2\n", "zoo.cfg:8: server 1 is in no group"),
        ("group.1=1:2:3\ngroup.2=3\n", "server 3 is in two groups"),
        ("group.1=1:2:3:9\n", "server 9 has a group or a weight but is not"),
        (
            "group.1=1:2:3\nweight.1=0\nweight.2=0\nweight.3=0\n",
            "all weights are 0",
        ),
        (
            "group.1=1,2\n",
            "zoo.cfg:8: group.1=1,2: `1,2` is not a server number",
        ),
        ("group.x=1\n", "`x` is not a group number"),
        (
            "group.1=1:2:3\nweight.1=-1\n",
            "zoo.cfg:9: weight.1=-1: `-1` is not a whole number",
        ),
    ] {
        check_refused(lines, part);
    }
    assert_eq!(
        notices("group.1=1:2:3\nweight.7=1\n"),
        ["zoo.cfg:8: weight.7 has no effect: server 7 is not a participant"]
    );
}

#[test]
fn dynamic_file_gives_the_list_and_its_name_the_version() {
    let text = |name: &str| {
        format!("dataDir=/data\nclientPort=2181\ninitLimit=10\nsyncLimit=5\ndynamicConfigFile={name}\n")
    };
    let list = "server.1=a:1:2:participant\nserver.2=b:1:2:participant\nserver.3=c:1:2:observer";
    for (name, version) in [
        ("/zoo.cfg.dynamic.1000000af", 0x1_0000_00af),
        ("/zoo.cfg.dynamic", 0),
        ("/list", 0),
    ] {
        let files = [("/data/myid", "3"), (name, list)];
        let ensemble = resolve_with(&text(name), &files)
            .unwrap()
            .config
            .ensemble
            .unwrap();
        assert_eq!(ensemble.config_version, version, "{name}");
        let last = ensemble.config_text.lines().next_back();
        assert_eq!(last, Some(format!("version={version:x}").as_str()));
        assert!(ensemble.own().is_observer);
    }
}

#[test]
fn several_addresses_are_written_in_the_order_of_their_hosts() {
    let ensemble =
        quiet("multiAddress.enabled=true\nserver.4=z:1:2:observer|[::1]:3:4|m:5:6:observer;[::1]:2181\n");
    assert!(
        ensemble
            .config_text
            .contains("\nserver.4=[::1]:3:4|m:5:6|z:1:2:observer;[::1]:2181\n"),
        "{}",
        ensemble.config_text
    );
    assert_eq!(
        ensemble.servers[&ServerId(4)].addresses[0].host,
        "z",
        "dialled as written"
    );
}

#[test]
fn what_is_missing_in_ensembles_is_warned_about_or_refused() {
    for (lines, warning) in [
        (
            "syncEnabled=false\n",
            "not supported yet: observers without a log",
        ),
        (
            "observerMasterPort=2191\n",
            "not supported yet: followers that serve observers",
        ),
        ("oraclePath=/x\n", "not supported yet: an oracle"),
        (
            "leader.maxConcurrentSnapSyncs=3\n",
            "not supported yet: a limit of the learners",
        ),
        ("quorum.auth.enableSasl=true\n", "not supported yet: SASL"),
        ("portUnification=true\n", "not supported yet: TLS"),
    ] {
        let found = notices(lines);
        assert!(
            found.len() == 1 && found[0].contains(warning),
            "{lines}: {found:?}"
        );
        assert_eq!(load(lines).notices[0].level, NoticeLevel::Warning);
    }
    for lines in [
        "syncEnabled=true\n",
        "observerMasterPort=0\n",
        "sslQuorum=false\n",
        "quorum.auth.enableSasl=false\nquorum.auth.learnerRequireSasl=false\n",
        "leader.maxTimeToWaitForEpoch=-1\n",
    ] {
        quiet(lines);
    }
    check_refused(
        "sslQuorum=true\n",
        "zoo.cfg:8: not supported yet: TLS between servers (sslQuorum)",
    );
    check_refused(
        "quorum.auth.enableSasl=true\nquorum.auth.learnerRequireSasl=true\n",
        "zoo.cfg:9: not supported yet: SASL between servers",
    );
    assert!(notices("follower.nodelay=true\n")[0].contains("has no effect: connections between servers"));
}

proptest! {
    #[test]
    fn any_list_gives_an_ensemble_that_can_decide_or_problems(
        lines in proptest::collection::vec(
            ("(server|group|weight)\\.[1-4]", "([a-c]:[1-3]:[1-3](:observer|:participant)?(;[1-3])?|[1-4](:[1-4]){0,3}|[0-3])"),
            0..10,
        ),
        my_id in "[1-4]",
    ) {
        let mut text = "dataDir=/data\nclientPort=2\ninitLimit=1\nsyncLimit=1\nstandaloneEnabled=false\n".to_owned();
        for (key, value) in &lines {
            text.push_str(&format!("{key}={value}\n"));
        }
        if let Ok(loaded) = resolve_with(&text, &[("/data/myid", &my_id)]) {
            let ensemble = loaded.config.ensemble.expect("standaloneEnabled is false");
            prop_assert!(ensemble.quorum.contains_quorum(ensemble.quorum.voters()));
            prop_assert!(ensemble.quorum.is_member(ensemble.me));
            // The text says the same again.
            let again: String = text
                .lines()
                .filter(|line| !["server", "group.", "weight"].iter().any(|stem| line.starts_with(stem)))
                .chain(ensemble.config_text.lines().filter(|line| !line.starts_with("version=")))
                .map(|line| format!("{line}\n"))
                .collect();
            let again = resolve_with(&again, &[("/data/myid", &my_id)])
                .map_err(|invalid| TestCaseError::fail(invalid.to_string()))?;
            prop_assert_eq!(again.config.ensemble.map(|again| again.config_text), Some(ensemble.config_text));
        }
    }
}
