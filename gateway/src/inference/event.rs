//! The canonical answer: what every dialect translates from.

use crate::catalog::Deprecation;
use crate::clock::Micros;
use crate::error::Error;
use crate::id::RequestId;
use crate::money::Nanousd;
use cluster_protocol::{Counts, FinishReason, Path, Timings, TokenLogprobs};
use serde::{Deserialize, Serialize};

/// A step of an answer. Order: `Started`, any number of `Text`, then one `Finished` or `Failed`. `Failed` may come
/// first. An answer that is kept is stored as this JSON.
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
    /// The answer is complete and settled.
    Finished(Box<Finished>),
    /// The answer can't be completed; what was generated is settled. Never kept.
    #[serde(skip)]
    Failed(Error),
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
    pub reasons: Vec<FinishReason>,
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
    pub fn reason(&self) -> &FinishReason {
        self.reasons.first().unwrap_or(&FinishReason::Stopped)
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

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Usage {
        Usage {
            input_tokens: counts.input_tokens.into(),
            output_tokens: counts.output_tokens.into(),
            ..Usage::default()
        }
    }
}
