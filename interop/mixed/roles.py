"""What clients may expect of an ensemble at rest, whichever of its servers they speak to."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from kazoo.client import KazooState
from kazoo.exceptions import (
    BadVersionError, NoAuthError, NodeExistsError, NoNodeError, NotEmptyError, RolledBackError)
from kazoo.security import OPEN_ACL_UNSAFE, make_digest_acl

import codec
from checks import client, connect, finish, super_connection
from ensemble import JAVA, TICK_MS, Failed, expect, until
from raw import Refused

WATCH_SECONDS_MAX = 20


def play(ensemble):
    """All checks, each below a znode of its own. Leaves some of everything in the tree."""
    with Clients(ensemble) as clients:
        modes(ensemble)
        for check in (writes_are_seen_everywhere, failures_are_the_same_everywhere, sequences, permissions,
                      large_data, watches_across, moved_client, sessions_end_everywhere):
            path = "/" + check.__name__
            clients.of(ensemble.leader()).ensure_path(path)
            check(ensemble, clients, path)
    setup = super_connection(ensemble.leader())
    checks = containers_and_ttl, watches_set_again_elsewhere, session_moved, refused_sessions, expiry, kept_alive
    setup.run(codec.create(f"/{check.__name__}") for check in checks)
    setup.close()
    # These take their time, each by itself.
    with ThreadPoolExecutor(len(checks)) as pool:
        for result in [pool.submit(check, ensemble, f"/{check.__name__}") for check in checks]:
            result.result()


class Clients:
    """One kazoo client for each server."""

    def __init__(self, ensemble):
        self.by_sid = {member.sid: client(member, timeout=20) for member in ensemble.running}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        finish(*self.by_sid.values())

    def of(self, member):
        return self.by_sid[member.sid]

    def pairs(self):
        """Every client with every one of the others: (id, client, id, client)."""
        for (a, one), (b, other) in itertools.permutations(self.by_sid.items(), 2):
            yield a, one, b, other

    def items(self):
        return self.by_sid.items()


def synced(zk, path="/"):
    """The client, after its server has caught up with its leader.

    A Java leader answers a sync of its own clients as a read, before it has applied what it has told others to commit
    (its CommitProcessor's matchSyncs is false). The answer to a write comes after all that, if it fails too.
    """
    zk.sync(path)
    about = zk.command(b"srvr")
    if "Mode: leader" in about and "oxkeeper" not in about:
        try:
            zk.delete("/never-created")
        except NoNodeError:
            pass
    return zk


def modes(ensemble):
    """srvr and mntr tell each server's role, and the leader's mntr who follows."""
    leader = ensemble.leader()
    voters = [m for m in ensemble.running if not m.observer]
    for member in ensemble.running:
        expected = "leader" if member is leader else "observer" if member.observer else "follower"
        expect(member.mode() == expected, f"{member}: srvr says {member.mode()}, not {expected}")
        state = member.monitor().get("server_state")
        expect(state == expected, f"{member}: mntr says {state}, not {expected}")
        expect(member.word("ruok") == "imok", f"{member}: ruok")

    def follow():
        values = leader.monitor()
        expected = {"synced_followers": len(voters) - 1, "synced_observers": len(ensemble.running) - len(voters)}
        if member_is_3_5(leader):
            del expected["synced_observers"]
        return all(key in values and float(values[key]) == number for key, number in expected.items())
    until(lambda: f"mntr of the leader counts those who follow: {leader.monitor()}", follow)


def member_is_3_5(member):
    return member.kind == JAVA and member.release.startswith("3.5.")


def same_everywhere(clients, path):
    """(data, stat, acl) of a znode, which must be the same on every server."""
    found = {sid: (*synced(zk, path).get(path), zk.get_acls(path)[0]) for sid, zk in clients.items()}
    first = next(iter(found.values()))
    for sid, value in found.items():
        expect(value == first, f"{path}: server {sid} has {value}, another one {first}")
    return first


def writes_are_seen_everywhere(ensemble, clients, path):
    """Every kind of write through every server."""
    for sid, zk in clients.items():
        mine = f"{path}/{sid}"
        zk.create(mine, b"first")
        zk.create(f"{mine}/child", b"")
        data, stat, _ = same_everywhere(clients, mine)
        expect((data, stat.version, stat.numChildren) == (b"first", 0, 1), f"{mine}: {data} {stat}")
        expect(zk.set(mine, b"second").version == 1, f"{mine}: version after set")
        zk.set_acls(mine, OPEN_ACL_UNSAFE + [make_digest_acl("somebody", "secret", read=True)])
        data, stat, acl = same_everywhere(clients, mine)
        expect((data, stat.version, stat.aversion, len(acl)) == (b"second", 1, 1, 2), f"{mine}: {data} {stat} {acl}")
        zk.delete(f"{mine}/child")
        _, stat, _ = same_everywhere(clients, mine)
        expect((stat.cversion, stat.numChildren) == (2, 0), f"{mine}: {stat}")
        transaction = zk.transaction()
        transaction.check(mine, 1)
        transaction.create(f"{mine}/a", b"1")
        transaction.create(f"{mine}/a/b", b"2")
        transaction.set_data(mine, b"third")
        transaction.create(f"{mine}/gone")
        transaction.delete(f"{mine}/gone")
        results = transaction.commit()
        expect(not any(isinstance(result, Exception) for result in results), f"multi through {sid}: {results}")
        for each in (mine, f"{mine}/a", f"{mine}/a/b"):
            same_everywhere(clients, each)
        for other, reader in clients.items():
            expect(reader.exists(f"{mine}/gone") is None, f"server {other} has {mine}/gone")
    # Each changes in turn what another one wrote.
    zk = next(iter(clients.by_sid.values()))
    zk.create(f"{path}/shared", b"")
    for version, (a, one, b, other) in enumerate(clients.pairs()):
        data, stat = synced(one).get(f"{path}/shared")
        expect(stat.version == version, f"server {a} has version {stat.version} instead of {version}")
        one.set(f"{path}/shared", f"{a} {b}".encode(), version)
        expect(synced(other).get(f"{path}/shared")[0] == f"{a} {b}".encode(), f"server {b} misses what {a} wrote")


def raised(call, *arguments):
    try:
        return call(*arguments)
    except Exception as error:
        return type(error)


def failures_are_the_same_everywhere(ensemble, clients, path):
    """A write that fails, fails with the same error through every server, and changes nothing."""
    zk = next(iter(clients.by_sid.values()))
    zk.create(f"{path}/parent")
    zk.create(f"{path}/parent/child")
    zk.create(f"{path}/ephemeral", ephemeral=True)
    before = same_everywhere(clients, path)
    for sid, zk in clients.items():
        synced(zk)
        for error, call, *arguments in (
                (NodeExistsError, zk.create, f"{path}/parent", b""),
                (NoNodeError, zk.create, f"{path}/none/child", b""),
                (NoNodeError, zk.set, f"{path}/none", b""),
                (NoNodeError, zk.delete, f"{path}/none"),
                (BadVersionError, zk.set, f"{path}/parent", b"", 7),
                (BadVersionError, zk.delete, f"{path}/parent/child", 7),
                (NotEmptyError, zk.delete, f"{path}/parent")):
            got = raised(call, *arguments)
            expect(got is error, f"{call.__name__} {arguments} through server {sid}: {got} instead of {error}")
        transaction = zk.transaction()
        transaction.create(f"{path}/never")
        transaction.check(f"{path}/parent", 7)
        results = transaction.commit()
        expect([type(result) for result in results] == [RolledBackError, BadVersionError],
               f"multi through server {sid}: {results}")
    expect(same_everywhere(clients, path) == before, "failed writes changed the parent")


def sequences(ensemble, clients, path):
    """Sequential znodes made through all servers have different numbers, in the order of their zxids."""
    names = []
    for _ in range(5):
        pending = [zk.create_async(f"{path}/n-", b"", sequence=True) for _, zk in clients.items() for _ in range(5)]
        names += [each.get(timeout=30) for each in pending]
    expect(len(set(names)) == len(names), "a number was given twice")
    expect(sorted(names) == [f"{path}/n-{n:010}" for n in range(len(names))], f"numbers are missing: {sorted(names)}")
    for sid, zk in clients.items():
        synced(zk)
        zxids = [zk.exists(name).czxid for name in sorted(names)]
        expect(zxids == sorted(zxids), f"server {sid}: numbers are not in the order of creation")


def permissions(ensemble, clients, path):
    """An ACL given through one server is kept by every other."""
    for sid, zk in clients.items():
        zk.create(f"{path}/{sid}", b"secret", acl=[make_digest_acl("user", "password", all=True)])
    for member in ensemble.running:
        synced(clients.of(member))
        friend = client(member, auth_data=[("digest", "user:password")])
        for sid in clients.by_sid:
            expect(raised(clients.of(member).get, f"{path}/{sid}") is NoAuthError, f"{member} shows {path}/{sid}")
            expect(raised(clients.of(member).set, f"{path}/{sid}", b"") is NoAuthError, f"{member} changes {path}/{sid}")
            expect(friend.get(f"{path}/{sid}")[0] == b"secret", f"{member} hides {path}/{sid} from its owner")
            friend.set(f"{path}/{sid}", b"secret")
        finish(friend)


def large_data(ensemble, clients, path):
    """The largest data that a packet may carry goes through every server to every other."""
    for sid, zk in clients.items():
        zk.create(f"{path}/{sid}", bytes([sid]) * 1_000_000)
        expect(same_everywhere(clients, f"{path}/{sid}")[0] == bytes([sid]) * 1_000_000, f"{path}/{sid}")


class Watched:
    """Counts the events of one watch."""

    def __init__(self):
        self.events = []
        self.happened = threading.Event()

    def __call__(self, event):
        self.events.append((event.type, event.path))
        self.happened.set()

    def one(self, what):
        if not self.happened.wait(WATCH_SECONDS_MAX):
            raise Failed(f"no event within {WATCH_SECONDS_MAX} s: {what}")
        expect(len(self.events) == 1, f"{what}: {self.events}")
        return self.events[0]


def watches_across(ensemble, clients, path):
    """What is watched on one server and changed through another one fires, and then shows the change."""
    for a, writer, b, watcher in clients.pairs():
        mine = f"{path}/{a}-{b}"
        data, children, creation = Watched(), Watched(), Watched()
        expect(watcher.exists(mine, watch=creation) is None, mine)
        writer.create(mine, b"0")
        expect(creation.one(f"{mine} is created") == ("CREATED", mine), f"{creation.events}")
        expect(watcher.get(mine, watch=data)[0] == b"0", f"server {b} has an event of {mine} and not its data")
        watcher.get_children(mine, watch=children)
        writer.set(mine, b"1")
        expect(data.one(f"{mine} is changed") == ("CHANGED", mine), f"{data.events}")
        expect(watcher.get(mine)[0] == b"1", f"server {b} has an event of {mine} and not the change")
        writer.create(f"{mine}/child", b"", ephemeral=True)
        expect(children.one(f"{mine} has a child") == ("CHILD", mine), f"{children.events}")
        expect(watcher.get_children(mine) == ["child"], f"server {b} has an event of {mine} and not the child")


def moved_client(ensemble, clients, path):
    """A kazoo client that loses its server goes on with its session and ephemerals at another one."""
    for a, b in itertools.permutations(ensemble.running, 2):
        mine = f"{path}/{a.sid}-{b.sid}"
        zk = client(a, timeout=20)
        states = []
        zk.add_listener(states.append)
        zk.create(mine, b"0", ephemeral=True)
        session = zk.client_id
        zk.set_hosts(f"{b.address}:2181")
        zk._connection._socket.shutdown(2)
        until(f"the session of {a} goes on at {b}", lambda: KazooState.CONNECTED in states)
        expect(zk.client_id == session and KazooState.LOST not in states, f"from {a} to {b}: {states}")
        zk.set(mine, b"1")
        expect(synced(clients.of(a)).get(mine)[0] == b"1", f"{a} misses the change through {b}")
        expect(clients.of(a).exists(mine).ephemeralOwner == session[0], f"{mine} is not of the session")
        finish(zk)
        for member in ensemble.running:
            expect(synced(clients.of(member)).exists(mine) is None, f"{member} keeps the ephemeral of a closed session")


def sessions_end_everywhere(ensemble, clients, path):
    """Closing a session deletes its ephemerals on every server, and nobody else's."""
    owners = {member.sid: client(member) for member in ensemble.running}
    for sid, zk in owners.items():
        for n in range(20):
            zk.create(f"{path}/{sid}-{n}", b"", ephemeral=True)
    alive = dict(owners)
    for sid, zk in owners.items():
        finish(zk)
        del alive[sid]
        expected = sorted(f"{other}-{n}" for other in alive for n in range(20))
        for other, reader in clients.items():
            found = sorted(synced(reader).get_children(path))
            expect(found == expected, f"after the end of {sid}'s session server {other} has {found}")


def containers_and_ttl(ensemble, path):
    """Containers and TTL znodes made through any server are deleted on all when their time has come."""
    connections = {member.sid: super_connection(member) for member in ensemble.running}
    paths = []
    for sid, connection in connections.items():
        connection.call(codec.create_container(f"{path}/container-{sid}"))
        connection.call(codec.create(f"{path}/container-{sid}/child"))
        connection.call(codec.create_ttl(f"{path}/ttl-{sid}", 300))
        name = connection.call(codec.create_ttl(f"{path}/sequential-{sid}-", 300, flags=codec.SEQUENTIAL_TTL))[0]
        connection.call(codec.create_ttl(f"{path}/long-{sid}", 10**9))
        connection.call(codec.delete(f"{path}/container-{sid}/child"))
        paths += [f"{path}/container-{sid}", f"{path}/ttl-{sid}", name]
    for sid, connection in connections.items():
        def gone():
            asked = connection.pipeline(codec.exists(each) for each in paths)
            return all(err == codec.NO_NODE for _, err, _ in list(asked))
        until(f"containers and TTL znodes are deleted on server {sid}", gone)
        for other in connections:
            connection.call(codec.exists(f"{path}/long-{other}"))
        connection.close()


def watches_set_again_elsewhere(ensemble, path):
    """A client that moves sets its watches again with the zxid it has seen: it is told at once what it missed,
    later what happens then, each once, and a persistent recursive watch of one server is set on another."""
    recursive = not any(member_is_3_5(member) for member in ensemble.running)
    for a, b in itertools.permutations(ensemble.running, 2):
        mine = f"{path}/{a.sid}-{b.sid}"
        writer, watcher = super_connection(a), connect(a, timeout_ms=20_000)
        writer.run([codec.create(mine), codec.create(f"{mine}/changed"), codec.create(f"{mine}/later")])
        watcher.call(codec.sync("/"))
        seen = watcher.last_zxid
        watcher.drop()
        writer.run([codec.set_data(f"{mine}/changed", b"1"), codec.create(f"{mine}/created")])
        after = writer.last_zxid
        # A server refuses a client that has seen more than it has.
        until(f"{b} has applied what {a} has shown", lambda: b.zxid() >= seen)
        moved = connect(b, session=watcher.session, password=watcher.password, last_zxid=seen, timeout_ms=20_000)
        until(f"{b} has applied what was written", lambda: b.zxid() >= after)
        request = codec.set_watches(seen, data=[f"{mine}/changed", f"{mine}/later"], exist=[f"{mine}/created"])
        events = read_events(moved, moved._send([request])[0])
        expect(sorted(events) == [(1, f"{mine}/created"), (3, f"{mine}/changed")], f"setWatches on {b}: {events}")
        if recursive:
            expect(read_events(moved, moved._send([codec.add_watch(mine, 1)])[0]) == [], "an event of nothing")
        writer.call(codec.set_data(f"{mine}/later", b"1"))
        writer.call(codec.create(f"{mine}/changed/below"))
        writer.call(codec.sync("/"))
        until(f"{b} has applied what was written", lambda: b.zxid() >= writer.last_zxid)
        events = read_events(moved, moved._send([codec.ping()])[0])
        expected = [(3, f"{mine}/later")] + ([(1, f"{mine}/changed/below")] if recursive else [])
        # The one-shot watch and the recursive one both tell of the change.
        expect(sorted(set(events)) == sorted(expected), f"watches of {a} on {b}: {events}")
        writer.close()
        moved.drop()


def read_events(connection, xid):
    """Reads up to the reply to `xid`: the events before it, as (type, path)."""
    events = []
    while True:
        body = connection._frame()
        got, zxid, err = codec.REPLY_HEADER.unpack_from(body)
        if got == -1:
            reader = codec.Reader(body, codec.REPLY_HEADER.size)
            kind, _state = reader.int(), reader.int()
            events.append((kind, reader.string()))
            continue
        expect(got == xid and err == 0, f"reply {got} with error {err} where {xid} was due")
        return events


def session_moved(ensemble, path):
    """The last server that a session came to is its owner: a write through the server it left is not done."""
    for a, b in itertools.permutations(ensemble.running, 2):
        mine = f"{path}/{a.sid}-{b.sid}"
        left = connect(a, timeout_ms=20_000)
        left.call(codec.create(mine, flags=codec.EPHEMERAL))
        now = connect(b, session=left.session, password=left.password, timeout_ms=20_000)
        # As clients do: a Java learner that meets one xid twice in a session takes one request for the other, and ends.
        now.xid = 1000
        now.call(codec.set_data(mine, b"by the owner"))
        try:
            [(_, err, _)] = list(left.pipeline([codec.set_data(mine, b"by the one left")]))
            expect(err == -118, f"a moved session's write through {a} was answered with {err}")
        except ConnectionError:
            pass
        now.call(codec.sync("/"))
        data, _ = now.call(codec.get_data(mine))
        expect(data == b"by the owner", f"{a} wrote for a session that had moved to {b}")
        now.close()
        left.drop()


def refused(member, **arguments):
    try:
        connect(member, **arguments).drop()
        return False
    except Refused:
        return True
    except (ConnectionError, TimeoutError):
        return False


def refused_sessions(ensemble, path):
    """A wrong password, a closed session, and a client that has seen what the server has not, are refused by all."""
    for a, b in itertools.product(ensemble.running, repeat=2):
        session = connect(a, timeout_ms=20_000)
        session.drop()
        expect(refused(b, session=session.session, password=bytes(16)), f"{b} took a wrong password of {a}'s session")
        session = connect(a, timeout_ms=20_000, session=session.session, password=session.password)
        session.call(codec.create(f"{path}/{a.sid}-{b.sid}", flags=codec.EPHEMERAL))
        session.close()
        until(f"{b} knows of the end of {a}'s session",
              lambda: refused(b, session=session.session, password=session.password), 20)
    for member in ensemble.running:
        try:
            connect(member, last_zxid=1 << 60)
            raise Failed(f"{member} took a client from the future")
        except (Refused, ConnectionError):
            pass


def expiry(ensemble, path):
    """Silent sessions of all servers expire in their time, not before, and their ephemerals vanish everywhere."""
    timeout = 3 * TICK_MS
    readers = {member.sid: connect(member) for member in ensemble.running}
    made, silent = {}, {}
    for member in ensemble.running:
        connection = connect(member, timeout_ms=timeout)
        expect(connection.timeout_ms == timeout, f"{member} gives a timeout of {connection.timeout_ms} ms")
        connection.call(codec.create(f"{path}/{member.sid}", flags=codec.EPHEMERAL))
        silent[member.sid], made[member.sid] = connection, time.monotonic()
    pending = {(sid, reader) for sid in silent for reader in readers}

    def all_gone():
        for sid, reader in list(pending):
            asked = time.monotonic()
            readers[reader].call(codec.sync("/"))
            [(_, err, _)] = list(readers[reader].pipeline([codec.exists(f"{path}/{sid}")]))
            if err == codec.NO_NODE:
                alive = asked - made[sid]
                expect(time.monotonic() - made[sid] >= timeout / 1000,
                       f"server {sid}'s session expired after {alive:.1f} s as seen by {reader}")
                pending.discard((sid, reader))
        return not pending
    until(lambda: f"silent sessions expire: {sorted(pending)}", all_gone)
    for sid, connection in silent.items():
        connection.drop()
        for member in ensemble.running:
            expect(refused(member, session=connection.session, password=connection.password),
                   f"{member} resumed the expired session of {sid}")
    for reader in readers.values():
        reader.close()


def kept_alive(ensemble, path):
    """A session that only pings, at whichever server, lives for many of its timeouts."""
    sessions = {member.sid: connect(member, timeout_ms=3 * TICK_MS) for member in ensemble.running}
    for sid, connection in sessions.items():
        connection.call(codec.create(f"{path}/{sid}", flags=codec.EPHEMERAL))
    end = time.monotonic() + 10 * TICK_MS / 1000
    while time.monotonic() < end:
        for connection in sessions.values():
            connection.call(codec.ping())
        time.sleep(0.5)
    for sid, connection in sessions.items():
        [(_, err, _)] = list(connection.pipeline([codec.exists(f"{path}/{sid}")]))
        expect(err == 0, f"a session that pinged server {sid} lost its ephemeral")
        connection.close()
