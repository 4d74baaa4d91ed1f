"""commands.py OXKEEPER SERVER DIRECTORY: what our shell has and zkCli has not, one command at a time."""

import base64
import json
import os
import signal
import subprocess
import sys
import time

oxkeeper, server, directory = sys.argv[1:4]
HOSTILE = b"red \x1b[31m\xff\x00 end"


def shell(*words, code=0, stdin=None):
    """stdout and stderr of one command, which must end with `code`."""
    done = subprocess.run(
        [oxkeeper, "shell", "-server", server, *words], input=stdin, capture_output=True, text=True, timeout=60
    )
    if done.returncode != code:
        sys.exit(f"{words}: exit code {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}")
    return done.stdout, done.stderr


def same(what, seen, wanted):
    if seen != wanted:
        sys.exit(f"{what}\n  expected: {wanted!r}\n  seen:     {seen!r}")


def as_json(*words):
    return [json.loads(line) for line in shell("--json", *words)[0].splitlines()]


def subtree():
    shell("create", "/from", "root")
    shell("create", "/from/leaf", "text", "world:anyone:cdrwa,digest:user:tpUq/4Pn5A64fVZyQ0gOJ8ZWqkY=:r")
    shell("create", "/from/two words")
    shell("create", "/from/binary")
    shell("set", "-b", "/from/binary", base64.b64encode(HOSTILE).decode())
    shell("create", "/from/leaf/deep", "x" * 1000)


def hostile():
    same("escaped data", shell("get", "/from/binary")[0], "red \\x1b[31m\\xff\\x00 end\n")
    same("exact data", base64.b64decode(as_json("get", "/from/binary")[0]["base64"]), HOSTILE)
    assert "00000000| 72 65 64 20 1b" in shell("get", "-x", "/from/binary")[0]
    # A name cannot hold a control character, but an error must not repeat one either.
    _, error = shell("get", "/\x1b[31m", code=1)
    assert "\x1b" not in error and "\\x1b[31m" in error, error


def drawn():
    tree = shell("tree", "/from")[0].splitlines()
    same("tree", tree, ["/from (4 bytes)", "├── binary (15 bytes)", "├── leaf (4 bytes)", "│   └── deep (1000 bytes)", "└── two words"])
    same("tree -d", len(shell("tree", "-d", "1", "/from")[0].splitlines()), 4)


def moved():
    shell("cp", "/from", "/copy")
    file = os.path.join(directory, "exported")
    shell("export", file, "/copy")
    _, error = shell("export", file, "/copy", code=1)
    assert "-f replaces it" in error, error
    shell("import", file, "/imported")
    for path in ("", "/leaf", "/two words", "/binary", "/leaf/deep"):
        for command in ("get", "getAcl"):
            wanted = as_json(command, "/from" + path)[0]
            wanted["path"] = "/imported" + path
            same(f"{command} {path}", as_json(command, "/imported" + path)[0], wanted)
    _, error = shell("import", file, "/imported", code=1)
    assert "Node already exists: /imported" in error and "-k keeps" in error, error
    shell("set", "/imported/leaf", "changed")
    shell("import", "-k", file, "/imported")
    same("kept", shell("get", "/imported/leaf")[0], "changed\n")
    shell("import", "-o", file, "/imported")
    same("overwritten", shell("get", "/imported/leaf")[0], "text\n")
    # A file that was cut off changes nothing.
    lines = open(file, encoding="utf-8").read().splitlines(keepends=True)
    open(file, "w", encoding="utf-8").writelines(lines[:-1])
    _, error = shell("import", file, "/cut", code=1)
    assert "before its end mark" in error, error
    shell("stat", "/cut", code=1)
    piped, _ = shell("export", "-", "/from")
    shell("import", "-", "/piped", stdin=piped)
    same("piped", shell("getAllChildrenNumber", "/piped")[0], "4\n")
    _, error = shell("cp", "/from", "/from/in", code=1)
    assert "is inside" in error, error


def refused_in_part():
    """What some znodes refuse, and what must not be open in between."""
    shell("create", "/rights")
    shell("create", "/rights/closed", "x", "world:anyone:r")
    shell("create", "/rights/open")
    _, error = shell("setAcl", "-R", "/rights", "world:anyone:crwa", code=1)
    assert "1 of 3 znodes refused the ACL, 2 have it" in error, error
    shell("create", "/secret", "new", "world:anyone:ra")
    _, error = shell("cp", "-o", "/secret", "/rights/open", code=1)
    assert "it has the new ACL, which does not let you write, and the old data" in error, error
    same("the data stays when it cannot be written", shell("get", "/rights/open")[0], "\n")
    # A server looks first whether one may create there, then whether it exists.
    shell("create", "/rights/kept", "old")
    shell("setAcl", "/rights", "world:anyone:rwda")
    shell("create", "/kept", "new")
    shell("cp", "-k", "/kept", "/rights/kept")
    shell("cp", "-o", "/kept", "/rights/kept")
    same("overwritten where nothing may be created", shell("get", "/rights/kept")[0], "new\n")
    for words in (["set", "/kept", "two", "words"], ["delete", "/kept", "0"], ["deleteall", "/kept", "/rights"]):
        _, error = shell(*words, code=1)
        assert error.startswith("one word too many: "), error
    same("nothing was done", shell("get", "/kept")[0], "new\n")


def dated():
    """Dates are those of the place."""
    place = {**os.environ, "TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}
    done = subprocess.run([oxkeeper, "shell", "-server", server, "stat", "/"], env=place, capture_output=True, text=True, timeout=60)
    assert "ctime = Thu Jan 01 01:00:00 CET 1970\n" in done.stdout, done.stdout


def watched():
    watcher = subprocess.Popen(
        [oxkeeper, "shell", "-server", server, "--json", "watch", "-d", "-n", "3", "/from"], stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while watches() == 0:
        assert time.monotonic() < deadline, "the watch is not there"
    shell("set", "/from/leaf", "seen")
    shell("create", "/from/new", "fresh")
    shell("delete", "/from/new")
    out, _ = watcher.communicate(timeout=60)
    events = [json.loads(line) for line in out.splitlines()]
    same("count of events", len(events), 3)
    same("watch ends", watcher.returncode, 0)
    assert events[0]["event"]["type"] == "NodeDataChanged" and events[0]["data"] == "seen", events
    assert events[0]["event"]["path"] == "/from/leaf", events


def watches():
    """How many watches the server has, as `oxkeeper status` tells it."""
    done = subprocess.run([oxkeeper, "status", "-server", server, "--json"], capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout)["servers"][0]["watches"]


def status():
    done = subprocess.run([oxkeeper, "status", "-server", server + ",127.0.0.1:1"], capture_output=True, text=True, timeout=60)
    same("one server is missing", done.returncode, 1)
    assert "standalone" in done.stdout and "127.0.0.1:1  no answer" in done.stdout, done.stdout
    assert "1 of 2 servers serve" in done.stdout, done.stdout
    done = subprocess.run([oxkeeper, "status", "-server", server, "--json"], capture_output=True, text=True, timeout=60)
    same("all serve", done.returncode, 0)
    only = json.loads(done.stdout)["servers"][0]
    assert only["ok"] and only["role"] == "standalone" and only["znodes"] > 5 and only["zxid"].startswith("0x"), only


def lines():
    """Commands on stdin share a session; the exit code is the last one's."""
    out, error = shell(stdin="create -e /held x\nget /held\nnot-a-command\nget /gone\n", code=1)
    assert "x\n" in out and "Command not found: not-a-command" in error and "Node does not exist: /gone" in error
    shell("stat", "/held", code=1)
    _, error = shell(stdin="import - /from\nls /gone\n", code=1)
    assert "stdin is where commands come from" in error and "Node does not exist: /gone" in error, error


def interrupted():
    """Ctrl-C is heard while a command waits, and while none comes."""
    for words in (["watch", "/from"], ["import", "-", "/never"], []):
        waiting = subprocess.Popen(
            [oxkeeper, "shell", "-server", server, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if words[:1] == ["watch"]:
            waiting.stdout.readline()
        else:
            deadline = time.monotonic() + 60
            while not listens(waiting):
                assert time.monotonic() < deadline, words
                time.sleep(0.05)
        waiting.send_signal(signal.SIGINT)
        same(f"{words} after Ctrl-C", waiting.wait(timeout=60), 130)


def listens(process):
    """Whether a process handles SIGINT by now."""
    caught = next(line for line in open(f"/proc/{process.pid}/status") if line.startswith("SigCgt"))
    return int(caught.split()[1], 16) & 1 << (signal.SIGINT - 1) != 0



subtree()
hostile()
drawn()
moved()
refused_in_part()
dated()
watched()
status()
lines()
interrupted()
for path in ("/from", "/copy", "/imported", "/piped", "/kept", "/secret", "/rights"):
    shell("deleteall", path)
same("all gone", [n for n in as_json("ls", "/")[0]["children"] if n in ("from", "copy", "imported", "piped")], [])
print("shell: its own commands are right")
