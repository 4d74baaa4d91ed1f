//! Locks and elections on three servers, whose leader is killed in the middle.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oxkeeper_recipes::{
    Error, Hold, InterProcessMultiLock, InterProcessMutex, InterProcessReadWriteLock,
    InterProcessSemaphoreMutex, LeaderLatch, LeaderSelector, Session, SessionKeeper, SimpleLock,
};
use oxkeeper_testkit::Ensemble;
use support::{PERSISTENT, within};
use zookeeper_client::{Client, Error as ClientError};

const LOCKS: [&str; 5] = ["mutex", "semaphore", "write", "multi", "simple"];
const ELECTIONS: [&str; 2] = ["latch", "selector"];

fn connector() -> zookeeper_client::Connector {
    Client::connector().with_session_timeout(Duration::from_secs(10))
}

/// Counts one under the lock: a read, and a guarded write of what follows from it. False when it was not done, or
/// nobody knows.
async fn count(hold: &Hold, register: &str) -> bool {
    let client = hold.session().client();
    let Ok((data, _)) = client.get_data(register).await else {
        return false;
    };
    let next = (String::from_utf8(data).unwrap().parse::<u64>().unwrap() + 1).to_string();
    match hold
        .write(|transaction| transaction.add_set_data(register, next.as_bytes(), None))
        .await
    {
        Ok(_) => true,
        Err(Error::Revoked(_) | Error::Client(ClientError::ConnectionLoss)) => false,
        Err(error) => panic!("{error}"),
    }
}

/// One turn with a lock of this kind.
async fn turn(kind: &str, session: &Session) -> Result<bool, Error> {
    let path = format!("/locks/{kind}");
    let register = format!("/count-{kind}");
    match kind {
        "mutex" => {
            let guard = InterProcessMutex::new(session, &path)?.acquire().await?;
            Ok(count(&guard, &register).await)
        }
        "semaphore" => {
            let guard = InterProcessSemaphoreMutex::new(session, &path)?.acquire().await?;
            Ok(count(&guard, &register).await)
        }
        "write" => {
            let mut lock = InterProcessReadWriteLock::new(session, &path)?;
            drop(lock.read().await?);
            let guard = lock.write().await?;
            Ok(count(&guard, &register).await)
        }
        "multi" => {
            let mut lock = InterProcessMultiLock::new(session, [format!("{path}/a"), format!("{path}/b")])?;
            let guard = lock.acquire().await?;
            Ok(count(&guard.guards()[0], &register).await)
        }
        _ => {
            let guard = SimpleLock::new(session, &path)?.acquire().await?;
            Ok(count(&guard, &register).await)
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_and_elections_outlive_the_leader_of_the_ensemble() {
    let ensemble = Ensemble::start(3).unwrap();
    let cluster = ensemble.connect_string();
    let observer = Session::new(connector().connect(&cluster).await.unwrap());
    for kind in LOCKS.iter().chain(&ELECTIONS) {
        let register = format!("/count-{kind}");
        observer
            .client()
            .create(&register, b"0", &PERSISTENT)
            .await
            .unwrap();
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for kind in LOCKS {
        for _ in 0..2 {
            let (is_over, cluster) = (Arc::clone(&is_over), cluster.clone());
            tasks.push(tokio::spawn(async move {
                let keeper = SessionKeeper::with(connector(), &cluster, |session| session)
                    .await
                    .unwrap();
                let mut done = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let session = keeper.live_session().await;
                    if within(kind, turn(kind, &session))
                        .await
                        .is_ok_and(|counted| counted)
                    {
                        done.push(kind);
                    }
                }
                done
            }));
        }
    }
    for _ in 0..2 {
        let (is_over, cluster) = (Arc::clone(&is_over), cluster.clone());
        tasks.push(tokio::spawn(async move {
            let keeper = SessionKeeper::with(connector(), &cluster, |session| session)
                .await
                .unwrap();
            let selector = LeaderSelector::new(&keeper, "/election/selector", "it").unwrap();
            let mut done = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let latch = LeaderLatch::start(&keeper, "/election/latch", "it").unwrap();
                let led = latch.run_while_leader(|hold| async move { count(&hold, "/count-latch").await });
                if within("latch", led).await == Ok(true) {
                    done.push("latch");
                }
                within("closes", latch.close()).await.ok();
                let led = selector.lead(|hold| async move { count(&hold, "/count-selector").await });
                if within("selector", led).await == Ok(true) {
                    done.push("selector");
                }
            }
            done
        }));
    }
    let counted = async |kind: &str| -> usize {
        let data = loop {
            match observer.client().get_data(&format!("/count-{kind}")).await {
                Ok((data, _)) => break data,
                Err(ClientError::ConnectionLoss) => {}
                Err(error) => panic!("{error}"),
            }
        };
        String::from_utf8(data).unwrap().parse().unwrap()
    };
    let all_count_on = async || {
        for kind in LOCKS.iter().chain(&ELECTIONS) {
            let (before, mut now) = (counted(kind).await, 0);
            let goes_on = async {
                while now < before + 3 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    now = counted(kind).await;
                }
            };
            within(kind, goes_on).await;
        }
    };
    all_count_on().await;
    let leader = ensemble.leader().unwrap();
    ensemble.server(leader).kill().unwrap();
    tokio::task::block_in_place(|| ensemble.wait_for_leader()).unwrap();
    all_count_on().await;
    ensemble.server(leader).restart().unwrap();
    all_count_on().await;
    is_over.store(true, Ordering::Relaxed);
    let mut done = Vec::new();
    for task in tasks {
        done.extend(within("ends", task).await.unwrap());
    }
    for kind in LOCKS.iter().chain(&ELECTIONS) {
        let known = done.iter().filter(|one| *one == kind).count();
        let counted = counted(kind).await;
        // Without exclusion one write would undo another. What nobody knows the end of may have been counted.
        assert!(
            counted >= known && counted <= known + 8,
            "{kind}: {counted} of {known}"
        );
    }
}
