//! What one turn of the engine thread does: imports, steps of answers, chunks of prompts.

use super::HandoffStep;
use super::choice::Sampled;
use super::endings::Ending;
use super::engine_loop::EngineLoop;
use super::sequence::{Sequence, Stage, Work, micros_since};
use crate::crash::CrashPoint;
use crate::engine::{BatchToken, EngineError};
use crate::logprobs::logprobs;
use bytes::Bytes;
use cluster_protocol::{Commit, FirstToken, KvBegin, KvChunk, LocalReason, Message, PrefillPath, TokenLogprobs};
use std::ops::Range;
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
                Ok(HandoffStep::Commit { commit, begun }) => self.commit(at, *commit, begun),
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
        if let Err(error) = self.engine.import(sequence.slot(), chunk.start..chunk.end, &chunk.data) {
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

    /// The hand-off is whole: its first tokens begin the answer, or are all of it.
    fn commit(&mut self, at: usize, commit: Commit, begun: Instant) {
        self.crasher.pass(CrashPoint::HandoffBeforeCommit);
        let sequence = &mut self.live[at];
        let Stage::Receiving { tokens, .. } = sequence.stage else {
            return;
        };
        let whole = tokens as usize == sequence.prompt.len();
        if !(whole || commit.ended) || !self.may_begin(at, &commit) {
            return self.fall_back(at, LocalReason::BadHandoff);
        }
        let sequence = &mut self.live[at];
        sequence.counts.input_tokens = sequence.prompt.len() as u32;
        sequence.timings.prefill_us = commit.prefill_us;
        sequence.timings.handoff_us = micros_since(begun).saturating_sub(commit.prefill_us);
        self.shared.metrics.handoff_committed();
        self.begin_answer(at, commit.first_tokens);
    }

    /// Whether these can be the first tokens. Without the whole KV cache each of them must be its choice's last.
    fn may_begin(&mut self, at: usize, commit: &Commit) -> bool {
        let vocabulary = self.shared.description.vocabulary;
        let sequence = &mut self.live[at];
        let logprobs = sequence.logprobs.is_some();
        let known = |first: &FirstToken| first.id < vocabulary && first.logprobs.is_some() == logprobs;
        if commit.first_tokens.len() != sequence.choices.len() || !commit.first_tokens.iter().all(known) {
            return false;
        }
        sequence.choices.iter_mut().zip(&commit.first_tokens).all(|(choice, first)| {
            let mut bytes = Vec::new();
            self.engine.piece(first.id, &mut bytes);
            let ends_generation = self.end_of_generation.contains(&first.id);
            let sampled = Sampled { token: first.id, bytes: &bytes, ends_generation };
            choice.picker.allows(first.id) && (!commit.ended || choice.would_end(&sampled, &sequence.most))
        })
    }

    /// Forgets what came, and computes the prompt here.
    pub(super) fn fall_back(&mut self, at: usize, reason: LocalReason) {
        let sequence = &mut self.live[at];
        self.engine.release(sequence.slot());
        sequence.stage = Stage::Prompt { done: 0 };
        if let Work::Answer(answer) = &mut sequence.work {
            tracing::warn!(request_id = answer.key.0, reason = reason.as_str(), "prefill goes on locally");
            answer.prefill = PrefillPath::Local { reason };
        }
        self.shared.metrics.handoff_failed(reason);
    }

    /// One token for each choice of each answer, as far as its grant goes. `true` when there was any.
    pub(super) fn decode_step(&mut self) -> bool {
        self.batch.clear();
        let mut rows = Vec::new();
        for (at, sequence) in self.live.iter_mut().enumerate() {
            if !matches!(sequence.stage, Stage::Answering) || !sequence.has_room() {
                continue;
            }
            let prompt_tokens = sequence.prompt.len() as u32;
            let running = sequence.choices.iter().enumerate().filter(|(_, choice)| choice.finish.is_none());
            for (number, choice) in running.take(sequence.granted() as usize) {
                let (token, position) = (choice.last_token, choice.next_position(prompt_tokens));
                self.batch.push(BatchToken { sequence: choice.slot, position, token, want_logits: true });
                rows.push((at, number));
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
        let mut end = rows.len();
        while let Some((at, _)) = end.checked_sub(1).map(|last| rows[last]) {
            let start = rows[..end].partition_point(|(other, _)| *other < at);
            let advanced = evaluated.clone().and_then(|()| self.advance(at, &rows[start..end], start));
            self.after_step(at, advanced);
            end = start;
        }
        true
    }

    /// Takes a token for each of a sequence's rows; the first is row `first` of the batch.
    fn advance(&mut self, at: usize, rows: &[(usize, usize)], first: usize) -> Result<(), EngineError> {
        for (offset, (_, choice)) in rows.iter().enumerate() {
            let sampled = self.sample(at, *choice, first + offset)?;
            self.take(at, *choice, sampled)?;
        }
        Ok(())
    }

    /// Ends what is to end, and pauses what has used up its grant.
    fn after_step(&mut self, at: usize, advanced: Result<(), EngineError>) {
        let sequence = &mut self.live[at];
        if let Err(error) = advanced {
            return self.end(at, Ending::Failed(error.code(), error.to_string()));
        }
        if sequence.is_finished() {
            self.crasher.pass(CrashPoint::DecodeBeforeDone);
            return self.end(at, Ending::Finished);
        }
        sequence.pause_at_grant();
    }

    /// One chunk of the first prompt whose reader keeps up. `true` when there was one.
    pub(super) fn prefill_chunk(&mut self) -> bool {
        let ready = |sequence: &mut Sequence| matches!(sequence.stage, Stage::Prompt { .. }) && sequence.has_room();
        let Some(at) = self.live.iter_mut().position(ready) else {
            return false;
        };
        if let Err(error) = self.evaluate_chunk(at) {
            self.end(at, Ending::Failed(error.code(), error.to_string()));
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
            sequence: sequence.slots[0],
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
        if end < length {
            return self.export_chunk(at, done..end);
        }
        let first_tokens = self.sample_first(at, (end - done - 1) as usize)?;
        match self.live[at].work {
            Work::Answer(_) => self.begin_answer(at, first_tokens),
            Work::Export(_) => {
                self.take_exported(at, &first_tokens)?;
                self.export_chunk(at, done..end)?;
                self.end(at, Ending::Exported { first_tokens });
            }
        }
        Ok(())
    }

    /// Sends a finished chunk at once, while the next one is computed; not for an answer that needs no KV cache.
    fn export_chunk(&mut self, at: usize, positions: Range<u32>) -> Result<(), EngineError> {
        let sequence = &mut self.live[at];
        let needless = sequence.most.tokens <= 1 || sequence.is_finished();
        let Work::Export(export) = &mut sequence.work else {
            return Ok(());
        };
        if needless {
            return Ok(());
        }
        let (start, end) = (positions.start, positions.end);
        // A buffer per chunk: it moves to the socket without a copy. The allocator recycles blocks of this size.
        let mut data = Vec::new();
        self.engine.export(sequence.slots[0], positions, &mut data)?;
        let chunk = KvChunk::new(export.digest, start, end, Bytes::from(data));
        export.chunks.push(chunk.reference());
        self.shared.metrics.kv_sent(chunk.data.len());
        sequence.send(Message::KvChunk(chunk));
        if start > 0 {
            self.crasher.pass(CrashPoint::PrefillMidTransfer);
        }
        Ok(())
    }

    /// The first token of each choice, all from the one row that ends the prompt.
    fn sample_first(&mut self, at: usize, row: usize) -> Result<Vec<FirstToken>, EngineError> {
        (0..self.live[at].choices.len()).map(|choice| self.sample(at, choice, row)).collect()
    }

    /// Begins every choice with its first token. All but the first share the cells of its prompt.
    fn begin_answer(&mut self, at: usize, first_tokens: Vec<FirstToken>) {
        let sequence = &mut self.live[at];
        self.shared.metrics.input_tokens.inc_by(sequence.prompt.len() as u64);
        let (source, others) = (sequence.slots[0], sequence.slots[1..].to_vec());
        for (choice, first) in first_tokens.into_iter().enumerate() {
            if let Err(error) = self.take(at, choice, first) {
                return self.after_step(at, Err(error));
            }
        }
        if !self.live[at].is_finished() {
            others.into_iter().for_each(|slot| self.engine.share(source, slot));
        }
        self.after_step(at, Ok(()));
    }

    /// On a prefill worker: notes which choices end at once. Their texts are the decode worker's business.
    fn take_exported(&mut self, at: usize, first_tokens: &[FirstToken]) -> Result<(), EngineError> {
        let mut first_tokens = first_tokens.iter().enumerate();
        first_tokens.try_for_each(|(choice, first)| self.accept(at, choice, first.id).map(drop))
    }

    fn sample(&mut self, at: usize, choice: usize, row: usize) -> Result<FirstToken, EngineError> {
        let sequence = &mut self.live[at];
        let logits = self.engine.logits(row)?;
        let id = sequence.choices[choice].pick(&mut self.sampler, logits)?;
        let asked = sequence.logprobs;
        Ok(FirstToken { id, logprobs: asked.map(|top| self.logprobs(row, id, top)).transpose()? })
    }

    fn logprobs(&mut self, row: usize, chosen: u32, top: u32) -> Result<TokenLogprobs, EngineError> {
        let (told, names) = (logprobs(self.engine.logits(row)?, chosen, top), &self.shared.description.card.tokenizer);
        Ok(told.spelled(|token| {
            let mut bytes = Vec::new();
            self.engine.piece(token, &mut bytes);
            if bytes.is_empty() {
                bytes.extend_from_slice(names.tokens.get(token as usize).map_or("", String::as_str).as_bytes());
            }
            bytes
        }))
    }

    fn accept(&mut self, at: usize, choice: usize, token: u32) -> Result<String, EngineError> {
        let mut bytes = Vec::new();
        self.engine.piece(token, &mut bytes);
        let ends_generation = self.end_of_generation.contains(&token);
        let sequence = &mut self.live[at];
        sequence.choices[choice].take(&Sampled { token, bytes: &bytes, ends_generation }, &sequence.most)
    }

    fn take(&mut self, at: usize, choice: usize, sampled: FirstToken) -> Result<(), EngineError> {
        let text = self.accept(at, choice, sampled.id)?;
        let sequence = &mut self.live[at];
        sequence.show(choice, text, sampled.logprobs);
        self.shared.metrics.output_tokens.inc();
        if let Work::Answer(answer) = &sequence.work {
            self.shared.receipts().count(&answer.key, sequence.counts);
        }
        Ok(())
    }
}
