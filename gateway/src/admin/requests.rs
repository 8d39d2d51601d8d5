//! What became of a request.

use super::problem::Failure;
use super::refusals::{AccessErrors, NotFound};
use super::view::RequestView;
use crate::app::App;
use crate::auth;
use crate::billing;
use crate::error::{Error, ErrorKind};
use crate::id::RequestId;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use http::HeaderMap;
use std::sync::Arc;

/// Outcome, tokens, worker path and ledger entry of one request.
#[utoipa::path(
    get, path = "/admin/v1/requests/{request_id}", operation_id = "get_request", tag = "requests",
    params(("request_id" = String, Path, description = "`req_…`, as the reply's `x-request-id` says",
        example = "req_0198c0de4a7b7c31b6f0a1d2e3f40516")),
    responses(
        (status = 200, description = "The request", body = RequestView),
        AccessErrors, NotFound,
    ),
    security(("admin_token" = []))
)]
pub async fn get(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<RequestView>, Failure> {
    auth::admit_admin(&app, &headers).await?;
    let unknown = || Error::new(ErrorKind::NotFound, "There is no request of this id.");
    let Path(id) = path.map_err(|_| unknown())?;
    let id = RequestId::parse(&id).ok_or_else(unknown)?;
    Ok(Json(billing::request_record(&app.store, &id).await?.into()))
}
