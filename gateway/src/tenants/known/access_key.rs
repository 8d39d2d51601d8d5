//! SigV4 access keys, checked. Whether the signature is right is for `auth`, which has the request.

use super::Identity;
use crate::auth::Principal;
use crate::clock::{Clock, Micros};
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::id::KeyId;
use crate::secrets::{SecretText, Secrets};
use crate::store::{AccessKeyRow, Store};
use crate::tenants::access_key::is_well_formed;

/// An access key id as SDKs send it: well-formed, nothing more.
#[derive(Debug, Clone, Copy)]
pub struct AccessKeyId<'a>(&'a str);

/// An access key as the store has it. Its secrets stay sealed until they are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAccessKey {
    /// Whose it is.
    pub identity: Identity,
    access_key_id: String,
    sealed: String,
    /// Until it ends, the secret from before the last rotation is as good.
    previous: Option<(String, Micros)>,
}

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

impl AccessKey {
    /// What may have signed.
    #[cfg(test)]
    pub(in crate::tenants) fn secrets(&self) -> impl Iterator<Item = &[u8]> {
        [Some(&self.secret), self.former.as_ref()].into_iter().flatten().map(|secret| secret.expose().as_bytes())
    }
}

impl<'a> AccessKeyId<'a> {
    /// # Errors
    /// `Unauthenticated(UnknownAccessKey)`
    pub fn parse(text: &'a str) -> Result<AccessKeyId<'a>> {
        if is_well_formed(text) { Ok(AccessKeyId(text)) } else { Err(unknown()) }
    }

    /// The credential's id.
    pub fn id(self) -> KeyId {
        KeyId::of(self.0)
    }

    /// Who signs, if a signature with one of its secrets is right.
    ///
    /// # Errors
    /// `Unauthenticated(UnknownAccessKey)`, one and the same for one that is unknown or has expired.
    pub fn identity(self, now: Micros, known: Option<&KnownAccessKey>) -> Result<&Identity> {
        known.map(|known| &known.identity).filter(|identity| identity.is_live(now)).ok_or_else(unknown)
    }
}

impl KnownAccessKey {
    /// # Errors
    /// `Internal` for what only a mistake can have stored.
    pub fn read(id: AccessKeyId<'_>, row: AccessKeyRow) -> Result<KnownAccessKey> {
        Ok(KnownAccessKey {
            identity: Identity::read(id.id(), row.owner)?,
            access_key_id: id.0.to_owned(),
            sealed: row.sealed_secret,
            previous: row.previous_sealed_secret.zip(row.previous_expires_at),
        })
    }

    /// What may have signed: the secret, and the former one while that is accepted.
    ///
    /// # Errors
    /// `Internal` when one can't be opened.
    pub fn secrets(&self, secrets: &Secrets, now: Micros) -> Result<(SecretText, Option<SecretText>)> {
        let former = self.previous.as_ref().filter(|(_, until)| *until > now);
        let former = former.map(|(sealed, _)| secrets.open(sealed, &self.access_key_id)).transpose()?;
        Ok((secrets.open(&self.sealed, &self.access_key_id)?, former))
    }

    /// The sealed text as it is stored, and what to store in its place, when a newer master key is there.
    ///
    /// # Errors
    /// `Internal` when it can't be opened.
    pub fn reseal(&self, secrets: &Secrets) -> Result<Option<(String, String)>> {
        let resealed = secrets.reseal(&self.sealed, &self.access_key_id)?;
        Ok(resealed.map(|new| (self.sealed.clone(), new)))
    }
}

/// Looks up what a SigV4 signature is verified with, by a look-up of its own: for what runs outside of a gateway.
///
/// # Errors
/// `Unauthenticated(UnknownAccessKey)`, one and the same for an id that is malformed, unknown, revoked or expired, or
/// whose tenant or project is suspended or deleted; `Internal` when the stored secret can't be opened; those of the
/// store.
pub async fn access_key(store: &Store, secrets: &Secrets, clock: &Clock, access_key_id: &str) -> Result<AccessKey> {
    let (id, now) = (AccessKeyId::parse(access_key_id)?, clock.now());
    let row = store.usable_access_key(&id.id(), now).await?.ok_or_else(unknown)?;
    let known = KnownAccessKey::read(id, row)?;
    let (secret, former) = known.secrets(secrets, now)?;
    Ok(AccessKey { principal: known.identity.principal, secret, former })
}

fn unknown() -> Error {
    Error::new(ErrorKind::Unauthenticated(AuthFailure::UnknownAccessKey), "The access key is not valid.")
}
