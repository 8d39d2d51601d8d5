//! How entries are chained and sealed. Pure.

use crate::secrets::Secrets;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What ties an entry to all before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// SHA-256 in hex, over the digest before it and the record.
    pub digest: String,
    /// HMAC-SHA256 in hex, over number and digest.
    pub seal: String,
}

/// Makes and checks seals. The key is derived from the first master key, which a rotation keeps.
#[derive(Clone)]
pub struct Sealer([u8; 32]);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// With this installation's key.
    pub fn new(secrets: &Secrets) -> Sealer {
        Sealer(secrets.audit_key(secrets.master_key_version()).unwrap_or_default())
    }

    /// The link of entry `seq`, whose text is `record`, after the entry with digest `before` (empty for the first).
    pub fn link(&self, seq: i64, before: &str, record: &str) -> Link {
        let digest = digest(before, record);
        let seal = hex::encode(self.mac(seq, &digest));
        Link { digest, seal }
    }

    /// Whether `seal` is ours for this number and digest.
    pub fn sealed(&self, seq: i64, digest: &str, seal: &str) -> bool {
        let Ok(seal) = hex::decode(seal) else { return false };
        bool::from(self.mac(seq, digest).ct_eq(seal.as_slice()))
    }

    fn mac(&self, seq: i64, digest: &str) -> [u8; 32] {
        let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0) else { return [0; 32] };
        mac.update(&seq.to_be_bytes());
        mac.update(digest.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// An entry's digest. The one before has a fixed length or none, so the two can't run into each other.
pub(super) fn digest(before: &str, record: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(before.as_bytes());
    hash.update([0]);
    hash.update(record.as_bytes());
    hex::encode(hash.finalize())
}
