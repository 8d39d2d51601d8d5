//! Generation: what a gateway asks of a worker, and what comes back.

use serde::{Deserialize, Serialize};

/// Generate an answer to a tokenised prompt. Sent to the worker that shall decode it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// The gateway's id of the request, `req_…`.
    pub request_id: String,
    /// From 1; raised when the gateway tries again on another worker.
    pub attempt: u32,
    /// The tenant's id: binds the hand-off, and is otherwise opaque to workers.
    pub tenant: String,
    /// Token ids, special ones included.
    pub prompt: Vec<u32>,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Most output tokens of this request, ever; decode reserves its cells for this many.
    pub max_tokens: u32,
    /// Output tokens allowed so far, at most `max_tokens`. Decode never computes past it.
    pub grant: u32,
    /// Who computes the prompt.
    pub prefill: PrefillPlan,
}

/// How tokens are chosen. Randomness depends on `seed` and the token's index only, so no state moves with a hand-off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Nucleus, 0 < p ≤ 1; 1 is off.
    pub top_p: f32,
    /// Most likely tokens to choose from; 0 is off.
    pub top_k: u32,
    /// Chosen by the gateway when the caller gave none.
    pub seed: u64,
}

impl Sampling {
    /// Always the most likely token.
    pub const GREEDY: Sampling = Sampling { temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0 };
}

/// Who computes the prompt's KV cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case", deny_unknown_fields)]
pub enum PrefillPlan {
    /// The worker that decodes, because there is no prefill worker or it is not worth while.
    Local {
        /// Why, for the request's record.
        reason: LocalReason,
    },
    /// A prefill worker, by its id: the decode worker knows its address. Should it fail, decode does it locally.
    Remote {
        /// The prefill worker's id.
        prefill_id: String,
    },
}

/// Why a prompt was computed where it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalReason {
    /// No prefill worker is configured.
    NoneConfigured,
    /// None of those configured is healthy.
    NoneHealthy,
    /// The prompt is shorter than the configured least length.
    ShortPrompt,
    /// Decode does not know an address for the id.
    UnknownPrefill,
    /// It could not be reached, or the handshake failed.
    Unreachable,
    /// Another model, build or context setting.
    FingerprintMismatch,
    /// It refused or reported an error.
    Refused,
    /// It sent nothing for too long.
    TimedOut,
    /// The connection broke in mid-transfer.
    Interrupted,
    /// What it sent failed a check.
    BadHandoff,
}

impl LocalReason {
    /// The wire's name.
    pub fn as_str(self) -> &'static str {
        match self {
            LocalReason::NoneConfigured => "none_configured",
            LocalReason::NoneHealthy => "none_healthy",
            LocalReason::ShortPrompt => "short_prompt",
            LocalReason::UnknownPrefill => "unknown_prefill",
            LocalReason::Unreachable => "unreachable",
            LocalReason::FingerprintMismatch => "fingerprint_mismatch",
            LocalReason::Refused => "refused",
            LocalReason::TimedOut => "timed_out",
            LocalReason::Interrupted => "interrupted",
            LocalReason::BadHandoff => "bad_handoff",
        }
    }
}

/// Slot and cells are held; work begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// How long the request waited for its slot.
    pub queue_us: u64,
}

/// Tokens of a request so far; cumulative, so a lost frame loses no count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Prompt tokens computed for this request.
    pub input_tokens: u32,
    /// Tokens sampled, the one that ends the answer included.
    pub output_tokens: u32,
}

/// A piece of the answer. Its text is whole characters; it may stand for several tokens, or be empty for none shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// UTF-8, with incomplete characters and possible beginnings of a stop text held back.
    pub text: String,
    /// Ids sampled since the last frame, held-back ones included.
    pub ids: Vec<u32>,
    /// After this piece.
    pub counts: Counts,
}

/// The grant is used up; decode waits for `Extend` or `Stop`, its slot held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paused {
    /// So far.
    pub counts: Counts,
}

/// Raises the grant. Absolute, so a repeat changes nothing; lower than before is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    /// Output tokens allowed in all.
    pub grant: u32,
}

/// Why an answer ended. Every dialect maps it without a wildcard.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FinishReason {
    /// The model ended its turn.
    EndOfTurn,
    /// A stop text came up.
    StopSequence {
        /// Which.
        text: String,
    },
    /// `max_tokens` were generated.
    MaxTokens,
    /// Prompt and answer fill the context.
    ContextFull,
    /// The gateway sent `Stop`.
    Stopped,
}

/// The answer is complete, its counts final. The connection may carry another request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// Why it ended.
    pub finish: FinishReason,
    /// Final.
    pub counts: Counts,
    /// Where the time went.
    pub timings: Timings,
    /// Which workers did it.
    pub path: Path,
}

/// Stages of a request in µs, as the decode worker saw them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    /// Waiting for slot and cells.
    pub queue_us: u64,
    /// Computing the prompt, wherever that was.
    pub prefill_us: u64,
    /// From the end of prefill's computation to the committed hand-off: the part of the transfer not hidden behind it.
    pub handoff_us: u64,
    /// From the first token to the last.
    pub decode_us: u64,
}

/// Which workers computed a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    /// Engine of the decode worker: `llama` or `sim`.
    pub engine: String,
    /// Id of the decode worker.
    pub decode: String,
    /// Where the prompt was computed.
    pub prefill: PrefillPath,
}

/// Where the prompt was computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case", deny_unknown_fields)]
pub enum PrefillPath {
    /// On a prefill worker, its KV cache handed over.
    Remote {
        /// Its id.
        prefill_id: String,
        /// KV bytes moved.
        kv_bytes: u64,
        /// In how many chunks.
        chunks: u32,
    },
    /// Where it is decoded.
    Local {
        /// Why.
        reason: LocalReason,
    },
}

/// Turns text into ids, for vocabularies that the gateway does not tokenise itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokenize {
    /// In order; each is tokenised by itself.
    pub parts: Vec<TextPart>,
}

/// A stretch of a rendered prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextPart {
    /// The text.
    pub text: String,
    /// Whether the text is exactly one special token. Callers' text never is.
    pub special: bool,
}

/// Answer to [`Tokenize`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// Of all parts, in order.
    pub ids: Vec<u32>,
}

/// Asks what a request came to, after the connection that carried it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryReceipt {
    /// `req_…`
    pub request_id: String,
    /// Which attempt.
    pub attempt: u32,
}

/// Answer to [`QueryReceipt`]. A worker remembers a bounded number of ended requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum Receipt {
    /// Not seen in this epoch, or forgotten.
    Unknown,
    /// Still generating.
    Running {
        /// So far.
        counts: Counts,
    },
    /// Ended, in whatever way.
    Ended {
        /// Final.
        counts: Counts,
        /// `None` when it was cancelled or failed.
        finish: Option<FinishReason>,
    },
}

/// The request failed. The connection may carry another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{code:?}: {message}")]
pub struct WorkerError {
    /// What kind of failure.
    pub code: ErrorCode,
    /// For operators and logs; holds no prompt text.
    pub message: String,
    /// What was computed before it failed.
    pub counts: Counts,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The proof was wrong, or missing.
    Unauthenticated,
    /// The message is not allowed here, or its values are out of range.
    BadRequest,
    /// Prompt and answer can't fit this worker's context.
    TooLong,
    /// The queue is full; another worker may have room.
    Overloaded,
    /// Another model, build or context setting.
    FingerprintMismatch,
    /// The engine failed on this request.
    Engine,
    /// The worker is stopping.
    ShuttingDown,
}

impl ErrorCode {
    /// Whether another worker, or a later try, may succeed. Only safe before the first token.
    pub fn is_retryable(self) -> bool {
        match self {
            ErrorCode::Overloaded | ErrorCode::Engine | ErrorCode::ShuttingDown | ErrorCode::FingerprintMismatch => {
                true
            }
            ErrorCode::Unauthenticated | ErrorCode::BadRequest | ErrorCode::TooLong => false,
        }
    }
}
