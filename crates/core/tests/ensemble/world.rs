//! Servers in memory, driven step by step: real [`ServerCore`]s whose packets go through the real codec, with disks
//! that are durable at once and a network that delivers at once, in order, unless a test holds it.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use oxkeeper_core::membership::{Member, Membership, PeerAddress, find_configuration};
use oxkeeper_core::{
    Action, Client, CloseReason, Connection, CoreSettings, Event, Now, Replica, Sender, ServerCore, Shared,
    Standing, Verdict, decode_message, encode_message,
};
use oxkeeper_model::client::{Frame, brief, split_frames};
use oxkeeper_tree::ConnectionId;
use oxkeeper_types::{OpCode, ServerId, SessionId, Zxid};
use oxkeeper_wire::{ConnectRequest, QuorumPacket, Request, encode_request};
use oxkeeper_zab as zab;
use oxkeeper_zab::LinkId;

/// A client's connection with both its ends.
struct Session {
    at: usize,
    connection: Connection,
    woken: Arc<AtomicBool>,
    is_greeted: bool,
    closed: Option<CloseReason>,
    id: SessionId,
    /// Whether the server said that it only reads.
    only_reads: bool,
    password: Vec<u8>,
    next_xid: i32,
    asked: HashMap<i32, OpCode>,
    /// What it received since it was asked last, in few words.
    received: Vec<String>,
    last_zxid: Zxid,
}

struct Server {
    core: ServerCore,
    shared: Arc<Shared>,
    is_listening: bool,
    is_up: bool,
}

/// One end of a link between servers.
struct End {
    at: usize,
    other: LinkId,
    is_leader: bool,
}

pub(crate) struct World {
    now: Now,
    servers: Vec<Server>,
    sessions: Vec<Session>,
    ends: BTreeMap<LinkId, End>,
    /// Links of servers that are cut off, which they do not know yet.
    broken: Vec<(usize, LinkId)>,
    /// Packets to this server wait here.
    held: Option<(usize, VecDeque<(LinkId, zab::Message)>)>,
    next_id: u64,
    /// What clients say that they have seen.
    pub(crate) seen: Zxid,
    /// What was reported of peers.
    pub(crate) reports: Vec<String>,
    /// The most data of one packet of a learner.
    pub(crate) packet_bytes_max: usize,
}

impl World {
    /// Voters numbered from 1 (their place plus 1), then observers.
    pub(crate) fn new(voters: usize, observers: usize) -> World {
        World::with(voters, observers, |_| {})
    }

    pub(crate) fn with(voters: usize, observers: usize, adapt: impl FnOnce(&mut CoreSettings)) -> World {
        let now = Now {
            monotonic_ms: 10_000,
            wall_ms: 1_700_000_000_000,
        };
        let ids = |range: std::ops::Range<usize>| range.map(|at| ServerId(at as i64 + 1));
        let member = |at: usize| Member {
            is_observer: at >= voters,
            addresses: vec![PeerAddress {
                host: format!("host{}", at + 1),
                quorum_port: 2888,
                election_port: 3888,
            }],
            client: Some(("0.0.0.0".to_owned(), 2181)),
        };
        let membership = Membership {
            servers: (0..voters + observers)
                .map(|at| (ServerId(at as i64 + 1), member(at)))
                .collect(),
            ..Membership::default()
        };
        let configuration = Arc::new(membership.configuration().unwrap());
        let mut settings = CoreSettings {
            tick_ms: 100,
            session_timeout_ms_min: 200,
            ..CoreSettings::default()
        };
        adapt(&mut settings);
        let servers = ids(0..voters + observers)
            .map(|id| {
                let shared = Arc::new(Shared::new(Replica::empty(&settings.tree), settings.clone()));
                let mut consensus = zab::Settings::new(id, configuration.quorum.clone());
                consensus.tick_ms = 100;
                consensus.configuration = configuration.clone();
                consensus.find_configuration = settings.tree.reconfig_enabled.then_some(find_configuration);
                let nothing = zab::Recovered {
                    accepted_epoch: 0,
                    current_epoch: 0,
                    window_start: Zxid::ZERO,
                    window: Vec::new(),
                };
                Server {
                    core: ServerCore::member(shared.clone(), consensus, nothing, now),
                    shared,
                    is_listening: false,
                    is_up: true,
                }
            })
            .collect();
        let mut world = World {
            now,
            servers,
            sessions: Vec::new(),
            ends: BTreeMap::new(),
            broken: Vec::new(),
            held: None,
            next_id: 1,
            seen: Zxid::ZERO,
            reports: Vec::new(),
            packet_bytes_max: 1 << 20,
        };
        world.settle();
        world
    }

    /// Lets time pass until somebody leads and everybody up follows.
    pub(crate) fn settle(&mut self) {
        self.run();
        let deadline_ms = self.now.monotonic_ms + 10_000;
        while !self.is_settled() {
            assert!(self.now.monotonic_ms < deadline_ms, "no leader");
            self.pass(10);
        }
    }

    fn is_settled(&self) -> bool {
        let up = || self.servers.iter().filter(|server| server.is_up);
        up().all(|server| server.core.standing() != Standing::Looking)
            && up().any(|server| server.core.standing() == Standing::Leading)
    }

    pub(crate) fn standing(&self, at: usize) -> Standing {
        self.servers[at].core.standing()
    }

    pub(crate) fn core(&self, at: usize) -> &ServerCore {
        &self.servers[at].core
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now.monotonic_ms
    }

    pub(crate) fn leader(&self) -> usize {
        let leads = |server: &Server| server.is_up && server.core.standing() == Standing::Leading;
        self.servers.iter().position(leads).expect("somebody leads")
    }

    /// A server that is not the leader; `nth` from 0.
    pub(crate) fn follower(&self, nth: usize) -> usize {
        let follows = |at: &usize| self.standing(*at) == Standing::Following;
        (0..self.servers.len())
            .filter(follows)
            .nth(nth)
            .expect("so many follow")
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            self.now.monotonic_ms += 10;
            self.now.wall_ms += 10;
            for at in 0..self.servers.len() {
                if self.servers[at].is_up && self.servers[at].core.next_deadline_ms() <= self.now.monotonic_ms
                {
                    self.servers[at]
                        .core
                        .handle_event(self.now, Event::DeadlineReached);
                }
            }
            self.run();
        }
    }

    /// The server is cut off, or its process is stopped, until it goes on: its links break for the others.
    pub(crate) fn kill(&mut self, at: usize) {
        self.servers[at].is_up = false;
        for session in 0..self.sessions.len() {
            if self.sessions[session].at == at {
                self.sessions[session]
                    .closed
                    .get_or_insert(CloseReason::ServerStops);
            }
        }
        let ends: Vec<LinkId> = self.ends.keys().copied().collect();
        for link in ends {
            if self.ends.get(&link).is_some_and(|end| end.at == at) {
                self.close(link);
                self.broken.push((at, link));
            }
        }
        self.run();
    }

    /// The server goes on, and notices that its links are broken.
    pub(crate) fn revive(&mut self, at: usize) {
        self.servers[at].is_up = true;
        for (of, link) in std::mem::take(&mut self.broken) {
            if of == at {
                self.event(at, zab::Event::LinkClosed { link });
            } else {
                self.broken.push((of, link));
            }
        }
        self.run();
    }

    /// From now on packets to this server wait.
    pub(crate) fn hold(&mut self, at: usize) {
        self.held = Some((at, VecDeque::new()));
    }

    pub(crate) fn release(&mut self) {
        if let Some((_, packets)) = self.held.take() {
            for (link, message) in packets {
                self.tell(link, message);
            }
        }
        self.run();
    }

    /// The packets that wait are lost, without anybody noticing.
    pub(crate) fn forget_held(&mut self) {
        self.held = None;
    }

    /// Whoever runs the server wants a session to end.
    pub(crate) fn expire(&mut self, at: usize, session: SessionId) {
        let event = Event::ExpireSession { session };
        self.servers[at].core.handle_event(self.now, event);
        self.run();
    }

    pub(crate) fn last_processed(&self, at: usize) -> Zxid {
        self.servers[at].shared.replica.read().last_processed
    }

    /// Sends a learner something as if its leader had.
    pub(crate) fn forge_from_leader(&mut self, to: usize, message: zab::Message) {
        let link = *self
            .ends
            .iter()
            .find(|(_, end)| end.at == to && !end.is_leader)
            .unwrap()
            .0;
        self.tell(link, message);
        self.run();
    }

    /// Sends the leader something as if this learner had.
    pub(crate) fn forge_from_learner(&mut self, from: usize, message: zab::Message) {
        let link = self
            .ends
            .values()
            .find(|end| end.at == from && !end.is_leader)
            .unwrap()
            .other;
        self.tell(link, message);
        self.run();
    }

    // ---- clients ---------------------------------------------------------------------------------------------

    /// A new session at this server.
    pub(crate) fn connect(&mut self, at: usize) -> usize {
        let session = self.dial(at, SessionId::NONE, Vec::new(), false);
        self.run();
        session
    }

    /// A new session at a server that may read only.
    pub(crate) fn connect_to_read(&mut self, at: usize) -> usize {
        let session = self.dial(at, SessionId::NONE, Vec::new(), true);
        self.run();
        session
    }

    /// Comes back with a session at a server that may read only.
    pub(crate) fn reconnect_to_read(&mut self, before: usize, at: usize) -> usize {
        let (id, password) = (self.sessions[before].id, self.sessions[before].password.clone());
        let session = self.dial(at, id, password, true);
        self.run();
        session
    }

    /// Comes back with the session of `before` at another server.
    pub(crate) fn reconnect(&mut self, before: usize, at: usize) -> usize {
        let (id, password) = (self.sessions[before].id, self.sessions[before].password.clone());
        let session = self.dial(at, id, password, false);
        self.run();
        session
    }

    fn dial(&mut self, at: usize, id: SessionId, password: Vec<u8>, takes_read_only: bool) -> usize {
        let woken = Arc::new(AtomicBool::new(false));
        let wake = woken.clone();
        self.next_id += 1;
        let client = Arc::new(Client::new(
            ConnectionId(self.next_id),
            "10.0.0.1:4711".parse().unwrap(),
            self.now.monotonic_ms,
            Box::new(move || wake.store(true, Relaxed)),
        ));
        let mut request = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.seen,
            timeout_ms: 1000,
            session: id,
            password,
            read_only: Some(takes_read_only),
        }
        .encode(&mut request);
        self.sessions.push(Session {
            at,
            connection: Connection::new(client, self.servers[at].shared.clone()),
            woken,
            is_greeted: false,
            closed: None,
            id: SessionId::NONE,
            only_reads: false,
            password: Vec::new(),
            next_xid: 1,
            asked: HashMap::new(),
            received: Vec::new(),
            last_zxid: Zxid::ZERO,
        });
        let session = self.sessions.len() - 1;
        self.process(session, &request);
        session
    }

    /// Sends a request; the answer comes with [`World::take`].
    pub(crate) fn ask(&mut self, session: usize, request: &Request<'_>) {
        let this = &mut self.sessions[session];
        let xid = this.next_xid;
        this.next_xid += 1;
        this.asked.insert(xid, request.op());
        let mut bytes = Vec::new();
        encode_request(&mut bytes, xid, request);
        self.process(session, &bytes);
        self.run();
    }

    /// What the client received since the last time.
    pub(crate) fn take(&mut self, session: usize) -> String {
        std::mem::take(&mut self.sessions[session].received).join(" ")
    }

    /// Asks and waits.
    pub(crate) fn call(&mut self, session: usize, request: &Request<'_>) -> String {
        self.ask(session, request);
        self.take(session)
    }

    pub(crate) fn closed(&self, session: usize) -> Option<CloseReason> {
        self.sessions[session].closed.clone()
    }

    pub(crate) fn only_reads(&self, session: usize) -> bool {
        self.sessions[session].only_reads
    }

    pub(crate) fn session_id(&self, session: usize) -> SessionId {
        self.sessions[session].id
    }

    fn process(&mut self, session: usize, input: &[u8]) {
        let this = &mut self.sessions[session];
        if this.closed.is_some() {
            return;
        }
        let (mut out, mut events) = (Vec::new(), Vec::new());
        let progress = this
            .connection
            .process(self.now, input, &mut out, &mut |event| events.push(event));
        for frame in split_frames(&out, &mut this.is_greeted) {
            if let Frame::Connected(response) = &frame {
                (this.id, this.password) = (response.session, response.password.to_vec());
                this.only_reads = response.read_only == Some(true);
                continue;
            }
            if let Frame::Reply { zxid, .. } | Frame::Event { zxid, .. } = &frame {
                assert!(*zxid >= this.last_zxid, "S2: {frame:?} after {}", this.last_zxid);
                this.last_zxid = *zxid;
            }
            this.received.push(brief(&frame, &this.asked));
        }
        let at = this.at;
        for event in events {
            self.servers[at].core.handle_event(self.now, event);
        }
        if let Verdict::Close(reason) = progress.verdict {
            self.end(session, reason);
        }
    }

    fn end(&mut self, session: usize, reason: CloseReason) {
        let this = &mut self.sessions[session];
        if this.closed.replace(reason).is_some() {
            return;
        }
        let mut events = Vec::new();
        this.connection.finish(&mut |event| events.push(event));
        for event in events {
            self.servers[this.at].core.handle_event(self.now, event);
        }
    }

    // ---- the network and the disks ---------------------------------------------------------------------------

    /// Carries out all actions until nobody has any.
    fn run(&mut self) {
        loop {
            let mut quiet = true;
            for at in 0..self.servers.len() {
                while let Some(action) = self.servers[at].core.poll_action() {
                    quiet = false;
                    self.carry_out(at, action);
                }
            }
            for session in 0..self.sessions.len() {
                if self.sessions[session].woken.swap(false, Relaxed) {
                    quiet = false;
                    self.process(session, &[]);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn carry_out(&mut self, at: usize, action: Action) {
        if !self.servers[at].is_up {
            return;
        }
        match action {
            Action::Wake(client) => client.wake(),
            Action::ReportPeer { what, .. } => self.reports.push(what),
            Action::ReportQuota(_) | Action::ReportReadOnly => {}
            Action::AppendToLog { .. } => unreachable!("a member writes through the consensus"),
            Action::Ensemble(action) => self.carry_out_consensus(at, action),
        }
    }

    fn carry_out_consensus(&mut self, at: usize, action: zab::Action) {
        match action {
            zab::Action::SendNotification { to, notification } => {
                let from = ServerId(at as i64 + 1);
                let to = usize::try_from(to.0 - 1).unwrap();
                if let Some(known) = self.servers[at].core.consensus() {
                    let known = known.configuration().clone();
                    self.event(to, zab::Event::ConfigurationHeard(known));
                }
                self.event(to, zab::Event::Notification { from, notification });
            }
            zab::Action::ConnectToLeader { leader, incarnation } => {
                let to = usize::try_from(leader.0 - 1).unwrap();
                if !(self.servers[to].is_listening && self.servers[to].is_up) {
                    self.event(at, zab::Event::LeaderUnreachable { incarnation });
                    return;
                }
                let (mine, theirs) = (LinkId(self.next_id + 1), LinkId(self.next_id + 2));
                self.next_id += 2;
                for (link, at, other, is_leader) in [(mine, at, theirs, false), (theirs, to, mine, true)] {
                    self.ends.insert(link, End { at, other, is_leader });
                }
                self.event(to, zab::Event::LearnerConnected { link: theirs });
                let link = mine;
                self.event(at, zab::Event::LeaderConnected { incarnation, link });
            }
            zab::Action::AcceptLearners(listens) => self.servers[at].is_listening = listens,
            zab::Action::CloseLink(link, _) => self.close(link),
            zab::Action::Send { link, message } => self.send(link, &message),
            zab::Action::ReadLog { link, .. } => {
                self.event(at, zab::Event::LogRead { link, entries: None });
            }
            zab::Action::Write { id, .. } => self.event(at, zab::Event::Durable { write: id }),
            zab::Action::StopServing(_)
            | zab::Action::Configurations { .. }
            | zab::Action::Synchronizing { .. } => {}
            zab::Action::SendSnapshot(_)
            | zab::Action::Deliver(_)
            | zab::Action::Serve { .. }
            | zab::Action::AnswerPing { .. }
            | zab::Action::PassOn { .. } => unreachable!("not in these tests: {action:?}"),
        }
    }

    fn event(&mut self, at: usize, event: zab::Event) {
        if self.servers[at].is_up {
            self.servers[at]
                .core
                .handle_event(self.now, Event::Ensemble(event));
        }
    }

    /// Through the codec to the other end.
    fn send(&mut self, link: LinkId, message: &zab::Message) {
        let Some(end) = self.ends.get(&link) else { return };
        let (other, sender) = match end.is_leader {
            true => (end.other, Sender::Leader),
            false => (end.other, Sender::Learner),
        };
        let mut bytes = Vec::new();
        encode_message(message, &mut bytes);
        let data_bytes_max = match sender {
            Sender::Leader => 1 << 20,
            Sender::Learner => self.packet_bytes_max,
        };
        let (packet, length) = QuorumPacket::decode(&bytes, data_bytes_max).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        let decoded = decode_message(&packet, sender).unwrap().unwrap();
        assert_eq!(&decoded, message);
        self.tell(other, decoded);
    }

    fn tell(&mut self, link: LinkId, message: zab::Message) {
        let Some(end) = self.ends.get(&link) else { return };
        let at = end.at;
        match &mut self.held {
            Some((held, packets)) if *held == at => packets.push_back((link, message)),
            Some(_) | None => self.event(at, zab::Event::Received { link, message }),
        }
    }

    fn close(&mut self, link: LinkId) {
        let Some(end) = self.ends.remove(&link) else {
            return;
        };
        if let Some(other) = self.ends.remove(&end.other) {
            self.event(other.at, zab::Event::LinkClosed { link: end.other });
        }
    }
}
