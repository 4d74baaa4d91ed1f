//! What is known of a znode besides its data.

use crate::{SessionId, Zxid};

/// The expected version that matches any version (client spec, section 5.7).
pub const VERSION_ANY: i32 = -1;

/// The Stat record a client sees (client spec, sections 4.1 and 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Zxid of the create.
    pub czxid: Zxid,
    /// Zxid of the last change of data.
    pub mzxid: Zxid,
    /// Time of the create, ms since the Unix epoch by the leader's clock.
    pub ctime: i64,
    /// Time of the last change of data, in the same unit.
    pub mtime: i64,
    /// Number of changes of data.
    pub version: i32,
    /// Number of creates and deletes of children; derived, see [`StoredStat::cversion`].
    pub cversion: i32,
    /// Number of changes of the ACL.
    pub aversion: i32,
    /// The owner of an ephemeral znode, 0 for all others.
    pub ephemeral_owner: SessionId,
    /// Length of the data in bytes, 0 for null data.
    pub data_length: i32,
    /// Number of children.
    pub num_children: i32,
    /// Zxid of the last create or delete of a child.
    pub pzxid: Zxid,
}

/// What is stored of a Stat, in snapshots and in the digest (storage spec, sections 2 and 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredStat {
    /// Zxid of the create.
    pub czxid: Zxid,
    /// Zxid of the last change of data.
    pub mzxid: Zxid,
    /// Time of the create, ms since the Unix epoch.
    pub ctime: i64,
    /// Time of the last change of data, ms since the Unix epoch.
    pub mtime: i64,
    /// Number of changes of data.
    pub version: i32,
    /// Number of children ever created; the sequence number of the next sequential child. Never goes back (T4).
    pub cversion: i32,
    /// Number of changes of the ACL.
    pub aversion: i32,
    /// The stored owner word; see [`crate::StoredOwner`].
    pub ephemeral_owner: i64,
    /// Zxid of the last create or delete of a child. Never goes back (T4).
    pub pzxid: Zxid,
}

impl StoredStat {
    /// The Stat a client sees, of a znode with `data_length` bytes and `num_children` children.
    /// `owner` is the session that the stored owner word stands for.
    pub fn to_stat(&self, owner: SessionId, data_length: i32, num_children: i32) -> Stat {
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            // Every create adds 2 - 1, every delete adds 1 (client spec, section 5.2).
            cversion: self.cversion.wrapping_mul(2).wrapping_sub(num_children),
            aversion: self.aversion,
            ephemeral_owner: owner,
            data_length,
            num_children,
            pzxid: self.pzxid,
        }
    }
}
