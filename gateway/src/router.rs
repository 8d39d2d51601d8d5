//! Every route. The layers around them are in [`layers`], each with its why.

pub mod layers;
pub mod surface;

use crate::api::{bedrock, openai};
use crate::app::App;
use crate::{admin, health};
use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;
use surface::Surface;

/// The data plane: what callers with keys reach.
pub fn data(app: &Arc<App>) -> Router {
    let inference = Router::new()
        .route("/v1/chat/completions", post(openai::chat_completions))
        .route("/openai/v1/chat/completions", post(openai::chat_completions))
        // One segment of the raw path: `%3A`, a literal `:`, and ARNs with `%2F` all fit.
        .route("/model/{model}/converse", post(bedrock::converse))
        .route("/model/{model}/converse-stream", post(bedrock::converse_stream));
    let inference = layers::bound_requests(inference, app.config.gateway.max_requests);

    let models = Router::new()
        .route("/v1/models", get(openai::models::list))
        .route("/openai/v1/models", get(openai::models::list))
        .route("/v1/models/{model}", get(openai::models::get))
        .route("/openai/v1/models/{model}", get(openai::models::get))
        .route("/foundation-models", get(bedrock::models::list));

    layers::around(inference.merge(models).merge(probes()), app, Surface::of_data_path)
}

/// The admin port: what operators reach.
pub fn operators(app: &Arc<App>) -> Router {
    let routes = Router::new()
        .route("/admin/v1/requests/{request_id}", get(admin::requests::get))
        .route("/metrics", get(admin::metrics))
        .route("/openapi.json", get(admin::openapi))
        .merge(probes());
    layers::around(routes, app, |_| Surface::Admin)
}

fn probes() -> Router<Arc<App>> {
    Router::new().route("/healthz", get(health::healthz)).route("/readyz", get(health::readyz))
}
