//! `oxkeeper status`: what each server of a list says of itself with the four-letter words `srvr`, `mntr` and `ruok`.
//! Java's servers allow `srvr` alone unless `4lw.commands.whitelist` names more; what needs the others is then left out.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::failure::{EXIT_FAILED, EXIT_INVALID, Failure};
use crate::output::{Output, is_dumb_terminal};
use crate::runtime::runtime;
use crate::text::{escape, json_line};

/// How long a server may take to answer a word.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer that is read; `mntr` has some ten thousand bytes.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;
const INTERVAL_DEFAULT: Duration = Duration::from_secs(2);
/// How many servers may be named; an ensemble has a few.
const SERVERS_MAX: usize = 256;

const USAGE: &str = "\
Usage: oxkeeper status [-server host:port[,host:port…]] [--watch] [-interval seconds] [--json]

What each server is doing: role, last zxid, connections, requests in work, latency in ms (min/avg/max), znodes,
watches, release. It asks with the four-letter words srvr, mntr and ruok, and works with any ZooKeeper server.

  -server LIST       the servers, localhost:2181 unless given
  --watch            go on, as a live view, until Ctrl-C
  -interval SECONDS  how often to ask then, 2 unless given
  --json             one JSON object per line and round
  -h, --help         this

Exit codes: 0 every server serves, 1 some do not, 2 invalid arguments.";

#[derive(Debug, PartialEq, Eq)]
struct Invocation {
    servers: Vec<String>,
    watch: bool,
    interval: Duration,
    json: bool,
    help: bool,
}

fn invocation(arguments: &[String]) -> Result<Invocation, String> {
    let mut list = "localhost:2181".to_owned();
    let mut given = Invocation {
        servers: Vec::new(),
        watch: false,
        interval: INTERVAL_DEFAULT,
        json: false,
        help: false,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let name = argument
            .strip_prefix('-')
            .map(|name| name.strip_prefix('-').unwrap_or(name));
        let mut value = || {
            rest.next()
                .cloned()
                .ok_or_else(|| format!("no argument found for option {argument}"))
        };
        match name {
            Some("server") => list = value()?,
            Some("watch" | "w") => given.watch = true,
            Some("interval") => {
                let text = value()?;
                let seconds = text
                    .parse()
                    .ok()
                    .filter(|seconds| (0.1..=3600.0).contains(seconds));
                let seconds = seconds.ok_or("-interval must be 0.1 to 3600 seconds")?;
                given.interval = Duration::from_secs_f64(seconds);
            }
            Some("json") => given.json = true,
            Some("h" | "help") => given.help = true,
            _ => return Err(format!("unknown argument {}", escape(argument))),
        }
    }
    // A connect string may end in a chroot, which is of no concern here.
    let list = list.split_once('/').map_or(list.as_str(), |(list, _)| list);
    for server in list.split(',') {
        given.servers.push(address(server.trim()).ok_or_else(|| {
            format!(
                "{} is not a server: they are written host:port[,host:port…]",
                escape(server)
            )
        })?);
    }
    if given.servers.len() > SERVERS_MAX {
        return Err(format!("more than {SERVERS_MAX} servers"));
    }
    Ok(given)
}

/// `host:port`, with ZooKeeper's port where none is given.
fn address(server: &str) -> Option<String> {
    let bare_v6 = server.starts_with('[') && server.ends_with(']');
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !bare_v6 => (host, port.parse().ok()?),
        _ => (server, 2181_u16),
    };
    let fits = !host.is_empty() && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'));
    fits.then(|| format!("{host}:{port}"))
}

/// `oxkeeper status` with its arguments, without the program's and the command's names. Prints, and returns what the
/// process is to end with.
pub fn status(arguments: &[String]) -> ExitCode {
    let given = match invocation(arguments) {
        Ok(given) => given,
        Err(reason) => {
            Output::new(arguments.iter().any(|argument| argument == "--json"))
                .failure(&Failure::new("Usage", reason).hint("`oxkeeper status --help` shows the options"));
            return ExitCode::from(EXIT_INVALID);
        }
    };
    if given.help {
        // Whoever closed stdout does not want to know.
        let _ = writeln!(io::stdout(), "{USAGE}");
        return ExitCode::SUCCESS;
    }
    let output = Output::new(given.json);
    let Some(runtime) = runtime(output) else {
        return ExitCode::FAILURE;
    };
    let shown = runtime.block_on(async {
        if given.watch {
            watch(&given, output).await
        } else {
            once(&given, output).await
        }
    });
    runtime.shutdown_background();
    match shown {
        Ok(true) => ExitCode::SUCCESS,
        // stdout is gone: nobody is there to be told.
        Ok(false) | Err(_) => ExitCode::from(EXIT_FAILED),
    }
}

async fn once(given: &Invocation, output: Output) -> io::Result<bool> {
    let servers = ask_all(&given.servers).await;
    let text = if output.json {
        json_line(&json(&servers))
    } else {
        table(&servers, &[], output.colours)
    };
    writeln!(io::stdout(), "{}", text.trim_end())?;
    Ok(servers.iter().all(Server::serves))
}

/// Shows the servers again and again, in place on a terminal; its main screen comes back at the end.
async fn watch(given: &Invocation, output: Output) -> io::Result<bool> {
    let in_place = !output.json && io::stdout().is_terminal() && !is_dumb_terminal();
    if in_place {
        // The other screen, without a cursor.
        write!(io::stdout(), "\x1b[?1049h\x1b[?25l")?;
    }
    let shown = unless_ended(rounds(given, output, in_place)).await;
    if in_place {
        write!(io::stdout(), "\x1b[?25h\x1b[?1049l")?;
        io::stdout().flush()?;
    }
    shown.unwrap_or(Ok(true))
}

/// Runs `work` until SIGINT or SIGTERM, so that the terminal can be put right.
async fn unless_ended<T>(work: impl Future<Output = T>) -> Option<T> {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return Some(work.await);
    };
    tokio::select! {
        outcome = work => Some(outcome),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    }
}

/// Ends only with an error: stdout is gone.
async fn rounds(given: &Invocation, output: Output, in_place: bool) -> io::Result<bool> {
    let mut before: Vec<Server> = Vec::new();
    loop {
        let began = Instant::now();
        let servers = ask_all(&given.servers).await;
        let text = if output.json {
            json_line(&json(&servers))
        } else if in_place {
            let title = format!(
                "oxkeeper status, every {} s, Ctrl-C ends\n\n",
                given.interval.as_secs_f32()
            );
            screen(&(title + &table(&servers, &before, output.colours)))
        } else {
            table(&servers, &before, output.colours)
        };
        writeln!(io::stdout(), "{text}")?;
        io::stdout().flush()?;
        before = servers;
        tokio::time::sleep(given.interval.saturating_sub(began.elapsed())).await;
    }
}

/// `text` as it replaces what is on the screen, without what does not fit.
fn screen(text: &str) -> String {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let (columns, rows) = size.map_or((80, 24), |size| {
        (usize::from(size.ws_col).max(20), usize::from(size.ws_row).max(4))
    });
    let mut shown = "\x1b[H".to_owned();
    for line in text.lines().take(rows - 1) {
        shown += &clipped(line, columns);
        shown += "\x1b[K\r\n";
    }
    shown + "\x1b[J"
}

/// The first `columns` characters of a line; colour sequences take no room.
fn clipped(line: &str, columns: usize) -> String {
    let (mut shown, mut used, mut in_sequence) = (String::new(), 0, false);
    for c in line.chars() {
        if in_sequence || c == '\x1b' {
            in_sequence = c != 'm';
        } else if used == columns {
            continue;
        } else {
            used += 1;
        }
        shown.push(c);
    }
    shown
}

/// What one server said.
#[derive(Debug, Default)]
struct Server {
    address: String,
    /// Why it did not answer, or does not serve.
    problem: Option<String>,
    /// When it was asked.
    asked: Option<Instant>,
    /// `imok`; `None` when the word is not allowed.
    ok: Option<bool>,
    role: String,
    zxid: String,
    latency: String,
    version: String,
    received: Option<u64>,
    connections: Option<u64>,
    outstanding: Option<u64>,
    znodes: Option<u64>,
    watches: Option<u64>,
    ephemerals: Option<u64>,
    synced_followers: Option<u64>,
}

impl Server {
    fn serves(&self) -> bool {
        self.problem.is_none()
    }

    /// Takes the answers in; a word that was refused or not answered is `None`.
    fn read(&mut self, srvr: &str, mntr: Option<&str>, ruok: Option<&str>) {
        self.ok = ruok.map(|answer| answer.trim() == "imok");
        for (key, value) in srvr.lines().filter_map(|line| line.split_once(": ")) {
            let value = value.trim();
            match key {
                // The build's date follows a comma.
                "Zookeeper version" => value
                    .split(',')
                    .next()
                    .unwrap_or_default()
                    .clone_into(&mut self.version),
                "Latency min/avg/max" => value.clone_into(&mut self.latency),
                "Received" => self.received = value.parse().ok(),
                "Connections" => self.connections = value.parse().ok(),
                "Outstanding" => self.outstanding = value.parse().ok(),
                "Zxid" => value.clone_into(&mut self.zxid),
                "Mode" => value.clone_into(&mut self.role),
                "Node count" => self.znodes = value.parse().ok(),
                _ => {}
            }
        }
        for (key, value) in mntr
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split_once('\t'))
        {
            let number = || value.trim().parse().ok();
            match key {
                "zk_watch_count" => self.watches = number(),
                "zk_ephemerals_count" => self.ephemerals = number(),
                // A leader's; a number with a fraction in some releases.
                "zk_synced_followers" => {
                    self.synced_followers = value
                        .trim()
                        .split('.')
                        .next()
                        .and_then(|whole| whole.parse().ok());
                }
                _ => {}
            }
        }
        if self.role.is_empty() {
            let first = srvr.lines().next().unwrap_or("an empty answer").trim();
            self.problem = Some(if first.contains("not currently serving") {
                "does not serve: it has no leader, or is still starting".to_owned()
            } else if first.contains("not in the whitelist") {
                "srvr is not in its 4lw.commands.whitelist".to_owned()
            } else {
                format!(
                    "not a ZooKeeper server? it says: {}",
                    escape(&first.chars().take(80).collect::<String>())
                )
            });
        }
    }
}

/// Asks all servers at once.
async fn ask_all(addresses: &[String]) -> Vec<Server> {
    let tasks: Vec<_> = addresses
        .iter()
        .map(|address| tokio::spawn(ask(address.clone())))
        .collect();
    let mut servers = Vec::with_capacity(tasks.len());
    for (task, address) in tasks.into_iter().zip(addresses) {
        servers.push(task.await.unwrap_or_else(|error| Server {
            address: address.clone(),
            problem: Some(format!("could not be asked: {error}")),
            ..Server::default()
        }));
    }
    servers
}

async fn ask(address: String) -> Server {
    let asked = Some(Instant::now());
    let (srvr, mntr, ruok) = tokio::join!(
        word(&address, "srvr"),
        word(&address, "mntr"),
        word(&address, "ruok")
    );
    let mut server = Server {
        address,
        asked,
        ..Server::default()
    };
    let allowed =
        |answer: io::Result<String>| answer.ok().filter(|text| !text.contains("not in the whitelist"));
    match srvr {
        Ok(srvr) => server.read(&srvr, allowed(mntr).as_deref(), allowed(ruok).as_deref()),
        Err(error) => server.problem = Some(format!("no answer: {error}")),
    }
    server
}

/// The answer to a four-letter word; the server closes the connection behind it.
async fn word(address: &str, word: &str) -> io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(word.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    match timeout(ANSWER_TIMEOUT, exchange).await {
        Ok(answer) => answer,
        Err(_) => {
            let waited = format!("nothing for {} s", ANSWER_TIMEOUT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, waited))
        }
    }
}

fn json(servers: &[Server]) -> Value {
    let servers: Vec<Value> = servers
        .iter()
        .map(|server| {
            let mut latency = server.latency.split('/').map(|part| part.parse::<f64>().ok());
            json!({
                "server": server.address,
                "serves": server.serves(),
                "problem": server.problem,
                "ok": server.ok,
                "role": server.role,
                "zxid": server.zxid,
                "connections": server.connections,
                "outstanding": server.outstanding,
                "latencyMinMs": latency.next().flatten(),
                "latencyAvgMs": latency.next().flatten(),
                "latencyMaxMs": latency.next().flatten(),
                "received": server.received,
                "znodes": server.znodes,
                "watches": server.watches,
                "ephemerals": server.ephemerals,
                "syncedFollowers": server.synced_followers,
                "version": server.version,
            })
        })
        .collect();
    json!({ "servers": servers })
}

/// The servers as a table with a summary; `before` is the round before, for rates.
fn table(servers: &[Server], before: &[Server], colours: bool) -> String {
    const TITLES: [&str; 11] = [
        "SERVER", "ROLE", "ZXID", "CONN", "QUEUE", "LATENCY", "REQ/s", "ZNODES", "WATCHES", "EPHEM",
        "RELEASE",
    ];
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let rows: Vec<[String; 11]> = servers
        .iter()
        .filter(|server| server.serves())
        .map(|server| {
            let past = before.iter().find(|past| past.address == server.address);
            [
                escape(&server.address),
                escape(&server.role),
                escape(&server.zxid),
                number(server.connections),
                number(server.outstanding),
                escape(&server.latency),
                past.and_then(|past| rate(past, server))
                    .unwrap_or_else(|| "-".to_owned()),
                number(server.znodes),
                number(server.watches),
                number(server.ephemerals),
                escape(&server.version),
            ]
        })
        .collect();
    let widths: Vec<usize> = (0..TITLES.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([TITLES[column].len()]).max().unwrap_or_default()
        })
        .collect();
    let (bold, red, green, reset) = if colours {
        ("\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[0m")
    } else {
        ("", "", "", "")
    };
    let line = |cells: &[String]| -> String {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut text = String::new();
    if !rows.is_empty() {
        let titles: Vec<String> = TITLES.iter().map(|title| (*title).to_owned()).collect();
        let _ = writeln!(text, "{bold}{}{reset}", line(&titles));
    }
    let mut rows = rows.iter();
    for server in servers {
        let _ = match &server.problem {
            Some(problem) => writeln!(text, "{red}{}  {problem}{reset}", escape(&server.address)),
            None => {
                let row = line(rows.next().map_or(&[][..], |row| &row[..]));
                let sick = if server.ok == Some(false) {
                    "  (ruok: it is not)"
                } else {
                    ""
                };
                if matches!(server.role.as_str(), "leader" | "standalone") {
                    writeln!(text, "{green}{row}{sick}{reset}")
                } else {
                    writeln!(text, "{row}{sick}")
                }
            }
        };
    }
    let _ = writeln!(text, "\n{}", summary(servers));
    text
}

/// Requests per second since the round before.
fn rate(past: &Server, server: &Server) -> Option<String> {
    let seconds = server.asked?.duration_since(past.asked?).as_secs_f64();
    // A server that was started again counts from 0.
    let requests = server.received?.checked_sub(past.received?)?;
    (seconds > 0.0).then(|| format!("{:.0}", requests as f64 / seconds))
}

fn summary(servers: &[Server]) -> String {
    let serving: Vec<&Server> = servers.iter().filter(|server| server.serves()).collect();
    let mut text = format!("{} of {} servers serve", serving.len(), servers.len());
    let leaders: Vec<&&Server> = serving.iter().filter(|server| server.role == "leader").collect();
    match leaders.as_slice() {
        [leader] => {
            text += &format!(", the leader is {}", escape(&leader.address));
            if let Some(synced) = leader.synced_followers {
                text += &format!(" with {synced} followers in step");
            }
        }
        [] if serving.iter().any(|server| server.role == "follower") => {
            text += ", the leader is not among them"
        }
        [] => {}
        more => {
            text += &format!(
                ", {} call themselves leader: are they of one ensemble?",
                more.len()
            )
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRVR: &str = "Zookeeper version: 3.9.6-abc, built on 2026-01-01 00:00 UTC\nLatency min/avg/max: 0/0.25/7\n\
        Received: 120\nSent: 119\nConnections: 3\nOutstanding: 1\nZxid: 0x100000004\nMode: leader\nNode count: 6\n";

    fn server(address: &str, srvr: &str, mntr: Option<&str>) -> Server {
        let mut server = Server {
            address: address.to_owned(),
            ..Server::default()
        };
        server.read(srvr, mntr, Some("imok"));
        server
    }

    #[test]
    fn what_a_leader_says_becomes_a_row() {
        let mntr = "zk_watch_count\t9\nzk_ephemerals_count\t2\nzk_synced_followers\t2.0\n";
        let servers = [
            server("a:1", SRVR, Some(mntr)),
            server("b:1", &SRVR.replace("leader", "follower"), None),
        ];
        let text = table(&servers, &[], false);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows[1],
            [
                "a:1",
                "leader",
                "0x100000004",
                "3",
                "1",
                "0/0.25/7",
                "-",
                "6",
                "9",
                "2",
                "3.9.6-abc"
            ]
        );
        assert_eq!(rows[2][8], "-", "without mntr there are no watches");
        assert!(
            text.ends_with("2 of 2 servers serve, the leader is a:1 with 2 followers in step\n"),
            "{text}"
        );
        assert_eq!(json(&servers)["servers"][0]["latencyAvgMs"], 0.25);
    }

    #[test]
    fn a_server_that_does_not_serve_says_why() {
        let cases = [
            (
                "This ZooKeeper instance is not currently serving requests\n",
                "does not serve",
            ),
            (
                "srvr is not executed because it is not in the whitelist.\n",
                "not in its 4lw",
            ),
            (
                "HTTP/1.1 400 \x1b[31m\n",
                "not a ZooKeeper server? it says: HTTP/1.1 400 \\x1b[31m",
            ),
            ("", "an empty answer"),
        ];
        for (answer, problem) in cases {
            let server = server("a:1", answer, None);
            assert!(!server.serves());
            assert!(table(&[server], &[], false).contains(problem), "{answer}");
        }
    }

    #[test]
    fn rates_come_from_two_rounds_and_survive_a_restart() {
        let at = Instant::now();
        let past = Server {
            received: Some(100),
            asked: Some(at),
            ..Server::default()
        };
        let now = |received| Server {
            received: Some(received),
            asked: Some(at + Duration::from_secs(2)),
            ..Server::default()
        };
        assert_eq!(rate(&past, &now(150)).as_deref(), Some("25"));
        assert_eq!(rate(&past, &now(10)), None);
    }

    #[test]
    fn servers_are_read_from_a_connect_string() {
        let read =
            |list: &str| invocation(&["-server".to_owned(), list.to_owned()]).map(|given| given.servers);
        assert_eq!(
            read("a,b:1,[::1]:2,[::1]/x").unwrap(),
            ["a:2181", "b:1", "[::1]:2", "[::1]:2181"]
        );
        assert!(read("a:x").is_err());
        assert!(read("::1").is_err());
        assert!(read("").is_err());
    }

    #[test]
    fn lines_are_clipped_without_cutting_colours() {
        assert_eq!(clipped("\x1b[1mabcdef\x1b[0m", 3), "\x1b[1mabc\x1b[0m");
    }
}
