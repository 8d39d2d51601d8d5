use crate::admin::testing::{Gateway, Reply};
use crate::id::{ProjectId, TenantId};
use http::Method;
use serde_json::{Value, json};

const LITE: &str = "amazon.nova-lite-v1:0";

fn tenants(tenant: &TenantId) -> String {
    format!("/admin/v1/tenants/{tenant}/model-access")
}

fn projects(tenant: &TenantId, project: &str) -> String {
    format!("/admin/v1/tenants/{tenant}/projects/{project}/model-access")
}

fn said(reply: &Reply) -> (u16, Value) {
    (reply.status.as_u16(), reply.json())
}

#[tokio::test]
async fn every_level_must_allow_a_model_and_the_reply_says_which_denies_it() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let (tenants, projects) = (tenants(&acme.tenant), projects(&acme.tenant, acme.project.as_str()));
    let first = gateway.get(&projects, admin).await.expect(200);
    let all = json!([{"level": "tenant", "models": null}, {"level": "project", "models": null}]);
    assert_eq!((&first["own"], &first["effective"]), (&json!({"models": null}), &all));
    assert!(first.get("verdict").is_none());

    gateway.put(&tenants, &gateway.operator, json!({"models": ["amazon.*", "x"]})).await.expect(200);
    let set = gateway.put(&projects, admin, json!({"models": ["amazon.nova-micro*"]})).await;
    let view = set.expect(200);
    assert_eq!(
        (&view["level"], &view["own"], set.etag()),
        (&json!("project"), &json!({"models": ["amazon.nova-micro*"]}), "\"2\"")
    );
    assert_eq!(view["effective"][0], json!({"level": "tenant", "models": ["amazon.*", "x"]}));
    assert_eq!(gateway.get(&projects, &acme.developer.text).await.expect(200), view);

    let ask = async |path: &str, model: &str| gateway.get(&format!("{path}?model={model}"), admin).await.expect(200);
    let verdict = &ask(&projects, LITE).await["verdict"];
    assert_eq!((&verdict["model"], &verdict["permitted"]), (&json!(LITE), &json!(false)));
    let level = |level: &str, permitted: bool, reason: &str, pattern: Option<&str>| json!({"level": level, "permitted": permitted, "reason": reason, "pattern": pattern});
    let expected = [level("tenant", true, "included", Some("amazon.*")), level("project", false, "not_included", None)];
    assert_eq!(verdict["levels"], json!(expected));
    // A regional profile is asked for as its base model.
    let verdict = &ask(&tenants, &format!("us.{LITE}")).await["verdict"];
    assert_eq!((&verdict["model"], &verdict["permitted"]), (&json!(LITE), &json!(true)));
    assert_eq!(verdict["levels"].as_array().unwrap().len(), 1);
    assert_eq!(ask(&projects, "amazon.nova-micro-v1:0").await["verdict"]["permitted"], true);
    gateway.get(&format!("{projects}?model=no-such-model"), admin).await.refused(400, Some("model"));
    gateway.get(&format!("{projects}?modle=x"), admin).await.refused(400, Some("modle"));

    gateway.put(&projects, admin, json!({"models": []})).await.expect(200);
    assert_eq!(ask(&projects, LITE).await["verdict"]["levels"][1], level("project", false, "nothing_allowed", None));
}

#[tokio::test]
async fn replacing_a_list_is_versioned_and_logged_and_opening_everything_takes_a_word() {
    let gateway = Gateway::start().await;
    let (acme, admin) = (&gateway.acme, &gateway.acme.admin.text);
    let paths = [
        (tenants(&acme.tenant), &gateway.operator, acme.tenant.as_str(), "tenant.model_access"),
        (projects(&acme.tenant, acme.project.as_str()), admin, acme.project.as_str(), "project.model_access"),
    ];
    for (path, token, target, action) in paths {
        let list = json!({"models": ["amazon.*"]});
        gateway.put(&path, token, list.clone()).await.expect(200);
        assert_eq!(gateway.put(&path, token, list).await.etag(), "\"2\"", "as it is already");
        for (body, param) in [
            (json!({}), "models"),
            (json!({"models": "amazon.*"}), "models"),
            (json!({"models": ["amazon.*", "a b"]}), "models[1]"),
            (json!({"models": ["us.amazon.nova-lite-v1:0"]}), "models[0]"),
            (json!({"models": vec!["x"; 65]}), "models"),
            (json!({"models": null, "model": []}), "model"),
        ] {
            gateway.put(&path, token, body).await.refused(400, Some(param));
        }
        let open = |etag: &str| {
            gateway.call(Method::PUT, &path, token).header("if-match", etag).json(json!({"models": null})).send()
        };
        open("\"1\"").await.refused(412, None);
        assert_eq!(open("\"2\"").await.expect(200)["own"], json!({"models": null}));
        let log = gateway.logged(target).await;
        let new: Vec<&str> = log.iter().skip(1).map(|(action, _)| action.as_str()).collect();
        assert_eq!(new, [action, action]);
        let record = &log[2].1;
        assert_eq!(
            (&record["before"]["model_access"], &record["after"]["model_access"]),
            (&json!(["amazon.*"]), &Value::Null)
        );
    }
}

#[tokio::test]
async fn only_operators_set_a_tenants_list_and_only_its_administrators_a_projects() {
    let gateway = Gateway::start().await;
    let acme = &gateway.acme;
    let (tenants, projects) = (tenants(&acme.tenant), projects(&acme.tenant, acme.project.as_str()));
    let list = || json!({"models": ["amazon.*"]});
    for key in [&acme.owner, &acme.admin, &acme.developer, &acme.billing_viewer] {
        gateway.put(&tenants, &key.text, list()).await.refused(403, None);
        gateway.get(&tenants, &key.text).await.expect(200);
        gateway.get(&projects, &key.text).await.expect(200);
    }
    for token in [&gateway.viewer, &acme.developer.text, &acme.billing_viewer.text] {
        gateway.put(&projects, token, list()).await.refused(403, None);
    }
    for token in [&gateway.operator, &acme.owner.text, &acme.admin.text] {
        gateway.put(&projects, token, list()).await.expect(200);
    }
    gateway.put(&tenants, &gateway.operator, list()).await.expect(200);
}

#[tokio::test]
async fn another_tenants_list_is_as_unknown_as_one_that_never_was() {
    let gateway = Gateway::start().await;
    let (acme, rival) = (&gateway.acme, &gateway.rival);
    let (nowhere, nothing) = (TenantId::new(), ProjectId::new());
    for method in [Method::GET, Method::PUT] {
        let call = async |path: String| {
            let call = gateway.call(method.clone(), &path, &acme.owner.text).json(json!({"models": []}));
            said(&call.send().await)
        };
        assert_eq!(call(tenants(&rival.tenant)).await, call(tenants(&nowhere)).await);
        let unknown = call(projects(&acme.tenant, nothing.as_str())).await;
        assert_eq!(unknown.0, 404);
        assert_eq!(call(projects(&acme.tenant, rival.project.as_str())).await, unknown);
        let foreign = call(projects(&rival.tenant, rival.project.as_str())).await;
        assert_eq!(foreign, call(projects(&nowhere, nothing.as_str())).await);
    }
    assert_eq!(gateway.get(&tenants(&rival.tenant), &rival.owner.text).await.etag(), "\"1\"");
}
