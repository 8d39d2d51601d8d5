//! The text of bearer credentials: `<prefix>_<id 12>_<secret 32><crc 6>`, all base 62.
//!
//! The CRC-32 of everything before it lets a scanner, and us, tell a typing mistake from a key without any look-up. The
//! secret has 190 random bits, so a fast keyed digest is as good as a slow one, and can't be used to exhaust us.

use crate::clock::Micros;
use crate::secrets::{SecretText, Secrets};
use crate::store::{DigestColumns, FormerDigest};
use rand::distr::{Alphanumeric, SampleString};
use subtle::ConstantTimeEq;

const ID_CHARS: usize = 12;
const SECRET_CHARS: usize = 32;
const CRC_CHARS: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A well-formed bearer credential. Well-formed is not valid.
#[derive(Debug)]
pub(super) struct Bearer {
    /// Public.
    pub(super) id: String,
    secret: SecretText,
    text: SecretText,
}

impl Bearer {
    /// A fresh one.
    pub(super) fn generate(prefix: &str) -> Bearer {
        Bearer::renew(prefix, &Alphanumeric.sample_string(&mut rand::rng(), ID_CHARS))
    }

    /// A fresh secret for a credential whose public part is `id`.
    pub(super) fn renew(prefix: &str, id: &str) -> Bearer {
        let secret = Alphanumeric.sample_string(&mut rand::rng(), SECRET_CHARS);
        let before = format!("{prefix}_{id}_{secret}");
        let text = SecretText::new(format!("{before}{}", crc(&before)));
        Bearer { id: id.to_owned(), secret: SecretText::new(secret), text }
    }

    /// From what a caller presents. `None` unless every part has its length and alphabet and the checksum fits.
    pub(super) fn parse(prefix: &str, text: &str) -> Option<Bearer> {
        let rest = text.strip_prefix(prefix)?.strip_prefix('_')?;
        let well_formed = rest.len() == ID_CHARS + 1 + SECRET_CHARS + CRC_CHARS
            && rest
                .bytes()
                .enumerate()
                .all(|(at, b)| if at == ID_CHARS { b == b'_' } else { b.is_ascii_alphanumeric() });
        if !well_formed {
            return None;
        }
        let (before, given) = text.split_at(text.len() - CRC_CHARS);
        if crc(before) != given {
            return None;
        }
        let (id, secret) = before[prefix.len() + 1..].split_once('_')?;
        Some(Bearer {
            id: id.to_owned(),
            secret: SecretText::new(secret.to_owned()),
            text: SecretText::new(text.to_owned()),
        })
    }

    /// The whole text, to be shown once.
    pub(super) fn into_text(self) -> SecretText {
        self.text
    }

    #[cfg(test)]
    pub(super) fn text_for_tests(&self) -> &str {
        self.text.expose()
    }

    /// What is stored.
    pub(super) fn digest(&self, secrets: &Secrets) -> DigestColumns {
        let pepper_version = secrets.pepper_version();
        let digest = secrets.digest(pepper_version, &self.id, self.secret.expose());
        DigestColumns { digest: hex::encode(digest.unwrap_or_default()), pepper_version }
    }

    /// Whether it is what was stored. Without anything stored the same work is done, so time tells nothing.
    pub(super) fn matches(&self, secrets: &Secrets, stored: Option<(&str, i64)>) -> bool {
        let (text, version) = stored.unwrap_or(("", secrets.pepper_version()));
        let mut expected = [0; 32];
        let stored_well = hex::decode_to_slice(text, &mut expected).is_ok();
        let Some(given) = secrets.digest(version, &self.id, self.secret.expose()) else { return false };
        bool::from(given.ct_eq(&expected)) && stored_well
    }

    /// The same, where the secret before the last rotation is as good as the present one until its end. Both are compared
    /// whatever the first comparison says.
    pub(super) fn matches_either(
        &self,
        secrets: &Secrets,
        stored: Option<(&str, i64)>,
        former: Option<&FormerDigest>,
        now: Micros,
    ) -> bool {
        let former = former.and_then(|former| accepted(former, now));
        self.matches(secrets, stored) | self.matches(secrets, former)
    }
}

/// A former secret's digest and pepper, until its end.
fn accepted(former: &FormerDigest, now: Micros) -> Option<(&str, i64)> {
    let in_time = former.previous_expires_at.is_some_and(|until| now < until);
    former.previous_digest.as_deref().zip(former.previous_pepper_version).filter(|_| in_time)
}

fn crc(before: &str) -> String {
    let mut left = crc32fast::hash(before.as_bytes());
    let mut digits = [b'0'; CRC_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(left % 62) as usize];
        left /= 62;
    }
    digits.iter().map(|&digit| char::from(digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_generated_key_has_its_published_shape_and_parses() {
        let key = Bearer::generate("ck");
        let text = key.text.expose().to_owned();
        assert_eq!(text.len(), "ck_".len() + 12 + 1 + 32 + 6);
        let parsed = Bearer::parse("ck", &text).unwrap();
        assert_eq!((parsed.id, parsed.secret.expose()), (key.id, key.secret.expose()));
        assert!(Bearer::parse("ckadm", &text).is_none());
    }

    #[test]
    fn the_checksum_is_crc_32_in_base_62() {
        // 0xCBF43926 is the algorithm's published check value for this text.
        let value = "3jZRME"
            .bytes()
            .fold(0u64, |sum, b| sum * 62 + BASE62.iter().position(|&digit| digit == b).unwrap() as u64);
        assert_eq!((crc("123456789").as_str(), value), ("3jZRME", 0xCBF4_3926));
    }

    #[test]
    fn any_single_changed_character_is_noticed() {
        let text = Bearer::generate("ck").into_text();
        for at in 0..text.expose().len() {
            for with in ["a", "_", "é", ""] {
                let mut changed = text.expose().to_owned();
                changed.replace_range(at..=at, with);
                assert_eq!(Bearer::parse("ck", &changed).is_some(), changed == text.expose(), "{changed}");
            }
        }
    }

    #[test]
    fn a_former_secret_is_accepted_until_its_end_and_the_present_one_all_along() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::load_or_create_with(dir.path(), |_| None).unwrap();
        let old = Bearer::generate("ck");
        let new = Bearer::renew("ck", &old.id);
        assert!(old.id == new.id && old.secret.expose() != new.secret.expose());
        let stored = new.digest(&secrets);
        let stored = Some((stored.digest.as_str(), stored.pepper_version));
        let DigestColumns { digest, pepper_version } = old.digest(&secrets);
        let former = FormerDigest {
            previous_digest: Some(digest),
            previous_pepper_version: Some(pepper_version),
            previous_expires_at: Some(10),
        };
        let none =
            FormerDigest { previous_digest: None, previous_pepper_version: None, previous_expires_at: Some(i64::MAX) };
        for (key, former, now, expected) in [
            (&old, &former, 9, true),
            (&old, &former, 10, false),
            (&old, &none, 9, false),
            (&new, &former, 9, true),
            (&new, &former, 10, true),
            (&new, &none, 10, true),
        ] {
            assert_eq!(key.matches_either(&secrets, stored, Some(former), now), expected, "{now}");
        }
        let stranger = Bearer::renew("ck", &old.id);
        assert!(!stranger.matches_either(&secrets, stored, Some(&former), 9));
        assert!(!old.matches_either(&secrets, None, None, 9));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(ck_)?\\PC{0,60}") {
            let _ = Bearer::parse("ck", &text);
        }
    }
}
