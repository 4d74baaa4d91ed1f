//! What the tests share: the server's switch, clients behind a proxy that records frames and can be cut or go
//! deaf, and waits with deadlines.

use std::future::Future;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, SessionInfo, SessionState};

/// Bounds every single wait.
const DEADLINE: Duration = Duration::from_secs(20);
/// Bounds a test.
const TEST_DEADLINE: Duration = Duration::from_secs(90);

/// Runs the tests whose names contain the first argument; the exit code.
pub async fn run(tests: &[crate::Test]) -> i32 {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let (mut ran, mut failed) = (0, 0);
    for (name, body) in tests.iter().filter(|(name, _)| name.contains(&wanted)) {
        ran += 1;
        if IS_DOWN.load(Ordering::SeqCst) {
            start_server(); // a test failed before it did
        }
        let start = Instant::now();
        // In a task of its own, so that a panic ends the test only.
        let root = format!("/{}", name.replace("::", "-"));
        let test = tokio::spawn(body(Context { root }));
        let abort = test.abort_handle();
        match tokio::time::timeout(TEST_DEADLINE, test).await {
            Ok(Ok(())) if wanted.is_empty() => {}
            Ok(Ok(())) => println!("ok    {name} ({} ms)", start.elapsed().as_millis()),
            Ok(Err(_)) => {
                println!("FAIL  {name}");
                failed += 1;
            }
            Err(_) => {
                abort.abort();
                println!("FAIL  {name}: not within {TEST_DEADLINE:?}");
                failed += 1;
            }
        }
    }
    println!("{} of {ran} tests passed", ran - failed);
    i32::from(failed > 0 || ran == 0)
}

/// A test's surroundings.
pub struct Context {
    /// A znode of the test's own; `begin` creates it.
    pub root: String,
}

impl Context {
    /// A connected client, and the test's znode.
    pub async fn begin(&self) -> Zk {
        let zk = connect(15_000).await;
        zk.create(&self.root, "").await;
        zk
    }
}

fn kind_is_java() -> bool {
    std::env::var("INTEROP_KIND").as_deref() == Ok("java")
}

/// The server's address.
pub fn address() -> String {
    format!(
        "127.0.0.1:{}",
        std::env::var("INTEROP_PORT").expect("run sets INTEROP_PORT")
    )
}

// A Java server that is just starting never answers some of the connections it accepts, and their clients lose
// their sessions waiting; so clients of one connect only when it serves.
static STARTING: AtomicBool = AtomicBool::new(false);
static IS_DOWN: AtomicBool = AtomicBool::new(false);

fn command(word: &str) {
    tokio::task::block_in_place(|| {
        let mut commands = std::fs::File::options()
            .write(true)
            .open("/dev/fd/3")
            .expect("run opens descriptor 3");
        writeln!(commands, "{word}").expect("run reads the commands");
        let mut answer = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut answer)
            .expect("run answers");
        assert_eq!(answer, "done\n", "the script's answer to {word}");
    });
}

/// Kills the server with SIGKILL and waits for its end.
pub fn kill_server() {
    STARTING.store(kind_is_java(), Ordering::SeqCst);
    IS_DOWN.store(true, Ordering::SeqCst);
    command("kill");
}

/// Starts it on the same port and directory and waits until it serves.
pub fn start_server() {
    command("start");
    IS_DOWN.store(false, Ordering::SeqCst);
    STARTING.store(false, Ordering::SeqCst);
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Whole,
    /// Connections are closed and no other opens.
    Cut,
    /// Connections stay open and nothing passes.
    Deaf,
}

/// Bytes of both directions of the newest connection.
#[derive(Default)]
struct Record {
    sent: Vec<u8>,
    received: Vec<u8>,
}

pub struct Proxy {
    address: String,
    mode: watch::Sender<Mode>,
    record: Arc<Mutex<Record>>,
}

impl Proxy {
    async fn open() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (mode, seen) = watch::channel(Mode::Whole);
        let record = Arc::new(Mutex::new(Record::default()));
        let of_connections = record.clone();
        tokio::spawn(async move {
            let mut of_proxy = seen.clone();
            loop {
                let client = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    gone = async { while of_proxy.changed().await.is_ok() {} } => return gone,
                };
                if *seen.borrow() != Mode::Cut && !STARTING.load(Ordering::SeqCst) {
                    tokio::spawn(forward(client, seen.clone(), of_connections.clone()));
                }
            }
        });
        Proxy {
            address,
            mode,
            record,
        }
    }

    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    pub fn deaf(&self) {
        self.mode.send_replace(Mode::Deaf);
    }

    pub fn mend(&self) {
        self.mode.send_replace(Mode::Whole);
    }

    /// Whole frames from the client, without their lengths; the first is the ConnectRequest.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        frames(&self.record.lock().unwrap().sent)
    }

    /// Whole frames from the server.
    pub fn received(&self) -> Vec<Vec<u8>> {
        frames(&self.record.lock().unwrap().received)
    }

    /// Requests of an op that were answered, on the newest connection.
    pub fn answered(&self, op: i32) -> usize {
        let replies: Vec<i32> = self
            .received()
            .iter()
            .skip(1)
            .map(|frame| int(frame, 0))
            .collect();
        self.sent()
            .iter()
            .skip(1)
            .filter(|frame| int(frame, 4) == op && replies.contains(&int(frame, 0)))
            .count()
    }

    /// Notifications that came, on the newest connection.
    pub fn notifications(&self) -> usize {
        self.received()
            .iter()
            .skip(1)
            .filter(|frame| int(frame, 0) == -1)
            .count()
    }
}

/// The 32-bit integer at an offset of a frame.
pub fn int(frame: &[u8], offset: usize) -> i32 {
    i32::from_be_bytes(frame[offset..offset + 4].try_into().unwrap())
}

fn frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while bytes.len() >= 4 && bytes.len() >= 4 + int(bytes, 0) as usize {
        let end = 4 + int(bytes, 0) as usize;
        all.push(bytes[4..end].to_vec());
        bytes = &bytes[end..];
    }
    all
}

async fn forward(client: TcpStream, mode: watch::Receiver<Mode>, record: Arc<Mutex<Record>>) {
    let Ok(server) = TcpStream::connect(address()).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    *record.lock().unwrap() = Record::default();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = mode.clone();
    let (sent, received) = (record.clone(), record);
    tokio::select! {
        () = copy(from_client, to_server, mode.clone(), |bytes| sent.lock().unwrap().sent.extend_from_slice(bytes)) => {}
        () = copy(from_server, to_client, mode, |bytes| received.lock().unwrap().received.extend_from_slice(bytes)) => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    note: impl Fn(&[u8]),
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut bytes).await {
        if mode.wait_for(|mode| *mode != Mode::Deaf).await.is_err() {
            return;
        }
        note(&bytes[..n]);
        if to.write_all(&bytes[..n]).await.is_err() {
            return;
        }
    }
}

/// A client behind a proxy of its own. Dropped, it closes its session.
pub struct Zk {
    pub client: Client,
    pub proxy: Proxy,
}

impl std::ops::Deref for Zk {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// How to open a client.
#[derive(Default)]
pub struct Options {
    pub timeout_ms: u64,
    pub auth: Option<String>,
    pub session: Option<SessionInfo>,
    pub detached: bool,
}

pub async fn connect(timeout_ms: u64) -> Zk {
    connect_with(Options {
        timeout_ms,
        ..Options::default()
    })
    .await
    .expect("the client connects")
}

pub async fn connect_with(options: Options) -> Result<Zk, zookeeper_client::Error> {
    let proxy = Proxy::open().await;
    let mut connector = Client::connector().with_session_timeout(Duration::from_millis(options.timeout_ms));
    if let Some(auth) = options.auth {
        connector = connector.with_auth("digest", auth.as_bytes());
    }
    if let Some(session) = options.session {
        connector = connector.with_session(session);
    }
    if options.detached {
        connector = connector.with_detached();
    }
    let client = within("the client connects", connector.connect(&proxy.address)).await?;
    Ok(Zk { client, proxy })
}

pub const PERSISTENT: &CreateOptions<'static> = &CreateMode::Persistent.with_acls(Acls::anyone_all());
pub const EPHEMERAL: &CreateOptions<'static> = &CreateMode::Ephemeral.with_acls(Acls::anyone_all());
pub const SEQUENTIAL: &CreateOptions<'static> =
    &CreateMode::PersistentSequential.with_acls(Acls::anyone_all());

impl Zk {
    /// Creates a persistent znode.
    pub async fn create(&self, path: &str, data: &str) {
        self.client
            .create(path, data.as_bytes(), PERSISTENT)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    pub async fn text(&self, path: &str) -> String {
        let (data, _) = self
            .client
            .get_data(path)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        String::from_utf8(data).unwrap()
    }

    pub async fn names(&self, path: &str) -> Vec<String> {
        let mut names = self
            .client
            .list_children(path)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        names.sort();
        names
    }

    pub async fn exists(&self, path: &str) -> bool {
        self.client
            .check_stat(path)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"))
            .is_some()
    }

    /// A round trip: what came before it over the connection has come.
    pub async fn fence(&self) {
        self.client.check_stat("/").await.expect("the fence is answered");
    }

    /// Waits until the client is in a state of its session.
    pub async fn enters(&self, wanted: SessionState) {
        eventually(&format!("the client enters {wanted}"), || async {
            self.client.state() == wanted
        })
        .await;
    }
}

/// The future's result; after the deadline panics with the behaviour's name.
pub async fn within<T>(behaviour: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {DEADLINE:?}: {behaviour}"),
    }
}

/// Waits for a condition.
pub async fn eventually<F: Future<Output = bool>>(behaviour: &str, mut condition: impl FnMut() -> F) {
    within(behaviour, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
