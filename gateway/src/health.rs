//! What orchestrators ask, on both ports, without credentials.

use crate::app::App;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// A probe must not hang with the database.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// Whether this gateway can answer inference, part by part.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// All of the others.
    pub ready: bool,
    /// It is not stopping.
    pub accepting: bool,
    /// The database answers.
    pub store: bool,
    /// A decode worker of a cluster is up.
    pub upstreams: bool,
}

/// The process runs.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "`ok`", body = String)), security())]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether to send requests here.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses((status = 200, body = Readiness), (status = 503, description = "Not ready; says which part", body = Readiness)),
    security()
)]
pub async fn readyz(State(app): State<Arc<App>>) -> Response {
    let store = tokio::time::timeout(STORE_PATIENCE, app.store.schema_is_current()).await;
    let mut readiness = Readiness {
        ready: false,
        accepting: !app.draining.is_cancelled(),
        store: matches!(store, Ok(Ok(()))),
        upstreams: app.upstreams.ready(),
    };
    readiness.ready = readiness.accepting && readiness.store && readiness.upstreams;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}
