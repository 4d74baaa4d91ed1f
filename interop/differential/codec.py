"""Jute records of the ZooKeeper client protocol: requests to bytes, reply bodies to values.

Written from the protocol description, not from the Rust crates, so that an error there is not repeated here.
A `Request` knows its op, its bytes, the kinds of fields its reply carries and a text for transcripts. Strings
may be given as `str`, as raw `bytes` (to send what no encoder would) or as None (the jute null).
"""
import struct
from collections import namedtuple

CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_ACL, SET_ACL, GET_CHILDREN, SYNC = 1, 2, 3, 4, 5, 6, 7, 8, 9
PING, GET_CHILDREN2, CHECK, MULTI, CREATE2, RECONFIG = 11, 12, 13, 14, 15, 16
CHECK_WATCHES, REMOVE_WATCHES, CREATE_CONTAINER, DELETE_CONTAINER, CREATE_TTL, MULTI_READ = 17, 18, 19, 20, 21, 22
AUTH, SET_WATCHES, SASL, GET_EPHEMERALS, GET_ALL_CHILDREN_NUMBER = 100, 101, 102, 103, 104
SET_WATCHES2, ADD_WATCH, WHO_AM_I = 105, 106, 107
CREATE_SESSION, CLOSE_SESSION = -10, -11

WRITES = {CREATE, DELETE, SET_DATA, SET_ACL, MULTI, CREATE2, RECONFIG, CREATE_CONTAINER, CREATE_TTL}

PERSISTENT, EPHEMERAL, SEQUENTIAL, EPHEMERAL_SEQUENTIAL, CONTAINER, TTL, SEQUENTIAL_TTL = range(7)

READ, WRITE, CREATE_PERM, DELETE_PERM, ADMIN, ALL = 1, 2, 4, 8, 16, 31
OPEN = [(ALL, "world", "anyone")]
READ_ONLY = [(READ, "world", "anyone")]
CREATOR = [(ALL, "auth", "")]

NO_NODE, NO_AUTH, BAD_VERSION, BAD_ARGUMENTS = -101, -102, -103, -8

# Kinds of fields in the body of a successful reply, by op.
REPLIES = {
    CREATE: ("string",), CREATE2: ("string", "stat"), CREATE_CONTAINER: ("string", "stat"),
    CREATE_TTL: ("string", "stat"), EXISTS: ("stat",), GET_DATA: ("data", "stat"), SET_DATA: ("stat",),
    GET_ACL: ("acl", "stat"), SET_ACL: ("stat",), GET_CHILDREN: ("names",), GET_CHILDREN2: ("names", "stat"),
    SYNC: ("string",), MULTI: ("multi",), MULTI_READ: ("multi",), RECONFIG: ("data", "stat"), SASL: ("data",),
    GET_EPHEMERALS: ("names",), GET_ALL_CHILDREN_NUMBER: ("int",), ADD_WATCH: ("int",), WHO_AM_I: ("who",),
}
OP_NAMES = {
    CREATE: "create", DELETE: "delete", EXISTS: "exists", GET_DATA: "getData", SET_DATA: "setData", GET_ACL: "getACL",
    SET_ACL: "setACL", GET_CHILDREN: "getChildren", SYNC: "sync", PING: "ping", GET_CHILDREN2: "getChildren2",
    CHECK: "check", MULTI: "multi", CREATE2: "create2", RECONFIG: "reconfig", CHECK_WATCHES: "checkWatches",
    REMOVE_WATCHES: "removeWatches", CREATE_CONTAINER: "createContainer", DELETE_CONTAINER: "deleteContainer",
    CREATE_TTL: "createTTL", MULTI_READ: "multiRead", AUTH: "auth", SET_WATCHES: "setWatches", SASL: "sasl",
    GET_EPHEMERALS: "getEphemerals", GET_ALL_CHILDREN_NUMBER: "getAllChildrenNumber", SET_WATCHES2: "setWatches2",
    ADD_WATCH: "addWatch", WHO_AM_I: "whoAmI", CREATE_SESSION: "createSession", CLOSE_SESSION: "closeSession",
}
STAT = struct.Struct(">qqqqiiiqiiq")
REPLY_HEADER = struct.Struct(">iqi")
Stat = namedtuple("Stat", "czxid mzxid ctime mtime version cversion aversion owner length children pzxid")
# One part of a multi's reply: the header's type and err, the body's field kinds and values.
Part = namedtuple("Part", "type err kinds values")


class Malformed(Exception):
    """Reply bytes that do not follow the protocol."""


# ---------------------------------------------------------------- primitives

def i32(value):
    return struct.pack(">i", value)


def i64(value):
    return struct.pack(">q", value)


def boolean(value):
    return b"\x01" if value else b"\x00"


def string(value):
    if value is None:
        return b"\xff\xff\xff\xff"
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return i32(len(raw)) + raw


buffer = string


def vector(items, encode):
    if items is None:
        return b"\xff\xff\xff\xff"
    return i32(len(items)) + b"".join(map(encode, items))


def strings(items):
    return vector(items, string)


def acl_list(entries):
    return vector(entries, lambda entry: i32(entry[0]) + string(entry[1]) + string(entry[2]))


class Reader:
    """Takes fields off the front of a reply's body."""

    def __init__(self, raw, at=0):
        self.raw, self.at = raw, at

    def take(self, count):
        end = self.at + count
        if count < 0 or end > len(self.raw):
            raise Malformed(f"{count} bytes wanted at {self.at} of {len(self.raw)}")
        part = self.raw[self.at:end]
        self.at = end
        return part

    def int(self):
        return struct.unpack(">i", self.take(4))[0]

    def long(self):
        return struct.unpack(">q", self.take(8))[0]

    def data(self):
        length = self.int()
        return None if length == -1 else self.take(length)

    def string(self):
        raw = self.data()
        if raw is None:
            return None
        try:
            return raw.decode()
        except UnicodeDecodeError:
            pass
        try:  # Java writes a character outside the BMP as two surrogates of 3 bytes each, ours as UTF-8
            return raw.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeError:
            return raw.decode("utf-8", "backslashreplace")

    def names(self):
        count = self.int()
        return None if count == -1 else [self.string() for _ in range(count)]

    def stat(self):
        return Stat._make(STAT.unpack(self.take(STAT.size)))

    def acl(self):
        count = self.int()
        return None if count == -1 else [(self.int(), self.string(), self.string()) for _ in range(count)]

    def who(self):
        count = self.int()
        return None if count == -1 else [(self.string(), self.string()) for _ in range(count)]

    def multi(self):
        parts = []
        while True:
            op, done, err = self.int(), self.take(1)[0], self.int()
            if done:
                return parts + [Part(op, err, ("end",), (done,))]
            kinds = ("int",) if op == -1 else REPLIES.get(op, ())
            parts.append(Part(op, err, kinds, self.fields(kinds)))

    def fields(self, kinds):
        return tuple(getattr(self, kind)() for kind in kinds)

    def rest(self):
        return self.raw[self.at:]


# ---------------------------------------------------------------- requests

class Request:
    """One request: op code, body bytes, kinds of the reply's fields, a text for transcripts."""

    __slots__ = ("op", "body", "text", "kinds", "xid", "answered")

    def __init__(self, op, body, text="", kinds=None, xid=None):
        self.op, self.body, self.xid = op, body, xid
        self.text = f"{OP_NAMES.get(op, f'op {op}')} {text}".rstrip()
        self.kinds = REPLIES.get(op, ()) if kinds is None else kinds
        self.answered = True

    def with_xid(self, xid):
        self.xid = xid
        return self

    def unanswered(self):
        """Marks a request that is sent without a reply being waited for."""
        self.answered = False
        return self

    def cut(self, length):
        """The same request with its body cut to `length` bytes."""
        return Request(self.op, self.body[:length], f"{self.text.partition(' ')[2]} cut to {length} bytes", self.kinds)

    def trailed(self, extra):
        """The same request with bytes behind its record."""
        return Request(self.op, self.body + extra, f"{self.text.partition(' ')[2]} with {extra.hex()} behind", self.kinds)


def show(value):
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return "b'" + (value.hex() if len(value) <= 64 else f"{value[:32].hex()}… ({len(value)} bytes)") + "'"
    value = repr(value)
    return value if len(value) <= 200 else f"{value[:120]}… ({len(value)} characters)"


def show_acl(entries):
    if entries is None:
        return "null"
    return "[" + ", ".join(f"{perms} {scheme}:{ident}" for perms, scheme, ident in entries) + "]"


def raw(op, body=b"", text=None):
    """A request of any op code with any body."""
    return Request(op, body, show(body) if text is None else text)


def create(path, data=b"", acl=OPEN, flags=PERSISTENT, op=CREATE):
    body = string(path) + buffer(data) + acl_list(acl) + i32(flags)
    text = f"{show(path)} data={show(data)} flags={flags}" + ("" if acl is OPEN else f" acl={show_acl(acl)}")
    return Request(op, body, text)


def create2(path, data=b"", acl=OPEN, flags=PERSISTENT):
    return create(path, data, acl, flags, CREATE2)


def create_container(path, data=b"", acl=OPEN, flags=CONTAINER):
    return create(path, data, acl, flags, CREATE_CONTAINER)


def create_ttl(path, ttl, data=b"", acl=OPEN, flags=TTL):
    made = create(path, data, acl, flags, CREATE_TTL)
    made.body += i64(ttl)
    made.text += f" ttl={ttl}"
    return made


def delete(path, version=-1):
    return Request(DELETE, string(path) + i32(version), f"{show(path)} version={version}")


def _path_watch(op, path, watch):
    return Request(op, string(path) + boolean(watch), show(path) + (" watch" if watch else ""))


def exists(path, watch=False):
    return _path_watch(EXISTS, path, watch)


def get_data(path, watch=False):
    return _path_watch(GET_DATA, path, watch)


def get_children(path, watch=False):
    return _path_watch(GET_CHILDREN, path, watch)


def get_children2(path, watch=False):
    return _path_watch(GET_CHILDREN2, path, watch)


def set_data(path, data=b"", version=-1):
    return Request(SET_DATA, string(path) + buffer(data) + i32(version), f"{show(path)} data={show(data)} version={version}")


def get_acl(path):
    return Request(GET_ACL, string(path), show(path))


def set_acl(path, acl, version=-1):
    return Request(SET_ACL, string(path) + acl_list(acl) + i32(version), f"{show(path)} acl={show_acl(acl)} version={version}")


def sync(path):
    return Request(SYNC, string(path), show(path))


def ping():
    return Request(PING, b"", xid=-2)


def check(path, version):
    return Request(CHECK, string(path) + i32(version), f"{show(path)} version={version}")


def multi(*parts, op=MULTI, end=True):
    """A multi of requests; `end` False leaves the terminator out."""
    body = b"".join(i32(part.op) + b"\x00" + i32(-1) + part.body for part in parts)
    if end:
        body += i32(-1) + b"\x01" + i32(-1)
    return Request(op, body, "{" + "; ".join(part.text for part in parts) + "}" + ("" if end else " without end"))


def multi_read(*parts):
    return multi(*parts, op=MULTI_READ)


def reconfig(joining=None, leaving=None, members=None, version=-1):
    return Request(RECONFIG, string(joining) + string(leaving) + string(members) + i64(version),
                   f"joining={show(joining)} leaving={show(leaving)} members={show(members)} version={version}")


def check_watches(path, kind):
    return Request(CHECK_WATCHES, string(path) + i32(kind), f"{show(path)} type={kind}")


def remove_watches(path, kind):
    return Request(REMOVE_WATCHES, string(path) + i32(kind), f"{show(path)} type={kind}")


def add_watch(path, mode):
    return Request(ADD_WATCH, string(path) + i32(mode), f"{show(path)} mode={mode}")


def auth(scheme, data, kind=0):
    return Request(AUTH, i32(kind) + string(scheme) + buffer(data), f"{show(scheme)} {show(data)}", xid=-4)


def sasl(token):
    return Request(SASL, buffer(token), show(token))


def set_watches(zxid, data=(), exist=(), child=(), label=None):
    text = f"since={'?' if label is None else label} data={data} exist={exist} child={child}"
    return Request(SET_WATCHES, i64(zxid) + strings(data) + strings(exist) + strings(child), text, xid=-8)


def set_watches2(zxid, data=(), exist=(), child=(), persistent=(), recursive=(), label=None):
    text = (f"since={'?' if label is None else label} data={data} exist={exist} child={child} persistent={persistent} "
            f"recursive={recursive}")
    body = i64(zxid) + strings(data) + strings(exist) + strings(child) + strings(persistent) + strings(recursive)
    return Request(SET_WATCHES2, body, text, xid=-8)


def get_ephemerals(prefix):
    return Request(GET_EPHEMERALS, string(prefix), show(prefix))


def get_all_children_number(path):
    return Request(GET_ALL_CHILDREN_NUMBER, string(path), show(path))


def who_am_i():
    return Request(WHO_AM_I, b"")


def close_session():
    return Request(CLOSE_SESSION, b"")


def connect_request(session=0, password=bytes(16), timeout=30000, last_zxid=0, read_only=False, protocol=0):
    """Body of a ConnectRequest; `read_only` None leaves the byte out, as old clients do."""
    body = i32(protocol) + i64(last_zxid) + i32(timeout) + i64(session) + buffer(password)
    return body if read_only is None else body + boolean(read_only)


def frame(body):
    return i32(len(body)) + body


def session_password(session):
    """The password every ZooKeeper server derives from a session id: 16 bytes of java.util.Random."""
    state = (((session ^ 0xB3415C00) & (2**64 - 1)) ^ 0x5DEECE66D) & (2**48 - 1)
    made = b""
    for _ in range(4):
        state = (state * 0x5DEECE66D + 0xB) & (2**48 - 1)
        made += struct.pack("<I", (state >> 16) & 0xFFFFFFFF)
    return made
