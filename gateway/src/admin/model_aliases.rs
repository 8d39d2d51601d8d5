//! Other ids of models over HTTP.

use super::call::{Call, Reply, gone, versioned};
use super::models::missing;
use super::page::{Page, PageQuery};
use super::problem::Problem;
use super::time::Time;
use crate::app::App;
use crate::catalog::{self, Alias, Snapshot};
use crate::clock::Micros;
use crate::tenants::Permission;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Another id of a model: it costs, answers and is accessible as that model, which the ledger names.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!({
    "id": "fast", "target": "huggingface.smollm2-135m-instruct", "served": true, "version": 1_790_000_000_000_000_i64,
    "created_at": "2026-09-21T14:13:20Z", "updated_at": "2026-09-21T14:13:20Z",
})))]
pub struct ModelAliasView {
    /// As callers name it; regions may stand in front.
    pub id: String,
    /// Id of the model.
    pub target: String,
    /// Whether a call would be answered.
    pub served: bool,
    /// As in the ETag.
    #[schema(minimum = 1)]
    pub version: i64,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// What an alias names.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"target": "huggingface.smollm2-135m-instruct"}))]
pub struct ModelAliasInput {
    /// Id of a model of the catalog; not another alias.
    #[schema(min_length = 1, max_length = 128)]
    pub target: String,
}

impl ModelAliasView {
    fn find(catalog: &Snapshot, id: &str, now: Micros) -> Option<ModelAliasView> {
        let (alias, stamp) = (catalog.alias(id)?, catalog.stamp(id)?);
        Some(ModelAliasView {
            id: alias.id.to_owned(),
            target: alias.model.id.clone(),
            served: alias.model.is_served(now),
            version: stamp.version,
            created_at: Time(stamp.created_at),
            updated_at: Time(stamp.updated_at),
        })
    }
}

/// Lists aliases, by id, as they are in force on this gateway.
#[utoipa::path(
    get, path = "/admin/v1/model-aliases", operation_id = "list_model_aliases", tag = "catalog",
    params(PageQuery),
    responses((status = 200, body = Page<ModelAliasView>, example = json!({
        "data": [{
            "id": "fast", "target": "huggingface.smollm2-135m-instruct", "served": true,
            "version": 1_790_000_000_000_000_i64, "created_at": "2026-09-21T14:13:20Z",
            "updated_at": "2026-09-21T14:13:20Z",
        }],
        "has_more": false,
    }))),
    security(("admin_token" = [])), extensions(("x-permission" = json!("read_platform")))
)]
pub async fn list(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit_with_query(&app, request, Permission::ReadPlatform).await?;
    let query: PageQuery = call.query()?;
    let size = query.size()?;
    let catalog = app.catalog.load();
    let ids = catalog.aliases().map(|alias| alias.id);
    let ids = ids.filter(|id| query.after.as_deref().is_none_or(|after| *id > after));
    let found = ids.filter_map(|id| ModelAliasView::find(&catalog, id, call.now())).take(size + 1).collect();
    Ok(Json(Page::of(found, size, |alias: &ModelAliasView| alias.id.clone(), |alias| alias)).into_response())
}

/// One alias.
#[utoipa::path(
    get, path = "/admin/v1/model-aliases/{alias_id}", operation_id = "get_model_alias", tag = "catalog",
    params(("alias_id" = String, Path, description = "The alias", example = "fast")),
    responses((status = 200, body = ModelAliasView)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("read_platform")))
)]
pub async fn get(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ReadPlatform).await?;
    let id = call.text("alias_id", "alias")?;
    let view = ModelAliasView::find(&app.catalog.load(), id, call.now()).ok_or_else(|| missing("alias"))?;
    let version = view.version;
    Ok(versioned(view, version))
}

/// Makes an alias, or points it to another model. `If-None-Match: *` only makes it.
#[utoipa::path(
    put, path = "/admin/v1/model-aliases/{alias_id}", operation_id = "put_model_alias", tag = "catalog",
    params(
        ("alias_id" = String, Path, description = "Letters, digits and `. _ : -`; must not be a model's id", example = "fast"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: 412 when it is there already"),
    ),
    request_body = ModelAliasInput,
    responses(
        (status = 200, description = "Changed, or as asked for already", body = ModelAliasView),
        (status = 201, description = "Made", body = ModelAliasView),
        (status = 409, description = "The id is a model's, or the catalog is full or locked",
            content_type = "application/problem+json", body = Problem),
    ),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_catalog")))
)]
pub async fn put(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageCatalog).await?;
    let ModelAliasInput { target } = call.input()?;
    let id = call.text("alias_id", "alias")?;
    let expected = call.expected_version_or_absence()?;
    let alias = Alias { target };
    let done = call.change(|change| catalog::set_alias(change, &app.config, id, alias, expected)).await?;
    catalog::refresh(&app).await;
    let view = ModelAliasView::find(&done.catalog, id, call.now()).ok_or_else(|| missing("alias"))?;
    let version = view.version;
    let mut reply = versioned(view, version);
    if done.is_new {
        *reply.status_mut() = StatusCode::CREATED;
    }
    Ok(reply)
}

/// Removes an alias; calls that name it are told that there is no such model.
#[utoipa::path(
    delete, path = "/admin/v1/model-aliases/{alias_id}", operation_id = "delete_model_alias", tag = "catalog",
    params(
        ("alias_id" = String, Path, description = "The alias", example = "fast"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    responses(
        (status = 204, description = "Gone"),
        (status = 409, description = "The catalog is locked", content_type = "application/problem+json", body = Problem),
    ),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_catalog")))
)]
pub async fn delete(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageCatalog).await?;
    let (id, expected) = (call.text("alias_id", "alias")?, call.expected_version()?);
    call.change(|change| catalog::delete_alias(change, &app.config, id, expected)).await?;
    catalog::refresh(&app).await;
    Ok(gone())
}
