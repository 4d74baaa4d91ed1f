//! A number of leases to be shared, and the lock that is a semaphore of one.

use std::ops::Deref;
use std::time::Duration;

use zookeeper_client::{CreateMode, Error as ClientError};

use crate::contend::{Place, Queue, in_order};
use crate::error::{Error, Result};
use crate::hold::{Hold, any_revoked, run_while};
use crate::mutex;
use crate::znode::{create_protected, join, retry, split};
use crate::{Session, sequence};

/// A counting semaphore: at most so many leases at once, first come, first served.
///
/// **Guarantee.** At most `max_leases` leases are held, if all who share the path say the same number; nobody
/// checks that. Each lease is a [`Hold`]: its own fencing token, guarded writes, revocation. No herd: whoever is
/// next holds an inner lock and alone watches the leases; the others wait for that lock.
///
/// **Failure.** Lost connections and replies are survived. With the end of the session `acquire` fails and its
/// leases are revoked. A dropped `acquire` leaves nothing behind.
///
/// **Layout**: `{path}/locks/_c_{uuid}-lock-{sequence}` and `{path}/leases/_c_{uuid}-lease-{sequence}`, as
/// Curator's `InterProcessSemaphoreV2`, with which it shares.
///
/// ```no_run
/// # async fn example(session: oxkeeper_recipes::Session) -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::InterProcessSemaphore;
///
/// let semaphore = InterProcessSemaphore::new(&session, "/limits/exports", 3)?;
/// let lease = semaphore.acquire().await?;
/// // One of three at work.
/// lease.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct InterProcessSemaphore {
    session: Session,
    entry: Queue,
    leases: String,
    max_leases: usize,
    data: Vec<u8>,
}

impl InterProcessSemaphore {
    /// The semaphore at `path`; nothing is sent yet.
    ///
    /// # Errors
    /// When it is not a path, or no lease is allowed.
    pub fn new(session: &Session, path: &str, max_leases: usize) -> Result<InterProcessSemaphore> {
        if max_leases == 0 {
            return Err(Error::BadArgument("a semaphore without leases"));
        }
        crate::znode::check_path(path)?;
        Ok(InterProcessSemaphore {
            session: session.clone(),
            entry: mutex::queue(&join(path, "locks"))?,
            leases: join(path, "leases"),
            max_leases,
            data: Vec::new(),
        })
    }

    /// The same with this in the znodes of its leases.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Vec<u8>>) -> InterProcessSemaphore {
        self.data = data.into();
        self
    }

    /// Waits for a lease.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn acquire(&self) -> Result<Lease> {
        // Held until we have our lease, so that one at a time watches the leases.
        let _entry = self.entry.contend(&self.session, &[]).await?;
        self.lease().await
    }

    /// A lease, for whoever is in.
    async fn lease(&self) -> Result<Lease> {
        loop {
            let mode = CreateMode::EphemeralSequential;
            let made = create_protected(&self.session, &self.leases, "lease-", &self.data, mode);
            let mut place = Place::new(&self.session, made.await?);
            if let Some(hold) = self.wait(&mut place).await? {
                return Ok(Lease { hold });
            }
        }
    }

    /// Waits for so many leases, and holds what it has meanwhile. Nobody else gets one before it has all, so that
    /// two who want several do not wait for each other's. (Curator's `acquire(qty)` lets others in between, and may
    /// so wait for one another.)
    ///
    /// # Errors
    /// [`Error::Revoked`] when one that it has is revoked while it waits for the rest; otherwise as
    /// [`InterProcessSemaphore::acquire`]. What it had is released.
    pub async fn acquire_many(&self, count: usize) -> Result<Vec<Lease>> {
        if count > self.max_leases {
            return Err(Error::BadArgument("more leases than there are"));
        }
        let _entry = match count {
            0 => return Ok(Vec::new()),
            _ => self.entry.contend(&self.session, &[]).await?,
        };
        let mut leases: Vec<Lease> = Vec::new();
        while leases.len() < count {
            let check = || leases.iter().try_for_each(|lease| lease.check());
            let revoked = any_revoked(leases.iter().map(|lease| &lease.hold));
            let next = run_while(check, revoked, self.lease()).await??;
            leases.push(next);
        }
        leases.iter().try_for_each(|lease| lease.check())?;
        Ok(leases)
    }

    /// As [`InterProcessSemaphore::acquire`]; `None` when it takes longer.
    ///
    /// # Errors
    /// As [`InterProcessSemaphore::acquire`].
    pub async fn acquire_within(&self, within: Duration) -> Result<Option<Lease>> {
        tokio::time::timeout(within, self.acquire())
            .await
            .ok()
            .transpose()
    }

    /// The paths of the znodes of all leases, oldest first; the newest may still be waited for.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn participants(&self) -> Result<Vec<String>> {
        let children = match retry(|| self.session.client().list_children(&self.leases)).await {
            Err(ClientError::NoNode) => Vec::new(),
            children => children?,
        };
        let names = in_order(&self.session, &self.leases, numbered(children)).await?;
        Ok(names.into_iter().map(|name| join(&self.leases, &name)).collect())
    }

    /// Waits until fewer than `max_leases` are before ours; `None` when ours was removed.
    async fn wait(&self, place: &mut Place<'_>) -> Result<Option<Hold>> {
        let client = self.session.client();
        let own = split(&place.node.path).1.to_owned();
        let mut is_absent = false;
        loop {
            self.session.connected().await?;
            let moment = self.session.moment();
            let (children, watcher) = match retry(|| client.list_and_watch_children(&self.leases)).await {
                Err(ClientError::NoNode) => return Ok(None),
                result => result?,
            };
            let all = children.len();
            let leases = numbered(children);
            let others = all - leases.len();
            let leases = in_order(&self.session, &self.leases, leases).await?;
            let Some(index) = leases.iter().position(|name| *name == own) else {
                if is_absent {
                    return Ok(None);
                }
                is_absent = true;
                retry(|| client.sync(&self.leases)).await?;
                continue;
            };
            // What is no lease of a kind that we know may be one all the same.
            let before = index + others;
            if before >= self.max_leases {
                watcher.changed().await;
            } else if self.session.disturbance_since(moment).is_none() {
                return Ok(Some(place.held_since(moment)));
            }
        }
    }
}

fn numbered(children: Vec<String>) -> Vec<(i32, String)> {
    let leases = children.into_iter();
    leases
        .filter_map(|name| Some((sequence::of(&name, "lease-")?, name)))
        .collect()
}

/// One lease of a semaphore. See [`Hold`] for what it offers and what dropping it does.
#[derive(Debug)]
pub struct Lease {
    hold: Hold,
}

impl Lease {
    /// Gives it back, and waits until its znode is gone.
    ///
    /// # Errors
    /// As [`Hold::release`].
    pub async fn release(self) -> Result<()> {
        self.hold.release().await
    }
}

impl Deref for Lease {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        &self.hold
    }
}

/// A lock for one holder at a time that is not re-entrant: whoever asks again waits for itself. It can be shared
/// between tasks.
///
/// Guarantee, failure and layout are those of an [`InterProcessSemaphore`] of one lease, and of Curator's
/// `InterProcessSemaphoreMutex`.
///
/// ```no_run
/// # async fn example(session: oxkeeper_recipes::Session) -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::InterProcessSemaphoreMutex;
///
/// let mutex = InterProcessSemaphoreMutex::new(&session, "/locks/ledger")?;
/// let guard = mutex.acquire().await?;
/// guard.write(|transaction| transaction.add_set_data("/ledger", b"42", None)).await?;
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct InterProcessSemaphoreMutex {
    semaphore: InterProcessSemaphore,
}

impl InterProcessSemaphoreMutex {
    /// The lock at `path`; nothing is sent yet.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn new(session: &Session, path: &str) -> Result<InterProcessSemaphoreMutex> {
        Ok(InterProcessSemaphoreMutex {
            semaphore: InterProcessSemaphore::new(session, path, 1)?,
        })
    }

    /// Waits until the lock is held.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn acquire(&self) -> Result<Lease> {
        self.semaphore.acquire().await
    }

    /// As [`InterProcessSemaphoreMutex::acquire`]; `None` when it takes longer.
    ///
    /// # Errors
    /// As [`InterProcessSemaphoreMutex::acquire`].
    pub async fn acquire_within(&self, within: Duration) -> Result<Option<Lease>> {
        self.semaphore.acquire_within(within).await
    }
}
