import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;

/** Mutual exclusion. */
final class Locks {
    private interface Maker {
        InterProcessLock make(CuratorFramework client, String path);
    }

    private Locks() {
    }

    static void all() {
        Suite.run("InterProcessMutex excludes four clients with three threads each",
            () -> excludes("/mutex", InterProcessMutex::new));
        Suite.run("InterProcessMutex is reentrant, times out, and passes on when its holder's client closes",
            Locks::mutexReentrant);
        Suite.run("InterProcessSemaphoreMutex excludes four clients with three threads each",
            () -> excludes("/semaphore-mutex", InterProcessSemaphoreMutex::new));
        Suite.run("InterProcessSemaphoreMutex is not reentrant", Locks::semaphoreMutexNotReentrant);
        Suite.run("InterProcessReadWriteLock shares among readers and excludes writers", Locks::readWrite);
        Suite.run("InterProcessReadWriteLock's writer excludes four clients with three threads each",
            () -> excludes("/write", (client, path) -> new InterProcessReadWriteLock(client, path).writeLock()));
        Suite.run("InterProcessSemaphoreV2 never leases more than three of three", Locks::semaphore);
        Suite.run("InterProcessMultiLock takes all or none", Locks::multi);
    }

    private static void excludes(String path, Maker maker) throws Exception {
        int threadsEach = 3;
        int rounds = 8;
        List<CuratorFramework> clients = Suite.clients(4);
        clients.get(0).create().forPath(path, new byte[] {0, 0});
        AtomicInteger holders = new AtomicInteger();
        List<Callable<Void>> tasks = new ArrayList<>();
        for (CuratorFramework client : clients) {
            for (int thread = 0; thread < threadsEach; thread++) {
                InterProcessLock lock = maker.make(client, path + "/lock");
                tasks.add(() -> {
                    for (int round = 0; round < rounds; round++) {
                        lock.acquire();
                        try {
                            Suite.same(1, holders.incrementAndGet(), "holders at once");
                            // Read and write apart: updates would be lost without the lock.
                            byte[] data = client.getData().forPath(path);
                            int count = (data[0] & 0xff) * 256 + (data[1] & 0xff) + 1;
                            client.setData().forPath(path, new byte[] {(byte) (count >> 8), (byte) count});
                        } finally {
                            holders.decrementAndGet();
                            lock.release();
                        }
                    }
                    return null;
                });
            }
        }
        Suite.together(tasks);
        byte[] data = clients.get(0).getData().forPath(path);
        Suite.same(tasks.size() * rounds, (data[0] & 0xff) * 256 + (data[1] & 0xff), "counted under the lock");
    }

    private static void mutexReentrant() throws Exception {
        CuratorFramework holder = Suite.client();
        CuratorFramework other = Suite.client();
        InterProcessMutex held = new InterProcessMutex(holder, "/reentrant");
        InterProcessMutex wanted = new InterProcessMutex(other, "/reentrant");
        held.acquire();
        held.acquire();
        Suite.that(!wanted.acquire(100, TimeUnit.MILLISECONDS), "taken while held");
        held.release();
        Suite.that(!wanted.acquire(100, TimeUnit.MILLISECONDS), "taken while held once more");
        Suite.same(1, held.getParticipantNodes().size(), "participants");
        holder.close();
        Suite.that(wanted.acquire(10, TimeUnit.SECONDS), "not passed on by the closed session");
        wanted.release();
    }

    private static void semaphoreMutexNotReentrant() throws Exception {
        CuratorFramework client = Suite.client();
        InterProcessSemaphoreMutex mutex = new InterProcessSemaphoreMutex(client, "/not-reentrant");
        mutex.acquire();
        Suite.that(!mutex.acquire(200, TimeUnit.MILLISECONDS), "taken twice");
        mutex.release();
        Suite.that(mutex.acquire(10, TimeUnit.SECONDS), "not released");
        mutex.release();
    }

    private static void readWrite() throws Exception {
        List<CuratorFramework> clients = Suite.clients(3);
        List<InterProcessReadWriteLock> locks = new ArrayList<>();
        clients.forEach(client -> locks.add(new InterProcessReadWriteLock(client, "/read-write")));
        locks.get(0).readLock().acquire();
        Suite.that(locks.get(1).readLock().acquire(10, TimeUnit.SECONDS), "a second reader had to wait");
        Suite.that(!locks.get(2).writeLock().acquire(100, TimeUnit.MILLISECONDS), "a writer beside readers");
        CountDownLatch written = new CountDownLatch(1);
        Thread writer = new Thread(() -> {
            try {
                locks.get(2).writeLock().acquire();
                locks.get(2).readLock().acquire();
                locks.get(2).writeLock().release();
                written.countDown();
            } catch (Exception failed) {
                failed.printStackTrace(System.out);
            }
        });
        writer.start();
        Suite.eventually("the writer waits", () -> locks.get(2).writeLock().getParticipantNodes().size() == 1);
        Suite.that(!locks.get(0).readLock().getParticipantNodes().isEmpty(), "no readers");
        locks.get(0).readLock().release();
        Suite.same(1L, written.getCount(), "writers waiting behind one reader");
        locks.get(1).readLock().release();
        Suite.that(written.await(10, TimeUnit.SECONDS), "the writer never got in");
        writer.join();
        Suite.that(!locks.get(0).writeLock().acquire(100, TimeUnit.MILLISECONDS), "a writer beside a downgraded one");
        Suite.that(locks.get(1).readLock().acquire(10, TimeUnit.SECONDS), "no reader beside a downgraded writer");
    }

    private static void semaphore() throws Exception {
        List<CuratorFramework> clients = Suite.clients(3);
        AtomicInteger leased = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        List<Callable<Void>> tasks = new ArrayList<>();
        for (int thread = 0; thread < 9; thread++) {
            CuratorFramework client = clients.get(thread % clients.size());
            tasks.add(() -> {
                InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, "/semaphore", 3);
                for (int round = 0; round < 4; round++) {
                    Lease lease = semaphore.acquire();
                    most.accumulateAndGet(leased.incrementAndGet(), Math::max);
                    Suite.eventually("three leases at once", () -> most.get() >= 3);
                    leased.decrementAndGet();
                    semaphore.returnLease(lease);
                }
                return null;
            });
        }
        Suite.together(tasks);
        Suite.same(3, most.get(), "leased at once");
        InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(clients.get(0), "/semaphore", 3);
        Suite.same(3, semaphore.acquire(3, 10, TimeUnit.SECONDS).size(), "leases of an idle semaphore");
        Suite.that(semaphore.acquire(100, TimeUnit.MILLISECONDS) == null, "a fourth lease");
    }

    private static void multi() throws Exception {
        CuratorFramework first = Suite.client();
        CuratorFramework second = Suite.client();
        List<String> paths = List.of("/multi-a", "/multi-b", "/multi-c");
        InterProcessMutex blocking = new InterProcessMutex(first, "/multi-c");
        blocking.acquire();
        InterProcessMultiLock all = new InterProcessMultiLock(second, paths);
        Suite.that(!all.acquire(200, TimeUnit.MILLISECONDS), "all taken though one is held");
        Suite.that(new InterProcessMutex(first, "/multi-a").acquire(10, TimeUnit.SECONDS), "one was kept");
        blocking.release();
    }
}
