# shellcheck shell=bash
# The files that scripts/up writes: the gateway's configuration and the environment for its users.

BUNDLED_MODEL=huggingface.smollm2-135m-instruct
# Ids that the bundled model answers for on a development machine, so that code written for them can be tried.
STANDS_IN_FOR=(
  amazon.nova-micro-v1:0
  amazon.nova-lite-v1:0
  amazon.nova-pro-v1:0
  amazon.nova-2-lite-v1:0
  openai.gpt-oss-20b-1:0
  meta.llama3-1-8b-instruct-v1:0
  qwen.qwen3-32b-v1:0
)

CONFIG=$STATE/gateway.toml
CREDENTIALS=$STATE/credentials.env
DEV_ENV=$STATE/dev.env
URL=http://127.0.0.1:$DATA_PORT
TLS_URL=https://localhost:$TLS_PORT
ADMIN_URL=http://127.0.0.1:$ADMIN_PORT

write_config() {
  local stand_ins
  stand_ins=$(printf '  "%s",\n' "${STANDS_IN_FOR[@]}")
  mkdir -p "$STATE"
  cat >"$CONFIG.new" <<TOML
# Written by scripts/up at each start. Every setting, with its default: gateway/src/config.default.toml
[gateway]
state_dir = "$STATE"

[listen]
data = "127.0.0.1:$DATA_PORT"
tls = "127.0.0.1:$TLS_PORT"
admin = "127.0.0.1:$ADMIN_PORT"

[[cluster]]
name = "bundled"
model = "$BUNDLED_MODEL"
decode = [{ id = "decode-1", address = "127.0.0.1:$DECODE_PORT" }]
prefill = [{ id = "prefill-1", address = "127.0.0.1:$PREFILL_PORT" }]
# A development convenience: the bundled model answers for these, and every answer says so.
stands_in_for = [
$stand_ins
]
TOML
  mv "$CONFIG.new" "$CONFIG"
}

# credential NAME: its value in the file that bootstrap wrote.
credential() {
  local value
  value=$(sed -n "s/^$1=//p" "$CREDENTIALS" | head -n 1)
  [[ -n $value ]] || die "$CREDENTIALS has no $1"
  echo "$value"
}

write_dev_env() {
  local key access secret admin
  key=$(credential CAPROCK_API_KEY)
  admin=$(credential CAPROCK_ADMIN_TOKEN)
  access=$(credential AWS_ACCESS_KEY_ID)
  secret=$(credential AWS_SECRET_ACCESS_KEY)
  (
    umask 077
    cat >"$DEV_ENV.new" <<ENV
CAPROCK_URL=$URL
CAPROCK_TLS_URL=$TLS_URL
CAPROCK_ADMIN_URL=$ADMIN_URL
CAPROCK_API_KEY=$key
CAPROCK_ADMIN_TOKEN=$admin
CAPROCK_MODEL=$BUNDLED_MODEL
AWS_ENDPOINT_URL_BEDROCK_RUNTIME=$URL
AWS_ENDPOINT_URL_BEDROCK=$URL
AWS_REGION=us-east-1
AWS_DEFAULT_REGION=us-east-1
AWS_ACCESS_KEY_ID=$access
AWS_SECRET_ACCESS_KEY=$secret
AWS_CA_BUNDLE=$(printf %q "$STATE/tls/ca.pem")
OPENAI_BASE_URL=$URL/v1
OPENAI_API_KEY=$key
ANTHROPIC_BASE_URL=$URL
ANTHROPIC_API_KEY=$key
ENV
  )
  mv "$DEV_ENV.new" "$DEV_ENV"
}
