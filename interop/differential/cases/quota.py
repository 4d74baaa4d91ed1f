"""Quotas: the nodes that make one, kept usage, and what an enforcing server refuses."""
import codec as k
from cases import case
from quota_words import HARD, limits, nodes, stats

def set_quota(a, path, text):
    a(*nodes(path), k.create(limits(path), text), k.create(stats(path), b"count=0,bytes=0"))
    a(k.get_data(stats(path)))


CHANGES = {
    "create": lambda a, r: a(k.create(r + "/c", b"123")), "create_null": lambda a, r: a(k.create(r + "/z", None)),
    "create_grandchild": lambda a, r: a(k.create(r + "/c/d", b"12345")), "set_longer": lambda a, r: a(k.set_data(r + "/c", b"1234567")),
    "set_shorter": lambda a, r: a(k.set_data(r + "/c", b"1")), "set_null": lambda a, r: a(k.set_data(r + "/c", None)),
    "set_self": lambda a, r: a(k.set_data(r, b"abc")), "ephemeral": lambda a, r: a(k.create(r + "/e", b"xx", flags=1)),
    "sequential": lambda a, r: a(k.create(r + "/s-", b"x", flags=2)), "container": lambda a, r: a(k.create_container(r + "/k", b"x")),
    "ttl": lambda a, r: a(k.create_ttl(r + "/t", 10**7, b"x")),
    "multi": lambda a, r: a(k.multi(k.create(r + "/m", b"1"), k.set_data(r + "/m", b"22"), k.create(r + "/m2"), k.delete(r + "/m2"))),
    "failed_multi": lambda a, r: a(k.multi(k.create(r + "/x", b"1"), k.check(r, 77))), "failed": lambda a, r: a(k.create(r, b"1")),
    "set_acl": lambda a, r: a(k.set_acl(r, k.OPEN)), "delete": lambda a, r: a(k.delete(r + "/c/d")), "delete_other": lambda a, r: a(k.delete(r + "/m")),
}


for configuration in ("plain", "quota"):
    @case(configuration, name=f"usage_is_kept_{configuration}")
    def usage(t):
        a, r = t.connect("A"), t.root
        a(k.create(r + "/before", b"12"))
        set_quota(a, r, b"count=100,bytes=1000")
        for change in CHANGES.values():
            change(a, r)
            a(k.get_data(stats(r)))
        b = t.connect("B")
        b(k.create(r + "/of-b", b"xyz", flags=1))
        a(k.get_data(stats(r)))
        b(k.close_session())
        b.expect_close()
        a(k.get_data(stats(r)), k.get_data(limits(r)))


@case()
def usage_fires_nothing(t):
    a, b, r = t.connect("A"), t.connect("B"), t.root
    set_quota(a, r, b"count=5,bytes=5")
    b(k.get_data(stats(r), True), k.add_watch("/zookeeper/quota", 1))
    a(k.create(r + "/c", b"1"), k.set_data(r, b"2"))
    b(k.get_data(stats(r)), k.check_watches(stats(r), 2))
    a(k.set_data(limits(r), b"count=6,bytes=6"), k.delete(limits(r)), k.delete(stats(r)))


@case()
def only_the_deepest_quota_is_charged(t):
    a, r = t.connect("A"), t.root
    a(k.create(r + "/a", b"1"), k.create(r + "/a/b", b"22"), k.create(r + "/a/b/c", b"333"))
    for path in (r, r + "/a/b"):
        set_quota(a, path, b"count=100,bytes=1000")
    for request in (k.set_data(r + "/a/b/c", b"4444"), k.create(r + "/a/b/d", b"x"), k.create(r + "/a/x", b"yy"), k.set_data(r + "/a/b", b""),
                    k.delete(r + "/a/b/c"), k.set_data(r, b"root"), k.create(r + "/ab", b"not under a/b")):
        a(request)
        a(k.get_data(stats(r)), k.get_data(stats(r + "/a/b")))


@case()
def limits_node_registers(t):
    a, r = t.connect("A"), t.root
    a(*nodes(r), k.create(stats(r), b"count=77,bytes=77"), k.get_data(stats(r)))
    a(k.create(r + "/before"), k.get_data(stats(r)))
    a(k.create(limits(r), b"count=5,bytes=5"), k.create(r + "/after"), k.get_data(stats(r)))
    a(k.delete(limits(r)), k.create(r + "/unregistered"), k.get_data(stats(r)))
    a(k.create(limits(r), b"count=5,bytes=5"), k.create(r + "/again"), k.get_data(stats(r)))
    a(k.delete(stats(r)), k.create(r + "/without-stats"), k.create(stats(r), b""), k.get_data(stats(r)))
    a(k.delete(stats(r)), k.delete(limits(r)), k.create(r + "/last"))


@case()
def limits_without_stats(t):
    a, r = t.connect("A"), t.root
    a(*nodes(r), k.create(limits(r), b"count=1,bytes=1"), k.create(r + "/a", b"12345"), k.set_data(r + "/a", b"1"), k.delete(r + "/a"))
    a(k.get_children2(r))


@case()
def quota_of_a_missing_path(t):
    a, r = t.connect("A"), t.root + "/later"
    set_quota(a, r, b"count=5,bytes=50")
    a(k.create(r, b"12"), k.create(r + "/c", b"345"), k.get_data(stats(r)))
    a(k.delete(r + "/c"), k.delete(r), k.get_data(stats(r)))


@case()
def quota_nodes_made_by_multi(t):
    a, r = t.connect("A"), t.root
    a(k.create(r + "/c", b"123"))
    a(k.multi(*nodes(r), k.create(limits(r), b"count=9,bytes=9"), k.create(stats(r), b"x")), k.get_data(stats(r)))
    a(k.create(r + "/d", b"4"), k.get_data(stats(r)))
    a(k.multi(k.delete(limits(r)), k.delete(stats(r))), k.create(r + "/e"))


@case()
def stats_data_given_is_replaced(t):
    a = t.connect("A")
    for number, data in enumerate((b"garbage", None, b"", b"count=9,bytes=9")):
        path = f"{t.root}/{number}"
        a(k.create(path, b"12345"), *nodes(path)[1:] if number else nodes(path), k.create2(stats(path), data), k.get_data(stats(path)))


@case()
def names_elsewhere_mean_nothing(t):
    a, r = t.connect("A"), t.root
    a(k.create(r + "/zookeeper_limits", b"count=0,bytes=0"), k.create(r + "/zookeeper_stats", b"text"), k.create(r + "/c"), k.get_data(r + "/zookeeper_stats"))
    a(k.delete(r + "/zookeeper_limits"), k.delete(r + "/zookeeper_stats"))


@case()
def soft_limits_refuse_nothing(t):
    a, r = t.connect("A"), t.root
    for number, text in enumerate((b"count=1,bytes=1", HARD % (0, 0))):
        path = f"{r}/{number}"
        a(k.create(path), *(nodes(path)[number > 0:]), k.create(limits(path), text), k.create(stats(path)))
        a(*[k.create(f"{path}/{child}", b"123456") for child in range(3)], k.set_data(path, b"x" * 100), k.get_data(stats(path)))


for name, text in (("garbage", b"garbage"), ("empty", b""), ("null", None), ("half", b"count=5"), ("words", b"count=a,bytes=b")):
    @case(name=f"unenforced_limits_text_{name}")
    def unenforced_text(t, text=text):
        a, r = t.connect("A"), t.root
        set_quota(a, r, text)
        a(k.create(r + "/c", b"123"), k.set_data(r + "/c", b"1"), k.delete(r + "/c"), k.get_data(stats(r)), k.get_data(limits(r)))


# An enforcing server checks what is applied: one request at a time.
TEXTS = {
    "hard_count": HARD % (-1, 3), "hard_bytes": HARD % (10, -1), "hard_both": HARD % (10, 3), "hard_zero": HARD % (0, 0),
    "soft_only": b"count=2,bytes=3", "soft_and_hard": b"count=1,bytes=1=;byteHardLimit=10;countHardLimit=3",
    "hard_below_soft": b"count=100,bytes=100=;byteHardLimit=10;countHardLimit=3", "only_hard_count": b"countHardLimit=3",
    "only_hard_bytes": b"byteHardLimit=10", "other_order": b"countHardLimit=3;byteHardLimit=10,bytes=5,count=5", "count_only": b"count=2",
    "without_stray_sign": b"count=5,bytes=5;byteHardLimit=10;countHardLimit=3", "empty_values": b"count=,bytes=;byteHardLimit=10;countHardLimit=",
    "repeated_separators": b"count=5,,;bytes=5;;;countHardLimit=3", "unknown_key": b"count=5,bytes=5,color=3;countHardLimit=3",
}
for name, text in TEXTS.items():
    @case("quota", name=f"enforced_{name}")
    def enforced(t, text=text):
        a, r = t.connect("A"), t.root
        set_quota(a, r, text)
        for number in range(4):
            a(k.create(f"{r}/n{number}", b"1234"))
            a(k.get_data(stats(r)))
        a(k.set_data(r, b"12345678"))
        a(k.set_data(r, b"123456789012345"))
        a(k.set_data(r, b"1"))
        a(k.delete(r + "/n0"))
        a(k.create(r + "/again", None))
        a(k.get_data(stats(r)))


for name, text in (("garbage", b"garbage"), ("empty", b""), ("null", None), ("words", b"count=a,bytes=b;countHardLimit=c"), ("no_value", b"count"),
                   ("blanks", b" count = 5 , bytes = 5 "), ("too_big", b"countHardLimit=99999999999999999999")):
    @case("quota", name=f"enforced_unparsable_{name}")
    def enforced_unparsable(t, text=text):
        a, r = t.connect("A"), t.root
        set_quota(a, r, text)
        a(k.create(r + "/c", b"123"))
        a(k.set_data(r, b"123"))
        a(k.delete(r + "/c"))
        a(k.multi(k.create(r + "/d", b"1")))
        a(k.set_data(limits(r), HARD % (1000, 1000)))
        a(k.create(r + "/e", b"1"))
        a(k.get_children2(r), k.get_data(stats(r)))


@case("quota")
def enforced_on_every_kind_of_create(t):
    a, r = t.connect("A"), t.root
    set_quota(a, r, HARD % (-1, 1))
    for request in (k.create(r + "/c"), k.create2(r + "/c"), k.create_container(r + "/c"), k.create_ttl(r + "/c", 10**7), k.create(r + "/c", flags=1),
                    k.create(r + "/c-", flags=2), k.create(r + "/c-", flags=3), k.multi(k.create(r + "/c")), k.multi(k.check(r, 0), k.create2(r + "/c"))):
        a(request)
    a(k.get_children2(r))
    a(k.set_data(limits(r), HARD % (-1, 2)))
    a(k.create(r + "/c-", flags=2))
    a(k.create(r + "/c-", flags=2))


@case("quota")
def enforced_order_of_checks(t):
    a, r = t.connect("A"), t.root
    a(k.create(r + "/locked"), k.create(r + "/e", flags=1), k.create(r + "/n"))
    a(k.set_acl(r + "/locked", k.READ_ONLY))
    set_quota(a, r, HARD % (0, 0))
    for request in (k.create(r + "/locked/x", b"1"), k.create(r + "/n", b"1"), k.create(r + "/e/x", b"1"), k.create(r + "/x/", b"1"), k.create(r + "/none/x"),
                    k.create(r + "/x", b"1", []), k.create(r + "/x", b"1", flags=9), k.create(r + "/x", b"1"),
                    k.set_data(r + "/locked", b"1"), k.set_data(r + "/none", b"1"), k.set_data(r + "/n", b"1", 77), k.set_data(r + "/n", b"", 77),
                    k.set_data(r + "/n", b"", 0), k.set_data(r + "/n", b"1"), k.delete(r + "/n", 5), k.delete(r + "/n")):
        a(request)


@case("quota")
def enforced_by_size_of_change(t):
    a, r = t.connect("A"), t.root
    set_quota(a, r, HARD % (10, -1))
    for size in (10, 10, 11, 9, 10, 0):
        a(k.set_data(r, b"x" * size))
    a(k.set_data(limits(r), b"count=-1,bytes=-1"))
    a(k.set_data(r, b"x" * 30))
    a(k.set_data(limits(r), HARD % (10, -1)))
    for size in (30, 29, 11, 10, 11):
        a(k.set_data(r, b"y" * size))
    a(k.set_data(r, None))
    a(k.get_data(stats(r)))


@case("quota")
def enforced_for_the_deepest_only(t):
    a, r = t.connect("A"), t.root
    a(k.create(r + "/a"))
    set_quota(a, r, HARD % (-1, 3))
    set_quota(a, r + "/a", HARD % (-1, 5))
    for number in range(6):
        a(k.create(f"{r}/a/{number}"))
        a(k.create(f"{r}/{number}"))
    a(k.get_data(stats(r)), k.get_data(stats(r + "/a")))


@case("quota")
def enforced_parts_of_a_multi_pass_together(t):
    a, r = t.connect("A"), t.root
    set_quota(a, r, HARD % (-1, 2))
    a(k.multi(*[k.create(f"{r}/{number}") for number in range(4)]))
    a(k.create(r + "/x"))
    a(k.multi(k.delete(r + "/0"), k.create(r + "/x")))
    a(k.get_data(stats(r)), k.get_children2(r))


@case("quota")
def enforced_against_super(t):
    s, r = t.connect("S", behind=[k.auth("digest", t.settings["super"])]), t.root
    set_quota(s, r, HARD % (1, 1))
    s(k.create(r + "/x"))
    s(k.set_data(r, b"12"))


@case("quota")
def enforced_without_stats(t):
    a, r = t.connect("A"), t.root
    a(*nodes(r), k.create(limits(r), HARD % (2, 2)))
    a(k.create(r + "/x", b"1"))
    a(k.create(r + "/y", b"1"))
    a(k.set_data(r, b"123"))


@case("quota")
def enforced_until_the_limits_are_deleted(t):
    a, r = t.connect("A"), t.root
    set_quota(a, r, HARD % (0, 0))
    a(k.create(r + "/x", b"1"))
    a(k.delete(limits(r)))
    a(k.create(r + "/x", b"1"))
    a(k.create(limits(r), HARD % (0, 0)))
    a(k.create(r + "/y", b"1"))
    a(k.delete(r + "/x"))
