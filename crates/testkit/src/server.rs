//! A server inside the process of a test.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use oxkeeper_server::config::{FourLetterConfig, ServerConfig};
use oxkeeper_server::{Running, ServeError};
use oxkeeper_types::{SessionId, Zxid};
use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::error::{io_error, wait_until};
use crate::gate::Gate;
use crate::{Error, Standing};

/// How long anything may take on a busy machine before a test is told that it does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The unit of time of a test's server; sessions expire in steps of it.
const TICK_MS: u32 = 100;
/// The longest session timeout a client gets: what it asks for, as a rule.
const SESSION_TIMEOUT_MS_MAX: u32 = 60_000;
/// How long an idle thread for files is kept.
const IDLE_THREAD_KEPT: Duration = Duration::from_millis(100);

/// A server inside the process of a test: empty, on a free port of 127.0.0.1, in a temporary directory, there in
/// milliseconds. Dropping it ends it and leaves nothing behind: no thread, no file, no port.
///
/// It is a whole server, the same code that `oxkeeper serve` runs, on threads of its own; so it serves in tests with
/// and without an async runtime. Its methods may be called from any thread. They block, for milliseconds as a rule.
///
/// ```
/// use oxkeeper_testkit::{Client, CreateMode, Server};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::start()?;
/// // Any client of ZooKeeper takes `server.connect_string()`.
/// let mut client = Client::connect(server.address(), 10_000)?;
/// client.create("/worker", b"", CreateMode::Ephemeral)?;
///
/// // The session ends now, not in ten seconds, and its ephemeral with it.
/// server.expire_session(client.session().id)?;
/// let mut other = Client::connect(server.address(), 10_000)?;
/// assert_eq!(other.exists("/worker", false)?, None);
/// # Ok(())
/// # }
/// ```
///
/// # Settings
/// Those of ZooKeeper, but for a tick of 100 ms with session timeouts from 200 ms to a minute, no limit on
/// connections from one address, and all four-letter words. What is acknowledged survives [`Server::kill`]; that the
/// machine may lose its power is not cared for: nothing is synced. [`Server::start_with`] changes any of it.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    state: Mutex<State>,
    /// Held until the end, also while the server is down.
    _port: Option<Port>,
    /// Removed after the server has ended.
    _dir: Option<TempDir>,
}

#[derive(Debug)]
struct State {
    up: Option<Up>,
    address: SocketAddr,
}

impl State {
    /// The server, unless it is down: killed, or ended by itself.
    fn up(&self) -> Option<&Up> {
        self.up.as_ref().filter(|up| !up.thread.is_finished())
    }
}

/// A server that was started.
#[derive(Debug)]
struct Up {
    running: Running,
    orders: UnboundedSender<Order>,
    thread: JoinHandle<Result<(), Error>>,
    paused: Option<Arc<Gate>>,
}

/// What the thread of a server is told.
#[derive(Debug)]
enum Order {
    /// Do nothing before the gate is opened.
    Pause(Arc<Gate>),
    /// End at once.
    Kill,
}

impl Server {
    /// Starts a server.
    ///
    /// # Errors
    /// When there is no directory, port or thread to be had.
    pub fn start() -> Result<Server, Error> {
        Server::start_with(|_| ())
    }

    /// As [`Server::start`], with settings changed. A port or a directory that is set is used instead of a free port
    /// and a temporary directory; the directory stays.
    ///
    /// ```
    /// # fn main() -> Result<(), oxkeeper_testkit::Error> {
    /// let server = oxkeeper_testkit::Server::start_with(|config| {
    ///     config.znode.extended_types = true;
    ///     config.session.timeout_ms_max = 5_000;
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Server::start`], and when the server cannot use what was set.
    pub fn start_with(change: impl FnOnce(&mut ServerConfig)) -> Result<Server, Error> {
        let dir = TempDir::with_prefix("oxkeeper-").map_err(io_error("a temporary directory"))?;
        let mut config = default_config(dir.path());
        change(&mut config);
        let port = match config.client.port {
            0 => Some(Port::reserve()?),
            _ => None,
        };
        if let Some(port) = &port {
            config.client.port = port.number;
        }
        let uses_dir = config.storage.is_in(dir.path());
        Server::launch(config, port, uses_dir.then_some(dir))
    }

    /// Starts a server whose configuration is complete.
    pub(crate) fn launch(
        config: ServerConfig,
        port: Option<Port>,
        dir: Option<TempDir>,
    ) -> Result<Server, Error> {
        let up = Up::start(config.clone())?;
        let address = up.running.address();
        Ok(Server {
            config,
            state: Mutex::new(State {
                up: Some(up),
                address,
            }),
            _port: port,
            _dir: dir,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where clients connect, also after a restart.
    pub fn address(&self) -> SocketAddr {
        self.state().address
    }

    /// What a client of ZooKeeper takes to find the server: `127.0.0.1:` and the port.
    pub fn connect_string(&self) -> String {
        self.address().to_string()
    }

    /// Where snapshots and logs are: in `version-2` of it.
    pub fn data_dir(&self) -> &Path {
        &self.config.storage.data_dir
    }

    /// What the server is at the moment; `None` while it is down.
    pub fn standing(&self) -> Option<Standing> {
        Some(self.state().up()?.running.standing())
    }

    /// Whether the server is up and not paused.
    pub fn is_running(&self) -> bool {
        self.state().up().is_some_and(|up| up.paused.is_none())
    }

    /// Whether the server was killed, or ended by itself, and was not started again.
    pub fn is_down(&self) -> bool {
        self.state().up().is_none()
    }

    /// Whether the server is paused.
    pub fn is_paused(&self) -> bool {
        self.state().up().is_some_and(|up| up.paused.is_some())
    }

    /// Waits until clients are served: at once for a server that stands alone; a member of an ensemble must be in
    /// step with a leader.
    ///
    /// # Errors
    /// When that takes too long, or the server is down or paused.
    pub fn wait_until_serving(&self, within: Duration) -> Result<(), Error> {
        let what = || format!("{} did not serve", self.address());
        wait_until(within, what, || {
            let running = self.running("it does not serve")?;
            Ok(running.serves_clients().then_some(()))
        })
    }

    /// The newest txn that is applied; `None` while the server is down.
    pub fn last_zxid(&self) -> Option<Zxid> {
        Some(self.state().up()?.running.last_zxid())
    }

    /// The sessions that live, lowest id first.
    pub fn sessions(&self) -> Vec<SessionId> {
        let state = self.state();
        state.up().map_or(Vec::new(), |up| up.running.sessions())
    }

    /// How many connections of clients there are.
    pub fn connections(&self) -> usize {
        let state = self.state();
        state.up().map_or(0, |up| up.running.connections())
    }

    /// The answer to a four-letter word, such as `wchs`.
    ///
    /// # Errors
    /// When the server does not take the connection or does not answer within 20 seconds.
    pub fn four_letter(&self, word: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address(), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(word.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Ends a session as if its time were over, and waits until that has happened: its ephemerals are gone, whoever
    /// watched them is told, and its connection is closed without a word. The client learns of it when it connects
    /// again. False when there is no such session.
    ///
    /// # Errors
    /// When the server is down or paused, or is a member of an ensemble and does not lead: then
    /// [`crate::Ensemble::expire_session`] does it.
    pub fn expire_session(&self, session: SessionId) -> Result<bool, Error> {
        let running = self.running("no session can be ended")?;
        if !matches!(running.standing(), Standing::Standalone | Standing::Leading) {
            return Err(Error::NotLeading(running.address()));
        }
        if !running.has_session(session) {
            return Ok(false);
        }
        running.expire_session(session);
        let what = || format!("session {session} did not end");
        wait_until(PATIENCE, what, || {
            self.running("no session can be ended")?;
            Ok((!running.has_session(session)).then_some(true))
        })
    }

    /// Closes the connections of all clients, which may come back at once. What was to be sent to them may be lost or
    /// not. Says how many there were.
    pub fn disconnect_clients(&self) -> usize {
        let state = self.state();
        state
            .up
            .as_ref()
            .map_or(0, |up| up.running.close_connections(false))
    }

    /// Closes the connection of one session, which goes on; its client may come back at once. False when there is no
    /// such connection.
    pub fn disconnect_session(&self, session: SessionId) -> bool {
        let state = self.state();
        (state.up.as_ref()).is_some_and(|up| up.running.close_connection_of(session))
    }

    /// Closes the connections of all clients and every further one as soon as it is accepted, until
    /// [`Server::heal`] or a restart. The server itself goes on, and so ends the sessions whose time is over.
    pub fn cut(&self) {
        if let Some(up) = &self.state().up {
            up.running.close_connections(true);
        }
    }

    /// Takes connections again.
    pub fn heal(&self) {
        if let Some(up) = &self.state().up {
            up.running.admit_connections();
        }
    }

    /// Cuts a member of an ensemble off from the others, until [`Server::rejoin`] or a restart: its links to them break, and
    /// no new one comes about. It keeps its clients as long as it has a leader or, being the leader, a quorum. A server
    /// that stands alone is left alone.
    ///
    /// Links break at once, which both sides notice; a network that swallows everything without a word looks like
    /// [`Server::pause`] to the others.
    pub fn isolate(&self) {
        if let Some(up) = &self.state().up {
            up.running.isolate();
        }
    }

    /// Ends [`Server::isolate`].
    pub fn rejoin(&self) {
        if let Some(up) = &self.state().up {
            up.running.rejoin();
        }
    }

    /// Lets time pass at once: sessions without a connection, containers and times to live end as if `by` were over.
    /// Sessions with a connection count as heard from just now. Not for a member of an ensemble, to whom the others
    /// would seem to have been silent for as long.
    ///
    /// This does not wait: look for what is to happen until it has happened.
    ///
    /// # Errors
    /// When the server is down or paused.
    pub fn advance(&self, by: Duration) -> Result<(), Error> {
        self.running("its time does not pass")?.advance_clock(by);
        Ok(())
    }

    /// Stops the server where it is, as SIGSTOP stops a process: it keeps its connections and its sessions, and takes
    /// new connections as far as the system does that for it, but reads, answers and decides nothing until
    /// [`Server::resume`]. When this returns nothing more is read or sent. Writes to files that were under way are
    /// ended. A session whose time is over meanwhile ends when the server goes on, though its client may have sent
    /// pings.
    ///
    /// # Errors
    /// When the server is down.
    pub fn pause(&self) -> Result<(), Error> {
        let mut state = self.state();
        let address = state.address;
        let Some(up) = &mut state.up else {
            return Err(Error::NotRunning {
                address,
                state: "down",
                what: "it cannot be paused",
            });
        };
        if up.paused.is_some() {
            return Ok(());
        }
        let gate = Arc::new(Gate::default());
        let at_gate = gate.clone();
        up.running.hold(move || at_gate.wait());
        let is_told = up.orders.send(Order::Pause(gate.clone())).is_ok();
        if is_told && gate.wait_for_threads(2, PATIENCE) {
            up.paused = Some(gate);
            return Ok(());
        }
        gate.open();
        let ended = up.thread.is_finished();
        drop(state);
        if ended {
            return Err(self.end().err().unwrap_or(Error::NotRunning {
                address,
                state: "down",
                what: "it cannot be paused",
            }));
        }
        Err(Error::Timeout {
            what: format!("the server at {address} did not stand still"),
            within: PATIENCE,
        })
    }

    /// Lets a paused server go on. One that is not paused is left alone.
    pub fn resume(&self) {
        if let Some(gate) = self.state().up.as_mut().and_then(|up| up.paused.take()) {
            gate.open();
        }
    }

    /// Ends the server as SIGKILL ends its process: connections break, nothing is sent, decided or written any more.
    /// Its port stays reserved and its directory stays as it is, for [`Server::restart`]. One that is down is left
    /// alone.
    ///
    /// # Errors
    /// When it had ended by itself before: says why.
    pub fn kill(&self) -> Result<(), Error> {
        self.end()
    }

    fn end(&self) -> Result<(), Error> {
        // Kept until the server has ended, so that nobody starts another one meanwhile.
        let mut state = self.state();
        match state.up.take() {
            Some(up) => up.kill(),
            None => Ok(()),
        }
    }

    /// Starts the server again on its directory and port, after killing it when it still runs. Who wants to wait
    /// until a member of an ensemble serves, calls [`Server::wait_until_serving`].
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn restart(&self) -> Result<(), Error> {
        let mut state = self.state();
        if let Some(up) = state.up.take() {
            up.kill()?;
        }
        state.up = Some(Up::start(self.config.clone())?);
        Ok(())
    }

    /// The server, if it is up and not paused.
    pub(crate) fn running(&self, what: &'static str) -> Result<Running, Error> {
        let state = self.state();
        let address = state.address;
        let not = |state| Error::NotRunning { address, state, what };
        match state.up() {
            None => Err(not("down")),
            Some(up) if up.paused.is_some() => Err(not("paused")),
            Some(up) => Ok(up.running.clone()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A drop cannot fail; why it had ended by itself, if it had, is in the log.
        let _ = self.end();
    }
}

impl Up {
    fn start(config: ServerConfig) -> Result<Up, Error> {
        let (orders, told) = unbounded_channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("oxkeeper".to_owned())
            .spawn(move || run(config, told, &ready))
            .map_err(io_error("a thread for the server"))?;
        match is_ready.recv_timeout(PATIENCE) {
            Ok(running) => Ok(Up {
                running,
                orders,
                thread,
                paused: None,
            }),
            Err(RecvTimeoutError::Disconnected) => Err(match thread.join() {
                Ok(Ok(())) => Error::Serve(ServeError::WorkerEnded("server")),
                Ok(Err(error)) => error,
                Err(panic) => std::panic::resume_unwind(panic),
            }),
            Err(RecvTimeoutError::Timeout) => Err(Error::Timeout {
                what: "the server did not start".to_owned(),
                within: PATIENCE,
            }),
        }
    }

    fn kill(self) -> Result<(), Error> {
        self.running.halt();
        // When nobody listens the server has ended.
        let _ended = self.orders.send(Order::Kill);
        if let Some(gate) = &self.paused {
            gate.open();
        }
        // A panic was shown when it happened.
        self.thread
            .join()
            .unwrap_or(Err(Error::Serve(ServeError::WorkerEnded("server"))))
    }
}

/// The life of a server's thread, which is all that its runtime has.
fn run(
    config: ServerConfig,
    told: UnboundedReceiver<Order>,
    ready: &mpsc::Sender<Running>,
) -> Result<(), Error> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(IDLE_THREAD_KEPT)
        .build()
        .map_err(io_error("a runtime for the server"))?;
    let on_ready = |running| {
        // Whoever waited has given up.
        let _gone = ready.send(running);
    };
    runtime.block_on(async {
        tokio::select! {
            // Orders come first, so that a server that is killed while it is paused does nothing any more.
            biased;
            () = obey(told) => Ok(()),
            ended = oxkeeper_server::serve(config, on_ready, std::future::pending()) => ended.map_err(Error::from),
        }
    })
}

/// Completes when the server is to end. While it is paused, this blocks the thread.
async fn obey(mut told: UnboundedReceiver<Order>) {
    loop {
        match told.recv().await {
            Some(Order::Pause(gate)) => gate.wait(),
            Some(Order::Kill) | None => return,
        }
    }
}

/// The settings of a test's server with its files in `dir`; the port is still to be chosen.
pub(crate) fn default_config(dir: impl Into<PathBuf>) -> ServerConfig {
    let mut config = ServerConfig::new(dir, 0);
    config.client.address = Some(Ipv4Addr::LOCALHOST.into());
    config.session.tick_time_ms = TICK_MS;
    config.session.timeout_ms_min = 2 * TICK_MS;
    config.session.timeout_ms_max = SESSION_TIMEOUT_MS_MAX;
    config.storage.log_preallocation_bytes = None;
    config.storage.force_sync = false;
    config.storage.sync_files = false;
    config.limits.connections_per_address_max = None;
    config.four_letter = FourLetterConfig::all();
    config
}

/// A port of 127.0.0.1 that nobody else gets while this lives, whether the server runs or not: a socket is bound to
/// it that never listens. Linux lets the server listen beside it, and gives the port neither to who wants any free
/// one nor to an outgoing connection.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    /// Elsewhere than on Linux, nothing can be held.
    _held: Option<Socket>,
}

impl Port {
    pub(crate) fn reserve() -> Result<Port, Error> {
        let reserve = || -> io::Result<Port> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
            let bound = socket
                .local_addr()?
                .as_socket()
                .ok_or(io::ErrorKind::Unsupported)?;
            Ok(Port {
                number: bound.port(),
                _held: cfg!(target_os = "linux").then_some(socket),
            })
        };
        reserve().map_err(io_error("a free port"))
    }
}
