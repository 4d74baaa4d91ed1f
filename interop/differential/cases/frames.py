"""Frames and records that are short, long, negative, null, cut or unknown; xids; pipelining."""
import codec as k
from cases import case


def every_request(root):
    """One valid request of every op, by name."""
    n = root + "/n"
    return {
        "create": k.create(root + "/c", b"d"), "create2": k.create2(root + "/c2", b"d"),
        "createContainer": k.create_container(root + "/cc", b"d"), "createTTL": k.create_ttl(root + "/ct", 10**7, b"d"),
        "delete": k.delete(root + "/gone", 0), "exists": k.exists(n), "getData": k.get_data(n), "setData": k.set_data(n, b"d", 0),
        "getACL": k.get_acl(n), "setACL": k.set_acl(n, k.OPEN, 0), "getChildren": k.get_children(n),
        "getChildren2": k.get_children2(n), "sync": k.sync(n), "multi": k.multi(k.create(root + "/m"), k.check(n, 0)),
        "multiRead": k.multi_read(k.get_data(n), k.get_children(n)), "reconfig": k.reconfig("server.1=a:1:2;3", None, None, 5),
        "checkWatches": k.check_watches(n, 3), "removeWatches": k.remove_watches(n, 3), "addWatch": k.add_watch(n, 0),
        "setWatches": k.set_watches(0, [n], [root + "/x"], [n]), "setWatches2": k.set_watches2(0, [n], [], [n], [n], [root]),
        "getEphemerals": k.get_ephemerals("/"), "getAllChildrenNumber": k.get_all_children_number(n),
    }


for op in every_request(""):
    @case(name=f"{op}_cut")
    def body_cut(t, op=op):
        a = t.connect("A")
        a(k.create(t.root + "/n"), k.create(t.root + "/gone"))
        whole = every_request(t.root)[op]
        for length in sorted({0, 1, 4, len(whole.body) // 2, len(whole.body) - 1}):
            a(whole.cut(length))
        a(whole)
        a(k.get_children2(t.root))

    @case(name=f"{op}_with_bytes_behind")
    def bytes_behind(t, op=op):
        a = t.connect("A")
        a(k.create(t.root + "/n"), k.create(t.root + "/gone"))
        a(every_request(t.root)[op].trailed(b"\0"), k.ping())
        a(k.get_children2(t.root))

    @case(name=f"{op}_of_null")
    def null_path(t, op=op):
        a = t.connect("A")
        a(k.create(t.root + "/n"))
        whole = every_request(t.root)[op]
        a(k.raw(whole.op, b"\xff" * 4 + whole.body[4 + int.from_bytes(whole.body[:4], "big"):], "null for the first string")
          if op not in ("multi", "multiRead", "setWatches", "setWatches2") else
          k.raw(whole.op, whole.body[:8] + b"\xff" * 4, "a null where a string or vector is due"))
        a(k.ping())


@case()
def create_cut_at_every_length(t):
    a = t.connect("A")
    whole = k.create(t.root + "/n", b"data")
    for length in range(len(whole.body)):
        a(whole.cut(length))
    a(k.exists(t.root + "/n"))
    a(whole)


for name, fields in (("-2", -2), ("minimal", -2**31), ("beyond_the_frame", 100), ("beyond_the_limit", 3 * 2**20),
                     ("maximal", 2**31 - 1)):
    @case(name=f"string_length_{name}")
    def string_length(t, length=fields):
        a = t.connect("A")
        for op in (k.CREATE, k.DELETE, k.EXISTS, k.SET_DATA, k.GET_CHILDREN2, k.SYNC, k.ADD_WATCH, k.GET_EPHEMERALS):
            a(k.raw(op, k.i32(length) + b"/abcdefgh\0\0\0\0\0\0\0\0", f"a string of claimed length {length}"))
        a(k.ping())

    @case(name=f"data_length_{name}")
    def data_length(t, length=fields):
        a = t.connect("A")
        a(k.raw(k.CREATE, k.string(t.root + "/n") + k.i32(length) + k.acl_list(k.OPEN) + k.i32(0), f"data of claimed length {length}"))
        a(k.raw(k.SET_DATA, k.string(t.root) + k.i32(length) + b"\0" * 8, f"data of claimed length {length}"))
        a(k.exists(t.root + "/n"))


for name, count in (("-1", -1), ("-2", -2), ("minimal", -2**31), ("beyond_the_frame", 3), ("maximal", 2**31 - 1)):
    @case(name=f"acl_count_{name}")
    def acl_count(t, count=count):
        a = t.connect("A")
        entry = k.i32(31) + k.string("world") + k.string("anyone")
        a(k.raw(k.CREATE, k.string(t.root + "/n") + k.buffer(b"") + k.i32(count) + entry + k.i32(0), f"{count} entries"))
        a(k.raw(k.SET_ACL, k.string(t.root) + k.i32(count) + entry + k.i32(-1), f"{count} entries"))
        a(k.get_children2(t.root))

    @case(name=f"watch_vector_count_{name}")
    def watch_vector_count(t, count=count):
        a = t.connect("A")
        a(k.raw(k.SET_WATCHES, k.i64(0) + k.i32(count) + k.strings([t.root]) + k.strings([]), f"{count} paths").with_xid(-8))
        a(k.raw(k.SET_WATCHES2, k.i64(0) + k.strings([]) * 4 + k.i32(count), f"{count} paths").with_xid(-8))
        a(k.set_data(t.root, b"1"))


for op in (0, 10, 13, 23, 50, 99, 108, 1000, 2**31 - 1, -1, -2, -3, -9, -12, -2**31):
    @case(name=f"unknown_op_{op}")
    def unknown_op(t, op=op):
        a = t.connect("A")
        a(k.create(t.root + "/e", flags=k.EPHEMERAL))
        a(k.raw(op, k.string(t.root) + k.i32(0)))
        a.expect_close()
        b = t.connect("B", of=a)
        b(k.exists(t.root + "/e"))


@case()
def delete_container_from_a_client(t):
    a = t.connect("A")
    a(k.create_container(t.root + "/c"))
    a.send_bytes(k.frame(k.i32(9) + k.i32(k.DELETE_CONTAINER) + k.string(t.root + "/c")), "deleteContainer")
    a.expect_close()
    b = t.connect("B", of=a)
    b.send_bytes(k.frame(k.i32(9) + k.i32(k.DELETE_CONTAINER)), "deleteContainer without a body")
    b.expect_close()
    t.connect("C", of=a)(k.exists(t.root + "/c"))


for name, raw in (("zero", b"\0\0\0\0"), ("minus_one", b"\xff" * 4), ("minimal", b"\x80\0\0\0"), ("max_plus_one", k.i32(0x100000)),
                  ("maximal", b"\x7f\xff\xff\xff"), ("one_byte", b"\0\0\0\1a"), ("seven_bytes", b"\0\0\0\7abcdefg"),
                  ("word", b"ruok"), ("telnet", b"\xff\xf4\xff\xfd\x06")):
    @case(name=f"frame_{name}")
    def bad_frame(t, raw=raw):
        a, b = t.connect("A"), t.connect("B")
        a(k.create(t.root + "/e", flags=k.EPHEMERAL))
        a.send_bytes(raw, f"the bytes {raw.hex()}")
        a.expect_close()
        b(k.exists(t.root + "/e"))
        t.connect("C", of=a)(k.get_ephemerals("/"))


@case()
def largest_frame(t):
    a = t.connect("A")
    n = t.root + "/n"
    empty = 8 + len(k.create(n).body)
    a(k.create(n, b"x" * (0xFFFFF - empty)))
    a(k.exists(n))
    a(k.get_data(n, watch=True))
    a.send_bytes(k.frame(k.i32(5) + k.i32(k.CREATE) + k.create(t.root + "/m", b"x" * (0x100000 - empty)).body), "one byte more")
    a.expect_close()
    t.connect("B", of=a)(k.exists(t.root + "/m"))


@case("narrow")
def largest_frame_of_a_smaller_limit(t):
    a = t.connect("A")
    n = t.root + "/n"
    # Beyond largeRequestThreshold (1000) one request may have up to largeRequestMaxBytes (2500).
    for size in (900, 1000, 2400, 2500):
        a(k.raw(k.EXISTS, k.string(n) + b"\0" * (size - 8 - 4 - len(n)), f"a frame of {size} bytes"))
    a.send_bytes(k.frame(k.i32(5) + k.i32(k.EXISTS) + b"\0" * 2493), "a frame of 2501 bytes")
    a.expect_close()
    b = t.connect("B", of=a)
    b.send_bytes(k.i32(5001), "a frame longer than jute.maxbuffer")
    b.expect_close()
    c = t.socket("C")
    c.send_bytes(k.i32(5001), "a first frame longer than jute.maxbuffer")
    c.expect_close()


@case("narrow")
def inner_length_under_a_smaller_limit(t):
    a = t.connect("A")
    for length in (900, 4999, 5000, 5001, 6023, 6024, 9999, 10000, 10001):
        a(k.raw(k.EXISTS, k.i32(length) + b"/" * 800, f"a path of claimed length {length}"))


@case()
def xids_are_echoed(t):
    a = t.connect("A")
    for xid in (0, 1, 1, 2**31 - 1, -2, -3, -4, -5, -8, -9, -2**31):
        a(k.exists(t.root).with_xid(xid))
        a(k.set_data(t.root, b"x").with_xid(xid))
    for xid in (5, 0, -1, -2, -9):
        a.send_bytes(k.frame(k.i32(xid) + k.i32(k.PING)), f"ping with xid {xid}")
        a.pending.append(k.ping())
        a.await_replies()
    a(k.set_watches(0, [t.root], [], []).with_xid(77))
    a(k.auth("digest", b"u:p").with_xid(78), k.who_am_i().with_xid(-8))
    a(k.sync("/x").with_xid(0), k.exists("/x").with_xid(-1))
    a(k.close_session().with_xid(-77))
    a.expect_close()


@case()
def ping_with_a_body(t):
    a = t.connect("A")
    a.send_bytes(k.frame(k.i32(-2) + k.i32(k.PING) + b"body"), "ping with a body")
    a.pending.append(k.ping())
    a.await_replies()
    a(k.raw(k.WHO_AM_I, b"body"))
    a(k.raw(k.CLOSE_SESSION, b"body"))
    a.expect_close()


@case()
def watch_byte_other_than_one(t):
    a, b = t.connect("A"), t.connect("B")
    for op, byte in ((k.GET_DATA, 2), (k.GET_CHILDREN, 255)):
        a(k.raw(op, k.string(t.root) + bytes([byte]), f"watch byte {byte}"))
    b(k.create(t.root + "/n"))
    b(k.set_data(t.root, b"1"))


@case()
def malformed_utf8_in_paths(t):
    a = t.connect("A")
    root = t.root.encode()
    for bad in (b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf8\x88\x80\x80\x80", b"\xf4\x90\x80\x80", b"a\xc3(",
                b"\xf0\x9f\x98\x80", b"\xed\xa0\xbd\xed\xb8\x80"):
        a(k.create(root + b"/" + bad), k.exists(root + b"/" + bad), k.delete(root + b"/" + bad), k.get_ephemerals(bad))
    a(k.get_children2(t.root))


@case()
def echo_of_malformed_utf8(t):
    a = t.connect("A")
    for bad in (b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf8\x88\x80\x80\x80", b"\xf4\x90\x80\x80", b"a\xc3(",
                b"\xf0\x9f\x98\x80", b"\xed\xa0\xbd\xed\xb8\x80"):
        a(k.sync(b"/s" + bad))


@case()
def burst_of_many(t):
    a, n = t.connect("A"), t.root + "/n"
    requests = []
    for number in range(60):
        requests += [k.create2(f"{n}{number}", b"x" * number), k.exists(f"{n}{number}", watch=True), k.set_data(f"{n}{number}", b"y", 0),
                     k.get_children2(t.root), k.delete(f"{n}{number}", number % 3), k.ping()]
    a(*requests)


@case()
def reads_wait_for_writes_before_them(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.exists(n), k.create(n, b"1"), k.get_data(n), k.set_data(n, b"2"), k.get_data(n), k.sync(n), k.delete(n), k.exists(n),
      k.create(n), k.create(n), k.get_children(t.root), k.ping(), k.set_acl(n, k.READ_ONLY), k.get_acl(n))


@case()
def frames_in_pieces(t):
    a = t.connect("A")
    whole = k.frame(k.i32(50) + k.i32(k.CREATE) + k.create(t.root + "/n", b"z" * 5000).body)
    whole += k.frame(k.i32(51) + k.i32(k.EXISTS) + k.exists(t.root + "/n").body)
    a.send_bytes(b"", "a create and an exists in pieces of 1 to 900 bytes")
    at, size = 0, 1
    while at < len(whole):
        a.send(whole[at:at + size])
        at, size = at + size, size * 3 % 901 + 1
    a.pending += [k.create(t.root + "/n").with_xid(50), k.exists(t.root + "/n").with_xid(51)]
    a.await_replies()


@case()
def drop_in_the_middle_of_a_frame(t):
    a = t.connect("A")
    a(k.create(t.root + "/e", flags=k.EPHEMERAL))
    a.send_bytes(k.frame(k.i32(2) + k.i32(k.CREATE) + k.create(t.root + "/n").body)[:-3], "most of a create")
    a.disconnect()
    b = t.connect("B", of=a)
    b(k.get_children2(t.root))
