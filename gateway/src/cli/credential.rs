//! `caprock key` and `caprock access-key`: what is said of one holds for the other.

use super::api::{Api, Common, OfTenant, Paging, value};
use super::client::segment;
use super::limit::LimitOptions;
use super::scope::{Expiry, ScopeOptions};
use super::secret::{self, Overlap};
use super::table::Column;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

/// Which of the two.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    ApiKey,
    AccessKey,
}

const LIST: &[Column] = &[
    Column::text("id", "/id"),
    Column::text("name", "/name"),
    Column::text("project", "/project_id"),
    Column::text("role", "/role"),
    Column::text("operations", "/scope/operations"),
    Column::text("models", "/scope/models"),
    Column::text("status", "/status"),
    Column::time("expires", "/expires_at"),
    Column::time("last used", "/last_used_at"),
];
const ONE: &[Column] = &[
    Column::text("id", "/id"),
    Column::text("access key id", "/access_key_id"),
    Column::text("name", "/name"),
    Column::text("project", "/project_id"),
    Column::text("service account", "/service_account_id"),
    Column::text("role", "/role"),
    Column::text("operations", "/scope/operations"),
    Column::text("models", "/scope/models"),
    Column::text("dialects", "/scope/dialects"),
    Column::text("ip ranges", "/scope/ip_ranges"),
    Column::text("requests/min", "/limits/requests_per_minute"),
    Column::text("tokens/min", "/limits/tokens_per_minute"),
    Column::text("concurrent", "/limits/concurrent_requests"),
    Column::text("status", "/status"),
    Column::time("expires", "/expires_at"),
    Column::time("revoked", "/revoked_at"),
    Column::time("former until", "/previous_secret_expires_at"),
    Column::time("last used", "/last_used_at"),
    Column::time("created", "/created_at"),
    Column::text("created by", "/created_by"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Credential {
    /// Makes a key of a project or of a service account, and shows its secret once.
    Create(Box<Create>),
    /// Lists a tenant's keys, in the order of their making.
    List(List),
    /// Shows one, revoked or not; never its secret.
    Show(One),
    /// Changes one. What is not given stays.
    Update(Box<Update>),
    /// Gives one a new secret, and shows it once; the former one goes on for a while.
    Rotate(Rotate),
    /// Revokes one, for good: within a second no gateway accepts it. Doesn't ask, since it may be urgent.
    #[command(visible_alias = "delete")]
    Revoke(One),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// 1 to 64 characters; need not be unique.
    #[arg(long)]
    name: String,
    #[command(flatten)]
    of: OfTenant,
    /// The project that it is for, by id or name.
    #[arg(long, required_unless_present = "service_account", conflicts_with = "service_account")]
    project: Option<String>,
    /// The service account whose it is: `sva_…`
    #[arg(long, value_name = "ID")]
    service_account: Option<String>,
    /// What its holder may do: tenant_owner, tenant_admin, tenant_developer (the default) or tenant_billing_viewer.
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    scope: ScopeOptions,
    #[command(flatten)]
    expiry: Expiry,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    of: OfTenant,
    /// Of this project, by id or name.
    #[arg(long)]
    project: Option<String>,
    /// Of this service account.
    #[arg(long, value_name = "ID")]
    service_account: Option<String>,
    /// Exactly this name.
    #[arg(long)]
    name: Option<String>,
    /// Made with this credential, by its public id.
    #[arg(long, value_name = "ID")]
    created_by: Option<String>,
    /// Revoked ones too.
    #[arg(long)]
    with_revoked: bool,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// `key_…`
    id: String,
    #[command(flatten)]
    of: OfTenant,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// `key_…`
    id: String,
    #[command(flatten)]
    of: OfTenant,
    /// The new name.
    #[arg(long)]
    name: Option<String>,
    /// The new role.
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    scope: ScopeOptions,
    #[command(flatten)]
    expiry: Expiry,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// `key_…`
    id: String,
    #[command(flatten)]
    of: OfTenant,
    #[command(flatten)]
    overlap: Overlap,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(kind: Kind, command: Credential) -> Result<(), String> {
    match command {
        Credential::Create(create) => self::create(kind, *create).await,
        Credential::List(List { of, project, service_account, name, created_by, with_revoked, paging, common }) => {
            let api = Api::new(common)?;
            let (tenant, project) = api.places(&of, project.as_deref()).await?;
            let query = [
                ("project_id", project),
                ("service_account_id", service_account),
                ("name", name),
                ("created_by", created_by),
                ("with_revoked", with_revoked.then(|| "true".to_owned())),
            ];
            api.list(&all(kind, &tenant), &query, &paging, LIST).await
        }
        Credential::Show(One { id, of, common }) => {
            let api = Api::new(common)?;
            let path = one(kind, &api.tenant(&of.tenant).await?, &id);
            api.show(&api.client.read(&path).await?, ONE)
        }
        Credential::Update(update) => self::update(kind, *update).await,
        Credential::Rotate(Rotate { id, of, overlap, common }) => {
            let api = Api::new(common)?;
            let path = one(kind, &api.tenant(&of.tenant).await?, &id);
            let reply = api.client.create(&format!("{path}/rotate"), &overlap.body()).await?;
            api.show_as(&reply, |view| secret::shown_once(secret::ROTATED, view))
        }
        Credential::Revoke(One { id, of, common }) => {
            let api = Api::new(common)?;
            let path = one(kind, &api.tenant(&of.tenant).await?, &id);
            api.client.change(Method::DELETE, &path, None, None).await?;
            api.done(&format!("{id} is revoked"))
        }
    }
}

async fn create(kind: Kind, create: Create) -> Result<(), String> {
    let Create { name, of, project, service_account, role, scope, expiry, limits, common } = create;
    let api = Api::new(common)?;
    let (tenant, project) = api.places(&of, project.as_deref()).await?;
    let mut body = Map::new();
    let parts = [
        ("name", Some(Value::from(name))),
        ("project_id", project.map(Value::from)),
        ("service_account_id", service_account.map(Value::from)),
        ("role", role.map(Value::from)),
        ("scope", scope.of_new()),
        ("limits", limits.is_given().then(|| limits.of_new())),
        ("expires_at", expiry.value()?),
    ];
    body.extend(parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let reply = api.client.create(&all(kind, &tenant), &Value::Object(body)).await?;
    api.show_as(&reply, |view| secret::shown_once(ONE, view))
}

async fn update(kind: Kind, update: Update) -> Result<(), String> {
    let Update { id, of, name, role, scope, expiry, limits, common } = update;
    let mut body = Map::new();
    body.extend(name.map(|name| ("name".to_owned(), json!(name))));
    body.extend(role.map(|role| ("role".to_owned(), json!(role))));
    body.extend(expiry.value()?.map(|at| ("expires_at".to_owned(), at)));
    if body.is_empty() && !scope.is_given() && !limits.is_given() {
        return Err("nothing to change: see --help for what can be given".into());
    }
    let api = Api::new(common)?;
    let path = one(kind, &api.tenant(&of.tenant).await?, &id);
    let mut if_match = None;
    if scope.is_given() || limits.is_given() {
        // The API takes these whole, so they must still be what was read.
        let before = api.client.read(&path).await?;
        let view = value(&before.body)?;
        body.extend(scope.is_given().then(|| ("scope".to_owned(), scope.over(&view["scope"]))));
        body.extend(limits.is_given().then(|| ("limits".to_owned(), limits.over(&view["limits"]))));
        if_match = before.etag;
    }
    let reply = api.client.change(Method::PATCH, &path, Some(&Value::Object(body)), if_match.as_deref()).await?;
    api.show(&reply, ONE)
}

fn all(kind: Kind, tenant: &str) -> String {
    let kind = match kind {
        Kind::ApiKey => "api-keys",
        Kind::AccessKey => "access-keys",
    };
    format!("/admin/v1/tenants/{}/{kind}", segment(tenant))
}

fn one(kind: Kind, tenant: &str, id: &str) -> String {
    format!("{}/{}", all(kind, tenant), segment(id))
}
