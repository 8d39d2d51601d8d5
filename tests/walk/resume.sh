# Asks under a key of its own, leaves in the middle, reads the rest, and then the whole again.
key=gravity-$RANDOM$RANDOM
ask() {
  curl -sN "$CAPROCK_URL/v1/chat/completions" -H "Authorization: Bearer $CAPROCK_API_KEY" \
    -H 'Content-Type: application/json' -H "Idempotency-Key: $key" "$@" \
    -d '{"model":"'"$CAPROCK_MODEL"'","stream":true,"max_tokens":64,"messages":[{"role":"user","content":"What is gravity?"}]}'
}
ask | head -n 30                                   # ten events; the answer goes on without you
ask -H 'Last-Event-ID: 9'                          # what comes after the event with `id: 9`
ask                                                # all of it
