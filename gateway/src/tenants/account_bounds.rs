//! What a service account holds its credentials to.

use super::issuer::{check_within_role, check_within_scope};
use super::{Credential, Role, Scope, missing, stored_role, stored_scope};
use crate::error::{Error, Result};
use crate::id::{ProjectId, ServiceAccountId, TenantId};
use crate::store::{ServiceAccountBounds, Store, Tx};

/// What a service account's credentials are held to.
#[derive(Debug, Clone)]
pub struct AccountBounds {
    /// Its project, which is theirs.
    pub project: ProjectId,
    /// Its role.
    pub role: Role,
    /// Its scope.
    pub scope: Scope,
}

/// What a tenant's service account holds its credentials to.
///
/// # Errors
/// `NotFound` unless the tenant has it; those of the store.
pub async fn account_bounds(store: &Store, tenant: &TenantId, id: &ServiceAccountId) -> Result<AccountBounds> {
    let row = store.service_account_bounds(tenant, id).await?.ok_or_else(missing_account)?;
    let (role, scope) = (stored_role(&row.role)?, (*stored_scope(&row.scope)?).clone());
    Ok(AccountBounds { project: row.project_id, role, scope })
}

/// For a service account that the tenant doesn't have.
pub(crate) fn missing_account() -> Error {
    missing("service account").about("service_account_id")
}

/// What a credential belongs to, held as it is until the transaction ends: its project, so that it does not end meanwhile,
/// and its service account, whose bounds are returned. Whoever takes both locks takes them in this order.
///
/// # Errors
/// `NotFound`, naming the field, when one of them is deleted or was never the tenant's.
pub(super) async fn lock_owners(tx: &mut Tx, key: &Credential) -> Result<Option<ServiceAccountBounds>> {
    let bounds = match &key.service_account {
        Some(account) => Some(tx.service_account_bounds_lock(&key.tenant, account).await?.ok_or_else(missing_account)?),
        None => None,
    };
    let project = tx.project_for_change(&key.tenant, &key.project).await?;
    project.map(|_| bounds).ok_or_else(|| missing("project").about("project_id"))
}

/// Whether a credential stays within its service account in what is given. What a change leaves alone is not looked at: an
/// account that was narrowed later bounds its keys when they are used, and must not keep anybody from renaming them.
pub(super) fn check_within(bounds: &ServiceAccountBounds, role: Option<Role>, scope: Option<&Scope>) -> Result<()> {
    if let Some(role) = role {
        check_within_role(role, stored_role(&bounds.role)?)?;
    }
    match scope {
        Some(scope) => check_within_scope(scope, stored_scope(&bounds.scope)?.as_ref()),
        None => Ok(()),
    }
}
