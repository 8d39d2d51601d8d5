//! From a job to an answer whose first token is there. The only place that retries, and only until then.

use super::choice::Placement;
use super::failure::{Cause, Failure};
use super::stream::TokenStream;
use super::{Cluster, failure::LinkError};
use crate::error::Result;
use crate::id::{RequestId, TenantId};
use cluster_protocol::{Constraint, Generate, Sampling};

/// Most tries of one request, the first included.
const MAX_ATTEMPTS: u32 = 3;

/// What shall be generated.
#[derive(Debug, Clone)]
pub struct Job {
    /// Same for all attempts.
    pub request_id: RequestId,
    /// Binds the hand-off.
    pub tenant: TenantId,
    /// Card whose vocabulary made `prompt`.
    pub card_digest: String,
    /// Token ids, special ones included.
    pub prompt: Vec<u32>,
    /// How to choose tokens, the seed fixed: an answer begun twice begins the same.
    pub sampling: Sampling,
    /// What each choice must look like.
    pub constraint: Option<Constraint>,
    /// Alternatives to tell for each token, beside its own probability.
    pub logprobs: Option<u32>,
    /// Answers to the one prompt, at least 1.
    pub choices: u32,
    /// Texts that end a choice.
    pub stop: Vec<String>,
    /// Special tokens whose text shall come with the answer's.
    pub shown: Vec<u32>,
    /// Most output tokens of each choice, ever.
    pub max_tokens: u32,
    /// Output tokens of all choices together allowed at first.
    pub grant: u32,
}

/// A try other than the first, before its worker hears of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// From 2.
    pub number: u32,
    /// Worker that shall decode.
    pub decode: String,
}

impl Cluster {
    /// Has `job` answered, starting at `placement`, and returns once its first frame is there, or `interrupted` is
    /// ready: then the stream may not have begun, and it is the caller's to stop.
    ///
    /// A connection failure or a worker's retryable error leads to another attempt, preferably on another worker.
    /// `note` runs to its end before that worker hears of it; it must not be cancelled, so neither may this be.
    ///
    /// # Errors
    /// The last attempt's [`Failure`]; the failure of `note`.
    pub async fn open<N, F, I>(
        &self,
        job: &Job,
        mut placement: Placement,
        note: N,
        interrupted: &mut I,
    ) -> Result<TokenStream, Failure>
    where
        N: Fn(Attempt) -> F,
        F: Future<Output = Result<()>>,
        I: Future + Unpin,
    {
        let mut tried = Vec::new();
        let mut exact = true;
        for number in 1.. {
            let decode = placement.decode_id().to_owned();
            let failure = match self.attempt(job, number, placement, interrupted).await {
                Ok(stream) => return Ok(stream),
                Err(failure) => failure.at(number, &decode),
            };
            // What an earlier attempt computed is not in a later one's count.
            exact &= failure.exact;
            let failure = Failure { exact, ..failure };
            let last = decode.clone();
            tried.push(decode);
            if !failure.is_retryable() || number == MAX_ATTEMPTS {
                return Err(failure);
            }
            let only_others = failure.needs_another_worker();
            placement = match self.place_except(job.prompt.len(), &tried, only_others).await {
                Ok(placement) => placement,
                Err(_) => return Err(failure),
            };
            let attempt = Attempt { number: number + 1, decode: placement.decode_id().to_owned() };
            tracing::warn!(request = %job.request_id, attempt = attempt.number, decode = %attempt.decode, %failure,
                "trying again");
            self.metrics.retries.inc();
            note(attempt).await.map_err(|error| Failure { exact, ..Failure::before_start(error).at(number, &last) })?;
        }
        Err(Failure::before_start(Cause::NoneHealthy))
    }

    async fn attempt<I: Future + Unpin>(
        &self,
        job: &Job,
        number: u32,
        placement: Placement,
        interrupted: &mut I,
    ) -> Result<TokenStream, Failure> {
        let Placement { decode, prefill, plan } = placement;
        let connection = tokio::select! {
            connection = self.connection(decode.worker()) => {
                connection.map_err(|error: LinkError| Failure::before_start(error))?
            }
            _ = &mut *interrupted => return Err(Failure::before_start(Cause::Interrupted)),
        };
        if connection.info().card_digest != job.card_digest {
            return Err(Failure::before_start(LinkError::WrongCard));
        }
        let request = Generate {
            request_id: job.request_id.to_string(),
            attempt: number,
            tenant: job.tenant.to_string(),
            prompt: job.prompt.clone(),
            sampling: job.sampling.clone(),
            constraint: job.constraint.clone(),
            logprobs: job.logprobs,
            choices: job.choices,
            stop: job.stop.clone(),
            max_tokens: job.max_tokens,
            grant: job.grant,
            prefill: plan,
        };
        let mut stream = TokenStream::send(connection, decode, prefill, request, self.deadlines()).await?;
        tokio::select! {
            begun = stream.begin() => begun?,
            _ = interrupted => {}
        }
        Ok(stream)
    }
}
