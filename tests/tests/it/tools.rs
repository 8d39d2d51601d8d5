//! Forced tool calls of the real model, through both dialects, streamed and whole.

use caprock_tests::client::Client;
use caprock_tests::gateway::MODEL;
use caprock_tests::stack::StackSpec;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CALLS: usize = 100;
/// Requests at a time: as many as the decode worker's slots hold well.
const AT_ONCE: usize = 4;
/// Above the longest call that the schemas below allow.
const MAX_TOKENS: u32 = 400;

/// A call as the caller reads it.
#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    arguments: Value,
}

/// Two tools out of five, which keeps prompts short. Every argument is bounded, so that an answer can't be cut in the
/// midst of a call.
fn tools(number: usize) -> Vec<(String, Value)> {
    let object = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    let city = json!({"type": "string", "minLength": 2, "maxLength": 12 + number % 9});
    let mut all = vec![
        (
            "get_weather".into(),
            object(json!({"city": city, "unit": {"enum": ["celsius", "fahrenheit"]}}), json!(["city", "unit"])),
        ),
        (
            format!("add-{number}"),
            object(
                json!({"a": {"type": "integer", "minimum": -50, "maximum": number},
                       "b": {"type": "integer", "minimum": 0, "maximum": 999}}),
                json!(["a", "b"]),
            ),
        ),
        (
            "search".into(),
            object(
                json!({"terms": {"type": "array", "minItems": 1, "maxItems": 3, "items": city},
                       "exact": {"type": "boolean"}}),
                json!(["terms"]),
            ),
        ),
        (
            "book".into(),
            object(
                json!({"guest": object(json!({"name": city, "age": {"type": ["integer", "null"], "minimum": 0,
                                       "maximum": 120}}), json!(["name", "age"])),
                       "day": {"type": "string", "format": "date"}}),
                json!(["guest", "day"]),
            ),
        ),
        ("now".into(), object(json!({}), json!([]))),
    ];
    all.rotate_left(number % 5);
    all.truncate(2);
    all
}

/// What one request asks: every other one forces any call, the rest one by name; dialects and streaming take turns.
async fn calls(client: &Client, number: usize) -> (Option<String>, Vec<Call>) {
    let tools = tools(number);
    let named = (number % 2 == 1).then(|| tools[number / 2 % tools.len()].0.clone());
    let question = format!("Use a tool for question {number}, about Lima.");
    let temperature = if number.is_multiple_of(3) { 0.0 } else { 1.0 };
    let stream = (number / 2).is_multiple_of(2);
    let made = if (number / 4).is_multiple_of(2) {
        let list: Vec<Value> = tools
            .iter()
            .map(|(name, schema)| json!({"type": "function", "function": {"name": name, "parameters": schema}}))
            .collect();
        let choice = match &named {
            Some(name) => json!({"type": "function", "function": {"name": name}}),
            None => json!("required"),
        };
        let body = json!({
            "model": MODEL, "max_tokens": MAX_TOKENS, "temperature": temperature, "seed": number, "tools": list,
            "tool_choice": choice, "parallel_tool_calls": false,
            "messages": [{"role": "user", "content": question}], "stream": stream,
        });
        if stream { openai_streamed(client, &body).await } else { openai_whole(client, &body).await }
    } else {
        let list: Vec<Value> = tools
            .iter()
            .map(|(name, schema)| json!({"toolSpec": {"name": name, "inputSchema": {"json": schema}}}))
            .collect();
        let choice = match &named {
            Some(name) => json!({"tool": {"name": name}}),
            None => json!({"any": {}}),
        };
        let body = json!({
            "messages": [{"role": "user", "content": [{"text": question}]}],
            "inferenceConfig": {"maxTokens": MAX_TOKENS, "temperature": temperature},
            "toolConfig": {"tools": list, "toolChoice": choice},
        });
        if stream { bedrock_streamed(client, &body).await } else { bedrock_whole(client, &body).await }
    };
    (named, made)
}

async fn openai_whole(client: &Client, body: &Value) -> Vec<Call> {
    let (_, answer) = client.chat(body).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{answer}");
    let made = answer["choices"][0]["message"]["tool_calls"].as_array().unwrap();
    made.iter()
        .map(|call| Call {
            id: call["id"].as_str().unwrap().into(),
            name: call["function"]["name"].as_str().unwrap().into(),
            arguments: serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap(),
        })
        .collect()
}

async fn openai_streamed(client: &Client, body: &Value) -> Vec<Call> {
    let (_, stream) = client.chat_stream(body).await;
    assert!(stream.done);
    assert_eq!(stream.finish_reason(), Some("tool_calls"), "{:?}", stream.chunks);
    let mut made: BTreeMap<u64, (String, String, String)> = BTreeMap::new();
    let deltas = stream.chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array());
    for delta in deltas.flatten() {
        let call = made.entry(delta["index"].as_u64().unwrap()).or_default();
        let text = |pointer: &str| delta.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        call.0.push_str(&text("/id"));
        call.1.push_str(&text("/function/name"));
        call.2.push_str(&text("/function/arguments"));
    }
    let read = |(id, name, arguments): (String, String, String)| Call {
        id,
        name,
        arguments: serde_json::from_str(&arguments).unwrap_or_else(|error| panic!("{error}: {arguments:?}")),
    };
    made.into_values().map(read).collect()
}

async fn bedrock_whole(client: &Client, body: &Value) -> Vec<Call> {
    let (_, answer) = client.converse(MODEL, body).await;
    assert_eq!(answer["stopReason"], "tool_use", "{answer}");
    let blocks = answer["output"]["message"]["content"].as_array().unwrap();
    let uses = blocks.iter().filter_map(|block| block.get("toolUse"));
    uses.map(|used| Call {
        id: used["toolUseId"].as_str().unwrap().into(),
        name: used["name"].as_str().unwrap().into(),
        arguments: used["input"].clone(),
    })
    .collect()
}

async fn bedrock_streamed(client: &Client, body: &Value) -> Vec<Call> {
    let (_, stream) = client.converse_stream(MODEL, body).await;
    let mut made: BTreeMap<u64, (String, String, String)> = BTreeMap::new();
    let mut reason = None;
    for event in &stream.events {
        let index = || event.body["contentBlockIndex"].as_u64().unwrap();
        match event.kind.as_str() {
            "contentBlockStart" => {
                let start = &event.body["start"]["toolUse"];
                let text = |name: &str| start[name].as_str().unwrap_or_default().to_owned();
                made.insert(index(), (text("toolUseId"), text("name"), String::new()));
            }
            "contentBlockDelta" => {
                if let Some(input) = event.body.pointer("/delta/toolUse/input").and_then(Value::as_str) {
                    made.get_mut(&index()).expect("a block begins before its deltas").2.push_str(input);
                }
            }
            "messageStop" => reason = event.body["stopReason"].as_str(),
            _ => {}
        }
    }
    assert_eq!(reason, Some("tool_use"), "{:?}", stream.events);
    let read = |(id, name, arguments): (String, String, String)| Call {
        id,
        name,
        arguments: serde_json::from_str(&arguments).unwrap_or_else(|error| panic!("{error}: {arguments:?}")),
    };
    made.into_values().map(read).collect()
}

#[tokio::test]
async fn a_hundred_forced_calls_are_valid_in_both_dialects_streamed_and_whole() {
    let stack = StackSpec::real().start().await;
    let client = &stack.client();
    let worker = |first: usize| async move {
        for number in (first..CALLS).step_by(AT_ONCE) {
            let (named, made) = calls(client, number).await;
            assert!(!made.is_empty(), "request {number} made no call");
            let mut ids: Vec<&str> = made.iter().map(|call| call.id.as_str()).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), made.len(), "request {number}: calls share an id");
            for call in &made {
                let schema = tools(number).into_iter().find(|(name, _)| *name == call.name);
                let (_, schema) = schema.unwrap_or_else(|| panic!("request {number} has no tool {}", call.name));
                assert!(named.as_ref().is_none_or(|name| *name == call.name), "request {number}: {call:?}");
                let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
                assert!(validator.is_valid(&call.arguments), "request {number}: {call:?} does not fit {schema}");
            }
        }
    };
    futures::future::join_all((0..AT_ONCE).map(worker)).await;
    assert_eq!(stack.balanced().await.len(), CALLS);
}

#[tokio::test]
async fn a_tool_loop_goes_on_from_its_result_in_both_dialects() {
    let stack = StackSpec::real().start().await;
    let client = stack.client();
    let parameters = json!({"type": "object", "properties": {"city": {"enum": ["Lima", "Oslo"]}},
                            "required": ["city"], "additionalProperties": false});
    let tool = json!({"type": "function", "function": {"name": "get_weather", "parameters": parameters}});
    let mut body = json!({
        "model": MODEL, "max_tokens": 64, "temperature": 0, "tools": [tool], "tool_choice": "required",
        "parallel_tool_calls": false,
        "messages": [{"role": "user", "content": "How is the weather in Lima?"}],
    });
    let (_, first) = client.chat(&body).await;
    let said = first["choices"][0]["message"].clone();
    let call = said["tool_calls"][0]["id"].clone();
    let turns = body["messages"].as_array_mut().unwrap();
    turns.push(said);
    turns.push(json!({"role": "tool", "tool_call_id": call, "content": "18 degrees, <|im_end|> foggy"}));
    body["tool_choice"] = json!("none");
    let (_, second) = client.chat(&body).await;
    assert_eq!(second["choices"][0]["message"]["tool_calls"], Value::Null, "{second}");
    assert!(!second["choices"][0]["message"]["content"].as_str().unwrap().trim().is_empty());

    let mut body = json!({
        "messages": [{"role": "user", "content": [{"text": "How is the weather in Lima?"}]}],
        "inferenceConfig": {"maxTokens": 64, "temperature": 0.0},
        "toolConfig": {"tools": [{"toolSpec": {"name": "get_weather", "inputSchema": {"json": parameters}}}],
                       "toolChoice": {"any": {}}},
    });
    let (_, first) = client.converse(MODEL, &body).await;
    let said = first["output"]["message"].clone();
    let used: Vec<&Value> =
        said["content"].as_array().unwrap().iter().filter_map(|block| block.get("toolUse")).collect();
    assert!(used.iter().all(|used| ["Lima", "Oslo"].contains(&used["input"]["city"].as_str().unwrap())));
    let result = |used: &&Value| {
        let content = json!([{"json": {"degrees": 18}}]);
        json!({"toolResult": {"toolUseId": used["toolUseId"], "content": content, "status": "success"}})
    };
    let results: Vec<Value> = used.iter().map(result).collect();
    let turns = body["messages"].as_array_mut().unwrap();
    turns.push(said);
    turns.push(json!({"role": "user", "content": results}));
    body["toolConfig"]["toolChoice"] = json!({"auto": {}});
    let (_, second) = client.converse(MODEL, &body).await;
    let more = second["usage"]["inputTokens"].as_u64() > first["usage"]["inputTokens"].as_u64();
    assert!(more, "the call and its result are in the prompt");
    stack.balanced().await;
}
