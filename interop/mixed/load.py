"""Writers that note what was acknowledged, sessions that must not end, and the account at the end."""

import random
import subprocess
import threading
import time

from kazoo.client import KazooState
from kazoo.exceptions import ConnectionLoss, NodeExistsError, OperationTimeoutError

import codec
from checks import client, connect, dump, finish, super_connection
from ensemble import INTEROP, CLIENT_PORT, Failed, classpath, expect, until
from raw import Refused

SESSION_MS = 30_000
ROOT = "/load"


class Writer(threading.Thread):
    """Creates ROOT/name/0000000000, ROOT/name/0000000001, … in this order, in one session, through whichever server
    it reaches. `acknowledged` is how many the servers have confirmed, in their order; `longest_gap` the longest time
    in seconds between two confirmations."""

    def __init__(self, members, name, per_second):
        super().__init__(daemon=True)
        self.members, self.name, self.pause = list(members), name, 1 / per_second
        self.acknowledged, self.longest_gap, self.moves = 0, 0.0, 0
        self.failure, self.stopping = None, threading.Event()
        self.last = time.monotonic()

    def path(self, n):
        return f"{ROOT}/{self.name}/{n:010}"

    def confirm(self, number=1):
        now = time.monotonic()
        self.longest_gap = max(self.longest_gap, now - self.last)
        self.last = now
        self.acknowledged += number

    def run(self):
        try:
            self.last = time.monotonic()
            self.write()
        except Exception as failure:
            self.failure = failure

    def finish(self):
        self.stopping.set()
        self.join(60)
        expect(not self.is_alive(), f"writer {self.name} stands still")
        if self.failure:
            raise Failed(f"writer {self.name}: {self.failure!r}") from self.failure


class PipeliningWriter(Writer):
    """Several creates in flight on one connection: they must be done in the order sent, whatever is lost."""

    WINDOW = 8

    def write(self):
        connection, session = None, {}
        while not self.stopping.is_set():
            if connection is None:
                member = random.choice(self.members)
                try:
                    connection = connect(member, timeout_ms=SESSION_MS, reply_seconds_max=2, **session)
                except Refused:
                    # A server that has not yet seen the session's beginning refuses it too, when asked for a zxid.
                    raise Failed(f"{member} says that the session of writer {self.name} is over") from None
                except OSError:
                    time.sleep(0.05)
                    continue
                self.moves += 1
                connection.xid = self.moves * 10_000_000
            numbers = range(self.acknowledged, self.acknowledged + self.WINDOW)
            try:
                answers = connection.pipeline(codec.create(self.path(n), b"%d" % n) for n in numbers)
                for n, (_, err, _) in zip(numbers, answers):
                    # Done, but not confirmed, before a connection was lost.
                    expect(err in (0, -110), f"creating {self.path(n)}: error {err}")
                    self.confirm()
                time.sleep(self.pause * self.WINDOW)
            except OSError:
                connection.drop()
                session = {"session": connection.session, "password": connection.password,
                           "last_zxid": connection.last_zxid}
                connection = None
        if connection:
            connection.drop()


class KazooWriter(Writer):
    """One create at a time by kazoo, which reconnects by itself."""

    def write(self):
        members = self.members[:]
        random.shuffle(members)
        zk = client(members, timeout=SESSION_MS / 1000)
        states = []
        zk.add_listener(states.append)
        while not self.stopping.is_set():
            try:
                zk.create(self.path(self.acknowledged), b"%d" % self.acknowledged)
            except NodeExistsError:
                pass  # as above
            except (ConnectionLoss, OperationTimeoutError):
                continue
            self.confirm()
            time.sleep(self.pause)
        self.moves = 1 + states.count(KazooState.CONNECTED)
        finish(zk)
        expect(KazooState.LOST not in states[:-1], f"the session ended: {states}")


class KazooSession:
    """A session that must live through everything: it has ephemerals, and a watch on what nobody touches until the
    end."""

    def __init__(self, members):
        self.zk = client(members, timeout=SESSION_MS / 1000)
        self.id, self.states, self.seen = self.zk.client_id, [], []
        self.zk.add_listener(self.states.append)
        self.zk.create(f"{ROOT}/kazoo-ephemeral", b"", ephemeral=True)
        self.zk.DataWatch(f"{ROOT}/kazoo-watched", lambda data, stat: self.seen.append(data))

    def finish(self):
        until("the kazoo session is connected", lambda: self.zk.connected)
        expect(KazooState.LOST not in self.states and self.zk.client_id == self.id, f"a session ended: {self.states}")
        owner = self.zk.exists(f"{ROOT}/kazoo-ephemeral")
        expect(owner and owner.ephemeralOwner == self.id[0], "the session's ephemeral is gone")
        expect(set(self.seen) == {None}, f"the watch saw {self.seen} before anything happened")
        self.zk.create(f"{ROOT}/kazoo-watched", b"now")
        until(lambda: f"the watch sees the change: {self.seen}", lambda: self.seen[-1] == b"now")
        finish(self.zk)


class JavaSession:
    """A Java client, ZooKeeper's own class without Curator (LongSession.java): a session with an ephemeral, counted
    creates, and a watch that it sets again after each event of the counter that this process moves."""

    def __init__(self, members, release):
        hosts = ",".join(f"{member.address}:{CLIENT_PORT}" for member in members)
        self.process = subprocess.Popen(
            ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.log=ERROR",
             f"-Dlogback.configurationFile={INTEROP}/java/logback.xml", "-cp", classpath(release),
             str(INTEROP / "mixed" / "LongSession.java"), hosts, str(SESSION_MS), ROOT],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.expect_line("connected")

    def expect_line(self, word):
        line = self.process.stdout.readline().split()
        expect(line and line[0] == word, f"the Java client says {' '.join(line) or 'nothing'} instead of {word}")
        return line[1:]

    def finish(self, zk):
        """Moves what it watches once more and lets it end; the number of creates that were confirmed."""
        zk.create(f"{ROOT}/java-watched", b"now")
        self.process.stdin.write("finish\n")
        self.process.stdin.flush()
        created, reconnects = self.expect_line("finished")
        expect(self.process.wait(30) == 0, "the Java client failed")
        return int(created), int(reconnects)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Load:
    """Writers and sessions over an ensemble; a context. `account` ends them and settles."""

    def __init__(self, ensemble, release, sessions=True, per_second=100):
        setup = super_connection(ensemble.leader())
        setup.call(codec.create(ROOT))
        members = list(ensemble)
        self.writers = [PipeliningWriter(members, f"raw-{n}", per_second) for n in range(2)]
        self.writers += [KazooWriter(members, f"kazoo-{n}", per_second / 2) for n in range(2)]
        setup.run(codec.create(f"{ROOT}/{writer.name}") for writer in self.writers)
        setup.close()
        self.ensemble = ensemble
        self.java = JavaSession(members, release) if sessions else None
        self.kazoo = KazooSession(members) if sessions else None
        for writer in self.writers:
            writer.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for writer in self.writers:
            writer.stopping.set()
        if self.java:
            self.java.kill()

    def expect_healthy(self):
        for writer in self.writers:
            if writer.failure:
                raise Failed(f"writer {writer.name}: {writer.failure!r}") from writer.failure

    def await_progress(self, number=20):
        """Waits until every writer has had so many more writes confirmed."""
        before = {writer: writer.acknowledged for writer in self.writers}

        def progressed():
            self.expect_healthy()
            return all(writer.acknowledged >= before[writer] + number for writer in self.writers)
        until(lambda: f"writes go on: { {w.name: w.acknowledged - before[w] for w in self.writers} }", progressed)

    def account(self):
        """Ends the load. Everything confirmed is there, on every server, in the order in which it was written; the
        sessions have lived. Returns a summary."""
        for writer in self.writers:
            writer.finish()
        summary = []
        if self.java:
            zk = client(self.ensemble.leader())
            created, reconnects = self.java.finish(zk)
            finish(zk)
            self.java.kill()
            summary.append(f"the Java session lived through {reconnects} reconnects and {created} creates")
            self.kazoo.finish()
        self.ensemble.await_same_zxid()
        tree = dump(self.ensemble.leader())
        for writer in self.writers:
            expect_in_order(tree, writer.name, writer.acknowledged, getattr(writer, "WINDOW", 1))
        if self.java:
            expect_in_order(tree, "java", created, 1)
        summary.append(f"{sum(writer.acknowledged for writer in self.writers)} creates confirmed through "
                       f"{sum(writer.moves for writer in self.writers)} connections, none lost, in order; "
                       f"longest gap {max(writer.longest_gap for writer in self.writers):.1f} s")
        return "; ".join(summary)


def expect_in_order(tree, name, confirmed, unconfirmed_max):
    """What a writer has created has no holes, is at least what was confirmed, and its zxids rise with its numbers."""
    path = f"{ROOT}/{name}"
    found = sorted(each for each in tree if each.startswith(f"{path}/"))
    expect(found == [f"{path}/{n:010}" for n in range(len(found))], f"{path} has holes: {len(found)} of {found[-1:]}")
    expect(confirmed <= len(found) <= confirmed + unconfirmed_max, f"{path}: {len(found)} znodes, confirmed {confirmed}")
    zxids = [tree[each].stat.czxid for each in found]
    expect(all(a < b for a, b in zip(zxids, zxids[1:])), f"{path} was not created in order")
