//! `caprock usage`: what a tenant used and owes, in groups.

use super::api::{Api, Common, OfTenant};
use super::client::{segment, with_query};
use super::table::{self, Column};
use super::units;
use clap::Args;
use serde_json::Value;

/// What names a group; each only where it was grouped by it.
const NAMES: [Column; 4] = [
    Column::time("from", "/start"),
    Column::text("project", "/project_id"),
    Column::text("key", "/key_id"),
    Column::text("model", "/model"),
];
const SUMS: [Column; 7] = [
    Column::text("requests", "/requests"),
    Column::text("input", "/input_tokens"),
    Column::text("cache read", "/cache_read_tokens"),
    Column::text("cache write", "/cache_write_tokens"),
    Column::text("output", "/output_tokens"),
    Column::text("reasoning", "/reasoning_tokens"),
    Column::usd("amount", "/amount_nanousd"),
];

/// What a tenant used and owes for it, by what was settled in a range of time: tokens as the engine counted them, amounts as
/// the ledger has them.
#[derive(Debug, Args)]
pub(super) struct Usage {
    #[command(flatten)]
    of: OfTenant,
    /// At most two of project, key and model, and one of hour and day, with commas: `project,day`. Without it all is one
    /// group.
    #[arg(long, value_name = "LIST")]
    group_by: Option<String>,
    /// From this time on: 2027-01-31T12:00:00Z, a day, or so long ago: 7d. Default: 30 days before the end.
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
    /// Most groups.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Begin after this group: what the end of the former list says; give --from and --to with it.
    #[arg(long, value_name = "GROUP")]
    after: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(command: Usage) -> Result<(), String> {
    let Usage { of, group_by, from, to, project, key, model, limit, after, common } = command;
    let api = Api::new(common)?;
    let (tenant, project) = api.places(&of, project.as_deref()).await?;
    let path = with_query(
        &format!("/admin/v1/tenants/{}/usage", segment(&tenant)),
        &[
            ("group_by", group_by),
            ("from", from),
            ("to", to),
            ("project_id", project),
            ("key_id", key),
            ("model", model),
            ("limit", Some(limit.to_string())),
            ("after", after),
        ],
    );
    api.show_as(&api.client.read(&path).await?, words)
}

fn words(view: &Value) -> String {
    let time = |name: &str| view[name].as_str().map(units::to_the_second).unwrap_or_default();
    let groups = view["data"].as_array().cloned().unwrap_or_default();
    let is_named = |pointer: &str| groups.iter().any(|group| group.pointer(pointer).is_some());
    let names: Vec<Column> = NAMES.into_iter().filter(|column| is_named(column.pointer())).collect();
    // Kinds of token that nothing has been counted of would only widen the table.
    let total = &view["total"];
    let is_counted = |pointer: &str| total.pointer(pointer).and_then(Value::as_u64).is_some_and(|count| count > 0);
    let always = |name: &str| matches!(name, "/requests" | "/input_tokens" | "/output_tokens" | "/amount_nanousd");
    let sums = SUMS.iter().filter(|column| always(column.pointer()) || is_counted(column.pointer()));
    let columns: Vec<Column> = names.iter().chain(sums).copied().collect();
    let mut rows = groups;
    let is_grouped = !names.is_empty();
    if is_grouped || rows.is_empty() {
        rows.push(total.clone());
    }
    let mut text = format!("{} to {}\n\n{}", time("from"), time("to"), table::of_many(&columns, &rows));
    if is_grouped {
        text += "(the last line is the sum of all groups)\n";
    }
    if let Some(after) = view["next_after"].as_str() {
        text += &format!(
            "There is more: --from {} --to {} --after {after}\n",
            table::plain(&view["from"]),
            table::plain(&view["to"])
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sums(requests: u64, amount: i64, cache_read: u64) -> Value {
        json!({"requests": requests, "input_tokens": 10, "cache_read_tokens": cache_read, "cache_write_tokens": 0,
               "output_tokens": 4, "reasoning_tokens": 0, "amount_nanousd": amount})
    }

    fn group(names: &Value, sums: &Value) -> Value {
        let both = names.as_object().unwrap().iter().chain(sums.as_object().unwrap());
        Value::Object(both.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    #[test]
    fn groups_have_their_names_their_sums_in_dollars_and_a_line_of_all() {
        let names = json!({"start": "2026-11-23T00:00:00Z", "project_id": "prj_1"});
        let view = json!({"from": "2026-11-01T00:00:00Z", "to": "2026-11-24T10:00:00.25Z", "has_more": false,
                          "data": [group(&names, &sums(2, 1_500, 0))], "total": sums(2, 1_500, 0)});
        assert_eq!(
            words(&view),
            "2026-11-01T00:00:00Z to 2026-11-24T10:00:00Z\n\n\
             from                  project  requests  input  output  amount\n\
             2026-11-23T00:00:00Z  prj_1    2         10     4       $0.000001500\n\
             -                     -        2         10     4       $0.000001500\n\
             (the last line is the sum of all groups)\n"
        );
    }

    #[test]
    fn without_groups_there_is_one_line_and_counted_kinds_of_token_are_shown() {
        let view = json!({"from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z", "has_more": true,
                          "next_after": "abc", "data": [sums(1, 7, 3)], "total": sums(1, 7, 3)});
        assert_eq!(
            words(&view),
            "2026-11-01T00:00:00Z to 2026-11-02T00:00:00Z\n\n\
             requests  input  cache read  output  amount\n\
             1         10     3           4       $0.000000007\n\
             There is more: --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z --after abc\n"
        );
    }
}
