//! Rows of the catalog, and that changes of it come one after the other.

use crate::error::ErrorKind;
use crate::store::testing::{Fixture, on_both_engines};
use crate::store::*;
use std::time::Duration;

fn row(id: &str, version: i64) -> CatalogRow {
    let (kind, body) = ("alias".to_owned(), r#"{"opaque":"to SQL"}"#.to_owned());
    CatalogRow { id: id.into(), kind, body, version, created_at: 1, updated_at: version }
}

async fn insert(store: &Store, row: CatalogRow) -> crate::error::Result<()> {
    store.transaction(move |tx| Box::pin(async move { tx.catalog_insert(&row).await })).await
}

#[tokio::test]
async fn rows_of_the_catalog_are_added_changed_removed_and_listed_by_id() {
    on_both_engines(|Fixture { store, .. }| async move {
        for id in ["b.two:0", "a.one", "c.three"] {
            insert(&store, row(id, 7)).await.unwrap();
        }
        assert_eq!(insert(&store, row("a.one", 8)).await.unwrap_err().kind, ErrorKind::Conflict);
        let ids = async |limit| {
            let rows = store.catalog_rows(limit).await.unwrap();
            rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(9).await, ["a.one", "b.two:0", "c.three"]);
        assert_eq!(ids(2).await, ["a.one", "b.two:0"]);

        let changed =
            CatalogRow { kind: "model".into(), body: "{}".into(), version: 8, updated_at: 9, ..row("b.two:0", 7) };
        let (written, none) = (changed.clone(), row("no.such", 1));
        let work = store.transaction(move |tx| {
            Box::pin(async move {
                let before = tx.catalog_for_change(2).await?;
                assert_eq!(before, [row("a.one", 7), row("b.two:0", 7)]);
                Ok((tx.catalog_update(&written).await?, tx.catalog_update(&none).await?))
            })
        });
        assert_eq!(work.await.unwrap(), (true, false));
        assert_eq!(store.catalog_rows(9).await.unwrap()[1], changed);

        let work = store.transaction(|tx| {
            Box::pin(async move { Ok((tx.catalog_delete("b.two:0").await?, tx.catalog_delete("b.two:0").await?)) })
        });
        assert_eq!(work.await.unwrap(), (true, false));
        assert_eq!(ids(9).await, ["a.one", "c.three"]);
    })
    .await;
}

/// Each adds a row only where there is none: judged against the same catalog, all of them would.
#[tokio::test]
async fn of_changes_at_once_each_sees_what_the_one_before_has_left() {
    on_both_engines(|Fixture { store, .. }| async move {
        let change = async |at: i64| {
            let work = store.transaction(move |tx| {
                Box::pin(async move {
                    let rows = tx.catalog_for_change(9).await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    if rows.is_empty() {
                        tx.catalog_insert(&row(&format!("a.{at}"), at)).await?;
                    }
                    Ok(rows.len())
                })
            });
            work.await.unwrap()
        };
        let mut seen = futures::future::join_all((0..4).map(change)).await;
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 1, 1]);
        assert_eq!(store.catalog_rows(9).await.unwrap().len(), 1);
    })
    .await;
}
