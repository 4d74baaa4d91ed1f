# shellcheck shell=bash
# What the interoperability suites share: start a server of either kind, wait until it serves, stop it.
# Sourced by each suite's `run`.
#
#   OXKEEPER   the server binary (default: target/release/oxkeeper, built first)
#   begin_suite SECONDS "$0" "$@"           deadline, temporary directory WORK, everything ended and removed on exit
#   start_server KIND DIR [KEY=VALUE ...]   KIND is java or oxkeeper; sets SERVER_PORT, SERVER_PID, SERVER_LOG, SERVER_CFG
#                                           with SERVER_PORT_WANTED set it takes that port (a restart)
#   stop_server [SIGNAL]                    ends the server started last and waits for it
#   play_with_restarts COMMAND ...          runs a client that asks for kills and restarts of the server started last

interop_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(dirname "$interop_dir")
ZK_VERSION=${ZK_VERSION:-3.9.6}

# Keys that Java reads from JVM flags only; Oxkeeper takes them in zoo.cfg (docs/configuration.md).
jvm_only_keys=' jute.maxbuffer readonlymode.enabled znode.container.checkIntervalMs znode.container.maxPerMinute znode.container.maxNeverUsedIntervalMs '

# begin_suite SECONDS "$0" "$@": restarts the suite under timeout(1), which ends it and all that it started when
# the time is over. Then WORK is a new temporary directory; on exit every background job is killed and WORK
# removed. A failed suite shows the end of its server's log first; KEEP=1 keeps WORK.
begin_suite() {
  local seconds=$1
  shift
  if [ -z "${INTEROP_SUITE_RUNS:-}" ]; then
    INTEROP_SUITE_RUNS=1 exec timeout --kill-after=10 "$seconds" "$@"
  fi
  unset INTEROP_SUITE_RUNS
  WORK=$(mktemp -d "${TMPDIR:-/tmp}/oxkeeper-interop.XXXXXX")
  trap end_suite EXIT
  trap 'exit 124' TERM INT
}

end_suite() {
  local status=$? pid
  for pid in $(jobs -p); do
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  if [ "$status" -ne 0 ] && [ -s "${SERVER_LOG:-}" ]; then
    { echo "--- end of the server's log ---"; tail -n 20 "$SERVER_LOG"; } >&2
  fi
  if [ -n "${KEEP:-}" ]; then echo "kept: $WORK" >&2; else rm -rf "$WORK"; fi
  exit "$status"
}

# play_with_restarts COMMAND ...: runs COMMAND with two more descriptors: a line written to 3 is a request to the
# server started last, and its answer comes as a line on 4. Requests: `kill` (SIGKILL), `stop` (SIGTERM),
# `start` (same directory, port and configuration), `restart` (kill and start). Needs WORK, and KIND and the
# configuration pairs of start_server in RESTART=(KIND DIR PAIR ...). Returns COMMAND's exit code.
play_with_restarts() {
  local requests=$WORK/requests answers=$WORK/answers request player
  rm -f "$requests" "$answers"
  mkfifo "$requests" "$answers"
  "$@" 3>"$requests" 4<"$answers" &
  player=$!
  exec 8<"$requests" 9>"$answers"
  while read -r request <&8; do
    case $request in
      kill) stop_server KILL ;;
      stop) stop_server TERM ;;
      start) SERVER_PORT_WANTED=$SERVER_PORT start_server "${RESTART[@]}" 8<&- 9>&- ;;
      restart) stop_server KILL && SERVER_PORT_WANTED=$SERVER_PORT start_server "${RESTART[@]}" 8<&- 9>&- ;;
      *) echo "play_with_restarts: unknown request: $request" >&2; request=unknown ;;
    esac || request=failed
    echo "$request" >&9
  done
  exec 8<&- 9>&-
  wait "$player"
}

# ensure_packages NAME...: installs the Debian packages that are missing.
ensure_packages() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  local wait_for_lock=(-o DPkg::Lock::Timeout=300)
  apt-get "${wait_for_lock[@]}" update -qq >&2 &&
    DEBIAN_FRONTEND=noninteractive apt-get "${wait_for_lock[@]}" install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# kazoo_python: a Python that has kazoo (kazoo/requirements.txt), kept in the cache.
kazoo_python() {
  local requirements=$interop_dir/kazoo/requirements.txt venv
  python3 -c 'import venv, ensurepip' 2>/dev/null || ensure_packages python3 python3-venv || return 1
  venv=${XDG_CACHE_HOME:-$HOME/.cache}/oxkeeper-interop/kazoo-$(cksum <"$requirements" | cut -d' ' -f1)
  if [ ! -e "$venv/complete" ]; then
    rm -rf "$venv"
    { python3 -m venv "$venv" && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"; } >&2 ||
      return 1
    touch "$venv/complete"
  fi
  echo "$venv/bin/python"
}

# java_classpath: the classpath of ZooKeeper ZK_VERSION and Curator, with a JDK and Maven to get it by.
java_classpath() {
  { command -v javac && command -v mvn; } >/dev/null || ensure_packages default-jdk-headless maven || return 1
  "$interop_dir/java/classpath.sh" "$ZK_VERSION"
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

oxkeeper_binary() {
  if [ -n "${OXKEEPER:-}" ]; then
    echo "$OXKEEPER"
  else
    cargo build --quiet --release --manifest-path "$repository/Cargo.toml" --package oxkeeper >&2 || return 1
    echo "${CARGO_TARGET_DIR:-$repository/target}/release/oxkeeper"
  fi
}

start_server() {
  local kind=$1 dir=$2 pair key
  shift 2
  mkdir -p "$dir/data"
  SERVER_PORT=${SERVER_PORT_WANTED:-$(free_port)}
  SERVER_CFG=$dir/zoo.cfg
  SERVER_LOG=$dir/server.log
  local flags=()
  {
    echo "dataDir=$dir/data"
    echo "clientPort=$SERVER_PORT"
    echo "clientPortAddress=127.0.0.1"
    echo "4lw.commands.whitelist=*"
    echo "admin.enableServer=false"
    echo "extendedTypesEnabled=true"
    for pair in "$@"; do
      key=${pair%%=*}
      if [ "$kind" = java ] && [[ $jvm_only_keys == *" $key "* ]]; then
        flags+=("-D$pair")
      else
        echo "$pair"
      fi
    done
  } >"$SERVER_CFG"
  if [ "$kind" = java ]; then
    local classpath
    classpath=$(java_classpath) || return 1
    java "-Xmx${HEAP:-1g}" "-Dlogback.configurationFile=$interop_dir/java/logback.xml" "${flags[@]}" \
      -cp "$classpath" org.apache.zookeeper.server.quorum.QuorumPeerMain "$SERVER_CFG" >>"$SERVER_LOG" 2>&1 &
  else
    local binary
    binary=$(oxkeeper_binary) || return 1
    "$binary" serve "$SERVER_CFG" >>"$SERVER_LOG" 2>&1 &
  fi
  SERVER_PID=$!
  wait_until_serving "$SERVER_PORT" "$SERVER_PID" || { tail -n 40 "$SERVER_LOG" >&2; return 1; }
}

# wait_until_serving PORT [PID]: until `srvr` answers with a mode, for at most 60 seconds or as long as PID lives.
wait_until_serving() {
  python3 - "$@" <<'PY'
import os, socket, sys, time
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2) as s:
            s.sendall(b"srvr")
            text = b""
            while part := s.recv(4096):
                text += part
            if b"Mode:" in text:
                sys.exit(0)
    except OSError:
        pass
    if len(sys.argv) > 2:
        try:
            os.readlink(f"/proc/{sys.argv[2]}/exe")  # a zombie has none either
        except FileNotFoundError:
            sys.exit("the server ended before it served")
    time.sleep(0.05)
sys.exit("no server answered on port " + sys.argv[1])
PY
}

stop_server() {
  kill "-${1:-TERM}" "$SERVER_PID" 2>/dev/null || true
  wait "$SERVER_PID" 2>/dev/null || true
}
