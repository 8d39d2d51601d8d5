//! A request as the admin API shows it. Kept apart from the record, so that the API changes only on purpose.

use super::examples;
use super::time::Time;
use crate::billing::{LedgerEntryView, RequestRecord};
use cluster_protocol::{FinishReason, PrefillPath};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What became of a request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::request())))]
pub struct RequestView {
    /// `req_…`
    pub request_id: String,
    /// Who paid.
    pub tenant_id: String,
    /// For which project.
    pub project_id: String,
    /// With which credential.
    pub key_id: String,
    /// `openai_chat` or `bedrock_converse`.
    pub dialect: String,
    /// The model asked for.
    pub model_asked: String,
    /// The model that answered, whose price counts.
    pub model: String,
    /// `open` or `settled`.
    pub state: String,
    /// `completed`, `client_gone`, `failed`, `revoked`, `shutdown`, `recovered` or `lost`; absent while open.
    pub outcome: Option<String>,
    /// Kind of failure.
    pub error: Option<String>,
    /// Why the answer ended: `end_of_turn`, `stop_sequence`, `max_tokens`, `context_full` or `stopped`.
    pub finish: Option<String>,
    /// Of the prompt, counted by the engine.
    pub input_tokens: u64,
    /// Of the answer, counted by the engine.
    pub output_tokens: u64,
    /// When it was accepted.
    pub accepted_at: Time,
    /// When it was settled; absent while open.
    pub settled_at: Option<Time>,
    /// To the first token.
    pub ttft_ms: Option<u64>,
    /// To the last.
    pub latency_ms: Option<u64>,
    /// Tries, from 1.
    pub attempt: u32,
    /// Which workers did it; absent when no worker finished it.
    pub path: Option<PathView>,
    /// Stages inside the cluster.
    pub timings: Option<TimingsView>,
    /// Its line of the ledger; absent while open.
    pub ledger_entry: Option<LedgerEntry>,
}

/// Which workers computed a request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PathView {
    /// `llama` or `sim`.
    pub engine: String,
    /// Id of the decode worker.
    pub decode: String,
    /// Where the prompt was computed.
    pub prefill: PrefillView,
}

/// Where a prompt was computed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum PrefillView {
    /// On a prefill worker, its KV cache handed over.
    Remote {
        /// Its id.
        prefill_id: String,
        /// KV bytes moved.
        kv_bytes: u64,
        /// In how many chunks.
        chunks: u32,
    },
    /// Where it was decoded.
    Local {
        /// Why.
        reason: String,
    },
}

/// Stages inside the cluster, as the decode worker saw them.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TimingsView {
    /// Waiting for slot and cells.
    pub queue_us: u64,
    /// Computing the prompt.
    pub prefill_us: u64,
    /// From the end of prefill to the committed hand-off.
    pub handoff_us: u64,
    /// From the first token to the last.
    pub decode_us: u64,
}

/// A line of the ledger.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LedgerEntry {
    /// `led_…`
    pub entry_id: String,
    /// What the tenant owes.
    pub amount_nanousd: i64,
    /// The price per prompt token that it was rated with.
    pub input_picousd_per_token: i64,
    /// The price per generated token that it was rated with.
    pub output_picousd_per_token: i64,
    /// Where the prices come from.
    pub price_source: String,
    /// When it was written.
    pub created_at: Time,
}

impl From<RequestRecord> for RequestView {
    fn from(record: RequestRecord) -> RequestView {
        let detail = record.detail;
        RequestView {
            request_id: record.request_id.to_string(),
            tenant_id: record.tenant_id.to_string(),
            project_id: record.project_id.to_string(),
            key_id: record.key_id.to_string(),
            dialect: record.dialect,
            model_asked: record.model_asked,
            model: record.model,
            state: record.state,
            outcome: record.outcome,
            error: detail.error,
            finish: detail.finish.as_ref().map(|reason| finish_name(reason).to_owned()),
            input_tokens: record.input_tokens,
            output_tokens: record.output_tokens,
            accepted_at: Time(record.accepted_at),
            settled_at: record.settled_at.map(Time),
            ttft_ms: detail.ttft_ms,
            latency_ms: detail.latency_ms,
            attempt: detail.attempt,
            path: detail.path.map(PathView::from),
            timings: detail.timings.map(TimingsView::from),
            ledger_entry: record.ledger_entry.map(LedgerEntry::from),
        }
    }
}

fn finish_name(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::EndOfTurn => "end_of_turn",
        FinishReason::StopSequence { .. } => "stop_sequence",
        FinishReason::MaxTokens => "max_tokens",
        FinishReason::ContextFull => "context_full",
        FinishReason::Stopped => "stopped",
    }
}

impl From<cluster_protocol::Path> for PathView {
    fn from(path: cluster_protocol::Path) -> PathView {
        let prefill = match path.prefill {
            PrefillPath::Remote { prefill_id, kv_bytes, chunks } => {
                PrefillView::Remote { prefill_id, kv_bytes, chunks }
            }
            PrefillPath::Local { reason } => PrefillView::Local { reason: reason.as_str().to_owned() },
        };
        PathView { engine: path.engine, decode: path.decode, prefill }
    }
}

impl From<cluster_protocol::Timings> for TimingsView {
    fn from(timings: cluster_protocol::Timings) -> TimingsView {
        TimingsView {
            queue_us: timings.queue_us,
            prefill_us: timings.prefill_us,
            handoff_us: timings.handoff_us,
            decode_us: timings.decode_us,
        }
    }
}

impl From<LedgerEntryView> for LedgerEntry {
    fn from(entry: LedgerEntryView) -> LedgerEntry {
        LedgerEntry {
            entry_id: entry.entry_id.to_string(),
            amount_nanousd: entry.amount_nanousd.0,
            input_picousd_per_token: entry.price.input.0,
            output_picousd_per_token: entry.price.output.0,
            price_source: entry.price.source,
            created_at: Time(entry.created_at),
        }
    }
}
