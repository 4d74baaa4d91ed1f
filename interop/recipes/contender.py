"""What crates/recipes/examples/contender.rs does, with kazoo, which is told how our znodes are called."""

import sys
import time

from kazoo.client import KazooClient
from kazoo.recipe.election import Election

OURS = ["-lock-"]
OUR_WRITERS = ["__WRIT__"]
OURS_OF_EITHER_KIND = ["__READ__", "__WRIT__"]


def main(cluster, name, what, *rest):
    client = KazooClient(cluster, timeout=2)
    client.start()
    if what == "hold":
        client.Lock(rest[0], extra_lock_patterns=OURS).acquire()
        print("held", flush=True)
        time.sleep(1000)
    for kind, path, peers in (kind.split("=") for kind in rest[1:]):
        client.create("/peers" + path + "/p-", sequence=True)
        while len(client.get_children("/peers" + path)) < int(peers):
            time.sleep(0.005)
        for number in range(int(rest[0])):
            play(client, kind, path, name, number)
    client.stop()


def play(client, kind, path, name, number):
    if kind == "mutex":
        locked(client.Lock(path, extra_lock_patterns=OURS), lambda: alone(client, path, name))
    elif kind == "selector":
        election = Election(client, path, name)
        election.lock = client.Lock(path, name, extra_lock_patterns=OURS)
        election.run(alone, client, path, name)
    elif number % 3 == 0:
        lock = client.WriteLock(path, extra_lock_patterns=OURS_OF_EITHER_KIND)
        locked(lock, lambda: alone(client, path, name))
    else:
        locked(client.ReadLock(path, extra_lock_patterns=OUR_WRITERS), lambda: inside(client, path, "r"))


def locked(lock, then):
    assert lock.acquire(timeout=30), "no turn in 30 s"
    then()
    lock.release()


def alone(client, path, name):
    letters, _ = client.get("/log" + path)
    inside(client, path, "w")
    client.set("/log" + path, letters + name.encode())


def inside(client, path, tag):
    directory = "/inside" + path
    own = client.create(f"{directory}/{tag}-", ephemeral=True, sequence=True)
    for _ in range(2):
        inside_now = client.get_children(directory)
        writers = any(child.startswith("w") for child in inside_now)
        assert not (writers and len(inside_now) > 1), f"{path}: inside at once: {inside_now}"
        time.sleep(0.003)
    client.delete(own)


main(*sys.argv[1:])
