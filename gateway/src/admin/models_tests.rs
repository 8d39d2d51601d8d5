//! The catalog over HTTP, and what callers of the data port notice of it.

use crate::admin::testing::{Gateway, Reply};
use crate::catalog::MAX_OVERRIDES;
use crate::config::{self, Config};
use crate::store::CatalogRow;
use crate::upstream::cluster::fake::{FakeWorker, SECRET};
use cluster_protocol::Role as WorkerRole;
use http::Method;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const BUNDLED: &str = "huggingface.smollm2-135m-instruct";
const NOVA: &str = "/admin/v1/models/amazon.nova-lite-v1:0";
const MINE: &str = "/admin/v1/models/example.mine-v1:0";
const FAST: &str = "/admin/v1/model-aliases/fast";

fn served_by(worker: &FakeWorker, config: &mut Config) {
    config.cluster = vec![config::Cluster {
        name: "bundled".into(),
        model: BUNDLED.into(),
        stands_in_for: vec![],
        decode: vec![config::Worker { id: "decode-1".into(), address: worker.address.to_string() }],
        prefill: vec![],
        min_remote_prefill_tokens: 0,
    }];
    let secrets = config.gateway.state_dir.join("secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("cluster"), SECRET).unwrap();
    for (path, mode) in [(secrets.join("cluster"), 0o600), (secrets, 0o700)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// A gateway with a worker that serves the bundled model.
async fn served() -> (Gateway, FakeWorker) {
    let worker = FakeWorker::start("decode-1", WorkerRole::Decode).await;
    let gateway = Gateway::start_with(|config| served_by(&worker, config)).await;
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while gateway.get("/readyz", "").await.status != 200 {
        assert!(tokio::time::Instant::now() < until, "no ready worker");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (gateway, worker)
}

/// Three tokens by this worker's count, as it says.
async fn chat(gateway: &Gateway, model: &str) -> Reply {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "abc"}], "max_tokens": 4});
    gateway.data_call(Method::POST, "/v1/chat/completions", &gateway.acme.developer.text).json(body).send().await
}

/// As the operator sees it.
async fn record(gateway: &Gateway, reply: &Reply) -> Value {
    let id = reply.headers["x-request-id"].to_str().unwrap();
    gateway.get(&format!("/admin/v1/requests/{id}"), &gateway.operator).await.expect(200)
}

fn mine() -> Value {
    json!({
        "id": "example.mine-v1:0", "name": "Mine", "provider": "Me", "stand_in": BUNDLED, "context_tokens": 8192,
        "price_picousd_per_token": {"input": 5_000_000, "output": 7_000_000},
    })
}

#[tokio::test]
async fn a_model_that_is_added_answers_at_once_at_its_price_and_by_its_alias() {
    let (gateway, _worker) = served().await;
    assert_eq!(chat(&gateway, "example.mine-v1:0").await.status, 404);
    let made = gateway.post("/admin/v1/models", &gateway.operator, mine()).await;
    let view = made.expect(201);
    assert_eq!(view["serving"], json!({"by": "stand_in", "upstream": "bundled", "model": BUNDLED}));
    assert_eq!((&view["layer"], &view["served"], &view["streaming"]), (&json!("api"), &json!(true), &json!(true)));
    assert_eq!(view["price_picousd_per_token"]["source"], "set through the admin API");
    assert_eq!(made.etag(), format!("\"{}\"", view["version"]));
    assert_eq!(gateway.get(MINE, &gateway.operator).await.expect(200), view);

    let target = json!({"target": "example.mine-v1:0"});
    let alias = gateway.put(FAST, &gateway.operator, target.clone()).await;
    assert_eq!(alias.expect(201)["target"], "example.mine-v1:0");
    assert_eq!(gateway.put(FAST, &gateway.operator, target).await.expect(200)["version"], alias.json()["version"]);
    assert_eq!(gateway.get(MINE, &gateway.operator).await.json()["aliases"], json!(["fast"]));
    for name in ["example.mine-v1:0", "fast"] {
        let reply = chat(&gateway, name).await;
        reply.expect(200);
        assert_eq!(reply.headers["x-caprock-stand-in"], BUNDLED, "{name}");
        let record = record(&gateway, &reply).await;
        assert_eq!((&record["model_asked"], &record["model"]), (&json!(name), &json!(BUNDLED)), "{name}");
    }
    let (action, entry) = gateway.logged("fast").await.remove(0);
    assert_eq!((action.as_str(), &entry["after"]["target"]), ("alias.create", &json!("example.mine-v1:0")));

    gateway.delete(MINE, &gateway.operator).await.refused(409, None);
    assert_eq!(gateway.delete(FAST, &gateway.operator).await.status, 204);
    assert_eq!(gateway.delete(MINE, &gateway.operator).await.status, 204);
    for name in ["example.mine-v1:0", "fast"] {
        assert_eq!(chat(&gateway, name).await.status, 404, "{name}");
    }
    for path in [MINE, FAST] {
        assert_eq!(gateway.get(path, &gateway.operator).await.status, 404);
        gateway.delete(path, &gateway.operator).await.refused(404, None);
    }
}

#[tokio::test]
async fn a_price_that_is_changed_is_what_the_next_request_costs_and_taken_back_the_old_one_is() {
    let (gateway, _worker) = served().await;
    let path = format!("/admin/v1/models/{BUNDLED}");
    let before = gateway.get(&path, &gateway.operator).await;
    assert_eq!((before.etag(), &before.json()["layer"]), ("\"0\"", &json!("compiled_in")));
    let price = async || {
        let reply = chat(&gateway, BUNDLED).await;
        reply.expect(200);
        record(&gateway, &reply).await["ledger_entry"].clone()
    };
    assert_eq!(price().await["input_picousd_per_token"], 20_000);

    let patch = json!({"price_picousd_per_token": {"input": 3_000_000, "source": "a contract"}});
    let call = || gateway.call(Method::PATCH, &path, &gateway.operator).header("if-match", "\"0\"").json(patch.clone());
    let changed = call().send().await;
    let view = changed.expect(200);
    assert_eq!((&view["layer"], &view["price_picousd_per_token"]["output"]), (&json!("api"), &json!(40_000)));
    call().send().await.refused(412, None);
    let now = price().await;
    assert_eq!((&now["input_picousd_per_token"], &now["price_source"]), (&json!(3_000_000), &json!("a contract")));

    let stale = gateway.call(Method::DELETE, &path, &gateway.operator).header("if-match", "\"1\"").send().await;
    stale.refused(412, None);
    let gone = gateway.call(Method::DELETE, &path, &gateway.operator).header("if-match", changed.etag()).send().await;
    assert_eq!(gone.status, 204);
    assert_eq!(price().await["input_picousd_per_token"], 20_000);
    assert_eq!(gateway.get(&path, &gateway.operator).await.json(), before.json());
    let logged = gateway.logged(BUNDLED).await;
    assert_eq!(logged.iter().map(|(action, _)| action.as_str()).collect::<Vec<_>>(), ["model.update", "model.delete"]);
    assert_eq!(logged[1].1["before"]["entry"]["price_picousd_per_token"]["input"], 3_000_000);
    assert_eq!(logged[1].1["after"]["entry"]["price_picousd_per_token"]["input"], 20_000);
}

#[tokio::test]
async fn a_withdrawn_model_is_refused_and_what_to_use_instead_is_named() {
    let (gateway, _worker) = served().await;
    gateway.post("/admin/v1/models", &gateway.operator, mine()).await.expect(201);
    let sunset = json!({"deprecation": {"replacement": BUNDLED, "sunset_at": "2020-01-01T00:00:00Z"}});
    let view = gateway.patch(MINE, &gateway.operator, sunset).await.expect(200);
    assert_eq!((&view["served"], &view["deprecation"]["sunset_at"]), (&json!(false), &json!("2020-01-01T00:00:00Z")));
    let refused = chat(&gateway, "example.mine-v1:0").await;
    let error = refused.expect(404);
    let text = error["error"]["message"].as_str().unwrap();
    assert!(text.contains("withdrawn on 2020-01-01") && text.contains(&format!("Use {BUNDLED} instead")), "{text}");

    let ahead = json!({"deprecation": {"deprecated_at": "2020-01-01T00:00:00Z", "sunset_at": "2099-01-01T00:00:00Z"}});
    gateway.patch(MINE, &gateway.operator, ahead).await.expect(200);
    let reply = chat(&gateway, "example.mine-v1:0").await;
    reply.expect(200);
    assert_eq!(reply.headers["deprecation"], "@1577836800");
    assert_eq!(reply.headers["sunset"], "Thu, 01 Jan 2099 00:00:00 GMT");
    let back = gateway.patch(MINE, &gateway.operator, json!({"deprecation": null})).await.expect(200);
    assert_eq!(back["deprecation"], Value::Null);
}

#[tokio::test]
async fn a_call_that_is_repeated_with_its_key_gets_the_first_reply() {
    let (gateway, _worker) = served().await;
    let call = |key: &str, body: Value| {
        gateway.call(Method::POST, "/admin/v1/models", &gateway.operator).header("idempotency-key", key).json(body)
    };
    let first = call("one", mine()).send().await;
    let view = first.expect(201);
    let again = call("one", mine()).send().await;
    assert_eq!((again.expect(201), again.etag()), (view, first.etag()));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    call("two", mine()).send().await.refused(409, Some("id"));
    let mut other = mine();
    other["name"] = "Other".into();
    call("one", other).send().await.refused(422, None);
    // Also when the model is gone by then, and when it could not be added again.
    gateway.patch(MINE, &gateway.operator, json!({"name": "Changed"})).await.expect(200);
    assert_eq!(call("one", mine()).send().await.expect(201), first.json());
    assert_eq!(gateway.logged("example.mine-v1:0").await.len(), 2);
}

#[tokio::test]
async fn a_field_at_fault_is_named() {
    let (gateway, _worker) = served().await;
    let with = |field: &str, value: Value| {
        let mut body = mine();
        body[field] = value;
        body
    };
    for (body, status, param) in [
        (with("id", json!("a b")), 400, "id"),
        (with("id", json!("us.example.mine")), 400, "id"),
        (with("id", json!("amazon.nova-lite-v1:0")), 409, "id"),
        (with("name", json!("x".repeat(21))), 400, "name"),
        (with("colour", json!("red")), 400, "colour"),
        (with("price_picousd_per_token", json!({"input": -1, "output": 1})), 400, "price_picousd_per_token.input"),
        (with("max_output_tokens", json!(9000)), 400, "max_output_tokens"),
        (with("stand_in", json!("amazon.nova-lite-v1:0")), 400, "stand_in"),
        (with("deprecation", json!({"deprecated_at": "soon"})), 400, "deprecation.deprecated_at"),
    ] {
        gateway.post("/admin/v1/models", &gateway.operator, body).await.refused(status, Some(param));
    }
    let patch = async |body: Value| gateway.patch(NOVA, &gateway.operator, body).await;
    patch(json!({"deprecation": {"replacement": "no.such"}})).await.refused(400, Some("deprecation.replacement"));
    patch(json!({"status": null})).await.refused(400, Some("status"));
    let alias = async |path: &str, target: &str| gateway.put(path, &gateway.operator, json!({"target": target})).await;
    alias(FAST, "no.such").await.refused(400, Some("target"));
    alias("/admin/v1/model-aliases/us.fast", BUNDLED).await.refused(400, Some("id"));
    alias("/admin/v1/model-aliases/amazon.nova-lite-v1:0", BUNDLED).await.refused(400, Some("id"));
    let only_new = || gateway.call(Method::PUT, FAST, &gateway.operator).json(json!({"target": BUNDLED}));
    only_new().header("if-none-match", "\"1\"").send().await.refused(400, Some("If-None-Match"));
    only_new().header("if-none-match", "*").send().await.expect(201);
    only_new().header("if-none-match", "*").send().await.refused(412, None);
    gateway.patch("/admin/v1/models/no.such", &gateway.operator, json!({})).await.refused(404, None);
    gateway.delete(NOVA, &gateway.operator).await.refused(404, None);
    assert_eq!(gateway.get("/admin/v1/catalog", &gateway.operator).await.expect(200)["api_entries"], 1);
}

#[tokio::test]
async fn the_catalog_is_listed_by_id_page_by_page_and_filtered() {
    let (gateway, _worker) = served().await;
    gateway.post("/admin/v1/models", &gateway.operator, mine()).await.expect(201);
    for alias in ["c", "a", "b"] {
        let path = format!("/admin/v1/model-aliases/{alias}");
        gateway.put(&path, &gateway.operator, json!({"target": BUNDLED})).await.expect(201);
    }
    let list = async |query: &str| gateway.get(&format!("/admin/v1/{query}"), &gateway.viewer).await.expect(200);
    let ids = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let page = list(&format!("models?limit=30{after}")).await;
        all.extend(ids(&page));
        if page["has_more"] == false {
            assert_eq!(page.get("next_after"), None);
            break;
        }
        after = format!("&after={}", page["next_after"].as_str().unwrap());
    }
    let counted = gateway.get("/admin/v1/catalog", &gateway.viewer).await.expect(200);
    assert_eq!(all.len() as u64, counted["models"].as_u64().unwrap());
    assert!(all.is_sorted() && all.iter().any(|id| id == "example.mine-v1:0"));

    assert_eq!(ids(&list("models?layer=api").await), ["example.mine-v1:0"]);
    assert_eq!(ids(&list("models?served=true").await), ["example.mine-v1:0", BUNDLED]);
    assert_eq!(ids(&list("models?provider=Me").await), ["example.mine-v1:0"]);
    assert!(ids(&list("models?status=preview").await).len() < all.len());
    assert_eq!(ids(&list("models?served=true&provider=Nobody").await), Vec::<String>::new());
    assert_eq!(ids(&list("model-aliases?limit=2").await), ["a", "b"]);
    assert_eq!(ids(&list("model-aliases?limit=2&after=b").await), ["c"]);
    for bad in ["models?limit=0", "models?layer=none", "models?colour=red", "model-aliases?limit=201"] {
        assert_eq!(gateway.get(&format!("/admin/v1/{bad}"), &gateway.viewer).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn the_catalog_is_the_platforms_alone() {
    let (gateway, _worker) = served().await;
    gateway.put(FAST, &gateway.operator, json!({"target": BUNDLED})).await.expect(201);
    let operations = [
        (Method::GET, "/admin/v1/catalog"),
        (Method::GET, "/admin/v1/models"),
        (Method::POST, "/admin/v1/models"),
        (Method::GET, NOVA),
        (Method::PATCH, NOVA),
        (Method::DELETE, NOVA),
        (Method::GET, "/admin/v1/models/no.such"),
        (Method::GET, "/admin/v1/model-aliases"),
        (Method::GET, FAST),
        (Method::PUT, FAST),
        (Method::DELETE, FAST),
    ];
    let acme = &gateway.acme;
    for (method, path) in operations {
        let body = if path.contains("alias") { json!({"target": BUNDLED}) } else { json!({"name": "Mine"}) };
        for key in [&acme.owner, &acme.admin, &acme.developer, &acme.billing_viewer] {
            let reply = gateway.call(method.clone(), path, &key.text).json(body.clone()).send().await;
            reply.refused(403, None);
        }
        if method != Method::GET {
            gateway.call(method, path, &gateway.viewer).json(body).send().await.refused(403, None);
        }
    }
    assert_eq!(gateway.get("/admin/v1/catalog", &gateway.viewer).await.expect(200)["aliases"], 1);
}

#[tokio::test]
async fn a_locked_catalog_is_the_configurations_and_says_what_it_ignores() {
    let gateway = Gateway::start_with(|config| config.catalog.locked = true).await;
    for (method, path, body) in [
        (Method::POST, "/admin/v1/models", {
            let mut body = mine();
            body.as_object_mut().unwrap().remove("stand_in");
            body
        }),
        (Method::PATCH, NOVA, json!({"name": "Ours"})),
        (Method::PUT, FAST, json!({"target": BUNDLED})),
    ] {
        gateway.call(method, path, &gateway.operator).json(body).send().await.refused(409, None);
    }
    let status = gateway.get("/admin/v1/catalog", &gateway.operator).await.expect(200);
    assert_eq!((&status["locked"], &status["api_entries"]), (&json!(true), &json!(0)));
    assert_eq!(gateway.logged("fast").await, []);
}

#[tokio::test]
async fn a_full_catalog_takes_no_entry_more() {
    let (gateway, _worker) = served().await;
    let body = format!(r#"{{"alias":{{"target":"{BUNDLED}"}}}}"#);
    let rows: Vec<CatalogRow> = (0..MAX_OVERRIDES)
        .map(|at| CatalogRow {
            id: format!("a.{at:04}"),
            kind: "alias".into(),
            body: body.clone(),
            version: 1,
            created_at: 1,
            updated_at: 1,
        })
        .collect();
    let work = gateway.store.transaction(move |tx| {
        Box::pin(async move {
            for row in &rows {
                tx.catalog_insert(row).await?;
            }
            Ok(())
        })
    });
    work.await.unwrap();
    for refused in [
        gateway.post("/admin/v1/models", &gateway.operator, mine()).await,
        gateway.patch(NOVA, &gateway.operator, json!({"name": "Ours"})).await,
        gateway.put(FAST, &gateway.operator, json!({"target": BUNDLED})).await,
    ] {
        refused.refused(409, None);
        assert!(refused.json()["detail"].as_str().unwrap().contains("2000"));
    }
    assert_eq!(gateway.delete("/admin/v1/model-aliases/a.0007", &gateway.operator).await.status, 204);
    gateway.post("/admin/v1/models", &gateway.operator, mine()).await.expect(201);
}
