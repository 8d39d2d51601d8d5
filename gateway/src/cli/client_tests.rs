use super::*;
use http_body_util::combinators::BoxBody;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

#[test]
fn a_query_has_what_is_given_and_nothing_in_it_ends_a_parameter() {
    let parameters = [("a", Some("x&y=z é".to_owned())), ("b", None), ("c", Some("+".to_owned()))];
    assert_eq!(with_query("/p", &parameters), "/p?a=x%26y%3Dz%20%C3%A9&c=%2B");
    assert_eq!(with_query("/p", &[]), "/p");
    assert_eq!(segment("a/b").to_string(), "a%2Fb");
    assert_eq!(segment("amazon.nova-lite-v1:0").to_string(), "amazon.nova-lite-v1%3A0");
    assert_eq!(segment("../x?y#z").to_string(), "..%2Fx%3Fy%23z");
}

#[test]
fn a_refusal_is_told_in_the_apis_words() {
    let problem = r#"{"type":"t","title":"Bad Request","status":400,"detail":"No.","param":"from"}"#;
    assert_eq!(refusal(StatusCode::BAD_REQUEST, problem.as_bytes()), "No. (from)");
    assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"<html>"), "the admin API answered 502 Bad Gateway");
}

fn connection(url: &str) -> Connection {
    Connection::of(url, "token")
}

#[test]
fn an_address_that_is_none_is_refused_before_anything_is_sent() {
    for url in ["", "host:1", "ftp://host", "http://", "http://user:secret@host", "http://host?x=1", "/admin"] {
        let error = Client::new(connection(url)).unwrap_err();
        assert!(error.contains("no address") && !error.contains("Bearer"), "{url}: {error}");
    }
    assert!(Client::new(connection("http://localhost:1/behind/a/proxy/")).is_ok());
    let none = Connection { admin_token: None, ..connection("http://localhost") };
    assert!(Client::new(none).unwrap_err().contains("CAPROCK_ADMIN_TOKEN"));
    let odd = Connection { admin_token: Some("a\nb".into()), ..connection("http://localhost") };
    assert!(Client::new(odd).unwrap_err().contains("can't be sent"));
}

#[test]
fn the_token_goes_by_plain_http_to_this_machine_alone_unless_that_is_allowed() {
    for url in ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:1", "http://LocalHost:1/x"] {
        assert!(Client::new(connection(url)).is_ok(), "{url}");
    }
    for url in
        ["http://host", "http://10.0.0.1:8081", "http://[fe80::1]", "http://localhost.example", "http://127.0.0.1.x"]
    {
        let error = Client::new(connection(url)).unwrap_err();
        assert!(error.contains("--insecure-http") && error.lines().count() == 1, "{url}: {error}");
        assert!(Client::new(Connection { insecure_http: true, ..connection(url) }).is_ok(), "{url}");
    }
}

#[tokio::test]
async fn where_it_is_unknown_whether_something_was_made_the_failure_says_how_to_ask_again() {
    for statuses in [&[503, 503][..], &[500], &[503, 500]] {
        let (url, seen) = gateway(statuses).await;
        let error = Client::new(connection(&url)).unwrap().create("/x", &Value::Null).await.unwrap_err();
        let key = seen.lock().unwrap()[0].1.clone().unwrap();
        assert!(error.ends_with(&format!("--idempotency-key {key}")) && error.lines().count() == 1, "{error}");
    }
    for statuses in [&[409][..], &[503, 409]] {
        let (url, _) = gateway(statuses).await;
        let error = Client::new(connection(&url)).unwrap().create("/x", &Value::Null).await.unwrap_err();
        assert!(!error.contains("idempotency"), "decided: {error}");
    }
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let client = Client::new(connection(&format!("http://127.0.0.1:{port}"))).unwrap();
    let error = client.create("/x", &Value::Null).await.unwrap_err();
    assert!(!error.contains("idempotency"), "never sent: {error}");

    let (url, seen) = gateway(&[201]).await;
    let given = Connection { idempotency_key: Some("again".into()), ..connection(&url) };
    Client::new(given).unwrap().create("/x", &Value::Null).await.unwrap();
    assert_eq!(seen.lock().unwrap()[0].1.as_deref(), Some("again"));
}

type Seen = Arc<Mutex<Vec<(String, Option<String>, Bytes)>>>;

/// Answers each call with the next status; notes path, Idempotency-Key and body.
async fn gateway(statuses: &[u16]) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (seen, left) = (Seen::default(), Arc::new(Mutex::new(statuses.to_vec())));
    let notes = seen.clone();
    // Ends with the test's runtime.
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (notes, left) = (notes.clone(), left.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (notes, left) = (notes.clone(), left.clone());
                async move {
                    let path = request.uri().to_string();
                    let key = request.headers().get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    notes.lock().unwrap().push((path, key, body));
                    let status = left.lock().unwrap().remove(0);
                    let body: BoxBody<Bytes, Infallible> = Full::from(format!("{{\"status\":{status}}}")).boxed();
                    let reply = Response::builder().status(status).header(ETAG, "\"7\"").body(body);
                    Ok::<_, Infallible>(reply.unwrap())
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    (url, seen)
}

#[tokio::test]
async fn a_creating_call_is_repeated_once_under_the_same_key() {
    let (url, seen) = gateway(&[503, 201]).await;
    let client = Client::new(connection(&url)).unwrap();
    let reply = client.create("/admin/v1/tenants", &serde_json::json!({"name": "acme"})).await.unwrap();
    assert_eq!((&reply.body[..], reply.etag.as_deref()), (&br#"{"status":201}"#[..], Some("\"7\"")));
    let calls = seen.lock().unwrap().clone();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0], calls[1], "path, key and body");
    assert!(calls[0].1.as_ref().is_some_and(|key| key.len() > 32));

    let (url, seen) = gateway(&[503, 503, 201]).await;
    let client = Client::new(connection(&url)).unwrap();
    client.create("/x", &Value::Null).await.unwrap_err();
    assert_eq!(seen.lock().unwrap().len(), 2, "once only");
}

#[tokio::test]
async fn what_the_api_decided_is_not_asked_again() {
    for status in [400, 409, 422, 500] {
        let (url, seen) = gateway(&[status, 201]).await;
        let client = Client::new(connection(&url)).unwrap();
        client.create("/x", &Value::Null).await.unwrap_err();
        assert_eq!(seen.lock().unwrap().len(), 1, "{status}");
    }
    // A change has no key that would make its repetition safe.
    let (url, seen) = gateway(&[503, 200]).await;
    let client = Client::new(connection(&url)).unwrap();
    client.change(Method::PATCH, "/x", Some(&Value::Null), Some("\"1\"")).await.unwrap_err();
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn two_calls_have_two_keys_and_a_prefix_of_the_address_stays() {
    let (url, seen) = gateway(&[201, 201]).await;
    let client = Client::new(connection(&format!("{url}/behind/"))).unwrap();
    for _ in 0..2 {
        client.create("/admin/v1/tenants", &Value::Null).await.unwrap();
    }
    let calls = seen.lock().unwrap().clone();
    assert_ne!(calls[0].1, calls[1].1);
    assert_eq!(calls[0].0, "/behind/admin/v1/tenants");
}

#[tokio::test]
async fn nobody_there_is_one_line_that_names_the_address() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let client = Client::new(connection(&format!("http://127.0.0.1:{port}"))).unwrap();
    let error = client.get("/x", PATIENCE).await.unwrap_err();
    assert!(error.contains(&port.to_string()) && error.contains("refused") && error.lines().count() == 1, "{error}");
}

/// A gateway's own development certificate and CA, with a server behind that answers 200 once.
async fn tls_gateway(dir: &std::path::Path) -> String {
    let mut config = crate::config::Config::load(None).unwrap();
    config.gateway.state_dir = dir.to_path_buf();
    let acceptor = crate::tls::acceptor(&config).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    // Ends with the test's runtime.
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(socket) = acceptor.accept(socket).await else { continue };
            let service = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("{}"))) });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    url
}

#[tokio::test]
async fn https_is_spoken_with_those_whose_authority_is_trusted_and_with_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let url = tls_gateway(dir.path()).await;
    let with = |file: &str| Connection { ca_file: Some(dir.path().join("tls").join(file)), ..connection(&url) };
    let client = Client::new(with("ca.pem")).unwrap();
    assert_eq!(&client.get("/admin/v1/tenants", PATIENCE).await.unwrap()[..], b"{}");
    assert!(Client::new(with("absent.pem")).unwrap_err().contains("absent.pem"));

    // Another authority's, so that it does not depend on whether this machine trusts any.
    let other = tempfile::tempdir().unwrap();
    tls_gateway(other.path()).await;
    let stranger = Connection { ca_file: Some(other.path().join("tls/ca.pem")), ..connection(&url) };
    let error = Client::new(stranger).unwrap().get("/", PATIENCE).await.unwrap_err();
    assert!(error.contains("certificate") && error.lines().count() == 1, "{error}");
}
