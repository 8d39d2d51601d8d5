//! llama.cpp on the CPU. The only place with `unsafe`: `raw` and `gguf` have the calls, `blob` checks what comes from other workers.

#![allow(unsafe_code)]

mod blob;
mod card;
mod gguf;
mod raw;

use super::{BatchToken, Description, Engine, EngineError, EngineLimits, LoadError, SequenceId};
use blob::Layout;
use cluster_protocol::{Fingerprint, TextPart, limits};
use gguf::Metadata;
use raw::{Context, ContextShape, Row};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

/// Version of the bindings, which pin llama.cpp: the KV blob has no version of its own.
const BUILD: &str = "llama-cpp-sys-2 0.1.161";

/// A model, its context, and one spare sequence through which chunks go in and out.
pub(crate) struct LlamaEngine {
    context: Context,
    description: Description,
    layout: Option<Layout>,
    special: HashMap<String, u32>,
}

impl LlamaEngine {
    /// Loads a GGUF file.
    ///
    /// # Errors
    /// When the file can't be read, is no text model, or the sizes don't fit in memory.
    pub(crate) fn load(model: &Path, wanted: EngineLimits) -> Result<LlamaEngine, LoadError> {
        raw::initialise();
        let refuse = |error: String| LoadError(format!("model {}: {error}", model.display()));
        let model_sha256 = sha256(model).map_err(|error| refuse(error.to_string()))?;
        let metadata = Metadata::open(model).ok_or_else(|| refuse("not a GGUF file".into()))?;
        let mut limits = wanted;
        let mut context = Context::open(model, |trained| {
            limits.context_tokens = wanted.context_tokens.min(wanted.cells).min(trained);
            ContextShape {
                cells: wanted.cells,
                batch: wanted.chunk_tokens.max(wanted.slots),
                chunk: wanted.chunk_tokens,
                sequences: wanted.slots + 1,
                outputs: wanted.slots + 1, // llama.cpp reserves one for each sequence, the spare one too
                threads: wanted.threads,
            }
        })
        .map_err(&refuse)?;
        let vocabulary = context.vocabulary();
        if vocabulary == 0 || limits.context_tokens < 2 {
            return Err(refuse("it has no vocabulary or no context".into()));
        }
        let layout = warm_up(&mut context);
        let card = card::read(&context, &metadata, model);
        let special = card::special_tokens(&card);
        let fingerprint = Fingerprint {
            engine: "llama".into(),
            build: BUILD.into(),
            model_sha256,
            kv_type: "f16".into(),
            flash_attention: true,
            kv_unified: true,
            chunk_tokens: limits.chunk_tokens,
        };
        let kv_bytes_per_token = layout.as_ref().map_or(0, |layout| layout.blob_bytes(1));
        let description = Description { card, fingerprint, limits, vocabulary, kv_bytes_per_token };
        Ok(LlamaEngine { context, description, layout, special })
    }

    /// The spare sequence: `import` wipes its target first, so a chunk never goes straight into its destination.
    fn spare(&self) -> u32 {
        self.description.limits.slots
    }

    fn import_spare(&mut self, positions: &Range<u32>, data: &[u8]) -> Result<(), EngineError> {
        let layout = self.layout.as_ref().ok_or(EngineError::Import("this model's KV cache can't be handed over"))?;
        layout.check(data, positions.clone()).map_err(EngineError::Import)?;
        let spare = self.spare();
        if !self.context.import(spare, data) {
            return Err(EngineError::Import("llama.cpp did not take it"));
        }
        if self.context.positions(spare) != (positions.start as i32, positions.end as i32 - 1) {
            return Err(EngineError::Import("its positions came out wrong"));
        }
        Ok(())
    }
}

impl Engine for LlamaEngine {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn evaluate(&mut self, batch: &[BatchToken]) -> Result<(), EngineError> {
        let vocabulary = self.description.vocabulary;
        let slots = self.description.limits.slots;
        if batch.iter().any(|row| row.token >= vocabulary || row.sequence.0 >= slots) {
            return Err(EngineError::BadBatch);
        }
        let rows = batch.iter().map(|row| Row {
            token: row.token,
            position: row.position,
            sequence: row.sequence.0,
            want_logits: row.want_logits,
        });
        match self.context.decode(rows) {
            0 => Ok(()),
            code => Err(EngineError::Evaluate { tokens: batch.len(), code }),
        }
    }

    fn logits(&mut self, row: usize) -> Result<&[f32], EngineError> {
        self.context.logits(row).ok_or(EngineError::NoLogits(row))
    }

    fn export(&mut self, sequence: SequenceId, positions: Range<u32>, out: &mut Vec<u8>) -> Result<(), EngineError> {
        let spare = self.spare();
        self.context.remove_sequence(spare);
        self.context.copy_sequence(sequence.0, spare, Some((positions.start, positions.end)));
        let whole = self.context.export(spare, out);
        self.context.remove_sequence(spare);
        let layout = self.layout.as_ref().ok_or(EngineError::Export("this model's KV cache can't be handed over"))?;
        if !whole {
            return Err(EngineError::Export("llama.cpp wrote another length than it announced"));
        }
        layout.check(out, positions).map_err(EngineError::Export)
    }

    fn import(&mut self, sequence: SequenceId, positions: Range<u32>, data: &[u8]) -> Result<(), EngineError> {
        let spare = self.spare();
        let checked = self.import_spare(&positions, data);
        if checked.is_ok() {
            self.context.copy_sequence(spare, sequence.0, None);
        }
        self.context.remove_sequence(spare);
        checked
    }

    fn share(&mut self, from: SequenceId, to: SequenceId) {
        self.context.copy_sequence(from.0, to.0, None);
    }

    fn release(&mut self, sequence: SequenceId) {
        self.context.remove_sequence(sequence.0);
    }

    fn piece(&self, token: u32, out: &mut Vec<u8>) {
        self.context.piece(token, out);
    }

    fn tokenize(&self, part: &TextPart) -> Result<Vec<u32>, EngineError> {
        if part.special {
            let id = self.special.get(&part.text).ok_or(EngineError::Tokenize("no such special token"))?;
            return Ok(vec![*id]);
        }
        if part.text.len() > limits::MAX_PART_BYTES {
            return Err(EngineError::Tokenize("too long"));
        }
        self.context.tokenize(&part.text).ok_or(EngineError::Tokenize("llama.cpp refused it"))
    }
}

/// Evaluates two tokens once: pages the weights in, and shows how this model's KV cache is laid out.
fn warm_up(context: &mut Context) -> Option<Layout> {
    let rows = [0, 1].map(|position| Row { token: 0, position, sequence: 0, want_logits: position == 1 });
    let mut blob = Vec::new();
    let learned = context.decode(rows.into_iter()) == 0 && context.export(0, &mut blob);
    context.remove_sequence(0);
    learned.then(|| Layout::learn(&blob, 2)).flatten()
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let bytes = file.read(&mut buffer)?;
        if bytes == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..bytes]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: EngineLimits =
        EngineLimits { slots: 3, cells: 512, context_tokens: 512, chunk_tokens: 32, threads: 1 };
    const SOURCE: SequenceId = SequenceId(0);
    const NEIGHBOUR: SequenceId = SequenceId(1);
    const TARGET: SequenceId = SequenceId(2);

    fn load() -> LlamaEngine {
        let model = std::env::var_os("CAPROCK_TEST_MODEL").expect("set CAPROCK_TEST_MODEL to a GGUF file");
        LlamaEngine::load(Path::new(&model), LIMITS).unwrap()
    }

    fn rows(sequence: SequenceId, tokens: &[u32]) -> Vec<BatchToken> {
        let last = tokens.len() - 1;
        let row = |(position, token): (usize, &u32)| BatchToken {
            sequence,
            position: position as u32,
            token: *token,
            want_logits: position == last,
        };
        tokens.iter().enumerate().map(row).collect()
    }

    fn exported(engine: &mut LlamaEngine, sequence: SequenceId, positions: Range<u32>) -> Vec<u8> {
        let mut out = Vec::new();
        engine.export(sequence, positions, &mut out).unwrap();
        out
    }

    #[test]
    fn the_fingerprint_names_the_pinned_build() {
        let manifest = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"));
        let pin = manifest.lines().find(|line| line.starts_with("llama-cpp-sys-2")).unwrap();
        let version = pin.split("\"=").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert!(super::BUILD.contains(version), "{} is not {version}", super::BUILD);
    }

    #[test]
    fn no_blob_kills_the_process_or_touches_another_sequence() {
        let mut engine = load();
        engine.evaluate(&rows(SOURCE, &(10..30).collect::<Vec<_>>())).unwrap();
        engine.evaluate(&rows(NEIGHBOUR, &(40..60).collect::<Vec<_>>())).unwrap();
        let good = exported(&mut engine, SOURCE, 5..15);
        let neighbour = exported(&mut engine, NEIGHBOUR, 0..20);
        let last_head = good.len() - 64;
        // Every structural byte at the front, then a spread over the rows with their heads.
        let places = (0..16 + 10 * 12 + 16 + 12).chain((200..last_head).step_by(2999));
        let mut refused = 0;
        for at in places {
            let mut bad = good.clone();
            bad[at] ^= 0x81;
            refused += usize::from(engine.import(TARGET, 5..15, &bad).is_err());
            engine.release(TARGET);
        }
        for cut in [0, 1, 15, 16, 28, 100, good.len() / 2, good.len() - 1] {
            assert!(engine.import(TARGET, 5..15, &good[..cut]).is_err(), "cut at {cut}");
        }
        assert!(engine.import(TARGET, 5..15, &[&good[..], &[0]].concat()).is_err(), "trailing byte");
        assert!(engine.import(TARGET, 4..14, &good).is_err(), "other positions");
        assert!(refused >= 120, "only {refused} were refused");
        assert_eq!(exported(&mut engine, NEIGHBOUR, 0..20), neighbour);
        assert_eq!(exported(&mut engine, SOURCE, 5..15), good);
        engine.import(TARGET, 5..15, &good).unwrap();
    }

    #[test]
    fn a_cache_that_is_not_numbers_fails_its_own_sequence_only() {
        let mut engine = load();
        let tokens: Vec<u32> = (10..30).collect();
        engine.evaluate(&rows(SOURCE, &tokens)).unwrap();
        let mut blob = exported(&mut engine, SOURCE, 0..20);
        let nan = 0x7e00u16.to_ne_bytes(); // f16
        let first_row = 16 + 20 * 12 + 16 + 12;
        blob[first_row..first_row + 20 * 384].chunks_exact_mut(2).for_each(|half| half.copy_from_slice(&nan));
        engine.import(TARGET, 0..20, &blob).unwrap();
        let next = |sequence| BatchToken { sequence, position: 20, token: 7, want_logits: true };
        engine.evaluate(&[next(SOURCE), next(TARGET)]).unwrap();
        let mut sampler = crate::sampler::Sampler::default();
        let greedy = cluster_protocol::Sampling::GREEDY;
        assert!(sampler.sample(engine.logits(0).unwrap(), &greedy, 0, 0).is_ok());
        assert_eq!(sampler.sample(engine.logits(1).unwrap(), &greedy, 0, 0), Err(EngineError::BadLogits));
    }

    #[test]
    fn inputs_that_llama_cpp_would_abort_on_are_refused_here() {
        let mut engine = load();
        let row = |sequence, position, token| BatchToken { sequence, position, token, want_logits: true };
        let too_many: Vec<_> = (0..33).map(|position| row(SOURCE, position, 1)).collect();
        assert!(engine.evaluate(&too_many).is_err(), "over n_batch");
        assert!(engine.evaluate(&[]).is_err());
        assert!(engine.evaluate(&[row(SequenceId(3), 0, 1)]).is_err(), "the spare sequence");
        assert!(engine.evaluate(&[row(SOURCE, 0, u32::MAX)]).is_err());
        assert!(engine.evaluate(&[row(SOURCE, u32::MAX, 1)]).is_err());
        assert!(engine.evaluate(&[row(SOURCE, 5, 1)]).is_ok(), "a sequence may begin anywhere, as a chunk does");
        assert!(engine.evaluate(&[row(SOURCE, 9, 1)]).is_err(), "a gap");
        assert!(engine.logits(5).is_err());
        assert!(engine.export(NEIGHBOUR, 0..4, &mut Vec::new()).is_err(), "positions that are not there");
    }
}
