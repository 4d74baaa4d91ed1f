//! What becomes durable, and in which order the core hears of it.

use std::sync::mpsc::{TryIter, channel};

use oxkeeper_core::write_snapshot;
use oxkeeper_storage::{LogSettings, SimDisk, StorageSettings};
use oxkeeper_types::{CreateTxn, SessionId, Txn, TxnHeader, ZnodeKind};
use oxkeeper_wire::encode_txn_entry;
use parking_lot::RwLock;

use super::*;
use crate::channels::CoreMessage;

struct Bench {
    disk: Arc<SimDisk>,
    worker: DiskWorker,
    messages: Receiver<CoreMessage>,
}

fn settings() -> StorageSettings {
    StorageSettings {
        log: LogSettings {
            preallocation_bytes: 0,
            ..LogSettings::default()
        },
        ..StorageSettings::default()
    }
}

/// A member with an empty history.
fn bench() -> Bench {
    let disk = Arc::new(SimDisk::new(7));
    let storage = Storage::open(disk.clone(), None, settings()).unwrap();
    let tree = TreeSettings::default();
    let recovered = recover(&storage, &tree, 0).unwrap();
    write_snapshot(&RwLock::new(recovered.replica), &storage, true, true).unwrap();
    let log = storage.open_log(&recovered.log_end, || Duration::ZERO).unwrap();
    let (core, messages) = channel();
    let (snapshots, _) = channel();
    let worker = DiskWorker {
        log,
        storage,
        tree,
        config: StorageConfig::new("unused"),
        core: CoreHandle::new(core),
        queue: Arc::default(),
        snapshots,
        durable: Arc::new(DurableEnd::new(Zxid::ZERO)),
        stats: Arc::default(),
        is_member: true,
        config_files: None,
        halted: Arc::default(),
    };
    Bench {
        disk,
        worker,
        messages,
    }
}

impl Bench {
    /// Has the worker do `jobs`, which arrive together, and returns what the core is told.
    fn run(self, jobs: Vec<DiskJob>) -> (Result<(), StorageError>, Vec<String>) {
        let (sender, queue) = channel();
        sender.send(jobs).unwrap();
        drop(sender);
        let ended = self.worker.run(&queue);
        (ended, told(self.messages.try_iter()))
    }
}

fn told(messages: TryIter<'_, CoreMessage>) -> Vec<String> {
    messages
        .map(|message| match message {
            CoreMessage::Event(Event::Ensemble(event)) => format!("{event:?}"),
            CoreMessage::Event(Event::ReplicaReloaded(replica)) => {
                format!(
                    "reloaded {} with {}",
                    replica.last_processed,
                    replica.tree.znode_count()
                )
            }
            CoreMessage::Event(event) => format!("{event:?}"),
            _ => "no event".to_owned(),
        })
        .collect()
}

fn entry(epoch: u32, counter: u32, bytes: usize) -> Entry {
    let zxid = Zxid::new(epoch, counter);
    let header = TxnHeader {
        session: SessionId(1),
        cxid: 1,
        zxid,
        time: 1,
    };
    let txn = Txn::Create(CreateTxn {
        path: format!("/{epoch}-{counter}"),
        data: Some(vec![1; bytes].into()),
        acl: Vec::new(),
        kind: ZnodeKind::Persistent,
        parent_cversion: -1,
        with_stat: false,
    });
    let mut encoded = Vec::new();
    encode_txn_entry(&mut encoded, &header, &txn, None);
    Entry {
        zxid,
        txn: encoded.into(),
    }
}

fn write(id: u64, write: Write) -> DiskJob {
    DiskJob::Write {
        id: WriteId(id),
        write,
        snapshot: None,
    }
}

fn append(id: u64, epoch: u32, counter: u32) -> DiskJob {
    write(id, Write::Append(entry(epoch, counter, 10)))
}

fn durable(id: u64) -> String {
    format!("{:?}", ZabEvent::Durable { write: WriteId(id) })
}

#[test]
fn txns_that_came_together_are_told_once_and_everything_else_in_its_place() {
    let jobs = vec![
        append(1, 1, 1),
        append(2, 1, 2),
        write(3, Write::AcceptedEpoch(4)),
        write(4, Write::CurrentEpoch(4)),
        append(5, 4, 1),
        append(6, 4, 2),
    ];
    let bench = bench();
    let disk = bench.disk.clone();
    let (ended, told) = bench.run(jobs);
    ended.unwrap();
    assert_eq!(told, [durable(2), durable(3), durable(4), durable(6)]);
    assert_eq!(disk.content("version-2/currentEpoch").as_deref(), Some(&b"4"[..]));
    disk.crash();
    let storage = Storage::open(disk, None, settings()).unwrap();
    let recovered = recover(&storage, &TreeSettings::default(), 0).unwrap();
    assert_eq!(
        recovered.replica.last_processed,
        Zxid::new(4, 2),
        "durable means durable"
    );
}

#[test]
fn a_txn_too_large_to_be_gathered_is_told_all_the_same() {
    let large = write(2, Write::Append(entry(1, 2, 5 * 1024 * 1024)));
    let (ended, told) = bench().run(vec![append(1, 1, 1), large]);
    ended.unwrap();
    assert_eq!(told, [durable(2)]);
}

#[test]
fn a_truncation_brings_back_the_tree_of_the_end_it_leaves_or_is_refused() {
    let (to, reload) = (Zxid::new(1, 2), true);
    let truncate = || write(4, Write::Truncate { to, reload });
    let jobs = vec![append(1, 1, 1), append(2, 1, 2), append(3, 1, 3), truncate()];
    let (ended, told) = bench().run(jobs);
    ended.unwrap();
    // The four znodes that are always there, the root twice, and two more.
    assert_eq!(told, [durable(3), format!("reloaded {to} with 7"), durable(4)]);

    let jobs = vec![append(1, 1, 1), append(3, 2, 1), truncate(), append(5, 2, 2)];
    let (ended, told) = bench().run(jobs);
    ended.unwrap();
    let refused = ZabEvent::TruncateRefused { write: WriteId(4) };
    assert_eq!(
        told,
        [durable(3), format!("{refused:?}"), durable(5)],
        "nothing has changed"
    );
}

#[test]
fn an_empty_history_takes_the_place_of_another() {
    let install = Write::Install {
        snapshot: None,
        zxid: Zxid::ZERO,
        entries: vec![entry(5, 1, 10), entry(5, 2, 10)],
    };
    let bench = bench();
    let disk = bench.disk.clone();
    let (ended, told) = bench.run(vec![
        append(1, 1, 1),
        append(2, 1, 2),
        write(3, install),
        append(8, 5, 3),
    ]);
    ended.unwrap();
    assert_eq!(
        told,
        [
            durable(2),
            "reloaded 0x0 with 5".to_owned(),
            durable(3),
            durable(8)
        ]
    );
    let storage = Storage::open(disk, None, settings()).unwrap();
    let recovered = recover(&storage, &TreeSettings::default(), 10).unwrap();
    let found: Vec<Zxid> = recovered.window.iter().map(|entry| entry.zxid).collect();
    assert_eq!(found, [1, 2, 3].map(|counter| Zxid::new(5, counter)));
}

#[test]
fn after_a_failed_sync_nothing_is_durable_and_the_member_leaves() {
    let bench = bench();
    bench.disk.fail_sync_after(1);
    let (ended, told) = bench.run(vec![
        append(1, 1, 1),
        write(2, Write::AcceptedEpoch(4)),
        append(3, 4, 1),
    ]);
    assert!(ended.is_err());
    assert_eq!(told.last(), Some(&format!("{:?}", ZabEvent::WriteFailed)));
    assert!(
        !told.contains(&durable(2)) && !told.contains(&durable(3)),
        "{told:?}"
    );
}

#[test]
fn a_snapshot_waits_until_the_log_holds_what_it_shows() {
    let durable = Arc::new(DurableEnd::new(Zxid(3)));
    assert!(durable.wait_for(Zxid(3)));
    let waiting = {
        let durable = durable.clone();
        std::thread::spawn(move || durable.wait_for(Zxid(5)))
    };
    durable.set(Zxid(4));
    assert!(!waiting.is_finished());
    durable.set(Zxid(5));
    assert!(waiting.join().unwrap());
    durable.stop();
    assert!(!durable.wait_for(Zxid(6)), "the server stops");
}
