//! `caprock tenant`

use super::api::{Api, Common, Paging};
use super::client::segment;
use super::confirm::Confirm;
use super::limit::LimitOptions;
use super::table::Column;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::json;

const PATH: &str = "/admin/v1/tenants";
const LIST: &[Column] = &[
    Column::text("id", "/id"),
    Column::text("name", "/name"),
    Column::text("status", "/status"),
    Column::text("req/min", "/limits/requests_per_minute"),
    Column::text("tok/min", "/limits/tokens_per_minute"),
    Column::text("concurrent", "/limits/concurrent_requests"),
    Column::time("created", "/created_at"),
];
const ONE: &[Column] = &[
    Column::text("id", "/id"),
    Column::text("name", "/name"),
    Column::text("status", "/status"),
    Column::text("requests/min", "/limits/requests_per_minute"),
    Column::text("tokens/min", "/limits/tokens_per_minute"),
    Column::text("concurrent", "/limits/concurrent_requests"),
    Column::time("created", "/created_at"),
    Column::time("updated", "/updated_at"),
    Column::time("deleted", "/deleted_at"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Tenant {
    /// Makes a tenant, active and empty.
    Create(Create),
    /// Lists tenants, in the order of their making.
    List(List),
    /// Shows one.
    Show(One),
    /// Renames one.
    Update(Update),
    /// Refuses all its credentials within a second, and ends its running answers; nothing is lost.
    Suspend(Sure),
    /// Accepts its credentials again.
    Resume(One),
    /// Deletes one for every purpose but its ledger; running answers end by themselves.
    Delete(Sure),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// 1 to 64 characters; must not be taken.
    #[arg(long)]
    name: String,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Exactly this name.
    #[arg(long)]
    name: Option<String>,
    /// Only these.
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Deleted ones too.
    #[arg(long)]
    with_deleted: bool,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Status {
    Active,
    Suspended,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// Its id or name.
    tenant: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// Its id or name.
    tenant: String,
    /// The new name.
    #[arg(long)]
    name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Sure {
    /// Its id or name.
    tenant: String,
    #[command(flatten)]
    confirm: Confirm,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(command: Tenant) -> Result<(), String> {
    match command {
        Tenant::Create(Create { name, limits, common }) => {
            let api = Api::new(common)?;
            let body = json!({ "name": name, "limits": limits.of_new() });
            api.show(&api.client.create(PATH, &body).await?, ONE)
        }
        Tenant::List(List { name, status, with_deleted, paging, common }) => {
            let status = status.map(|status| match status {
                Status::Active => "active".to_owned(),
                Status::Suspended => "suspended".to_owned(),
            });
            let query = [("name", name), ("status", status), ("with_deleted", with_deleted.then(|| "true".to_owned()))];
            Api::new(common)?.list(PATH, &query, &paging, LIST).await
        }
        Tenant::Show(One { tenant, common }) => {
            let api = Api::new(common)?;
            let path = path(&api, &tenant).await?;
            api.show(&api.client.read(&path).await?, ONE)
        }
        Tenant::Update(Update { tenant, name, common }) => {
            let api = Api::new(common)?;
            let path = path(&api, &tenant).await?;
            api.show(&api.client.change(Method::PATCH, &path, Some(&json!({ "name": name })), None).await?, ONE)
        }
        Tenant::Suspend(Sure { tenant, confirm, common }) => {
            let api = Api::new(common)?;
            let path = path(&api, &tenant).await?;
            confirm.check(&format!("suspend tenant {tenant}"))?;
            api.show(&api.client.change(Method::POST, &format!("{path}/suspend"), None, None).await?, ONE)
        }
        Tenant::Resume(One { tenant, common }) => {
            let api = Api::new(common)?;
            let path = path(&api, &tenant).await?;
            api.show(&api.client.change(Method::POST, &format!("{path}/resume"), None, None).await?, ONE)
        }
        Tenant::Delete(Sure { tenant, confirm, common }) => {
            let api = Api::new(common)?;
            let path = path(&api, &tenant).await?;
            confirm.check(&format!("delete tenant {tenant}"))?;
            api.client.change(Method::DELETE, &path, None, None).await?;
            api.done(&format!("tenant {tenant} is deleted"))
        }
    }
}

async fn path(api: &Api, tenant: &str) -> Result<String, String> {
    Ok(format!("{PATH}/{}", segment(&api.tenant(tenant).await?)))
}
