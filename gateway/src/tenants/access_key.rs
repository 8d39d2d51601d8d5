//! SigV4 access keys: an id that is public and a secret that signs.

use super::{CreateCredential, found};
use crate::auth::Principal;
use crate::clock::Clock;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::id::{KeyId, ProjectId, TenantId};
use crate::quota::Hierarchy;
use crate::secrets::{SecretText, Secrets};
use crate::store::{NewAccessKey, Store};
use rand::RngExt;
use rand::distr::{Alphanumeric, SampleString};
use std::sync::Arc;

/// Begins every access key id.
const PREFIX: &str = "CKIA";
const ID_CHARS: usize = 20;
const SECRET_CHARS: usize = 40;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A usable access key: whose it is, and what verifies its signatures.
#[derive(Debug)]
pub struct AccessKey {
    /// The caller, if the signature is right.
    pub principal: Principal,
    /// Signs.
    pub secret: SecretText,
}

/// A new access key.
#[derive(Debug)]
pub struct CreatedAccessKey {
    /// Public.
    pub id: KeyId,
    /// `CKIA…`, as SDKs send it.
    pub access_key_id: String,
    /// This is the only time that it is shown.
    pub secret: SecretText,
}

/// Makes an access key of a project.
///
/// # Errors
/// `NotFound` unless the tenant has the project; `Invalid` for an expiry in the past; those of the store.
pub async fn create_access_key(
    store: &Store,
    secrets: &Secrets,
    clock: &Clock,
    (tenant, project): (&TenantId, &ProjectId),
    input: CreateCredential,
) -> Result<CreatedAccessKey> {
    let created_at = input.checked(clock)?;
    let (access_key_id, secret) = generate();
    let sealed_secret = secrets.seal(&secret, &access_key_id)?;
    let (id, expires_at) = (KeyId::of(&access_key_id), input.expires_at);
    let new = NewAccessKey { id: id.clone(), name: input.name.as_str().into(), sealed_secret, created_at, expires_at };
    let (tenant, project) = (tenant.clone(), project.clone());
    let work =
        store.transaction(move |tx| Box::pin(async move { tx.access_key_create(&tenant, &project, &new).await }));
    found(work.await?, "project")?;
    Ok(CreatedAccessKey { id, access_key_id, secret })
}

/// Looks up what a SigV4 signature is verified with.
///
/// # Errors
/// `Unauthenticated(UnknownAccessKey)`, one and the same for an id that is malformed, unknown, revoked or expired, or
/// whose tenant or project is suspended or deleted; `Internal` when the stored secret can't be opened; those of the
/// store.
pub async fn access_key(store: &Store, secrets: &Secrets, clock: &Clock, access_key_id: &str) -> Result<AccessKey> {
    if !is_well_formed(access_key_id) {
        return Err(unknown());
    }
    let id = KeyId::of(access_key_id);
    let row = store.usable_access_key(&id, clock.now()).await?.ok_or_else(unknown)?;
    let secret = secrets.open(&row.sealed_secret, access_key_id)?;
    let principal = Principal {
        tenant: row.owner.tenant_id,
        project: row.owner.project_id,
        key: id,
        limits: Hierarchy::of_tenant(row.owner.limits.into()),
        role: super::stored_role(&row.owner.role)?,
        scope: super::stored_scope(&row.owner.scope)?,
        access: Arc::default(),
    };
    Ok(AccessKey { principal, secret })
}

/// Revokes it: the next look-up finds nothing.
///
/// # Errors
/// `NotFound` unless the tenant has it and it is not revoked; those of the store.
pub async fn revoke_access_key(store: &Store, clock: &Clock, tenant: &TenantId, id: &KeyId) -> Result<()> {
    let (tenant, id, now) = (tenant.clone(), id.clone(), clock.now());
    let work = store.transaction(move |tx| Box::pin(async move { tx.access_key_revoke(&tenant, &id, now).await }));
    found(work.await?, "access key")
}

fn generate() -> (String, SecretText) {
    let mut rng = rand::rng();
    let random = (PREFIX.len()..ID_CHARS).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
    let access_key_id = PREFIX.chars().chain(random).collect();
    (access_key_id, SecretText::new(Alphanumeric.sample_string(&mut rand::rng(), SECRET_CHARS)))
}

fn is_well_formed(access_key_id: &str) -> bool {
    access_key_id.len() == ID_CHARS
        && access_key_id.starts_with(PREFIX)
        && access_key_id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

fn unknown() -> Error {
    Error::new(ErrorKind::Unauthenticated(AuthFailure::UnknownAccessKey), "The access key is not valid.")
}
