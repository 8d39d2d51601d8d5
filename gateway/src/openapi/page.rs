//! The descriptions over HTTP, and the page that shows them: Swagger UI, compiled in. The page loads nothing from
//! outside and can't be made to: its Content-Security-Policy allows this origin only. Everything is constant text, made
//! once, so that anonymous readers cost next to nothing.

use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use utoipa_swagger_ui::Config;

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const PNG: &str = "image/png";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// An upgrade changes the files under the same names, so copies are short-lived.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// What the page may do. Swagger UI has `data:` pictures in its style sheet; everything else
/// comes from this origin, and only requests that the reader makes go back to it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

static INFERENCE: LazyLock<Bytes> = LazyLock::new(|| super::text(&super::inference()).into());
static ADMIN: LazyLock<Bytes> = LazyLock::new(|| super::text(&super::admin()).into());

/// This API's description.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "operations",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object,
        example = json!({ "openapi": "3.1.0", "info": { "title": "Caprock inference API", "version": "0.1.0" }, "paths": {} }))),
    security()
)]
pub async fn inference_description() -> Response {
    constant(JSON, INFERENCE.clone())
}

/// This API's description.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "operations",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object,
        example = json!({ "openapi": "3.1.0", "info": { "title": "Caprock admin API", "version": "0.1.0" }, "paths": {} }))),
    security()
)]
pub async fn admin_description() -> Response {
    constant(JSON, ADMIN.clone())
}

/// The page, and what it loads. Its address ends without a slash: its links are relative to that.
pub async fn page() -> Response {
    constant(HTML, Bytes::from_static(include_bytes!("page.html")))
}

/// To the page.
pub async fn without_slash() -> Redirect {
    Redirect::permanent("../docs")
}

/// Starts Swagger UI with this port's description.
pub async fn script() -> Response {
    constant(JAVASCRIPT, Bytes::from_static(include_bytes!("page.js")))
}

/// Swagger UI's program.
pub async fn swagger_ui_script() -> Response {
    constant(JAVASCRIPT, swagger_ui("swagger-ui-bundle.js"))
}

/// Its style sheet.
pub async fn swagger_ui_style() -> Response {
    constant(CSS, swagger_ui("swagger-ui.css"))
}

/// Its icon.
pub async fn icon() -> Response {
    constant(PNG, swagger_ui("favicon-32x32.png"))
}

fn constant(kind: &'static str, text: Bytes) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CACHE_CONTROL, CACHED),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, text).into_response()
}

/// A compiled-in file, not copied. Which ones there are is fixed by the library's version, and a test asks for each.
fn swagger_ui(name: &str) -> Bytes {
    match utoipa_swagger_ui::serve(name, Arc::new(Config::default())) {
        Ok(Some(file)) => match file.bytes {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => bytes.into(),
        },
        Ok(None) | Err(_) => Bytes::new(),
    }
}
