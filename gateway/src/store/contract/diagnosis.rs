//! What is asked about the database itself.

use crate::store::testing::{Fixture, execute, on_both_engines, principal};

#[tokio::test]
async fn the_place_is_named_and_a_server_has_a_clock() {
    on_both_engines(|Fixture { store, .. }| async move {
        let clock = store.server_clock().await.unwrap();
        match clock {
            None => assert!(store.place_in_words().starts_with("SQLite, /"), "{}", store.place_in_words()),
            Some(clock) => {
                assert!(store.place_in_words().starts_with("PostgreSQL, "), "{}", store.place_in_words());
                let now = crate::clock::Clock::System.now();
                assert!((clock - now).abs() < 60_000_000, "{clock} and {now}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn credentials_are_counted_by_pepper_without_those_that_are_revoked() {
    on_both_engines(|Fixture { store, .. }| async move {
        assert_eq!(store.credentials_by_pepper().await.unwrap(), []);
        let token = |id: &str, pepper: i64, revoked: &str| {
            format!(
                "INSERT INTO admin_tokens (id, name, digest, pepper_version, created_at, revoked_at)
                 VALUES ('{id}', 'n', 'd', {pepper}, 1, {revoked})"
            )
        };
        for (id, pepper, revoked) in
            [("adm_1", 1, "NULL"), ("adm_2", 2, "NULL"), ("adm_3", 2, "NULL"), ("adm_4", 1, "5")]
        {
            execute(&store, token(id, pepper, revoked)).await;
        }
        assert_eq!(store.credentials_by_pepper().await.unwrap(), [(1, 1), (2, 2)]);
    })
    .await;
}

#[tokio::test]
async fn access_keys_are_counted_by_seal_and_service_accounts_by_issuer_without_what_has_ended() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        let (tenant, project) = (&who.tenant, &who.project);
        for (id, seal, revoked) in
            [("key_1", "v1.a", "NULL"), ("key_2", "v12.a", "NULL"), ("key_3", "v1.b", "NULL"), ("key_4", "v1.c", "5")]
        {
            execute(
                &store,
                format!(
                    "INSERT INTO access_keys (id, tenant_id, project_id, name, sealed_secret, created_at, revoked_at)
                 VALUES ('{id}', '{tenant}', '{project}', 'n', '{seal}', 1, {revoked})"
                ),
            )
            .await;
        }
        assert_eq!(store.access_keys_by_seal().await.unwrap(), [("v1.".to_owned(), 2), ("v12".to_owned(), 1)]);
        for (id, issuer, deleted) in
            [("sva_1", "'a'", "NULL"), ("sva_2", "'b'", "NULL"), ("sva_3", "'a'", "5"), ("sva_4", "NULL", "NULL")]
        {
            execute(
                &store,
                format!(
                    "INSERT INTO service_accounts (id, tenant_id, project_id, name, role, scope, federated_issuer,
                                               federated_subject, created_at, updated_at, deleted_at)
                 VALUES ('{id}', '{tenant}', '{project}', '{id}', 'tenant_developer', '{{}}', {issuer}, {issuer}, 1, 1,
                         {deleted})"
                ),
            )
            .await;
        }
        let found = store.service_accounts_by_issuer().await.unwrap();
        assert_eq!(found, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    })
    .await;
}
