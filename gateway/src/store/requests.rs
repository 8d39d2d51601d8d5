//! Requests: opened before their first byte, settled once. A conditional UPDATE is the lock.

use super::{Store, Tx};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{KeyId, LedgerEntryId, ProjectId, RequestId, TenantId};
use crate::money::Nanousd;

/// Most requests that one look-up for recovery gives.
pub const RECOVERY_BATCH: i64 = 500;

/// A request to be made durable.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // as in `billing::OpenRequest`
pub struct NewRequest {
    pub id: RequestId,
    pub tenant_id: TenantId,
    pub project_id: ProjectId,
    pub key_id: KeyId,
    pub dialect: &'static str,
    pub model_asked: String,
    pub model: String,
    /// JSON.
    pub price: String,
    pub input_tokens: i64,
    pub max_output_tokens: i64,
    /// The first attempt's, if it is chosen.
    pub decode_worker: Option<String>,
    pub gateway_id: String,
    pub lease_until: Micros,
    pub accepted_at: Micros,
}

/// What settling needs of the request it closes.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)] // as in `billing::OpenRequest`
pub struct SettledRow {
    pub tenant_id: TenantId,
    pub project_id: ProjectId,
    pub key_id: KeyId,
    pub model: String,
    /// JSON, pinned when it was opened.
    pub price: String,
}

/// An open request, as recovery needs it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OpenRow {
    /// Its id.
    pub id: RequestId,
    /// Who pays.
    pub tenant_id: TenantId,
    /// The model that answers, which names the cluster.
    pub model: String,
    /// The replica that ran it.
    pub gateway_id: String,
    /// The worker it was sent to; `None` when it never was.
    pub decode_worker: Option<String>,
    /// Which attempt that was; 0 when it never was sent.
    #[sqlx(try_from = "i64")]
    pub attempt: u32,
    /// Prompt tokens, as the gateway counted them.
    #[sqlx(try_from = "i64")]
    pub input_tokens: u64,
    /// Most output tokens.
    #[sqlx(try_from = "i64")]
    pub max_output_tokens: u64,
    /// When its head was read, µs since 1970.
    pub accepted_at: Micros,
    /// Until then its replica is believed alive, µs since 1970.
    pub lease_until: Micros,
}

/// What one replica admitted for a key in one second.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AdmittedRow {
    /// Whose it is.
    pub tenant_id: TenantId,
    /// The key's.
    pub project_id: ProjectId,
    /// For whom.
    pub key_id: KeyId,
    /// Seconds since 1970.
    pub second: i64,
    /// How many.
    #[sqlx(try_from = "i64")]
    pub requests: u64,
    /// Of complete answers what was used; of all others what was held, for their use may not be exact.
    #[sqlx(try_from = "i64")]
    pub tokens: u64,
}

/// A request with its usage record and ledger entry, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)] // as in `billing::RequestRecord`
pub struct RequestRow {
    pub id: RequestId,
    pub tenant_id: TenantId,
    pub project_id: ProjectId,
    pub key_id: KeyId,
    pub dialect: String,
    pub model_asked: String,
    pub model: String,
    pub state: String,
    pub outcome: Option<String>,
    pub decode_worker: Option<String>,
    #[sqlx(try_from = "i64")]
    pub attempt: u32,
    /// The engine's count once settled, the gateway's before.
    #[sqlx(try_from = "i64")]
    pub input_tokens: u64,
    #[sqlx(try_from = "i64")]
    pub output_tokens: u64,
    pub accepted_at: Micros,
    pub settled_at: Option<Micros>,
    pub detail: Option<String>,
    pub entry_id: Option<LedgerEntryId>,
    pub entry_amount: Option<Nanousd>,
    pub entry_price: Option<String>,
    pub entry_created_at: Option<Micros>,
}

impl Store {
    /// One durable row. `false` when the tenant has no such project.
    ///
    /// # Errors
    /// `Conflict` when the id is known already.
    pub async fn request_open(&self, new: NewRequest) -> Result<bool> {
        let attempt = i64::from(new.decode_worker.is_some());
        self.detached(move |db| async move {
            on!(db.write(), c => query(
                "INSERT INTO requests (id, tenant_id, project_id, key_id, dialect, model_asked, model, price,
                     input_tokens, max_output_tokens, state, gateway_id, lease_until, accepted_at,
                     decode_worker, attempt)
                 SELECT $3, p.tenant_id, p.id, $4, $5, $6, $7, $8, $9, $10, 'open', $11, $12, $13, $14, $15
                 FROM projects p WHERE p.tenant_id = $1 AND p.id = $2",
                [
                    new.tenant_id,
                    new.project_id,
                    new.id,
                    new.key_id,
                    new.dialect,
                    new.model_asked,
                    new.model,
                    new.price,
                    new.input_tokens,
                    new.max_output_tokens,
                    new.gateway_id,
                    new.lease_until,
                    new.accepted_at,
                    new.decode_worker,
                    attempt,
                ],
            ).execute(c).await.map(|done| done.rows_affected() == 1))
        })
        .await
    }

    /// `false` when the request is not open, or knows of a later attempt.
    pub async fn request_note_worker(&self, id: &RequestId, decode_worker: &str, attempt: u32) -> Result<bool> {
        let (id, decode_worker) = (id.clone(), decode_worker.to_owned());
        self.detached(move |db| async move {
            on!(db.write(), c => query(
                "UPDATE requests SET decode_worker = $2, attempt = $3
                 WHERE id = $1 AND state = 'open' AND attempt <= $3",
                [id, decode_worker, i64::from(attempt)],
            ).execute(c).await.map(|done| done.rows_affected() == 1))
        })
        .await
    }

    /// Open requests of one replica, oldest first, at most [`RECOVERY_BATCH`] after `after`.
    pub async fn requests_open(&self, gateway_id: &str, after: Option<&RequestId>) -> Result<Vec<OpenRow>> {
        let (gateway_id, after) = (gateway_id.to_owned(), after.map_or(String::new(), |id| id.as_str().to_owned()));
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT id, tenant_id, model, gateway_id, decode_worker, attempt, input_tokens, max_output_tokens,
                        accepted_at, lease_until
                 FROM requests WHERE gateway_id = $1 AND state = 'open' AND id > $2 ORDER BY id LIMIT $3",
                [gateway_id, after, RECOVERY_BATCH],
            ).fetch_all(c).await)
        })
        .await
    }

    /// Open requests of any replica whose lease ended before `now`, longest ago first, at most [`RECOVERY_BATCH`].
    pub async fn requests_expired(&self, now: Micros) -> Result<Vec<OpenRow>> {
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT id, tenant_id, model, gateway_id, decode_worker, attempt, input_tokens, max_output_tokens,
                        accepted_at, lease_until
                 FROM requests WHERE state = 'open' AND lease_until < $1 ORDER BY lease_until LIMIT $2",
                [now, RECOVERY_BATCH],
            ).fetch_all(c).await)
        })
        .await
    }

    /// What one replica admitted from `since` on, by `accepted_at`. A request's id is made before that, when its head is
    /// read; `after` bounds it, so that the look-up is as long as its answer.
    pub async fn requests_admitted(&self, gateway_id: &str, since: Micros, after: String) -> Result<Vec<AdmittedRow>> {
        let gateway_id = gateway_id.to_owned();
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT r.tenant_id, r.project_id, r.key_id, r.accepted_at / 1000000 AS second,
                        COUNT(*) AS requests,
                        CAST(SUM(CASE WHEN r.outcome = 'completed'
                            THEN u.input_tokens + u.cache_read_tokens + u.cache_write_tokens
                               + u.output_tokens + u.reasoning_tokens
                            ELSE r.input_tokens + r.max_output_tokens END) AS BIGINT) AS tokens
                 FROM requests r LEFT JOIN usage_records u ON u.request_id = r.id
                 WHERE r.id > $3 AND r.gateway_id = $1 AND r.accepted_at >= $2
                 GROUP BY r.tenant_id, r.project_id, r.key_id, r.accepted_at / 1000000",
                [gateway_id, since, after],
            ).fetch_all(c).await)
        })
        .await
    }

    /// Moves the lease of all open requests of one replica forward, never back. How many it moved.
    pub async fn requests_renew(&self, gateway_id: &str, lease_until: Micros) -> Result<u64> {
        let gateway_id = gateway_id.to_owned();
        self.detached(move |db| async move {
            on!(db.write(), c => query(
                "UPDATE requests SET lease_until = $2 WHERE gateway_id = $1 AND state = 'open' AND lease_until < $2",
                [gateway_id, lease_until],
            ).execute(c).await.map(|done| done.rows_affected()))
        })
        .await
    }

    /// One with all that is known of it. `None` for the tenant: for the operator, who sees all tenants.
    pub async fn request(&self, tenant: Option<&TenantId>, id: &RequestId) -> Result<Option<RequestRow>> {
        let (tenant, id) = (tenant.cloned(), id.clone());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT r.id, r.tenant_id, r.project_id, r.key_id, r.dialect, r.model_asked, r.model, r.state,
                        r.outcome, r.decode_worker, r.attempt,
                        COALESCE(u.input_tokens + u.cache_read_tokens + u.cache_write_tokens, r.input_tokens)
                            AS input_tokens,
                        COALESCE(u.output_tokens + u.reasoning_tokens, 0) AS output_tokens,
                        r.accepted_at, r.settled_at, r.detail, e.id AS entry_id,
                        e.amount_nanousd AS entry_amount, e.price AS entry_price, e.created_at AS entry_created_at
                 FROM requests r
                 LEFT JOIN usage_records u ON u.request_id = r.id
                 LEFT JOIN ledger_entries e ON e.request_id = r.id AND e.kind = 'inference'
                 WHERE r.id = $1 AND (CAST($2 AS TEXT) IS NULL OR r.tenant_id = $2)",
                [id, tenant],
            ).fetch_optional(c).await)
        })
        .await
    }
}

impl Tx {
    /// Closes an open request, and with that locks it: of several at once exactly one gets the row. `None` when it is
    /// not open.
    pub async fn request_settle(
        &mut self,
        id: &RequestId,
        outcome: &str,
        detail: &str,
        now: Micros,
    ) -> Result<Option<SettledRow>> {
        on!(self.connection(), c => query_as(
            "UPDATE requests SET state = 'settled', outcome = $2, detail = $3, settled_at = $4
             WHERE id = $1 AND state = 'open' RETURNING tenant_id, project_id, key_id, model, price",
            [id, outcome, detail, now],
        ).fetch_optional(c).await)
        .map_err(super::dialect::classify)
    }
}
