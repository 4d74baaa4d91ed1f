import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.api.transaction.OperationType;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

/** Znodes by Curator's own means: kept nodes, transactions, modes, ACLs. */
final class Nodes {
    private Nodes() {
    }

    static void all() {
        Suite.run("PersistentNode comes back when deleted and when its session expires", Nodes::persistentNode);
        Suite.run("PersistentTtlNode lives while it is touched", Nodes::persistentTtlNode);
        Suite.run("GroupMember sees who is there", Nodes::groupMember);
        Suite.run("a transaction happens as a whole, and its parts see each other", Nodes::transaction);
        Suite.run("a failing transaction leaves nothing", Nodes::failedTransaction);
        Suite.run("containers made for parents are removed when empty, TTL znodes when old", Nodes::containers);
        Suite.run("ACLs of an authorized client keep others out", Nodes::acls);
        Suite.run("protected, guaranteed, idempotent and background operations", Nodes::operations);
    }

    private static void persistentNode() throws Exception {
        Proxy proxy = Suite.open(new Proxy());
        CuratorFramework client = Suite.start(Suite.builder().connectString(proxy.address()).sessionTimeoutMs(1_000));
        CuratorFramework other = Suite.client();
        PersistentNode node =
            Suite.open(new PersistentNode(client, CreateMode.EPHEMERAL, false, "/persistent/node", "data".getBytes()));
        node.start();
        Suite.that(node.waitForInitialCreate(20, TimeUnit.SECONDS), "not created");
        Stat first = other.checkExists().forPath("/persistent/node");
        Suite.same(Suite.session(client), first.getEphemeralOwner(), "owner");
        other.delete().forPath("/persistent/node");
        Suite.eventually("created again after a deletion", () -> {
            Stat stat = other.checkExists().forPath("/persistent/node");
            return stat != null && stat.getCzxid() > first.getCzxid();
        });
        long expired = Suite.session(client);
        proxy.cut();
        Suite.eventually("deleted by expiry", () -> other.checkExists().forPath("/persistent/node") == null);
        proxy.mend();
        Suite.eventually("created again by another session", () -> {
            Stat stat = other.checkExists().forPath("/persistent/node");
            return stat != null && stat.getEphemeralOwner() != expired;
        });
        Suite.same("data", new String(other.getData().forPath("/persistent/node")), "data");
        node.close();
        Suite.that(other.checkExists().forPath("/persistent/node") == null, "still there");
    }

    private static void persistentTtlNode() throws Exception {
        CuratorFramework client = Suite.client();
        CuratorFramework other = Suite.client();
        client.create().creatingParentsIfNeeded().forPath("/ttl-parent");
        PersistentTtlNode node = new PersistentTtlNode(client, "/ttl-parent/node", 1_000, "data".getBytes());
        node.start();
        Suite.that(node.waitForInitialCreate(20, TimeUnit.SECONDS), "not created");
        long made = other.checkExists().forPath("/ttl-parent/node").getCzxid();
        long until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(2_500);
        Suite.eventually("lived for more than two TTLs", () -> {
            Suite.same(made, other.checkExists().forPath("/ttl-parent/node").getCzxid(), "czxid");
            return System.nanoTime() > until;
        });
        node.close();
        Suite.eventually("removed after its TTL", () -> other.checkExists().forPath("/ttl-parent/node") == null);
    }

    private static void groupMember() throws Exception {
        List<CuratorFramework> clients = Suite.clients(3);
        GroupMember watching = Suite.open(new GroupMember(clients.get(0), "/group", "a"));
        GroupMember second = Suite.open(new GroupMember(clients.get(1), "/group", "b", "payload".getBytes()));
        GroupMember third = new GroupMember(clients.get(2), "/group", "c");
        watching.start();
        second.start();
        third.start();
        Suite.eventually("three members", () -> watching.getCurrentMembers().size() == 3);
        Suite.same("payload", new String(watching.getCurrentMembers().get("b")), "payload of b");
        clients.get(2).close();
        Suite.eventually("two members", () -> watching.getCurrentMembers().size() == 2);
    }

    private static void transaction() throws Exception {
        CuratorFramework client = Suite.client();
        client.create().forPath("/transaction", "old".getBytes());
        List<CuratorTransactionResult> results = client.transaction().forOperations(
            client.transactionOp().check().withVersion(0).forPath("/transaction"),
            client.transactionOp().create().forPath("/transaction/parent"),
            client.transactionOp().create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath("/transaction/parent/n-"),
            client.transactionOp().create().withMode(CreateMode.EPHEMERAL).forPath("/transaction/parent/ephemeral"),
            client.transactionOp().setData().withVersion(0).forPath("/transaction", "new".getBytes()),
            client.transactionOp().setData().withVersion(1).forPath("/transaction", "newer".getBytes()),
            client.transactionOp().delete().forPath("/transaction/parent/ephemeral"));
        Suite.same(
            List.of(OperationType.CHECK, OperationType.CREATE, OperationType.CREATE, OperationType.CREATE,
                OperationType.SET_DATA, OperationType.SET_DATA, OperationType.DELETE),
            results.stream().map(CuratorTransactionResult::getType).collect(Collectors.toList()), "results");
        Suite.same("/transaction/parent/n-0000000000", results.get(2).getResultPath(), "sequential path");
        Suite.same(1, results.get(4).getResultStat().getVersion(), "version after the first setData");
        Stat stat = new Stat();
        Suite.same("newer", new String(client.getData().storingStatIn(stat).forPath("/transaction")), "data");
        Suite.same(2, stat.getVersion(), "version");
        Stat parent = client.checkExists().forPath("/transaction/parent");
        Suite.same(stat.getMzxid(), parent.getCzxid(), "the zxid of both");
        Suite.same(3, parent.getCversion(), "child changes of the parent");
    }

    private static void failedTransaction() throws Exception {
        CuratorFramework client = Suite.client();
        client.create().forPath("/failing", "old".getBytes());
        try {
            client.transaction().forOperations(
                client.transactionOp().setData().forPath("/failing", "new".getBytes()),
                client.transactionOp().create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath("/failing/n-"),
                client.transactionOp().check().withVersion(7).forPath("/failing"),
                client.transactionOp().delete().forPath("/failing/none"));
            throw new AssertionError("succeeded");
        } catch (KeeperException.BadVersionException expected) {
            Suite.same(
                List.of(KeeperException.Code.OK.intValue(), KeeperException.Code.OK.intValue(),
                    KeeperException.Code.BADVERSION.intValue(), KeeperException.Code.RUNTIMEINCONSISTENCY.intValue()),
                expected.getResults().stream()
                    .map(result -> ((OpResult.ErrorResult) result).getErr())
                    .collect(Collectors.toList()),
                "errors of the parts");
        }
        Stat stat = client.checkExists().forPath("/failing");
        Suite.same(List.of(0, 0, 0), List.of(stat.getVersion(), stat.getCversion(), stat.getNumChildren()), "Stat");
        Suite.same("/failing/n-0000000000",
            client.create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath("/failing/n-"), "the number given back");
    }

    private static void containers() throws Exception {
        CuratorFramework client = Suite.client();
        client.create().creatingParentContainersIfNeeded().forPath("/containers/inner/leaf");
        client.create().withTtl(300).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/old-soon");
        String name = client.create().withTtl(1_000_000).withMode(CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL)
            .forPath("/old-late-");
        client.delete().forPath("/containers/inner/leaf");
        Suite.eventually("both containers are removed", () -> client.checkExists().forPath("/containers") == null);
        Suite.eventually("the TTL znode is removed", () -> client.checkExists().forPath("/old-soon") == null);
        Suite.that(client.checkExists().forPath(name) != null, "the other TTL znode was removed");
    }

    private static void acls() throws Exception {
        CuratorFramework owner = Suite.start(Suite.builder().authorization("digest", "owner:secret".getBytes()));
        CuratorFramework stranger = Suite.client();
        owner.create().withACL(ZooDefs.Ids.CREATOR_ALL_ACL).forPath("/acl", "secret".getBytes());
        ACL made = owner.getACL().forPath("/acl").get(0);
        Suite.same("digest", made.getId().getScheme(), "scheme");
        Suite.that(made.getId().getId().startsWith("owner:"), "id " + made.getId());
        for (Suite.Case refused : List.<Suite.Case>of(
                () -> stranger.getData().forPath("/acl"),
                () -> stranger.setData().forPath("/acl", new byte[0]),
                () -> stranger.create().forPath("/acl/child"),
                () -> stranger.setACL().withACL(ZooDefs.Ids.OPEN_ACL_UNSAFE).forPath("/acl"))) {
            try {
                refused.run();
                throw new AssertionError("not refused");
            } catch (KeeperException.NoAuthException expected) {
                Suite.same("/acl", expected.getPath().replace("/child", ""), "path");
            }
        }
        ACL reading = new ACL(ZooDefs.Perms.READ, new Id("ip", "127.0.0.1"));
        Suite.same(1, owner.setACL().withVersion(0).withACL(List.of(made, reading)).forPath("/acl").getAversion(), "aversion");
        Suite.same("secret", new String(stranger.getData().forPath("/acl")), "data by ip");
        Suite.same(List.of(made, reading), owner.getACL().forPath("/acl"), "ACL");
        owner.delete().forPath("/acl");
    }

    private static void operations() throws Exception {
        CuratorFramework client = Suite.client();
        String path = client.create().creatingParentsIfNeeded().withProtection()
            .withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/operations/protected-");
        Suite.that(path.matches("/operations/_c_[-0-9a-f]{36}-protected-0000000000"), path);
        client.create().orSetData().forPath("/operations/either", "first".getBytes());
        client.create().orSetData().forPath("/operations/either", "second".getBytes());
        Stat stat = new Stat();
        Suite.same("second", new String(client.getData().storingStatIn(stat).forPath("/operations/either")), "data");
        Suite.same(1, stat.getVersion(), "version");
        client.create().idempotent().forPath("/operations/idempotent", "same".getBytes());
        client.create().idempotent().forPath("/operations/idempotent", "same".getBytes());
        client.setData().compressed().forPath("/operations/either", new byte[5_000]);
        Suite.same(5_000, client.getData().decompressed().forPath("/operations/either").length, "decompressed length");
        CountDownLatch synced = new CountDownLatch(2);
        client.sync().inBackground((self, event) -> synced.countDown()).forPath("/operations");
        client.getChildren().inBackground((self, event) -> {
            if (event.getChildren().size() == 3) {
                synced.countDown();
            }
        }).forPath("/operations");
        Suite.that(synced.await(20, TimeUnit.SECONDS), "background calls not answered");
        client.delete().guaranteed().deletingChildrenIfNeeded().forPath("/operations");
        client.delete().quietly().forPath("/operations");
        Suite.that(client.checkExists().forPath("/operations") == null, "still there");
    }
}
