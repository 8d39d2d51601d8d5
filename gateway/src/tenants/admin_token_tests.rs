//! Operators' tokens: one remains, whatever is done to the others, and by how many at once.

use super::tests::{World, name};
use super::*;
use crate::audit::{Author, Change};
use crate::id::AdminTokenId;
use crate::secrets::Secrets;
use crate::store::testing::{Fixture, audit_records, on_both_engines};
use serde_json::json;
use std::time::Duration;

fn scope(json: serde_json::Value) -> Scope {
    serde_json::from_value(json).unwrap()
}

fn from_address(text: &str) -> Author {
    Author { address: Some(text.parse().unwrap()), ..Author::command("test") }
}

impl World {
    async fn admin_token_with(&self, input: CreateAdminToken) -> AdminTokenId {
        let made = CreatedAdminToken::generate(&self.secrets, input, &self.author, self.clock.now()).unwrap();
        create_admin_token(self.change(), &Issuer::command(), &made).await.unwrap();
        made.token.id
    }

    async fn revoke_from(&self, id: &AdminTokenId, author: &Author) -> Result<AdminToken> {
        let change = Change { author, ..self.change() };
        revoke_admin_token(change, &Issuer::command(), id, None).await
    }

    async fn update_token(&self, id: &AdminTokenId, update: UpdateAdminToken) -> Result<AdminToken> {
        update_admin_token(self.change(), &Issuer::command(), id, update, None).await
    }
}

#[tokio::test]
async fn the_last_administrators_token_is_neither_revoked_nor_narrowed_nor_ended() {
    let world = World::new().await;
    let last = world.admin_token().await.token;
    let viewer = CreateAdminToken { role: Role::PlatformViewer, ..CreateAdminToken::platform_admin(name("viewer")) };
    let viewer = world.admin_token_with(viewer).await;
    let only_reads = scope(json!({"operations": ["read_usage"]}));
    let only_administers = scope(json!({"operations": ["administer"]}));
    let from_here = scope(json!({"operations": ["read_usage", "administer"], "ip_ranges": ["0.0.0.0/0"]}));
    let updates = || {
        let update = UpdateAdminToken::default;
        [
            UpdateAdminToken { role: Some(Role::PlatformViewer), ..update() },
            UpdateAdminToken { scope: Some(only_reads.clone()), ..update() },
            UpdateAdminToken { scope: Some(only_administers.clone()), ..update() },
            UpdateAdminToken { scope: Some(from_here.clone()), ..update() },
            UpdateAdminToken { expires_at: Some(Some(9_000_000)), ..update() },
        ]
    };
    let check_refused = async || {
        for update in updates() {
            assert_eq!(world.update_token(&last.id, update).await.unwrap_err().kind, ErrorKind::Conflict);
        }
        let refusal = revoke_admin_token(world.change(), &Issuer::command(), &last.id, None).await.unwrap_err();
        assert_eq!(refusal.kind, ErrorKind::Conflict);
        assert_eq!(admin_token(&world.store, &last.id).await.unwrap().version, 1);
        assert_eq!(audit_records(&world.store, last.id.as_str()).await.len(), 1);
    };
    check_refused().await;
    // Of these none is as good: one reads, one can't give what it lacks, one has ended, one is for elsewhere.
    let elsewhere = scope(json!({"operations": ["read_usage", "administer"], "ip_ranges": ["192.0.2.0/24"]}));
    let admin = || CreateAdminToken::platform_admin(name("x"));
    world.admin_token_with(CreateAdminToken { scope: only_reads.clone(), ..admin() }).await;
    world.admin_token_with(CreateAdminToken { scope: only_administers.clone(), ..admin() }).await;
    world.admin_token_with(CreateAdminToken { scope: elsewhere, ..admin() }).await;
    let expires_at = Some(world.clock.now() + 5);
    world.admin_token_with(CreateAdminToken { expires_at, ..admin() }).await;
    world.clock.advance(Duration::from_micros(5));
    check_refused().await;
    let abroad = from_address("198.51.100.7");
    assert_eq!(world.revoke_from(&last.id, &abroad).await.unwrap_err().kind, ErrorKind::Conflict);

    // What takes nothing away can be done to it, and anything to the others.
    let renamed = UpdateAdminToken { name: Some(name("renamed")), ..UpdateAdminToken::default() };
    assert_eq!(world.update_token(&last.id, renamed).await.unwrap().version, 2);
    revoke_admin_token(world.change(), &Issuer::command(), &viewer, None).await.unwrap();
    let at_the_other_place = from_address("192.0.2.9");
    world.revoke_from(&last.id, &at_the_other_place).await.unwrap();
}

#[tokio::test]
async fn a_token_is_revoked_once_another_can_take_its_place() {
    let world = World::new().await;
    let (old, new) = (world.admin_token().await.token, world.admin_token().await);
    revoke_admin_token(world.change(), &Issuer::command(), &old.id, None).await.unwrap();
    let again = revoke_admin_token(world.change(), &Issuer::command(), &old.id, None).await;
    assert_eq!(again.unwrap_err().kind, ErrorKind::NotFound);
    world.administrator(new.text.expose()).await.unwrap();
    let records = audit_records(&world.store, old.id.as_str()).await;
    assert_eq!(
        records.iter().map(|(action, _)| action.as_str()).collect::<Vec<_>>(),
        ["admin_token.create", "admin_token.revoke"]
    );
    let text = serde_json::to_string(&records).unwrap();
    assert!(!text.contains("digest") && !text.contains("ckadm"), "{text}");
}

#[tokio::test]
async fn a_rotated_tokens_former_secret_is_accepted_until_the_overlap_ends() {
    let world = World::new().await;
    let first = world.admin_token().await;
    let now = world.clock.now();
    let second = RotatedAdminToken::generate(&world.secrets, &first.token.id, 10, now).unwrap();
    rotate_admin_token(world.change(), &Issuer::command(), &second, Some(1)).await.unwrap();
    world.administrator(first.text.expose()).await.unwrap();
    world.administrator(second.text.expose()).await.unwrap();
    world.clock.advance(Duration::from_secs(10));
    assert!(world.administrator(first.text.expose()).await.is_err());
    world.administrator(second.text.expose()).await.unwrap();
    let stale = rotate_admin_token(world.change(), &Issuer::command(), &second, Some(1)).await;
    assert_eq!(stale.unwrap_err().kind, ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn of_many_who_revoke_all_tokens_at_once_somebody_fails_and_one_token_remains() {
    on_both_engines(|Fixture { store, config }| async move {
        let secrets = Secrets::load_or_create_with(&config.gateway.state_dir, |_| None).unwrap();
        let author = Author::command("test");
        let change = || Change { store: &store, secrets: &secrets, now: 1_000, author: &author, once: None };
        for round in 0..10 {
            let mut ids = Vec::new();
            for _ in 0..4 {
                let input = CreateAdminToken::platform_admin(name("ops"));
                let made = CreatedAdminToken::generate(&secrets, input, &author, 1_000).unwrap();
                create_admin_token(change(), &Issuer::command(), &made).await.unwrap();
                ids.push(made.token.id);
            }
            let all = store.admin_tokens(&Default::default(), None, 100).await.unwrap();
            let command = Issuer::command();
            let revoke = |id| {
                let (change, command) = (change(), &command);
                async move { revoke_admin_token(change, command, id, None).await }
            };
            let done = futures::future::join_all(all.iter().map(|row| revoke(&row.id))).await;
            let refused: Vec<ErrorKind> =
                done.into_iter().filter_map(|done| done.err()).map(|error| error.kind).collect();
            assert_eq!(refused, [ErrorKind::Conflict], "round {round}");
            assert_eq!(store.admin_tokens(&Default::default(), None, 100).await.unwrap().len(), 1);
        }
    })
    .await;
}

#[tokio::test]
async fn of_many_who_make_the_first_token_at_once_one_does() {
    on_both_engines(|Fixture { store, config }| async move {
        let secrets = Secrets::load_or_create_with(&config.gateway.state_dir, |_| None).unwrap();
        let author = Author::command("test");
        let first = || async {
            let change = Change { store: &store, secrets: &secrets, now: 1_000, author: &author, once: None };
            let input = CreateAdminToken::platform_admin(name("ops"));
            let made = CreatedAdminToken::generate(&secrets, input, &author, 1_000).unwrap();
            create_first_admin_token(change, &made).await.unwrap()
        };
        let made = futures::future::join_all((0..8).map(|_| first())).await;
        assert_eq!(made.into_iter().filter(|made| *made).count(), 1);
        assert_eq!(store.admin_tokens(&Default::default(), None, 100).await.unwrap().len(), 1);
    })
    .await;
}
