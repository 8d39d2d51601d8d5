//! Chooses a token from logits. Stateless: randomness is addressed by (seed, output index), so nothing but the two moves
//! with a hand-off, and a token drawn by prefill is the one decode would have drawn.

use crate::engine::EngineError;
use cluster_protocol::Sampling;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::cmp::Ordering;

/// Scratch space, reused between tokens of all sequences.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    candidates: Vec<(u32, f32)>,
    weights: Vec<f64>,
    /// For logits that are edited before a token is chosen; empty until a request asks for that.
    edited: Vec<f32>,
}

impl Sampler {
    /// The token at output index `index` (0 is the first) of a choice with `seed`.
    ///
    /// # Errors
    /// [`EngineError::BadLogits`] when any logit is NaN, or none is finite: the KV cache is damaged.
    pub(crate) fn sample(
        &mut self,
        logits: &[f32],
        sampling: &Sampling,
        seed: u64,
        index: u32,
    ) -> Result<u32, EngineError> {
        let best = most_likely(logits)?;
        if is_greedy(sampling) {
            return Ok(best);
        }
        self.candidates.clear();
        self.candidates.extend((0..).zip(logits.iter().copied()).filter(|(_, logit)| logit.is_finite()));
        self.keep_top_k(sampling.top_k as usize);
        // A fixed order, so that the same draw chooses the same token whatever selection did before.
        self.candidates.sort_unstable_by(more_likely_first);

        let peak = f64::from(logits[best as usize]);
        let temperature = f64::from(sampling.temperature);
        self.weights.clear();
        self.weights.extend(self.candidates.iter().map(|(_, logit)| ((f64::from(*logit) - peak) / temperature).exp()));
        let total: f64 = self.weights.iter().sum();
        let kept = self.nucleus(total * f64::from(sampling.top_p)).min(self.likely_enough(sampling.min_p));

        let mass: f64 = self.weights[..kept].iter().sum();
        let mut left = uniform(seed, index) * mass;
        for (weight, (token, _)) in self.weights[..kept].iter().zip(&self.candidates) {
            left -= weight;
            if left < 0.0 {
                return Ok(*token);
            }
        }
        Ok(best) // rounding left a crumb of mass behind the last candidate
    }

    /// [`Sampler::sample`] from logits that `edit` has changed; the engine's own stay as they are.
    ///
    /// # Errors
    /// As `sample`, and those of `edit`.
    pub(crate) fn sample_edited(
        &mut self,
        logits: &[f32],
        sampling: &Sampling,
        seed: u64,
        index: u32,
        edit: impl FnOnce(&mut [f32]),
    ) -> Result<u32, EngineError> {
        most_likely(logits)?; // a forbidden token must not hide that the cache is damaged
        let mut edited = std::mem::take(&mut self.edited);
        edited.clear();
        edited.extend_from_slice(logits);
        edit(&mut edited);
        let token = self.sample(&edited, sampling, seed, index);
        self.edited = edited;
        token
    }

    fn keep_top_k(&mut self, k: usize) {
        if k == 0 || k >= self.candidates.len() {
            return;
        }
        self.candidates.select_nth_unstable_by(k - 1, more_likely_first);
        self.candidates.truncate(k);
    }

    /// How many of the most likely candidates reach `mass`; at least one.
    fn nucleus(&self, mass: f64) -> usize {
        let mut sum = 0.0;
        for (at, weight) in self.weights.iter().enumerate() {
            sum += weight;
            if sum >= mass {
                return at + 1;
            }
        }
        self.weights.len()
    }

    /// How many candidates have at least `share` of the most likely one's weight, which is 1.
    fn likely_enough(&self, share: f32) -> usize {
        self.weights.partition_point(|weight| *weight >= f64::from(share)).max(1)
    }
}

/// Whether the most likely token is always taken.
pub(crate) fn is_greedy(sampling: &Sampling) -> bool {
    sampling.temperature <= 0.0 || sampling.top_k == 1
}

fn more_likely_first(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// # Errors
/// [`EngineError::BadLogits`]
pub(crate) fn most_likely(logits: &[f32]) -> Result<u32, EngineError> {
    let mut best = None;
    for (token, logit) in (0..).zip(logits) {
        if logit.is_nan() {
            return Err(EngineError::BadLogits);
        }
        if best.is_none_or(|(_, top)| *logit > top) {
            best = Some((token, *logit));
        }
    }
    match best {
        Some((token, top)) if top.is_finite() => Ok(token),
        Some(_) | None => Err(EngineError::BadLogits),
    }
}

/// In [0, 1), the same for the same arguments on every machine.
fn uniform(seed: u64, index: u32) -> f64 {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = ChaCha8Rng::from_seed(key);
    random.set_stream(u64::from(index));
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 3.0, 1.0, 2.9, f32::NEG_INFINITY];

    fn sampling(temperature: f32, top_p: f32, top_k: u32, min_p: f32) -> Sampling {
        Sampling { temperature, top_p, top_k, min_p, ..Sampling::GREEDY }
    }

    fn draws(sampling: &Sampling, seed: u64) -> Vec<u32> {
        (0..2000).map(|index| Sampler::default().sample(&LOGITS, sampling, seed, index).unwrap()).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_most_likely() {
        let token = Sampler::default().sample(&[1.0, 5.0, 5.0], &Sampling::GREEDY, 0, 0);
        assert_eq!(token, Ok(1));
    }

    #[test]
    fn draws_follow_the_softmax_and_depend_on_seed_and_index_only() {
        let plain = sampling(1.0, 1.0, 0, 0.0);
        let first = draws(&plain, 7);
        assert_eq!(first, draws(&plain, 7));
        assert_ne!(first, draws(&plain, 8));
        let share = |token| first.iter().filter(|t| **t == token).count() as f64 / 2000.0;
        let total: f64 = LOGITS[..4].iter().map(|l| f64::from(*l).exp()).sum();
        for token in 0..4u32 {
            let expected = f64::from(LOGITS[token as usize]).exp() / total;
            assert!((share(token) - expected).abs() < 0.04, "token {token}: {} for {expected}", share(token));
        }
        assert_eq!(share(4), 0.0);
    }

    #[test]
    fn top_k_top_p_and_min_p_cut_the_tail() {
        assert!(draws(&sampling(5.0, 1.0, 2, 0.0), 1).iter().all(|token| [1, 3].contains(token)));
        assert!(draws(&sampling(1.0, 0.5, 0, 0.0), 1).iter().all(|token| [1, 3].contains(token)));
        assert!(draws(&sampling(1.0, 0.01, 0, 0.0), 1).iter().all(|token| *token == 1));
        assert!(draws(&sampling(1.0, 1.0, 0, 0.5), 1).iter().all(|token| [1, 3].contains(token)));
        assert!(draws(&sampling(1.0, 1.0, 0, 1.0), 1).iter().all(|token| *token == 1));
        assert!(draws(&sampling(1.0, 1.0, 0, 0.1), 1).contains(&2), "0.135 of the peak");
    }

    #[test]
    fn an_edit_changes_the_choice_and_not_the_logits() {
        let mut sampler = Sampler::default();
        let ban = |logits: &mut [f32]| logits[1] = f32::NEG_INFINITY;
        assert_eq!(sampler.sample_edited(&LOGITS, &Sampling::GREEDY, 0, 0, ban), Ok(3));
        assert_eq!(sampler.sample(&LOGITS, &Sampling::GREEDY, 0, 0), Ok(1));
        let all = |logits: &mut [f32]| logits.fill(f32::NEG_INFINITY);
        assert_eq!(sampler.sample_edited(&LOGITS, &Sampling::GREEDY, 0, 0, all), Err(EngineError::BadLogits));
        let nan = [f32::NAN, 1.0];
        let hides = |logits: &mut [f32]| logits[0] = 0.0;
        assert_eq!(sampler.sample_edited(&nan, &Sampling::GREEDY, 0, 0, hides), Err(EngineError::BadLogits));
    }

    #[test]
    fn damaged_logits_are_an_error_and_never_a_token() {
        for logits in [&[1.0, f32::NAN][..], &[], &[f32::NEG_INFINITY; 3], &[f32::INFINITY, 0.0]] {
            assert_eq!(Sampler::default().sample(logits, &Sampling::GREEDY, 0, 0), Err(EngineError::BadLogits));
        }
    }
}
