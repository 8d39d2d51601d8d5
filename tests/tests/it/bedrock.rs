//! The Bedrock dialect over a simulated cluster.

use caprock_tests::client::{chat, converse};
use caprock_tests::gateway::{MODEL, STAND_IN};
use caprock_tests::stack::StackSpec;
use serde_json::{Value, json};

#[tokio::test]
async fn converse_and_its_stream_are_the_same_text_with_the_same_usage() {
    let stack = StackSpec::sim(&[]).start().await;
    let client = stack.client();

    let (_, whole) = client.converse(MODEL, &converse("Tell me of the river.", 64)).await;
    let message = &whole["output"]["message"];
    let text = message["content"][0]["text"].as_str().unwrap();
    assert!(!text.trim().is_empty());
    assert_eq!(message["role"], "assistant");
    assert_eq!(whole["stopReason"], "end_turn");
    assert!(whole["metrics"]["latencyMs"].is_u64());
    let usage = &whole["usage"];
    assert_eq!(
        usage["inputTokens"].as_u64().unwrap() + usage["outputTokens"].as_u64().unwrap(),
        usage["totalTokens"].as_u64().unwrap()
    );

    let (_, stream) = client.converse_stream(MODEL, &converse("Tell me of the river.", 64)).await;
    // No contentBlockStart: for text its `start` would be an empty union, which botocore refuses.
    assert_eq!(stream.shape(), ["messageStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"]);
    assert!(stream.events.iter().all(|event| event.message_type == "event"));
    assert_eq!(stream.text(), text);
    assert_eq!(stream.body("messageStart").unwrap()["role"], "assistant");
    assert_eq!(stream.body("messageStop").unwrap()["stopReason"], "end_turn");
    assert_eq!(&stream.body("metadata").unwrap()["usage"], usage);
    stack.at_rest().await;
}

#[tokio::test]
async fn both_dialects_send_the_model_the_same_prompt() {
    let stack = StackSpec::sim(&[]).start().await;
    let (_, one) = stack.client().converse(MODEL, &converse("Same?", 16)).await;
    let (_, other) = stack.client().chat(&chat("Same?", 16)).await;
    assert_eq!(one["output"]["message"]["content"][0]["text"], other["choices"][0]["message"]["content"]);
    assert_eq!(one["usage"]["inputTokens"], other["usage"]["prompt_tokens"]);
}

#[tokio::test]
async fn a_model_id_is_understood_however_clients_write_it() {
    let stack = StackSpec::sim(&[]).start().await;
    let written = [STAND_IN.to_owned(), STAND_IN.replace(':', "%3A")];
    for path in written.iter().flat_map(|id| ["converse", "converse-stream"].map(|call| format!("/model/{id}/{call}")))
    {
        let reply = stack.client().post(&path, &converse("Hi.", 8)).await;
        assert_eq!(reply.status(), 200, "{path}");
        let named = reply.headers().iter().any(|(name, value)| {
            name.as_str().starts_with("x-caprock-") && value.to_str().is_ok_and(|value| value.contains(MODEL))
        });
        assert!(named, "{path}: no header names the stand-in");
        assert!(reply.headers().contains_key("x-amzn-requestid"));
    }
}

#[tokio::test]
async fn limits_and_stop_sequences_have_their_own_stop_reasons() {
    let stack = StackSpec::sim(&["answer-tokens=40"]).start().await;
    let client = stack.client();
    let (_, cut) = client.converse(MODEL, &converse("Go on.", 5)).await;
    assert_eq!((&cut["stopReason"], &cut["usage"]["outputTokens"]), (&json!("max_tokens"), &json!(5)));

    let (_, whole) = client.converse(MODEL, &converse("Go on.", 64)).await;
    let text = whole["output"]["message"]["content"][0]["text"].as_str().unwrap();
    let word = text.split_whitespace().nth(6).unwrap();
    let mut body = converse("Go on.", 64);
    body["inferenceConfig"]["stopSequences"] = json!([word]);
    let (_, stopped) = client.converse(MODEL, &body).await;
    assert_eq!(stopped["stopReason"], "stop_sequence");
    assert!(!stopped["output"]["message"]["content"][0]["text"].as_str().unwrap().contains(word));
}

#[tokio::test]
async fn foundation_models_lists_the_catalog() {
    let stack = StackSpec::sim(&[]).start().await;
    let list: Value = stack.client().get("/foundation-models").await.json().await.unwrap();
    let models = list["modelSummaries"].as_array().unwrap();
    let nova = models.iter().find(|model| model["modelId"] == STAND_IN).expect("Nova is in the catalog");
    assert_eq!(nova["providerName"], "Amazon");
    assert!(nova["inputModalities"].as_array().is_some_and(|list| list.contains(&json!("TEXT"))), "{nova}");
    assert!(nova["modelArn"].as_str().is_some_and(|arn| arn.contains(STAND_IN)), "{nova}");
}
