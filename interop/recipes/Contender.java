import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.locks.Revoker;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;

/** What crates/recipes/examples/contender.rs does, with Curator. */
final class Contender {
    private static final int LEASES = 2;
    private static CuratorFramework client;
    private static String name;

    private Contender() {
    }

    public static void main(String[] arguments) throws Exception {
        client = CuratorFrameworkFactory.newClient(arguments[0], 2000, 2000, new RetryNTimes(50, 100));
        client.start();
        name = arguments[1];
        if (arguments[2].equals("hold")) {
            InterProcessMutex mutex = new InterProcessMutex(client, arguments[3]);
            CountDownLatch asked = new CountDownLatch(1);
            mutex.makeRevocable(held -> asked.countDown());
            mutex.acquire();
            System.out.println("held");
            asked.await();
            System.out.println("asked");
            mutex.release();
        }
        if (arguments[2].equals("revoke")) {
            InterProcessMutex mutex = new InterProcessMutex(client, arguments[3]);
            Revoker.attemptRevoke(client, mutex.getParticipantNodes().iterator().next());
        }
        for (int at = 4; arguments[2].equals("play") && at < arguments.length; at++) {
            String[] kind = arguments[at].split("=");
            String peers = "/peers" + kind[1];
            client.create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath(peers + "/p-");
            while (client.getChildren().forPath(peers).size() < Integer.parseInt(kind[2])) {
                Thread.sleep(5);
            }
            for (int round = 0; round < Integer.parseInt(arguments[3]); round++) {
                play(kind[0], kind[1], round);
            }
        }
        client.close();
    }

    private static void play(String kind, String path, int round) throws Exception {
        Callable<Void> alone = () -> alone(path);
        switch (kind) {
            case "mutex" -> locked(new InterProcessMutex(client, path), alone);
            case "semaphore-mutex" -> locked(new InterProcessSemaphoreMutex(client, path), alone);
            case "semaphore" -> {
                InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, path, LEASES);
                Lease lease = semaphore.acquire(30, TimeUnit.SECONDS);
                that(lease != null, "no lease in 30 s");
                inside(path, "s");
                semaphore.returnLease(lease);
            }
            case "read-write" -> {
                InterProcessReadWriteLock lock = new InterProcessReadWriteLock(client, path);
                if (round % 3 == 0) {
                    locked(lock.writeLock(), alone);
                } else {
                    locked(lock.readLock(), () -> inside(path, "r"));
                }
            }
            case "latch" -> {
                try (LeaderLatch latch = new LeaderLatch(client, path, name)) {
                    latch.start();
                    that(latch.await(30, TimeUnit.SECONDS), "did not lead in 30 s");
                    alone(path);
                }
            }
            case "selector" -> {
                CountDownLatch led = new CountDownLatch(1);
                LeaderSelectorListenerAdapter listener = new LeaderSelectorListenerAdapter() {
                    @Override
                    public void takeLeadership(CuratorFramework framework) throws Exception {
                        alone(path);
                        led.countDown();
                    }
                };
                try (LeaderSelector selector = new LeaderSelector(client, path, listener)) {
                    selector.start();
                    that(led.await(30, TimeUnit.SECONDS), "did not lead in 30 s");
                }
            }
            default -> throw new IllegalArgumentException(kind);
        }
    }

    private static void locked(InterProcessLock lock, Callable<Void> then) throws Exception {
        that(lock.acquire(30, TimeUnit.SECONDS), "no turn in 30 s");
        then.call();
        lock.release();
    }

    private static Void alone(String path) throws Exception {
        String letters = new String(client.getData().forPath("/log" + path), StandardCharsets.UTF_8);
        inside(path, "w");
        client.setData().forPath("/log" + path, (letters + name).getBytes(StandardCharsets.UTF_8));
        return null;
    }

    private static Void inside(String path, String tag) throws Exception {
        String dir = "/inside" + path;
        String own = client.create().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath(dir + "/" + tag + "-");
        for (int look = 0; look < 2; look++) {
            List<String> all = client.getChildren().forPath(dir);
            boolean writers = all.stream().anyMatch(child -> child.startsWith("w"));
            long leases = all.stream().filter(child -> child.startsWith("s")).count();
            that(leases <= LEASES && !(writers && all.size() > 1), path + ": inside at once: " + all);
            Thread.sleep(3);
        }
        client.delete().forPath(own);
        return null;
    }

    private static void that(boolean holds, String otherwise) {
        if (!holds) {
            System.err.println(name + ": " + otherwise);
            // Other threads may be anywhere.
            Runtime.getRuntime().halt(1);
        }
    }
}
