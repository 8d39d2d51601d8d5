# shellcheck shell=bash
# The running stack: one prefill worker, one decode worker, one gateway.

READY_SECONDS=120

# shellcheck disable=SC2153 # ENGINE and MODEL are scripts/up's arguments
worker_engine() {
  if [[ $ENGINE == sim ]]; then
    printf '%s\n' --engine sim
  else
    printf '%s\n' --engine llama --model "$MODEL"
  fi
}

start_stack() {
  local secret=$STATE/secrets/cluster engine
  mapfile -t engine < <(worker_engine)
  start_process prefill-1 "$RELEASE/caprock-worker" prefill --id prefill-1 --listen "127.0.0.1:$PREFILL_PORT" \
    --cluster-secret-file "$secret" "${engine[@]}"
  start_process decode-1 "$RELEASE/caprock-worker" decode --id decode-1 --listen "127.0.0.1:$DECODE_PORT" \
    --cluster-secret-file "$secret" --prefill "prefill-1=127.0.0.1:$PREFILL_PORT" "${engine[@]}"
  start_process gateway "$RELEASE/caprock" serve --config "$CONFIG"
}

# What runs is current if it was started from these very binaries with this configuration.
stack_stamp() {
  {
    sha256sum "$RELEASE/caprock" "$RELEASE/caprock-worker" "$CONFIG" | cut -d ' ' -f 1
    echo "$ENGINE $MODEL $PREFILL_PORT $DECODE_PORT"
  } | sha256sum | cut -d ' ' -f 1
}

is_ready() { curl -fsS --max-time 2 -o /dev/null "$1" 2>/dev/null; }

# wait_ready: until workers and gateway answer 200, or one of them is gone, or READY_SECONDS are over.
wait_ready() {
  local deadline=$((SECONDS + READY_SECONDS)) pending url name
  while :; do
    pending=
    for url in "http://127.0.0.1:$PREFILL_PORT" "http://127.0.0.1:$DECODE_PORT" "$URL"; do
      is_ready "$url/readyz" || pending="$pending $url/readyz"
    done
    [[ -n $pending ]] || return 0
    for name in "${STACK[@]}"; do
      if ! live_pid "$name" >/dev/null; then
        show_log "$name"
        warn "$name ended while starting"
        return 1
      fi
    done
    if ((SECONDS >= deadline)); then
      for name in "${STACK[@]}"; do show_log "$name"; done
      warn "not ready after $READY_SECONDS s:$pending"
      return 1
    fi
    sleep 0.2
  done
}

show_log() {
  printf -- '---- the end of %s:\n' "$STATE/logs/$1.log" >&2
  tail -n 30 "$STATE/logs/$1.log" >&2 || true
}

# try_once: one tiny request through the whole path, and its ledger entry.
try_once() {
  local reply id
  reply=$(curl -sS --max-time 60 "$URL/v1/chat/completions" -H "Authorization: Bearer $(credential CAPROCK_API_KEY)" \
    -H 'Content-Type: application/json' -D "$STATE/run/first-answer.headers" \
    -d "{\"model\":\"$BUNDLED_MODEL\",\"max_tokens\":16,\"messages\":[{\"role\":\"user\",\"content\":\"Say hello.\"}]}") ||
    die "the first request failed; see $STATE/logs/gateway.log"
  id=$(tr -d '\r' <"$STATE/run/first-answer.headers" | sed -n 's/^x-request-id: *//Ip' | head -n 1)
  [[ $reply == *'"completion_tokens"'* && -n $id ]] || die "the first answer is not one: $reply"
  curl -fsS --max-time 10 "$ADMIN_URL/admin/v1/requests/$id" \
    -H "Authorization: Bearer $(credential CAPROCK_ADMIN_TOKEN)" >"$STATE/run/first-answer.record" ||
    die "request $id was answered, but the admin API does not know it"
  say "first request $id answered, and on the ledger"
}
