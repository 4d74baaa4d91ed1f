"""play.py PORT COMMANDS [--record] -- SHELL ...: plays a file of commands to ZooKeeper's shell and compares.

The file holds, in this order and any number of times:

    # a comment
    > command            what is typed; {port} is the server's port
    output               what the shell prints, blank lines left out
    ~ WatchedEvent ...   watch events printed since the last command, in order, waited for

A command after `>?` instead of `>` is repeated until it prints what is expected; after `>*` its lines may come in any
order. In outputs `<date>` stands for any date of this century,
`<session1>` for one session's id (the same text wherever the name occurs) and `<*>` for any text.
The server is new and nobody else uses it, so zxids are compared as they are.
"""

import re
import subprocess
import sys
import threading
import queue
import time

MARK, MARK_ANSWER = "printwatches", "printwatches is on"
DATE = r"[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d UTC 20\d\d"
SESSION = r"0x1[0-9a-f]{14}"
TIMEOUT = object()
COMMAND_SECONDS, REPEAT_SECONDS = 20, 20


class Shell:
    """A running shell; its lines arrive in order, watch events sorted out into `events`."""

    def __init__(self, argv):
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )
        self.lines = queue.Queue()
        self.events = []
        self.early = []  # printed behind the mark, as "Not connected" is after `close`
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def _next(self, deadline):
        try:
            line = self.lines.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            return TIMEOUT
        if line is None:
            return None
        if line.startswith("WatchedEvent "):
            self.events.append(line)
            return ""
        return "" if line == "WATCHER::" else line

    def type(self, command):
        """Types a command and returns the lines it printed, without blank ones and events."""
        self.process.stdin.write(command + "\n")
        if command != "quit":
            self.process.stdin.write(MARK + "\n")
        self.process.stdin.flush()
        deadline, printed, self.early = time.monotonic() + COMMAND_SECONDS, self.early, []
        while True:
            line = self._next(deadline)
            if line is TIMEOUT:
                sys.exit(f"no prompt again after: {command}\n" + "\n".join(printed))
            if line is None:
                if command != "quit":
                    sys.exit(f"the shell ended at: {command}\n" + "\n".join(printed))
                break
            marked = line.endswith(MARK_ANSWER)
            line = line.removesuffix(MARK_ANSWER)  # behind a message that the shell does not end with a newline
            if line:
                printed.append(line)
            if marked:
                break
        return printed

    def take_events(self, count):
        """Waits for `count` events and returns all that have come."""
        deadline = time.monotonic() + COMMAND_SECONDS
        while len(self.events) < count:
            line = self._next(deadline)
            if line is None or line is TIMEOUT:
                break
            if line:
                self.early.append(line)
        events, self.events = self.events, []
        return events


class Names:
    """What the placeholders stood for so far."""

    def __init__(self):
        self.sessions = {}

    def matches(self, expected, line):
        """Whether a printed line is the expected one; binds new session names."""
        pattern, names = "", []
        for part in re.split(r"(<date>|<session\d+>|<\*>)", expected):
            if part == "<date>":
                pattern += DATE
            elif part == "<*>":
                pattern += ".*"
            elif part.startswith("<session"):
                names.append(part)
                pattern += re.escape(self.sessions[part]) if part in self.sessions else f"({SESSION})"
            else:
                pattern += re.escape(part)
        match = re.fullmatch(pattern, line)
        if not match:
            return False
        new = [name for name in names if name not in self.sessions]
        for name, value in zip(new, match.groups()):
            if value in self.sessions.values():
                return False
            self.sessions[name] = value
        return True

    def record(self, line):
        """The expectation that stands for a printed line."""
        for session in re.findall(SESSION, line):
            name = next((n for n, v in self.sessions.items() if v == session), None)
            if name is None:
                name = f"<session{len(self.sessions) + 1}>"
                self.sessions[name] = session
            line = line.replace(session, name)
        return re.sub(DATE, "<date>", line)


def parse(path):
    """The steps of a file: (comments before it, mark, command, expected lines, expected events)."""
    steps, comments = [], []
    for line in open(path, encoding="utf-8").read().split("\n"):
        if line.startswith("#") or not line:
            comments.append(line)
        elif line.startswith((">? ", ">* ", "> ")):
            mark, command = line.split(" ", 1)
            steps.append((comments, mark, command, [], []))
            comments = []
        elif line.startswith("~ "):
            steps[-1][4].append(line[2:])
        else:
            steps[-1][3].append(line)
    return steps


def main():
    separator = sys.argv.index("--")
    port, path = sys.argv[1:3]
    record = "--record" in sys.argv[3:separator]
    shell, names, recorded, failures = Shell(sys.argv[separator + 1 :]), Names(), [], 0
    steps = parse(path)
    for comments, mark, command, lines, events in steps:
        typed = command.replace("{port}", port)
        deadline = time.monotonic() + REPEAT_SECONDS
        while True:
            printed = [line.replace(f":{port}", ":{port}") for line in shell.type(typed)]
            if mark == ">*":
                printed.sort()
                lines = sorted(lines)
            good = len(printed) == len(lines) and all(map(names.matches, lines, printed))
            if good or mark != ">?" or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if record and command != "quit":
            time.sleep(0.3)  # only the one who records cannot know how many events will come
            shell.type("")
        seen = shell.take_events(len(events) if not record else 0)
        recorded += [*comments, f"{mark} {command}"]
        recorded += lines if mark == ">?" and record else map(names.record, printed)
        recorded += ("~ " + event for event in seen)
        if record:
            continue
        if not good:
            failures += 1
            print(f"> {typed}\n  expected:", *lines, "  printed:", *printed, sep="\n    ")
        if len(seen) != len(events) or not all(map(names.matches, events, seen)):
            failures += 1
            print(f"> {typed}\n  expected events:", *events, "  seen:", *seen, sep="\n    ")
    if shell.process.wait(timeout=COMMAND_SECONDS) != 0 and not record:
        failures += 1
        print(f"the shell's exit code is {shell.process.returncode}")
    if record:
        open(path, "w", encoding="utf-8").write("\n".join(recorded) + "\n")
    print(f"zkcli: {len(steps)} commands, {failures} differences")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
