//! The fault harness of ensembles: real servers are killed, paused, cut off and run out of disk under the load of
//! several sessions, which move from server to server and check what they are told.
//!
//! Checked of each reply, and after each chapter of the trees of all servers:
//! - no acknowledged write is lost, none happens twice, none is there that nobody sent or that was refused;
//! - an acknowledged write has a newer zxid than all that were acknowledged before it was sent, whoever sent them;
//! - a server at a zxid shows everything up to it and nothing beyond; a session is never shown an older zxid than
//!   before, on whichever server; after a sync it sees all that was acknowledged before the sync (but while a server
//!   is paused or cut off: it may still believe that it leads, and sync does not ask a quorum; and but for Java's
//!   servers, whose leader answers a sync of its own clients like a read);
//! - the requests of one session happen in the order sent, and of those unanswered a first part;
//! - the parts of a multi happen together;
//! - a session lives as long as a server answers it and for its timeout after that, with all of its ephemerals;
//!   those of a session that was closed are gone at once everywhere, those of one that was left soon;
//! - no change of a watched znode is shown before the event that tells it, and no event comes without a watch;
//! - when everything is whole again, all servers serve, writes are acknowledged, and all trees are equal.

mod faults;
mod ledger;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use oxkeeper_types::{ErrorCode, ReadRequest, SessionId, Stat, VERSION_ANY, WriteRequest, Zxid};
use oxkeeper_wire::{Decoder, Request, decode_data_and_stat};

pub use self::ledger::Counts;

use self::faults::{Fault, FaultError, Patient, vary};
use self::ledger::Ledger;
use self::worker::{
    Control, End, Layout, PAIRS, SINGLES, WHOLE_WITHIN, Worker, hold_owner, lock, queue_name,
};
use crate::crash::model::{data_of, set_request, token_of};
use crate::process::{
    Ensemble, EnsembleOptions, MemberOptions, Network, ServerError, ServerProgram, TinyDisk,
};
use crate::{Client, ClientError, CreateMode};

const TICK_MS: u32 = 200;
/// How many ticks a server may lag before it is given up.
const SYNC_LIMIT: u32 = 10;
/// The longest timeout of a session that is left, what the leader's ticks add, and as much again for slow machines.
const EXPIRED_WITHIN: Duration = Duration::from_secs(20);
/// The log of one server is on a disk of this size, which is never full by itself.
const DISK_BYTES: u64 = 2 << 30;
const READS_IN_FLIGHT: usize = 200;

/// What to run.
#[derive(Clone, Debug)]
pub struct StormOptions {
    /// The members; the first is server 1.
    pub members: Vec<MemberOptions>,
    /// An empty or new directory for them, which is left as it is.
    pub dir: PathBuf,
    /// What all random choices come from; what they meet depends on the machine besides.
    pub seed: u64,
    /// No chapter begins after this time.
    pub time: Duration,
    /// At least one, and at most so many chapters.
    pub chapters_max: u32,
    /// How many sessions are in use at a time.
    pub workers: usize,
    /// Use network namespaces and a small disk where it is permitted.
    pub use_root: bool,
    /// Cut so many bytes off all logs when all servers are killed: the harness must notice. For its test.
    pub cut_log_bytes: u64,
}

impl StormOptions {
    /// Members that all run one program, with 6 sessions.
    pub fn new(program: &ServerProgram, members: usize, dir: impl Into<PathBuf>, seed: u64) -> StormOptions {
        StormOptions {
            members: vec![MemberOptions::participant(program.clone()); members],
            dir: dir.into(),
            seed,
            time: Duration::from_secs(60),
            chapters_max: u32::MAX,
            workers: 6,
            use_root: true,
            cut_log_bytes: 0,
        }
    }
}

/// What happened in a run without a violation.
#[derive(Clone, Copy, Debug, Default)]
pub struct StormSummary {
    /// Times that load, faults and a check of everything followed one another.
    pub chapters: u32,
    /// Faults made.
    pub faults: u32,
    /// What the clients did.
    pub counts: Counts,
}

impl std::fmt::Display for StormSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = &self.counts;
        write!(
            f,
            "{} chapters, {} faults: {} writes acknowledged, {} unanswered; {} reads, {} more behind a sync ({} of \
             them stale, which is allowed while a server is paused or cut off); {} watch events; {} sessions, {} moves, {} closed, {} \
             found expired",
            self.chapters,
            self.faults,
            counts.writes,
            counts.unanswered,
            counts.reads - counts.synced_reads,
            counts.synced_reads,
            counts.stale_synced_reads,
            counts.events,
            counts.sessions,
            counts.moves,
            counts.closed,
            counts.expired
        )
    }
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum StormError {
    /// The servers broke their word: what was seen, and what led to it.
    #[error("{0}")]
    Violation(String),
    /// The servers could not be started.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The harness's own files or commands failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs the harness; `report` gets a line when it begins and after each chapter.
///
/// # Errors
/// At the first violation, and when the servers cannot be started.
pub fn run(options: &StormOptions, mut report: impl FnMut(&str)) -> Result<StormSummary, StormError> {
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let network = unless_forbidden(options.use_root, || Network::create(options.members.len()))?;
    let mut settings = EnsembleOptions::new(&options.dir, options.members.clone())
        .set("tickTime", TICK_MS)
        .set("initLimit", 50)
        .set("syncLimit", SYNC_LIMIT)
        .set("minSessionTimeout", 2 * TICK_MS)
        .set("maxSessionTimeout", 60_000);
    let on_disk = rng.usize(1..=options.members.len());
    let log_dir = options.dir.join("small-disk");
    std::fs::create_dir_all(&log_dir)?;
    // A log to be cut must be seen from here.
    let may_mount = options.use_root && options.cut_log_bytes == 0;
    let disk = unless_forbidden(may_mount, || TinyDisk::mount(&log_dir, DISK_BYTES))?;
    for (index, member) in settings.members.iter_mut().enumerate() {
        if let Some(disk) = disk.as_ref().filter(|_| index + 1 == on_disk) {
            member.wrapper.extend(disk.wrapper());
            let log_dir = log_dir.display().to_string();
            member.settings.push(("dataLogDir".to_owned(), log_dir));
        }
    }
    for (what, is_there) in [("partitions", network.is_some()), ("full disks", disk.is_some())] {
        if !is_there && options.cut_log_bytes == 0 {
            report(&format!(
                "without {what}: they need root, unshare, nsenter and ip"
            ));
        }
    }
    let faults = Fault::possible(network.is_some() && options.members.len() > 1, disk.is_some());
    settings.network = network;
    let ensemble = Ensemble::start(settings)?;
    let disk = disk.map(|disk| (on_disk, disk));
    let mut patient = Patient::new(ensemble, disk, options.cut_log_bytes);
    for id in patient.ensemble.ids() {
        vary(patient.ensemble.server_mut(id).options_mut(), &mut rng);
    }
    let mut summary = StormSummary::default();
    let began = Instant::now();
    for number in 1..=options.chapters_max {
        let mut chapter = Chapter::new(number, options, &patient.ensemble, rng.fork());
        let told = chapter.tell(&mut patient, &faults);
        summary.chapters = number;
        summary.faults += u32::try_from(chapter.story.len()).expect("few faults");
        summary.counts.add(&lock(&chapter.ledger).counts);
        if let Err((worker, text)) = told {
            let text = chapter.describe(worker, &text, options, &patient.ensemble);
            return Err(StormError::Violation(text));
        }
        report(&format!(
            "chapter {number}: {} ({} writes)",
            chapter.story.join(", "),
            lock(&chapter.ledger).counts.writes
        ));
        if began.elapsed() >= options.time {
            break;
        }
    }
    Ok(summary)
}

fn is_java(members: &[MemberOptions]) -> bool {
    let mut programs = members.iter().map(|member| &member.program);
    programs.any(|program| matches!(program, ServerProgram::Java { .. }))
}

/// What only root may make; `None` without the right, or when it is not wanted.
fn unless_forbidden<T>(wanted: bool, make: impl FnOnce() -> io::Result<T>) -> io::Result<Option<T>> {
    if !wanted {
        return Ok(None);
    }
    match make() {
        Ok(made) => Ok(Some(made)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A violation, and who found it.
type Violation = (Option<usize>, String);

fn nobody(text: impl ToString) -> Violation {
    (None, text.to_string())
}

/// Everything that a server shows, but for what is its own.
type Tree = BTreeMap<String, (Vec<u8>, Stat)>;

/// One time of load, faults and checks, in a part of the tree of its own.
struct Chapter {
    rng: fastrand::Rng,
    control: Control,
    layout: Layout,
    ledger: Mutex<Ledger>,
    workers: Vec<Worker>,
    /// The faults that were made.
    story: Vec<String>,
}

impl Chapter {
    fn new(number: u32, options: &StormOptions, ensemble: &Ensemble, mut rng: fastrand::Rng) -> Chapter {
        let layout = Layout {
            root: format!("/storm-{number}"),
        };
        let worker = |index| Worker::new(index, rng.u64(..), layout.clone());
        Chapter {
            workers: (0..options.workers).map(worker).collect(),
            control: Control {
                servers: ensemble.addresses(),
                stop: AtomicBool::new(false),
                failed: AtomicBool::new(false),
                is_split: AtomicBool::new(false),
                sync_may_lag: is_java(&options.members),
                touch_delay: Duration::from_millis((2 * SYNC_LIMIT * TICK_MS).into()),
                began: Instant::now(),
            },
            layout,
            ledger: Mutex::new(Ledger::new(SINGLES + PAIRS)),
            story: Vec::new(),
            rng,
        }
    }

    fn tell(&mut self, patient: &mut Patient, faults: &[Fault]) -> Result<(), Violation> {
        self.set_up().map_err(nobody)?;
        let (ledger, control) = (&self.ledger, &self.control);
        let (rng, story) = (&mut self.rng, &mut self.story);
        let mut violations: Vec<Option<String>> = self.workers.iter().map(|_| None).collect();
        let stormed = scope(|scope| {
            for (worker, violation) in self.workers.iter_mut().zip(&mut violations) {
                scope.spawn(|| {
                    *violation = worker.run(ledger, control).err();
                    if violation.is_some() {
                        control.failed.store(true, Ordering::SeqCst);
                    }
                });
            }
            let stormed = storm(patient, faults, ledger, control, rng, story);
            control.stop.store(true, Ordering::SeqCst);
            stormed
        });
        for (index, violation) in violations.into_iter().enumerate() {
            if let Some(text) = violation {
                return Err((Some(index), text));
            }
        }
        stormed.map_err(nobody)?;
        self.check()?;
        self.clear().map_err(nobody)
    }

    /// Makes the znodes of the chapter.
    fn set_up(&mut self) -> Result<(), String> {
        let mut calm = CalmClient::new(self.control.servers[0]);
        for path in [self.layout.root.clone(), self.layout.queue(), self.layout.holds()] {
            calm.ensure(&path, b"")?;
        }
        let mut tokens = 1..;
        let mut new_token = |ledger: &mut Ledger, register| {
            let token = tokens.next().expect("there are many numbers");
            ledger.note_sent(register, token);
            token
        };
        let mut ledger = lock(&self.ledger);
        for register in 0..SINGLES + PAIRS {
            let token = new_token(&mut ledger, register);
            for path in self.layout.register(register) {
                let stat = calm.ensure(&path, &data_of(token))?;
                ledger.acknowledged = stat.czxid;
                if register < SINGLES {
                    ledger.note_seen(register, stat.version, token, stat.mzxid, stat.mzxid)?;
                }
            }
        }
        // The znodes of a pair become one register with their first change together.
        for register in SINGLES..SINGLES + PAIRS {
            let paths = self.layout.register(register);
            let mut sent = Vec::new();
            let (data, stat) = calm.call(|client| {
                let token = new_token(&mut ledger, register);
                sent.push(token);
                let parts = paths
                    .iter()
                    .map(|path| set_request(path.clone(), token, VERSION_ANY));
                client.multi(parts.collect())?;
                client.get(&paths[0])
            })?;
            let token = token_of(&data).filter(|token| sent.contains(token));
            let token = token.ok_or_else(|| format!("a multi made {} to {data:02x?}", paths[0]))?;
            ledger.note_seen(register, stat.version, token, stat.mzxid, stat.mzxid)?;
            ledger.registers[register].acknowledged = stat.mzxid;
            ledger.acknowledged = stat.mzxid;
        }
        for address in &self.control.servers {
            CalmClient::new(*address).call(|client| client.sync("/"))?;
        }
        Ok(())
    }

    /// Everything is whole again and nobody writes any more: what must be there, and everywhere the same.
    fn check(&mut self) -> Result<(), Violation> {
        let (ledger, control) = (&self.ledger, &self.control);
        each_worker(&mut self.workers, |worker| worker.finish(ledger, control))?;
        let tree = loop {
            let alive = self
                .workers
                .iter()
                .filter(|worker| worker.owned.is_some())
                .count();
            let tree = self.read_equal_trees()?;
            // On a very busy machine a session may have expired meanwhile.
            if self
                .workers
                .iter()
                .filter(|worker| worker.owned.is_some())
                .count()
                == alive
            {
                break tree;
            }
        };
        self.check_tree(&tree)?;
        let (ledger, control) = (&self.ledger, &self.control);
        each_worker(&mut self.workers, |worker| worker.close(ledger, control))?;
        let tree = self.read_equal_trees()?;
        match tree
            .iter()
            .find(|(_, (_, stat))| stat.ephemeral_owner != SessionId::NONE)
        {
            Some(left) => Err(nobody(format!("all sessions were closed, but {left:?} is there"))),
            None => Ok(()),
        }
    }

    /// Waits until the sessions that were left have expired, and reads the trees of all servers, which must be
    /// equal. Those sessions that are in use are kept alive meanwhile.
    fn read_equal_trees(&mut self) -> Result<Tree, Violation> {
        let left = self.workers.iter().flat_map(|worker| &worker.former);
        let left: Vec<SessionId> = left
            .filter(|(_, end)| *end == End::Left)
            .map(|(owned, _)| owned.session.id)
            .collect();
        let (ledger, control, layout) = (&self.ledger, &self.control, &self.layout);
        let workers = &mut self.workers;
        let is_done = AtomicBool::new(false);
        let (kept, trees) = scope(|scope| {
            let keeper = scope.spawn(|| {
                while !is_done.load(Ordering::SeqCst) {
                    each_worker(workers, |worker| worker.keep_alive(ledger, control))?;
                    sleep(Duration::from_millis(200));
                }
                Ok(())
            });
            let trees = wait_until_expired(&left, control, layout).and_then(|()| read_trees(control, layout));
            is_done.store(true, Ordering::SeqCst);
            (
                keeper
                    .join()
                    .unwrap_or_else(|_| Err(nobody("keeping sessions alive failed"))),
                trees,
            )
        });
        kept?;
        let mut trees = trees.map_err(nobody)?;
        let first = trees.remove(0);
        for (id, tree) in (2..).zip(&trees) {
            let mut paths = first.keys().chain(tree.keys());
            if let Some(path) = paths.find(|path| first.get(*path) != tree.get(*path)) {
                return Err(nobody(format!(
                    "{path} is {:?} at server 1, and {:?} at server {id}",
                    first.get(path),
                    tree.get(path)
                )));
            }
        }
        Ok(first)
    }

    fn check_tree(&self, tree: &Tree) -> Result<(), Violation> {
        let mut expected = vec![self.layout.root.clone(), self.layout.queue(), self.layout.holds()];
        let mut ledger = lock(&self.ledger);
        for register in 0..SINGLES + PAIRS {
            for path in self.layout.register(register) {
                let (data, stat) = tree
                    .get(&path)
                    .ok_or_else(|| nobody(format!("{path} is missing")))?;
                let token = token_of(data)
                    .ok_or_else(|| nobody(format!("no write made the data of {path}: {data:02x?}")))?;
                let version = stat.version;
                ledger
                    .note_seen(register, version, token, stat.mzxid, Zxid(i64::MAX))
                    .map_err(nobody)?;
                ledger.check_final(register, version).map_err(nobody)?;
                expected.push(path);
            }
        }
        expected.extend(self.check_queue(tree)?);
        expected.extend(self.check_holds(tree)?);
        match tree.keys().find(|path| !expected.contains(path)) {
            Some(path) => Err(nobody(format!("nobody made {path}: {:?}", tree[path]))),
            None => Ok(()),
        }
    }

    /// The sequential znodes. Gives the paths of those that somebody asked for.
    fn check_queue(&self, tree: &Tree) -> Result<Vec<String>, Violation> {
        let queue = self.layout.queue();
        let mut found = BTreeMap::new();
        let mut in_order: BTreeMap<u32, Zxid> = BTreeMap::new();
        for (path, (_, stat)) in tree.range(format!("{queue}/")..format!("{queue}0")) {
            let name = &path[queue.len() + 1..];
            let (token, number) = queue_name(name).ok_or_else(|| nobody(format!("nobody made {path}")))?;
            if let Some(other) = found.insert(token, (number, stat.czxid, path)) {
                return Err(nobody(format!("{path} and {other:?} are of one request")));
            }
            if in_order.insert(number, stat.czxid).is_some() {
                return Err(nobody(format!("the number of {path} was given twice")));
            }
        }
        for ((first, earlier), (second, later)) in in_order.iter().zip(in_order.iter().skip(1)) {
            if earlier >= later {
                return Err(nobody(format!(
                    "number {first} was given with zxid {earlier}, and number {second} with {later}"
                )));
            }
        }
        let mut paths = Vec::new();
        for worker in &self.workers {
            let by = |text: String| (Some(worker.index), text);
            let mut before: Option<(worker::Queued, bool, Zxid)> = None;
            for queued in &worker.queued {
                let there = found.remove(&queued.token);
                if let Some((number, czxid)) = queued.acknowledged
                    && there.is_none_or(|(found, at, _)| (found, at) != (number, czxid))
                {
                    return Err(by(format!(
                        "{queued:x?} was acknowledged, but there is {there:x?}"
                    )));
                }
                let czxid = there.map_or(Zxid::ZERO, |(_, czxid, _)| czxid);
                if let (Some((earlier, was_there, zxid)), Some(_)) = (before, there) {
                    let same_connection = earlier.connection == queued.connection;
                    if same_connection && !was_there || earlier.session == queued.session && zxid >= czxid {
                        return Err(by(format!(
                            "{queued:x?} happened with zxid {czxid}, but of the one sent before, {earlier:x?}, there \
                             is {:?}",
                            was_there.then_some(zxid)
                        )));
                    }
                }
                paths.extend(there.map(|(_, _, path)| path.clone()));
                before = Some((*queued, there.is_some(), czxid));
            }
        }
        Ok(paths)
    }

    /// The ephemerals: those of the sessions in use, and no other. Gives their paths.
    fn check_holds(&self, tree: &Tree) -> Result<Vec<String>, Violation> {
        let mut paths = Vec::new();
        for worker in &self.workers {
            let by = |text: String| (Some(worker.index), text);
            for (owned, _) in &worker.former {
                if let Some(hold) = owned.holds.iter().find(|hold| tree.contains_key(&hold.path)) {
                    return Err(by(format!("the session is gone, but its {hold:?} is there")));
                }
            }
            for hold in worker.owned.iter().flat_map(|owned| &owned.holds) {
                let there = tree.get(&hold.path);
                let must = hold.created.is_some() && !hold.releasing;
                if must && there.is_none() || hold.released && there.is_some() {
                    return Err(by(format!(
                        "the session is alive, {hold:?} and there is {there:?}"
                    )));
                }
                paths.extend(there.map(|_| hold.path.clone()));
            }
        }
        Ok(paths)
    }

    /// Deletes the chapter's znodes.
    fn clear(&self) -> Result<(), String> {
        CalmClient::new(self.control.servers[0]).call(|client| {
            client.sync("/")?;
            if client.exists(&self.layout.root, false)?.is_none() {
                return Ok(());
            }
            let tree = read_tree(client, &self.layout.root)?;
            // Children come after their parents.
            let paths: Vec<&String> = tree.keys().rev().collect();
            for paths in paths.chunks(500) {
                let delete = |path: &&String| WriteRequest::Delete {
                    path: (*path).clone(),
                    version: VERSION_ANY,
                };
                client.multi(paths.iter().map(delete).collect())?;
            }
            Ok(())
        })
    }

    fn describe(
        &self,
        worker: Option<usize>,
        text: &str,
        options: &StormOptions,
        ensemble: &Ensemble,
    ) -> String {
        let who = worker.map_or("no single worker".to_owned(), |worker| format!("worker {worker}"));
        let mut described = format!(
            "violation in {} of seed {} after {:.1} s of it ({who}): {text}\n  faults: {}\n",
            self.layout.root,
            options.seed,
            self.control.began.elapsed().as_secs_f64(),
            self.story.join(", ")
        );
        for each in self
            .workers
            .iter()
            .filter(|each| worker.is_none_or(|worker| worker == each.index))
        {
            let lines = if worker.is_some() { 80 } else { 12 };
            described += &format!("  worker {}:\n{}", each.index, each.history(lines));
        }
        described += &ensemble.log_tails();
        described + &format!("  the servers' directories: {}", options.dir.display())
    }
}

/// Makes some faults, one after the other or two at once, and everything whole again.
fn storm(
    patient: &mut Patient,
    faults: &[Fault],
    ledger: &Mutex<Ledger>,
    control: &Control,
    rng: &mut fastrand::Rng,
    story: &mut Vec<String>,
) -> Result<(), FaultError> {
    sleep_unless_failed(control, rng.u64(300..1_500));
    for _ in 0..rng.usize(1..=4) {
        let mut splits = false;
        for _ in 0..=usize::from(rng.u8(0..4) == 0) {
            let fault = *rng.choice(faults).expect("some are always possible");
            splits |= fault.splits();
            if splits {
                control.is_split.store(true, Ordering::SeqCst);
            }
            let at = control.began.elapsed().as_secs_f64();
            let told = patient.strike(fault, rng)?;
            story.push(format!("{at:.1} s {told}"));
            sleep_unless_failed(control, rng.u64(0..300));
        }
        // Long enough, now and then, that the others give a silent server up and that short sessions expire.
        let long = rng.u8(0..3) == 0;
        sleep_unless_failed(
            control,
            if long {
                rng.u64(2_000..6_000)
            } else {
                rng.u64(50..1_500)
            },
        );
        patient.heal(rng)?;
        if splits {
            // Until then a server that was cut off or paused has heard of its successor, or given up.
            sleep_unless_failed(control, u64::from(2 * SYNC_LIMIT * TICK_MS));
            control.is_split.store(false, Ordering::SeqCst);
        }
        sleep_unless_failed(control, rng.u64(0..1_500));
        if control.failed.load(Ordering::SeqCst) {
            return Ok(());
        }
    }
    let everyone: Vec<usize> = patient.ensemble.ids().collect();
    patient
        .ensemble
        .wait_until_serving(&everyone, WHOLE_WITHIN)
        .map_err(|error| FaultError::Violation(error.to_string()))?;
    let before = lock(ledger).counts.writes;
    let deadline = Instant::now() + WHOLE_WITHIN;
    while lock(ledger).counts.writes < before + 50 && !control.failed.load(Ordering::SeqCst) {
        if Instant::now() > deadline {
            let text = format!("all servers serve, but hardly a write was acknowledged for {WHOLE_WITHIN:?}");
            return Err(FaultError::Violation(text));
        }
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn sleep_unless_failed(control: &Control, ms: u64) {
    let until = Instant::now() + Duration::from_millis(ms);
    while !control.failed.load(Ordering::SeqCst) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        sleep(left.min(Duration::from_millis(20)));
    }
}

/// Does something for each worker, up to the first violation.
fn each_worker(
    workers: &mut [Worker],
    mut act: impl FnMut(&mut Worker) -> Result<(), String>,
) -> Result<(), Violation> {
    for worker in workers {
        act(worker).map_err(|text| (Some(worker.index), text))?;
    }
    Ok(())
}

/// A client of one server for a time in which nothing is done to any: it connects again when its connection is
/// lost, because servers on a busy machine may still give one another up.
struct CalmClient {
    address: SocketAddr,
    client: Option<Client>,
}

impl CalmClient {
    fn new(address: SocketAddr) -> CalmClient {
        CalmClient {
            address,
            client: None,
        }
    }

    /// Does it, all of it again when the connection is lost.
    fn call<T>(&mut self, mut act: impl FnMut(&mut Client) -> Result<T, ClientError>) -> Result<T, String> {
        let deadline = Instant::now() + WHOLE_WITHIN;
        loop {
            let connected = match self.client.take() {
                Some(client) => Ok(client),
                None => Client::connect(self.address, 30_000),
            };
            let done = connected.and_then(|mut client| {
                let value = act(&mut client)?;
                self.client = Some(client);
                Ok(value)
            });
            match done {
                Ok(value) => return Ok(value),
                Err(ClientError::Io(_) | ClientError::Closed) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(format!("at {}: {error}", self.address)),
            }
        }
    }

    /// Creates a znode, which may be there from an attempt whose reply was lost.
    fn ensure(&mut self, path: &str, data: &[u8]) -> Result<Stat, String> {
        self.call(|client| match client.create(path, data, CreateMode::Persistent) {
            Err(ClientError::Refused(ErrorCode::NodeExists)) => client.get(path).map(|(_, stat)| stat),
            created => created.map(|(_, stat)| stat),
        })
    }
}

impl Drop for CalmClient {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            // The session ends by itself when this fails.
            let _ = client.close();
        }
    }
}

/// The sessions that were left must end.
fn wait_until_expired(left: &[SessionId], control: &Control, layout: &Layout) -> Result<(), String> {
    let deadline = Instant::now() + EXPIRED_WITHIN;
    let mut calm = CalmClient::new(control.servers[0]);
    loop {
        let (names, _) = calm.call(|client| {
            client.sync("/")?;
            client.children(&layout.holds(), false)
        })?;
        let is_left = |name: &&String| hold_owner(name).is_some_and(|owner| left.contains(&owner));
        let Some(name) = names.iter().find(is_left) else {
            return Ok(());
        };
        if Instant::now() > deadline {
            return Err(format!(
                "{name} is there, but its session was left more than {EXPIRED_WITHIN:?} ago"
            ));
        }
        sleep(Duration::from_millis(50));
    }
}

/// The trees of all servers.
fn read_trees(control: &Control, layout: &Layout) -> Result<Vec<Tree>, String> {
    let read = |address: &SocketAddr| {
        CalmClient::new(*address).call(|client| {
            client.sync("/")?;
            read_tree(client, &layout.root)
        })
    };
    control.servers.iter().map(read).collect()
}

/// All znodes from `root` on. Nobody writes meanwhile, but sessions may end.
fn read_tree(client: &mut Client, root: &str) -> Result<Tree, ClientError> {
    let mut tree = Tree::new();
    let mut unlisted = vec![root.to_owned()];
    let mut unread = unlisted.clone();
    while let Some(parent) = unlisted.pop() {
        let (names, _) = client.children(&parent, false)?;
        for name in names {
            let path = format!("{parent}/{name}");
            // Only the parents have children.
            if parent == root {
                unlisted.push(path.clone());
            }
            unread.push(path);
        }
    }
    for paths in unread.chunks(READS_IN_FLIGHT) {
        for path in paths {
            client.send(&Request::Read(ReadRequest::GetData {
                path: path.as_str().into(),
                watch: false,
            }));
        }
        for path in paths {
            let reply = client.receive()?.success()?;
            let (data, stat) = decode_data_and_stat(&mut Decoder::new(&reply.body))?;
            tree.insert(path.clone(), (data.unwrap_or_default().to_vec(), stat));
        }
    }
    Ok(tree)
}
