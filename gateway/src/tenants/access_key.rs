//! SigV4 access keys: an id that is public and a secret that signs.

use super::credential_changes::{self as changes, Step, Stored};
use super::expiry::former_until;
use super::{CreateCredential, Credential, Issuer, KeyKind, UpdateCredential};
use crate::audit::{Author, Change};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{KeyId, TenantId};
use crate::secrets::{SecretText, Secrets};
use crate::store::{CredentialFilter, Store};
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
        let former_until = former_until(overlap_seconds, now)?;
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
    KeyKind::AccessKey.found(store.access_key(tenant, id).await?)
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
    changes::create(change, KeyKind::AccessKey, issuer, &made.key, Stored::Sealed(made.sealed.clone())).await
}

/// Changes an access key, as it is after that. `expected` is the version that the caller has seen. What is as asked for
/// already gets no new version.
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
    changes::alter(change, KeyKind::AccessKey, issuer, owner, Step::Update(update), expected).await
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
    changes::alter(change, KeyKind::AccessKey, issuer, (tenant, &rotated.id), step, expected).await
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
    changes::alter(change, KeyKind::AccessKey, issuer, owner, Step::Revoke, expected).await
}

fn generate_id() -> String {
    let mut rng = rand::rng();
    let random = (PREFIX.len()..ID_CHARS).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
    PREFIX.chars().chain(random).collect()
}

fn generate_secret() -> SecretText {
    SecretText::new(Alphanumeric.sample_string(&mut rand::rng(), SECRET_CHARS))
}

pub(super) fn is_well_formed(access_key_id: &str) -> bool {
    access_key_id.len() == ID_CHARS
        && access_key_id.starts_with(PREFIX)
        && access_key_id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}
