//! How a recipe sees its session: connected, suspended, lost; and sessions that follow one another.
//!
//! The client speaks of a broken connection when it notices it, which may be long after the servers heard of it
//! last. What counts for a lock is the other clock: a server ends a session one session timeout after its last
//! word *from* the client. So each [`Session`] probes the servers, and counts from the moment at which the last
//! answered probe was *sent*. A session is
//!
//! - **connected** while probes are answered,
//! - **suspended** once the connection broke, or two thirds of the session timeout have passed since that moment,
//! - **lost** once the whole timeout has passed, or the client knows that the session is over.
//!
//! A follower that has lost its leader answers probes until it notices, and the leader may end the session
//! meanwhile: what is said here is what a client can know, no guarantee.
//!
//! The clock is the system's monotonic one. It goes on while a process is stopped; on Linux it stands still while
//! the whole machine sleeps, and then only a fenced write ([`Hold::write`](crate::Hold::write)) is safe.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep_until;
use zookeeper_client::{Acls, Client, Connector, SessionId, SessionState};

use crate::error::{Result, ends_session, is_connection_loss};

/// How often a session is probed, as a part of its timeout.
const PROBES_PER_TIMEOUT: u32 = 8;
/// The longest pause of a [`SessionKeeper`] between two attempts to get a session.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What is known of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// A server that can write answers.
    Connected,
    /// No server answers, or one that can only read. The session may end soon.
    Suspended,
    /// The servers have ended the session, or may have.
    Lost,
}

/// When what is held counts as lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LossPolicy {
    /// As soon as the connection is suspended: another client may hold it before this one hears of it.
    #[default]
    Suspended,
    /// When the session is lost, counted from the last contact. A short interruption is survived.
    Lost,
}

/// What the probing task tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    state: ConnectionState,
    /// How often the session went from connected to something else.
    suspensions: u64,
    /// How often it was lost.
    losses: u64,
    /// When the last answered probe was sent.
    contact: Instant,
    /// Whether the client has given the session up.
    is_over: bool,
}

/// A moment of a session, to ask later whether it was disturbed since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    suspensions: u64,
    losses: u64,
}

/// A client with what recipes need to know of its session. Cheap to clone; the probing ends with the last clone.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::Session;
/// use zookeeper_client::Client;
///
/// let session = Session::new(Client::connect("127.0.0.1:2181").await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    client: Client,
    runtime: Handle,
    acls: Acls<'static>,
    policy: LossPolicy,
    prober: Arc<Prober>,
}

#[derive(Debug)]
struct Prober {
    seen: watch::Receiver<Seen>,
    task: AbortHandle,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Session {
    /// Takes a connected client.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(client: Client) -> Session {
        let runtime = Handle::current();
        // Nothing is known before the first probe is answered.
        let (sender, seen) = watch::channel(Seen {
            state: ConnectionState::Suspended,
            suspensions: 0,
            losses: 0,
            contact: Instant::now(),
            is_over: false,
        });
        let task = runtime.spawn(probe(client.clone(), sender)).abort_handle();
        Session {
            client,
            runtime,
            acls: Acls::anyone_all(),
            policy: LossPolicy::default(),
            prober: Arc::new(Prober { seen, task }),
        }
    }

    /// The same session, whose recipes give their znodes these ACLs. Without it anyone may do anything.
    #[must_use]
    pub fn with_acls(mut self, acls: Acls<'static>) -> Session {
        self.acls = acls;
        self
    }

    /// The same session, whose locks and leaderships are revoked by this policy.
    #[must_use]
    pub fn with_policy(mut self, policy: LossPolicy) -> Session {
        self.policy = policy;
        self
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The ACLs of znodes that recipes create.
    pub fn acls(&self) -> Acls<'static> {
        self.acls
    }

    /// When what is held counts as lost.
    pub fn policy(&self) -> LossPolicy {
        self.policy
    }

    /// The id of the session.
    pub fn id(&self) -> SessionId {
        self.client.session_id()
    }

    /// The timeout that the server granted.
    pub fn timeout(&self) -> Duration {
        self.client.session_timeout()
    }

    /// What is known at this moment, by the clock too: right even in a process that was stopped for a while.
    pub fn state(&self) -> ConnectionState {
        let seen = *self.prober.seen.borrow();
        judge(&seen, self.timeout())
    }

    /// When the servers heard of this session last, for sure. The session lives one timeout longer. Before it is
    /// [connected](Session::connected) for the first time: when this value was made.
    pub fn last_contact(&self) -> Instant {
        self.prober.seen.borrow().contact
    }

    /// Whether the client has given the session up, so that only a new one can help.
    pub fn is_over(&self) -> bool {
        self.prober.seen.borrow().is_over || self.client.state().is_terminated()
    }

    /// Waits until the session is over for good.
    pub async fn over(&self) {
        self.wait_until(|seen| seen.is_over).await;
    }

    /// Waits until the session is connected.
    ///
    /// # Errors
    /// When it is over.
    pub async fn connected(&self) -> Result<()> {
        let timeout = self.timeout();
        let is_connected = |seen: &Seen| judge(seen, timeout) == ConnectionState::Connected;
        self.wait_until(|seen| seen.is_over || is_connected(seen)).await;
        match self.is_over() {
            true => Err(self.over_error().into()),
            false => Ok(()),
        }
    }

    /// Waits until the state is another one than `than`, and gives it.
    pub async fn state_other_than(&self, than: ConnectionState) -> ConnectionState {
        let timeout = self.timeout();
        self.wait_until(|seen| judge(seen, timeout) != than || seen.is_over)
            .await;
        self.state()
    }

    async fn wait_until(&self, condition: impl FnMut(&Seen) -> bool) {
        let mut seen = self.prober.seen.clone();
        // The sender ends only when the session is over, and says so before.
        let _ = seen.wait_for(condition).await;
    }

    fn over_error(&self) -> zookeeper_client::Error {
        match self.client.state() {
            SessionState::AuthFailed => zookeeper_client::Error::AuthFailed,
            SessionState::Closed => zookeeper_client::Error::ClientClosed,
            _ => zookeeper_client::Error::SessionExpired,
        }
    }

    /// This moment, for [`Session::disturbance_since`].
    pub(crate) fn moment(&self) -> Moment {
        let seen = *self.prober.seen.borrow();
        Moment {
            suspensions: seen.suspensions,
            losses: seen.losses,
        }
    }

    /// What happened since that moment that matters under this session's policy.
    pub(crate) fn disturbance_since(&self, moment: Moment) -> Option<ConnectionState> {
        let seen = *self.prober.seen.borrow();
        self.disturbance(&seen, moment)
    }

    /// Waits for what [`Session::disturbance_since`] gives.
    pub(crate) async fn disturbed_since(&self, moment: Moment) -> ConnectionState {
        let mut receiver = self.prober.seen.clone();
        let _ = receiver
            .wait_for(|seen| self.disturbance(seen, moment).is_some())
            .await;
        self.disturbance_since(moment).unwrap_or(ConnectionState::Lost)
    }

    fn disturbance(&self, seen: &Seen, moment: Moment) -> Option<ConnectionState> {
        let state = judge(seen, self.timeout());
        if state == ConnectionState::Lost || seen.losses != moment.losses {
            return Some(ConnectionState::Lost);
        }
        let was_suspended = state == ConnectionState::Suspended || seen.suspensions != moment.suspensions;
        (was_suspended && self.policy == LossPolicy::Suspended).then_some(ConnectionState::Suspended)
    }

    /// Runs something that is not to end with whoever asked for it. In a runtime that has ended nothing happens.
    pub(crate) fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.runtime.spawn(future)
    }
}

/// What the clock makes of what the probing task told last.
fn judge(seen: &Seen, timeout: Duration) -> ConnectionState {
    let silence = seen.contact.elapsed();
    if seen.is_over || silence >= timeout {
        ConnectionState::Lost
    } else if silence >= suspended_after(timeout) && seen.state == ConnectionState::Connected {
        ConnectionState::Suspended
    } else {
        seen.state
    }
}

/// After how long a silence a session is suspended though nothing was said of its connection.
fn suspended_after(timeout: Duration) -> Duration {
    timeout * 2 / 3
}

/// Probes the servers as long as the session lives.
async fn probe(client: Client, sender: watch::Sender<Seen>) {
    let timeout = client.session_timeout();
    let mut states = client.state_watcher();
    let mut disturbed = false;
    loop {
        if disturbed {
            publish(&sender, ConnectionState::Suspended);
        }
        let sent = Instant::now();
        let mut answer = std::pin::pin!(client.check_stat("/"));
        // While there is no connection the client keeps the request until there is one.
        let answered = loop {
            let contact = sender.borrow().contact;
            let next = match sender.borrow().state {
                ConnectionState::Connected => contact + suspended_after(timeout),
                ConnectionState::Suspended | ConnectionState::Lost => contact + timeout,
            };
            let is_lost = sender.borrow().state == ConnectionState::Lost;
            tokio::select! {
                biased;
                state = states.changed() => {
                    if state.is_terminated() {
                        return end(&sender);
                    }
                    // Connected again means that it was not connected before.
                    publish(&sender, ConnectionState::Suspended);
                }
                answer = &mut answer => break answer,
                () = sleep_until(next.into()), if !is_lost => {
                    let silence = contact.elapsed();
                    publish(&sender, match silence >= timeout {
                        true => ConnectionState::Lost,
                        false => ConnectionState::Suspended,
                    });
                }
            }
        };
        match answered {
            Ok(_) if client.state() == SessionState::SyncConnected => {
                sender.send_modify(|seen| {
                    // A gap that nobody was awake to see.
                    if sent.duration_since(seen.contact) >= timeout {
                        step(seen, ConnectionState::Lost);
                    }
                    seen.contact = sent;
                    seen.state = ConnectionState::Connected;
                });
            }
            Ok(_) => publish(&sender, ConnectionState::Suspended),
            Err(error) if is_connection_loss(&error) => publish(&sender, ConnectionState::Suspended),
            Err(error) if ends_session(&error) => return end(&sender),
            // The client's own complaint, or a reply that makes no sense: no proof that the session was heard of.
            Err(error) => tracing::debug!(%error, "a probe of the session was refused"),
        }
        disturbed = tokio::select! {
            biased;
            state = states.changed() => {
                if state.is_terminated() {
                    return end(&sender);
                }
                true
            }
            () = sleep_until((sent + timeout / PROBES_PER_TIMEOUT).into()) => false,
        };
    }
}

fn step(seen: &mut Seen, state: ConnectionState) {
    if seen.state == ConnectionState::Connected {
        seen.suspensions += 1;
    }
    if state == ConnectionState::Lost && seen.state != ConnectionState::Lost {
        seen.losses += 1;
    }
    seen.state = state;
}

/// Tells a state that is worse than connected; what is lost stays lost until a probe is answered.
fn publish(sender: &watch::Sender<Seen>, state: ConnectionState) {
    sender.send_if_modified(|seen| {
        let is_news = seen.state != state && seen.state != ConnectionState::Lost;
        if is_news {
            step(seen, state);
        }
        is_news
    });
}

fn end(sender: &watch::Sender<Seen>) {
    sender.send_modify(|seen| {
        step(seen, ConnectionState::Lost);
        seen.is_over = true;
    });
}

/// Keeps a session for as long as it lives itself: when one is over it gets a new one. For recipes that outlive
/// sessions, such as elections, caches and registrations.
///
/// What a session held ends with it; recipes that take a keeper begin anew with the next session.
#[derive(Clone, Debug)]
pub struct SessionKeeper {
    sessions: watch::Receiver<Session>,
    _task: Arc<Keeping>,
}

#[derive(Debug)]
struct Keeping(AbortHandle);

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SessionKeeper {
    /// Connects with the client's defaults.
    ///
    /// # Errors
    /// When no first session comes about within the session timeout.
    pub async fn connect(cluster: &str) -> Result<SessionKeeper> {
        SessionKeeper::with(Client::connector(), cluster, |session| session).await
    }

    /// Connects as the connector says, and adapts every session, for instance with [`Session::with_acls`].
    ///
    /// # Errors
    /// When no first session comes about within the session timeout.
    pub async fn with(
        connector: Connector,
        cluster: &str,
        adapt: impl Fn(Session) -> Session + Send + 'static,
    ) -> Result<SessionKeeper> {
        let first = adapt(Session::new(connector.clone().connect(cluster).await?));
        let runtime = first.runtime.clone();
        let (sender, sessions) = watch::channel(first);
        let cluster = cluster.to_owned();
        let task = runtime.spawn(async move {
            loop {
                let session = sender.borrow().clone();
                session.over().await;
                drop(session);
                let mut pause = Duration::from_millis(50);
                let next = loop {
                    match connector.clone().connect(&cluster).await {
                        Ok(client) => break client,
                        Err(error) => {
                            tracing::warn!(%error, %cluster, "no new session yet");
                            tokio::time::sleep(pause).await;
                            pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
                        }
                    }
                };
                tracing::info!(session = %next.session_id(), "a new session");
                sender.send_replace(adapt(Session::new(next)));
            }
        });
        Ok(SessionKeeper {
            sessions,
            _task: Arc::new(Keeping(task.abort_handle())),
        })
    }

    /// The newest session; it may be suspended or over.
    pub fn session(&self) -> Session {
        self.sessions.borrow().clone()
    }

    /// Waits for a session that is not over, and gives it: the newest one, or the one that follows it.
    pub async fn live_session(&self) -> Session {
        let mut sessions = self.sessions.clone();
        loop {
            let session = sessions.borrow_and_update().clone();
            if !session.is_over() {
                return session;
            }
            // The keeping task lives as long as this keeper does.
            if sessions.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
