//! Tool calls: how a model is told of tools, how it must be constrained, and how its calls are read.
//!
//! | format | a call | begins with |
//! |---|---|---|
//! | Hermes, Qwen; fallback | `<tool_call>{"name": …, "arguments": {…}}</tool_call>` | `<tool_call>` |
//! | Llama 3 | `{"name": …, "parameters": {…}}` | the answer, or `<\|python_tag\|>` |
//! | Mistral | `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]` | `[TOOL_CALLS]` |
//! | Mistral, since 2025 | `[TOOL_CALLS]name[ARGS]{…}` | `[TOOL_CALLS]` |
//! | gpt-oss (harmony) | `<\|channel\|>commentary to=functions.name <\|constrain\|>json<\|message\|>{…}` | its channel |
//! | DeepSeek V3, R1 | `<｜tool▁call▁begin｜>function<｜tool▁sep｜>name`, the JSON in a fence | `<｜tool▁calls▁begin｜>` |
//! | DeepSeek since V3.1 | `<｜tool▁call▁begin｜>name<｜tool▁sep｜>{…}` | `<｜tool▁calls▁begin｜>` |
//!
//! A template that renders tools and their results is used as it is ([`support`] tries it out once). For every other
//! model [`fallback`] writes tools, calls and results into ordinary turns, in Hermes' format.

pub(super) mod call;
mod constraint;
mod deepseek;
pub(super) mod fallback;
pub(super) mod harmony;
mod hermes;
pub(super) mod input;
mod llama3;
mod mistral;
pub(super) mod native;
mod scan;
mod schema;
pub(super) mod support;

pub(super) use constraint::{Tokens, answer_constraint, constraint};
pub(super) use input::{Input, Progress, Steps};
pub(super) use support::Support;

use cluster_protocol::TokenizerCard;

/// How a model writes its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    Hermes,
    Llama3,
    Mistral,
    MistralArgs,
    Harmony,
    DeepSeekV3,
    DeepSeekV31,
}

impl Format {
    /// By the template's text and the vocabulary; `None` for a format that is not known here.
    pub(super) fn detect(template: &str, tokenizer: &TokenizerCard) -> Option<Format> {
        let writes = |text: &str| template.contains(text);
        let has_token = |text: &str| tokenizer.tokens.iter().any(|token| token == text);
        if writes("<|channel|>") && has_token("<|channel|>") && has_token("<|message|>") {
            return Some(Format::Harmony);
        }
        if writes(deepseek::CALLS_BEGIN) {
            return Some(if writes("```json") { Format::DeepSeekV3 } else { Format::DeepSeekV31 });
        }
        if writes(mistral::TOOL_CALLS) {
            return Some(if writes(mistral::ARGS) { Format::MistralArgs } else { Format::Mistral });
        }
        // Others write XML between the same tags.
        if writes(hermes::BEGIN) && !writes("<function=") && !writes("<arg_key>") {
            return Some(Format::Hermes);
        }
        if writes("<|start_header_id|>") && (writes("ipython") || writes(llama3::PYTHON_TAG)) {
            return Some(Format::Llama3);
        }
        None
    }

    /// Texts that the reader looks for. Those of them that are control tokens must come with the answer's text.
    pub(super) fn markers(self) -> &'static [&'static str] {
        match self {
            Format::Hermes => &[hermes::BEGIN, hermes::END],
            Format::Llama3 => &[llama3::PYTHON_TAG],
            Format::Mistral => &[mistral::TOOL_CALLS],
            Format::MistralArgs => &[mistral::TOOL_CALLS, mistral::ARGS, mistral::CALL_ID],
            Format::Harmony => &harmony::MARKERS,
            Format::DeepSeekV3 | Format::DeepSeekV31 => &deepseek::MARKERS,
        }
    }
}

/// Reads calls, from the text that begins them.
#[derive(Debug)]
pub(super) enum CallReader {
    Hermes(hermes::Reader),
    Llama3(llama3::Reader),
    Mistral(mistral::Reader),
    DeepSeek(deepseek::Reader),
}

impl CallReader {
    /// Texts that begin calls, and whether an answer's first `{` may too. Harmony has a reader of its own.
    pub(super) fn openers(format: Format) -> (&'static [&'static str], bool) {
        match format {
            Format::Hermes => (&[hermes::BEGIN], false),
            Format::Llama3 => (&[llama3::PYTHON_TAG], true),
            Format::Mistral | Format::MistralArgs => (&[mistral::TOOL_CALLS], false),
            Format::DeepSeekV3 | Format::DeepSeekV31 => (&[deepseek::CALLS_BEGIN, deepseek::CALL_BEGIN], false),
            Format::Harmony => (&[], false),
        }
    }

    /// A reader that goes on where `opener` begins, which is still to be read.
    pub(super) fn new(format: Format) -> Option<CallReader> {
        match format {
            Format::Hermes => Some(CallReader::Hermes(hermes::Reader::default())),
            Format::Llama3 => Some(CallReader::Llama3(llama3::Reader::default())),
            Format::Mistral | Format::MistralArgs => Some(CallReader::Mistral(mistral::Reader::default())),
            Format::DeepSeekV3 | Format::DeepSeekV31 => Some(CallReader::DeepSeek(deepseek::Reader::default())),
            Format::Harmony => None,
        }
    }

    /// Goes on as far as the input reaches.
    pub(super) fn read(&mut self, input: &mut Input, steps: &mut Steps) -> Progress {
        match self {
            CallReader::Hermes(reader) => reader.read(input, steps),
            CallReader::Llama3(reader) => reader.read(input, steps),
            CallReader::Mistral(reader) => reader.read(input, steps),
            CallReader::DeepSeek(reader) => reader.read(input, steps),
        }
    }
}

#[cfg(test)]
mod templates_tests;
