//! What operators see.

use super::{Detail, LedgerEntryView, RequestRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{RequestId, TenantId};
use crate::money::Nanousd;
use crate::store::{RequestRow, Store};

/// A request with its ledger entry, for operators: it takes no tenant. While it is open its tokens are the gateway's
/// count of the prompt and 0.
///
/// # Errors
/// `NotFound`; those of the store.
pub async fn request_record(store: &Store, id: &RequestId) -> Result<RequestRecord> {
    match store.request(id).await? {
        Some(row) => record(row),
        None => Err(Error::new(ErrorKind::NotFound, "No such request.")),
    }
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
        (Some(entry_id), Some(amount_nanousd), Some(price), Some(created_at_us)) => Some(LedgerEntryView {
            entry_id,
            amount_nanousd,
            price: serde_json::from_str(&price).map_err(Error::internal)?,
            created_at_us,
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
        accepted_at_us: row.accepted_at,
        settled_at_us: row.settled_at,
        detail,
        ledger_entry,
    })
}
