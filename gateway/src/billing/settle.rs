//! After the last token, or instead of it.

use super::{INFERENCE, Outcome, Settlement, rating};
use crate::catalog::Price;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{LedgerEntryId, RequestId};
use crate::inference::Usage;
use crate::money::Nanousd;
use crate::store::{NewLedgerEntry, NewUsage, SettledRow, Store, Tx, count};

/// What settling came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// As on the ledger, whoever wrote it.
    pub amount: Nanousd,
    /// Whether this call wrote it; `false` when the request was settled before.
    pub first: bool,
}

/// Settles once: the request's end, its usage record and its ledger entry in one transaction, at the price pinned when it
/// was opened. A second call changes nothing and returns the first one's amount, so it can be repeated after any error;
/// only when it is the first may it be counted and logged as this request's end.
/// Cancelling it abandons the answer, not the work.
///
/// # Errors
/// `NotFound` for a request never opened; `Internal` when usage is beyond what was opened for and too much for an
/// amount; those of the store.
pub async fn settle(store: &Store, settlement: &Settlement) -> Result<Settled> {
    let settlement = settlement.clone();
    store.transaction(move |tx| Box::pin(async move { settle_in(tx, &settlement).await })).await
}

async fn settle_in(tx: &mut Tx, settlement: &Settlement) -> Result<Settled> {
    let detail = serde_json::to_string(&settlement.detail).map_err(Error::internal)?;
    let outcome = settlement.outcome.as_str();
    let Some(request) = tx.request_settle(&settlement.id, outcome, &detail, settlement.ended_at).await? else {
        return settled_before(tx, &settlement.id).await;
    };
    let usage = charged_usage(settlement);
    let price: Price = serde_json::from_str(&request.price).map_err(Error::internal)?;
    let amount = rating::rate(&price, &usage)
        .ok_or_else(|| Error::new(ErrorKind::Internal, "An internal error occurred: the amount is out of range."))?;
    tx.usage_append(&usage_record(settlement, &request, &usage)?).await?;
    tx.ledger_append(&NewLedgerEntry {
        id: LedgerEntryId::new(),
        request_id: settlement.id.clone(),
        tenant_id: request.tenant_id,
        project_id: request.project_id,
        kind: INFERENCE,
        amount_nanousd: amount,
        price: request.price,
        created_at: settlement.ended_at,
    })
    .await?;
    if let Some(keep) = &settlement.keep {
        tx.answer_keep(keep, &settlement.id, amount).await?;
    }
    Ok(Settled { amount, first: true })
}

/// A request that nobody remembers is ended all the same, and charged nothing whatever the caller passed along.
fn charged_usage(settlement: &Settlement) -> Usage {
    match settlement.outcome {
        Outcome::Completed
        | Outcome::ClientGone
        | Outcome::Failed
        | Outcome::Revoked
        | Outcome::Shutdown
        | Outcome::Recovered => settlement.usage,
        Outcome::Lost => Usage::default(),
    }
}

fn usage_record(settlement: &Settlement, request: &SettledRow, usage: &Usage) -> Result<NewUsage> {
    Ok(NewUsage {
        request_id: settlement.id.clone(),
        tenant_id: request.tenant_id.clone(),
        project_id: request.project_id.clone(),
        key_id: request.key_id.clone(),
        model: request.model.clone(),
        input_tokens: count(usage.input_tokens)?,
        cache_read_tokens: count(usage.cache_read_tokens)?,
        cache_write_tokens: count(usage.cache_write_tokens)?,
        output_tokens: count(usage.output_tokens)?,
        reasoning_tokens: count(usage.reasoning_tokens)?,
        created_at: settlement.ended_at,
    })
}

async fn settled_before(tx: &mut Tx, id: &RequestId) -> Result<Settled> {
    match tx.ledger_entry(id, INFERENCE).await? {
        Some(entry) => Ok(Settled { amount: entry.amount_nanousd, first: false }),
        None => Err(Error::new(ErrorKind::NotFound, "No such request.")),
    }
}
