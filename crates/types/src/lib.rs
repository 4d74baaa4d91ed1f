//! The words of Oxkeeper: values with a meaning and the rules that belong to the value itself (how a path is
//! valid, how a zxid is packed, how a version is bumped). Nothing here knows bytes, files or sockets.
//!
//! The glossary is in ARCHITECTURE.md.

mod acl;
mod create_mode;
mod error_code;
mod ids;
mod op_code;
mod path;
mod reply;
mod request;
mod stat;
mod txn;
mod watch;

pub use acl::{Acl, Id, Permissions};
pub use create_mode::{CreateMode, OwnerKind, StoredOwner, TTL_MS_MAX, ZnodeKind};
pub use error_code::ErrorCode;
pub use ids::{ServerId, SessionId, Zxid};
pub use op_code::OpCode;
pub use path::{
    CONFIG_PATH, PathError, QUOTA_PATH, RESERVED_PATH, ROOT_PATH, is_builtin_path, join_path, split_path,
    validate_path,
};
pub use reply::{OpResult, Outcome};
pub use request::{CreateRequest, ReadRequest, ReconfigRequest, SubRead, WatchPaths, WriteRequest};
pub use stat::{Stat, StoredStat, VERSION_ANY};
pub use txn::{CreateTxn, Txn, TxnDigest, TxnHeader};
pub use watch::{AddWatchMode, WatchEventKind, WatchSelector};
