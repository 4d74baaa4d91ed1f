//! How the list of servers changes, and what must hold of it: it counts nowhere before a quorum of it and one of the
//! list before know it durably; who logs the txn that makes it knows it before; and what is committed is on a quorum of
//! whoever decided.
//!
//! The files in which a server keeps its list are the fields of its [`oxkeeper_zab::Settings`], each whole or not there,
//! written in their turn among the other writes.

use std::fmt::Write as _;
use std::sync::Arc;

use oxkeeper_core::Standing;
use oxkeeper_core::membership::{Member, Membership, PeerAddress, configuration_text};
use oxkeeper_types::{CONFIG_PATH, ReconfigRequest, ServerId, Zxid};
use oxkeeper_zab::{Configuration, QuorumVerifier};

use crate::checks::Checks;
use crate::server::{End, Server};
use crate::stats::Count;
use crate::storm::pick;
use crate::world::{Place, World};

/// The line of a server. The simulated network knows servers by their ids, whatever their addresses are.
pub(crate) fn member(id: ServerId, is_observer: bool) -> Member {
    Member {
        is_observer,
        addresses: vec![PeerAddress {
            host: format!("10.0.0.{id}"),
            quorum_port: 2888,
            election_port: 3888,
        }],
        client: Some(("0.0.0.0".to_owned(), 2181)),
    }
}

/// The list with which a server is started that has none with itself: the members, and itself, which does not vote if it
/// is none.
pub(crate) fn with_stranger(list: &str, stranger: ServerId) -> Arc<Configuration> {
    let mut membership = Membership::parse(list).expect("our own list");
    let own = membership.servers.entry(stranger);
    own.or_insert_with(|| member(stranger, true));
    Arc::new(
        membership
            .configuration()
            .expect("it decides as without that server"),
    )
}

impl Checks {
    /// A configuration counts. False when that is known.
    fn note_configuration(&mut self, configuration: &Arc<Configuration>) -> bool {
        let version = Zxid(configuration.version);
        if let Some(known) = self.configurations.get(&version) {
            assert_eq!(known, configuration, "two configurations of one version");
            return false;
        }
        self.configurations.insert(version, configuration.clone());
        true
    }

    /// The newest configuration that counts.
    pub(crate) fn newest_configuration(&self) -> &Arc<Configuration> {
        let newest = self.configurations.values().next_back();
        newest.expect("there is a first one")
    }

    /// Who decides about a txn: the configuration before it, and the one that it makes.
    pub(crate) fn deciders(&self, zxid: Zxid) -> Vec<QuorumVerifier> {
        let before = self.configurations.range(..zxid).next_back();
        let before = before.map(|(_, configuration)| configuration);
        let made = self.reconfigs.get(&zxid);
        let both = before.into_iter().chain(made);
        both.map(|configuration| configuration.quorum.clone()).collect()
    }

    /// Of every configuration that may count anywhere.
    pub(crate) fn all_quorums(&self) -> impl Iterator<Item = &QuorumVerifier> {
        let all = self.configurations.values().chain(self.reconfigs.values());
        all.map(|configuration| &configuration.quorum)
    }

    /// The newest change of the configuration in a history.
    fn newest_reconfig(&self, mut last: Zxid) -> Option<Zxid> {
        while last > Zxid::ZERO && !self.is_committed(last) {
            if self.reconfigs.contains_key(&last) {
                return Some(last);
            }
            last = self.before(last);
        }
        let earlier = self.reconfigs.range(..=last).rev().map(|(zxid, _)| *zxid);
        earlier.into_iter().find(|zxid| self.is_committed(*zxid))
    }
}

impl World {
    /// What a server knows to be committed.
    pub(crate) fn configuration(&self, at: Place) -> Option<&Arc<Configuration>> {
        let running = self.servers[at].running.as_ref()?;
        Some(running.core.consensus().expect("it is a member").configuration())
    }

    /// The newest configuration in a server's files.
    fn noted(&self, at: Place) -> i64 {
        let settings = &self.servers[at].settings;
        let next = settings.next_configuration.as_ref();
        (settings.configuration.version).max(next.map_or(0, |next| next.version))
    }

    /// Looks whether a server lives by another configuration than before.
    pub(crate) fn check_configuration(&mut self, at: Place) {
        let Some(configuration) = self.configuration(at).cloned() else {
            return;
        };
        let version = configuration.version;
        let running = self.running(at);
        // An operator's own list has no version.
        if std::mem::replace(&mut running.configuration, version) == version || version == 0 {
            return;
        }
        if !self.checks.note_configuration(&configuration) {
            return;
        }
        let mut deciders = self.checks.deciders(Zxid(version));
        deciders.push(configuration.quorum.clone());
        for quorum in &deciders {
            self.check_quorum(at, "reconfigures", quorum, |world, place| {
                world.noted(place) >= version
            });
        }
    }

    /// Who logs a change of the configuration must know it, and not forget it.
    pub(crate) fn check_noted(&self, at: Place, zxid: Zxid) {
        if self.checks.reconfigs.contains_key(&zxid) {
            assert!(
                self.noted(at) >= zxid.0,
                "Z9: {} logs the configuration {zxid}, and its files know {:x}",
                at + 1,
                self.noted(at)
            );
        }
    }

    /// Z9: the configuration belongs to the history that an epoch vouches for.
    pub(crate) fn check_noted_history(&self, at: Place) {
        if let Some(newest) = self.checks.newest_reconfig(self.servers[at].facts.last) {
            assert!(
                self.noted(at) >= newest.0,
                "Z9: {} has the configuration {newest} in its history, and its files know {:x}",
                at + 1,
                self.noted(at)
            );
        }
    }

    /// What clients can read of the configuration is what counts.
    pub(crate) fn check_config_znode(&self, at: Place) {
        let Some(configuration) = self.configuration(at).filter(|known| !known.list.is_empty()) else {
            return;
        };
        let Some(running) = &self.servers[at].running else {
            return;
        };
        let replica = running.shared.replica.read();
        let znode = replica.tree.znode(CONFIG_PATH).expect("every tree has it");
        let text = configuration_text(configuration);
        assert_eq!(
            znode.data(),
            Some(text.as_bytes()),
            "the configuration at {}",
            at + 1
        );
        assert_eq!(znode.stat().mzxid, Zxid(configuration.version));
    }

    /// A server that was removed does not start with the list it has then: its operator writes it another. What it knew
    /// stays with it as the next one: it may be the only one that knows it to be committed, and the txn is in its log.
    pub(crate) fn rewrite_list(&mut self, at: Place) {
        let newest = self.checks.newest_configuration().list.clone();
        let Server { id, settings, .. } = &mut self.servers[at];
        if !settings.configuration.quorum.is_member(*id) {
            let known = std::mem::replace(&mut settings.configuration, with_stranger(&newest, *id));
            settings.next_configuration.get_or_insert(known);
        }
    }

    /// Who keeps all others from a leader: a change of the list was under way when the leader died, and the freshest
    /// history, with that change, is of a server that has a vote only in the next list. Those who do not know that list
    /// cannot vote for it; and whoever they elect needs it, if it knows the list, and is refused.
    pub(crate) fn stuck_in_reconfig(&self) -> Option<Place> {
        let freshness = |at: &Place| {
            (
                self.servers[*at].facts.current_epoch,
                self.servers[*at].facts.last,
            )
        };
        let running = (0..self.servers.len()).filter(|at| self.servers[*at].running.is_some());
        let freshest = running.clone().max_by_key(freshness)?;
        let server = &self.servers[freshest];
        let (present, next) = (
            &server.settings.configuration,
            server.settings.next_configuration.as_ref()?,
        );
        let may_be_elected = |at: &Place| present.quorum.weight(self.servers[*at].id) > 0;
        let is_stuck = self.checks.contains(server.facts.last, Zxid(next.version))
            && next.quorum.weight(server.id) > 0
            && running
                .filter(may_be_elected)
                .all(|at| freshness(&at) < freshness(&freshest));
        is_stuck.then_some(freshest)
    }

    /// The operator's remedy (docs/migration.md): the server with the freshest history takes the next list for the
    /// present one, and tells all others.
    pub(crate) fn adopt_next_list(&mut self, at: Place) {
        self.stats.count(Count::Remedies);
        self.crash(at, End::Kill);
        let settings = &mut self.servers[at].settings;
        if let Some(next) = settings.next_configuration.take() {
            self.checks.note_configuration(&next);
            settings.configuration = next;
        }
        self.boot(at);
    }

    /// What an operator wants next, sensible or not.
    pub(crate) fn some_reconfig(&mut self) -> ReconfigRequest {
        let newest = self.checks.newest_configuration();
        let present = Membership::parse(&newest.list).expect("our own list");
        let version = match self.rng.u8(..20) {
            0 => newest.version,
            1 => 5,
            _ => -1,
        };
        let count = self.servers.len();
        let leader = (0..count).find(|at| self.standing(*at) == Some(Standing::Leading));
        let id_of = |at: Place| self.servers[at].id;
        let all: Vec<ServerId> = (0..count).map(id_of).collect();
        let leaving = match leader {
            Some(leader) if self.rng.u8(..4) == 0 => id_of(leader),
            _ => all[self.rng.usize(..count)],
        };
        let rng = &mut self.rng;
        let mut joining = pick(rng, &all);
        let mut request = ReconfigRequest {
            joining: None,
            leaving: None,
            new_members: None,
            version,
        };
        match rng.u8(..10) {
            0..2 => request.leaving = Some(leaving.to_string()),
            2..5 => {
                // Another role, or a new member.
                let is_voter = present
                    .servers
                    .get(&joining)
                    .is_some_and(|known| !known.is_observer);
                let is_observer = if rng.u8(..4) == 0 { rng.bool() } else { is_voter };
                request.joining = Some(line(joining, &member(joining, is_observer)));
            }
            5 => {
                // It moves.
                joining = leaving;
                let mut moved = present.servers.get(&joining).cloned();
                let moved = moved.get_or_insert_with(|| member(joining, false));
                moved.addresses[0].quorum_port = pick(rng, &[2888, 2889]);
                request.joining = Some(line(joining, moved));
            }
            6..8 => {
                request.leaving = Some(leaving.to_string());
                request.joining = Some(line(joining, &member(joining, false)));
            }
            _ => request.new_members = Some(whole_list(rng, &all)),
        }
        request
    }
}

fn line(id: ServerId, member: &Member) -> String {
    let of_one = Membership {
        servers: [(id, member.clone())].into(),
        ..Membership::default()
    };
    of_one.list().trim_end().to_owned()
}

fn whole_list(rng: &mut fastrand::Rng, all: &[ServerId]) -> String {
    let mut list = String::new();
    let mut voters = Vec::new();
    for id in all {
        let is_observer = match rng.u8(..8) {
            0 => true,
            1..3 => continue,
            _ => false,
        };
        if !is_observer {
            voters.push(id.to_string());
        }
        list.push_str(&line(*id, &member(*id, is_observer)));
        list.push(',');
    }
    if rng.u8(..6) == 0 {
        let _ = write!(list, "group.1={}", voters.join(":"));
        for voter in &voters {
            let _ = write!(list, ",weight.{voter}={}", rng.u8(..3));
        }
    }
    list
}
