//! Tenants and credentials.

use super::{SOME, access_key, api_key, change_project, change_tenant, create_tenant};
use crate::error::ErrorKind;
use crate::id::{AdminTokenId, KeyId, TenantId};
use crate::quota::Limits;
use crate::store::testing::{Fixture, on_both_engines, principal};
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
async fn keys_are_usable_until_they_expire_or_are_revoked() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let (api, access) = (api_key(Some(10)), access_key(Some(10)));
        let (api_id, access_id, owner) = (api.id.clone(), access.id.clone(), who.clone());
        let made = store.transaction(move |tx| {
            Box::pin(async move {
                let (tenant, project) = (&owner.tenant, &owner.project);
                assert!(!tx.api_key_create(&TenantId::new(), project, &api).await?, "another tenant's project");
                assert!(!tx.access_key_create(&TenantId::new(), project, &access).await?, "another tenant's project");
                Ok(tx.api_key_create(tenant, project, &api).await?
                    && tx.access_key_create(tenant, project, &access).await?)
            })
        });
        assert!(made.await.unwrap());

        let row = store.usable_api_key(&api_id, 9).await.unwrap().unwrap();
        assert_eq!((row.digest.as_str(), row.pepper_version), ("d1", 1));
        assert_eq!((&row.owner.tenant_id, &row.owner.project_id), (&who.tenant, &who.project));
        let row = store.usable_access_key(&access_id, 9).await.unwrap().unwrap();
        assert_eq!((row.sealed_secret.as_str(), &row.owner.tenant_id), ("s1", &who.tenant));
        assert_eq!(store.usable_api_key(&api_id, 10).await.unwrap(), None);
        assert_eq!(store.usable_access_key(&access_id, 10).await.unwrap(), None);
        assert_eq!(store.usable_api_key(&KeyId::new(), 9).await.unwrap(), None);

        let (tenant, api, access) = (who.tenant.clone(), api_id.clone(), access_id.clone());
        let revoked = store.transaction(move |tx| {
            Box::pin(async move {
                assert!(!tx.api_key_revoke(&TenantId::new(), &api, 2).await?, "another tenant's key");
                assert!(!tx.access_key_revoke(&TenantId::new(), &access, 2).await?, "another tenant's key");
                let first =
                    tx.api_key_revoke(&tenant, &api, 2).await? && tx.access_key_revoke(&tenant, &access, 2).await?;
                let again =
                    tx.api_key_revoke(&tenant, &api, 3).await? || tx.access_key_revoke(&tenant, &access, 3).await?;
                Ok((first, again))
            })
        });
        assert_eq!(revoked.await.unwrap(), (true, false));
        assert_eq!(store.usable_api_key(&api_id, 9).await.unwrap(), None);
        assert_eq!(store.usable_access_key(&access_id, 9).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn keys_of_a_suspended_or_deleted_owner_are_not_usable() {
    on_both_engines(|Fixture { store, .. }| async move {
        for (name, end) in [("suspended", 0), ("tenant deleted", 1), ("project deleted", 2)] {
            let who = principal(&store, name).await;
            let (api, access) = (api_key(None), access_key(None));
            let (api_id, access_id) = (api.id.clone(), access.id.clone());
            let owner = who.clone();
            let made = store.transaction(move |tx| {
                Box::pin(async move {
                    let (tenant, project) = (&owner.tenant, &owner.project);
                    Ok(tx.api_key_create(tenant, project, &api).await?
                        && tx.access_key_create(tenant, project, &access).await?)
                })
            });
            assert!(made.await.unwrap());
            assert!(store.usable_api_key(&api_id, 1).await.unwrap().is_some());
            assert!(store.usable_access_key(&access_id, 1).await.unwrap().is_some());

            let ended = match end {
                0 => change_tenant(&store, &who.tenant, 2, |row| row.status = "suspended".into()).await,
                1 => change_tenant(&store, &who.tenant, 2, |row| row.deleted_at = Some(2)).await,
                _ => {
                    let project = (&who.tenant, &who.project);
                    change_project(&store, project, 2, |row| row.deleted_at = Some(2)).await.unwrap()
                }
            };
            assert!(ended);
            assert_eq!(store.usable_api_key(&api_id, 1).await.unwrap(), None, "{name}");
            assert_eq!(store.usable_access_key(&access_id, 1).await.unwrap(), None, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn admin_tokens_are_usable_until_they_expire_or_are_revoked() {
    on_both_engines(|Fixture { store, .. }| async move {
        let id = AdminTokenId::new();
        let new = NewAdminToken {
            id: id.clone(),
            name: "ops".into(),
            digest: "d".into(),
            pepper_version: 1,
            created_at: 1,
            expires_at: Some(10),
        };
        let again = new.clone();
        store.transaction(move |tx| Box::pin(async move { tx.admin_token_create(&new).await })).await.unwrap();
        let taken = store.transaction(move |tx| Box::pin(async move { tx.admin_token_create(&again).await })).await;
        assert_eq!(taken.unwrap_err().kind, ErrorKind::Conflict);
        let row = AdminTokenRow {
            digest: "d".into(),
            pepper_version: 1,
            role: "platform_admin".into(),
            scope: r#"{"operations":["read_usage","administer"]}"#.into(),
        };
        assert_eq!(store.usable_admin_token(&id, 9).await.unwrap(), Some(row));
        assert_eq!(store.usable_admin_token(&id, 10).await.unwrap(), None);
        let revoked = id.clone();
        let twice = store.transaction(move |tx| {
            Box::pin(async move {
                Ok((tx.admin_token_revoke(&revoked, 2).await?, tx.admin_token_revoke(&revoked, 2).await?))
            })
        });
        assert_eq!(twice.await.unwrap(), (true, false));
        assert_eq!(store.usable_admin_token(&id, 9).await.unwrap(), None);
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
