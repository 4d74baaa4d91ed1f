// LongSession HOSTS TIMEOUT_MS ROOT: one session of ZooKeeper's own client, without Curator, that must live as long as
// this process: it holds an ephemeral, creates ROOT/java/0000000000, ROOT/java/0000000001, … one after the other, and
// watches ROOT/java-watched, which is created only at the end. Says `connected`; on a line on its standard input it
// waits for the watch's event and says `finished CREATES RECONNECTS`; ends with 1 if the session did.

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

public class LongSession {
    static final AtomicInteger connections = new AtomicInteger();
    static final AtomicInteger events = new AtomicInteger();
    static final CountDownLatch connected = new CountDownLatch(1), watched = new CountDownLatch(1);
    static volatile boolean finishing;

    static void observe(WatchedEvent event) {
        if (event.getState() == KeeperState.Expired) {
            System.out.println("expired");
            System.exit(1);
        }
        if (event.getType() == EventType.None && event.getState() == KeeperState.SyncConnected) {
            connections.incrementAndGet();
            connected.countDown();
        }
    }

    static void observeZnode(WatchedEvent event) {
        if (event.getType() == EventType.None) {
            return;
        }
        if (event.getType() != EventType.NodeCreated || events.incrementAndGet() != 1) {
            System.out.println("surprised by " + event);
            System.exit(1);
        }
        watched.countDown();
    }

    interface Call<T> {
        T call() throws KeeperException, InterruptedException;
    }

    static <T> T insist(Call<T> call) throws KeeperException, InterruptedException {
        while (true) {
            try {
                return call.call();
            } catch (KeeperException.ConnectionLossException | KeeperException.RequestTimeoutException lost) {
                Thread.sleep(20);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        String root = arguments[2];
        ZooKeeper zooKeeper = new ZooKeeper(arguments[0], Integer.parseInt(arguments[1]), LongSession::observe);
        if (!connected.await(30, TimeUnit.SECONDS)) {
            System.out.println("not connected");
            System.exit(1);
        }
        insist(() -> zooKeeper.create(root + "/java", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        zooKeeper.create(root + "/java-ephemeral", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        zooKeeper.exists(root + "/java-watched", LongSession::observeZnode);
        System.out.println("connected");
        Thread commands = new Thread(() -> {
            try {
                System.in.read();
            } catch (java.io.IOException end) {
                // The suite is gone: finish too.
            }
            finishing = true;
        });
        commands.setDaemon(true);
        commands.start();
        int created = 0;
        while (!finishing) {
            String path = String.format("%s/java/%010d", root, created);
            try {
                insist(() -> zooKeeper.create(path, null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
            } catch (KeeperException.NodeExistsException done) {
                // Before the connection was lost.
            }
            created++;
            Thread.sleep(20);
        }
        if (!watched.await(30, TimeUnit.SECONDS)) {
            System.out.println("the watch saw nothing");
            System.exit(1);
        }
        Stat ephemeral = insist(() -> zooKeeper.exists(root + "/java-ephemeral", false));
        if (ephemeral == null || ephemeral.getEphemeralOwner() != zooKeeper.getSessionId()) {
            System.out.println("the ephemeral is gone");
            System.exit(1);
        }
        System.out.println("finished " + created + " " + (connections.get() - 1));
        zooKeeper.close();
    }
}
