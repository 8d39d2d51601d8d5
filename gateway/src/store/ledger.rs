//! Usage records and ledger entries. There is an INSERT and there are SELECTs, and never anything else.

use super::{Store, Tx};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{KeyId, LedgerEntryId, ProjectId, RequestId, TenantId};
use crate::money::Nanousd;

/// A usage record to be stored; buckets are disjoint.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // as in `inference::Usage`
pub struct NewUsage {
    pub request_id: RequestId,
    pub tenant_id: TenantId,
    pub project_id: ProjectId,
    pub key_id: KeyId,
    pub model: String,
    pub input_tokens: i64,
    pub cache_read_tokens: i64,
    pub cache_write_tokens: i64,
    pub output_tokens: i64,
    pub reasoning_tokens: i64,
    pub created_at: Micros,
}

/// A ledger entry to be appended.
#[derive(Debug, Clone)]
pub struct NewLedgerEntry {
    /// Its id.
    pub id: LedgerEntryId,
    /// What it is for; with `kind` unique.
    pub request_id: RequestId,
    /// Who owes.
    pub tenant_id: TenantId,
    /// For which project.
    pub project_id: ProjectId,
    /// `inference`
    pub kind: &'static str,
    /// What is owed.
    pub amount_nanousd: Nanousd,
    /// JSON: the prices it was rated with.
    pub price: String,
    /// µs since 1970.
    pub created_at: Micros,
}

/// A ledger entry.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct LedgerRow {
    /// Its id.
    pub id: LedgerEntryId,
    /// What it is for.
    pub request_id: RequestId,
    /// What is owed.
    pub amount_nanousd: Nanousd,
    /// µs since 1970.
    pub created_at: Micros,
}

impl Store {
    /// What a tenant owes in all: the sum of its entries.
    pub async fn ledger_balance(&self, tenant: &TenantId) -> Result<Nanousd> {
        let tenant = tenant.clone();
        self.detached(move |db| async move {
            on!(db.read(), c => query_scalar(
                "SELECT CAST(COALESCE(SUM(amount_nanousd), 0) AS BIGINT) FROM ledger_entries WHERE tenant_id = $1",
                [tenant],
            ).fetch_one(c).await)
        })
        .await
    }
}

impl Tx {
    /// The record of a request.
    ///
    /// # Errors
    /// `Conflict` when the request has one already.
    pub async fn usage_append(&mut self, new: &NewUsage) -> Result<()> {
        on!(self.connection(), c => query(
            "INSERT INTO usage_records (request_id, tenant_id, project_id, key_id, model, input_tokens,
                 cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            [
                &new.request_id,
                &new.tenant_id,
                &new.project_id,
                &new.key_id,
                &new.model,
                new.input_tokens,
                new.cache_read_tokens,
                new.cache_write_tokens,
                new.output_tokens,
                new.reasoning_tokens,
                new.created_at,
            ],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// An entry.
    ///
    /// # Errors
    /// `Conflict` when the request has one of this kind already.
    pub async fn ledger_append(&mut self, new: &NewLedgerEntry) -> Result<()> {
        on!(self.connection(), c => query(
            "INSERT INTO ledger_entries (id, request_id, tenant_id, project_id, kind, amount_nanousd, price, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            [
                &new.id, &new.request_id, &new.tenant_id, &new.project_id, new.kind, new.amount_nanousd, &new.price,
                new.created_at,
            ],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// The entry of a kind for a request that this gateway made.
    pub async fn ledger_entry(&mut self, request: &RequestId, kind: &str) -> Result<Option<LedgerRow>> {
        on!(self.connection(), c => query_as(
            "SELECT id, request_id, amount_nanousd, created_at FROM ledger_entries WHERE request_id = $1 AND kind = $2",
            [request, kind],
        ).fetch_optional(c).await)
        .map_err(super::dialect::classify)
    }
}
