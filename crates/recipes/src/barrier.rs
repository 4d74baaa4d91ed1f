//! Places where many wait until they may go on.

use uuid::Uuid;
use zookeeper_client::Error as ClientError;

use crate::error::{Error, Result};
use crate::hold::Revoked;
use crate::znode::{self, check_path, create_ephemeral, join, retry};
use crate::{Session, SessionKeeper, store};

/// Who waits at it goes on when it is removed.
///
/// **Guarantee.** [`Barrier::wait`] returns after a moment at which the barrier was not there. Who waits again finds
/// the next one.
///
/// **Failure.** The barrier outlives sessions and who set it: somebody has to remove it. Waiting goes on over lost
/// connections and sessions. A dropped wait leaves nothing behind.
///
/// **Layout**: the barrier is the znode at `{path}`, as Curator's `DistributedBarrier`.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{Barrier, SessionKeeper};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let barrier = Barrier::new(&keeper, "/migrating")?;
/// barrier.set().await?;
/// // Others: barrier.wait().await?
/// barrier.remove().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Barrier {
    keeper: SessionKeeper,
    path: String,
}

impl Barrier {
    /// The barrier at this path; nothing is sent yet.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn new(keeper: &SessionKeeper, path: &str) -> Result<Barrier> {
        check_path(path)?;
        Ok(Barrier {
            keeper: keeper.clone(),
            path: path.to_owned(),
        })
    }

    /// Sets the barrier, if it is not set.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn set(&self) -> Result<()> {
        store::create(&self.keeper.live_session().await, &self.path, b"")
            .await
            .map(drop)
    }

    /// Removes the barrier, if it is set.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn remove(&self) -> Result<()> {
        let session = self.keeper.live_session().await;
        match retry(|| session.client().delete(&self.path, None)).await {
            Ok(()) | Err(ClientError::NoNode) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the barrier is not set.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn wait(&self) -> Result<()> {
        loop {
            let session = self.keeper.live_session().await;
            let client = session.client();
            // Not what a server knew long ago: the barrier may have been set just now.
            let found = retry(|| async {
                client.sync(&self.path).await?;
                client.get_and_watch_data(&self.path).await
            });
            match found.await {
                Ok((_, _, watcher)) => {
                    watcher.changed().await;
                }
                Err(ClientError::NoNode) => return Ok(()),
                Err(error) => {
                    let error = Error::from(error);
                    if !error.is_session_over() {
                        return Err(error);
                    }
                    session.over().await;
                }
            }
        }
    }
}

/// The name of the znode that says that enough have entered.
const READY: &str = "ready";

/// Many begin together, and end together.
///
/// **Guarantee.** [`DoubleBarrier::enter`] returns after so many members were inside at one time;
/// [`Entered::leave`] returns when all that were have begun to leave, or are gone. More than that many may enter.
///
/// **Failure.** Who loses its session is no longer inside: its `enter` or `leave` fails, and the others go on
/// waiting for another one, or without it. Dropping the future of `enter`, or [`Entered`], goes out in the
/// background without waiting for the others. It is [`Entered::leave`] that makes the path ready for the next round:
/// when nobody of a round gets to the end of it, `{path}/ready` stays, and with it the barrier is open.
///
/// **Layout**: an ephemeral `{path}/{uuid}` for each, and `{path}/ready`, as Curator's `DistributedDoubleBarrier`.
/// As there, one path is for one round at a time: who comes before the last of the last round has left goes in at
/// once.
///
/// ```no_run
/// # async fn example(session: oxkeeper_recipes::Session) -> oxkeeper_recipes::Result<()> {
/// use oxkeeper_recipes::DoubleBarrier;
///
/// let barrier = DoubleBarrier::new(&session, "/rounds/7", 3)?;
/// let inside = barrier.enter().await?;
/// // All three are here.
/// inside.leave().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DoubleBarrier {
    session: Session,
    path: String,
    members: usize,
}

impl DoubleBarrier {
    /// The barrier at this path for so many members; nothing is sent yet.
    ///
    /// # Errors
    /// When it is not a path, or for no members.
    pub fn new(session: &Session, path: &str, members: usize) -> Result<DoubleBarrier> {
        check_path(path)?;
        match members {
            0 => Err(Error::BadArgument("a barrier for no members")),
            _ => Ok(DoubleBarrier {
                session: session.clone(),
                path: path.to_owned(),
                members,
            }),
        }
    }

    /// Goes in, and waits until enough have.
    ///
    /// # Errors
    /// [`Error::Revoked`] when somebody deleted the member's znode. When the session ends or the server refuses.
    pub async fn enter(&self) -> Result<Entered> {
        let session = &self.session;
        let client = session.client();
        let name = Uuid::new_v4().to_string();
        let own = join(&self.path, &name);
        let ready = join(&self.path, READY);
        create_ephemeral(session, &own, name.as_bytes()).await?;
        let entered = Entered {
            barrier: self.clone(),
            name,
            is_gone: false,
        };
        loop {
            let own_watcher = match retry(|| client.get_and_watch_data(&own)).await {
                Ok((_, _, watcher)) => watcher,
                Err(ClientError::NoNode) => return Err(Revoked::Deleted.into()),
                Err(error) => return Err(error.into()),
            };
            // Watched before the others are counted; and who is the last sees all that came before it, so that
            // nobody needs to be woken but by this.
            let (stat, watcher) = retry(|| client.check_and_watch_stat(&ready)).await?;
            if stat.is_some() {
                return Ok(entered);
            }
            if self.inside().await?.len() >= self.members {
                store::create(session, &ready, b"").await?;
                return Ok(entered);
            }
            tokio::select! {
                _ = watcher.changed() => {}
                _ = own_watcher.changed() => {}
            }
        }
    }

    /// The names of those inside, in order.
    async fn inside(&self) -> Result<Vec<String>> {
        let mut names = match retry(|| self.session.client().list_children(&self.path)).await {
            Err(ClientError::NoNode) => Vec::new(),
            names => names?,
        };
        names.retain(|name| name != READY);
        names.sort_unstable();
        Ok(names)
    }
}

/// Is inside a [`DoubleBarrier`].
#[derive(Debug)]
pub struct Entered {
    barrier: DoubleBarrier,
    name: String,
    is_gone: bool,
}

impl Entered {
    /// Goes out, and waits until all have.
    ///
    /// # Errors
    /// When the session ends (the others find it gone) or the server refuses.
    pub async fn leave(mut self) -> Result<()> {
        let session = self.barrier.session.clone();
        let client = session.client();
        // As Curator does: the lowest stays until all others are gone, and waits for the highest; all others go, and
        // wait for the lowest. So each is woken by one.
        loop {
            let members = self.barrier.inside().await?;
            let (Some(lowest), Some(highest)) = (members.first(), members.last()) else {
                break;
            };
            let is_lowest = *lowest == self.name;
            if is_lowest && members.len() == 1 {
                self.go().await?;
                break;
            }
            let awaited = join(&self.barrier.path, if is_lowest { highest } else { lowest });
            if !is_lowest && !self.is_gone {
                self.go().await?;
            }
            match retry(|| client.get_and_watch_data(&awaited)).await {
                Ok((_, _, watcher)) => {
                    watcher.changed().await;
                }
                Err(ClientError::NoNode) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match retry(|| client.delete(&join(&self.barrier.path, READY), None)).await {
            Ok(()) | Err(ClientError::NoNode) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn go(&mut self) -> Result<()> {
        match self.start_to_go().await {
            Ok(gone) => gone,
            // The runtime ends.
            Err(_) => Err(ClientError::ClientClosed.into()),
        }
    }

    fn start_to_go(&mut self) -> tokio::task::JoinHandle<Result<()>> {
        self.is_gone = true;
        znode::delete(&self.barrier.session, join(&self.barrier.path, &self.name))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if !self.is_gone {
            // Detached: it goes on.
            drop(self.start_to_go());
        }
    }
}
