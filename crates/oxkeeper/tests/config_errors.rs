//! The `oxkeeper` program with configurations it must refuse: exit code 2, ZooKeeper's sentence last on stderr, and
//! before it one line per problem with file, line and remedy.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn oxkeeper(arguments: &[&str], directory: &Path) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_oxkeeper"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("OXKEEPER_LOG")
        .stdin(Stdio::null())
        .output();
    output.expect("the program starts")
}

/// A new directory with `zoo.cfg` in it. The file's `dataDir` must not come to exist.
fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().join("zoo.cfg");
    std::fs::write(&path, text).expect("it can be written");
    (dir, path)
}

/// What `oxkeeper serve` and `oxkeeper check-config` say about `text`, as lines of stderr.
fn refusals(text: &str) -> Vec<String> {
    let (dir, _) = written(text);
    let mut said = Vec::new();
    for command in ["serve", "check-config"] {
        let output = oxkeeper(&[command, "zoo.cfg"], dir.path());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {text}\n{stderr}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{command}");
        let lines: Vec<String> = stderr.lines().map(str::to_owned).collect();
        assert_eq!(
            lines.last().map(String::as_str),
            Some("Invalid config, exiting abnormally"),
            "{command}"
        );
        assert!(
            said.is_empty() || said == lines,
            "both commands say the same: {said:?} {lines:?}"
        );
        said = lines;
    }
    let left = std::fs::read_dir(dir.path()).expect("it can be listed");
    let left: Vec<_> = left
        .map(|entry| entry.expect("it can be listed").file_name())
        .collect();
    assert_eq!(left, ["zoo.cfg"], "a refused server leaves nothing behind");
    said.pop();
    said
}

/// `lines` after a valid first two are refused for one reason.
fn check_refused(lines: &str, expected: &str) {
    let said = refusals(&format!("dataDir=./data\nclientPort=0\n{lines}"));
    assert_eq!(said.len(), 1, "{lines}: {said:?}");
    assert!(
        said[0].starts_with(&format!("error: {expected}")),
        "{lines}: {said:?}"
    );
}

#[test]
fn each_invalid_configuration_exits_with_2_and_says_where_and_what_to_do() {
    check_refused(
        "tickTime=2000ms\n",
        "zoo.cfg:3: tickTime=2000ms is not a whole number of 32 bits; write",
    );
    check_refused(
        "tickTime=0\n",
        "zoo.cfg:3: tickTime=0 is not positive; write milliseconds",
    );
    check_refused(
        "# timeouts\nminSessionTimeout=9000\nmaxSessionTimeout=8000\n",
        "zoo.cfg:5: minSessionTimeout (9000 ms) is larger than maxSessionTimeout (8000 ms); raise",
    );
    check_refused(
        "electionAlg=0\n",
        "zoo.cfg:3: electionAlg=0 does not exist; write 3",
    );
    check_refused("peerType=master\n", "zoo.cfg:3: unknown peerType `master`; write");
    check_refused(
        "localSessionsEnabled=1\n",
        "zoo.cfg:3: localSessionsEnabled=1 is neither true nor false",
    );
    check_refused(
        "metricsProvider.className=x.Y\n",
        "zoo.cfg:3: there is no metrics provider `x.Y`",
    );
    check_refused(
        "quorum.auth.learnerRequireSasl=true\n",
        "zoo.cfg:3: quorum.auth.learnerRequireSasl is true but",
    );
    check_refused(
        "secureClientPort=0\n",
        "zoo.cfg:3: not supported yet: TLS (secureClientPort); remove the line",
    );
    check_refused(
        "secureClientPortAddress=::1\n",
        "zoo.cfg:3: secureClientPortAddress is set but",
    );
    check_refused(
        "sessionRequireClientSASLAuth=true\n",
        "zoo.cfg:3: not supported yet: SASL",
    );
    check_refused(
        "standaloneEnabled=false\n",
        "zoo.cfg: standaloneEnabled is false but no participant is listed",
    );
    check_refused(
        "server.1=a:2888:2888\n",
        "zoo.cfg:3: server.1=a:2888:2888: quorum port and election port",
    );
    check_refused(
        "server.1=a:2888\n",
        "zoo.cfg:3: server.1=a:2888: `a:2888` is not host:quorumPort",
    );
    check_refused(
        "initLimit=10\nsyncLimit=5\nserver.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n",
        "zoo.cfg: there is no file ./data/myid; write this server's number into it: the N of its server.N line",
    );
    check_refused(
        "dynamicConfigFile=./nowhere\n",
        "zoo.cfg:3: dynamicConfigFile=./nowhere does not exist; check",
    );
    check_refused(
        "a=\\u12\n",
        "zoo.cfg:3: `\\u` is not followed by four hexadecimal digits; write",
    );
    check_refused(
        "clientPortAddress=no host\n",
        "zoo.cfg:3: clientPortAddress=no host cannot be resolved",
    );
    check_refused(
        "clientPort=65536\n",
        "zoo.cfg:3: clientPort=65536 is not a port; write a number from 0 to 65535",
    );
}

#[test]
fn missing_settings_name_the_file_and_every_problem_is_said_at_once() {
    assert_eq!(
        refusals("clientPort=0\n"),
        ["error: zoo.cfg: dataDir is not set; add a line such as dataDir=/var/lib/zookeeper"]
    );
    assert_eq!(
        refusals("dataDir=./data\nclientPortAddress=127.0.0.1\n"),
        [
            "error: zoo.cfg:2: clientPortAddress is set but clientPort is not; add a line such as clientPort=2181"
        ]
    );
    assert_eq!(
        refusals("dataDir=./data\n"),
        [
            "error: zoo.cfg: clientPort is not set, so no client could connect; add a line such as clientPort=2181"
        ]
    );
    let said = refusals("tickTime=x\nelectionAlg=2\n");
    let places: Vec<_> = said.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(places, ["zoo.cfg:1:", "zoo.cfg:2:", "zoo.cfg:"], "{said:?}");
}

#[test]
fn unreadable_file_exits_with_2() {
    let (dir, _) = written("");
    for (name, reason) in [
        ("none.cfg", "does not exist; check the path"),
        (".", "cannot be read: "),
    ] {
        let output = oxkeeper(&["serve", name], dir.path());
        assert_eq!(output.status.code(), Some(2));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.starts_with(&format!("error: {name}: {reason}")),
            "{stderr}"
        );
        assert!(
            stderr.ends_with("\nInvalid config, exiting abnormally\n"),
            "{stderr}"
        );
    }
}

#[test]
fn argument_form_is_checked_like_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str], expected: &str| {
        let output = oxkeeper(&[&["serve"], arguments].concat(), dir.path());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with(expected), "{arguments:?}: {stderr}");
    };
    check(
        &["x", "./data"],
        "error: arguments:1: clientPort=x is not a whole number",
    );
    check(
        &["70000", "./data"],
        "error: arguments:1: clientPort=70000 is not a port",
    );
    check(&["0", ""], "error: arguments:2: dataDir is empty");
    check(
        &["0", "./data", "-1"],
        "error: arguments:3: tickTime=-1 is not positive",
    );
    check(
        &["0", "./data", "1000", "many"],
        "error: arguments:4: maxClientCnxns=many is not",
    );
    check(&["0", "./data", "1000", "1", "1"], "error: unexpected value '1'");
    check(&["--what"], "error: unexpected argument '--what'");
}

#[test]
fn log_level_that_means_nothing_exits_with_2() {
    let (dir, _) = written("");
    let output = oxkeeper(&["--log-level", "a=b=c", "serve", "zoo.cfg"], dir.path());
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with("error: log level `a=b=c` is not valid"),
        "{stderr}"
    );
}

#[test]
fn check_config_of_a_valid_file_says_what_has_no_effect_and_starts_nothing() {
    let (dir, _) = written(
        "tickTime=2000\ninitLimit=10\ndataDir=./data\nclientPort=2181\nnio.numWorkerThreads=8\nticktime=1\n\
         admin.serverPort=8081\nmaxSessionTimeout=30000\n",
    );
    let output = oxkeeper(&["check-config", "zoo.cfg"], dir.path());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let expected = "\
note: zoo.cfg:2: initLimit has no effect: it is about ensembles, and this server stands alone
note: zoo.cfg:5: nio.numWorkerThreads has no effect: there are no such threads here
warning: zoo.cfg:6: unknown key ticktime has no effect; did you mean tickTime?
warning: zoo.cfg:7: not supported yet: the HTTP admin server (admin.serverPort)
zoo.cfg: valid
  clients   port 2181 on every interface
  snapshots ./data/version-2
  logs      ./data/version-2
  sessions  4000 to 30000 ms, tick 2000 ms
";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert!(!dir.path().join("data").exists());
}

#[test]
fn check_config_of_a_member_says_what_it_would_be() {
    let (dir, _) = written(
        "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir=data\nserver.1=a:2888:3888;2181\n\
         server.2=b:2888:3888;2181\nserver.3=c:2888:3888;2181\nserver.4=[::1]:2888:3888:observer;2182\n",
    );
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::fs::write(dir.path().join("data/myid"), "4\n").unwrap();
    let output = oxkeeper(&["check-config", "zoo.cfg"], dir.path());
    assert_eq!(output.status.code(), Some(0));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let (_, said) = stdout.split_once("zoo.cfg: valid\n").expect("it is valid");
    let expected = "  \
  clients   port 2182 on every interface
  snapshots data/version-2
  logs      data/version-2
  sessions  4000 to 40000 ms, tick 2000 ms
  ensemble  server 4, an observer; participants 1 2 3; observers 4
  servers   quorum port 2888 and election port 3888 of ::1
  patience  initLimit 20000 ms, syncLimit 10000 ms
";
    assert_eq!(said, expected);
}

#[test]
fn help_and_version_are_on_stdout() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, part) in [
        (&["--help"][..], "check-config"),
        (
            &["serve", "--help"],
            "oxkeeper serve PORT DATADIR [TICKTIME] [MAXCNXNS]",
        ),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let output = oxkeeper(arguments, dir.path());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(
            String::from_utf8(output.stdout).unwrap().contains(part),
            "{arguments:?}"
        );
    }
}
