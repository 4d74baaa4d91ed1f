//! Which instances of a service there are: registered, looked up, and cached.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;
use zookeeper_client::Error as ClientError;

use crate::cache::{Cache, CacheState, Node, Scope};
use crate::error::{Error, Result};
use crate::persistent_node::{PersistentNode, Setter, check_name};
use crate::task::Task;
use crate::znode::{check_path, join, retry};
use crate::{Balance, ServiceProvider, SessionKeeper, store};

/// How long an instance lives. The words are Curator's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceType {
    /// As long as who registered it.
    #[default]
    Dynamic,
    /// Until it is removed.
    Static,
    /// Until it is removed; for what is always there.
    Permanent,
    /// As [`ServiceType::Dynamic`], under a name with a sequence; read, but not made here.
    DynamicSequential,
}

/// How a URI is put together, as Curator's `UriSpec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UriSpec {
    /// Its parts, in order.
    pub parts: Vec<UriPart>,
}

/// A part of a [`UriSpec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UriPart {
    /// The text, or the name of the variable.
    pub value: String,
    /// Whether it stands for a variable.
    #[serde(default)]
    pub variable: bool,
}

impl UriSpec {
    /// Reads text in which names in braces are variables: `{scheme}://{address}:{port}`.
    ///
    /// # Errors
    /// When braces do not match.
    pub fn parse(text: &str) -> Result<UriSpec> {
        const UNBALANCED: Error = Error::BadArgument("braces of a URI do not match");
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (fixed, after) = rest
                .split_once('{')
                .map_or((rest, None), |(fixed, after)| (fixed, Some(after)));
            if fixed.contains('}') {
                return Err(UNBALANCED);
            }
            if !fixed.is_empty() {
                parts.push(UriPart {
                    value: fixed.to_owned(),
                    variable: false,
                });
            }
            let Some(after) = after else {
                return Ok(UriSpec { parts });
            };
            let (name, after) = after.split_once('}').ok_or(UNBALANCED)?;
            if name.contains('{') {
                return Err(UNBALANCED);
            }
            parts.push(UriPart {
                value: name.trim().to_owned(),
                variable: true,
            });
            rest = after;
        }
    }
}

/// An instance of a service, as Curator's x-discovery writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceInstance {
    /// The name of the service.
    pub name: String,
    /// Tells the instances of a service apart.
    pub id: String,
    /// Its host.
    pub address: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// Its port with TLS.
    pub ssl_port: Option<u16>,
    /// Whatever else there is to say, as JSON. A class of Java is named in `@class`, which is kept.
    pub payload: Option<serde_json::Value>,
    /// When it was made, in milliseconds since 1970.
    #[serde(rename = "registrationTimeUTC", default)]
    pub registration_time_utc: i64,
    /// How long it lives.
    #[serde(default)]
    pub service_type: ServiceType,
    /// How its URI is put together.
    pub uri_spec: Option<UriSpec>,
    /// Whether it may be chosen. Curator leaves this out unless told otherwise; then it may.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

impl ServiceInstance {
    /// An instance of a service, registered now under an id of its own, for as long as who registers it.
    pub fn new(name: &str, address: &str, port: u16) -> ServiceInstance {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        ServiceInstance {
            name: name.to_owned(),
            id: Uuid::new_v4().to_string(),
            address: Some(address.to_owned()),
            port: Some(port),
            ssl_port: None,
            payload: None,
            registration_time_utc: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
            service_type: ServiceType::Dynamic,
            uri_spec: None,
            enabled: true,
        }
    }

    /// The same with this payload.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn with_payload(mut self, payload: &impl Serialize) -> Result<ServiceInstance> {
        self.payload =
            Some(serde_json::to_value(payload).map_err(|error| Error::Invalid(error.to_string()))?);
        Ok(self)
    }

    /// The payload as a type of one's own; `None` when there is none.
    ///
    /// # Errors
    /// When it is of another shape.
    pub fn payload_as<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let payload = self.payload.as_ref().filter(|payload| !payload.is_null());
        let typed = payload.map(T::deserialize).transpose();
        typed.map_err(|error| Error::Invalid(error.to_string()))
    }

    /// Its URI, by its [`UriSpec`]; `None` without one, or with a variable that has no value.
    ///
    /// The variables are Curator's: scheme (`https` when it has a port with TLS, else `http`), name, id, address,
    /// port, ssl-port, registration-time-utc and service-type; `[` and `]` stand for braces.
    pub fn uri(&self) -> Option<String> {
        let mut uri = String::new();
        for part in &self.uri_spec.as_ref()?.parts {
            if !part.variable {
                uri.push_str(&part.value);
                continue;
            }
            let written = match part.value.as_str() {
                "scheme" => uri.write_str(if self.ssl_port.is_some() { "https" } else { "http" }),
                "name" => uri.write_str(&self.name),
                "id" => uri.write_str(&self.id),
                "address" => uri.write_str(self.address.as_deref()?),
                "port" => write!(uri, "{}", self.port?),
                "ssl-port" => write!(uri, "{}", self.ssl_port?),
                "registration-time-utc" => write!(uri, "{}", self.registration_time_utc),
                "service-type" => uri.write_str(match self.service_type {
                    ServiceType::Dynamic => "dynamic",
                    ServiceType::Static => "static",
                    ServiceType::Permanent => "permanent",
                    ServiceType::DynamicSequential => "dynamic_sequential",
                }),
                "[" => uri.write_str("{"),
                "]" => uri.write_str("}"),
                _ => return None,
            };
            written.ok()?;
        }
        Some(uri)
    }

    fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::Invalid(error.to_string()))
    }

    fn from_json(path: &str, data: &[u8]) -> Option<ServiceInstance> {
        serde_json::from_slice(data)
            .inspect_err(|error| tracing::warn!(path, %error, "not an instance of a service"))
            .ok()
    }
}

/// The services below a path.
///
/// **Guarantee.** A registered instance is there while its session lives, and again with the next one; see
/// [`PersistentNode`]. Who looks up sees what a server knows; who uses a [`ServiceCache`] or a [`ServiceProvider`]
/// sees what a [`Cache`] sees, also while there is no connection.
///
/// **Failure.** An instance that died without a word is found until its session has expired: be ready to try
/// another, and say so by [`Picked::failed`](crate::Picked::failed). What is not an instance is left out, with a warning in the log.
///
/// **Layout**: `{base}/{name}/{id}` with JSON, as Curator's x-discovery 5.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oxkeeper_recipes::{Balance, Discovery, ServiceInstance, SessionKeeper};
///
/// let keeper = SessionKeeper::connect("127.0.0.1:2181").await?;
/// let discovery = Discovery::new(&keeper, "/services")?;
/// let registration = discovery.register(ServiceInstance::new("search", "10.0.0.7", 9000))?;
/// registration.registered().await?;
///
/// let provider = discovery.provider("search", Balance::LeastOutstanding)?;
/// provider.ready().await?;
/// if let Some(search) = provider.pick() {
///     println!("ask {:?}:{:?}", search.address, search.port);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Discovery {
    keeper: SessionKeeper,
    base: String,
}

impl Discovery {
    /// The services below `base`; nothing is sent yet.
    ///
    /// # Errors
    /// When it is not a path.
    pub fn new(keeper: &SessionKeeper, base: &str) -> Result<Discovery> {
        check_path(base)?;
        Ok(Discovery {
            keeper: keeper.clone(),
            base: base.to_owned(),
        })
    }

    fn path(&self, name: &str, id: &str) -> Result<String> {
        check_name(name)?;
        check_name(id)?;
        Ok(join(&join(&self.base, name), id))
    }

    /// Begins to register an instance for as long as the registration lives. Another one with its name and id, such
    /// as one that was left by a program that died, is replaced.
    ///
    /// # Errors
    /// When name or id are not the names of znodes, or it is not [`ServiceType::Dynamic`].
    pub fn register(&self, instance: ServiceInstance) -> Result<Registration> {
        if instance.service_type != ServiceType::Dynamic {
            return Err(Error::BadArgument(
                "only a dynamic instance lives as long as its registration",
            ));
        }
        let path = self.path(&instance.name, &instance.id)?;
        let data = instance.to_json()?;
        let node = PersistentNode::taking_over(&self.keeper, &path, data.clone())?;
        let shown = Shown {
            data,
            is_healthy: true,
            setter: node.setter(),
        };
        Ok(Registration {
            keeper: self.keeper.clone(),
            instance,
            node,
            shown: Arc::new(Mutex::new(shown)),
            health: None,
        })
    }

    /// Writes a static or permanent instance, which stays until [`Discovery::remove`].
    ///
    /// # Errors
    /// When name or id are not the names of znodes, or it is dynamic, or the session ends, or the server refuses.
    pub async fn put(&self, instance: &ServiceInstance) -> Result<()> {
        if !matches!(
            instance.service_type,
            ServiceType::Static | ServiceType::Permanent
        ) {
            return Err(Error::BadArgument("a dynamic instance needs a registration"));
        }
        let path = self.path(&instance.name, &instance.id)?;
        let data = instance.to_json()?;
        let session = self.keeper.live_session().await;
        store::put(&session, &path, &data).await.map(drop)
    }

    /// Removes an instance, whoever made it; who has it registered makes it again.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn remove(&self, name: &str, id: &str) -> Result<()> {
        let path = self.path(name, id)?;
        let session = self.keeper.live_session().await;
        match retry(|| session.client().delete(&path, None)).await {
            Ok(()) | Err(ClientError::NoNode) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The names of the services, those without an instance too.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn names(&self) -> Result<Vec<String>> {
        self.children(&self.base).await
    }

    async fn children(&self, path: &str) -> Result<Vec<String>> {
        let session = self.keeper.live_session().await;
        match retry(|| session.client().list_children(path)).await {
            Err(ClientError::NoNode) => Ok(Vec::new()),
            children => {
                let mut children = children?;
                children.sort_unstable();
                Ok(children)
            }
        }
    }

    /// The instances of a service, as a server knows them now, by id.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn instances(&self, name: &str) -> Result<Vec<ServiceInstance>> {
        check_name(name)?;
        let mut instances = Vec::new();
        for id in self.children(&join(&self.base, name)).await? {
            instances.extend(self.instance(name, &id).await?);
        }
        Ok(instances)
    }

    /// An instance, when it is there.
    ///
    /// # Errors
    /// When the session ends or the server refuses.
    pub async fn instance(&self, name: &str, id: &str) -> Result<Option<ServiceInstance>> {
        let path = self.path(name, id)?;
        let session = self.keeper.live_session().await;
        match retry(|| session.client().get_data(&path)).await {
            Ok((data, _)) => Ok(ServiceInstance::from_json(&path, &data)),
            Err(ClientError::NoNode) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Begins to keep the instances of a service at hand.
    ///
    /// # Errors
    /// When it is not the name of a znode.
    pub fn cache(&self, name: &str) -> Result<ServiceCache> {
        check_name(name)?;
        let dir = join(&self.base, name);
        let cache = Arc::new(Cache::new(&self.keeper, &dir, Scope::Children)?);
        let (sender, instances) = watch::channel(None);
        let task = self
            .keeper
            .session()
            .spawn(follow(Arc::clone(&cache), dir, sender));
        Ok(ServiceCache {
            cache,
            instances,
            _task: Task(task.abort_handle()),
        })
    }

    /// Begins to keep the instances of a service at hand, to choose among them.
    ///
    /// # Errors
    /// When it is not the name of a znode.
    pub fn provider(&self, name: &str, balance: Balance) -> Result<ServiceProvider> {
        Ok(ServiceProvider::new(self.cache(name)?, balance))
    }
}

/// An instance that is registered, until this is dropped (in the background) or closed.
#[derive(Debug)]
pub struct Registration {
    keeper: SessionKeeper,
    instance: ServiceInstance,
    node: PersistentNode,
    shown: Arc<Mutex<Shown>>,
    health: Option<Task>,
}

/// What others are to see of an instance.
#[derive(Debug)]
struct Shown {
    data: Vec<u8>,
    is_healthy: bool,
    setter: Setter,
}

impl Shown {
    fn change(shown: &Mutex<Shown>, change: impl FnOnce(&mut Shown)) {
        // Nothing that is done under the lock panics, so it is never poisoned.
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut shown);
        let data = shown.is_healthy.then(|| shown.data.clone());
        shown.setter.set(data);
    }
}

impl Registration {
    /// The instance.
    pub fn instance(&self) -> &ServiceInstance {
        &self.instance
    }

    /// The znode.
    pub fn node(&self) -> &PersistentNode {
        &self.node
    }

    /// Waits until the instance is there for others.
    ///
    /// # Errors
    /// When the server refuses it. (It is tried again all the same.)
    pub async fn registered(&self) -> Result<()> {
        self.node.placed().await.map(drop)
    }

    /// Changes the instance; name, id and type stay. One that is withdrawn comes back changed.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn update(&mut self, change: impl FnOnce(&mut ServiceInstance)) -> Result<()> {
        let mut changed = self.instance.clone();
        change(&mut changed);
        changed.name.clone_from(&self.instance.name);
        changed.id.clone_from(&self.instance.id);
        changed.service_type = self.instance.service_type;
        let data = changed.to_json()?;
        self.instance = changed;
        Shown::change(&self.shown, |shown| shown.data = data);
        Ok(())
    }

    /// Takes the instance away from others, or gives it back to them.
    pub fn set_healthy(&self, is_healthy: bool) {
        Shown::change(&self.shown, |shown| shown.is_healthy = is_healthy);
    }

    /// Withdraws the instance while a check says no, panics, or takes longer than it may; and gives it back after
    /// the next one that says yes. It replaces the check from before, and runs in a task of its own until the
    /// registration ends.
    pub fn watch_health<F>(
        &mut self,
        every: Duration,
        within: Duration,
        check: impl Fn() -> F + Send + 'static,
    ) where
        F: Future<Output = bool> + Send + 'static,
    {
        let shown = Arc::clone(&self.shown);
        let task = self.keeper.session().spawn(async move {
            loop {
                // A panic of the check is a no, as soon as it is called or in its task, which ends with this one.
                let is_healthy = match catch_unwind(AssertUnwindSafe(&check)) {
                    Ok(checking) => {
                        let checking = tokio::spawn(checking);
                        let _check = Task(checking.abort_handle());
                        matches!(tokio::time::timeout(within, checking).await, Ok(Ok(true)))
                    }
                    Err(_) => false,
                };
                Shown::change(&shown, |shown| shown.is_healthy = is_healthy);
                tokio::time::sleep(every).await;
            }
        });
        self.health = Some(Task(task.abort_handle()));
    }

    /// Ends the registration, and waits until it is gone for others.
    ///
    /// # Errors
    /// As [`PersistentNode::close`].
    pub async fn close(mut self) -> Result<()> {
        self.health = None;
        self.node.close().await
    }
}

/// The instances of a service by id.
pub type Instances = BTreeMap<String, Arc<ServiceInstance>>;

/// The instances of a service, kept at hand; see [`Cache`] for what it promises.
#[derive(Debug)]
pub struct ServiceCache {
    cache: Arc<Cache>,
    instances: watch::Receiver<Option<Arc<Instances>>>,
    _task: Task,
}

impl ServiceCache {
    /// Waits until they are known.
    ///
    /// # Errors
    /// When they cannot be followed.
    pub async fn ready(&self) -> Result<()> {
        self.cache.ready().await?;
        let mut instances = self.instances.clone();
        match instances.wait_for(Option::is_some).await {
            Ok(_) => Ok(()),
            Err(_) => Err(ClientError::ClientClosed.into()),
        }
    }

    /// The instances as they are known, those that are not enabled too.
    pub fn instances(&self) -> Arc<Instances> {
        self.instances.borrow().clone().unwrap_or_default()
    }

    /// Waits until the instances are others than these, and gives them.
    ///
    /// # Errors
    /// When they cannot be followed.
    pub async fn instances_other_than(&self, than: &Arc<Instances>) -> Result<Arc<Instances>> {
        let mut instances = self.instances.clone();
        let is_other = |now: &Option<Arc<Instances>>| now.as_ref().is_some_and(|now| now != than);
        match instances.wait_for(is_other).await.as_deref() {
            Ok(Some(instances)) => Ok(Arc::clone(instances)),
            _ => Err(match self.cache.state() {
                CacheState::Failed(error) => error,
                // The runtime ends.
                _ => ClientError::ClientClosed.into(),
            }),
        }
    }

    /// What it stands on, for [`Cache::state`].
    pub fn cache(&self) -> &Cache {
        &self.cache
    }
}

async fn follow(cache: Arc<Cache>, dir: String, sender: watch::Sender<Option<Arc<Instances>>>) {
    let mut updates = cache.updates();
    let mut read: HashMap<String, (i64, Arc<ServiceInstance>)> = HashMap::new();
    while updates.next().await.is_ok() {
        let nodes = cache.children(&dir);
        let mut parse = |node: &Arc<Node>| {
            let known = read
                .remove(node.name())
                .filter(|(mzxid, _)| *mzxid == node.stat.mzxid);
            let instance = match known {
                Some((_, instance)) => instance,
                None => Arc::new(ServiceInstance::from_json(&node.path, &node.data)?),
            };
            Some((node.name().to_owned(), (node.stat.mzxid, instance)))
        };
        read = nodes.iter().filter_map(&mut parse).collect();
        let instances = read
            .iter()
            .map(|(id, (_, instance))| (id.clone(), Arc::clone(instance)));
        sender.send_replace(Some(Arc::new(instances.collect())));
    }
}
