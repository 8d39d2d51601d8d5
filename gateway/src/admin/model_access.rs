//! Model access over HTTP: a level's own list, those above it, and what they say of a model.

use super::call::{Call, Reply, versioned};
use super::examples;
use crate::app::App;
use crate::catalog::{Access, Explanation, Level, ModelAccess};
use crate::error::{Error, Result};
use crate::tenants::{self, Permission, Project, Tenant, UpdateProject, UpdateTenant};
use axum::extract::{Request, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Models that may be called.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"models": ["amazon.nova-*"]}))]
pub struct ModelList {
    /// Ids of models, or beginnings of them that end in `*`. `null`: all; an empty list: none. It must be there: to open
    /// everything takes a word.
    #[serde(deserialize_with = "Deserialize::deserialize")]
    #[schema(required)]
    pub models: ModelAccess,
}

/// The model access of a tenant or a project.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::model_access())))]
pub struct ModelAccessView {
    /// Whose.
    pub level: Level,
    /// Set at this level.
    pub own: ModelList,
    /// In force: a model must be allowed at every one of these levels. The widest first.
    pub effective: Vec<LevelAccess>,
    /// Whether the model that was asked for may be called, and which level denies it; absent unless one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Explanation>,
}

/// One level's.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LevelAccess {
    /// Whose.
    pub level: Level,
    /// `null`: all.
    pub models: ModelAccess,
}

/// What is asked besides.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ModelAccessQuery {
    /// Whether this model may be called: any name that a caller could use, an alias or a regional profile too.
    pub model: Option<String>,
}

fn reply(level: Level, access: &Access, verdict: Option<Explanation>, version: i64) -> Response {
    let one = |level, access: &ModelAccess| LevelAccess { level, models: access.clone() };
    let tenants = one(Level::Tenant, &access.tenant);
    let (own, effective) = match level {
        Level::Tenant => (&access.tenant, vec![tenants]),
        Level::Project => (&access.project, vec![tenants, one(level, &access.project)]),
        Level::Key => (&access.key, vec![tenants, one(Level::Project, &access.project), one(level, &access.key)]),
    };
    let own = ModelList { models: own.clone() };
    versioned(ModelAccessView { level, own, effective, verdict }, version)
}

/// What `level` and those above it say of the model that the query names, if it names one.
fn verdict(call: &Call, level: Level, access: &Access) -> Result<Option<Explanation>> {
    let Some(name) = call.query::<ModelAccessQuery>()?.model else { return Ok(None) };
    let catalog = call.app().catalog.load();
    let model = catalog.named(&name).ok_or_else(|| Error::invalid("model", "The catalog has no such model."))?;
    let mut explanation = access.explain(&model.id);
    explanation.levels.retain(|verdict| match level {
        Level::Tenant => verdict.level == Level::Tenant,
        Level::Project => verdict.level != Level::Key,
        Level::Key => true,
    });
    Ok(Some(explanation))
}

async fn tenant(call: &Call) -> Result<Tenant> {
    let row = call.app().store.tenant(call.tenant()?).await?;
    row.map(Tenant::from).ok_or_else(|| tenants::missing("tenant"))
}

fn tenants_access(tenant: &Tenant) -> Access {
    Access { tenant: tenant.model_access.clone(), ..Access::default() }
}

fn projects_access(tenant: Tenant, project: &Project) -> Access {
    Access { tenant: tenant.model_access, project: project.model_access.clone(), ..Access::default() }
}

/// The models that a tenant may call.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/model-access", operation_id = "get_tenant_model_access",
    tag = "model access",
    params(("tenant_id" = String, Path, description = "`ten_…`"), ModelAccessQuery),
    responses((status = 200, body = ModelAccessView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_settings")))
)]
pub async fn of_tenant(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit_with_query(&app, request, Permission::ReadSettings).await?;
    let tenant = tenant(&call).await?;
    let access = tenants_access(&tenant);
    Ok(reply(Level::Tenant, &access, verdict(&call, Level::Tenant, &access)?, tenant.version))
}

/// Replaces the list of models that a tenant may call. The ETag is the tenant's. What is as asked for already keeps its
/// version and ETag, and nothing is logged.
#[utoipa::path(
    put, path = "/admin/v1/tenants/{tenant_id}/model-access", operation_id = "set_tenant_model_access",
    tag = "model access",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    request_body = ModelList,
    responses((status = 200, body = ModelAccessView)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_tenants")))
)]
pub async fn set_of_tenant(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageTenants).await?;
    let (tenant, list, expected) = (call.tenant()?, call.input::<ModelList>()?, call.expected_version()?);
    let update = UpdateTenant { model_access: Some(list.models), ..UpdateTenant::default() };
    let done = call.change(|change| tenants::update_tenant(change, tenant, update, expected)).await?;
    Ok(reply(Level::Tenant, &tenants_access(&done), None, done.version))
}

/// The models that a project's keys may call.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/projects/{project_id}/model-access",
    operation_id = "get_project_model_access", tag = "model access",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("project_id" = String, Path, description = "`prj_…`"),
        ModelAccessQuery,
    ),
    responses((status = 200, body = ModelAccessView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_settings")))
)]
pub async fn of_project(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit_with_query(&app, request, Permission::ReadSettings).await?;
    let project = tenants::project(&app.store, call.tenant()?, &call.id("project_id", "project")?).await?;
    let access = projects_access(tenant(&call).await?, &project);
    Ok(reply(Level::Project, &access, verdict(&call, Level::Project, &access)?, project.version))
}

/// Replaces the list of models that a project's keys may call; it can narrow the tenant's, and never widen it. The ETag
/// is the project's. What is as asked for already keeps its version and ETag, and nothing is logged.
#[utoipa::path(
    put, path = "/admin/v1/tenants/{tenant_id}/projects/{project_id}/model-access",
    operation_id = "set_project_model_access", tag = "model access",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("project_id" = String, Path, description = "`prj_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    request_body = ModelList,
    responses((status = 200, body = ModelAccessView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("write_settings")))
)]
pub async fn set_of_project(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::WriteSettings).await?;
    let (tenant, id) = (call.tenant()?, call.id("project_id", "project")?);
    let (list, expected) = (call.input::<ModelList>()?, call.expected_version()?);
    let update = UpdateProject { model_access: Some(list.models), ..UpdateProject::default() };
    // Before the change: once it is made, nothing may keep its caller from hearing so.
    let above = self::tenant(&call).await?;
    let done = call.change(|change| tenants::update_project(change, (tenant, &id), update, expected)).await?;
    Ok(reply(Level::Project, &projects_access(above, &done), None, done.version))
}

#[cfg(test)]
#[path = "model_access_tests.rs"]
mod tests;
