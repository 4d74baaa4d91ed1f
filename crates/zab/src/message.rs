//! What leader and learner say to each other (quorum spec, section 4), as values. The bytes are `wire`'s.

use std::sync::Arc;

use oxkeeper_types::{ServerId, Zxid};

use crate::configuration::Configuration;

/// A connection between a learner and its leader. Numbered by the shell, never twice in the life of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A txn in its place of the history. What is in it is nobody's business here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub zxid: Zxid,
    /// The encoded txn, shared with the log, the links and the window.
    pub txn: Arc<[u8]>,
}

/// A packet of the learner protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// FOLLOWERINFO or OBSERVERINFO, learner to leader.
    LearnerInfo {
        /// Who it is.
        server: ServerId,
        /// Whether it wants commits only.
        observer: bool,
        /// The newest epoch it has accepted.
        accepted_epoch: u32,
        /// The version of its committed configuration.
        config_version: i64,
    },
    /// LEADERINFO: the epoch that the leader proposes.
    LeaderInfo {
        /// The new epoch.
        epoch: u32,
    },
    /// ACKEPOCH: the learner has promised to ignore older leaders.
    AckEpoch {
        /// The end of its history.
        last_zxid: Zxid,
        /// The epoch that vouches for it; `None` when it had accepted the leader's epoch before.
        current_epoch: Option<u32>,
    },
    /// DIFF: proposals follow. The zxid is the leader's last committed one and means nothing to the learner.
    Diff(Zxid),
    /// TRUNC: forget everything after this zxid, then proposals follow.
    Trunc(Zxid),
    /// SNAP: a snapshot follows, then proposals.
    Snap(Zxid),
    /// PROPOSAL: to be logged and acknowledged.
    Proposal(Entry),
    /// COMMIT of a proposal.
    Commit(Zxid),
    /// COMMITANDACTIVATE: COMMIT of a proposal that changes the configuration.
    CommitAndActivate {
        /// The proposal.
        zxid: Zxid,
        /// Who is to lead from here on.
        leader: ServerId,
    },
    /// INFORM: proposal and commit in one, for observers.
    Inform(Entry),
    /// INFORMANDACTIVATE: INFORM of a txn that changes the configuration.
    InformAndActivate {
        /// The txn.
        entry: Entry,
        /// Who is to lead from here on.
        leader: ServerId,
    },
    /// NEWLEADER: the history up to here is what the epoch begins with.
    NewLeader {
        /// The epoch of the leader.
        epoch: u32,
        /// The newest configuration that the leader has, which the epoch begins with; old servers tell none.
        configuration: Option<Arc<Configuration>>,
    },
    /// UPTODATE: a quorum has the history, the learner may serve.
    UpToDate,
    /// ACK of a proposal; with counter 0, of NEWLEADER or UPTODATE.
    Ack(Zxid),
    /// PING of the leader, with its last proposed zxid.
    Ping(Zxid),
    /// A learner's answer to a PING: the sessions it heard from, in the bytes of the packet.
    Pong(Zxid, Arc<[u8]>),
    /// REQUEST, SYNC or REVALIDATE: passed through.
    Opaque {
        /// The type of the packet.
        kind: i32,
        /// Its zxid.
        zxid: Zxid,
        /// Its data and authinfo, still encoded.
        payload: Arc<[u8]>,
    },
}
