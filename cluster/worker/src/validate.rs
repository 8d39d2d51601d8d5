//! What a request must be before it may wait for the engine. Peers are authenticated, not trusted.

use crate::engine::Description;
use crate::scheduler::{cells, failure};
use cluster_protocol::{
    Constraint, ErrorCode, Generate, Prefill, Sampling, Tokenize, WorkerError, limits, prompt_digest,
};

const MAX_ID_BYTES: usize = 256;

/// A prompt must leave room for one token; `max_tokens` beyond the context is cut, and the answer then ends with
/// `ContextFull`.
pub(crate) fn generate(request: &Generate, worker: &Description) -> Result<(), WorkerError> {
    ids(&[&request.request_id, &request.tenant])?;
    sampling(&request.sampling, worker)?;
    choices(request.choices, request.logprobs)?;
    trigger(request.constraint.as_ref(), worker)?;
    tokens(&request.prompt, worker)?;
    if request.prompt.len() >= worker.limits.context_tokens as usize {
        return Err(failure(ErrorCode::TooLong, "the prompt leaves no room for an answer in this worker's context"));
    }
    if request.choices > worker.limits.slots || cells(request, worker.limits.context_tokens) > worker.limits.cells {
        return Err(failure(ErrorCode::TooLong, "this worker has too few slots or cells for so many choices"));
    }
    let most = request.max_tokens.saturating_mul(request.choices);
    if request.max_tokens == 0 || !(request.choices..=most).contains(&request.grant) {
        return Err(bad("the grant must be from one token to max_tokens for each choice"));
    }
    stops(&request.stop)
}

pub(crate) fn prefill(request: &Prefill, worker: &Description, epoch: u64) -> Result<(), WorkerError> {
    let binding = &request.binding;
    ids(&[&binding.request_id, &binding.tenant])?;
    sampling(&request.sampling, worker)?;
    choices(request.choices, request.logprobs)?;
    trigger(request.constraint.as_ref(), worker)?;
    stops(&request.stop)?;
    if request.max_tokens == 0 {
        return Err(bad("max_tokens must be at least 1"));
    }
    if binding.fingerprint != worker.fingerprint || binding.epoch != epoch {
        return Err(failure(ErrorCode::FingerprintMismatch, "bound to another model, build, setting or epoch"));
    }
    tokens(&request.prompt, worker)?;
    if request.prompt.len() > worker.limits.context_tokens as usize {
        return Err(failure(ErrorCode::TooLong, "the prompt is longer than this worker's context"));
    }
    if binding.prompt_tokens as usize != request.prompt.len() || binding.prompt_digest != prompt_digest(&request.prompt)
    {
        return Err(bad("bound to another prompt"));
    }
    if worker.kv_bytes_per_token == 0 {
        return Err(failure(ErrorCode::Engine, "this model's KV cache can't be handed over in chunks"));
    }
    Ok(())
}

pub(crate) fn tokenize(request: &Tokenize) -> Result<(), WorkerError> {
    if !limits::takes_text(&request.parts) {
        return Err(failure(ErrorCode::TooLong, "the text is too long to be tokenised"));
    }
    Ok(())
}

fn tokens(prompt: &[u32], worker: &Description) -> Result<(), WorkerError> {
    if prompt.is_empty() || prompt.iter().any(|token| *token >= worker.vocabulary) {
        return Err(bad("the prompt is empty or has a token that is not in the vocabulary"));
    }
    Ok(())
}

fn ids(ids: &[&str]) -> Result<(), WorkerError> {
    if ids.iter().all(|id| (1..=MAX_ID_BYTES).contains(&id.len())) { Ok(()) } else { Err(bad("an id's length")) }
}

fn sampling(sampling: &Sampling, worker: &Description) -> Result<(), WorkerError> {
    if let Some(name) = limits::out_of_range(sampling) {
        return Err(bad(&format!("{name} is out of range")));
    }
    if sampling.logit_bias.iter().any(|entry| entry.token >= worker.vocabulary) {
        return Err(bad("logit_bias names a token that is not in the vocabulary"));
    }
    Ok(())
}

fn choices(choices: u32, logprobs: Option<u32>) -> Result<(), WorkerError> {
    if !(1..=limits::MAX_CHOICES).contains(&choices) || logprobs.is_some_and(|top| top > limits::MAX_TOP_LOGPROBS) {
        return Err(bad("choices or logprobs are out of range"));
    }
    Ok(())
}

fn trigger(constraint: Option<&Constraint>, worker: &Description) -> Result<(), WorkerError> {
    let Some(trigger) = constraint.and_then(|constraint| constraint.trigger.as_ref()) else {
        return Ok(());
    };
    let known = trigger.tokens.iter().all(|token| *token < worker.vocabulary);
    if known && limits::takes_trigger(trigger) { Ok(()) } else { Err(bad("the constraint's trigger is out of range")) }
}

fn stops(stops: &[String]) -> Result<(), WorkerError> {
    if !limits::takes_stops(stops) {
        return Err(bad("too many or too long stop texts, or an empty one"));
    }
    Ok(())
}

fn bad(message: &str) -> WorkerError {
    failure(ErrorCode::BadRequest, message)
}
