//! The descriptions tell the truth: their examples fit their schemas, and each example request, sent to a running
//! gateway, is answered as described.

use caprock_tests::admin::Admin;
use caprock_tests::client::{chat, request_id};
use caprock_tests::gateway::MODEL;
use caprock_tests::openapi::{Document, Operation, examples};
use caprock_tests::stack::{Stack, StackSpec};
use reqwest::{Method, Url};
use serde_json::{Value, json};

#[test]
fn every_example_fits_its_schema_and_has_no_member_more() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    let mut note = |place: &str, result: Result<(), String>| {
        checked += 1;
        wrong.extend(result.err().map(|error| format!("{place}: {error}")));
    };
    for document in [Document::inference(), Document::admin()] {
        for (name, schema) in document.schemas() {
            examples(schema).into_iter().for_each(|example| note(name, document.check(schema, example)));
        }
        for operation in document.operations() {
            for (_, name, parameter) in operation.parameters() {
                if let Some(example) = parameter.get("example") {
                    note(&format!("{} {name}", operation.id), document.check(&parameter["schema"], example));
                }
            }
            let replies = operation.response_bodies().into_iter().map(|(_, body)| body);
            for body in operation.request_bodies().into_iter().chain(replies).filter(|body| body.is_json()) {
                body.examples().into_iter().for_each(|example| note(&body.place, body.check(example)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 150, "only {checked} examples were found");
}

#[test]
fn every_request_body_and_every_good_reply_in_json_has_an_example() {
    let mut bare = Vec::new();
    for document in [Document::inference(), Document::admin()] {
        for operation in document.operations() {
            let good = operation.response_bodies().into_iter().filter(|(status, _)| (200..300).contains(status));
            let bodies = operation.request_bodies().into_iter().chain(good.map(|(_, body)| body));
            bare.extend(bodies.filter(|body| body.is_json() && body.examples().is_empty()).map(|body| body.place));
            for (place, name, parameter) in operation.parameters() {
                if place == "path" && parameter.get("example").is_none() {
                    bare.push(format!("{} parameter {name}", operation.id));
                }
            }
        }
    }
    assert!(bare.is_empty(), "without an example: {}", bare.join(", "));
}

#[tokio::test]
async fn each_port_serves_the_committed_description() {
    let stack = StackSpec::sim(&[]).start().await;
    for (url, committed) in
        [(stack.gateway.url(), Document::inference()), (stack.gateway.admin_url(), Document::admin())]
    {
        let served: Value = reqwest::get(format!("{url}/openapi.json")).await.unwrap().json().await.unwrap();
        assert_eq!(&served, committed.json(), "at {url}");
    }
}

/// What an example can't know: ids of things that are there, headers that fit their state.
#[derive(Debug, Default)]
struct Prepared {
    /// Instead of the examples of parameters in path and query, by name. Of the query's, only those are sent that are
    /// required or stand here.
    parameters: Vec<(&'static str, String)>,
    /// Headers to send.
    headers: Vec<(&'static str, String)>,
    /// Instead of parts of an example body, by JSON pointer.
    body: Vec<(&'static str, Value)>,
}

/// How each operation's examples are made to fit the running gateway. An operation that is new is written down here.
async fn prepare(stack: &Stack, operation: &str) -> Prepared {
    match operation {
        // As they are written: the model that the examples name is the bundled one.
        "chat_completions"
        | "list_models"
        | "get_model"
        | "converse"
        | "converse_stream"
        | "list_foundation_models" => Prepared::default(),
        "healthz" | "readyz" | "metrics" | "openapi" => Prepared::default(),
        // As they are written: that model is compiled in, or new.
        "get_catalog"
        | "list_catalog_models"
        | "create_catalog_model"
        | "get_catalog_model"
        | "update_catalog_model"
        | "list_model_aliases"
        | "put_model_alias" => Prepared::default(),
        "delete_catalog_model" => {
            put_in_catalog(stack, Method::PATCH, "models/amazon.nova-lite-v1:0", json!({ "name": "Ours" })).await;
            Prepared::default()
        }
        "get_model_alias" | "delete_model_alias" => {
            put_in_catalog(stack, Method::PUT, "model-aliases/fast", json!({ "target": MODEL })).await;
            Prepared::default()
        }
        "get_request" | "get_tenant_request" => about_a_request(stack).await,
        // As they are written: no id in them, and a name that only this one uses.
        "create_tenant" | "list_tenants" | "list_admin_tokens" | "list_audit_log" | "export_audit_log"
        | "verify_audit_log" | "list_workers" => Prepared::default(),
        "create_admin_token" => Prepared { body: vec![("/expires_at", json!(tomorrow()))], ..Prepared::default() },
        "get_admin_token" | "update_admin_token" | "rotate_admin_token" | "revoke_admin_token" => {
            let input = json!({ "name": operation, "role": "platform_viewer" });
            let token = operator(stack).admin_token(&input).await.id;
            Prepared { parameters: vec![("token_id", token)], ..Prepared::default() }
        }
        // What a tenant has besides its keys.
        "get_tenant"
        | "update_tenant"
        | "suspend_tenant"
        | "resume_tenant"
        | "delete_tenant"
        | "get_tenant_limits"
        | "set_tenant_limits"
        | "get_tenant_model_access"
        | "set_tenant_model_access"
        | "list_projects"
        | "create_project"
        | "get_project"
        | "update_project"
        | "delete_project"
        | "get_project_limits"
        | "set_project_limits"
        | "get_project_model_access"
        | "set_project_model_access"
        | "list_service_accounts"
        | "get_service_account"
        | "update_service_account"
        | "delete_service_account"
        | "list_api_keys"
        | "list_access_keys"
        | "list_requests"
        | "get_usage"
        | "list_tenant_audit_log" => about(stack, operation).await,
        "create_service_account" => {
            let prepared = about(stack, operation).await;
            let project = prepared.parameter("project_id");
            Prepared { body: vec![("/project_id", json!(project))], ..prepared }
        }
        "create_api_key" | "create_access_key" => {
            let prepared = about(stack, operation).await;
            let project = prepared.parameter("project_id");
            Prepared { body: vec![("/project_id", json!(project)), ("/expires_at", json!(tomorrow()))], ..prepared }
        }
        "get_api_key" | "update_api_key" | "rotate_api_key" | "revoke_api_key" | "get_api_key_limits"
        | "set_api_key_limits" => {
            let prepared = about(stack, operation).await;
            let (tenant, input) = prepared.key(operation);
            let key = operator(stack).api_key(tenant, &input).await.id;
            prepared.and("key_id", key)
        }
        "get_access_key"
        | "update_access_key"
        | "rotate_access_key"
        | "revoke_access_key"
        | "get_access_key_limits"
        | "set_access_key_limits" => {
            let prepared = about(stack, operation).await;
            let (tenant, input) = prepared.key(operation);
            let key = operator(stack).access_key(tenant, &input).await.id;
            prepared.and("key_id", key)
        }
        other => panic!("how are the examples of `{other}` tried? Say so in `prepare`, in tests/tests/it/openapi.rs"),
    }
}

impl Prepared {
    fn parameter(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(known, _)| *known == name);
        found.map_or_else(|| panic!("no {name} was made"), |(_, value)| value)
    }

    fn and(mut self, name: &'static str, value: String) -> Prepared {
        self.parameters.push((name, value));
        self
    }

    /// Whose a key is to be, and what it takes to make it.
    fn key(&self, name: &str) -> (&str, Value) {
        (self.parameter("tenant_id"), json!({ "name": name, "project_id": self.parameter("project_id") }))
    }
}

fn operator(stack: &Stack) -> Admin {
    Admin::new(&stack.gateway.admin_url(), stack.gateway.admin_token())
}

/// A tenant of its own, with a project and a service account.
async fn about(stack: &Stack, operation: &str) -> Prepared {
    let operator = operator(stack);
    // Examples of one operation may be many, and no two tenants have one name.
    let tenant = operator.tenant(&format!("{operation}-{:08x}", rand::random::<u32>())).await;
    let project = operator.project(&tenant, "first").await;
    let input = json!({ "name": "machine", "project_id": project });
    let account = operator.service_account(&tenant, &input).await;
    Prepared::default().and("tenant_id", tenant).and("project_id", project).and("service_account_id", account)
}

async fn about_a_request(stack: &Stack) -> Prepared {
    let client = stack.client();
    let (id, _) = client.chat(&chat("Hi.", 8)).await;
    let record = client.record(&id).await;
    let tenant = record["tenant_id"].as_str().unwrap().to_owned();
    Prepared::default().and("request_id", id).and("tenant_id", tenant)
}

/// Examples end in a year that will be over one day.
fn tomorrow() -> String {
    let tomorrow = time::OffsetDateTime::now_utc() + time::Duration::days(1);
    tomorrow.format(&time::format_description::well_known::Rfc3339).unwrap()
}

async fn put_in_catalog(stack: &Stack, method: Method, path: &str, body: Value) {
    let url = format!("{}/admin/v1/{path}", stack.gateway.admin_url());
    let call = reqwest::Client::new().request(method, url).bearer_auth(stack.gateway.admin_token()).json(&body);
    let reply = call.send().await.unwrap();
    assert!(reply.status().is_success(), "{}: {}", reply.status(), reply.text().await.unwrap());
}

#[tokio::test]
async fn every_example_request_is_answered_with_what_the_description_says() {
    let stack = StackSpec::sim(&[]).start().await;
    let ports = [
        (Document::inference(), stack.gateway.url(), stack.gateway.credential("CAPROCK_API_KEY")),
        (Document::admin(), stack.gateway.admin_url(), stack.gateway.admin_token()),
    ];
    let mut wrong = Vec::new();
    for (document, url, token) in &ports {
        for operation in document.operations() {
            let bodies = operation.request_bodies();
            let examples: Vec<Option<&Value>> = match bodies.first() {
                Some(body) => body.examples().into_iter().map(Some).collect(),
                None => vec![None],
            };
            for example in examples {
                // Anew for each: what the last one did may have used it up.
                let prepared = prepare(&stack, operation.id).await;
                if let Err(error) = try_example(url, token, &operation, prepared, example).await {
                    wrong.push(format!("{} {}: {error}", operation.method, operation.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Sends an example; the reply must be a good one, and as documented.
async fn try_example(
    url: &str,
    token: &str,
    operation: &Operation<'_>,
    prepared: Prepared,
    example: Option<&Value>,
) -> Result<(), String> {
    let url = with_parameters(url, operation, &prepared)?;
    let method: Method = operation.method.to_uppercase().parse().unwrap();
    let mut request = reqwest::Client::new().request(method, url);
    if operation.is_secured() {
        request = request.bearer_auth(token);
    }
    for (name, value) in prepared.headers {
        request = request.header(name, value);
    }
    if let Some(example) = example {
        let mut body = example.clone();
        for (pointer, value) in prepared.body {
            *body.pointer_mut(pointer).ok_or_else(|| format!("the example has no {pointer}"))? = value;
        }
        request = request.json(&body);
    }
    let reply = request.send().await.map_err(|error| error.to_string())?;
    let (status, id) = (reply.status(), request_id(&reply));
    let content_type = reply.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    let body = reply.bytes().await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{status} ({id}): {}", String::from_utf8_lossy(&body)));
    }
    operation.check_reply(status.as_u16(), content_type.as_deref(), &body)
}

fn with_parameters(url: &str, operation: &Operation<'_>, prepared: &Prepared) -> Result<Url, String> {
    let mut path = operation.path.to_owned();
    let mut query = Vec::new();
    for (place, name, parameter) in operation.parameters() {
        let given = prepared.parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        let example = || match &parameter["example"] {
            Value::Null => Err(format!("no value for {name}")),
            Value::String(text) => Ok(text.clone()),
            other => Ok(other.to_string()),
        };
        match (place, given) {
            ("path", given) => path = path.replace(&format!("{{{name}}}"), &given.map_or_else(example, Ok)?),
            ("query", Some(value)) => query.push((name, value)),
            ("query", None) if parameter["required"] == true => query.push((name, example()?)),
            _ => {}
        }
    }
    let mut url = Url::parse(&format!("{url}{path}")).map_err(|error| error.to_string())?;
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}
