//! What became of a request.

use super::call::Call;
use super::problem::Failure;
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
    params(("request_id" = String, Path, description = "`req_…`, as the reply's `x-request-id` says",
        example = "req_0198c0de4a7b7c31b6f0a1d2e3f40516")),
    responses(
        (status = 200, description = "The request", body = RequestView),
    ),
    security(("admin_token" = []))
)]
pub async fn get(State(app): State<Arc<App>>, request: Request) -> Result<Json<RequestView>, Failure> {
    let call = Call::admit(&app, request, Permission::ReadPlatform).await?;
    let id: RequestId = call.id("request_id", "request")?;
    Ok(Json(billing::request_record(&app.store, &id).await?.into()))
}
