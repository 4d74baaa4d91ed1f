//! Half of `interop/recipes`: exchanges with Curator's recipes what does not contend: services, values, queues,
//! members. `Exchange.java` is the other half; a double barrier that both enter keeps them in step.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use oxkeeper_recipes::{
    AtomicLong, Balance, Barrier, Discovery, DistributedDelayQueue, DistributedPriorityQueue,
    DistributedQueue, DoubleBarrier, GroupMember, PersistentNode, ServiceInstance, Session, SessionKeeper,
    SharedCount, UriSpec,
};

const ADDS: i64 = 30;

#[tokio::main]
async fn main() {
    let cluster = std::env::args().nth(1).unwrap();
    let keeper = SessionKeeper::connect(&cluster).await.unwrap();
    let session = keeper.session();
    tokio::time::timeout(Duration::from_secs(60), exchange(&keeper, &session))
        .await
        .unwrap();
}

/// Waits until the other is there too.
async fn meet(session: &Session, round: &str) {
    let barrier = DoubleBarrier::new(session, &format!("/meet/{round}"), 2).unwrap();
    barrier.enter().await.unwrap().leave().await.unwrap();
}

async fn exchange(keeper: &SessionKeeper, session: &Session) {
    let gate = Barrier::new(keeper, "/gate").unwrap();
    gate.set().await.unwrap();
    meet(session, "begin").await;

    // The other waits at the gate meanwhile.
    let discovery = Discovery::new(keeper, "/services").unwrap();
    let mut instance = ServiceInstance::new("web", "10.0.0.1", 8001)
        .with_payload(&"from rust")
        .unwrap();
    instance.id = "rust".to_owned();
    instance.uri_spec = Some(UriSpec::parse("{scheme}://{address}:{port}/{name}").unwrap());
    let registration = discovery.register(instance).unwrap();
    registration.registered().await.unwrap();
    let member = GroupMember::join(keeper, "/group", "rust", "R").unwrap();
    member.joined().await.unwrap();
    gate.remove().await.unwrap();
    meet(session, "registered").await;

    let found = discovery.instance("web", "java").await.unwrap().unwrap();
    assert_eq!(
        (found.address.as_deref(), found.port, found.ssl_port),
        (Some("10.0.0.2"), Some(8002), Some(8443))
    );
    assert_eq!(
        found.payload_as::<String>().unwrap().as_deref(),
        Some("from java")
    );
    assert_eq!(found.uri().unwrap(), "https://10.0.0.2:8002/web");
    assert!(found.enabled && found.registration_time_utc > 1_600_000_000_000);
    let provider = discovery.provider("web", Balance::RoundRobin).unwrap();
    provider.ready().await.unwrap();
    let picked = [provider.pick().unwrap(), provider.pick().unwrap()];
    assert_eq!(picked.map(|picked| picked.id.clone()), ["java", "rust"]);
    let members = member.members();
    assert_eq!(members.get("java").map(Vec::as_slice), Some(&b"J"[..]));
    meet(session, "found").await;

    let count = SharedCount::open(keeper, "/count", 7).await.unwrap();
    meet(session, "opened").await;
    let mut updates = count.updates();
    while count.get().unwrap().is_none_or(|count| count.value != 8) {
        updates.next().await.unwrap();
    }
    let eight = count.get().unwrap().unwrap();
    assert!(count.try_set(&eight, -9).await.unwrap());

    let long = AtomicLong::new(keeper, "/long")
        .unwrap()
        .with_lock("/long-lock")
        .unwrap();
    for _ in 0..ADDS {
        long.add(1).await.unwrap();
    }
    meet(session, "counted").await;
    assert_eq!(long.get().await.unwrap(), 2 * ADDS);

    let to_java = DistributedQueue::new(keeper, "/to-java").unwrap();
    let urgent_to_java = DistributedPriorityQueue::new(keeper, "/urgent-to-java").unwrap();
    let late_to_java = DistributedDelayQueue::new(keeper, "/late-to-java").unwrap();
    for (item, priority) in [("a", 3), ("b", -2), ("c", 0)] {
        to_java.put(item.as_bytes()).await.unwrap();
        urgent_to_java.put(item.as_bytes(), priority).await.unwrap();
    }
    late_to_java
        .put_after(b"b", Duration::from_millis(300))
        .await
        .unwrap();
    late_to_java
        .put_after(b"a", Duration::from_millis(100))
        .await
        .unwrap();
    meet(session, "put").await;
    let from_java = DistributedQueue::new(keeper, "/to-rust").unwrap();
    let urgent_from_java = DistributedPriorityQueue::new(keeper, "/urgent-to-rust").unwrap();
    let late_from_java = DistributedDelayQueue::new(keeper, "/late-to-rust").unwrap();
    for (queue, expected) in [
        (&*from_java, "abc"),
        (&*urgent_from_java, "bca"),
        (&*late_from_java, "ab"),
    ] {
        let mut taken = String::new();
        while taken.len() < expected.len() {
            let item = queue.take().await.unwrap();
            taken += str::from_utf8(item.data()).unwrap();
            item.complete().await.unwrap();
        }
        assert_eq!(taken, expected);
    }
    for queue in [&*to_java, &*urgent_to_java, &*late_to_java] {
        while !queue.is_empty().await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    meet(session, "taken").await;

    // What Curator has at a path is waited for.
    let node = PersistentNode::new(keeper, "/node", "R").unwrap();
    node.placed().await.unwrap();
    registration.close().await.unwrap();
    member.leave().await.unwrap();
    meet(session, "gone").await;
    node.close().await.unwrap();
}
