//! The errors a client can be answered with.

use std::fmt;

/// An error code of the client protocol (client spec, section 11). The number is what travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ErrorCode {
    /// A later part of a multi whose earlier part failed: not attempted.
    RuntimeInconsistency = -2,
    /// The request could not be decoded, or its handling failed unexpectedly.
    MarshallingError = -5,
    /// The op code is unknown, or what it asks for is switched off.
    Unimplemented = -6,
    /// Malformed path, flags or ttl, or a reserved znode.
    BadArguments = -8,
    /// The session is not known here.
    UnknownSession = -12,
    /// Of the new members of a reconfig no quorum follows the leader.
    NewConfigNoQuorum = -13,
    /// Another reconfig is under way.
    ReconfigInProgress = -14,
    /// The znode, or the parent of one to be made, does not exist.
    NoNode = -101,
    /// The ACL does not permit it.
    NoAuth = -102,
    /// The expected version is not the present one.
    BadVersion = -103,
    /// The parent is ephemeral.
    NoChildrenForEphemerals = -108,
    /// A znode of that path exists.
    NodeExists = -110,
    /// The znode has children.
    NotEmpty = -111,
    /// The session is closing or has ended.
    SessionExpired = -112,
    /// The ACL list is empty or an entry is invalid.
    InvalidAcl = -114,
    /// Authentication failed.
    AuthFailed = -115,
    /// The session belongs to another connection by now; never sent, the connection is closed.
    SessionMoved = -118,
    /// The server is read-only.
    NotReadOnly = -119,
    /// A local session may not own ephemerals.
    EphemeralOnLocalSession = -120,
    /// There is no such watch.
    NoWatcher = -121,
    /// `reconfigEnabled` is false.
    ReconfigDisabled = -123,
    /// The server demands authentication that this connection has not done.
    SessionClosedRequireSaslAuth = -124,
    /// A hard quota would be exceeded.
    QuotaExceeded = -125,
    /// The request waited too long and was not run.
    ThrottledOp = -127,
}

impl ErrorCode {
    /// The error of a number, if there is one.
    pub fn from_code(code: i32) -> Option<ErrorCode> {
        use ErrorCode::*;
        const ALL: [ErrorCode; 24] = [
            RuntimeInconsistency,
            MarshallingError,
            Unimplemented,
            BadArguments,
            UnknownSession,
            NewConfigNoQuorum,
            ReconfigInProgress,
            NoNode,
            NoAuth,
            BadVersion,
            NoChildrenForEphemerals,
            NodeExists,
            NotEmpty,
            SessionExpired,
            InvalidAcl,
            AuthFailed,
            SessionMoved,
            NotReadOnly,
            EphemeralOnLocalSession,
            NoWatcher,
            ReconfigDisabled,
            SessionClosedRequireSaslAuth,
            QuotaExceeded,
            ThrottledOp,
        ];
        ALL.into_iter().find(|error| error.code() == code)
    }

    /// The number on the wire.
    pub fn code(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", self.code())
    }
}
