-- Inference requests under an Idempotency-Key: which request generates the answer, and then the answer itself, sealed, for
-- a day. Without an answer: it is being generated, or whoever did is gone.
CREATE TABLE kept_answers (
    tenant_id       TEXT NOT NULL,
    key_id          TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    call_digest     TEXT NOT NULL,
    request_id      TEXT NOT NULL,
    gateway_id      TEXT NOT NULL,
    answer          TEXT,
    amount_nanousd  BIGINT,
    created_at      BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, key_id, idempotency_key),
    CHECK ((answer IS NULL) = (amount_nanousd IS NULL))
);
CREATE INDEX kept_answers_by_age ON kept_answers (created_at);
