//! A whole ensemble of real `Zab`s on a simulated network and simulated disks, driven by one seed.

#![allow(dead_code, reason = "each test binary uses a part of it")]

mod checks;
mod disk;
mod net;
pub(crate) mod storm;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use oxkeeper_types::{ServerId, Zxid};
use oxkeeper_zab::{
    Action, Configuration, Entry, Event, LinkId, Message, QuorumVerifier, Reason, Settings, Zab,
};

use checks::Checks;
use disk::SimDisk;
use net::{Direction, Item, Network};
pub(crate) use storm::run_with;

/// What may happen in a run: many times what does.
const HAPPENINGS_MAX: u64 = 2_000_000;

/// The number of a server, from 0; its id is one more.
type Place = usize;

/// What is to happen.
#[derive(Debug)]
enum Happening {
    /// An event for one boot of a server.
    Event { to: Place, boot: u64, event: Event },
    /// The next item of a link arrives.
    Arrival { link: LinkId, direction: Direction },
    /// Some of the writes of a server become durable.
    DiskTurn { at: Place, boot: u64 },
    /// A server's deadline.
    Wake { at: Place, boot: u64 },
    /// The walk of a snapshot goes on.
    WalkStep { at: Place, boot: u64, link: LinkId },
    /// A learner's dial arrives.
    Dial {
        from: Place,
        boot: u64,
        to: ServerId,
        incarnation: oxkeeper_zab::Incarnation,
    },
    /// A client wants something written.
    ClientWrite,
    /// The storm does something.
    Trouble,
}

struct Server {
    id: ServerId,
    settings: Settings,
    disk: SimDisk,
    boot: u64,
    running: Option<Running>,
    /// Until when it stands still.
    paused_until_ms: u64,
    /// How slow its disk is, ms.
    disk_delay_max_ms: u64,
}

struct Running {
    id: ServerId,
    zab: Zab,
    /// What has been applied, in order: the tree.
    tree: Vec<Entry>,
    /// Effects in the tree of txns that are still to be applied: those that a fuzzy snapshot brought.
    ahead: BTreeSet<Zxid>,
    /// The end of the history that was installed with the snapshot: later txns find a tree without their effects.
    installed: Zxid,
    /// Through which length the tree was compared with the committed history.
    compared: usize,
    serving: Option<u32>,
    leads: Option<u32>,
    accepting: bool,
    wake_at: Option<u64>,
    staged: BTreeMap<LinkId, Vec<Entry>>,
    disk_turn_planned: bool,
    /// A write failed: it must be started anew.
    failed: bool,
}

/// The ensemble and everything around it.
pub(crate) struct World {
    rng: fastrand::Rng,
    now_ms: u64,
    agenda: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<(u64, u64), Happening>,
    counter: u64,
    servers: Vec<Server>,
    net: Network,
    checks: Checks,
    /// Who decides at first.
    first: QuorumVerifier,
    /// A readable history, when asked for.
    pub(crate) log: Option<Vec<String>>,
    stormy: bool,
    mood: Mood,
    payloads: u64,
    /// What decides how the configuration changes; `None` when it does not.
    reconfigures: Option<fastrand::Rng>,
    pub(crate) stats: Stats,
}

/// What kind of trouble a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Everything,
    Links,
    Crashes,
}

/// What a run was made of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) happenings: u64,
    pub(crate) elections: u64,
    pub(crate) crashes: u64,
    pub(crate) proposals: u64,
    pub(crate) commits: u64,
    pub(crate) diffs: u64,
    pub(crate) truncs: u64,
    pub(crate) snaps: u64,
    /// Snapshots with effects of txns after their zxid.
    pub(crate) fuzzy_snaps: u64,
    pub(crate) disk_reads: u64,
    pub(crate) refused_truncs: u64,
    pub(crate) rollovers: u64,
    pub(crate) backlogs: u64,
    pub(crate) disk_failures: u64,
    pub(crate) pauses: u64,
    pub(crate) reconfigurations: u64,
    /// Changes of the configuration that were finished by an operator.
    pub(crate) remedies: u64,
}

impl World {
    fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>7} {}", self.now_ms, line()));
        }
    }

    fn plan(&mut self, in_ms: u64, happening: Happening) {
        let key = (self.now_ms + in_ms, self.counter);
        self.counter += 1;
        self.agenda.push(Reverse(key));
        self.happenings.insert(key, happening);
    }

    fn place_of(&self, id: ServerId) -> Place {
        usize::try_from(id.0 - 1).expect("ids are counted from 1")
    }

    fn boot(&mut self, at: Place) {
        let server = &mut self.servers[at];
        assert!(server.running.is_none());
        server.boot += 1;
        let recovered = server.disk.recover(server.settings.window_entries_max);
        if let Some(configuration) = &server.disk.configuration {
            server.settings.configuration = configuration.clone();
        }
        server.settings.next_configuration = server.disk.next_configuration.clone();
        server.running = Some(Running {
            id: server.id,
            zab: Zab::new(server.settings.clone(), recovered, self.now_ms),
            tree: server.disk.history.clone(),
            ahead: server.disk.ahead(),
            installed: Zxid::ZERO,
            compared: 0,
            serving: None,
            leads: None,
            accepting: false,
            wake_at: None,
            staged: BTreeMap::new(),
            disk_turn_planned: false,
            failed: false,
        });
        self.say(|| format!("{} starts", at + 1));
        self.act(at);
    }

    fn crash(&mut self, at: Place) {
        self.stats.crashes += 1;
        let server = &mut self.servers[at];
        server.running = None;
        server.boot += 1;
        let epoch = server.disk.current_epoch;
        server.disk.crash(&mut self.rng);
        if server.disk.current_epoch != epoch {
            self.check_current_epoch(at);
        }
        self.say(|| format!("{} crashes", at + 1));
        self.cut_links_of(at);
    }

    fn tell(&mut self, to: Place, event: Event) {
        let now_ms = self.now_ms;
        let Some(running) = &mut self.servers[to].running else {
            return;
        };
        running.zab.handle(event, now_ms);
        self.act(to);
    }

    /// Does what the server wants done.
    fn act(&mut self, at: Place) {
        while let Some(action) = self.servers[at]
            .running
            .as_mut()
            .and_then(|running| running.zab.poll_action())
        {
            self.perform(at, action);
        }
        let now_ms = self.now_ms;
        let boot = self.servers[at].boot;
        if let Some(running) = &mut self.servers[at].running
            && let Some(deadline) = running.zab.next_deadline_ms()
            && running.wake_at.is_none_or(|wake_at| deadline < wake_at)
        {
            running.wake_at = Some(deadline);
            self.plan(deadline.saturating_sub(now_ms), Happening::Wake { at, boot });
        }
    }

    fn perform(&mut self, at: Place, action: Action) {
        match action {
            Action::SendNotification { to, notification } => self.notify(at, to, notification),
            Action::ConnectToLeader { leader, incarnation } => {
                let boot = self.servers[at].boot;
                let delay = self.delay();
                self.plan(
                    delay,
                    Happening::Dial {
                        from: at,
                        boot,
                        to: leader,
                        incarnation,
                    },
                );
            }
            Action::AcceptLearners(accepting) => {
                self.running(at).accepting = accepting;
                if accepting {
                    self.stats.elections += 1;
                    self.say(|| format!("{} begins to lead", at + 1));
                }
            }
            Action::CloseLink(link, _) => self.close_link(at, link),
            Action::Send { link, message } => {
                self.check_sent(at, &message);
                match message {
                    Message::Diff(_) => self.stats.diffs += 1,
                    Message::Trunc(_) => self.stats.truncs += 1,
                    Message::Snap(_) => self.stats.snaps += 1,
                    _ => {}
                }
                self.send(at, link, Item::Message(message));
            }
            Action::SendSnapshot(link) => self.begin_walk(at, link),
            Action::ReadLog { link, from, to } => {
                self.stats.disk_reads += 1;
                let entries = self.servers[at].disk.read(from, to);
                let boot = self.servers[at].boot;
                let delay = self.rng.u64(0..=self.servers[at].disk_delay_max_ms);
                self.plan(
                    delay,
                    Happening::Event {
                        to: at,
                        boot,
                        event: Event::LogRead { link, entries },
                    },
                );
            }
            Action::Write { id, write } => {
                let staged = match &write {
                    oxkeeper_zab::Write::Install {
                        snapshot: Some(link), ..
                    } => self
                        .running(at)
                        .staged
                        .remove(link)
                        .expect("the snapshot came in"),
                    _ => Vec::new(),
                };
                self.servers[at].disk.queue(id, write, staged);
                self.plan_disk_turn(at);
            }
            Action::Deliver(entry) => self.deliver(at, entry),
            Action::Serve { epoch, leader } => self.serve(at, epoch, leader),
            Action::StopServing(reason) => {
                let running = self.running(at);
                running.serving = None;
                running.leads = None;
                self.stats.rollovers += u64::from(reason == Reason::CounterUsedUp);
                self.stats.backlogs += u64::from(reason == Reason::BacklogTooLarge);
                self.say(|| format!("{} looks for a leader: {reason:?}", at + 1));
            }
            Action::AnswerPing { link, zxid } => {
                self.send(at, link, Item::Message(Message::Pong(zxid, [].into())));
            }
            Action::Configurations { committed, .. } => {
                self.check_configuration(at, &committed);
                self.say(|| format!("{} has configuration {:x}", at + 1, committed.version));
            }
            Action::PassOn { .. } | Action::Synchronizing { .. } => {}
        }
    }

    fn running(&mut self, at: Place) -> &mut Running {
        self.servers[at]
            .running
            .as_mut()
            .expect("only running servers act")
    }

    fn plan_disk_turn(&mut self, at: Place) {
        let boot = self.servers[at].boot;
        let delay = self.rng.u64(0..=self.servers[at].disk_delay_max_ms);
        let running = self.running(at);
        if !running.disk_turn_planned {
            running.disk_turn_planned = true;
            self.plan(delay, Happening::DiskTurn { at, boot });
        }
    }

    fn disk_turn(&mut self, at: Place) {
        if self.running(at).failed {
            return;
        }
        self.running(at).disk_turn_planned = false;
        if self.stormy && self.rng.u32(..3000) == 0 {
            self.stats.disk_failures += 1;
            self.say(|| format!("the disk of {} fails", at + 1));
            self.servers[at].disk.crash(&mut self.rng);
            self.running(at).failed = true;
            self.tell(at, Event::WriteFailed);
            return;
        }
        let epoch = self.servers[at].disk.current_epoch;
        let Some(turn) = self.servers[at].disk.turn(&mut self.rng) else {
            return;
        };
        if self.servers[at].disk.current_epoch != epoch {
            self.check_current_epoch(at);
        }
        if let Some(tree) = turn.new_tree {
            let (ahead, installed) = (
                self.servers[at].disk.ahead_of(&tree),
                self.servers[at].disk.last(),
            );
            self.stats.fuzzy_snaps += u64::from(!ahead.is_empty());
            let running = self.running(at);
            running.tree = tree;
            running.ahead = ahead;
            running.installed = installed;
            running.compared = 0;
        }
        if self.servers[at].disk.has_queued() {
            self.plan_disk_turn(at);
        }
        if self.rng.u8(..) < 20 {
            self.servers[at].disk.purge(&mut self.rng);
        }
        self.stats.refused_truncs += u64::from(matches!(turn.event, Event::TruncateRefused { .. }));
        self.tell(at, turn.event);
    }

    /// The next thing happens; false when nothing is left or the time is over.
    fn step(&mut self, until_ms: u64) -> bool {
        let Some(Reverse(key)) = self.agenda.peek().copied() else {
            return false;
        };
        if key.0 > until_ms {
            self.now_ms = until_ms;
            return false;
        }
        self.agenda.pop();
        self.now_ms = key.0;
        self.stats.happenings += 1;
        assert!(
            self.stats.happenings < HAPPENINGS_MAX,
            "servers answer one another without end: {}",
            self.picture()
        );
        let happening = self.happenings.remove(&key).expect("planned together");
        let concerns = match &happening {
            Happening::Event { to, .. } => Some(*to),
            Happening::Arrival { link, direction } => self.receiver(*link, *direction),
            Happening::DiskTurn { at, .. } | Happening::WalkStep { at, .. } | Happening::Wake { at, .. } => {
                Some(*at)
            }
            Happening::Dial { .. } | Happening::ClientWrite | Happening::Trouble => None,
        };
        if let Some(at) = concerns
            && self.servers[at].paused_until_ms > self.now_ms
        {
            let rest_ms = self.servers[at].paused_until_ms - self.now_ms;
            self.plan(rest_ms, happening);
            return true;
        }
        match happening {
            Happening::Event { to, boot, event } => {
                if self.servers[to].boot == boot {
                    self.tell(to, event);
                }
            }
            Happening::Arrival { link, direction } => self.arrive(link, direction),
            Happening::DiskTurn { at, boot } => {
                if self.servers[at].boot == boot {
                    self.disk_turn(at);
                }
            }
            Happening::WalkStep { at, boot, link } => {
                if self.servers[at].boot == boot {
                    self.walk(at, link);
                }
            }
            Happening::Wake { at, boot } => {
                if self.servers[at].boot == boot
                    && let Some(running) = &mut self.servers[at].running
                {
                    running.wake_at = None;
                    if running
                        .zab
                        .next_deadline_ms()
                        .is_some_and(|deadline| deadline <= key.0)
                    {
                        self.tell(at, Event::DeadlineReached);
                    } else {
                        self.act(at);
                    }
                }
            }
            Happening::Dial {
                from,
                boot,
                to,
                incarnation,
            } => {
                if self.servers[from].boot == boot {
                    self.dial(from, to, incarnation);
                }
            }
            Happening::ClientWrite => self.client_write(),
            Happening::Trouble => self.trouble(),
        }
        true
    }

    /// A change of the configuration that this leader may propose, now and then.
    fn new_configuration(&mut self, at: Place, zxid: Zxid) -> Option<Arc<[u8]>> {
        let rng = self.reconfigures.as_mut()?;
        if !self.stormy || rng.u8(..) >= 20 {
            return None;
        }
        let places = self.servers.iter().fold(0_u8, |mask, _| mask << 1 | 1);
        let (voters, others) = (rng.u8(..) & places, rng.u8(..) & places);
        let txn: Arc<[u8]> = [CONFIGURATION_MARK, &[voters, others & !voters]].concat().into();
        let zab = &self.servers[at].running.as_ref()?.zab;
        let entry = Entry { zxid, txn };
        let found = find_configuration(&entry)?;
        // A leader in front of it checks the same.
        let may_be = zab.next_configuration().is_none() && voters != 0 && zab.is_quorum_synced(&found.quorum);
        if !may_be {
            return None;
        }
        self.stats.reconfigurations += 1;
        self.say(|| {
            format!(
                "{} proposes {zxid}: the voters {:?}",
                at + 1,
                found.quorum.voters()
            )
        });
        Some(entry.txn)
    }

    /// A client writes at some server that may propose, if there is one.
    fn client_write(&mut self) {
        let leaders: Vec<(Place, Zxid)> = (0..self.servers.len())
            .filter_map(|at| Some((at, self.servers[at].running.as_ref()?.zab.next_zxid()?)))
            .collect();
        for (at, _) in leaders {
            for _ in 0..self.rng.u64(1..=4) {
                let Some(zxid) = self.running(at).zab.next_zxid() else {
                    break;
                };
                self.payloads += 1;
                self.stats.proposals += 1;
                let txn = match self.new_configuration(at, zxid) {
                    Some(txn) => txn,
                    None => self.payloads.to_be_bytes().into(),
                };
                self.check_proposed(at, zxid, &txn);
                self.tell(at, Event::Propose { zxid, txn });
            }
        }
        if self.stormy {
            let pause = self.rng.u64(1..60);
            self.plan(pause, Happening::ClientWrite);
        }
    }
}

impl Stats {
    pub(crate) fn add(&mut self, other: &Stats) {
        self.happenings += other.happenings;
        self.elections += other.elections;
        self.crashes += other.crashes;
        self.proposals += other.proposals;
        self.commits += other.commits;
        self.diffs += other.diffs;
        self.truncs += other.truncs;
        self.snaps += other.snaps;
        self.fuzzy_snaps += other.fuzzy_snaps;
        self.disk_reads += other.disk_reads;
        self.refused_truncs += other.refused_truncs;
        self.rollovers += other.rollovers;
        self.backlogs += other.backlogs;
        self.disk_failures += other.disk_failures;
        self.pauses += other.pauses;
        self.reconfigurations += other.reconfigurations;
        self.remedies += other.remedies;
    }
}

/// A txn that makes these servers the voters and those the observers: a mask of places for each.
const CONFIGURATION_MARK: &[u8] = b"configuration";

fn find_configuration(entry: &Entry) -> Option<Configuration> {
    let [voters, observers] = *entry.txn.strip_prefix(CONFIGURATION_MARK)? else {
        panic!("{} is no txn of this world", entry.zxid);
    };
    let of = |mask: u8| {
        (0..8)
            .filter(move |at| mask & (1 << at) != 0)
            .map(|at| ServerId(at + 1))
    };
    Some(Configuration {
        version: entry.zxid.0,
        list: format!("{voters} {observers}").into(),
        ..Configuration::new(QuorumVerifier::majority(of(voters), of(observers)))
    })
}
