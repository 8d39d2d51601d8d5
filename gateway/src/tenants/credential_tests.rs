//! Keys that are changed, rotated and revoked, and by whom.

use super::tests::{World, name};
use super::*;
use crate::id::{KeyId, ServiceAccountId};
use crate::quota::Limits;
use crate::store::testing::{alter_service_account, audit_records, developer, service_account};
use serde_json::json;
use std::time::Duration;

fn scope(json: serde_json::Value) -> Scope {
    serde_json::from_value(json).unwrap()
}

impl World {
    async fn rotate(&self, id: &KeyId, overlap_seconds: u32) -> RotatedApiKey {
        let rotated = RotatedApiKey::generate(&self.secrets, id, overlap_seconds, self.clock.now()).unwrap();
        rotate_api_key(self.change(), &Issuer::command(), &self.tenant, &rotated, None).await.unwrap();
        rotated
    }

    /// The secrets that a signature of this access key may be made with.
    async fn signing_secrets(&self, id: &str) -> Vec<Vec<u8>> {
        let key = access_key(&self.store, &self.secrets, &self.clock, id).await.unwrap();
        key.secrets().map(<[u8]>::to_vec).collect()
    }

    async fn account(&self, role: Role, scope: &Scope) -> ServiceAccountId {
        let owner = developer(self.tenant.clone(), self.project.clone(), Limits::default());
        service_account(&self.store, &owner, role, &serde_json::to_string(scope).unwrap()).await
    }
}

#[tokio::test]
async fn a_rotated_api_keys_former_secret_is_accepted_until_the_overlap_ends_and_only_the_last_one() {
    let world = World::new().await;
    let first = world.api_key().await;
    let id = &first.key.id;
    let unknown = world.refusal("ck_").await;
    let second = world.rotate(id, 10).await;
    assert_eq!(second.former_until, Some(world.clock.now() + 10_000_000));
    let holder = world.authenticate(first.text.expose()).await.unwrap();
    assert_eq!(world.authenticate(second.text.expose()).await.unwrap(), holder);
    assert_eq!(first.text.expose()[..16], second.text.expose()[..16], "the id stays");

    let third = world.rotate(id, 20).await;
    assert_eq!(world.refusal(first.text.expose()).await, unknown, "the oldest");
    world.clock.advance(Duration::from_micros(19_999_999));
    world.authenticate(second.text.expose()).await.unwrap();
    world.clock.advance(Duration::from_micros(1));
    assert_eq!(world.refusal(second.text.expose()).await, unknown, "its time is over");
    world.authenticate(third.text.expose()).await.unwrap();

    let fourth = world.rotate(id, 0).await;
    assert_eq!(world.refusal(third.text.expose()).await, unknown, "no overlap was wanted");
    world.authenticate(fourth.text.expose()).await.unwrap();
    world.rotate(id, 10).await;
    world.revoke_api_key(&world.tenant, id).await.unwrap();
    assert_eq!(world.refusal(fourth.text.expose()).await, unknown, "revoked with both secrets");
}

#[tokio::test]
async fn a_rotated_access_key_verifies_with_both_secrets_until_the_overlap_ends() {
    let world = World::new().await;
    let first = world.access_key().await;
    let rotate = async |overlap_seconds: u32| {
        let now = world.clock.now();
        let rotated = RotatedAccessKey::generate(&world.secrets, &first.key.id, overlap_seconds, now).unwrap();
        rotate_access_key(world.change(), &Issuer::command(), &world.tenant, &rotated, None).await.unwrap();
        rotated
    };
    let bytes = |secret: &crate::secrets::SecretText| secret.expose().as_bytes().to_vec();
    let id = &first.access_key_id;
    assert_eq!(world.signing_secrets(id).await, [bytes(&first.secret)]);
    let second = rotate(10).await;
    assert_eq!(second.access_key_id, *id);
    assert_eq!(world.signing_secrets(id).await, [bytes(&second.secret), bytes(&first.secret)]);
    let third = rotate(20).await;
    assert_eq!(world.signing_secrets(id).await, [bytes(&third.secret), bytes(&second.secret)]);
    world.clock.advance(Duration::from_micros(20_000_000));
    assert_eq!(world.signing_secrets(id).await, [bytes(&third.secret)]);
    let fourth = rotate(0).await;
    assert_eq!(world.signing_secrets(id).await, [bytes(&fourth.secret)]);
    let printed = format!("{second:?}{third:?}{first:?}");
    assert!([&first.secret, &second.secret, &third.secret].iter().all(|secret| !printed.contains(secret.expose())));
}

#[tokio::test]
async fn an_overlap_has_its_bound() {
    let world = World::new().await;
    let key = world.api_key().await;
    let generate = |seconds| RotatedApiKey::generate(&world.secrets, &key.key.id, seconds, world.clock.now());
    assert_eq!(generate(MAX_OVERLAP_SECONDS).unwrap().former_until, Some(1_000 + 2_592_000_000_000));
    for seconds in [MAX_OVERLAP_SECONDS + 1, u32::MAX] {
        assert_eq!(generate(seconds).unwrap_err().param.as_deref(), Some("overlap_seconds"));
    }
}

#[tokio::test]
async fn a_revoked_key_can_be_read_and_nothing_else() {
    let world = World::new().await;
    let key = world.api_key().await.key;
    let owner = (&world.tenant, &key.id);
    let command = Issuer::command();
    let revoked = world.revoke_api_key(&world.tenant, &key.id).await.unwrap();
    assert_eq!((revoked.revoked_at, revoked.version), (Some(world.clock.now()), 2));
    assert_eq!(api_key(&world.store, &world.tenant, &key.id).await.unwrap(), revoked);
    let rotated = RotatedApiKey::generate(&world.secrets, &key.id, 0, world.clock.now()).unwrap();
    for refused in [
        world.revoke_api_key(&world.tenant, &key.id).await,
        update_api_key(world.change(), &command, owner, UpdateCredential::default(), None).await,
        rotate_api_key(world.change(), &command, &world.tenant, &rotated, None).await,
    ] {
        assert_eq!(refused.unwrap_err().kind, ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn changes_are_recorded_with_what_was_and_what_is_and_never_with_a_secret() {
    let world = World::new().await;
    let made = world.api_key().await;
    let id = &made.key.id;
    let update = UpdateCredential { name: Some(name("renamed")), expires_at: Some(Some(5_000)), ..Default::default() };
    update_api_key(world.change(), &Issuer::command(), (&world.tenant, id), update, Some(1)).await.unwrap();
    let rotated = world.rotate(id, 60).await;
    world.revoke_api_key(&world.tenant, id).await.unwrap();
    let records = audit_records(&world.store, id.as_str()).await;
    let actions: Vec<&str> = records.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(actions, ["api_key.create", "api_key.update", "api_key.rotate", "api_key.revoke"]);
    let of = |at: usize, pointer: &str| records[at].1.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!((of(0, "/before"), of(0, "/after/name")), (json!(null), json!("a key")));
    assert_eq!((of(1, "/before/expires_at"), of(1, "/after/expires_at")), (json!(null), json!(5_000)));
    assert_eq!((of(2, "/before/version"), of(2, "/after/version")), (json!(2), json!(3)));
    assert_eq!(of(3, "/after/revoked_at"), json!(world.clock.now()));
    assert_eq!(of(3, "/tenant_id"), json!(world.tenant));

    let access = world.access_key().await;
    let row = world.store.usable_api_key(id, 0).await.unwrap();
    assert!(row.is_none());
    let mut all = records;
    all.extend(audit_records(&world.store, access.key.id.as_str()).await);
    let text = serde_json::to_string(&all).unwrap();
    let secret = |text: &str| text[16..48].to_owned();
    for hidden in [secret(made.text.expose()), secret(rotated.text.expose()), access.secret.expose().to_owned()] {
        assert!(!text.contains(&hidden));
    }
    for word in ["digest", "sealed", "pepper"] {
        assert!(!text.contains(word), "{word}");
    }
}

#[tokio::test]
async fn a_service_accounts_keys_stay_within_it_when_they_are_made_and_changed() {
    let world = World::new().await;
    let bound = scope(json!({"operations": ["inference", "administer"], "models": ["amazon.*"]}));
    let account = world.account(Role::TenantAdmin, &bound).await;
    let input = |role, scope: &Scope| CreateCredential {
        service_account: Some(account.clone()),
        role,
        scope: scope.clone(),
        ..world.credential()
    };
    let create = async |input: CreateCredential| {
        let made = world.generate(&world.tenant, input).unwrap();
        create_api_key(world.change(), &Issuer::command(), &made).await.map(|()| made.key)
    };
    let refused = |result: Result<Credential>, param: &str| {
        let error = result.unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Forbidden, Some(param)));
    };
    let wider = scope(json!({"operations": ["inference"]}));
    let key = create(input(Role::TenantAdmin, &bound)).await.unwrap();
    refused(create(input(Role::TenantOwner, &bound)).await, "role");
    refused(create(input(Role::TenantDeveloper, &wider)).await, "scope.models");
    let stranger = CreateCredential { service_account: Some(ServiceAccountId::new()), ..world.credential() };
    let error = create(stranger).await.unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::NotFound, Some("service_account_id")));

    let update = async |update: UpdateCredential| {
        update_api_key(world.change(), &Issuer::command(), (&world.tenant, &key.id), update, None).await
    };
    refused(update(UpdateCredential { role: Some(Role::TenantOwner), ..Default::default() }).await, "role");
    refused(update(UpdateCredential { scope: Some(wider), ..Default::default() }).await, "scope.models");
    assert_eq!(api_key(&world.store, &world.tenant, &key.id).await.unwrap(), key);

    // Narrowed afterwards: what the key has beyond it is lost in use, and whoever names the key is not held up by it.
    let narrow = r#"{"operations":["inference"]}"#;
    alter_service_account(&world.store, &account, Some((Role::TenantDeveloper, narrow))).await;
    update(UpdateCredential { name: Some(name("renamed")), ..Default::default() }).await.unwrap();
    refused(update(UpdateCredential { role: Some(Role::TenantAdmin), ..Default::default() }).await, "role");
    let viewer = UpdateCredential { role: Some(Role::TenantBillingViewer), ..Default::default() };
    assert_eq!(update(viewer).await.unwrap().role, Role::TenantBillingViewer);
}
