//! Operators' tokens.

use crate::error::{ErrorKind, Result};
use crate::id::AdminTokenId;
use crate::store::testing::{Fixture, on_both_engines, used_at};
use crate::store::*;

const ALL: &str = r#"{"operations":["read_usage","administer"]}"#;

fn row(name: &str, created_at: i64) -> OperatorRow {
    OperatorRow {
        id: AdminTokenId::new(),
        name: name.to_owned(),
        role: "platform_admin".into(),
        scope: ALL.into(),
        created_by: "adm_maker".into(),
        version: 1,
        created_at,
        updated_at: created_at,
        expires_at: None,
        revoked_at: None,
        previous_expires_at: None,
        last_used_at: None,
    }
}

fn digest(text: &str) -> DigestColumns {
    DigestColumns { digest: text.to_owned(), pepper_version: 1 }
}

async fn create(store: &Store, row: &OperatorRow) -> Result<()> {
    let row = row.clone();
    store.transaction(move |tx| Box::pin(async move { tx.admin_token_create(&row, &digest("first")).await })).await
}

/// `false` when there is none to be changed.
async fn change(store: &Store, id: &AdminTokenId, how: impl FnOnce(&mut OperatorRow) + Send + 'static) -> bool {
    let id = id.clone();
    let work = store.transaction(move |tx| {
        Box::pin(async move {
            let Some(mut row) = tx.admin_token_for_change(&id).await? else { return Ok(false) };
            how(&mut row);
            tx.admin_token_update(&row, 6).await.map(|()| true)
        })
    });
    work.await.unwrap()
}

async fn rotate(store: &Store, id: &AdminTokenId, secret: &str, until: Option<i64>) {
    let (id, secret) = (id.clone(), secret.to_owned());
    let work = store
        .transaction(move |tx| Box::pin(async move { tx.admin_token_rotate(&id, &digest(&secret), until, 7).await }));
    work.await.unwrap();
}

async fn scopes(store: &Store, but: Option<&AdminTokenId>, now: i64) -> Vec<String> {
    let but = but.cloned();
    let work = store.transaction(move |tx| Box::pin(async move { tx.admin_token_scopes(but.as_ref(), now).await }));
    work.await.unwrap()
}

#[tokio::test]
async fn admin_tokens_are_usable_until_they_expire_or_are_revoked() {
    on_both_engines(|Fixture { store, .. }| async move {
        let made = OperatorRow { expires_at: Some(10), ..row("ops", 1) };
        create(&store, &made).await.unwrap();
        assert_eq!(create(&store, &made).await.unwrap_err().kind, ErrorKind::Conflict);
        let former = FormerDigest { previous_digest: None, previous_pepper_version: None, previous_expires_at: None };
        let expected = AdminTokenRow {
            digest: "first".into(),
            pepper_version: 1,
            former,
            role: "platform_admin".into(),
            scope: ALL.into(),
            expires_at: Some(10),
        };
        assert_eq!(store.usable_admin_token(&made.id, 9).await.unwrap(), Some(expected));
        assert_eq!(store.usable_admin_token(&made.id, 10).await.unwrap(), None);
        assert!(change(&store, &made.id, |row| row.revoked_at = Some(2)).await);
        assert!(!change(&store, &made.id, |_| ()).await);
        assert_eq!(store.usable_admin_token(&made.id, 9).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn an_admin_token_is_read_as_it_was_stored_and_as_it_was_changed() {
    on_both_engines(|Fixture { store, .. }| async move {
        let made = row("ops", 1);
        create(&store, &made).await.unwrap();
        assert_eq!(store.admin_token(&made.id).await.unwrap().as_ref(), Some(&made));
        assert_eq!(store.admin_token(&AdminTokenId::new()).await.unwrap(), None);
        used_at(&store, made.id.as_str(), 8).await;
        let changed = change(&store, &made.id, |row| {
            assert_eq!(row.last_used_at, Some(8));
            row.name = "renamed".into();
            row.role = "platform_viewer".into();
            row.scope = "{}".into();
            row.expires_at = Some(9);
        });
        assert!(changed.await);
        let expected = OperatorRow {
            name: "renamed".into(),
            role: "platform_viewer".into(),
            scope: "{}".into(),
            expires_at: Some(9),
            version: 2,
            updated_at: 6,
            last_used_at: Some(8),
            ..made.clone()
        };
        assert_eq!(store.admin_token(&made.id).await.unwrap(), Some(expected));
    })
    .await;
}

#[tokio::test]
async fn a_rotation_keeps_the_former_token_with_its_end_and_forgets_the_one_before() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (made, bystander) = (row("ops", 1), row("other", 1));
        create(&store, &made).await.unwrap();
        create(&store, &bystander).await.unwrap();
        let secrets = async |id: &AdminTokenId| {
            let row = store.usable_admin_token(id, 5).await.unwrap().unwrap();
            (row.digest, row.former.previous_digest, row.former.previous_expires_at)
        };
        rotate(&store, &made.id, "second", Some(50)).await;
        assert_eq!(secrets(&made.id).await, ("second".into(), Some("first".into()), Some(50)));
        rotate(&store, &made.id, "third", Some(60)).await;
        assert_eq!(secrets(&made.id).await, ("third".into(), Some("second".into()), Some(60)));
        let now = store.admin_token(&made.id).await.unwrap().unwrap();
        assert_eq!((now.version, now.updated_at, now.previous_expires_at), (3, 7, Some(60)));
        rotate(&store, &made.id, "fourth", None).await;
        assert_eq!(secrets(&made.id).await, ("fourth".into(), None, None));
        assert_eq!(secrets(&bystander.id).await, ("first".into(), None, None));
    })
    .await;
}

#[tokio::test]
async fn admin_tokens_are_listed_by_time_and_id_page_by_page_and_filtered() {
    on_both_engines(|Fixture { store, .. }| async move {
        let mut made = Vec::new();
        for n in 0..4 {
            let created_by = if n == 2 { "adm_other" } else { "adm_maker" };
            let name = if n == 1 { "named" } else { "k" };
            let row = OperatorRow { created_by: created_by.into(), ..row(name, [9, 5, 5, 1][n]) };
            create(&store, &row).await.unwrap();
            made.push(row);
        }
        let mut sorted = made.clone();
        sorted.sort_by(|a, b| (a.created_at, a.id.as_str()).cmp(&(b.created_at, b.id.as_str())));
        let sorted: Vec<AdminTokenId> = sorted.into_iter().map(|row| row.id).collect();
        let list = async |filter: OperatorFilter, after: Option<&AdminTokenId>, limit: i64| -> Vec<AdminTokenId> {
            let rows = store.admin_tokens(&filter, after, limit).await.unwrap();
            rows.into_iter().map(|row| row.id).collect()
        };
        let all = OperatorFilter::default;
        assert_eq!(list(all(), None, 9).await, sorted);
        for (at, id) in sorted.iter().enumerate() {
            let expected: Vec<_> = sorted[at + 1..].iter().take(2).cloned().collect();
            assert_eq!(list(all(), Some(id), 2).await, expected);
        }
        let named = OperatorFilter { name: Some("named".into()), ..all() };
        assert_eq!(list(named, None, 9).await, [made[1].id.clone()]);
        let by = OperatorFilter { created_by: Some("adm_other".into()), ..all() };
        assert_eq!(list(by, None, 9).await, [made[2].id.clone()]);
        assert!(change(&store, &made[3].id, |row| row.revoked_at = Some(2)).await);
        assert_eq!(list(all(), None, 9).await, sorted[1..]);
        assert_eq!(list(OperatorFilter { with_revoked: true, ..all() }, None, 9).await, sorted);
    })
    .await;
}

#[tokio::test]
async fn only_administrators_tokens_that_can_be_used_are_looked_at_when_one_must_remain() {
    on_both_engines(|Fixture { store, .. }| async move {
        assert!(scopes(&store, None, 1).await.is_empty());
        let kept = OperatorRow { scope: "kept".into(), expires_at: Some(10), ..row("a", 1) };
        for row in [
            &kept,
            &OperatorRow { role: "platform_viewer".into(), ..row("b", 1) },
            &OperatorRow { revoked_at: Some(1), ..row("c", 1) },
            &OperatorRow { expires_at: Some(5), ..row("d", 1) },
        ] {
            create(&store, row).await.unwrap();
        }
        assert_eq!(scopes(&store, None, 5).await, ["kept"]);
        assert!(scopes(&store, Some(&kept.id), 5).await.is_empty());
        assert!(scopes(&store, None, 10).await.is_empty());
    })
    .await;
}
