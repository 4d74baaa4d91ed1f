//! One-shot, persistent and recursive watches.

use zookeeper_client::{
    AddWatchMode, EventType, OneshotWatcher, PersistentWatcher, SessionState, WatchedEvent,
};

use crate::harness::*;

const REMOVE_WATCHES: i32 = 18;
const SET_WATCHES: i32 = 101;

async fn next(watcher: &mut PersistentWatcher, behaviour: &str) -> WatchedEvent {
    within(behaviour, watcher.changed()).await
}

async fn changed(watcher: OneshotWatcher, behaviour: &str) -> WatchedEvent {
    within(behaviour, watcher.changed()).await
}

fn event(kind: EventType, path: &str, zxid: i64) -> WatchedEvent {
    WatchedEvent::new(kind, path).with_zxid(zxid)
}

pub async fn one_shots_fire_once_with_the_zxid_of_their_change(context: Context) {
    let zk = context.begin().await;
    let other = connect(15_000).await;
    let root = &context.root;
    let (d, e, m) = (&format!("{root}/d"), &format!("{root}/e"), &format!("{root}/m"));
    zk.create(d, "").await;
    zk.create(e, "").await;
    let (_, _, data) = zk.get_and_watch_data(d).await.unwrap();
    let (_, gone) = zk.check_and_watch_stat(e).await.unwrap();
    let (_, made) = zk.check_and_watch_stat(m).await.unwrap();
    let (_, children) = zk.list_and_watch_children(root).await.unwrap();
    other.set_data(root, b"no child event", None).await.unwrap();
    other.set_data(d, b"", Some(8)).await.unwrap_err();
    zk.fence().await;
    assert_eq!(zk.proxy.notifications(), 0, "nothing changed that is watched");
    let stat = other.set_data(d, b"1", None).await.unwrap();
    let zxid = stat.mzxid;
    assert_eq!(
        changed(data, "the data watch").await,
        event(EventType::NodeDataChanged, d, zxid)
    );
    let (stat, _) = other.client.create(m, b"", PERSISTENT).await.unwrap();
    let zxid = stat.czxid;
    assert_eq!(
        changed(made, "the watch for a missing znode").await,
        event(EventType::NodeCreated, m, zxid)
    );
    assert_eq!(
        changed(children, "the child watch").await,
        event(EventType::NodeChildrenChanged, root, zxid)
    );
    other.delete(e, None).await.unwrap();
    let zxid = other.check_stat(root).await.unwrap().unwrap().pzxid;
    assert_eq!(
        changed(gone, "the exists watch").await,
        event(EventType::NodeDeleted, e, zxid)
    );
    other.set_data(d, b"2", None).await.unwrap();
    other.create(&format!("{root}/more"), "").await;
    zk.fence().await;
    assert_eq!(zk.proxy.notifications(), 4, "each fired once");
}

pub async fn persistent_watches_stay(context: Context) {
    let zk = context.begin().await;
    let other = connect(15_000).await;
    let x = &format!("{}/x", context.root);
    let mut watcher = zk
        .watch(x, AddWatchMode::Persistent)
        .await
        .expect("the znode need not exist");
    for turn in 0..2 {
        let mut expect = Vec::new();
        expect.push((
            EventType::NodeCreated,
            other.client.create(x, b"", PERSISTENT).await.unwrap().0.czxid,
        ));
        for _ in 0..3 {
            expect.push((
                EventType::NodeDataChanged,
                other.set_data(x, b"", None).await.unwrap().mzxid,
            ));
        }
        let child = &format!("{x}/child");
        let (stat, _) = other.client.create(child, b"", PERSISTENT).await.unwrap();
        expect.push((EventType::NodeChildrenChanged, stat.czxid));
        other.set_data(child, b"no event", None).await.unwrap();
        other.create(&format!("{child}/grandchild"), "no event").await;
        other.delete(&format!("{child}/grandchild"), None).await.unwrap();
        other.delete(child, None).await.unwrap();
        expect.push((
            EventType::NodeChildrenChanged,
            other.check_stat(x).await.unwrap().unwrap().pzxid,
        ));
        other.delete(x, None).await.unwrap();
        let zxid = other.check_stat(&context.root).await.unwrap().unwrap().pzxid;
        expect.push((EventType::NodeDeleted, zxid));
        for (kind, zxid) in expect {
            let got = next(&mut watcher, &format!("{kind} in turn {turn}")).await;
            assert_eq!(got, event(kind, x, zxid), "in turn {turn}");
        }
    }
    zk.fence().await;
    assert_eq!(zk.proxy.notifications(), 2 * 7, "no events besides");
}

pub async fn recursive_watches_see_the_whole_subtree(context: Context) {
    let zk = context.begin().await;
    let other = connect(15_000).await;
    let root = &context.root;
    let mut watcher = zk.watch(root, AddWatchMode::PersistentRecursive).await.unwrap();
    let (a, b) = (&format!("{root}/a"), &format!("{root}/a/b"));
    let mut expect = Vec::new();
    for path in [a, b] {
        let zxid = other.client.create(path, b"", PERSISTENT).await.unwrap().0.czxid;
        expect.push(event(EventType::NodeCreated, path, zxid));
    }
    for path in [root, a, b] {
        let zxid = other.set_data(path, b"", None).await.unwrap().mzxid;
        expect.push(event(EventType::NodeDataChanged, path, zxid));
    }
    let beside = format!("{root}-beside");
    other
        .create(&beside, "no event: only its name begins alike")
        .await;
    let mut writer = other.new_multi_writer();
    writer.add_set_data(b, b"", None).unwrap();
    writer.add_delete(b, None).unwrap();
    writer.add_create(b, b"", PERSISTENT).unwrap();
    writer.add_delete(b, None).unwrap();
    writer.add_delete(a, None).unwrap();
    writer.commit().await.unwrap();
    let zxid = other.check_stat(root).await.unwrap().unwrap().pzxid;
    for (kind, path) in [
        (EventType::NodeDataChanged, b),
        (EventType::NodeDeleted, b),
        (EventType::NodeCreated, b),
        (EventType::NodeDeleted, b),
        (EventType::NodeDeleted, a),
    ] {
        expect.push(event(kind, path, zxid));
    }
    other.delete(root, None).await.unwrap();
    for wanted in expect {
        assert_eq!(
            next(&mut watcher, &format!("{wanted:?}")).await,
            wanted,
            "never NodeChildrenChanged"
        );
    }
    let got = next(&mut watcher, "deletion of the watched znode itself").await;
    assert_eq!((got.event_type, &got.path), (EventType::NodeDeleted, root));
    let (stat, _) = other.client.create(root, b"", PERSISTENT).await.unwrap();
    let got = next(&mut watcher, "its creation again").await;
    assert_eq!(
        got,
        event(EventType::NodeCreated, root, stat.czxid),
        "the watch outlives its znode"
    );
    zk.fence().await;
    assert_eq!(zk.proxy.notifications(), 12, "no events besides");
}

pub async fn several_watches_of_one_client_get_each_their_events(context: Context) {
    let zk = context.begin().await;
    let root = &context.root;
    let x = &format!("{root}/x");
    zk.create(x, "").await;
    let mut persistent = zk.watch(x, AddWatchMode::Persistent).await.unwrap();
    let mut recursive = zk.watch(x, AddWatchMode::PersistentRecursive).await.unwrap();
    let mut above = zk.watch(root, AddWatchMode::PersistentRecursive).await.unwrap();
    let (_, _, data) = zk.get_and_watch_data(x).await.unwrap();
    let (_, children) = zk.list_and_watch_children(x).await.unwrap();
    let changed_at = zk.set_data(x, b"1", None).await.unwrap().mzxid;
    let change = event(EventType::NodeDataChanged, x, changed_at);
    assert_eq!(changed(data, "the one-shot").await, change);
    for watcher in [&mut persistent, &mut recursive, &mut above] {
        assert_eq!(next(watcher, "the change").await, change);
    }
    assert_eq!(
        zk.proxy.notifications(),
        1,
        "one frame for all watches of a connection, before the reply"
    );
    let child = &format!("{x}/child");
    let created_at = zk.client.create(child, b"", PERSISTENT).await.unwrap().0.czxid;
    let created = event(EventType::NodeCreated, child, created_at);
    let children_changed = event(EventType::NodeChildrenChanged, x, created_at);
    assert_eq!(
        changed(children, "the one-shot child watch").await,
        children_changed
    );
    assert_eq!(
        next(&mut persistent, "the persistent watch").await,
        children_changed
    );
    assert_eq!(next(&mut recursive, "the recursive watch").await, created);
    assert_eq!(next(&mut above, "the recursive watch above").await, created);
    assert_eq!(zk.proxy.notifications(), 3);
}

pub async fn a_dropped_watch_is_removed_from_the_server(context: Context) {
    let zk = context.begin().await;
    let root = &context.root;
    let x = &format!("{root}/x");
    zk.create(x, "").await;
    let one_shot = zk.get_and_watch_data(x).await.unwrap().2;
    let children = zk.list_and_watch_children(x).await.unwrap().1;
    let persistent = zk
        .watch(&format!("{root}/p"), AddWatchMode::Persistent)
        .await
        .unwrap();
    let recursive = zk
        .watch(&format!("{root}/r"), AddWatchMode::PersistentRecursive)
        .await
        .unwrap();
    drop((one_shot, children, persistent, recursive));
    eventually("the removals are answered", || async {
        zk.proxy.answered(REMOVE_WATCHES) == 4
    })
    .await;
    let errors: Vec<i32> = {
        let xids: Vec<i32> = zk
            .proxy
            .sent()
            .iter()
            .skip(1)
            .filter(|f| int(f, 4) == REMOVE_WATCHES)
            .map(|f| int(f, 0))
            .collect();
        let replies = zk.proxy.received();
        replies
            .iter()
            .skip(1)
            .filter(|f| xids.contains(&int(f, 0)))
            .map(|f| int(f, 12))
            .collect()
    };
    assert_eq!(errors, [0; 4], "each watch was found and removed");
    zk.set_data(x, b"", None).await.unwrap();
    zk.create(&format!("{x}/child"), "").await;
    for name in ["p", "r", "r/child", "p/child"] {
        zk.create(&format!("{root}/{name}"), "").await;
    }
    assert_eq!(zk.proxy.notifications(), 0, "removed watches fire nothing");
}

pub async fn watches_are_armed_again_after_a_reconnection(context: Context) {
    armed_again(context, false).await;
}

pub async fn watches_are_armed_again_after_a_kill(context: Context) {
    armed_again(context, true).await;
}

// Of one-shots only: release 0.11.2 does not arm its persistent watches again.
async fn armed_again(context: Context, kill: bool) {
    let zk = connect(40_000).await;
    let other = connect(40_000).await;
    let root = &context.root;
    let path = |name: &str| format!("{root}/{name}");
    zk.create(root, "").await;
    for name in ["d", "e", "quiet"] {
        zk.create(&path(name), "").await;
    }
    zk.client
        .create(&path("ephemeral"), b"", EPHEMERAL)
        .await
        .unwrap();
    let before = zk.check_stat(&path("ephemeral")).await.unwrap();
    let (d, e, m, quiet) = (path("d"), path("e"), path("m"), path("quiet"));
    let (_, _, data) = zk.get_and_watch_data(&d).await.unwrap();
    let (_, gone) = zk.check_and_watch_stat(&e).await.unwrap();
    let (_, made) = zk.check_and_watch_stat(&m).await.unwrap();
    let (_, children) = zk.list_and_watch_children(root).await.unwrap();
    let (_, _, quiet_data) = zk.get_and_watch_data(&quiet).await.unwrap();
    let (_, quiet_children) = zk.list_and_watch_children(&quiet).await.unwrap();
    let session = zk.session_id();
    zk.proxy.cut();
    zk.enters(SessionState::Disconnected).await;
    if kill {
        kill_server();
        other.enters(SessionState::Disconnected).await;
        start_server();
        other.enters(SessionState::SyncConnected).await;
    }
    other.set_data(&d, b"changed while away", None).await.unwrap();
    other.delete(&e, None).await.unwrap();
    other.create(&m, "").await;
    zk.proxy.mend();
    zk.enters(SessionState::SyncConnected).await;
    assert_eq!(zk.session_id(), session);
    let caught_up = WatchedEvent::NO_ZXID;
    for (watcher, wanted) in [
        (data, event(EventType::NodeDataChanged, &d, caught_up)),
        (gone, event(EventType::NodeDeleted, &e, caught_up)),
        (made, event(EventType::NodeCreated, &m, caught_up)),
        (children, event(EventType::NodeChildrenChanged, root, caught_up)),
    ] {
        assert_eq!(
            changed(watcher, &format!("after the reconnection: {wanted:?}")).await,
            wanted
        );
    }
    zk.fence().await;
    assert_eq!(zk.proxy.answered(SET_WATCHES), 1);
    assert_eq!(zk.proxy.notifications(), 4, "what did not change fires nothing");
    assert_eq!(
        zk.check_stat(&path("ephemeral")).await.unwrap(),
        before,
        "the ephemeral is as it was"
    );
    let zxid = other.set_data(&quiet, b"", None).await.unwrap().mzxid;
    let wanted = event(EventType::NodeDataChanged, &quiet, zxid);
    assert_eq!(
        changed(quiet_data, "the data watch that was armed again").await,
        wanted
    );
    let zxid = other
        .client
        .create(&path("quiet/x"), b"", PERSISTENT)
        .await
        .unwrap()
        .0
        .czxid;
    let wanted = event(EventType::NodeChildrenChanged, &quiet, zxid);
    assert_eq!(
        changed(quiet_children, "the child watch that was armed again").await,
        wanted
    );
}
