//! Databases for tests: a SQLite file or a PostgreSQL database of their own, gone at the end.

use super::{Engine, Store, Tx};
use crate::auth::Principal;
use crate::config::Config;
use crate::id::{KeyId, ProjectId, ServiceAccountId, TenantId};
use crate::quota::{Hierarchy, Limits};
use crate::tenants::Role;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use tempfile::TempDir;

/// An admin URL: tests make and drop databases with it.
const POSTGRES_URL: &str = "CAPROCK_TEST_POSTGRES_URL";

/// A migrated database and the configuration that opens it.
#[derive(Debug, Clone)]
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) config: Config,
}

/// The defaults, with state in `dir`.
pub(crate) fn config(dir: &TempDir) -> Config {
    let mut config = Config::load(None).unwrap();
    config.gateway.state_dir = dir.path().to_owned();
    config
}

/// A migrated SQLite file; keep the folder for as long as the store.
pub(crate) async fn sqlite() -> (Fixture, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (open(config(&dir)).await, dir)
}

/// Runs `test` on a fresh database of each engine, and says which one failed.
///
/// PostgreSQL's URL must be set: a test that passes without it would say more than it knows.
pub(crate) async fn on_both_engines<F>(test: impl Fn(Fixture) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (fixture, _dir) = sqlite().await;
    run("SQLite", test(fixture)).await.unwrap();

    let url = std::env::var(POSTGRES_URL);
    let url = url.unwrap_or_else(|_| panic!("{POSTGRES_URL} is not set. Run scripts/test, which starts PostgreSQL."));
    let admin = PgConnectOptions::from_str(&url).unwrap();
    let name = format!("caprock_test_{}", uuid::Uuid::new_v4().simple());
    administer(&admin, format!("CREATE DATABASE {name}")).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    config.store.url = Some(admin.clone().database(&name).to_url_lossy().into());
    config.store.max_connections = 4;
    let ended = run("PostgreSQL", async move { test(open(config).await).await }).await;
    administer(&admin, format!("DROP DATABASE {name} WITH (FORCE)")).await;
    ended.unwrap();
}

async fn run(engine: &str, test: impl Future<Output = ()>) -> Result<(), String> {
    use futures::FutureExt;
    let ended = std::panic::AssertUnwindSafe(test).catch_unwind().await;
    ended.map_err(|_| format!("failed on {engine}; the panic is above"))
}

async fn administer(admin: &PgConnectOptions, sql: String) {
    let mut connection = PgConnection::connect_with(admin).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Statements as somebody else might run them, past the gateway.
pub(crate) async fn execute(store: &Store, sql: impl Into<String>) {
    let sql = sql.into();
    let work = store.detached(move |db| async move {
        match db.write() {
            Engine::Sqlite(pool) => sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.map(drop),
            Engine::Postgres(pool) => sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.map(drop),
        }
    });
    work.await.unwrap();
}

async fn open(config: Config) -> Fixture {
    let store = Store::connect(&config).await.unwrap();
    store.migrate().await.unwrap();
    Fixture { store, config }
}

/// A caller with a key of its own that may use all models.
pub(crate) fn developer(tenant: TenantId, project: ProjectId, limits: Limits) -> Principal {
    let (limits, role, scope) = (Hierarchy::of_tenant(limits), Role::TenantDeveloper, Arc::default());
    Principal { tenant, project, key: KeyId::new(), service_account: None, limits, access: Arc::default(), role, scope }
}

/// A tenant with a project, and a caller of it.
pub(crate) async fn principal(store: &Store, name: &str) -> Principal {
    let (tenant, project, name) = (TenantId::new(), ProjectId::new(), name.to_owned());
    let principal = developer(tenant.clone(), project.clone(), Limits::default());
    store
        .transaction(move |tx| {
            Box::pin(async move {
                tx.tenant_create(&tenant, &name, Limits::default(), 1).await?;
                assert!(tx.project_create(&tenant, &project, "default", 1).await?);
                Ok(())
            })
        })
        .await
        .unwrap();
    principal
}

/// A service account, as far as credentials need one.
pub(crate) async fn service_account(store: &Store, owner: &Principal, role: Role, scope: &str) -> ServiceAccountId {
    let (id, owner, scope) = (ServiceAccountId::new(), owner.clone(), scope.to_owned());
    let made = id.clone();
    let work = store.transaction(move |tx: &mut Tx| {
        Box::pin(async move {
            on!(tx.connection(), c => query(
                "INSERT INTO service_accounts (id, tenant_id, project_id, name, role, scope, created_at, updated_at)
                 VALUES ($1, $2, $3, $1, $4, $5, 1, 1)",
                [id, owner.tenant, owner.project, role.as_str(), scope],
            ).execute(c).await.map(drop))
            .map_err(super::dialect::classify)
        })
    });
    work.await.unwrap();
    made
}

/// Gives a service account another role and scope, or deletes it.
pub(crate) async fn alter_service_account(store: &Store, id: &ServiceAccountId, to: Option<(Role, &str)>) {
    let (id, role, scope) = (id.clone(), to.map(|(role, _)| role.as_str()), to.map(|(_, scope)| scope.to_owned()));
    let work = store.transaction(move |tx: &mut Tx| {
        Box::pin(async move {
            on!(tx.connection(), c => query(
                "UPDATE service_accounts
                 SET role = COALESCE($2, role), scope = COALESCE($3, scope),
                     deleted_at = CASE WHEN CAST($2 AS TEXT) IS NULL THEN CAST(2 AS BIGINT) END
                 WHERE id = $1",
                [id, role, scope],
            ).execute(c).await.map(drop))
            .map_err(super::dialect::classify)
        })
    });
    work.await.unwrap();
}

/// Notes a credential's last use.
pub(crate) async fn used_at(store: &Store, credential: &str, at: i64) {
    let credential = credential.to_owned();
    let work = store.transaction(move |tx: &mut Tx| {
        Box::pin(async move {
            on!(tx.connection(), c => query(
                "INSERT INTO credential_uses (credential_id, last_used_at) VALUES ($1, $2)", [credential, at],
            ).execute(c).await.map(drop))
            .map_err(super::dialect::classify)
        })
    });
    work.await.unwrap();
}

/// The audit log's entries about a target, oldest first: action and whole record.
pub(crate) async fn audit_records(store: &Store, target: &str) -> Vec<(String, serde_json::Value)> {
    let target = target.to_owned();
    let rows: Vec<(String, String)> = store
        .detached(move |db| async move {
            on!(db.read(), c => query_as(
                "SELECT action, record FROM audit_log WHERE target_id = $1 ORDER BY seq", [target],
            ).fetch_all(c).await)
        })
        .await
        .unwrap();
    rows.into_iter().map(|(action, record)| (action, serde_json::from_str(&record).unwrap())).collect()
}

/// Makes an API key or access key a service account's.
pub(crate) async fn give_to(store: &Store, key: &KeyId, account: &ServiceAccountId) {
    let (key, account) = (key.clone(), account.clone());
    let work = store.transaction(move |tx| {
        Box::pin(async move {
            let mut done = 0;
            done += on!(tx.connection(), c => query(
                "UPDATE api_keys SET service_account_id = $2 WHERE id = $1", [&key, &account],
            ).execute(c).await.map(|done| done.rows_affected()))
            .unwrap();
            done += on!(tx.connection(), c => query(
                "UPDATE access_keys SET service_account_id = $2 WHERE id = $1", [&key, &account],
            ).execute(c).await.map(|done| done.rows_affected()))
            .unwrap();
            assert_eq!(done, 1, "no key {key}");
            Ok(())
        })
    });
    work.await.unwrap();
}
