# shellcheck shell=bash
# What every script needs first: where things are, how to speak, how to run a long step without falling silent.

# shellcheck disable=SC2034 # read by the scripts that source this file
{
  ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
  STATE=${CAPROCK_STATE_DIR:-$ROOT/.caprock}
  TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
  RELEASE=$TARGET/release
  CALLED_FROM=$PWD # what relative paths of arguments are relative to
}
HEARTBEAT_SECONDS=20

cd "$ROOT" || exit
# Everything here talks to loopback; a proxy of this machine must not get in between.
export NO_PROXY=${NO_PROXY:+$NO_PROXY,}127.0.0.1,localhost no_proxy=${no_proxy:+$no_proxy,}127.0.0.1,localhost

say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }
warn() { printf '[%4ds] warning: %s\n' "$SECONDS" "$*" >&2; }
die() {
  printf '[%4ds] error: %s\n' "$SECONDS" "$*" >&2
  exit 1
}

# run_logged LOG COMMAND…: output goes to LOG; every HEARTBEAT_SECONDS its last line is shown, so that a long build is
# never silent; on failure the end of LOG is shown. Returns the command's status.
run_logged() {
  local log=$1 pid next status=0
  shift
  mkdir -p "$(dirname "$log")"
  "$@" </dev/null >"$log" 2>&1 &
  pid=$!
  RUNNING_STEP=$pid
  next=$((SECONDS + HEARTBEAT_SECONDS))
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS >= next)); then
      say "  … $(tail -n 1 "$log" | tr -d '\r' | cut -c 1-110)"
      next=$((SECONDS + HEARTBEAT_SECONDS))
    fi
  done
  wait "$pid" || status=$?
  RUNNING_STEP=
  if ((status != 0)); then
    printf -- '---- the end of %s:\n' "$log" >&2
    tail -n "${FAILURE_LINES:-60}" "$log" >&2
    printf -- '----\n' >&2
  fi
  return "$status"
}

# Ends the step that run_logged is waiting for, if any; for traps.
stop_running_step() {
  [[ -z ${RUNNING_STEP:-} ]] || kill "$RUNNING_STEP" 2>/dev/null || true
}

# find_cargo: Rust is the one thing that these scripts don't install.
find_cargo() {
  if ! command -v cargo >/dev/null && [[ -x $HOME/.cargo/bin/cargo ]]; then
    PATH=$HOME/.cargo/bin:$PATH
  fi
  command -v cargo >/dev/null || die "cargo is missing: install Rust $(toolchain) (rustup), then run this again"
}

toolchain() { sed -n 's/^channel *= *"\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml"; }
