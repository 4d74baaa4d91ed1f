//! A tree with a history: what every test here drives.

#![allow(dead_code, reason = "each test uses its own part of this")]

pub(crate) mod requests;

use std::collections::{BTreeMap, VecDeque};

use oxkeeper_tree::{Caller, Change, Overlay, Prepared, Tree, TreeSettings};
use oxkeeper_types::{
    Acl, CreateMode, CreateRequest, ErrorCode, Id, OpCode, OpResult, Outcome, Permissions, SessionId,
    StoredStat, Txn, TxnDigest, TxnHeader, WriteRequest, Zxid,
};

/// A session for tests that need only one.
pub(crate) const SESSION: SessionId = SessionId(0x100);

/// The ACL that lets everybody do everything.
pub(crate) fn open() -> Vec<Acl> {
    vec![Acl::world(Permissions::ALL)]
}

pub(crate) fn acl(permissions: i32, scheme: &str, id: &str) -> Acl {
    Acl {
        permissions: Permissions(permissions),
        id: Id::new(scheme, id),
    }
}

/// A create of a mode with the operation that clients use for it.
pub(crate) fn create(path: &str, mode: CreateMode) -> WriteRequest {
    let op = match mode {
        CreateMode::Container => OpCode::CreateContainer,
        mode if mode.has_ttl() => OpCode::CreateTtl,
        _ => OpCode::Create2,
    };
    let ttl = if mode.has_ttl() { 1000 } else { -1 };
    create_as(op, path, mode as i32, ttl, open())
}

pub(crate) fn create_as(op: OpCode, path: &str, flags: i32, ttl: i64, acl: Vec<Acl>) -> WriteRequest {
    WriteRequest::Create(CreateRequest {
        op,
        path: path.to_owned(),
        data: Some(b"data".to_vec().into()),
        acl,
        flags,
        ttl,
    })
}

pub(crate) fn create_with(path: &str, data: &[u8], acl: Vec<Acl>) -> WriteRequest {
    WriteRequest::Create(CreateRequest {
        op: OpCode::Create,
        path: path.to_owned(),
        data: Some(data.into()),
        acl,
        flags: 0,
        ttl: -1,
    })
}

pub(crate) fn delete(path: &str, version: i32) -> WriteRequest {
    WriteRequest::Delete {
        path: path.to_owned(),
        version,
    }
}

pub(crate) fn set_data(path: &str, data: &[u8], version: i32) -> WriteRequest {
    WriteRequest::SetData {
        path: path.to_owned(),
        data: Some(data.into()),
        version,
    }
}

pub(crate) fn set_acl(path: &str, acl: Vec<Acl>, version: i32) -> WriteRequest {
    WriteRequest::SetAcl {
        path: path.to_owned(),
        acl,
        version,
    }
}

pub(crate) fn check(path: &str, version: i32) -> WriteRequest {
    WriteRequest::Check {
        path: path.to_owned(),
        version,
    }
}

/// A change with owned parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Created(String),
    Deleted(String),
    DataChanged(String),
}

/// What is stored of a znode.
pub(crate) type Stored = (Option<Vec<u8>>, Vec<Acl>, StoredStat);

/// A tree, what is in flight, and what happened.
pub(crate) struct World {
    pub(crate) tree: Tree,
    pub(crate) overlay: Overlay,
    pub(crate) settings: TreeSettings,
    pub(crate) ids: Vec<Id>,
    pub(crate) zxid: Zxid,
    pub(crate) time: i64,
    pub(crate) in_flight: VecDeque<(TxnHeader, Prepared)>,
    pub(crate) history: Vec<(TxnHeader, Txn, Option<TxnDigest>)>,
    pub(crate) seen: Vec<Seen>,
}

impl World {
    pub(crate) fn new(settings: TreeSettings) -> World {
        World {
            tree: Tree::new(&settings),
            overlay: Overlay::new(),
            settings,
            ids: vec![Id::new("ip", "127.0.0.1")],
            zxid: Zxid::ZERO,
            time: 1_000_000,
            in_flight: VecDeque::new(),
            history: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Prepares a request and leaves its txn in flight.
    pub(crate) fn prepare(&mut self, session: SessionId, request: WriteRequest) -> &Prepared {
        self.prepare_as(&Caller::new(session, &self.ids.clone(), 0), request)
    }

    pub(crate) fn prepare_as(&mut self, caller: &Caller<'_>, request: WriteRequest) -> &Prepared {
        self.zxid = self.zxid.next();
        self.time += 7;
        let caller = Caller {
            time: self.time,
            ..*caller
        };
        let prepared = self
            .tree
            .prepare(&mut self.overlay, &self.settings, &caller, self.zxid, request);
        let header = TxnHeader {
            session: caller.session,
            cxid: 1,
            zxid: self.zxid,
            time: self.time,
        };
        self.in_flight.push_back((header, prepared));
        &self.in_flight.back().unwrap().1
    }

    /// Applies the oldest txn in flight.
    pub(crate) fn apply_one(&mut self) -> Outcome {
        let (header, prepared) = self.in_flight.pop_front().expect("a txn is in flight");
        self.history.push((header, prepared.txn.clone(), prepared.digest));
        let before = self.counters();
        let (tree, seen) = (&mut self.tree, &mut self.seen);
        let outcome = tree.apply(&header, prepared.txn, &mut |change| {
            seen.push(match change {
                Change::Created { path, .. } => Seen::Created(path.to_owned()),
                Change::Deleted { path, .. } => Seen::Deleted(path.to_owned()),
                Change::DataChanged { path, .. } => Seen::DataChanged(path.to_owned()),
            });
        });
        self.overlay.committed(header.zxid);
        if let Some(digest) = prepared.digest {
            assert!(
                self.tree.compare_digest(&digest),
                "the digest of {} was not predicted",
                header.zxid
            );
        }
        self.assert_counters_rise(&before);
        outcome
    }

    /// Prepares and applies, with nothing else in flight.
    pub(crate) fn run(&mut self, request: WriteRequest) -> Outcome {
        self.run_by(SESSION, request)
    }

    pub(crate) fn run_by(&mut self, session: SessionId, request: WriteRequest) -> Outcome {
        assert!(self.in_flight.is_empty());
        self.prepare(session, request);
        self.apply_one()
    }

    /// Runs what must succeed.
    pub(crate) fn ok(&mut self, request: WriteRequest) -> Outcome {
        let shown = format!("{request:?}");
        let outcome = self.run(request);
        assert!(!matches!(outcome, Outcome::Failed(_)), "{shown}: {outcome:?}");
        outcome
    }

    /// The error of what must fail.
    pub(crate) fn err(&mut self, request: WriteRequest) -> ErrorCode {
        let shown = format!("{request:?}");
        match self.run(request) {
            Outcome::Failed(code) => code,
            outcome => panic!("{shown} did not fail: {outcome:?}"),
        }
    }

    /// Codes of the parts of a multi, 0 for those that happened or were taken back.
    pub(crate) fn multi(&mut self, parts: Vec<WriteRequest>) -> Vec<i32> {
        match self.run(WriteRequest::Multi(parts)) {
            Outcome::Multi(results) => results
                .into_iter()
                .map(|result| match result {
                    OpResult::Ok { .. } => 0,
                    OpResult::Error(code) => code,
                })
                .collect(),
            outcome => panic!("{outcome:?}"),
        }
    }

    pub(crate) fn stat(&self, path: &str) -> oxkeeper_types::Stat {
        self.tree
            .znode(path)
            .unwrap_or_else(|| panic!("{path} does not exist"))
            .stat()
    }

    fn counters(&self) -> BTreeMap<String, StoredStat> {
        dump(&self.tree)
            .into_iter()
            .map(|(path, (_, _, stat))| (path, stat))
            .collect()
    }

    /// T4.
    fn assert_counters_rise(&self, before: &BTreeMap<String, StoredStat>) {
        for (path, (_, _, after)) in dump(&self.tree) {
            if let Some(before) = before.get(&path).filter(|before| before.czxid == after.czxid) {
                assert!(
                    before.cversion <= after.cversion && before.pzxid <= after.pzxid,
                    "{path}"
                );
            }
        }
    }
}

/// All znodes of a tree, by path.
pub(crate) fn dump(tree: &Tree) -> BTreeMap<String, Stored> {
    let mut all = BTreeMap::new();
    let mut paths = vec!["/".to_owned()];
    while let Some(path) = paths.pop() {
        let znode = tree
            .znode(&path)
            .unwrap_or_else(|| panic!("{path} is listed but does not exist"));
        assert_eq!(znode.children().count(), znode.child_count(), "{path}");
        paths.extend(
            znode
                .children()
                .map(|name| oxkeeper_types::join_path(&path, name)),
        );
        all.insert(
            path,
            (
                znode.data().map(Into::into),
                znode.acl().to_vec(),
                *znode.stored_stat(),
            ),
        );
    }
    all
}
