//! API keys, as administrators see and change them. Looking one up for its holder is in `keys`.

use super::credentials::{CredentialFilter, CredentialRow, DigestColumns};
use super::{Store, Tx};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{KeyId, TenantId};

impl Store {
    /// A tenant's API key, revoked or not.
    pub async fn api_key(&self, tenant: &TenantId, id: &KeyId) -> Result<Option<CredentialRow>> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT k.id, k.tenant_id, k.project_id, k.service_account_id, k.name, k.role, k.scope, k.requests_per_minute,
                        k.tokens_per_minute, k.concurrent_requests, k.created_by, k.version, k.created_at, k.updated_at,
                        k.expires_at, k.revoked_at, k.previous_expires_at, u.last_used_at
                 FROM api_keys k LEFT JOIN credential_uses u ON u.credential_id = k.id
                 WHERE k.tenant_id = $1 AND k.id = $2",
                [tenant, id],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// A tenant's API keys in the order of their making, beginning after `after`, which must be one of them.
    pub async fn api_keys(
        &self,
        tenant: &TenantId,
        filter: &CredentialFilter,
        after: Option<&KeyId>,
        limit: i64,
    ) -> Result<Vec<CredentialRow>> {
        let (tenant, filter, after) = (tenant.clone(), filter.clone(), after.cloned());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT k.id, k.tenant_id, k.project_id, k.service_account_id, k.name, k.role, k.scope, k.requests_per_minute,
                        k.tokens_per_minute, k.concurrent_requests, k.created_by, k.version, k.created_at, k.updated_at,
                        k.expires_at, k.revoked_at, k.previous_expires_at, u.last_used_at
                 FROM api_keys k LEFT JOIN credential_uses u ON u.credential_id = k.id
                 WHERE k.tenant_id = $1 AND (CAST($2 AS TEXT) IS NULL OR k.project_id = $2)
                   AND (CAST($3 AS TEXT) IS NULL OR k.service_account_id = $3)
                   AND (CAST($4 AS TEXT) IS NULL OR k.name = $4) AND (CAST($5 AS TEXT) IS NULL OR k.created_by = $5)
                   AND (k.revoked_at IS NULL OR $6)
                   AND (CAST($7 AS TEXT) IS NULL OR (k.created_at, k.id)
                        > (SELECT a.created_at, a.id FROM api_keys a WHERE a.tenant_id = $1 AND a.id = $7))
                 ORDER BY k.created_at, k.id LIMIT $8",
                [
                    tenant, filter.project, filter.service_account, filter.name, filter.created_by, filter.with_revoked,
                    after, limit,
                ],
            ).fetch_all(c).await)
        })
        .await
    }
}

impl Tx {
    /// A new API key. `false` when the tenant has no such project, or the project no such service account.
    ///
    /// # Errors
    /// `Conflict` when the id is taken.
    pub async fn api_key_create(&mut self, row: &CredentialRow, secret: &DigestColumns) -> Result<bool> {
        on!(self.connection(), c => query(
            "INSERT INTO api_keys
                 (id, tenant_id, project_id, service_account_id, name, role, scope, requests_per_minute,
                  tokens_per_minute, concurrent_requests, created_by, version, created_at, updated_at, expires_at,
                  revoked_at, digest, pepper_version)
             SELECT $3, p.tenant_id, p.id, $4, $5, $6, $7, CAST($8 AS BIGINT), CAST($9 AS BIGINT), CAST($10 AS BIGINT),
                    $11, CAST($12 AS BIGINT), CAST($13 AS BIGINT), CAST($14 AS BIGINT), CAST($15 AS BIGINT),
                    CAST($16 AS BIGINT), $17, CAST($18 AS BIGINT)
             FROM projects p JOIN tenants t ON t.id = p.tenant_id
             WHERE p.tenant_id = $1 AND p.id = $2 AND p.deleted_at IS NULL AND t.deleted_at IS NULL
               AND (CAST($4 AS TEXT) IS NULL OR EXISTS (
                   SELECT 1 FROM service_accounts s
                   WHERE s.tenant_id = $1 AND s.project_id = $2 AND s.id = $4 AND s.deleted_at IS NULL))",
            [
                &row.tenant_id, &row.project_id, &row.id, &row.service_account_id, &row.name, &row.role, &row.scope,
                row.limits.requests_per_minute, row.limits.tokens_per_minute, row.limits.concurrent_requests,
                &row.created_by, row.version, row.created_at, row.updated_at, row.expires_at, row.revoked_at,
                &secret.digest, secret.pepper_version,
            ],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)
    }

    /// A tenant's API key that is not revoked, for changing it: who gets it here first changes it first.
    pub async fn api_key_for_change(&mut self, tenant: &TenantId, id: &KeyId) -> Result<Option<CredentialRow>> {
        on!(self.connection(), c => query_as(
            "UPDATE api_keys SET version = version WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL
             RETURNING id, tenant_id, project_id, service_account_id, name, role, scope, requests_per_minute,
                       tokens_per_minute, concurrent_requests, created_by, version, created_at, updated_at, expires_at,
                       revoked_at, previous_expires_at,
                       (SELECT u.last_used_at FROM credential_uses u WHERE u.credential_id = $2) AS last_used_at",
            [tenant, id],
        ).fetch_optional(c).await)
        .map_err(super::dialect::classify)
    }

    /// Writes all that can change of an API key but its secret, and makes its version one more.
    pub async fn api_key_update(&mut self, row: &CredentialRow, now: Micros) -> Result<()> {
        on!(self.connection(), c => query(
            "UPDATE api_keys SET name = $3, role = $4, scope = $5, requests_per_minute = $6, tokens_per_minute = $7,
                    concurrent_requests = $8, expires_at = $9, revoked_at = $10, version = version + 1, updated_at = $11
             WHERE tenant_id = $1 AND id = $2",
            [
                &row.tenant_id, &row.id, &row.name, &row.role, &row.scope, row.limits.requests_per_minute,
                row.limits.tokens_per_minute, row.limits.concurrent_requests, row.expires_at, row.revoked_at, now,
            ],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// Gives an API key a new secret, and makes its version one more. The former one is kept until `former_until`, or not
    /// at all; the one before that is forgotten.
    pub async fn api_key_rotate(
        &mut self,
        (tenant, id): (&TenantId, &KeyId),
        secret: &DigestColumns,
        former_until: Option<Micros>,
        now: Micros,
    ) -> Result<()> {
        on!(self.connection(), c => query(
            "UPDATE api_keys
             SET previous_digest = CASE WHEN CAST($3 AS BIGINT) IS NULL THEN NULL ELSE digest END,
                    previous_pepper_version = CASE WHEN CAST($3 AS BIGINT) IS NULL THEN NULL ELSE pepper_version END,
                    previous_expires_at = $3, digest = $4, pepper_version = $5, version = version + 1, updated_at = $6
             WHERE tenant_id = $1 AND id = $2",
            [tenant, id, former_until, &secret.digest, secret.pepper_version, now],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }
}
