use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oxkeeper_recipes::{
    AtomicLong, Barrier, DistributedDelayQueue, DistributedPriorityQueue, DistributedQueue, DoubleBarrier,
    Error, Revoked, SharedCount, SharedValue, UniqueIds, create_sequential, sequence,
};
use oxkeeper_testkit::{Fault, OpCode};
use zookeeper_client::{Acls, CreateMode};

use crate::support::{PERSISTENT, Proxy, Server, children, eventually, within};
use crate::{expire, keeper};

#[tokio::test]
async fn a_shared_value_is_written_only_over_what_was_read() {
    let server = Server::start();
    let (one, two) = (keeper(server.address()).await, keeper(server.address()).await);
    let first = within("open", SharedValue::open(&one, "/v/motto", "a"))
        .await
        .unwrap();
    let second = within("open", SharedValue::open(&two, "/v/motto", "b"))
        .await
        .unwrap();
    let old = second.get().unwrap();
    assert_eq!(old.value, b"a", "the seed of who came first");
    assert!(first.try_set(&old, b"c").await.unwrap());
    assert!(!second.try_set(&old, b"d").await.unwrap());
    assert_eq!(second.read().await.unwrap().unwrap().value, b"c");
    expire(&server, &two).await;
    first.set(b"e").await.unwrap();
    eventually("the other knows", async || second.get().unwrap().value == b"e").await;
    eventually("no marker stays", async || {
        children(&one.session(), "/v/motto").await.is_empty()
    })
    .await;

    let count = within("open", SharedCount::open(&one, "/v/count", -2))
        .await
        .unwrap();
    assert_eq!(
        one.session().client().get_data("/v/count").await.unwrap().0,
        (-2_i32).to_be_bytes()
    );
    let old = count.get().unwrap().unwrap();
    assert_eq!(old.value, -2);
    assert!(count.try_set(&old, 7).await.unwrap());
    assert_eq!(count.read().await.unwrap().unwrap().value, 7);
    one.session()
        .client()
        .set_data("/v/count", b"7", None)
        .await
        .unwrap();
    assert!(matches!(count.read().await, Err(Error::Invalid(_))));
}

/// The server closes the connection instead of an answer, each time.
#[tokio::test]
async fn what_is_longer_than_the_server_takes_is_given_up() {
    let server = Server::start();
    let keeper = keeper(server.address()).await;
    let session = keeper.session();
    let long = vec![b'x'; 2 * 1024 * 1024];
    let made = create_sequential(&session, "/n", "name-", &long);
    assert!(within("giving up", made).await.is_err());
    let value = within("open", SharedValue::open(&keeper, "/v/long", "short"))
        .await
        .unwrap();
    assert!(within("giving up", value.set(&long)).await.is_err());
    assert_eq!(value.read().await.unwrap().unwrap().value, b"short");
}

#[tokio::test]
async fn an_atomic_long_counts_every_change_once() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let mut counting = Vec::new();
    for worker in 0..4 {
        let keeper = keeper(proxy.address()).await;
        let long = AtomicLong::new(&keeper, "/long").unwrap();
        // Two of them have a lock, with which they get their turn beside the others.
        let long = if worker % 2 == 0 {
            long.with_lock("/long-lock").unwrap()
        } else {
            long
        };
        counting.push(tokio::spawn(async move {
            for _ in 0..15 {
                long.add(1).await.unwrap();
            }
        }));
    }
    let writes = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&writes);
    // Every seventh transaction is lost on the way there or back.
    let every = move |frame: &oxkeeper_testkit::Frame<'_>| {
        frame.is_request(OpCode::Multi) && seen.fetch_add(1, Ordering::Relaxed) % 7 == 6
    };
    let lost = proxy.fault_always(every, Fault::LoseReply);
    for counting in counting {
        within("it counts", counting).await.unwrap();
    }
    assert!(lost.count() > 3, "{}", lost.count());
    proxy.clear_faults();
    let keeper = keeper(server.address()).await;
    let long = AtomicLong::new(&keeper, "/long").unwrap();
    assert_eq!(long.get().await.unwrap(), 60);
    assert_eq!(
        keeper.session().client().get_data("/long").await.unwrap().0,
        60_i64.to_be_bytes()
    );
    assert!(long.compare_and_set(60, -1).await.unwrap());
    assert!(!long.compare_and_set(60, 0).await.unwrap());
    assert_eq!(long.add(2).await.unwrap(), 1);
    long.set(9).await.unwrap();
    assert_eq!(long.get().await.unwrap(), 9);
}

/// Otherwise what others write between the two is lost.
#[tokio::test]
async fn what_is_set_is_set_once_though_the_reply_is_lost() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let (one, two) = (keeper(proxy.address()).await, keeper(server.address()).await);
    let long = AtomicLong::new(&one, "/v/long").unwrap();
    let other = AtomicLong::new(&two, "/v/long").unwrap();
    let is_write = |frame: &oxkeeper_testkit::Frame<'_>| {
        frame.is_request(OpCode::SetData) || frame.is_request(OpCode::Multi)
    };
    within("it is created", long.set(1)).await.unwrap();
    let lost = proxy.fault_once(is_write, Fault::LoseReply);
    let again = proxy.fault_once(
        move |frame| frame.is_request(OpCode::Sync) || is_write(frame),
        Fault::Stall,
    );
    let setting = tokio::spawn({
        let long = long.clone();
        async move { long.set(5).await }
    });
    within("it tries again, or asks what became of it", again.happened()).await;
    assert_eq!(lost.count(), 1);
    assert_eq!(other.add(1).await.unwrap(), 6);
    proxy.heal();
    within("it is set", setting).await.unwrap().unwrap();
    assert_eq!(other.get().await.unwrap(), 6);

    // Whatever was there.
    two.session()
        .client()
        .set_data("/v/long", b"no long", None)
        .await
        .unwrap();
    within("it is set", long.set(7)).await.unwrap();
    assert_eq!(other.get().await.unwrap(), 7);
    eventually("no marker stays", async || {
        children(&two.session(), "/v").await == ["long"]
            && children(&two.session(), "/v/long").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn an_atomic_long_that_is_always_too_late_takes_its_lock() {
    let server = Server::start();
    let keeper = keeper(server.address()).await;
    let long = AtomicLong::new(&keeper, "/long")
        .unwrap()
        .with_lock("/lock")
        .unwrap();
    long.set(0).await.unwrap();
    let mut other = oxkeeper_testkit::Client::connect(server.address(), 10_000).unwrap();
    let mut has_lock = Vec::new();
    let update = long.update(|value| {
        // Between the read and the write; the first time with the lock too.
        let is_locked = other
            .children("/lock", false)
            .is_ok_and(|(contenders, _)| !contenders.is_empty());
        has_lock.push(is_locked);
        if has_lock.iter().filter(|has| **has).count() < 2 {
            other.set("/long", &(value + 1).to_be_bytes(), -1).unwrap();
        }
        Some(value + 1)
    });
    let (before, after) = within("its turn comes", update).await.unwrap();
    assert_eq!((before, after), (11, 12));
    assert_eq!(has_lock, [[false; 10].as_slice(), &[true; 2]].concat());
    eventually("the lock is free", async || {
        children(&keeper.session(), "/lock").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn an_atomic_long_says_no_only_to_what_it_knows_to_be_so() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let keeper = keeper(proxy.address()).await;
    let long = AtomicLong::new(&keeper, "/long").unwrap();
    long.set(1).await.unwrap();
    assert_eq!(long.add(1).await.unwrap(), 2);
    assert_eq!(proxy.requests(OpCode::Sync), 0, "the write proves what was read");
    // The server it reads from may be behind.
    assert!(!long.compare_and_set(1, 3).await.unwrap());
    assert_eq!(proxy.requests(OpCode::Sync), 1);
}

#[tokio::test]
async fn unique_ids_are_unique_over_values_cuts_and_sessions() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let (one, two) = (keeper(proxy.address()).await, keeper(server.address()).await);
    let first = Arc::new(UniqueIds::new(&one, "/ids", 3).unwrap());
    let second = UniqueIds::new(&two, "/ids", 3).unwrap();
    let mut given = BTreeSet::new();
    for round in 0..12 {
        match round {
            4 => proxy.disconnect_clients(),
            8 => drop(expire(&server, &one).await),
            _ => {}
        }
        let (a, b) = (
            within("an id", first.next()).await.unwrap(),
            within("an id", second.next()).await.unwrap(),
        );
        assert!(given.insert(a) && given.insert(b), "{a} {b} {given:?}");
    }
    let asked: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let first = Arc::clone(&first);
                async move { first.next().await.unwrap() }
            })
        })
        .collect();
    for asked in asked {
        assert!(given.insert(asked.await.unwrap()));
    }
    AtomicLong::new(&two, "/ids")
        .unwrap()
        .set(i64::MAX - 2)
        .await
        .unwrap();
    let last = UniqueIds::new(&two, "/ids", 3).unwrap();
    assert!(matches!(last.next().await, Err(Error::TooLarge(_))));
    assert!(UniqueIds::new(&two, "/ids", 0).is_err());

    let session = one.session();
    let lost = proxy.fault_once(
        |frame| frame.is_create() && frame.is_below("/names/"),
        Fault::LoseReply,
    );
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(
            within("a name", create_sequential(&session, "/names", "n-", b""))
                .await
                .unwrap()
                .path,
        );
    }
    assert_eq!(lost.count(), 1);
    let numbers: Vec<_> = names.iter().map(|path| sequence::of(path, "n-")).collect();
    assert!(
        numbers.is_sorted() && children(&session, "/names").await.len() == 3,
        "{names:?}"
    );
    // Such a prefix may look like a part of the number.
    let digit = create_sequential(&session, "/digits", "0", b"").await.unwrap();
    assert_eq!(sequence::of(&digit.path, "0"), Some(0), "{digit:?}");
    for path in &names {
        session.client().delete(path, None).await.unwrap();
    }
    // Containers go when they are empty; the directory stays, with its sequence.
    server.advance(Duration::from_secs(60)).unwrap();
    let next = create_sequential(&session, "/names", "n-", b"").await.unwrap();
    assert!(
        sequence::of(&next.path, "n-") > *numbers.last().unwrap(),
        "{next:?} after {names:?}"
    );
}

#[tokio::test]
async fn who_waits_at_a_barrier_goes_on_when_it_is_removed() {
    let server = Server::start();
    let (one, two) = (keeper(server.address()).await, keeper(server.address()).await);
    let barrier = Barrier::new(&one, "/b/one").unwrap();
    within("no barrier", barrier.wait()).await.unwrap();
    barrier.set().await.unwrap();
    barrier.set().await.unwrap();
    let other = Barrier::new(&two, "/b/one").unwrap();
    let waiting = tokio::spawn(async move { other.wait().await });
    eventually("it waits", async || server.watches() == 1).await;
    expire(&server, &two).await;
    eventually("it waits again", async || server.watches() == 1).await;
    assert!(!waiting.is_finished());
    barrier.remove().await.unwrap();
    within("it goes on", waiting).await.unwrap().unwrap();
    barrier.remove().await.unwrap();
}

#[tokio::test]
async fn members_of_a_double_barrier_begin_and_end_together() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let observer = server.session().await;
    let inside = Arc::new(AtomicUsize::new(0));
    let mut members = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let session = proxy.session(Duration::from_secs(10)).await;
        sessions.push(session.clone());
        let barrier = DoubleBarrier::new(&session, "/rounds/1", 4).unwrap();
        let inside = Arc::clone(&inside);
        members.push(async move {
            let entered = barrier.enter().await.unwrap();
            inside.fetch_add(1, Ordering::SeqCst);
            entered.leave().await.unwrap();
            // Nobody is out before all were in.
            assert_eq!(inside.load(Ordering::SeqCst), 4);
        });
    }
    let mut waiting: Vec<_> = members.drain(..2).map(tokio::spawn).collect();
    eventually("two wait", async || {
        children(&observer, "/rounds/1").await.len() == 2
    })
    .await;
    assert_eq!(inside.load(Ordering::SeqCst), 0);
    proxy.disconnect_clients();
    // Who gives up is no longer counted.
    let gives_up = DoubleBarrier::new(&observer, "/rounds/1", 9).unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), gives_up.enter())
            .await
            .is_err()
    );
    eventually("it went", async || {
        children(&observer, "/rounds/1").await.len() == 2
    })
    .await;
    waiting.extend(members.drain(..).map(tokio::spawn));
    for member in waiting {
        within("all pass", member).await.unwrap();
    }
    eventually("nothing stays", async || {
        children(&observer, "/rounds/1").await.is_empty()
    })
    .await;

    let lost = DoubleBarrier::new(&sessions[0], "/rounds/2", 2).unwrap();
    let other = DoubleBarrier::new(&sessions[1], "/rounds/2", 2).unwrap();
    let (lost, other) = within("both enter", async { tokio::join!(lost.enter(), other.enter()) }).await;
    let leaving = tokio::spawn(other.unwrap().leave());
    server.expire(&sessions[0]).await;
    within("it leaves without the one that is gone", leaving)
        .await
        .unwrap()
        .unwrap();
    assert!(lost.unwrap().leave().await.unwrap_err().is_session_over());
}

#[tokio::test]
async fn who_waits_in_a_double_barrier_hears_that_it_is_inside_no_more() {
    let server = Server::start();
    let (session, other) = (server.session().await, server.session().await);
    let barrier = DoubleBarrier::new(&session, "/rounds/1", 2).unwrap();
    let waiting = tokio::spawn(async move { barrier.enter().await });
    eventually("it waits", async || server.watches() > 0).await;
    let member = children(&other, "/rounds/1").await.remove(0);
    let deleted = other.client().delete(&format!("/rounds/1/{member}"), None).await;
    deleted.unwrap();
    let waited = within("it hears", waiting).await.unwrap();
    assert_eq!(waited.err(), Some(Error::Revoked(Revoked::Deleted)));
    eventually("and leaves no watch", async || server.watches() == 0).await;
}

#[tokio::test]
async fn an_item_is_taken_in_order_and_again_when_its_consumer_dies_or_lets_go() {
    let server = Server::start();
    let (one, two) = (keeper(server.address()).await, keeper(server.address()).await);
    let first = DistributedQueue::new(&one, "/q").unwrap();
    let second = DistributedQueue::new(&two, "/q").unwrap();
    for item in ["a", "b", "c"] {
        first.put(item.as_bytes()).await.unwrap();
    }
    let a = within("a", first.take()).await.unwrap();
    let b = within("b", second.take()).await.unwrap();
    assert_eq!((a.data(), b.data()), (&b"a"[..], &b"b"[..]));
    drop(a);
    let a = within("a again", async {
        loop {
            let item = second.take().await.unwrap();
            if item.data() == b"a" {
                return item;
            }
            // It was c, while a was on its way back.
            item.put_back().await.unwrap();
        }
    })
    .await;
    a.complete().await.unwrap();
    expire(&server, &two).await;
    assert!(matches!(b.complete().await, Err(Error::Revoked(_))));
    let b = within("b, whose consumer died", first.take()).await.unwrap();
    assert_eq!(b.data(), b"b");
    let client = one.session();
    client.client().create("/done", b"", &PERSISTENT).await.unwrap();
    let done = b.complete_with(|transaction| transaction.add_set_data("/done", b"b", None));
    within("the transaction", done).await.unwrap();
    assert_eq!(client.client().get_data("/done").await.unwrap().0, b"b");
    let c = within("c", first.take()).await.unwrap();
    let refused = c
        .complete_with(|transaction| transaction.add_set_data("/none", b"", None))
        .await;
    assert!(matches!(refused, Err(Error::Client(_))), "{refused:?}");
    let c = within("c again", first.take()).await.unwrap();
    c.complete().await.unwrap();
    assert!(first.is_empty().await.unwrap());
    let waiting = tokio::time::timeout(Duration::from_millis(50), first.take()).await;
    assert!(waiting.is_err());
    for dir in ["/q", "/q-locks"] {
        eventually("nothing stays", async || children(&client, dir).await.is_empty()).await;
    }
    eventually("no watch stays", async || server.watches() == 0).await;
}

#[tokio::test]
async fn who_waits_for_an_item_gets_it_after_a_cut_and_in_the_next_session() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let (one, two) = (keeper(proxy.address()).await, keeper(server.address()).await);
    let queue = Arc::new(DistributedQueue::new(&one, "/q").unwrap());
    let other = DistributedQueue::new(&two, "/q").unwrap();
    let take = || {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move { queue.take().await })
    };
    let taking = take();
    eventually("it waits", async || proxy.requests(OpCode::GetChildren) >= 2).await;
    proxy.cut();
    other.put(b"a").await.unwrap();
    proxy.heal();
    let item = within("after a cut", taking).await.unwrap().unwrap();
    assert_eq!(item.data(), b"a");
    item.complete().await.unwrap();

    let taking = take();
    expire(&server, &one).await;
    other.put(b"b").await.unwrap();
    let item = within("in the next session", taking).await.unwrap().unwrap();
    assert_eq!(item.data(), b"b");
    assert_eq!(item.session().id(), one.session().id());
    item.complete().await.unwrap();
}

#[tokio::test]
async fn items_are_put_and_done_once_though_replies_are_lost() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let keeper = keeper(proxy.address()).await;
    let queue = DistributedQueue::new(&keeper, "/q").unwrap();
    within("a put", queue.put(b"0")).await.unwrap();
    let mut hits = Vec::new();
    for (number, fault) in (1..).zip([Fault::LoseReply, Fault::CutBefore, Fault::CutAfter]) {
        hits.push(proxy.fault_once(|frame| frame.is_request(OpCode::Multi), fault));
        within("a put", queue.put(number.to_string().as_bytes()))
            .await
            .unwrap();
    }
    assert_eq!(queue.len().await.unwrap(), 4);
    let effects = AtomicLong::new(&keeper, "/effects").unwrap();
    effects.set(0).await.unwrap();
    for (number, fault) in (0..).zip([
        Fault::LoseReply,
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::LoseReply,
    ]) {
        let item = within("an item", queue.take()).await.unwrap();
        assert_eq!(item.data(), i32::to_string(&number).as_bytes());
        hits.push(proxy.fault_once(|frame| frame.is_request(OpCode::Multi), fault));
        let effect = i64::from(number).to_be_bytes();
        within(
            "it is done",
            item.complete_with(|done| done.add_set_data("/effects", &effect, Some(number))),
        )
        .await
        .unwrap();
    }
    assert!(hits.iter().all(|hits| hits.count() == 1));
    assert_eq!(effects.get().await.unwrap(), 3);
    assert!(queue.is_empty().await.unwrap());
}

#[tokio::test]
async fn an_item_whose_reply_was_lost_is_done_though_another_locks_its_place() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let keeper = keeper(proxy.address()).await;
    let other = server.session().await;
    let queue = DistributedQueue::new(&keeper, "/q").unwrap();
    queue.put(b"a").await.unwrap();
    let item = within("an item", queue.take()).await.unwrap();
    let lost = proxy.fault_once(|frame| frame.is_request(OpCode::Multi), Fault::LoseReply);
    let asks = proxy.fault_once(|frame| frame.is_request(OpCode::Sync), Fault::Stall);
    let completing = tokio::spawn(async move {
        let done = item.complete_with(|done| done.add_create("/done", b"", &PERSISTENT));
        done.await
    });
    within("it asks what became of it", asks.happened()).await;
    assert_eq!(lost.count(), 1);
    // One who had listed the item before, and finds it gone only after this.
    let lock = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    let locked = other.client().create("/q-locks/queue-0000000000", b"", &lock);
    locked.await.unwrap();
    proxy.heal();
    within("it is done", completing).await.unwrap().unwrap();
    assert!(other.client().check_stat("/done").await.unwrap().is_some());
}

/// The places of items have no names of their own: what is there may be another's.
#[tokio::test]
async fn an_item_whose_lock_is_anothers_by_now_is_revoked_and_leaves_that_alone() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let keeper = keeper(proxy.address()).await;
    let other = server.session().await;
    let queue = DistributedQueue::new(&keeper, "/q").unwrap();
    queue.put(b"a").await.unwrap();
    const LOCK: &str = "/q-locks/queue-0000000000";
    let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    let taken_away = async || {
        // In one step, so that nobody sees that it was gone.
        let mut replace = other.client().new_multi_writer();
        replace.add_delete(LOCK, None).unwrap();
        replace.add_create(LOCK, b"another's", &ephemeral).unwrap();
        replace.commit().await.unwrap();
    };
    let item = within("an item", queue.take()).await.unwrap();
    taken_away().await;
    assert_eq!(within("it is revoked", item.revoked()).await, Revoked::Deleted);
    within("it lets go", item.put_back()).await.unwrap();
    assert_eq!(other.client().get_data(LOCK).await.unwrap().0, b"another's");

    // Let go, and the reply is lost; before it looks again another has the place.
    other.client().delete(LOCK, None).await.unwrap();
    let item = within("an item", queue.take()).await.unwrap();
    let deletes = |frame: &oxkeeper_testkit::Frame<'_>| frame.is_request(OpCode::Delete);
    let lost = proxy.fault_once(deletes, Fault::LoseReply);
    let again = proxy.fault_once(
        move |frame| frame.is_request(OpCode::Sync) || deletes(frame),
        Fault::Stall,
    );
    let putting_back = tokio::spawn(item.put_back());
    within("it tries again, or asks what became of it", again.happened()).await;
    assert_eq!(lost.count(), 1);
    other
        .client()
        .create(LOCK, b"another's", &ephemeral)
        .await
        .unwrap();
    proxy.heal();
    within("it lets go", putting_back).await.unwrap().unwrap();
    assert_eq!(other.client().get_data(LOCK).await.unwrap().0, b"another's");
}

#[tokio::test]
async fn priorities_delays_and_bounds_are_kept() {
    let server = Server::start();
    let keeper = keeper(server.address()).await;
    let queue = DistributedPriorityQueue::new(&keeper, "/p").unwrap();
    for (item, priority) in [("d", 5), ("b", -1), ("a", i32::MIN), ("c", 0), ("e", 5)] {
        queue.put(item.as_bytes(), priority).await.unwrap();
    }
    for expected in ["a", "b", "c", "d", "e"] {
        let item = within("an item", queue.take()).await.unwrap();
        assert_eq!(item.data(), expected.as_bytes());
        item.complete().await.unwrap();
    }

    let queue = DistributedDelayQueue::new(&keeper, "/d").unwrap();
    queue.put_after(b"never", Duration::MAX).await.unwrap();
    let begun = std::time::Instant::now();
    queue
        .put_after(b"later", Duration::from_millis(300))
        .await
        .unwrap();
    queue
        .put_after(b"sooner", Duration::from_millis(100))
        .await
        .unwrap();
    for (expected, after) in [("sooner", 99), ("later", 299)] {
        let item = within("an item", queue.take()).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(after));
        assert_eq!(item.data(), expected.as_bytes());
        item.complete().await.unwrap();
    }

    let queue = Arc::new(DistributedQueue::new(&keeper, "/b").unwrap().bounded(2));
    queue.put(b"1").await.unwrap();
    queue.put(b"2").await.unwrap();
    let full = tokio::time::timeout(Duration::from_millis(100), queue.put(b"3"));
    assert!(full.await.is_err());
    let putting = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.put(b"3").await }
    });
    assert_eq!(queue.len().await.unwrap(), 2);
    within("an item", queue.take())
        .await
        .unwrap()
        .complete()
        .await
        .unwrap();
    within("there is room", putting).await.unwrap().unwrap();
    assert_eq!(queue.len().await.unwrap(), 2);
}

#[tokio::test]
async fn who_waits_for_room_goes_on_in_the_next_session_and_strangers_take_none() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let (one, two) = (keeper(proxy.address()).await, keeper(server.address()).await);
    let queue = DistributedQueue::new(&one, "/q").unwrap().bounded(1);
    let other = DistributedQueue::new(&two, "/q").unwrap();
    let client = two.session();
    client.client().create("/q", b"", &PERSISTENT).await.unwrap();
    client
        .client()
        .create("/q/no-item", b"", &PERSISTENT)
        .await
        .unwrap();
    within("a put", queue.put(b"1")).await.unwrap();
    let putting = tokio::spawn(async move { queue.put(b"2").await });
    eventually("it waits", async || proxy.requests(OpCode::GetChildren) >= 2).await;
    expire(&server, &one).await;
    for item in [b"1", b"2"] {
        let taken = within("an item", other.take()).await.unwrap();
        assert_eq!(taken.data(), item);
        taken.complete().await.unwrap();
    }
    within("it is put", putting).await.unwrap().unwrap();
}
