//! A lock that its owner may take again.

use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::contend::Queue;
use crate::error::Result;
use crate::hold::{Hold, release_last};
use crate::znode::check_path;
use crate::{Session, sequence};

/// The sequence of a contender for a mutex: Curator's and ours, or kazoo's.
pub(crate) fn rival(name: &str) -> Option<i32> {
    sequence::of(name, "-lock-").or_else(|| sequence::of(name, "__lock__"))
}

pub(crate) fn queue(dir: &str) -> Result<Queue> {
    check_path(dir)?;
    Ok(Queue {
        dir: dir.to_owned(),
        prefix: "lock-",
        rival,
    })
}

/// A lock for one holder at a time, first come, first served; re-entrant for its owner.
///
/// **Guarantee.** Of all sessions and all owners at most one stands first in the queue. As with every lock whose
/// holder may be stopped, that alone does not keep two from acting at once: use [`Hold::write`] or the
/// [fencing token](Hold::fencing_token) for what must not happen twice. No herd: each waiter watches the one
/// before it.
///
/// **The owner** is this value. As long as one of its guards lives, [`acquire`](Self::acquire) gives another at
/// once; the lock is free when all are gone. Tasks that are to exclude one another each need a value of their own;
/// that is why it takes `&mut self` and cannot be cloned.
///
/// **Failure.** Lost connections and replies are survived. With the end of the session `acquire` fails; what was
/// held is revoked. A dropped `acquire` leaves the queue.
///
/// **Layout**: `{path}/_c_{uuid}-lock-{sequence}`, as Curator's `InterProcessMutex`, with which it contends. With
/// kazoo's `Lock` too, when that is told of us: `Lock(client, path, extra_lock_patterns=["-lock-"])`.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{InterProcessMutex, SessionKeeper};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let mut mutex = InterProcessMutex::new(&keeper.session(), "/locks/reports")?;
/// let guard = mutex.acquire().await?;
/// guard.run(async { /* the work, dropped when the lock is revoked */ }).await?;
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct InterProcessMutex {
    session: Session,
    queue: Queue,
    data: Vec<u8>,
    held: Weak<Hold>,
}

impl InterProcessMutex {
    /// An owner of the lock at `path`; nothing is sent yet.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn new(session: &Session, path: &str) -> Result<InterProcessMutex> {
        Ok(InterProcessMutex {
            session: session.clone(),
            queue: queue(path)?,
            data: Vec::new(),
            held: Weak::new(),
        })
    }

    /// The same with this in its znodes, for people and tools that look who waits.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Vec<u8>>) -> InterProcessMutex {
        self.data = data.into();
        self
    }

    /// Waits until the lock is held by this owner. Dropped, it leaves the queue.
    ///
    /// # Errors
    /// [`Error::Revoked`](crate::Error::Revoked) when this owner has guards of a lock that was revoked: drop them
    /// first. Otherwise when the session ends or the server refuses.
    pub async fn acquire(&mut self) -> Result<MutexGuard> {
        if let Some(hold) = self.held.upgrade() {
            hold.check()?;
            return Ok(MutexGuard { hold });
        }
        let hold = Arc::new(self.queue.contend(&self.session, &self.data).await?);
        self.held = Arc::downgrade(&hold);
        Ok(MutexGuard { hold })
    }

    /// As [`InterProcessMutex::acquire`]; `None` when it takes longer.
    ///
    /// # Errors
    /// As [`InterProcessMutex::acquire`].
    pub async fn acquire_within(&mut self, within: Duration) -> Result<Option<MutexGuard>> {
        tokio::time::timeout(within, self.acquire())
            .await
            .ok()
            .transpose()
    }

    /// The paths of the znodes of all who hold the lock or wait for it; the first one is the holder's.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn participants(&self) -> Result<Vec<String>> {
        self.queue.participants(&self.session).await
    }
}

/// Holds an [`InterProcessMutex`], with all other guards of its owner. See [`Hold`] for what it offers and what
/// dropping it does.
#[derive(Debug)]
pub struct MutexGuard {
    hold: Arc<Hold>,
}

impl MutexGuard {
    /// Lets go; when it is the owner's last guard it waits until the znode is gone.
    ///
    /// # Errors
    /// As [`Hold::release`].
    pub async fn release(self) -> Result<()> {
        release_last(self.hold).await
    }
}

impl Deref for MutexGuard {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        &self.hold
    }
}
