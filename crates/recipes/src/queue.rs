//! Queues: items that are put by many and taken by many, each processed though its consumer may die.

use std::ops::Deref;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Mutex;
use uuid::Uuid;
use zookeeper_client::{CheckWriter, CreateMode, Error as ClientError};

use crate::error::{Error, Result, is_connection_loss};
use crate::hold::{Hold, write_checked_by_servers};
use crate::store::{self, commit_once};
use crate::znode::{check_path, create_ephemeral, join, retry};
use crate::{Session, SessionKeeper, sequence};

/// What the names of items begin with.
const ITEM: &str = "queue-";
/// What stands around the time in the names of delayed items.
const BAR: char = '|';
/// What Curator writes before an item, and what may follow.
const VERSION: i32 = 0x0001_0001;
const ITEM_FOLLOWS: u8 = 1;
const END: u8 = 2;

/// What the three queues have in common.
///
/// **Guarantee.** An item is put once, though replies get lost, and taken until it is done: [`Queue::take`] locks
/// it with an ephemeral, and [`Item::complete`] removes it. When the consumer dies, drops the item or lets go of
/// it, another one gets it. So an item is processed at least once; what is written by [`Item::complete_with`] is
/// written exactly once. The order is that in which items are taken; several consumers may be done in another.
///
/// **Failure.** Lost connections are survived. When the session of a consumer is lost, its items are revoked, as a
/// [`Hold`]; a `take` that waits for an item and a put that waits for room go on with the next session. With a
/// session lost in the middle of a put, the put fails, and may be done or not. A dropped `take` takes nothing; a
/// dropped put is done or not.
///
/// **Cost.** The names of all items are read whenever something comes or goes while a consumer waits, by all
/// consumers: ZooKeeper is no good place for queues of many thousands. [`bounded`](DistributedQueue::bounded)
/// keeps them short.
///
/// **Layout**: `{path}/queue-{sequence}`, with the number of the priority or the time after `queue-`, and the data as
/// Curator's `QueueBuilder` queues write it; an item of several elements, which only Curator writes, is taken as
/// a whole: see [`Item::elements`]. The locks are `{path}-locks/{item}`; give that to Curator as its `lockPath`.
#[derive(Debug)]
pub struct Queue {
    keeper: SessionKeeper,
    path: String,
    locks: String,
    kind: Kind,
    items_max: Option<usize>,
    /// One taker at a time in this process, so that they do not all go for the same item.
    taking: Mutex<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sequence,
    Priority,
    Delay,
}

/// First in, first out. See [`Queue`].
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{DistributedQueue, SessionKeeper};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let queue = DistributedQueue::new(&keeper, "/jobs")?.bounded(1000);
/// queue.put(b"resize 7.png").await?;
///
/// let item = queue.take().await?;
/// println!("{}", String::from_utf8_lossy(item.data()));
/// item.complete().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DistributedQueue(Queue);

/// Lower priorities first, and of the same priority first in, first out. See [`Queue`].
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{DistributedPriorityQueue, SessionKeeper};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let queue = DistributedPriorityQueue::new(&keeper, "/urgent")?;
/// queue.put(b"later", 10).await?;
/// queue.put(b"first", -1).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DistributedPriorityQueue(Queue);

/// Items that are taken after a time, by the clocks of who puts and who takes. See [`Queue`].
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use oxkeeper_recipes::{DistributedDelayQueue, SessionKeeper};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let queue = DistributedDelayQueue::new(&keeper, "/reminders")?;
/// queue.put_after(b"call back", Duration::from_secs(60)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DistributedDelayQueue(Queue);

macro_rules! queue {
    ($name:ident, $kind:expr) => {
        impl $name {
            /// The queue at this path; nothing is sent yet.
            ///
            /// # Errors
            /// When it is not a path.
            pub fn new(keeper: &SessionKeeper, path: &str) -> Result<$name> {
                Queue::new(keeper, path, $kind).map($name)
            }

            /// The same, whose puts wait while there are so many items. Puts at the same time may exceed it by their
            /// number.
            #[must_use]
            pub fn bounded(mut self, items_max: usize) -> $name {
                self.0.items_max = Some(items_max);
                self
            }

            /// The same with its locks elsewhere: where Curator has its `lockPath`.
            ///
            /// # Errors
            /// When it is not a path.
            pub fn with_locks(mut self, path: &str) -> Result<$name> {
                check_path(path)?;
                self.0.locks = path.to_owned();
                Ok(self)
            }
        }

        impl Deref for $name {
            type Target = Queue;

            fn deref(&self) -> &Queue {
                &self.0
            }
        }
    };
}

queue!(DistributedQueue, Kind::Sequence);
queue!(DistributedPriorityQueue, Kind::Priority);
queue!(DistributedDelayQueue, Kind::Delay);

impl DistributedQueue {
    /// Puts an item at the end.
    ///
    /// # Errors
    /// When the session ends (it may be done then) or the server refuses.
    pub async fn put(&self, data: &[u8]) -> Result<()> {
        self.0.put(data, "").await
    }
}

impl DistributedPriorityQueue {
    /// Puts an item after those of the same or a lower priority.
    ///
    /// # Errors
    /// As [`DistributedQueue::put`].
    pub async fn put(&self, data: &[u8], priority: i32) -> Result<()> {
        self.0.put(data, &priority_text(priority)).await
    }
}

impl DistributedDelayQueue {
    /// Puts an item to be taken at this time or later.
    ///
    /// # Errors
    /// As [`DistributedQueue::put`].
    pub async fn put_at(&self, data: &[u8], time: SystemTime) -> Result<()> {
        self.put_at_millis(data, millis(time)).await
    }

    /// Puts an item to be taken after this time or later.
    ///
    /// # Errors
    /// As [`DistributedQueue::put`].
    pub async fn put_after(&self, data: &[u8], delay: Duration) -> Result<()> {
        let delay = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        self.put_at_millis(data, millis(SystemTime::now()).saturating_add(delay))
            .await
    }

    async fn put_at_millis(&self, data: &[u8], time: i64) -> Result<()> {
        self.0.put(data, &format!("{BAR}{time:08X}{BAR}")).await
    }
}

/// In the order of text as in that of numbers, as Curator writes it.
fn priority_text(priority: i32) -> String {
    let sign = if priority >= 0 { 1 } else { 0 };
    format!("{sign}{:08X}", priority.cast_unsigned())
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// When an item may be taken, in milliseconds since 1970; 0 where its name does not say.
fn due(name: &str) -> i64 {
    let time = name.strip_prefix(ITEM).and_then(|rest| rest.split(BAR).nth(1));
    time.and_then(|time| i64::from_str_radix(time, 16).ok())
        .unwrap_or(0)
}

impl Kind {
    /// The items among these names, in the order of taking.
    fn in_order(self, names: Vec<String>) -> Vec<String> {
        let mut items: Vec<String> = match self {
            // What is not numbered as an item of this kind was put by somebody else; it comes after all that is.
            Kind::Sequence => sequence::sorted(names, ITEM),
            Kind::Priority | Kind::Delay => names.into_iter().filter(|name| name.starts_with(ITEM)).collect(),
        };
        match self {
            Kind::Sequence => {}
            Kind::Priority => items.sort_unstable(),
            Kind::Delay => items.sort_by_cached_key(|name| (due(name), name.clone())),
        }
        items
    }
}

/// An item that this consumer has, and nobody else, for as long as it is held: see [`Hold`]. Dropped, it goes back
/// to its place in the queue.
///
/// Its lock has the same path for every consumer, and servers check no more than that it is there. So a guarded write
/// trusts that nobody deletes locks of other sessions; [`Item::complete_with`] writes once in any case.
#[derive(Debug)]
pub struct Item {
    hold: Hold,
    path: String,
    elements: Vec<Vec<u8>>,
}

impl Item {
    /// The data.
    pub fn data(&self) -> &[u8] {
        self.elements.first().map_or(&[], Vec::as_slice)
    }

    /// All its data: one element, unless Curator put several as one.
    pub fn elements(&self) -> &[Vec<u8>] {
        &self.elements
    }

    /// Removes it for good.
    ///
    /// # Errors
    /// [`Error::Revoked`] when it is held no longer: another consumer gets it, or got it. When the session ends before
    /// the reply comes it is done, or another gets it. Otherwise when the server refuses.
    pub async fn complete(self) -> Result<()> {
        self.complete_with(|_| Ok(())).await
    }

    /// Removes it for good, and writes, in one transaction: all or nothing, and once.
    ///
    /// `fill` adds the operations; it may be called several times.
    ///
    /// # Errors
    /// As [`Item::complete`]. Otherwise the error of the operation that failed; the item goes back then.
    pub async fn complete_with<F>(self, fill: F) -> Result<()>
    where
        F: Fn(&mut CheckWriter<'_>) -> Result<(), ClientError>,
    {
        let client = self.hold.session().client();
        let mut is_reply_lost = false;
        loop {
            let holds = [&self.hold];
            let completed = write_checked_by_servers(&holds, |writer| {
                writer.add_delete(&self.path, None)?;
                writer.add_delete(self.hold.path(), None)?;
                fill(writer)
            });
            match completed.await {
                Ok(_) => return Ok(()),
                Err(Error::Client(error)) if is_connection_loss(&error) => {
                    is_reply_lost = true;
                    retry(|| client.sync(&self.path)).await?;
                }
                // It may be refused because it was done: then our lock is gone, or another consumer, who knows no
                // better yet, has one of the same name. Only who holds an item removes it.
                Err(error) if is_reply_lost && !error.is_session_over() => {
                    return match retry(|| client.check_stat(&self.path)).await? {
                        None => Ok(()),
                        Some(_) => Err(error),
                    };
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets go of it, and waits until others can take it.
    ///
    /// # Errors
    /// As [`Hold::release`].
    pub async fn put_back(self) -> Result<()> {
        self.hold.release().await
    }
}

impl Deref for Item {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        &self.hold
    }
}

impl Queue {
    fn new(keeper: &SessionKeeper, path: &str, kind: Kind) -> Result<Queue> {
        check_path(path)?;
        Ok(Queue {
            keeper: keeper.clone(),
            path: path.to_owned(),
            locks: format!("{path}-locks"),
            kind,
            items_max: None,
            taking: Mutex::new(()),
        })
    }

    async fn put(&self, data: &[u8], place: &str) -> Result<()> {
        let path = join(&self.path, &format!("{ITEM}{place}"));
        let data = encode(data)?;
        loop {
            let session = self.keeper.live_session().await;
            match self.wait_for_room(&session).await {
                // Nothing was put yet.
                Err(error) if error.is_session_over() => {
                    session.over().await;
                    continue;
                }
                room => room?,
            }
            let options = CreateMode::PersistentSequential.with_acls(session.acls());
            match commit_once(&session, &self.locks, |writer| {
                writer.add_create(&path, &data, &options)
            })
            .await
            {
                Err(ClientError::NoNode) => self.create_directories(&session).await?,
                put => return Ok(put?),
            }
        }
    }

    async fn wait_for_room(&self, session: &Session) -> Result<()> {
        let Some(items_max) = self.items_max else {
            return Ok(());
        };
        let items = |names: &[String]| names.iter().filter(|name| name.starts_with(ITEM)).count();
        loop {
            match retry(|| session.client().list_and_watch_children(&self.path)).await {
                Ok((names, watcher)) if items(&names) >= items_max => {
                    watcher.changed().await;
                }
                Ok(_) | Err(ClientError::NoNode) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn create_directories(&self, session: &Session) -> Result<()> {
        store::create(session, &self.path, b"").await?;
        store::create(session, &self.locks, b"").await.map(drop)
    }

    /// How many items there are, those that consumers have too.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn len(&self) -> Result<usize> {
        let session = self.keeper.live_session().await;
        match retry(|| session.client().list_children(&self.path)).await {
            Ok(names) => Ok(self.kind.in_order(names).len()),
            Err(ClientError::NoNode) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there are no items.
    ///
    /// # Errors
    /// As [`Queue::len`].
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// Waits for the first item that nobody has, and takes it. Dropped, it takes nothing.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn take(&self) -> Result<Item> {
        let _turn = self.taking.lock().await;
        loop {
            let session = self.keeper.live_session().await;
            match self.take_in(&session).await {
                Err(error) if error.is_session_over() => session.over().await,
                taken => return taken,
            }
        }
    }

    async fn take_in(&self, session: &Session) -> Result<Item> {
        let client = session.client();
        loop {
            session.connected().await?;
            let moment = session.moment();
            let listed = retry(|| async {
                let locked = client.list_and_watch_children(&self.locks).await?;
                Ok((client.list_and_watch_children(&self.path).await?, locked))
            });
            let ((names, items_watcher), (locked, locks_watcher)) = match listed.await {
                Ok(listed) => listed,
                Err(ClientError::NoNode) => {
                    self.create_directories(session).await?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut next_due = None;
            for name in self.kind.in_order(names) {
                if locked.contains(&name) {
                    continue;
                }
                let wait = due(&name).saturating_sub(millis(SystemTime::now()));
                if self.kind == Kind::Delay && wait > 0 {
                    next_due = Some(Duration::from_millis(wait.unsigned_abs()));
                    break;
                }
                let lock = join(&self.locks, &name);
                let created = create_ephemeral(session, &lock, Uuid::new_v4().as_bytes()).await;
                let stat = match created {
                    Ok(stat) => stat,
                    // Somebody was faster; the watch wakes us.
                    Err(Error::Client(ClientError::NodeExists)) => continue,
                    Err(error) => return Err(error),
                };
                // From here on dropping it lets go.
                let hold = Hold::at_shared_path(session, lock, stat.czxid, None, moment);
                let path = join(&self.path, &name);
                match retry(|| client.get_data(&path)).await {
                    Ok((data, _)) => {
                        let elements = decode(&data).unwrap_or_else(|| vec![data]);
                        return Ok(Item { hold, path, elements });
                    }
                    // It was completed in the meantime.
                    Err(ClientError::NoNode) => hold.release().await?,
                    Err(error) => return Err(error.into()),
                }
            }
            tokio::select! {
                _ = items_watcher.changed() => {}
                _ = locks_watcher.changed() => {}
                () = tokio::time::sleep(next_due.unwrap_or_default()), if next_due.is_some() => {}
            }
        }
    }
}

fn encode(data: &[u8]) -> Result<Vec<u8>> {
    let length = i32::try_from(data.len()).map_err(|_| Error::TooLarge("an item of 2 GiB"))?;
    let mut encoded = VERSION.to_be_bytes().to_vec();
    encoded.push(ITEM_FOLLOWS);
    encoded.extend(length.to_be_bytes());
    encoded.extend(data);
    encoded.push(END);
    Ok(encoded)
}

/// `None` when it is not as Curator writes it: then somebody put plain bytes.
fn decode(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = data.strip_prefix(&VERSION.to_be_bytes())?;
    let mut elements = Vec::new();
    loop {
        let (opcode, after) = rest.split_first()?;
        match *opcode {
            END => return Some(elements),
            ITEM_FOLLOWS => {
                let (length, after) = after.split_first_chunk()?;
                let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
                let (element, after) = after.split_at_checked(length)?;
                elements.push(element.to_vec());
                rest = after;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_written_as_curator_does() {
        let encoded = encode(b"ab").unwrap();
        assert_eq!(encoded, [0, 1, 0, 1, 1, 0, 0, 0, 2, b'a', b'b', 2]);
        assert_eq!(decode(&encoded), Some(vec![b"ab".to_vec()]));
        assert_eq!(
            decode(&[0, 1, 0, 1, 1, 0, 0, 0, 1, b'x', 1, 0, 0, 0, 0, 2]),
            Some(vec![b"x".to_vec(), Vec::new()])
        );
        for end in 0..encoded.len() {
            assert_eq!(decode(&encoded[..end]), None, "{end}");
        }
        assert_eq!(decode(&[0, 1, 0, 1, 1, 255, 255, 255, 255, 2]), None);
        assert_eq!(decode(b"plain"), None);
    }

    #[test]
    fn names_of_items_are_in_the_order_of_taking() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            Kind::Sequence.in_order(names(&["queue--2147483648", "other", "queue-2147483647"])),
            ["queue-2147483647", "queue--2147483648"]
        );
        let priorities = [i32::MIN, -1, 0, 7, i32::MAX].map(priority_text);
        assert!(priorities.is_sorted(), "{priorities:?}");
        assert_eq!(priorities[1..3], ["0FFFFFFFF", "100000000"]);
        assert_eq!(
            Kind::Delay.in_order(names(&[
                "queue-|FF|0000000000",
                "queue-|1FF|0000000001",
                "queue-|0A|0000000002"
            ])),
            [
                "queue-|0A|0000000002",
                "queue-|FF|0000000000",
                "queue-|1FF|0000000001"
            ]
        );
        assert_eq!(due("queue-|0000018F|0000000003"), 0x18F);
    }
}
