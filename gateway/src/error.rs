//! One error for the domain: what went wrong, a message for the caller, and a source for us. It knows no HTTP; each
//! dialect maps every kind to its own words, without a wildcard.

use std::sync::Arc;
use std::time::Duration;

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. The message is for the caller; the source is for logs and never leaves the process.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The closed list that dialects map.
    pub kind: ErrorKind,
    /// For the caller: no SQL, no address, no other tenant's names.
    pub message: String,
    /// The field at fault, as the caller spelled it, when there is one.
    pub param: Option<String>,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
    #[source]
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No valid credential; says which step failed.
    Unauthenticated(AuthFailure),
    /// The caller is known, and may not.
    Forbidden,
    /// The model id is unknown, or not this tenant's.
    ModelNotFound,
    /// The model is in the catalog, but no upstream serves it here.
    ModelNotServed,
    /// Something else is not there, or is another tenant's.
    NotFound,
    /// The request is malformed or out of range.
    Invalid,
    /// The body is over its limit.
    TooLarge,
    /// The body came too slowly.
    RequestTimeout,
    /// The method is not offered on this path.
    MethodNotAllowed,
    /// Prompt and answer don't fit the model's context.
    ContextExceeded,
    /// It contradicts what is already there.
    Conflict,
    /// It was changed since the caller read it.
    PreconditionFailed,
    /// The idempotency key was used for another request.
    IdempotencyMismatch,
    /// A rate or concurrency limit refuses; says which.
    QuotaExceeded(Limit),
    /// Money has run out.
    BudgetExhausted,
    /// Workers are full.
    Overloaded,
    /// No worker can be reached, or all failed.
    UpstreamUnavailable,
    /// A worker failed after the answer had begun.
    UpstreamFailed,
    /// A worker went silent.
    UpstreamTimeout,
    /// This gateway is stopping.
    ShuttingDown,
    /// Our fault.
    Internal,
}

impl ErrorKind {
    /// As metrics and records spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Unauthenticated(_) => "unauthenticated",
            ErrorKind::Forbidden => "forbidden",
            ErrorKind::ModelNotFound => "model_not_found",
            ErrorKind::ModelNotServed => "model_not_served",
            ErrorKind::NotFound => "not_found",
            ErrorKind::Invalid => "invalid",
            ErrorKind::TooLarge => "too_large",
            ErrorKind::RequestTimeout => "request_timeout",
            ErrorKind::MethodNotAllowed => "method_not_allowed",
            ErrorKind::ContextExceeded => "context_exceeded",
            ErrorKind::Conflict => "conflict",
            ErrorKind::PreconditionFailed => "precondition_failed",
            ErrorKind::IdempotencyMismatch => "idempotency_key_reused",
            ErrorKind::QuotaExceeded(_) => "quota_exceeded",
            ErrorKind::BudgetExhausted => "budget_exhausted",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::UpstreamUnavailable => "upstream_unavailable",
            ErrorKind::UpstreamFailed => "upstream_failed",
            ErrorKind::UpstreamTimeout => "upstream_timeout",
            ErrorKind::ShuttingDown => "shutting_down",
            ErrorKind::Internal => "internal",
        }
    }
}

/// Which step of authentication failed; decides the words, never whether something exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthFailure {
    /// No credential was sent.
    Missing,
    /// A key that is unknown, revoked or expired.
    BadKey,
    /// A SigV4 access key that is unknown or revoked.
    UnknownAccessKey,
    /// The signature does not match.
    BadSignature,
    /// The signature's date is too far from now.
    Expired,
    /// The Authorization header can't be read.
    Malformed,
    /// The credential was good when the request began, and has ended since.
    Revoked,
}

/// Which limit refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Requests in any 60 seconds.
    RequestsPerMinute,
    /// Tokens in any 60 seconds.
    TokensPerMinute,
    /// Requests at the same time.
    Concurrency,
}

impl Limit {
    /// As the API and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::RequestsPerMinute => "requests_per_minute",
            Limit::TokensPerMinute => "tokens_per_minute",
            Limit::Concurrency => "concurrent_requests",
        }
    }
}

impl Error {
    /// With a message for the caller.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), param: None, retry_after: None, source: None }
    }

    /// A request that can't be served as it is; `param` as the caller spelled it.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Error {
        Error { param: Some(param.into()), ..Error::new(ErrorKind::Invalid, message) }
    }

    /// Our fault: the caller learns nothing but that.
    pub fn internal(source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::new(
            ErrorKind::Internal,
            "An internal error occurred. Try again; if it persists, give the request id to the operator.",
        )
        .caused_by(source)
    }

    /// Names the field at fault, as the caller spelled it.
    pub fn about(mut self, param: impl Into<String>) -> Error {
        self.param = Some(param.into());
        self
    }

    /// Keeps the cause for the log.
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        self.source = Some(Arc::new(source));
        self
    }

    /// Tells the caller when to try again.
    pub fn retry_after(mut self, after: Duration) -> Error {
        self.retry_after = Some(after);
        self
    }

    /// The cause kept for the log.
    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync)> {
        self.source.as_deref()
    }
}
