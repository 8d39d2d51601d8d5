//! Tenants over HTTP.

use super::call::{Call, Reply, gone, versioned};
use super::examples;
use super::page::{self, Page};
use super::time::Time;
use crate::app::App;
use crate::quota::Limits;
use crate::store::TenantFilter;
use crate::tenants::{self, Name, Permission, Status, Tenant, UpdateTenant};
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A tenant.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::tenant())))]
pub struct TenantView {
    /// `ten_…`
    pub id: String,
    /// Unique among tenants that are not deleted.
    pub name: String,
    /// Whether its credentials are accepted.
    pub status: Status,
    /// In force for all its requests together.
    pub limits: Limits,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// When it was deleted; absent while it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Time>,
}

/// A tenant to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "acme", "limits": {"requests_per_minute": 600}}))]
pub struct TenantInput {
    /// 1 to 64 characters; must not be taken.
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    /// In force from the start; absent: none.
    #[serde(default)]
    pub limits: Limits,
}

/// What changes of a tenant; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "acme-eu"}))]
pub struct TenantPatch {
    /// 1 to 64 characters; must not be taken.
    #[schema(min_length = 1, max_length = 64)]
    pub name: Option<String>,
}

/// Which tenants.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TenantQuery {
    /// Most entries; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// Begin after this one: the former page's `next_after`.
    pub after: Option<String>,
    /// Exactly this name.
    pub name: Option<String>,
    /// Only these.
    #[param(inline)]
    pub status: Option<Status>,
    /// Deleted ones too.
    #[serde(default)]
    pub with_deleted: bool,
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> TenantView {
        TenantView {
            id: tenant.id.to_string(),
            name: tenant.name.as_str().to_owned(),
            status: tenant.status,
            limits: tenant.limits,
            created_at: Time(tenant.created_at),
            updated_at: Time(tenant.updated_at),
            deleted_at: tenant.deleted_at.map(Time),
        }
    }
}

fn reply(tenant: Tenant) -> Response {
    let version = tenant.version;
    versioned(TenantView::from(tenant), version)
}

/// Lists tenants, in the order of their making.
#[utoipa::path(
    get, path = "/admin/v1/tenants", operation_id = "list_tenants", tag = "tenants",
    params(TenantQuery),
    responses((status = 200, body = Page<TenantView>)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("read_platform")))
)]
pub async fn list(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit_with_query(&app, request, Permission::ReadPlatform).await?;
    let query: TenantQuery = call.query()?;
    let size = page::size(query.limit)?;
    let after = page::after(query.after.as_deref())?;
    let status = query.status.map(|status| status.as_str().to_owned());
    let filter = TenantFilter { name: query.name, status, with_deleted: query.with_deleted };
    let found = tenants::tenants(&app.store, &filter, after.as_ref(), page::rows(size)).await?;
    Ok(Json(Page::of(found, size, |tenant| tenant.id.to_string(), TenantView::from)).into_response())
}

/// Makes a tenant, active and empty.
#[utoipa::path(
    post, path = "/admin/v1/tenants", operation_id = "create_tenant", tag = "tenants",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated call safe for a day")),
    request_body = TenantInput,
    responses((status = 201, body = TenantView)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_tenants")))
)]
pub async fn create(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageTenants).await?;
    let input: TenantInput = call.input()?;
    let tenant = Tenant::new(Name::parse(&input.name)?, input.limits, call.now());
    let view = TenantView::from(tenant.clone());
    Ok(call.create(&view, tenant.version, |change| tenants::create_tenant(change, &tenant)).await?)
}

/// One tenant; operators also see deleted ones.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}", operation_id = "get_tenant", tag = "tenants",
    params(("tenant_id" = String, Path, description = "`ten_…`")),
    responses((status = 200, body = TenantView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_settings")))
)]
pub async fn get(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ReadSettings).await?;
    let row = app.store.tenant(call.tenant()?).await?;
    Ok(reply(row.map(Tenant::from).ok_or_else(|| tenants::missing("tenant"))?))
}

/// Renames a tenant. What is as asked for already keeps its version and ETag, and nothing is logged.
#[utoipa::path(
    patch, path = "/admin/v1/tenants/{tenant_id}", operation_id = "update_tenant", tag = "tenants",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    request_body = TenantPatch,
    responses((status = 200, body = TenantView)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_tenants")))
)]
pub async fn update(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageTenants).await?;
    let input: TenantPatch = call.input()?;
    let name = input.name.as_deref().map(Name::parse).transpose()?;
    alter(&call, UpdateTenant { name, ..UpdateTenant::default() }).await
}

/// Refuses all its credentials, and ends its running answers; nothing is lost.
#[utoipa::path(
    post, path = "/admin/v1/tenants/{tenant_id}/suspend", operation_id = "suspend_tenant", tag = "tenants",
    params(("tenant_id" = String, Path, description = "`ten_…`")),
    responses((status = 200, body = TenantView)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_tenants")))
)]
pub async fn suspend(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageTenants).await?;
    alter(&call, UpdateTenant { status: Some(Status::Suspended), ..UpdateTenant::default() }).await
}

/// Accepts its credentials again.
#[utoipa::path(
    post, path = "/admin/v1/tenants/{tenant_id}/resume", operation_id = "resume_tenant", tag = "tenants",
    params(("tenant_id" = String, Path, description = "`ten_…`")),
    responses((status = 200, body = TenantView)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_tenants")))
)]
pub async fn resume(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageTenants).await?;
    alter(&call, UpdateTenant { status: Some(Status::Active), ..UpdateTenant::default() }).await
}

async fn alter(call: &Call, update: UpdateTenant) -> Reply {
    let (tenant, expected) = (call.tenant()?.clone(), call.expected_version()?);
    let done = call.change(|change| tenants::update_tenant(change, &tenant, update, expected)).await;
    Ok(reply(done?))
}

/// Deletes a tenant for every purpose but its ledger: credentials are refused, running answers end by themselves.
#[utoipa::path(
    delete, path = "/admin/v1/tenants/{tenant_id}", operation_id = "delete_tenant", tag = "tenants",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    responses((status = 204, description = "Gone")),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_tenants")))
)]
pub async fn delete(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageTenants).await?;
    let (tenant, expected) = (call.tenant()?.clone(), call.expected_version()?);
    call.change(|change| tenants::delete_tenant(change, &tenant, expected)).await?;
    Ok(gone())
}
