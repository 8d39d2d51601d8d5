//! Between Bedrock's Converse and the canonical request and answer. Pure.

use super::wire::{
    AdditionalFields, ConverseMessage, ConverseRequest, ConverseResponse, InferenceConfig, Metrics, Output,
    OutputMessage, StopReason, TextBlock, TokenUsage, Union,
};
use crate::error::{Error, Result};
use crate::id::RequestId;
use crate::inference::{Content, Dialect, Finished, Message, Request, Role, Sampling, Usage};
use cluster_protocol::{FinishReason as Reason, limits};
use serde_json::Value;

/// What Bedrock says about a model id that it doesn't know.
pub const INVALID_MODEL: &str = "The provided model identifier is invalid.";

/// The canonical form of a request.
///
/// # Errors
/// `Invalid`, naming the member that is out of range or not offered.
pub fn request(id: RequestId, model: String, wire: ConverseRequest, stream: bool) -> Result<Request> {
    refuse_what_is_not_offered(&wire)?;
    if wire.messages.iter().all(is_empty_answer) {
        return Err(Error::invalid("messages", "The request needs at least one message in `messages`."));
    }
    let system = wire.system.unwrap_or_default();
    let mut messages = Vec::with_capacity(wire.messages.len() + 1);
    if !system.is_empty() {
        let content = texts("system", system)?;
        messages.push(Message { role: Role::System, content });
    }
    for (at, turn) in wire.messages.into_iter().enumerate() {
        if !is_empty_answer(&turn) {
            messages.push(message(at, turn)?);
        }
    }
    let config = wire.inference_config.unwrap_or_default();
    let top_k = top_k(wire.additional_model_request_fields.unwrap_or_default())?;
    Ok(Request {
        id,
        dialect: Dialect::BedrockConverse,
        model,
        messages,
        sampling: sampling(&config, top_k)?,
        constraint: None,
        logprobs: None,
        choices: 1,
        max_tokens: max_tokens(config.max_tokens)?,
        stop: stop(config.stop_sequences.unwrap_or_default())?,
        stream,
    })
}

/// Refuses by name what would change the answer: ignoring it would answer another question.
fn refuse_what_is_not_offered(wire: &ConverseRequest) -> Result<()> {
    let asked = [
        ("toolConfig", wire.tool_config.is_some()),
        ("guardrailConfig", wire.guardrail_config.is_some()),
        ("outputConfig.textFormat", wire.output_config.as_ref().is_some_and(|config| config.text_format.is_some())),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((name, _)) => Err(Error::invalid(*name, format!("`{name}` is not supported here yet."))),
        None => Ok(()),
    }
}

/// A model may end its turn at once, and callers send such answers back as part of the conversation: they say nothing.
fn is_empty_answer(turn: &ConverseMessage) -> bool {
    let is_empty = |block: &Union| {
        let mut members = block.iter().filter(|(_, value)| !value.is_null());
        members.next().is_some_and(|(name, value)| name == "text" && value == "") && members.next().is_none()
    };
    turn.role == "assistant" && turn.content.iter().all(is_empty)
}

fn message(at: usize, turn: ConverseMessage) -> Result<Message> {
    let role = match turn.role.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        other => {
            let param = format!("messages[{at}].role");
            let text = format!("`{param}`: `{other}` is not one of user, assistant and system.");
            return Err(Error::invalid(param, text));
        }
    };
    let param = format!("messages[{at}].content");
    if turn.content.is_empty() {
        return Err(Error::invalid(&*param, format!("`{param}` must hold at least one block.")));
    }
    Ok(Message { role, content: texts(&param, turn.content)? })
}

fn texts(param: &str, blocks: Vec<Union>) -> Result<Vec<Content>> {
    blocks.into_iter().enumerate().map(|(index, block)| text(&format!("{param}[{index}]"), block)).collect()
}

/// The text of a block; every other member of the union is refused by its name.
fn text(param: &str, block: Union) -> Result<Content> {
    let mut members = block.into_iter().filter(|(_, value)| !value.is_null());
    let (Some((name, value)), None) = (members.next(), members.next()) else {
        return Err(Error::invalid(param, format!("`{param}` must have exactly one member.")));
    };
    match (name.as_str(), value) {
        ("text", Value::String(text)) if text.is_empty() => {
            Err(Error::invalid(param, format!("The text of `{param}` is blank.")))
        }
        ("text", Value::String(text)) => Ok(Content::Text(text)),
        ("text", _) => Err(Error::invalid(param, format!("`{param}.text` must be a string."))),
        (other, _) => {
            let text = format!("`{param}`: blocks of kind `{other}` are not supported here yet; use `text`.");
            Err(Error::invalid(format!("{param}.{other}"), text))
        }
    }
}

/// Reads the fields that are the model's own.
fn top_k(fields: AdditionalFields) -> Result<Option<u32>> {
    const FIELDS: &str = "additionalModelRequestFields";
    let not_offered = |name: &str| {
        let param = format!("{FIELDS}.{name}");
        let text = format!("`{param}` is not supported here yet.");
        Err(Error::invalid(param, text))
    };
    let asks_for_nothing = |config: &Value| config["type"] == "disabled";
    if fields.reasoning_config.is_some_and(|config| !asks_for_nothing(&config)) {
        return not_offered("reasoningConfig");
    }
    let config = fields.inference_config.unwrap_or_default();
    if let Some((name, _)) = config.others.iter().find(|(_, value)| !value.is_null()) {
        return not_offered(&format!("inferenceConfig.{name}"));
    }
    match (config.top_k, fields.top_k) {
        (Some(nova), Some(other)) if nova != other => {
            let text = format!("`{FIELDS}`: `inferenceConfig.topK` and `top_k` contradict each other.");
            Err(Error::invalid(format!("{FIELDS}.inferenceConfig.topK"), text))
        }
        (nova, other) => Ok(nova.or(other)),
    }
}

fn sampling(config: &InferenceConfig, top_k: Option<u32>) -> Result<Sampling> {
    Ok(Sampling {
        temperature: fraction("inferenceConfig.temperature", config.temperature)?,
        // 0 would be an empty nucleus; what callers mean by it is the most likely token.
        top_p: fraction("inferenceConfig.topP", config.top_p)?.map(|p| p.max(f32::MIN_POSITIVE)),
        top_k,
        ..Sampling::default()
    })
}

fn fraction(name: &'static str, value: Option<f32>) -> Result<Option<f32>> {
    match value {
        Some(value) if !(0.0..=1.0).contains(&value) => {
            Err(Error::invalid(name, format!("`{name}` must be between 0 and 1.")))
        }
        value => Ok(value),
    }
}

fn max_tokens(value: Option<u32>) -> Result<Option<u32>> {
    match value {
        Some(0) => Err(Error::invalid("inferenceConfig.maxTokens", "`inferenceConfig.maxTokens` must be at least 1.")),
        value => Ok(value),
    }
}

fn stop(sequences: Vec<String>) -> Result<Vec<String>> {
    const NAME: &str = "inferenceConfig.stopSequences";
    if sequences.len() > limits::MAX_STOPS {
        let most = limits::MAX_STOPS;
        return Err(Error::invalid(NAME, format!("`{NAME}` may hold at most {most} texts.")));
    }
    if sequences.iter().any(String::is_empty) {
        return Err(Error::invalid(NAME, format!("A text in `{NAME}` is empty.")));
    }
    if !limits::takes_stops(&sequences) {
        let most = limits::MAX_STOPS_BYTES;
        return Err(Error::invalid(NAME, format!("The texts in `{NAME}` may have at most {most} bytes together.")));
    }
    Ok(sequences)
}

/// A whole answer. An empty one has no block: a blank text is refused when the caller sends it back.
pub fn response(text: String, finished: &Finished) -> ConverseResponse {
    let content = if text.is_empty() { vec![] } else { vec![TextBlock { text }] };
    let message = OutputMessage { role: "assistant", content };
    ConverseResponse {
        output: Output { message },
        stop_reason: stop_reason(finished.reason()),
        usage: usage(&finished.usage),
        metrics: Metrics { latency_ms: finished.latency_ms },
    }
}

/// In Bedrock's words; it has none for a shutdown, and `max_tokens` is its word for an answer cut short.
pub fn stop_reason(reason: &Reason) -> StopReason {
    match reason {
        Reason::EndOfTurn => StopReason::EndTurn,
        Reason::StopSequence { .. } => StopReason::StopSequence,
        Reason::MaxTokens | Reason::Stopped => StopReason::MaxTokens,
        Reason::ContextFull => StopReason::ModelContextWindowExceeded,
    }
}

/// In Bedrock's buckets.
pub fn usage(usage: &Usage) -> TokenUsage {
    let some = |tokens: u64| (tokens > 0).then_some(tokens);
    TokenUsage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens + usage.reasoning_tokens,
        total_tokens: usage.total_tokens(),
        cache_read_input_tokens: some(usage.cache_read_tokens),
        cache_write_input_tokens: some(usage.cache_write_tokens),
    }
}
