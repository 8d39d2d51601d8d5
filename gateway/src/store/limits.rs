//! Limits of keys. Those of tenants and projects are in their rows.

use super::tenants::LimitColumns;
use super::{Store, Tx};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{KeyId, ProjectId, TenantId};

/// A key's limits, and what decides who may change them.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct KeyLimitsRow {
    /// The key's id.
    pub id: KeyId,
    /// Whose limits hold too.
    pub project_id: ProjectId,
    /// The key's.
    pub role: String,
    /// The key's, as JSON.
    pub scope: String,
    /// Its own.
    #[sqlx(flatten)]
    pub limits: LimitColumns,
    /// Counts the key's changes, from 1.
    pub version: i64,
}

impl Store {
    /// Those of a tenant's API key that is not revoked, nor its project deleted.
    pub async fn api_key_limits(&self, tenant: &TenantId, id: &KeyId) -> Result<Option<KeyLimitsRow>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT k.id, k.project_id, k.role, k.scope, k.requests_per_minute, k.tokens_per_minute,
                        k.concurrent_requests, k.version
                 FROM api_keys k JOIN projects p ON p.tenant_id = k.tenant_id AND p.id = k.project_id
                 WHERE k.tenant_id = $1 AND k.id = $2 AND k.revoked_at IS NULL AND p.deleted_at IS NULL",
                [tenant, id],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// Those of a tenant's SigV4 access key that is not revoked, nor its project deleted.
    pub async fn access_key_limits(&self, tenant: &TenantId, id: &KeyId) -> Result<Option<KeyLimitsRow>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT k.id, k.project_id, k.role, k.scope, k.requests_per_minute, k.tokens_per_minute,
                        k.concurrent_requests, k.version
                 FROM access_keys k JOIN projects p ON p.tenant_id = k.tenant_id AND p.id = k.project_id
                 WHERE k.tenant_id = $1 AND k.id = $2 AND k.revoked_at IS NULL AND p.deleted_at IS NULL",
                [tenant, id],
            ).fetch_optional(c).await)
        })
        .await
    }
}

impl Tx {
    /// The same, for changing them: who gets them here first changes them first.
    pub async fn api_key_limits_for_change(&mut self, tenant: &TenantId, id: &KeyId) -> Result<Option<KeyLimitsRow>> {
        on!(self.connection(), c => query_as(
            "UPDATE api_keys SET version = version
             WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL
               AND project_id IN (SELECT p.id FROM projects p WHERE p.tenant_id = $1 AND p.deleted_at IS NULL)
             RETURNING id, project_id, role, scope, requests_per_minute, tokens_per_minute, concurrent_requests, version",
            [tenant, id],
        ).fetch_optional(c).await)
        .map_err(super::dialect::classify)
    }

    /// Writes an API key's limits, and makes its version one more.
    pub async fn api_key_limits_update(&mut self, tenant: &TenantId, row: &KeyLimitsRow, now: Micros) -> Result<()> {
        on!(self.connection(), c => query(
            "UPDATE api_keys SET requests_per_minute = $3, tokens_per_minute = $4, concurrent_requests = $5,
                    version = version + 1, updated_at = $6
             WHERE tenant_id = $1 AND id = $2",
            [
                tenant, &row.id, row.limits.requests_per_minute, row.limits.tokens_per_minute,
                row.limits.concurrent_requests, now,
            ],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// The same, for changing them: who gets them here first changes them first.
    pub async fn access_key_limits_for_change(
        &mut self,
        tenant: &TenantId,
        id: &KeyId,
    ) -> Result<Option<KeyLimitsRow>> {
        on!(self.connection(), c => query_as(
            "UPDATE access_keys SET version = version
             WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL
               AND project_id IN (SELECT p.id FROM projects p WHERE p.tenant_id = $1 AND p.deleted_at IS NULL)
             RETURNING id, project_id, role, scope, requests_per_minute, tokens_per_minute, concurrent_requests, version",
            [tenant, id],
        ).fetch_optional(c).await)
        .map_err(super::dialect::classify)
    }

    /// Writes an access key's limits, and makes its version one more.
    pub async fn access_key_limits_update(&mut self, tenant: &TenantId, row: &KeyLimitsRow, now: Micros) -> Result<()> {
        on!(self.connection(), c => query(
            "UPDATE access_keys SET requests_per_minute = $3, tokens_per_minute = $4, concurrent_requests = $5,
                    version = version + 1, updated_at = $6
             WHERE tenant_id = $1 AND id = $2",
            [
                tenant, &row.id, row.limits.requests_per_minute, row.limits.tokens_per_minute,
                row.limits.concurrent_requests, now,
            ],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }
}
