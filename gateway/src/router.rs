//! Every route. The layers around them are in [`layers`], each with its why.

pub mod layers;
pub mod surface;
mod unread;

use crate::api::{bedrock, openai};
use crate::app::App;
use crate::auth::DataPort;
use crate::openapi::page;
use crate::{admin, health};
use axum::Router;
use axum::extract::Extension;
use axum::routing::{get, patch, post, put};
use layers::Edge;
use std::sync::Arc;
use surface::Surface;

/// The data plane: what callers with keys reach.
pub fn data(app: &Arc<App>) -> Router {
    let inference = Router::new()
        .route("/v1/chat/completions", post(openai::chat_completions))
        .route("/openai/v1/chat/completions", post(openai::chat_completions))
        // One segment of the raw path: `%3A`, a literal `:`, and ARNs with `%2F` all fit.
        .route("/model/{model}/converse", post(bedrock::converse))
        .route("/model/{model}/converse-stream", post(bedrock::converse_stream));
    let models = Router::new()
        .route("/v1/models", get(openai::models::list))
        .route("/openai/v1/models", get(openai::models::list))
        .route("/v1/models/{model}", get(openai::models::get))
        .route("/openai/v1/models/{model}", get(openai::models::get))
        .route("/foundation-models", get(bedrock::models::list));

    let with_bodies = layers::bound_requests(inference.merge(models), app.config.gateway.max_requests);
    // Administrators have a bound of their own: they take no place from callers, and callers none from them.
    let (routes, surface_of): (_, fn(&str) -> Surface) = if app.config.admin.on_data_port {
        let own = layers::bound_requests(tenants_own(), app.config.admin.max_requests);
        (with_bodies.merge(own), Surface::of_data_path_with_admin)
    } else {
        (with_bodies, Surface::of_data_path)
    };
    let routes = routes.route("/openapi.json", get(page::inference_description)).merge(docs()).merge(probes());
    layers::around(routes, edge(app, surface_of)).with_state(app.clone())
}

/// The admin port: what operators reach.
pub fn operators(app: &Arc<App>) -> Router {
    let operations = tenant_operations().merge(platform_operations());
    // Not the metrics, which say that it is full, and not the probes.
    let routes = layers::bound_requests(operations, app.config.admin.max_requests)
        .route("/metrics", get(admin::metrics))
        .route("/openapi.json", get(page::admin_description))
        .merge(docs())
        .merge(probes());
    layers::around(routes, edge(app, |_| Surface::Admin)).with_state(app.clone())
}

/// What concerns one tenant and needs a permission that a tenant's role can have. Which of the two groups a route is in
/// decides whether it can be reached on the data port; there is no other check that could be forgotten.
fn tenant_operations() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/v1/tenants/{tenant_id}", get(admin::tenants::get))
        .route("/admin/v1/tenants/{tenant_id}/requests", get(admin::requests::list))
        .route("/admin/v1/tenants/{tenant_id}/requests/{request_id}", get(admin::requests::get_of_tenant))
        .route("/admin/v1/tenants/{tenant_id}/usage", get(admin::usage::get))
        .route("/admin/v1/tenants/{tenant_id}/audit-log", get(admin::audit_log::list_of_tenant))
        .route("/admin/v1/tenants/{tenant_id}/projects", get(admin::projects::list).post(admin::projects::create))
        .route(
            "/admin/v1/tenants/{tenant_id}/projects/{project_id}",
            get(admin::projects::get).patch(admin::projects::update).delete(admin::projects::delete),
        )
        .route(
            "/admin/v1/tenants/{tenant_id}/service-accounts",
            get(admin::service_accounts::list).post(admin::service_accounts::create),
        )
        .route(
            "/admin/v1/tenants/{tenant_id}/service-accounts/{service_account_id}",
            get(admin::service_accounts::get)
                .patch(admin::service_accounts::update)
                .delete(admin::service_accounts::delete),
        )
        .route("/admin/v1/tenants/{tenant_id}/limits", get(admin::limits::of_tenant))
        .route(
            "/admin/v1/tenants/{tenant_id}/projects/{project_id}/limits",
            get(admin::limits::of_project).put(admin::limits::set_of_project),
        )
        .route(
            "/admin/v1/tenants/{tenant_id}/api-keys/{key_id}/limits",
            get(admin::limits::of_api_key).put(admin::limits::set_of_api_key),
        )
        .route(
            "/admin/v1/tenants/{tenant_id}/access-keys/{key_id}/limits",
            get(admin::limits::of_access_key).put(admin::limits::set_of_access_key),
        )
        .route("/admin/v1/tenants/{tenant_id}/model-access", get(admin::model_access::of_tenant))
        .route(
            "/admin/v1/tenants/{tenant_id}/projects/{project_id}/model-access",
            get(admin::model_access::of_project).put(admin::model_access::set_of_project),
        )
        .route("/admin/v1/tenants/{tenant_id}/api-keys", get(admin::api_keys::list).post(admin::api_keys::create))
        .route(
            "/admin/v1/tenants/{tenant_id}/api-keys/{key_id}",
            get(admin::api_keys::get).patch(admin::api_keys::update).delete(admin::api_keys::revoke),
        )
        .route("/admin/v1/tenants/{tenant_id}/api-keys/{key_id}/rotate", post(admin::api_keys::rotate))
        .route(
            "/admin/v1/tenants/{tenant_id}/access-keys",
            get(admin::access_keys::list).post(admin::access_keys::create),
        )
        .route(
            "/admin/v1/tenants/{tenant_id}/access-keys/{key_id}",
            get(admin::access_keys::get).patch(admin::access_keys::update).delete(admin::access_keys::revoke),
        )
        .route("/admin/v1/tenants/{tenant_id}/access-keys/{key_id}/rotate", post(admin::access_keys::rotate))
}

/// What is for operators only, even where it concerns one tenant.
fn platform_operations() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/v1/tenants", get(admin::tenants::list).post(admin::tenants::create))
        .route("/admin/v1/tenants/{tenant_id}", patch(admin::tenants::update).delete(admin::tenants::delete))
        .route("/admin/v1/tenants/{tenant_id}/limits", put(admin::limits::set_of_tenant))
        .route("/admin/v1/tenants/{tenant_id}/model-access", put(admin::model_access::set_of_tenant))
        .route("/admin/v1/tenants/{tenant_id}/suspend", post(admin::tenants::suspend))
        .route("/admin/v1/tenants/{tenant_id}/resume", post(admin::tenants::resume))
        .route("/admin/v1/admin-tokens", get(admin::admin_tokens::list).post(admin::admin_tokens::create))
        .route(
            "/admin/v1/admin-tokens/{token_id}",
            get(admin::admin_tokens::get).patch(admin::admin_tokens::update).delete(admin::admin_tokens::revoke),
        )
        .route("/admin/v1/admin-tokens/{token_id}/rotate", post(admin::admin_tokens::rotate))
        .route("/admin/v1/catalog", get(admin::models::status))
        .route("/admin/v1/models", get(admin::models::list).post(admin::models::create))
        .route(
            "/admin/v1/models/{model_id}",
            get(admin::models::get).patch(admin::models::update).delete(admin::models::delete),
        )
        .route("/admin/v1/model-aliases", get(admin::model_aliases::list))
        .route(
            "/admin/v1/model-aliases/{alias_id}",
            get(admin::model_aliases::get).put(admin::model_aliases::put).delete(admin::model_aliases::delete),
        )
        .route("/admin/v1/requests/{request_id}", get(admin::requests::get))
        .route("/admin/v1/cluster/workers", get(admin::workers::list))
        .route("/admin/v1/audit-log", get(admin::audit_log::list))
        .route("/admin/v1/audit-log/export", get(admin::audit_log::export))
        .route("/admin/v1/audit-log/verification", get(admin::audit_log::verification))
}

/// The tenants' operations as callers' port shows them: to it the platform's do not exist, also not as methods of a path
/// that it has.
fn tenants_own() -> Router<Arc<App>> {
    tenant_operations().method_not_allowed_fallback(layers::unknown_path).layer(Extension(DataPort))
}

/// The page that shows `/openapi.json`.
fn docs() -> Router<Arc<App>> {
    Router::new()
        .route("/docs", get(page::page))
        .route("/docs/", get(page::without_slash))
        .route("/docs/page.js", get(page::script))
        .route("/docs/swagger-ui-bundle.js", get(page::swagger_ui_script))
        .route("/docs/swagger-ui.css", get(page::swagger_ui_style))
        .route("/docs/favicon-32x32.png", get(page::icon))
}

fn probes() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .layer(Extension(Arc::<health::StoreProbe>::default()))
}

fn edge(app: &App, surface_of: fn(&str) -> Surface) -> Edge {
    Edge { metrics: app.metrics.edge.clone(), header_count: app.config.http.header_count, surface_of }
}
