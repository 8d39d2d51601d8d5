//! Failures in Bedrock's words.

use super::wire::ErrorBody;
use crate::error::{AuthFailure, Error, ErrorKind, Limit};
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER};

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// In ms; the only one that botocore reads.
const AMZ_RETRY_AFTER: HeaderName = HeaderName::from_static("x-amz-retry-after");

/// A failure on its way to a caller of Bedrock's API.
#[derive(Debug)]
pub struct Failure(pub Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Failure(error) = self;
        let (status, name) = exception(error.kind);
        let mut response = (status, Json(ErrorBody { message: message(&error) })).into_response();
        response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(name));
        hint_retry(response.headers_mut(), &error);
        // The edge logs it once, with the request's id.
        response.extensions_mut().insert(error);
        response
    }
}

/// Status and name of the exception that clients raise.
fn exception(kind: ErrorKind) -> (StatusCode, &'static str) {
    match kind {
        ErrorKind::Unauthenticated(failure) => (StatusCode::FORBIDDEN, auth_exception(failure)),
        ErrorKind::Forbidden => (StatusCode::FORBIDDEN, "AccessDeniedException"),
        // Bedrock answers an unknown model as a bad parameter; only one that exists without a server is "not found".
        ErrorKind::ModelNotFound | ErrorKind::Invalid | ErrorKind::ContextExceeded => {
            (StatusCode::BAD_REQUEST, "ValidationException")
        }
        ErrorKind::ModelNotServed | ErrorKind::NotFound => (StatusCode::NOT_FOUND, "ResourceNotFoundException"),
        ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLargeException"),
        ErrorKind::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "RequestTimeoutException"),
        ErrorKind::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "UnknownOperationException"),
        // Bedrock has no Idempotency-Key header, so for these two there is no status of its own to keep: they are those of
        // every other surface. SDKs go by the name.
        ErrorKind::Conflict => (StatusCode::CONFLICT, "ConflictException"),
        ErrorKind::IdempotencyMismatch => (StatusCode::UNPROCESSABLE_ENTITY, "ValidationException"),
        ErrorKind::PreconditionFailed => (StatusCode::BAD_REQUEST, "ConflictException"),
        ErrorKind::QuotaExceeded(_) => (StatusCode::TOO_MANY_REQUESTS, "ThrottlingException"),
        // Not ThrottlingException: waiting doesn't help, and SDKs would retry.
        ErrorKind::BudgetExhausted => (StatusCode::BAD_REQUEST, "ServiceQuotaExceededException"),
        ErrorKind::Overloaded | ErrorKind::UpstreamUnavailable | ErrorKind::ShuttingDown => {
            (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException")
        }
        ErrorKind::UpstreamFailed => (StatusCode::FAILED_DEPENDENCY, "ModelErrorException"),
        ErrorKind::UpstreamTimeout => (StatusCode::REQUEST_TIMEOUT, "ModelTimeoutException"),
        ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerException"),
    }
}

fn auth_exception(failure: AuthFailure) -> &'static str {
    match failure {
        AuthFailure::Missing => "MissingAuthenticationTokenException",
        AuthFailure::BadKey | AuthFailure::Revoked => "AccessDeniedException",
        AuthFailure::UnknownAccessKey => "UnrecognizedClientException",
        AuthFailure::BadSignature | AuthFailure::Expired => "InvalidSignatureException",
        AuthFailure::Malformed => "IncompleteSignatureException",
    }
}

/// The member of ConverseStream's output that a failure in mid-stream becomes; the API models five.
pub fn stream_exception(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid | ErrorKind::ContextExceeded | ErrorKind::TooLarge | ErrorKind::ModelNotFound => {
            "validationException"
        }
        ErrorKind::QuotaExceeded(_) | ErrorKind::BudgetExhausted => "throttlingException",
        ErrorKind::UpstreamFailed | ErrorKind::UpstreamTimeout => "modelStreamErrorException",
        ErrorKind::Overloaded | ErrorKind::UpstreamUnavailable | ErrorKind::ShuttingDown => {
            "serviceUnavailableException"
        }
        // A credential that was revoked under its running answer. Of the five only this one tells SDKs that the request
        // itself is no good any more: they retry or blame the service for each of the others.
        ErrorKind::Unauthenticated(AuthFailure::Revoked) => "validationException",
        // None of these comes after the first token.
        ErrorKind::Unauthenticated(
            AuthFailure::Missing
            | AuthFailure::BadKey
            | AuthFailure::UnknownAccessKey
            | AuthFailure::BadSignature
            | AuthFailure::Expired
            | AuthFailure::Malformed,
        )
        | ErrorKind::Forbidden
        | ErrorKind::ModelNotServed
        | ErrorKind::NotFound
        | ErrorKind::RequestTimeout
        | ErrorKind::MethodNotAllowed
        | ErrorKind::Conflict
        | ErrorKind::PreconditionFailed
        | ErrorKind::IdempotencyMismatch
        | ErrorKind::Internal => "internalServerException",
    }
}

/// Bedrock's own sentence first where clients are known to read it.
fn message(error: &Error) -> String {
    let known = match error.kind {
        ErrorKind::QuotaExceeded(Limit::TokensPerMinute) => "Too many tokens, please wait before trying again.",
        ErrorKind::QuotaExceeded(Limit::RequestsPerMinute | Limit::Concurrency) => {
            "Too many requests, please wait before trying again."
        }
        ErrorKind::ModelNotFound => super::translate::INVALID_MODEL,
        ErrorKind::Unauthenticated(AuthFailure::BadKey) => {
            "Authentication failed: Please make sure your API Key is valid."
        }
        ErrorKind::Unauthenticated(AuthFailure::UnknownAccessKey) => {
            "The security token included in the request is invalid."
        }
        ErrorKind::Unauthenticated(_)
        | ErrorKind::Forbidden
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
        | ErrorKind::BudgetExhausted
        | ErrorKind::Overloaded
        | ErrorKind::UpstreamUnavailable
        | ErrorKind::UpstreamFailed
        | ErrorKind::UpstreamTimeout
        | ErrorKind::ShuttingDown
        | ErrorKind::Internal => return error.message.clone(),
    };
    if matches!(error.kind, ErrorKind::QuotaExceeded(_)) { format!("{known} {}", error.message) } else { known.into() }
}

fn hint_retry(headers: &mut HeaderMap, error: &Error) {
    let Some(after) = error.retry_after else { return };
    let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
    headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms));
    headers.insert(AMZ_RETRY_AFTER, HeaderValue::from(ms));
}
