//! Locks and elections. Under each of them some count in turns by reading and writing, so that two who are in at
//! once lose a count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oxkeeper_recipes::{
    Error, Hold, InterProcessMultiLock, InterProcessMutex, InterProcessReadWriteLock, InterProcessSemaphore,
    InterProcessSemaphoreMutex, LeaderLatch, LeaderSelector, Lease, MultiGuard, MutexGuard, Result, Revoked,
    Session, SessionKeeper, SimpleGuard, SimpleLock, WriteGuard, attempt_revoke,
};
use uuid::Uuid;
use zookeeper_client::{Acls, CreateMode, Error as ClientError};

use super::{Stage, Turn, Workers, is_connection_loss, steady};
use crate::support::{PERSISTENT, children, eventually, within};

/// How long somebody is waited for who must not come.
const NOT_SOON: Duration = Duration::from_millis(100);

/// Creates a number to be counted up.
async fn register(session: &Session, path: &str) {
    session.client().create(path, b"0", &PERSISTENT).await.unwrap();
}

async fn read(session: &Session, path: &str) -> u64 {
    let (data, _) = steady(|| session.client().get_data(path)).await.unwrap();
    str::from_utf8(&data).unwrap().parse().unwrap()
}

/// Counts one while it is held: a read, and a guarded write of what follows from it.
async fn count(hold: &Hold, path: &str) -> Turn {
    let next = (read(hold.session(), path).await + 1).to_string();
    let written = hold.write(|transaction| transaction.add_set_data(path, next.as_bytes(), None));
    match written.await {
        Ok(_) => Turn::Done,
        Err(Error::Revoked(_)) => Turn::Missed,
        Err(error) if is_connection_loss(&error) => Turn::Unknown,
        Err(error) => panic!("{error}"),
    }
}

/// The locks of one holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    Mutex,
    SemaphoreMutex,
    Write,
    Multi,
    Simple,
}

enum Guard {
    Mutex(MutexGuard),
    SemaphoreMutex(Lease),
    Write(WriteGuard),
    Multi(MultiGuard),
    Simple(SimpleGuard),
}

impl Lock {
    async fn acquire(self, session: &Session, path: &str) -> Result<Guard> {
        Ok(match self {
            Lock::Mutex => Guard::Mutex(InterProcessMutex::new(session, path)?.acquire().await?),
            Lock::SemaphoreMutex => {
                Guard::SemaphoreMutex(InterProcessSemaphoreMutex::new(session, path)?.acquire().await?)
            }
            Lock::Write => Guard::Write(InterProcessReadWriteLock::new(session, path)?.write().await?),
            Lock::Multi => {
                let paths = ["a", "b"].map(|part| format!("{path}-{part}"));
                Guard::Multi(InterProcessMultiLock::new(session, paths)?.acquire().await?)
            }
            Lock::Simple => Guard::Simple(SimpleLock::new(session, path)?.acquire().await?),
        })
    }
}

impl Guard {
    fn hold(&self) -> &Hold {
        match self {
            Guard::Mutex(guard) => guard,
            Guard::SemaphoreMutex(guard) => guard,
            Guard::Write(guard) => guard,
            Guard::Multi(guard) => &guard.guards()[0],
            Guard::Simple(guard) => guard,
        }
    }

    async fn release(self) {
        let released = async {
            match self {
                Guard::Mutex(guard) => guard.release().await,
                Guard::SemaphoreMutex(guard) => guard.release().await,
                Guard::Write(guard) => guard.release().await,
                Guard::Multi(guard) => guard.release().await,
                Guard::Simple(guard) => guard.release().await,
            }
        };
        within("it lets go", released).await.unwrap();
    }
}

/// What every lock of one holder promises.
async fn exclude(stage: &Stage, lock: Lock) {
    let observer = stage.session().await;
    let counted = stage.path("counted");
    register(&observer, &counted).await;
    let path = stage.path("contended");
    let turn = {
        let (path, counted) = (path.clone(), counted.clone());
        move |keeper: SessionKeeper| {
            let (path, counted) = (path.clone(), counted.clone());
            async move {
                let guard = match lock.acquire(&keeper.session(), &path).await {
                    // One of several was revoked while it waited for the next.
                    Err(Error::Revoked(_)) if lock == Lock::Multi => return Turn::Missed,
                    acquired => acquired.unwrap(),
                };
                let turn = count(guard.hold(), &counted).await;
                guard.release().await;
                turn
            }
        }
    };
    let workers = Workers::start(stage, 3, turn).await;
    let go_on = async || match lock {
        // It knows no order: who is next to the leader may have it again and again.
        Lock::Simple => workers.some_go_on().await,
        Lock::Mutex | Lock::SemaphoreMutex | Lock::Write | Lock::Multi => workers.each_goes_on().await,
    };

    // Held over the death: by one whom a suspension does not trouble, and by one who is to hear of it.
    let (patient, cautious) = (stage.patient_session().await, stage.session().await);
    let path_of = |name: &str| stage.path(name);
    let kept = lock.acquire(&patient, &path_of("kept")).await.unwrap();
    let lost = lock.acquire(&cautious, &path_of("lost")).await.unwrap();
    let (second, third) = (stage.patient_session().await, stage.patient_session().await);
    let wait = |session: Session, name: &str| {
        let path = path_of(name);
        tokio::spawn(async move { lock.acquire(&session, &path).await.unwrap() })
    };
    let (behind_kept, behind_lost) = (wait(second, "kept"), wait(third, "lost"));
    go_on().await;
    stage.leader_dies().await;
    assert_eq!(
        within("it is revoked", lost.hold().revoked()).await,
        Revoked::Suspended
    );
    let refused = lost.hold().write(|write| write.add_set_data(&counted, b"", None));
    assert!(matches!(refused.await, Err(Error::Revoked(_))));
    go_on().await;
    assert!(kept.hold().is_held(), "{:?}", kept.hold().check());
    assert!(
        !behind_kept.is_finished() && !behind_lost.is_finished(),
        "two hold it"
    );
    let guarded = path_of("guarded");
    let written = async {
        loop {
            let write = kept
                .hold()
                .write(|write| write.add_create(&guarded, b"", &PERSISTENT));
            match write.await {
                Ok(_) | Err(Error::Client(ClientError::NodeExists)) => break,
                Err(error) => assert!(is_connection_loss(&error), "{error}"),
            }
        }
    };
    within("a guarded write", written).await;
    for (guard, waiting) in [(kept, behind_kept), (lost, behind_lost)] {
        let token = guard.hold().fencing_token();
        guard.release().await;
        let next = within("its turn comes", waiting).await.unwrap();
        assert!(next.hold().fencing_token() > token);
        next.release().await;
    }
    stage.leader_returns().await;
    go_on().await;
    let done = workers.end().await;
    let found = read(&observer, &counted).await;
    assert!(done.contains(&found), "{found} of {done:?}");
    let dirs = match lock {
        Lock::Multi => vec![format!("{path}-a"), format!("{path}-b")],
        Lock::SemaphoreMutex => vec![format!("{path}/locks"), format!("{path}/leases")],
        Lock::Mutex | Lock::Write | Lock::Simple => vec![path],
    };
    for dir in dirs {
        eventually("nothing stays", async || {
            children(&observer, &dir).await.is_empty()
        })
        .await;
    }
}

pub async fn mutex(stage: &Stage) {
    let (session, other) = (stage.patient_session().await, stage.patient_session().await);
    let path = stage.path("re-entered");
    let mut owner = InterProcessMutex::new(&session, &path).unwrap();
    let outer = owner.acquire().await.unwrap();
    let inner = owner.acquire().await.unwrap();
    let waiting = tokio::spawn(async move { Lock::Mutex.acquire(&other, &path).await.unwrap() });
    exclude(stage, Lock::Mutex).await;
    let again = within("its owner comes in again", owner.acquire()).await.unwrap();
    let token = outer.fencing_token();
    assert_eq!([inner.fencing_token(), again.fencing_token()], [token; 2]);
    for guard in [again, outer] {
        within("it lets go", guard.release()).await.unwrap();
    }
    assert!(inner.is_held() && !waiting.is_finished());
    within("it lets go", inner.release()).await.unwrap();
    let next = within("its turn comes", waiting).await.unwrap();
    assert!(next.hold().fencing_token() > token);
}

pub async fn semaphore_mutex(stage: &Stage) {
    let session = stage.patient_session().await;
    let mutex = InterProcessSemaphoreMutex::new(&session, &stage.path("not-re-entered")).unwrap();
    let guard = mutex.acquire().await.unwrap();
    exclude(stage, Lock::SemaphoreMutex).await;
    assert!(guard.is_held() && mutex.acquire_within(NOT_SOON).await.unwrap().is_none());
    within("it lets go", guard.release()).await.unwrap();
    within("it is free", mutex.acquire()).await.unwrap();
}

pub async fn simple_lock(stage: &Stage) {
    exclude(stage, Lock::Simple).await;
}

pub async fn multi_lock(stage: &Stage) {
    let (session, other) = (stage.patient_session().await, stage.patient_session().await);
    let path = stage.path("all");
    let Guard::Multi(all) = Lock::Multi.acquire(&session, &path).await.unwrap() else {
        unreachable!()
    };
    let waiting = tokio::spawn(async move {
        let single = format!("{path}-b");
        Lock::Mutex.acquire(&other, &single).await.unwrap()
    });
    exclude(stage, Lock::Multi).await;
    assert!(all.is_held() && !waiting.is_finished(), "each of them excludes");
    within("they let go", all.release()).await.unwrap();
    within("its turn comes", waiting).await.unwrap().release().await;
}

pub async fn read_write_lock(stage: &Stage) {
    let path = stage.path("read");
    let mut readers = Vec::new();
    for _ in 0..2 {
        let session = stage.patient_session().await;
        let mut lock = InterProcessReadWriteLock::new(&session, &path).unwrap();
        let guard = within("readers are in together", lock.read()).await.unwrap();
        readers.push((lock, guard));
    }
    let session = stage.patient_session().await;
    let writing = tokio::spawn({
        let (session, path) = (session.clone(), path.clone());
        async move {
            let mut lock = InterProcessReadWriteLock::new(&session, &path).unwrap();
            let guard = lock.write().await.unwrap();
            (lock, guard)
        }
    });
    exclude(stage, Lock::Write).await;
    for (lock, guard) in &mut readers {
        assert!(guard.is_held() && !writing.is_finished());
        assert_eq!(lock.write().await.unwrap_err(), Error::UpgradeRefused);
    }
    for (_, guard) in readers {
        assert!(!writing.is_finished());
        within("it lets go", guard.release()).await.unwrap();
    }
    let (mut lock, guard) = within("the writer's turn comes", writing).await.unwrap();
    let mut other = InterProcessReadWriteLock::new(&session, &path).unwrap();
    assert!(other.read_within(NOT_SOON).await.unwrap().is_none());
    let reading = within("it only reads now", lock.downgrade(guard)).await.unwrap();
    within("others read too", other.read()).await.unwrap();
    assert!(reading.is_held());
}

pub async fn semaphore(stage: &Stage) {
    const LEASES: usize = 2;
    let observer = stage.session().await;
    let inside = stage.path("inside");
    observer.client().create(&inside, b"", &PERSISTENT).await.unwrap();
    let path = stage.path("contended");
    let turn = {
        let path = path.clone();
        move |keeper: SessionKeeper| {
            let (path, inside) = (path.clone(), inside.clone());
            async move {
                let session = keeper.session();
                let semaphore = InterProcessSemaphore::new(&session, &path, LEASES).unwrap();
                let lease = semaphore.acquire().await.unwrap();
                let turn = be_inside(&lease, &inside, LEASES).await;
                lease.release().await.unwrap();
                turn
            }
        }
    };
    let workers = Workers::start(stage, 3, turn).await;
    let patient = stage.patient_session().await;
    let semaphore = InterProcessSemaphore::new(&patient, &stage.path("kept"), LEASES).unwrap();
    let mut leases = within("all leases", semaphore.acquire_many(LEASES))
        .await
        .unwrap();
    let waiting = tokio::spawn({
        let (session, path) = (stage.patient_session().await, stage.path("kept"));
        async move {
            let semaphore = InterProcessSemaphore::new(&session, &path, LEASES).unwrap();
            semaphore.acquire().await.unwrap()
        }
    });
    workers.each_goes_on().await;
    stage.leader_dies().await;
    workers.each_goes_on().await;
    assert!(leases.iter().all(|lease| lease.is_held()) && !waiting.is_finished());
    within("one lets go", leases.remove(0).release()).await.unwrap();
    let next = within("its turn comes", waiting).await.unwrap();
    assert!(next.is_held() && leases[0].is_held());
    assert!(semaphore.acquire_within(NOT_SOON).await.unwrap().is_none());
    stage.leader_returns().await;
    workers.each_goes_on().await;
    workers.end().await;
    let leases = format!("{path}/leases");
    eventually("nothing stays", async || {
        children(&observer, &leases).await.is_empty()
    })
    .await;
}

/// Leaves a znode in a directory as long as it holds a lease, and looks how many there are.
async fn be_inside(lease: &Lease, dir: &str, most: usize) -> Turn {
    let session = lease.session();
    let own = format!("{dir}/{}", Uuid::new_v4());
    let options = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    let turn = match lease.write(|write| write.add_create(&own, b"", &options)).await {
        Ok(_) => Turn::Done,
        Err(Error::Revoked(_)) => return Turn::Missed,
        Err(error) if is_connection_loss(&error) => Turn::Unknown,
        Err(error) => panic!("{error}"),
    };
    let inside = children(session, dir).await;
    assert!(inside.len() <= most, "{inside:?}");
    // What is perhaps on its way from the server of the last connection is done or refused then.
    let deleted = steady(|| async {
        session.client().sync(&own).await?;
        session.client().delete(&own, None).await
    });
    match deleted.await {
        Ok(()) | Err(ClientError::NoNode) => turn,
        Err(error) => panic!("{error}"),
    }
}

pub async fn revocable_lock(stage: &Stage) {
    let observer = stage.session().await;
    let mut held = Vec::new();
    for name in ["asked-before", "asked-meanwhile", "asked-after"] {
        let (session, path) = (stage.patient_session().await, stage.path(name));
        let guard = Lock::Mutex.acquire(&session, &path).await.unwrap();
        let other = stage.session().await;
        let waiting = tokio::spawn({
            let path = path.clone();
            async move { Lock::Mutex.acquire(&other, &path).await }
        });
        held.push((path, guard, waiting));
    }
    let ask = async |number: usize| {
        let mutex = InterProcessMutex::new(&observer, &held[number].0).unwrap();
        let participants = within("who takes part", mutex.participants()).await.unwrap();
        attempt_revoke(&observer, &participants[0]).await.unwrap();
    };
    within("it is asked", ask(0)).await;
    within("it hears", held[0].1.hold().asked_to_let_go()).await;
    tokio::join!(stage.leader_dies(), ask(1));
    within("it is asked", ask(2)).await;
    for (_, guard, waiting) in held {
        within("it hears", guard.hold().asked_to_let_go()).await;
        assert!(guard.hold().is_held() && !waiting.is_finished(), "only asked");
        guard.release().await;
        within("its turn comes", waiting)
            .await
            .unwrap()
            .unwrap()
            .release()
            .await;
    }
    stage.leader_returns().await;
}

pub async fn latch(stage: &Stage) {
    let observer = stage.session().await;
    let counted = stage.path("counted");
    register(&observer, &counted).await;
    let turn = {
        let (path, counted) = (stage.path("contended"), counted.clone());
        move |keeper: SessionKeeper| {
            let (path, counted) = (path.clone(), counted.clone());
            async move {
                let latch = LeaderLatch::start(&keeper, &path, "it").unwrap();
                let led = latch.run_while_leader(|hold| async move { count(&hold, &counted).await });
                let turn = match led.await {
                    Ok(turn) => turn,
                    // In the midst of a count.
                    Err(Error::Revoked(_)) => Turn::Unknown,
                    Err(error) => panic!("{error}"),
                };
                latch.close().await.unwrap();
                turn
            }
        }
    };
    let workers = Workers::start(stage, 2, turn).await;

    let mut latches = Vec::new();
    for name in ["a", "b", "c"] {
        let latch = LeaderLatch::start(&stage.keeper().await, &stage.path("steady"), name).unwrap();
        if latches.is_empty() {
            within("it leads", latch.wait_for_leadership()).await.unwrap();
        }
        latches.push(latch);
    }
    eventually("they take part", async || {
        latches[0].participants().await.is_ok_and(|all| all.len() == 3)
    })
    .await;
    let mut listener = latches[0].listen();
    let first = latches[0].leadership().unwrap();
    let mut token = first.fencing_token();
    workers.each_goes_on().await;
    stage.leader_dies().await;
    assert_eq!(within("it is revoked", first.revoked()).await, Revoked::Suspended);
    let lost = async { while listener.changed().await.is_some() {} };
    within("the listener hears of it", lost).await;
    workers.each_goes_on().await;
    assert!(
        latches.iter().all(|latch| !latch.is_leader()),
        "the leadership is not let go of yet"
    );
    drop(first);
    for round in (0..latches.len()).rev() {
        let mut leader = None;
        eventually("one leads", async || {
            let leads = |latch: &LeaderLatch| latch.leadership().map(|hold| hold.fencing_token());
            let leaders: Vec<_> = latches.iter().map(leads).collect();
            assert!(leaders.iter().flatten().count() <= 1, "{leaders:?}");
            leader = (0..).zip(leaders).find_map(|(index, led)| Some((index, led?)));
            leader.is_some_and(|(_, led)| led > token)
        })
        .await;
        let (index, led) = leader.unwrap();
        let leader = latches.remove(index);
        token = led;
        if round == 1 {
            stage.leader_returns().await;
        }
        within("it leaves", leader.close()).await.unwrap();
    }
    workers.each_goes_on().await;
    let done = workers.end().await;
    let found = read(&observer, &counted).await;
    assert!(done.contains(&found), "{found} of {done:?}");
}

pub async fn selector(stage: &Stage) {
    let observer = stage.session().await;
    let counted = stage.path("counted");
    register(&observer, &counted).await;
    let unknown = Arc::new(AtomicUsize::new(0));
    let turn = {
        let (path, counted, unknown) = (stage.path("contended"), counted.clone(), Arc::clone(&unknown));
        move |keeper: SessionKeeper| {
            let (path, counted, unknown) = (path.clone(), counted.clone(), Arc::clone(&unknown));
            async move {
                let selector = LeaderSelector::new(&keeper, &path, "it").unwrap();
                // Begun anew when its leadership was lost in the midst of a count.
                let led = selector.lead(|hold| {
                    let (counted, unknown) = (counted.clone(), Arc::clone(&unknown));
                    async move {
                        unknown.fetch_add(1, Ordering::Relaxed);
                        let turn = count(&hold, &counted).await;
                        unknown.fetch_sub(1, Ordering::Relaxed);
                        turn
                    }
                });
                led.await.unwrap()
            }
        }
    };
    let workers = Workers::start(stage, 3, turn).await;

    let (begun, mut terms) = tokio::sync::mpsc::unbounded_channel();
    let (may_end, ends) = tokio::sync::watch::channel(false);
    let selector = LeaderSelector::new(&stage.keeper().await, &stage.path("interrupted"), "it").unwrap();
    let mut listener = selector.listen();
    let leading = tokio::spawn(async move {
        let lead = selector.lead(|hold| {
            begun.send(hold.fencing_token()).unwrap();
            let mut ends = ends.clone();
            async move { ends.wait_for(|ends| *ends).await.map(drop) }
        });
        lead.await.unwrap()
    });
    let first = within("a term", terms.recv()).await.unwrap();
    workers.each_goes_on().await;
    stage.leader_dies().await;
    let second = within("another term", terms.recv()).await.unwrap();
    assert!(second > first && !leading.is_finished());
    workers.each_goes_on().await;
    stage.leader_returns().await;
    may_end.send_replace(true);
    within("the term ends", leading).await.unwrap().unwrap();
    let ended = async { while listener.changed().await.is_some() {} };
    within("the listener hears of it", ended).await;
    workers.each_goes_on().await;
    let done = workers.end().await;
    let found = read(&observer, &counted).await;
    let more = unknown.load(Ordering::Relaxed) as u64;
    assert!(
        found >= *done.start() && found <= done.end() + more,
        "{found} of {done:?} and {more}"
    );
}
