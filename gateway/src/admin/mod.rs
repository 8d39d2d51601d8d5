//! The control plane over HTTP.

pub mod access_keys;
pub mod admin_tokens;
pub mod api_keys;
pub mod audit_log;
pub mod call;
pub mod credentials;
pub mod examples;
pub mod idempotency;
pub mod limits;
pub mod model_access;
pub mod model_aliases;
pub mod model_views;
pub mod models;
pub mod page;
pub mod problem;
pub mod projects;
pub mod range;
pub mod refusals;
pub mod requests;
pub mod service_accounts;
pub mod tenants;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;
pub mod usage;
pub mod view;
pub mod workers;

#[cfg(test)]
pub(crate) mod desk;
#[cfg(test)]
mod read_tests;

use crate::app::App;
use crate::error::Error;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use problem::Failure;
use std::sync::Arc;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Metrics as OpenMetrics text. Without credentials: scrapers have none, no label names a tenant, and the admin port is
/// on loopback unless configured otherwise.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text", body = String)),
    security()
)]
pub async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let text = app.metrics.encode().map_err(Error::internal)?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
