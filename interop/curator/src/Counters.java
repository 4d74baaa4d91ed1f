import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedCountListener;
import org.apache.curator.framework.recipes.shared.SharedCountReader;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;

/** Counters that many change at once. */
final class Counters {
    private static final int CLIENTS = 4;
    private static final int ROUNDS = 25;

    private Counters() {
    }

    static void all() {
        Suite.run("SharedCount loses no increment of four clients, and its listeners see the last", Counters::shared);
        Suite.run("DistributedAtomicLong loses no increment of four clients", Counters::atomic);
    }

    private static void shared() throws Exception {
        List<Callable<Void>> tasks = new ArrayList<>();
        AtomicInteger seen = new AtomicInteger();
        SharedCount watching = Suite.open(new SharedCount(Suite.client(), "/shared-count", 0));
        watching.addListener(new SharedCountListener() {
            @Override
            public void countHasChanged(SharedCountReader reader, int count) {
                seen.set(count);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {
            }
        });
        watching.start();
        for (CuratorFramework client : Suite.clients(CLIENTS)) {
            SharedCount count = Suite.open(new SharedCount(client, "/shared-count", 0));
            count.start();
            tasks.add(() -> {
                for (int round = 0; round < ROUNDS; round++) {
                    while (!count.trySetCount(count.getVersionedValue(), count.getCount() + 1)) {
                        Thread.onSpinWait();
                    }
                }
                return null;
            });
        }
        Suite.together(tasks);
        Suite.eventually("the listener sees all increments", () -> seen.get() == CLIENTS * ROUNDS);
        Suite.eventually("the count has all", () -> watching.getCount() == CLIENTS * ROUNDS);
    }

    private static void atomic() throws Exception {
        List<Callable<Void>> tasks = new ArrayList<>();
        for (CuratorFramework client : Suite.clients(CLIENTS)) {
            DistributedAtomicLong number = new DistributedAtomicLong(client, "/atomic-long", new RetryNTimes(1000, 1));
            tasks.add(() -> {
                for (int round = 0; round < ROUNDS; round++) {
                    AtomicValue<Long> value = number.increment();
                    Suite.that(value.succeeded(), "not incremented");
                    Suite.same(value.preValue() + 1, value.postValue(), "value after");
                }
                return null;
            });
        }
        Suite.together(tasks);
        DistributedAtomicLong number = new DistributedAtomicLong(Suite.client(), "/atomic-long", new RetryNTimes(0, 0));
        Suite.same((long) CLIENTS * ROUNDS, number.get().postValue(), "counted");
    }
}
