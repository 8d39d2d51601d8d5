//! `caprock project`

use super::api::{Api, Common, OfTenant, Paging};
use super::client::segment;
use super::confirm::Confirm;
use super::table::Column;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

const LIST: &[Column] = &[
    Column::text("id", "/id"),
    Column::text("name", "/name"),
    Column::text("req/min", "/limits/requests_per_minute"),
    Column::text("tok/min", "/limits/tokens_per_minute"),
    Column::text("concurrent", "/limits/concurrent_requests"),
    Column::time("created", "/created_at"),
];
const ONE: &[Column] = &[
    Column::text("id", "/id"),
    Column::text("tenant", "/tenant_id"),
    Column::text("name", "/name"),
    Column::text("requests/min", "/limits/requests_per_minute"),
    Column::text("tokens/min", "/limits/tokens_per_minute"),
    Column::text("concurrent", "/limits/concurrent_requests"),
    Column::time("created", "/created_at"),
    Column::time("updated", "/updated_at"),
    Column::time("deleted", "/deleted_at"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Project {
    /// Makes a project, without limits of its own: `caprock limit set` gives it some.
    Create(Create),
    /// Lists a tenant's projects, in the order of their making.
    List(List),
    /// Shows one.
    Show(One),
    /// Renames one.
    Update(Update),
    /// Deletes one for every purpose but the ledger; its keys are refused from then on.
    Delete(Sure),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// 1 to 64 characters; must not be taken in this tenant.
    #[arg(long)]
    name: String,
    #[command(flatten)]
    of: OfTenant,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Exactly this name.
    #[arg(long)]
    name: Option<String>,
    /// Deleted ones too.
    #[arg(long)]
    with_deleted: bool,
    #[command(flatten)]
    of: OfTenant,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// Its id or name.
    project: String,
    #[command(flatten)]
    of: OfTenant,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// Its id or name.
    project: String,
    /// The new name.
    #[arg(long)]
    name: String,
    #[command(flatten)]
    of: OfTenant,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Sure {
    /// Its id or name.
    project: String,
    #[command(flatten)]
    of: OfTenant,
    #[command(flatten)]
    confirm: Confirm,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(command: Project) -> Result<(), String> {
    match command {
        Project::Create(Create { name, of, common }) => {
            let api = Api::new(common)?;
            let path = all(&api.tenant(&of.tenant).await?);
            api.show(&api.client.create(&path, &json!({ "name": name })).await?, ONE)
        }
        Project::List(List { name, with_deleted, of, paging, common }) => {
            let api = Api::new(common)?;
            let path = all(&api.tenant(&of.tenant).await?);
            let query = [("name", name), ("with_deleted", with_deleted.then(|| "true".to_owned()))];
            api.list(&path, &query, &paging, LIST).await
        }
        Project::Show(One { project, of, common }) => {
            let api = Api::new(common)?;
            let path = one(&api, &of, &project).await?;
            api.show(&api.client.read(&path).await?, ONE)
        }
        Project::Update(Update { project, name, of, common }) => {
            let api = Api::new(common)?;
            let path = one(&api, &of, &project).await?;
            api.show(&api.client.change(Method::PATCH, &path, Some(&json!({ "name": name })), None).await?, ONE)
        }
        Project::Delete(Sure { project, of, confirm, common }) => {
            let api = Api::new(common)?;
            let path = one(&api, &of, &project).await?;
            confirm.check(&format!("delete project {project}"))?;
            api.client.change(Method::DELETE, &path, None, None).await?;
            api.done(&format!("project {project} is deleted"))
        }
    }
}

fn all(tenant: &str) -> String {
    format!("/admin/v1/tenants/{}/projects", segment(tenant))
}

async fn one(api: &Api, of: &OfTenant, project: &str) -> Result<String, String> {
    let tenant = api.tenant(&of.tenant).await?;
    let project = api.project(&tenant, project).await?;
    Ok(format!("{}/{}", all(&tenant), segment(&project)))
}
