//! Tenants and projects.

use super::columns::count;
use super::{Store, Tx};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{ProjectId, TenantId};
use crate::quota::Limits;

/// A tenant that is not deleted.
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
    /// µs since 1970.
    pub created_at: Micros,
}

/// A project that is not deleted.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ProjectRow {
    /// Its id.
    pub id: ProjectId,
    /// Unique in its tenant, among projects that are not deleted.
    pub name: String,
    /// µs since 1970.
    pub created_at: Micros,
}

/// Limits as columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct LimitColumns {
    requests_per_minute: Option<i64>,
    tokens_per_minute: Option<i64>,
    concurrent_requests: Option<i64>,
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
                "SELECT id, name, status, requests_per_minute, tokens_per_minute, concurrent_requests, created_at
                 FROM tenants WHERE name = $1 AND deleted_at IS NULL",
                [name],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// A tenant's project by its name.
    pub async fn project_by_name(&self, tenant: &TenantId, name: &str) -> Result<Option<ProjectRow>> {
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT id, name, created_at FROM projects WHERE tenant_id = $1 AND name = $2 AND deleted_at IS NULL",
                [tenant, name],
            ).fetch_optional(c).await)
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
            "INSERT INTO tenants (id, name, status, requests_per_minute, tokens_per_minute, concurrent_requests, created_at)
             VALUES ($1, $2, 'active', $3, $4, $5, $6)",
            [id, name, limits.requests_per_minute, limits.tokens_per_minute, limits.concurrent_requests, now],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// `false` when there is no such tenant.
    pub async fn tenant_set_status(&mut self, id: &TenantId, status: &str) -> Result<bool> {
        on!(self.connection(), c => query(
            "UPDATE tenants SET status = $2 WHERE id = $1 AND deleted_at IS NULL",
            [id, status],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }

    /// `false` when there is no such tenant.
    pub async fn tenant_set_limits(&mut self, id: &TenantId, limits: Limits) -> Result<bool> {
        let limits = LimitColumns::try_from(limits)?;
        on!(self.connection(), c => query(
            "UPDATE tenants SET requests_per_minute = $2, tokens_per_minute = $3, concurrent_requests = $4
             WHERE id = $1 AND deleted_at IS NULL",
            [id, limits.requests_per_minute, limits.tokens_per_minute, limits.concurrent_requests],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }

    /// Marks it deleted; what it owes stays on the ledger. `false` when there is no such tenant.
    pub async fn tenant_delete(&mut self, id: &TenantId, now: Micros) -> Result<bool> {
        on!(self.connection(), c => query(
            "UPDATE tenants SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL",
            [id, now],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }

    /// `false` when there is no such tenant.
    ///
    /// # Errors
    /// `Conflict` when the tenant has a project of that name.
    pub async fn project_create(&mut self, tenant: &TenantId, id: &ProjectId, name: &str, now: Micros) -> Result<bool> {
        on!(self.connection(), c => query(
            "INSERT INTO projects (id, tenant_id, name, created_at)
             SELECT $2, id, $3, $4 FROM tenants WHERE id = $1 AND deleted_at IS NULL",
            [tenant, id, name, now],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }

    /// Marks it deleted. `false` when the tenant has no such project.
    pub async fn project_delete(&mut self, tenant: &TenantId, id: &ProjectId, now: Micros) -> Result<bool> {
        on!(self.connection(), c => query(
            "UPDATE projects SET deleted_at = $3 WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL",
            [tenant, id, now],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }
}
