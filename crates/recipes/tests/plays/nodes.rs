//! Caches, a configuration value, and ephemerals that are there again with every session: alone, as members of a
//! group, as instances of a service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use oxkeeper_recipes::{
    Balance, Cache, Config, ConfigProblem, Discovery, Error, GroupMember, Node, Nodes, PersistentNode,
    Registration, Scope, ServiceInstance, ServiceProvider, Session, SessionKeeper,
};
use zookeeper_client::Error as ClientError;

use super::{Stage, Turn, Workers, is_current, steady};
use crate::support::{PERSISTENT, apply, eventually, within};

pub async fn node_cache(stage: &Stage) {
    cache(stage, Scope::Node).await;
}

pub async fn children_cache(stage: &Stage) {
    cache(stage, Scope::Children).await;
}

pub async fn tree_cache(stage: &Stage) {
    cache(stage, Scope::Tree).await;
}

/// Changes something at or below a path.
async fn change(session: &Session, top: &str) {
    let client = session.client();
    let child = format!("{top}/{}", fastrand::u8(..6));
    let grandchild = format!("{child}/{}", fastrand::u8(..2));
    let path = [top, &child, &child, &grandchild][fastrand::usize(..4)];
    let data = fastrand::u64(..).to_string();
    let done = match fastrand::u8(..3) {
        0 if path != top => client.delete(path, None).await,
        1 => client.create(path, data.as_bytes(), &PERSISTENT).await.map(drop),
        _ => client.set_data(path, data.as_bytes(), None).await.map(drop),
    };
    match done.map_err(Error::from) {
        Err(Error::Client(
            ClientError::NoNode
            | ClientError::NodeExists
            | ClientError::NotEmpty
            | ClientError::ConnectionLoss,
        )) => {}
        done => done.unwrap(),
    }
}

/// What there is at and below a path, as of now.
async fn look(session: &Session, path: &str, depth: usize) -> Nodes {
    let client = session.client();
    let (data, stat) = steady(|| async {
        client.sync(path).await?;
        client.get_data(path).await
    })
    .await
    .unwrap();
    let node = Node {
        path: path.to_owned(),
        data,
        stat,
    };
    let mut found = Nodes::from([(path.to_owned(), Arc::new(node))]);
    if depth > 0 {
        for child in steady(|| client.list_children(path)).await.unwrap() {
            found.extend(Box::pin(look(session, &format!("{path}/{child}"), depth - 1)).await);
        }
    }
    found
}

/// What tells one state of a tree from another.
fn seen(nodes: &Nodes) -> BTreeMap<&str, (i64, &[u8])> {
    nodes
        .iter()
        .map(|(path, node)| (path.as_str(), (node.stat.mzxid, node.data.as_slice())))
        .collect()
}

async fn cache(stage: &Stage, scope: Scope) {
    let top = stage.path("top");
    let observer = stage.session().await;
    observer.client().create(&top, b"", &PERSISTENT).await.unwrap();
    let cache = Cache::new(&stage.keeper().await, &top, scope).unwrap();
    let mut updates = cache.updates();
    let (told, listened) = tokio::sync::watch::channel(Nodes::new());
    let listening = tokio::spawn(async move {
        while let Ok(update) = updates.next().await {
            told.send_modify(|nodes| apply(nodes, update));
        }
    });
    let turn = {
        let top = top.clone();
        move |keeper: SessionKeeper| {
            let top = top.clone();
            async move {
                for _ in 0..5 {
                    change(&keeper.session(), &top).await;
                }
                Turn::Done
            }
        }
    };
    let workers = Workers::start(stage, 2, turn).await;
    within("the first state", cache.ready()).await.unwrap();
    workers.each_goes_on().await;
    stage.leader_dies().await;
    assert!(cache.get(&top).is_some(), "it goes on to give what it knew");
    workers.each_goes_on().await;
    stage.leader_returns().await;
    workers.each_goes_on().await;
    workers.end().await;
    let depth = match scope {
        Scope::Node => 0,
        Scope::Children => 1,
        Scope::Tree => usize::MAX,
    };
    let truth = look(&observer, &top, depth).await;
    eventually("it is as it is", async || seen(&cache.all()) == seen(&truth)).await;
    is_current(&cache).await;
    eventually("the updates amount to it", async || {
        seen(&listened.borrow()) == seen(&truth)
    })
    .await;
    assert!(!listening.is_finished());
    drop(cache);
    within("the updates end", listening).await.unwrap();
}

pub async fn config(stage: &Stage) {
    let path = stage.path("value");
    let (reader, writer) = (stage.mortal().await, stage.session().await);
    let config = Config::new(&reader.keeper, &path, |bytes| {
        let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
        text.parse::<u32>().map_err(|error| error.to_string())
    })
    .unwrap();
    within("the first value", config.set(b"1", None)).await.unwrap();
    let mut values = config.values();
    assert_eq!(within("it is read", values.next()).await.unwrap().value, 1);
    let write = async |value: &str| {
        let written = steady(|| writer.client().set_data(&path, value.as_bytes(), None));
        within("a write", written).await.unwrap();
    };
    let is_refused = async || {
        let refused = config.problem_that(|problem| matches!(problem, Some(ConfigProblem::Invalid { .. })));
        within("it is refused", refused).await;
    };
    write("bad").await;
    is_refused().await;
    stage.leader_dies().await;
    assert_eq!(config.get().unwrap().value, 1, "the last good one");
    write("2").await;
    assert_eq!(within("it follows", values.next()).await.unwrap().value, 2);
    write("worse").await;
    is_refused().await;
    reader.end().await;
    assert_eq!(config.get().unwrap().value, 2, "the last good one");
    stage.leader_returns().await;
    within("a good one", config.set(b"3", None)).await.unwrap();
    assert_eq!(within("it follows", values.next()).await.unwrap().value, 3);
    assert_eq!(config.problem(), None);
}

pub async fn persistent_node(stage: &Stage) {
    let path = stage.path("node");
    let (owner, observer) = (stage.mortal().await, stage.session().await);
    let client = observer.client();
    let node = PersistentNode::new(&owner.keeper, &path, "first").unwrap();
    let first = within("it is placed", node.placed()).await.unwrap();
    let found = async || match steady(|| client.get_data(&path)).await {
        Ok((data, stat)) => Some((data, stat)),
        Err(ClientError::NoNode) => None,
        Err(error) => panic!("{error}"),
    };
    stage.leader_dies().await;
    assert_eq!(
        found().await.unwrap().1.czxid,
        first.czxid,
        "the session lives, so does the znode"
    );
    match steady(|| client.delete(&path, None)).await {
        Ok(()) | Err(ClientError::NoNode) => {}
        Err(error) => panic!("{error}"),
    }
    eventually("it is there again", async || {
        found().await.is_some_and(|(_, stat)| stat.czxid > first.czxid)
    })
    .await;
    node.set_data("second");
    eventually("its data follows", async || {
        found().await.is_some_and(|(data, _)| data == b"second")
    })
    .await;
    let old = owner.end().await;
    eventually("it comes with the next session", async || {
        found()
            .await
            .is_some_and(|(_, stat)| stat.ephemeral_owner != old.id().0)
    })
    .await;
    stage.leader_returns().await;
    within("it closes", node.close()).await.unwrap();
    eventually("it is gone", async || found().await.is_none()).await;
}

pub async fn group(stage: &Stage) {
    let path = stage.path("group");
    let dies = stage.mortal().await;
    let keepers = [stage.keeper().await, dies.keeper.clone(), stage.keeper().await];
    let join = async |member: usize, id: &str| {
        let member = GroupMember::join(&keepers[member], &path, id, id.to_uppercase()).unwrap();
        within("it joins", member.joined()).await.unwrap();
        member
    };
    let know = async |members: &[&GroupMember], expected: &str| {
        eventually("they know one another", async || {
            let ids = |member: &GroupMember| member.members().into_keys().collect::<String>();
            members.iter().all(|member| ids(member) == expected)
        })
        .await;
    };
    let (a, b) = (join(0, "a").await, join(1, "b").await);
    know(&[&a, &b], "ab").await;
    stage.leader_dies().await;
    know(&[&a, &b], "ab").await;
    let c = join(2, "c").await;
    know(&[&a, &b, &c], "abc").await;
    within("it leaves", a.leave()).await.unwrap();
    know(&[&b, &c], "bc").await;
    let old = dies.end().await;
    eventually("it is a member with its next session", async || {
        let node = c.cache().get(&format!("{path}/b"));
        node.is_some_and(|node| node.stat.ephemeral_owner != old.id().0)
    })
    .await;
    stage.leader_returns().await;
    know(&[&b, &c], "bc").await;
    assert_eq!(b.members()["c"], b"C");
}

pub async fn discovery(stage: &Stage) {
    let base = stage.path("services");
    let mut registrations = Vec::new();
    let dies = stage.mortal().await;
    let keepers = [stage.keeper().await, stage.keeper().await, dies.keeper.clone()];
    for ((port, id), keeper) in (1..).zip(["a", "b", "c"]).zip(keepers) {
        let discovery = Discovery::new(&keeper, &base).unwrap();
        let mut instance = ServiceInstance::new("web", "127.0.0.1", port);
        instance.id = id.to_owned();
        let registration = discovery.register(instance).unwrap();
        within("it is registered", registration.registered())
            .await
            .unwrap();
        registrations.push(registration);
    }
    let asking = Discovery::new(&stage.keeper().await, &base).unwrap();
    let weight = |instance: &ServiceInstance| u32::from(instance.port.unwrap());
    let mut providers = Vec::new();
    for balance in [
        Balance::Random,
        Balance::RoundRobin,
        Balance::Sticky,
        Balance::Weighted(Arc::new(weight)),
        Balance::LeastOutstanding,
    ] {
        let provider = asking.provider("web", balance).unwrap();
        within("the instances", provider.ready()).await.unwrap();
        providers.push(provider);
    }
    // In so many picks each strategy but the sticky one comes to all of three.
    let picked = |provider: &ServiceProvider| {
        let picks: Vec<_> = (0..100).filter_map(|_| provider.pick()).collect();
        picks
            .iter()
            .map(|picked| picked.id.clone())
            .collect::<BTreeSet<_>>()
    };
    let pick_among = async |expected: &[&str]| {
        let all: BTreeSet<String> = expected.iter().map(|id| (*id).to_owned()).collect();
        eventually("all pick among these", async || {
            providers
                .iter()
                .enumerate()
                .all(|(number, provider)| match number {
                    2 => picked(provider).len() == 1 && picked(provider).is_subset(&all),
                    _ => picked(provider) == all,
                })
        })
        .await;
        let found = within("they are looked up", asking.instances("web"))
            .await
            .unwrap();
        assert_eq!(
            found
                .into_iter()
                .map(|instance| instance.id)
                .collect::<BTreeSet<_>>(),
            all
        );
    };
    pick_among(&["a", "b", "c"]).await;
    let stuck = picked(&providers[2]);
    stage.leader_dies().await;
    assert_eq!(picked(&providers[2]), stuck, "the same as long as it is there");
    pick_among(&["a", "b", "c"]).await;
    registrations[0].set_healthy(false);
    pick_among(&["b", "c"]).await;
    let [a, b, c]: [Registration; 3] = registrations.try_into().unwrap();
    within("it is closed", b.close()).await.unwrap();
    pick_among(&["c"]).await;
    a.set_healthy(true);
    let old = dies.end().await;
    let cache = providers[0].cache().cache();
    eventually("it is registered by its next session", async || {
        let node = cache.get(c.node().path());
        node.is_some_and(|node| node.stat.ephemeral_owner != old.id().0)
    })
    .await;
    stage.leader_returns().await;
    pick_among(&["a", "c"]).await;
}
