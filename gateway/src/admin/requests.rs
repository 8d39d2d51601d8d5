//! What became of a request.

use super::call::Call;
use super::problem::{Failure, Problem};
use super::view::RequestView;
use crate::app::App;
use crate::billing;
use crate::id::RequestId;
use crate::tenants::Permission;
use axum::Json;
use axum::extract::{Request, State};
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
pub async fn get(State(app): State<Arc<App>>, request: Request) -> Result<Json<RequestView>, Failure> {
    let call = Call::admit(&app, request, Permission::ReadPlatform).await?;
    let id: RequestId = call.id("request_id", "request")?;
    Ok(Json(billing::request_record(&app.store, &id).await?.into()))
}
