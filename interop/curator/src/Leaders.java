import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.retry.RetryForever;

/** Elections. As a program of its own: a client that takes part in an election until it is killed. */
public final class Leaders {
    static final int KILLED_SESSION_MS = 2_000;

    private Leaders() {
    }

    /** Joins the latch at a path, says when it leads, and stays until it is killed. */
    public static void main(String[] args) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder()
            .connectString(args[0])
            .sessionTimeoutMs(KILLED_SESSION_MS)
            .retryPolicy(new RetryForever(50))
            .build();
        client.start();
        try (LeaderLatch latch = new LeaderLatch(client, args[1], "killed")) {
            latch.start();
            latch.await();
            System.out.println("leading");
            Thread.currentThread().join();
        }
    }

    static void all() {
        Suite.run("LeaderLatch has one leader of five, and each succeeds another", Leaders::latch);
        Suite.run("LeaderLatch hands over when the leader's client is killed", Leaders::killed);
        Suite.run("LeaderSelector lets three clients lead in turn, one at a time", Leaders::selector);
    }

    static LeaderLatch latch(CuratorFramework client, String path, String id) throws Exception {
        LeaderLatch latch = Suite.open(new LeaderLatch(client, path, id));
        latch.start();
        return latch;
    }

    /** Starts the program above and waits until it leads. */
    static Process killedLeader(String path) throws Exception {
        Process process = Suite.process("Leaders", path);
        BufferedReader output = new BufferedReader(new InputStreamReader(process.getInputStream()));
        Suite.same("leading", String.valueOf(output.readLine()), "the other process");
        return process;
    }

    private static void latch() throws Exception {
        List<LeaderLatch> latches = new ArrayList<>();
        for (CuratorFramework client : Suite.clients(5)) {
            latches.add(latch(client, "/latch", "latch-" + latches.size()));
        }
        while (!latches.isEmpty()) {
            Suite.eventually("one leads of " + latches.size(), () -> leaders(latches) == 1);
            LeaderLatch leader = latches.stream().filter(LeaderLatch::hasLeadership).findFirst().orElseThrow();
            Suite.same(leader.getId(), leader.getLeader().getId(), "the leader by the tree");
            Suite.same(latches.size(), leader.getParticipants().size(), "participants");
            Suite.same(1L, leaders(latches), "leaders");
            latches.remove(leader);
            leader.close();
        }
    }

    static long leaders(List<LeaderLatch> latches) {
        return latches.stream().filter(LeaderLatch::hasLeadership).count();
    }

    private static void killed() throws Exception {
        Process process = killedLeader("/latch-killed");
        LeaderLatch next = latch(Suite.client(), "/latch-killed", "next");
        Suite.eventually("two take part", () -> next.getParticipants().size() == 2);
        Suite.that(!next.hasLeadership(), "two leaders");
        Suite.same("killed", next.getLeader().getId(), "the leader");
        long started = System.nanoTime();
        process.destroyForcibly().waitFor();
        Suite.that(next.await(20, TimeUnit.SECONDS), "not handed over");
        long milliseconds = (System.nanoTime() - started) / 1_000_000;
        // Its last ping may be up to a third of the timeout old when it dies.
        Suite.that(milliseconds >= KILLED_SESSION_MS / 2, "handed over after " + milliseconds + " ms: not by expiry");
        Suite.same(1, next.getParticipants().size(), "participants");
    }

    private static void selector() throws Exception {
        AtomicInteger leading = new AtomicInteger();
        Map<String, Integer> turns = new ConcurrentHashMap<>();
        List<String> errors = new ArrayList<>();
        for (CuratorFramework client : Suite.clients(3)) {
            String id = "selector-" + Suite.session(client);
            LeaderSelector selector = Suite.open(new LeaderSelector(client, "/selector", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework leader) throws Exception {
                    if (leading.incrementAndGet() != 1) {
                        errors.add("two lead");
                    }
                    leader.getData().forPath("/selector");
                    turns.merge(id, 1, Integer::sum);
                    leading.decrementAndGet();
                }
            }));
            selector.setId(id);
            selector.autoRequeue();
            selector.start();
        }
        Suite.eventually("three turns of each", () -> turns.size() == 3 && turns.values().stream().allMatch(n -> n >= 3));
        Suite.same(List.of(), errors, "errors");
    }
}
