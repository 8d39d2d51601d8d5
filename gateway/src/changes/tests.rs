//! The feed over a real database: what is committed there reaches what a gateway remembers.

use super::*;
use crate::audit::{Author, Change, Record};
use crate::config::Config;
use crate::id::{KeyId, ProjectId, TenantId};
use crate::quota::Limits;
use crate::secrets::Secrets;
use crate::store::Store;
use crate::store::testing::{Fixture, on_both_engines};
use crate::tenants::{
    self, CreateCredential, CreatedApiKey, Issuer, Name, PresentedApiKey, Project, Status, Tenant, UpdateTenant,
};
use tokio_util::task::TaskTracker;

/// One gateway's state over a database that others may share.
fn replica(store: &Store, config: &Config) -> Arc<App> {
    let secrets = Secrets::load_or_create_with(&config.gateway.state_dir, |_| None).unwrap();
    crate::serve::assemble(config.clone(), secrets, store.clone()).unwrap()
}

struct World {
    app: Arc<App>,
    author: Author,
    tenant: TenantId,
    project: ProjectId,
    tasks: TaskTracker,
}

impl World {
    /// A gateway that follows the feed, and a tenant.
    async fn new(fixture: &Fixture) -> World {
        let app = replica(&fixture.store, &fixture.config);
        let author = Author::command("test");
        let tasks = TaskTracker::new();
        let tenant = Tenant::new(Name::parse("acme").unwrap(), Limits::default(), 1);
        let made = tenant.id.clone();
        let mut world = World { app, author, tenant: made, project: ProjectId::new(), tasks };
        tenants::create_tenant(world.change(), &tenant).await.unwrap();
        let project = Project::new(tenant.id.clone(), Name::parse("p").unwrap(), 1);
        tenants::create_project(world.change(), &project).await.unwrap();
        world.project = project.id;
        let app = &world.app;
        let follower = app.changes.begin(app.store.follower()).await.unwrap();
        spawn(app, follower, &world.tasks);
        app.changes.catch_up().await;
        assert!(app.credentials.lease().is_fresh());
        world
    }

    fn change(&self) -> Change<'_> {
        let app = &self.app;
        Change { store: &app.store, secrets: &app.secrets, now: app.clock.now(), author: &self.author, once: None }
    }

    async fn key(&self) -> CreatedApiKey {
        let input = CreateCredential::developer(Name::parse("k").unwrap(), self.project.clone());
        let made = CreatedApiKey::generate(&self.app.secrets, &self.tenant, input, &self.author, self.app.clock.now());
        let made = made.unwrap();
        tenants::create_api_key(self.change(), &Issuer::command(), &made).await.unwrap();
        made
    }

    async fn revoke(&self, id: &KeyId) {
        let owner = (&self.tenant, id);
        tenants::revoke_api_key(self.change(), &Issuer::command(), owner, None).await.unwrap();
    }

    async fn is_accepted(&self, app: &App, key: &CreatedApiKey) -> bool {
        let presented = PresentedApiKey::parse(key.text.expose()).unwrap();
        let now = app.clock.now();
        let (known, _) = app.credentials.api_key(&app.store, &presented.id(), now).await.unwrap();
        presented.verify(&self.app.secrets, now, known.as_deref()).is_ok()
    }

    async fn end(self) {
        self.app.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[tokio::test]
async fn a_change_is_applied_before_its_reply_and_the_database_is_asked_once() {
    on_both_engines(|fixture| async move {
        let world = World::new(&fixture).await;
        let app = &world.app;
        let key = world.key().await;
        for _ in 0..3 {
            assert!(world.is_accepted(app, &key).await);
        }
        let text = app.metrics.encode().unwrap();
        assert!(text.contains(r#"caprock_credential_look_ups_total{source="memory"} 2"#), "{text}");
        world.revoke(&key.key.id).await;
        app.changes.catch_up().await;
        assert!(!world.is_accepted(app, &key).await);

        let other = world.key().await;
        assert!(world.is_accepted(app, &other).await);
        let suspend = UpdateTenant { status: Some(Status::Suspended), ..UpdateTenant::default() };
        tenants::update_tenant(world.change(), &world.tenant, suspend, None).await.unwrap();
        app.changes.catch_up().await;
        assert!(!world.is_accepted(app, &other).await);
        world.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_nobody_tells_learns_within_its_lease() {
    on_both_engines(|fixture| async move {
        let world = World::new(&fixture).await;
        let other = replica(&fixture.store, &fixture.config);
        let tasks = TaskTracker::new();
        let follower = other.changes.begin(other.store.follower()).await.unwrap();
        spawn(&other, follower, &tasks);
        other.changes.catch_up().await;
        for _ in 0..3 {
            let key = world.key().await;
            assert!(world.is_accepted(&other, &key).await);
            world.revoke(&key.key.id).await;
            let revoked = Instant::now();
            while world.is_accepted(&other, &key).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
        }
        other.stopping.cancel();
        tasks.close();
        tasks.wait().await;
        world.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_is_far_behind_applies_all_of_it_before_it_believes_its_memory() {
    on_both_engines(|fixture| async move {
        let world = World::new(&fixture).await;
        let late = replica(&fixture.store, &fixture.config);
        let follower = late.changes.begin(late.store.follower()).await.unwrap();
        let key = world.key().await;
        assert!(world.is_accepted(&late, &key).await);
        let author = &world.author;
        // More than two batches in one transaction; the last of them is the one that counts.
        let (sealer, by) = (crate::audit::Sealer::new(&world.app.secrets), author.clone());
        let (tenant, id) = (world.tenant.clone(), key.key.id.clone());
        let work = fixture.store.transaction(move |tx| {
            Box::pin(async move {
                let mut head = tx.audit_head_lock().await?;
                for at in 0..2_100 {
                    let (seq, record) = (head.seq + 1, format!("{{\"n\":{at}}}"));
                    let link = sealer.link(seq, &head.digest, &record);
                    head = crate::store::AuditHeadRow { seq, digest: link.digest.clone() };
                    let last = at == 2_099;
                    tx.audit_append(&crate::store::NewAuditEntry {
                        seq,
                        at: 1,
                        tenant_id: Some(tenant.clone()),
                        action: if last { "api_key.revoke".into() } else { "api_key.update".into() },
                        target_kind: "api_key".into(),
                        target_id: if last { id.to_string() } else { KeyId::new().to_string() },
                        author_id: by.id.clone(),
                        record,
                        digest: link.digest,
                        seal: link.seal,
                    })
                    .await?;
                }
                Ok(())
            })
        });
        let revoked = format!("UPDATE api_keys SET revoked_at = 2 WHERE id = '{}'", key.key.id);
        crate::store::testing::execute(&fixture.store, revoked).await;
        work.await.unwrap();
        let tasks = TaskTracker::new();
        spawn(&late, follower, &tasks);
        late.changes.catch_up().await;
        assert!(!world.is_accepted(&late, &key).await);
        let text = late.metrics.encode().unwrap();
        assert!(text.contains("caprock_changes_applied_total 2101"), "{text}");
        late.stopping.cancel();
        tasks.close();
        tasks.wait().await;
        world.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_database_that_was_put_back_is_noticed_and_nothing_is_believed() {
    on_both_engines(|fixture| async move {
        let world = World::new(&fixture).await;
        let app = &world.app;
        let key = world.key().await;
        world.revoke(&world.key().await.key.id).await;
        app.changes.catch_up().await;
        assert!(world.is_accepted(app, &key).await);
        let before = app.changes.position();
        app.changes.go_to(crate::store::AuditHeadRow { seq: before.seq + 7, digest: "of a later time".into() });
        app.changes.catch_up().await;
        assert_eq!(app.changes.position(), before);
        assert!(world.is_accepted(app, &key).await);
        let text = app.metrics.encode().unwrap();
        assert!(text.contains(r#"caprock_credential_look_ups_total{source="database"} 2"#), "{text}");
        world.end().await;
    })
    .await;
}

#[tokio::test]
async fn the_catalogs_readers_are_woken_by_its_changes_only() {
    on_both_engines(|fixture| async move {
        let world = World::new(&fixture).await;
        let catalog = world.app.changes.catalog();
        world.revoke(&world.key().await.key.id).await;
        world.app.changes.catch_up().await;
        assert!(!catalog.has_changed().unwrap());
        let change = world.change();
        let work = change.commit(|_| {
            Box::pin(async move { Ok(((), Record::new("model.update", None, ("model", "a.model-v1:0")))) })
        });
        work.await.unwrap();
        world.app.changes.catch_up().await;
        assert!(catalog.has_changed().unwrap());
        assert_eq!(*catalog.borrow(), world.app.changes.position().seq);
        world.end().await;
    })
    .await;
}

#[tokio::test]
async fn without_the_database_nobody_is_refused_for_good_and_nobody_is_let_in() {
    on_both_engines(|fixture| async move {
        let world = World::new(&fixture).await;
        let app = &world.app;
        let key = world.key().await;
        assert!(world.is_accepted(app, &key).await);
        app.stopping.cancel(); // nobody follows the feed any more
        tokio::time::sleep(Duration::from_millis(app.config.changes.lease_ms)).await;
        assert!(!app.credentials.lease().is_fresh());
        assert!(world.is_accepted(app, &key).await, "the database still says so");
        fixture.store.close().await;
        let presented = PresentedApiKey::parse(key.text.expose()).unwrap();
        let error = app.credentials.api_key(&app.store, &presented.id(), 1).await.unwrap_err();
        assert_eq!(error.kind, crate::error::ErrorKind::Overloaded);
    })
    .await;
}

#[tokio::test]
async fn a_use_is_written_with_the_next_batch_and_not_before() {
    on_both_engines(|fixture| async move {
        let world = World::new(&fixture).await;
        let app = &world.app;
        for at in [5, 9, 7] {
            app.uses.note("key_a", at, None);
        }
        for n in 0..450 {
            app.uses.note(&format!("key_{n}"), n, None);
        }
        assert_eq!(app.store.credential_last_used("key_a").await.unwrap(), None);
        app.uses.flush(app).await;
        assert_eq!(app.store.credential_last_used("key_a").await.unwrap(), Some(9));
        for n in [0, 199, 200, 449] {
            assert_eq!(app.store.credential_last_used(&format!("key_{n}")).await.unwrap(), Some(n));
        }
        app.store.close().await;
        app.uses.note("key_a", 11, None);
        app.uses.flush(app).await;
        app.uses.flush(app).await;
        let text = app.metrics.encode().unwrap();
        assert!(text.contains("caprock_credential_uses_failed_total 2"), "what was not written stays: {text}");
        world.end().await;
    })
    .await;
}
