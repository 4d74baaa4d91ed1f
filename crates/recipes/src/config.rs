//! A value that many programs read: typed, validated, watched, with the last good one kept.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::watch;
use zookeeper_client::{Error as ClientError, Stat};

use crate::cache::{Cache, Node, Scope};
use crate::error::{Error, Result};
use crate::task::Task;
use crate::{SessionKeeper, store};

/// A value that was read and found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Good<T> {
    /// The value.
    pub value: T,
    /// The version of the znode it was in; `None` for a default.
    pub version: Option<i32>,
}

/// Why the newest value is not the one in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigProblem {
    /// There is no znode.
    Missing,
    /// The value was refused.
    Invalid {
        /// The version of the znode.
        version: i32,
        /// What the validation said.
        reason: String,
    },
    /// It is watched no longer.
    Unwatched(Error),
}

#[derive(Debug)]
struct View<T> {
    good: Option<Arc<Good<T>>>,
    problem: Option<ConfigProblem>,
}

type Parse<T> = dyn Fn(&[u8]) -> Result<T, String> + Send + Sync;

/// A configuration value in a znode.
///
/// **Guarantee.** [`Config::get`] gives a value that the validation let pass, the newest such one that this process
/// has seen. A bad or missing value never replaces a good one; it is told by [`Config::problem`].
/// [`Config::set`] lets nobody write what this program would refuse to read.
///
/// **Failure.** While the connection or the session is lost the last good value stays; then the newest follows. A
/// program that must not wait for the value, or may find none, begins with [`Config::with_default`]; its
/// [`SessionKeeper`] needs a server all the same to begin with.
///
/// The validation is the caller's code and runs in a task of its own; when it panics, the value counts as bad.
/// Dropping the configuration ends its watch in the background.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{Config, SessionKeeper};
///
/// /// How many requests a second are let in.
/// fn rate(bytes: &[u8]) -> Result<u32, String> {
///     let rate = str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok());
///     rate.filter(|rate| *rate > 0).ok_or_else(|| "not a number above 0".to_owned())
/// }
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let config = Config::new(&keeper, "/config/rate", rate)?;
/// println!("{}", config.ready().await?.value);
/// let mut values = config.values();
/// loop {
///     println!("now {}", values.next().await?.value);
/// }
/// # }
/// ```
pub struct Config<T> {
    keeper: SessionKeeper,
    path: String,
    parse: Arc<Parse<T>>,
    view: watch::Receiver<View<T>>,
    _task: Task,
}

impl<T: fmt::Debug> fmt::Debug for Config<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("path", &self.path)
            .field("view", &*self.view.borrow())
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Config<T> {
    /// Begins to watch; [`Config::ready`] waits for the first good value. `parse` reads and validates.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn new<E: fmt::Display>(
        keeper: &SessionKeeper,
        path: &str,
        parse: impl Fn(&[u8]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Config<T>> {
        Config::start(keeper, path, None, parse)
    }

    /// As [`Config::new`], with a value to use until a good one is read.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn with_default<E: fmt::Display>(
        keeper: &SessionKeeper,
        path: &str,
        default: T,
        parse: impl Fn(&[u8]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Config<T>> {
        Config::start(keeper, path, Some(default), parse)
    }

    fn start<E: fmt::Display>(
        keeper: &SessionKeeper,
        path: &str,
        default: Option<T>,
        parse: impl Fn(&[u8]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Config<T>> {
        let cache = Cache::new(keeper, path, Scope::Node)?;
        let parse: Arc<Parse<T>> =
            Arc::new(
                move |bytes| match catch_unwind(AssertUnwindSafe(|| parse(bytes))) {
                    Ok(parsed) => parsed.map_err(|error| error.to_string()),
                    Err(_) => Err("the validation panicked".to_owned()),
                },
            );
        let (sender, view) = watch::channel(View {
            good: default.map(|value| Arc::new(Good { value, version: None })),
            problem: None,
        });
        let task = keeper
            .session()
            .spawn(follow(cache, path.to_owned(), Arc::clone(&parse), sender));
        Ok(Config {
            keeper: keeper.clone(),
            path: path.to_owned(),
            parse,
            view,
            _task: Task(task.abort_handle()),
        })
    }

    /// The value in use: the last good one.
    pub fn get(&self) -> Option<Arc<Good<T>>> {
        self.view.borrow().good.clone()
    }

    /// Why the value in use is not the newest one; `None` when it is, and before the first was read.
    pub fn problem(&self) -> Option<ConfigProblem> {
        self.view.borrow().problem.clone()
    }

    /// Waits for a value: the default, or the first good one.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub async fn ready(&self) -> Result<Arc<Good<T>>> {
        wait(&mut self.view.clone(), |_| true).await
    }

    /// The values from now on, for one listener; the first is the one in use. Of values that follow quickly only the
    /// last may be given.
    pub fn values(&self) -> Values<T> {
        Values {
            view: self.view.clone(),
            last: None,
        }
    }

    /// Waits until the problem is one that the condition holds for; `None` is no problem. Once it is watched no longer,
    /// it gives that, [`ConfigProblem::Unwatched`], whatever the condition says.
    ///
    /// For a program that reports that a new value was refused.
    pub async fn problem_that(
        &self,
        mut holds: impl FnMut(Option<&ConfigProblem>) -> bool,
    ) -> Option<ConfigProblem> {
        let mut view = self.view.clone();
        // The task tells that it ends.
        let found = view.wait_for(|view| holds(view.problem.as_ref())).await;
        let problem = found.ok().map(|view| view.problem.clone());
        problem.unwrap_or_else(|| self.problem())
    }

    /// Validates and writes a value; creates the znode where it is missing. With a version, only over that one.
    /// Without one it is written again when the reply was lost, also over what somebody else wrote in between.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the validation refuses it. [`ClientError::BadVersion`] when the znode has another
    /// version. [`ClientError::ConnectionLoss`], only with a version, when the reply was lost: it may be written.
    /// Otherwise when the session ends or the server refuses.
    pub async fn set(&self, bytes: &[u8], version: Option<i32>) -> Result<Stat> {
        (self.parse)(bytes).map_err(Error::Invalid)?;
        let session = self.keeper.live_session().await;
        if version.is_some() {
            return Ok(session.client().set_data(&self.path, bytes, version).await?);
        }
        store::put(&session, &self.path, bytes).await
    }
}

/// The values of a [`Config`] for one listener.
#[derive(Debug)]
pub struct Values<T> {
    view: watch::Receiver<View<T>>,
    last: Option<Arc<Good<T>>>,
}

impl<T> Values<T> {
    /// Waits for a value that was not given yet. Dropping the future loses none.
    ///
    /// # Errors
    /// When there will be none: it cannot be watched, or the configuration was dropped.
    pub async fn next(&mut self) -> Result<Arc<Good<T>>> {
        let last = self.last.clone();
        let is_next = |good: &Arc<Good<T>>| last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, good));
        let next = wait(&mut self.view, is_next).await?;
        self.last = Some(Arc::clone(&next));
        Ok(next)
    }
}

async fn wait<T>(
    view: &mut watch::Receiver<View<T>>,
    is_wanted: impl Fn(&Arc<Good<T>>) -> bool,
) -> Result<Arc<Good<T>>> {
    let wanted = |view: &View<T>| view.good.clone().filter(|good| is_wanted(good));
    let is_over = |view: &View<T>| matches!(view.problem, Some(ConfigProblem::Unwatched(_)));
    let Ok(view) = view
        .wait_for(|view| wanted(view).is_some() || is_over(view))
        .await
    else {
        return Err(ClientError::ClientClosed.into());
    };
    match (wanted(&view), &view.problem) {
        (Some(good), _) => Ok(good),
        (None, Some(ConfigProblem::Unwatched(error))) => Err(error.clone()),
        (None, _) => Err(ClientError::ClientClosed.into()),
    }
}

async fn follow<T>(cache: Cache, path: String, parse: Arc<Parse<T>>, view: watch::Sender<View<T>>) {
    let mut updates = cache.updates();
    let mut last: Option<Arc<Node>> = None;
    loop {
        if let Err(error) = updates.next().await {
            view.send_modify(|view| view.problem = Some(ConfigProblem::Unwatched(error)));
            return;
        }
        let node = cache.get(&path);
        let is_read = match (&last, &node) {
            (Some(last), Some(node)) => last.stat.mzxid == node.stat.mzxid,
            _ => false,
        };
        if is_read {
            continue;
        }
        last.clone_from(&node);
        let parsed = node.map(|node| (parse(&node.data), node.stat.version));
        view.send_modify(|view| {
            view.problem = match parsed {
                Some((Ok(value), version)) => {
                    view.good = Some(Arc::new(Good {
                        value,
                        version: Some(version),
                    }));
                    None
                }
                Some((Err(reason), version)) => {
                    tracing::warn!(path, version, reason, "a configuration value is not good");
                    Some(ConfigProblem::Invalid { version, reason })
                }
                None => Some(ConfigProblem::Missing),
            };
        });
    }
}
