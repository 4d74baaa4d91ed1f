"""play.py PORT COMMANDS -- SHELL ...: plays zkCli's recorded session (../zkcli/commands.txt) to our shell.

The outputs are those of Java's own shell. Ours must say the same; where it says it otherwise, the line stands in SAID
(`None`: not said at all), and hints of what to do next are left out. zxids are not compared: ours refuses some commands without asking, and then there is no txn of the refusal.
"""

import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "zkcli"))
from play import REPEAT_SECONDS, Names, Shell, parse  # noqa: E402

# What Java's shell prints, and what ours prints instead.
SAID = {
    # A session is shown by its first event.
    "Connecting to 127.0.0.1:{port}": None,
    "Welcome to ZooKeeper!": None,
    "JLine support is disabled": None,
    # Java validates paths in its own words.
    "Path must start with / character": 'Invalid path "relative": a path must begin with /',
    'Invalid path string "/two//slashes" caused by empty node name specified @5': 'Invalid path "/two//slashes": a path must not have an empty component (//)',
    # Java says it twice.
    "KeeperErrorCode = InvalidACL for /auth-less": None,
    "KeeperErrorCode = InvalidACL for /acl-bad": None,
    "ZooKeeper CLI version: <*>": "Oxkeeper CLI version: <*>",
    "Command not found: Command not found no-such-command": "Command not found: no-such-command",
}
# Commands whose whole answer is another one, and why.
ANSWERS = {
    # Null and empty data are one to the client library.
    "get /null": [""],
    # Refused before the server is asked; no scheme:id:perms there.
    "create /acl-bad no digest:user:cdrwa": ["Acl is not valid : /acl-bad"],
    # Java's `printwatches`, the mark between commands, says so, too.
    "connect 127.0.0.1:{port}": [],
    # The list of commands is `help`.
    "no-such-command": ["Command not found: no-such-command"],
}


def said(lines):
    """What our shell is to print for the lines of Java's."""
    ours = [SAID.get(line, line) for line in lines]
    return [unnumbered(line) for line in ours if line is not None]


def unnumbered(line):
    line = re.sub(r"0x[0-9a-f]+|<session\d+>", "0x#", line)
    return re.sub(r"zxid: \d+", "zxid: #", line)


def main():
    separator = sys.argv.index("--")
    port, path = sys.argv[1:3]
    shell, names, failures, steps = Shell(sys.argv[separator + 1 :]), Names(), 0, parse(path)
    for _, mark, command, lines, events in steps:
        answer = ANSWERS.get(command)
        if lines == ["Not connected", "Not connected"]:
            answer = ["Not connected"]
        expected = said(lines) if answer is None else [line for line in answer if line]
        deadline = time.monotonic() + REPEAT_SECONDS
        while True:
            printed = shell.type(command.replace("{port}", port))
            printed = [unnumbered(line) for line in printed if not line.startswith("hint: ")]
            if mark == ">*":
                printed.sort()
                expected.sort()
            good = len(printed) == len(expected) and all(map(names.matches, expected, printed))
            if good or mark != ">?" or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        seen, wanted = [unnumbered(event) for event in shell.take_events(len(events))], said(events)
        if not good:
            failures += 1
            print(f"> {command}\n  expected:", *expected, "  printed:", *printed, sep="\n    ")
        if seen != wanted:
            failures += 1
            print(f"> {command}\n  expected events:", *wanted, "  seen:", *seen, sep="\n    ")
    code = shell.process.wait(timeout=REPEAT_SECONDS)
    if code != 0:
        failures += 1
        print(f"the shell's exit code is {code}")
    print(f"shell: {len(steps)} commands, {failures} differences")
    sys.exit(1 if failures else 0)


main()
