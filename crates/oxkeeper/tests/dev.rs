//! `oxkeeper dev`, as a person sees it and as a program in any language drives it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use oxkeeper_testkit::{Client, CreateMode};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

/// How long anything may take on a busy machine before a test gives up.
const DEADLINE: Duration = Duration::from_secs(60);

struct Dev {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
    /// Where its temporary files are.
    temporary: tempfile::TempDir,
}

impl Dev {
    fn start(arguments: &[&str], stdin: Stdio) -> Dev {
        let mut program = Command::new(env!("CARGO_BIN_EXE_oxkeeper"));
        program.arg("dev").args(arguments);
        Dev::run(program, stdin)
    }

    fn run(mut program: Command, stdin: Stdio) -> Dev {
        let temporary = tempfile::tempdir().expect("a directory");
        let mut child = program
            .env_remove("OXKEEPER_LOG")
            .env("TMPDIR", temporary.path())
            .stdin(stdin)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Dev {
            stdin: child.stdin.take(),
            child,
            lines,
            seen: Vec::new(),
            temporary,
        }
    }

    fn start_json(arguments: &[&str]) -> (Dev, Value) {
        let mut dev = Dev::start(&[&["--json"], arguments].concat(), Stdio::piped());
        let first = dev.next_json();
        (dev, first)
    }

    fn next_line(&mut self) -> String {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => {
                self.seen.push(line.clone());
                line
            }
            Err(error) => panic!("no further line ({error}): {:#?}", self.seen),
        }
    }

    fn next_json(&mut self) -> Value {
        let line = self.next_line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Waits for a line that contains `part`, from now on.
    fn wait_for(&mut self, part: &str) -> String {
        loop {
            let line = self.next_line();
            if line.contains(part) {
                return line;
            }
        }
    }

    fn send(&mut self, command: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "{command}").expect("it reads its commands");
    }

    fn ask(&mut self, command: &str) -> Value {
        self.send(command);
        self.next_json()
    }

    fn expect_ok(&mut self, command: &str) -> Value {
        let reply = self.ask(command);
        assert_eq!(reply["ok"], true, "{command}: {reply}");
        reply
    }

    fn error(&mut self, command: &str) -> String {
        let reply = self.ask(command);
        assert_eq!(reply["ok"], false, "{command}: {reply}");
        reply["error"].as_str().expect("it says why").to_owned()
    }

    fn state(&mut self, id: usize) -> String {
        let status = self.expect_ok("status");
        status["servers"][id - 1]["state"]
            .as_str()
            .expect("a word")
            .to_owned()
    }

    fn leader(&mut self) -> usize {
        let servers = self.expect_ok("wait")["servers"].clone();
        let servers = servers.as_array().expect("a list");
        let at = servers.iter().position(|server| server["state"] == "leading");
        at.expect("that is what it waits for") + 1
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {:#?}", self.seen);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for a clean end that leaves nothing.
    fn expect_end(&mut self) {
        assert_eq!(self.wait_for_end().code(), Some(0), "{:#?}", self.seen);
        let left: Vec<_> = std::fs::read_dir(self.temporary.path())
            .expect("it is there")
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn connect(address: &Value) -> Client {
    let address: SocketAddr = address.as_str().expect("text").parse().expect("one address");
    let until = Instant::now() + DEADLINE;
    loop {
        match Client::connect(address, 10_000) {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_program_gets_one_server_by_one_line_and_commands_it() {
    let (mut dev, first) = Dev::start_json(&[]);
    assert_eq!(first["pid"], dev.child.id());
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    let address = &first["connect"];
    assert_eq!(
        first["servers"],
        json!([{"id": 1, "address": address, "state": "standalone", "connections": 0}])
    );

    let mut client = connect(address);
    client.create("/mine", b"", CreateMode::Ephemeral).unwrap();
    let session = client.session().id;
    assert_eq!(dev.expect_ok("status")["sessions"], json!([session.to_string()]));
    assert_eq!(dev.expect_ok(&format!("expire {session}"))["ended"], true);
    assert_eq!(dev.expect_ok(&format!("expire {}", session.0))["ended"], false);
    assert!(client.ping().is_err());
    let mut client = connect(address);
    assert_eq!(client.exists("/mine", false).unwrap(), None);

    let session = client.session().id;
    assert_eq!(dev.expect_ok(&format!("disconnect {session}"))["connections"], 1);
    assert!(client.ping().is_err());
    let server: SocketAddr = address.as_str().unwrap().parse().unwrap();
    let mut client = Client::renew(server, client.session()).unwrap();
    assert_eq!(dev.expect_ok("disconnect")["connections"], 1);
    dev.expect_ok("cut");
    assert!(Client::renew(server, client.session()).is_err());
    dev.expect_ok("heal 1");
    client = Client::renew(server, client.session()).unwrap();

    dev.expect_ok("pause");
    assert_eq!(dev.state(1), "paused");
    assert!(dev.error("expire 1").contains("is paused"));
    dev.expect_ok("resume 1");
    client.ping().unwrap();
    dev.expect_ok("kill 1");
    assert_eq!(dev.state(1), "down");
    assert!(client.ping().is_err());
    dev.expect_ok("restart");
    client = Client::renew(server, client.session()).expect("same port, same data");
    client.ping().unwrap();

    let gone = client.session().id.to_string();
    drop(client);
    let until = Instant::now() + DEADLINE;
    while dev.expect_ok("status")["servers"][0]["connections"] != 0 {
        assert!(Instant::now() < until);
    }
    dev.expect_ok("advance 60000");
    while dev.expect_ok("status")["sessions"].to_string().contains(&gone) {
        assert!(Instant::now() < until, "time does not pass");
    }
    dev.expect_ok("stop");
    dev.expect_end();
}

#[test]
fn what_is_no_command_is_answered_and_changes_nothing() {
    let (mut dev, first) = Dev::start_json(&[]);
    assert!(dev.error("help").contains("there are: status, kill N"));
    assert!(dev.error("kill 2").contains("no server 2"));
    assert!(dev.error("kill 0").contains("no server 0"));
    assert!(dev.error("kill 1 1").contains("one word"));
    assert!(dev.error("expire").contains("name a session"));
    assert!(dev.error("expire x").contains("x is no session"));
    assert!(dev.error("advance soon").contains("milliseconds"));
    assert!(dev.error("isolate 1").contains("has no others"));
    assert!(dev.error(&"x".repeat(4095)).contains("no command"));
    assert!(
        dev.error(&format!("{}stop", "x".repeat(4096)))
            .contains("no command"),
        "its end is no command"
    );
    dev.send("");
    connect(&first["connect"]).ping().unwrap();
    dev.expect_ok("stop");
    dev.expect_end();
}

#[test]
fn a_program_that_ends_takes_its_servers_with_it() {
    let (mut dev, _) = Dev::start_json(&["--servers", "3"]);
    drop(dev.stdin.take());
    dev.expect_end();

    // By SIGKILL, and somebody else still holds the pipe.
    let mut parent = Command::new("sleep").arg("1000").spawn().unwrap();
    let (mut dev, first) = Dev::start_json(&["--parent-pid", &parent.id().to_string()]);
    connect(&first["connect"]).ping().unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    dev.expect_end();

    let mut dev = Dev::start(
        &["--json", "--parent-pid", &parent.id().to_string()],
        Stdio::piped(),
    );
    dev.expect_end();
}

#[test]
fn a_terminal_that_is_closed_ends_the_servers_unless_that_is_ignored() {
    // Who runs the tests by nohup ignores the signal, as would the child. What is handled here is not ignored there.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _handled = runtime.block_on(async { signal(SignalKind::hangup()) }).unwrap();
    let mut dev = Dev::start(&["--servers", "1", "--port", "0"], Stdio::null());
    dev.wait_for("server 1 serves");
    dev.signal("HUP");
    dev.expect_end();

    let mut program = Command::new("sh");
    program
        .args(["-c", "trap '' HUP; exec \"$0\" dev --json"])
        .arg(env!("CARGO_BIN_EXE_oxkeeper"));
    let mut dev = Dev::run(program, Stdio::piped());
    dev.next_json();
    dev.signal("HUP");
    for _ in 0..100 {
        dev.expect_ok("restart 1");
    }
    dev.expect_ok("stop");
    dev.expect_end();
}

#[test]
fn a_program_gets_an_ensemble_and_kills_its_leader() {
    let (mut dev, first) = Dev::start_json(&["--servers", "3"]);
    assert_eq!(
        first["connect"].as_str().unwrap().matches("127.0.0.1:").count(),
        3
    );
    let leader = dev.leader();
    let follower = leader % 3 + 1;
    let mut client = connect(&first["servers"][follower - 1]["address"]);
    client.create("/mine", b"", CreateMode::Ephemeral).unwrap();
    assert!(dev.error("kill").contains("1 to 3"));
    dev.expect_ok(&format!("kill {leader}"));
    let next = dev.leader();
    assert_ne!(next, leader);
    assert_eq!(dev.state(leader), "down");
    dev.expect_ok(&format!("restart {leader}"));
    dev.expect_ok("wait");
    assert_eq!(dev.state(leader), "following");

    // The one that leads by now is cut off from the others, and comes back.
    dev.expect_ok(&format!("isolate {next}"));
    let until = Instant::now() + DEADLINE;
    while dev.state(next) != "looking" {
        assert!(Instant::now() < until, "it is not cut off");
    }
    dev.expect_ok(&format!("rejoin {next}"));
    dev.expect_ok("wait");

    let session = client.session().id;
    assert_eq!(dev.expect_ok(&format!("expire {session}"))["ended"], true);
    let mut client = connect(&first["servers"][leader - 1]["address"]);
    assert_eq!(client.exists("/mine", false).unwrap(), None);
    assert!(dev.error("advance 1").contains("one time"));
    dev.expect_ok("stop");
    dev.expect_end();
}

#[test]
fn a_person_is_told_who_leads_and_the_end_of_stdin_is_none() {
    let mut dev = Dev::start(&["--port", "0"], Stdio::null());
    let banner = dev.wait_for("runs an ensemble of 3 in");
    let (_, home) = banner.rsplit_once(" in ").expect("it says where the data is");
    assert!(Path::new(home.trim_end_matches('.')).starts_with(dev.temporary.path().canonicalize().unwrap()));
    let connect = dev.wait_for("  connect");
    assert_eq!(connect.matches("127.0.0.1:").count(), 3, "{connect}");
    dev.wait_for("  stop ");
    dev.wait_for(" leads");
    dev.signal("INT");
    dev.expect_end();
}

#[test]
fn a_person_kills_and_restarts_servers_by_their_number() {
    let mut dev = Dev::start(&["--servers", "1", "--port", "0"], Stdio::piped());
    dev.wait_for("runs a server in");
    dev.wait_for("server 1 serves");
    dev.send("kill 1");
    dev.wait_for("server 1 is down");
    dev.send("status");
    dev.wait_for("down, connections: 0");
    dev.send("restart 1");
    dev.wait_for("server 1 serves");
    dev.send("expire 0x1");
    dev.wait_for("there is no such session");
    dev.send("jump");
    dev.wait_for("error: there is no command jump");
    dev.send("stop");
    dev.expect_end();
}

#[test]
fn data_stays_where_asked_and_is_found_again() {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["--servers", "2", "--data", home.path().to_str().unwrap()];
    let (mut dev, first) = Dev::start_json(&arguments);
    let mut client = connect(&first["servers"][0]["address"]);
    client.create("/kept", b"1", CreateMode::Persistent).unwrap();
    dev.signal("KILL");
    dev.wait_for_end();
    assert!(home.path().join("server-1/version-2").is_dir());

    let (mut dev, first) = Dev::start_json(&arguments);
    let mut client = connect(&first["servers"][1]["address"]);
    assert_eq!(client.get("/kept").unwrap().0, b"1");
    dev.expect_ok("stop");
    dev.expect_end();
}
