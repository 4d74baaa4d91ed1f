"""Settings that change what a quorum or a session is: groups and weights, local sessions, the read-only mode, members
that begin without any data."""

import time

from kazoo.client import KazooState
from kazoo.exceptions import EphemeralOnLocalSessionError, NotReadOnlyCallError

from checks import client, finish
from ensemble import expect, until


def everywhere(ensemble, path, there):
    for member in ensemble.running:
        zk = client(member)
        try:
            zk.sync("/")
            until(f"{path} is {'' if there else 'not '}there on {member}", lambda: bool(zk.exists(path)) == there, 20)
        finally:
            finish(zk)


def local_sessions(ensemble, upgrading):
    """A session is its server's own until it makes an ephemeral, which it may only do when it is upgraded then."""
    known_before = {member.sid: global_sessions(member) for member in ensemble}
    for member in ensemble:
        path = f"/of-{member.sid}"
        zk = client(member)
        try:
            zk.create(path, b"")
            everywhere(ensemble, path, True)
            for other in ensemble:
                expect(global_sessions(other) == known_before[other.sid], f"{other} knows a local session of {member}")
            try:
                zk.create(f"{path}/ephemeral", b"", ephemeral=True)
                expect(upgrading, f"an ephemeral of a local session on {member}")
            except EphemeralOnLocalSessionError:
                expect(not upgrading, f"no ephemeral of an upgraded session on {member}")
            everywhere(ensemble, f"{path}/ephemeral", upgrading)
        finally:
            finish(zk)
        everywhere(ensemble, f"{path}/ephemeral", False)


def global_sessions(member):
    figures = member.monitor()
    return figures.get("global_sessions")


def read_only(ensemble, alone):
    """One server that lost the others answers reads to those who take that, and writes again when they are back."""
    path = f"/read-only-{alone.sid}"
    zk = client(alone)
    zk.create(path, b"before")
    finish(zk)
    others = [member for member in ensemble if member is not alone]
    for member in others:
        member.stop()
    until(f"{alone} answers reads alone", lambda: alone.word("isro") == "ro", 60)
    zk = client(alone, read_only=True)
    try:
        expect(zk.get(path)[0] == b"before", "the data of before")
        try:
            zk.set(path, b"alone")
            expect(False, f"{alone} took a write alone")
        except NotReadOnlyCallError:
            pass
        ensemble.start(*(member.sid for member in others))
        until(f"{alone} writes again", lambda: alone.word("isro") == "rw", 60)
        until("the client is back", lambda: zk.state == KazooState.CONNECTED, 60)
    finally:
        finish(zk)
    zk = client(alone)
    zk.set(path, b"together")
    finish(zk)


def weights(ensemble, heavy, say):
    """`heavy` outweighs the two others together: it serves without them, and they not without it."""
    others = [member for member in ensemble if member is not heavy]
    for member in others:
        member.stop()
    until(f"{heavy} serves alone", lambda: heavy.mode() == "leader", 60)
    zk = client(heavy)
    zk.create(f"/alone-{heavy.sid}", b"")
    finish(zk)
    ensemble.start(*(member.sid for member in others))
    heavy.stop()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        served = [member for member in others if member.mode()]
        if not served:
            time.sleep(0.2)
            served = [member for member in others if member.mode()]
            if not served:
                break
    for _ in range(10):
        expect(not any(member.mode() for member in others), "two light servers make no quorum")
        time.sleep(0.2)
    ensemble.start(heavy.sid)
    everywhere(ensemble, f"/alone-{heavy.sid}", True)
    say(f"{heavy} weighs more than the two others together")


def without_data(ensemble, blank):
    """A server that lost its data, and is not to begin with an empty tree, takes that of the others: it does not make
    a quorum with another one that has nothing."""
    zk = client(ensemble.leader())
    zk.create("/kept", b"data")
    finish(zk)
    leader = ensemble.leader()
    blank.stop()
    blank.forget_data()
    blank.start()
    ensemble.await_serving(blank)
    everywhere(ensemble, "/kept", True)
    # Two that have nothing may not elect each other.
    third = next(member for member in ensemble if member not in (leader, blank))
    leader.stop()
    for member in (blank, third):
        member.stop()
        member.forget_data()
        member.start()
    time.sleep(4)
    expect(not any(member.mode() for member in (blank, third)), "servers without data serve")
    # Nor may one that has data lead by their votes, until the operator says that they may begin with nothing.
    leader.start()
    time.sleep(4)
    expect(not any(member.mode() for member in ensemble), "a quorum of servers without data was made")
    blank.stop()
    # Java does not start with the epochs that it saved without data.
    blank.forget_data()
    (blank.data / "initialize").touch()
    blank.start()
    ensemble.await_serving()
    expect(ensemble.leader() is leader, f"{ensemble.leader()} leads without data")
    everywhere(ensemble, "/kept", True)
