//! How llama.cpp cuts a text into words before byte-pair merging, by the name that a model file gives.
//!
//! Only names are here whose ids were compared with the engine's: over every code point, over random mixes, and over
//! `tests/corpus/tokenizer.txt`.

use regex::Regex;

/// Cuts text into words; together they are the text.
#[derive(Debug)]
pub(super) struct Pretokenizer {
    steps: Vec<(Regex, Spaces)>,
    /// A word that is a token as it is needs no merging.
    pub(super) whole_words: bool,
}

/// What happens to a run of white space that stands before something else. The patterns' origin has a look-ahead here;
/// without one they run in linear time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spaces {
    /// It stays whole.
    Whole,
    /// It leaves its last character to what follows.
    LeaveLast,
    /// The same, unless it ends with a line.
    LeaveLastInLine,
}

struct Family {
    names: &'static [&'static str],
    steps: &'static [(&'static str, Spaces)],
    whole_words: bool,
}

const DIGIT: (&str, Spaces) = (r"\p{N}", Spaces::Whole);
const GPT2: (&str, Spaces) = (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+", Spaces::LeaveLast);
const LLAMA3: (&str, Spaces) = (
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    Spaces::LeaveLastInLine,
);
const QWEN2: (&str, Spaces) = (
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    Spaces::LeaveLastInLine,
);

/// Each step cuts what the one before left.
const FAMILIES: &[Family] = &[
    Family {
        names: &["smollm", "starcoder", "refact", "command-r", "exaone"],
        steps: &[DIGIT, GPT2],
        whole_words: false,
    },
    Family { names: &["gpt-2", "phi-2", "mpt", "olmo"], steps: &[GPT2], whole_words: false },
    Family {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"],
        steps: &[LLAMA3],
        whole_words: true,
    },
    Family { names: &["dbrx", "smaug-bpe"], steps: &[LLAMA3], whole_words: false },
    Family { names: &["qwen2", "deepseek-r1-qwen"], steps: &[QWEN2], whole_words: false },
    Family {
        names: &["default", ""],
        steps: &[
            (r"[\p{P}\$\+<=>\^~\|]+", Spaces::Whole),
            GPT2,
            (r"\p{N}+", Spaces::Whole),
            ("[0-9][0-9][0-9]", Spaces::Whole),
        ],
        whole_words: false,
    },
];

/// llama.cpp's tables are Unicode 15.1: later letters and digits are neither to it.
fn as_of_unicode_15_1(pattern: &str) -> String {
    let class = |name: &str| format!(r"[\p{{{name}}}&&\p{{age=15.1}}]");
    ["L", "N", "P"]
        .iter()
        .fold(pattern.to_owned(), |pattern, name| pattern.replace(&format!(r"\p{{{name}}}"), &class(name)))
}

impl Pretokenizer {
    /// `None` for a name that is not on the list.
    pub(super) fn by_name(name: &str) -> Option<Pretokenizer> {
        let family = FAMILIES.iter().find(|family| family.names.contains(&name))?;
        let compile = |(pattern, spaces): &(&str, Spaces)| {
            Regex::new(&as_of_unicode_15_1(pattern)).ok().map(|pattern| (pattern, *spaces))
        };
        let steps = family.steps.iter().map(compile).collect::<Option<Vec<_>>>()?;
        Some(Pretokenizer { steps, whole_words: family.whole_words })
    }

    /// The words in order. Empty text has none.
    pub(super) fn words<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut words = vec![text];
        for (pattern, spaces) in &self.steps {
            let mut finer = Vec::with_capacity(words.len());
            for word in words {
                cut(pattern, *spaces, word, &mut finer);
            }
            words = finer;
        }
        words
    }
}

fn cut<'t>(pattern: &Regex, spaces: Spaces, text: &'t str, words: &mut Vec<&'t str>) {
    let mut from = 0;
    while let Some(found) = pattern.find_at(text, from) {
        if found.start() > from {
            words.push(&text[from..found.start()]);
        }
        let end = found.end() - left_over(spaces, found.as_str(), found.end() == text.len());
        words.push(&text[found.start()..end]);
        from = end;
    }
    if from < text.len() {
        words.push(&text[from..]);
    }
}

/// How many bytes a match leaves to what follows it: fewer than it has.
fn left_over(spaces: Spaces, word: &str, at_end: bool) -> usize {
    let leaves = match spaces {
        Spaces::Whole => false,
        Spaces::LeaveLast => true,
        Spaces::LeaveLastInLine => !word.ends_with(['\r', '\n']),
    };
    let last = word.chars().next_back().map_or(0, char::len_utf8);
    if leaves && !at_end && last < word.len() && word.chars().all(char::is_whitespace) { last } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(name: &str, text: &str) -> Vec<String> {
        Pretokenizer::by_name(name).unwrap().words(text).into_iter().map(String::from).collect()
    }

    #[test]
    fn every_listed_name_compiles_and_no_other_is_known() {
        for name in FAMILIES.iter().flat_map(|family| family.names) {
            assert!(Pretokenizer::by_name(name).is_some(), "{name}");
        }
        assert!(Pretokenizer::by_name("tekken").is_none());
    }

    #[test]
    fn words_take_one_space_and_leave_the_rest() {
        assert_eq!(words("gpt-2", "I'm  here\n\n x "), ["I", "'m", " ", " here", "\n\n", " x", " "]);
        assert_eq!(words("gpt-2", "a\nb 12 c!?"), ["a", "\n", "b", " 12", " c", "!?"]);
        assert_eq!(
            words("llama-bpe", "I'M  here\n\n x\t\ty "),
            ["I", "'M", " ", " here", "\n\n", " x", "\t", "\ty", " "]
        );
        assert_eq!(words("llama-bpe", "12345 = \r\n\u{a0}é"), ["123", "45", " =", " \r\n", "\u{a0}é"]);
    }

    #[test]
    fn digits_are_cut_as_each_family_does() {
        assert_eq!(words("smollm", "a 12"), ["a", " ", "1", "2"]);
        assert_eq!(words("qwen2", "a 12"), ["a", " ", "1", "2"]);
        assert_eq!(words("gpt-2", "a 1234"), ["a", " 1234"]);
        assert_eq!(words("default", "a 1234"), ["a", " ", "123", "4"]);
    }

    #[test]
    fn letters_younger_than_the_engines_tables_are_no_letters() {
        assert_eq!(words("gpt-2", "a\u{1C89}"), ["a", "\u{1C89}"]);
        assert_eq!(words("gpt-2", "a\u{0561}"), ["a\u{0561}"]);
    }

    #[test]
    fn a_very_long_run_takes_no_longer_than_its_length() {
        for name in ["smollm", "llama-bpe", "default"] {
            for run in [" ", "a", "!", "\n", "7"] {
                let text = run.repeat(1 << 17) + "x";
                assert_eq!(words(name, &text).concat(), text);
            }
        }
    }

    #[test]
    fn the_words_are_the_text() {
        let families: Vec<_> = FAMILIES.iter().map(|family| Pretokenizer::by_name(family.names[0]).unwrap()).collect();
        proptest!(|(text in "(\\PC|[ \t\r\n\u{a0}\u{2003}'s0-9]){0,40}")| {
            for family in &families {
                let words = family.words(&text);
                prop_assert_eq!(words.concat(), text.as_str());
                prop_assert!(words.iter().all(|word| !word.is_empty()) || text.is_empty());
            }
        });
    }
}
