//! How one choice of an answer picks its tokens: its seed, its constraint, and what it remembers of the tokens it has.

use crate::engine::EngineError;
use crate::penalties::Penalties;
use crate::sampler::{Sampler, is_greedy};
use cluster_constraint::{Broken, Compiled, Session, Step};
use cluster_protocol::Sampling;
use std::sync::Arc;

/// Tokens that bring a trigger up with a rest against the grammar, one after the other, until the request fails.
const MOST_REFUSED: usize = 64;

/// Makes tokens impossible.
type Forbid<'a> = &'a dyn Fn(&mut [f32]);

/// State of one choice, rebuilt from token ids on any worker.
#[derive(Debug)]
pub(crate) struct Picker {
    sampling: Arc<Sampling>,
    seed: u64,
    penalties: Option<Penalties>,
    constraint: Option<Box<Session>>,
    /// Of the next token.
    index: u32,
}

impl Picker {
    pub(crate) fn new(sampling: Arc<Sampling>, constraint: Option<&Compiled>, choice: u32, prompt: &[u32]) -> Picker {
        let (seed, penalties) = (sampling.seed_of(choice), Penalties::new(&sampling, prompt));
        Picker { sampling, seed, penalties, constraint: constraint.map(|it| Box::new(Session::new(it))), index: 0 }
    }

    /// The choice's next token; nothing changes until it is accepted.
    ///
    /// # Errors
    /// [`EngineError::BadLogits`], [`EngineError::Constraint`]
    pub(crate) fn pick(&mut self, sampler: &mut Sampler, logits: &[f32]) -> Result<u32, EngineError> {
        let Some(mut constraint) = self.constraint.take() else {
            return self.draw(sampler, logits, None);
        };
        let picked = self.pick_allowed(sampler, logits, &mut constraint);
        self.constraint = Some(constraint);
        picked
    }

    fn pick_allowed(
        &self,
        sampler: &mut Sampler,
        logits: &[f32],
        constraint: &mut Session,
    ) -> Result<u32, EngineError> {
        if constraint.is_free() {
            return self.pick_free(sampler, logits, constraint);
        }
        if is_greedy(&self.sampling) {
            // The most likely of all tokens is the most likely of those allowed, if it is one: to look at one token is far cheaper
            // than to look at all.
            let token = self.draw(sampler, logits, None)?;
            if constraint.allows(token).map_err(broken)? {
                return Ok(token);
            }
        }
        let mask = constraint.mask().map_err(broken)?;
        self.draw(sampler, logits, Some(&|logits| mask.apply(logits)))
    }

    /// Any token but those that bring the trigger up and go on against the grammar at once.
    fn pick_free(&self, sampler: &mut Sampler, logits: &[f32], constraint: &mut Session) -> Result<u32, EngineError> {
        let mut token = self.draw(sampler, logits, None)?;
        let mut refused: Vec<u32> = Vec::new();
        while !constraint.allows(token).map_err(broken)? {
            if refused.len() == MOST_REFUSED {
                return Err(EngineError::Constraint("no token may follow the trigger".into()));
            }
            refused.push(token);
            let forbid =
                |logits: &mut [f32]| refused.iter().for_each(|token| logits[*token as usize] = f32::NEG_INFINITY);
            token = self.draw(sampler, logits, Some(&forbid))?;
        }
        Ok(token)
    }

    fn draw(&self, sampler: &mut Sampler, logits: &[f32], forbid: Option<Forbid<'_>>) -> Result<u32, EngineError> {
        let Picker { sampling, seed, penalties, index, .. } = self;
        if penalties.is_none() && forbid.is_none() {
            return sampler.sample(logits, sampling, *seed, *index);
        }
        let edit = |logits: &mut [f32]| {
            if let Some(penalties) = penalties {
                penalties.apply(logits, sampling);
            }
            if let Some(forbid) = forbid {
                forbid(logits);
            }
        };
        sampler.sample_edited(logits, sampling, *seed, *index, edit)
    }

    /// Whether `token` may come next, by the constraint.
    pub(crate) fn allows(&mut self, token: u32) -> bool {
        self.constraint.as_mut().is_none_or(|constraint| constraint.allows(token).unwrap_or(false))
    }

    /// Whether nothing could follow `token`, by the constraint.
    pub(crate) fn would_complete(&self, token: u32) -> bool {
        self.constraint.as_ref().is_some_and(|constraint| constraint.clone().accept(token) == Ok(Step::Complete))
    }

    /// The choice goes on from `token`; whether nothing can follow it, by the constraint.
    ///
    /// # Errors
    /// [`EngineError::Constraint`]
    pub(crate) fn accept(&mut self, token: u32) -> Result<Step, EngineError> {
        self.index += 1;
        if let Some(penalties) = &mut self.penalties {
            penalties.accept(token, &self.sampling);
        }
        match &mut self.constraint {
            Some(constraint) => constraint.accept(token).map_err(broken),
            None => Ok(Step::On),
        }
    }
}

fn broken(error: Broken) -> EngineError {
    EngineError::Constraint(error.to_string())
}
