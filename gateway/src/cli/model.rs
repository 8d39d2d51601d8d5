//! `caprock model`: the catalog.

use super::api::{Api, Common, Paging};
use super::client::segment;
use super::confirm::Confirm;
use super::model_body::Change;
use super::table::{self, Column, plain};
use super::units;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Map, Value, json};

const PATH: &str = "/admin/v1/models";
const ALIASES: &str = "/admin/v1/model-aliases";
const LIST: &[Column] = &[
    Column::text("id", "/id"),
    Column::text("provider", "/provider"),
    Column::text("layer", "/layer"),
    Column::text("status", "/status"),
    Column::text("served", "/served"),
    Column::text("by", "/serving/by"),
    Column::price("input/M", "/price_picousd_per_token/input"),
    Column::price("output/M", "/price_picousd_per_token/output"),
    Column::text("aliases", "/aliases"),
    Column::time("sunset", "/deprecation/sunset_at"),
];
const ONE: &[Column] = &[
    Column::text("id", "/id"),
    Column::text("name", "/name"),
    Column::text("provider", "/provider"),
    Column::text("layer", "/layer"),
    Column::text("status", "/status"),
    Column::text("served", "/served"),
    Column::text("served by", "/serving/by"),
    Column::text("upstream", "/serving/upstream"),
    Column::text("answers in its place", "/serving/model"),
    Column::text("stand-in", "/stand_in"),
    Column::text("input", "/input_modalities"),
    Column::text("output", "/output_modalities"),
    Column::text("context tokens", "/context_tokens"),
    Column::text("max output tokens", "/max_output_tokens"),
    Column::text("default output tokens", "/default_output_tokens"),
    Column::text("streams", "/streaming"),
    Column::price("input, 1M tokens", "/price_picousd_per_token/input"),
    Column::price("output, 1M tokens", "/price_picousd_per_token/output"),
    Column::price("cache read, 1M", "/price_picousd_per_token/cache_read"),
    Column::price("cache write, 1M", "/price_picousd_per_token/cache_write"),
    Column::text("price source", "/price_picousd_per_token/source"),
    Column::text("aliases", "/aliases"),
    Column::time("deprecated", "/deprecation/deprecated_at"),
    Column::time("sunset", "/deprecation/sunset_at"),
    Column::text("use instead", "/deprecation/replacement"),
    Column::text("message", "/deprecation/message"),
    Column::time("updated", "/updated_at"),
];
const ALIAS: &[Column] = &[
    Column::text("id", "/id"),
    Column::text("target", "/target"),
    Column::text("served", "/served"),
    Column::time("updated", "/updated_at"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Model {
    /// Lists the models of all layers, by id, as they are in force.
    List(List),
    /// Shows one.
    Show(One),
    /// Adds one. It answers once it has a stand-in, or a cluster of the configuration serves it.
    #[command(visible_alias = "create")]
    Add(Box<Change>),
    /// Changes one. What is not given stays; a model of a lower layer is copied into the API's, whole, and changed there.
    Update(Box<Change>),
    /// Announces one's end: callers are told before it, and refused after it.
    Deprecate(Deprecate),
    /// Takes back what the API has set of one: the configuration's entry is back, or the one that is compiled in, or the
    /// model is gone.
    Delete(Sure),
    /// Makes another id of a model, or points one to another model.
    Alias(Alias),
    /// Removes an alias.
    Unalias(Unalias),
    /// Lists aliases, by id.
    Aliases(Aliases),
    /// Shows how the catalog stands: how much the API has set, and what of it does not count.
    Status(Status),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Layer {
    CompiledIn,
    Configuration,
    Api,
}

impl Layer {
    fn as_str(self) -> &'static str {
        match self {
            Layer::CompiledIn => "compiled_in",
            Layer::Configuration => "configuration",
            Layer::Api => "api",
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Exactly this provider.
    #[arg(long)]
    provider: Option<String>,
    /// Only these: active, legacy, …
    #[arg(long)]
    status: Option<String>,
    /// Only those whose entry is from this layer.
    #[arg(long, value_enum)]
    layer: Option<Layer>,
    /// Only those that a call would reach; `--served false` for the others.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    served: Option<bool>,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// Its id.
    model: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Deprecate {
    /// Its id.
    model: String,
    /// Takes the announcement back.
    #[arg(long, conflicts_with_all = ["message", "replacement", "from", "sunset"])]
    undo: bool,
    /// For callers.
    #[arg(long)]
    message: Option<String>,
    /// Id of the model to use instead.
    #[arg(long, value_name = "MODEL")]
    replacement: Option<String>,
    /// Since when callers should leave it. Default: now.
    #[arg(long, value_name = "TIME", value_parser = units::at)]
    from: Option<String>,
    /// From when on calls are refused.
    #[arg(long, value_name = "TIME", value_parser = units::at)]
    sunset: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Sure {
    /// Its id.
    model: String,
    #[command(flatten)]
    confirm: Confirm,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Alias {
    /// The alias: letters, digits and `. _ : -`; must not be a model's id.
    alias: String,
    /// Id of the model that it names.
    target: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Unalias {
    /// The alias.
    alias: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Aliases {
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(command: Model) -> Result<(), String> {
    match command {
        Model::List(List { provider, status, layer, served, paging, common }) => {
            let query = [
                ("provider", provider),
                ("status", status),
                ("layer", layer.map(|layer| layer.as_str().to_owned())),
                ("served", served.map(|served| served.to_string())),
            ];
            Api::new(common)?.list(PATH, &query, &paging, LIST).await
        }
        Model::Show(One { model, common }) => {
            let api = Api::new(common)?;
            api.show(&api.client.read(&one(&model)).await?, ONE)
        }
        Model::Add(change) => {
            let mut body = change.body()?;
            body.insert("id".to_owned(), json!(change.model));
            let api = Api::new(change.common)?;
            api.show(&api.client.create(PATH, &Value::Object(body)).await?, ONE)
        }
        Model::Update(change) => {
            let body = change.body()?;
            if body.is_empty() {
                return Err("nothing to change: see --help for what can be given".into());
            }
            patch(change.common, &change.model, &Value::Object(body)).await
        }
        Model::Deprecate(Deprecate { model, undo, message, replacement, from, sunset, common }) => {
            let mut deprecation = Map::new();
            let parts =
                [("message", message), ("replacement", replacement), ("deprecated_at", from), ("sunset_at", sunset)];
            deprecation.extend(parts.into_iter().filter_map(|(name, part)| Some((name.to_owned(), part?.into()))));
            let deprecation = if undo { Value::Null } else { Value::Object(deprecation) };
            patch(common, &model, &json!({ "deprecation": deprecation })).await
        }
        Model::Delete(Sure { model, confirm, common }) => {
            let api = Api::new(common)?;
            confirm.check(&format!("take back what the API has set of {model}"))?;
            api.client.change(Method::DELETE, &one(&model), None, None).await?;
            api.done(&format!("what the API had set of {model} is taken back"))
        }
        Model::Alias(Alias { alias, target, common }) => {
            let api = Api::new(common)?;
            let path = format!("{ALIASES}/{}", segment(&alias));
            api.show(&api.client.change(Method::PUT, &path, Some(&json!({ "target": target })), None).await?, ALIAS)
        }
        Model::Unalias(Unalias { alias, common }) => {
            let api = Api::new(common)?;
            api.client.change(Method::DELETE, &format!("{ALIASES}/{}", segment(&alias)), None, None).await?;
            api.done(&format!("{alias} is no alias any more"))
        }
        Model::Aliases(Aliases { paging, common }) => Api::new(common)?.list(ALIASES, &[], &paging, ALIAS).await,
        Model::Status(Status { common }) => {
            let api = Api::new(common)?;
            api.show_as(&api.client.read("/admin/v1/catalog").await?, standing)
        }
    }
}

async fn patch(common: Common, model: &str, body: &Value) -> Result<(), String> {
    let api = Api::new(common)?;
    api.show(&api.client.change(Method::PATCH, &one(model), Some(body), None).await?, ONE)
}

fn one(model: &str) -> String {
    format!("{PATH}/{}", segment(model))
}

fn standing(view: &Value) -> String {
    let columns = [
        Column::text("locked", "/locked"),
        Column::text("models", "/models"),
        Column::text("aliases", "/aliases"),
        Column::text("set by the API", "/api_entries"),
        Column::text("at most", "/max_api_entries"),
        Column::text("ignored", "/ignored"),
    ];
    let mut text = table::of_one(&columns, view);
    for complaint in view["complaints"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let part = |name: &str| plain(&complaint[name]);
        text += &format!("does not count: {}: {} {}\n", part("id"), part("param"), part("rule"));
    }
    text
}
