//! The cluster's workers as this gateway knows them.

use super::call::{Call, Reply};
use super::examples;
use super::page::Page;
use super::time::Time;
use crate::app::App;
use crate::tenants::Permission;
use crate::upstream::WorkerStatus;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use cluster_protocol::WorkerInfo;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A worker, as this gateway knows it by its last probe.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::worker())))]
pub struct WorkerView {
    /// Its cluster's name in the configuration.
    pub cluster: String,
    /// Its id in the configuration.
    pub worker_id: String,
    /// `prefill` or `decode`.
    pub role: String,
    /// Where it is reached.
    pub address: String,
    /// Whether it is asked for answers.
    pub healthy: bool,
    /// Since when it is healthy, or is not.
    pub since: Time,
    /// Requests that this gateway has on it.
    pub in_flight: u32,
    /// Why it was last taken for down; absent if it never was since this gateway's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<WorkerErrorView>,
    /// What it says of itself; absent while it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<WorkerReportView>,
}

/// Why a worker was taken for down.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WorkerErrorView {
    /// In words.
    pub detail: String,
    /// When it was last so.
    pub at: Time,
}

/// What a worker says of itself.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WorkerReportView {
    /// `llama` or `sim`.
    pub engine: String,
    /// The model's name, from its file.
    pub model: String,
    /// Start of its engine in µs since 1970; grows with every restart, and is what logs name.
    pub epoch: u64,
    /// Digest of what must be equal on all workers of a cluster: engine, build, model file and settings.
    pub fingerprint: String,
    /// Digest of the model's template and vocabulary.
    pub card_digest: String,
    /// Most tokens of prompt and answer together.
    pub context_tokens: u32,
    /// Sequences generated at the same time.
    pub slots: u32,
    /// Requests that hold a slot, of any gateway.
    pub running: u32,
    /// Requests that wait for one, of any gateway.
    pub waiting: u32,
    /// KV cells, one per token.
    pub cells: u32,
    /// KV cells that are reserved.
    pub cells_reserved: u32,
}

impl From<WorkerStatus> for WorkerView {
    fn from(status: WorkerStatus) -> WorkerView {
        WorkerView {
            cluster: status.cluster,
            worker_id: status.worker,
            role: status.role.as_str().to_owned(),
            address: status.address,
            healthy: status.down.is_none(),
            since: Time(status.since),
            in_flight: status.in_flight,
            last_error: status.last_error.map(|(detail, at)| WorkerErrorView { detail, at: Time(at) }),
            reported: status.info.map(|info| WorkerReportView::from(*info)),
        }
    }
}

impl From<WorkerInfo> for WorkerReportView {
    fn from(info: WorkerInfo) -> WorkerReportView {
        WorkerReportView {
            fingerprint: info.fingerprint.digest(),
            engine: info.engine,
            model: info.model,
            epoch: info.epoch,
            card_digest: info.card_digest,
            context_tokens: info.context_tokens,
            slots: info.slots,
            running: info.load.running,
            waiting: info.load.waiting,
            cells: info.cells,
            cells_reserved: info.load.cells_reserved,
        }
    }
}

/// Lists all configured workers, decode before prefill. They are few, so they come on one page.
#[utoipa::path(
    get, path = "/admin/v1/cluster/workers", operation_id = "list_workers", tag = "cluster",
    responses((status = 200, body = Page<WorkerView>)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("read_platform")))
)]
pub async fn list(State(app): State<Arc<App>>, request: Request) -> Reply {
    Call::admit(&app, request, Permission::ReadPlatform).await?;
    let data = app.upstreams.status().into_iter().map(WorkerView::from).collect();
    Ok(Json(Page::<WorkerView> { data, has_more: false, next_after: None }).into_response())
}
