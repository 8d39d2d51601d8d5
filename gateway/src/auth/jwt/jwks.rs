//! An issuer's published keys (RFC 7517), of which only those are kept that can verify a signature.

use super::Refusal;
use crate::config::JwtAlgorithm;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::crypto::rust_crypto;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// Most keys of a set.
const MAX_KEYS: usize = 64;
/// Less can be broken, and the library takes no more.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The usable keys of one issuer.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Arc<Key>>,
}

/// A public key.
#[derive(Debug)]
pub(super) struct Key {
    kid: Option<String>,
    kind: Kind,
    /// The one algorithm it is for, when it says so.
    algorithm: Option<JwtAlgorithm>,
    decoding: DecodingKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

/// Members that we read; a key may have others.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private half.
    d: Option<Value>,
}

impl KeySet {
    /// Keys that can't be used are dropped, with a line in the log: one of them must not cost the others.
    ///
    /// # Errors
    /// What is wrong with the set as a whole.
    pub(super) fn parse(issuer: &str, bytes: &[u8]) -> Result<KeySet, String> {
        let Jwks { keys: published } = serde_json::from_slice(bytes).map_err(|error| format!("no JWKS: {error}"))?;
        if published.len() > MAX_KEYS {
            return Err(format!("{} keys, and {MAX_KEYS} is the limit", published.len()));
        }
        let mut keys: Vec<Arc<Key>> = Vec::new();
        for (at, jwk) in published.into_iter().enumerate() {
            let key = Key::read(jwk).and_then(|key| {
                let taken = key.kid.is_some() && keys.iter().any(|other| other.kid == key.kid);
                if taken { Err("another has its kid".into()) } else { Ok(key) }
            });
            match key {
                Ok(key) => keys.push(Arc::new(key)),
                // Not louder: many issuers publish an encryption key, and this is said at every refresh.
                Err(why) => tracing::debug!(issuer, at, why, "a published key is not used"),
            }
        }
        if keys.is_empty() {
            tracing::warn!(issuer, "the issuer publishes no key that can be used; all its tokens are refused");
        }
        Ok(KeySet { keys })
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key of this name; without a name the only key.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: JwtAlgorithm) -> Result<Arc<Key>, Refusal> {
        let key = match (kid, self.keys.as_slice()) {
            (Some(kid), keys) => keys.iter().find(|key| key.kid.as_deref() == Some(kid)),
            (None, [only]) => Some(only),
            (None, []) => None,
            (None, _) => return Err(Refusal::KeyNotNamed),
        };
        let key = key.ok_or(Refusal::UnknownKey)?;
        if key.is_for(algorithm) { Ok(key.clone()) } else { Err(Refusal::KeyMisfit) }
    }
}

impl Key {
    fn read(jwk: Value) -> Result<Key, String> {
        let jwk: Jwk = serde_json::from_value(jwk).map_err(|error| error.to_string())?;
        if jwk.d.is_some() {
            return Err("it was published with its private half".into());
        }
        if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return Err("its use is not sig".into());
        }
        if jwk.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Err("its key_ops are without verify".into());
        }
        let algorithm = match jwk.alg.as_deref() {
            Some(name) => Some(JwtAlgorithm::parse(name).ok_or("its alg is none of ours")?),
            None => None,
        };
        let (kind, decoding) = match jwk.kty.as_str() {
            "RSA" => (Kind::Rsa, jwk.rsa()?),
            "EC" => jwk.ec()?,
            "OKP" => (Kind::Ed25519, jwk.ed25519()?),
            _ => return Err("its kty is none of ours".into()),
        };
        let key = Key { kid: jwk.kid, kind, algorithm, decoding };
        match algorithm {
            Some(algorithm) if !key.is_for(algorithm) => Err("its alg is not for its kty".into()),
            _ => Ok(key),
        }
    }

    fn is_for(&self, algorithm: JwtAlgorithm) -> bool {
        use JwtAlgorithm::*;
        let kind = match algorithm {
            RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => Kind::Rsa,
            ES256 => Kind::P256,
            ES384 => Kind::P384,
            EdDSA => Kind::Ed25519,
        };
        self.kind == kind && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// Whether `signature` is this key's, by `algorithm`, over `message`.
    pub(super) fn verify(&self, algorithm: JwtAlgorithm, message: &[u8], signature: &[u8]) -> Result<(), Refusal> {
        let verifier = verifier(library(algorithm), &self.decoding).map_err(|_| Refusal::KeyMisfit)?;
        verifier.verify(message, &signature.to_vec()).map_err(|_| Refusal::Signature)
    }
}

impl Jwk {
    fn rsa(&self) -> Result<DecodingKey, String> {
        let (n, e) = (number(&self.n, "n")?, number(&self.e, "e")?);
        let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(format!("{bits} bits, and {} to {} are taken", RSA_BITS.start(), RSA_BITS.end()));
        }
        Ok(DecodingKey::from_rsa_raw_components(&n, &e))
    }

    fn ec(&self) -> Result<(Kind, DecodingKey), String> {
        let (kind, algorithm, bytes) = match self.crv.as_deref() {
            Some("P-256") => (Kind::P256, Algorithm::ES256, 32),
            Some("P-384") => (Kind::P384, Algorithm::ES384, 48),
            _ => return Err("its curve is none of ours".into()),
        };
        let (x, y) = (decode(&self.x, "x")?, decode(&self.y, "y")?);
        if x.len() != bytes || y.len() != bytes {
            return Err("its point has the wrong length".into());
        }
        let key = DecodingKey::from_ec_der(&[&[0x04], &x[..], &y[..]].concat());
        verifier(algorithm, &key).map_err(|_| "its point is not on its curve")?;
        Ok((kind, key))
    }

    fn ed25519(&self) -> Result<DecodingKey, String> {
        let x = decode(&self.x, "x")?;
        // The library would panic on less and ignore more.
        if self.crv.as_deref() != Some("Ed25519") || x.len() != 32 {
            return Err("it is not 32 bytes of Ed25519".into());
        }
        let key = DecodingKey::from_ed_der(&x);
        verifier(Algorithm::EdDSA, &key).map_err(|_| "its point is not on its curve")?;
        Ok(key)
    }
}

/// By name rather than the process's default, which another crate could have set.
fn verifier(
    algorithm: Algorithm,
    key: &DecodingKey,
) -> jsonwebtoken::errors::Result<Box<dyn jsonwebtoken::crypto::JwtVerifier>> {
    (rust_crypto::DEFAULT_PROVIDER.verifier_factory)(&algorithm, key)
}

fn library(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::RS384 => Algorithm::RS384,
        JwtAlgorithm::RS512 => Algorithm::RS512,
        JwtAlgorithm::PS256 => Algorithm::PS256,
        JwtAlgorithm::PS384 => Algorithm::PS384,
        JwtAlgorithm::PS512 => Algorithm::PS512,
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::ES384 => Algorithm::ES384,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

/// Without zeros in front, which don't count as bits.
fn number(text: &Option<String>, name: &str) -> Result<Vec<u8>, String> {
    let mut bytes = decode(text, name)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    Ok(bytes)
}

fn decode(text: &Option<String>, name: &str) -> Result<Vec<u8>, String> {
    let text = text.as_deref().ok_or_else(|| format!("it has no {name}"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("its {name} is not base64url"))
}
