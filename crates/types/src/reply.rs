//! What applying a txn says to the client that asked for it.

use crate::{ErrorCode, OpCode, Stat};

/// The outcome of a write. Stats are as of that txn (inside a multi: as of that part).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened and there is nothing more to say: delete, check, createSession, closeSession.
    Done,
    /// A znode was made.
    Created {
        /// Its final path.
        path: String,
        /// Its Stat when the operation answers with one.
        stat: Option<Stat>,
    },
    /// Data or ACL was replaced.
    Changed(Stat),
    /// The configuration was replaced.
    Reconfigured {
        /// The text of the new configuration.
        config: Option<Box<[u8]>>,
        /// The Stat of `/zookeeper/config`.
        stat: Stat,
    },
    /// It failed and nothing changed.
    Failed(ErrorCode),
    /// The outcome of each part of a multi; a failed multi has only errors.
    Multi(Vec<OpResult>),
}

/// The outcome of one part of a multi (client spec, section 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// The part happened; `op` is the type to answer with.
    Ok {
        /// 1, 15, 2, 5 or 13.
        op: OpCode,
        /// Its outcome, never a multi.
        outcome: Outcome,
    },
    /// The multi failed: 0 for a part before the one that failed, its code for that one,
    /// [`ErrorCode::RuntimeInconsistency`] for the parts after it.
    Error(i32),
}
