//! The store as a whole: its door, its schema, its file.

use super::{SOME, create_tenant, request_of};
use crate::error::ErrorKind;
use crate::id::TenantId;
use crate::store::testing::{self, Fixture, on_both_engines, principal, sqlite};
use crate::store::*;

/// A transaction or a write that is left by its caller, at any point, completes; and no write after it is lost. With
/// sqlx's own futures in the caller's hands this fails: see `door`.
#[tokio::test]
async fn callers_that_leave_at_any_point_lose_no_write_of_their_own_or_of_others() {
    on_both_engines(|Fixture { store, config }| async move {
        let who = principal(&store, "acme").await;
        for n in 0..60 {
            leave_after(n * 25, create_tenant(&store, &format!("left-{n}"))).await;
            leave_after(n * 25, store.request_open(request_of(&who))).await;
        }
        for n in 0..40 {
            assert!(store.request_open(NewRequest { gateway_id: "later".into(), ..request_of(&who) }).await.unwrap());
            create_tenant(&store, &format!("later-{n}")).await.unwrap();
        }
        store.close().await;

        let store = Store::connect(&config).await.unwrap();
        assert_eq!(store.requests_open("later", None).await.unwrap().len(), 40);
        assert_eq!(store.requests_open("gateway-1", None).await.unwrap().len(), 60);
        for n in 0..40 {
            assert!(store.tenant_by_name(&format!("later-{n}")).await.unwrap().is_some(), "later-{n}");
        }
        for n in 0..60 {
            assert!(store.tenant_by_name(&format!("left-{n}")).await.unwrap().is_some(), "left-{n}");
        }
    })
    .await;
}

/// Drops `work` after a number of turns of the runtime, but not before its first.
async fn leave_after<T>(turns: usize, work: impl Future<Output = T>) {
    let turns = async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = work => {}
        () = turns => {}
    }
}

#[tokio::test]
async fn a_panic_in_a_transaction_undoes_it_and_reaches_the_caller() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (work_store, id) = (store.clone(), TenantId::new());
        let work = tokio::spawn(async move {
            let work = work_store.transaction::<()>(move |tx| {
                Box::pin(async move {
                    tx.tenant_create(&id, "undone", SOME, 1).await?;
                    panic!("on purpose")
                })
            });
            work.await
        });
        assert!(work.await.unwrap_err().is_panic());
        assert_eq!(store.tenant_by_name("undone").await.unwrap(), None);
        create_tenant(&store, "undone").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn migrating_again_changes_nothing_and_the_schema_is_current() {
    on_both_engines(|Fixture { store, .. }| async move {
        create_tenant(&store, "acme").await.unwrap();
        store.migrate().await.unwrap();
        store.schema_is_current().await.unwrap();
        assert!(store.tenant_by_name("acme").await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn an_old_a_newer_and_another_schema_are_refused_with_what_to_do() {
    on_both_engines(|Fixture { store, .. }| async move {
        let change = |sql: &'static str| {
            let store = store.clone();
            async move {
                let work = store.detached(move |db| async move {
                    match db.write() {
                        Engine::Sqlite(pool) => sqlx::raw_sql(sql).execute(pool).await.map(drop),
                        Engine::Postgres(pool) => sqlx::raw_sql(sql).execute(pool).await.map(drop),
                    }
                });
                work.await.unwrap();
                store.schema_is_current().await.unwrap_err().message
            }
        };
        let text = change("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1").await;
        assert!(text.contains("newer version"), "{text}");
        assert_eq!(store.migrate().await.unwrap_err().kind, ErrorKind::Conflict);
        let text = change("UPDATE _sqlx_migrations SET version = 1, checksum = '' WHERE version = 9999").await;
        assert!(text.contains("another build"), "{text}");
        let text = change("DELETE FROM _sqlx_migrations").await;
        assert!(text.contains("caprock migrate"), "{text}");
        let text = change("DROP TABLE _sqlx_migrations").await;
        assert!(text.contains("caprock migrate"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_second_gateway_on_the_same_sqlite_file_is_refused_until_the_first_is_gone() {
    let (Fixture { store, config }, _dir) = sqlite().await;
    let held = store.lock_exclusive("gateway-1").await.unwrap();
    let second = Store::connect(&config).await.unwrap();
    let refusal = second.lock_exclusive("gateway-2").await.unwrap_err();
    assert_eq!(refusal.kind, ErrorKind::Conflict);
    assert!(refusal.message.contains("PostgreSQL"), "{}", refusal.message);
    drop(held);
    second.lock_exclusive("gateway-2").await.unwrap();
}

#[tokio::test]
async fn several_gateways_share_a_postgres_database_if_each_has_an_id_of_its_own() {
    on_both_engines(|Fixture { store, config }| async move {
        if config.store.url.is_none() {
            return; // a SQLite file is shared by nobody: the test above
        }
        let held = store.lock_exclusive("gateway-1").await.unwrap();
        let second = Store::connect(&config).await.unwrap();
        let _other = second.lock_exclusive("gateway-2").await.unwrap();
        let refusal = second.lock_exclusive("gateway-1").await.unwrap_err();
        assert_eq!(refusal.kind, ErrorKind::Conflict);
        assert!(refusal.message.contains("`gateway-1`") && refusal.message.contains("gateway.id"), "{refusal}");
        assert!(futures::FutureExt::now_or_never(held.lost()).is_none());
        drop(held);
        second.lock_exclusive("gateway-1").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_gateway_whose_lock_another_took_while_its_session_was_down_learns_it() {
    on_both_engines(|Fixture { store, config }| async move {
        if config.store.url.is_none() {
            return; // a file lock is lost with the process only
        }
        let held = store.lock_exclusive("gateway-1").await.unwrap();
        let second = Store::connect(&config).await.unwrap();
        let usurp = tokio::spawn(async move { second.lock_exclusive("gateway-1").await });
        let end_session = store.detached(|db| async move {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            match db.write() {
                Engine::Sqlite(pool) => sqlx::raw_sql(sql).execute(pool).await.map(drop),
                Engine::Postgres(pool) => sqlx::raw_sql(sql).execute(pool).await.map(drop),
            }
        });
        end_session.await.unwrap();
        let _usurper = usurp.await.unwrap().unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(30), held.lost()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_address_that_is_no_file_and_no_server_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = testing::config(&dir);
    for url in ["sqlite::memory:", "sqlite:x.db?mode=memory", "sqlite:", "mysql://localhost/x", "nonsense"] {
        config.store.url = Some(url.into());
        assert_eq!(Store::connect(&config).await.unwrap_err().kind, ErrorKind::Invalid, "{url}");
    }
}

#[tokio::test]
async fn the_sqlite_file_is_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt;
    let (Fixture { store, config }, _dir) = sqlite().await;
    create_tenant(&store, "acme").await.unwrap();
    for file in ["caprock.db", "caprock.db-wal", "caprock.db-shm"] {
        let mode = std::fs::metadata(config.gateway.state_dir.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}");
    }
}
