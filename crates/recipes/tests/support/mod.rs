//! A server, sessions at it, and a proxy between them that breaks what a test asks it to break.

#![allow(dead_code, unreachable_pub, reason = "each test program uses some of it")]

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxkeeper_recipes::{Change, Error, Nodes, Session, Update};
use oxkeeper_testkit::{Fault, Hits, OpCode};
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error as ClientError};

/// How long a test waits for what must happen.
pub const SOON: Duration = Duration::from_secs(20);

/// How tests make znodes of their own.
pub const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());

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

impl Deref for Server {
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
        match session.client().list_children(path).await.map_err(Error::from) {
            Ok(children) => return children,
            Err(Error::Client(ClientError::NoNode)) => return Vec::new(),
            Err(Error::Client(ClientError::ConnectionLoss)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Does to a copy of a cache's state what an update says, which must fit.
pub fn apply(state: &mut Nodes, update: Update) {
    match update {
        Update::All(nodes) => *state = nodes,
        Update::Changes(changes) => {
            for change in changes.iter() {
                match change {
                    Change::Created(node) => {
                        assert!(state.insert(node.path.clone(), Arc::clone(node)).is_none())
                    }
                    Change::Updated { before, after } => {
                        assert_eq!(
                            state.insert(after.path.clone(), Arc::clone(after)).as_ref(),
                            Some(before)
                        );
                    }
                    Change::Deleted(node) => assert_eq!(state.remove(&node.path).as_ref(), Some(node)),
                }
            }
        }
    }
}

/// What to break next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The next request for this does not arrive; its connection breaks.
    Request(OpCode),
    /// The next request for this is done, but its connection breaks before the reply.
    Reply(OpCode),
}

/// The testkit's proxy before a server, shared by the parts of a test.
#[derive(Clone)]
pub struct Proxy(Arc<oxkeeper_testkit::Proxy>);

impl Proxy {
    pub fn start(server: SocketAddr) -> Proxy {
        Proxy(Arc::new(oxkeeper_testkit::Proxy::start(server).unwrap()))
    }

    pub async fn session(&self, timeout: Duration) -> Session {
        session_at(self.address(), timeout).await
    }

    /// Breaks something once.
    pub fn break_next(&self, what: Break) -> Hits {
        let (op, fault) = match what {
            Break::Request(op) => (op, Fault::CutBefore),
            Break::Reply(op) => (op, Fault::LoseReply),
        };
        self.fault_once(move |frame| frame.is_request(op), fault)
    }
}

impl Deref for Proxy {
    type Target = oxkeeper_testkit::Proxy;

    fn deref(&self) -> &oxkeeper_testkit::Proxy {
        &self.0
    }
}
