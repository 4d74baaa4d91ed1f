"""multi and multiRead: results, failures, what parts see of each other, decode oddities."""
import codec as k
from cases import case


def header(op, done=False, err=-1):
    return k.i32(op) + k.boolean(done) + k.i32(err)


END = header(-1, True)


@case()
def every_kind_of_part(t):
    a, r = t.connect("A"), t.root
    a(k.multi(k.create(r + "/c", b"1"), k.create2(r + "/c2", b"22"), k.create_container(r + "/cc", b"333"),
              k.create_ttl(r + "/ct", 10**7, b"4444"), k.set_data(r + "/c", b"55555"), k.check(r + "/c", 1), k.delete(r + "/c", 1),
              k.create(r + "/e", flags=1), k.create(r + "/s-", flags=2), k.create2(r + "/es-", flags=3),
              k.create_ttl(r + "/st-", 10**7, flags=6)))
    a(k.get_children2(r), *[k.get_data(f"{r}/{name}") for name in ("c2", "cc", "ct", "e")])


@case()
def intermediate_stats(t):
    a, r, n = t.connect("A"), t.root, t.root + "/n"
    a(k.multi(k.create2(n, b"1"), k.set_data(n, b"22", 0), k.create2(n + "/a"), k.set_data(n, b"333", 1), k.create2(n + "/b-", flags=2),
              k.delete(n + "/a"), k.set_data(n, None, 2), k.check(n, 3)))
    a(k.get_data(n), k.get_children2(n))


@case()
def parts_see_earlier_parts(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.multi(k.create(n), k.set_data(n, b"", 0), k.set_data(n, b"", 1), k.delete(n, 2)), k.exists(n))
    a(k.multi(k.create(n), k.create(n + "/c"), k.delete(n)), k.exists(n))
    a(k.multi(k.create(n), k.create(n + "/c"), k.delete(n + "/c"), k.delete(n)), k.exists(n))
    a(k.multi(k.create(n), k.create(n)), k.exists(n))
    a(k.multi(k.create(n), k.delete(n), k.create(n, b"again")), k.get_data(n))
    a(k.multi(k.delete(n), k.create(n, b"third"), k.check(n, 0)), k.get_data(n))
    a(k.multi(k.create(n + "/e", flags=1), k.create(n + "/e/x")), k.get_children(n))
    a(k.multi(k.check(n, 0), k.set_data(n), k.check(n, 0)), k.multi(k.set_data(n), k.check(n, 1)))
    a(k.multi(k.delete(n), k.check(n, 1)), k.multi(k.delete(n), k.set_data(n)), k.exists(n))


@case()
def permissions_of_earlier_parts(t):
    a, n = t.connect("A", behind=[k.auth("digest", b"u:p")]), t.root + "/n"
    a(k.multi(k.create(n, b"", k.READ_ONLY), k.set_data(n)))
    a(k.multi(k.create(n, b"", k.READ_ONLY), k.create(n + "/c")))
    a(k.multi(k.create(n, b"", k.READ_ONLY), k.delete(n)), k.exists(n))
    a(k.multi(k.create(n, b"", [(k.WRITE, "world", "anyone")]), k.check(n, 0)))
    a(k.multi(k.create(n, b"", k.CREATOR), k.create(n + "/c"), k.set_data(n + "/c", b"x")), k.get_acl(n))


for size in (1, 2, 5):
    for failing in range(size):
        @case(name=f"fails_at_{failing + 1}_of_{size}")
        def failure_pattern(t, size=size, failing=failing):
            a = t.connect("A")
            a(k.get_children(t.root, watch=True))
            parts = [k.create(f"{t.root}/n{number}") for number in range(size)]
            parts[failing] = k.check(t.root, 99)
            a(k.multi(*parts))
            a(k.get_children2(t.root))


FAILURES = {
    "missing": lambda r: k.delete(r + "/none"), "version": lambda r: k.set_data(r, b"", 5), "exists": lambda r: k.create(r),
    "not_empty": lambda r: k.delete(r, 0), "bad_acl": lambda r: k.create(r + "/x", acl=[]), "unknown_scheme": lambda r: k.create(r + "/x", acl=[(1, "x", "y")]),
    "no_permission": lambda r: k.set_data("/zookeeper/config"), "bad_path": lambda r: k.create(r + "/."), "no_slash": lambda r: k.create("x"),
    "empty_path": lambda r: k.set_data("", b""), "reserved": lambda r: k.delete("/zookeeper"), "ttl_zero": lambda r: k.create_ttl(r + "/x", 0),
    "ttl_too_long": lambda r: k.create_ttl(r + "/x", 2**40), "check_missing": lambda r: k.check(r + "/none", -1),
    "check_bad_path": lambda r: k.check(r + "/", 0), "check_version": lambda r: k.check(r, 9), "under_ephemeral": lambda r: k.create(r + "/e/x"),
    "missing_parent": lambda r: k.create(r + "/a/b"), "delete_nul": lambda r: k.delete(r + "/\x00"),
}
for name, part in FAILURES.items():
    @case(name=f"failure_{name}")
    def failure(t, part=part):
        a = t.connect("A")
        a(k.create(t.root + "/e", flags=1))
        a(k.multi(k.create(t.root + "/a-", flags=2), part(t.root), k.create(t.root + "/b")))
        a(k.multi(part(t.root)))
        a(k.create(t.root + "/a-", flags=2), k.get_children2(t.root))


@case()
def empty(t):
    a = t.connect("A")
    a(k.multi(), k.multi(), k.multi_read(), k.ping())


@case()
def failed_sets_no_watch_and_fires_nothing(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.create(t.root + "/n"))
    b(k.get_data(t.root + "/n", True), k.exists(t.root + "/m", True), k.get_children(t.root, True))
    a(k.multi(k.set_data(t.root + "/n"), k.create(t.root + "/m"), k.check(t.root, 9)))
    a(k.multi(k.set_data(t.root + "/n"), k.create(t.root + "/m"), k.check(t.root, 0)))


@case()
def events_in_order_of_the_parts(t):
    a, b, r = t.connect("A"), t.connect("B"), t.root
    a(k.create(r + "/n"), k.create(r + "/d"))
    for client in (a, b):
        client(k.add_watch(r, 1), k.get_data(r + "/n", True), k.get_children(r, True), k.exists(r + "/m", True), k.get_data(r + "/d", True))
    a(k.multi(k.set_data(r + "/n"), k.create(r + "/m"), k.delete(r + "/d"), k.create(r + "/m/c"), k.set_data(r + "/m"), k.delete(r + "/m/c")))


@case()
def large(t):
    a = t.connect("A")
    a(k.multi(*[k.create(f"{t.root}/n{number}", b"x" * 100) for number in range(1000)]))
    a(k.multi(*[k.set_data(f"{t.root}/n{number}", b"y" * 50, 0) for number in range(1000)], k.check(t.root, 1)))
    a(k.multi(*[k.set_data(f"{t.root}/n{number}", b"y" * 50, 0) for number in range(1000)]))
    a(k.multi(*[k.delete(f"{t.root}/n{number}", 1) for number in range(1000)]))
    a(k.get_children2(t.root))


@case()
def pipelined(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.multi(k.create(n), k.create(n + "/s-", flags=2)), k.create(n + "/s-", flags=2), k.multi(k.create(n + "/s-", flags=2), k.check(n, 5)),
      k.create(n + "/s-", flags=2), k.multi(k.delete(n + "/s-0000000000"), k.set_data(n, b"", 0)), k.set_data(n, b"", 1), k.get_children2(n),
      k.multi(k.delete(n + "/s-0000000001"), k.delete(n + "/s-0000000002"), k.delete(n)), k.exists(n), k.create2(n, b"new"))


@case()
def sequence_counter_after_rollbacks(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.create(n))
    a(k.multi(k.create(n + "/s-", flags=2), k.create(n + "/s-", flags=2), k.create(n + "/s-", flags=2), k.delete(n + "/none")))
    a(k.multi(k.create(n + "/s-", flags=2), k.create(n + "/s-", flags=2)))
    a(k.create(n + "/s-", flags=2), k.multi(k.create(n + "/s-", flags=2), k.delete(n + "/none")), k.create(n + "/s-", flags=2), k.exists(n))


# Whole requests that do not decode, or decode to something odd.
ODDITIES = {
    "set_acl_inside": lambda r: k.multi(k.create(r + "/n"), k.set_acl(r, k.OPEN)), "get_data_inside": lambda r: k.multi(k.create(r + "/n"), k.get_data(r)),
    "get_children_inside": lambda r: k.multi(k.get_children(r)), "exists_inside": lambda r: k.multi(k.exists(r)),
    "sync_inside": lambda r: k.multi(k.sync(r)), "multi_inside": lambda r: k.multi(k.multi()), "ping_inside": lambda r: k.multi(k.ping()),
    "delete_container_inside": lambda r: k.multi(k.raw(k.DELETE_CONTAINER, k.string(r + "/none"))),
    "close_session_inside": lambda r: k.multi(k.close_session()), "unknown_inside": lambda r: k.multi(k.raw(99)),
    "flags_7": lambda r: k.multi(k.create(r + "/n", flags=7)), "flags_negative": lambda r: k.multi(k.create2(r + "/n", flags=-1)),
    "flags_4_in_create": lambda r: k.multi(k.create(r + "/n", flags=4)), "flags_4_in_create2": lambda r: k.multi(k.create2(r + "/n", flags=4)),
    "flags_5_in_create": lambda r: k.multi(k.create(r + "/n", flags=5)), "flags_6_in_create2": lambda r: k.multi(k.create2(r + "/n", flags=6)),
    "flags_0_in_container": lambda r: k.multi(k.create_container(r + "/n", flags=0)), "flags_1_in_container": lambda r: k.multi(k.create_container(r + "/n", flags=1)),
    "flags_2_in_container": lambda r: k.multi(k.create_container(r + "/n", flags=2)), "flags_5_in_container": lambda r: k.multi(k.create_container(r + "/n", flags=5)),
    "flags_0_in_ttl": lambda r: k.multi(k.create_ttl(r + "/n", 5, flags=0)), "flags_0_in_ttl_negative": lambda r: k.multi(k.create_ttl(r + "/n", -1, flags=0)),
    "flags_1_in_ttl": lambda r: k.multi(k.create_ttl(r + "/n", 5, flags=1)), "flags_2_in_ttl": lambda r: k.multi(k.create_ttl(r + "/n", 5, flags=2)),
    "flags_4_in_ttl": lambda r: k.multi(k.create_ttl(r + "/n", 5, flags=4)), "flags_7_in_ttl": lambda r: k.multi(k.create_ttl(r + "/n", 5, flags=7)),
    "null_acl_in_create": lambda r: k.multi(k.create(r + "/n", acl=None)), "null_acl_in_ttl": lambda r: k.multi(k.create_ttl(r + "/n", 5, acl=None)),
    "null_acl_in_container": lambda r: k.multi(k.create_container(r + "/n", acl=None)),
    "null_path_create": lambda r: k.multi(k.create(r + "/m"), k.create(None)), "null_path_delete": lambda r: k.multi(k.create(r + "/m"), k.delete(None)),
    "null_path_set_data": lambda r: k.multi(k.create(r + "/m"), k.set_data(None)), "null_path_check": lambda r: k.multi(k.create(r + "/m"), k.check(None, 0)),
    "without_end": lambda r: k.multi(k.create(r + "/n"), end=False), "no_body": lambda r: k.raw(k.MULTI),
    "bytes_behind": lambda r: k.multi(k.create(r + "/n")).trailed(b"behind"),
    "end_of_another_type": lambda r: k.raw(k.MULTI, header(k.CREATE) + k.create(r + "/n").body + header(77, True, 5)),
    "end_only_of_another_type": lambda r: k.raw(k.MULTI, header(1, True, 0)),
    "done_byte_two": lambda r: k.raw(k.MULTI, header(k.CREATE) + k.create(r + "/n").body + k.i32(-1) + b"\x02" + k.i32(-1)),
    "error_in_header": lambda r: k.raw(k.MULTI, header(k.CREATE, err=-101) + k.create(r + "/n").body + END),
    "type_minus_one_not_done": lambda r: k.raw(k.MULTI, header(-1) + END),
    "part_cut": lambda r: k.raw(k.MULTI, header(k.CREATE) + k.create(r + "/n").body[:-2] + END),
    "requests_behind_the_end": lambda r: k.raw(k.MULTI, header(k.CREATE) + k.create(r + "/n").body + END + header(k.CREATE) + k.create(r + "/m").body + END),
}
for name, request in ODDITIES.items():
    @case(name=f"oddity_{name}")
    def oddity(t, request=request):
        a, b = t.connect("A"), t.connect("B")
        b(k.get_children(t.root, watch=True))
        made = request(t.root)
        a(k.Request(made.op, made.body, made.text.partition(" ")[2]))
        a(k.get_children2(t.root), k.get_children2(t.root + "/n"), k.get_data(t.root + "/n"))
        a(k.create(t.root + "/after-", flags=2))


READ_ODDITIES = {
    "write_inside": lambda r: k.multi_read(k.get_data(r), k.create(r + "/n")), "write_first": lambda r: k.multi_read(k.create(r + "/n"), k.get_data(r)),
    "write_only": lambda r: k.multi_read(k.delete(r + "/none")), "exists_inside": lambda r: k.multi_read(k.get_data(r), k.exists(r)),
    "get_children2_inside": lambda r: k.multi_read(k.get_children2(r)), "without_end": lambda r: k.multi(k.get_data(r), op=k.MULTI_READ, end=False),
    "no_body": lambda r: k.raw(k.MULTI_READ), "cut": lambda r: k.multi_read(k.get_data(r)).cut(12), "null_path_first": lambda r: k.multi_read(k.get_data(None)),
    "set_acl_inside": lambda r: k.multi_read(k.get_data(r), k.set_acl(r, k.OPEN)), "check_inside": lambda r: k.multi_read(k.check(r, 0)),
    "bytes_behind": lambda r: k.multi_read(k.get_data(r)).trailed(b"x"),
}
for name, request in READ_ODDITIES.items():
    @case(name=f"read_oddity_{name}")
    def read_oddity(t, request=request):
        a = t.connect("A")
        a(request(t.root))
        a(k.get_children2(t.root))


@case()
def reads(t):
    a, r = t.connect("A"), t.root
    a(k.create(r + "/n", b"data"), k.create(r + "/locked", b"x", [(0, "world", "anyone")]), k.create(r + "/null", None))
    a(k.multi_read(k.get_data(r + "/n"), k.get_children(r), k.get_data(r + "/none"), k.get_data(r + "/locked"), k.get_children(r + "/locked"),
                   k.get_children(r + "/none"), k.get_data(""), k.get_children("/zookeeper"), k.get_data(r + "/null"), k.get_data(r + "/")))
    a(k.multi_read(k.get_data(r + "/none")), k.multi_read(k.get_children(r + "/n")))


@case()
def reads_set_no_watches(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.multi_read(k.get_data(t.root, True), k.get_children(t.root, True)))
    b(k.set_data(t.root), k.create(t.root + "/n"))
    a(k.remove_watches(t.root, 3), k.check_watches(t.root, 3))


@case()
def ephemerals_end_with_the_session(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.multi(k.create(t.root + "/e", flags=1), k.create(t.root + "/s-", flags=3), k.create(t.root + "/p")))
    a(k.get_ephemerals("/"), k.close_session())
    a.expect_close()
    b(k.get_children2(t.root))


@case()
def zxids(t):
    a = t.connect("A")
    a(k.multi(k.create(t.root + "/n"), k.set_data(t.root, b"1")), k.multi(k.check(t.root, 99)), k.multi(k.set_acl(t.root, k.OPEN)), k.multi(),
      k.multi_read(k.delete("x")), k.create2(t.root + "/m"))


@case("old")
def ttl_parts_without_extended_types(t):
    a = t.connect("A")
    a(k.multi(k.create(t.root + "/p"), k.create_ttl(t.root + "/n", 10**7)))
    a(k.multi(k.create_container(t.root + "/c"), k.create_ttl(t.root + "/n", 10**7, flags=0)), k.get_children2(t.root))
