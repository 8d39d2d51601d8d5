//! What operators see.

use super::recovery::LONGEST_BODY_US;
use super::{Detail, LedgerEntryView, RequestRecord};
use crate::clock::Micros;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{RequestId, TenantId};
use crate::money::Nanousd;
use crate::store::{RequestFilter, RequestListRow, RequestRow, Store};

/// A machine's clock that is set back makes an id later than the time that its request is accepted at.
const CLOCK_STEP_US: Micros = 60_000_000;

/// A request with its ledger entry, for operators: it takes no tenant. While it is open its tokens are the gateway's
/// count of the prompt and 0.
///
/// # Errors
/// `NotFound`; those of the store.
pub async fn request_record(store: &Store, id: &RequestId) -> Result<RequestRecord> {
    found(store.request(None, id).await?)
}

/// The same for one tenant's request; another tenant's is not found.
///
/// # Errors
/// `NotFound`; those of the store.
pub async fn request_record_of(store: &Store, tenant: &TenantId, id: &RequestId) -> Result<RequestRecord> {
    found(store.request(Some(tenant), id).await?)
}

/// A page of a tenant's requests, newest first, after the one named `after`. The order is that of their ids, which are
/// made when a request's head is read; `filter` goes by when its body was read, too.
///
/// # Errors
/// Those of the store.
pub async fn requests(
    store: &Store,
    tenant: &TenantId,
    filter: &RequestFilter,
    after: Option<&RequestId>,
    limit: i64,
) -> Result<Vec<RequestListRow>> {
    let above = RequestId::lower_bound(filter.from.saturating_sub(LONGEST_BODY_US));
    let below = RequestId::lower_bound(filter.to.saturating_add(CLOCK_STEP_US));
    let below = after.map_or(below.clone(), |after| below.min(after.as_str().to_owned()));
    store.requests_of_tenant(tenant, filter, (above, below), limit).await
}

fn found(row: Option<RequestRow>) -> Result<RequestRecord> {
    row.map(record).unwrap_or_else(|| Err(Error::new(ErrorKind::NotFound, "No such request.")))
}

/// What a tenant owes: the sum of its ledger entries.
///
/// # Errors
/// Those of the store.
pub async fn balance(store: &Store, tenant: &TenantId) -> Result<Nanousd> {
    store.ledger_balance(tenant).await
}

fn record(row: RequestRow) -> Result<RequestRecord> {
    let mut detail: Detail = match &row.detail {
        Some(json) => serde_json::from_str(json).map_err(Error::internal)?,
        None => Detail::default(),
    };
    // What was noted before a crash still says where the request went.
    detail.decode = detail.decode.or(row.decode_worker);
    detail.attempt = detail.attempt.max(row.attempt);
    let ledger_entry = match (row.entry_id, row.entry_amount, row.entry_price, row.entry_created_at) {
        (Some(entry_id), Some(amount_nanousd), Some(price), Some(created_at)) => Some(LedgerEntryView {
            entry_id,
            amount_nanousd,
            price: serde_json::from_str(&price).map_err(Error::internal)?,
            created_at,
        }),
        _ => None,
    };
    Ok(RequestRecord {
        request_id: row.id,
        tenant_id: row.tenant_id,
        project_id: row.project_id,
        key_id: row.key_id,
        dialect: row.dialect,
        model_asked: row.model_asked,
        model: row.model,
        state: row.state,
        outcome: row.outcome,
        input_tokens: row.input_tokens,
        output_tokens: row.output_tokens,
        accepted_at: row.accepted_at,
        settled_at: row.settled_at,
        detail,
        ledger_entry,
    })
}
