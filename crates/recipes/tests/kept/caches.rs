use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use oxkeeper_recipes::{
    Cache, CacheLimits, CacheState, Change, Error, Nodes, Scope, Session, Update, Updates,
};
use oxkeeper_testkit::{Fault, OpCode};
use zookeeper_client::{Acls, CreateMode};

use crate::support::{PERSISTENT, Proxy, Server, apply, eventually, within};
use crate::{expire, keeper, keeper_of};

async fn create(session: &Session, path: &str, data: &str) {
    session
        .client()
        .create(path, data.as_bytes(), &PERSISTENT)
        .await
        .unwrap();
}

async fn set(session: &Session, path: &str, data: &str) {
    session
        .client()
        .set_data(path, data.as_bytes(), None)
        .await
        .unwrap();
}

fn told(nodes: &Nodes) -> BTreeMap<String, String> {
    let text = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
    nodes
        .values()
        .map(|node| (node.path.clone(), text(&node.data)))
        .collect()
}

/// Follows updates until they amount to this.
async fn until(updates: &mut Updates, state: &mut Nodes, expected: &[(&str, &str)]) {
    let expected: BTreeMap<String, String> = expected
        .iter()
        .map(|(path, data)| ((*path).to_owned(), (*data).to_owned()))
        .collect();
    within("the updates", async {
        while told(state) != expected {
            apply(state, updates.next().await.unwrap());
        }
    })
    .await;
}

#[tokio::test]
async fn each_scope_copies_what_it_says_and_tells_what_changes() {
    let server = Server::start();
    let writer = server.session().await;
    for (path, data) in [("/a", "1"), ("/a/b", "2"), ("/a/b/c", "3"), ("/a-b", "x")] {
        create(&writer, path, data).await;
    }
    let keeper = keeper(server.address()).await;
    let [node, children, tree] =
        [Scope::Node, Scope::Children, Scope::Tree].map(|scope| Cache::new(&keeper, "/a", scope).unwrap());
    let (mut node_state, mut children_state, mut tree_state) = (Nodes::new(), Nodes::new(), Nodes::new());
    let (mut of_node, mut of_children, mut of_tree) = (node.updates(), children.updates(), tree.updates());
    until(&mut of_node, &mut node_state, &[("/a", "1")]).await;
    until(
        &mut of_children,
        &mut children_state,
        &[("/a", "1"), ("/a/b", "2")],
    )
    .await;
    until(
        &mut of_tree,
        &mut tree_state,
        &[("/a", "1"), ("/a/b", "2"), ("/a/b/c", "3")],
    )
    .await;
    assert_eq!(node.state(), CacheState::Current);
    let names: Vec<String> = tree
        .children("/a")
        .iter()
        .map(|node| node.name().to_owned())
        .collect();
    assert_eq!(names, ["b"]);

    set(&writer, "/a", "1+").await;
    create(&writer, "/a/d", "4").await;
    set(&writer, "/a/b/c", "3+").await;
    writer.client().delete("/a/b/c", None).await.unwrap();
    writer.client().delete("/a/b", None).await.unwrap();
    until(&mut of_node, &mut node_state, &[("/a", "1+")]).await;
    until(
        &mut of_children,
        &mut children_state,
        &[("/a", "1+"), ("/a/d", "4")],
    )
    .await;
    until(&mut of_tree, &mut tree_state, &[("/a", "1+"), ("/a/d", "4")]).await;
    assert_eq!(told(&tree.all()), told(&tree_state));

    writer.client().delete("/a/d", None).await.unwrap();
    writer.client().delete("/a", None).await.unwrap();
    until(&mut of_node, &mut node_state, &[]).await;
    create(&writer, "/a", "again").await;
    until(&mut of_node, &mut node_state, &[("/a", "again")]).await;
    drop((node, children, tree));
    eventually("dropped caches leave no watch", async || server.watches() == 0).await;
    within("the end of its updates", async {
        while of_tree.next().await.is_ok() {}
    })
    .await;
}

#[tokio::test]
async fn after_a_cut_and_after_a_lost_session_listeners_get_the_difference() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let writer = server.session().await;
    for path in ["/t", "/t/kept", "/t/gone", "/t/changed", "/t/renewed"] {
        create(&writer, path, "old").await;
    }
    let keeper = keeper(proxy.address()).await;
    let cache = Cache::new(&keeper, "/t", Scope::Tree).unwrap();
    let (mut updates, mut state) = (cache.updates(), Nodes::new());
    apply(
        &mut state,
        within("the first state", updates.next()).await.unwrap(),
    );
    assert_eq!(state.len(), 5);

    proxy.cut();
    eventually("it knows that it is stale", async || {
        cache.state() == CacheState::Stale
    })
    .await;
    writer.client().delete("/t/gone", None).await.unwrap();
    writer.client().delete("/t/renewed", None).await.unwrap();
    create(&writer, "/t/renewed", "old").await;
    set(&writer, "/t/changed", "new").await;
    create(&writer, "/t/new", "new").await;
    assert!(cache.get("/t/gone").is_some(), "it goes on to give what it knew");
    proxy.heal();
    let Update::Changes(changes) = within("the difference", updates.next()).await.unwrap() else {
        panic!("not the difference");
    };
    let changes: Vec<String> = changes
        .iter()
        .map(|change| match change {
            Change::Created(node) => format!("+{}", node.name()),
            Change::Updated { after, .. } => format!("={}", after.name()),
            Change::Deleted(node) => format!("-{}", node.name()),
        })
        .collect();
    assert_eq!(changes, ["=changed", "-gone", "+new", "-renewed", "+renewed"]);
    set(&writer, "/t/kept", "after the cut").await;
    eventually("the watch is set again", async || {
        cache
            .get("/t/kept")
            .is_some_and(|node| node.data == b"after the cut")
    })
    .await;

    expire(&server, &keeper).await;
    set(&writer, "/t/kept", "in a new session").await;
    eventually("it follows the next session", async || {
        cache
            .get("/t/kept")
            .is_some_and(|node| node.data == b"in a new session")
    })
    .await;
}

#[tokio::test]
async fn what_changes_while_all_is_read_for_the_first_time_is_not_missed() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let writer = server.session().await;
    create(&writer, "/t", "").await;
    for child in 0..20 {
        create(&writer, &format!("/t/{child}"), "old").await;
    }
    let keeper = keeper(proxy.address()).await;
    // The reply that lists the children comes late, so that all this happens between the watch and the reads.
    let late = proxy.fault_once(
        |frame| frame.is_reply(OpCode::GetChildren),
        Fault::Delay(Duration::from_millis(200)),
    );
    let cache = Cache::new(&keeper, "/t", Scope::Tree).unwrap();
    within("the listing", late.happened()).await;
    for child in 0..10 {
        writer
            .client()
            .delete(&format!("/t/{child}"), None)
            .await
            .unwrap();
        set(&writer, &format!("/t/{}", child + 10), "new").await;
        create(&writer, &format!("/t/{}", child + 20), "new").await;
    }
    within("the first state", cache.ready()).await.unwrap();
    eventually("all is as it is", async || {
        let all = cache.all();
        all.len() == 21 && all.values().all(|node| node.path == "/t" || node.data == b"new")
    })
    .await;
}

#[tokio::test]
async fn in_a_tree_that_never_rests_the_cache_is_what_the_updates_amount_to() {
    let server = Server::start();
    let writer = server.session().await;
    create(&writer, "/t", "").await;
    let keeper = keeper(server.address()).await;
    let cache = Cache::new(&keeper, "/t", Scope::Tree).unwrap();
    let (mut updates, mut state) = (cache.updates(), Nodes::new());
    let writing = tokio::spawn(async move {
        for step in 0..1000 {
            let path = format!("/t/{}", fastrand::u32(..20));
            let data = step.to_string();
            if fastrand::bool() {
                let _ = writer.client().delete(&path, None).await;
            } else if writer
                .client()
                .set_data(&path, data.as_bytes(), None)
                .await
                .is_err()
            {
                create(&writer, &path, &data).await;
            }
        }
        writer
    });
    while !writing.is_finished() {
        tokio::select! {
            update = updates.next() => apply(&mut state, update.unwrap()),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    let writer = writing.await.unwrap();
    set(&writer, "/t", "end").await;
    within("the end", async {
        while state.get("/t").is_none_or(|node| node.data != b"end") {
            apply(&mut state, updates.next().await.unwrap());
        }
    })
    .await;
    for (path, node) in &state {
        assert_eq!(
            writer.client().get_data(path).await.unwrap().0,
            node.data,
            "{path}"
        );
    }
    assert_eq!(
        writer.client().list_children("/t").await.unwrap().len() + 1,
        state.len()
    );
}

#[tokio::test]
async fn a_cache_ends_where_its_limits_are() {
    let server = Server::start();
    let writer = server.session().await;
    create(&writer, "/t", "").await;
    create(&writer, "/t/1", "").await;
    let keeper = keeper(server.address()).await;
    let limits = CacheLimits {
        nodes: 3,
        bytes: 1000,
    };
    let of_nodes = Cache::with_limits(&keeper, "/t", Scope::Tree, limits).unwrap();
    let of_bytes = Cache::with_limits(&keeper, "/t", Scope::Tree, limits).unwrap();
    within("it fits", of_nodes.ready()).await.unwrap();
    within("it fits", of_bytes.ready()).await.unwrap();
    set(&writer, "/t/1", &"x".repeat(2000)).await;
    eventually("too many bytes", async || {
        matches!(of_bytes.state(), CacheState::Failed(Error::TooLarge(_)))
    })
    .await;
    for child in 2..10 {
        create(&writer, &format!("/t/{child}"), "").await;
    }
    eventually("too many znodes", async || {
        matches!(of_nodes.state(), CacheState::Failed(Error::TooLarge(_)))
    })
    .await;
    let at_once = Cache::with_limits(&keeper, "/t", Scope::Tree, limits).unwrap();
    assert!(matches!(
        within("it does not fit", at_once.ready()).await,
        Err(Error::TooLarge(_))
    ));
}

#[tokio::test]
async fn a_listener_that_is_behind_holds_no_more_than_the_limit_and_gets_the_whole_state() {
    let server = Server::start();
    let writer = server.session().await;
    create(&writer, "/t", "").await;
    let keeper = keeper(server.address()).await;
    let limits = CacheLimits {
        nodes: 10,
        bytes: 1000,
    };
    let cache = Cache::with_limits(&keeper, "/t", Scope::Node, limits).unwrap();
    let mut updates = cache.updates();
    within("the first state", updates.next()).await.unwrap();
    let mut versions = Vec::new();
    for version in 1..=10 {
        set(&writer, "/t", &"x".repeat(400)).await;
        eventually("it follows", async || {
            cache.get("/t").is_some_and(|node| node.stat.version == version)
        })
        .await;
        versions.push(Arc::downgrade(&cache.get("/t").unwrap()));
    }
    let held = versions.iter().filter(|version| version.strong_count() > 0);
    assert!(held.count() <= 2);
    let Update::All(nodes) = within("the whole state", updates.next()).await.unwrap() else {
        panic!("not the whole state");
    };
    assert_eq!(nodes["/t"].stat.version, 10);
    set(&writer, "/t", "less").await;
    assert!(matches!(
        within("a change", updates.next()).await,
        Ok(Update::Changes(changes)) if changes.len() == 1
    ));
    set(&writer, "/t", "nobody listens").await;
    drop(updates);
    eventually("it follows", async || {
        cache.get("/t").is_some_and(|node| node.stat.version == 12)
    })
    .await;
}

#[tokio::test]
async fn what_is_told_to_be_gone_is_what_was_told_to_be_there() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let writer = server.session().await;
    for path in ["/t", "/t/a"] {
        create(&writer, path, "").await;
    }
    let keeper = keeper(proxy.address()).await;
    let cache = Cache::new(&keeper, "/t", Scope::Children).unwrap();
    let (mut updates, mut state) = (cache.updates(), Nodes::new());
    until(&mut updates, &mut state, &[("/t", ""), ("/t/a", "")]).await;
    // Not an event that concerns it; but all is read again then, with other counts of children.
    create(&writer, "/t/a/below", "").await;
    proxy.disconnect_clients();
    set(&writer, "/t", "1").await;
    until(&mut updates, &mut state, &[("/t", "1"), ("/t/a", "")]).await;
    writer.client().delete("/t/a/below", None).await.unwrap();
    writer.client().delete("/t/a", None).await.unwrap();
    until(&mut updates, &mut state, &[("/t", "1")]).await;
}

#[tokio::test]
async fn a_silent_connection_makes_a_cache_stale_and_what_may_not_be_read_is_left_out() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let writer = server.session().await;
    create(&writer, "/t", "").await;
    create(&writer, "/t/open", "").await;
    writer.client().auth("digest", b"user:secret").await.unwrap();
    let closed = CreateMode::Persistent.with_acls(Acls::creator_all());
    writer.client().create("/t/closed", b"", &closed).await.unwrap();
    let keeper = keeper_of(&proxy.address().to_string(), Duration::from_millis(1500)).await;
    let cache = Cache::new(&keeper, "/t", Scope::Tree).unwrap();
    within("the first state", cache.ready()).await.unwrap();
    eventually("it is current", async || cache.state() == CacheState::Current).await;
    assert_eq!(cache.all().into_keys().collect::<Vec<_>>(), ["/t", "/t/open"]);
    proxy.stall();
    eventually("it knows that it is stale", async || {
        cache.state() == CacheState::Stale
    })
    .await;
    set(&writer, "/t/open", "new").await;
    proxy.heal();
    eventually("it follows", async || {
        cache.state() == CacheState::Current && cache.get("/t/open").is_some_and(|node| node.data == b"new")
    })
    .await;
}
