//! The ways in which a tenant's API keys and access keys are made, changed, rotated and revoked.

use super::account_bounds::{check_within, lock_owners};
use super::caps::{Made, leave_room};
use super::{Credential, Issuer, KeyKind, UpdateCredential, missing};
use crate::audit::{Change, Record};
use crate::clock::Micros;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{KeyId, TenantId};
use crate::quota::Limits;
use crate::store::{CredentialRow, DigestColumns, Tx};

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
    Limits(Limits),
    Rotate { secret: Stored, former_until: Option<Micros> },
    Revoke,
}

impl KeyKind {
    async fn for_change(self, tx: &mut Tx, tenant: &TenantId, id: &KeyId) -> Result<Option<CredentialRow>> {
        match self {
            KeyKind::ApiKey => tx.api_key_for_change(tenant, id).await,
            KeyKind::AccessKey => tx.access_key_for_change(tenant, id).await,
        }
    }

    async fn update(self, tx: &mut Tx, row: &CredentialRow, now: Micros) -> Result<()> {
        match self {
            KeyKind::ApiKey => tx.api_key_update(row, now).await,
            KeyKind::AccessKey => tx.access_key_update(row, now).await,
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
    kind: KeyKind,
    issuer: &Issuer,
    made: &Credential,
    secret: Stored,
) -> Result<()> {
    issuer.check(made.role, &made.scope)?;
    issuer.check_limits(None, &made.limits)?;
    let made = made.clone();
    change
        .commit(move |tx| {
            Box::pin(async move {
                leave_room(tx, &made.tenant, Made::Credential, made.created_at).await?;
                if let Some(account) = lock_owners(tx, &made).await? {
                    check_within(&account, Some(made.role), Some(&made.scope))?;
                }
                let row = made.row()?;
                let stored = match secret {
                    Stored::Digest(digest) => tx.api_key_create(&row, &digest).await?,
                    Stored::Sealed(sealed) => tx.access_key_create(&row, &sealed).await?,
                };
                if !stored {
                    return Err(missing("project").about("project_id"));
                }
                let action = format!("{}.create", kind.as_str());
                Ok(((), Record::new(&action, Some(&made.tenant), (kind.as_str(), made.id.as_str())).after(&made)))
            })
        })
        .await
}

/// The one way in which a credential changes: under its row's lock, with what the issuer may checked before and after.
/// What is as asked for already gets no new version.
///
/// # Errors
/// `NotFound` unless the tenant has it and it is not revoked, and, but for revoking it, neither is its project or service
/// account deleted; `Forbidden`, naming the field; `PreconditionFailed`; `Invalid`; those of the store.
pub(super) async fn alter(
    change: Change<'_>,
    kind: KeyKind,
    issuer: &Issuer,
    (tenant, id): (&TenantId, &KeyId),
    step: Step,
    expected: Option<i64>,
) -> Result<Credential> {
    let (issuer, tenant, id, now) = (issuer.clone(), tenant.clone(), id.clone(), change.now);
    change
        .commit(move |tx| {
            Box::pin(async move {
                if matches!(&step, Step::Update(update) if update.expires_at.is_some()) {
                    tx.tenant_lock(&tenant).await?; // it may come back to life: see `checked`
                }
                let before = kind.found(kind.for_change(tx, &tenant, &id).await?)?;
                issuer.check_role(before.role)?;
                super::check_version(before.version, expected)?;
                let Some((verb, mut after)) = take(tx, kind, &issuer, &before, step, now).await? else {
                    return Ok((before, None));
                };
                (after.version, after.updated_at) = (before.version + 1, now);
                let action = format!("{}.{verb}", kind.as_str());
                let record = Record::new(&action, Some(&tenant), (kind.as_str(), id.as_str()));
                let record = record.before(&before).after(&after);
                Ok((after, Some(record)))
            })
        })
        .await
}

/// What was done, and the credential after it; `None` when it is as asked for already.
async fn take(
    tx: &mut Tx,
    kind: KeyKind,
    issuer: &Issuer,
    before: &Credential,
    step: Step,
    now: Micros,
) -> Result<Option<(&'static str, Credential)>> {
    match step {
        Step::Update(update) => {
            let after = checked(tx, issuer, before, update, now).await?;
            if after == *before {
                return Ok(None);
            }
            kind.update(tx, &after.row()?, now).await?;
            Ok(Some(("update", after)))
        }
        Step::Limits(limits) => {
            let update = UpdateCredential { limits: Some(limits), ..UpdateCredential::default() };
            let after = checked(tx, issuer, before, update, now).await.map_err(below_limits)?;
            if after == *before {
                return Ok(None);
            }
            kind.update(tx, &after.row()?, now).await?;
            Ok(Some(("limits", after)))
        }
        Step::Rotate { secret, former_until } => {
            // Whoever is shown its secret has all that it has.
            issuer.check(before.role, &before.scope)?;
            issuer.check_limits(None, &before.limits)?;
            lock_owners(tx, before).await.map_err(has_ended)?;
            let owner = (&before.tenant, &before.id);
            match secret {
                Stored::Digest(digest) => tx.api_key_rotate(owner, &digest, former_until, now).await?,
                Stored::Sealed(sealed) => tx.access_key_rotate(owner, &sealed, former_until, now).await?,
            }
            Ok(Some(("rotate", Credential { previous_expires_at: former_until, ..before.clone() })))
        }
        Step::Revoke => {
            let after = Credential { revoked_at: Some(now), ..before.clone() };
            kind.update(tx, &after.row()?, now).await?;
            Ok(Some(("revoke", after)))
        }
    }
}

/// The credential with these changes, if the issuer may make them.
async fn checked(
    tx: &mut Tx,
    issuer: &Issuer,
    before: &Credential,
    update: UpdateCredential,
    now: Micros,
) -> Result<Credential> {
    let account = lock_owners(tx, before).await.map_err(has_ended)?;
    let (role, scope) = (update.role, update.scope.clone());
    let after = before.updated(update, now)?;
    let is_over = |key: &Credential| key.expires_at.is_some_and(|at| at <= now);
    if is_over(before) && !is_over(&after) {
        leave_room(tx, &before.tenant, Made::Credential, now).await?;
    }
    if !after.only_tightens(before) {
        issuer.check(before.role, &before.scope)?;
        issuer.check(after.role, &after.scope)?;
    }
    issuer.check_own(before.id.as_str(), &before.bounds(), &after.bounds())?;
    issuer.check_limits(Some(&before.limits), &after.limits)?;
    if let Some(account) = account {
        check_within(&account, role, scope.as_ref())?;
    }
    Ok(after)
}

/// The body that sets limits alone has no `limits` around them.
fn below_limits(error: Error) -> Error {
    match error.param.as_deref().and_then(|param| param.strip_prefix("limits.")).map(str::to_owned) {
        Some(param) => error.about(param),
        None => error,
    }
}

/// For a credential that ended with what it belonged to.
fn has_ended(error: Error) -> Error {
    if error.kind != ErrorKind::NotFound {
        return error;
    }
    let text = "Its project or service account is deleted, and it with them: it can be read and revoked, nothing else.";
    Error::new(ErrorKind::NotFound, text)
}
