//! OpenAI's chat completions and model list.

pub mod error;
pub mod models;
pub mod refusals;
pub mod stream;
mod tools;
pub mod translate;
pub mod wire;

use crate::api::repeat::Repeat;
use crate::api::{answer, json};
use crate::app::App;
use crate::auth;
use crate::id::RequestId;
use crate::inference;
use crate::tenants::Permission;
use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use error::Failure;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue};
use refusals::{AccessErrors, InferenceErrors, ModelErrors};
use std::sync::Arc;
use std::time::Instant;
use wire::ChatRequest;

const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

/// Answers a conversation, whole or as server-sent events.
#[utoipa::path(
    post, path = "/v1/chat/completions", operation_id = "chat_completions", tag = "openai",
    params(
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
            description = "Makes a repeated call safe for a day: it is generated and charged once, and gets the same answer, to the byte, with `idempotent-replayed: true` when that was kept; while it is generated, the repeated call joins it"),
        ("Last-Event-ID" = Option<u64>, Header,
            description = "Resumes a streamed answer under an `Idempotency-Key`, whose events have numbers (`id`): those up to this one are left out"),
    ),
    request_body(content = ChatRequest, examples(
        ("whole" = (summary = "A whole answer", value = json!({
            "model": "huggingface.smollm2-135m-instruct", "max_completion_tokens": 64, "temperature": 0,
            "messages": [
                { "role": "system", "content": "Answer in one sentence." },
                { "role": "user", "content": "What is gravity?" },
            ],
        }))),
        ("streamed" = (summary = "Server-sent events, with the usage at the end", value = json!({
            "model": "huggingface.smollm2-135m-instruct", "max_completion_tokens": 64, "stop": ["\n\n"], "seed": 7,
            "stream": true, "stream_options": { "include_usage": true },
            "messages": [{ "role": "user", "content": [{ "type": "text", "text": "What is gravity?" }] }],
        }))),
        ("tools" = (summary = "A tool, and what it gave", value = json!({
            "model": "huggingface.smollm2-135m-instruct", "max_completion_tokens": 64, "tool_choice": "auto",
            "tools": [{ "type": "function", "function": {
                "name": "get_weather", "description": "The weather in a city.",
                "parameters": { "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] },
            } }],
            "messages": [
                { "role": "user", "content": "Do I need an umbrella in Oslo?" },
                { "role": "assistant", "content": null, "tool_calls": [{
                    "id": "call_1", "type": "function",
                    "function": { "name": "get_weather", "arguments": "{\"city\":\"Oslo\"}" },
                }] },
                { "role": "tool", "tool_call_id": "call_1", "content": "Rain, 9 °C" },
            ],
        }))),
    )),
    responses(
        (status = 200, description = "The answer; with `stream` a sequence of `chat.completion.chunk` events ended by `[DONE]`",
            headers(("idempotent-replayed" = String, description = "`true` when the answer was generated for an earlier call")),
            content((wire::ChatCompletion = "application/json"), (wire::ChatChunk = "text/event-stream"))),
        AccessErrors, ModelErrors, InferenceErrors,
    ),
    security(("bearer" = []), ("api_key" = []), ("sigv4" = []))
)]
pub async fn chat_completions(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Response, Failure> {
    let begun = Instant::now();
    let repeat = Repeat::of(&request);
    let (admission, body) = auth::admit(&app, request, Permission::Infer).await?;
    let wire: ChatRequest = json::parse(&body)?;
    let include_usage = wire.wants_usage();
    let request = translate::request(id, wire)?;
    let streamed = request.stream;
    let (once, last_event) = (repeat.once(&body)?, repeat.last_event(streamed)?);

    let numbered = once.is_some();
    let mut reader = inference::start(&app, admission, request, once);
    let started = answer::begin(&mut reader).await?;
    let reply = translate::Reply::new(&started);

    let mut response = if streamed {
        let mut encoder = stream::Encoder::new(reply, include_usage);
        if numbered {
            encoder.number_from(last_event);
        }
        let opening = encoder.opening();
        let body = answer::stream(reader, opening, move |event| encoder.encode(event));
        (stream_headers(), body).into_response()
    } else {
        let (blocks, finished) = answer::collect(&mut reader).await?;
        Json(reply.completion(blocks, &finished)).into_response()
    };
    answer::name_the_answerer(response.headers_mut(), &started);
    let processing_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    response.headers_mut().insert(PROCESSING_MS, HeaderValue::from(processing_ms));
    Ok(response)
}

fn stream_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers
}

#[cfg(test)]
pub(crate) mod tests;
