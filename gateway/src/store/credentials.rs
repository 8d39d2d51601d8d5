//! What API keys and access keys have in common, which is everything but the secret.

use super::tenants::LimitColumns;
use super::{Store, Tx};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{KeyId, ProjectId, ServiceAccountId, TenantId};

/// A tenant's credential, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct CredentialRow {
    /// `key_` and its public part.
    pub id: KeyId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// For which project.
    pub project_id: ProjectId,
    /// A machine's; `None`: the project's own.
    pub service_account_id: Option<ServiceAccountId>,
    /// For people.
    pub name: String,
    /// A tenant's.
    pub role: String,
    /// As JSON.
    pub scope: String,
    /// Its own.
    #[sqlx(flatten)]
    pub limits: LimitColumns,
    /// Public id of the credential that made it.
    pub created_by: String,
    /// Counts its changes, from 1.
    pub version: i64,
    /// µs since 1970.
    pub created_at: Micros,
    /// µs since 1970.
    pub updated_at: Micros,
    /// Not usable from then on.
    pub expires_at: Option<Micros>,
    /// µs since 1970; `None` while it is not revoked.
    pub revoked_at: Option<Micros>,
    /// When the secret before the last rotation ends; `None` where there is none.
    pub previous_expires_at: Option<Micros>,
    /// µs since 1970; `None` before its first use.
    pub last_used_at: Option<Micros>,
}

/// Which credentials a list shows.
#[derive(Debug, Clone, Default)]
pub struct CredentialFilter {
    /// Of this project.
    pub project: Option<ProjectId>,
    /// Of this machine.
    pub service_account: Option<ServiceAccountId>,
    /// Exactly this name.
    pub name: Option<String>,
    /// Made with this credential.
    pub created_by: Option<String>,
    /// Revoked ones too.
    pub with_revoked: bool,
}

/// A bearer secret as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestColumns {
    /// In hex.
    pub digest: String,
    /// Which pepper made the digest.
    pub pepper_version: i64,
}

/// What a service account's credentials must stay within.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ServiceAccountBounds {
    /// Its project, which is theirs.
    pub project_id: ProjectId,
    /// Its role.
    pub role: String,
    /// Its scope, as JSON.
    pub scope: String,
}

impl Store {
    /// The bounds of a tenant's service account that is not deleted.
    pub async fn service_account_bounds(
        &self,
        tenant: &TenantId,
        id: &ServiceAccountId,
    ) -> Result<Option<ServiceAccountBounds>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT project_id, role, scope FROM service_accounts
                 WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL",
                [tenant, id],
            ).fetch_optional(c).await)
        })
        .await
    }
}

impl Tx {
    /// The roles, each once, of what ends with a project: its keys that are not revoked, but for those whose service
    /// account is deleted already, and its service accounts.
    pub async fn roles_in_project(&mut self, tenant: &TenantId, project: &ProjectId) -> Result<Vec<String>> {
        on!(self.connection(), c => query_scalar(
            "SELECT k.role FROM api_keys k
             LEFT JOIN service_accounts a ON a.tenant_id = k.tenant_id AND a.id = k.service_account_id
             WHERE k.tenant_id = $1 AND k.project_id = $2 AND k.revoked_at IS NULL AND a.deleted_at IS NULL
             UNION
             SELECT k.role FROM access_keys k
             LEFT JOIN service_accounts a ON a.tenant_id = k.tenant_id AND a.id = k.service_account_id
             WHERE k.tenant_id = $1 AND k.project_id = $2 AND k.revoked_at IS NULL AND a.deleted_at IS NULL
             UNION
             SELECT role FROM service_accounts WHERE tenant_id = $1 AND project_id = $2 AND deleted_at IS NULL",
            [tenant, project],
        ).fetch_all(c).await)
        .map_err(super::dialect::classify)
    }

    /// The roles, each once, of a service account's keys that are not revoked.
    pub async fn roles_of_account(&mut self, tenant: &TenantId, account: &ServiceAccountId) -> Result<Vec<String>> {
        on!(self.connection(), c => query_scalar(
            "SELECT role FROM api_keys WHERE tenant_id = $1 AND service_account_id = $2 AND revoked_at IS NULL
             UNION
             SELECT role FROM access_keys WHERE tenant_id = $1 AND service_account_id = $2 AND revoked_at IS NULL",
            [tenant, account],
        ).fetch_all(c).await)
        .map_err(super::dialect::classify)
    }

    /// The same, which stay as they are until the transaction ends: an UPDATE takes the row's lock.
    pub async fn service_account_bounds_lock(
        &mut self,
        tenant: &TenantId,
        id: &ServiceAccountId,
    ) -> Result<Option<ServiceAccountBounds>> {
        on!(self.connection(), c => query_as(
            "UPDATE service_accounts SET version = version WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL
             RETURNING project_id, role, scope",
            [tenant, id],
        ).fetch_optional(c).await)
        .map_err(super::dialect::classify)
    }
}
