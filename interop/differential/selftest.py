"""Proves that the comparison can fail: differences planted into one side's replies must each be found.

Both sides are servers of one kind. Every mutation changes a single frame on its way to the right side's client,
the third frame that it applies to, and the run must then report a difference; without one it must report none.
"""
import struct

import codec as k
import compare


def header(body):
    return k.REPLY_HEADER.unpack_from(body)


def is_event(body):
    return header(body)[0] == -1


def with_header(body, xid=None, zxid=None, err=None):
    old = header(body)
    return k.REPLY_HEADER.pack(*[o if n is None else n for o, n in zip(old, (xid, zxid, err))]) + body[16:]


def is_reply(body, err, length=None):
    return header(body)[0] > 0 and header(body)[2] == err and (length is None or len(body) == length)


STAT_REPLY = 16 + k.STAT.size


def stat_field(index, change):
    def mutated(body):
        fields = list(k.STAT.unpack_from(body, 16))
        fields[index] += change
        return [body[:16] + k.STAT.pack(*fields)]
    return mutated


# Per mutation: which frames it applies to, and the frames delivered instead of one.
MUTATIONS = {
    "another error": (lambda b: is_reply(b, -101), lambda b: [with_header(b, err=-102)]),
    "an error instead of success": (lambda b: is_reply(b, 0), lambda b: [with_header(b, err=-110)[:16]]),
    "a later zxid": (lambda b: is_reply(b, 0, STAT_REPLY), lambda b: [with_header(b, zxid=header(b)[1] + 1)]),
    "another version": (lambda b: is_reply(b, 0, STAT_REPLY), stat_field(4, 1)),
    "another cversion": (lambda b: is_reply(b, 0, STAT_REPLY), stat_field(5, -1)),
    "another owner": (lambda b: is_reply(b, 0, STAT_REPLY), stat_field(7, 77)),
    "another pzxid": (lambda b: is_reply(b, 0, STAT_REPLY), stat_field(10, -1)),
    "a wrong ctime": (lambda b: is_reply(b, 0, STAT_REPLY), stat_field(2, -3_600_000)),
    "a lost event": (is_event, lambda b: []),
    "an event twice": (is_event, lambda b: [b, b]),
    "another event type": (is_event, lambda b: [b[:16] + struct.pack(">i", 5 - k.Reader(b, 16).int()) + b[20:]]),
    "another event path": (is_event, lambda b: [b[:-1] + bytes([b[-1] ^ 1])]),
    "an event without its zxid": (is_event, lambda b: [with_header(b, zxid=-1)]),
    "bytes behind a reply": (lambda b: is_reply(b, 0), lambda b: [b + b"\0"]),
    "another xid": (lambda b: is_reply(b, 0), lambda b: [with_header(b, xid=header(b)[0] + 1), b]),
}


class Mutation:
    """Changes the third frame it applies to."""

    def __init__(self, applies, change):
        self.applies, self.change, self.seen = applies, change, 0

    def __call__(self, body):
        if len(body) < 16 or not self.applies(body):
            return [body]
        self.seen += 1
        return self.change(body) if self.seen == 3 else [body]


class Late(Mutation):
    """Delivers an event behind the frame that follows it: the order of events and replies."""

    def __init__(self):
        super().__init__(is_event, None)
        self.held = None

    def __call__(self, body):
        if self.held is not None:
            held, self.held = self.held, None
            return [body, held]
        if len(body) >= 16 and is_event(body):
            self.seen += 1
            if self.seen == 3:
                self.held = body
                return []
        return [body]


def differences(play, kind, mutate):
    """How many cases and sequences differed."""
    names = {"watches/one_shot": False, "nodes/set_data_versions": False}
    found = played = 0
    for _, left, right, broken in play(kind, kind, names, 3, 60, 1, mutate):
        played += 1
        found += bool(broken) or left is None or compare.first_difference(left, right) is not None
    assert played == 5, f"{played} of 5 were played"
    return found


def run(play, kind):
    failures = 0
    planted = {"no mutation": None, **{name: Mutation(*how) for name, how in MUTATIONS.items()}, "an event after its reply": Late()}
    for name, mutate in planted.items():
        found = differences(play, kind, mutate)
        right = (found > 0) == (mutate is not None)
        failures += not right
        print(f"{name}: {found} differences{'' if right else ', WRONG'}", flush=True)
    print(f"{len(planted)} planted, {failures} failures")
    return 1 if failures else 0
