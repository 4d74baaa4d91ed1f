"""Random sequences: four connections of different identities on a small tree, the same on both sides by seed.

What is sent depends on the seed and on earlier replies only (versions, session ids), so two servers that answer
alike get the same bytes. Connections act in turn and each waits for its replies, because the order between
connections is nobody's promise; requests pipelined on one connection are ordered, so bursts are free.
"""
import random
import traceback

import codec as k
from client import Play, Stuck
from servers import digest_id

IDENTITIES = ((), (b"alice:a",), (b"bob:b",), (b"alice:a", b"bob:b"))
ALICE, BOB = digest_id(b"alice:a"), digest_id(b"bob:b")
ACLS = (
    (60, k.OPEN), (6, k.READ_ONLY), (6, k.CREATOR), (4, [(k.READ, "auth", "x"), (k.ALL, "digest", ALICE)]),
    (4, [(k.ALL, "digest", BOB), (k.READ | k.CREATE_PERM, "world", "anyone")]), (4, [(k.ALL, "ip", "127.0.0.1")]),
    (2, [(k.ALL, "ip", "10.0.0.0/8"), (k.ADMIN, "world", "anyone")]), (2, [(0, "world", "anyone")]),
    (2, [(k.ALL, "digest", ALICE), (k.ALL, "digest", ALICE), (k.READ, "digest", ALICE)]),
    (2, [(k.ALL & ~k.READ, "world", "anyone"), (k.READ, "digest", BOB)]), (2, [(k.ALL & ~k.DELETE_PERM, "world", "anyone")]),
    (1, []), (1, None), (1, [(k.ALL, "world", "nobody")]), (1, [(k.ALL, "digest", "nocolon")]), (1, [(k.ALL, "ip", "1.2.3")]),
    (1, [(k.ALL, "nosuch", "x")]), (1, [(k.ALL, None, "x")]),
)
NAMES = ("a", "b", "c", "d")
# No component is blank: Java's index of quotas leaves blank ones out and charges the wrong quota.
ODD_PATHS = ("{}/", "{}//a", "{}/a/", "{}/.", "{}/a/../b", "{}/.a", "{}/é", "{}/x y", "{}/\U0001f600", "{}/x\x00y", "{}/x\x01",
             "{}/a\u200d", "{}/\ue000", "{}/\uf900", "{}/\ufffd", "{}a", "nopath", "/zookeeper/config",
             "/zookeeper/none", "{}/zookeeper", "{}/...", None)
LIMITS = (b"count=5,bytes=50", b"count=-1,bytes=-1=;byteHardLimit=40;countHardLimit=4", b"count=3,bytes=-1", b"", b"junk=1")


class Slot:
    """One of the sequence's clients: its connection, identity and what it believes to watch."""

    def __init__(self, name):
        self.name, self.client, self.identities, self.added = name, None, (), 0
        self.lost = None  # the client whose session was left open by a dropped connection
        # Java forgets which connection a session has when it notices a dropped one later than the session's next
        # one, and then cannot kick that: only a connection that followed no other may be kicked.
        self.may_be_kicked = True
        self.forget_watches()

    def forget_watches(self):
        self.watches = {"data": set(), "exist": set(), "child": set(), "persistent": set(), "recursive": set()}


def configuration(seed):
    """The server a sequence is played to: every tenth to one that enforces quotas."""
    return "sequences_quota" if seed % 10 == 7 else "sequences"


class Sequence:
    def __init__(self, play, seed):
        self.play, self.root = play, play.root
        self.enforced = configuration(seed) == "sequences_quota"
        self.random = random.Random(seed)
        self.slots = [Slot(name) for name in "ABCD"]
        self.known = [self.root]
        self.versions = {}
        self.quota_paths = set()

    # -- arguments

    def pick(self, weighted):
        return self.random.choices([what for _, what in weighted], [weight for weight, _ in weighted])[0]

    def path(self, odd=0.05):
        chance = self.random.random()
        if chance < odd:
            form = self.random.choice(ODD_PATHS)
            return form and form.format(self.root)
        if chance < 0.65:
            return self.random.choice(self.known)
        depth = self.random.choice((1, 1, 1, 2, 2, 3))
        return self.root + "".join("/" + self.random.choice(NAMES) for _ in range(depth))

    def new_path(self):
        if self.random.random() < 0.3:
            return self.path()
        return f"{self.random.choice(self.known)}/{self.random.choice(NAMES)}"

    def data(self):
        return self.pick(((30, b"x" * self.random.randrange(30)), (4, b""), (2, None), (1, bytes(range(256)) * 8)))

    def acl(self):
        return self.pick(ACLS)

    def version(self, path, which="version"):
        known = self.versions.get((path, which), 0)
        return self.pick(((40, -1), (45, known), (5, known + 1), (5, known - 1), (2, -2), (1, 2**31 - 1)))

    # -- requests

    def create(self):
        path, data, acl = self.new_path(), self.data(), self.acl()
        kind = self.random.choices("12cu", (40, 30, 12, 18))[0]
        if kind == "c":
            return k.create_container(path, data, acl, self.pick(((85, 4), (10, 0), (5, 2))))
        if kind == "u":
            ttl = self.pick(((80, self.random.randrange(10**6, 2**39)), (3, 0), (3, -1), (3, 0xFFFFFFFFFF), (3, 0x10000000000)))
            # Other modes with a negative ttl kill a Java server.
            flags = self.pick(((60, 5), (30, 6), (5, self.random.randrange(5) if ttl >= 0 else 5)))
            return k.create_ttl(path, ttl, data, acl, flags)
        flags = self.pick(((50, 0), (20, 1), (15, 2), (10, 3), (2, 4), (1, 5), (1, 6), (1, 7), (1, -1)))
        return k.create(path, data, acl, flags, k.CREATE if kind == "1" else k.CREATE2)

    def delete(self):
        path = self.path()
        return k.delete(path, self.version(path))

    def set_data(self):
        path = self.path()
        return k.set_data(path, self.data(), self.version(path))

    def set_acl(self):
        path = self.path()
        return k.set_acl(path, self.acl(), self.version(path, "aversion"))

    def watched(self):
        return self.random.random() < 0.4

    def multi(self):
        makers = ((40, self.create), (20, self.delete), (25, self.set_data), (12, self.check), (1, self.set_acl), (1, self.get_data))
        return k.multi(*[self.pick(makers)() for _ in range(self.pick(((1, 0), (3, 1), (4, 2), (4, 3), (2, 5))))])

    def family(self):
        """A multi that mostly succeeds: a parent, its children, and changes to them."""
        parent = f"{self.random.choice(self.known)}/{self.random.choice(NAMES)}"
        parts = [k.create(parent, b"", flags=self.random.choice((0, 0, 4))),
                 k.create2(parent + "/x-", b"1", flags=self.random.choice((2, 3))),
                 k.create(parent + "/y", b"2"), k.set_data(parent, b"33", 0), k.check(parent, 1), k.set_data(parent + "/y", b"", -1),
                 k.delete(parent + "/y", 1)]
        return k.multi(*parts[:self.random.randrange(1, 8)])

    def check(self):
        path = self.path()
        return k.check(path, self.version(path))

    def get_data(self):
        return k.get_data(self.path(), self.watched())

    def multi_read(self):
        # A null path makes the whole -5, with the results before it on Java only.
        parts = [self.random.choice((k.get_data, k.get_children))(self.path() or self.root, self.watched())
                 for _ in range(self.random.randrange(5))]
        return k.multi_read(*parts, *([self.delete()] if self.random.random() < 0.03 else []))

    def paths(self, most=4):
        return [path for path in (self.path() for _ in range(self.random.randrange(most))) if path is not None]

    def since(self, slot):
        label, zxid = self.pick(((3, ("0", 0)), (6, ("last", slot.client.last_zxid)), (3, ("base", self.play.mapper.base_zxid)),
                                 (1, ("far", 2**62))))
        return label, zxid

    def set_watches(self, slot):
        label, zxid = self.since(slot)
        if self.random.random() < 0.4:
            return k.set_watches(zxid, self.paths(), self.paths(), self.paths(), label=label)
        return k.set_watches2(zxid, self.paths(), self.paths(), self.paths(), self.paths(2), self.paths(2), label=label)

    def add_watch(self):
        return k.add_watch(self.path() or self.root, self.pick(((10, 0), (10, 1), (1, 2), (1, -1))))

    def watch_path(self, slot):
        """Mostly a path this connection watches."""
        watched = sorted(set().union(*slot.watches.values()))
        return self.random.choice(watched) if watched and self.random.random() < 0.7 else self.path() or self.root

    def request(self, slot):
        return self.pick((
            (26, self.create), (10, self.delete), (13, self.set_data), (5, self.set_acl), (9, self.get_data),
            (9, lambda: k.exists(self.path(), self.watched())), (5, lambda: k.get_children(self.path(), self.watched())),
            (5, lambda: k.get_children2(self.path(), self.watched())), (4, lambda: k.get_acl(self.path())),
            (2, lambda: k.sync(self.path(0.3))), (8, self.multi), (4, self.family), (4, self.multi_read), (6, self.add_watch),
            (4, lambda: k.remove_watches(self.watch_path(slot), self.random.choice((1, 2, 3, 3, 4, 5, 6, 0)))),
            (3, lambda: k.check_watches(self.watch_path(slot), self.random.choice((1, 2, 3, 3, 4, 5, 6)))),
            (3, lambda: self.set_watches(slot)), (2, lambda: k.get_ephemerals(self.path(0.3) or "")),
            (2, lambda: k.get_all_children_number(self.path())), (1, k.who_am_i), (2, k.ping),
        ))()

    # -- steps

    def step(self):
        slot = self.random.choice(self.slots)
        if slot.client is None:
            return self.open(slot)
        self.pick((
            (62, self.one), (22, self.burst), (12 if self.enforced else 3, self.quota), (2, self.authenticate), (2, self.drop), (3, self.renew),
            (1.5, self.close), (1, self.refused_renewal), (1, self.truncated), (0.7, self.violation), (0.5, self.new_session),
        ))(slot)
        if slot.client is not None and slot.client.closed:
            slot.lost = slot.client if slot.client.session not in self.play.ended else None
            slot.client.disconnect()
            slot.client = None

    def send(self, slot, *requests):
        replies = slot.client(*requests)
        for request, reply in zip(requests, replies if len(requests) > 1 else [replies]):
            if reply is not None:
                self.learn(slot, request, reply)
                if reply.err in (-6, -115):  # answered, then closed
                    slot.client.expect_close()

    def learn(self, slot, request, reply):
        """Keeps what later steps choose from: paths, versions, watches."""
        if request.op in (k.CREATE, k.CREATE2, k.CREATE_CONTAINER, k.CREATE_TTL) and reply.err == 0:
            path = reply.values[0]
            if path not in self.known and path.startswith(self.root) and len(self.known) < 60:
                self.known.append(path)
        elif request.op == k.MULTI and reply.err == 0:
            for part in reply.values[0]:
                if part.type in (k.CREATE, k.CREATE2) and part.values[0] not in self.known and len(self.known) < 60:
                    self.known.append(part.values[0])
        length = int.from_bytes(request.body[:4], "big", signed=True)
        if request.op not in (k.EXISTS, k.GET_DATA, k.SET_DATA, k.SET_ACL, k.GET_ACL, k.GET_CHILDREN, k.GET_CHILDREN2, k.ADD_WATCH) \
                or length < 0:
            return
        path = request.body[4:4 + length].decode("utf-8", "replace")
        if reply.err == 0 and "stat" in request.kinds:
            stat = reply.values[-1]
            self.versions[path, "version"], self.versions[path, "aversion"] = stat.version, stat.aversion
        if request.op == k.ADD_WATCH:
            if reply.err == 0:
                slot.watches["recursive" if request.body[-1] else "persistent"].add(path)
        elif request.body[-1] == 1 and request.op in (k.EXISTS, k.GET_DATA, k.GET_CHILDREN, k.GET_CHILDREN2):
            if reply.err == k.NO_NODE and request.op == k.EXISTS:
                slot.watches["exist"].add(path)
            elif reply.err == 0:
                slot.watches["data" if request.op in (k.EXISTS, k.GET_DATA) else "child"].add(path)

    def one(self, slot):
        self.send(slot, self.request(slot))

    def burst(self, slot):
        if self.enforced:  # a quota is checked against what is applied: the outcome of a burst is a matter of time
            return self.one(slot)
        requests = [self.request(slot) for _ in range(self.random.randrange(2, 8))]
        # Java checks what is pipelined behind a setACL by the old or the new ACL, as its threads happen to meet.
        self.send(slot, *[request for request in requests[:-1] if request.op != k.SET_ACL], requests[-1])

    def quota(self, slot):
        """Quota nodes as clients make them, on a path of the sequence."""
        path = "/zookeeper/quota" + self.random.choice(self.known)
        self.quota_paths.add(path)
        if self.random.random() < 0.3:
            node = path + self.random.choice(("/zookeeper_limits", "/zookeeper_stats", ""))
            return self.send(slot, self.pick((
                (1, k.delete(node)), (1, k.get_data(node, True)), (1, k.get_children2(path)),
                (1, k.set_data(path + "/zookeeper_limits", self.random.choice(LIMITS))))))
        parents = [path[:end] for end in range(len("/zookeeper/quota/"), len(path) + 1) if end == len(path) or path[end] == "/"]
        names = ["/zookeeper_limits", "/zookeeper_stats"]
        self.random.shuffle(names)
        self.send(slot, *[k.create(parent) for parent in parents],
                  *[k.create(path + name, self.random.choice(LIMITS)) for name in names[:self.pick(((5, 2), (1, 1)))]])

    def flush(self, slot):
        """Collects events: those a server has queued but not sent are lost when it closes the connection."""
        self.send(slot, k.ping())

    def authenticate(self, slot):
        chance = self.random.random()
        if chance < 0.1:
            self.flush(slot)
            self.send(slot, k.auth("nosuch", b"x"))
        elif chance < 0.3:
            self.send(slot, k.auth("ip", b""))
        else:
            self.send(slot, k.auth("digest", self.random.choice((b"alice:a", b"bob:b", b"carol", b"", b"x:y:z"))), k.who_am_i())

    def rearmed(self, slot):
        watches = {kind: sorted(paths) for kind, paths in slot.watches.items()}
        zxid = slot.client.last_zxid if slot.client else slot.lost.last_zxid
        if not any(watches.values()) or self.random.random() < 0.2:
            slot.forget_watches()
            return []
        return [k.set_watches2(zxid, *watches.values(), label="last")]

    def credentials(self, slot):
        return [k.auth("digest", identity) for identity in slot.identities]

    def open(self, slot):
        """Connects: the session the slot lost, or a new one."""
        if slot.lost is not None and self.random.random() < 0.8:
            behind = self.credentials(slot) + self.rearmed(slot)
            slot.client = self.play.connect(slot.name, of=slot.lost, behind=behind, timeout=30000, last_zxid=slot.lost.last_zxid)
            slot.may_be_kicked = False
        else:
            slot.identities = self.random.choice(IDENTITIES)
            slot.forget_watches()
            slot.client = self.play.connect(
                slot.name, behind=self.credentials(slot), timeout=self.pick(((8, 30000), (1, -5), (1, 0), (1, 10**9), (1, 12345))),
                read_only=self.pick(((8, False), (1, True), (1, None))))
            slot.may_be_kicked = True
        slot.lost = None

    def drop(self, slot):
        self.play.step(f"{slot.name} drops its connection")
        slot.client.disconnect()

    def renew(self, slot):
        """Takes its session to a new connection; the old one is dropped before, or kicked by the server."""
        old = slot.client
        if dropped := self.random.random() < 0.4 or not slot.may_be_kicked:
            old.disconnect()
            slot.may_be_kicked = False
        else:
            self.flush(slot)
        slot.client = self.play.connect(slot.name, of=old, behind=self.credentials(slot) + self.rearmed(slot),
                                        timeout=self.random.choice((30000, 40000)), last_zxid=old.last_zxid)
        if not dropped:
            old.expect_close()
            old.disconnect()

    def refused_renewal(self, slot):
        """A renewal with a wrong password kicks the connection; one from the future does not."""
        old = slot.client
        if slot.may_be_kicked and self.random.random() < 0.7:
            self.flush(slot)
            self.play.connect(slot.name + "'", session=old.session, password=b"\x01" * 16)
            old.expect_close()
        else:
            self.play.connect(slot.name + "'", of=old, last_zxid=2**62)

    def new_session(self, slot):
        self.drop(slot)
        slot.client = slot.lost = None
        self.open(slot)

    def close(self, slot):
        # Nothing goes behind it: Java drops that or answers -112, as the threads happen to meet.
        before = [self.request(slot)] if self.random.random() < 0.3 and not self.enforced else []
        self.send(slot, *before, k.close_session())
        slot.client.expect_close()

    def truncated(self, slot):
        request = self.request(slot)
        if len(request.body) > 1 and request.op != k.MULTI_READ:
            request = request.cut(self.random.randrange(len(request.body)))
        slot.client(request)

    def violation(self, slot):
        """What a server answers by closing the connection."""
        self.flush(slot)
        kind = self.random.randrange(5)
        if kind == 0:
            return self.send(slot, k.raw(self.random.choice((0, 10, 13, 50, 99, 108, 1000, -1, -5)), b"\0" * 8))
        slot.client.send_bytes(self.random.choice((b"\xff\xff\xff\xff", b"\x7f\0\0\0", b"\0\0\0\0", b"\0\0\0\4abcd",
                                                   k.frame(k.i32(5) + k.i32(k.DELETE_CONTAINER) + k.string(self.root)))), "a violation")
        slot.client.expect_close()


def dump(play, admin, title, roots):
    """Data, Stat and ACL of every node under the roots."""
    play.step(title)
    mapper, level = play.mapper, sorted(roots)
    while level:
        replies = admin(*[request for path in level for request in (k.get_children2(path), k.get_data(path), k.get_acl(path))])
        below = []
        for number, path in enumerate(level):
            listed, data, acl = replies[3 * number:3 * number + 3]
            if listed.err or data.err or acl.err:
                play.note(f"{path}: {listed.err} {data.err} {acl.err}")
                continue
            play.note(f"{path}: {mapper.data(data.values[0])} {mapper.stat(data.values[1])} {mapper.acl(acl.values[0])}")
            if listed.values[1] != data.values[1] or acl.values[1] != data.values[1]:
                play.note(f"{path}: different Stats from different reads")
            below += [f"{path}/{name}" for name in listed.values[0]]
        level = sorted(below)


def play(server, admin, seed, steps, mutate=None):
    """Plays one sequence. Its transcript, and what broke it (None when nothing did)."""
    # A level more, so that siblings of the root, which sequences make too, are this sequence's own.
    root = f"/s{seed}/t"
    admin(k.create(f"/s{seed}"), k.create(root))
    made = Play(server.port, root, admin.last_zxid(), {"super": server.super}, server, mutate, sorted_acls=True, settling=False)
    sequence = Sequence(made, seed)
    broken = None
    try:
        for slot in sequence.slots:
            sequence.open(slot)
        for _ in range(steps):
            sequence.step()
        made.step("what came to the others")
        made.settle()
        dump(made, admin, "dump", [root, *sequence.quota_paths])
        made.finish()
        dump(made, admin, "dump after the end of the sessions", [root, *sequence.quota_paths])
    except (Exception, Stuck):
        broken = traceback.format_exc(limit=-4)
    for client in made.clients:
        client.disconnect()
    if broken:
        try:
            made.mutate = None
            made.finish()
        except Exception:
            broken += "\nafterwards: " + traceback.format_exc(limit=-4)
    return made.transcript(), broken
