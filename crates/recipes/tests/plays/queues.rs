//! Queues: no item is lost, none is done twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use oxkeeper_recipes::{
    DistributedDelayQueue, DistributedPriorityQueue, DistributedQueue, Error, Queue, Session, SessionKeeper,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Stage;
use crate::support::{PERSISTENT, children, eventually, within};

/// How many items are put in each part of a play.
const ITEMS: usize = 12;

/// Takes an item and is done with it, again when the item went to another before it was done.
async fn take(queue: &Queue) -> Vec<u8> {
    loop {
        let item = within("an item", queue.take()).await.unwrap();
        let data = item.data().to_vec();
        match item.complete().await {
            Ok(()) => return data,
            Err(Error::Revoked(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn ends_empty(queue: &Queue, observer: &Session, path: &str) {
    assert!(queue.is_empty().await.unwrap());
    let locks = format!("{path}-locks");
    eventually("nothing stays", async || {
        children(observer, &locks).await.is_empty()
    })
    .await;
}

/// Puts items of its own until it is told to end; gives their names.
fn produce(
    keeper: SessionKeeper,
    path: &str,
    name: &str,
    ends: watch::Receiver<bool>,
) -> JoinHandle<Vec<String>> {
    let queue = DistributedQueue::new(&keeper, path).unwrap().bounded(2 * ITEMS);
    let name = name.to_owned();
    tokio::spawn(async move {
        let mut put = Vec::new();
        while put.len() < ITEMS || !*ends.borrow() {
            let item = format!("{name}-{}", put.len());
            within("a put", queue.put(item.as_bytes())).await.unwrap();
            put.push(item);
        }
        put
    })
}

/// Leaves a znode for each item that it does; a second one for the same item would be refused.
fn consume(keeper: SessionKeeper, path: &str, done: &str) -> JoinHandle<()> {
    let queue = DistributedQueue::new(&keeper, path).unwrap();
    let done = done.to_owned();
    tokio::spawn(async move {
        loop {
            let item = queue.take().await.unwrap();
            let own = format!("{done}/{}", str::from_utf8(item.data()).unwrap());
            let completed = item.complete_with(|write| write.add_create(&own, b"", &PERSISTENT));
            match completed.await {
                Ok(()) | Err(Error::Revoked(_)) => {}
                Err(error) => panic!("{own}: {error}"),
            }
        }
    })
}

pub async fn queue(stage: &Stage) {
    let observer = stage.session().await;
    let (path, done) = (stage.path("items"), stage.path("done"));
    observer.client().create(&done, b"", &PERSISTENT).await.unwrap();
    let keeper = stage.keeper().await;
    let queue = DistributedQueue::new(&keeper, &path).unwrap();
    queue.put(b"of-the-dead").await.unwrap();
    queue.put(b"of-the-tired").await.unwrap();
    let (dies, tires) = (stage.mortal().await, stage.keeper().await);
    let of_the_dead = within(
        "an item",
        DistributedQueue::new(&dies.keeper, &path).unwrap().take(),
    )
    .await
    .unwrap();
    let of_the_tired = within("an item", DistributedQueue::new(&tires, &path).unwrap().take())
        .await
        .unwrap();
    assert_eq!(
        (of_the_dead.data(), of_the_tired.data()),
        (&b"of-the-dead"[..], &b"of-the-tired"[..])
    );

    let (ends, is_over) = watch::channel(false);
    let mut producers = Vec::new();
    let mut consumers = Vec::new();
    for name in ["a", "b"] {
        producers.push(produce(stage.keeper().await, &path, name, is_over.clone()));
        consumers.push(consume(stage.keeper().await, &path, &done));
    }
    let is_done = async |least: usize| {
        eventually("items are done", async || {
            assert!(
                !consumers.iter().any(JoinHandle::is_finished),
                "a consumer has failed"
            );
            children(&observer, &done).await.len() >= least
        })
        .await;
        children(&observer, &done).await.len()
    };
    let before = is_done(ITEMS / 2).await;
    stage.leader_dies().await;
    let after = is_done(before + ITEMS).await;
    dies.end().await;
    assert!(of_the_dead.complete().await.is_err());
    drop(of_the_tired);
    stage.leader_returns().await;
    is_done(after + ITEMS).await;
    ends.send_replace(true);
    let mut put = BTreeSet::from(["of-the-dead".to_owned(), "of-the-tired".to_owned()]);
    for producer in producers {
        put.extend(within("the last put", producer).await.unwrap());
    }
    is_done(put.len()).await;
    let found: BTreeSet<String> = children(&observer, &done).await.into_iter().collect();
    assert_eq!(found, put);
    for consumer in consumers {
        consumer.abort();
    }
    ends_empty(&queue, &observer, &path).await;
}

pub async fn bounded_queue(stage: &Stage) {
    const BOUND: usize = 5;
    let path = stage.path("items");
    let (observer, keeper) = (stage.session().await, stage.keeper().await);
    let queue = DistributedQueue::new(&keeper, &path).unwrap();
    let producing = tokio::spawn({
        let queue = DistributedQueue::new(&stage.keeper().await, &path)
            .unwrap()
            .bounded(BOUND);
        async move {
            for item in 0..3 * ITEMS {
                queue.put(item.to_string().as_bytes()).await.unwrap();
            }
        }
    });
    eventually("it is full", async || queue.len().await.unwrap() == BOUND).await;
    stage.leader_dies().await;
    assert!(!producing.is_finished());
    for item in 0..3 * ITEMS {
        assert!(queue.len().await.unwrap() <= BOUND);
        assert_eq!(
            take(&queue).await,
            item.to_string().into_bytes(),
            "each once, in order"
        );
        if item == ITEMS {
            stage.leader_returns().await;
        }
    }
    within("all are put", producing).await.unwrap();
    ends_empty(&queue, &observer, &path).await;
}

pub async fn priority_queue(stage: &Stage) {
    let path = stage.path("items");
    let (observer, keeper) = (stage.session().await, stage.keeper().await);
    let queue = DistributedPriorityQueue::new(&keeper, &path).unwrap();
    let mut put = Vec::new();
    let put_some = async |put: &mut Vec<(i32, usize)>| {
        for _ in 0..ITEMS {
            let (priority, number) = (fastrand::i32(-3..3), put.len());
            let item = format!("{priority} {number}");
            within("a put", queue.put(item.as_bytes(), priority))
                .await
                .unwrap();
            put.push((priority, number));
        }
    };
    put_some(&mut put).await;
    tokio::join!(stage.leader_dies(), put_some(&mut put));
    put.sort_unstable();
    let mut items = put.into_iter();
    let take_some = async |items: &mut dyn Iterator<Item = (i32, usize)>| {
        for (priority, number) in items {
            assert_eq!(take(&queue).await, format!("{priority} {number}").into_bytes());
        }
    };
    take_some(&mut items.by_ref().take(ITEMS)).await;
    stage.leader_returns().await;
    take_some(&mut items).await;
    ends_empty(&queue, &observer, &path).await;
}

pub async fn delay_queue(stage: &Stage) {
    let path = stage.path("items");
    let (observer, keeper) = (stage.session().await, stage.keeper().await);
    let queue = Arc::new(DistributedDelayQueue::new(&keeper, &path).unwrap());
    let begun = SystemTime::now();
    // Some are due before the death, some during it, some after it.
    let due = move |number: usize| begun + Duration::from_millis(number as u64 * 100);
    for number in (0..ITEMS).rev() {
        let item = number.to_string();
        let put = queue.put_at(item.as_bytes(), due(number));
        within("a put", put).await.unwrap();
    }
    let taking = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move {
            for number in 0..=ITEMS {
                assert_eq!(take(&queue).await, number.to_string().into_bytes());
                assert!(SystemTime::now() >= due(number), "{number} is early");
            }
        }
    });
    eventually("some are taken", async || queue.len().await.unwrap() < ITEMS).await;
    stage.leader_dies().await;
    let last = ITEMS.to_string();
    let put = queue.put_at(last.as_bytes(), due(ITEMS));
    within("a put", put).await.unwrap();
    within("all are taken", taking).await.unwrap();
    stage.leader_returns().await;
    ends_empty(&queue, &observer, &path).await;
}
