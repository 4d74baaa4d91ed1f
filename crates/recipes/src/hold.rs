//! What somebody holds: a znode that stands for a lock, a lease or the leadership, and how long it does.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use zookeeper_client::{CheckWriteError, CheckWriter, Error as ClientError, MultiWriteResult};

use crate::error::{Result, ends_session, is_connection_loss};
use crate::session::Moment;
use crate::znode::{self, Losses, retry};
use crate::{ConnectionState, Error, Session};

/// What somebody writes into the znode of a holder to ask it to let go, as Curator's `Revoker` does.
pub(crate) const REVOKE: &[u8] = b"__REVOKE__";

/// Why something is held no longer, or not for sure. Once revoked, nothing is held again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Revoked {
    /// The connection was suspended, and [`LossPolicy::Suspended`](crate::LossPolicy) rules.
    #[error("revoked: the connection was suspended")]
    Suspended,
    /// The session was lost, or no server was heard of for as long as sessions live.
    #[error("revoked: the session was lost")]
    Lost,
    /// Somebody deleted the znode that stood for it.
    #[error("revoked: its znode was deleted")]
    Deleted,
}

/// A number that grows from holder to holder: the zxid of the transaction that gave the holder its place in the queue.
///
/// Send it along with what is done under a lock to something that is not ZooKeeper; that something refuses a
/// number smaller than one it has seen. The order is that of the znodes of one queue: one lock's holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(pub i64);

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A lock, a lease or the leadership, held.
///
/// **Guarantee.** [`Hold::write`] writes only while it is held: the servers check that in the same transaction.
/// All else here says what this process knows, which may be late: between a check and what follows it a process
/// can be stopped for minutes.
///
/// **Revocation.** When the connection is suspended or the session lost (see [`LossPolicy`](crate::LossPolicy)),
/// or somebody deletes the znode, it is revoked: [`Hold::revoked`] resolves, [`Hold::run`] ends. The znode, if it
/// is still there, goes only when the hold is released or dropped, so that nobody else gets in on this side of
/// the session's end before the holder has heard of it.
///
/// **Drop** starts the deletion of the znode in the background, through lost connections. It cannot wait for it,
/// nor promise it when the runtime or the process ends first; then it goes with its session. [`Hold::release`]
/// waits.
#[derive(Debug)]
pub struct Hold {
    session: Session,
    path: String,
    token: FencingToken,
    /// The zxid of the znode, where `path` is not unique: what is there may be another holder's.
    only: Option<i64>,
    /// What must hold besides the presence of `path`: a znode and its version.
    fence: Option<(String, i32)>,
    moment: Moment,
    revoked: watch::Receiver<Option<Revoked>>,
    is_asked_for: watch::Receiver<bool>,
    guard: AbortHandle,
    is_released: bool,
}

impl Hold {
    /// Takes over a znode that this session made under a name that nothing else ever has. `moment` is one before it
    /// was known to be held.
    pub(crate) fn new(session: &Session, path: String, token: FencingToken, moment: Moment) -> Hold {
        Hold::start(session, path, token, None, None, moment)
    }

    /// As [`Hold::new`], at a path where others come to be: the znode is known by its zxid. Where everybody who makes
    /// one writes another znode too, that one and its version are the fence of guarded writes.
    pub(crate) fn at_shared_path(
        session: &Session,
        path: String,
        czxid: i64,
        fence: Option<(String, i32)>,
        moment: Moment,
    ) -> Hold {
        Hold::start(session, path, FencingToken(czxid), Some(czxid), fence, moment)
    }

    fn start(
        session: &Session,
        path: String,
        token: FencingToken,
        only: Option<i64>,
        fence: Option<(String, i32)>,
        moment: Moment,
    ) -> Hold {
        let (revoked_sender, revoked) = watch::channel(None);
        let (asked_sender, is_asked_for) = watch::channel(false);
        let guarded = (session.clone(), path.clone());
        let guard = session.spawn(async move {
            let (session, path) = guarded;
            let reason = tokio::select! {
                biased;
                state = session.disturbed_since(moment) => match state {
                    ConnectionState::Suspended => Revoked::Suspended,
                    _ => Revoked::Lost,
                },
                () = watch_znode(&session, &path, only, asked_sender) => Revoked::Deleted,
            };
            revoked_sender.send_replace(Some(reason));
        });
        Hold {
            session: session.clone(),
            path,
            token,
            only,
            fence,
            moment,
            revoked,
            is_asked_for,
            guard: guard.abort_handle(),
            is_released: false,
        }
    }

    /// The path of the znode that stands for it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The session that holds it.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Grows from holder to holder.
    pub fn fencing_token(&self) -> FencingToken {
        self.token
    }

    /// Whether it is held as far as this process knows at this moment.
    pub fn is_held(&self) -> bool {
        self.check().is_ok()
    }

    /// As [`Hold::is_held`], with the reason.
    ///
    /// # Errors
    /// When it was revoked.
    pub fn check(&self) -> Result<(), Revoked> {
        if let Some(reason) = *self.revoked.borrow() {
            return Err(reason);
        }
        // The task that tells may not have run yet, for instance after this process was stopped.
        match self.session.disturbance_since(self.moment) {
            None => Ok(()),
            Some(ConnectionState::Suspended) => Err(Revoked::Suspended),
            Some(_) => Err(Revoked::Lost),
        }
    }

    /// Waits until it is revoked.
    pub async fn revoked(&self) -> Revoked {
        let mut revoked = self.revoked.clone();
        let reason = revoked
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| *reason);
        // The task ends without a word only with its runtime.
        reason.unwrap_or(Revoked::Lost)
    }

    /// Waits until somebody asks the holder to let go ([`attempt_revoke`](crate::attempt_revoke), or Curator's
    /// `Revoker`). Whether it does is up to the holder.
    pub async fn asked_to_let_go(&self) {
        let mut is_asked_for = self.is_asked_for.clone();
        if is_asked_for.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Runs a future for as long as it is held: on revocation the future is dropped where it stands. It is not
    /// polled again when the clock says that the session may be over, not even by a process that was stopped.
    ///
    /// # Errors
    /// When it is revoked before the future is ready.
    pub async fn run<F: Future>(&self, future: F) -> Result<F::Output, Revoked> {
        run_while(|| self.check(), self.revoked(), future).await
    }

    /// Writes in one transaction that the servers refuse when this is held no longer.
    ///
    /// `fill` adds the operations; the results are theirs.
    ///
    /// ```no_run
    /// # async fn example(guard: oxkeeper_recipes::Hold) -> oxkeeper_recipes::Result<()> {
    /// guard.write(|transaction| transaction.add_set_data("/balance", b"100", None)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Revoked`] when it is held no longer: nothing was written. [`ClientError::ConnectionLoss`] when the
    /// reply was lost: all was written or nothing. Otherwise the error of the operation that failed.
    pub async fn write<F>(&self, fill: F) -> Result<Vec<MultiWriteResult>>
    where
        F: FnOnce(&mut CheckWriter<'_>) -> Result<(), ClientError>,
    {
        write_while(&[self], fill).await
    }

    /// The moment since which nothing may have disturbed the session.
    pub(crate) fn moment(&self) -> Moment {
        self.moment
    }

    /// Lets go, and waits until the znode is gone. When this future is dropped, the deletion goes on.
    ///
    /// # Errors
    /// When the session ends first (the znode goes with it), or the server refuses the deletion.
    pub async fn release(mut self) -> Result<()> {
        match self.start_release().await {
            Ok(released) => released,
            // The runtime ends.
            Err(_) => Err(ClientError::ClientClosed.into()),
        }
    }

    fn start_release(&mut self) -> tokio::task::JoinHandle<Result<()>> {
        self.is_released = true;
        self.guard.abort();
        let path = std::mem::take(&mut self.path);
        let Some(czxid) = self.only else {
            return znode::delete(&self.session, path);
        };
        let (client, fence) = (self.session.client().clone(), self.fence.take());
        self.session.spawn(async move {
            let deleted = match fence {
                Some(fence) => delete_fenced(&client, &path, czxid, fence).await,
                None => delete_only(&client, &path, czxid).await,
            };
            deleted.inspect_err(|error| znode::warn_undeleted(&path, error))?;
            Ok(())
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_released {
            // Detached: it goes on.
            drop(self.start_release());
        }
    }
}

/// Lets go of what guards share, and waits for it, when this was the last of them.
pub(crate) async fn release_last(hold: Arc<Hold>) -> Result<()> {
    match Arc::into_inner(hold) {
        Some(hold) => hold.release().await,
        None => Ok(()),
    }
}

/// Waits until one of these is revoked; for ever, when there are none.
pub(crate) async fn any_revoked(holds: impl Iterator<Item = &Hold>) -> Revoked {
    let mut all: Vec<_> = holds.map(|hold| Box::pin(hold.revoked())).collect();
    poll_fn(|context| {
        let ready = all
            .iter_mut()
            .find_map(|revoked| match revoked.as_mut().poll(context) {
                Poll::Ready(reason) => Some(reason),
                Poll::Pending => None,
            });
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Polls a future for as long as what it needs is held.
///
/// `check` knows by the clock too: the task that tells of a revocation may not have run yet when this one does.
pub(crate) async fn run_while<F: Future>(
    check: impl Fn() -> Result<(), Revoked>,
    revoked: impl Future<Output = Revoked>,
    future: F,
) -> Result<F::Output, Revoked> {
    let (mut revoked, mut future) = (pin!(revoked), pin!(future));
    poll_fn(|context| {
        if let Err(reason) = check() {
            return Poll::Ready(Err(reason));
        }
        match revoked.as_mut().poll(context) {
            Poll::Ready(reason) => Poll::Ready(Err(reason)),
            Poll::Pending => future.as_mut().poll(context).map(Ok),
        }
    })
    .await
}

/// Writes in one transaction that the servers refuse unless all of these are held.
///
/// # Errors
/// As [`Hold::write`].
pub(crate) async fn write_while<F>(holds: &[&Hold], fill: F) -> Result<Vec<MultiWriteResult>>
where
    F: FnOnce(&mut CheckWriter<'_>) -> Result<(), ClientError>,
{
    for hold in holds {
        hold.check()?;
    }
    write_checked_by_servers(holds, fill).await
}

/// As [`write_while`], whatever this process knows: the word of the servers alone counts.
pub(crate) async fn write_checked_by_servers<F>(holds: &[&Hold], fill: F) -> Result<Vec<MultiWriteResult>>
where
    F: FnOnce(&mut CheckWriter<'_>) -> Result<(), ClientError>,
{
    let Some((first, others)) = holds.split_first() else {
        return Err(Error::BadArgument("nothing is held"));
    };
    let mut writer = first.session.client().new_check_writer(&first.path, None)?;
    let presence = others.iter().map(|hold| (&hold.path, -1));
    let fences = holds.iter().filter_map(|hold| hold.fence.as_ref());
    let mut more_checks = 0;
    for (path, version) in presence.chain(fences.map(|(path, version)| (path, *version))) {
        writer.add_check_version(path, version)?;
        more_checks += 1;
    }
    fill(&mut writer)?;
    match writer.commit().await {
        Ok(mut results) if results.len() >= more_checks => Ok(results.split_off(more_checks)),
        Ok(results) => {
            Err(ClientError::UnexpectedError(format!("an answer to a transaction: {results:?}")).into())
        }
        Err(CheckWriteError::RequestFailed { source }) if ends_session(&source) => Err(Revoked::Lost.into()),
        Err(CheckWriteError::CheckFailed {
            source: ClientError::NoNode,
        }) => Err(Revoked::Deleted.into()),
        Err(CheckWriteError::OperationFailed {
            index,
            source: ClientError::BadVersion | ClientError::NoNode,
        }) if index < more_checks => Err(Revoked::Deleted.into()),
        Err(
            CheckWriteError::RequestFailed { source }
            | CheckWriteError::CheckFailed { source }
            | CheckWriteError::OperationFailed { source, .. },
        ) => Err(source.into()),
    }
}

/// Deletes the znode whose transaction had this zxid, unless it is gone or another one by now.
///
/// `fence` is a znode that everybody writes who makes another one at the same path, and its version since.
async fn delete_fenced(
    client: &zookeeper_client::Client,
    path: &str,
    czxid: i64,
    (fence, mut version): (String, i32),
) -> Result<(), ClientError> {
    loop {
        let deleted = retry(|| async {
            let mut writer = client.new_check_writer(&fence, Some(version))?;
            writer.add_delete(path, None)?;
            match writer.commit().await {
                Err(CheckWriteError::RequestFailed { source }) => Err(source),
                done => Ok(done),
            }
        });
        match deleted.await? {
            Ok(_) => return Ok(()),
            Err(CheckWriteError::CheckFailed {
                source: ClientError::BadVersion,
            }) => {}
            Err(
                CheckWriteError::RequestFailed { source }
                | CheckWriteError::CheckFailed { source }
                | CheckWriteError::OperationFailed { source, .. },
            ) => match source {
                ClientError::NoNode => return Ok(()),
                error => return Err(error),
            },
        }
        // Somebody wrote the fence: the next holder, or somebody who has nothing to do with this lock. In this
        // order, so that whoever gets the lock after the second look makes another version than the first one saw.
        let Some(fence) = retry(|| client.check_stat(&fence)).await? else {
            return Ok(());
        };
        match retry(|| client.check_stat(path)).await? {
            Some(found) if found.czxid == czxid => version = fence.version,
            _ => return Ok(()),
        }
    }
}

/// As [`delete_fenced`], where there is no fence: a stranger who replaces the znode between the look and the deletion
/// is not seen. Who holds it by the rules does not: it goes only by its holder, or with the session.
async fn delete_only(client: &zookeeper_client::Client, path: &str, czxid: i64) -> Result<(), ClientError> {
    let mut losses = Losses::default();
    loop {
        match retry(|| client.check_stat(path)).await? {
            Some(stat) if stat.czxid == czxid => {}
            _ => return Ok(()),
        }
        match client.delete(path, None).await {
            Ok(()) | Err(ClientError::NoNode) => return Ok(()),
            Err(error) if is_connection_loss(&error) && losses.may_try_again().await => {
                // As in `create_protected`: after this the request of the old connection is done or never will be.
                retry(|| client.sync(path)).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Looks at the holder's own znode until it is gone; `only` is its czxid where others come to be at the same path.
async fn watch_znode(session: &Session, path: &str, only: Option<i64>, is_asked_for: watch::Sender<bool>) {
    let client = session.client();
    loop {
        match retry(|| client.get_and_watch_data(path)).await {
            Ok((_, stat, _)) if only.is_some_and(|czxid| stat.czxid != czxid) => return,
            Ok((data, _, watcher)) => {
                if data == REVOKE {
                    is_asked_for.send_replace(true);
                }
                watcher.changed().await;
            }
            Err(ClientError::NoNode) => return,
            // The end of the session is told by the session.
            Err(error) => {
                if !ends_session(&error) {
                    tracing::warn!(path, %error, "the znode of a holder cannot be watched");
                }
                std::future::pending::<()>().await;
            }
        }
    }
}
