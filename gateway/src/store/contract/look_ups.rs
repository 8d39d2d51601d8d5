//! Credentials as they are looked up, used and taken over.

use crate::error::Result;
use crate::id::{AdminTokenId, KeyId, ServiceAccountId, TenantId};
use crate::quota::Limits;
use crate::store::testing::{Fixture, on_both_engines, principal};
use crate::store::*;

/// From outside of the program.
async fn sql(store: &Store, text: String) {
    let work = store.detached(move |db| async move {
        match db.write() {
            Engine::Sqlite(pool) => sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(pool).await.map(drop),
            Engine::Postgres(pool) => sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(pool).await.map(drop),
        }
    });
    work.await.unwrap();
}

struct World {
    store: Store,
    tenant: TenantId,
    key: KeyId,
    access: KeyId,
    account: ServiceAccountId,
}

/// An API key and an access key of a service account, all with limits and bounds.
async fn world(store: Store) -> World {
    let who = principal(&store, "acme").await;
    let (key, access, account) = (KeyId::new(), KeyId::of("CKIAAAAAAAAAAAAAAAAA"), ServiceAccountId::new());
    let (tenant, project) = (&who.tenant, &who.project);
    let scope = r#"{"operations":["inference"]}"#;
    let text = format!(
        "INSERT INTO service_accounts (id, tenant_id, project_id, name, role, scope, federated_issuer, federated_subject,
             expires_at, created_at, updated_at)
         VALUES ('{account}', '{tenant}', '{project}', 'ci', 'tenant_admin', '{scope}', 'iss', 'sub', 100, 1, 1);
         INSERT INTO api_keys (id, tenant_id, project_id, service_account_id, name, digest, pepper_version, role,
             previous_digest, previous_pepper_version, previous_expires_at, tokens_per_minute, created_at, expires_at)
         VALUES ('{key}', '{tenant}', '{project}', '{account}', 'k', 'd2', 2, 'tenant_owner', 'd1', 1, 50, 7, 1, 200);
         INSERT INTO access_keys (id, tenant_id, project_id, service_account_id, name, sealed_secret,
             previous_sealed_secret, previous_expires_at, created_at)
         VALUES ('{access}', '{tenant}', '{project}', '{account}', 'k', 's2', 's1', 50, 1);
         UPDATE projects SET requests_per_minute = 5, model_access = '[\"x\"]' WHERE id = '{project}';
         UPDATE tenants SET concurrent_requests = 3, model_access = '[\"y\"]' WHERE id = '{tenant}'"
    );
    sql(&store, text).await;
    World { store, tenant: who.tenant, key, access, account }
}

#[tokio::test]
async fn a_look_up_brings_all_that_bounds_a_key() {
    on_both_engines(|Fixture { store, .. }| async move {
        let World { store, tenant, key, access, account } = world(store).await;
        let row = store.usable_api_key(&key, 9).await.unwrap().unwrap();
        assert_eq!((row.digest.as_str(), row.pepper_version), ("d2", 2));
        let former = (row.former.previous_digest.as_deref(), row.former.previous_pepper_version);
        assert_eq!(former, (Some("d1"), Some(1)));
        assert_eq!((row.former.previous_expires_at, row.owner.expires_at), (Some(50), Some(200)));
        assert_eq!(
            (row.owner.role.as_str(), row.owner.account_role.as_deref()),
            ("tenant_owner", Some("tenant_admin"))
        );
        assert_eq!(row.owner.account_scope.as_deref(), Some(r#"{"operations":["inference"]}"#));
        assert_eq!((row.owner.service_account_id, row.owner.account_expires_at), (Some(account.clone()), Some(100)));
        let limits = |requests, tokens, concurrent| Limits {
            requests_per_minute: requests,
            tokens_per_minute: tokens,
            concurrent_requests: concurrent,
        };
        assert_eq!(Limits::from(row.owner.limits), limits(None, None, Some(3)));
        assert_eq!(Limits::from(row.owner.project_limits), limits(Some(5), None, None));
        assert_eq!(Limits::from(row.owner.key_limits), limits(None, Some(7), None));
        assert_eq!(row.owner.tenant_model_access.as_deref(), Some(r#"["y"]"#));
        assert_eq!(row.owner.project_model_access.as_deref(), Some(r#"["x"]"#));

        let row = store.usable_access_key(&access, 9).await.unwrap().unwrap();
        assert_eq!((row.sealed_secret.as_str(), row.previous_sealed_secret.as_deref()), ("s2", Some("s1")));
        assert_eq!((row.owner.service_account_id, row.previous_expires_at), (Some(account.clone()), Some(50)));

        let row = store.usable_service_account(&account, 9).await.unwrap().unwrap();
        assert_eq!((row.federated_issuer.as_deref(), row.federated_subject.as_deref()), (Some("iss"), Some("sub")));
        assert_eq!((row.owner.tenant_id, row.owner.role.as_str()), (tenant, "tenant_admin"));
        assert_eq!((row.owner.expires_at, row.owner.account_role), (Some(100), None));
    })
    .await;
}

#[tokio::test]
async fn a_key_ends_with_its_service_account_and_an_account_with_its_owner() {
    on_both_engines(|Fixture { store, .. }| async move {
        let World { store, key, access, account, .. } = world(store).await;
        let usable = async |at| {
            [
                store.usable_api_key(&key, at).await.unwrap().is_some(),
                store.usable_access_key(&access, at).await.unwrap().is_some(),
                store.usable_service_account(&account, at).await.unwrap().is_some(),
            ]
        };
        assert_eq!(usable(99).await, [true; 3]);
        assert_eq!(usable(100).await, [false; 3], "the account has expired, the keys have not");
        for (end, undo) in [
            ("UPDATE service_accounts SET deleted_at = 5", "UPDATE service_accounts SET deleted_at = NULL"),
            ("UPDATE tenants SET status = 'suspended'", "UPDATE tenants SET status = 'active'"),
            ("UPDATE tenants SET deleted_at = 5", "UPDATE tenants SET deleted_at = NULL"),
            ("UPDATE projects SET deleted_at = 5", "UPDATE projects SET deleted_at = NULL"),
        ] {
            sql(&store, end.to_owned()).await;
            assert_eq!(usable(9).await, [false; 3], "{end}");
            sql(&store, undo.to_owned()).await;
            assert_eq!(usable(9).await, [true; 3], "{undo}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_last_use_is_the_latest_whatever_the_order_of_writing() {
    on_both_engines(|Fixture { store, .. }| async move {
        let used = async |at| {
            let work = store.transaction(move |tx| Box::pin(async move { tx.credential_used("key_a", at).await }));
            work.await.unwrap();
            store.credential_last_used("key_a").await.unwrap()
        };
        assert_eq!(store.credential_last_used("key_a").await.unwrap(), None);
        assert_eq!(used(5).await, Some(5));
        assert_eq!(used(9).await, Some(9));
        assert_eq!(used(7).await, Some(9));
        assert_eq!(store.credential_last_used("key_b").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_secret_is_taken_over_only_while_it_is_the_one_that_was_seen() {
    on_both_engines(|Fixture { store, .. }| async move {
        let World { store, tenant, key, access, .. } = world(store).await;
        let token = AdminTokenId::new();
        let made = format!(
            "INSERT INTO admin_tokens (id, name, digest, pepper_version, created_at) VALUES ('{token}', 'ops', 't1', 1, 1)"
        );
        sql(&store, made).await;
        let (owner, of, with, held) = (tenant.clone(), key.clone(), access.clone(), token.clone());
        let work = store.transaction(move |tx| {
            Box::pin(async move {
                let stranger = TenantId::new();
                tx.api_key_redigest(&stranger, &of, "d2", ("x", 9)).await?;
                tx.api_key_redigest(&owner, &of, "rotated away", ("x", 9)).await?;
                tx.api_key_redigest(&owner, &of, "d2", ("d3", 3)).await?;
                tx.access_key_reseal(&stranger, &with, "s2", "x").await?;
                tx.access_key_reseal(&owner, &with, "rotated away", "x").await?;
                tx.access_key_reseal(&owner, &with, "s2", "s3").await?;
                tx.admin_token_redigest(&held, "rotated away", ("x", 9)).await?;
                tx.admin_token_redigest(&held, "t1", ("t2", 2)).await?;
                Result::Ok(())
            })
        });
        work.await.unwrap();
        let row = store.usable_api_key(&key, 9).await.unwrap().unwrap();
        assert_eq!((row.digest.as_str(), row.pepper_version), ("d3", 3));
        assert_eq!(store.usable_access_key(&access, 9).await.unwrap().unwrap().sealed_secret, "s3");
        let row = store.usable_admin_token(&token, 9).await.unwrap().unwrap();
        assert_eq!((row.digest.as_str(), row.pepper_version), ("t2", 2));
    })
    .await;
}
