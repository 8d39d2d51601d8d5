use crate::admin::testing::{Gateway, Reply, widest};
use crate::id::{ProjectId, ServiceAccountId, TenantId};
use crate::store::testing::give_to;
use crate::tenants::{Operation, Role, Scope};
use http::Method;
use serde_json::{Value, json};

fn of(tenant: &TenantId) -> String {
    format!("/admin/v1/tenants/{tenant}/service-accounts")
}

fn one(tenant: &TenantId, id: &str) -> String {
    format!("/admin/v1/tenants/{tenant}/service-accounts/{id}")
}

fn input(project: &ProjectId, name: &str) -> Value {
    json!({"name": name, "project_id": project})
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

fn said(reply: &Reply) -> (u16, Value) {
    (reply.status.as_u16(), reply.json())
}

fn names(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|account| account["name"].as_str().unwrap()).collect()
}

impl Gateway {
    /// A new one of acme's; its id.
    async fn account(&self, token: &str, body: Value) -> String {
        let made = self.post(&of(&self.acme.tenant), token, body).await.expect(201);
        made["id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_service_account_is_made_read_changed_and_deleted_and_each_change_is_logged() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let identity = json!({"issuer": "https://issuer.example", "subject": "repo:acme/shop"});
    let body = json!({
        "name": "ci", "project_id": acme.project, "role": "tenant_billing_viewer",
        "scope": {"operations": ["read_usage"], "ip_ranges": ["10.0.0.0/8"]},
        "federated_identity": identity, "expires_at": "2035-01-01T00:00:00Z",
    });
    let made = gateway.post(&of(&acme.tenant), admin, body.clone()).await;
    let view = made.expect(201);
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&view[field], value, "{field}");
    }
    let id = view["id"].as_str().unwrap();
    assert!(id.starts_with("sva_"));
    assert_eq!((&view["jwt_audience_suffix"], made.etag()), (&json!(id), "\"1\""));
    let path = one(&acme.tenant, id);
    let read = gateway.get(&path, admin).await;
    assert_eq!((read.expect(200), read.etag()), (view.clone(), "\"1\""));

    let changed = gateway.patch(&path, admin, json!({"role": "tenant_admin", "federated_identity": null})).await;
    let view = changed.expect(200);
    assert_eq!((&view["role"], changed.etag()), (&json!("tenant_admin"), "\"2\""));
    assert!(view.get("federated_identity").is_none() && view["expires_at"].is_string(), "{view}");
    let changed =
        gateway.patch(&path, admin, json!({"expires_at": null, "scope": {"operations": ["inference"]}})).await;
    let view = changed.expect(200);
    assert_eq!(view["scope"], json!({"operations": ["inference"]}));
    assert!(view.get("expires_at").is_none(), "{view}");
    for body in [json!({}), json!({"role": "tenant_admin"}), json!({"expires_at": null})] {
        assert_eq!(gateway.patch(&path, admin, body).await.etag(), "\"3\"", "as it is already");
    }

    gateway.delete(&path, admin).await.expect(204);
    gateway.get(&path, admin).await.refused(404, None);
    gateway.delete(&path, admin).await.refused(404, None);
    let log = gateway.logged(id).await;
    let actions: Vec<&str> = log.iter().map(|(action, _)| action.as_str()).collect();
    let [create, update, delete] = ["create", "update", "delete"].map(|what| format!("service_account.{what}"));
    assert_eq!(actions, [&create, &update, &update, &delete]);
    let record = &log[1].1;
    assert_eq!(
        (&record["before"]["role"], &record["after"]["role"]),
        (&json!("tenant_billing_viewer"), &json!("tenant_admin"))
    );
    assert_eq!(record["before"]["federated_identity"], identity);
}

#[tokio::test]
async fn what_is_left_out_means_a_developer_that_uses_models() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let view = gateway.post(&of(&acme.tenant), admin, input(&acme.project, "ci")).await.expect(201);
    assert_eq!((&view["role"], &view["scope"]), (&json!("tenant_developer"), &json!(Scope::default())));
}

#[tokio::test]
async fn keys_of_a_deleted_service_account_are_refused() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let id = gateway.account(admin, input(&acme.project, "ci")).await;
    let key = gateway.acme_key(Role::TenantDeveloper, &widest()).await;
    give_to(&gateway.store, &key.id, &ServiceAccountId::parse(&id).unwrap()).await;
    let ask = || gateway.data_call(Method::GET, "/v1/models", &key.text).send();
    assert_eq!(ask().await.status, 200);
    // The key's own scope includes it, the account's does not.
    gateway.get(&of(&acme.tenant), &key.text).await.refused(403, None);
    gateway.delete(&one(&acme.tenant, &id), admin).await.expect(204);
    assert_eq!(ask().await.status, 401);
    gateway.get(&of(&acme.tenant), &key.text).await.refused(401, None);
}

#[tokio::test]
async fn nobody_makes_or_touches_what_is_mightier_than_they_are() {
    let gateway = Gateway::start().await;
    let acme = &gateway.acme;
    let (owner, admin) = (&acme.owner.text, &acme.admin.text);
    let list = of(&acme.tenant);
    let owners = with(input(&acme.project, "owners"), "role", json!("tenant_owner"));
    gateway.post(&list, admin, owners.clone()).await.refused(403, Some("role"));
    let owners = one(&acme.tenant, &gateway.account(owner, owners).await);
    let mine = one(&acme.tenant, &gateway.account(admin, input(&acme.project, "mine")).await);
    for body in [json!({}), json!({"name": "x"}), json!({"role": "tenant_developer"})] {
        gateway.patch(&owners, admin, body).await.refused(403, Some("role"));
    }
    gateway.delete(&owners, admin).await.refused(403, Some("role"));
    gateway.patch(&mine, admin, json!({"role": "tenant_owner"})).await.refused(403, Some("role"));
    gateway.get(&owners, admin).await.expect(200);
    for token in [owner, &gateway.operator] {
        gateway.patch(&mine, token, json!({"role": "tenant_owner"})).await.expect(200);
        gateway.patch(&mine, token, json!({"role": "tenant_developer"})).await.expect(200);
    }
    for token in [&gateway.operator, owner] {
        let body = with(input(&acme.project, "platform"), "role", json!("platform_admin"));
        gateway.post(&list, token, body).await.refused(400, Some("role"));
        gateway.patch(&mine, token, json!({"role": "platform_viewer"})).await.refused(400, Some("role"));
    }
    assert_eq!(gateway.get(&mine, admin).await.expect(200)["role"], "tenant_developer");
}

#[tokio::test]
async fn a_scope_stays_within_its_makers_unless_an_operator_made_it() {
    let gateway = Gateway::start().await;
    let acme = &gateway.acme;
    let narrow = Scope {
        models: Some(vec!["amazon.*".into()]),
        ..Scope { operations: [Operation::Administer, Operation::Inference].into(), ..Scope::default() }
    };
    let narrow = gateway.acme_key(Role::TenantOwner, &narrow).await.text;
    let list = of(&acme.tenant);
    let scoped = |name: &str, scope: Value| with(input(&acme.project, name), "scope", scope);
    let within = json!({"operations": ["inference"], "models": ["amazon.nova-*"]});
    let wider = [
        (json!({"operations": ["read_usage"], "models": ["amazon.*"]}), "scope.operations"),
        (json!({"operations": ["inference"]}), "scope.models"),
        (json!({"operations": ["inference"], "models": ["*"]}), "scope.models"),
    ];
    let mine = one(&acme.tenant, &gateway.account(&narrow, scoped("mine", within.clone())).await);
    for (scope, field) in &wider {
        gateway.post(&list, &narrow, scoped("x", scope.clone())).await.refused(403, Some(field));
        gateway.patch(&mine, &narrow, json!({"scope": scope})).await.refused(403, Some(field));
        let made = gateway.account(&gateway.operator, scoped(field, scope.clone())).await;
        let theirs = one(&acme.tenant, &made);
        gateway.patch(&theirs, &narrow, json!({"scope": within})).await.refused(403, Some(field));
        // To take away from it, or all of it, is another matter.
        gateway.patch(&theirs, &narrow, json!({"expires_at": "2035-01-01T00:00:00Z"})).await.expect(200);
        gateway.patch(&theirs, &narrow, json!({"expires_at": null})).await.refused(403, Some(field));
        gateway.delete(&theirs, &narrow).await.expect(204);
    }
    assert_eq!(gateway.get(&mine, &narrow).await.expect(200)["scope"], within);
}

#[tokio::test]
async fn roles_decide_who_reads_and_who_writes() {
    let gateway = Gateway::start().await;
    let acme = &gateway.acme;
    let list = of(&acme.tenant);
    let path = one(&acme.tenant, &gateway.account(&acme.owner.text, input(&acme.project, "a")).await);
    for (at, token) in [&gateway.operator, &acme.owner.text, &acme.admin.text].into_iter().enumerate() {
        gateway.get(&list, token).await.expect(200);
        let made = one(&acme.tenant, &gateway.account(token, input(&acme.project, &format!("m{at}"))).await);
        gateway.patch(&made, token, json!({"name": format!("n{at}")})).await.expect(200);
        gateway.delete(&made, token).await.expect(204);
    }
    for (token, reads) in [(&gateway.viewer, 200), (&acme.developer.text, 200), (&acme.billing_viewer.text, 403)] {
        gateway.get(&list, token).await.expect(reads);
        gateway.get(&path, token).await.expect(reads);
        gateway.post(&list, token, input(&acme.project, "x")).await.refused(403, None);
        gateway.patch(&path, token, json!({"name": "x"})).await.refused(403, None);
        gateway.delete(&path, token).await.refused(403, None);
    }
    assert_eq!(gateway.get(&path, &acme.owner.text).await.etag(), "\"1\"");
}

#[tokio::test]
async fn another_tenants_things_are_as_unknown_as_those_that_never_were() {
    let gateway = Gateway::start().await;
    let (acme, rival) = (&gateway.acme, &gateway.rival);
    let owner = &acme.owner.text;
    let theirs = gateway.post(&of(&rival.tenant), &rival.owner.text, input(&rival.project, "theirs")).await.expect(201);
    let theirs = theirs["id"].as_str().unwrap();
    let (nowhere, nothing, no_project) = (TenantId::new(), ServiceAccountId::new(), ProjectId::new());
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        let call = async |tenant: &TenantId, id: &str| {
            said(&gateway.call(method.clone(), &one(tenant, id), owner).json(json!({"name": "x"})).send().await)
        };
        let unknown = call(&acme.tenant, nothing.as_str()).await;
        assert_eq!(unknown.0, 404);
        assert_eq!(call(&acme.tenant, theirs).await, unknown, "in our path");
        assert_eq!(call(&acme.tenant, "sva_").await, unknown);
        assert_eq!(call(&rival.tenant, theirs).await, call(&nowhere, nothing.as_str()).await, "in its path");
    }
    let list = of(&acme.tenant);
    let create = async |project: &ProjectId| said(&gateway.post(&list, owner, input(project, "x")).await);
    let unknown = create(&no_project).await;
    assert_eq!((unknown.0, &unknown.1["param"]), (404, &json!("project_id")));
    assert_eq!(create(&rival.project).await, unknown, "in the body");
    let filter = async |project: &ProjectId| said(&gateway.get(&format!("{list}?project_id={project}"), owner).await);
    assert_eq!(filter(&rival.project).await, filter(&no_project).await, "in the query");
    let after = async |id: &str| said(&gateway.get(&format!("{list}?after={id}"), owner).await);
    assert_eq!(after(theirs).await, after(nothing.as_str()).await, "in the query");
    let untouched = gateway.get(&one(&rival.tenant, theirs), &rival.owner.text).await;
    assert_eq!((&untouched.expect(200)["name"], untouched.etag()), (&json!("theirs"), "\"1\""));
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_named() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let list = of(&acme.tenant);
    let path = one(&acme.tenant, &gateway.account(admin, input(&acme.project, "a")).await);
    let identity = |issuer: &str, subject: &str| json!({"issuer": issuer, "subject": subject});
    let wrong = [
        ("nme", json!(1), "nme"),
        ("name", json!(""), "name"),
        ("role", json!("root"), "role"),
        ("scope", json!({"operations": ["fly"]}), "scope.operations[0]"),
        ("scope", json!({"operations": [], "model": []}), "scope.model"),
        ("scope", json!({"operations": [], "models": ["a b"]}), "scope.models"),
        ("scope", json!({}), "scope.operations"),
        ("expires_at", json!("soon"), "expires_at"),
        ("expires_at", json!("2001-01-01T00:00:00Z"), "expires_at"),
        ("expires_at", json!("2099-01-01T00:00:00Z"), "expires_at"),
        ("federated_identity", identity("", "s"), "federated_identity.issuer"),
        ("federated_identity", identity("i", " s"), "federated_identity.subject"),
        ("federated_identity", identity("i", &"s".repeat(257)), "federated_identity.subject"),
        ("federated_identity", json!({"issuer": "i"}), "federated_identity.subject"),
        ("federated_identity", json!({"issuer": "i", "subject": "s", "aud": "a"}), "federated_identity.aud"),
    ];
    for (field, value, param) in wrong {
        let body = with(input(&acme.project, "x"), field, value.clone());
        gateway.post(&list, admin, body).await.refused(400, Some(param));
        gateway.patch(&path, admin, with(json!({}), field, value)).await.refused(400, Some(param));
    }
    gateway.post(&list, admin, json!({"name": "x"})).await.refused(400, Some("project_id"));
    gateway.post(&list, admin, json!({"name": "x", "project_id": "p"})).await.refused(400, Some("project_id"));
    gateway.post(&list, admin, input(&acme.project, "a")).await.refused(409, Some("name"));
    gateway.patch(&path, admin, json!({"project_id": acme.project})).await.refused(400, Some("project_id"));
    for (query, param) in
        [("limit=0", "limit"), ("after=prj_1", "after"), ("project_id=x", "project_id"), ("role=x", "role")]
    {
        gateway.get(&format!("{list}?{query}"), admin).await.refused(400, Some(param));
    }
    assert_eq!(gateway.get(&path, admin).await.etag(), "\"1\"");
}

#[tokio::test]
async fn a_list_is_walked_page_by_page_and_filtered() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let list = of(&acme.tenant);
    let projects = format!("/admin/v1/tenants/{}/projects", acme.tenant);
    let second = gateway.post(&projects, admin, json!({"name": "second"})).await.expect(201)["id"].clone();
    for name in ["c", "a", "b"] {
        gateway.account(admin, input(&acme.project, name)).await;
    }
    gateway.account(admin, json!({"name": "a", "project_id": second})).await;
    let first = gateway.get(&format!("{list}?limit=3"), admin).await.expect(200);
    assert_eq!((names(&first), &first["has_more"]), (vec!["c", "a", "b"], &json!(true)));
    let rest = gateway.get(&format!("{list}?limit=3&after={}", first["next_after"].as_str().unwrap()), admin).await;
    assert_eq!((names(&rest.expect(200)), &rest.json()["has_more"]), (vec!["a"], &json!(false)));
    let second = second.as_str().unwrap();
    assert_eq!(names(&gateway.get(&format!("{list}?project_id={second}"), admin).await.expect(200)), ["a"]);
    assert_eq!(names(&gateway.get(&format!("{list}?name=a"), admin).await.expect(200)), ["a", "a"]);
    gateway.delete(&format!("{projects}/{second}"), admin).await.expect(204);
    assert_eq!(names(&gateway.get(&format!("{list}?name=a"), admin).await.expect(200)), ["a"], "gone with its project");
}

#[tokio::test]
async fn if_match_and_idempotency_key_hold() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let list = of(&acme.tenant);
    let create = async |key: &str, name: &str| {
        let call = gateway.call(Method::POST, &list, admin).header("idempotency-key", key);
        call.json(input(&acme.project, name)).send().await
    };
    let at_once = futures::future::join_all((0..6).map(|_| create("k", "once"))).await;
    let view = at_once[0].expect(201);
    assert!(at_once.iter().all(|reply| reply.expect(201) == view && reply.etag() == "\"1\""));
    assert_eq!(at_once.iter().filter(|reply| !reply.headers.contains_key("idempotent-replayed")).count(), 1);
    create("k", "other").await.refused(422, None);
    assert_eq!(names(&gateway.get(&list, admin).await.expect(200)), ["once"]);

    let path = one(&acme.tenant, view["id"].as_str().unwrap());
    let change = async |method: Method, etag: &str| {
        gateway.call(method, &path, admin).header("if-match", etag).json(json!({"name": "renamed"})).send().await
    };
    change(Method::PATCH, "\"2\"").await.refused(412, None);
    change(Method::DELETE, "\"2\"").await.refused(412, None);
    change(Method::PATCH, "\"1\"").await.expect(200);
    change(Method::DELETE, "\"1\"").await.refused(412, None);
    change(Method::DELETE, "\"2\"").await.expect(204);
}

#[tokio::test]
async fn nobody_ends_a_mightier_key_by_deleting_its_service_account() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let owners = gateway.acme_key(Role::TenantOwner, &widest()).await.id;
    let developers = gateway.access_key().await;
    for (key, ends) in [(owners, false), (developers, true)] {
        let id = gateway.account(admin, input(&acme.project, key.as_str())).await;
        give_to(&gateway.store, &key, &ServiceAccountId::parse(&id).unwrap()).await;
        let path = one(&acme.tenant, &id);
        if !ends {
            gateway.delete(&path, admin).await.refused(403, Some("role"));
            gateway.get(&path, admin).await.expect(200);
        }
        gateway.delete(&path, if ends { admin } else { &acme.owner.text }).await.expect(204);
    }
}

#[tokio::test]
async fn a_service_accounts_own_key_does_not_put_off_the_accounts_end() {
    let gateway = Gateway::start().await;
    let (acme, owner) = (&gateway.acme, &gateway.acme.owner.text);
    let body = |name: &str| {
        json!({"name": name, "project_id": acme.project, "role": "tenant_admin", "scope": widest(),
            "expires_at": "2030-01-01T00:00:00Z"})
    };
    let (own, other) = (gateway.account(owner, body("own")).await, gateway.account(owner, body("other")).await);
    let keys = format!("/admin/v1/tenants/{}/api-keys", acme.tenant);
    let key = gateway.post(&keys, owner, json!({"name": "k", "service_account_id": own})).await.expect(201);
    let key = key["secret"].as_str().unwrap();
    let (own, other) = (one(&acme.tenant, &own), one(&acme.tenant, &other));
    for later in [Value::Null, json!("2030-01-01T00:00:01Z")] {
        gateway.patch(&own, key, json!({"expires_at": later})).await.refused(403, Some("expires_at"));
        gateway.patch(&own, key, json!({"name": "x", "expires_at": later})).await.refused(403, Some("expires_at"));
        gateway.patch(&other, key, json!({"expires_at": later})).await.expect(200);
    }
    assert_eq!(gateway.get(&own, owner).await.etag(), "\"1\"");
    gateway.patch(&own, key, json!({"expires_at": "2029-01-01T00:00:00Z"})).await.expect(200);
    gateway.patch(&own, owner, json!({"expires_at": null})).await.expect(200);
}
