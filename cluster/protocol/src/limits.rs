//! What a worker takes of a caller's input at most. The gateway refuses more as the caller's error, before it asks.

use crate::generate::TextPart;

/// Most stop texts of a request: what Bedrock's model of its API allows, the widest of the dialects.
pub const MAX_STOPS: usize = 2500;
/// Most bytes of all stop texts of a request together.
pub const MAX_STOPS_BYTES: usize = 64 << 10;
/// Most parts of a text to tokenise.
pub const MAX_TEXT_PARTS: usize = 16_384;
/// Most bytes of all its parts. Tokenising takes turns with decode steps, so it is bounded; this is some 250,000 tokens.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// Most bytes of one part. Some pre-tokenizers of llama.cpp recurse once per character of a run, and overflow a stack of
/// 8 MiB at less than 400,000; a worker's engine thread has room for this many.
pub const MAX_PART_BYTES: usize = 256 << 10;

/// Whether a worker takes these stop texts.
pub fn takes_stops(stops: &[String]) -> bool {
    let bytes: usize = stops.iter().map(String::len).sum();
    stops.len() <= MAX_STOPS && bytes <= MAX_STOPS_BYTES && stops.iter().all(|stop| !stop.is_empty())
}

/// Whether a worker tokenises this text.
pub fn takes_text(parts: &[TextPart]) -> bool {
    let lengths = || parts.iter().map(|part| part.text.len());
    parts.len() <= MAX_TEXT_PARTS
        && lengths().sum::<usize>() <= MAX_TEXT_BYTES
        && lengths().all(|bytes| bytes <= MAX_PART_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_texts_are_bounded_in_number_and_together_and_none_is_empty() {
        let of = |bytes: usize, count: usize| vec!["x".repeat(bytes); count];
        for taken in [of(1, 0), of(26, MAX_STOPS), of(MAX_STOPS_BYTES, 1)] {
            assert!(takes_stops(&taken));
        }
        for refused in [of(0, 1), of(1, MAX_STOPS + 1), of(MAX_STOPS_BYTES + 1, 1), of(27, MAX_STOPS)] {
            assert!(!takes_stops(&refused));
        }
    }

    #[test]
    fn texts_are_bounded_by_part_in_number_and_together() {
        let of = |bytes: usize, count: usize| vec![TextPart { text: "x".repeat(bytes), special: false }; count];
        for taken in [of(0, 0), of(1, MAX_TEXT_PARTS), of(MAX_PART_BYTES, 4)] {
            assert!(takes_text(&taken));
        }
        for refused in [of(1, MAX_TEXT_PARTS + 1), of(MAX_PART_BYTES + 1, 1), of(MAX_PART_BYTES, 5)] {
            assert!(!takes_text(&refused));
        }
    }
}
