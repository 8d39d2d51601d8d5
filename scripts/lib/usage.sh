# shellcheck shell=bash
# What scripts/up prints at its end: lines that work as pasted, from the checkout's folder.

print_usage() {
  local env_file=${DEV_ENV#"$ROOT"/}
  cat <<TEXT

Caprock is up: $URL (TLS $TLS_URL, admin $ADMIN_URL). Paste from $ROOT:

  set -a; . $env_file; set +a

  # OpenAI dialect, streaming
  curl -sN \$CAPROCK_URL/v1/chat/completions -H "Authorization: Bearer \$CAPROCK_API_KEY" -H 'Content-Type: application/json' \\
    -d '{"model":"'\$CAPROCK_MODEL'","stream":true,"max_tokens":64,"temperature":0,"messages":[{"role":"user","content":"What is gravity?"}]}'

  # Bedrock dialect; keeps the request's id for the next line
  curl -s \$CAPROCK_URL/model/\$CAPROCK_MODEL/converse -H "Authorization: Bearer \$CAPROCK_API_KEY" -H 'Content-Type: application/json' \\
    -D /tmp/caprock.headers -d '{"messages":[{"role":"user","content":[{"text":"What is gravity?"}]}],"inferenceConfig":{"maxTokens":64,"temperature":0}}'

  # What that cost: outcome, tokens, which workers, ledger entry
  curl -s \$CAPROCK_ADMIN_URL/admin/v1/requests/\$(tr -d '\\r' </tmp/caprock.headers | sed -n 's/^x-request-id: *//Ip') -H "Authorization: Bearer \$CAPROCK_ADMIN_TOKEN"

  # Bedrock dialect, streaming (AWS event stream: binary frames around JSON)
  curl -sN \$CAPROCK_URL/model/\$CAPROCK_MODEL/converse-stream -H "Authorization: Bearer \$CAPROCK_API_KEY" -H 'Content-Type: application/json' \\
    -d '{"messages":[{"role":"user","content":[{"text":"What is gravity?"}]}],"inferenceConfig":{"maxTokens":64,"temperature":0}}' | strings | grep '^event'

TEXT
}
