import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.state.ConnectionState;

/** Queues and barriers. */
final class Queues {
    private static final QueueSerializer<String> TEXT = new QueueSerializer<>() {
        @Override
        public byte[] serialize(String item) {
            return item.getBytes(StandardCharsets.UTF_8);
        }

        @Override
        public String deserialize(byte[] bytes) {
            return new String(bytes, StandardCharsets.UTF_8);
        }
    };

    private Queues() {
    }

    static void all() {
        Suite.run("DistributedQueue keeps the order of 200 items", Queues::order);
        Suite.run("DistributedQueue gives each of 200 items to one of three consumers, with locks", Queues::once);
        Suite.run("DistributedPriorityQueue gives the lowest number first", Queues::priority);
        Suite.run("DistributedDelayQueue gives by time, not before it", Queues::delay);
        Suite.run("DistributedBarrier holds three clients until it is removed", Queues::barrier);
        Suite.run("DistributedDoubleBarrier lets four clients in and out together", Queues::doubleBarrier);
    }

    private static QueueConsumer<String> consumer(List<String> into) {
        return new QueueConsumer<>() {
            @Override
            public void consumeMessage(String item) {
                into.add(item);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {
            }
        };
    }

    private static List<String> items(int count) {
        return IntStream.range(0, count).mapToObj(n -> "item-" + n).collect(Collectors.toList());
    }

    private static void order() throws Exception {
        List<String> consumed = Collections.synchronizedList(new ArrayList<>());
        DistributedQueue<String> producer =
            Suite.open(QueueBuilder.builder(Suite.client(), null, TEXT, "/queue").buildQueue());
        producer.start();
        for (String item : items(100)) {
            producer.put(item);
        }
        Suite.that(producer.flushPuts(10, TimeUnit.SECONDS), "puts not done");
        DistributedQueue<String> taker =
            Suite.open(QueueBuilder.builder(Suite.client(), consumer(consumed), TEXT, "/queue").buildQueue());
        taker.start();
        for (String item : items(200).subList(100, 200)) {
            producer.put(item);
        }
        Suite.eventually("all consumed", () -> consumed.size() >= 200);
        Suite.same(items(200), List.copyOf(consumed), "consumed");
    }

    private static void once() throws Exception {
        List<String> consumed = Collections.synchronizedList(new ArrayList<>());
        for (CuratorFramework client : Suite.clients(3)) {
            Suite.open(QueueBuilder.builder(client, consumer(consumed), TEXT, "/queue-locked").lockPath("/queue-locks")
                .buildQueue()).start();
        }
        CuratorFramework producing = Suite.client();
        DistributedQueue<String> producer =
            Suite.open(QueueBuilder.builder(producing, null, TEXT, "/queue-locked").buildQueue());
        producer.start();
        for (String item : items(200)) {
            producer.put(item);
        }
        Suite.eventually("all consumed", () -> consumed.size() >= 200);
        Suite.eventually("nothing left", () -> producing.getChildren().forPath("/queue-locked").isEmpty());
        Suite.same(items(200).stream().sorted().collect(Collectors.toList()),
            consumed.stream().sorted().collect(Collectors.toList()), "consumed");
    }

    private static void priority() throws Exception {
        List<String> consumed = Collections.synchronizedList(new ArrayList<>());
        DistributedPriorityQueue<String> producer =
            Suite.open(QueueBuilder.builder(Suite.client(), null, TEXT, "/queue-priority").buildPriorityQueue(0));
        producer.start();
        for (int priority : new int[] {5, -3, 9, 0, 7, 0, -8}) {
            producer.put("p" + priority, priority);
        }
        Suite.that(producer.flushPuts(10, TimeUnit.SECONDS), "puts not done");
        Suite.open(QueueBuilder.builder(Suite.client(), consumer(consumed), TEXT, "/queue-priority").buildPriorityQueue(0))
            .start();
        Suite.eventually("all consumed", () -> consumed.size() >= 7);
        Suite.same(List.of("p-8", "p-3", "p0", "p0", "p5", "p7", "p9"), List.copyOf(consumed), "consumed");
    }

    private static void delay() throws Exception {
        List<String> consumed = Collections.synchronizedList(new ArrayList<>());
        DistributedDelayQueue<String> queue =
            Suite.open(QueueBuilder.builder(Suite.client(), consumer(consumed), TEXT, "/queue-delay").buildDelayQueue());
        queue.start();
        long now = System.currentTimeMillis();
        queue.put("later", now + 800);
        queue.put("sooner", now + 400);
        queue.put("at once", now);
        Suite.eventually("two consumed", () -> consumed.size() >= 2);
        Suite.that(System.currentTimeMillis() >= now + 400, "too early");
        Suite.eventually("all consumed", () -> consumed.size() >= 3);
        Suite.that(System.currentTimeMillis() >= now + 800, "too early");
        Suite.same(List.of("at once", "sooner", "later"), List.copyOf(consumed), "consumed");
    }

    private static void barrier() throws Exception {
        DistributedBarrier control = new DistributedBarrier(Suite.client(), "/barrier");
        control.setBarrier();
        AtomicInteger passed = new AtomicInteger();
        CountDownLatch tried = new CountDownLatch(3);
        List<Callable<Void>> tasks = new ArrayList<>();
        for (CuratorFramework client : Suite.clients(3)) {
            tasks.add(() -> {
                DistributedBarrier barrier = new DistributedBarrier(client, "/barrier");
                Suite.that(!barrier.waitOnBarrier(100, TimeUnit.MILLISECONDS), "passed a set barrier");
                tried.countDown();
                Suite.that(barrier.waitOnBarrier(20, TimeUnit.SECONDS), "never passed");
                passed.incrementAndGet();
                return null;
            });
        }
        tasks.add(() -> {
            Suite.that(tried.await(20, TimeUnit.SECONDS), "not all have tried");
            Suite.same(0, passed.get(), "passed before the barrier fell");
            control.removeBarrier();
            return null;
        });
        Suite.together(tasks);
        Suite.same(3, passed.get(), "passed");
    }

    private static void doubleBarrier() throws Exception {
        int members = 4;
        AtomicInteger before = new AtomicInteger();
        AtomicInteger inside = new AtomicInteger();
        List<Callable<Void>> tasks = new ArrayList<>();
        for (CuratorFramework client : Suite.clients(members)) {
            tasks.add(() -> {
                DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(client, "/double-barrier", members);
                before.incrementAndGet();
                Suite.that(barrier.enter(20, TimeUnit.SECONDS), "never entered");
                Suite.same(members, before.get(), "at the barrier when the first entered");
                inside.incrementAndGet();
                Suite.that(barrier.leave(20, TimeUnit.SECONDS), "never left");
                Suite.same(members, inside.get(), "inside when the first left");
                return null;
            });
        }
        Suite.together(tasks);
    }
}
