//! Generation: what a gateway asks of a worker, and what comes back.

use crate::constraint::Constraint;
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
    /// What each choice must look like; `None` is anything.
    pub constraint: Option<Constraint>,
    /// Alternatives to tell for each token, beside its own probability; `None` tells neither. At most
    /// [`crate::limits::MAX_TOP_LOGPROBS`].
    pub logprobs: Option<u32>,
    /// Answers to the same prompt, from 1 to [`crate::limits::MAX_CHOICES`] and to the worker's slots. The prompt is computed, counted and
    /// held once.
    pub choices: u32,
    /// Texts that end a choice; they are not part of it.
    pub stop: Vec<String>,
    /// Most output tokens of each choice, ever; decode reserves its cells for this many, for every choice.
    pub max_tokens: u32,
    /// Output tokens of all choices together allowed so far, from `choices` to `choices × max_tokens`. Decode never
    /// computes past it.
    pub grant: u32,
    /// Who computes the prompt.
    pub prefill: PrefillPlan,
}

/// How tokens are chosen. Randomness depends on `seed`, the choice and the token's index only, and everything else on
/// token ids, so no state moves with a hand-off.
///
/// In this order: repetition penalty, presence and frequency penalties, bias, constraint, `top_k`, temperature, `top_p`
/// and `min_p`. Greedy is the most likely token after the first four.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Nucleus, 0 < p ≤ 1; 1 is off.
    pub top_p: f32,
    /// Most likely tokens to choose from; 0 is off.
    pub top_k: u32,
    /// Least probability, as a share of the most likely token's, 0 ≤ p ≤ 1; 0 is off.
    pub min_p: f32,
    /// Taken off the logit of each token that the choice already has, -2 to 2; 0 is off.
    pub presence_penalty: f32,
    /// The same for each time that the choice has it, -2 to 2; 0 is off.
    pub frequency_penalty: f32,
    /// Divides positive logits, and multiplies negative ones, of tokens that prompt or choice have; above 0 and at most
    /// 10; 1 is off.
    pub repetition_penalty: f32,
    /// Added to the logits of single tokens, none of them twice; at most [`crate::limits::MAX_LOGIT_BIAS`].
    pub logit_bias: Vec<LogitBias>,
    /// Chosen by the gateway when the caller gave none. [`Sampling::seed_of`] derives each choice's own.
    pub seed: u64,
}

/// Makes one token more or less likely.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogitBias {
    /// Its id.
    pub token: u32,
    /// -100 to 100; at the ends it is as good as forbidden, or as forced.
    pub bias: f32,
}

impl Sampling {
    /// Always the most likely token.
    pub const GREEDY: Sampling = Sampling {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        repetition_penalty: 1.0,
        logit_bias: Vec::new(),
        seed: 0,
    };

    /// Seed of one choice: the first has the request's own, so one choice more changes no other.
    pub fn seed_of(&self, choice: u32) -> u64 {
        if choice == 0 {
            return self.seed;
        }
        let mut hasher = blake3::Hasher::new_derive_key("caprock seed of a choice v1");
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&choice.to_le_bytes());
        let mut seed = [0; 8];
        seed.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(seed)
    }
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
    /// Tokens sampled in all choices, those that end one included.
    pub output_tokens: u32,
}

/// A piece of a choice. Its text is whole characters; it may stand for several tokens, or be empty for none shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Which choice, from 0.
    pub choice: u32,
    /// UTF-8, with incomplete characters and possible beginnings of a stop text held back.
    pub text: String,
    /// Ids sampled since the choice's last frame, held-back ones included.
    pub ids: Vec<u32>,
    /// One for each id, or none at all when they were not asked for.
    pub logprobs: Vec<TokenLogprobs>,
    /// Why the choice ended, when it ended with this piece.
    pub finish: Option<FinishReason>,
    /// Of the request, after this piece.
    pub counts: Counts,
}

/// How likely a token was, in the model's own distribution: before penalties, bias, constraint and temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenLogprobs {
    /// The token that was chosen.
    pub chosen: Logprob,
    /// The most likely ones, in order; the chosen one may be among them.
    pub top: Vec<Logprob>,
}

/// One token's probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logprob {
    /// Its id.
    pub id: u32,
    /// Its bytes: part of a UTF-8 text. A control token's are its name's.
    pub bytes: Vec<u8>,
    /// Natural logarithm, from -9999 to 0.
    pub logprob: f32,
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

/// Why a choice ended. Every dialect maps it without a wildcard. What only a gateway can tell of a text (tool calls, a
/// filter) is not among them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FinishReason {
    /// The model ended its turn, or the constraint has no way on.
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

/// All choices are complete, their counts final. The connection may carry another request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// Why each choice ended, in their order.
    pub finishes: Vec<FinishReason>,
    /// Final.
    pub counts: Counts,
    /// Where the time went.
    pub timings: Timings,
    /// Which workers did it.
    pub path: Path,
}

impl Done {
    /// Why the first choice ended.
    pub fn finish(&self) -> &FinishReason {
        self.finishes.first().unwrap_or(&FinishReason::Stopped) // a worker always names one
    }
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
        /// Of the first choice; `None` when it was cancelled or failed.
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
    /// The answer can't be kept to its constraint any further.
    Constraint,
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
            ErrorCode::Unauthenticated | ErrorCode::BadRequest | ErrorCode::TooLong | ErrorCode::Constraint => false,
        }
    }
}
