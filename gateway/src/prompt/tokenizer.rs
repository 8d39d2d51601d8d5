//! Byte-level BPE over the vocabulary of a model card, with the same ids as the engine.
//!
//! A vocabulary that is not certain to give them is refused here, and a worker tokenises.

use super::pretokenizer::Pretokenizer;
use cluster_protocol::{ModelCard, TextPart, TokenKind, TokenizerCard};
use std::collections::{HashMap, HashSet};
use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, Vocab};

/// Most user-defined tokens that are searched for in a text one by one.
const MAX_USER_DEFINED: usize = 1024;

#[derive(Debug)]
pub(super) struct Tokenizer {
    pretokenizer: Pretokenizer,
    bpe: BPE,
    /// GPT-2's printable character for each byte; `None` where the vocabulary lacks it and the engine drops the byte.
    symbols: Vec<Option<char>>,
    /// Control and user-defined tokens by their text.
    special: HashMap<String, u32>,
    /// Found in plain text before anything else, in this order.
    user_defined: Vec<(String, u32)>,
    /// Most bytes of text that one token stands for.
    longest_bytes: usize,
}

impl Tokenizer {
    /// `None` for a vocabulary that was not tested.
    pub(super) fn from_card(card: &ModelCard) -> Option<Tokenizer> {
        let tokenizer = &card.tokenizer;
        if tokenizer.kind != "gpt2" || strips_spaces_around_tokens(&card.name) {
            return None;
        }
        if tokenizer.tokens.len() != tokenizer.kinds.len() {
            return None;
        }
        let pretokenizer = Pretokenizer::by_name(&tokenizer.pre)?;
        let ids: HashMap<&str, u32> = tokenizer.tokens.iter().map(String::as_str).zip(0..).collect();
        if ids.len() != tokenizer.tokens.len() {
            return None;
        }
        let symbols: Vec<Option<char>> = (0..=255)
            .map(byte_symbol)
            .map(|symbol| ids.contains_key(symbol.to_string().as_str()).then_some(symbol))
            .collect();
        // A whole word with a byte that is no token would need a rule of its own.
        if pretokenizer.whole_words && symbols.contains(&None) {
            return None;
        }
        Some(Tokenizer {
            bpe: bpe(tokenizer, &ids, pretokenizer.whole_words)?,
            pretokenizer,
            symbols,
            longest_bytes: longest_bytes(tokenizer),
            special: by_kind(tokenizer, |kind| match kind {
                TokenKind::Control | TokenKind::UserDefined => true,
                TokenKind::Normal | TokenKind::Unknown | TokenKind::Unused | TokenKind::Byte => false,
            })
            .collect(),
            user_defined: in_order(by_kind(tokenizer, |kind| kind == TokenKind::UserDefined).collect())?,
        })
    }

    /// `None` when a special part is no token of this vocabulary.
    pub(super) fn encode(&self, parts: &[TextPart]) -> Option<Vec<u32>> {
        let mut ids = Vec::new();
        for part in parts {
            if part.special {
                ids.push(*self.special.get(&part.text)?);
            } else {
                self.encode_plain(&part.text, &self.user_defined, &mut ids)?;
            }
        }
        Some(ids)
    }

    /// The tokens that `texts` have at least together, without tokenising them.
    pub(super) fn least_tokens<'t>(&self, texts: impl Iterator<Item = &'t str>) -> usize {
        // What the engine drops needs no token.
        let kept = |byte: &u8| self.symbols[usize::from(*byte)].is_some();
        texts.map(|text| text.bytes().filter(kept).count()).sum::<usize>().div_ceil(self.longest_bytes)
    }

    /// The engine looks for one user-defined token after the other in what is left of the text.
    fn encode_plain(&self, text: &str, tokens: &[(String, u32)], ids: &mut Vec<u32>) -> Option<()> {
        let Some(((token, id), later)) = tokens.split_first() else {
            return self.encode_words(text, ids);
        };
        let mut pieces = text.split(token.as_str());
        self.encode_plain(pieces.next()?, later, ids)?;
        for piece in pieces {
            ids.push(*id);
            self.encode_plain(piece, later, ids)?;
        }
        Some(())
    }

    fn encode_words(&self, text: &str, ids: &mut Vec<u32>) -> Option<()> {
        let mut symbols = String::new();
        for word in self.pretokenizer.words(text) {
            symbols.clear();
            for byte in word.bytes() {
                match self.symbols[usize::from(byte)] {
                    Some(symbol) => symbols.push(symbol),
                    // The engine drops it, and merges nothing across it.
                    None => self.merge(&mut symbols, ids)?,
                }
            }
            self.merge(&mut symbols, ids)?;
        }
        Some(())
    }

    fn merge(&self, symbols: &mut String, ids: &mut Vec<u32>) -> Option<()> {
        ids.extend(self.bpe.tokenize(symbols).ok()?.into_iter().map(|token| token.id));
        symbols.clear();
        Some(())
    }
}

/// Of ordinary tokens each character is a byte; others are text.
fn longest_bytes(tokenizer: &TokenizerCard) -> usize {
    let bytes = |(text, kind): (&String, &TokenKind)| match kind {
        TokenKind::Normal | TokenKind::Byte => text.chars().count(),
        TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown | TokenKind::Unused => text.len(),
    };
    tokenizer.tokens.iter().zip(&tokenizer.kinds).map(bytes).max().unwrap_or(1).max(1)
}

/// llama.cpp lets some tokens of these families swallow the spaces beside them.
fn strips_spaces_around_tokens(model_name: &str) -> bool {
    let name = model_name.to_ascii_lowercase();
    ["phi-3", "phi3", "modern-bert"].iter().any(|family| name.contains(family))
}

fn by_kind(tokenizer: &TokenizerCard, wanted: impl Fn(TokenKind) -> bool) -> impl Iterator<Item = (String, u32)> {
    let tokens = tokenizer.tokens.iter().zip(&tokenizer.kinds).zip(0..);
    tokens.filter(move |((text, kind), _)| wanted(**kind) && !text.is_empty()).map(|((text, _), id)| (text.clone(), id))
}

/// Longest first. `None` where the order of two tokens of one length could matter, since the engine leaves it open.
fn in_order(mut tokens: Vec<(String, u32)>) -> Option<Vec<(String, u32)>> {
    if tokens.len() > MAX_USER_DEFINED {
        return None;
    }
    tokens.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    let overlap = |a: &str, b: &str| (1..a.len()).any(|at| a.is_char_boundary(at) && b.starts_with(&a[at..]));
    let ambiguous = |(at, (a, _)): (usize, &(String, u32))| {
        let same_length = tokens[at + 1..].iter().take_while(|(b, _)| b.len() == a.len());
        same_length.into_iter().any(|(b, _)| overlap(a, b) || overlap(b, a))
    };
    if tokens.iter().enumerate().any(ambiguous) { None } else { Some(tokens) }
}

fn bpe(tokenizer: &TokenizerCard, ids: &HashMap<&str, u32>, whole_words: bool) -> Option<BPE> {
    let mut seen = HashSet::new();
    let mut merges = Vec::with_capacity(tokenizer.merges.len());
    for merge in &tokenizer.merges {
        let (left, right) = merge.split_once(' ')?;
        // The engine tolerates a merge into nothing; the library does not.
        let known = |text: &str| ids.contains_key(text);
        if !(known(left) && known(right) && known(&format!("{left}{right}"))) {
            return None;
        }
        // Of two equal merges the engine takes the first.
        if seen.insert(merge) {
            merges.push((left.to_owned(), right.to_owned()));
        }
    }
    let vocabulary: Vocab = ids.iter().map(|(text, id)| ((*text).to_owned(), *id)).collect();
    let builder = BPE::builder().vocab_and_merges(vocabulary, merges);
    // A cache would keep callers' words beyond their request, and its hits could be timed from another tenant.
    builder.cache_capacity(0).ignore_merges(whole_words).build().ok()
}

/// Printable Latin-1 stands for itself, the other bytes for U+0100 and up, in order.
pub(super) fn byte_symbol(byte: u8) -> char {
    let itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if itself(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|other| !itself(*other)).count() as u32;
    char::from_u32(0x100 + rank).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::tests::card;

    fn plain(text: &str) -> TextPart {
        TextPart { text: text.into(), special: false }
    }

    fn texts(card: &ModelCard, parts: &[TextPart]) -> Option<Vec<String>> {
        let ids = Tokenizer::from_card(card)?.encode(parts)?;
        Some(ids.into_iter().map(|id| card.tokenizer.tokens[id as usize].clone()).collect())
    }

    fn with_tokens(tokens: &[(&str, TokenKind)]) -> ModelCard {
        let mut card = card();
        for (text, kind) in tokens {
            card.tokenizer.tokens.push((*text).into());
            card.tokenizer.kinds.push(*kind);
        }
        card
    }

    #[test]
    fn merges_go_by_rank_within_words() {
        assert_eq!(texts(&card(), &[plain("hello he llo\u{e9}")]).unwrap(), ["hello", "Ġhe", "Ġ", "llo", "Ã", "©"]);
        assert_eq!(texts(&card(), &[plain("")]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn only_special_parts_become_special_tokens() {
        let special = TextPart { text: "<|im_end|>".into(), special: true };
        assert_eq!(texts(&card(), &[special]).unwrap(), ["<|im_end|>"]);
        assert!(!texts(&card(), &[plain("<|im_end|>")]).unwrap().contains(&"<|im_end|>".to_owned()));
        let unknown = TextPart { text: "<|nothing|>".into(), special: true };
        assert_eq!(texts(&card(), &[unknown]), None);
    }

    #[test]
    fn user_defined_tokens_are_found_longest_first_as_the_engine_does() {
        let kind = TokenKind::UserDefined;
        let card = with_tokens(&[("\t\t", kind), ("\t\t\t", kind), ("<x>", kind)]);
        let ids = texts(&card, &[plain("he\t\t\t\t\t<x>he\t")]).unwrap();
        assert_eq!(ids, ["he", "\t\t\t", "\t\t", "<x>", "he", "ĉ"]);
        let ambiguous = with_tokens(&[("ab", kind), ("bc", kind)]);
        assert_eq!(texts(&ambiguous, &[plain("abc")]), None);
    }

    #[test]
    fn a_byte_without_a_token_is_dropped_and_nothing_merges_across_it() {
        let mut card = card();
        let at = card.tokenizer.tokens.iter().position(|text| *text == byte_symbol(4).to_string()).unwrap();
        card.tokenizer.tokens[at] = "unreachable".into();
        assert_eq!(texts(&card, &[plain("hel\u{4}lo")]).unwrap(), ["he", "l", "l", "o"]);
        card.tokenizer.pre = "llama-bpe".into();
        assert_eq!(texts(&card, &[plain("x")]), None);
    }

    #[test]
    fn a_whole_word_needs_no_merges_where_the_family_says_so() {
        let mut card = with_tokens(&[("xyz", TokenKind::Normal)]);
        assert_eq!(texts(&card, &[plain("xyz")]).unwrap(), ["x", "y", "z"]);
        card.tokenizer.pre = "llama-bpe".into();
        assert_eq!(texts(&card, &[plain("xyz")]).unwrap(), ["xyz"]);
    }

    #[test]
    fn what_was_not_tested_is_left_to_a_worker() {
        let refused = |change: fn(&mut ModelCard)| {
            let mut card = card();
            change(&mut card);
            Tokenizer::from_card(&card).is_none()
        };
        assert!(!refused(|_| ()));
        assert!(refused(|card| card.tokenizer.kind = "llama".into()));
        assert!(refused(|card| card.tokenizer.pre = "tekken".into()));
        assert!(refused(|card| card.name = "Phi-3 mini".into()));
        assert!(refused(|card| card.tokenizer.merges.push("he nothing".into())));
        assert!(refused(|card| card.tokenizer.merges.push("<|endoftext|> <|im_start|>".into())));
        assert!(refused(|card| card.tokenizer.tokens[0] = "hello".into()));
        assert!(refused(|card| card.tokenizer.kinds.truncate(9)));
    }
}
