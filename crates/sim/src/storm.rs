//! The life of one ensemble: random settings, a storm, and calm, in which it must come to itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use oxkeeper_core::membership::Membership;
use oxkeeper_core::{ContainerSettings, CoreSettings, LimitSettings, Standing};
use oxkeeper_storage::{Compression, LogSettings, SimDisk, StorageSettings};
use oxkeeper_types::{ServerId, Zxid};
use oxkeeper_zab::Settings;

use crate::Planted;
use crate::clients::Person;
use crate::clock::Clock;
use crate::reconfigs::{member, with_stranger};
use crate::server::{End, Server};
use crate::stats::Count;
use crate::world::{Happening, Place, World};

/// The identity of who may change the list of servers: the friend of [`oxkeeper_model`], of whom all private znodes are.
const FRIEND: &str = "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=";

/// What kind of trouble a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// All of it.
    Everything,
    /// Connections that break, over slow disks.
    Links,
    /// Servers that crash.
    Crashes,
    /// Little.
    Fair,
}

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) tick_ms: u64,
    /// The longest session timeout that a server grants, ms.
    pub(crate) timeout_ms_max: u64,
    /// How long people wait between two things they do, mean, ms.
    pub(crate) pause_ms: u64,
    pub(crate) storm_ms: u64,
    /// After the storm, all that can must serve again within this time.
    calm_ms_max: u64,
    /// Of 1000 turns of a disk, before how many something is done to it.
    pub(crate) disk_hits_permille: u16,
    /// What a link's queue may hold before its sender gives it up, bytes; in calm there is no limit.
    pub(crate) queue_bytes_max: usize,
    /// Time between two troubles, at most, ms.
    trouble_ms_max: u64,
    /// Of 1000 things that people do, how many change the list of servers. 0: the list never changes.
    pub(crate) reconfigs_permille: u16,
}

pub(crate) fn pick<T: Copy>(rng: &mut fastrand::Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

fn random_membership(rng: &mut fastrand::Rng, voters: i64, observers: i64) -> Membership {
    let ids: Vec<ServerId> = (1..=voters).map(ServerId).collect();
    let observers = (voters + 1..=voters + observers).map(ServerId);
    let mut membership = Membership::default();
    let members = ids
        .iter()
        .map(|id| (*id, false))
        .chain(observers.map(|id| (id, true)));
    membership.servers = members
        .map(|(id, is_observer)| (id, member(id, is_observer)))
        .collect();
    if rng.u8(..) < 220 || voters < 3 {
        return membership;
    }
    let mut grouped = membership.clone();
    grouped.groups.weights = ids.iter().map(|id| (*id, rng.u32(0..=2))).collect();
    let size = if voters >= 6 && rng.bool() { 2 } else { ids.len() };
    grouped.groups.servers_of = (1..).zip(ids.chunks(size).map(<[ServerId]>::to_vec)).collect();
    match grouped.quorum() {
        Ok(_) => grouped,
        Err(_) => membership,
    }
}

fn random_storage(rng: &mut fastrand::Rng) -> StorageSettings {
    use Compression::{Gzip, None, Snappy};
    StorageSettings {
        compression: pick(rng, &[None, None, None, None, None, None, Snappy, Gzip]),
        log: LogSettings {
            preallocation_bytes: pick(rng, &[0, 512, 4096]),
            force_sync: true,
            file_bytes_limit: pick(rng, &[Option::None, Option::None, Some(2000)]),
        },
        ..StorageSettings::default()
    }
}

/// The ensemble of a seed.
pub(crate) fn world(seed: u64, planted: Planted) -> World {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let voters = pick(rng, &[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7]);
    let observers = pick(rng, &[0, 0, 1, 2]);
    let membership = random_membership(rng, voters, observers);
    let tick_ms = pick(rng, &[10, 50, 200, 500, 1000, 2000, 2000, 2000]);
    let mut configuration = membership.configuration().expect("it was tried");
    let mut settings = Settings::new(ServerId(1), configuration.quorum.clone());
    settings.tick_ms = tick_ms;
    settings.init_limit_ticks = pick(rng, &[5, 10, 20]);
    settings.sync_limit_ticks = pick(rng, &[2, 5, 10]);
    settings.election_settle_ms = pick(rng, &[0, 10, 30, 200]);
    settings.window_entries_max = pick(rng, &[0, 1, 5, 20, 500, 500]);
    settings.counter_max = pick(rng, &[8, 20, 100, u32::MAX - 1, u32::MAX - 1, u32::MAX - 1]);
    let timeout_ms_max = (tick_ms * 20).max(2000);
    let mut core_settings = CoreSettings {
        tick_ms,
        session_timeout_ms_min: i32::try_from(tick_ms * 2).unwrap_or(i32::MAX),
        session_timeout_ms_max: i32::try_from(timeout_ms_max).unwrap_or(i32::MAX),
        standalone_enabled: pick(rng, &[true, false]),
        containers: ContainerSettings {
            check_interval_ms: pick(rng, &[700, 5000]),
            removals_per_minute_max: 600,
        },
        limits: LimitSettings {
            requests_outstanding_max: pick(rng, &[1, 3, 1000, 1000, 1000]),
            requests_per_connection_max: pick(rng, &[2, 10_000, 10_000]),
            proposals_outstanding_max: pick(rng, &[2, 10, 1_000_000, 1_000_000, 1_000_000]),
            output_bytes_high_water: pick(rng, &[200, 256 * 1024, 256 * 1024]),
            ..LimitSettings::default()
        },
        ..CoreSettings::default()
    };
    core_settings.tree.hash_seed = rng.u64(..);
    // From a source of their own, so that runs without changes of the list are what they were.
    let lists = &mut fastrand::Rng::with_seed(seed.rotate_left(17));
    let reconfigs_permille = match lists.u8(..8) {
        0 => pick(lists, &[5, 20, 60]),
        _ => 0,
    };
    let mut strangers = 0;
    if reconfigs_permille > 0 {
        settings.find_configuration = Some(oxkeeper_core::membership::find_configuration);
        core_settings.tree.reconfig_enabled = true;
        core_settings.auth.super_digest = Some(FRIEND.to_owned());
        strangers = lists.i64(0..=2);
    } else {
        // Nobody reads it, and every vote would carry it.
        configuration.list = "".into();
    }
    settings.configuration = Arc::new(configuration);
    #[cfg(feature = "planted-bugs")]
    {
        settings.planted = planted.zab.into_iter().collect();
        core_settings.planted = oxkeeper_core::Planted::without(planted.core.into_iter().collect());
    }
    let snap_count = pick(rng, &[2, 10, 50, 1000, 100_000]);
    let drifts = rng.bool();
    let servers = (1..=voters + observers + strangers)
        .map(|id| {
            let configuration = match membership.servers.contains_key(&ServerId(id)) {
                true => settings.configuration.clone(),
                false => with_stranger(&settings.configuration.list, ServerId(id)),
            };
            Server::new(
                Settings {
                    me: ServerId(id),
                    configuration,
                    ..settings.clone()
                },
                core_settings.clone(),
                random_storage(rng),
                snap_count,
                SimDisk::new(rng.u64(..)),
                Clock::new(rng, 0, drifts),
            )
        })
        .collect();
    let storm_ms = rng.u64(2_000..6_000) + rng.u64(5..20) * tick_ms;
    let scenario = Scenario {
        tick_ms,
        timeout_ms_max,
        pause_ms: storm_ms / pick(rng, &[20, 40, 80]),
        storm_ms,
        calm_ms_max: 20_000 + 60 * tick_ms,
        disk_hits_permille: pick(rng, &[0, 0, 1, 5]),
        queue_bytes_max: pick(rng, &[2_000, 20_000, 1_000_000, 1_000_000]),
        trouble_ms_max: storm_ms / pick(rng, &[4, 10, 30, 60]),
        reconfigs_permille,
    };
    let mood = pick(
        rng,
        &[
            Mood::Everything,
            Mood::Everything,
            Mood::Links,
            Mood::Crashes,
            Mood::Fair,
        ],
    );
    let mut world = World::new(rng.clone(), scenario, servers, mood);
    world
        .checks
        .configurations
        .insert(Zxid::ZERO, settings.configuration);
    world.shell_bug = planted.shell;
    world.net.delay_max_ms = pick(rng, &[1, 5, 20, 80, tick_ms / 2]).max(1);
    world.net.lost = pick(rng, &[0, 0, 10, 60]);
    for _ in 0..world.rng.usize(2..=5) {
        let person = Person::new(&mut world.rng);
        world.people.push(person);
    }
    world
}

impl World {
    /// Lives from the start of the ensemble to its calm; says what did not come about in time.
    pub(crate) fn live(&mut self) -> Result<(), String> {
        for at in 0..self.servers.len() {
            self.boot(at);
        }
        for who in 0..self.people.len() {
            let first_ms = self.rng.u64(0..=self.scenario.tick_ms);
            self.plan(first_ms, Happening::PersonActs { who });
        }
        if self.mood != Mood::Fair {
            self.plan(self.scenario.storm_ms / 20, Happening::Trouble);
        }
        while self.step(self.scenario.storm_ms) {}
        self.calm_down()
    }

    fn crash_or_not(&mut self, at: Place) {
        if self.servers[at].running.is_some() {
            let end = if self.rng.bool() { End::Power } else { End::Kill };
            self.crash(at, end);
        }
    }

    pub(crate) fn trouble(&mut self) {
        if !self.stormy {
            return;
        }
        let at = self.rng.usize(..self.servers.len());
        let roll = match self.mood {
            Mood::Everything => self.rng.u8(..100),
            Mood::Links => self.rng.u8(50..100),
            Mood::Crashes | Mood::Fair => self.rng.u8(..50),
        };
        match roll {
            0..20 => self.crash_or_not(at),
            20..24 => {
                for at in 0..self.servers.len() {
                    if self.rng.u8(..) < 200 {
                        self.crash_or_not(at);
                    }
                }
            }
            24..46 => {
                for at in 0..self.servers.len() {
                    self.restart_if_failed(at);
                    if self.servers[at].running.is_none() && self.rng.bool() {
                        self.boot(at);
                    }
                }
            }
            46..50 => {
                let by_ms = self.rng.i64(-100_000..100_000);
                self.say(|| format!("the time of day jumps by {by_ms} ms at {}", at + 1));
                self.servers[at].clock.jump(by_ms);
            }
            50..60 => self.split(),
            60..65 => {
                let other = self.rng.usize(..self.servers.len());
                self.say(|| format!("{} and {} do not hear each other", at + 1, other + 1));
                if other != at {
                    self.net.blocked.extend([(at, other), (other, at)]);
                }
            }
            65..80 => {
                self.say(|| "the network is whole again".to_owned());
                self.heal();
            }
            80..86 => self.cut_a_link(),
            86..90 => self.cut_a_client(),
            90..94 => {
                // Long enough for the others to give it up, sometimes.
                self.stats.count(Count::Pauses);
                let pause_ms = self.rng.u64(0..=self.scenario.tick_ms * 12);
                self.say(|| format!("{} stands still for {pause_ms} ms", at + 1));
                self.servers[at].paused_until_ms = self.now_ms + pause_ms;
            }
            _ => {
                let delay_ms = pick(&mut self.rng, &[0, 2, 10, 100, 400, 1000]);
                self.say(|| format!("the disk of {} takes up to {delay_ms} ms", at + 1));
                self.servers[at].disk_delay_max_ms = delay_ms;
            }
        }
        let pause = self.rng.u64(5..=self.scenario.trouble_ms_max.max(10));
        self.plan(pause, Happening::Trouble);
    }

    /// Two halves that do not hear each other, or only one the other.
    fn split(&mut self) {
        let half: Vec<bool> = self.servers.iter().map(|_| self.rng.bool()).collect();
        let one_way = self.rng.u8(..) < 80;
        self.say(|| format!("the network splits: {half:?}, one way {one_way}"));
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

    fn restart_if_failed(&mut self, at: Place) {
        if self.servers[at]
            .running
            .as_ref()
            .is_some_and(|running| running.failed)
        {
            self.crash_or_not(at);
            self.boot(at);
        }
    }

    /// No more faults: whoever can serve must do so soon, with the same history. A minority may stay dead.
    fn calm_down(&mut self) -> Result<(), String> {
        self.stormy = false;
        self.scenario.queue_bytes_max = usize::MAX;
        self.say(|| "the storm is over".to_owned());
        self.net.delay_max_ms = (self.scenario.tick_ms / 20).clamp(1, 5);
        self.net.lost = 0;
        self.heal();
        let mut dead = BTreeSet::new();
        if self.rng.u8(..) < 90 {
            let victim = self.rng.usize(..self.servers.len());
            let left = self.servers.iter().map(|server| server.id);
            let left = left.filter(|id| *id != self.servers[victim].id).collect();
            if self
                .checks
                .all_quorums()
                .all(|quorum| quorum.contains_quorum(&left))
            {
                dead.insert(victim);
            }
        }
        for at in 0..self.servers.len() {
            self.servers[at].disk_delay_max_ms = (self.scenario.tick_ms / 20).clamp(1, 5);
            self.servers[at].paused_until_ms = self.servers[at].paused_until_ms.min(self.now_ms);
            if dead.contains(&at) {
                if self.servers[at].running.is_some() {
                    self.crash(at, End::Kill);
                }
            } else if self.servers[at].disk_is_hit && self.servers[at].running.is_some() {
                // What was to go wrong and did not yet, is not to go wrong any more.
                self.crash(at, End::Power);
                self.boot(at);
            } else if self.servers[at].running.is_none() {
                self.boot(at);
            }
        }
        for person in &mut self.people {
            person.wake_up();
        }
        let mut end_ms = self.now_ms + self.scenario.calm_ms_max;
        while self.now_ms < end_ms {
            let next_ms = self.now_ms + 20;
            while self.step(next_ms) {}
            if self.people_are_served() && self.is_one() {
                for at in 0..self.servers.len() {
                    self.check_tree(at);
                }
                return Ok(());
            }
            if self.now_ms >= end_ms
                && let Some(at) = self.stuck_in_reconfig()
            {
                self.adopt_next_list(at);
                end_ms = self.now_ms + self.scenario.calm_ms_max;
            }
        }
        Err(format!(
            "no progress in {} ms of calm: {}; {}",
            self.scenario.calm_ms_max,
            self.picture(),
            self.picture_of_people()
        ))
    }

    /// Whether all running servers serve in one epoch and have the whole history. One that is no member, and promised
    /// a later epoch before it was removed, cannot: no leader is given up for it.
    fn is_one(&self) -> bool {
        let mut running = (self.servers.iter())
            .filter_map(|server| server.running.as_ref().map(|running| (server, running)));
        let leader = running.clone().find_map(|(server, running)| {
            let leads = running.core.standing() == Standing::Leading;
            leads.then_some((server.id, running.serves?))
        });
        let Some((leader, epoch)) = leader else {
            return false;
        };
        let Some(configuration) = self.configuration(self.place_of(leader)) else {
            return false;
        };
        let members = &configuration.quorum;
        running.all(|(server, running)| {
            let is_lost = server.facts.accepted_epoch > epoch && !members.is_member(server.id);
            is_lost || running.serves == Some(epoch) && running.checked == self.checks.newest()
        })
    }

    fn picture(&self) -> String {
        let of_server = |server: &Server| match &server.running {
            None => format!("{}: down", server.id),
            Some(running) => format!(
                "{}: {:?}, {:?}, serving {:?}, at {}, on disk {:?}",
                server.id,
                running.core.consensus().map(oxkeeper_zab::Zab::state),
                running.core.standing(),
                running.serves,
                running.checked,
                server.facts
            ),
        };
        self.servers.iter().map(of_server).collect::<Vec<_>>().join("; ")
    }
}
