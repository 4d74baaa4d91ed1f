"""Watches: what sets them, what fires them, in which order, who may see events, what removes them."""
import codec as k
from cases import case


@case()
def one_shot(t):
    a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
    a(k.exists(n, watch=True))
    b(k.create(n))
    b(k.set_data(n, b"1"))
    a(k.get_data(n, watch=True))
    b(k.set_data(n, b"2"))
    b(k.set_data(n, b"3"))
    a(k.exists(n, watch=True))
    b(k.delete(n))
    a(k.exists(n))


# What arms a watch on the node n (existing or not), and what is then done to it.
ARMS = {
    "exists": (k.exists, True), "exists_missing": (k.exists, False), "get_data": (k.get_data, True), "get_children": (k.get_children, True),
    "get_children2": (k.get_children2, True), "persistent": (lambda n, _=True: k.add_watch(n, 0), True),
    "recursive": (lambda n, _=True: k.add_watch(n, 1), True), "persistent_missing": (lambda n, _=True: k.add_watch(n, 0), False),
    "recursive_missing": (lambda n, _=True: k.add_watch(n, 1), False),
}
CHANGES = {
    "create": lambda n: k.create(n), "set_data": lambda n: k.set_data(n, b"x"), "create_child": lambda n: k.create(n + "/c"),
    "set_child": lambda n: k.set_data(n + "/c", b"y"), "create_grandchild": lambda n: k.create(n + "/c/d"),
    "set_acl": lambda n: k.set_acl(n, k.OPEN), "delete_grandchild": lambda n: k.delete(n + "/c/d"), "delete_child": lambda n: k.delete(n + "/c"),
    "failed": lambda n: k.set_data(n, b"", 99), "sync": lambda n: k.sync(n), "delete": lambda n: k.delete(n), "create_again": lambda n: k.create(n),
    "sibling": lambda n: k.create(n + "x"), "set_data_again": lambda n: k.set_data(n, b"z"),
}
for name, (arm, there) in ARMS.items():
    @case(name=f"life_of_{name}")
    def life(t, arm=arm, there=there):
        a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
        if there:
            b(k.create(n))
        a(arm(n, True))
        for change in CHANGES.values():
            b(change(n))

    @case(name=f"life_of_rearmed_{name}")
    def rearmed(t, arm=arm, there=there):
        a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
        if there:
            b(k.create(n))
        for change in CHANGES.values():
            a(arm(n, True))
            b(change(n))


@case()
def own_event_before_own_reply(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.exists(n, True), k.create(n), k.get_data(n, True), k.set_data(n, b"1"), k.get_children(t.root, True), k.create(t.root + "/m"),
      k.get_data(n, True), k.get_children(n, True), k.delete(n), k.add_watch(t.root, 1), k.create(n), k.set_data(n), k.delete(n), k.ping())


@case()
def set_twice_fires_once(t):
    a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
    b(k.create(n))
    a(k.get_data(n, True), k.get_data(n, True), k.exists(n, True), k.get_children(n, True), k.get_children2(n, True))
    b(k.set_data(n))
    b(k.create(n + "/c"))
    b(k.delete(n + "/c"), k.delete(n))


@case()
def all_kinds_at_once(t):
    a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
    b(k.create(n))
    a(k.get_data(n, True), k.get_children(n, True), k.add_watch(n, 0), k.add_watch(n, 1), k.add_watch(t.root, 1), k.add_watch("/", 1),
      k.get_children(t.root, True))
    b(k.create(n + "/c"))
    b(k.set_data(n))
    b(k.delete(n + "/c"))
    b(k.delete(n))
    b(k.create(n))


@case()
def recursive_on_several_ancestors(t):
    a, b = t.connect("A"), t.connect("B")
    b(k.create(t.root + "/a"), k.create(t.root + "/a/b"))
    a(k.add_watch(t.root, 1), k.add_watch(t.root + "/a", 1), k.add_watch(t.root + "/a/b", 0), k.add_watch("/", 1))
    b(k.create(t.root + "/a/b/c"))
    b(k.set_data(t.root + "/a/b/c"))
    b(k.set_data(t.root + "/a/b"))
    b(k.create(t.root + "/ax"))
    b(k.delete(t.root + "/a/b/c"))
    b(k.delete(t.root + "/a/b"))
    b(k.create(t.root + "/a/b"))


@case()
def recursive_on_the_root(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.add_watch("/", 1))
    b(k.create(t.root + "/n"), k.set_data("/", b""), k.set_data(t.root), k.delete(t.root + "/n"))
    b(k.create("/top"), k.delete("/top"))
    a(k.remove_watches("/", 5))
    b(k.create(t.root + "/n"))


@case()
def persistent_on_the_root(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.add_watch("/", 0))
    b(k.create("/top"), k.set_data("/", b""), k.create("/top/c"), k.delete("/top/c"), k.delete("/top"))


@case()
def add_watch_modes(t):
    a = t.connect("A")
    for mode in (-1, 0, 1, 2, 3, 2**31 - 1):
        a(k.add_watch(t.root, mode))
    for path in ("nowhere", "", t.root + "/", t.root + "/none", t.root + "//n"):
        a(k.add_watch(path, 0), k.add_watch(path, 1), k.check_watches(path, 4), k.check_watches(path, 5))
    t.connect("B")(k.create(t.root + "/none"))


@case()
def persistent_then_recursive_on_one_path(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.add_watch(t.root, 0), k.add_watch(t.root, 1))
    b(k.create(t.root + "/n"), k.set_data(t.root))
    a(k.remove_watches(t.root, 4))
    b(k.create(t.root + "/m"), k.set_data(t.root))
    a(k.add_watch(t.root, 0), k.remove_watches(t.root, 5))
    b(k.create(t.root + "/o"), k.set_data(t.root))


KINDS = {"data": k.get_data, "child": k.get_children, "persistent": lambda n, _: k.add_watch(n, 0), "recursive": lambda n, _: k.add_watch(n, 1)}
for removed in range(0, 7):
    for name, arm in KINDS.items():
        @case(name=f"remove_type_{removed}_of_{name}")
        def remove(t, removed=removed, arm=arm):
            a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
            a(k.create(n), arm(n, True))
            a(*[k.check_watches(n, kind) for kind in range(0, 7)])
            a(k.remove_watches(n, removed))
            a(*[k.check_watches(n, kind) for kind in range(0, 7)])
            b(k.set_data(n), k.create(n + "/c"))
            a(k.remove_watches(n, removed))

for removed in range(1, 6):
    @case(name=f"remove_type_{removed}_of_all_kinds")
    def remove_of_all(t, removed=removed):
        a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
        a(k.create(n), *[arm(n, True) for arm in KINDS.values()])
        a(k.remove_watches(n, removed), *[k.check_watches(n, kind) for kind in range(1, 6)])
        b(k.set_data(n), k.create(n + "/c"), k.set_data(n + "/c"), k.delete(n + "/c"), k.delete(n))
        a(*[k.check_watches(n, kind) for kind in range(1, 6)])


@case()
def remove_looks_at_the_exact_path(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.add_watch(t.root, 1), k.get_data("/", True))
    for path in (t.root + "/n", "/", "", t.root + "/", t.root, "x"):
        a(k.check_watches(path, 3), k.remove_watches(path, 3))
    b(k.create(t.root + "/n"), k.set_data("/", b""))


@case()
def remove_after_firing(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.get_data(t.root, True))
    b(k.set_data(t.root))
    a(k.remove_watches(t.root, 2), k.exists(t.root + "/none", True), k.check_watches(t.root + "/none", 2), k.remove_watches(t.root + "/none", 2))
    b(k.create(t.root + "/none"))


@case()
def remove_is_of_one_connection(t):
    a, b, c = t.connect("A"), t.connect("B"), t.connect("C")
    a(k.get_data(t.root, True), k.add_watch(t.root, 1))
    b(k.get_data(t.root, True), k.add_watch(t.root, 1))
    b(k.remove_watches(t.root, 3))
    c(k.set_data(t.root), k.create(t.root + "/n"))


@case()
def dropped_connections_lose_watches(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.get_data(t.root, True), k.add_watch(t.root, 1))
    a.disconnect()
    a = t.connect("A2", of=a)
    b(k.set_data(t.root))
    a(k.check_watches(t.root, 3))


@case()
def kept_by_other_connections(t):
    clients = [t.connect(f"A{number}") for number in range(5)]
    for client in clients:
        client(k.get_children(t.root, True), k.exists(t.root + "/n", True))
    clients[0](k.create(t.root + "/n"))
    clients[1](k.get_data(t.root + "/n", True), k.close_session())
    clients[1].expect_close()
    clients[2](k.set_data(t.root + "/n"))


FILTERS = {"world_read": [(1, "world", "anyone")], "none": [(0, "world", "anyone")], "all_but_read": [(30, "world", "anyone")],
           "digest": [(1, "digest", "u:x"), (30, "world", "anyone")]}
for name, acl in FILTERS.items():
    @case(name=f"filtered_by_{name}")
    def filtered(t, acl=acl):
        a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
        a(k.exists(n, True), k.get_children(t.root, True), k.exists(n + "/none", True))
        p = t.connect("P", behind=[k.add_watch(t.root, 1), k.add_watch(n, 0)])
        b(k.create(n, acl=acl))
        a(k.exists(n, True), k.get_data(n, True), k.get_children(n, True), k.check_watches(n, 3))
        b(k.set_data(n), k.create(n + "/c"), k.create(n + "/d", acl=acl))
        b(k.set_data(n + "/c"), k.delete(n + "/c"), k.delete(n + "/d"))
        b(k.delete(n))
        a(k.check_watches(n, 3), k.check_watches(t.root, 3))
        p(k.ping())


@case()
def filtered_by_the_acl_of_the_parent(t):
    a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
    b(k.create(n))
    a(k.get_children(n, True), k.add_watch(n, 0))
    b(k.set_acl(n, [(30, "world", "anyone")]))
    b(k.create(n + "/c"))
    b(k.set_data(n + "/c"), k.delete(n + "/c"))
    a(k.check_watches(n, 1), k.check_watches(n, 4))
    b(k.set_acl(n, k.OPEN))
    b(k.create(n + "/c"))


@case()
def filter_follows_the_identities(t):
    a, b, n = t.connect("A", behind=[k.auth("digest", b"u:p")]), t.connect("B"), t.root + "/n"
    a(k.add_watch(t.root, 1))
    b(k.add_watch(t.root, 1))
    a(k.create(n, acl=k.CREATOR), k.set_data(n))
    b(k.auth("digest", b"u:p"))
    a(k.set_data(n), k.delete(n))


@case()
def filtered_one_shot_is_consumed(t):
    a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
    b(k.create(n))
    a(k.get_data(n, True))
    b(k.set_acl(n, [(30, "world", "anyone")]))
    b(k.set_data(n, b"1"))
    b(k.set_acl(n, k.OPEN))
    b(k.set_data(n, b"2"))
    a(k.check_watches(n, 2))


@case()
def closing_session_fires(t):
    a, b = t.connect("A"), t.connect("B")
    a(*[k.create(f"{t.root}/e{number}", flags=1) for number in range(5)])
    b(k.get_children(t.root, True), *[k.exists(f"{t.root}/e{number}", True) for number in range(3)])
    t.connect("C", behind=[k.add_watch(t.root, 1), k.add_watch(t.root, 0)])
    a(k.get_data(t.root + "/e0", True), k.close_session())
    a.expect_close()
    b(k.get_children2(t.root))


@case()
def events_of_a_multi_and_of_creates_in_order(t):
    a, b, r = t.connect("A"), t.connect("B"), t.root
    b(k.add_watch(r, 0), k.add_watch(r, 1))
    a(*[k.create(f"{r}/n{number}") for number in range(10)], k.multi(*[k.delete(f"{r}/n{number}") for number in range(10)]), k.set_data(r))


@case()
def event_path_is_as_watched(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.exists(t.root + "/é", True), k.add_watch(t.root, 1))
    b(k.create(t.root + "/é"), k.create(t.root + "/a b"), k.create(t.root + "/s-", flags=2))


@case()
def failed_reads_set_nothing_but_exists(t):
    a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
    a(k.get_data(n, True), k.get_children(n, True), k.get_children2(n, True), k.check_watches(n, 3))
    b(k.create(n))
    a(k.check_watches(n, 3), k.exists(n + "/\x00", True), k.check_watches(n + "/\x00", 3), k.exists(n + "/", True), k.check_watches(n + "/", 3))


@case()
def many(t):
    a, b = t.connect("A"), t.connect("B")
    a(*[k.create(f"{t.root}/n{number}") for number in range(300)])
    b(*[k.get_data(f"{t.root}/n{number}", True) for number in range(300)])
    a(*[k.set_data(f"{t.root}/n{number}") for number in range(0, 300, 2)])
    b(*[k.remove_watches(f"{t.root}/n{number}", 2) for number in range(300)])
    a(*[k.set_data(f"{t.root}/n{number}") for number in range(300)])
