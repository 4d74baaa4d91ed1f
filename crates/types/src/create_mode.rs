//! The kinds of znodes: how they are asked for, and how the stored owner word tells them apart.

use crate::SessionId;

/// The longest time to live, in ms: the stored owner word has 40 bits for it.
pub const TTL_MS_MAX: i64 = 0xff_ffff_ffff;

/// The flags of a create request (client spec, section 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs, reason = "each name is the mode's own in the client protocol")]
pub enum CreateMode {
    Persistent = 0,
    Ephemeral = 1,
    PersistentSequential = 2,
    EphemeralSequential = 3,
    Container = 4,
    PersistentWithTtl = 5,
    PersistentSequentialWithTtl = 6,
}

impl CreateMode {
    /// The mode of the flags on the wire, if there is one.
    pub fn from_flags(flags: i32) -> Option<CreateMode> {
        use CreateMode::*;
        Some(match flags {
            0 => Persistent,
            1 => Ephemeral,
            2 => PersistentSequential,
            3 => EphemeralSequential,
            4 => Container,
            5 => PersistentWithTtl,
            6 => PersistentSequentialWithTtl,
            _ => return None,
        })
    }

    /// Whether the znode goes with its session.
    pub fn is_ephemeral(self) -> bool {
        matches!(self, CreateMode::Ephemeral | CreateMode::EphemeralSequential)
    }

    /// Whether the parent's counter is appended to the name.
    pub fn is_sequential(self) -> bool {
        matches!(
            self,
            CreateMode::PersistentSequential
                | CreateMode::EphemeralSequential
                | CreateMode::PersistentSequentialWithTtl
        )
    }

    /// Whether the znode has a time to live.
    pub fn has_ttl(self) -> bool {
        matches!(
            self,
            CreateMode::PersistentWithTtl | CreateMode::PersistentSequentialWithTtl
        )
    }
}

/// What a znode is, once it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZnodeKind {
    /// Stays until deleted.
    Persistent,
    /// Goes with the session that made it, and has no children.
    Ephemeral,
    /// Is removed by the server some time after its last child went.
    Container,
    /// Is removed by the server when it has no children and was not written for this many ms.
    Ttl(i64),
}

/// The owner word of a stored znode (storage spec, section 2): what it stands for depends on two settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredOwner(pub i64);

/// What an owner word stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerKind {
    /// Nobody: a persistent znode.
    Nobody,
    /// The session of an ephemeral znode.
    Session(SessionId),
    /// A container.
    Container,
    /// A znode with a time to live, in ms.
    Ttl(i64),
}

impl StoredOwner {
    /// The owner word of containers.
    pub const CONTAINER: StoredOwner = StoredOwner(i64::MIN);
    /// The top byte that marks extended kinds; the next two bytes tell which, 0 for a time to live.
    const EXTENDED: u64 = 0xff00_0000_0000_0000;
    const EXTENDED_FEATURE_MASK: u64 = 0x00ff_ff00_0000_0000;

    /// The owner word of a znode of `kind` made by `session`.
    ///
    /// # Panics
    /// When a time to live is outside 1..=[`TTL_MS_MAX`]; whoever prepares the txn has checked it.
    pub fn of(kind: ZnodeKind, session: SessionId) -> StoredOwner {
        match kind {
            ZnodeKind::Persistent => StoredOwner(0),
            ZnodeKind::Ephemeral => StoredOwner(session.0),
            ZnodeKind::Container => StoredOwner::CONTAINER,
            ZnodeKind::Ttl(ttl_ms) => {
                assert!(
                    (1..=TTL_MS_MAX).contains(&ttl_ms),
                    "a time to live of {ttl_ms} ms cannot be stored"
                );
                StoredOwner((StoredOwner::EXTENDED | ttl_ms.cast_unsigned()).cast_signed())
            }
        }
    }

    fn has_ttl_mark(self) -> bool {
        let word = self.0.cast_unsigned();
        word & StoredOwner::EXTENDED == StoredOwner::EXTENDED
            && word & StoredOwner::EXTENDED_FEATURE_MASK == 0
    }

    /// What the word stands for. Znodes with a time to live are recognised only with `extended_types`, and those
    /// of release 3.5.3 (any other negative word) only with `emulate_353` besides.
    pub fn kind(self, extended_types: bool, emulate_353: bool) -> OwnerKind {
        if self.0 == 0 {
            OwnerKind::Nobody
        } else if self == StoredOwner::CONTAINER {
            OwnerKind::Container
        } else if extended_types && (self.has_ttl_mark() || emulate_353 && self.0 < 0) {
            OwnerKind::Ttl(self.0 & TTL_MS_MAX)
        } else {
            OwnerKind::Session(SessionId(self.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttl_owner_word_is_the_one_java_writes() {
        assert_eq!(
            StoredOwner::of(ZnodeKind::Ttl(60_000), SessionId(1)).0,
            -72_057_594_037_867_936
        );
    }

    #[test]
    fn owner_words_are_told_apart_by_settings() {
        let ttl = StoredOwner::of(ZnodeKind::Ttl(5), SessionId::NONE);
        assert_eq!(ttl.kind(true, false), OwnerKind::Ttl(5));
        assert_eq!(ttl.kind(false, false), OwnerKind::Session(SessionId(ttl.0)));
        assert_eq!(StoredOwner::CONTAINER.kind(false, false), OwnerKind::Container);
        assert_eq!(StoredOwner(7).kind(true, true), OwnerKind::Session(SessionId(7)));
        let of_353 = StoredOwner(i64::MIN | 5);
        assert_eq!(of_353.kind(true, false), OwnerKind::Session(SessionId(of_353.0)));
        assert_eq!(of_353.kind(true, true), OwnerKind::Ttl(5));
    }
}
