#!/usr/bin/env bash
# From a fresh Caprock to a second tenant with two projects, a scoped key, a limit and its usage.
set -euo pipefail

# admin METHOD PATH [BODY]: one call of the admin API. get NAME: a field of the JSON on standard input.
admin() {
  curl -sS --fail-with-body -X "$1" "$CAPROCK_ADMIN_URL/admin/v1$2" -H "Authorization: Bearer $CAPROCK_ADMIN_TOKEN" \
    -H 'Content-Type: application/json' ${3:+-d "$3"}
}
get() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

tenant=$(admin POST /tenants '{"name":"acme-curl","limits":{"requests_per_minute":600}}' | get id)
web=$(admin POST "/tenants/$tenant/projects" '{"name":"web"}' | get id)
batch=$(admin POST "/tenants/$tenant/projects" '{"name":"batch"}' | get id)
echo "tenant $tenant has the projects $web and $batch"

# A key for one model and one API that ends in 90 days. Its secret is shown once; here it goes into a variable.
made=$(admin POST "/tenants/$tenant/api-keys" '{"name":"laptop","project_id":"'"$web"'",
  "scope":{"operations":["inference"],"models":["'"$CAPROCK_MODEL"'"],"dialects":["openai"]},
  "expires_at":"'"$(date -u -d '+90 days' +%FT%TZ)"'"}')
secret=$(get secret <<<"$made")
key=$(get id <<<"$made")

# The project may send 60 requests a minute of the tenant's 600. The tightest wins, and the answer says which and why.
admin PUT "/tenants/$tenant/projects/$web/limits" '{"requests_per_minute":60}'; echo

# The tenant asks the model with its key, as any client of OpenAI's API does.
ask() {
  curl -sS -w '\nHTTP %{http_code}\n' "$CAPROCK_URL/v1/chat/completions" -H "Authorization: Bearer $secret" \
    -H 'Content-Type: application/json' \
    -d '{"model":"'"$CAPROCK_MODEL"'","max_tokens":16,"messages":[{"role":"user","content":"What is gravity?"}]}'
}
ask
sleep 1                                            # the ledger's line follows the answer

admin GET "/tenants/$tenant/requests?project_id=$web"; echo                 # outcome, tokens, amount
admin GET "/tenants/$tenant/usage?group_by=project,day"; echo               # what the tenant used and owes

admin DELETE "/tenants/$tenant/api-keys/$key"      # from now on refused, by every gateway within a second
sleep 1
ask
admin GET "/tenants/$tenant/audit-log"; echo       # who did what
admin DELETE "/tenants/$tenant"                    # and away with it; its ledger stays
