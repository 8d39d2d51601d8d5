//! Lists of a tenant's requests.

use super::Store;
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{KeyId, ProjectId, RequestId, TenantId};
use crate::money::Nanousd;

/// Which requests of a tenant. What is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct RequestFilter {
    /// Accepted at this time or later, µs since 1970.
    pub from: Micros,
    /// Accepted before this time, µs since 1970.
    pub to: Micros,
    /// Of this project.
    pub project: Option<ProjectId>,
    /// With this credential.
    pub key: Option<KeyId>,
    /// Answered by this model.
    pub model: Option<String>,
    /// `open` or `settled`
    pub state: Option<&'static str>,
    /// Ended like this.
    pub outcome: Option<&'static str>,
    /// Came by this API.
    pub dialect: Option<&'static str>,
}

/// A request in a list: what became of it in tokens and money, without its stages.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)] // as in `billing::RequestRecord`
pub struct RequestListRow {
    pub id: RequestId,
    pub project_id: ProjectId,
    pub key_id: KeyId,
    pub dialect: String,
    pub model_asked: String,
    pub model: String,
    pub state: String,
    pub outcome: Option<String>,
    /// The engine's count once settled, the gateway's before.
    #[sqlx(try_from = "i64")]
    pub input_tokens: u64,
    #[sqlx(try_from = "i64")]
    pub output_tokens: u64,
    /// `None` while it is open.
    pub amount_nanousd: Option<Nanousd>,
    pub accepted_at: Micros,
    pub settled_at: Option<Micros>,
}

impl Store {
    /// Those of a tenant with ids between `above` and `below`, neither included, newest id first. Ids carry their time, so
    /// the bounds keep the look-up as short as the range of time is.
    pub async fn requests_of_tenant(
        &self,
        tenant: &TenantId,
        filter: &RequestFilter,
        (above, below): (String, String),
        limit: i64,
    ) -> Result<Vec<RequestListRow>> {
        let (of, filter) = (tenant.clone(), filter.clone());
        self.report(Some(tenant), move |connection| {
            Box::pin(async move {
                on!(connection, c => query_as(
                "SELECT r.id, r.project_id, r.key_id, r.dialect, r.model_asked, r.model, r.state, r.outcome,
                        COALESCE(u.input_tokens + u.cache_read_tokens + u.cache_write_tokens, r.input_tokens)
                            AS input_tokens,
                        COALESCE(u.output_tokens + u.reasoning_tokens, 0) AS output_tokens,
                        e.amount_nanousd, r.accepted_at, r.settled_at
                 FROM requests r
                 LEFT JOIN usage_records u ON u.request_id = r.id
                 LEFT JOIN ledger_entries e ON e.request_id = r.id AND e.kind = 'inference'
                 WHERE r.tenant_id = $1 AND r.id > $2 AND r.id < $3 AND r.accepted_at >= $4 AND r.accepted_at < $5
                   AND (CAST($6 AS TEXT) IS NULL OR r.project_id = $6)
                   AND (CAST($7 AS TEXT) IS NULL OR r.key_id = $7)
                   AND (CAST($8 AS TEXT) IS NULL OR r.model = $8)
                   AND (CAST($9 AS TEXT) IS NULL OR r.state = $9)
                   AND (CAST($10 AS TEXT) IS NULL OR r.outcome = $10)
                   AND (CAST($11 AS TEXT) IS NULL OR r.dialect = $11)
                 ORDER BY r.id DESC LIMIT $12",
                [
                    of, above, below, filter.from, filter.to, filter.project, filter.key, filter.model,
                    filter.state, filter.outcome, filter.dialect, limit,
                ],
            ).fetch_all(c).await)
            })
        })
        .await
    }
}
