//! Every layer, outermost first.

use super::surface::Surface;
use super::unread::close_after_unread_body;
use crate::api;
use crate::error::{Error, ErrorKind};
use crate::id::RequestId;
use crate::telemetry::edge::{InFlight, Metrics};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use futures::FutureExt;
use http::header::{CACHE_CONTROL, HOST, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, StatusCode, Version};
use hyper::body::{Frame, SizeHint};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower_http::set_header::SetResponseHeaderLayer;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_AMZN_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// What a caller waits who finds the gateway full.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the layers know of the port they are on.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Counts replies.
    pub metrics: Metrics,
    /// Most header fields.
    pub header_count: usize,
    /// Chooses the words for a path.
    pub surface_of: fn(&str) -> Surface,
}

/// Puts all layers around a port's routes.
pub fn around<S: Clone + Send + Sync + 'static>(routes: Router<S>, edge: Edge) -> Router<S> {
    routes
        // Also unknown paths and wrong methods answer in the dialect of their path.
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        // What a browser may guess or keep is nobody's business: replies are data, some of it a tenant's.
        .layer(SetResponseHeaderLayer::if_not_present(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .layer(SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, HeaderValue::from_static("no-store")))
        // Inside the panic guard, so that even a broken check would answer.
        .layer(from_fn_with_state(edge.clone(), check_head))
        // A panic costs one request, and its caller hears of it in the usual words.
        .layer(from_fn(catch_panic))
        // Around all that may refuse a body.
        .layer(from_fn(close_after_unread_body))
        // Outermost: whatever happens inside, the reply has its id, is counted, and a failure is logged once.
        .layer(from_fn_with_state(edge, identify))
}

/// Before any body is read: bodies in memory are bounded by `max` times the largest body.
pub fn bound_requests<S: Clone + Send + Sync + 'static>(routes: Router<S>, max: usize) -> Router<S> {
    routes.layer(from_fn_with_state(Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))), admit))
}

async fn identify(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = RequestId::new();
    let surface = (edge.surface_of)(request.uri().path());
    let metrics = &edge.metrics;
    let in_flight = metrics.request_begins(surface.as_str());
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(surface);
    if let Some(family) = surface.family() {
        request.extensions_mut().insert(family);
    }

    let mut response = next.run(request).await;

    metrics.replied(surface.as_str(), response.status().as_u16());
    if let Some(error) = response.extensions().get::<Error>() {
        metrics.failed(surface.as_str(), error.kind);
        api::log_failure(surface.as_str(), &id, error);
    }
    name_request(&mut response, &id, surface);
    let timed = Timed { metrics: metrics.clone(), surface, begun, _in_flight: in_flight };
    response.map(|body| Body::new(TimedBody { body, _timed: timed }))
}

fn name_request(response: &mut Response, id: &RequestId, surface: Surface) {
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    let uuid = match surface {
        Surface::Bedrock => id.uuid(),
        Surface::Openai | Surface::Admin => None,
    };
    if let Some(value) = uuid.and_then(|uuid| HeaderValue::from_str(&uuid.hyphenated().to_string()).ok()) {
        response.headers_mut().insert(X_AMZN_REQUEST_ID, value);
    }
}

async fn catch_panic(Extension(surface): Extension<Surface>, request: Request, next: Next) -> Response {
    // The request is gone with the panic, so nothing half-changed is seen again.
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            surface.failure(Error::internal(Panicked(text.unwrap_or_default())))
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
struct Panicked(String);

/// SigV4 signs the host, and caches and proxies trust it, so there must be exactly one. hyper bounds a head's fields in
/// HTTP/1.1, and only its bytes in HTTP/2.
async fn check_head(
    State(edge): State<Edge>,
    Extension(surface): Extension<Surface>,
    request: Request,
    next: Next,
) -> Response {
    let hosts = request.headers().get_all(HOST).iter().count();
    let wanted = match request.version() {
        Version::HTTP_11 => hosts == 1,
        // HTTP/2 has `:authority`, and HTTP/1.0 no such rule.
        _ => hosts <= 1,
    };
    if !wanted {
        return surface.failure(Error::invalid("host", "The request must have exactly one Host header."));
    }
    if request.headers().len() > edge.header_count {
        let many = Error::new(ErrorKind::Invalid, "The request has too many header fields.");
        // As hyper answers it in HTTP/1.1, before any of this is reached.
        let mut response = surface.failure(many);
        *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return response;
    }
    next.run(request).await
}

async fn admit(
    State(slots): State<Arc<Semaphore>>,
    Extension(surface): Extension<Surface>,
    request: Request,
    next: Next,
) -> Response {
    let Ok(_slot) = slots.try_acquire() else {
        let full =
            Error::new(ErrorKind::Overloaded, "This gateway has as many requests as it takes. Try again shortly.");
        return surface.failure(full.retry_after(FULL_RETRY_AFTER));
    };
    next.run(request).await
}

pub(super) async fn unknown_path(Extension(surface): Extension<Surface>) -> Response {
    surface.failure(Error::new(ErrorKind::NotFound, "There is nothing at this path."))
}

async fn wrong_method(Extension(surface): Extension<Surface>) -> Response {
    surface.failure(Error::new(ErrorKind::MethodNotAllowed, "This path does not offer the method; see `Allow`."))
}

/// Records a reply's duration when its body has been sent, or given up.
struct Timed {
    metrics: Metrics,
    surface: Surface,
    begun: Instant,
    _in_flight: InFlight,
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.metrics.reply_ended(self.surface.as_str(), self.begun.elapsed());
    }
}

struct TimedBody {
    body: Body,
    _timed: Timed,
}

impl hyper::body::Body for TimedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
