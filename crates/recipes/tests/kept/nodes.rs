use std::time::Duration;

use oxkeeper_recipes::{Config, ConfigProblem, Discovery, Error, GroupMember, PersistentNode, Placement};
use oxkeeper_testkit::{Fault, OpCode};
use zookeeper_client::Error as ClientError;

use crate::support::{Break, PERSISTENT, Proxy, Server, children, eventually, within};
use crate::{expire, keeper};

fn number(bytes: &[u8]) -> Result<u32, String> {
    let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
    assert_ne!(text, "panic", "as a validation may");
    text.parse().map_err(|_| format!("{text} is not a number"))
}

#[tokio::test]
async fn a_bad_value_never_replaces_the_last_good_one() {
    let server = Server::start();
    let keeper = keeper(server.address()).await;
    let writer = server.session().await;
    let client = writer.client();
    let config = Config::new(&keeper, "/config/rate", number).unwrap();
    let missing = config.problem_that(|problem| problem.is_some());
    assert_eq!(
        within("it is missing", missing).await,
        Some(ConfigProblem::Missing)
    );
    assert!(config.get().is_none());

    within("the directory and the znode are made", config.set(b"1", None))
        .await
        .unwrap();
    assert_eq!(within("the first value", config.ready()).await.unwrap().value, 1);
    let mut values = config.values();
    assert_eq!(within("the value in use", values.next()).await.unwrap().value, 1);
    for bad in ["x", "panic", ""] {
        assert!(
            matches!(config.set(bad.as_bytes(), None).await, Err(Error::Invalid(_))),
            "{bad}"
        );
        let stat = client
            .set_data("/config/rate", bad.as_bytes(), None)
            .await
            .unwrap();
        let refused = config.problem_that(
            |problem| matches!(problem, Some(ConfigProblem::Invalid { version, .. }) if *version == stat.version),
        );
        within("it is refused", refused).await;
        assert_eq!(config.get().unwrap().value, 1);
    }
    let version = client.check_stat("/config/rate").await.unwrap().unwrap().version;
    assert_eq!(
        config.set(b"2", Some(version - 1)).await.unwrap_err(),
        Error::Client(ClientError::BadVersion)
    );
    config.set(b"2", Some(version)).await.unwrap();
    let good = within("the next value", values.next()).await.unwrap();
    assert_eq!((good.value, good.version), (2, Some(version + 1)));
    assert_eq!(config.problem(), None);
    client.delete("/config/rate", None).await.unwrap();
    within(
        "it is gone",
        config.problem_that(|problem| problem == Some(&ConfigProblem::Missing)),
    )
    .await;
    assert_eq!(config.get().unwrap().value, 2);
    drop(config);
    assert!(within("the end", values.next()).await.is_err());
}

#[tokio::test]
async fn a_configuration_follows_over_cuts_and_sessions_and_starts_with_its_default() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let keeper = keeper(proxy.address()).await;
    let writer = server.session().await;
    let config = Config::with_default(&keeper, "/rate", 7, number).unwrap();
    assert_eq!(
        (config.get().unwrap().value, config.get().unwrap().version),
        (7, None)
    );
    proxy.cut();
    writer.client().create("/rate", b"8", &PERSISTENT).await.unwrap();
    assert_eq!(config.get().unwrap().value, 7);
    proxy.heal();
    eventually("it follows", async || config.get().unwrap().value == 8).await;
    expire(&server, &keeper).await;
    writer.client().set_data("/rate", b"9", None).await.unwrap();
    eventually("it follows again", async || config.get().unwrap().value == 9).await;
}

#[tokio::test]
async fn what_can_be_watched_no_longer_says_why() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let keeper = keeper(proxy.address()).await;
    proxy.fault_always(|frame| frame.is_request(OpCode::AddWatch), Fault::CutBefore);
    let lost = Error::Client(ClientError::ConnectionLoss);
    let config = Config::with_default(&keeper, "/rate", 7, number).unwrap();
    let bad = config.problem_that(|problem| matches!(problem, Some(ConfigProblem::Invalid { .. })));
    assert_eq!(
        within("it ends", bad).await,
        Some(ConfigProblem::Unwatched(lost.clone()))
    );
    let cache = Discovery::new(&keeper, "/services")
        .unwrap()
        .cache("web")
        .unwrap();
    let known = cache.instances();
    let others = within("it ends", cache.instances_other_than(&known)).await;
    assert_eq!(others.err(), Some(lost));
}

#[tokio::test]
async fn a_persistent_node_is_there_again_after_deletion_change_and_each_session() {
    let server = Server::start();
    let keeper = keeper(server.address()).await;
    let writer = server.session().await;
    let client = writer.client();
    let node = PersistentNode::new(&keeper, "/hosts/web", "up").unwrap();
    let first = within("it is placed", node.placed()).await.unwrap();
    assert_eq!(first.ephemeral_owner, keeper.session().id().0);
    client.delete("/hosts/web", None).await.unwrap();
    eventually("it comes back", async || {
        client
            .check_stat("/hosts/web")
            .await
            .unwrap()
            .is_some_and(|stat| stat.czxid > first.czxid)
    })
    .await;
    client.set_data("/hosts/web", b"wrong", None).await.unwrap();
    eventually("its data comes back", async || {
        client
            .get_data("/hosts/web")
            .await
            .is_ok_and(|(data, _)| data == b"up")
    })
    .await;
    let next = expire(&server, &keeper).await;
    eventually("it is of the next session", async || {
        client
            .get_data("/hosts/web")
            .await
            .is_ok_and(|(data, stat)| data == b"up" && stat.ephemeral_owner == next.id().0)
    })
    .await;
    node.set_data("draining");
    eventually("its data changes", async || {
        client
            .get_data("/hosts/web")
            .await
            .is_ok_and(|(data, _)| data == b"draining")
    })
    .await;
    node.withdraw();
    eventually("it is withdrawn", async || {
        client.check_stat("/hosts/web").await.unwrap().is_none()
    })
    .await;
    node.set_data("back");
    within("it is back", node.placed()).await.unwrap();
    within("it closes", node.close()).await.unwrap();
    assert!(children(&writer, "/hosts").await.is_empty());

    let dropped = PersistentNode::new(&keeper, "/hosts/db", "up").unwrap();
    within("it is placed", dropped.placed()).await.unwrap();
    drop(dropped);
    eventually("a dropped one is deleted", async || {
        children(&writer, "/hosts").await.is_empty()
    })
    .await;
    eventually("and leaves no watch", async || server.watches() == 0).await;
}

#[tokio::test]
async fn a_persistent_node_waits_for_the_path_unless_it_takes_over() {
    let server = Server::start();
    let (one, two, three) = (
        keeper(server.address()).await,
        keeper(server.address()).await,
        keeper(server.address()).await,
    );
    let first = PersistentNode::new(&one, "/vip", "one").unwrap();
    let stat = within("the first", first.placed()).await.unwrap();
    let second = PersistentNode::new(&two, "/vip", "two").unwrap();
    let placement = within("the second", second.placement_other_than(&Placement::Absent)).await;
    assert_eq!(placement, Placement::Occupied(stat));
    within("the first goes", first.close()).await.unwrap();
    within("the second has it", second.placed()).await.unwrap();
    let third = PersistentNode::taking_over(&three, "/vip", "three").unwrap();
    within("the third takes it", third.placed()).await.unwrap();
    assert_eq!(
        three.session().client().get_data("/vip").await.unwrap().0,
        b"three"
    );
    eventually("the second waits again", async || {
        matches!(second.placement(), Placement::Occupied(_))
    })
    .await;
    // Both take over: the one that came last has it.
    let fourth = PersistentNode::taking_over(&one, "/vip", "four").unwrap();
    let stat = within("the fourth takes it", fourth.placed()).await.unwrap();
    eventually("the third waits", async || {
        third.placement() == Placement::Occupied(stat)
    })
    .await;
    assert_eq!(fourth.placement(), Placement::Placed(stat));
}

#[tokio::test]
async fn a_persistent_node_is_made_once_though_replies_and_connections_are_lost() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let keeper = keeper(proxy.address()).await;
    let writer = server.session().await;
    for lost in [Break::Reply(OpCode::Create2), Break::Request(OpCode::Create2)] {
        let hits = proxy.break_next(lost);
        let node = PersistentNode::new(&keeper, "/node", "x").unwrap();
        let stat = within("it is placed", node.placed()).await.unwrap();
        assert_eq!((hits.count(), stat.version), (1, 0));
        proxy.disconnect_clients();
        let hits = proxy.break_next(Break::Reply(OpCode::Delete));
        within("it closes", node.close()).await.unwrap();
        assert_eq!(hits.count(), 1);
        assert!(writer.client().check_stat("/node").await.unwrap().is_none());
    }
    let node = PersistentNode::new(&keeper, "/node", "x").unwrap();
    within("it is placed", node.placed()).await.unwrap();
    proxy.cut();
    drop(node);
    tokio::time::sleep(Duration::from_millis(20)).await;
    proxy.heal();
    eventually("it is deleted later", async || {
        writer.client().check_stat("/node").await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn members_of_a_group_know_one_another_and_come_back_with_new_sessions() {
    let server = Server::start();
    let (one, two) = (keeper(server.address()).await, keeper(server.address()).await);
    let first = GroupMember::join(&one, "/group", "a", "A").unwrap();
    within("the first joins", first.joined()).await.unwrap();
    let second = GroupMember::join(&two, "/group", "b", "B").unwrap();
    within("the second joins", second.joined()).await.unwrap();
    let ids = |member: &GroupMember| member.members().into_keys().collect::<Vec<_>>();
    eventually("they know one another", async || {
        ids(&first) == ["a", "b"] && ids(&second) == ["a", "b"]
    })
    .await;
    let old = two.session().id().0;
    expire(&server, &two).await;
    eventually("it comes back", async || {
        let node = first.cache().get("/group/b");
        ids(&first) == ["a", "b"] && node.is_some_and(|node| node.stat.ephemeral_owner != old)
    })
    .await;
    within("the first leaves", first.leave()).await.unwrap();
    eventually("the second knows", async || ids(&second) == ["b"]).await;
    assert!(GroupMember::join(&one, "/group", "a/b", "").is_err());
}

#[tokio::test]
async fn who_waits_for_a_persistent_node_waits_for_the_data_it_was_given_last() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let keeper = keeper(proxy.address()).await;
    let writer = server.session().await;
    let node = PersistentNode::new(&keeper, "/node", "a").unwrap();
    within("it is placed", node.placed()).await.unwrap();
    proxy.stall();
    node.set_data("b");
    let short = Duration::from_millis(50);
    assert!(tokio::time::timeout(short, node.placed()).await.is_err());
    proxy.heal();
    let stat = within("it is placed", node.placed()).await.unwrap();
    let (data, found) = writer.client().get_data("/node").await.unwrap();
    assert_eq!((data.as_slice(), found), (&b"b"[..], stat));
    // What is there already is placed at once.
    node.set_data("b");
    within("it is placed", node.placed()).await.unwrap();
}

/// The server closes the connection instead of an answer, each time.
#[tokio::test]
async fn a_persistent_node_that_the_server_does_not_take_is_refused_and_closes() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let keeper = keeper(proxy.address()).await;
    let long = vec![b'x'; 2 * 1024 * 1024];
    let node = PersistentNode::new(&keeper, "/node", long.clone()).unwrap();
    let refused = within("it is given up", node.placed()).await;
    assert_eq!(refused, Err(Error::Client(ClientError::ConnectionLoss)));
    node.set_data("short");
    within("it is placed", node.placed()).await.unwrap();

    // While it tries to write what is refused, the znode from before is there.
    node.set_data(long);
    eventually("it tries", async || proxy.requests(OpCode::SetData) > 0).await;
    let client = keeper.session();
    within("it closes", node.close()).await.unwrap();
    assert!(client.client().check_stat("/node").await.unwrap().is_none());
}
