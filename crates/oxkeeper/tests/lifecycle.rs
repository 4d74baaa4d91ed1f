//! The `oxkeeper` program from start to stop: readiness, signals, exit codes of a server that cannot start.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine before a test gives up.
const DEADLINE: Duration = Duration::from_secs(60);

struct Server {
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
}

impl Server {
    fn start(arguments: &[&str], directory: &Path) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_oxkeeper"))
            .args(arguments)
            .current_dir(directory)
            .env_remove("OXKEEPER_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let (sender, log) = channel();
        std::thread::spawn(move || {
            stderr
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Server {
            child,
            log,
            seen: Vec::new(),
        }
    }

    /// Waits for a line of the log that contains `part`.
    fn wait_for_line(&mut self, part: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("no line with {part:?} ({error}): {:#?}", self.seen),
            }
            if let Some(line) = self.seen.last().filter(|line| line.contains(part)) {
                return line.clone();
            }
        }
    }

    /// The address in the line that says that clients are served.
    fn wait_until_serving(&mut self) -> SocketAddr {
        let line = self.wait_for_line("serving clients");
        let (_, rest) = line.split_once("address=").expect("the line has an address");
        let address: SocketAddr = rest.split(' ').next().unwrap_or(rest).parse().expect("it is one");
        SocketAddr::from(([127, 0, 0, 1], address.port()))
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .expect("kill runs")
                .success()
        );
    }

    /// Waits for the end of the process; returns its status and everything it logged.
    fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + DEADLINE;
        // The log ends when the process does.
        while let Ok(line) = self
            .log
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.seen.push(line);
        }
        assert!(
            Instant::now() < deadline,
            "the process does not end: {:#?}",
            self.seen
        );
        let status = self.child.wait().expect("its status can be read");
        (status, std::mem::take(&mut self.seen))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn four_letter(address: SocketAddr, word: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(DEADLINE)).expect("it is a socket");
    stream.write_all(word.as_bytes()).expect("it takes the word");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn server_serves_until_sigterm_or_sigint_and_exits_with_0() {
    for signal in ["-TERM", "-INT"] {
        let dir = tempfile::tempdir().unwrap();
        let text = "dataDir=./data\nclientPort=0\nclientPortAddress=127.0.0.1\ninitLimit=5\nnosuchkey=1\n";
        std::fs::write(dir.path().join("zoo.cfg"), text).unwrap();
        let mut server = Server::start(&["serve", "zoo.cfg"], dir.path());
        let address = server.wait_until_serving();
        assert!(
            server
                .seen
                .iter()
                .any(|line| line.contains("INFO") && line.contains("zoo.cfg:4: initLimit"))
        );
        assert!(
            server
                .seen
                .iter()
                .any(|line| line.contains("WARN") && line.contains("zoo.cfg:5: unknown key"))
        );
        assert!(four_letter(address, "srvr").contains("Mode: standalone"));
        server.signal(signal);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{signal}: {log:#?}");
        assert!(
            log.iter().any(|line| line.contains("received, stopping")),
            "{log:#?}"
        );
        assert!(dir.path().join("data/version-2").is_dir());
        assert!(TcpStream::connect(address).is_err(), "the port is closed");
    }
}

#[test]
fn argument_form_serves_and_finds_its_data_again() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut server = Server::start(&["serve", "0", "./data", "500", "10"], dir.path());
        let address = server.wait_until_serving();
        assert!(four_letter(address, "srvr").contains("Node count: 5"));
        server.signal("-TERM");
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log:#?}");
    }
}

#[test]
fn busy_port_exits_with_1_and_names_the_address() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = format!("dataDir=./data\nclientPort={port}\nclientPortAddress=127.0.0.1\n");
    std::fs::write(dir.path().join("zoo.cfg"), text).unwrap();
    let (status, log) = Server::start(&["serve", "zoo.cfg"], dir.path()).wait();
    assert_eq!(status.code(), Some(1), "{log:#?}");
    assert!(
        log.iter()
            .any(|line| line.starts_with("error: ") && line.contains(&port.to_string())),
        "{log:#?}"
    );
}

#[test]
fn data_directory_that_must_not_be_created_exits_with_3() {
    let dir = tempfile::tempdir().unwrap();
    let text = "dataDir=./data\nclientPort=0\ndatadir.autocreate=false\n";
    std::fs::write(dir.path().join("zoo.cfg"), text).unwrap();
    let (status, log) = Server::start(&["serve", "zoo.cfg"], dir.path()).wait();
    assert_eq!(status.code(), Some(3), "{log:#?}");
    assert!(
        log.iter()
            .any(|line| line.starts_with("error: ") && line.contains("data")),
        "{log:#?}"
    );
    assert_eq!(
        log.last().map(String::as_str),
        Some("Unable to access datadir, exiting abnormally")
    );
}

#[test]
fn snapshots_among_the_logs_exit_with_3() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("log/version-2")).unwrap();
    std::fs::write(dir.path().join("log/version-2/snapshot.0"), "").unwrap();
    std::fs::write(
        dir.path().join("zoo.cfg"),
        "dataDir=./data\ndataLogDir=./log\nclientPort=0\n",
    )
    .unwrap();
    let (status, log) = Server::start(&["serve", "zoo.cfg"], dir.path()).wait();
    assert_eq!(status.code(), Some(3), "{log:#?}");
    assert_eq!(
        log.last().map(String::as_str),
        Some("Unable to access datadir, exiting abnormally")
    );
}
