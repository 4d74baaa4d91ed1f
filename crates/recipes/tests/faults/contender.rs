//! Who wants to hold, and what it does in its turn.

use std::cell::Cell;
use std::future::pending;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use oxkeeper_recipes::{
    Error, Hold, InterProcessMultiLock, InterProcessMutex, InterProcessReadWriteLock, InterProcessSemaphore,
    InterProcessSemaphoreMutex, LeaderLatch, LeaderSelector, LossPolicy, MultiGuard, Session, SessionKeeper,
    SimpleLock, attempt_revoke,
};
use oxkeeper_testkit::Proxy;
use zookeeper_client::{Acls, CheckWriter, Client, CreateMode, CreateOptions, Error as ClientError};

use crate::checks::Believed;

const SESSION_TIMEOUT: Duration = Duration::from_millis(1000);
pub(crate) const LOCK_CONTENDERS: usize = 3;
pub(crate) const ELECTION_CONTENDERS: usize = 2;
/// Of the counting semaphore.
const LEASES: usize = 2;
/// Where the guarded writes go: one for each lock that a contender may take, and the election's.
pub(crate) const REGISTERS: [&str; LOCK_CONTENDERS + 1] =
    ["/writes-0", "/writes-1", "/writes-2", "/writes-election"];
const SEQUENTIAL: CreateOptions<'static> = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());

/// What a contender takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipe {
    Mutex,
    SemaphoreMutex,
    ReadWrite,
    Simple,
    Multi,
    Revocable,
    Semaphore,
    Latch,
    Selector,
}

pub(crate) const LOCKS: [Recipe; 7] = [
    Recipe::Mutex,
    Recipe::SemaphoreMutex,
    Recipe::ReadWrite,
    Recipe::Simple,
    Recipe::Multi,
    Recipe::Revocable,
    Recipe::Semaphore,
];
pub(crate) const ELECTIONS: [Recipe; 2] = [Recipe::Latch, Recipe::Selector];

impl Recipe {
    fn is_election(self) -> bool {
        ELECTIONS.contains(&self)
    }

    /// How many may hold at once.
    pub(crate) fn leases(self) -> usize {
        match self {
            Recipe::Semaphore => LEASES,
            _ => 1,
        }
    }
}

/// One that wants to hold; and what the storm can do to it.
pub(crate) struct Contender {
    number: usize,
    pub(crate) recipe: Recipe,
    /// Whether it does not play by the rules, so that the checks have something to find.
    is_rogue: bool,
    policy: LossPolicy,
    pub(crate) proxy: Proxy,
    pub(crate) session: AtomicI64,
    pub(crate) pause_ms: AtomicU64,
    pub(crate) is_over: AtomicBool,
    pub(crate) turns: AtomicUsize,
    /// How many guarded writes it heard were done.
    pub(crate) acknowledged: AtomicUsize,
    pub(crate) believed: Mutex<Vec<Believed>>,
}

impl Contender {
    pub(crate) fn new(
        number: usize,
        recipe: Recipe,
        is_rogue: bool,
        policy: LossPolicy,
        proxy: Proxy,
    ) -> Contender {
        Contender {
            number,
            recipe,
            is_rogue,
            policy,
            proxy,
            session: AtomicI64::new(0),
            pause_ms: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            turns: AtomicUsize::new(0),
            acknowledged: AtomicUsize::new(0),
            believed: Mutex::default(),
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Where the lock or election is. A rogue locks where nobody else does; with a semaphore or a revocable lock it
    /// breaks the rules in another way.
    fn dir(&self) -> &'static str {
        match self.is_rogue && ![Recipe::Semaphore, Recipe::Revocable].contains(&self.recipe) {
            true => "/elsewhere",
            false if self.recipe.is_election() => "/election",
            false => "/lock",
        }
    }

    /// Which registers it writes to in its turn, in order.
    pub(crate) fn registers(&self) -> Vec<usize> {
        let mut registers = match self.recipe {
            Recipe::Multi => vec![self.number, (self.number + 1) % LOCK_CONTENDERS],
            recipe if recipe.is_election() => vec![LOCK_CONTENDERS],
            _ => vec![0],
        };
        registers.sort_unstable();
        registers
    }

    pub(crate) async fn run(&self) {
        let connector = Client::connector().with_session_timeout(SESSION_TIMEOUT);
        let cluster = self.proxy.connect_string();
        let policy = self.policy;
        let keeper = loop {
            let adapt = move |session: Session| session.with_policy(policy);
            // The storm may keep it from its first session for a while.
            if let Ok(keeper) = SessionKeeper::with(connector.clone(), &cluster, adapt).await {
                break keeper;
            }
        };
        while !self.is_over() {
            let session = keeper.live_session().await;
            let patience = Duration::from_millis(fastrand::u64(1..500));
            let turn = match self.recipe {
                Recipe::Latch => self.latch_turn(&keeper, patience).await,
                Recipe::Selector => self.selector_turn(&keeper, patience).await,
                _ => self.lock_turn(&session, patience).await,
            };
            match turn {
                Ok(true) => drop(self.turns.fetch_add(1, Ordering::Relaxed)),
                Ok(false) | Err(Error::Revoked(_) | Error::Client(ClientError::ConnectionLoss)) => {}
                Err(error) if error.is_session_over() => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Whether it had its turn.
    async fn lock_turn(&self, session: &Session, patience: Duration) -> Result<bool, Error> {
        match self.recipe {
            Recipe::Mutex => {
                let mut mutex = InterProcessMutex::new(session, self.dir())?;
                let Some(guard) = mutex.acquire_within(patience).await? else {
                    return Ok(false);
                };
                // Its owner may have it again.
                let again = mutex.acquire().await?;
                drop(guard);
                self.hold(Held::Alone(&again)).await?;
            }
            Recipe::SemaphoreMutex => {
                let mutex = InterProcessSemaphoreMutex::new(session, self.dir())?;
                let Some(guard) = mutex.acquire_within(patience).await? else {
                    return Ok(false);
                };
                self.hold(Held::Alone(&guard)).await?;
            }
            Recipe::Semaphore => {
                let leases = LEASES + usize::from(self.is_rogue);
                let semaphore = InterProcessSemaphore::new(session, self.dir(), leases)?;
                let Some(lease) = semaphore.acquire_within(patience).await? else {
                    return Ok(false);
                };
                self.hold(Held::Alone(&lease)).await?;
            }
            Recipe::Simple => {
                let lock = SimpleLock::new(session, self.dir())?;
                let Some(guard) = lock.acquire_within(patience).await? else {
                    return Ok(false);
                };
                self.hold(Held::Alone(&guard)).await?;
            }
            Recipe::ReadWrite => {
                let mut lock = InterProcessReadWriteLock::new(session, self.dir())?;
                if fastrand::bool() {
                    let Some(guard) = lock.read_within(patience).await? else {
                        return Ok(false);
                    };
                    self.hold(Held::Shared(&guard)).await?;
                } else {
                    let Some(guard) = lock.write_within(patience).await? else {
                        return Ok(false);
                    };
                    self.hold(Held::Alone(&guard)).await?;
                    // A reader keeps the writer's place, and its token: nobody can have written between.
                    self.hold(Held::Shared(&*lock.downgrade(guard).await?)).await?;
                }
            }
            Recipe::Multi => {
                let paths = self.registers().into_iter();
                let paths = paths.map(|register| format!("{}/{register}", self.dir()));
                let mut lock = InterProcessMultiLock::new(session, paths)?;
                let Some(guard) = lock.acquire_within(patience).await? else {
                    return Ok(false);
                };
                self.hold(Held::All(&guard)).await?;
            }
            Recipe::Revocable => {
                let mut mutex = InterProcessMutex::new(session, self.dir())?;
                let Some(guard) = mutex.acquire_within(patience).await? else {
                    if let Some(holder) = mutex.participants().await?.first() {
                        attempt_revoke(session, holder).await?;
                    }
                    return Ok(false);
                };
                tokio::select! {
                    () = guard.asked_to_let_go(), if !self.is_rogue => {}
                    held = self.hold_on(&guard) => held?,
                }
            }
            Recipe::Latch | Recipe::Selector => unreachable!("no locks"),
        }
        Ok(true)
    }

    async fn latch_turn(&self, keeper: &SessionKeeper, patience: Duration) -> Result<bool, Error> {
        let latch = LeaderLatch::start(keeper, self.dir(), &self.number.to_string())?;
        let mut has_led = false;
        // The latch leads again after a loss; dropped, it leaves.
        for _ in 0..2 {
            if let Ok(led) = tokio::time::timeout(patience, latch.wait_for_leadership()).await {
                self.hold(Held::Alone(&*led?)).await?;
                has_led = true;
            }
        }
        Ok(has_led)
    }

    async fn selector_turn(&self, keeper: &SessionKeeper, patience: Duration) -> Result<bool, Error> {
        let selector = LeaderSelector::new(keeper, self.dir(), &self.number.to_string())?;
        let has_led = Cell::new(false);
        // The term begins anew when the leadership was lost in its midst.
        let term = selector.lead(|leadership| {
            has_led.set(true);
            async move { self.hold(Held::Alone(&leadership)).await }
        });
        let gives_up = async {
            tokio::time::sleep(patience).await;
            // In the midst of a term too, sometimes.
            if has_led.get() && fastrand::bool() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            term = term => term??,
            () = gives_up => {}
        }
        Ok(has_led.get())
    }

    /// Holds until it is held no longer, or all is over.
    async fn hold_on(&self, hold: &Hold) -> Result<(), Error> {
        while hold.is_held() && !self.is_over() {
            self.hold(Held::Alone(hold)).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Holds for a while: guarded writes, and looks whether it holds.
    async fn hold(&self, held: Held<'_>) -> Result<(), Error> {
        let mut belief = Belief::new(self, held.is_shared());
        self.session.store(held.session().id().0, Ordering::Relaxed);
        for _ in 0..fastrand::usize(1..6) {
            let before = Instant::now();
            if !held.is_held() {
                break;
            }
            belief.span.to = before;
            let pause = self.pause_ms.swap(0, Ordering::SeqCst);
            // The whole thread stands still, with the client and all tasks.
            thread::sleep(Duration::from_millis(pause));
            match held.write(self).await {
                Ok(()) => drop(self.acknowledged.fetch_add(1, Ordering::Relaxed)),
                Err(Error::Revoked(_)) => break,
                Err(Error::Client(ClientError::ConnectionLoss)) => {}
                Err(error) => return Err(error),
            }
            if fastrand::u8(..) < 64 {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..30))).await;
            }
        }
        Ok(())
    }
}

/// What a contender has in its turn.
#[derive(Clone, Copy)]
enum Held<'a> {
    Alone(&'a Hold),
    Shared(&'a Hold),
    All(&'a MultiGuard),
}

impl Held<'_> {
    fn is_shared(self) -> bool {
        matches!(self, Held::Shared(_))
    }

    fn session(&self) -> &Session {
        match self {
            Held::Alone(hold) | Held::Shared(hold) => hold.session(),
            Held::All(guard) => guard.guards()[0].session(),
        }
    }

    fn is_held(self) -> bool {
        match self {
            Held::Alone(hold) | Held::Shared(hold) => hold.is_held(),
            Held::All(guard) => guard.is_held(),
        }
    }

    /// A guarded write to each register, in one transaction.
    async fn write(self, contender: &Contender) -> Result<(), Error> {
        let kind = match self.is_shared() {
            true => "shared",
            false => "alone",
        };
        let registers = contender.registers();
        let add = |transaction: &mut CheckWriter<'_>, hold: &Hold, register: usize| {
            let (register, token) = (REGISTERS[register], hold.fencing_token().0);
            let name = format!("{register}/{token}-{}-{kind}-", contender.number);
            transaction.add_create(&name, b"", &SEQUENTIAL)
        };
        let written = match self {
            Held::Alone(hold) | Held::Shared(hold) => {
                hold.write(|transaction| add(transaction, hold, registers[0]))
                    .await
            }
            Held::All(guard) => {
                let write = guard.write(|transaction| {
                    let mut all = guard.guards().iter().zip(registers);
                    all.try_for_each(|(hold, register)| add(transaction, hold, register))
                });
                write.await
            }
        };
        written.map(drop)
    }
}

/// Tells what it believed, even when it is dropped in its midst.
struct Belief<'a> {
    contender: &'a Contender,
    span: Believed,
}

impl Belief<'_> {
    fn new(contender: &Contender, is_shared: bool) -> Belief<'_> {
        let now = Instant::now();
        let span = Believed {
            from: now,
            to: now,
            contender: contender.number,
            is_shared,
        };
        Belief { contender, span }
    }
}

impl Drop for Belief<'_> {
    fn drop(&mut self) {
        self.contender.believed.lock().unwrap().push(self.span);
    }
}
