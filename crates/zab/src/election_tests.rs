use std::sync::Arc;

use super::*;
use crate::configuration::Configuration;
use crate::quorum::QuorumVerifier;

const SETTLE_MS: u64 = 50;

struct Elector {
    election: Election,
    timers: Timers,
    out: Outbox,
}

fn id(server: i64) -> ServerId {
    ServerId(server)
}

fn configurations(quorum: QuorumVerifier) -> Configurations {
    Configurations::new(Arc::new(Configuration::new(quorum)), None)
}

fn elector(me: i64, voters: i64) -> Elector {
    let quorum = QuorumVerifier::majority((1..=voters).map(ServerId), [id(9)]);
    let mut settings = Settings::new(id(me), quorum.clone());
    settings.election_settle_ms = SETTLE_MS;
    Elector {
        election: Election::new(&settings, configurations(quorum)),
        timers: Timers::default(),
        out: Vec::new(),
    }
}

fn vote(peer_epoch: i64, zxid: i64, leader: i64) -> Vote {
    Vote {
        leader: id(leader),
        zxid: Zxid(zxid),
        peer_epoch,
    }
}

fn says(state: PeerState, vote: Vote, election_epoch: i64) -> Notification {
    Notification {
        state,
        vote,
        election_epoch,
        version: NOTIFICATION_VERSION,
    }
}

fn looking(vote: Vote, election_epoch: i64) -> Notification {
    says(PeerState::Looking, vote, election_epoch)
}

impl Elector {
    fn start(&mut self, zxid: i64, epoch: u32, now_ms: u64) -> Option<Elected> {
        self.election
            .start(Zxid(zxid), epoch, now_ms, &mut self.timers, &mut self.out)
    }

    fn hear(&mut self, from: i64, notification: Notification, now_ms: u64) -> Option<ServerId> {
        let state = PeerState::Looking;
        let (timers, out) = (&mut self.timers, &mut self.out);
        let elected = self
            .election
            .handle_notification(id(from), notification, state, now_ms, timers, out);
        elected.map(|elected| elected.leader)
    }

    fn wait_until(&mut self, now_ms: u64) -> Option<ServerId> {
        let elected = self
            .election
            .handle_deadline(now_ms, &mut self.timers, &mut self.out);
        elected.map(|elected| elected.leader)
    }

    fn sent(&mut self) -> Vec<(i64, Notification)> {
        std::mem::take(&mut self.out)
            .into_iter()
            .map(|(to, n)| (to.0, n))
            .collect()
    }
}

#[test]
fn a_server_alone_elects_itself_at_once() {
    assert_eq!(elector(1, 1).start(0, 0, 0), Some(Elected { leader: id(1) }));
}

#[test]
fn a_voter_tells_all_other_voters_and_no_observer() {
    let mut one = elector(1, 3);
    assert_eq!(one.start(7, 2, 0), None);
    let mine = looking(vote(2, 7, 1), 1);
    assert_eq!(one.sent(), [(2, mine), (3, mine)]);
}

#[test]
fn a_better_vote_is_adopted_and_told() {
    let mut one = elector(1, 3);
    one.start(7, 2, 0);
    one.sent();
    let better = looking(vote(2, 8, 2), 1);
    assert_eq!(one.hear(2, better, 1), None);
    assert_eq!(one.sent(), [(2, better), (3, better)]);
    let worse = looking(vote(1, 99, 3), 1);
    assert_eq!(one.hear(3, worse, 2), None);
    assert_eq!(
        one.sent(),
        [(3, better)],
        "the first worse vote of a peer is answered: it may have heard ours when it did not look yet"
    );
    assert_eq!(one.hear(3, worse, 3), None);
    assert_eq!(one.sent(), [], "once is enough");
}

/// It may have been truncated since it voted so.
#[test]
fn a_server_does_not_take_over_what_others_remember_of_itself() {
    let mut three = elector(3, 3);
    three.start(6, 2, 0);
    three.sent();
    assert_eq!(three.hear(1, looking(vote(2, 8, 3), 1), 1), None);
    let again = looking(vote(2, 6, 3), 2);
    assert_eq!(three.sent(), [(1, again), (2, again)]);
    // Of an earlier round it only tells its own.
    assert_eq!(three.hear(2, looking(vote(2, 8, 3), 1), 2), None);
    assert_eq!(three.sent(), [(2, again)]);
    assert_eq!(three.hear(1, looking(vote(2, 6, 3), 2), 3), None);
    assert_eq!(three.hear(2, looking(vote(2, 6, 3), 2), 4), Some(id(3)));
}

#[test]
fn a_quorum_waits_for_a_better_vote_until_the_settle_time_is_over() {
    let mut one = elector(1, 3);
    one.start(7, 2, 0);
    assert_eq!(one.hear(2, looking(vote(2, 8, 2), 1), 10), None);
    assert_eq!(one.wait_until(10 + SETTLE_MS - 1), None);
    assert_eq!(one.wait_until(10 + SETTLE_MS), Some(id(2)));
}

#[test]
fn a_better_vote_while_settling_is_adopted() {
    let mut one = elector(1, 3);
    one.start(7, 2, 0);
    assert_eq!(one.hear(2, looking(vote(2, 8, 2), 1), 10), None);
    assert_eq!(one.hear(3, looking(vote(2, 9, 3), 1), 20), None);
    assert_eq!(one.wait_until(20 + SETTLE_MS), Some(id(3)));
}

#[test]
fn nothing_is_waited_for_when_all_voters_agree() {
    let mut three = elector(3, 3);
    three.start(7, 2, 0);
    assert_eq!(three.hear(1, looking(vote(2, 7, 3), 1), 1), None);
    assert_eq!(three.hear(2, looking(vote(2, 7, 3), 1), 2), Some(id(3)));
}

#[test]
fn a_later_round_makes_the_votes_of_the_earlier_worthless() {
    let mut one = elector(1, 3);
    one.start(7, 2, 0);
    one.hear(2, looking(vote(2, 7, 1), 1), 1);
    one.sent();
    assert_eq!(one.hear(3, looking(vote(2, 6, 3), 5), 2), None);
    let mine = looking(vote(2, 7, 1), 5);
    assert_eq!(
        one.sent(),
        [(2, mine), (3, mine)],
        "the own vote, in the later round"
    );
    assert_eq!(
        one.wait_until(2 + SETTLE_MS),
        None,
        "the vote of 2 was of round 1"
    );
}

#[test]
fn who_is_in_an_earlier_round_is_told_and_not_counted() {
    let mut one = elector(1, 3);
    one.start(7, 2, 0);
    one.hear(3, looking(vote(2, 6, 3), 5), 1);
    one.sent();
    assert_eq!(one.hear(2, looking(vote(9, 9, 2), 4), 2), None);
    assert_eq!(one.sent(), [(2, looking(vote(2, 7, 1), 5))]);
}

#[test]
fn an_existing_leader_is_found_by_a_quorum_that_includes_it() {
    let mut one = elector(1, 3);
    one.start(0, 0, 0);
    assert_eq!(
        one.hear(2, says(PeerState::Following, vote(4, 9, 3), 77), 1),
        None
    );
    assert_eq!(
        one.hear(3, says(PeerState::Leading, vote(4, 5, 3), 77), 2),
        Some(id(3))
    );
    assert_eq!(one.election.logical_clock, 77);
}

#[test]
fn followers_without_the_leaders_own_word_are_not_enough() {
    let mut one = elector(1, 5);
    one.start(0, 0, 0);
    for from in [2, 3, 4] {
        assert_eq!(
            one.hear(from, says(PeerState::Following, vote(4, 9, 5), 77), 1),
            None
        );
    }
    assert_eq!(
        one.hear(5, says(PeerState::Leading, vote(4, 9, 5), 77), 2),
        Some(id(5))
    );
}

#[test]
fn a_restarted_leader_does_not_take_the_word_of_its_old_followers() {
    let mut one = elector(1, 3);
    one.start(0, 0, 0);
    for from in [2, 3] {
        assert_eq!(
            one.hear(from, says(PeerState::Following, vote(4, 9, 1), 77), 1),
            None
        );
    }
}

#[test]
fn an_observer_waits_for_those_who_have_found_a_leader() {
    let mut observer = elector(9, 3);
    observer.start(7, 2, 0);
    let asks = looking(Vote::NONE, 1);
    assert_eq!(observer.sent(), [(1, asks), (2, asks), (3, asks)]);
    for from in [1, 2, 3] {
        assert_eq!(
            observer.hear(from, looking(vote(1, 1, 3), 1), 1),
            None,
            "a stale vote of {from}"
        );
    }
    assert_eq!(
        observer.hear(2, says(PeerState::Following, vote(4, 9, 3), 7), 2),
        None
    );
    assert_eq!(
        observer.hear(3, says(PeerState::Leading, vote(4, 5, 3), 7), 2),
        Some(id(3))
    );
}

#[test]
fn an_observers_question_is_answered_in_the_round_of_the_clock_and_never_counted() {
    let mut one = elector(1, 1);
    one.start(7, 2, 0);
    one.election.logical_clock = 5;
    one.sent();
    assert_eq!(one.hear(9, looking(Vote::NONE, 3), 1), None);
    assert_eq!(one.sent(), [(9, looking(vote(2, 7, 1), 5))]);
    one.hear(9, says(PeerState::Observing, Vote::NONE, 3), 1);
    assert_eq!(one.sent(), [], "an answer is not answered");
}

#[test]
fn a_stranger_hears_the_vote_of_this_round_and_not_how_the_last_election_ended() {
    let mut one = elector(1, 3);
    one.election.outcome = vote(2, 8, 3);
    one.start(7, 2, 0);
    one.sent();
    assert_eq!(one.hear(9, looking(Vote::NONE, 1), 1), None);
    assert_eq!(one.sent(), [(9, looking(vote(2, 7, 1), 1))]);
}

#[test]
fn a_settled_server_answers_who_looks_with_its_outcome() {
    let mut one = elector(1, 1);
    one.start(7, 2, 0);
    one.election.configurations = configurations(QuorumVerifier::majority([id(1), id(2)], []));
    one.election.adopt_epoch(3);
    let (timers, out) = (&mut one.timers, &mut one.out);
    let asks = looking(vote(0, 0, 2), 9);
    one.election
        .handle_notification(id(2), asks, PeerState::Leading, 5, timers, out);
    assert_eq!(one.sent(), [(2, says(PeerState::Leading, vote(3, 7, 1), 1))]);
}

#[test]
fn a_vote_is_sent_again_ever_more_rarely_up_to_a_limit() {
    let mut one = elector(1, 3);
    one.start(7, 2, 0);
    one.sent();
    let mut resends = Vec::new();
    for now_ms in 0..6000 {
        assert_eq!(one.wait_until(now_ms), None);
        if !one.sent().is_empty() {
            resends.push(now_ms);
        }
    }
    assert_eq!(resends, [100, 300, 700, 1500, 2500, 3500, 4500, 5500]);
}

#[test]
fn votes_of_servers_without_data_are_not_counted() {
    let mut one = elector(1, 3);
    one.start(0, 0, 0);
    assert_eq!(one.hear(2, looking(vote(0, -1, 2), 1), 1), None);
    assert_eq!(one.wait_until(SETTLE_MS + 5), None);
    let mut empty = elector(1, 3);
    empty.start(-1, 0, 0);
    assert_eq!(empty.hear(2, looking(vote(0, 0, 2), 1), 1), None);
    assert_eq!(empty.hear(2, says(PeerState::Leading, vote(1, 0, 2), 4), 2), None);
    assert_eq!(
        empty.hear(3, says(PeerState::Following, vote(1, 0, 2), 4), 3),
        Some(id(2))
    );
}

/// Three voters of which the third weighs nothing, until the next configuration.
fn light(me: i64) -> Elector {
    let voters = [1, 2, 3].map(ServerId);
    let weights = [(id(3), 0)].into();
    let committed = QuorumVerifier::hierarchical([voters.into()], weights, voters, []).unwrap();
    let next = Configuration {
        version: 1,
        ..Configuration::new(QuorumVerifier::majority(voters, []))
    };
    let mut elector = elector(me, 3);
    elector.election.configurations =
        Configurations::new(Arc::new(Configuration::new(committed)), Some(Arc::new(next)));
    elector
}

#[test]
fn a_voter_is_judged_by_its_weight_in_the_committed_configuration() {
    let mut one = light(1);
    one.start(7, 2, 0);
    one.sent();
    one.hear(3, looking(vote(2, 7, 3), 1), 1);
    assert_eq!(
        one.sent(),
        [(3, looking(vote(2, 7, 1), 1))],
        "those who know only that one would not vote for it"
    );
}

#[test]
fn a_voter_without_weight_votes_for_another() {
    let mut three = light(3);
    three.start(7, 2, 0);
    assert_eq!(three.sent()[0], (1, looking(Vote::NONE, 1)));
    let better = looking(vote(2, 7, 2), 1);
    three.hear(2, better, 1);
    assert_eq!(three.sent(), [(1, better), (2, better)]);
}
