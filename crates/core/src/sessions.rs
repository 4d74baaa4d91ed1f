//! Sessions: their ids and passwords, who is alive, and whose time is over (client spec, sections 2.5, 2.6, 7.1).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use oxkeeper_types::{ServerId, SessionId, Zxid};
use oxkeeper_zab::LinkId;

use crate::Client;

/// What a connection and the core share of a session. Requests touch it without asking the core, which looks at it
/// when the session's time seems over; so liveness costs a read nothing but a store.
#[derive(Debug)]
pub struct SessionHandle {
    /// The session.
    pub id: SessionId,
    last_heard_ms: AtomicU64,
    closing: AtomicBool,
}

impl SessionHandle {
    fn new(id: SessionId, now_ms: u64) -> SessionHandle {
        SessionHandle {
            id,
            last_heard_ms: AtomicU64::new(now_ms),
            closing: AtomicBool::new(false),
        }
    }

    /// Notes that the client was heard at `now_ms`.
    pub fn touch(&self, now_ms: u64) {
        self.last_heard_ms.fetch_max(now_ms, Relaxed);
    }

    /// Whether the end of the session was decided, so that further requests are dropped.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }
}

/// The first session id that a server gives, whose history ends at `last`: its id in the high byte, then 40 bits of
/// clock, then a counter.
///
/// Should the clock have gone back since ids among `known` were given, it comes after these, and not close: the next ones
/// may have been of sessions that have ended, and who held one, and comes back with its password, must not get another's.
/// How far is told by where the history ends, which each session moves but a local one: between a minute and 4.7 hours of the
/// clock. Two lives can still meet, which is as unlikely as two of some 16 million places being one.
pub(crate) fn first_session_id(
    server: ServerId,
    clock_ms: i64,
    last: Zxid,
    known: impl Iterator<Item = SessionId>,
) -> SessionId {
    // The clock above the counter, in what the server's id leaves.
    let at = |clock_ms: i64| ((clock_ms << 24).cast_unsigned() >> 8).cast_signed() | (server.0 << 56);
    let of_this_server = known.filter(|known| known.0 >> 56 == at(0) >> 56);
    let id = match of_this_server.max() {
        Some(newest) if newest.0 >= at(clock_ms) => {
            let scattered = last.0.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            at((newest.0 >> 16) + 60_000 + scattered.cast_signed())
        }
        _ => at(clock_ms),
    };
    // This one id means "container" where the owner of a znode is stored.
    SessionId(if id == i64::MIN { id + 1 } else { id })
}

/// The password of a session: a function of its id alone, so that every server of an ensemble, Java or not, can
/// check it. The generator is `java.util.Random`, seeded with the id and a constant.
pub fn session_password(session: SessionId) -> [u8; 16] {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut state = ((session.0 ^ 0xB341_5C00).cast_unsigned() ^ MULTIPLIER) & MASK;
    let mut password = [0; 16];
    for word in password.chunks_exact_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        word.copy_from_slice(&(state >> 16).to_le_bytes()[..4]);
    }
    password
}

#[derive(Debug)]
struct Session {
    handle: Arc<SessionHandle>,
    timeout_ms: i32,
    /// The key in `due` under which this session is found.
    due_ms: u64,
    /// Who speaks for it.
    owner: Option<Owner>,
    kind: SessionKind,
}

/// Who knows of a session, and who ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionKind {
    /// All servers know it. This one ends it, by a txn.
    Global,
    /// All servers know it; the leader, another server, ends it.
    OfLeader,
    /// This server alone knows it and ends it, without a txn (`localSessionsEnabled`).
    Local,
}

/// Through whom a session came last. Only what comes from there is its client's (quorum spec, 7.7).
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    /// A connection of this server, while it lasts.
    Client(Arc<Client>),
    /// A connection of this server that has ended. The session's client must show up again first: what a learner
    /// still brings of it is older.
    Gone,
    /// A learner, over this link. When the link is gone, the session's client must show up again first.
    Learner(LinkId),
}

/// What a leader says to a request that a learner forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It may go on.
    Granted,
    /// There is no such session, or its end is decided.
    Expired,
    /// The session has come through somebody else since.
    Moved,
}

/// All sessions that this server tracks.
#[derive(Debug)]
pub struct SessionTable {
    tick_ms: u64,
    sessions: HashMap<SessionId, Session>,
    /// Every session that is not closing is in exactly one bucket, at the earliest moment it could expire as far as
    /// was known when it was put there. Touching does not move it; looking does.
    due: BTreeMap<u64, BTreeSet<SessionId>>,
}

impl SessionTable {
    pub(crate) fn new(tick_ms: u64) -> SessionTable {
        SessionTable {
            tick_ms: tick_ms.max(1),
            sessions: HashMap::new(),
            due: BTreeMap::new(),
        }
    }

    /// The moment at which a session expires that was heard last at `heard_ms`: up to a tick late, never early.
    fn expiry(&self, heard_ms: u64, timeout_ms: i32) -> u64 {
        let end = heard_ms.saturating_add(u64::try_from(timeout_ms).unwrap_or(0));
        (end / self.tick_ms + 1) * self.tick_ms
    }

    /// Adds a session, heard now.
    pub(crate) fn add(
        &mut self,
        id: SessionId,
        timeout_ms: i32,
        kind: SessionKind,
        now_ms: u64,
    ) -> Arc<SessionHandle> {
        let handle = Arc::new(SessionHandle::new(id, now_ms));
        let due_ms = self.expiry(now_ms, timeout_ms);
        if kind != SessionKind::OfLeader {
            self.due.entry(due_ms).or_default().insert(id);
        }
        let session = Session {
            handle: handle.clone(),
            timeout_ms,
            due_ms,
            owner: None,
            kind,
        };
        let earlier = self.sessions.insert(id, session);
        assert!(earlier.is_none(), "session {id} was given out twice");
        handle
    }

    fn undue(&mut self, id: SessionId, due_ms: u64) {
        if let Some(bucket) = self.due.get_mut(&due_ms) {
            bucket.remove(&id);
            if bucket.is_empty() {
                self.due.remove(&due_ms);
            }
        }
    }

    /// Gives a live session to a connection, with a new timeout; `None` when it does not exist or is closing.
    pub(crate) fn renew(
        &mut self,
        id: SessionId,
        client: &Arc<Client>,
        timeout_ms: i32,
        now_ms: u64,
    ) -> Option<Arc<SessionHandle>> {
        let due_ms = self.expiry(now_ms, timeout_ms);
        let session = self
            .sessions
            .get_mut(&id)
            .filter(|session| !session.handle.is_closing())?;
        session.handle.touch(now_ms);
        session.timeout_ms = timeout_ms;
        session.owner = Some(Owner::Client(client.clone()));
        let (handle, kind) = (session.handle.clone(), session.kind);
        let before = std::mem::replace(&mut session.due_ms, due_ms);
        self.undue(id, before);
        if kind != SessionKind::OfLeader {
            self.due.entry(due_ms).or_default().insert(id);
        }
        Some(handle)
    }

    /// The connection of this server that has the session now.
    pub(crate) fn client_of(&self, id: SessionId) -> Option<&Arc<Client>> {
        match &self.sessions.get(&id)?.owner {
            Some(Owner::Client(client)) => Some(client),
            Some(Owner::Learner(_) | Owner::Gone) | None => None,
        }
    }

    pub(crate) fn set_owner(&mut self, id: SessionId, owner: Owner) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.owner = Some(owner);
        }
    }

    /// Whether a learner may speak for the session; it may from now on when nobody did.
    pub(crate) fn claim(&mut self, id: SessionId, link: LinkId) -> Claim {
        match self.sessions.get_mut(&id) {
            Some(session) if !session.handle.is_closing() => match &session.owner {
                None => {
                    session.owner = Some(Owner::Learner(link));
                    Claim::Granted
                }
                Some(Owner::Learner(owner)) if *owner == link => Claim::Granted,
                Some(Owner::Learner(_) | Owner::Client(_) | Owner::Gone) => Claim::Moved,
            },
            Some(_) | None => Claim::Expired,
        }
    }

    /// A learner has heard from the session. False when there is none, its end is decided, or it is local to this
    /// server.
    pub(crate) fn touch(&mut self, id: SessionId, timeout_ms: i32, now_ms: u64) -> bool {
        match self.sessions.get_mut(&id) {
            Some(session) if !session.handle.is_closing() && session.kind != SessionKind::Local => {
                session.handle.touch(now_ms);
                session.timeout_ms = timeout_ms;
                true
            }
            Some(_) | None => false,
        }
    }

    /// The sessions heard of after `since_ms`, with their timeouts. Those whose connection is gone are forgotten:
    /// for a learner, whose leader is told of them now and knows them better.
    pub(crate) fn take_touches(&mut self, since_ms: u64) -> Vec<(SessionId, i32)> {
        let mut touches: Vec<(SessionId, i32)> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.kind == SessionKind::OfLeader)
            .filter(|(_, session)| session.handle.last_heard_ms.load(Relaxed) >= since_ms)
            .map(|(&id, session)| (id, session.timeout_ms))
            .collect();
        touches.sort_unstable();
        let gone: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| {
                session.kind == SessionKind::OfLeader && !matches!(session.owner, Some(Owner::Client(_)))
            })
            .map(|(&id, _)| id)
            .collect();
        for id in gone {
            self.remove(id);
        }
        touches
    }

    /// The connection ended; the session goes on, unless another connection has it already.
    pub(crate) fn drop_client(&mut self, id: SessionId, client: &Client) {
        if let Some(session) = self.sessions.get_mut(&id)
            && let Some(Owner::Client(current)) = &session.owner
            && current.id == client.id
        {
            session.owner = Some(Owner::Gone);
        }
    }

    /// Whether this server alone knows the session.
    pub(crate) fn is_local(&self, id: SessionId) -> bool {
        self.sessions
            .get(&id)
            .is_some_and(|session| session.kind == SessionKind::Local)
    }

    /// Makes a local session one that all servers know, and says its timeout, ms.
    pub(crate) fn upgrade(&mut self, id: SessionId, kind: SessionKind) -> Option<i32> {
        let session = self.sessions.get_mut(&id)?;
        session.kind = kind;
        let (due_ms, timeout_ms) = (session.due_ms, session.timeout_ms);
        if kind == SessionKind::OfLeader {
            self.undue(id, due_ms);
        }
        Some(timeout_ms)
    }

    /// Whether there is such a session, its end decided or not.
    pub(crate) fn contains(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    /// Whether the session exists and its end is not decided.
    pub(crate) fn is_live(&self, id: SessionId) -> bool {
        self.sessions
            .get(&id)
            .is_some_and(|session| !session.handle.is_closing())
    }

    /// Decides the end of a session. False when it was decided before, or there is no such session.
    pub(crate) fn begin_close(&mut self, id: SessionId) -> bool {
        let Some(session) = self.sessions.get(&id) else {
            return false;
        };
        if session.handle.closing.swap(true, Relaxed) {
            return false;
        }
        let due_ms = session.due_ms;
        self.undue(id, due_ms);
        true
    }

    /// Forgets a session whose end was applied, and says which connection of this server has it.
    pub(crate) fn remove(&mut self, id: SessionId) -> Option<Arc<Client>> {
        let session = self.sessions.remove(&id)?;
        session.handle.closing.store(true, Relaxed);
        self.undue(id, session.due_ms);
        match session.owner {
            Some(Owner::Client(client)) => Some(client),
            Some(Owner::Learner(_) | Owner::Gone) | None => None,
        }
    }

    /// The sessions whose time is over (S5: nobody was heard within the timeout). The caller ends them.
    pub(crate) fn take_expired(&mut self, now_ms: u64) -> Vec<SessionId> {
        let mut expired = Vec::new();
        while let Some(bucket) = self.due.first_entry().filter(|bucket| *bucket.key() <= now_ms) {
            for id in bucket.remove() {
                let Some(session) = self.sessions.get(&id) else {
                    continue;
                };
                let due_ms = self.expiry(session.handle.last_heard_ms.load(Relaxed), session.timeout_ms);
                if due_ms <= now_ms {
                    expired.push(id);
                } else {
                    self.due.entry(due_ms).or_default().insert(id);
                    if let Some(session) = self.sessions.get_mut(&id) {
                        session.due_ms = due_ms;
                    }
                }
            }
        }
        expired
    }

    /// When to look for expired sessions next, monotonic ms.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.due.first_key_value().map(|(&due_ms, _)| due_ms)
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    /// The sessions by the moment (monotonic ms) at which they would expire if nothing more were heard; for `dump`.
    pub fn by_expiry(&self) -> BTreeMap<u64, BTreeSet<SessionId>> {
        let mut sets: BTreeMap<u64, BTreeSet<SessionId>> = BTreeMap::new();
        for (&id, session) in &self.sessions {
            let due_ms = self.expiry(session.handle.last_heard_ms.load(Relaxed), session.timeout_ms);
            sets.entry(due_ms).or_default().insert(id);
        }
        sets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: SessionId = SessionId(0x1234);

    #[test]
    fn a_session_expires_between_its_timeout_and_a_tick_later() {
        let mut table = SessionTable::new(500);
        let handle = table.add(S, 4000, SessionKind::Global, 1000);
        assert_eq!(table.take_expired(5000), []);
        handle.touch(1300);
        assert_eq!(table.take_expired(5499), []);
        assert_eq!(table.take_expired(5500), [S]);
    }

    #[test]
    fn a_touched_session_moves_on_when_its_time_seems_over() {
        let mut table = SessionTable::new(500);
        let handle = table.add(S, 4000, SessionKind::Global, 0);
        handle.touch(3999);
        assert_eq!(table.take_expired(4500), []);
        assert_eq!(table.next_due_ms(), Some(8000));
        assert_eq!(table.take_expired(8000), [S]);
    }

    #[test]
    fn a_closing_session_neither_expires_nor_renews() {
        let mut table = SessionTable::new(500);
        table.add(S, 4000, SessionKind::Global, 0);
        assert!(table.begin_close(S));
        assert!(!table.begin_close(S));
        assert!(!table.is_live(S));
        assert_eq!(table.take_expired(100_000), []);
        table.remove(S);
        assert_eq!((table.count(), table.next_due_ms()), (0, None));
    }

    #[test]
    fn session_ids_carry_the_server_and_the_clock() {
        let id = first_session_id(ServerId(1), 0x1_a1fb_c5f0_2a52, Zxid::ZERO, std::iter::empty());
        assert_eq!(id.0.cast_unsigned() >> 56, 1);
        assert_eq!(id.0 & 0xffff, 0);
        assert_eq!((id.0 >> 16) & 0xff_ffff_ffff, 0xfb_c5f0_2a52);
    }

    #[test]
    fn session_ids_are_not_given_again_when_the_clock_goes_back() {
        let alive = first_session_id(ServerId(1), 5000, Zxid(1), std::iter::empty());
        let of_another_server = SessionId(alive.0 | 3 << 56);
        let mut given = vec![(alive, alive.0 + 100_000)];
        // In each of these lives the clock is back, sessions begin and end, and the one that is alive is known.
        for last in 2..200 {
            let known = [alive, of_another_server].into_iter();
            let first = first_session_id(ServerId(1), 4000, Zxid(last), known);
            assert_eq!(first.0 >> 56, 1);
            given.push((first, first.0 + 100_000));
        }
        given.sort_unstable();
        for pair in given.windows(2) {
            assert!(pair[0].1 < pair[1].0.0, "{} is given twice", pair[1].0);
        }
    }
}
