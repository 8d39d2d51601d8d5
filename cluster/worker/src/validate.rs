//! What a request must be before it may wait for the engine. Peers are authenticated, not trusted.

use crate::engine::Description;
use crate::scheduler::failure;
use cluster_protocol::{ErrorCode, Generate, Prefill, Sampling, Tokenize, WorkerError, limits, prompt_digest};

const MAX_ID_BYTES: usize = 256;

/// A prompt must leave room for one token; `max_tokens` beyond the context is cut, and the answer then ends with
/// `ContextFull`.
pub(crate) fn generate(request: &Generate, worker: &Description) -> Result<(), WorkerError> {
    ids(&[&request.request_id, &request.tenant])?;
    sampling(&request.sampling)?;
    tokens(&request.prompt, worker)?;
    if request.prompt.len() >= worker.limits.context_tokens as usize {
        return Err(failure(ErrorCode::TooLong, "the prompt leaves no room for an answer in this worker's context"));
    }
    if request.max_tokens == 0 || request.grant == 0 || request.grant > request.max_tokens {
        return Err(bad("the grant must be from 1 to max_tokens"));
    }
    if !limits::takes_stops(&request.stop) {
        return Err(bad("too many or too long stop texts, or an empty one"));
    }
    Ok(())
}

pub(crate) fn prefill(request: &Prefill, worker: &Description, epoch: u64) -> Result<(), WorkerError> {
    let binding = &request.binding;
    ids(&[&binding.request_id, &binding.tenant])?;
    sampling(&request.sampling)?;
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

fn sampling(sampling: &Sampling) -> Result<(), WorkerError> {
    let temperature = sampling.temperature.is_finite() && sampling.temperature >= 0.0;
    let top_p = sampling.top_p > 0.0 && sampling.top_p <= 1.0;
    if temperature && top_p { Ok(()) } else { Err(bad("temperature or top_p is out of range")) }
}

fn bad(message: &str) -> WorkerError {
    failure(ErrorCode::BadRequest, message)
}
