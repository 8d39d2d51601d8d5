//! The log as it is read.

use super::{Author, End, Exported, Line, Mark, Record, Sealer, Walk, Walked};
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

/// The log from number `from` to what is its end now, oldest first, as it is stored, and a final line that says where it
/// ends; it is read in batches, as fast as it is taken.
///
/// # Errors
/// Those of the store, at first or in the midst.
pub async fn export(store: &Store, from: i64) -> Result<impl Stream<Item = Result<Exported>> + Send + use<>> {
    let end = store.audit_end().await?.map(|end| Mark { seq: end.seq, digest: end.digest });
    let start = Mark { seq: from.saturating_sub(1), digest: String::new() };
    let exporting = Exporting { store: store.clone(), end, last: start, entries: 0, batch: VecDeque::new() };
    Ok(stream::try_unfold(Some(exporting), |exporting| async {
        match exporting {
            Some(exporting) => exporting.next().await.map(Some),
            None => Ok(None),
        }
    }))
}

struct Exporting {
    store: Store,
    /// `None` when somebody has removed the row that says so: there is still a log to be had.
    end: Option<Mark>,
    last: Mark,
    entries: u64,
    batch: VecDeque<AuditRow>,
}

impl Exporting {
    /// The next line, and what comes after it; nothing comes after the final one.
    async fn next(mut self) -> Result<(Exported, Option<Exporting>)> {
        if self.batch.is_empty() {
            let until = self.end.as_ref().map_or(i64::MAX, |end| end.seq);
            self.batch = self.store.audit_rows(self.last.seq, until, BATCH).await?.into();
        }
        let Some(AuditRow { seq, record, digest, seal, .. }) = self.batch.pop_front() else {
            return Ok((Exported::End(End { head: self.end.unwrap_or(self.last), entries: self.entries }), None));
        };
        self.last = Mark { seq, digest: digest.clone() };
        self.entries += 1;
        Ok((Exported::Entry(Line { seq, record, digest, seal }), Some(self)))
    }
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
