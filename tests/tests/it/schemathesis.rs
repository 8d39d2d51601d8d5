//! Schemathesis tries what nobody would write by hand: whatever an operation is asked, its answer is one that the
//! description names, in the form that it names, and never a server error. Fixed seed, bounded examples.

use caprock_tests::admin::Admin;
use caprock_tests::client::chat;
use caprock_tests::environment;
use caprock_tests::gateway::MODEL;
use caprock_tests::openapi::Document;
use caprock_tests::stack::{Stack, StackSpec};
use caprock_tests::wait::within;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// For one description. Both take far less; no CI run waits longer.
const LIMIT: Duration = Duration::from_secs(140);

/// Operations that are not tried here, each with its why: those that would take away what the run itself stands on, its
/// token, key or tenant. They are tried elsewhere.
const NOT_TRIED: [(&str, &str); 0] = [];

#[tokio::test]
async fn the_inference_api_answers_as_described_whatever_it_is_asked() {
    let stack = StackSpec::sim(&[]).start().await;
    run(&stack, "inference.json", &Document::inference(), &stack.gateway.url()).await;
    // After all that, the books hold what the engine generated, to the token.
    assert!(!stack.balanced().await.is_empty(), "no request was served");
}

#[tokio::test]
async fn the_admin_api_answers_as_described_whatever_it_is_asked() {
    let stack = StackSpec::sim(&[]).start().await;
    run(&stack, "admin.json", &Document::admin(), &stack.gateway.admin_url()).await;
}

/// Things that are there, for `hooks.py`: by operation and parameter of its path the id of one, or what makes another; and
/// ids for bodies, by field.
/// Calls that end a thing are each given one of their own, so that none of them takes away what others are tried with.
async fn things(stack: &Stack, document: &Document) -> Value {
    let operator = Admin::new(&stack.gateway.admin_url(), stack.gateway.admin_token());
    let tenant = operator.tenant("schemathesis").await;
    let project = operator.project(&tenant, "first").await;
    let account = operator.service_account(&tenant, &json!({ "name": "machine", "project_id": project })).await;
    let key = json!({ "name": "a key", "project_id": project });
    let (api_key, access_key) = (operator.api_key(&tenant, &key).await, operator.access_key(&tenant, &key).await);
    let token = json!({ "name": "a token", "role": "platform_viewer" });
    let token_id = operator.admin_token(&token).await.id;
    let (request_id, _) = stack.client().with_key(&api_key.secret).chat(&chat("Hi.", 8)).await;
    stack.client().record(&request_id).await;
    let alias = json!({ "target": MODEL });
    operator.call(Method::PUT, "/admin/v1/model-aliases/fast", Some(&alias)).await;

    let of_tenant = |what: &str| format!("/admin/v1/tenants/{tenant}/{what}");
    let model = json!({
        "id": "example.ends-{n}", "name": "Ends", "provider": "Example",
        "price_picousd_per_token": { "input": 1, "output": 1, "source": "a test" },
    });
    let named = |more: &Value| {
        let mut input = more.clone();
        input["name"] = json!("ends-{n}");
        input
    };
    // By what ends it: the parameter, and the call that makes another.
    let ends = [
        ("delete_tenant", "tenant_id", "POST", "/admin/v1/tenants".into(), named(&json!({}))),
        ("delete_project", "project_id", "POST", of_tenant("projects"), named(&json!({}))),
        ("delete_service_account", "service_account_id", "POST", of_tenant("service-accounts"), named(&key)),
        ("revoke_api_key", "key_id", "POST", of_tenant("api-keys"), named(&key)),
        ("revoke_access_key", "key_id", "POST", of_tenant("access-keys"), named(&key)),
        ("revoke_admin_token", "token_id", "POST", "/admin/v1/admin-tokens".into(), named(&token)),
        ("delete_catalog_model", "model_id", "POST", "/admin/v1/models".into(), model),
        ("delete_model_alias", "alias_id", "PUT", "/admin/v1/model-aliases/ends-{n}".into(), alias),
    ];
    let ids = |path: &str, parameter: &str| match parameter {
        "tenant_id" => Some(&tenant),
        "project_id" => Some(&project),
        "service_account_id" => Some(&account),
        "key_id" if path.contains("/access-keys/") => Some(&access_key.id),
        "key_id" => Some(&api_key.id),
        "token_id" => Some(&token_id),
        "request_id" => Some(&request_id),
        _ => None,
    };
    let mut things = json!({});
    for operation in document.operations() {
        for (_, parameter, _) in operation.parameters().into_iter().filter(|(place, ..)| *place == "path") {
            let end = ends.iter().find(|(id, ends, ..)| *id == operation.id && *ends == parameter);
            things[operation.id][parameter] = match (end, ids(operation.path, parameter)) {
                (Some((_, _, method, path, body)), _) => json!({ "method": method, "path": path, "body": body }),
                (None, Some(id)) => json!(id),
                (None, None) if parameter == "alias_id" => json!("fast"),
                // Of the catalog's models one that nothing else here asks for: it may be withdrawn.
                (None, None) if parameter == "model_id" => json!("amazon.nova-micro-v1:0"),
                // The inference API's examples name a model that is there.
                (None, None) => continue,
            };
        }
    }
    json!({ "in_paths": things, "in_bodies": { "project_id": project } })
}

async fn run(stack: &Stack, file: &str, document: &Document, url: &str) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = tests.join("schemathesis");
    let mut command = tokio::process::Command::new(environment::python().with_file_name("schemathesis"));
    command.args(["--no-color", "--config-file"]).arg(config.join("schemathesis.toml"));
    command.arg("run").arg(tests.join("../openapi").join(file)).args(["--url", url]);

    let ids: Vec<&str> = document.operations().iter().map(|operation| operation.id).collect();
    let left_out: Vec<&str> = NOT_TRIED.iter().map(|(id, _)| *id).filter(|id| ids.contains(id)).collect();
    for id in &left_out {
        command.args(["--exclude-operation-id", id]);
    }

    // It keeps what it found in the current folder.
    command.current_dir(stack.dir.path()).env_clear().envs(stack.gateway.dev_env()).kill_on_drop(true);
    command.env("PATH", std::env::var("PATH").unwrap_or_default()).env("HOME", stack.dir.path());
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("COLUMNS", "120");
    command.env("SCHEMATHESIS_HOOKS", config.join("hooks.py"));
    command.env("CAPROCK_TEST_THINGS", things(stack, document).await.to_string());
    let output = within(&format!("Schemathesis on {file}"), LIMIT, command.output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{file}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let tried = format!("Tested: {}\n", ids.len() - left_out.len());
    assert!(text.contains(&tried), "{file}: not every operation was tried:\n{text}");
}

#[test]
fn what_is_not_tried_is_there() {
    let (inference, admin) = (Document::inference(), Document::admin());
    let there: Vec<&str> =
        inference.operations().into_iter().chain(admin.operations()).map(|operation| operation.id).collect();
    for (id, why) in NOT_TRIED {
        assert!(there.contains(&id) && !why.is_empty(), "no operation is called {id}");
    }
}
