//! Keeps callers' text from becoming special tokens.
//!
//! A mark, a Unicode non-character that the conversation does not use, is put inside everything in a caller's text that
//! could read as a special token, alone or together with what the template writes beside it. After rendering, special
//! tokens are what still matches, and the marks are taken out of the rest, so every text comes through unchanged.
//!
//! Special are *control* tokens, and those *user-defined* ones that the template itself writes (`<tool_call>`). Other
//! user-defined tokens (runs of spaces, HTML tags) are mere vocabulary, and stay text. An engine finds user-defined
//! tokens in plain text too, so such text is handed over in two pieces. An assistant's turn may hold user-defined
//! markup: it is what the model said, and templates look for it there.
//!
//! Texts inside JSON (schemas, arguments) are marked one by one before a template writes them: what JSON escapes is a
//! backslash and a quote, which no special token has.

use crate::error::{Error, Result};
use crate::inference::Role;
use aho_corasick::{AhoCorasick, MatchKind};
use cluster_protocol::{TextPart, TokenKind, TokenizerCard};
use std::collections::HashSet;

const MARKS: std::ops::RangeInclusive<char> = '\u{FDD0}'..='\u{FDEF}';

#[derive(Debug)]
pub(super) struct Guard {
    /// Finds every special token at every place, overlapping ones too.
    everywhere: AhoCorasick,
    /// The same of control tokens only.
    control_everywhere: AhoCorasick,
    /// The same of user-defined ones only.
    markup_everywhere: AhoCorasick,
    /// Finds special tokens from left to right, the longest first.
    in_output: AhoCorasick,
    specials: Vec<String>,
    proper_prefixes: HashSet<String>,
    proper_suffixes: HashSet<String>,
    longest_bytes: usize,
    /// Marks that neither the template nor a special token uses.
    marks: Vec<char>,
}

impl Guard {
    pub(super) fn new(tokenizer: &TokenizerCard, template: &str) -> Result<Guard> {
        let of_kind = |wanted: TokenKind| {
            let tokens = tokenizer.tokens.iter().zip(&tokenizer.kinds);
            tokens.filter(move |(text, kind)| **kind == wanted && !text.is_empty()).map(|(text, _)| text.clone())
        };
        let control: Vec<String> = of_kind(TokenKind::Control).collect();
        let markup: Vec<String> = of_kind(TokenKind::UserDefined).filter(|text| is_markup(text, template)).collect();
        let specials: Vec<String> = control.iter().chain(&markup).cloned().collect();

        let build =
            |kind, texts: &[String]| AhoCorasick::builder().match_kind(kind).build(texts).map_err(Error::internal);
        let inner = |text: &str| text.char_indices().skip(1).map(|(at, _)| at).collect::<Vec<_>>();
        let cuts = || specials.iter().flat_map(|text| inner(text).into_iter().map(move |at| text.split_at(at)));
        Ok(Guard {
            everywhere: build(MatchKind::Standard, &specials)?,
            control_everywhere: build(MatchKind::Standard, &control)?,
            markup_everywhere: build(MatchKind::Standard, &markup)?,
            in_output: build(MatchKind::LeftmostLongest, &specials)?,
            proper_prefixes: cuts().map(|(prefix, _)| prefix.to_owned()).collect(),
            proper_suffixes: cuts().map(|(_, suffix)| suffix.to_owned()).collect(),
            longest_bytes: specials.iter().map(String::len).max().unwrap_or(0),
            marks: MARKS
                .filter(|mark| !template.contains(*mark) && !specials.iter().any(|s| s.contains(*mark)))
                .collect(),
            specials,
        })
    }

    /// A mark that none of the texts uses.
    pub(super) fn free_mark(&self, texts: &[&str]) -> Option<char> {
        let used = |mark: char| {
            let escaped = escaped(mark);
            texts.iter().any(|text| text.contains(mark) || text.contains(&escaped))
        };
        self.marks.iter().copied().find(|mark| !used(*mark))
    }

    /// `text` with marks, so that no special token is left in it or at its edges.
    pub(super) fn mark(&self, role: Role, text: &str, mark: char) -> String {
        let inside = match role {
            Role::System | Role::User | Role::Tool => &self.everywhere,
            Role::Assistant => &self.control_everywhere,
        };
        let mut at = after_first_chars(inside, text);
        at.extend(self.edges(text, 0));
        // Templates often trim.
        at.extend(self.edges(text.trim(), text.len() - text.trim_start().len()));
        insert(text, mark, at)
    }

    /// Where `text`, which begins at `offset`, could complete a special token together with its neighbours.
    fn edges(&self, text: &str, offset: usize) -> impl Iterator<Item = usize> {
        let near = |at: &usize| *at <= self.longest_bytes && text.is_char_boundary(*at);
        let head = (1..=text.len().min(self.longest_bytes))
            .filter(near)
            .any(|end| self.proper_suffixes.contains(&text[..end]));
        let tail = (text.len().saturating_sub(self.longest_bytes)..text.len())
            .filter(|start| text.is_char_boundary(*start))
            .any(|start| self.proper_prefixes.contains(&text[start..]));
        let whole = !text.is_empty()
            && text.len() < self.longest_bytes
            && self.specials.iter().any(|special| special.contains(text));
        let begin = (head || whole).then_some(offset);
        begin.into_iter().chain(tail.then_some(offset + text.len()))
    }

    /// Cuts a rendered prompt at its special tokens and takes the marks out.
    pub(super) fn split(&self, rendered: &str, mark: char) -> Vec<TextPart> {
        let mut parts = Vec::new();
        let mut from = 0;
        for found in self.in_output.find_iter(rendered) {
            self.push_plain(&mut parts, &rendered[from..found.start()], mark);
            parts.push(TextPart { text: rendered[found.range()].to_owned(), special: true });
            from = found.end();
        }
        self.push_plain(&mut parts, &rendered[from..], mark);
        parts
    }

    fn push_plain(&self, parts: &mut Vec<TextPart>, marked: &str, mark: char) {
        let text = marked.replace(mark, "").replace(&escaped(mark), "");
        let mut from = 0;
        for at in after_first_chars(&self.markup_everywhere, &text).into_iter().chain([text.len()]) {
            if at > from {
                parts.push(TextPart { text: text[from..at].to_owned(), special: false });
                from = at;
            }
        }
    }
}

/// As a template writes it that prints a list or a map without `tojson`.
fn escaped(mark: char) -> String {
    mark.escape_unicode().to_string()
}

/// Whether the template writes this token; spaces and words that merely occur in it are no markup.
fn is_markup(token: &str, template: &str) -> bool {
    let bracketed = |open: char, close: char| token.starts_with(open) && token.ends_with(close);
    let shaped = bracketed('<', '>') || bracketed('[', ']') || bracketed('{', '}');
    token.chars().count() > 2 && shaped && template.contains(token)
}

/// In order: the place after the first character of each match.
fn after_first_chars(matcher: &AhoCorasick, text: &str) -> Vec<usize> {
    let first_char_bytes = |at: usize| text[at..].chars().next().map_or(0, char::len_utf8);
    let mut places: Vec<usize> =
        matcher.find_overlapping_iter(text).map(|found| found.start() + first_char_bytes(found.start())).collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn insert(text: &str, mark: char, mut at: Vec<usize>) -> String {
    at.sort_unstable();
    at.dedup();
    let mut marked = String::with_capacity(text.len() + at.len() * mark.len_utf8());
    let mut from = 0;
    for place in at {
        marked.push_str(&text[from..place]);
        marked.push(mark);
        from = place;
    }
    marked.push_str(&text[from..]);
    marked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn guard() -> Guard {
        let tokens = ["<|im_start|>", "<|im_end|>", "<|im_end|>|>", "x", "  ", "<tool>", "<b>", "aXa"];
        let kinds = [
            TokenKind::Control,
            TokenKind::Control,
            TokenKind::Control,
            TokenKind::Normal,
            TokenKind::UserDefined,
            TokenKind::UserDefined,
            TokenKind::UserDefined,
            TokenKind::Control,
        ];
        let card = TokenizerCard {
            kind: "gpt2".into(),
            pre: "gpt-2".into(),
            tokens: tokens.map(String::from).to_vec(),
            kinds: kinds.to_vec(),
            merges: vec![],
            bos: None,
            eos: None,
            end_of_generation: vec![],
            add_bos: false,
        };
        Guard::new(&card, "{{ '<tool>' }}  ").unwrap()
    }

    fn through(before: &str, role: Role, text: &str, after: &str) -> Vec<TextPart> {
        let guard = guard();
        let mark = guard.free_mark(&[text]).unwrap();
        guard.split(&format!("{before}{}{after}", guard.mark(role, text, mark)), mark)
    }

    fn plain(parts: &[TextPart]) -> String {
        parts.iter().filter(|part| !part.special).map(|part| part.text.as_str()).collect()
    }

    fn specials(parts: &[TextPart]) -> Vec<&str> {
        parts.iter().filter(|part| part.special).map(|part| part.text.as_str()).collect()
    }

    #[test]
    fn what_the_template_writes_is_special_and_what_a_caller_writes_is_text() {
        let parts = through("<|im_start|>user\n", Role::User, "hi <|im_end|> there", "<|im_end|>\n");
        assert_eq!(specials(&parts), ["<|im_start|>", "<|im_end|>"]);
        assert_eq!(plain(&parts), "user\nhi <|im_end|> there\n");
    }

    #[test]
    fn the_longest_special_token_wins() {
        assert_eq!(specials(&through("<|im_end|>|>", Role::User, "", "")), ["<|im_end|>|>"]);
    }

    #[test]
    fn a_special_token_is_not_made_of_two_texts() {
        for (before, text, after) in [
            ("", "<|im_end", "|>"),
            ("", "<", "|im_end|>"),
            ("<|im_", "end|>", ""),
            ("<|im_", "end", "|>"),
            ("<|im_end|", ">", ""),
            ("", "a", "Xa"),
            ("", "aXaX", "a"),
        ] {
            let parts = through(before, Role::User, text, after);
            assert_eq!(specials(&parts), Vec::<&str>::new(), "{before}·{text}·{after}");
            assert_eq!(plain(&parts), format!("{before}{text}{after}"));
        }
    }

    #[test]
    fn trimming_does_not_open_an_edge() {
        let guard = guard();
        let mark = guard.free_mark(&[]).unwrap();
        for text in [" <|im_end \n", "\t<|im_"] {
            let rendered = format!("{}|>end|>", guard.mark(Role::User, text, mark).trim());
            assert!(specials(&guard.split(&rendered, mark)).is_empty(), "{text}");
        }
    }

    #[test]
    fn markup_that_the_template_writes_is_cut_where_the_engine_would_match_it() {
        let parts = through("<tool>", Role::User, "a<tool>b <b>", "");
        assert_eq!(specials(&parts), ["<tool>"]);
        assert!(parts.iter().filter(|part| !part.special).all(|part| !part.text.contains("<tool>")));
        assert_eq!(plain(&parts), "a<tool>b <b>");
        assert!(parts.iter().any(|part| part.text.contains("<b>")), "vocabulary stays whole");
        assert_eq!(specials(&through("", Role::Assistant, "<tool><|im_end|>", "")), ["<tool>"]);
    }

    #[test]
    fn a_text_may_use_all_marks_but_one() {
        let all: String = MARKS.collect();
        let guard = guard();
        assert_eq!(guard.free_mark(&[&all]), None);
        let mark = guard.free_mark(&[&all.replace('\u{FDE0}', "")]).unwrap();
        assert_eq!(mark, '\u{FDE0}');
        let text = format!("{}<|im_end|>", all.replace(mark, ""));
        assert_eq!(plain(&guard.split(&guard.mark(Role::User, &text, mark), mark)), text);
    }

    proptest! {
        #[test]
        fn no_text_becomes_special_and_every_text_comes_through(
            text in "(<|\\|im_|start|end|\\||>|<\\|im_end\\|>|aX|a|<tool>| |\n|é|😀|\u{FDD0}){0,12}",
            next in "(<|\\|im_|start|end|\\||>|<\\|im_end\\|>|aX|a|<tool>| |\n|é|😀|\u{FDD0}){0,12}",
        ) {
            let guard = guard();
            let mark = guard.free_mark(&[&text, &next]).unwrap();
            let [first, second] = [&text, &next].map(|text| guard.mark(Role::User, text, mark));
            let parts = guard.split(&format!("<|im_start|>{first}{second}<|im_end|>"), mark);
            prop_assert_eq!(specials(&parts), ["<|im_start|>", "<|im_end|>"]);
            prop_assert_eq!(plain(&parts), format!("{text}{next}"));
            prop_assert!(parts.iter().all(|part| part.special || !part.text.contains("<tool>")));
        }
    }
}
