//! A request before it has a slot.

use super::endings::Ending;
use super::sequence::{Answer, Export, Sequence, Stage, Work, micros_since};
use super::{Control, HandoffStep, Request};
use crate::engine::SequenceId;
use crate::receipts::Key;
use crate::stops::Stops;
use crate::text::TextStage;
use cluster_protocol::{Counts, FinishReason, Message, PrefillPath, PrefillPlan, Timings};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::mpsc;

/// A request on its way to a slot.
pub(super) struct Job {
    pub(super) request: Request,
    /// Built before it comes here: thousands of stop texts take milliseconds.
    pub(super) stops: Stops,
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

    /// Cells it holds from admission to its end.
    pub(super) fn cells(&self, context: u32) -> u32 {
        match &self.request {
            Request::Generate(generate) => {
                (generate.prompt.len() as u32).saturating_add(generate.max_tokens).min(context)
            }
            Request::Prefill(prefill) => prefill.prompt.len() as u32,
        }
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        if self.control.cancelled.load(Ordering::Acquire) {
            return Some(Ending::Cancelled);
        }
        let stopped = self.control.stopped.load(Ordering::Relaxed);
        stopped.then_some(Ending::Finished(FinishReason::Stopped))
    }

    /// For its last message only: it never had a slot.
    pub(super) fn into_unplaced(self) -> Sequence {
        self.into_sequence(SequenceId(u32::MAX), 0, u32::MAX)
    }

    pub(super) fn into_sequence(self, slot: SequenceId, cells: u32, context: u32) -> Sequence {
        let timings = Timings { queue_us: micros_since(self.submitted), ..Timings::default() };
        let stage = match self.inbox {
            Some(inbox) => Stage::Receiving { inbox, tokens: 0 },
            None => Stage::Prompt { done: 0 },
        };
        let (prompt, sampling, work) = match self.request {
            Request::Generate(generate) => {
                let room = context.saturating_sub(generate.prompt.len() as u32);
                let (most, at_most) = if generate.max_tokens <= room {
                    (generate.max_tokens, FinishReason::MaxTokens)
                } else {
                    (room, FinishReason::ContextFull)
                };
                let prefill = match generate.prefill {
                    PrefillPlan::Local { reason } => PrefillPath::Local { reason },
                    PrefillPlan::Remote { prefill_id } => PrefillPath::Remote { prefill_id, kv_bytes: 0, chunks: 0 },
                };
                let answer = Answer {
                    key: (generate.request_id, generate.attempt),
                    text: TextStage::new(self.stops),
                    most,
                    at_most,
                    prefill,
                    last_token: 0,
                    first_token_at: None,
                };
                (generate.prompt, generate.sampling, Work::Answer(Box::new(answer)))
            }
            Request::Prefill(prefill) => {
                let digest = prefill.binding.digest();
                let export = Export { binding: prefill.binding, digest, chunks: Vec::new() };
                (prefill.prompt, prefill.sampling, Work::Export(Box::new(export)))
            }
        };
        Sequence {
            slot,
            cells,
            prompt,
            sampling,
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
