"""One side of the comparison: a process that starts its servers and plays cases and sequences to them."""
import re
import tempfile
import traceback

import codec
import random_sequences
from cases import load
from client import Play
from servers import Server


class Admin:
    """A lasting connection that prepares and clears the tree outside the transcripts."""

    def __init__(self, server):
        self.server, self.client = server, None
        self.connect()

    def connect(self):
        """Connects, with the session it had: an abandoned one would expire into a later case."""
        self.play = Play(self.server.port, settling=False)
        self.client = self.play.connect("admin", of=self.client, timeout=600000)
        if not self.client.established:
            self.client = self.play.connect("admin", timeout=600000)
        if self.server.super:
            self.client(codec.auth("digest", self.server.super))

    def __call__(self, *requests):
        self.play.steps = [("", [])]
        made = self.client(*requests)
        if self.client.closed:
            self.connect()
            made = self.client(*requests)
        return made

    def last_zxid(self):
        return self(codec.ping()).zxid

    def clear(self):
        """Deletes what cases left behind, all but the nodes every server has."""
        kept = {"/zookeeper", "/zookeeper/quota", "/zookeeper/config"}
        level, found = ["/"], []
        while level:
            replies = self(*[codec.get_children(path) for path in level])
            replies = replies if isinstance(replies, list) else [replies]
            level = [f"{'' if path == '/' else path}/{name}"
                     for path, reply in zip(level, replies) if reply.err == 0 for name in reply.values[0]]
            found += [path for path in level if path not in kept]
        if found:
            self(*[codec.delete(path) for path in reversed(found)])


def play_case(server, admin, case, number, mutate=None):
    """Plays one case. Its transcript, and what broke it (None when nothing did)."""
    root = f"/{number}-{re.sub('[^a-z0-9]+', '-', case.name.lower())}"
    admin(codec.create(root))
    play = Play(server.port, root, admin.last_zxid(), {"super": server.super}, server, mutate,
                sorted_acls=False, settling=True)
    broken = None
    try:
        case.play(play)
        play.finish()
    except Exception:
        broken = traceback.format_exc(limit=-4)
    for client in play.clients:
        client.disconnect()
    play.mutate = None
    try:
        if broken:
            play.finish()
        admin.clear()
    except Exception:
        broken = (broken or "") + "\nafter the case: " + traceback.format_exc(limit=-4)
    return play.transcript(), broken


def run(kind, is_right, pipe, case_names, sequences, steps, seed, mutate=None):
    """Plays the named cases and the sequences to servers of `kind`; sends (name, transcript, broken) for each."""
    chosen = [case for case in load() if case.name in case_names]
    seeds = range(seed, seed + sequences)
    configurations = list(dict.fromkeys([case.configuration for case in chosen] + list(map(random_sequences.configuration, seeds))))
    numbers = {case.name: number for number, case in enumerate(load())}
    with tempfile.TemporaryDirectory(prefix="oxkeeper-differential-") as directory:
        for configuration in configurations:
            plays = [(case.name, lambda server, admin, case=case: play_case(server, admin, case, numbers[case.name], mutate))
                     for case in chosen if case.configuration == configuration and (is_right or not case.ours_only)]
            plays += [(f"sequence {number}", lambda server, admin, number=number: random_sequences.play(server, admin, number, steps, mutate))
                      for number in seeds if random_sequences.configuration(number) == configuration]
            server = None
            try:
                server = Server(kind, configuration, f"{directory}/{configuration}")
                admin = Admin(server)
                for name, play in plays:
                    try:
                        transcript, broken = play(server, admin)
                    except Exception:
                        transcript, broken = [], traceback.format_exc(limit=-4)
                    if broken and not server.serves():
                        broken += f"\nthe server is gone; the end of its log:\n{server.log_tail()}"
                        server.restart()
                        admin = Admin(server)
                    pipe.send((name, transcript, broken))
            except Exception:
                pipe.send((f"the {kind} server of configuration {configuration}", [],
                           f"{traceback.format_exc()}\nthe end of its log:\n{server.log_tail() if server else '(it never started)'}"))
            finally:
                if server:
                    server.stop()
    pipe.send(None)
