import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;

/** Makes at least one txn of every type that a standalone server logs: Workload HOST:PORT ROUND */
public class Workload {
    public static void main(String[] args) throws Exception {
        String root = "/round" + args[1];
        ZooKeeper other = connect(args[0]);
        ZooKeeper zk = connect(args[0]);
        zk.addAuthInfo("digest", "user:secret".getBytes());
        zk.create(root, "root".getBytes(), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create(root + "/null", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create(root + "/empty", new byte[0], ZooDefs.Ids.READ_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create(root + "/ünïcode-雪", "é".getBytes("UTF-8"), ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        zk.create(root + "/stat", "2".getBytes(), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, new org.apache.zookeeper.data.Stat());
        zk.create(root + "/ttl", "t".getBytes(), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, null, 3_600_000);
        zk.create(root + "/container", new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
        zk.create(root + "/container/child", new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        for (int i = 0; i < 5; i++) {
            zk.create(root + "/seq-", ("s" + i).getBytes(), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL);
        }
        zk.create(root + "/ephemeral", new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        other.create(root + "/other", new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        other.create(root + "/other-", new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL);
        zk.setData(root + "/stat", new byte[5000], 0);
        zk.setData(root + "/null", "not null".getBytes(), -1);
        List<ACL> acl = new ArrayList<>();
        acl.add(new ACL(ZooDefs.Perms.READ | ZooDefs.Perms.ADMIN, new Id("ip", "127.0.0.1")));
        acl.add(new ACL(ZooDefs.Perms.ALL, new Id("world", "anyone")));
        zk.setACL(root + "/stat", acl, -1);
        fails(() -> zk.delete(root + "/nothing", -1));
        fails(() -> zk.setData(root + "/stat", new byte[0], 77));
        zk.multi(List.of(
            Op.check(root, -1),
            Op.create(root + "/multi", "m".getBytes(), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
            Op.setData(root + "/multi", "n".getBytes(), 0),
            Op.create(root + "/multi/a", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
            Op.delete(root + "/multi/a", 0)));
        fails(() -> zk.multi(List.of(
            Op.create(root + "/never", new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
            Op.delete(root + "/nothing", -1),
            Op.setData(root, new byte[0], -1))));
        zk.delete(root + "/empty", 0);
        other.close();
        zk.setData(root, "done".getBytes(), -1);
        // The process ends without closing its session: the ephemeral stays.
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    interface Request {
        void run() throws Exception;
    }

    static void fails(Request request) throws Exception {
        try {
            request.run();
        } catch (KeeperException expected) {
            return;
        }
        throw new IllegalStateException("this should have failed");
    }

    static ZooKeeper connect(String address) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper zk = new ZooKeeper(address, 30_000, event -> {
            if (event.getState() == Watcher.Event.KeeperState.SyncConnected) {
                connected.countDown();
            }
        });
        connected.await();
        return zk;
    }
}
