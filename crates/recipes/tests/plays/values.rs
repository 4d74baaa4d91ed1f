//! Barriers, values that many write, and names.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use oxkeeper_recipes::{
    AtomicLong, Barrier, DoubleBarrier, Entered, Result, SessionKeeper, SharedCount, SharedValue, UniqueIds,
    create_sequential, sequence,
};
use tokio::task::JoinHandle;

use super::{Stage, Turn, Workers};
use crate::support::{children, eventually, within};

pub async fn barrier(stage: &Stage) {
    let path = stage.path("barrier");
    let barrier = Barrier::new(&stage.keeper().await, &path).unwrap();
    let waiters = async || {
        let mut waiters = Vec::new();
        for _ in 0..2 {
            let barrier = Barrier::new(&stage.keeper().await, &path).unwrap();
            waiters.push(tokio::spawn(async move { barrier.wait().await }));
        }
        waiters
    };
    let pass = async |waiters: Vec<JoinHandle<Result<()>>>| {
        assert!(!waiters.iter().any(JoinHandle::is_finished), "it is set");
        within("it is removed", barrier.remove()).await.unwrap();
        for waiter in waiters {
            within("who waited goes on", waiter).await.unwrap().unwrap();
        }
    };
    barrier.set().await.unwrap();
    let waiting = waiters().await;
    stage.leader_dies().await;
    pass(waiting).await;
    within("it is set again", barrier.set()).await.unwrap();
    let waiting = waiters().await;
    stage.leader_returns().await;
    pass(waiting).await;
}

pub async fn double_barrier(stage: &Stage) {
    const MEMBERS: usize = 3;
    let observer = stage.session().await;
    let dies = stage.mortal().await;
    let sessions = [
        stage.session().await,
        dies.keeper.session(),
        stage.session().await,
    ];
    let barrier = |member: usize, round: &str| {
        DoubleBarrier::new(&sessions[member], &stage.path(round), MEMBERS).unwrap()
    };
    let enter = |member: usize, round: &str| {
        let barrier = barrier(member, round);
        tokio::spawn(async move { barrier.enter().await.unwrap() })
    };
    let all_leave = async |inside: Vec<Entered>| {
        let leaving: Vec<_> = inside
            .into_iter()
            .map(|inside| tokio::spawn(inside.leave()))
            .collect();
        for leaving in leaving {
            within("all leave", leaving).await.unwrap().unwrap();
        }
    };
    let meet = async |round: &str| {
        let entering: [_; MEMBERS] = std::array::from_fn(|member| enter(member, round));
        let mut inside = Vec::new();
        for entering in entering {
            inside.push(within("all are in", entering).await.unwrap());
        }
        all_leave(inside).await;
    };
    // Over the death one round is waited for, and one is waited to end.
    let waiting: Vec<_> = (0..MEMBERS - 1).map(|member| enter(member, "begins")).collect();
    let mut leaving = Vec::new();
    let mut inside: Vec<_> = (0..MEMBERS).map(|member| enter(member, "ends")).collect();
    let last = within("all are in", inside.remove(0)).await.unwrap();
    for inside in inside {
        let inside = within("all are in", inside).await.unwrap();
        leaving.push(tokio::spawn(inside.leave()));
    }
    meet("before").await;
    stage.leader_dies().await;
    meet("after").await;
    assert!(!waiting.iter().any(JoinHandle::is_finished), "one is missing");
    assert!(!leaving.iter().any(JoinHandle::is_finished), "one is in");
    let mut inside = vec![within("all are in", enter(MEMBERS - 1, "begins")).await.unwrap()];
    for waiting in waiting {
        inside.push(within("all are in", waiting).await.unwrap());
    }
    within("it leaves", last.leave()).await.unwrap();
    for leaving in leaving {
        within("all leave", leaving).await.unwrap().unwrap();
    }
    stage.leader_returns().await;
    // Who dies inside is not waited for.
    let dead = inside.pop();
    dies.end().await;
    all_leave(inside).await;
    assert!(dead.unwrap().leave().await.unwrap_err().is_session_over());
    for round in ["before", "after", "begins", "ends"] {
        let dir = stage.path(round);
        eventually("nothing stays", async || {
            children(&observer, &dir).await.is_empty()
        })
        .await;
    }
}

pub async fn shared_value(stage: &Stage) {
    let path = stage.path("value");
    let keeper = stage.keeper().await;
    let value = within("the value", SharedValue::open(&keeper, &path, "0"))
        .await
        .unwrap();
    let turn = move |keeper: SessionKeeper| {
        let path = path.clone();
        async move {
            let value = SharedValue::open(&keeper, &path, "1000").await.unwrap();
            let old = value.read().await.unwrap().unwrap();
            let next = (number(&old.value) + 1).to_string();
            match value.try_set(&old, next.as_bytes()).await.unwrap() {
                true => Turn::Done,
                false => Turn::Missed,
            }
        }
    };
    let done = Workers::start(stage, 3, turn)
        .await
        .outlive_the_leader(stage)
        .await;
    let found = value.read().await.unwrap().unwrap();
    assert!(done.contains(&number(&found.value)), "{found:?} of {done:?}");
    eventually("who watched knows it", async || {
        value.get().as_ref() == Some(&found)
    })
    .await;
}

fn number(text: &[u8]) -> u64 {
    str::from_utf8(text).unwrap().parse().unwrap()
}

pub async fn shared_count(stage: &Stage) {
    let path = stage.path("count");
    let keeper = stage.keeper().await;
    let count = within("the count", SharedCount::open(&keeper, &path, 0))
        .await
        .unwrap();
    let turn = move |keeper: SessionKeeper| {
        let path = path.clone();
        async move {
            let count = SharedCount::open(&keeper, &path, 1000).await.unwrap();
            let old = count.read().await.unwrap().unwrap();
            match count.try_set(&old, old.value + 1).await.unwrap() {
                true => Turn::Done,
                false => Turn::Missed,
            }
        }
    };
    let done = Workers::start(stage, 3, turn)
        .await
        .outlive_the_leader(stage)
        .await;
    let found = count.read().await.unwrap().unwrap();
    assert!(
        done.contains(&u64::try_from(found.value).unwrap()),
        "{found:?} of {done:?}"
    );
    eventually("who watched knows it", async || {
        count.get().unwrap().as_ref() == Some(&found)
    })
    .await;
}

pub async fn atomic_long(stage: &Stage) {
    let path = stage.path("long");
    let long = AtomicLong::new(&stage.keeper().await, &path).unwrap();
    let turn = {
        let lock = stage.path("lock");
        move |keeper: SessionKeeper| {
            let long = AtomicLong::new(&keeper, &path).unwrap();
            // Some of the turns with a lock to take when it is always too late.
            let long = match fastrand::bool() {
                true => long.with_lock(&lock).unwrap(),
                false => long,
            };
            async move {
                long.add(1).await.unwrap();
                Turn::Done
            }
        }
    };
    let done = Workers::start(stage, 3, turn)
        .await
        .outlive_the_leader(stage)
        .await;
    let found = long.get().await.unwrap();
    assert!(
        done.contains(&u64::try_from(found).unwrap()),
        "{found} of {done:?}"
    );
    assert!(long.compare_and_set(found, -1).await.unwrap());
    assert!(!long.compare_and_set(found, 0).await.unwrap());
}

pub async fn unique_ids(stage: &Stage) {
    let path = stage.path("ids");
    let given = Arc::new(Mutex::new(BTreeSet::new()));
    let turn = move |keeper: SessionKeeper| {
        let (path, given) = (path.clone(), Arc::clone(&given));
        async move {
            let ids = UniqueIds::new(&keeper, &path, 2).unwrap();
            let mut last = -1;
            for _ in 0..5 {
                let id = ids.next().await.unwrap();
                assert!(id > last && given.lock().unwrap().insert(id), "{id} after {last}");
                last = id;
            }
            Turn::Done
        }
    };
    Workers::start(stage, 2, turn)
        .await
        .outlive_the_leader(stage)
        .await;
}

pub async fn sequential_names(stage: &Stage) {
    let (observer, dir) = (stage.session().await, stage.path("names"));
    let names = Arc::new(Mutex::new(BTreeSet::new()));
    let turn = {
        let (dir, names) = (dir.clone(), Arc::clone(&names));
        move |keeper: SessionKeeper| {
            let (dir, names) = (dir.clone(), Arc::clone(&names));
            async move {
                let mut last = -1;
                for _ in 0..3 {
                    let made = create_sequential(&keeper.session(), &dir, "n-", b"")
                        .await
                        .unwrap();
                    let number = sequence::of(&made.path, "n-").unwrap();
                    assert!(
                        number > last && names.lock().unwrap().insert(made.path),
                        "{number} after {last}"
                    );
                    last = number;
                }
                Turn::Done
            }
        }
    };
    Workers::start(stage, 2, turn)
        .await
        .outlive_the_leader(stage)
        .await;
    let found = children(&observer, &dir).await;
    let found: BTreeSet<String> = found.iter().map(|name| format!("{dir}/{name}")).collect();
    assert_eq!(found, *names.lock().unwrap(), "one call, one znode");
}
