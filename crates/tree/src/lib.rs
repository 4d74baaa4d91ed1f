//! The znodes of a server: what is stored, what requests become (`prepare`), what txns do (`apply`), and who
//! watches.
//!
//! [`Tree`] is the state as of the last applied txn. [`Tree::prepare`] checks a request against the tree as it will
//! be, seen through the [`Overlay`] of txns in flight, and yields a txn; it may refuse. [`Tree::apply`] changes the
//! tree and says what changed; it may not refuse (T2). Both are deterministic (T1).
//!
//! Nothing here knows that other servers exist, nor files, sockets, clocks or bytes of the protocol.

mod acl;
mod acl_table;
mod apply;
mod arena;
mod digest;
mod name;
mod overlay;
mod prepare;
mod quota;
mod settings;
mod snapshot;
mod tree;
mod watches;
mod znodes;

pub use acl::{check_permission, redact_digest};
pub use apply::Change;
pub use digest::DIGEST_VERSION;
pub use overlay::Overlay;
pub use prepare::{Caller, Prepared};
pub use quota::QuotaExceeded;
pub use settings::TreeSettings;
pub use snapshot::{RestoreError, SnapshotCursor, VisitZnode};
pub use tree::{Tree, Znode};
pub use watches::{ConnectionId, Told, WatchSummary, Watches};
