//! Writing persistent znodes: over what is there, where nothing is, and exactly once though replies get lost.

use uuid::Uuid;
use zookeeper_client::{CreateMode, Error as ClientError, MultiWriteError, MultiWriter, Stat};

use crate::Session;
use crate::error::{Result, is_connection_loss};
use crate::znode::{self, Losses, create_directory, join, retry, split};

/// Creates a persistent znode, and its parents, unless it is there. `None` when it was.
pub(crate) async fn create(session: &Session, path: &str, data: &[u8]) -> Result<Option<Stat>> {
    let options = CreateMode::Persistent.with_acls(session.acls());
    loop {
        match retry(|| session.client().create(path, data, &options)).await {
            Ok((stat, _)) => return Ok(Some(stat)),
            Err(ClientError::NodeExists) => return Ok(None),
            Err(ClientError::NoNode) => create_directory(session, split(path).0).await?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes a persistent znode whatever it was before; creates it, and its parents, where it is missing.
pub(crate) async fn put(session: &Session, path: &str, data: &[u8]) -> Result<Stat> {
    loop {
        match retry(|| session.client().set_data(path, data, None)).await {
            Err(ClientError::NoNode) => {}
            written => return Ok(written?),
        }
        if let Some(stat) = create(session, path, data).await? {
            return Ok(stat);
        }
    }
}

/// As [`put`], but once: what others write after it stays, though its reply gets lost.
pub(crate) async fn put_once(session: &Session, path: &str, data: &[u8]) -> Result<()> {
    let options = CreateMode::Persistent.with_acls(session.acls());
    let (parent, _) = split(path);
    loop {
        let written = commit_once(session, path, |writer| writer.add_set_data(path, data, None));
        match written.await {
            Err(ClientError::NoNode) => {}
            written => return Ok(written?),
        }
        let created = commit_once(session, parent, |writer| writer.add_create(path, data, &options));
        match created.await {
            Err(ClientError::NodeExists) => {}
            Err(ClientError::NoNode) => create_directory(session, parent).await?,
            created => return Ok(created?),
        }
    }
}

/// Commits a transaction once, though its reply gets lost, as long as the session lives: along with it goes an
/// ephemeral in `dir`, which tells afterwards whether it was done. That is deleted in the background.
///
/// # Errors
/// What the operations were refused for, as [`ClientError`]. After the end of the session it may be done or not.
pub(crate) async fn commit_once<F>(session: &Session, dir: &str, fill: F) -> Result<(), ClientError>
where
    F: Fn(&mut MultiWriter<'_>) -> Result<(), ClientError>,
{
    let client = session.client();
    let marker = Marker {
        session,
        path: join(dir, &format!("_once_{}", Uuid::new_v4())),
    };
    let mut losses = Losses::default();
    loop {
        let mut writer = client.new_multi_writer();
        writer.add_create(
            &marker.path,
            b"",
            &CreateMode::Ephemeral.with_acls(session.acls()),
        )?;
        fill(&mut writer)?;
        match writer.commit().await {
            Ok(_) => return Ok(()),
            Err(MultiWriteError::RequestFailed { source })
                if is_connection_loss(&source) && losses.may_try_again().await =>
            {
                // As in `create_protected`: after this the request of the old connection is done or never will be.
                retry(|| client.sync(dir)).await?;
                if retry(|| client.check_stat(&marker.path)).await?.is_some() {
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

struct Marker<'a> {
    session: &'a Session,
    path: String,
}

impl Drop for Marker<'_> {
    fn drop(&mut self) {
        // Detached: it goes on.
        drop(znode::delete(self.session, std::mem::take(&mut self.path)));
    }
}
