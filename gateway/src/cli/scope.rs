//! What a credential may be used for, and until when, as options.

use super::units;
use clap::Args;
use serde_json::{Map, Value, json};

/// The API's own default, which must be said when another part of a scope is.
const DEFAULT_OPERATIONS: [&str; 2] = ["inference", "control_plane"];
/// Lifts a bound.
const ANY: &str = "any";

/// What a credential is narrowed to.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Scope")]
pub(super) struct ScopeOptions {
    /// Kinds of operation, with commas: inference, control_plane, read_usage, administer.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    operations: Option<Vec<String>>,
    /// Ids of models, or beginnings of them that end in `*`, with commas; `any` for all.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    models: Option<Vec<String>>,
    /// APIs: openai, bedrock, anthropic, with commas; `any` for all.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    dialects: Option<Vec<String>>,
    /// Addresses that callers come from, such as 10.0.0.0/8, with commas; `any` for all.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    ip_ranges: Option<Vec<String>>,
}

/// When a credential ends.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Scope")]
pub(super) struct Expiry {
    /// Not accepted from then on: 2027-01-31T12:00:00Z, or a day; `never` takes an end away.
    #[arg(long, value_name = "TIME", conflicts_with = "expires_in", value_parser = expires_at)]
    expires_at: Option<Expires>,
    /// Not accepted after so long: 90d, 24h.
    #[arg(long, value_name = "LENGTH", value_parser = units::seconds)]
    expires_in: Option<u64>,
}

#[derive(Debug, Clone)]
enum Expires {
    Never,
    At(String),
}

fn expires_at(text: &str) -> Result<Expires, String> {
    if text == "never" { Ok(Expires::Never) } else { units::at(text).map(Expires::At) }
}

impl ScopeOptions {
    /// Whether any part is given.
    pub(super) fn is_given(&self) -> bool {
        [&self.operations, &self.models, &self.dialects, &self.ip_ranges].into_iter().any(Option::is_some)
    }

    /// The scope of what is new, beginning with the API's default; `None` leaves that to the API.
    pub(super) fn of_new(&self) -> Option<Value> {
        self.is_given().then(|| self.over(&json!({ "operations": DEFAULT_OPERATIONS })))
    }

    /// `scope` with those parts replaced that are given.
    pub(super) fn over(&self, scope: &Value) -> Value {
        let mut scope: Map<String, Value> = scope.as_object().cloned().unwrap_or_default();
        let parts = [
            ("operations", &self.operations),
            ("models", &self.models),
            ("dialects", &self.dialects),
            ("ip_ranges", &self.ip_ranges),
        ];
        for (name, part) in parts {
            match part.as_deref() {
                None => {}
                Some([only]) if only == ANY && name != "operations" => {
                    scope.remove(name);
                }
                Some(entries) => {
                    scope.insert(name.to_owned(), json!(entries));
                }
            }
        }
        Value::Object(scope)
    }
}

impl Expiry {
    /// As the API takes it: `None` when nothing is given, `null` for never.
    pub(super) fn value(&self) -> Result<Option<Value>, String> {
        if let Some(seconds) = self.expires_in {
            return Ok(Some(units::shifted(i64::try_from(seconds).map_err(|error| error.to_string())?).into()));
        }
        Ok(self.expires_at.as_ref().map(|expires| match expires {
            Expires::Never => Value::Null,
            Expires::At(time) => time.clone().into(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::time::Time;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        scope: ScopeOptions,
        #[command(flatten)]
        expiry: Expiry,
    }

    fn parse(arguments: &str) -> Cli {
        Cli::try_parse_from(["x"].into_iter().chain(arguments.split_whitespace())).unwrap()
    }

    #[test]
    fn a_scope_is_left_to_the_api_until_a_part_of_it_is_given() {
        assert_eq!(parse("").scope.of_new(), None);
        assert_eq!(
            parse("--models a,b* --ip-ranges 10.0.0.0/8").scope.of_new().unwrap(),
            json!({"operations": ["inference", "control_plane"], "models": ["a", "b*"], "ip_ranges": ["10.0.0.0/8"]})
        );
        assert_eq!(
            parse("--operations inference --dialects openai").scope.of_new().unwrap(),
            json!({"operations": ["inference"], "dialects": ["openai"]})
        );
    }

    #[test]
    fn a_change_keeps_the_parts_that_are_not_given_and_any_lifts_one() {
        let before = json!({"operations": ["inference"], "models": ["a"], "ip_ranges": ["10.0.0.0/8"]});
        assert_eq!(
            parse("--models any --dialects bedrock").scope.over(&before),
            json!({"operations": ["inference"], "dialects": ["bedrock"], "ip_ranges": ["10.0.0.0/8"]})
        );
    }

    #[test]
    fn an_end_is_a_time_a_length_or_never() {
        let value = |arguments| parse(arguments).expiry.value().unwrap();
        assert_eq!(value(""), None);
        assert_eq!(value("--expires-at never"), Some(Value::Null));
        assert_eq!(value("--expires-at 2027-01-31"), Some(json!("2027-01-31T00:00:00Z")));
        let at = value("--expires-in 90d").unwrap();
        let now = time::OffsetDateTime::now_utc().unix_timestamp() * 1_000_000;
        let days = (Time::parse(at.as_str().unwrap()).unwrap().0 - now) as f64 / 86_400e6;
        assert!((89.9..=90.0).contains(&days), "{days}");
        assert!(Cli::try_parse_from(["x", "--expires-at", "2027-01-31", "--expires-in", "1d"]).is_err());
        assert!(Cli::try_parse_from(["x", "--expires-in", "soon"]).is_err());
    }
}
