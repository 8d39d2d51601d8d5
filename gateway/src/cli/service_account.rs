//! `caprock service-account`

use super::api::{Api, Common, OfTenant, Paging, value};
use super::client::segment;
use super::confirm::Confirm;
use super::scope::{Expiry, ScopeOptions};
use super::table::Column;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

const LIST: &[Column] = &[
    Column::text("id", "/id"),
    Column::text("name", "/name"),
    Column::text("project", "/project_id"),
    Column::text("role", "/role"),
    Column::text("operations", "/scope/operations"),
    Column::text("issuer", "/federated_identity/issuer"),
    Column::time("expires", "/expires_at"),
];
const ONE: &[Column] = &[
    Column::text("id", "/id"),
    Column::text("tenant", "/tenant_id"),
    Column::text("project", "/project_id"),
    Column::text("name", "/name"),
    Column::text("role", "/role"),
    Column::text("operations", "/scope/operations"),
    Column::text("models", "/scope/models"),
    Column::text("dialects", "/scope/dialects"),
    Column::text("ip ranges", "/scope/ip_ranges"),
    Column::text("jwt issuer", "/federated_identity/issuer"),
    Column::text("jwt subject", "/federated_identity/subject"),
    Column::text("jwt audience ends in", "/jwt_audience_suffix"),
    Column::time("expires", "/expires_at"),
    Column::time("created", "/created_at"),
    Column::time("updated", "/updated_at"),
];

#[derive(Debug, Subcommand)]
pub(super) enum ServiceAccount {
    /// Makes a machine's account: for keys of its own (`caprock key create --service-account`), for JWTs of a trusted issuer,
    /// or both.
    Create(Box<Create>),
    /// Lists a tenant's service accounts, in the order of their making.
    List(List),
    /// Shows one.
    Show(One),
    /// Changes one. What is not given stays.
    Update(Box<Update>),
    /// Deletes one: its keys and JWTs are refused from then on.
    Delete(Sure),
}

/// Whose JWTs are taken.
#[derive(Debug, Args)]
pub(super) struct Identity {
    /// The `iss` of JWTs that it may present; the configuration must trust it.
    #[arg(long, requires = "jwt_subject", value_name = "ISSUER")]
    jwt_issuer: Option<String>,
    /// The `sub` of those JWTs.
    #[arg(long, requires = "jwt_issuer", value_name = "SUBJECT")]
    jwt_subject: Option<String>,
}

impl Identity {
    fn value(&self) -> Option<Value> {
        Some(json!({ "issuer": self.jwt_issuer.as_ref()?, "subject": self.jwt_subject.as_ref()? }))
    }
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// 1 to 64 characters; must not be taken in its project.
    #[arg(long)]
    name: String,
    #[command(flatten)]
    of: OfTenant,
    /// The project that it is for, by id or name; can't be changed later.
    #[arg(long)]
    project: String,
    /// What it may do: tenant_owner, tenant_admin, tenant_developer (the default) or tenant_billing_viewer.
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    scope: ScopeOptions,
    #[command(flatten)]
    expiry: Expiry,
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
    /// Exactly this name.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// `sva_…`
    id: String,
    #[command(flatten)]
    of: OfTenant,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// `sva_…`
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
    identity: Identity,
    /// JWTs are not taken any more.
    #[arg(long, conflicts_with_all = ["jwt_issuer", "jwt_subject"])]
    no_jwt: bool,
    #[command(flatten)]
    scope: ScopeOptions,
    #[command(flatten)]
    expiry: Expiry,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Sure {
    /// `sva_…`
    id: String,
    #[command(flatten)]
    of: OfTenant,
    #[command(flatten)]
    confirm: Confirm,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(command: ServiceAccount) -> Result<(), String> {
    match command {
        ServiceAccount::Create(create) => self::create(*create).await,
        ServiceAccount::List(List { of, project, name, paging, common }) => {
            let api = Api::new(common)?;
            let (tenant, project) = api.places(&of, project.as_deref()).await?;
            api.list(&all(&tenant), &[("project_id", project), ("name", name)], &paging, LIST).await
        }
        ServiceAccount::Show(One { id, of, common }) => {
            let api = Api::new(common)?;
            let path = one(&api.tenant(&of.tenant).await?, &id);
            api.show(&api.client.read(&path).await?, ONE)
        }
        ServiceAccount::Update(update) => self::update(*update).await,
        ServiceAccount::Delete(Sure { id, of, confirm, common }) => {
            let api = Api::new(common)?;
            let path = one(&api.tenant(&of.tenant).await?, &id);
            confirm.check(&format!("delete service account {id}"))?;
            api.client.change(Method::DELETE, &path, None, None).await?;
            api.done(&format!("{id} is deleted"))
        }
    }
}

async fn create(create: Create) -> Result<(), String> {
    let Create { name, of, project, role, identity, scope, expiry, common } = create;
    let api = Api::new(common)?;
    let (tenant, project) = api.places(&of, Some(&project)).await?;
    let mut body = Map::new();
    let parts = [
        ("name", Some(Value::from(name))),
        ("project_id", project.map(Value::from)),
        ("role", role.map(Value::from)),
        ("scope", scope.of_new()),
        ("federated_identity", identity.value()),
        ("expires_at", expiry.value()?),
    ];
    body.extend(parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    api.show(&api.client.create(&all(&tenant), &Value::Object(body)).await?, ONE)
}

async fn update(update: Update) -> Result<(), String> {
    let Update { id, of, name, role, identity, no_jwt, scope, expiry, common } = update;
    let mut body = Map::new();
    body.extend(name.map(|name| ("name".to_owned(), json!(name))));
    body.extend(role.map(|role| ("role".to_owned(), json!(role))));
    body.extend(identity.value().map(|identity| ("federated_identity".to_owned(), identity)));
    body.extend(no_jwt.then(|| ("federated_identity".to_owned(), Value::Null)));
    body.extend(expiry.value()?.map(|at| ("expires_at".to_owned(), at)));
    if body.is_empty() && !scope.is_given() {
        return Err("nothing to change: see --help for what can be given".into());
    }
    let api = Api::new(common)?;
    let path = one(&api.tenant(&of.tenant).await?, &id);
    let mut if_match = None;
    if scope.is_given() {
        // The API takes a scope whole, so it must still be what was read.
        let before = api.client.read(&path).await?;
        body.insert("scope".to_owned(), scope.over(&value(&before.body)?["scope"]));
        if_match = before.etag;
    }
    api.show(&api.client.change(Method::PATCH, &path, Some(&Value::Object(body)), if_match.as_deref()).await?, ONE)
}

fn all(tenant: &str) -> String {
    format!("/admin/v1/tenants/{}/service-accounts", segment(tenant))
}

fn one(tenant: &str, id: &str) -> String {
    format!("{}/{}", all(tenant), segment(id))
}
