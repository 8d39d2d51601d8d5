//! SigV4 access keys: an id that is public and a secret that signs.

use super::{CreateCredential, found};
use crate::clock::Clock;
use crate::error::Result;
use crate::id::{KeyId, ProjectId, TenantId};
use crate::secrets::{SecretText, Secrets};
use crate::store::{NewAccessKey, Store};
use rand::RngExt;
use rand::distr::{Alphanumeric, SampleString};

/// Begins every access key id.
const PREFIX: &str = "CKIA";
const ID_CHARS: usize = 20;
const SECRET_CHARS: usize = 40;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

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

pub(super) fn is_well_formed(access_key_id: &str) -> bool {
    access_key_id.len() == ID_CHARS
        && access_key_id.starts_with(PREFIX)
        && access_key_id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}
