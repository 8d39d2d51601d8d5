//! The catalog's models over HTTP: all layers as this gateway has them, and changes of the API's own.

use super::call::{Call, Reply, gone, versioned};
use super::model_views::{CatalogView, ModelInput, ModelView};
use super::page::{self, Page};
use super::problem::Problem;
use crate::app::App;
use crate::catalog::{self, EntryPatch, Layer, Model, Status};
use crate::error::Error;
use crate::tenants::{self, Permission};
use axum::Json;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Which models.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ModelQuery {
    /// Most entries; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// Begin after this one: the former page's `next_after`.
    pub after: Option<String>,
    /// Exactly this provider.
    pub provider: Option<String>,
    /// Only these.
    #[param(inline)]
    pub status: Option<Status>,
    /// Only those whose entry is from this layer.
    #[param(inline)]
    pub layer: Option<Layer>,
    /// Only those that a call would reach, or only the others.
    pub served: Option<bool>,
}

impl ModelQuery {
    fn fits(&self, model: &Model, now: i64) -> bool {
        self.after.as_deref().is_none_or(|after| model.id.as_str() > after)
            && self.provider.as_deref().is_none_or(|provider| model.provider == provider)
            && self.status.is_none_or(|status| model.status == status)
            && self.layer.is_none_or(|layer| model.layer == layer)
            && self.served.is_none_or(|served| model.is_served(now) == served)
    }
}

/// Lists the models of all layers, by id, as they are in force on this gateway.
#[utoipa::path(
    get, path = "/admin/v1/models", operation_id = "list_catalog_models", tag = "catalog",
    params(ModelQuery),
    responses((status = 200, body = Page<ModelView>, example = json!({
        "data": [{
            "id": "amazon.nova-lite-v1:0", "name": "Nova Lite", "provider": "Amazon",
            "input_modalities": ["text", "image", "video"], "output_modalities": ["text"], "context_tokens": 300_000,
            "max_output_tokens": 10_000, "default_output_tokens": 4_096, "streaming": true, "status": "active",
            "price_picousd_per_token": {
                "input": 60_000, "output": 240_000, "cache_read": 15_000, "cache_write": null, "source": "AWS price API",
            },
            "profiles": [], "deprecation": null, "stand_in": null, "layer": "compiled_in",
            "serving": {"by": "nobody"}, "served": false, "aliases": [], "version": 0,
        }],
        "has_more": true, "next_after": "amazon.nova-lite-v1:0",
    }))),
    security(("admin_token" = [])), extensions(("x-permission" = json!("read_platform")))
)]
pub async fn list(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit_with_query(&app, request, Permission::ReadPlatform).await?;
    let query: ModelQuery = call.query()?;
    let size = page::size(query.limit)?;
    let catalog = app.catalog.load();
    let mut found: Vec<&Arc<Model>> = catalog.models().iter().filter(|model| query.fits(model, call.now())).collect();
    found.sort_by(|one, other| one.id.cmp(&other.id));
    found.truncate(size + 1);
    let aliases = catalog.aliases_by_model();
    let view = |model: &Arc<Model>| ModelView::of(&catalog, &aliases, model, call.now());
    Ok(Json(Page::of(found, size, |model| model.id.clone(), view)).into_response())
}

/// Adds a model. It answers once it has a `stand_in`, or a cluster of the configuration serves it.
#[utoipa::path(
    post, path = "/admin/v1/models", operation_id = "create_catalog_model", tag = "catalog",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated call safe for a day")),
    request_body = ModelInput,
    responses(
        (status = 201, body = ModelView),
        (status = 409, description = "The id is taken, the catalog is full or locked, or another request with this \
            `Idempotency-Key` is in work", content_type = "application/problem+json", body = Problem),
    ),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_catalog")))
)]
pub async fn create(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageCatalog).await?;
    let input: ModelInput = call.input()?;
    let (id, entry) = input.into_entry();
    let preview = catalog::preview_model(&app.store, &app.config, &id, entry.clone(), call.now()).await;
    let preview = match preview {
        Ok(preview) => preview.catalog,
        // A repeated call can't add it again.
        Err(error) => return Ok(call.kept_reply().await?.ok_or(error)?),
    };
    let view = ModelView::find(&preview, &id, call.now()).ok_or_else(|| missing("model"))?;
    let made = call.create(&view, view.version, async |change| {
        catalog::create_model(change, &app.config, &id, entry).await.map(drop)
    });
    let made = made.await?;
    catalog::refresh(&app).await;
    Ok(made)
}

/// One model. Its ETag is for `If-Match`: `"0"` when the API has set nothing of it.
#[utoipa::path(
    get, path = "/admin/v1/models/{model_id}", operation_id = "get_catalog_model", tag = "catalog",
    params(("model_id" = String, Path, description = "The model's id, without a region", example = "amazon.nova-lite-v1:0")),
    responses((status = 200, body = ModelView)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("read_platform")))
)]
pub async fn get(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ReadPlatform).await?;
    let id = call.text("model_id", "model")?;
    let view = ModelView::find(&app.catalog.load(), id, call.now()).ok_or_else(|| missing("model"))?;
    let version = view.version;
    Ok(versioned(view, version))
}

/// Changes a model. What a lower layer has is copied into the API's, whole, and changed there: what a later version or
/// configuration says of it no longer counts until the API's entry is deleted.
#[utoipa::path(
    patch, path = "/admin/v1/models/{model_id}", operation_id = "update_catalog_model", tag = "catalog",
    params(
        ("model_id" = String, Path, description = "The model's id, without a region", example = "amazon.nova-lite-v1:0"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    request_body = EntryPatch,
    responses(
        (status = 200, body = ModelView),
        (status = 409, description = "The catalog is full or locked, or another entry would no longer fit",
            content_type = "application/problem+json", body = Problem),
    ),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_catalog")))
)]
pub async fn update(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageCatalog).await?;
    let patch: EntryPatch = call.input()?;
    let (id, expected) = (call.text("model_id", "model")?, call.expected_version()?);
    let done = call.change(|change| catalog::update_model(change, &app.config, id, patch, expected)).await?;
    catalog::refresh(&app).await;
    let view = ModelView::find(&done.catalog, id, call.now()).ok_or_else(|| missing("model"))?;
    let version = view.version;
    Ok(versioned(view, version))
}

/// Takes back what the API has set of a model: the configuration's entry is back, or the one that is compiled in, or the
/// model is gone.
#[utoipa::path(
    delete, path = "/admin/v1/models/{model_id}", operation_id = "delete_catalog_model", tag = "catalog",
    params(
        ("model_id" = String, Path, description = "The model's id, without a region", example = "amazon.nova-lite-v1:0"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    responses(
        (status = 204, description = "Taken back"),
        (status = 409, description = "The catalog is locked, or another entry needs this one",
            content_type = "application/problem+json", body = Problem),
    ),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_catalog")))
)]
pub async fn delete(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageCatalog).await?;
    let (id, expected) = (call.text("model_id", "model")?, call.expected_version()?);
    call.change(|change| catalog::delete_model(change, &app.config, id, expected)).await?;
    catalog::refresh(&app).await;
    Ok(gone())
}

/// How the catalog stands: how much the API has set, and what of it does not count, with the reason.
#[utoipa::path(
    get, path = "/admin/v1/catalog", operation_id = "get_catalog", tag = "catalog",
    responses((status = 200, body = CatalogView)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("read_platform")))
)]
pub async fn status(State(app): State<Arc<App>>, request: Request) -> Reply {
    Call::admit(&app, request, Permission::ReadPlatform).await?;
    let catalog = app.catalog.load();
    Ok(Json(CatalogView::of(&catalog, app.config.catalog.locked)).into_response())
}

pub(super) fn missing(what: &str) -> Error {
    tenants::missing(what)
}

#[cfg(test)]
#[path = "models_tests.rs"]
mod tests;
