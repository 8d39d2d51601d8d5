//! The page comes from us, and only from us.

use super::routes::app;
use crate::router;
use axum::Router;
use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use std::collections::BTreeSet;
use tower::ServiceExt;

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

async fn get(router: &Router, path: &str) -> Reply {
    let request = Request::builder().uri(path).header(HOST, "a").body(Body::empty()).unwrap();
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Reply { status: parts.status, headers: parts.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
}

/// What a text loads: everything that the attributes `src` and `href`, and CSS's `url()`, name.
fn loads(text: &str) -> BTreeSet<String> {
    let names = regex::Regex::new(r#"(?:(?:src|href)\s*=\s*"|url\(\s*["']?)([^"')]+)"#).unwrap();
    names.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[tokio::test]
async fn both_ports_show_their_own_description_and_load_nothing_from_outside() {
    let (app, _dir) = app().await;
    for (router, title) in
        [(router::data(&app), "Caprock inference API"), (router::operators(&app), "Caprock admin API")]
    {
        let router = router.with_state(());
        let page = get(&router, "/docs").await;
        assert_eq!(
            (page.status, &page.headers[CONTENT_TYPE]),
            (StatusCode::OK, &"text/html; charset=utf-8".parse().unwrap())
        );

        let policy = page.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self'; "), "{policy}");
        for outside in ["http", "*", "//", "unsafe", "blob:"] {
            assert!(!policy.contains(outside), "{policy}");
        }
        assert!(!policy.contains("script-src"), "scripts are under default-src: {policy}");

        let loaded = loads(&page.text);
        assert!(loaded.len() >= 4, "{loaded:?}");
        for name in &loaded {
            assert!(!name.contains(':') && !name.starts_with('/'), "{name} is not relative to the page");
            let file = get(&router, &format!("/{name}")).await;
            assert_eq!(file.status, StatusCode::OK, "{name}");
            assert!(!file.text.is_empty(), "{name} is empty");
            assert_eq!(file.headers[CACHE_CONTROL], "public, max-age=300", "{name}");
            assert_eq!(file.headers["x-content-type-options"], "nosniff", "{name}");
        }
        let style = get(&router, "/docs/swagger-ui.css").await;
        for name in loads(&style.text) {
            assert!(name.starts_with("data:"), "the style sheet loads {name}");
        }

        let script = get(&router, "/docs/page.js").await.text;
        assert!(script.contains(r#"url: "openapi.json""#), "{script}");
        assert!(
            script.contains("validatorUrl: null") && !script.contains("//\"") && !script.contains("http"),
            "{script}"
        );
        let description = get(&router, "/openapi.json").await;
        assert_eq!(description.headers[CONTENT_TYPE], "application/json");
        let description: serde_json::Value = serde_json::from_str(&description.text).unwrap();
        assert_eq!(description["info"]["title"], title);

        let slash = get(&router, "/docs/").await;
        assert_eq!(
            (slash.status, &slash.headers[LOCATION]),
            (StatusCode::PERMANENT_REDIRECT, &"../docs".parse().unwrap())
        );
        assert_eq!(get(&router, "/docs/nothing.js").await.status, StatusCode::NOT_FOUND);
    }
}
