//! Failures of admin operations, documented by rule: what an operation takes decides how it can fail, so no handler
//! repeats it, and none can forget it. A response that a handler documents itself stays as it is.

use crate::admin::refusals::{AccessErrors, BodyErrors, ChangeErrors, CreateErrors, NotFound, QueryErrors};
use std::collections::BTreeMap;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi as Document, RefOr, Response};
use utoipa::{IntoResponses, Modify};

/// Adds them.
pub(super) struct AdminFailures;

impl Modify for AdminFailures {
    fn modify(&self, document: &mut Document) {
        for item in document.paths.paths.values_mut() {
            let PathItem { get, put, post, delete, patch, .. } = item;
            for operation in [get, put, post, delete, patch].into_iter().flatten() {
                add_to(operation);
            }
        }
    }
}

fn add_to(operation: &mut Operation) {
    if operation.security.as_ref().is_none_or(Vec::is_empty) {
        return;
    }
    let parameters: Vec<Parameter> = operation.parameters.iter().flatten().filter_map(inline).cloned().collect();
    let takes = |place: ParameterIn| parameters.iter().any(|parameter| parameter.parameter_in == place);
    let header = |name: &str| parameters.iter().any(|parameter| parameter.name == name);
    let mut add = |responses: BTreeMap<String, RefOr<Response>>| {
        for (status, response) in responses {
            operation.responses.responses.entry(status).or_insert(response);
        }
    };
    add(AccessErrors::responses());
    // Bodies are read, within their bounds, whatever the operation makes of them.
    add(BodyErrors::responses());
    if takes(ParameterIn::Path) {
        add(NotFound::responses());
    }
    if takes(ParameterIn::Query) {
        add(QueryErrors::responses());
    }
    if header("Idempotency-Key") {
        add(CreateErrors::responses());
    }
    if header("If-Match") {
        add(ChangeErrors::responses());
    }
}

/// Handlers write their parameters in place.
fn inline(parameter: &RefOr<Parameter>) -> Option<&Parameter> {
    match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    }
}
