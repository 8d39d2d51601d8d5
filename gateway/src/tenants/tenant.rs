//! Tenants: isolated and billed.

use super::{Name, found};
use crate::clock::{Clock, Micros};
use crate::error::Result;
use crate::id::TenantId;
use crate::quota::Limits;
use crate::store::Store;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Unique among tenants that are not deleted.
    pub name: Name,
    /// Whether its credentials are accepted.
    pub status: Status,
    /// In force for all its requests together.
    pub limits: Limits,
    /// µs since 1970.
    pub created_at: Micros,
}

/// Whether a tenant's credentials are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// They are.
    Active,
    /// None is; nothing is lost.
    Suspended,
}

impl Status {
    /// As the store spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Suspended => "suspended",
        }
    }
}

/// A tenant to be made.
#[derive(Debug, Clone)]
pub struct CreateTenant {
    /// Must not be taken.
    pub name: Name,
    /// In force from the start.
    pub limits: Limits,
}

/// Makes a tenant, active and empty.
///
/// # Errors
/// `Conflict` when the name is taken; `Invalid` for a limit beyond 2⁶³ − 1; those of the store.
pub async fn create_tenant(store: &Store, clock: &Clock, input: CreateTenant) -> Result<Tenant> {
    let CreateTenant { name, limits } = input;
    let tenant = Tenant { id: TenantId::new(), name, status: Status::Active, limits, created_at: clock.now() };
    let made = tenant.clone();
    store
        .transaction(move |tx| {
            Box::pin(async move {
                tx.tenant_create(&tenant.id, tenant.name.as_str(), tenant.limits, tenant.created_at).await
            })
        })
        .await?;
    Ok(made)
}

/// Suspends or reactivates: each next authentication obeys.
///
/// # Errors
/// `NotFound`; those of the store.
pub async fn set_status(store: &Store, tenant: &TenantId, status: Status) -> Result<()> {
    let tenant = tenant.clone();
    let work =
        store.transaction(move |tx| Box::pin(async move { tx.tenant_set_status(&tenant, status.as_str()).await }));
    found(work.await?, "tenant")
}

/// Replaces all three limits: each next reservation obeys.
///
/// # Errors
/// `NotFound`; `Invalid` for a limit beyond 2⁶³ − 1; those of the store.
pub async fn set_limits(store: &Store, tenant: &TenantId, limits: Limits) -> Result<()> {
    let tenant = tenant.clone();
    let work = store.transaction(move |tx| Box::pin(async move { tx.tenant_set_limits(&tenant, limits).await }));
    found(work.await?, "tenant")
}

/// Deletes it for every purpose but its ledger, which stays. Its name is free again.
///
/// # Errors
/// `NotFound`; those of the store.
pub async fn delete_tenant(store: &Store, clock: &Clock, tenant: &TenantId) -> Result<()> {
    let (tenant, now) = (tenant.clone(), clock.now());
    let work = store.transaction(move |tx| Box::pin(async move { tx.tenant_delete(&tenant, now).await }));
    found(work.await?, "tenant")
}
