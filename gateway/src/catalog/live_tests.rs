//! Reading the catalog anew when the database is not there for a while.

use super::*;
use crate::admin::desk::Desk;
use crate::store::CatalogRow;
use std::time::Duration;
use tokio::time::{Instant, sleep};

async fn sql(app: &App, sql: &'static str) {
    let file = app.config.gateway.state_dir.join("caprock.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

async fn insert(app: &App, id: &str) {
    let body = r#"{"alias":{"target":"amazon.nova-lite-v1:0"}}"#.to_owned();
    let row = CatalogRow { id: id.into(), kind: "alias".into(), body, version: 1, created_at: 1, updated_at: 1 };
    app.store.transaction(move |tx| Box::pin(async move { tx.catalog_insert(&row).await })).await.unwrap();
}

#[tokio::test]
async fn a_catalog_that_can_not_be_read_stays_and_is_read_as_soon_as_it_can_be() {
    let desk = Desk::open().await;
    let app = &desk.app;
    follow(app, &app.tasks);
    insert(app, "one").await;
    refresh(app).await;
    assert!(app.catalog.load().alias("one").is_some());

    insert(app, "two").await;
    sql(app, "ALTER TABLE catalog_overrides RENAME TO elsewhere").await;
    refresh(app).await;
    sleep(FIRST_PAUSE * 3).await;
    let aliases = app.catalog.load().aliases().count();
    assert_eq!(aliases, 1, "the former one");
    sql(app, "ALTER TABLE elsewhere RENAME TO catalog_overrides").await;
    let until = Instant::now() + Duration::from_secs(30);
    while app.catalog.load().alias("two").is_none() {
        assert!(Instant::now() < until, "nobody tried again");
        sleep(Duration::from_millis(10)).await;
    }
    app.stopping.cancel();
    app.tasks.close();
    app.tasks.wait().await;
}
