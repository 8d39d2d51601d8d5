//! A token's text, taken apart. What it says is not yet believed.

use super::Refusal;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest token.
pub(super) const MAX_BYTES: usize = 8 * 1024;
const MAX_KID_BYTES: usize = 256;
/// The end of the year 9999, in seconds: later times are mistakes, and none of these overflows as microseconds.
const MAX_SECONDS: u64 = 253_402_300_799;
/// Parameters that change what a token means. Refused: to ignore one is to misread it.
const REFUSED_PARAMETERS: [&str; 4] = ["crit", "zip", "enc", "b64"];

/// Compact form: header, claims, signature.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) header: Header,
    pub(super) claims: Claims,
    /// What is signed: the first two parts as they came.
    pub(super) message: &'a [u8],
    pub(super) signature: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: String,
    pub(super) kid: Option<String>,
}

/// Times are seconds since 1970, up to the year 9999.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) issuer: String,
    pub(super) subject: String,
    /// The only one.
    pub(super) audience: String,
    pub(super) expires_at: i64,
    pub(super) not_before: Option<i64>,
    pub(super) issued_at: Option<i64>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Token<'a>, Refusal> {
        if text.len() > MAX_BYTES {
            return Err(Refusal::TooLong);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(Refusal::Parts)?;
        let (header, claims) = message.split_once('.').ok_or(Refusal::Parts)?;
        if claims.contains('.') {
            return Err(Refusal::Parts);
        }
        Ok(Token {
            header: Header::read(Members::parse("header", header)?)?,
            claims: Claims::read(Members::parse("payload", claims)?)?,
            message: message.as_bytes(),
            signature: decode("signature", signature)?,
        })
    }
}

impl Header {
    fn read(mut members: Members) -> Result<Header, Refusal> {
        for name in REFUSED_PARAMETERS {
            if members.take(name).is_some() {
                return Err(Refusal::HeaderParameter(name));
            }
        }
        let typ = members.text("typ")?;
        if typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT") && !typ.eq_ignore_ascii_case("at+jwt")) {
            return Err(Refusal::HeaderParameter("typ"));
        }
        let kid = members.text("kid")?;
        if kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
            return Err(Refusal::Type("kid"));
        }
        Ok(Header { algorithm: members.text("alg")?.ok_or(Refusal::Missing("alg"))?, kid })
    }
}

impl Claims {
    fn read(mut members: Members) -> Result<Claims, Refusal> {
        let audience = match members.take("aud").ok_or(Refusal::Missing("aud"))? {
            Value::String(audience) => audience,
            Value::Array(several) => match <[Value; 1]>::try_from(several) {
                Ok([Value::String(audience)]) => audience,
                // A token for us and others could be played to us by those others.
                _ => return Err(Refusal::Type("aud")),
            },
            _ => return Err(Refusal::Type("aud")),
        };
        Ok(Claims {
            issuer: members.text("iss")?.ok_or(Refusal::Missing("iss"))?,
            subject: members.text("sub")?.ok_or(Refusal::Missing("sub"))?,
            audience,
            expires_at: members.seconds("exp")?.ok_or(Refusal::Missing("exp"))?,
            not_before: members.seconds("nbf")?,
            issued_at: members.seconds("iat")?,
        })
    }
}

/// A JSON object in which no name occurs twice: two readers could choose differently.
struct Members(BTreeMap<String, Value>);

impl Members {
    fn parse(part: &'static str, text: &str) -> Result<Members, Refusal> {
        let Pairs(pairs) = serde_json::from_slice(&decode(part, text)?)
            .map_err(|error| Refusal::Malformed { part, why: error.to_string() })?;
        let mut members = BTreeMap::new();
        for (name, value) in pairs {
            if members.insert(name.clone(), value).is_some() {
                return Err(Refusal::Duplicate { part, name });
            }
        }
        Ok(Members(members))
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::Type(name)),
        }
    }

    /// A whole number of seconds. RFC 7519 allows fractions; none of the issuers we know of sends them, and a second
    /// reader may round the other way.
    fn seconds(&mut self, name: &'static str) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let seconds = value.as_u64().filter(|seconds| *seconds <= MAX_SECONDS);
        seconds.and_then(|seconds| i64::try_from(seconds).ok()).map(Some).ok_or(Refusal::Type(name))
    }
}

struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// Canonical only: no padding, no bits after the last byte, so that a token has one spelling.
fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::Base64(part))
}
