"""The recipes' contender against Curator's and kazoo's, at one server."""

import subprocess
import sys
import threading
import time

from kazoo.client import KazooClient

ROUNDS = 12
# Curator does not know kazoo's znodes, so the three never meet at one path.
WITH_CURATOR = ["mutex", "semaphore-mutex", "semaphore", "read-write", "latch", "selector"]
WITH_KAZOO = ["mutex", "read-write", "selector"]
# At each path: two of ours and one foreign contender.
PEERS = 3


def main(cluster, rust, java, python):
    programs = {"rust": [rust], "java": java.split("\n"), "python": python.split("\n")}
    client = KazooClient(cluster)
    client.start()
    contend(client, cluster, programs)
    take_over(client, cluster, programs)
    client.stop()
    print(f"{len(WITH_CURATOR)} recipes contend with Curator's and {len(WITH_KAZOO)} with kazoo's; all take over, and let go when asked")


def contend(client, cluster, programs):
    by_java = [(kind, f"/{kind}-curator") for kind in WITH_CURATOR]
    by_python = [(kind, f"/{kind}-kazoo") for kind in WITH_KAZOO]
    for _, path in by_java + by_python:
        for top in ("/peers", "/inside", "/log"):
            client.ensure_path(top + path)

    def play(program, name, kinds):
        words = [f"{kind}={path}={PEERS}" for kind, path in kinds]
        return subprocess.Popen([*programs[program], cluster, name, "play", str(ROUNDS), *words])

    running = [
        *(play("rust", name, by_java) for name in "ab"),
        *(play("rust", name, by_python) for name in "cd"),
        play("java", "J", by_java),
        play("python", "P", by_python),
    ]
    codes = [process.wait() for process in running]
    assert not any(codes), f"exit codes {codes}"
    for kinds, names in ((by_java, "abJ"), (by_python, "cdP")):
        for kind, path in kinds:
            letters = client.get("/log" + path)[0].decode()
            rounds = {"semaphore": 0, "read-write": (ROUNDS + 2) // 3}.get(kind, ROUNDS)
            wanted = dict.fromkeys(names, rounds)
            found = {name: letters.count(name) for name in names}
            assert found == wanted and len(letters) == sum(wanted.values()), f"{path}: {letters}"
            assert rounds == 0 or len(set(letters[: 2 * PEERS])) > 1, f"{path}: one after the other: {letters}"
            assert not client.get_children("/inside" + path)


def take_over(client, cluster, programs):
    """Each waits for the one before it, whose process is killed without a word."""
    for foreign in ("java", "python"):
        holder = Holder(programs["rust"], cluster, "/held-" + foreign)
        assert holder.held.wait(30), "the first does not hold"
        for program in (foreign, "rust"):
            waiter = Holder(programs[program], cluster, "/held-" + foreign)
            deadline = time.monotonic() + 30
            while len(client.get_children("/held-" + foreign)) < 2:
                assert time.monotonic() < deadline, f"{program} does not queue up"
                time.sleep(0.01)
            assert not waiter.held.wait(0.3), f"{program} holds beside another"
            holder.kill()
            assert waiter.held.wait(30), f"{program} does not take over"
            holder = waiter
        if foreign == "java":
            revoke(holder, cluster, programs)
        holder.kill()


def revoke(ours, cluster, programs):
    """Curator's asks ours to let go, then ours Curator's."""
    path = "/held-java"
    theirs = Holder(programs["java"], cluster, path)
    for holder, asker in ((ours, "java"), (theirs, "rust")):
        assert holder.held.wait(30), "not held"
        assert subprocess.run([*programs[asker], cluster, "r", "revoke", path], timeout=30).returncode == 0
        assert holder.asked.wait(30), f"does not hear that {asker} asks"
    theirs.process.wait(30)


class Holder:
    def __init__(self, program, cluster, path):
        self.held = threading.Event()
        self.asked = threading.Event()
        self.process = subprocess.Popen([*program, cluster, "h", "hold", path], stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            {"held": self.held, "asked": self.asked}[line.strip()].set()

    def kill(self):
        self.process.kill()
        self.process.wait()


main(*sys.argv[1:])
