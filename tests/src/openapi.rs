//! The committed descriptions, as a test reads them: operations, their examples, and whether a value is what they say.

use jsonschema::Validator;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Methods that a path item may have.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// A description.
#[derive(Debug)]
pub struct Document {
    value: Value,
    /// Its components, in which members that a schema does not list are wrong: a validator alone would let every
    /// misspelt or forgotten member pass.
    closed: Value,
}

/// An operation of a description.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    document: &'a Document,
    /// What the description calls it.
    pub id: &'a str,
    /// In lower case.
    pub method: &'a str,
    /// With its parameters in braces.
    pub path: &'a str,
    value: &'a Value,
}

/// A body that an operation takes or gives, in one media type.
#[derive(Debug)]
pub struct Body<'a> {
    document: &'a Document,
    /// Where it stands: operation, and `request` or the status.
    pub place: String,
    /// Without parameters.
    pub media_type: &'a str,
    media: &'a Value,
}

impl Document {
    /// `openapi/inference.json`, the data port's.
    pub fn inference() -> Document {
        Document::read("inference.json")
    }

    /// `openapi/admin.json`, the admin port's.
    pub fn admin() -> Document {
        Document::read("admin.json")
    }

    fn read(name: &str) -> Document {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi").join(name);
        Document::of(serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap())
    }

    /// From JSON.
    pub fn of(value: Value) -> Document {
        let mut parts = BTreeSet::new();
        find_parts(&value, &mut parts);
        let mut closed = value["components"].clone();
        for (name, schema) in closed["schemas"].as_object_mut().into_iter().flatten() {
            close(schema, parts.contains(name.as_str()));
        }
        Document { value, closed }
    }

    /// The JSON itself.
    pub fn json(&self) -> &Value {
        &self.value
    }

    /// All of them, in the document's order.
    pub fn operations(&self) -> Vec<Operation<'_>> {
        let mut operations = Vec::new();
        for (path, item) in self.value["paths"].as_object().unwrap() {
            for method in METHODS {
                let Some(value) = item.get(method) else { continue };
                let id = value["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no operationId"));
                operations.push(Operation { document: self, id, method, path, value });
            }
        }
        operations
    }

    /// Schemas by name.
    pub fn schemas(&self) -> &Map<String, Value> {
        self.value["components"]["schemas"].as_object().unwrap()
    }

    /// Whether a value is what a schema of this document says, and has no member more.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let mut schema = schema.clone();
        close(&mut schema, false);
        // In `allOf`, so that whatever the schema has beside its own keywords can't clash with these.
        let root = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "components": self.closed, "allOf": [schema],
        });
        let validator: Validator = jsonschema::validator_for(&root).map_err(|error| format!("no schema: {error}"))?;
        let wrong: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        let pointer = reference.strip_prefix('#').unwrap();
        self.value.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }
}

impl<'a> Operation<'a> {
    /// Whether it takes credentials.
    pub fn is_secured(&self) -> bool {
        self.value["security"].as_array().is_some_and(|ways| !ways.is_empty())
    }

    /// Whether it takes a kind of credential, by the name of its security scheme.
    pub fn takes(&self, scheme: &str) -> bool {
        self.value["security"].as_array().into_iter().flatten().any(|way| way.get(scheme).is_some())
    }

    /// The permission that it takes, where the description says it.
    pub fn permission(&self) -> Option<&'a str> {
        self.value["x-permission"].as_str()
    }

    /// Its parameters: where (`path`, `query`, `header`), name, and the parameter itself.
    pub fn parameters(&self) -> Vec<(&'a str, &'a str, &'a Value)> {
        let parameters = self.value["parameters"].as_array().into_iter().flatten();
        parameters.map(|one| (one["in"].as_str().unwrap(), one["name"].as_str().unwrap(), one)).collect()
    }

    /// The bodies that it takes.
    pub fn request_bodies(&self) -> Vec<Body<'a>> {
        self.bodies(&self.value["requestBody"], &format!("{} request", self.id))
    }

    /// The bodies that it gives, by status.
    pub fn response_bodies(&self) -> Vec<(u16, Body<'a>)> {
        let responses = self.value["responses"].as_object().unwrap().iter();
        let bodies = responses.flat_map(|(status, response)| {
            let bodies = self.bodies(response, &format!("{} {status}", self.id));
            bodies.into_iter().map(|body| (status.parse().unwrap(), body))
        });
        bodies.collect()
    }

    fn bodies(&self, holder: &'a Value, place: &str) -> Vec<Body<'a>> {
        let document = self.document;
        let content = document.resolve(holder)["content"].as_object();
        let bodies = content.into_iter().flatten().map(|(media_type, media)| Body {
            document,
            place: place.to_owned(),
            media_type,
            media,
        });
        bodies.collect()
    }

    /// Whether a reply is one that this operation documents: status, media type, and what JSON it holds, be it one value
    /// or the data of server-sent events.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_reply(&self, status: u16, content_type: Option<&str>, body: &[u8]) -> Result<(), String> {
        let Some(response) = self.value["responses"].get(status.to_string()) else {
            return Err(format!("{status} is not documented"));
        };
        let bodies = self.bodies(response, &format!("{} {status}", self.id));
        let kind = content_type.map(|kind| kind.split(';').next().unwrap_or(kind).trim());
        let Some(kind) = kind else {
            return if bodies.is_empty() && body.is_empty() { Ok(()) } else { Err("no content type".into()) };
        };
        let documented: Vec<&str> = bodies.iter().map(|body| body.media_type).collect();
        let Some(documented) = bodies.iter().find(|body| body.media_type == kind) else {
            return Err(format!("{status} as {kind} is not documented, only {documented:?}"));
        };
        let text = String::from_utf8_lossy(body);
        let read = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| format!("{error}: {text}"));
        if documented.is_json() {
            let value = read(&text)?;
            return documented.check(&value).map_err(|wrong| format!("{wrong}: {value}"));
        }
        if kind == "text/event-stream" {
            let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            let (last, events) = data.split_last().ok_or("a stream without events")?;
            if *last != "[DONE]" || events.is_empty() {
                return Err(format!("the stream ends in {last}"));
            }
            return events.iter().try_for_each(|event| documented.check(&read(event)?));
        }
        if body.is_empty() { Err("an empty body".into()) } else { Ok(()) }
    }
}

impl<'a> Body<'a> {
    /// Whether it is JSON.
    pub fn is_json(&self) -> bool {
        self.media_type == "application/json" || self.media_type.ends_with("+json")
    }

    /// Names of its fields, those of all its ways and parts together; of those inside a field only the field's own.
    pub fn fields(&self) -> Vec<String> {
        let mut names = Vec::new();
        fields(self.document, &self.media["schema"], &mut names);
        names
    }

    /// Its examples: those beside the schema, else those of the schema that it names.
    pub fn examples(&self) -> Vec<&'a Value> {
        let named = self.media["examples"].as_object().into_iter().flatten().map(|(_, example)| &example["value"]);
        let beside: Vec<&Value> = named.chain(self.media.get("example")).collect();
        if beside.is_empty() { examples(self.document.resolve(&self.media["schema"])) } else { beside }
    }

    /// Whether a value is such a body.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.document.check(&self.media["schema"], value)
    }
}

fn fields(document: &Document, schema: &Value, names: &mut Vec<String>) {
    let schema = document.resolve(schema);
    names.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
    for keyword in ["allOf", "oneOf", "anyOf"] {
        schema[keyword].as_array().into_iter().flatten().for_each(|part| fields(document, part, names));
    }
}

/// A schema's own examples.
pub fn examples(schema: &Value) -> Vec<&Value> {
    schema["examples"].as_array().into_iter().flatten().chain(schema.get("example")).collect()
}

/// Names of schemas that are parts of others by `allOf`: the whole has members that a part does not list.
fn find_parts(value: &Value, parts: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for part in members.get("allOf").and_then(Value::as_array).into_iter().flatten() {
                parts.extend(part["$ref"].as_str().and_then(|path| path.rsplit('/').next()).map(str::to_owned));
            }
            members.values().for_each(|member| find_parts(member, parts));
        }
        Value::Array(items) => items.iter().for_each(|item| find_parts(item, parts)),
        _ => {}
    }
}

/// Forbids members that a schema, or one inside it, does not list.
fn close(schema: &mut Value, is_part: bool) {
    match schema {
        Value::Object(members) => {
            let lists = members.contains_key("properties") || members.contains_key("allOf");
            let open = members.contains_key("additionalProperties");
            for (keyword, inner) in members.iter_mut() {
                match (keyword.as_str(), inner) {
                    ("properties", Value::Object(properties)) => {
                        properties.values_mut().for_each(|property| close(property, false));
                    }
                    ("allOf", Value::Array(parts)) => parts.iter_mut().for_each(|part| close(part, true)),
                    ("oneOf" | "anyOf", Value::Array(ways)) => ways.iter_mut().for_each(|way| close(way, is_part)),
                    ("items" | "additionalProperties", inner) => close(inner, false),
                    _ => {}
                }
            }
            if lists && !open && !is_part {
                members.insert("unevaluatedProperties".into(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| close(item, false)),
        _ => {}
    }
}
