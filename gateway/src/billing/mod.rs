//! From counted tokens to money: the request's durable row, its usage record, its ledger entry.
//!
//! The model, who owns what, and the invariants are on the page `README.md` beside this file.

mod open;
mod rating;
mod record;
mod recovery;
mod settle;
mod usage;

use crate::auth::Principal;
use crate::catalog::Price;
use crate::clock::Micros;
use crate::id::{KeyId, LedgerEntryId, ProjectId, RequestId, TenantId};
use crate::inference::{Dialect, Usage};
use crate::money::Nanousd;
use crate::store::AnswerToKeep;
use serde::Serialize;

pub use crate::store::{OpenRow, RequestFilter, RequestListRow};
pub use open::{note_worker, open_request};
pub use rating::rate;
pub use record::{balance, request_record, request_record_of, requests};
pub use recovery::{admitted_since, expired_requests, open_requests, renew_leases};
pub use settle::{Settled, settle};
pub use usage::{Bucket, Group, Grouping, Sums, UsageOf, UsagePage, usage};

/// What is made durable before a request's first byte leaves.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// Its id.
    pub id: RequestId,
    /// Who pays.
    pub principal: Principal,
    /// How it came.
    pub dialect: Dialect,
    /// The model asked for.
    pub model_asked: String,
    /// The model that answers, whose price counts.
    pub model: String,
    /// Pinned here: settlement uses it whatever the catalog says by then.
    pub price: Price,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Most output tokens.
    pub max_output_tokens: u64,
    /// When its head was read.
    pub accepted_at: Micros,
    /// The decode worker that the first attempt goes to, noted here so that most requests need no second write.
    pub decode: String,
    /// The replica that runs it.
    pub gateway_id: String,
    /// Until then the replica is believed alive; it renews the lease of all its open requests together.
    pub lease_until: Micros,
}

/// How a request ended. Each has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A complete answer.
    Completed,
    /// The caller went away, and generation was stopped.
    ClientGone,
    /// It failed: before the first token nothing is charged, afterwards what was computed.
    Failed,
    /// The caller's credential ended under it: revoked, or its tenant suspended.
    Revoked,
    /// Ended by this gateway's shutdown.
    Shutdown,
    /// The gateway died under it; settled afterwards from the worker's receipt.
    Recovered,
    /// The gateway died under it and no worker remembers it; nothing is charged.
    Lost,
}

impl Outcome {
    /// As the store and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::ClientGone => "client_gone",
            Outcome::Failed => "failed",
            Outcome::Revoked => "revoked",
            Outcome::Shutdown => "shutdown",
            Outcome::Recovered => "recovered",
            Outcome::Lost => "lost",
        }
    }
}

/// What settles a request.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Which.
    pub id: RequestId,
    /// How it ended.
    pub outcome: Outcome,
    /// Exact, from the engine.
    pub usage: Usage,
    /// For the record: finish reason, error kind, stages, worker path.
    pub detail: Detail,
    /// When it ended.
    pub ended_at: Micros,
    /// The answer, where its caller may ask for it again. In the same transaction: an answer is paid once, however often
    /// it is given.
    pub keep: Option<AnswerToKeep>,
}

/// What an operator sees of a request besides money. Stored as JSON, opaque to SQL.
#[derive(Debug, Clone, Default, PartialEq, Serialize, serde::Deserialize)]
pub struct Detail {
    /// Why the answer ended.
    pub finish: Option<cluster_protocol::FinishReason>,
    /// Kind of failure.
    pub error: Option<String>,
    /// Which workers did it.
    pub path: Option<cluster_protocol::Path>,
    /// The decode worker that was asked, even when no `Done` came back; with `attempt`, what a receipt is asked for.
    pub decode: Option<String>,
    /// Tries, from 1.
    pub attempt: u32,
    /// Stages inside the cluster.
    pub timings: Option<cluster_protocol::Timings>,
    /// To the first token.
    pub ttft_ms: Option<u64>,
    /// To the last.
    pub latency_ms: Option<u64>,
}

/// A request as the operator sees it.
#[derive(Debug, Clone, Serialize)]
pub struct RequestRecord {
    /// Its id.
    pub request_id: RequestId,
    /// Who paid.
    pub tenant_id: TenantId,
    /// For which project.
    pub project_id: ProjectId,
    /// With which credential.
    pub key_id: KeyId,
    /// How it came.
    pub dialect: String,
    /// The model asked for.
    pub model_asked: String,
    /// The model that answered.
    pub model: String,
    /// `open` or `settled`.
    pub state: String,
    /// How it ended; absent while open.
    pub outcome: Option<String>,
    /// Counted by the engine.
    pub input_tokens: u64,
    /// Counted by the engine.
    pub output_tokens: u64,
    /// When its head was read, µs since 1970.
    pub accepted_at: Micros,
    /// When it was settled, µs since 1970.
    pub settled_at: Option<Micros>,
    /// Worker path, stages, finish.
    pub detail: Detail,
    /// Its line of the ledger.
    pub ledger_entry: Option<LedgerEntryView>,
}

/// A ledger entry as the operator sees it.
#[derive(Debug, Clone, Serialize)]
pub struct LedgerEntryView {
    /// Its id.
    pub entry_id: LedgerEntryId,
    /// What the tenant owes for it.
    pub amount_nanousd: Nanousd,
    /// The prices it was rated with.
    pub price: Price,
    /// When, µs since 1970.
    pub created_at: Micros,
}

/// The ledger entry that settles a request.
const INFERENCE: &str = "inference";

#[cfg(test)]
mod history;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod usage_history;
