//! The ensemble and everything around it: what is to happen next, and to whom.

use std::cell::RefCell;
use std::collections::BinaryHeap;

use oxkeeper_core::{Action, Event, Now, Standing};
use oxkeeper_types::ServerId;
use oxkeeper_zab::{Incarnation, LinkId, Message};

use crate::ShellBug;
use crate::checks::Checks;
use crate::clients::{Dialled, Person};
use crate::net::{Direction, Network};
use crate::server::{Running, Server};
use crate::stats::{Count, Stats};
use crate::storm::{Mood, Scenario};

/// The number of a server, from 0; its id is one more.
pub(crate) type Place = usize;

/// What is to happen.
pub(crate) enum Happening {
    /// A notification arrives.
    Notification {
        from: Place,
        to: Place,
        boot: u64,
        bytes: Vec<u8>,
    },
    /// An election connection came up.
    ElectionPeer { at: Place, boot: u64, peer: Place },
    /// The next piece of a link arrives.
    Arrival { link: LinkId, direction: Direction },
    /// A learner's dial arrives.
    Dial {
        from: Place,
        boot: u64,
        to: ServerId,
        incarnation: Incarnation,
    },
    /// The next chunk of a snapshot is sent.
    Stream { at: Place, boot: u64, link: LinkId },
    /// Something reaches the core of a server.
    Core { at: Place, boot: u64, event: Event },
    /// The core of a server takes what its connections have for it.
    Work { at: Place, boot: u64 },
    /// A server's deadline.
    Wake { at: Place, boot: u64 },
    /// Some of the writes of a server become durable.
    DiskTurn { at: Place, boot: u64 },
    /// A snapshot in work goes on.
    SnapshotStep { at: Place, boot: u64 },
    /// Bytes of a client reach its server.
    ToServer { connection: usize },
    /// The task of a connection looks.
    Look { connection: usize },
    /// Bytes of a server reach its client.
    ToClient { connection: usize },
    /// Somebody does something.
    PersonActs { who: usize },
    /// The storm does something.
    Trouble,
}

struct Planned {
    at_ms: u64,
    number: u64,
    happening: Happening,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Planned) -> bool {
        self.number == other.number
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Planned) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    /// The earliest is the greatest, for the heap.
    fn cmp(&self, other: &Planned) -> std::cmp::Ordering {
        (other.at_ms, other.number).cmp(&(self.at_ms, self.number))
    }
}

/// To whom a run tells what happens.
pub(crate) enum Telling {
    Nothing,
    /// To whoever reads the output.
    Aloud,
    /// To a test.
    Noted(RefCell<Vec<String>>),
}

/// See the module documentation.
pub(crate) struct World {
    pub(crate) rng: fastrand::Rng,
    pub(crate) scenario: Scenario,
    pub(crate) now_ms: u64,
    agenda: BinaryHeap<Planned>,
    planned: u64,
    pub(crate) servers: Vec<Server>,
    pub(crate) net: Network,
    pub(crate) people: Vec<Person>,
    /// All connections of clients there ever were.
    pub(crate) connections: Vec<Dialled>,
    pub(crate) next_xid: i32,
    pub(crate) checks: Checks,
    pub(crate) shell_bug: Option<ShellBug>,
    pub(crate) telling: Telling,
    pub(crate) stormy: bool,
    pub(crate) mood: Mood,
    pub(crate) stats: Stats,
}

impl World {
    pub(crate) fn new(rng: fastrand::Rng, scenario: Scenario, servers: Vec<Server>, mood: Mood) -> World {
        World {
            rng,
            scenario,
            now_ms: 0,
            agenda: BinaryHeap::new(),
            planned: 0,
            servers,
            net: Network::default(),
            people: Vec::new(),
            connections: Vec::new(),
            next_xid: 1,
            checks: Checks::default(),
            shell_bug: None,
            telling: Telling::Nothing,
            stormy: true,
            mood,
            stats: Stats::default(),
        }
    }

    #[allow(clippy::print_stdout, reason = "a run that is repeated tells its steps")]
    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        match &self.telling {
            Telling::Nothing => {}
            Telling::Aloud => println!("{:>7} {}", self.now_ms, line()),
            Telling::Noted(lines) => lines.borrow_mut().push(format!("{:>7} {}", self.now_ms, line())),
        }
    }

    /// Whether the guard of the shell against `bug` is in place. Always, but in tests of the tests.
    pub(crate) fn guards(&self, bug: ShellBug) -> bool {
        self.shell_bug != Some(bug)
    }

    pub(crate) fn plan(&mut self, in_ms: u64, happening: Happening) {
        self.agenda.push(Planned {
            at_ms: self.now_ms + in_ms,
            number: self.planned,
            happening,
        });
        self.planned += 1;
    }

    pub(crate) fn place_of(&self, id: ServerId) -> Place {
        usize::try_from(id.0 - 1).expect("ids are counted from 1")
    }

    /// What a server is made of while it runs.
    pub(crate) fn running(&mut self, at: Place) -> &mut Running {
        self.servers[at]
            .running
            .as_mut()
            .expect("only running servers act")
    }

    pub(crate) fn runs(&self, at: Place, boot: u64) -> bool {
        self.servers[at].boot == boot && self.servers[at].running.is_some()
    }

    /// What a server takes for the time.
    pub(crate) fn clock(&self, at: Place) -> Now {
        self.servers[at].clock.now(self.now_ms)
    }

    // ---- the core of a server --------------------------------------------------------------------------------

    pub(crate) fn tell_zab(&mut self, at: Place, event: oxkeeper_zab::Event) {
        self.tell(at, Event::Ensemble(event));
    }

    /// Something happens to the core of a server.
    pub(crate) fn tell(&mut self, at: Place, event: Event) {
        let now = self.clock(at);
        let Some(running) = &mut self.servers[at].running else {
            return;
        };
        running.core.handle_event(now, event);
        self.act(at);
    }

    /// Looks at what the core has done, and does what it wants done.
    pub(crate) fn act(&mut self, at: Place) {
        self.check_configuration(at);
        self.check_replica(at);
        while let Some(action) = self.servers[at]
            .running
            .as_mut()
            .and_then(|running| running.core.poll_action())
        {
            self.perform(at, action);
        }
        let (now_ms, boot) = (self.now_ms, self.servers[at].boot);
        let server = &mut self.servers[at];
        if let Some(running) = &mut server.running {
            let deadline_ms = running.core.next_deadline_ms();
            let due_ms = server.clock.world_ms(deadline_ms);
            if deadline_ms != u64::MAX && running.wake_at_ms.is_none_or(|wake_at_ms| due_ms < wake_at_ms) {
                running.wake_at_ms = Some(due_ms);
                self.plan(due_ms.saturating_sub(now_ms), Happening::Wake { at, boot });
            }
        }
    }

    fn perform(&mut self, at: Place, action: Action) {
        match action {
            Action::Wake(client) => self.woken(client.id),
            Action::ReportQuota(_) | Action::ReportReadOnly => {}
            Action::ReportPeer { what, .. } => {
                self.say(|| format!("{} finds fault with a peer: {what}", at + 1));
                assert!(
                    what.contains("proposals_outstanding_max"),
                    "{} finds fault with a peer: {what}",
                    at + 1
                );
            }
            Action::AppendToLog { .. } => unreachable!("a member's log is written for its consensus"),
            Action::Ensemble(action) => self.perform_for_ensemble(at, action),
        }
    }

    fn perform_for_ensemble(&mut self, at: Place, action: oxkeeper_zab::Action) {
        use oxkeeper_zab::Action;
        match action {
            Action::SendNotification { to, notification } => self.notify(at, to, &notification),
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
            Action::AcceptLearners(accepts) => {
                self.running(at).accepts = accepts;
                if accepts {
                    self.stats.count(Count::Elections);
                    self.say(|| format!("{} begins to lead", at + 1));
                }
            }
            Action::CloseLink(link, _) => self.close_link(at, link),
            Action::Send { link, message } => {
                self.check_sent(at, link, &message);
                match message {
                    Message::Diff(_) => self.stats.count(Count::Diffs),
                    Message::Trunc(_) => self.stats.count(Count::Truncs),
                    Message::Snap(_) => self.stats.count(Count::Snaps),
                    _ => {}
                }
                self.send_message(at, link, &message);
            }
            Action::SendSnapshot(link) => self.send_snapshot(at, link),
            Action::ReadLog { link, from, to } => self.read_log(at, link, from, to),
            Action::Write { id, write } => self.queue_write(at, id, write),
            Action::StopServing(reason) => {
                self.say(|| format!("{} looks for a leader: {reason:?}", at + 1));
                match reason {
                    oxkeeper_zab::Reason::CounterUsedUp => self.stats.count(Count::Rollovers),
                    oxkeeper_zab::Reason::TruncateRefused => self.stats.count(Count::RefusedTruncs),
                    oxkeeper_zab::Reason::Designated(_) => self.stats.count(Count::Heirs),
                    _ => {}
                }
                self.note_role_ended(at);
            }
            Action::Configurations { committed, next } => {
                let next = next.map_or(0, |next| next.version);
                self.say(|| {
                    format!(
                        "{} has configuration {:x}, next {next:x}",
                        at + 1,
                        committed.version
                    )
                });
            }
            Action::Synchronizing { .. } => {}
            Action::Deliver(_) | Action::Serve { .. } | Action::AnswerPing { .. } | Action::PassOn { .. } => {
                unreachable!("the core does {action:?} itself")
            }
        }
    }

    fn wake(&mut self, at: Place) {
        let now_ms = self.now_ms;
        let local_ms = self.clock(at).monotonic_ms;
        let running = self.running(at);
        if running.wake_at_ms.is_some_and(|wake_at_ms| wake_at_ms <= now_ms) {
            running.wake_at_ms = None;
        }
        if running.core.next_deadline_ms() <= local_ms {
            self.tell(at, Event::DeadlineReached);
        } else {
            self.act(at);
        }
    }

    /// What a server is, as its core says; `None` when it is down.
    pub(crate) fn standing(&self, at: Place) -> Option<Standing> {
        Some(self.servers[at].running.as_ref()?.core.standing())
    }

    // ---- time ------------------------------------------------------------------------------------------------

    /// The next thing happens; false when nothing is left or the time is over.
    pub(crate) fn step(&mut self, until_ms: u64) -> bool {
        match self.agenda.peek() {
            Some(next) if next.at_ms <= until_ms => {}
            _ => {
                self.now_ms = self.now_ms.max(until_ms);
                return false;
            }
        }
        let Some(Planned { at_ms, happening, .. }) = self.agenda.pop() else {
            return false;
        };
        self.now_ms = self.now_ms.max(at_ms);
        self.stats.count(Count::Steps);
        if let Some(at) = self.concerns(&happening)
            && self.servers[at].paused_until_ms > self.now_ms
        {
            let rest_ms = self.servers[at].paused_until_ms - self.now_ms;
            self.plan(rest_ms, happening);
            return true;
        }
        self.happen(happening);
        true
    }

    /// The server that takes part in it, and cannot while it stands still.
    fn concerns(&self, happening: &Happening) -> Option<Place> {
        match *happening {
            Happening::Notification { to, .. } => Some(to),
            Happening::Arrival { link, direction } => self.receiver(link, direction),
            Happening::ElectionPeer { at, .. }
            | Happening::Stream { at, .. }
            | Happening::Core { at, .. }
            | Happening::Work { at, .. }
            | Happening::Wake { at, .. }
            | Happening::DiskTurn { at, .. }
            | Happening::SnapshotStep { at, .. } => Some(at),
            Happening::ToServer { connection } | Happening::Look { connection } => {
                Some(self.connections[connection].server)
            }
            Happening::Dial { .. }
            | Happening::ToClient { .. }
            | Happening::PersonActs { .. }
            | Happening::Trouble => None,
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Notification {
                from,
                to,
                boot,
                bytes,
            } if self.runs(to, boot) => self.notification_arrives(from, to, &bytes),
            Happening::ElectionPeer { at, boot, peer } if self.runs(at, boot) => {
                let is_there = self.servers[peer].running.is_some()
                    && !self.net.blocked.contains(&(at, peer))
                    && !self.net.blocked.contains(&(peer, at));
                if is_there {
                    let peer = self.servers[peer].id;
                    self.tell_zab(at, oxkeeper_zab::Event::ElectionPeerConnected { peer });
                }
            }
            Happening::Arrival { link, direction } => self.arrive(link, direction),
            Happening::Dial {
                from,
                boot,
                to,
                incarnation,
            } if self.runs(from, boot) => self.dial(from, to, incarnation),
            Happening::Stream { at, boot, link } if self.runs(at, boot) => self.stream(at, link),
            Happening::Core { at, boot, event } if self.runs(at, boot) => self.tell(at, event),
            Happening::Work { at, boot } if self.runs(at, boot) => self.work(at),
            Happening::Wake { at, boot } if self.runs(at, boot) => self.wake(at),
            Happening::DiskTurn { at, boot } if self.runs(at, boot) => self.disk_turn(at),
            Happening::SnapshotStep { at, boot } if self.runs(at, boot) => self.snapshot_step(at),
            Happening::ToServer { connection } => self.bytes_reach_server(connection),
            Happening::Look { connection } => self.look(connection),
            Happening::ToClient { connection } => self.bytes_reach_client(connection),
            Happening::PersonActs { who } => self.person_acts(who),
            Happening::Trouble => self.trouble(),
            // What was meant for an earlier life of a server.
            Happening::Notification { .. }
            | Happening::ElectionPeer { .. }
            | Happening::Dial { .. }
            | Happening::Stream { .. }
            | Happening::Core { .. }
            | Happening::Work { .. }
            | Happening::Wake { .. }
            | Happening::DiskTurn { .. }
            | Happening::SnapshotStep { .. } => {}
        }
    }
}
