use super::super::{
    CreateCredential, CreateServiceAccount, CreatedAccessKey, CreatedApiKey, Issuer, Name, Project, Role, Scope,
    ServiceAccount, Tenant, UpdateCredential, create_access_key, create_api_key, create_project,
    create_service_account, create_tenant, delete_project, revoke_api_key, update_api_key,
};
use super::*;
use crate::audit::{Author, Change};
use crate::config::PerTenant;
use crate::id::ProjectId;
use crate::quota::Limits;
use crate::secrets::Secrets;
use crate::store::Store;
use crate::store::testing::{Fixture, on_both_engines};
use futures::future::join_all;

const CAPS: PerTenant = PerTenant { projects: 4, service_accounts: 2, credentials: 3, changes_per_minute: 1_000 };

struct Here {
    store: Store,
    secrets: Secrets,
    author: Author,
    tenant: TenantId,
    project: ProjectId,
}

impl Here {
    /// A tenant with one project, in a database that is opened with `caps`.
    async fn new(Fixture { mut config, .. }: Fixture, caps: PerTenant) -> Here {
        config.admin.per_tenant = caps;
        let secrets = Secrets::load_or_create_with(&config.gateway.state_dir, |_| None).unwrap();
        let store = Store::connect(&config).await.unwrap();
        let author = Author::command("test");
        let tenant = Tenant::new(name("acme"), Limits::default(), 1);
        let project = Project::new(tenant.id.clone(), name("first"), 1);
        let here = Here { store, secrets, author, tenant: tenant.id.clone(), project: project.id.clone() };
        create_tenant(here.change(1), &tenant).await.unwrap();
        create_project(here.change(1), &project).await.unwrap();
        // Connections for changes that run beside each other: opening the second takes longer than many changes.
        let pause = || {
            here.store.transaction(|_| {
                Box::pin(async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Ok(())
                })
            })
        };
        join_all((0..4).map(|_| pause())).await.into_iter().for_each(Result::unwrap);
        here
    }

    fn change(&self, now: Micros) -> Change<'_> {
        Change { store: &self.store, secrets: &self.secrets, now, author: &self.author, once: None }
    }

    async fn project(&self, called: &str, now: Micros) -> Result<ProjectId> {
        let project = Project::new(self.tenant.clone(), name(called), now);
        create_project(self.change(now), &project).await.map(|()| project.id)
    }

    async fn api_key(&self, expires_at: Option<Micros>, now: Micros) -> Result<crate::id::KeyId> {
        let input = CreateCredential { expires_at, ..CreateCredential::developer(name("k"), self.project.clone()) };
        let made = CreatedApiKey::generate(&self.secrets, &self.tenant, input, &self.author, now)?;
        create_api_key(self.change(now), &Issuer::command(), &made).await.map(|()| made.key.id)
    }

    async fn access_key(&self, now: Micros) -> Result<()> {
        let input = CreateCredential::developer(name("k"), self.project.clone());
        let made = CreatedAccessKey::generate(&self.secrets, &self.tenant, input, &self.author, now)?;
        create_access_key(self.change(now), &Issuer::command(), &made).await
    }

    async fn service_account(&self, called: &str) -> Result<()> {
        let input = CreateServiceAccount {
            name: name(called),
            project: self.project.clone(),
            role: Role::TenantDeveloper,
            scope: Scope::default(),
            federated_identity: None,
            expires_at: None,
        };
        let account = ServiceAccount::new(self.tenant.clone(), input, 1)?;
        create_service_account(self.change(1), &Issuer::command(), &account).await
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[track_caller]
fn is_full<T: std::fmt::Debug>(made: Result<T>, what: &str) {
    let error = made.unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Conflict, None), "{error:?}");
    assert!(error.message.contains(what), "{error}");
}

#[tokio::test]
async fn however_many_are_made_at_once_a_tenant_has_no_more_than_it_may() {
    on_both_engines(|fixture| async move {
        let here = Here::new(fixture, CAPS).await;
        let names: Vec<String> = (0..12).map(|n| format!("p{n}")).collect();
        let made = join_all(names.iter().map(|name| here.project(name, 2))).await;
        let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
        assert_eq!((made.len(), refused.len()), (3, 9), "with the first it has four");
        refused.into_iter().for_each(|refused| is_full(refused, "4 projects, and may have 4"));

        let gone = made.into_iter().next().unwrap().unwrap();
        delete_project(here.change(3), &Issuer::command(), (&here.tenant, &gone), None).await.unwrap();
        here.project("again", 4).await.unwrap();
        is_full(here.project("one more", 4).await, "projects");
        let taken = here.project("again", 4).await.unwrap_err();
        assert_eq!(taken.kind, ErrorKind::Conflict);
    })
    .await;
}

#[tokio::test]
async fn credentials_count_together_until_they_are_revoked_or_expired() {
    on_both_engines(|fixture| async move {
        let here = Here::new(fixture, CAPS).await;
        here.access_key(1).await.unwrap();
        let expiring = here.api_key(Some(100), 1).await.unwrap();
        let third = here.api_key(None, 1).await.unwrap();
        is_full(here.api_key(None, 99).await, "3 API keys and access keys");
        is_full(here.access_key(99).await, "3 API keys and access keys");
        here.access_key(100).await.unwrap();
        is_full(here.access_key(100).await, "API keys");
        revoke_api_key(here.change(101), &Issuer::command(), (&here.tenant, &third), None).await.unwrap();
        here.api_key(None, 102).await.unwrap();
        is_full(here.api_key(None, 102).await, "API keys");

        let longer = UpdateCredential { expires_at: Some(None), ..UpdateCredential::default() };
        let key = (&here.tenant, &expiring);
        let revived = update_api_key(here.change(103), &Issuer::command(), key, longer, None).await;
        is_full(revived.map(drop), "API keys");

        here.service_account("a").await.unwrap();
        here.service_account("b").await.unwrap();
        is_full(here.service_account("c").await, "2 service accounts");
        let next = here.project("next", 1).await.unwrap();
        delete_project(here.change(3), &Issuer::command(), (&here.tenant, &here.project), None).await.unwrap();
        let here = Here { project: next, ..here };
        here.service_account("a").await.unwrap();
        here.api_key(None, 104).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_tenant_that_changes_too_much_in_a_minute_waits_and_operators_do_not() {
    on_both_engines(|fixture| async move {
        let mut here = Here::new(fixture, PerTenant { projects: 100, changes_per_minute: 4, ..CAPS }).await;
        let (operator, start) = (here.author.clone(), 10 * MINUTE);
        let own = Author { tenant_id: Some(here.tenant.clone()), role: Role::TenantOwner, ..operator.clone() };
        here.author = own.clone();
        let names: Vec<String> = (0..8).map(|n| format!("p{n}")).collect();
        let made = join_all(names.iter().map(|name| here.project(name, start))).await;
        assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 4, "{made:?}");
        for refused in made.into_iter().filter_map(Result::err) {
            assert_eq!(refused.kind, ErrorKind::QuotaExceeded(Limit::RequestsPerMinute));
            assert_eq!(refused.retry_after, Some(Duration::from_secs(60)));
        }
        let almost = here.project("almost", start + MINUTE - 1).await.unwrap_err();
        assert_eq!(almost.retry_after, Some(Duration::from_micros(1)));
        let first = (&here.tenant, &here.project);
        delete_project(here.change(start), &Issuer::command(), first, None).await.expect("what ends is not paced");
        here.author = operator;
        here.project("by an operator", start + 1).await.unwrap();
        here.author = own;
        here.project("later", start + MINUTE).await.unwrap();
    })
    .await;
}
