//! A server as a process: its zoo.cfg, its start, its end, and the signals in between.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Settings that Java takes from JVM flags only; in zoo.cfg they are Oxkeeper's (docs/configuration.md).
const JVM_ONLY_SETTINGS: &[&str] = &[
    "jute.maxbuffer",
    "readonlymode.enabled",
    "znode.container.checkIntervalMs",
    "znode.container.maxPerMinute",
    "znode.container.maxNeverUsedIntervalMs",
];

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(5);
/// How long one four-letter word may take.
const FOUR_LETTER_TIMEOUT: Duration = Duration::from_secs(10);

/// Ports below the range from which Linux takes the local ports of outgoing connections, so that nobody's
/// connection takes the port of a server that is down, not even one that tries to reach that server.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Why a server could not be started, reached or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file, a process or a socket failed.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: io::Error,
    },
    /// The program to start is not there.
    #[error("{0}")]
    NoProgram(String),
    /// The process ended before it served.
    #[error("the server ended ({status}) before it served; the end of its log:\n{log}")]
    EndedEarly {
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// Something did not happen in time.
    #[error("{what} within {within:?}; the end of the log:\n{log}")]
    Timeout {
        /// What did not happen.
        what: &'static str,
        /// How long it was waited for.
        within: Duration,
        /// The end of the server's log.
        log: String,
    },
    /// Every port that was tried is taken.
    #[error("no free port was found")]
    NoPort,
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> ServerError {
    let what = what.into();
    move |error| ServerError::Io { what, error }
}

/// Which server.
#[derive(Clone, Debug)]
pub enum ServerProgram {
    /// Ours: the path of the binary.
    Oxkeeper(PathBuf),
    /// Apache ZooKeeper.
    Java {
        /// The classpath with the server's jars.
        classpath: String,
        /// The JVM's `-Xmx`, such as `1g`.
        heap: String,
        /// The logback configuration.
        logback: PathBuf,
    },
}

impl ServerProgram {
    /// The binary that the variable `OXKEEPER` names, or else the one in the target directory that the running
    /// program was built into.
    ///
    /// # Errors
    /// [`ServerError::NoProgram`] when neither is there.
    pub fn oxkeeper() -> Result<ServerProgram, ServerError> {
        if let Some(path) = std::env::var_os("OXKEEPER").filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path);
            return match path.is_file() {
                true => Ok(ServerProgram::Oxkeeper(path)),
                false => Err(ServerError::NoProgram(format!(
                    "OXKEEPER={} is not a file",
                    path.display()
                ))),
            };
        }
        let own = std::env::current_exe().map_err(io_error("the running program's own path"))?;
        // Tests are in target/<profile>/deps, binaries in target/<profile>.
        let found = own
            .ancestors()
            .skip(1)
            .take(2)
            .map(|dir| dir.join("oxkeeper"))
            .find(|path| path.is_file());
        found.map(ServerProgram::Oxkeeper).ok_or_else(|| {
            ServerError::NoProgram(format!(
                "there is no oxkeeper beside {}; build it with the same profile (cargo build -p oxkeeper), or \
                 name it in the variable OXKEEPER",
                own.display()
            ))
        })
    }

    /// Apache ZooKeeper as `interop/java/classpath.sh` gives it, which downloads it by Maven at first use.
    ///
    /// # Errors
    /// [`ServerError::NoProgram`] when the script fails.
    pub fn java() -> Result<ServerProgram, ServerError> {
        ServerProgram::java_release(None)
    }

    /// As [`ServerProgram::java`], of a release such as `3.8.4`; `None` is the one we compare with.
    ///
    /// # Errors
    /// [`ServerError::NoProgram`] when the script fails.
    pub fn java_release(release: Option<&str>) -> Result<ServerProgram, ServerError> {
        let java = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop/java");
        let script = java.join("classpath.sh");
        let output = Command::new(&script)
            .args(release)
            .stderr(Stdio::inherit())
            .output()
            .map_err(io_error(script.display().to_string()))?;
        if !output.status.success() {
            return Err(ServerError::NoProgram(format!(
                "{}: {}",
                script.display(),
                output.status
            )));
        }
        Ok(ServerProgram::Java {
            classpath: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            heap: "1g".to_owned(),
            logback: java.join("logback.xml"),
        })
    }

    /// The same with another heap of the JVM, such as `512m`, if it has one.
    #[must_use]
    pub fn with_heap(mut self, size: &str) -> ServerProgram {
        if let ServerProgram::Java { heap, .. } = &mut self {
            size.clone_into(heap);
        }
        self
    }

    /// `oxkeeper` or `java`.
    pub fn name(&self) -> &'static str {
        match self {
            ServerProgram::Oxkeeper(_) => "oxkeeper",
            ServerProgram::Java { .. } => "java",
        }
    }
}

/// How to start a server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Which one.
    pub program: ServerProgram,
    /// The directory of the server: `zoo.cfg`, `server.log` and the directory `data`.
    pub dir: PathBuf,
    /// Where it listens to clients.
    pub host: Ipv4Addr,
    /// The client port; `None` takes a free one of 127.0.0.1.
    pub port: Option<u16>,
    /// The server's number in its ensemble, for the file `myid`.
    pub my_id: Option<u8>,
    /// Lines of zoo.cfg besides dataDir, the client's address, all four-letter words, no limit on connections
    /// and no admin server. The last line of a key counts.
    pub settings: Vec<(String, String)>,
    /// A command that runs the server in its own place (by exec), such as `nsenter -t 1 -m`.
    pub wrapper: Vec<OsString>,
    /// How long it may take until the server serves.
    pub ready_within: Duration,
}

impl ServerOptions {
    /// A server of the program in `dir`, on a free port of 127.0.0.1, with a minute to start.
    pub fn new(program: ServerProgram, dir: impl Into<PathBuf>) -> ServerOptions {
        ServerOptions {
            program,
            dir: dir.into(),
            host: Ipv4Addr::LOCALHOST,
            port: None,
            my_id: None,
            settings: Vec::new(),
            wrapper: Vec::new(),
            ready_within: Duration::from_secs(60),
        }
    }

    /// The same with one more line of zoo.cfg.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> ServerOptions {
        self.replace(key, value);
        self
    }

    /// Sets one line of zoo.cfg.
    pub fn replace(&mut self, key: &str, value: impl ToString) {
        self.settings.retain(|(present, _)| present != key);
        self.settings.push((key.to_owned(), value.to_string()));
    }
}

/// A port of 127.0.0.1 that was free a moment ago.
///
/// # Errors
/// [`ServerError::NoPort`] after many taken ones.
pub fn free_port() -> Result<u16, ServerError> {
    for _ in 0..200 {
        let port = fastrand::u16(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(ServerError::NoPort)
}

/// A server that was started. Dropping it kills the process.
#[derive(Debug)]
pub struct ServerProcess {
    options: ServerOptions,
    port: u16,
    child: Child,
    ended: Option<ExitStatus>,
}

impl ServerProcess {
    /// Starts a server and waits until it serves.
    ///
    /// # Errors
    /// When it cannot be started, ends early or takes too long. With a port of the harness's own choice another
    /// is tried when somebody was quicker to take it.
    pub fn start(options: ServerOptions) -> Result<ServerProcess, ServerError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut server = ServerProcess::spawn(options.clone())?;
            match server.wait_until_ready() {
                Ok(()) => return Ok(server),
                Err(ServerError::EndedEarly { log, .. })
                    if options.port.is_none()
                        && attempts < 3
                        && log.to_lowercase().contains("address already in use") => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts a server without waiting for anything.
    ///
    /// # Errors
    /// When files cannot be written or the process cannot be started.
    pub fn spawn(options: ServerOptions) -> Result<ServerProcess, ServerError> {
        let port = match options.port {
            Some(port) => port,
            None => free_port()?,
        };
        let child = spawn(&options, port)?;
        Ok(ServerProcess {
            options,
            port,
            child,
            ended: None,
        })
    }

    /// Waits until `srvr` is answered with a mode.
    ///
    /// # Errors
    /// When the process ends, or the time of [`ServerOptions::ready_within`] is over.
    pub fn wait_until_ready(&mut self) -> Result<(), ServerError> {
        let within = self.options.ready_within;
        let deadline = Instant::now() + within;
        loop {
            // Nobody listens yet, or the connection is closed before the server is ready: asked again.
            if self
                .four_letter("srvr")
                .is_ok_and(|answer| answer.contains("Mode:"))
            {
                return Ok(());
            }
            if let Some(status) = self.try_wait()? {
                return Err(ServerError::EndedEarly {
                    status,
                    log: self.log_tail(),
                });
            }
            if Instant::now() >= deadline {
                return Err(self.timeout("the server did not serve", within));
            }
            sleep(POLL);
        }
    }

    /// Starts the server again on its directory and port, after killing it when it still runs, and waits until
    /// it serves.
    ///
    /// # Errors
    /// As [`ServerProcess::start`].
    pub fn restart(&mut self) -> Result<(), ServerError> {
        self.respawn()?;
        self.wait_until_ready()
    }

    /// As [`ServerProcess::restart`], without waiting until it serves.
    ///
    /// # Errors
    /// As [`ServerProcess::spawn`].
    pub fn respawn(&mut self) -> Result<(), ServerError> {
        self.kill()?;
        self.child = spawn(&self.options, self.port)?;
        self.ended = None;
        Ok(())
    }

    /// What it was started with, but for changes by [`ServerProcess::options_mut`] since.
    pub fn options(&self) -> &ServerOptions {
        &self.options
    }

    /// What the next start will use.
    pub fn options_mut(&mut self) -> &mut ServerOptions {
        &mut self.options
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        (self.options.host, self.port).into()
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where the server keeps its snapshots and logs: `version-2` of its data directory.
    pub fn version_dir(&self) -> PathBuf {
        self.options.dir.join("data/version-2")
    }

    /// Ends the process with SIGKILL, when it still runs.
    ///
    /// # Errors
    /// When the process cannot be signalled or waited for.
    pub fn kill(&mut self) -> Result<ExitStatus, ServerError> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        self.child.kill().map_err(io_error("killing the server"))?;
        let status = self.child.wait().map_err(io_error("waiting for the server"))?;
        self.ended = Some(status);
        Ok(status)
    }

    /// Asks the process to stop, with SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it has not ended in time.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus, ServerError> {
        if self.try_wait()?.is_none() {
            self.signal(Signal::TERM)?;
        }
        self.wait_for_exit(within)
    }

    /// Stops the process where it is, with SIGSTOP.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&self) -> Result<(), ServerError> {
        self.signal(Signal::STOP)
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&self) -> Result<(), ServerError> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), ServerError> {
        // The child is not waited for yet, so its id is still its own.
        let pid = self.ended.is_none().then(|| Pid::from_child(&self.child));
        let sent = pid.map_or(Err(rustix::io::Errno::SRCH), |pid| kill_process(pid, signal));
        sent.map_err(|errno| io_error(format!("sending {signal:?} to the server"))(errno.into()))
    }

    /// How the process ended, or `None` while it runs.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, ServerError> {
        if self.ended.is_none() {
            self.ended = self
                .child
                .try_wait()
                .map_err(io_error("waiting for the server"))?;
        }
        Ok(self.ended)
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// When it has not ended in time; it goes on running.
    pub fn wait_for_exit(&mut self, within: Duration) -> Result<ExitStatus, ServerError> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.timeout("the server did not end", within));
            }
            sleep(POLL);
        }
    }

    /// The answer to a four-letter word.
    ///
    /// # Errors
    /// When the connection is refused or breaks.
    pub fn four_letter(&self, word: &str) -> io::Result<String> {
        self.four_letter_within(word, FOUR_LETTER_TIMEOUT)
    }

    /// As [`ServerProcess::four_letter`], for a server that may be paused or cut off.
    ///
    /// # Errors
    /// Also when connecting, or a part of the answer, takes longer than `within`.
    pub fn four_letter_within(&self, word: &str, within: Duration) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address(), within)?;
        stream.set_read_timeout(Some(within))?;
        stream.write_all(word.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// All that the server wrote to stdout and stderr, over all its starts.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.options.dir.join("server.log"))?).into_owned())
    }

    /// The last lines of the log, for an error message.
    pub fn log_tail(&self) -> String {
        match self.log() {
            Ok(log) => {
                let lines: Vec<&str> = log.lines().collect();
                lines[lines.len().saturating_sub(30)..].join("\n")
            }
            Err(error) => format!("(the log cannot be read: {error})"),
        }
    }

    fn timeout(&self, what: &'static str, within: Duration) -> ServerError {
        ServerError::Timeout {
            what,
            within,
            log: self.log_tail(),
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // A drop cannot fail; what cannot be killed has ended.
        let _ = self.kill();
    }
}

/// Writes zoo.cfg and starts the process.
fn spawn(options: &ServerOptions, port: u16) -> Result<Child, ServerError> {
    let dir = &options.dir;
    let data = dir.join("data");
    fs::create_dir_all(dir).map_err(io_error(dir.display().to_string()))?;
    let mut config = format!(
        "dataDir={}\nclientPort={port}\nclientPortAddress={}\nmaxClientCnxns=0\n4lw.commands.whitelist=*\n\
         admin.enableServer=false\n",
        data.display(),
        options.host
    );
    if let Some(id) = options.my_id {
        let file = data.join("myid");
        fs::create_dir_all(&data)
            .and_then(|()| fs::write(&file, format!("{id}\n")))
            .map_err(io_error(file.display().to_string()))?;
    }
    let mut jvm_flags = Vec::new();
    for (key, value) in &options.settings {
        match &options.program {
            ServerProgram::Java { .. } if JVM_ONLY_SETTINGS.contains(&key.as_str()) => {
                jvm_flags.push(format!("-D{key}={value}"));
            }
            _ => config.push_str(&format!("{key}={value}\n")),
        }
    }
    let config_file = dir.join("zoo.cfg");
    fs::write(&config_file, config).map_err(io_error(config_file.display().to_string()))?;
    let mut arguments: Vec<OsString> = options.wrapper.clone();
    match &options.program {
        ServerProgram::Oxkeeper(binary) => arguments.extend([binary.into(), "serve".into()]),
        ServerProgram::Java {
            classpath,
            heap,
            logback,
        } => {
            arguments.extend(["java".into(), format!("-Xmx{heap}").into()]);
            arguments.push(format!("-Dlogback.configurationFile={}", logback.display()).into());
            arguments.extend(jvm_flags.into_iter().map(OsString::from));
            arguments.extend(["-cp".into(), classpath.into()]);
            arguments.push("org.apache.zookeeper.server.quorum.QuorumPeerMain".into());
        }
    }
    arguments.push(config_file.into());
    let log_file = dir.join("server.log");
    let log = File::options()
        .create(true)
        .append(true)
        .open(&log_file)
        .and_then(|log| Ok((log.try_clone()?, log)))
        .map_err(io_error(log_file.display().to_string()))?;
    let (program, arguments) = arguments.split_first().expect("at least the program");
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.0)
        .stderr(log.1)
        .spawn()
        .map_err(io_error(format!("starting {}", program.display())))
}
