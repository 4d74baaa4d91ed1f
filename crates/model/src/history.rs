//! All that was sent and all that was committed, with the state after each txn.

use std::collections::HashMap;

use oxkeeper_types::{
    CONFIG_PATH, ErrorCode, ReconfigRequest, SessionId, Txn, TxnHeader, WatchEventKind, WriteRequest, Zxid,
};
use oxkeeper_wire::Request;

use crate::requests::Ask;
use crate::state::{At, Change, Done, State};

/// A request on its way, or done.
pub struct Sent {
    pub ask: Ask,
    pub is_friend: bool,
    /// By which connection it was sent.
    pub link: usize,
    /// Whether it was sent behind a closeSession of the same connection.
    is_late: bool,
    /// Of the txn that it became.
    zxid: Option<Zxid>,
}

/// What one txn was.
struct Step {
    zxid: Zxid,
    changes: Vec<Change>,
    outcome: Result<Done, i32>,
}

/// What a txn came of; for whoever knows when that may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The write with this xid.
    Request(i32),
    /// The write with this xid, refused because its session has gone to another connection.
    Moved(i32),
    /// The write with this xid, refused because its session has ended.
    Late(i32),
    /// The server began a session.
    SessionBegun,
    /// The server ended a session by itself.
    SessionExpired,
    /// The server removed a container.
    Reaped,
}

pub struct History {
    /// The state after the first n txns is at n.
    states: Vec<State>,
    /// The txn n, counted from 1, is at n - 1.
    steps: Vec<Step>,
    /// By xid; no two connections use the same.
    pub sent: HashMap<i32, Sent>,
}

impl Default for History {
    fn default() -> History {
        History {
            states: vec![State::default()],
            steps: Vec::new(),
            sent: HashMap::new(),
        }
    }
}

impl History {
    /// How many txns there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many txns there are through `zxid`.
    pub fn position(&self, zxid: Zxid) -> usize {
        self.steps.partition_point(|step| step.zxid <= zxid)
    }

    /// The state that a server shows that has everything through `zxid`.
    pub fn state(&self, zxid: Zxid) -> &State {
        &self.states[self.position(zxid)]
    }

    /// The state after everything.
    pub fn newest(&self) -> &State {
        &self.states[self.states.len() - 1]
    }

    /// The txn at a position, counted from 1, and what watches hear of it.
    pub fn changes(&self, position: usize) -> (Zxid, &[Change]) {
        let step = &self.steps[position - 1];
        (step.zxid, &step.changes)
    }

    /// What the txn `zxid` came to.
    pub fn outcome(&self, zxid: Zxid) -> &Result<Done, i32> {
        let step = &self.steps[self.position(zxid) - 1];
        assert_eq!(step.zxid, zxid, "there is no such txn");
        &step.outcome
    }

    /// The txn that a request became.
    pub fn zxid_of(&self, xid: i32) -> Option<Zxid> {
        self.sent[&xid].zxid
    }

    pub fn send(&mut self, xid: i32, ask: Ask, is_friend: bool, link: usize, is_late: bool) {
        let sent = Sent {
            ask,
            is_friend,
            link,
            is_late,
            zxid: None,
        };
        assert!(self.sent.insert(xid, sent).is_none());
    }

    /// Does what a txn stands for, and checks that the txn is what should come of it.
    pub fn absorb(&mut self, header: &TxnHeader, txn: &Txn) -> Committed {
        let session = header.session;
        let mut state = self.newest().clone();
        let mut changes = Vec::new();
        let mut at = At {
            zxid: header.zxid,
            time: header.time,
            session,
            is_friend: false,
        };
        let is_alive = state.sessions.contains_key(&session);
        let sent = self.sent.get_mut(&header.cxid);
        if let Some(sent) = &sent {
            assert_eq!(sent.zxid, None, "the request {} was done twice", header.cxid);
            assert!(!sent.is_late, "{:?} behind a closeSession was done", sent.ask);
            at.is_friend = sent.is_friend;
        }
        let asked = sent.map(|sent| {
            sent.zxid = Some(header.zxid);
            sent.ask.clone()
        });
        let mut committed = Committed::Request(header.cxid);
        let outcome = match (txn, asked) {
            (Txn::Error { code }, Some(_)) if *code == ErrorCode::SessionMoved.code() => {
                committed = Committed::Moved(header.cxid);
                Err(*code)
            }
            (Txn::Error { code }, Some(_)) if !is_alive => {
                assert_eq!(*code, ErrorCode::SessionExpired.code(), "the end of {session}");
                committed = Committed::Late(header.cxid);
                Err(*code)
            }
            (txn, Some(asked)) if !is_alive => {
                panic!("{asked:?} of {session}, which has ended, became {txn:?}")
            }
            (txn, Some(Ask::Request(Request::Write(WriteRequest::Reconfig(request))))) => {
                reconfigure(txn, &request, at.is_friend, &mut changes)
            }
            (Txn::CloseSession { ephemerals }, asked) => {
                match asked {
                    Some(asked) => assert!(matches!(asked, Ask::Request(Request::CloseSession))),
                    None => committed = Committed::SessionExpired,
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
                committed = Committed::SessionBegun;
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
                committed = Committed::Reaped;
                Ok(Done::Nothing)
            }
            (Txn::Error { code }, None) if session == SessionId::NONE => {
                committed = Committed::Reaped;
                Err(*code)
            }
            (txn, asked) => panic!("{asked:?} became {txn:?}"),
        };
        self.states.push(state);
        self.steps.push(Step {
            zxid: header.zxid,
            changes,
            outcome,
        });
        committed
    }

    /// A crash took all txns but the first `kept`.
    pub fn cut(&mut self, kept: usize) {
        self.states.truncate(kept + 1);
        self.steps.truncate(kept);
        let last = self.steps.last().map_or(Zxid::ZERO, |step| step.zxid);
        for sent in self.sent.values_mut() {
            sent.zxid = sent.zxid.filter(|zxid| *zxid <= last);
        }
    }
}

/// What a reconfig has come to. Whether it might is known to those alone who know the ensemble.
fn reconfigure(
    txn: &Txn,
    request: &ReconfigRequest,
    is_friend: bool,
    changes: &mut Vec<Change>,
) -> Result<Done, i32> {
    use ErrorCode::{
        BadArguments, BadVersion, MarshallingError, NewConfigNoQuorum, NoAuth, ReconfigInProgress,
    };
    match txn {
        Txn::Reconfig {
            path,
            data: Some(config),
            version: -1,
        } if path == CONFIG_PATH && is_friend => {
            changes.push(Change {
                kind: WatchEventKind::DataChanged,
                path: CONFIG_PATH.into(),
                is_private: false,
                parent_is_private: false,
            });
            Ok(Done::Reconfigured((&**config).into()))
        }
        Txn::Error { code } => {
            let may_be = [
                BadArguments,
                MarshallingError,
                NewConfigNoQuorum,
                ReconfigInProgress,
            ];
            assert!(
                may_be.map(ErrorCode::code).contains(code)
                    || (*code == NoAuth.code() && !is_friend)
                    || (*code == BadVersion.code() && request.version != -1),
                "{request:?} became the error {code}"
            );
            Err(*code)
        }
        other => panic!("{request:?} became {other:?}"),
    }
}
