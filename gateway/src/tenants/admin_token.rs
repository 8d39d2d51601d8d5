//! Operators' tokens: `ckadm_…`, for the admin port. They belong to no tenant and see all.

use super::bearer::Bearer;
use super::{CreateCredential, Name, Role, Scope, authenticate_admin_token, found};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::id::AdminTokenId;
use crate::secrets::{SecretText, Secrets};
use crate::store::{NewAdminToken, Store};
use std::sync::Arc;

const PREFIX: &str = "ckadm";

/// An operator, known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminPrincipal {
    /// The token's public id.
    pub token: AdminTokenId,
    /// An operator's.
    pub role: Role,
    /// Narrows it.
    pub scope: Arc<Scope>,
}

/// A new admin token.
#[derive(Debug)]
pub struct CreatedAdminToken {
    /// Public.
    pub id: AdminTokenId,
    /// `ckadm_…`; this is the only time that it is seen.
    pub text: SecretText,
}

/// Makes an operator's token.
///
/// # Errors
/// `Invalid` for an expiry in the past; those of the store.
pub async fn create_admin_token(
    store: &Store,
    secrets: &Secrets,
    clock: &Clock,
    input: CreateCredential,
) -> Result<CreatedAdminToken> {
    let token = Bearer::generate(PREFIX);
    let id = insert(store, secrets, clock, &token, input).await?;
    Ok(CreatedAdminToken { id, text: token.into_text() })
}

/// Makes a token that the operator brings along valid; one that is valid already stays as it is.
///
/// # Errors
/// `Invalid` when it is not of the form `ckadm_…` or its checksum is wrong; `Conflict` when its id is taken by another
/// token, or it was revoked; those of the store.
pub async fn register_admin_token(
    store: &Store,
    secrets: &Secrets,
    clock: &Clock,
    name: Name,
    text: &str,
) -> Result<AdminTokenId> {
    let token = Bearer::parse(PREFIX, text).ok_or_else(|| {
        Error::invalid("CAPROCK_ADMIN_TOKEN", "An admin token has the form ckadm_<id 12>_<secret 32><crc 6>.")
    })?;
    if let Ok(known) = authenticate_admin_token(store, secrets, clock, text).await {
        return Ok(known.token);
    }
    insert(store, secrets, clock, &token, CreateCredential { name, expires_at: None }).await
}

/// Revokes it: the next authentication is refused.
///
/// # Errors
/// `NotFound` unless it is there and not revoked; those of the store.
pub async fn revoke_admin_token(store: &Store, clock: &Clock, id: &AdminTokenId) -> Result<()> {
    let (id, now) = (id.clone(), clock.now());
    let work = store.transaction(move |tx| Box::pin(async move { tx.admin_token_revoke(&id, now).await }));
    found(work.await?, "admin token")
}

async fn insert(
    store: &Store,
    secrets: &Secrets,
    clock: &Clock,
    token: &Bearer,
    input: CreateCredential,
) -> Result<AdminTokenId> {
    let created_at = input.checked(clock)?;
    let (digest, pepper_version) = token.digest(secrets);
    let (id, expires_at) = (AdminTokenId::of(&token.id), input.expires_at);
    let new = NewAdminToken {
        id: id.clone(),
        name: input.name.as_str().into(),
        digest,
        pepper_version,
        created_at,
        expires_at,
    };
    store.transaction(move |tx| Box::pin(async move { tx.admin_token_create(&new).await })).await?;
    Ok(id)
}
