"""auth and sasl requests, and enforced authentication."""
import codec as k
from cases import case
from servers import digest_id

FAILING = {
    "unknown_scheme": k.auth("nosuch", b"x"), "empty_scheme": k.auth("", b"x"), "world": k.auth("world", b"anyone"), "auth": k.auth("auth", b""),
    "super": k.auth("super", b"x"), "sasl": k.auth("sasl", b"x"), "x509": k.auth("x509", b"x"), "ensemble": k.auth("ensemble", b"x"),
    "null_scheme": k.auth(None, b"x"), "digest_null_data": k.auth("digest", None), "case_of_scheme": k.auth("Digest", b"u:p"),
    "own_xid": k.auth("nosuch", b"x").with_xid(99),
}
for name, request in FAILING.items():
    @case(name=f"of_{name}")
    def failing(t, request=request):
        a, b = t.connect("A"), t.connect("B")
        a(k.create(t.root + "/e", flags=1), k.get_children(t.root, watch=True))
        a(k.Request(request.op, request.body, request.text.partition(" ")[2], (), request.xid))
        if a.closed:
            return b(k.exists(t.root + "/e"))
        a.silence()
        b(k.exists(t.root + "/e"))
        c = t.connect("C", of=a)
        c(k.get_ephemerals("/"), k.who_am_i())


@case()
def digest_takes_any_bytes(t):
    a = t.connect("A")
    for data in (b"u:p", b"u", b":", b"", b"u:", b":p", b"u:p:q", b"\xff\xfe", b"\0", "ü:é".encode(), b"x" * 1000, b" u : p "):
        a(k.auth("digest", data), k.create(t.root + "/n", acl=k.CREATOR))
        t.mapper.sorted_acls = True
        a(k.who_am_i(), k.get_acl(t.root + "/n"), k.delete(t.root + "/n"))


for name, credentials in (("plain", b"u:p"), ("without_password", b"u"), ("empty", b""), ("non_ascii", "ü:é".encode()), ("three", b"u:p:q"),
                          ("malformed_utf8", b"u\xff:p\xc3")):
    @case(name=f"digest_id_of_{name}")
    def digest_ids(t, credentials=credentials):
        a = t.connect("A")
        a(k.auth("digest", credentials), k.create(t.root + "/n", acl=k.CREATOR), k.get_acl(t.root + "/n"), k.who_am_i())


@case()
def packet_type_is_ignored(t):
    a = t.connect("A")
    for kind in (0, 1, -1, 2**31 - 1):
        a(k.auth("digest", b"u:p", kind))
    a(k.who_am_i())


@case()
def ip_scheme(t):
    a = t.connect("A")
    a(k.auth("ip", b""), k.auth("ip", b"10.0.0.1"), k.auth("ip", None), k.who_am_i(), k.create(t.root + "/n", acl=k.CREATOR))


@case()
def bytes_behind_the_packet(t):
    a = t.connect("A")
    a(k.auth("digest", b"u:p").trailed(b"behind").with_xid(-4), k.who_am_i())


for length in (0, 3, 4, 7, 8, 12, 14, 18):
    @case(name=f"cut_to_{length}")
    def cut(t, length=length):
        a = t.connect("A")
        a(k.create(t.root + "/e", flags=1))
        a.send_bytes(k.frame(k.i32(-4) + k.i32(k.AUTH) + k.auth("digest", b"u:p").body[:length]), f"auth cut to {length}")
        a.expect_close()
        t.connect("B", of=a)(k.exists(t.root + "/e"))


@case()
def identities_last_as_long_as_the_connection(t):
    a, n = t.connect("A", behind=[k.auth("digest", b"u:p")]), t.root + "/n"
    a(k.create(n, b"x", k.CREATOR), k.get_data(n))
    b = t.connect("B", of=a)
    b(k.get_data(n))
    b(k.auth("digest", b"u:p"), k.get_data(n))


@case()
def auth_before_and_after_a_request(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.create(n, b"x", [(31, "digest", digest_id(b"u:p"))]))
    a(k.get_data(n))
    a(k.auth("digest", b"u:p"), k.get_data(n), k.set_data(n, b"y"))


@case()
def sasl_without_a_login_configuration(t):
    a = t.connect("A")
    for token in (b"", b"token", b"x" * 1000):
        a(k.sasl(token))
    a(k.who_am_i(), k.create(t.root + "/n"))


@case()
def sasl_null_token(t):
    a = t.connect("A")
    a.send_bytes(k.frame(k.i32(3) + k.i32(k.SASL) + k.buffer(None)), "sasl with a null token")
    a.pending.append(k.sasl(None).with_xid(3))
    a.await_replies()
    t.connect("B", of=a)(k.ping())


@case()
def sasl_cut(t):
    a = t.connect("A")
    a.send_bytes(k.frame(k.i32(3) + k.i32(k.SASL) + b"\0\0"), "sasl cut to 2 bytes")
    a.expect_close()


@case()
def auth_without_a_session(t):
    a = t.socket("A")
    a.send_bytes(k.frame(k.i32(-4) + k.i32(k.AUTH) + k.auth("digest", b"u:p").body), "auth as the first frame")
    a.expect_close()


ENFORCED = {
    "ping": k.ping(), "create": k.create("/x"), "getData": k.get_data("/"), "closeSession": k.close_session(), "multi": k.multi(),
    "setWatches": k.set_watches(0, ["/"], [], []), "sync": k.sync("/"), "unknown": k.raw(99), "whoAmI": k.who_am_i(), "empty_create": k.raw(k.CREATE),
    "deleteContainer": k.raw(k.DELETE_CONTAINER, k.string("/x")),
}
for name, request in ENFORCED.items():
    @case("enforce", name=f"enforced_{name}")
    def enforced(t, request=request):
        a = t.connect("A")
        a(k.Request(request.op, request.body, "", (), request.xid))
        a.expect_close()
        b = t.connect("B", of=a, behind=[k.auth("digest", b"u:p")])
        b(k.get_children(t.root))


@case("enforce")
def enforced_with_an_identity(t):
    a = t.connect("A", behind=[k.auth("digest", b"u:p"), k.create(t.root + "/e", flags=1, acl=k.CREATOR)])
    a(k.get_acl(t.root + "/e"), k.who_am_i(), k.ping())
    b = t.connect("B", behind=[k.auth("ip", b""), k.sync("/")])
    b.expect_close()
    c = t.connect("C", behind=[k.sasl(b"x"), k.get_data("/")])
    c.expect_close()


@case("enforce")
def digest_by_another_algorithm(t):
    a = t.connect("A", behind=[k.auth("digest", b"u:p")])
    a(k.create(t.root + "/n", acl=k.CREATOR), k.get_acl(t.root + "/n"))
    a(k.create(t.root + "/m", acl=[(31, "digest", digest_id(b"u:p"))]), k.get_data(t.root + "/m"))
    a(k.create(t.root + "/o", acl=[(31, "digest", digest_id(b"u:p", "sha256"))]), k.get_data(t.root + "/o"))
