//! The audit log, and the replies of creating calls that are kept for their repetition.

use super::{Store, Tx};
use crate::audit::Once;
use crate::clock::Micros;
use crate::error::Result;
use crate::id::TenantId;

/// How long a reply is kept, in µs: a day.
pub const IDEMPOTENCY_US: Micros = 24 * 3600 * 1_000_000;

/// The end of the chain.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AuditHeadRow {
    /// Number of the last entry; 0 when there is none.
    pub seq: i64,
    /// Its digest.
    pub digest: String,
}

/// What replicas need of an entry.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ChangeRow {
    /// Its number.
    pub seq: i64,
    /// Whose it is; `None`: the platform's.
    pub tenant_id: Option<TenantId>,
    /// `project.create`
    pub action: String,
    /// `project`
    pub target_kind: String,
    /// Its public id.
    pub target_id: String,
    /// Tells this history from another one that has as many entries.
    pub digest: String,
}

/// An entry to be appended.
#[derive(Debug, Clone)]
pub struct NewAuditEntry {
    /// One more than the last one's.
    pub seq: i64,
    /// µs since 1970.
    pub at: Micros,
    /// Whose it is; `None`: the platform's.
    pub tenant_id: Option<TenantId>,
    /// `project.create`
    pub action: String,
    /// `project`
    pub target_kind: String,
    /// Its public id.
    pub target_id: String,
    /// The author's credential.
    pub author_id: String,
    /// The whole entry as JSON.
    pub record: String,
    /// Chains it.
    pub digest: String,
    /// Seals it.
    pub seal: String,
}

/// A reply to be kept.
#[derive(Debug, Clone)]
pub struct NewIdempotentReply {
    once: Once,
    created_at: Micros,
}

/// A reply that was kept.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct IdempotentReplyRow {
    /// Digest of the request that it answered.
    pub request: String,
    /// Sealed.
    pub reply: String,
}

impl NewIdempotentReply {
    /// Kept from `now` on.
    pub fn new(once: &Once, now: Micros) -> NewIdempotentReply {
        NewIdempotentReply { once: once.clone(), created_at: now }
    }
}

impl Store {
    /// The end of the chain.
    pub async fn audit_head(&self) -> Result<AuditHeadRow> {
        self.detached(move |db| async move {
            on!(db.read(), c => query_as("SELECT seq, digest FROM audit_head WHERE one = 1", []).fetch_one(c).await)
        })
        .await
    }

    /// The reply that was kept under a caller's key since `since`.
    pub async fn idempotent_reply(&self, caller: &str, key: &str, since: Micros) -> Result<Option<IdempotentReplyRow>> {
        let (caller, key) = (caller.to_owned(), key.to_owned());
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT request, reply FROM idempotency_keys WHERE caller = $1 AND key = $2 AND created_at > $3",
                [caller, key, since],
            ).fetch_optional(c).await)
        })
        .await
    }

    /// Forgets replies from before `until`; how many.
    pub async fn idempotent_replies_forget(&self, until: Micros) -> Result<u64> {
        self.detached(move |db| async move {
            on!(db.write(), c => query(
                "DELETE FROM idempotency_keys WHERE created_at <= $1",
                [until],
            ).execute(c).await.map(|done| done.rows_affected()))
        })
        .await
    }
}

impl Tx {
    /// The end of the chain, which stays ours until the transaction ends: an UPDATE takes the row's lock on PostgreSQL,
    /// and SQLite has one writer anyway.
    pub async fn audit_head_lock(&mut self) -> Result<AuditHeadRow> {
        on!(self.connection(), c => query_as(
            "UPDATE audit_head SET one = 1 WHERE one = 1 RETURNING seq, digest", [],
        ).fetch_one(c).await)
        .map_err(super::dialect::classify)
    }

    /// Appends an entry and moves the end of the chain to it.
    ///
    /// # Errors
    /// `Conflict` when the number is taken.
    pub async fn audit_append(&mut self, new: &NewAuditEntry) -> Result<()> {
        on!(self.connection(), c => query(
            "INSERT INTO audit_log
                 (seq, at, tenant_id, action, target_kind, target_id, author_id, record, digest, seal)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            [
                new.seq, new.at, &new.tenant_id, &new.action, &new.target_kind, &new.target_id, &new.author_id,
                &new.record, &new.digest, &new.seal,
            ],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)?;
        on!(self.connection(), c => query(
            "UPDATE audit_head SET seq = $1, digest = $2 WHERE one = 1",
            [new.seq, &new.digest],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }

    /// Keeps a reply. One that is too old to count is replaced.
    ///
    /// # Errors
    /// `Conflict` when the caller's key is taken; on PostgreSQL after waiting for whoever is taking it.
    pub async fn idempotent_reply_insert(&mut self, new: &NewIdempotentReply) -> Result<()> {
        let Once { caller, key, request, reply } = &new.once;
        on!(self.connection(), c => query(
            "DELETE FROM idempotency_keys WHERE caller = $1 AND key = $2 AND created_at <= $3",
            [caller, key, new.created_at - IDEMPOTENCY_US],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)?;
        on!(self.connection(), c => query(
            "INSERT INTO idempotency_keys (caller, key, request, reply, created_at) VALUES ($1, $2, $3, $4, $5)",
            [caller, key, request, reply, new.created_at],
        ).execute(c).await.map(drop))
        .map_err(super::dialect::classify)
    }
}
