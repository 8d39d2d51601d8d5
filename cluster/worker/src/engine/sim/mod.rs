//! An engine without a model: deterministic tokens from a seed and from what its KV cache really holds.
//!
//! Each position holds its token and a running digest of all tokens before it. Logits come from the last digest, so a
//! cache of other tokens, or in another order, gives another answer: a wrong hand-off shows. It takes time as a real
//! engine does, per prompt token and per decode step. It names itself in every answer and is never the default.

mod vocabulary;

use super::{BatchToken, Description, Engine, EngineError, EngineLimits, SequenceId};
use cluster_protocol::{Fingerprint, TextPart};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// How the simulated model behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimOptions {
    /// Another seed is another model.
    pub seed: u64,
    /// Prompt tokens per second; 0 is no delay.
    pub prefill_tokens_per_s: u32,
    /// Time of one decode step in ms, whatever its size.
    pub step_ms: u32,
    /// Words of an answer before it ends its turn. Counted as the words at the end of the sequence, and a tokenised
    /// prompt has none.
    pub answer_tokens: u32,
}

impl Default for SimOptions {
    fn default() -> Self {
        SimOptions { seed: 1, prefill_tokens_per_s: 0, step_ms: 0, answer_tokens: 16 }
    }
}

const BYTES_PER_CELL: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    token: u32,
    /// Of all tokens up to and including this one.
    digest: u64,
}

pub(crate) struct SimEngine {
    options: SimOptions,
    description: Description,
    sequences: Vec<BTreeMap<u32, Cell>>,
    /// Cells at the beginning of each sequence that another one holds.
    shared: Vec<usize>,
    logits: Vec<Option<Vec<f32>>>,
}

impl SimEngine {
    pub(crate) fn new(options: SimOptions, mut limits: EngineLimits) -> SimEngine {
        let card = vocabulary::card();
        limits.context_tokens = limits.context_tokens.min(limits.cells).min(card.trained_context_tokens);
        let fingerprint = Fingerprint {
            engine: "sim".into(),
            build: "sim 1".into(),
            model_sha256: format!("{:064x}", options.seed),
            kv_type: "digest".into(),
            flash_attention: false,
            kv_unified: true,
            chunk_tokens: limits.chunk_tokens,
        };
        let vocabulary = card.tokenizer.tokens.len() as u32;
        let description = Description { card, fingerprint, limits, vocabulary, kv_bytes_per_token: BYTES_PER_CELL };
        let sequences = vec![BTreeMap::new(); limits.slots as usize];
        let shared = vec![0; limits.slots as usize];
        SimEngine { options, description, sequences, shared, logits: Vec::new() }
    }

    fn append(&mut self, row: &BatchToken) -> Result<(), EngineError> {
        let seed = self.options.seed;
        let sequence = &mut self.sequences[row.sequence.0 as usize];
        let before = match row.position.checked_sub(1) {
            None => seed,
            Some(last) => sequence.get(&last).ok_or(EngineError::BadBatch)?.digest,
        };
        if sequence.keys().next_back().is_some_and(|last| *last >= row.position) {
            return Err(EngineError::BadBatch);
        }
        sequence.insert(row.position, Cell { token: row.token, digest: mix(before, u64::from(row.token)) });
        Ok(())
    }

    /// Whether the cells from 0 on are one unbroken chain: what a hand-off must have brought.
    fn is_whole(&self, sequence: &BTreeMap<u32, Cell>) -> bool {
        let mut before = self.options.seed;
        (0..).zip(sequence).all(|(expected, (position, cell))| {
            let fits = *position == expected && cell.digest == mix(before, u64::from(cell.token));
            before = cell.digest;
            fits
        })
    }

    fn logits_after(&self, sequence: &BTreeMap<u32, Cell>) -> Vec<f32> {
        let mut logits = vec![-30.0; self.description.vocabulary as usize];
        let state = sequence.values().next_back().map_or(0, |cell| cell.digest);
        for word in vocabulary::words() {
            logits[word as usize] = (mix(state, u64::from(word)) >> 40) as f32 / (1u32 << 21) as f32;
        }
        let said = sequence.values().rev().take_while(|cell| vocabulary::words().contains(&cell.token)).count();
        if said >= self.options.answer_tokens as usize {
            logits[vocabulary::END_OF_TURN as usize] = 100.0;
        }
        logits
    }

    fn take_time(&self, batch: &[BatchToken]) {
        let one_sequence = batch.iter().all(|row| row.sequence == batch[0].sequence);
        let time = if batch.len() > 1 && one_sequence {
            match self.options.prefill_tokens_per_s {
                0 => Duration::ZERO,
                rate => Duration::from_secs_f64(batch.len() as f64 / f64::from(rate)),
            }
        } else {
            Duration::from_millis(u64::from(self.options.step_ms))
        };
        if !time.is_zero() {
            std::thread::sleep(time);
        }
    }
}

impl Engine for SimEngine {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn evaluate(&mut self, batch: &[BatchToken]) -> Result<(), EngineError> {
        let limits = self.description.limits;
        let known = |row: &BatchToken| row.token < self.description.vocabulary && row.sequence.0 < limits.slots;
        if batch.is_empty() || batch.len() > limits.chunk_tokens.max(limits.slots) as usize || !batch.iter().all(known)
        {
            return Err(EngineError::BadBatch);
        }
        let used: usize = self.sequences.iter().map(BTreeMap::len).sum();
        let shared: usize = self.shared.iter().sum();
        if used - shared + batch.len() > limits.cells as usize {
            return Err(EngineError::Evaluate { tokens: batch.len(), code: 1 });
        }
        self.take_time(batch);
        self.logits.clear();
        for row in batch {
            self.append(row)?;
            let sequence = &self.sequences[row.sequence.0 as usize];
            let logits = row.want_logits.then(|| self.logits_after(sequence));
            self.logits.push(logits);
        }
        Ok(())
    }

    fn logits(&mut self, row: usize) -> Result<&[f32], EngineError> {
        self.logits.get(row).and_then(Option::as_deref).ok_or(EngineError::NoLogits(row))
    }

    fn export(&mut self, sequence: SequenceId, positions: Range<u32>, out: &mut Vec<u8>) -> Result<(), EngineError> {
        out.clear();
        let cells = &self.sequences[sequence.0 as usize];
        for position in positions {
            let cell = cells.get(&position).ok_or(EngineError::Export("it is not computed"))?;
            out.extend(position.to_le_bytes());
            out.extend(cell.token.to_le_bytes());
            out.extend(cell.digest.to_le_bytes());
        }
        Ok(())
    }

    fn import(&mut self, sequence: SequenceId, positions: Range<u32>, data: &[u8]) -> Result<(), EngineError> {
        if data.len() != positions.len() * BYTES_PER_CELL {
            return Err(EngineError::Import("its length does not fit its positions"));
        }
        let mut added = Vec::with_capacity(positions.len());
        for (expected, cell) in positions.zip(data.chunks_exact(BYTES_PER_CELL)) {
            let word = |at: usize| u32::from_le_bytes([cell[at], cell[at + 1], cell[at + 2], cell[at + 3]]);
            let digest = u64::from(word(8)) | u64::from(word(12)) << 32;
            if word(0) != expected {
                return Err(EngineError::Import("its cells are not the positions it names"));
            }
            added.push((expected, Cell { token: word(4), digest }));
        }
        let mut whole = self.sequences[sequence.0 as usize].clone();
        whole.extend(added);
        // Chunks may come in any order, so only a set without gaps can be judged.
        let complete = whole.keys().next_back().is_some_and(|last| *last as usize + 1 == whole.len());
        if complete && !self.is_whole(&whole) {
            return Err(EngineError::Import("its digests are not those of its tokens"));
        }
        self.sequences[sequence.0 as usize] = whole;
        Ok(())
    }

    fn share(&mut self, from: SequenceId, to: SequenceId) {
        let cells = self.sequences[from.0 as usize].clone();
        self.shared[to.0 as usize] = cells.len();
        self.sequences[to.0 as usize] = cells;
    }

    fn release(&mut self, sequence: SequenceId) {
        self.shared[sequence.0 as usize] = 0;
        self.sequences[sequence.0 as usize].clear();
    }

    fn piece(&self, token: u32, out: &mut Vec<u8>) {
        vocabulary::piece(token, out);
    }

    fn tokenize(&self, part: &TextPart) -> Result<Vec<u32>, EngineError> {
        vocabulary::tokenize(part).ok_or(EngineError::Tokenize("no such special token"))
    }
}

/// A small, well-spread hash (the finaliser of SplitMix64 over both words).
fn mix(state: u64, word: u64) -> u64 {
    let mut z = state.rotate_left(23) ^ word.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: EngineLimits = EngineLimits { slots: 2, cells: 64, context_tokens: 64, chunk_tokens: 16, threads: 1 };
    const ZERO: SequenceId = SequenceId(0);

    fn with(tokens: &[u32]) -> SimEngine {
        let mut engine = SimEngine::new(SimOptions::default(), LIMITS);
        let batch: Vec<_> = (0..).zip(tokens).map(|(position, token)| row(position, *token)).collect();
        engine.evaluate(&batch).unwrap();
        engine
    }

    fn row(position: u32, token: u32) -> BatchToken {
        BatchToken { sequence: ZERO, position, token, want_logits: true }
    }

    #[test]
    fn an_imported_cache_goes_on_as_the_exported_one_would() {
        let mut source = with(&[5, 6, 7]);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        source.export(ZERO, 0..2, &mut first).unwrap();
        source.export(ZERO, 2..3, &mut second).unwrap();
        let mut target = SimEngine::new(SimOptions::default(), LIMITS);
        target.import(ZERO, 2..3, &second).unwrap();
        target.import(ZERO, 0..2, &first).unwrap();
        source.evaluate(&[row(3, 9)]).unwrap();
        target.evaluate(&[row(3, 9)]).unwrap();
        assert_eq!(source.logits(0), target.logits(0));
        let mut other = with(&[5, 6, 8]);
        other.evaluate(&[row(3, 9)]).unwrap();
        assert_ne!(source.logits(0), other.logits(0), "another prompt");
    }

    #[test]
    fn a_cache_that_is_not_what_it_says_is_refused() {
        let mut blob = Vec::new();
        with(&[5, 6, 7]).export(ZERO, 0..3, &mut blob).unwrap();
        for bit in 0..blob.len() * 8 {
            let mut bad = blob.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let mut target = SimEngine::new(SimOptions::default(), LIMITS);
            assert!(target.import(ZERO, 0..3, &bad).is_err(), "bit {bit}");
            assert!(target.sequences[0].is_empty());
        }
    }

    #[test]
    fn positions_must_follow_one_another_and_cells_are_bounded() {
        let mut engine = with(&[5, 6, 7]);
        assert_eq!(engine.evaluate(&[row(4, 1)]), Err(EngineError::BadBatch));
        assert_eq!(engine.evaluate(&[row(2, 1)]), Err(EngineError::BadBatch));
        assert_eq!(engine.evaluate(&[]), Err(EngineError::BadBatch));
        for position in 3..64 {
            engine.evaluate(&[row(position, 1)]).unwrap();
        }
        assert!(matches!(engine.evaluate(&[row(64, 1)]), Err(EngineError::Evaluate { .. })));
        engine.release(ZERO);
        engine.evaluate(&[row(0, 1)]).unwrap();
    }
}
