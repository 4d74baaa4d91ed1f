//! A proxy before a server that knows the frames of the client protocol, and breaks what a test wants broken.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use oxkeeper_types::OpCode;
use oxkeeper_wire::{Decoder, ReplyHeader, XID_WATCH_EVENT, decode_watch_event, next_frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::Error;
use crate::error::io_error;

/// The longest frame that is passed on, in bytes. A longer one ends its connection.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// The length before a frame, in bytes.
const LENGTH_BYTES: usize = 4;
/// What is read at once, in bytes.
const READ_BYTES: usize = 16 << 10;
/// After [`Fault::CutAfter`]: how long the server may take to read what was passed on.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);
/// How long accepting rests after the system had no resources for another connection.
const RESOURCES_PAUSE: Duration = Duration::from_millis(50);

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// The client asks for a session, a new one or its old one.
    Connect,
    /// The client asks for something.
    Request,
    /// The server answers [`FrameKind::Connect`].
    Connected,
    /// The server answers a request.
    Reply,
    /// The server tells of a change that was watched.
    WatchEvent,
}

/// A frame on its way through a [`Proxy`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Frame<'a> {
    /// The number of its connection: 1 for the first that came, and so on.
    pub connection: u64,
    /// What it is.
    pub kind: FrameKind,
    /// The number that the client gave the request, also in its reply; 0 in a handshake.
    pub xid: i32,
    /// What is asked for, or was. `None` in a handshake, in a watch event, and for what the protocol does not know.
    pub op: Option<OpCode>,
    /// The first path that the request names (a multi names none), also in its reply; that of a watch event.
    pub path: Option<&'a str>,
    /// The error code of a reply; 0 is none.
    pub error: i32,
    /// The frame as it came, without its length.
    pub bytes: &'a [u8],
}

impl Frame<'_> {
    /// Whether it asks for `op`.
    pub fn is_request(&self, op: OpCode) -> bool {
        self.kind == FrameKind::Request && self.op == Some(op)
    }

    /// Whether it answers a request for `op`.
    pub fn is_reply(&self, op: OpCode) -> bool {
        self.kind == FrameKind::Reply && self.op == Some(op)
    }

    /// Whether it asks for a znode to be created, in whichever of the protocol's four ways.
    pub fn is_create(&self) -> bool {
        use OpCode::{Create, Create2, CreateContainer, CreateTtl};
        let creates = matches!(self.op, Some(Create | Create2 | CreateContainer | CreateTtl));
        self.kind == FrameKind::Request && creates
    }

    /// Whether its path begins with `prefix`.
    pub fn is_below(&self, prefix: &str) -> bool {
        self.path.is_some_and(|path| path.starts_with(prefix))
    }
}

/// What becomes of a frame and of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks before the frame is passed on: who is to get it never does.
    CutBefore,
    /// The frame is passed on, then the connection breaks. What the other side does with a request it does; its reply
    /// is lost, whether or not there was time for one.
    CutAfter,
    /// The request is passed on and done, but instead of its reply the client gets a broken connection.
    LoseReply,
    /// The frame is passed on so much later, and what comes after it from the same side waits.
    Delay(Duration),
    /// The frame is not passed on, and nothing else is in any connection, until [`Proxy::heal`]; as
    /// [`Proxy::stall`].
    Stall,
}

type Matcher = Box<dyn FnMut(&Frame<'_>) -> bool + Send>;

struct Rule {
    matches: Matcher,
    fault: Fault,
    is_once: bool,
    hits: watch::Sender<usize>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// How often a fault has happened.
#[derive(Clone, Debug)]
pub struct Hits(watch::Receiver<usize>);

impl Hits {
    /// How often it has happened.
    pub fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Completes when it has happened. Any runtime will do. Never, when the proxy was dropped before.
    pub async fn happened(&self) {
        let happened = self.0.clone().wait_for(|count| *count > 0).await.is_ok();
        if !happened {
            std::future::pending::<()>().await;
        }
    }
}

/// A proxy before a server, Oxkeeper's or any other that speaks the protocol, on a free port of 127.0.0.1: what comes
/// is passed on frame by frame, unless a test wants something broken. It has a thread of its own, so that it goes on
/// while a test's runtime stands still. Dropping it breaks its connections and leaves nothing behind.
///
/// ```
/// use oxkeeper_testkit::{Client, CreateMode, Fault, Proxy, Server};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::start()?;
/// let proxy = Proxy::start(server.address())?;
/// // The case that locks get wrong: the znode is there, and the client does not know.
/// let lost = proxy.fault_once(|frame| frame.is_create(), Fault::LoseReply);
/// let mut client = Client::connect(proxy.address(), 10_000)?;
/// client.create("/lock", b"", CreateMode::Ephemeral).unwrap_err();
/// assert_eq!(lost.count(), 1);
/// let mut client = Client::renew(proxy.address(), client.session())?;
/// assert!(client.exists("/lock", false)?.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    upstream: Vec<SocketAddr>,
    plan: Mutex<Plan>,
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct Plan {
    rules: Vec<Rule>,
    requests: HashMap<OpCode, usize>,
    connections: u64,
}

/// What all connections look at.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Connections that began before the newest cut are to end.
    cuts: u64,
    is_cut: bool,
    is_stalled: bool,
    has_ended: bool,
}

impl Proxy {
    /// Starts a proxy before the server at `upstream`, which need not run yet: it is dialled once for each connection
    /// that comes.
    ///
    /// # Errors
    /// When `upstream` names no address, or there is no port or thread to be had.
    pub fn start(upstream: impl ToSocketAddrs) -> Result<Proxy, Error> {
        let upstream = upstream
            .to_socket_addrs()
            .map_err(io_error("the address of the proxy's server"))?
            .collect();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(io_error("a port for the proxy"))?;
        let address = listener.local_addr().map_err(io_error("a port for the proxy"))?;
        let shared = Arc::new(Shared {
            upstream,
            plan: Mutex::default(),
            state: watch::Sender::default(),
        });
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(io_error("a runtime for the proxy"))?;
        let running = shared.clone();
        let run = move || runtime.block_on(accept_all(listener, running));
        let thread = thread::Builder::new()
            .name("oxkeeper-proxy".to_owned())
            .spawn(run)
            .map_err(io_error("a thread for the proxy"))?;
        Ok(Proxy {
            address,
            shared,
            thread: Some(thread),
        })
    }

    /// Where clients connect instead of to the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as clients of ZooKeeper take it.
    pub fn connect_string(&self) -> String {
        self.address.to_string()
    }

    /// Lets `fault` happen to the first frame that `matches` says yes to. Of several faults that match one frame, the
    /// one asked for first happens. `matches` sees every frame that passes from now on; it must be quick and must not
    /// use the proxy.
    pub fn fault_once(&self, matches: impl FnMut(&Frame<'_>) -> bool + Send + 'static, fault: Fault) -> Hits {
        self.add(Box::new(matches), fault, true)
    }

    /// As [`Proxy::fault_once`], for every such frame until [`Proxy::clear_faults`].
    pub fn fault_always(
        &self,
        matches: impl FnMut(&Frame<'_>) -> bool + Send + 'static,
        fault: Fault,
    ) -> Hits {
        self.add(Box::new(matches), fault, false)
    }

    fn add(&self, matches: Matcher, fault: Fault, is_once: bool) -> Hits {
        let (hits, seen) = watch::channel(0);
        self.shared.plan().rules.push(Rule {
            matches,
            fault,
            is_once,
            hits,
        });
        Hits(seen)
    }

    /// Forgets all faults that have not happened, and those that go on.
    pub fn clear_faults(&self) {
        self.shared.plan().rules.clear();
    }

    /// Breaks all connections; the clients may come back at once.
    pub fn disconnect_clients(&self) {
        self.shared.state.send_modify(|state| state.cuts += 1);
    }

    /// Breaks all connections, and every further one as soon as it is accepted, until [`Proxy::heal`].
    pub fn cut(&self) {
        self.shared.state.send_modify(|state| {
            state.cuts += 1;
            state.is_cut = true;
        });
    }

    /// Lets nothing pass, without a word to either side, until [`Proxy::heal`]: then it goes on where it was.
    pub fn stall(&self) {
        self.shared.state.send_modify(|state| state.is_stalled = true);
    }

    /// Ends [`Proxy::cut`] and [`Proxy::stall`].
    pub fn heal(&self) {
        self.shared.state.send_modify(|state| {
            state.is_cut = false;
            state.is_stalled = false;
        });
    }

    /// How many requests for `op` have come by, passed on or not.
    pub fn requests(&self, op: OpCode) -> usize {
        self.shared.plan().requests.get(&op).copied().unwrap_or(0)
    }

    /// How many connections have come by, refused ones not counted.
    pub fn connections(&self) -> u64 {
        self.shared.plan().connections
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state.send_modify(|state| state.has_ended = true);
        if let Some(thread) = self.thread.take() {
            // A panic was shown when it happened.
            let _panicked = thread.join();
        }
    }
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to happen to a frame, and whom to tell when it has.
    fn judge(&self, frame: &Frame<'_>) -> Option<(Fault, watch::Sender<usize>)> {
        let mut plan = self.plan();
        if let (FrameKind::Request, Some(op)) = (frame.kind, frame.op) {
            *plan.requests.entry(op).or_default() += 1;
        }
        let at = plan.rules.iter_mut().position(|rule| (rule.matches)(frame))?;
        let (fault, hits) = (plan.rules[at].fault, plan.rules[at].hits.clone());
        if plan.rules[at].is_once {
            plan.rules.remove(at);
        }
        Some((fault, hits))
    }

    async fn wait_while_stalled(&self) {
        let mut states = self.state.subscribe();
        let _state = states.wait_for(|state| !state.is_stalled).await;
    }

    /// Completes when connections that began after so many cuts are to end.
    async fn wait_for_cut(&self, cuts: u64) {
        let mut states = self.state.subscribe();
        let _state = states
            .wait_for(|state| state.cuts > cuts || state.has_ended)
            .await;
    }
}

async fn accept_all(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => panic!("the runtime takes a socket that does not block: {error}"),
    };
    let mut states = shared.state.subscribe();
    loop {
        let accepted = tokio::select! {
            _ended = states.wait_for(|state| state.has_ended) => return,
            accepted = listener.accept() => accepted,
        };
        let State { cuts, is_cut, .. } = *shared.state.borrow();
        match accepted {
            Ok(_refused) if is_cut => {}
            Ok((client, _)) => {
                shared.plan().connections += 1;
                let number = shared.plan().connections;
                let shared = shared.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        () = shared.wait_for_cut(cuts) => {}
                        // A connection that fails ends, on both sides.
                        _ended = serve(client, number, &shared) => {}
                    }
                });
            }
            Err(_) => sleep(RESOURCES_PAUSE).await,
        }
    }
}

async fn serve(mut client: TcpStream, number: u64, shared: &Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    shared.wait_while_stalled().await;
    let mut server = TcpStream::connect(&shared.upstream[..]).await?;
    server.set_nodelay(true)?;
    let mut first = [0];
    client.peek(&mut first).await?;
    if first != [0] {
        // A four-letter word: no frame of a client begins with a letter.
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    let connection = Connection {
        number,
        shared,
        unanswered: Mutex::default(),
    };
    let ended = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        tokio::select! {
            ended = connection.pass_requests(&mut from_client, &mut to_server) => ended,
            ended = connection.pass_replies(&mut from_server, &mut to_client) => ended,
        }
    };
    drop(client);
    ended?;
    // Closing a socket that has something unread could take back what was sent over it.
    server.shutdown().await?;
    let drained = async {
        let mut ignored = [0; READ_BYTES];
        while server.read(&mut ignored).await? > 0 {}
        io::Result::Ok(())
    };
    timeout(LAST_WORDS_WITHIN, drained).await.unwrap_or(Ok(()))
}

/// A request that was passed on and is not answered.
#[derive(Default)]
struct Asked {
    xid: i32,
    op: Option<OpCode>,
    path: Option<String>,
    /// Its reply is to be lost; whom to tell then.
    lose: Option<watch::Sender<usize>>,
}

struct Connection<'a> {
    number: u64,
    shared: &'a Shared,
    /// In the order asked. As long as what its client has in work.
    unanswered: Mutex<VecDeque<Asked>>,
}

impl Connection<'_> {
    fn unanswered(&self) -> MutexGuard<'_, VecDeque<Asked>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass_requests(&self, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> io::Result<()> {
        let (mut input, mut kind) = (Vec::new(), FrameKind::Connect);
        while let Some(bytes) = next(from, &mut input).await? {
            let body = &bytes[LENGTH_BYTES..];
            let (xid, op, path) = match kind {
                FrameKind::Connect => (0, None, None),
                _ => request_of(body).unwrap_or_default(),
            };
            let mut fault = self.shared.judge(&Frame {
                connection: self.number,
                kind,
                xid,
                op,
                path: path.as_deref(),
                error: 0,
                bytes: body,
            });
            let lose = fault.take_if(|(fault, _)| *fault == Fault::LoseReply);
            self.unanswered().push_back(Asked {
                xid,
                op,
                path,
                lose: lose.map(|(_, hits)| hits),
            });
            kind = FrameKind::Request;
            if !self.pass(to, &bytes, fault).await? {
                break;
            }
        }
        Ok(())
    }

    async fn pass_replies(&self, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> io::Result<()> {
        let (mut input, mut kind) = (Vec::new(), FrameKind::Connected);
        while let Some(bytes) = next(from, &mut input).await? {
            let body = &bytes[LENGTH_BYTES..];
            let header = match kind {
                FrameKind::Connected => None,
                _ => ReplyHeader::decode(body).ok(),
            };
            let (xid, error) = header
                .as_ref()
                .map_or((0, 0), |(header, _)| (header.xid, header.err));
            let event = header
                .filter(|(header, _)| header.xid == XID_WATCH_EVENT)
                .and_then(|(_, event)| decode_watch_event(event).ok());
            let asked = match event {
                Some((_, path)) => {
                    kind = FrameKind::WatchEvent;
                    Asked {
                        path: Some(path),
                        ..Asked::default()
                    }
                }
                None => self.take_asked(xid).unwrap_or_default(),
            };
            if let Some(hits) = asked.lose {
                hits.send_modify(|count| *count += 1);
                break;
            }
            let fault = self.shared.judge(&Frame {
                connection: self.number,
                kind,
                xid,
                op: asked.op,
                path: asked.path.as_deref(),
                error,
                bytes: body,
            });
            kind = FrameKind::Reply;
            if !self.pass(to, &bytes, fault).await? {
                break;
            }
        }
        Ok(())
    }

    /// The request that is answered: the oldest of this number, since pings and their like share one.
    fn take_asked(&self, xid: i32) -> Option<Asked> {
        let mut unanswered = self.unanswered();
        let at = unanswered.iter().position(|asked| asked.xid == xid)?;
        unanswered.remove(at)
    }

    /// Passes a frame on, as far as the fault that happens to it allows. False when the connection is to end.
    async fn pass(
        &self,
        to: &mut WriteHalf<'_>,
        bytes: &[u8],
        fault: Option<(Fault, watch::Sender<usize>)>,
    ) -> io::Result<bool> {
        let (fault, hits) = fault.unzip();
        let happens = || {
            if let Some(hits) = &hits {
                hits.send_modify(|count| *count += 1);
            }
        };
        match fault {
            // A reply that is to be lost is one that is not passed on.
            Some(Fault::CutBefore | Fault::LoseReply) => {
                happens();
                return Ok(false);
            }
            Some(Fault::Delay(by)) => {
                happens();
                sleep(by).await;
            }
            Some(Fault::Stall) => {
                self.shared.state.send_modify(|state| state.is_stalled = true);
                happens();
            }
            Some(Fault::CutAfter) | None => {}
        }
        self.shared.wait_while_stalled().await;
        to.write_all(bytes).await?;
        if fault == Some(Fault::CutAfter) {
            happens();
            return Ok(false);
        }
        Ok(true)
    }
}

/// The next frame with its length, `None` when there is none any more.
async fn next(from: &mut ReadHalf<'_>, input: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        match next_frame(input, FRAME_BYTES_MAX) {
            Ok(Some(body)) => return Ok(Some(input.drain(..body.end).collect())),
            Ok(None) => {}
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
        input.reserve(READ_BYTES);
        if from.read_buf(input).await? == 0 {
            return Ok(None);
        }
    }
}

/// The number, the operation and the first path of a request.
fn request_of(body: &[u8]) -> Option<(i32, Option<OpCode>, Option<String>)> {
    use OpCode::{
        Auth, CloseSession, CreateSession, Error, Multi, MultiRead, Ping, Sasl, SetWatches, SetWatches2,
        WhoAmI,
    };
    let mut decoder = Decoder::new(body);
    let (xid, op) = (decoder.int().ok()?, OpCode::from_code(decoder.int().ok()?));
    let path = match op {
        Some(
            Auth | CloseSession | CreateSession | Error | Multi | MultiRead | Ping | Sasl | SetWatches
            | SetWatches2 | WhoAmI,
        )
        | None => None,
        Some(_) => decoder.string().ok().flatten().map(|path| path.into_owned()),
    };
    Some((xid, op, path))
}
