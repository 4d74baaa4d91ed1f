//! What the core and a connection know of each other: whose it is, and the box for what is to be sent.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use oxkeeper_tree::ConnectionId;
use oxkeeper_types::{Id, Outcome, WatchEventKind, Zxid};
use parking_lot::Mutex;

use crate::{ConnectionStats, SessionHandle};

/// Why the server ends a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client asked to close its session.
    SessionClosed,
    /// The session timed out.
    SessionExpired,
    /// The session was renewed by a newer connection.
    SessionRenewedElsewhere,
    /// The session to renew does not exist, or the password is wrong.
    SessionRefused,
    /// The client has seen a later zxid than this server has.
    ClientAhead {
        /// What the client has seen.
        seen: Zxid,
        /// What this server has.
        ours: Zxid,
    },
    /// The input broke the protocol; says how.
    Malformed(String),
    /// An operation that does not exist or that clients must not send.
    BadOperation(i32),
    /// Authentication failed.
    AuthFailed,
    /// The connection must authenticate first.
    AuthRequired,
    /// A limit of that name was reached.
    Limit(&'static str),
    /// The server stops.
    ServerStops,
    /// Whoever runs the server wants it closed.
    Cut,
    /// The server has no leader at the moment, or is not caught up with it.
    NotServing,
    /// The server only reads at the moment, and the client, or the session it has, wants more.
    ReadOnly,
    /// What became of a request is not known: the leader never answered it.
    RequestLost,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::SessionClosed => f.write_str("the client closed its session"),
            CloseReason::SessionExpired => f.write_str("the session expired"),
            CloseReason::SessionRenewedElsewhere => {
                f.write_str("the session was renewed on another connection")
            }
            CloseReason::SessionRefused => f.write_str("there is no such session, or the password is wrong"),
            CloseReason::ClientAhead { seen, ours } => {
                write!(f, "the client has seen zxid {seen}, this server has {ours}")
            }
            CloseReason::Malformed(how) => write!(f, "malformed input: {how}"),
            CloseReason::BadOperation(op) => write!(f, "the operation {op} is not one for clients"),
            CloseReason::AuthFailed => f.write_str("authentication failed"),
            CloseReason::AuthRequired => f.write_str("the connection must authenticate first"),
            CloseReason::Limit(name) => write!(f, "the limit {name} was reached"),
            CloseReason::ServerStops => f.write_str("the server stops"),
            CloseReason::Cut => f.write_str("whoever runs the server cut it"),
            CloseReason::NotServing => f.write_str("the server is not in step with a leader"),
            CloseReason::ReadOnly => f.write_str("the server only reads until it finds a leader"),
            CloseReason::RequestLost => f.write_str("the leader did not answer a request"),
        }
    }
}

/// What the core has for a connection.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// Something watched changed.
    WatchEvent {
        /// The txn that changed it.
        zxid: Zxid,
        /// What happened.
        kind: WatchEventKind,
        /// To which path.
        path: Arc<str>,
    },
    /// The outcome of the oldest write in work.
    Outcome {
        /// The zxid it took.
        zxid: Zxid,
        /// What became of it.
        outcome: Outcome,
    },
    /// The answer of the oldest request in work, when that is no write.
    Answer {
        /// The zxid in its header.
        zxid: Zxid,
        /// The whole answer; for setWatches the events that were missed come first.
        frames: Vec<u8>,
    },
    /// The session is there, new or renewed.
    SessionOpened {
        /// The session.
        session: Arc<SessionHandle>,
        /// The negotiated timeout, ms.
        timeout_ms: i32,
        /// Whether the server only reads at the moment.
        read_only: bool,
    },
    /// There is no such session, or the password is wrong.
    SessionRefused,
    /// End the connection, without a word.
    Close(CloseReason),
}

/// One connection, as the core sees it.
pub struct Client {
    /// Its number.
    pub id: ConnectionId,
    /// The address it comes from.
    pub peer: SocketAddr,
    /// When it was accepted, monotonic ms.
    pub established_ms: u64,
    /// What is counted of it.
    pub stats: ConnectionStats,
    outbox: Mutex<Outbox>,
    identities: Mutex<Arc<[Id]>>,
    session: Mutex<Option<(Arc<SessionHandle>, i32)>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Outbox {
    waiting: Vec<Delivery>,
    overflowed: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A connection from `peer`. `wake` makes the connection look into its box; it must not block.
    pub fn new(
        id: ConnectionId,
        peer: SocketAddr,
        established_ms: u64,
        wake: Box<dyn Fn() + Send + Sync>,
    ) -> Client {
        let address = peer.ip().to_canonical().to_string();
        Client {
            id,
            peer,
            established_ms,
            stats: ConnectionStats::default(),
            outbox: Mutex::default(),
            identities: Mutex::new(Arc::from([Id::new("ip", &address)])),
            session: Mutex::new(None),
            wake,
        }
    }

    /// Puts something into the box; true when the box was empty, so that the connection must be woken.
    /// Watch events are put in while the tree is held for writing: whoever holds it for reading and has emptied the
    /// box has seen every event of the state it reads (W1).
    pub(crate) fn deliver(&self, delivery: Delivery, waiting_max: usize) -> bool {
        let mut outbox = self.outbox.lock();
        if outbox.overflowed {
            return false;
        }
        if outbox.waiting.len() >= waiting_max {
            // The connection does not read; what it misses it learns when it comes back with setWatches.
            outbox.overflowed = true;
            outbox.waiting.clear();
            outbox
                .waiting
                .push(Delivery::Close(CloseReason::Limit("deliveries_waiting_max")));
            return true;
        }
        outbox.waiting.push(delivery);
        outbox.waiting.len() == 1
    }

    /// Takes all that is in the box.
    pub(crate) fn take_deliveries(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.outbox.lock().waiting)
    }

    /// Whether the core has ended the connection; for the shell, while it waits for the client to read.
    pub fn is_closed_by_core(&self) -> bool {
        self.outbox
            .lock()
            .waiting
            .iter()
            .any(|delivery| matches!(delivery, Delivery::Close(_)))
    }

    /// Asks the connection to close; for the shell.
    pub fn close(&self, reason: CloseReason) {
        self.deliver(Delivery::Close(reason), usize::MAX);
        self.wake();
    }

    /// Makes the connection look into its box.
    pub fn wake(&self) {
        (self.wake)();
    }

    /// Who the connection has shown to be, so far.
    pub fn identities(&self) -> Arc<[Id]> {
        self.identities.lock().clone()
    }

    /// Adds identities that the connection has shown. False, and nothing is added, when all together would be longer
    /// than `bytes_max`: they go to the leader with every request.
    pub(crate) fn add_identities(&self, ids: Vec<Id>, bytes_max: usize) -> bool {
        let mut identities = self.identities.lock();
        let mut all = identities.to_vec();
        for id in ids {
            if !all.contains(&id) {
                all.push(id);
            }
        }
        // Each is two strings with their lengths.
        let bytes: usize = all.iter().map(|id| 8 + id.scheme.len() + id.id.len()).sum();
        let fits = bytes <= bytes_max;
        if fits && all.len() > identities.len() {
            *identities = all.into();
        }
        fits
    }

    /// The session of the connection and its timeout in ms, once there is one.
    pub fn session(&self) -> Option<(Arc<SessionHandle>, i32)> {
        self.session.lock().clone()
    }

    pub(crate) fn set_session(&self, session: Arc<SessionHandle>, timeout_ms: i32) {
        *self.session.lock() = Some((session, timeout_ms));
    }
}
