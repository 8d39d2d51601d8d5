//! What a worker takes of a caller's input at most. The gateway refuses more as the caller's error, before it asks.

use crate::constraint::Trigger;
use crate::generate::{Sampling, TextPart};

/// Most stop texts of a request: what Bedrock's model of its API allows, the widest of the dialects.
pub const MAX_STOPS: usize = 2500;
/// Most bytes of all stop texts of a request together.
pub const MAX_STOPS_BYTES: usize = 64 << 10;
/// Most choices of a request.
pub const MAX_CHOICES: u32 = 8;
/// Most alternatives told for each token: what OpenAI's API allows.
pub const MAX_TOP_LOGPROBS: u32 = 20;
/// Most biased tokens of a request.
pub const MAX_LOGIT_BIAS: usize = 1024;
/// Most bytes of a constraint's grammar.
pub const MAX_GRAMMAR_BYTES: usize = 64 << 10;
/// Most texts, and most tokens, that trigger a constraint.
pub const MAX_TRIGGERS: usize = 16;
/// Most bytes of each of the texts.
pub const MAX_TRIGGER_BYTES: usize = 256;
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

/// Whether a worker takes this trigger.
pub fn takes_trigger(trigger: &Trigger) -> bool {
    let (texts, tokens) = (&trigger.texts, &trigger.tokens);
    texts.len() <= MAX_TRIGGERS
        && tokens.len() <= MAX_TRIGGERS
        && !(texts.is_empty() && tokens.is_empty())
        && texts.iter().all(|text| (1..=MAX_TRIGGER_BYTES).contains(&text.len()))
}

/// What of these parameters is out of range, by its name in [`Sampling`]. Ids are not looked at: a worker knows its
/// vocabulary.
pub fn out_of_range(sampling: &Sampling) -> Option<&'static str> {
    let penalty = |value: f32| (-2.0..=2.0).contains(&value);
    let bias = &sampling.logit_bias;
    let distinct =
        || bias.iter().map(|entry| entry.token).collect::<std::collections::HashSet<_>>().len() == bias.len();
    let rules = [
        ("temperature", sampling.temperature.is_finite() && sampling.temperature >= 0.0),
        ("top_p", sampling.top_p > 0.0 && sampling.top_p <= 1.0),
        ("min_p", (0.0..=1.0).contains(&sampling.min_p)),
        ("presence_penalty", penalty(sampling.presence_penalty)),
        ("frequency_penalty", penalty(sampling.frequency_penalty)),
        ("repetition_penalty", sampling.repetition_penalty > 0.0 && sampling.repetition_penalty <= 10.0),
        ("logit_bias", bias.len() <= MAX_LOGIT_BIAS && distinct()),
        ("logit_bias", bias.iter().all(|entry| (-100.0..=100.0).contains(&entry.bias))),
    ];
    rules.into_iter().find(|(_, holds)| !holds).map(|(name, _)| name)
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
    fn what_is_out_of_range_is_named() {
        use crate::generate::LogitBias;
        assert_eq!(out_of_range(&Sampling::GREEDY), None);
        let bias = |token, bias| LogitBias { token, bias };
        let wrong: [(&str, Sampling); 9] = [
            ("temperature", Sampling { temperature: f32::NAN, ..Sampling::GREEDY }),
            ("top_p", Sampling { top_p: 0.0, ..Sampling::GREEDY }),
            ("min_p", Sampling { min_p: 1.1, ..Sampling::GREEDY }),
            ("presence_penalty", Sampling { presence_penalty: -2.1, ..Sampling::GREEDY }),
            ("frequency_penalty", Sampling { frequency_penalty: f32::INFINITY, ..Sampling::GREEDY }),
            ("repetition_penalty", Sampling { repetition_penalty: 0.0, ..Sampling::GREEDY }),
            ("logit_bias", Sampling { logit_bias: vec![bias(1, 100.5)], ..Sampling::GREEDY }),
            ("logit_bias", Sampling { logit_bias: vec![bias(1, 1.0), bias(1, 2.0)], ..Sampling::GREEDY }),
            ("logit_bias", Sampling { logit_bias: (0..1025).map(|at| bias(at, 1.0)).collect(), ..Sampling::GREEDY }),
        ];
        for (name, sampling) in wrong {
            assert_eq!(out_of_range(&sampling), Some(name));
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
