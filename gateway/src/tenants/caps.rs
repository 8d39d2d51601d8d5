//! How much a tenant can make (`[admin.per_tenant]`): what one tenant piles up, all others' look-ups and lists pay for.
//! The tenant's row is locked while it is counted, so of two calls the second counts what the first has made.

use crate::clock::Micros;
use crate::error::{Error, ErrorKind, Limit, Result};
use crate::id::TenantId;
use crate::store::Tx;
use std::time::Duration;

const MINUTE: Micros = 60_000_000;

/// What is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    Project,
    ServiceAccount,
    Credential,
}

/// Whether a tenant may have one more. Comes first in its transaction, since it locks the tenant's row.
///
/// # Errors
/// `Conflict` when it has as many as one may have; those of the store.
pub(super) async fn leave_room(tx: &mut Tx, tenant: &TenantId, made: Made, now: Micros) -> Result<()> {
    tx.tenant_lock(tenant).await?;
    let caps = tx.caps();
    let (has, most, what, end) = match made {
        Made::Project => (tx.tenant_projects(tenant).await?, caps.projects, "projects", "Delete"),
        Made::ServiceAccount => {
            (tx.tenant_service_accounts(tenant).await?, caps.service_accounts, "service accounts", "Delete")
        }
        Made::Credential => {
            (tx.tenant_credentials(tenant, now).await?, caps.credentials, "API keys and access keys", "Revoke")
        }
    };
    if has < i64::from(most) {
        return Ok(());
    }
    let text = format!("The tenant has {has} {what}, and may have {most}. {end} what is not used any more.");
    Err(Error::new(ErrorKind::Conflict, text))
}

/// Whether a tenant's own caller may make one more change now. What operators change counts, and is never refused; nor is
/// revoking and deleting. The tenant's row was locked before any other of the tenant's.
///
/// # Errors
/// `QuotaExceeded` when there were as many within the last minute as there may be; those of the store.
pub(crate) async fn within_pace(tx: &mut Tx, tenant: &TenantId, now: Micros) -> Result<()> {
    tx.tenant_lock(tenant).await?;
    let most = i64::from(tx.caps().changes_per_minute);
    let Some(at) = tx.tenant_change_before(tenant, most - 1).await? else { return Ok(()) };
    let left = at.saturating_add(MINUTE).saturating_sub(now);
    if left <= 0 {
        return Ok(());
    }
    let text = format!("The tenant was changed {most} times within a minute, as often as it may be. Try again later.");
    let after = Duration::from_micros(u64::try_from(left.min(MINUTE)).unwrap_or(0));
    Err(Error::new(ErrorKind::QuotaExceeded(Limit::RequestsPerMinute), text).retry_after(after))
}

#[cfg(test)]
#[path = "caps_tests.rs"]
mod tests;
