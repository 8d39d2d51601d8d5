//! `caprock model-access`: the models that a tenant or a project may call. A key's are in its scope: `caprock key update`.

use super::api::{Api, Common, OfTenant};
use super::client::{segment, with_query};
use super::table::{self, plain};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(super) enum ModelAccess {
    /// Shows a level's list and those above it; with --model, whether that model may be called and who says so.
    Show(Show),
    /// Replaces a level's list. A project's can narrow its tenant's, and never widen it.
    Set(Set),
    /// Takes a level's list away: it allows all models then.
    Clear(Clear),
}

/// Whose: the tenant's unless a project is given.
#[derive(Debug, Args)]
pub(super) struct Level {
    #[command(flatten)]
    of: OfTenant,
    /// A project of the tenant, by id or name.
    #[arg(long)]
    project: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    level: Level,
    /// A model, by any name that callers may use.
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    level: Level,
    /// Ids of models, or beginnings of them that end in `*`, with commas.
    #[arg(long, value_delimiter = ',', value_name = "LIST", required_unless_present = "none")]
    models: Vec<String>,
    /// No model at all.
    #[arg(long, conflicts_with = "models")]
    none: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Clear {
    #[command(flatten)]
    level: Level,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(command: ModelAccess) -> Result<(), String> {
    match command {
        ModelAccess::Show(Show { level, model, common }) => {
            let api = Api::new(common)?;
            let path = with_query(&path(&api, &level).await?, &[("model", model)]);
            api.show_as(&api.client.read(&path).await?, words)
        }
        // With --none the list is empty.
        ModelAccess::Set(Set { level, models, none: _, common }) => {
            put(common, &level, &json!({ "models": models })).await
        }
        ModelAccess::Clear(Clear { level, common }) => put(common, &level, &json!({ "models": null })).await,
    }
}

async fn put(common: Common, level: &Level, body: &Value) -> Result<(), String> {
    let api = Api::new(common)?;
    let path = path(&api, level).await?;
    api.show_as(&api.client.change(Method::PUT, &path, Some(body), None).await?, words)
}

async fn path(api: &Api, level: &Level) -> Result<String, String> {
    let (tenant, project) = api.places(&level.of, level.project.as_deref()).await?;
    let tenant = format!("/admin/v1/tenants/{}", segment(&tenant));
    Ok(match project {
        Some(project) => format!("{tenant}/projects/{}/model-access", segment(&project)),
        None => format!("{tenant}/model-access"),
    })
}

fn words(view: &Value) -> String {
    let levels = view["effective"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> =
        levels.iter().map(|level| vec![plain(&level["level"]), models(&level["models"])]).collect();
    let mut text = table::table(&["level", "models"], &rows);
    let verdict = &view["verdict"];
    if !verdict.is_null() {
        text += &format!("\n{} may {}be called\n", plain(&verdict["model"]), not(&verdict["permitted"]));
        let levels = verdict["levels"].as_array().map(Vec::as_slice).unwrap_or_default();
        let word = |level: &Value| if level["permitted"] == true { "allows" } else { "denies" }.to_owned();
        let rows: Vec<Vec<String>> =
            levels.iter().map(|level| vec![plain(&level["level"]), word(level), reason(level)]).collect();
        text += &table::table(&["level", "verdict", "why"], &rows);
    }
    text
}

fn models(list: &Value) -> String {
    match list {
        Value::Null => "all".into(),
        Value::Array(entries) if entries.is_empty() => "none".into(),
        list => plain(list),
    }
}

fn not(permitted: &Value) -> &'static str {
    if permitted == true { "" } else { "not " }
}

fn reason(level: &Value) -> String {
    let reason = plain(&level["reason"]).replace('_', " ");
    if level["pattern"].is_null() { reason } else { format!("{reason} {}", plain(&level["pattern"])) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_none_and_some_models_look_different() {
        let view = json!({"level": "project", "own": {"models": []}, "effective": [
            {"level": "tenant", "models": null}, {"level": "project", "models": []}
        ]});
        assert_eq!(words(&view), "level    models\ntenant   all\nproject  none\n");
        assert_eq!(models(&json!(["a", "b*"])), "a,b*");
    }

    #[test]
    fn a_verdict_names_each_level_and_its_reason() {
        let view = json!({"effective": [{"level": "tenant", "models": ["a*"]}], "verdict": {
            "model": "b", "permitted": false,
            "levels": [{"level": "tenant", "permitted": false, "reason": "not_listed", "pattern": null}]
        }});
        let text = words(&view);
        assert!(text.ends_with("b may not be called\nlevel   verdict  why\ntenant  denies   not listed\n"), "{text}");
    }
}
