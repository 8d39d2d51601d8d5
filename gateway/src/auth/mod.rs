//! Who is calling: credentials in, [`Principal`] out.
//!
//! ```text
//! admit         head → credential → known (memory under a lease, else database) → role, scope, address → body
//! check_again   after the body, and once more when a request runs: has the credential ended meanwhile?
//! ```

mod address;
mod admission;
mod affected;
mod credentials;
pub mod jwt;
mod lease;
mod principal;
mod shelf;
pub mod sigv4;
pub mod uses;

pub use address::address;
pub use admission::{Admission, Ticket, revoked};
pub use affected::Affected;
pub use credentials::{Credentials, Found, Metrics, Seen};
pub use lease::Lease;
pub use principal::{Caller, FederatedOperator, Principal, forbidden};
pub use uses::Uses;

use crate::app::App;
use crate::body;
use crate::config::PlatformRole;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::id::ServiceAccountId;
use crate::tenants::{self, AccessKeyId, DialectFamily, Identity, Permission, PresentedAdminToken, PresentedApiKey};
use admission::Credential;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use jwt::ActsAs;
use std::sync::Arc;
use uses::Takeover;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a request's head presents.
#[derive(Debug, PartialEq, Eq)]
enum Presented<'a> {
    Bearer(&'a str),
    SigV4(&'a str),
}

/// Marks requests that came to the port of callers, where operators have no business.
#[derive(Debug, Clone, Copy)]
pub struct DataPort;

/// Knows the caller, checks that it has `permission`, and reads the body. All that a bearer credential says is checked
/// before the first byte of the body is taken. A SigV4 signature covers the body, so there the caller is known only
/// after it: until then nothing is said of what the access key may do.
///
/// # Errors
/// `Unauthenticated`; `Forbidden`; `Overloaded` when the credential can't be checked at the moment; `TooLarge`,
/// `RequestTimeout` and `Invalid` from the body; `Internal`.
pub async fn admit(app: &App, request: Request, permission: Permission) -> Result<(Admission, Bytes)> {
    let (parts, body) = request.into_parts();
    let (admission, body) = match presented(&parts.headers)? {
        Presented::Bearer(text) => {
            let admission = by_bearer(app, text).await?;
            check(app, &parts, admission.principal(), permission)?;
            (admission, body::read(&parts, body, app.config.http.body_bytes, &app.config.http).await?)
        }
        Presented::SigV4(authorization) => {
            let (admission, body) = by_signature(app, authorization, &parts, body).await?;
            check(app, &parts, admission.principal(), permission)?;
            (admission, body)
        }
    };
    admission.check_again(app).await?;
    Ok((admission, body))
}

/// Knows a caller of the admin API: an operator by admin token, a tenant's administrator by API key. What it may do is
/// for [`Caller::check`]; the ticket is to be checked again once the body is read.
///
/// # Errors
/// `Unauthenticated`, on the port of callers also for an operator; `Forbidden` for an address that the scope does not
/// include; `Overloaded` when the credential can't be checked at the moment; `Internal`.
pub async fn admit_caller(app: &App, head: &Parts) -> Result<(Caller, Ticket)> {
    let at_the_data_port = head.extensions.get::<DataPort>().is_some();
    let (caller, ticket) = match presented(&head.headers)? {
        Presented::Bearer(text) if PresentedAdminToken::is_meant(text) && !at_the_data_port => {
            by_admin_token(app, text).await?
        }
        Presented::Bearer(text) if app.issuers.is_jwt(text) => match by_token(app, text).await? {
            Proven::Machine(Admission { identity, ticket }) => (Caller::Tenant(identity.principal), ticket),
            Proven::Operator(caller, ticket) if !at_the_data_port => (caller, ticket),
            Proven::Operator(..) => return Err(bad_token()),
        },
        Presented::Bearer(text) => {
            let Admission { identity, ticket } = by_api_key(app, text).await?;
            (Caller::Tenant(identity.principal), ticket)
        }
        Presented::SigV4(_) => {
            let text = "The admin API takes an admin token or an API key as `Authorization: Bearer`.";
            return Err(Error::new(ErrorKind::Unauthenticated(AuthFailure::BadKey), text));
        }
    };
    check_address(app, head, caller.scope())?;
    Ok((caller, ticket))
}

/// Role, operation, dialect and address; whichever refuses is named.
fn check(app: &App, head: &Parts, principal: &Principal, permission: Permission) -> Result<()> {
    principal.check(permission)?;
    if let Some(family) = head.extensions.get::<DialectFamily>()
        && !principal.scope.lets_speak(*family)
    {
        let text = format!("This credential's scope does not include the dialect {}.", family.as_str());
        return Err(Error::new(ErrorKind::Forbidden, text));
    }
    check_address(app, head, &principal.scope)
}

fn check_address(app: &App, head: &Parts, scope: &tenants::Scope) -> Result<()> {
    if scope.lets_from(address(head, &app.config.http)) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Forbidden,
        "This credential's scope does not include the address that this call is from.",
    ))
}

/// By whichever bearer credential callers of models can have.
async fn by_bearer(app: &App, text: &str) -> Result<Admission> {
    if !app.issuers.is_jwt(text) {
        return by_api_key(app, text).await;
    }
    match by_token(app, text).await? {
        Proven::Machine(admission) => Ok(admission),
        // Operators run no models, and here nobody is told that the token is good elsewhere.
        Proven::Operator(..) => Err(bad_token()),
    }
}

/// Who a trusted issuer's token is from.
enum Proven {
    Machine(Admission),
    Operator(Caller, Ticket),
}

async fn by_token(app: &App, text: &str) -> Result<Proven> {
    let now = app.clock.now();
    let verified = app.issuers.verify(text, now).await?;
    let (issuer, subject) = (verified.issuer, verified.subject);
    let id = match verified.acts_as {
        ActsAs::ServiceAccount(id) => ServiceAccountId::parse(&id).ok_or_else(bad_token)?,
        ActsAs::Platform(role) => {
            let role = match role {
                PlatformRole::PlatformAdmin => tenants::Role::PlatformAdmin,
                PlatformRole::PlatformViewer => tenants::Role::PlatformViewer,
            };
            let scope = Arc::new(tenants::Scope::operators());
            let caller = Caller::Federated(FederatedOperator { issuer, subject, role, scope });
            let ticket = Ticket { credential: Credential::Platform, seen: app.credentials.seen() };
            return Ok(Proven::Operator(caller, ticket));
        }
    };
    // The token names the account; that the account trusts this issuer and subject only its row says.
    let (known, seen) = app.credentials.service_account(&app.store, &id, now).await?;
    let trusting = known.filter(|known| known.trusts(&issuer, &subject, now)).ok_or_else(bad_token)?;
    app.uses.note(id.as_str(), now, None);
    let ticket = Ticket { credential: Credential::ServiceAccount(id), seen };
    Ok(Proven::Machine(Admission { identity: trusting.identity.clone(), ticket }))
}

/// In the words for a token that is wrong in itself: whether the account exists is nobody's business.
fn bad_token() -> Error {
    Error::new(ErrorKind::Unauthenticated(AuthFailure::BadKey), "The token is not valid.")
}

async fn by_api_key(app: &App, text: &str) -> Result<Admission> {
    let presented = PresentedApiKey::parse(text)?;
    let (id, now) = (presented.id(), app.clock.now());
    let (known, seen) = app.credentials.api_key(&app.store, &id, now).await?;
    let identity = presented.verify(&app.secrets, now, known.as_deref())?.clone();
    let redigest = known.and_then(|known| presented.redigest(&app.secrets, &known));
    let takeover = redigest.map(|redigest| Takeover::ApiKey(identity.principal.tenant.clone(), id.clone(), redigest));
    note_use(app, &identity, now, takeover);
    Ok(Admission { identity, ticket: Ticket { credential: Credential::ApiKey(id), seen } })
}

async fn by_admin_token(app: &App, text: &str) -> Result<(Caller, Ticket)> {
    let presented = PresentedAdminToken::parse(text)?;
    let (id, now) = (presented.id(), app.clock.now());
    let (known, seen) = app.credentials.admin_token(&app.store, &id, now).await?;
    let operator = presented.verify(&app.secrets, now, known.as_deref())?.clone();
    let redigest = known.and_then(|known| presented.redigest(&app.secrets, &known));
    app.uses.note(id.as_str(), now, redigest.map(|redigest| Takeover::AdminToken(id.clone(), redigest)));
    Ok((Caller::Operator(operator), Ticket { credential: Credential::AdminToken(id), seen }))
}

async fn by_signature(app: &App, authorization: &str, parts: &Parts, body: Body) -> Result<(Admission, Bytes)> {
    let head = sigv4::Head::of(parts);
    let signed = sigv4::Signed::parse(authorization, &head)?;
    let now = app.clock.now();
    signed.check_date(now)?;
    let id = AccessKeyId::parse(signed.access_key_id())?;
    let (known, seen) = app.credentials.access_key(&app.store, id, now).await?;
    let identity = id.identity(now, known.as_deref())?.clone();
    let body = body::read(parts, body, app.config.http.body_bytes, &app.config.http).await?;
    let mut takeover = None;
    if let Some(known) = &known {
        // A rotation leaves the former secret in force for a while.
        let (secret, former) = known.secrets(&app.secrets, now)?;
        let either = [Some(&secret), former.as_ref()].into_iter().flatten();
        signed.verify(&head, either.map(|secret| secret.expose().as_bytes()), &body)?;
        takeover = known.reseal(&app.secrets)?.map(|(old, new)| {
            let Principal { tenant, key, .. } = &identity.principal;
            Takeover::AccessKey(tenant.clone(), key.clone(), old, new)
        });
    }
    note_use(app, &identity, now, takeover);
    let credential = Credential::AccessKey(signed.access_key_id().to_owned());
    Ok((Admission { identity, ticket: Ticket { credential, seen } }, body))
}

/// A service account is used whenever one of its keys is.
fn note_use(app: &App, identity: &Identity, now: crate::clock::Micros, takeover: Option<Takeover>) {
    app.uses.note(identity.principal.key.as_str(), now, takeover);
    if let Some(account) = &identity.principal.service_account {
        app.uses.note(account.as_str(), now, None);
    }
}

/// `Authorization` counts before `x-api-key`; some SDKs send a placeholder in the latter.
fn presented(headers: &HeaderMap) -> Result<Presented<'_>> {
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
            sigv4::ALGORITHM => Ok(Presented::SigV4(rest)),
            _ if scheme.eq_ignore_ascii_case("bearer") && rest.is_empty() => Err(missing()),
            _ if scheme.eq_ignore_ascii_case("bearer") => Ok(Presented::Bearer(rest)),
            _ => Err(malformed()),
        };
    }
    let mut values = headers.get_all(X_API_KEY).iter();
    match (values.next(), values.next()) {
        (Some(key), None) if !key.is_empty() => Ok(Presented::Bearer(key.to_str().map_err(|_| malformed())?)),
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
        presented(&headers(pairs)).unwrap_err().kind
    }

    #[test]
    fn each_form_of_credential_is_found() {
        let found = headers(&[("authorization", "Bearer ck_a")]);
        assert_eq!(presented(&found).unwrap(), Presented::Bearer("ck_a"));
        let found = headers(&[("authorization", "bearer  ck_a "), ("x-api-key", "other")]);
        assert_eq!(presented(&found).unwrap(), Presented::Bearer("ck_a"));
        let found = headers(&[("x-api-key", "ck_b")]);
        assert_eq!(presented(&found).unwrap(), Presented::Bearer("ck_b"));
        let found = headers(&[("authorization", "AWS4-HMAC-SHA256 Credential=x")]);
        assert_eq!(presented(&found).unwrap(), Presented::SigV4("Credential=x"));
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
