//! The accept loop: HTTP/1.1 and HTTP/2 on one port, with the bounds that `axum::serve` doesn't set. A peer that is slow
//! costs a deadline, never a thread or unbounded memory.

pub mod pulse;
pub mod streams;

use crate::config;
use crate::telemetry::edge::Metrics;
use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pulse::{Awaited, Paced, Pulse};
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use streams::Streams;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

const H2_STREAMS: u32 = 64;
const H2_STREAM_WINDOW: u32 = 64 << 10;
const H2_CONNECTION_WINDOW: u32 = 1 << 20;
/// Finds peers that vanished without closing.
const H2_PING: Duration = Duration::from_secs(20);
/// hyper's least.
const LEAST_HEAD_BUFFER: usize = 8 << 10;
/// After a failed accept, mostly for want of file descriptors: the loop must neither spin nor end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One listening socket and what is served on it.
pub struct Door {
    /// Names it in logs and metrics.
    pub name: &'static str,
    /// Bound and listening.
    pub listener: TcpListener,
    /// Speaks TLS when set.
    pub tls: Option<TlsAcceptor>,
    /// What is served.
    pub router: Router,
    /// Its bounds.
    pub limits: Limits,
}

/// Bounds of connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the configuration.
    pub http: config::Http,
    /// How long a peer may refuse to take what is written.
    pub write_stall: Duration,
}

/// Where a connection comes from; every request of it carries this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// How connections come to their end.
#[derive(Debug, Clone)]
pub struct Ending {
    /// No new connection is taken, idle ones are closed, the others end with their running replies.
    pub draining: CancellationToken,
    /// All are dropped.
    pub abort: CancellationToken,
    /// Every connection's task.
    pub connections: TaskTracker,
}

/// Accepts until `draining`; then closes the listening socket and returns, while connections go on in `connections`.
pub async fn accept(door: Door, metrics: Metrics, ending: Ending) {
    let slots = Arc::new(Semaphore::new(door.limits.http.connections));
    let builder = Arc::new(builder(&door.limits, &metrics));
    loop {
        // The slot comes first: connections over the cap wait in the kernel's backlog.
        let next = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, door.listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = ending.draining.cancelled() => return,
            next = next => next,
        };
        let (Ok(slot), Ok((stream, peer))) = (slot, accepted) else {
            tracing::warn!(listener = door.name, "can't accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (router, tls, limits) = (door.router.clone(), door.tls.clone(), door.limits.clone());
        let (builder, metrics, ending_here, name) = (builder.clone(), metrics.clone(), ending.clone(), door.name);
        ending.connections.spawn(async move {
            let _slot = slot;
            let _open = metrics.connection_opens(name);
            let served = connect((stream, Peer(peer.ip())), tls, router, limits, &builder, &metrics, &ending_here);
            tokio::select! {
                () = ending_here.abort.cancelled() => {}
                () = served => {}
            }
        });
    }
}

fn builder(limits: &Limits, metrics: &Metrics) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams::new(limits.write_stall, metrics.clone()));
    let limits = &limits.http;
    builder
        .http1()
        .timer(TokioTimer::new())
        // Ours tell a slow head from an idle connection; hyper's own can't.
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes.max(LEAST_HEAD_BUFFER))
        .max_headers(limits.header_count);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PING);
    builder
}

/// From the accepted socket to the connection's end.
async fn connect(
    (stream, peer): (TcpStream, Peer),
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    builder: &auto::Builder<Streams>,
    metrics: &Metrics,
    ending: &Ending,
) {
    // A streamed token must not wait for the next one; without it the connection still works.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return serve((stream, peer), router, limits, builder, metrics, ending).await;
    };
    let deadline = Duration::from_millis(limits.http.first_byte_ms);
    match tokio::time::timeout(deadline, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve((stream, peer), router, limits, builder, metrics, ending).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => metrics.connection_expired("tls_handshake"),
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    (stream, peer): (S, Peer),
    router: Router,
    limits: Limits,
    builder: &auto::Builder<Streams>,
    metrics: &Metrics,
    ending: &Ending,
) {
    let pulse = Arc::new(Pulse::new(&limits));
    let service = {
        let pulse = pulse.clone();
        hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let running = pulse.request_begins();
            let router = router.clone();
            async move {
                let response = router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {});
                Ok::<_, Infallible>(response.map(|body| running.until_the_end_of(body)))
            }
        })
    };
    let io = TokioIo::new(Paced::new(stream, pulse.clone()));
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut asked_to_end = false;
    loop {
        tokio::select! {
            // In this order: a deadline that is over counts only when nothing has come in time.
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "connection ended");
                }
                return;
            }
            awaited = pulse.expired() => {
                metrics.connection_expired(awaited.as_str());
                if awaited != Awaited::NextRequest || asked_to_end {
                    return;
                }
                // A client that sends its next request just now must learn that it wasn't taken and may be sent again:
                // HTTP/2's GOAWAY says so, a mere end doesn't.
                asked_to_end = true;
                connection.as_mut().graceful_shutdown();
                pulse.last_call();
            }
            () = ending.draining.cancelled(), if !asked_to_end => {
                asked_to_end = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

#[cfg(test)]
mod tests;
