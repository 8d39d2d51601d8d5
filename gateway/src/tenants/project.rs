//! Projects: a tenant's unit of keys, limits and reports.

use super::caps::{Made, leave_room};
use super::limits::check_limits;
use super::tenant::name_is_taken;
use super::{Issuer, Name, access_column, check_version, found, missing, stored_access};
use crate::audit::{Change, Record};
use crate::catalog::ModelAccess;
use crate::clock::Micros;
use crate::error::Result;
use crate::id::{ProjectId, TenantId};
use crate::quota::Limits;
use crate::store::{ProjectFilter, ProjectRow, Store};
use serde::Serialize;

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Whose it is.
    #[serde(rename = "tenant_id")]
    pub tenant: TenantId,
    /// Unique in its tenant, among projects that are not deleted.
    pub name: Name,
    /// Its own, in force for all its requests together.
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

/// What can be changed of a project; `None` keeps.
#[derive(Debug, Clone, Default)]
pub struct UpdateProject {
    /// Must not be taken in this tenant.
    pub name: Option<Name>,
    /// All three.
    pub limits: Option<Limits>,
    /// The whole list.
    pub model_access: Option<ModelAccess>,
}

impl Project {
    /// A new one, that narrows nothing; not stored yet.
    pub fn new(tenant: TenantId, name: Name, now: Micros) -> Project {
        let (id, limits, model_access) = (ProjectId::new(), Limits::default(), ModelAccess::ALL);
        let (version, created_at, updated_at, deleted_at) = (1, now, now, None);
        Project { id, tenant, name, limits, model_access, version, created_at, updated_at, deleted_at }
    }
}

impl From<ProjectRow> for Project {
    fn from(row: ProjectRow) -> Project {
        Project {
            id: row.id,
            tenant: row.tenant_id,
            name: Name::stored(row.name),
            limits: row.limits.into(),
            model_access: stored_access(row.model_access.as_deref()),
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
            deleted_at: row.deleted_at,
        }
    }
}

/// By its id, deleted or not.
///
/// # Errors
/// `NotFound` unless the tenant has or had it; those of the store.
pub async fn project(store: &Store, tenant: &TenantId, id: &ProjectId) -> Result<Project> {
    store.project(tenant, id).await?.map(Project::from).ok_or_else(|| missing("project"))
}

/// A page of a tenant's, in the order of their making.
///
/// # Errors
/// Those of the store.
pub async fn projects(
    store: &Store,
    tenant: &TenantId,
    filter: &ProjectFilter,
    after: Option<&ProjectId>,
    limit: i64,
) -> Result<Vec<Project>> {
    Ok(store.projects(tenant, filter, after, limit).await?.into_iter().map(Project::from).collect())
}

/// Stores a new project.
///
/// # Errors
/// `NotFound` without such a tenant; `Conflict` when the name is taken; those of the store.
pub async fn create_project(change: Change<'_>, project: &Project) -> Result<()> {
    let project = project.clone();
    let work = change.commit(move |tx| {
        Box::pin(async move {
            let Project { id, tenant, name, created_at, .. } = &project;
            leave_room(tx, tenant, Made::Project, *created_at).await?;
            found(tx.project_create(tenant, id, name.as_str(), *created_at).await?, "tenant")?;
            Ok(((), Record::new("project.create", Some(tenant), ("project", id.as_str())).after(&project)))
        })
    });
    work.await.map_err(name_is_taken)
}

/// Changes a project, as it is after that. `expected` is the version that the caller has seen. What is as asked for
/// already gets no new version.
///
/// # Errors
/// `NotFound`; `PreconditionFailed` when it has another version by now; `Conflict` when the name is taken; `Invalid` for a
/// limit beyond 2⁵³; those of the store.
pub async fn update_project(
    change: Change<'_>,
    (tenant, id): (&TenantId, &ProjectId),
    update: UpdateProject,
    expected: Option<i64>,
) -> Result<Project> {
    let action = match (update.limits, &update.model_access) {
        (Some(_), _) => "project.limits",
        (None, Some(_)) => "project.model_access",
        (None, None) => "project.update",
    };
    let work = alter(change, (tenant, id), (action, None), expected, move |row| {
        if let Some(name) = update.name {
            row.name = name.as_str().to_owned();
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

/// Deletes it on behalf of `issuer`, for every purpose but the ledger: its keys are refused from then on, what runs ends
/// by itself, and its name is free again. A tenant's last project can be deleted too.
///
/// # Errors
/// `NotFound`; `Forbidden` when it has a key or service account with a role that the issuer's does not cover;
/// `PreconditionFailed`; those of the store.
pub async fn delete_project(
    change: Change<'_>,
    issuer: &Issuer,
    owner: (&TenantId, &ProjectId),
    expected: Option<i64>,
) -> Result<Project> {
    let now = change.now;
    alter(change, owner, ("project.delete", Some(issuer.clone())), expected, move |row| {
        row.deleted_at = Some(now);
        Ok(())
    })
    .await
}

/// The one way in which a project changes: under its row's lock, so `before` is what `after` came from. Where `ends` is
/// given, all credentials of the project end with the change, on its behalf. Whoever makes or changes one waits for the
/// project's lock too, so none is overlooked.
async fn alter(
    change: Change<'_>,
    (tenant, id): (&TenantId, &ProjectId),
    (action, ends): (&'static str, Option<Issuer>),
    expected: Option<i64>,
    how: impl FnOnce(&mut ProjectRow) -> Result<()> + Send + 'static,
) -> Result<Project> {
    let (tenant, id, now) = (tenant.clone(), id.clone(), change.now);
    change
        .commit(move |tx| {
            Box::pin(async move {
                let before = tx.project_for_change(&tenant, &id).await?.ok_or_else(|| missing("project"))?;
                check_version(before.version, expected)?;
                if let Some(issuer) = ends {
                    issuer.check_ends(&tx.roles_in_project(&tenant, &id).await?)?;
                }
                let mut row = before.clone();
                how(&mut row)?;
                if row == before {
                    return Ok((Project::from(before), None));
                }
                tx.project_update(&row, now).await?;
                (row.version, row.updated_at) = (row.version + 1, now);
                let (before, after) = (Project::from(before), Project::from(row));
                let record = Record::new(action, Some(&tenant), ("project", id.as_str())).before(&before).after(&after);
                Ok((after, Some(record)))
            })
        })
        .await
}
