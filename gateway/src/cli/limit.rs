//! `caprock limit`: a level's own limits, and which of all levels' wins.

use super::api::{Api, Common, OfTenant, value};
use super::client::segment;
use super::table;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// As the API spells them, and as people read them.
const LIMITS: [(&str, &str); 3] = [
    ("requests_per_minute", "requests per minute"),
    ("tokens_per_minute", "tokens per minute"),
    ("concurrent_requests", "requests at the same time"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Limit {
    /// Shows the limits of a tenant, project or key: all levels', which wins, why, and what is left of each.
    Show(Show),
    /// Sets limits of one level. Those that are not given stay; `none` takes one away.
    Set(Set),
}

/// Whose limits: the tenant's unless a narrower level is given.
#[derive(Debug, Args)]
pub(super) struct LevelOptions {
    #[command(flatten)]
    of: OfTenant,
    /// A project of the tenant, by id or name.
    #[arg(long, group = "level", value_name = "PROJECT")]
    project: Option<String>,
    /// An API key of the tenant: `key_…`
    #[arg(long, group = "level", value_name = "ID")]
    key: Option<String>,
    /// A SigV4 access key of the tenant: `key_…`
    #[arg(long, group = "level", value_name = "ID")]
    access_key: Option<String>,
}

/// Limits of one level.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitOptions {
    /// Requests in any 60 seconds; `none` for no limit of its own.
    #[arg(long, value_name = "NUMBER", value_parser = bound)]
    requests_per_minute: Option<Bound>,
    /// Tokens, prompt and answer together, in any 60 seconds; `none` for no limit of its own.
    #[arg(long, value_name = "NUMBER", value_parser = bound)]
    tokens_per_minute: Option<Bound>,
    /// Requests at the same time; `none` for no limit of its own.
    #[arg(long, value_name = "NUMBER", value_parser = bound)]
    concurrent_requests: Option<Bound>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    None,
    At(u64),
}

fn bound(text: &str) -> Result<Bound, String> {
    if text == "none" {
        return Ok(Bound::None);
    }
    text.parse().map(Bound::At).map_err(|_| format!("`{text}` is neither a number nor `none`"))
}

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    level: LevelOptions,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    level: LevelOptions,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    common: Common,
}

impl LimitOptions {
    fn given(&self) -> impl Iterator<Item = (&'static str, Bound)> {
        let bounds = [self.requests_per_minute, self.tokens_per_minute, self.concurrent_requests];
        LIMITS.iter().zip(bounds).filter_map(|((name, _), bound)| Some((*name, bound?)))
    }

    /// Whether any is given.
    pub(super) fn is_given(&self) -> bool {
        self.given().next().is_some()
    }

    /// Those of what is new.
    pub(super) fn of_new(&self) -> Value {
        self.over(&json!({}))
    }

    /// `limits` with those replaced that are given.
    pub(super) fn over(&self, limits: &Value) -> Value {
        let mut limits: Map<String, Value> = limits.as_object().cloned().unwrap_or_default();
        for (name, bound) in self.given() {
            match bound {
                Bound::None => limits.insert(name.to_owned(), Value::Null),
                Bound::At(number) => limits.insert(name.to_owned(), number.into()),
            };
        }
        Value::Object(limits)
    }
}

pub(super) async fn run(command: Limit) -> Result<(), String> {
    match command {
        Limit::Show(Show { level, common }) => {
            let api = Api::new(common)?;
            let path = path(&api, &level).await?;
            api.show_as(&api.client.read(&path).await?, tree)
        }
        Limit::Set(Set { level, limits, common }) => {
            if !limits.is_given() {
                return Err(
                    "nothing to set: give --requests-per-minute, --tokens-per-minute or --concurrent-requests".into()
                );
            }
            let api = Api::new(common)?;
            let path = path(&api, &level).await?;
            let before = api.client.read(&path).await?;
            // All three are replaced at once, so it must still be what was read.
            let body = limits.over(&value(&before.body)?["own"]);
            let done = api.client.change(Method::PUT, &path, Some(&body), before.etag.as_deref()).await?;
            api.show_as(&done, tree)
        }
    }
}

async fn path(api: &Api, level: &LevelOptions) -> Result<String, String> {
    let (tenant, project) = api.places(&level.of, level.project.as_deref()).await?;
    let tenant = format!("/admin/v1/tenants/{}", segment(&tenant));
    Ok(match (project, &level.key, &level.access_key) {
        (Some(project), _, _) => format!("{tenant}/projects/{}/limits", segment(&project)),
        (None, Some(key), _) => format!("{tenant}/api-keys/{}/limits", segment(key)),
        (None, None, Some(key)) => format!("{tenant}/access-keys/{}/limits", segment(key)),
        (None, None, None) => format!("{tenant}/limits"),
    })
}

/// Each limit in force with its reason, and beneath it all levels that were looked at.
fn tree(view: &Value) -> String {
    let mut text = String::new();
    for (name, words) in LIMITS {
        let limit = &view["effective"][name];
        // Writing to a string can't fail.
        let _ = writeln!(text, "{words}: {}", in_force(limit));
        let levels = limit["considered"].as_array().map(Vec::as_slice).unwrap_or_default();
        let rows: Vec<Vec<String>> = levels.iter().map(row).collect();
        let table = table::table(&["", "level", "limit", "used here", "left"], &rows);
        // The head would be there three times.
        table.lines().skip(1).for_each(|line| {
            let _ = writeln!(text, "  {}", line.trim_start());
        });
    }
    text
}

fn row(level: &Value) -> Vec<String> {
    let cell = |value: &Value, words: &str| {
        if value.is_null() { String::new() } else { format!("{}{words}", table::plain(value)) }
    };
    let here = &level["on_this_replica"];
    let limit = if level["limit"].is_null() { "none".to_owned() } else { table::plain(&level["limit"]) };
    vec![
        String::new(),
        table::plain(&level["level"]),
        limit,
        cell(&here["used"], " used"),
        cell(&here["remaining"], " left"),
    ]
}

fn in_force(limit: &Value) -> String {
    let level = table::plain(&limit["level"]);
    let why = match limit["reason"].as_str().unwrap_or_default() {
        "unlimited" => return "no limit at any level".into(),
        "only_limit" => "no other level has one",
        "tightest" => "the tightest",
        "narrowest_of_equals" => "the tightest; of equal ones the narrowest",
        // A later version's reason.
        other => other,
    };
    format!("{}, the {level}'s ({why})", table::plain(&limit["limit"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays_and_none_takes_away() {
        let options = LimitOptions {
            requests_per_minute: Some(Bound::At(60)),
            tokens_per_minute: Some(Bound::None),
            concurrent_requests: None,
        };
        let before = json!({"requests_per_minute": 5, "tokens_per_minute": 7, "concurrent_requests": 9});
        assert_eq!(
            options.over(&before),
            json!({"requests_per_minute": 60, "tokens_per_minute": null, "concurrent_requests": 9})
        );
        assert_eq!(LimitOptions::default().of_new(), json!({}));
        assert!(!LimitOptions::default().is_given() && options.is_given());
        assert_eq!(bound("none"), Ok(Bound::None));
        assert_eq!(bound("0"), Ok(Bound::At(0)));
        for text in ["-1", "1.5", "", "many"] {
            assert!(bound(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_tree_says_which_limit_wins_why_and_what_is_left() {
        let level = |level: &str, limit: Option<u64>| {
            json!({"level": level, "limit": limit,
                   "on_this_replica": {"used": 2, "remaining": limit.map(|limit| limit - 2)}})
        };
        let unlimited = json!({"limit": null, "level": null, "reason": "unlimited",
                               "considered": [{"level": "tenant", "limit": null}]});
        let view = json!({"level": "project", "own": {}, "effective": {
            "requests_per_minute": {"limit": 60, "level": "project", "reason": "tightest",
                                    "considered": [level("tenant", Some(600)), level("project", Some(60))]},
            "tokens_per_minute": {"limit": 10, "level": "tenant", "reason": "only_limit",
                                  "considered": [level("tenant", Some(10)), level("project", None)]},
            "concurrent_requests": unlimited,
        }});
        let expected = "requests per minute: 60, the project's (the tightest)\n  \
                          tenant   600    2 used     598 left\n  \
                          project  60     2 used     58 left\n\
                        tokens per minute: 10, the tenant's (no other level has one)\n  \
                          tenant   10     2 used     8 left\n  \
                          project  none   2 used\n\
                        requests at the same time: no limit at any level\n  \
                          tenant  none\n";
        assert_eq!(tree(&view), expected);
    }
}
