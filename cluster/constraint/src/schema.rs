//! What a JSON schema may be, looked at before it is compiled: so the answer names the place.

use crate::check::Unsupported;
use serde_json::Value;

/// Deepest nesting of values in a schema. A tool's arguments rarely need ten; the compiler recurses.
const MAX_DEPTH: usize = 64;
/// Most values in a schema, of every kind.
const MAX_VALUES: usize = 10_000;

/// Keywords that change what is valid and that the compiler knows, and those that say nothing about validity.
const KNOWN: [&str; 43] = [
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "const",
    "enum",
    "type",
    "items",
    "additionalItems",
    "prefixItems",
    "minItems",
    "maxItems",
    "properties",
    "additionalProperties",
    "patternProperties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "$anchor",
    "$defs",
    "definitions",
    "$schema",
    "$id",
    "id",
    "$comment",
    "title",
    "description",
    "default",
    "readOnly",
    "writeOnly",
    "examples",
    "contentMediaType",
    "contentEncoding",
    "deprecated",
];
/// Keywords that hold one schema, or `true` or `false`, or a list of schemas.
const HOLD_SCHEMAS: [&str; 6] = ["items", "additionalItems", "additionalProperties", "anyOf", "oneOf", "allOf"];
/// Keywords that hold schemas by names which are the caller's.
const HOLD_NAMED_SCHEMAS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];

/// Refuses what is too deep or too large, and each keyword that would be ignored though it changes what is valid.
pub(crate) fn check(schema: &Value) -> Result<(), Unsupported> {
    let mut values = 0;
    measure(schema, &mut values, 0)?;
    walk(schema, "")
}

fn measure(value: &Value, values: &mut usize, depth: usize) -> Result<(), Unsupported> {
    *values += 1;
    if depth > MAX_DEPTH {
        return Err(Unsupported::new("", format!("It is nested more than {MAX_DEPTH} levels deep.")));
    }
    if *values > MAX_VALUES {
        return Err(Unsupported::new("", format!("It has more than {MAX_VALUES} values.")));
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| measure(item, values, depth + 1)),
        Value::Object(fields) => fields.values().try_for_each(|field| measure(field, values, depth + 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn walk(schema: &Value, path: &str) -> Result<(), Unsupported> {
    let fields = match schema {
        Value::Object(fields) => fields,
        Value::Bool(_) => return Ok(()),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(Unsupported::new(path, "A schema must be an object, `true` or `false`.".into()));
        }
    };
    for (name, value) in fields {
        let path = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
        if !KNOWN.contains(&name.as_str()) {
            return Err(Unsupported::new(&path, format!("The keyword `{name}` is not supported.")));
        }
        match value {
            Value::String(target) if name == "$ref" && !target.starts_with('#') => {
                return Err(Unsupported::new(&path, "Only references within the schema (`#…`) are supported.".into()));
            }
            Value::Object(named) if HOLD_NAMED_SCHEMAS.contains(&name.as_str()) => {
                for (key, schema) in named {
                    walk(schema, &format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")))?;
                }
            }
            Value::Array(schemas) if HOLD_SCHEMAS.contains(&name.as_str()) || name == "prefixItems" => {
                for (at, schema) in schemas.iter().enumerate() {
                    walk(schema, &format!("{path}/{at}"))?;
                }
            }
            schema if HOLD_SCHEMAS.contains(&name.as_str()) => walk(schema, &path)?,
            _ => {}
        }
    }
    Ok(())
}
