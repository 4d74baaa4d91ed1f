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
    Compression, Disk, LogSettings, Origin, SimDisk, SnapshotSink, Storage, StorageError, StorageSettings,
    TxnLog,
};
use oxkeeper_types::{Acl, SessionId, StoredStat, Txn, TxnHeader, Zxid};
use oxkeeper_wire::encode_txn_entry;

const STEPS: usize = 80;

/// The state that txns make: the list of them. A snapshot holds each as a znode.
#[derive(Default)]
struct History(Vec<(Zxid, Vec<u8>)>);

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
    history: Vec<(Zxid, Vec<u8>)>,
    /// How many of them must never be lost.
    acknowledged: usize,
    recoveries: usize,
    /// How often a recovery has found fewer txns than were appended: the test must not be too mild.
    losses: usize,
}

struct Server {
    storage: Storage,
    log: TxnLog,
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
            acknowledged: 0,
            recoveries: 0,
            losses: 0,
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
        assert!(
            self.history.starts_with(&found),
            "seed {seed}: found {:x?} of {:x?}",
            zxids(&found),
            zxids(&self.history)
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
            write_snapshot(&storage, &[])?;
        }
        let log = storage.open_log(&end, || Duration::ZERO)?;
        self.recoveries += 1;
        self.losses += usize::from(found.len() < self.history.len());
        // From now on clients see these, so they must stay.
        self.acknowledged = found.len();
        self.history = found;
        Ok(Server { storage, log })
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
                write_snapshot(&server.storage, &self.history)
            }
            86..91 => {
                let purged = server.storage.purge(3)?;
                match purged.failed.into_iter().next() {
                    Some(error) => Err(error),
                    None => Ok(()),
                }
            }
            91..94 => self.truncate(server),
            94..96 => {
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
        let back = self.random.usize(0..8).min(self.history.len());
        let kept = self.history.len() - back;
        let zxid = kept.checked_sub(1).map_or(Zxid::ZERO, |at| self.history[at].0);
        let acknowledged = self.acknowledged;
        self.acknowledged = kept.min(acknowledged);
        match server.storage.truncate(&mut server.log, zxid) {
            Err(StorageError::Refused { .. }) => {
                // All snapshots are newer; nothing has changed.
                self.acknowledged = acknowledged;
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => {
                self.history.truncate(kept);
                self.acknowledged = kept;
                // The state is loaded anew, which must give exactly that.
                *server = self.recover()?;
                assert_eq!(self.history.len(), kept, "seed {}", self.seed);
                Ok(())
            }
        }
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

fn write_snapshot(storage: &Storage, history: &[(Zxid, Vec<u8>)]) -> Result<(), StorageError> {
    let zxid = history.last().map_or(Zxid::ZERO, |&(zxid, _)| zxid);
    let no_acls = std::iter::empty::<(i64, Vec<Acl>)>();
    let mut writer = storage.begin_snapshot(zxid, std::iter::empty(), no_acls)?;
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
    writer.finish(None, Some(zxid))?;
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_else_is_found_over_thousands_of_lives() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("CRASH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CRASH_SEEDS").unwrap_or(2000),
    };
    let (mut recoveries, mut losses) = (0, 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let mut world = World::new(seed);
        world.run();
        recoveries += world.recoveries as u64;
        losses += world.losses as u64;
    }
    println!(
        "{count} seeds, {recoveries} recoveries, {losses} of them after a loss of txns that were not acknowledged"
    );
    if count >= 1000 {
        assert!(
            recoveries > 3 * count && losses > count / 4,
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
                    write_snapshot(&server.storage, &world.history)?;
                    if round == 3 {
                        server.storage.purge(3)?;
                    }
                }
                let kept = world.history.len() - 2;
                world.acknowledged = kept;
                server
                    .storage
                    .truncate(&mut server.log, world.history[kept - 1].0)
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
