//! The JSON of Bedrock's Converse, as far as it is served.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A union: exactly one member, whose name says what it is. Its JSON is kept as it came: the order of a schema's
/// properties is part of what its author says.
pub type Union = BTreeMap<String, Box<RawValue>>;

/// A request. Members that are not listed are ignored, as Bedrock does.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({
    "system": [{ "text": "Answer in one sentence." }],
    "messages": [{ "role": "user", "content": [{ "text": "What is gravity?" }] }],
    "inferenceConfig": { "maxTokens": 64, "temperature": 0.0, "stopSequences": ["\n\n"] },
    "additionalModelRequestFields": { "inferenceConfig": { "topK": 20 } },
})))]
pub struct ConverseRequest {
    /// The conversation, oldest first.
    #[serde(default)]
    #[schema(required = true, min_items = 1)]
    pub messages: Vec<ConverseMessage>,
    /// System prompts; only `text` blocks are offered.
    #[schema(value_type = Option<Vec<TextBlock>>)]
    pub system: Option<Vec<Union>>,
    /// How to generate.
    pub inference_config: Option<InferenceConfig>,
    /// Only `top_k` and `inferenceConfig.topK` are read; `reasoningConfig` is not offered yet.
    #[schema(value_type = Option<Object>)]
    pub additional_model_request_fields: Option<AdditionalFields>,
    /// What the model may call.
    pub tool_config: Option<ToolConfig>,
    /// Not offered yet.
    #[schema(value_type = Option<Object>)]
    pub guardrail_config: Option<IgnoredAny>,
    /// The form of the answer's text.
    pub output_config: Option<OutputConfig>,
}

/// One turn.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ConverseMessage {
    /// `user`, `assistant` or `system`.
    #[schema(pattern = "^(user|assistant|system)$")]
    pub role: String,
    /// `text`; of the assistant also `toolUse` and `reasoningContent`; of the user also `toolResult`.
    #[schema(value_type = Vec<Object>)]
    pub content: Vec<Union>,
}

/// What the model may call.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolConfig {
    /// Only `toolSpec` is offered; at most 128, their names all different.
    #[schema(value_type = Vec<Object>, min_items = 1, max_items = 128)]
    pub tools: Vec<Union>,
    /// `auto`, `any`, or `tool` with a name.
    #[schema(value_type = Option<Object>)]
    pub tool_choice: Option<Union>,
}

/// A tool that the caller can run.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolSpec {
    /// `[a-zA-Z0-9_-]{1,64}`
    pub name: String,
    /// For the model.
    pub description: Option<String>,
    /// JSON schema of its input.
    pub input_schema: InputSchema,
    /// Whether input must fit the schema exactly.
    pub strict: Option<bool>,
}

/// JSON schema of a tool's input.
#[derive(Debug, Deserialize)]
pub struct InputSchema {
    /// An object's.
    pub json: Option<Box<RawValue>>,
}

/// Which tool must be called.
#[derive(Debug, Deserialize)]
pub struct NamedTool {
    /// In the list.
    pub name: String,
}

/// A call that the assistant made, as it is sent back.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolUseSent {
    /// Ties the result to it.
    pub tool_use_id: String,
    /// Which tool.
    pub name: String,
    /// An object.
    pub input: Box<RawValue>,
}

/// What a call gave.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolResultSent {
    /// The call's.
    pub tool_use_id: String,
    /// `text` and `json` blocks.
    #[serde(default)]
    pub content: Vec<Union>,
    /// `success` or `error`.
    pub status: Option<String>,
}

/// What the assistant thought, as it is sent back.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasoningSent {
    /// Only this form is offered.
    pub reasoning_text: Option<ReasoningText>,
}

/// How to generate.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InferenceConfig {
    /// Most output tokens.
    #[schema(minimum = 1)]
    pub max_tokens: Option<u32>,
    /// 0 is greedy.
    #[schema(minimum = 0, maximum = 1)]
    pub temperature: Option<f32>,
    /// Nucleus.
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f32>,
    /// Texts that end the answer.
    pub stop_sequences: Option<Vec<String>>,
}

/// What the gateway reads of a model's own fields.
#[derive(Debug, Default, Deserialize)]
pub struct AdditionalFields {
    /// Most likely tokens to choose from.
    #[serde(alias = "topK")]
    pub top_k: Option<u32>,
    /// Where Nova has what Converse's own `inferenceConfig` lacks.
    #[serde(rename = "inferenceConfig")]
    pub inference_config: Option<AdditionalInferenceConfig>,
    /// Not offered yet.
    #[serde(rename = "reasoningConfig")]
    pub reasoning_config: Option<serde_json::Value>,
}

/// Nova's additional settings.
#[derive(Debug, Default, Deserialize)]
pub struct AdditionalInferenceConfig {
    /// Most likely tokens to choose from.
    #[serde(rename = "topK", alias = "top_k")]
    pub top_k: Option<u32>,
    /// None is offered.
    #[serde(flatten)]
    pub others: serde_json::Map<String, serde_json::Value>,
}

/// How the answer shall look.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputConfig {
    /// Structured output.
    pub text_format: Option<TextFormat>,
}

/// Structured output.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TextFormat {
    /// `json_schema`
    #[serde(rename = "type")]
    #[schema(pattern = "^json_schema$")]
    pub kind: String,
    /// What it must fit.
    pub structure: Option<TextStructure>,
}

/// What an answer must fit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TextStructure {
    /// A JSON schema.
    pub json_schema: Option<TextSchema>,
}

/// A JSON schema.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TextSchema {
    /// As text.
    pub schema: String,
}

/// A block of text.
#[derive(Debug, Serialize, ToSchema)]
pub struct TextBlock {
    /// The text.
    pub text: String,
}

/// A whole answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({
    "output": { "message": { "role": "assistant", "content": [{ "text": "Gravity pulls masses together." }] } },
    "stopReason": "end_turn",
    "usage": { "inputTokens": 33, "outputTokens": 6, "totalTokens": 39 },
    "metrics": { "latencyMs": 214 },
})))]
pub struct ConverseResponse {
    /// The answer.
    pub output: Output,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// Exact, from the engine.
    pub usage: TokenUsage,
    /// How long it took.
    pub metrics: Metrics,
}

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Output {
    /// One turn.
    pub message: OutputMessage,
}

/// The answer's turn.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutputMessage {
    /// `assistant`
    pub role: &'static str,
    /// Its blocks in order; none when the model ended its turn at once.
    pub content: Vec<OutputBlock>,
}

/// A part of an answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum OutputBlock {
    /// For people.
    Text(String),
    /// A call.
    ToolUse(ToolUse),
    /// What the model thought.
    ReasoningContent(ReasoningContent),
}

/// A call.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolUse {
    /// Ties the result to it.
    pub tool_use_id: String,
    /// Which tool.
    pub name: String,
    /// An object. Where the answer was cut, the beginning of its JSON, as a string.
    #[schema(value_type = Value)]
    pub input: Box<RawValue>,
}

/// What the model thought.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReasoningContent {
    /// In words.
    pub reasoning_text: ReasoningText,
}

/// Reasoning in words.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReasoningText {
    /// The words.
    pub text: String,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model ended its turn.
    EndTurn,
    /// A stop text came up.
    StopSequence,
    /// `maxTokens` were generated, or this gateway's shutdown ended it.
    MaxTokens,
    /// Prompt and answer fill the context.
    ModelContextWindowExceeded,
    /// The model waits for results of its calls.
    ToolUse,
    /// The model made a call whose input is no JSON object.
    MalformedToolUse,
}

/// Tokens of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenUsage {
    /// Of the prompt, cached ones not included.
    pub input_tokens: u64,
    /// Of the answer.
    pub output_tokens: u64,
    /// All.
    pub total_tokens: u64,
    /// Taken from a prefix cache; absent for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_input_tokens: Option<u64>,
    /// Written to a prefix cache; absent for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_input_tokens: Option<u64>,
}

/// How long it took.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// From the request's head to the last token.
    pub latency_ms: u64,
}

/// A failure; `x-amzn-ErrorType` names it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BedrockError, examples(json!({ "message": "`messages[0].content` must hold at least one block." })))]
pub struct ErrorBody {
    /// For people.
    pub message: String,
}

/// The payloads of a streamed answer's events.
pub mod event {
    use super::{Metrics, StopReason, TokenUsage};
    use serde::Serialize;

    /// `messageStart`
    #[derive(Debug, Serialize)]
    pub struct MessageStart {
        /// `assistant`
        pub role: &'static str,
    }

    /// `contentBlockDelta`
    #[derive(Debug, Serialize)]
    #[serde(rename_all = "camelCase")]
    pub struct ContentBlockDelta {
        /// Which block.
        pub content_block_index: u32,
        /// What is new in it.
        pub delta: Delta,
    }

    /// What is new in a block.
    #[derive(Debug, Serialize)]
    #[serde(rename_all = "camelCase")]
    pub enum Delta {
        /// More text.
        Text(String),
        /// More of a call.
        ToolUse {
            /// More of its input's JSON.
            input: String,
        },
        /// More of what the model thinks.
        ReasoningContent {
            /// The words.
            text: String,
        },
    }

    /// `contentBlockStart`; only calls have one.
    #[derive(Debug, Serialize)]
    #[serde(rename_all = "camelCase")]
    pub struct ContentBlockStart {
        /// Which block.
        pub content_block_index: u32,
        /// What begins.
        pub start: Start,
    }

    /// What begins.
    #[derive(Debug, Serialize)]
    #[serde(rename_all = "camelCase")]
    pub enum Start {
        /// A call.
        #[serde(rename_all = "camelCase")]
        ToolUse {
            /// Ties the result to it.
            tool_use_id: String,
            /// Which tool.
            name: String,
        },
    }

    /// `contentBlockStop`
    #[derive(Debug, Serialize)]
    #[serde(rename_all = "camelCase")]
    pub struct ContentBlockStop {
        /// Which block.
        pub content_block_index: u32,
    }

    /// `messageStop`
    #[derive(Debug, Serialize)]
    #[serde(rename_all = "camelCase")]
    pub struct MessageStop {
        /// Why it ended.
        pub stop_reason: StopReason,
    }

    /// `metadata`
    #[derive(Debug, Serialize)]
    pub struct Metadata {
        /// Exact, from the engine.
        pub usage: TokenUsage,
        /// How long it took.
        pub metrics: Metrics,
    }
}
