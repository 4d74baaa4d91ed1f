//! What must hold in every run (Z1 to Z9 of the design). A violation panics with what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use oxkeeper_types::{ServerId, Zxid};
use oxkeeper_zab::{Configuration, Entry, Message, Notification, PeerState, QuorumVerifier};

use super::{Place, World, find_configuration};

#[derive(Debug, Default)]
pub(super) struct Checks {
    /// The one history: whatever any server showed, in order.
    pub(super) committed: Vec<Entry>,
    /// In which epoch each of these was first shown.
    committed_in: Vec<u32>,
    /// Who led each epoch, and in which boot.
    leaders: BTreeMap<u32, (Place, u64)>,
    proposed: BTreeMap<Zxid, Arc<[u8]>>,
    /// The configurations that counted anywhere, by their versions.
    configurations: BTreeMap<Zxid, QuorumVerifier>,
}

impl Checks {
    /// A configuration counts from here on.
    pub(super) fn note_configuration(&mut self, configuration: &Configuration) {
        let (version, quorum) = (Zxid(configuration.version), configuration.quorum.clone());
        self.configurations.insert(version, quorum);
    }
}

impl World {
    /// Z9: an acknowledgement exists only after what it acknowledges is durable.
    pub(super) fn check_sent(&mut self, at: Place, message: &Message) {
        let disk = &self.servers[at].disk;
        match message {
            Message::Ack(zxid) if zxid.counter() != 0 => {
                assert!(
                    disk.contains(*zxid),
                    "Z9: {} acknowledges {zxid}, which is not durable",
                    at + 1
                );
            }
            Message::Ack(zxid) => {
                assert_eq!(
                    disk.current_epoch,
                    zxid.epoch(),
                    "Z9: {} acknowledges NEWLEADER",
                    at + 1
                );
                self.check_current_epoch(at);
            }
            Message::AckEpoch {
                last_zxid,
                current_epoch: Some(current_epoch),
            } => {
                assert_eq!(
                    (disk.last(), disk.current_epoch),
                    (*last_zxid, *current_epoch),
                    "Z9: {}",
                    at + 1
                );
                assert!(
                    !disk.has_queued(),
                    "Z9: {} promises before the promise is durable",
                    at + 1
                );
            }
            Message::LeaderInfo { epoch } => {
                assert!(
                    disk.accepted_epoch >= *epoch,
                    "Z9: {} proposes epoch {epoch} too early",
                    at + 1
                );
            }
            _ => {}
        }
    }

    /// Z9: a current epoch on disk vouches for a history that is on disk: all that was committed before it.
    pub(super) fn check_current_epoch(&self, at: Place) {
        let disk = &self.servers[at].disk;
        let epoch = disk.current_epoch;
        // What a later epoch has committed meanwhile is unknown to this one, which will not be established.
        let due = self.checks.committed.iter().zip(&self.checks.committed_in);
        let due =
            due.filter(|(entry, committed_in)| entry.zxid < Zxid::new(epoch, 0) && **committed_in <= epoch);
        let missing = due
            .map(|(entry, _)| entry.zxid)
            .find(|zxid| !disk.contains(*zxid));
        assert_eq!(
            missing,
            None,
            "Z9: {} has epoch {epoch} on disk and lacks this",
            at + 1
        );
    }

    /// A server votes for itself with what is durable, and with nothing else.
    pub(super) fn check_vote(&mut self, at: Place, to: ServerId, notification: &Notification) {
        let server = &self.servers[at];
        let vote = notification.vote;
        // Those who join later must find votes that agree, of whatever election they come from.
        if let Some(running) = &server.running
            && let Some(epoch) = running.serving
            && notification.state != PeerState::Looking
        {
            assert_eq!(
                vote.peer_epoch,
                i64::from(epoch),
                "S12: {} serves in this epoch and tells another",
                at + 1
            );
        }
        if notification.state == PeerState::Looking
            && vote.leader == server.id
            && server
                .running
                .as_ref()
                .is_some_and(|running| running.zab.configuration().quorum.is_voter(to))
        {
            let durable = (server.disk.last(), i64::from(server.disk.current_epoch));
            assert_eq!(
                (vote.zxid, vote.peer_epoch),
                durable,
                "Z10: the vote of {}",
                at + 1
            );
            assert!(!server.disk.has_queued(), "Z10: {} votes while it writes", at + 1);
        }
    }

    pub(super) fn check_proposed(&mut self, at: Place, zxid: Zxid, txn: &Arc<[u8]>) {
        let before = self.checks.proposed.insert(zxid, txn.clone());
        assert_eq!(before, None, "Z7: {zxid} is proposed twice");
        let counter_max = self.servers[at].settings.counter_max;
        assert!(
            zxid.counter() <= counter_max,
            "{zxid} is proposed, the counter ends at {counter_max}"
        );
        assert_eq!(
            self.running(at).leads,
            Some(zxid.epoch()),
            "Z6: {} proposes {zxid}",
            at + 1
        );
    }

    pub(super) fn deliver(&mut self, at: Place, entry: Entry) {
        assert_eq!(
            self.checks.proposed.get(&entry.zxid),
            Some(&entry.txn),
            "Z1: {} delivers {}",
            at + 1,
            entry.zxid
        );
        let (zxid, changes) = (entry.zxid, find_configuration(&entry));
        let running = self.running(at);
        let last = running.tree.last().map_or(Zxid::ZERO, |entry| entry.zxid);
        assert!(zxid > last, "Z4, Z5: {} delivers {zxid} after {last}", at + 1);
        let installed = running.installed;
        assert!(
            !running.ahead.remove(&zxid) || zxid <= installed,
            "T1: {} applies {zxid} again, its snapshot's history ends at {installed}",
            at + 1
        );
        running.tree.push(entry);
        let commits = running.leads == Some(zxid.epoch());
        if running.serving.is_some() {
            self.compare(at);
        }
        if commits {
            self.stats.commits += 1;
            let mut quorums = vec![self.quorum_as_of(zxid)];
            quorums.extend(changes.map(|changes| changes.quorum));
            for quorum in &quorums {
                self.check_quorum(at, "commits", quorum, |world, place| {
                    world.servers[place].disk.contains(zxid)
                });
            }
        }
    }

    /// Z8: a quorum of the disks, those of servers that are down included, has what was decided.
    /// A configuration counts from here on, for the first time anywhere: a quorum of it and of the one before must
    /// know it, also after a crash.
    pub(super) fn check_configuration(&mut self, at: Place, committed: &Configuration) {
        let version = Zxid(committed.version);
        if version == Zxid::ZERO || self.checks.configurations.contains_key(&version) {
            return;
        }
        let before = self.quorum_as_of(version);
        for quorum in [&before, &committed.quorum] {
            self.check_quorum(at, "reconfigures", quorum, |world, place| {
                let disk = &world.servers[place].disk;
                let known = disk.configuration.iter().chain(&disk.next_configuration);
                known.map(|known| known.version).max() >= Some(version.0)
            });
        }
        self.checks.note_configuration(committed);
    }

    /// Who decides about what comes after this.
    fn quorum_as_of(&self, zxid: Zxid) -> QuorumVerifier {
        let newest = self.checks.configurations.range(..=zxid).next_back();
        newest.map_or(&self.first, |(_, newest)| newest).clone()
    }

    fn check_quorum(
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

    /// Z2 to Z5: what a server shows is the one history, up to some point.
    fn compare(&mut self, at: Place) {
        let running = self.servers[at].running.as_mut().expect("it shows something");
        let epoch = running.serving.expect("only who serves shows anything");
        let committed = &mut self.checks.committed;
        for place in running.compared..running.tree.len() {
            let entry = &running.tree[place];
            match committed.get(place) {
                Some(same) => assert_eq!(
                    (same.zxid, &same.txn),
                    (entry.zxid, &entry.txn),
                    "Z3: {} differs at place {place}",
                    at + 1
                ),
                None => {
                    committed.push(entry.clone());
                    self.checks.committed_in.push(epoch);
                }
            }
        }
        running.compared = running.tree.len();
    }

    pub(super) fn serve(&mut self, at: Place, epoch: u32, leader: ServerId) {
        self.say(|| format!("{} serves in epoch {epoch} of {leader}", at + 1));
        let leader = self.place_of(leader);
        // A quorum may have acknowledged this epoch before it went on to later ones: what those have committed is not
        // this leader's business, and it will not commit anything itself.
        let earlier = self
            .checks
            .committed_in
            .iter()
            .filter(|committed_in| **committed_in < epoch)
            .count();
        let ahead = &self.running(at).ahead;
        assert!(
            ahead.is_empty(),
            "Z3: {} shows effects of {ahead:?}, which it has not applied",
            at + 1
        );
        self.running(at).serving = Some(epoch);
        self.compare(at);
        if leader != at {
            let known = self.checks.leaders.get(&epoch).map(|(place, _)| *place);
            assert_eq!(known, Some(leader), "Z7: {} serves in epoch {epoch}", at + 1);
            return;
        }
        let boot = self.servers[at].boot;
        let before = self.checks.leaders.insert(epoch, (at, boot));
        assert_eq!(before, None, "Z7: epoch {epoch} had a leader before {}", at + 1);
        let running = self.running(at);
        running.leads = Some(epoch);
        let (length, last) = (running.tree.len(), running.tree.last().map(|entry| entry.zxid));
        assert!(
            length >= earlier,
            "Z6, Z8: {} leads epoch {epoch} with {length} of {earlier} committed txns",
            at + 1
        );
        let quorum = self.quorum_as_of(Zxid::new(epoch, u32::MAX));
        self.check_quorum(at, "is established", &quorum, |world, place| {
            let disk = &world.servers[place].disk;
            disk.current_epoch >= epoch && last.is_none_or(|last| disk.contains(last))
        });
    }
}
