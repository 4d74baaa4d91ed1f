//! Requests of clients, decoded. What only reads and what writes are two types, because they go two ways.

use std::borrow::Cow;

use crate::{Acl, AddWatchMode, ErrorCode, OpCode, WatchSelector, Zxid};

/// A create of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// [`OpCode::Create`], [`OpCode::Create2`], [`OpCode::CreateContainer`] or [`OpCode::CreateTtl`].
    pub op: OpCode,
    /// The path asked for; a sequential create appends to it.
    pub path: String,
    /// The data; null is kept apart from empty.
    pub data: Option<Box<[u8]>>,
    /// The ACL list as given; a null list is an empty one, a null scheme an empty one.
    pub acl: Vec<Acl>,
    /// The flags as given; [`crate::CreateMode::from_flags`] tells whether they are valid.
    pub flags: i32,
    /// The time to live as given, -1 for the operations that have none.
    pub ttl: i64,
}

/// How the membership of the ensemble is to change: by who comes and who goes, or to a whole new list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReconfigRequest {
    /// Server lines with commas between, of servers that join or change.
    pub joining: Option<String>,
    /// Numbers of servers with commas between.
    pub leaving: Option<String>,
    /// The whole new list, with commas or line ends between; the other two do not count then.
    pub new_members: Option<String>,
    /// The version of the configuration that is to be changed; -1 for any.
    pub version: i64,
}

/// A request that changes the tree (or fails to): it takes a zxid and goes through the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteRequest {
    /// Make a znode.
    Create(CreateRequest),
    /// Delete a znode.
    Delete {
        /// Which.
        path: String,
        /// The expected data version.
        version: i32,
    },
    /// Replace the data of a znode.
    SetData {
        /// Which.
        path: String,
        /// The new data.
        data: Option<Box<[u8]>>,
        /// The expected data version.
        version: i32,
    },
    /// Replace the ACL of a znode.
    SetAcl {
        /// Which.
        path: String,
        /// The new ACL list as given.
        acl: Vec<Acl>,
        /// The expected ACL version.
        version: i32,
    },
    /// Check a data version; only inside a multi.
    Check {
        /// Of which znode.
        path: String,
        /// The expected data version.
        version: i32,
    },
    /// All of these or none. Only creates, deletes, setData and checks.
    Multi(Vec<WriteRequest>),
    /// Remove a container or a znode whose time to live is over. Made by the server, never by a client.
    DeleteContainer {
        /// Which.
        path: String,
    },
    /// Change the membership of the ensemble.
    Reconfig(ReconfigRequest),
    /// Put this list of servers into the znode of the configuration. Made by the leader of a reconfig, never by a
    /// client.
    SetConfig {
        /// The list, as ZooKeeper writes it.
        config: Box<[u8]>,
    },
    /// Begin a session. Made by the server for a connect request.
    CreateSession {
        /// The negotiated session timeout, in ms.
        timeout_ms: i32,
    },
    /// End the caller's session and delete its ephemerals.
    CloseSession,
    /// A request that could be decoded but has a null where there must be none. It can only fail, and takes a
    /// zxid as every failed write does.
    Invalid(ErrorCode),
}

/// The watches a client had before it lost its connection (client spec, section 8.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchPaths {
    /// The newest zxid the client had seen.
    pub relative_zxid: Zxid,
    /// Paths with data watches.
    pub data: Vec<String>,
    /// Paths with exist watches.
    pub exist: Vec<String>,
    /// Paths with child watches.
    pub child: Vec<String>,
    /// Paths with persistent watches.
    pub persistent: Vec<String>,
    /// Paths with persistent recursive watches.
    pub persistent_recursive: Vec<String>,
}

/// A part of a multiRead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubRead<'a> {
    /// Data and Stat of a znode.
    GetData(Cow<'a, str>),
    /// Names of the children of a znode.
    GetChildren(Cow<'a, str>),
}

/// A request that is answered from the tree as it is, by the server the client is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadRequest<'a> {
    /// Does a znode exist.
    Exists {
        /// Which.
        path: Cow<'a, str>,
        /// Whether to leave a one-shot watch.
        watch: bool,
    },
    /// Data and Stat.
    GetData {
        /// Of which znode.
        path: Cow<'a, str>,
        /// Whether to leave a one-shot watch.
        watch: bool,
    },
    /// The ACL list and Stat.
    GetAcl {
        /// Of which znode.
        path: Cow<'a, str>,
    },
    /// The names of the children, with the Stat when asked by getChildren2.
    GetChildren {
        /// Of which znode.
        path: Cow<'a, str>,
        /// Whether to leave a one-shot watch.
        watch: bool,
        /// Whether the Stat is wanted too.
        with_stat: bool,
    },
    /// The number of all descendants.
    GetAllChildrenNumber {
        /// Of which znode.
        path: Cow<'a, str>,
    },
    /// The ephemerals of the caller's session.
    GetEphemerals {
        /// A plain string prefix their paths must have; null, blank and `/` mean all.
        prefix: Option<Cow<'a, str>>,
    },
    /// Several reads in one; each stands alone.
    MultiRead(Vec<SubRead<'a>>),
    /// Is there such a watch.
    CheckWatches {
        /// On which path exactly.
        path: Cow<'a, str>,
        /// Of which kind.
        selector: WatchSelector,
    },
    /// Remove such watches.
    RemoveWatches {
        /// On which path exactly.
        path: Cow<'a, str>,
        /// Of which kind.
        selector: WatchSelector,
    },
    /// Leave a watch that stays.
    AddWatch {
        /// On which path.
        path: Cow<'a, str>,
        /// Of which mode.
        mode: AddWatchMode,
    },
    /// Arm again the watches of an earlier connection, or fire them for what was missed.
    SetWatches(Box<WatchPaths>),
    /// The identities of the connection.
    WhoAmI,
}
