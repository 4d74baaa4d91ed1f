//! What one connection may see. It follows the stream of frames and knows, from the history and the watches that
//! its own replies have left, exactly what must come: which events, before which reply, and every byte of each answer.

use std::collections::{BTreeMap, VecDeque};

use oxkeeper_types::{
    OpResult, Outcome, ReadRequest, SessionId, SubRead, WatchEventKind, WatchPaths, WatchSelector,
    WriteRequest, Zxid,
};
use oxkeeper_wire::{
    Decoder, MultiReadResult, Request, XID_PING, decode_data_and_stat, decode_multi_read, decode_names,
    decode_outcome, decode_stat,
};

use crate::client::Frame;
use crate::history::History;
use crate::requests::Ask;
use crate::state::{Change, Done, NO_NODE, State, parent_of};

/// The xid of an auth request of our clients, and of its answer.
const XID_AUTH: i32 = -4;

const DATA: u8 = 1;
const CHILD: u8 = 2;
const PERSISTENT: u8 = 4;
const RECURSIVE: u8 = 8;

/// The watches of a connection: modes by path.
pub type Watches = BTreeMap<String, u8>;

pub struct Observer {
    /// Whether it authenticated as `u:p`, before anything else.
    pub is_friend: bool,
    pub session: SessionId,
    /// Xids of requests without an answer, in order.
    pub unanswered: VecDeque<i32>,
    pub asked_close: bool,
    /// Whether the server closed it, and had a right to.
    pub is_closed: bool,
    pub watches: Watches,
    /// The newest zxid seen, here or on an earlier connection of the session (S2).
    pub seen: Zxid,
    /// The changes of so many txns have had their effect on `watches`.
    through: usize,
    newest_event: Zxid,
    /// Events that must come before anything else, in order.
    expected: VecDeque<(Zxid, WatchEventKind, String)>,
    catch_up: Vec<(WatchEventKind, String)>,
    pub events_seen: usize,
}

impl Observer {
    pub fn new(is_friend: bool, seen: Zxid) -> Observer {
        Observer {
            is_friend,
            session: SessionId::NONE,
            unanswered: VecDeque::new(),
            asked_close: false,
            is_closed: false,
            watches: Watches::new(),
            seen,
            through: 0,
            newest_event: Zxid::ZERO,
            expected: VecDeque::new(),
            catch_up: Vec::new(),
            events_seen: 0,
        }
    }

    pub fn take(&mut self, frame: Frame, history: &History) {
        match frame {
            Frame::Connected(response) => self.session = response.session,
            Frame::Event {
                zxid: Zxid(-1),
                kind,
                path,
            } => self.catch_up.push((kind, path)),
            Frame::Event { zxid, kind, path } => {
                self.advance(zxid, history);
                self.event(zxid, kind, path);
            }
            Frame::Reply {
                xid: XID_AUTH,
                zxid,
                err,
                ..
            } => assert_eq!((zxid, err), (Zxid::ZERO, 0), "auth"),
            Frame::Reply { xid, zxid, err, body } => {
                self.advance(zxid, history);
                assert!(
                    self.expected.is_empty(),
                    "W1: {:?} did not come before the reply {xid} of {zxid}",
                    self.expected[0]
                );
                // Compared by what they stand for: the beginning of an epoch is as far as the last txn before it.
                let newest = self.seen.max(self.newest_event);
                assert!(
                    history.position(zxid) >= history.position(newest),
                    "S2: {zxid} after {newest}"
                );
                let asked = self
                    .unanswered
                    .pop_front()
                    .unwrap_or_else(|| panic!("the reply {xid} to nothing"));
                let ask = &history.sent[&asked].ask;
                let wanted = match ask {
                    Ask::Request(Request::Ping) => XID_PING,
                    _ => asked,
                };
                assert_eq!(
                    xid, wanted,
                    "S1: the reply to another request, {ask:?} had its turn"
                );
                self.reply(asked, ask, zxid, err, &body, history);
                assert!(
                    self.catch_up.is_empty(),
                    "{:?} came without setWatches",
                    self.catch_up
                );
                self.seen = self.seen.max(zxid);
            }
        }
    }

    fn event(&mut self, zxid: Zxid, kind: WatchEventKind, path: String) {
        assert!(zxid >= self.seen, "W3: the event of {zxid} after {}", self.seen);
        let event = (zxid, kind, path);
        let next = self.expected.pop_front();
        assert_eq!(next.as_ref(), Some(&event), "W2, W3: another event should come");
        self.newest_event = zxid;
        self.events_seen += 1;
    }

    /// Lets the changes of all txns through `to` fire.
    fn advance(&mut self, to: Zxid, history: &History) {
        let to = history.position(to);
        while self.through < to {
            self.through += 1;
            if !self.watches.is_empty() {
                let (zxid, changes) = history.changes(self.through);
                for change in changes {
                    self.fire(zxid, change);
                }
            }
        }
    }

    fn fire(&mut self, zxid: Zxid, change: &Change) {
        let (path, parent) = (&*change.path, parent_of(&change.path));
        let may_read = self.is_friend || !change.is_private;
        let mut told = self.hears_data(path);
        if change.kind == WatchEventKind::Deleted {
            told |= self.hears_children(path);
        }
        if told && may_read {
            self.expected.push_back((zxid, change.kind, path.to_owned()));
        }
        if change.kind != WatchEventKind::DataChanged
            && self.hears_children(parent)
            && (self.is_friend || !change.parent_is_private)
        {
            self.expected
                .push_back((zxid, WatchEventKind::ChildrenChanged, parent.to_owned()));
        }
    }

    fn disarm(&mut self, path: &str, modes: u8) -> bool {
        let Some(armed) = self.watches.get_mut(path) else {
            return false;
        };
        let found = *armed & modes != 0;
        *armed &= !modes;
        if *armed == 0 {
            self.watches.remove(path);
        }
        found
    }

    fn has(&self, path: &str, modes: u8) -> bool {
        self.watches.get(path).is_some_and(|armed| armed & modes != 0)
    }

    fn arm(&mut self, path: &str, mode: u8) {
        *self.watches.entry(path.to_owned()).or_default() |= mode;
    }

    fn hears_data(&mut self, path: &str) -> bool {
        let mut told = self.has(path, PERSISTENT | RECURSIVE);
        told |= self.disarm(path, DATA);
        let mut ancestor = path;
        while ancestor != "/" {
            ancestor = parent_of(ancestor);
            told |= self.has(ancestor, RECURSIVE);
        }
        told
    }

    fn hears_children(&mut self, path: &str) -> bool {
        let persistent = self.has(path, PERSISTENT);
        self.disarm(path, CHILD) | persistent
    }

    /// What a client sends as setWatches on its next connection.
    pub fn as_set_watches(watches: &Watches, relative_zxid: Zxid) -> WatchPaths {
        let of = |mode: u8| {
            watches
                .iter()
                .filter(|(_, armed)| **armed & mode != 0)
                .map(|(path, _)| path.clone())
                .collect::<Vec<_>>()
        };
        WatchPaths {
            relative_zxid,
            data: of(DATA),
            exist: Vec::new(),
            child: of(CHILD),
            persistent: of(PERSISTENT),
            persistent_recursive: of(RECURSIVE),
        }
    }

    // ---- replies ---------------------------------------------------------------------------------------------

    fn reply(&mut self, xid: i32, ask: &Ask, zxid: Zxid, err: i32, body: &[u8], history: &History) {
        let state = history.state(zxid);
        match ask {
            Ask::Garbage(_) => assert_eq!(err, -5),
            Ask::Request(Request::Write(request)) => {
                assert!(
                    zxid > self.seen,
                    "S3: a write with zxid {zxid} after {}",
                    self.seen
                );
                self.written(xid, request, zxid, err, body, history);
            }
            Ask::Request(Request::CloseSession) => {
                assert_eq!((err, history.zxid_of(xid)), (0, Some(zxid)));
            }
            Ask::Request(Request::Ping) => assert_eq!((err, body.len()), (0, 0)),
            Ask::Request(Request::Sync { path }) => {
                let path = path.as_deref().unwrap();
                assert_eq!((err, &body[4..]), (0, path.as_bytes()));
            }
            Ask::Request(Request::Read(request)) => {
                if let Err(code) = self.read(request, state, err, body) {
                    assert_eq!(err, code, "{request:?} at {zxid}");
                }
            }
            Ask::Request(other) => panic!("{other:?} is not answered in turn"),
        }
    }

    fn written(
        &self,
        xid: i32,
        request: &WriteRequest,
        zxid: Zxid,
        err: i32,
        body: &[u8],
        history: &History,
    ) {
        assert_eq!(
            history.zxid_of(xid),
            Some(zxid),
            "the reply has the zxid of its txn"
        );
        let op = Request::Write(request.clone()).op();
        let outcome = decode_outcome(op, err, body).unwrap();
        match (history.outcome(zxid), &outcome) {
            (Err(code), Outcome::Failed(error)) => assert_eq!(error.code(), *code, "{request:?}"),
            (Ok(Done::Reconfigured(list)), Outcome::Reconfigured { config, stat }) => {
                assert_eq!(config.as_deref(), Some(&**list), "{request:?}");
                assert_eq!((stat.mzxid, stat.version), (zxid, -1), "{request:?}");
            }
            (Ok(done), outcome) => assert_outcome(done, outcome, history.state(zxid), true),
            (expected, outcome) => panic!("{request:?} came to {outcome:?}, not {expected:?}"),
        }
    }

    fn read(
        &mut self,
        request: &ReadRequest<'static>,
        state: &State,
        err: i32,
        body: &[u8],
    ) -> Result<(), i32> {
        let mut decoder = Decoder::new(body);
        match request {
            ReadRequest::Exists { path, watch } => {
                let found = state.permitted(path, self.is_friend);
                if *watch && matches!(found, Ok(_) | Err(NO_NODE)) {
                    self.arm(path, DATA);
                }
                let node = found?;
                assert_eq!(err, 0, "{request:?}");
                assert_eq!(decode_stat(&mut decoder).unwrap(), node.stat, "{request:?}");
            }
            ReadRequest::GetData { path, watch } => {
                let node = state.permitted(path, self.is_friend)?;
                assert_eq!(err, 0, "{request:?}");
                if *watch {
                    self.arm(path, DATA);
                }
                let (data, stat) = decode_data_and_stat(&mut decoder).unwrap();
                assert_eq!((data, stat), (node.data.as_deref(), node.stat), "{request:?}");
            }
            ReadRequest::GetChildren {
                path,
                watch,
                with_stat,
            } => {
                let node = state.permitted(path, self.is_friend)?;
                assert_eq!(err, 0, "{request:?}");
                if *watch {
                    self.arm(path, CHILD);
                }
                assert_names(&mut decoder, node.children.iter().cloned().collect());
                if *with_stat {
                    assert_eq!(decode_stat(&mut decoder).unwrap(), node.stat);
                }
            }
            ReadRequest::GetAllChildrenNumber { path } => {
                state.permitted(path, self.is_friend)?;
                let below = if &**path == "/" {
                    "/".to_owned()
                } else {
                    format!("{path}/")
                };
                let count = state
                    .nodes
                    .keys()
                    .filter(|at| at.starts_with(&below) && at.len() > 1);
                // Quota and config are in no model.
                let hidden = if &**path == "/" { 2 } else { 0 };
                assert_eq!(
                    usize::try_from(decoder.int().unwrap()),
                    Ok(count.count() + hidden)
                );
            }
            ReadRequest::GetEphemerals { .. } => {
                assert_names(&mut decoder, state.ephemerals_of(self.session));
            }
            ReadRequest::MultiRead(parts) => {
                let results = decode_multi_read(body).unwrap();
                assert_eq!(results.len(), parts.len());
                for (part, result) in parts.iter().zip(results) {
                    let (SubRead::GetData(path) | SubRead::GetChildren(path)) = part;
                    match (state.permitted(path, self.is_friend), result) {
                        (Err(code), MultiReadResult::Error(error)) => assert_eq!(error, code),
                        (Ok(node), MultiReadResult::Data { data, stat }) => {
                            assert_eq!((&data, stat), (&node.data, node.stat));
                        }
                        (Ok(node), MultiReadResult::Children(names)) => {
                            assert_eq!(
                                names.into_iter().collect::<std::collections::BTreeSet<_>>(),
                                node.children
                            );
                        }
                        (expected, result) => panic!("{part:?}: {result:?}, not {expected:?}"),
                    }
                }
            }
            ReadRequest::AddWatch { path, mode } => {
                assert_eq!((err, body), (0, &[0; 4][..]));
                self.arm(
                    path,
                    match mode {
                        oxkeeper_types::AddWatchMode::Persistent => PERSISTENT,
                        oxkeeper_types::AddWatchMode::PersistentRecursive => RECURSIVE,
                    },
                );
            }
            ReadRequest::CheckWatches { path, selector } => {
                let found = self.has(path, selected(*selector));
                assert_eq!(err, if found { 0 } else { -121 }, "{request:?}");
            }
            ReadRequest::RemoveWatches { path, selector } => {
                let found = self.disarm(path, selected(*selector));
                assert_eq!(err, if found { 0 } else { -121 }, "{request:?}");
            }
            ReadRequest::SetWatches(paths) => {
                assert_eq!(err, 0);
                let expected = self.caught_up(paths, state);
                assert_eq!(std::mem::take(&mut self.catch_up), expected, "{request:?}");
            }
            ReadRequest::WhoAmI | ReadRequest::GetAcl { .. } => assert_eq!(err, 0),
        }
        Ok(())
    }

    fn caught_up(&mut self, paths: &WatchPaths, state: &State) -> Vec<(WatchEventKind, String)> {
        let since = paths.relative_zxid;
        let is_friend = self.is_friend;
        let mut events = Vec::new();
        let mut tell = |kind, path: &String, may_read: bool| {
            if may_read {
                events.push((kind, path.clone()));
            }
        };
        for path in &paths.data {
            match state.node(path) {
                None => tell(WatchEventKind::Deleted, path, true),
                Some(node) if node.stat.mzxid > since => {
                    tell(WatchEventKind::DataChanged, path, is_friend || !node.is_private);
                }
                Some(_) => self.arm(path, DATA),
            }
        }
        for path in &paths.exist {
            match state.node(path) {
                None => self.arm(path, DATA),
                Some(node) => tell(WatchEventKind::Created, path, is_friend || !node.is_private),
            }
        }
        for path in &paths.child {
            match state.node(path) {
                None => tell(WatchEventKind::Deleted, path, true),
                Some(node) if node.stat.pzxid > since => {
                    tell(
                        WatchEventKind::ChildrenChanged,
                        path,
                        is_friend || !node.is_private,
                    );
                }
                Some(_) => self.arm(path, CHILD),
            }
        }
        for path in &paths.persistent {
            self.arm(path, PERSISTENT);
        }
        for path in &paths.persistent_recursive {
            self.arm(path, RECURSIVE);
        }
        events
    }

    /// How many watches the server has of this connection, if it has seen no more than was seen here.
    pub fn watch_count(&self) -> usize {
        let in_tables =
            |modes: u8| usize::from(modes & !CHILD != 0) + usize::from(modes & (CHILD | PERSISTENT) != 0);
        self.watches.values().map(|&modes| in_tables(modes)).sum()
    }
}

fn selected(selector: WatchSelector) -> u8 {
    match selector {
        WatchSelector::Children => CHILD,
        WatchSelector::Data => DATA,
        WatchSelector::Any => DATA | CHILD | PERSISTENT | RECURSIVE,
        WatchSelector::Persistent => PERSISTENT,
        WatchSelector::PersistentRecursive => RECURSIVE,
    }
}

fn assert_names(decoder: &mut Decoder<'_>, mut expected: Vec<String>) {
    let mut names = decode_names(decoder).unwrap();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
}

/// `is_last`: no later part of a multi can have changed the Stat again.
fn assert_outcome(done: &Done, outcome: &Outcome, after: &State, is_last: bool) {
    match (done, outcome) {
        (Done::Created(path), Outcome::Created { path: there, stat }) => {
            assert_eq!(**path, **there);
            if let Some(stat) = stat
                && is_last
            {
                assert_eq!(*stat, after.node(path).unwrap().stat);
            }
        }
        (Done::Changed(path), Outcome::Changed(stat)) => {
            if is_last {
                assert_eq!(*stat, after.node(path).unwrap().stat);
            }
        }
        (Done::Nothing, Outcome::Done) => {}
        (Done::Multi(parts), Outcome::Multi(results)) => {
            assert_eq!(parts.len(), results.len());
            for (part, result) in parts.iter().zip(results) {
                match (part, result) {
                    (Ok(done), OpResult::Ok { outcome, .. }) => assert_outcome(done, outcome, after, false),
                    (Err(code), OpResult::Error(error)) => assert_eq!(code, error),
                    other => panic!("a part of a multi came to {other:?}"),
                }
            }
        }
        other => panic!("a write came to {other:?}"),
    }
}
