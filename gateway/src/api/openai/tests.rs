//! Chat completions, from JSON to the canonical request and from events to bytes.

use super::*;
use crate::api::answer::Block;
use crate::catalog::Deprecation;
use crate::error::{AuthFailure, Error, ErrorKind, Limit};
use crate::inference::{Event, Finish, Finished, Reader, Started, ToolStep, Usage};
use cluster_protocol::{Counts, LocalReason, Path, PrefillPath, Timings, limits};
use http_body_util::BodyExt;
use serde_json::{Value, json as value};
use std::time::Duration;

fn id() -> RequestId {
    RequestId::parse("req_0198c0de").unwrap()
}

fn translated(body: &Value) -> crate::error::Result<inference::Request> {
    let wire: ChatRequest = json::parse(body.to_string().as_bytes())?;
    translate::request(id(), wire)
}

fn started() -> Started {
    Started {
        request_id: id(),
        accepted_at: 1_795_435_200_000_000,
        replayed: false,
        model: "demo.model".into(),
        stand_in: None,
        deprecation: None,
        engine: "sim".into(),
        input_tokens: 9,
    }
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
    let path = Path {
        engine: "sim".into(),
        decode: "d1".into(),
        prefill: PrefillPath::Local { reason: LocalReason::ShortPrompt },
    };
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

fn reply() -> translate::Reply {
    translate::Reply::new(&started())
}

/// The whole stream's bytes as text.
async fn streamed(include_usage: bool, events: Vec<Event>) -> String {
    let mut encoder = stream::Encoder::new(reply(), include_usage);
    let opening = encoder.opening();
    let body = answer::stream(Reader::from_events(events), opening, move |event| encoder.encode(event));
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[test]
fn a_request_with_everything_becomes_canonical() {
    let body = value!({
        "model": "demo.model",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "In English."}]},
            {"role": "user", "content": [{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}]},
            {"role": "assistant", "content": "Hello.", "tool_calls": [], "refusal": null},
            {"role": "user", "content": "Again", "name": "jo"},
        ],
        "max_completion_tokens": 32, "max_tokens": 32, "temperature": 1.5, "top_p": 0.0, "seed": -1,
        "stop": ["a", "b"], "stream": true, "stream_options": {"include_usage": true},
        "n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": false, "top_logprobs": 0,
        "logit_bias": {}, "response_format": {"type": "text"}, "tools": [], "tool_choice": "auto",
        "modalities": ["text"], "user": "u", "metadata": {"a": "b"}, "service_tier": "auto", "store": true,
    });
    insta::assert_debug_snapshot!(translated(&body).unwrap());
}

#[test]
fn a_minimal_request_leaves_the_rest_to_the_model() {
    let body = value!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stop": null, "tools": null});
    insta::assert_debug_snapshot!(translated(&body).unwrap());
}

#[test]
fn an_empty_answer_can_be_sent_back_and_says_nothing() {
    let hi = value!({"role": "user", "content": "Hi"});
    let answers = [
        value!({"role": "assistant", "content": ""}),
        value!({"role": "assistant", "content": null, "tool_calls": []}),
        value!({"role": "assistant", "content": []}),
        value!({"role": "assistant", "content": [{"type": "text", "text": ""}]}),
        value!({"role": "assistant"}),
    ];
    for answer in answers {
        let request = translated(&value!({"model": "m", "messages": [hi, answer, hi]})).unwrap();
        assert_eq!(request.messages.iter().map(|message| message.role).collect::<Vec<_>>(), [inference::Role::User; 2]);
        let error = translated(&value!({"model": "m", "messages": [answer]})).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("messages"));
    }
}

fn tool(name: &str) -> Value {
    value!({"type": "function", "function": {"name": name}})
}

fn made(id: &str, arguments: &str) -> Value {
    value!({"id": id, "type": "function", "function": {"name": "a", "arguments": arguments}})
}

#[test]
fn tools_calls_and_results_become_canonical_and_schemas_keep_their_order() {
    let body = r#"{
        "model": "m",
        "tools": [
            {"type": "function", "function": {"name": "get_weather", "description": "Weather.", "strict": true,
                "parameters": {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "number"}}}}},
            {"type": "function", "function": {"name": "untyped", "parameters": {"properties": {}}}},
            {"type": "function", "function": {"name": "bare", "parameters": null}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "bare"}}, "parallel_tool_calls": false,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true,
            "schema": {"type": "object", "properties": {"b": {}, "a": {}}}}},
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{\"z\": 1, \"a\": [ ]}"}},
                {"id": "c2", "function": {"name": "bare", "arguments": ""}}
            ]},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "tool", "tool_call_id": "c1", "content": ""},
            {"role": "user", "content": "And?"}
        ]
    }"#;
    let wire: ChatRequest = json::parse(body.as_bytes()).unwrap();
    insta::assert_debug_snapshot!(translate::request(id(), wire).unwrap());
}

#[test]
fn choices_of_tools_and_forms_of_answers_are_read() {
    let with = |member: Value| {
        let mut body = value!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "tools": [tool("a")]});
        body.as_object_mut().unwrap().extend(member.as_object().unwrap().clone());
        translated(&body).unwrap()
    };
    use inference::{AnswerForm, ToolChoice};
    assert_eq!(with(value!({})).tools.choice, ToolChoice::Auto);
    assert_eq!(with(value!({"tool_choice": null})).tools.choice, ToolChoice::Auto);
    assert_eq!(with(value!({"tool_choice": "none"})).tools.choice, ToolChoice::None);
    assert_eq!(with(value!({"tool_choice": "required"})).tools.choice, ToolChoice::Required);
    assert_eq!(with(value!({"response_format": {"type": "json_object"}})).answer, AnswerForm::Json);
    assert_eq!(with(value!({"response_format": {"type": "text"}})).answer, AnswerForm::Text);
}

/// Reasoning, text, a whole call and one that was cut.
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
    insta::assert_json_snapshot!(reply().completion(blocks, &finished));
}

#[tokio::test]
async fn an_answer_of_calls_alone_has_no_content() {
    let mut events = with_calls().split_off(3);
    events.push(Event::Finished(Box::new(finished(Finish::ToolCalls))));
    let (blocks, finished) = answer::collect(&mut Reader::from_events(events)).await.unwrap();
    let completion = value!(reply().completion(blocks, &finished));
    let message = &completion["choices"][0]["message"];
    assert_eq!((&message["content"], message.get("reasoning_content")), (&Value::Null, None));
}

#[tokio::test]
async fn calls_and_reasoning_are_streamed_in_pieces() {
    let mut events = with_calls();
    events.push(Event::Finished(Box::new(finished(Finish::MalformedToolCall))));
    insta::assert_snapshot!(streamed(false, events).await);
}

#[test]
fn what_is_not_offered_or_out_of_range_is_refused_by_name() {
    let image = value!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]);
    let members = [
        value!({"tools": [{"type": "function"}]}),
        value!({"tools": [{"type": "web_search"}]}),
        value!({"tools": [{"type": "function", "function": {"name": "a b"}}]}),
        value!({"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}),
        value!({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "string"}}}]}),
        value!({"tools": [tool("a"), tool("a")]}),
        value!({"tool_choice": "required"}),
        value!({"tool_choice": "some"}),
        value!({"tool_choice": {"type": "allowed_tools"}, "tools": [tool("a")]}),
        value!({"tool_choice": {"type": "function"}, "tools": [tool("a")]}),
        value!({"tool_choice": {"type": "function", "function": {"name": "b"}}, "tools": [tool("a")]}),
        value!({"functions": [{}]}),
        value!({"response_format": {"type": "grammar"}}),
        value!({"response_format": {"type": "json_schema"}}),
        value!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": 1}}}),
        value!({"logprobs": true}),
        value!({"top_logprobs": 2}),
        value!({"n": 2}),
        value!({"logit_bias": {"1": 2}}),
        value!({"presence_penalty": 0.5}),
        value!({"frequency_penalty": -0.5}),
        value!({"modalities": ["audio"]}),
        value!({"audio": {}}),
        value!({"reasoning_effort": "low"}),
        value!({"web_search_options": {}}),
        value!({"stream_options": {"include_usage": true}}),
        value!({"max_tokens": 0}),
        value!({"max_tokens": -1}),
        value!({"max_tokens": 1.5}),
        value!({"max_tokens": 1, "max_completion_tokens": 2}),
        value!({"temperature": 2.1}),
        value!({"temperature": "hot"}),
        value!({"top_p": 1.1}),
        value!({"stop": ["a", "b", "c", "d", "e"]}),
        value!({"stop": [""]}),
        value!({"stop": 1}),
        value!({"stream": "yes"}),
        value!({"model": null}),
        value!({"messages": []}),
        value!({"messages": "Hi"}),
        value!({"messages": [{"content": "Hi"}]}),
        value!({"messages": [{"role": "tool", "content": "Hi"}]}),
        value!({"messages": [{"role": "user"}]}),
        value!({"messages": [{"role": "user", "content": []}]}),
        value!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
        value!({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}),
        value!({"messages": [{"role": "user", "content": "", "tool_calls": [made("1", "{}")]}]}),
        value!({"messages": [{"role": "assistant", "tool_calls": [made("1", "{}")]}]}),
        value!({"messages": [{"role": "assistant", "tool_calls": [made("1", "[]")]}]}),
        value!({"messages": [{"role": "assistant", "tool_calls": [made("1", "{}"), made("1", "{}")]}]}),
        value!({"messages": [{"role": "assistant", "tool_calls": [made("1", "{}")]}, {"role": "user", "content": "Hi"}]}),
        value!({"messages": [{"role": "tool", "tool_call_id": "1", "content": "Hi"}]}),
        value!({"messages": image}),
    ];
    let mut refusals = String::new();
    for member in members {
        let mut body = value!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
        body.as_object_mut().unwrap().extend(member.as_object().unwrap().clone());
        let error = translated(&body).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{member}");
        refusals += &format!("{member}\n  {:?}: {}\n", error.param, error.message);
    }
    insta::assert_snapshot!(refusals);
}

#[test]
fn stop_texts_longer_than_workers_take_are_the_callers_error() {
    let with = |stop: Value| value!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stop": stop});
    let longest = "x".repeat(limits::MAX_STOPS_BYTES);
    assert!(translated(&with(value!(longest))).is_ok());
    let error = translated(&with(value!([longest, "y"]))).unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Invalid, Some("stop")));
}

#[test]
fn a_whole_answer_is_a_chat_completion() {
    let completion = reply().completion(vec![Block::Text("Hello!".into())], &finished(Finish::EndOfTurn));
    insta::assert_json_snapshot!(completion);
}

#[tokio::test]
async fn a_stream_is_role_text_finish_and_done() {
    let events = vec![text("Hel"), text("lo \"\n\u{1F600}"), Event::Finished(Box::new(finished(Finish::MaxTokens)))];
    insta::assert_snapshot!(streamed(false, events).await);
}

#[tokio::test]
async fn usage_comes_in_a_chunk_of_its_own_when_asked_for() {
    let events = vec![text("Hi"), Event::Finished(Box::new(finished(Finish::EndOfTurn)))];
    insta::assert_snapshot!(streamed(true, events).await);
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_an_error_event_and_never_done() {
    let failed = Event::Failed(Error::new(ErrorKind::UpstreamFailed, "The worker failed."));
    let stream = streamed(false, vec![text("Hi"), failed]).await;
    assert!(!stream.contains("[DONE]"));
    insta::assert_snapshot!(stream);
}

#[tokio::test]
async fn a_log_that_breaks_off_is_a_failure_too() {
    let stream = streamed(false, vec![text("Hi")]).await;
    assert!(stream.contains("internal_error") && !stream.contains("[DONE]"), "{stream}");
}

#[tokio::test]
async fn what_fails_before_the_first_token_is_no_answer() {
    let mut reader = Reader::from_events(vec![Event::Failed(Error::new(ErrorKind::Overloaded, "Full."))]);
    assert_eq!(answer::begin(&mut reader).await.unwrap_err().kind, ErrorKind::Overloaded);
    let mut reader = Reader::from_events(vec![]);
    assert_eq!(answer::begin(&mut reader).await.unwrap_err().kind, ErrorKind::Internal);
}

#[tokio::test]
async fn an_answer_read_whole_is_all_its_text_and_its_facts() {
    let facts = finished(Finish::EndOfTurn);
    let events = vec![Event::Started(started()), text("a"), text("b"), Event::Finished(Box::new(facts.clone()))];
    let mut reader = Reader::from_events(events);
    assert_eq!(answer::begin(&mut reader).await.unwrap(), started());
    assert_eq!(answer::collect(&mut reader).await.unwrap(), (vec![Block::Text("ab".into())], facts));
}

#[test]
fn a_stand_in_is_named_in_the_head() {
    let mut headers = HeaderMap::new();
    let started = Started { stand_in: Some("demo.model".into()), ..started() };
    answer::name_the_answerer(&mut headers, &started);
    assert_eq!(
        (&headers["x-caprock-engine"], &headers["x-caprock-stand-in"]),
        (&"sim".parse().unwrap(), &"demo.model".parse().unwrap())
    );
}

#[test]
fn a_deprecated_model_is_announced_in_the_head() {
    let mut headers = HeaderMap::new();
    answer::name_the_answerer(&mut headers, &started());
    assert!(!headers.contains_key("deprecation") && !headers.contains_key("sunset"));
    let deprecation = Deprecation {
        message: None,
        replacement: None,
        deprecated_at: 1_688_169_599_000_000,
        sunset_at: Some(1_782_864_000_000_000),
    };
    let started = Started { deprecation: Some(deprecation), ..started() };
    answer::name_the_answerer(&mut headers, &started);
    assert_eq!(
        (&headers["deprecation"], &headers["sunset"]),
        (&"@1688169599".parse().unwrap(), &"Wed, 01 Jul 2026 00:00:00 GMT".parse().unwrap(),)
    );
}

/// One of each kind.
pub(crate) fn all_kinds() -> Vec<ErrorKind> {
    let auth = [
        AuthFailure::Missing,
        AuthFailure::BadKey,
        AuthFailure::UnknownAccessKey,
        AuthFailure::BadSignature,
        AuthFailure::Expired,
        AuthFailure::Malformed,
    ];
    let limits = [Limit::RequestsPerMinute, Limit::TokensPerMinute, Limit::Concurrency];
    let mut kinds: Vec<ErrorKind> = auth.into_iter().map(ErrorKind::Unauthenticated).collect();
    kinds.extend(limits.into_iter().map(ErrorKind::QuotaExceeded));
    kinds.extend([
        ErrorKind::Forbidden,
        ErrorKind::ModelNotFound,
        ErrorKind::ModelNotServed,
        ErrorKind::NotFound,
        ErrorKind::Invalid,
        ErrorKind::TooLarge,
        ErrorKind::RequestTimeout,
        ErrorKind::MethodNotAllowed,
        ErrorKind::ContextExceeded,
        ErrorKind::Conflict,
        ErrorKind::PreconditionFailed,
        ErrorKind::IdempotencyMismatch,
        ErrorKind::BudgetExhausted,
        ErrorKind::Overloaded,
        ErrorKind::UpstreamUnavailable,
        ErrorKind::UpstreamFailed,
        ErrorKind::UpstreamTimeout,
        ErrorKind::ShuttingDown,
        ErrorKind::Internal,
    ]);
    kinds
}

#[tokio::test]
async fn every_kind_of_failure_has_its_words() {
    let mut words = String::new();
    for kind in all_kinds() {
        let response = Failure(Error::new(kind, "…")).into_response();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        words += &format!("{kind:?}: {status}\n  {}\n", String::from_utf8_lossy(&body));
    }
    insta::assert_snapshot!(words);
}

#[test]
fn a_limit_says_when_to_try_again_or_that_it_is_no_use() {
    let full = Error::new(ErrorKind::QuotaExceeded(Limit::TokensPerMinute), "…");
    let response = Failure(full.clone().retry_after(Duration::from_millis(1500))).into_response();
    assert_eq!(response.headers()["retry-after"], "2");
    assert_eq!(response.headers()["retry-after-ms"], "1500");
    assert_eq!(Failure(full).into_response().headers()["x-should-retry"], "false");
}
