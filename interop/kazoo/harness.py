"""What the kazoo tests share: clients that are always closed, conditions with deadlines, the server's
switch, and a proxy that can go deaf.

The server of the whole run is reached at 127.0.0.1:PORT; `run` restarts it on that port and directory.
"""

import faulthandler
import logging
import os
import queue
import select
import socket
import sys
import threading
import time
import unittest

from kazoo.client import KazooClient
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.states import Callback, KazooState

KIND = os.environ["INTEROP_KIND"]  # of the server: java or oxkeeper
PORT = int(os.environ["INTEROP_PORT"])
DEADLINE = 20.0  # seconds; for one condition
TEST_DEADLINE = 90.0  # seconds; for one test, then the run ends with every thread's stack

logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # lost connections are part of the tests


class Server:
    """Kills (SIGKILL) and starts the server; the script `run` does it."""

    may_connect = threading.Event()
    may_connect.set()
    is_down = False

    @staticmethod
    def _command(word):
        os.write(3, word.encode() + b"\n")
        answer = sys.stdin.readline()
        if answer != "done\n":
            raise AssertionError(f"the script answered {answer!r} to {word}")

    @classmethod
    def kill(cls):
        if KIND == "java":
            cls.may_connect.clear()
        cls.is_down = True
        cls._command("kill")

    @classmethod
    def start(cls):
        cls._command("start")
        cls.is_down = False
        cls.may_connect.set()

    @classmethod
    def restart(cls):
        cls.kill()
        cls.start()


class Handler(SequentialThreadingHandler):
    """Connects to a Java server only when it serves: one that is just starting never answers some of the
    connections it accepts, and their clients lose their sessions waiting."""

    def create_connection(self, *arguments, **options):
        if not Server.may_connect.is_set():
            raise ConnectionRefusedError("the server is starting")
        return super().create_connection(*arguments, **options)


def wait_for(behaviour, condition, seconds=DEADLINE):
    """Returns the first true value of condition(); after `seconds` fails with the behaviour's name."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {behaviour}")
        time.sleep(0.01)


class Events:
    """A watcher that keeps what it is called with."""

    def __init__(self, client):
        self._client = client
        self._queue = queue.Queue()

    def __call__(self, event):
        self._queue.put((event.type, event.path))

    def next(self, behaviour):
        try:
            return self._queue.get(timeout=DEADLINE)
        except queue.Empty:
            raise AssertionError(f"no event within {DEADLINE} s: {behaviour}") from None

    def rest(self):
        """Everything delivered up to now: a reply fences the socket, a callback fences kazoo's own queue."""
        self._client.exists("/")
        called = threading.Event()
        self._client.handler.dispatch_callback(Callback("watch", called.set, ()))
        if not called.wait(DEADLINE):
            raise AssertionError("kazoo's callback thread stands still")
        events = []
        while not self._queue.empty():
            events.append(self._queue.get())
        return events


class Proxy:
    """Forwards one address to the server and notes the first frame of each direction. `deaf` stops the
    forwarding but keeps the connections open, as a broken network does."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._hears = threading.Event()
        self._hears.set()
        self._sockets = []
        self.first_request = b""
        self.first_reply = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def deaf(self):
        self._hears.clear()

    def hear(self):
        self._hears.set()

    def close(self):
        self.hear()
        self._listener.close()
        for each in self._sockets:
            each.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client):
        self._hears.wait()
        try:
            server = socket.create_connection(("127.0.0.1", PORT), 5)
        except OSError:
            client.close()
            return
        self._sockets += [client, server]
        try:
            while True:
                readable, _, _ = select.select([client, server], [], [])
                self._hears.wait()
                for each in readable:
                    data = each.recv(65536)
                    if not data:
                        return
                    if each is client:
                        self.first_request = self.first_request or data
                        server.sendall(data)
                    else:
                        self.first_reply = self.first_reply or data
                        client.sendall(data)
        except (OSError, ValueError):
            pass
        finally:
            client.close()
            server.close()


class Case(unittest.TestCase):
    """A test with a znode of its own (`self.root`) and a client (`self.zk`)."""

    def setUp(self):
        faulthandler.dump_traceback_later(TEST_DEADLINE, exit=True)
        self.addCleanup(faulthandler.cancel_dump_traceback_later)
        if Server.is_down:  # a test failed before it started the server again
            Server.start()
        self.zk = self.client()
        self.root = "/" + self.id().replace("__main__.", "")
        self.zk.ensure_path(self.root)

    def client(self, port=PORT, chroot="", timeout=15.0, start=True, **options):
        """A client that is stopped and closed at the end of the test; session timeout in seconds."""
        client = KazooClient(
            hosts=f"127.0.0.1:{port}{chroot}",
            timeout=timeout,
            handler=Handler(),
            connection_retry={"max_tries": -1, "delay": 0.05, "max_delay": 0.3},
            command_retry={"max_tries": -1, "delay": 0.02, "max_delay": 0.3},
            **options,
        )
        self.addCleanup(client.close)
        self.addCleanup(client.stop)
        if start:
            client.start(timeout=DEADLINE)
        return client

    def clients(self, number, **options):
        return [self.client(**options) for _ in range(number)]

    def events(self, client=None):
        return Events(client or self.zk)

    def connected(self, client):
        wait_for("the client is connected again", lambda: client.state == KazooState.CONNECTED)

    def run_all(self, behaviour, functions):
        """Runs each function in a thread of its own, returns their results in order, raises what one raised."""
        results, failures = [None] * len(functions), []

        def call(index, function):
            try:
                results[index] = function()
            except BaseException as failure:  # noqa: B902  (raised again below)
                failures.append(failure)

        threads = [
            threading.Thread(target=call, args=each, daemon=True) for each in enumerate(functions)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 3 * DEADLINE
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if failures:
            raise failures[0]
        if any(thread.is_alive() for thread in threads):
            raise AssertionError(f"still running after {3 * DEADLINE} s: {behaviour}")
        return results
