# shellcheck shell=bash
# A throw-away Redis for tests: own port on loopback, nothing kept on disk.

# start_redis: sets REDIS_URL. It ends with stop_redis, or with this script.
start_redis() {
  local port deadline
  command -v redis-server >/dev/null || die "redis-server is missing"
  port=$(free_port)
  setpriv --pdeathsig TERM -- redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no \
    >"$STATE/logs/redis.log" 2>&1 </dev/null &
  REDIS_PID=$!
  deadline=$((SECONDS + 30))
  until redis-cli -h 127.0.0.1 -p "$port" ping >/dev/null 2>&1; do
    kill -0 "$REDIS_PID" 2>/dev/null || die "Redis ended: $(tail -n 5 "$STATE/logs/redis.log")"
    ((SECONDS < deadline)) || die "Redis is not ready after 30 s"
    sleep 0.1
  done
  # shellcheck disable=SC2034 # for scripts/test
  REDIS_URL=redis://127.0.0.1:$port
}

stop_redis() {
  [[ -n ${REDIS_PID:-} ]] || return 0
  kill -TERM "$REDIS_PID" 2>/dev/null || true
  wait "$REDIS_PID" 2>/dev/null || true
  REDIS_PID=
}
