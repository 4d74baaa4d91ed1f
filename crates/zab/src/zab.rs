//! One server's consensus: events in, actions out. The router among the roles, and what they share.
//!
//! ```text
//!                  ┌──────────── any doubt ───────────────┐
//!                  ▼                                      │
//!   Settling ─▶ Looking ──elected──▶ Leading or Learning ─┘
//!   (writes of the old role become durable)
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use oxkeeper_types::{ServerId, Zxid};

use crate::configuration::{Change, Configuration, Configurations};
use crate::election::{Elected, Election, Outbox};
use crate::history::History;
use crate::journal::{Done, Journal, Recovered, Write, WriteId};
use crate::leader::Leader;
use crate::learner::Learner;
use crate::message::{Entry, LinkId, Message};
use crate::planted::PlantedBug;
use crate::quorum::QuorumVerifier;
use crate::settings::Settings;
use crate::timers::{Timer, Timers};
use crate::vote::{Notification, PeerState};

/// The number of a role in the life of a process. What was asked for by an earlier one is late (Z10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

/// What can happen to a server.
#[derive(Clone, Debug)]
pub enum Event {
    /// A notification came over an election link.
    Notification {
        /// The server at the other end.
        from: ServerId,
        /// What it says.
        notification: Notification,
    },
    /// A server told of a configuration that it knows to be committed. Told before its notification.
    ConfigurationHeard(Arc<Configuration>),
    /// An election link to this server came up.
    ElectionPeerConnected {
        /// The server at the other end.
        peer: ServerId,
    },
    /// The answer to [`Action::ConnectToLeader`]: there is a link.
    LeaderConnected {
        /// From the action.
        incarnation: Incarnation,
        /// The new link.
        link: LinkId,
    },
    /// The answer to [`Action::ConnectToLeader`]: there is none.
    LeaderUnreachable {
        /// From the action.
        incarnation: Incarnation,
    },
    /// A learner dialled this server's quorum port.
    LearnerConnected {
        /// The new link.
        link: LinkId,
    },
    /// A link to a learner or to the leader broke. Not told for links that were closed by [`Action::CloseLink`].
    LinkClosed {
        /// Which.
        link: LinkId,
    },
    /// A packet came.
    Received {
        /// Over which link.
        link: LinkId,
        /// What it says.
        message: Message,
    },
    /// The snapshot behind a SNAP packet came in whole and is set aside. Told before later packets of the link.
    SnapshotReceived {
        /// Over which link.
        link: LinkId,
    },
    /// The walk that [`Action::SendSnapshot`] asked for is over: everything that it saw was delivered before this
    /// event. What is sent over the link from here on comes after the whole snapshot, as does what was sent since.
    SnapshotSent {
        /// Over which link.
        link: LinkId,
    },
    /// A part of a snapshot has left or come in: a sign of life. To be told now and then, several times in
    /// `syncLimit`, because a snapshot may take longer than the other side may be silent.
    SnapshotProgress {
        /// Over which link.
        link: LinkId,
    },
    /// This write and all before it are durable.
    Durable {
        /// Which.
        write: WriteId,
    },
    /// All before this [`Write::Truncate`] are durable; it was not done, because the zxid is not in the history.
    TruncateRefused {
        /// Which.
        write: WriteId,
    },
    /// A write failed, and with it all after it. The server leaves the ensemble and votes no more; only a new
    /// start, from what the disk really holds, brings it back (D2, ZOOKEEPER-4882).
    WriteFailed,
    /// The answer to [`Action::ReadLog`].
    LogRead {
        /// From the action.
        link: LinkId,
        /// The txns, in order; `None` when they are too many or not there.
        entries: Option<Vec<Entry>>,
    },
    /// A txn to be proposed, by a leader that is in broadcast.
    Propose {
        /// [`Zab::next_zxid`].
        zxid: Zxid,
        /// The encoded txn.
        txn: Arc<[u8]>,
    },
    /// The moment that [`Zab::next_deadline_ms`] named has come.
    DeadlineReached,
}

/// What the shell, or the server around, is to do. In the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send over the election link, dialling it if there is none. Only the newest need to arrive.
    SendNotification {
        /// To whom.
        to: ServerId,
        /// What.
        notification: Notification,
    },
    /// Dial the quorum port of the leader.
    ConnectToLeader {
        /// Which server.
        leader: ServerId,
        /// To be told with the answer.
        incarnation: Incarnation,
    },
    /// Listen on the quorum port, or stop.
    AcceptLearners(bool),
    /// Close a link, after what was sent over it before.
    CloseLink(LinkId, CloseReason),
    /// Send a packet.
    Send {
        /// Over which link.
        link: LinkId,
        /// What.
        message: Message,
    },
    /// Send the tree, after the SNAP packet sent just before and before all that is sent later. The walk begins
    /// with the tree as it is now or later, and [`Event::SnapshotSent`] tells its end.
    SendSnapshot(LinkId),
    /// Read the txns from `from` (with it) to `to` (with it) from the log on disk, if they are not too many.
    ReadLog {
        /// For which link.
        link: LinkId,
        /// The first zxid.
        from: Zxid,
        /// The last.
        to: Zxid,
    },
    /// Make something durable; writes are executed in the order given.
    Write {
        /// Its number, to be told with [`Event::Durable`].
        id: WriteId,
        /// What.
        write: Write,
    },
    /// Apply a committed txn to the tree.
    Deliver(Entry),
    /// These are the configurations from here on: the committed one, and what is to follow it. Links are to reach the
    /// members of both.
    Configurations {
        /// What is committed.
        committed: Arc<Configuration>,
        /// What may be next.
        next: Option<Arc<Configuration>>,
    },
    /// For the operator: how a learner is brought to the history of its leader.
    Synchronizing {
        /// The learner.
        learner: ServerId,
        /// How.
        method: SyncMethod,
        /// The end of its history before.
        from: Zxid,
        /// The end after it, as far as it is known now.
        to: Zxid,
    },
    /// The server has the history of a quorum and may serve clients from here on. As leader it may propose.
    Serve {
        /// The epoch.
        epoch: u32,
        /// Its leader.
        leader: ServerId,
    },
    /// The server looks for a leader from here on, and serves nobody.
    StopServing(Reason),
    /// Answer the leader's PING with the sessions heard of, as [`Message::Pong`].
    AnswerPing {
        /// Over which link.
        link: LinkId,
        /// The zxid of the PING, to be repeated.
        zxid: Zxid,
    },
    /// A packet that is not the business of consensus: REQUEST, REVALIDATE, SYNC or a PING's answer.
    PassOn {
        /// Over which link.
        link: LinkId,
        /// From whom.
        from: ServerId,
        /// What.
        message: Message,
    },
}

/// Why a role ended, or a link was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The server has just started.
    Started,
    /// The phase took longer than `initLimit`.
    InitLimit,
    /// The leader was silent for longer than `syncLimit`.
    LeaderSilent,
    /// The leader could not be dialled.
    LeaderUnreachable,
    /// The link to the leader broke.
    LeaderLost,
    /// Fewer learners than make a quorum are heard of.
    QuorumLost,
    /// The counter of the epoch is used up.
    CounterUsedUp,
    /// One who elected this server looks for another leader, before there is a quorum of followers.
    ElectorLost,
    /// A voter has promised itself to a later epoch than this leader's.
    LaterEpochPromised,
    /// The history on disk has nothing to be truncated to; a snapshot will be asked for.
    TruncateRefused,
    /// There are more txns than a server keeps in memory before they are durable and delivered.
    BacklogTooLarge,
    /// A write to disk failed.
    DiskFailed,
    /// The configuration has changed: who leads, or what this server is.
    Reconfigured,
    /// The configuration has changed, and with it the leader.
    Designated(ServerId),
    /// The peer broke the protocol.
    Fault(PeerFault),
}

/// How a learner is brought to the history of its leader (quorum spec, 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMethod {
    /// By the txns that it lacks.
    Diff,
    /// The same after it forgot what it has more.
    Trunc,
    /// By a snapshot.
    Snap,
}

/// Why a link was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The role that used it is over.
    RoleEnded,
    /// It was dialled for a role that is over, or by a learner at a server that does not lead.
    NotLeading,
    /// The same server has a newer link.
    Replaced,
    /// It did not say who it is, and there are too many like it.
    TooManyUnnamed,
    /// It is not in the configuration, and there are too many like it.
    TooManyStrangers,
    /// It knows of a configuration that the leader does not know.
    AheadInConfiguration {
        /// The version that it knows.
        theirs: i64,
        /// The version that the leader knows.
        ours: i64,
    },
    /// Its history is fresher than that of the leader, which is not established yet.
    Fresher(Zxid),
    /// It was silent, or did not acknowledge, for too long.
    TooLate,
    /// It sent a packet that has no place in the phase.
    Unexpected,
    /// What is sent over it is not what consensus can be told.
    Malformed,
    /// The learner asks its leader anew, for a snapshot.
    AsksForSnapshot,
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerFault {
    /// The leader's epoch is older than what was promised.
    StaleEpoch {
        /// What was promised.
        accepted: u32,
        /// What the leader says.
        theirs: u32,
    },
    /// A proposal does not follow the one before.
    ProposalGap {
        /// The one before.
        last: Zxid,
        /// The proposal.
        got: Zxid,
    },
    /// A commit is not of the next proposal.
    UnexpectedCommit(Zxid),
    /// A truncation to after the end of the history.
    TruncateAhead(Zxid),
    /// A packet has no place in the phase.
    Unexpected,
}

/// How far a learner is, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnerView {
    /// Its link.
    pub link: LinkId,
    /// Who it says it is.
    pub server: ServerId,
    /// Whether it asked for commits only.
    pub is_observer: bool,
    /// Whether its acks count.
    pub is_voter: bool,
    /// Whether it has the history and may serve.
    pub is_synced: bool,
    /// The last txn it acknowledged over this link; 0 before the first.
    pub last_acked: Zxid,
}

#[derive(Debug)]
enum Role {
    /// An election will begin when the writes of the old role are durable; what others said meanwhile is kept.
    Settling {
        heard: BTreeMap<ServerId, Notification>,
        /// Who is to lead without an election.
        designated: Option<ServerId>,
    },
    Looking,
    Leading(Leader),
    Learning(Learner),
}

/// What the roles share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) configurations: Configurations,
    pub(crate) journal: Journal,
    pub(crate) timers: Timers,
    pub(crate) now_ms: u64,
    pub(crate) incarnation: u64,
    /// The epoch in which the leader was found not to share our history: it is asked for a snapshot.
    pub(crate) resync_epoch: Option<u32>,
    /// The latest epoch that any member is known to have promised: a new leader begins a later one, or else that
    /// member could not follow.
    pub(crate) epoch_heard: u32,
    /// Set by a role that has synchronised: the vote to tell others.
    pub(crate) serving: Option<u32>,
    actions: VecDeque<Action>,
}

impl Context {
    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(crate) fn send(&mut self, link: LinkId, message: Message) {
        self.push(Action::Send { link, message });
    }

    /// Sends a txn of the history, or one that is committed before a learner has the history.
    pub(crate) fn send_committed(&mut self, link: LinkId, entry: Entry) {
        let zxid = entry.zxid;
        self.send(link, Message::Proposal(entry));
        self.send(link, Message::Commit(zxid));
    }

    /// Makes something durable. A txn that changes the configuration makes it the next one, which must not be
    /// forgotten as long as the txn is there.
    pub(crate) fn write(&mut self, write: Write) {
        if let Write::Append(entry) = &write
            && let Some(configuration) = self.settings.find_configuration.and_then(|find| find(entry))
        {
            let noted_first = self.guards(PlantedBug::NextConfigurationAfterTxn);
            if !noted_first {
                self.execute(write.clone());
            }
            self.set_next_configuration(Some(Arc::new(configuration)));
            if !noted_first {
                return;
            }
        }
        self.execute(write);
    }

    fn execute(&mut self, write: Write) {
        let id = self.journal.begin(&write, self.incarnation);
        self.push(Action::Write { id, write });
    }

    pub(crate) fn history(&self) -> &History {
        &self.journal.history
    }

    pub(crate) fn guards(&self, bug: PlantedBug) -> bool {
        self.settings.guards(bug)
    }

    pub(crate) fn set_timer(&mut self, timer: Timer, in_ms: u64) {
        self.timers.set(timer, self.now_ms + in_ms);
    }

    /// Delivers what is appended and not delivered yet, through `zxid`.
    pub(crate) fn deliver_through(&mut self, zxid: Zxid) {
        while let Some(entry) = self.journal.history.deliver_next(zxid) {
            self.actions.push_back(Action::Deliver(entry));
        }
        self.trim_window();
    }

    /// Delivers what was committed, and begins to live by the configuration that is among it.
    pub(crate) fn commit_through(&mut self, zxid: Zxid) -> Option<Change> {
        self.deliver_through(zxid);
        let next = self.configurations.next_through(zxid)?.clone();
        self.commit_configuration(next)
    }

    /// Notes what is to follow the committed configuration, on disk as well.
    pub(crate) fn set_next_configuration(&mut self, next: Option<Arc<Configuration>>) {
        let before = self.configurations.versions();
        self.configurations.set_next(next);
        if self.configurations.versions() != before {
            if self.guards(PlantedBug::NextConfigurationForgotten) {
                self.execute(Write::NextConfiguration(self.configurations.next().cloned()));
            }
            self.tell_configurations();
        }
    }

    /// Whether the next configuration was noted for a proposal of the present epoch that never came into the log. Then
    /// this server has acknowledged nothing of it, and stands as one that it did not reach. To insist on a quorum of
    /// the next one would do harm: who has the txn is fresher, would be refused, and may have no vote to be elected by.
    ///
    /// What NEWLEADER told counts, also without a txn, because its acknowledgement did: a leader of Java's makes that
    /// the configuration of its epoch, which is a later one than its version's.
    fn has_proposal_missed(&self) -> bool {
        let journal = &self.journal;
        self.configurations.next().is_some_and(|next| {
            let version = Zxid(next.version);
            let is_missing = version > journal.history.last() && version.epoch() == journal.current_epoch();
            is_missing && version.counter() != 0 && self.guards(PlantedBug::MissedProposalCounts)
        })
    }

    /// Lives by this configuration from here on, if it is newer.
    pub(crate) fn commit_configuration(&mut self, after: Arc<Configuration>) -> Option<Change> {
        let before = self.configurations.commit(after.clone())?;
        self.execute(Write::Configuration(after.clone()));
        self.tell_configurations();
        Some(Change { before, after })
    }

    fn tell_configurations(&mut self) {
        self.push(Action::Configurations {
            committed: self.configurations.committed().clone(),
            next: self.configurations.next().cloned(),
        });
    }

    /// Whether the configuration may change while servers run.
    pub(crate) fn may_reconfigure(&self) -> bool {
        self.settings.find_configuration.is_some()
    }

    fn trim_window(&mut self) {
        let settings = &self.settings;
        self.journal
            .history
            .trim(settings.window_entries_max, settings.window_bytes_max);
    }

    pub(crate) fn serve(&mut self, epoch: u32, leader: ServerId) {
        self.serving = Some(epoch);
        self.push(Action::Serve { epoch, leader });
    }
}

/// What a role wants next: `Err` ends it.
pub(crate) type Next = Result<(), Reason>;

/// One server's consensus.
#[derive(Debug)]
pub struct Zab {
    context: Context,
    election: Election,
    role: Role,
}

impl Zab {
    /// A server that has just started and looks for a leader.
    pub fn new(settings: Settings, recovered: Recovered, now_ms: u64) -> Zab {
        assert!(
            recovered.current_epoch <= recovered.accepted_epoch,
            "current epoch {} is above the accepted epoch {}",
            recovered.current_epoch,
            recovered.accepted_epoch
        );
        let (committed, next) = (
            settings.configuration.clone(),
            settings.next_configuration.clone(),
        );
        let configurations = Configurations::new(committed, next);
        let election = Election::new(&settings, configurations.clone());
        let mut context = Context {
            settings,
            configurations,
            journal: Journal::new(recovered),
            timers: Timers::default(),
            now_ms,
            incarnation: 0,
            resync_epoch: None,
            epoch_heard: 0,
            serving: None,
            actions: VecDeque::new(),
        };
        context.trim_window();
        let mut zab = Zab {
            context,
            election,
            role: Role::Settling {
                heard: BTreeMap::new(),
                designated: None,
            },
        };
        zab.become_looking(Reason::Started);
        zab
    }

    /// Something happened. `now_ms` never goes back.
    pub fn handle(&mut self, event: Event, now_ms: u64) {
        self.context.now_ms = self.context.now_ms.max(now_ms);
        let next = match event {
            Event::Notification { from, notification } => {
                self.handle_notification(from, notification);
                self.check_elector(from, notification.state)
            }
            Event::ConfigurationHeard(configuration) => {
                self.handle_configuration(configuration);
                Ok(())
            }
            Event::ElectionPeerConnected { peer } => {
                // Who settles may have a round left behind: a new one begins when all is written.
                if matches!(self.role, Role::Looking) {
                    let mut out = Outbox::new();
                    self.election.handle_connected(peer, &mut out);
                    self.send_notifications(out);
                }
                Ok(())
            }
            Event::LearnerConnected { link } => self.handle_learner_connected(link),
            Event::LeaderConnected { incarnation, link } => self.handle_leader_connected(incarnation, link),
            Event::LeaderUnreachable { incarnation } => match &mut self.role {
                Role::Learning(learner) if incarnation.0 == self.context.incarnation => {
                    learner.handle_unreachable(&mut self.context)
                }
                Role::Settling { .. } | Role::Looking | Role::Leading(_) | Role::Learning(_) => Ok(()),
            },
            Event::LinkClosed { link } => match &mut self.role {
                Role::Leading(leader) => leader.handle_closed(link, &mut self.context),
                Role::Learning(learner) if learner.link() == Some(link) => Err(Reason::LeaderLost),
                Role::Settling { .. } | Role::Looking | Role::Learning(_) => Ok(()),
            },
            Event::Received { link, message } => match &mut self.role {
                Role::Leading(leader) => leader.handle_message(link, message, &mut self.context),
                Role::Learning(learner) if learner.link() == Some(link) => {
                    learner.handle_message(message, &mut self.context)
                }
                Role::Settling { .. } | Role::Looking | Role::Learning(_) => Ok(()),
            },
            Event::SnapshotReceived { link } => match &mut self.role {
                Role::Learning(learner) if learner.link() == Some(link) => learner.handle_snapshot(),
                Role::Settling { .. } | Role::Looking | Role::Leading(_) | Role::Learning(_) => Ok(()),
            },
            Event::SnapshotSent { link } => {
                if let Role::Leading(leader) = &mut self.role {
                    leader.handle_snapshot_sent(link, &mut self.context);
                }
                Ok(())
            }
            Event::SnapshotProgress { link } => {
                match &mut self.role {
                    Role::Leading(leader) => leader.handle_progress(link, &self.context),
                    Role::Learning(learner) if learner.link() == Some(link) => {
                        learner.handle_progress(&mut self.context);
                    }
                    Role::Settling { .. } | Role::Looking | Role::Learning(_) => {}
                }
                Ok(())
            }
            Event::Durable { write } => self.handle_durable(write, false),
            Event::TruncateRefused { write } => self.handle_durable(write, true),
            Event::WriteFailed => {
                self.context.journal.fail();
                Err(Reason::DiskFailed)
            }
            Event::LogRead { link, entries } => match &mut self.role {
                Role::Leading(leader) => leader.handle_log_read(link, entries, &mut self.context),
                Role::Settling { .. } | Role::Looking | Role::Learning(_) => Ok(()),
            },
            Event::Propose { zxid, txn } => self.handle_propose(Entry { zxid, txn }),
            Event::DeadlineReached => self.handle_deadline(),
        };
        if let Err(reason) = next {
            self.become_looking(reason);
        }
        self.election.set_configurations(&self.context.configurations);
        if let Some(epoch) = self.context.serving.take()
            && self.context.guards(PlantedBug::VoteKeepsOldEpoch)
        {
            self.election.adopt_epoch(epoch);
        }
        self.assert_invariants();
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.context.actions.pop_front()
    }

    /// When [`Event::DeadlineReached`] is due.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.context.timers.next()
    }

    /// The zxid of the next proposal; `None` when this server may not propose: it does not lead in broadcast, or
    /// its epoch is used up.
    pub fn next_zxid(&self) -> Option<Zxid> {
        match &self.role {
            Role::Leading(leader) => leader.next_zxid(&self.context),
            Role::Settling { .. } | Role::Looking | Role::Learning(_) => None,
        }
    }

    /// The configuration that this server knows to be committed.
    pub fn configuration(&self) -> &Arc<Configuration> {
        self.context.configurations.committed()
    }

    /// The configuration that is to follow it, if one was proposed.
    pub fn next_configuration(&self) -> Option<&Arc<Configuration>> {
        self.context.configurations.next()
    }

    /// Whether a quorum of these members follows this leader and has its history, so that a change to them would be
    /// committed soon.
    pub fn is_quorum_synced(&self, quorum: &QuorumVerifier) -> bool {
        match &self.role {
            Role::Leading(leader) => leader.is_quorum_synced(quorum),
            Role::Settling { .. } | Role::Looking | Role::Learning(_) => false,
        }
    }

    /// What this server is doing.
    pub fn state(&self) -> PeerState {
        match &self.role {
            Role::Settling { .. } | Role::Looking => PeerState::Looking,
            Role::Leading(_) => PeerState::Leading,
            Role::Learning(learner) if learner.is_observer() => PeerState::Observing,
            Role::Learning(_) => PeerState::Following,
        }
    }

    /// Whether an election goes on: nothing that an earlier role wrote can still become durable and replace the tree.
    pub fn is_electing(&self) -> bool {
        matches!(self.role, Role::Looking)
    }

    /// The link of a learner to its leader.
    pub fn leader_link(&self) -> Option<LinkId> {
        match &self.role {
            Role::Learning(learner) => learner.link(),
            Role::Settling { .. } | Role::Looking | Role::Leading(_) => None,
        }
    }

    /// The epoch of the leader that this server is or follows, as soon as it is known.
    pub fn epoch(&self) -> Option<u32> {
        match &self.role {
            Role::Settling { .. } | Role::Looking => None,
            Role::Leading(leader) => leader.epoch(),
            Role::Learning(learner) => learner.epoch(),
        }
    }

    /// How far a leader's learners are; nobody has any who does not lead. Connections that have not told who they
    /// are, are not shown.
    pub fn learners(&self) -> impl Iterator<Item = LearnerView> {
        let leader = match &self.role {
            Role::Leading(leader) => Some(leader),
            Role::Settling { .. } | Role::Looking | Role::Learning(_) => None,
        };
        leader.into_iter().flat_map(|leader| leader.views(&self.context))
    }

    /// What this server is doing, in Java's words for operators: `leading - broadcast`, or
    /// `following - synchronization - diff` (quorum spec, 1.1).
    pub fn peer_state(&self) -> String {
        let state = match self.state() {
            PeerState::Looking => "looking",
            PeerState::Following => "following",
            PeerState::Leading => "leading",
            PeerState::Observing => "observing",
        };
        let phase = match &self.role {
            Role::Settling { .. } | Role::Looking => None,
            Role::Leading(leader) => Some(leader.phase_text()),
            Role::Learning(learner) => Some(learner.phase_text()),
        };
        phase.map_or(state.to_owned(), |phase| format!("{state} - {phase}"))
    }

    /// The end of the history that this server has, delivered or not.
    pub fn last_zxid(&self) -> Zxid {
        self.context.history().last()
    }

    /// The epoch that vouches for the history.
    pub fn current_epoch(&self) -> u32 {
        self.context.journal.current_epoch()
    }

    /// The promised epoch.
    pub fn accepted_epoch(&self) -> u32 {
        self.context.journal.accepted_epoch()
    }

    fn handle_notification(&mut self, from: ServerId, notification: Notification) {
        if let Role::Settling { heard, .. } = &mut self.role {
            if self.context.configurations.is_voter(from) {
                heard.insert(from, notification);
            }
            return;
        }
        let state = self.state();
        let mut out = Outbox::new();
        let (now_ms, timers) = (self.context.now_ms, &mut self.context.timers);
        let elected = self
            .election
            .handle_notification(from, notification, state, now_ms, timers, &mut out);
        self.send_notifications(out);
        self.handle_elected(elected);
    }

    /// Somebody knows a newer configuration to be committed. Only who has no leader takes it from there: a leader tells
    /// it in its turn.
    fn handle_configuration(&mut self, configuration: Arc<Configuration>) {
        if !matches!(self.role, Role::Settling { .. } | Role::Looking) || !self.context.may_reconfigure() {
            return;
        }
        let change = self.context.commit_configuration(configuration);
        // A vote says what is durable, that is, when nothing is being written.
        if change.is_some() && matches!(self.role, Role::Looking) {
            self.become_looking(Reason::Reconfigured);
        }
    }

    /// Whether a leader that has no quorum yet is to give up because one who elected it looks for another.
    fn check_elector(&self, from: ServerId, state: PeerState) -> Next {
        match &self.role {
            Role::Leading(leader) if state == PeerState::Looking && self.election.is_elector(from) => {
                leader.handle_elector_looking(&self.context)
            }
            Role::Settling { .. } | Role::Looking | Role::Leading(_) | Role::Learning(_) => Ok(()),
        }
    }

    fn send_notifications(&mut self, out: Outbox) {
        for (to, notification) in out {
            self.context.push(Action::SendNotification { to, notification });
        }
    }

    fn handle_elected(&mut self, elected: Option<Elected>) {
        let Some(Elected { leader }) = elected else {
            return;
        };
        assert!(matches!(self.role, Role::Looking), "elected while not looking");
        self.context.incarnation += 1;
        self.context.timers.stop_all();
        let next = if leader == self.context.settings.me {
            let mut leading = Leader::new(&self.context);
            let next = leading.start(&mut self.context);
            self.role = Role::Leading(leading);
            next
        } else {
            self.role = Role::Learning(Learner::start(leader, &mut self.context));
            Ok(())
        };
        if let Err(reason) = next {
            self.become_looking(reason);
        }
    }

    /// Ends the role. The election begins when the disk is quiet, so that the vote tells what is durable, and so
    /// that nothing of the old role is written during the new.
    fn become_looking(&mut self, reason: Reason) {
        match &mut self.role {
            Role::Leading(leader) => leader.close(&mut self.context),
            Role::Learning(learner) => learner.close(&mut self.context),
            Role::Settling { .. } | Role::Looking => {}
        }
        self.context.incarnation += 1;
        self.context.timers.stop_all();
        self.context.push(Action::StopServing(reason));
        self.role = Role::Settling {
            heard: BTreeMap::new(),
            designated: match reason {
                Reason::Designated(leader) => Some(leader),
                _ => None,
            },
        };
        self.elect_when_quiet();
    }

    fn elect_when_quiet(&mut self) {
        let Role::Settling { heard, designated } = &mut self.role else {
            return;
        };
        if !self.context.journal.is_quiet() && self.context.guards(PlantedBug::ElectWithWritesInFlight) {
            return;
        }
        if self.context.has_proposal_missed() {
            self.context.set_next_configuration(None);
            if !self.context.journal.is_quiet() {
                return;
            }
        }
        let (heard, designated) = (std::mem::take(heard), *designated);
        self.role = Role::Looking;
        let (zxid, epoch) = (self.last_zxid(), self.current_epoch());
        self.election.set_configurations(&self.context.configurations);
        if let Some(leader) = designated {
            // All who followed the old leader were told the same.
            self.election.designate(leader, zxid, epoch);
            self.handle_elected(Some(Elected { leader }));
            return;
        }
        let mut out = Outbox::new();
        let (now_ms, timers) = (self.context.now_ms, &mut self.context.timers);
        let elected = self.election.start(zxid, epoch, now_ms, timers, &mut out);
        self.send_notifications(out);
        self.handle_elected(elected);
        for (from, notification) in heard {
            self.handle_notification(from, notification);
        }
    }

    fn handle_learner_connected(&mut self, link: LinkId) -> Next {
        match &mut self.role {
            Role::Leading(leader) => leader.handle_connected(link, &mut self.context),
            Role::Settling { .. } | Role::Looking | Role::Learning(_) => self
                .context
                .push(Action::CloseLink(link, CloseReason::NotLeading)),
        }
        Ok(())
    }

    fn handle_leader_connected(&mut self, incarnation: Incarnation, link: LinkId) -> Next {
        match &mut self.role {
            Role::Learning(learner) if incarnation.0 == self.context.incarnation => {
                learner.handle_connected(link, &mut self.context);
            }
            Role::Settling { .. } | Role::Looking | Role::Leading(_) | Role::Learning(_) => {
                self.context
                    .push(Action::CloseLink(link, CloseReason::NotLeading));
            }
        }
        Ok(())
    }

    fn handle_durable(&mut self, write: WriteId, refused: bool) -> Next {
        // All of them are facts of the disk, also when the role ends over one.
        let mut next = Ok(());
        while let Some((incarnation, done)) = self.context.journal.complete_next(write, refused) {
            let is_late = incarnation != self.context.incarnation;
            if next.is_ok() && !(is_late && self.context.guards(PlantedBug::LateEventsCount)) {
                next = self.handle_done(done);
            }
        }
        next?;
        if self.context.journal.is_quiet() {
            self.elect_when_quiet();
        }
        Ok(())
    }

    fn handle_done(&mut self, done: Done) -> Next {
        match &mut self.role {
            Role::Leading(leader) => leader.handle_done(&done, &mut self.context),
            Role::Learning(learner) => learner.handle_done(&done, &mut self.context),
            Role::Settling { .. } | Role::Looking => Ok(()),
        }
    }

    fn handle_propose(&mut self, entry: Entry) -> Next {
        let next = self.next_zxid();
        match &mut self.role {
            Role::Leading(leader) if next == Some(entry.zxid) => {
                leader.handle_propose(entry, &mut self.context)
            }
            Role::Settling { .. } | Role::Looking | Role::Leading(_) | Role::Learning(_) => {
                panic!("{} is proposed, the next zxid is {next:?}", entry.zxid)
            }
        }
    }

    fn handle_deadline(&mut self) -> Next {
        match &mut self.role {
            Role::Settling { .. } => Ok(()),
            Role::Looking => {
                let mut out = Outbox::new();
                let (now_ms, timers) = (self.context.now_ms, &mut self.context.timers);
                let elected = self.election.handle_deadline(now_ms, timers, &mut out);
                self.send_notifications(out);
                self.handle_elected(elected);
                Ok(())
            }
            Role::Leading(leader) => leader.handle_deadline(&mut self.context),
            Role::Learning(learner) => learner.handle_deadline(&mut self.context),
        }
    }

    fn assert_invariants(&self) {
        let journal = &self.context.journal;
        assert!(
            journal.current_epoch() <= journal.accepted_epoch(),
            "current epoch {} is above the accepted epoch {}",
            journal.current_epoch(),
            journal.accepted_epoch()
        );
        assert!(
            journal.history.delivered() <= journal.history.last(),
            "{} is delivered, but the history ends at {}",
            journal.history.delivered(),
            journal.history.last()
        );
    }
}
