//! Names and numbers that nobody else gets.

use tokio::sync::Mutex;
use zookeeper_client::CreateMode;

use crate::error::{Error, Result};
use crate::znode::{Protected, check_path, create_protected, retry};
use crate::{AtomicLong, Session, SessionKeeper, sequence, store};

/// Gives numbers of which each is given once, in the whole ensemble.
///
/// **Guarantee.** No number is given twice, by whatever value at the same path. They grow within one value; between
/// values they come in blocks, so a larger number need not be a later one.
///
/// **Failure.** Lost connections and sessions cost numbers, never uniqueness: what is left of a block when a value is
/// dropped, and a block whose reservation nobody heard of, are skipped.
///
/// **Layout**: the first number that is not reserved, as an [`AtomicLong`] at `{path}`.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{SessionKeeper, UniqueIds};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let orders = UniqueIds::new(&keeper, "/ids/orders", 100)?;
/// println!("order {}", orders.next().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct UniqueIds {
    next_block: AtomicLong,
    block: i64,
    left: Mutex<std::ops::Range<i64>>,
}

impl UniqueIds {
    /// Numbers from 0 on, reserved in blocks of this size: one write for so many.
    ///
    /// # Errors
    /// When it is not a path, or the size is 0.
    pub fn new(keeper: &SessionKeeper, path: &str, block: u32) -> Result<UniqueIds> {
        match block {
            0 => Err(Error::BadArgument("a block of no numbers")),
            _ => Ok(UniqueIds {
                next_block: AtomicLong::new(keeper, path)?,
                block: i64::from(block),
                left: Mutex::new(0..0),
            }),
        }
    }

    /// The next number. A dropped future skips a block at most.
    ///
    /// # Errors
    /// [`Error::TooLarge`] after the last number. When the server refuses.
    pub async fn next(&self) -> Result<i64> {
        const USED_UP: Error = Error::TooLarge("all numbers are used up");
        let mut left = self.left.lock().await;
        loop {
            if let Some(next) = left.next() {
                return Ok(next);
            }
            let reserved = self.next_block.update(|first| first.checked_add(self.block));
            match reserved.await {
                Ok((first, after)) if first < after => *left = first..after,
                Ok(_) => return Err(USED_UP),
                // Whether that block was reserved or not, the next one is ours.
                Err(error) if error.is_session_over() => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Creates a znode with a name that goes on in sequence: `{dir}/_c_{uuid}-{prefix}{sequence}`. It stays until it is
/// deleted.
///
/// One call makes one znode, though replies get lost; see [`create_protected`]. The order of the names is that of
/// [`sequence::sort`], their number is what [`sequence::of`] finds after the prefix. The directory stays too, with its
/// sequence, when all names in it are deleted; unless it was there before, as a container.
///
/// ```no_run
/// # async fn example(session: oxkeeper_recipes::Session) -> oxkeeper_recipes::Result<()> {
/// use oxkeeper_recipes::{create_sequential, sequence};
///
/// let log = create_sequential(&session, "/logs", "log-", b"").await?;
/// println!("{} is number {:?}", log.path, sequence::of(&log.path, "log-"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When it is not a path, or the prefix is empty or has a slash, or the session ends, or the server refuses.
pub async fn create_sequential(session: &Session, dir: &str, prefix: &str, data: &[u8]) -> Result<Protected> {
    check_path(dir)?;
    crate::persistent_node::check_name(prefix)?;
    // Not left to `create_protected`, whose directories go with what is in them; then the sequence would begin anew.
    if retry(|| session.client().check_stat(dir)).await?.is_none() {
        store::create(session, dir, b"").await?;
    }
    let made = create_protected(session, dir, prefix, data, CreateMode::PersistentSequential).await?;
    debug_assert!(sequence::of(&made.path, prefix).is_some());
    Ok(made)
}
