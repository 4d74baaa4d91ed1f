"""create, create2: results, the order of their checks, sequential names."""
import codec as k
from cases import case

BAD_ACL = [(31, "world", "nobody")]


@case()
def plain_and_stat(t):
    a = t.connect("A")
    a(k.create(t.root + "/n", b"data"))
    a(k.create2(t.root + "/m", None))
    a(k.create2(t.root + "/e", b"", flags=k.EPHEMERAL))
    for name in ("n", "m", "e"):
        a(k.get_data(f"{t.root}/{name}"))
    a(k.get_data(t.root))
    a(k.get_children2(t.root))


# The rows of the order of checks: each request breaks its own rule and all later ones that it can.
# c is a child of the root, locked allows reading only, e is ephemeral.
PRECEDENCE = {
    "flags_before_path_and_acl": ("nopath", BAD_ACL, 7),
    "flags_negative": ("{}/x", k.OPEN, -1),
    "ttl_flags_before_path": ("nopath", BAD_ACL, 5),
    "ttl_sequential_flags_before_acl": ("{}/x", BAD_ACL, 6),
    "path_without_slash_before_acl": ("nopath", BAD_ACL, 0),
    "path_empty_before_acl": ("", BAD_ACL, 0),
    "path_with_nul_before_acl": ("{}/a\x00b", BAD_ACL, 0),
    "acl_before_missing_parent": ("{}/none/x", BAD_ACL, 0),
    "acl_before_permission": ("{}/locked/x", BAD_ACL, 0),
    "acl_before_invalid_path": ("{}/x/", BAD_ACL, 0),
    "acl_before_existing_node": ("{}/c", BAD_ACL, 0),
    "missing_parent_before_invalid_path": ("{}/none/.", k.OPEN, 0),
    "double_slash_is_a_missing_parent": ("{}//x", k.OPEN, 0),
    "relative_path_is_a_missing_parent": ("foo/bar", k.OPEN, 0),
    "permission_before_invalid_path": ("{}/locked/..", k.OPEN, 0),
    "permission_before_existing_node": ("{}/locked/c", k.OPEN, 0),
    "invalid_path_trailing_slash": ("{}/c/", k.OPEN, 0),
    "invalid_path_trailing_slash_missing_parent": ("{}/x/", k.OPEN, 0),
    "invalid_path_under_ephemeral": ("{}/e/.", k.OPEN, 0),
    "existing_node": ("{}/c", k.OPEN, 0),
    "existing_ephemeral": ("{}/e", k.OPEN, 1),
    "existing_root": ("/", k.OPEN, 0),
    "existing_root_with_bad_acl": ("/", BAD_ACL, 0),
    "child_of_ephemeral": ("{}/e/x", k.OPEN, 0),
    "ephemeral_child_of_ephemeral": ("{}/e/x", k.OPEN, 1),
    "sequential_child_of_ephemeral": ("{}/e/x", k.OPEN, 2),
    "existing_reserved": ("/zookeeper", k.OPEN, 0),
    "existing_config": ("/zookeeper/config", k.OPEN, 0),
    "child_of_config": ("/zookeeper/config/x", k.OPEN, 0),
}
for name, row in PRECEDENCE.items():
    @case(name=name)
    def precedence(t, row=row):
        a = t.connect("A")
        a(k.create(t.root + "/c"), k.create(t.root + "/locked"), k.create(t.root + "/locked/c"), k.set_acl(t.root + "/locked", k.READ_ONLY),
          k.create(t.root + "/e", flags=k.EPHEMERAL))
        path, acl, flags = row
        path = path.format(t.root)
        a(k.create(path, b"d", acl, flags))
        a(k.create2(path, b"d", acl, flags))
        a(k.create_container(path, b"d", acl, flags if flags != 0 else 4))
        a(k.create_ttl(path, 10**7, b"d", acl, 5 if flags in (0, 1) else 6))
        a(k.multi(k.create(path, b"d", acl, flags)))
        a(k.get_children2(t.root))


@case()
def under_the_reserved_nodes(t):
    a = t.connect("A")
    a(k.create2("/zookeeper/x", b"1"), k.create2("/zookeeper/quota/x", b"2"), k.get_children2("/zookeeper"), k.get_children2("/zookeeper/quota"))
    a(k.set_data("/zookeeper/x", b"3"), k.delete("/zookeeper/x"), k.delete("/zookeeper/quota/x"))
    a(k.exists("/zookeeper"), k.exists("/zookeeper/quota"))


@case()
def sequential_names(t):
    a = t.connect("A")
    for flags in (2, 3, 0, 2):
        a(k.create2(t.root + "/n-", flags=flags))
    a(k.create(t.root + "/plain"), k.delete(t.root + "/plain"), k.create(t.root + "/n-", flags=2))
    a(k.delete(t.root + "/n-0000000000"), k.create(t.root + "/n-", flags=2))
    a(k.create(t.root + "/", flags=2))
    a(k.create2(t.root + "/", flags=3))
    a(k.create(t.root + "/é", flags=2))
    a(k.create(t.root + "/n-.", flags=2), k.create(t.root + "/.", flags=2), k.create(t.root + "/..", flags=3))
    a(k.get_children2(t.root))


@case()
def sequential_counter_ignores_failures(t):
    a, s = t.connect("A"), t.root + "/s"
    a(k.create(s))
    a(k.create(s + "/n-", acl=BAD_ACL, flags=2), k.create(s + "/x\x01", flags=2), k.create(s + "/n-", flags=2))
    a(k.multi(k.create(s + "/n-", flags=2), k.create(s + "/n-", flags=2), k.check(s, 9)))
    a(k.create(s + "/n-", flags=2))
    a(k.multi(k.create(s + "/m-", flags=2), k.create2(s + "/m-", flags=3), k.create(s + "/plain"), k.create(s + "/m-", flags=2)))
    a(k.delete(s + "/plain"), k.set_data(s, b"1"), k.set_acl(s, k.OPEN))
    a(k.create2(s + "/n-", flags=2))
    a(k.get_children2(s))


@case()
def sequential_name_taken(t):
    a = t.connect("A")
    a(k.create(t.root + "/n-0000000001"), k.create(t.root + "/n-", flags=2), k.create(t.root + "/n-", flags=2))
    a(k.create(t.root + "/m-0000000003"), k.create(t.root + "/m-", flags=2))
    a(k.create(t.root + "/q-0000000004"), k.create(t.root + "/q-", flags=2))
    a(k.get_children2(t.root))


@case()
def sequential_pipelined(t):
    a = t.connect("A")
    a(*[k.create(f"{t.root}/n-", flags=number % 2 + 2) for number in range(30)])
    a(*[k.delete(f"{t.root}/n-{number:010}") for number in range(0, 30, 3)], k.create(t.root + "/n-", flags=2))
    a(k.get_children2(t.root))


@case()
def sequential_across_connections(t):
    a, b = t.connect("A"), t.connect("B")
    for number in range(4):
        a(k.create(t.root + "/lock-", flags=3))
        b(k.create(t.root + "/lock-", flags=3))
    b(k.close_session())
    b.expect_close()
    a(k.create2(t.root + "/lock-", flags=3), k.get_children2(t.root))


@case()
def deep_tree(t):
    a, path = t.connect("A"), t.root
    requests = []
    for number in range(40):
        path += f"/{number}"
        requests.append(k.create2(path, str(number).encode()))
    a(*requests)
    a(k.get_all_children_number(t.root), k.get_data(path), k.delete(t.root + "/0"))


@case()
def many_children(t):
    a = t.connect("A")
    for start in range(0, 500, 100):
        a(*[k.create(f"{t.root}/child-{number}") for number in range(start, start + 100)])
    a(k.get_children2(t.root), k.get_all_children_number(t.root))
    a(*[k.delete(f"{t.root}/child-{number}") for number in range(0, 500, 2)])
    a(k.get_children2(t.root))


@case()
def recreated_node(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.create2(n, b"1"), k.create(n + "/c"), k.set_data(n, b"2"), k.set_acl(n, k.OPEN), k.delete(n + "/c"), k.delete(n, 1))
    a(k.create2(n, b"3"), k.exists(n), k.create(n + "/s-", flags=2))


@case()
def parent_counters(t):
    a = t.connect("A")
    for request in (k.create(t.root + "/a"), k.create(t.root + "/b"), k.delete(t.root + "/a"), k.create(t.root + "/e", flags=1),
                    k.create(t.root + "/b/c"), k.set_data(t.root + "/b", b"1"), k.delete(t.root + "/b"), k.delete(t.root + "/b/c"),
                    k.create(t.root + "/b"), k.multi(k.create(t.root + "/m"), k.delete(t.root + "/m"))):
        a(request)
        a(k.exists(t.root))


@case()
def data_forms(t):
    a = t.connect("A")
    for number, data in enumerate((None, b"", b"\0", b"x" * 1000, bytes(range(256)), b"y" * 200000)):
        a(k.create2(f"{t.root}/{number}", data))
        a(k.get_data(f"{t.root}/{number}"), k.exists(f"{t.root}/{number}"))


@case()
def failed_writes_take_zxids(t):
    a = t.connect("A")
    for request in (k.create(t.root), k.create("x"), k.create(t.root + "/none/x"), k.delete(t.root + "/none"), k.delete("/"),
                    k.set_data(t.root + "/none"), k.set_data(t.root, b"", 7), k.set_acl(t.root, []), k.multi(k.check(t.root, 7)), k.multi(),
                    k.reconfig("server.1=x:1:2"), k.create(t.root + "/x", flags=9), k.create_ttl(t.root + "/x", 5, flags=0)):
        a(request, k.ping())
    a(k.get_data(t.root + "/none"), k.exists(t.root + "/none"), k.get_children("x"), k.get_acl("x"), k.sync("x"), k.ping())
