"""delete, setData, setACL, and what every op says to every form of path."""
import codec as k
from cases import case

PATHS = (
    "{}/n", "{}/none", "{}", "{}/", "{}/n/", "{}//n", "{}/n//c", "{}/.", "{}/..", "{}/./n", "{}/n/../n", "{}/...", "{}/.n", "{}/n..",
    "{}/ ", "{}/a b", "{}/é", "{}/日本", "{}/\x00", "{}/a\x00b", "{}/\x01", "{}/\x1f", "{}/\x7f", "{}/\x80", "{}/\x9f", "{}/\xa0", "{}/\ud7ff",
    "{}/\ue000", "{}/\uf8ff", "{}/\uf900", "{}/\uffef", "{}/\ufff0", "{}/\ufffd", "{}/\uffff", "{}/\U0001f600", "", "/", "//", "/.", "/..",
    "n", "n/c", "{}/zookeeper", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "/zookeeper/none", "/zookeeper/", "\x00", " ", "{}/n\n",
)
OPS = {
    "create": lambda p: k.create(p, b"d"), "create_sequential": lambda p: k.create(p, b"d", flags=k.SEQUENTIAL),
    "create_ephemeral": lambda p: k.create2(p, b"d", flags=k.EPHEMERAL), "delete": k.delete,
    "set_data": lambda p: k.set_data(p, b"x", 77), "set_acl": lambda p: k.set_acl(p, k.OPEN, 77), "check": lambda p: k.multi(k.check(p, 77)),
    "create_in_multi": lambda p: k.multi(k.create(p, b"d"), k.check(p, 77)), "exists": k.exists, "exists_watch": lambda p: k.exists(p, True),
    "get_data": k.get_data, "get_acl": k.get_acl, "get_children": k.get_children, "get_children2": k.get_children2, "sync": k.sync,
    "read_in_multi": lambda p: k.multi_read(k.get_data(p), k.get_children(p)), "get_all_children_number": k.get_all_children_number,
    "get_ephemerals": k.get_ephemerals, "add_watch": lambda p: k.add_watch(p, 1), "check_watches": lambda p: k.check_watches(p, 3),
    "remove_watches": lambda p: k.remove_watches(p, 3), "set_watches": lambda p: k.set_watches(2**62, [p], [p], [p]),
}
REMOVING = {"delete"}
for name, request in OPS.items():
    @case(name=f"paths_of_{name}")
    def paths(t, request=request, removing=name in REMOVING):
        a = t.connect("A")
        a(k.create(t.root + "/n"), k.create(t.root + "/n/c"))
        for form in PATHS:
            path = form.format(t.root)
            if path.startswith("/zookeeper/quota/") or (removing and path == "{}"):
                continue
            a(request(path))
        a(k.get_children2(t.root), k.get_children("/zookeeper"))


@case()
def set_data_versions(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.create2(n, b"0"))
    for version in (0, 0, 1, -1, -1, 99, -2, -2**31, 2**31 - 1, 3):
        a(k.set_data(n, b"x", version))
    a(k.exists(n), k.exists(n + "x"))
    a(k.set_data(n, b"x", 4))
    a(k.set_data(n, b"x" * 100, 5))
    a(k.set_data(n, None, 6))
    a(k.get_data(n))
    a(k.set_data(n, b"", 7))
    a(k.get_data(n))


@case()
def set_data_same_bytes(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.create2(n, b"same"))
    a(k.get_data(n, watch=True))
    a(k.set_data(n, b"same"))
    a(k.get_data(n))


@case()
def set_data_does_not_touch_the_parent(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.create(n), k.exists(t.root), k.set_data(n, b"1"), k.exists(t.root), k.set_acl(n, k.OPEN))
    a(k.exists(t.root), k.exists(n))


SET_DATA = {
    "invalid_path_before_all": ("{}/", 5), "empty_path": ("", 5), "missing_before_permission": ("{}/locked/none", 5),
    "permission_before_version": ("{}/locked", 5), "version": ("{}", 5), "config_is_read_only": ("/zookeeper/config", 5),
    "config_any_version": ("/zookeeper/config", -1),
}
for name, (path, version) in SET_DATA.items():
    @case(name=f"set_data_{name}")
    def set_data_order(t, path=path, version=version):
        a = t.connect("A")
        a(k.create(t.root + "/locked"), k.set_acl(t.root + "/locked", k.READ_ONLY))
        a(k.set_data(path.format(t.root), b"d", version))
        a(k.multi(k.set_data(path.format(t.root), b"d", version)))


DELETE = {
    "no_slash": "n", "nul": "{}/\x00", "root": "/", "zookeeper": "/zookeeper", "quota": "/zookeeper/quota", "config": "/zookeeper/config",
    "missing_parent": "{}/none/n", "permission_before_missing": "{}/locked/none", "permission_before_version": "{}/locked/n",
    "missing": "{}/none", "version_before_children": "{}/n", "relative": "a/b", "empty": "",
}
for name, path in DELETE.items():
    @case(name=f"delete_{name}")
    def delete_order(t, path=path):
        a = t.connect("A")
        a(k.create(t.root + "/n"), k.create(t.root + "/n/c"), k.create(t.root + "/locked"), k.create(t.root + "/locked/n"),
          k.set_acl(t.root + "/locked", k.READ_ONLY))
        a(k.delete(path.format(t.root), 5))
        a(k.delete(path.format(t.root), 0))
        a(k.multi(k.delete(path.format(t.root), 5)))
        a(k.get_children2(t.root))


@case()
def delete_versions(t):
    a, n = t.connect("A"), t.root + "/n"
    for version, sets in ((0, 0), (-1, 3), (2, 2), (1, 0), (-2, 0), (2**31 - 1, 0)):
        a(k.create(n), *[k.set_data(n, b"x") for _ in range(sets)], k.delete(n, version), k.exists(n))
    a(k.delete(n), k.delete(n))


@case()
def delete_needs_permission_on_the_parent_only(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.create(n, acl=[(0, "world", "anyone")]), k.get_data(n), k.delete(n))
    a(k.set_acl(t.root, [(31 & ~k.DELETE_PERM, "world", "anyone")]))
    a(k.create(n), k.delete(n), k.delete(n + "x"))


@case()
def delete_of_ephemerals_by_others(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.create(t.root + "/e", flags=1), k.create(t.root + "/f", flags=1))
    b(k.delete(t.root + "/e"), k.create(t.root + "/e"))
    a(k.get_ephemerals("/"), k.close_session())
    a.expect_close()
    b(k.get_children2(t.root), k.exists(t.root + "/e"))


SET_ACL = {
    "invalid_path_before_acl": ("{}/", []), "acl_before_missing": ("{}/none", [(31, "world", "x")]), "missing": ("{}/none", k.OPEN),
    "permission_before_version": ("{}/locked", k.OPEN), "version": ("{}", k.OPEN), "empty_list": ("{}", []), "null_list": ("{}", None),
    "config": ("/zookeeper/config", k.OPEN),
}
for name, (path, acl) in SET_ACL.items():
    @case(name=f"set_acl_{name}")
    def set_acl_order(t, path=path, acl=acl):
        a = t.connect("A")
        a(k.create(t.root + "/locked"), k.set_acl(t.root + "/locked", k.READ_ONLY))
        a(k.set_acl(path.format(t.root), acl, 5))
        a(k.set_acl(path.format(t.root), acl, -1))
        a(k.get_acl(t.root))


@case()
def set_acl_versions(t):
    a = t.connect("A")
    for version in (0, 0, 1, -1, 9, -2, 3):
        a(k.set_acl(t.root, k.OPEN, version))
    a(k.get_acl(t.root), k.exists(t.root), k.set_data(t.root, b"1", 0))


@case()
def root_node(t):
    a = t.connect("A")
    a(k.get_acl("/"), k.get_acl(""), k.get_acl("/zookeeper"), k.get_acl("/zookeeper/quota"), k.get_acl("/zookeeper/config"))
    a(k.get_data("/", watch=True), k.get_data("", watch=True), k.exists(""), k.exists("/"))
    a(k.set_data("/", b"root", -1))
    a(k.get_data("/"), k.get_data(""))
    a(k.set_acl("/", k.READ_ONLY + [(31, "digest", "x:y")]))
    a(k.get_acl("/"), k.create("/no"), k.set_data("/", b"no"), k.delete(t.root))
    admin = t.connect("S")
    admin(k.auth("digest", t.settings["super"]))
    admin(k.set_acl("/", k.OPEN))
    admin(k.set_data("/", b""))
    a(k.get_acl("/"))


@case()
def built_in_nodes(t):
    a = t.connect("A")
    for path in ("/zookeeper", "/zookeeper/quota", "/zookeeper/config"):
        a(k.get_data(path), k.get_acl(path), k.get_children(path))
    a(k.set_data("/zookeeper/quota", b"q"), k.get_data("/zookeeper/quota"), k.set_data("/zookeeper/quota", b""))


@case()
def version_wraps_in_the_data_only(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.create(n), *[k.set_data(n, b"x", -1) for _ in range(100)], k.exists(n))
