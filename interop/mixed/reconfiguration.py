"""Changes of the membership while the servers run (reconfig), through leaders of either kind."""

import re

from kazoo.exceptions import BadVersionError, ConnectionLoss, NewConfigNoQuorumError, NoAuthError

from checks import client, finish
from ensemble import CLIENT_PORT, ELECTION_PORT, QUORUM_PORT, SUPER, expect, until

CONFIG = "/zookeeper/config"


def line(member, role="participant"):
    return (f"server.{member.sid}={member.address}:{QUORUM_PORT}:{ELECTION_PORT}:{role};"
            f"{member.address}:{CLIENT_PORT}")


def shown(member):
    """The configuration that the server shows to its clients. Java's order of lines is none."""
    zk = client(member)
    try:
        return in_order(zk.get(CONFIG)[0].decode())
    finally:
        finish(zk)


def in_order(text):
    *servers, version_line = text.splitlines()
    return "\n".join([*sorted(servers), version_line])


def version(text):
    return int(re.search(r"^version=([0-9a-f]+)$", text, re.M)[1], 16)


def saved(member):
    """The configuration that the server would start with."""
    named = re.search(r"^dynamicConfigFile=(.+)$", (member.directory / "zoo.cfg").read_text(), re.M)
    if not named:
        return None
    file = named[1]
    with open(file, encoding="ascii") as lines:
        return sorted(lines.read().splitlines()) + [f"version={file.rpartition('.')[2]}"]


def expect_everywhere(ensemble, text):
    """All that run show this configuration, and have saved it; none is under way."""
    for member in ensemble.running:
        until(lambda: f"{member} shows {text}, not {shown(member)}", lambda: shown(member) == text, 20)
        lines = text.splitlines()
        until(lambda: f"{member} has saved {lines}, not {saved(member)}", lambda: saved(member) == lines, 20)
        expect(not (member.directory / "zoo.cfg.dynamic.next").exists(), f"{member} has a proposal left")


def reconfig(through, joining=None, leaving=None, members=None, from_config=-1):
    """By a super user; returns the new configuration."""
    zk = client(through)
    try:
        zk.add_auth("digest", SUPER)
        return in_order(zk.reconfig(joining, leaving, members, from_config)[0].decode())
    finally:
        finish(zk)


def expect_refused(error, through, **change):
    try:
        done = reconfig(through, **change)
    except error:
        return
    expect(False, f"{change} through {through} gave {done}")


def write(through, path):
    zk = client(through)
    try:
        zk.create(path, b"")
    finally:
        finish(zk)


def sids(text):
    return sorted(int(sid) for sid in re.findall(r"^server\.(\d+)=", text, re.M))


def play(ensemble, say):
    """1 and 3 are Java's, 2 and 4 ours; 4 is no member at first. Ends with all four as members."""
    one, two, three, four = (ensemble[sid] for sid in (1, 2, 3, 4))
    for member in (one, two, three):
        member.servers = {sid: value for sid, value in member.servers.items() if sid != 4}
        member.configure()
    ensemble.start(1, 3)
    ensemble.start(2)
    expect(ensemble.leader() is three, f"{ensemble.leader()} leads")
    first = shown(two)
    expect(version(first) == 0x100000000, first)
    expect_everywhere(ensemble, first)
    say(f"led by {three}: the first configuration has version {version(first):x} on all")

    zk = client(two)
    try:
        zk.reconfig(None, "1", None)
        expect(False, "anybody may reconfigure")
    except NoAuthError:
        pass
    finally:
        finish(zk)
    left = reconfig(two, leaving="1")
    expect(sids(left) == [2, 3], left)
    expect_everywhere(ensemble, left)
    one.stop()
    write(two, "/without-1")
    say("server 1 has left, asked through ours")

    ensemble.start(4)
    joined = reconfig(three, joining=line(four))
    expect(sids(joined) == [2, 3, 4], joined)
    expect_everywhere(ensemble, joined)
    say("server 4, which is ours, has joined")

    three.kill()
    leader = ensemble.leader()
    expect(leader in (two, four), f"{leader} leads")
    write(leader, "/without-3")
    expect_everywhere(ensemble, joined)
    say(f"Java's leader is killed: {leader} leads")

    expect_refused(BadVersionError, two, joining=line(one), from_config=version(left))
    expect_refused(NewConfigNoQuorumError, two, leaving="2,4", joining=line(one))
    ensemble.start(3)
    again = reconfig(four, joining=line(three, "observer"), from_config=version(joined))
    until("server 3 observes", lambda: three.mode() == "observer", 30)
    expect_everywhere(ensemble, again)
    again = reconfig(two, joining=line(three))
    until("server 3 follows", lambda: three.mode() == "follower", 30)
    say("through our leader: server 3 became an observer and a participant again")

    # Who has left has a list in which it is not, and starts with the one it had before.
    one.configure()
    ensemble.start(1)
    again = reconfig(three, joining=line(one))
    expect(sids(again) == [1, 2, 3, 4], again)
    expect_everywhere(ensemble, again)
    say("server 1 has joined again")

    for _ in range(2):
        leader = ensemble.leader()
        try:
            reconfig(one, leaving=str(leader.sid))
        except ConnectionLoss:
            pass  # all begin anew with the heir, and close the connections of their clients
        heir = ensemble.leader(but=leader)
        rest = shown(heir)
        expect(leader.sid not in sids(rest), rest)
        until(f"{leader} follows", lambda: leader.mode() == "follower", 30)
        write(heir, f"/after-{leader.sid}")
        expect_everywhere(ensemble, rest)
        again = reconfig(heir, joining=line(leader))
        expect(sids(again) == [1, 2, 3, 4], again)
        expect_everywhere(ensemble, again)
        say(f"{leader} left while it led, {heir} leads, and it has joined again")

    whole = ",".join(again.splitlines()[:-1])
    groups = whole + ",group.1=1:2,group.2=3:4,weight.1=1,weight.2=1,weight.3=1,weight.4=1"
    grouped = reconfig(two, members=groups)
    expect("group.1=1:2" in grouped, grouped)
    write(three, "/in-groups")
    reconfig(three, members=whole)
    say("groups came and went with whole lists")

    ensemble.stop()
    ensemble.start()
    expect(sids(shown(ensemble.leader())) == [1, 2, 3, 4], shown(ensemble.leader()))
    write(two, "/after-all")
    say("all were started anew, each with the list it had saved")
