//! Between OpenAI's chat completions and the canonical request and answer. Pure.

use super::tools;
use super::wire::{
    AnswerMessage, CallMade, ChatChunk, ChatCompletion, ChatMessage, ChatRequest, Choice, ChunkChoice,
    CompletionTokensDetails, ContentPart, Delta, FinishReason, FunctionCalled, PromptTokensDetails, Usage,
};
use crate::api::answer::Block;
use crate::api::json::TextOr;
use crate::error::{Error, Result};
use crate::id::RequestId;
use crate::inference;
use crate::inference::tools::CallBook;
use crate::inference::{Content, Dialect, Finish, Finished, Message, Request, Role, Sampling, Started};
use cluster_protocol::limits;

/// Most texts in `stop`.
const MAX_STOP: usize = 4;

/// The canonical form of a request.
///
/// # Errors
/// `Invalid`, naming the parameter that is out of range or not offered.
pub fn request(id: RequestId, wire: ChatRequest) -> Result<Request> {
    refuse_what_is_not_offered(&wire)?;
    if wire.messages.iter().all(is_empty_answer) {
        return Err(Error::invalid("messages", "`messages` must hold at least one message."));
    }
    let stream = wire.stream.unwrap_or(false);
    if wire.stream_options.is_some() && !stream {
        return Err(Error::invalid("stream_options", "`stream_options` is only allowed with `stream: true`."));
    }
    let tools = tools::tools(wire.tools, wire.tool_choice.as_ref(), wire.parallel_tool_calls)?;
    let answer = tools::answer_form(wire.response_format)?;
    let messages = messages(wire.messages)?;
    let sampling = Sampling {
        temperature: within("temperature", wire.temperature, 0.0, 2.0)?,
        // 0 would be an empty nucleus; what callers mean by it is the most likely token.
        top_p: within("top_p", wire.top_p, 0.0, 1.0)?.map(|p| p.max(f32::MIN_POSITIVE)),
        seed: wire.seed.map(i64::cast_unsigned),
        ..Sampling::default()
    };
    Ok(Request {
        id,
        dialect: Dialect::OpenaiChat,
        model: wire.model,
        messages,
        tools,
        answer,
        sampling,
        logprobs: None,
        choices: 1,
        stop: stop(wire.stop)?,
        max_tokens: max_tokens(wire.max_completion_tokens, wire.max_tokens)?,
        stream,
    })
}

/// Refuses by name what would change the answer: ignoring it would answer another question.
fn refuse_what_is_not_offered(wire: &ChatRequest) -> Result<()> {
    let asked = [
        ("n", wire.n.is_some_and(|n| n != 1)),
        ("presence_penalty", wire.presence_penalty.is_some_and(|penalty| penalty != 0.0)),
        ("frequency_penalty", wire.frequency_penalty.is_some_and(|penalty| penalty != 0.0)),
        ("logprobs", wire.logprobs == Some(true)),
        ("top_logprobs", wire.top_logprobs.is_some_and(|count| count != 0)),
        ("logit_bias", wire.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty())),
        ("functions", wire.functions.as_ref().is_some_and(|functions| !functions.is_empty())),
        ("modalities", wire.modalities.as_ref().is_some_and(|kinds| kinds.iter().any(|kind| kind != "text"))),
        ("audio", wire.audio.is_some()),
        ("web_search_options", wire.web_search_options.is_some()),
        ("reasoning_effort", wire.reasoning_effort.is_some()),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((name, _)) => Err(Error::invalid(*name, format!("This value of `{name}` is not supported here yet."))),
        None => Ok(()),
    }
}

/// A model may end its turn at once, and callers send such answers back as part of the conversation: they say nothing.
fn is_empty_answer(turn: &ChatMessage) -> bool {
    let is_empty = |part: &ContentPart| part.kind == "text" && part.text.as_deref() == Some("");
    let says_nothing = match &turn.content {
        None => true,
        Some(TextOr::Text(text)) => text.is_empty(),
        Some(TextOr::Many(parts)) => parts.iter().all(is_empty),
    };
    let calls = turn.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
    turn.role == "assistant" && says_nothing && !calls
}

fn messages(turns: Vec<ChatMessage>) -> Result<Vec<Message>> {
    let mut messages: Vec<Message> = Vec::with_capacity(turns.len());
    let mut book = CallBook::default();
    for (at, turn) in turns.into_iter().enumerate().filter(|(_, turn)| !is_empty_answer(turn)) {
        let message = message(at, turn, &mut book)?;
        match messages.last_mut() {
            // One turn of results, however many tools gave them.
            Some(last) if last.role == Role::Tool && message.role == Role::Tool => last.content.extend(message.content),
            _ => messages.push(message),
        }
    }
    book.turn("messages")?;
    Ok(messages)
}

fn message(at: usize, turn: ChatMessage, book: &mut CallBook) -> Result<Message> {
    let role = match turn.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            let param = format!("messages[{at}].role");
            let text =
                format!("`{param}`: `{other}` is not supported; use system, developer, user, assistant or tool.");
            return Err(Error::invalid(param, text));
        }
    };
    if role != Role::Tool {
        book.turn(&format!("messages[{at}]"))?;
    }
    let calls = turn.tool_calls.unwrap_or_default();
    if role != Role::Assistant && !calls.is_empty() {
        let param = format!("messages[{at}].tool_calls");
        return Err(Error::invalid(&*param, format!("`{param}` is only allowed in messages of the assistant.")));
    }
    let texts = match turn.content {
        Some(TextOr::Text(text)) if text.is_empty() && !calls.is_empty() => vec![],
        Some(TextOr::Text(text)) => vec![text],
        Some(TextOr::Many(parts)) if !parts.is_empty() => {
            parts.into_iter().enumerate().map(|(index, part)| text_part(at, index, part)).collect::<Result<_>>()?
        }
        None if !calls.is_empty() => vec![],
        Some(TextOr::Many(_)) | None => {
            let param = format!("messages[{at}].content");
            return Err(Error::invalid(&*param, format!("`{param}` must be a string or a list of text parts.")));
        }
    };
    if role == Role::Tool {
        let result = tools::result(at, turn.tool_call_id, texts.join("\n"), book)?;
        return Ok(Message { role, content: vec![Content::ToolResult(result)] });
    }
    let reasoning = turn.reasoning_content.filter(|text| role == Role::Assistant && !text.is_empty());
    let mut content: Vec<Content> = reasoning.map(Content::Reasoning).into_iter().collect();
    content.extend(texts.into_iter().map(Content::Text));
    for (index, call) in calls.into_iter().enumerate() {
        content.push(Content::ToolCall(tools::call(at, index, call, book)?));
    }
    Ok(Message { role, content })
}

fn text_part(at: usize, index: usize, part: ContentPart) -> Result<String> {
    let param = format!("messages[{at}].content[{index}]");
    match (part.kind.as_str(), part.text) {
        ("text", Some(text)) => Ok(text),
        ("text", None) => Err(Error::invalid(format!("{param}.text"), format!("`{param}.text` is missing."))),
        (other, _) => {
            let text = format!("`{param}`: parts of type `{other}` are not supported here yet; use `text`.");
            Err(Error::invalid(format!("{param}.type"), text))
        }
    }
}

fn stop(stop: Option<TextOr<String>>) -> Result<Vec<String>> {
    let stop = match stop {
        None => vec![],
        Some(TextOr::Text(text)) => vec![text],
        Some(TextOr::Many(texts)) => texts,
    };
    if stop.len() > MAX_STOP {
        return Err(Error::invalid("stop", format!("`stop` may hold at most {MAX_STOP} texts.")));
    }
    if stop.iter().any(String::is_empty) {
        return Err(Error::invalid("stop", "A text in `stop` is empty."));
    }
    if !limits::takes_stops(&stop) {
        let most = limits::MAX_STOPS_BYTES;
        return Err(Error::invalid("stop", format!("The texts in `stop` may have at most {most} bytes together.")));
    }
    Ok(stop)
}

fn max_tokens(newer: Option<u32>, older: Option<u32>) -> Result<Option<u32>> {
    match (newer, older) {
        (Some(newer), Some(older)) if newer != older => {
            Err(Error::invalid("max_tokens", "`max_tokens` and `max_completion_tokens` contradict each other."))
        }
        (Some(0), _) => Err(Error::invalid("max_completion_tokens", "`max_completion_tokens` must be at least 1.")),
        (_, Some(0)) => Err(Error::invalid("max_tokens", "`max_tokens` must be at least 1.")),
        (newer, older) => Ok(newer.or(older)),
    }
}

fn within(name: &'static str, value: Option<f32>, low: f32, high: f32) -> Result<Option<f32>> {
    match value {
        Some(value) if !(low..=high).contains(&value) => {
            Err(Error::invalid(name, format!("`{name}` must be between {low} and {high}.")))
        }
        value => Ok(value),
    }
}

/// What all pieces of one reply share.
#[derive(Debug, Clone)]
pub struct Reply {
    id: String,
    created: i64,
    model: String,
    fingerprint: String,
}

impl Reply {
    /// For the answer that has just begun.
    pub fn new(started: &Started) -> Reply {
        let id = &started.request_id;
        let bare = id.as_str().split_once('_').map_or(id.as_str(), |(_, bare)| bare);
        Reply {
            id: format!("chatcmpl-{bare}"),
            created: started.accepted_at / 1_000_000,
            model: started.model.clone(),
            fingerprint: format!("caprock-{}", started.engine),
        }
    }

    /// A whole answer.
    pub fn completion(self, blocks: Vec<Block>, finished: &Finished) -> ChatCompletion {
        let (mut text, mut reasoning, mut tool_calls) = (String::new(), String::new(), vec![]);
        for block in blocks {
            match block {
                Block::Text(more) => text.push_str(&more),
                Block::Reasoning(more) => reasoning.push_str(&more),
                Block::ToolCall(call) => {
                    let function = FunctionCalled { name: call.name, arguments: call.arguments };
                    tool_calls.push(CallMade { id: call.id, kind: "function".into(), function });
                }
            }
        }
        let only_calls = text.is_empty() && !tool_calls.is_empty();
        let message = AnswerMessage {
            role: "assistant",
            content: (!only_calls).then_some(text),
            reasoning_content: (!reasoning.is_empty()).then_some(reasoning),
            tool_calls,
            refusal: None,
        };
        let finish_reason = finish_reason(finished.reason());
        ChatCompletion {
            id: self.id,
            object: "chat.completion",
            created: self.created,
            model: self.model,
            choices: vec![Choice { index: 0, message, logprobs: None, finish_reason }],
            usage: usage(&finished.usage),
            system_fingerprint: self.fingerprint,
        }
    }

    /// A piece of a streamed answer.
    pub fn chunk(&self, delta: Delta, finish_reason: Option<FinishReason>) -> ChatChunk {
        self.envelope(vec![ChunkChoice { index: 0, delta, logprobs: None, finish_reason }])
    }

    /// The piece that carries the usage.
    pub fn usage_chunk(&self, finished: &Finished) -> ChatChunk {
        ChatChunk { usage: Some(Some(usage(&finished.usage))), ..self.envelope(vec![]) }
    }

    fn envelope(&self, choices: Vec<ChunkChoice>) -> ChatChunk {
        ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: self.fingerprint.clone(),
            choices,
            usage: None,
        }
    }
}

/// In OpenAI's words; it has none for a shutdown, and `length` is its word for an answer cut short.
pub fn finish_reason(reason: &Finish) -> FinishReason {
    match reason {
        Finish::EndOfTurn | Finish::StopSequence { .. } => FinishReason::Stop,
        // It has no word for a call gone astray either: callers are told to check arguments.
        Finish::ToolCalls | Finish::MalformedToolCall => FinishReason::ToolCalls,
        Finish::MaxTokens | Finish::ContextFull | Finish::Stopped => FinishReason::Length,
    }
}

fn usage(usage: &inference::Usage) -> Usage {
    let prompt_tokens = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
    let completion_tokens = usage.output_tokens + usage.reasoning_tokens;
    Usage {
        prompt_tokens,
        completion_tokens,
        total_tokens: prompt_tokens + completion_tokens,
        prompt_tokens_details: PromptTokensDetails { cached_tokens: usage.cache_read_tokens },
        completion_tokens_details: CompletionTokensDetails { reasoning_tokens: usage.reasoning_tokens },
    }
}
