//! A server as a member of an ensemble: what it asks its leader for, what it does for its learners, and when it
//! serves. What is committed, and who leads, the consensus decides (`oxkeeper-zab`).
//!
//! ```text
//!  learner                                   leader
//!   write ─▶ forward ──── REQUEST ─────────▶ claim the session, propose
//!   follow ◀── Deliver ◀─ COMMIT ◀────────── Deliver ─▶ apply, answer own clients
//!   sync ─────────────── REQUEST ─────────▶ waits for the txns before it
//!   answered ◀────────── SYNC ◀──────────── answered
//!   old session ──────── REVALIDATE ───────▶ lives? then this learner speaks for it
//!   sessions heard of ── PING's answer ────▶ touched
//! ```
//!
//! A learner's requests reach the leader in the order they were forwarded, are proposed in that order, and so come
//! back in that order: what is answered next is the oldest. Clients are served between `Serve` and `StopServing`
//! alone; at the end all their connections are closed, and what was in work is lost for them (quorum spec, 9).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use oxkeeper_tree::{ConnectionId, Overlay, Watches};
use oxkeeper_types::{ErrorCode, Id, OpCode, ServerId, SessionId, Txn, WriteRequest, Zxid};
use oxkeeper_wire as wire;
use oxkeeper_wire::{ForwardedRequest, PacketKind};
use oxkeeper_zab as zab;
use oxkeeper_zab::{Entry, LinkId, Message, PeerState, Zab};

use crate::local_sessions::needs_global_session;
use crate::membership::{configuration_text, read_configuration};
use crate::planted::PlantedBug;
use crate::server_core::{APPLY_BATCH_MAX, InFlight, ServerCore, Step};
use crate::sessions::{Claim, Owner, SessionKind, first_session_id};
use crate::{Action, Client, CloseReason, Delivery, Now, Replica, SessionTable, Shared};

/// Reads are not answered without a leader before it was looked for this long, or a tick if that is longer.
const READ_ONLY_AFTER_MS_MIN: u64 = 2000;

/// What a session takes in an answer to a PING: its id and its timeout.
const TOUCH_BYTES: usize = 12;

/// What a server is at the moment, as its clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It stands alone.
    Standalone,
    /// It has no leader, or is not caught up with it; clients are turned away.
    Looking,
    /// It leads.
    Leading,
    /// It follows and votes.
    Following,
    /// It follows without a vote.
    Observing,
    /// It has no leader, and answers reads of those who take that (`readonlymode.enabled`).
    ReadOnly,
}

/// What a server has beyond one that stands alone.
#[derive(Debug)]
pub(crate) struct Member {
    me: ServerId,
    zab: Zab,
    standing: Standing,
    /// The connections whose session the leader was asked about, with their negotiated timeouts in ms.
    revalidations: BTreeMap<SessionId, (Arc<Client>, i32)>,
    /// When the leader was last told of sessions.
    touches_told_ms: u64,
    /// When reads begin to be answered without a leader.
    read_only_from_ms: Option<u64>,
}

impl Member {
    /// The zxid after `last`, while this server leads and the epoch is not used up.
    pub(crate) fn next_zxid(&self, last: Zxid) -> Option<Zxid> {
        let next = self.zab.next_zxid()?;
        assert_eq!(
            next,
            last.next(),
            "Z4: the proposals of an epoch follow one another"
        );
        Some(next)
    }

    pub(crate) fn propose(&mut self, zxid: Zxid, entry: Vec<u8>, now: Now) {
        let txn = entry.into();
        self.zab
            .handle(zab::Event::Propose { zxid, txn }, now.monotonic_ms);
    }
}

impl ServerCore {
    /// A member of an ensemble over a recovered replica. It looks for a leader first.
    pub fn member(
        shared: Arc<Shared>,
        settings: zab::Settings,
        recovered: zab::Recovered,
        now: Now,
    ) -> ServerCore {
        let me = settings.me;
        let mut core = ServerCore::new(shared, me, now);
        core.sessions = SessionTable::new(core.shared.settings.tick_ms);
        core.member = Some(Member {
            me,
            zab: Zab::new(settings, recovered, now.monotonic_ms),
            standing: Standing::Looking,
            revalidations: BTreeMap::new(),
            touches_told_ms: now.monotonic_ms,
            read_only_from_ms: None,
        });
        core.run_consensus(now);
        core
    }

    /// What the server is at the moment.
    pub fn standing(&self) -> Standing {
        self.member
            .as_ref()
            .map_or(Standing::Standalone, |member| member.standing)
    }

    /// The consensus of a member, for those who want to show it.
    pub fn consensus(&self) -> Option<&Zab> {
        self.member.as_ref().map(|member| &member.zab)
    }

    pub(crate) fn consensus_deadline_ms(&self) -> u64 {
        let Some(member) = &self.member else {
            return u64::MAX;
        };
        let deadlines = [member.zab.next_deadline_ms(), member.read_only_from_ms];
        deadlines.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    pub(crate) fn handle_consensus_deadline(&mut self, now: Now) {
        let Some(member) = &mut self.member else { return };
        let is_due = |deadline: Option<u64>| deadline.is_some_and(|at_ms| at_ms <= now.monotonic_ms);
        if is_due(member.zab.next_deadline_ms()) {
            member.zab.handle(zab::Event::DeadlineReached, now.monotonic_ms);
        }
        if is_due(member.read_only_from_ms) {
            member.read_only_from_ms = None;
            if member.zab.is_electing() {
                member.standing = Standing::ReadOnly;
                self.actions.push_back(Action::ReportReadOnly);
            } else if member.zab.state() == PeerState::Looking {
                // A truncation or a snapshot of the last role may be on its way to the disk, and replace the tree.
                member.read_only_from_ms = Some(now.monotonic_ms + self.shared.settings.tick_ms.max(1));
            }
        }
    }

    /// Something happened on a link to another server, or on the disk.
    pub(crate) fn handle_ensemble_event(&mut self, now: Now, event: zab::Event) {
        let Some(member) = &mut self.member else {
            unreachable!("a server that stands alone has no peers");
        };
        // A txn that cannot be applied must not get into the log: no start would ever come past it.
        if let zab::Event::Received { link, message } = &event
            && let Message::Proposal(entry)
            | Message::Inform(entry)
            | Message::InformAndActivate { entry, .. } = message
            && let Err(what) = check_txn(entry)
        {
            self.refuse_peer(now, *link, what);
            return;
        }
        member.zab.handle(event, now.monotonic_ms);
    }

    /// Ends the link to a peer that broke the protocol.
    fn refuse_peer(&mut self, now: Now, link: LinkId, what: String) {
        self.actions.push_back(Action::ReportPeer { link, what });
        let reason = zab::CloseReason::Malformed;
        self.actions
            .push_back(Action::Ensemble(zab::Action::CloseLink(link, reason)));
        if let Some(member) = &mut self.member {
            member
                .zab
                .handle(zab::Event::LinkClosed { link }, now.monotonic_ms);
        }
    }

    /// Does what the consensus wants, in its order. Txns that were committed together are applied in one hold.
    pub(crate) fn run_consensus(&mut self, now: Now) {
        if self.member.is_none() {
            return;
        }
        let shared = self.shared.clone();
        let mut held = None;
        let mut applied = 0;
        while let Some(action) = self.member.as_mut().and_then(|member| member.zab.poll_action()) {
            if let zab::Action::Deliver(entry) = &action {
                let replica = held.get_or_insert_with(|| shared.replica.write());
                self.deliver_entry(now, replica, entry);
                applied += 1;
                if applied % APPLY_BATCH_MAX == 0 {
                    held = None;
                }
                continue;
            }
            match action {
                zab::Action::Serve { epoch, leader } => {
                    held = None;
                    self.begin_serving(now, epoch, leader);
                }
                zab::Action::StopServing(reason) => {
                    held = None;
                    self.stop_serving(now);
                    self.actions
                        .push_back(Action::Ensemble(zab::Action::StopServing(reason)));
                }
                zab::Action::AnswerPing { link, zxid } => self.answer_ping(now, link, zxid),
                zab::Action::PassOn { link, message, .. } => {
                    held = None;
                    let taken = match self.standing() {
                        Standing::Leading => self.take_from_learner(now, link, message),
                        _ => self.take_from_leader(now, message),
                    };
                    if let Err(error) = taken {
                        self.refuse_peer(now, link, error.to_string());
                    }
                }
                action => self.actions.push_back(Action::Ensemble(action)),
            }
        }
        drop(held);
        self.actions.extend(self.to_wake.drain(..).map(Action::Wake));
        let looks = self.consensus().map(Zab::state) == Some(PeerState::Looking);
        if self.standing() == Standing::ReadOnly && !looks {
            self.stop_serving(now);
        }
    }

    fn send(&mut self, link: LinkId, kind: PacketKind, zxid: Zxid, data: Option<&[u8]>, ids: Option<&[Id]>) {
        let mut payload = Vec::new();
        wire::encode_packet_body(data, ids, &mut payload);
        let message = Message::Opaque {
            kind: kind.0,
            zxid,
            payload: payload.into(),
        };
        self.actions
            .push_back(Action::Ensemble(zab::Action::Send { link, message }));
    }

    // ---- roles -----------------------------------------------------------------------------------------------

    fn begin_serving(&mut self, now: Now, epoch: u32, leader: ServerId) {
        let Some(member) = &mut self.member else { return };
        assert_eq!(
            member.standing,
            Standing::Looking,
            "a member serves in one role at a time"
        );
        member.standing = if leader == member.me {
            Standing::Leading
        } else if member.zab.state() == PeerState::Observing {
            Standing::Observing
        } else {
            Standing::Following
        };
        member.touches_told_ms = now.monotonic_ms;
        member.read_only_from_ms = None;
        let (me, leads) = (member.me, leader == member.me);
        self.shared.forwards.store(!leads, Relaxed);
        let mut replica = self.shared.replica.write();
        let configuration = member.zab.configuration();
        if !configuration.list.is_empty() {
            let config = configuration_text(configuration);
            let version = Zxid(configuration.version);
            replica
                .tree
                .set_config(config.into_bytes().into(), version, now.wall_ms);
        }
        replica.epoch_start = Zxid::new(epoch, 0);
        // A leader's snapshot may have ids of an earlier life that this one did not know of.
        let next = self.next_session_id;
        let known = replica.sessions.keys().copied().filter(|known| *known >= next);
        let first = first_session_id(me, now.wall_ms, replica.last_processed, known);
        self.next_session_id = next.max(first);
        if leads {
            // Nobody knows who was heard of by the leader before: all begin with their full timeout (S5).
            let is_new = self
                .shared
                .settings
                .planted
                .guards(PlantedBug::TimeoutsNotRenewed);
            let heard_ms = if is_new { now.monotonic_ms } else { 0 };
            for (&id, &timeout_ms) in &replica.sessions {
                self.sessions.add(id, timeout_ms, SessionKind::Global, heard_ms);
            }
            self.last_proposed = Zxid::new(epoch, 0);
            self.container_check_ms = now.monotonic_ms + self.shared.settings.containers.check_interval_ms;
        }
    }

    fn stop_serving(&mut self, now: Now) {
        let Some(member) = &mut self.member else { return };
        member.standing = Standing::Looking;
        member.read_only_from_ms = self
            .shared
            .settings
            .read_only_mode
            .then(|| now.monotonic_ms + self.shared.settings.tick_ms.max(READ_ONLY_AFTER_MS_MIN));
        let asking = std::mem::take(&mut member.revalidations);
        self.sessions = SessionTable::new(self.shared.settings.tick_ms);
        self.overlay = Overlay::default();
        self.container_candidates.clear();
        let shared = self.shared.clone();
        let mut replica = shared.replica.write();
        // Closed under the hold: whoever reads afterwards finds the word in its box first (S2).
        while let Some(step) = self.take_step() {
            self.close_later(step.client, CloseReason::NotServing);
        }
        for (client, _) in asking.into_values() {
            self.close_later(Some(client), CloseReason::NotServing);
        }
        if !self.guards(PlantedBug::ConnectionsOutliveRole) {
            return;
        }
        let clients: BTreeMap<_, _> = std::mem::take(&mut replica.clients).into_iter().collect();
        for client in clients.into_values() {
            self.close_later(Some(client), CloseReason::NotServing);
        }
        replica.epoch_start = Zxid::ZERO;
        *replica.watches.get_mut() = Watches::default();
        drop(replica);
        self.actions.extend(self.to_wake.drain(..).map(Action::Wake));
    }

    pub(crate) fn close_later(&mut self, client: Option<Arc<Client>>, reason: CloseReason) {
        if let Some(client) = client {
            self.deliver_later(client, Delivery::Close(reason));
        }
    }

    /// Takes over what the disk holds after a truncation or a received snapshot.
    pub(crate) fn replace_replica(&mut self, reloaded: Replica) {
        assert!(!self.serves(), "the tree is replaced while clients are served");
        if !self.guards(PlantedBug::ReloadForgotten) {
            return;
        }
        let before = self.shared.replica.write().replace_state(reloaded);
        drop(before);
    }

    // ---- txns ------------------------------------------------------------------------------------------------

    /// Applies a committed txn.
    fn deliver_entry(&mut self, now: Now, replica: &mut Replica, entry: &Entry) {
        if self.standing() != Standing::Leading {
            self.follow(now, replica, entry);
            return;
        }
        while let Some(step) = self.take_ready_step(entry.zxid) {
            self.finish_step(now, replica, step);
        }
        assert_eq!(
            replica.last_processed, entry.zxid,
            "a leader delivers what it proposed, in that order"
        );
    }

    /// Applies what the leader has committed, and answers the client if one of ours asked for it.
    fn follow(&mut self, now: Now, replica: &mut Replica, entry: &Entry) {
        let Ok((header, txn, digest)) = wire::decode_txn_entry(&entry.txn) else {
            unreachable!("{} was checked when it came in", entry.zxid);
        };
        let asked = self.take_forwarded(header.session, header.cxid);
        let (client, reads) = asked.map_or((None, Vec::new()), |asked| (asked.client, asked.reads));
        self.apply(replica, header, txn, digest, client.clone());
        self.answer_reads(now, replica, client.as_ref(), header.session, reads);
        self.finish_ready_steps(now, replica);
    }

    /// Does what waited only for its turn.
    fn finish_ready_steps(&mut self, now: Now, replica: &mut Replica) {
        while let Some(step) = self.take_ready_step(Zxid::ZERO) {
            self.finish_step(now, replica, step);
        }
    }

    /// The request of our own that has become a txn. Requests before it are lost: the leader has passed them over.
    fn take_forwarded(&mut self, session: SessionId, cxid: i32) -> Option<InFlight> {
        let is_it = |asked: &InFlight| {
            asked.session == session
                && matches!(asked.step, Step::Forwarded { cxid: of_this } if of_this == cxid)
        };
        let at = match self.in_flight.front()? {
            oldest if is_it(oldest) => 0,
            _ if !self.sessions.contains(session) => return None,
            _ => self.in_flight.iter().position(is_it)?,
        };
        self.lose_steps(at);
        self.take_step()
    }

    fn lose_steps(&mut self, count: usize) {
        for _ in 0..count {
            let lost = self.take_step();
            if !self.guards(PlantedBug::LostRequestsUnnoticed) {
                continue;
            }
            self.close_later(lost.and_then(|lost| lost.client), CloseReason::RequestLost);
        }
    }

    // ---- learner ---------------------------------------------------------------------------------------------

    fn leader_link(&self) -> Option<LinkId> {
        self.consensus().and_then(Zab::leader_link)
    }

    /// Asks the leader to propose what a client of ours wants.
    pub(crate) fn forward(
        &mut self,
        session: SessionId,
        cxid: i32,
        op: OpCode,
        body: &[u8],
        identities: &[Id],
        client: Option<Arc<Client>>,
    ) {
        self.send_request(
            session,
            cxid,
            op,
            body,
            Some(identities).filter(|ids| !ids.is_empty()),
        );
        self.enqueue(Step::Forwarded { cxid }, session, client);
    }

    pub(crate) fn forward_sync(
        &mut self,
        client: Arc<Client>,
        session: SessionId,
        path: Option<String>,
        xid: i32,
    ) {
        let mut body = Vec::new();
        wire::Encoder::new(&mut body).buffer(path.as_deref().map(str::as_bytes));
        let identities = client.identities();
        self.send_request(session, xid, OpCode::Sync, &body, Some(&identities));
        self.enqueue(Step::Sync { xid, path }, session, Some(client));
    }

    pub(crate) fn send_request(
        &mut self,
        session: SessionId,
        cxid: i32,
        op: OpCode,
        body: &[u8],
        identities: Option<&[Id]>,
    ) {
        let Some(link) = self.leader_link() else {
            // The role is over, and all connections are about to be closed.
            return;
        };
        let mut data = Vec::new();
        let op = op.code();
        let request = ForwardedRequest {
            session,
            cxid,
            op,
            body,
        };
        request.encode(&mut data);
        self.send(link, PacketKind::REQUEST, Zxid(-1), Some(&data), identities);
    }

    /// Asks the leader whether a session that came to us lives.
    pub(crate) fn ask_leader_for_session(&mut self, client: &Arc<Client>, id: SessionId, timeout_ms: i32) {
        let (Some(link), Some(member)) = (self.leader_link(), &mut self.member) else {
            return;
        };
        if let Some((before, _)) = member.revalidations.insert(id, (client.clone(), timeout_ms)) {
            self.deliver(&before, Delivery::Close(CloseReason::SessionRenewedElsewhere));
        }
        let mut data = Vec::new();
        wire::encode_revalidate(id, timeout_ms, &mut data);
        self.send(link, PacketKind::REVALIDATE, Zxid(-1), Some(&data), None);
    }

    /// A connection ended that may have asked for its old session.
    pub(crate) fn forget_revalidation(&mut self, client: &Client) {
        let gone: ConnectionId = client.id;
        if let Some(member) = &mut self.member
            && !member.revalidations.is_empty()
        {
            member.revalidations.retain(|_, (asking, _)| asking.id != gone);
        }
    }

    /// Tells the leader whom we heard from since the last time.
    fn answer_ping(&mut self, now: Now, link: LinkId, zxid: Zxid) {
        let Some(member) = &mut self.member else { return };
        let since_ms = std::mem::replace(&mut member.touches_told_ms, now.monotonic_ms);
        let mut heard = self.sessions.take_touches(since_ms);
        if !self.guards(PlantedBug::TouchesNotTold) {
            heard.clear();
        }
        // When all clients of a large ensemble come back at once they are too many for one packet, of which a leader
        // takes none of any length. An answer without sessions is one too.
        let told_max = (self.shared.settings.limits.request_bytes_max / TOUCH_BYTES).max(1);
        let mut left = &heard[..];
        loop {
            let (told, rest) = left.split_at(left.len().min(told_max));
            let mut touches = Vec::new();
            wire::encode_touches(told, &mut touches);
            let message = Message::Pong(zxid, touches.into());
            self.actions
                .push_back(Action::Ensemble(zab::Action::Send { link, message }));
            if rest.is_empty() {
                return;
            }
            left = rest;
        }
    }

    /// SYNC, or the answer to REVALIDATE. Other packets mean nothing to a learner, as to Java's.
    fn take_from_leader(&mut self, now: Now, message: Message) -> Result<(), wire::DecodeError> {
        let Message::Opaque { kind, payload, .. } = message else {
            return Ok(());
        };
        let (data, _) = wire::decode_packet_body(&payload)?;
        match PacketKind(kind) {
            PacketKind::SYNC => self.finish_sync(now),
            PacketKind::REVALIDATE => {
                let (id, lives) = wire::decode_revalidated(data.unwrap_or_default())?;
                self.take_revalidated(now, id, lives);
            }
            _ => {}
        }
        Ok(())
    }

    fn take_revalidated(&mut self, now: Now, id: SessionId, lives: bool) {
        let asking = self
            .member
            .as_mut()
            .and_then(|member| member.revalidations.remove(&id));
        let Some((client, timeout_ms)) = asking else {
            return;
        };
        if lives && !self.sessions.contains(id) {
            self.sessions
                .add(id, timeout_ms, SessionKind::OfLeader, now.monotonic_ms);
        }
        if lives {
            self.admit_renewed(now, &client, id, timeout_ms);
        } else {
            self.deliver(&client, Delivery::SessionRefused);
        }
    }

    /// The leader has answered the oldest sync: everything it had committed by then is here.
    fn finish_sync(&mut self, now: Now) {
        let is_sync = |asked: &InFlight| matches!(asked.step, Step::Sync { .. });
        let Some(at) = self.in_flight.iter().position(is_sync) else {
            return;
        };
        self.lose_steps(at);
        if let Some(step) = self.take_step() {
            let shared = self.shared.clone();
            let replica = &mut shared.replica.write();
            self.finish_step(now, replica, step);
            self.finish_ready_steps(now, replica);
        }
    }

    // ---- leader ----------------------------------------------------------------------------------------------

    /// Sessions heard of, REQUEST or REVALIDATE.
    fn take_from_learner(
        &mut self,
        now: Now,
        link: LinkId,
        message: Message,
    ) -> Result<(), wire::DecodeError> {
        let (kind, payload) = match message {
            Message::Pong(_, touches) => {
                for (id, timeout_ms) in wire::decode_touches(&touches)? {
                    if !self.guards(PlantedBug::TouchesIgnored) {
                        continue;
                    }
                    self.sessions.touch(id, timeout_ms, now.monotonic_ms);
                }
                return Ok(());
            }
            Message::Opaque { kind, payload, .. } => (PacketKind(kind), payload),
            _ => return Ok(()),
        };
        let (data, identities) = wire::decode_packet_body(&payload)?;
        let data = data.unwrap_or_default();
        match kind {
            PacketKind::REQUEST => {
                let request = ForwardedRequest::decode(data)?;
                self.take_request(now, link, &request, &identities.unwrap_or_default());
            }
            PacketKind::REVALIDATE => {
                let (id, timeout_ms) = wire::decode_revalidate(data)?;
                let lives = self.sessions.touch(id, timeout_ms, now.monotonic_ms);
                if lives {
                    self.move_session(id, link);
                }
                let mut answer = Vec::new();
                wire::encode_revalidated(id, lives, &mut answer);
                self.send(link, PacketKind::REVALIDATE, Zxid(-1), Some(&answer), None);
            }
            _ => {}
        }
        Ok(())
    }

    /// The client of a session has gone to a learner.
    fn move_session(&mut self, id: SessionId, link: LinkId) {
        if let Some(before) = self.sessions.client_of(id).cloned() {
            self.deliver(&before, Delivery::Close(CloseReason::SessionRenewedElsewhere));
        }
        self.sessions.set_owner(id, Owner::Learner(link));
    }

    /// A learner wants something proposed. Whatever it is takes a zxid, also when it fails: the learner waits for it.
    fn take_request(&mut self, now: Now, link: LinkId, request: &ForwardedRequest<'_>, identities: &[Id]) {
        let ForwardedRequest {
            session,
            cxid,
            op,
            body,
        } = *request;
        if self.in_flight.len() >= self.shared.settings.limits.proposals_outstanding_max {
            let what = "it asks for more than the limit proposals_outstanding_max allows".to_owned();
            self.refuse_peer(now, link, what);
            return;
        }
        let op = OpCode::from_code(op);
        if op == Some(OpCode::Sync) {
            self.enqueue(Step::LearnerSync { link }, session, None);
            self.apply_through(now, Zxid::ZERO);
            return;
        }
        let request = match op {
            Some(OpCode::CreateSession) => self.begin_learner_session(now, link, session, body),
            _ => match self.claim(session, link) {
                Claim::Expired => WriteRequest::Invalid(ErrorCode::SessionExpired),
                Claim::Moved if self.guards(PlantedBug::OwnerUnchecked) => {
                    WriteRequest::Invalid(ErrorCode::SessionMoved)
                }
                Claim::Granted | Claim::Moved if op == Some(OpCode::CloseSession) => {
                    self.sessions.begin_close(session);
                    WriteRequest::CloseSession
                }
                Claim::Granted | Claim::Moved => match op.map(|op| wire::decode_request(op, body)) {
                    Some(Ok(wire::Request::Write(request)))
                        if needs_global_session(&request) && !self.sessions.contains(session) =>
                    {
                        WriteRequest::Invalid(ErrorCode::EphemeralOnLocalSession)
                    }
                    Some(Ok(wire::Request::Write(request))) => request,
                    Some(_) => WriteRequest::Invalid(ErrorCode::MarshallingError),
                    None => WriteRequest::Invalid(ErrorCode::Unimplemented),
                },
            },
        };
        self.propose(now, session, cxid, request, identities, None);
    }

    fn begin_learner_session(
        &mut self,
        now: Now,
        link: LinkId,
        session: SessionId,
        body: &[u8],
    ) -> WriteRequest {
        match wire::Decoder::new(body).int() {
            Err(_) => WriteRequest::Invalid(ErrorCode::MarshallingError),
            // A session is begun once.
            Ok(_) if self.sessions.contains(session) => WriteRequest::Invalid(ErrorCode::SessionExpired),
            Ok(timeout_ms) => {
                self.sessions
                    .add(session, timeout_ms, SessionKind::Global, now.monotonic_ms);
                self.sessions.set_owner(session, Owner::Learner(link));
                WriteRequest::CreateSession { timeout_ms }
            }
        }
    }

    pub(crate) fn answer_learner_sync(&mut self, link: LinkId) {
        self.send(link, PacketKind::SYNC, Zxid::ZERO, None, None);
    }
}

/// Whether a proposed txn is one, and in its place.
fn check_txn(entry: &Entry) -> Result<(), String> {
    match wire::decode_txn_entry(&entry.txn) {
        Ok((header, Txn::Reconfig { data, .. }, _)) if header.zxid == entry.zxid => {
            match read_configuration(&data.unwrap_or_default()) {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err(format!(
                    "it sent the configuration {} without a server",
                    entry.zxid
                )),
                Err(error) => Err(format!("it sent the configuration {}: {error}", entry.zxid)),
            }
        }
        Ok((header, ..)) if header.zxid == entry.zxid => Ok(()),
        Ok((header, ..)) => Err(format!("it sent the txn {} as {}", header.zxid, entry.zxid)),
        Err(error) => Err(format!("it sent {}, which is no txn: {error}", entry.zxid)),
    }
}
