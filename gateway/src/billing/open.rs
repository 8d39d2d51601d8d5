//! Before the first byte.

use super::{OpenRequest, rating};
use crate::error::{Error, ErrorKind, Result};
use crate::id::RequestId;
use crate::store::{NewRequest, Store, count};

/// Makes the request's row durable. The one door, so that a group-committed journal can take its place. When it returns
/// the row has been synced to disk; cancelling it leaves the row possibly there, for the sweep to end.
///
/// # Errors
/// `Conflict` when the id is known already; `Invalid` for a negative price, or when the dearest end of this request
/// would be more than an amount can hold, so that whatever was opened can be settled; `NotFound` without the project;
/// those of the store.
pub async fn open_request(store: &Store, request: &OpenRequest) -> Result<()> {
    let most_tokens = request.input_tokens.saturating_add(request.max_output_tokens);
    if !rating::can_rate(&request.price, most_tokens) {
        return Err(Error::new(ErrorKind::Invalid, "This request could cost more than an invoice can state."));
    }
    let opened = store.request_open(NewRequest {
        id: request.id.clone(),
        tenant_id: request.principal.tenant.clone(),
        project_id: request.principal.project.clone(),
        key_id: request.principal.key.clone(),
        dialect: request.dialect.as_str(),
        model_asked: request.model_asked.clone(),
        model: request.model.clone(),
        price: serde_json::to_string(&request.price).map_err(Error::internal)?,
        input_tokens: count(request.input_tokens)?,
        max_output_tokens: count(request.max_output_tokens)?,
        decode_worker: Some(request.decode.clone()),
        gateway_id: request.gateway_id.clone(),
        lease_until: request.lease_until,
        accepted_at: request.accepted_at,
    });
    if opened.await? { Ok(()) } else { Err(Error::new(ErrorKind::NotFound, "No such project.")) }
}

/// Notes which worker a further attempt is about to be sent to, so that a receipt can be asked for after a crash. Call it
/// before sending; the first attempt's worker is in the row from the beginning.
///
/// # Errors
/// `Conflict` when the request is not open, because another replica took this one for dead and settled it (then it must
/// not be sent), or when a later attempt is noted already; those of the store.
pub async fn note_worker(store: &Store, id: &RequestId, decode: &str, attempt: u32) -> Result<()> {
    if store.request_note_worker(id, decode, attempt).await? {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Conflict, "The request is not open any more."))
}
