//! Streams that go on where they broke off.

use super::calls::{Call, Cut, Form};
use caprock_tests::client::Client;
use caprock_tests::stack::{Stack, StackSpec};
use futures::StreamExt;
use reqwest::{Method, Response};
use serde_json::Value;

async fn stack() -> Stack {
    StackSpec::sim(&["step-ms=10", "answer-tokens=12"]).start().await
}

fn story(key: &str) -> Call {
    Call::new(Form::ChatStream, key, "A story that breaks off.", 64)
}

/// Events with the empty lines that end them.
fn events(body: &[u8]) -> Vec<&str> {
    let events: Vec<&str> = std::str::from_utf8(body).unwrap().split_inclusive("\n\n").collect();
    assert!(events.iter().all(|event| event.ends_with("\n\n")), "{events:?}");
    events
}

/// Reads so many events and leaves.
async fn read_events(reply: Response, count: usize) -> String {
    assert_eq!(reply.status(), 200);
    let (mut pieces, mut text) = (reply.bytes_stream(), String::new());
    while text.matches("\n\n").count() < count {
        text.push_str(std::str::from_utf8(&pieces.next().await.expect("more events").unwrap()).unwrap());
    }
    text.split_inclusive("\n\n").take(count).collect()
}

async fn rest(call: &Call, client: &Client, last_event: usize) -> String {
    let reply = call.send_after(client, Some(last_event)).await;
    assert_eq!(reply.status(), 200);
    reply.text().await.unwrap()
}

#[tokio::test]
async fn a_stream_resumed_at_any_event_is_the_same_whole() {
    let stack = stack().await;
    let client = stack.client();
    let kept = story("kept");
    let whole = kept.whole(&client).await.bytes;
    let all = events(&whole);
    assert!(all.len() >= 12 + 4, "role, text, finish, usage and end: {all:?}");
    for (number, event) in all.iter().enumerate() {
        assert!(event.starts_with(&format!("id: {number}\ndata: ")), "{event}");
        assert_eq!(rest(&kept, &client, number).await, all[number + 1..].concat(), "after {number}, kept");
    }
    assert_eq!(rest(&kept, &client, all.len() + 5).await, "", "who has more than all gets nothing twice");

    // And while it is being generated: each of these has an answer of its own.
    for number in 0..all.len() {
        let call = story(&format!("live {number}"));
        let had = read_events(call.send(&client).await, number + 1).await;
        let rest = rest(&call, &client, number).await;
        let whole = call.whole(&client).await;
        assert!(whole.replayed);
        assert_eq!(format!("{had}{rest}").as_bytes(), whole.bytes, "broken after {number}");
        assert_eq!(events(&whole.bytes).len(), all.len());
    }
    assert_eq!(stack.balanced().await.len(), 1 + all.len(), "one generation for each key");
}

#[tokio::test]
async fn a_stream_of_bedrock_begins_again_whatever_the_caller_had() {
    let stack = stack().await;
    let client = stack.client();
    let call = Call::new(Form::ConverseStream, "bedrock", "A story that breaks off.", 64);
    let had = call.attempt(&client, Cut::InBody(300)).await;
    assert!(!had.whole && !had.bytes.is_empty());
    let joined = call.send_after(&client, Some(1)).await.bytes().await.unwrap();
    assert!(joined.starts_with(&had.bytes));
    assert_eq!(call.whole(&client).await.bytes, joined);
    assert_eq!(call.form.usage(&joined), (stack.balanced().await[0].input_tokens, 13));
}

#[tokio::test]
async fn only_a_streamed_answer_under_a_key_can_be_resumed() {
    let stack = stack().await;
    let client = stack.client();
    let streamed = story("k").body;
    let whole = Call::new(Form::Chat, "k", "Hello.", 4).body;
    for (key, last_event, body) in [(None, "3", &streamed), (Some("k"), "3", &whole), (Some("k"), "three", &streamed)] {
        let mut request = client.request(Method::POST, "/v1/chat/completions").header("last-event-id", last_event);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let reply = request.json(body).send().await.unwrap();
        assert_eq!(reply.status(), 400, "{key:?} {last_event}");
        assert_eq!(reply.json::<Value>().await.unwrap()["error"]["param"], "Last-Event-ID");
    }
    assert!(stack.balanced().await.is_empty());
    let reply = client.post("/v1/chat/completions", &streamed).await;
    assert!(!reply.text().await.unwrap().contains("id: "), "without a key nothing is numbered");
}
