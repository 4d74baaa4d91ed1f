import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.atomic.PromotedToLock;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.UriSpec;
import org.apache.zookeeper.CreateMode;

/** What crates/recipes/examples/exchange.rs does, with Curator. */
final class Exchange {
    private static final int ADDS = 30;
    private static CuratorFramework client;

    private Exchange() {
    }

    public static void main(String[] arguments) throws Exception {
        client = CuratorFrameworkFactory.newClient(arguments[0], 5000, 5000, new RetryNTimes(50, 100));
        client.start();
        meet("begin");
        that(new DistributedBarrier(client, "/gate").waitOnBarrier(30, TimeUnit.SECONDS), "the gate stays shut");

        ServiceInstance<String> instance = ServiceInstance.<String>builder().name("web").id("java")
            .address("10.0.0.2").port(8002).sslPort(8443).payload("from java")
            .uriSpec(new UriSpec("{scheme}://{address}:{port}/{name}")).build();
        ServiceDiscovery<String> discovery = ServiceDiscoveryBuilder.builder(String.class).client(client)
            .basePath("/services").thisInstance(instance).build();
        discovery.start();
        GroupMember member = new GroupMember(client, "/group", "java", bytes("J"));
        member.start();
        while (member.getCurrentMembers().size() < 2
            || client.checkExists().forPath("/group/java") == null) {
            Thread.sleep(5);
        }
        meet("registered");

        ServiceInstance<String> found = discovery.queryForInstance("web", "rust");
        that(found.getAddress().equals("10.0.0.1") && found.getPort() == 8001, found);
        that(found.getPayload().equals("from rust") && found.isEnabled(), found);
        that(found.buildUriSpec().equals("http://10.0.0.1:8001/web"), found.buildUriSpec());
        that(discovery.queryForInstances("web").size() == 2, "not two instances");
        Map<String, byte[]> members = member.getCurrentMembers();
        that(new String(members.get("rust"), StandardCharsets.UTF_8).equals("R"), members);
        meet("found");

        meet("opened");
        SharedCount count = new SharedCount(client, "/count", 1);
        count.start();
        that(count.getCount() == 7, count.getCount());
        that(count.trySetCount(count.getVersionedValue(), 8), "not written");
        DistributedAtomicLong number = new DistributedAtomicLong(client, "/long", new RetryNTimes(3, 5),
            PromotedToLock.builder().lockPath("/long-lock").retryPolicy(new RetryNTimes(100, 5)).build());
        for (int added = 0; added < ADDS;) {
            AtomicValue<Long> value = number.increment();
            added += value.succeeded() ? 1 : 0;
        }
        meet("counted");
        that(number.get().postValue() == 2 * ADDS, number.get().postValue());
        while (count.getCount() != -9) {
            Thread.sleep(5);
        }

        Taker taker = new Taker();
        Taker urgentTaker = new Taker();
        Taker lateTaker = new Taker();
        DistributedQueue<String> toRust = queue("/to-rust", null).buildQueue();
        DistributedPriorityQueue<String> urgentToRust = queue("/urgent-to-rust", null).buildPriorityQueue(0);
        DistributedDelayQueue<String> lateToRust = queue("/late-to-rust", null).buildDelayQueue();
        toRust.start();
        urgentToRust.start();
        lateToRust.start();
        String[] items = {"a", "b", "c"};
        int[] priorities = {3, -2, 0};
        for (int at = 0; at < items.length; at++) {
            toRust.put(items[at]);
            urgentToRust.put(items[at], priorities[at]);
            that(toRust.flushPuts(5, TimeUnit.SECONDS) && urgentToRust.flushPuts(5, TimeUnit.SECONDS), "not put");
        }
        lateToRust.put("b", System.currentTimeMillis() + 300);
        lateToRust.put("a", System.currentTimeMillis() + 100);
        that(lateToRust.flushPuts(5, TimeUnit.SECONDS), "not put");
        meet("put");
        DistributedQueue<String> fromRust = queue("/to-java", taker).buildQueue();
        DistributedPriorityQueue<String> urgentFromRust = queue("/urgent-to-java", urgentTaker).buildPriorityQueue(0);
        DistributedDelayQueue<String> lateFromRust = queue("/late-to-java", lateTaker).buildDelayQueue();
        fromRust.start();
        urgentFromRust.start();
        lateFromRust.start();
        taker.untilAnyOf("abc");
        urgentTaker.untilAnyOf("bca");
        // Curator does not keep the order of those that are all late.
        lateTaker.untilAnyOf("ab", "ba");
        meet("taken");

        meet("gone");
        PersistentNode node = new PersistentNode(client, CreateMode.EPHEMERAL, false, "/node", bytes("J"));
        node.start();
        that(node.waitForInitialCreate(30, TimeUnit.SECONDS), "the path stays taken");
        that(discovery.queryForInstances("web").size() == 1, "still registered");
        that(client.checkExists().forPath("/group/rust") == null, "still a member");
        client.close();
    }

    /** Waits until the other is there too. */
    private static void meet(String round) throws Exception {
        DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(client, "/meet/" + round, 2);
        that(barrier.enter(30, TimeUnit.SECONDS) && barrier.leave(30, TimeUnit.SECONDS), "alone at " + round);
    }

    private static QueueBuilder<String> queue(String path, QueueConsumer<String> consumer) {
        return QueueBuilder.builder(client, consumer, new Text(), path).lockPath(path + "-locks");
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void that(boolean holds, Object otherwise) {
        if (!holds) {
            throw new AssertionError(otherwise);
        }
    }

    private static final class Text implements QueueSerializer<String> {
        @Override
        public byte[] serialize(String item) {
            return bytes(item);
        }

        @Override
        public String deserialize(byte[] item) {
            return new String(item, StandardCharsets.UTF_8);
        }
    }

    private static final class Taker implements QueueConsumer<String> {
        private String taken = "";

        @Override
        public synchronized void consumeMessage(String item) {
            taken += item;
            notifyAll();
        }

        @Override
        public void stateChanged(CuratorFramework of, ConnectionState state) {
        }

        synchronized void untilAnyOf(String... expected) throws InterruptedException {
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
            while (taken.length() < expected[0].length() && System.nanoTime() < deadline) {
                wait(100);
            }
            that(List.of(expected).contains(taken), taken + ", not " + List.of(expected));
        }
    }
}
