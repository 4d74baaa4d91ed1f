//! A follower or an observer (quorum spec, 5.5, 6.3, 6.4 and 7).
//!
//! ```text
//!  Connecting ─▶ AwaitingLeaderInfo ─▶ SavingAcceptedEpoch ─▶ AwaitingSync ─▶ Receiving ─NEWLEADER─┐
//!                                                                                                   ▼
//!  Broadcast ◀─UPTODATE─ AwaitingUpToDate ◀─ACK─ SavingEpoch ◀─ SavingHistory ◀─ Truncating (TRUNC only)
//! ```
//!
//! History, then epoch, then ACK (Z9). What is received is kept in memory until NEWLEADER, so a synchronisation
//! that breaks off leaves the disk and the tree as they were (ZOOKEEPER-3642, 5094). Nothing is delivered before
//! UPTODATE: only then a quorum is known to have it.

use std::collections::VecDeque;
use std::sync::Arc;

use oxkeeper_types::{ServerId, Zxid};

use crate::configuration::{Change, Configuration};
use crate::history::{EPOCH_MAX, follows};
use crate::journal::{Done, NO_HISTORY, Write};
use crate::message::{Entry, LinkId, Message};
use crate::planted::PlantedBug;
use crate::timers::Timer;
use crate::zab::{Action, CloseReason, Context, Incarnation, Next, PeerFault, Reason, SyncMethod};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connecting,
    AwaitingLeaderInfo,
    SavingAcceptedEpoch,
    AwaitingSync,
    Receiving,
    Truncating,
    SavingHistory,
    SavingEpoch,
    AwaitingUpToDate,
    Broadcast,
}

/// Where the received history begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    /// After the own history.
    Own,
    /// After this zxid of the own history.
    Truncated(Zxid),
    /// After a snapshot; whether it has come in whole.
    Snapshot { zxid: Zxid, whole: bool },
    /// At the very beginning.
    Nothing,
}

#[derive(Debug)]
pub(crate) struct Learner {
    leader: ServerId,
    observer: bool,
    link: Option<LinkId>,
    step: Step,
    /// How often the leader could not be reached.
    tries: u32,
    epoch: u32,
    base: Base,
    /// The last proposal received; the next one must follow it.
    tail: Zxid,
    /// Committed before NEWLEADER: what NEWLEADER's ACK vouches for.
    synced: Vec<Entry>,
    /// Proposed but not committed before NEWLEADER, or proposed after it: to be logged after UPTODATE.
    pending: VecDeque<Entry>,
    /// How many of `pending` were committed after NEWLEADER.
    pending_committed: usize,
    /// What NEWLEADER told.
    configuration: Option<Arc<Configuration>>,
    /// How many txns came before UPTODATE, and their bytes.
    received: (usize, usize),
}

impl Learner {
    pub(crate) fn start(leader: ServerId, context: &mut Context) -> Learner {
        let observer = observes(context);
        context.set_timer(Timer::InitLimit, context.settings.init_limit_ms());
        let incarnation = Incarnation(context.incarnation);
        context.push(Action::ConnectToLeader { leader, incarnation });
        Learner {
            leader,
            observer,
            link: None,
            step: Step::Connecting,
            tries: 0,
            epoch: 0,
            base: Base::Own,
            tail: Zxid::ZERO,
            synced: Vec::new(),
            pending: VecDeque::new(),
            pending_committed: 0,
            configuration: None,
            received: (0, 0),
        }
    }

    pub(crate) fn link(&self) -> Option<LinkId> {
        self.link
    }

    pub(crate) fn is_observer(&self) -> bool {
        self.observer
    }

    pub(crate) fn epoch(&self) -> Option<u32> {
        let known = !matches!(self.step, Step::Connecting | Step::AwaitingLeaderInfo);
        known.then_some(self.epoch)
    }

    pub(crate) fn phase_text(&self) -> &'static str {
        match (self.step, self.base) {
            (Step::Connecting | Step::AwaitingLeaderInfo | Step::SavingAcceptedEpoch, _) => "discovery",
            (Step::AwaitingSync | Step::AwaitingUpToDate, _) => "synchronization",
            (Step::Broadcast, _) => "broadcast",
            (Step::Receiving | Step::Truncating | Step::SavingHistory | Step::SavingEpoch, base) => {
                match base {
                    Base::Own => "synchronization - diff",
                    Base::Truncated(_) | Base::Nothing => "synchronization - trunc",
                    Base::Snapshot { .. } => "synchronization - snap",
                }
            }
        }
    }

    pub(crate) fn close(&mut self, context: &mut Context) {
        if let Some(link) = self.link.take() {
            context.push(Action::CloseLink(link, CloseReason::RoleEnded));
        }
    }

    pub(crate) fn handle_unreachable(&mut self, context: &mut Context) -> Next {
        if self.step == Step::Connecting {
            self.tries += 1;
            if self.tries >= context.settings.connect_tries_max {
                return Err(Reason::LeaderUnreachable);
            }
            let times = 1_u64 << (self.tries - 1).min(4);
            context.set_timer(
                Timer::ConnectRetry,
                context.settings.connect_retry_ms * times.min(10),
            );
        }
        Ok(())
    }

    pub(crate) fn handle_connected(&mut self, link: LinkId, context: &mut Context) {
        if self.step != Step::Connecting {
            context.push(Action::CloseLink(link, CloseReason::NotLeading));
            return;
        }
        self.link = Some(link);
        self.step = Step::AwaitingLeaderInfo;
        context.timers.stop(Timer::ConnectRetry);
        self.note_heard(context);
        let message = Message::LearnerInfo {
            server: context.settings.me,
            observer: self.observer,
            accepted_epoch: context.journal.accepted_epoch(),
            config_version: context.configurations.committed().version,
        };
        context.send(link, message);
    }

    pub(crate) fn handle_deadline(&mut self, context: &mut Context) -> Next {
        if context.timers.fires(Timer::InitLimit, context.now_ms) {
            return Err(Reason::InitLimit);
        }
        if context.timers.fires(Timer::SyncLimit, context.now_ms) {
            return Err(Reason::LeaderSilent);
        }
        if context.timers.fires(Timer::ConnectRetry, context.now_ms) {
            let (leader, incarnation) = (self.leader, Incarnation(context.incarnation));
            context.push(Action::ConnectToLeader { leader, incarnation });
        }
        Ok(())
    }

    pub(crate) fn handle_snapshot(&mut self) -> Next {
        match &mut self.base {
            Base::Snapshot { whole, .. } if self.step == Step::Receiving => {
                *whole = true;
                Ok(())
            }
            Base::Own | Base::Truncated(_) | Base::Snapshot { .. } | Base::Nothing => {
                Err(Reason::Fault(PeerFault::Unexpected))
            }
        }
    }

    /// Part of a snapshot has come in.
    pub(crate) fn handle_progress(&self, context: &mut Context) {
        if self.step == Step::Receiving {
            self.note_heard(context);
        }
    }

    /// The leader lives: give it `syncLimit` in broadcast. Before, it may wait for others, or for this server's disk,
    /// and Java's leaders send no PINGs then: give it `initLimit`.
    fn note_heard(&self, context: &mut Context) {
        let silence_max = match self.step {
            Step::Broadcast => context.settings.sync_limit_ms(),
            _ => context.settings.init_limit_ms(),
        };
        context.timers.stop(Timer::InitLimit);
        context.set_timer(Timer::SyncLimit, silence_max);
    }

    fn send(&self, message: Message, context: &mut Context) {
        let link = self
            .link
            .expect("a learner that has heard of its leader has a link");
        context.send(link, message);
    }

    pub(crate) fn handle_message(&mut self, message: Message, context: &mut Context) -> Next {
        self.note_heard(context);
        self.take(message, context)
            .or_else(|reason| self.ask_for_snapshot_or_end(reason, context))
    }

    /// When the history cannot be mended by what the leader sends, a snapshot is asked for over a new link: at once,
    /// because a leader that needs this server for its quorum would be given up in every epoch anew. A second time,
    /// or when something is written already, it is a reason to look for a leader.
    fn ask_for_snapshot_or_end(&mut self, reason: Reason, context: &mut Context) -> Next {
        let by_txns = !matches!(self.base, Base::Snapshot { .. });
        let helps = match reason {
            Reason::Fault(PeerFault::ProposalGap { .. }) | Reason::TruncateRefused => true,
            Reason::BacklogTooLarge => self.step == Step::Receiving && by_txns,
            _ => false,
        };
        if !helps {
            return Err(reason);
        }
        let asked_before = context.resync_epoch == Some(self.epoch);
        context.resync_epoch = Some(self.epoch);
        if asked_before || !matches!(self.step, Step::Receiving | Step::Truncating) {
            return Err(reason);
        }
        if let Some(link) = self.link.take() {
            context.push(Action::CloseLink(link, CloseReason::AsksForSnapshot));
        }
        context.timers.stop_all();
        *self = Learner::start(self.leader, context);
        Ok(())
    }

    fn take(&mut self, message: Message, context: &mut Context) -> Next {
        match message {
            Message::LeaderInfo { epoch } => self.handle_leader_info(epoch, context),
            Message::Diff(_) => self.handle_diff(context),
            Message::Trunc(zxid) => self.handle_trunc(zxid, context),
            Message::Snap(zxid) => self.begin_receiving(Base::Snapshot { zxid, whole: false }, zxid, context),
            Message::Proposal(entry) => self.handle_proposal(entry, context),
            Message::Commit(zxid) => self.handle_commit(zxid, None, context),
            Message::CommitAndActivate { zxid, leader } => self.handle_commit(zxid, Some(leader), context),
            Message::Inform(entry) => self.handle_inform(entry, None, context),
            Message::InformAndActivate { entry, leader } => self.handle_inform(entry, Some(leader), context),
            Message::NewLeader { epoch, configuration } => {
                self.handle_new_leader(epoch, configuration, context)
            }
            Message::UpToDate => self.handle_up_to_date(context),
            Message::Ping(zxid) => {
                // Before UPTODATE a PING is a sign of life only, as with Java's learners.
                if let (Step::Broadcast, Some(link)) = (self.step, self.link) {
                    context.push(Action::AnswerPing { link, zxid });
                }
                Ok(())
            }
            Message::Opaque { .. } => {
                if let Some(link) = self.link {
                    let from = self.leader;
                    context.push(Action::PassOn { link, from, message });
                }
                Ok(())
            }
            Message::LearnerInfo { .. } | Message::AckEpoch { .. } | Message::Ack(_) | Message::Pong(..) => {
                Err(Reason::Fault(PeerFault::Unexpected))
            }
        }
    }

    fn expect(&self, step: Step) -> Next {
        if self.step == step {
            Ok(())
        } else {
            Err(Reason::Fault(PeerFault::Unexpected))
        }
    }

    fn handle_leader_info(&mut self, epoch: u32, context: &mut Context) -> Next {
        self.expect(Step::AwaitingLeaderInfo)?;
        if epoch >= EPOCH_MAX {
            return Err(Reason::Fault(PeerFault::Unexpected));
        }
        self.epoch = epoch;
        let accepted = context.journal.accepted_epoch();
        if epoch < accepted {
            return Err(Reason::Fault(PeerFault::StaleEpoch {
                accepted,
                theirs: epoch,
            }));
        }
        if epoch == accepted {
            // Promised before: this answer is not counted again. Only now may the own history be denied, to get a
            // snapshot: the leader does not conclude anything from it.
            let resync = context.resync_epoch == Some(epoch);
            let has_nothing = context.history().last() == NO_HISTORY;
            let last_zxid = if resync {
                Zxid::ZERO
            } else {
                context.history().last()
            };
            self.step = Step::AwaitingSync;
            self.base = if resync || has_nothing {
                Base::Nothing
            } else {
                Base::Own
            };
            self.send(
                Message::AckEpoch {
                    last_zxid,
                    current_epoch: None,
                },
                context,
            );
            return Ok(());
        }
        context.write(Write::AcceptedEpoch(epoch));
        self.step = Step::SavingAcceptedEpoch;
        if !context.guards(PlantedBug::AckEpochBeforeSaved) {
            self.promise(context);
        }
        Ok(())
    }

    /// The promise is on disk: tell the leader, and how fresh our history is.
    fn promise(&mut self, context: &mut Context) {
        self.step = Step::AwaitingSync;
        if context.history().last() == NO_HISTORY {
            self.base = Base::Nothing;
        }
        let message = Message::AckEpoch {
            last_zxid: context.history().last(),
            current_epoch: Some(context.journal.current_epoch()),
        };
        self.send(message, context);
    }

    fn begin_receiving(&mut self, base: Base, tail: Zxid, context: &mut Context) -> Next {
        self.expect(Step::AwaitingSync)?;
        self.step = Step::Receiving;
        self.base = base;
        self.tail = tail;
        context.push(Action::Synchronizing {
            learner: context.settings.me,
            method: match base {
                Base::Own => SyncMethod::Diff,
                Base::Truncated(_) | Base::Nothing => SyncMethod::Trunc,
                Base::Snapshot { .. } => SyncMethod::Snap,
            },
            from: context.history().last(),
            to: tail,
        });
        Ok(())
    }

    fn handle_diff(&mut self, context: &mut Context) -> Next {
        // Who denied its history and gets a DIFF all the same gets everything from the beginning.
        match self.base {
            Base::Nothing => self.begin_receiving(Base::Nothing, Zxid::ZERO, context),
            Base::Own | Base::Truncated(_) | Base::Snapshot { .. } => {
                self.begin_receiving(Base::Own, context.history().last(), context)
            }
        }
    }

    fn handle_trunc(&mut self, zxid: Zxid, context: &mut Context) -> Next {
        let last = context.history().last();
        if zxid == Zxid::ZERO {
            self.begin_receiving(Base::Nothing, zxid, context)
        } else if self.base == Base::Nothing || zxid > last {
            Err(Reason::Fault(PeerFault::TruncateAhead(zxid)))
        } else if zxid == last {
            self.begin_receiving(Base::Own, last, context)
        } else {
            self.begin_receiving(Base::Truncated(zxid), zxid, context)
        }
    }

    /// Whether the proposal comes next. Otherwise something is missing.
    fn check_follows(last: Zxid, zxid: Zxid, context: &Context) -> Next {
        if follows(last, zxid) || (zxid > last && !context.guards(PlantedBug::GapsAccepted)) {
            return Ok(());
        }
        Err(Reason::Fault(PeerFault::ProposalGap { last, got: zxid }))
    }

    /// A snapshot may contain what was proposed while it was taken.
    fn is_in_snapshot(&self, zxid: Zxid) -> bool {
        matches!(self.base, Base::Snapshot { zxid: end, .. } if zxid <= end)
    }

    /// What comes before UPTODATE is kept in memory.
    fn check_received(&mut self, entry: &Entry, context: &Context) -> Next {
        self.received.0 += 1;
        self.received.1 += entry.txn.len();
        if is_over(self.received, context) {
            return Err(Reason::BacklogTooLarge);
        }
        Ok(())
    }

    /// What the leader proposes waits in memory for the disk and for its commit.
    fn check_backlog(context: &Context) -> Next {
        if is_over(context.history().backlog(), context) || is_over(context.journal.backlog(), context) {
            Err(Reason::BacklogTooLarge)
        } else {
            Ok(())
        }
    }

    fn handle_proposal(&mut self, entry: Entry, context: &mut Context) -> Next {
        match self.step {
            Step::Receiving if self.is_in_snapshot(entry.zxid) => Ok(()),
            Step::Receiving
            | Step::Truncating
            | Step::SavingHistory
            | Step::SavingEpoch
            | Step::AwaitingUpToDate => {
                Self::check_follows(self.tail, entry.zxid, context)?;
                self.check_received(&entry, context)?;
                self.tail = entry.zxid;
                self.pending.push_back(entry);
                Ok(())
            }
            // An observer is informed of commits; a proposal is of no use to it.
            Step::Broadcast if self.observer => Ok(()),
            Step::Broadcast => {
                Self::check_follows(context.history().last(), entry.zxid, context)?;
                self.log(entry, context);
                Self::check_backlog(context)
            }
            Step::Connecting | Step::AwaitingLeaderInfo | Step::SavingAcceptedEpoch | Step::AwaitingSync => {
                Err(Reason::Fault(PeerFault::Unexpected))
            }
        }
    }

    /// `leader`: who is to lead under the configuration that becomes committed.
    fn handle_commit(&mut self, zxid: Zxid, leader: Option<ServerId>, context: &mut Context) -> Next {
        let unexpected = Err(Reason::Fault(PeerFault::UnexpectedCommit(zxid)));
        match self.step {
            Step::Receiving if self.is_in_snapshot(zxid) => Ok(()),
            Step::Receiving => match self.pending.pop_front() {
                Some(entry) if entry.zxid == zxid => {
                    self.synced.push(entry);
                    Ok(())
                }
                Some(_) | None => unexpected,
            },
            Step::Truncating | Step::SavingHistory | Step::SavingEpoch | Step::AwaitingUpToDate => {
                if self.pending.get(self.pending_committed).map(|entry| entry.zxid) != Some(zxid) {
                    return unexpected;
                }
                self.pending_committed += 1;
                Ok(())
            }
            Step::Broadcast if self.observer => Ok(()),
            Step::Broadcast => {
                if context.history().undelivered().map(|entry| entry.zxid) != Some(zxid) {
                    return unexpected;
                }
                let change = context.commit_through(zxid);
                self.check_change(change, leader, context)
            }
            Step::Connecting | Step::AwaitingLeaderInfo | Step::SavingAcceptedEpoch | Step::AwaitingSync => {
                unexpected
            }
        }
    }

    fn handle_inform(&mut self, entry: Entry, leader: Option<ServerId>, context: &mut Context) -> Next {
        let zxid = entry.zxid;
        if self.step == Step::Broadcast {
            Self::check_follows(context.history().last(), zxid, context)?;
            context.write(Write::Append(entry));
            let change = context.commit_through(zxid);
            self.check_change(change, leader, context)?;
            return Self::check_backlog(context);
        }
        self.handle_proposal(entry, context)?;
        self.handle_commit(zxid, leader, context)
    }

    /// Whether the role can go on under another configuration.
    fn check_change(&self, change: Option<Change>, leader: Option<ServerId>, context: &Context) -> Next {
        let Some(change) = change.filter(Change::is_of_members) else {
            return Ok(());
        };
        match leader {
            Some(leader) if leader != self.leader => Err(Reason::Designated(leader)),
            None if !change.before.keeps_voter(self.leader, &change.after) => Err(Reason::Reconfigured),
            Some(_) | None if self.observer != observes(context) => Err(Reason::Reconfigured),
            Some(_) | None => Ok(()),
        }
    }

    fn handle_new_leader(
        &mut self,
        epoch: u32,
        configuration: Option<Arc<Configuration>>,
        context: &mut Context,
    ) -> Next {
        self.expect(Step::Receiving)?;
        if epoch != self.epoch {
            return Err(Reason::Fault(PeerFault::StaleEpoch {
                accepted: self.epoch,
                theirs: epoch,
            }));
        }
        if !context.guards(PlantedBug::EpochBeforeHistory) && context.journal.current_epoch() < epoch {
            context.write(Write::CurrentEpoch(epoch));
        }
        if !context.guards(PlantedBug::ForgetPendingAtNewLeader) {
            self.pending.clear();
        }
        self.configuration = configuration;
        match self.base {
            Base::Own => self.save_synced(context),
            Base::Truncated(to) => {
                let reload =
                    context.history().delivered() > to && context.guards(PlantedBug::KeepTreeOnTruncate);
                context.write(Write::Truncate { to, reload });
                self.step = Step::Truncating;
                Ok(())
            }
            Base::Snapshot { whole: false, .. } => Err(Reason::Fault(PeerFault::Unexpected)),
            Base::Snapshot { zxid, whole: true } => {
                let entries = std::mem::take(&mut self.synced);
                context.write(Write::Install {
                    snapshot: self.link,
                    zxid,
                    entries,
                });
                self.save_configuration(context);
                self.step = Step::SavingHistory;
                Ok(())
            }
            Base::Nothing => {
                let entries = std::mem::take(&mut self.synced);
                context.write(Write::Install {
                    snapshot: None,
                    zxid: Zxid::ZERO,
                    entries,
                });
                self.save_configuration(context);
                self.step = Step::SavingHistory;
                Ok(())
            }
        }
    }

    fn save_synced(&mut self, context: &mut Context) -> Next {
        self.step = Step::SavingHistory;
        for entry in std::mem::take(&mut self.synced) {
            context.write(Write::Append(entry));
        }
        self.save_configuration(context);
        if !context.guards(PlantedBug::AckNewLeaderBeforeHistory) {
            return self.save_epoch(context);
        }
        self.save_epoch_when_history_is_durable(context)
    }

    /// The configuration that the epoch begins with goes with the history: what an uncommitted txn may have proposed
    /// besides is forgotten with that txn, not before.
    fn save_configuration(&self, context: &mut Context) {
        if let Some(configuration) = &self.configuration
            && context.may_reconfigure()
        {
            context.set_next_configuration(Some(configuration.clone()));
        }
    }

    fn save_epoch_when_history_is_durable(&mut self, context: &mut Context) -> Next {
        if context.journal.is_quiet() {
            self.save_epoch(context)
        } else {
            Ok(())
        }
    }

    fn save_epoch(&mut self, context: &mut Context) -> Next {
        context.resync_epoch = None;
        self.step = Step::SavingEpoch;
        if !context.guards(PlantedBug::AckNewLeaderBeforeHistory) {
            context.write(Write::CurrentEpoch(self.epoch));
            self.acknowledge_new_leader(context);
            return Ok(());
        }
        if context.journal.current_epoch() == self.epoch {
            self.acknowledge_new_leader(context);
            return Ok(());
        }
        context.write(Write::CurrentEpoch(self.epoch));
        Ok(())
    }

    /// The history is durable, and the epoch that vouches for it.
    fn acknowledge_new_leader(&mut self, context: &mut Context) {
        self.step = Step::AwaitingUpToDate;
        if !context.guards(PlantedBug::AckProposalBeforeNewLeader) && !self.observer {
            for entry in &self.pending {
                self.send(Message::Ack(entry.zxid), context);
            }
        }
        self.send(Message::Ack(Zxid::new(self.epoch, 0)), context);
        if !context.guards(PlantedBug::ServeBeforeUpToDate) {
            let _is_awaited = self.handle_up_to_date(context);
        }
    }

    fn handle_up_to_date(&mut self, context: &mut Context) -> Next {
        if self.step == Step::Broadcast && !context.guards(PlantedBug::ServeBeforeUpToDate) {
            return Ok(());
        }
        self.expect(Step::AwaitingUpToDate)?;
        self.step = Step::Broadcast;
        self.note_heard(context);
        self.send(Message::Ack(Zxid::new(self.epoch, 0)), context);
        // A quorum has everything up to NEWLEADER.
        context.deliver_through(context.history().last());
        let next = context.configurations.newest().clone();
        let is_proposed = self.pending.iter().any(|entry| entry.zxid.0 == next.version);
        let change = match is_proposed && context.guards(PlantedBug::ProposedConfigurationTold) {
            true => None,
            false => context.commit_configuration(next),
        };
        context.serve(self.epoch, self.leader);
        let mut changes: Vec<Change> = change.into_iter().collect();
        for (at, entry) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let zxid = entry.zxid;
            self.log(entry, context);
            // Before the next is logged, which may propose a further configuration.
            if at < self.pending_committed {
                changes.extend(context.commit_through(zxid));
            }
        }
        changes
            .into_iter()
            .try_for_each(|change| self.check_change(Some(change), None, context))
    }

    fn log(&self, entry: Entry, context: &mut Context) {
        let zxid = entry.zxid;
        context.write(Write::Append(entry));
        if !context.guards(PlantedBug::AckBeforeDurable) && !self.observer {
            self.send(Message::Ack(zxid), context);
        }
    }

    pub(crate) fn handle_done(&mut self, done: &Done, context: &mut Context) -> Next {
        match (self.step, done) {
            (Step::SavingAcceptedEpoch, Done::AcceptedEpoch) => self.promise(context),
            (Step::Truncating, Done::Truncated) => return self.save_synced(context),
            (Step::Truncating, Done::TruncateRefused) => {
                return self.ask_for_snapshot_or_end(Reason::TruncateRefused, context);
            }
            (
                Step::SavingHistory,
                Done::Appended(_) | Done::Installed | Done::CurrentEpoch | Done::Configuration,
            ) => {
                return self.save_epoch_when_history_is_durable(context);
            }
            (Step::SavingEpoch, Done::CurrentEpoch) => self.acknowledge_new_leader(context),
            (Step::Broadcast, Done::Appended(zxid))
                if !self.observer && context.guards(PlantedBug::AckBeforeDurable) =>
            {
                self.send(Message::Ack(*zxid), context);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether this server only listens. Who is in no configuration follows like a voter, and is not counted.
fn observes(context: &Context) -> bool {
    let me = context.settings.me;
    let committed = &context.configurations.committed().quorum;
    !context.configurations.is_voter(me) && committed.observers().contains(&me)
}

fn is_over((entries, bytes): (usize, usize), context: &Context) -> bool {
    entries > context.settings.backlog_entries_max || bytes > context.settings.backlog_bytes_max
}
