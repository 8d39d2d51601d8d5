//! How operations in Bedrock's dialect document their failures. The exception's name is in `x-amzn-ErrorType`, which every
//! documented failure gets by itself.

use super::wire::ErrorBody;
use utoipa::IntoResponses;

/// Of every operation that takes a credential. A body is read even where it means nothing: a signature covers it.
#[derive(Debug, IntoResponses)]
pub enum AccessErrors {
    /// ValidationException
    #[response(status = 400)]
    Validation(ErrorBody),
    /// No valid credential (MissingAuthenticationTokenException, AccessDeniedException, UnrecognizedClientException,
    /// InvalidSignatureException or IncompleteSignatureException), or one that does not allow this
    /// (AccessDeniedException)
    #[response(status = 403)]
    AccessDenied(ErrorBody),
    /// RequestTimeoutException: the body came too slowly
    #[response(status = 408)]
    RequestTimeout(ErrorBody),
    /// RequestEntityTooLargeException: the body is over its limit
    #[response(status = 413)]
    TooLarge(ErrorBody),
    /// InternalServerException
    #[response(status = 500)]
    Internal(ErrorBody),
    /// ServiceUnavailableException: this gateway is full or stopping, or workers are full or gone
    #[response(status = 503, headers(
        ("retry-after" = u32, description = "Seconds to wait, when that is known"),
        ("retry-after-ms" = u32, description = "The same in ms"),
        ("x-amz-retry-after" = u32, description = "The same in ms, for AWS's SDKs"),
    ))]
    Unavailable(ErrorBody),
}

/// Of an operation that names a model and generates.
#[derive(Debug, IntoResponses)]
pub enum InferenceErrors {
    /// ValidationException, also for a model id that is unknown; ServiceQuotaExceededException when money has run out
    #[response(status = 400)]
    Validation(ErrorBody),
    /// ResourceNotFoundException: nothing serves the model here
    #[response(status = 404)]
    ResourceNotFound(ErrorBody),
    /// ModelTimeoutException: a worker went silent; RequestTimeoutException: the body came too slowly
    #[response(status = 408)]
    Timeout(ErrorBody),
    /// ConflictException: a call with this `Idempotency-Key` is being answered elsewhere; repeat it shortly for that answer
    #[response(status = 409, headers(
        ("retry-after" = u32, description = "Seconds to wait"),
        ("retry-after-ms" = u32, description = "The same in ms"),
        ("x-amz-retry-after" = u32, description = "The same in ms, for AWS's SDKs"),
    ))]
    BeingAnswered(ErrorBody),
    /// ValidationException: this `Idempotency-Key` came with another call before
    #[response(status = 422)]
    KeyReused(ErrorBody),
    /// ModelErrorException: a worker failed
    #[response(status = 424)]
    ModelError(ErrorBody),
    /// ThrottlingException: a rate or concurrency limit refuses
    #[response(status = 429, headers(
        ("retry-after" = u32, description = "Seconds to wait, when that helps"),
        ("retry-after-ms" = u32, description = "The same in ms"),
        ("x-amz-retry-after" = u32, description = "The same in ms, for AWS's SDKs"),
    ))]
    Throttling(ErrorBody),
}
