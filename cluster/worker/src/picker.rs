//! How one choice of an answer picks its tokens: its seed, and what it remembers of the tokens it has.

use crate::engine::EngineError;
use crate::penalties::Penalties;
use crate::sampler::Sampler;
use cluster_protocol::Sampling;
use std::sync::Arc;

/// State of one choice, rebuilt from token ids on any worker.
#[derive(Debug)]
pub(crate) struct Picker {
    sampling: Arc<Sampling>,
    seed: u64,
    penalties: Option<Penalties>,
    /// Of the next token.
    index: u32,
}

impl Picker {
    pub(crate) fn new(sampling: Arc<Sampling>, choice: u32, prompt: &[u32]) -> Picker {
        let seed = sampling.seed_of(choice);
        Picker { penalties: Penalties::new(&sampling, prompt), sampling, seed, index: 0 }
    }

    /// The choice's next token; nothing changes until it is accepted.
    ///
    /// # Errors
    /// [`EngineError::BadLogits`]
    pub(crate) fn pick(&mut self, sampler: &mut Sampler, logits: &[f32]) -> Result<u32, EngineError> {
        let Picker { sampling, seed, penalties, index } = self;
        match penalties {
            None => sampler.sample(logits, sampling, *seed, *index),
            Some(penalties) => {
                let edit = |logits: &mut [f32]| penalties.apply(logits, sampling);
                sampler.sample_edited(logits, sampling, *seed, *index, edit)
            }
        }
    }

    /// The choice goes on from `token`.
    pub(crate) fn accept(&mut self, token: u32) {
        self.index += 1;
        if let Some(penalties) = &mut self.penalties {
            penalties.accept(token, &self.sampling);
        }
    }
}
