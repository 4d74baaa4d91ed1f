"""What two right servers may do differently, mapped to what they must do alike.

Session ids become ordinals, zxids distances from the zxid at which the case began (so a failed write that takes a
zxid still shows), times a verdict on their rules, passwords a verdict on the formula. Children, ephemerals and
identities are compared as sets. Events of one closeSession on one connection are compared as a set.
"""
import time

from codec import OP_NAMES, session_password, show, show_acl

EVENT_NAMES = {-1: "None", 1: "NodeCreated", 2: "NodeDeleted", 3: "NodeDataChanged", 4: "NodeChildrenChanged"}


class Mapper:
    """Maps the values of one case on one server to comparable text."""

    def __init__(self, base_zxid, sorted_acls=False):
        self.base_zxid = base_zxid
        self.began_ms = time.time() * 1000
        self.sessions = {}
        self.times = {}
        self.sorted_acls = sorted_acls

    def zxid(self, value):
        if value in (0, -1):
            return str(value)
        # What happened before the case is not its business: one difference must not become many.
        if value < self.base_zxid:
            return "earlier"
        return f"z+{value - self.base_zxid}" if value < self.base_zxid + 2**31 else "far ahead"

    def session(self, value):
        if value == 0:
            return "0"
        return self.sessions.setdefault(value, f"S{len(self.sessions) + 1}")

    def owner(self, value):
        if value == 0:
            return "0"
        return self.sessions.get(value, f"unknown session {value & (2**64 - 1):#x}")

    def password(self, session, value):
        if value == session_password(session):
            return "ok"
        return "zeros" if value == bytes(16) else f"wrong {show(value)}"

    def times_of(self, stat):
        """The rules of ctime and mtime: one time per txn, never running backwards, near the wall clock."""
        now = time.time() * 1000
        for zxid, at in ((stat.czxid, stat.ctime), (stat.mzxid, stat.mtime)):
            if zxid == 0:
                if at != 0:
                    return f"wrong ({at} without a zxid)"
                continue
            if self.times.setdefault(zxid, at) != at:
                return f"wrong (two times of one zxid: {at} and {self.times[zxid]})"
            if at > now + 2000 or (zxid > self.base_zxid and at < self.began_ms - 2000):
                return f"wrong ({at} at {now:.0f})"
        if stat.mtime < stat.ctime - 2000:
            return f"wrong (mtime {stat.mtime} before ctime {stat.ctime})"
        return "ok"

    def stat(self, stat):
        return (f"c={self.zxid(stat.czxid)} m={self.zxid(stat.mzxid)} p={self.zxid(stat.pzxid)} version={stat.version} "
                f"cversion={stat.cversion} aversion={stat.aversion} owner={self.owner(stat.owner)} "
                f"length={stat.length} children={stat.children} times={self.times_of(stat)}")

    def acl(self, entries):
        return show_acl(sorted(entries, key=repr) if self.sorted_acls and entries else entries)

    def names(self, names):
        return "null" if names is None else "{" + ", ".join(map(show, sorted(names))) + "}"

    def who(self, identities):
        return self.names(None if identities is None else [f"{scheme}:{user}" for scheme, user in identities])

    def multi(self, parts):
        texts = []
        for part in parts:
            head = f"{OP_NAMES.get(part.type, part.type)}" if part.err == 0 else f"{part.type}/{part.err}"
            texts.append(" ".join([head, self.fields(part.kinds, part.values)]).rstrip())
        return "[" + "; ".join(texts) + "]"

    def fields(self, kinds, values):
        return " ".join(getattr(self, kind)(value) for kind, value in zip(kinds, values))

    string = data = end = staticmethod(show)
    int = staticmethod(str)


def finished(steps, known_zxids):
    """The transcript as (title, lines), with runs of events that share a closing session's zxid in sorted order.

    `known_zxids` are those of other writes: an event with another zxid can only stem from a session that ended.
    """
    made = []
    for title, lines in steps:
        texts, run, run_zxid = [], [], None
        for line in lines:
            zxid = line[1] if isinstance(line, tuple) else None
            if run and zxid != run_zxid:
                texts += sorted(run)
                run = []
            if isinstance(line, tuple) and zxid not in known_zxids and zxid != -1:
                run.append(line[0])
                run_zxid = zxid
            else:
                texts.append(line[0] if isinstance(line, tuple) else line)
        made.append((title, texts + sorted(run)))
    return made
