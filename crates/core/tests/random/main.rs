//! Random lives of a server: several clients, every kind of request, connections that come and go, slow disks,
//! snapshots, crashes. Everything that leaves the server is compared with what it must be, to the byte, and after
//! each crash everything that was acknowledged must be there.
//!
//! All chance comes from one number. `SEED=n` repeats the run of that number and tells its steps; `SEEDS=n` makes n
//! runs, from number `FROM` on.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]
#![allow(clippy::print_stdout, reason = "a run that is repeated tells its steps")]

#[path = "../driver/mod.rs"]
mod driver;

mod history;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;

use oxkeeper_core::{CloseReason, ContainerSettings, CoreSettings, LimitSettings};
use oxkeeper_storage::{Compression, LogSettings, SimDisk, StorageError, StorageSettings};
use oxkeeper_types::{SessionId, Zxid};
use oxkeeper_wire::{ConnectRequest, Request, encode_request, frame};

use driver::client::{Frame, auth, create, set_watches, sync};
use driver::{End, LinkState, Sim, settings};
use history::History;
use oxkeeper_model::{Ask, Observer, Watches, requests};

const RUNS: u64 = 1000;

#[test]
fn random_lives_keep_every_promise() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("SEED") {
        let totals = live(seed, true);
        println!("{totals:?}");
        return;
    }
    let from = number("FROM").unwrap_or(0);
    let seeds = from..from + number("SEEDS").unwrap_or(RUNS);
    let count = seeds.end - seeds.start;
    let mut all = Totals::default();
    let mut failed = Vec::new();
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| live(seed, false))) {
            Ok(totals) => all.add(&totals),
            Err(_) => failed.push(seed),
        }
        // One is enough to work on; a number of runs that was asked for is done to its end.
        if !failed.is_empty() && number("SEEDS").is_none() {
            break;
        }
    }
    println!("{all:?}");
    assert!(
        failed.is_empty(),
        "{} of {count} runs failed; repeat the first with SEED={}",
        failed.len(),
        failed[0]
    );
    if count >= RUNS {
        all.assert_everything_happened();
    }
}

/// What happened in a run, so that a test that tests nothing is noticed.
#[derive(Debug, Default)]
struct Totals {
    txns: usize,
    replies: usize,
    events: usize,
    crashes: usize,
    lost_txns: usize,
    snapshots: usize,
    expired: usize,
    kicked: usize,
    power_cuts: usize,
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        self.txns += other.txns;
        self.replies += other.replies;
        self.events += other.events;
        self.crashes += other.crashes;
        self.lost_txns += other.lost_txns;
        self.snapshots += other.snapshots;
        self.expired += other.expired;
        self.kicked += other.kicked;
        self.power_cuts += other.power_cuts;
    }

    fn assert_everything_happened(&self) {
        let Totals {
            txns,
            replies,
            events,
            crashes,
            lost_txns,
            snapshots,
            expired,
            kicked,
            power_cuts,
        } = self;
        for count in [
            txns, replies, events, crashes, lost_txns, snapshots, expired, kicked, power_cuts,
        ] {
            assert!(*count > 50, "{self:?}");
        }
    }
}

/// Somebody with at most one session at a time.
struct Person {
    link: Option<usize>,
    session: SessionId,
    password: Vec<u8>,
    seen: Zxid,
    /// Those of the last connection.
    watches: Watches,
    only_reads: bool,
}

/// What is on its way to the server.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// Of the frames that the server has not taken: where each ends in all that was ever sent, and whether it keeps
    /// the session alive.
    frames: VecDeque<(usize, bool)>,
    sent: usize,
}

impl Pipe {
    fn push(&mut self, bytes: &[u8], touches: bool) {
        self.bytes.extend(bytes);
        self.sent += bytes.len();
        self.frames.push_back((self.sent, touches));
    }
}

struct Run {
    sim: Sim,
    rng: fastrand::Rng,
    history: History,
    persons: Vec<Person>,
    /// By link, as the next ones.
    observers: Vec<Observer>,
    pipes: Vec<Pipe>,
    /// The session a link asked to go on with, and whether with the right password.
    renewals: Vec<Option<(SessionId, bool)>>,
    next_xid: i32,
    power_is_cut: bool,
    tells: bool,
    totals: Totals,
}

fn live(seed: u64, tells: bool) -> Totals {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut settings = CoreSettings {
        containers: ContainerSettings {
            check_interval_ms: 700,
            removals_per_minute_max: 600,
        },
        limits: LimitSettings {
            requests_outstanding_max: *rng.choice(&[1, 3, 1000, 1000]).unwrap(),
            requests_per_connection_max: *rng.choice(&[2, 10_000, 10_000]).unwrap(),
            output_bytes_high_water: *rng.choice(&[200, 256 * 1024]).unwrap(),
            throttle_requests_max: *rng.choice(&[0, 0, 0, 2]).unwrap(),
            ..LimitSettings::default()
        },
        ..settings()
    };
    settings.tree.hash_seed = rng.u64(..);
    let storage_settings = StorageSettings {
        compression: *rng
            .choice(&[
                Compression::None,
                Compression::None,
                Compression::None,
                Compression::Snappy,
            ])
            .unwrap(),
        log: LogSettings {
            preallocation_bytes: *rng.choice(&[0, 512, 4096]).unwrap(),
            force_sync: true,
            file_bytes_limit: *rng.choice(&[None, None, Some(2000)]).unwrap(),
        },
        ..StorageSettings::default()
    };
    let mut run = Run {
        sim: Sim::on(SimDisk::new(rng.u64(..)), settings, storage_settings),
        history: History::default(),
        persons: Vec::new(),
        observers: Vec::new(),
        pipes: Vec::new(),
        renewals: Vec::new(),
        next_xid: 1,
        power_is_cut: false,
        tells,
        totals: Totals::default(),
        rng,
    };
    for _ in 0..run.rng.usize(2..=4) {
        run.persons.push(Person {
            link: None,
            session: SessionId::NONE,
            password: Vec::new(),
            seen: Zxid::ZERO,
            watches: Watches::new(),
            only_reads: run.rng.u32(0..4) == 0,
        });
    }
    // So that not everything fails for want of a parent.
    run.connect();
    for path in ["/a", "/b", "/a/x"] {
        let create = create(path);
        run.ask(0, Ask::Request(create));
    }
    run.turn();
    for _ in 0..run.rng.usize(50..500) {
        run.step();
    }
    run.finish()
}

impl Run {
    fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("{}", what());
        }
    }

    fn step(&mut self) {
        match self.rng.u32(0..1350) {
            0..350 => self.ask_something(),
            350..750 => self.work(),
            750..930 => {
                for _ in 0..self.rng.usize(1..=4) {
                    self.sim.handle_one();
                }
                self.note_begun();
                if self.rng.bool() {
                    self.carry_out();
                }
            }
            930..1020 => {
                self.carry_out();
                let count = self.rng.usize(0..=self.sim.waiting_for_log());
                self.tell(|| format!("write {count}"));
                let written = self.sim.write_log(count);
                self.survive(written);
            }
            1020..1120 => {
                let synced = self.sim.sync_log();
                self.tell(|| format!("sync, {}", self.sim.durable));
                self.survive(synced);
            }
            1120..1140 => self.let_time_pass(),
            1140..1155 => self.connect(),
            1155..1160 => {
                if let Some(at) = self.some_link() {
                    self.tell(|| format!("{at} hangs up"));
                    self.sim.hang_up(at);
                    self.look_after(at);
                }
            }
            1160..1230 => {
                let done = if !self.sim.is_taking_snapshot() {
                    match self.rng.u32(0..3) {
                        0 => self.sim.begin_snapshot(),
                        _ => Ok(()),
                    }
                } else {
                    let znodes = self.rng.usize(1..5);
                    self.sim.step_snapshot(znodes)
                };
                self.survive(done);
            }
            1230..1232 => _ = self.sim.storage.purge(3),
            1232..1235 => self.crash(),
            1235..1237 if !self.power_is_cut => {
                self.tell(|| "the power will go".to_owned());
                self.sim.disk.cut_power_after(self.rng.u64(0..12));
                self.power_is_cut = true;
            }
            1237..1255 => self.settle_and_check(),
            1255..1330 => self.turn(),
            _ => {
                let replica = self.sim.shared.replica.read();
                self.history
                    .state(replica.last_processed)
                    .assert_is(&replica.tree);
            }
        }
    }

    // ---- clients ---------------------------------------------------------------------------------------------

    fn some_link(&mut self) -> Option<usize> {
        let links: Vec<usize> = self.persons.iter().filter_map(|person| person.link).collect();
        self.rng.choice(links)
    }

    fn ask_something(&mut self) {
        let Some(at) = self.some_link() else {
            return self.connect();
        };
        for _ in 0..self.rng.usize(1..=4) {
            let only_reads = self
                .persons
                .iter()
                .any(|person| person.link == Some(at) && person.only_reads);
            let ask = requests::random(&mut self.rng, self.sim.durable, only_reads);
            self.ask(at, ask);
        }
    }

    fn ask(&mut self, at: usize, ask: Ask) {
        let observer = &mut self.observers[at];
        let xid = self.next_xid;
        self.next_xid += 1;
        let mut bytes = Vec::new();
        match &ask {
            Ask::Request(request) => encode_request(&mut bytes, xid, request),
            Ask::Garbage(op) => frame(&mut bytes, |encoder| {
                encoder.int(xid);
                encoder.int(op.code());
                encoder.byte(0);
            }),
        }
        if self.tells {
            println!("{at} asks {xid}: {ask:?}");
        }
        let is_late = observer.asked_close;
        observer.asked_close |= matches!(ask, Ask::Request(Request::CloseSession));
        if !is_late {
            observer.unanswered.push_back(xid);
        }
        self.history.send(xid, ask, observer.is_friend, at, is_late);
        self.pipes[at].push(&bytes, true);
    }

    fn connect(&mut self) {
        let who = self.rng.usize(0..self.persons.len());
        let person = &mut self.persons[who];
        if let Some(old) = person.link.take() {
            person.seen = person.seen.max(self.observers[old].seen);
            person.watches = self.observers[old].watches.clone();
            if self.rng.bool() {
                self.sim.hang_up(old);
            }
        }
        let is_friend = self.rng.bool();
        let knows_password = self.rng.u32(0..20) > 0;
        let mut password = person.password.clone();
        if !knows_password && let Some(first) = password.first_mut() {
            *first ^= 1;
        }
        let at = self.sim.dial();
        let mut pipe = Pipe::default();
        let mut bytes = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: person.seen,
            timeout_ms: self.rng.i32(1000..6000),
            session: person.session,
            password,
            read_only: Some(false),
        }
        .encode(&mut bytes);
        pipe.push(&bytes, false);
        if is_friend {
            bytes.clear();
            encode_request(&mut bytes, -4, &auth());
            pipe.push(&bytes, false);
        }
        person.link = Some(at);
        let renewal = (person.session != SessionId::NONE).then_some((person.session, knows_password));
        let watches = std::mem::take(&mut person.watches);
        let seen = person.seen;
        self.tell(|| format!("{at} connects for {who}, renewing {renewal:?}, friend {is_friend}"));
        self.observers.push(Observer::new(is_friend, seen));
        self.pipes.push(pipe);
        self.renewals.push(renewal);
        if !watches.is_empty() && self.rng.u32(0..3) > 0 {
            let paths = Observer::as_set_watches(&watches, seen);
            self.ask(at, Ask::Request(set_watches(paths)));
        }
    }

    // ---- the server ------------------------------------------------------------------------------------------

    /// Bytes arrive at some connection, and its task looks.
    fn work(&mut self) {
        if self.pipes.is_empty() {
            return;
        }
        // Mostly those that are up, sometimes those that are not told yet that they are not.
        let at = match self.some_link() {
            Some(at) if self.rng.u32(0..6) > 0 => at,
            _ => self.rng.usize(0..self.pipes.len()),
        };
        let all = self.pipes[at].bytes.len();
        let count = match self.rng.u32(0..4) {
            0 => self.rng.usize(0..=all),
            _ => all,
        };
        self.arrive(at, count);
        // Out of turn it may look as well: whoever is woken may find nothing.
        self.sim.look(at);
        self.look_after(at);
    }

    fn arrive(&mut self, at: usize, count: usize) {
        let bytes: Vec<u8> = self.pipes[at].bytes.drain(..count).collect();
        if !bytes.is_empty() {
            self.sim.send(at, &bytes);
        }
    }

    /// Notes what the server took and gave.
    fn look_after(&mut self, at: usize) {
        let taken = self.sim.links[at].taken;
        while let Some(&(end, touches)) = self.pipes[at].frames.front()
            && end <= taken
        {
            self.pipes[at].frames.pop_front();
            if touches && let Some((session, _)) = self.sim.links[at].client.session() {
                self.history.hear(session.id, self.sim.now.monotonic_ms);
            }
        }
        for frame in self.sim.take(at) {
            if self.tells {
                println!("{at} sees {frame:?}");
            }
            if let Frame::Connected(response) = &frame
                && response.session != SessionId::NONE
                && let Some(person) = self.persons.iter_mut().find(|person| person.link == Some(at))
            {
                person.session = response.session;
                person.password = response.password.to_vec();
            }
            if let Frame::Connected(response) = &frame
                && response.session != SessionId::NONE
                && let Some((session, knows_password)) = self.renewals[at]
            {
                assert!(knows_password, "{session} was renewed with a wrong password");
                assert_eq!(response.session, session);
            }
            self.totals.replies += 1;
            self.observers[at].take(frame, &self.history);
        }
        if let LinkState::Closed(reason) = self.sim.state(at).clone()
            && !std::mem::replace(&mut self.observers[at].is_closed, true)
        {
            self.check_reason(at, &reason);
        }
        if !self.sim.links[at].is_up()
            && let Some(person) = self.persons.iter_mut().find(|person| person.link == Some(at))
        {
            let observer = &self.observers[at];
            person.link = None;
            person.seen = person.seen.max(observer.seen);
            person.watches = observer.watches.clone();
            if !self.history.newest().sessions.contains_key(&person.session) {
                person.session = SessionId::NONE;
            }
            self.tell(|| format!("{at} is down: {:?}", self.sim.state(at)));
        }
    }

    /// That the server had a right to close a connection for this reason.
    fn check_reason(&mut self, at: usize, reason: &CloseReason) {
        // What was decided and not carried out yet counts.
        self.carry_out();
        let observer = &self.observers[at];
        let newest = self.history.newest();
        let is_alive = newest.sessions.contains_key(&observer.session);
        match reason {
            CloseReason::SessionClosed => {
                assert!(observer.asked_close && observer.unanswered.is_empty() && !is_alive);
            }
            CloseReason::SessionExpired => assert!(!is_alive, "{} is alive", observer.session),
            CloseReason::SessionRenewedElsewhere => {
                // By a later connection, or by an older one whose request took long.
                let mut others = self.renewals.iter().enumerate().filter(|(other, _)| *other != at);
                let is_theirs = |renewal: &Option<(SessionId, bool)>| {
                    renewal.is_some_and(|(session, _)| session == observer.session)
                };
                assert!(others.any(|(_, renewal)| is_theirs(renewal)));
                self.totals.kicked += 1;
            }
            CloseReason::SessionRefused => {
                let (session, knows_password) = self.renewals[at].unwrap();
                assert!(
                    !knows_password || !newest.sessions.contains_key(&session),
                    "{session} was refused"
                );
            }
            other => panic!("{at} was closed: {other}"),
        }
    }

    fn note_begun(&mut self) {
        for begun in self.sim.begun.drain(..) {
            self.history.begin(begun, self.sim.now.monotonic_ms);
        }
    }

    fn carry_out(&mut self) {
        self.note_begun();
        self.sim.carry_out();
        self.absorb();
    }

    fn absorb(&mut self) {
        while self.history.len() < self.sim.history.len() {
            let logged = &self.sim.history[self.history.len()];
            let ago = self.sim.now.wall_ms - logged.header.time;
            self.tell(|| format!("txn {:?}", logged));
            let proposed_ms = self.sim.now.monotonic_ms - u64::try_from(ago).unwrap();
            self.history.absorb(logged, proposed_ms);
        }
    }

    fn let_time_pass(&mut self) {
        let ms = match self.rng.u32(0..6) {
            0 => self.rng.u64(0..2000),
            _ => self.rng.u64(0..150),
        };
        self.carry_out();
        if self.rng.bool() {
            self.tell(|| format!("{ms} ms pass"));
            self.sim.advance(ms);
            self.absorb();
            let now_ms = self.sim.now.monotonic_ms;
            for (session, heard) in &self.history.heard {
                let latest = heard.at_ms + heard.timeout_ms + self.sim.settings.tick_ms;
                assert!(now_ms <= latest, "{session} should have expired at {latest}");
            }
        } else {
            // Nobody tells the core in time.
            self.tell(|| format!("{ms} ms pass unnoticed"));
            self.sim.jump(ms);
            if self.rng.bool() {
                self.sim.reach_deadline();
            }
            self.absorb();
        }
    }

    /// Everything works but the disk; then nothing may wait but for the disk.
    fn settle_and_check(&mut self) {
        self.carry_out();
        self.tell(|| "settle".to_owned());
        self.sim.settle();
        self.note_begun();
        self.absorb();
        for at in 0..self.pipes.len() {
            self.look_after(at);
        }
        let undurable = Zxid(i64::try_from(self.history.len()).unwrap()) > self.sim.durable;
        for at in 0..self.pipes.len() {
            let observer = &self.observers[at];
            let is_asked = self.pipes[at].bytes.is_empty() && self.sim.links[at].is_up();
            if !is_asked || !self.history.newest().sessions.contains_key(&observer.session) {
                // A session that is being ended gets no answers, one that is being made waits for the disk.
                assert!(
                    !is_asked || undurable || self.pipes[at].sent == 0,
                    "{at} waits for a session"
                );
                continue;
            }
            let Some(&xid) = observer.unanswered.front() else {
                continue;
            };
            let waits_for_disk = match &self.history.sent[&xid].ask {
                Ask::Request(Request::Write(_) | Request::CloseSession) => self
                    .history
                    .zxid_of(xid)
                    .is_some_and(|zxid| zxid > self.sim.durable),
                Ask::Request(Request::Sync { .. }) => undurable,
                _ => false,
            };
            assert!(
                waits_for_disk,
                "S4: {at} waits for {xid}, {:?}",
                self.history.sent[&xid].ask
            );
        }
    }

    /// All that is on its way arrives, and all but the disk works until it waits for the disk, which then has its
    /// turn.
    fn turn(&mut self) {
        for at in 0..self.pipes.len() {
            self.arrive(at, self.pipes[at].bytes.len());
        }
        self.settle_and_check();
        let written = self.sim.write_log(self.sim.waiting_for_log());
        let synced = written.and_then(|()| self.sim.sync_log());
        self.survive(synced);
    }

    // ---- crashes ---------------------------------------------------------------------------------------------

    /// An error of the disk ends the server (D2). Only a power cut can make one.
    fn survive(&mut self, result: Result<(), StorageError>) {
        if let Err(error) = result {
            assert!(self.power_is_cut, "{error}");
            self.totals.power_cuts += 1;
            self.crash_by(End::Power);
        }
    }

    fn crash(&mut self) {
        let end = match self.power_is_cut || self.rng.bool() {
            true => End::Power,
            false => End::Kill,
        };
        self.crash_by(end);
    }

    fn crash_by(&mut self, end: End) {
        self.tell(|| format!("crash by {end:?}"));
        self.totals.crashes += 1;
        // What was carried out by nobody never happened; what was sent was sent.
        for at in 0..self.pipes.len() {
            self.look_after(at);
        }
        let acknowledged = self.sim.durable;
        let before = self.sim.history.clone();
        self.sim.crash(end);
        self.power_is_cut = false;
        while let Err(error) = {
            if self.rng.u32(0..5) == 0 {
                self.sim.disk.cut_power_after(self.rng.u64(0..12));
                self.power_is_cut = true;
            }
            self.sim.recover()
        } {
            assert!(self.power_is_cut, "{error}");
            self.totals.power_cuts += 1;
            self.power_is_cut = false;
            self.sim.crash(End::Power);
        }
        let kept = self.sim.history.len();
        self.totals.lost_txns += before.len() - kept;
        self.tell(|| format!("recovered to {kept}, acknowledged was {acknowledged}"));
        self.sim.begun.clear();
        self.history.cut(kept, self.sim.now.monotonic_ms);
        assert_eq!(
            self.sim
                .notes
                .iter()
                .filter(|note| !note.contains("the log ends at"))
                .count(),
            0,
            "{:?}",
            self.sim.notes
        );
        {
            let replica = self.sim.shared.replica.read();
            let state = self.history.newest();
            state.assert_is(&replica.tree);
            assert_eq!(replica.sessions, state.sessions);
            // The digest logged with the newest txn that has one, as no txn without changes anything.
            let logged = self.sim.history.iter().rev().find_map(|logged| logged.digest);
            if let Some(logged) = logged {
                assert_eq!(replica.tree.digest(), logged);
            }
        }
        for at in 0..self.pipes.len() {
            self.look_after(at);
        }
    }

    // ---- the end ---------------------------------------------------------------------------------------------

    fn run_all(&mut self) {
        for at in 0..self.pipes.len() {
            self.arrive(at, self.pipes[at].bytes.len());
        }
        loop {
            self.sim.settle();
            self.note_begun();
            self.absorb();
            for at in 0..self.pipes.len() {
                self.look_after(at);
            }
            if !self.sim.awaits_disk() {
                return;
            }
            self.sim.commit();
        }
    }

    fn finish(mut self) -> Totals {
        if self.power_is_cut {
            self.crash_by(End::Power);
            if self.power_is_cut {
                // The next one was to go while recovering, and did not.
                self.sim.disk.cut_power_after(u64::MAX);
                self.power_is_cut = false;
            }
        }
        self.carry_out();
        self.run_all();
        // Whoever is still there sees everything.
        for at in 0..self.pipes.len() {
            if self.sim.links[at].is_up() {
                self.ask(at, Ask::Request(sync("/")));
            }
        }
        self.run_all();
        let mut watches = 0;
        for (at, observer) in self.observers.iter().enumerate() {
            self.totals.events += observer.events_seen;
            if self.sim.links[at].is_up() {
                assert!(
                    observer.unanswered.is_empty(),
                    "{at}, {:?}, waits for {:?}; {} of {} are durable",
                    self.sim.state(at),
                    observer.unanswered,
                    self.sim.durable,
                    self.history.len()
                );
                watches += observer.watch_count();
            }
        }
        {
            let replica = self.sim.shared.replica.read();
            assert_eq!(replica.watch_count(), watches, "watches of nobody");
            self.history.newest().assert_is(&replica.tree);
            assert_eq!(replica.sessions, self.history.newest().sessions);
        }
        assert_eq!(self.sim.shared.outstanding.load(Relaxed), 0);
        // Then nobody is heard any more, and at a moment that is known all sessions have ended.
        let heard = self.history.heard.values();
        let ends_ms = heard.map(|heard| heard.at_ms + heard.timeout_ms + self.sim.settings.tick_ms);
        let end_ms = ends_ms.max().unwrap_or(0).max(self.sim.now.monotonic_ms);
        self.sim.advance(end_ms - self.sim.now.monotonic_ms);
        self.absorb();
        assert!(self.history.heard.is_empty(), "{:?}", self.history.heard);
        self.run_all();
        let replica = self.sim.shared.replica.read();
        assert_eq!((self.sim.core.sessions().count(), replica.sessions.len()), (0, 0));
        assert_eq!((replica.tree.ephemerals_count(), replica.watch_count()), (0, 0));
        assert!(self.sim.links.iter().all(|link| !link.is_up()));
        self.totals.txns = self.history.len();
        self.totals.expired = self.history.expired;
        self.totals.snapshots = self.sim.snapshots_finished;
        self.totals
    }
}
