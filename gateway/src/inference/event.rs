//! The canonical answer: what every dialect translates from.

use crate::catalog::Deprecation;
use crate::clock::Micros;
use crate::error::Error;
use crate::id::RequestId;
use crate::money::Nanousd;
use cluster_protocol::{Counts, FinishReason, Path, Timings, TokenLogprobs};
use serde::{Deserialize, Serialize};

/// A step of an answer. Order: `Started`, any number of `Text`, `Reasoning` and `Tool`, then one `Finished` or `Failed`.
/// `Failed` may come first. An answer that is kept is stored as this JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first token is there; nothing was sent to the caller before.
    Started(Started),
    /// A piece of a choice.
    Text {
        /// Which, from 0.
        choice: u32,
        /// Whole characters; empty only when there are `logprobs`.
        text: String,
        /// Of the tokens since the choice's last piece; none when they were not asked for.
        logprobs: Vec<TokenLogprobs>,
        /// So far.
        counts: Counts,
    },
    /// A piece of what the model thought before it answered: whole characters, never empty.
    Reasoning {
        /// Of which choice.
        choice: u32,
        /// The piece.
        text: String,
        /// So far.
        counts: Counts,
    },
    /// A step of a tool call.
    Tool {
        /// Of which choice.
        choice: u32,
        /// The step.
        step: ToolStep,
    },
    /// The answer is complete and settled.
    Finished(Box<Finished>),
    /// The answer can't be completed; what was generated is settled. Never kept.
    #[serde(skip)]
    Failed(Error),
}

/// A step of a tool call: `Begin`, any number of `Arguments`, `End`. A choice's calls come one after the
/// other, numbered from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ToolStep {
    /// The model calls `name`.
    Begin { index: u32, id: String, name: String },
    /// A piece of the arguments' JSON, never empty.
    Arguments { index: u32, json: String },
    /// Unless `complete`, the arguments are only the beginning of an object: the answer was cut, or went astray.
    End { index: u32, complete: bool },
}

/// What is known when an answer begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The request that generates the answer; with a kept answer not the caller's, but the one that was first.
    pub request_id: RequestId,
    /// When that request's head was read, µs since 1970.
    pub accepted_at: Micros,
    /// Whether it was generated for an earlier call with the same Idempotency-Key.
    #[serde(skip)]
    pub replayed: bool,
    /// The model that answers, as the catalog names it.
    pub model: String,
    /// Set when another model stands in for the one that was asked for: its id.
    pub stand_in: Option<String>,
    /// Set when the model that was asked for is on its way out.
    pub deprecation: Option<Deprecation>,
    /// `llama`, `sim`, …
    pub engine: String,
    /// Prompt tokens.
    pub input_tokens: u32,
}

/// A complete answer's facts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// Why each choice ended, in their order; never empty.
    pub reasons: Vec<Finish>,
    /// Exact, from the engine.
    pub usage: Usage,
    /// As on the ledger; `None` when it could not be settled yet and the sweep will.
    pub cost: Option<Nanousd>,
    /// From the request's head to the last token.
    pub latency_ms: u64,
    /// From the request's head to the first token.
    pub ttft_ms: u64,
    /// Stages inside the cluster.
    pub timings: Timings,
    /// Which workers did it.
    pub path: Path,
}

impl Finished {
    /// Why the first choice ended.
    pub fn reason(&self) -> &Finish {
        self.reasons.first().unwrap_or(&Finish::Stopped)
    }
}

/// Why a choice ended. Every dialect maps it without a wildcard.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finish {
    /// The model ended its turn.
    EndOfTurn,
    /// The model ended its turn to have tools called, and waits for their results.
    ToolCalls,
    /// The same, but the last call's arguments are no JSON object.
    MalformedToolCall,
    /// A stop text came up.
    StopSequence {
        /// Which.
        text: String,
    },
    /// `max_tokens` were generated.
    MaxTokens,
    /// Prompt and answer fill the context.
    ContextFull,
    /// The gateway ended it.
    Stopped,
}

impl From<FinishReason> for Finish {
    fn from(reason: FinishReason) -> Finish {
        match reason {
            FinishReason::EndOfTurn => Finish::EndOfTurn,
            FinishReason::StopSequence { text } => Finish::StopSequence { text },
            FinishReason::MaxTokens => Finish::MaxTokens,
            FinishReason::ContextFull => Finish::ContextFull,
            FinishReason::Stopped => Finish::Stopped,
        }
    }
}

/// Tokens of a request in disjoint buckets; each dialect derives its own sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens computed for this request.
    pub input_tokens: u64,
    /// Prompt tokens taken from a prefix cache.
    pub cache_read_tokens: u64,
    /// Prompt tokens written to a prefix cache.
    pub cache_write_tokens: u64,
    /// Generated tokens that are not reasoning.
    pub output_tokens: u64,
    /// Generated tokens of reasoning.
    pub reasoning_tokens: u64,
}

impl Usage {
    /// All buckets together.
    pub fn total_tokens(&self) -> u64 {
        self.input_tokens
            + self.cache_read_tokens
            + self.cache_write_tokens
            + self.output_tokens
            + self.reasoning_tokens
    }
}

impl Usage {
    /// Of the engine's counts, `reasoning` of whose output tokens were spent on reasoning.
    pub fn with_reasoning(counts: Counts, reasoning: u32) -> Usage {
        let reasoning = reasoning.min(counts.output_tokens);
        let output_tokens = u64::from(counts.output_tokens - reasoning);
        Usage { output_tokens, reasoning_tokens: reasoning.into(), ..Usage::from(counts) }
    }
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Usage {
        Usage {
            input_tokens: counts.input_tokens.into(),
            output_tokens: counts.output_tokens.into(),
            ..Usage::default()
        }
    }
}
