import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderLatchListener;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.framework.state.SessionConnectionStateErrorPolicy;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.data.Stat;

/** What survives the server's death. */
final class Restart {
    private Restart() {
    }

    static void all() {
        Suite.run("sessions, ephemerals, a latch, a lock and a cache survive kill -9 of the server", () -> survives("kill"));
        Suite.run("sessions, ephemerals, a latch, a lock and a cache survive SIGTERM", () -> survives("stop"));
        Suite.run("a client that dies while the server is down loses its leadership after the restart", Restart::diesMeanwhile);
    }

    /**
     * A client whose latch gives up only with its session. Java leaves a connection unanswered that comes at the wrong
     * moment of its start; a server named four times is given up after a quarter of the session's timeout.
     */
    private static CuratorFrameworkFactory.Builder patient() {
        return Suite.builder()
            .connectString(String.join(",", Collections.nCopies(4, Suite.server())))
            .connectionStateErrorPolicy(new SessionConnectionStateErrorPolicy());
    }

    private static void survives(String how) throws Exception {
        String root = "/restart-" + how;
        List<CuratorFramework> clients = new ArrayList<>();
        List<ConnectionState> states = Collections.synchronizedList(new ArrayList<>());
        for (int i = 0; i < 3; i++) {
            CuratorFramework client = Suite.start(patient());
            client.getConnectionStateListenable().addListener((self, state) -> states.add(state));
            clients.add(client);
        }
        CuratorFramework holder = clients.get(0);
        CuratorFramework other = clients.get(1);
        List<Long> sessions = new ArrayList<>();
        for (CuratorFramework client : clients) {
            sessions.add(Suite.session(client));
        }
        holder.create().creatingParentsIfNeeded().withMode(CreateMode.EPHEMERAL).forPath(root + "/ephemeral", "mine".getBytes());
        Stat before = holder.checkExists().forPath(root + "/ephemeral");
        LeaderLatch leader = Leaders.latch(holder, root + "/latch", "leader");
        Suite.that(leader.await(20, TimeUnit.SECONDS), "no leader");
        LeaderLatch waiting = Leaders.latch(other, root + "/latch", "waiting");
        Suite.eventually("two take part", () -> waiting.getParticipants().size() == 2);
        List<String> changes = Collections.synchronizedList(new ArrayList<>());
        listen(leader, "leader", changes);
        listen(waiting, "waiting", changes);
        InterProcessMutex lock = new InterProcessMutex(holder, root + "/lock");
        lock.acquire();
        PersistentNode node = Suite.open(
            new PersistentNode(holder, CreateMode.EPHEMERAL, false, root + "/persistent", new byte[0]));
        node.start();
        Suite.that(node.waitForInitialCreate(20, TimeUnit.SECONDS), "not created");
        List<String> events = Collections.synchronizedList(new ArrayList<>());
        CuratorCache cache = Suite.open(CuratorCache.build(clients.get(2), root));
        cache.listenable().addListener(CuratorCacheListener.builder().afterInitialized()
            .forCreates(created -> events.add("created " + created.getPath()))
            .forChanges((old, changed) -> events.add("changed " + changed.getPath()))
            .forDeletes(deleted -> events.add("deleted " + deleted.getPath()))
            .build());
        cache.start();
        Suite.eventually("the cache is filled", () -> cache.get(root + "/persistent").isPresent());

        Suite.ask(how);
        Suite.eventually("all are suspended", () -> Collections.frequency(states, ConnectionState.SUSPENDED) == 3);
        Suite.ask("start");
        Suite.eventually("all are back", () -> Collections.frequency(states, ConnectionState.RECONNECTED) == 3);

        for (int i = 0; i < 3; i++) {
            Suite.same(sessions.get(i), Suite.session(clients.get(i)), "session of client " + i);
        }
        Suite.same(before, other.checkExists().forPath(root + "/ephemeral"), "Stat of the ephemeral");
        Suite.that(leader.hasLeadership() && !waiting.hasLeadership(), "leadership");
        Suite.same("leader", waiting.getLeader().getId(), "leader by the tree");
        Suite.same(List.of(), List.copyOf(changes), "changes of leadership");
        InterProcessMutex wanted = new InterProcessMutex(other, root + "/lock");
        Suite.that(!wanted.acquire(300, TimeUnit.MILLISECONDS), "the held lock was taken");
        lock.release();
        Suite.that(wanted.acquire(20, TimeUnit.SECONDS), "the released lock was not given");
        Suite.that(!states.contains(ConnectionState.LOST), "a session was lost");

        // Step by step: the cache reads after each event, and tells nothing of what is gone by then.
        other.create().forPath(root + "/after", "1".getBytes());
        Suite.eventually("the cache sees a create again", () -> events.contains("created " + root + "/after"));
        other.setData().forPath(root + "/after", "2".getBytes());
        Suite.eventually("the cache sees a change again", () -> events.contains("changed " + root + "/after"));
        other.delete().forPath(root + "/after");
        Suite.eventually("the cache sees a delete again", () -> events.contains("deleted " + root + "/after"));
        leader.close();
        Suite.that(waiting.await(20, TimeUnit.SECONDS), "the latch was not handed over");
        holder.close();
        Suite.eventually("ephemerals end with their session", () -> other.checkExists().forPath(root + "/ephemeral") == null
            && other.checkExists().forPath(root + "/persistent") == null);
    }

    private static void listen(LeaderLatch latch, String name, List<String> changes) {
        latch.addListener(new LeaderLatchListener() {
            @Override
            public void isLeader() {
                changes.add(name + " leads");
            }

            @Override
            public void notLeader() {
                changes.add(name + " lost");
            }
        });
    }

    private static void diesMeanwhile() throws Exception {
        Process process = Leaders.killedLeader("/restart-dies");
        CuratorFramework client = Suite.client();
        LeaderLatch next = Leaders.latch(client, "/restart-dies", "next");
        Suite.eventually("two take part", () -> next.getParticipants().size() == 2);
        Suite.ask("kill");
        process.destroyForcibly().waitFor();
        Suite.ask("start");
        long started = System.nanoTime();
        Suite.that(next.await(20, TimeUnit.SECONDS), "not handed over");
        long milliseconds = (System.nanoTime() - started) / 1_000_000;
        Suite.that(milliseconds <= 3 * Leaders.KILLED_SESSION_MS, "handed over only after " + milliseconds + " ms");
        Suite.eventually("one is left", () -> next.getParticipants().size() == 1);
    }
}
