//! What the core thread of a member of an ensemble does with the actions of the consensus, and what the operator
//! hears of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use oxkeeper_core::membership::Membership;
use oxkeeper_core::{Event, Now, ServerCore, Standing};
use oxkeeper_storage::Storage;
use oxkeeper_types::{ServerId, Zxid};
use oxkeeper_zab::{
    Action as ZabAction, CloseReason, Configuration, Entry, Event as ZabEvent, LinkId, PeerFault, PeerState,
    Reason, SyncMethod, Write,
};
use tokio::runtime::Handle;

use crate::channels::{CoreHandle, DiskJob, LinkMessage};
use crate::election_links::ElectionLinks;
use crate::learner_links::LearnerLinks;
use crate::member_view::MemberView;

/// The most txns that are read from the log for one learner; one that lacks more gets a snapshot.
const LOG_READ_ENTRIES_MAX: usize = 100_000;
/// The most bytes of them.
const LOG_READ_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The way to the other servers, and the own files as far as they are for them.
pub(crate) struct MemberLinks {
    pub(crate) learners: LearnerLinks,
    pub(crate) elections: ElectionLinks,
    pub(crate) storage: Storage,
    pub(crate) core: CoreHandle,
    pub(crate) runtime: Handle,
    pub(crate) view: Arc<MemberView>,
    /// The last state that the operator was told.
    pub(crate) state: PeerState,
}

impl MemberLinks {
    /// Takes notice of what happened to a link; returns what the core is to hear of it.
    pub(crate) fn receive(&mut self, message: LinkMessage) -> Option<Event> {
        match message {
            LinkMessage::Opened(link, event) => {
                self.learners.opened(link);
                Some(event)
            }
            LinkMessage::Snapshot(link, snapshot) => (self.learners.keep_snapshot(link, snapshot))
                .then_some(Event::Ensemble(ZabEvent::SnapshotReceived { link })),
            LinkMessage::Closed(link) => {
                (self.learners.closed(link)).then_some(Event::Ensemble(ZabEvent::LinkClosed { link }))
            }
        }
    }

    /// Cuts this server off from the others, or no longer.
    pub(crate) fn isolate(&mut self, isolated: bool) {
        self.elections.isolate(isolated);
        self.learners.isolate(isolated);
    }

    /// Does what the consensus wants. What is for the disk is returned.
    pub(crate) fn carry_out(&mut self, action: ZabAction) -> Option<DiskJob> {
        match action {
            ZabAction::SendNotification { to, notification } => self.elections.send(to, &notification),
            ZabAction::ConnectToLeader { leader, incarnation } => {
                self.view.leader.store(leader.0, Relaxed);
                self.learners.connect_to_leader(leader, incarnation);
            }
            ZabAction::AcceptLearners(accept) => self.learners.accept_learners(accept),
            ZabAction::CloseLink(link, reason) => {
                self.tell_closing(link, reason);
                self.learners.close(link);
            }
            ZabAction::Configurations { committed, next } => {
                self.set_configurations(&committed, next.as_deref())
            }
            ZabAction::Synchronizing {
                learner,
                method,
                from,
                to,
            } => self.tell_synchronizing(learner, method, from, to),
            ZabAction::Send { link, message } => self.learners.send(link, &message),
            ZabAction::SendSnapshot(link) => self.learners.send_snapshot(link),
            ZabAction::ReadLog { link, from, to } => self.read_log(link, from, to),
            ZabAction::Write { id, write } => {
                let snapshot = match &write {
                    Write::Append(entry) if self.view.standing() == Standing::Leading => {
                        self.view.count_proposal(entry.txn.len());
                        None
                    }
                    Write::Install {
                        snapshot: Some(link), ..
                    } => {
                        let snapshot = self.learners.take_snapshot(*link);
                        assert!(snapshot.is_some(), "link {} has no snapshot to install", link.0);
                        snapshot
                    }
                    _ => None,
                };
                return Some(DiskJob::Write { id, write, snapshot });
            }
            ZabAction::StopServing(reason) => {
                self.view.leader.store(-1, Relaxed);
                match reason {
                    Reason::Started => tracing::info!("LOOKING for a leader"),
                    _ => tracing::warn!("LOOKING for a leader: {}", describe(reason)),
                }
            }
            ZabAction::Deliver(_)
            | ZabAction::Serve { .. }
            | ZabAction::AnswerPing { .. }
            | ZabAction::PassOn { .. } => unreachable!("the core does this itself"),
        }
        None
    }

    /// Tells connections and the operator what the server has become.
    pub(crate) fn tell(&mut self, core: &ServerCore, now: Now) {
        let Some(consensus) = core.consensus() else {
            return;
        };
        let state = consensus.state();
        if self.state != state {
            self.state = state;
            match state {
                PeerState::Looking => {}
                PeerState::Leading => tracing::info!("LEADING: elected, gathering a quorum"),
                PeerState::Following | PeerState::Observing => {
                    let leader = self.view.leader.load(Relaxed);
                    tracing::info!("{} server {leader}: synchronising", name(state));
                }
            }
        }
        let standing = core.standing();
        if self.view.standing() != standing {
            self.view.serving_since_ms.store(now.monotonic_ms, Relaxed);
            if standing == Standing::Leading {
                self.view.reset();
            }
            self.view.set_standing(standing);
            if !matches!(standing, Standing::Looking | Standing::ReadOnly) {
                tracing::info!(
                    "{} in epoch {:x}: serving, as of zxid {}",
                    name(state),
                    consensus.current_epoch(),
                    consensus.last_zxid()
                );
            }
        }
    }

    /// The links are to reach the members of the committed configuration and of the next.
    fn set_configurations(&mut self, committed: &Arc<Configuration>, next: Option<&Configuration>) {
        let members = |of: &Configuration| {
            Membership::parse(&of.list)
                .map(|list| list.servers)
                .unwrap_or_default()
        };
        let mut known = next.map(members).unwrap_or_default();
        known.extend(members(committed));
        self.learners.set_members(&known);
        self.elections.set_members(committed, &known);
        let is_new = (self.view.configuration()).is_none_or(|before| before.version != committed.version);
        self.view.set_configuration(committed.clone());
        match next {
            Some(next) if !is_new || committed.version == 0 => {
                tracing::info!("configuration {:x} is proposed", next.version);
            }
            _ => tracing::info!(
                "configuration {:x}: participants {}; observers {}",
                committed.version,
                listed(committed.quorum.voters()),
                listed(committed.quorum.observers())
            ),
        }
    }

    fn tell_synchronizing(&self, learner: ServerId, method: SyncMethod, from: Zxid, to: Zxid) {
        let method = match method {
            SyncMethod::Diff => "DIFF",
            SyncMethod::Trunc => "TRUNC",
            SyncMethod::Snap => "SNAP",
        };
        match self.state {
            PeerState::Leading => {
                tracing::info!("server {learner} is synchronised by {method}, from zxid {from} to {to}");
            }
            _ => tracing::info!("the leader synchronises by {method}; the history here ends at zxid {from}"),
        }
    }

    /// Why a link goes, if its other end is the reason.
    fn tell_closing(&self, link: LinkId, reason: CloseReason) {
        let why = match reason {
            CloseReason::RoleEnded
            | CloseReason::NotLeading
            | CloseReason::AsksForSnapshot
            | CloseReason::Malformed => {
                return;
            }
            CloseReason::Replaced => "its server has dialled anew".to_owned(),
            CloseReason::TooManyUnnamed => "it did not say who it is, and others wait".to_owned(),
            CloseReason::TooManyStrangers => {
                "its server is not in the configuration, as too many others that are served".to_owned()
            }
            CloseReason::AheadInConfiguration { theirs, ours } => {
                format!("its server knows configuration {theirs:x}, and this one only {ours:x}")
            }
            CloseReason::Fresher(zxid) => {
                format!("its history, to zxid {zxid}, is fresher than that of this leader")
            }
            CloseReason::TooLate => {
                "it was silent or did not acknowledge for longer than syncLimit".to_owned()
            }
            CloseReason::Unexpected => "it sent a packet out of place".to_owned(),
        };
        match self.learners.peer_of(link) {
            Some(peer) => tracing::warn!(%peer, "the link of a learner is closed: {why}"),
            None => tracing::warn!("the link of a learner is closed: {why}"),
        }
    }

    fn read_log(&self, link: LinkId, from: Zxid, to: Zxid) {
        let (storage, core) = (self.storage.clone(), self.core.clone());
        self.runtime.spawn_blocking(move || {
            let read = storage.read_range(from, to, LOG_READ_ENTRIES_MAX, LOG_READ_BYTES_MAX);
            let entries = match read {
                Ok(entries) => entries.map(|entries| {
                    let entry = |(zxid, txn): (Zxid, Vec<u8>)| Entry {
                        zxid,
                        txn: txn.into(),
                    };
                    entries.into_iter().map(entry).collect()
                }),
                Err(error) => {
                    tracing::warn!("a learner gets a snapshot, because the log cannot be read: {error}");
                    None
                }
            };
            core.submit(Event::Ensemble(ZabEvent::LogRead { link, entries }));
        });
    }
}

fn listed(servers: &BTreeSet<ServerId>) -> String {
    if servers.is_empty() {
        return "none".to_owned();
    }
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    servers.join(" ")
}

fn name(state: PeerState) -> &'static str {
    match state {
        PeerState::Looking => "LOOKING",
        PeerState::Following => "FOLLOWING",
        PeerState::Leading => "LEADING",
        PeerState::Observing => "OBSERVING",
    }
}

fn describe(reason: Reason) -> String {
    match reason {
        Reason::Started => "the server has started".to_owned(),
        Reason::InitLimit => "no quorum was in step within initLimit".to_owned(),
        Reason::LeaderSilent => "the leader was silent for longer than syncLimit".to_owned(),
        Reason::LeaderUnreachable => "the leader could not be dialled".to_owned(),
        Reason::LeaderLost => "the connection to the leader was lost".to_owned(),
        Reason::QuorumLost => "fewer followers than make a quorum are heard of".to_owned(),
        Reason::CounterUsedUp => "the epoch has no zxid left".to_owned(),
        Reason::ElectorLost => "a server that elected this one looks for another leader".to_owned(),
        Reason::LaterEpochPromised => "a follower has promised itself to a later epoch".to_owned(),
        Reason::TruncateRefused => {
            "the history has nothing to be truncated to; a snapshot will be asked for".to_owned()
        }
        Reason::BacklogTooLarge => {
            "more txns came than are kept in memory before they are durable and delivered".to_owned()
        }
        Reason::Reconfigured => "the configuration has changed who leads, or what this server is".to_owned(),
        Reason::Designated(leader) => {
            format!("the configuration has changed, and server {leader} is to lead")
        }
        Reason::DiskFailed => "a write to disk failed".to_owned(),
        Reason::Fault(PeerFault::StaleEpoch { accepted, theirs }) => {
            format!("the leader's epoch {theirs:x} is older than the promised {accepted:x}")
        }
        Reason::Fault(PeerFault::ProposalGap { last, got }) => {
            format!("the leader proposed {got} after {last}; a snapshot will be asked for")
        }
        Reason::Fault(PeerFault::UnexpectedCommit(zxid)) => {
            format!("the leader committed {zxid}, which is not the next proposal")
        }
        Reason::Fault(PeerFault::TruncateAhead(zxid)) => {
            format!("the leader asked for a truncation to {zxid}, after the end of the history")
        }
        Reason::Fault(PeerFault::Unexpected) => "the leader sent a packet out of place".to_owned(),
    }
}
