//! What the harness knows must be, may be and must not be in the tree.
//!
//! Each worker alone writes its own znodes, over one session at a time, and a session's requests are done in
//! the order they were sent. So after a crash the server must show what the acknowledged requests made, and
//! then the effects of a first part of the unanswered ones, whole requests each, and nothing else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use oxkeeper_types::{CreateMode, ErrorCode, SessionId, Stat, VERSION_ANY, WriteRequest, Zxid};

use crate::client::create_request;
use crate::{Client, Session};

/// The root of all znodes of the harness.
pub(super) const ROOT: &str = "/crash";
/// The parent of sequential znodes of all workers.
pub(super) const QUEUE: &str = "/crash/queue";
/// The znode whose data all workers replace.
pub(super) const SHARED: &str = "/crash/shared";
/// What the names of sequential znodes begin with.
pub(super) const QUEUE_PREFIX: &str = "q-";

/// The parent of a worker's own persistent znodes.
pub(super) fn own_dir(worker: usize) -> String {
    format!("{ROOT}/w{worker}")
}

/// The parent of a worker's own ephemerals.
pub(super) fn holds_dir(worker: usize) -> String {
    format!("{ROOT}/e{worker}")
}

/// The path of the sequential znode with `number`.
pub(super) fn queue_path(number: u32) -> String {
    format!("{QUEUE}/{QUEUE_PREFIX}{number:010}")
}

/// The number at the end of a sequential znode's name.
pub(super) fn queue_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix(QUEUE_PREFIX)?;
    if digits.len() == 10 {
        digits.parse().ok()
    } else {
        None
    }
}

/// Names one write for ever; what it wrote is made from it.
pub(crate) type Token = u64;

/// The data that the write named `token` writes: the token, and bytes that only the token determines.
pub(crate) fn data_of(token: Token) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(token);
    let mut data = token.to_be_bytes().to_vec();
    data.extend((0..rng.usize(0..300)).map(|_| rng.u8(..)));
    data
}

/// The token whose write made `data`, `None` when no write makes such data.
pub(crate) fn token_of(data: &[u8]) -> Option<Token> {
    let token = Token::from_be_bytes(*data.first_chunk()?);
    (data == data_of(token)).then_some(token)
}

/// One thing a request does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Create an own persistent znode.
    Create { slot: u8, token: Token },
    /// Replace the data of an own znode.
    Set { slot: u8, token: Token, version: i32 },
    /// Delete an own znode.
    Delete { slot: u8, version: i32 },
    /// Check the version of the parent of the own znodes, which is always 0.
    Check { version: i32 },
    /// Read an own znode.
    Read { slot: u8 },
    /// Create a sequential znode.
    Enqueue { token: Token, ephemeral: bool },
    /// Delete a sequential znode of one's own.
    Dequeue { number: u32 },
    /// Replace the data that all share.
    SetShared { token: Token, version: i32 },
    /// Create an own ephemeral.
    Hold { number: u64, token: Token },
    /// Delete an own ephemeral.
    Release { number: u64 },
    /// End the session.
    Close,
}

impl Effect {
    /// The request that does it, `None` for what does not write.
    pub(super) fn to_write(&self, worker: usize) -> Option<WriteRequest> {
        let slot_path = |slot: &u8| format!("{}/s{slot}", own_dir(worker));
        let hold_path = |number: &u64| format!("{}/h{number}", holds_dir(worker));
        Some(match self {
            Effect::Create { slot, token } => {
                create_request(&slot_path(slot), &data_of(*token), CreateMode::Persistent)
            }
            Effect::Set { slot, token, version } => set_request(slot_path(slot), *token, *version),
            Effect::Delete { slot, version } => delete_request(slot_path(slot), *version),
            Effect::Check { version } => WriteRequest::Check {
                path: own_dir(worker),
                version: *version,
            },
            Effect::Enqueue { token, ephemeral } => {
                let mode = match ephemeral {
                    true => CreateMode::EphemeralSequential,
                    false => CreateMode::PersistentSequential,
                };
                create_request(&format!("{QUEUE}/{QUEUE_PREFIX}"), &data_of(*token), mode)
            }
            Effect::Dequeue { number } => delete_request(queue_path(*number), VERSION_ANY),
            Effect::SetShared { token, version } => set_request(SHARED.to_owned(), *token, *version),
            Effect::Hold { number, token } => {
                create_request(&hold_path(number), &data_of(*token), CreateMode::Ephemeral)
            }
            Effect::Release { number } => delete_request(hold_path(number), VERSION_ANY),
            Effect::Close => WriteRequest::CloseSession,
            Effect::Read { .. } => return None,
        })
    }
}

pub(crate) fn set_request(path: String, token: Token, version: i32) -> WriteRequest {
    WriteRequest::SetData {
        path,
        data: Some(data_of(token).into()),
        version,
    }
}

fn delete_request(path: String, version: i32) -> WriteRequest {
    WriteRequest::Delete { path, version }
}

/// A request that was sent and has no reply yet.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) xid: i32,
    /// What it does: one thing, or the parts of a multi.
    pub(super) effects: Vec<Effect>,
    pub(super) multi: bool,
    /// The part that must fail, and how.
    pub(super) fails: Option<(usize, ErrorCode)>,
    pub(super) sent_at: Instant,
    /// The newest zxid that had been answered to anybody when it was sent: its own must be newer.
    pub(super) zxid_floor: Zxid,
    /// The highest sequence number that had been answered to anybody by then, or -1.
    pub(super) sequence_floor: i64,
}

/// An own persistent znode of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) token: Token,
    pub(super) version: i32,
    /// As answered; `None` when the write was not answered.
    pub(super) stat: Option<Stat>,
}

/// The own persistent znodes of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) slots: BTreeMap<u8, Slot>,
    /// How many children the parent ever had.
    pub(super) created: i32,
    /// The parent's pzxid, when known.
    pub(super) pzxid: Option<Zxid>,
}

impl Own {
    /// Does what a successful part of a request does; `zxid` and `stat` as answered, if it was.
    ///
    /// # Panics
    /// When the part could not have succeeded.
    pub(super) fn apply(&mut self, effect: &Effect, zxid: Option<Zxid>, stat: Option<Stat>) {
        match effect {
            Effect::Create { slot, token } => {
                let before = self.slots.insert(
                    *slot,
                    Slot {
                        token: *token,
                        version: 0,
                        stat,
                    },
                );
                assert_eq!(before, None, "a znode is created twice");
                self.created += 1;
                self.pzxid = zxid;
            }
            Effect::Set { slot, token, .. } => {
                let slot = self.slots.get_mut(slot).expect("only what exists is set");
                *slot = Slot {
                    token: *token,
                    version: slot.version + 1,
                    stat,
                };
            }
            Effect::Delete { slot, .. } => {
                self.slots.remove(slot).expect("only what exists is deleted");
                self.pzxid = zxid;
            }
            _ => {}
        }
    }

    /// Whether the part changes own znodes.
    pub(super) fn is_changed_by(effect: &Effect) -> bool {
        matches!(
            effect,
            Effect::Create { .. } | Effect::Set { .. } | Effect::Delete { .. }
        )
    }

    /// How the server shows something else than this, if it does.
    pub(super) fn difference(&self, dir: &Stat, slots: &BTreeMap<u8, (Token, Stat)>) -> Option<String> {
        let children = i32::try_from(self.slots.len()).expect("few slots");
        for (number, slot) in &self.slots {
            match slots.get(number) {
                None => return Some(format!("s{number} is missing, expected {slot:?}")),
                Some((token, stat)) => {
                    let agrees = *token == slot.token
                        && stat.version == slot.version
                        && slot.stat.is_none_or(|answered| answered == *stat);
                    if !agrees {
                        return Some(format!(
                            "s{number} has token {token} and {stat:?}, expected {slot:?}"
                        ));
                    }
                }
            }
        }
        if let Some((number, found)) = slots.iter().find(|(number, _)| !self.slots.contains_key(number)) {
            return Some(format!("s{number} must not be there, and has {found:?}"));
        }
        let agrees = dir.num_children == children
            && dir.cversion == 2 * self.created - children
            && dir.version == 0
            && self.pzxid.is_none_or(|pzxid| pzxid == dir.pzxid);
        (!agrees).then(|| {
            format!(
                "the parent has {dir:?}, expected {children} children, {} creates, pzxid {:?}",
                self.created, self.pzxid
            )
        })
    }
}

/// A znode that is written once: a sequential or an ephemeral one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) token: Token,
    pub(super) czxid: Zxid,
}

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionState {
    /// Its worker uses it, or used it until the crash.
    Used,
    /// Nobody uses it any more; it is to expire.
    Left,
    /// It was closed: its ephemerals must be gone.
    Ended,
}

/// A session and its ephemerals.
#[derive(Debug)]
pub(super) struct OwnedSession {
    pub(super) session: Session,
    pub(super) state: SessionState,
    /// The server cannot have heard from it last before this.
    pub(super) touched_at: Instant,
    /// When nobody used it any more.
    pub(super) left_at: Instant,
    /// Whether the touch came early enough before the last crash that it cannot have expired by then.
    pub(super) survived_crash: bool,
    /// Own ephemerals, by number.
    pub(super) holds: BTreeMap<u64, Item>,
    /// Ephemeral sequential znodes, by number.
    pub(super) queued: BTreeMap<u32, Item>,
}

impl OwnedSession {
    pub(super) fn new(session: Session, now: Instant) -> OwnedSession {
        OwnedSession {
            session,
            state: SessionState::Used,
            touched_at: now,
            left_at: now,
            survived_crash: true,
            holds: BTreeMap::new(),
            queued: BTreeMap::new(),
        }
    }

    pub(super) fn id(&self) -> SessionId {
        self.session.id
    }

    /// Whether the last touch is less than its timeout ago.
    pub(super) fn is_touched(&self, now: Instant) -> bool {
        self.touched_at + self.timeout() > now
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.session.timeout_ms).unwrap_or(0))
    }
}

/// What all workers know together.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The newest zxid that anybody was answered.
    pub(super) zxid_max: Zxid,
    /// Every sequence number that was answered or seen, and by which write.
    pub(super) sequences: BTreeMap<u32, Token>,
    /// Of every version of the shared znode that was answered or seen: the write, and the zxid.
    pub(super) shared: BTreeMap<i32, (Token, Zxid)>,
    /// Writes that were answered with success.
    pub(super) writes: u64,
    /// Sessions begun, closed, and renewed after a crash.
    pub(super) sessions: u64,
    pub(super) closed: u64,
    pub(super) renewed: u64,
}

impl Ledger {
    /// The highest sequence number answered or seen, -1 before the first.
    pub(super) fn sequence_max(&self) -> i64 {
        self.sequences
            .last_key_value()
            .map_or(-1, |(number, _)| i64::from(*number))
    }

    /// Notes who got a sequence number.
    pub(super) fn note_sequence(&mut self, number: u32, token: Token) -> Result<(), String> {
        match self.sequences.insert(number, token) {
            Some(other) if other != token => Err(format!(
                "sequence number {number} was given to write {other} and again to write {token}"
            )),
            _ => Ok(()),
        }
    }

    /// Notes which write made a version of the shared znode; versions and zxids must be in one order.
    pub(super) fn note_shared(&mut self, version: i32, token: Token, zxid: Zxid) -> Result<(), String> {
        let before = self.shared.range(..version).next_back();
        let after = self.shared.range(version + 1..).next();
        let same = self.shared.get(&version);
        if same.is_some_and(|same| *same != (token, zxid))
            || before.is_some_and(|(_, (_, before))| *before >= zxid)
            || after.is_some_and(|(_, (_, after))| *after <= zxid)
        {
            return Err(format!(
                "version {version} of {SHARED} is of write {token} and zxid {zxid}, but known are \
                 {before:?}, {same:?} and {after:?} (version, (write, zxid))"
            ));
        }
        self.shared.insert(version, (token, zxid));
        Ok(())
    }
}

/// Reads one znode, `None` when it is not there.
pub(super) type Found = Option<(Token, Stat)>;

/// What the server shows.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) queue: BTreeMap<u32, (Token, Stat)>,
    pub(super) shared: (Token, Stat),
    pub(super) workers: Vec<ObservedWorker>,
    /// When the last of it was read.
    pub(super) finished_at: Instant,
    /// When the first of it was read.
    pub(super) started_at: Instant,
}

/// What the server shows of one worker's znodes.
#[derive(Debug)]
pub(super) struct ObservedWorker {
    pub(super) dir: Stat,
    pub(super) slots: BTreeMap<u8, (Token, Stat)>,
    pub(super) holds: BTreeMap<u64, (Token, Stat)>,
}

/// Reads all znodes of the harness. The error says what cannot be or could not be read.
pub(super) fn observe(client: &mut Client, workers: usize) -> Result<Observed, String> {
    let started_at = Instant::now();
    let mut top = children(client, ROOT)?.0;
    top.sort();
    let mut expected: Vec<String> = (0..workers)
        .flat_map(|i| [format!("w{i}"), format!("e{i}")])
        .collect();
    expected.extend(["queue".to_owned(), "shared".to_owned()]);
    expected.sort();
    if top != expected {
        return Err(format!(
            "the children of {ROOT} are {top:?}, expected {expected:?}"
        ));
    }
    let queue = read_children(client, QUEUE, queue_number)?.0;
    let shared = read(client, SHARED)?.ok_or_else(|| format!("{SHARED} is missing"))?;
    let mut observed = Vec::new();
    for worker in 0..workers {
        let number = |prefix: char, name: &str| name.strip_prefix(prefix)?.parse::<u64>().ok();
        let (slots, dir) = read_children(client, &own_dir(worker), |name| {
            u8::try_from(number('s', name)?).ok()
        })?;
        let holds = read_children(client, &holds_dir(worker), |name| number('h', name))?.0;
        observed.push(ObservedWorker { dir, slots, holds });
    }
    Ok(Observed {
        queue,
        shared,
        workers: observed,
        started_at,
        finished_at: Instant::now(),
    })
}

fn children(client: &mut Client, path: &str) -> Result<(Vec<String>, Stat), String> {
    client
        .children(path, false)
        .map_err(|error| format!("the children of {path}: {error}"))
}

/// The children of a znode that were found, by what their names tell.
type FoundChildren<K> = BTreeMap<K, (Token, Stat)>;

fn read_children<K: Ord>(
    client: &mut Client,
    parent: &str,
    key: impl Fn(&str) -> Option<K>,
) -> Result<(FoundChildren<K>, Stat), String> {
    let (names, stat) = children(client, parent)?;
    let mut found = BTreeMap::new();
    for name in names {
        let key = key(&name).ok_or_else(|| format!("nobody created {parent}/{name}"))?;
        // An ephemeral may expire between the list and the read.
        if let Some(znode) = read(client, &format!("{parent}/{name}"))? {
            found.insert(key, znode);
        }
    }
    Ok((found, stat))
}

/// Reads a znode and takes the token from its data, which must be whole.
pub(super) fn read(client: &mut Client, path: &str) -> Result<Found, String> {
    match client.get(path) {
        Ok((data, stat)) => {
            let token =
                token_of(&data).ok_or_else(|| format!("no write made the data of {path}: {data:02x?}"))?;
            if usize::try_from(stat.data_length) != Ok(data.len()) {
                return Err(format!("{path} has {} bytes of data and {stat:?}", data.len()));
            }
            Ok(Some((token, stat)))
        }
        Err(crate::ClientError::Refused(ErrorCode::NoNode)) => Ok(None),
        Err(error) => Err(format!("reading {path}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(zxid: i64, version: i32) -> Stat {
        Stat {
            czxid: Zxid(1),
            mzxid: Zxid(zxid),
            version,
            ..Stat::default()
        }
    }

    #[test]
    fn only_the_token_makes_the_data() {
        assert_eq!(token_of(&data_of(77)), Some(77));
        let mut data = data_of(77);
        data.push(0);
        assert_eq!(token_of(&data), None);
        assert_eq!(token_of(b""), None);
    }

    #[test]
    fn own_znodes_differ_when_a_write_is_lost_doubled_or_invented() {
        let mut own = Own::default();
        own.apply(
            &Effect::Create { slot: 3, token: 10 },
            Some(Zxid(1)),
            Some(stat(1, 0)),
        );
        let set = Effect::Set {
            slot: 3,
            token: 11,
            version: VERSION_ANY,
        };
        own.apply(&set, Some(Zxid(2)), Some(stat(2, 1)));
        let dir = Stat {
            cversion: 1,
            num_children: 1,
            pzxid: Zxid(1),
            ..Stat::default()
        };
        let shown = BTreeMap::from([(3, (11, stat(2, 1)))]);
        assert_eq!(own.difference(&dir, &shown), None);
        assert!(
            own.difference(&dir, &BTreeMap::new()).is_some(),
            "the znode is lost"
        );
        let lost = BTreeMap::from([(3, (10, stat(1, 0)))]);
        assert!(own.difference(&dir, &lost).is_some(), "the setData is lost");
        let doubled = BTreeMap::from([(3, (11, stat(2, 2)))]);
        assert!(
            own.difference(&dir, &doubled).is_some(),
            "the setData happened twice"
        );
        let other_zxid = BTreeMap::from([(3, (11, stat(3, 1)))]);
        assert!(
            own.difference(&dir, &other_zxid).is_some(),
            "the zxid is not the one answered"
        );
        let mut invented = shown.clone();
        invented.insert(4, (12, stat(3, 0)));
        assert!(
            own.difference(&dir, &invented).is_some(),
            "a znode nobody created"
        );
        let parent = Stat { cversion: 3, ..dir };
        assert!(
            own.difference(&parent, &shown).is_some(),
            "the parent counts too much"
        );
    }

    #[test]
    fn a_sequence_number_is_given_once() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.sequence_max(), -1);
        ledger.note_sequence(5, 1).unwrap();
        ledger.note_sequence(5, 1).unwrap();
        assert!(ledger.note_sequence(5, 2).is_err());
        assert_eq!(ledger.sequence_max(), 5);
        assert_eq!(queue_number("q-0000000005"), Some(5));
        assert_eq!(queue_number("q-5"), None);
    }

    #[test]
    fn versions_of_the_shared_znode_and_zxids_are_in_one_order() {
        let mut ledger = Ledger::default();
        ledger.note_shared(1, 1, Zxid(10)).unwrap();
        ledger.note_shared(5, 5, Zxid(50)).unwrap();
        ledger.note_shared(3, 3, Zxid(30)).unwrap();
        ledger.note_shared(3, 3, Zxid(30)).unwrap();
        assert!(
            ledger.note_shared(3, 4, Zxid(30)).is_err(),
            "another write of that version"
        );
        assert!(
            ledger.note_shared(4, 4, Zxid(30)).is_err(),
            "an older zxid than the version before"
        );
        assert!(
            ledger.note_shared(2, 2, Zxid(40)).is_err(),
            "a newer zxid than the version after"
        );
    }
}
