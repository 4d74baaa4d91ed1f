//! What must be true of a server that was started again.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use oxkeeper_types::{SessionId, Stat, Zxid};

use super::model::{
    Effect, Item, Ledger, Observed, ObservedWorker, Own, OwnedSession, Pending, SHARED, SessionState, Token,
    observe,
};
use super::worker::{Worker, lock};
use crate::{Client, ClientError};

/// How much longer than its timeout and two ticks a session may live, on a machine that is busy.
const EXPIRY_SLACK: Duration = Duration::from_secs(5);

/// When the server was started and ended, for what can be said of sessions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    /// The present process cannot have begun to count down before this.
    pub(super) spawned_at: Instant,
    /// It has begun by then.
    pub(super) ready_at: Instant,
    pub(super) tick: Duration,
}

impl Life {
    /// Whether a session cannot have expired by `now`.
    pub(super) fn is_alive(&self, session: &OwnedSession, now: Instant) -> bool {
        // Each start, and each touch, gives a session its whole timeout.
        session.state != SessionState::Ended
            && (session.touched_at.max(self.spawned_at) + session.timeout() > now)
            && (session.survived_crash || session.touched_at > self.spawned_at)
    }

    /// By when a session that nobody uses must have expired.
    fn dead_by(&self, session: &OwnedSession) -> Instant {
        session.left_at.max(self.ready_at) + session.timeout() + 2 * self.tick + EXPIRY_SLACK
    }
}

/// What became of the in-flight requests of a crash.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resolved {
    /// Requests without an answer.
    pub(super) unanswered: u64,
    /// Those of them that are seen to be done.
    pub(super) done: u64,
    /// Sessions that were seen to be gone.
    pub(super) expired: u64,
}

/// A violation, and the worker whose history tells of it.
pub(super) type Violation = (Option<usize>, String);

/// Checks a server that has just been started, renews some of the sessions, and makes what the server shows the
/// base of what comes.
pub(super) fn check_restarted(
    workers: &mut [Worker],
    ledger: &Mutex<Ledger>,
    address: SocketAddr,
    life: Life,
    rng: &mut fastrand::Rng,
) -> Result<Resolved, Violation> {
    for worker in workers.iter_mut() {
        renew(worker, ledger, address, life, rng).map_err(|text| (Some(worker.index), text))?;
    }
    let observed = Client::connect(address, 10_000)
        .map_err(|error| error.to_string())
        .and_then(|mut client| {
            let observed = observe(&mut client, workers.len())?;
            client.close().map_err(|error| error.to_string())?;
            Ok(observed)
        })
        .map_err(|text| (None, text))?;
    for worker in workers.iter_mut() {
        if let Some(session) = &mut worker.session
            && session.state == SessionState::Used
            && !life.is_alive(session, observed.finished_at)
        {
            // The machine was so slow that it may have expired since it was renewed.
            session.state = SessionState::Left;
            session.left_at = observed.finished_at;
            worker.client = None;
        }
    }
    check_shared(workers, ledger, &observed).map_err(|text| (None, text))?;
    let mut resolved = Resolved::default();
    // Sequential znodes of all stand side by side: each worker takes out what it knows of.
    let mut queue = observed.queue.clone();
    for worker in workers.iter_mut() {
        let index = worker.index;
        let mut check = WorkerCheck {
            worker,
            observed: &observed,
            life,
            queue: &mut queue,
            resolved: &mut resolved,
        };
        check.run(ledger).map_err(|text| (Some(index), text))?;
    }
    match queue.first_key_value() {
        Some((number, found)) => Err((
            None,
            format!("nobody created the sequential znode {number}: {found:?}"),
        )),
        None => Ok(resolved),
    }
}

/// Goes on with the worker's session, or leaves it. A session with a close in flight is always tried, because
/// the answer tells whether it was closed.
fn renew(
    worker: &mut Worker,
    ledger: &Mutex<Ledger>,
    address: SocketAddr,
    life: Life,
    rng: &mut fastrand::Rng,
) -> Result<(), String> {
    if worker.client.is_some() {
        return Err("the connection outlived the server".to_owned());
    }
    let close_in_flight = worker
        .pending
        .iter()
        .any(|pending| pending.effects == [Effect::Close]);
    let wanted = rng.u8(0..10) < 7;
    let Some(session) = &mut worker.session else {
        return Ok(());
    };
    if session.state == SessionState::Ended || !(close_in_flight || wanted) {
        if session.state == SessionState::Used {
            session.state = SessionState::Left;
            session.left_at = life.spawned_at;
        }
        return Ok(());
    }
    let began = Instant::now();
    let (state, text) = match Client::renew(address, &session.session) {
        Ok(client) => {
            session.touched_at = began;
            session.survived_crash = true;
            worker.client = Some(client);
            lock(ledger).renewed += 1;
            (SessionState::Used, "renewed")
        }
        // It may be expiring just now, and its ephemerals go a moment later.
        Err(ClientError::SessionEnded) if !life.is_alive(session, Instant::now()) => {
            session.left_at = Instant::now();
            (SessionState::Left, "found expired")
        }
        Err(ClientError::SessionEnded) if close_in_flight => (SessionState::Ended, "found closed"),
        Err(error) => return Err(format!("session {} cannot be renewed: {error}", session.id())),
    };
    session.state = state;
    let id = session.id();
    worker.note(|| format!("after the restart session {id} is {text}"));
    Ok(())
}

/// The znode whose data all replace: its version, data and zxid belong together, and none that was answered is
/// missing.
fn check_shared(workers: &[Worker], ledger: &Mutex<Ledger>, observed: &Observed) -> Result<(), String> {
    let (token, stat) = observed.shared;
    let mut ledger = lock(ledger);
    let newest = ledger.shared.last_key_value().map_or(0, |(version, _)| *version);
    let sets = |pending: &Pending| {
        pending.fails.is_none()
            && pending
                .effects
                .iter()
                .any(|effect| matches!(effect, Effect::SetShared { .. }))
    };
    let in_flight: Vec<&Pending> = workers
        .iter()
        .flat_map(|worker| &worker.pending)
        .filter(|pending| sets(pending))
        .collect();
    if stat.version < newest {
        return Err(format!(
            "{SHARED} has {stat:?}, but version {newest} was answered: {:?}",
            ledger.shared.last_key_value()
        ));
    }
    let more = usize::try_from(stat.version - newest).expect("checked above");
    let made_by = |pending: &&Pending| {
        pending
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::SetShared { token: by, .. } if *by == token))
    };
    if more > in_flight.len() || (more > 0 && !in_flight.iter().any(made_by)) {
        return Err(format!(
            "{SHARED} has {stat:?} of write {token}, but {newest} is the version answered last, and in flight were {in_flight:?}"
        ));
    }
    ledger.note_shared(stat.version, token, stat.mzxid)
}

/// Whether something may, must or must not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Must,
    May,
    MustNot,
}

struct WorkerCheck<'a> {
    worker: &'a mut Worker,
    observed: &'a Observed,
    life: Life,
    queue: &'a mut BTreeMap<u32, (Token, Stat)>,
    resolved: &'a mut Resolved,
}

impl WorkerCheck<'_> {
    fn run(&mut self, ledger: &Mutex<Ledger>) -> Result<(), String> {
        let observed = &self.observed.workers[self.worker.index];
        let mut holds = observed.holds.clone();
        self.check_in_flight(observed)?;
        self.adopt_own(observed);
        self.adopt_queued(ledger)?;
        self.check_sessions(&mut holds, ledger)?;
        if let Some((number, found)) = holds.first_key_value() {
            return Err(format!(
                "nobody created the ephemeral h{number}, or it was deleted: {found:?}"
            ));
        }
        self.worker.pending.clear();
        Ok(())
    }

    /// The unanswered requests: a first part of them happened, each as a whole.
    fn check_in_flight(&mut self, observed: &ObservedWorker) -> Result<(), String> {
        let worker = &*self.worker;
        let mut states = vec![worker.acknowledged.clone()];
        for pending in &worker.pending {
            let mut state = states.last().expect("at least the first").clone();
            if pending.fails.is_none() {
                for effect in &pending.effects {
                    state.apply(effect, None, None);
                }
            }
            states.push(state);
        }
        let differences: Vec<_> = states
            .iter()
            .map(|state| state.difference(&observed.dir, &observed.slots))
            .collect();
        let Some(matched) = differences.iter().position(Option::is_none) else {
            let steps = differences.iter().flatten().enumerate();
            let steps = steps.map(|(done, difference)| {
                format!("\n  with {done} of the unanswered requests done: {difference}")
            });
            return Err(format!(
                "the own znodes are in no state that they can be in:{}",
                steps.collect::<String>()
            ));
        };
        // Whether requests happened, as far as it can be seen: (request, what shows it, whether it happened).
        let mut evidence: Vec<(usize, &Effect, bool)> = Vec::new();
        for (request, pending) in worker.pending.iter().enumerate() {
            for effect in &pending.effects {
                let happened = match effect {
                    // A request that fails does not change the own znodes, so there is nothing to be seen.
                    _ if Own::is_changed_by(effect) => pending.fails.is_none().then_some(request < matched),
                    _ => self.visible(effect, &observed.holds),
                };
                evidence.extend(happened.map(|happened| (request, effect, happened)));
            }
        }
        for (request, effect, happened) in &evidence {
            let pending = &worker.pending[*request];
            if *happened && pending.fails.is_some() {
                return Err(format!(
                    "xid {} had to fail as a whole, but its {effect:?} happened",
                    pending.xid
                ));
            }
        }
        evidence.retain(|(request, ..)| worker.pending[*request].fails.is_none());
        let last_done = evidence
            .iter()
            .filter(|(.., happened)| *happened)
            .max_by_key(|(request, ..)| *request);
        let first_undone = evidence
            .iter()
            .filter(|(.., happened)| !happened)
            .min_by_key(|(request, ..)| *request);
        if let (Some((done, done_effect, _)), Some((undone, undone_effect, _))) = (last_done, first_undone)
            && done >= undone
        {
            let xid = |request: &usize| worker.pending[*request].xid;
            return Err(match done == undone {
                true => format!(
                    "xid {} happened in part: {done_effect:?} did, {undone_effect:?} did not",
                    xid(done)
                ),
                false => format!(
                    "xid {} happened ({done_effect:?}), but xid {} before it did not ({undone_effect:?})",
                    xid(done),
                    xid(undone)
                ),
            });
        }
        self.resolved.unanswered += u64::try_from(worker.pending.len()).expect("few requests");
        self.resolved.done += last_done.map_or(0, |(request, ..)| {
            u64::try_from(request + 1).expect("few requests")
        });
        let done = last_done.map_or(0, |(request, ..)| request + 1);
        let total = worker.pending.len();
        self.worker.note(|| {
            format!("after the restart at least {done} of the {total} unanswered requests are done")
        });
        Ok(())
    }

    /// Whether the effect of an unanswered request is to be seen, outside of the own znodes; `None` when what is
    /// seen does not tell.
    fn visible(&self, effect: &Effect, holds: &BTreeMap<u64, (Token, Stat)>) -> Option<bool> {
        let session = self
            .worker
            .session
            .as_ref()
            .expect("requests in flight have a session");
        // Only while the session lives does the absence of an ephemeral tell something.
        let alive =
            session.state == SessionState::Used || self.life.is_alive(session, self.observed.finished_at);
        let closing = self
            .worker
            .pending
            .iter()
            .any(|pending| pending.effects == [Effect::Close]);
        let lasting = |present: bool, lasts: bool| match present {
            true => Some(true),
            false => lasts.then_some(false),
        };
        match effect {
            Effect::Enqueue { token, ephemeral } => {
                let present = self.observed.queue.values().any(|(found, _)| found == token);
                lasting(
                    present,
                    !ephemeral || session.state == SessionState::Used || alive && !closing,
                )
            }
            Effect::Hold { number, .. } => lasting(
                holds.contains_key(number),
                session.state == SessionState::Used || alive && !closing,
            ),
            Effect::Dequeue { number } => {
                let ephemeral = !self.worker.queued.contains_key(number);
                match self.observed.queue.contains_key(number) {
                    true => Some(false),
                    false => (!ephemeral || session.state == SessionState::Used || alive && !closing)
                        .then_some(true),
                }
            }
            Effect::Release { number } => match holds.contains_key(number) {
                true => Some(false),
                false => (session.state == SessionState::Used || alive && !closing).then_some(true),
            },
            Effect::SetShared { token, .. } => (self.observed.shared.0 == *token).then_some(true),
            Effect::Close => match session.state {
                SessionState::Used => Some(false),
                SessionState::Left => None,
                // Refused at renewal: closed, or expired where that was possible.
                SessionState::Ended => Some(true),
            },
            Effect::Create { .. } | Effect::Set { .. } | Effect::Delete { .. } => unreachable!("own znodes"),
            Effect::Check { .. } | Effect::Read { .. } => None,
        }
    }

    fn adopt_own(&mut self, observed: &ObservedWorker) {
        let slots = observed.slots.iter().map(|(number, (token, stat))| {
            let slot = super::model::Slot {
                token: *token,
                version: stat.version,
                stat: Some(*stat),
            };
            (*number, slot)
        });
        let own = Own {
            slots: slots.collect(),
            created: (observed.dir.cversion + observed.dir.num_children) / 2,
            pzxid: Some(observed.dir.pzxid),
        };
        self.worker.predicted = own.clone();
        self.worker.acknowledged = own;
    }

    /// The persistent sequential znodes.
    fn adopt_queued(&mut self, ledger: &Mutex<Ledger>) -> Result<(), String> {
        let mut kept = BTreeMap::new();
        for (number, item) in std::mem::take(&mut self.worker.queued) {
            let deleting = in_flight(&self.worker.pending, &Effect::Dequeue { number });
            let presence = if deleting { Presence::May } else { Presence::Must };
            if check_item(
                "sequential znode",
                number,
                item,
                presence,
                SessionId::NONE,
                self.queue,
            )? {
                kept.insert(number, item);
            }
        }
        kept.extend(self.take_enqueued(SessionId::NONE, ledger)?);
        self.worker.queued = kept;
        Ok(())
    }

    /// Takes the sequential znodes of unanswered requests out of what was observed: those of `owner`.
    fn take_enqueued(
        &mut self,
        owner: SessionId,
        ledger: &Mutex<Ledger>,
    ) -> Result<Vec<(u32, Item)>, String> {
        let mut taken = Vec::new();
        for pending in &self.worker.pending {
            for effect in &pending.effects {
                let Effect::Enqueue { token, ephemeral } = effect else {
                    continue;
                };
                if *ephemeral != (owner != SessionId::NONE) {
                    continue;
                }
                let found = self.queue.iter().find(|(_, (found, _))| found == token);
                let Some((number, (_, stat))) = found.map(|(number, found)| (*number, *found)) else {
                    continue;
                };
                let item = Item {
                    token: *token,
                    czxid: stat.czxid,
                };
                if stat.czxid <= pending.zxid_floor || i64::from(number) <= pending.sequence_floor {
                    return Err(format!(
                        "{effect:?} has number {number} and {stat:?}, but was sent after zxid {} and number {}",
                        pending.zxid_floor, pending.sequence_floor
                    ));
                }
                lock(ledger).note_sequence(number, *token)?;
                check_item(
                    "sequential znode",
                    number,
                    item,
                    Presence::Must,
                    owner,
                    self.queue,
                )?;
                taken.push((number, item));
            }
        }
        Ok(taken)
    }

    /// The ephemerals of all sessions of this worker.
    fn check_sessions(
        &mut self,
        holds: &mut BTreeMap<u64, (Token, Stat)>,
        ledger: &Mutex<Ledger>,
    ) -> Result<(), String> {
        let current = self.worker.session.take();
        let mut sessions = std::mem::take(&mut self.worker.former);
        let formers = sessions.len();
        sessions.extend(current);
        for (index, mut session) in sessions.into_iter().enumerate() {
            let is_current = index == formers;
            self.check_session(&mut session, is_current, holds, ledger)
                .map_err(|text| format!("session {} ({:?}): {text}", session.id(), session.state))?;
            let gone = session.holds.is_empty() && session.queued.is_empty();
            match session.state {
                SessionState::Used => self.worker.session = Some(session),
                SessionState::Ended => self.resolved.expired += u64::from(!is_current),
                SessionState::Left if gone && !self.life.is_alive(&session, Instant::now()) => {
                    self.resolved.expired += 1;
                }
                SessionState::Left => self.worker.former.push(session),
            }
        }
        Ok(())
    }

    fn check_session(
        &mut self,
        session: &mut OwnedSession,
        is_current: bool,
        holds: &mut BTreeMap<u64, (Token, Stat)>,
        ledger: &Mutex<Ledger>,
    ) -> Result<(), String> {
        let empty = std::collections::VecDeque::new();
        let owner = session.id();
        let presence = match session.state {
            SessionState::Used => Presence::Must,
            SessionState::Ended => Presence::MustNot,
            SessionState::Left if self.life.is_alive(session, self.observed.finished_at) => Presence::Must,
            SessionState::Left if self.life.dead_by(session) < self.observed.started_at => Presence::MustNot,
            SessionState::Left => Presence::May,
        };
        let pending = if is_current { &self.worker.pending } else { &empty };
        let unless_deleting = |effect: Effect| match presence {
            Presence::Must if in_flight(pending, &effect) => Presence::May,
            other => other,
        };
        let mut kept_holds = BTreeMap::new();
        for (number, item) in std::mem::take(&mut session.holds) {
            let presence = unless_deleting(Effect::Release { number });
            if check_item("ephemeral", number, item, presence, owner, holds)? {
                kept_holds.insert(number, item);
            }
        }
        let mut kept_queued = BTreeMap::new();
        for (number, item) in std::mem::take(&mut session.queued) {
            let presence = unless_deleting(Effect::Dequeue { number });
            if check_item(
                "ephemeral sequential znode",
                number,
                item,
                presence,
                owner,
                self.queue,
            )? {
                kept_queued.insert(number, item);
            }
        }
        for pending in pending {
            for effect in &pending.effects {
                if let Effect::Hold { number, token } = effect
                    && let Some((_, stat)) = holds.get(number)
                {
                    let item = Item {
                        token: *token,
                        czxid: stat.czxid,
                    };
                    if stat.czxid <= pending.zxid_floor {
                        return Err(format!(
                            "{effect:?} has {stat:?}, but was sent after zxid {}",
                            pending.zxid_floor
                        ));
                    }
                    check_item("ephemeral", *number, item, presence, owner, holds)?;
                    kept_holds.insert(*number, item);
                }
            }
        }
        if is_current {
            let enqueued = self.take_enqueued(owner, ledger)?;
            if let (Presence::MustNot, Some(found)) = (presence, enqueued.first()) {
                return Err(format!(
                    "it is gone, but its sequential znode is there: {found:?}"
                ));
            }
            kept_queued.extend(enqueued);
        }
        session.holds = kept_holds;
        session.queued = kept_queued;
        if session.state == SessionState::Used {
            self.check_own_list(session)?;
        }
        Ok(())
    }

    /// What the server lists as the ephemerals of a renewed session.
    fn check_own_list(&mut self, session: &OwnedSession) -> Result<(), String> {
        let client = self.worker.client.as_mut().expect("renewed");
        let mut listed = match client.ephemerals() {
            Err(_) if !self.life.is_alive(session, Instant::now()) => return Ok(()),
            listed => listed.map_err(|error| format!("getEphemerals: {error}"))?,
        };
        let holds = session
            .holds
            .keys()
            .map(|number| format!("{}/h{number}", super::model::holds_dir(self.worker.index)));
        let queued = session
            .queued
            .keys()
            .map(|number| super::model::queue_path(*number));
        let mut expected: Vec<String> = holds.chain(queued).collect();
        listed.sort();
        expected.sort();
        if listed == expected || !self.life.is_alive(session, Instant::now()) {
            Ok(())
        } else {
            Err(format!("its ephemerals are {listed:?}, expected {expected:?}"))
        }
    }
}

fn in_flight(pending: &std::collections::VecDeque<Pending>, effect: &Effect) -> bool {
    pending.iter().any(|pending| pending.effects.contains(effect))
}

/// Takes a znode that is written once out of what was observed, and tells whether it was there.
fn check_item<K: Ord + Copy + Debug>(
    what: &str,
    number: K,
    item: Item,
    presence: Presence,
    owner: SessionId,
    observed: &mut BTreeMap<K, (Token, Stat)>,
) -> Result<bool, String> {
    let Some((token, stat)) = observed.remove(&number) else {
        return match presence {
            Presence::Must => Err(format!("the {what} {number:?} is missing; it was {item:?}")),
            Presence::May | Presence::MustNot => Ok(false),
        };
    };
    if presence == Presence::MustNot {
        return Err(format!("the {what} {number:?} must be gone, but has {stat:?}"));
    }
    let as_created = Stat {
        czxid: item.czxid,
        mzxid: item.czxid,
        pzxid: item.czxid,
        ctime: stat.ctime,
        mtime: stat.ctime,
        ephemeral_owner: owner,
        data_length: stat.data_length,
        ..Stat::default()
    };
    if token != item.token || stat != as_created {
        return Err(format!(
            "the {what} {number:?} has token {token} and {stat:?}, expected {item:?} of session {owner}"
        ));
    }
    Ok(true)
}

/// The zxid that `srvr` shows must not be older than what was answered.
pub(super) fn check_zxid(srvr: &str, ledger: &Mutex<Ledger>) -> Result<(), String> {
    let shown = srvr.lines().find_map(|line| line.strip_prefix("Zxid: 0x"));
    let shown = shown.and_then(|hex| i64::from_str_radix(hex, 16).ok()).map(Zxid);
    let answered = lock(ledger).zxid_max;
    match shown {
        Some(shown) if shown >= answered => Ok(()),
        Some(shown) => Err(format!(
            "the server shows zxid {shown}, but {answered} was answered before the crash"
        )),
        None => Err(format!("srvr shows no zxid: {srvr}")),
    }
}

/// Waits until no ephemeral of the workers is left, when nobody uses a session any more.
pub(super) fn wait_until_all_expired(
    workers: &[Worker],
    address: SocketAddr,
    life: Life,
) -> Result<(), String> {
    let deadline = workers
        .iter()
        .flat_map(|worker| worker.former.iter().chain(&worker.session))
        .map(|session| life.dead_by(session))
        .max();
    let Some(deadline) = deadline else { return Ok(()) };
    let mut client = Client::connect(address, 30_000).map_err(|error| error.to_string())?;
    loop {
        let began = Instant::now();
        let observed = observe(&mut client, workers.len())?;
        let holds = observed.workers.iter().flat_map(|worker| worker.holds.values());
        let mut ephemerals = holds
            .chain(observed.queue.values())
            .filter(|(_, stat)| stat.ephemeral_owner != SessionId::NONE);
        let Some((token, stat)) = ephemerals.next() else {
            break;
        };
        if began > deadline {
            return Err(format!(
                "the session {} must have expired, but the ephemeral of write {token} is there: {stat:?}",
                stat.ephemeral_owner
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    client.close().map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lives_for_its_timeout_after_a_touch_or_a_start() {
        let start = Instant::now();
        let life = Life {
            spawned_at: start,
            ready_at: start,
            tick: Duration::from_millis(200),
        };
        let session = crate::Session {
            id: SessionId(1),
            password: [0; 16],
            timeout_ms: 1000,
            last_zxid: Zxid::ZERO,
        };
        let mut session = OwnedSession::new(session, start);
        assert!(life.is_alive(&session, start + Duration::from_millis(999)));
        assert!(!life.is_alive(&session, start + Duration::from_millis(1000)));
        session.survived_crash = false;
        assert!(!life.is_alive(&session, start));
        session.touched_at = start + Duration::from_millis(1);
        assert!(life.is_alive(&session, start + Duration::from_millis(1000)));
        session.state = SessionState::Ended;
        assert!(!life.is_alive(&session, start));
    }
}
