//! One connection of the quorum port as the core thread holds it: what is sent leaves at once when nothing waits, and
//! else waits in the outbox for the writer task. Its tasks are in `link_tasks.rs`.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use oxkeeper_zab::LinkId;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Notify, watch};

/// What may wait to be sent over one link beside what it was sent at once when nothing waited (the history that a
/// learner lacks). A learner that falls behind by more loses its link, and synchronises again.
pub(crate) const OUTBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A piece of the outbox does not grow beyond this, so that what is sent already need not be kept.
const SEGMENT_BYTES_MAX: usize = 1024 * 1024;
/// How long a link that is closed may take to send what was queued before.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// What is queued may still leave, for a while.
    Closing,
    Ended,
}

/// What waits to be sent.
#[derive(Debug)]
pub(crate) enum Segment {
    Bytes(Vec<u8>),
    /// The tree, as it is when its turn comes.
    Snapshot,
}

#[derive(Debug, Default)]
struct Outbox {
    segments: VecDeque<Segment>,
    /// Bytes in `segments` and in the hands of the writer.
    bytes: usize,
    /// How many there may be.
    bytes_max: usize,
    /// The writer has something that it took out.
    is_writing: bool,
}

/// One link, as the core thread holds it. When it is dropped without [`PeerLink::close`], the connection ends at once.
#[derive(Debug)]
pub(crate) struct PeerLink {
    pub(crate) id: LinkId,
    /// The other end.
    pub(crate) peer: SocketAddr,
    state: Arc<LinkState>,
}

/// What its tasks work on.
#[derive(Debug)]
pub(crate) struct LinkState {
    writing: OwnedWriteHalf,
    outbox: Mutex<Outbox>,
    wake_writer: Notify,
    phase: watch::Sender<Phase>,
    /// Why it ended, by who ended it first.
    cause: Mutex<Option<String>>,
}

impl PeerLink {
    /// A link over which nothing was sent, and what its tasks work on.
    pub(crate) fn new(id: LinkId, peer: SocketAddr, writing: OwnedWriteHalf) -> (PeerLink, Arc<LinkState>) {
        let state = Arc::new(LinkState {
            writing,
            outbox: Mutex::default(),
            wake_writer: Notify::new(),
            phase: watch::Sender::new(Phase::Open),
            cause: Mutex::default(),
        });
        let link = PeerLink {
            id,
            peer,
            state: state.clone(),
        };
        (link, state)
    }

    /// Sends `batch`, after what was sent before. What the socket does not take at once waits in the outbox; when
    /// that is too much, the link ends.
    pub(crate) fn send(&self, batch: &[u8]) {
        let mut outbox = self.state.outbox.lock();
        let mut rest = batch;
        if outbox.segments.is_empty() && !outbox.is_writing {
            // When that fails, the writer waits until it can be written, or meets the error again.
            if let Ok(sent) = self.state.writing.try_write(batch) {
                rest = &batch[sent..];
            }
        }
        if rest.is_empty() {
            return;
        }
        if outbox.bytes == 0 {
            outbox.bytes_max = rest.len() + OUTBOX_BYTES_MAX;
        }
        if outbox.bytes + rest.len() > outbox.bytes_max {
            drop(outbox);
            self.state.end(format!(
                "it does not read fast enough: more than {OUTBOX_BYTES_MAX} bytes wait for it"
            ));
            return;
        }
        outbox.bytes += rest.len();
        match outbox.segments.back_mut() {
            Some(Segment::Bytes(last)) if last.len() + rest.len() <= SEGMENT_BYTES_MAX => {
                last.extend_from_slice(rest);
            }
            Some(Segment::Bytes(_) | Segment::Snapshot) | None => {
                outbox.segments.push_back(Segment::Bytes(rest.to_vec()));
            }
        }
        drop(outbox);
        self.state.wake_writer.notify_one();
    }

    /// Ends the link at once, as if the network had.
    pub(crate) fn cut(&self) {
        self.state.end("it was cut".to_owned());
    }

    /// Sends the tree. What is sent later waits until that is over.
    pub(crate) fn send_snapshot(&self) {
        self.state.outbox.lock().segments.push_back(Segment::Snapshot);
        self.state.wake_writer.notify_one();
    }

    /// Ends the link when what was sent before has left, or when that takes too long. A snapshot is broken off.
    pub(crate) fn close(&self) {
        let mut outbox = self.state.outbox.lock();
        if let Some(at) = outbox
            .segments
            .iter()
            .position(|segment| matches!(segment, Segment::Snapshot))
        {
            outbox.segments.truncate(at);
        }
        drop(outbox);
        self.state.phase.send_if_modified(|phase| {
            let is_open = *phase == Phase::Open;
            if is_open {
                *phase = Phase::Closing;
            }
            is_open
        });
        self.state.wake_writer.notify_one();
    }
}

impl Drop for PeerLink {
    fn drop(&mut self) {
        if *self.state.phase.borrow() == Phase::Open {
            self.state.end("it is not needed any more".to_owned());
        }
    }
}

impl LinkState {
    pub(crate) fn end(&self, why: String) {
        self.cause.lock().get_or_insert(why);
        self.phase.send_replace(Phase::Ended);
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.phase.borrow() == Phase::Open
    }

    pub(crate) async fn ended(&self) {
        let mut phase = self.phase.subscribe();
        // Cannot fail: the sender is in `self`.
        let _ended = phase.wait_for(|phase| *phase == Phase::Ended).await.is_ok();
    }

    /// Completes some time after the link was closed.
    pub(crate) async fn overdue(&self) {
        let mut phase = self.phase.subscribe();
        let _closed = phase.wait_for(|phase| *phase != Phase::Open).await.is_ok();
        tokio::time::sleep(LAST_WORDS_WITHIN).await;
    }

    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.writing.writable().await?;
            match self.writing.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What is to be written next, by the writer, who is done with what it took before.
    pub(crate) fn take_segment(&self) -> Option<Segment> {
        let mut outbox = self.outbox.lock();
        let segment = outbox.segments.pop_front();
        outbox.is_writing = segment.is_some();
        segment
    }

    /// As many bytes of the outbox have left.
    pub(crate) fn note_sent(&self, bytes: usize) {
        self.outbox.lock().bytes -= bytes;
    }

    /// Waits until there may be something to write.
    pub(crate) async fn woken(&self) {
        self.wake_writer.notified().await;
    }

    /// Why it ended.
    pub(crate) fn cause(&self) -> String {
        self.cause.lock().clone().unwrap_or_default()
    }

    /// Tells the other end that nothing more comes.
    pub(crate) fn finish_writing(&self) {
        // Whatever else is to be said of a connection that is over, its end says it.
        let _over = SockRef::from(self.writing.as_ref()).shutdown(Shutdown::Write);
    }
}
