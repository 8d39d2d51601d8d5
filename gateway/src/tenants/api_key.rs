//! API keys: `ck_…`, sent as bearer token or `x-api-key`.

use super::bearer::Bearer;
use super::{CreateCredential, found};
use crate::auth::Principal;
use crate::clock::Clock;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::id::{KeyId, ProjectId, TenantId};
use crate::quota::Hierarchy;
use crate::secrets::{SecretText, Secrets};
use crate::store::{NewApiKey, Store};
use std::sync::Arc;

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

/// Who presents `presented`.
///
/// # Errors
/// `Unauthenticated(BadKey)`, one and the same for a key that is malformed, unknown, revoked or expired, or whose tenant
/// or project is suspended or deleted; those of the store.
pub async fn authenticate_api_key(
    store: &Store,
    secrets: &Secrets,
    clock: &Clock,
    presented: &str,
) -> Result<Principal> {
    let key = Bearer::parse(PREFIX, presented).ok_or_else(bad_key)?;
    let id = KeyId::of(&key.id);
    let row = store.usable_api_key(&id, clock.now()).await?;
    let matches = key.matches(secrets, row.as_ref().map(|row| (row.digest.as_str(), row.pepper_version)));
    match row {
        Some(row) if matches => Ok(Principal {
            tenant: row.owner.tenant_id,
            project: row.owner.project_id,
            key: id,
            limits: Hierarchy::of_tenant(row.owner.limits.into()),
            role: super::stored_role(&row.owner.role)?,
            scope: super::stored_scope(&row.owner.scope)?,
            access: Arc::default(),
        }),
        Some(_) | None => Err(bad_key()),
    }
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

fn bad_key() -> Error {
    Error::new(ErrorKind::Unauthenticated(AuthFailure::BadKey), "The API key is not valid.")
}
