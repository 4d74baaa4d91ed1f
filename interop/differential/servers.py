"""Starts servers through `interop/lib.sh`, and the configurations that the cases are grouped by."""
import base64
import contextlib
import hashlib
import os
import socket
import subprocess

LIB = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib.sh")
SUPER = b"super:secret"


def digest_id(credentials, algorithm="sha1"):
    """The id of scheme digest that `user:password` gives."""
    hashed = base64.b64encode(hashlib.new(algorithm, credentials).digest()).decode()
    return credentials.split(b":")[0].decode() + ":" + hashed


# The reaper of containers is kept still: when it removes one is a matter of time.
COMMON = [
    "forceSync=no", "znode.container.checkIntervalMs=100000000",
    f"DigestAuthenticationProvider.superDigest={digest_id(SUPER)}",
]
# Per configuration: the keys beyond the common ones, later ones winning.
CONFIGURATIONS = {
    "plain": [],
    "quota": ["enforceQuota=true"],
    "fast": ["tickTime=200", "znode.container.checkIntervalMs=300", "maxSessionTimeout=600000", "nio.sessionlessCnxnTimeout=500"],
    "restart": [],
    "ours_only": [],
    # Sequences have servers of their own: what cases leave behind must not show in them.
    "sequences": [],
    "sequences_quota": ["enforceQuota=true"],
    "narrow": ["jute.maxbuffer=5000", "maxClientCnxns=6", "minSessionTimeout=7000", "maxSessionTimeout=9000",
               "largeRequestThreshold=1000", "largeRequestMaxBytes=2500", "4lw.commands.whitelist=ruok, isro , mntr"],
    "old": ["extendedTypesEnabled=false", "4lw.commands.whitelist=srvr", "DigestAuthenticationProvider.enabled=false",
            "reconfigEnabled=true"],
    "skipacl": ["skipACL=yes"],
    "enforce": ["enforce.auth.enabled=true", "enforce.auth.schemes=digest", "DigestAuthenticationProvider.digestAlg=SHA-256",
                f"DigestAuthenticationProvider.superDigest={digest_id(SUPER, 'sha256')}"],
}
WITHOUT_SUPER = {"old"}

SCRIPT = r"""
. "$1"; shift
trap '' INT
start_server "$@" || { echo failed; exit 1; }
echo "$SERVER_PORT $SERVER_PID"
read -r signal
{ stop_server "${signal:-TERM}"; } 2>/dev/null
"""


class Server:
    """One running server; it ends when this process does, however that ends."""

    def __init__(self, kind, configuration, directory):
        self.kind, self.configuration, self.directory = kind, configuration, directory
        self.super = None if configuration in WITHOUT_SUPER else SUPER
        self.port = None
        self.start()

    def start(self):
        merged = dict(pair.split("=", 1) for pair in COMMON + CONFIGURATIONS[self.configuration])
        environment = dict(os.environ, HEAP=os.environ.get("HEAP", "512m"))
        if self.port:
            environment["SERVER_PORT_WANTED"] = str(self.port)
        self.shell = subprocess.Popen(
            ["bash", "-c", SCRIPT, "server", LIB, self.kind, self.directory] + [f"{k}={v}" for k, v in merged.items()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        answer = self.shell.stdout.readline().split()
        if len(answer) != 2:
            raise RuntimeError(f"the {self.kind} server of configuration {self.configuration} did not start")
        self.port, self.pid = map(int, answer)

    def stop(self, how="TERM"):
        with contextlib.suppress(BrokenPipeError):
            self.shell.stdin.write(how + "\n")
            self.shell.stdin.close()
        self.shell.wait(60)
        self.shell.stdout.close()

    def serves(self):
        """Whether it answers a word."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
                connection.sendall(b"srvr")
                return bool(connection.recv(100))
        except OSError:
            return False

    def log_tail(self):
        with open(f"{self.directory}/server.log", errors="replace") as log:
            return "".join(log.readlines()[-20:])

    def restart(self, how="KILL"):
        """Ends the server (kill -9 unless told otherwise) and starts it on the same data and port."""
        self.stop(how)
        self.start()
