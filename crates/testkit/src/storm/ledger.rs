//! What all clients know together, and what that forbids.
//!
//! Every reply tells the zxid that its server had applied, and every znode the zxid of its last change: so all
//! that any client ever saw has one place in one order, and a lost, doubled, invented or reordered write
//! contradicts something that was seen before, at once or when the trees are read at the end.

use std::collections::{BTreeMap, HashMap};

use oxkeeper_types::{SessionId, Zxid};

use crate::crash::model::Token;

/// What was seen of one version of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// The write that made it.
    pub(super) token: Token,
    /// The zxid of that write.
    pub(super) zxid: Zxid,
    /// The newest zxid at which a server showed this version: the next one is newer.
    pub(super) seen_until: Zxid,
}

/// A znode, or two that are only changed together, whose data clients replace.
#[derive(Clone, Debug, Default)]
pub(super) struct Register {
    pub(super) versions: BTreeMap<i32, Version>,
    /// The newest zxid of a write that was acknowledged.
    pub(super) acknowledged: Zxid,
}

/// What happened, for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Writes acknowledged.
    pub writes: u64,
    /// Writes whose reply never came.
    pub unanswered: u64,
    /// Reads answered.
    pub reads: u64,
    /// Reads behind a sync, answered.
    pub synced_reads: u64,
    /// Of these, older than a write acknowledged before the sync, when that is allowed.
    pub stale_synced_reads: u64,
    /// Watch events.
    pub events: u64,
    /// Sessions begun.
    pub sessions: u64,
    /// Sessions gone on with on another connection.
    pub moves: u64,
    /// Sessions closed with an answer.
    pub closed: u64,
    /// Sessions that a client found expired.
    pub expired: u64,
}

impl Counts {
    /// Takes the counts of another time in.
    pub(super) fn add(&mut self, other: &Counts) {
        self.writes += other.writes;
        self.unanswered += other.unanswered;
        self.reads += other.reads;
        self.synced_reads += other.synced_reads;
        self.stale_synced_reads += other.stale_synced_reads;
        self.events += other.events;
        self.sessions += other.sessions;
        self.moves += other.moves;
        self.closed += other.closed;
        self.expired += other.expired;
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The newest zxid of any acknowledged write.
    pub(super) acknowledged: Zxid,
    pub(super) registers: Vec<Register>,
    /// Writes that may have happened, and to which register.
    sent: HashMap<Token, usize>,
    /// Which version of its register a write made.
    made: HashMap<Token, i32>,
    /// Which write was acknowledged with a zxid.
    zxids: HashMap<Zxid, Token>,
    /// Sessions that were closed, and when: nobody may see their ephemerals from then on.
    pub(super) closed: HashMap<SessionId, Zxid>,
    pub(super) counts: Counts,
}

impl Ledger {
    pub(super) fn new(registers: usize) -> Ledger {
        Ledger {
            registers: vec![Register::default(); registers],
            ..Ledger::default()
        }
    }

    /// A write to a register is being sent.
    pub(super) fn note_sent(&mut self, register: usize, token: Token) {
        self.sent.insert(token, register);
    }

    /// The server said that the write did not happen.
    pub(super) fn note_refused(&mut self, token: Token) -> Result<(), String> {
        self.sent.remove(&token);
        match self.made.get(&token) {
            Some(version) => Err(format!(
                "write {token:#x} was refused, but it made version {version}"
            )),
            None => Ok(()),
        }
    }

    /// A write of any kind was acknowledged. `floor` is what [`Ledger::acknowledged`] was when it was sent: its
    /// own zxid must be newer, and nobody else's.
    pub(super) fn note_acknowledged(&mut self, token: Token, zxid: Zxid, floor: Zxid) -> Result<(), String> {
        self.counts.writes += 1;
        if zxid <= floor {
            return Err(format!(
                "write {token:#x} was acknowledged with zxid {zxid}, but {floor} was acknowledged before it was \
                 sent"
            ));
        }
        self.acknowledged = self.acknowledged.max(zxid);
        match self.zxids.insert(zxid, token) {
            Some(other) => Err(format!(
                "writes {other:#x} and {token:#x} were both acknowledged with zxid {zxid}"
            )),
            None => Ok(()),
        }
    }

    /// A write to a register was acknowledged, in this version.
    pub(super) fn note_register_written(
        &mut self,
        register: usize,
        version: i32,
        token: Token,
        zxid: Zxid,
        floor: Zxid,
    ) -> Result<(), String> {
        self.note_acknowledged(token, zxid, floor)?;
        self.note_seen(register, version, token, zxid, zxid)?;
        let acknowledged = &mut self.registers[register].acknowledged;
        *acknowledged = (*acknowledged).max(zxid);
        Ok(())
    }

    /// A server that had applied all up to `seen_at` showed a version of a register, written by `token` with
    /// `zxid`.
    pub(super) fn note_seen(
        &mut self,
        register: usize,
        version: i32,
        token: Token,
        zxid: Zxid,
        seen_at: Zxid,
    ) -> Result<(), String> {
        let shown = format!("register {register} has version {version} by write {token:#x} with zxid {zxid}");
        if self.sent.get(&token) != Some(&register) {
            return Err(format!("{shown}, which nobody sent there, or which was refused"));
        }
        if zxid > seen_at {
            return Err(format!("{shown}, shown by a server that is at {seen_at}"));
        }
        if let Some(other) = self.made.insert(token, version).filter(|other| *other != version) {
            return Err(format!("{shown}, but that write made version {other} too"));
        }
        let versions = &mut self.registers[register].versions;
        let before = versions
            .range(..version)
            .next_back()
            .map(|(number, seen)| (*number, *seen));
        let after = versions
            .range(version + 1..)
            .next()
            .map(|(number, seen)| (*number, *seen));
        let known = versions.entry(version).or_insert(Version {
            token,
            zxid,
            seen_until: seen_at,
        });
        if (known.token, known.zxid) != (token, zxid) {
            return Err(format!("{shown}, but known is {known:x?}"));
        }
        known.seen_until = known.seen_until.max(seen_at);
        if let Some(before) = before.filter(|(_, before)| before.seen_until >= zxid) {
            return Err(format!(
                "{shown}, but a server that had applied that still showed version {before:x?}"
            ));
        }
        if let Some(after) = after.filter(|(_, after)| after.zxid <= known.seen_until) {
            return Err(format!(
                "{shown}, shown by a server that is at {seen_at} and so must show version {after:x?}"
            ));
        }
        Ok(())
    }

    /// What all servers show at the end, when nothing is in flight any more.
    pub(super) fn check_final(&self, register: usize, version: i32) -> Result<(), String> {
        let known = &self.registers[register].versions;
        if let Some((newest, seen)) = known.last_key_value().filter(|(newest, _)| **newest > version) {
            return Err(format!(
                "register {register} ends with version {version}, but version {newest} was there: {seen:x?}"
            ));
        }
        let unseen = usize::try_from(version).map_or(0, |version| version + 1) - known.len();
        let unanswered = self
            .sent
            .iter()
            .filter(|(token, to)| **to == register && !self.made.contains_key(token))
            .count();
        if unseen > unanswered {
            return Err(format!(
                "register {register} ends with version {version}; {unseen} of its versions nobody saw, but only \
                 {unanswered} writes have no known outcome"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(2);
        for token in 1..10 {
            ledger.note_sent(0, token);
        }
        ledger.note_seen(0, 0, 1, Zxid(10), Zxid(10)).unwrap();
        ledger.note_register_written(0, 1, 2, Zxid(20), Zxid(10)).unwrap();
        ledger
    }

    #[test]
    fn what_fits_is_taken() {
        let mut ledger = ledger();
        ledger.note_seen(0, 0, 1, Zxid(10), Zxid(19)).unwrap();
        ledger.note_seen(0, 1, 2, Zxid(20), Zxid(29)).unwrap();
        ledger.note_register_written(0, 3, 4, Zxid(40), Zxid(20)).unwrap();
        ledger.note_seen(0, 2, 3, Zxid(30), Zxid(39)).unwrap();
        ledger.note_refused(5).unwrap();
        ledger.check_final(0, 3).unwrap();
        ledger.check_final(0, 7).unwrap();
    }

    #[test]
    fn a_lost_write_is_found() {
        let ledger = ledger();
        assert!(ledger.check_final(0, 0).is_err(), "version 1 was acknowledged");
        let mut ledger = ledger;
        let again = ledger.note_register_written(0, 1, 3, Zxid(30), Zxid(20));
        assert!(again.is_err(), "version 1 is another write's");
    }

    #[test]
    fn a_write_that_happens_twice_is_found() {
        let mut ledger = ledger();
        assert!(ledger.note_seen(0, 2, 2, Zxid(30), Zxid(30)).is_err());
        assert!(ledger.check_final(0, 9).is_err(), "more versions than writes");
    }

    #[test]
    fn an_invented_or_refused_write_is_found() {
        let mut ledger = ledger();
        assert!(ledger.note_seen(0, 2, 99, Zxid(30), Zxid(30)).is_err());
        assert!(
            ledger.note_seen(1, 0, 3, Zxid(30), Zxid(30)).is_err(),
            "sent elsewhere"
        );
        ledger.note_refused(3).unwrap();
        assert!(ledger.note_seen(0, 2, 3, Zxid(30), Zxid(30)).is_err());
        assert!(ledger.note_refused(2).is_err(), "it was acknowledged");
    }

    #[test]
    fn a_read_that_leaves_out_an_applied_write_is_found() {
        let mut before = ledger();
        assert!(before.note_seen(0, 0, 1, Zxid(10), Zxid(20)).is_err());
        let mut after = ledger();
        after.note_seen(0, 1, 2, Zxid(20), Zxid(50)).unwrap();
        assert!(
            after.note_register_written(0, 2, 3, Zxid(45), Zxid(20)).is_err(),
            "a server at 50 did not show it"
        );
    }

    #[test]
    fn writes_out_of_the_order_of_time_are_found() {
        let mut ledger = ledger();
        assert!(ledger.note_acknowledged(3, Zxid(20), Zxid(20)).is_err());
        ledger.note_acknowledged(4, Zxid(30), Zxid(20)).unwrap();
        assert!(
            ledger.note_acknowledged(5, Zxid(30), Zxid(20)).is_err(),
            "one zxid, two writes"
        );
        assert!(
            ledger.note_seen(0, 2, 6, Zxid(60), Zxid(50)).is_err(),
            "from the future"
        );
    }
}
