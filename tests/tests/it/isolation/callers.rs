//! Who calls: those whom nobody knows, and known ones of each role and with each narrower scope; and what becomes of
//! their calls.

use super::roles::{OPERATIONS, TENANT_ROLES, has, operation};
use super::table::{Api, For, Row};
use super::things::{Side, of_role, twin};
use caprock_tests::admin::Admin;
use serde_json::{Value, json};
use std::time::Duration;

/// What a call is sent with.
#[derive(Debug, Clone)]
pub(super) enum Credential {
    /// Nothing.
    None,
    /// An `Authorization` header as it is.
    Authorization(String),
    /// An `x-api-key` header.
    ApiKeyHeader(String),
    /// A signature: access key id, and what it is made with.
    Signature(String, String),
}

/// A caller.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// For messages.
    pub(super) name: String,
    /// What it sends.
    pub(super) credential: Credential,
    /// Whom it is known as; `None`: nobody.
    pub(super) known: Option<Known>,
}

/// A known caller, and what its credential is narrowed to.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Its role.
    pub(super) role: &'static str,
    /// Its scope's operations.
    pub(super) operations: Vec<&'static str>,
    /// Its scope's dialects, if it is narrowed to any.
    pub(super) dialects: Option<Vec<&'static str>>,
    /// Whether its scope includes the model that is asked for.
    pub(super) has_model: bool,
    /// Whether its scope includes the address that it calls from.
    pub(super) is_in_range: bool,
}

/// Where a call arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// The one that an API is made for.
    Own,
    /// For the admin API, that of callers.
    Data,
}

/// What must become of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// 2xx
    Success,
    /// 401, or 403 in Bedrock's words.
    Unauthenticated,
    /// 403
    Forbidden,
    /// 404
    NotFound,
}

impl Credential {
    /// What of it nobody else may know; none where there is nothing to know.
    pub(super) fn secret(&self) -> Option<String> {
        let text = match self {
            Credential::None => return None,
            Credential::Authorization(text) => text.split_once(' ').map_or(text.as_str(), |(_, token)| token),
            Credential::ApiKeyHeader(text) | Credential::Signature(_, text) => text,
        };
        // Shorter ones are no secrets: "nonsense".
        (text.len() >= 20).then(|| text.to_owned())
    }
}

impl Caller {
    /// Nobody.
    pub(super) fn unknown(name: &str, credential: Credential) -> Caller {
        Caller { name: name.into(), credential, known: None }
    }

    /// With a bearer token, known as `role` with all operations.
    pub(super) fn bearer(name: &str, role: &'static str, token: &str) -> Caller {
        let known = Known { role, operations: OPERATIONS.into(), dialects: None, has_model: true, is_in_range: true };
        Caller { name: name.into(), credential: bearer(token), known: Some(known) }
    }

    /// Whether it is an operator.
    pub(super) fn is_operator(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.role.starts_with("platform_"))
    }

    /// What must become of its call about its own tenant's things.
    pub(super) fn expected(&self, row: &Row, port: Port) -> Expected {
        let Some(permission) = row.permission else { return Expected::Success };
        if port == Port::Data && row.caller == For::Operators {
            return Expected::NotFound; // for everybody: it isn't there
        }
        let Some(known) = &self.known else { return Expected::Unauthenticated };
        let callers_plane = row.api == Api::Inference || port == Port::Data;
        let signs = matches!(self.credential, Credential::Signature(..));
        if (self.is_operator() && callers_plane) || (signs && row.api == Api::Admin) {
            return Expected::Unauthenticated;
        }
        let dialect = match row.caller {
            For::OpenAi => Some("openai"),
            For::Bedrock => Some("bedrock"),
            For::Anyone | For::Tenant | For::Operators => None,
        };
        let speaks = match (&known.dialects, dialect) {
            (Some(dialects), Some(dialect)) => dialects.contains(&dialect),
            _ => true,
        };
        let is_operators = row.caller == For::Operators && !self.is_operator();
        let may = has(known.role, permission)
            && known.operations.contains(&operation(permission))
            && known.is_in_range
            && speaks
            && (known.has_model || permission != "infer")
            && !is_operators;
        match may {
            // To look up a model that the scope does not include is to look up one that isn't there.
            true if row.id == "get_model" && !known.has_model => Expected::NotFound,
            true => Expected::Success,
            false => Expected::Forbidden,
        }
    }
}

fn bearer(token: &str) -> Credential {
    Credential::Authorization(format!("Bearer {token}"))
}

/// Credentials that are none, or none any more.
pub(super) async fn strangers(operator: &Admin, a: &Side, operators_token: &str) -> Vec<Caller> {
    let tenant = &a.things.tenant;
    let key = &a.owner.secret;
    let owner = |project: &str, name: &str| of_role("tenant_owner", project, name);
    let soon = time::OffsetDateTime::now_utc() + Duration::from_millis(1500);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    let ends = |mut input: Value| {
        input["expires_at"] = json!(soon);
        input
    };
    let admin = |name: &str| json!({ "name": name, "role": "platform_admin" });

    let project = &a.things.project;
    let revoked = operator.api_key(tenant, &owner(project, "revoked")).await;
    operator.delete(&format!("/admin/v1/tenants/{tenant}/api-keys/{}", revoked.id)).await;
    let signs_revoked = operator.access_key(tenant, &owner(project, "revoked")).await;
    operator.delete(&format!("/admin/v1/tenants/{tenant}/access-keys/{}", signs_revoked.id)).await;
    let token_revoked = operator.admin_token(&admin("revoked")).await;
    operator.delete(&format!("/admin/v1/admin-tokens/{}", token_revoked.id)).await;

    let expired = operator.api_key(tenant, &ends(owner(project, "expired"))).await;
    let signs_expired = operator.access_key(tenant, &ends(owner(project, "expired"))).await;
    let token_expired = operator.admin_token(&ends(admin("expired"))).await;

    let closed = operator.project(tenant, "closed").await;
    let orphan = operator.api_key(tenant, &owner(&closed, "orphan")).await;
    operator.delete(&format!("/admin/v1/tenants/{tenant}/projects/{closed}")).await;
    let mut account = owner(project, "retired");
    let retired = operator.service_account(tenant, &account).await;
    account["service_account_id"] = json!(retired);
    account.as_object_mut().unwrap().remove("project_id");
    let retireds = operator.api_key(tenant, &account).await;
    operator.delete(&format!("/admin/v1/tenants/{tenant}/service-accounts/{retired}")).await;
    let suspended = operator.tenant("isolation-suspended").await;
    let there = operator.project(&suspended, "there").await;
    let suspendeds = operator.api_key(&suspended, &owner(&there, "suspended")).await;
    operator.call(reqwest::Method::POST, &format!("/admin/v1/tenants/{suspended}/suspend"), None).await;

    tokio::time::sleep(Duration::from_millis(1600)).await; // until what expires soon has

    let signature =
        |made: &caprock_tests::admin::Made| Credential::Signature(made.access_key_id.clone(), made.secret.clone());
    let good = operator.access_key(tenant, &owner(project, "good")).await;
    let all = [
        ("nobody", Credential::None),
        ("an empty token", bearer("")),
        ("nonsense", bearer("nonsense")),
        ("another scheme", Credential::Authorization(format!("Basic {key}"))),
        ("a token without its scheme", Credential::Authorization(key.clone())),
        ("a cut key", bearer(&key[..key.len() - 1])),
        ("a key with a wrong checksum", bearer(&twin(key))),
        ("a key with another secret", bearer(&with_secret(key, |secret| secret.chars().rev().collect()))),
        ("a key that was never made", bearer(&with_id(key, |id| id.chars().rev().collect()))),
        ("a key as its own header, with another secret", {
            Credential::ApiKeyHeader(with_secret(key, |secret| secret.chars().rev().collect()))
        }),
        ("a revoked key", bearer(&revoked.secret)),
        ("an expired key", bearer(&expired.secret)),
        ("the key of a deleted project", bearer(&orphan.secret)),
        ("the key of a deleted service account", bearer(&retireds.secret)),
        ("the key of a suspended tenant", bearer(&suspendeds.secret)),
        ("a token with another secret", bearer(&with_secret(operators_token, |s| s.chars().rev().collect()))),
        ("a token that was never made", bearer(&with_id(operators_token, |id| id.chars().rev().collect()))),
        ("a revoked token", bearer(&token_revoked.secret)),
        ("an expired token", bearer(&token_expired.secret)),
        ("a revoked access key", signature(&signs_revoked)),
        ("an expired access key", signature(&signs_expired)),
        ("an access key with another secret", Credential::Signature(good.access_key_id.clone(), key.clone())),
        ("an access key that was never made", Credential::Signature(twin(&good.access_key_id), good.secret.clone())),
    ];
    all.into_iter().map(|(name, credential)| Caller::unknown(name, credential)).collect()
}

/// A tenant's callers and operators, with each role, and with each operation missing from its scope.
pub(super) async fn known(operator: &Admin, a: &Side, operators_token: &str) -> Vec<Caller> {
    let tenant = &a.things.tenant;
    let mut callers = Vec::new();
    for role in TENANT_ROLES {
        for missing in [None].into_iter().chain(OPERATIONS.map(Some)) {
            let operations = but(&OPERATIONS, missing);
            let name = format!("{role} without {}", missing.unwrap_or("nothing"));
            let key = operator.api_key(tenant, &narrowed(a, role, &name, &json!({ "operations": operations }))).await;
            let mut caller = Caller::bearer(&name, role, &key.secret);
            caller.known.as_mut().unwrap().operations = operations;
            callers.push(caller);
        }
    }
    // Developers, as an administrator with a narrow scope may not make a wide key, which other tests are about.
    let scopes = [
        ("another dialect", json!({ "operations": OPERATIONS, "dialects": ["anthropic"] })),
        ("OpenAI's dialect", json!({ "operations": OPERATIONS, "dialects": ["openai"] })),
        ("another model", json!({ "operations": OPERATIONS, "models": ["amazon.titan-*"] })),
        ("another range", json!({ "operations": OPERATIONS, "ip_ranges": ["192.0.2.0/24", "2001:db8::/32"] })),
    ];
    for (name, scope) in scopes {
        let input = narrowed(a, "tenant_developer", name, &scope);
        let key = operator.api_key(tenant, &input).await;
        let signing = operator.access_key(tenant, &input).await;
        let mut caller = Caller::bearer(&format!("developer with {name}"), "tenant_developer", &key.secret);
        let known = caller.known.as_mut().unwrap();
        known.dialects = match name {
            "another dialect" => Some(vec!["anthropic"]),
            "OpenAI's dialect" => Some(vec!["openai"]),
            _ => None,
        };
        known.has_model = name != "another model";
        known.is_in_range = name != "another range";
        let credential = Credential::Signature(signing.access_key_id, signing.secret);
        callers.push(Caller { name: format!("signing {}", caller.name), credential, ..caller.clone() });
        callers.push(caller);
    }
    for missing in [None].into_iter().chain(OPERATIONS.map(Some)) {
        let operations = but(&OPERATIONS, missing);
        let name = format!("signing developer without {}", missing.unwrap_or("nothing"));
        let input = narrowed(a, "tenant_developer", &name, &json!({ "operations": operations }));
        let signing = operator.access_key(tenant, &input).await;
        let mut caller = Caller::bearer(&name, "tenant_developer", "");
        caller.credential = Credential::Signature(signing.access_key_id, signing.secret);
        caller.known.as_mut().unwrap().operations = operations;
        callers.push(caller);
    }

    callers.push(Caller::bearer("platform_admin", "platform_admin", operators_token));
    let operators = ["read_usage", "administer"];
    let everywhere = json!({ "operations": operators });
    let elsewhere = json!({ "operations": operators, "ip_ranges": ["192.0.2.0/24"] });
    let kinds = [
        ("platform_viewer", everywhere, operators.to_vec(), true),
        ("platform_admin", json!({ "operations": ["administer"] }), vec!["administer"], true),
        ("platform_admin", json!({ "operations": ["read_usage"] }), vec!["read_usage"], true),
        ("platform_admin", elsewhere, operators.to_vec(), false),
    ];
    for (role, scope, operations, is_in_range) in kinds {
        let input = json!({ "name": format!("isolation {role}"), "role": role, "scope": scope });
        let token = operator.admin_token(&input).await;
        let mut caller = Caller::bearer(&format!("{role} with {scope}"), role, &token.secret);
        let known = caller.known.as_mut().unwrap();
        (known.operations, known.is_in_range) = (operations, is_in_range);
        callers.push(caller);
    }
    callers
}

fn narrowed(a: &Side, role: &str, name: &str, scope: &Value) -> Value {
    json!({ "name": name, "project_id": a.things.project, "role": role, "scope": scope })
}

pub(super) fn but(operations: &[&'static str], missing: Option<&str>) -> Vec<&'static str> {
    operations.iter().copied().filter(|operation| Some(*operation) != missing).collect()
}

/// `<prefix>_<id 12>_<secret 32><crc 6>` with another id, and the checksum that belongs to it.
fn with_id(key: &str, change: impl FnOnce(&str) -> String) -> String {
    let mut parts = key.splitn(3, '_');
    let (prefix, id, rest) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    checked(format!("{prefix}_{}_{}", change(id), &rest[..rest.len() - 6]))
}

/// The same with another secret.
fn with_secret(key: &str, change: impl FnOnce(&str) -> String) -> String {
    let (front, rest) = key.rsplit_once('_').unwrap();
    checked(format!("{front}_{}", change(&rest[..rest.len() - 6])))
}

fn checked(front: String) -> String {
    const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut left = crc32fast::hash(front.as_bytes());
    let mut digits = [0u8; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(left % 62) as usize];
        left /= 62;
    }
    format!("{front}{}", String::from_utf8_lossy(&digits))
}

#[test]
fn a_made_up_key_has_the_checksum_that_a_real_one_would_have() {
    assert_eq!(checked("123456789".into()), "1234567893jZRME");
}
