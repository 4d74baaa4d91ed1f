//! The writing side of a server: every change goes through here, one after the other.
//!
//! ```text
//!   Event::Write ──▶ prepare (through the overlay) ──▶ Action::AppendToLog
//!                                                              │ the shell makes it durable
//!   replies, watch events ◀── apply to the replica ◀── Event::LogDurable
//! ```
//!
//! A standalone server commits what its own log holds. Nothing is applied, and so nothing is acknowledged, before
//! the durable event came back (Z9, D2). A member of an ensemble leaves it to the consensus what is committed, and
//! asks its leader to propose when it does not lead itself; that is in `member.rs`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use oxkeeper_tree::{Caller, Change, ConnectionId, Overlay, QuotaExceeded};
use oxkeeper_types::{
    ErrorCode, Id, OpCode, Outcome, ServerId, SessionId, Txn, TxnDigest, TxnHeader, WriteRequest, Zxid,
};
use oxkeeper_wire as wire;
use oxkeeper_zab::LinkId;

use crate::local_sessions::needs_global_session;
use crate::member::{Member, Standing};
use crate::planted::PlantedBug;
use crate::reads::{Reader, answer};
use crate::replica::{Replica, Shared, WatchFire};
use crate::sessions::{Owner, SessionKind, first_session_id};
use crate::{Client, CloseReason, Delivery, Now, SessionTable, session_password};

/// Txns applied under one hold of the replica: enough to make the hold cheap, few enough that reads need not wait.
pub(crate) const APPLY_BATCH_MAX: usize = 64;

/// What can happen to the writing side.
#[derive(Debug)]
pub enum Event {
    /// A client wants a new session. `timeout_ms` is what was negotiated.
    OpenSession {
        /// Its connection.
        client: Arc<Client>,
        /// The negotiated timeout, ms.
        timeout_ms: i32,
        /// Whether it takes a server that only reads.
        read_only: bool,
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
        /// Whether it takes a server that only reads.
        read_only: bool,
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
        /// The same in the client's words, on a server that forwards it.
        body: Option<ForwardBody>,
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
        /// Its session.
        session: SessionId,
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
    /// A session is to end now, as if its time were over. Without effect where the session is not known, where its end
    /// is decided, and on a learner, whose leader alone may do that.
    ExpireSession {
        /// Which.
        session: SessionId,
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
    /// Tell the operator that another server broke the protocol; its link is closed.
    ReportPeer {
        /// The link it came over.
        link: LinkId,
        /// What it did.
        what: String,
    },
    /// Tell the operator that reads are answered from now on without a leader.
    ReportReadOnly,
    /// Something to do for the ensemble. Never [`oxkeeper_zab::Action::Deliver`], `Serve`, `AnswerPing` or
    /// `PassOn`, which the core does itself; `StopServing` is told for the operator's information.
    Ensemble(oxkeeper_zab::Action),
}

/// A write as its client wrote it, for the leader to read.
#[derive(Debug)]
pub struct ForwardBody {
    /// The operation.
    pub op: OpCode,
    /// What follows the request header.
    pub bytes: Box<[u8]>,
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
pub(crate) struct InFlight {
    pub(crate) step: Step,
    pub(crate) client: Option<Arc<Client>>,
    pub(crate) session: SessionId,
    /// What the connection asked after this and before its next step: answered as soon as this is applied, before
    /// anything else is.
    pub(crate) reads: Vec<DelayedRead>,
}

#[derive(Debug)]
pub(crate) enum Step {
    /// A txn that this server has proposed.
    Txn {
        header: TxnHeader,
        txn: Txn,
        digest: Option<TxnDigest>,
    },
    /// Waits for all txns before it; on a learner, for the word of the leader.
    Sync { xid: i32, path: Option<String> },
    /// A learner's sync, which waits for all txns before it.
    LearnerSync { link: LinkId },
    /// A request that the leader was asked to propose.
    Forwarded { cxid: i32 },
    /// The end of a session that only this server knows: no txn, but in the order of requests.
    LocalClose,
    /// A request that a learner refuses by itself, in its turn.
    Refused { code: ErrorCode },
}

/// The writing side of one server.
#[derive(Debug)]
pub struct ServerCore {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sessions: SessionTable,
    pub(crate) next_session_id: SessionId,
    /// What is proposed and not applied: the state that the next request is checked against.
    pub(crate) overlay: Overlay,
    /// The newest zxid given out; every txn in `in_flight` has a zxid up to this one, in order.
    pub(crate) last_proposed: Zxid,
    pub(crate) in_flight: VecDeque<InFlight>,
    /// How many steps were ever taken from the front of `in_flight`: the number of its first.
    steps_done: u64,
    /// The number of the newest step of each connection that has one in flight.
    pub(crate) newest_step: HashMap<ConnectionId, u64>,
    pub(crate) actions: VecDeque<Action>,
    /// When to look for containers and znodes whose time is over.
    pub(crate) container_check_ms: u64,
    /// Candidates found at that look, and when the next of them is removed.
    pub(crate) container_candidates: VecDeque<String>,
    container_removal_ms: u64,
    /// `None` for a server that stands alone.
    pub(crate) member: Option<Member>,
    /// Kept between batches for its memory.
    pub(crate) to_wake: Vec<Arc<Client>>,
}

impl ServerCore {
    /// The writing side over a recovered replica. All recovered sessions begin with their full timeout.
    /// The clock of `now` seeds the ids of new sessions.
    pub fn new(shared: Arc<Shared>, server: ServerId, now: Now) -> ServerCore {
        let mut sessions = SessionTable::new(shared.settings.tick_ms);
        let (last_proposed, next_session_id) = {
            let replica = shared.replica.read();
            for (&id, &timeout_ms) in &replica.sessions {
                sessions.add(id, timeout_ms, SessionKind::Global, now.monotonic_ms);
            }
            let known = replica.sessions.keys().copied();
            (
                replica.last_processed,
                first_session_id(server, now.wall_ms, replica.last_processed, known),
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
            member: None,
            to_wake: Vec::new(),
            shared,
        }
    }

    /// The only way in.
    pub fn handle_event(&mut self, now: Now, event: Event) {
        match event {
            Event::OpenSession {
                client,
                timeout_ms,
                read_only,
            } => {
                if self.admits(&client, read_only) {
                    self.open_session(now, client, timeout_ms);
                }
            }
            Event::RenewSession {
                client,
                session,
                password,
                timeout_ms,
                read_only,
            } => {
                if self.admits(&client, read_only) {
                    self.renew_session(now, &client, session, &password, timeout_ms);
                }
            }
            Event::Write {
                client,
                session,
                cxid,
                request,
                body,
                identities,
            } => {
                self.write(now, client, session, cxid, request, body, &identities);
            }
            Event::Read {
                client,
                session,
                read,
            } => self.read(now, client, session, read),
            Event::Sync {
                client,
                session,
                path,
                xid,
            } => self.sync(now, client, session, path, xid),
            Event::Disconnected { client } => self.disconnected(&client),
            Event::ExpireSession { session } => self.expire_session(now, session),
            Event::LogDurable { up_to } => self.apply_through(now, up_to),
            Event::Ensemble(event) => self.handle_ensemble_event(now, event),
            Event::ReplicaReloaded(replica) => self.replace_replica(*replica),
            Event::DeadlineReached => self.handle_deadline(now),
        }
        self.run_consensus(now);
    }

    fn handle_deadline(&mut self, now: Now) {
        self.expire_sessions(now);
        if self.proposes() {
            self.remove_containers(now);
        }
        self.handle_consensus_deadline(now);
    }

    /// The only way out.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to send [`Event::DeadlineReached`], monotonic ms.
    pub fn next_deadline_ms(&self) -> u64 {
        let others = self
            .consensus_deadline_ms()
            .min(self.sessions.next_due_ms().unwrap_or(u64::MAX));
        if !self.proposes() {
            return others;
        }
        let containers = match self.container_candidates.is_empty() {
            true => self.container_check_ms,
            false => self.container_removal_ms,
        };
        others.min(containers)
    }

    /// The sessions, for those who want to show them.
    pub fn sessions(&self) -> &SessionTable {
        &self.sessions
    }

    /// The newest zxid given out, applied or not.
    pub fn last_proposed(&self) -> Zxid {
        self.last_proposed
    }

    /// Syncs that wait for the txns before them, of own clients and of learners.
    pub fn pending_syncs(&self) -> usize {
        let is_sync = |of: &&InFlight| matches!(of.step, Step::Sync { .. } | Step::LearnerSync { .. });
        self.in_flight.iter().filter(is_sync).count()
    }

    fn open_session(&mut self, now: Now, client: Arc<Client>, timeout_ms: i32) {
        // A learner may have begun one of our ids: its server number need only be equal modulo 256.
        let mut id = self.next_session_id;
        while self.sessions.contains(id) {
            id = SessionId(id.0 + 1);
        }
        self.next_session_id = SessionId(id.0 + 1);
        let kind = self.kind_of_new_sessions();
        let session = self.sessions.add(id, timeout_ms, kind, now.monotonic_ms);
        self.sessions.set_owner(id, Owner::Client(client.clone()));
        client.set_session(session.clone(), timeout_ms);
        self.shared
            .replica
            .write()
            .clients
            .insert(client.id, client.clone());
        match kind {
            SessionKind::Global => {
                let request = WriteRequest::CreateSession { timeout_ms };
                self.propose(now, id, 0, request, &[], Some(client));
            }
            SessionKind::OfLeader => {
                let body = timeout_ms.to_be_bytes();
                self.forward(id, 0, OpCode::CreateSession, &body, &[], Some(client));
            }
            SessionKind::Local => self.deliver_opened(&client, session, timeout_ms),
        }
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
        if id == SessionId::NONE || password != session_password(id) {
            self.deliver(client, Delivery::SessionRefused);
        } else if self.proposes() || self.sessions.is_local(id) {
            self.admit_renewed(now, client, id, timeout_ms);
        } else if self.standing() == Standing::ReadOnly {
            self.deliver(client, Delivery::Close(CloseReason::ReadOnly));
        } else {
            self.ask_leader_for_session(client, id, timeout_ms);
        }
    }

    /// Gives a session that came back to its new connection, if it lives.
    pub(crate) fn admit_renewed(&mut self, now: Now, client: &Arc<Client>, id: SessionId, timeout_ms: i32) {
        match self.sessions.renew(id, client, timeout_ms, now.monotonic_ms) {
            Some(session) => {
                client.set_session(session.clone(), timeout_ms);
                self.shared
                    .replica
                    .write()
                    .clients
                    .insert(client.id, client.clone());
                self.deliver_opened(client, session, timeout_ms);
            }
            None => self.deliver(client, Delivery::SessionRefused),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the whole of one request")]
    fn write(
        &mut self,
        now: Now,
        client: Arc<Client>,
        session: SessionId,
        cxid: i32,
        request: WriteRequest,
        body: Option<ForwardBody>,
        identities: &[Id],
    ) {
        // A newer connection may have the session, or it has ended; then this one is being closed.
        if !self.has_live_session(&client, session) {
            return;
        }
        if matches!(request, WriteRequest::CloseSession) {
            self.sessions.begin_close(session);
            if self.sessions.is_local(session) {
                self.enqueue(Step::LocalClose, session, Some(client));
                self.apply_through(now, Zxid::ZERO);
                return;
            }
        }
        if self.standing() == Standing::ReadOnly {
            self.refuse_write(&client);
            return;
        }
        let request = match request {
            request if !needs_global_session(&request) => request,
            request => self.with_global_session(now, session, request),
        };
        if self.proposes() {
            self.propose(now, session, cxid, request, identities, Some(client));
        } else if let WriteRequest::Invalid(code @ ErrorCode::EphemeralOnLocalSession) = request {
            // The leader does not know the session, and a Java leader would say that it has expired.
            self.enqueue(Step::Refused { code }, session, Some(client));
            self.apply_through(now, Zxid::ZERO);
        } else if let Some(ForwardBody { op, bytes }) = body {
            self.forward(session, cxid, op, &bytes, identities, Some(client));
        }
    }

    /// Whether a sync needs nobody else: what was proposed before it is here.
    fn answers_syncs(&self) -> bool {
        self.proposes() || !self.guards(PlantedBug::SyncAnsweredEarly)
    }

    fn sync(&mut self, now: Now, client: Arc<Client>, session: SessionId, path: Option<String>, xid: i32) {
        if !self.has_live_session(&client, session) {
            return;
        }
        if self.standing() == Standing::ReadOnly {
            self.refuse_write(&client);
        } else if self.answers_syncs() {
            self.enqueue(Step::Sync { xid, path }, session, Some(client));
            self.apply_through(now, Zxid::ZERO);
        } else {
            self.forward_sync(client, session, path, xid);
        }
    }

    /// Turns a request into the next txn of the history, a failed one into an error txn.
    pub(crate) fn propose(
        &mut self,
        now: Now,
        session: SessionId,
        cxid: i32,
        request: WriteRequest,
        identities: &[Id],
        client: Option<Arc<Client>>,
    ) {
        let Some(zxid) = self.next_zxid() else {
            // The epoch is used up. This leader steps down when all it has proposed is committed, and closes all
            // connections; this one at once, or what it asks next would be answered before this (S1).
            if let Some(client) = client {
                self.sessions.drop_client(session, &client);
                self.deliver(&client, Delivery::Close(CloseReason::NotServing));
            }
            return;
        };
        let request = match request {
            WriteRequest::Reconfig(reconfig) => self.plan_reconfig(reconfig, zxid),
            request => request,
        };
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
        if !self.guards(PlantedBug::OverlayForgotten) {
            self.overlay = Overlay::default();
        }
        let mut entry = Vec::with_capacity(128);
        wire::encode_txn_entry(&mut entry, &header, &txn, digest.as_ref());
        match &mut self.member {
            None => self.actions.push_back(Action::AppendToLog { zxid, entry }),
            Some(member) => member.propose(zxid, entry, now),
        }
        let mut client = client;
        if !self.guards(PlantedBug::ReplyBeforeCommit)
            && let Txn::Error { code } = txn
            && let (Some(error), Some(client)) = (ErrorCode::from_code(code), client.take())
        {
            let outcome = Outcome::Failed(error);
            self.deliver(&client, Delivery::Outcome { zxid, outcome });
        }
        self.enqueue(Step::Txn { header, txn, digest }, session, client);
    }

    pub(crate) fn enqueue(&mut self, step: Step, session: SessionId, client: Option<Arc<Client>>) {
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

    /// Applies everything in flight through `committed`, and answers it.
    pub(crate) fn apply_through(&mut self, now: Now, committed: Zxid) {
        let shared = self.shared.clone();
        let mut next = self.take_ready_step(committed);
        while next.is_some() {
            let mut replica = shared.replica.write();
            for _ in 0..APPLY_BATCH_MAX {
                let Some(step) = next else { break };
                self.finish_step(now, &mut replica, step);
                next = self.take_ready_step(committed);
            }
            drop(replica);
            self.actions.extend(self.to_wake.drain(..).map(Action::Wake));
        }
    }

    /// Takes the first step, when nothing before it is left to wait for.
    pub(crate) fn take_ready_step(&mut self, committed: Zxid) -> Option<InFlight> {
        let is_ready = match self.in_flight.front()?.step {
            Step::Txn { header, .. } => header.zxid <= committed,
            Step::Sync { .. } => self.answers_syncs(),
            Step::LearnerSync { .. } => true,
            Step::LocalClose | Step::Refused { .. } => true,
            Step::Forwarded { .. } => false,
        };
        if is_ready { self.take_step() } else { None }
    }

    /// Takes the first step.
    pub(crate) fn take_step(&mut self) -> Option<InFlight> {
        let step = self.in_flight.pop_front()?;
        if let Some(client) = &step.client
            && self.newest_step.get(&client.id) == Some(&self.steps_done)
        {
            self.newest_step.remove(&client.id);
        }
        self.steps_done += 1;
        Some(step)
    }

    pub(crate) fn finish_step(&mut self, now: Now, replica: &mut Replica, done: InFlight) {
        let InFlight {
            step,
            client,
            session,
            reads,
        } = done;
        match step {
            Step::Txn { header, txn, digest } => self.apply(replica, header, txn, digest, client.clone()),
            Step::LearnerSync { link } => self.answer_learner_sync(link),
            Step::LocalClose => self.finish_local_close(replica, session, client.clone()),
            Step::Refused { code } => {
                if let Some(client) = client.clone() {
                    let (zxid, outcome) = (replica.last_processed, Outcome::Failed(code));
                    self.deliver_later(client, Delivery::Outcome { zxid, outcome });
                }
            }
            Step::Forwarded { .. } => unreachable!("a forwarded request ends with the txn it became"),
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
        self.answer_reads(now, replica, client.as_ref(), session, reads);
    }

    /// Answers what a connection asked behind a step that is done now.
    pub(crate) fn answer_reads(
        &mut self,
        now: Now,
        replica: &Replica,
        client: Option<&Arc<Client>>,
        session: SessionId,
        reads: Vec<DelayedRead>,
    ) {
        for read in reads {
            if let Some(client) = client {
                self.answer(now, replica, client, session, &read);
            }
        }
    }

    pub(crate) fn apply(
        &mut self,
        replica: &mut Replica,
        header: TxnHeader,
        txn: Txn,
        digest: Option<TxnDigest>,
        client: Option<Arc<Client>>,
    ) {
        let TxnHeader { session, zxid, .. } = header;
        let is_own = self.proposes();
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
            let on_change = &mut |change: Change<'_>| fire.fire(&change);
            if is_own {
                replica.tree.apply(&header, txn, on_change)
            } else {
                replica.tree.follow(&header, txn, on_change)
            }
        };
        replica.advance(zxid);
        self.overlay.committed(zxid);
        // Before a member serves, its tree may be a fuzzy snapshot, which holds effects of later txns.
        if self.serves() && digest.is_some_and(|predicted| predicted != replica.tree.digest()) {
            self.shared.stats.digest_mismatches.fetch_add(1, Relaxed);
        }
        if let Some(timeout_ms) = begins_session {
            replica.sessions.insert(session, timeout_ms);
            if let Some(client) = client
                && let Some((session, _)) = client.session()
            {
                let opened = Delivery::SessionOpened {
                    session,
                    timeout_ms,
                    read_only: false,
                };
                self.deliver_later(client, opened);
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
    pub(crate) fn deliver_later(&mut self, client: Arc<Client>, delivery: Delivery) {
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
            if !self.guards(PlantedBug::LearnerEndsSessions) && self.serves() && !self.proposes() {
                self.send_request(session.id, 0, OpCode::CloseSession, &[], None);
            }
        }
        self.forget_revalidation(client);
    }

    fn expire_sessions(&mut self, now: Now) {
        for id in self.sessions.take_expired(now.monotonic_ms) {
            self.expire_session(now, id);
        }
    }

    fn expire_session(&mut self, now: Now, id: SessionId) {
        if self.sessions.is_local(id) {
            self.expire_local_session(id);
        } else if self.proposes() && self.next_zxid().is_some() && self.sessions.begin_close(id) {
            // When the epoch is used up, the next leader looks after the session.
            self.propose(now, id, 0, WriteRequest::CloseSession, &[], None);
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

    pub(crate) fn deliver(&mut self, client: &Arc<Client>, delivery: Delivery) {
        if client.deliver(delivery, usize::MAX) {
            self.actions.push_back(Action::Wake(client.clone()));
        }
    }
}

impl ServerCore {
    /// Whether this server turns requests into txns itself.
    pub(crate) fn proposes(&self) -> bool {
        matches!(self.standing(), Standing::Standalone | Standing::Leading)
    }

    /// Whether the guard against `bug` is in place.
    pub(crate) fn guards(&self, bug: PlantedBug) -> bool {
        self.shared.settings.planted.guards(bug)
    }

    /// Whether clients are served.
    pub(crate) fn serves(&self) -> bool {
        self.standing() != Standing::Looking
    }

    /// The zxid of the next txn; `None` when there can be no further one in this epoch.
    fn next_zxid(&self) -> Option<Zxid> {
        match &self.member {
            None => Some(next_zxid(self.last_proposed)),
            Some(member) => member.next_zxid(self.last_proposed),
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
