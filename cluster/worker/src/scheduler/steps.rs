//! What one turn of the engine thread does: imports, steps of answers, chunks of prompts.

use super::HandoffStep;
use super::endings::Ending;
use super::engine_loop::EngineLoop;
use super::sequence::{Sampled, Sequence, Stage, Work, micros_since};
use crate::crash::CrashPoint;
use crate::engine::{BatchToken, EngineError};
use bytes::Bytes;
use cluster_protocol::{ErrorCode, KvBegin, KvChunk, LocalReason, Message, PrefillPath};
use std::time::Instant;
use tokio::sync::mpsc;

impl EngineLoop {
    /// One step of one hand-off. `true` when there was one.
    pub(super) fn import_one(&mut self) -> bool {
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

    pub(super) fn import(&mut self, at: usize, chunk: &KvChunk) {
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

    pub(super) fn commit(&mut self, at: usize, first_token: u32, prefill_us: u64, begun: Instant) {
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
    pub(super) fn fall_back(&mut self, at: usize, reason: LocalReason) {
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
    pub(super) fn decode_step(&mut self) -> bool {
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
    pub(super) fn prefill_chunk(&mut self) -> bool {
        let ready = |sequence: &mut Sequence| matches!(sequence.stage, Stage::Prompt { .. }) && sequence.has_room();
        let Some(at) = self.live.iter_mut().position(ready) else {
            return false;
        };
        if let Err(error) = self.evaluate_chunk(at) {
            self.end(at, Ending::Failed(ErrorCode::Engine, error.to_string()));
        }
        true
    }

    pub(super) fn evaluate_chunk(&mut self, at: usize) -> Result<(), EngineError> {
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
        self.shared.metrics.prefill_tokens.inc_by(u64::from(end - done));
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
    pub(super) fn export_chunk(&mut self, at: usize, start: u32, end: u32) -> Result<(), EngineError> {
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

    pub(super) fn begin_answer(&mut self, at: usize, first_token: u32) {
        let sequence = &mut self.live[at];
        sequence.stage = Stage::Answering;
        self.shared.metrics.input_tokens.inc_by(sequence.prompt.len() as u64);
        self.take(at, first_token);
    }

    pub(super) fn sample(&mut self, at: usize, row: usize) -> Result<u32, EngineError> {
        let sequence = &self.live[at];
        let logits = self.engine.logits(row)?;
        self.sampler.sample(logits, &sequence.sampling, sequence.counts.output_tokens)
    }

    pub(super) fn take(&mut self, at: usize, token: u32) {
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
}
