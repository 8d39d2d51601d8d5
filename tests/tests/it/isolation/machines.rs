//! Machines that call with JWTs of a trusted issuer: known ones of each role and with each operation missing from their
//! scope, and tokens that are good for something else, or for nothing.

use super::callers::{Caller, but};
use super::roles::{OPERATIONS, TENANT_ROLES};
use super::things::Side;
use caprock_tests::admin::Admin;
use caprock_tests::issuer::{ISSUER, Issuer};
use serde_json::{Value, json};

/// A service account's binding and rights.
fn account(a: &Side, name: &str, role: &str, operations: &[&str]) -> Value {
    json!({
        "name": name, "project_id": a.things.project, "role": role, "scope": { "operations": operations },
        "federated_identity": { "issuer": ISSUER, "subject": name },
    })
}

/// Machines of A's, and of the platform.
pub(super) async fn known(operator: &Admin, a: &Side, issuer: &Issuer) -> Vec<Caller> {
    let mut callers = Vec::new();
    for role in TENANT_ROLES {
        for missing in [None].into_iter().chain(OPERATIONS.map(Some)) {
            let operations = but(&OPERATIONS, missing);
            let name = format!("{role} machine without {}", missing.unwrap_or("nothing"));
            let id = operator.service_account(&a.things.tenant, &account(a, &name, role, &operations)).await;
            let mut caller = Caller::bearer(&name, role, &issuer.token(&name, Some(&id)));
            caller.known.as_mut().unwrap().operations = operations;
            callers.push(caller);
        }
    }
    for role in ["platform_admin", "platform_viewer"] {
        callers.push(Caller::bearer(&format!("{role} machine"), role, &issuer.token(role, None)));
    }
    callers
}

/// A machine that may do all that A's owner may.
pub(super) async fn owner(operator: &Admin, a: &Side, issuer: &Issuer) -> Caller {
    let name = "A's machine";
    let id = operator.service_account(&a.things.tenant, &account(a, name, "tenant_owner", &OPERATIONS)).await;
    Caller::bearer(name, "tenant_owner", &issuer.token(name, Some(&id)))
}

/// Tokens that must not be taken for anybody's. B's machine is bound to `subject_of_b`.
pub(super) async fn strangers(operator: &Admin, sides: (&Side, &Side), issuer: &Issuer) -> Vec<(String, String)> {
    let (a, b) = sides;
    let all = |name: &str| account(a, name, "tenant_owner", &OPERATIONS);
    let good = operator.service_account(&a.things.tenant, &all("good")).await;
    let retired = operator.service_account(&a.things.tenant, &all("retired machine")).await;
    operator.delete(&format!("/admin/v1/tenants/{}/service-accounts/{retired}", a.things.tenant)).await;
    let good = Some(good.as_str());
    let subject_of_b = format!("{}-subject", b.names[0]);
    let with = |claims: Value| issuer.token_with("good", good, &claims);
    let tokens = [
        ("another key's", Issuer::new().token("good", good)),
        ("expired", with(json!({ "exp": 1_700_000_000, "iat": 1_699_999_000, "nbf": 1_699_999_000 }))),
        ("without an end", with(json!({ "exp": null }))),
        ("another issuer's", with(json!({ "iss": "https://other.example" }))),
        ("for another audience", with(json!({ "aud": "somebody else" }))),
        ("for the platform, of a tenant's machine", issuer.token("good", None)),
        ("of another subject", issuer.token("bad", good)),
        ("of B's subject for A's account", issuer.token(&subject_of_b, good)),
        ("of A's subject for B's account", issuer.token("good", Some(&b.things.service_account))),
        ("of a platform's subject for A's account", issuer.token("platform_admin", good)),
        ("for a deleted account", issuer.token("retired machine", Some(&retired))),
    ];
    tokens.into_iter().map(|(name, token)| (format!("a JWT {name}"), token)).collect()
}
