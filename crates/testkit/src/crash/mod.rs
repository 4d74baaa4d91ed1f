//! The crash harness: a server is killed at random moments under a load of several sessions, started again on
//! its directory, and asked whether it kept its word.
//!
//! Checked after each restart, and where it can be, of each reply:
//! - every acknowledged write is there, with the Stat that was answered; of the unanswered requests of a session
//!   a first part happened, each of them wholly or not at all; nothing is there that nobody wrote;
//! - zxids never go back, and sequence numbers are never given twice;
//! - a session whose timeout is not over can be gone on with, and has its ephemerals; those of a session that was
//!   closed or has expired are gone.
//!
//! SIGKILL ends the process only: what it gave to the kernel before survives, synced or not. What a power
//! failure does to unsynced data is tested in the storage crate, on a simulated disk.

mod check;
pub(crate) mod model;
mod worker;

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use oxkeeper_types::{CreateMode, Zxid};

use self::check::{Life, Violation, check_restarted, check_zxid, wait_until_all_expired};
use self::model::{Ledger, QUEUE, ROOT, SHARED, data_of, holds_dir, own_dir};
use self::worker::{Control, Worker, lock};
use crate::Client;
use crate::process::{ServerError, ServerOptions, ServerProcess, ServerProgram};

const TICK_MS: u32 = 200;
/// How long the server may take to stop after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// How many bytes lead a log file, before its first record.
const LOG_HEADER_LENGTH: usize = 16;
/// The write that made the shared znode.
const SETUP_TOKEN: model::Token = 1;

/// What to run.
#[derive(Clone, Debug)]
pub struct CrashOptions {
    /// The server.
    pub program: ServerProgram,
    /// An empty or new directory for it, which is left as it is.
    pub dir: PathBuf,
    /// How many times the server is ended and started again.
    pub cycles: u32,
    /// What all random choices come from; when the server is hit depends on the machine besides.
    pub seed: u64,
    /// How many sessions are in use at a time.
    pub workers: usize,
    /// How long the server runs under load before it is ended, in ms.
    pub load_ms: RangeInclusive<u64>,
    /// All sessions are left to expire, and that is waited for, in each cycle whose number this divides.
    pub settle_every: u32,
    /// Session timeouts that clients ask for, in ms.
    pub timeouts_ms: RangeInclusive<i32>,
    /// Cut so many bytes off what was logged last, after each kill: the harness must notice. For the test of
    /// the harness.
    pub cut_log_bytes: u64,
}

impl CrashOptions {
    /// 100 cycles, 6 sessions.
    pub fn new(program: ServerProgram, dir: impl Into<PathBuf>, seed: u64) -> CrashOptions {
        CrashOptions {
            program,
            dir: dir.into(),
            cycles: 100,
            seed,
            workers: 6,
            load_ms: 5..=700,
            settle_every: 10,
            timeouts_ms: 1_500..=4_000,
            cut_log_bytes: 0,
        }
    }
}

/// What happened in a run without a violation.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrashSummary {
    /// Times the server was ended and started again.
    pub cycles: u32,
    /// Of these, with SIGKILL; the others with SIGTERM.
    pub kills: u32,
    /// Kills of a server that was just starting, besides.
    pub kills_at_start: u32,
    /// Writes answered with success.
    pub writes: u64,
    /// Requests without an answer when the server ended.
    pub unanswered: u64,
    /// Those of them that were seen to be done.
    pub done: u64,
    /// Sessions begun.
    pub sessions: u64,
    /// Sessions closed with an answer.
    pub closed: u64,
    /// Sessions gone on with after a restart.
    pub renewed: u64,
    /// Sessions seen to be gone after they were left.
    pub expired: u64,
}

impl std::fmt::Display for CrashSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} cycles ({} kills, {} more at the start): {} writes acknowledged; {} requests unanswered, at least \
             {} of them done; {} sessions, {} closed, {} renewed after a restart, {} expired",
            self.cycles,
            self.kills,
            self.kills_at_start,
            self.writes,
            self.unanswered,
            self.done,
            self.sessions,
            self.closed,
            self.renewed,
            self.expired
        )
    }
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum CrashError {
    /// The server broke its word: what was seen, and what led to it.
    #[error("{0}")]
    Violation(String),
    /// The server could not be started or stopped.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The harness's own files failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs the harness; `report` gets a line every ten cycles.
///
/// # Errors
/// At the first violation, and when the server does not start or stop.
pub fn run(options: &CrashOptions, mut report: impl FnMut(&str)) -> Result<CrashSummary, CrashError> {
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let mut settings = ServerOptions::new(options.program.clone(), &options.dir);
    for (key, value) in [
        ("tickTime", TICK_MS),
        ("minSessionTimeout", 2 * TICK_MS),
        ("maxSessionTimeout", 60_000),
    ] {
        settings = settings.set(key, value);
    }
    let spawned_at = Instant::now();
    let server = ServerProcess::start(vary(settings, &mut rng))?;
    let life = Life {
        spawned_at,
        ready_at: Instant::now(),
        tick: Duration::from_millis(TICK_MS.into()),
    };
    let ledger = Mutex::new(Ledger::default());
    let workers = set_up(&server, options, &ledger, &mut rng).map_err(CrashError::Violation)?;
    let summary = CrashSummary::default();
    let mut run = Run {
        options,
        rng,
        server,
        life,
        ledger,
        workers,
        summary,
    };
    for cycle in 1..=options.cycles {
        if let Err(error) = run.cycle(cycle) {
            return Err(match error {
                CycleError::Violation((worker, text)) => {
                    CrashError::Violation(run.describe(cycle, worker, &text))
                }
                CycleError::Server(error) => {
                    CrashError::Violation(run.describe(cycle, None, &error.to_string()))
                }
                CycleError::Io(error) => error.into(),
            });
        }
        if cycle % 10 == 0 {
            report(&run.summary().to_string());
        }
    }
    run.server.terminate(STOP_WITHIN)?;
    Ok(run.summary())
}

/// Other settings of snapshots and log for each start: all so small that files are begun all the time.
fn vary(settings: ServerOptions, rng: &mut fastrand::Rng) -> ServerOptions {
    let method = *rng.choice(&["", "", "gz", "snappy"]).expect("not empty");
    settings
        .set("snapCount", rng.u32(50..=500))
        .set("preAllocSize", rng.u32(4..=64))
        .set("txnLogSizeLimitInKb", if rng.bool() { "-1" } else { "40" })
        .set("snapshot.compression.method", method)
        // Purges once at each start.
        .set("autopurge.purgeInterval", rng.u8(0..=1))
        .set("flushDelay", if rng.u8(0..4) == 0 { "5" } else { "0" })
}

/// Makes the parents of all that comes.
fn set_up(
    server: &ServerProcess,
    options: &CrashOptions,
    ledger: &Mutex<Ledger>,
    rng: &mut fastrand::Rng,
) -> Result<Vec<Worker>, String> {
    let text = |error: crate::ClientError| error.to_string();
    let mut client = Client::connect(server.address(), 10_000).map_err(text)?;
    let mut create =
        |path: &str, data: &[u8]| client.create(path, data, CreateMode::Persistent).map_err(text);
    create(ROOT, b"")?;
    create(QUEUE, b"")?;
    let shared = create(SHARED, &data_of(SETUP_TOKEN))?.1;
    lock(ledger).note_shared(0, SETUP_TOKEN, shared.czxid)?;
    let mut workers = Vec::new();
    for index in 0..options.workers {
        let pzxid: Zxid = create(&own_dir(index), b"")?.1.czxid;
        create(&holds_dir(index), b"")?;
        workers.push(Worker::new(
            index,
            rng.u64(..),
            options.timeouts_ms.clone(),
            pzxid,
        ));
    }
    client.close().map_err(text)?;
    Ok(workers)
}

enum CycleError {
    Violation(Violation),
    Server(ServerError),
    Io(io::Error),
}

impl From<Violation> for CycleError {
    fn from(violation: Violation) -> CycleError {
        CycleError::Violation(violation)
    }
}

impl From<ServerError> for CycleError {
    fn from(error: ServerError) -> CycleError {
        CycleError::Server(error)
    }
}

impl From<io::Error> for CycleError {
    fn from(error: io::Error) -> CycleError {
        CycleError::Io(error)
    }
}

struct Run<'a> {
    options: &'a CrashOptions,
    rng: fastrand::Rng,
    server: ServerProcess,
    life: Life,
    ledger: Mutex<Ledger>,
    workers: Vec<Worker>,
    summary: CrashSummary,
}

impl Run<'_> {
    /// Load, end, start, check.
    fn cycle(&mut self, cycle: u32) -> Result<(), CycleError> {
        let control = Control::default();
        let settle = cycle.is_multiple_of(self.options.settle_every);
        let ended_at = self.load_and_end(&control, settle)?;
        let life = self.life;
        for worker in &mut self.workers {
            worker.client = None;
            for session in worker.former.iter_mut().chain(&mut worker.session) {
                session.survived_crash = life.is_alive(session, ended_at);
            }
        }
        if self.options.cut_log_bytes > 0 {
            cut_log(&self.server.version_dir(), self.options.cut_log_bytes)?;
        }
        self.start_again()?;
        let srvr = self.server.four_letter("srvr")?;
        let address = self.server.address();
        let resolved = check_restarted(&mut self.workers, &self.ledger, address, self.life, &mut self.rng)?;
        check_zxid(&srvr, &self.ledger).map_err(|text| (None, text))?;
        self.summary.cycles = cycle;
        self.summary.unanswered += resolved.unanswered;
        self.summary.done += resolved.done;
        self.summary.expired += resolved.expired;
        Ok(())
    }

    /// Lets the workers work, ends the server in the midst of it, and tells when.
    fn load_and_end(&mut self, control: &Control, settle: bool) -> Result<Instant, CycleError> {
        let address = self.server.address();
        let load = Duration::from_millis(self.rng.u64(self.options.load_ms.clone()));
        let (server, rng, ledger, life) = (&mut self.server, &mut self.rng, &self.ledger, self.life);
        let mut violations: Vec<Option<Violation>> = self.workers.iter().map(|_| None).collect();
        if settle {
            thread::scope(|scope| {
                for (worker, violation) in self.workers.iter_mut().zip(&mut violations) {
                    scope.spawn(|| *violation = work(worker, address, ledger, control));
                }
                sleep_unless_failed(load, control);
                control.settle.store(true, Ordering::SeqCst);
            });
            if let Some(violation) = violations.iter_mut().find_map(Option::take) {
                return Err(violation.into());
            }
            wait_until_all_expired(&self.workers, address, life).map_err(|text| (None, text))?;
            control.settle.store(false, Ordering::SeqCst);
        }
        let ended = thread::scope(|scope| {
            for (worker, violation) in self.workers.iter_mut().zip(&mut violations) {
                scope.spawn(|| *violation = work(worker, address, ledger, control));
            }
            sleep_unless_failed(load, control);
            end_server(server, rng, control, &mut self.summary)
        });
        match violations.into_iter().flatten().next() {
            Some(violation) => Err(violation.into()),
            None => ended,
        }
    }

    /// Starts the server with other settings, sometimes after a start that is killed in the midst.
    fn start_again(&mut self) -> Result<(), CycleError> {
        let settings = self.server.options_mut();
        *settings = vary(settings.clone(), &mut self.rng);
        while self.rng.u8(0..6) == 0 {
            self.server.respawn()?;
            thread::sleep(Duration::from_millis(self.rng.u64(0..60)));
            if let Some(status) = self.server.try_wait()? {
                return Err((None, format!("the server ended by itself at its start: {status}")).into());
            }
            self.server.kill()?;
            self.summary.kills_at_start += 1;
        }
        self.life.spawned_at = Instant::now();
        self.server.restart()?;
        self.life.ready_at = Instant::now();
        Ok(())
    }

    fn summary(&self) -> CrashSummary {
        let ledger = lock(&self.ledger);
        CrashSummary {
            writes: ledger.writes,
            sessions: ledger.sessions,
            closed: ledger.closed,
            renewed: ledger.renewed,
            ..self.summary
        }
    }

    fn describe(&self, cycle: u32, worker: Option<usize>, text: &str) -> String {
        let mut described = format!(
            "violation in cycle {cycle} of seed {} ({}): {text}\n",
            self.options.seed,
            worker.map_or("no single worker".to_owned(), |worker| format!("worker {worker}"))
        );
        for each in self
            .workers
            .iter()
            .filter(|each| worker.is_none_or(|worker| worker == each.index))
        {
            let lines = if worker.is_some() { 60 } else { 15 };
            let sessions = each.former.iter().chain(&each.session);
            let sessions = sessions.map(|session| format!("{} {:?}", session.id(), session.state));
            described += &format!(
                "  worker {}, sessions {:?}, seconds since its begin and what happened:\n{}",
                each.index,
                sessions.collect::<Vec<_>>(),
                each.history(lines)
            );
        }
        described += &format!(
            "  end of the server's log:\n{}\n  the server's directory: {}",
            self.server.log_tail(),
            self.options.dir.display()
        );
        described
    }
}

fn work(
    worker: &mut Worker,
    address: std::net::SocketAddr,
    ledger: &Mutex<Ledger>,
    control: &Control,
) -> Option<Violation> {
    let text = worker.run(address, ledger, control).err()?;
    control.failed.store(true, Ordering::SeqCst);
    Some((Some(worker.index), text))
}

fn sleep_unless_failed(time: Duration, control: &Control) {
    let until = Instant::now() + time;
    while !control.failed.load(Ordering::SeqCst) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(Duration::from_millis(20)));
    }
}

/// Kills the server, or asks it to stop, sometimes after a pause. Gives the moment before.
fn end_server(
    server: &mut ServerProcess,
    rng: &mut fastrand::Rng,
    control: &Control,
    summary: &mut CrashSummary,
) -> Result<Instant, CycleError> {
    let ended = end_server_how(server, rng, control, summary);
    // Whatever happened, the workers must not go on.
    control.killing.store(true, Ordering::SeqCst);
    if ended.is_err() {
        control.failed.store(true, Ordering::SeqCst);
    }
    ended
}

fn end_server_how(
    server: &mut ServerProcess,
    rng: &mut fastrand::Rng,
    control: &Control,
    summary: &mut CrashSummary,
) -> Result<Instant, CycleError> {
    if let Some(status) = server.try_wait()? {
        return Err((None, format!("the server ended by itself: {status}")).into());
    }
    if rng.u8(0..6) == 0 {
        server.pause()?;
        thread::sleep(Duration::from_millis(rng.u64(0..200)));
        if rng.bool() {
            server.resume()?;
            thread::sleep(Duration::from_millis(rng.u64(0..20)));
        }
    }
    let ended_at = Instant::now();
    control.killing.store(true, Ordering::SeqCst);
    if rng.u8(0..10) > 0 {
        server.kill()?;
        summary.kills += 1;
        return Ok(ended_at);
    }
    // A paused process gets the signal when it goes on.
    server.resume()?;
    let status = server.terminate(STOP_WITHIN)?;
    // Java ends with 128 + SIGTERM.
    match status.code() {
        Some(0 | 143) => Ok(ended_at),
        _ => Err((None, format!("the server ended with {status} after SIGTERM")).into()),
    }
}

/// Overwrites the last bytes that were written to the newest log file with zeros.
pub(crate) fn cut_log(dir: &std::path::Path, bytes: u64) -> io::Result<()> {
    let mut newest: Option<(i64, PathBuf)> = None;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let zxid = name
            .strip_prefix("log.")
            .and_then(|hex| i64::from_str_radix(hex, 16).ok());
        if let Some(zxid) = zxid
            && newest.as_ref().is_none_or(|(other, _)| *other < zxid)
        {
            newest = Some((zxid, path));
        }
    }
    let Some((_, path)) = newest else { return Ok(()) };
    let mut content = fs::read(&path)?;
    let end = content
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let cut = usize::try_from(bytes).unwrap_or(usize::MAX);
    // The file's header is synced before anything is answered; without it no server starts.
    let start = end.saturating_sub(cut).max(LOG_HEADER_LENGTH).min(end);
    content[start..end].fill(0);
    fs::write(&path, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_a_log_zeroes_the_end_of_what_was_written_to_the_newest_file() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("log.1f"), [[1; 20], [0; 20]].concat()).expect("written");
        fs::write(dir.path().join("log.9"), [1, 2, 3, 4]).expect("written");
        fs::write(dir.path().join("snapshot.ff"), [1]).expect("written");
        cut_log(dir.path(), 3).expect("cut");
        let cut = [&[1; 17][..], &[0; 23]].concat();
        assert_eq!(fs::read(dir.path().join("log.1f")).expect("read"), cut);
        assert_eq!(fs::read(dir.path().join("log.9")).expect("read"), [1, 2, 3, 4]);
    }
}
