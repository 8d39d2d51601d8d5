//! API keys, checked.

use super::{Digests, Identity, Redigest};
use crate::auth::Principal;
use crate::clock::{Clock, Micros};
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::id::KeyId;
use crate::secrets::Secrets;
use crate::store::{ApiKeyRow, Store};
use crate::tenants::bearer::Bearer;

const PREFIX: &str = "ck";

/// What a caller presents: well-formed, nothing more.
#[derive(Debug)]
pub struct PresentedApiKey(Bearer);

/// An API key as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownApiKey {
    /// Whose it is.
    pub identity: Identity,
    digests: Digests,
}

impl PresentedApiKey {
    /// # Errors
    /// `Unauthenticated(BadKey)`
    pub fn parse(text: &str) -> Result<PresentedApiKey> {
        Bearer::parse(PREFIX, text).map(PresentedApiKey).ok_or_else(bad_key)
    }

    /// Its public id.
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.0.id)
    }

    /// Compares it with what is known under its id.
    ///
    /// # Errors
    /// `Unauthenticated(BadKey)`, one and the same for one that is unknown, has another secret, or has expired. Unknown
    /// takes as long as wrong.
    pub fn verify<'k>(&self, secrets: &Secrets, now: Micros, known: Option<&'k KnownApiKey>) -> Result<&'k Identity> {
        let Some(known) = known else {
            self.0.matches(secrets, None);
            return Err(bad_key());
        };
        let fits = known.digests.fit(secrets, now, &self.0);
        if fits && known.identity.is_live(now) { Ok(&known.identity) } else { Err(bad_key()) }
    }

    /// What to store in the place of the digest, when a newer pepper is there.
    pub fn redigest(&self, secrets: &Secrets, known: &KnownApiKey) -> Option<Redigest> {
        known.digests.redigest(secrets, &self.0)
    }
}

impl KnownApiKey {
    /// # Errors
    /// `Internal` for what only a mistake can have stored.
    pub fn read(id: &KeyId, row: ApiKeyRow) -> Result<KnownApiKey> {
        let digests = Digests { current: (row.digest, row.pepper_version), former: row.former };
        Ok(KnownApiKey { identity: Identity::read(id.clone(), row.owner)?, digests })
    }
}

/// Who presents `presented`, by a look-up of its own: for what runs outside of a gateway.
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
    let presented = PresentedApiKey::parse(presented)?;
    let (id, now) = (presented.id(), clock.now());
    let known = store.usable_api_key(&id, now).await?.map(|row| KnownApiKey::read(&id, row)).transpose()?;
    presented.verify(secrets, now, known.as_ref()).map(|identity| identity.principal.clone())
}

fn bad_key() -> Error {
    Error::new(ErrorKind::Unauthenticated(AuthFailure::BadKey), "The API key is not valid.")
}
