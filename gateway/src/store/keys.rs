//! Credentials. Looked up by their public id alone, for that is how the tenant becomes known; a look-up finds only what
//! may be used now, so unknown, revoked, expired and suspended can't be told apart further up.

use super::tenants::LimitColumns;
use super::{Store, Tx};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{AdminTokenId, KeyId, ProjectId, TenantId};

/// Whose a credential is.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Owner {
    /// Active and not deleted.
    pub tenant_id: TenantId,
    /// Not deleted.
    pub project_id: ProjectId,
    /// The credential's.
    pub role: String,
    /// The credential's, as JSON.
    pub scope: String,
    /// The tenant's.
    #[sqlx(flatten)]
    pub limits: LimitColumns,
}

/// A usable API key.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ApiKeyRow {
    /// In hex.
    pub digest: String,
    /// Which pepper made the digest.
    pub pepper_version: i64,
    /// Whose it is.
    #[sqlx(flatten)]
    pub owner: Owner,
}

/// A usable SigV4 access key.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AccessKeyRow {
    /// As `Secrets::seal` made it.
    pub sealed_secret: String,
    /// Whose it is.
    #[sqlx(flatten)]
    pub owner: Owner,
}

/// A usable admin token.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AdminTokenRow {
    /// In hex.
    pub digest: String,
    /// Which pepper made the digest.
    pub pepper_version: i64,
    /// An operator's.
    pub role: String,
    /// As JSON.
    pub scope: String,
}

/// An API key to be stored.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// `key_` and its public id.
    pub id: KeyId,
    /// For people.
    pub name: String,
    /// In hex.
    pub digest: String,
    /// Which pepper made the digest.
    pub pepper_version: i64,
    /// µs since 1970.
    pub created_at: Micros,
    /// Not usable from then on.
    pub expires_at: Option<Micros>,
}

/// A SigV4 access key to be stored.
#[derive(Debug, Clone)]
pub struct NewAccessKey {
    /// `key_` and the access key id.
    pub id: KeyId,
    /// For people.
    pub name: String,
    /// As `Secrets::seal` made it.
    pub sealed_secret: String,
    /// µs since 1970.
    pub created_at: Micros,
    /// Not usable from then on.
    pub expires_at: Option<Micros>,
}

/// An admin token to be stored.
#[derive(Debug, Clone)]
pub struct NewAdminToken {
    /// `adm_` and its public id.
    pub id: AdminTokenId,
    /// For people.
    pub name: String,
    /// In hex.
    pub digest: String,
    /// Which pepper made the digest.
    pub pepper_version: i64,
    /// µs since 1970.
    pub created_at: Micros,
    /// Not usable from then on.
    pub expires_at: Option<Micros>,
}

impl Store {
    /// An API key that may be used at `now`.
    pub async fn usable_api_key(&self, id: &KeyId, now: Micros) -> Result<Option<ApiKeyRow>> {
        let id = id.clone();
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT k.digest, k.pepper_version, k.tenant_id, k.project_id, k.role, k.scope,
                        t.requests_per_minute, t.tokens_per_minute, t.concurrent_requests
                 FROM api_keys k
                 JOIN tenants t ON t.id = k.tenant_id
                 JOIN projects p ON p.tenant_id = k.tenant_id AND p.id = k.project_id
                 LEFT JOIN service_accounts s ON s.id = k.service_account_id
                 WHERE k.id = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2)
                   AND t.status = 'active' AND t.deleted_at IS NULL AND p.deleted_at IS NULL AND s.deleted_at IS NULL
                   AND (s.expires_at IS NULL OR s.expires_at > $2)",
                [id, now],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// A SigV4 access key that may be used at `now`.
    pub async fn usable_access_key(&self, id: &KeyId, now: Micros) -> Result<Option<AccessKeyRow>> {
        let id = id.clone();
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT k.sealed_secret, k.tenant_id, k.project_id, k.role, k.scope,
                        t.requests_per_minute, t.tokens_per_minute, t.concurrent_requests
                 FROM access_keys k
                 JOIN tenants t ON t.id = k.tenant_id
                 JOIN projects p ON p.tenant_id = k.tenant_id AND p.id = k.project_id
                 LEFT JOIN service_accounts s ON s.id = k.service_account_id
                 WHERE k.id = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2)
                   AND t.status = 'active' AND t.deleted_at IS NULL AND p.deleted_at IS NULL AND s.deleted_at IS NULL
                   AND (s.expires_at IS NULL OR s.expires_at > $2)",
                [id, now],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// An admin token that may be used at `now`.
    pub async fn usable_admin_token(&self, id: &AdminTokenId, now: Micros) -> Result<Option<AdminTokenRow>> {
        let id = id.clone();
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT digest, pepper_version, role, scope FROM admin_tokens
                 WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)",
                [id, now],
            ).fetch_optional(c).await)
        })
        .await
    }
}

impl Tx {
    /// `false` when the tenant has no such project.
    ///
    /// # Errors
    /// `Conflict` when the id is taken.
    pub async fn api_key_create(&mut self, tenant: &TenantId, project: &ProjectId, new: &NewApiKey) -> Result<bool> {
        on!(self.connection(), c => query(
            "INSERT INTO api_keys (id, tenant_id, project_id, name, digest, pepper_version, created_at, expires_at)
             SELECT $3, p.tenant_id, p.id, $4, $5, $6, $7, $8
             FROM projects p JOIN tenants t ON t.id = p.tenant_id
             WHERE p.tenant_id = $1 AND p.id = $2 AND p.deleted_at IS NULL AND t.deleted_at IS NULL",
            [tenant, project, &new.id, &new.name, &new.digest, new.pepper_version, new.created_at, new.expires_at],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }

    /// `false` when the tenant has no such project.
    ///
    /// # Errors
    /// `Conflict` when the id is taken.
    pub async fn access_key_create(
        &mut self,
        tenant: &TenantId,
        project: &ProjectId,
        new: &NewAccessKey,
    ) -> Result<bool> {
        on!(self.connection(), c => query(
            "INSERT INTO access_keys (id, tenant_id, project_id, name, sealed_secret, created_at, expires_at)
             SELECT $3, p.tenant_id, p.id, $4, $5, $6, $7
             FROM projects p JOIN tenants t ON t.id = p.tenant_id
             WHERE p.tenant_id = $1 AND p.id = $2 AND p.deleted_at IS NULL AND t.deleted_at IS NULL",
            [tenant, project, &new.id, &new.name, &new.sealed_secret, new.created_at, new.expires_at],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }

    /// A new operator's token.
    ///
    /// # Errors
    /// `Conflict` when the id is taken.
    pub async fn admin_token_create(&mut self, new: &NewAdminToken) -> Result<()> {
        on!(self.connection(), c => query(
            "INSERT INTO admin_tokens (id, name, digest, pepper_version, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
            [&new.id, &new.name, &new.digest, new.pepper_version, new.created_at, new.expires_at],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// Revokes an API key. `false` when the tenant has none of that id, or it is revoked already.
    pub async fn api_key_revoke(&mut self, tenant: &TenantId, id: &KeyId, now: Micros) -> Result<bool> {
        on!(self.connection(), c => query(
            "UPDATE api_keys SET revoked_at = $3 WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL",
            [tenant, id, now],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }

    /// Revokes a SigV4 access key. `false` when the tenant has none of that id, or it is revoked already.
    pub async fn access_key_revoke(&mut self, tenant: &TenantId, id: &KeyId, now: Micros) -> Result<bool> {
        on!(self.connection(), c => query(
            "UPDATE access_keys SET revoked_at = $3 WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL",
            [tenant, id, now],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }

    /// Revokes an admin token. `false` when there is none of that id, or it is revoked already.
    pub async fn admin_token_revoke(&mut self, id: &AdminTokenId, now: Micros) -> Result<bool> {
        on!(self.connection(), c => query(
            "UPDATE admin_tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
            [id, now],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }
}
