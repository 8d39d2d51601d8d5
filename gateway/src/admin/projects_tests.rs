use crate::admin::testing::{Gateway, Reply};
use crate::id::{ProjectId, TenantId};
use http::Method;
use serde_json::{Value, json};

fn of(tenant: &TenantId) -> String {
    format!("/admin/v1/tenants/{tenant}/projects")
}

fn one(tenant: &TenantId, project: &str) -> String {
    format!("/admin/v1/tenants/{tenant}/projects/{project}")
}

fn names(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|project| project["name"].as_str().unwrap()).collect()
}

/// A refusal as its caller sees it, without what differs from call to call.
fn said(reply: &Reply) -> (u16, Value) {
    (reply.status.as_u16(), reply.json())
}

#[tokio::test]
async fn a_project_is_made_read_renamed_and_deleted_and_each_change_is_logged() {
    let gateway = Gateway::start().await;
    let (tenant, admin) = (&gateway.acme.tenant, &gateway.acme.admin.text);
    let made = gateway.post(&of(tenant), admin, json!({"name": " checkout "})).await;
    let view = made.expect(201);
    assert_eq!((&view["name"], &view["tenant_id"]), (&json!("checkout"), &json!(tenant)));
    assert_eq!(made.etag(), "\"1\"");
    let id = view["id"].as_str().unwrap();
    let path = one(tenant, id);
    let read = gateway.get(&path, admin).await;
    assert_eq!((read.expect(200), read.etag()), (view.clone(), "\"1\""));

    let renamed = gateway.patch(&path, admin, json!({"name": "shop"})).await;
    assert_eq!((&renamed.expect(200)["name"], renamed.etag()), (&json!("shop"), "\"2\""));
    assert_eq!(gateway.delete(&path, admin).await.expect(204), Value::Null);
    let gone = gateway.get(&path, admin).await.expect(200);
    assert!(gone["deleted_at"].is_string());
    gateway.delete(&path, admin).await.refused(404, None);
    gateway.patch(&path, admin, json!({"name": "again"})).await.refused(404, None);

    let log = gateway.logged(id).await;
    let actions: Vec<&str> = log.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(actions, ["project.create", "project.update", "project.delete"]);
    let record = &log[1].1;
    assert_eq!((&record["before"]["name"], &record["after"]["name"]), (&json!("checkout"), &json!("shop")));
    assert_eq!((&record["tenant_id"], &record["author"]["id"]), (&json!(tenant), &json!(gateway.acme.admin.id)));
}

#[tokio::test]
async fn a_deleted_projects_keys_are_refused_and_the_last_project_can_be_deleted() {
    let gateway = Gateway::start().await;
    let (acme, operator) = (&gateway.acme, &gateway.operator);
    gateway.get(&of(&acme.tenant), &acme.developer.text).await.expect(200);
    gateway.delete(&one(&acme.tenant, acme.project.as_str()), &acme.owner.text).await.expect(204);
    for key in [&acme.owner, &acme.developer] {
        gateway.get(&of(&acme.tenant), &key.text).await.refused(401, None);
        assert_eq!(gateway.data_call(Method::GET, "/v1/models", &key.text).send().await.status, 401);
    }
    assert!(names(&gateway.get(&of(&acme.tenant), operator).await.expect(200)).is_empty());
    gateway.get(&of(&gateway.rival.tenant), &gateway.rival.developer.text).await.expect(200);
}

#[tokio::test]
async fn roles_decide_who_reads_and_who_writes() {
    let gateway = Gateway::start().await;
    let acme = &gateway.acme;
    let (list, path) = (of(&acme.tenant), one(&acme.tenant, acme.project.as_str()));
    let writers = [&gateway.operator, &acme.owner.text, &acme.admin.text];
    let readers = [&gateway.viewer, &acme.developer.text, &acme.billing_viewer.text];
    for (at, token) in writers.into_iter().enumerate() {
        gateway.get(&path, token).await.expect(200);
        let made = gateway.post(&list, token, json!({"name": format!("p{at}")})).await.expect(201);
        let made = one(&acme.tenant, made["id"].as_str().unwrap());
        gateway.patch(&made, token, json!({"name": format!("q{at}")})).await.expect(200);
        gateway.delete(&made, token).await.expect(204);
    }
    for token in readers {
        gateway.get(&list, token).await.expect(200);
        gateway.get(&path, token).await.expect(200);
        gateway.post(&list, token, json!({"name": "x"})).await.refused(403, None);
        gateway.patch(&path, token, json!({"name": "x"})).await.refused(403, None);
        gateway.delete(&path, token).await.refused(403, None);
    }
    gateway.get(&list, "ck_wrong").await.refused(401, None);
    let narrowed = gateway.acme_key(crate::tenants::Role::TenantOwner, &crate::tenants::Scope::default()).await;
    gateway.get(&list, &narrowed.text).await.refused(403, None);
}

#[tokio::test]
async fn another_tenants_projects_are_as_unknown_as_those_that_never_were() {
    let gateway = Gateway::start().await;
    let (acme, rival) = (&gateway.acme, &gateway.rival);
    let (nowhere, nothing) = (TenantId::new(), ProjectId::new());
    let owner = &acme.owner.text;
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        let call = async |tenant: &TenantId, project: &str| {
            let call = gateway.call(method.clone(), &one(tenant, project), owner).json(json!({"name": "x"}));
            said(&call.send().await)
        };
        let unknown = call(&acme.tenant, nothing.as_str()).await;
        assert_eq!(unknown.0, 404);
        assert_eq!(call(&acme.tenant, rival.project.as_str()).await, unknown, "its project under our tenant");
        assert_eq!(call(&acme.tenant, "no-id").await, unknown);
        let unknown = call(&nowhere, nothing.as_str()).await;
        assert_eq!(call(&rival.tenant, rival.project.as_str()).await, unknown, "its tenant");
        assert_eq!(call(&rival.tenant, acme.project.as_str()).await, unknown, "our project under its tenant");
    }
    for method in [Method::GET, Method::POST] {
        let call = async |tenant: &TenantId| {
            let call = gateway.call(method.clone(), &of(tenant), owner).json(json!({"name": "x"}));
            said(&call.send().await)
        };
        assert_eq!(call(&rival.tenant).await, call(&nowhere).await);
    }
    // As a place in the list it is a place and nothing more.
    let after = async |id: &str| said(&gateway.get(&format!("{}?after={id}", of(&acme.tenant)), owner).await);
    assert_eq!(after(rival.project.as_str()).await, after(nothing.as_str()).await);
    let untouched = gateway.get(&one(&rival.tenant, rival.project.as_str()), &rival.owner.text).await;
    assert_eq!((&untouched.expect(200)["name"], untouched.etag()), (&json!("rival"), "\"1\""));
}

#[tokio::test]
async fn a_change_of_what_was_changed_meanwhile_is_refused_and_changes_nothing() {
    let gateway = Gateway::start().await;
    let (acme, owner) = (&gateway.acme, &gateway.acme.owner.text);
    let path = one(&acme.tenant, acme.project.as_str());
    let change = async |method: Method, etag: &str, name: &str| {
        gateway.call(method, &path, owner).header("if-match", etag).json(json!({"name": name})).send().await
    };
    change(Method::PATCH, "\"1\"", "a").await.expect(200);
    change(Method::PATCH, "\"1\"", "b").await.refused(412, None);
    change(Method::DELETE, "\"1\"", "").await.refused(412, None);
    change(Method::PATCH, "W/\"2\"", "b").await.refused(412, None);
    assert_eq!(gateway.get(&path, owner).await.expect(200)["name"], "a");
    assert_eq!(change(Method::PATCH, "*", "c").await.etag(), "\"3\"");
    change(Method::DELETE, "\"3\"", "").await.expect(204);
}

#[tokio::test]
async fn a_patch_that_changes_nothing_keeps_the_etag_and_logs_nothing() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let path = one(&acme.tenant, acme.project.as_str());
    for body in [json!({}), json!({"name": null}), json!({"name": "acme"})] {
        let reply = gateway.patch(&path, admin, body).await;
        assert_eq!((&reply.expect(200)["name"], reply.etag()), (&json!("acme"), "\"1\""));
    }
    assert_eq!(gateway.logged(acme.project.as_str()).await.len(), 1, "its creation");
    let tenant = format!("/admin/v1/tenants/{}", acme.tenant);
    assert_eq!(gateway.patch(&tenant, &gateway.operator, json!({})).await.etag(), "\"1\"");
    assert_eq!(gateway.logged(acme.tenant.as_str()).await.len(), 1, "its creation");
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_named() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let (list, path) = (of(&acme.tenant), one(&acme.tenant, acme.project.as_str()));
    let bodies = [
        (json!({"name": "x", "nme": 1}), "nme"),
        (json!({"name": 1}), "name"),
        (json!({"name": " "}), "name"),
        (json!({"name": "é".repeat(65)}), "name"),
    ];
    for (body, param) in bodies {
        gateway.post(&list, admin, body.clone()).await.refused(400, Some(param));
        gateway.patch(&path, admin, body).await.refused(400, Some(param));
    }
    gateway.post(&list, admin, json!({})).await.refused(400, Some("name"));
    gateway.post(&list, admin, json!({"name": "acme"})).await.refused(409, Some("name"));
    let queries = [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("after=x", "after"),
        ("after=ten_1", "after"),
        ("with_deleted=yes", "with_deleted"),
        ("deleted=true", "deleted"),
    ];
    for (query, param) in queries {
        gateway.get(&format!("{list}?{query}"), admin).await.refused(400, Some(param));
    }
}

#[tokio::test]
async fn a_list_is_walked_page_by_page_and_filtered() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let list = of(&acme.tenant);
    let mut made = Vec::new();
    for name in ["b", "a", "d", "c"] {
        let view = gateway.post(&list, admin, json!({"name": name})).await.expect(201);
        made.push(view["id"].as_str().unwrap().to_owned());
    }
    gateway.delete(&one(&acme.tenant, &made[1]), admin).await.expect(204);
    let walk = async |query: &str| {
        let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = gateway.get(&format!("{list}?limit=2{query}{after}"), admin).await.expect(200);
            seen.extend(names(&page).into_iter().map(str::to_owned));
            pages += 1;
            if page["has_more"] == false {
                assert_eq!(page["next_after"], Value::Null);
                return (seen, pages);
            }
            after = format!("&after={}", page["next_after"].as_str().unwrap());
        }
    };
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(walk("").await, (owned(&["acme", "b", "d", "c"]), 2));
    assert_eq!(walk("&with_deleted=true").await, (owned(&["acme", "b", "a", "d", "c"]), 3));
    assert_eq!(walk("&name=d").await, (owned(&["d"]), 1));
    assert_eq!(walk("&name=a").await, (vec![], 1));
}

#[tokio::test]
async fn a_creation_with_an_idempotency_key_happens_once() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let list = of(&acme.tenant);
    let create = async |key: &str, name: &str| {
        gateway.call(Method::POST, &list, admin).header("idempotency-key", key).json(json!({"name": name})).send().await
    };
    let first = create("k1", "once").await;
    let again = create("k1", "once").await;
    assert_eq!((first.expect(201), &first.body, first.etag()), (again.expect(201), &again.body, again.etag()));
    assert!(!first.headers.contains_key("idempotent-replayed"));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    create("k1", "other").await.refused(422, None);
    create("k2", "once").await.refused(409, Some("name"));

    let at_once = futures::future::join_all((0..8).map(|_| create("k3", "parallel"))).await;
    let first = at_once[0].expect(201);
    assert!(at_once.iter().all(|reply| reply.expect(201) == first));
    assert_eq!(at_once.iter().filter(|reply| !reply.headers.contains_key("idempotent-replayed")).count(), 1);
    let listed = gateway.get(&list, admin).await.expect(200);
    assert_eq!(names(&listed), ["acme", "once", "parallel"]);
}

#[tokio::test]
async fn nobody_ends_a_mightier_credential_by_deleting_its_project() {
    let gateway = Gateway::start().await;
    let (acme, admin, owner) = (&gateway.acme, &gateway.acme.admin.text, &gateway.acme.owner.text);
    for collection in ["api-keys", "access-keys", "service-accounts"] {
        let made = gateway.post(&of(&acme.tenant), admin, json!({"name": collection})).await.expect(201);
        let path = one(&acme.tenant, made["id"].as_str().unwrap());
        let all = format!("/admin/v1/tenants/{}/{collection}", acme.tenant);
        let make = async |role: &str| {
            let body = json!({"name": role, "project_id": made["id"], "role": role});
            let made = gateway.post(&all, owner, body).await.expect(201);
            format!("{all}/{}", made["id"].as_str().unwrap())
        };
        let (_, owners) = (make("tenant_admin").await, make("tenant_owner").await);
        let refused = gateway.delete(&path, admin).await;
        refused.refused(403, Some("role"));
        assert!(refused.json()["detail"].as_str().unwrap().contains("tenant_owner"), "{}", refused.json());
        let kept = gateway.get(&path, admin).await;
        assert_eq!((kept.etag(), kept.expect(200).get("deleted_at")), ("\"1\"", None));
        // What has ended already holds nobody up.
        gateway.delete(&owners, owner).await.expect(204);
        gateway.delete(&path, admin).await.expect(204);
    }
    gateway.delete(&one(&acme.tenant, acme.project.as_str()), admin).await.refused(403, Some("role"));
    gateway.get(&of(&acme.tenant), owner).await.expect(200);
    gateway.delete(&one(&acme.tenant, acme.project.as_str()), owner).await.expect(204);
}
