//! What is asked about the database itself.

use crate::store::testing::{Fixture, execute, on_both_engines};

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
