//! The canonical request: what every dialect translates to.

use super::json::Json;
use super::tools::{ToolCall, ToolResult, Tools};
use crate::id::RequestId;

/// One inference request, free of any dialect.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Made when the request's head was read; in every log line, record and reply.
    pub id: RequestId,
    /// Which API it came by.
    pub dialect: Dialect,
    /// The model as the caller named it.
    pub model: String,
    /// The conversation, system prompts included, oldest first. Never empty.
    pub messages: Vec<Message>,
    /// What the model may call.
    pub tools: Tools,
    /// The form that each choice's text must have.
    pub answer: AnswerForm,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Alternatives to tell for each token, beside its own probability; `None` tells neither.
    pub logprobs: Option<u32>,
    /// Answers to the one prompt, at least 1.
    pub choices: u32,
    /// Texts that end a choice.
    pub stop: Vec<String>,
    /// Most output tokens of each choice; `None` is the model's default.
    pub max_tokens: Option<u32>,
    /// Whether the caller reads the answer as it comes.
    pub stream: bool,
}

/// Which API a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Dialect {
    OpenaiChat,
    BedrockConverse,
}

impl Dialect {
    /// As records and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::OpenaiChat => "openai_chat",
            Dialect::BedrockConverse => "bedrock_converse",
        }
    }
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whose.
    pub role: Role,
    /// Its parts in order.
    pub content: Vec<Content>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Role {
    System,
    User,
    Assistant,
    /// What the caller's tools gave; holds tool results only.
    Tool,
}

impl Role {
    /// As chat templates spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// A part of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// What an assistant thought before it answered.
    Reasoning(String),
    /// An assistant's call of a tool.
    ToolCall(ToolCall),
    /// What a tool gave.
    ToolResult(ToolResult),
}

/// The form that an answer's text must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AnswerForm {
    /// Any.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// JSON that fits a schema.
    JsonSchema(Json),
    /// Text that matches a regular expression as a whole.
    Regex(String),
}

/// How to choose tokens. `None` is the gateway's default (`inference/limits.rs`), the same in every dialect and for every
/// model so far: temperature 0.7, nucleus 0.95, 40 candidates, a random seed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// Nucleus, 0 < p ≤ 1.
    pub top_p: Option<f32>,
    /// Most likely tokens to choose from.
    pub top_k: Option<u32>,
    /// Least probability, as a share of the most likely token's; `None` is off.
    pub min_p: Option<f32>,
    /// Against tokens that the answer has, -2 to 2; `None` is off.
    pub presence_penalty: Option<f32>,
    /// The same for each time that it has them.
    pub frequency_penalty: Option<f32>,
    /// Against tokens that prompt or answer have, above 0 and at most 10; `None` is off, as is 1.
    pub repetition_penalty: Option<f32>,
    /// Token ids of the model's vocabulary, and what is added to their logits, -100 to 100.
    pub logit_bias: Vec<(u32, f32)>,
    /// Makes the answer repeatable, one sequence at a time.
    pub seed: Option<u64>,
}
