//! The other locks.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oxkeeper_recipes::{
    Error, InterProcessMultiLock, InterProcessMutex, InterProcessReadWriteLock, InterProcessSemaphore,
    InterProcessSemaphoreMutex, Revoked, Session, SimpleLock, attempt_revoke,
};
use oxkeeper_testkit::{Fault, OpCode};
use support::{Break, PERSISTENT, Proxy, Server, children, eventually, within};
use zookeeper_client::{Acl, Acls, Permission};

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn readers_share_and_writers_exclude() {
    let server = Server::start();
    let session = server.session().await;
    let lock = || InterProcessReadWriteLock::new(&session, "/rw").unwrap();
    let (mut one, mut two, mut three, mut late) = (lock(), lock(), lock(), lock());
    let first = one.read().await.unwrap();
    let second = within("a second reader", two.read()).await.unwrap();
    let mut writing = tokio::spawn(async move { (three.write().await, three) });
    eventually("the writer waits", async || {
        children(&session, "/rw").await.len() == 3
    })
    .await;
    assert!(
        late.read_within(SHORT).await.unwrap().is_none(),
        "behind the writer"
    );
    first.release().await.unwrap();
    assert!(
        tokio::time::timeout(SHORT, &mut writing).await.is_err(),
        "one reader is left"
    );
    second.release().await.unwrap();
    let (writer, mut three) = within("the writer", writing).await.unwrap();
    let writer = writer.unwrap();
    assert!(one.read_within(SHORT).await.unwrap().is_none());
    assert!(two.write_within(SHORT).await.unwrap().is_none());
    // Its owner gets both again.
    let again = three.write().await.unwrap();
    let reading = three.read().await.unwrap();
    drop(writer);
    drop(again);
    assert!(
        one.read_within(SHORT).await.unwrap().is_none(),
        "all guards stand for the write lock"
    );
    reading.release().await.unwrap();
    within("a reader", one.read()).await.unwrap();
}

#[tokio::test]
async fn an_upgrade_is_refused_and_a_downgrade_lets_nobody_in_between() {
    let server = Server::start();
    let session = server.session().await;
    let lock = || InterProcessReadWriteLock::new(&session, "/rw").unwrap();
    let (mut own, mut writer, mut reader) = (lock(), lock(), lock());
    let reading = own.read().await.unwrap();
    assert_eq!(own.write().await.err(), Some(Error::UpgradeRefused));
    reading.release().await.unwrap();

    let writing = own.write().await.unwrap();
    let token = writing.fencing_token();
    let mut other_writer = tokio::spawn(async move { writer.write().await });
    eventually("a writer waits", async || {
        children(&session, "/rw").await.len() == 2
    })
    .await;
    let reading = own.downgrade(writing).await.unwrap();
    assert!(reading.path().contains("__READ__") && reading.fencing_token() == token);
    assert!(
        tokio::time::timeout(SHORT, &mut other_writer).await.is_err(),
        "before the writer that waited"
    );
    assert_eq!(children(&session, "/rw").await.len(), 2);
    assert_eq!(own.write().await.err(), Some(Error::UpgradeRefused));
    let queue = own.participants().await.unwrap();
    assert_eq!(queue.first().map(String::as_str), Some(reading.path()));
    reading.release().await.unwrap();
    let writing = within("the writer", other_writer).await.unwrap().unwrap();
    writing.release().await.unwrap();
    within("a reader", reader.read()).await.unwrap();
}

#[tokio::test]
async fn a_downgrade_whose_reply_was_lost_happened_once() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let direct = server.session().await;
    let session = proxy
        .session(Duration::from_secs(10))
        .await
        .with_policy(oxkeeper_recipes::LossPolicy::Lost);
    for lost in [Break::Reply(OpCode::Multi), Break::Request(OpCode::Multi)] {
        let mut lock = InterProcessReadWriteLock::new(&session, "/rw").unwrap();
        let writing = within("write", lock.write()).await.unwrap();
        let broken = proxy.break_next(lost);
        let reading = within("downgrade", lock.downgrade(writing)).await.unwrap();
        assert_eq!(broken.count(), 1);
        assert!(reading.is_held());
        let names = children(&direct, "/rw").await;
        assert!(names.len() == 1 && names[0].contains("__READ__"), "{names:?}");
        reading.release().await.unwrap();
    }
}

/// Its guard may not read its znode, and so does not see it go.
#[tokio::test]
async fn a_downgrade_of_what_is_gone_ends() {
    static NO_READ: [Acl; 1] = [Acl::new_const(Permission::CREATE, "world", "anyone")];
    let server = Server::start();
    let direct = server.session().await;
    direct.client().create("/rw", b"", &PERSISTENT).await.unwrap();
    let session = server.session().await.with_acls(Acls::new(&NO_READ));
    let mut lock = InterProcessReadWriteLock::new(&session, "/rw").unwrap();
    let writing = within("write", lock.write()).await.unwrap();
    direct.client().delete(writing.path(), None).await.unwrap();
    let downgraded = within("it ends", lock.downgrade(writing)).await;
    assert_eq!(downgraded.err(), Some(Error::Revoked(Revoked::Deleted)));
}

#[tokio::test]
async fn a_downgrade_needs_the_last_guard() {
    let server = Server::start();
    let session = server.session().await;
    let mut lock = InterProcessReadWriteLock::new(&session, "/rw").unwrap();
    let one = lock.write().await.unwrap();
    let two = lock.write().await.unwrap();
    assert!(matches!(lock.downgrade(one).await, Err(Error::BadArgument(_))));
    assert!(two.is_held());
}

#[tokio::test]
async fn a_semaphore_leases_no_more_than_it_has() {
    let server = Server::start();
    let (most, leased) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..6 {
        let session = server.session().await;
        let (most, leased) = (Arc::clone(&most), Arc::clone(&leased));
        tasks.push(tokio::spawn(async move {
            let semaphore = InterProcessSemaphore::new(&session, "/s", 2).unwrap();
            for _ in 0..5 {
                let lease = within("a lease", semaphore.acquire()).await.unwrap();
                most.fetch_max(leased.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let both_taken = async {
                    while most.load(Ordering::SeqCst) < 2 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                within("both are taken at some time", both_taken).await;
                leased.fetch_sub(1, Ordering::SeqCst);
                lease.release().await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_semaphore_gives_several_leases_and_takes_back_what_nobody_waits_for() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let session = proxy.session(Duration::from_secs(10)).await;
    let semaphore = InterProcessSemaphore::new(&session, "/s", 3).unwrap();
    assert!(matches!(
        semaphore.acquire_many(4).await,
        Err(Error::BadArgument(_))
    ));
    let leases = within("three", semaphore.acquire_many(3)).await.unwrap();
    assert_eq!(semaphore.participants().await.unwrap().len(), 3);
    assert!(semaphore.acquire_within(SHORT).await.unwrap().is_none());
    eventually("who gave up is gone", async || {
        children(&session, "/s/leases").await.len() == 3
    })
    .await;
    eventually("and its inner lock", async || {
        children(&session, "/s/locks").await.is_empty()
    })
    .await;
    drop(leases);
    // A lease whose reply was lost counts once.
    for _ in 0..4 {
        proxy.break_next(Break::Reply(OpCode::Create2));
        let lease = within("a lease", semaphore.acquire()).await.unwrap();
        within("given back", lease.release()).await.unwrap();
    }
    eventually("none is left", async || {
        children(&session, "/s/leases").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn two_who_want_several_leases_do_not_wait_for_each_other() {
    let server = Server::start();
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let session = server.session().await;
        tasks.push(tokio::spawn(async move {
            let semaphore = InterProcessSemaphore::new(&session, "/s", 2).unwrap();
            for _ in 0..20 {
                let leases = within("both", semaphore.acquire_many(2)).await.unwrap();
                assert_eq!(leases.len(), 2);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn who_waits_for_more_leases_hears_at_once_that_it_has_lost_one() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let other = server.session().await;
    let held = InterProcessSemaphore::new(&other, "/s", 2).unwrap();
    let held = within("a lease", held.acquire()).await.unwrap();
    let session = proxy.session(Duration::from_secs(10)).await;
    let semaphore = InterProcessSemaphore::new(&session, "/s", 2).unwrap();
    let waiting = tokio::spawn(async move { semaphore.acquire_many(2).await });
    eventually("it has one, and waits for the other", async || {
        children(&other, "/s/leases").await.len() == 3
    })
    .await;
    proxy.disconnect_clients();
    let waited = within("it hears", waiting).await.unwrap();
    assert_eq!(waited.err(), Some(Error::Revoked(Revoked::Suspended)));
    eventually("nothing of it is left", async || {
        children(&other, "/s/leases").await.len() == 1 && children(&other, "/s/locks").await.is_empty()
    })
    .await;
    assert!(held.is_held());
}

#[tokio::test]
async fn a_semaphore_mutex_is_not_reentrant() {
    let server = Server::start();
    let session = server.session().await;
    let mutex = InterProcessSemaphoreMutex::new(&session, "/m").unwrap();
    let held = mutex.acquire().await.unwrap();
    assert!(mutex.acquire_within(SHORT).await.unwrap().is_none());
    held.release().await.unwrap();
    within("free again", mutex.acquire()).await.unwrap();
}

#[tokio::test]
async fn a_multi_lock_has_all_or_none() {
    let server = Server::start();
    let session = server.session().await;
    let mut both = InterProcessMultiLock::new(&session, ["/b", "/a", "/b"]).unwrap();
    let mut b = InterProcessMutex::new(&session, "/b").unwrap();
    let mut a = InterProcessMutex::new(&session, "/a").unwrap();
    let held = b.acquire().await.unwrap();
    assert!(both.acquire_within(SHORT).await.unwrap().is_none());
    within("the other one is released", a.acquire())
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    held.release().await.unwrap();
    let held = within("both", both.acquire()).await.unwrap();
    assert!(held.guards().len() == 2 && held.is_held());
    assert!(a.acquire_within(SHORT).await.unwrap().is_none());
    let written = held
        .write(|transaction| transaction.add_create("/x", b"1", &PERSISTENT))
        .await
        .unwrap();
    assert_eq!(written.len(), 1, "the results of the caller's operations alone");
    // Without the second the servers refuse, though the first is held yet.
    session
        .client()
        .delete(held.guards()[1].path(), None)
        .await
        .unwrap();
    assert_eq!(within("revoked", held.revoked()).await, Revoked::Deleted);
    assert!(held.guards()[0].is_held() && !held.is_held());
    let refused = held
        .write(|transaction| transaction.add_set_data("/x", b"2", None))
        .await;
    assert_eq!(refused, Err(Error::Revoked(Revoked::Deleted)));
    held.release().await.unwrap();
}

#[tokio::test]
async fn a_multi_lock_that_loses_one_while_it_waits_for_another_lets_go() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let (direct, session) = (
        server.session().await,
        proxy.session(Duration::from_secs(10)).await,
    );
    let mut b = InterProcessMutex::new(&direct, "/b").unwrap();
    let held = b.acquire().await.unwrap();
    let mut both = InterProcessMultiLock::new(&session, ["/a", "/b"]).unwrap();
    let acquiring = tokio::spawn(async move { both.acquire().await });
    eventually("it waits for the second", async || {
        children(&direct, "/b").await.len() == 2
    })
    .await;
    proxy.disconnect_clients();
    let ended = within("it ends", acquiring).await.unwrap();
    assert_eq!(ended.err(), Some(Error::Revoked(Revoked::Suspended)));
    eventually("the first is free", async || {
        children(&direct, "/a").await.is_empty()
    })
    .await;
    assert!(held.is_held());
}

#[tokio::test]
async fn two_multi_locks_in_opposite_order_do_not_wait_for_each_other() {
    let server = Server::start();
    let mut tasks = Vec::new();
    for paths in [["/a", "/b"], ["/b", "/a"]] {
        let session = server.session().await;
        tasks.push(tokio::spawn(async move {
            let mut lock = InterProcessMultiLock::new(&session, paths).unwrap();
            for _ in 0..20 {
                within("both", lock.acquire())
                    .await
                    .unwrap()
                    .release()
                    .await
                    .unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_holder_hears_that_it_is_asked_to_let_go() {
    let server = Server::start();
    let (one, two) = (server.session().await, server.session().await);
    let mut holder = InterProcessMutex::new(&one, "/m").unwrap().with_data("holder");
    let held = holder.acquire().await.unwrap();
    let mut waiter = InterProcessMutex::new(&two, "/m").unwrap();
    let first = waiter.participants().await.unwrap().remove(0);
    assert_eq!(first, held.path());
    assert!(tokio::time::timeout(SHORT, held.asked_to_let_go()).await.is_err());
    attempt_revoke(&two, &first).await.unwrap();
    within("it hears", held.asked_to_let_go()).await;
    assert!(held.is_held(), "it is up to the holder");
    held.release().await.unwrap();
    within("the waiter", waiter.acquire()).await.unwrap();
    attempt_revoke(&two, &first).await.unwrap();
}

/// A server, a proxy before it, a lock through that, and the session of somebody else with the same lock.
async fn two_simple_locks() -> (Server, Proxy, SimpleLock, Session, SimpleLock) {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let (one, two) = (
        proxy.session(Duration::from_secs(10)).await,
        server.session().await,
    );
    let lock = |session| SimpleLock::new(session, "/l").unwrap();
    let (mine, theirs) = (lock(&one), lock(&two));
    (server, proxy, mine, two, theirs)
}

#[tokio::test]
async fn a_simple_lock_excludes_and_fences_former_holders_off() {
    let (_server, proxy, mine, two, theirs) = two_simple_locks().await;
    let held = within("held", mine.acquire()).await.unwrap();
    assert!(theirs.acquire_within(SHORT).await.unwrap().is_none());
    held.write(|transaction| transaction.add_create("/x", b"1", &PERSISTENT))
        .await
        .unwrap();
    // Somebody takes it away; its name is the same in other hands.
    proxy.stall();
    two.client().delete("/l/lock", None).await.unwrap();
    let next = within("the next", theirs.acquire()).await.unwrap();
    assert!(next.fencing_token() > held.fencing_token());
    let (late, ()) = tokio::join!(
        within(
            "late",
            held.write(|transaction| transaction.add_set_data("/x", b"late", None))
        ),
        async { proxy.heal() }
    );
    assert_eq!(late, Err(Error::Revoked(Revoked::Deleted)));
    // It hears of it too, though there is a znode at its path.
    assert_eq!(within("revoked", held.revoked()).await, Revoked::Deleted);
    within("released", held.release()).await.unwrap();
    assert!(
        next.is_held(),
        "a former holder does not delete what is another's"
    );
    next.write(|transaction| transaction.add_set_data("/x", b"2", None))
        .await
        .unwrap();
    next.release().await.unwrap();
    assert!(children(&two, "/l").await.is_empty());
}

#[tokio::test]
async fn a_simple_lock_is_released_though_somebody_wrote_its_directory() {
    let server = Server::start();
    let session = server.session().await;
    let lock = SimpleLock::new(&session, "/l").unwrap();
    let held = within("held", lock.acquire()).await.unwrap();
    session.client().set_data("/l", b"a note", None).await.unwrap();
    let refused = held
        .write(|transaction| transaction.add_create("/x", b"", &PERSISTENT))
        .await;
    assert_eq!(refused, Err(Error::Revoked(Revoked::Deleted)), "fenced off");
    within("released", held.release()).await.unwrap();
    assert!(children(&session, "/l").await.is_empty());
    within("held again", lock.acquire()).await.unwrap();
}

/// Its reply was lost, and while it looks what became of the lock, that passes to somebody else.
#[tokio::test]
async fn a_simple_lock_is_not_fenced_with_the_version_of_the_next_holder() {
    let (_server, proxy, mine, two, theirs) = two_simple_locks().await;
    within("the directory is there", mine.acquire())
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    proxy.break_next(Break::Reply(OpCode::Multi));
    let looks = proxy.fault_once(
        |frame| frame.is_request(OpCode::Exists) && frame.path == Some("/l"),
        Fault::Stall,
    );
    let mut acquiring = tokio::spawn(async move { mine.acquire().await });
    eventually("it looks", async || looks.count() == 1).await;
    two.client().delete("/l/lock", None).await.unwrap();
    let next = within("the next", theirs.acquire()).await.unwrap();
    proxy.heal();
    assert!(
        tokio::time::timeout(10 * SHORT, &mut acquiring).await.is_err(),
        "it is another's"
    );
    next.write(|transaction| transaction.add_create("/x", b"", &PERSISTENT))
        .await
        .unwrap();
    let token = next.fencing_token();
    next.release().await.unwrap();
    let held = within("its turn", acquiring).await.unwrap().unwrap();
    assert!(held.fencing_token() > token);
    held.write(|transaction| transaction.add_set_data("/x", b"2", None))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_simple_lock_survives_lost_replies() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let session = proxy.session(Duration::from_secs(10)).await;
    let lock = SimpleLock::new(&session, "/l").unwrap();
    for lost in [
        Break::Request(OpCode::Multi),
        Break::Reply(OpCode::Multi),
        Break::Reply(OpCode::Multi),
    ] {
        proxy.break_next(lost);
        let held = within("held", lock.acquire()).await.unwrap();
        proxy.break_next(lost);
        within("released", held.release()).await.unwrap();
        proxy.clear_faults();
        assert!(children(&session, "/l").await.is_empty());
    }
    for micros in (0..40).map(|n| n * 100) {
        if micros % 300 == 0 {
            proxy.break_next(Break::Reply(OpCode::Multi));
        }
        drop(lock.acquire_within(Duration::from_micros(micros)).await);
    }
    proxy.clear_faults();
    eventually("nothing is left behind", async || {
        children(&session, "/l").await.is_empty()
    })
    .await;
}
