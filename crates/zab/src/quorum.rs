//! Which sets of servers may decide. Two quorums of one configuration always share a server; everything that ZAB
//! promises rests on that (quorum spec, 3.11).

use std::collections::{BTreeMap, BTreeSet};

use oxkeeper_types::ServerId;

/// The members of an ensemble and the rule by which they decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumVerifier {
    voters: BTreeSet<ServerId>,
    observers: BTreeSet<ServerId>,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// More than half of the voters.
    Majority,
    /// More than half of the groups that have weight, each by more than half of its weight.
    Hierarchical {
        groups: Vec<BTreeSet<ServerId>>,
        weights: BTreeMap<ServerId, u32>,
    },
}

/// Why groups and weights make no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumError {
    /// A voter is in no group.
    VoterWithoutGroup(ServerId),
    /// A server is in two groups.
    ServerInTwoGroups(ServerId),
    /// A server of a group or with a weight is no voter.
    NotAVoter(ServerId),
    /// Nobody has any weight, so that no quorum is possible.
    NoWeight,
}

impl std::fmt::Display for QuorumError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            QuorumError::VoterWithoutGroup(server) => write!(f, "server {server} is in no group"),
            QuorumError::ServerInTwoGroups(server) => write!(f, "server {server} is in two groups"),
            QuorumError::NotAVoter(server) => {
                write!(
                    f,
                    "server {server} has a group or a weight but is not a participant"
                )
            }
            QuorumError::NoWeight => f.write_str("all weights are 0, so that no quorum is possible"),
        }
    }
}

impl std::error::Error for QuorumError {}

impl QuorumVerifier {
    /// Decides by more than half of the voters.
    pub fn majority(
        voters: impl IntoIterator<Item = ServerId>,
        observers: impl IntoIterator<Item = ServerId>,
    ) -> QuorumVerifier {
        QuorumVerifier {
            voters: voters.into_iter().collect(),
            observers: observers.into_iter().collect(),
            rule: Rule::Majority,
        }
    }

    /// Decides by more than half of the groups, each by more than half of its weight. A voter without an entry in
    /// `weights` weighs 1. One group alone is a rule by weight.
    ///
    /// # Errors
    /// The groups do not part the voters, or nobody weighs anything.
    pub fn hierarchical(
        groups: impl IntoIterator<Item = BTreeSet<ServerId>>,
        weights: BTreeMap<ServerId, u32>,
        voters: impl IntoIterator<Item = ServerId>,
        observers: impl IntoIterator<Item = ServerId>,
    ) -> Result<QuorumVerifier, QuorumError> {
        let groups: Vec<BTreeSet<ServerId>> = groups.into_iter().collect();
        let voters: BTreeSet<ServerId> = voters.into_iter().collect();
        let mut grouped = BTreeSet::new();
        for server in groups.iter().flatten() {
            if !grouped.insert(*server) {
                return Err(QuorumError::ServerInTwoGroups(*server));
            }
        }
        if let Some(stranger) = grouped.iter().chain(weights.keys()).find(|s| !voters.contains(s)) {
            return Err(QuorumError::NotAVoter(*stranger));
        }
        if let Some(lonely) = voters.iter().find(|server| !grouped.contains(server)) {
            return Err(QuorumError::VoterWithoutGroup(*lonely));
        }
        let verifier = QuorumVerifier {
            voters,
            observers: observers.into_iter().collect(),
            rule: Rule::Hierarchical { groups, weights },
        };
        if verifier.voters.iter().all(|server| verifier.weight(*server) == 0) {
            return Err(QuorumError::NoWeight);
        }
        Ok(verifier)
    }

    /// The servers that vote.
    pub fn voters(&self) -> &BTreeSet<ServerId> {
        &self.voters
    }

    /// The servers that only listen.
    pub fn observers(&self) -> &BTreeSet<ServerId> {
        &self.observers
    }

    /// Whether the server votes.
    pub fn is_voter(&self, server: ServerId) -> bool {
        self.voters.contains(&server)
    }

    /// Whether the server is in the configuration.
    pub fn is_member(&self, server: ServerId) -> bool {
        self.is_voter(server) || self.observers.contains(&server)
    }

    /// What the server counts in its group. A voter of weight 0 acknowledges in vain and is never elected; a server
    /// that is no voter weighs nothing.
    pub fn weight(&self, server: ServerId) -> u32 {
        match &self.rule {
            _ if !self.is_voter(server) => 0,
            Rule::Majority => 1,
            Rule::Hierarchical { weights, .. } => weights.get(&server).copied().unwrap_or(1),
        }
    }

    /// Whether these servers may decide. Servers that do not vote are not counted, so callers need not filter.
    pub fn contains_quorum(&self, servers: &BTreeSet<ServerId>) -> bool {
        self.may_decide(|server| servers.contains(&server))
    }

    /// Whether the voters for whom `agrees` is true may decide.
    pub fn may_decide(&self, agrees: impl Fn(ServerId) -> bool) -> bool {
        match &self.rule {
            Rule::Majority => {
                let agreeing = self.voters.iter().filter(|server| agrees(**server)).count();
                agreeing > self.voters.len() / 2
            }
            Rule::Hierarchical { groups, .. } => {
                let (mut with_weight, mut agreeing) = (0, 0);
                for group in groups {
                    let (mut total, mut present) = (0, 0);
                    for server in group {
                        let weight = u64::from(self.weight(*server));
                        total += weight;
                        present += if agrees(*server) { weight } else { 0 };
                    }
                    with_weight += usize::from(total > 0);
                    agreeing += usize::from(present > total / 2);
                }
                agreeing > with_weight / 2
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(range: std::ops::RangeInclusive<i64>) -> Vec<ServerId> {
        range.map(ServerId).collect()
    }

    fn subsets(of: &[ServerId]) -> Vec<BTreeSet<ServerId>> {
        (0..1_u32 << of.len())
            .map(|bits| {
                (0..of.len())
                    .filter(|i| bits & (1 << i) != 0)
                    .map(|i| of[i])
                    .collect()
            })
            .collect()
    }

    /// What every rule must keep, tried on all pairs of subsets.
    fn check_rule(verifier: &QuorumVerifier) {
        let voters: Vec<ServerId> = verifier.voters().iter().copied().collect();
        let quorums: Vec<_> = subsets(&voters)
            .into_iter()
            .filter(|s| verifier.contains_quorum(s))
            .collect();
        assert!(
            verifier.contains_quorum(verifier.voters()),
            "all together must decide"
        );
        for a in &quorums {
            for b in &quorums {
                assert!(!a.is_disjoint(b), "{a:?} and {b:?} could decide apart");
            }
            for more in &voters {
                let mut larger = a.clone();
                larger.insert(*more);
                assert!(
                    verifier.contains_quorum(&larger),
                    "{a:?} decides but not with {more}"
                );
            }
        }
    }

    #[test]
    fn majorities_share_a_server_and_are_more_than_half() {
        for count in 1..=7_usize {
            let voters = ids(1..=i64::try_from(count).unwrap());
            let verifier = QuorumVerifier::majority(voters.clone(), []);
            check_rule(&verifier);
            for subset in subsets(&voters) {
                assert_eq!(
                    verifier.contains_quorum(&subset),
                    subset.len() * 2 > count,
                    "{subset:?} of {count}"
                );
            }
        }
    }

    #[test]
    fn servers_that_do_not_vote_make_no_majority() {
        let verifier = QuorumVerifier::majority(ids(1..=3), ids(4..=5));
        assert!(!verifier.contains_quorum(&[1, 4, 5, 9].map(ServerId).into()));
        assert!(verifier.contains_quorum(&[1, 3].map(ServerId).into()));
        assert_eq!(
            (verifier.weight(ServerId(1)), verifier.weight(ServerId(4))),
            (1, 0)
        );
    }

    #[test]
    fn weights_of_one_group_decide_by_more_than_half_of_the_weight() {
        for weights in 0..4_u32.pow(4) {
            let weight_of = |i: u32| weights / 4_u32.pow(i) % 4;
            let voters = ids(1..=4);
            let map: BTreeMap<_, _> = (0..4)
                .map(|i| (ServerId(i64::from(i) + 1), weight_of(i)))
                .collect();
            let verifier = QuorumVerifier::hierarchical(
                [voters.iter().copied().collect()],
                map.clone(),
                voters.clone(),
                [],
            );
            if weights == 0 {
                assert_eq!(verifier, Err(QuorumError::NoWeight));
                continue;
            }
            let verifier = verifier.unwrap();
            check_rule(&verifier);
            for subset in subsets(&voters) {
                let present: u32 = subset.iter().map(|s| map[s]).sum();
                let total: u32 = map.values().sum();
                assert_eq!(
                    verifier.contains_quorum(&subset),
                    present * 2 > total,
                    "{subset:?} {map:?}"
                );
            }
        }
    }

    #[test]
    fn groups_decide_by_more_than_half_of_the_groups() {
        let groups = [ids(1..=3), ids(4..=6), ids(7..=9)].map(|group| group.into_iter().collect());
        let verifier = QuorumVerifier::hierarchical(groups, BTreeMap::new(), ids(1..=9), []).unwrap();
        let decide =
            |servers: &[i64]| verifier.contains_quorum(&servers.iter().copied().map(ServerId).collect());
        assert!(decide(&[1, 2, 4, 5]), "two of three in two of three groups");
        assert!(
            !decide(&[1, 2, 3, 4, 7]),
            "one whole group and one server in each other group"
        );
        assert!(!decide(&[]));
        check_rule(&verifier);
    }

    #[test]
    fn a_group_without_weight_does_not_count() {
        let groups = [ids(1..=2), ids(3..=3), ids(4..=5)].map(|group| group.into_iter().collect());
        let weights = [(ServerId(4), 0), (ServerId(5), 0)].into();
        let verifier = QuorumVerifier::hierarchical(groups, weights, ids(1..=5), []).unwrap();
        check_rule(&verifier);
        assert!(verifier.contains_quorum(&[1, 2, 3].map(ServerId).into()));
        assert!(!verifier.contains_quorum(&[1, 3, 4, 5].map(ServerId).into()));
    }

    #[test]
    fn groups_must_part_the_voters() {
        let group = |of: &[i64]| of.iter().copied().map(ServerId).collect::<BTreeSet<_>>();
        let make = |groups: Vec<BTreeSet<ServerId>>| {
            QuorumVerifier::hierarchical(groups, BTreeMap::new(), ids(1..=2), []).unwrap_err()
        };
        assert_eq!(
            make(vec![group(&[1])]),
            QuorumError::VoterWithoutGroup(ServerId(2))
        );
        assert_eq!(
            make(vec![group(&[1, 2]), group(&[2])]),
            QuorumError::ServerInTwoGroups(ServerId(2))
        );
        assert_eq!(make(vec![group(&[1, 2, 3])]), QuorumError::NotAVoter(ServerId(3)));
    }
}
