//! The hand-off: a prompt's KV cache in chunks that name their positions, and a commit that names them all.
//!
//! [`Handoff`] is the receiving side's bookkeeping. It trusts nothing: what it has not checked never reaches an
//! engine, and nothing is generated from a set that is not complete.

use crate::constraint::Constraint;
use crate::generate::{Sampling, TokenLogprobs};
use crate::model::Fingerprint;
use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};

/// Decode asks prefill to compute a prompt and to send its KV cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prefill {
    /// What the hand-off belongs to.
    pub binding: Binding,
    /// Token ids.
    pub prompt: Vec<u32>,
    /// For the first token of each choice.
    pub sampling: Sampling,
    /// As in [`crate::Generate`].
    pub constraint: Option<Constraint>,
    /// As in [`crate::Generate`].
    pub logprobs: Option<u32>,
    /// As in [`crate::Generate`].
    pub choices: u32,
    /// As in [`crate::Generate`]: a first token may end its choice.
    pub stop: Vec<String>,
    /// Most output tokens of each choice, cut to what decode has room for. At 1 no KV cache is sent.
    pub max_tokens: u32,
}

/// What a hand-off belongs to. Both ends know all of it, so a KV cache of anything else is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// `req_…`
    pub request_id: String,
    /// The gateway's attempt, from 1.
    pub attempt: u32,
    /// The tenant's id.
    pub tenant: String,
    /// [`crate::prompt_digest`] of the prompt.
    pub prompt_digest: String,
    /// Number of prompt tokens.
    pub prompt_tokens: u32,
    /// Of the model and build on both ends.
    pub fingerprint: Fingerprint,
    /// Of the prefill worker's engine, from its `Welcome`.
    pub epoch: u64,
}

impl Binding {
    /// 32 bytes that stand for all fields; every chunk carries them.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("caprock handoff binding v1");
        let numbers = format!("{} {} {}", self.attempt, self.prompt_tokens, self.epoch);
        let fingerprint = self.fingerprint.digest();
        for part in [&self.request_id, &self.tenant, &self.prompt_digest, &fingerprint, &numbers] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

/// Prefill begins: repeats what it understood, before the first byte of KV.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvBegin {
    /// Must equal the receiver's own.
    pub binding: Binding,
}

/// The KV cache of positions `start..end`.
///
/// Payload: `binding [32] | start u32 | end u32 | digest [32] | data`, little endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvChunk {
    /// [`Binding::digest`].
    pub binding: [u8; 32],
    /// First position.
    pub start: u32,
    /// One past the last position.
    pub end: u32,
    /// BLAKE3 of `data`: holds on any transport, whatever its frames check.
    pub digest: [u8; 32],
    /// The engine's own serialisation.
    pub data: Bytes,
}

impl KvChunk {
    /// Bytes before `data`.
    pub const HEAD_BYTES: usize = 32 + 4 + 4 + 32;

    /// Most bytes of the payload of a chunk of `tokens` positions that [`Handoff`] accepts.
    pub fn most_payload(tokens: u32, bytes_per_token: usize) -> usize {
        Self::HEAD_BYTES.saturating_add(most_data(tokens, bytes_per_token))
    }

    /// A chunk with its digest computed.
    pub fn new(binding: [u8; 32], start: u32, end: u32, data: Bytes) -> KvChunk {
        KvChunk { binding, start, end, digest: *blake3::hash(&data).as_bytes(), data }
    }

    /// How the commit names it.
    pub fn reference(&self) -> ChunkRef {
        ChunkRef { start: self.start, end: self.end, bytes: self.data.len() as u64, digest: hex::encode(self.digest) }
    }

    pub(crate) fn encode_head(&self) -> [u8; Self::HEAD_BYTES] {
        let mut head = [0; Self::HEAD_BYTES];
        let mut out = &mut head[..];
        out.put_slice(&self.binding);
        out.put_u32_le(self.start);
        out.put_u32_le(self.end);
        out.put_slice(&self.digest);
        head
    }

    pub(crate) fn decode(mut payload: Bytes) -> Result<KvChunk, String> {
        if payload.len() < Self::HEAD_BYTES {
            return Err("a KV chunk shorter than its head".into());
        }
        let mut chunk = KvChunk { binding: [0; 32], start: 0, end: 0, digest: [0; 32], data: Bytes::new() };
        payload.copy_to_slice(&mut chunk.binding);
        chunk.start = payload.get_u32_le();
        chunk.end = payload.get_u32_le();
        payload.copy_to_slice(&mut chunk.digest);
        chunk.data = payload;
        Ok(chunk)
    }
}

/// Beside the cells an engine writes a head of its own.
fn most_data(tokens: u32, bytes_per_token: usize) -> usize {
    (tokens as usize).saturating_mul(bytes_per_token).saturating_add(64 << 10)
}

/// One chunk as the commit names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkRef {
    /// First position.
    pub start: u32,
    /// One past the last position.
    pub end: u32,
    /// Length of its data.
    pub bytes: u64,
    /// BLAKE3 of its data in hex.
    pub digest: String,
}

/// The full set of chunks, and the first tokens, which prefill samples because the KV cache carries no logits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// [`Binding::digest`] in hex.
    pub binding: String,
    /// Every chunk, in any order.
    pub chunks: Vec<ChunkRef>,
    /// Token at position `prompt_tokens`, for each choice.
    pub first_tokens: Vec<FirstToken>,
    /// Every choice ends with its first token, so nobody needs the KV cache: the chunks need not cover the prompt.
    pub ended: bool,
    /// Time spent computing the prompt, in µs, waiting excluded.
    pub prefill_us: u64,
}

/// A token that prefill sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstToken {
    /// Its id.
    pub id: u32,
    /// When they were asked for.
    pub logprobs: Option<TokenLogprobs>,
}

/// Why a hand-off is refused. The request goes on with a local prefill.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum HandoffError {
    #[error("it belongs to another request, tenant, prompt, attempt, model or epoch")]
    WrongBinding,
    #[error("KV chunk {start}..{end} is empty, reversed or outside the prompt of {prompt_tokens} tokens")]
    BadRange { start: u32, end: u32, prompt_tokens: u32 },
    #[error("KV chunk {start}..{end} overlaps one that came before")]
    Overlap { start: u32, end: u32 },
    #[error("the digest of KV chunk {start}..{end} does not match its data")]
    BadDigest { start: u32, end: u32 },
    #[error("a KV chunk of {bytes} bytes for {tokens} tokens is over the limit")]
    TooLarge { bytes: usize, tokens: u32 },
    #[error("the commit does not name exactly the chunks that came, or they do not cover the prompt")]
    Incomplete,
}

/// The receiving side of one hand-off: what came so far, checked.
#[derive(Debug)]
pub struct Handoff {
    binding: [u8; 32],
    prompt_tokens: u32,
    max_bytes_per_token: usize,
    chunks: Vec<ChunkRef>,
}

impl Handoff {
    /// `max_bytes_per_token` bounds what a peer can make this side hold; a chunk may have that much for each of its
    /// tokens, and 64 KiB more for its own headers.
    pub fn new(binding: &Binding, max_bytes_per_token: usize) -> Handoff {
        Handoff {
            binding: binding.digest(),
            prompt_tokens: binding.prompt_tokens,
            max_bytes_per_token,
            chunks: Vec::new(),
        }
    }

    /// Checks the opening frame.
    ///
    /// # Errors
    /// [`HandoffError::WrongBinding`]
    pub fn begin(&self, begin: &KvBegin) -> Result<(), HandoffError> {
        if begin.binding.digest() == self.binding { Ok(()) } else { Err(HandoffError::WrongBinding) }
    }

    /// Checks a chunk; after `Ok` its data may go to the engine, for positions `start..end` of this sequence only.
    ///
    /// # Errors
    /// Every [`HandoffError`] but `Incomplete`.
    pub fn accept(&mut self, chunk: &KvChunk) -> Result<(), HandoffError> {
        let (start, end) = (chunk.start, chunk.end);
        if chunk.binding != self.binding {
            return Err(HandoffError::WrongBinding);
        }
        if start >= end || end > self.prompt_tokens {
            return Err(HandoffError::BadRange { start, end, prompt_tokens: self.prompt_tokens });
        }
        let tokens = end - start;
        let limit = most_data(tokens, self.max_bytes_per_token);
        if chunk.data.len() > limit {
            return Err(HandoffError::TooLarge { bytes: chunk.data.len(), tokens });
        }
        if self.chunks.iter().any(|had| start < had.end && had.start < end) {
            return Err(HandoffError::Overlap { start, end });
        }
        if *blake3::hash(&chunk.data).as_bytes() != chunk.digest {
            return Err(HandoffError::BadDigest { start, end });
        }
        self.chunks.push(chunk.reference());
        Ok(())
    }

    /// Whether the commit names exactly the chunks that came, and these cover the prompt without gap. When every choice
    /// [ended](Commit::ended), nothing will be computed from them, and they need not cover it.
    ///
    /// # Errors
    /// `WrongBinding` or `Incomplete`.
    pub fn commit(mut self, commit: &Commit) -> Result<(), HandoffError> {
        if commit.binding != hex::encode(self.binding) {
            return Err(HandoffError::WrongBinding);
        }
        let mut named = commit.chunks.clone();
        named.sort_by_key(|chunk| chunk.start);
        self.chunks.sort_by_key(|chunk| chunk.start);
        let covered = self.covers_prompt() || commit.ended;
        if covered && named == self.chunks { Ok(()) } else { Err(HandoffError::Incomplete) }
    }

    /// Whether the sorted chunks leave no gap.
    fn covers_prompt(&self) -> bool {
        let mut next = 0;
        let adjoining = self.chunks.iter().all(|chunk| std::mem::replace(&mut next, chunk.end) == chunk.start);
        adjoining && next == self.prompt_tokens
    }

    /// KV bytes accepted so far.
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    /// Chunks accepted so far.
    pub fn chunks(&self) -> u32 {
        self.chunks.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding {
            request_id: "req_1".into(),
            attempt: 1,
            tenant: "ten_1".into(),
            prompt_digest: crate::prompt_digest(&[1, 2, 3]),
            prompt_tokens: 600,
            fingerprint: Fingerprint {
                engine: "sim".into(),
                build: "1".into(),
                model_sha256: "00".into(),
                kv_type: "f16".into(),
                flash_attention: true,
                kv_unified: true,
                chunk_tokens: 256,
            },
            epoch: 7,
        }
    }

    fn chunk(start: u32, end: u32) -> KvChunk {
        KvChunk::new(binding().digest(), start, end, Bytes::from(vec![start as u8; 100]))
    }

    fn commit(chunks: &[KvChunk]) -> Commit {
        Commit {
            binding: hex::encode(binding().digest()),
            chunks: chunks.iter().map(KvChunk::reference).collect(),
            first_tokens: vec![FirstToken { id: 5, logprobs: None }],
            ended: false,
            prefill_us: 1,
        }
    }

    #[test]
    fn any_order_is_complete_and_any_gap_is_not() {
        let all = [chunk(256, 512), chunk(0, 256), chunk(512, 600)];
        let mut handoff = Handoff::new(&binding(), 1000);
        all.iter().for_each(|chunk| handoff.accept(chunk).unwrap());
        assert_eq!(handoff.commit(&commit(&all)), Ok(()));

        for missing in 0..all.len() {
            let mut handoff = Handoff::new(&binding(), 1000);
            let some: Vec<_> = all.iter().enumerate().filter(|(i, _)| *i != missing).map(|(_, c)| c.clone()).collect();
            some.iter().for_each(|chunk| handoff.accept(chunk).unwrap());
            assert_eq!(handoff.commit(&commit(&some)), Err(HandoffError::Incomplete), "without chunk {missing}");
        }
    }

    #[test]
    fn an_answer_that_has_ended_needs_no_chunks_but_names_those_that_came() {
        let ended = |chunks: &[KvChunk]| Commit { ended: true, ..commit(chunks) };
        assert_eq!(Handoff::new(&binding(), 1000).commit(&ended(&[])), Ok(()));
        let first = chunk(0, 256);
        let accepted = || {
            let mut handoff = Handoff::new(&binding(), 1000);
            handoff.accept(&first).unwrap();
            handoff
        };
        assert_eq!(accepted().commit(&ended(std::slice::from_ref(&first))), Ok(()));
        assert_eq!(accepted().commit(&ended(&[])), Err(HandoffError::Incomplete));
    }

    #[test]
    fn a_commit_that_names_other_chunks_is_refused() {
        let all = [chunk(0, 256), chunk(256, 600)];
        for edit in 0..5 {
            let mut handoff = Handoff::new(&binding(), 1000);
            all.iter().for_each(|chunk| handoff.accept(chunk).unwrap());
            let mut commit = commit(&all);
            match edit {
                0 => commit.chunks[0].digest = "00".repeat(32),
                1 => commit.chunks[0].bytes += 1,
                2 => commit.chunks[1].end = 599,
                3 => drop(commit.chunks.pop()),
                _ => commit.chunks.push(chunk(600, 601).reference()),
            }
            assert_eq!(handoff.commit(&commit), Err(HandoffError::Incomplete), "edit {edit}");
        }
    }

    #[test]
    fn every_field_of_a_chunk_is_checked() {
        let mut handoff = Handoff::new(&binding(), 1000);
        handoff.accept(&chunk(0, 256)).unwrap();
        assert_eq!(handoff.accept(&chunk(0, 256)), Err(HandoffError::Overlap { start: 0, end: 256 }), "replayed");
        assert!(matches!(handoff.accept(&chunk(300, 300)), Err(HandoffError::BadRange { .. })));
        assert!(matches!(handoff.accept(&chunk(500, 601)), Err(HandoffError::BadRange { .. })));
        let mut flipped = chunk(256, 300);
        let mut data = flipped.data.to_vec();
        data[50] ^= 1;
        flipped.data = data.into();
        assert!(matches!(handoff.accept(&flipped), Err(HandoffError::BadDigest { .. })));
        let huge = KvChunk::new(binding().digest(), 256, 257, Bytes::from(vec![0; (64 << 10) + 1001]));
        assert!(matches!(handoff.accept(&huge), Err(HandoffError::TooLarge { .. })));
    }

    #[test]
    fn any_other_binding_is_refused() {
        let mut edits: Vec<Binding> = vec![binding(); 9];
        edits[0].request_id = "req_2".into();
        edits[1].tenant = "ten_2".into();
        edits[2].attempt = 2;
        edits[3].prompt_digest = crate::prompt_digest(&[1, 2, 4]);
        edits[4].prompt_tokens = 601;
        edits[5].fingerprint.model_sha256 = "01".into();
        edits[6].fingerprint.chunk_tokens = 128;
        edits[7].fingerprint.build = "2".into();
        edits[8].epoch = 8;
        for edit in edits {
            let mut handoff = Handoff::new(&binding(), 1000);
            assert_eq!(handoff.begin(&KvBegin { binding: edit.clone() }), Err(HandoffError::WrongBinding));
            let foreign = KvChunk::new(edit.digest(), 0, 256, Bytes::from_static(b"kv"));
            assert_eq!(handoff.accept(&foreign), Err(HandoffError::WrongBinding), "{edit:?}");
        }
    }
}
