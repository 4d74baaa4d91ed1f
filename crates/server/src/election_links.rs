//! The connections over which the servers of an ensemble elect their leader (quorum spec, section 2).
//!
//! Any server may dial any other, but of each pair only the connection that the one with the **higher id** dialled is
//! kept. A server with a lower id dials, says who it is, is hung up on and dialled back: it knocks. One task per
//! server looks after all that, [`PeerTask`]: it is idle, dialling or linked.
//!
//! Only the newest notification to a server matters, so each has room for one ([`Outbox`]). While it waits there, the
//! server is dialled again and again; otherwise nobody is dialled. A connection that came up is reported, because
//! who elects then says its vote anew.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use oxkeeper_core::membership::{configuration_text, read_configuration};
use oxkeeper_core::{decode_notification, encode_notification};
use oxkeeper_types::ServerId;
use oxkeeper_wire::{ElectionHello, notification_length};
use oxkeeper_zab::{Configuration, Notification};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::ServeError;
use crate::config::{EnsembleConfig, Member, PeerAddress};
use crate::ports;

/// How long an accepted connection may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);
/// Accepted connections that have not said who they are. For one more the oldest is closed: a server says it at once.
const HELLOS_MAX: usize = 256;
/// The longest hello: two numbers, a length and 2048 bytes of addresses.
const HELLO_LENGTH_MAX: usize = 8 + 8 + 4 + 2048;
/// Servers outside of the configuration with which there is a link. One more is hung up on.
const STRANGERS_MAX: usize = 32;
/// What a server before 3.5 calls itself that observes without an id.
const ANONYMOUS: ServerId = ServerId(i64::MAX);
/// Notifications that one link may bring in [`INTAKE_INTERVAL`]; then it is not read until that is over. A server
/// that elects sends a few per second.
const INTAKE_MAX: u32 = 100;
/// See [`INTAKE_MAX`].
const INTAKE_INTERVAL: Duration = Duration::from_millis(100);
/// Between two dials of a server: the first time, then twice as long each time.
const PACE_MIN: Duration = Duration::from_millis(25);
/// Between two dials of a server: at most. Nobody waits for this dial: a server that comes back dials by itself.
const PACE_MAX: Duration = Duration::from_millis(500);
/// After a knock: how long the other server may take to dial back before it is knocked at again.
const DIAL_BACK_WAIT: Duration = Duration::from_millis(300);
/// A notification that could not be sent by then is dropped, and its server not dialled for it any more. Whoever
/// still elects has said something newer long ago, and whoever comes back asks.
const NEWS_AGE_MAX: Duration = Duration::from_secs(10);
/// When a server has several addresses, the next is tried beside those before it after this time.
const STAGGER: Duration = Duration::from_millis(250);
/// A link ends when what was sent over it is not confirmed by then. Its server may be gone without a word.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(3);
/// Addresses at which a server says it can be dialled; more are left out.
const TOLD_ADDRESSES_MAX: usize = 8;
/// How long a server outside of the configuration is remembered after its connection.
const STRANGER_LINGER: Duration = Duration::from_secs(2);
/// What is read at once, in bytes, at least.
const READ_CHUNK: usize = 4096;
/// Between two tries to listen.
const LISTEN_RETRY: Duration = Duration::from_secs(1);
/// How long accepting rests after the system had no resources for another connection.
const RESOURCES_PAUSE: Duration = Duration::from_millis(50);

/// Who hears what happens.
type OnEvent = dyn Fn(ElectionEvent) + Send + Sync;

/// What happens on election links.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ElectionEvent {
    /// There is a new connection with this server: it wants to know what we know.
    Connected(ServerId),
    /// A server told its vote.
    Notification {
        /// Who.
        from: ServerId,
        /// What.
        notification: Notification,
    },
    /// A server, before its vote, told of a configuration that is newer than ours.
    Configuration(Configuration),
}

/// The election connections of this server. Dropping them closes all and ends their tasks.
pub(crate) struct ElectionLinks {
    links: Arc<Links>,
    /// One task per address; dropping them stops it.
    accepting: JoinSet<()>,
    /// Where this server listens.
    listens: Vec<PeerAddress>,
    runtime: Handle,
}

impl ElectionLinks {
    /// Listens on the election port, trying again as `electionPortBindRetry` says, and is ready to dial. `on_event`
    /// must return at once.
    ///
    /// # Errors
    /// [`ServeError::ListenElection`] when not one address can be listened on.
    pub(crate) async fn start(
        config: Arc<EnsembleConfig>,
        on_event: impl Fn(ElectionEvent) + Send + Sync + 'static,
    ) -> Result<ElectionLinks, ServeError> {
        let listeners = listen(&config.own().addresses, &config).await?;
        Ok(ElectionLinks::start_on(listeners, config, on_event))
    }

    fn start_on(
        listeners: Vec<TcpListener>,
        config: Arc<EnsembleConfig>,
        on_event: impl Fn(ElectionEvent) + Send + Sync + 'static,
    ) -> ElectionLinks {
        let members: Vec<ServerId> = config.servers.keys().copied().collect();
        let listens = config.own().addresses.clone();
        let links = Arc::new(Links {
            known: Mutex::new(Known {
                hello: own_hello(&config, &listens),
                members: config.servers.clone(),
                version: config.config_version,
                config_text: config.config_text.clone(),
            }),
            config,
            on_event: Box::new(on_event),
            peers: Mutex::default(),
            next_anonymous: AtomicI64::new(members.first().map_or(0, |id| id.0).min(0).saturating_sub(1)),
            tasks: Mutex::new(Some(JoinSet::new())),
            isolated: watch::Sender::new(false),
        });
        for member in members.into_iter().filter(|member| *member != links.config.me) {
            let _known = links.peer(member);
        }
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(accept_all(links.clone(), listener));
        }
        ElectionLinks {
            links,
            accepting,
            listens,
            runtime: Handle::current(),
        }
    }

    /// Tells `committed` from here on, and knows these members. A server that is none any more is a stranger.
    pub(crate) fn set_members(&mut self, committed: &Configuration, members: &BTreeMap<ServerId, Member>) {
        let me = self.links.config.me;
        let own = members.get(&me).map(|own| own.addresses.clone());
        {
            let mut known = self.links.known.lock();
            known.members = members.clone();
            known.version = committed.version;
            known.config_text = configuration_text(committed);
            if let Some(own) = &own {
                known.hello = own_hello(&self.links.config, own);
            }
        }
        let _entered = self.runtime.enter();
        for member in members.keys().filter(|member| **member != me) {
            let _known = self.links.peer(*member);
        }
        let Some(own) = own.filter(|own| *own != self.listens) else {
            return;
        };
        tracing::info!("the election port of this server changes with the configuration");
        self.listens = own.clone();
        self.accepting.abort_all();
        let links = self.links.clone();
        self.accepting.spawn(async move {
            match listen(&own, &links.config).await {
                Ok(listeners) => {
                    let mut accepting = JoinSet::new();
                    for listener in listeners {
                        accepting.spawn(accept_all(links.clone(), listener));
                    }
                    while accepting.join_next().await.is_some() {}
                }
                Err(error) => tracing::error!("{error}"),
            }
        });
    }

    /// Breaks all connections, and makes and takes none, until it is called with `false`.
    pub(crate) fn isolate(&self, isolated: bool) {
        self.links.isolated.send_replace(isolated);
    }

    /// Sends to a server, dialling it if there is no connection. A notification that was not sent yet is replaced.
    /// Does not wait. A server outside of the configuration hears it only over a connection that it began.
    pub(crate) fn send(&self, to: ServerId, notification: &Notification) {
        let outbox = self.links.peers.lock().get(&to).map(|peer| peer.outbox.clone());
        let Some(outbox) = outbox else {
            tracing::debug!("server {to} is not in the configuration and has hung up: nothing is sent to it");
            return;
        };
        let mut bytes = Vec::new();
        encode_notification(notification, &self.links.known.lock().config_text, &mut bytes);
        *outbox.newest.lock() = Some(News {
            bytes,
            said_at: Instant::now(),
        });
        outbox.changed.notify_one();
    }
}

impl Drop for ElectionLinks {
    fn drop(&mut self) {
        // The tasks hold `Links`, so that they would never be dropped by themselves. No task begins after this.
        drop(self.links.tasks.lock().take());
    }
}

/// What all tasks share.
struct Links {
    config: Arc<EnsembleConfig>,
    known: Mutex<Known>,
    on_event: Box<OnEvent>,
    /// The members without this server, and the strangers with which there is a link.
    peers: Mutex<BTreeMap<ServerId, Peer>>,
    /// The id of the next server that has none.
    next_anonymous: AtomicI64,
    /// Of the peers. `None` when the links are being closed.
    tasks: Mutex<Option<JoinSet<()>>>,
    /// Whether there are to be no connections.
    isolated: watch::Sender<bool>,
}

/// What may change while the server runs. Taken after `peers`, where both are.
struct Known {
    /// What is said first on every connection that is dialled.
    hello: Vec<u8>,
    /// Of the committed configuration and the next.
    members: BTreeMap<ServerId, Member>,
    /// Of the committed configuration.
    version: i64,
    /// The committed configuration, as notifications tell it.
    config_text: String,
}

/// How others reach the task of a server.
#[derive(Clone)]
struct Peer {
    outbox: Arc<Outbox>,
    incoming: mpsc::Sender<Incoming>,
}

/// A notification as it is sent.
struct News {
    bytes: Vec<u8>,
    said_at: Instant,
}

/// The newest notification to a server that was not sent yet.
#[derive(Default)]
struct Outbox {
    newest: Mutex<Option<News>>,
    /// For the one task that sends.
    changed: Notify,
}

impl Outbox {
    /// Takes it out, unless it is too old.
    fn take(&self) -> Option<News> {
        let news = self.newest.lock().take();
        news.filter(|news| news.said_at.elapsed() < NEWS_AGE_MAX)
    }

    /// Puts it back, unless there is a newer one.
    fn put_back(&self, news: News) {
        self.newest.lock().get_or_insert(news);
    }

    async fn wait_for_newest(&self) {
        loop {
            if let Some(news) = self.take() {
                return self.put_back(news);
            }
            self.changed.notified().await;
        }
    }
}

/// An accepted connection that has said who it is.
struct Incoming {
    stream: TcpStream,
    /// Where its server can be dialled.
    addresses: Vec<(String, u16)>,
    /// What came after the hello.
    rest: Vec<u8>,
}

impl Links {
    /// Completes when connections may be had, or when they may not.
    async fn when_isolated(&self, isolated: bool) {
        let mut state = self.isolated.subscribe();
        // Cannot fail: the sender is in `self`.
        let _changed = state.wait_for(|is| *is == isolated).await.is_ok();
    }

    /// The task of this server, started if there is none. `None`: there are too many strangers, or this is the end.
    fn peer(self: &Arc<Links>, id: ServerId) -> Option<Peer> {
        let mut peers = self.peers.lock();
        if let Some(known) = peers.get(&id) {
            return Some(known.clone());
        }
        let strangers = peers.keys().filter(|peer| self.is_stranger(**peer)).count();
        if self.is_stranger(id) && strangers >= STRANGERS_MAX {
            return None;
        }
        let (sender, incoming) = mpsc::channel(1);
        let peer = Peer {
            outbox: Arc::new(Outbox::default()),
            incoming: sender,
        };
        let task = PeerTask {
            links: self.clone(),
            id,
            outbox: peer.outbox.clone(),
            incoming,
            told_addresses: Vec::new(),
            must_dial: false,
            pace: Pace::new(),
        };
        let mut tasks = self.tasks.lock();
        let tasks = tasks.as_mut()?;
        // Those of strangers end; what is left of them is only this.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task.run());
        peers.insert(id, peer.clone());
        Some(peer)
    }

    /// A server told the configuration that it knows to be committed.
    fn hear_configuration(&self, from: ServerId, text: &str) {
        let version = {
            let known = self.known.lock();
            if known.config_text == text || !self.config.reconfig_enabled {
                return;
            }
            known.version
        };
        match read_configuration(text.as_bytes()) {
            Ok(Some(told)) if told.version > version => (self.on_event)(ElectionEvent::Configuration(told)),
            Ok(_) => {}
            Err(error) => tracing::warn!("the configuration of server {from} is passed over: {error}"),
        }
    }

    fn is_stranger(&self, id: ServerId) -> bool {
        !self.known.lock().members.contains_key(&id)
    }

    /// Gives an accepted connection to the task of its server.
    async fn meet(self: &Arc<Links>, hello: ElectionHello, stream: TcpStream, rest: Vec<u8>) {
        let id = if hello.server == ANONYMOUS {
            // It gets an id of its own, lower than any: it is always dialled back.
            ServerId(self.next_anonymous.fetch_sub(1, Relaxed))
        } else {
            hello.server
        };
        if id == self.config.me {
            tracing::warn!("a server calls itself {id} as this one does: one of the two has a wrong myid");
            return;
        }
        let Some(peer) = self.peer(id) else {
            tracing::warn!("too many servers outside of the configuration: {id} is hung up on");
            return;
        };
        let incoming = Incoming {
            stream,
            addresses: hello.addresses,
            rest,
        };
        // The task of a stranger may just have ended; it will come again.
        let _ended = peer.incoming.send(incoming).await;
    }

    /// Dials the first address that answers and says who we are.
    async fn dial(self: Arc<Links>, addresses: Vec<(String, u16)>) -> io::Result<TcpStream> {
        let limit = self.config.election_connect_timeout;
        let tries = addresses
            .into_iter()
            .map(move |(host, port)| dial_host(host, port, limit));
        let mut stream = first_success(tries).await?;
        set_options(&stream, self.config.tcp_keep_alive)?;
        // In one segment: Java reads it with one call.
        let hello = self.known.lock().hello.clone();
        stream.write_all(&hello).await?;
        Ok(stream)
    }
}

/// The hello of this server. Java reads no more than 2048 bytes of addresses.
fn own_hello(config: &EnsembleConfig, own: &[PeerAddress]) -> Vec<u8> {
    let mut hello = ElectionHello {
        server: config.me,
        addresses: own
            .iter()
            .map(|address| (address.host.clone(), address.election_port))
            .collect(),
    };
    loop {
        let mut bytes = Vec::new();
        hello.encode(config.multi_address_enabled, &mut bytes);
        if bytes.len() <= HELLO_LENGTH_MAX || hello.addresses.pop().is_none() {
            return bytes;
        }
    }
}

fn set_options(stream: &TcpStream, keep_alive: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNCONFIRMED_MAX))?;
    if keep_alive {
        socket.set_tcp_keepalive(&TcpKeepalive::new())?;
    }
    Ok(())
}

/// Looks the name up, as it may have moved, and dials what it stands for.
pub(crate) async fn dial_host(host: String, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let too_long = |_| io::Error::from(io::ErrorKind::TimedOut);
    let mut found: Vec<SocketAddr> = timeout(limit, lookup_host((host, port)))
        .await
        .map_err(too_long)??
        .collect();
    // As Java does.
    found.sort_by_key(SocketAddr::is_ipv6);
    let tries = found.into_iter().map(move |address| async move {
        timeout(limit, TcpStream::connect(address))
            .await
            .map_err(too_long)?
    });
    first_success(tries).await
}

/// The first that succeeds. Each begins when one before it failed, or after [`STAGGER`].
async fn first_success<T: Send + 'static>(
    tries: impl Iterator<Item = impl Future<Output = io::Result<T>> + Send + 'static>,
) -> io::Result<T> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    let mut waiting = tries.fuse();
    let mut running = JoinSet::new();
    loop {
        let next = waiting.next();
        let is_last = next.is_none();
        if let Some(next) = next {
            running.spawn(next);
        }
        tokio::select! {
            Some(done) = running.join_next() => match done {
                Ok(Ok(success)) => return Ok(success),
                Ok(Err(error)) => failure = error,
                Err(error) => failure = io::Error::other(error),
            },
            () = sleep(STAGGER), if !is_last => {}
            else => return Err(failure),
        }
    }
}

/// Listens on every address of the own server line, or on every interface.
async fn listen(own: &[PeerAddress], config: &EnsembleConfig) -> Result<Vec<TcpListener>, ServeError> {
    let mut listeners = Vec::new();
    let mut failure = None;
    for address in own {
        let host = match config.quorum_listen_on_all_ips {
            true => "0.0.0.0",
            false => &address.host,
        };
        let named = format!("{host}:{}", address.election_port);
        let mut tries = 0_u32;
        loop {
            let cause = match listen_on(host, address.election_port).await {
                Ok(listener) => break listeners.push(listener),
                Err(cause) => cause,
            };
            tries = tries.saturating_add(1);
            tracing::warn!("other servers cannot be heard on {named} (try {tries}): {cause}");
            if config.election_bind_tries_max.is_some_and(|max| tries >= max) {
                let address = named;
                break failure = Some(ServeError::ListenElection { address, cause });
            }
            sleep(LISTEN_RETRY).await;
        }
    }
    match failure {
        Some(failure) if listeners.is_empty() => Err(failure),
        _ => Ok(listeners),
    }
}

async fn listen_on(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut found: Vec<IpAddr> = lookup_host((host, port)).await?.map(|found| found.ip()).collect();
    found.sort_by_key(IpAddr::is_ipv6);
    // Every interface means both families, as in Java.
    if found.first().is_some_and(IpAddr::is_unspecified) {
        found = vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    } else {
        found.truncate(1);
    }
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for ip in found {
        match ports::bind_to(SocketAddr::new(ip, port), None) {
            Ok((listener, _)) => return Ok(listener),
            Err(cause) => failure = cause,
        }
    }
    Err(failure)
}

/// Accepts connections for ever.
async fn accept_all(links: Arc<Links>, listener: TcpListener) {
    let mut greetings = JoinSet::new();
    // Of the same tasks, oldest first, and of some that are over.
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(_) if *links.isolated.borrow() => {}
                Ok((stream, address)) => {
                    by_age.retain(|greeting| !greeting.is_finished());
                    if by_age.len() >= HELLOS_MAX
                        && let Some(oldest) = by_age.pop_front()
                    {
                        tracing::warn!(%address, "too many connections to the election port: the oldest is closed");
                        oldest.abort();
                    }
                    by_age.push_back(greetings.spawn(greet(links.clone(), stream, address)));
                }
                Err(error) => {
                    tracing::warn!("a connection of a server could not be accepted: {error}");
                    sleep(RESOURCES_PAUSE).await;
                }
            },
            Some(_) = greetings.join_next(), if !greetings.is_empty() => {}
        }
    }
}

/// Hears who dialled.
async fn greet(links: Arc<Links>, mut stream: TcpStream, address: SocketAddr) {
    let heard = timeout(HELLO_TIMEOUT, read_hello(&mut stream)).await;
    match heard {
        Ok(Ok((hello, rest))) => match set_options(&stream, links.config.tcp_keep_alive) {
            Ok(()) => links.meet(hello, stream, rest).await,
            Err(error) => tracing::debug!(%address, "connection lost while it was set up: {error}"),
        },
        // Its server died, or thought better of it; what becomes of that server is told elsewhere.
        Ok(Err(error)) if error.kind() != io::ErrorKind::InvalidData => {
            tracing::debug!(%address, "a connection to the election port ended before its hello: {error}");
        }
        Ok(Err(error)) => tracing::warn!(%address, "a connection to the election port is closed: {error}"),
        Err(_) => {
            tracing::warn!(%address, "a connection to the election port did not say who it is: it is closed");
        }
    }
}

async fn read_hello(stream: &mut TcpStream) -> io::Result<(ElectionHello, Vec<u8>)> {
    let mut bytes = Vec::with_capacity(HELLO_LENGTH_MAX);
    loop {
        let decoded = ElectionHello::decode(&bytes);
        match decoded.map_err(invalid_data)? {
            Some((hello, length)) => return Ok((hello, bytes.split_off(length))),
            // `decode` refuses what would be longer.
            None if stream.read_buf(&mut bytes).await? == 0 => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            None => {}
        }
    }
}

/// When a server may be dialled again.
struct Pace {
    delay: Duration,
    last: Option<Instant>,
    not_before: Instant,
}

impl Pace {
    fn new() -> Pace {
        Pace {
            delay: PACE_MIN,
            last: None,
            not_before: Instant::now(),
        }
    }

    /// A dial begins.
    fn dialled(&mut self) {
        let now = Instant::now();
        if now > self.not_before + PACE_MAX {
            self.delay = PACE_MIN;
        }
        self.last = Some(now);
        // Jitter, so that servers which lost one another together do not dial one another together for ever.
        self.not_before = now + self.delay.mul_f64(0.75 + 0.5 * fastrand::f64());
        self.delay = (self.delay * 2).min(PACE_MAX);
    }

    /// It was knocked at.
    fn knocked(&mut self) {
        self.not_before = self.not_before.max(Instant::now() + DIAL_BACK_WAIT);
    }

    /// The server is there, as it seems.
    fn hurry(&mut self) {
        self.delay = PACE_MIN;
        let soon = self.last.map_or_else(Instant::now, |last| last + PACE_MIN);
        self.not_before = self.not_before.min(soon);
    }
}

/// Looks after the connections with one server.
struct PeerTask {
    links: Arc<Links>,
    id: ServerId,
    outbox: Arc<Outbox>,
    incoming: mpsc::Receiver<Incoming>,
    /// Where it said it can be dialled.
    told_addresses: Vec<(String, u16)>,
    /// It knocked: it is dialled once although there may be nothing to say.
    must_dial: bool,
    pace: Pace,
}

/// What the task of a server does.
enum Doing {
    /// Of a stranger: it is forgotten.
    Ended,
    /// There is no connection, and nothing to say, or the next dial must wait.
    Idle,
    Dialling,
    /// There is a connection, on which these bytes have come already.
    Linked(TcpStream, Vec<u8>),
}

impl PeerTask {
    async fn run(mut self) {
        let mut doing = Doing::Idle;
        loop {
            doing = match doing {
                Doing::Ended => break,
                Doing::Idle => self.idle().await,
                Doing::Dialling => self.dial().await,
                Doing::Linked(stream, came) => self.carry(stream, came).await,
            };
        }
    }

    /// Takes a stranger out of the table, unless it has become a member meanwhile.
    fn forget(&self) -> Doing {
        let mut peers = self.links.peers.lock();
        if self.links.is_stranger(self.id) {
            peers.remove(&self.id);
            return Doing::Ended;
        }
        Doing::Idle
    }

    async fn idle(&mut self) -> Doing {
        let (outbox, must_dial, not_before) = (&self.outbox, self.must_dial, self.pace.not_before);
        let links = &self.links;
        let may_dial = async move {
            if !must_dial {
                outbox.wait_for_newest().await;
            }
            sleep_until(not_before).await;
            links.when_isolated(false).await;
        };
        tokio::select! {
            biased;
            Some(incoming) = self.incoming.recv() => self.take(incoming).unwrap_or(Doing::Idle),
            () = may_dial => Doing::Dialling,
            () = sleep(STRANGER_LINGER), if self.links.is_stranger(self.id) => self.forget(),
        }
    }

    /// An accepted connection: one of a higher server is kept; a lower one is hung up on and dialled back.
    fn take(&mut self, incoming: Incoming) -> Option<Doing> {
        self.told_addresses = incoming.addresses;
        self.told_addresses.truncate(TOLD_ADDRESSES_MAX);
        if self.id > self.links.config.me {
            return Some(Doing::Linked(incoming.stream, incoming.rest));
        }
        self.must_dial = true;
        self.pace.hurry();
        None
    }

    /// Where to dial: as configured, then as it said.
    fn addresses(&self) -> Vec<(String, u16)> {
        let configured = self.links.known.lock().members.get(&self.id).cloned();
        let mut addresses: Vec<(String, u16)> = configured
            .iter()
            .flat_map(|member| &member.addresses)
            .map(|address| (address.host.clone(), address.election_port))
            .collect();
        for told in &self.told_addresses {
            if !addresses.contains(told) {
                addresses.push(told.clone());
            }
        }
        addresses
    }

    async fn dial(&mut self) -> Doing {
        self.must_dial = false;
        self.pace.dialled();
        let dial = self.links.clone().dial(self.addresses());
        tokio::pin!(dial);
        loop {
            tokio::select! {
                biased;
                Some(incoming) = self.incoming.recv() => {
                    // Of a lower server: it hangs up by itself. The dial that is under way is the answer.
                    if let Some(linked) = self.take(incoming) {
                        return linked;
                    }
                }
                dialled = &mut dial => {
                    let id = self.id;
                    return match dialled {
                        Ok(stream) if id < self.links.config.me => {
                            self.must_dial = false;
                            Doing::Linked(stream, Vec::new())
                        }
                        Ok(_) => {
                            tracing::debug!("server {id} was asked to dial back");
                            self.pace.knocked();
                            Doing::Idle
                        }
                        Err(error) => {
                            tracing::debug!("server {id} cannot be reached to elect: {error}");
                            if self.links.is_stranger(self.id) {
                                *self.outbox.newest.lock() = None;
                            }
                            Doing::Idle
                        }
                    };
                }
            }
        }
    }

    async fn carry(&mut self, stream: TcpStream, came: Vec<u8>) -> Doing {
        let id = self.id;
        if *self.links.isolated.borrow() {
            return Doing::Idle;
        }
        tracing::debug!("connected with server {id} to elect");
        (self.links.on_event)(ElectionEvent::Connected(id));
        let mut link = Link {
            stream,
            came,
            unsent: None,
            sent: 0,
            intake: INTAKE_MAX,
            intake_until: Instant::now() + INTAKE_INTERVAL,
        };
        let next = tokio::select! {
            biased;
            Some(incoming) = self.incoming.recv() => self.take(incoming).unwrap_or(Doing::Idle),
            () = self.links.when_isolated(true) => Doing::Idle,
            ended = link.carry(id, &self.outbox, &self.links) => {
                tracing::debug!("connection with server {id} lost: {ended}");
                Doing::Idle
            }
        };
        // Nobody has heard it, perhaps only for a part that is missing. What was sent whole and not heard is said anew
        // by who elects, and asked for by who did not hear it, as soon as there is a connection.
        if let Some(unsent) = link.unsent {
            self.outbox.put_back(unsent);
        }
        next
    }
}

/// The connection that is kept with a server.
struct Link {
    stream: TcpStream,
    /// What was read and not told yet. Bounded by the longest notification, because more is only read when this holds
    /// no whole one.
    came: Vec<u8>,
    /// The notification that is being sent.
    unsent: Option<News>,
    /// How many bytes of `unsent` were sent.
    sent: usize,
    /// How many notifications are told until `intake_until`.
    intake: u32,
    intake_until: Instant,
}

impl Link {
    /// Sends and receives until the connection ends, and says why it did.
    async fn carry(&mut self, id: ServerId, outbox: &Outbox, links: &Links) -> io::Error {
        loop {
            if let Err(error) = self.step(id, outbox, links).await {
                return error;
            }
        }
    }

    async fn step(&mut self, id: ServerId, outbox: &Outbox, links: &Links) -> io::Result<()> {
        if Instant::now() >= self.intake_until {
            self.intake = INTAKE_MAX;
            self.intake_until = Instant::now() + INTAKE_INTERVAL;
        }
        self.tell(id, links)?;
        if self.unsent.is_none() {
            self.unsent = outbox.take();
            self.sent = 0;
        }
        let (may_read, must_write) = (self.intake > 0, self.unsent.is_some());
        let interest = match (may_read, must_write) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, _) => Interest::WRITABLE,
        };
        tokio::select! {
            ready = self.stream.ready(interest), if may_read || must_write => {
                let ready = ready?;
                if ready.is_readable() {
                    self.read()?;
                }
                if ready.is_writable() && must_write {
                    self.write()?;
                }
            }
            () = outbox.changed.notified(), if !must_write => {}
            () = sleep_until(self.intake_until), if !may_read => {}
        }
        Ok(())
    }

    /// Tells the whole notifications that have come, as many as one interval may bring.
    fn tell(&mut self, from: ServerId, links: &Links) -> io::Result<()> {
        let mut told = 0;
        while self.intake > 0 {
            let rest = &self.came[told..];
            let length = notification_length(rest).map_err(invalid_data)?;
            let Some(bytes) = length.and_then(|length| rest.get(4..4 + length)) else {
                break;
            };
            match decode_notification(bytes) {
                Ok((notification, configuration)) => {
                    if let Some(text) = configuration {
                        links.hear_configuration(from, &text);
                    }
                    (links.on_event)(ElectionEvent::Notification { from, notification });
                }
                Err(error) => tracing::warn!("a notification of server {from} is dropped: {error}"),
            }
            told += 4 + bytes.len();
            self.intake -= 1;
        }
        self.came.drain(..told);
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        self.came.reserve(READ_CHUNK);
        match self.stream.try_read_buf(&mut self.came) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(news) = &self.unsent else {
            return Ok(());
        };
        match self.stream.try_write(&news.bytes[self.sent..]) {
            Ok(count) => {
                self.sent += count;
                if self.sent == news.bytes.len() {
                    self.unsent = None;
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn invalid_data(error: oxkeeper_wire::DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
