//! What is the same for a tenant's API keys and access keys: everything but the secret.

use super::caps::{Made, leave_room};
use super::issuer::{Bounds, Issuer, check_tenants, check_within_role, check_within_scope};
use super::{Name, Role, Scope, missing, stored_role, stored_scope};
use crate::audit::{Author, Change, Record};
use crate::clock::Micros;
use crate::error::{Error, Result};
use crate::id::{KeyId, ProjectId, ServiceAccountId, TenantId};
use crate::quota::Limits;
use crate::store::{CredentialRow, DigestColumns, Store, Tx};
use serde::Serialize;

/// Longest life that can be asked for, in µs: ten years, three of them leap years.
const MAX_LIFE: Micros = 3_653 * 24 * 3600 * 1_000_000;
/// Longest that a former secret stays accepted, in seconds: 30 days.
pub const MAX_OVERLAP_SECONDS: u32 = 30 * 24 * 3600;

const UPDATE: &str = "update";

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
pub(super) enum Kind {
    ApiKey,
    AccessKey,
}

/// A secret as it is stored.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    Digest(DigestColumns),
    Sealed(String),
}

/// What is done to a credential.
#[derive(Debug)]
pub(super) enum Step {
    Update(UpdateCredential),
    Rotate { secret: Stored, former_until: Option<Micros> },
    Revoke,
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

    fn updated(&self, update: UpdateCredential, now: Micros) -> Result<Credential> {
        if let Some(expires_at) = update.expires_at {
            check_expiry(expires_at, now)?;
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

    fn bounds(&self) -> Bounds {
        Bounds { expires_at: self.expires_at, limits: self.limits }
    }

    fn row(&self) -> Result<CredentialRow> {
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

impl Kind {
    /// For people.
    fn word(self) -> &'static str {
        match self {
            Kind::ApiKey => "API key",
            Kind::AccessKey => "access key",
        }
    }

    /// For the audit log.
    fn target(self) -> &'static str {
        match self {
            Kind::ApiKey => "api_key",
            Kind::AccessKey => "access_key",
        }
    }

    /// `None` becomes the error for one that isn't there.
    pub(super) fn found(self, row: Option<CredentialRow>) -> Result<Credential> {
        row.ok_or_else(|| missing(self.word()))?.try_into()
    }

    async fn for_change(self, tx: &mut Tx, tenant: &TenantId, id: &KeyId) -> Result<Option<CredentialRow>> {
        match self {
            Kind::ApiKey => tx.api_key_for_change(tenant, id).await,
            Kind::AccessKey => tx.access_key_for_change(tenant, id).await,
        }
    }

    async fn update(self, tx: &mut Tx, row: &CredentialRow, now: Micros) -> Result<()> {
        match self {
            Kind::ApiKey => tx.api_key_update(row, now).await,
            Kind::AccessKey => tx.access_key_update(row, now).await,
        }
    }
}

/// Stores a new credential.
///
/// # Errors
/// `Forbidden`, naming what reaches further than its issuer or its service account; `NotFound` unless the tenant has
/// project and service account; those of the store.
pub(super) async fn create(
    change: Change<'_>,
    kind: Kind,
    issuer: &Issuer,
    made: &Credential,
    secret: Stored,
) -> Result<()> {
    issuer.check(made.role, &made.scope)?;
    let made = made.clone();
    change
        .commit(move |tx| {
            Box::pin(async move {
                leave_room(tx, &made.tenant, Made::Credential, made.created_at).await?;
                check_account(tx, &made, Some(made.role), Some(&made.scope)).await?;
                let row = made.row()?;
                let stored = match secret {
                    Stored::Digest(digest) => tx.api_key_create(&row, &digest).await?,
                    Stored::Sealed(sealed) => tx.access_key_create(&row, &sealed).await?,
                };
                if !stored {
                    return Err(missing("project").about("project_id"));
                }
                let action = format!("{}.create", kind.target());
                Ok(((), Record::new(&action, Some(&made.tenant), (kind.target(), made.id.as_str())).after(&made)))
            })
        })
        .await
}

/// The one way in which a credential changes: under its row's lock, with what the issuer may checked before and after.
/// What is as asked for already gets no new version.
///
/// # Errors
/// `NotFound` unless the tenant has it and it is not revoked; `Forbidden`, naming the field; `PreconditionFailed`;
/// `Invalid`; those of the store.
pub(super) async fn alter(
    change: Change<'_>,
    kind: Kind,
    issuer: &Issuer,
    (tenant, id): (&TenantId, &KeyId),
    step: Step,
    expected: Option<i64>,
) -> Result<Credential> {
    let (issuer, tenant, id, now) = (issuer.clone(), tenant.clone(), id.clone(), change.now);
    change
        .commit(move |tx| {
            Box::pin(async move {
                let before = kind.found(kind.for_change(tx, &tenant, &id).await?)?;
                issuer.check(before.role, &before.scope)?;
                super::check_version(before.version, expected)?;
                let (verb, mut after) = take(tx, kind, &issuer, &before, step, now).await?;
                if verb == UPDATE && after == before {
                    return Ok((after, None));
                }
                (after.version, after.updated_at) = (before.version + 1, now);
                let action = format!("{}.{verb}", kind.target());
                let record = Record::new(&action, Some(&tenant), (kind.target(), id.as_str()));
                let record = record.before(&before).after(&after);
                Ok((after, Some(record)))
            })
        })
        .await
}

async fn take(
    tx: &mut Tx,
    kind: Kind,
    issuer: &Issuer,
    before: &Credential,
    step: Step,
    now: Micros,
) -> Result<(&'static str, Credential)> {
    match step {
        Step::Update(update) => {
            let (role, scope) = (update.role, update.scope.clone());
            let after = before.updated(update, now)?;
            issuer.check(after.role, &after.scope)?;
            issuer.check_own(before.id.as_str(), &before.bounds(), &after.bounds())?;
            check_account(tx, &after, role, scope.as_ref()).await?;
            if after != *before {
                kind.update(tx, &after.row()?, now).await?;
            }
            Ok((UPDATE, after))
        }
        Step::Rotate { secret, former_until } => {
            let owner = (&before.tenant, &before.id);
            match secret {
                Stored::Digest(digest) => tx.api_key_rotate(owner, &digest, former_until, now).await?,
                Stored::Sealed(sealed) => tx.access_key_rotate(owner, &sealed, former_until, now).await?,
            }
            Ok(("rotate", Credential { previous_expires_at: former_until, ..before.clone() }))
        }
        Step::Revoke => {
            let after = Credential { revoked_at: Some(now), ..before.clone() };
            kind.update(tx, &after.row()?, now).await?;
            Ok(("revoke", after))
        }
    }
}

/// Whether a credential stays within its service account, if it has one, in what is given. What a change leaves alone is
/// not looked at: an account that was narrowed later bounds its keys when they are used, and must not keep anybody from
/// renaming them.
async fn check_account(tx: &mut Tx, key: &Credential, role: Option<Role>, scope: Option<&Scope>) -> Result<()> {
    let Some(account) = &key.service_account else { return Ok(()) };
    if role.is_none() && scope.is_none() {
        return Ok(());
    }
    let bounds = tx.service_account_bounds_lock(&key.tenant, account).await?.ok_or_else(missing_account)?;
    if let Some(role) = role {
        check_within_role(role, stored_role(&bounds.role)?)?;
    }
    match scope {
        Some(scope) => check_within_scope(scope, stored_scope(&bounds.scope)?.as_ref()),
        None => Ok(()),
    }
}

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

/// An expiry lies ahead, and not so far that nobody will think of it.
pub(super) fn check_expiry(expires_at: Option<Micros>, now: Micros) -> Result<()> {
    match expires_at {
        Some(at) if at <= now => Err(Error::invalid("expires_at", "The expiry lies in the past.")),
        Some(at) if at > now.saturating_add(MAX_LIFE) => {
            Err(Error::invalid("expires_at", "The expiry lies more than ten years ahead; leave it out for none."))
        }
        Some(_) | None => Ok(()),
    }
}

/// When a former secret ends that is accepted for `overlap_seconds` more; `None`: at once.
pub(super) fn former_until(overlap_seconds: u32, now: Micros) -> Result<Option<Micros>> {
    match overlap_seconds {
        0 => Ok(None),
        1..=MAX_OVERLAP_SECONDS => Ok(Some(now + Micros::from(overlap_seconds) * 1_000_000)),
        _ => {
            let text = format!("Secrets overlap for 0 to {MAX_OVERLAP_SECONDS} seconds.");
            Err(Error::invalid("overlap_seconds", text))
        }
    }
}
