import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.List;

/** A way to the server that can be cut: connections are closed and new ones refused until it is mended. */
final class Proxy implements AutoCloseable {
    private final ServerSocket listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
    private final int serverPort;
    private final List<Socket> sockets = new ArrayList<>();
    private boolean cut;

    Proxy() throws IOException {
        serverPort = Integer.parseInt(Suite.server().split(":")[1]);
        thread(this::accept);
    }

    String address() {
        return "127.0.0.1:" + listener.getLocalPort();
    }

    synchronized void cut() {
        cut = true;
        sockets.forEach(Proxy::close);
        sockets.clear();
    }

    synchronized void mend() {
        cut = false;
    }

    @Override
    public void close() throws IOException {
        listener.close();
        cut();
    }

    private void accept() {
        while (!listener.isClosed()) {
            try {
                connect(listener.accept());
            } catch (IOException closedOrRefused) {
                // The client sees a closed connection and comes again.
            }
        }
    }

    private synchronized void connect(Socket client) throws IOException {
        if (cut) {
            close(client);
            return;
        }
        sockets.add(client);
        Socket server = new Socket(InetAddress.getLoopbackAddress(), serverPort);
        sockets.add(server);
        thread(() -> copy(client, server));
        thread(() -> copy(server, client));
    }

    private static void copy(Socket from, Socket to) {
        byte[] buffer = new byte[8192];
        try (InputStream input = from.getInputStream(); OutputStream output = to.getOutputStream()) {
            for (int count; (count = input.read(buffer)) > 0;) {
                output.write(buffer, 0, count);
            }
        } catch (IOException closed) {
            // Either side ended; closing both tells the other.
        }
        close(from);
        close(to);
    }

    private static void close(Socket socket) {
        try {
            socket.close();
        } catch (IOException ignored) {
            // It is closed in any case.
        }
    }

    private static void thread(Runnable body) {
        Thread thread = new Thread(body);
        thread.setDaemon(true);
        thread.start();
    }
}
