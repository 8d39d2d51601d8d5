//! JSON that passes through as its author wrote it: a schema's properties keep their order, and numbers their digits.

use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// Deepest nesting taken, in arrays and objects.
pub const MAX_DEPTH: usize = 64;

/// One valid JSON value as text, without spaces between things.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

/// Why a text is not taken as JSON.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum JsonError {
    #[error("it is not valid JSON: {0}")]
    Invalid(#[from] serde_json::Error),
    #[error("it is nested deeper than {MAX_DEPTH}")]
    TooDeep,
}

impl Json {
    /// Takes `text` if it is one JSON value.
    ///
    /// # Errors
    /// [`JsonError`]
    pub fn parse(text: &str) -> Result<Json, JsonError> {
        if depth(&serde_json::from_str::<Value>(text)?) > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        Ok(Json(compact(text).into()))
    }

    /// `{}`
    pub fn empty_object() -> Json {
        Json("{}".into())
    }

    /// The schema that any object fits.
    pub fn any_object() -> Json {
        Json(r#"{"type":"object","properties":{}}"#.into())
    }

    /// A schema that names no type, as one of objects.
    pub(super) fn as_object_schema(&self) -> Json {
        match self.0.strip_prefix('{') {
            Some("}") | None => Json::any_object(),
            Some(members) => Json(format!(r#"{{"type":"object",{members}"#).into()),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Valid JSON without the spaces between things.
fn compact(text: &str) -> String {
    let (mut out, mut in_string, mut escaped) = (String::with_capacity(text.len()), false, false);
    for c in text.chars() {
        if in_string || !c.is_ascii_whitespace() {
            out.push(c);
        }
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = in_string,
            '"' => in_string = !in_string,
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_digits_stay_and_spaces_go() {
        let json = Json::parse(" { \"b\" : [ 1.50 , 2e0 ] ,\n\"a\": \"x \\\" y\\\\\" , \"c\":\t{} } ").unwrap();
        assert_eq!(json.as_str(), r#"{"b":[1.50,2e0],"a":"x \" y\\","c":{}}"#);
        assert!(json.is_object() && !Json::parse("[{}]").unwrap().is_object());
    }

    #[test]
    fn what_is_no_json_or_too_deep_is_refused() {
        for text in ["", "{", "{} {}", "{'a': 1}", "nul", "\"\u{1}\""] {
            assert!(matches!(Json::parse(text), Err(JsonError::Invalid(_))), "{text}");
        }
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::parse(&nested(MAX_DEPTH)).is_ok());
        assert!(matches!(Json::parse(&nested(MAX_DEPTH + 1)), Err(JsonError::TooDeep)));
        assert!(Json::parse(&nested(200_000)).is_err());
    }
}
