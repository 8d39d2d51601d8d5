//! Every operation of both APIs: whom it is for, what it takes, and how a call of it looks that should succeed.
//!
//! A new operation is put in here when it is made; until then the suite fails and names it.

use super::things::{self, Things};
use caprock_tests::gateway::MODEL;
use serde_json::{Value, json};

/// Which description an operation is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    /// `openapi/inference.json`
    Inference,
    /// `openapi/admin.json`
    Admin,
}

/// Whom an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// Whoever reaches the port, without credentials.
    Anyone,
    /// Callers of the data plane, who see OpenAI's errors.
    OpenAi,
    /// Callers of the data plane, who see Bedrock's errors.
    Bedrock,
    /// A tenant's own administrators and operators; with `admin.on_data_port` on both ports.
    Tenant,
    /// Operators only, also where a tenant is named; never on the data port.
    Operators,
}

/// What a successful call uses up, and therefore is given fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    /// Nothing.
    None,
    /// The tenant.
    Tenant,
    /// The project.
    Project,
    /// The service account.
    ServiceAccount,
    /// The API key.
    ApiKey,
    /// The access key.
    AccessKey,
    /// The operator's token.
    AdminToken,
    /// The catalog's model.
    Model,
    /// The catalog's alias.
    ModelAlias,
}

/// A body for things, with a text that no other call has.
pub(super) type Body = fn(&Things, &str) -> Value;

/// An operation.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// Its `operationId`.
    pub(super) id: &'static str,
    /// Where it is described.
    pub(super) api: Api,
    /// Whom it is for.
    pub(super) caller: For,
    /// The permission that it takes; none for [`For::Anyone`].
    pub(super) permission: Option<&'static str>,
    /// What it uses up.
    pub(super) victim: Victim,
    /// Its body, if it takes one.
    pub(super) body: Option<Body>,
}

impl Row {
    const fn uses(mut self, victim: Victim) -> Row {
        self.victim = victim;
        self
    }

    const fn with(mut self, body: Body) -> Row {
        self.body = Some(body);
        self
    }
}

const fn open(api: Api, id: &'static str) -> Row {
    Row { id, api, caller: For::Anyone, permission: None, victim: Victim::None, body: None }
}

const fn data(caller: For, id: &'static str, permission: &'static str) -> Row {
    Row { id, api: Api::Inference, caller, permission: Some(permission), victim: Victim::None, body: None }
}

const fn tenant(id: &'static str, permission: &'static str) -> Row {
    Row { id, api: Api::Admin, caller: For::Tenant, permission: Some(permission), victim: Victim::None, body: None }
}

const fn operators(id: &'static str, permission: &'static str) -> Row {
    Row { id, api: Api::Admin, caller: For::Operators, permission: Some(permission), victim: Victim::None, body: None }
}

/// All of them.
pub(super) const TABLE: &[Row] = &[
    open(Api::Inference, "healthz"),
    open(Api::Inference, "readyz"),
    open(Api::Inference, "openapi"),
    data(For::OpenAi, "chat_completions", "infer")
        .with(|_, _| json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hi." }], "max_tokens": 4 })),
    data(For::OpenAi, "list_models", "read_models"),
    data(For::OpenAi, "get_model", "read_models"),
    data(For::Bedrock, "converse", "infer").with(converse),
    data(For::Bedrock, "converse_stream", "infer").with(converse),
    data(For::Bedrock, "list_foundation_models", "read_models"),
    open(Api::Admin, "healthz"),
    open(Api::Admin, "readyz"),
    open(Api::Admin, "metrics"),
    open(Api::Admin, "openapi"),
    operators("list_tenants", "read_platform"),
    operators("create_tenant", "manage_tenants").with(named),
    tenant("get_tenant", "read_settings"),
    operators("update_tenant", "manage_tenants").uses(Victim::Tenant).with(named),
    operators("suspend_tenant", "manage_tenants").uses(Victim::Tenant),
    operators("resume_tenant", "manage_tenants").uses(Victim::Tenant),
    operators("delete_tenant", "manage_tenants").uses(Victim::Tenant),
    tenant("list_projects", "read_settings"),
    tenant("create_project", "write_settings").with(named),
    tenant("get_project", "read_settings"),
    tenant("update_project", "write_settings").uses(Victim::Project).with(named),
    tenant("delete_project", "write_settings").uses(Victim::Project),
    tenant("list_service_accounts", "read_credentials"),
    tenant("create_service_account", "write_credentials").with(credential),
    tenant("get_service_account", "read_credentials"),
    tenant("update_service_account", "write_credentials").uses(Victim::ServiceAccount).with(named),
    tenant("delete_service_account", "write_credentials").uses(Victim::ServiceAccount),
    tenant("list_api_keys", "read_credentials"),
    tenant("create_api_key", "write_credentials").with(credential),
    tenant("get_api_key", "read_credentials"),
    tenant("update_api_key", "write_credentials").uses(Victim::ApiKey).with(named),
    tenant("rotate_api_key", "write_credentials").uses(Victim::ApiKey).with(rotation),
    tenant("revoke_api_key", "write_credentials").uses(Victim::ApiKey),
    tenant("list_access_keys", "read_credentials"),
    tenant("create_access_key", "write_credentials").with(credential),
    tenant("get_access_key", "read_credentials"),
    tenant("update_access_key", "write_credentials").uses(Victim::AccessKey).with(named),
    tenant("rotate_access_key", "write_credentials").uses(Victim::AccessKey).with(rotation),
    tenant("revoke_access_key", "write_credentials").uses(Victim::AccessKey),
    operators("list_admin_tokens", "read_platform"),
    operators("create_admin_token", "manage_operators").with(operators_token),
    operators("get_admin_token", "read_platform"),
    operators("update_admin_token", "manage_operators").uses(Victim::AdminToken).with(named),
    operators("rotate_admin_token", "manage_operators").uses(Victim::AdminToken).with(rotation),
    operators("revoke_admin_token", "manage_operators").uses(Victim::AdminToken),
    tenant("get_tenant_limits", "read_settings"),
    operators("set_tenant_limits", "manage_tenants").uses(Victim::Tenant).with(limits),
    tenant("get_project_limits", "read_settings"),
    tenant("set_project_limits", "write_settings").uses(Victim::Project).with(limits),
    tenant("get_api_key_limits", "read_settings"),
    tenant("set_api_key_limits", "write_settings").uses(Victim::ApiKey).with(limits),
    tenant("get_access_key_limits", "read_settings"),
    tenant("set_access_key_limits", "write_settings").uses(Victim::AccessKey).with(limits),
    tenant("get_tenant_model_access", "read_settings"),
    operators("set_tenant_model_access", "manage_tenants").uses(Victim::Tenant).with(models),
    tenant("get_project_model_access", "read_settings"),
    tenant("set_project_model_access", "write_settings").uses(Victim::Project).with(models),
    tenant("list_requests", "read_requests"),
    tenant("get_tenant_request", "read_requests"),
    operators("get_request", "read_platform"),
    tenant("get_usage", "read_usage"),
    operators("list_workers", "read_platform"),
    tenant("list_tenant_audit_log", "read_audit"),
    operators("list_audit_log", "read_audit"),
    operators("export_audit_log", "read_audit"),
    operators("verify_audit_log", "read_audit"),
    operators("get_catalog", "read_platform"),
    operators("list_catalog_models", "read_platform"),
    operators("create_catalog_model", "manage_catalog").with(|_, unique| things::model(unique)),
    operators("get_catalog_model", "read_platform"),
    operators("update_catalog_model", "manage_catalog").uses(Victim::Model).with(|_, _| json!({ "name": "Renamed" })),
    operators("delete_catalog_model", "manage_catalog").uses(Victim::Model),
    operators("list_model_aliases", "read_platform"),
    operators("get_model_alias", "read_platform").uses(Victim::ModelAlias),
    operators("put_model_alias", "manage_catalog").uses(Victim::ModelAlias).with(|_, _| json!({ "target": MODEL })),
    operators("delete_model_alias", "manage_catalog").uses(Victim::ModelAlias),
];

fn converse(_: &Things, _: &str) -> Value {
    caprock_tests::client::converse("Hi.", 4)
}

fn named(_: &Things, unique: &str) -> Value {
    json!({ "name": unique })
}

/// Of a scope that every administrator's own covers.
fn credential(things: &Things, unique: &str) -> Value {
    json!({ "name": unique, "project_id": things.project, "scope": { "operations": ["administer"] } })
}

fn operators_token(_: &Things, unique: &str) -> Value {
    json!({ "name": unique, "role": "platform_viewer", "scope": { "operations": ["administer"] } })
}

fn rotation(_: &Things, _: &str) -> Value {
    json!({ "overlap_seconds": 60 })
}

fn limits(_: &Things, _: &str) -> Value {
    json!({ "requests_per_minute": 5000 })
}

fn models(_: &Things, _: &str) -> Value {
    json!({ "models": [MODEL] })
}
