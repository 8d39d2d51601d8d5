//! Whole tool round trips: from a dialect's JSON over a scripted worker to the dialect's reply, and back with the result.

use super::{answer, bedrock, json, openai};
use crate::id::RequestId;
use crate::inference::tests::{Gateway, MODEL, gateway};
use crate::inference::{Reader, Request};
use crate::upstream::cluster::fake::{Step, accepted, counts, done, token};
use axum::body::Body;
use cluster_protocol::{FinishReason, Grammar, Message};
use http_body_util::BodyExt;
use serde_json::{Value, json as value};

const CALL: [&str; 6] = [
    "I look.\n<tool_",
    "call>\n{\"name\": \"get_",
    "weather\", \"arguments\": {\"city\":",
    " \"Oslo\"",
    "}}\n</tool_call",
    ">",
];

/// A step per piece, then the end of the turn.
fn says(pieces: &[&str]) -> Vec<Step> {
    let tokens = pieces.iter().zip(1..).map(|(piece, count)| token(piece, count));
    let count = u32::try_from(pieces.len()).unwrap() + 1;
    std::iter::once(accepted()).chain(tokens).chain([done(FinishReason::EndOfTurn, count)]).collect()
}

fn openai_request(messages: &Value, streamed: bool) -> Request {
    let parameters = value!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let tool = value!({"type": "function", "function": {"name": "get_weather", "parameters": parameters}});
    let body = value!({"model": MODEL, "messages": messages, "tools": [tool], "max_tokens": 20, "stream": streamed});
    openai::translate::request(RequestId::new(), json::parse(body.to_string().as_bytes()).unwrap()).unwrap()
}

fn bedrock_request(messages: &Value, streamed: bool) -> Request {
    let schema = value!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let tool = value!({"toolSpec": {"name": "get_weather", "inputSchema": {"json": schema}}});
    let config = value!({"maxTokens": 20});
    let body = value!({"messages": messages, "toolConfig": {"tools": [tool]}, "inferenceConfig": config});
    let wire = json::parse(body.to_string().as_bytes()).unwrap();
    bedrock::translate::request(RequestId::new(), MODEL.into(), wire, streamed).unwrap()
}

async fn openai_whole(mut reader: Reader) -> Value {
    let started = answer::begin(&mut reader).await.unwrap();
    let (blocks, finished) = answer::collect(&mut reader).await.unwrap();
    value!(openai::translate::Reply::new(&started).completion(blocks, &finished))
}

async fn bedrock_whole(mut reader: Reader) -> Value {
    answer::begin(&mut reader).await.unwrap();
    let (blocks, finished) = answer::collect(&mut reader).await.unwrap();
    value!(bedrock::translate::response(blocks, &finished))
}

async fn text_of(body: Body) -> String {
    String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()).into_owned()
}

/// The prompt of the worker's last request: to these workers a byte is a token.
fn last_prompt(gateway: &Gateway) -> String {
    let prompt = gateway.worker.seen().generates().pop().unwrap().prompt;
    String::from_utf8(prompt.iter().map(|id| u8::try_from(*id).unwrap()).collect()).unwrap()
}

#[tokio::test]
async fn a_call_is_answered_and_its_result_told_in_openais_words() {
    let gateway = gateway().await;
    let hi = value!({"role": "user", "content": "Umbrella in Oslo?"});
    gateway.worker.script(says(&CALL));
    let whole = openai_whole(gateway.start(openai_request(&value!([hi]), false))).await;
    let choice = &whole["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&value!("tool_calls"), &value!("I look.")));
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(call["function"], value!({"name": "get_weather", "arguments": "{\"city\": \"Oslo\"}"}));
    assert!(last_prompt(&gateway).contains("get_weather") && last_prompt(&gateway).ends_with("Umbrella in Oslo?"));
    let asked = gateway.worker.seen().generates().pop().unwrap();
    let constraint = asked.constraint.unwrap();
    assert_eq!(constraint.trigger.unwrap().texts, ["<tool_call>"]);
    assert!(matches!(constraint.grammar, Grammar::Lark { grammar } if grammar.contains("get_weather")));

    let result = value!({"role": "tool", "tool_call_id": call["id"], "content": "Rain."});
    gateway.worker.script(says(&["Take ", "one."]));
    let messages = value!([hi, choice["message"], result]);
    let whole = openai_whole(gateway.start(openai_request(&messages, false))).await;
    let choice = &whole["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&value!("stop"), &value!("Take one.")));
    let prompt = last_prompt(&gateway);
    assert!(prompt.contains("{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}"), "{prompt}");
    assert!(prompt.ends_with("<tool_response>\nRain.\n</tool_response>"), "{prompt}");
}

#[tokio::test]
async fn a_call_is_streamed_in_openais_words() {
    let gateway = gateway().await;
    gateway.worker.script(says(&CALL));
    let messages = value!([{"role": "user", "content": "Umbrella?"}]);
    let mut reader = gateway.start(openai_request(&messages, true));
    let started = answer::begin(&mut reader).await.unwrap();
    let mut encoder = openai::stream::Encoder::new(openai::translate::Reply::new(&started), false);
    let opening = encoder.opening();
    let sent = text_of(answer::stream(reader, opening, move |event| encoder.encode(event))).await;
    let (mut text, mut arguments, mut names, mut finish) = (String::new(), String::new(), vec![], Value::Null);
    for data in sent.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]") {
        let chunk: Value = serde_json::from_str(data).unwrap();
        let delta = &chunk["choices"][0]["delta"];
        text += delta["content"].as_str().unwrap_or_default();
        let function = &delta["tool_calls"][0]["function"];
        arguments += function["arguments"].as_str().unwrap_or_default();
        names.extend(function["name"].as_str().map(str::to_owned));
        finish = chunk["choices"][0]["finish_reason"].clone();
    }
    assert_eq!((text.as_str(), arguments.as_str()), ("I look.", "{\"city\": \"Oslo\"}"));
    assert_eq!((names, finish), (vec!["get_weather".to_owned()], value!("tool_calls")));
}

#[tokio::test]
async fn a_call_is_answered_and_its_result_told_in_bedrocks_words() {
    let gateway = gateway().await;
    let hi = value!({"role": "user", "content": [{"text": "Umbrella in Oslo?"}]});
    gateway.worker.script(says(&CALL));
    let whole = bedrock_whole(gateway.start(bedrock_request(&value!([hi]), false))).await;
    let message = &whole["output"]["message"];
    assert_eq!((&whole["stopReason"], &message["content"][0]["text"]), (&value!("tool_use"), &value!("I look.")));
    let used = &message["content"][1]["toolUse"];
    assert_eq!((&used["name"], &used["input"]), (&value!("get_weather"), &value!({"city": "Oslo"})));

    let result = value!({"toolResult": {"toolUseId": used["toolUseId"], "content": [{"json": {"sky": "grey"}}]}});
    gateway.worker.script(says(&["Take one."]));
    let messages = value!([hi, message, {"role": "user", "content": [result, {"text": "So?"}]}]);
    let whole = bedrock_whole(gateway.start(bedrock_request(&messages, false))).await;
    assert_eq!(whole["stopReason"], "end_turn");
    let prompt = last_prompt(&gateway);
    assert!(prompt.ends_with("<tool_response>\n{\"sky\":\"grey\"}\n</tool_response>\n\nSo?"), "{prompt}");
}

#[tokio::test]
async fn a_call_is_streamed_in_bedrocks_words() {
    let gateway = gateway().await;
    gateway.worker.script(says(&CALL));
    let messages = value!([{"role": "user", "content": [{"text": "Umbrella?"}]}]);
    let mut reader = gateway.start(bedrock_request(&messages, true));
    answer::begin(&mut reader).await.unwrap();
    let mut encoder = bedrock::stream::Encoder::default();
    let opening = encoder.opening();
    let sent = text_of(answer::stream(reader, opening, move |event| encoder.encode(event))).await;
    let places: Vec<usize> = [
        "messageStart",
        r#"{"contentBlockIndex":0,"delta":{"text":"I look."}}"#,
        r#"{"contentBlockIndex":0}"#,
        r#"{"contentBlockIndex":1,"start":{"toolUse":{"toolUseId":"call_"#,
        r#"{"contentBlockIndex":1,"delta":{"toolUse":{"input":"{\"city\":"}}}"#,
        r#"{"contentBlockIndex":1}"#,
        r#"{"stopReason":"tool_use"}"#,
    ]
    .iter()
    .map(|part| sent.find(part).unwrap_or_else(|| panic!("no {part} in {sent}")))
    .collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[tokio::test]
async fn a_call_that_the_maximum_cuts_reports_length_and_shows_its_beginning() {
    let gateway = gateway().await;
    let mut script = says(&CALL[..4]);
    script.pop();
    script.push(done(FinishReason::MaxTokens, 4));
    gateway.worker.script(script);
    let messages = value!([{"role": "user", "content": [{"text": "Umbrella?"}]}]);
    let whole = bedrock_whole(gateway.start(bedrock_request(&messages, false))).await;
    assert_eq!(whole["stopReason"], "max_tokens");
    assert_eq!(whole["output"]["message"]["content"][1]["toolUse"]["input"], "{\"city\": \"Oslo\"");
}

#[tokio::test]
async fn a_strict_schema_that_cant_be_enforced_is_refused_before_a_worker_hears_of_it() {
    let gateway = gateway().await;
    let messages = value!([{"role": "user", "content": "Hi"}]);
    let with = |strict: bool| {
        let parameters = value!({"type": "object", "not": {}});
        let function = value!({"name": "f", "strict": strict, "parameters": parameters});
        let tools = value!([{"type": "function", "function": function}]);
        let body = value!({"model": MODEL, "messages": messages, "tools": tools, "max_tokens": 9});
        openai::translate::request(RequestId::new(), json::parse(body.to_string().as_bytes()).unwrap()).unwrap()
    };
    let error = answer::begin(&mut gateway.start(with(true))).await.unwrap_err();
    assert_eq!(error.param.as_deref(), Some("tools"));
    assert!(error.message.contains("`/not`"), "{}", error.message);
    assert!(gateway.worker.seen().generates().is_empty());
    assert!(answer::begin(&mut gateway.start(with(false))).await.is_ok());
}

#[tokio::test]
async fn an_answers_form_reaches_the_worker_and_one_that_cant_be_enforced_does_not() {
    let gateway = gateway().await;
    let with = |schema: Value| {
        let format = value!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
        let messages = value!([{"role": "user", "content": "Hello"}]);
        let body = value!({"model": MODEL, "messages": messages, "response_format": format, "max_tokens": 9});
        openai::translate::request(RequestId::new(), json::parse(body.to_string().as_bytes()).unwrap()).unwrap()
    };
    assert!(answer::begin(&mut gateway.start(with(value!({"type": "object"})))).await.is_ok());
    let asked = gateway.worker.seen().generates().pop().unwrap().constraint.unwrap();
    assert_eq!(asked.grammar, Grammar::JsonSchema { schema: r#"{"type":"object"}"#.into() });
    let refused = answer::begin(&mut gateway.start(with(value!({"if": {}})))).await.unwrap_err();
    assert!(refused.message.contains("`/if`"), "{}", refused.message);
    assert_eq!(gateway.worker.seen().messages.iter().filter(|m| matches!(m, Message::Generate(_))).count(), 1);
}

#[tokio::test]
async fn a_call_is_charged_like_any_answer() {
    let gateway = gateway().await;
    gateway.worker.script(says(&CALL));
    let request = openai_request(&value!([{"role": "user", "content": "Umbrella?"}]), false);
    let id = request.id.clone();
    let whole = openai_whole(gateway.start(request)).await;
    assert_eq!(whole["usage"]["completion_tokens"], counts(7).output_tokens);
    assert_eq!(gateway.record(&id).await.output_tokens, 7);
}
