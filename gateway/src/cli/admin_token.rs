//! `caprock admin-token`: operators' tokens.

use super::api::{Api, Common, Paging, value};
use super::client::segment;
use super::scope::Expiry;
use super::secret::{self, Overlap};
use super::table::Column;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Map, Value, json};

const PATH: &str = "/admin/v1/admin-tokens";
const LIST: &[Column] = &[
    Column::text("id", "/id"),
    Column::text("name", "/name"),
    Column::text("role", "/role"),
    Column::text("operations", "/scope/operations"),
    Column::text("ip ranges", "/scope/ip_ranges"),
    Column::text("status", "/status"),
    Column::time("expires", "/expires_at"),
    Column::time("last used", "/last_used_at"),
];
const ONE: &[Column] = &[
    Column::text("id", "/id"),
    Column::text("name", "/name"),
    Column::text("role", "/role"),
    Column::text("operations", "/scope/operations"),
    Column::text("ip ranges", "/scope/ip_ranges"),
    Column::text("status", "/status"),
    Column::time("expires", "/expires_at"),
    Column::time("revoked", "/revoked_at"),
    Column::time("former until", "/previous_secret_expires_at"),
    Column::time("last used", "/last_used_at"),
    Column::time("created", "/created_at"),
    Column::text("created by", "/created_by"),
];

#[derive(Debug, Subcommand)]
pub(super) enum AdminToken {
    /// Makes an operator's token, and shows it once.
    Create(Create),
    /// Lists operators' tokens, in the order of their making.
    List(List),
    /// Shows one, revoked or not; never its secret.
    Show(One),
    /// Changes one. What is not given stays.
    Update(Update),
    /// Gives one a new secret, and shows it once; the former one goes on for a while.
    Rotate(Rotate),
    /// Revokes one, for good: within a second no gateway accepts it. Doesn't ask, since it may be urgent.
    #[command(visible_alias = "delete")]
    Revoke(One),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Role {
    /// May do everything.
    PlatformAdmin,
    /// May read everything.
    PlatformViewer,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Role::PlatformAdmin => "platform_admin",
            Role::PlatformViewer => "platform_viewer",
        }
    }
}

/// What a token is narrowed to; of a scope's parts tokens have two.
#[derive(Debug, Args)]
#[command(next_help_heading = "Scope")]
pub(super) struct Narrowed {
    /// Kinds of operation, with commas: read_usage, administer.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    operations: Option<Vec<String>>,
    /// Addresses that it is used from, such as 10.0.0.0/8, with commas; `any` for all.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    ip_ranges: Option<Vec<String>>,
}

impl Narrowed {
    fn is_given(&self) -> bool {
        self.operations.is_some() || self.ip_ranges.is_some()
    }

    fn over(&self, scope: &Value) -> Value {
        let mut scope: Map<String, Value> = scope.as_object().cloned().unwrap_or_default();
        scope.extend(self.operations.as_ref().map(|operations| ("operations".to_owned(), json!(operations))));
        match self.ip_ranges.as_deref() {
            None => {}
            Some([only]) if only == "any" => {
                scope.remove("ip_ranges");
            }
            Some(ranges) => {
                scope.insert("ip_ranges".to_owned(), json!(ranges));
            }
        }
        Value::Object(scope)
    }
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// 1 to 64 characters; need not be unique.
    #[arg(long)]
    name: String,
    /// What its holder may do.
    #[arg(long, value_enum)]
    role: Role,
    #[command(flatten)]
    scope: Narrowed,
    #[command(flatten)]
    expiry: Expiry,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct List {
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
    /// `adm_…`
    id: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// `adm_…`
    id: String,
    /// The new name.
    #[arg(long)]
    name: Option<String>,
    /// The new role.
    #[arg(long, value_enum)]
    role: Option<Role>,
    #[command(flatten)]
    scope: Narrowed,
    #[command(flatten)]
    expiry: Expiry,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// `adm_…`
    id: String,
    #[command(flatten)]
    overlap: Overlap,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(command: AdminToken) -> Result<(), String> {
    match command {
        AdminToken::Create(Create { name, role, scope, expiry, common }) => {
            let mut body =
                Map::from_iter([("name".to_owned(), json!(name)), ("role".to_owned(), json!(role.as_str()))]);
            let whole = json!({ "operations": ["read_usage", "administer"] });
            body.extend(scope.is_given().then(|| ("scope".to_owned(), scope.over(&whole))));
            body.extend(expiry.value()?.map(|at| ("expires_at".to_owned(), at)));
            let api = Api::new(common)?;
            let reply = api.client.create(PATH, &Value::Object(body)).await?;
            api.show_as(&reply, |view| secret::shown_once(ONE, view))
        }
        AdminToken::List(List { name, created_by, with_revoked, paging, common }) => {
            let with_revoked = with_revoked.then(|| "true".to_owned());
            let query = [("name", name), ("created_by", created_by), ("with_revoked", with_revoked)];
            Api::new(common)?.list(PATH, &query, &paging, LIST).await
        }
        AdminToken::Show(One { id, common }) => {
            let api = Api::new(common)?;
            api.show(&api.client.read(&one(&id)).await?, ONE)
        }
        AdminToken::Update(update) => self::update(update).await,
        AdminToken::Rotate(Rotate { id, overlap, common }) => {
            let api = Api::new(common)?;
            let reply = api.client.create(&format!("{}/rotate", one(&id)), &overlap.body()).await?;
            api.show_as(&reply, |view| secret::shown_once(secret::ROTATED, view))
        }
        AdminToken::Revoke(One { id, common }) => {
            let api = Api::new(common)?;
            api.client.change(Method::DELETE, &one(&id), None, None).await?;
            api.done(&format!("{id} is revoked"))
        }
    }
}

async fn update(update: Update) -> Result<(), String> {
    let Update { id, name, role, scope, expiry, common } = update;
    let mut body = Map::new();
    body.extend(name.map(|name| ("name".to_owned(), json!(name))));
    body.extend(role.map(|role| ("role".to_owned(), json!(role.as_str()))));
    body.extend(expiry.value()?.map(|at| ("expires_at".to_owned(), at)));
    if body.is_empty() && !scope.is_given() {
        return Err("nothing to change: see --help for what can be given".into());
    }
    let api = Api::new(common)?;
    let mut if_match = None;
    if scope.is_given() {
        // The API takes a scope whole, so it must still be what was read.
        let before = api.client.read(&one(&id)).await?;
        body.insert("scope".to_owned(), scope.over(&value(&before.body)?["scope"]));
        if_match = before.etag;
    }
    api.show(&api.client.change(Method::PATCH, &one(&id), Some(&Value::Object(body)), if_match.as_deref()).await?, ONE)
}

fn one(id: &str) -> String {
    format!("{PATH}/{}", segment(id))
}
