//! An ephemeral that is there again after every session, and the membership in a group.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use zookeeper_client::{Error as ClientError, SessionId, Stat};

use crate::cache::{Cache, Scope};
use crate::error::Result;
use crate::znode::{check_path, create_ephemeral, join, retry};
use crate::{Error, Session, SessionKeeper};

/// After how long it tries again when the server refused something.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// How many of its own earlier sessions it knows.
const OWN_SESSIONS_MAX: usize = 16;

/// What is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Data(Vec<u8>),
    Nothing,
    /// Nothing, for good.
    End,
}

/// What was asked for last.
#[derive(Clone, Debug)]
struct Order {
    wanted: Wanted,
    /// How often something else was asked for.
    number: u64,
}

/// What became of it.
#[derive(Clone, Debug)]
struct Told {
    placement: Placement,
    /// The number of the order that this is the answer to.
    number: u64,
}

/// What becomes of a [`PersistentNode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// It is not there: not yet, not at the moment, or withdrawn.
    Absent,
    /// It is there, with the data that was asked for.
    Placed(Stat),
    /// It is not there, since another session has a znode at this path. It waits for that to go.
    Occupied(Stat),
    /// The server refused it; it tries again.
    Refused(Error),
    /// It was closed, and its znode deleted.
    Closed,
}

/// Keeps an ephemeral at a path: created again with each new session, and when somebody deletes it; with its data
/// again when somebody changes it.
///
/// **Guarantee.** While a session lives and is connected, the znode is there but for the time that it takes to
/// notice that it is not. It belongs to the newest session: one left by an earlier session of this value is
/// deleted and made anew. One of anybody else is waited for, so of several contenders one has the path at a time;
/// unless it was made by [`PersistentNode::taking_over`].
///
/// **Failure.** A lost connection changes nothing. With a lost session the znode goes, and comes with the next one.
/// Refusals are told by [`PersistentNode::placement`] and tried again each second.
///
/// **Drop** starts the deletion of the znode in the background. It cannot promise it when the runtime or the
/// process ends first; then it goes with its session. [`PersistentNode::close`] waits.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{PersistentNode, SessionKeeper};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let node = PersistentNode::new(&keeper, "/hosts/web-1", "up")?;
/// node.placed().await?;
/// node.set_data("draining");
/// node.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PersistentNode {
    path: String,
    order: Arc<watch::Sender<Order>>,
    told: watch::Receiver<Told>,
    task: Option<JoinHandle<Result<()>>>,
}

impl PersistentNode {
    /// Begins to keep a znode; [`PersistentNode::placed`] waits until it is there.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn new(keeper: &SessionKeeper, path: &str, data: impl Into<Vec<u8>>) -> Result<PersistentNode> {
        PersistentNode::start(keeper, path, Wanted::Data(data.into()), false)
    }

    /// As [`PersistentNode::new`], but what is at the path when a session begins is deleted. For paths that belong to
    /// one value alone, such as those with a UUID.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn taking_over(
        keeper: &SessionKeeper,
        path: &str,
        data: impl Into<Vec<u8>>,
    ) -> Result<PersistentNode> {
        PersistentNode::start(keeper, path, Wanted::Data(data.into()), true)
    }

    fn start(keeper: &SessionKeeper, path: &str, wanted: Wanted, takes_over: bool) -> Result<PersistentNode> {
        check_path(path)?;
        let (order, ordered) = watch::channel(Order { wanted, number: 0 });
        let (teller, told) = watch::channel(Told {
            placement: Placement::Absent,
            number: 0,
        });
        let placer = Placer {
            keeper: keeper.clone(),
            path: path.to_owned(),
            takes_over,
            own: VecDeque::new(),
            number: 0,
            ordered,
            teller,
        };
        Ok(PersistentNode {
            path: path.to_owned(),
            order: Arc::new(order),
            told,
            task: Some(keeper.session().spawn(placer.run())),
        })
    }

    /// The path of the znode.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What became of it, as far as this process knows.
    pub fn placement(&self) -> Placement {
        self.told.borrow().placement.clone()
    }

    /// Waits until the znode is there with the data that it was given last, and gives its Stat.
    ///
    /// # Errors
    /// When the server refuses it. (It is tried again all the same.)
    pub async fn placed(&self) -> Result<Stat> {
        let number = self.order.borrow().number;
        let is_settled = |told: &Told| {
            told.number >= number && !matches!(told.placement, Placement::Absent | Placement::Occupied(_))
        };
        match self.told.clone().wait_for(is_settled).await.as_deref() {
            Ok(Told {
                placement: Placement::Placed(stat),
                ..
            }) => Ok(*stat),
            Ok(Told {
                placement: Placement::Refused(error),
                ..
            }) => Err(error.clone()),
            _ => Err(ClientError::ClientClosed.into()),
        }
    }

    /// Waits until the placement is another one than `than`, and gives it.
    pub async fn placement_other_than(&self, than: &Placement) -> Placement {
        match self.told.clone().wait_for(|told| told.placement != *than).await {
            Ok(told) => told.placement.clone(),
            Err(_) => Placement::Closed,
        }
    }

    /// Gives the znode other data, and puts it back when it was withdrawn. Only the last of quick calls may be seen.
    pub fn set_data(&self, data: impl Into<Vec<u8>>) {
        want(&self.order, Wanted::Data(data.into()));
    }

    /// Takes the znode away until [`PersistentNode::set_data`].
    pub fn withdraw(&self) {
        want(&self.order, Wanted::Nothing);
    }

    /// For tasks.
    pub(crate) fn setter(&self) -> Setter {
        Setter(Arc::clone(&self.order))
    }

    /// Deletes the znode, and waits until it is gone or its session is. When this future is dropped, that goes on.
    ///
    /// # Errors
    /// When the server refuses the deletion.
    pub async fn close(mut self) -> Result<()> {
        want(&self.order, Wanted::End);
        match self.task.take() {
            // It fails to be joined when the runtime ends.
            Some(task) => task
                .await
                .unwrap_or_else(|_| Err(ClientError::ClientClosed.into())),
            None => Ok(()),
        }
    }
}

impl Drop for PersistentNode {
    fn drop(&mut self) {
        want(&self.order, Wanted::End);
    }
}

/// Sets the data of a [`PersistentNode`]. After its end it does nothing.
#[derive(Debug)]
pub(crate) struct Setter(Arc<watch::Sender<Order>>);

impl Setter {
    /// `None` withdraws it.
    pub(crate) fn set(&self, data: Option<Vec<u8>>) {
        want(&self.0, data.map_or(Wanted::Nothing, Wanted::Data));
    }
}

fn want(order: &watch::Sender<Order>, new: Wanted) {
    order.send_if_modified(|order| {
        let is_news = order.wanted != new && order.wanted != Wanted::End;
        if is_news {
            order.wanted = new;
            order.number += 1;
        }
        is_news
    });
}

/// The task that keeps the znode.
struct Placer {
    keeper: SessionKeeper,
    path: String,
    takes_over: bool,
    /// Our earlier sessions, newest last.
    own: VecDeque<SessionId>,
    ordered: watch::Receiver<Order>,
    /// The number of the order that is followed.
    number: u64,
    teller: watch::Sender<Told>,
}

impl Placer {
    fn tell(&self, placement: Placement) {
        let number = self.number;
        self.teller.send_replace(Told { placement, number });
    }

    async fn run(mut self) -> Result<()> {
        let ended = loop {
            let session = tokio::select! {
                biased;
                session = self.keeper.live_session() => session,
                // Without a session there is no znode.
                Ok(_) = self.ordered.wait_for(|order| order.wanted == Wanted::End) => break Ok(()),
            };
            let kept = self.keep(&session).await;
            let is_end = self.ordered.borrow().wanted == Wanted::End;
            match kept {
                Ok(()) => break Ok(()),
                Err(error) if error.is_session_over() => {
                    self.tell(Placement::Absent);
                    self.own.push_back(session.id());
                    if self.own.len() > OWN_SESSIONS_MAX {
                        self.own.pop_front();
                    }
                    if is_end {
                        break Ok(());
                    }
                    session.over().await;
                }
                // What was refused may be something else than the deletion.
                Err(_) if is_end => match remove_own(&session, &self.path).await {
                    Err(error) if error.is_session_over() => break Ok(()),
                    removed => break removed,
                },
                Err(error) => {
                    tracing::warn!(path = self.path, %error, "a znode was refused");
                    self.tell(Placement::Refused(error));
                    tokio::select! {
                        () = tokio::time::sleep(REFUSED_PAUSE) => {}
                        _ = self.ordered.changed() => {}
                    }
                }
            }
        };
        self.tell(Placement::Closed);
        ended
    }

    /// Keeps it in one session; gives `Ok` when it is to end.
    async fn keep(&mut self, session: &Session) -> Result<()> {
        let client = session.client();
        let path = &self.path;
        // Once in a session, so that two who take over from each other do not go on for ever.
        let mut takes_over = self.takes_over;
        loop {
            let Order { wanted, number } = self.ordered.borrow_and_update().clone();
            self.number = number;
            let Wanted::Data(data) = &wanted else {
                remove_own(session, path).await?;
                if wanted == Wanted::End {
                    return Ok(());
                }
                self.tell(Placement::Absent);
                // Its sender tells the end before it goes.
                let _ = self.ordered.changed().await;
                continue;
            };
            let (found, stat, watcher) = match retry(|| client.get_and_watch_data(path)).await {
                Ok(found) => found,
                Err(ClientError::NoNode) => match create_ephemeral(session, path, data).await {
                    Ok(_) | Err(Error::Client(ClientError::NodeExists)) => continue,
                    Err(error) => return Err(error),
                },
                Err(error) => return Err(error.into()),
            };
            let owner = SessionId(stat.ephemeral_owner);
            if owner == session.id() && found == *data {
                takes_over = false;
                self.tell(Placement::Placed(stat));
            } else if owner == session.id() {
                match retry(|| client.set_data(path, data, None)).await {
                    Ok(_) | Err(ClientError::NoNode) => continue,
                    Err(error) => return Err(error.into()),
                }
            } else if takes_over || self.own.contains(&owner) {
                match retry(|| client.delete(path, Some(stat.version))).await {
                    Ok(()) | Err(ClientError::NoNode | ClientError::BadVersion) => continue,
                    Err(error) => return Err(error.into()),
                }
            } else {
                self.tell(Placement::Occupied(stat));
            }
            tokio::select! {
                _ = watcher.changed() => {}
                _ = self.ordered.changed() => {}
            }
        }
    }
}

/// Deletes the znode at this path when it is this session's.
async fn remove_own(session: &Session, path: &str) -> Result<()> {
    let client = session.client();
    loop {
        match retry(|| client.check_stat(path)).await? {
            Some(stat) if stat.ephemeral_owner == session.id().0 => {
                match retry(|| client.delete(path, Some(stat.version))).await {
                    Ok(()) | Err(ClientError::NoNode) => return Ok(()),
                    Err(ClientError::BadVersion) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            _ => return Ok(()),
        }
    }
}

/// A member of a group, and what it knows of the others.
///
/// **Guarantee.** A member is in the group while its session lives, and again with its next one: it is a
/// [`PersistentNode`]. The others are known as by a [`Cache`]: a member that ends without a word is in the group
/// until its session has expired.
///
/// **Failure.** As the two. A second member with the same id waits until the first is gone.
///
/// **Drop** leaves the group in the background; [`GroupMember::leave`] waits.
///
/// **Layout**: an ephemeral `{path}/{id}` with the member's data, as Curator's `GroupMember`.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{GroupMember, SessionKeeper};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let member = GroupMember::join(&keeper, "/workers", "worker-7", "10.0.0.7:9000")?;
/// member.joined().await?;
/// for (id, data) in member.members() {
///     println!("{id}: {}", String::from_utf8_lossy(&data));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GroupMember {
    dir: String,
    node: PersistentNode,
    cache: Cache,
}

impl GroupMember {
    /// Begins to join; [`GroupMember::joined`] waits for it.
    ///
    /// # Errors
    /// When path or id are none.
    pub fn join(
        keeper: &SessionKeeper,
        path: &str,
        id: &str,
        data: impl Into<Vec<u8>>,
    ) -> Result<GroupMember> {
        check_name(id)?;
        Ok(GroupMember {
            dir: path.to_owned(),
            node: PersistentNode::new(keeper, &join(path, id), data)?,
            cache: Cache::new(keeper, path, Scope::Children)?,
        })
    }

    /// Waits until this member is in the group and knows it.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn joined(&self) -> Result<()> {
        self.node.placed().await?;
        let mut updates = self.cache.updates();
        while self.cache.get(self.node.path()).is_none() {
            updates.next().await?;
        }
        Ok(())
    }

    /// The members as they are known, by id, with their data.
    pub fn members(&self) -> BTreeMap<String, Vec<u8>> {
        let members = self.cache.children(&self.dir);
        members
            .iter()
            .map(|node| (node.name().to_owned(), node.data.clone()))
            .collect()
    }

    /// What the members are known by, for [`Cache::updates`] and [`Cache::state`].
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The member's own znode.
    pub fn node(&self) -> &PersistentNode {
        &self.node
    }

    /// Leaves the group, and waits until that is done.
    ///
    /// # Errors
    /// As [`PersistentNode::close`].
    pub async fn leave(self) -> Result<()> {
        self.node.close().await
    }
}

/// Checks the name of a child.
pub(crate) fn check_name(name: &str) -> Result<()> {
    match name.is_empty() || name.contains('/') {
        true => Err(Error::BadPath(name.to_owned())),
        false => Ok(()),
    }
}
