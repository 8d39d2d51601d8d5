//! What is left of a body that was refused before its end: in HTTP/1 it would be taken for the next request.
//!
//! The connection can't go on, which the reply says; a client that was not told would lose its next request on it. And
//! closing while bytes are under way resets the connection, and often takes the reply with it, so a bounded part of the
//! rest is read and thrown away first.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Version};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

/// Most that is thrown away.
const REST_BYTES: usize = 16 << 20;
/// Longest that a reply waits for it.
const REST_TIME: Duration = Duration::from_secs(2);

/// The layer.
pub(super) async fn close_after_unread_body(request: Request, next: Next) -> Response {
    if request.version() > Version::HTTP_11 || request.body().is_end_stream() {
        return next.run(request).await; // streams of HTTP/2 end by themselves
    }
    // Such a client sends its body only when it is asked for, so none is under way.
    let waits = request.headers().contains_key(EXPECT);
    let left = Arc::new(Mutex::new(None));
    let lend = |body| Body::new(Lent { body: Some(body), ended: false, left: left.clone() });
    let mut response = next.run(request.map(lend)).await;
    let Some(rest) = left.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return response;
    };
    if !waits {
        let _ = timeout(REST_TIME, discard(rest)).await; // whatever comes later meets a closed door
    }
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn discard(mut rest: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = rest.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > REST_BYTES {
            return;
        }
    }
}

/// A body that comes back when it is dropped before its end.
struct Lent {
    body: Option<Body>,
    ended: bool,
    left: Arc<Mutex<Option<Body>>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.ended {
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
        }
    }
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        let broken_or_over = matches!(&polled, Poll::Ready(None | Some(Err(_))));
        let ended = broken_or_over || (polled.is_ready() && body.is_end_stream());
        self.ended |= ended;
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, |body| body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::middleware::from_fn;
    use axum::routing::post;
    use futures::{StreamExt, stream};
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tower::ServiceExt;

    /// A body of ten pieces, and how many of them were taken.
    fn pieces() -> (Body, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let pieces = stream::iter(0..10).map(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from_static(b"piece"))
        });
        (Body::from_stream(pieces), taken)
    }

    async fn ask(path: &str, expect: bool) -> (Response, usize) {
        let routes = Router::new()
            .route("/read", post(|body: Bytes| async move { body.len().to_string() }))
            .route("/refuse", post(|| async { http::StatusCode::PAYLOAD_TOO_LARGE }))
            .layer(from_fn(close_after_unread_body));
        let (body, taken) = pieces();
        let mut request = Request::post(path).body(body).unwrap();
        if expect {
            request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        let response = routes.oneshot(request).await.unwrap();
        (response, taken.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_body_that_was_read_leaves_the_connection_open() {
        let (response, taken) = ask("/read", false).await;
        assert_eq!((response.headers().get(CONNECTION), taken), (None, 10));
    }

    #[tokio::test]
    async fn a_refused_body_is_thrown_away_and_the_connection_closed() {
        let (response, taken) = ask("/refuse", false).await;
        assert_eq!((response.headers()[CONNECTION].as_bytes(), taken), (&b"close"[..], 10));
    }

    #[tokio::test]
    async fn a_body_that_waits_to_be_asked_for_is_not_asked_for() {
        let (response, taken) = ask("/refuse", true).await;
        assert_eq!((response.headers()[CONNECTION].as_bytes(), taken), (&b"close"[..], 0));
    }
}
