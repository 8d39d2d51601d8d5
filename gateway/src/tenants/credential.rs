//! What is the same for a tenant's API keys and access keys: everything but the secret.

use super::expiry::check_expiry;
use super::issuer::{Bounds, check_tenants};
use super::limits::check_limits;
use super::{Name, Role, Scope, missing, stored_role, stored_scope};
use crate::audit::Author;
use crate::clock::Micros;
use crate::error::{Error, Result};
use crate::id::{KeyId, ProjectId, ServiceAccountId, TenantId};
use crate::quota::Limits;
use crate::store::CredentialRow;
use serde::Serialize;

/// A tenant's API key or access key. Holds nothing secret: it is what the audit log records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Credential {
    /// `key_` and its public part.
    pub id: KeyId,
    /// Whose it is.
    #[serde(rename = "tenant_id")]
    pub tenant: TenantId,
    /// For which project.
    #[serde(rename = "project_id")]
    pub project: ProjectId,
    /// A machine's; `None`: the project's own.
    #[serde(rename = "service_account_id")]
    pub service_account: Option<ServiceAccountId>,
    /// For people; need not be unique.
    pub name: Name,
    /// What its holder may do.
    pub role: Role,
    /// Narrows that.
    pub scope: Scope,
    /// Its own, beside those of tenant and project.
    pub limits: Limits,
    /// Public id of the credential that made it.
    pub created_by: String,
    /// Counts its changes, from 1.
    pub version: i64,
    /// µs since 1970.
    pub created_at: Micros,
    /// µs since 1970.
    pub updated_at: Micros,
    /// Not usable from then on.
    pub expires_at: Option<Micros>,
    /// µs since 1970; `None` while it is not revoked.
    pub revoked_at: Option<Micros>,
    /// When the secret before the last rotation ends; `None` where there is none.
    pub previous_expires_at: Option<Micros>,
    /// µs since 1970, a little late; `None` before its first use.
    #[serde(skip)]
    pub last_used_at: Option<Micros>,
}

/// A credential to be made.
#[derive(Debug, Clone)]
pub struct CreateCredential {
    /// For people.
    pub name: Name,
    /// For which project.
    pub project: ProjectId,
    /// A machine of that project.
    pub service_account: Option<ServiceAccountId>,
    /// What its holder may do.
    pub role: Role,
    /// Narrows that.
    pub scope: Scope,
    /// Its own.
    pub limits: Limits,
    /// Not usable from then on; `None`: until revoked.
    pub expires_at: Option<Micros>,
}

/// What can be changed of a credential; `None` keeps.
#[derive(Debug, Clone, Default)]
pub struct UpdateCredential {
    /// For people.
    pub name: Option<Name>,
    /// A tenant's.
    pub role: Option<Role>,
    /// The whole of it.
    pub scope: Option<Scope>,
    /// All three.
    pub limits: Option<Limits>,
    /// `Some(None)`: usable until revoked.
    pub expires_at: Option<Option<Micros>>,
}

/// The two kinds; what differs is where they are stored and how their secret is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// `ck_…`
    ApiKey,
    /// SigV4's.
    AccessKey,
}

impl CreateCredential {
    /// Of a project, for using models, until revoked.
    pub fn developer(name: Name, project: ProjectId) -> CreateCredential {
        CreateCredential {
            name,
            project,
            service_account: None,
            role: Role::TenantDeveloper,
            scope: Scope::default(),
            limits: Limits::default(),
            expires_at: None,
        }
    }
}

impl Credential {
    /// A new one; not stored yet.
    pub(super) fn new(
        id: KeyId,
        tenant: &TenantId,
        input: CreateCredential,
        author: &Author,
        now: Micros,
    ) -> Result<Credential> {
        check_tenants(input.role, &input.scope)?;
        check_expiry(input.expires_at, now)?;
        check_limits(&input.limits, "limits.")?;
        Ok(Credential {
            id,
            tenant: tenant.clone(),
            project: input.project,
            service_account: input.service_account,
            name: input.name,
            role: input.role,
            scope: input.scope,
            limits: input.limits,
            created_by: author.id.clone(),
            version: 1,
            created_at: now,
            updated_at: now,
            expires_at: input.expires_at,
            revoked_at: None,
            previous_expires_at: None,
            last_used_at: None,
        })
    }

    pub(super) fn updated(&self, update: UpdateCredential, now: Micros) -> Result<Credential> {
        // Sent back as it is, an expiry that has passed meanwhile is no mistake.
        if let Some(expires_at) = update.expires_at.filter(|expires_at| *expires_at != self.expires_at) {
            check_expiry(expires_at, now)?;
        }
        if let Some(limits) = &update.limits {
            check_limits(limits, "limits.")?;
        }
        let after = Credential {
            name: update.name.unwrap_or_else(|| self.name.clone()),
            role: update.role.unwrap_or(self.role),
            scope: update.scope.unwrap_or_else(|| self.scope.clone()),
            limits: update.limits.unwrap_or(self.limits),
            expires_at: update.expires_at.unwrap_or(self.expires_at),
            ..self.clone()
        };
        check_tenants(after.role, &after.scope)?;
        Ok(after)
    }

    /// Whether nothing but its end and its limits differ from `before`'s, and none of them is looser.
    pub(super) fn only_tightens(&self, before: &Credential) -> bool {
        let alike = Credential { expires_at: before.expires_at, limits: before.limits, ..self.clone() };
        alike == *before && before.bounds().loosened_by(&self.bounds()).is_none()
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds { expires_at: self.expires_at, limits: self.limits }
    }

    pub(super) fn row(&self) -> Result<CredentialRow> {
        Ok(CredentialRow {
            id: self.id.clone(),
            tenant_id: self.tenant.clone(),
            project_id: self.project.clone(),
            service_account_id: self.service_account.clone(),
            name: self.name.as_str().to_owned(),
            role: self.role.as_str().to_owned(),
            scope: serde_json::to_string(&self.scope).map_err(Error::internal)?,
            limits: self.limits.try_into()?,
            created_by: self.created_by.clone(),
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
            previous_expires_at: self.previous_expires_at,
            last_used_at: self.last_used_at,
        })
    }
}

impl TryFrom<CredentialRow> for Credential {
    type Error = Error;

    fn try_from(row: CredentialRow) -> Result<Credential> {
        Ok(Credential {
            role: stored_role(&row.role)?,
            scope: (*stored_scope(&row.scope)?).clone(),
            id: row.id,
            tenant: row.tenant_id,
            project: row.project_id,
            service_account: row.service_account_id,
            name: Name::stored(row.name),
            limits: row.limits.into(),
            created_by: row.created_by,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            previous_expires_at: row.previous_expires_at,
            last_used_at: row.last_used_at,
        })
    }
}

impl KeyKind {
    /// For people.
    fn word(self) -> &'static str {
        match self {
            KeyKind::ApiKey => "API key",
            KeyKind::AccessKey => "access key",
        }
    }

    /// As the audit log spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyKind::ApiKey => "api_key",
            KeyKind::AccessKey => "access_key",
        }
    }

    /// For one that isn't there.
    pub(super) fn missing(self) -> Error {
        missing(self.word())
    }

    /// `None` becomes the error for one that isn't there.
    pub(super) fn found(self, row: Option<CredentialRow>) -> Result<Credential> {
        row.ok_or_else(|| self.missing())?.try_into()
    }
}
