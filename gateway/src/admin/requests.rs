//! What became of a request.

use super::problem::{Failure, Problem};
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
    params(("request_id" = String, Path, description = "`req_…`, as the reply's `x-request-id` says")),
    responses(
        (status = 200, body = RequestView),
        (status = 401, description = "No valid admin token", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such request", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "Our fault", body = Problem, content_type = "application/problem+json"),
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
