//! The load: one worker, its requests, and what it checks of each reply.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use oxkeeper_types::{ErrorCode, OpResult, Outcome, ReadRequest, Stat, VERSION_ANY, Zxid};
use oxkeeper_wire::{Decoder, Request, decode_data_and_stat};

use super::model::{
    Effect, Item, Ledger, Own, OwnedSession, Pending, QUEUE, SessionState, Token, own_dir, queue_number,
    token_of,
};
use crate::{Client, ClientError, Reply};

const SLOTS: u8 = 8;
const HOLDS_MAX: usize = 12;
const QUEUE_MAX: usize = 24;
const IN_FLIGHT_MAX: usize = 16;
const HISTORY_MAX: usize = 300;
/// A version nothing in the harness reaches.
const WRONG_VERSION: i32 = 1_000_000;

/// What the one who kills tells the workers.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// The server is being killed: lost connections are no surprise.
    pub(super) killing: AtomicBool,
    /// Finish what is in flight and stop.
    pub(super) settle: AtomicBool,
    /// Some worker found a violation.
    pub(super) failed: AtomicBool,
}

/// One session after the other, and all that it may expect of the server.
pub(super) struct Worker {
    pub(super) index: usize,
    rng: fastrand::Rng,
    writes: u64,
    /// What the replies say.
    pub(super) acknowledged: Own,
    /// What will be when all that was sent is done.
    pub(super) predicted: Own,
    /// Sent and not answered, oldest first; all of them over `session`.
    pub(super) pending: VecDeque<Pending>,
    /// Persistent sequential znodes of this worker.
    pub(super) queued: BTreeMap<u32, Item>,
    pub(super) client: Option<Client>,
    pub(super) session: Option<OwnedSession>,
    /// Sessions of the past that may have left something.
    pub(super) former: Vec<OwnedSession>,
    shared_version: i32,
    history: VecDeque<String>,
    began_at: Instant,
    timeouts_ms: RangeInclusive<i32>,
}

impl Worker {
    pub(super) fn new(index: usize, seed: u64, timeouts_ms: RangeInclusive<i32>, pzxid: Zxid) -> Worker {
        let own = Own {
            pzxid: Some(pzxid),
            ..Own::default()
        };
        Worker {
            index,
            rng: fastrand::Rng::with_seed(seed),
            writes: 0,
            acknowledged: own.clone(),
            predicted: own,
            pending: VecDeque::new(),
            queued: BTreeMap::new(),
            client: None,
            session: None,
            former: Vec::new(),
            shared_version: 0,
            history: VecDeque::new(),
            began_at: Instant::now(),
            timeouts_ms,
        }
    }

    /// Keeps a line for the report of a violation.
    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        let at = self.began_at.elapsed().as_secs_f64();
        self.history.push_back(format!("{at:9.4}  {}", text()));
    }

    /// The last lines noted.
    pub(super) fn history(&self, lines: usize) -> String {
        let skip = self.history.len().saturating_sub(lines);
        self.history
            .iter()
            .skip(skip)
            .fold(String::new(), |text, line| text + "    " + line + "\n")
    }

    fn token(&mut self) -> Token {
        self.writes += 1;
        (u64::try_from(self.index).expect("few workers") + 1) << 40 | self.writes
    }

    /// Sends requests and checks the replies until the server is killed or the harness settles. The error is a
    /// violation.
    pub(super) fn run(
        &mut self,
        address: SocketAddr,
        ledger: &Mutex<Ledger>,
        control: &Control,
    ) -> Result<(), String> {
        // A session that was left with requests in flight waits for the next crash.
        while self.pending.is_empty() {
            match self.run_session(address, ledger, control) {
                Ok(true) => {}
                Ok(false) => break,
                Err(Stop::Violation(text)) => return Err(text),
                Err(Stop::Connection(error)) => {
                    self.note(|| format!("connection lost: {error}"));
                    self.client = None;
                    if control.killing.load(Ordering::SeqCst) {
                        return Ok(());
                    }
                    // On a slow machine the session may have expired under the load.
                    let now = Instant::now();
                    return match &mut self.session {
                        Some(session) if !session.is_touched(now) => {
                            session.state = SessionState::Left;
                            session.left_at = now;
                            Ok(())
                        }
                        _ => Err(format!("the connection was lost while the server ran: {error}")),
                    };
                }
            }
        }
        Ok(())
    }

    /// Uses one connection for a while. False when the worker is to stop.
    fn run_session(
        &mut self,
        address: SocketAddr,
        ledger: &Mutex<Ledger>,
        control: &Control,
    ) -> Result<bool, Stop> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => {
                let timeout_ms = self.rng.i32(self.timeouts_ms.clone());
                let began = Instant::now();
                let client = Client::connect(address, timeout_ms)?;
                lock(ledger).sessions += 1;
                let session = client.session().clone();
                self.note(|| format!("session {} begun, timeout {} ms", session.id, session.timeout_ms));
                assert!(
                    self.session.is_none() && self.pending.is_empty(),
                    "one session at a time"
                );
                self.session = Some(OwnedSession::new(session, began));
                client
            }
        };
        let in_flight = self.rng.usize(1..=IN_FLIGHT_MAX);
        let mut requests = self.rng.usize(1..400);
        let mut closing = false;
        while requests > 0 || !self.pending.is_empty() {
            if control.failed.load(Ordering::SeqCst) || control.settle.load(Ordering::SeqCst) {
                requests = 0;
            }
            while requests > 0 && self.pending.len() < in_flight {
                self.send(&mut client, ledger);
                requests -= 1;
            }
            if requests == 0 && !closing && !control.settle.load(Ordering::SeqCst) {
                closing = true;
                match self.rng.u8(0..10) {
                    0..4 => self.send_effects(&mut client, ledger, vec![Effect::Close], None, false),
                    4 if !self.pending.is_empty() => {
                        // What is in flight stays open until the next crash.
                        client.flush().map_err(ClientError::from)?;
                        self.leave(&client);
                        return Ok(false);
                    }
                    _ => {}
                }
            }
            if self.pending.is_empty() {
                break;
            }
            let reply = client.receive()?;
            self.handle_reply(&reply, ledger)?;
            if self.rng.u8(..) == 0 {
                std::thread::sleep(Duration::from_millis(self.rng.u64(0..4)));
            }
        }
        let settle = control.settle.load(Ordering::SeqCst);
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.state == SessionState::Ended)
        {
            self.former.extend(self.session.take());
            lock(ledger).closed += 1;
        } else if settle || self.rng.bool() {
            self.leave(&client);
            self.former.extend(self.session.take());
        } else {
            // Another connection takes the session over while the server runs.
            let session = client.session().clone();
            drop(client);
            let began = Instant::now();
            self.note(|| format!("session {} moves to another connection", session.id));
            match Client::renew(address, &session) {
                Ok(client) => {
                    self.session.as_mut().expect("the present one").touched_at = began;
                    self.client = Some(client);
                }
                Err(ClientError::SessionEnded) => {
                    let old = self.session.as_mut().expect("the present one");
                    if !old.is_touched(Instant::now()) {
                        old.state = SessionState::Left;
                        old.left_at = Instant::now();
                        self.former.extend(self.session.take());
                        return Ok(true);
                    }
                    return Err(violation(format!(
                        "session {} was refused to its new connection",
                        session.id
                    )));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(!settle && !control.failed.load(Ordering::SeqCst))
    }

    fn leave(&mut self, client: &Client) {
        self.note(|| format!("session {} left to its timeout", client.session().id));
        let session = self.session.as_mut().expect("the present one");
        session.session = client.session().clone();
        session.state = SessionState::Left;
        session.left_at = Instant::now();
    }

    fn send(&mut self, client: &mut Client, ledger: &Mutex<Ledger>) {
        match self.rng.u8(0..100) {
            0..28 => {
                let (effect, fails) = self.own_effect();
                self.send_effects(client, ledger, vec![effect], fails.map(|code| (0, code)), false);
            }
            28..86 => {
                let effect = self.other_effect();
                self.send_effects(client, ledger, vec![effect], None, false);
            }
            86..97 => self.send_multi(client, ledger),
            _ => {
                let slot = self.rng.u8(0..SLOTS);
                let fails = (!self.predicted.slots.contains_key(&slot)).then_some((0, ErrorCode::NoNode));
                self.send_effects(client, ledger, vec![Effect::Read { slot }], fails, false);
            }
        }
    }

    /// A change of an own znode, and how it must fail if it must.
    fn own_effect(&mut self) -> (Effect, Option<ErrorCode>) {
        let slot = self.rng.u8(0..SLOTS);
        let token = self.token();
        let present = self.predicted.slots.get(&slot).map(|present| present.version);
        let dice = self.rng.u8(0..20);
        match present {
            None if dice == 0 => (
                Effect::Set {
                    slot,
                    token,
                    version: VERSION_ANY,
                },
                Some(ErrorCode::NoNode),
            ),
            None if dice == 1 => (
                Effect::Delete {
                    slot,
                    version: VERSION_ANY,
                },
                Some(ErrorCode::NoNode),
            ),
            None => (Effect::Create { slot, token }, None),
            Some(_) if dice == 0 => (Effect::Create { slot, token }, Some(ErrorCode::NodeExists)),
            Some(version) if dice == 1 => (
                Effect::Set {
                    slot,
                    token,
                    version: version + 1,
                },
                Some(ErrorCode::BadVersion),
            ),
            Some(version) if dice == 2 => (
                Effect::Delete {
                    slot,
                    version: version + 1,
                },
                Some(ErrorCode::BadVersion),
            ),
            Some(version) if dice < 7 => (Effect::Delete { slot, version }, None),
            Some(version) if dice < 13 => (Effect::Set { slot, token, version }, None),
            Some(_) => (
                Effect::Set {
                    slot,
                    token,
                    version: VERSION_ANY,
                },
                None,
            ),
        }
    }

    /// Something that must succeed outside of the own znodes.
    fn other_effect(&mut self) -> Effect {
        let token = self.token();
        let in_flight = |effect: &Effect| {
            self.pending
                .iter()
                .any(|pending| pending.effects.contains(effect))
        };
        match self.rng.u8(0..10) {
            0..4 => {
                let session = self.session.as_ref().expect("the present one");
                let oldest = self.queued.keys().chain(session.queued.keys()).copied();
                let mut removable = oldest.filter(|number| !in_flight(&Effect::Dequeue { number: *number }));
                let count = self.queued.len() + session.queued.len();
                match removable.next() {
                    Some(number) if count >= QUEUE_MAX || count > 2 && self.rng.u8(0..3) == 0 => {
                        Effect::Dequeue { number }
                    }
                    _ => Effect::Enqueue {
                        token,
                        ephemeral: self.rng.u8(0..3) == 0,
                    },
                }
            }
            4..8 => {
                let holds = &self.session.as_ref().expect("the present one").holds;
                let mut removable = holds
                    .keys()
                    .filter(|number| !in_flight(&Effect::Release { number: **number }));
                match removable.next() {
                    Some(number) if holds.len() >= HOLDS_MAX || self.rng.u8(0..4) == 0 => {
                        Effect::Release { number: *number }
                    }
                    _ => Effect::Hold { number: token, token },
                }
            }
            8 => Effect::SetShared {
                token,
                version: self.shared_version,
            },
            _ => Effect::SetShared {
                token,
                version: VERSION_ANY,
            },
        }
    }

    fn send_multi(&mut self, client: &mut Client, ledger: &Mutex<Ledger>) {
        let before = self.predicted.clone();
        let mut effects = Vec::new();
        for _ in 0..self.rng.usize(2..6) {
            let effect = match self.rng.u8(0..6) {
                0..3 => match self.own_effect() {
                    (effect, None) => effect,
                    (_, Some(_)) => Effect::Check { version: 0 },
                },
                _ => match self.other_effect() {
                    // Somebody else may be quicker; and two versions cannot be told apart by one zxid.
                    Effect::SetShared { version, .. } if version != VERSION_ANY || sets_shared(&effects) => {
                        Effect::Check { version: 0 }
                    }
                    effect if effects.contains(&effect) => Effect::Check { version: 0 },
                    effect => effect,
                },
            };
            self.predicted.apply(&effect, None, None);
            effects.push(effect);
        }
        // The effects were made one upon the other; now they are predicted as a whole, or not at all.
        self.predicted = before;
        let fails = (self.rng.u8(0..4) == 0).then(|| {
            let part = self.rng.usize(0..=effects.len());
            effects.insert(
                part,
                Effect::Check {
                    version: WRONG_VERSION,
                },
            );
            (part, ErrorCode::BadVersion)
        });
        self.send_effects(client, ledger, effects, fails, true);
    }

    fn send_effects(
        &mut self,
        client: &mut Client,
        ledger: &Mutex<Ledger>,
        effects: Vec<Effect>,
        fails: Option<(usize, ErrorCode)>,
        multi: bool,
    ) {
        let (zxid_floor, sequence_floor) = {
            let ledger = lock(ledger);
            (ledger.zxid_max, ledger.sequence_max())
        };
        let sent_at = Instant::now();
        let writes = || effects.iter().filter_map(|effect| effect.to_write(self.index));
        let request = match &effects[..] {
            _ if multi => Request::Write(oxkeeper_types::WriteRequest::Multi(writes().collect())),
            [Effect::Close] => Request::CloseSession,
            [Effect::Read { slot }] => Request::Read(ReadRequest::GetData {
                path: format!("{}/s{slot}", own_dir(self.index)).into(),
                watch: false,
            }),
            _ => Request::Write(writes().next().expect("a write")),
        };
        let xid = client.send(&request);
        if fails.is_none() {
            for effect in &effects {
                self.predicted.apply(effect, None, None);
            }
        }
        self.note(|| match fails {
            None => format!("xid {xid} sent: {effects:?}"),
            Some((part, code)) => format!("xid {xid} sent, part {part} to fail with {code}: {effects:?}"),
        });
        self.pending.push_back(Pending {
            xid,
            effects,
            multi,
            fails,
            sent_at,
            zxid_floor,
            sequence_floor,
        });
    }

    fn handle_reply(&mut self, reply: &Reply, ledger: &Mutex<Ledger>) -> Result<(), Stop> {
        let pending = self.pending.pop_front().expect("as many as the client has");
        let outcome = match pending.effects[..] {
            [Effect::Read { .. }] => None,
            [Effect::Close] if reply.err == 0 => Some(Outcome::Done),
            _ => Some(reply.outcome().map_err(ClientError::from)?),
        };
        self.note(|| match &outcome {
            Some(outcome) => format!("xid {} answered: zxid {}, {outcome:?}", reply.xid, reply.zxid),
            None => format!(
                "xid {} answered: zxid {}, error {}",
                reply.xid, reply.zxid, reply.err
            ),
        });
        self.session.as_mut().expect("the present one").touched_at = pending.sent_at;
        let checked = match outcome {
            Some(outcome) => self.check_outcome(&pending, reply.zxid, outcome, ledger),
            None => self.check_read(&pending, reply),
        };
        checked.map_err(|text| violation(format!("xid {}: {text}", reply.xid)))
    }

    fn check_read(&self, pending: &Pending, reply: &Reply) -> Result<(), String> {
        let [Effect::Read { slot }] = pending.effects[..] else {
            unreachable!("only reads come here")
        };
        if reply.zxid < pending.zxid_floor {
            return Err(format!(
                "the read is of zxid {}, older than {}",
                reply.zxid, pending.zxid_floor
            ));
        }
        let expected = self.acknowledged.slots.get(&slot);
        if reply.err != 0 {
            return match expected {
                None if reply.err == ErrorCode::NoNode.code() => Ok(()),
                _ => Err(format!("error {} for s{slot}, expected {expected:?}", reply.err)),
            };
        }
        let (data, stat) =
            decode_data_and_stat(&mut Decoder::new(&reply.body)).map_err(|error| error.to_string())?;
        let token = data.and_then(token_of);
        let agrees = expected.is_some_and(|slot| {
            token == Some(slot.token)
                && stat.version == slot.version
                && slot.stat.is_none_or(|answered| answered == stat)
        });
        if agrees {
            Ok(())
        } else {
            Err(format!(
                "s{slot} has token {token:?} and {stat:?}, expected {expected:?}"
            ))
        }
    }

    fn check_outcome(
        &mut self,
        pending: &Pending,
        zxid: Zxid,
        outcome: Outcome,
        ledger: &Mutex<Ledger>,
    ) -> Result<(), String> {
        if zxid <= pending.zxid_floor {
            return Err(format!(
                "zxid {zxid} is not after {}, which was answered before",
                pending.zxid_floor
            ));
        }
        let mut ledger = lock(ledger);
        ledger.zxid_max = ledger.zxid_max.max(zxid);
        let lost_race = |effects: &[Effect]| matches!(effects, [Effect::SetShared { version, .. }] if *version != VERSION_ANY);
        let outcomes = match outcome {
            Outcome::Multi(results) => match succeeded_parts(results) {
                Ok(outcomes) => outcomes,
                Err(failed) if Some(failed) == pending.fails.map(|(part, code)| (part, code.code())) => {
                    return Ok(());
                }
                Err((part, code)) => {
                    return Err(format!(
                        "part {part} failed with {code}, expected {:?}",
                        pending.fails
                    ));
                }
            },
            Outcome::Failed(error) if !pending.multi && pending.fails == Some((0, error)) => return Ok(()),
            Outcome::Failed(ErrorCode::BadVersion) if lost_race(&pending.effects) => return Ok(()),
            outcome => vec![outcome],
        };
        if pending.fails.is_some() || outcomes.len() != pending.effects.len() {
            return Err(format!("{outcomes:?}, expected the failure {:?}", pending.fails));
        }
        ledger.writes += 1;
        for (effect, outcome) in pending.effects.iter().zip(outcomes) {
            self.acknowledge(effect, &outcome, zxid, pending.sequence_floor, &mut ledger)
                .map_err(|text| format!("{effect:?} with zxid {zxid}: {text}: {outcome:?}"))?;
        }
        Ok(())
    }

    /// Takes the success of one part into account.
    fn acknowledge(
        &mut self,
        effect: &Effect,
        outcome: &Outcome,
        zxid: Zxid,
        sequence_floor: i64,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let session = self.session.as_mut().expect("the present one");
        match (effect, outcome) {
            (
                Effect::Create { slot, .. },
                Outcome::Created {
                    path,
                    stat: Some(stat),
                },
            ) => {
                if *path != format!("{}/s{slot}", own_dir(self.index)) || !is_new(stat, zxid) {
                    return Err("not what a create gives".to_owned());
                }
                self.acknowledged.apply(effect, Some(zxid), Some(*stat));
            }
            (Effect::Set { slot, .. }, Outcome::Changed(stat)) => {
                let version = self.acknowledged.slots.get(slot).map(|slot| slot.version + 1);
                if stat.mzxid != zxid || Some(stat.version) != version {
                    return Err(format!("expected version {version:?}"));
                }
                self.acknowledged.apply(effect, Some(zxid), Some(*stat));
            }
            (Effect::Delete { .. }, Outcome::Done) => self.acknowledged.apply(effect, Some(zxid), None),
            (Effect::Check { .. }, Outcome::Done) => {}
            (
                Effect::Enqueue { token, ephemeral },
                Outcome::Created {
                    path,
                    stat: Some(stat),
                },
            ) => {
                let name = path.strip_prefix(QUEUE).and_then(|name| name.strip_prefix('/'));
                let number = name.and_then(queue_number).ok_or("not a sequential path")?;
                if !is_new(stat, zxid) {
                    return Err("not what a create gives".to_owned());
                }
                if i64::from(number) <= sequence_floor {
                    return Err(format!(
                        "its number is not above {sequence_floor}, which was answered before"
                    ));
                }
                ledger.note_sequence(number, *token)?;
                let item = Item {
                    token: *token,
                    czxid: zxid,
                };
                match ephemeral {
                    true => session.queued.insert(number, item),
                    false => self.queued.insert(number, item),
                };
            }
            (Effect::Dequeue { number }, Outcome::Done) => {
                session
                    .queued
                    .remove(number)
                    .or_else(|| self.queued.remove(number))
                    .ok_or("it was gone")?;
            }
            (Effect::SetShared { token, version }, Outcome::Changed(stat)) => {
                if stat.mzxid != zxid || *version != VERSION_ANY && stat.version != version + 1 {
                    return Err("not what a setData gives".to_owned());
                }
                ledger.note_shared(stat.version, *token, zxid)?;
                self.shared_version = stat.version;
            }
            (Effect::Hold { number, token }, Outcome::Created { stat: Some(stat), .. }) => {
                if !is_new(stat, zxid) || stat.ephemeral_owner != session.id() {
                    return Err("not what a create of an ephemeral gives".to_owned());
                }
                session.holds.insert(
                    *number,
                    Item {
                        token: *token,
                        czxid: zxid,
                    },
                );
            }
            (Effect::Release { number }, Outcome::Done) => {
                session.holds.remove(number).ok_or("it was gone")?;
            }
            (Effect::Close, Outcome::Done) => session.state = SessionState::Ended,
            _ => return Err("not an answer to that".to_owned()),
        }
        Ok(())
    }
}

fn sets_shared(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::SetShared { .. }))
}

/// Whether a Stat is one of a znode just created by the txn of `zxid`.
fn is_new(stat: &Stat, zxid: Zxid) -> bool {
    stat.czxid == zxid
        && stat.mzxid == zxid
        && stat.pzxid == zxid
        && stat.version == 0
        && stat.num_children == 0
}

/// The outcomes of a multi that happened, or the part that failed and its code.
fn succeeded_parts(results: Vec<OpResult>) -> Result<Vec<Outcome>, (usize, i32)> {
    let parts = results
        .into_iter()
        .enumerate()
        .filter(|(_, result)| *result != OpResult::Error(0));
    parts
        .map(|(part, result)| match result {
            OpResult::Ok { outcome, .. } => Ok(outcome),
            OpResult::Error(code) => Err((part, code)),
        })
        .collect()
}

/// Why a worker stops using a connection.
enum Stop {
    Connection(ClientError),
    Violation(String),
}

fn violation(text: String) -> Stop {
    Stop::Violation(text)
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Stop {
        match error {
            ClientError::Io(ref io) if io.kind() == std::io::ErrorKind::WouldBlock => {
                violation("no reply came in time".to_owned())
            }
            ClientError::Io(_) | ClientError::Closed => Stop::Connection(error),
            other => violation(other.to_string()),
        }
    }
}

/// The ledger; a worker that panicked has ended the run anyway.
pub(super) fn lock(ledger: &Mutex<Ledger>) -> std::sync::MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
