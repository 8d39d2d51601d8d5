//! Projects.

use super::tenants::LimitColumns;
use super::{Store, Tx};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{ProjectId, TenantId};

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ProjectRow {
    /// Its id.
    pub id: ProjectId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Unique in its tenant, among projects that are not deleted.
    pub name: String,
    /// Its own.
    #[sqlx(flatten)]
    pub limits: LimitColumns,
    /// Patterns of models as a JSON list; `None`: all that its tenant has.
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

/// Which projects a list shows.
#[derive(Debug, Clone, Default)]
pub struct ProjectFilter {
    /// Exactly this name.
    pub name: Option<String>,
    /// Deleted ones too.
    pub with_deleted: bool,
}

impl Store {
    /// A tenant's project by its name, unless it is deleted.
    pub async fn project_by_name(&self, tenant: &TenantId, name: &str) -> Result<Option<ProjectRow>> {
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT id, tenant_id, name, requests_per_minute, tokens_per_minute, concurrent_requests, model_access,
                        version, created_at, updated_at, deleted_at
                 FROM projects WHERE tenant_id = $1 AND name = $2 AND deleted_at IS NULL",
                [tenant, name],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// A tenant's project by its id, deleted or not.
    pub async fn project(&self, tenant: &TenantId, id: &ProjectId) -> Result<Option<ProjectRow>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT id, tenant_id, name, requests_per_minute, tokens_per_minute, concurrent_requests, model_access,
                        version, created_at, updated_at, deleted_at
                 FROM projects WHERE tenant_id = $1 AND id = $2",
                [tenant, id],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// A tenant's, in the order of their ids, which is that of their making, beginning after `after`.
    pub async fn projects(
        &self,
        tenant: &TenantId,
        filter: &ProjectFilter,
        after: Option<&ProjectId>,
        limit: i64,
    ) -> Result<Vec<ProjectRow>> {
        let (tenant, filter, after) = (tenant.clone(), filter.clone(), after.cloned());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT id, tenant_id, name, requests_per_minute, tokens_per_minute, concurrent_requests, model_access,
                        version, created_at, updated_at, deleted_at
                 FROM projects
                 WHERE tenant_id = $1 AND (CAST($2 AS TEXT) IS NULL OR id > $2)
                   AND (CAST($3 AS TEXT) IS NULL OR name = $3) AND (deleted_at IS NULL OR $4)
                 ORDER BY id LIMIT $5",
                [tenant, after, filter.name, filter.with_deleted, limit],
            ).fetch_all(c).await)
        })
        .await
    }
}

impl Tx {
    /// `false` when there is no such tenant.
    ///
    /// # Errors
    /// `Conflict` when the tenant has a project of that name.
    pub async fn project_create(&mut self, tenant: &TenantId, id: &ProjectId, name: &str, now: Micros) -> Result<bool> {
        on!(self.connection(), c => query(
            "INSERT INTO projects (id, tenant_id, name, created_at, updated_at)
             SELECT $2, id, $3, $4, $4 FROM tenants WHERE id = $1 AND deleted_at IS NULL",
            [tenant, id, name, now],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }

    /// A tenant's project, neither of the two deleted, for changing it: who gets it here first changes it first.
    pub async fn project_for_change(&mut self, tenant: &TenantId, id: &ProjectId) -> Result<Option<ProjectRow>> {
        on!(self.connection(), c => query_as(
            "UPDATE projects SET version = version
             WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL
               AND EXISTS (SELECT 1 FROM tenants t WHERE t.id = $1 AND t.deleted_at IS NULL)
             RETURNING id, tenant_id, name, requests_per_minute, tokens_per_minute, concurrent_requests, model_access,
                       version, created_at, updated_at, deleted_at",
            [tenant, id],
        ).fetch_optional(c).await)
        .map_err(super::dialect::classify)
    }

    /// Writes all that can change of a project, and makes its version one more.
    ///
    /// # Errors
    /// `Conflict` when the tenant has another project of that name.
    pub async fn project_update(&mut self, row: &ProjectRow, now: Micros) -> Result<()> {
        on!(self.connection(), c => query(
            "UPDATE projects SET name = $3, requests_per_minute = $4, tokens_per_minute = $5, concurrent_requests = $6,
                    model_access = $7, deleted_at = $8, version = version + 1, updated_at = $9
             WHERE tenant_id = $1 AND id = $2",
            [
                &row.tenant_id, &row.id, &row.name, row.limits.requests_per_minute, row.limits.tokens_per_minute,
                row.limits.concurrent_requests, &row.model_access, row.deleted_at, now,
            ],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }
}
