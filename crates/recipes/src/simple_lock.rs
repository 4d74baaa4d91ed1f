//! The plain lock: one ephemeral, and whoever makes it has it.

use std::ops::Deref;
use std::time::Duration;

use uuid::Uuid;
use zookeeper_client::{CreateMode, Error as ClientError, MultiWriteError, MultiWriteResult};

use crate::Session;
use crate::error::{Error, Result, is_connection_loss};
use crate::hold::Hold;
use crate::session::Moment;
use crate::znode::{MadeAt, check_path, create_directory, is_own, join, retry};

/// A lock for one holder at a time on a single ephemeral.
///
/// **Guarantee.** At most one session has the ephemeral; there is no order among those who wait. **Herd:** all of
/// them watch the one znode, and all try again when it goes: with n waiters a release costs n requests. Prefer
/// [`InterProcessMutex`](crate::InterProcessMutex) unless waiters are few; this one costs a single znode.
///
/// **Failure.** Lost connections and replies are survived. With the end of the session `acquire` fails and what
/// was held is revoked. A dropped `acquire` leaves nothing behind. A restarted process waits for the end of its
/// former session like anybody else.
///
/// **Layout**: the ephemeral `{path}/lock`. Its name is the same for every holder, so each acquisition also writes
/// the data of `{path}` in the same transaction: the version of `{path}` then tells the holders apart, and guarded
/// writes check it. Who makes the ephemeral without that contends correctly, but former holders are not fenced off
/// from its time. Who writes the data of `{path}` otherwise fences the holder off.
///
/// ```no_run
/// # async fn example(session: oxkeeper_recipes::Session) -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::SimpleLock;
///
/// let lock = SimpleLock::new(&session, "/migrations")?;
/// let guard = lock.acquire().await?;
/// guard.run(async { /* migrate */ }).await?;
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SimpleLock {
    session: Session,
    path: String,
}

impl SimpleLock {
    /// The lock at `path`; nothing is sent yet.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn new(session: &Session, path: &str) -> Result<SimpleLock> {
        check_path(path)?;
        Ok(SimpleLock {
            session: session.clone(),
            path: path.to_owned(),
        })
    }

    /// Waits until the lock is held.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn acquire(&self) -> Result<SimpleGuard> {
        let session = &self.session;
        let client = session.client();
        let lock = join(&self.path, "lock");
        let id = Uuid::new_v4().to_string().into_bytes();
        let mut made = MadeAt::new(session, &lock, &id);
        let mut is_reply_lost = false;
        loop {
            session.connected().await?;
            let moment = session.moment();
            match self.try_once(&lock, &id).await {
                Ok((version, zxid)) => {
                    made.settle();
                    return Ok(self.guard(lock.clone(), version, zxid, moment));
                }
                Err(MultiWriteError::OperationFailed {
                    source: ClientError::NoNode,
                    ..
                }) => create_directory(session, &self.path).await?,
                Err(MultiWriteError::OperationFailed {
                    source: ClientError::NodeExists,
                    ..
                }) => {
                    // The lock may be ours when a reply was lost. Seen before the lock itself is seen to be ours, a
                    // version of the directory is one of our time, and everybody after us makes another.
                    let dir = match is_reply_lost {
                        true => retry(|| client.check_stat(&self.path)).await?,
                        false => None,
                    };
                    match (retry(|| client.get_and_watch_data(&lock)).await, dir) {
                        (Ok((data, stat, _)), Some(dir)) if is_own(session, &id, &data, &stat) => {
                            made.settle();
                            return Ok(self.guard(lock.clone(), dir.version, stat.czxid, moment));
                        }
                        (Ok((_, _, watcher)), _) => {
                            watcher.changed().await;
                        }
                        (Err(ClientError::NoNode), _) => {}
                        (Err(error), _) => return Err(error.into()),
                    }
                }
                Err(MultiWriteError::RequestFailed { source }) if is_connection_loss(&source) => {
                    is_reply_lost = true;
                    retry(|| client.sync(&lock)).await?;
                }
                Err(
                    MultiWriteError::RequestFailed { source }
                    | MultiWriteError::OperationFailed { source, .. },
                ) => {
                    if !is_reply_lost {
                        made.settle();
                    }
                    return Err(source.into());
                }
            }
        }
    }

    /// As [`SimpleLock::acquire`]; `None` when it takes longer.
    ///
    /// # Errors
    /// As [`SimpleLock::acquire`].
    pub async fn acquire_within(&self, within: Duration) -> Result<Option<SimpleGuard>> {
        tokio::time::timeout(within, self.acquire())
            .await
            .ok()
            .transpose()
    }

    /// One attempt: the version of the directory and the zxid of the transaction.
    async fn try_once(&self, lock: &str, id: &[u8]) -> Result<(i32, i64), MultiWriteError> {
        let mut writer = self.session.client().new_multi_writer();
        writer.add_set_data(&self.path, id, None)?;
        writer.add_create(lock, id, &CreateMode::Ephemeral.with_acls(self.session.acls()))?;
        match writer.commit().await?.first() {
            Some(MultiWriteResult::SetData { stat }) => Ok((stat.version, stat.mzxid)),
            other => {
                Err(ClientError::UnexpectedError(format!("an answer to a transaction: {other:?}")).into())
            }
        }
    }

    fn guard(&self, lock: String, version: i32, zxid: i64, moment: Moment) -> SimpleGuard {
        let fence = Some((self.path.clone(), version));
        SimpleGuard {
            hold: Hold::at_shared_path(&self.session, lock, zxid, fence, moment),
        }
    }
}

/// Holds a [`SimpleLock`]. See [`Hold`] for what it offers and what dropping it does.
#[derive(Debug)]
pub struct SimpleGuard {
    hold: Hold,
}

impl SimpleGuard {
    /// Lets go, and waits until the znode is gone.
    ///
    /// # Errors
    /// As [`Hold::release`].
    pub async fn release(self) -> Result<(), Error> {
        self.hold.release().await
    }
}

impl Deref for SimpleGuard {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        &self.hold
    }
}
