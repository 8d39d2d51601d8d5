//! The JSON of Bedrock's Converse, as far as it is served.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A union: exactly one member, whose name says what it is.
pub type Union = serde_json::Map<String, serde_json::Value>;

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
    /// Not offered yet.
    #[schema(value_type = Option<Object>)]
    pub tool_config: Option<IgnoredAny>,
    /// Not offered yet.
    #[schema(value_type = Option<Object>)]
    pub guardrail_config: Option<IgnoredAny>,
    /// `textFormat` is not offered yet.
    #[schema(value_type = Option<Object>)]
    pub output_config: Option<OutputConfig>,
}

/// One turn.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ConverseMessage {
    /// `user`, `assistant` or `system`.
    #[schema(pattern = "^(user|assistant|system)$")]
    pub role: String,
    /// Only `text` blocks are offered.
    #[schema(value_type = Vec<TextBlock>)]
    pub content: Vec<Union>,
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
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputConfig {
    /// Structured output.
    pub text_format: Option<IgnoredAny>,
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
    /// One block; none when the model ended its turn at once.
    pub content: Vec<TextBlock>,
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
    use super::{Metrics, StopReason, TextBlock, TokenUsage};
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
        pub delta: TextBlock,
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
