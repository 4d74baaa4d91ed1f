//! One connection of a client: from bytes to requests, and from answers to bytes, in the order the protocol
//! promises.
//!
//! - Replies leave in the order of requests (S1). What is answered here is answered at once; what the core works on
//!   is in a queue, and its answers come in that order.
//! - A read that comes while a write of the same connection is in work follows it to the core, and is answered there
//!   between that write and the next (S3, S4). So many requests can be in work, and each sees what it must.
//! - A watch event leaves before any reply that shows the change (W1): the box of deliveries is emptied under the
//!   same hold of the replica under which reads are answered.
//! - Auth, and the refusal of unknown operations, are out of that order, as in Java.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use oxkeeper_types::{ErrorCode, Id, OpCode, Outcome, SessionId, WriteRequest, Zxid};
use oxkeeper_wire as wire;
use oxkeeper_wire::{ConnectRequest, ConnectResponse, Request, RequestHeader};

use crate::auth::authenticate;
use crate::planted::PlantedBug;
use crate::reads::{Reader, answer};
use crate::server_core::{DelayedRead, ForwardBody};
use crate::{Client, CloseReason, Delivery, Event, Now, Replica, SessionHandle, Shared, session_password};

/// What a look at the input came to.
#[derive(Debug)]
pub struct Progress {
    /// How many bytes of the input are done with; the rest must be shown again, with what follows it.
    pub consumed: usize,
    /// How to go on.
    pub verdict: Verdict,
}

/// How to go on with a connection. Output is to be sent in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Read more.
    Open,
    /// Do not read; come back when the output is sent or the connection is woken.
    Paused,
    /// Send the output and close.
    Close(CloseReason),
}

/// How far the connection is.
#[derive(Debug)]
enum Phase {
    /// Nothing was accepted yet.
    Fresh,
    /// The core is asked for the session; input waits. Holds what the client said of read-only servers.
    Opening { read_only: Option<bool> },
    /// Requests are served.
    Open { session: Arc<SessionHandle> },
    /// The client asked to close the session; all later input is dropped.
    Ending,
}

/// A request that the core works on.
#[derive(Debug)]
struct Pending {
    xid: i32,
    op: OpCode,
    received_ms: u64,
    large_bytes: usize,
    /// Whether it is a read that follows a write.
    is_delayed_read: bool,
}

/// What is counted of one look at the input, added to the shared counters at its end.
#[derive(Default)]
struct Tally {
    received: u64,
    sent: u64,
    answered_at_once: u64,
}

/// The protocol side of one connection.
#[derive(Debug)]
pub struct Connection {
    client: Arc<Client>,
    shared: Arc<Shared>,
    phase: Phase,
    pending: VecDeque<Pending>,
    /// How many of `pending` are reads.
    delayed_reads: usize,
    identities: Arc<[Id]>,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(client: Arc<Client>, shared: Arc<Shared>) -> Connection {
        let identities = client.identities();
        Connection {
            client,
            shared,
            phase: Phase::Fresh,
            pending: VecDeque::new(),
            delayed_reads: 0,
            identities,
        }
    }

    /// Whether no connect request was accepted yet, so that four-letter words are still possible.
    pub fn is_fresh(&self) -> bool {
        matches!(self.phase, Phase::Fresh)
    }

    /// Whether the connection has a session.
    pub fn has_session(&self) -> bool {
        matches!(self.phase, Phase::Open { .. } | Phase::Ending)
    }

    /// Takes what the core has delivered, then as many requests of `input` as possible; appends output to `out` and
    /// hands what the core has to do to `submit`.
    pub fn process(
        &mut self,
        now: Now,
        input: &[u8],
        out: &mut Vec<u8>,
        submit: &mut dyn FnMut(Event),
    ) -> Progress {
        let shared = self.shared.clone();
        let replica = shared.replica.read();
        let mut tally = Tally::default();
        let mut consumed = 0;
        let mut verdict = self.take_deliveries(now, &replica, out, &mut tally);
        while verdict == Verdict::Open {
            if matches!(self.phase, Phase::Ending) {
                consumed = input.len();
                break;
            }
            if self.must_wait(out) {
                verdict = Verdict::Paused;
                break;
            }
            match wire::next_frame(&input[consumed..], shared.settings.limits.request_bytes_max) {
                Ok(None) => break,
                Ok(Some(range)) => {
                    let frame = &input[consumed..][range.clone()];
                    consumed += range.end;
                    verdict = self.take_frame(now, &replica, frame, out, submit, &mut tally);
                }
                Err(error) => verdict = self.malformed(error.to_string()),
            }
        }
        for requests in [&shared.stats.requests, &self.client.stats.requests] {
            if tally.received + tally.sent > 0 {
                requests.count_received(tally.received);
                requests.count_sent(tally.sent);
            }
            if tally.answered_at_once > 0 {
                requests.count_latency(tally.answered_at_once, 0);
            }
        }
        self.client.stats.queued.store(self.pending.len() as u64, Relaxed);
        Progress { consumed, verdict }
    }

    /// The connection ended; tells the core and gives back what it held of the server's limits.
    pub fn finish(&mut self, submit: &mut dyn FnMut(Event)) {
        while let Some(pending) = self.pending.pop_front() {
            self.release(&pending);
        }
        if !self.is_fresh() {
            submit(Event::Disconnected {
                client: self.client.clone(),
            });
        }
    }

    /// Whether the guard against `bug` is in place.
    fn guards(&self, bug: PlantedBug) -> bool {
        self.shared.settings.planted.guards(bug)
    }

    /// Whether the next request must stay where it is for now.
    fn must_wait(&self, out: &[u8]) -> bool {
        let limits = &self.shared.settings.limits;
        if matches!(self.phase, Phase::Opening { .. }) || out.len() >= limits.output_bytes_high_water {
            return true;
        }
        if self.pending.is_empty() {
            return false;
        }
        let outstanding = self.shared.outstanding.load(Relaxed);
        self.pending.len() >= limits.requests_per_connection_max
            || self.delayed_reads >= limits.delayed_reads_max
            || outstanding > limits.requests_outstanding_max
            || (limits.throttle_requests_max > 0 && outstanding >= limits.throttle_requests_max)
    }

    fn malformed(&self, how: String) -> Verdict {
        self.shared.stats.malformed.fetch_add(1, Relaxed);
        Verdict::Close(CloseReason::Malformed(how))
    }

    // ---- input -----------------------------------------------------------------------------------------------

    fn take_frame(
        &mut self,
        now: Now,
        replica: &Replica,
        frame: &[u8],
        out: &mut Vec<u8>,
        submit: &mut dyn FnMut(Event),
        tally: &mut Tally,
    ) -> Verdict {
        tally.received += 1;
        match &self.phase {
            Phase::Fresh => self.take_connect_request(replica, frame, submit),
            Phase::Open { session } => {
                let session = session.clone();
                self.take_request(now, replica, &session, frame, out, submit, tally)
            }
            Phase::Opening { .. } | Phase::Ending => Verdict::Open,
        }
    }

    fn take_connect_request(
        &mut self,
        replica: &Replica,
        frame: &[u8],
        submit: &mut dyn FnMut(Event),
    ) -> Verdict {
        let request = match ConnectRequest::decode(frame) {
            Ok(request) => request,
            Err(error) => return self.malformed(format!("connect request: {error}")),
        };
        if request.last_zxid_seen > replica.last_processed.max(replica.epoch_start)
            && self.guards(PlantedBug::ClientAheadTaken)
        {
            // S2: this server would show the client an older state than it has seen.
            let (seen, ours) = (request.last_zxid_seen, replica.last_processed);
            return Verdict::Close(CloseReason::ClientAhead { seen, ours });
        }
        let settings = &self.shared.settings;
        let timeout_ms = request
            .timeout_ms
            .min(settings.session_timeout_ms_max)
            .max(settings.session_timeout_ms_min);
        self.phase = Phase::Opening {
            read_only: request.read_only,
        };
        let client = self.client.clone();
        let read_only = request.read_only == Some(true);
        submit(match request.session {
            SessionId::NONE => Event::OpenSession {
                client,
                timeout_ms,
                read_only,
            },
            session => Event::RenewSession {
                client,
                session,
                password: request.password,
                timeout_ms,
                read_only,
            },
        });
        Verdict::Open
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the whole of one step; bundling would only rename it"
    )]
    fn take_request(
        &mut self,
        now: Now,
        replica: &Replica,
        session: &Arc<SessionHandle>,
        frame: &[u8],
        out: &mut Vec<u8>,
        submit: &mut dyn FnMut(Event),
        tally: &mut Tally,
    ) -> Verdict {
        let (RequestHeader { xid, op }, body) = match RequestHeader::decode(frame) {
            Ok(parts) => parts,
            Err(error) => return self.malformed(format!("request header: {error}")),
        };
        // The order of these gates is that of the client spec, section 4.2.
        let known = OpCode::from_code(op);
        if matches!(known, Some(OpCode::Auth | OpCode::Sasl)) {
            return self.take_auth(xid, known, body, out, tally);
        }
        if !self.is_authenticated() {
            wire::reply_header(
                out,
                xid,
                Zxid::ZERO,
                ErrorCode::SessionClosedRequireSaslAuth.code(),
            );
            tally.sent += 1;
            return Verdict::Close(CloseReason::AuthRequired);
        }
        let op = match known {
            Some(OpCode::DeleteContainer) => return self.bad_operation(op),
            Some(op) => op,
            None => return self.refuse_operation(xid, op, out, tally),
        };
        let large_bytes = match self.take_large(frame.len()) {
            Some(bytes) => bytes,
            None => return Verdict::Close(CloseReason::Limit("largeRequestMaxBytes")),
        };
        if session.is_closing() {
            self.give_back_large(large_bytes);
            return Verdict::Open;
        }
        session.touch(now.monotonic_ms);
        let received_ms = now.monotonic_ms;
        let mut is_delayed_read = false;
        match op {
            OpCode::Check | OpCode::CreateSession | OpCode::Error => {
                self.give_back_large(large_bytes);
                return self.refuse_operation(xid, op.code(), out, tally);
            }
            OpCode::CloseSession => {
                self.phase = Phase::Ending;
                self.submit_write(session.id, xid, op, body, WriteRequest::CloseSession, submit);
            }
            OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
            | OpCode::SetData
            | OpCode::SetAcl
            | OpCode::Multi
            | OpCode::Reconfig
                if let Ok(Request::Write(request)) = wire::decode_request(op, body) =>
            {
                self.submit_write(session.id, xid, op, body, request, submit);
            }
            OpCode::Sync if let Ok(Request::Sync { path }) = wire::decode_request(op, body) => {
                let path = path.map(std::borrow::Cow::into_owned);
                submit(Event::Sync {
                    client: self.client.clone(),
                    session: session.id,
                    path,
                    xid,
                });
            }
            // A read, a ping, or what cannot be decoded.
            _ if self.pending.is_empty() || !self.guards(PlantedBug::ReadBeforeOwnWrite) => {
                let settings = &self.shared.settings;
                let (connection, identities) = (self.client.id, &*self.identities);
                let reader = Reader {
                    connection,
                    session: session.id,
                    identities,
                    settings,
                };
                let before = out.len();
                answer(replica, &reader, xid, op, body, out);
                self.give_back_large(large_bytes);
                self.shared.stats.count_response(out.len() - before);
                self.client
                    .stats
                    .note(Some(op), xid, replica.last_processed.0, received_ms, 0);
                tally.sent += 1;
                tally.answered_at_once += 1;
                return Verdict::Open;
            }
            _ => {
                is_delayed_read = true;
                self.delayed_reads += 1;
                submit(Event::Read {
                    client: self.client.clone(),
                    session: session.id,
                    read: DelayedRead {
                        xid,
                        op,
                        body: body.into(),
                        identities: self.identities.clone(),
                        received_ms,
                    },
                });
            }
        }
        self.shared.outstanding.fetch_add(1, Relaxed);
        self.pending.push_back(Pending {
            xid,
            op,
            received_ms,
            large_bytes,
            is_delayed_read,
        });
        Verdict::Open
    }

    fn refuse_operation(&self, xid: i32, op: i32, out: &mut Vec<u8>, tally: &mut Tally) -> Verdict {
        wire::reply_header(out, xid, Zxid(-1), ErrorCode::Unimplemented.code());
        tally.sent += 1;
        self.bad_operation(op)
    }

    fn bad_operation(&self, op: i32) -> Verdict {
        self.shared.stats.malformed.fetch_add(1, Relaxed);
        Verdict::Close(CloseReason::BadOperation(op))
    }

    fn submit_write(
        &self,
        session: SessionId,
        cxid: i32,
        op: OpCode,
        body: &[u8],
        request: WriteRequest,
        submit: &mut dyn FnMut(Event),
    ) {
        let (client, identities) = (self.client.clone(), self.identities.clone());
        let body = self.shared.forwards.load(Relaxed).then(|| ForwardBody {
            op,
            bytes: body.into(),
        });
        submit(Event::Write {
            client,
            session,
            cxid,
            request,
            body,
            identities,
        });
    }

    /// Gives back what an answered or abandoned request held of the server's limits.
    fn release(&self, pending: &Pending) {
        self.shared.outstanding.fetch_sub(1, Relaxed);
        self.give_back_large(pending.large_bytes);
    }

    /// Reserves room for a large request: its size, 0 for one that is not large, `None` when there is no room.
    fn take_large(&self, bytes: usize) -> Option<usize> {
        let limits = &self.shared.settings.limits;
        if limits
            .large_request_threshold
            .is_none_or(|threshold| bytes <= threshold)
        {
            return Some(0);
        }
        let before = self.shared.large_request_bytes.fetch_add(bytes, Relaxed);
        if before + bytes > limits.large_requests_bytes_max {
            self.give_back_large(bytes);
            return None;
        }
        Some(bytes)
    }

    fn give_back_large(&self, bytes: usize) {
        if bytes > 0 {
            self.shared.large_request_bytes.fetch_sub(bytes, Relaxed);
        }
    }

    /// Whether the connection has an identity of an enforced scheme, if any is enforced.
    fn is_authenticated(&self) -> bool {
        let enforced = &self.shared.settings.auth.enforced_schemes;
        enforced.is_empty()
            || self
                .identities
                .iter()
                .any(|id| enforced.iter().any(|scheme| **scheme == *id.scheme))
    }

    fn take_auth(
        &mut self,
        xid: i32,
        op: Option<OpCode>,
        body: &[u8],
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Verdict {
        let request = match op.map(|op| wire::decode_request(op, body)) {
            Some(Ok(request)) => request,
            _ => return self.malformed("auth request".to_owned()),
        };
        match request {
            Request::Auth { scheme, data } => {
                let address = Id::new("ip", &self.client.peer.ip().to_canonical().to_string());
                let settings = &self.shared.settings;
                let bytes_max = settings.limits.request_bytes_max;
                let is_added = authenticate(scheme.as_deref(), data, &address, &settings.auth)
                    .is_some_and(|ids| self.client.add_identities(ids, bytes_max));
                tally.sent += 1;
                match is_added {
                    true => {
                        self.identities = self.client.identities();
                        wire::reply_header(out, xid, Zxid::ZERO, 0);
                        Verdict::Open
                    }
                    false => {
                        self.shared.stats.auth_failed.fetch_add(1, Relaxed);
                        wire::reply_header(out, xid, Zxid::ZERO, ErrorCode::AuthFailed.code());
                        Verdict::Close(CloseReason::AuthFailed)
                    }
                }
            }
            Request::Sasl { token: Some(_) } => {
                // A server without a login configuration: no error, and a null token (client spec, section 9.6).
                wire::reply(out, xid, Zxid::ZERO, |encoder| encoder.buffer(None));
                tally.sent += 1;
                Verdict::Open
            }
            _ => self.malformed("sasl request without a token".to_owned()),
        }
    }

    // ---- output ----------------------------------------------------------------------------------------------

    fn take_deliveries(
        &mut self,
        now: Now,
        replica: &Replica,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Verdict {
        let mut deliveries = self.client.take_deliveries();
        if !self.guards(PlantedBug::EventsAfterReply) {
            deliveries.sort_by_key(|delivery| matches!(delivery, Delivery::WatchEvent { .. }));
        }
        for delivery in deliveries {
            match delivery {
                Delivery::WatchEvent { zxid, kind, path } => {
                    wire::watch_event(out, zxid, kind, &path);
                    tally.sent += 1;
                }
                Delivery::Outcome { zxid, outcome } => {
                    let pending = self.take_pending();
                    if is_session_moved(&outcome) {
                        return Verdict::Close(CloseReason::SessionRenewedElsewhere);
                    }
                    let before = out.len();
                    wire::encode_outcome(out, pending.xid, zxid, &outcome);
                    let done = (!matches!(outcome, Outcome::Failed(_))).then_some(pending.op);
                    self.note_answered(now, &pending, done, zxid, out.len() - before, tally);
                    if pending.op == OpCode::CloseSession {
                        return Verdict::Close(CloseReason::SessionClosed);
                    }
                }
                Delivery::Answer { zxid, frames } => {
                    let pending = self.take_pending();
                    out.extend_from_slice(&frames);
                    self.note_answered(now, &pending, Some(pending.op), zxid, frames.len(), tally);
                }
                Delivery::SessionOpened {
                    session,
                    timeout_ms,
                    read_only: only_reads,
                } => {
                    let Phase::Opening { read_only } = self.phase else {
                        continue;
                    };
                    let response = ConnectResponse {
                        timeout_ms,
                        session: session.id,
                        password: session_password(session.id),
                        read_only: read_only.map(|_| only_reads),
                    };
                    response.encode(out);
                    let zxid = replica.last_processed.0;
                    self.client
                        .stats
                        .note(Some(OpCode::CreateSession), 0, zxid, now.monotonic_ms, 0);
                    tally.sent += 1;
                    self.phase = Phase::Open { session };
                }
                Delivery::SessionRefused => {
                    let Phase::Opening { read_only } = self.phase else {
                        continue;
                    };
                    ConnectResponse::invalid(read_only.map(|_| false)).encode(out);
                    tally.sent += 1;
                    return Verdict::Close(CloseReason::SessionRefused);
                }
                Delivery::Close(reason) => return Verdict::Close(reason),
            }
        }
        Verdict::Open
    }

    /// The oldest request in work, which the next answer of the core is for (S1).
    fn take_pending(&mut self) -> Pending {
        let Some(pending) = self.pending.pop_front() else {
            unreachable!("S1: the core answers what it was asked, once");
        };
        self.release(&pending);
        self.delayed_reads -= usize::from(pending.is_delayed_read);
        pending
    }

    fn note_answered(
        &self,
        now: Now,
        pending: &Pending,
        op: Option<OpCode>,
        zxid: Zxid,
        bytes: usize,
        tally: &mut Tally,
    ) {
        let latency_ms = now.monotonic_ms.saturating_sub(pending.received_ms);
        tally.sent += 1;
        self.shared.stats.count_response(bytes);
        self.shared.stats.requests.count_latency(1, latency_ms);
        self.client.stats.requests.count_latency(1, latency_ms);
        self.client
            .stats
            .note(op, pending.xid, zxid.0, now.monotonic_ms, latency_ms);
    }
}

/// A moved session is never told; the connection just ends (client spec, section 7.5).
fn is_session_moved(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(ErrorCode::SessionMoved))
}
