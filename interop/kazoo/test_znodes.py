"""Creates, reads, writes, versions, errors, transactions, ACLs, limits: what one request does."""

import threading

from kazoo.exceptions import (
    AuthFailedError,
    BadArgumentsError,
    BadVersionError,
    ConnectionLoss,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.states import KeeperState
from kazoo.security import (
    CREATOR_ALL_ACL,
    OPEN_ACL_UNSAFE,
    READ_ACL_UNSAFE,
    make_acl,
    make_digest_acl,
    make_digest_acl_credential,
)

from harness import DEADLINE, Case, wait_for

FRAME_LIMIT = 0xFFFFF  # jute.maxbuffer's default: the longest frame, its own length field not counted


class Creates(Case):
    def test_a_persistent_znode_has_its_data_and_a_fresh_stat(self):
        path, created = self.zk.create(self.root + "/p", b"data", include_data=True)
        data, stat = self.zk.get(path)
        self.assertEqual(path, self.root + "/p")
        self.assertEqual(data, b"data")
        self.assertEqual(stat, created, "create2 and getData show the same Stat")
        self.assertEqual((stat.version, stat.cversion, stat.aversion), (0, 0, 0))
        self.assertEqual((stat.ephemeralOwner, stat.dataLength, stat.numChildren), (0, 4, 0))
        self.assertEqual(stat.czxid, stat.mzxid)
        self.assertEqual(stat.czxid, stat.pzxid)
        self.assertEqual(stat.ctime, stat.mtime)
        self.assertGreater(stat.ctime, 0)

    def test_null_data_stays_null_and_empty_data_stays_empty(self):
        self.zk.create(self.root + "/null", None)
        self.zk.create(self.root + "/empty", b"")
        self.assertIsNone(self.zk.get(self.root + "/null")[0])
        self.assertEqual(self.zk.get(self.root + "/empty")[0], b"")
        self.assertEqual(self.zk.get(self.root + "/null")[1].dataLength, 0)

    def test_an_ephemeral_is_owned_by_the_session_and_takes_no_children(self):
        _, stat = self.zk.create(self.root + "/e", ephemeral=True, include_data=True)
        self.assertEqual(stat.ephemeralOwner, self.zk.client_id[0])
        with self.assertRaises(NoChildrenForEphemeralsError):
            self.zk.create(self.root + "/e/child")

    def test_sequence_numbers_count_every_create_under_the_parent(self):
        first = self.zk.create(self.root + "/s-", sequence=True)
        self.zk.create(self.root + "/plain")
        third = self.zk.create(self.root + "/s-", sequence=True)
        self.zk.delete(third)
        fourth = self.zk.create(self.root + "/t-", sequence=True, ephemeral=True)
        self.assertEqual(first, self.root + "/s-0000000000")
        self.assertEqual(third, self.root + "/s-0000000002")
        self.assertEqual(fourth, self.root + "/t-0000000003", "a delete does not give the number back")
        self.assertEqual(self.zk.get(fourth)[1].ephemeralOwner, self.zk.client_id[0])

    def test_a_sequential_child_may_have_digits_only(self):
        self.assertEqual(self.zk.create(self.root + "/", sequence=True), self.root + "/0000000000")

    def test_a_failed_create_uses_no_sequence_number(self):
        self.zk.create(self.root + "/taken")
        with self.assertRaises(NodeExistsError):
            self.zk.create(self.root + "/taken")
        self.assertEqual(self.zk.create(self.root + "/s", sequence=True), self.root + "/s0000000001")

    def test_makepath_creates_the_parents(self):
        self.assertEqual(self.zk.create(self.root + "/a/b/c", b"x", makepath=True), self.root + "/a/b/c")
        self.assertEqual(self.zk.get(self.root + "/a/b")[0], b"")

    def test_create_errors(self):
        self.zk.create(self.root + "/x")
        for error, path in (
            (NodeExistsError, self.root + "/x"),
            (NodeExistsError, "/"),
            (NoNodeError, self.root + "/missing/child"),
            (BadArgumentsError, self.root + "/nul\0"),
            (BadArgumentsError, self.root + "/control\x01"),
            (BadArgumentsError, self.root + "/control\x7f"),
            (BadArgumentsError, self.root + "/private\ue000"),
            (BadArgumentsError, self.root + "/emoji\U0001f600"),
            (BadArgumentsError, self.root + "/special\ufff0"),
        ):
            with self.subTest(path=path, error=error.__name__), self.assertRaises(error):
                self.zk.create(path)

    def test_unicode_names_come_back_as_they_went(self):
        names = {"ñandú", "日本語", "Ωmega", "a b", "...", ".hidden", "\uf900", "x" * 1000}
        for name in names:
            created = self.zk.create(f"{self.root}/{name}", name.encode())
            self.assertEqual(created, f"{self.root}/{name}")
        self.assertEqual(set(self.zk.get_children(self.root)), names)
        for name in names:
            self.assertEqual(self.zk.get(f"{self.root}/{name}")[0], name.encode())

    def test_racing_sequential_creates_get_distinct_consecutive_numbers(self):
        clients = self.clients(6)

        def create(client):
            return [client.create(self.root + "/n-", sequence=True) for _ in range(50)]

        made = self.run_all("sequential creates of six clients", [lambda c=c: create(c) for c in clients])
        for own in made:
            self.assertEqual(own, sorted(own), "one client's numbers rise")
        numbers = sorted(int(path[-10:]) for own in made for path in own)
        self.assertEqual(numbers, list(range(300)))

    def test_of_racing_creates_of_one_path_exactly_one_wins(self):
        clients = self.clients(6)

        def create(client, path):
            try:
                client.create(path, str(client.client_id[0]).encode())
            except NodeExistsError:
                return None
            return client.client_id[0]

        for turn in range(10):
            path = f"{self.root}/{turn}"
            made = self.run_all("racing creates", [lambda c=c, p=path: create(c, p) for c in clients])
            winners = [winner for winner in made if winner is not None]
            self.assertEqual(len(winners), 1, "exactly one of six creates of one path succeeds")
            self.assertEqual(self.zk.get(path)[0], str(winners[0]).encode())


class ReadsAndWrites(Case):
    def test_set_raises_the_version_and_only_what_it_should(self):
        path, created = self.zk.create(self.root + "/v", b"one", include_data=True)
        stat = self.zk.set(path, b"three")
        self.assertEqual(stat.version, 1)
        self.assertGreater(stat.mzxid, created.mzxid)
        self.assertEqual((stat.czxid, stat.pzxid, stat.ctime), (created.czxid, created.pzxid, created.ctime))
        self.assertEqual((stat.cversion, stat.aversion, stat.dataLength), (0, 0, 5))
        self.assertEqual(self.zk.set(path, b"three").version, 2, "the same bytes raise the version too")
        self.assertEqual(self.zk.get(path), (b"three", self.zk.exists(path)))

    def test_versions_are_compared_and_minus_one_matches_any(self):
        path = self.zk.create(self.root + "/v", b"0")
        self.assertEqual(self.zk.set(path, b"1", version=0).version, 1)
        for stale in (0, 2, -2, 2**31 - 1):
            with self.subTest(version=stale), self.assertRaises(BadVersionError):
                self.zk.set(path, b"2", version=stale)
            with self.subTest(version=stale), self.assertRaises(BadVersionError):
                self.zk.delete(path, version=stale)
        self.assertEqual(self.zk.get(path)[0], b"1", "a refused set changes nothing")
        self.assertEqual(self.zk.set(path, b"2", version=-1).version, 2)
        self.zk.delete(path, version=2)
        self.assertIsNone(self.zk.exists(path))

    def test_errors_of_reads_and_writes_on_missing_znodes(self):
        missing = self.root + "/missing"
        self.assertIsNone(self.zk.exists(missing))
        for name, call in (
            ("get", lambda: self.zk.get(missing)),
            ("get_children", lambda: self.zk.get_children(missing)),
            ("get_acls", lambda: self.zk.get_acls(missing)),
            ("set", lambda: self.zk.set(missing, b"")),
            ("set_acls", lambda: self.zk.set_acls(missing, OPEN_ACL_UNSAFE)),
            ("delete", lambda: self.zk.delete(missing)),
        ):
            with self.subTest(name), self.assertRaises(NoNodeError):
                call()

    def test_a_znode_with_children_is_not_deleted(self):
        self.zk.create(self.root + "/parent")
        self.zk.create(self.root + "/parent/child")
        with self.assertRaises(NotEmptyError):
            self.zk.delete(self.root + "/parent")
        self.zk.delete(self.root + "/parent", recursive=True)
        self.assertIsNone(self.zk.exists(self.root + "/parent"))

    def test_reserved_znodes_exist_and_cannot_be_deleted(self):
        self.assertIn("zookeeper", self.zk.get_children("/"))
        self.assertEqual(set(self.zk.get_children("/zookeeper")), {"config", "quota"})
        for path in ("/zookeeper", "/zookeeper/quota", "/zookeeper/config"):
            with self.subTest(path), self.assertRaises(BadArgumentsError):
                self.zk.delete(path)
        with self.assertRaises(NoAuthError):
            self.zk.set("/zookeeper/config", b"x")

    def test_children_are_listed_and_counted(self):
        for name in "abc":
            self.zk.create(f"{self.root}/{name}")
        self.zk.create(self.root + "/a/below")
        self.zk.delete(self.root + "/b")
        children, stat = self.zk.get_children(self.root, include_data=True)
        self.assertEqual(set(children), {"a", "c"})
        self.assertEqual(set(self.zk.get_children(self.root)), {"a", "c"})
        self.assertEqual(stat.numChildren, 2)
        self.assertEqual(stat.cversion, 4, "three creates and a delete")
        self.assertEqual(stat.version, 0)
        self.assertGreater(stat.pzxid, stat.mzxid, "a child's delete moves pzxid")

    def test_many_children_are_listed_whole(self):
        names = {f"child-with-a-rather-long-name-{number:05}" for number in range(3000)}
        for result in [self.zk.create_async(f"{self.root}/{name}") for name in names]:
            result.get(timeout=DEADLINE)
        self.assertEqual(set(self.zk.get_children(self.root)), names)
        self.assertEqual(self.zk.exists(self.root).numChildren, 3000)

    def test_sync_echoes_its_path(self):
        self.assertEqual(self.zk.sync(self.root), self.root)
        self.assertEqual(self.zk.sync("/no/such/path"), "/no/such/path")

    def test_a_read_after_sync_sees_what_another_client_wrote(self):
        other = self.client()
        path = self.zk.create(self.root + "/x", b"")
        for turn in range(50):
            self.zk.set(path, str(turn).encode())
            other.sync(path)
            self.assertEqual(other.get(path)[0], str(turn).encode())

    def test_compare_and_set_of_racing_clients_loses_no_update(self):
        path = self.zk.create(self.root + "/count", b"0")

        def add(client):
            for _ in range(25):
                while True:
                    data, stat = client.get(path)
                    try:
                        client.set(path, str(int(data) + 1).encode(), version=stat.version)
                        break
                    except BadVersionError:
                        continue

        self.run_all("compare-and-set", [lambda c=c: add(c) for c in self.clients(6)])
        data, stat = self.zk.get(path)
        self.assertEqual(data, b"150")
        self.assertEqual(stat.version, 150)

    def test_four_letter_words_answer_on_the_client_port(self):
        self.assertEqual(self.zk.command(b"ruok"), "imok")
        self.assertIn("Mode: standalone", self.zk.command(b"srvr"))
        self.assertEqual(self.zk.command(b"isro"), "rw")
        self.assertGreaterEqual(self.zk.server_version(), (3, 9))


class Limits(Case):
    def create_data(self, path, frame):
        """Data that makes the create request's frame `frame` bytes long (one ACL entry, world:anyone)."""
        return b"d" * (frame - (8 + 4 + len(path) + 4 + (4 + 4 + 4 + 5 + 4 + 6) + 4))

    def test_the_longest_frame_is_taken_and_read_back(self):
        path = self.root + "/long"
        data = self.create_data(path, FRAME_LIMIT)
        self.zk.create(path, data)
        self.assertEqual(self.zk.get(path)[0], data)
        self.assertEqual(self.zk.exists(path).dataLength, len(data))

    def test_a_longer_frame_closes_the_connection_but_not_the_session(self):
        self.zk.create(self.root + "/e", ephemeral=True)
        session = self.zk.client_id
        path = self.root + "/long"
        with self.assertRaises(ConnectionLoss):
            self.zk.create(path, self.create_data(path, FRAME_LIMIT + 1))
        self.connected(self.zk)
        self.assertEqual(self.zk.retry(self.zk.exists, self.root + "/e").ephemeralOwner, session[0])
        self.assertEqual(self.zk.client_id, session, "the session outlives the refused frame")
        self.assertIsNone(self.zk.exists(path), "nothing of the refused frame was done")


class Pipelines(Case):
    def test_replies_of_pipelined_requests_come_in_order(self):
        # kazoo itself drops the connection when a reply's xid is not that of its oldest request.
        results = []
        session = self.zk.client_id
        path = self.zk.create(self.root + "/x", b"-1")
        for turn in range(1000):
            results.append(self.zk.set_async(path, str(turn).encode()))
            results.append(self.zk.get_async(path))
            results.append(self.zk.exists_async(self.root + "/missing"))
            results.append(self.zk.create_async(self.root + "/s-", sequence=True))
        for result in results:
            result.wait(DEADLINE)
        for turn in range(1000):
            self.assertEqual(results[4 * turn].get().version, turn + 1)
            self.assertEqual(results[4 * turn + 1].get()[0], str(turn).encode(), "a read sees the write before it")
            self.assertIsNone(results[4 * turn + 2].get())
            self.assertEqual(results[4 * turn + 3].get(), f"{self.root}/s-{turn + 1:010}")
        self.assertEqual(self.zk.client_id, session)

    def test_errors_keep_their_place_among_pipelined_replies(self):
        results = []
        for turn in range(300):
            results.append((None, self.zk.create_async(f"{self.root}/{turn}")))
            results.append((NodeExistsError, self.zk.create_async(f"{self.root}/{turn}")))
            results.append((BadVersionError, self.zk.set_async(f"{self.root}/{turn}", b"", version=7)))
            results.append((NoNodeError, self.zk.delete_async(f"{self.root}/{turn}/none")))
        for error, result in results:
            result.wait(DEADLINE)
            self.assertIs(type(result.exception), error or type(None))

    def test_pipelines_of_many_clients_do_not_mix(self):
        def pipeline(index, client):
            parent = client.create(f"{self.root}/{index}")
            results = [client.create_async(f"{parent}/n", b"%d" % index, sequence=True) for _ in range(200)]
            return [result.get(timeout=DEADLINE) for result in results]

        clients = self.clients(8)
        made = self.run_all(
            "pipelines of eight clients", [lambda i=i, c=c: pipeline(i, c) for i, c in enumerate(clients)]
        )
        for index, paths in enumerate(made):
            self.assertEqual(paths, [f"{self.root}/{index}/n{number:010}" for number in range(200)])


class Transactions(Case):
    def test_a_transaction_answers_each_operation(self):
        self.zk.create(self.root + "/old", b"old")
        transaction = self.zk.transaction()
        transaction.check(self.root + "/old", 0)
        transaction.create(self.root + "/new", b"new")
        transaction.set_data(self.root + "/old", b"newer", version=0)
        transaction.create(self.root + "/e", ephemeral=True)
        transaction.create(self.root + "/s-", sequence=True)
        transaction.delete(self.root + "/new", version=0)
        results = transaction.commit()
        self.assertEqual(results[:2], [True, self.root + "/new"])
        self.assertEqual(results[2].version, 1)
        self.assertEqual(results[3:], [self.root + "/e", self.root + "/s-0000000003", True])
        self.assertEqual(self.zk.get(self.root + "/old")[0], b"newer")
        self.assertEqual(self.zk.exists(self.root + "/e").ephemeralOwner, self.zk.client_id[0])
        self.assertIsNone(self.zk.exists(self.root + "/new"))
        zxids = {self.zk.exists(self.root + "/old").mzxid, self.zk.exists(self.root + "/e").czxid}
        self.assertEqual(len(zxids), 1, "all parts share one zxid")

    def test_parts_see_earlier_parts(self):
        transaction = self.zk.transaction()
        transaction.create(self.root + "/a")
        transaction.create(self.root + "/a/b")
        transaction.set_data(self.root + "/a/b", b"1", version=0)
        transaction.set_data(self.root + "/a/b", b"2", version=1)
        transaction.delete(self.root + "/a/b", version=2)
        transaction.check(self.root + "/a", 0)
        results = transaction.commit()
        self.assertEqual([results[2].version, results[3].version], [1, 2])
        self.assertEqual(self.zk.get_children(self.root + "/a"), [])

    def test_a_failed_transaction_names_its_failure_and_leaves_nothing(self):
        self.zk.create(self.root + "/x", b"x")
        transaction = self.zk.transaction()
        transaction.create(self.root + "/y")
        transaction.create(self.root + "/s-", sequence=True)
        transaction.set_data(self.root + "/x", b"z", version=9)
        transaction.delete(self.root + "/x")
        transaction.check(self.root + "/x", 0)
        results = transaction.commit()
        self.assertEqual(
            [type(result) for result in results],
            [RolledBackError, RolledBackError, BadVersionError, RuntimeInconsistency, RuntimeInconsistency],
        )
        self.assertEqual(self.zk.get_children(self.root), ["x"])
        self.assertEqual(self.zk.get(self.root + "/x")[0], b"x")
        self.assertEqual(
            self.zk.create(self.root + "/s-", sequence=True),
            self.root + "/s-0000000001",
            "the sequence numbers were given back",
        )

    def test_the_error_of_each_kind_of_part(self):
        self.zk.create(self.root + "/x")
        self.zk.create(self.root + "/x/child")
        for error, add in (
            (NodeExistsError, lambda t: t.create(self.root + "/x")),
            (NoNodeError, lambda t: t.create(self.root + "/none/child")),
            (NoNodeError, lambda t: t.delete(self.root + "/none")),
            (NotEmptyError, lambda t: t.delete(self.root + "/x")),
            (BadVersionError, lambda t: t.delete(self.root + "/x/child", version=1)),
            (NoNodeError, lambda t: t.set_data(self.root + "/none", b"")),
            (NoNodeError, lambda t: t.check(self.root + "/none", -1)),
            (BadVersionError, lambda t: t.check(self.root + "/x", 1)),
        ):
            transaction = self.zk.transaction()
            add(transaction)
            with self.subTest(error=error.__name__, part=transaction.operations[0]):
                self.assertIs(type(transaction.commit()[0]), error)

    def test_an_empty_transaction_is_answered(self):
        self.assertEqual(self.zk.transaction().commit(), [])

    def test_a_large_transaction_is_one_change(self):
        transaction = self.zk.transaction()
        for number in range(2000):
            transaction.create(f"{self.root}/{number:05}", b"x" * 100)
        self.assertEqual(transaction.commit(), [f"{self.root}/{number:05}" for number in range(2000)])
        self.assertEqual(self.zk.exists(self.root).numChildren, 2000)
        ends = [self.zk.exists(f"{self.root}/{name}").czxid for name in ("00000", "01999")]
        self.assertEqual(ends[0], ends[1])

    def test_other_clients_see_all_of_a_transaction_or_nothing(self):
        names = [f"{self.root}/{name}" for name in "abcdef"]
        for name in names:
            self.zk.create(name, b"0")
        done = threading.Event()
        seen = []

        def read(client):
            while not done.is_set():
                # One transaction that checks equal versions: it fails when it sees half of another.
                version = client.exists(names[0]).version
                transaction = client.transaction()
                for name in names:
                    transaction.check(name, version)
                seen.append([type(result) for result in transaction.commit()])

        def write():
            try:
                for turn in range(100):
                    transaction = self.zk.transaction()
                    for name in names:
                        transaction.set_data(name, str(turn).encode(), version=turn)
                    if any(isinstance(result, Exception) for result in transaction.commit()):
                        raise AssertionError("the writer's transaction failed")
            finally:
                done.set()

        readers = self.clients(3)
        self.run_all("transactions beside readers", [write] + [lambda c=c: read(c) for c in readers])
        for types in seen:
            # Behind the writer: the first check fails, never a later one.
            self.assertTrue(types[0] is BadVersionError or types == [bool] * 6, f"half a transaction: {types}")


class Acls(Case):
    def test_an_open_znode_shows_world_anyone(self):
        acls, stat = self.zk.get_acls(self.root)
        self.assertEqual(acls, OPEN_ACL_UNSAFE)
        self.assertEqual(stat.aversion, 0)

    def test_read_only_for_the_world(self):
        path = self.zk.create(self.root + "/r", b"x", acl=READ_ACL_UNSAFE)
        self.assertEqual(self.zk.get(path)[0], b"x")
        for name, call in (
            ("set", lambda: self.zk.set(path, b"y")),
            ("create below", lambda: self.zk.create(path + "/child")),
            ("set_acls", lambda: self.zk.set_acls(path, OPEN_ACL_UNSAFE)),
        ):
            with self.subTest(name), self.assertRaises(NoAuthError):
                call()

    def test_each_permission_guards_its_operations(self):
        for permission, allowed in (
            ("read", {"get", "children", "exists", "get_acls"}),
            ("write", {"set"}),
            ("create", {"create"}),
            ("delete", {"delete"}),
            ("admin", {"get_acls", "set_acls"}),
        ):
            # The child exists before the ACL closes its parent.
            path = self.zk.create(f"{self.root}/{permission}")
            self.zk.create(path + "/child")
            acl = make_acl("world", "anyone", **{permission: True})
            self.zk.set_acls(path, [acl])
            for name, call in (
                ("get", lambda: self.zk.get(path)),
                ("children", lambda: self.zk.get_children(path)),
                ("exists", lambda: self.zk.exists(path)),
                ("get_acls", lambda: self.zk.get_acls(path)),
                ("set", lambda: self.zk.set(path, b"")),
                ("create", lambda: self.zk.create(path + "/new")),
                ("delete", lambda: self.zk.delete(path + "/child")),
                ("set_acls", lambda: self.zk.set_acls(path, [acl])),
            ):
                with self.subTest(permission=permission, operation=name):
                    if name in allowed:
                        call()
                    else:
                        self.assertRaises(NoAuthError, call)

    def test_digest_lets_only_its_user_in(self):
        path = self.zk.create(self.root + "/d", b"x", acl=[make_digest_acl("user", "password", all=True)])
        stranger, wrong, right = self.clients(3)
        wrong.add_auth("digest", "user:wrong")
        self.assertTrue(right.add_auth("digest", "user:password"))
        for who, client in (("stranger", stranger), ("wrong password", wrong), ("creator", self.zk)):
            with self.subTest(who), self.assertRaises(NoAuthError):
                client.get(path)
        self.assertEqual(right.get(path)[0], b"x")
        self.assertEqual(right.set(path, b"y").version, 1)

    def test_auth_data_is_sent_at_connect(self):
        path = self.zk.create(self.root + "/d", acl=[make_digest_acl("user", "password", all=True)])
        client = self.client(auth_data=[("digest", "other:x"), ("digest", "user:password")])
        self.assertEqual(client.get(path)[0], b"")

    def test_the_scheme_auth_becomes_every_digest_of_the_connection(self):
        client = self.client(auth_data=[("digest", "u:p"), ("digest", "v:q")])
        path = client.create(self.root + "/a", acl=CREATOR_ALL_ACL)
        acls = {(acl.perms, acl.id.scheme, acl.id.id) for acl in client.get_acls(path)[0]}
        self.assertEqual(
            acls,
            {
                (31, "digest", make_digest_acl_credential("u", "p")),
                (31, "digest", make_digest_acl_credential("v", "q")),
            },
        )
        self.assertEqual(make_digest_acl_credential("u", "p"), "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=")
        with self.assertRaises(InvalidACLError):
            self.zk.create(self.root + "/none", acl=CREATOR_ALL_ACL)

    def test_a_digest_is_hidden_from_those_without_admin(self):
        digest = make_digest_acl("user", "password", all=True)
        path = self.zk.create(self.root + "/d", acl=[digest, make_acl("world", "anyone", read=True)])
        acls = {(acl.perms, acl.id.scheme, acl.id.id) for acl in self.zk.get_acls(path)[0]}
        self.assertEqual(acls, {(31, "digest", "user:x"), (1, "world", "anyone")})

    def test_ip(self):
        here = self.zk.create(self.root + "/here", b"x", acl=[make_acl("ip", "127.0.0.1", all=True)])
        near = self.zk.create(self.root + "/near", b"x", acl=[make_acl("ip", "127.0.0.0/8", all=True)])
        away = self.zk.create(self.root + "/away", b"x", acl=[make_acl("ip", "10.1.2.3", all=True)])
        self.assertEqual(self.zk.get(here)[0], b"x")
        self.assertEqual(self.zk.get(near)[0], b"x")
        with self.assertRaises(NoAuthError):
            self.zk.get(away)

    def test_invalid_acls_are_refused_before_anything_else(self):
        for scheme, credential in (
            ("nosuchscheme", "x"),
            ("world", "other"),
            ("digest", "nocolon"),
            ("ip", "not an address"),
            ("ip", "127.0.0.1/33"),
            ("super", "x"),
        ):
            acl = [make_acl(scheme, credential, all=True)]
            with self.subTest(scheme=scheme, id=credential), self.assertRaises(InvalidACLError):
                self.zk.create(self.root + "/missing/x", acl=acl)
            with self.subTest(scheme=scheme, id=credential), self.assertRaises(InvalidACLError):
                self.zk.set_acls(self.root, acl)

    def test_set_acls_compares_and_raises_aversion_only(self):
        before = self.zk.exists(self.root)
        stat = self.zk.set_acls(self.root, OPEN_ACL_UNSAFE, version=0)
        self.assertEqual((stat.aversion, stat.version, stat.mzxid), (1, before.version, before.mzxid))
        with self.assertRaises(BadVersionError):
            self.zk.set_acls(self.root, OPEN_ACL_UNSAFE, version=0)

    def test_the_delete_permission_is_the_parents(self):
        parent = self.zk.create(self.root + "/p", acl=[make_acl("world", "anyone", read=True, create=True)])
        self.zk.create(parent + "/child")
        with self.assertRaises(NoAuthError):
            self.zk.delete(parent + "/child")

    def test_an_unknown_scheme_fails_and_closes(self):
        client = self.client()
        with self.assertRaises(AuthFailedError):
            client.add_auth("nosuchscheme", "x:y")
        wait_for(
            "the client knows that its authentication failed",
            lambda: client.client_state in (KeeperState.AUTH_FAILED, KeeperState.CLOSED),
        )

    def test_super_passes_every_acl(self):
        path = self.zk.create(self.root + "/d", b"x", acl=[make_digest_acl("user", "password", all=True)])
        client = self.client(auth_data=[("digest", "super:secret")])
        self.assertEqual(client.get(path)[0], b"x")
        client.delete(path)

    def test_acls_hold_within_transactions(self):
        path = self.zk.create(self.root + "/d", b"x", acl=[make_digest_acl("user", "password", all=True)])
        transaction = self.zk.transaction()
        transaction.create(self.root + "/new")
        transaction.set_data(path, b"y")
        results = transaction.commit()
        self.assertEqual([type(result) for result in results], [RolledBackError, NoAuthError])
        self.assertIsNone(self.zk.exists(self.root + "/new"))


class Chroots(Case):
    def test_paths_are_below_the_chroot(self):
        client = self.client(chroot=self.root)
        self.assertEqual(client.create("/x", b"data"), "/x")
        self.assertEqual(client.create("/s-", sequence=True), "/s-0000000001")
        self.assertEqual(self.zk.get(self.root + "/x")[0], b"data")
        self.assertEqual(set(client.get_children("/")), {"x", "s-0000000001"})
        transaction = client.transaction()
        transaction.create("/t")
        self.assertEqual(transaction.commit(), ["/t"])
        self.assertIsNotNone(self.zk.exists(self.root + "/t"))

    def test_events_are_told_without_the_chroot(self):
        client = self.client(chroot=self.root)
        events = self.events(client)
        client.exists("/x", watch=events)
        self.zk.create(self.root + "/x")
        self.assertEqual(events.next("creation below the chroot"), ("CREATED", "/x"))

    def test_a_missing_chroot_can_be_created_by_its_client(self):
        client = self.client(chroot=self.root + "/chroot")
        with self.assertRaises(NoNodeError):
            client.create("/x")
        client.ensure_path("/x")
        self.assertIsNotNone(self.zk.exists(self.root + "/chroot/x"))
