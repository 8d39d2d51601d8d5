//! Between Bedrock's Converse and the canonical request and answer. Pure.

use super::tools;
use super::wire::{
    AdditionalFields, ConverseMessage, ConverseRequest, ConverseResponse, InferenceConfig, Metrics, Output,
    OutputBlock, OutputMessage, ReasoningContent, ReasoningText, StopReason, TokenUsage, ToolUse, Union,
};
use crate::api::answer::{Block, WholeCall};
use crate::api::json;
use crate::error::{Error, Result};
use crate::id::RequestId;
use crate::inference::tools::CallBook;
use crate::inference::{Content, Dialect, Finish, Finished, Message, Request, Role, Sampling, Usage};
use cluster_protocol::limits;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

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
        let content = system.into_iter().enumerate();
        let content = content.map(|(index, block)| system_text(&format!("system[{index}]"), block));
        let content = content.collect::<Result<_>>()?;
        messages.push(Message { role: Role::System, content });
    }
    let mut book = CallBook::default();
    for (at, turn) in wire.messages.into_iter().enumerate() {
        if !is_empty_answer(&turn) {
            messages.extend(turns(at, turn, &mut book)?);
        }
    }
    book.turn("messages")?;
    let tools = wire.tool_config.map(tools::tools).transpose()?.unwrap_or_default();
    let answer = tools::answer_form(wire.output_config.and_then(|config| config.text_format))?;
    let config = wire.inference_config.unwrap_or_default();
    let top_k = top_k(wire.additional_model_request_fields.unwrap_or_default())?;
    Ok(Request {
        id,
        dialect: Dialect::BedrockConverse,
        model,
        messages,
        tools,
        answer,
        sampling: sampling(&config, top_k)?,
        logprobs: None,
        choices: 1,
        max_tokens: max_tokens(config.max_tokens)?,
        stop: stop(config.stop_sequences.unwrap_or_default())?,
        stream,
    })
}

/// Refuses by name what would change the answer: ignoring it would answer another question.
fn refuse_what_is_not_offered(wire: &ConverseRequest) -> Result<()> {
    match wire.guardrail_config {
        Some(_) => Err(Error::invalid("guardrailConfig", "`guardrailConfig` is not supported here yet.")),
        None => Ok(()),
    }
}

/// A model may end its turn at once, and callers send such answers back as part of the conversation: they say nothing.
fn is_empty_answer(turn: &ConverseMessage) -> bool {
    let is_empty = |block: &Union| {
        let mut members = block.iter().filter(|(_, value)| !is_null(value));
        members.next().is_some_and(|(name, value)| name == "text" && value.get() == "\"\"") && members.next().is_none()
    };
    turn.role == "assistant" && turn.content.iter().all(is_empty)
}

/// A user's turn becomes two where it holds results and words: the results come first, since they answer the turn before.
fn turns(at: usize, turn: ConverseMessage, book: &mut CallBook) -> Result<Vec<Message>> {
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
    let mut blocks = Vec::with_capacity(turn.content.len());
    for (index, block) in turn.content.into_iter().enumerate() {
        let param = format!("{param}[{index}]");
        let (name, value) = only_member(&param, block)?;
        blocks.push((param, name, value));
    }
    let (results, rest): (Vec<_>, Vec<_>) =
        blocks.into_iter().partition(|(_, name, _)| role == Role::User && name == "toolResult");
    let mut turns = Vec::with_capacity(2);
    if !results.is_empty() {
        let result = |(param, _, value): (String, String, Box<RawValue>)| tools::result(&param, &value, book);
        let content = results.into_iter().map(result).map(|result| result.map(Content::ToolResult));
        turns.push(Message { role: Role::Tool, content: content.collect::<Result<_>>()? });
    }
    book.turn(&format!("messages[{at}]"))?;
    if !rest.is_empty() {
        let block = |(param, name, value): (String, String, Box<RawValue>)| match (name.as_str(), role) {
            ("toolUse", Role::Assistant) => tools::call(&param, &value, book).map(Content::ToolCall),
            ("reasoningContent", Role::Assistant) => tools::reasoning(&param, &value).map(Content::Reasoning),
            _ => text(&param, &name, &value).map(Content::Text),
        };
        let content = rest.into_iter().map(block).collect::<Result<_>>()?;
        turns.push(Message { role, content });
    }
    Ok(turns)
}

fn system_text(param: &str, block: Union) -> Result<Content> {
    let (name, value) = only_member(param, block)?;
    text(param, &name, &value).map(Content::Text)
}

/// Of a union.
pub(super) fn only_member(param: &str, union: Union) -> Result<(String, Box<RawValue>)> {
    let mut members = union.into_iter().filter(|(_, value)| !is_null(value));
    match (members.next(), members.next()) {
        (Some(member), None) => Ok(member),
        _ => Err(Error::invalid(param, format!("`{param}` must have exactly one member."))),
    }
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// The text of a block; every other member of the union is refused by its name.
fn text(param: &str, name: &str, value: &RawValue) -> Result<String> {
    if name != "text" {
        let text = format!("`{param}`: blocks of kind `{name}` are not supported here.");
        return Err(Error::invalid(format!("{param}.{name}"), text));
    }
    match json::member::<Value>(&format!("{param}.text"), value)? {
        Value::String(text) if text.is_empty() => {
            Err(Error::invalid(param, format!("The text of `{param}` is blank.")))
        }
        Value::String(text) => Ok(text),
        _ => Err(Error::invalid(param, format!("`{param}.text` must be a string."))),
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
pub fn response(blocks: Vec<Block>, finished: &Finished) -> ConverseResponse {
    let block = |block| match block {
        Block::Text(text) => OutputBlock::Text(text),
        Block::Reasoning(text) => {
            OutputBlock::ReasoningContent(ReasoningContent { reasoning_text: ReasoningText { text } })
        }
        Block::ToolCall(call) => OutputBlock::ToolUse(tool_use(call)),
    };
    let message = OutputMessage { role: "assistant", content: blocks.into_iter().map(block).collect() };
    ConverseResponse {
        output: Output { message },
        stop_reason: stop_reason(finished.reason()),
        usage: usage(&finished.usage),
        metrics: Metrics { latency_ms: finished.latency_ms },
    }
}

fn tool_use(call: WholeCall) -> ToolUse {
    let input = RawValue::from_string(call.arguments.clone()).ok().filter(|_| call.complete);
    // What is no JSON can still be a string of it, so nothing is lost; to write a string can't fail.
    let input = input.or_else(|| to_raw_value(&call.arguments).ok()).unwrap_or_default();
    ToolUse { tool_use_id: call.id, name: call.name, input }
}

/// In Bedrock's words; it has none for a shutdown, and `max_tokens` is its word for an answer cut short.
pub fn stop_reason(reason: &Finish) -> StopReason {
    match reason {
        Finish::EndOfTurn => StopReason::EndTurn,
        Finish::ToolCalls => StopReason::ToolUse,
        Finish::MalformedToolCall => StopReason::MalformedToolUse,
        Finish::StopSequence { .. } => StopReason::StopSequence,
        Finish::MaxTokens | Finish::Stopped => StopReason::MaxTokens,
        Finish::ContextFull => StopReason::ModelContextWindowExceeded,
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
