//! What must hold in every run, and is known to nobody inside it. The names are those of the design and of the
//! quorum spec, section 10.3. A violation panics with what was seen.
//!
//! Txns have one predecessor each (checked when they are logged), so a history is known by its last txn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use oxkeeper_core::Standing;
use oxkeeper_core::membership::find_configuration;
use oxkeeper_model::{Committed, History};
use oxkeeper_types::{ServerId, SessionId, Txn, TxnHeader, Zxid};
use oxkeeper_wire::{decode_touches, decode_txn_entry};
use oxkeeper_zab::{Configuration, Entry, LinkId, Message, Notification, PeerState, QuorumVerifier, Write};

use crate::net::Direction;
use crate::stats::Count;
use crate::world::{Place, World};

/// A txn that some leader has proposed.
struct Proposed {
    txn: Arc<[u8]>,
    before: Zxid,
    header: TxnHeader,
    decoded: Txn,
    /// The digest of the tree after it.
    digest: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Checks {
    proposed: BTreeMap<Zxid, Proposed>,
    /// The last txn of the history that each epoch began with, as far as a snapshot was named after the epoch.
    begun_after: BTreeMap<Zxid, Zxid>,
    /// The one history: whatever any server showed, in order.
    committed: Vec<Zxid>,
    /// In which epoch each of these was first shown.
    committed_in: Vec<u32>,
    /// What came of it, request by request.
    pub(crate) history: History,
    /// Who led each epoch, and in which boot.
    leaders: BTreeMap<u32, (Place, u64)>,
    /// Sessions whose end was proposed, or asked for by their clients.
    ends_wanted: BTreeSet<SessionId>,
    /// Where each session begins.
    begun: BTreeMap<SessionId, Zxid>,
    /// Requests that were sent before their connection was given its session.
    hasty: BTreeSet<i32>,
    /// The newest request of each session that was done, hasty ones aside.
    newest_done: BTreeMap<SessionId, i32>,
    /// The configurations that counted anywhere, by their versions; at 0 the first.
    pub(crate) configurations: BTreeMap<Zxid, Arc<Configuration>>,
    /// Those that were proposed.
    pub(crate) reconfigs: BTreeMap<Zxid, Arc<Configuration>>,
}

impl Checks {
    /// The newest txn that was shown.
    pub(crate) fn newest(&self) -> Zxid {
        self.committed.last().copied().unwrap_or(Zxid::ZERO)
    }

    pub(crate) fn before(&self, zxid: Zxid) -> Zxid {
        self.proposed
            .get(&zxid)
            .unwrap_or_else(|| panic!("Z1: nobody proposed {zxid}"))
            .before
    }

    /// The history of `last` without what comes after `to`.
    pub(crate) fn cut(&self, mut last: Zxid, to: Zxid) -> Zxid {
        while last > to {
            last = self.before(last);
        }
        last
    }

    /// Whether a txn was shown.
    pub(crate) fn is_committed(&self, zxid: Zxid) -> bool {
        self.committed.binary_search(&zxid).is_ok()
    }

    /// Whether the history that ends at `last` holds `zxid`.
    pub(crate) fn contains(&self, last: Zxid, zxid: Zxid) -> bool {
        // What was shown is quickly compared, what is behind it is short.
        let mut last = last;
        while last > zxid {
            if let Ok(at) = self.committed.binary_search(&last) {
                return self.committed[..at].binary_search(&zxid).is_ok() || zxid == Zxid::ZERO;
            }
            last = self.before(last);
        }
        last == zxid
    }

    /// Whether a history is one that has `high` as its continuation and begins with `low`.
    pub(crate) fn is_between(&self, low: Zxid, zxid: Zxid, high: Zxid) -> bool {
        self.contains(high, zxid) && self.contains(zxid, low)
    }

    /// How many of the txns that were shown a history begins with.
    fn committed_through(&self, mut last: Zxid) -> usize {
        while last > Zxid::ZERO {
            if let Ok(at) = self.committed.binary_search(&last) {
                return at + 1;
            }
            last = self.before(last);
        }
        0
    }

    /// The last txn of a tree that has everything through `zxid`.
    pub(crate) fn floor(&self, zxid: Zxid) -> Zxid {
        if self.proposed.contains_key(&zxid) {
            return zxid;
        }
        if let Some(last) = self.begun_after.get(&zxid) {
            return *last;
        }
        let count = self.committed.partition_point(|shown| *shown <= zxid);
        self.committed[..count].last().copied().unwrap_or(Zxid::ZERO)
    }

    /// A request is sent before its connection is given its session.
    pub(crate) fn note_hasty(&mut self, xid: i32) {
        self.hasty.insert(xid);
    }

    /// A client asks for the end of its session.
    pub(crate) fn note_close(&mut self, session: SessionId) {
        self.ends_wanted.insert(session);
    }

    /// Whether a session lives, after all that was proposed.
    pub(crate) fn is_alive(&self, session: SessionId) -> bool {
        self.history.newest().sessions.contains_key(&session)
    }
}

impl World {
    // ---- what is sent ----------------------------------------------------------------------------------------

    /// Z9: an acknowledgement exists only after what it acknowledges is durable.
    pub(crate) fn check_sent(&mut self, at: Place, link: LinkId, message: &Message) {
        let facts = self.servers[at].facts;
        match message {
            Message::Ack(zxid) if zxid.counter() != 0 => {
                assert!(
                    self.checks.contains(facts.last, *zxid),
                    "Z9: {} acknowledges {zxid}, its disk ends at {}",
                    at + 1,
                    facts.last
                );
            }
            Message::Ack(zxid) => {
                assert_eq!(
                    facts.current_epoch,
                    zxid.epoch(),
                    "Z9: {} acknowledges NEWLEADER",
                    at + 1
                );
                self.check_current_epoch(at);
                self.check_noted_history(at);
            }
            Message::AckEpoch {
                last_zxid,
                current_epoch: Some(current_epoch),
            } => {
                let queued = self.has_queued(at);
                assert!(!queued, "Z9: {} promises before the promise is durable", at + 1);
                assert_eq!(
                    (self.checks.floor(*last_zxid), *current_epoch),
                    (facts.last, facts.current_epoch),
                    "Z9: {} promises",
                    at + 1
                );
            }
            Message::LeaderInfo { epoch } => {
                assert!(
                    facts.accepted_epoch >= *epoch,
                    "Z9: {} proposes epoch {epoch} too early",
                    at + 1
                );
            }
            // (e, 0): the history that the leader of e began with.
            Message::Snap(zxid) if zxid.counter() == 0 && *zxid > Zxid::ZERO => {
                let last = self.checks.cut(self.last_queued(at), *zxid);
                let before = self.checks.begun_after.insert(*zxid, last);
                assert!(
                    before.is_none_or(|before| before == last),
                    "Z6: {} began {zxid} after {last}, and said {before:?} before",
                    at + 1
                );
            }
            Message::Pong(_, touches) => self.check_touches(at, link, touches),
            _ => {}
        }
    }

    /// S5: a learner tells its leader of everybody it heard from.
    fn check_touches(&mut self, at: Place, _link: LinkId, touches: &[u8]) {
        let touched: BTreeSet<SessionId> = decode_touches(touches)
            .expect("our own bytes")
            .into_iter()
            .map(|(session, _)| session)
            .collect();
        let running = self.running(at);
        let heard = std::mem::take(&mut running.heard);
        let replica = running.shared.replica.read();
        let missing = heard
            .iter()
            .find(|session| !touched.contains(*session) && replica.sessions.contains_key(*session));
        assert_eq!(
            missing,
            None,
            "S5: {} heard of this and does not tell its leader",
            at + 1
        );
    }

    /// Z9: a current epoch on disk vouches for a history that is on disk: all that was committed before it.
    pub(crate) fn check_current_epoch(&self, at: Place) {
        let facts = self.servers[at].facts;
        let epoch = facts.current_epoch;
        // What a later epoch has committed meanwhile is unknown to this one, which will not be established.
        let shown = self.checks.committed.iter().zip(&self.checks.committed_in);
        let due = shown
            .take_while(|(zxid, committed_in)| **zxid < Zxid::new(epoch, 0) && **committed_in <= epoch)
            .count();
        assert!(
            self.checks.committed_through(facts.last) >= due,
            "Z9: {} has epoch {epoch} on disk, and its history ends at {}, with {} of {due} committed txns",
            at + 1,
            facts.last,
            self.checks.committed_through(facts.last)
        );
    }

    /// A server votes for itself with what is durable, and with nothing else; or repeats what others remember that it
    /// has claimed before it was truncated, in an election of the same number.
    pub(crate) fn check_vote(&mut self, at: Place, to: ServerId, notification: &Notification) {
        let server = &self.servers[at];
        let vote = notification.vote;
        if notification.state == PeerState::Looking
            && vote.leader == server.id
            && self
                .configuration(at)
                .is_some_and(|known| known.quorum.is_voter(to))
        {
            let claim = (self.checks.floor(vote.zxid), vote.peer_epoch);
            let durable = (server.facts.last, i64::from(server.facts.current_epoch));
            assert!(
                claim == durable || server.claims.contains(&claim),
                "Z10: {} votes for itself with {claim:?}, on its disk is {durable:?}",
                at + 1
            );
            assert!(!self.has_queued(at), "Z10: {} votes while it writes", at + 1);
            self.servers[at].claims.insert(claim);
        }
    }

    // ---- what is received ------------------------------------------------------------------------------------

    pub(crate) fn check_received(&mut self, at: Place, direction: Direction, message: &Message) {
        if let (Direction::ToLeader, Message::Pong(_, touches)) = (direction, message)
            && self.standing(at) == Some(Standing::Leading)
        {
            let now_ms = self.clock(at).monotonic_ms;
            let running = self.running(at);
            for (session, timeout_ms) in decode_touches(touches).expect("our own bytes") {
                running
                    .told_ms
                    .insert(session, (now_ms, u64::try_from(timeout_ms).unwrap_or(0)));
            }
        }
    }

    /// A server took a request of a session.
    pub(crate) fn note_heard(&mut self, at: Place, session: SessionId, timeout_ms: i32) {
        let now_ms = self.clock(at).monotonic_ms;
        match self.standing(at) {
            Some(Standing::Leading) => {
                let timeout_ms = u64::try_from(timeout_ms).unwrap_or(0);
                self.running(at).told_ms.insert(session, (now_ms, timeout_ms));
            }
            Some(Standing::Following | Standing::Observing) => {
                self.running(at).heard.insert(session);
            }
            Some(Standing::Looking | Standing::ReadOnly | Standing::Standalone) | None => {}
        }
    }

    // ---- what is written -------------------------------------------------------------------------------------

    /// A server wants something written: when it leads, this is how a txn comes to be.
    pub(crate) fn note_write(&mut self, at: Place, write: &Write) {
        match write {
            Write::Append(entry) => self.note_proposed(at, self.last_queued(at), entry),
            Write::Install { zxid, entries, .. } => {
                let mut before = self.checks.floor(*zxid);
                for entry in entries {
                    self.note_proposed(at, before, entry);
                    before = entry.zxid;
                }
            }
            Write::Truncate { .. }
            | Write::AcceptedEpoch(_)
            | Write::CurrentEpoch(_)
            | Write::NextConfiguration(_)
            | Write::Configuration(_) => {}
        }
    }

    fn last_queued(&self, at: Place) -> Zxid {
        self.servers[at]
            .running
            .as_ref()
            .map_or(Zxid::ZERO, |running| running.last_queued)
    }

    fn note_proposed(&mut self, at: Place, before: Zxid, entry: &Entry) {
        let zxid = entry.zxid;
        if let Some(known) = self.checks.proposed.get(&zxid) {
            assert_eq!(known.txn, entry.txn, "Z1: {} logs another txn {zxid}", at + 1);
            assert_eq!(
                known.before,
                before,
                "Z2: {} logs {zxid} after another txn than others do",
                at + 1
            );
            assert!(
                !self.leads(at, zxid.epoch()),
                "Z7: {} proposes {zxid} again",
                at + 1
            );
            return;
        }
        let epoch = zxid.epoch();
        assert!(
            self.leads(at, epoch),
            "Z1, Z6: {} logs {zxid}, which no leader has proposed",
            at + 1
        );
        let follows = before.epoch() == epoch && zxid == before.next();
        let begins = before.epoch() < epoch && zxid.counter() == 1;
        assert!(follows || begins, "Z4: {zxid} is proposed after {before}");
        let counter_max = self.servers[at].settings.counter_max;
        assert!(
            zxid.counter() <= counter_max,
            "{zxid} is proposed, the counter ends at {counter_max}"
        );
        let (header, decoded, digest) = decode_txn_entry(&entry.txn)
            .unwrap_or_else(|error| panic!("{} proposes {zxid}, which cannot be read: {error}", at + 1));
        assert_eq!(header.zxid, zxid, "the txn has its zxid");
        self.say(|| format!("{} proposes {zxid}: {header:?} {decoded:?}", at + 1));
        if matches!(decoded, Txn::CloseSession { .. }) {
            self.check_end(at, &header);
        }
        if let Some(configuration) = find_configuration(entry) {
            self.checks.reconfigs.insert(zxid, Arc::new(configuration));
        }
        self.checks.proposed.insert(
            zxid,
            Proposed {
                txn: entry.txn.clone(),
                before,
                header,
                decoded,
                digest: digest.map(|digest| digest.tree_digest),
            },
        );
    }

    /// Whether a server leads this epoch, until its role ends.
    fn leads(&self, at: Place, epoch: u32) -> bool {
        let serves = self.servers[at]
            .running
            .as_ref()
            .and_then(|running| running.serves);
        let leader = self.checks.leaders.get(&epoch);
        serves == Some(epoch) && leader == Some(&(at, self.servers[at].boot))
    }

    /// S5: a leader ends a session by itself only when it has not heard of it for its timeout.
    fn check_end(&mut self, at: Place, header: &TxnHeader) {
        self.checks.ends_wanted.insert(header.session);
        if self.checks.history.sent.contains_key(&header.cxid) {
            return;
        }
        let now_ms = self.clock(at).monotonic_ms;
        if let Some((told_ms, timeout_ms)) = self.running(at).told_ms.get(&header.session).copied() {
            // Any of its connections may have asked for a shorter one.
            let timeouts_ms = self
                .connections
                .iter()
                .filter_map(|dialled| dialled.timeout_of(header.session));
            let timeout_ms = timeouts_ms.min().unwrap_or(timeout_ms).min(timeout_ms);
            assert!(
                now_ms >= told_ms + timeout_ms,
                "S5: {} ends {} of {timeout_ms} ms, of which it was told {} ms ago",
                at + 1,
                header.session,
                now_ms - told_ms
            );
        }
    }

    /// A write is about to be executed, which makes a history that ends at `before` one that ends at `after`.
    pub(crate) fn check_write(&self, at: Place, before: Zxid, after: Zxid, write: &Write) {
        match write {
            Write::Append(_) => {
                assert!(after > before, "{} logs {after} after {before}", at + 1);
                self.check_noted(at, after);
            }
            Write::Truncate { .. } | Write::Install { .. } => {
                let (had, keeps) = (
                    self.checks.committed_through(before),
                    self.checks.committed_through(after),
                );
                // What a learner had ahead of its leader is taken back and sent again; it may have been committed
                // meanwhile, by a quorum without this learner.
                let others = (0..self.servers.len()).filter(|place| {
                    *place != at && self.checks.committed_through(self.servers[*place].facts.last) >= had
                });
                let holders = others.map(|place| self.servers[place].id).collect();
                let has_quorum = |last: &Zxid| {
                    let mut deciders = self.checks.deciders(*last).into_iter();
                    deciders.all(|quorum| quorum.contains_quorum(&holders))
                };
                assert!(
                    keeps >= had || self.checks.committed.get(had - 1).is_some_and(has_quorum),
                    "Z8: {} gives up {} committed txns by {write:?}, and only {holders:?} have them",
                    at + 1,
                    had - keeps
                );
            }
            Write::AcceptedEpoch(epoch) => assert!(
                *epoch >= self.servers[at].facts.accepted_epoch,
                "the accepted epoch of {} goes back to {epoch}",
                at + 1
            ),
            Write::CurrentEpoch(epoch) => assert!(
                *epoch >= self.servers[at].facts.current_epoch,
                "the current epoch of {} goes back to {epoch}",
                at + 1
            ),
            Write::NextConfiguration(_) => {}
            Write::Configuration(committed) => assert!(
                committed.version > self.servers[at].settings.configuration.version,
                "the configuration of {} goes back to {:x}",
                at + 1,
                committed.version
            ),
        }
    }

    // ---- what is applied -------------------------------------------------------------------------------------

    /// A truncation or an installed snapshot has left this state.
    pub(crate) fn note_replaced(&mut self, at: Place, last: Zxid) {
        let last = self.checks.floor(last);
        self.running(at).checked = last;
    }

    pub(crate) fn note_role_ended(&mut self, at: Place) {
        let running = self.running(at);
        running.serves = None;
        running.heard.clear();
        running.told_ms.clear();
    }

    /// Looks at what a server has applied, and at what it is.
    pub(crate) fn check_replica(&mut self, at: Place) {
        let Some(running) = &self.servers[at].running else {
            return;
        };
        let standing = running.core.standing();
        let shared = running.shared.clone();
        let replica = shared.replica.read();
        let (last, digest) = (replica.last_processed, replica.tree.digest().tree_digest);
        // What it applied at the end of a role, it has shown.
        if standing == Standing::Looking && running.serves.is_none() {
            return;
        }
        let last = self.checks.floor(last);
        let began = running.serves.is_none();
        let moved = running.checked != last;
        if !began && !moved {
            return;
        }
        let current_epoch = running
            .core
            .consensus()
            .map_or(0, oxkeeper_zab::Zab::current_epoch);
        let epoch = running.serves.unwrap_or(current_epoch);
        assert!(
            began || last > running.checked,
            "Z4, Z5: {} goes from {} back to {last}",
            at + 1,
            running.checked
        );
        let mismatches = shared
            .stats
            .digest_mismatches
            .load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(mismatches, 0, "T1: {} has another tree than its leader", at + 1);
        drop(replica);
        let before = running.checked;
        let running = self.running(at);
        running.checked = last;
        if began {
            running.serves = Some(epoch);
            running.heard.clear();
            self.show(at, last, epoch);
            self.begin_serving(at, last, epoch, standing);
        } else {
            self.show(at, last, epoch);
        }
        if let Some(known) = self.checks.proposed.get(&last)
            && let Some(expected) = known.digest
        {
            assert_eq!(
                digest,
                expected,
                "T1: the tree of {} at {last}, after {before}",
                at + 1
            );
        }
        let leads = self
            .checks
            .leaders
            .get(&epoch)
            .is_some_and(|(leader, _)| *leader == at);
        if leads && last.epoch() == epoch && moved {
            self.check_committed(at, before, last);
        }
        if self.rng.u8(..) < 8 {
            self.check_tree(at);
        }
    }

    /// Z8: what a leader has committed, after `before` and through `last`, is on the disks of those who decide about it.
    fn check_committed(&self, at: Place, before: Zxid, last: Zxid) {
        // Who decides about the last decides about those before it too, unless the list changes among them.
        let changes = self.checks.reconfigs.range(before..last).map(|(zxid, _)| *zxid);
        let changes = changes.filter(|zxid| *zxid > before && self.checks.contains(last, *zxid));
        for zxid in changes.chain([last]) {
            for quorum in self.checks.deciders(zxid) {
                self.check_quorum(at, "commits", &quorum, |world, place| {
                    world.checks.contains(world.servers[place].facts.last, zxid)
                });
            }
        }
    }

    /// Z2 to Z5: what a server shows is the one history, up to some point.
    fn show(&mut self, at: Place, last: Zxid, epoch: u32) {
        if self.checks.committed.binary_search(&last).is_ok() || last == Zxid::ZERO {
            return;
        }
        let newest = self.checks.newest();
        let mut new = Vec::new();
        let mut next = last;
        while next > newest {
            new.push(next);
            next = self.checks.before(next);
        }
        assert_eq!(
            next,
            newest,
            "Z3: {} shows {last}, whose history leaves the one that was shown, which ends at {newest}",
            at + 1
        );
        for zxid in new.into_iter().rev() {
            self.commit(at, zxid, epoch);
        }
    }

    /// A txn is shown for the first time.
    fn commit(&mut self, at: Place, zxid: Zxid, epoch: u32) {
        self.stats.count(Count::Commits);
        self.say(|| format!("{} shows {zxid} first", at + 1));
        self.checks.committed.push(zxid);
        self.checks.committed_in.push(epoch);
        let Some(proposed) = self.checks.proposed.get(&zxid) else {
            return;
        };
        let session = proposed.header.session;
        if self.checks.reconfigs.contains_key(&zxid) {
            self.stats.count(Count::Reconfigs);
        }
        match self.checks.history.absorb(&proposed.header, &proposed.decoded) {
            Committed::Request(xid) if self.checks.hasty.contains(&xid) => {}
            Committed::Request(xid) => {
                // A client's requests are done in its order, over all its connections.
                let newest = self.checks.newest_done.insert(session, xid).unwrap_or(0);
                assert!(newest < xid, "request {xid} of {session} is done after {newest}");
            }
            Committed::Moved(xid) => {
                self.stats.count(Count::Moved);
                // Also to one that its client has left: what it asked for may be late.
                let link = self.checks.history.sent[&xid].link;
                let mut others = self
                    .connections
                    .iter()
                    .enumerate()
                    .filter(|(other, _)| *other != link);
                assert!(
                    others.any(|(_, other)| other.asks_for(session)),
                    "request {xid} of {session} was refused, but the session did not move"
                );
            }
            Committed::SessionExpired => self.stats.count(Count::Expired),
            Committed::SessionBegun => _ = self.checks.begun.insert(session, zxid),
            Committed::Late(_) | Committed::Reaped => {}
        }
    }

    fn begin_serving(&mut self, at: Place, last: Zxid, epoch: u32, standing: Standing) {
        self.say(|| format!("{} serves in epoch {epoch}, {standing:?}, from {last}", at + 1));
        if standing != Standing::Leading {
            assert!(
                self.checks.leaders.contains_key(&epoch),
                "Z7: {} serves in epoch {epoch}, which nobody leads",
                at + 1
            );
            return;
        }
        self.stats.count(Count::Leaders);
        let boot = self.servers[at].boot;
        let before = self.checks.leaders.insert(epoch, (at, boot));
        assert_eq!(before, None, "Z7: epoch {epoch} had a leader before {}", at + 1);
        // A quorum may have acknowledged this epoch before it went on to later ones: what those have committed is not
        // this leader's business, and it will not commit anything itself.
        let earlier = self
            .checks
            .committed_in
            .iter()
            .filter(|committed_in| **committed_in < epoch)
            .count();
        let has = self.checks.committed_through(last);
        assert!(
            has >= earlier,
            "Z6, Z8: {} leads epoch {epoch} with {has} of {earlier} committed txns",
            at + 1
        );
        for quorum in self.checks.deciders(Zxid::new(epoch, 1)) {
            self.check_quorum(at, "is established", &quorum, |world, place| {
                let facts = world.servers[place].facts;
                facts.current_epoch >= epoch && world.checks.contains(facts.last, last)
            });
        }
        // Nobody knows who was heard of before: all have their full timeout again.
        let now_ms = self.clock(at).monotonic_ms;
        let running = self.running(at);
        let sessions: Vec<(SessionId, i32)> = running
            .shared
            .replica
            .read()
            .sessions
            .iter()
            .map(|(session, timeout_ms)| (*session, *timeout_ms))
            .collect();
        for (session, timeout_ms) in sessions {
            running
                .told_ms
                .insert(session, (now_ms, u64::try_from(timeout_ms).unwrap_or(0)));
        }
    }

    /// Z8: a quorum of the disks, those of servers that are down included, has what was decided.
    pub(crate) fn check_quorum(
        &self,
        at: Place,
        what: &str,
        quorum: &QuorumVerifier,
        has: impl Fn(&World, Place) -> bool,
    ) {
        let holders: BTreeSet<ServerId> = (0..self.servers.len())
            .filter(|place| has(self, *place))
            .map(|place| self.servers[place].id)
            .collect();
        assert!(
            quorum.contains_quorum(&holders),
            "Z8: {} {what}, but only {holders:?} have it, not a quorum of {:?}",
            at + 1,
            quorum.voters()
        );
    }

    /// T1: the tree of a server that serves is the one that its txns make, in every detail.
    pub(crate) fn check_tree(&self, at: Place) {
        let Some(running) = &self.servers[at].running else {
            return;
        };
        if running.serves.is_none() {
            return;
        }
        let replica = running.shared.replica.read();
        let state = self.checks.history.state(replica.last_processed);
        state.assert_is(&replica.tree);
        drop(replica);
        self.check_config_znode(at);
        let replica = running.shared.replica.read();
        assert_eq!(
            replica.sessions.keys().collect::<Vec<_>>(),
            state.sessions.keys().collect::<Vec<_>>(),
            "the sessions at {}",
            at + 1
        );
    }

    /// The tree that a start has found is the one that was predicted for its last txn.
    pub(crate) fn check_recovered_tree(&self, at: Place) {
        let Some(running) = &self.servers[at].running else {
            return;
        };
        let replica = running.shared.replica.read();
        if let Some(known) = self.checks.proposed.get(&replica.last_processed)
            && let Some(expected) = known.digest
        {
            assert_eq!(
                replica.tree.digest().tree_digest,
                expected,
                "T1, D1: {} starts at {} with another tree",
                at + 1,
                replica.last_processed
            );
        }
    }

    // ---- what clients see ------------------------------------------------------------------------------------

    /// A server answers from what is committed, and from nothing else.
    pub(crate) fn check_shown(&self, connection: usize, zxid: Zxid) {
        let known = zxid.counter() == 0 || self.checks.committed.binary_search(&zxid).is_ok();
        assert!(known, "S9: {connection} was shown {zxid}, which is not committed");
    }

    /// A session is refused only when its end was decided, or when the server, or the leader it asks, is one of an
    /// earlier epoch that cannot know it.
    pub(crate) fn check_refused(&self, at: Place, session: SessionId) {
        let Some(created) = self.checks.begun.get(&session) else {
            panic!("{session} was refused, and nobody has begun it");
        };
        let serves = self.servers[at]
            .running
            .as_ref()
            .and_then(|running| running.serves);
        assert!(
            self.checks.ends_wanted.contains(&session) || serves.is_none_or(|epoch| epoch < created.epoch()),
            "{session} was refused, and nobody has ended it"
        );
    }

    /// A session that a client was given exists.
    pub(crate) fn check_session_begun(&self, session: SessionId) {
        let is_known = self.checks.begun.contains_key(&session);
        assert!(is_known, "Z9: the session {session} is not committed");
    }

    /// What a sync sent now to this server must at least show: all that the leader it follows has committed. Another
    /// leader may have committed more, because sync asks no quorum.
    pub(crate) fn sync_bound(&self, at: Place) -> Zxid {
        let Some(running) = &self.servers[at].running else {
            return Zxid::ZERO;
        };
        let Some((leader, boot)) = running.serves.and_then(|epoch| self.checks.leaders.get(&epoch)) else {
            return Zxid::ZERO;
        };
        match &self.servers[*leader].running {
            Some(leading) if self.servers[*leader].boot == *boot && leading.serves == running.serves => {
                leading.checked
            }
            _ => Zxid::ZERO,
        }
    }
}
