//! The descriptions tell the truth: their examples fit their schemas, and each example request, sent to a running
//! gateway, is answered as described.

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
    assert!(checked > 30, "only {checked} examples were found");
}

#[test]
fn every_request_body_and_every_good_reply_in_json_has_an_example() {
    let mut bare = Vec::new();
    for document in [Document::inference(), Document::admin()] {
        for operation in document.operations().into_iter().filter(|operation| !lacks_examples(operation)) {
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

/// The admin API's operations but one have no complete examples yet; Schemathesis asks them, and in-process tests do.
fn lacks_examples(operation: &Operation<'_>) -> bool {
    operation.path.starts_with("/admin/v1/") && operation.id != "get_request"
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
        "get_request" => {
            Prepared { parameters: vec![("request_id", a_settled_request(stack).await)], ..Prepared::default() }
        }
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
        other => panic!("how are the examples of `{other}` tried? Say so in `prepare`, in tests/tests/it/openapi.rs"),
    }
}

async fn put_in_catalog(stack: &Stack, method: Method, path: &str, body: Value) {
    let url = format!("{}/admin/v1/{path}", stack.gateway.admin_url());
    let call = reqwest::Client::new().request(method, url).bearer_auth(stack.gateway.admin_token()).json(&body);
    let reply = call.send().await.unwrap();
    assert!(reply.status().is_success(), "{}: {}", reply.status(), reply.text().await.unwrap());
}

async fn a_settled_request(stack: &Stack) -> String {
    let client = stack.client();
    let (id, _) = client.chat(&chat("Hi.", 8)).await;
    client.record(&id).await;
    id
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
        for operation in document.operations().into_iter().filter(|operation| !lacks_examples(operation)) {
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
