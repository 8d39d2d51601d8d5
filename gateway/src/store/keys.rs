//! Credentials. Looked up by their public id alone, for that is how the tenant becomes known; a look-up finds only what
//! may be used now, so unknown, revoked, expired and suspended can't be told apart further up.

use super::Store;
use super::tenants::LimitColumns;
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
    /// The secret before the last rotation.
    #[sqlx(flatten)]
    pub former: FormerDigest,
    /// Whose it is.
    #[sqlx(flatten)]
    pub owner: Owner,
}

/// A usable SigV4 access key.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AccessKeyRow {
    /// As `Secrets::seal` made it.
    pub sealed_secret: String,
    /// The secret before the last rotation, sealed.
    pub previous_sealed_secret: Option<String>,
    /// When that one ends.
    pub previous_expires_at: Option<Micros>,
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
    /// The secret before the last rotation.
    #[sqlx(flatten)]
    pub former: FormerDigest,
    /// An operator's.
    pub role: String,
    /// As JSON.
    pub scope: String,
}

/// The bearer secret before the last rotation.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct FormerDigest {
    /// In hex.
    pub previous_digest: Option<String>,
    /// Which pepper made the digest.
    pub previous_pepper_version: Option<i64>,
    /// Not accepted from then on.
    pub previous_expires_at: Option<Micros>,
}

impl Store {
    /// An API key that may be used at `now`.
    pub async fn usable_api_key(&self, id: &KeyId, now: Micros) -> Result<Option<ApiKeyRow>> {
        let id = id.clone();
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT k.digest, k.pepper_version, k.previous_digest, k.previous_pepper_version, k.previous_expires_at,
                        k.tenant_id, k.project_id, k.role, k.scope,
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
                "SELECT k.sealed_secret, k.previous_sealed_secret, k.previous_expires_at, k.tenant_id, k.project_id, k.role, k.scope,
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
                "SELECT digest, pepper_version, previous_digest, previous_pepper_version, previous_expires_at, role, scope
                 FROM admin_tokens
                 WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)",
                [id, now],
            ).fetch_optional(c).await)
        })
        .await
    }
}
