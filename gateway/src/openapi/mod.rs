//! The APIs' descriptions, generated from the handlers: `caprock openapi --out openapi` writes them, a test compares. Both
//! ports serve theirs, and a page that shows it.

mod examples;
mod failures;
mod headers;
mod integers;
pub mod page;

use crate::api::{bedrock, openai};
use crate::{admin, health};
use examples::AdminExamples;
use failures::AdminFailures;
use headers::ReplyHeaders;
use integers::Integers;
use std::path::Path;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Caprock inference API",
        description = "Chat completions in OpenAI's dialect, also under `/openai`, and Converse in Bedrock's. Every \
                       reply carries `x-request-id`, on Bedrock's paths also `x-amzn-RequestId`. Answers name their \
                       engine in `x-caprock-engine`, and in `x-caprock-stand-in` the model that stands in for the one \
                       asked for; those of a model on its way out carry `deprecation` (RFC 9745) and, once its end is \
                       decided, `sunset` (RFC 8594). Refusals worth a retry carry `retry-after`, `retry-after-ms` and, on Bedrock's \
                       paths, `x-amz-retry-after`.",
    ),
    paths(
        openai::chat_completions,
        openai::models::list,
        openai::models::get,
        bedrock::converse,
        bedrock::converse_stream,
        bedrock::models::list,
        page::inference_description,
        health::healthz,
        health::readyz,
    ),
    components(schemas(openai::wire::ErrorBody, bedrock::wire::ErrorBody)), // named by groups of failures, not by handlers
    modifiers(&CallerSecurity, &ReplyHeaders, &Integers)
)]
struct Inference;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Caprock admin API",
        description = "For operators, on the admin port. Failures are RFC 9457 problem details; `param` names the field \
                       at fault. Every reply carries `x-request-id`.",
    ),
    paths(
        admin::tenants::list,
        admin::tenants::create,
        admin::tenants::get,
        admin::tenants::update,
        admin::tenants::suspend,
        admin::tenants::resume,
        admin::tenants::delete,
        admin::requests::list,
        admin::requests::get_of_tenant,
        admin::projects::list,
        admin::projects::create,
        admin::projects::get,
        admin::projects::update,
        admin::projects::delete,
        admin::service_accounts::list,
        admin::service_accounts::create,
        admin::service_accounts::get,
        admin::service_accounts::update,
        admin::service_accounts::delete,
        admin::limits::of_tenant,
        admin::limits::set_of_tenant,
        admin::limits::of_project,
        admin::limits::set_of_project,
        admin::limits::of_api_key,
        admin::limits::set_of_api_key,
        admin::limits::of_access_key,
        admin::limits::set_of_access_key,
        admin::model_access::of_tenant,
        admin::model_access::set_of_tenant,
        admin::model_access::of_project,
        admin::model_access::set_of_project,
        admin::api_keys::list,
        admin::api_keys::create,
        admin::api_keys::get,
        admin::api_keys::update,
        admin::api_keys::rotate,
        admin::api_keys::revoke,
        admin::access_keys::list,
        admin::access_keys::create,
        admin::access_keys::get,
        admin::access_keys::update,
        admin::access_keys::rotate,
        admin::access_keys::revoke,
        admin::admin_tokens::list,
        admin::admin_tokens::create,
        admin::admin_tokens::get,
        admin::admin_tokens::update,
        admin::admin_tokens::rotate,
        admin::admin_tokens::revoke,
        admin::models::status,
        admin::models::list,
        admin::models::create,
        admin::models::get,
        admin::models::update,
        admin::models::delete,
        admin::model_aliases::list,
        admin::model_aliases::get,
        admin::model_aliases::put,
        admin::model_aliases::delete,
        admin::requests::get,
        admin::usage::get,
        admin::workers::list,
        admin::audit_log::list,
        admin::audit_log::list_of_tenant,
        admin::audit_log::export,
        admin::audit_log::verification,
        admin::metrics,
        page::admin_description,
        health::healthz,
        health::readyz,
    ),
    components(schemas(admin::problem::Problem)), // named by groups of failures, not by handlers
    modifiers(&OperatorSecurity, &AdminExamples, &AdminFailures, &ReplyHeaders, &Integers)
)]
struct Admin;

struct CallerSecurity;
struct OperatorSecurity;

impl Modify for CallerSecurity {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key")).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let key = ApiKeyValue::with_description("x-api-key", "An API key");
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(key)));
        let signature =
            "AWS Signature Version 4 in its header form, for the services bedrock and bedrock-mantle, any region";
        let signature = ApiKeyValue::with_description("Authorization", signature);
        components.add_security_scheme("sigv4", SecurityScheme::ApiKey(ApiKey::Header(signature)));
    }
}

impl Modify for OperatorSecurity {
    fn modify(&self, document: &mut Document) {
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An admin token")).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("admin_token", SecurityScheme::Http(token));
        let key = "An API key whose role and scope permit the operation, for its own tenant";
        let key = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(key)).build();
        components.add_security_scheme("api_key", SecurityScheme::Http(key));
    }
}

/// The data plane's.
pub fn inference() -> Document {
    Inference::openapi()
}

/// The admin port's.
pub fn admin() -> Document {
    Admin::openapi()
}

/// Writes both into a folder.
///
/// # Errors
/// A text that names the file at fault.
pub fn write(dir: &Path) -> Result<(), String> {
    std::fs::create_dir_all(dir).map_err(|error| format!("can't make {}: {error}", dir.display()))?;
    for (name, document) in files() {
        let file = dir.join(name);
        std::fs::write(&file, document).map_err(|error| format!("can't write {}: {error}", file.display()))?;
    }
    Ok(())
}

fn files() -> [(&'static str, String); 2] {
    [("inference.json", text(&inference())), ("admin.json", text(&admin()))]
}

/// As it is committed and served.
fn text(document: &Document) -> String {
    // Plain data with string keys: writing it into memory can't fail.
    document.to_pretty_json().unwrap_or_default() + "\n"
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
