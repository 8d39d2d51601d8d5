//! The JSON of OpenAI's chat completions, as far as it is served.

use crate::api::json::TextOr;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A request. Members that are not listed are ignored; the last group is known, not offered, and refused by name
/// unless it asks for nothing.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChatRequest {
    /// Id of a model in the catalog.
    pub model: String,
    /// The conversation, oldest first.
    #[schema(min_items = 1)]
    pub messages: Vec<ChatMessage>,
    /// Most output tokens; the older name.
    #[schema(minimum = 1)]
    pub max_tokens: Option<u32>,
    /// Most output tokens.
    #[schema(minimum = 1)]
    pub max_completion_tokens: Option<u32>,
    /// 0 is greedy.
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f32>,
    /// Nucleus.
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f32>,
    /// Makes the answer repeatable, one sequence at a time.
    pub seed: Option<i64>,
    /// Texts that end the answer, at most 4.
    #[schema(value_type = Option<TextOr<String>>)]
    pub stop: Option<TextOr<String>>,
    /// Whether to send the answer as it comes.
    pub stream: Option<bool>,
    /// Only with `stream`.
    pub stream_options: Option<StreamOptions>,
    /// How many answers; only 1 is offered.
    #[schema(minimum = 1, maximum = 1)]
    pub n: Option<u32>,
    /// What the model may call; at most 128, their names all different.
    #[schema(max_items = 128)]
    pub tools: Option<Vec<ToolDefinition>>,
    /// `auto`, `none`, `required`, or `{"type": "function", "function": {"name": …}}`.
    #[schema(value_type = Option<Value>)]
    pub tool_choice: Option<serde_json::Value>,
    /// Whether an answer may hold several calls; `true` by default.
    pub parallel_tool_calls: Option<bool>,
    /// The form of the answer's text.
    pub response_format: Option<ResponseFormat>,

    /// Only 0 is offered.
    pub presence_penalty: Option<f32>,
    /// Only 0 is offered.
    pub frequency_penalty: Option<f32>,
    /// Only `false` is offered.
    pub logprobs: Option<bool>,
    /// Only 0 is offered.
    pub top_logprobs: Option<u32>,
    /// Only an empty object is offered.
    #[schema(value_type = Option<Object>)]
    pub logit_bias: Option<std::collections::HashMap<String, IgnoredAny>>,
    /// Not offered.
    #[schema(value_type = Option<Vec<Object>>)]
    pub functions: Option<Vec<IgnoredAny>>,
    /// Only `["text"]` is offered.
    pub modalities: Option<Vec<String>>,
    /// Not offered.
    #[schema(value_type = Option<Object>)]
    pub audio: Option<IgnoredAny>,
    /// Not offered.
    #[schema(value_type = Option<Object>)]
    pub web_search_options: Option<IgnoredAny>,
    /// Not offered yet.
    #[schema(value_type = Option<String>)]
    pub reasoning_effort: Option<IgnoredAny>,
}

impl ChatRequest {
    /// Whether a stream ends with its usage.
    pub fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }
}

/// One turn.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChatMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    #[schema(pattern = "^(system|developer|user|assistant|tool)$")]
    pub role: String,
    /// A text, or a list of text parts; may be null beside `tool_calls`.
    #[schema(value_type = Option<TextOr<ContentPart>>)]
    pub content: Option<TextOr<ContentPart>>,
    /// Of the assistant: what it called. Each call needs its result in a `tool` message behind it.
    pub tool_calls: Option<Vec<CallMade>>,
    /// Of a tool: the call that it answers.
    pub tool_call_id: Option<String>,
    /// Of the assistant: what it thought, as answers have it.
    pub reasoning_content: Option<String>,
}

/// What the model may call.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ToolDefinition {
    /// `function`
    #[serde(rename = "type")]
    #[schema(pattern = "^function$")]
    pub kind: String,
    /// The function.
    pub function: Option<FunctionDefinition>,
}

/// A function that the caller can run.
#[derive(Debug, Deserialize, ToSchema)]
pub struct FunctionDefinition {
    /// Its name.
    #[schema(pattern = "^[a-zA-Z0-9_-]{1,64}$")]
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON schema of its arguments, an object's; without one it takes any.
    #[schema(value_type = Option<Object>)]
    pub parameters: Option<Box<RawValue>>,
    /// Whether arguments must fit the schema exactly.
    pub strict: Option<bool>,
}

/// A call that the assistant made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CallMade {
    /// Ties the result to it.
    #[schema(min_length = 1, max_length = 256)]
    pub id: String,
    /// `function`
    #[serde(rename = "type", default = "function")]
    #[schema(pattern = "^function$")]
    pub kind: String,
    /// What was called.
    pub function: FunctionCalled,
}

/// What was called.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FunctionCalled {
    /// Its name.
    #[schema(pattern = "^[a-zA-Z0-9_-]{1,64}$")]
    pub name: String,
    /// JSON of an object, as text. Where an answer was cut it is only the beginning of one.
    pub arguments: String,
}

fn function() -> String {
    "function".to_owned()
}

/// A part of a turn; only type `text` is offered.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ContentPart {
    /// `text`
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    pub text: Option<String>,
}

/// How to stream.
#[derive(Debug, Deserialize, ToSchema)]
pub struct StreamOptions {
    /// Whether a last chunk carries the usage.
    pub include_usage: Option<bool>,
}

/// The form of the answer.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ResponseFormat {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    #[schema(pattern = "^(text|json_object|json_schema)$")]
    pub kind: String,
    /// Of `json_schema`.
    pub json_schema: Option<JsonSchemaFormat>,
}

/// A JSON schema for the answer.
#[derive(Debug, Deserialize, ToSchema)]
pub struct JsonSchemaFormat {
    /// For people.
    #[schema(pattern = "^[a-zA-Z0-9_-]{1,64}$")]
    pub name: String,
    /// The schema; the answer always fits it, whatever `strict` says.
    #[schema(value_type = Option<Object>)]
    pub schema: Option<Box<RawValue>>,
}

/// A whole answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "chatcmpl-0198c0de4a7b7c31b6f0a1d2e3f40516", "object": "chat.completion", "created": 1756000000,
    "model": "huggingface.smollm2-135m-instruct", "system_fingerprint": "caprock-llama",
    "choices": [{
        "index": 0, "message": { "role": "assistant", "content": "Gravity pulls masses together.", "refusal": null },
        "logprobs": null, "finish_reason": "stop",
    }],
    "usage": {
        "prompt_tokens": 33, "completion_tokens": 6, "total_tokens": 39,
        "prompt_tokens_details": { "cached_tokens": 0 }, "completion_tokens_details": { "reasoning_tokens": 0 },
    },
})))]
pub struct ChatCompletion {
    /// `chatcmpl-…`
    pub id: String,
    /// `chat.completion`
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: i64,
    /// The model that answered.
    pub model: String,
    /// Exactly one.
    pub choices: Vec<Choice>,
    /// Exact, from the engine.
    pub usage: Usage,
    /// Names the engine.
    pub system_fingerprint: String,
}

/// One answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Choice {
    /// 0
    pub index: u32,
    /// The answer.
    pub message: AnswerMessage,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub logprobs: Option<()>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnswerMessage {
    /// `assistant`
    pub role: &'static str,
    /// The text; null when there are only calls.
    pub content: Option<String>,
    /// What the model thought before; absent when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// What the model calls; absent when it calls nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub tool_calls: Vec<CallMade>,
    /// Always null.
    pub refusal: Option<String>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn, or a stop text came up.
    Stop,
    /// `max_tokens`, the context, or this gateway's shutdown ended it.
    Length,
    /// The model waits for results of its calls.
    ToolCalls,
}

/// A piece of a streamed answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "chatcmpl-0198c0de4a7b7c31b6f0a1d2e3f40516", "object": "chat.completion.chunk", "created": 1756000000,
    "model": "huggingface.smollm2-135m-instruct", "system_fingerprint": "caprock-llama",
    "choices": [{ "index": 0, "delta": { "content": "Gravity" }, "logprobs": null, "finish_reason": null }],
})))]
pub struct ChatChunk {
    /// The same in all pieces.
    pub id: String,
    /// `chat.completion.chunk`
    pub object: &'static str,
    /// Seconds since 1970, the same in all pieces.
    pub created: i64,
    /// The model that answers.
    pub model: String,
    /// Names the engine.
    pub system_fingerprint: String,
    /// One, or none in the piece that carries the usage.
    pub choices: Vec<ChunkChoice>,
    /// Null but in the last piece; absent unless asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    pub usage: Option<Option<Usage>>,
}

/// The growth of one answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChunkChoice {
    /// 0
    pub index: u32,
    /// What is new.
    pub delta: Delta,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    pub logprobs: Option<()>,
    /// Set in the last piece with a choice.
    pub finish_reason: Option<FinishReason>,
}

/// What is new in an answer.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Delta {
    /// `assistant`, in the first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// More text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// More of what the model thinks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// More of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<[CallDelta; 1]>,
}

/// What is new in a call.
#[derive(Debug, Serialize, ToSchema)]
pub struct CallDelta {
    /// Which call, from 0.
    pub index: u32,
    /// In the call's first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `function`, in the call's first piece.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// What is called.
    pub function: FunctionDelta,
}

/// What is new in what is called.
#[derive(Debug, Serialize, ToSchema)]
pub struct FunctionDelta {
    /// In the call's first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of the arguments' JSON.
    pub arguments: String,
}

/// Tokens of a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Usage {
    /// Of the prompt, cached ones included.
    pub prompt_tokens: u64,
    /// Of the answer, reasoning included.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
    /// Parts of `prompt_tokens`.
    pub prompt_tokens_details: PromptTokensDetails,
    /// Parts of `completion_tokens`.
    pub completion_tokens_details: CompletionTokensDetails,
}

/// Parts of the prompt.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Taken from a prefix cache.
    pub cached_tokens: u64,
}

/// Parts of the answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CompletionTokensDetails {
    /// Spent on reasoning.
    pub reasoning_tokens: u64,
}

/// A failure.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OpenaiError, examples(json!({
    "error": {
        "message": "`temperature` must be between 0 and 2.", "type": "invalid_request_error", "param": "temperature",
        "code": "invalid_value",
    },
})))]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// For people.
    pub message: String,
    /// Broad class.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The field at fault.
    pub param: Option<String>,
    /// For programs.
    pub code: Option<&'static str>,
}
