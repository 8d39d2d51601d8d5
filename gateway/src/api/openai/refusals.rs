//! How operations in OpenAI's dialect document their failures.

use super::wire::ErrorBody;
use utoipa::IntoResponses;

/// Of every operation that takes a credential. A body is read even where it means nothing: a signature covers it.
#[derive(Debug, IntoResponses)]
pub enum AccessErrors {
    /// Malformed or out of range; `param` names the field
    #[response(status = 400)]
    Invalid(ErrorBody),
    /// No valid credential
    #[response(status = 401)]
    Unauthenticated(ErrorBody),
    /// The credential does not allow this
    #[response(status = 403)]
    Forbidden(ErrorBody),
    /// The body came too slowly
    #[response(status = 408)]
    TooSlow(ErrorBody),
    /// The body is over its limit
    #[response(status = 413)]
    TooLarge(ErrorBody),
    /// Our fault
    #[response(status = 500)]
    Internal(ErrorBody),
    /// This gateway is full or stopping, or workers are full or gone
    #[response(status = 503, headers(
        ("retry-after" = u32, description = "Seconds to wait, when that is known"),
        ("retry-after-ms" = u32, description = "The same in ms"),
    ))]
    Unavailable(ErrorBody),
}

/// Of an operation that names a model.
#[derive(Debug, IntoResponses)]
pub enum ModelErrors {
    /// The model is unknown, or nothing serves it here
    #[response(status = 404)]
    NotFound(ErrorBody),
}

/// Of an operation that generates.
#[derive(Debug, IntoResponses)]
pub enum InferenceErrors {
    /// Money has run out
    #[response(status = 402)]
    BudgetExhausted(ErrorBody),
    /// A call with this `Idempotency-Key` is being answered elsewhere: repeat it shortly for that answer
    #[response(status = 409, headers(
        ("retry-after" = u32, description = "Seconds to wait"),
        ("retry-after-ms" = u32, description = "The same in ms"),
    ))]
    BeingAnswered(ErrorBody),
    /// This `Idempotency-Key` came with another call before
    #[response(status = 422)]
    KeyReused(ErrorBody),
    /// A rate or concurrency limit refuses; `type` says which
    #[response(status = 429, headers(
        ("retry-after" = u32, description = "Seconds to wait, when that helps"),
        ("retry-after-ms" = u32, description = "The same in ms"),
        ("x-should-retry" = String, description = "`false` when the limit can never fit the request"),
    ))]
    QuotaExceeded(ErrorBody),
    /// A worker failed
    #[response(status = 502)]
    UpstreamFailed(ErrorBody),
    /// A worker went silent
    #[response(status = 504)]
    UpstreamTimeout(ErrorBody),
}
