//! Reading callers' JSON: bounded by the body's limit and serde_json's depth, and clear about the field at fault.

use crate::error::{Error, ErrorKind, Result};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde_json::value::RawValue;
use std::{fmt, marker::PhantomData};

/// Reads `T` from a body.
///
/// # Errors
/// `Invalid`, with the path of the field at fault as `param` when the JSON itself is well-formed.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    // serde would also read a struct from an array of its fields, which is nobody's API.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::new(ErrorKind::Invalid, "The body is not a JSON object."));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        explain(error.inner(), &path)
    })?;
    json.end().map_err(|error| explain(&error, "."))?;
    Ok(parsed)
}

/// Reads `T` from a member that was left as text; `param` is its path.
///
/// # Errors
/// `Invalid`, with the path of the field at fault as `param`.
pub fn member<T: DeserializeOwned>(param: &str, value: &RawValue) -> Result<T> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(value.get())).map_err(|error| {
        let inside = error.path().to_string();
        let path = match inside.as_str() {
            "." => param.to_owned(),
            inside if inside.starts_with('[') => format!("{param}{inside}"),
            inside => format!("{param}.{inside}"),
        };
        explain(error.inner(), &path)
    })
}

fn explain(error: &serde_json::Error, path: &str) -> Error {
    if !error.is_data() {
        return Error::new(ErrorKind::Invalid, format!("The body is not valid JSON: {error}."));
    }
    // A field that is missing has no path of its own: the one found is of where it should be.
    let text = error.to_string();
    if let Some((field, _)) = text.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
        let field = if path == "." { field.to_owned() } else { format!("{path}.{field}") };
        return Error::invalid(field.as_str(), format!("`{field}` is missing."));
    }
    if path == "." {
        return Error::new(ErrorKind::Invalid, format!("The body does not have the expected form: {error}."));
    }
    Error::invalid(path, format!("`{path}`: {error}."))
}

/// A text, or a list: several fields of the OpenAI API take either.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum TextOr<T> {
    /// One text.
    Text(String),
    /// A list.
    Many(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `untagged`: that would answer every mistake inside with "did not match any variant".
        deserializer.deserialize_any(TextOrVisitor(PhantomData))
    }
}

struct TextOrVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for TextOrVisitor<T> {
    type Value = TextOr<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(TextOr::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(TextOr::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(TextOr::Many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Wire {
        #[serde(default)]
        stop: Option<TextOr<String>>,
        #[serde(default)]
        count: u32,
    }

    #[test]
    fn a_mistake_names_its_field() {
        let error = parse::<Wire>(br#"{"stop": ["a", 1]}"#).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("stop[1]"));
        let error = parse::<Wire>(br#"{"count": -1}"#).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("count"));
        assert_eq!(parse::<Wire>(br#"{"count": 2}"#).unwrap().count, 2);
    }

    #[test]
    fn a_missing_field_is_named_with_its_place() {
        #[derive(Debug, serde::Deserialize)]
        struct Outer {
            inner: Inner,
        }
        #[derive(Debug, serde::Deserialize)]
        struct Inner {
            list: Vec<Leaf>,
        }
        #[derive(Debug, serde::Deserialize)]
        struct Leaf {
            name: String,
        }
        let missing = |body: &str| parse::<Outer>(body.as_bytes()).unwrap_err().param.unwrap();
        assert_eq!(missing("{}"), "inner");
        assert_eq!(missing(r#"{"inner": {}}"#), "inner.list");
        assert_eq!(missing(r#"{"inner": {"list": [{"name": "a"}, {}]}}"#), "inner.list[1].name");
        let read = parse::<Outer>(br#"{"inner": {"list": [{"name": "a"}]}}"#).unwrap();
        assert_eq!(read.inner.list[0].name, "a");
    }

    #[test]
    fn what_is_no_json_is_said_so_and_names_no_field() {
        for body in ["", "{", "{} x", "\u{0}", "[1]", "null", r#"{"a""#, &"[".repeat(200_000)] {
            let error = parse::<Wire>(body.as_bytes()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{body}");
            assert_eq!(error.param, None, "{body}");
        }
        let error = parse::<Wire>(b"{\"stop\": \"\xff\"}").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        let deep = format!(r#"{{"x": {}"#, "[".repeat(200_000));
        assert_eq!(parse::<Wire>(deep.as_bytes()).unwrap_err().kind, ErrorKind::Invalid);
    }

    #[test]
    fn either_form_is_read() {
        assert_eq!(parse::<Wire>(br#"{"stop": "a"}"#).unwrap().stop, Some(TextOr::Text("a".into())));
        assert_eq!(parse::<Wire>(br#"{"stop": ["a"]}"#).unwrap().stop, Some(TextOr::Many(vec!["a".into()])));
        assert_eq!(parse::<Wire>(br#"{"stop": null}"#).unwrap().stop, None);
    }
}
