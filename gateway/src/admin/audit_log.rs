//! Who changed what, and whether the record of it is whole.

use super::call::{Call, Reply};
use super::credentials::{OPERATOR, is_tenants};
use super::examples;
use super::page::{self, Page};
use super::time::Time;
use crate::app::App;
use crate::audit::{self, Author, AuthorKind, Entry, Mark, Target, Walked};
use crate::auth::Caller;
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::secrets::{SecretText, Secrets};
use crate::store::AuditFilter;
use crate::tenants::{Permission, Role};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use futures::TryStreamExt;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// One line of JSON after the other.
const NDJSON: &str = "application/x-ndjson";

/// A change that an administrator made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::audit_entry())))]
pub struct AuditEntryView {
    /// Its number, from 1 and without gaps over all tenants. Only operators see it: from two of its own, a tenant could
    /// tell how much others change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// When it was made.
    pub at: Time,
    /// `project.create`: what was changed, then what was done.
    pub action: String,
    /// Who made it.
    pub author: AuditAuthorView,
    /// What was changed.
    pub target: AuditTargetView,
    /// Whose it is; absent: the platform's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// As it was; absent for something new. Holds no secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub before: Option<Value>,
    /// As it was then; absent for something that is gone. Holds no secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub after: Option<Value>,
    /// SHA-256 in hex over the digest of the entry before and this one. Only operators see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Who made a change, and from where.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditAuthorView {
    /// What kind of caller.
    pub kind: AuditAuthorKind,
    /// The credential's public id; for a command its name. What tenants see of operators has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// With which rights.
    pub role: Role,
    /// Where the call came from. Absent for commands on the machine; and what tenants see of operators has no address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The call's `x-request-id`; absent for commands on the machine, and in what tenants see of operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Kinds of author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditAuthorKind {
    /// An operator's token.
    AdminToken,
    /// A tenant's API key.
    ApiKey,
    /// A JWT, as a service account or an operator.
    Jwt,
    /// A command on the machine itself.
    Command,
    /// What tenants see of all that operators do, by whatever credential.
    Operator,
}

/// What was changed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditTargetView {
    /// `tenant`, `project`, `api_key` …
    pub kind: String,
    /// Its public id.
    pub id: String,
}

/// Which changes.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Most entries; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// Begin after this one: the former page's `next_after`.
    pub after: Option<String>,
    /// Exactly this action.
    #[param(example = "project.create")]
    pub action: Option<String>,
    /// Of things of this kind.
    #[param(example = "project")]
    pub target_kind: Option<String>,
    /// Of the thing with this id.
    pub target_id: Option<String>,
    /// Made with this credential.
    pub author_id: Option<String>,
    /// Made at this time or later.
    pub from: Option<Time>,
    /// Made before this time.
    pub to: Option<Time>,
}

/// Which part is exported.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    /// The first entry's number; 1 unless given.
    #[param(minimum = 1)]
    pub from_seq: Option<i64>,
}

/// Whether the log is as it was written.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::verification())))]
pub struct VerificationView {
    /// Whether nothing was found.
    pub ok: bool,
    /// How many entries are as they were written, before the first that is not.
    pub entries: u64,
    /// The last of them.
    pub head: AuditMarkView,
    /// The first that is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<FindingView>,
    /// The last entry that this gateway had seen before, kept outside of the database; absent if it had seen none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<AuditMarkView>,
}

/// An entry, named by number and digest.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditMarkView {
    /// Its number; 0 for the beginning of the log.
    pub seq: i64,
    /// Its digest; empty for the beginning of the log.
    pub digest: String,
}

/// An entry that is not as it was written.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FindingView {
    /// Its number.
    pub seq: i64,
    /// `missing`, `out_of_order`, `record`, `digest`, `seal`, `column`, `end`, `beyond_end`, `replaced`, `cut_off`; or
    /// `unknown_key`, when it can't be told because it was sealed with a master key that is not loaded.
    pub kind: String,
    /// In words.
    pub why: String,
}

impl AuditEntryView {
    /// As the caller may see it: who and where operators are, and how much happens beside a tenant's own, is no tenant's
    /// business.
    fn of(entry: Entry, caller: &Caller) -> AuditEntryView {
        let Entry { seq, at, author, mut record, digest } = entry;
        let to_tenant = matches!(caller, Caller::Tenant(_));
        let by_operator = to_tenant && author.role.is_platform();
        let Author { kind, id, role, address, request_id, tenant_id: _ } = author;
        if to_tenant {
            [&mut record.before, &mut record.after].into_iter().flatten().for_each(hide_operators);
        }
        let Target { kind: target_kind, id: target_id } = record.target;
        AuditEntryView {
            seq: (!to_tenant).then_some(seq),
            at: Time(at),
            action: record.action,
            author: AuditAuthorView {
                kind: if by_operator { AuditAuthorKind::Operator } else { kind.into() },
                id: Some(id).filter(|_| !by_operator),
                role,
                address: address.filter(|_| !by_operator).map(|address| address.to_string()),
                request_id: request_id.filter(|_| !by_operator).map(|id| id.to_string()),
            },
            target: AuditTargetView { kind: target_kind, id: target_id },
            tenant_id: record.tenant.map(|tenant| tenant.to_string()),
            before: record.before,
            after: record.after,
            digest: (!to_tenant).then_some(digest),
        }
    }
}

/// Takes operators' ids out of what was changed.
fn hide_operators(thing: &mut Value) {
    if let Some(by) = thing.get_mut("created_by").filter(|by| !by.as_str().is_some_and(is_tenants)) {
        *by = OPERATOR.into();
    }
}

impl From<AuthorKind> for AuditAuthorKind {
    fn from(kind: AuthorKind) -> AuditAuthorKind {
        match kind {
            AuthorKind::AdminToken => AuditAuthorKind::AdminToken,
            AuthorKind::ApiKey => AuditAuthorKind::ApiKey,
            AuthorKind::Jwt => AuditAuthorKind::Jwt,
            AuthorKind::Command => AuditAuthorKind::Command,
        }
    }
}

impl From<Mark> for AuditMarkView {
    fn from(mark: Mark) -> AuditMarkView {
        AuditMarkView { seq: mark.seq, digest: mark.digest }
    }
}

impl VerificationView {
    /// With the anchor that was compared with.
    pub fn of(walked: Walked, anchor: Option<Mark>) -> VerificationView {
        let first_bad = walked.first_bad.map(|finding| FindingView {
            seq: finding.seq,
            kind: finding.fault.as_str().to_owned(),
            why: finding.fault.to_string(),
        });
        VerificationView {
            ok: first_bad.is_none(),
            entries: walked.entries,
            head: walked.last.into(),
            first_bad,
            anchor: anchor.map(AuditMarkView::from),
        }
    }
}

/// Lists changes of all tenants and of the platform, newest first.
#[utoipa::path(
    get, path = "/admin/v1/audit-log", operation_id = "list_audit_log", tag = "audit",
    params(AuditQuery),
    responses((status = 200, body = Page<AuditEntryView>)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("read_audit")))
)]
pub async fn list(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit_with_query(&app, request, Permission::ReadAudit).await?;
    listed(&call, None).await
}

/// Lists changes of one tenant, newest first.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/audit-log", operation_id = "list_tenant_audit_log", tag = "audit",
    params(("tenant_id" = String, Path, description = "`ten_…`"), AuditQuery),
    responses((status = 200, body = Page<AuditEntryView>)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_audit")))
)]
pub async fn list_of_tenant(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit_with_query(&app, request, Permission::ReadAudit).await?;
    let tenant = call.tenant()?.clone();
    listed(&call, Some(&tenant)).await
}

async fn listed(call: &Call, tenant: Option<&TenantId>) -> Reply {
    let query: AuditQuery = call.query()?;
    let size = page::size(query.limit)?;
    let cursor = Cursor::of(call);
    let before = query.after.as_deref().map_or(Ok(i64::MAX), |text| cursor.read(text))?;
    // To a tenant there are no operators' ids, so none that it could guess.
    if !matches!(cursor, Cursor::Plain) && query.author_id.as_deref().is_some_and(|id| !is_tenants(id)) {
        return Ok(Json(Page::<AuditEntryView> { data: vec![], has_more: false, next_after: None }).into_response());
    }
    let filter = AuditFilter {
        action: query.action,
        target_kind: query.target_kind,
        target_id: query.target_id,
        author_id: query.author_id,
        from: query.from.map(|time| time.0),
        to: query.to.map(|time| time.0),
    };
    let found = audit::entries(&call.reports(), tenant, &filter, before, page::rows(size)).await?;
    let view = |entry| AuditEntryView::of(entry, call.caller());
    let mut page = Page::of(found, size, |entry| entry.seq.to_string(), view);
    page.next_after = page.next_after.map(|seq| cursor.write(&seq)).transpose()?;
    Ok(Json(page).into_response())
}

/// How a page's end is written into `next_after`.
enum Cursor<'a> {
    /// Its entry's number.
    Plain,
    /// The number sealed for one tenant: it can't be read, and no other can be made.
    Sealed { secrets: &'a Secrets, owner: String },
}

impl<'a> Cursor<'a> {
    fn of(call: &'a Call) -> Cursor<'a> {
        match call.caller() {
            Caller::Tenant(caller) => {
                Cursor::Sealed { secrets: &call.app().secrets, owner: format!("audit cursor {}", caller.tenant) }
            }
            Caller::Operator(_) | Caller::Federated(_) => Cursor::Plain,
        }
    }

    fn write(&self, seq: &str) -> Result<String> {
        match self {
            Cursor::Plain => Ok(seq.to_owned()),
            // As long as the largest, so that its length says nothing.
            Cursor::Sealed { secrets, owner } => secrets.seal(&SecretText::new(format!("{seq:0>19}")), owner),
        }
    }

    fn read(&self, text: &str) -> Result<i64> {
        let number = match self {
            Cursor::Plain => text.parse().ok(),
            Cursor::Sealed { secrets, owner } => {
                secrets.open(text, owner).ok().and_then(|opened| opened.expose().parse().ok())
            }
        };
        number
            .filter(|number| *number > 0)
            .ok_or_else(|| Error::invalid("after", "It is no `next_after` of this list."))
    }
}

/// The log as it is stored, oldest entry first, one JSON object a line, with `seq`, `record`, `digest` and `seal`. Digests
/// can be checked without this gateway: each is the SHA-256 in hex of the former entry's (nothing for the first), a zero
/// byte, and `record`. The final line is `{"head": {"seq", "digest"}, "entries"}`: the log's last entry when the export
/// began, and how many lines came before this one. An export without it was cut off.
#[utoipa::path(
    get, path = "/admin/v1/audit-log/export", operation_id = "export_audit_log", tag = "audit",
    params(ExportQuery),
    responses((status = 200, description = "Lines of JSON", content_type = "application/x-ndjson", body = String,
        example = json!(examples::audit_export()))),
    security(("admin_token" = [])), extensions(("x-permission" = json!("read_audit")))
)]
pub async fn export(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit_with_query(&app, request, Permission::ReadAudit).await?;
    let from = call.query::<ExportQuery>()?.from_seq.unwrap_or(1);
    if from < 1 {
        return Err(Error::invalid("from_seq", "Entries are numbered from 1.").into());
    }
    let lines = audit::export(&app.store, from).await?;
    let lines = lines.and_then(|line| async move {
        let mut text = serde_json::to_vec(&line).map_err(Error::internal)?;
        text.push(b'\n');
        Ok(Bytes::from(text))
    });
    let lines = lines.inspect_err(|error| {
        tracing::error!(%error, cause = error.cause().map(tracing::field::display), "an audit export broke off");
    });
    Ok(([(CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response())
}

/// Goes through the whole log: digests, seals, numbers, columns, the end, and what this gateway had seen of it before.
#[utoipa::path(
    get, path = "/admin/v1/audit-log/verification", operation_id = "verify_audit_log", tag = "audit",
    responses((status = 200, body = VerificationView)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("read_audit")))
)]
pub async fn verification(State(app): State<Arc<App>>, request: Request) -> Reply {
    Call::admit(&app, request, Permission::ReadAudit).await?;
    // Taken before the log is looked at: it may only grow meanwhile.
    let anchor = app.anchor.last();
    let walked = audit::verify(&app.store, &app.secrets, anchor.clone()).await?;
    Ok(Json(VerificationView::of(walked, anchor)).into_response())
}
