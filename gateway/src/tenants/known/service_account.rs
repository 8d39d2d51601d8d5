//! Service accounts, as tokens of trusted issuers act as them.

use super::Identity;
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{KeyId, ServiceAccountId};
use crate::store::UsableServiceAccountRow;

/// A service account as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownServiceAccount {
    /// Who acts. Where a key would be named stands `key_` with the account's own id: a token is no key of the database.
    pub identity: Identity,
    /// Issuer, and the issuer's name for the machine.
    federated: Option<(String, String)>,
}

impl KnownServiceAccount {
    /// # Errors
    /// `Internal` for what only a mistake can have stored.
    pub fn read(id: &ServiceAccountId, row: UsableServiceAccountRow) -> Result<KnownServiceAccount> {
        let own = id.as_str().split_once('_').map_or("", |(_, own)| own);
        let identity = Identity::read(KeyId::of(own), row.owner)?;
        Ok(KnownServiceAccount { identity, federated: row.federated_issuer.zip(row.federated_subject) })
    }

    /// Whether it takes tokens of this issuer for this subject, and has not expired.
    pub fn trusts(&self, issuer: &str, subject: &str, now: Micros) -> bool {
        let trusted = self.federated.as_ref().is_some_and(|(own, name)| own == issuer && name == subject);
        trusted && self.identity.is_live(now)
    }
}
