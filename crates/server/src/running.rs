//! A server that runs, for the program it runs in.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use oxkeeper_core::{CloseReason, Event, Standing};
use oxkeeper_types::{ServerId, SessionId, Zxid};

use crate::channels::CoreMessage;
use crate::service::Service;

/// What the program that runs a server can see of it and do with it, from any thread. Nothing here waits for the
/// server. What is asked of one that has ended has no effect.
#[derive(Clone)]
pub struct Running {
    pub(crate) service: Arc<Service>,
    pub(crate) halted: Arc<AtomicBool>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("address", &self.service.address)
            .field("standing", &self.standing())
            .finish_non_exhaustive()
    }
}

impl Running {
    /// Where clients connect, as it was bound.
    pub fn address(&self) -> SocketAddr {
        self.service.address
    }

    /// What the server is at the moment.
    pub fn standing(&self) -> Standing {
        self.service.view.standing()
    }

    /// Whether clients are served at the moment.
    pub fn serves_clients(&self) -> bool {
        self.service.serves_clients()
    }

    /// The leader that is followed, if there is one.
    pub fn followed_leader(&self) -> Option<ServerId> {
        let leader = self.service.view.leader.load(Relaxed);
        (leader >= 0).then_some(ServerId(leader))
    }

    /// The newest txn that is applied.
    pub fn last_zxid(&self) -> Zxid {
        self.service.shared.replica.read().last_processed
    }

    /// The sessions that the whole ensemble knows, as of [`Running::last_zxid`]. (Those that one server alone knows,
    /// `localSessionsEnabled`, are not among them.)
    pub fn sessions(&self) -> Vec<SessionId> {
        let replica = self.service.shared.replica.read();
        let mut sessions: Vec<SessionId> = replica.sessions.keys().copied().collect();
        sessions.sort_unstable();
        sessions
    }

    /// Whether [`Running::sessions`] has this one.
    pub fn has_session(&self, session: SessionId) -> bool {
        self.service.shared.replica.read().sessions.contains_key(&session)
    }

    /// How many connections of clients there are.
    pub fn connections(&self) -> usize {
        self.service.registry.count()
    }

    /// Ends a session as if its time were over: by a txn, with which its ephemerals go and its connection is closed
    /// without a word. When that is applied, [`Running::has_session`] says so. A learner cannot do that; its leader
    /// can. A session that ended meanwhile, or never was, is no error.
    pub fn expire_session(&self, session: SessionId) {
        self.service.core.submit(Event::ExpireSession { session });
    }

    /// Closes all connections of clients and, if asked to, closes every further one as soon as it is accepted, until
    /// [`Running::admit_connections`]. Says how many were open.
    pub fn close_connections(&self, refuse_further: bool) -> usize {
        let clients = self.service.registry.refuse_all(refuse_further);
        for client in &clients {
            client.close(CloseReason::Cut);
        }
        clients.len()
    }

    /// Admits connections again.
    pub fn admit_connections(&self) {
        self.service.registry.refuse_all(false);
    }

    /// Breaks all links to other servers and every further one, until [`Running::rejoin`]: for them this server is gone,
    /// and for it they are. Clients are not concerned.
    pub fn isolate(&self) {
        self.service.core.send(CoreMessage::Isolate(true));
    }

    /// Has links to other servers again.
    pub fn rejoin(&self) {
        self.service.core.send(CoreMessage::Isolate(false));
    }

    /// Closes the connection that has this session; the session goes on. False when there is none.
    pub fn close_connection_of(&self, session: SessionId) -> bool {
        let mut clients = self.service.registry.clients();
        clients.retain(|client| client.session().is_some_and(|(of, _)| of.id == session));
        for client in &clients {
            client.close(CloseReason::Cut);
        }
        !clients.is_empty()
    }

    /// Puts the server's clock forward, for everything that waits for a time to come: sessions without a connection,
    /// containers, times to live. Sessions with a connection count as heard from just now. Meant for a server that
    /// stands alone; a member of an ensemble would think that the others had been silent for as long.
    pub fn advance_clock(&self, by: Duration) {
        let clients = self.service.registry.clients();
        let hear = |ahead: Duration| {
            let now_ms = self.service.clock.now().monotonic_ms + crate::clock::millis(ahead);
            for (session, _) in clients.iter().filter_map(|client| client.session()) {
                session.touch(now_ms);
            }
        };
        hear(by);
        self.service.clock.advance(by);
        hear(Duration::ZERO);
        // The core looks at the clock when it is told something.
        self.service.core.inspect(|_| ());
    }

    /// Runs `hold` on the thread that orders all changes: nothing is changed before it returns. For a program that
    /// stops its server for a while; reads go on unless it stops the runtime too.
    pub fn hold(&self, hold: impl FnOnce() + Send + 'static) {
        self.service.core.inspect(move |_| hold());
    }

    /// From now on nothing is decided, written or made durable any more. [`crate::serve`] is to be dropped next.
    pub fn halt(&self) {
        self.halted.store(true, Relaxed);
    }
}
