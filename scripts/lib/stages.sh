# shellcheck shell=bash
# Stages of scripts/test: each is timed, logged and counted; a failed one does not keep the others from running.

STAGE_SECONDS=1500 # no stage may hang a CI run
STAGE_ROWS=()
PASSED=0
FAILED=0

# stage NAME COMMAND…: cargo's own counts are added up; a stage that runs no tests counts as one, but a test run that
# found none has failed.
stage() {
  local name=$1 log=$STATE/logs/test-$1.log started=$SECONDS status=0 passed failed
  shift
  if ! wanted "$name"; then
    return
  fi
  say "$name: $*"
  FAILURE_LINES=200 run_logged "$log" timeout --signal=TERM --kill-after=30 "$STAGE_SECONDS" "$@" || status=$?
  passed=$(sum_of passed "$log")
  failed=$(sum_of failed "$log")
  if ((passed + failed == 0)) && grep -q '^test result:' "$log"; then
    warn "$name ran no test"
    failed=1
  elif ((passed + failed == 0)); then
    passed=$((status == 0))
    failed=$((status != 0))
  elif ((status != 0 && failed == 0)); then
    failed=1 # it broke before or after its tests
  fi
  PASSED=$((PASSED + passed))
  FAILED=$((FAILED + failed))
  STAGE_ROWS+=("$(printf '%-12s %6d s %7d %7d' "$name" $((SECONDS - started)) "$passed" "$failed")")
}

# sum_of passed|failed LOG: over cargo's "test result:" lines.
sum_of() {
  sed -n "s/^test result: .* \([0-9][0-9]*\) $1;.*/\1/p" "$2" | awk '{ sum += $1 } END { print sum + 0 }'
}

# wanted NAME: all stages unless some were named.
wanted() {
  local name
  ((${#WANTED[@]} > 0)) || return 0
  for name in "${WANTED[@]}"; do
    [[ $name != "$1" ]] || return 0
  done
  return 1
}

print_table() {
  printf '\n%-12s %8s %7s %7s\n' stage time passed failed
  ((${#STAGE_ROWS[@]} == 0)) || printf '%s\n' "${STAGE_ROWS[@]}"
  printf '%-12s %6d s\n\n' total "$SECONDS"
}
