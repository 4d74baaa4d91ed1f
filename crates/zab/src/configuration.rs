//! The configuration of the ensemble: who its members are and which of them may decide. It changes by a txn of its
//! own (quorum spec, section 8).
//!
//! ```text
//!              a txn of it is appended,              the txn is committed,
//!              or NEWLEADER tells of it              or UPTODATE comes
//!  committed ───────────────────────────▶ committed ───────────────────▶ committed
//!                                         and next
//! ```
//!
//! While there is a next one, whatever is decided (an election, a promise, a history, a commit) needs a quorum of
//! both: so nobody can decide by the old one alone what others decide by the new one alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use oxkeeper_types::{ServerId, Zxid};

use crate::quorum::QuorumVerifier;
use crate::vote::Vote;

/// A list of servers, how they decide, and its place among all such lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Which it is: the zxid of the txn that made it. The first is 0 until its first leader gives it the zxid that
    /// its epoch begins with.
    pub version: i64,
    /// The members and how they decide.
    pub quorum: QuorumVerifier,
    /// Where learners reach each member. Only compared: a leader that moves must begin anew.
    pub places: BTreeMap<ServerId, String>,
    /// The whole list in the words of who reads and writes it, without the version.
    pub list: Arc<str>,
}

impl Configuration {
    /// A first configuration of which nothing is known but who decides.
    pub fn new(quorum: QuorumVerifier) -> Configuration {
        Configuration {
            version: 0,
            quorum,
            places: BTreeMap::new(),
            list: "".into(),
        }
    }

    /// Whether both have the same members, who decide alike.
    fn is_same_ensemble(&self, other: &Configuration) -> bool {
        self.quorum == other.quorum && self.list == other.list
    }

    /// Whether the server votes here and there, and is to be found where it was.
    pub(crate) fn keeps_voter(&self, server: ServerId, next: &Configuration) -> bool {
        self.quorum.is_voter(server)
            && next.quorum.is_voter(server)
            && self.places.get(&server) == next.places.get(&server)
    }
}

/// The configuration that counts, and the one that is to follow it, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Configurations {
    committed: Arc<Configuration>,
    /// Always of a greater version than the other.
    next: Option<Arc<Configuration>>,
}

impl Configurations {
    pub(crate) fn new(committed: Arc<Configuration>, next: Option<Arc<Configuration>>) -> Configurations {
        let next = next.filter(|next| next.version > committed.version);
        Configurations { committed, next }
    }

    pub(crate) fn committed(&self) -> &Arc<Configuration> {
        &self.committed
    }

    pub(crate) fn next(&self) -> Option<&Arc<Configuration>> {
        self.next.as_ref()
    }

    /// The newest that is known, committed or not: "last seen" in Java's words.
    pub(crate) fn newest(&self) -> &Arc<Configuration> {
        self.next.as_ref().unwrap_or(&self.committed)
    }

    /// Two with the same versions are the same.
    pub(crate) fn versions(&self) -> (i64, Option<i64>) {
        (
            self.committed.version,
            self.next.as_ref().map(|next| next.version),
        )
    }

    fn both(&self) -> impl Iterator<Item = &QuorumVerifier> {
        [Some(&self.committed), self.next.as_ref()]
            .into_iter()
            .flatten()
            .map(|configuration| &configuration.quorum)
    }

    /// Whether the server votes in one of them.
    pub(crate) fn is_voter(&self, server: ServerId) -> bool {
        self.both().any(|quorum| quorum.is_voter(server))
    }

    /// Whether the server is in one of them.
    pub(crate) fn is_member(&self, server: ServerId) -> bool {
        self.both().any(|quorum| quorum.is_member(server))
    }

    /// Everybody who votes in one of them.
    pub(crate) fn voters(&self) -> BTreeSet<ServerId> {
        let voters = self.both().flat_map(|quorum| quorum.voters());
        voters.copied().collect()
    }

    /// Whether these servers may decide.
    pub(crate) fn contains_quorum(&self, servers: &BTreeSet<ServerId>) -> bool {
        self.may_decide(|server| servers.contains(&server))
    }

    /// Whether these servers may decide by one of them.
    pub(crate) fn contains_any_quorum(&self, servers: &BTreeSet<ServerId>) -> bool {
        self.both().any(|quorum| quorum.contains_quorum(servers))
    }

    /// Whether those for whom `agrees` is true may decide.
    pub(crate) fn may_decide(&self, agrees: impl Fn(ServerId) -> bool) -> bool {
        self.both().all(|quorum| quorum.may_decide(&agrees))
    }

    /// Whether a quorum of the committed one agrees.
    pub(crate) fn may_decide_by_committed(&self, agrees: impl Fn(ServerId) -> bool) -> bool {
        self.committed.quorum.may_decide(agrees)
    }

    /// Whether `new` is to be preferred to `vote`. A voter of the committed configuration has its weight there: those
    /// who do not know the next one would not vote for it otherwise.
    pub(crate) fn prefers(&self, new: &Vote, vote: &Vote) -> bool {
        let votes_in = |of: &&Arc<Configuration>| of.quorum.is_voter(new.leader);
        let judge = [Some(&self.committed), self.next.as_ref()]
            .into_iter()
            .flatten()
            .find(votes_in);
        judge.is_some_and(|judge| new.beats(vote, &judge.quorum))
    }

    /// Notes what is to follow; none follows when it is no newer than the committed one.
    pub(crate) fn set_next(&mut self, next: Option<Arc<Configuration>>) {
        self.next = next.filter(|next| next.version > self.committed.version);
    }

    /// This one is committed. Returns the one before; `None` when it is not newer.
    pub(crate) fn commit(&mut self, configuration: Arc<Configuration>) -> Option<Arc<Configuration>> {
        if configuration.version <= self.committed.version {
            return None;
        }
        let before = std::mem::replace(&mut self.committed, configuration);
        let next = self.next.take();
        self.set_next(next);
        Some(before)
    }

    /// The one that is committed by the commit of this txn.
    pub(crate) fn next_through(&self, zxid: Zxid) -> Option<&Arc<Configuration>> {
        self.next.as_ref().filter(|next| next.version <= zxid.0)
    }
}

/// What a change of the configuration means for a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) before: Arc<Configuration>,
    pub(crate) after: Arc<Configuration>,
}

impl Change {
    /// Whether it is more than another version of the same list.
    pub(crate) fn is_of_members(&self) -> bool {
        !self.before.is_same_ensemble(&self.after)
    }
}
