//! Sessions, and the locks that rest on them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use zookeeper_client::{
    Acl, Acls, AuthId, CreateMode, Error, EventType, LockOptions, LockPrefix, Permission, SessionState,
};

use crate::harness::*;

pub async fn handshake(context: Context) {
    let zk = context.begin().await;
    let (sent, received) = (zk.proxy.sent(), zk.proxy.received());
    assert_eq!(
        (sent[0].len(), received[0].len()),
        (45, 37),
        "the readOnly byte is answered by one"
    );
    assert_eq!(received[0][36], 0, "the server is not read-only");
    assert_eq!(int(&received[0], 4), 15_000);
    assert_eq!(zk.session_timeout(), Duration::from_millis(15_000));
    assert_eq!(
        i64::from_be_bytes(received[0][8..16].try_into().unwrap()),
        zk.session_id().0
    );
}

pub async fn the_timeout_is_clamped(_: Context) {
    for (wanted, granted) in [(900, 1000), (7000, 7000), (3_600_000, 60_000)] {
        assert_eq!(
            connect(wanted).await.session_timeout(),
            Duration::from_millis(granted),
            "for {wanted} ms"
        );
    }
}

pub async fn a_dropped_client_closes_its_session_at_once(context: Context) {
    let zk = context.begin().await;
    let root = &context.root;
    let other = connect(60_000).await;
    other.create(&format!("{root}/stays"), "").await;
    for number in 0..50 {
        other
            .client
            .create(&format!("{root}/e{number}"), b"", EPHEMERAL)
            .await
            .unwrap();
    }
    let (_, watcher) = zk.check_and_watch_stat(&format!("{root}/e7")).await.unwrap();
    let Zk { client, proxy } = other; // the proxy outlives the client
    drop(client);
    let event = within(
        "the close deletes the ephemerals long before the timeout",
        watcher.changed(),
    )
    .await;
    assert_eq!(event.event_type, EventType::NodeDeleted);
    assert_eq!(
        zk.names(root).await,
        ["stays"],
        "one transaction deletes them all"
    );
    drop(proxy);
}

pub async fn a_detached_session_is_taken_up_again(context: Context) {
    let zk = context.begin().await;
    let path = &format!("{}/e", context.root);
    let options = Options {
        timeout_ms: 15_000,
        detached: true,
        ..Options::default()
    };
    let Zk {
        client,
        proxy: _proxy,
    } = connect_with(options).await.unwrap();
    client.create(path, b"", EPHEMERAL).await.unwrap();
    let id = client.session_id();
    let session = client.into_session();
    let taken_up = connect_with(Options {
        timeout_ms: 20_000,
        session: Some(session.clone()),
        ..Options::default()
    });
    let taken_up = taken_up.await.unwrap();
    assert_eq!(taken_up.session_id(), id);
    assert_eq!(
        taken_up.session_timeout(),
        Duration::from_secs(20),
        "a renewal may change the timeout"
    );
    assert_eq!(zk.check_stat(path).await.unwrap().unwrap().ephemeral_owner, id.0);
    let (_, watcher) = zk.check_and_watch_stat(path).await.unwrap();
    let Zk {
        client,
        proxy: _proxy,
    } = taken_up;
    drop(client);
    within(
        "its close deletes the ephemerals of its first connection",
        watcher.changed(),
    )
    .await;
    let again = connect_with(Options {
        timeout_ms: 15_000,
        session: Some(session),
        ..Options::default()
    })
    .await;
    assert_eq!(
        again.err(),
        Some(Error::SessionExpired),
        "a closed session cannot be taken up"
    );
}

pub async fn a_silent_session_expires(context: Context) {
    let zk = context.begin().await;
    let root = &context.root;
    let silent = connect(2000).await;
    let pinging = connect(2000).await;
    silent
        .client
        .create(&format!("{root}/silent"), b"", EPHEMERAL)
        .await
        .unwrap();
    pinging
        .client
        .create(&format!("{root}/pinging"), b"", EPHEMERAL)
        .await
        .unwrap();
    let (_, of_expired) = zk.check_and_watch_stat(&format!("{root}/silent")).await.unwrap();
    silent.proxy.deaf();
    let event = within("the silent session's ephemeral goes", of_expired.changed()).await;
    assert_eq!(event.event_type, EventType::NodeDeleted);
    silent.proxy.mend();
    silent.enters(SessionState::Expired).await;
    assert_eq!(silent.get_data(root).await.unwrap_err(), Error::SessionExpired);
    let stat = zk
        .check_stat(&format!("{root}/pinging"))
        .await
        .unwrap()
        .expect("pings keep an idle session");
    assert_eq!(stat.ephemeral_owner, pinging.session_id().0);
}

pub async fn sessions_and_acknowledged_writes_survive_a_kill(context: Context) {
    let zk = connect(40_000).await;
    let root = &context.root;
    zk.create(root, "").await;
    zk.create(&format!("{root}/n"), "").await;
    let clients = try_join_all((0..4).map(|number| {
        let auth = Some(format!("user{number}:password"));
        connect_with(Options {
            timeout_ms: 40_000,
            auth,
            ..Options::default()
        })
    }))
    .await
    .unwrap();
    let creator = CreateMode::Persistent.with_acls(Acls::creator_all());
    let mut stats = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        let path = format!("{root}/e{number}");
        stats.push(client.client.create(&path, b"", EPHEMERAL).await.unwrap().0);
        client
            .client
            .create(&format!("{root}/closed{number}"), b"", &creator)
            .await
            .unwrap();
    }
    let acknowledged = Mutex::new(Vec::new());
    let (killed, seen) = tokio::sync::watch::channel(false);
    let path = &format!("{root}/n/s");
    let writers = join_all(clients.iter().map(|client| {
        let mut seen = seen.clone();
        let acknowledged = &acknowledged;
        async move {
            loop {
                // A request made after the kill waits in the client for the next connection.
                let made = tokio::select! {
                    made = client.client.create(path, b"", SEQUENTIAL) => made,
                    _ = seen.wait_for(|killed| *killed) => return,
                };
                match made {
                    Ok((_, sequence)) => acknowledged.lock().unwrap().push(format!("s{sequence}")),
                    Err(Error::ConnectionLoss | Error::Custom(_)) => return,
                    Err(error) => panic!("a writer fails otherwise: {error:?}"),
                }
            }
        }
    }));
    let kill = async {
        eventually("the writers have written 200 znodes", || async {
            acknowledged.lock().unwrap().len() >= 200
        })
        .await;
        kill_server();
        killed.send_replace(true);
    };
    within("the writers write until the kill", async {
        tokio::join!(writers, kill)
    })
    .await;
    start_server();
    for (number, client) in clients.iter().enumerate() {
        client.enters(SessionState::SyncConnected).await;
        let stat = client.check_stat(&format!("{root}/e{number}")).await.unwrap();
        assert_eq!(stat, Some(stats[number]), "the ephemeral is as it was");
        assert_eq!(stats[number].ephemeral_owner, client.session_id().0);
        client
            .get_data(&format!("{root}/closed{number}"))
            .await
            .expect("credentials are sent again");
    }
    zk.enters(SessionState::SyncConnected).await;
    let present = zk.names(&format!("{root}/n")).await;
    let acknowledged = acknowledged.into_inner().unwrap();
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|name| !present.contains(name))
        .collect();
    assert_eq!(lost, Vec::<&String>::new(), "acknowledged creates that are lost");
    assert!(
        present.len() - acknowledged.len() <= clients.len(),
        "at most one unanswered create of each writer"
    );
    let (_, next) = zk
        .client
        .create(&format!("{root}/n/s"), b"", SEQUENTIAL)
        .await
        .unwrap();
    assert!(
        format!("s{next}") > *present.last().unwrap(),
        "sequence numbers go on"
    );
}

fn lock_options() -> LockOptions<'static> {
    LockOptions::new(Acls::anyone_all())
        .with_ancestor_options(PERSISTENT.clone())
        .unwrap()
}

pub async fn locks_are_held_by_one_client_at_a_time(context: Context) {
    let zk = context.begin().await;
    let dir = &format!("{}/locks/deep", context.root);
    let clients = join_all((0..5).map(|_| connect(20_000))).await;
    let (inside, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let contend = join_all(clients.iter().map(|client| async {
        for _ in 0..10 {
            let lock = LockPrefix::new_curator(dir, "latch-").unwrap();
            let lock = client.lock(lock, b"", lock_options()).await.unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders at once");
            client.fence().await;
            turns.fetch_add(1, Ordering::SeqCst);
            inside.fetch_sub(1, Ordering::SeqCst);
            drop(lock);
        }
    }));
    within("five clients with one lock", contend).await;
    assert_eq!(turns.into_inner(), 50);
    eventually("no lock is left", || async { zk.names(dir).await.is_empty() }).await;
}

pub async fn a_lock_passes_on_and_guards_its_writes(context: Context) {
    let zk = context.begin().await;
    let root = &context.root;
    let prefix = &format!("{root}/locks/n-");
    let data = &format!("{root}/data");
    zk.create(data, "").await;
    let (first, second) = (connect(40_000).await, connect(40_000).await);
    let held = first
        .lock(LockPrefix::new_shared(prefix).unwrap(), b"first", lock_options())
        .await
        .unwrap();
    held.set_data(data, b"first", None).await.unwrap();
    assert_eq!(zk.text(held.lock_path()).await, "first");
    let waiting = second.lock(LockPrefix::new_shared(prefix).unwrap(), b"second", lock_options());
    tokio::pin!(waiting);
    const GET_DATA: i32 = 4; // by which the lock watches its predecessor
    tokio::select! {
        _ = &mut waiting => panic!("the lock was given twice"),
        () = eventually("the second waits for the first", || async { second.proxy.answered(GET_DATA) > 0 }) => {}
    }
    // Across a restart the lock stays where it is, and the waiter's watch is armed again.
    kill_server();
    start_server();
    for client in [&zk, &first, &second] {
        client.enters(SessionState::SyncConnected).await;
    }
    let stat = held
        .set_data(data, b"still first", None)
        .await
        .expect("the lock outlives the kill");
    assert_eq!(stat.version, 2);
    zk.delete(held.lock_path(), None).await.unwrap();
    let late = held.set_data(data, b"late", None).await;
    assert_eq!(
        late.unwrap_err(),
        Error::RuntimeInconsistent,
        "who lost the lock cannot write under it"
    );
    let lock = within("the lock passes on", waiting).await.unwrap();
    lock.set_data(data, b"second", Some(2)).await.unwrap();
    assert_eq!(zk.text(data).await, "second");
    let third = connect(20_000).await;
    let lock_path = lock.lock_path().to_owned();
    let (_, watcher) = third.check_and_watch_stat(&lock_path).await.unwrap();
    drop(lock);
    within("a dropped lock is released", watcher.changed()).await;
    let closed = &[Acl::new(Permission::READ, AuthId::anyone())];
    let refused = third
        .lock(
            LockPrefix::new_shared(&format!("{data}/n-")).unwrap(),
            b"",
            Acls::new(closed),
        )
        .await;
    refused.expect("a lock's own ACL does not hinder its holder");
}
