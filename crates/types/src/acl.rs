//! Who may do what with a znode.

use std::fmt;

/// A set of rights (client spec, section 9.1). Bits without a meaning are kept as they were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permissions(pub i32);

impl Permissions {
    /// Read data and children.
    pub const READ: Permissions = Permissions(1);
    /// Write data.
    pub const WRITE: Permissions = Permissions(2);
    /// Create children.
    pub const CREATE: Permissions = Permissions(4);
    /// Delete children.
    pub const DELETE: Permissions = Permissions(8);
    /// Change the ACL.
    pub const ADMIN: Permissions = Permissions(16);
    /// All five.
    pub const ALL: Permissions = Permissions(31);

    /// Whether any right of `wanted` is among these.
    pub fn intersects(self, wanted: Permissions) -> bool {
        self.0 & wanted.0 != 0
    }

    /// These rights and those of `other`.
    pub fn union(self, other: Permissions) -> Permissions {
        Permissions(self.0 | other.0)
    }
}

/// An identity: in an ACL whom an entry is for, on a connection whom it has shown itself to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// `world`, `auth`, `digest`, `ip`, `x509`, `sasl` or `super`.
    pub scheme: Box<str>,
    /// What the scheme says, such as `user:hash` or an address.
    pub id: Box<str>,
}

impl Id {
    /// The identity `id` of `scheme`.
    pub fn new(scheme: &str, id: &str) -> Id {
        Id {
            scheme: scheme.into(),
            id: id.into(),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, self.id)
    }
}

/// An entry of an ACL list: the rights of one identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acl {
    /// What the identity may do.
    pub permissions: Permissions,
    /// Who.
    pub id: Id,
}

impl Acl {
    /// The entry that lets everybody do `permissions`.
    pub fn world(permissions: Permissions) -> Acl {
        Acl {
            permissions,
            id: Id::new("world", "anyone"),
        }
    }
}
