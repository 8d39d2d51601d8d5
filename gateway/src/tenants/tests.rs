use super::*;
use crate::audit::{Author, Change};
use crate::auth::Principal;
use crate::clock::Clock;
use crate::error::AuthFailure;
use crate::id::{KeyId, ProjectId, TenantId};
use crate::quota::Limits;
use crate::secrets::Secrets;
use crate::store::Store;
use crate::store::testing::sqlite;
use std::time::Duration;
use tempfile::TempDir;

const LIMITS: Limits =
    Limits { requests_per_minute: Some(60), tokens_per_minute: Some(9_000), concurrent_requests: None };

/// A tenant `acme` with a project, made through this room's own functions.
pub(super) struct World {
    pub(super) store: Store,
    pub(super) secrets: Secrets,
    pub(super) clock: Clock,
    pub(super) author: Author,
    pub(super) tenant: TenantId,
    pub(super) project: ProjectId,
    _dir: TempDir,
}

pub(super) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

impl World {
    pub(super) async fn new() -> World {
        let (fixture, dir) = sqlite().await;
        let (store, clock) = (fixture.store, Clock::manual(1_000));
        let secrets = Secrets::load_or_create_with(dir.path(), |_| None).unwrap();
        let author = Author::command("test");
        let change = Change { store: &store, secrets: &secrets, now: clock.now(), author: &author, once: None };
        let tenant = Tenant::new(name("acme"), LIMITS, clock.now());
        create_tenant(change.clone(), &tenant).await.unwrap();
        let tenant = tenant.id;
        let project = Project::new(tenant.clone(), name("default"), clock.now());
        create_project(change, &project).await.unwrap();
        let project = project.id;
        World { store, secrets, clock, author, tenant, project, _dir: dir }
    }

    pub(super) fn change(&self) -> Change<'_> {
        let now = self.clock.now();
        Change { store: &self.store, secrets: &self.secrets, now, author: &self.author, once: None }
    }

    pub(super) async fn update(&self, update: UpdateTenant) {
        update_tenant(self.change(), &self.tenant, update, None).await.unwrap();
    }

    pub(super) async fn set_status(&self, status: Status) {
        self.update(UpdateTenant { status: Some(status), ..UpdateTenant::default() }).await;
    }

    pub(super) fn credential(&self) -> CreateCredential {
        CreateCredential::developer(name("a key"), self.project.clone())
    }

    /// A key for `tenant`, not stored.
    pub(super) fn generate(&self, tenant: &TenantId, input: CreateCredential) -> Result<CreatedApiKey> {
        CreatedApiKey::generate(&self.secrets, tenant, input, &self.author, self.clock.now())
    }

    pub(super) fn generate_access_key(&self, tenant: &TenantId, input: CreateCredential) -> Result<CreatedAccessKey> {
        CreatedAccessKey::generate(&self.secrets, tenant, input, &self.author, self.clock.now())
    }

    pub(super) async fn api_key_with(&self, input: CreateCredential) -> CreatedApiKey {
        let made = self.generate(&self.tenant, input).unwrap();
        create_api_key(self.change(), &Issuer::command(), &made).await.unwrap();
        made
    }

    pub(super) async fn api_key(&self) -> CreatedApiKey {
        self.api_key_with(self.credential()).await
    }

    pub(super) async fn access_key(&self) -> CreatedAccessKey {
        let made = self.generate_access_key(&self.tenant, self.credential()).unwrap();
        create_access_key(self.change(), &Issuer::command(), &made).await.unwrap();
        made
    }

    pub(super) async fn admin_token(&self) -> CreatedAdminToken {
        let input = CreateAdminToken::platform_admin(name("ops"));
        let made = CreatedAdminToken::generate(&self.secrets, input, &self.author, self.clock.now()).unwrap();
        create_admin_token(self.change(), &Issuer::command(), &made).await.unwrap();
        made
    }

    pub(super) async fn revoke_api_key(&self, tenant: &TenantId, id: &KeyId) -> Result<Credential> {
        revoke_api_key(self.change(), &Issuer::command(), (tenant, id), None).await
    }

    pub(super) async fn revoke_access_key(&self, tenant: &TenantId, id: &KeyId) -> Result<Credential> {
        revoke_access_key(self.change(), &Issuer::command(), (tenant, id), None).await
    }

    pub(super) async fn administrator(&self, text: &str) -> Result<AdminPrincipal> {
        authenticate_admin_token(&self.store, &self.secrets, &self.clock, text).await
    }

    pub(super) async fn authenticate(&self, text: &str) -> Result<Principal> {
        authenticate_api_key(&self.store, &self.secrets, &self.clock, text).await
    }

    /// The whole error as a caller could see it.
    pub(super) async fn refusal(&self, text: &str) -> String {
        let error = self.authenticate(text).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthenticated(AuthFailure::BadKey));
        format!("{:?} {:?} {:?} {:?}", error.message, error.param, error.retry_after, error.cause().is_some())
    }

    pub(super) async fn access_refusal(&self, id: &str) -> String {
        let error = access_key(&self.store, &self.secrets, &self.clock, id).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthenticated(AuthFailure::UnknownAccessKey));
        error.message
    }
}

#[tokio::test]
async fn an_api_key_is_its_tenants_and_projects_with_their_limits() {
    let world = World::new().await;
    let key = world.api_key().await;
    let expected = Principal {
        key: key.key.id.clone(),
        ..crate::store::testing::developer(world.tenant.clone(), world.project.clone(), LIMITS)
    };
    assert_eq!(world.authenticate(key.text.expose()).await.unwrap(), expected);
    assert_eq!(expected.key.as_str(), format!("key_{}", &key.text.expose()[3..15]));
}

#[tokio::test]
async fn changed_limits_hold_from_the_next_authentication_on() {
    let world = World::new().await;
    let key = world.api_key().await;
    world.update(UpdateTenant { limits: Some(Limits::default()), ..UpdateTenant::default() }).await;
    assert_eq!(world.authenticate(key.text.expose()).await.unwrap().limits.tenant, Limits::default());
}

#[tokio::test]
async fn whatever_is_wrong_with_an_api_key_the_caller_hears_the_same() {
    let world = World::new().await;
    let stranger = World::new().await;
    let unknown = world.refusal(stranger.api_key().await.text.expose()).await;

    let key = world.api_key().await;
    let mut mistyped = key.text.expose().to_owned();
    mistyped.pop();
    for text in ["", "ck_", "sk-123", &mistyped, &"x".repeat(10_000)] {
        assert_eq!(world.refusal(text).await, unknown, "malformed");
    }

    world.revoke_api_key(&world.tenant, &key.key.id).await.unwrap();
    assert_eq!(world.refusal(key.text.expose()).await, unknown, "revoked");

    let expires_at = Some(world.clock.now() + 5);
    let expiring = world.api_key_with(CreateCredential { expires_at, ..world.credential() }).await;
    world.authenticate(expiring.text.expose()).await.unwrap();
    world.clock.advance(Duration::from_micros(5));
    assert_eq!(world.refusal(expiring.text.expose()).await, unknown, "expired");

    let key = world.api_key().await;
    world.set_status(Status::Suspended).await;
    assert_eq!(world.refusal(key.text.expose()).await, unknown, "suspended");
    world.set_status(Status::Active).await;
    world.authenticate(key.text.expose()).await.unwrap();
    delete_project(world.change(), &Issuer::command(), (&world.tenant, &world.project), None).await.unwrap();
    assert_eq!(world.refusal(key.text.expose()).await, unknown, "project deleted");
}

#[tokio::test]
async fn a_key_with_the_right_id_and_another_secret_is_refused() {
    let world = World::new().await;
    let (one, two) = (world.api_key().await, world.api_key().await);
    // The id of one and the secret of two, under a right checksum.
    let mixed = format!("{}{}", &one.text.expose()[..16], &two.text.expose()[16..48]);
    let crc = u64::from(crc32fast::hash(mixed.as_bytes()));
    let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let check: String = (0..6).rev().map(|place| char::from(digits[(crc / 62u64.pow(place) % 62) as usize])).collect();
    world.refusal(&format!("{mixed}{check}")).await;
}

#[tokio::test]
async fn another_pepper_refuses_every_key() {
    let world = World::new().await;
    let key = world.api_key().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Secrets::load_or_create_with(elsewhere.path(), |_| None).unwrap();
    assert!(authenticate_api_key(&world.store, &other, &world.clock, key.text.expose()).await.is_err());
}

#[tokio::test]
async fn an_access_key_gives_its_secret_back_for_verifying_and_prints_nothing() {
    let world = World::new().await;
    let made = world.access_key().await;
    assert_eq!((made.access_key_id.len(), made.secret.expose().len()), (20, 40));
    assert!(made.access_key_id.starts_with("CKIA"));
    assert_eq!(made.key.id.as_str(), format!("key_{}", made.access_key_id));
    let found = access_key(&world.store, &world.secrets, &world.clock, &made.access_key_id).await.unwrap();
    assert_eq!(found.secret.expose(), made.secret.expose());
    assert_eq!((&found.principal.tenant, &found.principal.key), (&world.tenant, &made.key.id));
    assert!(!format!("{found:?}{made:?}").contains(made.secret.expose()));
}

#[tokio::test]
async fn whatever_is_wrong_with_an_access_key_the_caller_hears_the_same() {
    let world = World::new().await;
    let unknown = world.access_refusal(&World::new().await.access_key().await.access_key_id).await;
    for id in ["", "CKIA", "AKIAIOSFODNN7EXAMPLE", "CKIA'; DROP TABLE AA", &"C".repeat(10_000)] {
        assert_eq!(world.access_refusal(id).await, unknown, "{id}");
    }
    let key = world.access_key().await;
    let id = &key.access_key_id;
    world.set_status(Status::Suspended).await;
    assert_eq!(world.access_refusal(id).await, unknown, "suspended");
    world.set_status(Status::Active).await;
    access_key(&world.store, &world.secrets, &world.clock, id).await.unwrap();
    world.revoke_access_key(&world.tenant, &key.key.id).await.unwrap();
    assert_eq!(world.access_refusal(id).await, unknown, "revoked");
    let key = world.access_key().await;
    delete_tenant(world.change(), &world.tenant, None).await.unwrap();
    assert_eq!(world.access_refusal(&key.access_key_id).await, unknown, "deleted");
}

#[tokio::test]
async fn admin_tokens_open_nothing_but_the_admin_side_and_the_other_way_round() {
    let world = World::new().await;
    let (_spare, token, key) = (world.admin_token().await, world.admin_token().await, world.api_key().await);
    let found = world.administrator(token.text.expose()).await.unwrap();
    assert_eq!((&found.token, found.role), (&token.token.id, Role::PlatformAdmin));
    world.refusal(token.text.expose()).await;
    assert!(world.administrator(key.text.expose()).await.is_err());
    revoke_admin_token(world.change(), &Issuer::command(), &token.token.id, None).await.unwrap();
    assert!(world.administrator(token.text.expose()).await.is_err());
}

#[tokio::test]
async fn an_admin_token_that_is_brought_along_is_registered_once_and_never_revived() {
    let world = World::new().await;
    let other = World::new().await;
    let brought = other.admin_token().await;
    let register = async |text: &str| register_admin_token(world.change(), name("env"), text).await;
    let text = brought.text.expose();
    assert_eq!(register(text).await.unwrap(), brought.token.id);
    assert_eq!(register(text).await.unwrap(), brought.token.id);
    world.administrator(text).await.unwrap();
    assert_eq!(register("ckadm_weak").await.unwrap_err().kind, ErrorKind::Invalid);
    world.admin_token().await;
    revoke_admin_token(world.change(), &Issuer::command(), &brought.token.id, None).await.unwrap();
    assert_eq!(register(text).await.unwrap_err().kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn nothing_is_made_for_or_revoked_from_another_tenant() {
    let world = World::new().await;
    let World { clock, .. } = &world;
    let rival = Tenant::new(name("rival"), Limits::default(), clock.now());
    create_tenant(world.change(), &rival).await.unwrap();
    let rival = rival.id;
    let nobody = TenantId::new();
    let key = world.api_key().await;
    let access = world.access_key().await;
    let (foreign, foreign_access) = (
        world.generate(&rival, world.credential()).unwrap(),
        world.generate_access_key(&rival, world.credential()).unwrap(),
    );
    let results = [
        create_api_key(world.change(), &Issuer::command(), &foreign).await,
        create_access_key(world.change(), &Issuer::command(), &foreign_access).await,
        create_project(world.change(), &Project::new(nobody.clone(), name("x"), clock.now())).await,
        update_project(world.change(), (&rival, &world.project), UpdateProject::default(), None).await.map(drop),
        delete_project(world.change(), &Issuer::command(), (&rival, &world.project), None).await.map(drop),
        world.revoke_api_key(&rival, &key.key.id).await.map(drop),
        world.revoke_api_key(&world.tenant, &KeyId::new()).await.map(drop),
        world.revoke_access_key(&rival, &access.key.id).await.map(drop),
        update_tenant(world.change(), &nobody, UpdateTenant::default(), None).await.map(drop),
        delete_tenant(world.change(), &nobody, None).await.map(drop),
    ];
    for (at, result) in results.into_iter().enumerate() {
        assert_eq!(result.unwrap_err().kind, ErrorKind::NotFound, "{at}");
    }
    world.authenticate(key.text.expose()).await.unwrap();
}

#[tokio::test]
async fn names_and_expiries_are_checked() {
    for bad in ["", "  ", "a\nb", &"é".repeat(65)] {
        assert_eq!(Name::parse(bad).unwrap_err().param.as_deref(), Some("name"), "{bad:?}");
    }
    assert_eq!(Name::parse(&format!(" {} ", "é".repeat(64))).unwrap().as_str(), "é".repeat(64));
    let world = World::new().await;
    let now = world.clock.now();
    let ten_years = 3_653 * 24 * 3600 * 1_000_000;
    for expires_at in [0, now, now + ten_years + 1, i64::MAX] {
        let error =
            world.generate(&world.tenant, CreateCredential { expires_at: Some(expires_at), ..world.credential() });
        let error = error.unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Invalid, Some("expires_at")), "{expires_at}");
    }
    for expires_at in [None, Some(now + 1), Some(now + ten_years)] {
        world.generate(&world.tenant, CreateCredential { expires_at, ..world.credential() }).unwrap();
    }
    let operators = CreateCredential { role: Role::PlatformAdmin, ..world.credential() };
    assert_eq!(world.generate(&world.tenant, operators).unwrap_err().param.as_deref(), Some("role"));
}
