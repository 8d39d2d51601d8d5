//! How likely a token was: in the model's own distribution, before penalties, bias, constraint and temperature. So the
//! numbers say what the model thinks, whatever the request made of it, and need no copy of the logits.

use cluster_protocol::{Logprob, TokenLogprobs};

/// What stands for a probability too small for a logarithm of ordinary size, infinity included.
const LEAST: f32 = -9999.0;

/// By ids only: their bytes are the engine's to tell, which can't while its logits are borrowed.
pub(crate) struct Unspelled {
    chosen: (u32, f32),
    top: Vec<(u32, f32)>,
}

impl Unspelled {
    /// `bytes` spells a token.
    pub(crate) fn spelled(self, bytes: impl Fn(u32) -> Vec<u8>) -> TokenLogprobs {
        let spell = |(id, logprob): (u32, f32)| Logprob { id, bytes: bytes(id), logprob };
        TokenLogprobs { chosen: spell(self.chosen), top: self.top.into_iter().map(spell).collect() }
    }
}

/// The chosen token's, and those of the `top` most likely tokens.
pub(crate) fn logprobs(logits: &[f32], chosen: u32, top: u32) -> Unspelled {
    let peak = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // In f32, sixteen sums side by side: the compiler makes vectors of it, which it may not of one sum.
    let mut sums = [0.0f32; 16];
    let mut rows = logits.chunks_exact(sums.len());
    for row in &mut rows {
        sums.iter_mut().zip(row).for_each(|(sum, logit)| *sum += (logit - peak).exp());
    }
    let rest: f32 = rows.remainder().iter().map(|logit| (logit - peak).exp()).sum();
    let total = f64::from(rest) + sums.iter().map(|sum| f64::from(*sum)).sum::<f64>();
    let log_total = f64::from(peak) + total.ln();
    let of = |id: u32| {
        let logit = logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        (id, ((f64::from(logit) - log_total) as f32).clamp(LEAST, 0.0))
    };
    Unspelled { chosen: of(chosen), top: most_likely(logits, top as usize).into_iter().map(of).collect() }
}

/// The `count` most likely tokens in order, the lower id first among equals.
fn most_likely(logits: &[f32], count: usize) -> Vec<u32> {
    let mut top: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    if count == 0 {
        return Vec::new();
    }
    let mut least = f32::NEG_INFINITY;
    for (token, logit) in (0..).zip(logits.iter().copied()) {
        // Nearly all tokens end here; a `count` of 20 is too small for a heap to gain anything.
        if logit <= least || !logit.is_finite() {
            continue;
        }
        let at = top.partition_point(|(_, other)| *other >= logit);
        top.insert(at, (token, logit));
        top.truncate(count);
        if top.len() == count {
            least = top[count - 1].1;
        }
    }
    top.into_iter().map(|(token, _)| token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_of_a_whole_vocabulary_are_one_together() {
        let logits: Vec<f32> = (0..1000).map(|at| ((at * 7919) % 1000) as f32 / 100.0).collect();
        let told = logprobs(&logits, 3, 1000).spelled(|_| Vec::new());
        let total: f64 = told.top.iter().map(|entry| f64::from(entry.logprob).exp()).sum();
        assert!((total - 1.0).abs() < 1e-4, "{total}");
        assert!(told.top.windows(2).all(|pair| pair[0].logprob >= pair[1].logprob));
        assert_eq!(told.top.iter().find(|entry| entry.id == 3), Some(&told.chosen));
    }

    #[test]
    fn ties_go_to_the_lower_id_and_impossible_tokens_are_no_alternatives() {
        let told = logprobs(&[1.0, f32::NEG_INFINITY, 5.0, 5.0, 0.0], 1, 20).spelled(|id| vec![id as u8]);
        assert_eq!(told.top.iter().map(|entry| entry.id).collect::<Vec<_>>(), [2, 3, 0, 4]);
        assert_eq!((told.chosen.logprob, told.chosen.bytes), (LEAST, vec![1]));
        assert_eq!(logprobs(&[1.0, 2.0], 0, 0).top, []);
    }
}
