//! Money: what a caller is told, what the operator sees and what is written down are one; and it is written once,
//! whenever the caller leaves.

use caprock_tests::client::{chat, chat_streamed, converse};
use caprock_tests::gateway::{Database, MODEL};
use caprock_tests::stack::{Stack, StackSpec};
use caprock_tests::wait::{SOON, until, within};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn what_the_caller_is_told_is_what_the_books_say_on_sqlite() {
    usage_equals_ledger(Database::Sqlite).await;
}

#[tokio::test]
async fn what_the_caller_is_told_is_what_the_books_say_on_postgres() {
    usage_equals_ledger(Database::Postgres).await;
}

async fn usage_equals_ledger(database: Database) {
    let stack = StackSpec::sim(&[]).on(database).start().await;
    let client = stack.client();
    let mut told: Vec<(String, u64, u64)> = Vec::new();
    for max_tokens in [1, 7, 64] {
        let text = format!("At most {max_tokens} words.");
        let (id, body) = client.chat(&chat(&text, max_tokens)).await;
        told.push(counts(id, &body["usage"], "prompt_tokens", "completion_tokens"));
        let (id, stream) = client.chat_stream(&chat_streamed(&text, max_tokens)).await;
        told.push(counts(id, stream.usage().unwrap(), "prompt_tokens", "completion_tokens"));
        let (id, body) = client.converse(MODEL, &converse(&text, max_tokens)).await;
        told.push(counts(id, &body["usage"], "inputTokens", "outputTokens"));
        let (id, stream) = client.converse_stream(MODEL, &converse(&text, max_tokens)).await;
        told.push(counts(id, &stream.body("metadata").unwrap()["usage"], "inputTokens", "outputTokens"));
    }
    let lines = stack.balanced().await;
    assert_eq!(lines.len(), told.len());
    for (id, input, output) in told {
        let record = client.record(&id).await;
        assert_eq!((record["input_tokens"].as_u64(), record["output_tokens"].as_u64()), (Some(input), Some(output)));
        assert_eq!(record["outcome"], "completed");
        assert_eq!(record["path"]["engine"], "sim");
        assert_eq!(record["path"]["decode"], "decode-1");
        assert_eq!(record["path"]["prefill"]["at"], "remote");
        let entry = &record["ledger_entry"];
        assert_eq!(entry["amount_nanousd"].as_i64().unwrap(), rated(entry, input, output), "{record}");
        let line = lines.iter().find(|line| line.request_id == id).unwrap();
        assert_eq!((line.input_tokens, line.output_tokens), (input as i64, output as i64));
        assert_eq!(line.amount_nanousd, entry["amount_nanousd"].as_i64().unwrap());
        let shown: Value = serde_json::from_str(&stack.gateway.run_to_end("request", &["show", &id, "--json"]).await)
            .expect("`show` prints JSON");
        assert_eq!(shown, record);
    }
}

fn counts(id: String, usage: &Value, input: &str, output: &str) -> (String, u64, u64) {
    (id, usage[input].as_u64().unwrap(), usage[output].as_u64().unwrap())
}

/// Prices are pico-USD per token, amounts nano-USD, rounded up once per bucket.
fn rated(entry: &Value, input: u64, output: u64) -> i64 {
    let bucket = |name: &str, tokens: u64| (entry[name].as_i64().unwrap() as i128 * tokens as i128 + 999) / 1000;
    (bucket("input_picousd_per_token", input) + bucket("output_picousd_per_token", output)) as i64
}

#[tokio::test]
async fn a_client_gone_before_its_head_is_complete_leaves_nothing() {
    let stack = slow_stack().await;
    let request = raw_request(&stack, 200);
    let head = request.find("\r\n\r\n").unwrap();
    let mut socket = connect(&stack).await;
    socket.write_all(&request.as_bytes()[..head]).await.unwrap();
    drop(socket);
    still_works_and_wrote_only(&stack, 0).await;
}

#[tokio::test]
async fn a_client_gone_in_its_body_leaves_nothing() {
    let stack = slow_stack().await;
    let request = raw_request(&stack, 200);
    let mut socket = connect(&stack).await;
    socket.write_all(&request.as_bytes()[..request.len() - 20]).await.unwrap();
    drop(socket);
    still_works_and_wrote_only(&stack, 0).await;
}

#[tokio::test]
async fn a_client_gone_before_the_first_token_pays_for_no_output() {
    // Ten prompt tokens a second: the first token is minutes away.
    let stack = StackSpec::sim(&["prefill-rate=10"]).start().await;
    let mut socket = connect(&stack).await;
    socket.write_all(raw_request(&stack, 200).as_bytes()).await.unwrap();
    until("decode holds a slot", SOON, async || (stack.decode.info().await.load.running == 1).then_some(())).await;
    drop(socket);
    let lines = stack.balanced().await;
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].outcome.as_deref(), lines[0].output_tokens), (Some("client_gone"), 0));
}

#[tokio::test]
async fn a_client_gone_in_mid_stream_pays_for_what_was_generated_and_stops_it() {
    let stack = slow_stack().await;
    let mut socket = connect(&stack).await;
    socket.write_all(raw_request(&stack, 5000).as_bytes()).await.unwrap();
    let seen = read_until_count(&mut socket, "chat.completion.chunk", 5).await;
    drop(socket);
    let lines = stack.balanced().await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].outcome.as_deref(), Some("client_gone"));
    assert!(lines[0].output_tokens >= 3 && lines[0].output_tokens < 4000, "{lines:?} after {seen}");
    let record = stack.client().record(&lines[0].request_id).await;
    assert_eq!(record["ledger_entry"]["amount_nanousd"].as_i64(), Some(lines[0].amount_nanousd));
}

#[tokio::test]
async fn a_client_gone_at_the_last_byte_pays_for_the_whole_answer() {
    let stack = StackSpec::sim(&[]).start().await;
    const ROUNDS: usize = 50;
    for _ in 0..ROUNDS {
        let mut socket = connect(&stack).await;
        socket.write_all(raw_request(&stack, 16).as_bytes()).await.unwrap();
        read_until_count(&mut socket, "data: [DONE]", 1).await;
        // Closed with a reset: not even the end of the chunked body is waited for.
        socket.set_zero_linger().unwrap();
        drop(socket);
    }
    let lines = stack.balanced().await;
    assert_eq!(lines.len(), ROUNDS);
    for line in lines {
        assert_eq!(line.outcome.as_deref(), Some("completed"), "{line:?}");
        assert!(line.output_tokens > 0);
    }
}

/// Slow enough to leave in the middle: a token each 10 ms, and answers that don't end.
async fn slow_stack() -> Stack {
    StackSpec::sim(&["step-ms=10", "answer-tokens=100000"]).start().await
}

async fn connect(stack: &Stack) -> TcpStream {
    TcpStream::connect(stack.gateway.address()).await.unwrap()
}

/// A streamed chat request, byte for byte.
fn raw_request(stack: &Stack, max_tokens: u32) -> String {
    let body = chat_streamed("Tell me a long story of the river.", max_tokens).to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        stack.gateway.credential("CAPROCK_API_KEY"),
        body.len()
    )
}

/// Reads until `needle` has come `times` times; gives everything read.
async fn read_until_count(socket: &mut TcpStream, needle: &str, times: usize) -> String {
    let mut seen = Vec::new();
    let read = async {
        loop {
            let text = String::from_utf8_lossy(&seen).into_owned();
            if text.matches(needle).count() >= times {
                return text;
            }
            let length = socket.read_buf(&mut seen).await.unwrap();
            assert!(length > 0, "the gateway closed the connection after: {text}");
        }
    };
    within(&format!("{times} × {needle}"), SOON, read).await
}

async fn still_works_and_wrote_only(stack: &Stack, lines: usize) {
    assert_eq!(stack.balanced().await.len(), lines);
    let (_, body) = stack.client().chat(&chat("Still there?", 4)).await;
    assert_eq!(body["usage"]["completion_tokens"], 4);
    assert_eq!(stack.balanced().await.len(), lines + 1);
}
