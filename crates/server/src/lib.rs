//! The shell of an Oxkeeper server: it turns bytes into events and actions into bytes, and decides nothing.
//!
//! [`config`] reads `zoo.cfg`; [`serve`] runs one server from a [`config::ServerConfig`] until it is told to stop.
//!
//! ```text
//!  listener ──▶ client_task (one per connection) ──events──▶ core_thread ──appends──▶ disk_worker
//!                    ▲                                        │     ▲                  │      │
//!                    └──────────────── wake ──────────────────┘     └── LogDurable ────┘      ▼
//!                                                                                      snapshot_worker
//! ```

mod channels;
mod client_task;
mod clock;
pub mod config;
mod connection_throttle;
mod core_thread;
mod disk_worker;
mod election_links;
mod four_letter;
mod listener;
mod registry;
mod service;
mod settings;
mod snapshot_worker;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::mpsc;
use std::thread;

use oxkeeper_core::{ServerCore, Shared};
use oxkeeper_storage::StorageError;
use oxkeeper_types::ServerId;
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use crate::channels::CoreHandle;
use crate::clock::Clock;
use crate::connection_throttle::ConnectionThrottle;
use crate::disk_worker::DiskStats;
use crate::registry::Registry;
use crate::service::Service;

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

/// Runs one server until `shutdown` completes; `on_ready` gets the bound client address once it serves.
///
/// # Errors
/// When it cannot start, or cannot go on without losing what it would acknowledge.
pub async fn serve(
    config: config::ServerConfig,
    on_ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let clock = Clock::start();
    // Bound before the tree is loaded: who connects meanwhile waits in the backlog and is served then.
    let (listener, address) = listener::bind(&config.client)?;
    let settings = settings::core_settings(&config);
    let (started, config) = {
        let tree = settings.tree.clone();
        run_blocking("recovery", move || {
            let limits = &config.limits;
            let entry_bytes_max = limits.frame_bytes_max.saturating_add(limits.record_extra_bytes);
            Ok((
                snapshot_worker::start(&config.storage, entry_bytes_max, &tree)?,
                config,
            ))
        })
        .await?
    };

    let (core_sender, core_messages) = mpsc::channel();
    let (disk_sender, disk_appends) = mpsc::channel();
    let (snapshot_sender, snapshot_requests) = mpsc::channel();
    let (failed_sender, mut failed) = tokio::sync::mpsc::unbounded_channel();
    let core_handle = CoreHandle::new(core_sender);
    let disk_stats = Arc::new(DiskStats::default());
    let shared = Arc::new(Shared::new(started.replica, settings));
    let service = Arc::new(Service {
        address,
        clock,
        shared: shared.clone(),
        core: core_handle.clone(),
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

    let core = ServerCore::new(shared.clone(), STANDALONE_SERVER_ID, clock.now());
    let core_thread = spawn("core thread", &failed_sender, move || {
        core_thread::run(core, &core_messages, &disk_sender, clock);
        Ok(())
    })?;
    let disk_thread = {
        let (core, stats) = (core_handle.clone(), disk_stats.clone());
        let (storage, log) = (service.config.storage.clone(), started.log);
        spawn("disk worker", &failed_sender, move || {
            disk_worker::run(log, &disk_appends, &core, &snapshot_sender, &storage, &stats)
                .map_err(ServeError::Storage)
        })?
    };
    let snapshot_thread = {
        let (storage, config) = (started.storage.clone(), service.config.storage.clone());
        spawn("snapshot worker", &failed_sender, move || {
            snapshot_worker::run(&shared, &snapshot_requests, &storage, &config, &disk_stats)
        })?
    };
    if let Some(interval) = service.config.storage.purge_interval {
        let retain = service.config.storage.snapshots_retained as usize;
        tokio::spawn(snapshot_worker::purge_regularly(
            started.storage,
            retain,
            interval,
        ));
    }
    let accepting = tokio::spawn(listener::run(listener, service.clone()));
    on_ready(address);

    let ended = tokio::select! {
        () = shutdown => Ok(()),
        Some(error) = failed.recv() => Err(error),
    };
    accepting.abort();
    for client in service.registry.clients() {
        client.close(oxkeeper_core::CloseReason::ServerStops);
    }
    core_handle.stop();
    // The core drops its end of the log's queue, the disk worker then syncs what it has and drops its end of the
    // snapshots' queue.
    let joined = run_blocking("shutdown", move || {
        for thread in [core_thread, disk_thread, snapshot_thread] {
            // A panic was reported when it happened, and ends the process.
            let _panicked = thread.join();
        }
        Ok(())
    })
    .await;
    ended.and(joined)
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
