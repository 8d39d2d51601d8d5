//! Operators' tokens over HTTP.

use super::call::{Call, Reply, gone, versioned};
use super::credentials::{CredentialStatus, RotateInput, given};
use super::examples;
use super::page::{self, Page};
use super::problem::Problem;
use super::time::Time;
use crate::app::App;
use crate::clock::Micros;
use crate::error::{Error, Result};
use crate::id::AdminTokenId;
use crate::store::OperatorFilter;
use crate::tenants::{
    self, AdminToken, CreateAdminToken, CreatedAdminToken, Name, Permission, Role, RotatedAdminToken, Scope,
    UpdateAdminToken,
};
use axum::Json;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

const WORD: &str = "admin token";

/// An operator's token. Its secret is shown only by the calls that make it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::admin_token())))]
pub struct AdminTokenView {
    /// `adm_…`
    pub id: String,
    /// For people; need not be unique.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// Narrows that.
    pub scope: Scope,
    /// Whether it is accepted.
    pub status: CredentialStatus,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// Public id of the credential that made it.
    pub created_by: String,
    /// Not accepted from then on; absent: until revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
    /// The secret before the last rotation is accepted until then; absent where there is none any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_secret_expires_at: Option<Time>,
    /// When it was last used, a little late; absent before its first use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Time>,
}

/// A new token.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::created_admin_token())))]
pub struct CreatedAdminTokenView {
    /// The token.
    #[serde(flatten)]
    pub token: AdminTokenView,
    /// `ckadm_…`, to be sent as `Authorization: Bearer`. It is never shown again.
    pub secret: String,
}

/// A token's new secret.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::rotated_admin_token())))]
pub struct RotatedAdminTokenView {
    /// `adm_…`
    pub id: String,
    /// `ckadm_…`, to be sent as `Authorization: Bearer`. It is never shown again.
    pub secret: String,
    /// The former secret is accepted until then; absent: not any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_secret_expires_at: Option<Time>,
}

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "terraform", "role": "platform_admin", "scope": {"operations": ["administer"], "ip_ranges": ["10.0.0.0/8"]}, "expires_at": "2030-12-31T00:00:00Z"}))]
pub struct AdminTokenInput {
    /// 1 to 64 characters.
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    /// `platform_admin` or `platform_viewer`.
    pub role: Role,
    /// Operations of `read_usage` and `administer`, and ranges of addresses. Absent: both operations, from anywhere.
    pub scope: Option<Scope>,
    /// Ahead, at most ten years; absent: until revoked.
    pub expires_at: Option<Time>,
}

/// What changes of a token; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "terraform-eu", "expires_at": null}))]
pub struct AdminTokenPatch {
    /// 1 to 64 characters.
    #[schema(min_length = 1, max_length = 64)]
    pub name: Option<String>,
    /// `platform_admin` or `platform_viewer`.
    pub role: Option<Role>,
    /// The whole of it.
    pub scope: Option<Scope>,
    /// Ahead, at most ten years; `null`: until revoked.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Time>)]
    pub expires_at: Option<Option<Time>>,
}

/// Which tokens.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AdminTokenQuery {
    /// Exactly this name.
    pub name: Option<String>,
    /// Made with this credential, by its public id.
    pub created_by: Option<String>,
    /// Revoked ones too.
    #[serde(default)]
    pub with_revoked: bool,
    /// Most entries; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// Begin after this one: the former page's `next_after`.
    pub after: Option<String>,
}

impl AdminTokenView {
    fn of(token: AdminToken, now: Micros) -> AdminTokenView {
        AdminTokenView {
            id: token.id.to_string(),
            name: token.name.as_str().to_owned(),
            role: token.role,
            scope: token.scope,
            status: CredentialStatus::at(now, token.expires_at, token.revoked_at),
            created_at: Time(token.created_at),
            updated_at: Time(token.updated_at),
            created_by: token.created_by,
            expires_at: token.expires_at.map(Time),
            revoked_at: token.revoked_at.map(Time),
            previous_secret_expires_at: token.previous_expires_at.filter(|until| *until > now).map(Time),
            last_used_at: token.last_used_at.map(Time),
        }
    }
}

/// Lists operators' tokens, in the order of their making.
#[utoipa::path(
    get, path = "/admin/v1/admin-tokens", operation_id = "list_admin_tokens", tag = "admin-tokens",
    params(AdminTokenQuery),
    responses((status = 200, body = Page<AdminTokenView>)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("read_platform")))
)]
pub async fn list(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit_with_query(&app, request, Permission::ReadPlatform).await?;
    let query: AdminTokenQuery = call.query()?;
    let size = page::size(query.limit)?;
    let after = query.after.as_deref().map(after).transpose()?;
    let filter = OperatorFilter { name: query.name, created_by: query.created_by, with_revoked: query.with_revoked };
    let found = tenants::admin_tokens(&app.store, &filter, after.as_ref(), page::rows(size)).await?;
    let view = |token| AdminTokenView::of(token, call.now());
    Ok(Json(Page::of(found, size, |token| token.id.to_string(), view)).into_response())
}

fn after(text: &str) -> Result<AdminTokenId> {
    AdminTokenId::parse(text).ok_or_else(|| Error::invalid("after", "It is no `next_after` of this list."))
}

/// Makes an operator's token, and shows it once. Its scope must lie within the caller's.
#[utoipa::path(
    post, path = "/admin/v1/admin-tokens", operation_id = "create_admin_token", tag = "admin-tokens",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated call safe for a day: it gets this reply again, secret included")),
    request_body = AdminTokenInput,
    responses((status = 201, body = CreatedAdminTokenView)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_operators")))
)]
pub async fn create(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageOperators).await?;
    let input: AdminTokenInput = call.input()?;
    let input = CreateAdminToken {
        name: Name::parse(&input.name)?,
        role: input.role,
        scope: input.scope.unwrap_or_else(Scope::operators),
        expires_at: input.expires_at.map(|time| time.0),
    };
    let made = CreatedAdminToken::generate(&app.secrets, input, call.author(), call.now())?;
    let view = CreatedAdminTokenView {
        token: AdminTokenView::of(made.token.clone(), call.now()),
        secret: made.text.expose().to_owned(),
    };
    let issuer = call.caller().issuer();
    Ok(call.create(&view, made.token.version, |change| tenants::create_admin_token(change, &issuer, &made)).await?)
}

/// One operator's token, revoked or not.
#[utoipa::path(
    get, path = "/admin/v1/admin-tokens/{token_id}", operation_id = "get_admin_token", tag = "admin-tokens",
    params(("token_id" = String, Path, description = "`adm_…`")),
    responses((status = 200, body = AdminTokenView)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("read_platform")))
)]
pub async fn get(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ReadPlatform).await?;
    let id: AdminTokenId = call.id("token_id", WORD)?;
    let token = tenants::admin_token(&app.store, &id).await?;
    let version = token.version;
    Ok(versioned(AdminTokenView::of(token, call.now()), version))
}

/// Changes an operator's token that is not revoked. The caller's scope must hold it as it is and as it will be; the token
/// in use can't be widened, and the last one that can administer everything from here can't be narrowed.
#[utoipa::path(
    patch, path = "/admin/v1/admin-tokens/{token_id}", operation_id = "update_admin_token", tag = "admin-tokens",
    params(
        ("token_id" = String, Path, description = "`adm_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    request_body = AdminTokenPatch,
    responses(
        (status = 200, body = AdminTokenView),
        (status = 409, description = "It is the last one that can administer everything from here", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_operators")))
)]
pub async fn update(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageOperators).await?;
    let id: AdminTokenId = call.id("token_id", WORD)?;
    let input: AdminTokenPatch = call.input()?;
    let update = UpdateAdminToken {
        name: input.name.as_deref().map(Name::parse).transpose()?,
        role: input.role,
        scope: input.scope,
        expires_at: input.expires_at.map(|given| given.map(|time| time.0)),
    };
    let (issuer, expected) = (call.caller().issuer(), call.expected_version()?);
    let token = call.change(|change| tenants::update_admin_token(change, &issuer, &id, update, expected)).await?;
    let version = token.version;
    Ok(versioned(AdminTokenView::of(token, call.now()), version))
}

/// Gives an operator's token a new secret, and shows it once. The former one is accepted for a while longer; one before
/// that is not any more. Id and everything else stay.
#[utoipa::path(
    post, path = "/admin/v1/admin-tokens/{token_id}/rotate", operation_id = "rotate_admin_token", tag = "admin-tokens",
    params(
        ("token_id" = String, Path, description = "`adm_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated call safe for a day: it gets this reply again, secret included"),
    ),
    request_body(content = Option<RotateInput>, description = "May be left out", example = json!({"overlap_seconds": 3600})),
    responses((status = 200, body = RotatedAdminTokenView)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_operators")))
)]
pub async fn rotate(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageOperators).await?;
    let id: AdminTokenId = call.id("token_id", WORD)?;
    let (input, expected) = (call.input_or_default::<RotateInput>()?, call.expected_version()?);
    let rotated = RotatedAdminToken::generate(&app.secrets, &id, input.overlap_seconds, call.now())?;
    let view = RotatedAdminTokenView {
        id: id.to_string(),
        secret: rotated.text.expose().to_owned(),
        previous_secret_expires_at: rotated.former_until.map(Time),
    };
    let issuer = call.caller().issuer();
    Ok(call.renew(&view, |change| tenants::rotate_admin_token(change, &issuer, &rotated, expected)).await?)
}

/// Revokes an operator's token, for good. It can still be read; revoking it again is 404. The last one that can
/// administer everything from here stays.
#[utoipa::path(
    delete, path = "/admin/v1/admin-tokens/{token_id}", operation_id = "revoke_admin_token", tag = "admin-tokens",
    params(
        ("token_id" = String, Path, description = "`adm_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    responses(
        (status = 204, description = "Revoked"),
        (status = 409, description = "It is the last one that can administer everything from here", body = Problem, content_type = "application/problem+json"),
    ),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_operators")))
)]
pub async fn revoke(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageOperators).await?;
    let id: AdminTokenId = call.id("token_id", WORD)?;
    let (issuer, expected) = (call.caller().issuer(), call.expected_version()?);
    call.change(|change| tenants::revoke_admin_token(change, &issuer, &id, expected)).await?;
    Ok(gone())
}

#[cfg(test)]
#[path = "admin_tokens_tests.rs"]
mod tests;
