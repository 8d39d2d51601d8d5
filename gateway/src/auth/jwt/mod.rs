//! Machines' JWTs from trusted issuers: the only door to `jsonwebtoken`, which checks signatures here and no more.
//!
//! A token's `aud` names whom it acts as. So a service account that binds itself to somebody else's subject gains nothing:
//! the tokens of that subject name another account.
//!
//! What is read of a token is compared with our side's choice: issuer and algorithms come from the configuration, keys
//! from the issuer's published set, and `kid` is a look-up in that set, never a path or an address. Header parameters that
//! bring a key (`jwk`, `jku`, `x5c`, `x5u`) are not read at all.

mod cache;
mod jwks;
mod source;
#[cfg(test)]
mod tests;
mod token;

use crate::clock::Micros;
use crate::config::{JwtAlgorithm, JwtIssuer, PlatformRole};
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::id::Named;
use cache::KeyCache;
use source::Source;
use std::collections::HashMap;
use std::sync::Arc;
use token::{Claims, Token};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const SECOND: Micros = 1_000_000;
/// How far an issuer's clock may be off.
const LEEWAY: Micros = 30 * SECOND;
/// Longest from issue to expiry: a token can't be revoked, only its key and its account can.
const MAX_LIFETIME: Micros = 24 * 3600 * SECOND;
const MAX_SUBJECT_CHARS: usize = 256;

/// What an `aud` names after its slash; the type of these ids has the same shape.
enum ServiceAccount {}

impl Named for ServiceAccount {
    const PREFIX: &'static str = "sva";
}

/// Every trusted issuer, with its keys as they were last published.
#[derive(Debug)]
pub struct Issuers {
    by_name: HashMap<String, Issuer>,
}

#[derive(Debug)]
struct Issuer {
    audience: String,
    algorithms: Vec<JwtAlgorithm>,
    /// Roles by subject.
    platform: HashMap<String, PlatformRole>,
    keys: Arc<KeyCache>,
}

/// What a token proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its `iss`.
    pub issuer: String,
    /// Its `sub`: the issuer's name for the machine, 1 to 256 characters.
    pub subject: String,
    /// Whom it says it acts as.
    pub acts_as: ActsAs,
    /// From then on it is refused: its `exp` and the leeway.
    pub expires_at: Micros,
}

/// Whom a token acts as, by its `aud`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActsAs {
    /// `sva_…`, as the token spells it. That there is such an account, and that it trusts this issuer and subject, is not
    /// proven: whoever looks it up compares all three.
    ServiceAccount(String),
    /// A subject that the configuration gives this role.
    Platform(PlatformRole),
}

/// Why a token is refused: for the log. The caller hears one and the same of them all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("it is longer than {} bytes", token::MAX_BYTES)]
    TooLong,
    #[error("it is not three parts")]
    Parts,
    #[error("its {0} is not base64url without padding")]
    Base64(&'static str),
    #[error("its {part} can't be read: {why}")]
    Malformed { part: &'static str, why: String },
    #[error("its {part} has {name:?} twice")]
    Duplicate { part: &'static str, name: String },
    #[error("its header has `{0}`")]
    HeaderParameter(&'static str),
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("`{0}` has the wrong type or is out of range")]
    Type(&'static str),
    #[error("no trusted issuer has this name")]
    Issuer,
    #[error("the algorithm is not one of the issuer's")]
    Algorithm,
    #[error("the audience is not ours")]
    Audience,
    #[error("the subject has no role on the platform")]
    Subject,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYet,
    #[error("it lives too long")]
    Lifetime,
    #[error("it names no key, and its issuer has several")]
    KeyNotNamed,
    #[error("its issuer has no such key")]
    UnknownKey,
    #[error("the key is not for this algorithm")]
    KeyMisfit,
    #[error("the signature does not fit")]
    Signature,
}

impl Issuers {
    /// From the configuration; nothing is fetched yet.
    ///
    /// # Errors
    /// `Invalid` for a `ca_file` that can't be used, or an address that can't.
    pub fn new(configured: &[JwtIssuer]) -> Result<Issuers> {
        let by_name = configured.iter().map(|issuer| {
            let source = Source::new(issuer)
                .map_err(|text| Error::new(ErrorKind::Invalid, format!("jwt_issuer `{}`: {text}", issuer.issuer)))?;
            let platform = issuer.platform.iter().map(|entry| (entry.subject.clone(), entry.role)).collect();
            let trusted = Issuer {
                audience: issuer.audience.clone(),
                algorithms: issuer.algorithms.clone(),
                platform,
                keys: Arc::new(KeyCache::new(issuer.issuer.clone(), source)),
            };
            Ok((issuer.issuer.clone(), trusted))
        });
        Ok(Issuers { by_name: by_name.collect::<Result<_>>()? })
    }

    /// Starts the refreshes of what was loaded, which end when `stopping` is cancelled. Without them a withdrawn key
    /// would live as long as an hour.
    pub fn watch(&self, tasks: &TaskTracker, stopping: &CancellationToken) {
        for issuer in self.by_name.values() {
            issuer.keys.watch(tasks, stopping);
        }
    }

    /// Reads each issuer's keys once, by its name: how many can be used, or why they can't be read. Takes up to 3 s.
    pub async fn look_once(&self) -> Vec<(String, Result<usize, String>)> {
        let looks = self.by_name.iter().map(|(name, issuer)| async { (name.clone(), issuer.keys.look().await) });
        let mut seen = futures::future::join_all(looks).await;
        seen.sort_by(|(one, _), (other, _)| one.cmp(other));
        seen
    }

    /// Whether a bearer credential has the shape of a JWT: three parts of base64url, of which the last may be empty. Tells
    /// it from our own keys, which have no dots; the shape proves nothing.
    pub fn is_jwt(&self, text: &str) -> bool {
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let base64url = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        !header.is_empty() && !claims.is_empty() && [header, claims, signature].into_iter().all(base64url)
    }

    /// Checks a token whole: form, issuer, algorithm, audience, times, then its signature with the issuer's key. Waits for
    /// at most two fetches of the issuer's keys, 3 s each; one that it caused goes on if it is dropped.
    ///
    /// # Errors
    /// `Unauthenticated(BadKey)`, one and the same for whatever is wrong with it; `Overloaded`, with a time to try again,
    /// when the issuer's keys can't be had.
    pub async fn verify(&self, text: &str, now: Micros) -> Result<Verified> {
        let token = Token::parse(text).map_err(refused)?;
        let issuer = self.by_name.get(&token.claims.issuer).ok_or_else(|| refused(Refusal::Issuer))?;
        // All that costs nothing comes before what may cost a fetch or a multiplication.
        let algorithm = issuer.algorithm(&token.header.algorithm).map_err(refused)?;
        let expires_at = expiry(&token.claims, now).map_err(refused)?;
        let acts_as = issuer.acts_as(&token.claims).map_err(refused)?;
        let key = issuer.keys.find(token.header.kid.as_deref(), algorithm).await?;
        key.verify(algorithm, token.message, &token.signature).map_err(refused)?;
        let Claims { issuer, subject, .. } = token.claims;
        Ok(Verified { issuer, subject, acts_as, expires_at })
    }
}

impl Issuer {
    fn algorithm(&self, name: &str) -> Result<JwtAlgorithm, Refusal> {
        let named = JwtAlgorithm::parse(name).filter(|algorithm| self.algorithms.contains(algorithm));
        named.ok_or(Refusal::Algorithm)
    }

    fn acts_as(&self, claims: &Claims) -> Result<ActsAs, Refusal> {
        if !(1..=MAX_SUBJECT_CHARS).contains(&claims.subject.chars().count()) {
            return Err(Refusal::Type("sub"));
        }
        let rest = claims.audience.strip_prefix(&self.audience).ok_or(Refusal::Audience)?;
        if rest.is_empty() {
            return self.platform.get(&claims.subject).copied().map(ActsAs::Platform).ok_or(Refusal::Subject);
        }
        let account = rest.strip_prefix('/').and_then(crate::id::Id::<ServiceAccount>::parse);
        account.map(|id| ActsAs::ServiceAccount(id.as_str().to_owned())).ok_or(Refusal::Audience)
    }
}

/// When the token is refused.
fn expiry(claims: &Claims, now: Micros) -> Result<Micros, Refusal> {
    // The parser bounds seconds so that none of this overflows.
    let expires_at = claims.expires_at * SECOND;
    if now >= expires_at + LEEWAY {
        return Err(Refusal::Expired);
    }
    let (not_before, issued_at) = (claims.not_before.map(|s| s * SECOND), claims.issued_at.map(|s| s * SECOND));
    if not_before.max(issued_at).is_some_and(|from| from > now + LEEWAY) {
        return Err(Refusal::NotYet);
    }
    // An `iat` is the token's own word, so it can shorten its life, not lengthen it.
    let since = issued_at.unwrap_or(now).min(now);
    if expires_at - since > MAX_LIFETIME + LEEWAY {
        return Err(Refusal::Lifetime);
    }
    Ok(expires_at + LEEWAY)
}

fn refused(why: Refusal) -> Error {
    Error::new(ErrorKind::Unauthenticated(AuthFailure::BadKey), "The token is not valid.").caused_by(why)
}
