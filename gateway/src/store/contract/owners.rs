//! Tenants.

use super::{SOME, change_tenant, create_tenant};
use crate::error::ErrorKind;
use crate::id::TenantId;
use crate::quota::Limits;
use crate::store::testing::{Fixture, on_both_engines};
use crate::store::*;

#[tokio::test]
async fn tenants_are_found_by_name_until_deleted_and_then_the_name_is_free() {
    on_both_engines(|Fixture { store, .. }| async move {
        let id = create_tenant(&store, "acme").await.unwrap();
        let row = store.tenant_by_name("acme").await.unwrap().unwrap();
        assert_eq!((&row.id, row.name.as_str(), row.status.as_str(), row.created_at), (&id, "acme", "active", 1));
        assert_eq!(Limits::from(row.limits), SOME);
        assert_eq!(store.tenant_by_name("other").await.unwrap(), None);
        assert_eq!(create_tenant(&store, "acme").await.unwrap_err().kind, ErrorKind::Conflict);

        assert!(change_tenant(&store, &id, 2, |row| row.deleted_at = Some(2)).await);
        assert!(!change_tenant(&store, &id, 3, |_| ()).await, "it is gone");
        assert_eq!(store.tenant(&id).await.unwrap().unwrap().deleted_at, Some(2));
        assert_eq!(store.tenant_by_name("acme").await.unwrap(), None);
        assert_ne!(create_tenant(&store, "acme").await.unwrap(), id);
    })
    .await;
}

#[tokio::test]
async fn a_tenants_status_and_limits_change_and_nobody_elses() {
    on_both_engines(|Fixture { store, .. }| async move {
        let id = create_tenant(&store, "acme").await.unwrap();
        create_tenant(&store, "bystander").await.unwrap();
        let other = Limits { requests_per_minute: None, tokens_per_minute: Some(0), concurrent_requests: None };
        assert!(!change_tenant(&store, &TenantId::new(), 5, |_| ()).await);
        let changed = change_tenant(&store, &id, 5, move |row| {
            row.status = "suspended".into();
            row.limits = other.try_into().unwrap();
        });
        assert!(changed.await);
        let row = store.tenant(&id).await.unwrap().unwrap();
        assert_eq!((row.version, row.created_at, row.updated_at), (2, 1, 5));
        let unheard = Limits { tokens_per_minute: Some(u64::MAX), ..SOME };
        assert_eq!(LimitColumns::try_from(unheard).unwrap_err().kind, ErrorKind::Invalid);
        let row = store.tenant_by_name("acme").await.unwrap().unwrap();
        assert_eq!((row.status.as_str(), Limits::from(row.limits)), ("suspended", other));
        let row = store.tenant_by_name("bystander").await.unwrap().unwrap();
        assert_eq!((row.status.as_str(), Limits::from(row.limits)), ("active", SOME));
    })
    .await;
}

#[tokio::test]
async fn tenants_are_listed_in_order_page_by_page_and_filtered() {
    on_both_engines(|Fixture { store, .. }| async move {
        let mut made = Vec::new();
        for name in ["a", "b", "c"] {
            made.push(create_tenant(&store, name).await.unwrap());
        }
        change_tenant(&store, &made[1], 2, |row| row.deleted_at = Some(2)).await;
        change_tenant(&store, &made[2], 2, |row| row.status = "suspended".into()).await;
        let list = async |filter: TenantFilter, after: Option<&TenantId>, limit: i64| -> Vec<String> {
            let rows = store.tenants(&filter, after, limit).await.unwrap();
            rows.into_iter().map(|row| row.name).collect()
        };
        let all = TenantFilter { with_deleted: true, ..TenantFilter::default() };
        assert_eq!(list(TenantFilter::default(), None, 9).await, ["a", "c"]);
        assert_eq!(list(all.clone(), None, 2).await, ["a", "b"]);
        assert_eq!(list(all.clone(), Some(&made[1]), 2).await, ["c"]);
        let suspended = TenantFilter { status: Some("suspended".into()), ..TenantFilter::default() };
        assert_eq!(list(suspended, None, 9).await, ["c"]);
        let named = TenantFilter { name: Some("a".into()), ..TenantFilter::default() };
        assert_eq!(list(named, None, 9).await, ["a"]);
    })
    .await;
}
