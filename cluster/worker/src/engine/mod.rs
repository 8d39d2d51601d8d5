//! What a mechanism must do to serve a model. The scheduler above is the same for all of them.
//!
//! An engine is owned by one thread. It knows sequences and cells, not requests: who may use a sequence, and for how
//! many tokens, is the scheduler's business.

use cluster_protocol::{ErrorCode, Fingerprint, ModelCard, TextPart};
use std::ops::Range;

#[cfg(feature = "llama")]
pub(crate) mod llama;
pub(crate) mod sim;

/// A sequence of the engine, `0..slots`. Never taken from the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SequenceId(pub(crate) u32);

/// One token to evaluate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchToken {
    pub(crate) sequence: SequenceId,
    /// Must be the sequence's next position.
    pub(crate) position: u32,
    pub(crate) token: u32,
    pub(crate) want_logits: bool,
}

/// Sizes an engine is built with.
#[derive(Debug, Clone, Copy)]
pub struct EngineLimits {
    /// Sequences at a time.
    pub slots: u32,
    /// KV cells, one per token, shared by all sequences.
    pub cells: u32,
    /// Most tokens of one sequence; cut to what the model was trained for and to `cells`.
    pub context_tokens: u32,
    /// Tokens of a prompt evaluated at a time. Another size rounds differently, so it is part of the fingerprint.
    pub chunk_tokens: u32,
    /// Threads of one evaluation.
    pub threads: u32,
}

/// What an engine says of itself once it is loaded.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    pub(crate) card: ModelCard,
    pub(crate) fingerprint: Fingerprint,
    /// As built: the context is cut to what the model can do.
    pub(crate) limits: EngineLimits,
    /// Token ids are below this.
    pub(crate) vocabulary: u32,
    /// Bound of an exported chunk, per token. 0 when this model's KV cache can't be handed over in chunks.
    pub(crate) kv_bytes_per_token: usize,
}

/// Why an engine did not do what it was asked. Its other sequences are unharmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("a batch of {tokens} tokens was refused (code {code})")]
    Evaluate { tokens: usize, code: i32 },
    #[error("the batch is empty, too large, or names what this engine does not have")]
    BadBatch,
    #[error("no logits for row {0}")]
    NoLogits(usize),
    #[error("the logits are not numbers")]
    BadLogits,
    #[error("the KV cache can't be exported: {0}")]
    Export(&'static str),
    #[error("the KV cache was refused: {0}")]
    Import(&'static str),
    #[error("{0}")]
    Constraint(String),
    #[error("the text can't be tokenised: {0}")]
    Tokenize(&'static str),
}

impl EngineError {
    /// As the protocol has it.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            EngineError::Constraint(_) => ErrorCode::Constraint,
            EngineError::Evaluate { .. }
            | EngineError::BadBatch
            | EngineError::NoLogits(_)
            | EngineError::BadLogits
            | EngineError::Export(_)
            | EngineError::Import(_)
            | EngineError::Tokenize(_) => ErrorCode::Engine,
        }
    }
}

/// Why an engine could not be built. Always the configuration's or the model file's fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub(crate) String);

/// The primitive operations that two mechanisms (llama.cpp, `sim`) implement.
pub(crate) trait Engine {
    fn describe(&self) -> &Description;

    /// Evaluates a batch: extends each named sequence. At most `max(chunk_tokens, slots)` tokens.
    fn evaluate(&mut self, batch: &[BatchToken]) -> Result<(), EngineError>;

    /// Logits over the vocabulary for row `row` of the last batch, which must have asked for them.
    fn logits(&mut self, row: usize) -> Result<&[f32], EngineError>;

    /// Replaces `out` by the serialised KV cache of `positions` of a sequence.
    fn export(&mut self, sequence: SequenceId, positions: Range<u32>, out: &mut Vec<u8>) -> Result<(), EngineError>;

    /// Adds an exported chunk to a sequence. On `Err` the sequence is unchanged.
    fn import(&mut self, sequence: SequenceId, positions: Range<u32>, data: &[u8]) -> Result<(), EngineError>;

    /// Gives an empty sequence all that another has, without cells of its own: they are free once both are released.
    fn share(&mut self, from: SequenceId, to: SequenceId);

    /// Forgets a sequence; its cells are free again.
    fn release(&mut self, sequence: SequenceId);

    /// Appends a token's bytes: part of a UTF-8 text. Control tokens have none.
    fn piece(&self, token: u32, out: &mut Vec<u8>);

    /// Ids of a stretch of text.
    fn tokenize(&self, part: &TextPart) -> Result<Vec<u32>, EngineError>;
}
