//! Health, readiness and metrics over HTTP/1, on the protocol's port.

use super::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use tokio::net::TcpStream;

/// A scrape and its answer.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) async fn serve(context: &Arc<Context>, stream: TcpStream) {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(context));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // A scraper that goes away is its own affair.
    let _ = tokio::time::timeout(LIMIT, connection).await;
}

async fn ready(State(context): State<Arc<Context>>) -> impl IntoResponse {
    if context.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    (StatusCode::OK, "ready\n")
}

async fn metrics(State(context): State<Arc<Context>>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, OPEN_METRICS)], context.scheduler.shared().metrics.render())
}
