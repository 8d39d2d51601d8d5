//! Reports: bounded in number and time, whatever they ask for.

use super::create_tenant;
use crate::error::{ErrorKind, Limit};
use crate::store::testing::{Fixture, on_both_engines, sqlite};
use crate::store::{Engine, Store};
use std::time::{Duration, Instant};

/// Counts far beyond any deadline.
async fn endless(store: &Store, within: Duration) -> crate::error::Result<i64> {
    store
        .report_within(within, None, |connection| {
            Box::pin(async move {
                on!(connection, c => query_scalar(
                    "WITH RECURSIVE numbers(n) AS (
                         SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000000000
                     )
                     SELECT COUNT(*) FROM numbers",
                    [],
                ).fetch_one(c).await)
            })
        })
        .await
}

#[tokio::test]
async fn the_database_ends_a_report_that_takes_too_long_and_its_connection_is_free_again() {
    on_both_engines(|Fixture { store, .. }| async move {
        let begun = Instant::now();
        for _ in 0..5 {
            let error = endless(&store, Duration::from_millis(100)).await.unwrap_err();
            assert_eq!((error.kind, error.retry_after.is_some()), (ErrorKind::Overloaded, true), "{error:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let one = store.report::<i64>(None, |connection| {
            Box::pin(
                async move { on!(connection, c => query_scalar("SELECT CAST(1 AS BIGINT)", []).fetch_one(c).await) },
            )
        });
        assert_eq!(one.await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn however_many_reports_are_asked_for_look_ups_do_not_wait_for_them() {
    on_both_engines(|Fixture { store, .. }| async move {
        let tenant = create_tenant(&store, "acme").await.unwrap();
        let long = Duration::from_millis(2_500);
        let reports: Vec<_> = (0..16)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    // With a connection in hand.
                    let report = store.report(None, move |_| {
                        Box::pin(async move {
                            tokio::time::sleep(long).await;
                            Ok(())
                        })
                    });
                    report.await
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begun = Instant::now();
        for _ in 0..20 {
            store.tenant(&tenant).await.unwrap().unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        let mut read = 0;
        for report in reports {
            match report.await.unwrap() {
                Ok(()) => read += 1,
                Err(error) => assert_eq!(error.kind, ErrorKind::Overloaded),
            }
        }
        assert!((1..=2).contains(&read), "the others' turn did not come: {read}");
    })
    .await;
}

#[tokio::test]
async fn a_tenant_reads_one_report_at_a_time() {
    let (Fixture { store, .. }, _dir) = sqlite().await;
    let tenant = create_tenant(&store, "acme").await.unwrap();
    let busy = store.report(Some(&tenant), |_| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            Ok(())
        })
    });
    let second = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        store.audit_entries(Some(&tenant), &Default::default(), i64::MAX, 1).await.unwrap_err()
    };
    let operators = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        store.for_operators().audit_entries(Some(&tenant), &Default::default(), i64::MAX, 1).await.unwrap()
    };
    let (first, second, operators) = tokio::join!(busy, second, operators);
    first.unwrap();
    assert_eq!(operators.len(), 0, "who looks into what a tenant does is not kept out by it");
    assert_eq!(second.kind, ErrorKind::QuotaExceeded(Limit::Concurrency));
}

#[tokio::test]
async fn a_tenants_audit_list_is_found_by_its_index() {
    let (Fixture { store, .. }, _dir) = sqlite().await;
    let plan = store.detached(|db| async move {
        let Engine::Sqlite(pool) = db.read() else { unreachable!("SQLite") };
        let text = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", crate::store::audit_entries::OF_TENANT));
        sqlx::query_as::<_, (i64, i64, i64, String)>(text).fetch_all(pool).await
    });
    let plan: Vec<String> = plan.await.unwrap().into_iter().map(|(.., detail)| detail).collect();
    assert_eq!(plan, ["SEARCH audit_log USING INDEX audit_log_by_tenant (tenant_id=? AND seq<?)"]);
}
