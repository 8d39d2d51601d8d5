//! How admin operations document their failures, in groups. `openapi/failures.rs` gives each operation those that apply to
//! it:
//!
//! | The operation … | gets |
//! |---|---|
//! | takes a token | [`AccessErrors`], and [`BodyErrors`], for a body is read in any case |
//! | names a thing in its path | [`NotFound`] |
//! | reads a query | [`QueryErrors`] |
//! | creates, under `Idempotency-Key` | [`CreateErrors`] |
//! | changes or deletes, under `If-Match` | [`ChangeErrors`] |

use super::problem::Problem;
use utoipa::IntoResponses;

/// Of every operation that takes a token.
#[derive(Debug, IntoResponses)]
pub enum AccessErrors {
    /// No valid credential
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthenticated(Problem),
    /// The credential's role or scope does not allow this
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// The tenant has as many reports under way, or changes made within a minute, as one may have
    #[response(
        status = 429, content_type = "application/problem+json",
        headers(("retry-after" = u32, description = "Seconds to wait")),
    )]
    TooMany(Problem),
    /// Our fault
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(Problem),
    /// Nothing can be decided now: the database can't be reached, or this gateway is full or stopping
    #[response(
        status = 503, content_type = "application/problem+json",
        headers(("retry-after" = u32, description = "Seconds to wait, when that is known")),
    )]
    Unavailable(Problem),
}

/// Of an operation that names a thing.
#[derive(Debug, IntoResponses)]
pub enum NotFound {
    /// There is no such thing; another tenant's is not told apart from one that never was
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
}

/// Of an operation that reads a query.
#[derive(Debug, IntoResponses)]
pub enum QueryErrors {
    /// A parameter can't be read or is out of range; `param` names it
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(Problem),
}

/// Of an operation that reads a body.
#[derive(Debug, IntoResponses)]
pub enum BodyErrors {
    /// Malformed or out of range; `param` names the field
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(Problem),
    /// The body came too slowly
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(Problem),
    /// The body is over its limit
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
}

/// Of an operation that creates.
#[derive(Debug, IntoResponses)]
pub enum CreateErrors {
    /// It contradicts what is already there, or a request with this `Idempotency-Key` is still in work
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// This `Idempotency-Key` came with another request before
    #[response(status = 422, content_type = "application/problem+json")]
    KeyReused(Problem),
}

/// Of an operation that changes or deletes.
#[derive(Debug, IntoResponses)]
pub enum ChangeErrors {
    /// It contradicts the state that the thing is in
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// The thing is no longer as `If-Match` says: read it again
    #[response(status = 412, content_type = "application/problem+json")]
    Changed(Problem),
}
