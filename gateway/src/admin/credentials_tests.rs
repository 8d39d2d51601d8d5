//! API keys and access keys over HTTP.

use crate::admin::testing::{Gateway, Reply, widest};
use crate::tenants::Scope;
use http::Method;
use serde_json::{Value, json};

#[path = "credentials_issuing_tests.rs"]
mod issuing;
#[path = "credentials_secrets_tests.rs"]
mod secrets;

const COLLECTIONS: [&str; 2] = ["api-keys", "access-keys"];

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
        let to_tenants =
            gateway.get(&format!("{keys}/{}", made["id"].as_str().unwrap()), &gateway.acme.owner.text).await;
        assert_eq!(to_tenants.expect(200)["created_by"], "operator");
        let guessed = format!("{keys}?created_by={}", made["created_by"].as_str().unwrap());
        assert_eq!(gateway.get(&guessed, &gateway.acme.owner.text).await.expect(200)["data"], json!([]));
        assert_ne!(gateway.get(&guessed, operator).await.expect(200)["data"], json!([]));
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
