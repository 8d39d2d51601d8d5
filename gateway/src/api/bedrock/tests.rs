//! Converse, from JSON to the canonical request and from events to bytes.

use super::*;
use crate::api::answer::Block;
use crate::api::openai::tests::all_kinds;
use crate::error::Limit;
use crate::inference::{Event, Finish, Finished, ToolStep, Usage};
use aws_smithy_eventstream::frame::read_message_from;
use bytes::{Buf, Bytes};
use cluster_protocol::{Counts, Path as WorkerPath, PrefillPath, Timings, limits};
use http_body_util::BodyExt;
use serde_json::{Value, json as value};
use std::time::Duration;

fn translated(body: &Value) -> Result<inference::Request> {
    let wire: ConverseRequest = json::parse(body.to_string().as_bytes())?;
    let id = RequestId::parse("req_0198c0de").unwrap();
    translate::request(id, "us.amazon.nova-lite-v1:0".into(), wire, false)
}

fn text(text: &str) -> Event {
    Event::Text {
        choice: 0,
        text: text.into(),
        logprobs: Vec::new(),
        counts: Counts { input_tokens: 9, output_tokens: 1 },
    }
}

fn finished(reason: Finish) -> Finished {
    let prefill = PrefillPath::Remote { prefill_id: "p1".into(), kv_bytes: 1, chunks: 1 };
    let path = WorkerPath { engine: "llama".into(), decode: "d1".into(), prefill };
    let usage = Usage { input_tokens: 7, cache_read_tokens: 2, output_tokens: 4, ..Usage::default() };
    Finished {
        reasons: vec![reason],
        usage,
        cost: None,
        latency_ms: 40,
        ttft_ms: 10,
        timings: Timings::default(),
        path,
    }
}

async fn streamed(events: Vec<Event>) -> Bytes {
    let mut encoder = stream::Encoder::default();
    let opening = encoder.opening();
    let body = answer::stream(Reader::from_events(events), opening, move |event| encoder.encode(event));
    body.collect().await.unwrap().to_bytes()
}

/// Each frame's headers and payload on a line, read by AWS's own decoder.
fn frames(mut bytes: Bytes) -> String {
    let mut lines = String::new();
    while bytes.has_remaining() {
        let message = read_message_from(&mut bytes).unwrap();
        for header in message.headers() {
            lines += &format!("{}={} ", header.name().as_str(), header.value().as_string().unwrap().as_str());
        }
        lines += &format!("{}\n", String::from_utf8_lossy(message.payload()));
    }
    lines
}

#[test]
fn a_request_with_everything_becomes_canonical() {
    let body = value!({
        "system": [{"text": "Be brief."}, {"text": "In English."}],
        "messages": [
            {"role": "user", "content": [{"text": "Hi "}, {"text": "there", "image": null}]},
            {"role": "assistant", "content": [{"text": "Hello."}]},
            {"role": "system", "content": [{"text": "Now in German."}]},
            {"role": "user", "content": [{"text": "Again"}]},
        ],
        "inferenceConfig": {"maxTokens": 32, "temperature": 0.5, "topP": 0.9, "stopSequences": ["a"]},
        "additionalModelRequestFields": {"top_k": 40, "other": true},
        "additionalModelResponseFieldPaths": ["/a"], "requestMetadata": {"a": "b"},
        "performanceConfig": {"latency": "standard"}, "serviceTier": {"type": "default"}, "aMemberOfTomorrow": {},
    });
    insta::assert_debug_snapshot!(translated(&body).unwrap());
}

#[test]
fn empty_members_that_clients_send_mean_nothing() {
    let body = value!({
        "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
        "system": [], "inferenceConfig": {}, "additionalModelRequestFields": {}, "outputConfig": {"effort": "low"},
    });
    let request = translated(&body).unwrap();
    assert_eq!(request.messages.len(), 1);
    assert_eq!((request.sampling, request.max_tokens), (inference::Sampling::default(), None));
}

#[test]
fn top_k_is_read_where_novas_documentation_puts_it() {
    let top_k = |fields: Value| {
        let messages = value!([{"role": "user", "content": [{"text": "Hi"}]}]);
        let body = value!({"messages": messages, "additionalModelRequestFields": fields});
        translated(&body).unwrap().sampling.top_k
    };
    assert_eq!(top_k(value!({"inferenceConfig": {"topK": 20}})), Some(20));
    assert_eq!(top_k(value!({"inferenceConfig": {"top_k": 20}, "topK": 20})), Some(20));
    assert_eq!(top_k(value!({"inferenceConfig": {}, "reasoningConfig": {"type": "disabled"}})), None);
    assert_eq!(top_k(value!({"inferenceConfig": null, "reasoningConfig": null})), None);
}

fn tool(name: &str) -> Value {
    value!({"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object"}}}})
}

fn called(id: &str, input: &Value) -> Value {
    value!({"role": "assistant", "content": [{"toolUse": {"toolUseId": id, "name": "a", "input": input}}]})
}

#[test]
fn tools_calls_and_results_become_canonical_and_schemas_keep_their_order() {
    let body = r#"{
        "toolConfig": {
            "tools": [
                {"toolSpec": {"name": "get_weather", "description": "Weather.", "strict": true, "inputSchema": {
                    "json": {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "number"}}}}}},
                {"toolSpec": {"name": "bare", "inputSchema": {}}}
            ],
            "toolChoice": {"any": {}}
        },
        "outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {
            "name": "n", "schema": "{\"type\": \"object\", \"properties\": {\"b\": {}, \"a\": {}}}"}}}},
        "messages": [
            {"role": "user", "content": [{"text": "Weather?"}]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}},
                {"text": "Looking."},
                {"toolUse": {"toolUseId": "tooluse_1", "name": "get_weather", "input": {"z": 1, "a": [ ]}}},
                {"toolUse": {"toolUseId": "tooluse_2", "name": "bare", "input": {}}}
            ]},
            {"role": "user", "content": [
                {"text": "Go on."},
                {"toolResult": {"toolUseId": "tooluse_2", "content": [{"json": {"b": 1, "a": 2}}, {"text": "and"}]}},
                {"toolResult": {"toolUseId": "tooluse_1", "content": [{"text": "no"}], "status": "error"}}
            ]}
        ]
    }"#;
    let wire: ConverseRequest = json::parse(body.as_bytes()).unwrap();
    let id = RequestId::parse("req_0198c0de").unwrap();
    insta::assert_debug_snapshot!(translate::request(id, "m".into(), wire, false).unwrap());
}

#[test]
fn a_tool_is_chosen_by_its_name() {
    let config = value!({"tools": [tool("a")], "toolChoice": {"tool": {"name": "a"}}});
    let body = value!({"messages": [{"role": "user", "content": [{"text": "Hi"}]}], "toolConfig": config});
    assert_eq!(translated(&body).unwrap().tools.choice, inference::ToolChoice::Named("a".into()));
}

/// Reasoning, text, a whole call, more text, and a call that was cut.
fn with_calls() -> Vec<Event> {
    let counts = Counts { input_tokens: 9, output_tokens: 1 };
    let begin = |index, name: &str| Event::Tool {
        choice: 0,
        step: ToolStep::Begin { index, id: format!("call_0_{index}"), name: name.into() },
    };
    let json = |index, json: &str| Event::Tool { choice: 0, step: ToolStep::Arguments { index, json: json.into() } };
    vec![
        Event::Reasoning { choice: 0, text: "Let me ".into(), counts },
        Event::Reasoning { choice: 0, text: "see.".into(), counts },
        text("Looking."),
        begin(0, "get_weather"),
        json(0, "{\"city\": "),
        json(0, "\"Oslo\"}"),
        Event::Tool { choice: 0, step: ToolStep::End { index: 0, complete: true } },
        text("Also."),
        begin(1, "other"),
        json(1, "{\"a"),
        Event::Tool { choice: 0, step: ToolStep::End { index: 1, complete: false } },
    ]
}

#[tokio::test]
async fn calls_and_reasoning_come_whole() {
    let mut events = with_calls();
    events.push(Event::Finished(Box::new(finished(Finish::ToolCalls))));
    let (blocks, finished) = answer::collect(&mut Reader::from_events(events)).await.unwrap();
    insta::assert_json_snapshot!(translate::response(blocks, &finished));
}

#[tokio::test]
async fn calls_and_reasoning_are_streamed_in_blocks_of_their_own() {
    let mut events = with_calls();
    events.push(Event::Finished(Box::new(finished(Finish::ToolCalls))));
    let lines = frames(streamed(events).await);
    assert_eq!(lines.matches("contentBlockStart").count(), 2, "only calls have one");
    insta::assert_snapshot!(lines);
}

#[test]
fn what_is_not_offered_or_out_of_range_is_refused_by_name() {
    let content = |block: Value| value!({"messages": [{"role": "user", "content": [block]}]});
    let members = [
        value!({"toolConfig": {"tools": []}}),
        value!({"toolConfig": {}}),
        value!({"toolConfig": {"tools": [{"cachePoint": {"type": "default"}}]}}),
        value!({"toolConfig": {"tools": [{"toolSpec": {"name": "a"}}]}}),
        value!({"toolConfig": {"tools": [{"toolSpec": {"name": "a b", "inputSchema": {}}}]}}),
        value!({"toolConfig": {"tools": [{"toolSpec": {"name": "a", "inputSchema": {"json": 1}}}]}}),
        value!({"toolConfig": {"tools": [tool("a"), tool("a")]}}),
        value!({"toolConfig": {"tools": [tool("a")], "toolChoice": {"tool": {"name": "b"}}}}),
        value!({"toolConfig": {"tools": [tool("a")], "toolChoice": {"none": {}}}}),
        value!({"toolConfig": {"tools": [tool("a")], "toolChoice": {"any": {}, "auto": {}}}}),
        value!({"guardrailConfig": {}}),
        value!({"outputConfig": {"textFormat": {"type": "json_schema"}}}),
        value!({"outputConfig": {"textFormat": {"type": "regex"}}}),
        value!({"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{"}}}}}),
        value!({"inferenceConfig": {"maxTokens": 0}}),
        value!({"inferenceConfig": {"maxTokens": -1}}),
        value!({"inferenceConfig": {"temperature": 1.1}}),
        value!({"inferenceConfig": {"topP": -0.1}}),
        value!({"inferenceConfig": {"stopSequences": [""]}}),
        value!({"inferenceConfig": {"stopSequences": "a"}}),
        value!({"additionalModelRequestFields": {"top_k": "many"}}),
        value!({"additionalModelRequestFields": {"inferenceConfig": {"topK": "many"}}}),
        value!({"additionalModelRequestFields": {"inferenceConfig": {"topK": 20, "maxTokens": 9}}}),
        value!({"additionalModelRequestFields": {"inferenceConfig": {"topK": 20}, "top_k": 40}}),
        value!({"additionalModelRequestFields": {"reasoningConfig": {"type": "enabled"}}}),
        value!({"system": [{"cachePoint": {"type": "default"}}]}),
        value!({"system": "Be brief."}),
        value!({"messages": []}),
        value!({"messages": null}),
        value!({"messages": [{"role": "tool", "content": [{"text": "Hi"}]}]}),
        value!({"messages": [{"role": "user", "content": []}]}),
        value!({"messages": [{"role": "user", "content": "Hi"}]}),
        content(value!({})),
        content(value!({"text": ""})),
        content(value!({"text": 1})),
        content(value!({"text": "a", "image": {}})),
        content(value!({"image": {"format": "png"}})),
        content(value!({"toolResult": {}})),
        content(value!({"toolResult": {"toolUseId": "1", "content": [{"text": "a"}]}})),
        content(value!({"toolUse": {"toolUseId": "1", "name": "a", "input": {}}})),
        content(value!({"reasoningContent": {"reasoningText": {"text": "a"}}})),
        value!({"messages": [called("1", &value!({}))]}),
        value!({"messages": [called("1", &value!([]))]}),
        value!({"messages": [called("a/b", &value!({}))]}),
        value!({"messages": [called("1", &value!({})), {"role": "user", "content": [{"text": "Hi"}]}]}),
        value!({"messages": [{"role": "assistant", "content": [{"reasoningContent": {"redactedContent": "eA=="}}]}]}),
        content(value!({"cachePoint": {"type": "default"}})),
    ];
    let mut refusals = String::new();
    for member in members {
        let mut body = value!({"messages": [{"role": "user", "content": [{"text": "Hi"}]}]});
        body.as_object_mut().unwrap().extend(member.as_object().unwrap().clone());
        let error = translated(&body).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{member}");
        refusals += &format!("{member}\n  {:?}: {}\n", error.param, error.message);
    }
    insta::assert_snapshot!(refusals);
}

#[test]
fn more_stop_sequences_than_workers_take_are_the_callers_error() {
    let with = |stop: Value| {
        let config = value!({"stopSequences": stop});
        value!({"messages": [{"role": "user", "content": [{"text": "Hi"}]}], "inferenceConfig": config})
    };
    let longest = "x".repeat(limits::MAX_STOPS_BYTES);
    for taken in [value!([longest]), value!(vec!["x"; limits::MAX_STOPS])] {
        assert!(translated(&with(taken)).is_ok());
    }
    for refused in [value!([longest, "y"]), value!(vec!["x"; limits::MAX_STOPS + 1])] {
        let error = translated(&with(refused)).unwrap_err();
        let param = error.param.as_deref();
        assert_eq!((error.kind, param), (ErrorKind::Invalid, Some("inferenceConfig.stopSequences")));
    }
}

#[test]
fn a_whole_answer_is_a_converse_response() {
    let stop = Finish::StopSequence { text: "a".into() };
    insta::assert_json_snapshot!(translate::response(vec![Block::Text("Hello!".into())], &finished(stop)));
}

#[test]
fn an_empty_answer_can_be_sent_back_and_says_nothing() {
    let empty = value!(translate::response(vec![], &finished(Finish::EndOfTurn)));
    let empty = &empty["output"]["message"];
    assert_eq!(empty["content"], value!([]));

    let hi = value!({"role": "user", "content": [{"text": "Hi"}]});
    let blank = value!({"role": "assistant", "content": [{"text": "", "image": null}]});
    let request = translated(&value!({"messages": [hi, empty, hi, blank, hi]})).unwrap();
    assert_eq!(request.messages.iter().map(|message| message.role).collect::<Vec<_>>(), [inference::Role::User; 3]);
    let error = translated(&value!({"messages": [empty, blank], "system": [{"text": "Be brief."}]})).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("messages"));
    // What isn't empty but isn't offered is not taken for empty.
    let image = value!({"role": "assistant", "content": [{"image": {}}]});
    assert_eq!(translated(&value!({"messages": [hi, image]})).unwrap_err().kind, ErrorKind::Invalid);
}

#[test]
fn every_end_has_its_stop_reason() {
    let reasons = [
        Finish::EndOfTurn,
        Finish::StopSequence { text: "a".into() },
        Finish::MaxTokens,
        Finish::ContextFull,
        Finish::Stopped,
        Finish::ToolCalls,
        Finish::MalformedToolCall,
    ];
    let words: Vec<Value> = reasons.iter().map(|reason| value!(translate::stop_reason(reason))).collect();
    let expected = ["end_turn", "stop_sequence", "max_tokens", "model_context_window_exceeded", "max_tokens"];
    assert_eq!(words, [expected.as_slice(), &["tool_use", "malformed_tool_use"]].concat());
}

#[test]
fn a_frame_is_byte_for_byte_what_was_seen_on_the_wire() {
    // Captured with a blank after the colon; ours has none.
    let payload = br#"{"role": "assistant"}"#;
    let frame = stream::frame(":event-type", "messageStart", "event", payload.to_vec());
    assert_eq!(frame.len(), 119);
    assert_eq!(hex::encode(&frame[..12]), "0000007700000052abb5d36e");
    let (covered, crc) = frame.split_at(115);
    assert!(covered.ends_with(payload));
    assert_eq!(crc32fast::hash(covered).to_be_bytes(), crc);
    assert_eq!(stream::Encoder::default().opening().len(), 118);
}

#[tokio::test]
async fn a_stream_is_start_deltas_block_end_stop_and_metadata() {
    let events = vec![text("Hel"), text("lo \u{1F600}"), Event::Finished(Box::new(finished(Finish::EndOfTurn)))];
    let lines = frames(streamed(events).await);
    assert!(!lines.contains("contentBlockStart"));
    insta::assert_snapshot!(lines);
}

#[tokio::test]
async fn each_event_is_sent_by_itself() {
    let events = vec![text("a"), text("b"), Event::Finished(Box::new(finished(Finish::EndOfTurn)))];
    let mut encoder = stream::Encoder::default();
    let opening = encoder.opening();
    let mut body = answer::stream(Reader::from_events(events), opening, move |event| encoder.encode(event));
    let mut sent = Vec::new();
    while let Some(frame) = body.frame().await {
        let first = frames(frame.unwrap().into_data().unwrap());
        sent.push(first.split_whitespace().next().unwrap().to_owned());
    }
    let kinds = ["messageStart", "contentBlockDelta", "contentBlockDelta", "contentBlockStop"];
    assert_eq!(sent, kinds.map(|kind| format!(":event-type={kind}")));
}

#[tokio::test]
async fn an_empty_answer_has_no_block() {
    let lines = frames(streamed(vec![Event::Finished(Box::new(finished(Finish::EndOfTurn)))]).await);
    assert!(!lines.contains("contentBlock") && lines.contains("messageStop"), "{lines}");
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_a_modeled_exception() {
    let failed = Event::Failed(Error::new(ErrorKind::UpstreamFailed, "The worker failed."));
    let lines = frames(streamed(vec![text("Hi"), failed]).await);
    assert!(!lines.contains("messageStop"));
    insta::assert_snapshot!(lines);
}

#[tokio::test]
async fn every_kind_of_failure_has_its_exception() {
    let mut words = String::new();
    for kind in all_kinds() {
        let response = Failure(Error::new(kind, "…")).into_response();
        let (status, name) = (response.status(), response.headers()["x-amzn-errortype"].clone());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let in_stream = error::stream_exception(kind);
        words +=
            &format!("{kind:?}: {status} {name:?}, in a stream {in_stream}\n  {}\n", String::from_utf8_lossy(&body));
    }
    insta::assert_snapshot!(words);
}

#[test]
fn throttling_says_when_to_try_again_in_all_three_ways() {
    let full =
        Error::new(ErrorKind::QuotaExceeded(Limit::TokensPerMinute), "…").retry_after(Duration::from_millis(1500));
    let response = Failure(full).into_response();
    assert_eq!(response.headers()["retry-after"], "2");
    assert_eq!(response.headers()["retry-after-ms"], "1500");
    assert_eq!(response.headers()["x-amz-retry-after"], "1500");
}
