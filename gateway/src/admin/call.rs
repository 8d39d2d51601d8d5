//! A call of the admin API: known, permitted and read. Every handler begins with [`Call::admit`], which needs to be told
//! the permission; what the path says of tenants is checked there, once.

use super::idempotency;
use super::problem::Failure;
use crate::api::json;
use crate::app::App;
use crate::audit::{Author, Change, Once};
use crate::auth::{self, Caller};
use crate::body;
use crate::clock::Micros;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Id, Named, RequestId, TenantId};
use crate::store::Store;
use crate::tenants::{self, Permission};
use axum::Json;
use axum::extract::{FromRequestParts, Query, RawPathParams, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Largest body. The longest that any operation takes, a scope with all its models and ranges, is a quarter of it; with
/// every character escaped it still fits.
const BODY_BYTES: usize = 64 << 10;

/// An admitted call.
#[derive(Debug)]
pub struct Call {
    app: Arc<App>,
    head: Parts,
    body: Bytes,
    ids: Vec<(String, String)>,
    caller: Caller,
    author: Author,
    tenant: Option<TenantId>,
    now: Micros,
    /// Of a tenant's caller.
    _place: Option<OwnedSemaphorePermit>,
}

impl Call {
    /// Knows the caller, checks that it has `permission` for the tenant that the path names, if it names one, and reads
    /// the body. A query has no meaning here: an operation that reads one begins with [`Call::admit_with_query`].
    ///
    /// # Errors
    /// `Unauthenticated`; `NotFound` for a tenant that isn't there or isn't the caller's, whatever its permissions;
    /// `Forbidden`; those of reading a body; `Invalid` for any query parameter.
    pub async fn admit(app: &Arc<App>, request: Request, permission: Permission) -> Result<Call> {
        let call = Call::admit_with_query(app, request, permission).await?;
        call.no_query()?;
        Ok(call)
    }

    /// As [`Call::admit`], for an operation that reads the query with [`Call::query`].
    ///
    /// # Errors
    /// Those of [`Call::admit`], but for the query.
    pub async fn admit_with_query(app: &Arc<App>, request: Request, permission: Permission) -> Result<Call> {
        let (mut head, body) = request.into_parts();
        let (caller, ticket) = auth::admit_caller(app, &head).await?;
        let ids = path_ids(&mut head).await?;
        let tenant = match id_in::<crate::id::kinds::Tenant>(&ids, "tenant_id") {
            Some(parsed) => Some(parsed.ok_or_else(|| tenants::missing("tenant"))?),
            None => None,
        };
        admit_to(app, &caller, tenant.as_ref(), permission).await?;
        // Before the body, which may come slowly.
        let place = match &caller {
            Caller::Tenant(principal) => Some(app.admin_places.take(&principal.tenant)?),
            Caller::Operator(_) | Caller::Federated(_) => None,
        };
        let body = body::read(&head, body, BODY_BYTES.min(app.config.http.body_bytes), &app.config.http).await?;
        ticket.check_again(app).await?;
        let now = app.clock.now();
        let author =
            ticket.author(&caller, auth::address(&head, &app.config.http), head.extensions.get::<RequestId>().cloned());
        Ok(Call { app: Arc::clone(app), head, body, ids, caller, author, tenant, now, _place: place })
    }

    /// The database, for a report: an operator's doesn't wait for those of the tenant that it is about.
    pub fn reports(&self) -> Store {
        match &self.caller {
            Caller::Operator(_) | Caller::Federated(_) => self.app.store.for_operators(),
            Caller::Tenant(_) => self.app.store.clone(),
        }
    }

    /// The gateway.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Who calls, as the audit log names it.
    pub fn author(&self) -> &Author {
        &self.author
    }

    /// One time for the whole call, µs since 1970.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// The tenant that the path names; the caller may see it.
    ///
    /// # Errors
    /// `NotFound`, on a path that names none.
    pub fn tenant(&self) -> Result<&TenantId> {
        self.tenant.as_ref().ok_or_else(|| tenants::missing("tenant"))
    }

    /// An id that the path names. What is no id can't be found.
    ///
    /// # Errors
    /// `NotFound`, with the words for a `what` that isn't there.
    pub fn id<K: Named>(&self, param: &str, what: &str) -> Result<Id<K>> {
        id_in(&self.ids, param).flatten().ok_or_else(|| tenants::missing(what))
    }

    /// A part of the path that is no id.
    ///
    /// # Errors
    /// `NotFound`, with the words for a `what` that isn't there.
    pub fn text(&self, param: &str, what: &str) -> Result<&str> {
        let found = self.ids.iter().find(|(name, _)| name == param);
        found.map(|(_, value)| value.as_str()).ok_or_else(|| tenants::missing(what))
    }

    /// The query.
    ///
    /// # Errors
    /// `Invalid`, also for a parameter that is not known: a filter that does nothing would mislead.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T> {
        // No name or id has one, and PostgreSQL's text can't hold it.
        if self.head.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(Error::new(ErrorKind::Invalid, "The query has a NUL character."));
        }
        let Query(query) = Query::try_from_uri(&self.head.uri).map_err(|error| {
            let detail = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            let error = Error::new(ErrorKind::Invalid, format!("The query can't be read: {detail}."));
            match at_fault(&detail) {
                Some(param) => error.about(param),
                None => error,
            }
        })?;
        Ok(query)
    }

    fn no_query(&self) -> Result<()> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        self.query().map(|Nothing {}| ())
    }

    /// The body.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T> {
        json::parse(&self.body)
    }

    /// The body, where an empty one, or `null`, means the default.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn input_or_default<T: DeserializeOwned + Default>(&self) -> Result<T> {
        let body = self.body.trim_ascii();
        if body.is_empty() || body == b"null" { Ok(T::default()) } else { self.input() }
    }

    /// The version that `If-Match` names; `None` when the caller takes any.
    ///
    /// # Errors
    /// `PreconditionFailed` for what can be no ETag of ours: nothing has it.
    pub fn expected_version(&self) -> Result<Option<i64>> {
        let Some(value) = self.head.headers.get(IF_MATCH) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(None);
        }
        let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
        let none = || Error::new(ErrorKind::PreconditionFailed, "If-Match names no ETag of this API.");
        version.map(Some).ok_or_else(none)
    }

    /// As [`Call::expected_version`]; 0, which no version is, when `If-None-Match: *` says that there must be none.
    ///
    /// # Errors
    /// Also `Invalid` for any other `If-None-Match`, and for both headers at once.
    pub fn expected_version_or_absence(&self) -> Result<Option<i64>> {
        let Some(value) = self.head.headers.get(IF_NONE_MATCH) else { return self.expected_version() };
        if value.as_bytes().trim_ascii() != b"*" || self.head.headers.contains_key(IF_MATCH) {
            return Err(Error::invalid("If-None-Match", "`If-None-Match` can only be `*`, without `If-Match`."));
        }
        Ok(Some(0))
    }

    /// The reply of an earlier call that was this one, if there was one.
    ///
    /// # Errors
    /// `IdempotencyMismatch` when the key was used for another request; those of the store.
    pub async fn kept_reply(&self) -> Result<Option<Response>> {
        let Some(key) = idempotency::key(&self.head.headers)? else { return Ok(None) };
        let once = idempotency::once(&self.app.secrets, &self.author.id, key, &self.head, &self.body, "")?;
        Ok(idempotency::kept(&self.app, &once, self.now).await?.map(|kept| created(kept, 1, true)))
    }

    /// Makes a change that creates nothing, and waits until this gateway has taken notice of it.
    ///
    /// # Errors
    /// Those of `how`.
    pub async fn change<'a, T, F>(&'a self, how: impl FnOnce(Change<'a>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let done = how(self.change_by(None)).await?;
        self.app.changes.catch_up().await;
        Ok(done)
    }

    /// Makes something new, once: with an `Idempotency-Key` a repeated call gets the first one's reply. `view` is the
    /// reply, known before the change is made.
    ///
    /// # Errors
    /// Those of `how`; `IdempotencyMismatch` when the key was used for another request.
    pub async fn create<'a, V, F>(
        &'a self,
        view: &V,
        version: i64,
        how: impl FnOnce(Change<'a>) -> F,
    ) -> Result<Response>
    where
        V: Serialize,
        F: Future<Output = Result<()>>,
    {
        let (reply, replayed) = self.once(view, how).await?;
        Ok(created(reply, version, replayed))
    }

    /// Gives something that is there a new secret, once, as [`Call::create`] makes something new. The reply has no ETag:
    /// which version it will be is not known before the change is made.
    ///
    /// # Errors
    /// As those of [`Call::create`].
    pub async fn renew<'a, V, T, F>(&'a self, view: &V, how: impl FnOnce(Change<'a>) -> F) -> Result<Response>
    where
        V: Serialize,
        F: Future<Output = Result<T>>,
    {
        let (reply, replayed) = self.once(view, how).await?;
        Ok(shown_once(StatusCode::OK, reply, replayed))
    }

    /// The reply's body, and whether it is an earlier call's.
    async fn once<'a, V, T, F>(&'a self, view: &V, how: impl FnOnce(Change<'a>) -> F) -> Result<(String, bool)>
    where
        V: Serialize,
        F: Future<Output = Result<T>>,
    {
        let reply = serde_json::to_string(view).map_err(Error::internal)?;
        let Some(key) = idempotency::key(&self.head.headers)? else {
            how(self.change_by(None)).await?;
            self.app.changes.catch_up().await;
            return Ok((reply, false));
        };
        let once = idempotency::once(&self.app.secrets, &self.author.id, key, &self.head, &self.body, &reply)?;
        let once = Arc::new(once);
        if let Some(kept) = idempotency::kept(&self.app, &once, self.now).await? {
            return Ok((kept, true));
        }
        match how(self.change_by(Some(Arc::clone(&once)))).await {
            Ok(_) => {
                self.app.changes.catch_up().await;
                Ok((reply, false))
            }
            // Another call with this key may have come first while we looked.
            Err(error) if error.kind == ErrorKind::Conflict => {
                match idempotency::kept(&self.app, &once, self.now).await? {
                    Some(kept) => Ok((kept, true)),
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn change_by(&self, once: Option<Arc<Once>>) -> Change<'_> {
        Change { store: &self.app.store, secrets: &self.app.secrets, now: self.now, author: &self.author, once }
    }
}

/// Whether the caller may do this to that tenant. Before it is known that a tenant is the caller's, nothing that is said
/// depends on whether it exists.
async fn admit_to(app: &App, caller: &Caller, tenant: Option<&TenantId>, permission: Permission) -> Result<()> {
    match (caller, tenant) {
        (Caller::Tenant(principal), Some(tenant)) if principal.tenant != *tenant => Err(tenants::missing("tenant")),
        (Caller::Tenant(_), Some(_)) => caller.check(permission),
        // What belongs to no tenant is no tenant's, whatever its role.
        (Caller::Tenant(_), None) => Err(auth::forbidden(permission)),
        (Caller::Operator(_) | Caller::Federated(_), None) => caller.check(permission),
        (Caller::Operator(_) | Caller::Federated(_), Some(tenant)) => {
            caller.check(permission)?;
            let row = app.store.tenant(tenant).await?.ok_or_else(|| tenants::missing("tenant"))?;
            // What a deleted tenant used, owed and changed can still be read.
            let past = matches!(
                permission,
                Permission::ReadSettings | Permission::ReadUsage | Permission::ReadRequests | Permission::ReadAudit
            );
            if row.deleted_at.is_none() || past { Ok(()) } else { Err(tenants::missing("tenant")) }
        }
    }
}

async fn path_ids(head: &mut Parts) -> Result<Vec<(String, String)>> {
    let params = RawPathParams::from_request_parts(head, &()).await;
    let params = params.map_err(|_| Error::new(ErrorKind::NotFound, "There is nothing at this path."))?;
    Ok(params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// `None` when the path has no such part, `Some(None)` when it is no id.
fn id_in<K: Named>(ids: &[(String, String)], param: &str) -> Option<Option<Id<K>>> {
    ids.iter().find(|(name, _)| name == param).map(|(_, value)| Id::parse(value))
}

/// The parameter that a complaint about a query begins with; without that, the first name in backticks, which is how a
/// missing or unknown one is named.
fn at_fault(text: &str) -> Option<String> {
    let is_name = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let first = text.split_once(": ").map(|(name, _)| name).filter(is_name);
    first.or_else(|| text.split('`').nth(1)).map(str::to_owned)
}

/// 200 with a body and its ETag.
pub fn versioned<V: Serialize>(view: V, version: i64) -> Response {
    let mut response = Json(view).into_response();
    response.headers_mut().insert(ETAG, etag(version));
    response
}

/// 204: it is gone.
pub fn gone() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn created(body: String, version: i64, replayed: bool) -> Response {
    // What begins with another version than 1 says in its body which one that was.
    let version = if replayed { version_in(&body).unwrap_or(version) } else { version };
    let mut response = shown_once(StatusCode::CREATED, body, replayed);
    response.headers_mut().insert(ETAG, etag(version));
    response
}

/// It may hold a secret, so nothing on the way may keep it.
fn shown_once(status: StatusCode, body: String, replayed: bool) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if replayed {
        headers.insert(idempotency::REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

fn version_in(body: &str) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: i64,
    }
    serde_json::from_str::<Versioned>(body).ok().map(|view| view.version)
}

fn etag(version: i64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// What a handler returns.
pub type Reply = std::result::Result<Response, Failure>;
