//! `oxkeeper dev`: an ensemble that elects, survives the death of its leader, and leaves nothing behind.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine before a test gives up.
const DEADLINE: Duration = Duration::from_secs(60);

struct Ensemble {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    /// Process by server.
    processes: BTreeMap<u32, u32>,
}

impl Ensemble {
    fn start(arguments: &[&str]) -> Ensemble {
        let mut child = Command::new(env!("CARGO_BIN_EXE_oxkeeper"))
            .args(["dev", "--port", "0"])
            .args(arguments)
            .env_remove("OXKEEPER_LOG")
            .stdin(Stdio::null())
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
        let mut ensemble = Ensemble {
            child,
            lines,
            seen: Vec::new(),
            processes: BTreeMap::new(),
        };
        ensemble.wait_for(0, "  stop ");
        for line in &ensemble.seen {
            if let Some((server, rest)) = line
                .strip_prefix("  server ")
                .and_then(|rest| rest.split_once(' '))
            {
                let (_, rest) = rest.split_once("process ").expect("its process is named");
                let (process, _) = rest.split_once(',').expect("and its log");
                ensemble.processes.insert(
                    server.parse().expect("a number"),
                    process.parse().expect("a number"),
                );
            }
        }
        ensemble
    }

    /// Waits for a line that contains `part` among those after the first `passed`.
    fn wait_for(&mut self, passed: usize, part: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(line) = self.seen.iter().skip(passed).find(|line| line.contains(part)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("no line with {part:?} ({error}): {:#?}", self.seen),
            }
        }
    }

    /// The server that leads, as said after the first `passed` lines.
    fn wait_for_leader(&mut self, passed: usize) -> u32 {
        let line = self.wait_for(passed, " leads");
        let (_, rest) = line.split_once("server ").expect("it names the server");
        rest.trim_end_matches(" leads").parse().expect("by its number")
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {:#?}", self.seen);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn expect_no_process_left(&self) {
        let deadline = Instant::now() + DEADLINE;
        for process in self.processes.values() {
            // Nobody may have waited for it yet, so it may still be listed.
            let stat = Path::new("/proc").join(process.to_string()).join("stat");
            while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
                assert!(Instant::now() < deadline, "process {process} is left");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        // Its servers end with it.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn signal(process: u32, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn three_servers_elect_a_leader_another_when_it_dies_and_all_end_with_sigterm() {
    let mut ensemble = Ensemble::start(&[]);
    assert_eq!(ensemble.processes.len(), 3);
    let connect = ensemble
        .seen
        .iter()
        .find(|line| line.contains("connect"))
        .expect("it says where");
    assert_eq!(connect.matches("127.0.0.1:").count(), 3, "{connect}");
    let (_, home) = ensemble.seen[0]
        .rsplit_once(" in ")
        .expect("it says where the data is");
    let home = Path::new(home.trim_end_matches('.')).to_owned();
    assert!(home.is_dir());

    let leader = ensemble.wait_for_leader(0);
    let passed = ensemble.seen.len();
    signal(ensemble.processes[&leader], "KILL");
    // It may be told first that another leads.
    assert_ne!(ensemble.wait_for_leader(passed), leader);
    ensemble.wait_for(passed, &format!("server {leader} ended: signal: 9"));

    signal(ensemble.child.id(), "TERM");
    assert_eq!(ensemble.wait_for_end().code(), Some(0));
    ensemble.expect_no_process_left();
    assert!(!home.exists(), "what was temporary is gone");
}

#[test]
fn servers_do_not_outlive_what_started_them_and_their_data_stays_where_asked() {
    let home = tempfile::tempdir().unwrap();
    let home_text = home.path().to_str().unwrap();
    let mut ensemble = Ensemble::start(&["--servers", "2", "--data", home_text]);
    ensemble.wait_for_leader(0);
    signal(ensemble.child.id(), "KILL");
    ensemble.expect_no_process_left();
    let snapshots = home.path().join("server-1/data/version-2");
    assert!(snapshots.is_dir());

    // Started again, it finds it.
    let mut ensemble = Ensemble::start(&["--servers", "2", "--data", home_text]);
    ensemble.wait_for_leader(0);
}
