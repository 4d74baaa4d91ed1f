//! Latch and selector.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use oxkeeper_recipes::{Error, LeaderLatch, LeaderSelector, Revoked, SessionKeeper};
use support::{PERSISTENT, Proxy, Server, children, eventually, within};
use zookeeper_client::{Acls, Client, CreateMode, Error as ClientError};

async fn keeper(address: std::net::SocketAddr) -> SessionKeeper {
    SessionKeeper::connect(&address.to_string()).await.unwrap()
}

#[tokio::test]
async fn one_latch_leads_and_the_next_follows_when_it_closes() {
    let server = Server::start();
    let keeper = keeper(server.address()).await;
    let latch = |id: &str| LeaderLatch::start(&keeper, "/election", id).unwrap();
    let (first, second) = (latch("first"), latch("second"));
    within("a leader", async {
        tokio::select! {
            led = first.wait_for_leadership() => drop(led.unwrap()),
            led = second.wait_for_leadership() => drop(led.unwrap()),
        }
    })
    .await;
    eventually("both take part", async || {
        first.participants().await.unwrap().len() == 2
    })
    .await;
    let (leading, waiting) = match first.is_leader() {
        true => (first, second),
        false => (second, first),
    };
    assert!(leading.is_leader() && !waiting.is_leader());
    let seen = waiting.participants().await.unwrap();
    assert_eq!(
        seen.iter().map(|one| one.is_leader).collect::<Vec<_>>(),
        [true, false]
    );
    let token = leading.leadership().unwrap().fencing_token();
    let mut listener = waiting.listen();
    leading.close().await.unwrap();
    let leadership = within("the listener hears", listener.changed()).await.unwrap();
    assert!(leadership.fencing_token() > token && waiting.is_leader());
    drop(leadership);
    drop(waiting);
    eventually("a dropped latch leaves", async || {
        children(&keeper.session(), "/election").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn run_while_leader_drops_its_future_on_loss_and_the_latch_leads_again() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let keeper = keeper(proxy.address()).await;
    let latch = LeaderLatch::start(&keeper, "/election", "it").unwrap();
    assert_eq!(
        within("leads", latch.run_while_leader(|_| async { 7 })).await,
        Ok(7)
    );
    assert!(latch.is_leader(), "the leadership stays");
    let mut listener = latch.listen();
    let (alive, dropped) = tokio::sync::oneshot::channel::<()>();
    let first = latch.leadership().unwrap().fencing_token();
    let lost = latch.run_while_leader(|_leadership| async move {
        let _alive = alive;
        std::future::pending::<()>().await;
    });
    let (lost, ()) = tokio::join!(within("it ends", lost), async { proxy.cut() });
    assert_eq!(lost, Err(Error::Revoked(Revoked::Suspended)));
    assert!(dropped.await.is_err() && !latch.is_leader());
    assert!(within("the listener hears", listener.changed()).await.is_none());
    proxy.heal();
    let again = within("leads again", latch.wait_for_leadership()).await.unwrap();
    assert!(again.fencing_token() > first);
    // And with another session.
    server.expire(&keeper.session()).await;
    within("lost", again.revoked()).await;
    drop(again);
    let after = within("leads once more", latch.wait_for_leadership())
        .await
        .unwrap();
    after
        .write(|transaction| transaction.add_create("/x", b"", &PERSISTENT))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_latch_can_be_closed_when_there_are_no_servers_any_more() {
    let server = Server::start();
    let connector = Client::connector().with_session_timeout(Duration::from_secs(1));
    let keeper = SessionKeeper::with(connector, &server.connect_string(), |session| session)
        .await
        .unwrap();
    let latch = LeaderLatch::start(&keeper, "/election", "it").unwrap();
    within("leads", latch.wait_for_leadership()).await.unwrap();
    server.kill().unwrap();
    within("the session is over", keeper.session().over()).await;
    let mut listener = latch.listen();
    if latch.leadership().is_some() {
        within("lost", listener.changed()).await;
    }
    within("closed", latch.close()).await.unwrap();
}

#[tokio::test]
async fn an_election_that_the_servers_refuse_says_why() {
    let server = Server::start();
    let keeper = keeper(server.address()).await;
    let read_only = CreateMode::Persistent.with_acls(Acls::anyone_read());
    let created = keeper
        .session()
        .client()
        .create("/election", b"", &read_only)
        .await;
    created.unwrap();
    let latch = LeaderLatch::start(&keeper, "/election", "it").unwrap();
    let refused = Error::Client(ClientError::NoAuth);
    let waited = within("refused", latch.wait_for_leadership()).await;
    assert_eq!(waited.err(), Some(refused.clone()));
    assert_eq!(within("closed", latch.close()).await, Err(refused));
}

#[tokio::test]
async fn nobody_leads_while_a_lost_leadership_is_still_used() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let (cut, other) = (keeper(proxy.address()).await, keeper(server.address()).await);
    let latch = LeaderLatch::start(&cut, "/election", "one").unwrap();
    let leadership = within("leads", latch.wait_for_leadership()).await.unwrap();
    let second = LeaderLatch::start(&other, "/election", "two").unwrap();
    eventually("the other waits", async || {
        second.participants().await.unwrap().len() == 2
    })
    .await;
    proxy.cut();
    within("lost", leadership.revoked()).await;
    proxy.heal();
    within("connected", cut.session().connected()).await.unwrap();
    eventually("queues up again", async || {
        second.participants().await.unwrap().len() == 3
    })
    .await;
    assert!(!second.is_leader() && !latch.is_leader());
    drop(leadership);
    within("the other leads", second.wait_for_leadership())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_selector_leads_for_a_term_and_then_lets_others() {
    let server = Server::start();
    let (one, two) = (keeper(server.address()).await, keeper(server.address()).await);
    let terms = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (keeper, id) in [(one, "one"), (two, "two")] {
        let terms = Arc::clone(&terms);
        tasks.push(tokio::spawn(async move {
            let selector = LeaderSelector::new(&keeper, "/election", id).unwrap();
            for _ in 0..5 {
                let term = selector.lead(|leadership| {
                    let (terms, keeper) = (Arc::clone(&terms), keeper.clone());
                    async move {
                        let queue = async || {
                            keeper
                                .session()
                                .client()
                                .list_children("/election")
                                .await
                                .unwrap()
                        };
                        // A term ends when the other waits for it.
                        while queue().await.len() < 2 && terms.lock().unwrap().len() < 9 {
                            tokio::time::sleep(Duration::from_millis(2)).await;
                        }
                        terms.lock().unwrap().push((leadership.fencing_token(), id));
                    }
                });
                within("a term", term).await.unwrap();
            }
        }));
    }
    for task in tasks {
        within("ten terms", task).await.unwrap();
    }
    let terms = terms.lock().unwrap().clone();
    assert_eq!(terms.len(), 10);
    assert!(terms.windows(2).all(|pair| pair[0].0 < pair[1].0), "{terms:?}");
    // Whoever is done queues up behind the other.
    assert!(
        terms.windows(2).take(7).all(|pair| pair[0].1 != pair[1].1),
        "{terms:?}"
    );
}

#[tokio::test]
async fn a_term_that_was_interrupted_begins_anew() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let keeper = keeper(proxy.address()).await;
    let selector = LeaderSelector::new(&keeper, "/election", "it").unwrap();
    let mut listener = selector.listen();
    let mut begun = 0;
    let term = selector.lead(|leadership| {
        begun += 1;
        let (is_first, proxy) = (begun == 1, proxy.clone());
        async move {
            if is_first {
                proxy.cut();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    proxy.heal();
                });
                std::future::pending::<()>().await;
            }
            leadership.fencing_token()
        }
    });
    let token = within("a whole term", term).await.unwrap();
    assert!(token.0 > 0);
    assert_eq!(begun, 2);
    assert!(within("the listener", listener.changed()).await.is_none());
    eventually("it left", async || {
        selector.participants().await.unwrap().is_empty()
    })
    .await;
    let once = selector.lead_once(|_| async {
        proxy.cut();
        std::future::pending::<()>().await;
    });
    assert_eq!(
        within("lost", once).await,
        Err(Error::Revoked(Revoked::Suspended))
    );
}

#[tokio::test]
async fn a_leader_is_asked_to_let_go() {
    let server = Server::start();
    let keeper = keeper(server.address()).await;
    let leader = LeaderSelector::new(&keeper, "/election", "it").unwrap();
    let other = LeaderSelector::new(&keeper, "/election", "other").unwrap();
    other.ask_leader_to_let_go().await.unwrap();
    let term = leader.lead(|leadership| async move { leadership.asked_to_let_go().await });
    let asked = async {
        eventually("it leads", async || {
            other.participants().await.unwrap().len() == 1
        })
        .await;
        other.ask_leader_to_let_go().await.unwrap();
    };
    let (term, ()) = tokio::join!(within("it lets go", term), asked);
    term.unwrap();
}
