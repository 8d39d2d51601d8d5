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
pub mod places;
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
mod bounds_tests;
#[cfg(test)]
pub(crate) mod desk;
#[cfg(test)]
mod read_tests;

use crate::accept::Peer;
use crate::app::App;
use crate::error::Error;
use crate::tenants::Permission;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use call::Call;
use http::header::CONTENT_TYPE;
use problem::Failure;
use std::sync::Arc;

/// Whether a call comes from this machine; what a proxy on it passes on comes from elsewhere.
fn is_local(request: &Request) -> bool {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.to_canonical());
    let passed_on = ["x-forwarded-for", "forwarded"].iter().any(|name| request.headers().contains_key(*name));
    peer.is_some_and(|peer| peer.is_loopback()) && !passed_on
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Metrics as OpenMetrics text. Without credentials only for callers on this machine, and for all with
/// `admin.public_metrics`; others need one that may read the platform. No label names a tenant.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses(
        (status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text", body = String),
        (status = 401, description = "No valid credential, from another machine", content_type = "application/problem+json",
         body = problem::Problem),
        (status = 403, description = "The credential's role or scope does not allow this",
         content_type = "application/problem+json", body = problem::Problem),
    ),
    security()
)]
pub async fn metrics(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    if !app.config.admin.public_metrics && !is_local(&request) {
        Call::admit(&app, request, Permission::ReadPlatform).await?;
    }
    let text = app.metrics.encode().map_err(Error::internal)?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
