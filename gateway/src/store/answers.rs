//! Answers under an Idempotency-Key: claimed by the request that generates them, then kept.

use super::{Store, Tx};
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{KeyId, RequestId, TenantId};
use crate::money::Nanousd;

/// A caller's Idempotency-Key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AnswerKey {
    /// Whose.
    pub tenant_id: TenantId,
    /// Of two callers who choose the same key neither sees the other's answer.
    pub key_id: KeyId,
    /// As the caller sent it.
    pub idempotency_key: String,
}

/// A request that wants to be the one that generates the answer.
#[derive(Debug, Clone)]
pub struct NewAnswerClaim {
    /// Under which key.
    pub key: AnswerKey,
    /// Of method, path and body.
    pub call_digest: String,
    /// Which request.
    pub request_id: RequestId,
    /// Where it runs.
    pub gateway_id: String,
    /// µs since 1970.
    pub created_at: Micros,
}

/// What stands under a key already.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AnswerRow {
    /// Of method, path and body.
    pub call_digest: String,
    /// The request that generates it, or did.
    pub request_id: RequestId,
    /// Where it runs, or ran.
    pub gateway_id: String,
    /// Sealed JSON; `None`: not there yet, or never.
    pub answer: Option<String>,
    /// What it cost.
    pub amount_nanousd: Option<Nanousd>,
    /// When it was claimed.
    pub created_at: Micros,
    /// `open` or `settled`; `None` when the request has no row, be it not yet.
    pub request_state: Option<String>,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerClaim {
    /// It is ours.
    Ours,
    /// Somebody was first.
    Taken(AnswerRow),
    /// Somebody was first and gave it back meanwhile: it may be claimed anew.
    GivenBack,
}

/// An answer to be kept with its settlement.
#[derive(Debug, Clone)]
pub struct AnswerToKeep {
    /// Under which key.
    pub key: AnswerKey,
    /// Sealed JSON.
    pub answer: String,
}

impl Store {
    /// Claims a key that nobody has, or whose answer is from `oldest` or before.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn answer_claim(&self, new: NewAnswerClaim, oldest: Micros) -> Result<AnswerClaim> {
        self.transaction(move |tx| Box::pin(async move { tx.answer_claim(&new, oldest).await })).await
    }

    /// Takes a claim over whose request, `from`, will not bring an answer. `false` when it is not its claim any more, or
    /// the answer is there.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn answer_take_over(&self, new: NewAnswerClaim, from: RequestId) -> Result<bool> {
        self.detached(move |db| async move {
            let AnswerKey { tenant_id, key_id, idempotency_key } = new.key;
            on!(db.write(), c => query(
                "UPDATE kept_answers SET request_id = $5, gateway_id = $6, created_at = $7
                 WHERE tenant_id = $1 AND key_id = $2 AND idempotency_key = $3 AND request_id = $4 AND answer IS NULL",
                [tenant_id, key_id, idempotency_key, from, new.request_id, new.gateway_id, new.created_at],
            ).execute(c).await.map(|done| done.rows_affected() == 1))
        })
        .await
    }

    /// Gives a claim back that brought no answer; nothing happens when it is another request's by now.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn answer_release(&self, key: AnswerKey, request_id: RequestId) -> Result<()> {
        self.detached(move |db| async move {
            let AnswerKey { tenant_id, key_id, idempotency_key } = key;
            on!(db.write(), c => query(
                "DELETE FROM kept_answers WHERE tenant_id = $1 AND key_id = $2 AND idempotency_key = $3
                     AND request_id = $4 AND answer IS NULL",
                [tenant_id, key_id, idempotency_key, request_id],
            ).execute(c).await.map(drop))
        })
        .await
    }

    /// Forgets answers, and claims, from `until` or before; how many.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn answers_forget(&self, until: Micros) -> Result<u64> {
        self.detached(move |db| async move {
            on!(db.write(), c => query(
                "DELETE FROM kept_answers WHERE created_at <= $1",
                [until],
            ).execute(c).await.map(|done| done.rows_affected()))
        })
        .await
    }
}

impl Tx {
    async fn answer_claim(&mut self, new: &NewAnswerClaim, oldest: Micros) -> Result<AnswerClaim> {
        let AnswerKey { tenant_id, key_id, idempotency_key } = &new.key;
        on!(self.connection(), c => query(
            "DELETE FROM kept_answers
             WHERE tenant_id = $1 AND key_id = $2 AND idempotency_key = $3 AND created_at <= $4",
            [tenant_id, key_id, idempotency_key, oldest],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)?;
        let inserted = on!(self.connection(), c => query(
            "INSERT INTO kept_answers (tenant_id, key_id, idempotency_key, call_digest, request_id, gateway_id, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            [tenant_id, key_id, idempotency_key, &new.call_digest, &new.request_id, &new.gateway_id, new.created_at],
        ).execute(c).await.map(|done| done.rows_affected() == 1))
        .map_err(super::dialect::classify)?;
        if inserted {
            return Ok(AnswerClaim::Ours);
        }
        on!(self.connection(), c => query_as(
            "SELECT k.call_digest, k.request_id, k.gateway_id, k.answer, k.amount_nanousd, k.created_at,
                 r.state AS request_state
             FROM kept_answers k LEFT JOIN requests r ON r.tenant_id = k.tenant_id AND r.id = k.request_id
             WHERE k.tenant_id = $1 AND k.key_id = $2 AND k.idempotency_key = $3",
            [tenant_id, key_id, idempotency_key],
        ).fetch_optional(c).await)
        // PostgreSQL looks anew for each statement, and in between a claim may be released.
        .map(|row| row.map_or(AnswerClaim::GivenBack, AnswerClaim::Taken))
        .map_err(super::dialect::classify)
    }

    /// Keeps an answer, if the key is still claimed for this request.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn answer_keep(&mut self, keep: &AnswerToKeep, request_id: &RequestId, amount: Nanousd) -> Result<()> {
        let AnswerKey { tenant_id, key_id, idempotency_key } = &keep.key;
        on!(self.connection(), c => query(
            "UPDATE kept_answers SET answer = $5, amount_nanousd = $6
             WHERE tenant_id = $1 AND key_id = $2 AND idempotency_key = $3 AND request_id = $4",
            [tenant_id, key_id, idempotency_key, request_id, &keep.answer, amount],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }
}
