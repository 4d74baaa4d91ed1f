//! The leader's view of one learner.
//!
//! ```text
//!  Connected ─FOLLOWERINFO─▶ AwaitingEpoch ─LEADERINFO─▶ AwaitingAckEpoch ─ACKEPOCH─▶ AwaitingPromises
//!                                                                                                     │
//!  Active ◀─UPTODATE─ Synced ◀─ACK─ AwaitingNewLeaderAck ◀─NEWLEADER─ (ReadingLog, SendingSnapshot) ◀─┘
//! ```

use oxkeeper_types::{ServerId, Zxid};

use crate::message::{LinkId, Message};
use crate::planted::PlantedBug;
use crate::vote::NOBODY;
use crate::zab::Context;

/// How far a learner is. Ordered as it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Connected,
    AwaitingEpoch,
    AwaitingAckEpoch,
    AwaitingPromises {
        last_zxid: Zxid,
    },
    ReadingLog {
        peer: Zxid,
    },
    /// Commits go to it as proposal and commit, proposals wait.
    SendingSnapshot,
    AwaitingNewLeaderAck,
    Synced,
    Active,
}

#[derive(Clone, Debug)]
pub(super) struct LearnerProgress {
    pub(super) server: ServerId,
    pub(super) observer: bool,
    pub(super) step: Step,
    /// Whether new proposals (for observers: commits) are sent to it.
    pub(super) forwarding: bool,
    pub(super) heard_ms: u64,
    pub(super) last_acked: Zxid,
    /// The oldest proposal it has not acknowledged, and the newest sent when that one was the only one: enough to
    /// see that it lags, without a table.
    oldest_unacked: Option<(Zxid, u64)>,
    later_unacked: Option<(Zxid, u64)>,
}

impl LearnerProgress {
    pub(super) fn new(now_ms: u64) -> LearnerProgress {
        LearnerProgress {
            server: ServerId(NOBODY),
            observer: false,
            step: Step::Connected,
            forwarding: false,
            heard_ms: now_ms,
            last_acked: Zxid::ZERO,
            oldest_unacked: None,
            later_unacked: None,
        }
    }

    pub(super) fn is_server(&self, server: ServerId) -> bool {
        self.step > Step::Connected && self.server == server
    }

    pub(super) fn note_proposed(&mut self, zxid: Zxid, now_ms: u64) {
        match (self.oldest_unacked, self.later_unacked) {
            (None, _) => self.oldest_unacked = Some((zxid, now_ms)),
            (Some(_), None) => self.later_unacked = Some((zxid, now_ms)),
            (Some(_), Some(_)) => {}
        }
    }

    pub(super) fn note_acked(&mut self, zxid: Zxid) {
        self.last_acked = zxid;
        if self.oldest_unacked.is_some_and(|(oldest, _)| oldest <= zxid) {
            self.oldest_unacked = self.later_unacked.take().filter(|(later, _)| *later > zxid);
        }
    }

    /// Whether it was silent, or did not acknowledge, for too long.
    pub(super) fn is_late(&self, now_ms: u64, sync_limit_ms: u64, init_limit_ms: u64) -> bool {
        let silence_max = match self.step {
            Step::Active => sync_limit_ms,
            Step::Connected => init_limit_ms,
            _ => init_limit_ms + sync_limit_ms,
        };
        let unacked_for = |sent: Option<(Zxid, u64)>| sent.map_or(0, |(_, at_ms)| now_ms - at_ms);
        now_ms - self.heard_ms > silence_max
            || (self.step == Step::Active && unacked_for(self.oldest_unacked) > silence_max)
    }

    /// Tells a synchronised learner that it may serve.
    pub(super) fn welcome(&mut self, link: LinkId, context: &mut Context) {
        self.step = Step::Active;
        self.forwarding |= !context.guards(PlantedBug::ForwardAfterNewLeader);
        context.send(link, Message::UpToDate);
    }
}
