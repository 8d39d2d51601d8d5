//! API keys: `ck_…`, sent as bearer token or `x-api-key`.

use super::bearer::Bearer;
use super::{CreateCredential, found};
use crate::clock::Clock;
use crate::error::Result;
use crate::id::{KeyId, ProjectId, TenantId};
use crate::secrets::{SecretText, Secrets};
use crate::store::{NewApiKey, Store};

const PREFIX: &str = "ck";

/// A new API key.
#[derive(Debug)]
pub struct CreatedApiKey {
    /// Public.
    pub id: KeyId,
    /// `ck_…`; this is the only time that it is seen.
    pub text: SecretText,
}

/// Makes an API key of a project.
///
/// # Errors
/// `NotFound` unless the tenant has the project; `Invalid` for an expiry in the past; those of the store.
pub async fn create_api_key(
    store: &Store,
    secrets: &Secrets,
    clock: &Clock,
    (tenant, project): (&TenantId, &ProjectId),
    input: CreateCredential,
) -> Result<CreatedApiKey> {
    let created_at = input.checked(clock)?;
    let key = Bearer::generate(PREFIX);
    let (digest, pepper_version) = key.digest(secrets);
    let (id, expires_at) = (KeyId::of(&key.id), input.expires_at);
    let new =
        NewApiKey { id: id.clone(), name: input.name.as_str().into(), digest, pepper_version, created_at, expires_at };
    let (tenant, project) = (tenant.clone(), project.clone());
    let work = store.transaction(move |tx| Box::pin(async move { tx.api_key_create(&tenant, &project, &new).await }));
    found(work.await?, "project")?;
    Ok(CreatedApiKey { id, text: key.into_text() })
}

/// Revokes it: the next authentication is refused.
///
/// # Errors
/// `NotFound` unless the tenant has it and it is not revoked; those of the store.
pub async fn revoke_api_key(store: &Store, clock: &Clock, tenant: &TenantId, id: &KeyId) -> Result<()> {
    let (tenant, id, now) = (tenant.clone(), id.clone(), clock.now());
    let work = store.transaction(move |tx| Box::pin(async move { tx.api_key_revoke(&tenant, &id, now).await }));
    found(work.await?, "API key")
}
