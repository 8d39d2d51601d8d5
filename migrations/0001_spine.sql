-- One text for SQLite and PostgreSQL. Ids, JSON and digests are TEXT, times BIGINT (µs since 1970, UTC), money BIGINT
-- (nano-USD), counts BIGINT. Ids and times come from the program; JSON is opaque here. A migration that has been
-- released never changes.

CREATE TABLE tenants (
    id                  TEXT PRIMARY KEY,
    name                TEXT NOT NULL,
    status              TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
    requests_per_minute BIGINT CHECK (requests_per_minute >= 0),
    tokens_per_minute   BIGINT CHECK (tokens_per_minute >= 0),
    concurrent_requests BIGINT CHECK (concurrent_requests >= 0),
    created_at          BIGINT NOT NULL,
    deleted_at          BIGINT
);
-- A deleted tenant gives its name free.
CREATE UNIQUE INDEX tenants_name ON tenants (name) WHERE deleted_at IS NULL;

CREATE TABLE projects (
    id         TEXT PRIMARY KEY,
    tenant_id  TEXT NOT NULL REFERENCES tenants (id),
    name       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    UNIQUE (tenant_id, id)
);
CREATE UNIQUE INDEX projects_name ON projects (tenant_id, name) WHERE deleted_at IS NULL;

-- Bearer keys: only a keyed digest is kept.
CREATE TABLE api_keys (
    id             TEXT PRIMARY KEY,
    tenant_id      TEXT NOT NULL,
    project_id     TEXT NOT NULL,
    name           TEXT NOT NULL,
    digest         TEXT NOT NULL,
    pepper_version BIGINT NOT NULL CHECK (pepper_version > 0),
    created_at     BIGINT NOT NULL,
    expires_at     BIGINT,
    revoked_at     BIGINT,
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id)
);

-- SigV4 pairs: verifying needs the secret itself, so it is kept sealed.
CREATE TABLE access_keys (
    id            TEXT PRIMARY KEY,
    tenant_id     TEXT NOT NULL,
    project_id    TEXT NOT NULL,
    name          TEXT NOT NULL,
    sealed_secret TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT,
    revoked_at    BIGINT,
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id)
);

-- Operators' tokens; they belong to no tenant.
CREATE TABLE admin_tokens (
    id             TEXT PRIMARY KEY,
    name           TEXT NOT NULL,
    digest         TEXT NOT NULL,
    pepper_version BIGINT NOT NULL CHECK (pepper_version > 0),
    created_at     BIGINT NOT NULL,
    expires_at     BIGINT,
    revoked_at     BIGINT
);

-- One row per accepted request, durable before its first byte. `open` becomes `settled` once, never back.
CREATE TABLE requests (
    id                TEXT PRIMARY KEY,
    tenant_id         TEXT NOT NULL,
    project_id        TEXT NOT NULL,
    key_id            TEXT NOT NULL,
    dialect           TEXT NOT NULL,
    model_asked       TEXT NOT NULL,
    model             TEXT NOT NULL,
    price             TEXT NOT NULL,
    input_tokens      BIGINT NOT NULL CHECK (input_tokens >= 0),
    max_output_tokens BIGINT NOT NULL CHECK (max_output_tokens >= 0),
    state             TEXT NOT NULL CHECK (state IN ('open', 'settled')),
    outcome           TEXT,
    gateway_id        TEXT NOT NULL,
    lease_until       BIGINT NOT NULL,
    decode_worker     TEXT,
    attempt           BIGINT NOT NULL CHECK (attempt >= 0),
    accepted_at       BIGINT NOT NULL,
    settled_at        BIGINT,
    detail            TEXT,
    CHECK ((state = 'open' AND outcome IS NULL AND settled_at IS NULL AND detail IS NULL)
        OR (state = 'settled' AND outcome IS NOT NULL AND settled_at IS NOT NULL AND detail IS NOT NULL)),
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id)
);
-- Recovery: a gateway's own open requests, and those whose lease is over. Settled rows, nearly all, cost nothing here.
CREATE INDEX requests_open_by_gateway ON requests (gateway_id, id) WHERE state = 'open';
CREATE INDEX requests_open_by_lease ON requests (lease_until) WHERE state = 'open';

-- What the engine counted, in disjoint buckets; one per request, and never changed.
CREATE TABLE usage_records (
    request_id         TEXT PRIMARY KEY REFERENCES requests (id),
    tenant_id          TEXT NOT NULL,
    project_id         TEXT NOT NULL,
    key_id             TEXT NOT NULL,
    model              TEXT NOT NULL,
    input_tokens       BIGINT NOT NULL CHECK (input_tokens >= 0),
    cache_read_tokens  BIGINT NOT NULL CHECK (cache_read_tokens >= 0),
    cache_write_tokens BIGINT NOT NULL CHECK (cache_write_tokens >= 0),
    output_tokens      BIGINT NOT NULL CHECK (output_tokens >= 0),
    reasoning_tokens   BIGINT NOT NULL CHECK (reasoning_tokens >= 0),
    created_at         BIGINT NOT NULL,
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id)
);

-- Append-only: no statement of the program updates or deletes here. Triggers would have to be written twice, once per
-- engine, so a test reads the program's SQL instead.
CREATE TABLE ledger_entries (
    id             TEXT PRIMARY KEY,
    request_id     TEXT NOT NULL REFERENCES requests (id),
    tenant_id      TEXT NOT NULL,
    project_id     TEXT NOT NULL,
    kind           TEXT NOT NULL,
    amount_nanousd BIGINT NOT NULL,
    price          TEXT NOT NULL,
    created_at     BIGINT NOT NULL,
    UNIQUE (request_id, kind),
    CHECK (kind <> 'inference' OR amount_nanousd >= 0),
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id)
);
CREATE INDEX ledger_entries_by_tenant ON ledger_entries (tenant_id);
