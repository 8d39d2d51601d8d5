# shellcheck shell=bash
# Ports, all on loopback; moved by the environment so that two checkouts can run side by side.

DATA_PORT=${CAPROCK_PORT:-8080}
TLS_PORT=${CAPROCK_TLS_PORT:-8443}
ADMIN_PORT=${CAPROCK_ADMIN_PORT:-8081}
PREFILL_PORT=${CAPROCK_WORKER_PORT_BASE:-8091}
DECODE_PORT=$((PREFILL_PORT + 1))

# port_is_free PORT
port_is_free() {
  python3 - "$1" <<'PYTHON'
import socket, sys
with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("127.0.0.1", int(sys.argv[1])))
        probe.listen()
    except OSError:
        sys.exit(1)
PYTHON
}

# free_port: prints one that nobody listens on now.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# check_ports: every port that we are about to use, all complaints at once.
check_ports() {
  local entry name port variable taken=()
  for entry in data:$DATA_PORT:CAPROCK_PORT TLS:$TLS_PORT:CAPROCK_TLS_PORT admin:$ADMIN_PORT:CAPROCK_ADMIN_PORT \
    prefill:$PREFILL_PORT:CAPROCK_WORKER_PORT_BASE decode:$DECODE_PORT:CAPROCK_WORKER_PORT_BASE; do
    IFS=: read -r name port variable <<<"$entry"
    port_is_free "$port" || taken+=("$name port $port (set $variable to move it)")
  done
  ((${#taken[@]} == 0)) || die "in use: $(printf '%s; ' "${taken[@]}")nothing was started"
}
