//! The mutex and what it stands on, with faults between client and server.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use oxkeeper_recipes::{
    ConnectionState, Error, InterProcessMutex, LossPolicy, MutexGuard, Revoked, Session, SessionKeeper,
    SimpleLock,
};
use oxkeeper_testkit::OpCode;
use support::{Break, PERSISTENT, Proxy, Server, children, eventually, session_at, within};
use tokio::runtime::{Builder, Runtime};
use zookeeper_client::Client;

/// The lock, held by an owner of its own.
async fn locked(session: &Session, path: &str) -> MutexGuard {
    let mut owner = InterProcessMutex::new(session, path).unwrap();
    within("the lock", owner.acquire()).await.unwrap()
}

/// Whether somebody has to wait for the lock.
async fn is_taken(mutex: &mut InterProcessMutex) -> bool {
    let acquired = mutex.acquire_within(Duration::from_millis(50)).await;
    acquired.unwrap().is_none()
}

#[tokio::test]
async fn a_mutex_passes_from_one_to_the_next_in_order() {
    let server = Server::start();
    let (one, two) = (server.session().await, server.session().await);
    let mut first = InterProcessMutex::new(&one, "/locks/job").unwrap();
    let mut second = InterProcessMutex::new(&two, "/locks/job").unwrap();
    let held = within("the first", first.acquire()).await.unwrap();
    assert!(held.is_held());
    let token = held.fencing_token();
    assert!(is_taken(&mut second).await);
    eventually("who gave up has left the queue", async || {
        children(&one, "/locks/job").await.len() == 1
    })
    .await;
    let waiting = tokio::spawn(async move { second.acquire().await });
    eventually("the second waits", async || {
        children(&one, "/locks/job").await.len() == 2
    })
    .await;
    held.release().await.unwrap();
    let held = within("the second", waiting).await.unwrap().unwrap();
    assert!(held.fencing_token() > token);
    drop(held);
    eventually("a dropped guard deletes its znode", async || {
        children(&one, "/locks/job").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn its_owner_takes_a_mutex_again_and_others_wait_for_the_last_guard() {
    let server = Server::start();
    let session = server.session().await;
    let mut mutex = InterProcessMutex::new(&session, "/m").unwrap();
    let mut other = InterProcessMutex::new(&session, "/m").unwrap();
    let outer = mutex.acquire().await.unwrap();
    let inner = mutex.acquire().await.unwrap();
    assert_eq!(outer.path(), inner.path());
    outer.release().await.unwrap();
    assert!(is_taken(&mut other).await);
    inner.release().await.unwrap();
    within("the other owner", other.acquire()).await.unwrap();
}

#[tokio::test]
async fn a_create_whose_reply_was_lost_makes_one_znode() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let direct = server.session().await;
    for lost in [Break::Reply(OpCode::Create2), Break::Request(OpCode::Create2)] {
        let session = proxy.session(Duration::from_secs(10)).await;
        let mut mutex = InterProcessMutex::new(&session, "/m").unwrap();
        within("the directory is there", mutex.acquire())
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
        let broken = proxy.break_next(lost);
        let held = within("the lock", mutex.acquire()).await.unwrap();
        assert_eq!(broken.count(), 1);
        assert!(held.is_held());
        assert_eq!(children(&direct, "/m").await.len(), 1);
        held.release().await.unwrap();
        assert!(children(&direct, "/m").await.is_empty());
    }
}

#[tokio::test]
async fn a_release_goes_on_through_lost_connections() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let direct = server.session().await;
    let session = proxy.session(Duration::from_secs(10)).await;
    let mut mutex = InterProcessMutex::new(&session, "/m").unwrap();
    for lost in [Break::Reply(OpCode::Delete), Break::Request(OpCode::Delete)] {
        let held = within("the lock", mutex.acquire()).await.unwrap();
        proxy.break_next(lost);
        within("the release", held.release()).await.unwrap();
        assert!(children(&direct, "/m").await.is_empty());
    }
    let held = within("the lock", mutex.acquire()).await.unwrap();
    proxy.cut();
    assert_eq!(
        within("the cut is seen", held.revoked()).await,
        Revoked::Suspended
    );
    drop(held);
    proxy.heal();
    eventually("the znode is deleted later", async || {
        children(&direct, "/m").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_suspended_session_is_lost_one_timeout_after_its_last_contact() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let timeout = Duration::from_secs(5);
    let session = proxy.session(timeout).await;
    within("connected", session.connected()).await.unwrap();
    // Nothing comes any more, and nothing tells: the client notices long after the last contact.
    proxy.stall();
    let state = within(
        "the silence",
        session.state_other_than(ConnectionState::Connected),
    )
    .await;
    assert_eq!(state, ConnectionState::Suspended);
    let contact = session.last_contact();
    assert!(contact.elapsed() >= timeout / 4, "{:?}", contact.elapsed());
    let state = within("the loss", session.state_other_than(ConnectionState::Suspended)).await;
    assert_eq!(state, ConnectionState::Lost);
    let silence = contact.elapsed();
    assert!(silence >= timeout && silence < timeout * 5 / 4, "{silence:?}");
}

#[tokio::test]
async fn an_acquire_that_is_dropped_leaves_nothing_behind_wherever_it_stands() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let direct = server.session().await;
    let mut holder = InterProcessMutex::new(&direct, "/m").unwrap();
    let held = holder.acquire().await.unwrap();
    eventually("the holder watches its znode", async || server.watches() == 1).await;
    let session = proxy.session(Duration::from_secs(10)).await;
    // Before the create arrives, while its reply is on the way, with the reply lost, while it waits.
    for micros in (0..60).map(|n| n * 150) {
        let mut mutex = InterProcessMutex::new(&session, "/m").unwrap();
        if micros % 20 == 0 {
            proxy.break_next(Break::Reply(OpCode::Create2));
        }
        assert!(
            mutex
                .acquire_within(Duration::from_micros(micros))
                .await
                .unwrap()
                .is_none()
        );
    }
    proxy.stall();
    let mut mutex = InterProcessMutex::new(&session, "/m").unwrap();
    assert!(is_taken(&mut mutex).await);
    proxy.heal();
    // What comes after it on the same session has seen all that was in flight.
    within("in step again", session.client().sync("/m")).await.ok();
    eventually("only the holder is left", async || {
        children(&direct, "/m").await.len() == 1
    })
    .await;
    eventually("no watch is left", async || server.watches() == 1).await;
    held.release().await.unwrap();
}

#[tokio::test]
async fn who_waited_and_gave_up_leaves_no_watch() {
    let server = Server::start();
    let (one, two) = (server.session().await, server.session().await);
    let mut holder = InterProcessMutex::new(&one, "/m").unwrap();
    let held = holder.acquire().await.unwrap();
    eventually("the holder watches its znode", async || server.watches() == 1).await;
    for _ in 0..10 {
        let mut waiter = InterProcessMutex::new(&two, "/m").unwrap();
        assert!(is_taken(&mut waiter).await);
    }
    eventually("watches are gone", async || server.watches() == 1).await;
    held.release().await.unwrap();
    eventually("the last one too", async || server.watches() == 0).await;
}

#[tokio::test]
async fn a_predecessor_that_gives_up_does_not_pass_the_lock_on() {
    let server = Server::start();
    // The server counts one watch for all of a session at one znode.
    let (session, two, three) = (
        server.session().await,
        server.session().await,
        server.session().await,
    );
    let mutex = |session| InterProcessMutex::new(session, "/m").unwrap();
    let held = mutex(&session).acquire().await.unwrap();
    let (mut second, mut third) = (mutex(&two), mutex(&three));
    let second = tokio::spawn(async move { second.acquire().await.map(drop) });
    eventually("the second waits", async || server.watches() == 2).await;
    let mut third = tokio::spawn(async move { third.acquire().await });
    eventually("the third waits", async || server.watches() == 3).await;
    second.abort();
    eventually("the second is gone", async || {
        children(&session, "/m").await.len() == 2
    })
    .await;
    eventually("the third watches the first", async || server.watches() == 2).await;
    assert!(!third.is_finished());
    assert!(
        tokio::time::timeout(Duration::from_millis(50), &mut third)
            .await
            .is_err()
    );
    held.release().await.unwrap();
    within("the third", third).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_change_of_the_predecessor_wakes_but_does_not_admit() {
    let server = Server::start();
    let (session, other) = (server.session().await, server.session().await);
    let mut holder = InterProcessMutex::new(&session, "/m").unwrap();
    let held = holder.acquire().await.unwrap();
    let mut waiter = InterProcessMutex::new(&other, "/m").unwrap();
    let mut waiting = tokio::spawn(async move { waiter.acquire().await });
    eventually("it waits", async || server.watches() == 2).await;
    for _ in 0..5 {
        session
            .client()
            .set_data(held.path(), b"spurious", None)
            .await
            .unwrap();
        eventually("it watches again", async || server.watches() == 2).await;
    }
    assert!(
        tokio::time::timeout(Duration::from_millis(50), &mut waiting)
            .await
            .is_err()
    );
    held.release().await.unwrap();
    within("its turn", waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_directory_that_vanished_is_made_again() {
    let server = Server::start();
    let session = server.session().await;
    let mut mutex = InterProcessMutex::new(&session, "/a/b/m").unwrap();
    for _ in 0..2 {
        mutex.acquire().await.unwrap().release().await.unwrap();
        // The server removes empty containers.
        eventually("the container is gone", async || {
            session.client().check_stat("/a").await.unwrap().is_none()
        })
        .await;
    }
    // Somebody removes the directory below a waiter: it queues up again.
    let held = mutex.acquire().await.unwrap();
    let mut waiter = InterProcessMutex::new(&session, "/a/b/m").unwrap();
    let waiting = tokio::spawn(async move { waiter.acquire().await });
    eventually("it waits", async || children(&session, "/a/b/m").await.len() == 2).await;
    let mut znodes = InterProcessMutex::new(&session, "/a/b/m")
        .unwrap()
        .participants()
        .await
        .unwrap();
    znodes.reverse();
    for path in znodes {
        session.client().delete(&path, None).await.unwrap();
    }
    assert_eq!(
        within("the holder hears of it", held.revoked()).await,
        Revoked::Deleted
    );
    within("the waiter has it", waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_znode_of_the_previous_session_is_waited_for() {
    let server = Server::start();
    let timeout = Duration::from_millis(1000);
    let address = server.address().to_string();
    let connector = Client::connector().with_session_timeout(timeout).with_detached();
    let before = Session::new(connector.connect(&address).await.unwrap());
    let simple = SimpleLock::new(&before, "/s").unwrap().acquire().await.unwrap();
    let held = locked(&before, "/m").await;
    let (token, simple_token) = (held.fencing_token(), simple.fencing_token());
    // The process dies: nothing is released, the session is not closed.
    std::mem::forget((held, simple));
    let after = server.session().await;
    let mut mutex = InterProcessMutex::new(&after, "/m").unwrap();
    let lock = SimpleLock::new(&after, "/s").unwrap();
    assert!(is_taken(&mut mutex).await);
    assert!(
        lock.acquire_within(Duration::from_millis(100))
            .await
            .unwrap()
            .is_none()
    );
    // The forgotten session is kept alive by its client until that ends.
    server.expire(&before).await;
    assert!(
        within("the mutex", mutex.acquire())
            .await
            .unwrap()
            .fencing_token()
            > token
    );
    assert!(within("the lock", lock.acquire()).await.unwrap().fencing_token() > simple_token);
}

#[tokio::test]
async fn what_was_held_is_revoked_with_the_session_and_a_keeper_has_the_next_one() {
    let server = Server::start();
    let keeper = SessionKeeper::connect(&server.address().to_string())
        .await
        .unwrap();
    let first = keeper.session();
    let held = locked(&first, "/m").await;
    server.expire(&first).await;
    // A session that ends is first heard of by its connection that breaks.
    assert_eq!(within("revoked", held.revoked()).await, Revoked::Suspended);
    assert_eq!(first.state(), ConnectionState::Lost);
    let written = held
        .write(|transaction| transaction.add_set_data("/m", b"x", None))
        .await;
    assert_eq!(written, Err(Error::Revoked(Revoked::Suspended)));
    let mut mutex = InterProcessMutex::new(&first, "/m").unwrap();
    assert!(
        within("fails", mutex.acquire())
            .await
            .unwrap_err()
            .is_session_over()
    );
    let second = within("a new session", keeper.live_session()).await;
    assert_ne!(second.id(), first.id());
    within(
        "held again",
        InterProcessMutex::new(&second, "/m").unwrap().acquire(),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_short_interruption_revokes_or_not_as_the_policy_says() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let strict = proxy.session(Duration::from_secs(10)).await;
    let patient = strict.clone().with_policy(LossPolicy::Lost);
    let lost = locked(&strict, "/a").await;
    let kept = locked(&patient, "/b").await;
    proxy.cut();
    assert_eq!(within("revoked", lost.revoked()).await, Revoked::Suspended);
    proxy.heal();
    within("connected again", strict.connected()).await.unwrap();
    assert_eq!(
        lost.check(),
        Err(Revoked::Suspended),
        "once revoked, revoked for good"
    );
    assert!(kept.is_held());
    kept.write(|transaction| transaction.add_create("/x", b"", &PERSISTENT))
        .await
        .unwrap();
    assert_eq!(
        children(&strict, "/a").await.len(),
        1,
        "not before its holder lets go"
    );
    // Its owner cannot have it again before that, or it would wait for itself.
    drop(lost);
    eventually("deleted", async || children(&strict, "/a").await.is_empty()).await;
}

#[tokio::test]
async fn its_owner_has_to_let_go_of_what_was_revoked() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let session = proxy.session(Duration::from_secs(10)).await;
    let mut mutex = InterProcessMutex::new(&session, "/m").unwrap();
    let held = mutex.acquire().await.unwrap();
    proxy.cut();
    within("revoked", held.revoked()).await;
    proxy.heal();
    within("connected again", session.connected()).await.unwrap();
    assert_eq!(
        mutex.acquire().await.err(),
        Some(Error::Revoked(Revoked::Suspended))
    );
    drop(held);
    within("again", mutex.acquire()).await.unwrap();
}

#[tokio::test]
async fn run_drops_its_future_on_revocation() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let session = proxy.session(Duration::from_secs(10)).await;
    let held = locked(&session, "/m").await;
    assert_eq!(held.run(async { 7 }).await, Ok(7));
    let (alive, dropped) = tokio::sync::oneshot::channel::<()>();
    let run = held.run(async move {
        let _alive = alive;
        std::future::pending::<()>().await;
    });
    let (ended, ()) = tokio::join!(within("it ends", run), async { proxy.cut() });
    assert_eq!(ended, Err(Revoked::Suspended));
    assert!(dropped.await.is_err());
    assert_eq!(held.run(async { 7 }).await, Err(Revoked::Suspended));
}

/// Who does not run it has everything on it stand still.
fn runtime_of_one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The process stands still in the midst of what it runs, and that goes on before the client does.
#[test]
fn run_does_not_go_on_in_a_process_that_was_stopped_beyond_its_session() {
    let server = Server::start();
    let timeout = Duration::from_millis(1500);
    let (stopped, running) = (runtime_of_one_thread(), runtime_of_one_thread());
    let held = stopped.block_on(async {
        let session = session_at(server.address(), timeout).await;
        locked(&session, "/m").await
    });
    let mut has_gone_on = false;
    let run = held.run(async {
        std::thread::sleep(timeout);
        tokio::task::yield_now().await;
        has_gone_on = true;
    });
    assert_eq!(running.block_on(run), Err(Revoked::Lost));
    assert!(!has_gone_on);
}

/// The holder stands still, with its client and all its tasks, for longer than its session.
#[test]
fn a_holder_that_was_stopped_beyond_its_session_does_not_write() {
    let server = Server::start();
    let timeout = Duration::from_millis(600);
    let (stopped, other) = (runtime_of_one_thread(), runtime_of_one_thread());
    let held = stopped.block_on(async {
        let session = session_at(server.address(), timeout).await;
        let held = locked(&session, "/m").await;
        held.write(|transaction| transaction.add_create("/value", b"first", &PERSISTENT))
            .await
            .unwrap();
        held
    });
    let next = other.block_on(async {
        let session = server.session().await;
        let next = within(
            "the next holder",
            InterProcessMutex::new(&session, "/m").unwrap().acquire(),
        )
        .await
        .unwrap();
        next.write(|transaction| transaction.add_set_data("/value", b"second", None))
            .await
            .unwrap();
        next
    });
    assert!(next.fencing_token() > held.fencing_token());
    // Before anything of the stopped one has run, by the clock alone.
    assert_eq!(held.check(), Err(Revoked::Lost));
    stopped.block_on(async {
        let late = held
            .write(|transaction| transaction.add_set_data("/value", b"late", None))
            .await;
        assert_eq!(late, Err(Error::Revoked(Revoked::Lost)));
    });
    other.block_on(async {
        let (value, _) = next.session().client().get_data("/value").await.unwrap();
        assert_eq!(value, b"second");
    });
}

/// What the servers say counts: a write that was sent in time and arrives late.
#[tokio::test]
async fn a_write_that_arrives_after_the_lock_was_lost_is_refused() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let direct = server.session().await;
    let session = proxy.session(Duration::from_secs(10)).await;
    let held = locked(&session, "/m").await;
    held.write(|transaction| transaction.add_create("/value", b"first", &PERSISTENT))
        .await
        .unwrap();
    proxy.stall();
    let (late, ()) = tokio::join!(
        within(
            "the late write",
            held.write(|transaction| transaction.add_set_data("/value", b"late", None))
        ),
        async {
            // The lock passes on meanwhile.
            direct.client().delete(held.path(), None).await.unwrap();
            let next = locked(&direct, "/m").await;
            next.write(|transaction| transaction.add_set_data("/value", b"second", None))
                .await
                .unwrap();
            next.release().await.unwrap();
            proxy.heal();
        }
    );
    assert_eq!(late, Err(Error::Revoked(Revoked::Deleted)));
    assert_eq!(direct.client().get_data("/value").await.unwrap().0, b"second");
}

#[tokio::test]
async fn a_release_wakes_one_of_many_waiters() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let (direct, session) = (
        server.session().await,
        proxy.session(Duration::from_secs(10)).await,
    );
    let held = locked(&direct, "/m").await;
    let mut waiters = Vec::new();
    for number in 0..6 {
        let mut waiter = InterProcessMutex::new(&session, "/m").unwrap();
        waiters.push(tokio::spawn(async move { waiter.acquire().await }));
        // The holder's own, and one at each predecessor.
        eventually("it waits", async || server.watches() == number + 2).await;
    }
    let lists = proxy.requests(OpCode::GetChildren);
    held.release().await.unwrap();
    let first = within("the first", waiters.remove(0)).await.unwrap().unwrap();
    within("in step", session.client().sync("/m")).await.unwrap();
    assert_eq!(proxy.requests(OpCode::GetChildren), lists + 1);
    drop(first);
    within("the second", waiters.remove(0)).await.unwrap().unwrap();
    assert_eq!(proxy.requests(OpCode::GetChildren), lists + 2);
    waiters.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_release_that_is_not_awaited_to_its_end_goes_on() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let direct = server.session().await;
    let session = proxy.session(Duration::from_secs(10)).await;
    let held = locked(&session, "/m").await;
    proxy.stall();
    let released = tokio::time::timeout(Duration::from_millis(20), held.release()).await;
    assert!(released.is_err() && children(&direct, "/m").await.len() == 1);
    proxy.heal();
    eventually("the znode is gone", async || {
        children(&direct, "/m").await.is_empty()
    })
    .await;
}

#[test]
fn a_guard_can_be_dropped_on_any_thread_and_after_its_runtime() {
    let server = Server::start();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let address = server.address();
    let acquire = |path: &'static str| async move {
        let session = session_at(address, Duration::from_secs(2)).await;
        InterProcessMutex::new(&session, path)
            .unwrap()
            .acquire()
            .await
            .unwrap()
    };
    let (one, two) = runtime.block_on(async { (acquire("/one").await, acquire("/two").await) });
    // A thread that knows no runtime.
    std::thread::spawn(move || drop(one)).join().unwrap();
    let observer = runtime_of_one_thread();
    let direct = observer.block_on(server.session());
    observer.block_on(eventually("deleted", async || {
        children(&direct, "/one").await.is_empty()
    }));
    drop(runtime);
    drop(two);
    observer.block_on(eventually("gone with its session", async || {
        children(&direct, "/two").await.is_empty()
    }));
}

/// A snapshot of a server: `/m` is about to run out of sequences.
fn snapshot_of_an_old_directory(cversion: i32) -> Vec<u8> {
    fn string(bytes: &mut Vec<u8>, text: &str) {
        bytes.extend(i32::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    let mut bytes = b"ZKSN".to_vec();
    bytes.extend(2_i32.to_be_bytes());
    bytes.extend((-1_i64).to_be_bytes());
    // No sessions, no ACLs but the open one, whose key is -1.
    bytes.extend([0; 8]);
    for (path, cversion) in [
        ("", 1),
        ("/zookeeper", 1),
        ("/zookeeper/quota", 0),
        ("/m", cversion),
    ] {
        string(&mut bytes, path);
        bytes.extend(0_i32.to_be_bytes());
        bytes.extend((-1_i64).to_be_bytes());
        // czxid, mzxid, ctime, mtime; version, cversion, aversion; owner, pzxid.
        bytes.extend([0; 32]);
        bytes.extend([0, cversion, 0].map(i32::to_be_bytes).as_flattened());
        bytes.extend([0; 16]);
    }
    string(&mut bytes, "/");
    let checksum = adler2::adler32_slice(&bytes);
    bytes.extend(i64::from(checksum).to_be_bytes());
    string(&mut bytes, "/");
    bytes
}

#[tokio::test]
async fn the_queue_goes_on_in_order_when_its_sequence_is_exhausted() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("version-2")).unwrap();
    let snapshot = snapshot_of_an_old_directory(i32::MAX - 1);
    std::fs::write(dir.path().join("version-2/snapshot.0"), snapshot).unwrap();
    let data_dir = dir.path().to_owned();
    let server = oxkeeper_testkit::Server::start_with(|config| config.storage.data_dir = data_dir).unwrap();
    let session = session_at(server.address(), Duration::from_secs(10)).await;
    let held = locked(&session, "/m").await;
    let mut waiters = Vec::new();
    for number in 0..6 {
        let mut waiter = InterProcessMutex::new(&session, "/m").unwrap();
        waiters.push(tokio::spawn(async move { waiter.acquire().await }));
        eventually("it waits", async || {
            children(&session, "/m").await.len() == number + 2
        })
        .await;
    }
    let queue = InterProcessMutex::new(&session, "/m")
        .unwrap()
        .participants()
        .await
        .unwrap();
    // What servers do: the counter stays where it is.
    assert!(queue[0].ends_with("-2147483646") && queue.len() == 7, "{queue:?}");
    assert!(
        queue[1..].iter().all(|path| path.ends_with("-2147483647")),
        "{queue:?}"
    );
    let mut last = held;
    for (waiter, path) in waiters.into_iter().zip(&queue[1..]) {
        let token = last.fencing_token();
        last.release().await.unwrap();
        last = within("the next", waiter).await.unwrap().unwrap();
        assert!(last.path() == path && last.fencing_token() > token);
    }
}
