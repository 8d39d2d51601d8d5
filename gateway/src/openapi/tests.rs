//! The documents hold what they promise: all of it, in the words that the code really uses.

use super::*;
use crate::error::Error;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use serde_json::Value;
use std::collections::BTreeSet;

#[path = "page_tests.rs"]
mod page;
#[path = "routes_tests.rs"]
mod routes;

/// An operation, and where it is written.
struct Operation {
    name: String,
    path: String,
    value: Value,
}

fn json(document: &Document) -> Value {
    serde_json::to_value(document).unwrap()
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, value) in item.as_object().unwrap() {
            operations.push(Operation { name: format!("{method} {path}"), path: path.clone(), value: value.clone() });
        }
    }
    operations
}

impl Operation {
    fn takes_credentials(&self) -> bool {
        !self.value["security"].as_array().unwrap().is_empty()
    }

    fn has_tag(&self, tag: &str) -> bool {
        self.value["tags"].as_array().into_iter().flatten().any(|had| had == tag)
    }

    fn parameters(&self, place: &str) -> Vec<String> {
        let parameters = self.value["parameters"].as_array().into_iter().flatten();
        let there = parameters.filter(|parameter| parameter["in"] == place);
        there.map(|parameter| parameter["name"].as_str().unwrap().to_ascii_lowercase()).collect()
    }

    /// Which failures it must document: status, and which group of `refusals` brings it.
    fn owed(&self) -> Vec<(u16, &'static str)> {
        let bedrock = self.has_tag("bedrock");
        let mut owed = Vec::new();
        if self.takes_credentials() {
            owed.extend([403, 500, 503].map(|status| (status, "AccessErrors")));
            // Bedrock answers 403 for both.
            owed.extend((!bedrock).then_some((401, "AccessErrors")));
        }
        if !self.parameters("path").is_empty() {
            owed.push((404, "NotFound (admin), ModelErrors (openai) or InferenceErrors (bedrock)"));
        }
        if !self.parameters("query").is_empty() {
            owed.push((400, "QueryErrors (admin) or AccessErrors (dialects)"));
        }
        if self.value.get("requestBody").is_some() {
            owed.extend([400, 408, 413].map(|status| (status, "BodyErrors (admin) or AccessErrors (dialects)")));
        }
        let headers = self.parameters("header");
        if headers.iter().any(|name| name == "idempotency-key") {
            owed.extend([409, 422].map(|status| (status, "CreateErrors")));
        }
        if headers.iter().any(|name| name == "if-match") {
            owed.push((412, "ChangeErrors"));
        }
        owed
    }
}

#[test]
fn the_committed_descriptions_are_those_of_this_code() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi");
    for (name, generated) in files() {
        let committed = std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        assert!(committed == generated, "openapi/{name} is out of date: run `caprock openapi --out openapi`");
    }
}

#[test]
fn every_operation_has_an_id_of_its_own_and_says_what_it_does_and_how_it_is_secured() {
    for document in [inference(), admin()].map(|document| json(&document)) {
        let schemes = document["components"]["securitySchemes"].as_object().unwrap();
        let mut ids = BTreeSet::new();
        for operation in operations(&document) {
            let Operation { name, value, .. } = &operation;
            let id = value["operationId"].as_str().unwrap_or_else(|| panic!("{name} has no operation id"));
            assert!(ids.insert(id.to_owned()), "{name}: another operation is called {id}, too");
            assert!(value["summary"].is_string(), "{name} does not say what it does: its handler needs a doc comment");
            assert!(value["security"].is_array(), "{name} does not say how it is secured, `security()` for not at all");
            for scheme in value["security"].as_array().unwrap().iter().flat_map(|one| one.as_object().unwrap().keys()) {
                assert!(schemes.contains_key(scheme), "{name}: no scheme is called {scheme}");
            }
            for parameter in value["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{name}: what is {}?", parameter["name"]);
            }
            for (status, response) in value["responses"].as_object().unwrap() {
                assert!(response["description"] != "", "{name}: when does it answer {status}?");
                assert!(response["headers"]["x-request-id"].is_object(), "{name}: {status} has no x-request-id");
            }
        }
    }
}

/// Of two types with one name only the last one would be described, for both.
#[test]
fn no_two_schemas_have_one_name() {
    let described = regex::Regex::new(
        r"#\[derive\([^\]]*ToSchema[^\]]*\]((?:\s*(?:///|#\[)[^\n]*)*)\s*(?:pub )?(?:struct|enum) (\w+)",
    );
    let (described, other_name) = (described.unwrap(), regex::Regex::new(r"\bas = (\w+)").unwrap());
    let mut names = BTreeSet::new();
    for file in routes::rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for found in described.captures_iter(&text) {
            let name = other_name.captures(&found[1]).map_or(&found[2], |other| other.get(1).unwrap().as_str());
            assert!(names.insert(name.to_owned()), "{}: another schema is called {name}, too", file.display());
        }
    }
    assert!(names.contains("TenantView") && names.contains("TenantStatus"), "not all were found: {names:?}");
}

#[test]
fn every_operation_documents_its_errors() {
    let mut missing = Vec::new();
    for document in [inference(), admin()].map(|document| json(&document)) {
        for operation in operations(&document) {
            for (status, group) in operation.owed() {
                if operation.value["responses"].get(status.to_string()).is_none() {
                    missing.push(format!("{} lacks {status}: `responses(…)` needs {group}", operation.name));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_documented_error_has_the_body_of_its_surface() {
    for (document, is_admin) in [(inference(), false), (admin(), true)] {
        for operation in operations(&json(&document)) {
            let (kind, schema) = match () {
                () if is_admin => ("application/problem+json", "Problem"),
                () if operation.has_tag("bedrock") => ("application/json", "BedrockError"),
                () => ("application/json", "OpenaiError"),
            };
            for (status, response) in operation.value["responses"].as_object().unwrap() {
                // Probes answer in words of their own.
                if status.starts_with('2') || operation.has_tag("health") {
                    continue;
                }
                let content = response["content"].as_object();
                let kinds: Vec<&str> = content.into_iter().flat_map(|kinds| kinds.keys().map(String::as_str)).collect();
                assert_eq!(kinds, [kind], "{}: {status}", operation.name);
                let expected = format!("#/components/schemas/{schema}");
                assert_eq!(response["content"][kind]["schema"]["$ref"], expected, "{}: {status}", operation.name);
            }
        }
    }
}

#[tokio::test]
async fn every_kind_of_failure_is_sent_as_it_is_documented() {
    type Surface = (Document, &'static str, &'static str, fn(Error) -> Response);
    let surfaces: [Surface; 3] = [
        (inference(), "OpenaiError", "application/json", |error| openai::error::Failure(error).into_response()),
        (inference(), "BedrockError", "application/json", |error| bedrock::error::Failure(error).into_response()),
        (admin(), "Problem", "application/problem+json", |error| admin::problem::Failure(error).into_response()),
    ];
    for (document, schema, content_type, failure) in surfaces {
        let validator = validator(&json(&document), schema);
        for kind in openai::tests::all_kinds() {
            for param in [None, Some("a.b[0]".to_owned())] {
                let mut error = Error::new(kind, "No.");
                error.param = param;
                let response = failure(error);
                assert_eq!(response.headers()[CONTENT_TYPE], content_type, "{kind:?}");
                let body = response.into_body().collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap();
                validator.validate(&body).unwrap_or_else(|error| panic!("{kind:?}, {schema}: {error}: {body}"));
            }
        }
    }
}

/// For a schema of the document, in which members that it does not list are wrong.
fn validator(document: &Value, schema: &str) -> jsonschema::Validator {
    let reference = format!("#/components/schemas/{schema}");
    let root = serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": reference, "unevaluatedProperties": false, "components": document["components"],
    });
    jsonschema::validator_for(&root).unwrap()
}
