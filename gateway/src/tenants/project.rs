//! Projects: a tenant's unit of keys and reports.

use super::{Name, found};
use crate::clock::{Clock, Micros};
use crate::error::Result;
use crate::id::{ProjectId, TenantId};
use crate::store::Store;

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Unique in its tenant, among projects that are not deleted.
    pub name: Name,
    /// µs since 1970.
    pub created_at: Micros,
}

/// A project to be made.
#[derive(Debug, Clone)]
pub struct CreateProject {
    /// Must not be taken in this tenant.
    pub name: Name,
}

/// Makes a project.
///
/// # Errors
/// `NotFound` without such a tenant; `Conflict` when the name is taken; those of the store.
pub async fn create_project(store: &Store, clock: &Clock, tenant: &TenantId, input: CreateProject) -> Result<Project> {
    let project = Project { id: ProjectId::new(), tenant: tenant.clone(), name: input.name, created_at: clock.now() };
    let made = project.clone();
    let work = store.transaction(move |tx| {
        Box::pin(async move {
            tx.project_create(&project.tenant, &project.id, project.name.as_str(), project.created_at).await
        })
    });
    found(work.await?, "tenant")?;
    Ok(made)
}

/// Deletes it for every purpose but the ledger; its keys are refused from then on.
///
/// # Errors
/// `NotFound`; those of the store.
pub async fn delete_project(store: &Store, clock: &Clock, tenant: &TenantId, project: &ProjectId) -> Result<()> {
    let (tenant, project, now) = (tenant.clone(), project.clone(), clock.now());
    let work = store.transaction(move |tx| Box::pin(async move { tx.project_delete(&tenant, &project, now).await }));
    found(work.await?, "project")
}
