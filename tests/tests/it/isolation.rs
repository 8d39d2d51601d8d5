//! Nobody gets more than is theirs: each operation of both descriptions is tried without credentials, with each lesser
//! role and scope, and with another tenant's identifiers in path, query and body, on both databases. An operation that is
//! not in [`table`] fails the suite.

mod callers;
mod fields;
mod foreign;
mod machines;
mod ports;
mod roles;
mod suite;
mod table;
mod things;
mod timing;

use callers::{Caller, Expected, Port};
use caprock_tests::gateway::{Database, MODEL};
use caprock_tests::openapi::Document;
use caprock_tests::rows::{Rows, differences};
use caprock_tests::stack::StackSpec;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use suite::{Ask, Suite};
use table::{Api, For, TABLE, Victim};
use things::of_role;

/// Tables that hold nothing of a tenant's, or what no call may change: looked at whole, with all others.
const WITHOUT_TENANT: [&str; 5] =
    ["admin_tokens", "audit_head", "catalog_overrides", "credential_uses", "idempotency_keys"];

#[test]
fn every_operation_is_known_to_the_suite_and_takes_the_permission_that_it_should() {
    let mut wrong = Vec::new();
    for (api, document) in [(Api::Inference, Document::inference()), (Api::Admin, Document::admin())] {
        let rows: Vec<_> = TABLE.iter().filter(|row| row.api == api).collect();
        let operations = document.operations();
        for row in &rows {
            let id = row.id;
            let Some(operation) = operations.iter().find(|operation| operation.id == id) else {
                wrong.push(format!("{api:?}: the table has {id}, which is no operation"));
                continue;
            };
            if api == Api::Admin && operation.permission() != row.permission {
                wrong.push(format!("{id}: {:?} is documented, {:?} expected", operation.permission(), row.permission));
            }
            if operation.is_secured() == (row.caller == For::Anyone) {
                wrong.push(format!("{id}: whether it takes credentials"));
            }
            if operation.takes("admin_token") != matches!(row.caller, For::Tenant | For::Operators) {
                wrong.push(format!("{id}: whether it takes operators' tokens"));
            }
            if operation.takes("api_key") != matches!(row.caller, For::Tenant | For::OpenAi | For::Bedrock) {
                wrong.push(format!("{id}: whether it takes API keys"));
            }
            if operation.request_bodies().is_empty() != row.body.is_none() {
                wrong.push(format!("{id}: whether it takes a body"));
            }
        }
        for operation in &operations {
            if !rows.iter().any(|row| row.id == operation.id) {
                wrong.push(format!("{api:?}: {} is not in the table, so nothing of it is tried", operation.id));
            }
        }
        let ids: BTreeSet<&str> = rows.iter().map(|row| row.id).collect();
        assert_eq!(ids.len(), rows.len(), "{api:?}: an operation is twice in the table");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn nobody_gets_more_than_is_theirs_on_sqlite() {
    nobody_gets_more_than_is_theirs(Database::Sqlite).await;
}

#[tokio::test]
async fn nobody_gets_more_than_is_theirs_on_postgres() {
    nobody_gets_more_than_is_theirs(Database::Postgres).await;
}

#[tokio::test]
async fn the_data_port_has_no_operation_of_the_admin_api() {
    ports::the_data_port_has(false).await;
}

#[tokio::test]
async fn the_data_port_has_a_tenants_own_operations_where_it_is_told_to_and_no_others() {
    ports::the_data_port_has(true).await;
}

async fn nobody_gets_more_than_is_theirs(database: Database) {
    let mut spec = StackSpec::sim(&[]).on(database);
    // The suite makes more changes in a minute than a tenant may.
    spec.gateway = "[admin]\non_data_port = true\nper_tenant = { changes_per_minute = 1_000_000 }".into();
    let suite = Suite::start(spec).await;
    let token = suite.stack.gateway.admin_token().to_owned();
    let mut strangers = callers::strangers(&suite.operator, &suite.a, &token).await;
    for (name, token) in machines::strangers(&suite.operator, (&suite.a, &suite.b), &suite.issuer).await {
        strangers.push(Caller::unknown(&name, callers::Credential::Authorization(format!("Bearer {token}"))));
    }
    let mut known = callers::known(&suite.operator, &suite.a, &token).await;
    known.extend(machines::known(&suite.operator, &suite.a, &suite.issuer).await);
    let machine = machines::owner(&suite.operator, &suite.a, &suite.issuer).await;
    let mut before = suite.rows().await;
    let of_b = rows_of_b(&suite).await;

    whoever_may_not_does_not(&suite, &strangers).await;
    changed_nothing(&suite, &mut before).await;
    suite.ends("credentials that are none");

    whoever_may_not_does_not(&suite, &known).await;
    changed_nothing(&suite, &mut before).await;
    suite.ends("lesser roles and scopes");

    for (row, operation) in &suite.operations() {
        foreign::try_all(&suite, row, operation, Port::Own, &machine).await;
        if row.api == Api::Admin && row.permission.is_some() {
            foreign::try_all(&suite, row, operation, Port::Data, &machine).await;
        }
    }
    changed_nothing(&suite, &mut before).await;
    suite.ends("another tenant's identifiers");

    for (row, operation) in &suite.operations() {
        fields::try_all(&suite, row, operation).await;
    }
    changed_nothing(&suite, &mut before).await;
    suite.ends("fields that bodies don't have");

    if database == Database::Sqlite {
        // Once: what it is about is in the code, not in the engine.
        timing::try_all(&suite).await;
        suite.ends("timing");
    }

    whoever_may_does(&suite, &known).await;
    suite.ends("calls that are allowed");
    what_others_have_is_no_obstacle(&suite).await;
    suite.ends("names and keys that another tenant has, too");
    nobody_makes_more_than_they_are(&suite).await;
    for changed in differences(&of_b, &rows_of_b(&suite).await) {
        suite.note(format!("tenant B was changed: {changed}"));
    }
    suite.ends("credentials that reach further than their maker's");
    suite.passes();
    suite.stack.at_rest().await;
    logs_tell_nothing(suite, &[strangers, known].concat()).await;
}

/// Every call that is to be refused, by every caller, at every port.
async fn whoever_may_not_does_not(suite: &Suite, callers: &[Caller]) {
    for (row, operation) in &suite.operations() {
        let ask = Ask::of(row, operation, &suite.a.things, "isolation-never-made");
        for caller in callers {
            for port in ports(row.api, row.permission.is_some()) {
                let expected = caller.expected(row, *port);
                if expected != Expected::Success {
                    suite.expect(caller, *port, row, &ask, expected).await;
                }
            }
        }
    }
}

/// Every call that is to succeed: without it, refusals would prove nothing. What it uses up is made for it.
async fn whoever_may_does(suite: &Suite, callers: &[Caller]) {
    for (row, operation) in &suite.operations() {
        for (number, caller) in callers.iter().enumerate() {
            for port in ports(row.api, row.permission.is_some()) {
                if caller.expected(row, *port) != Expected::Success {
                    continue;
                }
                let unique = format!("{}-{number}-{port:?}", row.id);
                let things = suite.a.things.with_fresh(row.victim, &suite.operator, &unique).await;
                let ask = Ask::of(row, operation, &things, &format!("{unique}-new"));
                suite.expect(caller, *port, row, &ask, Expected::Success).await;
            }
        }
    }
}

/// Operations that take credentials are tried on the data port as well, where `admin.on_data_port` puts them.
fn ports(api: Api, takes_credentials: bool) -> &'static [Port] {
    if api == Api::Admin && takes_credentials { &[Port::Own, Port::Data] } else { &[Port::Own] }
}

/// A's calls go just the same where another tenant uses the same name, subject or Idempotency-Key, and bodies in the dialects' words
/// are charged to whoever sends them, whatever else they say.
async fn what_others_have_is_no_obstacle(suite: &Suite) {
    let a = Caller::bearer("A's owner", "tenant_owner", &suite.a.owner.secret);
    // Not B: that is looked at for changes.
    let c = suite.operator.tenant("isolation-c").await;
    let cs_project = suite.operator.project(&c, "first").await;
    let cs_owner = suite.operator.api_key(&c, &of_role("tenant_owner", &cs_project, "owner")).await;
    let c_caller = Caller::bearer("C's owner", "tenant_owner", &cs_owner.secret);
    let account = |project: &str| {
        let identity = json!({ "issuer": "https://issuer.example", "subject": "shared" });
        json!({ "name": "shared", "project_id": project, "federated_identity": identity })
    };
    for (row, operation) in suite.operations().iter().filter(|(row, _)| {
        ["create_project", "create_service_account", "create_api_key", "create_access_key"].contains(&row.id)
    }) {
        let mut made = BTreeSet::new();
        for (caller, tenant, project) in
            [(&c_caller, &c, &cs_project), (&a, &suite.a.things.tenant, &suite.a.things.project)]
        {
            let things = things::Things { tenant: tenant.clone(), project: project.clone(), ..suite.a.things.clone() };
            let mut ask = Ask::of(row, operation, &things, "shared");
            if row.id == "create_service_account" {
                ask.body = Some(account(project));
            }
            ask.headers = vec![("idempotency-key", format!("shared-{}", row.id))];
            let reply = suite.send(caller, Port::Own, &ask).await;
            let body: Value = serde_json::from_str(&reply.body).unwrap_or(Value::Null);
            let is_its_own = body["tenant_id"].as_str().is_none_or(|id| id == tenant)
                && body["project_id"].as_str().is_none_or(|id| id == project);
            let is_new = made.insert(body["id"].as_str().unwrap_or_default().to_owned());
            if reply.status != 201 || !is_its_own || !is_new || reply.headers.contains_key("idempotent-replayed") {
                suite.note(format!("{} as {}: {reply:?}", row.id, caller.name));
            }
        }
    }
    let chat = suite.operations().into_iter().find(|(row, _)| row.id == "chat_completions").unwrap();
    let mut ask = Ask::of(&chat.0, &chat.1, &suite.a.things, "");
    let body = ask.body.as_mut().unwrap();
    for (field, id) in ["tenant_id", "project_id", "service_account_id", "key_id"].into_iter().zip(suite.b.things.ids())
    {
        body[field] = json!(id);
    }
    for header in ["x-tenant-id", "x-project-id", "openai-organization", "openai-project"] {
        ask.headers.push((header, suite.b.things.tenant.clone()));
    }
    suite.expect(&a, Port::Own, &chat.0, &ask, Expected::Success).await;
}

/// A caller with few rights makes, or changes, no credential with more.
async fn nobody_makes_more_than_they_are(suite: &Suite) {
    let (tenant, project) = (&suite.a.things.tenant, &suite.a.things.project);
    let narrow = ["control_plane", "administer"];
    let input = |role: &str, operations: &[&str], name: &str| json!({ "name": name, "project_id": project, "role": role, "scope": { "operations": operations } });
    let admin = suite.operator.api_key(tenant, &input("tenant_admin", &narrow, "few rights")).await;
    let caller = Caller::bearer("an admin with a narrow scope", "tenant_admin", &admin.secret);
    let beyond = [
        json!({ "role": "tenant_owner" }),
        json!({ "role": "platform_admin" }),
        json!({ "role": "platform_viewer" }),
        json!({ "scope": { "operations": ["inference"] } }),
        json!({ "scope": { "operations": ["administer", "read_usage"] } }),
    ];
    for (row, operation) in suite.operations().iter().filter(|(row, _)| {
        row.permission == Some("write_credentials") && row.body.is_some() && !row.id.starts_with("rotate")
    }) {
        if row.id.starts_with("set_") {
            continue;
        }
        let unique = format!("{}-beyond", row.id);
        let things = suite.a.things.with_fresh(row.victim, &suite.operator, &unique).await;
        for more in &beyond {
            let mut ask = Ask::of(row, operation, &things, &unique);
            let members = ask.body.as_mut().unwrap().as_object_mut().unwrap();
            members.extend(more.as_object().unwrap().clone());
            let reply = suite.send(&caller, Port::Own, &ask).await;
            if ![400, 403].contains(&reply.status) {
                suite.note(format!("{} with {more} as {}: {}", row.id, caller.name, reply.in_short()));
            }
        }
    }
    // An owner's credential is not an administrator's to take over, shut out or end. One that only reaches further than the
    // administrator's own can be ended, as a leaked one must be, and nothing else.
    let owners = suite.operator.api_key(tenant, &input("tenant_owner", &narrow, "an owner's")).await;
    let wide = suite.operator.api_key(tenant, &input("tenant_developer", &["inference"], "a wide one")).await;
    for (key, revoked) in [(&owners.id, Expected::Forbidden), (&wide.id, Expected::Success)] {
        let things = things::Things { api_key: key.clone(), ..suite.a.things.clone() };
        for (row, operation) in suite
            .operations()
            .iter()
            .filter(|(row, _)| row.victim == Victim::ApiKey && row.permission == Some("write_credentials"))
        {
            let ask = Ask::of(row, operation, &things, "taken over");
            let expected = if row.id == "revoke_api_key" { revoked } else { Expected::Forbidden };
            suite.expect(&caller, Port::Own, row, &ask, expected).await;
        }
    }
}

/// The rows of every table that has a tenant's id, with B's; and what of the other tables is B's.
async fn rows_of_b(suite: &Suite) -> Rows {
    let mut books = suite.stack.gateway.books().await;
    let b = suite.b.things.tenant.as_str();
    let mut rows = Rows::new();
    for (table, columns) in books.columns().await {
        let key = match table.as_str() {
            "tenants" => "id",
            _ if columns.iter().any(|column| column == "tenant_id") => "tenant_id",
            _ => {
                let known = WITHOUT_TENANT.contains(&table.as_str());
                assert!(known, "{table} has no tenant_id: whose are its rows? Say so in the suite");
                continue;
            }
        };
        let found = books.rows_of(&table, &columns, Some((key, b))).await;
        rows.insert(table, found);
    }
    let filled = ["tenants", "projects", "service_accounts", "api_keys", "access_keys", "requests", "usage_records"];
    for table in filled.into_iter().chain(["ledger_entries", "audit_log"]) {
        assert!(!rows[table].is_empty(), "tenant B has nothing in {table}: nothing could be seen to change");
    }
    rows
}

/// Refused and reading calls change nothing in the whole database, B's rows included. What they did change is noted once.
async fn changed_nothing(suite: &Suite, before: &mut Rows) {
    let after = suite.rows().await;
    for changed in differences(before, &after) {
        suite.note(format!("calls that were refused changed something: {changed}"));
    }
    *before = after;
}

/// Nothing of what a tenant calls its things or asks models, and no secret of anybody, is in the gateway's log.
async fn logs_tell_nothing(mut suite: Suite, callers: &[Caller]) {
    let log = suite.stack.gateway.process().output();
    assert!(log.contains("INFO") && log.lines().count() > 3, "the gateway logs nothing: {log}");
    let mut secrets: Vec<String> = callers.iter().filter_map(|caller| caller.credential.secret()).collect();
    for side in [&suite.a, &suite.b] {
        secrets.extend(side.names.iter().chain(&side.secrets).cloned());
    }
    secrets.push(suite.stack.gateway.admin_token().to_owned());
    let told: Vec<&String> = secrets.iter().filter(|secret| log.contains(secret.as_str())).collect();
    assert!(told.is_empty(), "the gateway's log has {told:?}");
    assert!(suite.stack.gateway.process().ended().is_none(), "the gateway is still there, on {MODEL}");
}
