//! Copies of a znode, of a znode and its children, or of a whole tree, kept up to date by a persistent watch.
//!
//! How it keeps its word: a watch event reaches a client before any reply that shows the change. So the cache sets
//! its watch, reads everything, reads again what events name, and publishes when the last reply is in and no event
//! is left: at that moment what it has read is what the server had. Persistent watches miss what happens while
//! there is no connection (ZOOKEEPER-4698), and not every client sets them again; so after each connection the
//! cache watches and reads anew, and tells the difference.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use zookeeper_client::{
    AddWatchMode, Client, Error as ClientError, EventType, PersistentWatcher, SessionState, Stat,
};

use crate::error::{Result, ends_session};
use crate::task::Task;
use crate::znode::{check_path, join, retry};
use crate::{ConnectionState, Error, SessionKeeper};

/// How many znodes are read at a time.
const READS_AT_ONCE: usize = 64;
/// After how long a change is published though the tree does not come to rest.
const PUBLISHED_AT_LATEST: Duration = Duration::from_millis(500);
/// How many publications a listener may be behind before it gets the whole state again.
const UPDATES_KEPT: usize = 256;

/// What a [`Cache`] copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One znode, which need not exist.
    Node,
    /// A znode and its children.
    Children,
    /// A znode and all below it.
    Tree,
}

/// How much a [`Cache`] may hold. While it reads it may need as much again, and once more for listeners that are
/// behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// The most znodes; 100,000 by default.
    pub nodes: usize,
    /// The most bytes of paths and data; 64 MiB by default.
    pub bytes: usize,
}

impl Default for CacheLimits {
    fn default() -> CacheLimits {
        CacheLimits {
            nodes: 100_000,
            bytes: 64 << 20,
        }
    }
}

/// A znode as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its path.
    pub path: String,
    /// Its data.
    pub data: Vec<u8>,
    /// Its Stat. What changes without its data, as the counts of children, is as it was when this data was first read.
    pub stat: Stat,
}

impl Node {
    /// What comes after the last slash of its path.
    pub fn name(&self) -> &str {
        crate::znode::split(&self.path).1
    }

    fn bytes(&self) -> usize {
        self.path.len() + self.data.len()
    }
}

/// The znodes of a cache by path.
pub type Nodes = BTreeMap<String, Arc<Node>>;

/// A difference between two states of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A znode is there that was not.
    Created(Arc<Node>),
    /// A znode has new data. Of several writes only the last may be seen.
    Updated {
        /// As it was.
        before: Arc<Node>,
        /// As it is.
        after: Arc<Node>,
    },
    /// A znode is gone. One that was deleted and created again is told as gone, then as created.
    Deleted(Arc<Node>),
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Change::Created(node) | Change::Deleted(node) => node.bytes(),
            Change::Updated { before, after } => before.bytes() + after.bytes(),
        }
    }
}

/// What [`Updates`] give.
#[derive(Clone, Debug)]
pub enum Update {
    /// The whole state: first of all, and when the listener was too slow for single changes.
    All(Nodes),
    /// What changed since the last update, in one step.
    Changes(Arc<[Change]>),
}

/// What a [`Cache`] knows of its own state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheState {
    /// Nothing was published yet.
    Loading,
    /// Up to date, as far as a watch can tell.
    Current,
    /// The connection was lost, or is back and all is read again: what is here is what was known last.
    Stale,
    /// It follows no longer; what is here is what was known last.
    Failed(Error),
}

/// A copy of a part of the tree, kept up to date.
///
/// **Guarantee.** What [`Cache::get`] and the others give is one state: one that the server had at a moment, if the
/// tree comes to rest for as long as a read takes, and no older than half a second behind in a tree that never
/// rests. States follow one another; nothing is lost but what was overwritten in between, and after an
/// interruption, be it a new session, listeners get the difference. It may be behind the truth, as every watch; a
/// decision that must not be is made by a write with a version.
///
/// **Failure.** While the connection is lost it goes on to give what it knew last, and says [`CacheState::Stale`].
/// When the part outgrows the [`CacheLimits`], or the server refuses a persistent watch (before ZooKeeper 3.6) or ends
/// the connection with each request, it ends in [`CacheState::Failed`]. Znodes that the session may not read are left
/// out.
///
/// **Cost.** One persistent watch; recursive, also for [`Scope::Children`], so the events of all that lies below
/// pass through. Dropping the cache ends its task and removes the watch in the background.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{Cache, Scope, SessionKeeper, Update};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let cache = Cache::new(&keeper, "/workers", Scope::Children)?;
/// cache.ready().await?;
/// for worker in cache.children("/workers") {
///     println!("{}: {:?}", worker.name(), worker.data);
/// }
/// let mut updates = cache.updates();
/// loop {
///     match updates.next().await? {
///         Update::All(nodes) => println!("{} znodes", nodes.len()),
///         Update::Changes(changes) => println!("{changes:?}"),
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Cache {
    keeper: SessionKeeper,
    shared: Arc<Shared>,
    _task: Task,
}

#[derive(Debug)]
struct Shared {
    path: String,
    scope: Scope,
    limits: CacheLimits,
    held: RwLock<Held>,
    state: watch::Sender<CacheState>,
    /// How many publications there were. Sent to while `held` is locked for writing.
    told: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Held {
    nodes: Nodes,
    bytes: usize,
    told: Told,
}

/// The last publications, for listeners that are behind.
#[derive(Debug, Default)]
struct Told {
    /// Each with its bytes.
    kept: VecDeque<(Arc<[Change]>, usize)>,
    bytes: usize,
    /// How many there were, those included that are not kept any more.
    count: u64,
}

impl Told {
    fn push(&mut self, changes: Arc<[Change]>, bytes_max: usize) {
        let bytes = changes.iter().map(Change::bytes).sum();
        self.kept.push_back((changes, bytes));
        self.bytes += bytes;
        self.count += 1;
        while self.kept.len() > UPDATES_KEPT || self.bytes > bytes_max {
            let Some((_, bytes)) = self.kept.pop_front() else {
                break;
            };
            self.bytes -= bytes;
        }
    }

    /// A publication by its number; `None` when it is not kept any more.
    fn get(&self, number: u64) -> Option<Arc<[Change]>> {
        let first = self.count - self.kept.len() as u64;
        let index = usize::try_from(number.checked_sub(first)?).ok()?;
        self.kept.get(index).map(|(changes, _)| Arc::clone(changes))
    }
}

impl Cache {
    /// Begins to copy; [`Cache::ready`] waits for the first state.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn new(keeper: &SessionKeeper, path: &str, scope: Scope) -> Result<Cache> {
        Cache::with_limits(keeper, path, scope, CacheLimits::default())
    }

    /// As [`Cache::new`], with limits of one's own.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn with_limits(
        keeper: &SessionKeeper,
        path: &str,
        scope: Scope,
        limits: CacheLimits,
    ) -> Result<Cache> {
        if path != "/" {
            check_path(path)?;
        }
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            scope,
            limits,
            held: RwLock::default(),
            state: watch::Sender::new(CacheState::Loading),
            told: watch::Sender::new(0),
        });
        let keeping = keep(keeper.clone(), Arc::clone(&shared));
        let task = keeper.session().spawn(keeping).abort_handle();
        Ok(Cache {
            keeper: keeper.clone(),
            shared,
            _task: Task(task),
        })
    }

    /// Waits for the first state.
    ///
    /// # Errors
    /// When it cannot be read; see [`CacheState::Failed`].
    pub async fn ready(&self) -> Result<()> {
        self.shared.ready().await
    }

    /// What it knows of its own state, now.
    pub fn state(&self) -> CacheState {
        let state = self.shared.state.borrow().clone();
        match state {
            CacheState::Current if self.keeper.session().state() != ConnectionState::Connected => {
                CacheState::Stale
            }
            state => state,
        }
    }

    /// The znode at this path, when it is there. The path is absolute.
    pub fn get(&self, path: &str) -> Option<Arc<Node>> {
        self.shared.read().nodes.get(path).cloned()
    }

    /// The children of a znode that are in the cache, by name.
    pub fn children(&self, path: &str) -> Vec<Arc<Node>> {
        let prefix = join(path, "");
        let held = self.shared.read();
        let below = held
            .nodes
            .range::<str, _>((Bound::Excluded(prefix.as_str()), Bound::Unbounded));
        below
            .take_while(|(path, _)| path.starts_with(&prefix))
            .filter(|(path, _)| !path[prefix.len()..].contains('/'))
            .map(|(_, node)| Arc::clone(node))
            .collect()
    }

    /// The whole state.
    pub fn all(&self) -> Nodes {
        self.shared.read().nodes.clone()
    }

    /// The whole state and then every change to it, for one listener that takes them in its own time.
    pub fn updates(&self) -> Updates {
        Updates {
            state: self.shared.state.subscribe(),
            told: self.shared.told.subscribe(),
            shared: Arc::clone(&self.shared),
            next: None,
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.shared.fail(ClientError::ClientClosed.into());
    }
}

/// The states of a [`Cache`] for one listener; see [`Cache::updates`].
#[derive(Debug)]
pub struct Updates {
    shared: Arc<Shared>,
    state: watch::Receiver<CacheState>,
    told: watch::Receiver<u64>,
    /// The number of the next publication to give; the whole state comes first.
    next: Option<u64>,
}

impl Updates {
    /// Waits for the next update. Dropping the future loses none.
    ///
    /// # Errors
    /// When there will be none: the cache has failed or was dropped.
    pub async fn next(&mut self) -> Result<Update> {
        match self.next {
            None => self.shared.ready().await?,
            Some(next) => tokio::select! {
                biased;
                // Its sender is in `shared`.
                _ = self.told.wait_for(|told| *told > next) => {}
                error = failure(&mut self.state) => return Err(error),
            },
        }
        let held = self.shared.read();
        if let Some(next) = self.next
            && let Some(changes) = held.told.get(next)
        {
            self.next = Some(next + 1);
            return Ok(Update::Changes(changes));
        }
        self.next = Some(held.told.count);
        Ok(Update::All(held.nodes.clone()))
    }
}

async fn failure(state: &mut watch::Receiver<CacheState>) -> Error {
    match state
        .wait_for(|state| matches!(state, CacheState::Failed(_)))
        .await
        .as_deref()
    {
        Ok(CacheState::Failed(error)) => error.clone(),
        _ => ClientError::ClientClosed.into(),
    }
}

impl Shared {
    /// To read. Nothing that is done under the lock panics, so it is never poisoned.
    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To write.
    fn held(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_state(&self, new: CacheState) {
        self.state.send_if_modified(|state| {
            let is_final = matches!(state, CacheState::Failed(_));
            let is_news =
                *state != new && !is_final && (new != CacheState::Stale || *state == CacheState::Current);
            if is_news {
                *state = new;
            }
            is_news
        });
    }

    fn fail(&self, error: Error) {
        self.set_state(CacheState::Failed(error));
    }

    async fn ready(&self) -> Result<()> {
        let mut state = self.state.subscribe();
        match state
            .wait_for(|state| *state != CacheState::Loading)
            .await
            .as_deref()
        {
            Ok(CacheState::Failed(error)) => Err(error.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err(ClientError::ClientClosed.into()),
        }
    }

    /// Whether an event at this path is about something that is copied.
    fn concerns(&self, path: &str) -> bool {
        match self.scope {
            Scope::Tree => true,
            _ if path == self.path => true,
            Scope::Node => false,
            Scope::Children => crate::znode::split(path).0 == self.path,
        }
    }

    /// Makes what was read the state, and tells the difference.
    fn publish(&self, read: BTreeMap<String, Option<Arc<Node>>>, is_all: bool) -> Result<()> {
        let mut held = self.held();
        // What is replaced: everything when all was read.
        let mut before = match is_all {
            true => std::mem::take(&mut held.nodes),
            false => Nodes::new(),
        };
        if is_all {
            held.bytes = 0;
        }
        let mut after = Nodes::new();
        for (path, node) in read {
            if let Some(old) = held.nodes.remove(&path) {
                held.bytes -= old.bytes();
                before.insert(path.clone(), old);
            }
            if let Some(mut node) = node {
                // One that is as it was stays what listeners were told it is.
                if let Some(old) = before.get(&path)
                    && (old.stat.czxid, old.stat.mzxid) == (node.stat.czxid, node.stat.mzxid)
                {
                    node = Arc::clone(old);
                }
                held.bytes += node.bytes();
                held.nodes.insert(path.clone(), Arc::clone(&node));
                after.insert(path, node);
            }
        }
        let changes = difference(&before, &after);
        if !changes.is_empty() {
            let kept_max = match self.told.receiver_count() {
                0 => 0,
                _ => self.limits.bytes,
            };
            held.told.push(changes.into(), kept_max);
            self.told.send_replace(held.told.count);
        }
        match held.nodes.len() > self.limits.nodes || held.bytes > self.limits.bytes {
            true => Err(too_large()),
            false => Ok(()),
        }
    }
}

fn too_large() -> Error {
    Error::TooLarge("the tree is larger than the limits of its cache")
}

fn difference(before: &Nodes, after: &Nodes) -> Vec<Change> {
    let mut changes = Vec::new();
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for path in paths {
        match (before.get(path).cloned(), after.get(path).cloned()) {
            (Some(before), Some(after)) if before.stat.czxid != after.stat.czxid => {
                changes.extend([Change::Deleted(before), Change::Created(after)]);
            }
            (Some(before), Some(after)) if before.stat.mzxid != after.stat.mzxid => {
                changes.push(Change::Updated { before, after });
            }
            (None, Some(after)) => changes.push(Change::Created(after)),
            (Some(before), None) => changes.push(Change::Deleted(before)),
            _ => {}
        }
    }
    changes
}

/// Follows one session after another.
async fn keep(keeper: SessionKeeper, shared: Arc<Shared>) {
    loop {
        let session = keeper.live_session().await;
        match follow(session.client(), &shared).await {
            Error::Client(error) if ends_session(&error) => {
                shared.set_state(CacheState::Stale);
                session.over().await;
            }
            error => {
                tracing::warn!(path = shared.path, %error, "a cache has failed");
                return shared.fail(error);
            }
        }
    }
}

/// Follows one session; gives why it ended.
async fn follow(client: &Client, shared: &Shared) -> Error {
    let mode = match shared.scope {
        Scope::Node => AddWatchMode::Persistent,
        Scope::Children | Scope::Tree => AddWatchMode::PersistentRecursive,
    };
    let mut last = None;
    loop {
        let mut watcher = match retry(|| client.watch(&shared.path, mode)).await {
            Ok(watcher) => watcher,
            Err(error) => return error.into(),
        };
        // Only now, so that the server does not remove both.
        drop(last.take());
        if let Err(error) = Copying::new(client, shared).run(&mut watcher).await {
            return error;
        }
        last = Some(watcher);
    }
}

/// What one connection has read that is not published yet.
struct Copying<'a> {
    client: &'a Client,
    shared: &'a Shared,
    /// What is to be read, or to be read again.
    wanted: BTreeSet<String>,
    /// Of those, what was found by listing and so is to be listed itself. Nothing is published before this is empty.
    found: HashSet<String>,
    /// What is being read: each path once at a time, so that its replies keep their order.
    reading: HashSet<String>,
    reads: JoinSet<(String, Result<Reading, ClientError>)>,
    /// What was read; `None` for what is not there.
    read: BTreeMap<String, Option<Arc<Node>>>,
    read_bytes: usize,
    /// Whether what was read is everything.
    is_all: bool,
    unpublished_since: Option<Instant>,
}

/// A znode, and its children if they were asked for.
type Reading = Option<(Node, Vec<String>)>;

impl<'a> Copying<'a> {
    fn new(client: &'a Client, shared: &'a Shared) -> Copying<'a> {
        Copying {
            client,
            shared,
            wanted: BTreeSet::from([shared.path.clone()]),
            found: HashSet::from([shared.path.clone()]),
            reading: HashSet::new(),
            reads: JoinSet::new(),
            read: BTreeMap::new(),
            read_bytes: 0,
            is_all: true,
            unpublished_since: Some(Instant::now()),
        }
    }

    /// Copies until there is a new connection, or too many events to keep.
    async fn run(mut self, watcher: &mut PersistentWatcher) -> Result<()> {
        loop {
            self.start_reads();
            let is_quiet = self.wanted.is_empty() && self.reading.is_empty();
            let since = self.unpublished_since;
            let latest = since.unwrap_or_else(Instant::now) + PUBLISHED_AT_LATEST;
            tokio::select! {
                biased;
                event = watcher.changed() => match event.event_type {
                    EventType::Session => match event.session_state {
                        SessionState::Disconnected => self.shared.set_state(CacheState::Stale),
                        SessionState::SyncConnected | SessionState::ConnectedReadOnly => return Ok(()),
                        // The watcher must not be asked again after these.
                        SessionState::AuthFailed => return Err(ClientError::AuthFailed.into()),
                        SessionState::Closed => return Err(ClientError::ClientClosed.into()),
                        SessionState::Expired => return Err(ClientError::SessionExpired.into()),
                    },
                    EventType::NodeChildrenChanged => {}
                    _ if self.shared.concerns(&event.path) => {
                        self.wanted.insert(event.path);
                        self.unpublished_since.get_or_insert_with(Instant::now);
                        if self.wanted.len() > self.shared.limits.nodes {
                            return Ok(());
                        }
                    }
                    _ => {}
                },
                Some(read) = self.reads.join_next(), if !self.reading.is_empty() => {
                    let (path, reading) = read.map_err(|_| ClientError::ClientClosed)?;
                    self.take(path, reading?)?;
                }
                () = std::future::ready(()), if is_quiet && since.is_some() => self.publish()?,
                () = sleep_until(latest.into()), if since.is_some() && self.found.is_empty() => self.publish()?,
            }
        }
    }

    fn start_reads(&mut self) {
        while self.reading.len() < READS_AT_ONCE {
            let Some(path) = self
                .wanted
                .iter()
                .find(|path| !self.reading.contains(*path))
                .cloned()
            else {
                break;
            };
            self.wanted.remove(&path);
            let is_listed = self.found.contains(&path)
                && match self.shared.scope {
                    Scope::Node => false,
                    Scope::Children => path == self.shared.path,
                    Scope::Tree => true,
                };
            self.reading.insert(path.clone());
            let client = self.client.clone();
            self.reads.spawn(async move {
                let reading = read(&client, &path, is_listed).await;
                (path, reading)
            });
        }
    }

    fn take(&mut self, path: String, reading: Reading) -> Result<()> {
        self.reading.remove(&path);
        // One that was found while it was read for an event is to be read again, with its children.
        if !self.wanted.contains(&path) {
            let was_found = self.found.remove(&path);
            if was_found && self.found.is_empty() {
                // All was read once; what changed meanwhile gets its time.
                self.unpublished_since = Some(Instant::now());
            }
        }
        let mut node = None;
        if let Some((found, children)) = reading {
            for child in children {
                let child = join(&path, &child);
                self.wanted.insert(child.clone());
                self.found.insert(child);
            }
            self.read_bytes += found.bytes();
            node = Some(Arc::new(found));
        }
        if let Some(Some(old)) = self.read.insert(path, node) {
            self.read_bytes -= old.bytes();
        }
        let limits = self.shared.limits;
        match self.found.len() + self.read.len() > limits.nodes.saturating_mul(2)
            || self.read_bytes > limits.bytes
        {
            true => Err(too_large()),
            false => Ok(()),
        }
    }

    fn publish(&mut self) -> Result<()> {
        let is_all = std::mem::take(&mut self.is_all);
        self.read_bytes = 0;
        self.unpublished_since = match self.wanted.is_empty() && self.reading.is_empty() {
            true => None,
            false => Some(Instant::now()),
        };
        self.shared.publish(std::mem::take(&mut self.read), is_all)?;
        self.shared.set_state(CacheState::Current);
        Ok(())
    }
}

async fn read(client: &Client, path: &str, is_listed: bool) -> Result<Reading, ClientError> {
    let (data, stat) = match retry(|| client.get_data(path)).await {
        Ok(read) => read,
        Err(ClientError::NoNode) => return Ok(None),
        Err(ClientError::NoAuth) => {
            tracing::warn!(path, "a cache leaves out what its session may not read");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let children = match is_listed && stat.num_children > 0 {
        // What is gone meanwhile, or comes later, is told by events; what may not be read by now is left out.
        true => match retry(|| client.list_children(path)).await {
            Err(ClientError::NoNode | ClientError::NoAuth) => Vec::new(),
            children => children?,
        },
        false => Vec::new(),
    };
    let path = path.to_owned();
    Ok(Some((Node { path, data, stat }, children)))
}
