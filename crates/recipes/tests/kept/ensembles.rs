//! Everything on three servers, whose leader is killed in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oxkeeper_recipes::{
    AtomicLong, Balance, Barrier, Cache, Config, Discovery, DistributedQueue, DoubleBarrier, GroupMember,
    PersistentNode, Scope, ServiceInstance, SessionKeeper, SharedValue, UniqueIds,
};
use oxkeeper_testkit::Ensemble;

use crate::keeper_of;
use crate::support::{eventually, within};

fn number(bytes: &[u8]) -> Result<i64, String> {
    str::from_utf8(bytes)
        .unwrap_or("")
        .parse()
        .map_err(|_| "not a number".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recipe_outlives_the_leader_of_the_ensemble() {
    let ensemble = Ensemble::start(3).unwrap();
    let cluster = ensemble.connect_string();
    let keepers = async || {
        let timeout = Duration::from_secs(10);
        (
            keeper_of(&cluster, timeout).await,
            keeper_of(&cluster, timeout).await,
        )
    };
    let (one, two) = keepers().await;

    // Held before, and looked at after.
    let cache = Cache::new(&two, "/tree", Scope::Tree).unwrap();
    let config = Config::new(&two, "/tree/config", number).unwrap();
    let node = PersistentNode::new(&one, "/tree/node", "here").unwrap();
    let member = GroupMember::join(&one, "/group", "one", "").unwrap();
    let discovery = Discovery::new(&one, "/services").unwrap();
    let registration = discovery
        .register(ServiceInstance::new("web", "127.0.0.1", 80))
        .unwrap();
    let provider = Discovery::new(&two, "/services")
        .unwrap()
        .provider("web", Balance::RoundRobin)
        .unwrap();
    let value = within("the value", SharedValue::open(&one, "/value", "0"))
        .await
        .unwrap();
    let barrier = Barrier::new(&one, "/barrier").unwrap();
    within("the barrier", barrier.set()).await.unwrap();
    within("the node", node.placed()).await.unwrap();
    within("the member", member.joined()).await.unwrap();
    within("the registration", registration.registered())
        .await
        .unwrap();
    within("the configuration", config.set(b"1", None)).await.unwrap();
    let waiting = tokio::spawn({
        let barrier = Barrier::new(&two, "/barrier").unwrap();
        async move { barrier.wait().await }
    });

    // Under way while it happens.
    let ends = Arc::new(AtomicBool::new(false));
    let counting = tokio::spawn(count(one.clone(), Arc::clone(&ends)));
    let numbering = tokio::spawn(take_numbers(two.clone(), Arc::clone(&ends)));
    let producing = tokio::spawn(put_items(one.clone(), Arc::clone(&ends)));
    let consuming = tokio::spawn(take_items(two.clone()));
    let meeting = tokio::spawn({
        let (first, second) = (one.session(), two.session());
        let ends = Arc::clone(&ends);
        async move {
            let mut rounds = 0;
            while !ends.load(Ordering::Relaxed) || rounds < 2 {
                let path = format!("/rounds/{rounds}");
                let meet = async |session| {
                    DoubleBarrier::new(session, &path, 2)
                        .unwrap()
                        .enter()
                        .await
                        .unwrap()
                        .leave()
                        .await
                        .unwrap();
                };
                tokio::join!(meet(&first), meet(&second));
                rounds += 1;
            }
            rounds
        }
    });
    eventually("items pass", async || {
        one.session()
            .client()
            .check_stat("/items")
            .await
            .is_ok_and(|s| s.is_some())
    })
    .await;
    let leader = ensemble.wait_for_leader().unwrap();
    ensemble.server(leader).kill().unwrap();
    let next = tokio::task::spawn_blocking(move || {
        let next = ensemble.wait_for_leader().unwrap();
        (ensemble, next)
    });
    let (ensemble, next) = within("the next leader", next).await.unwrap();
    assert_ne!(leader, next);
    within("it goes on", config.set(b"2", None)).await.unwrap();
    within("it goes on", value.set(b"1")).await.unwrap();
    within("it goes on", barrier.remove()).await.unwrap();
    ends.store(true, Ordering::Relaxed);

    within("who waited goes on", waiting).await.unwrap().unwrap();
    let (counted, count) = within("the counting", counting).await.unwrap();
    assert_eq!(counted, count, "each once");
    within("the numbers", numbering).await.unwrap();
    assert!(within("the meetings", meeting).await.unwrap() >= 2);
    let put = within("the items put", producing).await.unwrap();
    let taken = within("the items taken", consuming).await.unwrap();
    assert_eq!(taken, (0..put).collect::<Vec<_>>(), "each once, in order");

    eventually("the configuration follows", async || {
        config.get().is_some_and(|good| good.value == 2)
    })
    .await;
    eventually("the value follows", async || {
        value.get().is_some_and(|value| value.value == b"1")
    })
    .await;
    eventually("the cache follows", async || {
        cache.get("/tree/config").is_some_and(|node| node.data == b"2")
    })
    .await;
    assert!(cache.get("/tree/node").is_some() && member.members().contains_key("one"));
    assert_eq!(provider.pick().unwrap().id, registration.instance().id);
    within("it closes", registration.close()).await.unwrap();
    eventually("the provider follows", async || provider.pick().is_none()).await;
    drop(ensemble);
}

/// Counts one by one; gives how often, and what the count is.
async fn count(keeper: SessionKeeper, ends: Arc<AtomicBool>) -> (i64, i64) {
    let long = AtomicLong::new(&keeper, "/long").unwrap();
    let mut counted = 0;
    while !ends.load(Ordering::Relaxed) {
        long.add(1).await.unwrap();
        counted += 1;
    }
    (counted, long.get().await.unwrap())
}

async fn take_numbers(keeper: SessionKeeper, ends: Arc<AtomicBool>) {
    let ids = UniqueIds::new(&keeper, "/ids", 2).unwrap();
    let mut last = -1;
    while !ends.load(Ordering::Relaxed) || last < 5 {
        let next = ids.next().await.unwrap();
        assert!(next > last);
        last = next;
    }
}

async fn put_items(keeper: SessionKeeper, ends: Arc<AtomicBool>) -> u32 {
    let queue = DistributedQueue::new(&keeper, "/items").unwrap().bounded(10);
    let mut put = 0_u32;
    while !ends.load(Ordering::Relaxed) || put < 10 {
        queue.put(&put.to_be_bytes()).await.unwrap();
        put += 1;
    }
    queue.put(b"end").await.unwrap();
    put
}

async fn take_items(keeper: SessionKeeper) -> Vec<u32> {
    let queue = DistributedQueue::new(&keeper, "/items").unwrap();
    let mut taken = Vec::new();
    loop {
        let item = queue.take().await.unwrap();
        let number = item.data().try_into().map(u32::from_be_bytes);
        item.complete().await.unwrap();
        match number {
            Ok(number) => taken.push(number),
            Err(_) => return taken,
        }
    }
}
