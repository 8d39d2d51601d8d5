//! Schemas of arguments as a grammar takes them.

use crate::inference::Tool;
use cluster_protocol::Grammar;
use minijinja::Value;
use minijinja::value::ValueKind;

/// What says nothing about validity, but much about everything else.
const ANNOTATIONS: [&str; 6] = ["description", "title", "examples", "default", "$comment", "$schema"];
/// Members that hold schemas by names which are the caller's.
const NAMED: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// The form that models write by themselves. With free white space a small model goes on for ever.
const FORM: &str = r#""x-guidance":{"whitespace_flexible":false,"item_separator":", ","key_separator":": "}"#;

/// The schema that any object fits.
pub(super) fn any_object() -> String {
    format!("{{{FORM},\"type\":\"object\"}}")
}

/// The schema of a tool's arguments without what does not constrain; any object where it can't be enforced, which for a
/// strict tool was its caller's error before.
pub(super) fn of_arguments(tool: &Tool) -> String {
    let schema = Grammar::JsonSchema { schema: tool.parameters.as_str().to_owned() };
    if cluster_constraint::check(&schema).is_err() {
        return any_object();
    }
    of_form(tool.parameters.as_str())
}

/// A schema that workers take, in the one form of JSON.
pub(super) fn of_form(schema: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(schema) else { return any_object() };
    let bare = serde_json::to_string(&bare(&value)).unwrap_or_default();
    match bare.strip_prefix('{') {
        Some("}") | None => format!("{{{FORM}}}"),
        Some(members) => format!("{{{FORM},{members}"),
    }
}

/// Keeps the members' order.
fn bare(schema: &Value) -> Value {
    match schema.kind() {
        ValueKind::Map => {
            let kept = members(schema).filter(|(key, _)| !key.as_str().is_some_and(|key| ANNOTATIONS.contains(&key)));
            Value::from_pairs(kept.map(|(key, value)| match key.as_str() {
                Some("const" | "enum") => (key, value),
                Some(name) if NAMED.contains(&name) => {
                    (key, Value::from_pairs(members(&value).map(|(name, schema)| (name, bare(&schema)))))
                }
                _ => (key, bare(&value)),
            }))
        }
        ValueKind::Seq => schema.try_iter().into_iter().flatten().map(|item| bare(&item)).collect(),
        _ => schema.clone(),
    }
}

fn members(value: &Value) -> impl Iterator<Item = (Value, Value)> {
    let keys = value.try_iter().into_iter().flatten().collect::<Vec<_>>();
    keys.into_iter().map(|key| (key.clone(), value.get_item(&key).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Json;

    fn tool(schema: &str) -> Tool {
        Tool { name: "f".into(), description: None, parameters: Json::parse(schema).unwrap(), strict: false }
    }

    #[test]
    fn annotations_go_and_properties_of_their_names_stay_in_order() {
        let schema = r#"{"type":"object","description":"((","properties":{"title":{"type":"string","title":"t"},
            "a":{"enum":[{"default":1}]}},"required":["title"]}"#;
        let bare = r#""type":"object","properties":{"title":{"type":"string"},"a":{"enum":[{"default":1}]}},"required":["title"]}"#;
        assert_eq!(of_arguments(&tool(schema)), format!("{{{FORM},{bare}"));
        assert_eq!(of_form("{}"), format!("{{{FORM}}}"));
    }

    #[test]
    fn what_cant_be_enforced_is_any_object() {
        assert_eq!(of_arguments(&tool(r#"{"type":"object","not":{}}"#)), any_object());
    }
}
