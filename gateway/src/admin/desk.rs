//! A gateway without sockets, for tests of the admin API: a database of its own, callers of any role, and calls that go
//! through all layers of the admin port.

use super::testing::widest;
use crate::app::App;
use crate::audit::{Author, Change};
use crate::changes;
use crate::config::{self, Config};
use crate::id::{ProjectId, TenantId};
use crate::router;
use crate::secrets::Secrets;
use crate::store::Store;
use crate::store::testing::sqlite;
use crate::tenants::{
    self, CreateAdminToken, CreateCredential, CreatedAdminToken, CreatedApiKey, Issuer, Name, Project, Role,
};
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// A gateway, and an operator who administers it.
pub(crate) struct Desk {
    pub(crate) app: Arc<App>,
    /// A platform administrator's token.
    pub(crate) root: String,
    _state: TempDir,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Status, and the field at fault.
    pub(crate) fn fault(&self) -> (u16, Option<String>) {
        (self.status.as_u16(), self.json()["param"].as_str().map(str::to_owned))
    }
}

impl Desk {
    pub(crate) async fn open() -> Desk {
        Desk::open_with(vec![]).await
    }

    /// With these clusters, whose workers are not watched yet.
    pub(crate) async fn open_with(clusters: Vec<config::Cluster>) -> Desk {
        Desk::open_as(|config| config.cluster = clusters).await
    }

    /// Configured otherwise.
    pub(crate) async fn open_as(configure: impl FnOnce(&mut Config)) -> Desk {
        let (fixture, state) = sqlite().await;
        let mut config = fixture.config;
        configure(&mut config);
        let store = Store::connect(&config).await.unwrap();
        let given =
            |name: &str| (name == "CAPROCK_CLUSTER_SECRET").then(|| crate::upstream::cluster::fake::SECRET.to_owned());
        let secrets = Secrets::load_or_create_with(state.path(), given).unwrap();
        let app = crate::serve::assemble(config, secrets, store).unwrap();
        let follower = app.changes.begin(app.store.follower()).await.unwrap();
        changes::spawn(&app, follower, &TaskTracker::new());
        let mut desk = Desk { app, root: String::new(), _state: state };
        desk.root = desk.operator(Role::PlatformAdmin).await;
        desk
    }

    /// A new operator's token.
    pub(crate) async fn operator(&self, role: Role) -> String {
        let App { store, secrets, clock, .. } = &*self.app;
        let author = Author::command("test");
        let change = Change { store, secrets, now: clock.now(), author: &author, once: None };
        let input = CreateAdminToken { role, ..CreateAdminToken::platform_admin(name()) };
        let made = CreatedAdminToken::generate(secrets, input, &author, change.now).unwrap();
        tenants::create_admin_token(change, &Issuer::command(), &made).await.unwrap();
        made.text.expose().to_owned()
    }

    /// A new tenant with a project, made by the administrator over the API.
    pub(crate) async fn tenant(&self, name: &str) -> (TenantId, ProjectId) {
        let made = self.call("POST", "/admin/v1/tenants", &self.root, &format!(r#"{{"name":"{name}"}}"#)).await;
        let tenant = TenantId::parse(made.json()["id"].as_str().unwrap()).unwrap();
        let App { store, secrets, clock, .. } = &*self.app;
        let project = Project::new(tenant.clone(), Name::parse("default").unwrap(), clock.now());
        let author = Author::command("test");
        let change = Change { store, secrets, now: clock.now(), author: &author, once: None };
        tenants::create_project(change, &project).await.unwrap();
        (tenant, project.id)
    }

    /// A new key of a tenant's caller.
    pub(crate) async fn key(&self, owner: (&TenantId, &ProjectId), role: Role) -> String {
        let App { store, secrets, clock, .. } = &*self.app;
        let author = Author::command("test");
        let change = Change { store, secrets, now: clock.now(), author: &author, once: None };
        let input = CreateCredential::developer(name(), owner.1.clone());
        let input = CreateCredential { role, scope: widest(), ..input };
        let made = CreatedApiKey::generate(secrets, owner.0, input, &author, change.now).unwrap();
        tenants::create_api_key(change, &Issuer::command(), &made).await.unwrap();
        made.text.expose().to_owned()
    }

    pub(crate) async fn get(&self, path: &str, credential: &str) -> Reply {
        self.call("GET", path, credential, "").await
    }

    /// From 192.0.2.7, through all layers.
    pub(crate) async fn call(&self, method: &str, path: &str, credential: &str, body: &str) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "admin")
            .header("authorization", format!("Bearer {credential}"))
            .extension(crate::accept::Peer("192.0.2.7".parse().unwrap()))
            .body(Body::from(body.to_owned()))
            .unwrap();
        let (head, body) = router::operators(&self.app).oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: head.status, headers: head.headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }
}

fn name() -> Name {
    Name::parse("a test's").unwrap()
}
