//! The network among the servers: election messages, and links from learners to the leader that carry bytes. It
//! delays, holds back, and breaks connections; what a connection carries stays in order, in pieces of any size.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use oxkeeper_core::membership::{configuration_text, read_configuration};
use oxkeeper_core::{
    Event, Sender, SnapshotIntake, SnapshotStream, decode_message, decode_notification, encode_message,
    encode_notification,
};
use oxkeeper_types::ServerId;
use oxkeeper_wire::QuorumPacket;
use oxkeeper_zab::{Incarnation, LinkId, Message, Notification};

use crate::ShellBug;
use crate::stats::Count;
use crate::world::{Happening, Place, World};

/// The longest data of a packet that a server takes.
const PACKET_DATA_MAX: usize = 4 * 1024 * 1024;

/// Which way something goes over a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    ToLeader,
    ToLearner,
}

impl Direction {
    fn sender(self) -> Sender {
        match self {
            Direction::ToLeader => Sender::Learner,
            Direction::ToLearner => Sender::Leader,
        }
    }
}

/// What arrives at once.
enum Piece {
    Bytes(Vec<u8>),
    Close,
}

#[derive(Default)]
struct Flow {
    pieces: VecDeque<(u64, Piece)>,
    queued_bytes: usize,
    /// When the last piece arrives.
    last_ms: u64,
    /// Arrivals that found the way blocked.
    stalled: u32,
    /// A snapshot that is being sent, and what waits behind it.
    stream: Option<SnapshotStream>,
    waiting: Vec<u8>,
    /// At the receiver: bytes that are no whole packet yet.
    received: Vec<u8>,
    intake: Option<SnapshotIntake>,
}

/// A connection between a learner and its leader.
pub(crate) struct Link {
    pub(crate) learner: Place,
    pub(crate) leader: Place,
    /// Which ends still use it, by [`Direction`] of what they send.
    open: [bool; 2],
    flows: [Flow; 2],
}

impl Link {
    fn ends(&self, direction: Direction) -> (Place, Place) {
        match direction {
            Direction::ToLeader => (self.learner, self.leader),
            Direction::ToLearner => (self.leader, self.learner),
        }
    }
}

#[derive(Default)]
pub(crate) struct Network {
    links: BTreeMap<LinkId, Link>,
    next_link: u64,
    /// From whom to whom nothing gets through.
    pub(crate) blocked: BTreeSet<(Place, Place)>,
    pub(crate) delay_max_ms: u64,
    /// Of 256 notifications, how many are lost with their connection.
    pub(crate) lost: u8,
    /// When the last notification from one to another arrives.
    notified_ms: BTreeMap<(Place, Place), u64>,
}

impl World {
    /// Mostly quick, sometimes as slow as it gets.
    pub(crate) fn delay(&mut self) -> u64 {
        let max = self.net.delay_max_ms;
        if self.rng.u8(..) < 200 {
            self.rng.u64(0..=max / 8)
        } else {
            self.rng.u64(0..=max)
        }
    }

    // ---- elections -------------------------------------------------------------------------------------------

    pub(crate) fn notify(&mut self, at: Place, to: ServerId, notification: &Notification) {
        self.check_vote(at, to, notification);
        let to = self.place_of(to);
        if self.net.blocked.contains(&(at, to)) || self.net.blocked.contains(&(to, at)) {
            return;
        }
        if self.rng.u8(..) < self.net.lost {
            // The connection broke, and another will come up.
            self.reconnect_election(at, to);
            return;
        }
        let mut bytes = Vec::new();
        let known = self.running(at).core.consensus().expect("it is a member");
        let known = configuration_text(known.configuration());
        encode_notification(notification, &known, &mut bytes);
        let last = self.net.notified_ms.get(&(at, to)).copied().unwrap_or(0);
        let arrives_ms = last.max(self.now_ms + self.delay());
        self.net.notified_ms.insert((at, to), arrives_ms);
        let boot = self.servers[to].boot;
        let in_ms = arrives_ms - self.now_ms;
        self.plan(
            in_ms,
            Happening::Notification {
                from: at,
                to,
                boot,
                bytes,
            },
        );
    }

    pub(crate) fn notification_arrives(&mut self, from: Place, to: Place, bytes: &[u8]) {
        if self.net.blocked.contains(&(from, to)) {
            return;
        }
        let (notification, known) = decode_notification(&bytes[4..])
            .unwrap_or_else(|error| panic!("a notification of {} cannot be read: {error}", from + 1));
        let known = known.map(|text| read_configuration(text.as_bytes()));
        if let Some(Ok(Some(known))) = known {
            self.tell_zab(to, oxkeeper_zab::Event::ConfigurationHeard(Arc::new(known)));
        }
        self.say(|| format!("{} to {}: {notification:?}", from + 1, to + 1));
        let from = self.servers[from].id;
        self.tell_zab(to, oxkeeper_zab::Event::Notification { from, notification });
    }

    /// An election connection comes up again, at both ends.
    pub(crate) fn reconnect_election(&mut self, a: Place, b: Place) {
        let in_ms = 1 + self.delay();
        for (at, peer) in [(a, b), (b, a)] {
            let boot = self.servers[at].boot;
            self.plan(in_ms, Happening::ElectionPeer { at, boot, peer });
        }
    }

    // ---- links -----------------------------------------------------------------------------------------------

    pub(crate) fn dial(&mut self, from: Place, to: ServerId, incarnation: Incarnation) {
        let leader = self.place_of(to);
        let blocked =
            self.net.blocked.contains(&(from, leader)) || self.net.blocked.contains(&(leader, from));
        let accepts = self.servers[leader]
            .running
            .as_ref()
            .is_some_and(|running| running.accepts);
        if blocked || !accepts {
            let boot = self.servers[from].boot;
            let delay = self.delay();
            let event = Event::Ensemble(oxkeeper_zab::Event::LeaderUnreachable { incarnation });
            self.plan(
                delay,
                Happening::Core {
                    at: from,
                    boot,
                    event,
                },
            );
            return;
        }
        let link = LinkId(self.net.next_link);
        self.net.next_link += 1;
        self.net.links.insert(
            link,
            Link {
                learner: from,
                leader,
                open: [true, true],
                flows: [Flow::default(), Flow::default()],
            },
        );
        self.tell_zab(leader, oxkeeper_zab::Event::LearnerConnected { link });
        self.tell_zab(from, oxkeeper_zab::Event::LeaderConnected { incarnation, link });
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
    pub(crate) fn receiver(&self, link: LinkId, direction: Direction) -> Option<Place> {
        Some(self.net.links.get(&link)?.ends(direction).1)
    }

    pub(crate) fn send_message(&mut self, at: Place, id: LinkId, message: &Message) {
        let Some(direction) = self.direction_from(at, id) else {
            return;
        };
        let mut bytes = Vec::new();
        encode_message(message, &mut bytes);
        let Some(link) = self.net.links.get_mut(&id) else {
            return;
        };
        let flow = &mut link.flows[direction as usize];
        if flow.stream.is_some() && self.shell_bug != Some(ShellBug::StreamOvertaken) {
            flow.waiting.extend_from_slice(&bytes);
        } else {
            self.send_bytes(id, direction, bytes);
        }
    }

    fn send_bytes(&mut self, id: LinkId, direction: Direction, bytes: Vec<u8>) {
        let delay = self.delay();
        let now_ms = self.now_ms;
        let Some(link) = self.net.links.get_mut(&id) else {
            return;
        };
        let flow = &mut link.flows[direction as usize];
        flow.queued_bytes += bytes.len();
        if flow.queued_bytes > self.scenario.queue_bytes_max {
            self.say(|| format!("a link of {direction:?} has a queue that is too long"));
            self.cut(id);
            return;
        }
        // What leaves together, mostly arrives together.
        if let Some((arrives_ms, Piece::Bytes(last))) = flow.pieces.back_mut()
            && *arrives_ms >= now_ms + delay
        {
            last.extend_from_slice(&bytes);
            return;
        }
        self.push(id, direction, delay, Piece::Bytes(bytes));
    }

    fn push(&mut self, id: LinkId, direction: Direction, delay: u64, piece: Piece) {
        let now_ms = self.now_ms;
        let Some(link) = self.net.links.get_mut(&id) else {
            return;
        };
        let flow = &mut link.flows[direction as usize];
        flow.last_ms = flow.last_ms.max(now_ms + delay);
        flow.pieces.push_back((flow.last_ms, piece));
        let in_ms = flow.last_ms - now_ms;
        self.plan(in_ms, Happening::Arrival { link: id, direction });
    }

    /// Begins to stream the tree of a leader to a learner; what is sent later over this link waits behind it.
    pub(crate) fn send_snapshot(&mut self, at: Place, id: LinkId) {
        let Some(direction) = self.direction_from(at, id) else {
            return;
        };
        let shared = self.running(at).shared.clone();
        let boot = self.servers[at].boot;
        let chunk_bytes = self.rng.usize(1..2000);
        let Some(link) = self.net.links.get_mut(&id) else {
            return;
        };
        let flow = &mut link.flows[direction as usize];
        assert!(flow.stream.is_none(), "two snapshots over one link");
        flow.stream = Some(SnapshotStream::begin(&shared.replica).in_chunks_of(chunk_bytes));
        self.stream_soon(at, boot, id);
    }

    fn stream_soon(&mut self, at: Place, boot: u64, link: LinkId) {
        let delay = self.delay();
        self.plan(delay, Happening::Stream { at, boot, link });
    }

    /// The next chunk of a snapshot is sent.
    pub(crate) fn stream(&mut self, at: Place, id: LinkId) {
        let shared = self.running(at).shared.clone();
        let Some(direction) = self.direction_from(at, id) else {
            return;
        };
        let Some(link) = self.net.links.get_mut(&id) else {
            return;
        };
        let flow = &mut link.flows[direction as usize];
        let Some(stream) = &mut flow.stream else {
            return;
        };
        let mut bytes = Vec::new();
        let more = stream.next_chunk(&shared.replica, &mut bytes);
        if more {
            self.send_bytes(id, direction, bytes);
            let boot = self.servers[at].boot;
            self.stream_soon(at, boot, id);
            return;
        }
        flow.stream = None;
        let waiting = std::mem::take(&mut flow.waiting);
        bytes.extend_from_slice(&waiting);
        self.send_bytes(id, direction, bytes);
        self.tell_zab(at, oxkeeper_zab::Event::SnapshotSent { link: id });
    }

    pub(crate) fn close_link(&mut self, at: Place, id: LinkId) {
        let Some(direction) = self.direction_from(at, id) else {
            return;
        };
        if let Some(link) = self.net.links.get_mut(&id) {
            link.open[direction as usize] = false;
            link.flows[direction as usize].stream = None;
        }
        let delay = self.delay();
        self.push(id, direction, delay, Piece::Close);
    }

    pub(crate) fn arrive(&mut self, id: LinkId, direction: Direction) {
        let (now_ms, splits) = (self.now_ms, self.rng.u8(..) < 20);
        let cut_at = self.rng.usize(..64);
        let Some(link) = self.net.links.get_mut(&id) else {
            return;
        };
        let (from, to) = link.ends(direction);
        let flow = &mut link.flows[direction as usize];
        if self.net.blocked.contains(&(from, to)) {
            flow.stalled += 1;
            return;
        }
        let Some((_, piece)) = flow.pieces.pop_front() else {
            return;
        };
        let back = match direction {
            Direction::ToLeader => Direction::ToLearner,
            Direction::ToLearner => Direction::ToLeader,
        };
        let is_read = link.open[back as usize];
        match piece {
            Piece::Bytes(mut bytes) => {
                if splits && bytes.len() > cut_at {
                    let rest = bytes.split_off(cut_at);
                    flow.pieces.push_front((now_ms, Piece::Bytes(rest)));
                    self.plan(0, Happening::Arrival { link: id, direction });
                }
                let Some(link) = self.net.links.get_mut(&id) else {
                    return;
                };
                let flow = &mut link.flows[direction as usize];
                flow.queued_bytes = flow.queued_bytes.saturating_sub(bytes.len());
                if is_read {
                    flow.received.extend_from_slice(&bytes);
                    self.take_received(id, direction, from, to);
                }
            }
            Piece::Close => {
                self.net.links.remove(&id);
                if is_read {
                    self.tell_zab(to, oxkeeper_zab::Event::LinkClosed { link: id });
                }
            }
        }
    }

    /// Takes from a link what has arrived whole.
    fn take_received(&mut self, id: LinkId, direction: Direction, from: Place, to: Place) {
        loop {
            let Some(link) = self.net.links.get_mut(&id) else {
                return;
            };
            let back = 1 - direction as usize;
            if !link.open[back] {
                return;
            }
            let flow = &mut link.flows[direction as usize];
            if let Some(intake) = &mut flow.intake {
                let progress = match intake.feed(&flow.received) {
                    Ok(progress) => progress,
                    Err(error) => {
                        self.snapshot_failed(id, to, &error.to_string());
                        return;
                    }
                };
                flow.received.drain(..progress.consumed);
                if !progress.is_complete {
                    return;
                }
                let Some(intake) = flow.intake.take() else {
                    return;
                };
                match intake.finish() {
                    Ok(snapshot) => {
                        self.stats.count(Count::Received);
                        let running = self.running(to);
                        running.received_snapshots.clear();
                        running.received_snapshots.insert(id, snapshot);
                        self.tell_zab(to, oxkeeper_zab::Event::SnapshotReceived { link: id });
                    }
                    Err(error) => {
                        self.snapshot_failed(id, to, &error.to_string());
                        return;
                    }
                }
                continue;
            }
            let decoded = QuorumPacket::decode(&flow.received, PACKET_DATA_MAX)
                .unwrap_or_else(|error| panic!("{} sent {} no packet: {error}", from + 1, to + 1));
            let Some((packet, used)) = decoded else {
                return;
            };
            let message = decode_message(&packet, direction.sender())
                .unwrap_or_else(|error| panic!("{} sent {} {packet:?}: {error}", from + 1, to + 1));
            flow.received.drain(..used);
            let Some(message) = message else {
                continue;
            };
            self.say(|| format!("{} to {}: {}", from + 1, to + 1, brief(&message)));
            let snapshot = match message {
                Message::Snap(zxid) => Some(zxid),
                _ => None,
            };
            self.check_received(to, direction, &message);
            self.tell_zab(to, oxkeeper_zab::Event::Received { link: id, message });
            let Some(zxid) = snapshot else {
                continue;
            };
            let tree_settings = self.servers[to].core_settings.tree.clone();
            let Some(running) = &self.servers[to].running else {
                return;
            };
            match SnapshotIntake::begin(&running.storage, &tree_settings, zxid) {
                Ok(intake) => {
                    if let Some(link) = self.net.links.get_mut(&id) {
                        link.flows[direction as usize].intake = Some(intake);
                    }
                }
                Err(error) => {
                    self.snapshot_failed(id, to, &error.to_string());
                    return;
                }
            }
        }
    }

    /// A snapshot could not be taken in: only for the sake of the disk, or because its sender ended it.
    fn snapshot_failed(&mut self, id: LinkId, at: Place, why: &str) {
        self.say(|| format!("{} cannot take in a snapshot: {why}", at + 1));
        assert!(
            self.servers[at].disk_is_hit,
            "{} cannot take in a snapshot: {why}",
            at + 1
        );
        self.cut(id);
    }

    // ---- trouble ---------------------------------------------------------------------------------------------

    /// Both ends of a link find it broken, each at its time; what was on its way is lost.
    fn cut(&mut self, id: LinkId) {
        let Some(link) = self.net.links.remove(&id) else {
            return;
        };
        for (end, at) in [link.learner, link.leader].into_iter().enumerate() {
            if link.open[end] && self.servers[at].running.is_some() {
                let boot = self.servers[at].boot;
                let delay = self.delay();
                let event = Event::Ensemble(oxkeeper_zab::Event::LinkClosed { link: id });
                self.plan(delay, Happening::Core { at, boot, event });
            }
        }
    }

    pub(crate) fn cut_links_of(&mut self, place: Place) {
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

    pub(crate) fn cut_a_link(&mut self) {
        let links: Vec<LinkId> = self.net.links.keys().copied().collect();
        if !links.is_empty() {
            let link = links[self.rng.usize(..links.len())];
            self.say(|| "a link breaks".to_owned());
            self.cut(link);
        }
    }

    /// Lets through again what was held back.
    pub(crate) fn heal(&mut self) {
        let blocked = std::mem::take(&mut self.net.blocked);
        let mut arrivals = Vec::new();
        for (id, link) in &mut self.net.links {
            for direction in [Direction::ToLeader, Direction::ToLearner] {
                for _ in 0..std::mem::take(&mut link.flows[direction as usize].stalled) {
                    arrivals.push((*id, direction));
                }
            }
        }
        for (link, direction) in arrivals {
            self.plan(1, Happening::Arrival { link, direction });
        }
        for (a, b) in blocked {
            self.reconnect_election(a, b);
        }
    }
}

/// A message, without the bytes of its txn.
fn brief(message: &Message) -> String {
    match message {
        Message::Proposal(entry) => format!("Proposal {}", entry.zxid),
        Message::Inform(entry) => format!("Inform {}", entry.zxid),
        Message::Opaque { kind, zxid, payload } => {
            format!("Opaque {kind} {zxid}, {} bytes", payload.len())
        }
        Message::Pong(zxid, touches) => format!("Pong {zxid}, {} sessions", touches.len() / 12),
        other => format!("{other:?}"),
    }
}
