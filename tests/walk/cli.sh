#!/usr/bin/env bash
# From a fresh Caprock to a second tenant with two projects, a scoped key, a limit and its usage.
set -euo pipefail

caprock tenant create --name acme-cli --requests-per-minute 600
export CAPROCK_TENANT=acme-cli                     # what follows is about this tenant
caprock project create --name web
caprock project create --name batch
caprock project list

# A key for one model and one API that ends in 90 days. Its secret is shown once; here it goes into a variable.
secret=$(caprock key create --project web --name laptop --operations inference --models "$CAPROCK_MODEL" \
  --dialects openai --expires-in 90d --field secret)
key=$(caprock key list --name laptop --field id)

# The project may send 60 requests a minute of the tenant's 600. The tightest wins, and the answer says which and why.
caprock limit set --project web --requests-per-minute 60
caprock limit show --key "$key"

# The tenant asks the model with its key, as any client of OpenAI's API does.
ask() {
  curl -sS -w '\nHTTP %{http_code}\n' "$CAPROCK_URL/v1/chat/completions" -H "Authorization: Bearer $secret" \
    -H 'Content-Type: application/json' \
    -d '{"model":"'"$CAPROCK_MODEL"'","max_tokens":16,"messages":[{"role":"user","content":"What is gravity?"}]}'
}
ask
sleep 1                                            # the ledger's line follows the answer

request=$(caprock request list --project web --limit 1 --field request_id)
caprock request show "$request"                    # outcome, tokens, which workers, ledger entry
caprock usage --group-by project,day               # what the tenant used and owes

caprock key revoke "$key"                          # from now on refused, by every gateway within a second
sleep 1
ask
caprock audit list                                 # who did what
caprock tenant delete acme-cli --yes               # and away with it; its ledger stays
