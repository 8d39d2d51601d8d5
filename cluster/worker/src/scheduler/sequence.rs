//! One request that holds its slots: where it stands, and what it tells its reader.

use super::choice::{Choice, Most};
use super::{Control, HandoffStep};
use crate::engine::SequenceId;
use crate::receipts::Key;
use cluster_protocol::{
    Binding, ChunkRef, Counts, Done, FinishReason, Message, Path, Paused, PrefillPath, Timings, Token, TokenLogprobs,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::mpsc;

/// Room in its channel that a sequence needs before it is worked on: what a turn may send for the request, and its end.
const ROOM: usize = 2;
/// The same for each choice: its token, and text held back until the request is stopped.
const ROOM_PER_CHOICE: usize = 2;

pub(super) struct Sequence {
    /// One for each choice; the first holds the prompt. Given back together.
    pub(super) slots: Vec<SequenceId>,
    pub(super) cells: u32,
    pub(super) prompt: Vec<u32>,
    /// Alternatives to tell for each token.
    pub(super) logprobs: Option<u32>,
    pub(super) choices: Vec<Choice>,
    pub(super) most: Most,
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
    pub(super) prefill: PrefillPath,
    pub(super) first_token_at: Option<Instant>,
}

/// A KV cache for a decode worker.
pub(super) struct Export {
    pub(super) binding: Binding,
    pub(super) digest: [u8; 32],
    pub(super) chunks: Vec<ChunkRef>,
}

impl Sequence {
    /// Where the prompt is.
    pub(super) fn slot(&self) -> SequenceId {
        self.slots[0] // the scheduler never places a request without one
    }

    /// Whether its reader keeps up; notes since when it does not.
    pub(super) fn has_room(&mut self) -> bool {
        let needed = match self.work {
            Work::Answer(_) => ROOM + ROOM_PER_CHOICE * self.choices.len(),
            Work::Export(_) => ROOM + ROOM_PER_CHOICE,
        };
        if self.events.capacity() >= needed {
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

    /// How many more tokens the grant allows.
    pub(super) fn granted(&self) -> u32 {
        self.control.grant.load(Ordering::Relaxed).saturating_sub(self.counts.output_tokens)
    }

    /// Counts a token that a choice took, and sends what of it may be shown.
    pub(super) fn show(&mut self, at: usize, text: String, logprobs: Option<TokenLogprobs>) {
        if let Work::Answer(answer) = &mut self.work {
            let first_token_at = *answer.first_token_at.get_or_insert_with(Instant::now);
            self.timings.decode_us = micros_since(first_token_at);
        }
        self.counts.output_tokens += 1;
        let choice = &self.choices[at];
        self.send(Message::Token(Token {
            choice: choice.number,
            text,
            ids: vec![choice.last_token],
            logprobs: logprobs.into_iter().collect(),
            finish: choice.finish.clone(),
            counts: self.counts,
        }));
    }

    /// Whether every choice has ended.
    pub(super) fn is_finished(&self) -> bool {
        self.choices.iter().all(|choice| choice.finish.is_some())
    }

    /// After a step: waits at the grant.
    pub(super) fn pause_at_grant(&mut self) {
        self.stage = Stage::Answering;
        if self.granted() == 0 {
            self.stage = Stage::Paused { since: Instant::now() };
            self.send(Message::Paused(Paused { counts: self.counts }));
        }
    }

    /// Goes on when the grant was raised.
    pub(super) fn resume(&mut self) {
        if matches!(self.stage, Stage::Paused { .. }) && self.granted() > 0 {
            self.stage = Stage::Answering;
        }
    }

    /// Ends from outside what has not ended by itself. Text still held back goes out with a last frame.
    pub(super) fn stop(&mut self) {
        for at in 0..self.choices.len() {
            let text = self.choices[at].stop();
            if !text.is_empty() && matches!(self.work, Work::Answer(_)) {
                let choice = &self.choices[at];
                let (number, finish) = (choice.number, choice.finish.clone());
                let (ids, logprobs) = (Vec::new(), Vec::new());
                self.send(Message::Token(Token { choice: number, text, ids, logprobs, finish, counts: self.counts }));
            }
        }
    }

    /// Why each choice ended.
    pub(super) fn finishes(&self) -> Vec<FinishReason> {
        let finish = |choice: &Choice| choice.finish.clone().unwrap_or(FinishReason::Stopped);
        self.choices.iter().map(finish).collect()
    }

    pub(super) fn done(&self, answer: &Answer, engine: &str, worker_id: &str) -> Message {
        let path = Path { engine: engine.to_owned(), decode: worker_id.to_owned(), prefill: answer.prefill.clone() };
        let (finishes, counts, timings) = (self.finishes(), self.counts, self.timings);
        Message::Done(Box::new(Done { finishes, counts, timings, path }))
    }
}

pub(super) fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}
