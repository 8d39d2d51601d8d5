//! A request before it has a slot.

use super::choice::{Choice, Most};
use super::endings::Ending;
use super::sequence::{Answer, Export, Sequence, Stage, Work, micros_since};
use super::{Control, HandoffStep, Request};
use crate::engine::SequenceId;
use crate::picker::Picker;
use crate::receipts::Key;
use crate::stops::Stops;
use crate::text::TextStage;
use cluster_constraint::Compiled;
use cluster_protocol::{Counts, FinishReason, Generate, Message, PrefillPath, PrefillPlan, Timings};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::mpsc;

/// A request on its way to a slot.
pub(super) struct Job {
    pub(super) request: Request,
    /// Built before it comes here: thousands of stop texts take milliseconds.
    pub(super) stops: Stops,
    pub(super) constraint: Option<Compiled>,
    pub(super) events: mpsc::Sender<Message>,
    pub(super) control: Arc<Control>,
    pub(super) inbox: Option<mpsc::Receiver<HandoffStep>>,
    pub(super) submitted: Instant,
}

impl Job {
    pub(super) fn key(&self) -> Option<Key> {
        match &self.request {
            Request::Generate(generate) => Some((generate.request_id.clone(), generate.attempt)),
            Request::Prefill(_) => None,
        }
    }

    /// Cells it holds from admission to its end: the prompt's once, and each choice's own.
    pub(super) fn cells(&self, context: u32) -> u32 {
        match &self.request {
            Request::Generate(generate) => cells(generate, context),
            Request::Prefill(prefill) => prefill.prompt.len() as u32,
        }
    }

    /// Slots it holds as long.
    pub(super) fn slots(&self) -> u32 {
        match &self.request {
            Request::Generate(generate) => generate.choices,
            Request::Prefill(_) => 1, // its choices share the one evaluation of the prompt
        }
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        if self.control.cancelled.load(Ordering::Acquire) {
            return Some(Ending::Cancelled);
        }
        let stopped = self.control.stopped.load(Ordering::Relaxed);
        stopped.then_some(Ending::Finished)
    }

    /// For its last message only: it never had a slot.
    pub(super) fn into_unplaced(self) -> Sequence {
        let slots = vec![SequenceId(u32::MAX); self.slots() as usize];
        self.into_sequence(slots, 0, u32::MAX)
    }

    pub(super) fn into_sequence(self, slots: Vec<SequenceId>, cells: u32, context: u32) -> Sequence {
        let timings = Timings { queue_us: micros_since(self.submitted), ..Timings::default() };
        let stage = match self.inbox {
            Some(inbox) => Stage::Receiving { inbox, tokens: 0 },
            None => Stage::Prompt { done: 0 },
        };
        let (prompt, sampling, count, logprobs, most, work) = match self.request {
            Request::Generate(generate) => {
                let most = most_tokens(&generate, context);
                let cut = most < generate.max_tokens;
                let reason = if cut { FinishReason::ContextFull } else { FinishReason::MaxTokens };
                let prefill = match generate.prefill {
                    PrefillPlan::Local { reason } => PrefillPath::Local { reason },
                    PrefillPlan::Remote { prefill_id } => PrefillPath::Remote { prefill_id, kv_bytes: 0, chunks: 0 },
                };
                let key = (generate.request_id, generate.attempt);
                let work = Work::Answer(Box::new(Answer { key, prefill, first_token_at: None }));
                let most = Most { tokens: most, reason };
                (generate.prompt, generate.sampling, generate.choices, generate.logprobs, most, work)
            }
            Request::Prefill(prefill) => {
                let digest = prefill.binding.digest();
                let work = Work::Export(Box::new(Export { binding: prefill.binding, digest, chunks: Vec::new() }));
                // Only whether it is the first token matters here, and the decode worker knows why it is the last.
                let most = Most { tokens: prefill.max_tokens, reason: FinishReason::MaxTokens };
                (prefill.prompt, prefill.sampling, prefill.choices, prefill.logprobs, most, work)
            }
        };
        let sampling = Arc::new(sampling);
        let choice = |number: u32| {
            let slot = slots.get(number as usize).copied().unwrap_or(slots[0]);
            let picker = Picker::new(Arc::clone(&sampling), self.constraint.as_ref(), number, &prompt);
            Choice::new(number, slot, picker, TextStage::new(self.stops.clone()))
        };
        let choices = (0..count).map(choice).collect();
        Sequence {
            slots,
            cells,
            prompt,
            logprobs,
            choices,
            most,
            stage,
            work,
            counts: Counts::default(),
            timings,
            events: self.events,
            control: self.control,
            blocked_since: None,
        }
    }
}

/// Output tokens of each choice, cut to what the context leaves.
pub(crate) fn most_tokens(generate: &Generate, context: u32) -> u32 {
    generate.max_tokens.min(context.saturating_sub(generate.prompt.len() as u32))
}

/// Cells that a request needs: its prompt's, which all choices share, and each choice's own.
pub(crate) fn cells(generate: &Generate, context: u32) -> u32 {
    let answers = most_tokens(generate, context).saturating_mul(generate.choices);
    (generate.prompt.len() as u32).saturating_add(answers)
}
