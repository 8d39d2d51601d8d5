//! Bedrock's Converse, whole and streamed, and its list of models.

pub mod error;
pub mod models;
pub mod refusals;
pub mod stream;
mod tools;
pub mod translate;
pub mod wire;

use crate::api::repeat::Repeat;
use crate::api::{answer, json};
use crate::app::App;
use crate::auth;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RequestId;
use crate::inference::{self, Reader, Started};
use crate::tenants::Permission;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::response::{IntoResponse, Response};
use error::Failure;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use refusals::{AccessErrors, InferenceErrors};
use std::sync::Arc;
use wire::ConverseRequest;

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("application/vnd.amazon.eventstream");

/// The model id is one segment of the raw path: `%3A` and `:` both come, and ARNs carry `%2F`.
type ModelId = std::result::Result<Path<String>, PathRejection>;

/// Answers a conversation.
#[utoipa::path(
    post, path = "/model/{modelId}/converse", tag = "bedrock",
    params(
        ("modelId" = String, Path, description = "Model id, regional profile id or ARN, percent-encoded",
            example = "huggingface.smollm2-135m-instruct"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
            description = "Makes a repeated call safe for a day: it is generated and charged once, and gets the same answer, to the byte, with `idempotent-replayed: true` when that was kept; while it is generated, the repeated call joins it"),
    ),
    request_body = ConverseRequest,
    responses(
        (status = 200, description = "The answer", body = wire::ConverseResponse,
            headers(("idempotent-replayed" = String, description = "`true` when the answer was generated for an earlier call"))),
        AccessErrors, InferenceErrors,
    ),
    security(("bearer" = []), ("api_key" = []), ("sigv4" = []))
)]
pub async fn converse(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    model: ModelId,
    request: Request,
) -> Result<Response, Failure> {
    let (mut reader, started) = begin(&app, id, model, request, false).await?;
    let (blocks, finished) = answer::collect(&mut reader).await?;
    let mut response = Json(translate::response(blocks, &finished)).into_response();
    answer::name_the_answerer(response.headers_mut(), &started);
    Ok(response)
}

/// Answers a conversation as it is generated, in AWS's event stream framing.
#[utoipa::path(
    post, path = "/model/{modelId}/converse-stream", tag = "bedrock",
    params(
        ("modelId" = String, Path, description = "Model id, regional profile id or ARN, percent-encoded",
            example = "huggingface.smollm2-135m-instruct"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
            description = "Makes a repeated call safe for a day: it is generated and charged once, and gets the same answer, to the byte, with `idempotent-replayed: true` when that was kept; while it is generated, the repeated call joins it, from its first event"),
    ),
    request_body = ConverseRequest,
    responses(
        (status = 200, description = "Events: messageStart; for each block contentBlockStart (calls only), contentBlockDelta…, contentBlockStop; messageStop, metadata",
            content_type = "application/vnd.amazon.eventstream", body = String,
            headers(("idempotent-replayed" = String, description = "`true` when the answer was generated for an earlier call"))),
        AccessErrors, InferenceErrors,
    ),
    security(("bearer" = []), ("api_key" = []), ("sigv4" = []))
)]
pub async fn converse_stream(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    model: ModelId,
    request: Request,
) -> Result<Response, Failure> {
    let (reader, started) = begin(&app, id, model, request, true).await?;
    let mut encoder = stream::Encoder::default();
    let opening = encoder.opening();
    let body = answer::stream(reader, opening, move |event| encoder.encode(event));
    let mut response = ([(CONTENT_TYPE, EVENT_STREAM)], body).into_response();
    answer::name_the_answerer(response.headers_mut(), &started);
    Ok(response)
}

async fn begin(
    app: &Arc<App>,
    id: RequestId,
    model: ModelId,
    request: Request,
    streamed: bool,
) -> Result<(Reader, Started)> {
    let repeat = Repeat::of(&request);
    let (admission, body) = auth::admit(app, request, Permission::Infer).await?;
    let Path(model) = model.map_err(|_| Error::new(ErrorKind::ModelNotFound, translate::INVALID_MODEL))?;
    let wire: ConverseRequest = json::parse(&body)?;
    let request = translate::request(id, model, wire, streamed)?;
    // Nothing is numbered in AWS's framing: who repeats a call gets its answer from the start.
    let mut reader = inference::start(app, admission, request, repeat.once(&body)?);
    let started = answer::begin(&mut reader).await?;
    Ok((reader, started))
}

#[cfg(test)]
mod tests;
