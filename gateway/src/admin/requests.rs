//! What became of requests.

use super::call::{Call, Reply};
use super::examples;
use super::page::{self, Page};
use super::range::{Days, Range};
use super::time::Time;
use super::view::RequestView;
use crate::app::App;
use crate::billing::{self, Outcome, RequestFilter, RequestListRow};
use crate::error::{Error, Result};
use crate::id::{KeyId, ProjectId, RequestId};
use crate::inference::Dialect;
use crate::tenants::Permission;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// The range of a list.
const DAYS: Days = Days { default: 1, most: 31 };

/// A request in a list; the request itself shows more.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::listed_request())))]
pub struct RequestListView {
    /// `req_…`
    pub request_id: String,
    /// For which project.
    pub project_id: String,
    /// With which credential.
    pub key_id: String,
    /// By which API it came.
    pub dialect: String,
    /// The model asked for.
    pub model_asked: String,
    /// The model that answered, whose price counts.
    pub model: String,
    /// `open` or `settled`.
    pub state: String,
    /// How it ended; absent while open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Of the prompt: counted by the engine once settled, by the gateway before.
    pub input_tokens: u64,
    /// Of the answer, counted by the engine; 0 while open.
    pub output_tokens: u64,
    /// What the tenant owes for it; absent while open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount_nanousd: Option<i64>,
    /// When it was accepted.
    pub accepted_at: Time,
    /// When it was settled; absent while open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Time>,
}

/// Whether a request has ended.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// It is in work.
    Open,
    /// It has ended, and what it costs is on the ledger.
    Settled,
}

/// Which requests.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RequestQuery {
    /// Accepted at this time or later; a day before `to` unless given, and at most 31.
    pub from: Option<Time>,
    /// Accepted before this time; now unless given.
    pub to: Option<Time>,
    /// Most entries; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// Begin after this one: the former page's `next_after`.
    pub after: Option<String>,
    /// Of this project.
    pub project_id: Option<String>,
    /// With this credential.
    pub key_id: Option<String>,
    /// Answered by this model.
    pub model: Option<String>,
    /// In work, or ended.
    #[param(inline)]
    pub state: Option<RequestState>,
    /// Ended like this.
    #[param(inline)]
    pub outcome: Option<Outcome>,
    /// Came by this API.
    #[param(inline)]
    pub dialect: Option<Dialect>,
}

impl From<RequestListRow> for RequestListView {
    fn from(row: RequestListRow) -> RequestListView {
        RequestListView {
            request_id: row.id.to_string(),
            project_id: row.project_id.to_string(),
            key_id: row.key_id.to_string(),
            dialect: row.dialect,
            model_asked: row.model_asked,
            model: row.model,
            state: row.state,
            outcome: row.outcome,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            amount_nanousd: row.amount_nanousd.map(|amount| amount.0),
            accepted_at: Time(row.accepted_at),
            settled_at: row.settled_at.map(Time),
        }
    }
}

/// Lists a tenant's requests of a range of time, newest first.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/requests", operation_id = "list_requests", tag = "requests",
    params(("tenant_id" = String, Path, description = "`ten_…`"), RequestQuery),
    responses((status = 200, body = Page<RequestListView>)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_requests")))
)]
pub async fn list(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit_with_query(&app, request, Permission::ReadRequests).await?;
    let query: RequestQuery = call.query()?;
    let size = page::size(query.limit)?;
    let after = query.after.as_deref().map(after).transpose()?;
    let Range { from, to } = Range::of(query.from, query.to, call.now(), DAYS)?;
    let filter = RequestFilter {
        from,
        to,
        project: query.project_id.as_deref().map(project_id).transpose()?,
        key: query.key_id.as_deref().map(key_id).transpose()?,
        model: query.model,
        state: query.state.map(|state| match state {
            RequestState::Open => "open",
            RequestState::Settled => "settled",
        }),
        outcome: query.outcome.map(Outcome::as_str),
        dialect: query.dialect.map(Dialect::as_str),
    };
    let found = billing::requests(&call.reports(), call.tenant()?, &filter, after.as_ref(), page::rows(size)).await?;
    Ok(Json(Page::of(found, size, |row| row.id.to_string(), RequestListView::from)).into_response())
}

fn after(text: &str) -> Result<RequestId> {
    RequestId::parse(text).ok_or_else(|| Error::invalid("after", "It is no `next_after` of this list."))
}

/// A filter for a project. What is no id is refused, as it would find nothing.
pub(super) fn project_id(text: &str) -> Result<ProjectId> {
    ProjectId::parse(text)
        .ok_or_else(|| Error::invalid("project_id", "It is no project's id: those begin with `prj_`."))
}

/// A filter for a credential.
pub(super) fn key_id(text: &str) -> Result<KeyId> {
    KeyId::parse(text).ok_or_else(|| Error::invalid("key_id", "It is no credential's id: those begin with `key_`."))
}

/// One of a tenant's requests: outcome, tokens, worker path and ledger entry.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/requests/{request_id}", operation_id = "get_tenant_request",
    tag = "requests",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("request_id" = String, Path, description = "`req_…`, as the reply's `x-request-id` says"),
    ),
    responses((status = 200, body = RequestView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_requests")))
)]
pub async fn get_of_tenant(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ReadRequests).await?;
    let id: RequestId = call.id("request_id", "request")?;
    let record = billing::request_record_of(&app.store, call.tenant()?, &id).await?;
    Ok(Json(RequestView::from(record)).into_response())
}

/// Outcome, tokens, worker path and ledger entry of one request of any tenant.
#[utoipa::path(
    get, path = "/admin/v1/requests/{request_id}", operation_id = "get_request", tag = "requests",
    params(("request_id" = String, Path, description = "`req_…`, as the reply's `x-request-id` says")),
    responses((status = 200, description = "The request", body = RequestView)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("read_platform")))
)]
pub async fn get(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ReadPlatform).await?;
    let id: RequestId = call.id("request_id", "request")?;
    Ok(Json(RequestView::from(billing::request_record(&app.store, &id).await?)).into_response())
}
