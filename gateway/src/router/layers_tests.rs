//! What every reply has, whatever is behind it.

use super::*;
use axum::extract::Path;
use axum::routing::{get, post};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;

fn edge() -> Edge {
    let metrics = crate::telemetry::Metrics::default().edge;
    Edge { metrics, header_count: 8, surface_of: Surface::of_data_path }
}

fn service() -> Router {
    async fn panics() -> Response {
        panic!("a bug");
    }
    let routes = Router::new()
        .route("/v1/models", get(|| async { "models" }))
        .route("/v1/panics", get(panics))
        .route("/model/{model}/converse", post(|Path(model): Path<String>| async { model }))
        .route("/model/{model}/converse-stream", post(panics));
    around(routes, edge())
}

struct Reply {
    status: StatusCode,
    headers: http::HeaderMap,
    body: String,
}

async fn send(service: Router, request: http::request::Builder) -> Reply {
    let (parts, body) = service.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Reply { status: parts.status, headers: parts.headers, body }
}

fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "a")
}

#[tokio::test]
async fn every_reply_has_its_id_and_bedrocks_a_uuid_beside_it() {
    let reply = send(service(), request(Method::GET, "/v1/models")).await;
    assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "models"));
    assert!(RequestId::parse(reply.headers["x-request-id"].to_str().unwrap()).is_some());
    assert!(!reply.headers.contains_key("x-amzn-requestid"));

    let reply = send(service(), request(Method::POST, "/model/a/converse")).await;
    let id = RequestId::parse(reply.headers["x-request-id"].to_str().unwrap()).unwrap();
    assert_eq!(reply.headers["x-amzn-requestid"].to_str().unwrap(), id.uuid().unwrap().hyphenated().to_string());
}

#[tokio::test]
async fn a_model_id_is_one_segment_of_the_raw_path() {
    for (raw, model) in [
        ("us.amazon.nova-lite-v1%3A0", "us.amazon.nova-lite-v1:0"),
        ("us.amazon.nova-lite-v1:0", "us.amazon.nova-lite-v1:0"),
        ("arn%3Aaws%3Abedrock%3A%3A%3Afoundation-model%2Fa.b", "arn:aws:bedrock:::foundation-model/a.b"),
    ] {
        let reply = send(service(), request(Method::POST, &format!("/model/{raw}/converse"))).await;
        assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, model));
    }
}

#[tokio::test]
async fn a_panic_is_a_500_in_the_paths_words() {
    let reply = send(service(), request(Method::GET, "/v1/panics")).await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(reply.body.contains(r#""code":"internal_error""#) && !reply.body.contains("a bug"), "{}", reply.body);
    let reply = send(service(), request(Method::POST, "/model/a/converse-stream")).await;
    assert_eq!(reply.headers["x-amzn-errortype"], "InternalServerException");
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_answer_in_the_paths_words() {
    let reply = send(service(), request(Method::GET, "/v1/nothing")).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert!(reply.body.contains(r#""code":"not_found""#), "{}", reply.body);
    let reply = send(service(), request(Method::POST, "/model/a/nothing")).await;
    assert_eq!(reply.headers["x-amzn-errortype"], "ResourceNotFoundException");
    let reply = send(service(), request(Method::DELETE, "/v1/models")).await;
    assert_eq!((reply.status, &reply.headers["allow"]), (StatusCode::METHOD_NOT_ALLOWED, &"GET,HEAD".parse().unwrap()));
    assert!(reply.body.contains(r#""code":"method_not_allowed""#), "{}", reply.body);
}

#[tokio::test]
async fn http_1_1_needs_exactly_one_host() {
    let none = Request::builder().uri("/v1/models");
    assert_eq!(send(service(), none).await.status, StatusCode::BAD_REQUEST);
    let two = request(Method::GET, "/v1/models").header("host", "b");
    assert_eq!(send(service(), two).await.status, StatusCode::BAD_REQUEST);
    let http2 = Request::builder().uri("http://a/v1/models").version(Version::HTTP_2);
    assert_eq!(send(service(), http2).await.status, StatusCode::OK);
}

#[tokio::test]
async fn header_fields_are_counted_in_http2_too() {
    let mut many = Request::builder().uri("http://a/v1/models").version(Version::HTTP_2);
    for _ in 0..9 {
        many = many.header("x", "y");
    }
    assert_eq!(send(service(), many).await.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn beyond_the_bound_requests_are_told_to_come_back() {
    let routes = bound_requests(Router::new().route("/v1/models", get(|| async { "models" })), 0);
    let reply = send(around(routes, edge()), request(Method::GET, "/v1/models")).await;
    assert_eq!((reply.status, &reply.headers["retry-after"]), (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap()));
}
