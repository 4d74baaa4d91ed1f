import java.io.BufferedReader;
import java.io.FileReader;
import java.io.FileWriter;
import java.io.Writer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryForever;

/** Runs every case against one server and counts what failed; also what the cases share. */
public final class Suite {
    static final int SESSION_MS = 24_000;
    static final Duration PATIENCE = Duration.ofSeconds(30);

    private static String server;
    private static final List<AutoCloseable> opened = new ArrayList<>();
    private static int cases;
    private static int failed;

    interface Case {
        void run() throws Exception;
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    private Suite() {
    }

    public static void main(String[] args) throws Exception {
        server = "127.0.0.1:" + args[0];
        Locks.all();
        Leaders.all();
        Queues.all();
        Counters.all();
        Nodes.all();
        Caches.all();
        Discovery.all();
        Restart.all();
        System.out.println("curator: " + cases + " cases, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }

    /** Runs one case; afterwards closes what it opened, newest first. */
    static void run(String name, Case body) {
        cases++;
        long started = System.nanoTime();
        try {
            body.run();
            System.out.printf("    %-72s %5d ms%n", name, (System.nanoTime() - started) / 1_000_000);
        } catch (Throwable thrown) {
            failed++;
            System.out.println("FAILED: " + name);
            thrown.printStackTrace(System.out);
        }
        for (int i = opened.size() - 1; i >= 0; i--) {
            try {
                opened.get(i).close();
            } catch (Throwable ignored) {
                // What a case closed itself may refuse to be closed again; the server's state is asserted by the cases.
            }
        }
        opened.clear();
    }

    /** Closes it at the end of the case. */
    static <T extends AutoCloseable> T open(T closeable) {
        opened.add(closeable);
        return closeable;
    }

    static CuratorFrameworkFactory.Builder builder() {
        return CuratorFrameworkFactory.builder()
            .connectString(server)
            .sessionTimeoutMs(SESSION_MS)
            .connectionTimeoutMs(5_000)
            .retryPolicy(new RetryForever(50));
    }

    static CuratorFramework start(CuratorFrameworkFactory.Builder builder) throws Exception {
        CuratorFramework client = open(builder.build());
        client.start();
        that(client.blockUntilConnected(20, TimeUnit.SECONDS), "connected");
        return client;
    }

    static CuratorFramework client() throws Exception {
        return start(builder());
    }

    static List<CuratorFramework> clients(int count) throws Exception {
        List<CuratorFramework> clients = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            clients.add(client());
        }
        return clients;
    }

    static String server() {
        return server;
    }

    static long session(CuratorFramework client) throws Exception {
        return client.getZookeeperClient().getZooKeeper().getSessionId();
    }

    /** Runs all tasks at once, waits for them, and throws what the first failing one threw. */
    static void together(List<? extends Callable<?>> tasks) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(tasks.size());
        try {
            List<Future<?>> futures = new ArrayList<>();
            for (Callable<?> task : tasks) {
                futures.add(threads.submit(task));
            }
            for (Future<?> future : futures) {
                future.get(60, TimeUnit.SECONDS);
            }
        } finally {
            threads.shutdownNow();
        }
    }

    static void that(boolean holds, String message) {
        if (!holds) {
            throw new AssertionError(message);
        }
    }

    static void same(Object expected, Object found, String message) {
        that(expected.equals(found), message + ": expected " + expected + ", found " + found);
    }

    /** Waits until the condition holds. */
    static void eventually(String message, Condition condition) throws Exception {
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (!condition.holds()) {
            that(System.nanoTime() < deadline, "not within " + PATIENCE + ": " + message);
            TimeUnit.MILLISECONDS.sleep(10);
        }
    }

    /** Asks the script that started the server to `kill`, `stop`, `start` or `restart` it, and waits until it has. */
    static void ask(String request) throws Exception {
        try (Writer requests = new FileWriter("/proc/self/fd/3")) {
            requests.write(request + "\n");
        }
        try (BufferedReader answers = new BufferedReader(new FileReader("/proc/self/fd/4"))) {
            same(request, answers.readLine(), "the script's answer");
        }
    }

    /** A second JVM that does what `role` says until it is killed. */
    static Process process(String role, String... arguments) throws Exception {
        List<String> command = new ArrayList<>(List.of(
            ProcessHandle.current().info().command().orElseThrow(), "-Xmx64m", "-XX:TieredStopAtLevel=1",
            "-Dzookeeper.log=OFF", "-Dlogback.configurationFile=" + System.getProperty("logback.configurationFile"),
            "-cp", System.getProperty("java.class.path"), role, server));
        command.addAll(List.of(arguments));
        Process process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        open(process::destroyForcibly);
        return process;
    }
}
