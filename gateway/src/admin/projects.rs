//! Projects over HTTP.

use super::call::{Call, Reply, gone, versioned};
use super::examples;
use super::page::{self, Page};
use super::time::Time;
use crate::app::App;
use crate::id::ProjectId;
use crate::quota::Limits;
use crate::store::ProjectFilter;
use crate::tenants::{self, Name, Permission, Project, UpdateProject};
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A project.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::project())))]
pub struct ProjectView {
    /// `prj_…`
    pub id: String,
    /// `ten_…`
    pub tenant_id: String,
    /// Unique in its tenant, among projects that are not deleted.
    pub name: String,
    /// Its own; its tenant's hold too.
    pub limits: Limits,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// When it was deleted; absent while it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Time>,
}

/// A project to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "checkout"}))]
pub struct ProjectInput {
    /// 1 to 64 characters; must not be taken in this tenant.
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
}

/// What changes of a project; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "checkout-eu"}))]
pub struct ProjectPatch {
    /// 1 to 64 characters; must not be taken in this tenant.
    #[schema(min_length = 1, max_length = 64)]
    pub name: Option<String>,
}

/// Which projects.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ProjectQuery {
    /// Most entries; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// Begin after this one: the former page's `next_after`.
    pub after: Option<String>,
    /// Exactly this name.
    pub name: Option<String>,
    /// Deleted ones too.
    #[serde(default)]
    pub with_deleted: bool,
}

impl From<Project> for ProjectView {
    fn from(project: Project) -> ProjectView {
        ProjectView {
            id: project.id.to_string(),
            tenant_id: project.tenant.to_string(),
            name: project.name.as_str().to_owned(),
            limits: project.limits,
            created_at: Time(project.created_at),
            updated_at: Time(project.updated_at),
            deleted_at: project.deleted_at.map(Time),
        }
    }
}

fn reply(project: Project) -> Response {
    let version = project.version;
    versioned(ProjectView::from(project), version)
}

/// Lists a tenant's projects, in the order of their making.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/projects", operation_id = "list_projects", tag = "projects",
    params(("tenant_id" = String, Path, description = "`ten_…`"), ProjectQuery),
    responses((status = 200, body = Page<ProjectView>)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_settings")))
)]
pub async fn list(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit_with_query(&app, request, Permission::ReadSettings).await?;
    let query: ProjectQuery = call.query()?;
    let (size, after) = (page::size(query.limit)?, page::after(query.after.as_deref())?);
    let filter = ProjectFilter { name: query.name, with_deleted: query.with_deleted };
    let found = tenants::projects(&app.store, call.tenant()?, &filter, after.as_ref(), page::rows(size)).await?;
    Ok(Json(Page::of(found, size, |project| project.id.to_string(), ProjectView::from)).into_response())
}

/// Makes a project, without limits of its own.
#[utoipa::path(
    post, path = "/admin/v1/tenants/{tenant_id}/projects", operation_id = "create_project", tag = "projects",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated call safe for a day"),
    ),
    request_body = ProjectInput,
    responses((status = 201, body = ProjectView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("write_settings")))
)]
pub async fn create(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::WriteSettings).await?;
    let input: ProjectInput = call.input()?;
    let project = Project::new(call.tenant()?.clone(), Name::parse(&input.name)?, call.now());
    let view = ProjectView::from(project.clone());
    Ok(call.create(&view, project.version, |change| tenants::create_project(change, &project)).await?)
}

/// One project, also when it is deleted: what it used can still be read.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/projects/{project_id}", operation_id = "get_project", tag = "projects",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("project_id" = String, Path, description = "`prj_…`"),
    ),
    responses((status = 200, body = ProjectView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_settings")))
)]
pub async fn get(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ReadSettings).await?;
    Ok(reply(tenants::project(&app.store, call.tenant()?, &id(&call)?).await?))
}

/// Renames a project. What is as asked for already keeps its version and ETag, and nothing is logged.
#[utoipa::path(
    patch, path = "/admin/v1/tenants/{tenant_id}/projects/{project_id}", operation_id = "update_project",
    tag = "projects",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("project_id" = String, Path, description = "`prj_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    request_body = ProjectPatch,
    responses((status = 200, body = ProjectView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("write_settings")))
)]
pub async fn update(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::WriteSettings).await?;
    let (tenant, id) = (call.tenant()?, id(&call)?);
    let input: ProjectPatch = call.input()?;
    let name = input.name.as_deref().map(Name::parse).transpose()?;
    let (update, expected) = (UpdateProject { name, ..UpdateProject::default() }, call.expected_version()?);
    let done = call.change(|change| tenants::update_project(change, (tenant, &id), update, expected)).await?;
    Ok(reply(done))
}

/// Deletes a project for every purpose but the ledger: its keys are refused from then on, running answers end by
/// themselves. The caller's role must cover the roles of all keys and service accounts that end with it. A tenant's last
/// project can be deleted too.
#[utoipa::path(
    delete, path = "/admin/v1/tenants/{tenant_id}/projects/{project_id}", operation_id = "delete_project",
    tag = "projects",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("project_id" = String, Path, description = "`prj_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    responses((status = 204, description = "Gone")),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("write_settings")))
)]
pub async fn delete(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::WriteSettings).await?;
    let (tenant, id, expected) = (call.tenant()?, id(&call)?, call.expected_version()?);
    let issuer = call.caller().issuer();
    call.change(|change| tenants::delete_project(change, &issuer, (tenant, &id), expected)).await?;
    Ok(gone())
}

fn id(call: &Call) -> crate::error::Result<ProjectId> {
    call.id("project_id", "project")
}

#[cfg(test)]
#[path = "projects_tests.rs"]
mod tests;
