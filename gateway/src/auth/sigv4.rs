//! AWS Signature Version 4 in its header form, verified. Pure: no clock, no store.
//!
//! Bedrock's rules: the path is encoded once more as it came on the wire (never decoded), the payload hash is the
//! header's when there is one, and then it must be the body's.

use crate::clock::Micros;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use hmac::{Hmac, KeyInit, Mac};
use http::request::Parts;
use http::{HeaderMap, Method, header::HOST};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use subtle::{Choice, ConstantTimeEq};
use time::format_description::BorrowedFormatItem;
use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};

/// The only scheme.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Most that a signature's date may differ from now, in µs: AWS's own.
const MAX_SKEW: Micros = 5 * 60 * 1_000_000;
/// Service names in use for Bedrock's two families of paths.
const SERVICES: [&str; 2] = ["bedrock", "bedrock-mantle"];

/// What the AWS SDK for JavaScript signs in place of `host` over HTTP/2.
const AUTHORITY: &str = ":authority";
const AMZ_DATE: &str = "x-amz-date";
const CONTENT_SHA256: &str = "x-amz-content-sha256";
const SECURITY_TOKEN: &str = "x-amz-security-token";
const DATE_FORMAT: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

/// All but what RFC 3986 calls unreserved.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// The parts of a request's head that a signature covers, as they came on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    method: &'a Method,
    path: &'a str,
    query: &'a str,
    headers: &'a HeaderMap,
    /// HTTP/2 has it in place of `Host`.
    authority: Option<&'a str>,
}

impl<'a> Head<'a> {
    /// Of a request.
    pub fn of(parts: &'a Parts) -> Head<'a> {
        Head {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
            authority: parts.uri.authority().map(http::uri::Authority::as_str),
        }
    }

    /// The authority, where a signature means it by `name`.
    fn authority_as(&self, name: &str) -> Option<&'a str> {
        let meant = name == AUTHORITY || (name == HOST.as_str() && !self.headers.contains_key(HOST));
        self.authority.filter(|_| meant)
    }
}

/// A request that claims to be signed; nothing of it is trusted before [`Signed::verify`].
#[derive(Debug)]
pub struct Signed<'a> {
    access_key_id: &'a str,
    /// `date/region/service/aws4_request`
    scope: &'a str,
    scope_date: &'a str,
    region: &'a str,
    service: &'a str,
    /// Sorted.
    signed_headers: Vec<&'a str>,
    signature: [u8; 32],
    amz_date: &'a str,
    signed_at: OffsetDateTime,
}

impl<'a> Signed<'a> {
    /// Reads the `Authorization` header's elements and checks all that needs neither key nor body.
    ///
    /// # Errors
    /// `Unauthenticated`: malformed, or something that must be signed is not.
    pub fn parse(authorization: &'a str, head: &Head<'a>) -> Result<Signed<'a>> {
        let [credential, signed_headers, signature] = elements(authorization)?;
        let (access_key_id, scope) = credential.split_once('/').ok_or_else(|| malformed("Credential"))?;
        let [scope_date, region, service, "aws4_request"] = scope.split('/').collect::<Vec<_>>()[..] else {
            return Err(malformed("Credential"));
        };
        if access_key_id.is_empty() || region.is_empty() || !SERVICES.contains(&service) {
            return Err(malformed("Credential"));
        }
        let mut signed_headers: Vec<&str> = signed_headers.split(';').collect();
        signed_headers.sort_unstable();
        check_signed_headers(&signed_headers, head)?;

        let amz_date = only(head.headers, AMZ_DATE)?.ok_or_else(|| malformed(AMZ_DATE))?;
        let signed_at = PrimitiveDateTime::parse(amz_date, DATE_FORMAT).map_err(|_| malformed(AMZ_DATE))?;
        if !amz_date.starts_with(scope_date) || scope_date.len() != 8 {
            return Err(malformed("Credential"));
        }
        Ok(Signed {
            access_key_id,
            scope,
            scope_date,
            region,
            service,
            signed_headers,
            signature: hex32(signature).ok_or_else(|| malformed("Signature"))?,
            amz_date,
            signed_at: signed_at.assume_utc(),
        })
    }

    /// Whose signature it claims to be.
    pub fn access_key_id(&self) -> &str {
        self.access_key_id
    }

    /// Refuses a signature that is too old, or from the future.
    ///
    /// # Errors
    /// `Unauthenticated(Expired)`
    pub fn check_date(&self, now: Micros) -> Result<()> {
        let signed_at = self.signed_at.unix_timestamp() * 1_000_000;
        let skew = now - signed_at;
        if skew.abs() <= MAX_SKEW {
            return Ok(());
        }
        let what = if skew > 0 { "Signature expired" } else { "Signature not yet current" };
        let than = if skew > 0 { "earlier" } else { "later" };
        let limit = date(if skew > 0 { now - MAX_SKEW } else { now + MAX_SKEW });
        let sign = if skew > 0 { '-' } else { '+' };
        let text = format!("{what}: {} is now {than} than {limit} ({} {sign} 5 min.)", self.amz_date, date(now));
        Err(Error::new(ErrorKind::Unauthenticated(AuthFailure::Expired), text))
    }

    /// Whether one of `secrets` signed this head and body: during a rotation there are two. All are tried, each compared
    /// in constant time, so time does not tell which.
    ///
    /// # Errors
    /// `Unauthenticated(BadSignature)`
    pub fn verify<'s>(&self, head: &Head<'_>, secrets: impl IntoIterator<Item = &'s [u8]>, body: &[u8]) -> Result<()> {
        let body_hash = hex::encode(Sha256::digest(body));
        if only(head.headers, CONTENT_SHA256)?.is_some_and(|claimed| claimed != body_hash) {
            return Err(bad_signature());
        }
        let canonical = self.canonical_request(head, &body_hash);
        let digest = hex::encode(Sha256::digest(canonical));
        let to_sign = format!("{ALGORITHM}\n{}\n{}\n{digest}", self.amz_date, self.scope);
        let signed = secrets.into_iter().fold(Choice::from(0), |signed, secret| {
            signed | mac(&self.signing_key(secret), to_sign.as_bytes()).ct_eq(&self.signature)
        });
        if bool::from(signed) { Ok(()) } else { Err(bad_signature()) }
    }

    fn signing_key(&self, secret: &[u8]) -> [u8; 32] {
        let first = zeroize::Zeroizing::new([b"AWS4", secret].concat());
        let date = mac(&first, self.scope_date.as_bytes());
        let region = mac(&date, self.region.as_bytes());
        let service = mac(&region, self.service.as_bytes());
        mac(&service, b"aws4_request")
    }

    fn canonical_request(&self, head: &Head<'_>, body_hash: &str) -> Vec<u8> {
        let path = if head.path.is_empty() { "/" } else { head.path };
        let mut text =
            format!("{}\n{}\n{}\n", head.method, percent_encode(path.as_bytes(), PATH), canonical_query(head.query))
                .into_bytes();
        for name in &self.signed_headers {
            text.extend_from_slice(name.as_bytes());
            text.push(b':');
            text.extend(canonical_value(head, name));
            text.push(b'\n');
        }
        text.push(b'\n');
        text.extend_from_slice(self.signed_headers.join(";").as_bytes());
        text.push(b'\n');
        text.extend_from_slice(body_hash.as_bytes());
        text
    }
}

/// `Credential`, `SignedHeaders` and `Signature`, each once, in any order, with or without blanks after the commas.
fn elements(authorization: &str) -> Result<[&str; 3]> {
    const NAMES: [&str; 3] = ["Credential", "SignedHeaders", "Signature"];
    let mut found = [None; 3];
    for element in authorization.split(',') {
        let (name, value) = element.trim().split_once('=').ok_or_else(|| malformed("Authorization"))?;
        let at = NAMES.iter().position(|known| *known == name).ok_or_else(|| malformed("Authorization"))?;
        if found[at].replace(value).is_some() {
            return Err(malformed(NAMES[at]));
        }
    }
    match found {
        [Some(credential), Some(signed_headers), Some(signature)] => Ok([credential, signed_headers, signature]),
        _ => Err(malformed("Authorization")),
    }
}

/// `host` must be signed, or `:authority` where HTTP/2 has it instead, and every `x-amz-*` header that is there; a name that is signed must be there, once in the list.
fn check_signed_headers(signed: &[&str], head: &Head<'_>) -> Result<()> {
    let is_name = |name: &&str| !name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase());
    if !signed.iter().all(is_name) || signed.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(malformed("SignedHeaders"));
    }
    let has = |name: &str| signed.binary_search(&name).is_ok();
    if !has(HOST.as_str()) && !has(AUTHORITY) {
        return Err(malformed("SignedHeaders"));
    }
    let unsigned = head.headers.keys().any(|name| name.as_str().starts_with("x-amz-") && !has(name.as_str()));
    if unsigned {
        return Err(malformed("SignedHeaders"));
    }
    let absent = |name: &&str| !head.headers.contains_key(*name) && head.authority_as(name).is_none();
    if signed.iter().any(absent) {
        return Err(malformed("SignedHeaders"));
    }
    // Access keys here have no sessions, so a session token belongs to none of them.
    if head.headers.contains_key(SECURITY_TOKEN) {
        let kind = ErrorKind::Unauthenticated(AuthFailure::UnknownAccessKey);
        return Err(Error::new(kind, "The security token included in the request is invalid."));
    }
    Ok(())
}

/// Values of one name joined by commas, each trimmed, inner runs of blanks collapsed.
fn canonical_value(head: &Head<'_>, name: &str) -> Vec<u8> {
    if let Some(authority) = head.authority_as(name) {
        return authority.as_bytes().to_vec();
    }
    let mut text = Vec::new();
    for (at, value) in head.headers.get_all(name).iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        let words = value.as_bytes().split(|byte| *byte == b' ' || *byte == b'\t').filter(|word| !word.is_empty());
        for (at, word) in words.enumerate() {
            if at > 0 {
                text.push(b' ');
            }
            text.extend_from_slice(word);
        }
    }
    text
}

/// Decoded, encoded again, sorted by name and then value.
fn canonical_query(query: &str) -> String {
    let encode = |part: &str| {
        let raw: Vec<u8> = percent_decode_str(part).collect();
        percent_encode(&raw, QUERY).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    pairs.sort_unstable();
    let mut text = String::with_capacity(query.len());
    for (name, value) in pairs {
        let comma = if text.is_empty() { "" } else { "&" };
        // Writing to a String can't fail.
        let _ = write!(text, "{comma}{name}={value}");
    }
    text
}

/// A header that may be sent once at most.
fn only<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|text| Some(text.trim())).map_err(|_| malformed(name)),
        (Some(_), Some(_)) => Err(malformed(name)),
    }
}

fn mac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    let lower = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let mut bytes = [0; 32];
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

fn date(at: Micros) -> String {
    let at = OffsetDateTime::from_unix_timestamp(at / 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(DATE_FORMAT).unwrap_or_default()
}

fn malformed(what: &str) -> Error {
    let text = format!("The request signature is incomplete: `{what}` is missing, malformed or not signed.");
    Error::new(ErrorKind::Unauthenticated(AuthFailure::Malformed), text)
}

fn bad_signature() -> Error {
    let text = "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
                Access Key and signing method. Consult the service documentation for details.";
    Error::new(ErrorKind::Unauthenticated(AuthFailure::BadSignature), text)
}

#[cfg(test)]
#[path = "sigv4_tests.rs"]
mod tests;
