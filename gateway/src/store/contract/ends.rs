//! What ends with a project or a service account.

use super::credentials::{Kind, SCOPE, row};
use crate::id::ServiceAccountId;
use crate::store::testing::{Fixture, alter_service_account, on_both_engines, principal, service_account};
use crate::store::*;
use crate::tenants::Role;

#[tokio::test]
async fn the_roles_that_end_with_a_project_or_an_account_are_those_of_what_has_not_ended_yet() {
    on_both_engines(|Fixture { store, .. }| async move {
        let (who, other) = (principal(&store, "acme").await, principal(&store, "rival").await);
        let account = service_account(&store, &who, Role::TenantDeveloper, SCOPE).await;
        let with = |role: &str, account: Option<&ServiceAccountId>| CredentialRow {
            role: role.into(),
            service_account_id: account.cloned(),
            ..row(&who, role, 1)
        };
        let roles = async || {
            let (tenant, project, account) = (who.tenant.clone(), who.project.clone(), account.clone());
            let work = store.transaction(move |tx| {
                Box::pin(async move {
                    let mut found =
                        [tx.roles_in_project(&tenant, &project).await?, tx.roles_of_account(&tenant, &account).await?];
                    found.iter_mut().for_each(|roles| roles.sort());
                    Ok(found)
                })
            });
            work.await.unwrap()
        };
        assert_eq!(roles().await, [vec!["tenant_developer".to_owned()], vec![]]);
        assert!(Kind::Api.create(&store, &row(&other, "theirs", 1)).await.unwrap());
        let own = with("tenant_owner", None);
        for (kind, row) in [
            (Kind::Api, own.clone()),
            (Kind::Access, with("tenant_owner", None)),
            (Kind::Api, with("tenant_billing_viewer", Some(&account))),
            (Kind::Access, with("tenant_admin", Some(&account))),
        ] {
            assert!(kind.create(&store, &row).await.unwrap());
        }
        let owned = |roles: &[&str]| roles.iter().map(|&role| role.to_owned()).collect::<Vec<_>>();
        let accounts = owned(&["tenant_admin", "tenant_billing_viewer"]);
        let all = owned(&["tenant_admin", "tenant_billing_viewer", "tenant_developer", "tenant_owner"]);
        assert_eq!(roles().await, [all.clone(), accounts.clone()]);
        assert!(Kind::Api.change(&store, (&who.tenant, &own.id), 2, |row| row.revoked_at = Some(2)).await);
        assert_eq!(roles().await, [all, accounts.clone()], "the access key's is left");
        alter_service_account(&store, &account, None).await;
        assert_eq!(roles().await, [owned(&["tenant_owner"]), accounts]);
    })
    .await;
}
