"""One-shot watches: each fires once, for the right change, on the right connection."""

from harness import DEADLINE, Case


class OneShots(Case):
    def test_a_data_watch_fires_once_for_a_change_by_another_client(self):
        path = self.zk.create(self.root + "/x")
        events, other = self.events(), self.client()
        self.zk.get(path, watch=events)
        other.set(path, b"1")
        self.assertEqual(events.next("set fires the data watch"), ("CHANGED", path))
        other.set(path, b"2")
        self.zk.sync(path)
        self.assertEqual(events.rest(), [], "a one-shot watch fires once")

    def test_a_data_watch_fires_for_the_clients_own_change(self):
        path = self.zk.create(self.root + "/x")
        events = self.events()
        self.zk.get(path, watch=events)
        self.zk.set(path, b"same")
        self.assertEqual(events.rest(), [("CHANGED", path)])

    def test_an_exists_watch_sees_create_change_and_delete(self):
        path = self.root + "/x"
        events = self.events()
        for change, event in (
            (lambda: self.zk.create(path), "CREATED"),
            (lambda: self.zk.set(path, b""), "CHANGED"),
            (lambda: self.zk.delete(path), "DELETED"),
        ):
            self.zk.exists(path, watch=events)
            change()
            self.assertEqual(events.rest(), [(event, path)])

    def test_a_child_watch_sees_creates_and_deletes_but_not_data(self):
        events = self.events()
        self.zk.get_children(self.root, watch=events)
        self.zk.set(self.root, b"data")
        self.assertEqual(events.rest(), [], "data of the watched znode is no child event")
        self.zk.create(self.root + "/x")
        self.assertEqual(events.rest(), [("CHILD", self.root)])
        self.zk.get_children(self.root, watch=events)
        self.zk.set(self.root + "/x", b"data")
        self.zk.create(self.root + "/x/y")
        self.assertEqual(events.rest(), [], "grandchildren and data of children are no child events")
        self.zk.delete(self.root + "/x/y")
        self.zk.delete(self.root + "/x")
        self.assertEqual(events.rest(), [("CHILD", self.root)])

    def test_delete_fires_data_and_child_watches_of_the_znode_and_of_its_parent(self):
        path = self.zk.create(self.root + "/x")
        data, child, parent = self.events(), self.events(), self.events()
        self.zk.get(path, watch=data)
        self.zk.get_children(path, watch=child)
        self.zk.get_children(self.root, watch=parent)
        self.zk.delete(path)
        self.assertEqual(data.rest(), [("DELETED", path)])
        self.assertEqual(child.rest(), [("DELETED", path)])
        self.assertEqual(parent.rest(), [("CHILD", self.root)])

    def test_failed_changes_and_acl_changes_fire_nothing(self):
        path = self.zk.create(self.root + "/x")
        events = self.events()
        self.zk.get(path, watch=events)
        self.zk.get_children(path, watch=events)
        for result in (
            self.zk.set_async(path, b"", version=5),
            self.zk.delete_async(path, version=5),
            self.zk.create_async(path),
            self.zk.create_async(path + "/missing/child"),
            self.zk.set_acls_async(path, self.zk.get_acls(path)[0]),
            self.zk.sync_async(path),
        ):
            result.wait(DEADLINE)
        transaction = self.zk.transaction()
        transaction.set_data(path, b"x")
        transaction.check(path, 9)
        transaction.commit()
        self.assertEqual(events.rest(), [])

    def test_a_read_that_fails_leaves_no_watch(self):
        path = self.root + "/missing"
        events = self.events()
        for call in (self.zk.get_async, self.zk.get_children_async):
            call(path, watch=events).wait(DEADLINE)
        self.zk.create(path)
        self.assertEqual(events.rest(), [])

    def test_a_transaction_fires_the_watches_of_its_parts(self):
        path = self.zk.create(self.root + "/x")
        data, child, created = self.events(), self.events(), self.events()
        self.zk.get(path, watch=data)
        self.zk.get_children(self.root, watch=child)
        self.zk.exists(self.root + "/y", watch=created)
        transaction = self.zk.transaction()
        transaction.set_data(path, b"1")
        transaction.create(self.root + "/y")
        transaction.delete(path)
        transaction.commit()
        self.assertEqual(data.rest(), [("CHANGED", path)])
        self.assertEqual(child.rest(), [("CHILD", self.root)])
        self.assertEqual(created.rest(), [("CREATED", self.root + "/y")])

    def test_the_close_of_a_session_fires_the_watches_of_its_ephemerals(self):
        other = self.client(timeout=30.0)
        path = other.create(self.root + "/e", ephemeral=True)
        data, child = self.events(), self.events()
        self.zk.get(path, watch=data)
        self.zk.get_children(self.root, watch=child)
        other.stop()
        self.assertEqual(data.next("closeSession deletes the ephemeral at once"), ("DELETED", path))
        self.assertEqual(child.next("closeSession changes the parent"), ("CHILD", self.root))
        self.assertEqual(self.zk.get_children(self.root), [])

    def test_every_watching_client_is_told(self):
        path = self.zk.create(self.root + "/x")
        clients = self.clients(10)
        watchers = [self.events(client) for client in clients]
        for client, events in zip(clients, watchers):
            client.get(path, watch=events)
        self.zk.set(path, b"1")
        for events in watchers:
            self.assertEqual(events.next("each of ten clients is told"), ("CHANGED", path))

    def test_many_watches_of_one_client_fire_each_for_its_own_znode(self):
        names = [f"{self.root}/{number}" for number in range(1000)]
        for result in [self.zk.create_async(name) for name in names]:
            result.get(timeout=DEADLINE)
        events, other = self.events(), self.client()
        for result in [self.zk.get_async(name, watch=events) for name in names]:
            result.get(timeout=DEADLINE)
        for result in [other.set_async(name, b"1") for name in names]:
            result.get(timeout=DEADLINE)
        self.zk.sync("/")
        wanted = [("CHANGED", name) for name in names]
        self.assertEqual(events.rest(), wanted, "events come in the order of the changes")

    def test_watches_die_with_the_connection_not_with_the_znode(self):
        path = self.zk.create(self.root + "/x")
        other = self.client()
        events = self.events(other)
        other.get(path, watch=events)
        self.assertIn(path, self.zk.command(b"wchp"), "the server lists the watch")
        other.stop()
        self.assertEqual(self.zk.set(path, b"1").version, 1)
        self.assertNotIn(path, self.zk.command(b"wchp"), "the server keeps no watch of a closed connection")
