//! `oxkeeper dev`: servers on this machine, to try things out, to develop against, and for tests in any language.
//!
//! All servers are in this process, so none outlives it, however it ends. Commands on stdin kill, pause and cut them
//! and end sessions (docs/testkit.md).

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use oxkeeper_testkit::{Ensemble, Server, ServerConfig, SessionId, Standing};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::{EXIT_INVALID, EXIT_UNEXPECTED, say};

/// How often it is looked what each server does.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The longest command, in bytes.
const COMMAND_BYTES_MAX: u64 = 4096;
/// The first client port, for people.
const PORT_DEFAULT: u16 = 2181;
/// How many servers, for people and for programs.
const SERVERS_DEFAULT: u16 = 3;
const SERVERS_DEFAULT_JSON: u16 = 1;

const COMMANDS: &str = "status, kill N, restart N, pause N, resume N, isolate N, rejoin N, cut [N], heal [N], disconnect [SESSION], \
                        expire SESSION, advance MILLISECONDS, wait, stop";

/// What to start.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DevArguments {
    /// How many servers; one stands alone. [default: 3, with --json 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    servers: Option<u16>,
    /// Where their data is kept. Without it it goes to a temporary directory, which is removed at the end.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Client port of the first server; the others take the ports after it. A port in use is passed over; 0 takes any
    /// that are free. [default: 2181, with --json 0]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// For programs: say everything as JSON, one line for what was started and one for each command, and stop when
    /// stdin ends.
    #[arg(long)]
    json: bool,
    /// Stop when the process with this id ends.
    #[arg(long, value_name = "PID")]
    parent_pid: Option<i32>,
}

const AFTER_HELP: &str = "\
Commands on stdin, one per line:
  status                what each server does, and the sessions
  kill N, restart N     end server N as by SIGKILL; start it again on its port and data
  pause N, resume N     let server N stand still as by SIGSTOP; let it go on
  isolate N, rejoin N   cut server N off from the other servers; let it come back
  cut [N], heal [N]     break the clients' connections, and every new one; take them again
  disconnect [SESSION]  break the connection of a session, or all; they may come back
  expire SESSION        end a session as if its time were over (0x and hexadecimal, or decimal)
  advance MILLISECONDS  let time pass for what has no connection (one server only)
  wait                  until the servers that run have a leader and serve
  stop                  end all";

/// The servers.
enum Servers {
    One(Box<Server>),
    Several(Ensemble),
}

/// Runs the servers until SIGINT, SIGTERM, SIGHUP or `stop`, or until who wanted them is gone.
pub(crate) fn dev(arguments: &DevArguments) -> ExitCode {
    let (home, temporary) = match home(arguments.data.as_deref()) {
        Ok(home) => home,
        Err(error) => {
            return fail(
                EXIT_INVALID,
                &format!("the data directory cannot be used: {error}"),
            );
        }
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
    let ended = runtime.block_on(run(arguments, &home));
    // Explicitly, since a thread that reads stdin is left to the end of the process.
    drop(temporary);
    match ended {
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

async fn run(arguments: &DevArguments, home: &Path) -> Result<(), String> {
    let handlers =
        signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
    let unhandled = |error| format!("signals cannot be handled: {error}");
    let (mut interrupt, mut terminate) = handlers.map_err(unhandled)?;
    let mut hangup = hangups().map_err(unhandled)?;
    let (ender, mut end) = unbounded_channel();
    if let Some(parent) = arguments.parent_pid {
        watch_parent(parent, ender.clone())?;
    }
    let servers = Arc::new(start(arguments, home)?);
    let is_read = match arguments.json {
        true => show(&format!("{}\n", described(&servers))),
        false => show(&banner(&servers, home)),
    };
    if arguments.json && !is_read {
        return stop(&servers);
    }
    if arguments.json || !io::stdin().is_terminal() || is_in_foreground() {
        obey(servers.clone(), arguments.json, ender.clone())?;
    }
    let watched = async {
        let (began, mut known) = (Instant::now(), vec!["starting"; servers.all().len()]);
        loop {
            if !arguments.json {
                tell_changes(&servers, began, &mut known);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::select! {
        () = watched => {}
        _ = end.recv() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        Some(()) = async { hangup.as_mut()?.recv().await } => {}
    }
    stop(&servers)
}

/// SIGHUPs, as when a terminal is closed; `None` when they are ignored, as those of `nohup` are.
fn hangups() -> io::Result<Option<Signal>> {
    match are_hangups_ignored() {
        true => Ok(None),
        false => signal(SignalKind::hangup()).map(Some),
    }
}

/// Whether who started this process had it ignore SIGHUP. Without procfs this is not known; then the system does what it
/// is to do.
fn are_hangups_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Its first bit is that of signal 1, which is SIGHUP.
    ignored.is_none_or(|mask| mask & 1 == 1)
}

/// Ends all servers. What they acknowledged is on disk.
fn stop(servers: &Servers) -> Result<(), String> {
    let ended: Vec<_> = servers.all().iter().map(Server::kill).collect();
    let failed = ended.into_iter().find_map(Result::err);
    failed.map_or(Ok(()), |error| Err(error.to_string()))
}

fn start(arguments: &DevArguments, home: &Path) -> Result<Servers, String> {
    let default = match arguments.json {
        true => (SERVERS_DEFAULT_JSON, 0),
        false => (SERVERS_DEFAULT, PORT_DEFAULT),
    };
    let count = usize::from(arguments.servers.unwrap_or(default.0));
    let ports = choose_ports(arguments.port.unwrap_or(default.1), count)
        .map_err(|error| format!("no port is free: {error}"))?;
    let change = |id: usize, config: &mut ServerConfig| {
        config.client.port = ports[id - 1];
        config.storage.data_dir = home.join(format!("server-{id}"));
        config.storage.log_dir.clone_from(&config.storage.data_dir);
        // Who names a directory wants to find the data there again, whatever happens.
        config.storage.force_sync = arguments.data.is_some();
        config.storage.sync_files = arguments.data.is_some();
    };
    let started = match count {
        1 => Server::start_with(|config| change(1, config)).map(|server| Servers::One(Box::new(server))),
        _ => Ensemble::start_with(count, change).map(Servers::Several),
    };
    started.map_err(|error| error.to_string())
}

/// Client ports that are free: from `first` on, or any with 0.
fn choose_ports(first: u16, count: usize) -> io::Result<Vec<u16>> {
    if first == 0 {
        // The servers themselves choose, and hold them.
        return Ok(vec![0; count]);
    }
    // Ports are held until all are chosen, so that none is chosen twice.
    let (mut held, mut ports, mut wanted) = (Vec::new(), Vec::new(), first);
    while ports.len() < count {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)) {
            Ok(listener) => {
                // Beyond the last port any free one will do.
                ports.push(listener.local_addr()?.port());
                held.push(listener);
            }
            Err(error) if wanted == 0 => return Err(error),
            Err(_) => {}
        }
        wanted = if wanted == 0 { 0 } else { wanted.wrapping_add(1) };
    }
    Ok(ports)
}

impl Servers {
    fn all(&self) -> &[Server] {
        match self {
            Servers::One(server) => std::slice::from_ref(server),
            Servers::Several(ensemble) => ensemble.servers(),
        }
    }

    fn with_ids(&self) -> impl Iterator<Item = (usize, &Server)> {
        (1..).zip(self.all())
    }

    /// The server that `word` names; the only one needs no name.
    fn named(&self, word: Option<&str>) -> Result<&Server, String> {
        let all = self.all();
        match word {
            None if all.len() == 1 => Ok(&all[0]),
            None => Err(format!("name a server: 1 to {}", all.len())),
            Some(word) => {
                let index = word.parse::<usize>().ok().and_then(|id| id.checked_sub(1));
                let server = index.and_then(|index| all.get(index));
                server.ok_or_else(|| format!("there is no server {word}, only 1 to {}", all.len()))
            }
        }
    }

    /// The servers that `word` names: one, or all.
    fn chosen(&self, word: Option<&str>) -> Result<Vec<&Server>, String> {
        match word {
            None => Ok(self.all().iter().collect()),
            word => Ok(vec![self.named(word)?]),
        }
    }

    fn connect_string(&self) -> String {
        let addresses: Vec<String> = self.all().iter().map(Server::connect_string).collect();
        addresses.join(",")
    }

    fn expire(&self, session: SessionId) -> Result<bool, String> {
        let expired = match self {
            Servers::One(server) => server.expire_session(session),
            Servers::Several(ensemble) => ensemble.expire_session(session),
        };
        expired.map_err(|error| error.to_string())
    }

    /// Waits until those that run serve.
    fn wait(&self) -> Result<(), String> {
        let waited = match self {
            Servers::One(server) => server.wait_until_serving(Duration::ZERO),
            Servers::Several(ensemble) => ensemble.wait_for_leader().map(drop),
        };
        waited.map_err(|error| error.to_string())
    }
}

/// What a server does, in one word.
fn state(server: &Server) -> &'static str {
    if server.is_paused() {
        return "paused";
    }
    match server.standing() {
        None => "down",
        Some(Standing::Standalone) => "standalone",
        Some(Standing::Looking) => "looking",
        Some(Standing::Leading) => "leading",
        Some(Standing::Following) => "following",
        Some(Standing::Observing) => "observing",
        Some(Standing::ReadOnly) => "read-only",
    }
}

/// The first line for programs.
fn described(servers: &Servers) -> Value {
    json!({
        "connect": servers.connect_string(),
        "servers": servers_described(servers),
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn servers_described(servers: &Servers) -> Vec<Value> {
    let described = |(id, server): (usize, &Server)| {
        json!({
            "id": id,
            "address": server.connect_string(),
            "state": state(server),
            "connections": server.connections(),
        })
    };
    servers.with_ids().map(described).collect()
}

/// The sessions that live, as the server knows them that is furthest.
fn sessions(servers: &Servers) -> Vec<String> {
    let running = servers.all().iter().filter(|server| server.is_running());
    let furthest = running.max_by_key(|server| server.last_zxid());
    let sessions = furthest.map_or(Vec::new(), Server::sessions);
    sessions.iter().map(ToString::to_string).collect()
}

/// Reads commands from stdin and does them, on a thread of its own.
fn obey(servers: Arc<Servers>, json: bool, ender: UnboundedSender<()>) -> Result<(), String> {
    let obeying = move || {
        let mut stdin = io::stdin().lock();
        let mut line = Vec::new();
        // Servers that were started without a terminal, in the background, go on without commands.
        let mut is_end = json || io::stdin().is_terminal();
        loop {
            line.clear();
            match stdin
                .by_ref()
                .take(COMMAND_BYTES_MAX)
                .read_until(b'\n', &mut line)
            {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => break,
            }
            if line.len() as u64 == COMMAND_BYTES_MAX && !line.ends_with(b"\n") {
                // The rest of it is no command of its own.
                let _skipped = stdin.skip_until(b'\n');
            }
            let line = String::from_utf8_lossy(&line);
            let words: Vec<&str> = line.split_whitespace().collect();
            let Some((command, words)) = words.split_first() else {
                continue;
            };
            let done = execute(&servers, command, words);
            let is_read = show(&match (json, &done) {
                (true, Ok(result)) => format!("{}\n", with_ok(result)),
                (true, Err(error)) => format!("{}\n", json!({"ok": false, "error": error})),
                (false, Ok(result)) => readable(result),
                (false, Err(error)) => format!("error: {error}\n"),
            });
            if (*command == "stop" && done.is_ok()) || (json && !is_read) {
                is_end = true;
                break;
            }
        }
        if is_end {
            let _ending = ender.send(());
        }
    };
    let started = thread::Builder::new().name("commands".to_owned()).spawn(obeying);
    started
        .map(drop)
        .map_err(|error| format!("stdin cannot be read: {error}"))
}

/// Does a command and gives what is to be told of it.
fn execute(servers: &Servers, command: &str, words: &[&str]) -> Result<Value, String> {
    let [word, excess @ ..] = words else {
        return execute_one(servers, command, None);
    };
    match excess {
        [] => execute_one(servers, command, Some(word)),
        _ => Err(format!("{command} takes one word at most")),
    }
}

fn execute_one(servers: &Servers, command: &str, word: Option<&str>) -> Result<Value, String> {
    let told = |error: oxkeeper_testkit::Error| error.to_string();
    match command {
        "status" => {
            return Ok(json!({
                "connect": servers.connect_string(),
                "servers": servers_described(servers),
                "sessions": sessions(servers),
            }));
        }
        "kill" => servers.named(word)?.kill().map_err(told)?,
        "restart" => servers.named(word)?.restart().map_err(told)?,
        "pause" => servers.named(word)?.pause().map_err(told)?,
        "resume" => servers.named(word)?.resume(),
        "isolate" | "rejoin" => match servers {
            Servers::One(_) => return Err("one server alone has no others".to_owned()),
            Servers::Several(_) if command == "isolate" => servers.named(word)?.isolate(),
            Servers::Several(_) => servers.named(word)?.rejoin(),
        },
        "cut" => servers.chosen(word)?.into_iter().for_each(Server::cut),
        "heal" => servers.chosen(word)?.into_iter().for_each(Server::heal),
        "disconnect" => {
            let count: usize = match word {
                None => servers.all().iter().map(Server::disconnect_clients).sum(),
                Some(word) => {
                    let session = session_named(word)?;
                    let servers = servers.all().iter();
                    servers
                        .filter(|server| server.disconnect_session(session))
                        .count()
                }
            };
            return Ok(json!({"connections": count}));
        }
        "expire" => {
            let session = session_named(word.ok_or("name a session")?)?;
            return Ok(json!({"ended": servers.expire(session)?}));
        }
        "advance" => {
            let by = word
                .and_then(|word| word.parse().ok())
                .ok_or("say by how many milliseconds")?;
            match servers {
                Servers::One(server) => server.advance(Duration::from_millis(by)).map_err(told)?,
                Servers::Several(_) => return Err("the members of an ensemble have one time".to_owned()),
            }
        }
        "wait" => {
            servers.wait()?;
            return Ok(json!({"servers": servers_described(servers)}));
        }
        "stop" => {}
        _ => return Err(format!("there is no command {command}; there are: {COMMANDS}")),
    }
    Ok(json!({}))
}

/// A session id as clients show it: `0x` and hexadecimal, or decimal.
fn session_named(word: &str) -> Result<SessionId, String> {
    let id = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(u64::cast_signed),
        None => word.parse().ok(),
    };
    id.map(SessionId)
        .ok_or_else(|| format!("{word} is no session; write 0x and hexadecimal digits, or a decimal number"))
}

fn with_ok(result: &Value) -> Value {
    let mut result = result.clone();
    result["ok"] = Value::Bool(true);
    result
}

/// What a command came to, for people.
fn readable(result: &Value) -> String {
    let mut text = String::new();
    for server in result["servers"].as_array().into_iter().flatten() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  server {}   {}, {}, connections: {}",
            server["id"],
            server["address"].as_str().unwrap_or_default(),
            server["state"].as_str().unwrap_or_default(),
            server["connections"]
        );
    }
    let sessions = result["sessions"].as_array().into_iter().flatten();
    for session in sessions.filter_map(Value::as_str) {
        let _ = writeln!(text, "  session {session}");
    }
    match (&result["ended"], &result["connections"]) {
        (Value::Bool(true), _) => text.push_str("ended\n"),
        (Value::Bool(false), _) => text.push_str("there is no such session\n"),
        (_, Value::Number(count)) => text.push_str(&format!("broken connections: {count}\n")),
        _ if text.is_empty() => text.push_str("done\n"),
        _ => {}
    }
    text
}

/// Says what has changed since it was last looked.
fn tell_changes(servers: &Servers, began: Instant, known: &mut [&'static str]) {
    for ((id, server), known) in servers.with_ids().zip(known) {
        let state = state(server);
        if state == *known {
            continue;
        }
        *known = state;
        let doing = match state {
            "leading" => "leads",
            "following" => "follows",
            "looking" => "looks for a leader",
            "standalone" => "serves",
            "paused" => "stands still",
            "down" => "is down",
            other => other,
        };
        let at = began.elapsed().as_secs_f64();
        show(&format!("{at:7.1} s  server {id} {doing}\n"));
    }
}

fn banner(servers: &Servers, home: &Path) -> String {
    let what = match servers.all().len() {
        1 => "a server".to_owned(),
        count => format!("an ensemble of {count}"),
    };
    let mut text = format!(
        "Oxkeeper {} runs {what} in {}.\n  connect    zkCli.sh -server {}   (or any ZooKeeper client)\n",
        env!("CARGO_PKG_VERSION"),
        home.display(),
        servers.connect_string()
    );
    let _ = writeln!(text, "  commands   {COMMANDS}");
    text.push_str("  stop       Ctrl-C; or kill the leader and see what the others do\n");
    text
}

/// Writes to stdout. False when nobody reads it any more, which is no reason for a person's servers to stop.
fn show(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// Whether stdin is this process's to read: a shell's background job that tries is stopped.
fn is_in_foreground() -> bool {
    rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Sends to `ender` when the process ends. (The kernel could send a signal instead, but it does when the *thread*
/// ends that started this process, and those of test runners come and go.)
fn watch_parent(pid: i32, ender: UnboundedSender<()>) -> Result<(), String> {
    let Some(pid) = rustix::process::Pid::from_raw(pid).filter(|_| pid > 0) else {
        return Err(format!("{pid} is no process"));
    };
    let watching = move || {
        wait_for_end_of(pid);
        let _ending = ender.send(());
    };
    let started = thread::Builder::new().name("parent".to_owned()).spawn(watching);
    started
        .map(drop)
        .map_err(|error| format!("the parent cannot be watched: {error}"))
}

/// Waits until a process has ended. One that cannot be watched is taken as ended.
#[cfg(target_os = "linux")]
fn wait_for_end_of(pid: rustix::process::Pid) {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::{PidfdFlags, pidfd_open};

    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    let mut polled = [PollFd::new(&process, PollFlags::IN)];
    while poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
}

/// Waits until a process has ended.
#[cfg(not(target_os = "linux"))]
fn wait_for_end_of(pid: rustix::process::Pid) {
    while rustix::process::test_kill_process(pid).is_ok() {
        thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_port_in_use_is_passed_over() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let ports = choose_ports(port, 2).unwrap();
        assert!(ports.iter().all(|chosen| *chosen != port));
        assert_ne!(ports[0], ports[1]);
        assert_eq!(choose_ports(0, 3).unwrap(), [0; 3], "the servers choose");
    }

    #[test]
    fn sessions_are_named_as_clients_show_them() {
        assert_eq!(session_named("0x1000a"), Ok(SessionId(0x1000a)));
        assert_eq!(session_named("65546"), Ok(SessionId(0x1000a)));
        assert_eq!(
            session_named("0xff00000000000001"),
            Ok(SessionId(-0xff_ffff_ffff_ffff))
        );
        assert_eq!(
            session_named("-72057594037927935"),
            Ok(SessionId(-0xff_ffff_ffff_ffff))
        );
        for word in ["", "0x", "x", "1e5", "0x10000000000000000"] {
            assert!(session_named(word).is_err(), "{word}");
        }
    }
}
