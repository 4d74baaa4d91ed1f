"""Sessions: handshake, close, expiry, and life across a server that is killed and started again."""

import threading

from kazoo.exceptions import BadVersionError, ConnectionLoss, NoAuthError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KazooState
from kazoo.security import make_digest_acl

from harness import Case, Proxy, Server, wait_for


class Handshakes(Case):
    def test_a_read_only_client_gets_an_ordinary_session(self):
        client = self.client(read_only=True)
        self.assertEqual(client.client_state, "CONNECTED")
        client.create(self.root + "/x")

    def test_the_reply_has_the_read_only_byte_that_the_request_had(self):
        proxy = Proxy()
        self.addCleanup(proxy.close)
        self.client(port=proxy.port)
        self.assertEqual(proxy.first_request[:4], (45).to_bytes(4, "big"))
        self.assertEqual(proxy.first_reply[:4], (37).to_bytes(4, "big"))
        self.assertEqual(proxy.first_reply[40], 0, "the server is not read-only")

    def test_the_session_timeout_is_clamped_to_the_servers_limits(self):
        for wanted, granted in ((0.9, 1000), (7.0, 7000), (3600.0, 60000)):
            proxy = Proxy()
            self.addCleanup(proxy.close)
            # kazoo asks in the first frame; bytes 8..12 of the reply are the granted milliseconds.
            client = self.client(port=proxy.port, timeout=10.0, start=False)
            client._session_timeout = int(wanted * 1000)
            client.start()
            with self.subTest(wanted=wanted):
                self.assertEqual(int.from_bytes(proxy.first_reply[8:12], "big"), granted)

    def test_a_client_ahead_of_the_server_is_not_served(self):
        client = self.client(start=False)
        client.last_zxid = 2**62
        with self.assertRaises(KazooTimeoutError):
            client.start(timeout=1)

    def test_sessions_have_distinct_ids_and_passwords(self):
        ids = [client.client_id for client in self.clients(20)]
        self.assertEqual(len({session for session, _ in ids}), 20)
        self.assertEqual(len({password for _, password in ids}), 20)
        for session, password in ids:
            self.assertGreater(session, 0)
            self.assertEqual(len(password), 16)

    def test_a_session_moves_to_another_connection_by_id_and_password(self):
        proxy = Proxy()
        self.addCleanup(proxy.close)
        first = self.client(port=proxy.port)
        path = first.create(self.root + "/e", ephemeral=True)
        session = first.client_id
        proxy.deaf()  # so that the first client does not fight for its session
        second = self.client(client_id=session)
        self.assertEqual(second.client_id, session)
        self.assertEqual(second.exists(path).ephemeralOwner, session[0])
        second.stop()
        self.assertIsNone(self.zk.exists(path), "its close deletes the ephemerals of its first connection")
        proxy.hear()
        wait_for(
            "the first client learns that its session is gone",
            lambda: first.client_id != session and first.connected,
        )

    def test_a_wrong_password_gets_a_new_session_and_harms_nothing(self):
        owner = self.client()
        path = owner.create(self.root + "/e", ephemeral=True)
        session = owner.client_id
        thief = self.client(client_id=(session[0], b"wrong password.."))
        self.assertNotEqual(thief.client_id[0], session[0])
        self.connected(owner)
        self.assertEqual(owner.client_id, session)
        self.assertEqual(self.zk.exists(path).ephemeralOwner, session[0])


class Ends(Case):
    def test_close_deletes_the_ephemerals_at_once_and_keeps_the_rest(self):
        other = self.client(timeout=60.0)
        other.create(self.root + "/stays")
        for number in range(100):
            other.create(f"{self.root}/e{number}", ephemeral=True)
        self.assertEqual(len(self.zk.get_children(self.root)), 101)
        other.stop()  # returns when the server has answered
        self.assertEqual(self.zk.get_children(self.root), ["stays"])

    def test_a_closed_session_cannot_be_resumed(self):
        other = self.client()
        session = other.client_id
        other.stop()
        self.assertNotEqual(self.client(client_id=session).client_id[0], session[0])

    def test_a_silent_session_expires_and_its_ephemerals_go(self):
        proxy = Proxy()
        self.addCleanup(proxy.close)
        states = []
        silent = self.client(port=proxy.port, timeout=2.0)
        silent.add_listener(lambda state: states.append(state) and None)
        path = silent.create(self.root + "/e", ephemeral=True)
        session = silent.client_id
        events = self.events()
        self.zk.get(path, watch=events)
        proxy.deaf()
        self.assertEqual(events.next("expiry deletes the ephemeral"), ("DELETED", path))
        proxy.hear()
        wait_for("the client learns of the expiry", lambda: KazooState.LOST in states)
        self.connected(silent)
        self.assertNotEqual(silent.client_id[0], session[0])
        self.assertIsNone(silent.exists(path))

    def test_pings_keep_an_idle_session(self):
        idle = self.client(timeout=2.0)
        path = idle.create(self.root + "/e", ephemeral=True)
        session = idle.client_id
        # Three sessions of the same timeout expire one after the other meanwhile.
        for _ in range(3):
            proxy = Proxy()
            self.addCleanup(proxy.close)
            silent = self.client(port=proxy.port, timeout=2.0)
            silent.create(self.root + "/silent", ephemeral=True)
            proxy.deaf()
            wait_for("the silent session expires", lambda: self.zk.exists(self.root + "/silent") is None)
        self.assertEqual(idle.client_id, session)
        self.assertEqual(idle.exists(path).ephemeralOwner, session[0])


class Restarts(Case):
    def test_sessions_ephemerals_data_and_auth_survive_a_kill(self):
        clients = self.clients(5, timeout=20.0)
        lost = []
        for index, client in enumerate(clients):
            client.add_listener(lambda state, index=index: lost.append(index) if state == KazooState.LOST else None)
            client.add_auth("digest", f"user{index}:password")
            client.create(f"{self.root}/e{index}", b"%d" % index, ephemeral=True)
            client.create(f"{self.root}/p{index}", acl=[make_digest_acl(f"user{index}", "password", all=True)])
        sessions = [client.client_id for client in clients]
        stats = [self.zk.exists(f"{self.root}/e{index}") for index in range(5)]
        Server.restart()
        for index, client in enumerate(clients):
            self.connected(client)
            self.assertEqual(client.client_id, sessions[index])
            stat = client.retry(client.exists, f"{self.root}/e{index}")
            self.assertEqual(stat, stats[index], "the ephemeral's Stat is as before")
            self.assertEqual(client.get(f"{self.root}/p{index}")[0], b"", "credentials are sent again")
            with self.assertRaises(NoAuthError):
                client.get(f"{self.root}/p{(index + 1) % 5}")
        self.assertEqual(lost, [], "no session was lost")
        clients[0].stop()
        self.connected(self.zk)
        self.assertIsNone(self.zk.retry(self.zk.exists, self.root + "/e0"))
        self.assertIsNotNone(self.zk.exists(self.root + "/e1"))

    def test_versions_sequence_numbers_and_zxids_go_on_after_a_kill(self):
        path = self.zk.create(self.root + "/v", b"0")
        self.zk.set(path, b"1")
        self.zk.create(self.root + "/s-", sequence=True)
        removed = self.zk.create(self.root + "/s-", sequence=True)
        self.zk.delete(removed)
        before = self.zk.exists(path)
        parent = self.zk.exists(self.root)
        Server.restart()
        self.connected(self.zk)
        self.assertEqual(self.zk.retry(self.zk.get, path), (b"1", before))
        self.assertEqual(self.zk.exists(self.root), parent)
        with self.assertRaises(BadVersionError):
            self.zk.set(path, b"x", version=0)
        after = self.zk.set(path, b"2", version=1)
        self.assertGreater(after.mzxid, before.mzxid)
        self.assertGreaterEqual(after.mtime, before.mtime)
        self.assertEqual(self.zk.create(self.root + "/s-", sequence=True), self.root + "/s-0000000003")

    def test_every_acknowledged_write_survives_a_kill_in_full_flight(self):
        self.zk.create(self.root + "/n")
        clients = self.clients(4)
        acknowledged = []
        killed = threading.Event()

        def write(client):
            while True:
                result = client.create_async(self.root + "/n/s-", b"x", sequence=True)
                # A request made after the kill waits in the client for the next connection.
                while not result.wait(0.05):
                    if killed.is_set():
                        return
                try:
                    acknowledged.append(result.get())
                except ConnectionLoss:
                    return

        def kill():
            wait_for("the writers have written 200 znodes", lambda: len(acknowledged) >= 200)
            Server.kill()
            killed.set()

        self.run_all("writers until the kill", [kill] + [lambda c=c: write(c) for c in clients])
        Server.start()
        self.connected(self.zk)
        present = {f"{self.root}/n/{name}" for name in self.zk.retry(self.zk.get_children, self.root + "/n")}
        self.assertEqual(set(acknowledged) - present, set(), "an acknowledged create was lost")
        self.assertLessEqual(len(present) - len(acknowledged), len(clients), "at most one unanswered create each")

    def test_raw_watches_are_told_of_the_lost_connection(self):
        # kazoo sends no setWatches: it tells each watcher NONE, and the watcher reads again.
        events = self.events()
        self.zk.get_children(self.root, watch=events)
        Server.restart()
        self.assertEqual(events.next("the watcher is told of the lost connection")[0], "NONE")
        self.connected(self.zk)
        self.zk.retry(self.zk.get_children, self.root, watch=events)
        self.zk.create(self.root + "/x")
        self.assertEqual(events.next("a watch set after the restart fires"), ("CHILD", self.root))

    def test_an_unfinished_session_expires_after_the_restart(self):
        proxy = Proxy()
        self.addCleanup(proxy.close)
        silent = self.client(port=proxy.port, timeout=5.0)  # long enough to look before it expires
        path = silent.create(self.root + "/e", ephemeral=True)
        proxy.deaf()
        Server.restart()
        self.connected(self.zk)
        self.assertIsNotNone(self.zk.retry(self.zk.exists, path), "its timeout starts anew with the server")
        wait_for("the session expires on the restarted server", lambda: self.zk.exists(path) is None)

    def test_three_kills_in_a_row_lose_nothing(self):
        session = self.zk.client_id
        paths = []
        for turn in range(3):
            paths.append(self.zk.retry(self.zk.create, f"{self.root}/{turn}", ephemeral=True))
            Server.restart()
            self.connected(self.zk)
        self.assertEqual(self.zk.client_id, session)
        self.assertEqual(set(self.zk.retry(self.zk.get_children, self.root)), {"0", "1", "2"})
