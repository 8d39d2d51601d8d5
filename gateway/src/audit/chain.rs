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
    /// `v<version of the master key>.<HMAC-SHA256 in hex, over number and digest>`
    pub seal: String,
}

/// Makes and checks seals. Each version of the master key has a seal key of its own, so seals outlive a rotation for as
/// long as the old key is loaded.
#[derive(Clone)]
pub struct Sealer {
    /// By version, the one that seals now last.
    keys: Vec<(u32, [u8; 32])>,
}

/// What a seal turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// Ours, for this number and digest.
    Ours,
    /// Not made with the key that it names, or for something else.
    Not,
    /// It names a version of the master key that is not loaded.
    UnknownKey(u32),
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// With this installation's keys.
    pub fn new(secrets: &Secrets) -> Sealer {
        Sealer { keys: secrets.audit_keys() }
    }

    /// The link of entry `seq`, whose text is `record`, after the entry with digest `before` (empty for the first).
    pub fn link(&self, seq: i64, before: &str, record: &str) -> Link {
        let digest = digest(before, record);
        let seal = self.keys.last().map(|(version, key)| seal(*version, key, seq, &digest)).unwrap_or_default();
        Link { digest, seal }
    }

    /// Whether `seal` is ours for this number and digest.
    pub fn check(&self, seq: i64, digest: &str, given: &str) -> Sealed {
        let Some(version) = version_of(given) else { return Sealed::Not };
        let Some((_, key)) = self.keys.iter().find(|(known, _)| *known == version) else {
            return Sealed::UnknownKey(version);
        };
        // As text, not as bytes: another spelling of the same bytes is a change, too.
        let ours = seal(version, key, seq, digest);
        if bool::from(ours.as_bytes().ct_eq(given.as_bytes())) { Sealed::Ours } else { Sealed::Not }
    }
}

fn version_of(seal: &str) -> Option<u32> {
    seal.strip_prefix('v')?.split_once('.')?.0.parse().ok()
}

fn seal(version: u32, key: &[u8; 32], seq: i64, digest: &str) -> String {
    // A MAC takes a key of any length.
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key) else { return String::new() };
    mac.update(&seq.to_be_bytes());
    mac.update(digest.as_bytes());
    format!("v{version}.{}", hex::encode(mac.finalize().into_bytes()))
}

/// An entry's digest. The one before has a fixed length or none, so the two can't run into each other.
pub(super) fn digest(before: &str, record: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(before.as_bytes());
    hash.update([0]);
    hash.update(record.as_bytes());
    hex::encode(hash.finalize())
}

#[cfg(test)]
impl Sealer {
    /// With these keys.
    pub(super) fn with(keys: &[(u32, [u8; 32])]) -> Sealer {
        Sealer { keys: keys.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_outlives_a_rotation_while_its_key_is_loaded() {
        let (old, new) = (Sealer::with(&[(1, [1; 32])]), Sealer::with(&[(2, [2; 32])]));
        let both = Sealer::with(&[(1, [1; 32]), (2, [2; 32])]);
        let link = old.link(7, "before", "record");
        assert_eq!(both.check(7, &link.digest, &link.seal), Sealed::Ours);
        assert_eq!(new.check(7, &link.digest, &link.seal), Sealed::UnknownKey(1));
        let link = both.link(7, "before", "record");
        assert!(link.seal.starts_with("v2."), "the newest key seals");
        assert_eq!(old.check(7, &link.digest, &link.seal), Sealed::UnknownKey(2));
    }

    #[test]
    fn a_seal_is_for_its_number_its_digest_its_version_and_its_spelling() {
        let sealer = Sealer::with(&[(1, [1; 32]), (2, [2; 32])]);
        let Link { digest, seal } = sealer.link(7, "", "record");
        assert_eq!(sealer.check(7, &digest, &seal), Sealed::Ours);
        assert_eq!(sealer.check(8, &digest, &seal), Sealed::Not);
        assert_eq!(sealer.check(7, &super::digest("", "other"), &seal), Sealed::Not);
        let hex = &seal["v2.".len()..];
        for other in [
            String::new(),
            hex.to_owned(),
            format!("v1.{hex}"),
            format!("v02.{hex}"),
            format!("v+2.{hex}"),
            format!("v2.{}", hex.to_uppercase()),
            format!("v2.{}", &hex[2..]),
            "v2.".to_owned(),
        ] {
            assert_eq!(sealer.check(7, &digest, &other), Sealed::Not, "{other}");
        }
    }
}
