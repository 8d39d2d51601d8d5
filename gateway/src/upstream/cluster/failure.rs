//! What can go wrong with a worker, which of it is worth another try, and what the caller is told.

use crate::error::{Error, ErrorKind};
use cluster_protocol::{CodecError, Counts, ErrorCode, Kind, WorkerError};
use std::time::Duration;

/// Advice to callers when no worker can take their request: probes find a restarted one within about this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a connection can't be made, or used any longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("can't connect: {0}")]
    Connect(#[source] std::io::Error),
    #[error("no progress within the deadline: {0}")]
    Silent(&'static str),
    #[error("speaks protocol version {0}")]
    Version(u16),
    #[error("does not hold the cluster secret")]
    WrongSecret,
    #[error("calls itself `{0}`")]
    WrongWorker(String),
    #[error("runs another model, build or context setting than its cluster")]
    WrongFingerprint,
    #[error("has another model card than expected")]
    WrongCard,
    #[error("has a model card that can't be used: {0}")]
    BadCard(#[source] Error),
    #[error("closed the connection")]
    Closed,
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("sent {0:?} where it does not belong")]
    Unexpected(Kind),
    #[error("refused: {0}")]
    Refused(#[source] WorkerError),
}

/// Why a request has no (further) answer from the worker that was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("no worker is healthy")]
    NoneHealthy,
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The deadline's name.
    #[error("silent for too long: {0}")]
    Silent(&'static str),
    #[error("impossible values: {0}")]
    Violation(&'static str),
    /// What has to be done before asking a worker could not be done.
    #[error(transparent)]
    Ours(#[from] Error),
    /// The gateway wanted it to end before a worker was asked.
    #[error("interrupted")]
    Interrupted,
}

/// A request's failure, with what was computed until then.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Failure {
    #[source]
    /// Boxed, since results carry it through every frame of an answer.
    pub(crate) cause: Box<Cause>,
    /// Cumulative, from the last frame that had counts.
    pub counts: Counts,
    /// Whether `counts` is all that was computed: a worker's last word, or none was asked. Otherwise it is the least.
    pub exact: bool,
    /// Whether the first token had come.
    pub started: bool,
    /// Tries made, 0 when no worker was asked.
    pub attempt: u32,
    /// The last worker that was asked to decode.
    pub decode: Option<String>,
}

impl Failure {
    pub(crate) fn before_start(cause: impl Into<Cause>) -> Failure {
        Failure {
            cause: Box::new(cause.into()),
            counts: Counts::default(),
            exact: true,
            started: false,
            attempt: 0,
            decode: None,
        }
    }

    pub(crate) fn at(self, attempt: u32, decode: &str) -> Failure {
        Failure { attempt, decode: Some(decode.to_owned()), ..self }
    }

    pub(crate) fn none_healthy() -> Failure {
        Failure::before_start(Cause::NoneHealthy)
    }

    /// The gateway wanted it to end before a worker was asked.
    pub(crate) fn interrupted() -> Failure {
        Failure::before_start(Cause::Interrupted)
    }

    /// It did not end when told to.
    pub(crate) fn unstoppable(counts: Counts, started: bool) -> Failure {
        Failure { counts, exact: false, started, ..Failure::before_start(Cause::Silent("stop")) }
    }

    /// It sent more than was asked for.
    pub(crate) fn overflow(counts: Counts) -> Failure {
        let cause = Cause::Violation("more pieces than tokens");
        Failure { counts, exact: false, started: true, ..Failure::before_start(cause) }
    }

    /// Whether another attempt may succeed, and can't show the caller two beginnings.
    pub(crate) fn is_retryable(&self) -> bool {
        !self.started
            && match &*self.cause {
                Cause::Link(_) => true,
                Cause::Worker(error) => error.code.is_retryable(),
                Cause::NoneHealthy | Cause::Silent(_) | Cause::Violation(_) | Cause::Ours(_) | Cause::Interrupted => {
                    false
                }
            }
    }

    /// Whether the same worker would only say the same again.
    pub(crate) fn needs_another_worker(&self) -> bool {
        match &*self.cause {
            Cause::Worker(error) => error.code == ErrorCode::Overloaded,
            Cause::Link(
                LinkError::WrongSecret | LinkError::WrongFingerprint | LinkError::WrongCard | LinkError::WrongWorker(_),
            ) => true,
            Cause::Link(_)
            | Cause::NoneHealthy
            | Cause::Silent(_)
            | Cause::Violation(_)
            | Cause::Ours(_)
            | Cause::Interrupted => false,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let broken = || match failure.started {
            true => Error::new(ErrorKind::UpstreamFailed, "The model's worker failed in the middle of the answer."),
            false => unavailable(),
        };
        let error = match &*failure.cause {
            Cause::NoneHealthy => unavailable(),
            Cause::Link(_) => broken(),
            Cause::Worker(error) => match error.code {
                ErrorCode::Overloaded => {
                    Error::new(ErrorKind::Overloaded, "The model's workers are busy. Try again shortly.")
                        .retry_after(RETRY_AFTER)
                }
                ErrorCode::TooLong => Error::new(
                    ErrorKind::ContextExceeded,
                    "The prompt and the requested answer do not fit the model's context.",
                ),
                ErrorCode::Constraint => {
                    Error::new(ErrorKind::UpstreamFailed, "The answer could not be kept to the requested format.")
                }
                ErrorCode::BadRequest => return Error::internal(failure),
                ErrorCode::Engine
                | ErrorCode::ShuttingDown
                | ErrorCode::FingerprintMismatch
                | ErrorCode::Unauthenticated => broken(),
            },
            Cause::Silent(_) => Error::new(ErrorKind::UpstreamTimeout, "The model's worker did not answer in time."),
            Cause::Violation(_) => {
                Error::new(ErrorKind::UpstreamFailed, "The model's worker sent an answer that can't be right.")
            }
            Cause::Ours(error) => return error.clone(),
            Cause::Interrupted => Error::new(ErrorKind::ShuttingDown, "The request was ended before it began."),
        };
        error.caused_by(failure)
    }
}

fn unavailable() -> Error {
    Error::new(ErrorKind::UpstreamUnavailable, "No worker can answer for this model at the moment. Try again shortly.")
        .retry_after(RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(code: ErrorCode, started: bool) -> Failure {
        let error = WorkerError { code, message: "x".into(), counts: Counts::default() };
        Failure { started, ..Failure::before_start(error) }
    }

    #[test]
    fn nothing_is_tried_again_after_the_first_token() {
        assert!(worker(ErrorCode::Engine, false).is_retryable());
        assert!(!worker(ErrorCode::Engine, true).is_retryable());
        assert!(Failure::before_start(LinkError::Closed).is_retryable());
        assert!(!Failure { started: true, ..Failure::before_start(LinkError::Closed) }.is_retryable());
        assert!(!Failure::before_start(Cause::Silent("first token")).is_retryable());
    }

    #[test]
    fn a_failure_becomes_the_kind_its_caller_can_act_on() {
        let kind = |failure: Failure| Error::from(failure).kind;
        assert_eq!(kind(worker(ErrorCode::Overloaded, false)), ErrorKind::Overloaded);
        assert_eq!(kind(worker(ErrorCode::TooLong, false)), ErrorKind::ContextExceeded);
        assert_eq!(kind(worker(ErrorCode::BadRequest, false)), ErrorKind::Internal);
        assert_eq!(kind(worker(ErrorCode::Engine, false)), ErrorKind::UpstreamUnavailable);
        assert_eq!(kind(worker(ErrorCode::Engine, true)), ErrorKind::UpstreamFailed);
        assert_eq!(kind(Failure::before_start(Cause::Silent("frame"))), ErrorKind::UpstreamTimeout);
        assert_eq!(kind(Failure::before_start(LinkError::Closed)), ErrorKind::UpstreamUnavailable);
        assert!(Error::from(worker(ErrorCode::Overloaded, false)).retry_after.is_some());
    }
}
