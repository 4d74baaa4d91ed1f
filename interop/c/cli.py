"""cli.py PORT CLI_MT: plays commands to the C client's shell and waits for what each must print, in this order.

Commands are asynchronous there, so the next one is typed when all has come that the last one causes.
"""

import queue
import re
import subprocess
import sys
import threading
import time

SECONDS_MAX = 20

# (command, what must be printed: regular expressions, each matched behind the one before)
COMMANDS = [
    ("create /cli", [r"\[/cli\]: rc = 0", r"name = /cli"]),
    ("create /cli", [r"\[/cli\]: rc = -110"]),
    ("create /missing/cli", [r"\[/missing/cli\]: rc = -101"]),
    ("create +e /cli-ephemeral", [r"rc = 0", r"name = /cli-ephemeral"]),
    ("create /cli-ephemeral/child", [r"rc = -108"]),
    ("create +s /cli-", [r"rc = 0", r"name = /cli-0000000002"]),
    ("create +es /cli-", [r"rc = 0", r"name = /cli-0000000003"]),
    ("create +c /cli-container", [r"rc = 0", r"name = /cli-container"]),
    ("create +t=1000000 /cli-ttl", [r"rc = 0", r"name = /cli-ttl"]),
    ("create2 /cli-2", [r"rc = 0", r"name = /cli-2", r"czxid=", r"version=0\taversion=0", r"ephemeralOwner = 0"]),
    ("get /cli", [r"/cli: rc = 0\n", r"value_len = 3\nnew\n", r"Stat:\n", r"version=0"]),
    ("set /cli other", [r"CHANGED_EVENT state = CONNECTED_STATE for path /cli\n", r"/cli: rc = 0 Stat:", r"version=1"]),
    ("set /cli silent", [r"/cli: rc = 0 Stat:", r"version=2"]),
    ("get /missing", [r"/missing: rc = -101"]),
    ("set /missing data", [r"/missing: rc = -101"]),
    ("ls /cli", [r"/cli: rc = 0"]),
    ("create /cli/child", [r"CHILD_EVENT state = CONNECTED_STATE for path /cli\n", r"rc = 0", r"name = /cli/child"]),
    ("ls /cli", [r"/cli: rc = 0\n\tchild\n"]),
    ("ls2 /cli", [r"/cli: rc = 0\n\tchild\n", r"version=2"]),
    ("wexists /cli/born", [r"Error -101 for /cli/born"]),
    ("create /cli/born", [r"CREATED_EVENT state = CONNECTED_STATE for path /cli/born\n", r"name = /cli/born"]),
    ("wexists /cli/born", []),
    ("delete /cli/born", [r"DELETED_EVENT state = CONNECTED_STATE for path /cli/born\n", r"/cli/born: rc = 0"]),
    ("delete /cli", [r"/cli: rc = -111"]),
    ("exists /cli", []),
    ("exists /missing", [r"Error -101 for /missing"]),
    ("sync /cli", [r"\[/cli\]: rc = 0", r"name = /cli"]),
    ("addauth digest user:password", []),
    ("config", [r"/zookeeper/config: rc = 0"]),
    ("delete /cli/child", [r"/cli/child: rc = 0"]),
    ("delete /cli", [r"/cli: rc = 0"]),
]


class Shell:
    """A running cli_mt; what it has printed since the last match."""

    def __init__(self, argv):
        # Its completions print to stdout, watchers to stderr: one pipe, and no buffering between them.
        self.process = subprocess.Popen(
            ["stdbuf", "-o0", *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.parts, self.text = queue.Queue(), ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while part := self.process.stdout.read1():
            self.parts.put(part.decode())
        self.parts.put(None)

    def type(self, command):
        self.text = ""
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def expect(self, command, pattern):
        deadline = time.monotonic() + SECONDS_MAX
        while not (match := re.search(pattern, self.text)):
            try:
                part = self.parts.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                sys.exit(f"cli_mt: {command}: no {pattern!r} in\n{self.text}")
            if part is None:
                sys.exit(f"cli_mt ended at: {command}\n{self.text}")
            self.text += part
        self.text = self.text[match.end():]
        return match


def main():
    port, binary = sys.argv[1:]
    argv = [binary, "-h", f"127.0.0.1:{port}"]

    shell = Shell(argv)
    session = shell.expect("start", r"Got a new session id: 0x([0-9a-f]+)")[1]
    for command, patterns in COMMANDS:
        shell.type(command)
        for pattern in patterns:
            shell.expect(command, pattern)
    shell.type("get /cli-ephemeral")
    shell.expect("get", f"ephemeralOwner = {session}")
    shell.type("quit")
    shell.process.wait(SECONDS_MAX)

    batch = subprocess.run([*argv, "-c", "ls /"], capture_output=True, timeout=SECONDS_MAX, text=True)
    listed = batch.stdout + batch.stderr
    if batch.returncode != 0 or "cli-2" not in listed or "cli-ephemeral" in listed:
        sys.exit(f"cli_mt -c: code {batch.returncode}\n{listed}")
    print(f"cli_mt: {len(COMMANDS)} commands")


main()
