// Records bytes of Java ZooKeeper for the tests of this crate. From the root of the repository:
//
//   java -Dlogback.configurationFile=interop/java/logback.xml -cp "$(interop/java/classpath.sh)" \
//     crates/wire/tests/golden/Recorder.java crates/wire/tests/golden
//
// It writes three files, each line a name, a blank and bytes in hex:
//   records.hex   every jute record of the client protocol, the log and the snapshot, serialized by its own class
//   session.hex   the frames between a Java client and a Java server for every operation, with their lengths,
//                 and those of odd requests sent by hand
//   storage.hex   the log entries and the snapshot that this left on disk
// Times, session ids and passwords differ from run to run; the tests do not look at them.

import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.File;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.jute.BinaryOutputArchive;
import org.apache.jute.Record;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.MultiOperationRecord;
import org.apache.zookeeper.MultiResponse;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.data.StatPersisted;
import org.apache.zookeeper.proto.*;
import org.apache.zookeeper.server.ServerCnxnFactory;
import org.apache.zookeeper.server.ZooKeeperServer;
import org.apache.zookeeper.server.persistence.FileHeader;
import org.apache.zookeeper.txn.*;

public class Recorder {
    public static void main(String[] arguments) {
        int status = 1;
        try {
            record(Path.of(arguments[0]));
            status = 0;
        } catch (Exception e) {
            e.printStackTrace();
        }
        // Threads of the client and the server are still there.
        System.exit(status);
    }

    static void record(Path target) throws Exception {
        write(target.resolve("records.hex"), records());
        Path data = Files.createTempDirectory("recorder");
        write(target.resolve("session.hex"), session(data));
        write(target.resolve("storage.hex"), storage(data));
    }

    static void write(Path file, Map<String, byte[]> lines) throws IOException {
        StringBuilder text = new StringBuilder();
        lines.forEach((name, bytes) ->
            text.append(name).append(' ').append(HexFormat.of().formatHex(bytes)).append('\n'));
        Files.writeString(file, text);
    }

    // --- single records ---

    static byte[] bytes(Record record) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        record.serialize(BinaryOutputArchive.getArchive(out), "");
        return out.toByteArray();
    }

    static byte[] bytes(Record... records) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (Record record : records) {
            out.write(bytes(record));
        }
        return out.toByteArray();
    }

    static byte[] text(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static final byte[] DATA = text("data");
    static final byte[] PASSWORD = text("0123456789abcdef");
    static final Stat STAT = new Stat(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
    static final List<ACL> ACLS = List.of(
        new ACL(31, new Id("world", "anyone")), new ACL(1, new Id("digest", "user:hash")));

    static Map<String, byte[]> records() throws Exception {
        Map<String, byte[]> r = new LinkedHashMap<>();
        r.put("ConnectRequest", bytes(new ConnectRequest(0, 0x100000002L, 30000, 0x123456789abcdefL, PASSWORD, true)));
        r.put("ConnectRequest.new", bytes(new ConnectRequest(0, 0, 4000, 0, null, false)));
        r.put("ConnectResponse", bytes(new ConnectResponse(0, 30000, 0x123456789abcdefL, PASSWORD, true)));
        r.put("ConnectResponse.invalid", bytes(new ConnectResponse(0, 0, 0, new byte[16], false)));
        r.put("RequestHeader", bytes(new RequestHeader(7, 4)));
        r.put("ReplyHeader", bytes(new ReplyHeader(7, 0x100000002L, -101)));
        r.put("Stat", bytes(STAT));
        r.put("CreateRequest", bytes(new CreateRequest("/a", DATA, ACLS, 3)));
        r.put("CreateRequest.nulls", bytes(new CreateRequest("/a", null, null, 0)));
        r.put("CreateTTLRequest", bytes(new CreateTTLRequest("/a", DATA, ACLS, 5, 60000)));
        r.put("DeleteRequest", bytes(new DeleteRequest("/a", 3)));
        r.put("ExistsRequest", bytes(new ExistsRequest("/a", true)));
        r.put("GetDataRequest", bytes(new GetDataRequest("/a", true)));
        r.put("SetDataRequest", bytes(new SetDataRequest("/a", DATA, 3)));
        r.put("GetACLRequest", bytes(new GetACLRequest("/a")));
        r.put("SetACLRequest", bytes(new SetACLRequest("/a", ACLS, 3)));
        r.put("GetChildrenRequest", bytes(new GetChildrenRequest("/a", true)));
        r.put("SyncRequest", bytes(new SyncRequest("/a")));
        r.put("SyncRequest.null", bytes(new SyncRequest(null)));
        r.put("GetChildren2Request", bytes(new GetChildren2Request("/a", false)));
        r.put("ReconfigRequest", bytes(new ReconfigRequest("server.1=a", "2", null, 5)));
        r.put("CheckWatchesRequest", bytes(new CheckWatchesRequest("/a", 5)));
        r.put("RemoveWatchesRequest", bytes(new RemoveWatchesRequest("/a", 3)));
        r.put("AuthPacket", bytes(new AuthPacket(0, "digest", text("user:password"))));
        r.put("AuthPacket.nulls", bytes(new AuthPacket(100, null, null)));
        r.put("SetWatches", bytes(new SetWatches(9, List.of("/d"), List.of("/e", "/f"), List.of())));
        r.put("SetWatches2", bytes(new SetWatches2(
            9, List.of("/d"), List.of(), List.of("/c"), List.of("/p"), List.of("/r"))));
        r.put("GetSASLRequest", bytes(new GetSASLRequest(DATA)));
        r.put("GetEphemeralsRequest", bytes(new GetEphemeralsRequest("/a")));
        r.put("GetEphemeralsRequest.null", bytes(new GetEphemeralsRequest(null)));
        r.put("GetAllChildrenNumberRequest", bytes(new GetAllChildrenNumberRequest("/a")));
        r.put("AddWatchRequest", bytes(new AddWatchRequest("/a", 1)));
        r.put("MultiOperationRecord", bytes(new MultiOperationRecord(List.of(
            Op.create("/a", DATA, ACLS, CreateMode.EPHEMERAL_SEQUENTIAL),
            Op.create("/c", null, ACLS, CreateMode.CONTAINER),
            Op.create("/t", DATA, ACLS, CreateMode.PERSISTENT_WITH_TTL, 60000),
            Op.delete("/a", 3),
            Op.setData("/a", DATA, -1),
            Op.check("/a", 4)))));
        r.put("MultiOperationRecord.read", bytes(new MultiOperationRecord(List.of(
            Op.getData("/a"), Op.getChildren("/b")))));
        r.put("MultiOperationRecord.empty", bytes(new MultiOperationRecord(List.of())));

        r.put("CreateResponse", bytes(new CreateResponse("/a")));
        r.put("Create2Response", bytes(new Create2Response("/a", STAT)));
        r.put("ExistsResponse", bytes(new ExistsResponse(STAT)));
        r.put("GetDataResponse", bytes(new GetDataResponse(DATA, STAT)));
        r.put("GetDataResponse.null", bytes(new GetDataResponse(null, STAT)));
        r.put("SetDataResponse", bytes(new SetDataResponse(STAT)));
        r.put("GetACLResponse", bytes(new GetACLResponse(ACLS, STAT)));
        r.put("SetACLResponse", bytes(new SetACLResponse(STAT)));
        r.put("GetChildrenResponse", bytes(new GetChildrenResponse(List.of("b", "c"))));
        r.put("SyncResponse", bytes(new SyncResponse("/a")));
        r.put("GetChildren2Response", bytes(new GetChildren2Response(List.of("b", "c"), STAT)));
        r.put("SetSASLResponse", bytes(new SetSASLResponse(DATA)));
        r.put("GetEphemeralsResponse", bytes(new GetEphemeralsResponse(List.of("/a/b", "/c"))));
        r.put("GetAllChildrenNumberResponse", bytes(new GetAllChildrenNumberResponse(42)));
        r.put("WhoAmIResponse", bytes(new WhoAmIResponse(List.of(
            new ClientInfo("ip", "127.0.0.1"), new ClientInfo("digest", "user")))));
        r.put("ErrorResponse", bytes(new ErrorResponse(0)));
        r.put("WatcherEvent", bytes(new WatcherEvent(4, 3, "/a")));
        MultiResponse done = new MultiResponse();
        done.add(new OpResult.CreateResult("/a"));
        done.add(new OpResult.CreateResult("/b", STAT));
        done.add(new OpResult.DeleteResult());
        done.add(new OpResult.SetDataResult(STAT));
        done.add(new OpResult.CheckResult());
        r.put("MultiResponse", bytes(done));
        MultiResponse failed = new MultiResponse();
        for (int error : new int[] {0, -110, -2}) {
            failed.add(new OpResult.ErrorResult(error));
        }
        r.put("MultiResponse.failed", bytes(failed));
        MultiResponse read = new MultiResponse();
        read.add(new OpResult.GetDataResult(DATA, STAT));
        read.add(new OpResult.GetChildrenResult(List.of("b", "c")));
        read.add(new OpResult.ErrorResult(-101));
        r.put("MultiResponse.read", bytes(read));

        TxnDigest digest = new TxnDigest(2, 0x51c6d660L);
        r.put("CreateTxn", bytes(header(1), new CreateTxn("/a", DATA, ACLS, true, 4), digest));
        r.put("CreateTxn.2", bytes(header(15), new CreateTxn("/a", null, List.of(), false, 4), digest));
        r.put("CreateTxnV0", bytes(header(1), new CreateTxnV0("/a", DATA, ACLS, true)));
        r.put("CreateTTLTxn", bytes(header(21), new CreateTTLTxn("/a", DATA, ACLS, 4, 60000), digest));
        r.put("CreateContainerTxn", bytes(header(19), new CreateContainerTxn("/a", DATA, ACLS, 4), digest));
        r.put("DeleteTxn", bytes(header(2), new DeleteTxn("/a"), digest));
        r.put("DeleteTxn.container", bytes(header(20), new DeleteTxn("/a"), digest));
        r.put("SetDataTxn", bytes(header(5), new SetDataTxn("/a", DATA, 3), digest));
        r.put("SetDataTxn.reconfig", bytes(header(16), new SetDataTxn("/zookeeper/config", DATA, -1), digest));
        r.put("SetACLTxn", bytes(header(7), new SetACLTxn("/a", ACLS, 3), digest));
        r.put("CheckVersionTxn", bytes(header(13), new CheckVersionTxn("/a", 3)));
        r.put("CreateSessionTxn", bytes(header(-10), new CreateSessionTxn(30000), digest));
        r.put("CloseSessionTxn", bytes(header(-11), new CloseSessionTxn(List.of("/a", "/b")), digest));
        r.put("CloseSessionTxn.empty", bytes(header(-11), new CloseSessionTxn(List.of()), digest));
        r.put("CloseSessionTxn.none", bytes(header(-11), digest));
        r.put("ErrorTxn", bytes(header(-1), new ErrorTxn(-101)));
        r.put("MultiTxn", bytes(header(14), new MultiTxn(List.of(
            new Txn(1, bytes(new CreateTxn("/a", DATA, ACLS, false, 4))),
            new Txn(15, bytes(new CreateTxn("/b", DATA, ACLS, true, 5))),
            new Txn(19, bytes(new CreateContainerTxn("/c", null, ACLS, 6))),
            new Txn(21, bytes(new CreateTTLTxn("/d", DATA, ACLS, 7, 1))),
            new Txn(2, bytes(new DeleteTxn("/a"))),
            new Txn(5, bytes(new SetDataTxn("/b", null, 1))),
            new Txn(13, bytes(new CheckVersionTxn("/b", 2))))), digest));
        r.put("MultiTxn.failed", bytes(header(14), new MultiTxn(List.of(
            new Txn(2, bytes(new DeleteTxn("/a"))),
            new Txn(-1, bytes(new ErrorTxn(-101))),
            new Txn(-1, bytes(new ErrorTxn(-2))))), digest));

        r.put("FileHeader.log", bytes(new FileHeader(0x5a4b4c47, 2, 0)));
        r.put("FileHeader.snapshot", bytes(new FileHeader(0x5a4b534e, 2, -1)));
        r.put("StatPersisted", bytes(new StatPersisted(1, 2, 3, 4, 5, 6, 7, 0x8000000000000000L, 9)));
        return r;
    }

    static TxnHeader header(int type) {
        return new TxnHeader(0x123456789abcdefL, 7, 0x100000002L, 1700000000000L, type);
    }

    // --- a client and a server with a tap between them ---

    /** Hands frames on both ways and keeps them, named after what is going on. */
    static class Tap {
        final Map<String, byte[]> frames = new LinkedHashMap<>();
        final ServerSocket listener = new ServerSocket(0, 10, InetAddress.getLoopbackAddress());
        final int serverPort;
        final List<Socket> sockets = new ArrayList<>();
        String label = "connect";

        Tap(int serverPort) throws IOException {
            this.serverPort = serverPort;
            start(() -> {
                while (true) {
                    Socket client = listener.accept();
                    Socket server = new Socket(InetAddress.getLoopbackAddress(), serverPort);
                    synchronized (this) {
                        sockets.addAll(List.of(client, server));
                    }
                    start(() -> forward(client, server, true));
                    start(() -> forward(server, client, false));
                }
            });
        }

        interface Task {
            void run() throws Exception;
        }

        static void start(Task task) {
            Thread thread = new Thread(() -> {
                try {
                    task.run();
                } catch (Exception e) {
                    // The connection has ended.
                }
            });
            thread.setDaemon(true);
            thread.start();
        }

        void forward(Socket from, Socket to, boolean request) throws IOException {
            DataInputStream in = new DataInputStream(from.getInputStream());
            boolean first = true;
            try {
                while (true) {
                    int length = in.readInt();
                    byte[] body = new byte[length];
                    in.readFully(body);
                    byte[] frame = ByteBuffer.allocate(4 + length).putInt(length).put(body).array();
                    keep(frame, request, first);
                    first = false;
                    to.getOutputStream().write(frame);
                    to.getOutputStream().flush();
                }
            } finally {
                from.close();
                to.close();
            }
        }

        synchronized void keep(byte[] frame, boolean request, boolean first) {
            int xid = ByteBuffer.wrap(frame, 4, 4).getInt();
            String name = label;
            if (first) {
                name += ".connect";
            } else if (xid == -2) {
                name = "ping";
            } else if (xid == -4) {
                name = "auth";
            }
            name += request ? ".request" : !first && xid == -1 ? ".event" : ".reply";
            String unique = name;
            for (int i = 2; frames.containsKey(unique); i++) {
                if (xid == -2) {
                    return;
                }
                unique = name + i;
            }
            frames.put(unique, frame);
        }

        synchronized void label(String label) {
            this.label = label;
        }

        synchronized void dropConnections() throws IOException {
            for (Socket socket : sockets) {
                socket.close();
            }
            sockets.clear();
        }
    }

    interface Call {
        void run() throws Exception;
    }

    static Map<String, byte[]> session(Path data) throws Exception {
        System.setProperty("zookeeper.extendedTypesEnabled", "true");
        System.setProperty("zookeeper.preAllocSize", "64");
        System.setProperty("zookeeper.admin.enableServer", "false");
        ZooKeeperServer server = new ZooKeeperServer(data.toFile(), data.toFile(), 1000);
        ServerCnxnFactory factory = ServerCnxnFactory.createFactory(
            new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 100);
        factory.startup(server);
        Tap tap = new Tap(factory.getLocalPort());

        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeperAdmin zk = new ZooKeeperAdmin("127.0.0.1:" + tap.listener.getLocalPort(), 6000, event -> {
            if (event.getState() == Watcher.Event.KeeperState.SyncConnected) {
                connected.countDown();
            }
        });
        connected.await();
        class Step {
            void run(String label, Call call) throws Exception {
                tap.label(label);
                try {
                    call.run();
                } catch (KeeperException e) {
                    // Errors are answers too.
                }
            }
        }
        Step step = new Step();
        Watcher watcher = event -> { };
        step.run("create", () -> zk.create("/a", DATA, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        step.run("create-exists", () -> zk.create("/a", DATA, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        step.run("create-sequential", () ->
            zk.create("/a/s-", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL));
        step.run("create2", () ->
            zk.create("/a/e", DATA, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL, new Stat()));
        step.run("createContainer", () ->
            zk.create("/c", new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER));
        step.run("createTTL", () ->
            zk.create("/t", DATA, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, new Stat(), 3600000));
        step.run("exists", () -> zk.exists("/a", watcher));
        step.run("exists-none", () -> zk.exists("/none", watcher));
        step.run("getData", () -> zk.getData("/a", watcher, new Stat()));
        step.run("getChildren", () -> zk.getChildren("/a", watcher));
        step.run("getChildren2", () -> zk.getChildren("/a", false, new Stat()));
        step.run("addWatch", () -> zk.addWatch("/a", watcher, AddWatchMode.PERSISTENT));
        step.run("setData", () -> zk.setData("/a", text("new"), 0));
        step.run("setData-version", () -> zk.setData("/a", text("new"), 9));
        step.run("addAuthInfo", () -> zk.addAuthInfo("digest", text("user:password")));
        step.run("setACL", () -> zk.setACL("/a", Arrays.asList(
            new ACL(31, new Id("world", "anyone")), new ACL(1, new Id("auth", ""))), -1));
        step.run("getACL", () -> zk.getACL("/a", new Stat()));
        step.run("sync", () -> {
            CountDownLatch done = new CountDownLatch(1);
            zk.sync("/a", (code, path, context) -> done.countDown(), null);
            done.await();
        });
        step.run("multi", () -> zk.multi(List.of(
            Op.create("/a/m", DATA, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
            Op.create("/a/mc", DATA, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER),
            Op.setData("/a/m", null, 0),
            Op.check("/a/m", 1),
            Op.delete("/a/mc", -1))));
        step.run("multi-failed", () -> zk.multi(List.of(
            Op.setData("/a", DATA, -1),
            Op.delete("/a/none", -1),
            Op.check("/a", 0))));
        step.run("multiRead", () -> zk.multi(List.of(
            Op.getData("/a"), Op.getChildren("/a/m"), Op.getData("/none"))));
        step.run("getEphemerals", () -> zk.getEphemerals("/a"));
        step.run("getAllChildrenNumber", () -> zk.getAllChildrenNumber("/a"));
        step.run("whoAmI", () -> zk.whoAmI());
        step.run("reconfig", () -> zk.reconfigure((String) null, null, null, -1, new Stat()));
        step.run("removeWatches", () -> zk.removeWatches("/a", watcher, Watcher.WatcherType.Any, false));
        step.run("removeAllWatches", () -> zk.removeAllWatches("/a", Watcher.WatcherType.Any, false));
        step.run("delete", () -> zk.delete("/a/s-0000000000", 0));
        step.run("delete-not-empty", () -> zk.delete("/a", -1));
        step.run("watch-again", () -> zk.getData("/a", watcher, new Stat()));
        tap.label("reconnect");
        tap.dropConnections();
        awaitFrame(tap, "reconnect.reply");
        step.run("recursive", () -> zk.addWatch("/a/m", watcher, AddWatchMode.PERSISTENT_RECURSIVE));
        tap.label("reconnect-recursive");
        tap.dropConnections();
        awaitFrame(tap, "reconnect-recursive.reply");
        awaitFrame(tap, "ping.reply");
        step.run("closeSession", () -> zk.close());

        Raw raw = new Raw(tap, "odd");
        raw.send("checkWatches-none", 17, bytes(new CheckWatchesRequest("/a", 1)));
        byte[] multiEnd = HexFormat.of().parseHex("ffffffff01ffffffff");
        ACL nullId = new ACL(31, new Id("digest", null));
        for (int op : new int[] {1, 15, 19}) {
            raw.send("create-null-path-" + op, op, bytes(new CreateRequest(null, DATA, ACLS, 0)));
            raw.send("create-null-acl-" + op, op, bytes(new CreateRequest("/n", DATA, null, 0)));
        }
        raw.send("createTTL-null-path", 21, bytes(new CreateTTLRequest(null, DATA, ACLS, 5, 60000)));
        raw.send("create-null-id", 1, bytes(new CreateRequest("/n", DATA, List.of(nullId), 0)));
        raw.send("create-null-world", 1,
            bytes(new CreateRequest("/n", DATA, List.of(new ACL(31, new Id("world", null))), 0)));
        raw.send("create-null-ip", 1,
            bytes(new CreateRequest("/n", DATA, List.of(new ACL(31, new Id("ip", null))), 0)));
        raw.send("create-null-scheme", 1,
            bytes(new CreateRequest("/n", DATA, List.of(new ACL(31, new Id(null, "x"))), 0)));
        raw.send("create-null-id-of-nobody", 1,
            bytes(new CreateRequest("/n", DATA, List.of(new ACL(31, new Id("nobody", null))), 0)));
        raw.send("setACL-null-id", 7, bytes(new SetACLRequest("/a", List.of(nullId), -1)));
        raw.send("setACL-null-path", 7, bytes(new SetACLRequest(null, ACLS, -1)));
        raw.send("setData-null-path", 5, bytes(new SetDataRequest(null, DATA, -1)));
        raw.send("delete-null-path", 2, bytes(new DeleteRequest(null, -1)));
        raw.send("create-short", 1, new byte[] {0, 0, 0, 9, '/'});
        raw.send("delete-short", 2, bytes(new SyncRequest("/a")));
        raw.send("create-negative-length", 1, new byte[] {-1, -1, -1, -2, 0, 0, 0, 0});
        raw.send("multi-null-path", 14, multi(13, bytes(new CheckVersionRequest(null, 1))));
        raw.send("multi-null-delete", 14, multi(2, bytes(new DeleteRequest(null, 1))));
        raw.send("multi-null-setData", 14, multi(5, bytes(new SetDataRequest(null, DATA, 1))));
        raw.send("multi-null-create", 14, multi(1, bytes(new CreateRequest(null, DATA, ACLS, 0))));
        raw.send("multi-null-id", 14, multi(1, bytes(new CreateRequest("/n", DATA, List.of(nullId), 0))));
        raw.send("multi-null-acl", 14, multi(1, bytes(new CreateRequest("/n", DATA, null, 0))));
        raw.send("multi-null-acl-ttl", 14, multi(21, bytes(new CreateTTLRequest("/n", DATA, null, 5, 1000))));
        raw.send("multi-setACL", 14, multi(7, bytes(new SetACLRequest("/a", ACLS, -1))));
        raw.send("multi-getData", 14, multi(4, bytes(new GetDataRequest("/a", false))));
        raw.send("multi-bad-flags", 14, multi(1, bytes(new CreateRequest("/n", DATA, ACLS, 7))));
        raw.send("multi-bad-flags-ttl", 14, multi(21, bytes(new CreateTTLRequest("/n", DATA, ACLS, 7, 1000))));
        raw.send("multi-ttl-flags", 14, multi(1, bytes(new CreateRequest("/n", DATA, ACLS, 5))));
        raw.send("multi-container-flags", 14, multi(1, bytes(new CreateRequest("/mc", DATA, OPEN, 4))));
        raw.send("multi-container-flags-ttl", 14, multi(21, bytes(new CreateTTLRequest("/mc2", DATA, OPEN, 4, 1000))));
        raw.send("multi-plain-flags-ttl", 14, multi(21, bytes(new CreateTTLRequest("/mp", DATA, OPEN, 0, 1000))));
        raw.send("multi-short", 14, new byte[] {0, 0, 0, 1, 0});
        raw.send("multi-cut", 14, Arrays.copyOf(multi(2, bytes(new DeleteRequest("/a", 1))), 20));
        raw.send("multiRead-write", 22, multi(2, bytes(new DeleteRequest("/a", 1))));
        raw.send("multiRead-null-path", 22, multi(4, bytes(new GetDataRequest(null, false))));
        raw.send("multiRead-short", 22, new byte[] {0, 0, 0, 4, 0});
        raw.send("exists-null-path", 3, bytes(new ExistsRequest(null, false)));
        raw.send("getData-null-path", 4, bytes(new GetDataRequest(null, false)));
        raw.send("getACL-null-path", 6, bytes(new GetACLRequest(null)));
        raw.send("getChildren-null-path", 8, bytes(new GetChildrenRequest(null, false)));
        raw.send("getChildren2-null-path", 12, bytes(new GetChildren2Request(null, false)));
        raw.send("getAllChildrenNumber-null-path", 104, bytes(new GetAllChildrenNumberRequest(null)));
        raw.send("sync-null-path", 9, bytes(new SyncRequest(null)));
        raw.send("sync-short", 9, new byte[0]);
        raw.send("getEphemerals-null-path", 103, bytes(new GetEphemeralsRequest(null)));
        raw.send("checkWatches-type", 17, bytes(new CheckWatchesRequest("/a", 6)));
        raw.send("removeWatches-type", 18, bytes(new RemoveWatchesRequest("/a", 0)));
        raw.send("addWatch-mode", 106, bytes(new AddWatchRequest("/a", 2)));
        raw.send("setWatches-null-list", 101, bytes(new SetWatches(0, null, List.of(), List.of())));
        raw.send("setWatches2-null-list", 105,
            bytes(new SetWatches2(0, List.of(), List.of(), List.of(), List.of(), null)));
        raw.send("setWatches-null-path", 101,
            bytes(new SetWatches(0, Collections.singletonList(null), List.of(), List.of())));
        raw.send("ping-long", 11, new byte[] {1, 2, 3});
        raw.send("exists-long", 3, bytes(new ExistsRequest("/a", false), new SyncRequest("more")));
        raw.send("multi-empty", 14, multiEnd);
        raw.send("create-not-utf8", 1, notUtf8());
        raw.send("getACL-not-utf8", 6, bytes(new GetACLRequest("/u")));
        raw.close();
        new Raw(tap, "old").close();

        factory.shutdown();
        return tap.frames;
    }

    static final List<ACL> OPEN = ZooDefs.Ids.OPEN_ACL_UNSAFE;

    static byte[] multi(int type, byte[] request) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.write(bytes(new MultiHeader(type, false, -1)));
        out.write(request);
        out.write(bytes(new MultiHeader(-1, true, -1)));
        return out.toByteArray();
    }

    /** A create whose ACL id is full of malformed UTF-8. The path is of no use for that, it would be refused. */
    static byte[] notUtf8() throws IOException {
        byte[] id = HexFormat.of().parseHex(
            "753a41c0afe080bfedbfbff09180eda0bdedb880f4918080e282c3a9f09f9880f09f98ff80e2c1c241f8888080805a");
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(bytes);
        out.writeInt(2);
        out.write(text("/u"));
        out.writeInt(-1);
        out.writeInt(2);
        out.write(bytes(OPEN.get(0)));
        out.writeInt(31);
        out.writeInt(6);
        out.write(text("digest"));
        out.writeInt(id.length);
        out.write(id);
        out.writeInt(0);
        return bytes.toByteArray();
    }

    /** A client that sends what it is told. */
    static class Raw {
        final Tap tap;
        final String label;
        final Socket socket;
        final DataInputStream in;
        int xid = 0;

        /** With the label "old" it connects as clients before release 3.4 do, without the byte for read-only. */
        Raw(Tap tap, String label) throws Exception {
            this.tap = tap;
            this.label = label;
            tap.label(label);
            socket = new Socket(InetAddress.getLoopbackAddress(), tap.listener.getLocalPort());
            socket.setSoTimeout(10000);
            in = new DataInputStream(socket.getInputStream());
            byte[] connect = bytes(new ConnectRequest(0, 0, 60000, 0, new byte[16], false));
            exchange(label.equals("old") ? Arrays.copyOf(connect, 44) : connect);
        }

        void send(String name, int op, byte[] body) throws Exception {
            tap.label(label + "." + name);
            xid++;
            exchange(ByteBuffer.allocate(8 + body.length).putInt(xid).putInt(op).put(body).array());
        }

        void exchange(byte[] body) throws IOException {
            socket.getOutputStream().write(ByteBuffer.allocate(4 + body.length).putInt(body.length).put(body).array());
            in.readFully(new byte[in.readInt()]);
        }

        void close() throws Exception {
            send("closeSession", -11, new byte[0]);
            socket.close();
        }
    }

    static void awaitFrame(Tap tap, String name) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (true) {
            synchronized (tap) {
                if (tap.frames.containsKey(name)) {
                    return;
                }
            }
            if (System.nanoTime() > deadline) {
                throw new IOException("no " + name + " in " + tap.frames.keySet());
            }
            Thread.sleep(10);
        }
    }

    // --- what is on disk now ---

    static Map<String, byte[]> storage(Path data) throws Exception {
        Map<String, byte[]> lines = new LinkedHashMap<>();
        File version2 = data.resolve("version-2").toFile();
        File[] logs = version2.listFiles((directory, name) -> name.startsWith("log."));
        if (logs == null || logs.length != 1) {
            throw new IOException("one log expected");
        }
        ByteBuffer log = ByteBuffer.wrap(Files.readAllBytes(logs[0].toPath()));
        log.position(16);
        for (int i = 1; log.remaining() > 12; i++) {
            int start = log.position();
            log.getLong();
            int length = log.getInt();
            if (length == 0) {
                break;
            }
            int end = start + 12 + length + 1;
            lines.put("log." + i, Arrays.copyOfRange(log.array(), start, end));
            log.position(end);
        }
        // A start loads the log and writes a snapshot of what came of it.
        ZooKeeperServer server = new ZooKeeperServer(data.toFile(), data.toFile(), 1000);
        ServerCnxnFactory factory = ServerCnxnFactory.createFactory(
            new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 100);
        factory.startup(server);
        String last = "snapshot." + Long.toHexString(server.getLastProcessedZxid());
        factory.shutdown();
        lines.put("snapshot", Files.readAllBytes(version2.toPath().resolve(last)));
        return lines;
    }
}
