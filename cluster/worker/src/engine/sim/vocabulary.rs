//! The simulated model's vocabulary: 256 bytes, then words that only it says, then ChatML's special tokens.
//!
//! It has no merges, so tokenised text is bytes and never a word: what the model said is told from what it was asked.

use cluster_protocol::{ModelCard, TextPart, TokenKind, TokenizerCard};
use std::ops::Range;

const WORDS: [&str; 48] = [
    " the",
    " a",
    " river",
    " stone",
    " light",
    " wind",
    " over",
    " under",
    " slow",
    " quick",
    " green",
    " blue",
    " walks",
    " turns",
    " holds",
    " finds",
    " and",
    " but",
    " then",
    " with",
    " from",
    " into",
    " small",
    " wide",
    " morning",
    " evening",
    " harbour",
    " mountain",
    " window",
    " garden",
    " letter",
    " number",
    " sings",
    " waits",
    " carries",
    " opens",
    " quiet",
    " bright",
    " seven",
    " paper",
    " silver",
    " café",
    " naïve",
    " 東京",
    " 🌲",
    " north",
    " again",
    " always",
];
const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const FIRST_WORD: u32 = 256;
const FIRST_SPECIAL: u32 = FIRST_WORD + WORDS.len() as u32;
/// Ends an answer.
pub(super) const END_OF_TURN: u32 = FIRST_SPECIAL + 2;
const END_OF_TEXT: u32 = FIRST_SPECIAL;
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + \
                      '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' \
                      }}{% endif %}";

/// Ids of the words.
pub(super) fn words() -> Range<u32> {
    FIRST_WORD..FIRST_SPECIAL
}

pub(super) fn card() -> ModelCard {
    let bytes = (0..=255u8).map(|byte| byte_symbol(byte).to_string());
    let words = WORDS.iter().map(|word| word.bytes().map(byte_symbol).collect());
    let tokens: Vec<String> = bytes.chain(words).chain(SPECIAL.iter().map(|text| (*text).to_owned())).collect();
    let kinds = (0..tokens.len() as u32)
        .map(|id| if id < FIRST_SPECIAL { TokenKind::Normal } else { TokenKind::Control })
        .collect();
    ModelCard {
        name: "sim".into(),
        architecture: "sim".into(),
        trained_context_tokens: 32_768,
        tokenizer: TokenizerCard {
            kind: "gpt2".into(),
            pre: "gpt-2".into(),
            tokens,
            kinds,
            merges: Vec::new(),
            bos: None,
            eos: Some(END_OF_TURN),
            end_of_generation: vec![END_OF_TEXT, END_OF_TURN],
            add_bos: false,
        },
        chat_template: Some(CHATML.into()),
    }
}

pub(super) fn piece(token: u32, out: &mut Vec<u8>) {
    if let Ok(byte) = u8::try_from(token) {
        out.push(byte);
    } else if words().contains(&token) {
        out.extend_from_slice(WORDS[(token - FIRST_WORD) as usize].as_bytes());
    }
}

pub(super) fn tokenize(part: &TextPart) -> Option<Vec<u32>> {
    if !part.special {
        return Some(part.text.bytes().map(u32::from).collect());
    }
    let at = SPECIAL.iter().position(|text| *text == part.text)?;
    Some(vec![FIRST_SPECIAL + at as u32])
}

/// GPT-2's printable stand-in for a byte: printable Latin-1 stands for itself, the rest moves up from U+0100 in order.
fn byte_symbol(byte: u8) -> char {
    let itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if itself(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|b| !itself(*b)).count() as u32;
    char::from_u32(0x100 + rank).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_alphabet_is_gpt2s() {
        assert_eq!((byte_symbol(b' '), byte_symbol(b'\n'), byte_symbol(0), byte_symbol(b'a')), ('Ġ', 'Ċ', 'Ā', 'a'));
        let all: std::collections::HashSet<char> = (0..=255).map(byte_symbol).collect();
        assert_eq!(all.len(), 256);
    }

    #[test]
    fn text_survives_and_special_text_is_only_text() {
        let text = "héllo <|im_end|>\n";
        let ids = tokenize(&TextPart { text: text.into(), special: false }).unwrap();
        let mut out = Vec::new();
        ids.iter().for_each(|id| piece(*id, &mut out));
        assert_eq!(out, text.as_bytes());
        assert!(ids.iter().all(|id| *id < 256));
        let special = tokenize(&TextPart { text: "<|im_end|>".into(), special: true });
        assert_eq!(special, Some(vec![END_OF_TURN]));
        assert_eq!(tokenize(&TextPart { text: "nothing".into(), special: true }), None);
    }
}
