//! Txns: what a write became once it was checked. Applying one cannot fail.

use crate::{Acl, ErrorCode, SessionId, ZnodeKind, Zxid};

/// What every txn carries (storage spec, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnHeader {
    /// The session that asked, or [`SessionId::NONE`] for what the server does by itself.
    pub session: SessionId,
    /// The xid of the request.
    pub cxid: i32,
    /// The place of the txn in the history.
    pub zxid: Zxid,
    /// Wall clock of the leader, ms since the Unix epoch.
    pub time: i64,
}

/// The digest that the tree has after the txn (storage spec, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnDigest {
    /// The version of the algorithm; values of different versions are never compared.
    pub version: i32,
    /// The sum of the digests of all znodes.
    pub tree_digest: u64,
}

/// A znode comes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTxn {
    /// Its path, the sequence number included.
    pub path: String,
    /// Its data.
    pub data: Option<Box<[u8]>>,
    /// Its ACL list, with `auth` already replaced. Empty when ACLs are skipped.
    pub acl: Vec<Acl>,
    /// What it is.
    pub kind: ZnodeKind,
    /// The counter of the parent after this create; -1 in old logs: one more than before.
    pub parent_cversion: i32,
    /// Whether the client wants the Stat in the answer: type 15 instead of 1 in the log.
    pub with_stat: bool,
}

/// What happened (storage spec, section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Txn {
    /// A znode was made: types 1, 15, 19 and 21.
    Create(CreateTxn),
    /// A znode was deleted: type 2, or 20 when the server removed it by itself.
    Delete {
        /// Which.
        path: String,
        /// Whether it was a container or had a time to live, and the server removed it.
        by_server: bool,
    },
    /// Data was replaced: type 5.
    SetData {
        /// Of which znode.
        path: String,
        /// The new data.
        data: Option<Box<[u8]>>,
        /// The new version.
        version: i32,
    },
    /// The configuration was replaced: type 16.
    Reconfig {
        /// `/zookeeper/config`.
        path: String,
        /// The text of the new configuration.
        data: Option<Box<[u8]>>,
        /// Always -1.
        version: i32,
    },
    /// An ACL was replaced: type 7.
    SetAcl {
        /// Of which znode.
        path: String,
        /// The new list.
        acl: Vec<Acl>,
        /// The new ACL version.
        version: i32,
    },
    /// A version was checked, inside a multi: type 13.
    Check {
        /// Of which znode.
        path: String,
        /// The checked version plus 1.
        version: i32,
    },
    /// All of these: type 14. When it has an [`Txn::Error`], none of them has an effect.
    Multi(Vec<Txn>),
    /// A session began: type -10.
    CreateSession {
        /// Its timeout in ms.
        timeout_ms: i32,
    },
    /// The session of the header ended: type -11.
    CloseSession {
        /// Its ephemerals, in the order to delete them; `None` in old logs: all that the tree knows.
        ephemerals: Option<Vec<String>>,
    },
    /// A write failed: type -1. It has no effect, but it has a zxid.
    Error {
        /// The code of the error; old servers may have logged codes that [`ErrorCode`] does not have.
        code: i32,
    },
}

impl Txn {
    /// The txn of a failed write.
    pub fn error(code: ErrorCode) -> Txn {
        Txn::Error { code: code.code() }
    }

    /// Whether this is a multi of which a part failed, so that none of it has an effect.
    pub fn is_failed_multi(&self) -> bool {
        matches!(self, Txn::Multi(parts) if parts.iter().any(|part| matches!(part, Txn::Error { .. })))
    }
}
