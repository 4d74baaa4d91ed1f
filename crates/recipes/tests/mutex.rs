//! The mutex and what it stands on, with faults between client and server.

mod support;

use std::time::Duration;

use oxkeeper_recipes::{ConnectionState, InterProcessMutex, Revoked};
use support::{Break, Proxy, Server, children, eventually, op, within};

#[tokio::test]
async fn a_mutex_passes_from_one_to_the_next_in_order() {
    let server = Server::start();
    let (one, two) = (server.session().await, server.session().await);
    let mut first = InterProcessMutex::new(&one, "/locks/job").unwrap();
    let mut second = InterProcessMutex::new(&two, "/locks/job").unwrap();
    let held = within("the first", first.acquire()).await.unwrap();
    assert!(held.is_held());
    let token = held.fencing_token();
    assert!(
        second
            .acquire_within(Duration::from_millis(50))
            .await
            .unwrap()
            .is_none()
    );
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
    assert!(
        other
            .acquire_within(Duration::from_millis(50))
            .await
            .unwrap()
            .is_none()
    );
    inner.release().await.unwrap();
    within("the other owner", other.acquire()).await.unwrap();
}

#[tokio::test]
async fn a_create_whose_reply_was_lost_makes_one_znode() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let direct = server.session().await;
    for lost in [Break::Reply(op::CREATE2), Break::Request(op::CREATE2)] {
        let session = proxy.session(Duration::from_secs(10)).await;
        let mut mutex = InterProcessMutex::new(&session, "/m").unwrap();
        within("the directory is there", mutex.acquire())
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
        let before = proxy.broken();
        proxy.break_next(lost);
        let held = within("the lock", mutex.acquire()).await.unwrap();
        assert_eq!(proxy.broken(), before + 1);
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
    for lost in [Break::Reply(op::DELETE), Break::Request(op::DELETE)] {
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
    let timeout = Duration::from_millis(1500);
    let session = proxy.session(timeout).await;
    within("connected", session.connected()).await.unwrap();
    proxy.cut();
    let state = within("the cut", session.state_other_than(ConnectionState::Connected)).await;
    assert_eq!(state, ConnectionState::Suspended);
    let contact = session.last_contact();
    let state = within("the loss", session.state_other_than(ConnectionState::Suspended)).await;
    assert_eq!(state, ConnectionState::Lost);
    let silence = contact.elapsed();
    assert!(
        silence >= timeout && silence < timeout + Duration::from_millis(400),
        "{silence:?}"
    );
    assert!(!session.is_over(), "the client itself has not given up yet");
}
