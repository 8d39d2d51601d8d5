//! Failures in OpenAI's words.

use super::wire::{ErrorBody, ErrorDetail};
use crate::error::{AuthFailure, Error, ErrorKind, Limit};
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER};

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// A failure on its way to a caller of OpenAI's API.
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
        let mut response = (status(error.kind), Json(body(&error))).into_response();
        hint_retry(response.headers_mut(), &error);
        // The edge logs it once, with the request's id.
        response.extensions_mut().insert(error);
        response
    }
}

/// The body, also sent as an event when a stream fails.
pub fn body(error: &Error) -> ErrorBody {
    let (kind, code) = words(error.kind);
    let about_model = matches!(error.kind, ErrorKind::ModelNotFound | ErrorKind::ModelNotServed);
    let param = if about_model { Some("model".to_owned()) } else { error.param.clone() };
    ErrorBody { error: ErrorDetail { message: error.message.clone(), kind, param, code: Some(code) } }
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::ModelNotFound | ErrorKind::ModelNotServed | ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Invalid | ErrorKind::ContextExceeded => StatusCode::BAD_REQUEST,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        ErrorKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        ErrorKind::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::QuotaExceeded(_) => StatusCode::TOO_MANY_REQUESTS,
        // Not 429: waiting doesn't help, and SDKs would retry.
        ErrorKind::BudgetExhausted => StatusCode::PAYMENT_REQUIRED,
        ErrorKind::Overloaded | ErrorKind::UpstreamUnavailable | ErrorKind::ShuttingDown => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorKind::UpstreamFailed => StatusCode::BAD_GATEWAY,
        ErrorKind::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// `type` and `code`.
fn words(kind: ErrorKind) -> (&'static str, &'static str) {
    const REQUEST: &str = "invalid_request_error";
    const SERVER: &str = "server_error";
    match kind {
        ErrorKind::Unauthenticated(failure) => (REQUEST, auth_code(failure)),
        ErrorKind::Forbidden => ("permission_error", "permission_denied"),
        ErrorKind::ModelNotFound => (REQUEST, "model_not_found"),
        ErrorKind::ModelNotServed => (REQUEST, "model_not_served"),
        ErrorKind::NotFound => (REQUEST, "not_found"),
        ErrorKind::Invalid => (REQUEST, "invalid_value"),
        ErrorKind::TooLarge => (REQUEST, "request_too_large"),
        ErrorKind::RequestTimeout => (REQUEST, "request_timeout"),
        ErrorKind::MethodNotAllowed => (REQUEST, "method_not_allowed"),
        ErrorKind::ContextExceeded => (REQUEST, "context_length_exceeded"),
        ErrorKind::Conflict => (REQUEST, "conflict"),
        ErrorKind::PreconditionFailed => (REQUEST, "precondition_failed"),
        ErrorKind::IdempotencyMismatch => (REQUEST, "idempotency_key_reused"),
        ErrorKind::QuotaExceeded(limit) => (limit_type(limit), "rate_limit_exceeded"),
        ErrorKind::BudgetExhausted => ("insufficient_quota", "insufficient_quota"),
        ErrorKind::Overloaded => (SERVER, "overloaded"),
        ErrorKind::UpstreamUnavailable => (SERVER, "upstream_unavailable"),
        ErrorKind::UpstreamFailed => (SERVER, "upstream_failed"),
        ErrorKind::UpstreamTimeout => (SERVER, "upstream_timeout"),
        ErrorKind::ShuttingDown => (SERVER, "shutting_down"),
        ErrorKind::Internal => (SERVER, "internal_error"),
    }
}

fn auth_code(failure: AuthFailure) -> &'static str {
    match failure {
        AuthFailure::Missing | AuthFailure::BadKey | AuthFailure::Malformed => "invalid_api_key",
        AuthFailure::UnknownAccessKey => "invalid_access_key",
        AuthFailure::BadSignature => "invalid_signature",
        AuthFailure::Expired => "signature_expired",
        AuthFailure::Revoked => "key_revoked",
    }
}

fn limit_type(limit: Limit) -> &'static str {
    match limit {
        Limit::RequestsPerMinute => "requests",
        Limit::TokensPerMinute => "tokens",
        Limit::Concurrency => "concurrency",
    }
}

/// Both spellings that the SDKs read; and a plain no when a limit can never fit the request.
fn hint_retry(headers: &mut HeaderMap, error: &Error) {
    match error.retry_after {
        Some(after) => {
            let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms));
        }
        None if matches!(error.kind, ErrorKind::QuotaExceeded(_)) => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        None => {}
    }
}
