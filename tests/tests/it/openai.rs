//! The OpenAI dialect over a simulated cluster, whose answers are the same each time.

use caprock_tests::client::{chat, chat_streamed};
use caprock_tests::gateway::{MODEL, STAND_IN};
use caprock_tests::sse::ChatStream;
use caprock_tests::stack::StackSpec;
use serde_json::{Value, json};

#[tokio::test]
async fn a_chat_answer_and_its_stream_are_the_same_text_with_the_same_usage() {
    let stack = StackSpec::sim(&[]).start().await;
    let client = stack.client();

    let (id, whole) = client.chat(&chat("Tell me of the river.", 64)).await;
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(!text.trim().is_empty());
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["model"], MODEL);
    assert_eq!(whole["choices"][0]["message"]["role"], "assistant");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    assert_usage_adds_up(&whole["usage"]);

    let (stream_id, stream) = client.chat_stream(&chat_streamed("Tell me of the river.", 64)).await;
    assert_ne!(id, stream_id);
    assert!(stream.done, "a stream ends with [DONE]");
    assert_eq!(stream.text(), text);
    assert_eq!(stream.finish_reason(), Some("stop"));
    assert_eq!(stream.chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(stream.chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk"));
    assert!(stream.chunks.iter().all(|chunk| chunk["id"] == stream.chunks[0]["id"]));
    let usage = stream.usage().expect("include_usage was asked for");
    assert_eq!(usage, &whole["usage"]);
    let last = stream.chunks.last().unwrap();
    assert_eq!(last["choices"], json!([]), "usage comes last, in a chunk without choices");
    stack.at_rest().await;
}

#[tokio::test]
async fn usage_is_streamed_only_when_asked_for() {
    let stack = StackSpec::sim(&[]).start().await;
    let mut body = chat_streamed("Hello.", 32);
    body.as_object_mut().unwrap().remove("stream_options");
    let (_, stream) = stack.client().chat_stream(&body).await;
    assert!(stream.done);
    assert_eq!(stream.usage(), None);
}

#[tokio::test]
async fn max_tokens_and_stop_texts_end_an_answer_and_say_so() {
    let stack = StackSpec::sim(&["answer-tokens=40"]).start().await;
    let client = stack.client();

    let (_, cut) = client.chat(&chat("Go on.", 5)).await;
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    assert_eq!(cut["usage"]["completion_tokens"], 5);

    let (_, whole) = client.chat(&chat("Go on.", 64)).await;
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    let word = text.split_whitespace().nth(6).unwrap();
    let mut body = chat("Go on.", 64);
    body["stop"] = json!([word]);
    let (_, stopped) = client.chat(&body).await;
    let shorter = stopped["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    assert!(text.starts_with(shorter) && !shorter.contains(word), "{shorter:?} is {text:?} up to {word:?}");
}

#[tokio::test]
async fn every_answer_that_a_stand_in_gives_names_it() {
    let stack = StackSpec::sim(&[]).start().await;
    for stream in [false, true] {
        let mut body = if stream { chat_streamed("Who are you?", 16) } else { chat("Who are you?", 16) };
        body["model"] = json!(STAND_IN);
        let reply = stack.client().post("/v1/chat/completions", &body).await;
        assert_eq!(reply.status(), 200);
        let named = reply.headers().iter().any(|(name, value)| {
            name.as_str().starts_with("x-caprock-") && value.to_str().is_ok_and(|value| value.contains(MODEL))
        });
        assert!(named, "no header names {MODEL}: {:?}", reply.headers());
    }
}

#[tokio::test]
async fn models_lists_what_answers() {
    let stack = StackSpec::sim(&[]).start().await;
    let list: Value = stack.client().get("/v1/models").await.json().await.unwrap();
    assert_eq!(list["object"], "list");
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect();
    assert!(ids.contains(&MODEL) && ids.contains(&STAND_IN), "{ids:?}");
}

#[tokio::test]
async fn the_other_path_of_chat_answers_the_same() {
    let stack = StackSpec::sim(&[]).start().await;
    let (_, one) = stack.client().chat(&chat("Twice.", 16)).await;
    let other: Value =
        stack.client().post("/openai/v1/chat/completions", &chat("Twice.", 16)).await.json().await.unwrap();
    assert_eq!(one["choices"], other["choices"]);
}

#[tokio::test]
async fn many_streams_at_once_over_one_http2_connection_each_get_their_own_answer() {
    let stack = StackSpec::sim(&["step-ms=2"]).start().await;
    let client = stack.client().over_h2c();
    let texts: Vec<String> = (0..8).map(|n| format!("Question number {n}.")).collect();
    let mut alone = Vec::new();
    for text in &texts {
        alone.push(client.chat_stream(&chat_streamed(text, 24)).await.1.text());
    }
    let together = texts.iter().map(|text| async {
        let reply = client.post("/v1/chat/completions", &chat_streamed(text, 24)).await;
        assert_eq!(reply.version(), reqwest::Version::HTTP_2);
        ChatStream::read(reply).await.unwrap().text()
    });
    assert_eq!(futures::future::join_all(together).await, alone);
    assert_eq!(stack.at_rest().await.len(), 2 * texts.len());
}

fn assert_usage_adds_up(usage: &Value) {
    let count = |name: &str| usage[name].as_u64().unwrap_or_else(|| panic!("no {name} in {usage}"));
    assert!(count("prompt_tokens") > 0 && count("completion_tokens") > 0);
    assert_eq!(count("prompt_tokens") + count("completion_tokens"), count("total_tokens"));
}
