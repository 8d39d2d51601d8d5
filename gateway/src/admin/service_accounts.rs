//! Service accounts over HTTP.

use super::call::{Call, Reply, gone, versioned};
use super::examples;
use super::page::{self, Page};
use super::time::Time;
use crate::app::App;
use crate::error::Result;
use crate::id::{ProjectId, ServiceAccountId};
use crate::store::ServiceAccountFilter;
use crate::tenants::{
    self, CreateServiceAccount, FederatedIdentity, Name, Permission, Role, Scope, ServiceAccount, UpdateServiceAccount,
};
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A service account: a machine of a project.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::service_account())))]
pub struct ServiceAccountView {
    /// `sva_…`
    pub id: String,
    /// `ten_…`
    pub tenant_id: String,
    /// `prj_…`
    pub project_id: String,
    /// Unique in its project.
    pub name: String,
    /// What it may do at most.
    pub role: Role,
    /// Narrows that.
    pub scope: Scope,
    /// Whose JWTs it may present; absent: none's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub federated_identity: Option<FederatedIdentity>,
    /// What the audience of its JWTs ends in, after the issuer's configured audience and a slash.
    pub jwt_audience_suffix: String,
    /// Not usable from then on; absent: usable until deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// A service account to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!(examples::service_account_input())))]
pub struct ServiceAccountInput {
    /// 1 to 64 characters; must not be taken in its project.
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    /// For which project; can't be changed later.
    #[schema(value_type = String)]
    pub project_id: ProjectId,
    /// A tenant's role that the caller's own covers; absent: `tenant_developer`.
    #[serde(default = "developer")]
    pub role: Role,
    /// Within the caller's own, unless an operator calls; absent: using models.
    #[serde(default)]
    pub scope: Scope,
    /// Whose JWTs it may present.
    pub federated_identity: Option<FederatedIdentity>,
    /// Ahead, at most ten years; absent: usable until deleted.
    pub expires_at: Option<Time>,
}

/// What changes of a service account; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"role": "tenant_developer", "expires_at": null}))]
pub struct ServiceAccountPatch {
    /// 1 to 64 characters; must not be taken in its project.
    #[schema(min_length = 1, max_length = 64)]
    pub name: Option<String>,
    /// A tenant's role that the caller's own covers.
    pub role: Option<Role>,
    /// The whole scope.
    pub scope: Option<Scope>,
    /// `null`: JWTs are not taken any more.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<FederatedIdentity>)]
    pub federated_identity: Option<Option<FederatedIdentity>>,
    /// Ahead, at most ten years; `null`: usable until deleted. Not later by a credential of its own.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Time>)]
    pub expires_at: Option<Option<Time>>,
}

/// Which service accounts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccountQuery {
    /// Most entries; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// Begin after this one: the former page's `next_after`.
    pub after: Option<String>,
    /// Of this project.
    #[param(value_type = Option<String>)]
    pub project_id: Option<ProjectId>,
    /// Exactly this name.
    pub name: Option<String>,
}

fn developer() -> Role {
    Role::TenantDeveloper
}

/// Tells `null`, which takes something away, from what is absent, which stays.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<ServiceAccount> for ServiceAccountView {
    fn from(account: ServiceAccount) -> ServiceAccountView {
        ServiceAccountView {
            id: account.id.to_string(),
            tenant_id: account.tenant.to_string(),
            project_id: account.project.to_string(),
            name: account.name.as_str().to_owned(),
            role: account.role,
            scope: account.scope,
            federated_identity: account.federated_identity,
            jwt_audience_suffix: account.id.to_string(),
            expires_at: account.expires_at.map(Time),
            created_at: Time(account.created_at),
            updated_at: Time(account.updated_at),
        }
    }
}

impl ServiceAccountInput {
    fn read(self) -> Result<CreateServiceAccount> {
        Ok(CreateServiceAccount {
            project: self.project_id,
            name: Name::parse(&self.name)?,
            role: self.role,
            scope: self.scope,
            federated_identity: self.federated_identity,
            expires_at: self.expires_at.map(|time| time.0),
        })
    }
}

impl ServiceAccountPatch {
    fn read(self) -> Result<UpdateServiceAccount> {
        Ok(UpdateServiceAccount {
            name: self.name.as_deref().map(Name::parse).transpose()?,
            role: self.role,
            scope: self.scope,
            federated_identity: self.federated_identity,
            expires_at: self.expires_at.map(|time| time.map(|time| time.0)),
        })
    }
}

fn reply(account: ServiceAccount) -> Response {
    let version = account.version;
    versioned(ServiceAccountView::from(account), version)
}

/// Lists a tenant's service accounts, in the order of their making. Those of deleted projects are gone with them.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/service-accounts", operation_id = "list_service_accounts",
    tag = "service accounts",
    params(("tenant_id" = String, Path, description = "`ten_…`"), ServiceAccountQuery),
    responses((status = 200, body = Page<ServiceAccountView>)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_credentials")))
)]
pub async fn list(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit_with_query(&app, request, Permission::ReadCredentials).await?;
    let query: ServiceAccountQuery = call.query()?;
    let (size, after) = (page::size(query.limit)?, page::after(query.after.as_deref())?);
    let filter = ServiceAccountFilter { project: query.project_id, name: query.name };
    let found =
        tenants::service_accounts(&app.store, call.tenant()?, &filter, after.as_ref(), page::rows(size)).await?;
    Ok(Json(Page::of(found, size, |account| account.id.to_string(), ServiceAccountView::from)).into_response())
}

/// Makes a service account. Its role must be one that the caller's covers; its scope must lie within the caller's, unless
/// an operator calls.
#[utoipa::path(
    post, path = "/admin/v1/tenants/{tenant_id}/service-accounts", operation_id = "create_service_account",
    tag = "service accounts",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated call safe for a day"),
    ),
    request_body = ServiceAccountInput,
    responses((status = 201, body = ServiceAccountView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("write_credentials")))
)]
pub async fn create(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::WriteCredentials).await?;
    let input: ServiceAccountInput = call.input()?;
    let account = ServiceAccount::new(call.tenant()?.clone(), input.read()?, call.now())?;
    let (view, issuer) = (ServiceAccountView::from(account.clone()), call.caller().issuer());
    let create = |change| tenants::create_service_account(change, &issuer, &account);
    Ok(call.create(&view, account.version, create).await?)
}

/// One service account.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/service-accounts/{service_account_id}",
    operation_id = "get_service_account", tag = "service accounts",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("service_account_id" = String, Path, description = "`sva_…`"),
    ),
    responses((status = 200, body = ServiceAccountView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_credentials")))
)]
pub async fn get(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ReadCredentials).await?;
    Ok(reply(tenants::service_account(&app.store, call.tenant()?, &id(&call)?).await?))
}

/// Changes a service account. Before and after, its role must be one that the caller's covers, and its scope lie within
/// the caller's, unless an operator calls; to end it earlier, or to take its federated identity away, the role is enough.
/// What is as asked for already keeps its version and ETag, and nothing is logged.
#[utoipa::path(
    patch, path = "/admin/v1/tenants/{tenant_id}/service-accounts/{service_account_id}",
    operation_id = "update_service_account", tag = "service accounts",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("service_account_id" = String, Path, description = "`sva_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    request_body = ServiceAccountPatch,
    responses((status = 200, body = ServiceAccountView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("write_credentials")))
)]
pub async fn update(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::WriteCredentials).await?;
    let (tenant, id, issuer) = (call.tenant()?, id(&call)?, call.caller().issuer());
    let (update, expected) = (call.input::<ServiceAccountPatch>()?.read()?, call.expected_version()?);
    let update = |change| tenants::update_service_account(change, &issuer, (tenant, &id), update, expected);
    Ok(reply(call.change(update).await?))
}

/// Deletes a service account: its keys and JWTs are refused from then on, and running answers of them end. The caller's
/// role must cover the account's, and those of its keys.
#[utoipa::path(
    delete, path = "/admin/v1/tenants/{tenant_id}/service-accounts/{service_account_id}",
    operation_id = "delete_service_account", tag = "service accounts",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("service_account_id" = String, Path, description = "`sva_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    responses((status = 204, description = "Gone")),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("write_credentials")))
)]
pub async fn delete(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::WriteCredentials).await?;
    let (tenant, id, issuer) = (call.tenant()?, id(&call)?, call.caller().issuer());
    let expected = call.expected_version()?;
    call.change(|change| tenants::delete_service_account(change, &issuer, (tenant, &id), expected)).await?;
    Ok(gone())
}

fn id(call: &Call) -> Result<ServiceAccountId> {
    call.id("service_account_id", "service account")
}

#[cfg(test)]
#[path = "service_accounts_tests.rs"]
mod tests;
