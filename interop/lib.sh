# shellcheck shell=bash
# What the interoperability suites share: start a server of either kind, wait until it serves, stop it.
# Sourced by each suite's `run`.
#
#   OXKEEPER   the server binary (default: target/release/oxkeeper, built when missing)
#   start_server KIND DIR [KEY=VALUE ...]   KIND is java or oxkeeper; sets SERVER_PORT, SERVER_PID, SERVER_LOG, SERVER_CFG
#   stop_server [SIGNAL]                    ends the server started last and waits for it

interop_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(dirname "$interop_dir")
ZK_VERSION=${ZK_VERSION:-3.9.6}

# Keys that Java reads from JVM flags only; Oxkeeper takes them in zoo.cfg (docs/configuration.md).
jvm_only_keys=' jute.maxbuffer readonlymode.enabled znode.container.checkIntervalMs znode.container.maxPerMinute znode.container.maxNeverUsedIntervalMs '

# ensure_packages NAME...: installs the Debian packages that are missing.
ensure_packages() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

oxkeeper_binary() {
  if [ -n "${OXKEEPER:-}" ]; then
    echo "$OXKEEPER"
  else
    cargo build --quiet --release --manifest-path "$repository/Cargo.toml" --package oxkeeper >&2
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
    classpath=$("$interop_dir/java/classpath.sh" "$ZK_VERSION")
    java "-Xmx${HEAP:-1g}" "-Dlogback.configurationFile=$interop_dir/java/logback.xml" "${flags[@]}" \
      -cp "$classpath" org.apache.zookeeper.server.quorum.QuorumPeerMain "$SERVER_CFG" >>"$SERVER_LOG" 2>&1 &
  else
    "$(oxkeeper_binary)" serve "$SERVER_CFG" >>"$SERVER_LOG" 2>&1 &
  fi
  SERVER_PID=$!
  wait_until_serving "$SERVER_PORT" || { tail -n 40 "$SERVER_LOG" >&2; return 1; }
}

# wait_until_serving PORT: until `srvr` answers with a mode, for at most 60 seconds.
wait_until_serving() {
  python3 - "$1" <<'PY'
import socket, sys, time
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
    time.sleep(0.05)
sys.exit("no server answered on port " + sys.argv[1])
PY
}

stop_server() {
  kill "-${1:-TERM}" "$SERVER_PID" 2>/dev/null || true
  wait "$SERVER_PID" 2>/dev/null || true
}
