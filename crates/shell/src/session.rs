//! A session with the servers, and the watches in it.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zookeeper_client::{
    AddWatchMode, Client, Error, EventType, OneshotWatcher, PersistentWatcher, SessionState, WatchedEvent,
};

use crate::command::WatchKinds;
use crate::text::{escape, json_line};

/// How long a server may take to end a session; after that it ends by its timeout.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a session is begun with.
#[derive(Clone, Debug)]
pub(crate) struct ConnectOptions {
    /// The session timeout to ask for.
    pub(crate) timeout: Duration,
    /// Whether a server without a quorum will do.
    pub(crate) read_only: bool,
    /// Whether to ask each server only once.
    pub(crate) once: bool,
}

/// Where watch events and changes of the session go.
pub(crate) struct Events {
    /// `printwatches`.
    printed: Mutex<bool>,
    json: bool,
    print: Box<dyn Fn(String) + Send + Sync>,
}

impl Events {
    pub(crate) fn new(printed: bool, json: bool, print: impl Fn(String) + Send + Sync + 'static) -> Events {
        Events {
            printed: Mutex::new(printed),
            json,
            print: Box::new(print),
        }
    }

    pub(crate) fn printed(&self) -> bool {
        *lock(&self.printed)
    }

    pub(crate) fn set_printed(&self, printed: bool) {
        *lock(&self.printed) = printed;
    }

    fn say(&self, state: &str, kind: &str, path: Option<&str>, zxid: i64) {
        if !self.printed() {
            return;
        }
        let text = if self.json {
            json_line(&json!({ "event": { "state": state, "type": kind, "path": path, "zxid": zxid } }))
        } else {
            event_text(state, kind, path, zxid)
        };
        (self.print)(text);
    }

    fn say_state(&self, state: SessionState) {
        self.say(&state.to_string(), "None", None, WatchedEvent::NO_ZXID);
    }
}

/// An event as zkCli prints it.
fn event_text(state: &str, kind: &str, path: Option<&str>, zxid: i64) -> String {
    let path = path.map_or_else(|| "null".to_owned(), escape);
    format!("WatchedEvent state:{state} type:{kind} path:{path} zxid: {zxid}")
}

/// An event of a znode for people and for scripts.
pub(crate) fn event_forms(event: &WatchedEvent) -> (String, Value) {
    let (state, kind) = (event.session_state.to_string(), event.event_type.to_string());
    (
        event_text(&state, &kind, Some(&event.path), event.zxid),
        json!({ "event": { "state": state, "type": kind, "path": event.path, "zxid": event.zxid } }),
    )
}

/// The kinds of watches there are. One-shot ones differ only in what they are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchKind {
    Data,
    Children,
    Persistent,
    PersistentRecursive,
}

impl WatchKind {
    fn is_of(self, kinds: WatchKinds) -> bool {
        match kinds {
            WatchKinds::Any => true,
            WatchKinds::Children => self == WatchKind::Children,
            WatchKinds::Data => self == WatchKind::Data,
            WatchKinds::Persistent => self == WatchKind::Persistent,
            WatchKinds::PersistentRecursive => self == WatchKind::PersistentRecursive,
        }
    }

    /// How a persistent one is asked for.
    fn add_mode(self) -> Option<AddWatchMode> {
        match self {
            WatchKind::Data | WatchKind::Children => None,
            WatchKind::Persistent => Some(AddWatchMode::Persistent),
            WatchKind::PersistentRecursive => Some(AddWatchMode::PersistentRecursive),
        }
    }

    /// The event that zkCli prints when such a watch is removed.
    fn removed(self) -> &'static str {
        match self {
            WatchKind::Data => "DataWatchRemoved",
            WatchKind::Children => "ChildWatchRemoved",
            WatchKind::Persistent | WatchKind::PersistentRecursive => "PersistentWatchRemoved",
        }
    }
}

/// A watch with the task that waits for its events. Dropping it removes the watch at the server.
struct Watch {
    id: u64,
    path: String,
    kind: WatchKind,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Watches {
    list: Vec<Watch>,
    next_id: u64,
    /// The last event printed and the watch it came by, since one event is printed once, however many watches see it.
    last: Option<(u64, WatchedEvent)>,
}

/// A session. [`Session::close`] ends it.
pub(crate) struct Session {
    /// The client of the crate `zookeeper-client`.
    pub(crate) client: Client,
    watches: Mutex<Watches>,
    events: Arc<Events>,
    /// Tells of the session's states until its end.
    follower: Mutex<Option<JoinHandle<()>>>,
}

impl Session {
    /// Begins a session with one of `servers` (`host:port,…[/chroot]`) and tells `events` of its states.
    ///
    /// # Errors
    /// When no server took it within the session timeout, or, with `once`, when none did at the first try.
    pub(crate) async fn connect(
        servers: &str,
        options: &ConnectOptions,
        events: Arc<Events>,
    ) -> Result<Arc<Session>, Error> {
        let mut connector = Client::connector()
            .with_session_timeout(options.timeout)
            .with_readonly(options.read_only);
        if options.once {
            connector = connector.with_fail_eagerly();
        }
        let client = connector.connect(servers).await?;
        let session = Arc::new(Session {
            client,
            watches: Mutex::default(),
            events,
            follower: Mutex::default(),
        });
        // Weak: a session whose last owner has gone ends, and with it this task.
        let follower = tokio::spawn(follow_states(Arc::downgrade(&session), session.events.clone()));
        *lock(&session.follower) = Some(follower);
        Ok(session)
    }

    /// Whether the session has ended, by itself or by the servers.
    pub(crate) fn has_ended(&self) -> bool {
        self.client.state().is_terminated()
    }

    /// Ends the session: its ephemerals are gone when this returns, if a server answers at all.
    pub(crate) async fn close(self: Arc<Session>) {
        let follower = lock(&self.follower).take();
        lock(&self.watches).list.clear();
        drop(self);
        if let Some(follower) = follower {
            // Beyond this the servers end the session by its timeout.
            let _ = timeout(CLOSE_TIMEOUT, follower).await;
        }
    }

    /// Prints the event of a data watch.
    pub(crate) fn keep_data_watch(self: &Arc<Session>, path: &str, watcher: OneshotWatcher) {
        self.keep_oneshot(path, WatchKind::Data, watcher);
    }

    /// Prints the event of a child watch.
    pub(crate) fn keep_child_watch(self: &Arc<Session>, path: &str, watcher: OneshotWatcher) {
        self.keep_oneshot(path, WatchKind::Children, watcher);
    }

    fn keep_oneshot(self: &Arc<Session>, path: &str, kind: WatchKind, watcher: OneshotWatcher) {
        let session = Arc::downgrade(self);
        self.keep(path, kind, |id| async move {
            let event = watcher.changed().await;
            if let Some(session) = session.upgrade() {
                session.say_event(id, &event);
                session.forget(id);
            }
        });
    }

    /// Watches a path until the watch is removed.
    ///
    /// # Errors
    /// Those of the server; releases before 3.6 have no such watches.
    pub(crate) async fn add_watch(self: &Arc<Session>, path: &str, recursive: bool) -> Result<(), Error> {
        let (mode, kind) = if recursive {
            (AddWatchMode::PersistentRecursive, WatchKind::PersistentRecursive)
        } else {
            (AddWatchMode::Persistent, WatchKind::Persistent)
        };
        let watcher = self.client.watch(path, mode).await?;
        self.keep_persistent(path, kind, watcher);
        Ok(())
    }

    fn keep_persistent(self: &Arc<Session>, path: &str, kind: WatchKind, mut watcher: PersistentWatcher) {
        let session = Arc::downgrade(self);
        self.keep(path, kind, |id| async move {
            loop {
                let event = watcher.changed().await;
                match session.upgrade() {
                    Some(session) if !event.session_state.is_terminated() => session.say_event(id, &event),
                    _ => return,
                }
            }
        });
    }

    /// Adds a watch to the list; the new one replaces one of the same kind and path.
    fn keep<F>(&self, path: &str, kind: WatchKind, wait: impl FnOnce(u64) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut watches = lock(&self.watches);
        let id = watches.next_id;
        watches.next_id += 1;
        // An event that comes before the watch is on the list waits for the lock.
        let task = tokio::spawn(wait(id));
        watches
            .list
            .retain(|watch| watch.kind != kind || watch.path != path);
        watches.list.push(Watch {
            id,
            path: path.to_owned(),
            kind,
            task,
        });
    }

    fn forget(&self, id: u64) {
        lock(&self.watches).list.retain(|watch| watch.id != id);
    }

    fn say_event(&self, id: u64, event: &WatchedEvent) {
        if event.event_type == EventType::Session {
            return; // told by follow_states, once
        }
        {
            let mut watches = lock(&self.watches);
            let seen = watches
                .last
                .as_ref()
                .is_some_and(|(by, last)| *by != id && last == event);
            if seen && event.zxid > 0 {
                return;
            }
            watches.last = Some((id, event.clone()));
        }
        let (state, kind) = (event.session_state.to_string(), event.event_type.to_string());
        self.events.say(&state, &kind, Some(&event.path), event.zxid);
    }

    /// Removes the watches of `kinds` on `path`; false when there are none.
    pub(crate) fn remove_watches(&self, path: &str, kinds: WatchKinds) -> bool {
        let removed: Vec<Watch> = {
            let mut watches = lock(&self.watches);
            watches
                .list
                .extract_if(.., |watch| watch.path == path && watch.kind.is_of(kinds))
                .collect()
        };
        for watch in &removed {
            self.events.say(
                "SyncConnected",
                watch.kind.removed(),
                Some(path),
                WatchedEvent::NO_ZXID,
            );
        }
        !removed.is_empty()
    }

    /// Registers the persistent watches again. The client does so after it found a server again for one-shot watches
    /// only: in 0.11.2 its request for the others always leaves them out. Its own watchers are still there, and the new
    /// ones can go at once: the server's watch stays as long as one of a path does.
    async fn renew_persistent_watches(&self) {
        let persistent: Vec<(String, AddWatchMode)> = lock(&self.watches)
            .list
            .iter()
            .filter_map(|watch| Some((watch.path.clone(), watch.kind.add_mode()?)))
            .collect();
        for (path, mode) in persistent {
            // A session that is lost again meanwhile is renewed again, and an ended one has no watches.
            let _ = self.client.watch(&path, mode).await;
        }
    }
}

/// Tells of the states of a session until its end.
async fn follow_states(session: Weak<Session>, events: Arc<Events>) {
    let Some(mut states) = session.upgrade().map(|session| session.client.state_watcher()) else {
        return;
    };
    let is_connected = |state| {
        matches!(
            state,
            SessionState::SyncConnected | SessionState::ConnectedReadOnly
        )
    };
    let mut state = states.state();
    events.say_state(state);
    while !state.is_terminated() {
        let before = std::mem::replace(&mut state, states.changed().await);
        if is_connected(before) && is_connected(state) {
            // It was back before this was told that it was gone.
            events.say_state(SessionState::Disconnected);
        }
        if let Some(session) = session.upgrade().filter(|_| is_connected(state)) {
            session.renew_persistent_watches().await;
        }
        events.say_state(state);
    }
}

/// What is behind a mutex; nothing that holds one of ours can leave it half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
