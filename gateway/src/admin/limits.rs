//! Limits over HTTP: a level's own, and which of all those above it wins, and why.

use super::call::{Call, Reply, versioned};
use super::examples;
use crate::app::App;
use crate::catalog::Level;
use crate::error::{Limit, Result};
use crate::id::{KeyId, ProjectId, TenantId};
use crate::quota::{self, Decision, Hierarchy, InUse, Limits, Scope, Usage};
use crate::tenants::{self, Credential, KeyKind, Permission, Project, Tenant, UpdateProject, UpdateTenant};
use axum::extract::{Request, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// The limits of a tenant, a project or a key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::key_limits())))]
pub struct LimitsView {
    /// Whose.
    pub level: Level,
    /// Set at this level; `null`: none.
    pub own: Limits,
    /// In force: a request must fit at every level, so the tightest wins.
    pub effective: EffectiveLimits,
}

/// What is in force.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EffectiveLimits {
    /// Requests in any 60 seconds.
    pub requests_per_minute: EffectiveLimit,
    /// Tokens, prompt and answer together, in any 60 seconds.
    pub tokens_per_minute: EffectiveLimit,
    /// Requests at the same time.
    pub concurrent_requests: EffectiveLimit,
}

/// One limit that is in force, and where it comes from.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EffectiveLimit {
    /// `null`: none.
    pub limit: Option<u64>,
    /// Whose limit it is; `null` where there is none.
    #[schema(inline)]
    pub level: Option<Level>,
    /// Why this one.
    pub reason: LimitReason,
    /// All levels that were looked at, the widest first.
    pub considered: Vec<LevelLimit>,
}

/// Why a limit wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitReason {
    /// No level has one.
    Unlimited,
    /// No other level has one.
    OnlyLimit,
    /// It is the lowest.
    Tightest,
    /// It is the lowest, and of equal ones the narrowest level's is named.
    NarrowestOfEquals,
}

/// One level's.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LevelLimit {
    /// Whose.
    pub level: Level,
    /// `null`: none at this level.
    pub limit: Option<u64>,
    /// What counts against it now, as far as the gateway that answers knows: others may have admitted more. Absent for
    /// callers who may not read usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(inline)]
    pub on_this_replica: Option<ReplicaUsage>,
}

/// What counts against a limit, in one gateway.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReplicaUsage {
    /// Counted in the last 60 seconds, or running.
    pub used: u64,
    /// Left; `null` without a limit.
    pub remaining: Option<u64>,
}

/// Whose limits: ids and all that is set from the tenant down.
struct Chain<'a> {
    level: Level,
    tenant: &'a TenantId,
    project: Option<&'a ProjectId>,
    key: Option<&'a KeyId>,
    limits: Hierarchy,
    version: i64,
}

impl Chain<'_> {
    fn own(&self) -> Limits {
        match self.level {
            Level::Tenant => self.limits.tenant,
            Level::Project => self.limits.project,
            Level::Key => self.limits.key,
        }
    }

    fn levels(&self) -> &'static [Scope] {
        match self.level {
            Level::Tenant => &[Scope::Tenant],
            Level::Project => &[Scope::Tenant, Scope::Project],
            Level::Key => &[Scope::Tenant, Scope::Project, Scope::Key],
        }
    }
}

fn reply(call: &Call, chain: &Chain<'_>) -> Response {
    let may_see = call.caller().check(Permission::ReadUsage).is_ok();
    let usage = may_see.then(|| call.app().limiter.usage(chain.tenant, chain.project, chain.key));
    let effective = quota::effective(&chain.limits);
    let view = |limit, decision: &Decision| effective_limit(chain, limit, decision, usage.as_ref());
    let effective = EffectiveLimits {
        requests_per_minute: view(Limit::RequestsPerMinute, &effective.requests_per_minute),
        tokens_per_minute: view(Limit::TokensPerMinute, &effective.tokens_per_minute),
        concurrent_requests: view(Limit::Concurrency, &effective.concurrent_requests),
    };
    versioned(LimitsView { level: chain.level, own: chain.own(), effective }, chain.version)
}

fn effective_limit(chain: &Chain<'_>, which: Limit, decision: &Decision, usage: Option<&Usage>) -> EffectiveLimit {
    let in_view = decision.considered.iter().filter(|(scope, _)| chain.levels().contains(scope));
    let considered = in_view.map(|&(scope, limit)| LevelLimit {
        level: level(scope),
        limit,
        on_this_replica: usage.and_then(|usage| in_use(usage, scope)).map(|in_use| {
            let used = used(&in_use, which);
            ReplicaUsage { used, remaining: limit.map(|limit| limit.saturating_sub(used)) }
        }),
    });
    EffectiveLimit {
        limit: decision.winner.map(|(_, limit)| limit),
        level: decision.winner.map(|(scope, _)| level(scope)),
        reason: reason(decision),
        considered: considered.collect(),
    }
}

fn reason(decision: &Decision) -> LimitReason {
    let Some((_, winner)) = decision.winner else { return LimitReason::Unlimited };
    let limits = || decision.considered.iter().filter_map(|&(_, limit)| limit);
    match (limits().count(), limits().filter(|&limit| limit == winner).count()) {
        (1, _) => LimitReason::OnlyLimit,
        (_, 1) => LimitReason::Tightest,
        (_, _) => LimitReason::NarrowestOfEquals,
    }
}

fn level(scope: Scope) -> Level {
    match scope {
        Scope::Tenant => Level::Tenant,
        Scope::Project => Level::Project,
        Scope::Key => Level::Key,
    }
}

fn in_use(usage: &Usage, scope: Scope) -> Option<InUse> {
    match scope {
        Scope::Tenant => Some(usage.tenant),
        Scope::Project => usage.project,
        Scope::Key => usage.key,
    }
}

fn used(in_use: &InUse, which: Limit) -> u64 {
    match which {
        Limit::RequestsPerMinute => in_use.requests,
        Limit::TokensPerMinute => in_use.tokens,
        Limit::Concurrency => in_use.running,
    }
}

async fn tenant(call: &Call) -> Result<Tenant> {
    let row = call.app().store.tenant(call.tenant()?).await?;
    row.map(Tenant::from).ok_or_else(|| tenants::missing("tenant"))
}

fn tenants_reply(call: &Call, tenant: &Tenant) -> Response {
    let (limits, version) = (Hierarchy::of_tenant(tenant.limits), tenant.version);
    reply(call, &Chain { level: Level::Tenant, tenant: &tenant.id, project: None, key: None, limits, version })
}

fn projects_reply(call: &Call, tenant: &Tenant, project: &Project) -> Response {
    let limits = Hierarchy { tenant: tenant.limits, project: project.limits, ..Hierarchy::default() };
    let (level, version) = (Level::Project, project.version);
    reply(call, &Chain { level, tenant: &tenant.id, project: Some(&project.id), key: None, limits, version })
}

fn keys_reply(call: &Call, (tenant, project): &(Tenant, Project), own: &Credential) -> Response {
    let limits = Hierarchy { tenant: tenant.limits, project: project.limits, key: own.limits };
    let (level, project, key) = (Level::Key, Some(&own.project), Some(&own.id));
    reply(call, &Chain { level, tenant: &tenant.id, project, key, limits, version: own.version })
}

/// What stands above a key. Before a change, like all that its reply needs beside what was changed: once it is made,
/// nothing may keep its caller from hearing so.
async fn above(call: &Call, project: &ProjectId) -> Result<(Tenant, Project)> {
    let tenant = tenant(call).await?;
    let project = tenants::project(&call.app().store, &tenant.id, project).await?;
    Ok((tenant, project))
}

/// A tenant's limits.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/limits", operation_id = "get_tenant_limits", tag = "limits",
    params(("tenant_id" = String, Path, description = "`ten_…`")),
    responses((status = 200, body = LimitsView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_settings")))
)]
pub async fn of_tenant(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ReadSettings).await?;
    Ok(tenants_reply(&call, &tenant(&call).await?))
}

/// Replaces a tenant's limits, all three: what is `null` or absent is no limit. The ETag is the tenant's. What is as asked
/// for already keeps its version and ETag, and nothing is logged.
#[utoipa::path(
    put, path = "/admin/v1/tenants/{tenant_id}/limits", operation_id = "set_tenant_limits", tag = "limits",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    request_body = Limits,
    responses((status = 200, body = LimitsView)),
    security(("admin_token" = [])), extensions(("x-permission" = json!("manage_tenants")))
)]
pub async fn set_of_tenant(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ManageTenants).await?;
    let (tenant, limits, expected) = (call.tenant()?, call.input()?, call.expected_version()?);
    let update = UpdateTenant { limits: Some(limits), ..UpdateTenant::default() };
    let done = call.change(|change| tenants::update_tenant(change, tenant, update, expected)).await?;
    Ok(tenants_reply(&call, &done))
}

/// A project's limits.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/projects/{project_id}/limits", operation_id = "get_project_limits",
    tag = "limits",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("project_id" = String, Path, description = "`prj_…`"),
    ),
    responses((status = 200, body = LimitsView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_settings")))
)]
pub async fn of_project(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::ReadSettings).await?;
    let project = tenants::project(&app.store, call.tenant()?, &call.id("project_id", "project")?).await?;
    Ok(projects_reply(&call, &tenant(&call).await?, &project))
}

/// Replaces a project's limits, all three: what is `null` or absent is no limit of its own. The ETag is the project's.
/// What is as asked for already keeps its version and ETag, and nothing is logged.
#[utoipa::path(
    put, path = "/admin/v1/tenants/{tenant_id}/projects/{project_id}/limits", operation_id = "set_project_limits",
    tag = "limits",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("project_id" = String, Path, description = "`prj_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    request_body = Limits,
    responses((status = 200, body = LimitsView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("write_settings")))
)]
pub async fn set_of_project(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit(&app, request, Permission::WriteSettings).await?;
    let (tenant, id) = (call.tenant()?, call.id("project_id", "project")?);
    let (limits, expected) = (call.input()?, call.expected_version()?);
    let update = UpdateProject { limits: Some(limits), ..UpdateProject::default() };
    let above = self::tenant(&call).await?;
    let done = call.change(|change| tenants::update_project(change, (tenant, &id), update, expected)).await?;
    Ok(projects_reply(&call, &above, &done))
}

/// An API key's limits.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/api-keys/{key_id}/limits", operation_id = "get_api_key_limits",
    tag = "limits",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("key_id" = String, Path, description = "`key_…`"),
    ),
    responses((status = 200, body = LimitsView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_settings")))
)]
pub async fn of_api_key(State(app): State<Arc<App>>, request: Request) -> Reply {
    of_key(&app, request, KeyKind::ApiKey).await
}

/// Replaces an API key's limits, all three: what is `null` or absent is no limit of its own. The ETag is the key's. The caller's role
/// must cover the key's; to raise a limit its scope must hold the key, and its own limits what is raised. A key can't be used
/// to widen its own. What is as asked for already keeps its version and ETag, and nothing is logged.
#[utoipa::path(
    put, path = "/admin/v1/tenants/{tenant_id}/api-keys/{key_id}/limits", operation_id = "set_api_key_limits",
    tag = "limits",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("key_id" = String, Path, description = "`key_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    request_body = Limits,
    responses((status = 200, body = LimitsView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("write_settings")))
)]
pub async fn set_of_api_key(State(app): State<Arc<App>>, request: Request) -> Reply {
    set_of_key(&app, request, KeyKind::ApiKey).await
}

/// A SigV4 access key's limits.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/access-keys/{key_id}/limits", operation_id = "get_access_key_limits",
    tag = "limits",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("key_id" = String, Path, description = "`key_…`"),
    ),
    responses((status = 200, body = LimitsView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_settings")))
)]
pub async fn of_access_key(State(app): State<Arc<App>>, request: Request) -> Reply {
    of_key(&app, request, KeyKind::AccessKey).await
}

/// Replaces an access key's limits, all three: what is `null` or absent is no limit of its own. The ETag is the key's. The caller's role
/// must cover the key's; to raise a limit its scope must hold the key, and its own limits what is raised. A key can't be used
/// to widen its own. What is as asked for already keeps its version and ETag, and nothing is logged.
#[utoipa::path(
    put, path = "/admin/v1/tenants/{tenant_id}/access-keys/{key_id}/limits", operation_id = "set_access_key_limits",
    tag = "limits",
    params(
        ("tenant_id" = String, Path, description = "`ten_…`"),
        ("key_id" = String, Path, description = "`key_…`"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; another one is 412"),
    ),
    request_body = Limits,
    responses((status = 200, body = LimitsView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("write_settings")))
)]
pub async fn set_of_access_key(State(app): State<Arc<App>>, request: Request) -> Reply {
    set_of_key(&app, request, KeyKind::AccessKey).await
}

async fn of_key(app: &Arc<App>, request: Request, kind: KeyKind) -> Reply {
    let call = Call::admit(app, request, Permission::ReadSettings).await?;
    let own = tenants::key_limits(&app.store, kind, call.tenant()?, &key_id(&call, kind)?).await?;
    Ok(keys_reply(&call, &above(&call, &own.project).await?, &own))
}

async fn set_of_key(app: &Arc<App>, request: Request, kind: KeyKind) -> Reply {
    let call = Call::admit(app, request, Permission::WriteSettings).await?;
    let (tenant, key, issuer) = (call.tenant()?, key_id(&call, kind)?, call.caller().issuer());
    let (limits, expected) = (call.input()?, call.expected_version()?);
    // A key's project never changes.
    let project = tenants::key_limits(&app.store, kind, tenant, &key).await?.project;
    let above = above(&call, &project).await?;
    let set = |change| tenants::set_key_limits(change, &issuer, (kind, tenant, &key), limits, expected);
    let done = call.change(set).await?;
    Ok(keys_reply(&call, &above, &done))
}

fn key_id(call: &Call, kind: KeyKind) -> Result<KeyId> {
    match kind {
        KeyKind::ApiKey => call.id("key_id", "API key"),
        KeyKind::AccessKey => call.id("key_id", "access key"),
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
