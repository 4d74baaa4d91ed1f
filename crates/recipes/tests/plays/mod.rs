//! Every recipe, played over the death of its server: what holds before, and what must hold afterwards.
//!
//! `tests/every_recipe.rs` plays them at a server that is killed and started again, and at an ensemble whose leader
//! is killed and comes back later; `examples/every_recipe.rs` plays the same at a server of `interop/recipes`, which
//! may be Java's. In each of these all connections break; no session ends but by [`Mortal::end`].

#![allow(unreachable_pub, reason = "shared by a test and an example")]

mod locks;
mod nodes;
mod queues;
mod values;

use std::future::Future;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oxkeeper_recipes::{Cache, CacheState, Error, LossPolicy, Session, SessionKeeper};
use oxkeeper_testkit::Proxy;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use zookeeper_client::{Client, Error as ClientError};

use crate::support::{PERSISTENT, eventually, within};

/// All that there are, by the names that [`play`] knows.
pub const RECIPES: [&str; 27] = [
    "mutex",
    "semaphore_mutex",
    "read_write_lock",
    "semaphore",
    "multi_lock",
    "revocable_lock",
    "simple_lock",
    "latch",
    "selector",
    "queue",
    "priority_queue",
    "delay_queue",
    "bounded_queue",
    "barrier",
    "double_barrier",
    "shared_value",
    "shared_count",
    "atomic_long",
    "unique_ids",
    "sequential_names",
    "node_cache",
    "children_cache",
    "tree_cache",
    "config",
    "persistent_node",
    "group",
    "discovery",
];

/// Plays one of [`RECIPES`]; panics when it does not keep its word.
pub async fn play(recipe: &str, stage: &Stage) {
    match recipe {
        "mutex" => locks::mutex(stage).await,
        "semaphore_mutex" => locks::semaphore_mutex(stage).await,
        "read_write_lock" => locks::read_write_lock(stage).await,
        "semaphore" => locks::semaphore(stage).await,
        "multi_lock" => locks::multi_lock(stage).await,
        "revocable_lock" => locks::revocable_lock(stage).await,
        "simple_lock" => locks::simple_lock(stage).await,
        "latch" => locks::latch(stage).await,
        "selector" => locks::selector(stage).await,
        "queue" => queues::queue(stage).await,
        "priority_queue" => queues::priority_queue(stage).await,
        "delay_queue" => queues::delay_queue(stage).await,
        "bounded_queue" => queues::bounded_queue(stage).await,
        "barrier" => values::barrier(stage).await,
        "double_barrier" => values::double_barrier(stage).await,
        "shared_value" => values::shared_value(stage).await,
        "shared_count" => values::shared_count(stage).await,
        "atomic_long" => values::atomic_long(stage).await,
        "unique_ids" => values::unique_ids(stage).await,
        "sequential_names" => values::sequential_names(stage).await,
        "node_cache" => nodes::node_cache(stage).await,
        "children_cache" => nodes::children_cache(stage).await,
        "tree_cache" => nodes::tree_cache(stage).await,
        "config" => nodes::config(stage).await,
        "persistent_node" => nodes::persistent_node(stage).await,
        "group" => nodes::group(stage).await,
        "discovery" => nodes::discovery(stage).await,
        _ => panic!("not a recipe: {recipe}"),
    }
}

/// Where in a play something happens to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The server that stands alone, or leads, dies. The play goes on when others can be served again.
    LeaderDies,
    /// What died before is there again.
    LeaderReturns,
}

/// A play is at a mark, and waits to be told to go on.
pub struct Reached {
    pub mark: Mark,
    pub go_on: oneshot::Sender<()>,
}

/// Servers, a part of their tree, and somebody who does to them what the marks say.
pub struct Stage {
    cluster: String,
    root: String,
    marks: mpsc::UnboundedSender<Reached>,
}

impl Stage {
    /// A stage below `/play-{name}`: others were at these servers before.
    pub async fn new(cluster: &str, name: &str, marks: mpsc::UnboundedSender<Reached>) -> Stage {
        let stage = Stage {
            cluster: cluster.to_owned(),
            root: format!("/play-{name}"),
            marks,
        };
        let session = stage.session().await;
        session
            .client()
            .create(&stage.root, b"", &PERSISTENT)
            .await
            .unwrap();
        stage
    }

    /// A path of its own.
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    async fn keeper(&self) -> SessionKeeper {
        let keeper = SessionKeeper::with(connector(), &self.cluster, |session| session);
        within("a session", keeper).await.unwrap()
    }

    async fn session(&self) -> Session {
        let client = within("a session", connector().connect(&self.cluster)).await;
        Session::new(client.unwrap())
    }

    /// A session whose locks survive short interruptions.
    async fn patient_session(&self) -> Session {
        self.session().await.with_policy(LossPolicy::Lost)
    }

    async fn leader_dies(&self) {
        self.reach(Mark::LeaderDies).await;
    }

    async fn leader_returns(&self) {
        self.reach(Mark::LeaderReturns).await;
    }

    async fn reach(&self, mark: Mark) {
        let (go_on, goes_on) = oneshot::channel();
        assert!(self.marks.send(Reached { mark, go_on }).is_ok(), "{mark:?}");
        // As long as others, which are played at the same servers, take to be there too.
        let goes_on = tokio::time::timeout(Duration::from_secs(60), goes_on).await;
        assert!(matches!(goes_on, Ok(Ok(()))), "{mark:?}: {goes_on:?}");
    }

    /// Somebody whose session can be ended.
    async fn mortal(&self) -> Mortal {
        let servers: Vec<SocketAddr> = self.cluster.split(',').map(|it| it.parse().unwrap()).collect();
        let proxy = Proxy::start(&servers[..]).unwrap();
        let address = proxy.connect_string();
        let keeper = SessionKeeper::with(connector(), &address, |session| session);
        Mortal {
            keeper: within("a session", keeper).await.unwrap(),
            proxy,
            cluster: self.cluster.clone(),
        }
    }
}

/// Has its sessions through a proxy of its own.
struct Mortal {
    keeper: SessionKeeper,
    proxy: Proxy,
    cluster: String,
}

impl Mortal {
    /// Ends the session: somebody else takes it over and closes it while its owner is cut off. Gives the one that ended.
    async fn end(&self) -> Session {
        let session = self.keeper.session();
        self.proxy.cut();
        eventually("the session ends", async || {
            let connector = connector().with_session(session.client().session().clone());
            let taken = connector.connect(&self.cluster).await;
            // Dropping the client closes it, for which the next attempt waits.
            matches!(taken, Err(ClientError::SessionExpired))
        })
        .await;
        self.proxy.heal();
        within("its owner knows", session.over()).await;
        session
    }
}

fn connector() -> zookeeper_client::Connector {
    // Longer than any server here takes to come back.
    Client::connector().with_session_timeout(Duration::from_secs(30))
}

/// Does a thing again while connections break. Only for what may be done twice.
async fn steady<T, F>(mut operation: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    loop {
        match operation().await {
            Err(error) if is_connection_loss(&error.clone().into()) => {}
            result => return result,
        }
    }
}

fn is_connection_loss(error: &Error) -> bool {
    *error == Error::Client(ClientError::ConnectionLoss)
}

/// Waits until a cache has followed all that happened.
async fn is_current(cache: &Cache) {
    eventually("it is current", async || cache.state() == CacheState::Current).await;
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Done,
    /// Nothing was done.
    Missed,
    /// It was done or not: the reply is lost.
    Unknown,
}

/// How many turns somebody had.
#[derive(Debug, Default)]
struct Tally {
    done: AtomicU64,
    unknown: AtomicU64,
}

/// Some who have turn after turn until they are ended, each with sessions of its own.
struct Workers {
    tallies: Vec<Arc<Tally>>,
    ends: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts so many.
    async fn start<F, T>(stage: &Stage, workers: usize, turn: F) -> Workers
    where
        F: Fn(SessionKeeper) -> T + Clone + Send + 'static,
        T: Future<Output = Turn> + Send,
    {
        let (ends, is_over) = watch::channel(false);
        let mut started = Workers {
            tallies: Vec::new(),
            ends,
            tasks: Vec::new(),
        };
        for _ in 0..workers {
            let keeper = stage.keeper().await;
            let tally = Arc::<Tally>::default();
            started.tallies.push(Arc::clone(&tally));
            let (turn, is_over) = (turn.clone(), is_over.clone());
            started.tasks.push(tokio::spawn(async move {
                while !*is_over.borrow() {
                    match within("a turn", turn(keeper.clone())).await {
                        Turn::Done => drop(tally.done.fetch_add(1, Ordering::Relaxed)),
                        Turn::Missed => {}
                        Turn::Unknown => drop(tally.unknown.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            }));
        }
        started
    }

    fn done(&self) -> Vec<u64> {
        let done = |tally: &Arc<Tally>| tally.done.load(Ordering::Relaxed);
        self.tallies.iter().map(done).collect()
    }

    /// Waits until each has had two more turns.
    async fn each_goes_on(&self) {
        self.go_on(|now, before| now.iter().zip(before).all(|(now, before)| *now >= before + 2))
            .await;
    }

    /// Waits until there were more turns, whoever had them.
    async fn some_go_on(&self) {
        self.go_on(|now, before| now.iter().sum::<u64>() >= before.iter().sum::<u64>() + 6)
            .await;
    }

    async fn go_on(&self, enough: impl Fn(&[u64], &[u64]) -> bool) {
        let before = self.done();
        eventually("they go on", async || {
            let failed = self.tasks.iter().any(JoinHandle::is_finished);
            assert!(!failed, "somebody has failed");
            enough(&self.done(), &before)
        })
        .await;
    }

    /// Lets each go on before the leader dies, after that, and when it is back; then as [`Workers::end`].
    async fn outlive_the_leader(self, stage: &Stage) -> RangeInclusive<u64> {
        self.each_goes_on().await;
        stage.leader_dies().await;
        self.each_goes_on().await;
        stage.leader_returns().await;
        self.each_goes_on().await;
        self.end().await
    }

    /// Ends them, and gives how many turns were done: so many, or some more.
    async fn end(self) -> RangeInclusive<u64> {
        self.ends.send_replace(true);
        for task in self.tasks {
            within("the last turn", task).await.unwrap();
        }
        let sum = |count: fn(&Tally) -> &AtomicU64| -> u64 {
            let counts = self
                .tallies
                .iter()
                .map(|tally| count(tally).load(Ordering::Relaxed));
            counts.sum()
        };
        let done = sum(|tally| &tally.done);
        done..=done + sum(|tally| &tally.unknown)
    }
}
