//! Tenants: isolated and billed.

use super::limits::check_limits;
use super::{Name, access_column, missing, stored_access};
use crate::audit::{Change, Record};
use crate::catalog::ModelAccess;
use crate::clock::Micros;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::quota::Limits;
use crate::store::{Store, TenantFilter, TenantRow};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Unique among tenants that are not deleted.
    pub name: Name,
    /// Whether its credentials are accepted.
    pub status: Status,
    /// In force for all its requests together.
    pub limits: Limits,
    /// Models that its credentials may call.
    pub model_access: ModelAccess,
    /// Counts its changes, from 1.
    pub version: i64,
    /// µs since 1970.
    pub created_at: Micros,
    /// µs since 1970.
    pub updated_at: Micros,
    /// µs since 1970; `None` while it is there.
    pub deleted_at: Option<Micros>,
}

/// Whether a tenant's credentials are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = TenantStatus)]
pub enum Status {
    /// They are.
    Active,
    /// None is, and running answers end; nothing is lost.
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

/// What can be changed of a tenant; `None` keeps.
#[derive(Debug, Clone, Default)]
pub struct UpdateTenant {
    /// Must not be taken.
    pub name: Option<Name>,
    /// Suspends or reactivates.
    pub status: Option<Status>,
    /// All three.
    pub limits: Option<Limits>,
    /// The whole list.
    pub model_access: Option<ModelAccess>,
}

impl Tenant {
    /// A new one, active and empty; not stored yet.
    pub fn new(name: Name, limits: Limits, now: Micros) -> Tenant {
        let id = TenantId::new();
        let (status, model_access) = (Status::Active, ModelAccess::ALL);
        let (version, created_at, updated_at, deleted_at) = (1, now, now, None);
        Tenant { id, name, status, limits, model_access, version, created_at, updated_at, deleted_at }
    }
}

impl From<TenantRow> for Tenant {
    fn from(row: TenantRow) -> Tenant {
        // A CHECK keeps other words out; were there one, the tenant must not be served.
        let status = if row.status == Status::Active.as_str() { Status::Active } else { Status::Suspended };
        Tenant {
            id: row.id,
            name: Name::stored(row.name),
            status,
            limits: row.limits.into(),
            model_access: stored_access(row.model_access.as_deref()),
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
            deleted_at: row.deleted_at,
        }
    }
}

/// By its id.
///
/// # Errors
/// `NotFound`, also when it is deleted; those of the store.
pub async fn tenant(store: &Store, id: &TenantId) -> Result<Tenant> {
    let row = store.tenant(id).await?.filter(|row| row.deleted_at.is_none());
    row.map(Tenant::from).ok_or_else(|| missing("tenant"))
}

/// A page of them, in the order of their making.
///
/// # Errors
/// Those of the store.
pub async fn tenants(
    store: &Store,
    filter: &TenantFilter,
    after: Option<&TenantId>,
    limit: i64,
) -> Result<Vec<Tenant>> {
    Ok(store.tenants(filter, after, limit).await?.into_iter().map(Tenant::from).collect())
}

/// Stores a new tenant.
///
/// # Errors
/// `Conflict` when the name is taken; `Invalid` for a limit beyond 2⁵³; those of the store.
pub async fn create_tenant(change: Change<'_>, tenant: &Tenant) -> Result<()> {
    check_limits(&tenant.limits, "limits.")?;
    let tenant = tenant.clone();
    let work = change.commit(move |tx| {
        Box::pin(async move {
            tx.tenant_create(&tenant.id, tenant.name.as_str(), tenant.limits, tenant.created_at).await?;
            let target = ("tenant", tenant.id.as_str());
            Ok(((), Record::new("tenant.create", Some(&tenant.id), target).after(&tenant)))
        })
    });
    work.await.map_err(name_is_taken)
}

/// Changes a tenant, as it is after that. `expected` is the version that the caller has seen. What is as asked for already
/// gets no new version.
///
/// # Errors
/// `NotFound`; `PreconditionFailed` when it has another version by now; `Conflict` when the name is taken; `Invalid` for a
/// limit beyond 2⁵³; those of the store.
pub async fn update_tenant(
    change: Change<'_>,
    id: &TenantId,
    update: UpdateTenant,
    expected: Option<i64>,
) -> Result<Tenant> {
    let action = match (update.status, update.limits, &update.model_access) {
        (Some(Status::Suspended), _, _) => "tenant.suspend",
        (Some(Status::Active), _, _) => "tenant.resume",
        (None, Some(_), _) => "tenant.limits",
        (None, None, Some(_)) => "tenant.model_access",
        (None, None, None) => "tenant.update",
    };
    let work = alter(change, id, action, expected, move |row| {
        if let Some(name) = update.name {
            row.name = name.as_str().to_owned();
        }
        if let Some(status) = update.status {
            row.status = status.as_str().to_owned();
        }
        if let Some(limits) = update.limits {
            check_limits(&limits, "")?;
            row.limits = limits.try_into()?;
        }
        if let Some(access) = update.model_access {
            row.model_access = access_column(&access)?;
        }
        Ok(())
    });
    work.await.map_err(name_is_taken)
}

/// Deletes it for every purpose but its ledger, which stays: its credentials are refused, what runs ends by itself, and
/// its name is free again.
///
/// # Errors
/// `NotFound`; `PreconditionFailed`; those of the store.
pub async fn delete_tenant(change: Change<'_>, id: &TenantId, expected: Option<i64>) -> Result<Tenant> {
    let now = change.now;
    alter(change, id, "tenant.delete", expected, move |row| {
        row.deleted_at = Some(now);
        Ok(())
    })
    .await
}

/// The one way in which a tenant changes: under its row's lock, so `before` is what `after` came from.
async fn alter(
    change: Change<'_>,
    id: &TenantId,
    action: &'static str,
    expected: Option<i64>,
    how: impl FnOnce(&mut TenantRow) -> Result<()> + Send + 'static,
) -> Result<Tenant> {
    let (id, now) = (id.clone(), change.now);
    change
        .commit(move |tx| {
            Box::pin(async move {
                let before = tx.tenant_for_change(&id).await?.ok_or_else(|| missing("tenant"))?;
                super::check_version(before.version, expected)?;
                let mut row = before.clone();
                how(&mut row)?;
                if row == before {
                    return Ok((Tenant::from(before), None));
                }
                tx.tenant_update(&row, now).await?;
                (row.version, row.updated_at) = (row.version + 1, now);
                let (before, after) = (Tenant::from(before), Tenant::from(row));
                let record = Record::new(action, Some(&id), ("tenant", id.as_str())).before(&before).after(&after);
                Ok((after, Some(record)))
            })
        })
        .await
}

/// A conflict that is about the name, said so.
pub(super) fn name_is_taken(error: Error) -> Error {
    match error.kind {
        // The database's, which has a cause; of bounds it knows nothing.
        ErrorKind::Conflict if error.cause().is_some() => error.about("name"),
        _ => error,
    }
}
