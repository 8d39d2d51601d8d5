# shellcheck shell=bash
# A throw-away PostgreSQL for tests: own data folder, own port on loopback, nothing synced to disk.

# postgres_bin: prints the folder of the newest installed server, or nothing.
postgres_bin() {
  find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path '*/bin/postgres' 2>/dev/null | sort -V | tail -n 1 |
    sed 's,/postgres$,,'
}

# PostgreSQL refuses to run as root.
as_postgres() {
  if ((EUID == 0)); then
    setpriv --reuid=postgres --regid=postgres --init-groups --reset-env -- "$@"
  else
    "$@"
  fi
}

# start_postgres: sets POSTGRES_URL. Its processes end with stop_postgres, or with this script.
start_postgres() {
  local bin port deadline
  bin=$(postgres_bin)
  [[ -n $bin ]] || die "PostgreSQL is missing"
  port=$(free_port)
  POSTGRES_DIR=$(mktemp -d "${TMPDIR:-/tmp}/caprock-postgres.XXXXXX")
  ((EUID != 0)) || chown postgres: "$POSTGRES_DIR"
  (
    cd "$POSTGRES_DIR" || exit
    run_logged "$STATE/logs/postgres-init.log" as_postgres "$bin/initdb" --no-sync --auth=trust --username=caprock \
      --encoding=UTF8 --locale=C.UTF-8 -D "$POSTGRES_DIR/data"
  ) || die "initdb failed"
  (
    cd "$POSTGRES_DIR" || exit
    as_postgres_forever "$bin/postgres" -D "$POSTGRES_DIR/data" -p "$port" -k "$POSTGRES_DIR" -c listen_addresses=127.0.0.1 \
      -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c shared_buffers=32MB -c max_connections=200
  ) >"$STATE/logs/postgres.log" 2>&1 </dev/null &
  POSTGRES_PID=$!
  deadline=$((SECONDS + 30))
  until "$bin/pg_isready" -q -h "$POSTGRES_DIR" -p "$port"; do
    kill -0 "$POSTGRES_PID" 2>/dev/null || die "PostgreSQL ended: $(tail -n 5 "$STATE/logs/postgres.log")"
    ((SECONDS < deadline)) || die "PostgreSQL is not ready after 30 s"
    sleep 0.1
  done
  # shellcheck disable=SC2034 # for scripts/test
  POSTGRES_URL=postgres://caprock@127.0.0.1:$port/postgres
}

# Takes the shell's own place, so that POSTGRES_PID is the server's.
as_postgres_forever() {
  if ((EUID == 0)); then
    exec setpriv --reuid=postgres --regid=postgres --init-groups --reset-env --pdeathsig INT -- "$@"
  else
    exec setpriv --pdeathsig INT -- "$@"
  fi
}

stop_postgres() {
  [[ -n ${POSTGRES_PID:-} ]] || return 0
  kill -INT "$POSTGRES_PID" 2>/dev/null || true # "fast": ends sessions, needs no client to leave
  wait "$POSTGRES_PID" 2>/dev/null || true
  rm -rf "$POSTGRES_DIR"
  POSTGRES_PID=
}
