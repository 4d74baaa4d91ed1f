//! Asking a holder to let go.

use zookeeper_client::Error as ClientError;

use crate::Session;
use crate::error::Result;
use crate::hold::REVOKE;
use crate::znode::retry;

/// Asks whoever holds, or waits with, the znode at `path` to let go, as Curator's `Revoker` does.
///
/// **Guarantee.** None but that the holder can see it: [`Hold::asked_to_let_go`](crate::Hold::asked_to_let_go)
/// resolves, and Curator's revocable locks call their listener. Letting go is up to the holder. The paths are what
/// [`participants`](crate::InterProcessMutex::participants) gives; the first is the holder's.
///
/// **Failure.** A znode that is gone is no error. The data of the znode is overwritten.
///
/// ```no_run
/// # async fn example(session: oxkeeper_recipes::Session) -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{InterProcessMutex, attempt_revoke};
///
/// let mut mutex = InterProcessMutex::new(&session, "/locks/cache")?;
/// if let Some(holder) = mutex.participants().await?.first() {
///     attempt_revoke(&session, holder).await?;
/// }
/// let guard = mutex.acquire().await?;
/// tokio::select! {
///     () = async { /* the work */ } => {}
///     () = guard.asked_to_let_go() => { /* somebody needs it more */ }
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When the session ends or the server refuses.
pub async fn attempt_revoke(session: &Session, path: &str) -> Result<()> {
    match retry(|| session.client().set_data(path, REVOKE, None)).await {
        Ok(_) | Err(ClientError::NoNode) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
