//! How much the admin API takes on, whoever asks.

use super::desk::Desk;
use super::testing::Gateway;
use crate::accept::Peer;
use crate::error::ErrorKind;
use crate::router;
use crate::store::testing::execute;
use crate::tenants::Role;
use axum::body::Body;
use http::{Method, Request};
use serde_json::json;
use tower::ServiceExt;

#[tokio::test]
async fn beyond_its_bound_the_admin_port_refuses_operations_and_still_answers_probes() {
    let full = Desk::open_as(|config| config.admin.max_requests = 0).await;
    for path in ["/admin/v1/tenants", "/admin/v1/tenants/ten_1/usage", "/admin/v1/audit-log"] {
        let reply = full.get(path, &full.root).await;
        assert_eq!((reply.status.as_u16(), reply.headers["retry-after"].to_str().unwrap()), (503, "1"), "{path}");
        assert_eq!(reply.headers["content-type"], "application/problem+json");
    }
    for path in ["/healthz", "/metrics"] {
        assert_eq!(full.get(path, &full.root).await.status.as_u16(), 200, "{path}");
    }
}

#[tokio::test]
async fn administrators_on_the_data_port_take_no_place_from_callers_nor_callers_from_them() {
    for (administrators, callers) in [(0, 8), (8, 0)] {
        let gateway = Gateway::start_with(|config| {
            config.admin.on_data_port = true;
            (config.admin.max_requests, config.gateway.max_requests) = (administrators, callers);
        })
        .await;
        let acme = &gateway.acme;
        let own = format!("/admin/v1/tenants/{}", acme.tenant);
        let status = async |path: &str| gateway.data_call(Method::GET, path, &acme.owner.text).send().await.status;
        assert_eq!(status(&own).await, if administrators == 0 { 503 } else { 200 });
        assert_eq!(status("/v1/models").await, if callers == 0 { 503 } else { 200 });
    }
}

#[tokio::test]
async fn a_body_is_as_large_as_the_largest_that_means_something() {
    let desk = Desk::open().await;
    let (tenant, project) = desk.tenant("acme").await;
    let owner = desk.key((&tenant, &project), Role::TenantOwner).await;
    let path = format!("/admin/v1/tenants/{tenant}/projects/{project}");

    // Every character escaped, in a list as long as it may be.
    let escaped: String = "m".repeat(128).chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    let list = format!(r#"{{"models":[{}]}}"#, vec![format!("\"{escaped}\""); 64].join(","));
    let longest = desk.call("PUT", &format!("{path}/model-access"), &owner, &list).await;
    assert_eq!(longest.status.as_u16(), 200, "{}", longest.text);

    for (bytes, status) in [(64 << 10, 200), ((64 << 10) + 1, 413)] {
        let mut body = json!({"name": "shop"}).to_string();
        body.push_str(&" ".repeat(bytes - body.len()));
        let reply = desk.call("PATCH", &path, &owner, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{bytes}: {}", reply.text);
    }
}

#[tokio::test]
async fn an_operation_that_reads_no_query_refuses_any_parameter_and_does_nothing() {
    let desk = Desk::open().await;
    let (tenant, project) = desk.tenant("acme").await;
    let own = format!("/admin/v1/tenants/{tenant}");
    let operations = [
        ("GET", own.clone(), ""),
        ("PATCH", own.clone(), r#"{"name":"other"}"#),
        ("DELETE", own.clone(), ""),
        ("POST", format!("{own}/suspend"), ""),
        ("PUT", format!("{own}/limits"), r#"{"requests_per_minute":1}"#),
        ("PUT", format!("{own}/projects/{project}/model-access"), r#"{"models":[]}"#),
        ("POST", format!("{own}/projects"), r#"{"name":"shop"}"#),
        ("GET", "/admin/v1/catalog".to_owned(), ""),
    ];
    let end = async || desk.app.store.audit_head().await.unwrap().seq;
    let before = end().await;
    for (method, path, body) in operations {
        let reply = desk.call(method, &format!("{path}?dry_run=true"), &desk.root, body).await;
        assert_eq!(reply.fault(), (400, Some("dry_run".to_owned())), "{method} {path}: {}", reply.text);
    }
    assert_eq!(end().await, before);
}

#[tokio::test]
async fn a_change_that_was_made_is_answered_so_whatever_can_be_read_afterwards() {
    let desk = Desk::open().await;
    let (tenant, project) = desk.tenant("acme").await;
    let own = format!("/admin/v1/tenants/{tenant}");
    let key = json!({"name": "k", "project_id": project}).to_string();
    let key = desk.call("POST", &format!("{own}/api-keys"), &desk.root, &key).await.json();
    let key = key["id"].as_str().unwrap();
    for (path, body) in [
        (format!("projects/{project}/limits"), json!({"requests_per_minute": 7})),
        (format!("projects/{project}/model-access"), json!({"models": ["a*"]})),
        (format!("api-keys/{key}/limits"), json!({"requests_per_minute": 3})),
    ] {
        // From the commit on, the tenant's row can't be read.
        let sql = "CREATE TRIGGER breaks AFTER INSERT ON audit_log BEGIN UPDATE tenants SET created_at = 'x'; END";
        execute(&desk.app.store, sql).await;
        let reply = desk.call("PUT", &format!("{own}/{path}"), &desk.root, &body.to_string()).await;
        assert_eq!(desk.app.store.tenant(&tenant).await.unwrap_err().kind, ErrorKind::Internal);
        execute(&desk.app.store, "DROP TRIGGER breaks; UPDATE tenants SET created_at = 1").await;
        assert_eq!(reply.status.as_u16(), 200, "{path}: {}", reply.text);
        let field = body.as_object().unwrap().keys().next().unwrap();
        let own = &reply.json()["own"];
        assert_eq!(own[field], body[field], "{path}: {}", reply.text);
    }
}

#[tokio::test]
async fn metrics_answer_this_machine_and_whoever_may_read_the_platform() {
    let desk = Desk::open().await;
    let (tenant, project) = desk.tenant("acme").await;
    let owner = desk.key((&tenant, &project), Role::TenantOwner).await;
    let viewer = desk.operator(Role::PlatformViewer).await;
    for (credential, status) in [(desk.root.as_str(), 200), (&viewer, 200), (&owner, 403), ("ckadm_wrong", 401)] {
        assert_eq!(desk.get("/metrics", credential).await.status.as_u16(), status, "{status}");
    }
    let scrape = async |desk: &Desk, peer: &str, forwarded: Option<&str>| {
        let mut request = Request::builder().uri("/metrics").header("host", "admin");
        if let Some(address) = forwarded {
            request = request.header("x-forwarded-for", address);
        }
        let request = request.extension(Peer(peer.parse().unwrap())).body(Body::empty()).unwrap();
        router::operators(&desk.app).oneshot(request).await.unwrap().status().as_u16()
    };
    for (peer, forwarded, status) in [
        ("127.0.0.1", None, 200),
        ("::1", None, 200),
        ("::ffff:127.0.0.1", None, 200),
        ("192.0.2.7", None, 401),
        ("192.0.2.7", Some("127.0.0.1"), 401),
        ("127.0.0.1", Some("192.0.2.7"), 401),
    ] {
        assert_eq!(scrape(&desk, peer, forwarded).await, status, "{peer} {forwarded:?}");
    }
    let public = Desk::open_as(|config| config.admin.public_metrics = true).await;
    assert_eq!(scrape(&public, "192.0.2.7", None).await, 200);
}

#[tokio::test]
async fn a_tenant_that_has_all_it_may_have_is_told_so() {
    let desk = Desk::open_as(|config| {
        (config.admin.per_tenant.projects, config.admin.per_tenant.changes_per_minute) = (2, 3);
    })
    .await;
    let (tenant, project) = desk.tenant("acme").await;
    let owner = desk.key((&tenant, &project), Role::TenantOwner).await;
    let path = format!("/admin/v1/tenants/{tenant}/projects");
    let make = async |name: &str, credential: &str| {
        desk.call("POST", &path, credential, &json!({"name": name}).to_string()).await
    };
    assert_eq!(make("second", &desk.root).await.status.as_u16(), 201);
    let full = make("third", &desk.root).await;
    assert_eq!(full.fault(), (409, None), "{}", full.text);
    assert_eq!(full.json()["type"], "urn:caprock:problem:conflict");
    let renamed = json!({"name": "renamed"}).to_string();
    let fast = desk.call("PATCH", &format!("{path}/{project}"), &owner, &renamed).await;
    assert_eq!((fast.fault().0, &fast.json()["type"]), (429, &"urn:caprock:problem:quota_exceeded".into()));
    let after: u32 = fast.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
}

#[tokio::test]
async fn a_credential_that_is_as_asked_for_already_gets_no_new_version_and_no_entry() {
    let desk = Desk::open().await;
    let (tenant, project) = desk.tenant("acme").await;
    let own = format!("/admin/v1/tenants/{tenant}");
    let key = json!({"name": "k", "project_id": project});
    for (path, input) in [
        (format!("{own}/api-keys"), key.clone()),
        (format!("{own}/access-keys"), key),
        ("/admin/v1/admin-tokens".to_owned(), json!({"name": "k", "role": "platform_viewer"})),
    ] {
        let made = desk.call("POST", &path, &desk.root, &input.to_string()).await;
        assert_eq!(made.status.as_u16(), 201, "{}", made.text);
        let one = format!("{path}/{}", made.json()["id"].as_str().unwrap());
        let end = async || desk.app.store.audit_head().await.unwrap().seq;
        let before = end().await;
        for body in [r#"{"name":"k"}"#, "{}"] {
            let same = desk.call("PATCH", &one, &desk.root, body).await;
            assert_eq!((same.status.as_u16(), &same.headers["etag"]), (200, &"\"1\"".parse().unwrap()), "{one} {body}");
        }
        assert_eq!(
            (end().await, &desk.get(&one, &desk.root).await.headers["etag"]),
            (before, &"\"1\"".parse().unwrap())
        );
        assert_eq!(desk.call("POST", &format!("{one}/rotate"), &desk.root, "{}").await.status.as_u16(), 200);
        let other = desk.call("PATCH", &one, &desk.root, r#"{"name":"other"}"#).await;
        assert_eq!((&other.headers["etag"], end().await), (&"\"3\"".parse().unwrap(), before + 2), "{one}");
    }
}
