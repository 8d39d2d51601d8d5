//! The dialects. None knows another; each translates to and from `inference`.

pub mod answer;
pub mod bedrock;
pub mod json;
pub mod openai;
pub mod repeat;

use crate::error::{Error, ErrorKind};
use crate::id::RequestId;

/// Logs a failure once, at the edge: ours loudly, callers' quietly and without their text.
pub fn log_failure(surface: &'static str, request_id: &RequestId, error: &Error) {
    let kind = error.kind.as_str();
    let cause = error.cause().map(tracing::field::display);
    match error.kind {
        ErrorKind::Internal | ErrorKind::UpstreamFailed | ErrorKind::UpstreamTimeout => {
            tracing::error!(surface, %request_id, kind, message = error.message, cause, "request failed");
        }
        ErrorKind::UpstreamUnavailable | ErrorKind::Overloaded => {
            tracing::warn!(surface, %request_id, kind, message = error.message, cause, "request failed");
        }
        ErrorKind::Unauthenticated(_)
        | ErrorKind::Forbidden
        | ErrorKind::ModelNotFound
        | ErrorKind::ModelNotServed
        | ErrorKind::NotFound
        | ErrorKind::Invalid
        | ErrorKind::TooLarge
        | ErrorKind::RequestTimeout
        | ErrorKind::MethodNotAllowed
        | ErrorKind::ContextExceeded
        | ErrorKind::Conflict
        | ErrorKind::PreconditionFailed
        | ErrorKind::IdempotencyMismatch
        | ErrorKind::QuotaExceeded(_)
        | ErrorKind::BudgetExhausted
        | ErrorKind::ShuttingDown => tracing::debug!(surface, %request_id, kind, "request refused"),
    }
}

#[cfg(test)]
mod tools_tests;
