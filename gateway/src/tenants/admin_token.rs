//! Operators' tokens: `ckadm_…`, for the admin API. They belong to no tenant and see all.
//!
//! One platform administrator's token always remains that is accepted where the change came from: whoever could take the
//! last one away would lock everybody out, and with two at once nobody would have meant to.

use super::bearer::Bearer;
use super::credential::{check_expiry, former_until};
use super::issuer::{Bounds, check_operators};
use super::{Issuer, Name, Operation, Role, Scope, missing, stored_role, stored_scope};
use crate::audit::{Author, Change, Record};
use crate::clock::Micros;
use crate::error::{Error, ErrorKind, Result};
use crate::id::AdminTokenId;
use crate::quota::Limits;
use crate::secrets::{SecretText, Secrets};
use crate::store::{DigestColumns, OperatorFilter, OperatorRow, Store, Tx};
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;

const PREFIX: &str = "ckadm";
/// As the audit log names it.
const TARGET: &str = "admin_token";
const WORD: &str = "admin token";
const UPDATE: &str = "update";

/// An operator, known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminPrincipal {
    /// The token's public id.
    pub token: AdminTokenId,
    /// An operator's.
    pub role: Role,
    /// Narrows it.
    pub scope: Arc<Scope>,
}

/// An operator's token. Holds nothing secret: it is what the audit log records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdminToken {
    /// `adm_` and its public part.
    pub id: AdminTokenId,
    /// For people; need not be unique.
    pub name: Name,
    /// What its holder may do.
    pub role: Role,
    /// Narrows that.
    pub scope: Scope,
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

/// A token to be made.
#[derive(Debug, Clone)]
pub struct CreateAdminToken {
    /// For people.
    pub name: Name,
    /// The platform's.
    pub role: Role,
    /// Narrows that.
    pub scope: Scope,
    /// Not usable from then on; `None`: until revoked.
    pub expires_at: Option<Micros>,
}

/// What can be changed of a token; `None` keeps.
#[derive(Debug, Clone, Default)]
pub struct UpdateAdminToken {
    /// For people.
    pub name: Option<Name>,
    /// The platform's.
    pub role: Option<Role>,
    /// The whole of it.
    pub scope: Option<Scope>,
    /// `Some(None)`: usable until revoked.
    pub expires_at: Option<Option<Micros>>,
}

/// A new admin token.
#[derive(Debug)]
pub struct CreatedAdminToken {
    /// All but its secret.
    pub token: AdminToken,
    /// `ckadm_…`; this is the only time that it is seen.
    pub text: SecretText,
    digest: DigestColumns,
}

/// A token's new secret.
#[derive(Debug)]
pub struct RotatedAdminToken {
    /// Which token.
    pub id: AdminTokenId,
    /// `ckadm_…`; this is the only time that it is seen.
    pub text: SecretText,
    /// The former secret is accepted until then; `None`: not any more.
    pub former_until: Option<Micros>,
    digest: DigestColumns,
}

/// What is done to a token.
#[derive(Debug)]
enum Step {
    Update(UpdateAdminToken),
    Rotate { digest: DigestColumns, former_until: Option<Micros> },
    Revoke,
}

impl CreateAdminToken {
    /// With all rights of an operator, until revoked.
    pub fn platform_admin(name: Name) -> CreateAdminToken {
        CreateAdminToken { name, role: Role::PlatformAdmin, scope: Scope::operators(), expires_at: None }
    }
}

impl CreatedAdminToken {
    /// A new one; not stored yet.
    ///
    /// # Errors
    /// `Invalid`, naming the field, for a role that is no operator's, a scope out of bounds, or an expiry in the past or
    /// more than ten years ahead.
    pub fn generate(
        secrets: &Secrets,
        input: CreateAdminToken,
        author: &Author,
        now: Micros,
    ) -> Result<CreatedAdminToken> {
        CreatedAdminToken::of(Bearer::generate(PREFIX), secrets, input, author, now)
    }

    fn of(
        bearer: Bearer,
        secrets: &Secrets,
        input: CreateAdminToken,
        author: &Author,
        now: Micros,
    ) -> Result<CreatedAdminToken> {
        check_operators(input.role, &input.scope)?;
        check_expiry(input.expires_at, now)?;
        let token = AdminToken {
            id: AdminTokenId::of(&bearer.id),
            name: input.name,
            role: input.role,
            scope: input.scope,
            created_by: author.id.clone(),
            version: 1,
            created_at: now,
            updated_at: now,
            expires_at: input.expires_at,
            revoked_at: None,
            previous_expires_at: None,
            last_used_at: None,
        };
        Ok(CreatedAdminToken { token, digest: bearer.digest(secrets), text: bearer.into_text() })
    }
}

impl RotatedAdminToken {
    /// A new secret for the token `id`; not stored yet. The former one is accepted for `overlap_seconds` more.
    ///
    /// # Errors
    /// `Invalid` for an overlap of more than 30 days.
    pub fn generate(
        secrets: &Secrets,
        id: &AdminTokenId,
        overlap_seconds: u32,
        now: Micros,
    ) -> Result<RotatedAdminToken> {
        let former_until = former_until(overlap_seconds, now)?;
        let bearer = Bearer::renew(PREFIX, id.public());
        Ok(RotatedAdminToken { id: id.clone(), digest: bearer.digest(secrets), text: bearer.into_text(), former_until })
    }
}

impl AdminToken {
    fn updated(&self, update: UpdateAdminToken, now: Micros) -> Result<AdminToken> {
        if let Some(expires_at) = update.expires_at {
            check_expiry(expires_at, now)?;
        }
        let after = AdminToken {
            name: update.name.unwrap_or_else(|| self.name.clone()),
            role: update.role.unwrap_or(self.role),
            scope: update.scope.unwrap_or_else(|| self.scope.clone()),
            expires_at: update.expires_at.unwrap_or(self.expires_at),
            ..self.clone()
        };
        check_operators(after.role, &after.scope)?;
        Ok(after)
    }

    fn bounds(&self) -> Bounds {
        Bounds { expires_at: self.expires_at, limits: Limits::default() }
    }

    /// Whether its holder can administer everything, at `now` and from `address`.
    fn administers(&self, now: Micros, address: Option<IpAddr>) -> bool {
        self.role == Role::PlatformAdmin
            && self.revoked_at.is_none()
            && self.expires_at.is_none_or(|at| at > now)
            && opens(&self.scope, address)
    }

    /// Whether it ends before `other` does.
    fn ends_before(&self, other: &AdminToken) -> bool {
        self.expires_at.is_some_and(|at| other.expires_at.is_none_or(|later| at < later))
    }

    fn row(&self) -> Result<OperatorRow> {
        Ok(OperatorRow {
            id: self.id.clone(),
            name: self.name.as_str().to_owned(),
            role: self.role.as_str().to_owned(),
            scope: serde_json::to_string(&self.scope).map_err(Error::internal)?,
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

impl TryFrom<OperatorRow> for AdminToken {
    type Error = Error;

    fn try_from(row: OperatorRow) -> Result<AdminToken> {
        Ok(AdminToken {
            role: stored_role(&row.role)?,
            scope: (*stored_scope(&row.scope)?).clone(),
            id: row.id,
            name: Name::stored(row.name),
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

/// By its id, revoked or not.
///
/// # Errors
/// `NotFound`; those of the store.
pub async fn admin_token(store: &Store, id: &AdminTokenId) -> Result<AdminToken> {
    store.admin_token(id).await?.ok_or_else(|| missing(WORD))?.try_into()
}

/// A page of them, in the order of their making.
///
/// # Errors
/// Those of the store.
pub async fn admin_tokens(
    store: &Store,
    filter: &OperatorFilter,
    after: Option<&AdminTokenId>,
    limit: i64,
) -> Result<Vec<AdminToken>> {
    store.admin_tokens(filter, after, limit).await?.into_iter().map(AdminToken::try_from).collect()
}

/// Stores a new token.
///
/// # Errors
/// `Forbidden`, naming what reaches further than its issuer; `Conflict` when the id is taken; those of the store.
pub async fn create_admin_token(change: Change<'_>, issuer: &Issuer, made: &CreatedAdminToken) -> Result<()> {
    issuer.check(made.token.role, &made.token.scope)?;
    let (token, digest) = (made.token.clone(), made.digest.clone());
    change.commit(move |tx| Box::pin(async move { insert(tx, &token, &digest).await })).await
}

/// Stores a platform administrator's token unless there is one that can be used, wherever from. `false` when there is.
///
/// # Errors
/// Those of the store.
pub async fn create_first_admin_token(change: Change<'_>, made: &CreatedAdminToken) -> Result<bool> {
    let (token, digest, now) = (made.token.clone(), made.digest.clone(), change.now);
    let work = change.commit(move |tx| {
        Box::pin(async move {
            lock(tx).await?;
            let known = tx.admin_token_scopes(None, now).await?;
            let scopes = known.iter().map(|scope| stored_scope(scope)).collect::<Result<Vec<_>>>()?;
            if scopes.iter().any(|scope| scope.operations.contains(&Operation::Administer)) {
                return Err(Error::new(ErrorKind::Conflict, "There is a platform administrator's token already."));
            }
            insert(tx, &token, &digest).await
        })
    });
    match work.await {
        Ok(()) => Ok(true),
        Err(error) if error.kind == ErrorKind::Conflict => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a token that the operator brings along valid, with all rights; one that is valid already stays as it is.
///
/// # Errors
/// `Invalid` when it is not of the form `ckadm_…` or its checksum is wrong; `Conflict` when its id is taken by another
/// token, or it was revoked; those of the store.
pub async fn register_admin_token(change: Change<'_>, name: Name, text: &str) -> Result<AdminTokenId> {
    let bearer = Bearer::parse(PREFIX, text).ok_or_else(|| {
        Error::invalid("CAPROCK_ADMIN_TOKEN", "An admin token has the form ckadm_<id 12>_<secret 32><crc 6>.")
    })?;
    match super::known::operator(change.store, change.secrets, change.now, text).await {
        Ok(principal) => return Ok(principal.token),
        Err(error) if matches!(error.kind, ErrorKind::Unauthenticated(_)) => {}
        Err(error) => return Err(error),
    }
    let input = CreateAdminToken::platform_admin(name);
    let made = CreatedAdminToken::of(bearer, change.secrets, input, change.author, change.now)?;
    create_admin_token(change, &Issuer::command(), &made).await?;
    Ok(made.token.id)
}

/// Changes a token, as it is after that. `expected` is the version that the caller has seen. What is as asked for already
/// gets no new version.
///
/// # Errors
/// `NotFound` unless it is there and not revoked; `Forbidden`, naming the field; `PreconditionFailed`; `Conflict` when
/// nobody could administer any more; `Invalid`; those of the store.
pub async fn update_admin_token(
    change: Change<'_>,
    issuer: &Issuer,
    id: &AdminTokenId,
    update: UpdateAdminToken,
    expected: Option<i64>,
) -> Result<AdminToken> {
    alter(change, issuer, id, Step::Update(update), expected).await
}

/// Gives a token its new secret.
///
/// # Errors
/// As those of [`update_admin_token`].
pub async fn rotate_admin_token(
    change: Change<'_>,
    issuer: &Issuer,
    rotated: &RotatedAdminToken,
    expected: Option<i64>,
) -> Result<AdminToken> {
    let step = Step::Rotate { digest: rotated.digest.clone(), former_until: rotated.former_until };
    alter(change, issuer, &rotated.id, step, expected).await
}

/// Revokes it, for good: the next authentication is refused. It can still be read.
///
/// # Errors
/// As those of [`update_admin_token`].
pub async fn revoke_admin_token(
    change: Change<'_>,
    issuer: &Issuer,
    id: &AdminTokenId,
    expected: Option<i64>,
) -> Result<AdminToken> {
    alter(change, issuer, id, Step::Revoke, expected).await
}

/// The one way in which a token changes. All such changes come one after the other, so of two that would each leave the
/// other's token as the last one, the second sees what the first did.
async fn alter(
    change: Change<'_>,
    issuer: &Issuer,
    id: &AdminTokenId,
    step: Step,
    expected: Option<i64>,
) -> Result<AdminToken> {
    let (issuer, id, now, address) = (issuer.clone(), id.clone(), change.now, change.author.address);
    change
        .commit(move |tx| {
            Box::pin(async move {
                lock(tx).await?;
                let row = tx.admin_token_for_change(&id).await?.ok_or_else(|| missing(WORD))?;
                let before = AdminToken::try_from(row)?;
                issuer.check(before.role, &before.scope)?;
                super::check_version(before.version, expected)?;
                let (verb, mut after) = take(tx, &issuer, &before, step, now).await?;
                if verb == UPDATE && after == before {
                    return Ok((after, None));
                }
                check_one_remains(tx, &before, &after, now, address).await?;
                (after.version, after.updated_at) = (before.version + 1, now);
                let record = Record::new(&format!("{TARGET}.{verb}"), None, (TARGET, id.as_str()));
                let record = record.before(&before).after(&after);
                Ok((after, Some(record)))
            })
        })
        .await
}

async fn take(
    tx: &mut Tx,
    issuer: &Issuer,
    before: &AdminToken,
    step: Step,
    now: Micros,
) -> Result<(&'static str, AdminToken)> {
    match step {
        Step::Update(update) => {
            let after = before.updated(update, now)?;
            issuer.check(after.role, &after.scope)?;
            issuer.check_own(before.id.as_str(), &before.bounds(), &after.bounds())?;
            if after != *before {
                tx.admin_token_update(&after.row()?, now).await?;
            }
            Ok((UPDATE, after))
        }
        Step::Rotate { digest, former_until } => {
            tx.admin_token_rotate(&before.id, &digest, former_until, now).await?;
            Ok(("rotate", AdminToken { previous_expires_at: former_until, ..before.clone() }))
        }
        Step::Revoke => {
            let after = AdminToken { revoked_at: Some(now), ..before.clone() };
            tx.admin_token_update(&after.row()?, now).await?;
            Ok(("revoke", after))
        }
    }
}

/// Refuses to take the last token with which everything can be administered from where this call came from, to narrow it,
/// or to let it end earlier. The token that changes counts itself when it stays as good as it was; another one must have
/// its operations, for nobody can give what they don't have.
async fn check_one_remains(
    tx: &mut Tx,
    before: &AdminToken,
    after: &AdminToken,
    now: Micros,
    address: Option<IpAddr>,
) -> Result<()> {
    let narrowed = before.scope.exceeds(&after.scope).is_some() || after.ends_before(before);
    let stays = after.administers(now, address) && !narrowed;
    if !before.administers(now, address) || stays {
        return Ok(());
    }
    for scope in tx.admin_token_scopes(Some(&before.id), now).await? {
        let scope = stored_scope(&scope)?;
        if opens(&scope, address) && before.scope.operations.is_subset(&scope.operations) {
            return Ok(());
        }
    }
    let text =
        "It is the last token with which this installation can be administered from here. Make another one first.";
    Err(Error::new(ErrorKind::Conflict, text))
}

/// Whether a platform administrator with this scope can administer from `address`.
fn opens(scope: &Scope, address: Option<IpAddr>) -> bool {
    scope.operations.contains(&Operation::Administer) && scope.lets_from(address)
}

/// The end of the audit log's chain, which the entry needs anyway, taken first.
async fn lock(tx: &mut Tx) -> Result<()> {
    tx.audit_head_lock().await.map(drop)
}

async fn insert(tx: &mut Tx, token: &AdminToken, digest: &DigestColumns) -> Result<((), Record)> {
    tx.admin_token_create(&token.row()?, digest).await?;
    let action = format!("{TARGET}.create");
    Ok(((), Record::new(&action, None, (TARGET, token.id.as_str())).after(token)))
}
