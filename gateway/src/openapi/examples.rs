//! Examples of the admin API that follow from others: a page shows the example of its entries, and a parameter of a path
//! that of the thing whose id it takes.

use crate::admin::examples;
use serde_json::{Value, json};
use utoipa::Modify;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ArrayItems, Object};
use utoipa::openapi::{OpenApi as Document, RefOr, Schema};

/// Adds them.
pub(super) struct AdminExamples;

impl Modify for AdminExamples {
    fn modify(&self, document: &mut Document) {
        for (path, item) in &mut document.paths.paths {
            let PathItem { get, put, post, delete, patch, .. } = item;
            for operation in [get, put, post, delete, patch].into_iter().flatten() {
                name_things(path, operation);
            }
        }
        for (name, schema) in document.components.iter_mut().flat_map(|all| all.schemas.iter_mut()) {
            if let (true, RefOr::T(Schema::Object(page))) = (name.starts_with("Page_"), schema) {
                show_an_entry(page);
            }
        }
    }
}

fn name_things(path: &str, operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        if let (ParameterIn::Path, Some(id)) = (&parameter.parameter_in, id_of(path, &parameter.name)) {
            *parameter = ParameterBuilder::from(parameter.clone()).example(Some(Value::from(id))).build();
        }
    }
}

/// A parameter that is not here brings its own example; a test asks for it.
fn id_of(path: &str, parameter: &str) -> Option<&'static str> {
    match parameter {
        "tenant_id" => Some(examples::TENANT),
        "project_id" => Some(examples::PROJECT),
        "service_account_id" => Some(examples::SERVICE_ACCOUNT),
        "key_id" if path.contains("/access-keys/") => Some(examples::ACCESS_KEY),
        "key_id" => Some(examples::API_KEY),
        "token_id" => Some(examples::ADMIN_TOKEN),
        "request_id" => Some(examples::REQUEST),
        _ => None,
    }
}

fn show_an_entry(page: &mut Object) {
    let Some(RefOr::T(Schema::Array(data))) = page.properties.get("data") else { return };
    let ArrayItems::RefOrSchema(entry) = &data.items else { return };
    let RefOr::T(entry) = entry.as_ref() else { return };
    let shown = match entry {
        Schema::Object(entry) => entry.examples.first(),
        Schema::AllOf(entry) => entry.examples.first(),
        _ => None,
    };
    page.examples.extend(shown.map(|entry| json!({ "data": [entry], "has_more": false })));
}
