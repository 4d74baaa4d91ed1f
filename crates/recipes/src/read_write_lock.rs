//! Many readers or one writer.

use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Duration;

use uuid::Uuid;
use zookeeper_client::{CreateMode, Error as ClientError};

use crate::contend::Queue;
use crate::error::{Error, Result};
use crate::hold::{Hold, release_last, write_while};
use crate::znode::{check_path, join, retry, split};
use crate::{Revoked, Session, sequence};

const READ: &str = "__READ__";
const WRITE: &str = "__WRIT__";

/// The sequence of a writer: Curator's and ours, or kazoo's.
fn writer(name: &str) -> Option<i32> {
    sequence::of(name, WRITE).or_else(|| sequence::of(name, "__lock__"))
}

/// The sequence of a reader or writer.
fn any(name: &str) -> Option<i32> {
    let reader = || sequence::of(name, READ).or_else(|| sequence::of(name, "__rlock__"));
    writer(name).or_else(reader)
}

/// A lock for many readers or one writer at a time, first come, first served: a reader waits for the writers
/// before it, a writer for all before it.
///
/// **Guarantee.** While a write lock is held no other lock is. What [`InterProcessMutex`](crate::InterProcessMutex)
/// says of holders that are stopped is true here too. A waiting writer watches the one before it, a waiting reader
/// the last writer before it.
///
/// **The owner** is this value, as with the mutex. An owner that holds
/// - the read lock gets it again at once; asking for the write lock is [`Error::UpgradeRefused`];
/// - the write lock gets both again at once; all its guards then stand for the write lock until the last is gone;
/// - the write lock, once, may [`downgrade`](Self::downgrade) it: nobody gets in between who would have to wait for
///   the reader, even those who have been waiting for long.
///
/// **Failure.** As with the mutex.
///
/// **Layout**: `{path}/_c_{uuid}-__READ__{sequence}` and `…-__WRIT__{sequence}`, as Curator's
/// `InterProcessReadWriteLock`, with which it contends. With kazoo's too, when they are told of us:
/// `WriteLock(client, path, extra_lock_patterns=["__READ__", "__WRIT__"])` and
/// `ReadLock(client, path, extra_lock_patterns=["__WRIT__"])`.
///
/// ```no_run
/// # async fn example(session: oxkeeper_recipes::Session) -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::InterProcessReadWriteLock;
///
/// let mut lock = InterProcessReadWriteLock::new(&session, "/locks/index")?;
/// let writing = lock.write().await?;
/// // Rebuild the index, then go on using it while others may read as well.
/// let reading = lock.downgrade(writing).await?;
/// reading.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct InterProcessReadWriteLock {
    session: Session,
    readers: Queue,
    writers: Queue,
    data: Vec<u8>,
    reading: Weak<Hold>,
    writing: Weak<Hold>,
}

impl InterProcessReadWriteLock {
    /// An owner of the lock at `path`; nothing is sent yet.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn new(session: &Session, path: &str) -> Result<InterProcessReadWriteLock> {
        check_path(path)?;
        Ok(InterProcessReadWriteLock {
            session: session.clone(),
            readers: Queue {
                dir: path.to_owned(),
                prefix: READ,
                rival: writer,
            },
            writers: Queue {
                dir: path.to_owned(),
                prefix: WRITE,
                rival: any,
            },
            data: Vec::new(),
            reading: Weak::new(),
            writing: Weak::new(),
        })
    }

    /// The same with this in its znodes.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Vec<u8>>) -> InterProcessReadWriteLock {
        self.data = data.into();
        self
    }

    /// Waits until this owner may read. Dropped, it leaves the queue.
    ///
    /// # Errors
    /// As [`InterProcessMutex::acquire`](crate::InterProcessMutex::acquire).
    pub async fn read(&mut self) -> Result<ReadGuard> {
        if let Some(hold) = self.writing.upgrade().or_else(|| self.reading.upgrade()) {
            hold.check()?;
            return Ok(ReadGuard { hold });
        }
        let hold = Arc::new(self.readers.contend(&self.session, &self.data).await?);
        self.reading = Arc::downgrade(&hold);
        Ok(ReadGuard { hold })
    }

    /// Waits until this owner may write. Dropped, it leaves the queue.
    ///
    /// # Errors
    /// [`Error::UpgradeRefused`] when this owner holds the read lock; otherwise as
    /// [`InterProcessMutex::acquire`](crate::InterProcessMutex::acquire).
    pub async fn write(&mut self) -> Result<WriteGuard> {
        if let Some(hold) = self.writing.upgrade() {
            hold.check()?;
            return Ok(WriteGuard { hold });
        }
        if self.reading.strong_count() > 0 {
            return Err(Error::UpgradeRefused);
        }
        let hold = Arc::new(self.writers.contend(&self.session, &self.data).await?);
        self.writing = Arc::downgrade(&hold);
        Ok(WriteGuard { hold })
    }

    /// As [`InterProcessReadWriteLock::read`]; `None` when it takes longer.
    ///
    /// # Errors
    /// As [`InterProcessReadWriteLock::read`].
    pub async fn read_within(&mut self, within: Duration) -> Result<Option<ReadGuard>> {
        tokio::time::timeout(within, self.read()).await.ok().transpose()
    }

    /// As [`InterProcessReadWriteLock::write`]; `None` when it takes longer.
    ///
    /// # Errors
    /// As [`InterProcessReadWriteLock::write`].
    pub async fn write_within(&mut self, within: Duration) -> Result<Option<WriteGuard>> {
        tokio::time::timeout(within, self.write()).await.ok().transpose()
    }

    /// Makes the write lock a read lock, without letting go in between. When this future is dropped, the lock is
    /// released.
    ///
    /// The reader takes the writer's place in the queue: one transaction puts a reader's znode with the same
    /// sequence where the writer's was. It keeps the writer's fencing token.
    ///
    /// # Errors
    /// When other guards of this write lock live, it was revoked, or the sequence of the directory is
    /// [exhausted](sequence::is_exhausted), so that a place cannot be kept. The lock is then released with its last
    /// guard.
    pub async fn downgrade(&mut self, guard: WriteGuard) -> Result<ReadGuard> {
        let Some(hold) = Arc::into_inner(guard.hold) else {
            return Err(Error::BadArgument("other guards of this write lock are alive"));
        };
        // On a task of its own: it has to know how it went, even if nobody asks any more.
        let data = self.data.clone();
        let downgraded = self.session.spawn(async move { swap(hold, data).await }).await;
        let hold = Arc::new(downgraded.map_err(|_| ClientError::ClientClosed)??);
        self.reading = Arc::downgrade(&hold);
        Ok(ReadGuard { hold })
    }

    /// The paths of the znodes of all who hold the lock or wait for it, in order.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn participants(&self) -> Result<Vec<String>> {
        self.writers.participants(&self.session).await
    }
}

/// Replaces a writer's znode by a reader's. In whichever way it ends, no znode is left that nobody holds.
async fn swap(writing: Hold, data: Vec<u8>) -> Result<Hold> {
    let session = writing.session().clone();
    let (dir, name) = split(writing.path());
    if writer(name).is_none_or(sequence::is_exhausted) {
        return Err(Error::BadArgument(
            "the sequence of the lock's directory is exhausted",
        ));
    }
    let sequence = name.rsplit_once(WRITE).map_or("", |(_, sequence)| sequence);
    let path = join(dir, &format!("_c_{}-{READ}{sequence}", Uuid::new_v4()));
    let options = CreateMode::Ephemeral.with_acls(session.acls());
    let holds = [&writing];
    loop {
        let swapped = write_while(&holds, |transaction| {
            transaction.add_create(&path, &data, &options)?;
            transaction.add_delete(writing.path(), None)
        });
        let is_deleted = match swapped.await {
            Ok(_) | Err(Error::Client(ClientError::ConnectionLoss)) => false,
            // With a lost reply the second attempt finds the writer's znode gone. A guard that watches it may
            // have seen that before the reply arrived.
            Err(Error::Revoked(Revoked::Deleted)) => true,
            Err(error) => return Err(error),
        };
        let found = retry(|| async {
            session.client().sync(&path).await?;
            session.client().check_stat(&path).await
        });
        match found.await? {
            Some(_) => {
                // The token of its place: who waits behind it has had a smaller one than this transaction's for long.
                return Ok(Hold::new(
                    &session,
                    path,
                    writing.fencing_token(),
                    writing.moment(),
                ));
            }
            None if is_deleted => return Err(Revoked::Deleted.into()),
            None => writing.check()?,
        }
    }
}

/// Holds the lock for reading. See [`Hold`] for what it offers and what dropping it does.
#[derive(Debug)]
pub struct ReadGuard {
    hold: Arc<Hold>,
}

/// Holds the lock for writing. See [`Hold`] for what it offers and what dropping it does.
#[derive(Debug)]
pub struct WriteGuard {
    hold: Arc<Hold>,
}

impl ReadGuard {
    /// Lets go; when it is the owner's last guard it waits until the znode is gone.
    ///
    /// # Errors
    /// As [`Hold::release`].
    pub async fn release(self) -> Result<()> {
        release_last(self.hold).await
    }
}

impl WriteGuard {
    /// Lets go; when it is the owner's last guard it waits until the znode is gone.
    ///
    /// # Errors
    /// As [`Hold::release`].
    pub async fn release(self) -> Result<()> {
        release_last(self.hold).await
    }
}

impl Deref for ReadGuard {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        &self.hold
    }
}

impl Deref for WriteGuard {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        &self.hold
    }
}
