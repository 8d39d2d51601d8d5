//! The models a caller can name, as OpenAI lists them.

use super::error::Failure;
use crate::app::App;
use crate::auth;
use crate::catalog::{Model, Serving, Status};
use crate::error::{Error, ErrorKind};
use crate::tenants::Permission;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Models that answer here.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// `list`
    pub object: &'static str,
    /// In the catalog's order.
    pub data: Vec<ModelView>,
}

/// One model.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelView {
    /// As callers name it.
    pub id: String,
    /// `model`
    pub object: &'static str,
    /// Always 0: no source states it.
    pub created: i64,
    /// Who made it.
    pub owned_by: String,
    /// For people.
    pub name: String,
    /// `active`, `preview` or `legacy`.
    #[schema(value_type = String)]
    pub status: Status,
    /// Most tokens of prompt and answer.
    pub context_tokens: Option<u32>,
    /// Whether anything answers for it here.
    pub served: bool,
    /// Id of the model that stands in for it; a development convenience.
    pub stand_in: Option<String>,
}

/// Lists the models that answer here. Entries of the catalog that nothing serves are left out, but can be read by id.
#[utoipa::path(
    get, path = "/v1/models", operation_id = "list_models", tag = "openai",
    responses(
        (status = 200, body = ModelList),
        (status = 401, description = "No valid credential", body = super::wire::ErrorBody),
        (status = 503, description = "This gateway is full", body = super::wire::ErrorBody),
    ),
    security(("bearer" = []), ("api_key" = []), ("sigv4" = []))
)]
pub async fn list(State(app): State<Arc<App>>, request: Request) -> Result<Json<ModelList>, Failure> {
    auth::admit(&app, request, Permission::ReadModels).await?;
    let snapshot = app.catalog.load();
    let data = snapshot.served().map(|model| view(model)).collect();
    Ok(Json(ModelList { object: "list", data }))
}

/// One model of the catalog, whether or not anything serves it here.
#[utoipa::path(
    get, path = "/v1/models/{model}", operation_id = "get_model", tag = "openai",
    params(("model" = String, Path, description = "As `/v1/models` names it")),
    responses(
        (status = 200, body = ModelView),
        (status = 401, description = "No valid credential", body = super::wire::ErrorBody),
        (status = 404, description = "Not in the catalog", body = super::wire::ErrorBody),
        (status = 503, description = "This gateway is full", body = super::wire::ErrorBody),
    ),
    security(("bearer" = []), ("api_key" = []), ("sigv4" = []))
)]
pub async fn get(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<ModelView>, Failure> {
    auth::admit(&app, request, Permission::ReadModels).await?;
    let unknown = || Error::new(ErrorKind::ModelNotFound, "There is no model of this id.");
    let Path(id) = path.map_err(|_| unknown())?;
    let snapshot = app.catalog.load();
    let model = snapshot.models().iter().find(|model| model.id == id).ok_or_else(unknown)?;
    Ok(Json(view(model)))
}

fn view(model: &Model) -> ModelView {
    let (served, stand_in) = match &model.serving {
        Serving::Nobody => (false, None),
        Serving::Upstream { .. } => (true, None),
        Serving::StandIn { model, .. } => (true, Some(model.clone())),
    };
    ModelView {
        id: model.id.clone(),
        object: "model",
        created: 0,
        owned_by: model.provider.clone(),
        name: model.name.clone(),
        status: model.status,
        context_tokens: model.context_tokens,
        served,
        stand_in,
    }
}
