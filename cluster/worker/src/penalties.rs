//! Edits of logits that a request asks for by number: penalties of tokens that were there before, and bias.

use cluster_protocol::Sampling;
use std::collections::{HashMap, HashSet};

/// What one choice has said, as far as its penalties need to know. Rebuilt from token ids, so nothing of it moves with a
/// hand-off.
#[derive(Debug, Clone)]
pub(crate) struct Penalties {
    /// How often the choice has each token.
    said: HashMap<u32, u32>,
    /// Tokens of prompt and choice; empty without a repetition penalty.
    seen: HashSet<u32>,
}

impl Penalties {
    /// `None` when `sampling` asks for no edit at all: then nothing is kept, and nothing is copied.
    pub(crate) fn new(sampling: &Sampling, prompt: &[u32]) -> Option<Penalties> {
        let repetition = sampling.repetition_penalty != 1.0;
        let counted = sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0;
        if !repetition && !counted && sampling.logit_bias.is_empty() {
            return None;
        }
        let seen = if repetition { prompt.iter().copied().collect() } else { HashSet::new() };
        Some(Penalties { said: HashMap::new(), seen })
    }

    pub(crate) fn accept(&mut self, token: u32, sampling: &Sampling) {
        *self.said.entry(token).or_default() += 1;
        if sampling.repetition_penalty != 1.0 {
            self.seen.insert(token);
        }
    }

    /// Changes as many logits as there are tokens to punish or to bias.
    pub(crate) fn apply(&self, logits: &mut [f32], sampling: &Sampling) {
        for token in &self.seen {
            if let Some(logit) = logits.get_mut(*token as usize) {
                let penalty = sampling.repetition_penalty;
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
        for (token, times) in &self.said {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit -= sampling.presence_penalty + sampling.frequency_penalty * *times as f32;
            }
        }
        for entry in &sampling.logit_bias {
            if let Some(logit) = logits.get_mut(entry.token as usize) {
                *logit += entry.bias;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_protocol::LogitBias;

    fn edited(sampling: &Sampling, prompt: &[u32], said: &[u32]) -> Vec<f32> {
        let mut penalties = Penalties::new(sampling, prompt).unwrap();
        said.iter().for_each(|token| penalties.accept(*token, sampling));
        let mut logits = vec![2.0, -2.0, 1.0, 0.5];
        penalties.apply(&mut logits, sampling);
        logits
    }

    #[test]
    fn presence_counts_once_and_frequency_each_time_and_neither_counts_the_prompt() {
        let sampling = Sampling { presence_penalty: 1.0, frequency_penalty: 0.25, ..Sampling::GREEDY };
        assert_eq!(edited(&sampling, &[3, 3], &[0, 2, 2]), [0.75, -2.0, -0.5, 0.5]);
    }

    #[test]
    fn repetition_pushes_tokens_of_prompt_and_answer_down_whatever_their_sign() {
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::GREEDY };
        assert_eq!(edited(&sampling, &[1, 1], &[0]), [1.0, -4.0, 1.0, 0.5]);
    }

    #[test]
    fn bias_is_added_to_its_token_only() {
        let sampling = Sampling { logit_bias: vec![LogitBias { token: 2, bias: -100.0 }], ..Sampling::GREEDY };
        assert_eq!(edited(&sampling, &[], &[]), [2.0, -2.0, -99.0, 0.5]);
    }

    #[test]
    fn who_asks_for_nothing_gets_none() {
        assert!(Penalties::new(&Sampling { temperature: 1.0, ..Sampling::GREEDY }, &[1]).is_none());
    }
}
