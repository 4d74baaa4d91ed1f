//! The guards that a test may take away, to see that its checks would notice. Only with the feature `planted-bugs`;
//! without it every guard stands.

/// A guard, named by what goes wrong without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedBug {
    /// A failed write is answered when it is proposed, not when it is committed.
    ReplyBeforeCommit,
    /// The watch events of a change come after the reply of whoever made it (W1).
    EventsAfterReply,
    /// A read does not wait for the writes of its connection before it (S1, S3).
    ReadBeforeOwnWrite,
    /// A client that has seen more than this server is taken (S2).
    ClientAheadTaken,
    /// setWatches arms watches and does not look at what was missed (W2).
    CatchUpForgotten,
    /// A one-shot watch stays after it has fired (W3).
    WatchFiresTwice,
    /// A leader lets everybody speak for a session.
    OwnerUnchecked,
    /// A learner answers a sync without asking its leader.
    SyncAnsweredEarly,
    /// A learner does not tell its leader whom it heard from (S5).
    TouchesNotTold,
    /// A leader does not listen to whom its learners heard from (S5).
    TouchesIgnored,
    /// A new leader takes all sessions for as old as itself (S5).
    TimeoutsNotRenewed,
    /// A learner ends the sessions of its connections that end.
    LearnerEndsSessions,
    /// A learner does not notice that its leader has passed over a request (S1).
    LostRequestsUnnoticed,
    /// Connections outlive the role of their server.
    ConnectionsOutliveRole,
    /// A tree that was truncated or installed anew is not taken over.
    ReloadForgotten,
    /// What is proposed and not committed is forgotten when the next request is prepared.
    OverlayForgotten,
}

/// The guards that a test has taken away: none, and nothing to look at, without the feature `planted-bugs`.
#[derive(Clone, Debug, Default)]
pub struct Planted {
    #[cfg(feature = "planted-bugs")]
    bugs: Vec<PlantedBug>,
}

impl Planted {
    /// Without these guards.
    #[cfg(feature = "planted-bugs")]
    pub fn without(bugs: Vec<PlantedBug>) -> Planted {
        Planted { bugs }
    }

    /// Whether the guard against `bug` is in place. Always, but in tests of the tests.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn guards(&self, bug: PlantedBug) -> bool {
        !self.bugs.contains(&bug)
    }

    /// Whether the guard against `bug` is in place.
    #[cfg(not(feature = "planted-bugs"))]
    pub(crate) fn guards(&self, _bug: PlantedBug) -> bool {
        true
    }
}
