//! The quorum port: a leader listens on it for learners, a learner dials that of its leader (quorum spec, 1.4, 4.1
//! and 5.5). Driven by the core thread; the links themselves live in [`crate::peer_link`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use oxkeeper_core::{Event, ReceivedSnapshot, Sender, encode_message};
use oxkeeper_types::ServerId;
use oxkeeper_zab::{Event as ZabEvent, Incarnation, LinkId, Message};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::config::{EnsembleConfig, Member};
use crate::election_links::dial_host;
use crate::link_tasks::{self, LinkContext};
use crate::peer_link::PeerLink;
use crate::ports::bind_port;

/// Connections of learners at a time; further ones are closed. Far more than an ensemble has, so that only strangers
/// meet it.
const LEARNER_LINKS_MAX: usize = 1000;
/// How long to wait before the quorum port is tried again when it cannot be bound.
const BIND_RETRY: Duration = Duration::from_millis(20);
/// A port that was not free for as long is worth telling. (That of an earlier role may still be closing.)
const BIND_PATIENCE: Duration = Duration::from_secs(1);
/// How long accepting rests after the system had no resources for another connection.
const RESOURCES_PAUSE: Duration = Duration::from_millis(50);
/// A batch that grew beyond this is given back.
const BATCH_KEPT_MAX: usize = 64 * 1024;

/// The links of this server to its leader or its learners.
pub(crate) struct LearnerLinks {
    config: Arc<EnsembleConfig>,
    /// Where the members are, and this server, in or out of the configuration.
    members: BTreeMap<ServerId, Member>,
    tasks: Arc<Tasks>,
    runtime: Handle,
    open: HashMap<LinkId, OpenLink>,
    /// Those with a batch.
    unsent: Vec<LinkId>,
    listening: Vec<AbortHandle>,
    dialling: Option<AbortHandle>,
    /// Every link breaks as soon as it is there.
    isolated: bool,
}

struct OpenLink {
    link: Arc<PeerLink>,
    /// What is to be sent at the next flush.
    batch: Vec<u8>,
    /// What came over it and is not installed.
    snapshot: Option<Box<ReceivedSnapshot>>,
}

/// What the tasks share.
struct Tasks {
    link: Arc<LinkContext>,
    next_id: AtomicU64,
    /// Places for connections of learners.
    places: Arc<Semaphore>,
}

impl LearnerLinks {
    pub(crate) fn new(config: Arc<EnsembleConfig>, link: LinkContext, runtime: Handle) -> LearnerLinks {
        LearnerLinks {
            members: config.servers.clone(),
            config,
            tasks: Arc::new(Tasks {
                link: Arc::new(link),
                next_id: AtomicU64::new(1),
                places: Arc::new(Semaphore::new(LEARNER_LINKS_MAX)),
            }),
            runtime,
            open: HashMap::new(),
            unsent: Vec::new(),
            listening: Vec::new(),
            dialling: None,
            isolated: false,
        }
    }

    /// Breaks all links, and every further one, until it is called with `false`. Their ends are told as usual.
    pub(crate) fn isolate(&mut self, isolated: bool) {
        self.isolated = isolated;
        if isolated {
            self.open.values().for_each(|open| open.link.cut());
        }
    }

    /// Dials these from here on. A server that is no member any more stays where it was.
    pub(crate) fn set_members(&mut self, members: &BTreeMap<ServerId, Member>) {
        let me = self.config.me;
        let own = self.members.remove(&me).map(|own| (me, own));
        self.members = members.clone();
        self.members.extend(own.filter(|_| !members.contains_key(&me)));
    }

    /// Where the other end of a link is.
    pub(crate) fn peer_of(&self, id: LinkId) -> Option<SocketAddr> {
        self.open.get(&id).map(|open| open.link.peer)
    }

    /// Listens on the quorum port, or stops.
    pub(crate) fn accept_learners(&mut self, accept: bool) {
        for task in self.listening.drain(..) {
            task.abort();
        }
        if !accept {
            return;
        }
        let every = self.config.quorum_listen_on_all_ips;
        let addresses: BTreeSet<(Option<String>, u16)> = (self.members.get(&self.config.me).iter())
            .flat_map(|own| &own.addresses)
            .map(|address| ((!every).then(|| address.host.clone()), address.quorum_port))
            .collect();
        for (host, port) in addresses {
            let listening = self.runtime.spawn(listen(host, port, self.tasks.clone()));
            self.listening.push(listening.abort_handle());
        }
    }

    /// Dials the leader. The answer is [`ZabEvent::LeaderConnected`] or [`ZabEvent::LeaderUnreachable`].
    pub(crate) fn connect_to_leader(&mut self, leader: ServerId, incarnation: Incarnation) {
        if let Some(earlier) = self.dialling.take() {
            earlier.abort();
        }
        let ticks = self
            .config
            .connect_to_leader_limit_ticks
            .min(self.config.sync_limit_ticks);
        let within = Duration::from_millis(ticks * self.config.tick_ms);
        let addresses: Vec<(String, u16)> = match self.members.get(&leader) {
            Some(member) => member
                .addresses
                .iter()
                .map(|address| (address.host.clone(), address.quorum_port))
                .collect(),
            None => Vec::new(),
        };
        let tasks = self.tasks.clone();
        let dialling = self.runtime.spawn(async move {
            let dialled = match timeout(within, dial(addresses, within)).await {
                Ok(dialled) => dialled,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            match dialled {
                Ok((stream, peer)) => {
                    let link = tasks.next_id();
                    let event = ZabEvent::LeaderConnected { incarnation, link };
                    link_tasks::open(
                        link,
                        stream,
                        peer,
                        Sender::Leader,
                        None,
                        tasks.link.clone(),
                        event,
                    );
                }
                Err(error) => {
                    tracing::debug!("server {leader}, the leader, cannot be reached: {error}");
                    let event = ZabEvent::LeaderUnreachable { incarnation };
                    tasks.link.core.submit(Event::Ensemble(event));
                }
            }
        });
        self.dialling = Some(dialling.abort_handle());
    }

    /// Takes over a new link.
    pub(crate) fn opened(&mut self, link: Arc<PeerLink>) {
        let id = link.id;
        if self.isolated {
            link.cut();
        }
        let open = OpenLink {
            link,
            batch: Vec::new(),
            snapshot: None,
        };
        let before = self.open.insert(id, open);
        assert!(before.is_none(), "link {} is there twice", id.0);
    }

    /// Forgets a link that broke. False when it was closed from this side before.
    pub(crate) fn closed(&mut self, id: LinkId) -> bool {
        let closed = self.open.remove(&id);
        let was_open = closed.is_some();
        self.forget(closed);
        was_open
    }

    /// Keeps a snapshot that came over a link. False when the link was closed.
    pub(crate) fn keep_snapshot(&mut self, id: LinkId, snapshot: Box<ReceivedSnapshot>) -> bool {
        match self.open.get_mut(&id) {
            Some(open) => {
                open.snapshot = Some(snapshot);
                true
            }
            None => {
                self.discard(snapshot);
                false
            }
        }
    }

    /// The snapshot that came over the link.
    pub(crate) fn take_snapshot(&mut self, id: LinkId) -> Option<Box<ReceivedSnapshot>> {
        self.open.get_mut(&id)?.snapshot.take()
    }

    /// Sends a packet with the next flush. A link that broke takes everything; its end is being told.
    pub(crate) fn send(&mut self, id: LinkId, message: &Message) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        if open.batch.is_empty() {
            self.unsent.push(id);
        }
        encode_message(message, &mut open.batch);
    }

    /// Sends the tree after what was sent before.
    pub(crate) fn send_snapshot(&mut self, id: LinkId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.flush();
            open.link.send_snapshot();
        }
    }

    /// Ends a link after what was sent over it before.
    pub(crate) fn close(&mut self, id: LinkId) {
        let closed = self.open.remove(&id);
        if let Some(mut open) = closed {
            open.flush();
            open.link.close();
            self.forget(Some(open));
        }
    }

    /// Lets everything go that was to be sent.
    pub(crate) fn flush(&mut self) {
        for id in std::mem::take(&mut self.unsent) {
            if let Some(open) = self.open.get_mut(&id) {
                open.flush();
            }
        }
    }

    fn forget(&self, open: Option<OpenLink>) {
        if let Some(snapshot) = open.and_then(|open| open.snapshot) {
            self.discard(snapshot);
        }
    }

    /// Drops a snapshot beside the core thread: it holds a whole tree.
    fn discard(&self, snapshot: Box<ReceivedSnapshot>) {
        self.runtime.spawn_blocking(move || drop(snapshot));
    }
}

impl Drop for LearnerLinks {
    fn drop(&mut self) {
        for task in self.listening.drain(..).chain(self.dialling.take()) {
            task.abort();
        }
    }
}

impl OpenLink {
    fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.link.send(&self.batch);
            self.batch.clear();
            self.batch.shrink_to(BATCH_KEPT_MAX);
        }
    }
}

impl Tasks {
    fn next_id(&self) -> LinkId {
        LinkId(self.next_id.fetch_add(1, Relaxed))
    }
}

/// Listens on the port of an address of this server, `None` for every interface, and accepts learners.
async fn listen(host: Option<String>, port: u16, tasks: Arc<Tasks>) {
    let begun = Instant::now();
    let mut is_told = false;
    let listener = loop {
        match bind(host.as_deref(), port).await {
            Ok(listener) => break listener,
            Err(error) => {
                if begun.elapsed() > BIND_PATIENCE && !is_told {
                    is_told = true;
                    let host = host.as_deref().unwrap_or("every interface");
                    tracing::error!(
                        "learners cannot be served on port {port} of {host}, which is tried on: {error}"
                    );
                }
                sleep(BIND_RETRY).await;
            }
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => accept(stream, peer, &tasks),
            Err(error) => {
                tracing::warn!("the connection of a learner could not be accepted: {error}");
                sleep(RESOURCES_PAUSE).await;
            }
        }
    }
}

async fn bind(host: Option<&str>, port: u16) -> io::Result<TcpListener> {
    let Some(host) = host else {
        return Ok(bind_port(None, port, None)?.0);
    };
    bind_first(tokio::net::lookup_host((host, port)).await?.collect())
}

/// Listens on the first of the addresses of a name that can be had: IPv4 before IPv6, for a Java server dials one alone,
/// and chooses it so.
fn bind_first(mut found: Vec<SocketAddr>) -> io::Result<TcpListener> {
    found.sort_by_key(SocketAddr::is_ipv6);
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in found {
        match bind_port(Some(address.ip()), address.port(), None) {
            Ok((listener, _)) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn accept(stream: TcpStream, peer: SocketAddr, tasks: &Tasks) {
    let Ok(place) = tasks.places.clone().try_acquire_owned() else {
        tracing::warn!(%peer, "the connection of a learner was refused: there are {LEARNER_LINKS_MAX} already");
        return;
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, "the connection of a learner was lost while it was set up: {error}");
        return;
    }
    let link = tasks.next_id();
    let event = ZabEvent::LearnerConnected { link };
    link_tasks::open(
        link,
        stream,
        peer,
        Sender::Learner,
        Some(place),
        tasks.link.clone(),
        event,
    );
}

/// Dials all addresses, whose names are looked up anew, and takes the first connection. None of the addresses of a name
/// waits for another that does not answer.
async fn dial(addresses: Vec<(String, u16)>, within: Duration) -> io::Result<(TcpStream, SocketAddr)> {
    let mut dialled = JoinSet::new();
    for (host, port) in addresses {
        dialled.spawn(async move {
            let stream = dial_host(host, port, within).await?;
            stream.set_nodelay(true)?;
            let peer = stream.peer_addr()?;
            Ok::<_, io::Error>((stream, peer))
        });
    }
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    while let Some(joined) = dialled.join_next().await {
        match joined {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => failure = error,
            Err(error) => failure = io::Error::other(error),
        }
    }
    Err(failure)
}

#[cfg(test)]
#[path = "learner_links_tests.rs"]
mod tests;
