//! Tenants.

use super::columns::count;
use super::{Store, Tx};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::TenantId;
use crate::quota::Limits;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct TenantRow {
    /// Its id.
    pub id: TenantId,
    /// Unique among tenants that are not deleted.
    pub name: String,
    /// `active` or `suspended`.
    pub status: String,
    /// In force for it.
    #[sqlx(flatten)]
    pub limits: LimitColumns,
    /// Patterns of models as a JSON list; `None`: all.
    pub model_access: Option<String>,
    /// Counts its changes, from 1.
    pub version: i64,
    /// µs since 1970.
    pub created_at: Micros,
    /// µs since 1970.
    pub updated_at: Micros,
    /// µs since 1970; `None` while it is there.
    pub deleted_at: Option<Micros>,
}

/// Which tenants a list shows.
#[derive(Debug, Clone, Default)]
pub struct TenantFilter {
    /// Exactly this name.
    pub name: Option<String>,
    /// `active` or `suspended`.
    pub status: Option<String>,
    /// Deleted ones too.
    pub with_deleted: bool,
}

/// Limits as columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct LimitColumns {
    pub(super) requests_per_minute: Option<i64>,
    pub(super) tokens_per_minute: Option<i64>,
    pub(super) concurrent_requests: Option<i64>,
}

impl TryFrom<Limits> for LimitColumns {
    type Error = crate::error::Error;

    fn try_from(limits: Limits) -> Result<LimitColumns> {
        Ok(LimitColumns {
            requests_per_minute: limits.requests_per_minute.map(count).transpose()?,
            tokens_per_minute: limits.tokens_per_minute.map(count).transpose()?,
            concurrent_requests: limits.concurrent_requests.map(count).transpose()?,
        })
    }
}

impl From<LimitColumns> for Limits {
    fn from(columns: LimitColumns) -> Limits {
        // A CHECK keeps them from being negative; were one, it would be the strictest limit and not none.
        let limit = |column: Option<i64>| column.map(|value| u64::try_from(value).unwrap_or(0));
        Limits {
            requests_per_minute: limit(columns.requests_per_minute),
            tokens_per_minute: limit(columns.tokens_per_minute),
            concurrent_requests: limit(columns.concurrent_requests),
        }
    }
}

impl Store {
    /// By its name, for operators.
    pub async fn tenant_by_name(&self, name: &str) -> Result<Option<TenantRow>> {
        let name = name.to_owned();
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT id, name, status, requests_per_minute, tokens_per_minute, concurrent_requests, model_access,
                        version, created_at, updated_at, deleted_at
                 FROM tenants WHERE name = $1 AND deleted_at IS NULL",
                [name],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// By its id, deleted or not.
    pub async fn tenant(&self, id: &TenantId) -> Result<Option<TenantRow>> {
        let id = id.clone();
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT id, name, status, requests_per_minute, tokens_per_minute, concurrent_requests, model_access,
                        version, created_at, updated_at, deleted_at
                 FROM tenants WHERE id = $1",
                [id],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// In the order of their ids, which is that of their making, beginning after `after`.
    pub async fn tenants(&self, filter: &TenantFilter, after: Option<&TenantId>, limit: i64) -> Result<Vec<TenantRow>> {
        let (filter, after) = (filter.clone(), after.cloned());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT id, name, status, requests_per_minute, tokens_per_minute, concurrent_requests, model_access,
                        version, created_at, updated_at, deleted_at
                 FROM tenants
                 WHERE (CAST($1 AS TEXT) IS NULL OR id > $1) AND (CAST($2 AS TEXT) IS NULL OR name = $2)
                   AND (CAST($3 AS TEXT) IS NULL OR status = $3) AND (deleted_at IS NULL OR $4)
                 ORDER BY id LIMIT $5",
                [after, filter.name, filter.status, filter.with_deleted, limit],
            ).fetch_all(c).await)
        })
        .await
    }
}

impl Tx {
    /// A new, active tenant.
    ///
    /// # Errors
    /// `Conflict` when the name is taken.
    pub async fn tenant_create(&mut self, id: &TenantId, name: &str, limits: Limits, now: Micros) -> Result<()> {
        let limits = LimitColumns::try_from(limits)?;
        on!(self.connection(), c => query(
            "INSERT INTO tenants
                 (id, name, status, requests_per_minute, tokens_per_minute, concurrent_requests, created_at, updated_at)
             VALUES ($1, $2, 'active', $3, $4, $5, $6, $6)",
            [id, name, limits.requests_per_minute, limits.tokens_per_minute, limits.concurrent_requests, now],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// A tenant that is not deleted, for changing it: who gets it here first changes it first.
    pub async fn tenant_for_change(&mut self, id: &TenantId) -> Result<Option<TenantRow>> {
        on!(self.connection(), c => query_as(
            "UPDATE tenants SET version = version WHERE id = $1 AND deleted_at IS NULL
             RETURNING id, name, status, requests_per_minute, tokens_per_minute, concurrent_requests, model_access,
                       version, created_at, updated_at, deleted_at",
            [id],
        ).fetch_optional(c).await)
        .map_err(super::dialect::classify)
    }

    /// Writes all that can change of a tenant, and makes its version one more.
    ///
    /// # Errors
    /// `Conflict` when the name is taken.
    pub async fn tenant_update(&mut self, row: &TenantRow, now: Micros) -> Result<()> {
        on!(self.connection(), c => query(
            "UPDATE tenants SET name = $2, status = $3, requests_per_minute = $4, tokens_per_minute = $5,
                    concurrent_requests = $6, model_access = $7, deleted_at = $8, version = version + 1, updated_at = $9
             WHERE id = $1",
            [
                &row.id, &row.name, &row.status, row.limits.requests_per_minute, row.limits.tokens_per_minute,
                row.limits.concurrent_requests, &row.model_access, row.deleted_at, now,
            ],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }
}
