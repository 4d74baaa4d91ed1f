//! Which instance of a service to ask: balancing, and leaving out what has failed.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::{ServiceCache, ServiceInstance};

/// How much of the requests an instance is to get; 0 is none.
pub type Weight = Arc<dyn Fn(&ServiceInstance) -> u32 + Send + Sync>;

/// How a [`ServiceProvider`] chooses.
#[derive(Clone)]
pub enum Balance {
    /// Any, each time anew.
    Random,
    /// One after the other, by id.
    RoundRobin,
    /// The same as long as it is there, then another one.
    Sticky,
    /// Any, each time anew, in proportion to weights.
    Weighted(Weight),
    /// One of those that this provider gave out least often without getting them back: the [`Picked`] that live.
    LeastOutstanding,
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Balance::Random => "Random",
            Balance::RoundRobin => "RoundRobin",
            Balance::Sticky => "Sticky",
            Balance::Weighted(_) => "Weighted",
            Balance::LeastOutstanding => "LeastOutstanding",
        })
    }
}

/// When an instance is left out because of errors that were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownPolicy {
    /// After so many errors; 2 by default.
    pub errors: u32,
    /// Each of which was told within this time of the one before; and for how long after the last. 30 seconds by
    /// default.
    pub time: Duration,
}

impl Default for DownPolicy {
    fn default() -> DownPolicy {
        DownPolicy {
            errors: 2,
            time: Duration::from_secs(30),
        }
    }
}

/// Chooses among the instances of a service.
///
/// **Guarantee.** [`ServiceProvider::pick`] gives one of the instances that its [`ServiceCache`] knows at this moment
/// and that are enabled. What it counts and remembers is its own: other providers, of this process too, choose for
/// themselves.
///
/// **Failure.** While there is no connection, and after its cache has failed, it chooses among those that were known
/// last. One that is gone may be given until that is known: tell by [`Picked::failed`] that it did not work, and pick
/// again.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use oxkeeper_recipes::{Balance, Discovery, ServiceInstance, SessionKeeper};
///
/// /// As much as it asks for in its payload.
/// fn weight(instance: &ServiceInstance) -> u32 {
///     instance.payload_as().ok().flatten().unwrap_or(1)
/// }
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let discovery = Discovery::new(&keeper, "/services")?;
/// let provider = discovery.provider("search", Balance::Weighted(Arc::new(weight)))?;
/// provider.ready().await?;
/// while let Some(search) = provider.pick() {
///     let address = (search.address.as_deref().unwrap_or("localhost"), search.port.unwrap_or(80));
///     match tokio::net::TcpStream::connect(address).await {
///         Ok(_connection) => break,
///         Err(_) => search.failed(),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ServiceProvider {
    cache: ServiceCache,
    balance: Balance,
    choosing: Arc<Mutex<Choosing>>,
}

#[derive(Debug, Default)]
struct Choosing {
    down: DownPolicy,
    /// The id chosen last.
    last: Option<String>,
    outstanding: HashMap<String, usize>,
    errors: HashMap<String, Errors>,
}

#[derive(Debug)]
struct Errors {
    count: u32,
    /// When the last one was told.
    last: Instant,
}

impl Choosing {
    /// Those whose time is over.
    fn forget_errors(&mut self) {
        let time = self.down.time;
        self.errors.retain(|_, errors| errors.last.elapsed() < time);
    }
}

/// To read and write; nothing that is done under the lock panics, so it is never poisoned.
fn lock(choosing: &Mutex<Choosing>) -> MutexGuard<'_, Choosing> {
    choosing.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ServiceProvider {
    pub(crate) fn new(cache: ServiceCache, balance: Balance) -> ServiceProvider {
        ServiceProvider {
            cache,
            balance,
            choosing: Arc::default(),
        }
    }

    /// The same with another policy for errors.
    #[must_use]
    pub fn with_down_policy(self, down: DownPolicy) -> ServiceProvider {
        lock(&self.choosing).down = down;
        self
    }

    /// Waits until the instances are known.
    ///
    /// # Errors
    /// When they cannot be followed.
    pub async fn ready(&self) -> Result<()> {
        self.cache.ready().await
    }

    /// All instances that are known.
    pub fn cache(&self) -> &ServiceCache {
        &self.cache
    }

    /// Chooses one of the instances that are enabled; `None` when there is none. Those with too many errors are left
    /// out, unless all have.
    pub fn pick(&self) -> Option<Picked> {
        let instances = self.cache.instances();
        let enabled: Vec<_> = instances
            .iter()
            .filter(|(_, instance)| instance.enabled)
            .collect();
        let weights = match &self.balance {
            // The caller's code, so not under the lock.
            Balance::Weighted(weight) => enabled.iter().map(|(_, instance)| weight(instance)).collect(),
            _ => vec![1; enabled.len()],
        };
        let mut choosing = lock(&self.choosing);
        choosing.forget_errors();
        let candidates: Vec<usize> = (0..enabled.len()).filter(|index| weights[*index] > 0).collect();
        let is_up = |index: &usize| {
            let errors = choosing.errors.get(enabled[*index].0);
            errors.is_none_or(|errors| errors.count < choosing.down.errors)
        };
        let up: Vec<usize> = candidates.iter().copied().filter(is_up).collect();
        let candidates = if up.is_empty() { candidates } else { up };
        let index = choose(
            &self.balance,
            &choosing,
            &candidates,
            |index| enabled[index].0,
            &weights,
        )?;
        let (id, instance) = enabled[index];
        choosing.last = Some(id.clone());
        *choosing.outstanding.entry(id.clone()).or_default() += 1;
        Some(Picked {
            id: id.clone(),
            instance: Arc::clone(instance),
            choosing: Arc::clone(&self.choosing),
        })
    }
}

/// One of the candidates, which are in the order of their ids.
fn choose<'a>(
    balance: &Balance,
    choosing: &Choosing,
    candidates: &[usize],
    id: impl Fn(usize) -> &'a String,
    weights: &[u32],
) -> Option<usize> {
    if candidates.is_empty() {
        return None;
    }
    let any = |among: &[usize]| among[fastrand::usize(..among.len())];
    Some(match balance {
        Balance::Random => any(candidates),
        Balance::RoundRobin => {
            let after = |index: &&usize| choosing.last.as_ref().is_none_or(|last| id(**index) > last);
            *candidates.iter().find(after).unwrap_or(&candidates[0])
        }
        Balance::Sticky => {
            let same = candidates
                .iter()
                .find(|index| choosing.last.as_ref() == Some(id(**index)));
            same.copied().unwrap_or_else(|| any(candidates))
        }
        Balance::Weighted(_) => {
            let total: u64 = candidates.iter().map(|index| u64::from(weights[*index])).sum();
            let mut place = fastrand::u64(..total);
            let chosen = candidates.iter().find(|index| {
                let weight = u64::from(weights[**index]);
                let is_here = place < weight;
                place = place.saturating_sub(weight);
                is_here
            });
            *chosen.unwrap_or(&candidates[0])
        }
        Balance::LeastOutstanding => {
            let outstanding = |index: &usize| choosing.outstanding.get(id(*index)).copied().unwrap_or(0);
            let least = candidates.iter().map(outstanding).min()?;
            let idle: Vec<usize> = candidates
                .iter()
                .copied()
                .filter(|index| outstanding(index) == least)
                .collect();
            any(&idle)
        }
    })
}

/// An instance that was chosen. Keep it as long as it is used: [`Balance::LeastOutstanding`] counts.
#[derive(Debug)]
pub struct Picked {
    id: String,
    instance: Arc<ServiceInstance>,
    choosing: Arc<Mutex<Choosing>>,
}

impl Picked {
    /// The instance.
    pub fn instance(&self) -> &Arc<ServiceInstance> {
        &self.instance
    }

    /// Tells that it did not work, and lets go of it; see [`DownPolicy`].
    pub fn failed(self) {
        let mut choosing = lock(&self.choosing);
        choosing.forget_errors();
        let last = Instant::now();
        let errors = choosing.errors.entry(self.id.clone());
        let errors = errors.or_insert(Errors { count: 0, last });
        errors.count = errors.count.saturating_add(1);
        errors.last = last;
    }
}

impl Deref for Picked {
    type Target = ServiceInstance;

    fn deref(&self) -> &ServiceInstance {
        &self.instance
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        let mut choosing = lock(&self.choosing);
        if let Some(count) = choosing.outstanding.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                choosing.outstanding.remove(&self.id);
            }
        }
    }
}
