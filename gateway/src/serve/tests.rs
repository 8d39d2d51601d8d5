//! The whole program over real sockets, with SQLite and without workers.

use super::*;
use crate::bootstrap::bootstrap;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::collections::HashMap;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

mod following;

/// No test waits longer for anything.
const BOUND: Duration = Duration::from_secs(30);
const HI: &str = r#"{"model":"amazon.nova-lite-v1:0","messages":[{"role":"user","content":"Hi"}]}"#;
const CONVERSE_HI: &str = r#"{"messages":[{"role":"user","content":[{"text":"Hi"}]}]}"#;

struct Gateway {
    addresses: Addresses,
    shutdown: Shutdown,
    running: JoinHandle<Result<()>>,
    credentials: HashMap<String, String>,
    dir: tempfile::TempDir,
}

fn config(dir: &tempfile::TempDir) -> Config {
    let mut config = Config::load(None).unwrap();
    config.gateway.state_dir = dir.path().to_path_buf();
    config.listen = Listen {
        data: "127.0.0.1:0".parse().unwrap(),
        tls: Some("127.0.0.1:0".parse().unwrap()),
        admin: "127.0.0.1:0".parse().unwrap(),
    };
    config.http.body_bytes = 4096;
    config
}

impl Gateway {
    async fn start() -> Gateway {
        Gateway::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut Config)) -> Gateway {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir);
        change(&mut config);
        let file = dir.path().join("dev.env");
        bootstrap(&config, &file).await.unwrap();
        let credentials = std::fs::read_to_string(&file).unwrap();
        let credentials = credentials.lines().filter_map(|line| line.split_once('='));
        let credentials = credentials.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();

        let listeners = Listeners::bind(&config.listen).unwrap();
        let addresses = listeners.addresses().unwrap();
        let shutdown = Shutdown::default();
        let running = tokio::spawn(run(config, listeners, shutdown.clone()));
        Gateway { addresses, shutdown, running, credentials, dir }
    }

    fn key(&self) -> String {
        format!("Bearer {}", self.credentials["CAPROCK_API_KEY"])
    }

    async fn get(&self, path: &str, authorization: Option<&str>) -> Reply {
        call(self.addresses.data, "GET", path, authorization, "").await
    }

    async fn post(&self, path: &str, authorization: Option<&str>, body: &str) -> Reply {
        call(self.addresses.data, "POST", path, authorization, body).await
    }

    async fn ask_admin(&self, path: &str, authorization: Option<&str>) -> Reply {
        call(self.addresses.admin, "GET", path, authorization, "").await
    }
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    fn openai_code(&self) -> (u16, String) {
        (self.status.as_u16(), self.json()["error"]["code"].as_str().unwrap().to_owned())
    }

    fn exception(&self) -> (u16, &str) {
        (self.status.as_u16(), self.headers["x-amzn-errortype"].to_str().unwrap())
    }
}

async fn call(address: SocketAddr, method: &str, path: &str, authorization: Option<&str>, body: &str) -> Reply {
    let exchange = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", address.to_string());
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        assert_eq!(parts.version, Version::HTTP_11);
        let reply =
            Reply { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() };
        drop(sender);
        connection.await.unwrap().unwrap();
        reply
    };
    timeout(BOUND, exchange).await.expect("no answer")
}

#[tokio::test]
async fn failures_come_in_the_words_of_openais_paths() {
    let gateway = Gateway::start().await;
    let key = gateway.key();
    for path in ["/v1/chat/completions", "/openai/v1/chat/completions"] {
        let refused = [
            (gateway.post(path, None, HI).await, (401, "invalid_api_key")),
            (gateway.post(path, Some("Bearer ck_wrong"), HI).await, (401, "invalid_api_key")),
            (gateway.post(path, Some("AWS4-HMAC-SHA256 x"), HI).await, (401, "invalid_api_key")),
            (gateway.post(path, Some(&key), "{").await, (400, "invalid_value")),
            (gateway.post(path, Some(&key), &"x".repeat(5000)).await, (413, "request_too_large")),
            (gateway.post(path, Some(&key), HI).await, (404, "model_not_served")),
            (gateway.post(path, Some(&key), &HI.replace("nova", "nava")).await, (404, "model_not_found")),
            (gateway.get(path, Some(&key)).await, (405, "method_not_allowed")),
            (gateway.get("/v1/nothing", Some(&key)).await, (404, "not_found")),
        ];
        for (reply, (status, code)) in refused {
            assert_eq!(reply.openai_code(), (status, code.to_owned()));
            assert!(reply.headers["x-request-id"].to_str().unwrap().starts_with("req_"));
        }
    }
}

#[tokio::test]
async fn failures_come_in_the_words_of_bedrocks_paths() {
    let gateway = Gateway::start().await;
    let key = gateway.key();
    for operation in ["converse", "converse-stream"] {
        let path = format!("/model/amazon.nova-lite-v1%3A0/{operation}");
        let refused = [
            (gateway.post(&path, None, CONVERSE_HI).await, (403, "MissingAuthenticationTokenException")),
            (gateway.post(&path, Some("Bearer ck_wrong"), CONVERSE_HI).await, (403, "AccessDeniedException")),
            (gateway.post(&path, Some("AWS4-HMAC-SHA256 x"), CONVERSE_HI).await, (403, "IncompleteSignatureException")),
            (gateway.post(&path, Some(&key), "{").await, (400, "ValidationException")),
            (gateway.post(&path, Some(&key), &"x".repeat(5000)).await, (413, "RequestEntityTooLargeException")),
            (gateway.post(&path, Some(&key), CONVERSE_HI).await, (404, "ResourceNotFoundException")),
            (gateway.post(&path.replace("nova", "nava"), Some(&key), CONVERSE_HI).await, (400, "ValidationException")),
            (gateway.post(&path.replace("nova", "%ff"), Some(&key), CONVERSE_HI).await, (400, "ValidationException")),
            (gateway.get(&path, Some(&key)).await, (405, "UnknownOperationException")),
        ];
        for (reply, exception) in refused {
            assert_eq!(reply.exception(), exception);
            assert_eq!(reply.headers["x-amzn-requestid"].len(), 36);
            assert!(reply.json()["message"].is_string());
        }
    }
}

#[tokio::test]
async fn the_catalog_is_listed_in_both_dialects() {
    let gateway = Gateway::start().await;
    let key = gateway.key();
    assert_eq!(gateway.get("/v1/models", Some(&key)).await.json()["data"], serde_json::json!([]));
    let one = gateway.get("/v1/models/amazon.nova-lite-v1:0", Some(&key)).await.json();
    assert_eq!((&one["owned_by"], &one["served"]), (&"Amazon".into(), &false.into()));
    assert_eq!(gateway.get("/v1/models/a.b", Some(&key)).await.status, StatusCode::NOT_FOUND);

    let count = async |query: &str| {
        let list = gateway.get(&format!("/foundation-models{query}"), Some(&key)).await.json();
        list["modelSummaries"].as_array().unwrap().len()
    };
    let all = count("").await;
    let amazon = count("?byProvider=amazon").await;
    assert!(0 < amazon && amazon < all, "{amazon} of {all}");
    assert!(count("?byProvider=Amazon&byOutputModality=TEXT").await <= amazon);
    assert_eq!(count("?byInferenceType=ON_DEMAND").await, 0, "nothing is served here");
    assert_eq!(count("?byCustomizationType=FINE_TUNING").await, 0);
    assert_eq!(gateway.get("/foundation-models", None).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_full_gateway_takes_no_request_with_a_body_and_still_answers_probes() {
    let gateway = Gateway::start_with(|config| config.gateway.max_requests = 0).await;
    let key = gateway.key();
    for path in ["/v1/models", "/openai/v1/models", "/v1/models/a.b", "/foundation-models"] {
        let reply = gateway.get(path, Some(&key)).await;
        assert_eq!(
            (reply.status, &reply.headers["retry-after"]),
            (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
        );
    }
    assert_eq!(gateway.post("/v1/chat/completions", Some(&key), HI).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(gateway.get("/healthz", None).await.status, StatusCode::OK);
    assert_eq!(gateway.get("/readyz", None).await.json()["store"], true);
}

#[tokio::test]
async fn operators_have_their_port() {
    let gateway = Gateway::start().await;
    let token = format!("Bearer {}", gateway.credentials["CAPROCK_ADMIN_TOKEN"]);
    let path = "/admin/v1/requests/req_0198c0de";
    let unknown = gateway.ask_admin(path, Some(&token)).await;
    assert_eq!(
        (unknown.status, &unknown.headers["content-type"]),
        (StatusCode::NOT_FOUND, &"application/problem+json".parse().unwrap())
    );
    assert_eq!(unknown.json()["type"], "urn:caprock:problem:not_found");
    for wrong in [None, Some("Bearer ckadm_wrong"), Some("Bearer ck_wrong")] {
        assert_eq!(gateway.ask_admin(path, wrong).await.status, StatusCode::UNAUTHORIZED);
    }
    // A tenant's key is known here, and has no part in what is every tenant's.
    assert_eq!(gateway.ask_admin(path, Some(&gateway.key())).await.status, StatusCode::FORBIDDEN);
    assert_eq!(gateway.ask_admin("/openapi.json", None).await.json()["info"]["title"], "Caprock admin API");
    let metrics = gateway.ask_admin("/metrics", None).await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    assert!(metrics.contains(r#"caprock_http_errors_total{surface="admin",kind="unauthenticated"} 3"#), "{metrics}");
    // Callers' port knows nothing of it.
    assert_eq!(gateway.get(path, Some(&token)).await.status, StatusCode::NOT_FOUND);
    assert_eq!(gateway.get("/metrics", None).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn it_drains_and_ends_when_told_to() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.get("/healthz", None).await.body, "ok\n");
    let ready = gateway.get("/readyz", None).await.json();
    assert_eq!((&ready["store"], &ready["accepting"]), (&true.into(), &true.into()));
    gateway.shutdown.drain.cancel();
    timeout(BOUND, gateway.running).await.expect("still running").unwrap().unwrap();
    assert!(TcpStream::connect(gateway.addresses.data).await.is_err(), "still listening");
}

#[tokio::test]
async fn what_it_saw_of_the_audit_log_is_kept_when_it_ends() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.get("/healthz", None).await.body, "ok\n");
    gateway.shutdown.drain.cancel();
    timeout(BOUND, gateway.running).await.expect("still running").unwrap().unwrap();
    let anchor = std::fs::read(gateway.dir.path().join("audit.anchor")).unwrap();
    let anchor: Value = serde_json::from_slice(&anchor).unwrap();
    assert!(anchor["seq"].as_i64() > Some(0) && anchor["digest"].as_str().unwrap().len() == 64, "{anchor}");
}

#[tokio::test]
async fn with_a_database_behind_its_anchor_it_starts_and_says_so() {
    let gateway = Gateway::start_with(|config| {
        let anchor = serde_json::json!({"seq": 999, "digest": "0".repeat(64)});
        std::fs::write(config.gateway.state_dir.join("audit.anchor"), anchor.to_string()).unwrap();
    })
    .await;
    let token = format!("Bearer {}", gateway.credentials["CAPROCK_ADMIN_TOKEN"]);
    let counted = async {
        loop {
            let metrics = gateway.ask_admin("/metrics", None).await.body;
            if String::from_utf8_lossy(&metrics).contains("caprock_audit_anchor_contradictions_total 1") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(BOUND, counted).await.expect("not counted");
    let found = gateway.ask_admin("/admin/v1/audit-log/verification", Some(&token)).await.json();
    assert_eq!((&found["first_bad"]["kind"], &found["anchor"]["seq"]), (&"cut_off".into(), &999.into()));
    assert_eq!(gateway.get("/healthz", None).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_database_without_its_schema_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    let listeners = Listeners::bind(&config.listen).unwrap();
    let error = timeout(BOUND, run(config, listeners, Shutdown::default())).await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(error.message.contains("caprock migrate"), "{error}");
}

/// A second key of the demo tenant, with a role and a scope of its own.
async fn narrowed(gateway: &Gateway, role: &str, scope: &str) -> String {
    let dir = gateway.dir.path();
    let config = config(&gateway.dir);
    let store = crate::store::Store::connect(&config).await.unwrap();
    let secrets = crate::secrets::Secrets::load_or_create_with(dir, |_| None).unwrap();
    let tenant = store.tenant_by_name("demo").await.unwrap().unwrap().id;
    let project = store.project_by_name(&tenant, "default").await.unwrap().unwrap().id;
    let name = crate::tenants::Name::parse("narrowed").unwrap();
    let author = crate::audit::Author::command("test");
    let input = crate::tenants::CreateCredential::developer(name, project);
    let made = crate::tenants::CreatedApiKey::generate(&secrets, &tenant, input, &author, 1).unwrap();
    let change = crate::audit::Change { store: &store, secrets: &secrets, now: 1, author: &author, once: None };
    crate::tenants::create_api_key(change, &crate::tenants::Issuer::command(), &made).await.unwrap();
    let id = &made.key.id;
    let sql = format!("UPDATE api_keys SET role = '{role}', scope = '{scope}' WHERE id = '{id}'");
    crate::store::testing::execute(&store, sql).await;
    store.close().await;
    format!("Bearer {}", made.text.expose())
}

#[tokio::test]
async fn a_key_that_is_narrowed_is_told_by_what_before_its_body_is_read() {
    let gateway = Gateway::start().await;
    let (chat, converse) = ("/v1/chat/completions", "/model/amazon.nova-lite-v1%3A0/converse");
    let any = r#"{"operations":["inference","control_plane","read_usage","administer"]}"#;
    for (role, scope, chats, converses, lists, why) in [
        ("tenant_developer", any, 404, 404, 200, ""),
        ("tenant_billing_viewer", any, 403, 403, 200, "role does not have the permission infer"),
        (
            "tenant_owner",
            r#"{"operations":["administer"]}"#,
            403,
            403,
            403,
            "scope does not include the operation inference",
        ),
        (
            "tenant_owner",
            r#"{"operations":["inference","control_plane"],"dialects":["bedrock"]}"#,
            403,
            404,
            403,
            "scope does not include the dialect openai",
        ),
        (
            "tenant_owner",
            r#"{"operations":["inference","control_plane"],"ip_ranges":["192.0.2.0/24"]}"#,
            403,
            403,
            403,
            "scope does not include the address",
        ),
    ] {
        let key = narrowed(&gateway, role, scope).await;
        let told = gateway.post(chat, Some(&key), HI).await;
        assert_eq!(told.status, chats, "{role} {scope}");
        assert_eq!(gateway.post(converse, Some(&key), CONVERSE_HI).await.status, converses, "{role} {scope}");
        assert_eq!(gateway.get("/v1/models", Some(&key)).await.status, lists, "{role} {scope}");
        if chats == 403 {
            let message = told.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains(why), "{message}");
            // No body is read: one that is too large is not even noticed.
            assert_eq!(gateway.post(chat, Some(&key), &"x".repeat(5000)).await.status, 403);
        }
    }
}

#[tokio::test]
async fn a_tenants_own_operations_answer_on_the_data_port_only_when_told_to_and_operators_never() {
    let any = r#"{"operations":["inference","control_plane","read_usage","administer"]}"#;
    for on in [false, true] {
        let gateway = Gateway::start_with(|config| config.admin.on_data_port = on).await;
        let owner = narrowed(&gateway, "tenant_owner", any).await;
        let token = format!("Bearer {}", gateway.credentials["CAPROCK_ADMIN_TOKEN"]);
        let tenants = gateway.ask_admin("/admin/v1/tenants", Some(&token)).await.json();
        let own = format!("/admin/v1/tenants/{}", tenants["data"][0]["id"].as_str().unwrap());

        let status = async |method: &str, path: &str, credential: Option<&str>| {
            call(gateway.addresses.data, method, path, credential, "").await.status.as_u16()
        };
        assert_eq!(status("GET", &own, Some(&owner)).await, if on { 200 } else { 404 });
        assert_eq!(status("GET", &own, None).await, if on { 401 } else { 404 });
        assert_eq!(status("GET", &own, Some(&token)).await, if on { 401 } else { 404 }, "an operator");
        let stranger = own.replace(&own[own.len() - 4..], "0000");
        assert_eq!(status("GET", &stranger, Some(&owner)).await, 404);
        for (method, path) in [
            ("GET", "/admin/v1/tenants".to_owned()),
            ("POST", "/admin/v1/tenants".to_owned()),
            ("PATCH", own.clone()),
            ("DELETE", own.clone()),
            ("POST", format!("{own}/suspend")),
            ("POST", format!("{own}/resume")),
            ("GET", "/admin/v1/audit-log".to_owned()),
            ("GET", "/admin/v1/cluster/workers".to_owned()),
            ("GET", "/metrics".to_owned()),
        ] {
            for credential in [&owner, &token] {
                assert_eq!(status(method, &path, Some(credential)).await, 404, "{method} {path}");
            }
        }
        if on {
            let reply = gateway.get(&own, None).await;
            assert_eq!(reply.headers["content-type"], "application/problem+json");
            assert_eq!(gateway.get(&format!("{own}/usage"), Some(&owner)).await.status, 200);
        }
        assert_eq!(gateway.ask_admin(&own, Some(&owner)).await.status, 200, "and always on the operators' port");
    }
}
