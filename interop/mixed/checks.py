"""What must hold of a whole ensemble: same trees on all servers, same txns in all logs, directories that both read."""

import concurrent.futures
import logging
import re
import shutil
import struct
import subprocess
from collections import Counter

from kazoo.client import KazooClient

import codec
import tree
from ensemble import CLIENT_PORT, JAVA, OXKEEPER, SUPER, Failed, Member, expect, java, until
from raw import Connection

CONFIG = "/zookeeper/config"
CLOSE_SESSION_TXN, ERROR_TXN, MULTI_TXN = -11, -1, 14

logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # lost connections are part of the suite


def connect(member, **options):
    """A raw session of that server."""
    return Connection(CLIENT_PORT, host=member.address, **options)


def super_connection(member, **options):
    connection = connect(member, **options)
    connection.call(codec.auth("digest", SUPER.encode()))
    return connection


def client(members, timeout=10.0, start=True, **options):
    """A kazoo client of these servers (or of one), tried in that order."""
    members = [members] if isinstance(members, Member) else list(members)
    made = KazooClient(
        hosts=",".join(f"{member.address}:{CLIENT_PORT}" for member in members), timeout=timeout, randomize_hosts=False,
        connection_retry={"max_tries": -1, "delay": 0.05, "max_delay": 0.3}, **options)
    if start:
        made.start(timeout=30)
    return made


def finish(*clients):
    for each in clients:
        each.stop()
        each.close()


def dump(member):
    """The whole tree as one server shows it to a super user, with all that was committed before."""
    connection = super_connection(member)
    connection.call(codec.sync("/"))
    znodes = tree.dump_tree(connection)
    connection.close()
    # Each server writes its list of servers there by itself when it starts: the time is its own.
    config = znodes[CONFIG]
    config.data_reply, config.acl_reply = without_mtime(config.data_reply), without_mtime(config.acl_reply)
    return znodes


def without_mtime(reply):
    """A reply that ends with a Stat, its mtime set to 0."""
    at = len(reply) - tree.STAT_BYTES + 24
    return reply[:at] + bytes(8) + reply[at + 8 :]


def dump_with_kazoo(member):
    """The same by a client that we did not write: {path: (data, stat, acl)}."""
    zk = client(member, auth_data=[("digest", SUPER)])
    zk.sync("/")
    found, paths = {}, ["/"]
    while paths:
        path = paths.pop()
        data, stat = zk.get(path)
        acl, _ = zk.get_acls(path)
        stat = stat._replace(mtime=0) if path == CONFIG else stat
        found[path] = (data, tuple(stat), sorted((a.perms, a.id.scheme, a.id.id) for a in acl))
        names = zk.get_children(path)
        expect(len(names) == stat.numChildren, f"{member}: {path} has {len(names)} children and says {stat.numChildren}")
        paths += (f"{path.rstrip('/')}/{name}" for name in names)
    finish(zk)
    return found


def expect_same_trees(ensemble, with_kazoo=False, fuzzy=()):
    """Every server shows the same znodes, data, Stats and ACLs; no server met a digest that is not its tree's, but
    Java servers that got `fuzzy` snapshots. Nothing may change meanwhile. Returns the tree."""
    first, *others = ensemble.running
    expected = dump(first)
    for other in others:
        lines = tree.differences(expected, dump(other))
        expect(not lines, "\n".join([f"{first} and {other} hold different trees:", *lines]))
    if with_kazoo:
        expected_by_kazoo = dump_with_kazoo(first)
        expect(expected_by_kazoo.keys() == expected.keys(), "kazoo sees other znodes than the raw client")
        for other in others:
            found = dump_with_kazoo(other)
            wrong = [path for path in expected_by_kazoo.keys() | found.keys()
                     if expected_by_kazoo.get(path) != found.get(path)]
            expect(not wrong, f"kazoo sees differences between {first} and {other}: "
                              + "; ".join(f"{p}: {expected_by_kazoo.get(p)} / {found.get(p)}" for p in wrong[:5]))
    expect_same_digests(ensemble, fuzzy)
    return expected


def expect_same_digests(ensemble, fuzzy=()):
    """The digests that servers keep of every 128th txn agree, and none met a mismatch. Servers that got `fuzzy`
    snapshots had other trees until they were up to date: their newest digest counts, after a few more txns."""
    since = 0
    if fuzzy:
        since = ensemble.leader().zxid()
        connection = super_connection(ensemble.leader())
        for _, err, _ in connection.pipeline(codec.delete("/none") for _ in range(2 * tree.DIGEST_INTERVAL)):
            expect(err == codec.NO_NODE, f"error {err}")
        connection.close()
        ensemble.await_same_zxid()
    digests, compared = {}, 0
    for member in ensemble.running:
        mismatches = member.monitor().get("digest_mismatches_count")
        # Java counts what it meets on its way there.
        expect(mismatches in (None, "0") or member in fuzzy and member.kind == JAVA,
               f"{member} counts {mismatches} digest mismatches")
        for zxid, digest in re.findall(r"^([0-9a-f]+): (-?\d+)$", member.word("hash"), re.M):
            zxid, digest = int(zxid, 16), int(digest) & ((1 << 64) - 1)
            if zxid > since or member not in fuzzy:
                other, who = digests.setdefault(zxid, (digest, member))
                expect(other == digest, f"{who} and {member} have different digests at zxid 0x{zxid:x}")
                compared += who is not member and zxid > since
    expect(compared or not fuzzy, "no digest was compared")


def logged_txns(member):
    """The txns in a member's log files: {zxid: bytes}. A torn tail ends a file, as it does for a server."""
    txns = {}
    for path in member.data_files("log"):
        raw, at = path.read_bytes(), 16
        while at + 12 <= len(raw):
            length = struct.unpack_from(">i", raw, at + 8)[0]
            txn = raw[at + 12 : at + 12 + length]
            if length <= 0 or raw[at + 12 + length : at + 13 + length] != b"B":
                break
            txns[struct.unpack_from(">q", txn, 12)[0]] = txn
            at += 13 + length
    return txns


def expect_same_logs(ensemble):
    """What two servers have logged under one zxid is the same bytes. Returns the number of txns compared."""
    first, compared = {}, 0
    for member in ensemble:
        for zxid, txn in logged_txns(member).items():
            other, who = first.setdefault(zxid, (txn, member))
            if other is not txn:
                compared += 1
                if not same_txn(other, txn, member.release):
                    raise Failed(f"at zxid 0x{zxid:x} {who} has logged {other.hex()} and {member} {txn.hex()}")
    expect(compared > 0, "no txn is in two logs")
    return compared


def same_txn(one, other, release):
    """Whether two servers have logged the same txn, apart from what Java makes of it:

    - Applying a failed multi, Java overwrites the types of its parts with "error", in the record that another thread is
      about to log: a server that is slow to log, logs those.
    - Java 3.5 knows neither digests nor the list of paths in closeSession: it logs txns without them."""
    one, other = without_types_of_failed_multi(one), without_types_of_failed_multi(other)
    if one == other:
        return True
    if not release.startswith("3.5."):
        return False
    shorter, longer = sorted((one, other), key=len)
    is_close = struct.unpack_from(">i", one, 28)[0] == CLOSE_SESSION_TXN
    return longer.startswith(shorter) and (is_close or len(longer) - len(shorter) == 12)


def without_types_of_failed_multi(txn):
    """The txn; if it is a multi with a part of type "error", then with all parts of that type."""
    kind, count = struct.unpack_from(">ii", txn + bytes(8), 28)
    if kind != MULTI_TXN:
        return txn
    raw, at, parts = bytearray(txn), 36, []
    for _ in range(count):
        parts.append(at)
        at += 8 + struct.unpack_from(">i", txn, at + 4)[0]
    if any(struct.unpack_from(">i", txn, at)[0] == ERROR_TXN for at in parts):
        for at in parts:
            struct.pack_into(">i", raw, at, ERROR_TXN)
    return bytes(raw)


def run_tool(name, *arguments):
    """The output of one of Java's tools; those of 3.5 fail at a znode without data."""
    done = subprocess.run(java("3.9.6", name, *map(str, arguments)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace")
    expect(done.returncode == 0, f"{name} {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return done.stdout


def expect_readable_by_java(members):
    """Java's own tools read every snapshot and log of these stopped members: all records, none damaged."""
    def read_snapshot(path):
        text = run_tool("org.apache.zookeeper.server.SnapshotFormatter", path)
        expect("ZNode Details" in text, f"SnapshotFormatter says of {path}:\n{text[-2000:]}")

    def read_log(member, path):
        text = run_tool("org.apache.zookeeper.server.persistence.TxnLogToolkit", path)
        match = re.search(r"^EOF reached after (\d+) txns", text, re.M)
        expect(match and "CRC ERROR" not in text, f"TxnLogToolkit says of {path}:\n{text[-2000:]}")
        return member.sid, int(match[1])

    txns = Counter()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        snapshots = [pool.submit(read_snapshot, path) for m in members for path in m.data_files("snapshot")[-1:]]
        logs = [pool.submit(read_log, m, path) for m in members for path in m.data_files("log")]
        for each in snapshots:
            each.result()
        for each in logs:
            sid, number = each.result()
            txns[sid] += number
    for member in members:
        known = len(logged_txns(member))
        expect(txns[member.sid] >= known, f"{member}: TxnLogToolkit sees {txns[member.sid]} of {known} txns")


def expect_opened_by_the_other_kind(members, ours, expected, scratch):
    """A copy of each stopped member's directory opens, alone, in a server of the other kind, with that tree."""
    for member in members:
        other = Member(member.sid, ours if member.kind == JAVA else JAVA, member.address,
                       scratch / f"copy-{member.sid}", member.release)
        shutil.copytree(member.directory, other.directory)
        (other.directory / "server.log").unlink()
        other.configure()
        (other.data / "myid").unlink()
        try:
            other.start()
            until(f"{other} serves alone on the directory of {member}",
                  lambda: other.expect_alive() or other.mode() == "standalone")
            lines = tree.differences(expected, dump(other), lambda path: path == CONFIG)
            expect(not lines, "\n".join([f"{member} left to {other} another tree:", *lines]))
            expect(other.monitor().get("digest_mismatches_count") in (None, "0"), f"{other} met another digest")
        except Failed as failure:
            raise Failed(f"{failure}\n--- log of {other}\n{other.log_since(0)[-4000:]}") from None
        finally:
            other.kill()
        shutil.rmtree(other.directory)


def synchronised_by(leader, learner, marks):
    """How the learner was brought up to date: DIFF, TRUNC, SNAP, as the logs since `marks` tell (by sid)."""
    told = leader.log_since(marks[leader.sid]), learner.log_since(marks[learner.sid])
    modes = []
    for member, text, patterns in ((leader, told[0], LEADER_SAYS), (learner, told[1], LEARNER_SAYS)):
        for line in text.splitlines():
            modes += (mode for mode, pattern in patterns[member.kind].items()
                      if re.search(pattern.format(sid=learner.sid), line))
    return modes


LEADER_SAYS = {
    JAVA: {
        "DIFF": r"Sending DIFF zxid=.* for peer sid: {sid}\b",
        "TRUNC": r"Sending TRUNC .* for peer sid: ?{sid}\b",
        "SNAP": r"Sending snapshot last zxid of peer is",
    },
    OXKEEPER: {},
}
LEARNER_SAYS = {
    JAVA: {
        "DIFF": r"Getting a diff from the leader",
        "TRUNC": r"Truncating log to get in sync with the leader",
        "SNAP": r"Getting a snapshot from leader",
    },
    OXKEEPER: {},
}
