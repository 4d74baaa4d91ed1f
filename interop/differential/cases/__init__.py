"""The scripted cases, by theme. A case is a function of a `Play` whose `root` exists and is empty."""
import importlib
from collections import namedtuple

# `ours_only` cases state their answers themselves; Java fails them or dies of them.
Case = namedtuple("Case", "name configuration play ours_only")
CASES = []
THEMES = ("handshake", "frames", "create", "nodes", "reads", "acl", "auth", "multi", "watches", "set_watches", "quota",
          "sessions", "modes", "words", "ours_only")


def case(configuration="plain", name=None, ours_only=False):
    """Registers the function below as a case of its module's theme."""
    def register(play):
        theme = play.__module__.rpartition(".")[2]
        CASES.append(Case(f"{theme}/{name or play.__name__}", configuration, play, ours_only))
        return play
    return register


def load():
    for theme in THEMES:
        importlib.import_module(f"cases.{theme}")
    names = [one.name for one in CASES]
    assert len(names) == len(set(names)), "two cases of one name"
    return CASES
