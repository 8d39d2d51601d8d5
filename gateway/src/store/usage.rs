//! Sums of what was used, in groups.

use super::Store;
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{KeyId, ProjectId, TenantId};
use crate::money::Nanousd;

/// What is summed, and by what.
#[derive(Debug, Clone)]
pub struct UsageFilter {
    /// Settled at this time or later, µs since 1970.
    pub from: Micros,
    /// Settled before this time, µs since 1970.
    pub to: Micros,
    /// Of this project.
    pub project: Option<ProjectId>,
    /// With this credential.
    pub key: Option<KeyId>,
    /// Answered by this model.
    pub model: Option<String>,
    /// Project by project.
    pub by_project: bool,
    /// Credential by credential.
    pub by_key: bool,
    /// Model by model.
    pub by_model: bool,
    /// By stretches of time of so many µs, counted from 1970; `i64::MAX` makes one of all.
    pub bucket_us: Micros,
}

/// Names a group. What it is not grouped by is the same for all: 0 or empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
pub struct UsageGroup {
    /// Start of its stretch of time, µs since 1970.
    pub bucket: Micros,
    /// `prj_…`
    pub project_id: String,
    /// `key_…`
    pub key_id: String,
    /// Catalog id.
    pub model: String,
}

impl UsageGroup {
    /// Sorts before every group.
    pub fn before_all() -> UsageGroup {
        UsageGroup { bucket: -1, project_id: String::new(), key_id: String::new(), model: String::new() }
    }
}

/// Sums of a group.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)] // as in `inference::Usage`
pub struct UsageRow {
    #[sqlx(flatten)]
    pub group: UsageGroup,
    /// How many were settled.
    #[sqlx(try_from = "i64")]
    pub requests: u64,
    #[sqlx(try_from = "i64")]
    pub input_tokens: u64,
    #[sqlx(try_from = "i64")]
    pub cache_read_tokens: u64,
    #[sqlx(try_from = "i64")]
    pub cache_write_tokens: u64,
    #[sqlx(try_from = "i64")]
    pub output_tokens: u64,
    #[sqlx(try_from = "i64")]
    pub reasoning_tokens: u64,
    /// What the ledger says is owed for them.
    pub amount_nanousd: Nanousd,
}

impl Store {
    /// The total first, under the name [`UsageGroup::before_all`], then the groups after `after` in order, at most
    /// `limit`. One statement, so that total and groups are of the same moment.
    ///
    /// # Errors
    /// `Invalid` when a sum is beyond 2⁶³ − 1: neither engine wraps.
    pub async fn usage(
        &self,
        tenant: &TenantId,
        filter: &UsageFilter,
        after: &UsageGroup,
        limit: i64,
    ) -> Result<Vec<UsageRow>> {
        let (of, filter, after) = (tenant.clone(), filter.clone(), after.clone());
        self.report(Some(tenant), move |connection| {
            Box::pin(async move {
                on!(connection, c => query_as(
                "WITH settled AS (
                     SELECT u.created_at - u.created_at % $7 AS bucket,
                            CASE WHEN $8 THEN u.project_id ELSE '' END AS project_id,
                            CASE WHEN $9 THEN u.key_id ELSE '' END AS key_id,
                            CASE WHEN $10 THEN u.model ELSE '' END AS model,
                            u.input_tokens, u.cache_read_tokens, u.cache_write_tokens, u.output_tokens,
                            u.reasoning_tokens, COALESCE(e.amount_nanousd, 0) AS amount_nanousd
                     FROM usage_records u
                     LEFT JOIN ledger_entries e ON e.request_id = u.request_id AND e.kind = 'inference'
                     WHERE u.tenant_id = $1 AND u.created_at >= $2 AND u.created_at < $3
                       AND (CAST($4 AS TEXT) IS NULL OR u.project_id = $4)
                       AND (CAST($5 AS TEXT) IS NULL OR u.key_id = $5)
                       AND (CAST($6 AS TEXT) IS NULL OR u.model = $6)
                 ),
                 grouped AS (
                     SELECT bucket, project_id, key_id, model, COUNT(*) AS requests,
                            CAST(SUM(input_tokens) AS BIGINT) AS input_tokens,
                            CAST(SUM(cache_read_tokens) AS BIGINT) AS cache_read_tokens,
                            CAST(SUM(cache_write_tokens) AS BIGINT) AS cache_write_tokens,
                            CAST(SUM(output_tokens) AS BIGINT) AS output_tokens,
                            CAST(SUM(reasoning_tokens) AS BIGINT) AS reasoning_tokens,
                            CAST(SUM(amount_nanousd) AS BIGINT) AS amount_nanousd
                     FROM settled GROUP BY bucket, project_id, key_id, model
                 ),
                 page AS (
                     SELECT * FROM grouped WHERE (bucket, project_id, key_id, model) > ($11, $12, $13, $14)
                     ORDER BY bucket, project_id, key_id, model LIMIT $15
                 )
                 SELECT CAST(-1 AS BIGINT) AS bucket, '' AS project_id, '' AS key_id, '' AS model,
                        CAST(COALESCE(SUM(requests), 0) AS BIGINT) AS requests,
                        CAST(COALESCE(SUM(input_tokens), 0) AS BIGINT) AS input_tokens,
                        CAST(COALESCE(SUM(cache_read_tokens), 0) AS BIGINT) AS cache_read_tokens,
                        CAST(COALESCE(SUM(cache_write_tokens), 0) AS BIGINT) AS cache_write_tokens,
                        CAST(COALESCE(SUM(output_tokens), 0) AS BIGINT) AS output_tokens,
                        CAST(COALESCE(SUM(reasoning_tokens), 0) AS BIGINT) AS reasoning_tokens,
                        CAST(COALESCE(SUM(amount_nanousd), 0) AS BIGINT) AS amount_nanousd
                 FROM grouped
                 UNION ALL
                 SELECT bucket, project_id, key_id, model, requests, input_tokens, cache_read_tokens,
                        cache_write_tokens, output_tokens, reasoning_tokens, amount_nanousd
                 FROM page
                 ORDER BY bucket, project_id, key_id, model",
                [
                    of, filter.from, filter.to, filter.project, filter.key, filter.model, filter.bucket_us,
                    filter.by_project, filter.by_key, filter.by_model, after.bucket, after.project_id, after.key_id,
                    after.model, limit,
                ],
            ).fetch_all(c).await)
            })
        })
        .await
    }
}
