//! When credentials were last used, and secrets that a newer pepper or master key has taken over. Both are written in
//! batches, long after the use, and neither is a change that anybody would audit.

use super::{Store, Tx};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{AdminTokenId, KeyId, TenantId};

impl Store {
    /// When a credential was last used, as far as that is written down.
    pub async fn credential_last_used(&self, credential_id: &str) -> Result<Option<Micros>> {
        let credential_id = credential_id.to_owned();
        self.detached(move |db| async move {
            on!(db.read(), c => query_scalar(
                "SELECT last_used_at FROM credential_uses WHERE credential_id = $1",
                [credential_id],
            ).fetch_optional(c).await)
        })
        .await
    }
}

impl Tx {
    /// Notes a use, unless a later one is noted. Callers note several in the order of their ids: two gateways that took
    /// the rows in different orders would wait for each other.
    pub async fn credential_used(&mut self, credential_id: &str, at: Micros) -> Result<()> {
        on!(self.connection(), c => query(
            "INSERT INTO credential_uses (credential_id, last_used_at) VALUES ($1, $2)
             ON CONFLICT (credential_id) DO UPDATE SET last_used_at = excluded.last_used_at
             WHERE credential_uses.last_used_at < excluded.last_used_at",
            [credential_id, at],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// Puts the digest under a newer pepper in the place of `old`; nothing happens when that is not the key's any more.
    pub async fn api_key_redigest(
        &mut self,
        tenant: &TenantId,
        id: &KeyId,
        old: &str,
        (new, pepper_version): (&str, i64),
    ) -> Result<()> {
        on!(self.connection(), c => query(
            "UPDATE api_keys SET digest = $4, pepper_version = $5 WHERE tenant_id = $1 AND id = $2 AND digest = $3",
            [tenant, id, old, new, pepper_version],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// As [`Tx::api_key_redigest`].
    pub async fn admin_token_redigest(
        &mut self,
        id: &AdminTokenId,
        old: &str,
        (new, pepper_version): (&str, i64),
    ) -> Result<()> {
        on!(self.connection(), c => query(
            "UPDATE admin_tokens SET digest = $3, pepper_version = $4 WHERE id = $1 AND digest = $2",
            [id, old, new, pepper_version],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// Puts the secret, sealed under a newer master key, in the place of `old`; nothing happens when that is not the
    /// key's any more.
    pub async fn access_key_reseal(&mut self, tenant: &TenantId, id: &KeyId, old: &str, new: &str) -> Result<()> {
        on!(self.connection(), c => query(
            "UPDATE access_keys SET sealed_secret = $4 WHERE tenant_id = $1 AND id = $2 AND sealed_secret = $3",
            [tenant, id, old, new],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }
}
