//! The tasks of one connection of the quorum port, between a leader and a learner: packets out, packets in, and the
//! snapshot that may stand among them (quorum spec, sections 4 and 6).
//!
//! ```text
//!  core thread ──batch──▶ socket, at once when nothing waits
//!                   └───▶ outbox ──▶ writer task ──▶ socket          socket ──▶ reader task ──▶ core thread
//!                                      └── walks the tree for a snapshot          └── feeds a snapshot to disk and tree
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use oxkeeper_core::{Event, Sender, Shared, SnapshotIntake, SnapshotStream, decode_message};
use oxkeeper_storage::Storage;
use oxkeeper_types::Zxid;
use oxkeeper_wire::QuorumPacket;
use oxkeeper_zab::{Event as ZabEvent, LinkId, Message};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::channels::{CoreHandle, CoreMessage, DiskQueueFill, LinkMessage};
use crate::peer_link::{LinkState, PeerLink, Segment};

/// Batches of packets of one link that wait for the core; the link is not read while there are as many. A batch is one
/// long packet or [`READ_BYTES_MAX`] of short ones.
pub(crate) const BATCHES_WAITING_MAX: usize = 16;
/// What is read at first at once: strangers get no more memory.
const READ_BYTES_MIN: usize = 2 * 1024;
/// What is read at most at once, from who sends much.
const READ_BYTES_MAX: usize = 128 * 1024;
/// A buffer that grew beyond this is given back once it is empty.
const BUFFER_KEPT_MAX: usize = 256 * 1024;
/// How the end of a link is told that only a broken or hostile peer brings about.
const MALFORMED: &str = "malformed packet";

/// What the tasks of all links need.
pub(crate) struct LinkContext {
    pub(crate) core: CoreHandle,
    pub(crate) disk: Arc<DiskQueueFill>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) storage: Storage,
    /// The most data of one packet of a learner.
    pub(crate) packet_bytes_max: usize,
}

impl LinkContext {
    /// The most data of one packet. The txns of a leader may be longer than any request: the end of a session names its
    /// ephemerals. Who did not take such a proposal could follow no leader any more, as whoever leads has it in its
    /// log; so all is taken that can be read from a log.
    fn data_bytes_max(&self, remote: Sender) -> usize {
        match remote {
            Sender::Learner => self.packet_bytes_max,
            Sender::Leader => (self.storage.limits().entry_bytes_max as usize).max(self.packet_bytes_max),
        }
    }
}

/// Tells the core of a new link by `event`, then serves it. `place` is given back when the link has ended.
pub(crate) fn open(
    id: LinkId,
    stream: TcpStream,
    peer: SocketAddr,
    remote: Sender,
    place: Option<OwnedSemaphorePermit>,
    context: Arc<LinkContext>,
    event: ZabEvent,
) {
    let (reading, writing) = stream.into_split();
    let (link, state) = PeerLink::new(id, peer, writing);
    context.core.send(CoreMessage::Link(LinkMessage::Opened(
        Arc::new(link),
        Event::Ensemble(event),
    )));
    tokio::spawn(write_until_closed(id, state.clone(), context.clone()));
    tokio::spawn(async move {
        read_until_closed(id, peer, reading, state, remote, context).await;
        drop(place);
    });
}

async fn write_until_closed(id: LinkId, state: Arc<LinkState>, context: Arc<LinkContext>) {
    let ended = tokio::select! {
        written = write(id, &state, &context) => written,
        () = state.overdue() => Ok(()),
        () = state.ended() => Ok(()),
    };
    match ended {
        Ok(()) => {
            state.finish_writing();
            state.end("closed".to_owned());
        }
        Err(why) => state.end(why),
    }
}

/// Writes what the outbox holds, until the link is closed and it holds nothing more.
async fn write(id: LinkId, state: &LinkState, context: &LinkContext) -> Result<(), String> {
    loop {
        match state.take_segment() {
            None if !state.is_open() => return Ok(()),
            None => state.woken().await,
            Some(Segment::Bytes(bytes)) => {
                state.write_all(&bytes).await.map_err(|error| error.to_string())?;
                state.note_sent(bytes.len());
            }
            Some(Segment::Snapshot) => send_snapshot(id, state, context).await?,
        }
    }
}

/// Tells twice per tick that a snapshot goes on, which may take longer than a peer may be silent.
struct SnapshotProgress {
    link: LinkId,
    told: std::time::Instant,
    interval: Duration,
}

impl SnapshotProgress {
    fn begin(link: LinkId, context: &LinkContext) -> SnapshotProgress {
        SnapshotProgress {
            link,
            told: std::time::Instant::now(),
            interval: Duration::from_millis(context.shared.settings.tick_ms / 2),
        }
    }

    fn tell(&mut self, context: &LinkContext) {
        if self.told.elapsed() >= self.interval {
            self.told = std::time::Instant::now();
            let link = self.link;
            context
                .core
                .submit(Event::Ensemble(ZabEvent::SnapshotProgress { link }));
        }
    }
}

/// Walks the tree and sends it, at the pace of the socket.
async fn send_snapshot(id: LinkId, state: &LinkState, context: &LinkContext) -> Result<(), String> {
    let begun = std::time::Instant::now();
    let mut progress = SnapshotProgress::begin(id, context);
    let (mut stream, mut chunk, mut sent) = (None, Vec::new(), 0_u64);
    loop {
        if !state.is_open() {
            return Ok(());
        }
        let (shared, walked) = (context.shared.clone(), stream.take());
        // Encoding a part of the tree takes long enough to hold up other tasks.
        let walk = tokio::task::spawn_blocking(move || {
            let mut stream = walked.unwrap_or_else(|| SnapshotStream::begin(&shared.replica));
            chunk.clear();
            let more = stream.next_chunk(&shared.replica, &mut chunk);
            (stream, chunk, more)
        });
        let (walked, bytes, more) = walk
            .await
            .map_err(|error| format!("walking the tree ended: {error}"))?;
        state.write_all(&bytes).await.map_err(|error| error.to_string())?;
        sent += bytes.len() as u64;
        progress.tell(context);
        if !more {
            tracing::info!(
                "a snapshot of {sent} bytes was sent over link {} in {} ms",
                id.0,
                begun.elapsed().as_millis()
            );
            context
                .core
                .submit(Event::Ensemble(ZabEvent::SnapshotSent { link: id }));
            return Ok(());
        }
        (stream, chunk) = (Some(walked), bytes);
    }
}

async fn read_until_closed(
    id: LinkId,
    peer: SocketAddr,
    reading: OwnedReadHalf,
    state: Arc<LinkState>,
    remote: Sender,
    context: Arc<LinkContext>,
) {
    let ended = tokio::select! {
        Err(why) = read(id, reading, remote, &context) => why,
        () = state.ended() => state.cause(),
    };
    if ended.starts_with(MALFORMED) {
        tracing::warn!(%peer, "link {} ended: {ended}", id.0);
    } else {
        tracing::info!(%peer, "link {} ended: {ended}", id.0);
    }
    state.end(ended);
    context.core.send(CoreMessage::Link(LinkMessage::Closed(id)));
}

/// Reads packets and hands them to the core, until something is wrong.
async fn read(
    id: LinkId,
    mut reading: OwnedReadHalf,
    remote: Sender,
    context: &LinkContext,
) -> Result<std::convert::Infallible, String> {
    let places = Arc::new(Semaphore::new(BATCHES_WAITING_MAX));
    let mut arrivals = vec![0; READ_BYTES_MIN];
    let mut input = Vec::new();
    loop {
        let Decoded {
            events,
            used,
            snapshot,
        } = decode(id, &input, remote, context)?;
        input.drain(..used);
        if input.is_empty() && input.capacity() > BUFFER_KEPT_MAX {
            input = Vec::new();
        }
        if !events.is_empty() {
            context.disk.has_room().await;
            let place = places.clone().acquire_owned().await;
            let place = place.map_err(|error| error.to_string())?;
            context.core.send(CoreMessage::Received(events, place));
        }
        match snapshot {
            Some(zxid) => {
                receive_snapshot(id, zxid, &mut reading, &mut input, &mut arrivals, context).await?
            }
            None => read_more(&mut reading, &mut input, &mut arrivals).await?,
        }
    }
}

/// Appends what there is, waiting for something.
async fn read_more(
    reading: &mut OwnedReadHalf,
    input: &mut Vec<u8>,
    arrivals: &mut Vec<u8>,
) -> Result<(), String> {
    match reading.read(arrivals).await {
        Ok(0) => Err("the peer hung up".to_owned()),
        Ok(length) => {
            input.extend_from_slice(&arrivals[..length]);
            if length == arrivals.len() {
                arrivals.resize(READ_BYTES_MAX, 0);
            }
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}

struct Decoded {
    events: Vec<Event>,
    /// Bytes of the packets decoded.
    used: usize,
    /// The packets end with a SNAP of this zxid: the stream of a snapshot follows.
    snapshot: Option<Zxid>,
}

/// Decodes the packets that are whole, up to a SNAP.
fn decode(id: LinkId, input: &[u8], remote: Sender, context: &LinkContext) -> Result<Decoded, String> {
    let malformed = |error| format!("{MALFORMED}: {error}");
    let mut decoded = Decoded {
        events: Vec::new(),
        used: 0,
        snapshot: None,
    };
    let data_bytes_max = context.data_bytes_max(remote);
    while let Some((packet, length)) =
        QuorumPacket::decode(&input[decoded.used..], data_bytes_max).map_err(malformed)?
    {
        decoded.used += length;
        let Some(message) = decode_message(&packet, remote).map_err(malformed)? else {
            tracing::debug!(
                "a packet of kind {} was passed over on link {}",
                packet.kind.0,
                id.0
            );
            continue;
        };
        if let Message::Snap(zxid) = message {
            decoded.snapshot = Some(zxid);
        }
        decoded
            .events
            .push(Event::Ensemble(ZabEvent::Received { link: id, message }));
        if decoded.snapshot.is_some() {
            break;
        }
    }
    Ok(decoded)
}

/// Takes in the snapshot that stands before the next packet.
async fn receive_snapshot(
    id: LinkId,
    zxid: Zxid,
    reading: &mut OwnedReadHalf,
    input: &mut Vec<u8>,
    arrivals: &mut Vec<u8>,
    context: &LinkContext,
) -> Result<(), String> {
    let begun = std::time::Instant::now();
    let refused = |error| format!("the leader's snapshot cannot be taken over: {error}");
    let (storage, shared) = (context.storage.clone(), context.shared.clone());
    let mut intake = blocking(move || {
        SnapshotIntake::begin(&storage, &shared.settings.tree, zxid).map_err(|error| error.to_string())
    })
    .await
    .map_err(refused)?;
    let mut received = 0_u64;
    let mut told = SnapshotProgress::begin(id, context);
    loop {
        let bytes = std::mem::take(input);
        let (fed, progress, mut bytes) = blocking(move || {
            let progress = intake.feed(&bytes).map_err(|error| error.to_string())?;
            Ok((intake, progress, bytes))
        })
        .await
        .map_err(refused)?;
        intake = fed;
        bytes.drain(..progress.consumed);
        received += progress.consumed as u64;
        told.tell(context);
        *input = bytes;
        if progress.is_complete {
            break;
        }
        read_more(reading, input, arrivals).await?;
    }
    let snapshot = blocking(move || intake.finish().map_err(|error| error.to_string()))
        .await
        .map_err(refused)?;
    tracing::info!(
        "a snapshot of {received} bytes as of zxid {zxid} was received in {} ms",
        begun.elapsed().as_millis()
    );
    context
        .core
        .send(CoreMessage::Link(LinkMessage::Snapshot(id, Box::new(snapshot))));
    Ok(())
}

/// Does what reads, writes or computes for long beside the tasks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(error.to_string()),
    }
}
