//! Over real sockets: what a slow, silent or greedy peer gets. Limits are a fraction of a second only where they are
//! what is tested.

use super::*;
use crate::config::Config;
use axum::body::Bytes;
use axum::routing::get;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioExecutor;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

const SHORT_MS: u64 = 150;
const LONG_MS: u64 = 600;
/// Not reached, whatever else the machine does.
const PATIENT_MS: u64 = 30_000;
/// No test waits longer for anything.
const BOUND: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    ending: Ending,
    metrics: Metrics,
    /// A request for `/slow` is in its handler.
    entered: Arc<Notify>,
    go_on: Arc<Notify>,
}

fn limits() -> Limits {
    let mut http = Config::load(None).unwrap().http;
    http.first_byte_ms = PATIENT_MS;
    http.header_ms = PATIENT_MS;
    http.idle_ms = PATIENT_MS;
    http.header_bytes = 8 << 10;
    http.header_count = 8;
    Limits { http, write_stall: Duration::from_millis(PATIENT_MS) }
}

fn impatient() -> Limits {
    let mut limits = limits();
    limits.http.first_byte_ms = SHORT_MS;
    limits.http.header_ms = SHORT_MS;
    limits.http.idle_ms = LONG_MS;
    limits.write_stall = Duration::from_millis(SHORT_MS);
    limits
}

async fn server(limits: Limits, tls: Option<TlsAcceptor>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ending =
        Ending { draining: CancellationToken::new(), abort: CancellationToken::new(), connections: TaskTracker::new() };
    let metrics = crate::telemetry::Metrics::default().edge;
    let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enters, wait) = (entered.clone(), go_on.clone());
    let endless =
        || async { Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![0; 1 << 16])))) };
    let router = Router::new().route("/", get(|| async { "hello" })).route("/endless", get(endless)).route(
        "/slow",
        get(|| async move {
            enters.notify_one();
            wait.notified().await;
            "at last"
        }),
    );
    let wait = go_on.clone();
    let in_two_pieces = move || {
        let wait = wait.clone();
        let second = async move {
            wait.notified().await;
            Ok("second")
        };
        let pieces = stream::iter([Ok::<_, Infallible>("first")]).chain(stream::once(second));
        async move { Body::from_stream(pieces) }
    };
    let router = router.route("/pieces", get(in_two_pieces));
    let door = Door { name: "test", listener, tls, router, limits };
    tokio::spawn(accept(door, metrics.clone(), ending.clone()));
    Server { address, ending, metrics, entered, go_on }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        timeout(BOUND, TcpStream::connect(self.address)).await.unwrap().unwrap()
    }

    fn expired(&self, waiting_for: &str) -> bool {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.name(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.contains(&format!(r#"connections_expired_total{{waiting_for="{waiting_for}"}} 1"#))
    }
}

async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = vec![0; 4096];
    let length = timeout(BOUND, stream.read(&mut reply)).await.unwrap().unwrap();
    String::from_utf8_lossy(&reply[..length]).into_owned()
}

/// How long until the peer closes; what it sent before that.
async fn until_closed(stream: &mut TcpStream) -> (Duration, String) {
    let begun = Instant::now();
    let mut rest = Vec::new();
    // A reset closes as well as an end does.
    let _ = timeout(BOUND, stream.read_to_end(&mut rest)).await.expect("still open");
    (begun.elapsed(), String::from_utf8_lossy(&rest).into_owned())
}

const H2_GOAWAY: u8 = 7;

/// The kind of each frame: a frame is its payload's length in 24 bits, its kind, flags, stream and payload.
fn h2_frame_kinds(mut sent: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some((head, rest)) = sent.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        kinds.push(head[3]);
        sent = &rest[length..];
    }
    kinds
}

async fn h2_reply(address: SocketAddr) -> http::Response<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("http://{address}/")).body(Empty::<Bytes>::new()).unwrap();
    let (parts, body) = timeout(BOUND, sender.send_request(request)).await.unwrap().unwrap().into_parts();
    http::Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn one_port_speaks_both_versions_and_dates_every_reply() {
    let server = server(limits(), None).await;
    let reply = exchange(&mut server.connect().await, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("date: ") && reply.ends_with("hello"), "{reply}");
    let reply = h2_reply(server.address).await;
    assert_eq!((reply.version(), reply.body()), (http::Version::HTTP_2, &Bytes::from("hello")));
    assert!(reply.headers().contains_key("date"));
}

#[tokio::test]
async fn a_silent_peer_is_dropped() {
    let server = server(impatient(), None).await;
    let (after, reply) = until_closed(&mut server.connect().await).await;
    assert!(after >= Duration::from_millis(SHORT_MS - 20) && reply.is_empty(), "{after:?} {reply}");
    assert!(server.expired("first_byte"));
}

#[tokio::test]
async fn a_head_that_never_ends_is_dropped() {
    let server = server(impatient(), None).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx").await.unwrap();
    until_closed(&mut stream).await;
    assert!(server.expired("head"));
}

#[tokio::test]
async fn an_idle_connection_lives_longer_than_a_head_may_take_and_not_for_ever() {
    let server = server(impatient(), None).await;
    let mut stream = server.connect().await;
    exchange(&mut stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (after, _) = until_closed(&mut stream).await;
    assert!(after >= Duration::from_millis(LONG_MS - 20), "{after:?}");
    assert!(server.expired("next_request"));
}

#[tokio::test]
async fn the_second_head_of_a_connection_is_bounded_like_the_first() {
    let server = server(impatient(), None).await;
    let mut stream = server.connect().await;
    exchange(&mut stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    stream.write_all(b"GET /").await.unwrap();
    until_closed(&mut stream).await;
    assert!(server.expired("head"));
}

#[tokio::test]
async fn an_idle_http2_connection_is_not_taken_for_a_slow_head() {
    let server = server(impatient(), None).await;
    let mut stream = server.connect().await;
    // The preface and empty SETTINGS.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let begun = Instant::now();
    let mut sent = Vec::new();
    timeout(BOUND, stream.read_to_end(&mut sent)).await.expect("still open").unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(LONG_MS - 20), "{:?}", begun.elapsed());
    assert!(h2_frame_kinds(&sent).contains(&H2_GOAWAY), "{sent:?}");
    // It didn't react to the announcement either.
    assert!(server.expired("next_request") && server.expired("close"));
}

#[tokio::test]
async fn a_client_that_hears_goaway_closes_its_idle_connection_itself() {
    let server = server(impatient(), None).await;
    let (sender, connection) = h2::client::handshake(server.connect().await).await.unwrap();
    let mut used = sender.clone();
    let used = async {
        h2_get(&mut used, "/").await;
        drop(used);
        std::future::pending().await
    };
    let ended = tokio::select! {
        ended = timeout(BOUND, connection) => ended.expect("still open"),
        () = used => unreachable!("it waits for the connection"),
    };
    ended.unwrap();
    // It reacted, so nobody had to wait for it.
    assert!(server.expired("next_request") && !server.expired("close"));
    drop(sender);
}

#[tokio::test]
async fn what_is_there_in_time_counts_however_late_it_is_looked_at() {
    let mut limits = limits();
    limits.http.idle_ms = 4 * LONG_MS;
    let server = server(limits, None).await;
    let mut peers = Vec::new();
    for _ in 0..16 {
        let mut stream = server.connect().await;
        exchange(&mut stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        peers.push(stream);
    }
    for stream in &peers {
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(stream.try_write(request).unwrap(), request.len());
    }
    // The only thread there is, so the server finds the requests and the deadline's end together.
    std::thread::sleep(Duration::from_millis(4 * LONG_MS + SHORT_MS));
    for stream in &mut peers {
        assert!(exchange(stream, "").await.ends_with("hello"));
    }
}

#[tokio::test]
async fn a_running_request_has_no_connection_deadline() {
    let server = server(impatient(), None).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut nothing = [0; 1];
    let early = timeout(Duration::from_millis(2 * LONG_MS), stream.read(&mut nothing)).await;
    assert!(early.is_err(), "closed or answered early");
    server.go_on.notify_one();
    assert!(exchange(&mut stream, "").await.ends_with("at last"));
}

#[tokio::test]
async fn too_large_a_head_is_431() {
    let server = server(limits(), None).await;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(9 << 10));
    let reply = exchange(&mut server.connect().await, &long).await;
    assert!(reply.starts_with("HTTP/1.1 431"), "{reply}");
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(9));
    let reply = exchange(&mut server.connect().await, &many).await;
    assert!(reply.starts_with("HTTP/1.1 431"), "{reply}");
}

#[tokio::test]
async fn heads_that_two_servers_could_read_differently_are_refused() {
    let server = server(limits(), None).await;
    for lines in [
        "content-length: 1\r\ncontent-length: 2",
        "content-length: +2",
        "transfer-encoding: xchunked",
        "content-length : 2",
        "x: a\r\n b",
    ] {
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n\r\n");
        let reply = exchange(&mut server.connect().await, &request).await;
        assert!(reply.starts_with("HTTP/1.1 400"), "{lines}: {reply}");
    }
}

#[tokio::test]
async fn connections_over_the_cap_wait_their_turn() {
    let mut limits = limits();
    limits.http.connections = 1;
    let server = server(limits, None).await;
    let mut first = server.connect().await;
    exchange(&mut first, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut second = server.connect().await;
    second.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut byte = [0; 1];
    assert!(timeout(Duration::from_millis(SHORT_MS), second.read(&mut byte)).await.is_err(), "served beyond the cap");
    drop(first);
    assert_eq!(timeout(BOUND, second.read(&mut byte)).await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_dropped() {
    let server = server(impatient(), None).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut byte = [0; 1];
    timeout(BOUND, stream.read(&mut byte)).await.unwrap().unwrap();
    server.ending.connections.close();
    timeout(BOUND, server.ending.connections.wait()).await.unwrap();
    assert!(server.expired("reader"));
}

/// With windows of this size, in bytes, for every stream.
async fn h2_client(server: &Server, window: u32) -> h2::client::SendRequest<Bytes> {
    let handshake = h2::client::Builder::new().initial_window_size(window).handshake(server.connect().await);
    let (sender, connection) = timeout(BOUND, handshake).await.unwrap().unwrap();
    tokio::spawn(connection);
    sender
}

async fn h2_get(sender: &mut h2::client::SendRequest<Bytes>, path: &str) -> http::Response<h2::RecvStream> {
    let request = Request::get(format!("http://a{path}")).body(()).unwrap();
    let (reply, _) = sender.send_request(request, true).unwrap();
    timeout(BOUND, reply).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_stream_whose_window_stays_shut_is_reset_and_the_others_go_on() {
    let server = server(impatient(), None).await;
    let mut sender = h2_client(&server, 0).await;
    let mut shut = h2_get(&mut sender, "/").await;
    assert_eq!(shut.status(), http::StatusCode::OK);
    let error = timeout(BOUND, shut.body_mut().data()).await.expect("still held").unwrap().unwrap_err();
    assert_eq!((error.reason(), error.is_reset()), (Some(h2::Reason::CANCEL), true));
    assert!(server.expired("stream_reader"));
    // Its head fits in no window.
    assert_eq!(h2_get(&mut sender, "/nothing").await.status(), http::StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_stream_that_waits_for_us_is_not_taken_for_a_stalled_reader() {
    let limits = impatient();
    let stall = limits.write_stall;
    let server = server(limits, None).await;
    let mut sender = h2_client(&server, 1 << 16).await;
    let mut reply = h2_get(&mut sender, "/pieces").await.into_body();
    // Each piece is sent as soon as it is there.
    assert_eq!(timeout(BOUND, reply.data()).await.unwrap().unwrap().unwrap(), "first");
    assert!(timeout(3 * stall, reply.data()).await.is_err(), "ended early");
    server.go_on.notify_one();
    assert_eq!(timeout(BOUND, reply.data()).await.unwrap().unwrap().unwrap(), "second");
}

#[tokio::test]
async fn each_piece_of_a_reply_is_sent_as_soon_as_it_is_there() {
    let server = server(limits(), None).await;
    let mut stream = server.connect().await;
    let mut reply = exchange(&mut stream, "GET /pieces HTTP/1.1\r\nhost: a\r\n\r\n").await;
    while !reply.contains("first") {
        reply += &exchange(&mut stream, "").await;
    }
    server.go_on.notify_one();
    while !reply.contains("second") {
        reply += &exchange(&mut stream, "").await;
    }
}

#[tokio::test]
async fn draining_ends_idle_connections_at_once_and_running_ones_with_their_reply() {
    let server = server(limits(), None).await;
    let mut idle = server.connect().await;
    exchange(&mut idle, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut running = server.connect().await;
    running.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    timeout(BOUND, server.entered.notified()).await.unwrap();

    server.ending.draining.cancel();
    // Within `BOUND`, which is less than an idle connection is left alone.
    until_closed(&mut idle).await;
    server.go_on.notify_one();
    let (_, reply) = until_closed(&mut running).await;
    assert!(reply.ends_with("at last"), "{reply}");
    server.ending.connections.close();
    timeout(BOUND, server.ending.connections.wait()).await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "still listening");
}

#[tokio::test]
async fn aborting_drops_what_is_left() {
    let server = server(limits(), None).await;
    let mut running = server.connect().await;
    running.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    server.ending.abort.cancel();
    until_closed(&mut running).await;
}

#[tokio::test]
async fn a_tls_handshake_has_a_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::load(None).unwrap();
    config.gateway.state_dir = dir.path().to_path_buf();
    let server = server(impatient(), Some(crate::tls::acceptor(&config).unwrap())).await;
    until_closed(&mut server.connect().await).await;
    assert!(server.expired("tls_handshake"));
}
