//! Values that many programs read and write: bytes, a count, and a long that is changed atomically.

use std::time::Duration;

use zookeeper_client::Error as ClientError;

use crate::cache::{Cache, Scope, Updates};
use crate::error::{Error, Result};
use crate::store::{self, commit_once};
use crate::znode::{check_path, retry};
use crate::{InterProcessMutex, Session, SessionKeeper};

/// How often a long is tried optimistically before its lock is taken.
const OPTIMISTIC_ATTEMPTS: u32 = 10;
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The version of its znode: grows with every write.
    pub version: i32,
}

/// Bytes in a znode that many programs read and write.
///
/// **Guarantee.** [`SharedValue::get`] gives what a [`Cache`] knows: it may be behind.
/// [`SharedValue::try_set`] writes only over the version given. Each write is done once, though replies get lost.
///
/// **Failure.** Lost connections and sessions are survived: a value outlives them. With a session lost in the
/// middle of a write, the write fails, and may be done or not.
///
/// **Layout**: the bytes at `{path}`, as Curator's `SharedValue`; an ephemeral below it while a write is under way,
/// or beside it while one makes it anew.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{SessionKeeper, SharedValue};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let motto = SharedValue::open(&keeper, "/motto", "be brief").await?;
/// if let Some(old) = motto.get() {
///     let is_written = motto.try_set(&old, b"be kind").await?;
///     println!("{is_written}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SharedValue {
    keeper: SessionKeeper,
    path: String,
    cache: Cache,
}

impl SharedValue {
    /// Creates it with this value where it is missing, and waits until it is known.
    ///
    /// # Errors
    /// When it is not a path, or the session ends, or the server refuses.
    pub async fn open(keeper: &SessionKeeper, path: &str, seed: impl AsRef<[u8]>) -> Result<SharedValue> {
        check_path(path)?;
        store::create(&keeper.live_session().await, path, seed.as_ref()).await?;
        let cache = Cache::new(keeper, path, Scope::Node)?;
        cache.ready().await?;
        Ok(SharedValue {
            keeper: keeper.clone(),
            path: path.to_owned(),
            cache,
        })
    }

    /// The value as it is known; `None` when somebody deleted it.
    pub fn get(&self) -> Option<Versioned<Vec<u8>>> {
        let node = self.cache.get(&self.path)?;
        Some(Versioned {
            value: node.data.clone(),
            version: node.stat.version,
        })
    }

    /// The value as of now: nothing that was written before this call is missed.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn read(&self) -> Result<Option<Versioned<Vec<u8>>>> {
        read(&self.keeper.live_session().await, &self.path).await
    }

    /// Writes over whatever is there, once.
    ///
    /// # Errors
    /// When the session ends (it may be written then) or the server refuses.
    pub async fn set(&self, value: &[u8]) -> Result<()> {
        store::put_once(&self.keeper.live_session().await, &self.path, value).await
    }

    /// Writes over a value that was read, unless it was written or deleted meanwhile: then false.
    ///
    /// # Errors
    /// When the session ends (it may be written then) or the server refuses.
    pub async fn try_set(&self, old: &Versioned<Vec<u8>>, value: &[u8]) -> Result<bool> {
        try_set(&self.keeper.live_session().await, &self.path, old.version, value).await
    }

    /// Tells of changes; then [`SharedValue::get`] gives the value.
    pub fn updates(&self) -> Updates {
        self.cache.updates()
    }
}

/// A 32-bit number in a znode that many programs read and write. As [`SharedValue`] in all else.
///
/// **Layout**: four bytes, the highest first, as Curator's `SharedCount`.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{SessionKeeper, SharedCount};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let count = SharedCount::open(&keeper, "/replicas", 3).await?;
/// count.set(5).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SharedCount(SharedValue);

impl SharedCount {
    /// As [`SharedValue::open`].
    ///
    /// # Errors
    /// As [`SharedValue::open`].
    pub async fn open(keeper: &SessionKeeper, path: &str, seed: i32) -> Result<SharedCount> {
        SharedValue::open(keeper, path, seed.to_be_bytes())
            .await
            .map(SharedCount)
    }

    /// The count as it is known; `None` when somebody deleted it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the znode holds something else.
    pub fn get(&self) -> Result<Option<Versioned<i32>>> {
        self.0.get().map(count).transpose()
    }

    /// The count as of now.
    ///
    /// # Errors
    /// As [`SharedCount::get`] and [`SharedValue::read`].
    pub async fn read(&self) -> Result<Option<Versioned<i32>>> {
        self.0.read().await?.map(count).transpose()
    }

    /// As [`SharedValue::set`].
    ///
    /// # Errors
    /// As [`SharedValue::set`].
    pub async fn set(&self, count: i32) -> Result<()> {
        self.0.set(&count.to_be_bytes()).await
    }

    /// As [`SharedValue::try_set`].
    ///
    /// # Errors
    /// As [`SharedValue::try_set`].
    pub async fn try_set(&self, old: &Versioned<i32>, count: i32) -> Result<bool> {
        let session = self.0.keeper.live_session().await;
        try_set(&session, &self.0.path, old.version, &count.to_be_bytes()).await
    }

    /// Tells of changes; then [`SharedCount::get`] gives the count.
    pub fn updates(&self) -> Updates {
        self.0.updates()
    }
}

fn count(Versioned { value, version }: Versioned<Vec<u8>>) -> Result<Versioned<i32>> {
    match value.as_slice().try_into() {
        Ok(bytes) => Ok(Versioned {
            value: i32::from_be_bytes(bytes),
            version,
        }),
        Err(_) => Err(Error::Invalid(format!(
            "a count has 4 bytes, not {}",
            value.len()
        ))),
    }
}

async fn read(session: &Session, path: &str) -> Result<Option<Versioned<Vec<u8>>>> {
    let client = session.client();
    let read = retry(|| async {
        client.sync(path).await?;
        client.get_data(path).await
    });
    match read.await {
        Ok((value, stat)) => Ok(Some(Versioned {
            value,
            version: stat.version,
        })),
        Err(ClientError::NoNode) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn try_set(session: &Session, path: &str, version: i32, value: &[u8]) -> Result<bool> {
    match commit_once(session, path, |writer| {
        writer.add_set_data(path, value, Some(version))
    })
    .await
    {
        Ok(()) => Ok(true),
        Err(ClientError::BadVersion | ClientError::NoNode) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A 64-bit number that many programs change, each change atomic.
///
/// **Guarantee.** Each change happens once, though connections and replies are lost, and none is lost to another:
/// but for [`set`](AtomicLong::set), each is a write over the version that was read. What leaves it as it is, as a
/// [`compare_and_set`](AtomicLong::compare_and_set) that says no, has seen what was written before. Under contention
/// it is tried again after a pause; after ten times, when there is a lock ([`AtomicLong::with_lock`]), under that, so
/// that those who have one take turns.
///
/// **Failure.** Lost connections are survived. With a session lost in the middle of a change, the change fails, and
/// may be done or not. A dropped future leaves it done or not.
///
/// **Layout**: eight bytes at `{path}`, the highest first, as Curator's `DistributedAtomicLong`; an ephemeral below it
/// while a change is under way, or beside it while one makes it anew. Its lock is an [`InterProcessMutex`], as there.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{AtomicLong, SessionKeeper};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let visits = AtomicLong::new(&keeper, "/visits")?.with_lock("/visits-lock")?;
/// println!("{}", visits.add(1).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AtomicLong {
    keeper: SessionKeeper,
    path: String,
    lock: Option<String>,
}

impl AtomicLong {
    /// The number at this path, which is 0 where it is missing; nothing is sent yet.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn new(keeper: &SessionKeeper, path: &str) -> Result<AtomicLong> {
        check_path(path)?;
        Ok(AtomicLong {
            keeper: keeper.clone(),
            path: path.to_owned(),
            lock: None,
        })
    }

    /// The same with a lock for when there is much contention.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn with_lock(mut self, path: &str) -> Result<AtomicLong> {
        check_path(path)?;
        self.lock = Some(path.to_owned());
        Ok(self)
    }

    /// The number as of now.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the znode holds something else. When the session ends or the server refuses.
    pub async fn get(&self) -> Result<i64> {
        let read = read(&self.keeper.live_session().await, &self.path).await?;
        read.map_or(Ok(0), |read| long(&read.value))
    }

    /// Makes it this number, whatever it is.
    ///
    /// # Errors
    /// When the session ends (it may be done then) or the server refuses.
    pub async fn set(&self, value: i64) -> Result<()> {
        let session = self.keeper.live_session().await;
        store::put_once(&session, &self.path, &value.to_be_bytes()).await
    }

    /// Adds to it, around the overflow, and gives the sum.
    ///
    /// # Errors
    /// As [`AtomicLong::update`].
    pub async fn add(&self, delta: i64) -> Result<i64> {
        self.update(|value| Some(value.wrapping_add(delta)))
            .await
            .map(|(_, after)| after)
    }

    /// Makes it `new` if it is `expected`, and says whether it was.
    ///
    /// # Errors
    /// As [`AtomicLong::update`].
    pub async fn compare_and_set(&self, expected: i64, new: i64) -> Result<bool> {
        let (before, _) = self.update(|value| (value == expected).then_some(new)).await?;
        Ok(before == expected)
    }

    /// Makes of it what a function says, and gives what it was and is; `None` leaves it as it is. The function may be
    /// called several times.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the znode holds something else. When the session ends (it may be done then) or the
    /// server refuses.
    pub async fn update(&self, mut change: impl FnMut(i64) -> Option<i64>) -> Result<(i64, i64)> {
        let session = self.keeper.live_session().await;
        for attempt in 0..OPTIMISTIC_ATTEMPTS {
            if let Some(done) = self.try_update(&session, &mut change, attempt > 0).await? {
                return Ok(done);
            }
            pause(attempt).await;
        }
        let mut mutex = match &self.lock {
            Some(lock) => Some(InterProcessMutex::new(&session, lock)?),
            None => None,
        };
        // Under the lock too by versions: others may still be at their first attempts, and a lock can be lost.
        let guard = match &mut mutex {
            Some(mutex) => Some(mutex.acquire().await?),
            None => None,
        };
        let mut attempt = 0;
        let done = loop {
            if let Some(done) = self.try_update(&session, &mut change, true).await? {
                break done;
            }
            if guard.is_none() {
                pause(attempt).await;
                attempt += 1;
            }
        };
        // Dropped, the guard lets go in the background.
        Ok(done)
    }

    /// `None` when it was too late, or when what it read may have been old and was left as it is: a write proves
    /// that it was read in time, all else only a sync.
    async fn try_update(
        &self,
        session: &Session,
        change: &mut impl FnMut(i64) -> Option<i64>,
        is_synced: bool,
    ) -> Result<Option<(i64, i64)>> {
        let client = session.client();
        if is_synced {
            retry(|| client.sync(&self.path)).await?;
        }
        let (version, before) = match retry(|| client.get_data(&self.path)).await {
            Ok((data, stat)) => (stat.version, long(&data)?),
            Err(ClientError::NoNode) => {
                store::create(session, &self.path, &0_i64.to_be_bytes()).await?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let Some(after) = change(before) else {
            return Ok(is_synced.then_some((before, before)));
        };
        let is_done = try_set(session, &self.path, version, &after.to_be_bytes()).await?;
        Ok(is_done.then_some((before, after)))
    }
}

fn long(bytes: &[u8]) -> Result<i64> {
    match bytes.try_into() {
        Ok(bytes) => Ok(i64::from_be_bytes(bytes)),
        // As Curator does.
        Err(_) if bytes.is_empty() => Ok(0),
        Err(_) => Err(Error::Invalid(format!("a long has 8 bytes, not {}", bytes.len()))),
    }
}

/// Waits a random time, twice as long at most each time.
async fn pause(attempt: u32) {
    let most = Duration::from_millis(1 << attempt.min(10)).min(PAUSE_MAX);
    tokio::time::sleep(most.mul_f64(fastrand::f64())).await;
}
