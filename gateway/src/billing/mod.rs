//! From counted tokens to money: the request's durable row, its usage record, its ledger entry.

use crate::auth::Principal;
use crate::catalog::Price;
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{KeyId, LedgerEntryId, ProjectId, RequestId, TenantId};
use crate::inference::{Dialect, Usage};
use crate::money::Nanousd;
use crate::store::Store;
use serde::Serialize;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A complete answer.
    Completed,
    /// The caller went away, and generation was stopped.
    ClientGone,
    /// It failed; what was generated before is charged.
    Failed,
    /// Ended by this gateway's shutdown.
    Shutdown,
    /// The gateway died under it; settled afterwards from the worker's receipt.
    Recovered,
    /// The gateway died under it and no worker remembers it; nothing is charged.
    Lost,
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
    pub accepted_at_us: Micros,
    /// When it was settled, µs since 1970.
    pub settled_at_us: Option<Micros>,
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
    pub created_at_us: Micros,
}

/// Makes the request's row durable. The one door, so that a group-committed journal can take its place.
///
/// # Errors
/// `Conflict` when the id is known already; `Internal`.
pub async fn open_request(store: &Store, request: &OpenRequest) -> Result<()> {
    let _ = (store, request);
    todo!("G1")
}

/// Notes which worker a further attempt goes to, so that a receipt can be asked for after a crash.
///
/// # Errors
/// `Internal`
pub async fn note_worker(store: &Store, id: &RequestId, decode: &str, attempt: u32) -> Result<()> {
    let _ = (store, id, decode, attempt);
    todo!("G1")
}

/// Settles once: usage record and ledger entry in one transaction. A second call changes nothing and returns the first
/// one's amount.
///
/// # Errors
/// `NotFound` for a request never opened; `Internal`.
pub async fn settle(store: &Store, settlement: &Settlement) -> Result<Nanousd> {
    let _ = (store, settlement);
    todo!("G1")
}

/// A request with its ledger entry.
///
/// # Errors
/// `NotFound`; `Internal`.
pub async fn request_record(store: &Store, id: &RequestId) -> Result<RequestRecord> {
    let _ = (store, id);
    todo!("G1")
}

/// An open request, as recovery needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRow {
    /// Its id.
    pub id: RequestId,
    /// The worker it was sent to last.
    pub decode: Option<String>,
    /// Which attempt that was.
    pub attempt: u32,
    /// The model that answers, which names the cluster.
    pub model: String,
}

/// Open requests of one replica that were accepted before `accepted_before`, oldest first, a bounded number.
///
/// # Errors
/// `Internal`
pub async fn open_requests(store: &Store, gateway_id: &str, accepted_before: Micros) -> Result<Vec<OpenRow>> {
    let _ = (store, gateway_id, accepted_before);
    todo!("G1")
}

/// Open requests of any replica whose lease ended before `now`, longest ago first, at most `limit`.
///
/// # Errors
/// `Internal`
pub async fn expired_requests(store: &Store, now: Micros, limit: u32) -> Result<Vec<OpenRow>> {
    let _ = (store, now, limit);
    todo!("G1")
}

/// Moves the lease of all open requests of one replica forward. How many it moved.
///
/// # Errors
/// `Internal`
pub async fn renew_leases(store: &Store, gateway_id: &str, until: Micros) -> Result<u64> {
    let _ = (store, gateway_id, until);
    todo!("G1")
}
