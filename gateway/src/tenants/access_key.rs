//! SigV4 access keys: an id that is public and a secret that signs.

use super::credential::{self, Kind, Step, Stored};
use super::{CreateCredential, Credential, Issuer, UpdateCredential};
use crate::audit::{Author, Change};
use crate::auth::Principal;
use crate::clock::{Clock, Micros};
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::id::{KeyId, TenantId};
use crate::quota::Hierarchy;
use crate::secrets::{SecretText, Secrets};
use crate::store::{CredentialFilter, Store};
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
    /// The one before the last rotation, while it is still accepted.
    pub former: Option<SecretText>,
}

/// A new access key.
#[derive(Debug)]
pub struct CreatedAccessKey {
    /// All but its secret.
    pub key: Credential,
    /// `CKIA…`, as SDKs send it.
    pub access_key_id: String,
    /// This is the only time that it is shown.
    pub secret: SecretText,
    sealed: String,
}

/// An access key's new secret.
#[derive(Debug)]
pub struct RotatedAccessKey {
    /// Which key.
    pub id: KeyId,
    /// `CKIA…`, as SDKs send it.
    pub access_key_id: String,
    /// This is the only time that it is shown.
    pub secret: SecretText,
    /// The former secret is accepted until then; `None`: not any more.
    pub former_until: Option<Micros>,
    sealed: String,
}

impl AccessKey {
    /// What may have signed.
    pub fn secrets(&self) -> impl Iterator<Item = &[u8]> {
        [Some(&self.secret), self.former.as_ref()].into_iter().flatten().map(|secret| secret.expose().as_bytes())
    }
}

impl CreatedAccessKey {
    /// A new one; not stored yet.
    ///
    /// # Errors
    /// `Invalid`, naming the field, for a role that is no tenant's, a scope out of bounds, or an expiry in the past or
    /// more than ten years ahead; `Internal` when the secret can't be sealed.
    pub fn generate(
        secrets: &Secrets,
        tenant: &TenantId,
        input: CreateCredential,
        author: &Author,
        now: Micros,
    ) -> Result<CreatedAccessKey> {
        let (access_key_id, secret) = (generate_id(), generate_secret());
        let sealed = secrets.seal(&secret, &access_key_id)?;
        let key = Credential::new(KeyId::of(&access_key_id), tenant, input, author, now)?;
        Ok(CreatedAccessKey { key, access_key_id, secret, sealed })
    }
}

impl RotatedAccessKey {
    /// A new secret for the key `id`; not stored yet. The former one is accepted for `overlap_seconds` more.
    ///
    /// # Errors
    /// `Invalid` for an overlap of more than 30 days; `Internal` when the secret can't be sealed.
    pub fn generate(secrets: &Secrets, id: &KeyId, overlap_seconds: u32, now: Micros) -> Result<RotatedAccessKey> {
        let former_until = credential::former_until(overlap_seconds, now)?;
        let (access_key_id, secret) = (access_key_id(id), generate_secret());
        let sealed = secrets.seal(&secret, &access_key_id)?;
        Ok(RotatedAccessKey { id: id.clone(), access_key_id, secret, former_until, sealed })
    }
}

/// `CKIA…`, as SDKs send it.
pub fn access_key_id(id: &KeyId) -> String {
    id.public().to_owned()
}

/// By its id, revoked or not.
///
/// # Errors
/// `NotFound` unless the tenant has it; those of the store.
pub async fn access_key_of(store: &Store, tenant: &TenantId, id: &KeyId) -> Result<Credential> {
    Kind::AccessKey.found(store.access_key(tenant, id).await?)
}

/// A page of a tenant's, in the order of their making.
///
/// # Errors
/// Those of the store.
pub async fn access_keys(
    store: &Store,
    tenant: &TenantId,
    filter: &CredentialFilter,
    after: Option<&KeyId>,
    limit: i64,
) -> Result<Vec<Credential>> {
    store.access_keys(tenant, filter, after, limit).await?.into_iter().map(Credential::try_from).collect()
}

/// Stores a new access key.
///
/// # Errors
/// `Forbidden`, naming what reaches further than its issuer or its service account; `NotFound` unless the tenant has
/// project and service account; those of the store.
pub async fn create_access_key(change: Change<'_>, issuer: &Issuer, made: &CreatedAccessKey) -> Result<()> {
    credential::create(change, Kind::AccessKey, issuer, &made.key, Stored::Sealed(made.sealed.clone())).await
}

/// Changes an access key, as it is after that. `expected` is the version that the caller has seen.
///
/// # Errors
/// `NotFound` unless the tenant has it and it is not revoked; `Forbidden`, naming the field; `PreconditionFailed`;
/// `Invalid`; those of the store.
pub async fn update_access_key(
    change: Change<'_>,
    issuer: &Issuer,
    owner: (&TenantId, &KeyId),
    update: UpdateCredential,
    expected: Option<i64>,
) -> Result<Credential> {
    credential::alter(change, Kind::AccessKey, issuer, owner, Step::Update(update), expected).await
}

/// Gives an access key its new secret.
///
/// # Errors
/// As those of [`update_access_key`].
pub async fn rotate_access_key(
    change: Change<'_>,
    issuer: &Issuer,
    tenant: &TenantId,
    rotated: &RotatedAccessKey,
    expected: Option<i64>,
) -> Result<Credential> {
    let step = Step::Rotate { secret: Stored::Sealed(rotated.sealed.clone()), former_until: rotated.former_until };
    credential::alter(change, Kind::AccessKey, issuer, (tenant, &rotated.id), step, expected).await
}

/// Revokes it, for good: the next look-up finds nothing. It can still be read.
///
/// # Errors
/// As those of [`update_access_key`].
pub async fn revoke_access_key(
    change: Change<'_>,
    issuer: &Issuer,
    owner: (&TenantId, &KeyId),
    expected: Option<i64>,
) -> Result<Credential> {
    credential::alter(change, Kind::AccessKey, issuer, owner, Step::Revoke, expected).await
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
    let (id, now) = (KeyId::of(access_key_id), clock.now());
    let row = store.usable_access_key(&id, now).await?.ok_or_else(unknown)?;
    let secret = secrets.open(&row.sealed_secret, access_key_id)?;
    let in_time = row.previous_expires_at.is_some_and(|until| now < until);
    let former = row.previous_sealed_secret.filter(|_| in_time);
    let former = former.map(|sealed| secrets.open(&sealed, access_key_id)).transpose()?;
    let principal = Principal {
        tenant: row.owner.tenant_id,
        project: row.owner.project_id,
        key: id,
        limits: Hierarchy::of_tenant(row.owner.limits.into()),
        role: super::stored_role(&row.owner.role)?,
        scope: super::stored_scope(&row.owner.scope)?,
        access: Arc::default(),
    };
    Ok(AccessKey { principal, secret, former })
}

fn generate_id() -> String {
    let mut rng = rand::rng();
    let random = (PREFIX.len()..ID_CHARS).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
    PREFIX.chars().chain(random).collect()
}

fn generate_secret() -> SecretText {
    SecretText::new(Alphanumeric.sample_string(&mut rand::rng(), SECRET_CHARS))
}

fn is_well_formed(access_key_id: &str) -> bool {
    access_key_id.len() == ID_CHARS
        && access_key_id.starts_with(PREFIX)
        && access_key_id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

fn unknown() -> Error {
    Error::new(ErrorKind::Unauthenticated(AuthFailure::UnknownAccessKey), "The access key is not valid.")
}
