//! What has been applied so far, shared by all threads: written by the core alone, read by every connection.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use oxkeeper_storage::HistoryId;
use oxkeeper_tree::{Change, ConnectionId, Told, Tree, TreeSettings, Watches, check_permission};
use oxkeeper_types::{Acl, Permissions, SessionId, WatchEventKind, Zxid, split_path};
use parking_lot::{Mutex, RwLock};

use crate::planted::PlantedBug;
use crate::{Client, CoreSettings, Delivery, ServerStats};

/// One zxid in this many leaves an entry in the history of digests.
const DIGEST_HISTORY_INTERVAL: i64 = 128;
/// How many entries that history keeps; the oldest go first.
const DIGEST_HISTORY_MAX: usize = 1024;

/// The tree as it is after all applied txns, and what belongs to exactly that state.
#[derive(Debug)]
pub struct Replica {
    /// The znodes.
    pub tree: Tree,
    /// The newest applied txn.
    pub last_processed: Zxid,
    /// Where the epoch begins in which this member serves. All that came before is in the tree, so clients that have
    /// seen this zxid, as a Java leader shows it before its first txn, have seen nothing that is not here (S2).
    pub(crate) epoch_start: Zxid,
    /// The global sessions and their timeouts in ms, as the txns made and ended them.
    pub sessions: BTreeMap<SessionId, i32>,
    /// Watches are registered under the same hold for reading as the read that sets them (W2), hence the lock.
    pub(crate) watches: Mutex<Watches>,
    /// The connections that watch events may go to.
    pub(crate) clients: HashMap<ConnectionId, Arc<Client>>,
    /// The history on disk that this state belongs to.
    pub(crate) history: HistoryId,
    /// Digests at every 128th zxid, for comparison among servers.
    digests: VecDeque<(Zxid, u64)>,
}

/// What threads share: the replica, and what needs no order with it.
#[derive(Debug)]
pub struct Shared {
    /// Held for writing while txns are applied, for reading while requests are answered.
    pub replica: RwLock<Replica>,
    /// The settings, which never change.
    pub settings: CoreSettings,
    /// The counters.
    pub stats: ServerStats,
    /// Requests in work in the whole server.
    pub outstanding: AtomicUsize,
    /// Bytes of large requests in work in the whole server.
    pub large_request_bytes: AtomicUsize,
    /// Whether writes go to a leader elsewhere. Connections of another time than this tells of are being closed.
    pub(crate) forwards: AtomicBool,
}

impl Shared {
    /// What the threads of one server share, over a recovered replica.
    pub fn new(replica: Replica, settings: CoreSettings) -> Shared {
        Shared {
            replica: RwLock::new(replica),
            settings,
            stats: ServerStats::default(),
            outstanding: AtomicUsize::new(0),
            large_request_bytes: AtomicUsize::new(0),
            forwards: AtomicBool::new(false),
        }
    }
}

/// The watches by path and by connection, with sessions for connections; for `wchs`, `wchc` and `wchp`.
#[derive(Debug, Default)]
pub struct WatchSets {
    /// Session and path of each data watch.
    pub pairs: Vec<(SessionId, String)>,
    /// Connections with a data watch.
    pub connections: usize,
    /// Paths with a data watch.
    pub paths: usize,
    /// Data watches.
    pub watches: usize,
}

impl Replica {
    /// The state of a server that never had any.
    pub fn empty(settings: &TreeSettings) -> Replica {
        Replica::new(Tree::new(settings), Zxid::ZERO, BTreeMap::new())
    }

    pub(crate) fn new(tree: Tree, last_processed: Zxid, sessions: BTreeMap<SessionId, i32>) -> Replica {
        Replica {
            tree,
            last_processed,
            epoch_start: Zxid::ZERO,
            sessions,
            watches: Mutex::default(),
            clients: HashMap::new(),
            history: HistoryId::default(),
            digests: VecDeque::new(),
        }
    }

    /// Takes over the state of `other`, but not its watches and connections; gives back the state it had.
    pub(crate) fn replace_state(&mut self, mut other: Replica) -> Replica {
        std::mem::swap(&mut self.tree, &mut other.tree);
        std::mem::swap(&mut self.last_processed, &mut other.last_processed);
        std::mem::swap(&mut self.sessions, &mut other.sessions);
        std::mem::swap(&mut self.history, &mut other.history);
        std::mem::swap(&mut self.digests, &mut other.digests);
        other
    }

    /// Notes that everything through `zxid` is applied.
    pub(crate) fn advance(&mut self, zxid: Zxid) {
        assert!(
            zxid > self.last_processed,
            "txn {zxid} applied after {}",
            self.last_processed
        );
        self.last_processed = zxid;
        if zxid.0 % DIGEST_HISTORY_INTERVAL == 0 {
            if self.digests.len() == DIGEST_HISTORY_MAX {
                self.digests.pop_front();
            }
            self.digests.push_back((zxid, self.tree.digest().tree_digest));
        }
    }

    /// The digests at every 128th zxid, oldest first, at most 1024 of them.
    pub fn digest_history(&self) -> impl Iterator<Item = (Zxid, u64)> {
        self.digests.iter().copied()
    }

    /// The number of data and child watches.
    pub fn watch_count(&self) -> usize {
        self.watches.lock().count()
    }

    /// The data watches by session.
    pub fn watch_sets(&self) -> WatchSets {
        let watches = self.watches.lock();
        let summary = watches.summary();
        let pairs = watches
            .data_watches()
            .map(|(path, connection)| {
                let session = self.clients.get(&connection).and_then(|client| client.session());
                (
                    session.map_or(SessionId::NONE, |(session, _)| session.id),
                    path.to_owned(),
                )
            })
            .collect();
        WatchSets {
            pairs,
            connections: summary.connections,
            paths: summary.paths,
            watches: summary.watches,
        }
    }
}

/// Sends out the watch events of changes, in the order of the client spec, section 8.3.
pub(crate) struct WatchFire<'a> {
    pub(crate) watches: &'a mut Watches,
    pub(crate) clients: &'a HashMap<ConnectionId, Arc<Client>>,
    pub(crate) settings: &'a CoreSettings,
    pub(crate) zxid: Zxid,
    /// The connections whose box was empty before.
    pub(crate) to_wake: &'a mut Vec<Arc<Client>>,
}

impl WatchFire<'_> {
    pub(crate) fn fire(&mut self, change: &Change<'_>) {
        match change {
            Change::Created {
                path,
                acl,
                parent_acl,
            } => {
                let told = self.watches.fire_data(path);
                self.tell(told, WatchEventKind::Created, path, acl);
                self.fire_parent(path, parent_acl);
            }
            Change::Deleted {
                path,
                acl,
                parent_acl,
            } => {
                let told = self.watches.fire_data(path);
                let mut told_as_child = self.watches.fire_child(path);
                told_as_child.retain(|connection| !told.contains(connection));
                self.tell(told, WatchEventKind::Deleted, path, acl);
                self.tell(told_as_child, WatchEventKind::Deleted, path, acl);
                self.fire_parent(path, parent_acl);
            }
            Change::DataChanged { path, acl } => {
                let told = self.watches.fire_data(path);
                if !self.settings.planted.guards(PlantedBug::WatchFiresTwice) {
                    for connection in &told {
                        self.watches.add_data(*connection, path);
                    }
                }
                self.tell(told, WatchEventKind::DataChanged, path, acl);
            }
        }
    }

    fn fire_parent(&mut self, path: &str, parent_acl: &[Acl]) {
        if let Some((parent, _)) = split_path(path) {
            let told = self.watches.fire_child(parent);
            self.tell(told, WatchEventKind::ChildrenChanged, parent, parent_acl);
        }
    }

    /// Tells those of `told` that may read what has `acl`; the others miss the event, their one-shot watch is gone
    /// all the same (client spec, section 8.4).
    fn tell(&mut self, told: Told, kind: WatchEventKind, path: &str, acl: &[Acl]) {
        if told.is_empty() {
            return;
        }
        let path: Arc<str> = Arc::from(path);
        for connection in told {
            let Some(client) = self.clients.get(&connection) else {
                continue;
            };
            if !check_permission(acl, Permissions::READ, &client.identities(), &self.settings.tree) {
                continue;
            }
            let event = Delivery::WatchEvent {
                zxid: self.zxid,
                kind,
                path: path.clone(),
            };
            if client.deliver(event, self.settings.limits.deliveries_waiting_max) {
                self.to_wake.push(client.clone());
            }
        }
    }
}
