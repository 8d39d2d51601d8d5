//! The engine thread: one turn after the other, each at most one KV import, one decode step of all answers, and one
//! chunk of one prompt. Answers come before prompts, so a long prompt stalls them by one chunk at most.

use super::capacity::Capacity;
use super::sequence::{Answer, Export, Sampled, Sequence, Stage, Work, micros_since};
use super::{Command, HandoffStep, Job, Options, Request, Shared};
use crate::crash::{CrashPoint, Crasher};
use crate::engine::{BatchToken, Engine, EngineError};
use crate::metrics::outcome_of;
use crate::receipts::Key;
use crate::sampler::Sampler;
use crate::text::TextStage;
use bytes::Bytes;
use cluster_protocol::{
    Accepted, Commit, Counts, ErrorCode, FinishReason, FirstToken, KvBegin, KvChunk, LocalReason, Message, PrefillPath,
    PrefillPlan, Timings, WorkerError,
};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long the thread sleeps at most while requests wait for something outside: a reader, an inbox, an extension.
const NAP: Duration = Duration::from_millis(50);

pub(super) struct EngineLoop {
    engine: Box<dyn Engine>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    options: Options,
    /// First come, first served.
    waiting: VecDeque<Job>,
    /// In the order of their admission.
    live: Vec<Sequence>,
    capacity: Capacity,
    sampler: Sampler,
    crasher: Crasher,
    end_of_generation: HashSet<u32>,
    batch: Vec<BatchToken>,
}

/// How a sequence leaves.
enum Ending {
    Finished(FinishReason),
    Exported { first_token: u32 },
    Failed(ErrorCode, String),
    Cancelled,
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
            self.publish();
            if imported || stepped || evaluated {
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
                Ok(Command::Run(job)) => self.enqueue(job),
                Ok(Command::Tokenize(parts, reply)) => {
                    let ids: Result<Vec<Vec<u32>>, EngineError> =
                        parts.iter().map(|part| self.engine.tokenize(part)).collect();
                    let _ = reply.send(ids.map(|ids| ids.concat())); // nobody waits for it any more: fine
                }
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn enqueue(&mut self, job: Job) {
        if let Some(key) = job.key()
            && !self.shared.receipts().begin(&key)
        {
            let message = "this attempt of the request was already seen".to_owned();
            let error = WorkerError { code: ErrorCode::BadRequest, message, counts: Counts::default() };
            return drop(job.events.try_send(Message::Error(error)));
        }
        if self.waiting.len() >= self.options.queue && !self.fits_now(&job) {
            return self.end_waiting(job, Ending::Failed(ErrorCode::Overloaded, "the worker's queue is full".into()));
        }
        self.waiting.push_back(job);
    }

    /// With a queue of length 0 a request may still be taken when it needs not wait.
    fn fits_now(&mut self, job: &Job) -> bool {
        let cells = job.cells(self.shared.description.limits.context_tokens);
        let Some(slot) = self.waiting.is_empty().then(|| self.capacity.reserve(cells)).flatten() else {
            return false;
        };
        self.capacity.give_back(slot, cells);
        true
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
                Some(Ending::Finished(FinishReason::Stopped))
            } else if sequence.blocked_since.is_some_and(overdue) {
                Some(Ending::Cancelled)
            } else if let Stage::Paused { since } = sequence.stage
                && overdue(since)
            {
                Some(Ending::Finished(FinishReason::Stopped))
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
            let Some(slot) = self.capacity.reserve(cells) else {
                return;
            };
            if let Some(job) = self.waiting.pop_front() {
                let sequence = job.into_sequence(slot, cells, context);
                if matches!(sequence.work, Work::Answer(_)) {
                    sequence.send(Message::Accepted(Accepted { queue_us: sequence.timings.queue_us }));
                }
                self.live.push(sequence);
            }
        }
    }

    /// One step of one hand-off. `true` when there was one.
    fn import_one(&mut self) -> bool {
        for at in 0..self.live.len() {
            let Stage::Receiving { inbox, .. } = &mut self.live[at].stage else {
                continue;
            };
            match inbox.try_recv() {
                Ok(HandoffStep::Chunk(chunk)) => self.import(at, &chunk),
                Ok(HandoffStep::Commit { first_token, prefill_us, begun }) => {
                    self.commit(at, first_token, prefill_us, begun);
                }
                Ok(HandoffStep::Failed(reason)) => self.fall_back(at, reason),
                Err(mpsc::error::TryRecvError::Disconnected) => self.fall_back(at, LocalReason::Interrupted),
                Err(mpsc::error::TryRecvError::Empty) => continue,
            }
            return true;
        }
        false
    }

    fn import(&mut self, at: usize, chunk: &KvChunk) {
        let sequence = &mut self.live[at];
        if let Err(error) = self.engine.import(sequence.slot, chunk.start..chunk.end, &chunk.data) {
            tracing::warn!(%error, start = chunk.start, end = chunk.end, "a KV chunk was refused by the engine");
            return self.fall_back(at, LocalReason::BadHandoff);
        }
        if let Stage::Receiving { tokens, .. } = &mut sequence.stage {
            *tokens += chunk.end - chunk.start;
            sequence.counts.input_tokens = *tokens;
        }
        if let Work::Answer(answer) = &mut sequence.work
            && let PrefillPath::Remote { kv_bytes, chunks, .. } = &mut answer.prefill
        {
            *kv_bytes += chunk.data.len() as u64;
            *chunks += 1;
        }
        self.shared.metrics.kv_received(chunk.data.len());
        self.crasher.pass(CrashPoint::HandoffAfterChunk);
    }

    fn commit(&mut self, at: usize, first_token: u32, prefill_us: u64, begun: Instant) {
        self.crasher.pass(CrashPoint::HandoffBeforeCommit);
        let sequence = &mut self.live[at];
        let Stage::Receiving { tokens, .. } = sequence.stage else {
            return;
        };
        if tokens as usize != sequence.prompt.len() || first_token >= self.shared.description.vocabulary {
            return self.fall_back(at, LocalReason::BadHandoff);
        }
        sequence.timings.prefill_us = prefill_us;
        sequence.timings.handoff_us = micros_since(begun).saturating_sub(prefill_us);
        self.shared.metrics.handoff_committed();
        self.begin_answer(at, first_token);
    }

    /// Forgets what came, and computes the prompt here.
    fn fall_back(&mut self, at: usize, reason: LocalReason) {
        let sequence = &mut self.live[at];
        self.engine.release(sequence.slot);
        sequence.stage = Stage::Prompt { done: 0 };
        if let Work::Answer(answer) = &mut sequence.work {
            tracing::warn!(request_id = answer.key.0, reason = reason.as_str(), "prefill goes on locally");
            answer.prefill = PrefillPath::Local { reason };
        }
        self.shared.metrics.handoff_failed(reason);
    }

    /// One token for each answer. `true` when there was any.
    fn decode_step(&mut self) -> bool {
        self.batch.clear();
        let mut rows = Vec::new();
        for (at, sequence) in self.live.iter_mut().enumerate() {
            if !matches!(sequence.stage, Stage::Answering) || !sequence.has_room() {
                continue;
            }
            if let Work::Answer(answer) = &sequence.work {
                let (token, position) = (answer.last_token, sequence.next_position());
                self.batch.push(BatchToken { sequence: sequence.slot, position, token, want_logits: true });
                rows.push(at);
            }
        }
        if rows.is_empty() {
            return false;
        }
        self.crasher.pass(CrashPoint::DecodeStep);
        let start = Instant::now();
        let evaluated = self.engine.evaluate(&self.batch);
        self.shared.metrics.decode_step_seconds.observe(start.elapsed().as_secs_f64());
        // From the back, since an end takes a sequence out of the list.
        for (row, at) in rows.into_iter().enumerate().rev() {
            match evaluated.clone().and_then(|()| self.sample(at, row)) {
                Ok(token) => self.take(at, token),
                Err(error) => self.end(at, Ending::Failed(ErrorCode::Engine, error.to_string())),
            }
        }
        true
    }

    /// One chunk of the first prompt whose reader keeps up. `true` when there was one.
    fn prefill_chunk(&mut self) -> bool {
        let ready = |sequence: &mut Sequence| matches!(sequence.stage, Stage::Prompt { .. }) && sequence.has_room();
        let Some(at) = self.live.iter_mut().position(ready) else {
            return false;
        };
        if let Err(error) = self.evaluate_chunk(at) {
            self.end(at, Ending::Failed(ErrorCode::Engine, error.to_string()));
        }
        true
    }

    fn evaluate_chunk(&mut self, at: usize) -> Result<(), EngineError> {
        let sequence = &mut self.live[at];
        let Stage::Prompt { done } = sequence.stage else {
            return Ok(());
        };
        self.crasher.pass(CrashPoint::PrefillBeforeChunk);
        let length = sequence.prompt.len() as u32;
        let end = length.min(done + self.shared.description.limits.chunk_tokens);
        if let (Work::Export(export), 0) = (&sequence.work, done) {
            sequence.send(Message::KvBegin(Box::new(KvBegin { binding: export.binding.clone() })));
        }
        self.batch.clear();
        self.batch.extend((done..end).map(|position| BatchToken {
            sequence: sequence.slot,
            position,
            token: sequence.prompt[position as usize],
            want_logits: position + 1 == length,
        }));
        let start = Instant::now();
        self.engine.evaluate(&self.batch)?;
        sequence.timings.prefill_us += micros_since(start);
        self.shared.metrics.prefill_chunk_seconds.observe(start.elapsed().as_secs_f64());
        sequence.stage = Stage::Prompt { done: end };
        sequence.counts.input_tokens = sequence.counts.input_tokens.max(end);
        self.export_chunk(at, done, end)?;
        if end < length {
            return Ok(());
        }
        let row = (end - done - 1) as usize;
        let first_token = self.sample(at, row)?;
        match self.live[at].work {
            Work::Answer(_) => self.begin_answer(at, first_token),
            Work::Export(_) => self.end(at, Ending::Exported { first_token }),
        }
        Ok(())
    }

    /// Sends a finished chunk at once, while the next one is computed.
    fn export_chunk(&mut self, at: usize, start: u32, end: u32) -> Result<(), EngineError> {
        let sequence = &mut self.live[at];
        let Work::Export(export) = &mut sequence.work else {
            return Ok(());
        };
        // A buffer per chunk: it moves to the socket without a copy. The allocator recycles blocks of this size.
        let mut data = Vec::new();
        self.engine.export(sequence.slot, start..end, &mut data)?;
        let chunk = KvChunk::new(export.digest, start, end, Bytes::from(data));
        export.chunks.push(chunk.reference());
        self.shared.metrics.kv_sent(chunk.data.len());
        sequence.send(Message::KvChunk(chunk));
        if start > 0 {
            self.crasher.pass(CrashPoint::PrefillMidTransfer);
        }
        Ok(())
    }

    fn begin_answer(&mut self, at: usize, first_token: u32) {
        let sequence = &mut self.live[at];
        sequence.stage = Stage::Answering;
        self.shared.metrics.input_tokens.inc_by(sequence.prompt.len() as u64);
        self.take(at, first_token);
    }

    fn sample(&mut self, at: usize, row: usize) -> Result<u32, EngineError> {
        let sequence = &self.live[at];
        let logits = self.engine.logits(row)?;
        self.sampler.sample(logits, &sequence.sampling, sequence.counts.output_tokens)
    }

    fn take(&mut self, at: usize, token: u32) {
        let mut bytes = Vec::new();
        self.engine.piece(token, &mut bytes);
        let ends_generation = self.end_of_generation.contains(&token);
        let sequence = &mut self.live[at];
        let finish = sequence.take(&Sampled { token, bytes: &bytes, ends_generation });
        self.shared.metrics.output_tokens.inc();
        if let Work::Answer(answer) = &sequence.work {
            self.shared.receipts().count(&answer.key, sequence.counts);
        }
        if let Some(finish) = finish {
            self.crasher.pass(CrashPoint::DecodeBeforeDone);
            self.end(at, Ending::Finished(finish));
        }
    }

    /// Slot, cells, receipt and metrics are settled before anyone is told.
    fn end(&mut self, at: usize, ending: Ending) {
        let mut sequence = self.live.remove(at);
        self.engine.release(sequence.slot);
        self.capacity.give_back(sequence.slot, sequence.cells);
        self.publish();
        if let Ending::Finished(_) = ending {
            sequence.flush();
        }
        let counts = sequence.counts;
        let message = match &sequence.work {
            Work::Answer(answer) => {
                self.close_answer(answer, &ending, counts);
                self.last_message(answer, ending, counts, sequence.timings)
            }
            Work::Export(export) => {
                self.shared.metrics.request_ended(export_outcome(&ending));
                if matches!(ending, Ending::Exported { .. }) {
                    self.crasher.pass(CrashPoint::PrefillBeforeCommit);
                }
                export_message(export, ending, counts, sequence.timings.prefill_us)
            }
        };
        if let Some(message) = message {
            sequence.send(message);
        }
    }

    fn end_waiting(&mut self, job: Job, ending: Ending) {
        self.publish();
        let sequence = job.into_unplaced();
        let message = match &sequence.work {
            Work::Answer(answer) => {
                self.close_answer(answer, &ending, Counts::default());
                self.last_message(answer, ending, Counts::default(), sequence.timings)
            }
            Work::Export(export) => {
                self.shared.metrics.request_ended(export_outcome(&ending));
                export_message(export, ending, Counts::default(), 0)
            }
        };
        if let Some(message) = message {
            sequence.send(message);
        }
    }

    fn close_answer(&self, answer: &Answer, ending: &Ending, counts: Counts) {
        let (finish, outcome) = match ending {
            Ending::Finished(finish) => (Some(finish.clone()), outcome_of(finish)),
            Ending::Exported { .. } | Ending::Failed(..) => (None, "failed"),
            Ending::Cancelled => (None, "cancelled"),
        };
        self.shared.receipts().end(&answer.key, counts, finish);
        self.shared.metrics.request_ended(outcome);
    }

    fn last_message(&self, answer: &Answer, ending: Ending, counts: Counts, timings: Timings) -> Option<Message> {
        let engine = &self.shared.description.fingerprint.engine;
        match ending {
            Ending::Finished(finish) => Some(answer.done(finish, counts, timings, engine, &self.options.worker_id)),
            Ending::Failed(code, message) => Some(Message::Error(WorkerError { code, message, counts })),
            Ending::Exported { .. } | Ending::Cancelled => None,
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

    fn publish(&self) {
        let metrics = &self.shared.metrics;
        metrics.slots_used.set(i64::from(self.capacity.slots_used()));
        metrics.cells_reserved.set(i64::from(self.capacity.cells_reserved()));
        metrics.queue_waiting.set(self.waiting.len() as i64);
    }
}

impl Job {
    fn key(&self) -> Option<Key> {
        match &self.request {
            Request::Generate(generate) => Some((generate.request_id.clone(), generate.attempt)),
            Request::Prefill(_) => None,
        }
    }

    /// Cells it holds from admission to its end.
    fn cells(&self, context: u32) -> u32 {
        match &self.request {
            Request::Generate(generate) => {
                (generate.prompt.len() as u32).saturating_add(generate.max_tokens).min(context)
            }
            Request::Prefill(prefill) => prefill.prompt.len() as u32,
        }
    }

    fn ending(&self) -> Option<Ending> {
        if self.control.cancelled.load(Ordering::Acquire) {
            return Some(Ending::Cancelled);
        }
        let stopped = self.control.stopped.load(Ordering::Relaxed);
        stopped.then_some(Ending::Finished(FinishReason::Stopped))
    }

    /// For its last message only: it never had a slot.
    fn into_unplaced(self) -> Sequence {
        self.into_sequence(crate::engine::SequenceId(u32::MAX), 0, u32::MAX)
    }

    fn into_sequence(self, slot: crate::engine::SequenceId, cells: u32, context: u32) -> Sequence {
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
                    text: TextStage::new(generate.stop),
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

fn export_outcome(ending: &Ending) -> &'static str {
    match ending {
        Ending::Exported { .. } => "exported",
        Ending::Finished(_) | Ending::Cancelled => "cancelled",
        Ending::Failed(..) => "failed",
    }
}

fn export_message(export: &Export, ending: Ending, counts: Counts, prefill_us: u64) -> Option<Message> {
    match ending {
        Ending::Exported { first_token } => Some(Message::KvCommit(Box::new(Commit {
            binding: hex::encode(export.digest),
            chunks: export.chunks.clone(),
            first_token: FirstToken { id: first_token },
            prefill_us,
        }))),
        Ending::Failed(code, message) => Some(Message::Error(WorkerError { code, message, counts })),
        Ending::Finished(_) | Ending::Cancelled => None,
    }
}
