//! Projects.

use super::{SOME, change_project, change_tenant, create_tenant};
use crate::error::{ErrorKind, Result};
use crate::id::{ProjectId, TenantId};
use crate::quota::Limits;
use crate::store::testing::{Fixture, on_both_engines};
use crate::store::*;

async fn create_project(store: &Store, tenant: &TenantId, name: &str) -> Result<Option<ProjectId>> {
    let (tenant, id, name) = (tenant.clone(), ProjectId::new(), name.to_owned());
    let made = id.clone();
    let work = store.transaction(move |tx| Box::pin(async move { tx.project_create(&tenant, &id, &name, 5).await }));
    Ok(work.await?.then_some(made))
}

#[tokio::test]
async fn projects_belong_to_one_tenant() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (one, other) = (create_tenant(&store, "one").await.unwrap(), create_tenant(&store, "other").await.unwrap());
        assert_eq!(create_project(&store, &TenantId::new(), "x").await.unwrap(), None);
        let id = create_project(&store, &one, "default").await.unwrap().unwrap();
        let row = store.project(&one, &id).await.unwrap().unwrap();
        let expected = ProjectRow {
            id: id.clone(),
            tenant_id: one.clone(),
            name: "default".into(),
            limits: Limits::default().try_into().unwrap(),
            model_access: None,
            version: 1,
            created_at: 5,
            updated_at: 5,
            deleted_at: None,
        };
        assert_eq!(row, expected);
        assert_eq!(store.project_by_name(&one, "default").await.unwrap(), Some(row));

        assert_eq!(store.project(&other, &id).await.unwrap(), None);
        assert_eq!(store.project_by_name(&other, "default").await.unwrap(), None);
        assert_eq!(store.projects(&other, &ProjectFilter::default(), None, 9).await.unwrap(), []);
        assert!(!change_project(&store, (&other, &id), 6, |_| ()).await.unwrap(), "another tenant's");
        assert!(!change_project(&store, (&one, &ProjectId::new()), 6, |_| ()).await.unwrap());
        assert_eq!(store.project(&one, &id).await.unwrap(), Some(expected));
    })
    .await;
}

#[tokio::test]
async fn all_of_a_project_changes_and_nothing_of_its_neighbour() {
    on_both_engines(|Fixture { store, .. }| async move {
        let tenant = create_tenant(&store, "acme").await.unwrap();
        let id = create_project(&store, &tenant, "a").await.unwrap().unwrap();
        let neighbour = create_project(&store, &tenant, "b").await.unwrap().unwrap();
        let changed = change_project(&store, (&tenant, &id), 7, |row| {
            row.name = "c".into();
            row.limits = SOME.try_into().unwrap();
            row.model_access = Some(r#"["x"]"#.into());
        });
        assert!(changed.await.unwrap());
        let row = store.project(&tenant, &id).await.unwrap().unwrap();
        assert_eq!((row.name.as_str(), row.version, row.created_at, row.updated_at), ("c", 2, 5, 7));
        assert_eq!((Limits::from(row.limits), row.model_access.as_deref()), (SOME, Some(r#"["x"]"#)));
        let row = store.project(&tenant, &neighbour).await.unwrap().unwrap();
        assert_eq!((row.name.as_str(), row.version, row.updated_at), ("b", 1, 5));
        let taken = change_project(&store, (&tenant, &id), 8, |row| row.name = "b".into()).await;
        assert_eq!(taken.unwrap_err().kind, ErrorKind::Conflict);
    })
    .await;
}

#[tokio::test]
async fn a_projects_name_is_free_once_it_is_deleted_and_not_before() {
    on_both_engines(|Fixture { store, .. }| async move {
        let tenant = create_tenant(&store, "acme").await.unwrap();
        let id = create_project(&store, &tenant, "a").await.unwrap().unwrap();
        assert_eq!(create_project(&store, &tenant, "a").await.unwrap_err().kind, ErrorKind::Conflict);
        assert!(change_project(&store, (&tenant, &id), 7, |row| row.deleted_at = Some(7)).await.unwrap());
        assert!(!change_project(&store, (&tenant, &id), 8, |_| ()).await.unwrap(), "it is gone");
        assert_eq!(store.project_by_name(&tenant, "a").await.unwrap(), None);
        assert_eq!(store.project(&tenant, &id).await.unwrap().unwrap().deleted_at, Some(7));
        assert!(create_project(&store, &tenant, "a").await.unwrap().is_some());

        change_tenant(&store, &tenant, 9, |row| row.deleted_at = Some(9)).await;
        assert_eq!(create_project(&store, &tenant, "b").await.unwrap(), None, "its tenant is gone");
        let alive = store.project_by_name(&tenant, "a").await.unwrap().unwrap().id;
        assert!(!change_project(&store, (&tenant, &alive), 9, |_| ()).await.unwrap(), "its tenant is gone");
    })
    .await;
}

#[tokio::test]
async fn projects_are_listed_in_order_page_by_page_and_filtered() {
    on_both_engines(|Fixture { store, .. }| async move {
        let tenant = create_tenant(&store, "acme").await.unwrap();
        let mut made = Vec::new();
        for name in ["a", "b", "c"] {
            made.push(create_project(&store, &tenant, name).await.unwrap().unwrap());
        }
        change_project(&store, (&tenant, &made[1]), 2, |row| row.deleted_at = Some(2)).await.unwrap();
        let list = async |filter: ProjectFilter, after: Option<&ProjectId>, limit: i64| -> Vec<String> {
            let rows = store.projects(&tenant, &filter, after, limit).await.unwrap();
            rows.into_iter().map(|row| row.name).collect()
        };
        let all = ProjectFilter { with_deleted: true, ..ProjectFilter::default() };
        assert_eq!(list(ProjectFilter::default(), None, 9).await, ["a", "c"]);
        assert_eq!(list(all.clone(), None, 2).await, ["a", "b"]);
        assert_eq!(list(all, Some(&made[1]), 2).await, ["c"]);
        let named = ProjectFilter { name: Some("c".into()), ..ProjectFilter::default() };
        assert_eq!(list(named, None, 9).await, ["c"]);
    })
    .await;
}
