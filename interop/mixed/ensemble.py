"""Servers of either kind in ensembles of any mix: configured, started, paused, killed, asked.

Every member has a loopback address of its own and the same ports, so no ensemble ever meets another one's ports. Its
directory and zoo.cfg belong to the member, not to the kind of server: what one kind left, the other one starts on.
"""

import ctypes
import functools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

INTEROP = Path(__file__).resolve().parent.parent

CLIENT_PORT, QUORUM_PORT, ELECTION_PORT = 2181, 2888, 3888
TICK_MS = 1000
DEADLINE = 60.0  # seconds; for one condition
SUPER = "super:secret"

# What both kinds read in zoo.cfg. The digest is what the server makes of the password in SUPER.
COMMON = {
    "tickTime": TICK_MS, "initLimit": 10, "syncLimit": 5,
    "minSessionTimeout": 1000, "maxSessionTimeout": 60000, "maxClientCnxns": 0,
    "4lw.commands.whitelist": "*", "admin.enableServer": "false", "extendedTypesEnabled": "true",
    "preAllocSize": 64, "snapCount": 2000,
    "DigestAuthenticationProvider.superDigest": "super:lK75jTNcA+U9vtVEw5vB51mj/w4=",
}
# What Java reads from JVM flags only, Oxkeeper in zoo.cfg.
JVM_ONLY = {"znode.container.checkIntervalMs": 300, "znode.container.maxPerMinute": 100000}
# The same, of which an ensemble may say what they are.
JVM_ONLY_SETTINGS = ("readonlymode.enabled",)

LIBC = ctypes.CDLL(None)
JAVA, OXKEEPER = "java", "oxkeeper"


class Failed(AssertionError):
    """Something that the suite expects did not happen."""


def until(what, condition, seconds=DEADLINE, pause=0.05):
    """The first true value of condition(); after `seconds` fails with `what`, a text or what makes one."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds:g} s: {what() if callable(what) else what}")
        time.sleep(pause)


def expect(holds, what):
    if not holds:
        raise Failed(what)


@functools.cache
def classpath(release):
    command = [INTEROP / "java" / "classpath.sh", release]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def java(release, *arguments, heap="256m"):
    """The command line of a JVM that is quick to start."""
    return ["java", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
            f"-Dlogback.configurationFile={INTEROP}/java/logback.xml", "-cp", classpath(release), *arguments]


def die_with_parent():
    """In the child: end when the thread that started it ends, however it does (prctl's PR_SET_PDEATHSIG)."""
    LIBC.prctl(1, signal.SIGKILL)


@dataclass
class Member:
    """One server: an id, an address and a directory, and whichever kind of server runs there."""

    sid: int
    kind: str
    address: str
    directory: Path
    release: str  # of Java, when that is its kind
    observer: bool = False
    servers: dict = field(default_factory=dict)  # sid -> the value of its server line; empty: it stands alone
    settings: dict = field(default_factory=dict)
    process: subprocess.Popen = None

    def __str__(self):
        kind = f"java {self.release}" if self.kind == JAVA else self.kind
        return f"server {self.sid} ({kind}{', observer' if self.observer else ''})"

    @property
    def data(self):
        return self.directory / "data"

    @property
    def log_path(self):
        return self.directory / "server.log"

    def configure(self):
        """Writes zoo.cfg and myid, once: the same for both kinds."""
        self.data.mkdir(parents=True, exist_ok=True)
        lines = COMMON | JVM_ONLY | self.settings | {
            "dataDir": self.data, "clientPort": CLIENT_PORT, "clientPortAddress": self.address}
        if self.observer:
            lines["peerType"] = "observer"
        lines |= {f"server.{sid}": value for sid, value in self.servers.items()}
        (self.directory / "zoo.cfg").write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        if self.servers:
            (self.data / "myid").write_text(f"{self.sid}\n")

    def start(self):
        """Starts the process; `Ensemble.start` and `await_serving` wait for it."""
        expect(self.process is None, f"{self} runs already")
        config = self.directory / "zoo.cfg"
        if self.kind == JAVA:
            only = JVM_ONLY | {key: self.settings[key] for key in JVM_ONLY_SETTINGS if key in self.settings}
            flags = [f"-D{key}={value}" for key, value in only.items()]
            command = java(self.release, "-Dzookeeper.log=INFO", "-Dzookeeper.log.learners=DEBUG", *flags,
                           "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config))
        else:
            command = [os.environ["OXKEEPER"], "serve", str(config)]
        with open(self.log_path, "ab") as log:
            log.write(f"--- {self} starts\n".encode())
            log.flush()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.directory, preexec_fn=die_with_parent)

    def send(self, number):
        self.process.send_signal(number)

    def pause(self):
        """Stops every thread of the process; returns when they stand."""
        self.send(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.process.pid}/task")

        def stand():
            states = [path.read_text().rpartition(")")[2].split()[0] for path in tasks.glob("*/stat")]
            return all(state == "T" for state in states)
        until(f"{self} stands", stand, 20, pause=0.002)

    def resume(self):
        self.send(signal.SIGCONT)

    def stop(self, number=signal.SIGTERM):
        """Ends the process and waits until it is gone."""
        if self.process is None:
            return
        self.send(number)
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"{self} did not end on signal {number}") from None
        finally:
            self.process = None

    def kill(self):
        self.stop(signal.SIGKILL)

    def word(self, name, seconds=5):
        """The answer of a four-letter word, or "" when the server does not answer."""
        try:
            with socket.create_connection((self.address, CLIENT_PORT), seconds) as connection:
                connection.sendall(name.encode())
                answer = b""
                while part := connection.recv(1 << 16):
                    answer += part
                return answer.decode()
        except OSError:
            return ""

    def mode(self):
        """`leader`, `follower`, `observer` or `standalone` when it serves; "" otherwise."""
        match = re.search(r"^Mode: (.+)$", self.word("srvr"), re.M)
        return match[1] if match else ""

    def zxid(self):
        match = re.search(r"^Zxid: 0x([0-9a-f]+)$", self.word("srvr"), re.M)
        return int(match[1], 16) if match else None

    def monitor(self):
        """The values of `mntr` by key, without the prefix."""
        return dict(re.findall(r"^zk_(\S+)\t(.*)$", self.word("mntr"), re.M))

    def expect_alive(self):
        if self.process is None or self.process.poll() is not None:
            code = self.process and self.process.returncode
            raise Failed(f"{self} ended by itself with code {code}")

    def log_size(self):
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def log_since(self, size):
        if not self.log_path.exists():
            return ""
        with open(self.log_path, "rb") as log:
            log.seek(size)
            return log.read().decode(errors="replace")

    def forget_data(self):
        """Removes all that the server knows but its id."""
        shutil.rmtree(self.data / "version-2")

    def data_files(self, prefix):
        """Files of its data directory by the zxid of their names, oldest first."""
        files = (self.data / "version-2").glob(f"{prefix}.*")
        return [path for _, path in sorted((int(path.suffix[1:], 16), path) for path in files
                                           if re.fullmatch(r"\.[0-9a-f]+", path.suffix))]


class Ensemble:
    """Members that know each other. A context: at its end every process is gone."""

    def __init__(self, directory, kinds, release, observers=(), **settings):
        """`kinds` gives each server's kind by its id; `observers` are ids."""
        net = f"127.{random.randrange(16, 250)}.{random.randrange(1, 250)}"
        servers = {sid: f"{net}.{sid}:{QUORUM_PORT}:{ELECTION_PORT}" + (":observer" if sid in observers else "")
                   for sid in kinds}
        self.members = {}
        for sid, kind in kinds.items():
            member = Member(sid, kind, f"{net}.{sid}", Path(directory) / str(sid), release,
                            sid in observers, servers, settings)
            member.configure()
            self.members[sid] = member

    def __enter__(self):
        return self

    def __exit__(self, kind, failure, trace):
        if isinstance(failure, Exception):
            for member in self:
                print(f"--- end of the log of {member}:\n"
                      + "".join(member.log_since(0).splitlines(keepends=True)[-25:]), file=sys.stderr)
        for member in self:
            member.kill()

    def __iter__(self):
        return iter(self.members.values())

    def __getitem__(self, sid):
        return self.members[sid]

    @property
    def running(self):
        return [member for member in self if member.process is not None]

    @property
    def hosts(self):
        return ",".join(f"{member.address}:{CLIENT_PORT}" for member in self)

    def start(self, *sids, seconds=DEADLINE):
        """Starts these (all that do not run) together and waits until each serves."""
        members = [self[sid] for sid in sids] or [member for member in self if member.process is None]
        for member in members:
            member.start()
        self.await_serving(*members, seconds=seconds)

    def await_serving(self, *members, seconds=DEADLINE):
        def serves(member):
            member.expect_alive()
            return member.mode()
        deadline = time.monotonic() + seconds
        for member in members or self.running:
            until(f"{member} serves", lambda: serves(member), max(1.0, deadline - time.monotonic()))

    def start_led_by(self, sid):
        """Starts all, which know nothing yet, so that `sid` leads: first it and just enough of lower ids."""
        voters = [member.sid for member in self if not member.observer]
        lower = [other for other in voters if other < sid][: len(voters) // 2]
        expect(len(lower) == len(voters) // 2, f"server {sid} cannot be made to lead")
        self.start(sid, *lower)
        self.start()
        expect(self.leader().sid == sid, f"{self.leader()} leads instead of server {sid}")

    def leader(self, seconds=DEADLINE, but=None):
        """The member that leads, other than `but`, waiting for one."""
        def leading():
            candidates = [member for member in self.running if member is not but]
            for member in candidates:
                member.expect_alive()
            return [member for member in candidates if member.mode() == "leader"]
        return until("a leader is elected", leading, seconds)[0]

    def await_same_zxid(self, seconds=DEADLINE):
        """Waits until all that run have applied the same last txn; only for an ensemble at rest."""
        def same():
            zxids = {member.zxid() for member in self.running}
            return len(zxids) == 1 and None not in zxids
        until(lambda: f"the servers have the same zxid ({[f'{m}: {m.zxid()}' for m in self.running]})", same, seconds)

    def stop(self):
        """Ends all politely, the leader last, so that no election begins meanwhile."""
        for member in sorted(self.running, key=lambda member: member.mode() == "leader"):
            member.stop()
