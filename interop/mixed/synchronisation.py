"""A learner that comes back is brought up to date: by a DIFF, by a SNAP, or after a TRUNC."""

import os
import threading
import time

import codec
from checks import expect_same_trees, super_connection, synchronised_by
from ensemble import JAVA, expect, until

COMMIT_LOG_COUNT = 500  # txns that a leader keeps in memory (commitLogCount)


def write(ensemble, count, path, size=100):
    """Creates `path` and that many znodes below it."""
    connection = super_connection(ensemble.leader())
    connection.call(codec.create(path))
    connection.run(codec.create(f"{path}/{n}", os.urandom(size // 2).hex().encode()) for n in range(count))
    connection.close()


def restart(ensemble, sid, expected, before=lambda member: None, while_away=lambda: None):
    """Kills a learner, lets the others go on, starts it again; it must be synchronised in one of the ways
    `expected`, and then hold the same tree."""
    learner = ensemble[sid]
    learner.kill()
    while_away()
    before(learner)
    marks = {member.sid: member.log_size() for member in ensemble}
    started = time.monotonic()
    ensemble.start(sid)
    seconds = time.monotonic() - started
    leader = ensemble.leader()
    modes = synchronised_by(leader, learner, marks)
    expect(modes and set(modes) <= set(expected),
           f"{leader} brought {learner} up to date by {modes}, not {' or '.join(expected)}")
    ensemble.await_same_zxid()
    expect_same_trees(ensemble)
    return f"{'+'.join(sorted(set(modes)))} to {learner} in {seconds:.1f} s"


def few_missed(ensemble, sid, path):
    return restart(ensemble, sid, ["DIFF"], while_away=lambda: write(ensemble, 50, path))


def nothing_missed(ensemble, sid):
    return restart(ensemble, sid, ["DIFF"])


def directory_lost(ensemble, sid, path):
    return restart(ensemble, sid, ["SNAP"], while_away=lambda: write(ensemble, 50, path),
                   before=lambda member: member.forget_data())


def many_missed(ensemble, sid, path):
    """More than a Java leader keeps in memory, which is configured not to send from its log (snapshotSizeFactor); ours
    sends from its log whatever is not too much."""
    expected = "SNAP" if ensemble.leader().kind == JAVA else "DIFF"
    return restart(ensemble, sid, [expected], while_away=lambda: write(ensemble, 3 * COMMIT_LOG_COUNT, path))


def large_tree_under_load(ensemble, sid, path, znodes):
    """A SNAP of many znodes while they are created, changed and deleted."""
    if not exists(ensemble, path):
        write(ensemble, znodes, path, size=200)
    stop = threading.Event()
    failures, writes = [], []

    def go_on(which):
        try:
            connection = super_connection(ensemble.leader())
            n = 0
            while not stop.is_set():
                below = [f"{path}/{(n + i) * 7919 % znodes}" for i in range(20)]
                mine = f"{path}/more-{sid}-{which}-{n}"
                requests = [codec.set_data(each, b"%d" % n) for each in below]
                requests += [codec.create(f"{mine}-{i}", flags=i % 2 and codec.EPHEMERAL) for i in range(10)]
                requests += [codec.delete(f"{mine}-{i}") for i in range(5)]
                requests.append(codec.multi(codec.create(f"{below[0]}/{which}-{n}"), codec.set_data(below[1], b"multi"),
                                            codec.delete(f"{mine}-9")))
                requests.append(codec.set_acl(below[2], codec.READ_ONLY if n % 40 else codec.OPEN))
                connection.run(requests)
                writes.append(len(requests))
                n += 20
                time.sleep(0.02)
            connection.close()
        except Exception as failure:
            failures.append(failure)
    writers = [threading.Thread(target=go_on, args=(which,)) for which in range(2)]

    def begin(member):
        member.forget_data()
        for writer in writers:
            writer.start()

    def end():
        stop.set()
        for writer in writers:
            writer.join()
    learner = ensemble[sid]
    learner.kill()
    begin(learner)
    marks = {member.sid: member.log_size() for member in ensemble}
    started = time.monotonic()
    try:
        ensemble.start(sid)
        seconds = time.monotonic() - started
        time.sleep(1)
    finally:
        end()
    expect(not failures, f"writes failed while {learner} was synchronised: {failures}")
    modes = synchronised_by(ensemble.leader(), learner, marks)
    expect(modes and set(modes) == {"SNAP"}, f"{learner} was synchronised by {modes}, not SNAP")
    ensemble.await_same_zxid()
    tree = expect_same_trees(ensemble, fuzzy=[learner])
    return f"SNAP of {len(tree)} znodes to {learner} in {seconds:.1f} s while {sum(writes)} writes were made"


def exists(ensemble, path):
    connection = super_connection(ensemble.leader())
    [(_, err, _)] = list(connection.pipeline([codec.exists(path)]))
    connection.close()
    return err == 0


def uncommitted(ensemble, path, next_leader, meanwhile=True):
    """The leader logs txns that nobody else gets, and dies; the others elect `next_leader` and, if `meanwhile`, write.
    What the old leader alone has logged must be gone from it when it comes back: by a TRUNC, or by a SNAP where the
    new leader has written (Java's never truncates over an epoch then)."""
    old = ensemble.leader()
    voters = [member for member in ensemble if not member.observer]
    others = [member for member in voters if member is not old]
    connection = super_connection(old)
    connection.call(codec.create(path))
    connection.call(codec.create(f"{path}/acknowledged"))
    ensemble.await_same_zxid()
    for member in ensemble:
        if member is not old:
            member.pause()
    # What stands in the sockets of those that are paused dies with them.
    marker = f"{path}/never-acknowledged-"
    connection._send([codec.create(f"{marker}{n}", b"x" * 100) for n in range(10)])
    until(f"{old} has logged what it cannot commit", lambda: logged(old, f"{marker}9".encode()), 20)
    for member in ensemble:
        member.kill()
    connection.drop()
    for member in others:
        expect(not logged(member, marker.encode()), f"{member} was paused and has logged a txn")
    ensemble.start(*(member.sid for member in others))
    leader = ensemble.leader()
    expect(leader.sid == next_leader, f"{leader} leads, the suite wanted server {next_leader}")
    if meanwhile:
        write(ensemble, 20, f"{path}/after")
    marks = {member.sid: member.log_size() for member in ensemble}
    ensemble.start(old.sid)
    modes = synchronised_by(leader, old, marks)
    expect("TRUNC" in modes or meanwhile and "SNAP" in modes,
           f"{leader} brought {old}, which is ahead, up to date by {modes}")
    ensemble.start()
    write(ensemble, 1, f"{path}/together")
    ensemble.await_same_zxid()
    tree = expect_same_trees(ensemble)
    expect(f"{path}/acknowledged" in tree and not any(each.startswith(marker) for each in tree),
           f"what {old} never acknowledged is in the tree")
    # Once more from disk: what was cut off must not come back.
    old.kill()
    ensemble.start(old.sid)
    ensemble.await_same_zxid()
    expect_same_trees(ensemble)
    return f"{'+'.join(sorted(set(modes)))} to {old}, which was ahead" + (" of others that went on" if meanwhile else "")


def logged(member, text):
    """Whether a txn with that text is in a log file of the member."""
    return any(text in path.read_bytes() for path in member.data_files("log"))
