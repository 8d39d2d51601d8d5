//! Schemathesis tries what nobody would write by hand: whatever an operation is asked, its answer is one that the
//! description names, in the form that it names, and never a server error. Fixed seed, bounded examples.

use caprock_tests::client::chat;
use caprock_tests::environment;
use caprock_tests::openapi::Document;
use caprock_tests::stack::{Stack, StackSpec};
use caprock_tests::wait::within;
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

/// Things that are there, by the name of the path parameter that takes their ids.
async fn things(stack: &Stack) -> Value {
    let client = stack.client();
    let (request_id, _) = client.chat(&chat("Hi.", 8)).await;
    client.record(&request_id).await;
    // Of the catalog's models one that nothing else here asks for: it may be withdrawn.
    json!({ "request_id": request_id, "model_id": "amazon.nova-micro-v1:0", "alias_id": "fast" })
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
    command.env("CAPROCK_TEST_THINGS", things(stack).await.to_string());
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
