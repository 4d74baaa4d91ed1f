//! A server, sessions at it, and a proxy between them that breaks what a test asks it to break.

#![allow(dead_code, unreachable_pub, reason = "each test program uses some of it")]

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use oxkeeper_recipes::Session;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions};

/// How long a test waits for what must happen.
pub const SOON: Duration = Duration::from_secs(20);

/// How tests make znodes of their own.
pub const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());

pub mod op {
    //! The numbers of requests that tests break.
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
}

/// A server of our own, which removes empty containers soon.
pub struct Server(oxkeeper_testkit::Server);

impl Server {
    pub fn start() -> Server {
        Server(
            oxkeeper_testkit::Server::start_with(|config| {
                config.znode.container_check_interval = Duration::from_millis(100)
            })
            .unwrap(),
        )
    }

    /// A session of ten seconds.
    pub async fn session(&self) -> Session {
        session_at(self.address(), Duration::from_secs(10)).await
    }

    /// How many watches the server holds.
    pub fn watches(&self) -> usize {
        let answer = four_letter(self.address(), "wchs");
        let total = answer
            .lines()
            .find_map(|line| line.strip_prefix("Total watches:"));
        total.unwrap().trim().parse().unwrap()
    }

    /// Ends a session as its timeout would, and waits until its client knows.
    pub async fn expire(&self, session: &Session) {
        let id = oxkeeper_testkit::SessionId(session.id().0);
        assert!(self.0.expire_session(id).unwrap());
        within("the session expires", session.over()).await;
    }
}

impl std::ops::Deref for Server {
    type Target = oxkeeper_testkit::Server;

    fn deref(&self) -> &oxkeeper_testkit::Server {
        &self.0
    }
}

fn four_letter(address: SocketAddr, word: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(word.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub async fn session_at(address: SocketAddr, timeout: Duration) -> Session {
    Session::new(client_at(address, timeout).await)
}

pub async fn client_at(address: SocketAddr, timeout: Duration) -> Client {
    let connector = Client::connector().with_session_timeout(timeout);
    connector.connect(&address.to_string()).await.unwrap()
}

/// Waits for a future that must become ready.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(SOON, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {SOON:?}: {what}"),
    }
}

/// Waits until a condition holds that must come to hold.
pub async fn eventually<F: AsyncFnMut() -> bool>(what: &str, mut condition: F) {
    let deadline = Instant::now() + SOON;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The children of a znode; none when it is not there.
pub async fn children(session: &Session, path: &str) -> Vec<String> {
    loop {
        match session.client().list_children(path).await {
            Ok(children) => return children,
            Err(zookeeper_client::Error::NoNode) => return Vec::new(),
            Err(zookeeper_client::Error::ConnectionLoss) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// What to break next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The next request with this number does not arrive; its connection breaks.
    Request(i32),
    /// The next request with this number is done, but its connection breaks before the reply.
    Reply(i32),
}

#[derive(Default)]
struct Plan {
    next: Option<Break>,
    broken: usize,
    is_cut: bool,
    is_stalled: bool,
    connections: Vec<TcpStream>,
    requests: HashMap<i32, usize>,
}

/// A proxy before a server that knows the frames of the protocol. Blocking threads, so that it goes on when a
/// test's runtime stands still.
#[derive(Clone)]
pub struct Proxy {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
}

impl Proxy {
    pub fn start(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            address: listener.local_addr().unwrap(),
            plan: Arc::default(),
        };
        let accepting = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.plan().is_cut {
                    continue;
                }
                if let Ok(server) = TcpStream::connect(server) {
                    // A connection that breaks while it is set up is a broken connection.
                    let _ = accepting.join(client, server);
                }
            }
        });
        proxy
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn session(&self, timeout: Duration) -> Session {
        session_at(self.address, timeout).await
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Breaks something once.
    pub fn break_next(&self, what: Break) {
        self.plan().next = Some(what);
    }

    /// How often something was broken by [`Proxy::break_next`].
    pub fn broken(&self) -> usize {
        self.plan().broken
    }

    /// How many requests with this number came by.
    pub fn requests(&self, number: i32) -> usize {
        self.plan().requests.get(&number).copied().unwrap_or(0)
    }

    /// Breaks all connections; new ones are closed at once until [`Proxy::heal`].
    pub fn cut(&self) {
        let mut plan = self.plan();
        plan.is_cut = true;
        for connection in plan.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Lets nothing pass, with open connections, until [`Proxy::heal`].
    pub fn stall(&self) {
        self.plan().is_stalled = true;
    }

    pub fn heal(&self) {
        let mut plan = self.plan();
        plan.is_cut = false;
        plan.is_stalled = false;
    }

    fn join(&self, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        self.plan()
            .connections
            .extend([client.try_clone()?, server.try_clone()?]);
        let lost_xid: Arc<Mutex<Option<i32>>> = Arc::default();
        let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
        let (proxy, xid) = (self.clone(), Arc::clone(&lost_xid));
        thread::spawn(move || {
            proxy.pump(from_client, to_server, |frame| {
                proxy.is_request_passed(frame, &xid)
            })
        });
        let proxy = self.clone();
        thread::spawn(move || {
            proxy.pump(server, client, |frame| {
                let is_lost = lost_xid
                    .lock()
                    .unwrap()
                    .is_some_and(|xid| xid == number_at(frame, 0));
                if is_lost {
                    proxy.plan().broken += 1;
                }
                !is_lost
            });
        });
        Ok(())
    }

    /// Passes frames on until one is not to pass; then both sides are closed.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, mut passes: impl FnMut(&[u8]) -> bool) {
        let mut is_first = true;
        while let Ok(frame) = read_frame(&mut from) {
            while self.plan().is_stalled {
                thread::sleep(Duration::from_millis(2));
            }
            // The first frame of each side belongs to the handshake.
            let passes = std::mem::take(&mut is_first) || passes(&frame);
            if !passes || self.plan().is_cut || to.write_all(&frame).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn is_request_passed(&self, frame: &[u8], lost_xid: &Mutex<Option<i32>>) -> bool {
        let (xid, number) = (number_at(frame, 0), number_at(frame, 1));
        let mut plan = self.plan();
        *plan.requests.entry(number).or_default() += 1;
        match plan.next {
            Some(Break::Request(wanted)) if wanted == number => {
                plan.next = None;
                plan.broken += 1;
                false
            }
            Some(Break::Reply(wanted)) if wanted == number => {
                plan.next = None;
                *lost_xid.lock().unwrap() = Some(xid);
                true
            }
            _ => true,
        }
    }
}

/// A frame with its length before it.
fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let body = u32::from_be_bytes(length) as usize;
    assert!(body < 16 << 20, "no frame of ours is that long");
    let mut frame = length.to_vec();
    frame.resize(4 + body, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// The 32-bit numbers at the start of a frame's body.
fn number_at(frame: &[u8], index: usize) -> i32 {
    let at = 4 + 4 * index;
    frame
        .get(at..at + 4)
        .map_or(0, |bytes| i32::from_be_bytes(bytes.try_into().unwrap()))
}
