//! Processes die in the middle of things. A caller gets a complete answer or a clear error; afterwards nothing is held
//! and each request has one terminal record.

use caprock_tests::client::{Client, chat, chat_streamed, request_id};
use caprock_tests::gateway::Database;
use caprock_tests::sse::{ChatStream, SseReader};
use caprock_tests::stack::{Stack, StackSpec};
use caprock_tests::wait::{SOON, until, within};
use caprock_tests::worker::Engine;
use serde_json::Value;
use std::time::Duration;

const ENDLESS: &[&str] = &["step-ms=10", "answer-tokens=100000"];

#[tokio::test]
async fn prefill_killed_in_mid_transfer_still_gives_a_complete_answer() {
    let mut spec = StackSpec::sim(&[]);
    spec.prefill = Engine::sim(&["prefill-rate=500"]); // two seconds for the prompt below, in four chunks
    let mut stack = spec.start().await;
    let client = stack.client();
    let prompt = "x".repeat(1000);
    let body = chat(&prompt, 16);
    let answer = tokio::spawn(async move { client.chat(&body).await });
    until("the first chunk has come", SOON, async || (received(&stack).await > 0.0).then_some(())).await;
    stack.prefill.kill();
    let (id, body) = within("the answer", SOON, answer).await.unwrap();
    assert!(body["usage"]["completion_tokens"].as_u64().unwrap() > 0);
    let record = stack.client().record(&id).await;
    let path = &record["path"]["prefill"];
    assert_eq!((path["at"].as_str(), path["reason"].as_str()), (Some("local"), Some("interrupted")), "{record}");

    // Without it, and with it again, answers are the same.
    let (_, without) = stack.client().chat(&chat(&prompt, 16)).await;
    assert_eq!(without["choices"], body["choices"]);
    stack.prefill.start_again();
    stack.prefill.ready().await;
    assert_eq!(stack.at_rest().await.len(), 2);
}

async fn received(stack: &Stack) -> f64 {
    let text = reqwest::get(format!("http://{}/metrics", stack.decode.address())).await.unwrap().text().await.unwrap();
    let sample = "caprock_worker_handoff_bytes_total{direction=\"received\"}";
    caprock_tests::worker::value_of(&text, sample).unwrap_or(0.0) // absent until the first byte
}

#[tokio::test]
async fn wherever_a_simulated_worker_dies_the_caller_gets_an_answer_or_an_error() {
    let at_prefill = ["prefill.before_chunk", "prefill.mid_transfer", "prefill.before_commit"];
    let at_decode = ["handoff.after_chunk", "handoff.before_commit", "decode.step:3", "decode.before_done"];
    for point in at_prefill.into_iter().chain(at_decode) {
        let crash = format!("crash={point}");
        let mut spec = StackSpec::sim(&[]);
        if at_prefill.contains(&point) {
            spec.prefill = Engine::sim(&[&crash]);
        } else {
            spec.decode = Engine::sim(&[&crash]);
        }
        let mut stack = spec.start().await;
        let reply = stack.client().post("/v1/chat/completions", &chat(&"x".repeat(600), 16)).await;
        let (id, status) = (request_id(&reply), reply.status());
        let body: Value = reply.json().await.unwrap();
        if at_prefill.contains(&point) {
            assert_eq!(status, 200, "{point}: decode computes the prompt itself: {body}");
        }
        match status.as_u16() {
            200 => assert!(body["usage"]["completion_tokens"].as_u64().unwrap() > 0, "{point}: {body}"),
            500..=599 => assert!(body["error"]["message"].is_string(), "{point}: {body}"),
            other => panic!("{point}: {other} {body}"),
        }
        stack.prefill.ready().await;
        stack.decode.ready().await;
        let outcome = stack.client().record(&id).await["outcome"].clone();
        assert_eq!(outcome, if status == 200 { "completed" } else { "failed" }, "{point}");
        answers_again(&stack.client()).await;
        stack.at_rest().await;
    }
}

#[tokio::test]
async fn decode_killed_in_mid_stream_ends_the_stream_with_a_clear_error() {
    let mut stack = StackSpec::sim(ENDLESS).start().await;
    let (id, mut reader) = begin_stream(&stack.client(), 5).await;
    stack.decode.kill();
    let mut error = None;
    let rest = async {
        while let Ok(Some(data)) = reader.next().await {
            if let Ok(chunk) = serde_json::from_str::<Value>(&data)
                && chunk["error"].is_object()
            {
                error = Some(chunk);
            }
        }
    };
    within("the stream ends", SOON, rest).await;
    let error = error.expect("the stream's last word is an error");
    assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    stack.decode.start_again();
    stack.decode.ready().await;
    let record = stack.client().record(&id).await;
    assert_eq!(record["outcome"], "failed");
    assert!(record["output_tokens"].as_u64().unwrap() >= 5, "what was streamed is counted: {record}");
    answers_again(&stack.client()).await;
    stack.at_rest().await;
}

#[tokio::test]
async fn gateway_killed_in_mid_stream_settles_after_its_restart_on_sqlite() {
    gateway_killed(Database::Sqlite).await;
}

#[tokio::test]
async fn gateway_killed_in_mid_stream_settles_after_its_restart_on_postgres() {
    gateway_killed(Database::Postgres).await;
}

async fn gateway_killed(database: Database) {
    let mut stack = StackSpec::sim(ENDLESS).on(database).start().await;
    let client = stack.client();
    let (finished, _) = client.chat(&chat("A whole one first.", 8)).await;
    let mut broken = Vec::new();
    for _ in 0..3 {
        broken.push(begin_stream(&client, 5).await);
    }
    stack.gateway.process().kill();
    let mut ids = Vec::new();
    for (id, mut reader) in broken {
        let ends = async {
            while let Ok(Some(data)) = reader.next().await {
                assert_ne!(data, "[DONE]")
            }
        };
        within("the caller notices", SOON, ends).await;
        ids.push(id);
    }
    stack.decode.idle().await; // a gateway that is gone holds nothing
    stack.gateway.serve().await;
    let lines = stack.balanced().await;
    assert_eq!(lines.len(), 4);
    for line in lines {
        let outcome = line.outcome.as_deref().unwrap();
        if line.request_id == finished {
            assert_eq!((outcome, line.output_tokens), ("completed", 8));
        } else {
            assert!(ids.contains(&line.request_id));
            // The worker outlived the gateway and remembers what it computed.
            assert_eq!(outcome, "recovered", "{line:?}");
            assert!(line.output_tokens >= 5, "{line:?}");
        }
    }
    answers_again(&stack.client()).await;
}

#[tokio::test]
async fn gateway_and_workers_killed_together_charge_nothing_that_nobody_remembers() {
    let mut stack = StackSpec::sim(ENDLESS).start().await;
    let (id, _reader) = begin_stream(&stack.client(), 5).await;
    stack.gateway.process().kill();
    stack.decode.kill();
    stack.prefill.kill();
    stack.prefill.start_again();
    stack.decode.start_again();
    stack.prefill.ready().await;
    stack.decode.ready().await;
    stack.gateway.serve().await;
    let lines = stack.at_rest().await;
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].request_id.as_str(), lines[0].outcome.as_deref()), (id.as_str(), Some("lost")));
    assert_eq!(lines[0].amount_nanousd, 0);
}

#[tokio::test]
async fn sigterm_gives_streams_their_grace_then_ends_them_properly() {
    let mut spec = StackSpec::sim(ENDLESS);
    spec.gateway = "shutdown_grace_ms = 5000".into(); // far more than the short stream needs, on a busy machine too
    let mut stack = spec.start().await;
    let client = stack.client();
    let short = client.post("/v1/chat/completions", &chat_streamed("A second's worth.", 60)).await;
    let short_id = request_id(&short);
    let long = client.post("/v1/chat/completions", &chat_streamed("Without end.", 5000)).await;
    let long_id = request_id(&long);
    stack.gateway.process().terminate();
    let both = async { tokio::join!(ChatStream::read(short), ChatStream::read(long)) };
    let (short, long) = within("both streams end", SOON, both).await;

    let short = short.expect("a stream that ends within the grace is whole");
    assert!(short.done && short.finish_reason() == Some("length"), "{:?}", short.chunks.last());
    let long = long.expect("the bytes of the other one end properly as well");
    assert!(long.error().is_some() || long.finish_reason().is_some(), "it says why: {:?}", long.chunks.last());
    let status = stack.gateway.process().ended_within(SOON).await;
    assert!(status.success(), "{status}");

    let lines = stack.balanced().await;
    let outcome = |id: &str| lines.iter().find(|line| line.request_id == id).and_then(|line| line.outcome.as_deref());
    assert_eq!((outcome(&short_id), outcome(&long_id)), (Some("completed"), Some("shutdown")));
}

#[tokio::test]
async fn a_decode_worker_told_to_stop_ends_what_runs_and_is_gone() {
    let mut stack = StackSpec::sim(&["step-ms=10", "answer-tokens=60"]).start().await;
    let reply = stack.client().post("/v1/chat/completions", &chat_streamed("Under a second.", 200)).await;
    stack.decode.terminate();
    let stream = within("the stream ends", SOON, ChatStream::read(reply)).await.expect("a whole stream");
    assert!(stream.done && stream.error().is_none());
    assert!(stack.decode.process().ended_within(SOON).await.success());
    stack.decode.start_again();
    stack.decode.ready().await;
    answers_again(&stack.client()).await;
    stack.at_rest().await;
}

/// Starts a stream and reads its first `deltas` pieces of text.
async fn begin_stream(
    client: &Client,
    deltas: usize,
) -> (String, SseReader<impl futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin + use<>>) {
    let reply = client.post("/v1/chat/completions", &chat_streamed("Tell me a story without an end.", 5000)).await;
    assert_eq!(reply.status(), 200);
    let id = request_id(&reply);
    let mut reader = SseReader::new(Box::pin(reply.bytes_stream()));
    let mut seen = 0;
    while seen < deltas {
        let data = within("a piece of text", SOON, reader.next()).await.unwrap().unwrap();
        let chunk: Value = serde_json::from_str(&data).unwrap();
        seen += usize::from(chunk["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty()));
    }
    (id, reader)
}

/// A gateway finds restarted workers by itself, soon.
async fn answers_again(client: &Client) {
    until("the gateway answers again", Duration::from_secs(30), async || {
        let reply = client.post("/v1/chat/completions", &chat("Again?", 4)).await;
        (reply.status() == 200).then_some(())
    })
    .await;
}
