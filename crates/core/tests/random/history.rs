//! The model's history, and what a single server knows besides: which connection has a session, and when it was
//! heard.

use std::collections::BTreeMap;
use std::ops::Deref;

use oxkeeper_model::{Ask, Committed};
use oxkeeper_types::{SessionId, Txn};

use super::driver::{Begun, Logged};

/// When a session was heard last and its timeout, monotonic ms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) at_ms: u64,
    pub(crate) timeout_ms: u64,
}

#[derive(Default)]
pub(crate) struct History {
    model: oxkeeper_model::History,
    pub(crate) heard: BTreeMap<SessionId, Heard>,
    /// The connections that sessions had in this life of the server, oldest first.
    begun: Vec<Begun>,
    pub(crate) expired: usize,
}

impl Deref for History {
    type Target = oxkeeper_model::History;

    fn deref(&self) -> &oxkeeper_model::History {
        &self.model
    }
}

impl History {
    pub(crate) fn send(&mut self, xid: i32, ask: Ask, is_friend: bool, link: usize, is_late: bool) {
        self.model.send(xid, ask, is_friend, link, is_late);
    }

    /// Takes in the next txn. `proposed_ms` is the monotonic time of its proposal.
    pub(crate) fn absorb(&mut self, logged: &Logged, proposed_ms: u64) {
        let header = &logged.header;
        let session = header.session;
        for begun in &self.begun {
            // Whoever closes a session takes it from all.
            let is_known = begun.after.0 + 1 != header.zxid.0
                || self.model.newest().sessions.contains_key(&begun.session);
            assert!(is_known, "{} was renewed after its end", begun.session);
        }
        if let Some(sent) = self.model.sent.get(&header.cxid) {
            let owner = self
                .begun
                .iter()
                .rfind(|begun| begun.session == session && begun.after < header.zxid);
            assert_eq!(
                owner.map(|begun| begun.link),
                Some(sent.link),
                "{:?} came by a connection that does not have the session",
                sent.ask
            );
            assert!(
                self.model.newest().sessions.contains_key(&session),
                "{:?} of {session}, which has ended, was done",
                sent.ask
            );
        }
        let committed = self.model.absorb(header, &logged.txn);
        if committed == Committed::SessionExpired {
            let Heard { at_ms, timeout_ms } = self.heard[&session];
            assert!(
                proposed_ms >= at_ms + timeout_ms,
                "S5: {session} of {timeout_ms} ms, heard at {at_ms}, was expired at {proposed_ms}"
            );
            self.expired += 1;
        }
        if matches!(logged.txn, Txn::CloseSession { .. }) {
            self.heard.remove(&session);
        }
    }

    /// A crash took all txns but the first `kept`; all sessions that are left begin anew at `now_ms`.
    pub(crate) fn cut(&mut self, kept: usize, now_ms: u64) {
        self.model.cut(kept);
        self.begun.clear();
        let sessions = &self.model.newest().sessions;
        self.heard = sessions
            .iter()
            .map(|(&session, &timeout_ms)| {
                let timeout_ms = u64::try_from(timeout_ms).unwrap();
                (
                    session,
                    Heard {
                        at_ms: now_ms,
                        timeout_ms,
                    },
                )
            })
            .collect();
    }

    /// A session got a connection.
    pub(crate) fn begin(&mut self, begun: Begun, now_ms: u64) {
        let heard = Heard {
            at_ms: now_ms,
            timeout_ms: u64::try_from(begun.timeout_ms).unwrap(),
        };
        self.heard.insert(begun.session, heard);
        self.begun.push(begun);
    }

    /// A session was heard.
    pub(crate) fn hear(&mut self, session: SessionId, now_ms: u64) {
        if let Some(heard) = self.heard.get_mut(&session) {
            heard.at_ms = heard.at_ms.max(now_ms);
        }
    }
}
