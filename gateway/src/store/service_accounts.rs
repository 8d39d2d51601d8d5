//! Service accounts. One of a deleted project counts as deleted with it.

use super::{Store, Tx};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{ProjectId, ServiceAccountId, TenantId};

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ServiceAccountRow {
    /// Its id.
    pub id: ServiceAccountId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// For which project.
    pub project_id: ProjectId,
    /// Unique in its project, among those that are not deleted.
    pub name: String,
    /// A tenant's.
    pub role: String,
    /// As JSON.
    pub scope: String,
    /// Whose tokens it may present; `None`: nobody's. Set together with the subject.
    pub federated_issuer: Option<String>,
    /// Which of the issuer's subjects it is.
    pub federated_subject: Option<String>,
    /// Not usable from then on, µs since 1970; `None`: until deleted.
    pub expires_at: Option<Micros>,
    /// Counts its changes, from 1.
    pub version: i64,
    /// µs since 1970.
    pub created_at: Micros,
    /// µs since 1970.
    pub updated_at: Micros,
    /// µs since 1970; `None` while it is there.
    pub deleted_at: Option<Micros>,
}

/// Which service accounts a list shows.
#[derive(Debug, Clone, Default)]
pub struct ServiceAccountFilter {
    /// Of this project.
    pub project: Option<ProjectId>,
    /// Exactly this name.
    pub name: Option<String>,
}

impl Store {
    /// A tenant's service account that is not deleted.
    pub async fn service_account(&self, tenant: &TenantId, id: &ServiceAccountId) -> Result<Option<ServiceAccountRow>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT s.id, s.tenant_id, s.project_id, s.name, s.role, s.scope, s.federated_issuer, s.federated_subject,
                        s.expires_at, s.version, s.created_at, s.updated_at, s.deleted_at
                 FROM service_accounts s JOIN projects p ON p.tenant_id = s.tenant_id AND p.id = s.project_id
                 WHERE s.tenant_id = $1 AND s.id = $2 AND s.deleted_at IS NULL AND p.deleted_at IS NULL",
                [tenant, id],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// A tenant's that are not deleted, in the order of their ids, which is that of their making, beginning after `after`.
    pub async fn service_accounts(
        &self,
        tenant: &TenantId,
        filter: &ServiceAccountFilter,
        after: Option<&ServiceAccountId>,
        limit: i64,
    ) -> Result<Vec<ServiceAccountRow>> {
        let (tenant, filter, after) = (tenant.clone(), filter.clone(), after.cloned());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT s.id, s.tenant_id, s.project_id, s.name, s.role, s.scope, s.federated_issuer, s.federated_subject,
                        s.expires_at, s.version, s.created_at, s.updated_at, s.deleted_at
                 FROM service_accounts s JOIN projects p ON p.tenant_id = s.tenant_id AND p.id = s.project_id
                 WHERE s.tenant_id = $1 AND s.deleted_at IS NULL AND p.deleted_at IS NULL
                   AND (CAST($2 AS TEXT) IS NULL OR s.id > $2) AND (CAST($3 AS TEXT) IS NULL OR s.project_id = $3)
                   AND (CAST($4 AS TEXT) IS NULL OR s.name = $4)
                 ORDER BY s.id LIMIT $5",
                [tenant, after, filter.project, filter.name, limit],
            ).fetch_all(c).await)
        })
        .await
    }
}

impl Tx {
    /// Stores a new one. `false` when its tenant has no such project.
    ///
    /// # Errors
    /// `Conflict` when the project has one of that name.
    pub async fn service_account_create(&mut self, row: &ServiceAccountRow) -> Result<bool> {
        on!(self.connection(), c => query(
            "INSERT INTO service_accounts
                 (id, tenant_id, project_id, name, role, scope, federated_issuer, federated_subject, expires_at, version,
                  created_at, updated_at)
             SELECT $3, p.tenant_id, p.id, $4, $5, $6, $7, $8, $9, $10, $11, $12
             FROM projects p JOIN tenants t ON t.id = p.tenant_id
             WHERE p.tenant_id = $1 AND p.id = $2 AND p.deleted_at IS NULL AND t.deleted_at IS NULL",
            [
                &row.tenant_id, &row.project_id, &row.id, &row.name, &row.role, &row.scope, &row.federated_issuer,
                &row.federated_subject, row.expires_at, row.version, row.created_at, row.updated_at,
            ],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }

    /// A tenant's service account, neither it nor its project deleted, for changing it: who gets it here first changes it
    /// first.
    pub async fn service_account_for_change(
        &mut self,
        tenant: &TenantId,
        id: &ServiceAccountId,
    ) -> Result<Option<ServiceAccountRow>> {
        on!(self.connection(), c => query_as(
            "UPDATE service_accounts SET version = version
             WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL
               AND project_id IN (SELECT p.id FROM projects p WHERE p.tenant_id = $1 AND p.deleted_at IS NULL)
             RETURNING id, tenant_id, project_id, name, role, scope, federated_issuer, federated_subject, expires_at,
                       version, created_at, updated_at, deleted_at",
            [tenant, id],
        ).fetch_optional(c).await)
        .map_err(super::dialect::classify)
    }

    /// Writes all that can change of a service account, and makes its version one more.
    ///
    /// # Errors
    /// `Conflict` when its project has another one of that name.
    pub async fn service_account_update(&mut self, row: &ServiceAccountRow, now: Micros) -> Result<()> {
        on!(self.connection(), c => query(
            "UPDATE service_accounts SET name = $3, role = $4, scope = $5, federated_issuer = $6, federated_subject = $7,
                    expires_at = $8, deleted_at = $9, version = version + 1, updated_at = $10
             WHERE tenant_id = $1 AND id = $2",
            [
                &row.tenant_id, &row.id, &row.name, &row.role, &row.scope, &row.federated_issuer,
                &row.federated_subject, row.expires_at, row.deleted_at, now,
            ],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }
}
