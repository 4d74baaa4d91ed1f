//! The leader (quorum spec, 5 to 7).
//!
//! ```text
//!  CollectingEpochs ──quorum──▶ SavingAcceptedEpoch ─▶ CollectingPromises ──quorum──▶ Synchronizing ──quorum──▶ Broadcast
//!   FOLLOWERINFO                    (on disk)           LEADERINFO, ACKEPOCH           NEWLEADER, ACK           UPTODATE
//! ```
//!
//! Each learner goes through [`Step`] by itself, whenever it comes.

mod progress;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use oxkeeper_types::{ServerId, Zxid};

use crate::configuration::Configuration;
use crate::history::{EPOCH_MAX, SyncPlan, follows};
use crate::journal::{Done, NO_HISTORY, Write};
use crate::message::{Entry, LinkId, Message};
use crate::planted::PlantedBug;
use crate::quorum::QuorumVerifier;
use crate::timers::Timer;
use crate::zab::{Action, CloseReason, Context, LearnerView, Next, Reason, SyncMethod};
use progress::{LearnerProgress, Step};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    CollectingEpochs,
    SavingAcceptedEpoch,
    CollectingPromises,
    Synchronizing,
    Broadcast,
}

/// A txn that is proposed and not committed.
#[derive(Debug)]
struct Outstanding {
    zxid: Zxid,
    /// The servers that have it on disk, whether they vote or not: they may before it is committed. There are few.
    acks: Vec<ServerId>,
}

#[derive(Debug)]
pub(crate) struct Leader {
    me: ServerId,
    phase: Phase,
    /// The new epoch; until it is decided, 1 more than the largest that was accepted anywhere.
    epoch: u32,
    /// How fresh this server was when it began: nobody who promises may be fresher.
    freshness: (u32, Zxid),
    learners: BTreeMap<LinkId, LearnerProgress>,
    /// The learners that told their accepted epoch. Those of them count, here and below, that vote: one that comes as
    /// an observer does when the next configuration makes it a voter, of which it need not know yet.
    connected: BTreeSet<ServerId>,
    /// Those that promised to follow no older leader.
    promised: BTreeSet<ServerId>,
    /// Those that have the history this epoch begins with.
    synced: BTreeSet<ServerId>,
    /// Ascending, without gaps, all above `committed`, all in the history.
    outstanding: VecDeque<Outstanding>,
    /// The end of what is committed; at first, of the history that this epoch begins with.
    committed: Zxid,
    last_proposed: Zxid,
    half_ticks: u64,
    elected_ms: u64,
}

impl Leader {
    pub(crate) fn new(context: &Context) -> Leader {
        let me = context.settings.me;
        let journal = &context.journal;
        Leader {
            me,
            phase: Phase::CollectingEpochs,
            epoch: journal.accepted_epoch().max(context.epoch_heard) + 1,
            freshness: (journal.current_epoch(), journal.history.last()),
            learners: BTreeMap::new(),
            connected: [me].into(),
            promised: BTreeSet::new(),
            synced: BTreeSet::new(),
            outstanding: VecDeque::new(),
            committed: journal.history.last(),
            last_proposed: journal.history.last(),
            half_ticks: 0,
            elected_ms: context.now_ms,
        }
    }

    pub(crate) fn start(&mut self, context: &mut Context) -> Next {
        context.push(Action::AcceptLearners(true));
        context.set_timer(Timer::InitLimit, context.settings.init_limit_ms());
        self.decide_epoch(context);
        Ok(())
    }

    pub(crate) fn close(&mut self, context: &mut Context) {
        for link in std::mem::take(&mut self.learners).into_keys() {
            context.push(Action::CloseLink(link, CloseReason::RoleEnded));
        }
        context.push(Action::AcceptLearners(false));
    }

    pub(crate) fn epoch(&self) -> Option<u32> {
        let decided = !matches!(self.phase, Phase::CollectingEpochs | Phase::SavingAcceptedEpoch);
        decided.then_some(self.epoch)
    }

    pub(crate) fn phase_text(&self) -> &'static str {
        match self.phase {
            Phase::CollectingEpochs | Phase::SavingAcceptedEpoch | Phase::CollectingPromises => "discovery",
            Phase::Synchronizing => "synchronization",
            Phase::Broadcast => "broadcast",
        }
    }

    pub(crate) fn views(&self, context: &Context) -> impl Iterator<Item = LearnerView> {
        let known = self.learners.iter().filter(|(_, l)| l.step > Step::Connected);
        known.map(|(link, learner)| LearnerView {
            link: *link,
            server: learner.server,
            is_observer: learner.observer,
            is_voter: !learner.observer && context.configurations.is_voter(learner.server),
            is_synced: learner.step == Step::Active,
            last_acked: learner.last_acked,
        })
    }

    pub(crate) fn is_quorum_synced(&self, quorum: &QuorumVerifier) -> bool {
        let active = self
            .learners
            .values()
            .filter(|l| l.step == Step::Active && !l.observer);
        let synced = active.map(|learner| learner.server).chain([self.me]).collect();
        self.phase == Phase::Broadcast && quorum.contains_quorum(&synced)
    }

    pub(crate) fn next_zxid(&self, context: &Context) -> Option<Zxid> {
        let used_up = self.last_proposed.counter() >= context.settings.counter_max
            && context.guards(PlantedBug::CounterNotWatched);
        (self.phase == Phase::Broadcast && !used_up).then(|| self.last_proposed.next())
    }

    /// Who dials tells at once who it is. Of those that do not, the latest may still.
    pub(crate) fn handle_connected(&mut self, link: LinkId, context: &mut Context) {
        self.learners.insert(link, LearnerProgress::new(context.now_ms));
        let mut unnamed = self.learners.iter().filter(|(_, l)| l.step == Step::Connected);
        let oldest = unnamed.next().map(|(link, _)| *link);
        if let Some(oldest) = oldest
            && 1 + unnamed.count() > context.settings.unnamed_links_max
        {
            self.drop_learner(oldest, CloseReason::TooManyUnnamed, context);
        }
    }

    pub(crate) fn handle_closed(&mut self, link: LinkId, _context: &mut Context) -> Next {
        self.learners.remove(&link);
        Ok(())
    }

    fn drop_learner(&mut self, link: LinkId, reason: CloseReason, context: &mut Context) {
        self.learners.remove(&link);
        context.push(Action::CloseLink(link, reason));
    }

    /// A learner broke the protocol, or may not follow: only it is dropped.
    pub(crate) fn handle_message(&mut self, link: LinkId, message: Message, context: &mut Context) -> Next {
        let Some(learner) = self.learners.get_mut(&link) else {
            return Ok(());
        };
        learner.heard_ms = context.now_ms;
        let step = learner.step;
        match message {
            Message::LearnerInfo {
                server,
                observer,
                accepted_epoch,
                config_version,
            } if step == Step::Connected && accepted_epoch < EPOCH_MAX && server != self.me => {
                let ours = context.configurations.committed().version;
                if config_version > ours {
                    // It knows who decides, and this leader does not.
                    let theirs = config_version;
                    let reason = CloseReason::AheadInConfiguration { theirs, ours };
                    self.drop_learner(link, reason, context);
                    return Ok(());
                }
                learner.server = server;
                learner.observer = observer;
                learner.step = Step::AwaitingEpoch;
                return self.handle_learner_info(link, server, accepted_epoch, context);
            }
            Message::AckEpoch {
                last_zxid,
                current_epoch,
            } if step == Step::AwaitingAckEpoch => {
                self.handle_ack_epoch(link, last_zxid, current_epoch, context);
            }
            Message::Ack(zxid) if step >= Step::AwaitingNewLeaderAck => {
                return self.handle_ack(link, zxid, context);
            }
            Message::Pong(..) | Message::Opaque { .. } if step == Step::Active => {
                let from = learner.server;
                context.push(Action::PassOn { link, from, message });
            }
            Message::LearnerInfo { .. }
            | Message::LeaderInfo { .. }
            | Message::AckEpoch { .. }
            | Message::Diff(_)
            | Message::Trunc(_)
            | Message::Snap(_)
            | Message::Proposal(_)
            | Message::Commit(_)
            | Message::CommitAndActivate { .. }
            | Message::Inform(_)
            | Message::InformAndActivate { .. }
            | Message::NewLeader { .. }
            | Message::UpToDate
            | Message::Ack(_)
            | Message::Ping(_)
            | Message::Pong(..)
            | Message::Opaque { .. } => self.drop_learner(link, CloseReason::Unexpected, context),
        }
        Ok(())
    }

    fn handle_learner_info(
        &mut self,
        link: LinkId,
        server: ServerId,
        accepted_epoch: u32,
        context: &mut Context,
    ) -> Next {
        // A server has one link. When a new one comes, the old is dead and only not noticed yet.
        let older = self
            .learners
            .iter()
            .find(|(id, l)| **id != link && l.is_server(server))
            .map(|(id, _)| *id);
        if let Some(older) = older {
            self.drop_learner(older, CloseReason::Replaced, context);
        }
        if context.configurations.is_member(server) {
            context.epoch_heard = context.epoch_heard.max(accepted_epoch);
        } else {
            let is_stranger =
                |l: &LearnerProgress| l.step > Step::Connected && !context.configurations.is_member(l.server);
            let strangers = self.learners.values().filter(|l| is_stranger(l)).count();
            if strangers > context.settings.strangers_max {
                self.drop_learner(link, CloseReason::TooManyStrangers, context);
                return Ok(());
            }
        }
        let Some(learner) = self.learners.get_mut(&link) else {
            return Ok(());
        };
        match self.phase {
            Phase::CollectingEpochs => {
                self.connected.insert(server);
                if context.guards(PlantedBug::ReuseEpoch) {
                    self.epoch = self.epoch.max(accepted_epoch + 1);
                }
                self.decide_epoch(context);
            }
            Phase::SavingAcceptedEpoch => {}
            Phase::CollectingPromises | Phase::Synchronizing | Phase::Broadcast => {
                if accepted_epoch > self.epoch && context.configurations.is_member(server) {
                    // It could never follow this leader, nor would anything else ever change that.
                    return Err(Reason::LaterEpochPromised);
                }
                learner.step = Step::AwaitingAckEpoch;
                context.send(link, Message::LeaderInfo { epoch: self.epoch });
            }
        }
        Ok(())
    }

    pub(crate) fn handle_elector_looking(&self, context: &Context) -> Next {
        let waits_ms = context.now_ms - self.elected_ms;
        match context.settings.epoch_wait_max_ms {
            Some(max_ms) if self.phase == Phase::CollectingEpochs && waits_ms > max_ms => {
                Err(Reason::ElectorLost)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether these servers may establish an epoch.
    fn is_quorum(servers: &BTreeSet<ServerId>, context: &Context) -> bool {
        context.configurations.contains_quorum(servers)
            || !context.guards(PlantedBug::OldQuorumEstablishes)
                && context
                    .configurations
                    .may_decide_by_committed(|server| servers.contains(&server))
    }

    fn decide_epoch(&mut self, context: &mut Context) {
        if self.phase == Phase::CollectingEpochs && Leader::is_quorum(&self.connected, context) {
            self.phase = Phase::SavingAcceptedEpoch;
            context.write(Write::AcceptedEpoch(self.epoch));
        }
    }

    fn handle_epoch_saved(&mut self, context: &mut Context) {
        self.phase = Phase::CollectingPromises;
        self.promised.insert(self.me);
        self.name_first_configuration(context);
        context.set_timer(Timer::InitLimit, context.settings.init_limit_ms());
        for (link, learner) in &mut self.learners {
            if learner.step == Step::AwaitingEpoch {
                learner.step = Step::AwaitingAckEpoch;
                context.send(*link, Message::LeaderInfo { epoch: self.epoch });
            }
        }
        self.begin_synchronization(context);
    }

    /// A configuration that was never changed gets a version when its first leader is established, so that it is
    /// known from what a server that is to join believes (ZOOKEEPER-1783).
    fn name_first_configuration(&self, context: &mut Context) {
        let first = context.configurations.newest();
        if context.may_reconfigure() && first.version == 0 {
            let version = Zxid::new(self.epoch, 0).0;
            let named = Configuration {
                version,
                ..(**first).clone()
            };
            context.set_next_configuration(Some(Arc::new(named)));
        }
    }

    fn handle_ack_epoch(
        &mut self,
        link: LinkId,
        last_zxid: Zxid,
        current_epoch: Option<u32>,
        context: &mut Context,
    ) {
        let Some(learner) = self.learners.get_mut(&link) else {
            return;
        };
        if self.phase != Phase::CollectingPromises {
            self.synchronize(link, last_zxid, context);
            return;
        }
        if let Some(current_epoch) = current_epoch {
            if (current_epoch, last_zxid) > self.freshness
                && context.guards(PlantedBug::FresherLearnerAccepted)
            {
                self.drop_learner(link, CloseReason::Fresher(last_zxid), context);
                return;
            }
            if last_zxid != NO_HISTORY {
                self.promised.insert(learner.server);
            }
        }
        learner.step = Step::AwaitingPromises { last_zxid };
        self.begin_synchronization(context);
    }

    fn begin_synchronization(&mut self, context: &mut Context) {
        if !Leader::is_quorum(&self.promised, context) {
            return;
        }
        self.phase = Phase::Synchronizing;
        self.last_proposed = Zxid::new(self.epoch, 0);
        // Whoever is synchronised gets the history to its end, and the tree is to be no less.
        context.deliver_through(self.committed);
        context.write(Write::CurrentEpoch(self.epoch));
        context.set_timer(Timer::InitLimit, context.settings.init_limit_ms());
        context.set_timer(Timer::Ping, context.settings.tick_ms / 2);
        let waiting: Vec<(LinkId, Zxid)> = self
            .learners
            .iter()
            .filter_map(|(link, learner)| match learner.step {
                Step::AwaitingPromises { last_zxid } => Some((*link, last_zxid)),
                Step::Connected
                | Step::AwaitingEpoch
                | Step::AwaitingAckEpoch
                | Step::ReadingLog { .. }
                | Step::SendingSnapshot
                | Step::AwaitingNewLeaderAck
                | Step::Synced
                | Step::Active => None,
            })
            .collect();
        for (link, last_zxid) in waiting {
            self.synchronize(link, last_zxid, context);
        }
    }

    /// Brings a learner whose history ends at `peer` to ours.
    fn synchronize(&mut self, link: LinkId, peer: Zxid, context: &mut Context) {
        // What it acknowledged over an earlier link it may now be told to forget; it will be sent again.
        if let Some(learner) = self.learners.get(&link)
            && context.guards(PlantedBug::AcksSurviveReconnect)
        {
            for outstanding in &mut self.outstanding {
                outstanding.acks.retain(|server| *server != learner.server);
            }
        }
        let history = context.history();
        match history.plan(peer, self.committed, self.epoch, &context.settings) {
            SyncPlan::Diff => {
                let method = Message::Diff(self.committed);
                self.send_history(link, peer, method, Vec::new(), peer, context);
            }
            SyncPlan::Trunc(to) => {
                self.send_history(link, peer, Message::Trunc(to), Vec::new(), to, context);
            }
            SyncPlan::Snap => self.send_snapshot(link, peer, context),
            SyncPlan::FromDisk if peer.counter() == 0 => self.send_snapshot(link, peer, context),
            SyncPlan::FromDisk => {
                let to = history.start();
                if let Some(learner) = self.learners.get_mut(&link) {
                    learner.step = Step::ReadingLog { peer };
                }
                context.push(Action::ReadLog { link, from: peer, to });
            }
        }
    }

    pub(crate) fn handle_log_read(
        &mut self,
        link: LinkId,
        entries: Option<Vec<Entry>>,
        context: &mut Context,
    ) -> Next {
        let Some(&LearnerProgress {
            step: Step::ReadingLog { peer },
            ..
        }) = self.learners.get(&link)
        else {
            return Ok(());
        };
        let mut entries = entries.unwrap_or_default();
        // The learner's last txn must be in our history, or else it may have what we lack (ZOOKEEPER-2846); and
        // from there on nothing may be missing up to the window, which may have moved on meanwhile.
        let known = entries.first().is_some_and(|first| first.zxid == peer);
        let complete = entries.windows(2).all(|pair| follows(pair[0].zxid, pair[1].zxid))
            && entries
                .last()
                .is_some_and(|last| last.zxid >= context.history().start());
        if (known && complete) || (!context.guards(PlantedBug::DiskHistoryUnchecked) && !entries.is_empty()) {
            entries.retain(|entry| peer < entry.zxid && entry.zxid <= self.committed);
            let after = entries.last().map_or(peer, |last| last.zxid);
            let method = Message::Diff(self.committed);
            self.send_history(link, peer, method, entries, after, context);
        } else {
            self.send_snapshot(link, peer, context);
        }
        Ok(())
    }

    /// Sends the tree. While it is walked, txns go on to be applied: the stream has effects of some of them. They all
    /// follow as committed history, so that whatever comes after NEWLEADER is applied to exactly the tree that its
    /// leader had.
    ///
    /// A learner that has later txns than the snapshot must not find them in its log again: a Java server would, when
    /// it starts anew, because it replaces its snapshots and not its log. To it the same tree is that of the beginning
    /// of this epoch, as Java's leaders always say.
    fn send_snapshot(&mut self, link: LinkId, peer: Zxid, context: &mut Context) {
        let delivered = context.history().delivered();
        let zxid = if peer > delivered {
            delivered.max(Zxid::new(self.epoch, 0))
        } else {
            delivered
        };
        self.tell_synchronizing(link, SyncMethod::Snap, peer, context);
        context.send(link, Message::Snap(zxid));
        context.push(Action::SendSnapshot(link));
        self.send_committed(link, Vec::new(), zxid, context);
        if let Some(learner) = self.learners.get_mut(&link) {
            learner.step = Step::SendingSnapshot;
        }
        if !context.guards(PlantedBug::NewLeaderBeforeSnapshotSent) {
            self.send_new_leader(link, context);
        }
    }

    /// The walk is over, and all its effects are of txns that were committed before.
    pub(crate) fn handle_snapshot_sent(&mut self, link: LinkId, context: &mut Context) {
        if let Some(learner) = self.learners.get_mut(&link)
            && learner.step == Step::SendingSnapshot
        {
            learner.heard_ms = context.now_ms;
            self.send_new_leader(link, context);
        }
    }

    /// Part of a snapshot has left.
    pub(crate) fn handle_progress(&mut self, link: LinkId, context: &Context) {
        if let Some(learner) = self.learners.get_mut(&link) {
            learner.heard_ms = context.now_ms;
        }
    }

    fn send_history(
        &mut self,
        link: LinkId,
        peer: Zxid,
        method: Message,
        entries: Vec<Entry>,
        after: Zxid,
        context: &mut Context,
    ) {
        // The learner keeps all of it in memory, and may not be ready to: a snapshot is no burden.
        let backlog_entries_max = context.settings.backlog_entries_max / 2;
        let backlog_bytes_max = context.settings.backlog_bytes_max / 2;
        let window = context.history().after(after);
        let (mut count, mut bytes) = (0, 0);
        for entry in entries.iter().chain(window) {
            count += 1;
            bytes += entry.txn.len();
        }
        if count > backlog_entries_max || bytes > backlog_bytes_max {
            self.send_snapshot(link, peer, context);
            return;
        }
        let told = match method {
            Message::Trunc(_) => SyncMethod::Trunc,
            _ => SyncMethod::Diff,
        };
        self.tell_synchronizing(link, told, peer, context);
        context.send(link, method);
        self.send_committed(link, entries, after, context);
        self.send_new_leader(link, context);
    }

    fn tell_synchronizing(&self, link: LinkId, method: SyncMethod, from: Zxid, context: &mut Context) {
        if let Some(learner) = self.learners.get(&link) {
            let (learner, to) = (learner.server, self.committed);
            context.push(Action::Synchronizing {
                learner,
                method,
                from,
                to,
            });
        }
    }

    /// Sends `entries`, and what is committed after `after`.
    fn send_committed(&self, link: LinkId, entries: Vec<Entry>, after: Zxid, context: &mut Context) {
        let window = context.history().after(after);
        let window: Vec<Entry> = window
            .take_while(|entry| entry.zxid <= self.committed)
            .cloned()
            .collect();
        for entry in entries.into_iter().chain(window) {
            context.send_committed(link, entry);
        }
    }

    /// Sends NEWLEADER, then what is not committed yet. From here on the learner gets every proposal: no txn can fall
    /// between the history and the broadcast.
    ///
    /// Java's leaders send NEWLEADER last. Learners before 3.9.3 then fail when a commit comes after NEWLEADER whose
    /// proposal came before (ZOOKEEPER-4394), and may acknowledge that proposal first (ZOOKEEPER-4685): under load
    /// they could hardly ever join.
    fn send_new_leader(&mut self, link: LinkId, context: &mut Context) {
        let Some(learner) = self.learners.get_mut(&link) else {
            return;
        };
        // Before this leader is established, the configuration that an earlier one proposed is a part of the history
        // that is being committed. One that is proposed later has a proposal of its own, and NEWLEADER must not tell
        // it: a learner takes what it tells for committed as soon as UPTODATE comes. (Java's leaders tell it.)
        let configurations = &context.configurations;
        let is_established =
            self.phase == Phase::Broadcast && context.guards(PlantedBug::ProposedConfigurationTold);
        let configuration = match is_established {
            true => configurations.committed().clone(),
            false => configurations.newest().clone(),
        };
        let new_leader = Message::NewLeader {
            epoch: self.epoch,
            configuration: Some(configuration),
        };
        let new_leader_first = context.guards(PlantedBug::NewLeaderLast);
        if new_leader_first {
            context.send(link, new_leader.clone());
        }
        // Observers are informed when it is committed.
        if !learner.observer {
            let outstanding: Vec<Entry> = context.history().after(self.committed).cloned().collect();
            for entry in outstanding {
                learner.note_proposed(entry.zxid, context.now_ms);
                context.send(link, Message::Proposal(entry));
            }
        }
        if !new_leader_first {
            context.send(link, new_leader);
        }
        learner.step = Step::AwaitingNewLeaderAck;
        learner.forwarding = context.guards(PlantedBug::ForwardAfterNewLeader);
    }

    fn handle_ack(&mut self, link: LinkId, zxid: Zxid, context: &mut Context) -> Next {
        let Some(learner) = self.learners.get_mut(&link) else {
            return Ok(());
        };
        let of_new_leader =
            zxid == Zxid::new(self.epoch, 0) || !context.guards(PlantedBug::AnyAckIsNewLeaderAck);
        if learner.step == Step::AwaitingNewLeaderAck && of_new_leader {
            learner.step = Step::Synced;
            self.synced.insert(learner.server);
            if self.phase == Phase::Broadcast {
                learner.welcome(link, context);
            } else {
                return self.establish(context);
            }
        } else if zxid.counter() != 0 {
            // Old learners acknowledge proposals before NEWLEADER (ZOOKEEPER-4685).
            learner.note_acked(zxid);
            if !learner.observer {
                let server = learner.server;
                return self.count_ack(server, zxid, context);
            }
        }
        Ok(())
    }

    fn establish(&mut self, context: &mut Context) -> Next {
        if self.phase != Phase::Synchronizing
            || !self.synced.contains(&self.me)
            || !Leader::is_quorum(&self.synced, context)
        {
            return Ok(());
        }
        self.phase = Phase::Broadcast;
        context.timers.stop(Timer::InitLimit);
        // A configuration that an earlier leader proposed is in the history, which a quorum of it has now.
        let next = context.configurations.newest().clone();
        let change = context.commit_configuration(next);
        context.serve(self.epoch, self.me);
        for (link, learner) in &mut self.learners {
            if learner.step == Step::Synced {
                learner.welcome(*link, context);
            }
        }
        match change {
            Some(change) if !change.before.keeps_voter(self.me, &change.after) => Err(Reason::Reconfigured),
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn handle_propose(&mut self, entry: Entry, context: &mut Context) -> Next {
        let zxid = entry.zxid;
        self.last_proposed = zxid;
        self.outstanding.push_back(Outstanding {
            zxid,
            acks: Vec::new(),
        });
        // The network and the own disk work at the same time.
        for (link, learner) in &mut self.learners {
            if learner.forwarding && !learner.observer {
                learner.note_proposed(zxid, context.now_ms);
                context.send(*link, Message::Proposal(entry.clone()));
            }
        }
        context.write(Write::Append(entry));
        // Whoever leads next must be able to bring a learner through all of it.
        let (entries, bytes) = context.history().backlog();
        if entries > context.settings.backlog_entries_max / 2
            || bytes > context.settings.backlog_bytes_max / 2
        {
            return Err(Reason::BacklogTooLarge);
        }
        Ok(())
    }

    fn count_ack(&mut self, server: ServerId, zxid: Zxid, context: &mut Context) -> Next {
        let place = self
            .outstanding
            .front()
            .map(|first| zxid.0.wrapping_sub(first.zxid.0));
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(outstanding) = place.and_then(|place| self.outstanding.get_mut(place)) {
            assert_eq!(outstanding.zxid, zxid, "proposals have no gaps");
            if !outstanding.acks.contains(&server) {
                outstanding.acks.push(server);
            }
        }
        self.commit(context)
    }

    /// Commits in order whatever a quorum has.
    fn commit(&mut self, context: &mut Context) -> Next {
        while let Some(first) = self.outstanding.front() {
            let has_it = |server: ServerId| first.acks.contains(&server);
            let enough = context.configurations.may_decide(has_it)
                || (!context.guards(PlantedBug::OldQuorumReconfigures)
                    && context.configurations.may_decide_by_committed(has_it))
                || (!context.guards(PlantedBug::CommitWithoutQuorum) && !first.acks.is_empty());
            if !enough || self.phase != Phase::Broadcast {
                break;
            }
            self.committed = first.zxid;
            let leader = (context.configurations.next_through(self.committed).cloned())
                .map(|next| self.designate(&next, context));
            self.outstanding.pop_front();
            let entry = context.history().undelivered().cloned();
            let entry = entry.filter(|entry| entry.zxid == self.committed);
            let entry = entry.expect("a proposal is in the history of its leader until it is delivered");
            for (link, learner) in &self.learners {
                if learner.step == Step::SendingSnapshot {
                    context.send_committed(*link, entry.clone());
                } else if learner.forwarding {
                    context.send(*link, committed_message(learner.observer, entry.clone(), leader));
                }
            }
            context.commit_through(self.committed);
            if let Some(leader) = leader
                && leader != self.me
            {
                return Err(Reason::Designated(leader));
            }
        }
        if self.outstanding.is_empty()
            && self.last_proposed.counter() >= context.settings.counter_max
            && context.guards(PlantedBug::CounterNotWatched)
        {
            return Err(Reason::CounterUsedUp);
        }
        Ok(())
    }

    /// Who leads once the first outstanding txn has made `next` the configuration: this server as long as it votes
    /// and stays where it is, or else a voter that has acknowledged as much as any (quorum spec, 8.4).
    fn designate(&self, next: &Configuration, context: &Context) -> ServerId {
        if context.configurations.committed().keeps_voter(self.me, next) {
            return self.me;
        }
        let length = |server: &ServerId| {
            self.outstanding
                .iter()
                .take_while(|of| of.acks.contains(server))
                .count()
        };
        let voters = next.quorum.voters().iter().copied();
        let others = voters.filter(|server| *server != self.me && next.quorum.weight(*server) > 0);
        others.max_by_key(length).unwrap_or(self.me)
    }

    pub(crate) fn handle_done(&mut self, done: &Done, context: &mut Context) -> Next {
        match (self.phase, done) {
            (Phase::SavingAcceptedEpoch, Done::AcceptedEpoch) => self.handle_epoch_saved(context),
            (Phase::Synchronizing, Done::CurrentEpoch) => {
                self.synced.insert(self.me);
                return self.establish(context);
            }
            (Phase::Broadcast, Done::Appended(zxid)) => {
                let (me, zxid) = (self.me, *zxid);
                return self.count_ack(me, zxid, context);
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn handle_deadline(&mut self, context: &mut Context) -> Next {
        if context.timers.fires(Timer::InitLimit, context.now_ms) {
            return Err(Reason::InitLimit);
        }
        if context.timers.fires(Timer::Ping, context.now_ms) {
            context.set_timer(Timer::Ping, (context.settings.tick_ms / 2).max(1));
            self.half_ticks += 1;
            self.drop_silent_learners(context);
            if self.half_ticks.is_multiple_of(2) {
                self.check_quorum(context)?;
            }
            for (link, learner) in &self.learners {
                if learner.step >= Step::AwaitingNewLeaderAck {
                    context.send(*link, Message::Ping(self.last_proposed));
                }
            }
        }
        Ok(())
    }

    fn drop_silent_learners(&mut self, context: &mut Context) {
        let (sync_ms, init_ms) = (context.settings.sync_limit_ms(), context.settings.init_limit_ms());
        let silent = |learner: &LearnerProgress| learner.is_late(context.now_ms, sync_ms, init_ms);
        let silent: Vec<LinkId> = self
            .learners
            .iter()
            .filter(|(_, learner)| silent(learner))
            .map(|(link, _)| *link)
            .collect();
        for link in silent {
            self.drop_learner(link, CloseReason::TooLate, context);
        }
    }

    fn check_quorum(&self, context: &Context) -> Next {
        if self.phase != Phase::Broadcast || !context.guards(PlantedBug::LeadWithoutQuorum) {
            return Ok(());
        }
        let mut present: BTreeSet<ServerId> = [self.me].into();
        present.extend(
            self.learners
                .values()
                .filter(|learner| !learner.observer)
                .map(|learner| learner.server),
        );
        if context.configurations.contains_quorum(&present) {
            Ok(())
        } else {
            Err(Reason::QuorumLost)
        }
    }
}

/// What tells a learner of a commit; with the leader from there on when it changes the configuration.
fn committed_message(observer: bool, entry: Entry, leader: Option<ServerId>) -> Message {
    let zxid = entry.zxid;
    match (observer, leader) {
        (false, None) => Message::Commit(zxid),
        (false, Some(leader)) => Message::CommitAndActivate { zxid, leader },
        (true, None) => Message::Inform(entry),
        (true, Some(leader)) => Message::InformAndActivate { entry, leader },
    }
}
