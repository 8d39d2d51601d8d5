//! Looking credentials up to use them: by their public id alone, for that is how the tenant becomes known. A look-up finds
//! only what may be used now, so unknown, revoked, expired and suspended can't be told apart further up.
//!
//! One query each, and each with a deadline of its own: a caller waits for it.

use super::Store;
use super::tenants::LimitColumns;
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{AdminTokenId, KeyId, ProjectId, ServiceAccountId, TenantId};
use crate::quota::Limits;
use std::time::Duration;

/// Beyond it a look-up is given up.
pub const LOOK_UP_DEADLINE: Duration = Duration::from_secs(1);

/// Whose a credential is, and what it may do.
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
    /// Not usable from then on.
    pub expires_at: Option<Micros>,
    /// Whose it is, when it is a machine's; not deleted. The other `account` columns are that one's.
    pub service_account_id: Option<ServiceAccountId>,
    /// Bounds the credential's.
    pub account_role: Option<String>,
    /// Bounds the credential's.
    pub account_scope: Option<String>,
    /// Bounds the credential's.
    pub account_expires_at: Option<Micros>,
    /// The tenant's.
    #[sqlx(flatten)]
    pub limits: LimitColumns,
    /// The project's.
    #[sqlx(flatten)]
    pub project_limits: ProjectLimitColumns,
    /// The credential's.
    #[sqlx(flatten)]
    pub key_limits: KeyLimitColumns,
    /// Patterns of models as a JSON list; `None`: all.
    pub tenant_model_access: Option<String>,
    /// Patterns of models as a JSON list; `None`: all.
    pub project_model_access: Option<String>,
}

/// A project's limits beside its tenant's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct ProjectLimitColumns {
    #[sqlx(rename = "project_requests_per_minute")]
    requests_per_minute: Option<i64>,
    #[sqlx(rename = "project_tokens_per_minute")]
    tokens_per_minute: Option<i64>,
    #[sqlx(rename = "project_concurrent_requests")]
    concurrent_requests: Option<i64>,
}

/// A credential's limits beside its tenant's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct KeyLimitColumns {
    #[sqlx(rename = "key_requests_per_minute")]
    requests_per_minute: Option<i64>,
    #[sqlx(rename = "key_tokens_per_minute")]
    tokens_per_minute: Option<i64>,
    #[sqlx(rename = "key_concurrent_requests")]
    concurrent_requests: Option<i64>,
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
    /// The secret before the last rotation.
    pub previous_sealed_secret: Option<String>,
    /// The former secret is not accepted from then on.
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
    /// Not usable from then on.
    pub expires_at: Option<Micros>,
}

/// A usable service account, as a token of a trusted issuer names it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct UsableServiceAccountRow {
    /// Whose tokens it takes; `None`: nobody's.
    pub federated_issuer: Option<String>,
    /// Set with the issuer: the issuer's name for the machine.
    pub federated_subject: Option<String>,
    /// Whose it is; role, scope and expiry are its own, and stand as the credential's.
    #[sqlx(flatten)]
    pub owner: Owner,
}

impl From<ProjectLimitColumns> for Limits {
    fn from(columns: ProjectLimitColumns) -> Limits {
        let ProjectLimitColumns { requests_per_minute, tokens_per_minute, concurrent_requests } = columns;
        LimitColumns { requests_per_minute, tokens_per_minute, concurrent_requests }.into()
    }
}

impl From<KeyLimitColumns> for Limits {
    fn from(columns: KeyLimitColumns) -> Limits {
        let KeyLimitColumns { requests_per_minute, tokens_per_minute, concurrent_requests } = columns;
        LimitColumns { requests_per_minute, tokens_per_minute, concurrent_requests }.into()
    }
}

impl Store {
    /// An API key that may be used at `now`.
    pub async fn usable_api_key(&self, id: &KeyId, now: Micros) -> Result<Option<ApiKeyRow>> {
        let id = id.clone();
        self.detached_within(LOOK_UP_DEADLINE, move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT k.digest, k.pepper_version, k.previous_digest, k.previous_pepper_version, k.previous_expires_at,
                        k.tenant_id, k.project_id, k.role, k.scope, k.expires_at,
                        a.id AS service_account_id, a.role AS account_role, a.scope AS account_scope,
                        a.expires_at AS account_expires_at,
                        t.requests_per_minute, t.tokens_per_minute, t.concurrent_requests,
                        p.requests_per_minute AS project_requests_per_minute,
                        p.tokens_per_minute AS project_tokens_per_minute,
                        p.concurrent_requests AS project_concurrent_requests,
                        k.requests_per_minute AS key_requests_per_minute,
                        k.tokens_per_minute AS key_tokens_per_minute,
                        k.concurrent_requests AS key_concurrent_requests,
                        t.model_access AS tenant_model_access, p.model_access AS project_model_access
                 FROM api_keys k
                 JOIN tenants t ON t.id = k.tenant_id
                 JOIN projects p ON p.tenant_id = k.tenant_id AND p.id = k.project_id
                 LEFT JOIN service_accounts a ON a.tenant_id = k.tenant_id AND a.id = k.service_account_id
                     AND a.deleted_at IS NULL AND (a.expires_at IS NULL OR a.expires_at > $2)
                 WHERE k.id = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2)
                   AND (k.service_account_id IS NULL OR a.id IS NOT NULL)
                   AND t.status = 'active' AND t.deleted_at IS NULL AND p.deleted_at IS NULL",
                [id, now],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// A SigV4 access key that may be used at `now`.
    pub async fn usable_access_key(&self, id: &KeyId, now: Micros) -> Result<Option<AccessKeyRow>> {
        let id = id.clone();
        self.detached_within(LOOK_UP_DEADLINE, move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT k.sealed_secret, k.previous_sealed_secret, k.previous_expires_at,
                        k.tenant_id, k.project_id, k.role, k.scope, k.expires_at,
                        a.id AS service_account_id, a.role AS account_role, a.scope AS account_scope,
                        a.expires_at AS account_expires_at,
                        t.requests_per_minute, t.tokens_per_minute, t.concurrent_requests,
                        p.requests_per_minute AS project_requests_per_minute,
                        p.tokens_per_minute AS project_tokens_per_minute,
                        p.concurrent_requests AS project_concurrent_requests,
                        k.requests_per_minute AS key_requests_per_minute,
                        k.tokens_per_minute AS key_tokens_per_minute,
                        k.concurrent_requests AS key_concurrent_requests,
                        t.model_access AS tenant_model_access, p.model_access AS project_model_access
                 FROM access_keys k
                 JOIN tenants t ON t.id = k.tenant_id
                 JOIN projects p ON p.tenant_id = k.tenant_id AND p.id = k.project_id
                 LEFT JOIN service_accounts a ON a.tenant_id = k.tenant_id AND a.id = k.service_account_id
                     AND a.deleted_at IS NULL AND (a.expires_at IS NULL OR a.expires_at > $2)
                 WHERE k.id = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2)
                   AND (k.service_account_id IS NULL OR a.id IS NOT NULL)
                   AND t.status = 'active' AND t.deleted_at IS NULL AND p.deleted_at IS NULL",
                [id, now],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// An admin token that may be used at `now`.
    pub async fn usable_admin_token(&self, id: &AdminTokenId, now: Micros) -> Result<Option<AdminTokenRow>> {
        let id = id.clone();
        self.detached_within(LOOK_UP_DEADLINE, move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT digest, pepper_version, previous_digest, previous_pepper_version, previous_expires_at,
                        role, scope, expires_at
                 FROM admin_tokens WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)",
                [id, now],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// A service account that may be used at `now`.
    pub async fn usable_service_account(
        &self,
        id: &ServiceAccountId,
        now: Micros,
    ) -> Result<Option<UsableServiceAccountRow>> {
        let id = id.clone();
        self.detached_within(LOOK_UP_DEADLINE, move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT a.federated_issuer, a.federated_subject,
                        a.tenant_id, a.project_id, a.role, a.scope, a.expires_at, a.id AS service_account_id,
                        CAST(NULL AS TEXT) AS account_role, CAST(NULL AS TEXT) AS account_scope,
                        CAST(NULL AS BIGINT) AS account_expires_at,
                        t.requests_per_minute, t.tokens_per_minute, t.concurrent_requests,
                        p.requests_per_minute AS project_requests_per_minute,
                        p.tokens_per_minute AS project_tokens_per_minute,
                        p.concurrent_requests AS project_concurrent_requests,
                        CAST(NULL AS BIGINT) AS key_requests_per_minute,
                        CAST(NULL AS BIGINT) AS key_tokens_per_minute,
                        CAST(NULL AS BIGINT) AS key_concurrent_requests,
                        t.model_access AS tenant_model_access, p.model_access AS project_model_access
                 FROM service_accounts a
                 JOIN tenants t ON t.id = a.tenant_id
                 JOIN projects p ON p.tenant_id = a.tenant_id AND p.id = a.project_id
                 WHERE a.id = $1 AND a.deleted_at IS NULL AND (a.expires_at IS NULL OR a.expires_at > $2)
                   AND t.status = 'active' AND t.deleted_at IS NULL AND p.deleted_at IS NULL",
                [id, now],
            ).fetch_optional(c).await)
        })
        .await
    }
}
