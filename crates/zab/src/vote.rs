//! Votes and notifications of fast leader election (quorum spec, 3.1 to 3.4).

use oxkeeper_types::{ServerId, Zxid};

use crate::quorum::QuorumVerifier;

/// The version of notifications that we send, as every Java server since 3.5 does.
pub const NOTIFICATION_VERSION: i32 = 2;

/// What stands for leader, zxid and epoch in the vote of one who may not be elected.
pub const NOBODY: i64 = i64::MIN;

/// What a server is doing, as its notifications tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// It elects.
    Looking,
    /// It follows a leader and votes.
    Following,
    /// It leads.
    Leading,
    /// It follows a leader and does not vote.
    Observing,
}

/// Whom a server wants to lead, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The proposed leader.
    pub leader: ServerId,
    /// The last zxid in the history of the proposed leader.
    pub zxid: Zxid,
    /// The epoch that vouches for this history: the current epoch of the proposed leader.
    pub peer_epoch: i64,
}

impl Vote {
    /// The vote of one who may not be elected: an observer, a voter without weight, or a server outside of the
    /// configuration.
    pub const NONE: Vote = Vote {
        leader: ServerId(NOBODY),
        zxid: Zxid(NOBODY),
        peer_epoch: NOBODY,
    };

    /// Whether this vote is to be preferred to `other`: by epoch, then zxid, then server id. A server without
    /// weight is never preferred.
    pub fn beats(&self, other: &Vote, quorum: &QuorumVerifier) -> bool {
        quorum.weight(self.leader) > 0
            && (self.peer_epoch, self.zxid, self.leader) > (other.peer_epoch, other.zxid, other.leader)
    }
}

/// One message of the election. Its configuration text is read and written by who encodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// What the sender is doing.
    pub state: PeerState,
    /// The vote of the sender.
    pub vote: Vote,
    /// The round in which the sender votes, or voted.
    pub election_epoch: i64,
    /// The version of the format: 0 from servers before 3.4.6 and from those that send 40 bytes.
    pub version: i32,
}

impl Notification {
    /// Whether both count for the same leader. Of settled servers only the leader and the epoch are compared,
    /// because their zxids and rounds may come from different elections.
    pub fn agrees_with(&self, other: &Notification) -> bool {
        if self.state == PeerState::Looking || other.state == PeerState::Looking {
            self.vote == other.vote && self.election_epoch == other.election_epoch
        } else if (self.version > 0) != (other.version > 0) {
            self.vote.leader == other.vote.leader
        } else {
            self.vote.leader == other.vote.leader && self.vote.peer_epoch == other.vote.peer_epoch
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(peer_epoch: i64, zxid: i64, leader: i64) -> Vote {
        Vote {
            leader: ServerId(leader),
            zxid: Zxid(zxid),
            peer_epoch,
        }
    }

    #[test]
    fn epoch_decides_before_zxid_before_server_id() {
        let quorum = QuorumVerifier::majority([1, 2, 3].map(ServerId), []);
        let worst_to_best = [
            Vote::NONE,
            vote(1, 9, 3),
            vote(2, 4, 3),
            vote(2, 5, 1),
            vote(2, 5, 2),
        ];
        for (i, a) in worst_to_best.iter().enumerate() {
            for (j, b) in worst_to_best.iter().enumerate() {
                assert_eq!(
                    a.beats(b, &quorum),
                    i > j && a.leader.0 > 0,
                    "{a:?} against {b:?}"
                );
            }
        }
    }

    #[test]
    fn a_server_without_weight_is_never_preferred() {
        let voters = [1, 2].map(ServerId);
        let quorum =
            QuorumVerifier::hierarchical([voters.into()], [(ServerId(2), 0)].into(), voters, []).unwrap();
        assert!(!vote(9, 9, 2).beats(&vote(1, 1, 1), &quorum));
        assert!(!vote(9, 9, 7).beats(&vote(1, 1, 1), &quorum), "nor is a stranger");
    }

    #[test]
    fn settled_votes_agree_by_leader_and_epoch_alone() {
        let settled = |zxid, round, epoch, version| Notification {
            state: PeerState::Following,
            vote: vote(epoch, zxid, 1),
            election_epoch: round,
            version,
        };
        assert!(settled(5, 1, 3, 2).agrees_with(&settled(9, 7, 3, 2)));
        assert!(!settled(5, 1, 3, 2).agrees_with(&settled(5, 1, 4, 2)));
        assert!(
            settled(5, 1, 3, 0).agrees_with(&settled(9, 7, 4, 2)),
            "an old server tells no epoch"
        );
        let looking = Notification {
            state: PeerState::Looking,
            ..settled(5, 1, 3, 2)
        };
        assert!(!looking.agrees_with(&settled(9, 1, 3, 2)));
        assert!(looking.agrees_with(&settled(5, 1, 3, 0)));
    }
}
