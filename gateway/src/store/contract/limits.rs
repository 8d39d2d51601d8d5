//! Limits of keys.

use super::credentials::{Kind, row};
use super::{SOME, change_project};
use crate::auth::Principal;
use crate::id::{KeyId, TenantId};
use crate::quota::Limits;
use crate::store::testing::{Fixture, on_both_engines, principal};
use crate::store::*;

#[tokio::test]
async fn a_keys_limits_are_its_own_until_it_is_revoked_or_its_project_deleted() {
    on_both_engines(|Fixture { store, .. }| async move {
        for end in ["revoked", "project deleted"] {
            let (who, other) = (principal(&store, end).await, principal(&store, &format!("not {end}")).await);
            let (api, access) = (key(&who), key(&who));
            let (api_id, access_id) = (api.id.clone(), access.id.clone());
            assert!(Kind::Api.create(&store, &api).await.unwrap());
            assert!(Kind::Access.create(&store, &access).await.unwrap());

            let row = store.api_key_limits(&who.tenant, &api_id).await.unwrap().unwrap();
            assert_eq!((&row.id, &row.project_id, row.role.as_str()), (&api_id, &who.project, "tenant_admin"));
            assert_eq!((Limits::from(row.limits), row.version), (Limits::default(), 1));
            assert_eq!(store.access_key_limits(&who.tenant, &access_id).await.unwrap().unwrap().version, 1);
            assert_eq!(store.api_key_limits(&who.tenant, &access_id).await.unwrap(), None, "the other kind");
            assert_eq!(store.access_key_limits(&who.tenant, &api_id).await.unwrap(), None, "the other kind");
            assert_eq!(store.api_key_limits(&other.tenant, &api_id).await.unwrap(), None, "another tenant's");
            assert_eq!(store.access_key_limits(&other.tenant, &access_id).await.unwrap(), None, "another tenant's");

            assert_eq!(set(&store, &other.tenant, &api_id, &access_id).await, (false, false), "another tenant's");
            assert_eq!(set(&store, &who.tenant, &api_id, &access_id).await, (true, true));
            let row = store.api_key_limits(&who.tenant, &api_id).await.unwrap().unwrap();
            assert_eq!((Limits::from(row.limits), row.version), (SOME, 2));
            let row = store.access_key_limits(&who.tenant, &access_id).await.unwrap().unwrap();
            assert_eq!((Limits::from(row.limits), row.version), (SOME, 2));

            if end == "revoked" {
                let (tenant, api, access) = (who.tenant.clone(), api_id.clone(), access_id.clone());
                let work = store.transaction(move |tx| {
                    Box::pin(async move {
                        let (Some(mut api), Some(mut access)) = (
                            tx.api_key_for_change(&tenant, &api).await?,
                            tx.access_key_for_change(&tenant, &access).await?,
                        ) else {
                            return Ok(false);
                        };
                        (api.revoked_at, access.revoked_at) = (Some(8), Some(8));
                        tx.api_key_update(&api, 8).await?;
                        tx.access_key_update(&access, 8).await.map(|()| true)
                    })
                });
                assert!(work.await.unwrap());
            } else {
                let project = (&who.tenant, &who.project);
                assert!(change_project(&store, project, 8, |row| row.deleted_at = Some(8)).await.unwrap());
            }
            assert_eq!(store.api_key_limits(&who.tenant, &api_id).await.unwrap(), None, "{end}");
            assert_eq!(store.access_key_limits(&who.tenant, &access_id).await.unwrap(), None, "{end}");
            assert_eq!(set(&store, &who.tenant, &api_id, &access_id).await, (false, false), "{end}");
        }
    })
    .await;
}

/// A key without limits.
fn key(who: &Principal) -> CredentialRow {
    CredentialRow { limits: Limits::default().try_into().unwrap(), ..row(who, "k", 1) }
}

/// Sets both kinds' limits; which were there to be set.
async fn set(store: &Store, tenant: &TenantId, api: &KeyId, access: &KeyId) -> (bool, bool) {
    let (tenant, api, access) = (tenant.clone(), api.clone(), access.clone());
    let work = store.transaction(move |tx| {
        Box::pin(async move {
            let found = tx.api_key_limits_for_change(&tenant, &api).await?;
            let api = found.is_some();
            if let Some(mut row) = found {
                row.limits = SOME.try_into()?;
                tx.api_key_limits_update(&tenant, &row, 7).await?;
            }
            let found = tx.access_key_limits_for_change(&tenant, &access).await?;
            let access = found.is_some();
            if let Some(mut row) = found {
                row.limits = SOME.try_into()?;
                tx.access_key_limits_update(&tenant, &row, 7).await?;
            }
            Ok((api, access))
        })
    });
    work.await.unwrap()
}
