//! People with sessions, and their connections to servers: real [`Connection`]s at the servers' ends.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use oxkeeper_core::{Client, CloseReason, Connection, Verdict};
use oxkeeper_model::client::{auth, set_watches};
use oxkeeper_model::{Ask, Frame, Observer, Watches, requests, split_frames};
use oxkeeper_tree::ConnectionId;
use oxkeeper_types::{SessionId, WriteRequest, Zxid};
use oxkeeper_wire::{ConnectRequest, Request, encode_request, frame, next_frame};

use crate::stats::Count;
use crate::world::{Happening, Place, World};

/// Somebody with at most one session at a time.
pub(crate) struct Person {
    /// The connection in use.
    pub(crate) connection: Option<usize>,
    pub(crate) session: SessionId,
    password: Vec<u8>,
    seen: Zxid,
    /// The watches of the last connection.
    watches: Watches,
    only_reads: bool,
    /// Until when nothing is heard from this person, not even a ping.
    silent_until_ms: u64,
    timeout_ms: u64,
    /// Writes acknowledged since the storm is over.
    pub(crate) written_in_calm: u32,
}

/// How a connection is, at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Down,
}

/// What travels to a client.
enum Piece {
    Bytes(Vec<u8>),
    Closed,
}

/// A frame on its way to a server.
struct Sending {
    /// Where it ends in all that was sent.
    end: usize,
    /// Whether it keeps the session alive.
    touches: bool,
    /// The xid, if it is a sync.
    sync: Option<i32>,
}

/// A connection, with both its ends.
pub(crate) struct Dialled {
    pub(crate) who: usize,
    pub(crate) server: Place,
    boot: u64,
    client: Arc<Client>,
    connection: Connection,
    state: State,
    look_is_planned: bool,
    // ---- on the way to the server
    sent: VecDeque<(u64, Vec<u8>)>,
    sent_until_ms: u64,
    /// Arrived and not taken yet.
    input: Vec<u8>,
    taken: usize,
    sent_bytes: usize,
    /// Of the frames that the server has not taken.
    frames: VecDeque<Sending>,
    // ---- on the way to the client
    answers: VecDeque<Piece>,
    answers_until_ms: u64,
    received: Vec<u8>,
    is_greeted: bool,
    is_used: bool,
    observer: Observer,
    /// The session it asked to go on with.
    renews: SessionId,
    /// The timeout it is to get, ms.
    timeout_ms: u64,
    /// When the oldest unanswered request was sent, or anything was heard last.
    heard_ms: u64,
    /// The syncs that the server has taken and not answered, and what each must at least show.
    syncs: VecDeque<(i32, Zxid)>,
}

impl Dialled {
    /// Whether it has, or wants to go on with, this session.
    pub(crate) fn asks_for(&self, session: SessionId) -> bool {
        self.renews == session
    }

    /// The timeout that it gives this session, if that is its own, ms.
    pub(crate) fn timeout_of(&self, session: SessionId) -> Option<u64> {
        let has = self.client.session().is_some_and(|(mine, _)| mine.id == session);
        (has || self.renews == session).then_some(self.timeout_ms)
    }
}

impl Person {
    pub(crate) fn new(rng: &mut fastrand::Rng) -> Person {
        Person {
            connection: None,
            session: SessionId::NONE,
            password: Vec::new(),
            seen: Zxid::ZERO,
            watches: Watches::new(),
            only_reads: rng.u8(..) < 40,
            silent_until_ms: 0,
            timeout_ms: 0,
            written_in_calm: 0,
        }
    }

    /// The storm is over.
    pub(crate) fn wake_up(&mut self) {
        self.silent_until_ms = 0;
        self.written_in_calm = 0;
    }

    /// It has a session, and answers to what it asked.
    fn is_served(&self) -> bool {
        self.written_in_calm > 2
    }
}

impl World {
    pub(crate) fn person_acts(&mut self, who: usize) {
        // In calm, often enough for the session to live.
        let pause_ms_max = match (self.stormy, self.people[who].timeout_ms) {
            (true, _) | (_, 0) => 2 * self.scenario.pause_ms,
            (false, timeout_ms) => (2 * self.scenario.pause_ms).min(timeout_ms / 3),
        };
        let pause = match self.rng.u8(..) {
            0..80 => self.rng.u64(0..=10),
            _ => self.rng.u64(0..=pause_ms_max),
        };
        self.plan(pause, Happening::PersonActs { who });
        let now_ms = self.now_ms;
        let person = &self.people[who];
        if person.silent_until_ms > now_ms {
            return;
        }
        let Some(connection) = person.connection else {
            return self.connect(who);
        };
        let patience_ms = (person.timeout_ms * 2 / 3).max(self.scenario.tick_ms * 2);
        let dialled = &self.connections[connection];
        let waits = !dialled.is_greeted || !dialled.observer.unanswered.is_empty();
        if waits && dialled.heard_ms + patience_ms < now_ms {
            self.say(|| format!("{connection} of person {who} hears nothing and gives up"));
            return self.leave(who);
        }
        if dialled.observer.unanswered.len() > 20 {
            return;
        }
        match self.rng.u16(..1000) {
            0..6 if self.stormy => {
                // Somebody falls asleep; the session may expire.
                let sleep_ms = self.rng.u64(0..=self.scenario.tick_ms * 30);
                self.say(|| format!("person {who} is silent for {sleep_ms} ms"));
                self.people[who].silent_until_ms = now_ms + sleep_ms;
            }
            6..26 if self.stormy => self.leave(who),
            26..34 if self.stormy => {
                // On to another server, while the old connection lasts.
                self.note_seen(who);
                self.connect(who);
            }
            34..100 if self.people[who].only_reads => self.ask(connection, Ask::Request(Request::Ping)),
            _ => {
                let only_reads = match self.stormy {
                    true => self.people[who].only_reads,
                    false => self.has_written_enough(who),
                };
                let reconfigs_permille = self.scenario.reconfigs_permille;
                if self.stormy && reconfigs_permille > 0 && self.rng.u16(..1000) < reconfigs_permille {
                    for _ in 0..self.rng.usize(1..=2) {
                        let request = self.some_reconfig();
                        self.ask(
                            connection,
                            Ask::Request(Request::Write(WriteRequest::Reconfig(request))),
                        );
                    }
                }
                for _ in 0..self.rng.usize(1..=4) {
                    let newest = self.checks.newest();
                    let ask = requests::random(&mut self.rng, newest, only_reads);
                    let ends = matches!(ask, Ask::Request(Request::CloseSession));
                    if ends && (self.rng.u8(..) > 60 || !self.stormy) {
                        continue;
                    }
                    self.ask(connection, ask);
                }
            }
        }
    }

    fn some_server(&mut self) -> Place {
        self.rng.usize(..self.servers.len())
    }

    /// Takes over from the connection what is to be known at the next one.
    fn note_seen(&mut self, who: usize) {
        let person = &mut self.people[who];
        if let Some(old) = person.connection {
            let observer = &self.connections[old].observer;
            person.seen = person.seen.max(observer.seen);
            person.watches = observer.watches.clone();
        }
    }

    /// The client hangs up.
    fn leave(&mut self, who: usize) {
        self.note_seen(who);
        if let Some(connection) = self.people[who].connection.take() {
            self.hang_up(connection);
        }
    }

    fn hang_up(&mut self, connection: usize) {
        let delay = self.delay();
        let dialled = &mut self.connections[connection];
        dialled.is_used = false;
        dialled.sent.push_back((self.now_ms, Vec::new()));
        dialled.sent_until_ms = dialled.sent_until_ms.max(self.now_ms + delay);
        let in_ms = dialled.sent_until_ms - self.now_ms;
        self.plan(in_ms, Happening::ToServer { connection });
    }

    fn connect(&mut self, who: usize) {
        if let Some(old) = self.people[who].connection.take()
            && self.rng.bool()
        {
            self.hang_up(old);
        }
        let server = self.some_server();
        let boot = self.servers[server].boot;
        if self.servers[server].running.is_none() {
            return;
        }
        let number = self.connections.len();
        let person = &mut self.people[who];
        let is_friend = self.rng.bool();
        let longest_ms = self.scenario.timeout_ms_max;
        // In calm nobody is to lose a session.
        let timeout_ms = if self.stormy {
            self.rng.u64(1..=longest_ms)
        } else {
            longest_ms
        };
        let timeout_ms = i32::try_from(timeout_ms).unwrap_or(i32::MAX);
        let address = SocketAddr::from(([127, 0, 0, 1], 1000));
        let id = ConnectionId(u64::try_from(number).expect("few connections") + 1);
        let now = self.servers[server].clock.now(self.now_ms);
        let client = Arc::new(Client::new(id, address, now.monotonic_ms, Box::new(|| {})));
        let Some(running) = &self.servers[server].running else {
            return;
        };
        let dialled = Dialled {
            who,
            server,
            boot,
            connection: Connection::new(client.clone(), running.shared.clone()),
            client,
            state: State::Up,
            look_is_planned: false,
            sent: VecDeque::new(),
            sent_until_ms: 0,
            input: Vec::new(),
            taken: 0,
            sent_bytes: 0,
            frames: VecDeque::new(),
            answers: VecDeque::new(),
            answers_until_ms: 0,
            received: Vec::new(),
            is_greeted: false,
            is_used: true,
            observer: Observer::new(is_friend, person.seen),
            renews: person.session,
            timeout_ms: u64::try_from(timeout_ms)
                .unwrap_or(0)
                .max(self.scenario.tick_ms * 2),
            heard_ms: self.now_ms,
            syncs: VecDeque::new(),
        };
        person.connection = Some(number);
        person.timeout_ms = u64::try_from(timeout_ms)
            .unwrap_or(0)
            .max(self.scenario.tick_ms * 2);
        let mut bytes = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: person.seen,
            timeout_ms,
            session: person.session,
            password: person.password.clone(),
            read_only: Some(false),
        }
        .encode(&mut bytes);
        let (session, seen) = (person.session, person.seen);
        let watches = std::mem::take(&mut person.watches);
        self.connections.push(dialled);
        self.say(|| {
            format!(
                "{number}: person {who} dials {} with session {session}, seen {seen}, friend {is_friend}",
                server + 1
            )
        });
        self.send(number, bytes, false, None);
        if is_friend {
            let mut bytes = Vec::new();
            encode_request(&mut bytes, -4, &auth());
            self.send(number, bytes, false, None);
        }
        if !watches.is_empty() && self.rng.u8(..) < 170 {
            let paths = Observer::as_set_watches(&watches, seen);
            self.ask(number, Ask::Request(set_watches(paths)));
        }
    }

    fn ask(&mut self, connection: usize, ask: Ask) {
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
        self.say(|| format!("{connection} asks {xid}: {ask:?}"));
        let is_sync = matches!(ask, Ask::Request(Request::Sync { .. }));
        let dialled = &mut self.connections[connection];
        let is_late = dialled.observer.asked_close;
        if matches!(ask, Ask::Request(Request::CloseSession)) {
            let session = self.people[dialled.who].session;
            self.checks.note_close(session);
        }
        dialled.observer.asked_close |= matches!(ask, Ask::Request(Request::CloseSession));
        if dialled.observer.unanswered.is_empty() {
            dialled.heard_ms = self.now_ms;
        }
        if !dialled.is_greeted {
            // No real client does that: until it is told so, it does not have the session.
            self.checks.note_hasty(xid);
        }
        if !is_late {
            dialled.observer.unanswered.push_back(xid);
        }
        let is_friend = dialled.observer.is_friend;
        self.checks.history.send(xid, ask, is_friend, connection, is_late);
        let sync = (is_sync && !is_late).then_some(xid);
        self.send(connection, bytes, !is_late, sync);
    }

    fn send(&mut self, connection: usize, bytes: Vec<u8>, touches: bool, sync: Option<i32>) {
        let delay = self.delay();
        let now_ms = self.now_ms;
        let dialled = &mut self.connections[connection];
        dialled.sent_bytes += bytes.len();
        dialled.frames.push_back(Sending {
            end: dialled.sent_bytes,
            touches,
            sync,
        });
        if let Some((arrives_ms, last)) = dialled.sent.back_mut()
            && *arrives_ms >= now_ms + delay
            && !last.is_empty()
        {
            last.extend_from_slice(&bytes);
            return;
        }
        dialled.sent_until_ms = dialled.sent_until_ms.max(now_ms + delay);
        dialled.sent.push_back((dialled.sent_until_ms, bytes));
        let in_ms = dialled.sent_until_ms - now_ms;
        self.plan(in_ms, Happening::ToServer { connection });
    }

    // ---- at the server ---------------------------------------------------------------------------------------

    fn is_up(&self, connection: usize) -> bool {
        let dialled = &self.connections[connection];
        dialled.state == State::Up && self.runs(dialled.server, dialled.boot)
    }

    pub(crate) fn bytes_reach_server(&mut self, connection: usize) {
        let cut_at = if self.rng.u8(..) < 20 {
            self.rng.usize(1..40)
        } else {
            usize::MAX
        };
        let up = self.is_up(connection);
        let now_ms = self.now_ms;
        let dialled = &mut self.connections[connection];
        let Some((_, mut bytes)) = dialled.sent.pop_front() else {
            return;
        };
        if !up {
            return;
        }
        if bytes.is_empty() {
            self.end(connection, "the client hung up");
            return;
        }
        if bytes.len() > cut_at {
            let rest = bytes.split_off(cut_at);
            dialled.sent.push_front((now_ms, rest));
            dialled.input.extend_from_slice(&bytes);
            self.plan(0, Happening::ToServer { connection });
        } else {
            dialled.input.extend_from_slice(&bytes);
        }
        self.look_soon(connection);
    }

    /// The core has something for a connection.
    pub(crate) fn woken(&mut self, id: ConnectionId) {
        self.look_soon(usize::try_from(id.0).expect("few connections") - 1);
    }

    fn look_soon(&mut self, connection: usize) {
        let delay = if self.rng.u8(..) < 16 {
            self.rng.u64(0..=4)
        } else {
            0
        };
        let dialled = &mut self.connections[connection];
        if !dialled.look_is_planned {
            dialled.look_is_planned = true;
            self.plan(delay, Happening::Look { connection });
        }
    }

    /// The task of a connection looks at its input and its box.
    pub(crate) fn look(&mut self, connection: usize) {
        self.connections[connection].look_is_planned = false;
        if !self.is_up(connection) {
            return;
        }
        let at = self.connections[connection].server;
        let now = self.clock(at);
        let bound = self.sync_bound(at);
        let dialled = &mut self.connections[connection];
        let Some(running) = &mut self.servers[at].running else {
            return;
        };
        let mut out = Vec::new();
        let to_core = &mut running.to_core;
        let progress = dialled
            .connection
            .process(now, &dialled.input, &mut out, &mut |event| {
                to_core.push_back(event)
            });
        let has_work = !to_core.is_empty();
        dialled.input.drain(..progress.consumed);
        dialled.taken += progress.consumed;
        let mut heard = false;
        while let Some(frame) = dialled.frames.pop_front_if(|frame| frame.end <= dialled.taken) {
            heard |= frame.touches;
            if let Some(xid) = frame.sync {
                dialled.syncs.push_back((xid, bound));
            }
        }
        let session = dialled
            .client
            .session()
            .map(|(session, timeout_ms)| (session.id, timeout_ms));
        if heard && let Some((session, timeout_ms)) = session {
            self.note_heard(at, session, timeout_ms);
        }
        let had_output = !out.is_empty();
        if had_output {
            self.answer(connection, Piece::Bytes(out));
        }
        match progress.verdict {
            Verdict::Open => {}
            // Only the output may have been in the way, and it is sent.
            Verdict::Paused if had_output => self.look_soon(connection),
            Verdict::Paused => {}
            Verdict::Close(reason) => {
                self.check_reason(connection, &reason);
                self.end(connection, &reason.to_string());
            }
        }
        if has_work {
            self.work_soon(at);
        }
    }

    /// The server's end of a connection is over.
    fn end(&mut self, connection: usize, why: &str) {
        self.say(|| format!("{connection} ends: {why}"));
        let dialled = &mut self.connections[connection];
        dialled.state = State::Down;
        let at = dialled.server;
        if let Some(running) = &mut self.servers[at].running {
            let to_core = &mut running.to_core;
            dialled.connection.finish(&mut |event| to_core.push_back(event));
        }
        self.answer(connection, Piece::Closed);
        self.work_soon(at);
    }

    /// A server is gone, and its clients find out.
    pub(crate) fn cut_clients_of(&mut self, at: Place) {
        let boot = self.servers[at].boot;
        for connection in 0..self.connections.len() {
            let dialled = &mut self.connections[connection];
            if dialled.server == at && dialled.boot == boot && dialled.state == State::Up {
                dialled.state = State::Down;
                self.answer(connection, Piece::Closed);
            }
        }
    }

    /// Some connection of a client breaks.
    pub(crate) fn cut_a_client(&mut self) {
        let up: Vec<usize> = (0..self.connections.len())
            .filter(|connection| self.is_up(*connection))
            .collect();
        if !up.is_empty() {
            let connection = up[self.rng.usize(..up.len())];
            self.end(connection, "the connection breaks");
        }
    }

    fn work_soon(&mut self, at: Place) {
        let delay = if self.rng.u8(..) < 16 {
            self.rng.u64(0..=4)
        } else {
            0
        };
        let boot = self.servers[at].boot;
        if let Some(running) = &mut self.servers[at].running
            && !running.work_is_planned
        {
            running.work_is_planned = true;
            self.plan(delay, Happening::Work { at, boot });
        }
    }

    /// The core takes some of what its connections have for it.
    pub(crate) fn work(&mut self, at: Place) {
        self.running(at).work_is_planned = false;
        let all = self.running(at).to_core.len();
        let count = if self.rng.u8(..) < 220 {
            all
        } else {
            self.rng.usize(0..=all)
        };
        for _ in 0..count {
            let Some(event) = self.running(at).to_core.pop_front() else {
                break;
            };
            self.tell(at, event);
        }
        if count < all {
            self.work_soon(at);
        }
    }

    // ---- at the client ---------------------------------------------------------------------------------------

    fn answer(&mut self, connection: usize, piece: Piece) {
        let delay = self.delay();
        let now_ms = self.now_ms;
        let dialled = &mut self.connections[connection];
        dialled.answers_until_ms = dialled.answers_until_ms.max(now_ms + delay);
        dialled.answers.push_back(piece);
        let in_ms = dialled.answers_until_ms - now_ms;
        self.plan(in_ms, Happening::ToClient { connection });
    }

    pub(crate) fn bytes_reach_client(&mut self, connection: usize) {
        let now_ms = self.now_ms;
        let dialled = &mut self.connections[connection];
        let who = dialled.who;
        match dialled.answers.pop_front() {
            Some(Piece::Bytes(bytes)) if dialled.is_used => dialled.received.extend_from_slice(&bytes),
            Some(Piece::Closed) => {
                dialled.is_used = false;
                if self.people[who].connection == Some(connection) {
                    self.note_seen(who);
                    self.people[who].connection = None;
                }
                return;
            }
            Some(Piece::Bytes(_)) | None => return,
        }
        dialled.heard_ms = now_ms;
        let mut whole = 0;
        while let Ok(Some(range)) = next_frame(&dialled.received[whole..], usize::MAX) {
            whole += range.end;
        }
        let bytes: Vec<u8> = dialled.received.drain(..whole).collect();
        let mut is_greeted = dialled.is_greeted;
        for frame in split_frames(&bytes, &mut is_greeted) {
            self.connections[connection].is_greeted = true;
            self.see(connection, frame);
        }
    }

    fn see(&mut self, connection: usize, frame: Frame) {
        self.say(|| format!("{connection} sees {frame:?}"));
        self.stats.count(Count::Frames);
        let who = self.connections[connection].who;
        let is_current = self.people[who].connection == Some(connection);
        match &frame {
            Frame::Connected(response) => {
                let renews = self.connections[connection].renews;
                if response.session == SessionId::NONE {
                    if is_current && self.people[who].session == renews {
                        let person = &mut self.people[who];
                        person.session = SessionId::NONE;
                        person.password.clear();
                        person.watches.clear();
                        person.seen = Zxid::ZERO;
                    }
                } else {
                    if self.connections[connection].observer.asked_close {
                        self.checks.note_close(response.session);
                    }
                    if renews == SessionId::NONE {
                        self.check_session_begun(response.session);
                    } else {
                        assert_eq!(response.session, renews, "the session that was asked for");
                        self.stats.count(Count::Renewals);
                    }
                    if is_current {
                        let person = &mut self.people[who];
                        person.session = response.session;
                        person.password = response.password.to_vec();
                        person.timeout_ms = u64::try_from(response.timeout_ms).unwrap_or(0);
                    }
                }
            }
            Frame::Event { .. } => self.stats.count(Count::Events),
            Frame::Reply { xid, zxid, .. } => {
                self.check_shown(connection, *zxid);
                let dialled = &mut self.connections[connection];
                if dialled.syncs.front().is_some_and(|(of, _)| of == xid)
                    && let Some((_, bound)) = dialled.syncs.pop_front()
                {
                    assert!(
                        *zxid >= bound,
                        "S10: sync {xid} came back with {zxid}, its leader had committed {bound} when it was taken"
                    );
                    self.stats.count(Count::Syncs);
                }
                if let Some(sent) = self.checks.history.sent.get(xid)
                    && matches!(sent.ask, Ask::Request(Request::Write(_)))
                {
                    self.stats.count(Count::Acknowledged);
                    if !self.stormy {
                        self.people[who].written_in_calm += 1;
                    }
                }
            }
        }
        let ended = matches!(&frame, Frame::Reply { xid, err: 0, .. } if self.closes(*xid));
        self.connections[connection]
            .observer
            .take(frame, &self.checks.history);
        if ended && is_current {
            let person = &mut self.people[who];
            person.session = SessionId::NONE;
            person.password.clear();
            person.watches.clear();
            person.seen = Zxid::ZERO;
            person.connection = None;
        }
    }

    fn closes(&self, xid: i32) -> bool {
        let sent = self.checks.history.sent.get(&xid);
        sent.is_some_and(|sent| matches!(sent.ask, Ask::Request(Request::CloseSession)))
    }

    /// That the server had a right to close a connection for this reason.
    fn check_reason(&self, connection: usize, reason: &CloseReason) {
        let dialled = &self.connections[connection];
        let session = dialled.client.session().map(|(session, _)| session.id);
        match reason {
            CloseReason::SessionClosed => assert!(dialled.observer.asked_close),
            CloseReason::SessionExpired => assert!(
                session.is_some_and(|session| !self.checks.is_alive(session)),
                "{session:?} has not expired"
            ),
            CloseReason::SessionRenewedElsewhere => {
                let session = session.unwrap_or(dialled.renews);
                let others = self.connections.iter().enumerate();
                let mut theirs = others.filter(|(other, _)| *other != connection);
                assert!(
                    theirs.any(|(_, other)| other.renews == session),
                    "nobody else asked for {session}"
                );
            }
            CloseReason::SessionRefused => self.check_refused(dialled.server, dialled.renews),
            CloseReason::ClientAhead { .. } | CloseReason::NotServing | CloseReason::RequestLost => {}
            other => panic!("{connection} was closed: {other}"),
        }
    }

    /// Whether all people have what they want.
    pub(crate) fn people_are_served(&self) -> bool {
        self.people.iter().all(Person::is_served)
    }

    /// Where an epoch has room for a few txns only, more of them would end each before all servers have joined it.
    fn has_written_enough(&self, who: usize) -> bool {
        self.people[who].is_served() && self.servers[0].settings.counter_max < 1000
    }

    /// What is known of the people, for when they are not served.
    pub(crate) fn picture_of_people(&self) -> String {
        let of = |person: &Person| match person.connection {
            None => format!("session {} without a connection", person.session),
            Some(connection) => {
                let dialled = &self.connections[connection];
                format!(
                    "session {} at {} by {connection}, waits for {:?}",
                    person.session,
                    dialled.server + 1,
                    dialled.observer.unanswered
                )
            }
        };
        self.people.iter().map(of).collect::<Vec<_>>().join("; ")
    }
}
