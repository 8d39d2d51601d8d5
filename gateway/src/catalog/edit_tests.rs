//! Changes in real databases: judged, made and logged as one.

use super::*;
use crate::audit::Author;
use crate::catalog::{Live, MAX_OVERRIDES};
use crate::clock::Micros;
use crate::secrets::Secrets;
use crate::store::testing::{Fixture, audit_records, on_both_engines, sqlite};
use std::sync::Arc;

const NOVA: &str = "amazon.nova-lite-v1:0";

struct Desk {
    store: Store,
    config: Config,
    secrets: Secrets,
    author: Author,
}

impl Desk {
    fn new(fixture: Fixture) -> Desk {
        let secrets = Secrets::load_or_create_with(&fixture.config.gateway.state_dir, |_| None).unwrap();
        Desk { store: fixture.store, config: fixture.config, secrets, author: Author::command("test") }
    }

    fn change(&self, now: Micros) -> audit::Change<'_> {
        audit::Change { store: &self.store, secrets: &self.secrets, now, author: &self.author, once: None }
    }

    async fn add(&self, now: Micros, id: &str) -> Result<Edited> {
        create_model(self.change(now), &self.config, id, entry()).await
    }

    async fn alias(&self, now: Micros, id: &str, target: &str, expected: Option<i64>) -> Result<Edited> {
        set_alias(self.change(now), &self.config, id, Alias { target: target.into() }, expected).await
    }

    async fn rename(&self, now: Micros, id: &str, name: &str) -> Result<Edited> {
        let patch = EntryPatch { name: Some(name.into()), ..EntryPatch::default() };
        update_model(self.change(now), &self.config, id, patch, None).await
    }

    /// As a start would read it.
    async fn catalog(&self) -> Snapshot {
        Snapshot::of_rows(&self.config, &self.store.catalog_rows(MOST_ROWS).await.unwrap()).unwrap()
    }

    async fn insert(&self, row: CatalogRow) {
        self.store.transaction(move |tx| Box::pin(async move { tx.catalog_insert(&row).await })).await.unwrap();
    }

    async fn actions(&self, id: &str) -> Vec<String> {
        audit_records(&self.store, id).await.into_iter().map(|(action, _)| action).collect()
    }
}

fn entry() -> Entry {
    let text = r#"{"name": "Mine", "provider": "Me", "price_picousd_per_token": {"input": 1, "output": 2}}"#;
    serde_json::from_str(text).unwrap()
}

fn row(id: &str, kind: &str, body: &str) -> CatalogRow {
    CatalogRow { id: id.into(), kind: kind.into(), body: body.into(), version: 3, created_at: 3, updated_at: 3 }
}

fn alias_body() -> String {
    serde_json::to_string(&OverrideBody::Alias(Alias { target: NOVA.into() })).unwrap()
}

#[tokio::test]
async fn changes_at_once_never_leave_a_catalog_that_either_of_them_would_have_refused() {
    on_both_engines(|fixture| async move {
        let desk = Desk::new(fixture);
        for round in 1..=6 {
            desk.add(round * 10, "me.new").await.unwrap();
            // One of the two must lose: an alias needs its model.
            let (alias, removal) = tokio::join!(
                desk.alias(round * 10 + 1, "fast", "me.new", None),
                delete_model(desk.change(round * 10 + 1), &desk.config, "me.new", None),
            );
            assert!(alias.is_ok() != removal.is_ok(), "{alias:?} {removal:?}");
            assert_eq!(desk.catalog().await.complaints(), []);
            if alias.is_ok() {
                assert_eq!(removal.unwrap_err().kind, ErrorKind::Conflict);
                delete_alias(desk.change(1), &desk.config, "fast", None).await.unwrap();
                delete_model(desk.change(1), &desk.config, "me.new", None).await.unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_last_place_is_given_once() {
    on_both_engines(|fixture| async move {
        let desk = Desk::new(fixture);
        let body = alias_body();
        let rows = (1..MAX_OVERRIDES).map(|at| row(&format!("a.{at:04}"), "alias", &body));
        let rows: Vec<CatalogRow> = rows.collect();
        let work = desk.store.transaction(move |tx| {
            Box::pin(async move {
                for row in &rows {
                    tx.catalog_insert(row).await?;
                }
                Ok(())
            })
        });
        work.await.unwrap();
        let (one, other) = tokio::join!(desk.alias(9, "b.one", NOVA, None), desk.add(9, "b.other"));
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
        let refused = one.err().or(other.err()).unwrap();
        assert_eq!(refused.kind, ErrorKind::Conflict);
        assert!(refused.message.contains("2000"), "{refused}");
        assert_eq!(desk.catalog().await.rows(), MAX_OVERRIDES);
        // What is there can still be changed.
        desk.alias(10, "a.0001", "amazon.nova-pro-v1:0", None).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_version_of_an_entry_that_is_gone_fits_no_later_one() {
    let (fixture, _dir) = sqlite().await;
    let desk = Desk::new(fixture);
    let made = desk.alias(5, "fast", NOVA, Some(0)).await.unwrap();
    assert!(made.is_new);
    let seen = made.catalog.stamp("fast").unwrap();
    let taken = desk.alias(6, "fast", NOVA, Some(0)).await.unwrap_err();
    assert_eq!(taken.kind, ErrorKind::PreconditionFailed);
    delete_alias(desk.change(7), &desk.config, "fast", Some(seen.version)).await.unwrap();
    desk.alias(8, "fast", "amazon.nova-pro-v1:0", None).await.unwrap();
    let stale = delete_alias(desk.change(9), &desk.config, "fast", Some(seen.version)).await.unwrap_err();
    assert_eq!(stale.kind, ErrorKind::PreconditionFailed);
    assert_eq!(desk.actions("fast").await, ["alias.create", "alias.delete", "alias.create"]);
}

#[tokio::test]
async fn what_is_as_asked_for_gets_no_new_version_and_no_entry_in_the_log() {
    let (fixture, _dir) = sqlite().await;
    let desk = Desk::new(fixture);
    let name = desk.catalog().await.entry(NOVA).unwrap().name.clone();
    let same = desk.rename(5, NOVA, &name).await.unwrap();
    assert_eq!((same.catalog.stamp(NOVA), desk.catalog().await.rows()), (None, 0));
    let version = |edited: &Edited| edited.catalog.stamp(NOVA).unwrap().version;
    let first = desk.rename(6, NOVA, "Ours").await.unwrap();
    let same = desk.rename(7, NOVA, "Ours").await.unwrap();
    let second = desk.rename(8, NOVA, "Theirs").await.unwrap();
    assert_eq!((version(&first), version(&same), version(&second)), (6, 6, 7));
    assert_eq!(desk.actions(NOVA).await, ["model.update", "model.update"]);
    let logged = audit_records(&desk.store, NOVA).await;
    let (_, record) = &logged[0];
    assert_eq!((&record["before"]["layer"], &record["before"]["entry"]["name"]), (&"compiled_in".into(), &json!(name)));
    assert_eq!((&record["after"]["layer"], &record["after"]["entry"]["name"]), (&"api".into(), &"Ours".into()));
}

#[tokio::test]
async fn a_row_that_can_not_be_read_keeps_no_gateway_from_starting_and_can_be_removed() {
    let (fixture, _dir) = sqlite().await;
    let desk = Desk::new(fixture);
    desk.insert(row("me.broken", "model", "{\"fable\":{}}")).await;
    let catalog = Live::new(Snapshot::load(&desk.config).unwrap());
    catalog.reload(&desk.store, &desk.config).await.unwrap();
    assert_eq!((catalog.load().complaints().len(), catalog.load().rows()), (1, 1));
    assert_eq!(desk.add(4, "me.broken").await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(desk.rename(4, "me.broken", "x").await.unwrap_err().kind, ErrorKind::NotFound);
    let as_alias = delete_alias(desk.change(4), &desk.config, "me.broken", None).await;
    assert_eq!(as_alias.unwrap_err().kind, ErrorKind::NotFound);
    delete_model(desk.change(4), &desk.config, "me.broken", None).await.unwrap();
    let (_, record) = audit_records(&desk.store, "me.broken").await.remove(0);
    assert_eq!(record["before"]["unreadable"], "{\"fable\":{}}");
    assert_eq!(desk.catalog().await.rows(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_reloads_sees_at_least_what_was_committed_before() {
    let (fixture, _dir) = sqlite().await;
    let desk = Arc::new(Desk::new(fixture));
    let live = Arc::new(Live::new(Snapshot::load(&desk.config).unwrap()));
    let readers = (0..8).map(|reader| {
        let (desk, live) = (Arc::clone(&desk), Arc::clone(&live));
        tokio::spawn(async move {
            for at in 0..25 {
                let id = format!("alias.{reader}.{at}");
                desk.insert(row(&id, "alias", &alias_body())).await;
                live.reload(&desk.store, &desk.config).await.unwrap();
                assert!(live.load().alias(&id).is_some(), "{id}");
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    assert_eq!(live.load().aliases().count(), 200);
}

#[tokio::test]
async fn a_database_that_can_not_be_read_leaves_the_catalog_as_it_is() {
    let (fixture, _dir) = sqlite().await;
    let desk = Desk::new(fixture);
    desk.alias(5, "fast", NOVA, None).await.unwrap();
    let live = Live::new(Snapshot::load(&desk.config).unwrap());
    live.reload(&desk.store, &desk.config).await.unwrap();
    desk.store.close().await;
    live.reload(&desk.store, &desk.config).await.unwrap_err();
    assert!(live.load().alias("fast").is_some());
}
