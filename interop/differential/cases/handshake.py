"""The ConnectRequest: its forms, what it negotiates, how a session is renewed, refused and taken over."""
import codec as k
from cases import case
from codec import frame


def raw_connect(t, name, body, title):
    """A ConnectRequest of any bytes."""
    client = t.socket(name)
    client.send_bytes(frame(body), title)
    client.read_connect_response()
    return client


for timeout in (-2**31, -1, 0, 1, 5999, 6000, 6001, 30000, 59999, 60000, 60001, 2**31 - 1):
    @case(name=f"timeout_{timeout}")
    def timeout_is_clamped(t, timeout=timeout):
        t.connect("A", timeout=timeout)(k.ping())


for timeout in (0, 6999, 7001, 8999, 9001):
    @case("narrow", name=f"timeout_{timeout}_within_configured_limits")
    def timeout_is_clamped_to_configured(t, timeout=timeout):
        t.connect("A", timeout=timeout)


@case()
def protocol_versions(t):
    for protocol in (0, 1, 5, -1, 2**31 - 1):
        t.connect(f"A{protocol}", protocol=protocol)(k.ping())


@case()
def read_only_byte_forms(t):
    t.connect("absent", read_only=None)(k.ping())
    t.connect("false", read_only=False)(k.ping())
    t.connect("true", read_only=True)(k.create(t.root + "/w"))
    body = k.connect_request(read_only=None)
    raw_connect(t, "two", body + b"\x02", "readOnly byte 2")
    raw_connect(t, "extra", body + b"\x00extra bytes", "bytes behind the readOnly byte")


@case()
def read_only_byte_in_refusals(t):
    for read_only in (None, False, True):
        t.connect(f"A{read_only}", session=12345, password=b"p" * 16, read_only=read_only)


@case()
def passwords_of_new_sessions(t):
    for name, password in (("null", None), ("empty", b""), ("short", b"abc"), ("long", b"p" * 100)):
        t.connect(name, password=password)(k.ping())


for name, password in (("null", None), ("empty", b""), ("short", b"x" * 15), ("long", b"x" * 17), ("zeros", bytes(16)),
                       ("other", b"x" * 16)):
    @case(name=f"renewal_with_{name}_password")
    def renewal_with_password(t, password=password):
        a = t.connect("A")
        a(k.create(t.root + "/e", flags=k.EPHEMERAL))
        t.connect("B", session=a.session, password=password)
        c = t.connect("C", of=a)
        c(k.exists(t.root + "/e"))


@case()
def renewal_with_last_byte_wrong(t):
    a = t.connect("A")
    t.connect("B", session=a.session, password=a.password[:-1] + bytes([a.password[-1] ^ 1]))
    t.connect("C", of=a)


@case()
def renewal_keeps_ephemerals_and_drops_watches(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.create(t.root + "/e", flags=k.EPHEMERAL))
    a(k.get_data(t.root, watch=True))
    a.disconnect()
    c = t.connect("C", of=a)
    b(k.set_data(t.root, b"1"))
    c(k.get_ephemerals("/"), k.exists(t.root + "/e"))
    c(k.create(t.root + "/e2", flags=k.EPHEMERAL))
    c(k.close_session())
    c.expect_close()
    b(k.get_children2(t.root))


@case()
def renewal_kicks_the_open_connection(t):
    a = t.connect("A")
    b = t.connect("B", of=a)
    a.expect_close()
    b(k.create(t.root + "/e", flags=k.EPHEMERAL), k.who_am_i())
    c = t.connect("C", of=b)
    b.expect_close()
    c(k.exists(t.root + "/e"))


@case()
def renewal_changes_the_timeout(t):
    a = t.connect("A", timeout=30000)
    for timeout in (6000, 60000, 0, 2**31 - 1, 12345):
        a = t.connect(f"A{timeout}", of=a, timeout=timeout)


@case()
def wrong_password_kicks_yet_the_session_lives(t):
    a = t.connect("A")
    a(k.create(t.root + "/e", flags=k.EPHEMERAL))
    t.connect("B", session=a.session, password=b"w" * 16)
    a.expect_close()
    t.connect("C", of=a)(k.exists(t.root + "/e"))


@case()
def session_nobody_opened(t):
    for session in (1, -1, 2**63 - 1, -2**63, 0x0100000000000000):
        t.connect(f"wrong {session}", session=session, password=b"p" * 16)
        t.connect(f"right {session}", session=session, password=k.session_password(session))


@case()
def closed_session_is_not_renewed(t):
    a = t.connect("A")
    a(k.close_session())
    a.expect_close()
    t.connect("B", of=a)
    t.connect("C", of=a, read_only=None)


@case()
def session_id_zero_with_password(t):
    t.connect("A", session=0, password=k.session_password(0))(k.ping())


@case()
def session_ids_go_up_by_one(t):
    a, b, c = t.connect("A"), t.connect("B"), t.connect("C")
    t.note(f"steps of {b.session - a.session} and {c.session - b.session}, server byte {a.session >> 56}")
    t.connect("D", session=a.session, password=b"w" * 16)
    e = t.connect("E")
    t.note(f"after a refused renewal a step of {e.session - c.session}")


for name, ahead in (("one_ahead", 1), ("far_ahead", 2**40), ("equal", 0), ("behind", -1)):
    @case(name=f"last_zxid_{name}")
    def last_zxid(t, ahead=ahead):
        a = t.connect("A")
        zxid = a(k.create(t.root + "/n")).zxid
        t.connect("new", last_zxid=zxid + ahead)
        now = a(k.ping()).zxid
        b = t.connect("renewed", of=a, last_zxid=now + ahead)
        if ahead <= 0:
            a.expect_close()
            b(k.ping())
        else:
            a(k.ping())


@case()
def last_zxid_negative(t):
    t.connect("A", last_zxid=-1)(k.ping())
    t.connect("B", last_zxid=-2**63)(k.ping())


@case()
def requests_behind_the_connect_request(t):
    a = t.connect("A", behind=[k.create(t.root + "/n", b"1"), k.set_data(t.root + "/n", b"2"), k.get_data(t.root + "/n"), k.ping()])
    a(k.get_children2(t.root))


@case()
def auth_and_watches_behind_the_connect_request(t):
    a = t.connect("A", behind=[k.auth("digest", b"u:p"), k.set_watches(0, [t.root], [t.root + "/n"], []), k.get_data(t.root),
                               k.create(t.root + "/n", acl=k.CREATOR)])
    a(k.get_acl(t.root + "/n"))


@case()
def whole_life_in_one_segment(t):
    a = t.connect("A", behind=[k.create(t.root + "/e", flags=k.EPHEMERAL), k.close_session()])
    a.expect_close()
    t.connect("B")(k.get_children2(t.root))


@case()
def renewal_with_requests_behind(t):
    a = t.connect("A")
    a(k.create(t.root + "/n"), k.get_data(t.root + "/n", watch=True))
    zxid = a.last_zxid
    a.disconnect()
    t.connect("B")(k.set_data(t.root + "/n", b"changed"))
    t.connect("C", of=a, last_zxid=zxid, behind=[k.set_watches(zxid, [t.root + "/n"], [], []), k.get_data(t.root + "/n")])


@case()
def bytes_one_by_one(t):
    a = t.socket("A")
    a.send_bytes(b"", "a ConnectRequest and a create, each byte in a segment")
    for byte in frame(k.connect_request()) + frame(k.i32(7) + k.i32(k.CREATE) + k.create(t.root + "/n").body):
        a.send(bytes([byte]))
    a.read_connect_response()
    a.pending.append(k.create(t.root + "/n").with_xid(7))
    a.await_replies()
    a(k.exists(t.root + "/n"))


for length in (0, 1, 3, 4, 11, 12, 15, 16, 23, 24, 27, 28, 43):
    @case(name=f"connect_request_cut_to_{length}")
    def connect_request_cut(t, length=length):
        raw_connect(t, "A", k.connect_request()[:length], f"the first {length} bytes of a ConnectRequest")
        t.connect("B")(k.ping())


for name, length in (("negative", -2), ("minimal", -2**31), ("too_long", 17), ("huge", 2**31 - 1)):
    @case(name=f"connect_request_password_length_{name}")
    def connect_request_password_length(t, length=length):
        body = k.connect_request()
        raw_connect(t, "A", body[:24] + k.i32(length) + body[28:], f"a password of claimed length {length}")


for name, length in (("minus_one", -1), ("minimal", -2**31), ("max_plus_one", 0x100000), ("maximal", 2**31 - 1)):
    @case(name=f"first_frame_length_{name}")
    def first_frame_length(t, length=length):
        a = t.socket("A")
        a.send_bytes(k.i32(length), f"length {length}")
        a.expect_close()


@case()
def second_connect_request(t):
    a = t.connect("A")
    a(k.create(t.root + "/e", flags=k.EPHEMERAL))
    a.send_bytes(frame(k.connect_request()), "another ConnectRequest")
    a.expect_close()
    t.connect("B", of=a)(k.exists(t.root + "/e"))


@case()
def connection_that_says_nothing(t):
    a = t.socket("A")
    a.send_bytes(b"", "nothing")
    a.silence()
    a.send_bytes(b"\0\0", "half a length")
    a.silence()
    a.disconnect()
    t.connect("B")(k.ping())


@case()
def connection_dropped_before_the_answer(t):
    for number in range(3):
        a = t.socket(f"A{number}")
        a.send_bytes(frame(k.connect_request())[:-10], "most of a ConnectRequest")
        a.disconnect()
    t.connect("B")(k.ping())
