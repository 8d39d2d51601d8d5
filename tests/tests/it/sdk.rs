//! The official SDKs, as their users install and configure them, against the real model.

use caprock_tests::environment;
use caprock_tests::stack::{Stack, StackSpec};
use caprock_tests::wait::within;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

#[tokio::test]
async fn the_openai_sdk_gets_english_and_its_true_usage() {
    let stack = StackSpec::real().start().await;
    check(&stack, run(&stack, "openai_chat.py").await, 3).await;
}

#[tokio::test]
async fn boto3_gets_english_and_its_true_usage_signed_and_with_a_bearer_key_over_tls() {
    let stack = StackSpec::real().start().await;
    check(&stack, run(&stack, "boto3_converse.py").await, 3).await;
}

/// Runs a script with the environment of dev.env and nothing else; it prints a list of what it got.
async fn run(stack: &Stack, script: &str) -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(script);
    let mut command = tokio::process::Command::new(environment::python());
    command.arg(file).env_clear().envs(stack.gateway.dev_env()).kill_on_drop(true);
    command.env("PATH", std::env::var("PATH").unwrap_or_default()).env("HOME", stack.dir.path());
    let output = within(script, Duration::from_secs(120), command.output()).await.unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn check(stack: &Stack, results: Vec<Value>, at_least: usize) {
    assert!(results.len() >= at_least);
    for result in &results {
        let text = result["text"].as_str().unwrap();
        // Robust against another wording: enough words, some that no English does without, and the thing asked about.
        let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        let common = ["the", "is", "a", "of", "that"].iter().filter(|word| words.iter().any(|had| had == **word));
        assert!(words.len() >= 15 && common.count() >= 3, "not English: {result}");
        assert!(text.to_lowercase().contains("gravity"), "not an answer: {result}");
        let record = stack.client().record(result["request_id"].as_str().unwrap()).await;
        assert_eq!(record["outcome"], "completed");
        assert_eq!(record["input_tokens"], result["input_tokens"], "{result} {record}");
        assert_eq!(record["output_tokens"], result["output_tokens"], "{result} {record}");
        assert_eq!(record["path"]["engine"], "llama");
        assert_eq!(record["path"]["prefill"]["at"], "remote");
    }
    assert_eq!(stack.at_rest().await.len(), results.len());
}
