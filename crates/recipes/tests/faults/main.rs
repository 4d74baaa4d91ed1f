//! Locks and election under random faults, and a checker of mutual exclusion.
//!
//! `MINUTES=30 cargo test --release -p oxkeeper-recipes --test faults -- --nocapture` runs for longer, `SEED=n` begins
//! with that seed. Each round starts servers and contenders, each of which has a thread, a runtime and a proxy of its
//! own, and lets happen to them what the seed says: connections cut, stalled and broken at chosen frames, replies lost,
//! threads stopped for longer than their sessions, sessions ended by the server, servers killed, paused and restarted.
//!
//! What must hold:
//! - **Guarded writes exclude.** Each makes a znode of its own whose name tells the fencing token, so that the servers
//!   keep the whole history in their order, with what nobody heard the end of. In it tokens never go back, but among
//!   the readers of a lock, and as far as a semaphore has leases.
//! - **Who believes to hold is right**, in rounds in which the servers end no session before its time: no more hold at
//!   once than may, by the spans during which they saw themselves hold.
//! - **Progress**: after the faults each contender gets its turn again. Several locks are taken in a ring, where each
//!   has one lock in common with each other; a revocable lock is kept until its holder is asked to let go.
//! - **Nothing is left** when all have gone.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod checks;
mod contender;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use checks::{Believed, Written, check_believed, check_written};
use contender::{Contender, ELECTION_CONTENDERS, ELECTIONS, LOCK_CONTENDERS, LOCKS, REGISTERS, Recipe};
use oxkeeper_recipes::{LossPolicy, Session, sequence};
use oxkeeper_testkit::{Ensemble, Fault, FrameKind, Proxy, Server, SessionId};
use support::{PERSISTENT, SOON, children, eventually};
use tokio::runtime::{Builder, Runtime};
use zookeeper_client::Client;

/// A run is of so many rounds at least.
const ROUNDS: u64 = 3;
const NAP: Duration = Duration::from_millis(5);

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

    /// A session beside the storm.
    async fn observer(&self) -> Session {
        let all = self.all();
        let addresses: Vec<String> = all.iter().map(|server| server.connect_string()).collect();
        let connector = Client::connector().with_session_timeout(Duration::from_secs(20));
        Session::new(connector.connect(&addresses.join(",")).await.unwrap())
    }
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
    let end = Instant::now() + Duration::from_millis(random.u64(2000..5000));
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

/// Servers, and contenders at work.
struct Round {
    servers: Servers,
    contenders: Vec<Arc<Contender>>,
    threads: Vec<JoinHandle<()>>,
    runtime: Runtime,
}

impl Round {
    /// `rogue` is the number of one that does not play by the rules.
    fn start(
        servers: Servers,
        recipes: &[Recipe],
        rogue: Option<usize>,
        random: &mut fastrand::Rng,
    ) -> Round {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let observer = servers.observer().await;
            for register in REGISTERS {
                let created = observer.client().create(register, b"", &PERSISTENT);
                created.await.unwrap();
            }
        });
        let mut contenders = Vec::new();
        let mut threads = Vec::new();
        for (number, recipe) in recipes.iter().enumerate() {
            let mut upstream: Vec<SocketAddr> = servers.all().iter().map(|server| server.address()).collect();
            let first = number % upstream.len();
            upstream.rotate_left(first);
            let policy = match random.bool() {
                true => LossPolicy::Suspended,
                false => LossPolicy::Lost,
            };
            let proxy = Proxy::start(upstream.as_slice()).unwrap();
            let is_rogue = rogue == Some(number);
            let contender = Arc::new(Contender::new(number, *recipe, is_rogue, policy, proxy));
            contenders.push(Arc::clone(&contender));
            let run = move || {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(contender.run());
            };
            let name = format!("contender-{number}");
            threads.push(thread::Builder::new().name(name).spawn(run).unwrap());
        }
        Round {
            servers,
            contenders,
            threads,
            runtime,
        }
    }

    /// That each contender has two turns from now on. The time is counted in naps: while this whole process stands
    /// still, nobody can have a turn.
    fn check_progress(&self, within: Duration) -> Result<(), String> {
        let turns = |contender: &Arc<Contender>| contender.turns.load(Ordering::Relaxed);
        let before: Vec<usize> = self.contenders.iter().map(turns).collect();
        for (number, before) in before.iter().enumerate() {
            let mut naps = within.as_millis() / NAP.as_millis();
            while turns(&self.contenders[number]) < before + 2 {
                assert!(!self.threads[number].is_finished(), "contender {number} ended");
                if naps == 0 {
                    return Err(format!("contender {number} has no turn in the calm"));
                }
                naps -= 1;
                thread::sleep(NAP);
            }
        }
        Ok(())
    }

    /// Those who play this.
    fn players(&self, recipe: Recipe) -> impl Iterator<Item = &Arc<Contender>> {
        self.contenders.iter().filter(move |one| one.recipe == recipe)
    }

    /// The guarded writes to a register, in the order in which the servers did them.
    fn written(&self, register: usize) -> Vec<Written> {
        let list = async { children(&self.servers.observer().await, REGISTERS[register]).await };
        let names = self.runtime.block_on(list);
        let read = |name: String| {
            let parts: Vec<&str> = name.split('-').collect();
            let [token, contender, kind, _] = parts.as_slice() else {
                panic!("{name}");
            };
            Written {
                token: token.parse().unwrap(),
                contender: contender.parse().unwrap(),
                is_shared: *kind == "shared",
            }
        };
        sequence::sorted(names, "-").into_iter().map(read).collect()
    }

    /// That guarded writes excluded, and none that was acknowledged is missing; and how many there are.
    fn check_written(&self, recipe: Recipe) -> Result<usize, String> {
        let mut all = 0;
        let mut registers: Vec<usize> = self.players(recipe).flat_map(|one| one.registers()).collect();
        registers.sort_unstable();
        registers.dedup();
        for register in registers {
            let written = self.written(register);
            check_written(&written, recipe.leases()).map_err(|error| format!("{recipe:?}: {error}"))?;
            all += written.len();
        }
        let acknowledged =
            |one: &Arc<Contender>| one.acknowledged.load(Ordering::Relaxed) * one.registers().len();
        let acknowledged: usize = self.players(recipe).map(acknowledged).sum();
        match all >= acknowledged {
            true => Ok(all),
            false => Err(format!("{recipe:?}: {acknowledged} acknowledged, {all} done")),
        }
    }

    fn check_believed(&self, recipe: Recipe) -> Result<(), String> {
        let believed = |one: &Arc<Contender>| one.believed.lock().unwrap().clone();
        let believed: Vec<Believed> = self.players(recipe).flat_map(believed).collect();
        check_believed(&believed, recipe.leases()).map_err(|error| format!("{recipe:?}: {error}"))
    }

    fn end(&mut self) {
        for contender in &self.contenders {
            contender.is_over.store(true, Ordering::Relaxed);
        }
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }

    fn check_nothing_is_left(&self) {
        let is_directory = |name: &String| ["locks", "leases", "0", "1", "2"].contains(&name.as_str());
        let dirs = [
            "/lock",
            "/lock/locks",
            "/lock/leases",
            "/lock/0",
            "/lock/1",
            "/lock/2",
            "/election",
        ];
        self.runtime.block_on(async {
            let observer = self.servers.observer().await;
            for dir in dirs {
                let is_empty = async || children(&observer, dir).await.iter().all(is_directory);
                eventually("nothing is left", is_empty).await;
            }
        });
    }
}

fn play(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (is_forced, is_alone) = (random.bool(), random.bool());
    // Seeds that follow one another play everything.
    let turn = usize::try_from(seed % 14).unwrap();
    let (lock, election) = (LOCKS[turn % 7], ELECTIONS[turn % 2]);
    let servers = match is_alone {
        true => Servers::One(Box::new(Server::start().unwrap())),
        false => Servers::Three(Ensemble::start(3).unwrap()),
    };
    let mut recipes = vec![lock; LOCK_CONTENDERS];
    recipes.extend([election; ELECTION_CONTENDERS]);
    let mut round = Round::start(servers, &recipes, None, &mut random);
    storm(&round.servers, &round.contenders, is_forced, &mut random);
    round.check_progress(2 * SOON).unwrap();
    round.end();
    round.check_nothing_is_left();
    for recipe in [lock, election] {
        let written = round.check_written(recipe).unwrap();
        // A follower that lost its leader answers yet, and a session that is ended before its time cannot be known.
        if is_alone && !is_forced {
            round.check_believed(recipe).unwrap();
        }
        println!("seed {seed}: {recipe:?}: {written} guarded writes");
        assert!(written > 0, "{recipe:?}: hardly anything happened");
    }
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
        println!("a round; again with SEED={seed}");
        play(seed);
        if seed + 1 >= first + ROUNDS && Instant::now() >= end {
            break;
        }
    }
}

/// One of the contenders locks elsewhere, takes a lease too many or does not hear that it is asked to let go.
#[test]
fn one_that_does_not_play_by_the_rules_is_found() {
    for recipe in LOCKS.into_iter().chain(ELECTIONS) {
        let mut random = fastrand::Rng::new();
        let servers = Servers::One(Box::new(Server::start().unwrap()));
        let mut round = Round::start(servers, &[recipe; LOCK_CONTENDERS], Some(0), &mut random);
        if recipe == Recipe::Revocable {
            assert!(round.check_progress(Duration::from_secs(1)).is_err());
        } else {
            let deadline = Instant::now() + SOON;
            while round.check_written(recipe).is_ok() || round.check_believed(recipe).is_ok() {
                assert!(Instant::now() < deadline, "{recipe:?}: nobody finds the rogue");
                thread::sleep(NAP);
            }
        }
        round.end();
    }
}
