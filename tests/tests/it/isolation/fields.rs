//! Fields that a body does not have: none is taken in silence, so none can set what only the gateway sets.

use super::callers::{Caller, Port};
use super::suite::{Ask, Suite};
use super::table::{Api, For, Row};
use caprock_tests::openapi::Operation;
use serde_json::{Value, json};

/// Columns and the like, with tenant B's ids where they are ids.
fn extras(suite: &Suite) -> Vec<(&'static str, Value)> {
    let b = &suite.b.things;
    vec![
        ("id", json!(b.api_key)),
        ("tenant_id", json!(b.tenant)),
        ("tenant", json!(b.tenant)),
        ("project_id", json!(b.project)),
        ("service_account_id", json!(b.service_account)),
        ("key_id", json!(b.api_key)),
        ("access_key_id", json!("CKIAAAAAAAAAAAAAAAAA")),
        ("role", json!("platform_admin")),
        ("scope", json!({ "operations": ["administer"] })),
        ("status", json!("active")),
        ("limits", json!({})),
        ("model_access", json!(null)),
        ("version", json!(1)),
        ("created_at", json!("2026-01-01T00:00:00Z")),
        ("created_by", json!(suite.b.owner.id)),
        ("updated_at", json!("2026-01-01T00:00:00Z")),
        ("deleted_at", json!(null)),
        ("revoked_at", json!(null)),
        ("expires_at", json!(null)),
        ("last_used_at", json!("2026-01-01T00:00:00Z")),
        ("digest", json!("00")),
        ("pepper_version", json!(1)),
        ("previous_digest", json!("00")),
        ("previous_expires_at", json!("2036-01-01T00:00:00Z")),
        ("secret", json!("ck_mine")),
        ("secret_access_key", json!("mine")),
        ("sealed_secret", json!("00")),
        ("amount_nanousd", json!(0)),
        ("balance_nanousd", json!(1)),
        ("requests_per_minute", json!(1)),
        ("tokens_per_minute", json!(1)),
        ("concurrent_requests", json!(1)),
        ("seq", json!(1)),
        ("is_admin", json!(true)),
        ("__proto__", json!({ "role": "platform_admin" })),
    ]
}

/// Tries an operation's body with each of them that it does not describe, at the top and in every object inside.
pub(super) async fn try_all(suite: &Suite, row: &Row, operation: &Operation<'_>) {
    let Some(body) = row.body.filter(|_| row.api == Api::Admin) else { return };
    let caller = match row.caller {
        For::Operators => Caller::bearer("an operator", "platform_admin", suite.stack.gateway.admin_token()),
        _ => Caller::bearer("A's owner", "tenant_owner", &suite.a.owner.secret),
    };
    let valid = body(&suite.a.things, "isolation-never-made");
    let described: Vec<String> = operation.request_bodies().iter().flat_map(|body| body.fields()).collect();
    assert!(!described.is_empty(), "{} describes no field of its body", row.id);
    let objects: Vec<String> = std::iter::once(String::new())
        .chain(
            valid
                .as_object()
                .unwrap()
                .iter()
                .filter(|(_, value)| value.is_object())
                .map(|(name, _)| format!("/{name}")),
        )
        .collect();
    for (field, value) in extras(suite) {
        for object in &objects {
            // What a field inside may be is not listed here: only the top level's may be one of these names.
            if (object.is_empty() && described.iter().any(|known| known == field)) || object == &format!("/{field}") {
                continue;
            }
            let mut input = valid.clone();
            input.pointer_mut(object).unwrap()[field] = value.clone();
            let mut ask = Ask::of(row, operation, &suite.a.things, "");
            ask.body = Some(input);
            let reply = suite.send(&caller, Port::Own, &ask).await;
            let problem: Value = serde_json::from_str(&reply.body).unwrap_or(Value::Null);
            let names_it = problem["param"].as_str().is_some_and(|param| param.ends_with(field))
                || problem["detail"].as_str().is_some_and(|detail| detail.contains(&format!("`{field}`")));
            if reply.status != 400 || !names_it {
                suite.note(format!("{} with {object}/{field} in its body: {}", row.id, reply.in_short()));
            }
        }
    }
}
