//! A gateway in this process for tests over HTTP: SQLite, no workers, operators' tokens, and two tenants with a key of
//! each role.

use crate::audit::{Author, Change};
use crate::clock::Clock;
use crate::config::{Config, Listen};
use crate::id::{KeyId, ProjectId, TenantId};
use crate::quota::Limits;
use crate::secrets::Secrets;
use crate::serve::{Addresses, Listeners, Shutdown, run};
use crate::store::{Store, testing};
use crate::tenants::{
    self, CreateAdminToken, CreateCredential, CreatedAccessKey, CreatedAdminToken, CreatedApiKey, Issuer, Name,
    Operation, Project, Role, Scope, Tenant,
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No test waits longer for an answer.
const BOUND: Duration = Duration::from_secs(30);

/// A running gateway; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) addresses: Addresses,
    /// The same database, through connections of its own.
    pub(crate) store: Store,
    pub(crate) secrets: Secrets,
    /// A platform admin's token.
    pub(crate) operator: String,
    /// A platform viewer's.
    pub(crate) viewer: String,
    pub(crate) acme: Customer,
    /// Another tenant, with a project and keys just like acme's.
    pub(crate) rival: Customer,
    shutdown: Shutdown,
    _dir: tempfile::TempDir,
}

/// A tenant with a project and keys.
#[derive(Debug, Clone)]
pub(crate) struct Customer {
    pub(crate) tenant: TenantId,
    pub(crate) project: ProjectId,
    pub(crate) owner: Key,
    pub(crate) admin: Key,
    pub(crate) developer: Key,
    pub(crate) billing_viewer: Key,
}

/// An API key, with the widest scope.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) id: KeyId,
    pub(crate) text: String,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shutdown.hurry.cancel();
        self.shutdown.drain.cancel();
    }
}

impl Gateway {
    pub(crate) async fn start() -> Gateway {
        Gateway::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(configure: impl FnOnce(&mut Config)) -> Gateway {
        let dir = tempfile::tempdir().unwrap();
        let mut config = testing::config(&dir);
        let any = "127.0.0.1:0".parse().unwrap();
        config.listen = Listen { data: any, tls: None, admin: any };
        configure(&mut config);
        let secrets = Secrets::load_or_create_with(&config.gateway.state_dir, |_| None).unwrap();
        let store = Store::connect(&config).await.unwrap();
        store.migrate().await.unwrap();

        let making = Making { store: &store, secrets: &secrets, clock: Clock::System, author: Author::command("test") };
        let operator = making.admin_token(Role::PlatformAdmin).await;
        let viewer = making.admin_token(Role::PlatformViewer).await;
        let (acme, rival) = (making.customer("acme").await, making.customer("rival").await);

        let listeners = Listeners::bind(&config.listen).unwrap();
        let addresses = listeners.addresses().unwrap();
        let shutdown = Shutdown::default();
        tokio::spawn(run(config, listeners, shutdown.clone()));
        Gateway { addresses, store, secrets, operator, viewer, acme, rival, shutdown, _dir: dir }
    }

    /// A call of the admin port, to be sent.
    pub(crate) fn call(&self, method: Method, path: &str, token: &str) -> Call {
        self.call_at(self.addresses.admin, method, path, token)
    }

    /// A call of the data port, to be sent.
    pub(crate) fn data_call(&self, method: Method, path: &str, token: &str) -> Call {
        self.call_at(self.addresses.data, method, path, token)
    }

    fn call_at(&self, address: SocketAddr, method: Method, path: &str, token: &str) -> Call {
        let request = Request::builder().method(method).uri(path).header("host", address.to_string());
        Call { address, request: request.header("authorization", format!("Bearer {token}")), body: Bytes::new() }
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Reply {
        self.call(Method::GET, path, token).send().await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Reply {
        self.call(Method::POST, path, token).json(body).send().await
    }

    pub(crate) async fn put(&self, path: &str, token: &str, body: Value) -> Reply {
        self.call(Method::PUT, path, token).json(body).send().await
    }

    pub(crate) async fn patch(&self, path: &str, token: &str, body: Value) -> Reply {
        self.call(Method::PATCH, path, token).json(body).send().await
    }

    pub(crate) async fn delete(&self, path: &str, token: &str) -> Reply {
        self.call(Method::DELETE, path, token).send().await
    }

    /// A key of acme's project, narrowed.
    pub(crate) async fn acme_key(&self, role: Role, scope: &Scope) -> Key {
        let making = Making {
            store: &self.store,
            secrets: &self.secrets,
            clock: Clock::System,
            author: Author::command("test"),
        };
        making.api_key((&self.acme.tenant, &self.acme.project), role, scope).await
    }

    /// A SigV4 access key of acme's project; its id.
    pub(crate) async fn access_key(&self) -> KeyId {
        let author = Author::command("test");
        let change = Change { store: &self.store, secrets: &self.secrets, now: 1, author: &author, once: None };
        let input = CreateCredential::developer(Name::parse("sigv4").unwrap(), self.acme.project.clone());
        let made = CreatedAccessKey::generate(&self.secrets, &self.acme.tenant, input, &author, change.now).unwrap();
        tenants::create_access_key(change, &Issuer::command(), &made).await.unwrap();
        made.key.id
    }

    /// The audit log's entries about a target, oldest first: action and whole record.
    pub(crate) async fn logged(&self, target: &str) -> Vec<(String, Value)> {
        testing::audit_records(&self.store, target).await
    }
}

/// Everything that any role's permissions can be used for.
pub(crate) fn widest() -> Scope {
    use Operation::{Administer, ControlPlane, Inference, ReadUsage};
    Scope { operations: [Inference, ControlPlane, ReadUsage, Administer].into(), ..Scope::default() }
}

struct Making<'a> {
    store: &'a Store,
    secrets: &'a Secrets,
    clock: Clock,
    author: Author,
}

impl Making<'_> {
    fn change(&self) -> Change<'_> {
        let now = self.clock.now();
        Change { store: self.store, secrets: self.secrets, now, author: &self.author, once: None }
    }

    async fn admin_token(&self, role: Role) -> String {
        let (change, name) = (self.change(), Name::parse(role.as_str()).unwrap());
        let input = CreateAdminToken { role, ..CreateAdminToken::platform_admin(name) };
        let made = CreatedAdminToken::generate(self.secrets, input, &self.author, change.now).unwrap();
        tenants::create_admin_token(change, &Issuer::command(), &made).await.unwrap();
        made.text.expose().to_owned()
    }

    async fn customer(&self, name: &str) -> Customer {
        let name = Name::parse(name).unwrap();
        let tenant = Tenant::new(name.clone(), Limits::default(), self.clock.now());
        tenants::create_tenant(self.change(), &tenant).await.unwrap();
        let project = Project::new(tenant.id.clone(), name, self.clock.now());
        tenants::create_project(self.change(), &project).await.unwrap();
        let owner = (&tenant.id, &project.id);
        Customer {
            owner: self.api_key(owner, Role::TenantOwner, &widest()).await,
            admin: self.api_key(owner, Role::TenantAdmin, &widest()).await,
            developer: self.api_key(owner, Role::TenantDeveloper, &widest()).await,
            billing_viewer: self.api_key(owner, Role::TenantBillingViewer, &widest()).await,
            tenant: tenant.id,
            project: project.id,
        }
    }

    async fn api_key(&self, owner: (&TenantId, &ProjectId), role: Role, scope: &Scope) -> Key {
        let (change, name) = (self.change(), Name::parse(role.as_str()).unwrap());
        let input = CreateCredential::developer(name, owner.1.clone());
        let input = CreateCredential { role, scope: scope.clone(), ..input };
        let made = CreatedApiKey::generate(self.secrets, owner.0, input, &self.author, change.now).unwrap();
        tenants::create_api_key(change, &Issuer::command(), &made).await.unwrap();
        Key { id: made.key.id, text: made.text.expose().to_owned() }
    }
}

/// A call that is being put together.
pub(crate) struct Call {
    address: SocketAddr,
    request: http::request::Builder,
    body: Bytes,
}

impl Call {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Call {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn json(mut self, body: Value) -> Call {
        self.request = self.request.header("content-type", "application/json");
        self.body = body.to_string().into();
        self
    }

    pub(crate) async fn send(self) -> Reply {
        timeout(BOUND, self.exchange()).await.expect("no answer")
    }

    async fn exchange(self) -> Reply {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = self.request.body(Full::new(self.body)).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        drop(sender);
        connection.await.unwrap().unwrap();
        Reply { status: parts.status, headers: parts.headers, body }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {:?}", self.status, self.body))
    }

    /// The body, once the status is what was expected.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Checks a refusal: a problem with its status and, if one is named, the field at fault.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, param: Option<&str>) {
        let problem = self.expect(status);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!((problem["status"].as_u64(), problem["param"].as_str()), (Some(status.into()), param), "{problem}");
    }

    /// The ETag, for If-Match.
    #[track_caller]
    pub(crate) fn etag(&self) -> &str {
        self.headers["etag"].to_str().unwrap()
    }
}
