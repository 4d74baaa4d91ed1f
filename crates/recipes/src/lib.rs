//! Recipes for ZooKeeper and Oxkeeper on the [`zookeeper_client`] crate: what Curator is for Java.
//!
//! # The base
//! - [`Session`]: a client, and what is known of its session: connected, suspended, lost. [`SessionKeeper`] gets a
//!   new session when one is over, for recipes that outlive sessions.
//! - [`Hold`]: what is held: a fencing token, guarded writes, revocation. Guards of locks dereference to it.
//! - [`znode`]: znodes created once though replies get lost. [`sequence`]: the order of sequential names.
//!
//! # Rules that hold for all
//! Everything runs on Tokio, no user code runs on the client's own task, and every future can be dropped at every
//! point: what it made in the ensemble is then removed in the background. What is held ends with its session and
//! takes a [`Session`]; what goes on with the next one takes a [`SessionKeeper`].

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod barrier;
mod cache;
mod config;
mod contend;
mod discovery;
mod election;
mod error;
mod hold;
mod multi_lock;
mod mutex;
mod naming;
mod persistent_node;
mod provider;
mod queue;
mod read_write_lock;
mod revoke;
mod semaphore;
pub mod sequence;
mod session;
mod simple_lock;
mod store;
mod task;
mod value;
pub mod znode;

pub use barrier::{Barrier, DoubleBarrier, Entered};
pub use cache::{Cache, CacheLimits, CacheState, Change, Node, Nodes, Scope, Update, Updates};
pub use config::{Config, ConfigProblem, Good, Values};
pub use discovery::{
    Discovery, Instances, Registration, ServiceCache, ServiceInstance, ServiceType, UriPart, UriSpec,
};
pub use election::{LeaderLatch, LeaderSelector, LeadershipListener, Participant};
pub use error::{Error, Result};
pub use hold::{FencingToken, Hold, Revoked};
pub use multi_lock::{InterProcessMultiLock, MultiGuard};
pub use mutex::{InterProcessMutex, MutexGuard};
pub use naming::{UniqueIds, create_sequential};
pub use persistent_node::{GroupMember, PersistentNode, Placement};
pub use provider::{Balance, DownPolicy, Picked, ServiceProvider, Weight};
pub use queue::{DistributedDelayQueue, DistributedPriorityQueue, DistributedQueue, Item, Queue};
pub use read_write_lock::{InterProcessReadWriteLock, ReadGuard, WriteGuard};
pub use revoke::attempt_revoke;
pub use semaphore::{InterProcessSemaphore, InterProcessSemaphoreMutex, Lease};
pub use session::{ConnectionState, LossPolicy, Session, SessionKeeper};
pub use simple_lock::{SimpleGuard, SimpleLock};
pub use value::{AtomicLong, SharedCount, SharedValue, Versioned};
