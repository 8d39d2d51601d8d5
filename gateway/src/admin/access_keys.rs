//! SigV4 access keys over HTTP.

use super::call::{Call, Reply, gone, versioned};
use super::credentials::{CredentialInput, CredentialPatch, CredentialQuery, CredentialView, RotateInput};
use super::examples;
use super::page::{self, Page};
use super::time::Time;
use crate::app::App;
use crate::id::KeyId;
use crate::tenants::{self, CreatedAccessKey, Credential, Permission, RotatedAccessKey};
use axum::Json;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

const WORD: &str = "access key";

/// An access key. Its secret is shown only by the calls that make it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::access_key())))]
pub struct AccessKeyView {
    /// What it has in common with API keys.
    #[serde(flatten)]
    pub key: CredentialView,
    /// `CKIA…`, as AWS SDKs want it.
    pub access_key_id: String,
}

/// A new access key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::created_access_key())))]
pub struct CreatedAccessKeyView {
    /// The key.
    #[serde(flatten)]
    pub key: AccessKeyView,
    /// What requests are signed with. It is never shown again.
    pub secret_access_key: String,
}

/// An access key's new secret.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::rotated_access_key())))]
pub struct RotatedAccessKeyView {
    /// `key_…`
    pub id: String,
    /// `CKIA…`, as before.
    pub access_key_id: String,
    /// What requests are signed with from now on. It is never shown again.
    pub secret_access_key: String,
    /// Signatures by the former secret are accepted until then; absent: not any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_secret_expires_at: Option<Time>,
}

impl AccessKeyView {
    fn of(key: Credential, call: &Call) -> AccessKeyView {
        let access_key_id = tenants::access_key_id(&key.id);
        AccessKeyView { key: CredentialView::of(key, call), access_key_id }
    }
}

/// Lists a tenant's access keys, in the order of their making.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/access-keys", operation_id = "list_access_keys", tag = "access-keys",
    params(("tenant_id" = String, Path, description = "`ten_…`"), CredentialQuery),
    responses((status = 200, body = Page<AccessKeyView>)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_credentials")))
)]
pub async fn list(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit_with_query(&app, request, Permission::ReadCredentials).await?;
    let query: CredentialQuery = call.query()?;
    let (size, filter, after) = (page::size(query.limit)?, query.filter(call.caller())?, query.after()?);
    let found = tenants::access_keys(&app.store, call.tenant()?, &filter, after.as_ref(), page::rows(size)).await?;
    let view = |key| AccessKeyView::of(key, &call);
    Ok(Json(Page::of(found, size, |key| key.id.to_string(), view)).into_response())
}

/// Makes an access key, and shows its secret once. The caller's role must cover the key's, the key's scope must lie within the
/// caller's, and its limits be no looser than those of the key in use; an operator may give any scope. The key of a service
/// account stays within that account.
#[utoipa::path(
    post, path = "/admin/v1/tenants/{tenant_id}/access-keys", operation_id = "create_access_key", tag = "access-keys",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated call safe for a day: it gets this reply again, secret included"),
    ),
    request_body = CredentialInput,
    responses((status = 201, body = CreatedAccessKeyView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("write_credentials")))
)]
pub async fn create(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::WriteCredentials).await?;
    let input = call.input::<CredentialInput>()?.resolve(&call).await?;
    let made = CreatedAccessKey::generate(&app.secrets, call.tenant()?, input, call.author(), call.now())?;
    let view = CreatedAccessKeyView {
        key: AccessKeyView::of(made.key.clone(), &call),
        secret_access_key: made.secret.expose().to_owned(),
    };
    let issuer = call.caller().issuer();
    Ok(call.create(&view, made.key.version, |change| tenants::create_access_key(change, &issuer, &made)).await?)
}

/// One access key, revoked or not.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/access-keys/{key_id}", operation_id = "get_access_key", tag = "access-keys",
    params(("tenant_id" = String, Path, description = "`ten_…`"), ("key_id" = String, Path, description = "`key_…`")),
    responses((status = 200, body = AccessKeyView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_credentials")))
)]
pub async fn get(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ReadCredentials).await?;
    let id: KeyId = call.id("key_id", WORD)?;
    let key = tenants::access_key_of(&app.store, call.tenant()?, &id).await?;
    let version = key.version;
    Ok(versioned(AccessKeyView::of(key, &call), version))
}

/// Changes an access key that is not revoked. The caller's role and scope must hold the key as it is and as it will be, and its own
/// limits hold what limits are raised; to end it earlier or lower its limits the role is enough. The key in use can't be
/// widened.
#[utoipa::path(
    patch, path = "/admin/v1/tenants/{tenant_id}/access-keys/{key_id}", operation_id = "update_access_key", tag = "access-keys",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("key_id" = String, Path, description = "`key_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    request_body = CredentialPatch,
    responses((status = 200, body = AccessKeyView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("write_credentials")))
)]
pub async fn update(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::WriteCredentials).await?;
    let id: KeyId = call.id("key_id", WORD)?;
    let (update, expected) = (call.input::<CredentialPatch>()?.update()?, call.expected_version()?);
    let (issuer, owner) = (call.caller().issuer(), (call.tenant()?, &id));
    let key = call.change(|change| tenants::update_access_key(change, &issuer, owner, update, expected)).await?;
    let version = key.version;
    Ok(versioned(AccessKeyView::of(key, &call), version))
}

/// Gives an access key a new secret, and shows it once. The former one is accepted for a while longer, so that its holders can be
/// told; one before that is not any more. Id and everything else stay.
#[utoipa::path(
    post, path = "/admin/v1/tenants/{tenant_id}/access-keys/{key_id}/rotate", operation_id = "rotate_access_key", tag = "access-keys",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("key_id" = String, Path, description = "`key_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated call safe for a day: it gets this reply again, secret included"),
    ),
    request_body(content = Option<RotateInput>, description = "May be left out", example = json!({"overlap_seconds": 3600})),
    responses((status = 200, body = RotatedAccessKeyView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("write_credentials")))
)]
pub async fn rotate(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::WriteCredentials).await?;
    let id: KeyId = call.id("key_id", WORD)?;
    let (input, expected) = (call.input_or_default::<RotateInput>()?, call.expected_version()?);
    let rotated = RotatedAccessKey::generate(&app.secrets, &id, input.overlap_seconds, call.now())?;
    let view = RotatedAccessKeyView {
        id: id.to_string(),
        access_key_id: rotated.access_key_id.clone(),
        secret_access_key: rotated.secret.expose().to_owned(),
        previous_secret_expires_at: rotated.former_until.map(Time),
    };
    let (issuer, tenant) = (call.caller().issuer(), call.tenant()?);
    Ok(call.renew(&view, |change| tenants::rotate_access_key(change, &issuer, tenant, &rotated, expected)).await?)
}

/// Revokes an access key, for good. It can still be read; revoking it again is 404. The caller's role must cover the key's.
#[utoipa::path(
    delete, path = "/admin/v1/tenants/{tenant_id}/access-keys/{key_id}", operation_id = "revoke_access_key", tag = "access-keys",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("key_id" = String, Path, description = "`key_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    responses((status = 204, description = "Revoked")),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("write_credentials")))
)]
pub async fn revoke(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::WriteCredentials).await?;
    let id: KeyId = call.id("key_id", WORD)?;
    let expected = call.expected_version()?;
    let (issuer, owner) = (call.caller().issuer(), (call.tenant()?, &id));
    call.change(|change| tenants::revoke_access_key(change, &issuer, owner, expected)).await?;
    Ok(gone())
}
