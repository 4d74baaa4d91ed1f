"""exchange.py fill|check|continue PORT PID STATE ...: the three acts of the data directory exchange (see `run`).

    fill PORT PID STATE ZNODES SEED [expiring]
                                       writes a tree of every kind of znode, notes it, and kills the server at work; with
                                       `expiring` a session and a TTL are left to run out in the second server
    check PORT STATE LOG               another server on a copy of the directory must hold exactly what was noted
    continue PORT PID STATE SEED       uses the sessions, changes the tree, notes it, and kills this server too
"""

import base64
import hashlib
import os
import pickle
import random
import re
import signal
import sys
import time
from dataclasses import dataclass, field

from raw import Connection, Refused, word
import codec
import tree

SUPER = b"super:secret"
WAIT_SECONDS_MAX = 40
EXPIRING_MS = 12_000  # longer than the tail takes, behind which the server is killed
# Few and short enough for one write(2): a Java server killed between two writes of one batch leaves a damaged record
# which it does not open itself.
TAIL_WINDOW, TAIL_ACKNOWLEDGED = 8, 200


@dataclass
class State:
    """What the next server must hold."""

    count: int
    znodes: dict = field(default_factory=dict)
    sessions: set = field(default_factory=set)
    ephemerals: dict = field(default_factory=dict)
    digests: dict = field(default_factory=dict)
    zxid: int = 0
    passwords: dict = field(default_factory=dict)  # name: (session, password)
    tail: str = ""
    tail_acknowledged: int = 0
    expiring: tuple = ()  # (session, password) of a session that expires in the next server
    expires_ms: int = 0  # when that and a TTL do at the earliest, wall clock
    hidden_owners: dict = field(default_factory=dict)  # of containers and TTL znodes
    sequence: int = 0  # the number the next sequential znode below /sequence gets


def digest_id(user, password):
    hashed = base64.b64encode(hashlib.sha1(f"{user}:{password}".encode()).digest()).decode()
    return f"{user}:{hashed}"


def wait_for(condition, what):
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"not within {WAIT_SECONDS_MAX} s: {what}")
        time.sleep(0.05)


def gone(connection, path):
    """A condition: the znode does not exist."""
    def condition():
        for _, err, _ in connection.pipeline([codec.exists(path)]):
            return err == codec.NO_NODE
    return condition


def super_connection(port, **session):
    connection = Connection(port, **session)
    connection.call(codec.auth("digest", SUPER))
    return connection


def acl_lists():
    """The ACLs of the trees, for every scheme that needs no setting of the server."""
    yield codec.READ_ONLY
    yield [(codec.ALL, "ip", "127.0.0.1")]
    yield [(codec.ADMIN | codec.CREATE_PERM, "ip", "10.0.0.0/8"), (codec.DELETE_PERM, "ip", "fe80::1")]
    yield codec.CREATOR
    for user in range(60):
        yield [(codec.ALL, "digest", digest_id(f"user{user}", "password"))]
        yield [(codec.READ | codec.WRITE, "digest", digest_id(f"user{user}", "пароль")), (codec.READ, "world", "anyone")]


class Gardener:
    """Makes the txns that fill a tree, knowing what must be there."""

    def __init__(self, seed, prefix):
        self.random, self.prefix = random.Random(seed), prefix
        self.live, self.made, self.errors = [], 0, {}
        self.acls = list(acl_lists())

    def acl(self):
        return codec.OPEN if self.random.random() < 0.6 else self.random.choice(self.acls)

    def data(self):
        pick = self.random.random()
        return None if pick < 0.06 else b"" if pick < 0.12 else self.random.randbytes(self.random.randrange(200))

    def leaf(self):
        number = self.made
        self.made += 1
        name = f"znode-{number}" if number % 7 else f"Ключ ż漢字-{number}…"
        path = f"{self.prefix}/d{number % 100:02}/{name}"
        self.live.append(path)
        make = codec.create2 if number % 3 == 0 else codec.create
        return make(path, self.data(), self.acl())

    def some(self):
        return self.live[self.random.randrange(len(self.live))]

    def requests(self, count):
        """Creates until `count` leaves are left, between them every other txn, also such that fail."""
        yield codec.create(self.prefix)
        yield from (codec.create(f"{self.prefix}/d{number:02}", b"directory") for number in range(100))
        yield from (self.leaf() for _ in range(100))
        while len(self.live) < count:
            pick = self.random.random()
            if pick < 0.70:
                yield self.leaf()
            elif pick < 0.73:
                yield codec.multi(*[self.leaf() for _ in range(10)])
            elif pick < 0.83:
                yield codec.set_data(self.some(), self.data())
            elif pick < 0.87:
                yield codec.set_acl(self.some(), self.acl())
            elif pick < 0.91:
                index = self.random.randrange(len(self.live))
                self.live[index], self.live[-1] = self.live[-1], self.live[index]
                yield codec.delete(self.live.pop())
            elif pick < 0.93:
                path = self.some()
                yield codec.multi(codec.check(path, -1), codec.set_data(path, b"in a multi"), codec.delete(path),
                                  codec.create(path, b"born again", self.acl()))
            elif pick < 0.95:
                yield self.failing(codec.create(self.some()), -110)
            elif pick < 0.97:
                yield self.failing(codec.set_data(self.some(), b"stale", 1 << 30), codec.BAD_VERSION)
            elif pick < 0.99:
                yield codec.create(f"{self.prefix}/d00/sequential-", self.data(), flags=codec.SEQUENTIAL)
            else:  # fails as a whole, which the reply's header does not say
                yield codec.multi(codec.create(f"{self.prefix}/never"), codec.check(self.some(), 1 << 30))

    def failing(self, request, err):
        self.errors[id(request)] = (request, err)
        return request

    def work(self, connection, count):
        for request, err, _ in connection.pipeline(self.requests(count)):
            if err != self.errors.pop(id(request), (request, 0))[1]:
                sys.exit(f"{request.text}: error {err}")


def create_ttl(state, connection, paths, flags=codec.TTL):
    """Creates TTL znodes from (path, ttl in ms), and notes their owners."""
    requests = [codec.create_ttl(path, ttl, b"kept", flags=flags) for path, ttl in paths]
    for (_, ttl), (request, err, body) in zip(paths, connection.pipeline(requests)):
        if err:
            sys.exit(f"{request.text}: error {err}")
        state.hidden_owners[codec.Reader(body).string()] = tree.ttl_owner(ttl)


def create_containers(state, connection, paths):
    connection.run(codec.create_container(path, b"box") for path in paths)
    state.hidden_owners.update((path, tree.CONTAINER_OWNER) for path in paths)


def reach_digest(port, connection):
    """Goes on, with deletes that fail, to the next zxid of which the server keeps the tree's digest; returns that."""
    count = -tree.zxid(port) % tree.DIGEST_INTERVAL or tree.DIGEST_INTERVAL
    for request, err, _ in connection.pipeline(codec.delete("/none") for _ in range(count)):
        if err != codec.NO_NODE:
            sys.exit(f"{request.text}: error {err}")
    digest = tree.digests(port).get(tree.zxid(port))
    if digest is None:
        sys.exit(f"hash has no digest of zxid 0x{tree.zxid(port):x}")
    return digest


def fill(port, pid, state_path, count, seed, expiring_later):
    state = State(count)
    main = super_connection(port)
    connections = {"main": main}

    # Every ACL is in use before the first snapshot is taken under load, and stays so: with a list that came up during
    # a snapshot and belongs to a znode changed before and after it, a Java server cannot open its own directory.
    main.call(codec.create("/acl"))
    main.run(codec.create(f"/acl/{n}", acl=acl) for n, acl in enumerate(acl_lists()))

    # Kinds of znodes that stay, and those that the server removes by itself.
    main.run(codec.create(path) for path in ("/ephemeral", "/ttl", "/container", "/sequence", "/big", "/expiring"))
    main.call(codec.create("/big/most", random.Random(seed).randbytes(1_000_000)))
    create_ttl(state, main, [(f"/ttl/long-{n}", 10**9 + n) for n in range(300)])
    create_ttl(state, main, [("/ttl/sequential-", 10**9)] * 20, codec.SEQUENTIAL_TTL)
    create_ttl(state, main, [(f"/ttl/short-{n}", 1 + n) for n in range(20)])
    create_containers(state, main, [f"/container/c{n}" for n in range(100)])
    main.run(codec.create(f"/container/c{n}/child") for n in range(60))
    main.run(codec.delete(f"/container/c{n}/child") for n in range(30))
    main.run(codec.create("/sequence/n-", flags=codec.SEQUENTIAL) for _ in range(50))
    main.run(codec.delete(f"/sequence/n-{n:010}") for n in range(40, 50))
    main.run([codec.create("/zookeeper/quota/tree"),
              codec.create("/zookeeper/quota/tree/zookeeper_limits", b"count=1000000,bytes=-1"),
              codec.create("/zookeeper/quota/tree/zookeeper_stats", b"count=0,bytes=0")])

    # Sessions: alive, closed, expired; each with ephemerals.
    for name in ("first", "second", "third", "silent"):
        session = connections[name] = Connection(port)
        session.call(codec.auth("digest", f"{name}:password".encode()))
        session.run(codec.create(f"/ephemeral/{name}-{n}", b"mine", flags=codec.EPHEMERAL,
                                 acl=codec.CREATOR if n % 2 else codec.OPEN) for n in range(100))
        session.run(codec.create(f"/ephemeral/{name}-seq-", flags=codec.EPHEMERAL_SEQUENTIAL) for _ in range(10))
    expiring = Connection(port, 1)
    expiring.call(codec.create("/ephemeral/expiring", flags=codec.EPHEMERAL))
    expiring.drop()
    for n in range(20):
        session = Connection(port)
        session.run(codec.create(f"/ephemeral/closed-{n}-{m}", flags=codec.EPHEMERAL) for m in range(n))
        session.close()

    Gardener(seed, "/tree").work(main, count)

    wait_for(gone(main, "/ephemeral/expiring"), "the expired session's ephemeral is deleted")
    for path in [f"/container/c{n}" for n in range(30)] + [f"/ttl/short-{n}" for n in range(20)]:
        wait_for(gone(main, path), f"{path} is removed by the server")
    main.call(codec.exists("/container/c99"))  # never had a child
    state.passwords = {name: (session.session, session.password) for name, session in connections.items()}
    state.sequence = 50
    note_and_kill(port, pid, state, state_path, main, "/tail-1", expiring_later)


def note_and_kill(port, pid, state, state_path, main, tail, expiring_later=False):
    """Notes all the server holds; then kills it while it creates znodes below `tail`."""
    main.call(codec.create(tail))
    state.tail = tail
    digest = reach_digest(port, main)
    started = time.monotonic()
    state.znodes = tree.dump_tree(main)
    seconds = time.monotonic() - started
    if digest != tree.tree_digest(state.znodes, state.hidden_owners):
        sys.exit(f"the server's digest {digest} is not the one of its tree")
    if len(state.znodes) < state.count:
        sys.exit(f"only {len(state.znodes)} znodes")
    state.sessions, state.ephemerals = tree.sessions(port)
    expected = {f"0x{session:x}" for session, _ in state.passwords.values()}
    if state.sessions != expected:
        sys.exit(f"dump lists the sessions {sorted(state.sessions)}, open are {sorted(expected)}")
    owners = {f"0x{znode.stat.owner:x}" for znode in state.znodes.values() if znode.stat.owner}
    if owners != set(state.ephemerals):
        sys.exit(f"dump lists ephemerals of {sorted(state.ephemerals)}, the Stats of {sorted(owners)}")
    if expiring_later:
        expiring = Connection(port, EXPIRING_MS)
        expiring.call(codec.create("/expiring/ephemeral", flags=codec.EPHEMERAL))
        create_ttl(state, main, [("/expiring/ttl", EXPIRING_MS)])
        state.expiring = (expiring.session, expiring.password)
        state.expires_ms = main.call(codec.exists("/expiring/ttl")).mtime + EXPIRING_MS
        state.sessions, state.ephemerals = tree.sessions(port)
    state.digests, state.zxid = tree.digests(port), tree.zxid(port)
    if not state.digests or tree.digest_mismatches(port):
        sys.exit(f"{tree.digest_mismatches(port)} digest mismatches, {len(state.digests)} digests in hash")
    creates = (codec.create(f"{tail}/{n}", b"%d" % n) for n in range(1_000_000))
    try:
        for _, err, _ in main.pipeline(creates, TAIL_WINDOW):
            if err:
                sys.exit(f"creating below {tail}: error {err}")
            state.tail_acknowledged += 1
            if state.tail_acknowledged == TAIL_ACKNOWLEDGED:
                os.kill(pid, signal.SIGKILL)
    except ConnectionError:
        pass
    if state.tail_acknowledged < TAIL_ACKNOWLEDGED:
        sys.exit(f"the server ended by itself after {state.tail_acknowledged} creates")
    with open(state_path, "wb") as file:
        pickle.dump(state, file)
    print(f"    noted {len(state.znodes)} znodes in {seconds:.1f} s, {len(state.sessions)} sessions, "
          f"zxid 0x{state.zxid:x}, killed after {state.tail_acknowledged} more", flush=True)


def load(state_path):
    with open(state_path, "rb") as file:
        return pickle.load(file)


def await_expiry(port, main, state):
    """Waits until the session and the TTL that the other server left have run out, which must not be early."""
    for path in ("/expiring/ttl", "/expiring/ephemeral"):
        wait_for(gone(main, path), f"{path} of the other server runs out")
        if time.time() * 1000 < state.expires_ms:
            sys.exit(f"{path} was deleted before its time")
    try:
        Connection(port, session=state.expiring[0], password=state.expiring[1])
        sys.exit("an expired session was resumed")
    except Refused:
        state.expiring = ()


def check(port, state_path, log_path):
    state = load(state_path)
    failures = []

    def require(holds, message):
        if not holds:
            failures.append(message)

    # Before any request, which would be a txn of the new server.
    last_zxid = tree.zxid(port)
    sessions, ephemerals = tree.sessions(port)
    require(sessions == state.sessions, f"sessions {sorted(sessions)}, noted {sorted(state.sessions)}")
    require(ephemerals == state.ephemerals, "the ephemerals that dump lists by session differ")
    digests = tree.digests(port)
    require(all(zxid % tree.DIGEST_INTERVAL == 0 for zxid in digests), f"hash lists {sorted(digests)}")
    for zxid in digests.keys() & state.digests.keys():
        require(digests[zxid] == state.digests[zxid], f"other digest at zxid 0x{zxid:x}")

    session, password = state.passwords["main"]
    try:
        Connection(port, session=session, password=b"wrong" + password[5:])
        failures.append("a session was resumed with a wrong password")
    except Refused:
        pass
    main = super_connection(port, session=session, password=password)
    require(main.session == session and main.password == password, "a resumed session got other credentials")
    expiring = bool(state.expiring)
    if expiring:
        await_expiry(port, main, state)
    else:
        require(tree.zxid(port) == last_zxid, "resuming a session was a txn")
    started = time.monotonic()
    found = tree.dump_tree(main)
    seconds = time.monotonic() - started

    tail = state.tail
    failures += tree.differences(state.znodes, found, lambda path: f"{path}/".startswith((f"{tail}/", "/expiring/")))
    number = sum(path.startswith(f"{tail}/") for path in found)
    require(state.tail_acknowledged <= number <= state.tail_acknowledged + 2 * TAIL_WINDOW,
            f"{number} znodes below {tail}, acknowledged were {state.tail_acknowledged}")
    # What expires here may have made txns before the first look.
    surplus = last_zxid - state.zxid - number
    require(0 <= surplus <= 2 if expiring else surplus == 0,
            f"the last zxid is 0x{last_zxid:x}, noted was 0x{state.zxid:x}, {number} creates followed")
    for n in range(number):
        znode = found.get(f"{tail}/{n}")
        require(znode and znode.stat.czxid == state.zxid + 1 + n and codec.Reader(znode.data_reply).data() == b"%d" % n,
                f"{tail}/{n} is {znode}")
    expected = state.znodes[tail].stat._replace(cversion=number, children=number, pzxid=state.zxid + number)
    require(tail in found and found[tail].stat == expected, f"{tail} is {found.get(tail)}")

    require(reach_digest(port, main) == tree.tree_digest(found, state.hidden_owners),
            "the server's digest is not the one of its tree")
    require(tree.digest_mismatches(port) == 0, f"{tree.digest_mismatches(port)} digest mismatches")
    with open(log_path, encoding="utf-8", errors="replace") as log:
        for line in log:
            if re.search(r"digest.*(mismatch|not matching|don't match)|mismatch.*digest", line, re.I):
                failures.append(f"the log says: {line.strip()}")
    if failures:
        sys.exit("\n".join(failures))
    state.znodes = found
    with open(state_path, "wb") as file:
        pickle.dump(state, file)
    main.drop()
    print(f"    same {len(found)} znodes (read in {seconds:.1f} s), {len(sessions)} sessions, {number} of the tail, "
          "and the digest", flush=True)


def go_on(port, pid, state_path, seed):
    state = load(state_path)

    def resumed(name):
        session, password = state.passwords[name]
        return super_connection(port, session=session, password=password)
    main, first, second, third = map(resumed, ("main", "first", "second", "third"))

    # "silent" stays unconnected, and its ephemerals stay: its timeout starts anew with each server.
    first.call(codec.delete("/ephemeral/first-0"))
    first.call(codec.set_data("/ephemeral/first-1", b"again"))
    second.close()
    del state.passwords["second"]
    wait_for(gone(main, "/ephemeral/second-99"), "the closed session's ephemeral is deleted")
    third.call(codec.create("/ephemeral/third-later", flags=codec.EPHEMERAL))
    name = main.call(codec.create("/sequence/n-", flags=codec.SEQUENTIAL))
    if name != f"/sequence/n-{state.sequence:010}":
        sys.exit(f"the sequence goes on with {name} instead of {state.sequence}")
    state.sequence += 1
    main.call(codec.set_data("/tree/d01", b"changed", 0))

    # What was a container still is one.
    container = next(n for n in range(30, 60) if f"/container/c{n}" in state.znodes)
    main.call(codec.delete(f"/container/c{container}/child"))
    wait_for(gone(main, f"/container/c{container}"), "a container of the other server is removed when empty")
    stat = main.call(codec.exists("/ttl/long-0"))
    if stat.owner:
        sys.exit(f"/ttl/long-0 has {stat}")

    Gardener(seed, "/continued").work(main, state.count // 20)
    create_ttl(state, main, [("/ttl/continued", 2 * 10**9)])
    create_containers(state, main, ["/container/continued"])
    state.tail_acknowledged = 0
    note_and_kill(port, pid, state, state_path, main, "/tail-2")


def main():
    act, port, *rest = sys.argv[1:]
    port = int(port)
    if act == "fill":
        fill(port, int(rest[0]), rest[1], int(rest[2]), int(rest[3]), rest[4:] == ["expiring"])
    elif act == "check":
        check(port, rest[0], rest[1])
    elif act == "continue":
        go_on(port, int(rest[0]), rest[1], int(rest[2]))
    else:
        sys.exit(__doc__)


main()
