import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;

/** What clients hear of changes, while connected and after they were not. */
final class Caches {
    private Caches() {
    }

    static void all() {
        Suite.run("CuratorCache follows creates, changes and deletes of a subtree", Caches::cache);
        Suite.run("CuratorCache has what changed while its connection was cut", Caches::cut);
        Suite.run("a one-shot watch set before a cut fires after it", Caches::oneShot);
        Suite.run("PersistentWatcher sees every change, also of later children", Caches::persistent);
        Suite.run("a session that is cut off for too long expires, its ephemeral is deleted", Caches::expiry);
    }

    private static CuratorCache cache(CuratorFramework client, String path, List<String> events) throws Exception {
        CountDownLatch initialized = new CountDownLatch(1);
        CuratorCache cache = Suite.open(CuratorCache.build(client, path));
        cache.listenable().addListener(CuratorCacheListener.builder()
            .forCreates(node -> events.add("created " + node.getPath()))
            .forChanges((old, node) -> events.add("changed " + node.getPath() + " " + new String(node.getData())))
            .forDeletes(node -> events.add("deleted " + node.getPath()))
            .forInitialized(initialized::countDown)
            .build());
        cache.start();
        Suite.that(initialized.await(20, TimeUnit.SECONDS), "not initialized");
        return cache;
    }

    private static TreeSet<String> paths(CuratorCache cache) {
        return cache.stream().map(node -> node.getPath()).collect(Collectors.toCollection(TreeSet::new));
    }

    private static String text(CuratorCache cache, String path) {
        return cache.get(path).map(node -> new String(node.getData())).orElse(null);
    }

    private static void cache() throws Exception {
        CuratorFramework writer = Suite.client();
        writer.create().forPath("/cache");
        writer.create().forPath("/cache/first", "1".getBytes());
        List<String> events = Collections.synchronizedList(new ArrayList<>());
        CuratorCache cache = cache(Suite.client(), "/cache", events);
        Suite.same(new TreeSet<>(List.of("/cache", "/cache/first")), paths(cache), "at first");
        events.clear();
        writer.create().creatingParentsIfNeeded().forPath("/cache/deep/deeper", "2".getBytes());
        writer.setData().forPath("/cache/first", "3".getBytes());
        Suite.eventually("three events", () -> events.size() == 3);
        writer.delete().forPath("/cache/deep/deeper");
        writer.create().forPath("/cache-beside");
        writer.delete().forPath("/cache/first");
        Suite.eventually("five events", () -> events.size() >= 5);
        Suite.same(
            new TreeSet<>(List.of("created /cache/deep", "created /cache/deep/deeper", "changed /cache/first 3",
                "deleted /cache/deep/deeper", "deleted /cache/first")),
            new TreeSet<>(events), "events");
        Suite.same(new TreeSet<>(List.of("/cache", "/cache/deep")), paths(cache), "at last");
    }

    private static void cut() throws Exception {
        Proxy proxy = Suite.open(new Proxy());
        CuratorFramework writer = Suite.client();
        writer.create().forPath("/cut");
        for (String name : List.of("kept", "changed", "deleted", "replaced")) {
            writer.create().forPath("/cut/" + name, "old".getBytes());
        }
        CuratorFramework reader = Suite.start(Suite.builder().connectString(proxy.address()));
        List<ConnectionState> states = Collections.synchronizedList(new ArrayList<>());
        reader.getConnectionStateListenable().addListener((client, state) -> states.add(state));
        long session = Suite.session(reader);
        List<String> events = Collections.synchronizedList(new ArrayList<>());
        CuratorCache cache = cache(reader, "/cut", events);
        events.clear();

        proxy.cut();
        Suite.eventually("the cut is noticed", () -> states.contains(ConnectionState.SUSPENDED));
        writer.setData().forPath("/cut/changed", "new".getBytes());
        writer.delete().forPath("/cut/deleted");
        writer.delete().forPath("/cut/replaced");
        writer.create().forPath("/cut/replaced", "new".getBytes());
        writer.create().creatingParentsIfNeeded().forPath("/cut/created/below", "new".getBytes());
        proxy.mend();
        Suite.eventually("connected again", () -> states.contains(ConnectionState.RECONNECTED));
        Suite.same(session, Suite.session(reader), "session");

        TreeSet<String> expected = new TreeSet<>(List.of("changed /cut/changed new", "deleted /cut/deleted",
            "created /cut/created", "created /cut/created/below"));
        Suite.eventually("the cache has caught up", () -> new TreeSet<>(events).containsAll(expected));
        // Of a znode that was replaced by one of the same version the cache tells no event, but has the new data.
        Suite.eventually("the replaced znode's data", () -> "new".equals(text(cache, "/cut/replaced")));
        Suite.same(expected, new TreeSet<>(events), "events");
        Suite.same(
            new TreeSet<>(List.of("/cut", "/cut/kept", "/cut/changed", "/cut/replaced", "/cut/created", "/cut/created/below")),
            paths(cache), "paths");
        events.clear();
        writer.setData().forPath("/cut/created/below", "newer".getBytes());
        Suite.eventually("the watch is armed again", () -> events.contains("changed /cut/created/below newer"));
    }

    private static void oneShot() throws Exception {
        Proxy proxy = Suite.open(new Proxy());
        CuratorFramework writer = Suite.client();
        writer.create().creatingParentsIfNeeded().forPath("/one-shot/data", "old".getBytes());
        writer.create().forPath("/one-shot/untouched");
        CuratorFramework reader = Suite.start(Suite.builder().connectString(proxy.address()));
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        List<ConnectionState> states = Collections.synchronizedList(new ArrayList<>());
        reader.getConnectionStateListenable().addListener((client, state) -> states.add(state));
        Watcher watcher = event -> {
            if (event.getPath() != null) {
                seen.add(event.getType() + " " + event.getPath());
            }
        };
        reader.getData().usingWatcher(watcher).forPath("/one-shot/data");
        reader.getData().usingWatcher(watcher).forPath("/one-shot/untouched");
        reader.getChildren().usingWatcher(watcher).forPath("/one-shot");
        reader.checkExists().usingWatcher(watcher).forPath("/one-shot/born");
        proxy.cut();
        Suite.eventually("the cut is noticed", () -> states.contains(ConnectionState.SUSPENDED));
        writer.setData().forPath("/one-shot/data", "new".getBytes());
        writer.create().forPath("/one-shot/born");
        proxy.mend();
        Suite.eventually("three events", () -> seen.size() >= 3);
        Suite.same(
            new TreeSet<>(List.of("NodeDataChanged /one-shot/data", "NodeChildrenChanged /one-shot", "NodeCreated /one-shot/born")),
            new TreeSet<>(seen), "events");
        seen.clear();
        writer.setData().forPath("/one-shot/data", "newer".getBytes());
        writer.setData().forPath("/one-shot/untouched", "new".getBytes());
        Suite.eventually("the watch of what was untouched", () -> seen.contains("NodeDataChanged /one-shot/untouched"));
        Suite.same(List.of("NodeDataChanged /one-shot/untouched"), List.copyOf(seen), "events");
    }

    private static void persistent() throws Exception {
        CuratorFramework writer = Suite.client();
        CuratorFramework reader = Suite.client();
        writer.create().forPath("/watched");
        List<String> recursive = Collections.synchronizedList(new ArrayList<>());
        List<String> plain = Collections.synchronizedList(new ArrayList<>());
        PersistentWatcher watcher = Suite.open(new PersistentWatcher(reader, "/watched", true));
        watcher.getListenable().addListener(event -> note(event, recursive));
        watcher.start();
        CountDownLatch armed = new CountDownLatch(1);
        watcher.getResetListenable().addListener(armed::countDown);
        reader.watchers().add().withMode(AddWatchMode.PERSISTENT)
            .usingWatcher((Watcher) event -> note(event, plain)).forPath("/watched");
        // The recursive one is armed in the background; its first event shows that it is.
        Suite.eventually("the recursive watch is armed", () -> {
            writer.setData().forPath("/watched", "probe".getBytes());
            return !recursive.isEmpty();
        });
        Suite.eventually("events stop", () -> plain.size() == writer.checkExists().forPath("/watched").getVersion());
        recursive.clear();
        plain.clear();
        writer.create().forPath("/watched/child");
        writer.setData().forPath("/watched/child", "1".getBytes());
        writer.create().forPath("/watched/child/grandchild");
        writer.setData().forPath("/watched", "2".getBytes());
        writer.delete().deletingChildrenIfNeeded().forPath("/watched/child");
        Suite.eventually("six events", () -> recursive.size() >= 6);
        Suite.same(
            List.of("NodeCreated /watched/child", "NodeDataChanged /watched/child", "NodeCreated /watched/child/grandchild",
                "NodeDataChanged /watched", "NodeDeleted /watched/child/grandchild", "NodeDeleted /watched/child"),
            List.copyOf(recursive), "recursive");
        Suite.eventually("three events", () -> plain.size() >= 3);
        Suite.same(
            List.of("NodeChildrenChanged /watched", "NodeDataChanged /watched", "NodeChildrenChanged /watched"),
            List.copyOf(plain), "persistent");
        reader.watchers().removeAll().forPath("/watched");
        recursive.clear();
        writer.setData().forPath("/watched", "3".getBytes());
        writer.create().forPath("/watched/unseen");
        reader.sync().forPath("/watched");
        reader.getData().forPath("/watched");
        Suite.that(recursive.stream().allMatch(event -> event.startsWith("PersistentWatchRemoved")), "seen " + recursive);
    }

    private static void note(WatchedEvent event, List<String> events) {
        if (event.getPath() != null) {
            events.add(event.getType() + " " + event.getPath());
        }
    }

    private static void expiry() throws Exception {
        Proxy proxy = Suite.open(new Proxy());
        CuratorFramework watching = Suite.client();
        CuratorFramework client = Suite.start(Suite.builder().connectString(proxy.address()).sessionTimeoutMs(1_000));
        client.create().withMode(CreateMode.EPHEMERAL).forPath("/expiring");
        long session = Suite.session(client);
        long started = System.nanoTime();
        proxy.cut();
        Suite.eventually("deleted", () -> watching.checkExists().forPath("/expiring") == null);
        long milliseconds = (System.nanoTime() - started) / 1_000_000;
        // The last ping may have been a third of the timeout before the cut; the buckets add up to a tick.
        Suite.that(milliseconds >= 400, "deleted after " + milliseconds + " ms of 1000");
        proxy.mend();
        Suite.eventually("a new session", () -> client.getZookeeperClient().isConnected() && Suite.session(client) != session);
        Suite.that(client.checkExists().forPath("/expiring") == null, "came back");
    }
}
