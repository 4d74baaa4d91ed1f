//! Several locks as one.

use std::future::Future;
use std::time::Duration;

use zookeeper_client::{CheckWriter, Error as ClientError, MultiWriteResult};

use crate::error::{Error, Result};
use crate::hold::{Hold, any_revoked, run_while, write_while};
use crate::{InterProcessMutex, MutexGuard, Revoked, Session};

/// All of several [`InterProcessMutex`]es, or none.
///
/// **Guarantee.** A guard holds all of them; [`MultiGuard::write`] writes only while it holds all. The locks are
/// taken in the order of their paths, so that two who want the same ones never wait for each other. (Curator's
/// `InterProcessMultiLock` takes them in the order given; the znodes are the same.)
///
/// **Failure.** As with the mutex. When one cannot be had, or one is revoked while another is waited for, those
/// taken before are released. When one of a guard is revoked, all count as revoked.
///
/// ```no_run
/// # async fn example(session: oxkeeper_recipes::Session) -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::InterProcessMultiLock;
///
/// let mut lock = InterProcessMultiLock::new(&session, ["/accounts/7/lock", "/accounts/9/lock"])?;
/// let guard = lock.acquire().await?;
/// guard.write(|transaction| {
///     transaction.add_set_data("/accounts/7", b"10", None)?;
///     transaction.add_set_data("/accounts/9", b"90", None)
/// }).await?;
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct InterProcessMultiLock {
    mutexes: Vec<InterProcessMutex>,
}

impl InterProcessMultiLock {
    /// An owner of the locks at these paths; nothing is sent yet.
    ///
    /// # Errors
    /// When there are none, or one is not a path.
    pub fn new<I, S>(session: &Session, paths: I) -> Result<InterProcessMultiLock>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        let mut paths: Vec<String> = paths.into_iter().map(Into::into).collect();
        if paths.is_empty() {
            return Err(Error::BadArgument("a lock of no locks"));
        }
        paths.sort_unstable();
        paths.dedup();
        let mutexes = paths.iter().map(|path| InterProcessMutex::new(session, path));
        Ok(InterProcessMultiLock {
            mutexes: mutexes.collect::<Result<_>>()?,
        })
    }

    /// Waits until all are held. Dropped, it lets go of all it has.
    ///
    /// # Errors
    /// [`Error::Revoked`] as soon as one that it has is revoked while it waits for another; otherwise as
    /// [`InterProcessMutex::acquire`].
    pub async fn acquire(&mut self) -> Result<MultiGuard> {
        let mut taken = MultiGuard { guards: Vec::new() };
        for mutex in &mut self.mutexes {
            let guard = taken.run(mutex.acquire()).await??;
            taken.guards.push(guard);
        }
        taken.check()?;
        Ok(taken)
    }

    /// As [`InterProcessMultiLock::acquire`]; `None` when it takes longer.
    ///
    /// # Errors
    /// As [`InterProcessMultiLock::acquire`].
    pub async fn acquire_within(&mut self, within: Duration) -> Result<Option<MultiGuard>> {
        tokio::time::timeout(within, self.acquire())
            .await
            .ok()
            .transpose()
    }
}

/// Holds all locks of an [`InterProcessMultiLock`]. Dropping it does to each what dropping a [`Hold`] does.
#[derive(Debug)]
pub struct MultiGuard {
    guards: Vec<MutexGuard>,
}

impl MultiGuard {
    /// The guards of the single locks, in the order of their paths; each has its own fencing token.
    pub fn guards(&self) -> &[MutexGuard] {
        &self.guards
    }

    /// Whether all are held as far as this process knows.
    pub fn is_held(&self) -> bool {
        self.check().is_ok()
    }

    /// As [`MultiGuard::is_held`], with the reason.
    ///
    /// # Errors
    /// When one of them was revoked.
    pub fn check(&self) -> Result<(), Revoked> {
        self.guards.iter().try_for_each(|guard| guard.check())
    }

    /// Waits until one of them is revoked.
    pub async fn revoked(&self) -> Revoked {
        any_revoked(self.guards.iter().map(|guard| &**guard)).await
    }

    /// As [`Hold::run`], as long as all are held.
    ///
    /// # Errors
    /// When one is revoked before the future is ready.
    pub async fn run<F: Future>(&self, future: F) -> Result<F::Output, Revoked> {
        run_while(|| self.check(), self.revoked(), future).await
    }

    /// As [`Hold::write`]: the servers refuse unless all are held.
    ///
    /// # Errors
    /// As [`Hold::write`].
    pub async fn write<F>(&self, fill: F) -> Result<Vec<MultiWriteResult>>
    where
        F: FnOnce(&mut CheckWriter<'_>) -> Result<(), ClientError>,
    {
        let holds: Vec<&Hold> = self.guards.iter().map(|guard| &**guard).collect();
        write_while(&holds, fill).await
    }

    /// Lets go of all, the last one first, and waits until their znodes are gone.
    ///
    /// # Errors
    /// The first error of [`Hold::release`]; all are released nevertheless.
    pub async fn release(mut self) -> Result<()> {
        let mut result = Ok(());
        while let Some(guard) = self.guards.pop() {
            let released = guard.release().await;
            result = result.and(released);
        }
        result
    }
}
