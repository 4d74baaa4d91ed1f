//! Servers that crash at every place on a disk that keeps only what it must. Each seed is a run of appends,
//! commits, rolls, snapshots, purges, truncations, kills, power cuts, full disks and failed syncs. After each end
//! the state is recovered and compared with what was appended: everything acknowledged is there, nothing is
//! invented, reordered or skipped, and recovery never refuses, because nothing was damaged.
//!
//! `CRASH_SEEDS=100000 cargo test --test crash` runs more of them, `CRASH_SEED=7` one.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

use std::sync::Arc;
use std::time::Duration;

use oxkeeper_storage::{
    Compression, Disk, HistoryId, LogSettings, Origin, SetAside, SimDisk, SnapshotSink, SnapshotWriter,
    Storage, StorageError, StorageSettings, Truncated, TxnLog,
};
use oxkeeper_types::{Acl, SessionId, StoredStat, Txn, TxnHeader, Zxid};
use oxkeeper_wire::encode_txn_entry;

const STEPS: usize = 80;

/// Txns by zxid, oldest first.
type Txns = Vec<(Zxid, Vec<u8>)>;

/// The state that txns make: the list of them. A snapshot holds each as a znode.
#[derive(Default)]
struct History(Txns);

impl SnapshotSink for History {
    fn session(&mut self, _: SessionId, _: i32) -> Result<(), String> {
        Ok(())
    }
    fn acl(&mut self, _: i64, _: Vec<Acl>) -> Result<(), String> {
        Ok(())
    }
    fn znode(&mut self, _: &str, data: Option<&[u8]>, _: i64, stat: &StoredStat) -> Result<(), String> {
        self.0.push((stat.czxid, data.unwrap_or_default().to_vec()));
        Ok(())
    }
}

struct World {
    seed: u64,
    random: fastrand::Rng,
    data: SimDisk,
    /// Another disk than `data`, or the same.
    logs: SimDisk,
    is_split: bool,
    settings: StorageSettings,
    /// All that was appended, in order.
    history: Txns,
    /// What the history is instead, from the first to the last txn, if the change that was interrupted has happened.
    changed: Option<Txns>,
    /// How many of them must never be lost.
    acknowledged: usize,
    recoveries: usize,
    /// How often a recovery has found fewer txns than were appended: the test must not be too mild.
    losses: usize,
    /// How often the history was another one after a crash in the middle of its change.
    changes_completed: usize,
}

struct Server {
    storage: Storage,
    log: TxnLog,
    /// What its state is of.
    history: HistoryId,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = fastrand::Rng::with_seed(seed);
        let data = SimDisk::new(random.u64(..));
        let is_split = random.bool();
        let logs = if is_split {
            SimDisk::new(random.u64(..))
        } else {
            data.clone()
        };
        let settings = StorageSettings {
            compression: match random.u32(0..20) {
                // Compressing takes most of the time of an unoptimized test, and fails in the same ways.
                0 => Compression::Gzip,
                1 => Compression::Snappy,
                _ => Compression::None,
            },
            log: LogSettings {
                preallocation_bytes: random.choice([0, 1024, 4096, 20_000]).unwrap(),
                force_sync: true,
                file_bytes_limit: random.choice([None, Some(3000), Some(30_000)]).unwrap(),
            },
            ..StorageSettings::default()
        };
        World {
            seed,
            random,
            data,
            logs,
            is_split,
            settings,
            history: Vec::new(),
            changed: None,
            acknowledged: 0,
            recoveries: 0,
            losses: 0,
            changes_completed: 0,
        }
    }

    /// Recovers and checks; the errors are those of planned faults.
    fn recover(&mut self) -> Result<Server, StorageError> {
        let seed = self.seed;
        let log_disk: Option<Arc<dyn Disk>> = match self.is_split {
            true => Some(Arc::new(self.logs.clone())),
            false => None,
        };
        let storage = Storage::open(Arc::new(self.data.clone()), log_disk, self.settings)?;
        let loaded = storage.load(History::default)?;
        assert!(loaded.rejected.is_empty(), "seed {seed}: {:?}", loaded.rejected);
        let mut found = loaded.state.0;
        let mut reader = storage.read_log(loaded.zxid)?;
        while let Some(entry) = reader.next_entry()? {
            found.push((entry.zxid, entry.bytes.to_vec()));
        }
        let end = reader.finish();
        let zxids = |list: &[(Zxid, Vec<u8>)]| list.iter().map(|(zxid, _)| zxid.0).collect::<Vec<_>>();
        let changed = self.changed.take();
        if changed.as_ref() == Some(&found) {
            self.changes_completed += 1;
            self.history = found.clone();
            self.acknowledged = found.len();
        }
        assert!(
            self.history.starts_with(&found),
            "seed {seed}: found {:x?} of {:x?}, or else {:x?}",
            zxids(&found),
            zxids(&self.history),
            changed.as_deref().map(zxids),
        );
        assert!(
            found.len() >= self.acknowledged,
            "seed {seed}: {} txns were acknowledged, found {:x?} of {:x?}; {:?}",
            self.acknowledged,
            zxids(&found),
            zxids(&self.history),
            end.cuts,
        );
        assert_eq!(
            end.last_zxid,
            found.last().map_or(Zxid::ZERO, |&(zxid, _)| zxid),
            "seed {seed}"
        );
        if loaded.origin == Origin::Fresh {
            assert!(found.is_empty());
            write_snapshot(&storage, loaded.history, &[])?;
        }
        let log = storage.open_log(&end, || Duration::ZERO)?;
        self.recoveries += 1;
        self.losses += usize::from(found.len() < self.history.len());
        // From now on clients see these, so they must stay.
        self.acknowledged = found.len();
        self.history = found;
        let history = loaded.history;
        Ok(Server {
            storage,
            log,
            history,
        })
    }

    fn append(&mut self, server: &mut Server) -> Result<(), StorageError> {
        for _ in 0..self.random.usize(1..=6) {
            let last = self.history.last().map_or(Zxid::ZERO, |&(zxid, _)| zxid);
            let zxid = match self.random.u32(0..40) {
                0 => Zxid::new(last.epoch() + self.random.u32(1..3), 1),
                _ => last.next(),
            };
            let length = match self.random.u32(0..50) {
                0 => 6000,
                n => n,
            };
            let entry = entry(zxid, vec![self.random.u8(..); length as usize]);
            self.history.push((zxid, entry.clone()));
            server.log.append(zxid, &entry)?;
        }
        Ok(())
    }

    fn commit(&mut self, server: &mut Server) -> Result<(), StorageError> {
        let committed = server.log.commit()?;
        let up_to = self
            .history
            .iter()
            .rposition(|&(zxid, _)| zxid == committed.up_to);
        self.acknowledged = up_to.map_or(0, |at| at + 1);
        assert_eq!(self.acknowledged, self.history.len());
        Ok(())
    }

    /// One step of a server's life.
    fn step(&mut self, server: &mut Server) -> Result<(), StorageError> {
        match self.random.u32(0..100) {
            0..40 => self.append(server),
            40..70 => self.commit(server),
            70..78 => server.log.roll(),
            78..86 => {
                self.commit(server)?;
                server.log.roll()?;
                server.log.restart_size();
                write_snapshot(&server.storage, server.history, &self.history)
            }
            86..91 => {
                let purged = server.storage.purge(3)?;
                match purged.failed.into_iter().next() {
                    Some(error) => Err(error),
                    None => Ok(()),
                }
            }
            91..93 => self.truncate(server),
            93..95 => self.install(server),
            95..96 => {
                let disk = if self.random.bool() {
                    &self.data
                } else {
                    &self.logs
                };
                disk.fail_sync_after(self.random.u64(0..4));
                Ok(())
            }
            96..98 => {
                let free = Some(self.random.u64(0..8000));
                self.data.set_free_bytes(free);
                self.logs.set_free_bytes(free);
                Ok(())
            }
            _ => {
                let disk = if self.random.bool() {
                    &self.data
                } else {
                    &self.logs
                };
                disk.cut_power_after(self.random.u64(0..12));
                Ok(())
            }
        }
    }

    /// Goes back some txns, as a learner does whose leader does not have them.
    fn truncate(&mut self, server: &mut Server) -> Result<(), StorageError> {
        self.commit(server)?;
        let back = self.random.usize(0..8).min(self.history.len());
        let kept = self.history[..self.history.len() - back].to_vec();
        let zxid = kept.last().map_or(Zxid::ZERO, |&(zxid, _)| zxid);
        self.changed = Some(kept);
        match server.storage.truncate(&mut server.log, zxid, true)? {
            Truncated::Refused => {
                // All snapshots are newer; nothing has changed.
                self.changed = None;
                Ok(())
            }
            Truncated::Done => {
                self.adopt_change();
                self.reload(server)
            }
        }
    }

    /// Takes over another history, as a learner does from its leader: some of its own txns, and others.
    fn install(&mut self, server: &mut Server) -> Result<(), StorageError> {
        self.commit(server)?;
        let kept = self.random.usize(0..=self.history.len());
        let mut history = self.history[..kept].to_vec();
        for _ in 0..self.random.usize(0..6) {
            let last = history.last().map_or(Zxid::ZERO, |&(zxid, _)| zxid);
            let zxid = match self.random.u32(0..4) {
                0 => Zxid::new(last.epoch() + 1, 1),
                _ => last.next(),
            };
            history.push((zxid, entry(zxid, vec![self.random.u8(..); 30])));
        }
        let in_snapshot = self.random.usize(0..=history.len());
        let received = set_aside(&server.storage, &history[..in_snapshot])?;
        self.changed = Some(history.clone());
        let entries = history[in_snapshot..].iter();
        let entries = entries.map(|(zxid, entry)| (*zxid, entry.as_slice()));
        let (zxid, of) = (received.zxid(), received.history());
        server.storage.install(&mut server.log, received, zxid, entries)?;
        self.adopt_change();
        assert_eq!(
            server.log.last_zxid(),
            history.last().map_or(Zxid::ZERO, |&(zxid, _)| zxid)
        );
        // A server has the state already.
        server.history = of;
        if self.random.bool() {
            self.reload(server)
        } else {
            Ok(())
        }
    }

    /// The history is the changed one now, which is durable.
    fn adopt_change(&mut self) {
        self.history = self.changed.take().unwrap();
        self.acknowledged = self.history.len();
    }

    /// The state is loaded anew, which must give exactly what there is.
    fn reload(&mut self, server: &mut Server) -> Result<(), StorageError> {
        *server = self.recover()?;
        assert_eq!(self.history.len(), self.acknowledged, "seed {}", self.seed);
        Ok(())
    }

    fn end_life(&mut self, by_power: bool) {
        for disk in [&self.data, &self.logs] {
            if by_power {
                disk.crash()
            } else {
                disk.kill_process()
            }
            disk.set_free_bytes(None);
        }
    }

    fn run(&mut self) {
        let mut server: Option<Server> = None;
        for _ in 0..STEPS {
            let result = match &mut server {
                None => {
                    if self.random.u32(0..4) == 0 {
                        // Recovery is interrupted too.
                        let disk = if self.random.bool() {
                            &self.data
                        } else {
                            &self.logs
                        };
                        disk.cut_power_after(self.random.u64(0..6));
                    }
                    self.recover().map(|recovered| server = Some(recovered))
                }
                Some(server) => self.step(server),
            };
            let is_ended = match result {
                Ok(()) => self.random.u32(0..30) == 0,
                // Nothing was damaged, so nothing may be taken for damage.
                Err(StorageError::Io { .. } | StorageError::Directory { .. }) => true,
                Err(error) => panic!("seed {}: {error}", self.seed),
            };
            if is_ended {
                server = None;
                let by_power = self.random.bool();
                self.end_life(by_power);
            }
        }
        drop(server);
        self.end_life(true);
        if let Err(error) = self.recover() {
            panic!("seed {}: {error}", self.seed);
        }
    }
}

fn entry(zxid: Zxid, data: Vec<u8>) -> Vec<u8> {
    let header = TxnHeader {
        session: SessionId(7),
        cxid: 3,
        zxid,
        time: 5,
    };
    let txn = Txn::SetData {
        path: "/a".to_owned(),
        data: Some(data.into()),
        version: 2,
    };
    let mut bytes = Vec::new();
    encode_txn_entry(&mut bytes, &header, &txn, None);
    bytes
}

fn write_snapshot(storage: &Storage, of: HistoryId, history: &[(Zxid, Vec<u8>)]) -> Result<(), StorageError> {
    let zxid = history.last().map_or(Zxid::ZERO, |&(zxid, _)| zxid);
    let no_acls = std::iter::empty::<(i64, Vec<Acl>)>();
    let mut writer = storage.begin_snapshot(of, zxid, std::iter::empty(), no_acls)?;
    write_txns(&mut writer, history)?;
    writer
        .finish(None, Some(zxid))?
        .expect("the history is the one that was loaded");
    Ok(())
}

/// As when it came from another server.
fn set_aside(storage: &Storage, history: &[(Zxid, Vec<u8>)]) -> Result<SetAside, StorageError> {
    let zxid = history.last().map_or(Zxid::ZERO, |&(zxid, _)| zxid);
    let mut writer = storage.begin_set_aside(zxid)?;
    // No session, no ACL list.
    writer.records(&[0; 8]);
    write_txns(&mut writer, history)?;
    writer.set_aside(None)
}

fn write_txns(writer: &mut SnapshotWriter, history: &[(Zxid, Vec<u8>)]) -> Result<(), StorageError> {
    for (czxid, entry) in history {
        let stat = StoredStat {
            czxid: *czxid,
            ..StoredStat::default()
        };
        writer.znode(&format!("/{czxid}"), Some(entry), -1, &stat);
        if writer.buffered_bytes() > 10_000 {
            writer.write_out()?;
        }
    }
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_else_is_found_over_thousands_of_lives() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("CRASH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CRASH_SEEDS").unwrap_or(2000),
    };
    let (mut recoveries, mut losses, mut changes) = (0, 0, 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let mut world = World::new(seed);
        world.run();
        recoveries += world.recoveries as u64;
        losses += world.losses as u64;
        changes += world.changes_completed as u64;
    }
    println!(
        "{count} seeds, {recoveries} recoveries, {losses} of them after a loss of txns that were not \
         acknowledged, {changes} after a change of history that was interrupted"
    );
    if count >= 1000 {
        assert!(
            recoveries > 3 * count && losses > count / 4 && changes > count / 50,
            "the disk was too kind"
        );
    }
}

#[test]
fn a_power_cut_at_every_single_operation_is_survived() {
    // The same life, cut at each change it makes to the disk, with several outcomes of each cut.
    for cut in 0.. {
        let mut is_cut = false;
        for seed in 0..4 {
            let mut world = World::new(1000 + seed);
            world.logs = world.data.clone();
            world.is_split = false;
            world.settings.log.file_bytes_limit = Some(1500);
            world.data.cut_power_after(cut);
            let life = |world: &mut World| -> Result<(), StorageError> {
                let mut server = world.recover()?;
                for round in 0..4 {
                    world.append(&mut server)?;
                    world.commit(&mut server)?;
                    world.append(&mut server)?;
                    server.log.roll()?;
                    world.append(&mut server)?;
                    world.commit(&mut server)?;
                    write_snapshot(&server.storage, server.history, &world.history)?;
                    if round == 3 {
                        server.storage.purge(3)?;
                    }
                }
                let kept = world.history.len() - 2;
                world.changed = Some(world.history[..kept].to_vec());
                let zxid = world.history[kept - 1].0;
                let truncated = server.storage.truncate(&mut server.log, zxid, true)?;
                assert_eq!(truncated, Truncated::Done);
                world.adopt_change();
                Ok(())
            };
            is_cut |= life(&mut world).is_err();
            world.end_life(true);
            let mut server = world.recover().unwrap();
            world.append(&mut server).unwrap();
            world.commit(&mut server).unwrap();
            world.end_life(true);
            world.recover().unwrap();
        }
        if !is_cut {
            assert!(cut > 100, "the life has more than {cut} operations");
            return;
        }
    }
}

/// How a change of the history is interrupted, and how the server that completes it is.
#[derive(Clone, Copy)]
struct Interruption {
    /// Whether the operations on the directory of the logs are counted, and not those on the other.
    of_logs: bool,
    /// How many operations the change has.
    change: u64,
    /// How many the next start has.
    start: u64,
    by_power: bool,
}

/// A history from `begin` of as many txns as are told, in that epoch and then the next.
fn history(begin: &[(Zxid, Vec<u8>)], epoch: u32, counts: [usize; 2]) -> Txns {
    let mut history = begin.to_vec();
    for (epoch, count) in (epoch..).zip(counts) {
        for _ in 0..count {
            let last = history.last().map_or(Zxid::ZERO, |&(zxid, _)| zxid);
            let zxid = if last.epoch() == epoch {
                last.next()
            } else {
                Zxid::new(epoch, 1)
            };
            history.push((zxid, entry(zxid, epoch.to_be_bytes().repeat(5))));
        }
    }
    history
}

/// Lets a server with the history `old` change it to `new` by `change`. Tells whether the change was interrupted at all.
fn interrupted(
    seed: u64,
    is_split: bool,
    how: Interruption,
    [old, new]: [&Txns; 2],
    change: &dyn Fn(&mut World, &mut Server) -> Result<(), StorageError>,
) -> bool {
    let mut world = World::new(seed);
    world.is_split = is_split;
    world.logs = match is_split {
        true => SimDisk::new(seed + 1),
        false => world.data.clone(),
    };
    world.settings.compression = Compression::None;
    world.settings.log.file_bytes_limit = None;
    let mut server = world.recover().unwrap();
    for (at, (zxid, entry)) in old.iter().enumerate() {
        server.log.append(*zxid, entry).unwrap();
        world.history.push((*zxid, entry.clone()));
        if at % 3 == 2 {
            world.commit(&mut server).unwrap();
            server.log.roll().unwrap();
            write_snapshot(&server.storage, server.history, &world.history).unwrap();
        }
    }
    world.commit(&mut server).unwrap();
    world.changed = Some(new.clone());
    let disk = if how.of_logs {
        world.logs.clone()
    } else {
        world.data.clone()
    };
    disk.cut_power_after(how.change);
    let is_interrupted = match change(&mut world, &mut server) {
        Ok(()) => {
            world.adopt_change();
            // The log goes on, maybe with names that were removed; or the power goes here.
            let more = world.append(&mut server).and_then(|()| world.commit(&mut server));
            assert!(matches!(more, Ok(()) | Err(StorageError::Io { .. })));
            false
        }
        Err(StorageError::Io { .. }) => true,
        Err(error) => panic!("{error}"),
    };
    drop(server);
    world.end_life(how.by_power);
    let changed = world.changed.clone();
    disk.cut_power_after(how.start);
    match world.recover() {
        Ok(_) => {}
        Err(StorageError::Io { .. } | StorageError::Directory { .. }) => world.changed = changed,
        Err(error) => panic!("{error}"),
    }
    world.end_life(how.by_power);
    // Whole, the one or the other; and the log goes on.
    let mut server = world.recover().unwrap();
    assert!(world.history == *old || world.history.starts_with(new));
    let unfinished = |disk: &SimDisk| {
        disk.list("version-2")
            .unwrap()
            .iter()
            .any(|name| name.starts_with("unf"))
    };
    assert!(!unfinished(&world.data) && !unfinished(&world.logs));
    for _ in 0..2 {
        world.append(&mut server).unwrap();
        world.commit(&mut server).unwrap();
        world.end_life(true);
        server = world.recover().unwrap();
    }
    is_interrupted
}

/// Tries every place of a change and some of the start after it. `operations_min` keeps the test from trying nothing.
fn interrupted_everywhere(
    [old, new]: [&Txns; 2],
    operations_min: u64,
    change: &dyn Fn(&mut World, &mut Server) -> Result<(), StorageError>,
) {
    for (is_split, of_logs) in [(false, false), (true, false), (true, true)] {
        for by_power in [false, true] {
            for at in 0.. {
                let mut is_interrupted = false;
                for seed in 0..if by_power { 6 } else { 2 } {
                    let how = Interruption {
                        of_logs,
                        change: at,
                        start: (5 * at + 7 * seed) % 24,
                        by_power,
                    };
                    is_interrupted |= interrupted(seed, is_split, how, [old, new], change);
                }
                if !is_interrupted {
                    assert!(of_logs || at >= operations_min, "it has {at} operations");
                    break;
                }
            }
        }
    }
}

#[test]
fn an_installed_history_is_there_as_a_whole_or_not_at_all_wherever_it_is_interrupted() {
    let old = history(&[], 1, [9, 5]);
    let others = [
        // Below, above, and some of the same file names; with and without txns behind the snapshot.
        (Txns::new(), 0),
        (history(&[], 1, [2, 0]), 2),
        (history(&[], 1, [3, 2]), 0),
        (history(&old[..6], 3, [3, 2]), 6),
        (history(&old[..9], 2, [2, 0]), 6),
        (history(&old[..5], 7, [4, 0]), 9),
    ];
    for (new, in_snapshot) in &others {
        interrupted_everywhere([&old, new], 10, &|_, server| {
            let received = set_aside(&server.storage, &new[..*in_snapshot])?;
            let zxid = received.zxid();
            let entries = new[*in_snapshot..].iter();
            let entries = entries.map(|(zxid, entry)| (*zxid, entry.as_slice()));
            server.storage.install(&mut server.log, received, zxid, entries)
        });
    }
}

#[test]
fn a_truncation_is_done_as_a_whole_or_not_at_all_wherever_it_is_interrupted() {
    let old = history(&[], 1, [9, 5]);
    for kept in [0, 1, 3, 7, 9, 13] {
        let new = old[..kept].to_vec();
        interrupted_everywhere([&old, &new], 5, &|_, server| {
            let zxid = new.last().map_or(Zxid::ZERO, |&(zxid, _)| zxid);
            let truncated = server.storage.truncate(&mut server.log, zxid, true)?;
            assert_eq!(truncated, Truncated::Done);
            Ok(())
        });
    }
}
