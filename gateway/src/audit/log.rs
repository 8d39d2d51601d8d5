//! The log as it is read.

use super::{Author, Line, Mark, Record, Sealer, Walk, Walked};
use crate::clock::Micros;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::secrets::Secrets;
use crate::store::{AuditFilter, AuditRow, Store};
use futures::stream::{self, Stream};
use serde::Deserialize;
use std::collections::VecDeque;

/// Entries in memory at a time while the whole log is gone through.
const BATCH: i64 = 200;

/// An entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its number, from 1 and without gaps.
    pub seq: i64,
    /// µs since 1970.
    pub at: Micros,
    /// Who made the change.
    pub author: Author,
    /// The change.
    pub record: Record,
    /// Chains it.
    pub digest: String,
}

#[derive(Debug, Deserialize)]
struct Stored {
    seq: i64,
    at: Micros,
    author: Author,
    #[serde(flatten)]
    record: Record,
}

/// Entries with numbers below `before`, newest first, at most `limit`: one tenant's, or for operators all.
///
/// # Errors
/// `Internal` for an entry that somebody has made unreadable; those of the store.
pub async fn entries(
    store: &Store,
    tenant: Option<&TenantId>,
    filter: &AuditFilter,
    before: i64,
    limit: i64,
) -> Result<Vec<Entry>> {
    store.audit_entries(tenant, filter, before, limit).await?.into_iter().map(entry).collect()
}

fn entry(row: AuditRow) -> Result<Entry> {
    let Stored { seq, at, author, record } = serde_json::from_str(&row.record).map_err(|error| {
        let text = format!("Entry {} of the audit log can't be read. `caprock audit verify` says more.", row.seq);
        Error::new(ErrorKind::Internal, text).caused_by(error)
    })?;
    Ok(Entry { seq, at, author, record, digest: row.digest })
}

/// The log from number `from` to what is its end now, oldest first, as it is stored; it is read in batches, as fast as
/// it is taken.
///
/// # Errors
/// Those of the store, at first or in the midst.
pub async fn export(store: &Store, from: i64) -> Result<impl Stream<Item = Result<Line>> + Send + use<>> {
    // Without an end there is still a log to be had.
    let until = store.audit_end().await?.map_or(i64::MAX, |end| end.seq);
    let start = (store.clone(), from.saturating_sub(1), VecDeque::new());
    Ok(stream::try_unfold(start, move |(store, mut after, mut batch)| async move {
        if batch.is_empty() {
            batch = store.audit_rows(after, until, BATCH).await?.into();
        }
        let Some(AuditRow { seq, record, digest, seal, .. }) = batch.pop_front() else { return Ok(None) };
        after = seq;
        Ok(Some((Line { seq, record, digest, seal }, (store, after, batch))))
    }))
}

/// Goes through the whole log as it is now: digests, seals, numbers, columns, its end, and `anchor`, what this gateway
/// had seen of it before.
///
/// # Errors
/// Those of the store.
pub async fn verify(store: &Store, secrets: &Secrets, anchor: Option<Mark>) -> Result<Walked> {
    let sealer = Sealer::new(secrets);
    let mut walk = Walk::sealed(&sealer, anchor);
    let end = store.audit_end().await?;
    let until = end.as_ref().map_or(i64::MAX, |end| end.seq);
    let mut after = 0;
    while !walk.is_over() {
        let rows = store.audit_rows(after, until, BATCH).await?;
        let Some(last) = rows.last() else { break };
        after = last.seq;
        rows.iter().for_each(|row| walk.row(row));
    }
    let strays = end.as_ref().map_or(0, |end| u64::try_from(end.strays).unwrap_or(u64::MAX));
    let end = end.map(|end| Mark { seq: end.seq, digest: end.digest });
    Ok(walk.end_at(end.as_ref(), strays))
}
