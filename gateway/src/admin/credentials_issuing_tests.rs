//! Who may make and touch which keys.

use super::{COLLECTIONS, secret_of};
use crate::admin::testing::{Gateway, widest};
use crate::tenants::{Role, Scope};
use serde_json::{Value, json};

fn scope(json: Value) -> Scope {
    serde_json::from_value(json).unwrap()
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
                for body in [json!({"name": "mine"}), json!({"role": "tenant_developer", "scope": narrow})] {
                    gateway.patch(one, &caller.text, body).await.refused(403, Some(param));
                }
                gateway.post(&format!("{one}/rotate"), &caller.text, json!({})).await.refused(403, Some(param));
            }
            if role == Role::TenantAdmin {
                gateway.delete(&owners, &caller.text).await.refused(403, Some("role"));
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
async fn what_only_takes_away_needs_no_more_than_the_role() {
    let gateway = Gateway::start().await;
    let narrow = scope(json!({"operations": ["administer"], "models": [], "ip_ranges": ["127.0.0.0/8"]}));
    let (owner, admin) =
        (gateway.acme_key(Role::TenantOwner, &narrow).await, gateway.acme_key(Role::TenantAdmin, &narrow).await);
    for collection in COLLECTIONS {
        let keys = gateway.keys(collection);
        let leaked = async |role: &str| {
            let made = gateway.make(
                collection,
                json!({"name": "leaked", "role": role, "expires_at": "2030-01-01T00:00:00Z",
                    "limits": {"requests_per_minute": 9}}),
            );
            format!("{keys}/{}", made.await["id"].as_str().unwrap())
        };
        let (owners, developers) = (leaked("tenant_owner").await, leaked("tenant_developer").await);
        for (one, caller) in [(&owners, &owner.text), (&developers, &admin.text)] {
            let limits = format!("{one}/limits");
            for body in [
                json!({"expires_at": "2029-01-01T00:00:00Z"}),
                json!({"limits": {"requests_per_minute": 8, "tokens_per_minute": 1}}),
                json!({"expires_at": "2028-01-01T00:00:00Z", "limits": {"requests_per_minute": 7, "tokens_per_minute": 1}}),
            ] {
                gateway.patch(one, caller, body).await.expect(200);
            }
            let lower = json!({"requests_per_minute": 6, "tokens_per_minute": 1});
            gateway.put(&limits, caller, lower).await.expect(200);
            for wider in [json!({"requests_per_minute": 7, "tokens_per_minute": 1}), json!({"requests_per_minute": 5})]
            {
                gateway.put(&limits, caller, wider.clone()).await.refused(403, Some("scope.operations"));
                gateway.patch(one, caller, json!({"limits": wider})).await.refused(403, Some("scope.operations"));
            }
            for body in [
                json!({"expires_at": null}),
                json!({"expires_at": "2028-01-01T00:00:01Z"}),
                json!({"expires_at": "2027-01-01T00:00:00Z", "name": "mine"}),
                json!({"expires_at": "2027-01-01T00:00:00Z", "scope": {"operations": []}}),
            ] {
                gateway.patch(one, caller, body).await.refused(403, Some("scope.operations"));
            }
            gateway.post(&format!("{one}/rotate"), caller, json!({})).await.refused(403, Some("scope.operations"));
            if one == &owners {
                gateway.put(&limits, &admin.text, json!({"requests_per_minute": 0})).await.refused(403, Some("role"));
                gateway.patch(one, &admin.text, json!({"expires_at": null})).await.refused(403, Some("role"));
                gateway.delete(one, &admin.text).await.refused(403, Some("role"));
            }
            gateway.delete(one, caller).await.expect(204);
        }
    }
}

#[tokio::test]
async fn a_keys_limits_bind_the_keys_that_it_makes() {
    let gateway = Gateway::start().await;
    let limited = json!({"name": "limited", "role": "tenant_owner", "scope": widest(),
        "limits": {"requests_per_minute": 5, "concurrent_requests": 2}});
    let limited = gateway.make("api-keys", limited).await;
    let limited = secret_of(&limited);
    for collection in COLLECTIONS {
        let keys = gateway.keys(collection);
        let make = async |limits: Value| {
            let body = json!({"name": "child", "project_id": gateway.acme.project, "limits": limits});
            gateway.post(&keys, limited, body).await
        };
        let first = "requests_per_minute";
        for (limits, field) in [
            (json!({}), first),
            (json!({"requests_per_minute": 1000, "concurrent_requests": 2}), first),
            (json!({"requests_per_minute": 5}), "concurrent_requests"),
        ] {
            make(limits).await.refused(403, Some(&format!("limits.{field}")));
        }
        let within = json!({"requests_per_minute": 5, "tokens_per_minute": 9, "concurrent_requests": 1});
        let child = make(within).await.expect(201);
        let child = format!("{keys}/{}", child["id"].as_str().unwrap());
        for (limits, field) in [
            (json!({}), first),
            (json!({"requests_per_minute": 6, "concurrent_requests": 1}), first),
            (json!({"requests_per_minute": 5, "concurrent_requests": 3}), "concurrent_requests"),
        ] {
            let patched = gateway.patch(&child, limited, json!({"limits": limits})).await;
            patched.refused(403, Some(&format!("limits.{field}")));
            gateway.put(&format!("{child}/limits"), limited, limits).await.refused(403, Some(field));
        }
        let up = json!({"requests_per_minute": 5, "concurrent_requests": 2});
        gateway.patch(&child, limited, json!({"limits": up})).await.expect(200);

        // Of one that is there already it is shown no secret, and raises nothing, beyond its own.
        let wide = gateway.make(collection, json!({"name": "wide", "limits": {"requests_per_minute": 1000}})).await;
        let wide = format!("{keys}/{}", wide["id"].as_str().unwrap());
        let rotated = gateway.post(&format!("{wide}/rotate"), limited, json!({})).await;
        rotated.refused(403, Some("limits.requests_per_minute"));
        gateway.patch(&wide, limited, json!({"limits": {"requests_per_minute": 900}})).await.expect(200);
        gateway.patch(&wide, limited, json!({"name": "renamed"})).await.expect(200);
        gateway.patch(&wide, &gateway.operator, json!({"limits": {}})).await.expect(200);
    }
    let accounts = gateway.keys("service-accounts");
    let mut body = json!({"name": "ci", "project_id": gateway.acme.project});
    let plain = gateway.post(&accounts, limited, body.clone()).await.expect(201);
    let plain = format!("{accounts}/{}", plain["id"].as_str().unwrap());
    let identity = json!({"issuer": "https://issuer.example", "subject": "ci"});
    let federated = gateway.patch(&plain, limited, json!({"federated_identity": identity})).await;
    federated.refused(403, Some("federated_identity"));
    gateway.patch(&plain, &gateway.acme.owner.text, json!({"federated_identity": identity})).await.expect(200);
    gateway.patch(&plain, limited, json!({"name": "cd", "federated_identity": identity})).await.expect(200);
    (body["name"], body["federated_identity"]) = (json!("other"), identity);
    gateway.post(&accounts, limited, body.clone()).await.refused(403, Some("federated_identity"));
    gateway.post(&accounts, &gateway.acme.owner.text, body).await.expect(201);
}

#[tokio::test]
async fn a_key_that_ended_with_what_it_belonged_to_can_be_revoked_and_nothing_else() {
    let gateway = Gateway::start().await;
    let (operator, projects) = (&gateway.operator, gateway.keys("projects"));
    for collection in COLLECTIONS {
        let project = gateway.post(&projects, operator, json!({"name": collection})).await.expect(201);
        let account = json!({"name": collection, "project_id": gateway.acme.project});
        let account = gateway.post(&gateway.keys("service-accounts"), operator, account).await.expect(201);
        let owners = [("project_id", "projects", project), ("service_account_id", "service-accounts", account)];
        for (field, of, owner) in owners {
            let mut body = json!({"name": "x"});
            body[field] = owner["id"].clone();
            let made = gateway.post(&gateway.keys(collection), operator, body.clone()).await.expect(201);
            let one = format!("{}/{}", gateway.keys(collection), made["id"].as_str().unwrap());
            gateway.patch(&one, operator, json!({"name": "y"})).await.expect(200);
            let owner = format!("{}/{}", gateway.keys(of), owner["id"].as_str().unwrap());
            gateway.delete(&owner, operator).await.expect(204);
            for body in [json!({"name": "z"}), json!({"expires_at": "2029-01-01T00:00:00Z"})] {
                gateway.patch(&one, operator, body).await.refused(404, None);
            }
            gateway.put(&format!("{one}/limits"), operator, json!({})).await.refused(404, None);
            gateway.post(&format!("{one}/rotate"), operator, json!({})).await.refused(404, None);
            gateway.post(&gateway.keys(collection), operator, body).await.refused(404, Some(field));
            let read = gateway.get(&one, operator).await;
            assert_eq!((read.etag(), &read.expect(200)["name"]), ("\"2\"", &json!("y")), "{collection} {field}");
            gateway.delete(&one, operator).await.expect(204);
        }
    }
}

#[tokio::test]
async fn limits_are_bounded_and_recorded_alike_wherever_they_are_set() {
    let gateway = Gateway::start().await;
    let operator = &gateway.operator;
    let beyond = json!({"tokens_per_minute": 9_007_199_254_740_993_u64});
    for collection in COLLECTIONS {
        let keys = gateway.keys(collection);
        let body = json!({"name": "x", "project_id": gateway.acme.project, "limits": beyond});
        gateway.post(&keys, operator, body).await.refused(400, Some("limits.tokens_per_minute"));
        let made = gateway.make(collection, json!({"name": "x"})).await;
        let id = made["id"].as_str().unwrap();
        let one = format!("{keys}/{id}");
        gateway.patch(&one, operator, json!({"limits": beyond})).await.refused(400, Some("limits.tokens_per_minute"));
        gateway.put(&format!("{one}/limits"), operator, beyond.clone()).await.refused(400, Some("tokens_per_minute"));
        gateway.patch(&one, operator, json!({"limits": {"tokens_per_minute": 1}})).await.expect(200);
        gateway.put(&format!("{one}/limits"), operator, json!({"tokens_per_minute": 2})).await.expect(200);
        let log = gateway.logged(id).await;
        let fields = |at: usize| log[at].1["after"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!((log.len(), fields(1)), (3, fields(2)));
        assert_eq!(log[2].1["before"], log[1].1["after"], "what the second found is what the first left");
    }
}
