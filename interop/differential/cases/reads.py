"""exists, getData, getChildren, getACL, sync, getEphemerals, getAllChildrenNumber, whoAmI."""
import codec as k
from cases import case
from servers import digest_id

READS = (k.exists, k.get_data, k.get_children, k.get_children2, k.get_acl, k.get_all_children_number)


def locked(t, perms):
    a = t.connect("A")
    a(k.create(t.root + "/n", b"data", [(perms, "world", "anyone")]))
    return a


for perms in (0, k.READ, k.WRITE, k.CREATE_PERM, k.DELETE_PERM, k.ADMIN, k.ALL & ~k.READ, -1, 32, -2**31):
    @case(name=f"permissions_{perms}")
    def permissions(t, perms=perms):
        a, n = locked(t, perms), t.root + "/n"
        a(*[read(n) for read in READS])
        a(k.multi_read(k.get_data(n), k.get_children(n)))
        a(k.multi(k.check(n, 0)), k.multi(k.check(n, 1)))
        a(k.exists(n, True), k.get_data(n, True), k.get_children(n, True))
        a(k.create(n + "/c"))
        a(k.set_data(n, b"x"))
        a(k.delete(n + "/c"), k.delete(n + "/none"))
        a(k.set_acl(n, k.OPEN))
        a(*[read(n) for read in READS])


@case()
def of_missing_nodes(t):
    a = t.connect("A")
    a(*[read(t.root + "/none") for read in READS], *[read(t.root + "/none/none") for read in READS])


@case()
def root_has_an_alias(t):
    a = t.connect("A")
    for read in (k.exists, k.get_data, k.get_children2, k.get_acl, k.get_all_children_number):
        a(read("/"), read(""))


@case()
def watch_on_the_alias_of_the_root(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.get_children("", watch=True), k.get_data("", watch=True))
    b(k.create(t.root + "x"), k.set_data("/", b""))
    a(k.get_children("/", watch=True), k.get_data("/", watch=True))
    b(k.delete(t.root + "x"), k.set_data("/", b""))


@case()
def get_acl_redacts(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.auth("digest", b"u:p"))
    acl = [(k.ALL, "digest", digest_id(b"u:p")), (k.READ, "world", "anyone"), (k.WRITE, "ip", "127.0.0.1"),
           (k.READ, "digest", "v:w:"), (k.READ, "digest", "v:x")]
    a(k.create(n, acl=acl), k.get_acl(n))
    b = t.connect("B")
    b(k.get_acl(n))
    b(k.auth("digest", b"u:p"), k.get_acl(n))
    t.connect("S", behind=[k.auth("digest", t.settings["super"])])(k.get_acl(n))


@case()
def get_acl_needs_read_or_admin(t):
    a = t.connect("A")
    for perms in (k.READ, k.ADMIN, k.WRITE | k.CREATE_PERM | k.DELETE_PERM, k.READ | k.ADMIN):
        path = f"{t.root}/{perms}"
        a(k.create(path, acl=[(perms, "world", "anyone"), (0, "digest", "u:p")]), k.get_acl(path))


@case()
def sync_does_not_look_at_the_path(t):
    a = t.connect("A")
    for path in (t.root, "/none/none", "", "no slash", "/\x00", "/" + "x" * 1000, None):
        a(k.sync(path))
    a(k.create(t.root + "/n"), k.sync(t.root + "/n"), k.get_data(t.root + "/n"), k.ping())


@case()
def ephemerals_by_prefix(t):
    a, b = t.connect("A"), t.connect("B")
    a(*[k.create(t.root + name, flags=1) for name in ("/a", "/ab", "/b")], k.create(t.root + "/a-", flags=3))
    b(k.create(t.root + "/of-b", flags=1))
    for prefix in (t.root, t.root + "/", t.root + "/a", t.root + "/ab", t.root + "/none", "/", "", " ", "\t", "x", t.root[:-1], None):
        a(k.get_ephemerals(prefix))
    b(k.get_ephemerals("/"))
    a(k.delete(t.root + "/a"), k.get_ephemerals("/"))


@case()
def all_children_number(t):
    a = t.connect("A")
    a(k.get_all_children_number("/"), k.get_all_children_number(t.root))
    a(k.create(t.root + "/a"), k.create(t.root + "/a/b"), k.create(t.root + "/a/b/c"), k.create(t.root + "/ab"))
    for path in ("/", "", t.root, t.root + "/a", t.root + "/a/b/c", t.root + "/none", t.root + "/a/", "/zookeeper"):
        a(k.get_all_children_number(path))


@case()
def who_am_i(t):
    a = t.connect("A")
    a(k.who_am_i())
    for credentials in (b"u:p", b"u:p", b"u:q", b"v", b"", b":", b"a:b:c"):
        a(k.auth("digest", credentials), k.who_am_i())
    a(k.auth("ip", b""), k.who_am_i())
    a(k.auth("digest", t.settings["super"]), k.who_am_i())
    t.connect("B", of=a)(k.who_am_i())


@case()
def zxids_of_reads(t):
    a, b = t.connect("A"), t.connect("B")
    b(k.create(t.root + "/n"))
    a(k.exists(t.root), k.get_data(t.root), k.get_acl(t.root), k.get_children(t.root), k.sync("/"), k.ping(), k.who_am_i(),
      k.get_ephemerals("/"), k.get_all_children_number("/"), k.add_watch(t.root, 0), k.remove_watches(t.root, 3),
      k.check_watches(t.root, 3), k.multi_read(k.get_data(t.root)), k.set_watches(0, [], [], []))
    b(k.create(t.root + "/n"))
    a(k.exists(t.root), k.ping())


@case()
def children_after_changes(t):
    a = t.connect("A")
    a(k.create(t.root + "/b"), k.create(t.root + "/a"), k.create(t.root + "/b/c"), k.get_children(t.root), k.get_children2(t.root))
    a(k.delete(t.root + "/a"), k.get_children(t.root), k.get_children2(t.root + "/b"), k.get_children(t.root + "/b/c"))
