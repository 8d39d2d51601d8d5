# shellcheck shell=bash
# Processes that outlive a script: a file per process holds its id and its start time, so that a number that the
# system gave to somebody else since is never signalled.

RUN=$STATE/run
STOP_SECONDS=20 # longer than the gateway's grace for running streams

# start_time PID: clock ticks since boot; the process's name may hold spaces and brackets, so cut after the last one.
start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  cut -d ' ' -f 20 <<<"${stat##*) }"
}

# start_process NAME COMMAND…: in a session of its own, output in logs/NAME.log, the previous one kept beside it.
start_process() {
  local name=$1 log=$STATE/logs/$1.log pid
  shift
  mkdir -p "$RUN" "$STATE/logs"
  [[ ! -f $log ]] || mv -f "$log" "$log.1"
  setsid "$@" </dev/null >"$log" 2>&1 &
  pid=$!
  disown "$pid" # its end is no news for this shell
  echo "$pid $(start_time "$pid")" >"$RUN/$name.pid"
}

# live_pid NAME: prints the process id if that very process still runs.
live_pid() {
  local pid started
  [[ -f $RUN/$1.pid ]] || return 1
  read -r pid started <"$RUN/$1.pid" || return 1
  [[ -n $started && $(start_time "$pid") == "$started" ]] || return 1
  [[ $(sed 's/.*) //; s/ .*//' "/proc/$pid/stat" 2>/dev/null) != Z ]] || return 1
  runs_our_program "$pid" || return 1
  echo "$pid"
}

# A restarted machine counts its ticks anew, so the program is looked at as well.
runs_our_program() {
  local command
  command=$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline") || return 1
  [[ $command == *caprock* ]]
}

# stop_process NAME: SIGTERM, a bounded wait, then SIGKILL to its whole session.
stop_process() {
  local name=$1 pid deadline
  if ! pid=$(live_pid "$name"); then
    rm -f "$RUN/$name.pid"
    return
  fi
  kill -TERM "$pid" 2>/dev/null || true
  deadline=$((SECONDS + STOP_SECONDS))
  while live_pid "$name" >/dev/null && ((SECONDS < deadline)); do sleep 0.1; done
  if live_pid "$name" >/dev/null; then
    warn "$name (process $pid) did not stop within $STOP_SECONDS s; killing it"
    kill -KILL -- "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null || true
    while live_pid "$name" >/dev/null; do sleep 0.1; done
  fi
  rm -f "$RUN/$name.pid"
  say "stopped $name"
}

# The order of a calm end: first who calls, then who is called.
STACK=(gateway decode-1 prefill-1)

stop_stack() {
  local name
  for name in "${STACK[@]}"; do stop_process "$name"; done
}

# all_live / any_live: whether every, or at least one, process of the stack runs.
all_live() {
  local name
  for name in "${STACK[@]}"; do live_pid "$name" >/dev/null || return 1; done
}

any_live() {
  local name
  for name in "${STACK[@]}"; do ! live_pid "$name" >/dev/null || return 0; done
  return 1
}
