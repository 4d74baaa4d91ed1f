"""terminal.py OXKEEPER SERVER DIRECTORY: the shell typed at in a terminal, which is tmux. Descriptors 3 and 4 restart the
server (../lib.sh, play_with_restarts)."""

import atexit
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mixed"))
from ensemble import JAVA, Ensemble  # noqa: E402

oxkeeper, server, directory = sys.argv[1:4]
SECONDS = 60
# How many znodes take long enough to be seen.
COUNT = 20000
JAVA_COUNT = 10000


class Terminal:
    """A tmux of its own with one window, and what is to be seen there."""

    count = 0

    def __init__(self, *command, **environment):
        Terminal.count += 1
        self.tmux = ["tmux", "-S", os.path.join(directory, f"tmux-{Terminal.count}"), "-f", "/dev/null"]
        atexit.register(self.end)
        settings = {"XDG_STATE_HOME": os.path.join(directory, "state"), "TERM": "screen-256color", **environment}
        words = ["env"] + [f"{name}={value}" for name, value in settings.items()] + list(command)
        line = " ".join(f"'{word}'" for word in words) + "; echo ended with $?; exec cat"
        self.run("new-session", "-d", "-x", "120", "-y", "40", line)

    def run(self, *words):
        return subprocess.run([*self.tmux, *words], check=True, capture_output=True, text=True, timeout=SECONDS).stdout

    def keys(self, *keys):
        self.run("send-keys", *keys)

    def text(self, text):
        self.run("send-keys", "-l", text)

    def screen(self, *options):
        return self.run("capture-pane", "-p", *options).rstrip()

    def wait(self, *wanted):
        """Waits until every one of `wanted` is on the screen, and the last one at the end of its last line if it ends in `|`."""
        deadline = time.monotonic() + SECONDS
        while True:
            screen = self.screen()
            last = screen.splitlines()[-1] if screen else ""
            missing = [w for w in wanted if not (last.endswith(w[:-1]) if w.endswith("|") else w in screen)]
            if not missing:
                return screen
            if time.monotonic() > deadline:
                sys.exit(f"not to be seen: {missing}\n{screen}")
            time.sleep(0.05)

    def end(self):
        subprocess.run([*self.tmux, "kill-server"], capture_output=True, timeout=SECONDS)  # there may be none any more


def one_shot(*words):
    subprocess.run([oxkeeper, "shell", "-server", server, *words], check=True, capture_output=True, timeout=SECONDS)


def ask_harness(request):
    os.write(3, request.encode() + b"\n")
    answer = os.read(4, 100).decode().strip()
    if answer != request:
        sys.exit(f"the server could not be made to {request}: {answer}")


def typing(terminal):
    terminal.wait(f"[zk: {server}(CONNECTED) 0]|")
    # More lines at once than one command takes, as when they are pasted.
    terminal.keys("create /term data", "Enter", "create /term/one 1", "Enter", "create '/term/two words' 2", "Enter")
    terminal.wait("Created /term/two words", "(CONNECTED) 3]|")
    terminal.keys("getAllCh", "Tab")
    terminal.wait("getAllChildrenNumber|")
    terminal.keys("/te", "Tab")
    terminal.wait("getAllChildrenNumber /term|")
    terminal.keys("Enter")
    terminal.wait("\n2\n", "(CONNECTED) 4]|")
    terminal.keys("get /term/t", "Tab", "Enter")
    terminal.wait('get "/term/two words"\n2', "(CONNECTED) 5]|")
    # Ctrl-C throws a line away, Up brings the last one back.
    terminal.keys("half a comm")
    terminal.wait("half a comm|")
    terminal.keys("C-c")
    terminal.wait("half a comm\n", "(CONNECTED) 5]|")
    terminal.keys("Up")
    terminal.wait('(CONNECTED) 5] get "/term/two words"|')
    terminal.keys("C-u")


def events(terminal):
    terminal.keys("addWatch /term", "Enter")
    terminal.wait("(CONNECTED) 6]|")
    terminal.text("set /term half-ty")
    terminal.wait("set /term half-ty|")
    one_shot("create", "/term/event")
    screen = terminal.wait("NodeCreated path:/term/event", "set /term half-ty|")
    lines = screen.splitlines()
    event = next(n for n, line in enumerate(lines) if "NodeCreated path:/term/event" in line)
    # The event has a line of its own above the one being typed.
    assert lines[event].startswith("WatchedEvent ") and event == len(lines) - 2, screen
    terminal.keys("ped", "Enter")
    terminal.wait("NodeDataChanged path:/term ", "(CONNECTED) 7]|")
    terminal.keys("get /term", "Enter")
    terminal.wait("\nhalf-typed\n", "(CONNECTED) 8]|")


def outage(terminal):
    ask_harness("kill")
    terminal.wait("state:Disconnected")
    terminal.keys("get /term", "Enter")
    terminal.wait("no server answers yet; waiting, Ctrl-C gives up")
    terminal.keys("C-c")
    terminal.wait("given up", "(CONNECTING) 9]|")
    ask_harness("start")
    # The session lives on, and so does its persistent watch.
    terminal.wait("(CONNECTING) 9]|")
    deadline = time.monotonic() + SECONDS
    while terminal.screen().count("state:SyncConnected type:None") < 2:
        assert time.monotonic() < deadline, terminal.screen()
        time.sleep(0.05)
    one_shot("create", "/term/after")
    terminal.wait("NodeCreated path:/term/after")
    terminal.keys("deleteall /term", "Enter")
    terminal.wait("NodeDeleted path:/term ", "(CONNECTED) 10]|")


def end(terminal):
    terminal.keys("get /term", "Enter")
    terminal.wait("Node does not exist: /term", "hint: ")
    terminal.keys("C-d")
    terminal.wait("ended with 1")


def colours():
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        terminal = Terminal(oxkeeper, "shell", "-server", server, **environment)
        terminal.wait("(CONNECTED) 0]|")
        if coloured:
            # The history of the run before.
            terminal.keys("Up")
            terminal.wait("(CONNECTED) 0] get /term|")
        assert ("\x1b[32m" in terminal.screen("-e")) == coloured, terminal.screen("-e")
        terminal.end()


def dumb():
    """A terminal that knows no sequences, as those inside editors."""
    terminal = Terminal(oxkeeper, "shell", "-server", server, TERM="dumb")
    terminal.wait("state:SyncConnected")
    terminal.keys("create /dumb", "Enter")
    terminal.wait("Created /dumb")
    terminal.keys("delete /dumb", "Enter", "C-d")
    terminal.wait("ended with 0")
    terminal.end()


def live_view():
    terminal = Terminal(oxkeeper, "status", "-server", server, "--watch", "-interval", "0.2")
    terminal.wait("oxkeeper status, every 0.2 s", "standalone", "1 of 1 servers serve")
    terminal.keys("C-c")
    screen = terminal.wait("ended with 0")
    assert "standalone" not in screen, screen
    terminal.end()


def export_of(count):
    """A file to import: so many znodes below their root."""
    acl = [{"id": "anyone", "perms": "cdrwa", "scheme": "world"}]
    exported = os.path.join(directory, f"export-{count}")
    with open(exported, "w", encoding="utf-8") as file:
        lines = [{"format": "oxkeeper-export", "version": 1, "root": "/big"}, {"path": "", "data": "", "acl": acl}]
        lines += [{"path": f"/{number}", "data": "x" * 100, "acl": acl} for number in range(count)]
        lines.append({"znodes": count + 1})
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return exported


def ensemble():
    """Three servers of ours whose leader is killed while a command draws its progress, and while a line is typed."""
    dev = subprocess.Popen([oxkeeper, "dev", "--json", "--servers", "3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(dev.kill)
    servers = json.loads(dev.stdout.readline())["connect"]

    def ask(command):
        print(command, file=dev.stdin, flush=True)
        reply = json.loads(dev.stdout.readline())
        assert reply["ok"], f"{command}: {reply}"
        return reply

    def leader():
        return next(one["id"] for one in ask("wait")["servers"] if one["state"] == "leading")

    exported = export_of(COUNT)
    terminal = Terminal(oxkeeper, "shell", "-server", servers)
    terminal.wait("(CONNECTED) 0]|")
    terminal.keys(f"import -k {exported} /big", "Enter")
    terminal.wait("] ", "read bytes")
    killed = leader()
    ask(f"kill {killed}")
    screen = terminal.wait("imported ", "(CONNECTED) 1]|")
    # The lost connection is told on lines of its own, not behind the progress, of which nothing is left.
    told = [line for line in screen.splitlines() if "WatchedEvent" in line]
    assert any("state:Disconnected" in line for line in told), screen
    assert all(line.startswith("WatchedEvent") for line in told) and "read bytes" not in screen, screen
    ask(f"restart {killed}")
    killed = leader()
    terminal.text("getAllChildrenNumber /bi")
    terminal.wait("(CONNECTED) 1] getAllChildrenNumber /bi|")
    ask(f"kill {killed}")
    deadline = time.monotonic() + SECONDS
    while terminal.screen().count("state:SyncConnected") < 3:
        assert time.monotonic() < deadline, terminal.screen()
        time.sleep(0.05)
    screen = terminal.wait("(CONNECTED) 1] getAllChildrenNumber /bi|")
    terminal.keys("g", "Enter")
    terminal.wait(f"\n{COUNT}\n", "(CONNECTED) 2]|")
    terminal.keys("watch /big", "Enter")
    terminal.wait("watching /big, Ctrl-C ends|")
    ask(f"restart {killed}")
    killed = leader()
    ask(f"kill {killed}")
    terminal.wait("the connection is lost; what happens until it is back is not seen", "connected again")
    subprocess.run(
        [oxkeeper, "shell", "-server", servers, "-waitforconnection", "create", "/big/new"],
        check=True,
        capture_output=True,
        timeout=SECONDS,
    )
    terminal.wait("type:NodeCreated path:/big/new")
    terminal.keys("C-c")
    terminal.wait("given up", "(CONNECTED) 3]|")
    terminal.keys("deleteall /big", "Enter")
    terminal.wait("(CONNECTED) 4]|")
    terminal.keys("ls /", "Enter")
    terminal.wait("\n[zookeeper]\n")
    terminal.end()
    ask(f"restart {killed}")
    view = Terminal(oxkeeper, "status", "-server", servers, "--watch", "-interval", "0.2")
    view.wait("3 of 3 servers serve, the leader is")
    killed = leader()
    ask(f"kill {killed}")
    view.wait("no answer: Connection refused", "2 of 3 servers serve, the leader is")
    view.keys("C-c")
    view.wait("ended with 0")
    view.end()
    ask("stop")
    dev.wait(timeout=SECONDS)


def java_ensemble():
    """Three servers of Java's whose leader is killed with SIGKILL while a command draws its progress, twice."""
    with Ensemble(os.path.join(directory, "java"), dict.fromkeys((1, 2, 3), JAVA), os.environ["ZK_VERSION"]) as servers:
        servers.start()
        view = Terminal(oxkeeper, "status", "-server", servers.hosts, "--watch", "-interval", "0.2")
        view.wait("3 of 3 servers serve, the leader is")
        terminal = Terminal(oxkeeper, "shell", "-server", servers.hosts)
        terminal.wait("(CONNECTED) 0]|")
        terminal.keys("create -e /mine", "Enter", "addWatch /seen", "Enter", "get -w /mine", "Enter")
        terminal.wait("(CONNECTED) 3]|")
        terminal.keys(f"import -k {export_of(JAVA_COUNT)} /big", "Enter")
        terminal.wait("] ", "read bytes")
        killed = servers.leader()
        killed.kill()
        terminal.wait("imported ", "(CONNECTED) 4]|")
        view.wait("no answer: Connection refused", "2 of 3 servers serve, the leader is")
        terminal.keys("getAllChildrenNumber /bi", "Tab", "Enter")
        terminal.wait(f"\n{JAVA_COUNT}\n", "(CONNECTED) 5]|")
        killed.start()
        servers.await_serving(killed)
        terminal.keys("deleteall /big -b 10", "Enter")
        terminal.wait("] ", "deleted")
        servers.leader().kill()
        terminal.wait("(CONNECTED) 6]|")
        terminal.keys("getEphemerals", "Enter", "ls /", "Enter")
        terminal.wait("\n[/mine]\n", "\n[mine, zookeeper]\n", "(CONNECTED) 8]|")
        # What was watched before the first kill is watched still.
        terminal.keys("create /seen", "Enter", "set /mine x", "Enter")
        terminal.wait("type:NodeCreated path:/seen ", "type:NodeDataChanged path:/mine ", "(CONNECTED) 10]|")
        terminal.end()
        view.end()


first = Terminal(oxkeeper, "shell", "-server", server)
typing(first)
events(first)
outage(first)
end(first)
first.end()
colours()
dumb()
live_view()
ensemble()
java_ensemble()
print("shell: right in a terminal")
