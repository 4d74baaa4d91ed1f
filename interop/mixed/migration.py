"""A Java ensemble becomes ours, one server at a time, under load, and Java again: same directories, same zoo.cfg."""

import signal

from checks import expect_same_trees
from ensemble import JAVA
from load import Load


def migrate(ensemble, release, ours, say, back=True, only=()):
    """Replaces each server (of `only`) by one of kind `ours`, then, if `back`, by Java again."""
    with Load(ensemble, release) as load:
        load.await_progress()
        for kind in [ours, JAVA] if back else [ours]:
            for member in list(ensemble):
                if only and member.sid not in only:
                    continue
                replace(ensemble, member, kind, load)
            say(f"servers {[f'{m.sid}: {m.kind}' for m in ensemble]}, server {ensemble.leader().sid} leads")
        say(load.account())
    tree = expect_same_trees(ensemble)
    say(f"trees: {len(tree)} znodes, the same on {len(ensemble.running)} servers")
    return tree


def replace(ensemble, member, kind, load):
    """What an operator does: stop one server, start the other program with the same zoo.cfg, wait until it serves."""
    member.stop(signal.SIGTERM)
    member.kind = kind
    load.await_progress(5)
    ensemble.start(member.sid)
    ensemble.leader()
    load.await_progress()
