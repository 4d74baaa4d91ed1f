//! The shell of an Oxkeeper server: it turns bytes into events and actions into bytes, and decides nothing.
//!
//! [`config`] reads `zoo.cfg`; [`serve`] runs one server from a [`config::ServerConfig`] until it is told to stop.
//!
//! ```text
//!  listener ──▶ client_task (one per connection) ──events──▶ core_thread ──writes──▶ disk_worker
//!                    ▲                                        │   ▲  ▲                │      │
//!                    └──────────────── wake ──────────────────┘   │  └─── durable ────┘      ▼
//!                                                                 ▼                   snapshot_worker
//!                          other servers ◀──▶ election_links, learner_links
//! ```

mod channels;
mod client_task;
mod clock;
pub mod config;
mod config_files;
mod connection_throttle;
mod core_thread;
mod disk_worker;
mod election_links;
mod four_letter;
mod learner_links;
mod link_tasks;
mod listener;
mod member;
mod member_view;
mod peer_link;
mod ports;
mod registry;
mod running;
mod service;
mod settings;
mod snapshot_worker;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

use oxkeeper_core::{Event, ServerCore, Shared, Standing};
use oxkeeper_storage::StorageError;
use oxkeeper_types::ServerId;
use oxkeeper_zab::{Event as ZabEvent, PeerState};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use crate::channels::{CoreHandle, DiskQueue, DiskQueueFill};
use crate::clock::Clock;
use crate::config::EnsembleConfig;
use crate::config_files::ConfigFiles;
use crate::connection_throttle::ConnectionThrottle;
use crate::core_thread::CoreThread;
use crate::disk_worker::{DiskStats, DiskWorker, DurableEnd};
use crate::election_links::{ElectionEvent, ElectionLinks};
use crate::learner_links::LearnerLinks;
use crate::link_tasks::LinkContext;
use crate::member::MemberLinks;
use crate::member_view::MemberView;
use crate::registry::Registry;
use crate::service::Service;

pub use crate::running::Running;

/// The id of a server that has no `myid`: session ids carry it.
const STANDALONE_SERVER_ID: ServerId = ServerId(1);

/// Why a server could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client port cannot be used.
    #[error("clients cannot be served on {address}: {cause}. Is another server running there?")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// The reason the system gave.
        cause: std::io::Error,
    },
    /// The election port cannot be used.
    #[error("other servers cannot be heard on {address}: {cause}. Is another server running there?")]
    ListenElection {
        /// The address of the own server line.
        address: String,
        /// The reason the system gave.
        cause: std::io::Error,
    },
    /// The files cannot be used, or a write or sync of the log failed: nothing more was acknowledged after that.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A snapshot could not be written.
    #[error("a snapshot could not be taken: {0}")]
    Snapshot(StorageError),
    /// A thread of the server ended when it must not.
    #[error("the {0} ended unexpectedly; this is a defect of the server")]
    WorkerEnded(&'static str),
    /// A thread could not be started.
    #[error("the {name} cannot be started: {cause}")]
    Thread {
        /// Which.
        name: &'static str,
        /// The reason the system gave.
        cause: std::io::Error,
    },
}

impl ServeError {
    /// The process's exit code (operations spec, section 5).
    pub fn exit_code(&self) -> u8 {
        match self {
            ServeError::Storage(error) => u8::try_from(error.exit_code()).unwrap_or(1),
            ServeError::Snapshot(_) => 10,
            ServeError::ListenElection { .. } => 14,
            ServeError::Listen { .. } | ServeError::WorkerEnded(_) | ServeError::Thread { .. } => 1,
        }
    }
}

/// Runs one server until `shutdown` completes; `on_ready` gets what the program needs to see it and to deal with it,
/// once it is open to clients.
///
/// A future that is dropped before it completes ends the server as SIGKILL ends its process: what is not written yet
/// is never written. It ends the server's threads and closes its connections; the tasks of those end with the runtime
/// at the latest.
///
/// # Errors
/// When it cannot start, or cannot go on without losing what it would acknowledge.
pub async fn serve(
    config: config::ServerConfig,
    on_ready: impl FnOnce(Running),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let clock = Clock::start();
    // Bound before the tree is loaded: who connects meanwhile waits in the backlog and is served then.
    let (listener, address) = listener::bind(&config.client)?;
    let settings = settings::core_settings(&config);
    let ensemble = config.ensemble.clone().map(Arc::new);
    let (started, config) = {
        let (tree, ensemble) = (settings.tree.clone(), ensemble.clone());
        run_blocking("recovery", move || {
            let started = snapshot_worker::start(&config, &tree, ensemble.as_deref())?;
            Ok((started, config))
        })
        .await?
    };
    let (storage, log) = (started.storage, started.log);

    let (core_sender, core_messages) = mpsc::channel();
    let (disk_sender, disk_jobs) = mpsc::channel();
    let disk_fill = Arc::new(DiskQueueFill::default());
    let (snapshot_sender, snapshot_requests) = mpsc::channel();
    let (failed_sender, mut failed) = tokio::sync::mpsc::unbounded_channel();
    let core_handle = CoreHandle::new(core_sender);
    let disk_stats = Arc::new(DiskStats::default());
    let durable = Arc::new(DurableEnd::new(log.durable_zxid()));
    let view = Arc::new(MemberView::new(match ensemble {
        Some(_) => Standing::Looking,
        None => Standing::Standalone,
    }));
    let tree_settings = settings.tree.clone();
    let shared = Arc::new(Shared::new(started.replica, settings));
    let service = Arc::new(Service {
        address,
        clock: clock.clone(),
        shared: shared.clone(),
        core: core_handle.clone(),
        view: view.clone(),
        registry: Arc::new(Registry::default()),
        throttle: config
            .limits
            .connection_throttle
            .clone()
            .map(|throttle| Mutex::new(ConnectionThrottle::new(throttle, clock.now().monotonic_ms))),
        disk_stats: disk_stats.clone(),
        connections_rejected: AtomicU64::new(0),
        trace_mask: AtomicI64::new(306),
        config,
    });

    let config_files = ensemble.as_deref().and_then(|ensemble| {
        let file = ensemble.config_file.clone()?;
        Some(ConfigFiles::new(file, ensemble.me))
    });
    if let Some(files) = &config_files
        && ensemble
            .as_deref()
            .is_some_and(|ensemble| ensemble.is_listed_in_config_file)
    {
        files.back_up()?;
    }
    let (core, member) = match (ensemble, started.recovered) {
        (Some(ensemble), Some(recovered)) => {
            let links = LinkContext {
                core: core_handle.clone(),
                disk: disk_fill.clone(),
                shared: shared.clone(),
                storage: storage.clone(),
                packet_bytes_max: service.packet_bytes_max(),
            };
            let core = ServerCore::member(shared.clone(), ensemble.zab_settings(), recovered, clock.now());
            let member = MemberLinks {
                elections: start_elections(ensemble.clone(), core_handle.clone()).await?,
                learners: LearnerLinks::new(ensemble, links, Handle::current()),
                storage: storage.clone(),
                core: core_handle.clone(),
                runtime: Handle::current(),
                view,
                state: PeerState::Looking,
            };
            (core, Some(member))
        }
        _ => (
            ServerCore::new(shared.clone(), STANDALONE_SERVER_ID, clock.now()),
            None,
        ),
    };
    let halted = Arc::new(AtomicBool::new(false));
    let mut workers = Workers {
        service: service.clone(),
        halted: halted.clone(),
        threads: Vec::new(),
        tasks: Vec::new(),
    };
    let disk_worker = DiskWorker {
        log,
        storage: storage.clone(),
        tree: tree_settings,
        config: service.config.storage.clone(),
        core: core_handle.clone(),
        queue: disk_fill.clone(),
        snapshots: snapshot_sender,
        durable: durable.clone(),
        stats: disk_stats.clone(),
        is_member: member.is_some(),
        config_files,
        halted: halted.clone(),
    };
    let core_thread = CoreThread {
        core,
        clock,
        disk: DiskQueue::new(disk_sender, disk_fill),
        member,
        halted: halted.clone(),
    };
    workers
        .threads
        .push(spawn("core thread", &failed_sender, move || {
            core_thread.run(&core_messages);
            Ok(())
        })?);
    workers
        .threads
        .push(spawn("disk worker", &failed_sender, move || {
            disk_worker.run(&disk_jobs).map_err(ServeError::Storage)
        })?);
    workers.threads.push({
        let (storage, config) = (storage.clone(), service.config.storage.clone());
        spawn("snapshot worker", &failed_sender, move || {
            snapshot_worker::run(
                &shared,
                &snapshot_requests,
                &durable,
                &storage,
                &config,
                &disk_stats,
            )
        })?
    });
    if let Some(interval) = service.config.storage.purge_interval {
        let retain = service.config.storage.snapshots_retained as usize;
        let purging = tokio::spawn(snapshot_worker::purge_regularly(storage, retain, interval));
        workers.tasks.push(purging.abort_handle());
    }
    let accepting = tokio::spawn(listener::run(listener, service.clone()));
    workers.tasks.push(accepting.abort_handle());
    on_ready(Running { service, halted });

    let ended = tokio::select! {
        () = shutdown => Ok(()),
        Some(error) = failed.recv() => Err(error),
    };
    ended.and(workers.stop().await)
}

/// The threads of a server, and the tasks that bring in work. Dropped, they are halted.
struct Workers {
    service: Arc<Service>,
    halted: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
    tasks: Vec<AbortHandle>,
}

impl Workers {
    /// Lets the server finish what it has begun.
    async fn stop(mut self) -> Result<(), ServeError> {
        self.close();
        // The core drops its end of the log's queue, the disk worker then syncs what it has and drops its end of the
        // snapshots' queue.
        let threads = std::mem::take(&mut self.threads);
        run_blocking("shutdown", move || {
            join(threads);
            Ok(())
        })
        .await
    }

    fn close(&self) {
        for task in &self.tasks {
            task.abort();
        }
        for client in self.service.registry.clients() {
            client.close(oxkeeper_core::CloseReason::ServerStops);
        }
        self.service.core.stop();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.halted.store(true, Relaxed);
            self.close();
            // None of them waits for anything but what the disk is doing.
            join(std::mem::take(&mut self.threads));
        }
    }
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        // A panic was reported when it happened, and ends the process.
        let _panicked = thread.join();
    }
}

/// Opens the election port; what comes over it goes to the core.
async fn start_elections(
    ensemble: Arc<EnsembleConfig>,
    core: CoreHandle,
) -> Result<ElectionLinks, ServeError> {
    let on_event = move |event| {
        core.submit(Event::Ensemble(match event {
            ElectionEvent::Connected(peer) => ZabEvent::ElectionPeerConnected { peer },
            ElectionEvent::Configuration(told) => ZabEvent::ConfigurationHeard(Arc::new(told)),
            ElectionEvent::Notification { from, notification } => {
                ZabEvent::Notification { from, notification }
            }
        }));
    };
    ElectionLinks::start(ensemble, on_event).await
}

/// Starts a thread of the server. When it ends with an error or a panic, the server stops.
fn spawn(
    name: &'static str,
    failed: &UnboundedSender<ServeError>,
    work: impl FnOnce() -> Result<(), ServeError> + Send + 'static,
) -> Result<thread::JoinHandle<()>, ServeError> {
    /// Reports that a thread ended without saying why.
    struct Guard(Option<(&'static str, UnboundedSender<ServeError>)>);
    impl Drop for Guard {
        fn drop(&mut self) {
            if let Some((name, failed)) = self.0.take() {
                let _stopping = failed.send(ServeError::WorkerEnded(name));
            }
        }
    }
    let failed = failed.clone();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let mut guard = Guard(Some((name, failed.clone())));
            let ended = work();
            guard.0 = None;
            if let Err(error) = ended {
                tracing::error!("{error}");
                let _stopping = failed.send(error);
            }
        })
        .map_err(|cause| ServeError::Thread { name, cause })
}

async fn run_blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> Result<T, ServeError> + Send + 'static,
) -> Result<T, ServeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(ServeError::WorkerEnded(name)),
    }
}
