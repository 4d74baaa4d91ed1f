"""ACLs: what is valid, what it is fixed up to, who passes."""
import codec as k
from cases import case
from servers import digest_id

U, V = digest_id(b"u:p"), digest_id(b"v:q")

# Lists as sent by a connection without identities, by one of u, and by one of u and v.
LISTS = {
    "null": None, "empty": [], "open": k.OPEN, "world_other": [(31, "world", "other")], "world_empty": [(31, "world", "")],
    "world_null_id": [(31, "world", None)], "null_scheme": [(31, None, "anyone")], "null_both": [(31, None, None)],
    "empty_scheme": [(31, "", "anyone")], "unknown_scheme": [(31, "nosuch", "x")], "super": [(31, "super", "")], "ensemble": [(31, "ensemble", "x")],
    "sasl": [(31, "sasl", "user")], "x509": [(31, "x509", "CN=x")], "key": [(31, "key", "x")],
    "auth": [(31, "auth", "")], "auth_with_id": [(31, "auth", "u:p")], "auth_null_id": [(31, "auth", None)],
    "auth_twice": [(1, "auth", ""), (2, "auth", "x")], "auth_and_world": [(1, "world", "anyone"), (31, "auth", "")],
    "digest": [(31, "digest", U)], "digest_no_colon": [(31, "digest", "user")], "digest_empty": [(31, "digest", "")],
    "digest_null": [(31, "digest", None)], "digest_colon_only": [(31, "digest", ":")], "digest_no_hash": [(31, "digest", "u:")],
    "digest_no_user": [(31, "digest", ":x")], "digest_trailing_colon": [(31, "digest", "u:x:")], "digest_three_parts": [(31, "digest", "u:x:y")],
    "digest_trailing_colons": [(31, "digest", "u:x:::")], "digest_not_base64": [(31, "digest", "u:\u00e9")],
    "ip": [(31, "ip", "127.0.0.1")], "ip_bits": [(31, "ip", "127.0.0.1/8")], "ip_bits_0": [(31, "ip", "1.2.3.4/0")],
    "ip_bits_32": [(31, "ip", "127.0.0.1/32")], "ip_bits_33": [(31, "ip", "127.0.0.1/33")], "ip_bits_negative": [(31, "ip", "127.0.0.1/-1")],
    "ip_bits_empty": [(31, "ip", "127.0.0.1/")], "ip_bits_text": [(31, "ip", "127.0.0.1/x")], "ip_two_slashes": [(31, "ip", "127.0.0.1/8/8")],
    "ip_three_parts": [(31, "ip", "127.0.0")], "ip_256": [(31, "ip", "256.0.0.1")], "ip_text": [(31, "ip", "localhost")],
    "ip_empty": [(31, "ip", "")], "ip_null": [(31, "ip", None)], "ip_blank": [(31, "ip", " 127.0.0.1")], "ip_five_parts": [(31, "ip", "1.2.3.4.5")],
    "ip_v6": [(31, "ip", "::1")], "ip_v6_bits": [(31, "ip", "fe80::/10")], "ip_v6_bits_128": [(31, "ip", "::1/128")],
    "ip_v6_bits_129": [(31, "ip", "::1/129")], "ip_v6_bad": [(31, "ip", ":::1")], "ip_v6_full": [(31, "ip", "2001:db8:0:0:0:0:0:1")],
    "ip_leading_zeros": [(31, "ip", "127.000.000.001")], "ip_negative_part": [(31, "ip", "-1.0.0.1")], "ip_plus_sign": [(31, "ip", "+127.0.0.1")],
    "duplicates": [(31, "world", "anyone"), (31, "world", "anyone"), (1, "world", "anyone"), (31, "world", "anyone")],
    "duplicates_by_auth": [(31, "digest", U), (31, "auth", "")], "no_permission": [(0, "world", "anyone")],
    "high_permissions": [(-1, "world", "anyone"), (64, "ip", "127.0.0.1")], "good_then_bad": [(31, "world", "anyone"), (31, "world", "x")],
    "bad_then_good": [(31, "nosuch", "x"), (31, "world", "anyone")],
    "many": [(31, "digest", f"u{number}:x") for number in range(50)] + k.OPEN,
}
for name, acl in LISTS.items():
    @case(name=f"list_{name}")
    def acl_list(t, acl=acl):
        for name, identities in (("A", ()), ("B", (b"u:p",))):
            a = t.connect(name, behind=[k.auth("digest", identity) for identity in identities])
            path = f"{t.root}/{name}"
            a(k.create(path, b"", acl))
            a(k.multi(k.create(path + "m", b"", acl)))
            a(k.create(path + "s"))
            a(k.set_acl(path + "s", acl))
            a(k.get_acl(path), k.get_acl(path + "s"))
            a(k.set_data(path), k.get_children2(path), k.create(path + "s/c"))


@case()
def auth_of_several_identities(t):
    a = t.connect("A", behind=[k.auth("digest", b"u:p"), k.auth("digest", b"v:q")])
    a(k.create(t.root + "/n", acl=[(5, "auth", "")]))
    t.mapper.sorted_acls = True  # the order of a connection's identities is unspecified
    a(k.get_acl(t.root + "/n"))
    for name, identity in (("B", b"u:p"), ("C", b"v:q"), ("D", b"u:q")):
        b = t.connect(name, behind=[k.auth("digest", identity)])
        b(k.get_data(t.root + "/n"), k.create(f"{t.root}/n/{name}"), k.set_data(t.root + "/n"))


@case()
def digest_by_identity(t):
    a = t.connect("A")
    a(k.create(t.root + "/n", b"secret", [(31, "digest", U), (k.READ, "digest", V)]))
    a(k.get_data(t.root + "/n"), k.set_data(t.root + "/n"))
    a(k.auth("digest", b"v:q"))
    a(k.get_data(t.root + "/n"), k.set_data(t.root + "/n"), k.get_acl(t.root + "/n"))
    a(k.auth("digest", b"u:p"))
    a(k.set_data(t.root + "/n"), k.get_acl(t.root + "/n"), k.set_acl(t.root + "/n", k.READ_ONLY))
    a(k.set_data(t.root + "/n"), k.get_data(t.root + "/n"))


@case()
def ip_by_address(t):
    a = t.connect("A")
    for number, ident in enumerate(("127.0.0.1", "127.0.0.2", "127.0.0.0/8", "127.0.0.1/0", "126.0.0.0/7", "128.0.0.0/1", "10.0.0.0/8", "::1")):
        path = f"{t.root}/{number}"
        a(k.create(path, acl=[(31, "ip", ident)]), k.get_data(path), k.set_data(path), k.create(path + "/c"))


@case()
def permissions_do_not_add_up_across_schemes(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.create(n, acl=[(k.READ, "world", "anyone"), (k.WRITE, "ip", "127.0.0.1"), (k.CREATE_PERM, "digest", U), (k.ADMIN, "digest", V)]))
    a(k.get_data(n), k.set_data(n), k.create(n + "/c"), k.set_acl(n, k.OPEN))
    a(k.auth("digest", b"u:p"))
    a(k.create(n + "/c"), k.delete(n + "/c"), k.set_acl(n, k.OPEN))
    a(k.auth("digest", b"v:q"))
    a(k.set_acl(n, k.OPEN))
    a(k.delete(n + "/c"))


@case()
def children_do_not_inherit(t):
    a, n = t.connect("A", behind=[k.auth("digest", b"u:p")]), t.root + "/n"
    a(k.create(n, acl=k.CREATOR), k.create(n + "/c"), k.get_acl(n), k.get_acl(n + "/c"))
    b = t.connect("B")
    b(k.get_children(n), k.get_data(n + "/c"), k.set_data(n + "/c", b"1"), k.delete(n + "/c"), k.create(n + "/d"), k.create(n + "/c/d"))


@case()
def super_passes_permissions_only(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.create(n, b"x", [(0, "world", "anyone")]))
    s = t.connect("S", behind=[k.auth("digest", t.settings["super"])])
    s(k.get_data(n), k.set_data(n, b"y"), k.create(n + "/c"), k.get_acl(n), k.set_data(n, b"z", 77), k.delete(n), k.create(n))
    s(k.set_data("/zookeeper/config", b""), k.delete("/zookeeper/config"), k.create("/zookeeper/config/c"), k.delete("/zookeeper/config/c"))
    s(k.create(t.root + "/bad", acl=[(31, "super", "")]), k.create(t.root + "/auth", acl=k.CREATOR), k.get_acl(t.root + "/auth"))
    s(k.set_acl(n, [(1, "nosuch", "x")]), k.delete(n + "/c"), k.delete(n))
    s(k.get_data("/zookeeper/config"))


@case()
def super_with_a_wrong_password(t):
    a = t.connect("A", behind=[k.auth("digest", b"super:wrong"), k.who_am_i()])
    a(k.create(t.root + "/n", acl=[(0, "world", "anyone")]), k.get_data(t.root + "/n"))


@case()
def set_acl_needs_admin(t):
    a = t.connect("A")
    for perms in (k.ALL & ~k.ADMIN, k.ADMIN, 0):
        path = f"{t.root}/{perms}"
        a(k.create(path, acl=[(perms, "world", "anyone")]), k.set_acl(path, k.OPEN))
        a(k.get_acl(path))


@case()
def events_are_not_filtered_by_a_later_acl(t):
    a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
    a(k.create(n))
    b(k.get_data(n, watch=True), k.get_children(t.root, watch=True))
    a(k.set_acl(n, [(k.ALL & ~k.READ, "world", "anyone")]))
    a(k.set_data(n, b"1"))
    a(k.create(t.root + "/m"))
    b(k.get_data(n))


@case("skipacl")
def skipped_permissions(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.create(n, b"x", [(0, "world", "anyone")]), k.get_data(n), k.set_data(n, b"y"), k.create(n + "/c"), k.get_children(n), k.exists(n, True))
    a(k.get_acl(n), k.set_acl(n, [(0, "digest", U)]))
    a(k.get_acl(n), k.delete(n + "/c"), k.multi(k.check(n, 1), k.set_data(n, b"z")))
    a(k.set_data("/zookeeper/config", b"c"), k.get_data("/zookeeper/config"), k.create("/zookeeper/config/c"), k.delete("/zookeeper/config/c"))
    a(k.set_data("/zookeeper/config", b""))
    b = t.connect("B")
    b(k.get_data(n, watch=True))
    a(k.set_data(n, b"w"))


@case("skipacl")
def skipped_permissions_still_check_validity(t):
    a = t.connect("A")
    for acl in (None, [], [(31, "world", "x")], [(31, "nosuch", "x")], k.CREATOR, [(31, "ip", "x")]):
        a(k.create(t.root + "/n", acl=acl), k.set_acl(t.root, acl))
    a(k.delete("/zookeeper"), k.delete("/"), k.reconfig("server.1=x:1:2"))


@case("old")
def digest_scheme_off(t):
    a = t.connect("A")
    a(k.create(t.root + "/n", acl=[(31, "digest", U)]), k.create(t.root + "/n", acl=k.CREATOR), k.create(t.root + "/n", acl=[(31, "ip", "127.0.0.1")]))
    a(k.get_acl(t.root + "/n"))
    a(k.auth("ip", b"x"), k.who_am_i())
    a(k.auth("digest", b"u:p"))
    a.expect_close()


@case("old")
def reconfig_of_a_standalone_server(t):
    a = t.connect("A")
    a(k.reconfig("server.1=x:1:2", None, None, 0), k.reconfig(None, None, None), k.reconfig(None, None, "garbage", 77), k.ping())


@case()
def reconfig_disabled(t):
    a = t.connect("A")
    a(k.reconfig("server.1=x:1:2", None, None, 0), k.reconfig(None, None, None), k.reconfig(None, None, "garbage", 77), k.ping())
