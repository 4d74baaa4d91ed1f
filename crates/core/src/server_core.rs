//! The writing side of a server: every change goes through here, one after the other.
//!
//! ```text
//!   Event::Write ──▶ prepare (through the overlay) ──▶ Action::AppendToLog
//!                                                              │ the shell makes it durable
//!   replies, watch events ◀── apply to the replica ◀── Event::LogDurable
//! ```
//!
//! A standalone server commits what its own log holds. Nothing is applied, and so nothing is acknowledged, before
//! the durable event came back (Z9, D2).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use oxkeeper_tree::{Caller, ConnectionId, Overlay, QuotaExceeded};
use oxkeeper_types::{
    ErrorCode, Id, OpCode, ServerId, SessionId, Txn, TxnDigest, TxnHeader, WriteRequest, Zxid,
};
use oxkeeper_wire as wire;

use crate::reads::{Reader, answer};
use crate::replica::{Replica, Shared, WatchFire};
use crate::sessions::first_session_id;
use crate::{Client, CloseReason, Delivery, Now, SessionTable, session_password};

/// Txns applied under one hold of the replica: enough to make the hold cheap, few enough that reads need not wait.
const APPLY_BATCH_MAX: usize = 64;

/// What can happen to the writing side.
#[derive(Debug)]
pub enum Event {
    /// A client wants a new session. `timeout_ms` is what was negotiated.
    OpenSession {
        /// Its connection.
        client: Arc<Client>,
        /// The negotiated timeout, ms.
        timeout_ms: i32,
    },
    /// A client comes back with a session it had.
    RenewSession {
        /// Its new connection.
        client: Arc<Client>,
        /// The session it claims.
        session: SessionId,
        /// The password it shows.
        password: Vec<u8>,
        /// The newly negotiated timeout, ms.
        timeout_ms: i32,
    },
    /// A client asks for a change, the end of its session included.
    Write {
        /// Its connection.
        client: Arc<Client>,
        /// Its session.
        session: SessionId,
        /// The xid of the request.
        cxid: i32,
        /// What it asks for.
        request: WriteRequest,
        /// Who it had shown to be when the request came in.
        identities: Arc<[Id]>,
    },
    /// A client reads behind writes of its own.
    Read {
        /// Its connection.
        client: Arc<Client>,
        /// Its session.
        session: SessionId,
        /// What it asks.
        read: DelayedRead,
    },
    /// A client wants to know when everything before is applied.
    Sync {
        /// Its connection.
        client: Arc<Client>,
        /// Echoed in the answer.
        path: Option<String>,
        /// The xid of the request.
        xid: i32,
    },
    /// A connection ended.
    Disconnected {
        /// Which.
        client: Arc<Client>,
    },
    /// Everything through this zxid is on disk.
    LogDurable {
        /// The newest durable txn.
        up_to: Zxid,
    },
    /// Something happened among the servers of the ensemble: on a link to another server, or on the disk.
    /// [`oxkeeper_zab::Event::Propose`] and [`oxkeeper_zab::Event::DeadlineReached`] are the core's own to tell.
    Ensemble(oxkeeper_zab::Event),
    /// The state that a truncation or an installed snapshot leaves. Told before the write that brought it is told
    /// durable.
    ReplicaReloaded(Box<Replica>),
    /// The moment that [`ServerCore::next_deadline_ms`] named has come.
    DeadlineReached,
}

/// What the shell is to do.
#[derive(Debug)]
pub enum Action {
    /// Append this txn to the log; answer with [`Event::LogDurable`] once it is durable.
    AppendToLog {
        /// Its zxid.
        zxid: Zxid,
        /// The encoded entry.
        entry: Vec<u8>,
    },
    /// Let the connection look into its box.
    Wake(Arc<Client>),
    /// Tell the operator that a request exceeds a quota, or was refused for it.
    ReportQuota(QuotaExceeded),
    /// Something to do for the ensemble. Never [`oxkeeper_zab::Action::Deliver`], `Serve`, `AnswerPing` or
    /// `PassOn`, which the core does itself; `StopServing` is told for the operator's information.
    Ensemble(oxkeeper_zab::Action),
}

/// A read, a ping or an undecodable request that came while the core had work of the same connection.
#[derive(Debug)]
pub struct DelayedRead {
    /// The xid of the request.
    pub xid: i32,
    /// The operation.
    pub op: OpCode,
    /// The request, not decoded.
    pub body: Box<[u8]>,
    /// Who the connection had shown to be when the request came in.
    pub identities: Arc<[Id]>,
    /// When it came in, monotonic ms.
    pub received_ms: u64,
}

/// What was accepted and is not applied yet, in order.
#[derive(Debug)]
struct InFlight {
    step: Step,
    client: Option<Arc<Client>>,
    session: SessionId,
    /// What the connection asked after this and before its next step: answered as soon as this is applied, before
    /// anything else is.
    reads: Vec<DelayedRead>,
}

#[derive(Debug)]
enum Step {
    Txn {
        header: TxnHeader,
        txn: Txn,
        digest: Option<TxnDigest>,
    },
    /// Waits for all txns before it.
    Sync { xid: i32, path: Option<String> },
}

/// The writing side of one server.
#[derive(Debug)]
pub struct ServerCore {
    shared: Arc<Shared>,
    sessions: SessionTable,
    next_session_id: SessionId,
    /// What is proposed and not applied: the state that the next request is checked against.
    overlay: Overlay,
    /// The newest zxid given out; every txn in `in_flight` has a zxid up to this one, in order.
    last_proposed: Zxid,
    in_flight: VecDeque<InFlight>,
    /// How many steps were ever taken from the front of `in_flight`: the number of its first.
    steps_done: u64,
    /// The number of the newest step of each connection that has one in flight.
    newest_step: HashMap<ConnectionId, u64>,
    actions: VecDeque<Action>,
    /// When to look for containers and znodes whose time is over.
    container_check_ms: u64,
    /// Candidates found at that look, and when the next of them is removed.
    container_candidates: VecDeque<String>,
    container_removal_ms: u64,
    /// Kept between batches for its memory.
    to_wake: Vec<Arc<Client>>,
}

impl ServerCore {
    /// The writing side over a recovered replica. All recovered sessions begin with their full timeout.
    /// The clock of `now` seeds the ids of new sessions.
    pub fn new(shared: Arc<Shared>, server: ServerId, now: Now) -> ServerCore {
        let mut sessions = SessionTable::new(shared.settings.tick_ms);
        let (last_proposed, next_session_id) = {
            let replica = shared.replica.read();
            for (&id, &timeout_ms) in &replica.sessions {
                sessions.add(id, timeout_ms, now.monotonic_ms);
            }
            let known = replica.sessions.keys().copied();
            (
                replica.last_processed,
                first_session_id(server, now.wall_ms, known),
            )
        };
        ServerCore {
            sessions,
            next_session_id,
            overlay: Overlay::default(),
            last_proposed,
            in_flight: VecDeque::new(),
            steps_done: 0,
            newest_step: HashMap::new(),
            actions: VecDeque::new(),
            container_check_ms: now.monotonic_ms + shared.settings.containers.check_interval_ms,
            container_candidates: VecDeque::new(),
            container_removal_ms: 0,
            to_wake: Vec::new(),
            shared,
        }
    }

    /// The only way in.
    pub fn handle_event(&mut self, now: Now, event: Event) {
        match event {
            Event::OpenSession { client, timeout_ms } => self.open_session(now, client, timeout_ms),
            Event::RenewSession {
                client,
                session,
                password,
                timeout_ms,
            } => {
                self.renew_session(now, &client, session, &password, timeout_ms);
            }
            Event::Write {
                client,
                session,
                cxid,
                request,
                identities,
            } => {
                self.write(now, client, session, cxid, request, &identities);
            }
            Event::Read {
                client,
                session,
                read,
            } => self.read(now, client, session, read),
            Event::Sync { client, path, xid } => {
                self.enqueue(Step::Sync { xid, path }, SessionId::NONE, Some(client));
                self.apply_through(now, Zxid::ZERO);
            }
            Event::Disconnected { client } => self.disconnected(&client),
            Event::LogDurable { up_to } => self.apply_through(now, up_to),
            Event::Ensemble(_) | Event::ReplicaReloaded(_) => {
                unreachable!("a standalone server has no ensemble")
            }
            Event::DeadlineReached => {
                self.expire_sessions(now);
                self.remove_containers(now);
            }
        }
    }

    /// The only way out.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to send [`Event::DeadlineReached`], monotonic ms.
    pub fn next_deadline_ms(&self) -> u64 {
        let containers = match self.container_candidates.is_empty() {
            true => self.container_check_ms,
            false => self.container_removal_ms,
        };
        self.sessions
            .next_due_ms()
            .map_or(containers, |sessions| sessions.min(containers))
    }

    /// The sessions, for those who want to show them.
    pub fn sessions(&self) -> &SessionTable {
        &self.sessions
    }

    /// The newest zxid given out, applied or not.
    pub fn last_proposed(&self) -> Zxid {
        self.last_proposed
    }

    fn open_session(&mut self, now: Now, client: Arc<Client>, timeout_ms: i32) {
        let id = self.next_session_id;
        self.next_session_id = SessionId(id.0 + 1);
        let session = self.sessions.add(id, timeout_ms, now.monotonic_ms);
        self.sessions.set_client(id, &client);
        client.set_session(session, timeout_ms);
        self.shared
            .replica
            .write()
            .clients
            .insert(client.id, client.clone());
        self.propose(
            now,
            id,
            0,
            WriteRequest::CreateSession { timeout_ms },
            &[],
            Some(client),
        );
    }

    fn renew_session(
        &mut self,
        now: Now,
        client: &Arc<Client>,
        id: SessionId,
        password: &[u8],
        timeout_ms: i32,
    ) {
        // The newest connection wins, even one with a wrong password (client spec, section 2.4, step 9).
        if let Some(before) = self.sessions.client_of(id).cloned() {
            self.sessions.drop_client(id, &before);
            self.deliver(&before, Delivery::Close(CloseReason::SessionRenewedElsewhere));
        }
        let known = id != SessionId::NONE && password == session_password(id);
        let renewed = if known {
            self.sessions.renew(id, client, timeout_ms, now.monotonic_ms)
        } else {
            None
        };
        match renewed {
            Some(session) => {
                client.set_session(session.clone(), timeout_ms);
                self.shared
                    .replica
                    .write()
                    .clients
                    .insert(client.id, client.clone());
                self.deliver(client, Delivery::SessionOpened { session, timeout_ms });
            }
            None => self.deliver(client, Delivery::SessionRefused),
        }
    }

    fn write(
        &mut self,
        now: Now,
        client: Arc<Client>,
        session: SessionId,
        cxid: i32,
        request: WriteRequest,
        identities: &[Id],
    ) {
        // A newer connection may have the session, or it has ended; then this one is being closed.
        if !self.has_live_session(&client, session) {
            return;
        }
        if matches!(request, WriteRequest::CloseSession) {
            self.sessions.begin_close(session);
        }
        self.propose(now, session, cxid, request, identities, Some(client));
    }

    /// Turns a request into the next txn of the history, a failed one into an error txn.
    fn propose(
        &mut self,
        now: Now,
        session: SessionId,
        cxid: i32,
        request: WriteRequest,
        identities: &[Id],
        client: Option<Arc<Client>>,
    ) {
        let zxid = next_zxid(self.last_proposed);
        let header = TxnHeader {
            session,
            cxid,
            zxid,
            time: now.wall_ms,
        };
        let (txn, digest) = {
            let replica = self.shared.replica.read();
            let caller = Caller::new(session, identities, now.wall_ms);
            let settings = &self.shared.settings.tree;
            let prepared = replica
                .tree
                .prepare(&mut self.overlay, settings, &caller, zxid, request);
            self.actions
                .extend(prepared.quota_exceeded.into_iter().map(Action::ReportQuota));
            (prepared.txn, prepared.digest)
        };
        self.last_proposed = zxid;
        let mut entry = Vec::with_capacity(128);
        wire::encode_txn_entry(&mut entry, &header, &txn, digest.as_ref());
        self.actions.push_back(Action::AppendToLog { zxid, entry });
        self.enqueue(Step::Txn { header, txn, digest }, session, client);
    }

    fn enqueue(&mut self, step: Step, session: SessionId, client: Option<Arc<Client>>) {
        if let Some(client) = &client {
            self.newest_step
                .insert(client.id, self.steps_done + self.in_flight.len() as u64);
        }
        self.in_flight.push_back(InFlight {
            step,
            client,
            session,
            reads: Vec::new(),
        });
    }

    /// Whether `client` has the session, and nobody has decided its end.
    fn has_live_session(&self, client: &Client, session: SessionId) -> bool {
        self.sessions.is_live(session)
            && self
                .sessions
                .client_of(session)
                .is_some_and(|owner| owner.id == client.id)
    }

    /// Answers a read behind the newest step of its connection, or at once when that is done.
    fn read(&mut self, now: Now, client: Arc<Client>, session: SessionId, read: DelayedRead) {
        if !self.has_live_session(&client, session) {
            return;
        }
        let step = self.newest_step.get(&client.id).and_then(|number| {
            let at = usize::try_from(number - self.steps_done).ok()?;
            self.in_flight.get_mut(at)
        });
        match step {
            Some(step) => {
                step.session = session;
                step.reads.push(read);
            }
            None => {
                let shared = self.shared.clone();
                self.answer(now, &shared.replica.read(), &client, session, &read);
                self.actions.extend(self.to_wake.drain(..).map(Action::Wake));
            }
        }
    }

    fn answer(
        &mut self,
        now: Now,
        replica: &Replica,
        client: &Arc<Client>,
        session: SessionId,
        read: &DelayedRead,
    ) {
        if !replica.clients.contains_key(&client.id) {
            // The connection is gone, and a watch left now would stay for ever.
            return;
        }
        let DelayedRead {
            xid,
            op,
            body,
            identities,
            received_ms,
        } = read;
        let settings = &self.shared.settings;
        let wait_ms_max = settings.limits.throttled_op_wait_ms;
        let waited_ms = now.monotonic_ms.saturating_sub(*received_ms);
        let mut frames = Vec::new();
        if wait_ms_max > 0 && waited_ms > wait_ms_max && *op != OpCode::Ping {
            wire::reply_header(
                &mut frames,
                *xid,
                replica.last_processed,
                ErrorCode::ThrottledOp.code(),
            );
        } else {
            let reader = Reader {
                connection: client.id,
                session,
                identities,
                settings,
            };
            answer(replica, &reader, *xid, *op, body, &mut frames);
        }
        self.deliver_later(
            client.clone(),
            Delivery::Answer {
                zxid: replica.last_processed,
                frames,
            },
        );
    }

    /// Applies everything in flight that is durable, and answers it.
    fn apply_through(&mut self, now: Now, durable: Zxid) {
        let is_ready = |next: &mut InFlight| match next.step {
            Step::Txn { header, .. } => header.zxid <= durable,
            Step::Sync { .. } => true,
        };
        let shared = self.shared.clone();
        let mut next = self.in_flight.pop_front_if(is_ready);
        while next.is_some() {
            let mut replica = shared.replica.write();
            for _ in 0..APPLY_BATCH_MAX {
                let Some(step) = next else { break };
                self.finish_step(now, &mut replica, step);
                next = self.in_flight.pop_front_if(is_ready);
            }
            drop(replica);
            self.actions.extend(self.to_wake.drain(..).map(Action::Wake));
        }
    }

    fn finish_step(&mut self, now: Now, replica: &mut Replica, done: InFlight) {
        let InFlight {
            step,
            client,
            session,
            reads,
        } = done;
        if let Some(client) = &client
            && self.newest_step.get(&client.id) == Some(&self.steps_done)
        {
            self.newest_step.remove(&client.id);
        }
        self.steps_done += 1;
        match step {
            Step::Txn { header, txn, digest } => self.apply(replica, header, txn, digest, client.clone()),
            Step::Sync { xid, path } => {
                let mut frames = Vec::new();
                wire::reply(&mut frames, xid, replica.last_processed, |encoder| {
                    encoder.buffer(path.as_deref().map(str::as_bytes));
                });
                if let Some(client) = client.clone() {
                    self.deliver_later(
                        client,
                        Delivery::Answer {
                            zxid: replica.last_processed,
                            frames,
                        },
                    );
                }
            }
        }
        for read in reads {
            if let Some(client) = &client {
                self.answer(now, replica, client, session, &read);
            }
        }
    }

    fn apply(
        &mut self,
        replica: &mut Replica,
        header: TxnHeader,
        txn: Txn,
        digest: Option<TxnDigest>,
        client: Option<Arc<Client>>,
    ) {
        let TxnHeader { session, zxid, .. } = header;
        let ends_session = matches!(txn, Txn::CloseSession { .. });
        let begins_session = match txn {
            Txn::CreateSession { timeout_ms } => Some(timeout_ms),
            _ => None,
        };
        let outcome = {
            let mut fire = WatchFire {
                watches: replica.watches.get_mut(),
                clients: &replica.clients,
                settings: &self.shared.settings,
                zxid,
                to_wake: &mut self.to_wake,
            };
            replica.tree.apply(&header, txn, &mut |change| fire.fire(&change))
        };
        replica.advance(zxid);
        self.overlay.committed(zxid);
        if digest.is_some_and(|predicted| predicted != replica.tree.digest()) {
            self.shared.stats.digest_mismatches.fetch_add(1, Relaxed);
        }
        if let Some(timeout_ms) = begins_session {
            replica.sessions.insert(session, timeout_ms);
            if let Some(client) = client
                && let Some((session, _)) = client.session()
            {
                self.deliver_later(client, Delivery::SessionOpened { session, timeout_ms });
            }
            return;
        }
        if ends_session {
            assert_eq!(
                replica.tree.ephemerals_of(session).len(),
                0,
                "T3: session {session} left ephemerals"
            );
            replica.sessions.remove(&session);
            if let Some(holder) = self.sessions.remove(session)
                && client.as_ref().is_none_or(|client| client.id != holder.id)
            {
                self.deliver_later(holder, Delivery::Close(CloseReason::SessionExpired));
            }
        }
        // Without a client it is what the server asked for by itself, and nobody waits for the outcome.
        if let Some(client) = client {
            self.deliver_later(client, Delivery::Outcome { zxid, outcome });
        }
    }

    /// Delivers while the replica is held; the connection is woken once it is free.
    fn deliver_later(&mut self, client: Arc<Client>, delivery: Delivery) {
        if client.deliver(delivery, self.shared.settings.limits.deliveries_waiting_max) {
            self.to_wake.push(client);
        }
    }

    fn disconnected(&mut self, client: &Arc<Client>) {
        let mut replica = self.shared.replica.write();
        replica.clients.remove(&client.id);
        replica.watches.get_mut().drop_connection(client.id);
        drop(replica);
        if let Some((session, _)) = client.session() {
            self.sessions.drop_client(session.id, client);
        }
    }

    fn expire_sessions(&mut self, now: Now) {
        for id in self.sessions.take_expired(now.monotonic_ms) {
            if self.sessions.begin_close(id) {
                self.propose(now, id, 0, WriteRequest::CloseSession, &[], None);
            }
        }
    }

    fn remove_containers(&mut self, now: Now) {
        let settings = self.shared.settings.containers;
        if self.container_candidates.is_empty() && now.monotonic_ms >= self.container_check_ms {
            self.container_check_ms = now.monotonic_ms + settings.check_interval_ms.max(1);
            let replica = self.shared.replica.read();
            self.container_candidates = replica
                .tree
                .expired_candidates(now.wall_ms, &self.shared.settings.tree)
                .into();
        }
        while now.monotonic_ms >= self.container_removal_ms
            && let Some(path) = self.container_candidates.pop_front()
        {
            self.container_removal_ms = now.monotonic_ms
                + 60_000_u64
                    .checked_div(settings.removals_per_minute_max)
                    .unwrap_or(0);
            self.propose(
                now,
                SessionId::NONE,
                0,
                WriteRequest::DeleteContainer { path },
                &[],
                None,
            );
        }
    }

    fn deliver(&mut self, client: &Arc<Client>, delivery: Delivery) {
        if client.deliver(delivery, usize::MAX) {
            self.actions.push_back(Action::Wake(client.clone()));
        }
    }
}

/// The zxid after `last`. A standalone server has no election to begin a new epoch with; when the counter of an
/// epoch is used up it goes on with the first txn of the next one.
fn next_zxid(last: Zxid) -> Zxid {
    match last.counter() {
        u32::MAX => Zxid::new(last.epoch() + 1, 1),
        _ => last.next(),
    }
}
