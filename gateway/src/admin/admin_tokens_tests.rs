//! Operators' tokens over HTTP.

use crate::admin::testing::{Gateway, Reply};
use http::Method;
use serde_json::{Value, json};

const TOKENS: &str = "/admin/v1/admin-tokens";

impl Gateway {
    async fn make_token(&self, body: Value) -> Value {
        self.post(TOKENS, &self.operator, body).await.expect(201)
    }

    /// The path of the token that the fixture's operator uses.
    async fn operators_own(&self) -> String {
        let listed = self.get(&format!("{TOKENS}?name=platform_admin"), &self.operator).await.expect(200);
        of(&listed["data"][0])
    }
}

fn of(view: &Value) -> String {
    format!("{TOKENS}/{}", view["id"].as_str().unwrap())
}

fn secret(view: &Value) -> &str {
    view["secret"].as_str().unwrap()
}

#[tokio::test]
async fn a_token_is_made_used_read_changed_rotated_and_revoked() {
    let gateway = Gateway::start().await;
    let operator = &gateway.operator;
    let input = json!({"name": "terraform", "role": "platform_admin", "expires_at": "2030-01-01T00:00:00Z"});
    let made = gateway.make_token(input).await;
    assert!(secret(&made).starts_with("ckadm_") && made["created_by"].as_str().unwrap().starts_with("adm_"));
    assert_eq!(made["scope"], json!({"operations": ["read_usage", "administer"]}));
    gateway.get(TOKENS, secret(&made)).await.expect(200);
    let one = of(&made);
    let read = gateway.get(&one, operator).await;
    assert_eq!(read.etag(), "\"1\"");
    assert!(read.expect(200).get("secret").is_none());
    let changed = gateway.patch(&one, operator, json!({"name": "tf", "expires_at": null})).await.expect(200);
    assert_eq!((&changed["name"], changed.get("expires_at")), (&json!("tf"), None));
    let stale = gateway.call(Method::DELETE, &one, operator).header("if-match", "\"1\"").send().await;
    stale.refused(412, None);

    let rotate = async |key: &str| {
        let call = gateway.call(Method::POST, &format!("{one}/rotate"), operator).header("idempotency-key", key);
        call.json(json!({"overlap_seconds": 60})).send().await
    };
    let rotated = rotate("a").await.expect(200);
    assert_eq!(rotate("a").await.expect(200), rotated, "the same secret");
    for text in [secret(&made), secret(&rotated)] {
        gateway.get(TOKENS, text).await.expect(200);
    }
    rotate("b").await.expect(200);
    gateway.get(TOKENS, secret(&made)).await.expect(401);
    gateway.get(TOKENS, secret(&rotated)).await.expect(200);

    gateway.delete(&one, operator).await.expect(204);
    gateway.delete(&one, operator).await.refused(404, None);
    gateway.get(TOKENS, secret(&rotated)).await.expect(401);
    assert_eq!(gateway.get(&one, operator).await.expect(200)["status"], "revoked");
    let text = format!("{:?}", gateway.logged(made["id"].as_str().unwrap()).await);
    for hidden in [secret(&made), secret(&rotated)] {
        assert!(!text.contains(&hidden[19..51]), "{text}");
    }
}

#[tokio::test]
async fn only_administrators_of_the_platform_manage_its_tokens() {
    let gateway = Gateway::start().await;
    let input = || json!({"name": "x", "role": "platform_viewer"});
    let made = gateway.make_token(input()).await;
    let one = of(&made);
    let acme = &gateway.acme;
    let refused = |reply: Reply| reply.refused(403, None);
    for (token, reads) in [
        (&gateway.viewer, 200),
        (&acme.owner.text, 403),
        (&acme.admin.text, 403),
        (&acme.developer.text, 403),
        (&acme.billing_viewer.text, 403),
    ] {
        gateway.get(TOKENS, token).await.expect(reads);
        gateway.get(&one, token).await.expect(reads);
        refused(gateway.post(TOKENS, token, input()).await);
        refused(gateway.patch(&one, token, json!({})).await);
        refused(gateway.post(&format!("{one}/rotate"), token, json!({})).await);
        refused(gateway.delete(&one, token).await);
    }
    for (body, param) in [
        (json!({"name": "x", "role": "tenant_owner"}), "role"),
        (json!({"name": "x", "role": "platform_admin", "scope": {"operations": ["inference"]}}), "scope.operations"),
        (json!({"name": "x", "role": "platform_admin", "scope": {"operations": [], "models": ["*"]}}), "scope.models"),
        (json!({"name": "x", "role": "platform_admin", "expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
        (json!({"name": "", "role": "platform_admin"}), "name"),
    ] {
        gateway.post(TOKENS, &gateway.operator, body).await.refused(400, Some(param));
    }
    for unknown in ["adm_AAAAAAAAAAAA", "nonsense"] {
        gateway.get(&format!("{TOKENS}/{unknown}"), &gateway.operator).await.refused(404, None);
    }
}

#[tokio::test]
async fn an_operator_hands_out_no_more_than_it_has() {
    let gateway = Gateway::start().await;
    let narrow = json!({"operations": ["administer"], "ip_ranges": ["127.0.0.0/8"]});
    let body =
        json!({"name": "narrow", "role": "platform_admin", "scope": narrow, "expires_at": "2030-01-01T00:00:00Z"});
    let caller = gateway.make_token(body).await;
    let own = of(&caller);
    let caller = secret(&caller);
    let child = json!({"name": "child", "role": "platform_admin", "scope": narrow});
    let child = of(&gateway.post(TOKENS, caller, child).await.expect(201));
    let full = gateway.operators_own().await;
    let everything = format!("{TOKENS}?with_revoked=true");
    let before = gateway.get(&everything, &gateway.operator).await.expect(200);
    for (scope, param) in [
        (json!({"operations": ["administer", "read_usage"], "ip_ranges": ["127.0.0.0/8"]}), "scope.operations"),
        (json!({"operations": ["administer"], "ip_ranges": ["0.0.0.0/0"]}), "scope.ip_ranges"),
        (json!({"operations": ["administer"]}), "scope.ip_ranges"),
    ] {
        let made = gateway.post(TOKENS, caller, json!({"name": "x", "role": "platform_viewer", "scope": scope})).await;
        made.refused(403, Some(param));
        for one in [&child, &own] {
            gateway.patch(one, caller, json!({"scope": scope})).await.refused(403, Some(param));
        }
    }
    gateway.patch(&own, caller, json!({"expires_at": null})).await.refused(403, Some("expires_at"));
    gateway.patch(&full, caller, json!({"scope": narrow})).await.refused(403, Some("scope.operations"));
    gateway.post(&format!("{full}/rotate"), caller, json!({})).await.refused(403, Some("scope.operations"));
    gateway.patch(&full, caller, json!({"name": "mine"})).await.refused(403, Some("scope.operations"));
    // To take away needs no scope, but what is left must be as good.
    gateway.delete(&full, caller).await.refused(409, None);
    assert_eq!(gateway.get(&everything, &gateway.operator).await.expect(200), before);
    let leaked = of(&gateway.make_token(json!({"name": "leaked", "role": "platform_admin"})).await);
    gateway.patch(&leaked, caller, json!({"expires_at": "2029-01-01T00:00:00Z"})).await.expect(200);
    gateway.patch(&leaked, caller, json!({"expires_at": null})).await.refused(403, Some("scope.operations"));
    gateway.delete(&leaked, caller).await.expect(204);
}

#[tokio::test]
async fn the_last_administrator_can_not_lock_everybody_out() {
    let gateway = Gateway::start().await;
    let own = gateway.operators_own().await;
    for body in [
        json!({"role": "platform_viewer"}),
        json!({"scope": {"operations": []}}),
        json!({"scope": {"operations": ["read_usage", "administer"], "ip_ranges": ["127.0.0.1/32"]}}),
        json!({"expires_at": "2030-01-01T00:00:00Z"}),
    ] {
        gateway.patch(&own, &gateway.operator, body).await.refused(409, None);
    }
    gateway.delete(&own, &gateway.operator).await.refused(409, None);
    assert_eq!(gateway.get(&own, &gateway.operator).await.etag(), "\"1\"");

    let next = gateway.make_token(json!({"name": "next", "role": "platform_admin"})).await;
    gateway.delete(&own, &gateway.operator).await.expect(204);
    gateway.get(TOKENS, &gateway.operator).await.expect(401);
    gateway.delete(&of(&next), secret(&next)).await.refused(409, None);
}

#[tokio::test]
async fn tokens_are_listed_page_by_page() {
    let gateway = Gateway::start().await;
    for n in 0..3 {
        gateway.make_token(json!({"name": format!("t{n}"), "role": "platform_viewer"})).await;
    }
    let first = gateway.get(&format!("{TOKENS}?limit=3"), &gateway.viewer).await.expect(200);
    assert_eq!((first["data"].as_array().unwrap().len(), &first["has_more"]), (3, &json!(true)));
    let after = first["next_after"].as_str().unwrap();
    let second = gateway.get(&format!("{TOKENS}?limit=3&after={after}"), &gateway.viewer).await.expect(200);
    let names: Vec<&Value> = second["data"].as_array().unwrap().iter().map(|token| &token["name"]).collect();
    assert_eq!((json!(names), &second["has_more"]), (json!(["t1", "t2"]), &json!(false)));
    gateway.get(&format!("{TOKENS}?after=x"), &gateway.viewer).await.refused(400, Some("after"));
}
