//! Who leads: a latch that keeps the leadership as long as it can, and a selector that leads for a while.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use zookeeper_client::Error as ClientError;

use crate::contend::Queue;
use crate::error::{Error, Result};
use crate::hold::{Hold, release_last};
use crate::znode::{check_path, retry};
use crate::{Session, SessionKeeper, mutex, sequence};

/// Who takes part in an election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// What it calls itself.
    pub id: String,
    /// The path of its znode.
    pub path: String,
    /// Whether it is the first in the queue.
    pub is_leader: bool,
}

async fn participants(session: &Session, queue: &Queue) -> Result<Vec<Participant>> {
    let mut found = Vec::new();
    for path in queue.participants(session).await? {
        match retry(|| session.client().get_data(&path)).await {
            Ok((id, _)) => found.push(Participant {
                id: String::from_utf8_lossy(&id).into_owned(),
                path,
                is_leader: found.is_empty(),
            }),
            // It left in the meantime.
            Err(ClientError::NoNode) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Takes part in an election for as long as it lives, and keeps the leadership once it has it.
///
/// **Guarantee.** The servers see one first in the queue. A leader that was stopped may act for a moment after its
/// time: [`Hold::write`] and the [fencing token](Hold::fencing_token) of the leadership keep it from harm.
///
/// **Failure.** When the connection is suspended (or, by [`LossPolicy`](crate::LossPolicy), the session lost), the
/// leadership is over at once, and [`run_while_leader`](Self::run_while_leader) drops its future; the latch queues
/// up again, with a new session if it must. While somebody still has the old leadership (a clone of the [`Arc`]),
/// its znode stays as long as its session lives, so that nobody else leads meanwhile. Dropping the latch leaves the
/// election in the background; [`close`](Self::close) waits for it.
///
/// **Layout**: `{path}/_c_{uuid}-latch-{sequence}` with the id as data, as Curator's `LeaderLatch`.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{LeaderLatch, SessionKeeper};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let latch = LeaderLatch::start(&keeper, "/election/scheduler", "worker-1")?;
/// loop {
///     let ended = latch.run_while_leader(|leadership| async move {
///         // Dropped as soon as the leadership is in doubt.
///         println!("leading with token {}", leadership.fencing_token());
///     }).await;
///     if ended.is_ok() {
///         break;
///     }
/// }
/// latch.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LeaderLatch {
    keeper: SessionKeeper,
    queue: Queue,
    leadership: watch::Receiver<Option<Arc<Hold>>>,
    closing: watch::Sender<bool>,
    /// Why the election ended, if it did.
    ended: Arc<OnceLock<Error>>,
    task: Option<JoinHandle<Result<()>>>,
}

fn latch_sequence(name: &str) -> Option<i32> {
    sequence::of(name, "latch-")
}

impl LeaderLatch {
    /// Takes part in the election at `path` from now on; others see `id`.
    ///
    /// # Errors
    /// When it is not a path.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start(keeper: &SessionKeeper, path: &str, id: &str) -> Result<LeaderLatch> {
        check_path(path)?;
        let queue = Queue {
            dir: path.to_owned(),
            prefix: "latch-",
            rival: latch_sequence,
        };
        let (sender, leadership) = watch::channel(None);
        let (closing, is_closing) = watch::channel(false);
        let ended = Arc::new(OnceLock::new());
        let part = take_part(
            keeper.clone(),
            queue.clone(),
            id.as_bytes().to_vec(),
            sender,
            is_closing,
            Arc::clone(&ended),
        );
        let task = tokio::spawn(part);
        Ok(LeaderLatch {
            keeper: keeper.clone(),
            queue,
            leadership,
            closing,
            ended,
            task: Some(task),
        })
    }

    /// Whether this latch leads, as far as this process knows at this moment.
    pub fn is_leader(&self) -> bool {
        self.leadership().is_some()
    }

    /// The leadership, if this latch has it. Whoever keeps it keeps others from leading.
    pub fn leadership(&self) -> Option<Arc<Hold>> {
        self.leadership.borrow().clone().filter(|hold| hold.is_held())
    }

    /// Waits for the leadership.
    ///
    /// # Errors
    /// When the election cannot go on: the error with which the server refused what the latch needs.
    pub async fn wait_for_leadership(&self) -> Result<Arc<Hold>> {
        let mut leadership = self.leadership.clone();
        loop {
            let led = leadership.wait_for(|hold| hold.as_ref().is_some_and(|hold| hold.is_held()));
            match led.await {
                Ok(hold) => {
                    if let Some(hold) = hold.clone() {
                        return Ok(hold);
                    }
                }
                // Without a word the task ends only with its runtime.
                Err(_) => {
                    let ended = self.ended.get().cloned();
                    return Err(ended.unwrap_or(ClientError::ClientClosed.into()));
                }
            }
        }
    }

    /// Waits for the leadership, and runs a future as long as it lasts: on its loss the future is dropped where it
    /// stands. The leadership stays when the future is ready.
    ///
    /// # Errors
    /// [`Error::Revoked`] on loss; otherwise as [`LeaderLatch::wait_for_leadership`].
    pub async fn run_while_leader<F, T>(&self, lead: F) -> Result<T::Output>
    where
        F: FnOnce(Arc<Hold>) -> T,
        T: Future,
    {
        let leadership = self.wait_for_leadership().await?;
        Ok(leadership.run(lead(Arc::clone(&leadership))).await?)
    }

    /// A listener: it sees `Some` when this latch becomes the leader and `None` when it is no more. It runs on the
    /// task of whoever looks; between two looks it may miss changes that undo one another.
    pub fn listen(&self) -> LeadershipListener {
        LeadershipListener {
            leadership: self.leadership.clone(),
        }
    }

    /// All who take part, in the order in which they will lead.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn participants(&self) -> Result<Vec<Participant>> {
        participants(&self.keeper.live_session().await, &self.queue).await
    }

    /// Leaves the election. A leader's znode is gone then, unless somebody still has the leadership; that of one who
    /// waited goes in the background.
    ///
    /// # Errors
    /// As [`Hold::release`], and those that ended the election before.
    pub async fn close(mut self) -> Result<()> {
        self.closing.send_replace(true);
        match self.task.take() {
            Some(task) => task.await.map_err(|_| Error::from(ClientError::ClientClosed))?,
            None => Ok(()),
        }
    }
}

impl Drop for LeaderLatch {
    fn drop(&mut self) {
        // The task lets go and ends.
        self.closing.send_replace(true);
    }
}

/// Sees changes of a leadership.
#[derive(Clone, Debug)]
pub struct LeadershipListener {
    leadership: watch::Receiver<Option<Arc<Hold>>>,
}

impl LeadershipListener {
    /// Waits for a change: the new leadership, or `None` when it was lost. After the end of the election it waits
    /// for ever.
    pub async fn changed(&mut self) -> Option<Arc<Hold>> {
        if self.leadership.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.leadership.borrow_and_update().clone()
    }
}

/// The life of a latch.
async fn take_part(
    keeper: SessionKeeper,
    queue: Queue,
    id: Vec<u8>,
    leadership: watch::Sender<Option<Arc<Hold>>>,
    mut closing: watch::Receiver<bool>,
    ended: Arc<OnceLock<Error>>,
) -> Result<()> {
    loop {
        let elected = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return Ok(()),
            elected = async { queue.contend(&keeper.live_session().await, &id).await } => elected,
        };
        let hold = match elected {
            Ok(hold) => Arc::new(hold),
            Err(error) if error.is_session_over() => continue,
            Err(error) => {
                tracing::error!(path = queue.dir, %error, "the election cannot go on");
                return Err(ended.get_or_init(|| error).clone());
            }
        };
        leadership.send_replace(Some(Arc::clone(&hold)));
        let is_closing = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => true,
            _ = hold.revoked() => false,
        };
        leadership.send_replace(None);
        if is_closing {
            // Whoever has the leadership yet lets go of it.
            return release_last(hold).await;
        }
    }
}

/// Leads for as long as a function takes, then lets others lead.
///
/// **Guarantee** and **failure** are those of [`LeaderLatch`]: on loss of the leadership the function's future is
/// dropped where it stands.
///
/// **Layout**: `{path}/_c_{uuid}-lock-{sequence}` with the id as data, as Curator's `LeaderSelector`; kazoo's
/// `Election` too takes its turn, if told as [`InterProcessMutex`](crate::InterProcessMutex) says.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{LeaderSelector, SessionKeeper};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let selector = LeaderSelector::new(&keeper, "/election/compaction", "worker-1")?;
/// selector.lead(|leadership| async move {
///     // One term. It is begun anew when the leadership was lost in its midst.
///     println!("leading with token {}", leadership.fencing_token());
/// }).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LeaderSelector {
    keeper: SessionKeeper,
    queue: Queue,
    id: String,
    leadership: watch::Sender<Option<Arc<Hold>>>,
}

impl LeaderSelector {
    /// Who may take part in the election at `path`; nothing is sent yet.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn new(keeper: &SessionKeeper, path: &str, id: &str) -> Result<LeaderSelector> {
        Ok(LeaderSelector {
            keeper: keeper.clone(),
            queue: mutex::queue(path)?,
            id: id.to_owned(),
            leadership: watch::channel(None).0,
        })
    }

    /// Waits for the leadership and runs `term` to its end; when the leadership is lost in its midst, waits for it
    /// again and runs `term` anew. Dropped, it leaves the election.
    ///
    /// # Errors
    /// When the server refuses what the election needs.
    pub async fn lead<F, T>(&self, mut term: F) -> Result<T::Output>
    where
        F: FnMut(Arc<Hold>) -> T,
        T: Future,
    {
        loop {
            match self.lead_once(&mut term).await {
                Err(Error::Revoked(reason)) => {
                    tracing::info!(%reason, path = self.queue.dir, "not leading any more")
                }
                ended => return ended,
            }
        }
    }

    /// As [`LeaderSelector::lead`], once.
    ///
    /// # Errors
    /// [`Error::Revoked`] when the leadership is lost before `term` ends.
    pub async fn lead_once<F, T>(&self, term: F) -> Result<T::Output>
    where
        F: FnOnce(Arc<Hold>) -> T,
        T: Future,
    {
        let leadership = loop {
            let session = self.keeper.live_session().await;
            match self.queue.contend(&session, self.id.as_bytes()).await {
                Ok(hold) => break Arc::new(hold),
                Err(error) if error.is_session_over() => {}
                Err(error) => return Err(error),
            }
        };
        // Tells the listeners however this future ends.
        let told = Told(&self.leadership);
        self.leadership.send_replace(Some(Arc::clone(&leadership)));
        let result = leadership.run(term(Arc::clone(&leadership))).await;
        drop(told);
        // What was lost is deleted in the background: that may take until there is a connection again.
        let output = result?;
        match release_last(leadership).await {
            Err(error) if !error.is_session_over() => Err(error),
            _ => Ok(output),
        }
    }

    /// A listener: it sees `Some` at the beginning of a term and `None` at its end. Whoever keeps the leadership that
    /// it gives keeps others from leading.
    pub fn listen(&self) -> LeadershipListener {
        LeadershipListener {
            leadership: self.leadership.subscribe(),
        }
    }

    /// All who take part, in the order in which they will lead.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn participants(&self) -> Result<Vec<Participant>> {
        participants(&self.keeper.live_session().await, &self.queue).await
    }

    /// Asks whoever leads to let go; see [`attempt_revoke`](crate::attempt_revoke).
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn ask_leader_to_let_go(&self) -> Result<()> {
        let session = self.keeper.live_session().await;
        match self.queue.participants(&session).await?.first() {
            Some(leader) => crate::attempt_revoke(&session, leader).await,
            None => Ok(()),
        }
    }
}

struct Told<'a>(&'a watch::Sender<Option<Arc<Hold>>>);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}
