//! One request that holds a slot: where it stands, and what each token does to it.

use super::{Control, HandoffStep};
use crate::engine::SequenceId;
use crate::receipts::Key;
use crate::text::TextStage;
use cluster_protocol::{
    Binding, ChunkRef, Counts, Done, FinishReason, Message, Path, Paused, PrefillPath, Sampling, Timings, Token,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::mpsc;

/// Room in its channel that a sequence needs before it is worked on: what one turn may send, and one for an error.
const ROOM: usize = 4;

pub(super) struct Sequence {
    pub(super) slot: SequenceId,
    pub(super) cells: u32,
    pub(super) prompt: Vec<u32>,
    pub(super) sampling: Sampling,
    pub(super) stage: Stage,
    pub(super) work: Work,
    pub(super) counts: Counts,
    pub(super) timings: Timings,
    pub(super) events: mpsc::Sender<Message>,
    pub(super) control: Arc<Control>,
    /// Since when its reader takes nothing.
    pub(super) blocked_since: Option<Instant>,
}

pub(super) enum Stage {
    /// The prompt's KV cache comes from a prefill worker.
    Receiving {
        inbox: mpsc::Receiver<HandoffStep>,
        tokens: u32,
    },
    /// The prompt is evaluated here, `done` tokens so far.
    Prompt {
        done: u32,
    },
    Answering,
    /// The grant is used up.
    Paused {
        since: Instant,
    },
}

pub(super) enum Work {
    Answer(Box<Answer>),
    Export(Box<Export>),
}

/// An answer for a gateway.
pub(super) struct Answer {
    pub(super) key: Key,
    pub(super) text: TextStage,
    /// Most output tokens, cut to what the context leaves.
    pub(super) most: u32,
    /// Why it ends at `most`.
    pub(super) at_most: FinishReason,
    pub(super) prefill: PrefillPath,
    pub(super) last_token: u32,
    pub(super) first_token_at: Option<Instant>,
}

/// A KV cache for a decode worker.
pub(super) struct Export {
    pub(super) binding: Binding,
    pub(super) digest: [u8; 32],
    pub(super) chunks: Vec<ChunkRef>,
}

/// What the model's token means.
pub(super) struct Sampled<'a> {
    pub(super) token: u32,
    pub(super) bytes: &'a [u8],
    pub(super) ends_generation: bool,
}

impl Sequence {
    /// Whether its reader keeps up; notes since when it does not.
    pub(super) fn has_room(&mut self) -> bool {
        if self.events.capacity() >= ROOM {
            self.blocked_since = None;
            return true;
        }
        self.blocked_since.get_or_insert_with(Instant::now);
        false
    }

    /// The channel has room for it by [`ROOM`]; a reader that is gone has cancelled.
    pub(super) fn send(&self, message: Message) {
        let _ = self.events.try_send(message);
    }

    /// Position of the answer's last token, which the next step evaluates.
    pub(super) fn next_position(&self) -> u32 {
        self.prompt.len() as u32 + self.counts.output_tokens - 1
    }

    /// Takes the next token of an answer: counts it, shows its text, pauses at the grant. `Some` when the answer ends.
    pub(super) fn take(&mut self, sampled: &Sampled<'_>) -> Option<FinishReason> {
        let Work::Answer(answer) = &mut self.work else {
            return None;
        };
        answer.last_token = sampled.token;
        let first_token_at = *answer.first_token_at.get_or_insert_with(Instant::now);
        self.timings.decode_us = micros_since(first_token_at);
        self.counts.output_tokens += 1;
        let shown = answer.text.push(sampled.bytes);
        let mut text = shown.text;
        let finish = if sampled.ends_generation {
            Some(FinishReason::EndOfTurn)
        } else if let Some(stop) = shown.stop {
            Some(FinishReason::StopSequence { text: stop })
        } else if self.counts.output_tokens >= answer.most {
            Some(answer.at_most.clone())
        } else {
            None
        };
        if finish.is_some() {
            text.push_str(&answer.text.finish()); // empty after a stop text
        }
        self.send(Message::Token(Token { text, ids: vec![sampled.token], counts: self.counts }));
        if finish.is_none() {
            self.pause_at_grant();
        }
        finish
    }

    fn pause_at_grant(&mut self) {
        self.stage = Stage::Answering;
        if self.counts.output_tokens >= self.control.grant.load(Ordering::Relaxed) {
            self.stage = Stage::Paused { since: Instant::now() };
            self.send(Message::Paused(Paused { counts: self.counts }));
        }
    }

    /// Goes on when the grant was raised.
    pub(super) fn resume(&mut self) {
        let paused = matches!(self.stage, Stage::Paused { .. });
        if paused && self.counts.output_tokens < self.control.grant.load(Ordering::Relaxed) {
            self.stage = Stage::Answering;
        }
    }

    /// Text still held back when the answer is stopped from outside goes out with a last frame.
    pub(super) fn flush(&mut self) {
        let Work::Answer(answer) = &mut self.work else {
            return;
        };
        let text = answer.text.finish();
        if !text.is_empty() {
            self.send(Message::Token(Token { text, ids: Vec::new(), counts: self.counts }));
        }
    }
}

impl Answer {
    pub(super) fn done(
        &self,
        finish: FinishReason,
        counts: Counts,
        timings: Timings,
        engine: &str,
        worker_id: &str,
    ) -> Message {
        let path = Path { engine: engine.to_owned(), decode: worker_id.to_owned(), prefill: self.prefill.clone() };
        Message::Done(Box::new(Done { finish, counts, timings, path }))
    }
}

pub(super) fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}
