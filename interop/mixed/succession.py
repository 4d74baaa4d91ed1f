"""Leaders that die under load: the others elect one of either kind, and nothing that was acknowledged is lost."""

import random
import time
from collections import Counter

from ensemble import expect
from load import Load


def kill_leaders(ensemble, release, rounds, say, directions=()):
    """Kills the leader with SIGKILL, `rounds` times, and starts it again, under load. `directions` are the pairs of
    kinds (killed, elected) of which each must have come about: rounds go on, up to three times as many, for them."""
    seen, electing = Counter(), []
    with Load(ensemble, release, sessions=False) as load:
        load.await_progress()
        done = 0
        while done < rounds or not all(seen[pair] for pair in directions):
            expect(done < 3 * rounds, f"after {done} rounds no succession of {set(directions) - set(seen)}")
            old = ensemble.leader()
            # In the midst of writes, not always at the same point.
            time.sleep(random.uniform(0, 0.3))
            old.kill()
            started = time.monotonic()
            new = ensemble.leader()
            electing.append(time.monotonic() - started)
            seen[pair(old, new)] += 1
            load.await_progress()
            ensemble.start(old.sid)
            load.await_progress()
            done += 1
        summary = load.account()
    told = ", ".join(f"{killed} to {elected} {number} times" for (killed, elected), number in sorted(seen.items()))
    say(f"leaders killed: {told}; elected within {min(electing):.1f} to {max(electing):.1f} s")
    say(summary)


def pair(old, new):
    return old.kind, new.kind
