//! API keys and access keys: both kinds keep the same promises.

use super::{change_project, change_tenant};
use crate::auth::Principal;
use crate::error::{ErrorKind, Result};
use crate::id::{KeyId, ProjectId, ServiceAccountId, TenantId};
use crate::quota::Limits;
use crate::store::testing::{Fixture, alter_service_account, on_both_engines, principal, service_account, used_at};
use crate::store::*;
use crate::tenants::Role;

pub(super) const SCOPE: &str = r#"{"operations":["inference"]}"#;
const LIMITS: Limits = Limits { requests_per_minute: Some(1), tokens_per_minute: None, concurrent_requests: Some(3) };

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Api,
    Access,
}

const KINDS: [Kind; 2] = [Kind::Api, Kind::Access];

fn digest(text: &str) -> DigestColumns {
    DigestColumns { digest: text.to_owned(), pepper_version: 1 }
}

pub(super) fn row(who: &Principal, name: &str, created_at: i64) -> CredentialRow {
    CredentialRow {
        id: KeyId::new(),
        tenant_id: who.tenant.clone(),
        project_id: who.project.clone(),
        service_account_id: None,
        name: name.to_owned(),
        role: "tenant_admin".into(),
        scope: SCOPE.into(),
        limits: LIMITS.try_into().unwrap(),
        created_by: "key_maker".into(),
        version: 1,
        created_at,
        updated_at: created_at,
        expires_at: None,
        revoked_at: None,
        previous_expires_at: None,
        last_used_at: None,
    }
}

impl Kind {
    pub(super) async fn create(self, store: &Store, row: &CredentialRow) -> Result<bool> {
        let row = row.clone();
        let work = store.transaction(move |tx| {
            Box::pin(async move {
                match self {
                    Kind::Api => tx.api_key_create(&row, &digest("first")).await,
                    Kind::Access => tx.access_key_create(&row, "first").await,
                }
            })
        });
        work.await
    }

    async fn get(self, store: &Store, tenant: &TenantId, id: &KeyId) -> Option<CredentialRow> {
        match self {
            Kind::Api => store.api_key(tenant, id).await.unwrap(),
            Kind::Access => store.access_key(tenant, id).await.unwrap(),
        }
    }

    async fn list(
        self,
        store: &Store,
        tenant: &TenantId,
        filter: CredentialFilter,
        after: Option<&KeyId>,
        limit: i64,
    ) -> Vec<KeyId> {
        let rows = match self {
            Kind::Api => store.api_keys(tenant, &filter, after, limit).await.unwrap(),
            Kind::Access => store.access_keys(tenant, &filter, after, limit).await.unwrap(),
        };
        rows.into_iter().map(|row| row.id).collect()
    }

    /// `false` when there is none to be changed.
    pub(super) async fn change(
        self,
        store: &Store,
        (tenant, id): (&TenantId, &KeyId),
        now: i64,
        how: impl FnOnce(&mut CredentialRow) + Send + 'static,
    ) -> bool {
        let (tenant, id) = (tenant.clone(), id.clone());
        let work = store.transaction(move |tx| {
            Box::pin(async move {
                let found = match self {
                    Kind::Api => tx.api_key_for_change(&tenant, &id).await?,
                    Kind::Access => tx.access_key_for_change(&tenant, &id).await?,
                };
                let Some(mut row) = found else { return Ok(false) };
                how(&mut row);
                match self {
                    Kind::Api => tx.api_key_update(&row, now).await?,
                    Kind::Access => tx.access_key_update(&row, now).await?,
                }
                Ok(true)
            })
        });
        work.await.unwrap()
    }

    async fn rotate(self, store: &Store, (tenant, id): (&TenantId, &KeyId), secret: &str, until: Option<i64>) {
        let (tenant, id, secret) = (tenant.clone(), id.clone(), secret.to_owned());
        let work = store.transaction(move |tx| {
            Box::pin(async move {
                match self {
                    Kind::Api => tx.api_key_rotate((&tenant, &id), &digest(&secret), until, 7).await,
                    Kind::Access => tx.access_key_rotate((&tenant, &id), &secret, until, 7).await,
                }
            })
        });
        work.await.unwrap();
    }

    /// The secret, the one before and its end, of a key that may be used.
    async fn usable(self, store: &Store, id: &KeyId, now: i64) -> Option<(String, Option<String>, Option<i64>)> {
        match self {
            Kind::Api => store.usable_api_key(id, now).await.unwrap().map(|row| {
                assert_eq!(row.former.previous_pepper_version.is_some(), row.former.previous_digest.is_some());
                (row.digest, row.former.previous_digest, row.former.previous_expires_at)
            }),
            Kind::Access => {
                let row = store.usable_access_key(id, now).await.unwrap();
                row.map(|row| (row.sealed_secret, row.previous_sealed_secret, row.previous_expires_at))
            }
        }
    }
}

#[tokio::test]
async fn a_credential_is_read_as_it_was_stored_and_only_by_its_tenant() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, rival) = (principal(&store, "acme").await, principal(&store, "rival").await);
        let account = service_account(&store, &who, Role::TenantDeveloper, SCOPE).await;
        for kind in KINDS {
            let plain = row(&who, "plain", 5);
            let full = CredentialRow {
                service_account_id: Some(account.clone()),
                limits: Limits::default().try_into().unwrap(),
                expires_at: Some(9),
                ..row(&who, "full", 5)
            };
            for row in [&plain, &full] {
                assert!(kind.create(&store, row).await.unwrap());
                assert_eq!(kind.get(&store, &who.tenant, &row.id).await.as_ref(), Some(row));
                assert_eq!(kind.get(&store, &rival.tenant, &row.id).await, None);
            }
            assert_eq!(kind.create(&store, &plain).await.unwrap_err().kind, ErrorKind::Conflict);
            used_at(&store, plain.id.as_str(), 77).await;
            assert_eq!(kind.get(&store, &who.tenant, &plain.id).await.unwrap().last_used_at, Some(77));

            for lost in [
                CredentialRow { tenant_id: TenantId::new(), ..row(&who, "x", 5) },
                CredentialRow { tenant_id: rival.tenant.clone(), ..row(&who, "x", 5) },
                CredentialRow { project_id: ProjectId::new(), ..row(&who, "x", 5) },
                CredentialRow { service_account_id: Some(ServiceAccountId::new()), ..row(&who, "x", 5) },
                CredentialRow { service_account_id: Some(account.clone()), ..row(&rival, "x", 5) },
            ] {
                assert!(!kind.create(&store, &lost).await.unwrap(), "{lost:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn credentials_change_under_their_lock_until_revoked_and_no_other_tenants_do() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, rival) = (principal(&store, "acme").await, principal(&store, "rival").await);
        for kind in KINDS {
            let (made, bystander) = (row(&who, "a", 5), row(&who, "b", 5));
            assert!(kind.create(&store, &made).await.unwrap() && kind.create(&store, &bystander).await.unwrap());
            let owner = (&who.tenant, &made.id);
            assert!(!kind.change(&store, (&rival.tenant, &made.id), 6, |_| ()).await);
            assert!(!kind.change(&store, (&who.tenant, &KeyId::new()), 6, |_| ()).await);
            used_at(&store, made.id.as_str(), 8).await;
            let changed = kind.change(&store, owner, 6, |row| {
                assert_eq!(row.last_used_at, Some(8));
                row.name = "renamed".into();
                row.role = "tenant_developer".into();
                row.scope = r#"{"operations":[]}"#.into();
                row.limits = Limits::default().try_into().unwrap();
                row.expires_at = Some(100);
            });
            assert!(changed.await);
            let now = kind.get(&store, &who.tenant, &made.id).await.unwrap();
            let expected = CredentialRow {
                name: "renamed".into(),
                role: "tenant_developer".into(),
                scope: r#"{"operations":[]}"#.into(),
                limits: Limits::default().try_into().unwrap(),
                expires_at: Some(100),
                version: 2,
                updated_at: 6,
                last_used_at: Some(8),
                ..made.clone()
            };
            assert_eq!(now, expected);
            assert!(kind.change(&store, owner, 7, |row| row.revoked_at = Some(7)).await);
            assert!(!kind.change(&store, owner, 8, |_| ()).await, "it is revoked");
            assert_eq!(kind.get(&store, &who.tenant, &made.id).await.unwrap().revoked_at, Some(7));
            assert_eq!(kind.get(&store, &who.tenant, &bystander.id).await, Some(bystander));
        }
    })
    .await;
}

#[tokio::test]
async fn a_rotation_keeps_the_former_secret_with_its_end_and_forgets_the_one_before() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, rival) = (principal(&store, "acme").await, principal(&store, "rival").await);
        for kind in KINDS {
            let (made, bystander) = (row(&who, "a", 5), row(&who, "b", 5));
            assert!(kind.create(&store, &made).await.unwrap() && kind.create(&store, &bystander).await.unwrap());
            let (owner, secret) = ((&who.tenant, &made.id), |text: &str| Some(text.to_owned()));
            kind.rotate(&store, (&rival.tenant, &made.id), "stolen", Some(50)).await;
            assert_eq!(kind.usable(&store, &made.id, 6).await, Some(("first".into(), None, None)));
            kind.rotate(&store, owner, "second", Some(50)).await;
            assert_eq!(kind.usable(&store, &made.id, 6).await, Some(("second".into(), secret("first"), Some(50))));
            kind.rotate(&store, owner, "third", Some(60)).await;
            assert_eq!(kind.usable(&store, &made.id, 6).await, Some(("third".into(), secret("second"), Some(60))));
            let now = kind.get(&store, &who.tenant, &made.id).await.unwrap();
            assert_eq!((now.version, now.updated_at, now.previous_expires_at), (3, 7, Some(60)));
            kind.rotate(&store, owner, "fourth", None).await;
            assert_eq!(kind.usable(&store, &made.id, 6).await, Some(("fourth".into(), None, None)));
            assert_eq!(kind.usable(&store, &bystander.id, 6).await, Some(("first".into(), None, None)));
        }
    })
    .await;
}

#[tokio::test]
async fn credentials_are_listed_by_time_and_id_page_by_page_and_filtered() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, rival) = (principal(&store, "acme").await, principal(&store, "rival").await);
        let account = service_account(&store, &who, Role::TenantDeveloper, SCOPE).await;
        for kind in KINDS {
            let mut made = Vec::new();
            for n in 0..5 {
                // Three of one time, so that the id decides.
                let mut row = row(&who, if n == 1 { "named" } else { "k" }, [9, 5, 5, 5, 1][n]);
                row.service_account_id = (n == 2).then(|| account.clone());
                row.created_by = if n == 3 { "adm_other".into() } else { row.created_by };
                assert!(kind.create(&store, &row).await.unwrap());
                made.push(row);
            }
            assert!(kind.create(&store, &row(&rival, "named", 5)).await.unwrap());
            let mut sorted = made.clone();
            sorted.sort_by(|a, b| (a.created_at, a.id.as_str()).cmp(&(b.created_at, b.id.as_str())));
            let sorted: Vec<KeyId> = sorted.into_iter().map(|row| row.id).collect();
            let all = CredentialFilter::default;
            assert_eq!(kind.list(&store, &who.tenant, all(), None, 9).await, sorted);
            for (at, id) in sorted.iter().enumerate() {
                let page = kind.list(&store, &who.tenant, all(), Some(id), 2).await;
                assert_eq!(page, sorted[at + 1..].iter().take(2).cloned().collect::<Vec<_>>(), "after {at}");
            }
            assert!(kind.list(&store, &who.tenant, all(), Some(&KeyId::new()), 9).await.is_empty());
            assert!(kind.list(&store, &rival.tenant, all(), Some(&sorted[0]), 9).await.is_empty(), "not its own");

            let only = async |filter: CredentialFilter| kind.list(&store, &who.tenant, filter, None, 9).await;
            assert_eq!(only(CredentialFilter { name: Some("named".into()), ..all() }).await, [made[1].id.clone()]);
            let of_account = CredentialFilter { service_account: Some(account.clone()), ..all() };
            assert_eq!(only(of_account).await, [made[2].id.clone()]);
            let by = CredentialFilter { created_by: Some("adm_other".into()), ..all() };
            assert_eq!(only(by).await, [made[3].id.clone()]);
            assert_eq!(only(CredentialFilter { project: Some(who.project.clone()), ..all() }).await.len(), 5);
            assert!(only(CredentialFilter { project: Some(rival.project.clone()), ..all() }).await.is_empty());
            assert!(kind.change(&store, (&who.tenant, &made[4].id), 9, |row| row.revoked_at = Some(9)).await);
            assert_eq!(only(all()).await, sorted[1..]);
            assert_eq!(only(CredentialFilter { with_revoked: true, ..all() }).await, sorted);
        }
    })
    .await;
}

#[tokio::test]
async fn keys_are_usable_until_they_expire_or_are_revoked() {
    on_both_engines(|Fixture { store, .. }| async move {
        let who = principal(&store, "acme").await;
        for kind in KINDS {
            let made = CredentialRow { expires_at: Some(10), ..row(&who, "k", 1) };
            assert!(kind.create(&store, &made).await.unwrap());
            assert!(kind.usable(&store, &made.id, 9).await.is_some());
            assert_eq!(kind.usable(&store, &made.id, 10).await, None);
            assert_eq!(kind.usable(&store, &KeyId::new(), 9).await, None);
            assert!(kind.change(&store, (&who.tenant, &made.id), 2, |row| row.revoked_at = Some(2)).await);
            assert_eq!(kind.usable(&store, &made.id, 9).await, None);
        }
        let (api, access) = (row(&who, "k", 1), row(&who, "k", 1));
        assert!(Kind::Api.create(&store, &api).await.unwrap() && Kind::Access.create(&store, &access).await.unwrap());
        let api = store.usable_api_key(&api.id, 9).await.unwrap().unwrap().owner;
        let access = store.usable_access_key(&access.id, 9).await.unwrap().unwrap().owner;
        assert_eq!(api, access);
        assert_eq!((&api.tenant_id, &api.project_id), (&who.tenant, &who.project));
        assert_eq!((api.role.as_str(), api.scope.as_str()), ("tenant_admin", SCOPE));
    })
    .await;
}

#[tokio::test]
async fn keys_of_a_suspended_or_deleted_owner_are_not_usable() {
    on_both_engines(|Fixture { store, .. }| async move {
        for (name, end) in [("suspended", 0), ("tenant deleted", 1), ("project deleted", 2)] {
            let who = principal(&store, name).await;
            let made = row(&who, "k", 1);
            for kind in KINDS {
                assert!(kind.create(&store, &made).await.unwrap());
                assert!(kind.usable(&store, &made.id, 1).await.is_some());
            }
            let ended = match end {
                0 => change_tenant(&store, &who.tenant, 2, |row| row.status = "suspended".into()).await,
                1 => change_tenant(&store, &who.tenant, 2, |row| row.deleted_at = Some(2)).await,
                _ => {
                    let project = (&who.tenant, &who.project);
                    change_project(&store, project, 2, |row| row.deleted_at = Some(2)).await.unwrap()
                }
            };
            assert!(ended);
            for kind in KINDS {
                assert_eq!(kind.usable(&store, &made.id, 1).await, None, "{name}");
                let more = kind.create(&store, &row(&who, "more", 3)).await.unwrap();
                assert_eq!(more, end == 0, "{name}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_service_accounts_bounds_are_its_tenants_to_see_until_it_is_deleted() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, rival) = (principal(&store, "acme").await, principal(&store, "rival").await);
        let id = service_account(&store, &who, Role::TenantAdmin, SCOPE).await;
        let expected =
            ServiceAccountBounds { project_id: who.project.clone(), role: "tenant_admin".into(), scope: SCOPE.into() };
        let locked = async |tenant: &TenantId, id: &ServiceAccountId| {
            let (tenant, id) = (tenant.clone(), id.clone());
            let work = store
                .transaction(move |tx| Box::pin(async move { tx.service_account_bounds_lock(&tenant, &id).await }));
            work.await.unwrap()
        };
        assert_eq!(store.service_account_bounds(&who.tenant, &id).await.unwrap(), Some(expected.clone()));
        assert_eq!(locked(&who.tenant, &id).await, Some(expected));
        assert_eq!(store.service_account_bounds(&rival.tenant, &id).await.unwrap(), None);
        assert_eq!(locked(&rival.tenant, &id).await, None);
        alter_service_account(&store, &id, Some((Role::TenantDeveloper, "{}"))).await;
        assert_eq!(locked(&who.tenant, &id).await.unwrap().role, "tenant_developer");
        alter_service_account(&store, &id, None).await;
        assert_eq!(store.service_account_bounds(&who.tenant, &id).await.unwrap(), None);
        assert_eq!(locked(&who.tenant, &id).await, None);
        let late = CredentialRow { service_account_id: Some(id), ..row(&who, "late", 9) };
        for kind in KINDS {
            assert!(!kind.create(&store, &late).await.unwrap());
        }
    })
    .await;
}
