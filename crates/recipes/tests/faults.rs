//! Locks and election under random faults, and a checker of mutual exclusion.
//!
//! `MINUTES=30 cargo test --release -p oxkeeper-recipes --test faults -- --nocapture` runs for longer, `SEED=n` begins
//! with that seed. Each round starts servers and contenders, each of which has a thread, a runtime and a proxy of its
//! own, and lets happen to them what the seed says: connections cut, stalled and broken at chosen frames, replies lost,
//! threads stopped for longer than their sessions, sessions ended by the server, servers killed, paused and restarted.
//!
//! What must hold:
//! - **Guarded writes exclude.** In the order in which the servers did them, the fencing tokens never go back.
//! - **Who believes to hold is right**, in rounds in which the servers end no session before its time: the spans
//!   during which holders saw themselves hold do not overlap.
//! - **Progress**: after the faults each contender gets its turn again.
//! - **Nothing is left** when all have gone.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use oxkeeper_recipes::{
    Error, Hold, InterProcessMutex, InterProcessReadWriteLock, InterProcessSemaphoreMutex, LeaderLatch,
    LossPolicy, Session, SessionKeeper, SimpleLock,
};
use oxkeeper_testkit::{Ensemble, Fault, FrameKind, Proxy, Server, SessionId};
use support::{PERSISTENT, SOON, children, eventually};
use zookeeper_client::{Client, Error as ClientError, MultiWriteResult};

const SESSION_TIMEOUT: Duration = Duration::from_millis(1000);
const ROUND: Duration = Duration::from_secs(5);
const LOCKS: usize = 3;
const LATCHES: usize = 2;

/// The servers of a round.
enum Servers {
    One(Box<Server>),
    Three(Ensemble),
}

impl Servers {
    fn all(&self) -> Vec<&Server> {
        match self {
            Servers::One(server) => vec![server],
            Servers::Three(ensemble) => ensemble.servers().iter().collect(),
        }
    }

    fn expire(&self, session: SessionId) {
        // One that is not there, or no leader that could end it: nothing happens.
        let _ = match self {
            Servers::One(server) => server.expire_session(session),
            Servers::Three(ensemble) => ensemble.expire_session(session),
        };
    }

    fn connect_string(&self) -> String {
        self.all()
            .iter()
            .map(|server| server.connect_string())
            .collect::<Vec<_>>()
            .join(",")
    }
}

/// A guarded write that the servers did.
#[derive(Clone, Copy, Debug)]
struct Written {
    zxid: i64,
    token: i64,
    contender: usize,
}

/// A span during which a contender saw itself hold.
#[derive(Clone, Copy, Debug)]
struct Believed {
    from: Instant,
    to: Instant,
    contender: usize,
}

#[derive(Default)]
struct Ledger {
    written: Mutex<Vec<Written>>,
    believed: Mutex<Vec<Believed>>,
}

/// The lock of a round.
#[derive(Clone, Copy, Debug)]
enum Lock {
    Mutex,
    SemaphoreMutex,
    ReadWrite,
    Simple,
}

/// What the storm can do to a contender.
struct Contender {
    lock: Lock,
    proxy: Proxy,
    session: AtomicI64,
    pause_ms: AtomicU64,
    turns: AtomicUsize,
}

/// Holds for a while: guarded writes, and looks whether it holds.
async fn use_hold(hold: &Hold, number: usize, register: &str, contender: &Contender, ledger: &Ledger) {
    let from = Instant::now();
    let mut to = from;
    for _ in 0..fastrand::usize(1..6) {
        let before = Instant::now();
        if !hold.is_held() {
            break;
        }
        to = before;
        let pause = contender.pause_ms.swap(0, Ordering::SeqCst);
        // The whole thread stands still, with the client and all tasks.
        thread::sleep(Duration::from_millis(pause));
        let data = hold.fencing_token().to_string();
        match hold
            .write(|transaction| transaction.add_set_data(register, data.as_bytes(), None))
            .await
        {
            Ok(results) => {
                let [MultiWriteResult::SetData { stat }] = results.as_slice() else {
                    panic!("{results:?}");
                };
                let written = Written {
                    zxid: stat.mzxid,
                    token: hold.fencing_token().0,
                    contender: number,
                };
                ledger.written.lock().unwrap().push(written);
            }
            Err(Error::Revoked(_)) => break,
            Err(Error::Client(ClientError::ConnectionLoss)) => {}
            Err(error) => panic!("{error}"),
        }
        if fastrand::u8(..) < 64 {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..30))).await;
        }
    }
    let believed = Believed {
        from,
        to,
        contender: number,
    };
    ledger.believed.lock().unwrap().push(believed);
}

async fn contend(
    number: usize,
    policy: LossPolicy,
    contender: &Contender,
    ledger: &Ledger,
    is_over: &AtomicBool,
) {
    let connector = Client::connector().with_session_timeout(SESSION_TIMEOUT);
    let cluster = contender.proxy.connect_string();
    let keeper = loop {
        let adapt = move |session: Session| session.with_policy(policy);
        // The storm may keep it from its first session for a while.
        if let Ok(keeper) = SessionKeeper::with(connector.clone(), &cluster, adapt).await {
            break keeper;
        }
    };
    while !is_over.load(Ordering::Relaxed) {
        let session = keeper.live_session().await;
        contender.session.store(session.id().0, Ordering::Relaxed);
        let patience = Duration::from_millis(fastrand::u64(1..500));
        let has_had_its_turn = match number < LOCKS {
            true => lock_turn(number, &session, patience, contender, ledger).await,
            false => latch_turn(number, &keeper, patience, contender, ledger).await,
        };
        if has_had_its_turn {
            contender.turns.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn lock_turn(
    number: usize,
    session: &Session,
    patience: Duration,
    contender: &Contender,
    ledger: &Ledger,
) -> bool {
    match try_lock_turn(number, session, patience, contender, ledger).await {
        Ok(has_had_its_turn) => has_had_its_turn,
        Err(Error::Revoked(_) | Error::Client(ClientError::ConnectionLoss)) => false,
        Err(error) if error.is_session_over() => false,
        Err(error) => panic!("{error}"),
    }
}

async fn try_lock_turn(
    number: usize,
    session: &Session,
    patience: Duration,
    contender: &Contender,
    ledger: &Ledger,
) -> Result<bool, Error> {
    let use_hold = async |hold: &Hold| use_hold(hold, number, "/register-lock", contender, ledger).await;
    match contender.lock {
        Lock::Mutex => {
            let mut mutex = InterProcessMutex::new(session, "/lock")?;
            let Some(guard) = mutex.acquire_within(patience).await? else {
                return Ok(false);
            };
            use_hold(&guard).await;
        }
        Lock::SemaphoreMutex => {
            let mutex = InterProcessSemaphoreMutex::new(session, "/lock")?;
            let Some(guard) = mutex.acquire_within(patience).await? else {
                return Ok(false);
            };
            use_hold(&guard).await;
        }
        Lock::Simple => {
            let Some(guard) = SimpleLock::new(session, "/lock")?
                .acquire_within(patience)
                .await?
            else {
                return Ok(false);
            };
            use_hold(&guard).await;
        }
        Lock::ReadWrite => {
            let mut lock = InterProcessReadWriteLock::new(session, "/lock")?;
            let Some(guard) = lock.write_within(patience).await? else {
                return Ok(false);
            };
            use_hold(&guard).await;
            // A reader keeps the writer's place, and its token: nobody can have written between.
            use_hold(&*lock.downgrade(guard).await?).await;
            drop(lock.read_within(patience).await?);
        }
    }
    Ok(true)
}

async fn latch_turn(
    number: usize,
    keeper: &SessionKeeper,
    patience: Duration,
    contender: &Contender,
    ledger: &Ledger,
) -> bool {
    let latch = LeaderLatch::start(keeper, "/latch", &number.to_string()).unwrap();
    let mut has_led = false;
    // The latch leads again after a loss; dropped, it leaves.
    for _ in 0..2 {
        if let Ok(led) = tokio::time::timeout(patience, latch.wait_for_leadership()).await {
            use_hold(&led.unwrap(), number, "/register-latch", contender, ledger).await;
            has_led = true;
        }
    }
    has_led
}

/// Things that go on until a moment.
struct Until<'a>(Vec<(Instant, Box<dyn Fn() + 'a>)>);

impl<'a> Until<'a> {
    fn add(&mut self, millis: u64, end: impl Fn() + 'a) {
        self.0
            .push((Instant::now() + Duration::from_millis(millis), Box::new(end)));
    }

    fn end_due(&mut self, now: Instant) {
        self.0.retain(|(until, end)| {
            let is_due = *until <= now;
            if is_due {
                end();
            }
            !is_due
        });
    }
}

fn storm(servers: &Servers, contenders: &[Arc<Contender>], is_forced: bool, random: &mut fastrand::Rng) {
    let end = Instant::now() + ROUND;
    let mut until = Until(Vec::new());
    let mut is_one_down = Instant::now();
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(random.u64(5..120)));
        until.end_due(Instant::now());
        let contender = &contenders[random.usize(..contenders.len())];
        let proxy = &contender.proxy;
        match random.u32(..100) {
            0..15 => {
                proxy.cut();
                until.add(random.u64(10..600), || proxy.heal());
            }
            15..30 => {
                proxy.stall();
                until.add(random.u64(10..1800), || proxy.heal());
            }
            30..45 => proxy.disconnect_clients(),
            45..65 => {
                let (mut skip, is_reply_lost) = (random.u32(..6), random.bool());
                let fault = match is_reply_lost {
                    true => Fault::LoseReply,
                    false => Fault::CutBefore,
                };
                proxy.fault_once(
                    move |frame| {
                        skip = skip.saturating_sub(1);
                        skip == 0 && frame.op.is_some() && frame.kind == FrameKind::Request
                    },
                    fault,
                );
            }
            65..80 => contender.pause_ms.store(random.u64(10..2200), Ordering::SeqCst),
            80..88 if is_forced => servers.expire(SessionId(contender.session.load(Ordering::Relaxed))),
            88..100 if is_one_down <= Instant::now() => {
                let all = servers.all();
                let server = all[random.usize(..all.len())];
                let millis = random.u64(20..700);
                // One at a time, and with time to recover.
                is_one_down = Instant::now() + Duration::from_millis(millis + 500);
                match random.bool() {
                    true => {
                        server.kill().unwrap();
                        until.add(millis, || server.restart().unwrap());
                    }
                    false => {
                        server.pause().unwrap();
                        until.add(millis, || server.resume());
                    }
                }
            }
            _ => {}
        }
    }
    until.end_due(end + Duration::from_secs(60));
    for contender in contenders {
        contender.proxy.clear_faults();
        contender.proxy.heal();
    }
}

/// The tokens of guarded writes never go back.
fn check_written(written: &mut [Written], what: &str) {
    written.sort_by_key(|one| one.zxid);
    for pair in written.windows(2) {
        assert!(
            pair[0].token <= pair[1].token,
            "{what}: two held at once: {:?}, then {:?}",
            pair[0],
            pair[1]
        );
    }
}

/// No two saw themselves hold at once.
fn check_believed(believed: &mut [Believed], what: &str) {
    believed.sort_by_key(|one| one.from);
    for (index, one) in believed.iter().enumerate() {
        let overlaps = |other: &&Believed| other.contender != one.contender && other.from < one.to;
        if let Some(other) = believed[index + 1..].iter().find(overlaps) {
            panic!("{what}: two believed to hold: {one:?} and {other:?}");
        }
    }
}

fn round(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let is_forced = random.bool();
    let lock = [Lock::Mutex, Lock::SemaphoreMutex, Lock::ReadWrite, Lock::Simple][random.usize(..4)];
    let servers = match random.bool() {
        true => Servers::One(Box::new(Server::start().unwrap())),
        false => Servers::Three(Ensemble::start(3).unwrap()),
    };
    let ledger = Arc::new(Ledger::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let observer = runtime.block_on(async {
        let connector = Client::connector().with_session_timeout(Duration::from_secs(20));
        let observer = Session::new(connector.connect(&servers.connect_string()).await.unwrap());
        for register in ["/register-lock", "/register-latch"] {
            observer
                .client()
                .create(register, b"", &PERSISTENT)
                .await
                .unwrap();
        }
        observer
    });
    let mut contenders = Vec::new();
    let mut threads = Vec::new();
    for number in 0..LOCKS + LATCHES {
        let mut upstream: Vec<SocketAddr> = servers.all().iter().map(|server| server.address()).collect();
        let first = number % upstream.len();
        upstream.rotate_left(first);
        let contender = Arc::new(Contender {
            lock,
            proxy: Proxy::start(upstream.as_slice()).unwrap(),
            session: AtomicI64::new(0),
            pause_ms: AtomicU64::new(0),
            turns: AtomicUsize::new(0),
        });
        contenders.push(Arc::clone(&contender));
        let policy = match random.bool() {
            true => LossPolicy::Suspended,
            false => LossPolicy::Lost,
        };
        let (ledger, is_over) = (Arc::clone(&ledger), Arc::clone(&is_over));
        let name = format!("contender-{number}");
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(contend(number, policy, &contender, &ledger, &is_over));
        };
        threads.push(thread::Builder::new().name(name).spawn(run).unwrap());
    }
    storm(&servers, &contenders, is_forced, &mut random);

    // Calm: everybody gets a turn again.
    let turns: Vec<usize> = contenders
        .iter()
        .map(|one| one.turns.load(Ordering::Relaxed))
        .collect();
    for (number, before) in turns.iter().enumerate() {
        let deadline = Instant::now() + 2 * SOON;
        while contenders[number].turns.load(Ordering::Relaxed) < before + 2 {
            assert!(!threads[number].is_finished(), "contender {number} ended");
            assert!(
                Instant::now() < deadline,
                "contender {number} has no turn in the calm"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
    is_over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    let written = ledger.written.lock().unwrap().clone();
    let believed = ledger.believed.lock().unwrap().clone();
    for (what, numbers) in [("lock", 0..LOCKS), ("latch", LOCKS..LOCKS + LATCHES)] {
        let mut written: Vec<Written> = written
            .iter()
            .copied()
            .filter(|one| numbers.contains(&one.contender))
            .collect();
        check_written(&mut written, what);
        // A follower that lost its leader answers yet, and a session that is ended before its time cannot be known.
        if matches!(servers, Servers::One(_)) && !is_forced {
            let mut believed: Vec<Believed> = believed
                .iter()
                .copied()
                .filter(|one| numbers.contains(&one.contender))
                .collect();
            check_believed(&mut believed, what);
        }
        println!("seed {seed}: {what} ({lock:?}): {} guarded writes", written.len());
        assert!(!written.is_empty(), "{what}: hardly anything happened");
    }
    runtime.block_on(async {
        let is_directory = |name: &String| ["locks", "leases"].contains(&name.as_str());
        for dir in ["/lock", "/lock/locks", "/lock/leases", "/latch"] {
            let is_empty = async || children(&observer, dir).await.iter().all(is_directory);
            eventually("nothing is left", is_empty).await;
        }
    });
}

#[test]
fn fencing_tokens_never_go_back_whatever_happens() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse::<u64>().unwrap())
    };
    let first = number("SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let end = Instant::now() + Duration::from_secs(60 * number("MINUTES").unwrap_or(0));
    for seed in first.. {
        println!("a round of {ROUND:?}; again with SEED={seed}");
        round(seed);
        if Instant::now() >= end {
            break;
        }
    }
}

#[test]
fn the_checker_finds_what_it_is_for() {
    let written = |zxid, token| Written {
        zxid,
        token,
        contender: 0,
    };
    check_written(&mut [written(3, 7), written(1, 5), written(2, 5)], "in order");
    let caught = |check: fn()| std::panic::catch_unwind(check).is_err();
    assert!(caught(|| {
        let written = |zxid, token| Written {
            zxid,
            token,
            contender: 0,
        };
        check_written(&mut [written(1, 5), written(2, 7), written(3, 5)], "a late write");
    }));
    assert!(caught(|| {
        let now = Instant::now();
        let believed = |from, to, contender| Believed {
            from: now + Duration::from_millis(from),
            to: now + Duration::from_millis(to),
            contender,
        };
        check_believed(&mut [believed(0, 10, 1), believed(9, 20, 2)], "an overlap");
    }));
}
