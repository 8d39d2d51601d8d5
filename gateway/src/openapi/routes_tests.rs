//! Every route is in the document of its port, and the other way round. The routes' paths are read from the one page
//! that has them all; which methods they take, and on which port, is asked of the routers themselves.

use super::*;
use crate::app::App;
use crate::bootstrap::bootstrap;
use crate::config::Config;
use crate::store::Store;
use crate::{router, serve};
use axum::Router;
use axum::body::Body;
use http::header::{ALLOW, HOST};
use http::{Request, StatusCode};
use std::collections::BTreeMap;
use std::sync::Arc;
use tower::ServiceExt;

/// Paths with their parameters' names taken out, and their methods.
type Routes = BTreeMap<String, BTreeSet<String>>;

/// Routes that no document names, each with its why.
const UNDOCUMENTED: [(&str, &str); 9] = [
    ("/docs", "shows the document"),
    ("/docs/", "leads to /docs"),
    ("/docs/page.js", "a part of /docs"),
    ("/docs/swagger-ui-bundle.js", "a part of /docs"),
    ("/docs/swagger-ui.css", "a part of /docs"),
    ("/docs/favicon-32x32.png", "a part of /docs"),
    ("/openai/v1/chat/completions", "another name of /v1/chat/completions"),
    ("/openai/v1/models", "another name of /v1/models"),
    ("/openai/v1/models/{}", "another name of /v1/models/{}"),
];

/// An app that serves nothing yet; its folder goes with the guard.
pub(super) async fn app() -> (Arc<App>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::load(None).unwrap();
    config.gateway.state_dir = dir.path().to_path_buf();
    bootstrap(&config, &dir.path().join("dev.env")).await.unwrap();
    let store = Store::connect(&config).await.unwrap();
    (serve::build(config, store).unwrap(), dir)
}

#[tokio::test]
async fn every_route_is_in_the_document_of_its_port_and_the_other_way_round() {
    let (app, _dir) = app().await;
    let paths = paths_of_the_page();
    for (port, routes, document) in
        [("data", router::data(&app), inference()), ("admin", router::operators(&app), admin())]
    {
        let mut served = routes_of(&routes.with_state(()), &paths).await;
        served.retain(|path, _| !UNDOCUMENTED.iter().any(|(known, _)| known == path));
        assert_eq!(
            served,
            routes_of_document(&json(&document)),
            "left: routes of the {port} port, right: its document"
        );
    }
}

/// A route that is made elsewhere would be seen by nobody, this test included.
#[test]
fn all_routes_are_on_one_page() {
    let page = Path::new("router.rs");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in rust_files(&source) {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("\nmod tests {").next().unwrap_or_default(); // always the last of a file
        let is_test = file.to_string_lossy().ends_with("tests.rs");
        if is_test || file.strip_prefix(&source).unwrap() == page {
            continue;
        }
        for way in [".route(\"", ".route_service(", ".nest(", ".nest_service("] {
            assert!(!code.contains(way), "{} has a {way}…; routes belong on router.rs", file.display());
        }
    }
    let page = std::fs::read_to_string(source.join(page)).unwrap();
    assert!(!page.contains(".nest") && !page.contains(".route_service"), "whole paths only, so that they can be read");
}

fn paths_of_the_page() -> BTreeSet<String> {
    let page = include_str!("../router.rs");
    let literal = regex::Regex::new(r#"\.route\(\s*"([^"]+)""#).unwrap();
    let paths: BTreeSet<String> = literal.captures_iter(page).map(|found| found[1].to_owned()).collect();
    assert_eq!(page.matches(".route(").count(), literal.find_iter(page).count(), "a path that is not a literal");
    paths
}

/// Asks with a method that nothing offers: a route names its own in `Allow`, and no route is a 404.
async fn routes_of(router: &Router, paths: &BTreeSet<String>) -> Routes {
    let mut routes = Routes::new();
    for path in paths {
        let concrete = path.replace(['{', '}'], "");
        let request = Request::builder().method("TRACE").uri(&concrete).header(HOST, "a").body(Body::empty()).unwrap();
        let reply = router.clone().oneshot(request).await.unwrap();
        match reply.status() {
            StatusCode::NOT_FOUND => continue, // on the other port
            StatusCode::METHOD_NOT_ALLOWED => {}
            other => panic!("{path}: {other}"),
        }
        let methods = reply.headers()[ALLOW].to_str().unwrap().split(',').map(|method| method.trim().to_owned());
        // HEAD comes with GET.
        routes.insert(shape(path), methods.filter(|method| method != "HEAD").collect());
    }
    routes
}

fn routes_of_document(document: &Value) -> Routes {
    let mut routes = Routes::new();
    for operation in operations(document) {
        let (method, _) = operation.name.split_once(' ').unwrap();
        routes.entry(shape(&operation.path)).or_default().insert(method.to_uppercase());
    }
    routes
}

/// Parameters are named for readers of the document, and routes for readers of the code.
fn shape(path: &str) -> String {
    regex::Regex::new(r"\{[^}]*\}").unwrap().replace_all(path, "{}").into_owned()
}

pub(super) fn rust_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
