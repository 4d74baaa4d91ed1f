"""Leaders that die or stand still under load: the others elect one of either kind, and nothing acknowledged is lost."""

import random
import time
from collections import Counter

from ensemble import Member, expect, until
from load import Load


def kill_leaders(ensemble, release, rounds, say, directions=()):
    """Kills the leader with SIGKILL, `rounds` times, and starts it again, under load. `directions` are the pairs of
    kinds (killed, elected) of which each must have come about: rounds go on, up to three times as many, for them."""
    def lose(old):
        old.kill()

    def regain(old):
        ensemble.start(old.sid)
    replace_leaders(ensemble, release, rounds, say, directions, "killed", lose, regain)


def pause_leaders(ensemble, release, rounds, say, directions=()):
    """As kill_leaders, but the leader stands still (SIGSTOP) until another one is elected, and then goes on as if it
    still led: it must find out, and follow."""
    def regain(old):
        old.resume()
        until(f"{old} follows", lambda: old.mode() == "follower")
    replace_leaders(ensemble, release, rounds, say, directions, "paused", Member.pause, regain)


def replace_leaders(ensemble, release, rounds, say, directions, what, lose, regain):
    seen, electing = Counter(), []
    with Load(ensemble, release, sessions=False) as load:
        load.await_progress()
        done = 0
        while done < rounds or not all(seen[each] for each in directions):
            expect(done < 3 * rounds, f"after {done} rounds no succession of {set(directions) - set(seen)}")
            old = ensemble.leader()
            # In the midst of writes, not always at the same point.
            time.sleep(random.uniform(0, 0.3))
            lose(old)
            started = time.monotonic()
            new = ensemble.leader(but=old)
            electing.append(time.monotonic() - started)
            seen[pair(old, new)] += 1
            load.await_progress()
            regain(old)
            load.await_progress()
            done += 1
        summary = load.account()
    told = ", ".join(f"{one} to {other} {number} times" for (one, other), number in sorted(seen.items()))
    say(f"leaders {what}: {told}; elected within {min(electing):.1f} to {max(electing):.1f} s")
    say(summary)


def pair(old, new):
    return old.kind, new.kind
