"""setWatches and setWatches2: catch-up events, what is armed, ACLs, order."""
import codec as k
from cases import case

LISTS = ("data", "exist", "child", "persistent", "recursive")
HAPPENED = {
    "nothing": lambda b, n: None,
    "set": lambda b, n: b(k.set_data(n, b"1")),
    "child_created": lambda b, n: b(k.create(n + "/c")),
    "child_deleted": lambda b, n: (b(k.create(n + "/c")), b(k.delete(n + "/c"))),
    "child_set": lambda b, n: (b(k.create(n + "/c")), b(k.set_data(n + "/c"))),
    "deleted": lambda b, n: b(k.delete(n)),
    "recreated": lambda b, n: (b(k.delete(n)), b(k.create(n))),
    "acl_set": lambda b, n: b(k.set_acl(n, k.READ_ONLY)),
    "hidden": lambda b, n: (b(k.set_data(n, b"1")), b(k.create(n + "/c")), b(k.set_acl(n, [(30, "world", "anyone")]))),
    "hidden_and_deleted": lambda b, n: (b(k.set_acl(n, [(30, "world", "anyone")])), b(k.delete(n))),
}
for name, happen in HAPPENED.items():
    for kind in LISTS:
        @case(name=f"{kind}_after_{name}")
        def catch_up(t, happen=happen, kind=kind):
            b, n = t.connect("B"), t.root + "/n"
            b(k.create(n))
            a = t.connect("A")
            seen = a(k.ping()).zxid
            happen(b, n)
            a(k.set_watches2(seen, label="seen", **{kind: [n]}))
            a(*[k.check_watches(n, number) for number in range(1, 6)])
            b(k.create(n), k.set_acl(n, k.OPEN))
            b(k.set_data(n, b"2"), k.create(n + "/d"))
            b(k.set_data(n + "/d"), k.delete(n + "/d"))

for name, op in (("set_watches", k.set_watches), ("set_watches2", k.set_watches2)):
    @case(name=f"order_of_lists_in_{name}")
    def order(t, op=op):
        a, b, r = t.connect("A"), t.connect("B"), t.root
        a(k.create(r + "/a"), k.create(r + "/b"), k.create(r + "/c"))
        b(op(0, [r + "/b", r + "/none", r + "/a", r], [r + "/c", r + "/no", r + "/a"], [r + "/c", r, r + "/none", r + "/b"], label="0"))
        b(*[k.check_watches(r + path, kind) for path in ("", "/a", "/b", "/c", "/none", "/no") for kind in (1, 2, 3)])
        a(k.create(r + "/none"), k.create(r + "/no"), k.set_data(r + "/a"), k.create(r + "/a/x"))


@case()
def relative_zxids(t):
    a, n = t.connect("A"), t.root + "/n"
    zxid = a(k.create(n)).zxid
    for difference in (-1, 0, 1):
        b = t.connect(f"B{difference}")
        b(k.set_watches(zxid + difference, [n], [], [t.root], label=f"created{difference:+}"))
        b(k.check_watches(n, 2), k.check_watches(t.root, 1))
    for name, zxid in (("0", 0), ("minus one", -1), ("minimal", -2**63), ("maximal", 2**63 - 1)):
        b = t.connect(f"B {name}")
        b(k.set_watches(zxid, [n, "/"], [], [t.root], label=name))
        b(k.check_watches(n, 2), k.check_watches(t.root, 1), k.check_watches("/", 2))


@case()
def same_path_in_all_lists(t):
    a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
    b(k.set_watches2(0, [n], [n], [n], [n], [n], label="0"))
    a(k.create(n))
    a(k.create(n + "/c"), k.set_data(n), k.delete(n + "/c"), k.delete(n))
    b(k.set_watches2(2**62, [t.root], [t.root], [t.root], [t.root], [t.root], label="far"))
    a(k.create(n), k.set_data(t.root))


@case()
def same_path_twice_in_a_list(t):
    a, b = t.connect("A"), t.connect("B")
    b(k.set_watches(0, ["/none", "/none", t.root, t.root], [t.root, t.root], ["/none", "/none"], label="0"))
    a(k.set_data(t.root))


@case()
def odd_paths(t):
    a = t.connect("A")
    a(k.set_watches2(2**62, ["", "x", t.root + "/", "/"], ["", "x", "//"], ["", "x"], ["", "x"], ["", "x", t.root + "/"], label="far"))
    a(*[k.check_watches(path, kind) for path in ("", "x", "//", "/", t.root + "/") for kind in (1, 2, 4, 5)])


@case()
def empty_lists(t):
    a = t.connect("A")
    a(k.set_watches(0, label="0"), k.set_watches2(0, label="0"))


@case()
def many_paths(t):
    a, b = t.connect("A"), t.connect("B")
    paths = [f"{t.root}/n{number}" for number in range(500)]
    a(*[k.create(path) for path in paths[::2]])
    b(k.set_watches(0, paths, paths, paths, label="0"))
    a(*[k.set_data(path) for path in paths[::2]])
    b(*[k.check_watches(path, 3) for path in paths[:20]])


@case()
def after_a_reconnect(t):
    a, b, r = t.connect("A"), t.connect("B"), t.root
    a(k.create(r + "/d"), k.create(r + "/gone"), k.create(r + "/same"))
    replies = a(k.get_data(r + "/d", True), k.get_data(r + "/gone", True), k.exists(r + "/new", True), k.get_children(r, True), k.get_data(r + "/same", True),
                k.add_watch(r, 0), k.add_watch(r, 1))
    seen = replies[-1].zxid
    a.disconnect()
    b(k.set_data(r + "/d"))
    b(k.delete(r + "/gone"))
    b(k.create(r + "/new"))
    a = t.connect("A2", of=a, last_zxid=seen,
                  behind=[k.set_watches2(seen, [r + "/d", r + "/gone", r + "/same"], [r + "/new"], [r], [r], [r], label="seen"), k.get_children2(r)])
    b(k.set_data(r + "/same"), k.set_data(r + "/d"), k.create(r + "/gone"), k.delete(r + "/new"))
    a(k.get_children2(r))


@case()
def filtered_catch_up(t):
    a, r = t.connect("A", behind=[k.auth("digest", b"u:p")]), t.root
    a(k.create(r + "/mine", b"", k.CREATOR), k.create(r + "/open"), k.create(r + "/mine2", b"", k.CREATOR))
    for name, behind in (("B", []), ("C", [k.auth("digest", b"u:p")])):
        b = t.connect(name, behind=behind)
        b(k.set_watches2(0, [r + "/mine", r + "/open", r + "/none"], [r + "/mine", r + "/open"], [r + "/mine2", r + "/open"], label="0"))
        b(*[k.check_watches(f"{r}/{path}", 3) for path in ("mine", "open", "none", "mine2")])
    a(k.set_data(r + "/mine"), k.set_data(r + "/open"), k.create(r + "/mine2/c"))


@case()
def events_carry_no_zxid(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.create(t.root + "/n"))
    b(k.set_watches(0, [t.root + "/n"], [t.root + "/n"], [t.root], label="0"), k.get_data(t.root + "/n", True))
    a(k.set_data(t.root + "/n"))


@case()
def pipelined_with_reads_and_writes(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.create(n), k.set_watches(0, [n], [n + "/c"], [n], label="0"), k.create(n + "/c"), k.set_watches2(0, [], [n + "/c"], [n], [n], label="0"),
      k.set_data(n), k.set_watches(2**62, [n], [], [n], label="far"), k.set_data(n), k.delete(n + "/c"), k.delete(n), k.ping())
