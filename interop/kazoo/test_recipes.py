"""kazoo's recipes, each with several clients, and across a restart where they promise to outlive it."""

import datetime
import threading

from kazoo.exceptions import CancelledError, LockTimeout
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.recipe.lease import MultiNonBlockingLease, NonBlockingLease
from kazoo.recipe.lock import ReadLock, WriteLock
from kazoo.recipe.watchers import PatientChildrenWatch

from harness import DEADLINE, Case, Proxy, Server, wait_for


class Locks(Case):
    def test_a_lock_is_held_by_one_client_at_a_time(self):
        clients = self.clients(5)
        holders, overlaps, total = [], [], [0]

        def work(client):
            for _ in range(10):
                with client.Lock(self.root + "/lock", str(client.client_id[0])):
                    holders.append(client)
                    before = total[0]
                    if len(holders) != 1:
                        overlaps.append(len(holders))
                    client.exists("/")
                    total[0] = before + 1
                    holders.remove(client)

        self.run_all("five clients with one lock", [lambda c=c: work(c) for c in clients])
        self.assertEqual(overlaps, [])
        self.assertEqual(total[0], 50, "an update was lost under the lock")
        self.assertEqual(self.zk.get_children(self.root + "/lock"), [])

    def test_contenders_are_listed_in_their_order_and_served_in_it(self):
        clients = self.clients(4)
        locks = [client.Lock(self.root + "/lock", f"c{index}") for index, client in enumerate(clients)]
        served = []
        locks[0].acquire()

        def contend(index):
            locks[index].acquire()
            served.append(index)
            locks[index].release()

        threads = []
        for index in (2, 1, 3):
            threads.append(threading.Thread(target=contend, args=(index,), daemon=True))
            threads[-1].start()
            wait_for(f"c{index} queues for the lock", lambda: f"c{index}" in locks[0].contenders())
        self.assertEqual(locks[0].contenders(), ["c0", "c2", "c1", "c3"])
        locks[0].release()
        for thread in threads:
            thread.join(DEADLINE)
        self.assertEqual(served, [2, 1, 3])

    def test_a_held_lock_times_out_is_not_taken_and_can_be_cancelled(self):
        holder, waiter = self.clients(2)
        held = holder.Lock(self.root + "/lock", "holder")
        wanted = waiter.Lock(self.root + "/lock", "waiter")
        held.acquire()
        self.assertFalse(wanted.acquire(blocking=False))
        with self.assertRaises(LockTimeout):
            wanted.acquire(timeout=0.2)
        self.assertEqual(held.contenders(), ["holder"], "the one who gave up left no znode")
        cancelled = []

        def wait():
            try:
                wanted.acquire()
            except CancelledError:
                cancelled.append(True)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        wait_for("the waiter queues", lambda: held.contenders() == ["holder", "waiter"])
        wanted.cancel()
        thread.join(DEADLINE)
        self.assertEqual(cancelled, [True])
        held.release()
        self.assertTrue(wanted.acquire(timeout=DEADLINE))

    def test_a_lock_goes_to_the_next_when_its_holder_closes_or_expires(self):
        proxy = Proxy()
        self.addCleanup(proxy.close)
        expiring = self.client(port=proxy.port, timeout=2.0)
        closing = self.client(timeout=60.0)
        waiting = self.client()
        expiring.Lock(self.root + "/lock").acquire()
        second = threading.Thread(target=closing.Lock(self.root + "/lock").acquire, daemon=True)
        second.start()
        last = waiting.Lock(self.root + "/lock")
        wait_for("the second queues", lambda: len(self.zk.get_children(self.root + "/lock")) == 2)
        third = threading.Thread(target=last.acquire, daemon=True)
        third.start()
        wait_for("the third queues", lambda: len(self.zk.get_children(self.root + "/lock")) == 3)
        proxy.deaf()
        second.join(DEADLINE)
        self.assertFalse(second.is_alive(), "the expiry of its holder frees the lock")
        self.assertFalse(last.is_acquired)
        closing.stop()
        third.join(DEADLINE)
        self.assertTrue(last.is_acquired, "the close of its holder frees the lock")

    def test_a_lock_is_kept_across_a_restart(self):
        holder, waiter = self.clients(2)
        held, wanted = holder.Lock(self.root + "/lock"), waiter.Lock(self.root + "/lock")
        held.acquire()
        thread = threading.Thread(target=wanted.acquire, daemon=True)
        thread.start()
        wait_for("the waiter queues", lambda: len(self.zk.get_children(self.root + "/lock")) == 2)
        Server.restart()
        self.connected(holder)
        self.connected(waiter)
        self.connected(self.zk)
        self.assertEqual(len(self.zk.retry(self.zk.get_children, self.root + "/lock")), 2)
        self.assertFalse(wanted.is_acquired)
        holder.retry(held.release)
        thread.join(DEADLINE)
        self.assertTrue(wanted.is_acquired)

    def test_readers_share_and_writers_exclude(self):
        path = self.root + "/rw"
        one, two, three = self.clients(3)
        first, second, writer = ReadLock(one, path), ReadLock(two, path), WriteLock(three, path)
        self.assertTrue(first.acquire(timeout=DEADLINE))
        self.assertTrue(second.acquire(timeout=DEADLINE), "two readers at once")
        self.assertFalse(writer.acquire(blocking=False), "no writer beside readers")
        first.release()
        self.assertFalse(writer.acquire(blocking=False), "no writer beside the last reader")
        second.release()
        self.assertTrue(writer.acquire(timeout=DEADLINE))
        self.assertFalse(first.acquire(blocking=False), "no reader beside the writer")
        writer.release()
        self.assertTrue(first.acquire(timeout=DEADLINE))

    def test_a_semaphore_has_so_many_leases(self):
        clients = self.clients(6)
        lock = threading.Lock()
        inside, most = [0], [0]

        def work(client):
            for _ in range(4):
                with client.Semaphore(self.root + "/semaphore", max_leases=3):
                    with lock:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                    client.exists("/")
                    with lock:
                        inside[0] -= 1

        self.run_all("six clients with three leases", [lambda c=c: work(c) for c in clients])
        self.assertLessEqual(most[0], 3)
        semaphores = [client.Semaphore(self.root + "/semaphore", f"h{i}", 3) for i, client in enumerate(clients)]
        for semaphore in semaphores[:3]:
            self.assertTrue(semaphore.acquire(timeout=DEADLINE))
        self.assertEqual(set(semaphores[0].lease_holders()), {"h0", "h1", "h2"})
        self.assertFalse(semaphores[3].acquire(blocking=False), "three leases are taken")
        semaphores[1].release()
        self.assertTrue(semaphores[3].acquire(timeout=DEADLINE))

    def test_an_election_has_one_leader_after_another(self):
        clients = self.clients(4)
        leaders, led = [], []

        def lead(name):
            leaders.append(name)
            if len(leaders) != 1:
                raise AssertionError(f"two leaders: {leaders}")
            self.zk.exists("/")
            led.append(leaders.pop())

        elections = [client.Election(self.root + "/election", f"n{i}") for i, client in enumerate(clients)]
        self.run_all(
            "four candidates lead in turn", [lambda e=e, i=i: e.run(lead, i) for i, e in enumerate(elections)]
        )
        self.assertEqual(sorted(led), [0, 1, 2, 3])
        self.assertEqual(elections[0].contenders(), [])

    def test_a_closing_leader_is_followed_by_the_next(self):
        first, second = self.clients(2)
        led = threading.Event()
        leads, ends = threading.Event(), threading.Event()

        def rule():
            leads.set()
            ends.wait(DEADLINE)

        threading.Thread(
            target=lambda: self.ignore(first.Election(self.root + "/e", "first").run, rule), daemon=True
        ).start()
        self.assertTrue(leads.wait(DEADLINE))
        threading.Thread(target=second.Election(self.root + "/e", "second").run, args=(led.set,), daemon=True).start()
        wait_for("the second queues", lambda: self.zk.Election(self.root + "/e").contenders() == ["first", "second"])
        self.assertFalse(led.is_set())
        first.stop()
        self.assertTrue(led.wait(DEADLINE), "the next leads when the leader's session closes")
        ends.set()

    @staticmethod
    def ignore(function, *arguments):
        try:
            function(*arguments)
        except Exception:  # the client was closed under it, which is the point
            pass


class Queues(Case):
    def test_a_queue_gives_by_priority_then_by_age(self):
        queue = self.zk.Queue(self.root + "/queue")
        for value, priority in ((b"late", 200), (b"first", 50), (b"second", 50), (b"normal", 100)):
            queue.put(value, priority)
        self.assertEqual(len(queue), 4)
        self.assertEqual([queue.get() for _ in range(5)], [b"first", b"second", b"normal", b"late", None])

    def test_a_queue_gives_each_item_to_one_of_many_takers(self):
        queue = self.zk.Queue(self.root + "/queue")
        for number in range(60):
            queue.put(b"%d" % number)
        # Each item is taken once although the recipe gets and deletes in two steps: the loser's delete is -101.

        def take(client):
            own, taken = client.Queue(self.root + "/queue"), []
            while (item := own.get()) is not None:
                taken.append(item)
            return taken

        taken = self.run_all("four takers", [lambda c=c: take(c) for c in self.clients(4)])
        items = [int(item) for own in taken for item in own]
        self.assertEqual(sorted(items), list(range(60)))

    def test_a_locking_queue_keeps_what_is_not_consumed(self):
        one, two = self.clients(2)
        first, second = one.LockingQueue(self.root + "/queue"), two.LockingQueue(self.root + "/queue")
        first.put_all([b"a", b"b"])
        first.put(b"urgent", priority=1)
        self.assertEqual(len(first), 3)
        self.assertEqual(first.get(timeout=DEADLINE), b"urgent")
        self.assertTrue(first.holds_lock())
        self.assertEqual(second.get(timeout=DEADLINE), b"a", "a locked entry is not given twice")
        self.assertTrue(first.consume())
        one.stop()
        self.assertTrue(second.release())
        self.assertEqual(second.get(timeout=DEADLINE), b"a", "a released entry comes again")
        self.assertTrue(second.consume())
        self.assertEqual(second.get(timeout=DEADLINE), b"b")
        self.assertTrue(second.consume())
        self.assertEqual(len(second), 0)

    def test_a_locking_queue_wakes_its_waiter_and_inherits_from_a_closed_taker(self):
        one, two = self.clients(2)
        waiter = two.LockingQueue(self.root + "/queue")
        taken = []
        thread = threading.Thread(target=lambda: taken.append(waiter.get(timeout=DEADLINE)), daemon=True)
        thread.start()
        wait_for("the waiter made its paths", lambda: self.zk.exists(self.root + "/queue/entries"))
        one.LockingQueue(self.root + "/queue").put(b"x")
        thread.join(DEADLINE)
        self.assertEqual(taken, [b"x"])
        two.stop()
        self.assertEqual(one.LockingQueue(self.root + "/queue").get(timeout=DEADLINE), b"x")


class Barriers(Case):
    def test_a_barrier_holds_until_it_is_removed(self):
        barrier = self.zk.Barrier(self.root + "/barrier")
        barrier.create()
        waiters = self.clients(3)
        self.assertFalse(waiters[0].Barrier(self.root + "/barrier").wait(timeout=0.1))
        removed = threading.Event()

        def wait(client):
            passed = client.Barrier(self.root + "/barrier").wait(timeout=DEADLINE)
            return passed and removed.is_set()

        def remove():
            removed.set()
            return barrier.remove()

        results = self.run_all("waiters at a barrier", [remove] + [lambda c=c: wait(c) for c in waiters])
        self.assertEqual(results, [True] * 4)
        self.assertFalse(barrier.remove(), "it is gone")

    def test_a_double_barrier_enters_and_leaves_together(self):
        clients = self.clients(4)
        entering, leaving = [], []

        def take_part(client):
            barrier = client.DoubleBarrier(self.root + "/double", 4)
            entering.append(client)
            barrier.enter()
            all_had_come = len(entering) == 4
            leaving.append(client)
            barrier.leave()
            return all_had_come and len(leaving) == 4

        results = self.run_all("four at a double barrier", [lambda c=c: take_part(c) for c in clients])
        self.assertEqual(results, [True] * 4)
        self.assertEqual(self.zk.get_children(self.root + "/double"), [])


class Members(Case):
    def test_a_counter_adds_up_the_changes_of_all(self):
        def count(client):
            counter = client.Counter(self.root + "/counter", default=100)
            for _ in range(20):
                counter += 3
                counter -= 1

        self.run_all("four clients count", [lambda c=c: count(c) for c in self.clients(4)])
        self.assertEqual(self.zk.Counter(self.root + "/counter").value, 100 + 4 * 20 * 2)
        self.assertEqual(self.zk.Counter(self.root + "/float", default=1.5).value, 1.5)
        curator = self.zk.Counter(self.root + "/curator", support_curator=True)
        curator += 7
        self.assertEqual(self.zk.get(self.root + "/curator")[0], b"\0\0\0\7")

    def test_a_party_knows_who_is_there(self):
        one, two, three = self.clients(3)
        parties = [client.Party(self.root + "/party", name) for client, name in ((one, "a"), (two, "b"))]
        shallow = three.ShallowParty(self.root + "/shallow", "c")
        for party in parties + [shallow]:
            party.join()
        self.assertEqual(set(self.zk.Party(self.root + "/party")), {"a", "b"})
        self.assertEqual(set(self.zk.ShallowParty(self.root + "/shallow")), {"c"})
        parties[0].leave()
        self.assertEqual(list(self.zk.Party(self.root + "/party")), ["b"])
        two.stop()
        three.stop()
        self.assertEqual(len(self.zk.Party(self.root + "/party")), 0, "a closed member has left")
        self.assertEqual(len(self.zk.ShallowParty(self.root + "/shallow")), 0)

    def test_a_set_is_partitioned_among_those_present(self):
        items = tuple(f"item-{number}" for number in range(7))
        one, two = self.clients(2)

        def partitioner(client, name):
            return client.SetPartitioner(
                self.root + "/set", set=items, identifier=name, time_boundary=0.2, max_reaction_time=0.2
            )

        def settle(partitioners, behaviour):
            def settled():
                for each in partitioners:
                    if each.failed:
                        raise AssertionError(f"a partitioner failed: {behaviour}")
                    if each.release:
                        each.release_set()
                    elif each.allocating:
                        each.wait_for_acquire(0.05)
                shares = [list(each) for each in partitioners]
                return all(each.acquired for each in partitioners) and sorted(sum(shares, [])) == sorted(items)

            wait_for(behaviour, settled)

        first = partitioner(one, "a")
        settle([first], "one member gets the whole set")
        second = partitioner(two, "b")
        settle([first, second], "two members share the set without overlap")
        self.assertEqual(sorted(map(len, (list(first), list(second)))), [3, 4])
        two.stop()
        settle([first], "the set comes back when a member's session closes")
        first.finish()

    def test_a_lease_is_held_until_it_ends(self):
        one, two = self.clients(2)
        now = [datetime.datetime(2026, 1, 1)]

        def lease(client, name):
            hour = datetime.timedelta(hours=1)
            return NonBlockingLease(client, self.root + "/lease", hour, identifier=name, utcnow=lambda: now[0])

        self.assertTrue(lease(one, "one"))
        self.assertFalse(lease(two, "two"))
        self.assertTrue(lease(one, "one"), "its holder renews it")
        now[0] += datetime.timedelta(hours=2)
        self.assertTrue(lease(two, "two"), "another takes an ended lease")
        self.assertFalse(lease(one, "one"))
        day = datetime.timedelta(days=1)
        leases = [bool(MultiNonBlockingLease(one, 2, self.root + "/multi", day, name)) for name in "abc"]
        self.assertEqual(leases, [True, True, False])


class Watchers(Case):
    def test_a_data_watch_follows_its_znode_through_life_and_restart(self):
        path = self.root + "/x"
        other = self.client()
        seen = []

        @self.zk.DataWatch(path)
        def changed(data, stat):
            seen.append((data, stat and stat.version))

        def expect(entry, behaviour):
            wait_for(behaviour, lambda: seen and seen[-1] == entry)

        self.assertEqual(seen, [(None, None)])
        other.create(path, b"0")
        expect((b"0", 0), "DataWatch sees the creation")
        other.set(path, b"1")
        expect((b"1", 1), "DataWatch sees the change")
        Server.restart()
        self.connected(other)
        other.retry(other.set, path, b"2")
        expect((b"2", 2), "DataWatch sees a change after the restart")
        other.delete(path)
        expect((None, None), "DataWatch sees the deletion")
        other.create(path, b"again")
        expect((b"again", 0), "DataWatch sees the second creation")

    def test_a_children_watch_follows_its_parent_through_a_restart(self):
        other = self.client()
        seen = []

        @self.zk.ChildrenWatch(self.root)
        def changed(children):
            seen.append(set(children))

        def expect(children, behaviour):
            wait_for(behaviour, lambda: seen and seen[-1] == children)

        self.assertEqual(seen, [set()])
        other.create(self.root + "/a")
        expect({"a"}, "ChildrenWatch sees the first child")
        Server.restart()
        self.connected(other)
        other.retry(other.create, self.root + "/b", ephemeral=True)
        expect({"a", "b"}, "ChildrenWatch sees a child created after the restart")
        other.stop()
        expect({"a"}, "ChildrenWatch sees the ephemeral go with its session")

    def test_a_patient_children_watch_tells_the_children_then_the_change(self):
        self.zk.create(self.root + "/a")
        self.zk.create(self.root + "/b")
        children, changed = PatientChildrenWatch(self.zk, self.root, time_boundary=0.1).start().get(timeout=DEADLINE)
        self.assertEqual(set(children), {"a", "b"})
        self.assertFalse(changed.ready())
        self.zk.create(self.root + "/c")
        self.assertTrue(changed.wait(DEADLINE), "PatientChildrenWatch tells of the next change")

    def test_a_tree_cache_mirrors_its_tree_through_a_restart(self):
        other = self.client()
        other.create(self.root + "/tree")
        cache = TreeCache(self.zk, self.root + "/tree")
        self.addCleanup(cache.close)
        kinds, faults = [], []
        cache.listen(lambda event: kinds.append(event.event_type))
        cache.listen_fault(faults.append)
        cache.start()
        wait_for("TreeCache is initialized", lambda: TreeEvent.INITIALIZED in kinds)

        def data(name):
            node = cache.get_data(f"{self.root}/tree/{name}")
            return node and node.data

        other.create(self.root + "/tree/a", b"1")
        other.create(self.root + "/tree/a/deep", b"2")
        wait_for("TreeCache sees two levels", lambda: data("a") == b"1" and data("a/deep") == b"2")
        other.set(self.root + "/tree/a", b"3")
        wait_for("TreeCache sees a change", lambda: data("a") == b"3")
        Server.restart()
        wait_for("TreeCache is told of the reconnection", lambda: TreeEvent.CONNECTION_RECONNECTED in kinds)
        self.connected(other)
        other.retry(other.create, self.root + "/tree/b", b"4")
        other.set(self.root + "/tree/a/deep", b"5")
        wait_for("TreeCache follows after the restart", lambda: data("b") == b"4" and data("a/deep") == b"5")
        other.delete(self.root + "/tree/a", recursive=True)
        wait_for("TreeCache sees deletions", lambda: data("a") is None and data("a/deep") is None)
        self.assertEqual(cache.get_children(self.root + "/tree"), {"b"})
        self.assertEqual(faults, [])
