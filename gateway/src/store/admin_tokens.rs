//! Operators' tokens, as operators see and change them; they belong to no tenant. Looking one up for its holder is in
//! `keys`.

use super::credentials::DigestColumns;
use super::{Store, Tx};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::AdminTokenId;

/// Most tokens that are looked at when one must remain.
const MOST: i64 = 1_000;

/// An operator's token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OperatorRow {
    /// `adm_` and its public part.
    pub id: AdminTokenId,
    /// For people.
    pub name: String,
    /// The platform's.
    pub role: String,
    /// As JSON.
    pub scope: String,
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

/// Which tokens a list shows.
#[derive(Debug, Clone, Default)]
pub struct OperatorFilter {
    /// Exactly this name.
    pub name: Option<String>,
    /// Made with this credential.
    pub created_by: Option<String>,
    /// Revoked ones too.
    pub with_revoked: bool,
}

impl Store {
    /// A token, revoked or not.
    pub async fn admin_token(&self, id: &AdminTokenId) -> Result<Option<OperatorRow>> {
        let id = id.clone();
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT k.id, k.name, k.role, k.scope, k.created_by, k.version, k.created_at, k.updated_at, k.expires_at,
                        k.revoked_at, k.previous_expires_at, u.last_used_at
                 FROM admin_tokens k LEFT JOIN credential_uses u ON u.credential_id = k.id WHERE k.id = $1",
                [id],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// In the order of their making, beginning after `after`, which must be one of them.
    pub async fn admin_tokens(
        &self,
        filter: &OperatorFilter,
        after: Option<&AdminTokenId>,
        limit: i64,
    ) -> Result<Vec<OperatorRow>> {
        let (filter, after) = (filter.clone(), after.cloned());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT k.id, k.name, k.role, k.scope, k.created_by, k.version, k.created_at, k.updated_at, k.expires_at,
                        k.revoked_at, k.previous_expires_at, u.last_used_at
                 FROM admin_tokens k LEFT JOIN credential_uses u ON u.credential_id = k.id
                 WHERE (CAST($1 AS TEXT) IS NULL OR k.name = $1) AND (CAST($2 AS TEXT) IS NULL OR k.created_by = $2)
                   AND (k.revoked_at IS NULL OR $3)
                   AND (CAST($4 AS TEXT) IS NULL OR (k.created_at, k.id)
                        > (SELECT a.created_at, a.id FROM admin_tokens a WHERE a.id = $4))
                 ORDER BY k.created_at, k.id LIMIT $5",
                [filter.name, filter.created_by, filter.with_revoked, after, limit],
            ).fetch_all(c).await)
        })
        .await
    }
}

impl Tx {
    /// A new token.
    ///
    /// # Errors
    /// `Conflict` when the id is taken.
    pub async fn admin_token_create(&mut self, row: &OperatorRow, secret: &DigestColumns) -> Result<()> {
        on!(self.connection(), c => query(
            "INSERT INTO admin_tokens
                 (id, name, role, scope, created_by, version, created_at, updated_at, expires_at, revoked_at, digest,
                  pepper_version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            [
                &row.id, &row.name, &row.role, &row.scope, &row.created_by, row.version, row.created_at, row.updated_at,
                row.expires_at, row.revoked_at, &secret.digest, secret.pepper_version,
            ],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// A token that is not revoked, for changing it.
    pub async fn admin_token_for_change(&mut self, id: &AdminTokenId) -> Result<Option<OperatorRow>> {
        on!(self.connection(), c => query_as(
            "UPDATE admin_tokens SET version = version WHERE id = $1 AND revoked_at IS NULL
             RETURNING id, name, role, scope, created_by, version, created_at, updated_at, expires_at, revoked_at,
                       previous_expires_at,
                       (SELECT u.last_used_at FROM credential_uses u WHERE u.credential_id = $1) AS last_used_at",
            [id],
        ).fetch_optional(c).await)
        .map_err(super::dialect::classify)
    }

    /// Scopes, as JSON, of the platform administrators' tokens that may be used at `now`, without `but`'s; at most 1,000.
    pub async fn admin_token_scopes(&mut self, but: Option<&AdminTokenId>, now: Micros) -> Result<Vec<String>> {
        on!(self.connection(), c => query_scalar(
            "SELECT scope FROM admin_tokens
             WHERE role = 'platform_admin' AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
               AND (CAST($1 AS TEXT) IS NULL OR id <> $1)
             ORDER BY created_at, id LIMIT $3",
            [but, now, MOST],
        ).fetch_all(c).await)
        .map_err(super::dialect::classify)
    }

    /// Writes all that can change of a token but its secret, and makes its version one more.
    pub async fn admin_token_update(&mut self, row: &OperatorRow, now: Micros) -> Result<()> {
        on!(self.connection(), c => query(
            "UPDATE admin_tokens SET name = $2, role = $3, scope = $4, expires_at = $5, revoked_at = $6,
                    version = version + 1, updated_at = $7
             WHERE id = $1",
            [&row.id, &row.name, &row.role, &row.scope, row.expires_at, row.revoked_at, now],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// Gives a token a new secret, and makes its version one more. The former one is kept until `former_until`, or not at
    /// all; the one before that is forgotten.
    pub async fn admin_token_rotate(
        &mut self,
        id: &AdminTokenId,
        secret: &DigestColumns,
        former_until: Option<Micros>,
        now: Micros,
    ) -> Result<()> {
        on!(self.connection(), c => query(
            "UPDATE admin_tokens
             SET previous_digest = CASE WHEN CAST($2 AS BIGINT) IS NULL THEN NULL ELSE digest END,
                 previous_pepper_version = CASE WHEN CAST($2 AS BIGINT) IS NULL THEN NULL ELSE pepper_version END,
                 previous_expires_at = $2, digest = $3, pepper_version = $4, version = version + 1, updated_at = $5
             WHERE id = $1",
            [id, former_until, &secret.digest, secret.pepper_version, now],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }
}
