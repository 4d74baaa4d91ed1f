//! `oxkeeper dev`: an ensemble on this machine, to try things out and to develop against.
//!
//! Each server is a child process that runs `oxkeeper serve` with a `zoo.cfg` of its own. A child stops when its
//! stdin is closed, so none outlives this process, however that ends.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::{EXIT_INVALID, EXIT_UNEXPECTED, say};

/// How often each server is asked what it is doing.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long a server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the servers may take to stop before they are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The answer to `srvr` has a few hundred bytes.
const ANSWER_LENGTH_MAX: u64 = 16 * 1024;
/// How much of the log of a server that could not start is shown.
const LOG_LINES_SHOWN: usize = 5;

/// What to start.
#[derive(clap::Args)]
pub(crate) struct DevArguments {
    /// How many servers.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    servers: u16,
    /// Where their data, configurations and logs are kept. Without it they go to a temporary directory, which is
    /// removed at the end.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Client port of the first server; the others take the ports after it. A port in use is passed over.
    #[arg(long, value_name = "PORT", default_value_t = 2181)]
    port: u16,
}

/// Runs the ensemble until SIGINT or SIGTERM, or until no server is left.
pub(crate) fn dev(arguments: &DevArguments, log_level: &str) -> ExitCode {
    let (directory, _temporary) = match home(arguments.data.as_deref()) {
        Ok(home) => home,
        Err(error) => {
            return fail(
                EXIT_INVALID,
                &format!("the data directory cannot be used: {error}"),
            );
        }
    };
    let servers = match prepare(&directory, arguments) {
        Ok(servers) => servers,
        Err(error) => return fail(EXIT_INVALID, &error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(
                EXIT_UNEXPECTED,
                &format!("the runtime cannot be started: {error}"),
            );
        }
    };
    match runtime.block_on(run(servers, &directory, log_level)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_UNEXPECTED, &error),
    }
}

fn fail(code: u8, reason: &str) -> ExitCode {
    say(&format!("error: {reason}"));
    ExitCode::from(code)
}

/// The absolute directory of everything; a temporary one is removed when the second value is dropped.
fn home(given: Option<&Path>) -> io::Result<(PathBuf, Option<tempfile::TempDir>)> {
    match given {
        Some(directory) => {
            fs::create_dir_all(directory)?;
            Ok((directory.canonicalize()?, None))
        }
        None => {
            let directory = tempfile::Builder::new().prefix("oxkeeper-dev-").tempdir()?;
            Ok((directory.path().canonicalize()?, Some(directory)))
        }
    }
}

/// One server before it is started.
struct Prepared {
    id: usize,
    client_port: u16,
    directory: PathBuf,
}

impl Prepared {
    fn config_file(&self) -> PathBuf {
        self.directory.join("zoo.cfg")
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn client_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.client_port).into()
    }
}

/// Chooses ports and writes `zoo.cfg` and `myid` of every server.
fn prepare(home: &Path, arguments: &DevArguments) -> Result<Vec<Prepared>, String> {
    let no_port = |error| format!("no port is free: {error}");
    // Ports are held until all are chosen, so that none is chosen twice.
    let mut held = Vec::new();
    let mut hold = |port: u16| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let port = listener.local_addr()?.port();
        held.push(listener);
        io::Result::Ok(port)
    };
    let mut wanted = arguments.port;
    let mut servers = Vec::new();
    let mut server_lines = String::new();
    for id in 1..=usize::from(arguments.servers) {
        let client_port = loop {
            match hold(wanted) {
                Ok(port) => break port,
                // Beyond the last port any free one will do.
                Err(_) if wanted != 0 => wanted = wanted.wrapping_add(1),
                Err(error) => return Err(no_port(error)),
            }
        };
        wanted = if wanted == 0 { 0 } else { wanted.wrapping_add(1) };
        let (quorum, election) = (hold(0).map_err(no_port)?, hold(0).map_err(no_port)?);
        // Writing to a String cannot fail.
        let _ = writeln!(
            server_lines,
            "server.{id}=127.0.0.1:{quorum}:{election};127.0.0.1:{client_port}"
        );
        servers.push(Prepared {
            id,
            client_port,
            directory: home.join(format!("server-{id}")),
        });
    }
    for server in &servers {
        write_config(server, &server_lines)
            .map_err(|error| format!("{} cannot be written: {error}", server.directory.display()))?;
    }
    Ok(servers)
}

fn write_config(server: &Prepared, server_lines: &str) -> io::Result<()> {
    let data_dir = server.directory.join("data");
    fs::create_dir_all(&data_dir)?;
    fs::write(data_dir.join("myid"), format!("{}\n", server.id))?;
    let data_dir = data_dir
        .to_str()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "its path is not Unicode"))?;
    let config = format!(
        "# Written by `oxkeeper dev` at every start.\n\
         tickTime=1000\ninitLimit=10\nsyncLimit=5\nstandaloneEnabled=false\ndataDir={}\n\
         4lw.commands.whitelist=srvr,ruok,mntr,stat,conf,isro\n{server_lines}",
        properties_value(data_dir)
    );
    fs::write(server.config_file(), config)
}

/// A value as a Java properties file has it.
fn properties_value(text: &str) -> String {
    let mut value = String::new();
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte @ b'!'..=b'~') if byte != b'\\' => value.push(char::from(byte)),
            _ => {
                let _ = write!(value, "\\u{unit:04x}");
            }
        }
    }
    value
}

/// One server that was started.
struct Running {
    prepared: Prepared,
    /// Its stdin is open as long as this is.
    child: Child,
    /// What it said last that it does; `None`: it does not serve.
    mode: Option<String>,
    ended: bool,
}

async fn run(servers: Vec<Prepared>, home: &Path, log_level: &str) -> Result<(), String> {
    let handlers =
        signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
    let (mut interrupt, mut terminate): (Signal, Signal) =
        handlers.map_err(|error| format!("signals cannot be handled: {error}"))?;
    let program =
        std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
    let mut running = Vec::new();
    for server in servers {
        match start(&program, &server, log_level) {
            Ok(child) => running.push(Running {
                prepared: server,
                child,
                mode: None,
                ended: false,
            }),
            Err(error) => {
                stop(&mut running).await;
                return Err(format!("server {} cannot be started: {error}", server.id));
            }
        }
    }
    show(&banner(&running, home));
    let began = Instant::now();
    let watched = async {
        while running.iter().any(|server| !server.ended) {
            for server in &mut running {
                watch(server, began).await;
            }
            sleep(POLL_INTERVAL).await;
        }
    };
    let stopped = tokio::select! {
        () = watched => Err("no server is left".to_owned()),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    stop(&mut running).await;
    stopped
}

fn start(program: &Path, server: &Prepared, log_level: &str) -> io::Result<Child> {
    Command::new(program)
        .args(["--log-level", log_level, "serve", "--stop-with-stdin"])
        .arg(server.config_file())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(File::create(server.log_file())?)
        .spawn()
}

/// Says what has changed with a server. One that ended is asked too: it may have been started again by hand.
async fn watch(server: &mut Running, began: Instant) {
    let id = server.prepared.id;
    let end = match server.child.try_wait() {
        _ if server.ended => None,
        Ok(status) => status.map(|status| why(status, &server.prepared)),
        Err(error) => Some(format!("it cannot be watched: {error}")),
    };
    if let Some(why) = end {
        let at = began.elapsed().as_secs_f64();
        show(&format!("{at:7.1} s  server {id} ended: {why}\n"));
        server.ended = true;
        server.mode = None;
    }
    let mode = timeout(ANSWER_TIMEOUT, ask_mode(server.prepared.client_address())).await;
    let mode = mode.ok().and_then(Result::ok).flatten();
    if mode != server.mode {
        let at = began.elapsed().as_secs_f64();
        let doing = match mode.as_deref() {
            Some("leader") => "leads".to_owned(),
            Some("follower") => "follows".to_owned(),
            Some(other) => format!("is {other}"),
            None => "does not serve".to_owned(),
        };
        show(&format!("{at:7.1} s  server {id} {doing}\n"));
        server.mode = mode;
    }
}

/// Why a server ended, and what to do.
fn why(status: ExitStatus, server: &Prepared) -> String {
    let log = fs::read_to_string(server.log_file()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let last = lines.len().saturating_sub(LOG_LINES_SHOWN);
    let mut text = format!(
        "{status}; start it again with: oxkeeper serve {}",
        server.config_file().display()
    );
    if status.code().is_some_and(|code| code != 0) {
        for line in &lines[last..] {
            let _ = write!(text, "\n           {line}");
        }
    }
    text
}

/// What the four-letter word `srvr` says of the mode; `None` while the server does not serve.
async fn ask_mode(address: SocketAddr) -> io::Result<Option<String>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"srvr").await?;
    let mut answer = String::new();
    stream.take(ANSWER_LENGTH_MAX).read_to_string(&mut answer).await?;
    let mode = answer.lines().find_map(|line| line.strip_prefix("Mode: "));
    Ok(mode.map(str::to_owned))
}

/// Closes every server's stdin, and kills those that do not stop.
async fn stop(running: &mut [Running]) {
    for server in running.iter_mut() {
        drop(server.child.stdin.take());
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    for server in running.iter_mut() {
        while matches!(server.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                show(&format!(
                    "server {} does not stop: it is killed\n",
                    server.prepared.id
                ));
                // It ended just now, then.
                let _ = server.child.kill();
                let _ = server.child.wait();
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn banner(running: &[Running], home: &Path) -> String {
    let addresses: Vec<String> = running
        .iter()
        .map(|server| server.prepared.client_address().to_string())
        .collect();
    let mut text = format!(
        "Oxkeeper {} runs an ensemble of {} in {}.\n  connect    zkCli.sh -server {}   (or any ZooKeeper client)\n",
        env!("CARGO_PKG_VERSION"),
        running.len(),
        home.display(),
        addresses.join(",")
    );
    for server in running {
        let _ = writeln!(
            text,
            "  server {}   {}, process {}, log {}",
            server.prepared.id,
            server.prepared.client_address(),
            server.child.id(),
            server.prepared.log_file().display()
        );
    }
    text.push_str("  stop       Ctrl-C; or kill one server and see what the others do\n");
    text
}

/// Writes to stdout. A closed stdout is no reason to stop the servers.
fn show(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(servers: u16, port: u16) -> DevArguments {
        DevArguments {
            servers,
            data: None,
            port,
        }
    }

    #[test]
    fn configurations_of_one_ensemble_are_valid_and_agree() {
        let home = tempfile::Builder::new().prefix("a b\\é ").tempdir().unwrap();
        let servers = prepare(home.path(), &arguments(3, 0)).unwrap();
        let mut texts = Vec::new();
        for server in &servers {
            let file = server.config_file();
            let loaded = oxkeeper_server::config::load_file(file.to_str().unwrap()).unwrap();
            assert_eq!(loaded.notices, []);
            assert_eq!(loaded.config.client.port, server.client_port);
            assert_eq!(
                loaded.config.storage.data_dir,
                server.directory.join("data"),
                "whatever its path is made of"
            );
            let ensemble = loaded.config.ensemble.expect("a member");
            assert_eq!(usize::try_from(ensemble.me.0), Ok(server.id));
            texts.push(ensemble.config_text);
        }
        assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
        let one = prepare(home.path(), &arguments(1, 0)).unwrap();
        let file = one[0].config_file();
        let loaded = oxkeeper_server::config::load_file(file.to_str().unwrap()).unwrap();
        assert!(loaded.config.ensemble.is_some(), "an ensemble of one");
    }

    #[test]
    fn a_client_port_in_use_is_passed_over() {
        let home = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let servers = prepare(home.path(), &arguments(2, port)).unwrap();
        assert!(servers.iter().all(|server| server.client_port != port));
        assert_ne!(servers[0].client_port, servers[1].client_port);
    }
}
