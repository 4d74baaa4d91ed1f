//! What the threads of a server send one another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Sender;

use oxkeeper_core::{Event, ReceivedSnapshot, ServerCore};
use oxkeeper_types::Zxid;
use oxkeeper_zab::{LinkId, Write, WriteId};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::peer_link::PeerLink;

/// What the core thread is told.
pub(crate) enum CoreMessage {
    /// Something happened.
    Event(Event),
    /// Something happened to a link to another server.
    Link(LinkMessage),
    /// Packets of one link, and their place in the queue: it is free again when they were handled.
    Received(Vec<Event>, OwnedSemaphorePermit),
    /// The links to other servers are to be broken, and none to be had, or to be had again.
    Isolate(bool),
    /// Somebody wants to look at the core.
    Inspect(Box<dyn FnOnce(&ServerCore) + Send>),
    /// The server stops.
    Stop,
}

/// What happens to a link to another server.
pub(crate) enum LinkMessage {
    /// It is there; the event says which.
    Opened(Arc<PeerLink>, Event),
    /// A snapshot came over it and is set aside.
    Snapshot(LinkId, Box<ReceivedSnapshot>),
    /// It broke, or was closed. The last that is heard of it.
    Closed(LinkId),
}

/// Where connections, links and workers put what they have for the core. The queue is bounded by what its senders may
/// have in work: each connection `requests_per_connection_max` requests, each link
/// [`crate::link_tasks::BATCHES_WAITING_MAX`] batches of packets, the disk worker one event per sync.
#[derive(Clone)]
pub(crate) struct CoreHandle {
    sender: Sender<CoreMessage>,
}

impl CoreHandle {
    pub(crate) fn new(sender: Sender<CoreMessage>) -> CoreHandle {
        CoreHandle { sender }
    }

    /// Hands an event to the core. Once the server stops there is no core, and nothing more is acknowledged.
    pub(crate) fn submit(&self, event: Event) {
        self.send(CoreMessage::Event(event));
    }

    /// Hands a message to the core thread, as [`CoreHandle::submit`].
    pub(crate) fn send(&self, message: CoreMessage) {
        let _stopped = self.sender.send(message);
    }

    /// Lets `look` see the core, on its thread. It is dropped unseen when the server stops.
    pub(crate) fn inspect(&self, look: impl FnOnce(&ServerCore) + Send + 'static) {
        self.send(CoreMessage::Inspect(Box::new(look)));
    }

    pub(crate) fn stop(&self) {
        self.send(CoreMessage::Stop);
    }
}

/// Txns that wait for the disk, in bytes, before no more packets are taken from other servers: a follower whose disk
/// is slower than its leader lets the leader wait, who gives it up when that takes too long.
const DISK_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a job costs beside its txn.
const JOB_BYTES: usize = 128;

/// The way to the disk worker.
#[derive(Clone)]
pub(crate) struct DiskQueue {
    sender: Sender<Vec<DiskJob>>,
    fill: Arc<DiskQueueFill>,
}

/// How much waits for the disk.
#[derive(Debug, Default)]
pub(crate) struct DiskQueueFill {
    bytes: AtomicUsize,
    has_room: Notify,
}

impl DiskQueue {
    pub(crate) fn new(sender: Sender<Vec<DiskJob>>, fill: Arc<DiskQueueFill>) -> DiskQueue {
        DiskQueue { sender, fill }
    }

    /// Hands jobs to the disk worker. When it is gone, nothing becomes durable and nothing is acknowledged; its failure
    /// stops the server.
    pub(crate) fn send(&self, jobs: Vec<DiskJob>) {
        self.fill.bytes.fetch_add(DiskJob::cost(&jobs), Relaxed);
        let _failed = self.sender.send(jobs);
    }
}

impl DiskQueueFill {
    /// Notes that jobs of this [`DiskJob::cost`] are done.
    pub(crate) fn done(&self, cost: usize) {
        let before = self.bytes.fetch_sub(cost, Relaxed);
        if before > DISK_QUEUE_BYTES_MAX && before - cost <= DISK_QUEUE_BYTES_MAX {
            self.has_room.notify_waiters();
        }
    }

    /// Waits until there is room.
    pub(crate) async fn has_room(&self) {
        loop {
            let mut told = std::pin::pin!(self.has_room.notified());
            told.as_mut().enable();
            if self.bytes.load(Relaxed) <= DISK_QUEUE_BYTES_MAX {
                return;
            }
            told.await;
        }
    }
}

/// Work for the disk, done in order.
pub(crate) enum DiskJob {
    /// A txn of a server that stands alone: append it, and tell [`Event::LogDurable`].
    Append { zxid: Zxid, entry: Vec<u8> },
    /// A write of a member of an ensemble, and the snapshot that it installs.
    Write {
        id: WriteId,
        write: Write,
        snapshot: Option<Box<ReceivedSnapshot>>,
    },
}

impl DiskJob {
    /// The memory that jobs hold, about.
    pub(crate) fn cost(jobs: &[DiskJob]) -> usize {
        let cost = |job: &DiskJob| match job {
            DiskJob::Append { entry, .. } => entry.len(),
            DiskJob::Write {
                write: Write::Append(entry),
                ..
            } => entry.txn.len(),
            DiskJob::Write { .. } => 0,
        };
        jobs.iter().map(|job| JOB_BYTES + cost(job)).sum()
    }
}
