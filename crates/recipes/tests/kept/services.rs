use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use oxkeeper_recipes::{
    Balance, Discovery, DownPolicy, Error, Picked, ServiceInstance, ServiceProvider, ServiceType,
    SessionKeeper, UriSpec,
};
use serde_json::json;

use crate::support::{PERSISTENT, Proxy, Server, children, eventually, within};
use crate::{expire, keeper};

fn instance(name: &str, id: &str, port: u16) -> ServiceInstance {
    ServiceInstance {
        id: id.to_owned(),
        ..ServiceInstance::new(name, "127.0.0.1", port)
    }
}

#[test]
fn instances_are_read_and_written_as_curator_does() {
    // As Curator 5.9 writes it: with its default serializer, without `enabled`.
    let json = r#"{"name":"search","id":"7","address":"10.0.0.7","port":8080,"sslPort":null,
        "payload":{"@class":"com.example.Payload","weight":3},"registrationTimeUTC":1700000000000,
        "serviceType":"DYNAMIC","uriSpec":{"parts":[{"value":"scheme","variable":true},
        {"value":"://","variable":false},{"value":"address","variable":true},{"value":":","variable":false},
        {"value":"port","variable":true}]}}"#;
    let read: ServiceInstance = serde_json::from_str(json).unwrap();
    assert!(read.enabled);
    assert_eq!(read.uri().unwrap(), "http://10.0.0.7:8080");
    assert_eq!(
        read.uri_spec,
        Some(UriSpec::parse("{scheme}://{address}:{port}").unwrap())
    );
    let mut expected: serde_json::Value = serde_json::from_str(json).unwrap();
    expected["enabled"] = json!(true);
    assert_eq!(serde_json::to_value(&read).unwrap(), expected);
    let least: ServiceInstance = serde_json::from_str(r#"{"name":"a","id":"b","other":1}"#).unwrap();
    assert_eq!(
        (least.port, least.service_type, least.uri()),
        (None, ServiceType::Dynamic, None)
    );

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Payload {
        zone: String,
    }
    let payload = Payload { zone: "a".to_owned() };
    let with = least.with_payload(&payload).unwrap();
    assert_eq!(with.payload_as::<Payload>().unwrap(), Some(payload));
    assert!(matches!(with.payload_as::<u32>(), Err(Error::Invalid(_))));
    for bad in ["{", "}", "a{b", "a}b", "{a{b}}"] {
        assert!(UriSpec::parse(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn an_instance_is_found_while_it_is_registered_and_healthy() {
    let server = Server::start();
    let keeper = keeper(server.address()).await;
    let discovery = Discovery::new(&keeper, "/services").unwrap();
    assert!(discovery.instances("web").await.unwrap().is_empty());
    let mut registration = discovery.register(instance("web", "a", 80)).unwrap();
    within("it is registered", registration.registered())
        .await
        .unwrap();
    assert_eq!(discovery.names().await.unwrap(), ["web"]);
    assert_eq!(
        discovery.instances("web").await.unwrap(),
        [registration.instance().clone()]
    );
    let change = |instance: &mut ServiceInstance| {
        instance.port = Some(81);
        // It lives as long as its registration all the same.
        instance.service_type = ServiceType::Permanent;
    };
    registration.update(change).unwrap();
    eventually("the update", async || {
        discovery
            .instance("web", "a")
            .await
            .unwrap()
            .is_some_and(|instance| instance.port == Some(81))
    })
    .await;
    assert_eq!(registration.instance().service_type, ServiceType::Dynamic);

    registration.set_healthy(false);
    eventually("it is withdrawn", async || {
        discovery.instances("web").await.unwrap().is_empty()
    })
    .await;
    // Says yes, no, panics, or never says; or does not even begin.
    let health = Arc::new(AtomicU8::new(0));
    let check = {
        let health = Arc::clone(&health);
        move || {
            let health = health.load(Ordering::Relaxed);
            assert_ne!(health, 4, "as a check may");
            async move {
                match health {
                    0 => true,
                    1 => false,
                    2 => panic!("a check may"),
                    _ => std::future::pending().await,
                }
            }
        }
    };
    let often = Duration::from_millis(10);
    registration.watch_health(often, often, check);
    for sick in [1, 2, 3, 4] {
        health.store(0, Ordering::Relaxed);
        eventually("it is back", async || {
            discovery.instances("web").await.unwrap().len() == 1
        })
        .await;
        health.store(sick, Ordering::Relaxed);
        eventually("it is withdrawn", async || {
            discovery.instances("web").await.unwrap().is_empty()
        })
        .await;
    }
    health.store(0, Ordering::Relaxed);
    eventually("it is back", async || {
        discovery.instances("web").await.unwrap().len() == 1
    })
    .await;
    within("it is closed", registration.close()).await.unwrap();
    assert!(discovery.instances("web").await.unwrap().is_empty());

    let fixed = ServiceInstance {
        service_type: ServiceType::Static,
        ..instance("web", "fixed", 1)
    };
    assert!(discovery.register(fixed.clone()).is_err());
    discovery.put(&fixed).await.unwrap();
    expire(&server, &keeper).await;
    assert_eq!(discovery.instances("web").await.unwrap(), [fixed]);
    discovery.remove("web", "fixed").await.unwrap();
    assert!(discovery.instances("web").await.unwrap().is_empty());
    assert!(discovery.instance("../x", "a").await.is_err());
}

#[tokio::test]
async fn an_update_does_not_bring_back_what_is_sick() {
    let server = Server::start();
    let keeper = keeper(server.address()).await;
    let discovery = Discovery::new(&keeper, "/services").unwrap();
    let mut registration = discovery.register(instance("web", "a", 80)).unwrap();
    within("it is registered", registration.registered())
        .await
        .unwrap();
    registration.set_healthy(false);
    eventually("it is withdrawn", async || {
        discovery.instances("web").await.unwrap().is_empty()
    })
    .await;
    registration.update(|instance| instance.port = Some(81)).unwrap();
    let client = keeper.session();
    // More than the update would need to come back.
    for _ in 0..50 {
        assert!(discovery.instances("web").await.unwrap().is_empty());
    }
    let (before, _) = client.client().create("/before", b"", &PERSISTENT).await.unwrap();
    registration.set_healthy(true);
    let stat = within("it is back", registration.node().placed()).await.unwrap();
    assert!(stat.czxid > before.czxid);
    assert_eq!(discovery.instances("web").await.unwrap()[0].port, Some(81));
    // The check knows of updates too, be they before it or after.
    let often = Duration::from_millis(10);
    registration.watch_health(often, often, async || true);
    registration.update(|instance| instance.port = Some(82)).unwrap();
    eventually("the update", async || {
        discovery.instances("web").await.unwrap()[0].port == Some(82)
    })
    .await;
    let checks = Arc::new(AtomicU8::new(0));
    let counted = Arc::clone(&checks);
    registration.watch_health(often, often, move || {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(true)
    });
    eventually("some checks", async || checks.load(Ordering::Relaxed) > 3).await;
    assert_eq!(discovery.instances("web").await.unwrap()[0].port, Some(82));
}

#[tokio::test]
async fn a_check_that_hangs_ends_with_its_registration() {
    let server = Server::start();
    let keeper = keeper(server.address()).await;
    let discovery = Discovery::new(&keeper, "/services").unwrap();
    let mut registration = discovery.register(instance("web", "a", 80)).unwrap();
    let running = Arc::new(());
    let held = Arc::clone(&running);
    registration.watch_health(Duration::ZERO, Duration::from_secs(3600), move || {
        let held = Arc::clone(&held);
        async move {
            std::future::pending::<()>().await;
            drop(held);
            true
        }
    });
    eventually("it is checked", async || Arc::strong_count(&running) == 3).await;
    within("it is closed", registration.close()).await.unwrap();
    eventually("the check is gone", async || Arc::strong_count(&running) == 1).await;
}

#[tokio::test]
async fn a_registration_survives_its_session_and_replaces_what_a_dead_program_left() {
    let server = Server::start();
    let proxy = Proxy::start(server.address());
    let (keeper, other) = (
        keeper(proxy.address()).await,
        crate::keeper(server.address()).await,
    );
    let discovery = Discovery::new(&keeper, "/services").unwrap();
    let dead = Discovery::new(&other, "/services")
        .unwrap()
        .register(instance("web", "a", 1))
        .unwrap();
    within("the first", dead.registered()).await.unwrap();
    std::mem::forget(dead);
    let cache = Discovery::new(&other, "/services").unwrap().cache("web").unwrap();
    within("the cache", cache.ready()).await.unwrap();
    // It goes on to contend for the znode, as two programs with one id do; so it has to go first.
    expire(&server, &other).await;
    let registration = discovery.register(instance("web", "a", 2)).unwrap();
    within("the second", registration.registered()).await.unwrap();
    drop(registration);

    let registration = discovery.register(instance("web", "b", 3)).unwrap();
    within("it is registered", registration.registered())
        .await
        .unwrap();
    let port = || cache.instances().get("b").and_then(|instance| instance.port);
    eventually("the cache knows", async || port() == Some(3)).await;
    let old = keeper.session().id().0;
    expire(&server, &keeper).await;
    eventually("it is registered again", async || {
        let node = cache.cache().get("/services/web/b");
        node.is_some_and(|node| node.stat.ephemeral_owner != old)
    })
    .await;
    proxy.cut();
    drop(registration);
    proxy.heal();
    eventually("it is gone, over a cut", async || port().is_none()).await;
}

/// A provider over so many instances that are registered.
async fn provider(keeper: &SessionKeeper, names: &[&str], balance: Balance) -> ServiceProvider {
    let discovery = Discovery::new(keeper, "/services").unwrap();
    for (port, id) in (1..).zip(names) {
        let fixed = ServiceInstance {
            service_type: ServiceType::Static,
            ..instance("web", id, port)
        };
        discovery.put(&fixed).await.unwrap();
    }
    let provider = discovery.provider("web", balance).unwrap();
    within("the provider", provider.ready()).await.unwrap();
    provider
}

fn shares(provider: &ServiceProvider, picks: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..picks {
        *shares.entry(provider.pick().unwrap().id.clone()).or_default() += 1;
    }
    shares
}

#[tokio::test]
async fn each_strategy_balances_as_it_says() {
    let server = Server::start();
    let keeper = keeper(server.address()).await;
    let names = ["a", "b", "c"];
    let random = provider(&keeper, &names, Balance::Random).await;
    let drawn = shares(&random, 3000);
    assert!(
        drawn.len() == 3 && drawn.values().all(|share| (800..1200).contains(share)),
        "{drawn:?}"
    );

    let round_robin = provider(&keeper, &names, Balance::RoundRobin).await;
    let order: Vec<String> = (0..6).map(|_| round_robin.pick().unwrap().id.clone()).collect();
    assert_eq!(order, ["a", "b", "c", "a", "b", "c"]);

    let weight = |instance: &ServiceInstance| {
        if instance.id == "a" {
            0
        } else {
            u32::from(instance.port.unwrap())
        }
    };
    let weighted = provider(&keeper, &names, Balance::Weighted(Arc::new(weight))).await;
    let drawn = shares(&weighted, 5000);
    assert!(
        drawn.len() == 2 && (1800..2200).contains(&drawn["b"]),
        "{drawn:?}"
    );

    let least = provider(&keeper, &names, Balance::LeastOutstanding).await;
    let mut held: Vec<Picked> = (0..6).map(|_| least.pick().unwrap()).collect();
    let ids = |held: &[Picked]| {
        held.iter()
            .map(|picked| picked.id.clone())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!((ids(&held[..3]).len(), ids(&held[3..]).len()), (3, 3));
    let idle = held.remove(4).id.clone();
    assert_eq!(least.pick().unwrap().id, idle);

    let sticky = provider(&keeper, &names, Balance::Sticky).await;
    let first = sticky.pick().unwrap().id.clone();
    assert_eq!(shares(&sticky, 20), BTreeMap::from([(first.clone(), 20)]));
    let discovery = Discovery::new(&keeper, "/services").unwrap();
    discovery.remove("web", &first).await.unwrap();
    eventually("the provider knows", async || {
        sticky.cache().instances().len() == 2
    })
    .await;
    let second = sticky.pick().unwrap().id.clone();
    assert_ne!(first, second);
    assert_eq!(shares(&sticky, 20), BTreeMap::from([(second, 20)]));
}

#[tokio::test]
async fn what_fails_is_left_out_for_a_while_and_what_is_no_instance_for_good() {
    let server = Server::start();
    let keeper = keeper(server.address()).await;
    let fail = |provider: &ServiceProvider, id: &str| loop {
        let picked = provider.pick().unwrap();
        if picked.id == id {
            return picked.failed();
        }
    };
    let time = Duration::from_secs(2);
    let forgets = provider(&keeper, &["a", "b"], Balance::RoundRobin).await;
    let forgets = forgets.with_down_policy(DownPolicy { errors: 2, time });
    fail(&forgets, "a");
    assert_eq!(shares(&forgets, 4).len(), 2);
    fail(&forgets, "a");
    assert_eq!(shares(&forgets, 4), BTreeMap::from([("b".to_owned(), 4)]));

    // Errors that are too far apart do not add up.
    let short = Duration::from_millis(100);
    let forgives = provider(&keeper, &["a", "b"], Balance::RoundRobin).await;
    let forgives = forgives.with_down_policy(DownPolicy {
        errors: 2,
        time: short,
    });
    let mut picked: Vec<_> = (0..4).map(|_| forgives.pick().unwrap()).collect();
    picked.retain(|picked| picked.id == "a");
    picked.remove(0).failed();
    tokio::time::sleep(short).await;
    picked.remove(0).failed();
    assert_eq!(shares(&forgives, 4).len(), 2);

    let provider = provider(&keeper, &["a", "b"], Balance::RoundRobin).await;
    for id in ["a", "b", "a"] {
        fail(&provider, id);
    }
    assert_eq!(shares(&provider, 4), BTreeMap::from([("b".to_owned(), 4)]));
    fail(&provider, "b");
    assert_eq!(
        shares(&provider, 4).len(),
        2,
        "when all have failed, all are tried"
    );
    eventually("its time is over", async || shares(&forgets, 4).len() == 2).await;

    let client = keeper.session();
    client
        .client()
        .create("/services/web/bad", b"{", &PERSISTENT)
        .await
        .unwrap();
    let off = ServiceInstance {
        service_type: ServiceType::Static,
        enabled: false,
        ..instance("web", "off", 9)
    };
    Discovery::new(&keeper, "/services")
        .unwrap()
        .put(&off)
        .await
        .unwrap();
    eventually("the provider knows", async || {
        provider.cache().instances().contains_key("off")
    })
    .await;
    assert_eq!(children(&client, "/services/web").await.len(), 4);
    assert_eq!(provider.cache().instances().len(), 3);
    assert_eq!(shares(&provider, 10).into_keys().collect::<Vec<_>>(), ["a", "b"]);
}
