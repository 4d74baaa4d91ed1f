//! All that was sent and all that was logged, with the state after each txn.

use std::collections::{BTreeMap, HashMap};

use oxkeeper_types::{SessionId, Txn, Zxid};
use oxkeeper_wire::Request;

use super::driver::{Begun, Logged};
use super::model::{At, Change, Done, State};
use super::observer::Ask;

/// A request on its way, or done.
pub(crate) struct Sent {
    pub(crate) ask: Ask,
    pub(crate) is_friend: bool,
    /// By which it was sent.
    link: usize,
    /// Whether it was sent behind a closeSession of the same connection.
    is_late: bool,
    /// Of the txn that it became.
    zxid: Option<Zxid>,
}

/// What one txn was.
struct Step {
    changes: Vec<Change>,
    outcome: Result<Done, i32>,
}

/// When a session was heard last and its timeout, monotonic ms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) at_ms: u64,
    pub(crate) timeout_ms: u64,
}

pub(crate) struct History {
    /// The state after txn n is at n.
    states: Vec<State>,
    /// The txn n is at n - 1.
    steps: Vec<Step>,
    /// By xid; no two connections use the same.
    pub(crate) sent: HashMap<i32, Sent>,
    pub(crate) heard: BTreeMap<SessionId, Heard>,
    /// The connections that sessions had in this life of the server, oldest first.
    begun: Vec<Begun>,
    pub(crate) expired: usize,
}

impl History {
    pub(crate) fn new() -> History {
        History {
            states: vec![State::new()],
            steps: Vec::new(),
            sent: HashMap::new(),
            heard: BTreeMap::new(),
            begun: Vec::new(),
            expired: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    pub(crate) fn state(&self, zxid: Zxid) -> &State {
        &self.states[usize::try_from(zxid.0).unwrap()]
    }

    /// The state after all that was proposed.
    pub(crate) fn newest(&self) -> &State {
        &self.states[self.states.len() - 1]
    }

    fn step(&self, zxid: i64) -> &Step {
        &self.steps[usize::try_from(zxid - 1).unwrap()]
    }

    pub(crate) fn changes(&self, zxid: i64) -> &[Change] {
        &self.step(zxid).changes
    }

    pub(crate) fn outcome(&self, zxid: Zxid) -> &Result<Done, i32> {
        &self.step(zxid.0).outcome
    }

    /// The txn that a request became.
    pub(crate) fn zxid_of(&self, xid: i32) -> Option<Zxid> {
        self.sent[&xid].zxid
    }

    pub(crate) fn send(&mut self, xid: i32, ask: Ask, is_friend: bool, link: usize, is_late: bool) {
        let sent = Sent {
            ask,
            is_friend,
            link,
            is_late,
            zxid: None,
        };
        assert!(self.sent.insert(xid, sent).is_none());
    }

    /// Does what a txn stands for, and checks that the txn is what should come of it. `proposed_ms` is the
    /// monotonic time of its proposal.
    pub(crate) fn absorb(&mut self, logged: &Logged, proposed_ms: u64) {
        let header = &logged.header;
        let session = header.session;
        let mut state = self.newest().clone();
        let mut changes = Vec::new();
        for begun in &self.begun {
            // Whoever closes a session takes it from all.
            let is_known = begun.after.0 + 1 != header.zxid.0 || state.sessions.contains_key(&begun.session);
            assert!(is_known, "{} was renewed after its end", begun.session);
        }
        let mut at = At {
            zxid: header.zxid,
            time: header.time,
            session,
            is_friend: false,
        };
        let sent = self.sent.get_mut(&header.cxid);
        if let Some(sent) = &sent {
            assert_eq!(sent.zxid, None, "the request {} was done twice", header.cxid);
            assert!(!sent.is_late, "{:?} behind a closeSession was done", sent.ask);
            assert!(
                state.sessions.contains_key(&session),
                "{:?} of {session}, which has ended, was done",
                sent.ask
            );
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
            at.is_friend = sent.is_friend;
        }
        let asked = sent.map(|sent| {
            sent.zxid = Some(header.zxid);
            sent.ask.clone()
        });
        let outcome = match (&logged.txn, asked) {
            (Txn::CloseSession { ephemerals }, asked) => {
                match asked {
                    Some(asked) => assert!(matches!(asked, Ask::Request(Request::CloseSession))),
                    None => {
                        let Heard { at_ms, timeout_ms } = self.heard[&session];
                        assert!(
                            proposed_ms >= at_ms + timeout_ms,
                            "S5: {session} of {timeout_ms} ms, heard at {at_ms}, was expired at {proposed_ms}"
                        );
                        self.expired += 1;
                    }
                }
                let ephemerals = ephemerals.clone().unwrap();
                let mut listed = ephemerals.clone();
                listed.sort_unstable();
                assert_eq!(
                    listed,
                    state.ephemerals_of(session),
                    "T3: the ephemerals of {session}"
                );
                for path in &ephemerals {
                    state.remove(path, &at, &mut changes);
                }
                assert!(
                    state.sessions.remove(&session).is_some(),
                    "{session} was ended twice"
                );
                self.heard.remove(&session);
                Ok(Done::Nothing)
            }
            (txn, Some(Ask::Request(Request::Write(request)))) => {
                let outcome = state.execute(&at, &request, &mut changes);
                match (&outcome, txn) {
                    (Err(code), Txn::Error { code: there }) => assert_eq!(code, there, "{request:?}"),
                    (Ok(Done::Multi(parts)), Txn::Multi(_)) => {
                        assert_eq!(
                            txn.is_failed_multi(),
                            parts.iter().any(Result::is_err),
                            "{request:?}"
                        );
                    }
                    (Err(_) | Ok(Done::Multi(_)), _) | (Ok(_), Txn::Error { .. } | Txn::Multi(_)) => {
                        panic!("{request:?} became {txn:?}, not {outcome:?}")
                    }
                    (Ok(_), _) => {}
                }
                outcome
            }
            (Txn::CreateSession { timeout_ms }, None) => {
                assert!(state.sessions.insert(session, *timeout_ms).is_none());
                Ok(Done::Nothing)
            }
            (
                Txn::Delete {
                    path,
                    by_server: true,
                },
                None,
            ) => {
                assert_eq!(session, SessionId::NONE);
                assert!(state.is_reapable(path), "{path} was removed by the server");
                state.remove(path, &at, &mut changes);
                Ok(Done::Nothing)
            }
            (Txn::Error { code }, None) if session == SessionId::NONE => Err(*code),
            (txn, asked) => panic!("{asked:?} became {txn:?}"),
        };
        self.states.push(state);
        self.steps.push(Step { changes, outcome });
    }

    /// A crash took all txns but the first `kept`; all sessions that are left begin anew at `now_ms`.
    pub(crate) fn cut(&mut self, kept: usize, now_ms: u64) {
        self.states.truncate(kept + 1);
        self.steps.truncate(kept);
        for sent in self.sent.values_mut() {
            sent.zxid = sent.zxid.filter(|zxid| usize::try_from(zxid.0).unwrap() <= kept);
        }
        self.begun.clear();
        let sessions = &self.newest().sessions;
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
