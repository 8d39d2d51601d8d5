//! `caprock request`: what became of requests.

use super::api::{Api, Common, OfTenant, Paging};
use super::client::segment;
use super::table::Column;
use super::{show, units};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

const LIST: &[Column] = &[
    Column::text("id", "/request_id"),
    Column::time("accepted", "/accepted_at"),
    Column::text("project", "/project_id"),
    Column::text("key", "/key_id"),
    Column::text("model", "/model"),
    Column::text("state", "/state"),
    Column::text("outcome", "/outcome"),
    Column::text("input", "/input_tokens"),
    Column::text("output", "/output_tokens"),
    Column::usd("amount", "/amount_nanousd"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Request {
    /// Lists a tenant's requests of a range of time, newest first.
    List(Box<List>),
    /// Shows what became of one: outcome, tokens, worker path, ledger entry.
    Show(Show),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum State {
    Open,
    Settled,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    of: OfTenant,
    /// From this time on: 2027-01-31T12:00:00Z, a day, or so long ago: 7d. Default: a day before the end.
    #[arg(long, value_name = "TIME", value_parser = units::at_or_ago)]
    from: Option<String>,
    /// Before this time. Default: now.
    #[arg(long, value_name = "TIME", value_parser = units::at_or_ago)]
    to: Option<String>,
    /// Of this project, by id or name.
    #[arg(long)]
    project: Option<String>,
    /// With this credential: `key_…`
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Answered by this model.
    #[arg(long)]
    model: Option<String>,
    /// In work, or ended.
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Ended like this: completed, client_gone, failed, …
    #[arg(long)]
    outcome: Option<String>,
    /// Came by this API: openai_chat, bedrock_converse, …
    #[arg(long)]
    dialect: Option<String>,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// `req_…`, as the reply's x-request-id says.
    id: String,
    /// Only if it is this tenant's, by id or name. With a tenant's key it must be given.
    #[arg(long, env = "CAPROCK_TENANT")]
    tenant: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(command: Request) -> Result<(), String> {
    match command {
        Request::List(list) => self::list(*list).await,
        Request::Show(Show { id, tenant, common }) => {
            let api = Api::new(common)?;
            let path = match tenant {
                Some(tenant) => {
                    format!("/admin/v1/tenants/{}/requests/{}", segment(&api.tenant(&tenant).await?), segment(&id))
                }
                None => format!("/admin/v1/requests/{}", segment(&id)),
            };
            api.show_as(&api.client.read(&path).await?, text)
        }
    }
}

async fn list(list: List) -> Result<(), String> {
    let List { of, from, to, project, key, model, state, outcome, dialect, paging, common } = list;
    let api = Api::new(common)?;
    let (tenant, project) = api.places(&of, project.as_deref()).await?;
    let state = state.map(|state| match state {
        State::Open => "open".to_owned(),
        State::Settled => "settled".to_owned(),
    });
    // All pages must be of one range, so its end can't be left to each call.
    let to = to.or_else(|| Some(units::shifted(1)));
    let query = [
        ("from", from),
        ("to", to),
        ("project_id", project),
        ("key_id", key),
        ("model", model),
        ("state", state),
        ("outcome", outcome),
        ("dialect", dialect),
    ];
    api.list(&format!("/admin/v1/tenants/{}/requests", segment(&tenant)), &query, &paging, LIST).await
}

fn text(view: &Value) -> String {
    match serde_json::from_value(view.clone()) {
        Ok(view) => show::table(&view),
        // Of another version: what is there is better than nothing.
        Err(error) => format!("{view:#}\n(shown as JSON: {error})\n"),
    }
}
