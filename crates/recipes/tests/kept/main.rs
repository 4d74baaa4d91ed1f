//! Caches, configuration, groups, services, values, barriers, queues and names: what outlives sessions, or needs none.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "../support/mod.rs"]
mod support;

mod caches;
mod nodes;
mod services;
mod values;

use std::net::SocketAddr;
use std::time::Duration;

use oxkeeper_recipes::{Session, SessionKeeper};
use support::{Server, within};
use zookeeper_client::Client;

/// A keeper of sessions of ten seconds.
async fn keeper(address: SocketAddr) -> SessionKeeper {
    keeper_of(&address.to_string(), Duration::from_secs(10)).await
}

async fn keeper_of(cluster: &str, timeout: Duration) -> SessionKeeper {
    let connector = Client::connector().with_session_timeout(timeout);
    within(
        "a session",
        SessionKeeper::with(connector, cluster, |session| session),
    )
    .await
    .unwrap()
}

/// Ends the keeper's session, and waits for the next one.
async fn expire(server: &Server, keeper: &SessionKeeper) -> Session {
    let session = keeper.session();
    server.expire(&session).await;
    within("the next session", keeper.live_session()).await
}
