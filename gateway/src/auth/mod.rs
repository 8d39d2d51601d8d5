//! Who is calling: credentials in, [`Principal`] out.

pub mod jwt;
mod principal;
pub mod sigv4;

pub use principal::{Caller, Principal, forbidden};

use crate::accept::Peer;
use crate::app::App;
use crate::body;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::tenants;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use std::net::IpAddr;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a request's head presents.
#[derive(Debug, PartialEq, Eq)]
enum Credential<'a> {
    ApiKey(&'a str),
    SigV4(&'a str),
}

/// Knows the caller and reads the body. What the head tells is checked, and the credential looked up, before the first
/// byte of the body is taken; a SigV4 signature is final only when the body, which it covers, is there.
///
/// # Errors
/// `Unauthenticated`; `TooLarge`, `RequestTimeout` and `Invalid` from the body; `Internal`.
pub async fn admit(app: &App, request: Request) -> Result<(Principal, Bytes)> {
    let (parts, body) = request.into_parts();
    match credential(&parts.headers)? {
        Credential::ApiKey(key) => {
            let principal = tenants::authenticate_api_key(&app.store, &app.secrets, &app.clock, key).await?;
            Ok((principal, body::read(&parts, body, &app.config.http).await?))
        }
        Credential::SigV4(authorization) => by_signature(app, authorization, &parts, body).await,
    }
}

/// Knows a caller of the admin API: an operator by admin token, a tenant's administrator by API key. What it may do is
/// for [`Caller::check`].
///
/// # Errors
/// `Unauthenticated`; `Internal`.
pub async fn admit_caller(app: &App, head: &Parts) -> Result<Caller> {
    let caller = match credential(&head.headers)? {
        Credential::ApiKey(key) if key.starts_with("ckadm_") => {
            Caller::Operator(tenants::authenticate_admin_token(&app.store, &app.secrets, &app.clock, key).await?)
        }
        Credential::ApiKey(key) => {
            Caller::Tenant(tenants::authenticate_api_key(&app.store, &app.secrets, &app.clock, key).await?)
        }
        Credential::SigV4(_) => {
            let text = "The admin API takes an admin token or an API key as `Authorization: Bearer`.";
            return Err(Error::new(ErrorKind::Unauthenticated(AuthFailure::BadKey), text));
        }
    };
    if caller.scope().lets_from(peer(head)) { Ok(caller) } else { Err(wrong_address()) }
}

/// Where a request comes from.
pub fn peer(head: &Parts) -> Option<IpAddr> {
    head.extensions.get::<Peer>().map(|peer| peer.0)
}

fn wrong_address() -> Error {
    Error::new(ErrorKind::Forbidden, "This credential may not be used from this address.")
}

async fn by_signature(app: &App, authorization: &str, parts: &Parts, body: Body) -> Result<(Principal, Bytes)> {
    let head = sigv4::Head::of(parts);
    let signed = sigv4::Signed::parse(authorization, &head)?;
    signed.check_date(app.clock.now())?;
    let key = tenants::access_key(&app.store, &app.secrets, &app.clock, signed.access_key_id()).await?;
    let body = body::read(parts, body, &app.config.http).await?;
    signed.verify(&head, key.secrets(), &body)?;
    Ok((key.principal, body))
}

/// `Authorization` counts before `x-api-key`; some SDKs send a placeholder in the latter.
fn credential(headers: &HeaderMap) -> Result<Credential<'_>> {
    let failure = |failure, text| Error::new(ErrorKind::Unauthenticated(failure), text);
    let malformed = || failure(AuthFailure::Malformed, "The Authorization header can't be read.");
    let missing = || {
        let text = "No credential was sent. Give an API key as `Authorization: Bearer KEY` or `x-api-key: KEY`, or sign \
                    the request with AWS Signature Version 4.";
        failure(AuthFailure::Missing, text)
    };

    let mut values = headers.get_all(AUTHORIZATION).iter();
    if let Some(value) = values.next() {
        if values.next().is_some() {
            return Err(malformed());
        }
        let value = value.to_str().map_err(|_| malformed())?.trim();
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        let rest = rest.trim();
        return match scheme {
            sigv4::ALGORITHM => Ok(Credential::SigV4(rest)),
            _ if scheme.eq_ignore_ascii_case("bearer") && rest.is_empty() => Err(missing()),
            _ if scheme.eq_ignore_ascii_case("bearer") => Ok(Credential::ApiKey(rest)),
            _ => Err(malformed()),
        };
    }
    let mut values = headers.get_all(X_API_KEY).iter();
    match (values.next(), values.next()) {
        (Some(key), None) if !key.is_empty() => Ok(Credential::ApiKey(key.to_str().map_err(|_| malformed())?)),
        (Some(_), Some(_)) => Err(malformed()),
        (_, _) => Err(missing()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn failure(pairs: &[(&'static str, &'static str)]) -> ErrorKind {
        credential(&headers(pairs)).unwrap_err().kind
    }

    #[test]
    fn each_form_of_credential_is_found() {
        let found = headers(&[("authorization", "Bearer ck_a")]);
        assert_eq!(credential(&found).unwrap(), Credential::ApiKey("ck_a"));
        let found = headers(&[("authorization", "bearer  ck_a "), ("x-api-key", "other")]);
        assert_eq!(credential(&found).unwrap(), Credential::ApiKey("ck_a"));
        let found = headers(&[("x-api-key", "ck_b")]);
        assert_eq!(credential(&found).unwrap(), Credential::ApiKey("ck_b"));
        let found = headers(&[("authorization", "AWS4-HMAC-SHA256 Credential=x")]);
        assert_eq!(credential(&found).unwrap(), Credential::SigV4("Credential=x"));
    }

    #[test]
    fn what_is_no_credential_says_which_step_failed() {
        assert_eq!(failure(&[]), ErrorKind::Unauthenticated(AuthFailure::Missing));
        assert_eq!(failure(&[("authorization", "Bearer ")]), ErrorKind::Unauthenticated(AuthFailure::Missing));
        assert_eq!(failure(&[("x-api-key", "")]), ErrorKind::Unauthenticated(AuthFailure::Missing));
        assert_eq!(failure(&[("authorization", "Basic eDp5")]), ErrorKind::Unauthenticated(AuthFailure::Malformed));
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
        assert_eq!(failure(&twice), ErrorKind::Unauthenticated(AuthFailure::Malformed));
    }
}
