//! The life of one ensemble: random settings, a storm, and calm, in which it must come to itself.

use std::collections::{BTreeMap, BinaryHeap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use oxkeeper_types::{ServerId, Zxid};
use oxkeeper_zab::{PlantedBug, QuorumVerifier, Settings};

use super::checks::Checks;
use super::disk::SimDisk;
use super::net::Network;
use super::{Happening, Mood, Running, Server, Stats, World, find_configuration};

/// After the storm, all that can must serve again within this time.
const CALM_MS_MAX: u64 = 20_000;

/// How a run went.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) stats: Stats,
    /// Simulated time, ms.
    pub(crate) lasted_ms: u64,
    /// What was violated.
    pub(crate) violation: Option<String>,
    pub(crate) log: Vec<String>,
}

/// Plays one seed, with a guard taken away or none, and with its history told or not.
pub(crate) fn run_with(seed: u64, planted: Option<PlantedBug>, log: bool) -> Report {
    let mut world = World::new(seed, planted);
    if log {
        world.log = Some(Vec::new());
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| world.live()));
    let violation = match outcome {
        Ok(result) => result.err(),
        Err(panic) => Some(match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(other) => other
                .downcast::<&str>()
                .map_or("a panic".to_owned(), |text| (*text).to_owned()),
        }),
    };
    Report {
        stats: world.stats,
        lasted_ms: world.now_ms,
        violation,
        log: world.log.unwrap_or_default(),
    }
}

/// How long three servers with the usual settings, on a quick network, are without a leader that may propose after
/// theirs has crashed, ms.
pub(crate) fn failover_ms(seed: u64) -> u64 {
    let mut world = World::new(seed, None);
    let quorum = QuorumVerifier::majority([1, 2, 3].map(ServerId), []);
    world.servers.resize_with(3, || Server {
        id: ServerId(0),
        settings: Settings::new(ServerId(0), quorum.clone()),
        disk: SimDisk::default(),
        boot: 0,
        running: None,
        paused_until_ms: 0,
        disk_delay_max_ms: 5,
    });
    for (id, server) in (1..).map(ServerId).zip(&mut world.servers) {
        server.id = id;
        server.settings = Settings::new(id, quorum.clone());
    }
    world.first = quorum;
    world.reconfigures = None;
    world.stormy = false;
    world.net.lost = 0;
    world.net.delay_max_ms = 2;
    for at in 0..3 {
        world.boot(at);
    }
    let leads = |server: &Server| {
        server
            .running
            .as_ref()
            .is_some_and(|running| running.leads.is_some())
    };
    let wait = |world: &mut World| {
        while !world.servers.iter().any(leads) {
            let next_ms = world.now_ms + 1;
            while world.step(next_ms) {}
            assert!(next_ms < 60_000, "nobody leads: {}", world.picture());
        }
    };
    wait(&mut world);
    let settled_ms = world.now_ms + 100;
    while world.step(settled_ms) {}
    for _ in 0..20 {
        world.client_write();
    }
    let leader = world.servers.iter().position(leads).expect("waited for");
    let busy_ms = world.now_ms + world.rng.u64(0..20);
    while world.step(busy_ms) {}
    let crashed_ms = world.now_ms;
    world.crash(leader);
    wait(&mut world);
    world.now_ms - crashed_ms
}

fn pick<T: Copy>(rng: &mut fastrand::Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

fn random_quorum(rng: &mut fastrand::Rng, voters: i64, observers: i64) -> QuorumVerifier {
    let ids: Vec<ServerId> = (1..=voters).map(ServerId).collect();
    let observers = (voters + 1..=voters + observers).map(ServerId);
    if rng.u8(..) < 220 || voters < 3 {
        return QuorumVerifier::majority(ids, observers);
    }
    let weights: BTreeMap<ServerId, u32> = ids.iter().map(|id| (*id, rng.u32(0..=2))).collect();
    let groups = if voters >= 6 && rng.bool() {
        ids.chunks(2).map(|c| c.iter().copied().collect()).collect()
    } else {
        vec![ids.iter().copied().collect()]
    };
    QuorumVerifier::hierarchical(groups, weights, ids.clone(), observers.clone())
        .unwrap_or_else(|_| QuorumVerifier::majority(ids, observers))
}

impl World {
    fn new(seed: u64, planted: Option<PlantedBug>) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let voters = pick(&mut rng, &[1, 2, 3, 3, 3, 4, 5, 5, 6, 7]);
        let observers = pick(&mut rng, &[0, 0, 1, 2]);
        let quorum = random_quorum(&mut rng, voters, observers);
        let mut settings = Settings::new(ServerId(1), quorum);
        settings.tick_ms = pick(&mut rng, &[20, 100]);
        settings.election_settle_ms = pick(&mut rng, &[0, 10, 50]);
        settings.window_entries_max = pick(&mut rng, &[0, 1, 5, 20, 500]);
        // From a source of their own, so that the storms of known seeds stay what they were.
        let mut limits_rng = fastrand::Rng::with_seed(!seed);
        settings.window_bytes_max = pick(&mut limits_rng, &[0, 40, 64 << 20, 64 << 20]);
        if limits_rng.u8(..) < 40 {
            settings.backlog_entries_max = settings.window_entries_max + 30;
        }
        settings.epoch_wait_max_ms = pick(&mut limits_rng, &[None, Some(0), Some(100)]);
        settings.unnamed_links_max = pick(&mut limits_rng, &[2, 64]);
        settings.counter_max = pick(&mut rng, &[3, 20, u32::MAX - 1, u32::MAX - 1]);
        settings.planted = planted.into_iter().collect();
        if rng.bool() {
            // In half of the runs leaders synchronise as Java's do.
            settings.planted.push(PlantedBug::NewLeaderLast);
        }
        let first = settings.configuration.quorum.clone();
        let mut reconfigures = Some(fastrand::Rng::with_seed(seed.rotate_left(17)));
        if reconfigures.as_mut().is_some_and(fastrand::Rng::bool) {
            reconfigures = None;
        } else {
            settings.find_configuration = Some(find_configuration);
            // A voter of the next configuration that has not heard of it finds a leader who needs it slowly.
            settings.epoch_wait_max_ms = None;
        }
        // Servers that the first configuration does not know.
        let strangers = reconfigures
            .as_mut()
            .map_or(0, |rng| rng.i64(0..=(8 - voters - observers).clamp(0, 2)));
        let server = |id| Server {
            id: ServerId(id),
            settings: Settings {
                me: ServerId(id),
                ..settings.clone()
            },
            disk: SimDisk::default(),
            boot: 0,
            running: None,
            paused_until_ms: 0,
            disk_delay_max_ms: 5,
        };
        let net = Network {
            delay_max_ms: pick(&mut rng, &[2, 20, 80]),
            lost: rng.u8(0..60),
            ..Network::default()
        };
        World {
            now_ms: 0,
            agenda: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            counter: 0,
            servers: (1..=voters + observers + strangers).map(server).collect(),
            net,
            checks: Checks::default(),
            log: None,
            stormy: true,
            mood: pick(
                &mut rng,
                &[Mood::Everything, Mood::Everything, Mood::Links, Mood::Crashes],
            ),
            payloads: 0,
            reconfigures,
            first,
            stats: Stats::default(),
            rng,
        }
    }

    fn live(&mut self) -> Result<(), String> {
        for at in 0..self.servers.len() {
            self.boot(at);
        }
        self.plan(1, Happening::ClientWrite);
        self.plan(200, Happening::Trouble);
        let storm_ms = self.rng.u64(2_000..10_000);
        while self.step(storm_ms) {}
        self.calm_down()
    }

    pub(super) fn trouble(&mut self) {
        if !self.stormy {
            return;
        }
        let at = self.rng.usize(..self.servers.len());
        // Each run has its own mood: everything, connections that break over slow disks, or crashes alone.
        let roll = match self.mood {
            Mood::Everything => self.rng.u8(..100),
            Mood::Links => self.rng.u8(68..100),
            Mood::Crashes => self.rng.u8(..60),
        };
        match roll {
            0..25 => {
                if self.servers[at].running.is_some() {
                    self.crash(at);
                }
            }
            25..30 => {
                for at in 0..self.servers.len() {
                    if self.servers[at].running.is_some() && self.rng.u8(..) < 200 {
                        self.crash(at);
                    }
                }
            }
            30..60 => {
                for at in 0..self.servers.len() {
                    self.restart_if_failed(at);
                    if self.servers[at].running.is_none() && self.rng.bool() {
                        self.boot(at);
                    }
                }
            }
            60..68 => {
                // Two halves that do not hear each other, or only one the other.
                let half: Vec<bool> = self.servers.iter().map(|_| self.rng.bool()).collect();
                let one_way = self.rng.u8(..) < 80;
                for a in 0..half.len() {
                    for b in 0..half.len() {
                        if half[a] && !half[b] {
                            self.net.blocked.insert((a, b));
                            if !one_way {
                                self.net.blocked.insert((b, a));
                            }
                        }
                    }
                }
            }
            68..73 => {
                let b = self.rng.usize(..self.servers.len());
                self.net.blocked.extend([(at, b), (b, at)]);
            }
            73..85 => self.heal(),
            85..91 => self.cut_a_link(),
            91..94 => {
                // Long enough for the others to give it up, sometimes.
                self.stats.pauses += 1;
                let pause = self.rng.u64(0..=self.servers[at].settings.tick_ms * 12);
                self.servers[at].paused_until_ms = self.now_ms + pause;
            }
            _ => self.servers[at].disk_delay_max_ms = pick(&mut self.rng, &[0, 2, 10, 100, 400, 1000]),
        }
        let pause = self.rng.u64(5..300);
        self.plan(pause, Happening::Trouble);
    }

    /// No more faults: whoever can serve must do so soon, with the same history. A minority may stay dead.
    fn calm_down(&mut self) -> Result<(), String> {
        self.stormy = false;
        self.net.delay_max_ms = 5;
        self.net.lost = 0;
        self.heal();
        let mut dead = std::collections::BTreeSet::new();
        if self.rng.u8(..) < 90 {
            let victim = self.rng.usize(..self.servers.len());
            let left = self.servers.iter().map(|server| server.id);
            let left = left.filter(|id| *id != self.servers[victim].id).collect();
            if self.quorums().iter().all(|quorum| quorum.contains_quorum(&left)) {
                dead.insert(victim);
            }
        }
        for at in 0..self.servers.len() {
            self.servers[at].disk_delay_max_ms = 3;
            self.restart_if_failed(at);
            if dead.contains(&at) {
                if self.servers[at].running.is_some() {
                    self.crash(at);
                }
            } else if self.servers[at].running.is_none() {
                self.boot(at);
            }
        }
        let mut end_ms = self.now_ms + CALM_MS_MAX;
        let mut written = 0;
        while self.now_ms < end_ms {
            let next_ms = self.now_ms + 50;
            while self.step(next_ms) {}
            if self.is_one() {
                if written == 3 {
                    return Ok(());
                }
                written += 1;
                self.client_write();
            }
            if self.now_ms >= end_ms
                && let Some(at) = self.stuck_in_reconfig()
            {
                self.adopt_next_list(at);
                end_ms = self.now_ms + CALM_MS_MAX;
            }
        }
        Err(format!(
            "no progress in {CALM_MS_MAX} ms of calm: {}",
            self.picture()
        ))
    }

    /// Who keeps all others from a leader: a change of the list was under way when the leader died, and the freshest
    /// history, with that change, is of a server that has a vote only in the next list. Those who do not know that list
    /// cannot vote for it; and whoever they elect needs it, if it knows the list, and is refused.
    fn stuck_in_reconfig(&self) -> Option<usize> {
        let freshness = |at: &usize| {
            let disk = &self.servers[*at].disk;
            (disk.current_epoch, disk.last())
        };
        let running = (0..self.servers.len()).filter(|at| self.servers[*at].running.is_some());
        let freshest = running.clone().max_by_key(freshness)?;
        let Server {
            id, settings, disk, ..
        } = &self.servers[freshest];
        let present = disk.configuration.as_ref().unwrap_or(&settings.configuration);
        let next = disk.next_configuration.as_ref()?;
        let may_be_elected = |at: &usize| present.quorum.weight(self.servers[*at].id) > 0;
        let is_stuck = disk.contains(Zxid(next.version))
            && next.quorum.weight(*id) > 0
            && (running.filter(may_be_elected)).all(|at| freshness(&at) < freshness(&freshest));
        is_stuck.then_some(freshest)
    }

    /// The operator's remedy (docs/migration.md): the server with the freshest history takes the next list for the
    /// present one, and tells all others.
    fn adopt_next_list(&mut self, at: usize) {
        self.stats.remedies += 1;
        self.crash(at);
        let disk = &mut self.servers[at].disk;
        if let Some(next) = disk.next_configuration.take() {
            self.checks.note_configuration(&next);
            disk.configuration = Some(next);
        }
        self.boot(at);
    }

    /// Of every configuration that may be in force anywhere.
    fn quorums(&self) -> Vec<QuorumVerifier> {
        let mut quorums = vec![self.first.clone()];
        for server in &self.servers {
            let entries = server.disk.history.iter().chain(&self.checks.committed);
            quorums.extend(entries.filter_map(find_configuration).map(|found| found.quorum));
        }
        quorums
    }

    fn restart_if_failed(&mut self, at: usize) {
        if self.servers[at]
            .running
            .as_ref()
            .is_some_and(|running| running.failed)
        {
            self.crash(at);
            self.boot(at);
        }
    }

    /// Whether all running servers serve in one epoch and have the whole history. One that is no member, and promised a
    /// later epoch before it was removed, cannot: no leader is given up for it.
    fn is_one(&self) -> bool {
        let mut running = self.servers.iter().filter_map(|server| server.running.as_ref());
        let Some(leader) = running.clone().find(|running| running.leads.is_some()) else {
            return false;
        };
        let (epoch, members) = (leader.leads, &leader.zab.configuration().quorum);
        let is_lost = |running: &Running| {
            let promised = Some(running.zab.accepted_epoch()) > epoch;
            promised && !members.is_member(running.id)
        };
        running.all(|running| {
            is_lost(running) || running.serving == epoch && running.tree.len() == self.checks.committed.len()
        })
    }

    pub(super) fn picture(&self) -> String {
        let of_server = |server: &Server| match &server.running {
            None => format!("{}: down", server.id),
            Some(running) => format!(
                "{}: {:?}, serving {:?}, {} of {} txns, epochs {}/{}",
                server.id,
                running.zab.state(),
                running.serving,
                running.tree.len(),
                self.checks.committed.len(),
                running.zab.current_epoch(),
                running.zab.accepted_epoch()
            ),
        };
        self.servers.iter().map(of_server).collect::<Vec<_>>().join("; ")
    }
}
