//! The guards that a test may take away, to see that its checks would notice. Only with the feature
//! `planted-bugs`; without it every guard stands.

/// A guard, named by what goes wrong without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedBug {
    /// A proposal is acknowledged when it is appended, not when it is durable (Z9).
    AckBeforeDurable,
    /// NEWLEADER is acknowledged before the synchronised history is durable (ZOOKEEPER-3911, 4646, 4785).
    AckNewLeaderBeforeHistory,
    /// The current epoch is saved before the history is durable (ZOOKEEPER-4643).
    EpochBeforeHistory,
    /// The accepted epoch is answered before it is on disk.
    AckEpochBeforeSaved,
    /// A COMMIT after NEWLEADER of a proposal before it finds no proposal (ZOOKEEPER-4394).
    ForgetPendingAtNewLeader,
    /// Proposals received before NEWLEADER are acknowledged before NEWLEADER is (ZOOKEEPER-4685).
    AckProposalBeforeNewLeader,
    /// A leader takes a learner's first ACK for that of NEWLEADER (ZOOKEEPER-4685, 4646).
    AnyAckIsNewLeaderAck,
    /// Events of an ended role are taken for those of the current one (Z10, ZOOKEEPER-4712).
    LateEventsCount,
    /// An election begins while writes of the old role are under way (ZOOKEEPER-3023, 4712).
    ElectWithWritesInFlight,
    /// A learner fresher than the leader is not refused.
    FresherLearnerAccepted,
    /// Acks of a connection that ended still count after its learner was truncated.
    AcksSurviveReconnect,
    /// A gap in the proposals goes unnoticed (ZOOKEEPER-4925).
    GapsAccepted,
    /// A learner in another epoch's future is truncated instead of sent a snapshot (ZOOKEEPER-2846).
    TruncateAcrossEpochs,
    /// The history on disk is sent without a look whether the learner's last txn is in it (ZOOKEEPER-2846).
    DiskHistoryUnchecked,
    /// The tree is kept when a truncation takes back what it has delivered (ZOOKEEPER-2845).
    KeepTreeOnTruncate,
    /// A leader commits what fewer than a quorum have.
    CommitWithoutQuorum,
    /// Proposals made while a learner is synchronised are not forwarded to it.
    ForwardAfterNewLeader,
    /// NEWLEADER leaves while the snapshot before it is still being taken: effects of later txns are in it.
    NewLeaderBeforeSnapshotSent,
    /// A leader sends uncommitted proposals before NEWLEADER, as Java's do. Our learners take it; those before 3.9.3
    /// fail (ZOOKEEPER-4394).
    NewLeaderLast,
    /// The votes keep the epoch of before the leader's (ZOOKEEPER-4352).
    VoteKeepsOldEpoch,
    /// The counter of an epoch is not watched.
    CounterNotWatched,
    /// A leader goes on without a quorum of learners.
    LeadWithoutQuorum,
    /// A learner serves when it has taken over the history, before it knows that a quorum has it.
    ServeBeforeUpToDate,
    /// The leader proposes an epoch that some server of the quorum has already accepted.
    ReuseEpoch,
    /// A new configuration is committed by a quorum of the old one alone.
    OldQuorumReconfigures,
    /// NEWLEADER tells a configuration that is only proposed, and a learner lives by it (as in Java).
    ProposedConfigurationTold,
    /// The configuration that a logged txn proposes is not saved.
    NextConfigurationForgotten,
    /// The configuration that a txn proposes is saved after the txn.
    NextConfigurationAfterTxn,
    /// A leader needs no quorum of the next configuration to be established.
    OldQuorumEstablishes,
    /// A configuration whose txn was never logged is insisted on.
    MissedProposalCounts,
}
