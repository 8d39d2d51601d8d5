//! Which model a worker runs: what must match for a hand-off, and what the gateway needs to tokenise.

use serde::{Deserialize, Serialize};

/// What must be equal on two workers for a KV cache to move between them. llama.cpp checks only a part of this.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// `llama` or `sim`.
    pub engine: String,
    /// Version of the engine's build; the blob's layout has no version of its own.
    pub build: String,
    /// SHA-256 of the model file in hex (sim: of its parameters).
    pub model_sha256: String,
    /// Type of the cached keys and values, for example `f16`.
    pub kv_type: String,
    /// Flash attention stores values untransposed, so both sides must agree.
    pub flash_attention: bool,
    /// One buffer for all sequences.
    pub kv_unified: bool,
    /// Tokens per evaluated piece of a prompt: another size rounds differently.
    pub chunk_tokens: u32,
}

impl Fingerprint {
    /// Hex digest over all fields.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("caprock fingerprint v1");
        let flags = format!("{} {} {}", self.flash_attention, self.kv_unified, self.chunk_tokens);
        for part in [&self.engine, &self.build, &self.model_sha256, &self.kv_type, &flags] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// All that a gateway must know of a model: it never opens the model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// From the file's metadata.
    pub name: String,
    /// From the file's metadata, for example `llama`.
    pub architecture: String,
    /// Longest sequence that the model was trained for, in tokens.
    pub trained_context_tokens: u32,
    /// Its tokenizer.
    pub tokenizer: TokenizerCard,
    /// Jinja source of the chat template, if the file has one.
    pub chat_template: Option<String>,
}

impl ModelCard {
    /// Hex digest of the whole card.
    pub fn digest(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        blake3::hash(&json).to_hex().to_string()
    }
}

/// A tokenizer as the model file has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerCard {
    /// `gpt2` (byte-level BPE), `llama` (SentencePiece), … as GGUF's `tokenizer.ggml.model`.
    pub kind: String,
    /// Pre-tokenizer name, as GGUF's `tokenizer.ggml.pre`.
    pub pre: String,
    /// Text of each token, its index being the id. Byte-level vocabularies keep their byte alphabet.
    pub tokens: Vec<String>,
    /// Kind of each token, same length as `tokens`.
    pub kinds: Vec<TokenKind>,
    /// BPE merges in rank order, "left right".
    pub merges: Vec<String>,
    /// Beginning of sequence.
    pub bos: Option<u32>,
    /// End of sequence.
    pub eos: Option<u32>,
    /// Every id that ends an answer.
    pub end_of_generation: Vec<u32>,
    /// Whether the engine puts `bos` before a prompt.
    pub add_bos: bool,
}

/// As GGUF's `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// Digest of a prompt's token ids in hex: what binds a hand-off to its prompt.
pub fn prompt_digest(tokens: &[u32]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("caprock prompt tokens v1");
    for token in tokens {
        hasher.update(&token.to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
