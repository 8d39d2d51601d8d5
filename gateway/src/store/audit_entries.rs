//! The audit log as it is read: in pages for people, whole for checking.

use super::Store;
use crate::clock::Micros;
use crate::error::Result;
use crate::id::TenantId;

/// Two texts, since one for both would find a tenant's few entries by looking through everybody's.
pub(super) const OF_TENANT: &str =
    "SELECT seq, at, tenant_id, action, target_kind, target_id, author_id, record, digest, seal
     FROM audit_log
     WHERE tenant_id = $1 AND seq < $2
       AND (CAST($3 AS TEXT) IS NULL OR action = $3)
       AND (CAST($4 AS TEXT) IS NULL OR target_kind = $4)
       AND (CAST($5 AS TEXT) IS NULL OR target_id = $5)
       AND (CAST($6 AS TEXT) IS NULL OR author_id = $6)
       AND (CAST($7 AS BIGINT) IS NULL OR at >= $7) AND (CAST($8 AS BIGINT) IS NULL OR at < $8)
     ORDER BY seq DESC LIMIT $9";
const OF_ALL: &str = "SELECT seq, at, tenant_id, action, target_kind, target_id, author_id, record, digest, seal
     FROM audit_log
     WHERE seq < $1
       AND (CAST($2 AS TEXT) IS NULL OR action = $2)
       AND (CAST($3 AS TEXT) IS NULL OR target_kind = $3)
       AND (CAST($4 AS TEXT) IS NULL OR target_id = $4)
       AND (CAST($5 AS TEXT) IS NULL OR author_id = $5)
       AND (CAST($6 AS BIGINT) IS NULL OR at >= $6) AND (CAST($7 AS BIGINT) IS NULL OR at < $7)
     ORDER BY seq DESC LIMIT $8";

/// Which entries. What is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// `project.create`
    pub action: Option<String>,
    /// `project`
    pub target_kind: Option<String>,
    /// Its public id.
    pub target_id: Option<String>,
    /// The author's credential.
    pub author_id: Option<String>,
    /// Made at this time or later, µs since 1970.
    pub from: Option<Micros>,
    /// Made before this time, µs since 1970.
    pub to: Option<Micros>,
}

/// An entry with all its columns, as they are: somebody may have changed them, so no id is checked here.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AuditRow {
    /// Its number, from 1.
    pub seq: i64,
    /// µs since 1970.
    pub at: Micros,
    /// Whose it is; `None`: the platform's.
    pub tenant_id: Option<String>,
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

/// The chain's end, and whether there is something that it does not cover.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AuditEndRow {
    /// Number of the last entry; 0 when there is none.
    pub seq: i64,
    /// Its digest.
    pub digest: String,
    /// Entries with numbers outside of 1 to `seq`.
    pub strays: i64,
}

impl Store {
    /// Entries with numbers below `before`, newest first, at most `limit`: one tenant's, or for operators all.
    pub async fn audit_entries(
        &self,
        tenant: Option<&TenantId>,
        filter: &AuditFilter,
        before: i64,
        limit: i64,
    ) -> Result<Vec<AuditRow>> {
        let (of, filter) = (tenant.cloned(), filter.clone());
        self.report(tenant, move |connection| {
            Box::pin(async move {
                let AuditFilter { action, target_kind, target_id, author_id, from, to } = filter;
                match of {
                    Some(of) => on!(connection, c => query_as(
                        OF_TENANT, [of, before, action, target_kind, target_id, author_id, from, to, limit],
                    ).fetch_all(c).await),
                    None => on!(connection, c => query_as(
                        OF_ALL, [before, action, target_kind, target_id, author_id, from, to, limit],
                    ).fetch_all(c).await),
                }
            })
        })
        .await
    }

    /// Entries with numbers above `after` and up to `until`, oldest first, at most `limit`. The casts read what SQLite
    /// would let anybody put into a column: it must be found, not fail.
    pub async fn audit_rows(&self, after: i64, until: i64, limit: i64) -> Result<Vec<AuditRow>> {
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT CAST(seq AS BIGINT) AS seq, CAST(at AS BIGINT) AS at, CAST(tenant_id AS TEXT) AS tenant_id,
                        CAST(action AS TEXT) AS action, CAST(target_kind AS TEXT) AS target_kind,
                        CAST(target_id AS TEXT) AS target_id, CAST(author_id AS TEXT) AS author_id,
                        CAST(record AS TEXT) AS record, CAST(digest AS TEXT) AS digest, CAST(seal AS TEXT) AS seal
                 FROM audit_log WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3",
                [after, until, limit],
            ).fetch_all(c).await)
        })
        .await
    }

    /// The chain's end and what lies beyond it, at one moment. `None` when somebody removed the row that says so.
    pub async fn audit_end(&self) -> Result<Option<AuditEndRow>> {
        self.detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT h.seq, h.digest, (SELECT COUNT(*) FROM audit_log a WHERE a.seq > h.seq OR a.seq < 1) AS strays
                 FROM audit_head h WHERE h.one = 1",
                [],
            ).fetch_optional(c).await)
        })
        .await
    }
}
