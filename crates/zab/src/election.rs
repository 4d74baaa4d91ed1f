//! Fast leader election: every voter proposes itself, adopts any better vote it hears of, and is done when a quorum
//! proposes the same (quorum spec, section 3). Whom it finds is a matter of progress alone: whether that server may
//! lead is decided by discovery.
//!
//! ```text
//!            start                     quorum agrees             settle time over, or all voters agree
//!  (idle) ─────────▶ proposing itself ───────────────▶ settling ─────────────────────────────────────▶ elected
//!                      │     ▲  better vote: adopt        │                                               ▲
//!                      │     └────────────────────────────┘                                               │
//!                      └── a quorum follows a leader who says that it leads ──────────────────────────────┘
//! ```
//!
//! Where we differ from Java, within the protocol: the settle time ends at once when all voters agree; messages
//! that come while settling are not thrown away; an observer waits for those who follow a leader and does not count
//! the stale votes of those who look for one; a server that hears of a vote for itself with more than it has begins a
//! new round; a vote is sent again at least every `notification_interval_max_ms`.

use std::collections::{BTreeMap, BTreeSet};

use oxkeeper_types::{ServerId, Zxid};

use crate::configuration::Configurations;
use crate::journal::NO_HISTORY;
use crate::settings::Settings;
use crate::timers::{Timer, Timers};
use crate::vote::{NOTIFICATION_VERSION, Notification, PeerState, Vote};

/// No ensemble lives through more rounds; who tells of one is not believed, so that the count cannot run over.
const ROUND_MAX: i64 = i64::MAX / 2;

/// Servers that do not vote of which it is remembered that they were answered; then all are forgotten.
const STRANGERS_ANSWERED_MAX: usize = 64;

/// How the election ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elected {
    /// Who is to lead.
    pub(crate) leader: ServerId,
}

/// Notifications to send.
pub(crate) type Outbox = Vec<(ServerId, Notification)>;

/// The elector of one server. It answers those who look for a leader in every role, and votes while looking.
#[derive(Debug)]
pub(crate) struct Election {
    me: ServerId,
    configurations: Configurations,
    settle_ms: u64,
    interval_min_ms: u64,
    interval_max_ms: u64,
    /// The round. Counts the elections of this process, and catches up with the rounds of others.
    logical_clock: i64,
    /// How the last election ended; what others are told when they look for a leader.
    outcome: Vote,
    /// The round in which it ended.
    outcome_round: i64,
    /// Who voted so.
    electors: BTreeSet<ServerId>,
    round: Option<Round>,
}

/// The election while it goes on.
#[derive(Debug)]
struct Round {
    /// What this server proposes before it hears of anything better.
    own: Vote,
    proposal: Vote,
    /// The votes of this round, of those who look and of those who have found.
    received: BTreeMap<ServerId, Notification>,
    /// The votes of those who follow or lead, of any round.
    settled: BTreeMap<ServerId, Notification>,
    /// The round in which each server that does not vote was answered last.
    answered: BTreeMap<ServerId, i64>,
    interval_ms: u64,
}

impl Election {
    pub(crate) fn new(settings: &Settings, configurations: Configurations) -> Election {
        Election {
            me: settings.me,
            configurations,
            settle_ms: settings.election_settle_ms,
            interval_min_ms: settings.notification_interval_min_ms,
            interval_max_ms: settings.notification_interval_max_ms,
            logical_clock: 0,
            outcome: Vote::NONE,
            outcome_round: 0,
            electors: BTreeSet::new(),
            round: None,
        }
    }

    /// Begins a round. `zxid` is the end of the own history, `epoch` the current epoch, which vouches for it.
    pub(crate) fn start(
        &mut self,
        zxid: Zxid,
        epoch: u32,
        now_ms: u64,
        timers: &mut Timers,
        out: &mut Outbox,
    ) -> Option<Elected> {
        self.logical_clock += 1;
        // Who may not be elected votes for another: it may be needed for a quorum of the next configuration.
        let own = if self.configurations.committed().quorum.weight(self.me) > 0 {
            Vote {
                leader: self.me,
                zxid,
                peer_epoch: i64::from(epoch),
            }
        } else {
            Vote::NONE
        };
        self.round = Some(Round {
            own,
            proposal: own,
            received: BTreeMap::new(),
            settled: BTreeMap::new(),
            answered: BTreeMap::new(),
            interval_ms: self.interval_min_ms,
        });
        timers.stop(Timer::ElectionSettle);
        timers.set(Timer::NotificationResend, now_ms + self.interval_min_ms);
        self.broadcast(out);
        let elected = self.count_looking(now_ms, timers)?;
        Some(self.finish(elected, timers))
    }

    /// Elects by these from here on. Not in the middle of a round.
    pub(crate) fn set_configurations(&mut self, configurations: &Configurations) {
        if self.configurations.versions() != configurations.versions() {
            self.configurations = configurations.clone();
        }
    }

    /// There is no election: it was said who is to lead. `zxid` and `epoch` are those of this server.
    pub(crate) fn designate(&mut self, leader: ServerId, zxid: Zxid, epoch: u32) {
        self.electors.clear();
        self.outcome = Vote {
            leader,
            zxid,
            peer_epoch: i64::from(epoch),
        };
    }

    /// Replaces the epoch of the outcome by that of the leader, once this server has synchronised with it: those
    /// who join later must find equal votes.
    pub(crate) fn adopt_epoch(&mut self, epoch: u32) {
        self.outcome.peer_epoch = i64::from(epoch);
    }

    /// Whether this server voted for the outcome of the last election.
    pub(crate) fn is_elector(&self, server: ServerId) -> bool {
        self.electors.contains(&server)
    }

    /// A connection to a peer came up: it hears the own vote at once.
    pub(crate) fn handle_connected(&mut self, peer: ServerId, out: &mut Outbox) {
        if self.round.is_some() && self.configurations.is_voter(peer) {
            out.push((peer, self.proposal_notification()));
        }
    }

    /// A notification came. `state` is what this server is doing.
    pub(crate) fn handle_notification(
        &mut self,
        from: ServerId,
        notification: Notification,
        state: PeerState,
        now_ms: u64,
        timers: &mut Timers,
        out: &mut Outbox,
    ) -> Option<Elected> {
        if from == self.me || notification.election_epoch > ROUND_MAX {
            return None;
        }
        if !self.configurations.is_voter(from) {
            // Only who looks is answered: two servers that do not vote would answer each other for ever. So would two
            // that look and of which one takes the other for a voter, because the round of the answer may be old.
            if notification.state == PeerState::Looking && self.may_answer_stranger(from, &notification) {
                // While it looks, with its vote of this round: with an older one, of this round's number, the stranger
                // would keep alive a leader that is gone, because others may take the stranger for a voter.
                out.push((
                    from,
                    match self.round {
                        Some(_) => self.proposal_notification(),
                        None => self.outcome_notification(state, self.logical_clock),
                    },
                ));
            }
            return None;
        }
        if self.round.is_none() {
            if notification.state == PeerState::Looking {
                out.push((from, self.outcome_notification(state, self.outcome_round)));
            }
            return None;
        }
        match notification.state {
            PeerState::Looking => self.handle_looking(from, notification, now_ms, timers, out),
            PeerState::Following | PeerState::Leading => self.handle_settled(from, notification),
            PeerState::Observing => None,
        }
        .map(|elected| self.finish(elected, timers))
    }

    /// Whether a server that does not vote is answered: while this one looks too, once in each of its rounds.
    fn may_answer_stranger(&mut self, from: ServerId, notification: &Notification) -> bool {
        let Some(round) = &mut self.round else {
            return true;
        };
        if round.answered.len() >= STRANGERS_ANSWERED_MAX {
            round.answered.clear();
        }
        let before = round.answered.insert(from, notification.election_epoch);
        before != Some(notification.election_epoch)
    }

    fn handle_looking(
        &mut self,
        from: ServerId,
        notification: Notification,
        now_ms: u64,
        timers: &mut Timers,
        out: &mut Outbox,
    ) -> Option<Elected> {
        if notification.election_epoch < self.logical_clock {
            out.push((from, self.proposal_notification()));
            return None;
        }
        if notification.vote == Vote::NONE && notification.election_epoch > self.logical_clock {
            // One who votes in the next configuration and does not know of it cannot be elected, but its vote for
            // another is needed. It is to be had in its round alone.
            self.logical_clock = notification.election_epoch;
            let round = self.round.as_mut()?;
            round.received.clear();
            round.proposal = round.own;
            self.broadcast(out);
            return self.count_looking(now_ms, timers);
        }
        // A vote for who does not vote (that of an observer) is not counted, nor is that of who has no data yet.
        let round = self.round.as_mut()?;
        if !self.configurations.is_voter(notification.vote.leader)
            || round.own.zxid == NO_HISTORY
            || notification.vote.zxid == NO_HISTORY
        {
            return None;
        }
        if notification.vote.leader == self.me && round.own == Vote::NONE {
            // Somebody has an older configuration, in which this server could be elected; it hears of the newer one.
            return None;
        }
        if notification.vote.leader == self.me && self.configurations.prefers(&notification.vote, &round.own)
        {
            // Somebody remembers a vote of this server from before it was truncated. To be elected for what it has no
            // more would only mean to be refused by its followers; in a new round nobody remembers.
            self.logical_clock = notification.election_epoch + 1;
            round.received.clear();
            round.proposal = round.own;
            self.broadcast(out);
            return self.count_looking(now_ms, timers);
        }
        if notification.election_epoch > self.logical_clock {
            self.logical_clock = notification.election_epoch;
            round.received.clear();
            round.proposal = round.own;
            if self.configurations.prefers(&notification.vote, &round.own) {
                round.proposal = notification.vote;
            }
            self.broadcast(out);
        } else if self.configurations.prefers(&notification.vote, &round.proposal) {
            round.proposal = notification.vote;
            self.broadcast(out);
        } else if notification.vote != round.proposal && !round.received.contains_key(&from) {
            // The sender begins this round, and may still have followed when it heard ours: then it has not
            // counted it, and would not hear it before it is sent again.
            out.push((from, self.proposal_notification()));
        }
        self.round.as_mut()?.received.insert(from, notification);
        self.count_looking(now_ms, timers)
    }

    /// Whether a quorum proposes what this server proposes, and nothing better can be expected.
    fn count_looking(&mut self, now_ms: u64, timers: &mut Timers) -> Option<Elected> {
        if !self.configurations.is_voter(self.me) {
            return None;
        }
        let mine = self.proposal_notification();
        let round = self.round.as_mut()?;
        if round.own.zxid == NO_HISTORY {
            return None;
        }
        round.received.insert(self.me, mine);
        let agreeing = agreeing(&round.received, &mine);
        let leader = round.proposal.leader;
        if leader == Vote::NONE.leader || !self.configurations.contains_quorum(&agreeing) {
            timers.stop(Timer::ElectionSettle);
            return None;
        }
        if agreeing.is_superset(&self.configurations.voters()) {
            return Some(Elected { leader });
        }
        if !timers.is_set(Timer::ElectionSettle) {
            timers.set(Timer::ElectionSettle, now_ms + self.settle_ms);
        }
        None
    }

    /// Votes of those who have found a leader: follow it when a quorum does and it says itself that it leads. Of which
    /// configuration is the leader's business; what this server takes for the next one may never have been committed.
    fn handle_settled(&mut self, from: ServerId, notification: Notification) -> Option<Elected> {
        let leader = notification.vote.leader;
        if !self.configurations.is_voter(leader) {
            return None;
        }
        let me = self.me;
        let round = self.round.as_mut()?;
        let vouches = |votes: &BTreeMap<ServerId, Notification>, clock: i64| {
            if leader == me {
                clock == notification.election_epoch
            } else {
                votes
                    .get(&leader)
                    .is_some_and(|vote| vote.state == PeerState::Leading)
            }
        };
        if notification.election_epoch == self.logical_clock {
            round.received.insert(from, notification);
            if self
                .configurations
                .contains_any_quorum(&agreeing(&round.received, &notification))
                && vouches(&round.received, self.logical_clock)
            {
                round.proposal = notification.vote;
                return Some(Elected { leader });
            }
        }
        round.settled.insert(from, notification);
        if self
            .configurations
            .contains_any_quorum(&agreeing(&round.settled, &notification))
            && vouches(&round.settled, self.logical_clock)
        {
            self.logical_clock = notification.election_epoch;
            round.proposal = notification.vote;
            return Some(Elected { leader });
        }
        None
    }

    /// Looks for deadlines that have come.
    pub(crate) fn handle_deadline(
        &mut self,
        now_ms: u64,
        timers: &mut Timers,
        out: &mut Outbox,
    ) -> Option<Elected> {
        let round = self.round.as_mut()?;
        if timers.fires(Timer::ElectionSettle, now_ms) {
            let leader = round.proposal.leader;
            return Some(self.finish(Elected { leader }, timers));
        }
        if timers.fires(Timer::NotificationResend, now_ms) {
            round.interval_ms = (round.interval_ms * 2).min(self.interval_max_ms);
            timers.set(Timer::NotificationResend, now_ms + round.interval_ms);
            self.broadcast(out);
        }
        None
    }

    fn finish(&mut self, elected: Elected, timers: &mut Timers) -> Elected {
        let mine = self.proposal_notification();
        if let Some(round) = self.round.take() {
            self.electors = agreeing(&round.received, &mine);
            self.outcome = round.proposal;
        }
        self.outcome_round = self.logical_clock;
        timers.stop(Timer::ElectionSettle);
        timers.stop(Timer::NotificationResend);
        elected
    }

    /// Tells every other voter; observers are told when they ask.
    fn broadcast(&self, out: &mut Outbox) {
        let notification = self.proposal_notification();
        let voters = self.configurations.voters().into_iter();
        let others = voters.filter(|voter| *voter != self.me);
        out.extend(others.map(|voter| (voter, notification)));
    }

    fn proposal_notification(&self) -> Notification {
        Notification {
            state: PeerState::Looking,
            vote: self.round.as_ref().map_or(self.outcome, |round| round.proposal),
            election_epoch: self.logical_clock,
            version: NOTIFICATION_VERSION,
        }
    }

    fn outcome_notification(&self, state: PeerState, election_epoch: i64) -> Notification {
        Notification {
            state,
            vote: self.outcome,
            election_epoch,
            version: NOTIFICATION_VERSION,
        }
    }
}

fn agreeing(votes: &BTreeMap<ServerId, Notification>, with: &Notification) -> BTreeSet<ServerId> {
    let agreeing = votes.iter().filter(|(_, vote)| vote.agrees_with(with));
    agreeing.map(|(server, _)| *server).collect()
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
