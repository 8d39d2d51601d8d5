use super::*;
use crate::admin::testing::{Gateway, Key, Reply};
use crate::tenants::{Operation, Role};
use http::Method;
use serde_json::{Value, json};

fn tenants(tenant: &TenantId) -> String {
    format!("/admin/v1/tenants/{tenant}/limits")
}

fn projects(tenant: &TenantId, project: &str) -> String {
    format!("/admin/v1/tenants/{tenant}/projects/{project}/limits")
}

fn keys(tenant: &TenantId, key: &str) -> String {
    format!("/admin/v1/tenants/{tenant}/api-keys/{key}/limits")
}

fn access_keys(tenant: &TenantId, key: &str) -> String {
    format!("/admin/v1/tenants/{tenant}/access-keys/{key}/limits")
}

fn said(reply: &Reply) -> (u16, Value) {
    (reply.status.as_u16(), reply.json())
}

/// Limit, level and reason of one that is in force, and what was considered, as level and limit.
fn effective(view: &Value, limit: &str) -> (Value, Vec<(Value, Value)>) {
    let one = &view["effective"][limit];
    let considered = one["considered"].as_array().unwrap().iter();
    let considered = considered.map(|level| (level["level"].clone(), level["limit"].clone())).collect();
    (json!([one["limit"], one["level"], one["reason"]]), considered)
}

#[tokio::test]
async fn the_tightest_limit_wins_and_the_reply_says_which_and_why() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let set = async |path: String, token: &str, body: Value| gateway.put(&path, token, body).await.expect(200);
    let tenants = set(
        tenants(&acme.tenant),
        &gateway.operator,
        json!({"requests_per_minute": 60, "tokens_per_minute": 9000, "concurrent_requests": 5}),
    );
    let tenants = tenants.await;
    assert_eq!((&tenants["level"], &tenants["own"]["tokens_per_minute"]), (&json!("tenant"), &json!(9000)));
    let alone = |limit: u64| (json!([limit, "tenant", "only_limit"]), vec![(json!("tenant"), json!(limit))]);
    assert_eq!(effective(&tenants, "requests_per_minute"), alone(60));

    let project = set(
        projects(&acme.tenant, acme.project.as_str()),
        admin,
        json!({"requests_per_minute": 90, "concurrent_requests": 5}),
    );
    let project = project.await;
    let own = json!({"requests_per_minute": 90, "tokens_per_minute": null, "concurrent_requests": 5});
    assert_eq!(project["own"], own);
    let levels = |tenant: Value, project: Value| vec![(json!("tenant"), tenant), (json!("project"), project)];
    let tightest = (json!([60, "tenant", "tightest"]), levels(json!(60), json!(90)));
    assert_eq!(effective(&project, "requests_per_minute"), tightest);
    let equal = (json!([5, "project", "narrowest_of_equals"]), levels(json!(5), json!(5)));
    assert_eq!(effective(&project, "concurrent_requests"), equal);
    let only = (json!([9000, "tenant", "only_limit"]), levels(json!(9000), json!(null)));
    assert_eq!(effective(&project, "tokens_per_minute"), only);

    let path = keys(&acme.tenant, acme.developer.id.as_str());
    let key = set(path.clone(), admin, json!({"tokens_per_minute": 0})).await;
    let (limit, considered) = effective(&key, "tokens_per_minute");
    assert_eq!((limit, considered.len()), (json!([0, "key", "tightest"]), 3));
    assert_eq!(effective(&key, "requests_per_minute").0, json!([60, "tenant", "tightest"]));
    assert_eq!(gateway.get(&path, &acme.developer.text).await.expect(200), key);

    let nobodys = gateway.get(&projects(&gateway.rival.tenant, gateway.rival.project.as_str()), &gateway.viewer).await;
    assert_eq!(effective(&nobodys.expect(200), "tokens_per_minute").0, json!([null, null, "unlimited"]));
}

#[tokio::test]
async fn replacing_limits_replaces_all_of_them_and_is_logged_once() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let access = gateway.access_key().await;
    let paths = [
        (tenants(&acme.tenant), &gateway.operator, acme.tenant.as_str(), "tenant.limits"),
        (projects(&acme.tenant, acme.project.as_str()), admin, acme.project.as_str(), "project.limits"),
        (keys(&acme.tenant, acme.developer.id.as_str()), admin, acme.developer.id.as_str(), "api_key.limits"),
        (access_keys(&acme.tenant, access.as_str()), admin, access.as_str(), "access_key.limits"),
    ];
    for (path, token, target, action) in paths {
        let before = gateway.logged(target).await.len();
        let all =
            json!({"requests_per_minute": 1, "tokens_per_minute": 9_007_199_254_740_992_u64, "concurrent_requests": 3});
        let first = gateway.put(&path, token, all.clone()).await;
        assert_eq!((&first.expect(200)["own"], first.etag()), (&all, "\"2\""));
        assert_eq!(gateway.put(&path, token, all.clone()).await.etag(), "\"2\"", "as it is already");
        let call = |etag: &str| gateway.call(Method::PUT, &path, token).header("if-match", etag).json(json!({}));
        call("\"1\"").send().await.refused(412, None);
        let none = json!({"requests_per_minute": null, "tokens_per_minute": null, "concurrent_requests": null});
        let second = call("\"2\"").send().await;
        assert_eq!((&second.expect(200)["own"], second.etag()), (&none, "\"3\""));
        let read = gateway.get(&path, token).await;
        assert_eq!((read.expect(200), read.etag()), (second.json(), "\"3\""));

        let log = gateway.logged(target).await;
        let new: Vec<&str> = log[before..].iter().map(|(action, _)| action.as_str()).collect();
        assert_eq!(new, [action, action], "{path}");
        let record = &log[before].1;
        assert_eq!((&record["before"]["limits"], &record["after"]["limits"]), (&none, &all));
        for (field, value) in [
            ("requests_per_minute", json!(-1)),
            ("tokens_per_minute", json!(1.5)),
            ("concurrent_requests", json!(9_007_199_254_740_993_u64)),
            ("tokens_per_minute", json!("9")),
            ("tokens_per_hour", json!(1)),
        ] {
            gateway.put(&path, token, json!({ field: value })).await.refused(400, Some(field));
        }
    }
    let body = json!({"name": "x", "limits": {"concurrent_requests": u64::MAX}});
    gateway.post("/admin/v1/tenants", &gateway.operator, body).await.refused(400, Some("limits.concurrent_requests"));
}

#[tokio::test]
async fn only_operators_set_a_tenants_limits_and_only_its_administrators_the_rest() {
    let gateway = Gateway::start().await;
    let acme = &gateway.acme;
    let developers = keys(&acme.tenant, acme.developer.id.as_str());
    let lower = [projects(&acme.tenant, acme.project.as_str()), developers];
    let all = [&acme.owner, &acme.admin, &acme.developer, &acme.billing_viewer].map(|key: &Key| &key.text);
    for token in all.into_iter().chain([&gateway.viewer]) {
        gateway.put(&tenants(&acme.tenant), token, json!({})).await.refused(403, None);
        for path in lower.iter().chain([&tenants(&acme.tenant)]) {
            gateway.get(path, token).await.expect(200);
        }
    }
    for path in &lower {
        for token in [&gateway.operator, &acme.owner.text, &acme.admin.text] {
            gateway.put(path, token, json!({})).await.expect(200);
        }
        for token in [&gateway.viewer, &acme.developer.text, &acme.billing_viewer.text] {
            gateway.put(path, token, json!({})).await.refused(403, None);
        }
    }
    let owners = keys(&acme.tenant, acme.owner.id.as_str());
    gateway.put(&owners, &acme.admin.text, json!({"requests_per_minute": 0})).await.refused(403, Some("role"));
}

#[tokio::test]
async fn nobody_widens_the_key_in_use() {
    let gateway = Gateway::start().await;
    let acme = &gateway.acme;
    let path = keys(&acme.tenant, acme.admin.id.as_str());
    let set = async |token: &str, limits: Value| gateway.put(&path, token, limits).await;
    set(&acme.admin.text, json!({"tokens_per_minute": 9})).await.expect(200);
    set(&acme.admin.text, json!({"tokens_per_minute": 10})).await.refused(403, Some("tokens_per_minute"));
    set(&acme.admin.text, json!({})).await.refused(403, Some("tokens_per_minute"));
    set(&acme.admin.text, json!({"tokens_per_minute": 8, "requests_per_minute": 1})).await.expect(200);
    set(&acme.owner.text, json!({})).await.expect(200);
}

#[tokio::test]
async fn another_tenants_limits_are_as_unknown_as_those_that_never_were() {
    let gateway = Gateway::start().await;
    let (acme, rival) = (&gateway.acme, &gateway.rival);
    let (nowhere, no_project, no_key) = (TenantId::new(), ProjectId::new(), KeyId::new());
    let owner = &acme.owner.text;
    for method in [Method::GET, Method::PUT] {
        let call = async |path: String| said(&gateway.call(method.clone(), &path, owner).json(json!({})).send().await);
        assert_eq!(call(tenants(&rival.tenant)).await, call(tenants(&nowhere)).await);
        let unknown = call(projects(&acme.tenant, no_project.as_str())).await;
        assert_eq!(unknown.0, 404);
        assert_eq!(call(projects(&acme.tenant, rival.project.as_str())).await, unknown);
        let foreign = call(projects(&rival.tenant, rival.project.as_str())).await;
        assert_eq!(foreign, call(projects(&nowhere, no_project.as_str())).await);
        for of in [keys, access_keys] {
            let unknown = call(of(&acme.tenant, no_key.as_str())).await;
            assert_eq!(unknown.0, 404);
            assert_eq!(call(of(&acme.tenant, rival.developer.id.as_str())).await, unknown);
            let foreign = call(of(&rival.tenant, rival.developer.id.as_str())).await;
            assert_eq!(foreign, call(of(&nowhere, no_key.as_str())).await);
        }
    }
    assert_eq!(gateway.get(&tenants(&rival.tenant), &rival.owner.text).await.etag(), "\"1\"");
}

#[tokio::test]
async fn what_counts_here_is_shown_to_whoever_may_read_usage() {
    let gateway = Gateway::start().await;
    let acme = &gateway.acme;
    let path = projects(&acme.tenant, acme.project.as_str());
    gateway.put(&path, &acme.admin.text, json!({"requests_per_minute": 3})).await.expect(200);
    let here =
        |view: &Value, at: usize| view["effective"]["requests_per_minute"]["considered"][at]["on_this_replica"].clone();
    let view = gateway.get(&path, &acme.developer.text).await.expect(200);
    assert_eq!(here(&view, 0), json!({"used": 0, "remaining": null}));
    assert_eq!(here(&view, 1), json!({"used": 0, "remaining": 3}));
    let scope = tenants::Scope { operations: [Operation::Administer].into(), ..tenants::Scope::default() };
    let narrowed = gateway.acme_key(Role::TenantAdmin, &scope).await;
    assert_eq!(here(&gateway.get(&path, &narrowed.text).await.expect(200), 1), Value::Null);
}

#[test]
fn each_limit_shows_what_counts_against_it_at_each_level() {
    let (tenant, project) = (TenantId::new(), ProjectId::new());
    let limits = |requests, tokens, running| Limits {
        requests_per_minute: Some(requests),
        tokens_per_minute: Some(tokens),
        concurrent_requests: Some(running),
    };
    let limits = Hierarchy { tenant: limits(9, 100, 4), project: limits(5, 300, 1), key: Limits::default() };
    let chain =
        Chain { level: Level::Project, tenant: &tenant, project: Some(&project), key: None, limits, version: 1 };
    let usage = Usage {
        tenant: InUse { requests: 7, tokens: 80, held_tokens: 30, running: 3 },
        project: Some(InUse { requests: 6, tokens: 50, held_tokens: 20, running: 1 }),
        key: None,
    };
    let decision = quota::effective(&limits);
    let shown = |which, decision: &Decision| {
        let view = effective_limit(&chain, which, decision, Some(&usage));
        let of_level = |level: &LevelLimit| {
            let here = level.on_this_replica.as_ref().unwrap();
            (level.limit, here.used, here.remaining)
        };
        (view.limit, view.considered.iter().map(of_level).collect::<Vec<_>>())
    };
    let requests = shown(Limit::RequestsPerMinute, &decision.requests_per_minute);
    assert_eq!(requests, (Some(5), vec![(Some(9), 7, Some(2)), (Some(5), 6, Some(0))]), "never below nothing");
    let tokens = shown(Limit::TokensPerMinute, &decision.tokens_per_minute);
    assert_eq!(tokens, (Some(100), vec![(Some(100), 80, Some(20)), (Some(300), 50, Some(250))]));
    let running = shown(Limit::Concurrency, &decision.concurrent_requests);
    assert_eq!(running, (Some(1), vec![(Some(4), 3, Some(1)), (Some(1), 1, Some(0))]));
}
