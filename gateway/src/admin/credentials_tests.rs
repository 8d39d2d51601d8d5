//! API keys and access keys over HTTP.

use crate::admin::testing::{Gateway, Reply, widest};
use crate::tenants::{Role, Scope};
use http::Method;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::{Arc, Mutex};

const COLLECTIONS: [&str; 2] = ["api-keys", "access-keys"];

fn scope(json: Value) -> Scope {
    serde_json::from_value(json).unwrap()
}

impl Gateway {
    /// Acme's keys.
    fn keys(&self, collection: &str) -> String {
        format!("/admin/v1/tenants/{}/{collection}", self.acme.tenant)
    }

    async fn make(&self, collection: &str, mut body: Value) -> Value {
        if body.get("service_account_id").is_none() {
            body["project_id"] = json!(self.acme.project);
        }
        self.post(&self.keys(collection), &self.operator, body).await.expect(201)
    }

    async fn with_key(&self, method: Method, path: &str, token: &str, key: &str, body: Value) -> Reply {
        self.call(method, path, token).header("idempotency-key", key).json(body).send().await
    }
}

fn secret_of(view: &Value) -> &str {
    view.get("secret").or(view.get("secret_access_key")).and_then(Value::as_str).unwrap()
}

#[tokio::test]
async fn a_key_is_made_read_listed_changed_and_revoked() {
    let gateway = Gateway::start().await;
    let operator = &gateway.operator;
    for collection in COLLECTIONS {
        let keys = gateway.keys(collection);
        let input = json!({
            "name": "ci", "project_id": gateway.acme.project, "role": "tenant_admin",
            "scope": {"operations": ["inference"], "models": ["amazon.*"], "ip_ranges": ["127.0.0.0/8"]},
            "limits": {"requests_per_minute": 5}, "expires_at": "2035-01-31T12:00:00Z",
        });
        let made = gateway.post(&keys, operator, input.clone()).await;
        assert_eq!((made.etag(), made.headers["cache-control"].to_str().unwrap()), ("\"1\"", "no-store"));
        let mut made = made.expect(201);
        assert!(made["created_by"].as_str().unwrap().starts_with("adm_"));
        for field in ["name", "project_id", "role", "scope", "expires_at"] {
            assert_eq!(made[field], input[field], "{field}");
        }
        assert_eq!((&made["status"], &made["limits"]["requests_per_minute"]), (&json!("active"), &json!(5)));
        if collection == "access-keys" {
            let id = made["access_key_id"].as_str().unwrap();
            assert!(id.starts_with("CKIA") && made["id"] == format!("key_{id}"));
        }
        made.as_object_mut().unwrap().retain(|name, _| !name.starts_with("secret"));
        let one = format!("{keys}/{}", made["id"].as_str().unwrap());
        let read = gateway.get(&one, operator).await;
        assert_eq!((read.etag(), read.json()), ("\"1\"", made.clone()));
        let listed = gateway.get(&format!("{keys}?name=ci"), operator).await.expect(200);
        assert_eq!((&listed["data"], &listed["has_more"]), (&json!([made]), &json!(false)));

        let patch = async |body: Value, version: &str| {
            gateway.call(Method::PATCH, &one, operator).header("if-match", version).json(body).send().await
        };
        patch(json!({"name": "stale"}), "\"7\"").await.refused(412, None);
        let changed = patch(json!({"name": "cd", "expires_at": null, "role": "tenant_developer"}), "\"1\"").await;
        assert_eq!(changed.etag(), "\"2\"");
        let changed = changed.expect(200);
        assert_eq!((&changed["name"], &changed["role"]), (&json!("cd"), &json!("tenant_developer")));
        assert!(changed.get("expires_at").is_none() && changed["scope"] == made["scope"]);
        let same = gateway.patch(&one, operator, json!({})).await.expect(200);
        assert_eq!((&same["name"], &same["limits"]), (&changed["name"], &changed["limits"]));
        for (body, param) in [
            (json!({"expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
            (json!({"expires_at": "2099-01-01T00:00:00Z"}), "expires_at"),
            (json!({"role": "platform_viewer"}), "role"),
            (json!({"scope": {"operations": [], "models": ["a b"]}}), "scope.models"),
            (json!({"name": ""}), "name"),
            (json!({"project_id": gateway.rival.project}), "project_id"),
        ] {
            gateway.patch(&one, operator, body).await.refused(400, Some(param));
        }

        let stale = gateway.call(Method::DELETE, &one, operator).header("if-match", "\"1\"").send().await;
        stale.refused(412, None);
        gateway.delete(&one, operator).await.expect(204);
        for again in [
            gateway.delete(&one, operator).await,
            gateway.patch(&one, operator, json!({})).await,
            gateway.post(&format!("{one}/rotate"), operator, json!({})).await,
        ] {
            again.refused(404, None);
        }
        let revoked = gateway.get(&one, operator).await.expect(200);
        assert_eq!(revoked["status"], "revoked");
        assert!(revoked["revoked_at"].is_string());
        let count = async |query: &str| {
            let list = gateway.get(&format!("{keys}?{query}"), operator).await.expect(200);
            list["data"].as_array().unwrap().len()
        };
        assert_eq!((count("name=cd").await, count("name=cd&with_revoked=true").await), (0, 1));
    }
}

#[tokio::test]
async fn a_key_without_a_word_about_its_rights_is_a_developers_and_works() {
    let gateway = Gateway::start().await;
    let made = gateway.make("api-keys", json!({"name": "plain"})).await;
    assert_eq!((&made["role"], &made["scope"]), (&json!("tenant_developer"), &json!(Scope::default())));
    let made = gateway.make("api-keys", json!({"name": "reader", "scope": widest()})).await;
    gateway.get(&gateway.keys("api-keys"), secret_of(&made)).await.expect(200);
}

#[tokio::test]
async fn input_that_makes_no_key_is_refused_by_name() {
    let gateway = Gateway::start().await;
    let (project, keys) = (gateway.acme.project.to_string(), gateway.keys("api-keys"));
    for (body, status, param) in [
        (json!({"project_id": project}), 400, Some("name")),
        (json!({"name": "x"}), 400, Some("project_id")),
        (json!({"name": "x", "project_id": project, "service_account_id": "sva_1"}), 400, Some("service_account_id")),
        (json!({"name": "x", "service_account_id": "sva_1"}), 404, Some("service_account_id")),
        (json!({"name": "x", "project_id": "nonsense"}), 404, Some("project_id")),
        (json!({"name": "x", "project_id": gateway.rival.project}), 404, Some("project_id")),
        (json!({"name": "x", "project_id": project, "expires_at": "2020-01-01T00:00:00Z"}), 400, Some("expires_at")),
        (json!({"name": "x", "project_id": project, "role": "platform_admin"}), 400, Some("role")),
        (json!({"name": "x", "project_id": project, "secret": "mine"}), 400, Some("secret")),
    ] {
        gateway.post(&keys, &gateway.operator, body).await.refused(status, param);
    }
    for query in ["project_id=x", "service_account_id=x", "after=x", "limit=0", "colour=red"] {
        let param = query.split('=').next();
        gateway.get(&format!("{keys}?{query}"), &gateway.operator).await.refused(400, param);
    }
}

#[tokio::test]
async fn each_role_sees_and_changes_what_it_may() {
    let gateway = Gateway::start().await;
    let acme = &gateway.acme;
    for collection in COLLECTIONS {
        let keys = gateway.keys(collection);
        let made = gateway.make(collection, json!({"name": "target"})).await;
        let one = format!("{keys}/{}", made["id"].as_str().unwrap());
        let input = json!({"name": "x", "project_id": acme.project});
        for (token, reads, writes) in [
            (&gateway.operator, 200, true),
            (&gateway.viewer, 200, false),
            (&acme.owner.text, 200, true),
            (&acme.admin.text, 200, true),
            (&acme.developer.text, 200, false),
            (&acme.billing_viewer.text, 403, false),
            (&gateway.rival.owner.text, 404, false),
        ] {
            gateway.get(&keys, token).await.expect(reads);
            gateway.get(&one, token).await.expect(reads);
            let refused = if reads == 404 { 404 } else { 403 };
            let status = |granted| if writes { granted } else { refused };
            gateway.post(&keys, token, input.clone()).await.expect(status(201));
            gateway.patch(&one, token, json!({})).await.expect(status(200));
            gateway.post(&format!("{one}/rotate"), token, json!({})).await.expect(status(200));
            if !writes {
                gateway.delete(&one, token).await.expect(refused);
            }
        }
        gateway.delete(&one, &acme.admin.text).await.expect(204);
    }
}

/// Every way in which a tenant's caller could get more than it has, each refused by name, and without any effect.
#[tokio::test]
async fn nobody_gets_more_out_of_a_key_than_they_have() {
    let gateway = Gateway::start().await;
    let narrow = json!({
        "operations": ["inference", "administer"], "models": ["amazon.*"], "dialects": ["openai"],
        "ip_ranges": ["127.0.0.0/8"],
    });
    let wider = [
        ("scope.operations", "operations", json!(["inference", "administer", "read_usage"])),
        ("scope.models", "models", json!(["*"])),
        ("scope.models", "models", Value::Null),
        ("scope.dialects", "dialects", json!(["openai", "bedrock"])),
        ("scope.dialects", "dialects", Value::Null),
        ("scope.ip_ranges", "ip_ranges", json!(["0.0.0.0/0"])),
        ("scope.ip_ranges", "ip_ranges", Value::Null),
    ];
    let with = |field: &str, value: &Value| {
        let mut scope = narrow.clone();
        scope[field] = value.clone();
        scope
    };
    for role in [Role::TenantOwner, Role::TenantAdmin] {
        let caller = gateway.acme_key(role, &scope(narrow.clone())).await;
        for collection in COLLECTIONS {
            let keys = gateway.keys(collection);
            let input = |role: &str, scope: &Value| json!({"name": "x", "project_id": gateway.acme.project, "role": role, "scope": scope});
            let own = input("tenant_developer", &narrow);
            let child = gateway.post(&keys, &caller.text, own).await.expect(201);
            let child = format!("{keys}/{}", child["id"].as_str().unwrap());
            let wide = gateway.make(collection, json!({"name": "wide", "scope": widest()})).await;
            let wide = format!("{keys}/{}", wide["id"].as_str().unwrap());
            let owners = json!({"name": "owner's", "role": "tenant_owner", "scope": narrow});
            let owners = gateway.make(collection, owners).await;
            let owners = format!("{keys}/{}", owners["id"].as_str().unwrap());
            let all = format!("{keys}?with_revoked=true&limit=200");
            let before = gateway.get(&all, &gateway.operator).await.expect(200);

            for (param, field, value) in &wider {
                let scope = with(field, value);
                let made = gateway.post(&keys, &caller.text, input("tenant_developer", &scope)).await;
                made.refused(403, Some(param));
                gateway.patch(&child, &caller.text, json!({"scope": scope})).await.refused(403, Some(param));
            }
            // What reaches further already is neither taken over, nor narrowed to something that could be taken over.
            let mightier = [(&wide, "scope.operations")].into_iter();
            let mightier = mightier.chain((role == Role::TenantAdmin).then_some((&owners, "role")));
            for (one, param) in mightier {
                for body in [json!({}), json!({"role": "tenant_developer", "scope": narrow})] {
                    gateway.patch(one, &caller.text, body).await.refused(403, Some(param));
                }
                gateway.post(&format!("{one}/rotate"), &caller.text, json!({})).await.refused(403, Some(param));
                gateway.delete(one, &caller.text).await.refused(403, Some(param));
            }
            if role == Role::TenantAdmin {
                let made = gateway.post(&keys, &caller.text, input("tenant_owner", &narrow)).await;
                made.refused(403, Some("role"));
                let raised = gateway.patch(&child, &caller.text, json!({"role": "tenant_owner"})).await;
                raised.refused(403, Some("role"));
            }
            for platforms in ["platform_admin", "platform_viewer"] {
                let raised = gateway.patch(&child, &caller.text, json!({"role": platforms})).await;
                raised.refused(400, Some("role"));
            }
            assert_eq!(gateway.get(&all, &gateway.operator).await.expect(200), before, "{role:?} {collection}");
        }
    }
}

#[tokio::test]
async fn nobody_widens_the_key_in_use() {
    let gateway = Gateway::start().await;
    let (operator, keys) = (&gateway.operator, gateway.keys("api-keys"));
    for role in ["tenant_owner", "tenant_admin"] {
        let made = gateway.make(
            "api-keys",
            json!({
                "name": "mine", "role": role, "expires_at": "2030-01-01T00:00:00Z",
                "scope": {"operations": ["administer"], "models": ["amazon.*"], "ip_ranges": ["127.0.0.0/8"]},
                "limits": {"requests_per_minute": 5, "tokens_per_minute": 5, "concurrent_requests": 5},
            }),
        );
        let made = made.await;
        let (one, secret) = (format!("{keys}/{}", made["id"].as_str().unwrap()), secret_of(&made));
        let before = gateway.get(&one, operator).await.expect(200);
        let limits = |field: &str, value: Value| {
            let mut limits = json!({"requests_per_minute": 5, "tokens_per_minute": 5, "concurrent_requests": 5});
            limits[field] = value;
            json!({ "limits": limits })
        };
        let mut attempts = vec![
            (json!({"expires_at": null}), "expires_at"),
            (json!({"expires_at": "2030-01-01T00:00:01Z"}), "expires_at"),
            (json!({"scope": {"operations": ["administer", "inference"]}}), "scope.operations"),
            (json!({"scope": {"operations": ["administer"], "ip_ranges": ["127.0.0.0/8"]}}), "scope.models"),
            (json!({"scope": {"operations": ["administer"], "models": ["amazon.*"]}}), "scope.ip_ranges"),
            (limits("requests_per_minute", json!(6)), "limits.requests_per_minute"),
            (limits("tokens_per_minute", Value::Null), "limits.tokens_per_minute"),
            (limits("concurrent_requests", json!(6)), "limits.concurrent_requests"),
        ];
        if role == "tenant_admin" {
            attempts.push((json!({"role": "tenant_owner"}), "role"));
        }
        for (body, param) in attempts {
            gateway.patch(&one, secret, body).await.refused(403, Some(param));
        }
        assert_eq!(gateway.get(&one, operator).await.expect(200), before);
        let narrowed = json!({"expires_at": "2029-01-01T00:00:00Z", "limits": {"requests_per_minute": 1,
            "tokens_per_minute": 1, "concurrent_requests": 1}});
        gateway.patch(&one, secret, narrowed).await.expect(200);
    }
}

#[tokio::test]
async fn an_operator_gives_a_tenant_what_its_own_scope_does_not_hold() {
    let gateway = Gateway::start().await;
    let input = json!({"name": "narrow", "role": "platform_admin", "scope": {"operations": ["administer"]}});
    let narrow = gateway.post("/admin/v1/admin-tokens", &gateway.operator, input).await.expect(201);
    let body = json!({"name": "x", "project_id": gateway.acme.project, "role": "tenant_owner", "scope": widest()});
    gateway.post(&gateway.keys("api-keys"), secret_of(&narrow), body).await.expect(201);
}

#[tokio::test]
async fn a_rotated_key_has_two_secrets_for_a_while() {
    let gateway = Gateway::start().await;
    let keys = gateway.keys("api-keys");
    let made = gateway.make("api-keys", json!({"name": "x", "scope": widest()})).await;
    let (one, first) = (format!("{keys}/{}", made["id"].as_str().unwrap()), secret_of(&made).to_owned());
    let rotate = async |body: Value| gateway.post(&format!("{one}/rotate"), &gateway.operator, body).await;
    for bad in [json!({"overlap_seconds": 2_592_001}), json!({"overlap_seconds": -1}), json!({"overlap_seconds": "1"})]
    {
        rotate(bad).await.refused(400, Some("overlap_seconds"));
    }
    let by_default = gateway.call(Method::POST, &format!("{one}/rotate"), &gateway.operator).send().await;
    assert_eq!(by_default.headers["cache-control"], "no-store");
    let by_default = by_default.expect(200);
    assert!(by_default["previous_secret_expires_at"].is_string() && by_default["id"] == made["id"]);
    let second = secret_of(&by_default).to_owned();
    for secret in [&first, &second] {
        gateway.get(&one, secret).await.expect(200);
    }
    let third = rotate(json!({"overlap_seconds": 0})).await.expect(200);
    assert!(third.get("previous_secret_expires_at").is_none());
    for gone in [&first, &second] {
        gateway.get(&one, gone).await.expect(401);
    }
    let read = gateway.get(&one, secret_of(&third)).await;
    assert_eq!(read.etag(), "\"3\"");
    assert!(read.expect(200).get("previous_secret_expires_at").is_none());

    let stale = gateway.call(Method::POST, &format!("{one}/rotate"), &gateway.operator).header("if-match", "\"1\"");
    stale.send().await.refused(412, None);
    gateway.get(&one, secret_of(&third)).await.expect(200);
    rotate(Value::Null).await.expect(200);
    // Whoever uses a key may rotate it.
    let fourth = gateway.make("api-keys", json!({"name": "self", "role": "tenant_admin", "scope": widest()})).await;
    let own = format!("{keys}/{}/rotate", fourth["id"].as_str().unwrap());
    gateway.post(&own, secret_of(&fourth), json!({})).await.expect(200);
}

#[tokio::test]
async fn a_repeated_call_gets_the_same_reply_with_its_secret_and_makes_nothing_new() {
    let gateway = Gateway::start().await;
    for collection in COLLECTIONS {
        let keys = gateway.keys(collection);
        let body = json!({"name": "once", "project_id": gateway.acme.project});
        let make = async |token: &str, body: &Value| {
            gateway.with_key(Method::POST, &keys, token, collection, body.clone()).await
        };
        let first = make(&gateway.operator, &body).await;
        let again = make(&gateway.operator, &body).await;
        assert!(first.headers.get("idempotent-replayed").is_none());
        assert_eq!((&again.headers["idempotent-replayed"], again.etag()), (&"true".parse().unwrap(), first.etag()));
        assert_eq!(again.expect(201), first.expect(201));
        make(&gateway.operator, &json!({"name": "other", "project_id": gateway.acme.project})).await.refused(422, None);
        let another = make(&gateway.acme.owner.text, &body).await.expect(201);
        assert_ne!(another["id"], first.json()["id"], "another caller's key");
        let owner = gateway.acme.owner.id.as_str();
        assert_eq!(another["created_by"], owner);
        let by_owner =
            gateway.get(&format!("{keys}?created_by={owner}"), &gateway.acme.developer.text).await.expect(200);
        assert_eq!((by_owner["data"].as_array().unwrap().len(), &by_owner["data"][0]["id"]), (1, &another["id"]));
        let named = gateway.get(&format!("{keys}?name=once"), &gateway.operator).await.expect(200);
        assert_eq!(named["data"].as_array().unwrap().len(), 2);

        let one = format!("{keys}/{}/rotate", first.json()["id"].as_str().unwrap());
        let rotate = async |overlap: u32| {
            let body = json!({"overlap_seconds": overlap});
            gateway.with_key(Method::POST, &one, &gateway.operator, &format!("{collection} rotate"), body).await
        };
        let rotated = rotate(60).await.expect(200);
        let again = rotate(60).await;
        assert_eq!(again.headers["idempotent-replayed"], "true");
        assert_eq!(again.expect(200), rotated);
        assert_ne!(secret_of(&rotated), secret_of(&first.json()));
        rotate(61).await.refused(422, None);
        let actions: Vec<String> =
            gateway.logged(rotated["id"].as_str().unwrap()).await.into_iter().map(|(action, _)| action).collect();
        let kind = if collection == "api-keys" { "api_key" } else { "access_key" };
        assert_eq!(actions, [format!("{kind}.create"), format!("{kind}.rotate")]);
    }
}

#[tokio::test]
async fn another_tenants_key_is_as_good_as_none() {
    let gateway = Gateway::start().await;
    for collection in COLLECTIONS {
        let own = gateway.keys(collection);
        let theirs = format!("/admin/v1/tenants/{}/{collection}", gateway.rival.tenant);
        let input = json!({"name": "x", "project_id": gateway.rival.project});
        let foreign = gateway.post(&theirs, &gateway.operator, input).await.expect(201);
        let foreign = foreign["id"].as_str().unwrap();
        let unknown = if collection == "api-keys" { "key_AAAAAAAAAAAA" } else { "key_CKIAAAAAAAAAAAAAAAAA" };
        for token in [&gateway.operator, &gateway.acme.owner.text] {
            for (method, rest) in
                [(Method::GET, ""), (Method::PATCH, ""), (Method::POST, "/rotate"), (Method::DELETE, "")]
            {
                let ask = async |id: &str| {
                    let reply = gateway.call(method.clone(), &format!("{own}/{id}{rest}"), token).json(json!({}));
                    reply.send().await
                };
                let (theirs, nobodys, nonsense) = (ask(foreign).await, ask(unknown).await, ask("nonsense").await);
                theirs.refused(404, None);
                assert_eq!((&theirs.body, &nobodys.body), (&nobodys.body, &nonsense.body), "{method} {rest}");
            }
            let make =
                async |project: &str| gateway.post(&own, token, json!({"name": "x", "project_id": project})).await;
            let theirs = make(gateway.rival.project.as_str()).await;
            theirs.refused(404, Some("project_id"));
            assert_eq!(theirs.body, make("prj_01993f3c5d7e7a70b0c1d2e3f4a5b6c7").await.body);
            let after = gateway.get(&format!("{own}?after={foreign}"), token).await.expect(200);
            assert_eq!(after["data"], json!([]));
        }
        gateway.get(&theirs, &gateway.acme.owner.text).await.refused(404, None);
        let kept = gateway.get(&format!("{theirs}/{foreign}"), &gateway.rival.owner.text).await;
        assert_eq!((kept.etag(), &kept.json()["status"]), ("\"1\"", &json!("active")));
    }
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let gateway = Gateway::start().await;
    let keys = gateway.keys("access-keys");
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(gateway.make("access-keys", json!({"name": format!("k{n}")})).await["id"].clone());
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    for expected in [2, 2, 1] {
        let page = gateway.get(&format!("{keys}?limit=2{after}"), &gateway.acme.developer.text).await.expect(200);
        let data = page["data"].as_array().unwrap();
        assert_eq!((data.len(), page["has_more"] == true), (expected, expected == 2));
        seen.extend(data.iter().map(|key| key["id"].clone()));
        after = format!("&after={}", page["next_after"].as_str().unwrap_or_default());
    }
    assert_eq!((seen, after.as_str()), (made, "&after="));
}

/// All that is logged, at every level.
#[derive(Debug, Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_secret_is_shown_by_the_call_that_makes_it_and_nowhere_else() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::level_filters::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // While there is only one, `tracing` asks the subscriber of whichever thread meets a call site first, for all threads;
    // of other tests' threads that is none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);
    let gateway = Gateway::start().await;
    let (mut secrets, mut shown) = (Vec::new(), String::new());
    let collections = COLLECTIONS.map(|collection| (gateway.keys(collection), gateway.acme.project.to_string()));
    for (keys, project) in &collections {
        let body = json!({"name": "x", "project_id": project});
        let made = gateway.with_key(Method::POST, keys, &gateway.operator, keys, body).await.expect(201);
        let id = made["id"].as_str().unwrap();
        let rotated = gateway.post(&format!("{keys}/{id}/rotate"), &gateway.operator, json!({})).await.expect(200);
        secrets.extend([secret_of(&made).to_owned(), secret_of(&rotated).to_owned()]);
        for reply in [
            gateway.get(keys, &gateway.operator).await,
            gateway.get(&format!("{keys}/{id}"), &gateway.operator).await,
            gateway.patch(&format!("{keys}/{id}"), &gateway.operator, json!({"name": "y"})).await,
        ] {
            shown += &reply.expect(200).to_string();
        }
        gateway.delete(&format!("{keys}/{id}"), &gateway.operator).await.expect(204);
        shown += &gateway.get(&format!("{keys}?with_revoked=true"), &gateway.operator).await.expect(200).to_string();
        shown += &format!("{:?}", gateway.logged(id).await);
    }
    let log = String::from_utf8_lossy(&logged.0.lock().unwrap()).into_owned();
    assert!(log.contains("listening"), "the log was not seen");
    for secret in &secrets {
        // Of an API key what counts is between its id and its checksum.
        let secret = secret.get(16..48).filter(|_| secret.starts_with("ck_")).unwrap_or(secret);
        assert!(!shown.contains(secret) && !log.contains(secret), "{secret}");
    }
    assert!(!shown.contains("digest") && !shown.contains("sealed"), "{shown}");
    assert_eq!(secrets.len(), 4);
}
