//! The engine thread: one turn after the other, each at most one KV import, one decode step of all answers, one chunk
//! of one prompt, and one text to tokenise. Answers come before prompts, so a long prompt stalls them by one chunk at most.

use super::capacity::Capacity;
use super::endings::Ending;
use super::job::Job;
use super::sequence::{Sequence, Stage, Work};
use super::{Command, Options, Shared, Text, failure};
use crate::crash::Crasher;
use crate::engine::{BatchToken, Engine, EngineError};
use crate::sampler::Sampler;
use cluster_protocol::{Accepted, Counts, ErrorCode, Message, WorkerError};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long the thread sleeps at most while requests wait for something outside: a reader, an inbox, an extension.
const NAP: Duration = Duration::from_millis(50);
/// Texts that wait to be tokenised; each may be 1 MiB long.
const TEXTS: usize = 64;

pub(super) struct EngineLoop {
    pub(super) engine: Box<dyn Engine>,
    pub(super) shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    pub(super) options: Options,
    /// First come, first served.
    waiting: VecDeque<Job>,
    /// One of them a turn, since a long one takes longer than a step.
    texts: VecDeque<Text>,
    /// In the order of their admission.
    pub(super) live: Vec<Sequence>,
    pub(super) capacity: Capacity,
    pub(super) sampler: Sampler,
    pub(super) crasher: Crasher,
    pub(super) end_of_generation: HashSet<u32>,
    pub(super) batch: Vec<BatchToken>,
}

impl EngineLoop {
    pub(super) fn new(
        engine: Box<dyn Engine>,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        options: Options,
    ) -> EngineLoop {
        let limits = shared.description.limits;
        shared.metrics.slots.set(i64::from(limits.slots));
        shared.metrics.cells.set(i64::from(limits.cells));
        EngineLoop {
            end_of_generation: shared.description.card.tokenizer.end_of_generation.iter().copied().collect(),
            capacity: Capacity::new(&limits),
            crasher: Crasher(options.crash),
            sampler: Sampler::default(),
            waiting: VecDeque::new(),
            texts: VecDeque::new(),
            live: Vec::new(),
            batch: Vec::new(),
            engine,
            shared,
            commands,
            options,
        }
    }

    /// Until the scheduler is closed, or nobody holds it any more.
    pub(super) fn run(mut self) {
        loop {
            let open = self.drain_commands();
            if !open || self.shared.closing.load(Ordering::Acquire) {
                return self.shut_down();
            }
            self.heed_controls();
            self.admit();
            let imported = self.import_one();
            let stepped = self.decode_step();
            let evaluated = self.prefill_chunk();
            let tokenised = self.tokenise_one();
            self.publish();
            if imported || stepped || evaluated || tokenised {
                continue;
            }
            if self.live.is_empty() && self.waiting.is_empty() {
                std::thread::park();
            } else {
                std::thread::park_timeout(NAP);
            }
        }
    }

    /// `false` when every handle is gone.
    fn drain_commands(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Run(job)) => self.enqueue(*job),
                Ok(Command::Tokenize(text)) if self.texts.len() < TEXTS => self.texts.push_back(text),
                Ok(Command::Tokenize(text)) => {
                    text.answer(Err(failure(ErrorCode::Overloaded, "too many texts wait to be tokenised")));
                }
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// `true` when there was one.
    fn tokenise_one(&mut self) -> bool {
        let Some(text) = self.texts.pop_front() else {
            return false;
        };
        if !text.reply.is_closed() {
            let ids: Result<Vec<Vec<u32>>, EngineError> =
                text.parts.iter().map(|part| self.engine.tokenize(part)).collect();
            let ids = ids.map(|ids| ids.concat());
            text.answer(ids.map_err(|error| failure(ErrorCode::BadRequest, &error.to_string())));
        }
        true
    }

    fn enqueue(&mut self, job: Job) {
        if let Some(key) = job.key()
            && !self.shared.receipts().begin(&key)
        {
            let message = "this attempt of the request was already seen".to_owned();
            let error = WorkerError { code: ErrorCode::BadRequest, message, counts: Counts::default() };
            return drop(job.events.try_send(Message::Error(error)));
        }
        self.waiting.push_back(job);
        self.admit();
        if self.waiting.len() > self.options.queue
            && let Some(job) = self.waiting.pop_back()
        {
            self.end_waiting(job, Ending::Failed(ErrorCode::Overloaded, "the worker's queue is full".into()));
        }
    }

    /// Ends what was cancelled, stopped, or left alone for too long; resumes what was extended.
    fn heed_controls(&mut self) {
        for _ in 0..self.waiting.len() {
            let Some(job) = self.waiting.pop_front() else {
                break;
            };
            match job.ending() {
                Some(ending) => self.end_waiting(job, ending),
                None => self.waiting.push_back(job),
            }
        }
        let patience = self.options.patience;
        for at in (0..self.live.len()).rev() {
            let sequence = &mut self.live[at];
            sequence.resume();
            sequence.has_room();
            let overdue = |since: Instant| since.elapsed() > patience;
            let ending = if sequence.control.cancelled.load(Ordering::Acquire) {
                Some(Ending::Cancelled)
            } else if sequence.control.stopped.load(Ordering::Relaxed) {
                Some(Ending::Finished)
            } else if sequence.blocked_since.is_some_and(overdue) {
                Some(Ending::Failed(ErrorCode::Engine, "the reader took nothing for too long".into()))
            } else if let Stage::Paused { since } = sequence.stage
                && overdue(since)
            {
                Some(Ending::Finished)
            } else {
                None
            };
            if let Some(ending) = ending {
                self.end(at, ending);
            }
        }
    }

    fn admit(&mut self) {
        let context = self.shared.description.limits.context_tokens;
        while let Some(job) = self.waiting.front() {
            let cells = job.cells(context);
            let Some(slots) = self.capacity.reserve(job.slots(), cells) else {
                return;
            };
            if let Some(job) = self.waiting.pop_front() {
                let sequence = job.into_sequence(slots, cells, context);
                self.publish(); // who sees `Accepted` finds the load to match
                if matches!(sequence.work, Work::Answer(_)) {
                    sequence.send(Message::Accepted(Accepted { queue_us: sequence.timings.queue_us }));
                }
                self.live.push(sequence);
            }
        }
    }

    fn shut_down(mut self) {
        let ending = || Ending::Failed(ErrorCode::ShuttingDown, "the worker is stopping".into());
        self.commands.close();
        self.drain_commands();
        while let Some(job) = self.waiting.pop_front() {
            self.end_waiting(job, ending());
        }
        while !self.live.is_empty() {
            self.end(self.live.len() - 1, ending());
        }
        self.publish();
    }

    pub(super) fn publish(&self) {
        let metrics = &self.shared.metrics;
        metrics.slots_used.set(i64::from(self.capacity.slots_used()));
        metrics.cells_reserved.set(i64::from(self.capacity.cells_reserved()));
        metrics.queue_waiting.set(self.waiting.len() as i64);
    }
}
