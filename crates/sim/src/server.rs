//! One server: its core, its files on a simulated disk, and what its shell does with them. Writes are executed in
//! order, in groups, late; and what is queued is lost when the server crashes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use oxkeeper_core::{
    CoreSettings, Event, Now, ReceivedSnapshot, Replica, ServerCore, Shared, SnapshotWalk, empty_snapshot,
    recover, write_snapshot,
};
use oxkeeper_storage::{
    EpochFile, SimDisk, SnapshotTrigger, Storage, StorageError, StorageSettings, Truncated, TxnLog,
};
use oxkeeper_types::{ServerId, SessionId, Zxid};
use oxkeeper_zab::{LinkId, Settings, Write, WriteId};

use crate::ShellBug;
use crate::clock::Clock;
use crate::stats::Count;
use crate::storm::Mood;
use crate::world::{Happening, Place, World};

/// How many txns are read from the log for a learner, at most.
const READ_ENTRIES_MAX: usize = 1000;
/// And how many bytes of them.
const READ_BYTES_MAX: usize = 1024 * 1024;
/// Snapshots that a purge leaves.
const SNAPSHOTS_RETAINED: usize = 3;

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The machine loses power: what was not synced is lost in part or whole.
    Power,
    /// The process is killed: what was written stays.
    Kill,
}

/// What the files of a server say, durably.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The last txn of the history.
    pub(crate) last: Zxid,
    pub(crate) accepted_epoch: u32,
    pub(crate) current_epoch: u32,
}

/// What a crash may leave instead of the facts.
#[derive(Clone, Copy, Debug)]
enum Attempt {
    /// A history that ends at any txn after the first, through the second.
    Between(Zxid, Zxid),
    /// Exactly this history.
    History(Zxid),
    AcceptedEpoch(u32),
    CurrentEpoch(u32),
}

pub(crate) struct Server {
    pub(crate) id: ServerId,
    pub(crate) settings: Settings,
    pub(crate) core_settings: CoreSettings,
    pub(crate) storage_settings: StorageSettings,
    pub(crate) snap_count: u64,
    pub(crate) disk: SimDisk,
    /// Something was done to the disk in this life, so that it may fail.
    pub(crate) disk_is_hit: bool,
    power_is_cut: bool,
    pub(crate) facts: Facts,
    attempts: Vec<Attempt>,
    /// The ends of its history and the epochs with which it has voted for itself.
    pub(crate) claims: BTreeSet<(Zxid, i64)>,
    pub(crate) clock: Clock,
    pub(crate) boot: u64,
    pub(crate) running: Option<Running>,
    /// Until when it stands still.
    pub(crate) paused_until_ms: u64,
    /// How slow its disk is, ms.
    pub(crate) disk_delay_max_ms: u64,
}

pub(crate) struct Running {
    pub(crate) core: ServerCore,
    pub(crate) shared: Arc<Shared>,
    pub(crate) storage: Storage,
    log: TxnLog,
    /// From connections, on their way to the core.
    pub(crate) to_core: VecDeque<Event>,
    pub(crate) work_is_planned: bool,
    writes: VecDeque<(WriteId, Write)>,
    disk_turn_is_planned: bool,
    /// Where the history ends when all that is queued is written.
    pub(crate) last_queued: Zxid,
    pub(crate) received_snapshots: BTreeMap<LinkId, ReceivedSnapshot>,
    trigger: SnapshotTrigger,
    snapshot: Option<Snapshot>,
    pub(crate) accepts: bool,
    pub(crate) wake_at_ms: Option<u64>,
    /// A write failed: it must be started anew.
    pub(crate) failed: bool,
    // ---- what the checks know
    /// The newest txn that was looked at.
    pub(crate) checked: Zxid,
    /// The epoch it serves in.
    pub(crate) serves: Option<u32>,
    /// The sessions heard of since the last answer to a PING.
    pub(crate) heard: BTreeSet<SessionId>,
    /// At a leader: when each session was heard of, by its clock, and its timeout.
    pub(crate) told_ms: BTreeMap<SessionId, (u64, u64)>,
    /// The version of the configuration that it lives by.
    pub(crate) configuration: i64,
}

/// A snapshot in work.
struct Snapshot {
    walk: SnapshotWalk,
    /// All znodes were visited.
    is_walked: bool,
    /// Something was applied meanwhile.
    is_fuzzy: bool,
}

impl Server {
    pub(crate) fn new(
        settings: Settings,
        core_settings: CoreSettings,
        storage_settings: StorageSettings,
        snap_count: u64,
        disk: SimDisk,
        clock: Clock,
    ) -> Server {
        Server {
            id: settings.me,
            settings,
            core_settings,
            storage_settings,
            snap_count,
            disk,
            disk_is_hit: false,
            power_is_cut: false,
            facts: Facts::default(),
            attempts: Vec::new(),
            claims: BTreeSet::new(),
            clock,
            boot: 0,
            running: None,
            paused_until_ms: 0,
            disk_delay_max_ms: 5,
        }
    }

    /// The files of the configuration are whole or not there, as those of the epochs.
    fn save_configuration(&mut self, write: Write) {
        match write {
            Write::NextConfiguration(next) => self.settings.next_configuration = next,
            Write::Configuration(committed) => {
                let next = self.settings.next_configuration.take();
                self.settings.next_configuration = next.filter(|next| next.version > committed.version);
                self.settings.configuration = committed;
            }
            _ => unreachable!("another file"),
        }
    }

    fn start(&self, now: Now, random: [u64; 2]) -> Result<Running, StorageError> {
        let storage = Storage::open(Arc::new(self.disk.clone()), None, self.storage_settings)?;
        let recovered = recover(
            &storage,
            &self.core_settings.tree,
            self.settings.window_entries_max,
        )?;
        let last = recovered.replica.last_processed;
        let epochs = storage.load_epochs(last)?;
        let shared = Arc::new(Shared::new(recovered.replica, self.core_settings.clone()));
        if recovered.is_new {
            write_snapshot(&shared.replica, &storage, true, true)?;
        }
        let log = storage.open_log(&recovered.log_end, || Duration::ZERO)?;
        for note in &recovered.notes {
            assert!(note.contains("the log ends at"), "D1: {} starts: {note}", self.id);
        }
        let found = oxkeeper_zab::Recovered {
            accepted_epoch: epochs.accepted,
            current_epoch: epochs.current,
            window_start: recovered.window_start,
            window: recovered.window,
        };
        Ok(Running {
            core: ServerCore::member(shared.clone(), self.settings.clone(), found, now),
            shared,
            storage,
            log,
            to_core: VecDeque::new(),
            work_is_planned: false,
            writes: VecDeque::new(),
            disk_turn_is_planned: false,
            last_queued: last,
            received_snapshots: BTreeMap::new(),
            trigger: SnapshotTrigger::new(self.snap_count, None, random),
            snapshot: None,
            accepts: false,
            wake_at_ms: None,
            failed: false,
            checked: last,
            serves: None,
            heard: BTreeSet::new(),
            told_ms: BTreeMap::new(),
            configuration: self.settings.configuration.version,
        })
    }
}

/// What a write came to.
enum Executed {
    Done,
    /// The tree is another.
    Replaced(Box<Replica>),
    /// A truncation to what is not in the history.
    Refused,
}

impl Running {
    /// Writes before this must be durable: what was appended is committed first.
    fn execute(
        &mut self,
        write: Write,
        settings: &CoreSettings,
        window: usize,
    ) -> Result<Executed, StorageError> {
        if !matches!(write, Write::Append(_)) && self.log.has_uncommitted() {
            self.log.commit()?;
        }
        match write {
            Write::Append(entry) => {
                self.log.append(entry.zxid, &entry.txn)?;
                Ok(Executed::Done)
            }
            Write::AcceptedEpoch(epoch) => {
                self.storage.save_epoch(EpochFile::Accepted, epoch)?;
                Ok(Executed::Done)
            }
            Write::CurrentEpoch(epoch) => {
                self.storage.save_epoch(EpochFile::Current, epoch)?;
                Ok(Executed::Done)
            }
            // Those files are not on the disk of the storage.
            Write::NextConfiguration(_) | Write::Configuration(_) => Ok(Executed::Done),
            Write::Truncate { to, reload } => {
                if self.storage.truncate(&mut self.log, to, reload)? == Truncated::Refused {
                    return Ok(Executed::Refused);
                }
                if !reload {
                    return Ok(Executed::Done);
                }
                let recovered = recover(&self.storage, &settings.tree, window)?;
                Ok(Executed::Replaced(Box::new(recovered.replica)))
            }
            Write::Install {
                snapshot,
                zxid,
                entries,
            } => {
                let received = match snapshot {
                    Some(link) => self
                        .received_snapshots
                        .remove(&link)
                        .expect("a snapshot is installed that never came"),
                    None => empty_snapshot(&self.storage, &settings.tree).expect("no disk was hit"),
                };
                let entries = entries.iter().map(|entry| (entry.zxid, &*entry.txn));
                self.storage
                    .install(&mut self.log, received.file, zxid, entries)?;
                Ok(Executed::Replaced(Box::new(received.replica)))
            }
        }
    }
}

impl World {
    // ---- life and death --------------------------------------------------------------------------------------

    pub(crate) fn boot(&mut self, at: Place) {
        let now_ms = self.now_ms;
        self.rewrite_list(at);
        let hits = self.stormy && self.rng.u8(..) < 20;
        let random = [self.rng.u64(..), self.rng.u64(..)];
        let power_left = self.rng.u64(0..15);
        let server = &mut self.servers[at];
        assert!(server.running.is_none(), "a server is started twice");
        server.boot += 1;
        server.clock.restart(&mut self.rng, now_ms);
        server.disk.set_free_bytes(None);
        server.disk_is_hit = hits;
        server.power_is_cut = hits;
        if hits {
            server.disk.cut_power_after(power_left);
        }
        let started = server.start(server.clock.now(now_ms), random);
        match started {
            Ok(running) => {
                if hits {
                    // It was to go during the start, and did not.
                    server.disk.cut_power_after(u64::MAX);
                    server.disk_is_hit = false;
                    server.power_is_cut = false;
                }
                let found = running.last_queued;
                let zab = running.core.consensus().expect("it is a member");
                let epochs = (zab.accepted_epoch(), zab.current_epoch());
                server.running = Some(running);
                let last = self.checks.floor(found);
                self.running(at).last_queued = last;
                self.running(at).checked = last;
                self.check_recovered(at, last, epochs);
                self.say(|| format!("{} starts with {last}, epochs {epochs:?}", at + 1));
                for peer in 0..self.servers.len() {
                    if peer != at && self.servers[peer].running.is_some() {
                        self.reconnect_election(at, peer);
                    }
                }
                self.act(at);
            }
            Err(error) => {
                assert!(hits, "D1: {} cannot start: {error}", at + 1);
                self.say(|| format!("{} loses power while it starts: {error}", at + 1));
                self.servers[at].disk.crash();
            }
        }
    }

    /// What a start has found is what the disk must hold.
    fn check_recovered(&mut self, at: Place, last: Zxid, (accepted, current): (u32, u32)) {
        let server = &mut self.servers[at];
        let attempts = std::mem::take(&mut server.attempts);
        let facts = server.facts;
        let is_history = |attempt: &Attempt| match *attempt {
            Attempt::Between(low, high) => self.checks.is_between(low, last, high),
            Attempt::History(only) => only == last,
            Attempt::AcceptedEpoch(_) | Attempt::CurrentEpoch(_) => false,
        };
        assert!(
            last == facts.last || attempts.iter().any(is_history),
            "D1: {} had {} on disk, tried {attempts:?}, and starts with {last}",
            at + 1,
            facts.last
        );
        let may_be = |epoch: u32, fact: u32, of: &dyn Fn(&Attempt) -> Option<u32>| {
            epoch == fact || attempts.iter().filter_map(of).any(|tried| tried == epoch)
        };
        // Where nothing was ever saved, a start saves the epoch of the newest txn.
        let accepted_is_right = may_be(accepted, facts.accepted_epoch, &|attempt| match attempt {
            Attempt::AcceptedEpoch(epoch) => Some(*epoch),
            _ => None,
        });
        let current_is_right = may_be(current, facts.current_epoch, &|attempt| match attempt {
            Attempt::CurrentEpoch(epoch) => Some(*epoch),
            _ => None,
        });
        assert!(
            accepted_is_right && current_is_right,
            "D1: {} had {facts:?} on disk, tried {attempts:?}, and starts with epochs {accepted} and {current}",
            at + 1
        );
        server.facts = Facts {
            last,
            accepted_epoch: accepted,
            current_epoch: current,
        };
        self.check_current_epoch(at);
        self.check_recovered_tree(at);
    }

    pub(crate) fn crash(&mut self, at: Place, end: End) {
        self.stats.count(Count::Crashes);
        self.say(|| format!("{} crashes by {end:?}", at + 1));
        self.cut_clients_of(at);
        if self.has_queued(at) {
            self.stats.count(Count::LostTails);
        }
        let server = &mut self.servers[at];
        // Dropping would remove the unfinished snapshots, which nobody does who is dead.
        server.disk.cut_power_after(0);
        server.running = None;
        server.boot += 1;
        self.cut_links_of(at);
        let server = &mut self.servers[at];
        match end {
            End::Power => server.disk.crash(),
            End::Kill => server.disk.kill_process(),
        }
        server.disk_is_hit = false;
        server.power_is_cut = false;
    }

    // ---- writes ----------------------------------------------------------------------------------------------

    pub(crate) fn has_queued(&self, at: Place) -> bool {
        self.servers[at]
            .running
            .as_ref()
            .is_some_and(|running| !running.writes.is_empty())
    }

    pub(crate) fn queue_write(&mut self, at: Place, id: WriteId, write: Write) {
        self.note_write(at, &write);
        let before = self.running(at).last_queued;
        let last_queued = self.last_after(before, &write);
        let running = self.running(at);
        running.last_queued = last_queued;
        running.writes.push_back((id, write));
        self.plan_disk_turn(at);
    }

    /// Where a history ends after a write.
    fn last_after(&self, last: Zxid, write: &Write) -> Zxid {
        match write {
            Write::Append(entry) => entry.zxid,
            Write::Truncate { to, .. } => self.checks.cut(last, *to),
            Write::Install { zxid, entries, .. } => entries
                .last()
                .map_or_else(|| self.checks.floor(*zxid), |entry| entry.zxid),
            Write::AcceptedEpoch(_)
            | Write::CurrentEpoch(_)
            | Write::NextConfiguration(_)
            | Write::Configuration(_) => last,
        }
    }

    fn plan_disk_turn(&mut self, at: Place) {
        let boot = self.servers[at].boot;
        let delay = self.rng.u64(0..=self.servers[at].disk_delay_max_ms);
        let running = self.running(at);
        if !running.disk_turn_is_planned {
            running.disk_turn_is_planned = true;
            self.plan(delay, Happening::DiskTurn { at, boot });
        }
    }

    /// Something is done to the disk, so that it fails sooner or later.
    fn hit_disk(&mut self, at: Place) {
        let (kind, count, bytes) = (self.rng.u8(..3), self.rng.u64(0..4), self.rng.u64(0..300));
        let server = &mut self.servers[at];
        server.disk_is_hit = true;
        match kind {
            0 => server.disk.fail_sync_after(count),
            1 => server.disk.set_free_bytes(Some(bytes)),
            _ => {
                server.disk.cut_power_after(count);
                server.power_is_cut = true;
            }
        }
    }

    pub(crate) fn disk_turn(&mut self, at: Place) {
        self.running(at).disk_turn_is_planned = false;
        if self.running(at).failed {
            return;
        }
        if self.stormy
            && !self.servers[at].disk_is_hit
            && self.rng.u16(..1000) < self.scenario.disk_hits_permille
        {
            self.hit_disk(at);
        }
        let queued = self.running(at).writes.len();
        let count = self.rng.usize(1..=queued.max(1));
        let mut event = None;
        let mut replaced = None;
        let mut facts = self.servers[at].facts;
        for _ in 0..count {
            let Some((id, write)) = self.running(at).writes.pop_front() else {
                break;
            };
            let last = self.last_after(facts.last, &write);
            self.check_write(at, facts.last, last, &write);
            let attempt = match &write {
                Write::Append(_) => Attempt::Between(facts.last, last),
                Write::Truncate { .. } => Attempt::Between(last, facts.last),
                Write::Install { .. } => Attempt::History(last),
                Write::AcceptedEpoch(epoch) => Attempt::AcceptedEpoch(*epoch),
                Write::CurrentEpoch(epoch) => Attempt::CurrentEpoch(*epoch),
                Write::NextConfiguration(_) | Write::Configuration(_) => Attempt::History(last),
            };
            let configuration = match &write {
                Write::NextConfiguration(_) | Write::Configuration(_) => Some(write.clone()),
                _ => None,
            };
            let is_append = matches!(write, Write::Append(_));
            let server = &mut self.servers[at];
            server.attempts.push(attempt);
            let Some(running) = &mut server.running else {
                return;
            };
            if self.shell_bug == Some(ShellBug::EpochNotSaved) && matches!(write, Write::AcceptedEpoch(_)) {
                event = Some(oxkeeper_zab::Event::Durable { write: id });
                continue;
            }
            let window = server.settings.window_entries_max;
            let executed = running.execute(write, &server.core_settings, window);
            match executed {
                Ok(Executed::Done) => event = Some(oxkeeper_zab::Event::Durable { write: id }),
                Ok(Executed::Replaced(replica)) => {
                    event = Some(oxkeeper_zab::Event::Durable { write: id });
                    replaced = Some(replica);
                }
                Ok(Executed::Refused) => {
                    event = Some(oxkeeper_zab::Event::TruncateRefused { write: id });
                }
                Err(error) => return self.disk_failed(at, &error),
            }
            if let Some(write) = configuration
                && (self.guards(ShellBug::NextConfigurationNotSaved)
                    || matches!(write, Write::Configuration(_)))
            {
                self.servers[at].save_configuration(write);
            }
            if !matches!(event, Some(oxkeeper_zab::Event::TruncateRefused { .. })) {
                facts.last = last;
                match attempt {
                    Attempt::AcceptedEpoch(epoch) => facts.accepted_epoch = epoch,
                    Attempt::CurrentEpoch(epoch) => facts.current_epoch = epoch,
                    Attempt::Between(..) | Attempt::History(_) => {}
                }
            }
            let running = self.running(at);
            if is_append && running.trigger.count_txn(running.log.size()) {
                let random = [self.rng.u64(..), self.rng.u64(..)];
                self.running(at).trigger.restart(random);
                if let Err(error) = self.begin_snapshot(at) {
                    return self.disk_failed(at, &error);
                }
            }
            if replaced.is_some() || matches!(event, Some(oxkeeper_zab::Event::TruncateRefused { .. })) {
                break;
            }
        }
        if self.guards(ShellBug::DurableBeforeSync)
            && let Err(error) = self.running(at).log.commit()
        {
            return self.disk_failed(at, &error);
        }
        let epoch_before = self.servers[at].facts.current_epoch;
        self.servers[at].facts = facts;
        self.servers[at].attempts.clear();
        if facts.current_epoch != epoch_before {
            self.check_current_epoch(at);
        }
        if matches!(event, Some(oxkeeper_zab::Event::TruncateRefused { .. })) {
            let queued: Vec<Write> = self
                .running(at)
                .writes
                .iter()
                .map(|(_, write)| write.clone())
                .collect();
            self.running(at).last_queued = queued
                .iter()
                .fold(facts.last, |last, write| self.last_after(last, write));
        }
        if self.has_queued(at) {
            self.plan_disk_turn(at);
        }
        if self.rng.u8(..) < 4 {
            self.purge(at);
        }
        if let Some(replica) = replaced {
            self.note_replaced(at, replica.last_processed);
            self.tell(at, Event::ReplicaReloaded(replica));
        }
        if let Some(event) = event {
            self.tell_zab(at, event);
        }
    }

    /// An error of the disk ends the server's part in the ensemble (D2). Only what was done to the disk makes one.
    fn disk_failed(&mut self, at: Place, error: &StorageError) {
        self.say(|| format!("the disk of {} fails: {error}", at + 1));
        assert!(
            self.servers[at].disk_is_hit,
            "the disk of {} failed: {error}",
            at + 1
        );
        self.stats.count(Count::DiskFailures);
        if self.servers[at].power_is_cut {
            return self.crash(at, End::Power);
        }
        self.running(at).failed = true;
        self.tell_zab(at, oxkeeper_zab::Event::WriteFailed);
    }

    fn purge(&mut self, at: Place) {
        let purged = self.running(at).storage.purge(SNAPSHOTS_RETAINED);
        assert!(
            purged.is_ok() || self.servers[at].disk_is_hit,
            "{} cannot purge: {purged:?}",
            at + 1
        );
    }

    pub(crate) fn read_log(&mut self, at: Place, link: LinkId, from: Zxid, to: Zxid) {
        self.stats.count(Count::LogReads);
        let read = self
            .running(at)
            .storage
            .read_range(from, to, READ_ENTRIES_MAX, READ_BYTES_MAX);
        let entries = match read {
            Ok(entries) => entries,
            Err(error) => {
                assert!(
                    self.servers[at].disk_is_hit,
                    "{} cannot read its log: {error}",
                    at + 1
                );
                None
            }
        };
        let entries = entries.map(|entries| {
            entries
                .into_iter()
                .map(|(zxid, txn)| oxkeeper_zab::Entry {
                    zxid,
                    txn: txn.into(),
                })
                .collect()
        });
        let boot = self.servers[at].boot;
        let delay = self.rng.u64(0..=self.servers[at].disk_delay_max_ms);
        let event = Event::Ensemble(oxkeeper_zab::Event::LogRead { link, entries });
        self.plan(delay, Happening::Core { at, boot, event });
    }

    // ---- snapshots -------------------------------------------------------------------------------------------

    fn begin_snapshot(&mut self, at: Place) -> Result<(), StorageError> {
        let running = self.running(at);
        if running.snapshot.is_some() {
            return Ok(());
        }
        running.log.roll()?;
        running.log.restart_size();
        running.snapshot = Some(Snapshot {
            walk: SnapshotWalk::begin(&running.shared.replica, &running.storage)?,
            is_walked: false,
            is_fuzzy: false,
        });
        self.snapshot_soon(at);
        Ok(())
    }

    fn snapshot_soon(&mut self, at: Place) {
        let boot = self.servers[at].boot;
        // Never at once: it may have to wait for the log, and time must go on. However slow the log, it may be quick.
        let delay_max_ms = match self.rng.bool() {
            true => self.servers[at].disk_delay_max_ms * 2 + 1,
            false => 3,
        };
        let delay = self.rng.u64(1..=delay_max_ms);
        self.plan(delay, Happening::SnapshotStep { at, boot });
    }

    /// The snapshot in work goes on by a few znodes, or is finished when the log has what it shows.
    pub(crate) fn snapshot_step(&mut self, at: Place) {
        let znodes = self.rng.usize(1..8);
        let running = self.running(at);
        if running.failed {
            return;
        }
        let Some(mut snapshot) = running.snapshot.take() else {
            return;
        };
        if !snapshot.is_walked {
            let before = snapshot.walk.end_zxid();
            match snapshot.walk.visit(&running.shared.replica, znodes) {
                Ok(more) => snapshot.is_walked = !more,
                Err(error) => return self.snapshot_failed_on_disk(at, &error),
            }
            snapshot.is_fuzzy |= snapshot.walk.end_zxid() != before;
        }
        let has_log = snapshot.walk.end_zxid() <= running.log.durable_zxid();
        if !snapshot.is_walked || !has_log && self.guards(ShellBug::SnapshotBeforeLog) {
            let running = self.running(at);
            running.snapshot = Some(snapshot);
            self.snapshot_soon(at);
            return;
        }
        match snapshot.walk.finish(true, true) {
            Ok(Some(_)) => {
                self.stats.count(Count::Snapshots);
                if snapshot.is_fuzzy {
                    self.stats.count(Count::Fuzzy);
                }
                // From now on it is what a start begins with; so this is a moment for the power to go.
                let crashes = matches!(self.mood, Mood::Everything | Mood::Crashes);
                if self.stormy && crashes && self.rng.u8(..) < 10 {
                    self.crash(at, End::Power);
                }
            }
            Ok(None) => {}
            Err(error) => self.snapshot_failed_on_disk(at, &error),
        }
    }

    fn snapshot_failed_on_disk(&mut self, at: Place, error: &StorageError) {
        self.say(|| format!("{} cannot take a snapshot: {error}", at + 1));
        assert!(
            self.servers[at].disk_is_hit,
            "{} cannot take a snapshot: {error}",
            at + 1
        );
        if self.servers[at].power_is_cut {
            self.crash(at, End::Power);
        }
    }
}
