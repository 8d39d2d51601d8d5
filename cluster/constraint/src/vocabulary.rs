//! A model's tokens as the bytes they stand for.

use crate::check::Unsupported;
use crate::compile::factory;
use cluster_protocol::{ModelCard, TokenKind, TokenizerCard};
use llguidance::ParserFactory;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use std::collections::HashMap;
use std::sync::Arc;

/// A model's vocabulary, ready for constraints. Built once per model (tenths of a second, tens of MB) and shared.
pub struct Vocabulary {
    pub(crate) factory: ParserFactory,
    pub(crate) tokens: TokEnv,
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary").field("tokens", &self.tokens.tok_trie().vocab_size()).finish_non_exhaustive()
    }
}

/// Why a model's answers can't be constrained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoVocabulary {
    /// How its tokens become text is not known here.
    #[error("how tokens of the kind `{0}` become text is not known")]
    UnknownKind(String),
    /// Without one no answer could end.
    #[error("it has no token that ends an answer")]
    NoEnd,
    /// The library refused it.
    #[error(transparent)]
    Refused(#[from] Unsupported),
}

impl Vocabulary {
    /// # Errors
    /// [`NoVocabulary`]
    pub fn new(card: &ModelCard) -> Result<Vocabulary, NoVocabulary> {
        let tokenizer = &card.tokenizer;
        let words = words(tokenizer)?;
        let ends = &tokenizer.end_of_generation;
        let known = |id: &&u32| (**id as usize) < words.len();
        let end = *ends.iter().find(known).ok_or(NoVocabulary::NoEnd)?;
        let info = TokRxInfo::new(u32::try_from(words.len()).unwrap_or(0), end);
        let ends: Vec<u32> = ends.iter().filter(known).copied().collect();
        let trie = TokTrie::from(&info, &words).with_eos_tokens(&ends);
        let tokens: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        Ok(Vocabulary { factory: factory(&tokens)?, tokens })
    }

    /// Bytes of a token in an answer; a control token has none.
    pub fn bytes(&self, token: u32) -> &[u8] {
        let trie = self.tokens.tok_trie();
        if (token as usize) >= trie.vocab_size() {
            return &[];
        }
        let bytes = trie.token(token);
        if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) && bytes.len() > 1 { &[] } else { bytes }
    }
}

fn words(tokenizer: &TokenizerCard) -> Result<Vec<Vec<u8>>, NoVocabulary> {
    let spell: fn(&HashMap<char, u8>, &str) -> Vec<u8> = match tokenizer.kind.as_str() {
        "gpt2" => |alphabet, text| {
            // A character outside the alphabet stands for itself, as in llama.cpp.
            let byte = |symbol: char| match alphabet.get(&symbol) {
                Some(byte) => vec![*byte],
                None => symbol.to_string().into_bytes(),
            };
            text.chars().flat_map(byte).collect()
        },
        "llama" | "t5" => |_, text| text.replace('\u{2581}', " ").into_bytes(),
        other => return Err(NoVocabulary::UnknownKind(other.to_owned())),
    };
    let alphabet = byte_alphabet();
    let word = |(text, kind): (&String, &TokenKind)| match kind {
        TokenKind::Normal => spell(&alphabet, text),
        TokenKind::UserDefined => text.clone().into_bytes(),
        TokenKind::Byte => byte_token(text).map_or_else(|| spell(&alphabet, text), |byte| vec![byte]),
        TokenKind::Control => [&[TokTrie::SPECIAL_TOKEN_MARKER], text.as_bytes()].concat(),
        TokenKind::Unknown | TokenKind::Unused => Vec::new(), // never allowed
    };
    Ok(tokenizer.tokens.iter().zip(&tokenizer.kinds).map(word).collect())
}

/// `<0x0A>` as SentencePiece spells a byte.
fn byte_token(text: &str) -> Option<u8> {
    u8::from_str_radix(text.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

/// GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the rest moves up from U+0100 in order.
fn byte_alphabet() -> HashMap<char, u8> {
    let itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let moved = (0..=255u8).filter(|byte| !itself(*byte)).zip(0x100u32..);
    let moved = moved.filter_map(|(byte, symbol)| Some((char::from_u32(symbol)?, byte)));
    (0..=255u8).filter(|byte| itself(*byte)).map(|byte| (char::from(byte), byte)).chain(moved).collect()
}
