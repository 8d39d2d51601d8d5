//! How much of each thing a tenant has, and how fast it changes: counted in the transaction that makes one more.

use super::Tx;
use crate::clock::Micros;
use crate::error::Result;
use crate::id::TenantId;

impl Tx {
    /// Keeps all others who take it from counting what this transaction is about to add to. Taken before any other row of
    /// the tenant's.
    pub async fn tenant_lock(&mut self, tenant: &TenantId) -> Result<()> {
        on!(self.connection(), c => query(
            "UPDATE tenants SET version = version WHERE id = $1", [tenant],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// A tenant's projects that are not deleted.
    pub async fn tenant_projects(&mut self, tenant: &TenantId) -> Result<i64> {
        on!(self.connection(), c => query_scalar(
            "SELECT COUNT(*) FROM projects WHERE tenant_id = $1 AND deleted_at IS NULL", [tenant],
        ).fetch_one(c).await)
        .map_err(super::dialect::classify)
    }

    /// A tenant's service accounts that are deleted neither themselves nor with their project.
    pub async fn tenant_service_accounts(&mut self, tenant: &TenantId) -> Result<i64> {
        on!(self.connection(), c => query_scalar(
            "SELECT COUNT(*) FROM service_accounts s
             JOIN projects p ON p.tenant_id = s.tenant_id AND p.id = s.project_id AND p.deleted_at IS NULL
             WHERE s.tenant_id = $1 AND s.deleted_at IS NULL",
            [tenant],
        ).fetch_one(c).await)
        .map_err(super::dialect::classify)
    }

    /// A tenant's API keys and access keys that are neither revoked, nor deleted with their project, nor, at `now`, expired.
    pub async fn tenant_credentials(&mut self, tenant: &TenantId, now: Micros) -> Result<i64> {
        on!(self.connection(), c => query_scalar(
            "SELECT (SELECT COUNT(*) FROM api_keys k
                     JOIN projects p ON p.tenant_id = k.tenant_id AND p.id = k.project_id AND p.deleted_at IS NULL
                     WHERE k.tenant_id = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2))
                  + (SELECT COUNT(*) FROM access_keys k
                     JOIN projects p ON p.tenant_id = k.tenant_id AND p.id = k.project_id AND p.deleted_at IS NULL
                     WHERE k.tenant_id = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2))",
            [tenant, now],
        ).fetch_one(c).await)
        .map_err(super::dialect::classify)
    }

    /// When the change of a tenant's was made that `later` others followed; `None` when there were not as many.
    pub async fn tenant_change_before(&mut self, tenant: &TenantId, later: i64) -> Result<Option<Micros>> {
        on!(self.connection(), c => query_scalar(
            "SELECT at FROM audit_log WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1 OFFSET $2", [tenant, later],
        ).fetch_optional(c).await)
        .map_err(super::dialect::classify)
    }
}
