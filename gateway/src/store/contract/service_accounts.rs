//! Service accounts, and what becomes of their keys.

use super::change_project;
use super::credentials::{self, Kind};
use crate::auth::Principal;
use crate::error::{ErrorKind, Result};
use crate::id::{ProjectId, ServiceAccountId, TenantId};
use crate::store::testing::{self, Fixture, on_both_engines, principal};
use crate::store::*;

fn account(who: &Principal, name: &str) -> ServiceAccountRow {
    ServiceAccountRow {
        id: ServiceAccountId::new(),
        tenant_id: who.tenant.clone(),
        project_id: who.project.clone(),
        name: name.into(),
        role: "tenant_developer".into(),
        scope: r#"{"opaque":"to SQL"}"#.into(),
        federated_issuer: Some("https://issuer.example".into()),
        federated_subject: Some("machine".into()),
        expires_at: Some(100),
        version: 1,
        created_at: 5,
        updated_at: 5,
        deleted_at: None,
    }
}

async fn create(store: &Store, row: &ServiceAccountRow) -> Result<bool> {
    let row = row.clone();
    store.transaction(move |tx| Box::pin(async move { tx.service_account_create(&row).await })).await
}

async fn change(
    store: &Store,
    (tenant, id): (&TenantId, &ServiceAccountId),
    how: impl FnOnce(&mut ServiceAccountRow) + Send + 'static,
) -> Result<bool> {
    let (tenant, id) = (tenant.clone(), id.clone());
    let work = store.transaction(move |tx| {
        Box::pin(async move {
            let Some(mut row) = tx.service_account_for_change(&tenant, &id).await? else { return Ok(false) };
            how(&mut row);
            tx.service_account_update(&row, 7).await.map(|()| true)
        })
    });
    work.await
}

#[tokio::test]
async fn a_service_account_is_one_projects_and_nobody_elses() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, other) = (principal(&store, "one").await, principal(&store, "other").await);
        let row = account(&who, "ci");
        assert!(create(&store, &row).await.unwrap());
        assert_eq!(store.service_account(&who.tenant, &row.id).await.unwrap(), Some(row.clone()));
        let nobodys = ServiceAccountRow { project_id: ProjectId::new(), ..account(&who, "x") };
        assert!(!create(&store, &nobodys).await.unwrap());
        let foreign = ServiceAccountRow { project_id: other.project.clone(), ..account(&who, "x") };
        assert!(!create(&store, &foreign).await.unwrap(), "another tenant's project");

        assert_eq!(store.service_account(&other.tenant, &row.id).await.unwrap(), None);
        let all = ServiceAccountFilter::default();
        assert_eq!(store.service_accounts(&other.tenant, &all, None, 9).await.unwrap(), []);
        assert!(!change(&store, (&other.tenant, &row.id), |_| ()).await.unwrap(), "another tenant's");
        assert!(!change(&store, (&who.tenant, &ServiceAccountId::new()), |_| ()).await.unwrap());
        assert_eq!(store.service_account(&who.tenant, &row.id).await.unwrap(), Some(row));
    })
    .await;
}

#[tokio::test]
async fn all_of_a_service_account_changes_but_whose_it_is() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let (row, neighbour) = (account(&who, "a"), account(&who, "b"));
        assert!(create(&store, &row).await.unwrap() && create(&store, &neighbour).await.unwrap());
        let changed = change(&store, (&who.tenant, &row.id), |row| {
            (row.name, row.role, row.scope) = ("c".into(), "tenant_admin".into(), "{}".into());
            (row.federated_issuer, row.federated_subject, row.expires_at) = (None, None, None);
        });
        assert!(changed.await.unwrap());
        let expected = ServiceAccountRow {
            name: "c".into(),
            role: "tenant_admin".into(),
            scope: "{}".into(),
            federated_issuer: None,
            federated_subject: None,
            expires_at: None,
            version: 2,
            updated_at: 7,
            ..row.clone()
        };
        assert_eq!(store.service_account(&who.tenant, &row.id).await.unwrap(), Some(expected));
        assert_eq!(store.service_account(&who.tenant, &neighbour.id).await.unwrap(), Some(neighbour));

        let taken = change(&store, (&who.tenant, &row.id), |row| row.name = "b".into()).await;
        assert_eq!(taken.unwrap_err().kind, ErrorKind::Conflict);
        assert_eq!(create(&store, &account(&who, "b")).await.unwrap_err().kind, ErrorKind::Conflict);
        assert!(change(&store, (&who.tenant, &row.id), |row| row.deleted_at = Some(7)).await.unwrap());
        assert!(!change(&store, (&who.tenant, &row.id), |_| ()).await.unwrap(), "it is gone");
        assert!(create(&store, &account(&who, "c")).await.unwrap(), "its name is free");
    })
    .await;
}

#[tokio::test]
async fn service_accounts_are_listed_in_order_page_by_page_and_filtered() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let (tenant, second) = (who.tenant.clone(), ProjectId::new());
        let project = second.clone();
        let work = store
            .transaction(move |tx| Box::pin(async move { tx.project_create(&tenant, &project, "second", 1).await }));
        assert!(work.await.unwrap());
        let elsewhere = Principal { project: second.clone(), ..who.clone() };
        let rows = [account(&who, "a"), account(&elsewhere, "b"), account(&who, "c"), account(&who, "d")];
        for row in &rows {
            assert!(create(&store, row).await.unwrap());
        }
        change(&store, (&who.tenant, &rows[2].id), |row| row.deleted_at = Some(7)).await.unwrap();
        let list = async |filter: ServiceAccountFilter, after: Option<&ServiceAccountId>, limit: i64| -> Vec<String> {
            let rows = store.service_accounts(&who.tenant, &filter, after, limit).await.unwrap();
            rows.into_iter().map(|row| row.name).collect()
        };
        let all = ServiceAccountFilter::default;
        assert_eq!(list(all(), None, 2).await, ["a", "b"]);
        assert_eq!(list(all(), Some(&rows[1].id), 2).await, ["d"]);
        assert_eq!(list(ServiceAccountFilter { name: Some("d".into()), ..all() }, None, 9).await, ["d"]);
        assert_eq!(list(ServiceAccountFilter { project: Some(second.clone()), ..all() }, None, 9).await, ["b"]);

        change_project(&store, (&who.tenant, &second), 8, |row| row.deleted_at = Some(8)).await.unwrap();
        assert_eq!(list(all(), None, 9).await, ["a", "d"], "gone with its project");
        assert_eq!(store.service_account(&who.tenant, &rows[1].id).await.unwrap(), None);
        assert!(!change(&store, (&who.tenant, &rows[1].id), |_| ()).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn keys_of_a_service_account_end_with_it() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let row = account(&who, "ci");
        assert!(create(&store, &row).await.unwrap());
        let (api, access) = (credentials::row(&who, "k", 1), credentials::row(&who, "k", 1));
        let (api_id, access_id) = (api.id.clone(), access.id.clone());
        assert!(Kind::Api.create(&store, &api).await.unwrap());
        assert!(Kind::Access.create(&store, &access).await.unwrap());
        let usable = async |now: i64| {
            let api = store.usable_api_key(&api_id, now).await.unwrap().is_some();
            (api, store.usable_access_key(&access_id, now).await.unwrap().is_some())
        };
        assert_eq!(usable(100).await, (true, true), "the project's own");
        testing::give_to(&store, &api_id, &row.id).await;
        testing::give_to(&store, &access_id, &row.id).await;
        assert_eq!(usable(99).await, (true, true));
        assert_eq!(usable(100).await, (false, false), "expired");
        change(&store, (&who.tenant, &row.id), |row| row.deleted_at = Some(7)).await.unwrap();
        assert_eq!(usable(99).await, (false, false), "deleted");
    })
    .await;
}
