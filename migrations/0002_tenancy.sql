-- Tenants, projects and keys as administrators see them. As in 0001: one text for SQLite and PostgreSQL. `version` counts
-- the changes of a row; it is the row's ETag. JSON is opaque here.

ALTER TABLE tenants ADD COLUMN model_access TEXT;
ALTER TABLE tenants ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE tenants ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
UPDATE tenants SET updated_at = created_at;

ALTER TABLE projects ADD COLUMN requests_per_minute BIGINT CHECK (requests_per_minute >= 0);
ALTER TABLE projects ADD COLUMN tokens_per_minute BIGINT CHECK (tokens_per_minute >= 0);
ALTER TABLE projects ADD COLUMN concurrent_requests BIGINT CHECK (concurrent_requests >= 0);
ALTER TABLE projects ADD COLUMN model_access TEXT;
ALTER TABLE projects ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE projects ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
UPDATE projects SET updated_at = created_at;

-- Machines: with keys of their own, with tokens of a trusted issuer, or both.
CREATE TABLE service_accounts (
    id                TEXT PRIMARY KEY,
    tenant_id         TEXT NOT NULL,
    project_id        TEXT NOT NULL,
    name              TEXT NOT NULL,
    role              TEXT NOT NULL,
    scope             TEXT NOT NULL,
    federated_issuer  TEXT,
    federated_subject TEXT,
    expires_at        BIGINT,
    version           BIGINT NOT NULL DEFAULT 1,
    created_at        BIGINT NOT NULL,
    updated_at        BIGINT NOT NULL,
    deleted_at        BIGINT,
    UNIQUE (tenant_id, id),
    CHECK ((federated_issuer IS NULL) = (federated_subject IS NULL)),
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id)
);
CREATE UNIQUE INDEX service_accounts_name ON service_accounts (tenant_id, project_id, name) WHERE deleted_at IS NULL;

-- While a rotated credential's former secret is still accepted, it stands beside the new one, with its end.
ALTER TABLE api_keys ADD COLUMN service_account_id TEXT REFERENCES service_accounts (id);
ALTER TABLE api_keys ADD COLUMN role TEXT NOT NULL DEFAULT 'tenant_developer';
ALTER TABLE api_keys ADD COLUMN scope TEXT NOT NULL DEFAULT '{"operations":["inference","control_plane"]}';
ALTER TABLE api_keys ADD COLUMN requests_per_minute BIGINT CHECK (requests_per_minute >= 0);
ALTER TABLE api_keys ADD COLUMN tokens_per_minute BIGINT CHECK (tokens_per_minute >= 0);
ALTER TABLE api_keys ADD COLUMN concurrent_requests BIGINT CHECK (concurrent_requests >= 0);
ALTER TABLE api_keys ADD COLUMN previous_digest TEXT;
ALTER TABLE api_keys ADD COLUMN previous_pepper_version BIGINT;
ALTER TABLE api_keys ADD COLUMN previous_expires_at BIGINT;
ALTER TABLE api_keys ADD COLUMN created_by TEXT NOT NULL DEFAULT 'bootstrap';
ALTER TABLE api_keys ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE api_keys ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
UPDATE api_keys SET updated_at = created_at;
CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, created_at, id);
CREATE INDEX api_keys_live ON api_keys (tenant_id, expires_at) WHERE revoked_at IS NULL;

ALTER TABLE access_keys ADD COLUMN service_account_id TEXT REFERENCES service_accounts (id);
ALTER TABLE access_keys ADD COLUMN role TEXT NOT NULL DEFAULT 'tenant_developer';
ALTER TABLE access_keys ADD COLUMN scope TEXT NOT NULL DEFAULT '{"operations":["inference","control_plane"]}';
ALTER TABLE access_keys ADD COLUMN requests_per_minute BIGINT CHECK (requests_per_minute >= 0);
ALTER TABLE access_keys ADD COLUMN tokens_per_minute BIGINT CHECK (tokens_per_minute >= 0);
ALTER TABLE access_keys ADD COLUMN concurrent_requests BIGINT CHECK (concurrent_requests >= 0);
ALTER TABLE access_keys ADD COLUMN previous_sealed_secret TEXT;
ALTER TABLE access_keys ADD COLUMN previous_expires_at BIGINT;
ALTER TABLE access_keys ADD COLUMN created_by TEXT NOT NULL DEFAULT 'bootstrap';
ALTER TABLE access_keys ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE access_keys ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
UPDATE access_keys SET updated_at = created_at;
CREATE INDEX access_keys_by_tenant ON access_keys (tenant_id, created_at, id);
CREATE INDEX access_keys_live ON access_keys (tenant_id, expires_at) WHERE revoked_at IS NULL;

ALTER TABLE admin_tokens ADD COLUMN role TEXT NOT NULL DEFAULT 'platform_admin';
ALTER TABLE admin_tokens ADD COLUMN scope TEXT NOT NULL DEFAULT '{"operations":["read_usage","administer"]}';
ALTER TABLE admin_tokens ADD COLUMN previous_digest TEXT;
ALTER TABLE admin_tokens ADD COLUMN previous_pepper_version BIGINT;
ALTER TABLE admin_tokens ADD COLUMN previous_expires_at BIGINT;
ALTER TABLE admin_tokens ADD COLUMN created_by TEXT NOT NULL DEFAULT 'bootstrap';
ALTER TABLE admin_tokens ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE admin_tokens ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
UPDATE admin_tokens SET updated_at = created_at;

-- When a credential was last used; written in batches, so a request costs no write.
CREATE TABLE credential_uses (
    credential_id TEXT PRIMARY KEY,
    last_used_at  BIGINT NOT NULL
);

-- Models and aliases that the admin API added or changed, over those of the configuration. A row's first version is the
-- time at which it was made: ids are chosen by people and come again, and then the ETag of a row that is gone must not fit.
CREATE TABLE catalog_overrides (
    id         TEXT PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind IN ('model', 'alias')),
    body       TEXT NOT NULL,
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Every administrator's change, in order and without gaps: the log, and the feed that tells replicas what to forget.
-- `record` is the whole entry as canonical JSON; the other columns repeat parts of it for look-ups. `digest` chains the
-- record to the entry before it; `seal` keys the digest with a secret that is not in the database.
CREATE TABLE audit_log (
    seq         BIGINT PRIMARY KEY CHECK (seq > 0),
    at          BIGINT NOT NULL,
    tenant_id   TEXT,
    action      TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target_id   TEXT NOT NULL,
    author_id   TEXT NOT NULL,
    record      TEXT NOT NULL,
    digest      TEXT NOT NULL,
    seal        TEXT NOT NULL
);
CREATE INDEX audit_log_by_tenant ON audit_log (tenant_id, seq);
CREATE INDEX audit_log_by_target ON audit_log (target_id, seq);

-- The chain's end. Its one row is locked by whoever appends, so entries are committed in the order of their numbers.
CREATE TABLE audit_head (
    one    BIGINT PRIMARY KEY CHECK (one = 1),
    seq    BIGINT NOT NULL,
    digest TEXT NOT NULL
);
INSERT INTO audit_head (one, seq, digest) VALUES (1, 0, '');

-- Replies to creating calls, sealed, for a day.
CREATE TABLE idempotency_keys (
    caller     TEXT NOT NULL,
    key        TEXT NOT NULL,
    request    TEXT NOT NULL,
    reply      TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (caller, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- Usage and lists of requests by tenant and time.
CREATE INDEX usage_records_by_tenant ON usage_records (tenant_id, created_at);
CREATE INDEX requests_by_tenant ON requests (tenant_id, id);
