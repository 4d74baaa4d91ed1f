//! What recipes do with single znodes under lost connections and lost replies.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use uuid::Uuid;
use zookeeper_client::{Client, CreateMode, Error as ClientError, Stat};

use crate::Session;
use crate::error::{Error, Result, ends_session, is_connection_loss};

/// How often in a row the connection may end with one request under way, over about a second. Networks do not do
/// that for so long; a server does it each time to a request that is longer than it takes (`jute.maxbuffer`).
const LOST_IN_A_ROW_MAX: u32 = 20;
/// How much longer is waited before each further attempt.
const PAUSE_MORE: Duration = Duration::from_millis(5);

/// Counts the connections that ended with a request under way.
#[derive(Default)]
pub(crate) struct Losses(u32);

impl Losses {
    /// One more. False when it is to be told to whoever asked; otherwise waits before the next attempt.
    pub(crate) async fn may_try_again(&mut self) -> bool {
        if self.0 == LOST_IN_A_ROW_MAX {
            return false;
        }
        tokio::time::sleep(PAUSE_MORE * self.0).await;
        self.0 += 1;
        true
    }
}

/// Does a thing again until the connection holds. Only for what may be done twice.
///
/// While there is no connection the client keeps a request until there is one.
///
/// # Errors
/// The loss of the connection, when that is what each attempt comes to.
pub(crate) async fn retry<T, F>(mut operation: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut losses = Losses::default();
    loop {
        match operation().await {
            Err(error) if is_connection_loss(&error) && losses.may_try_again().await => {}
            result => return result,
        }
    }
}

/// Checks a path that a recipe was given.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let is_path = path.starts_with('/') && path.len() > 1 && !path.ends_with('/') && !path.contains("//");
    is_path
        .then_some(())
        .ok_or_else(|| Error::BadPath(path.to_owned()))
}

/// The parent of a path, and the name in it.
pub(crate) fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => ("/", path),
    }
}

/// The path of a child.
pub(crate) fn join(parent: &str, name: &str) -> String {
    format!("{}/{name}", parent.trim_end_matches('/'))
}

/// Creates a directory and those above it where they are missing, as containers, so that servers remove them
/// when they are empty for a while; as persistent znodes where the server does not know containers.
///
/// Who creates a child afterwards must be ready to find the directory gone again.
pub async fn create_directory(session: &Session, path: &str) -> Result<()> {
    let client = session.client();
    let mut mode = CreateMode::Container;
    let mut to = path.len();
    while to > 0 {
        let part = &path[..to];
        match retry(|| client.create(part, b"", &mode.with_acls(session.acls()))).await {
            Ok(_) | Err(ClientError::NodeExists) if to == path.len() => return Ok(()),
            Ok(_) | Err(ClientError::NodeExists) => {
                to = path[to + 1..]
                    .find('/')
                    .map_or(path.len(), |slash| to + 1 + slash);
            }
            Err(ClientError::NoNode) => match part.rfind('/') {
                Some(slash) if slash > 0 => to = slash,
                // The client's chroot is missing.
                _ => return Err(ClientError::NoNode.into()),
            },
            Err(ClientError::Unimplemented) if mode == CreateMode::Container => mode = CreateMode::Persistent,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Deletes a znode in the background, through lost connections, until it is gone or the session is.
///
/// Awaiting the handle waits for that; dropping it does not stop it. Nothing is promised when the runtime or the
/// process ends first; an ephemeral then goes with its session.
pub(crate) fn delete(session: &Session, path: String) -> JoinHandle<Result<()>> {
    let client = session.client().clone();
    session.spawn(async move { delete_now(&client, &path).await })
}

async fn delete_now(client: &Client, path: &str) -> Result<()> {
    match retry(|| client.delete(path, None)).await {
        Ok(()) | Err(ClientError::NoNode) => Ok(()),
        Err(error) => {
            warn_undeleted(path, &error);
            Err(error.into())
        }
    }
}

/// For those who have nobody to tell. With the end of the session it is gone.
pub(crate) fn warn_undeleted(path: &str, error: &ClientError) {
    if !ends_session(error) {
        tracing::warn!(path, %error, "a znode of a recipe could not be deleted");
    }
}

/// A znode that was created under a name of its own.
#[derive(Clone, Debug)]
pub struct Protected {
    /// Its path.
    pub path: String,
    /// Its Stat just after the creation; `czxid` is the number of the transaction that made it.
    pub stat: Stat,
}

/// Creates `{dir}/_c_{uuid}-{prefix}{sequence}`, and the directory where it is missing.
///
/// As in Curator, the UUID lets the creator find a znode whose reply was lost, so that one call makes one znode.
/// When the future is dropped, what it made or was about to make is deleted in the background.
///
/// # Errors
/// When the session ends, or the server refuses; also by closing the connection each time, as it does when there is
/// more data than it takes.
pub async fn create_protected(
    session: &Session,
    dir: &str,
    prefix: &str,
    data: &[u8],
    mode: CreateMode,
) -> Result<Protected> {
    let name = format!("_c_{}-{prefix}", Uuid::new_v4());
    let path = join(dir, &name);
    let client = session.client();
    let mut made = Made {
        session,
        dir,
        name: &name,
        is_wanted: false,
    };
    let sequential = matches!(
        mode,
        CreateMode::EphemeralSequential | CreateMode::PersistentSequential
    );
    let mut losses = Losses::default();
    let created = loop {
        match client.create(&path, data, &mode.with_acls(session.acls())).await {
            Ok((stat, sequence)) => {
                let path = match sequential {
                    true => format!("{path}{sequence}"),
                    false => path,
                };
                break Ok(Protected { path, stat });
            }
            Err(ClientError::NoNode) => match create_directory(session, dir).await {
                Ok(()) => {}
                Err(error) => break Err(error),
            },
            Err(error) if is_connection_loss(&error) => match find_protected(client, dir, &name).await {
                Ok(Some(found)) => break Ok(found),
                Ok(None) if losses.may_try_again().await => {}
                Ok(None) => break Err(error.into()),
                Err(error) => break Err(error.into()),
            },
            Err(error) => break Err(error.into()),
        }
    };
    // An error leaves open whether there is something to delete, unless the session is over.
    made.is_wanted = match &created {
        Ok(_) => true,
        Err(error) => error.is_session_over(),
    };
    created
}

/// The znode whose name begins with a protected one, as of all that this session did before.
///
/// The request whose reply was lost may still be on its way from the server of the old connection to the leader.
/// `sync` waits for it: the leader refuses what comes from there after the session has moved.
async fn find_protected(client: &Client, dir: &str, name: &str) -> Result<Option<Protected>, ClientError> {
    loop {
        let children = match retry(|| async {
            client.sync(dir).await?;
            client.list_children(dir).await
        })
        .await
        {
            Err(ClientError::NoNode) => return Ok(None),
            children => children?,
        };
        let Some(found) = children.iter().find(|child| child.starts_with(name)) else {
            return Ok(None);
        };
        let path = join(dir, found);
        match retry(|| client.check_stat(&path)).await? {
            Some(stat) => return Ok(Some(Protected { path, stat })),
            // Somebody deleted it in between: look again.
            None => continue,
        }
    }
}

/// Deletes what a dropped or failed [`create_protected`] made.
struct Made<'a> {
    session: &'a Session,
    dir: &'a str,
    name: &'a str,
    is_wanted: bool,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.is_wanted {
            return;
        }
        let client = self.session.client().clone();
        let (dir, name) = (self.dir.to_owned(), self.name.to_owned());
        self.session.spawn(async move {
            match find_protected(&client, &dir, &name).await {
                Ok(Some(found)) => {
                    // Its errors are logged there.
                    let _ = delete_now(&client, &found.path).await;
                }
                Ok(None) => {}
                Err(error) if ends_session(&error) => {}
                Err(error) => {
                    tracing::warn!(name, %error, "a znode that is not wanted could not be looked for")
                }
            }
        });
    }
}

/// Creates an ephemeral at exactly this path, and its parents where they are missing.
///
/// `data` must differ from what other calls write, for instance by a UUID in it: it is how a znode whose reply was
/// lost is told from others. When the future is dropped, what it made or was about to make is deleted in the
/// background.
///
/// # Errors
/// [`ClientError::NodeExists`] when somebody else has it, be it an earlier session of this very process. Otherwise
/// as [`create_protected`].
pub async fn create_ephemeral(session: &Session, path: &str, data: &[u8]) -> Result<Stat> {
    let client = session.client();
    let options = CreateMode::Ephemeral.with_acls(session.acls());
    let mut made = MadeAt::new(session, path, data);
    let mut is_reply_lost = false;
    let mut losses = Losses::default();
    loop {
        match client.create(path, data, &options).await {
            Ok((stat, _)) => {
                made.settle();
                return Ok(stat);
            }
            Err(ClientError::NoNode) => create_directory(session, split(path).0).await?,
            Err(error) if is_connection_loss(&error) => {
                if !losses.may_try_again().await {
                    return Err(error.into());
                }
                is_reply_lost = true;
                retry(|| client.sync(path)).await?;
            }
            Err(ClientError::NodeExists) if is_reply_lost => {
                match retry(|| client.get_data(path)).await {
                    Ok((found, stat)) if is_own(session, data, &found, &stat) => {
                        made.settle();
                        return Ok(stat);
                    }
                    // It went away in the meantime.
                    Err(ClientError::NoNode) => {}
                    Ok(_) => return Err(ClientError::NodeExists.into()),
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => {
                if !is_reply_lost {
                    made.settle();
                }
                return Err(error.into());
            }
        }
    }
}

/// Whether it is what this session made with this data.
pub(crate) fn is_own(session: &Session, data: &[u8], found: &[u8], stat: &Stat) -> bool {
    stat.ephemeral_owner == session.id().0 && found == data
}

/// Deletes in the background what was made at a path by a call that was dropped or failed, known by its data;
/// unless it is settled what became of it.
pub(crate) struct MadeAt<'a> {
    session: &'a Session,
    path: &'a str,
    data: &'a [u8],
    is_settled: bool,
}

impl<'a> MadeAt<'a> {
    pub(crate) fn new(session: &'a Session, path: &'a str, data: &'a [u8]) -> MadeAt<'a> {
        MadeAt {
            session,
            path,
            data,
            is_settled: false,
        }
    }

    /// Nothing is to be deleted.
    pub(crate) fn settle(&mut self) {
        self.is_settled = true;
    }
}

impl Drop for MadeAt<'_> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let session = self.session.clone();
        let (path, data) = (self.path.to_owned(), self.data.to_owned());
        self.session.spawn(async move {
            let client = session.client();
            let found = retry(|| async {
                client.sync(&path).await?;
                client.get_data(&path).await
            });
            match found.await {
                Ok((found, stat)) if is_own(&session, &data, &found, &stat) => {
                    // Its errors are logged there.
                    let _ = delete_now(client, &path).await;
                }
                Ok(_) | Err(ClientError::NoNode) => {}
                Err(error) if ends_session(&error) => {}
                Err(error) => {
                    tracing::warn!(path, %error, "a znode that is not wanted could not be looked at")
                }
            }
        });
    }
}
