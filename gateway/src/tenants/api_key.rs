//! API keys: `ck_…`, sent as bearer token or `x-api-key`.

use super::bearer::Bearer;
use super::credential_changes::{self as changes, Step, Stored};
use super::expiry::former_until;
use super::{CreateCredential, Credential, Issuer, KeyKind, UpdateCredential};
use crate::audit::{Author, Change};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{KeyId, TenantId};
use crate::secrets::{SecretText, Secrets};
use crate::store::{CredentialFilter, DigestColumns, Store};

const PREFIX: &str = "ck";

/// A new API key.
#[derive(Debug)]
pub struct CreatedApiKey {
    /// All but its secret.
    pub key: Credential,
    /// `ck_…`; this is the only time that it is seen.
    pub text: SecretText,
    digest: DigestColumns,
}

/// An API key's new secret.
#[derive(Debug)]
pub struct RotatedApiKey {
    /// Which key.
    pub id: KeyId,
    /// `ck_…`; this is the only time that it is seen.
    pub text: SecretText,
    /// The former secret is accepted until then; `None`: not any more.
    pub former_until: Option<Micros>,
    digest: DigestColumns,
}

impl CreatedApiKey {
    /// A new one; not stored yet.
    ///
    /// # Errors
    /// `Invalid`, naming the field, for a role that is no tenant's, a scope out of bounds, or an expiry in the past or
    /// more than ten years ahead.
    pub fn generate(
        secrets: &Secrets,
        tenant: &TenantId,
        input: CreateCredential,
        author: &Author,
        now: Micros,
    ) -> Result<CreatedApiKey> {
        let bearer = Bearer::generate(PREFIX);
        let key = Credential::new(KeyId::of(&bearer.id), tenant, input, author, now)?;
        Ok(CreatedApiKey { key, digest: bearer.digest(secrets), text: bearer.into_text() })
    }
}

impl RotatedApiKey {
    /// A new secret for the key `id`; not stored yet. The former one is accepted for `overlap_seconds` more.
    ///
    /// # Errors
    /// `Invalid` for an overlap of more than 30 days.
    pub fn generate(secrets: &Secrets, id: &KeyId, overlap_seconds: u32, now: Micros) -> Result<RotatedApiKey> {
        let former_until = former_until(overlap_seconds, now)?;
        let bearer = Bearer::renew(PREFIX, id.public());
        Ok(RotatedApiKey { id: id.clone(), digest: bearer.digest(secrets), text: bearer.into_text(), former_until })
    }
}

/// By its id, revoked or not.
///
/// # Errors
/// `NotFound` unless the tenant has it; those of the store.
pub async fn api_key(store: &Store, tenant: &TenantId, id: &KeyId) -> Result<Credential> {
    KeyKind::ApiKey.found(store.api_key(tenant, id).await?)
}

/// A page of a tenant's, in the order of their making.
///
/// # Errors
/// Those of the store.
pub async fn api_keys(
    store: &Store,
    tenant: &TenantId,
    filter: &CredentialFilter,
    after: Option<&KeyId>,
    limit: i64,
) -> Result<Vec<Credential>> {
    store.api_keys(tenant, filter, after, limit).await?.into_iter().map(Credential::try_from).collect()
}

/// Stores a new API key.
///
/// # Errors
/// `Forbidden`, naming what reaches further than its issuer or its service account; `NotFound` unless the tenant has
/// project and service account; those of the store.
pub async fn create_api_key(change: Change<'_>, issuer: &Issuer, made: &CreatedApiKey) -> Result<()> {
    changes::create(change, KeyKind::ApiKey, issuer, &made.key, Stored::Digest(made.digest.clone())).await
}

/// Changes an API key, as it is after that. `expected` is the version that the caller has seen. What is as asked for
/// already gets no new version.
///
/// # Errors
/// `NotFound` unless the tenant has it and it is not revoked; `Forbidden`, naming the field; `PreconditionFailed`;
/// `Invalid`; those of the store.
pub async fn update_api_key(
    change: Change<'_>,
    issuer: &Issuer,
    owner: (&TenantId, &KeyId),
    update: UpdateCredential,
    expected: Option<i64>,
) -> Result<Credential> {
    changes::alter(change, KeyKind::ApiKey, issuer, owner, Step::Update(update), expected).await
}

/// Gives an API key its new secret.
///
/// # Errors
/// As those of [`update_api_key`].
pub async fn rotate_api_key(
    change: Change<'_>,
    issuer: &Issuer,
    tenant: &TenantId,
    rotated: &RotatedApiKey,
    expected: Option<i64>,
) -> Result<Credential> {
    let step = Step::Rotate { secret: Stored::Digest(rotated.digest.clone()), former_until: rotated.former_until };
    changes::alter(change, KeyKind::ApiKey, issuer, (tenant, &rotated.id), step, expected).await
}

/// Revokes it, for good: the next authentication is refused. It can still be read.
///
/// # Errors
/// As those of [`update_api_key`].
pub async fn revoke_api_key(
    change: Change<'_>,
    issuer: &Issuer,
    owner: (&TenantId, &KeyId),
    expected: Option<i64>,
) -> Result<Credential> {
    changes::alter(change, KeyKind::ApiKey, issuer, owner, Step::Revoke, expected).await
}
