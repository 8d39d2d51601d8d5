//! One of a request's choices: an answer of its own to the prompt that all of them share.

use crate::engine::{EngineError, SequenceId};
use crate::picker::Picker;
use crate::sampler::Sampler;
use crate::text::TextStage;
use cluster_constraint::Step;
use cluster_protocol::FinishReason;

pub(super) struct Choice {
    /// From 0.
    pub(super) number: u32,
    /// The first one's holds the prompt. On a prefill worker all have the one of the hand-off.
    pub(super) slot: SequenceId,
    pub(super) picker: Picker,
    text: TextStage,
    /// Tokens sampled.
    tokens: u32,
    pub(super) last_token: u32,
    /// Set when it has ended.
    pub(super) finish: Option<FinishReason>,
}

/// What a sampled token means to the model.
pub(super) struct Sampled<'a> {
    pub(super) token: u32,
    pub(super) bytes: &'a [u8],
    pub(super) ends_generation: bool,
}

/// Where a choice ends at the latest.
#[derive(Debug, Clone)]
pub(super) struct Most {
    /// Output tokens, cut to what the context leaves.
    pub(super) tokens: u32,
    /// Why it ends there.
    pub(super) reason: FinishReason,
}

impl Choice {
    pub(super) fn new(number: u32, slot: SequenceId, picker: Picker, text: TextStage) -> Choice {
        Choice { number, slot, picker, text, tokens: 0, last_token: 0, finish: None }
    }

    /// Position of its last token, which the next step evaluates.
    pub(super) fn next_position(&self, prompt_tokens: u32) -> u32 {
        prompt_tokens + self.tokens - 1
    }

    pub(super) fn pick(&mut self, sampler: &mut Sampler, logits: &[f32]) -> Result<u32, EngineError> {
        self.picker.pick(sampler, logits)
    }

    /// Whether it would end with this token, its first.
    pub(super) fn would_end(&mut self, sampled: &Sampled<'_>, most: &Most) -> bool {
        sampled.ends_generation
            || most.tokens <= 1
            || self.text.would_stop(sampled.bytes)
            || self.picker.would_complete(sampled.token)
    }

    /// Takes its next token; gives the text that may be shown.
    ///
    /// # Errors
    /// [`EngineError::Constraint`]
    pub(super) fn take(&mut self, sampled: &Sampled<'_>, most: &Most) -> Result<String, EngineError> {
        let step = self.picker.accept(sampled.token)?;
        self.last_token = sampled.token;
        self.tokens += 1;
        let shown = self.text.push(sampled.bytes);
        let mut text = shown.text;
        self.finish = if sampled.ends_generation {
            Some(FinishReason::EndOfTurn)
        } else if let Some(stop) = shown.stop {
            Some(FinishReason::StopSequence { text: stop })
        } else if step == Step::Complete {
            Some(FinishReason::EndOfTurn)
        } else if self.tokens >= most.tokens {
            Some(most.reason.clone())
        } else {
            None
        };
        if self.finish.is_some() {
            text.push_str(&self.text.finish()); // empty after a stop text
        }
        Ok(text)
    }

    /// Ends it from outside; gives the text that was still held back.
    pub(super) fn stop(&mut self) -> String {
        if self.finish.is_some() {
            return String::new();
        }
        self.finish = Some(FinishReason::Stopped);
        self.text.finish()
    }
}
