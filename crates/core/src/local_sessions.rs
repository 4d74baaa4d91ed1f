//! Sessions that one server alone knows (`localSessionsEnabled`), and what a server does that only reads
//! (`readonlymode.enabled`), whose sessions are all of that kind. They begin and end without a txn, cannot own
//! ephemerals, and are gone when the server's role ends (quorum spec, 1.7 and 7.7).

use std::sync::Arc;

use oxkeeper_types::{CreateMode, ErrorCode, OpCode, Outcome, SessionId, WriteRequest};
use oxkeeper_zab::LinkId;

use crate::member::Standing;
use crate::server_core::ServerCore;
use crate::sessions::{Claim, SessionKind};
use crate::{Client, CloseReason, Delivery, Now, Replica, SessionHandle};

/// Whether only a session that all servers know may ask this: it creates an ephemeral.
pub(crate) fn needs_global_session(request: &WriteRequest) -> bool {
    match request {
        WriteRequest::Create(create) => {
            matches!(create.op, OpCode::Create | OpCode::Create2)
                && CreateMode::from_flags(create.flags).is_some_and(|mode| mode.is_ephemeral())
        }
        WriteRequest::Multi(parts) => parts.iter().any(needs_global_session),
        _ => false,
    }
}

impl ServerCore {
    pub(crate) fn kind_of_new_sessions(&self) -> SessionKind {
        match self.standing() {
            Standing::Standalone => SessionKind::Global,
            Standing::ReadOnly => SessionKind::Local,
            _ if self.shared.settings.local_sessions => SessionKind::Local,
            Standing::Leading => SessionKind::Global,
            Standing::Looking | Standing::Following | Standing::Observing => SessionKind::OfLeader,
        }
    }

    /// Whether a client may have a session here; otherwise its connection is closed.
    pub(crate) fn admits(&mut self, client: &Arc<Client>, takes_read_only: bool) -> bool {
        let refused = match self.standing() {
            Standing::Looking => CloseReason::NotServing,
            Standing::ReadOnly if !takes_read_only => CloseReason::ReadOnly,
            _ => return true,
        };
        self.deliver(client, Delivery::Close(refused));
        false
    }

    pub(crate) fn deliver_opened(
        &mut self,
        client: &Arc<Client>,
        session: Arc<SessionHandle>,
        timeout_ms: i32,
    ) {
        let read_only = self.standing() == Standing::ReadOnly;
        let opened = Delivery::SessionOpened {
            session,
            timeout_ms,
            read_only,
        };
        self.deliver(client, opened);
    }

    /// Answers a write at a server that only reads.
    pub(crate) fn refuse_write(&mut self, client: &Arc<Client>) {
        let zxid = self.shared.replica.read().last_processed;
        let outcome = Outcome::Failed(ErrorCode::NotReadOnly);
        self.deliver(client, Delivery::Outcome { zxid, outcome });
    }

    /// Lets all servers know a session before it creates an ephemeral. When that is not allowed, the create fails.
    pub(crate) fn with_global_session(
        &mut self,
        now: Now,
        session: SessionId,
        request: WriteRequest,
    ) -> WriteRequest {
        if !self.sessions.is_local(session) {
            return request;
        }
        if !self.shared.settings.local_sessions_upgrading {
            return WriteRequest::Invalid(ErrorCode::EphemeralOnLocalSession);
        }
        if self.proposes() {
            if let Some(timeout_ms) = self.sessions.upgrade(session, SessionKind::Global) {
                let begin = WriteRequest::CreateSession { timeout_ms };
                self.propose(now, session, 0, begin, &[], None);
            }
        } else if let Some(timeout_ms) = self.sessions.upgrade(session, SessionKind::OfLeader) {
            let body = timeout_ms.to_be_bytes();
            self.forward(session, 0, OpCode::CreateSession, &body, &[], None);
        }
        request
    }

    /// Whether a learner may speak for a session. One that is not known here may be local to the learner.
    pub(crate) fn claim(&mut self, session: SessionId, link: LinkId) -> Claim {
        let is_ours = self.next_session_id.0 >> 56 == session.0 >> 56;
        match self.sessions.claim(session, link) {
            Claim::Expired
                if self.shared.settings.local_sessions && !is_ours && !self.sessions.contains(session) =>
            {
                Claim::Granted
            }
            claim => claim,
        }
    }

    pub(crate) fn finish_local_close(
        &mut self,
        replica: &Replica,
        session: SessionId,
        client: Option<Arc<Client>>,
    ) {
        self.sessions.remove(session);
        let zxid = replica.last_processed;
        if let Some(client) = client {
            let outcome = Outcome::Done;
            self.deliver_later(client, Delivery::Outcome { zxid, outcome });
        }
    }

    pub(crate) fn expire_local_session(&mut self, session: SessionId) {
        if let Some(client) = self.sessions.remove(session) {
            self.deliver(&client, Delivery::Close(CloseReason::SessionExpired));
        }
    }
}
