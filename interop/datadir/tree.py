"""What a server holds: every znode with data, Stat and ACL, the sessions, and the digests it knows."""

import re
import struct
import zlib

import codec
from raw import word

STAT_BYTES = codec.STAT.size
DIGESTED_STAT = struct.Struct(">qqqqqiiiq")
DIGEST_INTERVAL = 128  # `hash` has the digest of every 128th zxid


class Znode:
    """One znode as the replies of getData and getACL spelled it, kept as bytes."""

    __slots__ = ("data_reply", "acl_reply")

    def __init__(self, data_reply, acl_reply):
        self.data_reply, self.acl_reply = data_reply, acl_reply

    def __eq__(self, other):
        return self.data_reply == other.data_reply and self.acl_reply == other.acl_reply

    @property
    def stat(self):
        return codec.Stat._make(codec.STAT.unpack(self.data_reply[-STAT_BYTES:]))

    @property
    def children(self):
        return int.from_bytes(self.data_reply[-12:-8], "big")

    def __str__(self):
        data = codec.Reader(self.data_reply).data()
        return f"{codec.show(data)} {self.stat} {codec.show_acl(codec.Reader(self.acl_reply).acl())}"


def dump_tree(connection):
    """All znodes by path. The session must have super rights; nothing may change meanwhile."""
    znodes, level = {}, ["/"]
    while level:
        both = (make(path) for path in level for make in (data_request, acl_request))
        replies = []
        for request, err, body in connection.pipeline(both):
            if err:
                raise AssertionError(f"{request.text}: error {err}")
            replies.append(body)
        for path, data_reply, acl_reply in zip(level, replies[::2], replies[1::2]):
            znodes[path] = Znode(data_reply, acl_reply)
        parents = [path for path in level if znodes[path].children]
        level = []
        for path, (_, err, body) in zip(parents, connection.pipeline(map(codec.get_children, parents))):
            names = codec.Reader(body).names() if err == 0 else None
            if names is None or len(names) != znodes[path].children:
                raise AssertionError(f"{path} says {znodes[path].children} children and lists {names} (error {err})")
            level += (f"{path.rstrip('/')}/{name}" for name in names)
    return znodes


def data_request(path):
    return codec.Request(codec.GET_DATA, codec.string(path) + b"\x00", path, ())


def acl_request(path):
    return codec.Request(codec.GET_ACL, codec.string(path), path, ())


def differences(expected, found, but=lambda path: False):
    """Lines that say what differs between two trees, at most ten of each kind."""
    lines = []
    missing = sorted(path for path in expected.keys() - found.keys() if not but(path))
    extra = sorted(path for path in found.keys() - expected.keys() if not but(path))
    other = sorted(p for p in expected.keys() & found.keys() if not but(p) and expected[p] != found[p])
    lines += (f"missing: {path!r} {expected[path]}" for path in missing[:10])
    lines += (f"invented: {path!r} {found[path]}" for path in extra[:10])
    lines += (f"changed: {path!r}\n    was {expected[path]}\n    is  {found[path]}" for path in other[:10])
    if lines:
        lines.append(f"{len(missing)} missing, {len(extra)} invented, {len(other)} changed")
    return lines


def sessions(port):
    """What `dump` lists: the ids of the sessions, and their ephemerals as {id: [path, ...]}."""
    text = word(port, "dump")
    tracker, _, rest = text.partition("ephemeral nodes dump:")
    if not rest:
        raise AssertionError(f"dump answered {text!r}")
    owned, owner = {}, None
    for line in rest.partition("Connections dump:")[0].splitlines():
        if match := re.fullmatch(r"(0x[0-9a-f]+):", line):
            owner = owned.setdefault(match[1], [])
        elif line.startswith("\t"):
            owner.append(line.strip())
    return set(re.findall(r"0x[0-9a-f]+", tracker)), {owner: sorted(paths) for owner, paths in owned.items()}


def zxid(port):
    """The last zxid that the server has applied."""
    return int(re.search(r"^Zxid: 0x([0-9a-f]+)$", word(port, "srvr"), re.M)[1], 16)


def digests(port):
    """What `hash` lists: digest by zxid."""
    pairs = re.findall(r"^([0-9a-f]+): (-?\d+)$", word(port, "hash"), re.M)
    return {int(zxid, 16): int(digest) & ((1 << 64) - 1) for zxid, digest in pairs}


CONTAINER_OWNER = -(1 << 63)


def ttl_owner(ttl_ms):
    """The ephemeralOwner that servers keep, but do not show, for a TTL znode."""
    return (0xFF << 56 | ttl_ms) - (1 << 64)


def tree_digest(znodes, hidden_owners):
    """The digest of a whole tree, computed from what clients see and the owners they do not."""
    total = 0
    for path, znode in znodes.items():
        if path.startswith("/zookeeper/"):
            continue
        stat = znode.stat
        owner = hidden_owners.get(path, stat.owner)
        raw = ("" if path == "/" else path).encode() + (codec.Reader(znode.data_reply).data() or b"")
        raw += DIGESTED_STAT.pack(stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime, stat.version,
                                  (stat.cversion + stat.children) // 2, stat.aversion, owner)
        total += zlib.crc32(raw)
    return total & ((1 << 64) - 1)


def digest_mismatches(port):
    """How many txns met a tree with another digest than they were logged with."""
    match = re.search(r"^zk_digest_mismatches_count\t(\d+)$", word(port, "mntr"), re.M)
    if not match:
        raise AssertionError("mntr has no zk_digest_mismatches_count")
    return int(match[1])
