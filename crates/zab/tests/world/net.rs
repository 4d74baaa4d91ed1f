//! A network that delays, holds back, and loses connections. Links keep the order of what is sent over them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use oxkeeper_types::ServerId;
use oxkeeper_zab::{Entry, Event, Incarnation, LinkId, Message, Notification};

use super::{Happening, Place, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    ToLeader,
    ToLearner,
}

#[derive(Clone, Debug)]
pub(super) enum Item {
    Message(Message),
    Snapshot(Vec<Entry>),
    Close,
}

/// How many steps the walk of a snapshot has.
const WALK_STEPS: u32 = 4;

/// A snapshot on its way out: each step sees its part of the tree as it is then, so that the whole is fuzzy.
#[derive(Debug, Default)]
struct Walk {
    step: u32,
    seen: Vec<Entry>,
    /// What was sent meanwhile waits for the end of the stream.
    behind: Vec<Item>,
}

#[derive(Debug)]
pub(super) struct Link {
    learner: Place,
    leader: Place,
    /// Which ends still use it.
    open: [bool; 2],
    flows: BTreeMap<Direction, Flow>,
    walk: Option<Walk>,
}

#[derive(Debug, Default)]
struct Flow {
    items: VecDeque<Item>,
    /// When the last item arrives.
    last_ms: u64,
    /// Arrivals that found the way blocked.
    stalled: u64,
}

#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) next_link: u64,
    /// From whom to whom nothing gets through.
    pub(super) blocked: BTreeSet<(Place, Place)>,
    pub(super) delay_max_ms: u64,
    /// Of 256 notifications, how many are lost.
    pub(super) lost: u8,
}

impl World {
    pub(super) fn delay(&mut self) -> u64 {
        let max = self.net.delay_max_ms;
        // Mostly quick, sometimes as slow as it gets.
        if self.rng.u8(..) < 200 {
            self.rng.u64(0..=max / 8 + 1)
        } else {
            self.rng.u64(0..=max)
        }
    }

    pub(super) fn notify(&mut self, at: Place, to: ServerId, notification: Notification) {
        self.check_vote(at, to, &notification);
        let to_place = self.place_of(to);
        let boot = self.servers[to_place].boot;
        if self.net.blocked.contains(&(at, to_place)) || self.rng.u8(..) < self.net.lost {
            return;
        }
        self.say(|| format!("{} tells {to}: {notification:?}", at + 1));
        let from = self.servers[at].id;
        let told = self.running(at).zab.configuration().clone();
        let delay = self.delay();
        let event = Event::ConfigurationHeard(told);
        self.plan(
            delay,
            Happening::Event {
                to: to_place,
                boot,
                event,
            },
        );
        let event = Event::Notification { from, notification };
        self.plan(
            delay,
            Happening::Event {
                to: to_place,
                boot,
                event,
            },
        );
    }

    pub(super) fn dial(&mut self, from: Place, to: ServerId, incarnation: Incarnation) {
        let leader = self.place_of(to);
        let boot = self.servers[from].boot;
        let blocked =
            self.net.blocked.contains(&(from, leader)) || self.net.blocked.contains(&(leader, from));
        let accepting = self.servers[leader]
            .running
            .as_ref()
            .is_some_and(|running| running.accepting);
        if blocked || !accepting {
            let delay = self.delay();
            let event = Event::LeaderUnreachable { incarnation };
            self.plan(
                delay,
                Happening::Event {
                    to: from,
                    boot,
                    event,
                },
            );
            return;
        }
        let id = LinkId(self.net.next_link);
        self.net.next_link += 1;
        let flows = [
            (Direction::ToLeader, Flow::default()),
            (Direction::ToLearner, Flow::default()),
        ];
        let link = Link {
            learner: from,
            leader,
            open: [true, true],
            flows: flows.into(),
            walk: None,
        };
        self.net.links.insert(id, link);
        self.tell(leader, Event::LearnerConnected { link: id });
        self.tell(
            from,
            Event::LeaderConnected {
                incarnation,
                link: id,
            },
        );
    }

    fn direction_from(&self, at: Place, link: LinkId) -> Option<Direction> {
        let link = self.net.links.get(&link)?;
        Some(if link.learner == at {
            Direction::ToLeader
        } else {
            Direction::ToLearner
        })
    }

    /// Who receives what goes this way.
    pub(super) fn receiver(&self, link: LinkId, direction: Direction) -> Option<Place> {
        let link = self.net.links.get(&link)?;
        Some(match direction {
            Direction::ToLeader => link.leader,
            Direction::ToLearner => link.learner,
        })
    }

    pub(super) fn begin_walk(&mut self, at: Place, link: LinkId) {
        if let Some(link) = self.net.links.get_mut(&link) {
            link.walk = Some(Walk::default());
        }
        self.walk(at, link);
    }

    /// The next step of a snapshot's walk.
    pub(super) fn walk(&mut self, at: Place, id: LinkId) {
        let Some(running) = &self.servers[at].running else {
            return;
        };
        let Some(link) = self.net.links.get_mut(&id) else {
            return;
        };
        let Some(walk) = &mut link.walk else {
            return;
        };
        let seen = running
            .tree
            .iter()
            .filter(|entry| entry.zxid.counter() % WALK_STEPS == walk.step);
        walk.seen.extend(seen.cloned());
        walk.step += 1;
        if walk.step < WALK_STEPS {
            let boot = self.servers[at].boot;
            let delay = self.rng.u64(0..=self.servers[at].disk_delay_max_ms);
            self.plan(delay, Happening::WalkStep { at, boot, link: id });
            return;
        }
        let Some(mut walk) = link.walk.take() else {
            return;
        };
        walk.seen.sort_by_key(|entry| entry.zxid);
        self.send(at, id, Item::Snapshot(walk.seen));
        for item in walk.behind {
            self.send(at, id, item);
        }
        self.tell(at, Event::SnapshotSent { link: id });
    }

    pub(super) fn send(&mut self, at: Place, link: LinkId, item: Item) {
        let Some(direction) = self.direction_from(at, link) else {
            return;
        };
        if direction == Direction::ToLearner
            && let Some(link) = self.net.links.get_mut(&link)
            && let Some(walk) = &mut link.walk
        {
            if !matches!(item, Item::Close) {
                walk.behind.push(item);
                return;
            }
            // Whoever closes the link sends no more of the snapshot.
            link.walk = None;
        }
        let arrives_ms = self.now_ms + self.delay();
        let Some(flow) = self
            .net
            .links
            .get_mut(&link)
            .and_then(|link| link.flows.get_mut(&direction))
        else {
            return;
        };
        flow.last_ms = flow.last_ms.max(arrives_ms);
        flow.items.push_back(item);
        let in_ms = flow.last_ms - self.now_ms;
        self.plan(in_ms, Happening::Arrival { link, direction });
    }

    pub(super) fn close_link(&mut self, at: Place, link: LinkId) {
        let Some(direction) = self.direction_from(at, link) else {
            return;
        };
        if let Some(link) = self.net.links.get_mut(&link) {
            link.open[direction as usize] = false;
        }
        self.send(at, link, Item::Close);
    }

    pub(super) fn arrive(&mut self, id: LinkId, direction: Direction) {
        let Some(link) = self.net.links.get_mut(&id) else {
            return;
        };
        let (from, to, end) = match direction {
            Direction::ToLeader => (link.learner, link.leader, Direction::ToLearner),
            Direction::ToLearner => (link.leader, link.learner, Direction::ToLeader),
        };
        let flow = link.flows.get_mut(&direction).expect("both directions exist");
        if self.net.blocked.contains(&(from, to)) {
            flow.stalled += 1;
            return;
        }
        let Some(item) = flow.items.pop_front() else {
            return;
        };
        if !link.open[end as usize] {
            return;
        }
        match item {
            Item::Message(message) => {
                self.say(|| format!("{} to {}: {message:?}", from + 1, to + 1));
                self.tell(to, Event::Received { link: id, message });
            }
            Item::Snapshot(tree) => {
                if let Some(running) = &mut self.servers[to].running {
                    running.staged.clear();
                    running.staged.insert(id, tree);
                }
                self.tell(to, Event::SnapshotReceived { link: id });
            }
            Item::Close => {
                link.open = [false, false];
                self.net.links.remove(&id);
                self.tell(to, Event::LinkClosed { link: id });
            }
        }
    }

    /// Both ends of a link find it broken, each at its time; what was on its way is lost.
    fn cut(&mut self, id: LinkId) {
        let Some(link) = self.net.links.remove(&id) else {
            return;
        };
        for (end, place) in [link.learner, link.leader].into_iter().enumerate() {
            if link.open[end] {
                let boot = self.servers[place].boot;
                let delay = self.delay();
                let event = Event::LinkClosed { link: id };
                self.plan(
                    delay,
                    Happening::Event {
                        to: place,
                        boot,
                        event,
                    },
                );
            }
        }
    }

    pub(super) fn cut_links_of(&mut self, place: Place) {
        let of_place = |link: &Link| link.learner == place || link.leader == place;
        let links: Vec<LinkId> = self
            .net
            .links
            .iter()
            .filter(|(_, link)| of_place(link))
            .map(|(id, _)| *id)
            .collect();
        for link in links {
            self.cut(link);
        }
    }

    pub(super) fn cut_a_link(&mut self) {
        let links: Vec<LinkId> = self.net.links.keys().copied().collect();
        if !links.is_empty() {
            let link = links[self.rng.usize(..links.len())];
            self.cut(link);
        }
    }

    /// Lets through again what was held back.
    pub(super) fn heal(&mut self) {
        self.net.blocked.clear();
        let mut arrivals = Vec::new();
        for (id, link) in &mut self.net.links {
            for (direction, flow) in &mut link.flows {
                for _ in 0..std::mem::take(&mut flow.stalled) {
                    arrivals.push((*id, *direction));
                }
            }
        }
        for (link, direction) in arrivals {
            self.plan(1, Happening::Arrival { link, direction });
        }
    }
}
