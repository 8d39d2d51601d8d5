//! The ways in which operators' tokens are made, changed, rotated and revoked.
//!
//! One platform administrator's token always remains that is accepted where the change came from: whoever could take the
//! last one away would lock everybody out, and with two at once nobody would have meant to.

use super::admin_token::{PREFIX, WORD, opens};
use super::bearer::Bearer;
use super::{
    AdminToken, CreateAdminToken, CreatedAdminToken, Issuer, Name, Operation, RotatedAdminToken, UpdateAdminToken,
    missing, stored_scope,
};
use crate::audit::{Change, Record};
use crate::clock::Micros;
use crate::error::{Error, ErrorKind, Result};
use crate::id::AdminTokenId;
use crate::store::{DigestColumns, Tx};
use std::net::IpAddr;

/// As the audit log names it.
const TARGET: &str = "admin_token";
const UPDATE: &str = "update";
/// Where operators bring one along.
const GIVEN: &str = "CAPROCK_ADMIN_TOKEN";

/// What is done to a token.
#[derive(Debug)]
enum Step {
    Update(UpdateAdminToken),
    Rotate { digest: DigestColumns, former_until: Option<Micros> },
    Revoke,
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
/// `Invalid` when it is not of the form `ckadm_…`, its checksum is wrong, or it is valid but can't do all that an operator
/// can; `Conflict` when its id is taken by another token, or it was revoked or has expired; those of the store.
pub async fn register_admin_token(change: Change<'_>, name: Name, text: &str) -> Result<AdminTokenId> {
    let bearer = Bearer::parse(PREFIX, text)
        .ok_or_else(|| Error::invalid(GIVEN, "An admin token has the form ckadm_<id 12>_<secret 32><crc 6>."))?;
    match super::known::operator(change.store, change.secrets, change.now, text).await {
        Ok(principal) if principal.may_do_all() => return Ok(principal.token),
        Ok(_) => {
            let text = "The token in CAPROCK_ADMIN_TOKEN is a viewer's, or narrowed. Give a platform administrator's, \
                        with the operations read_usage and administer and no ranges of addresses.";
            return Err(Error::invalid(GIVEN, text));
        }
        Err(error) if matches!(error.kind, ErrorKind::Unauthenticated(_)) => {}
        Err(error) => return Err(error),
    }
    let input = CreateAdminToken::platform_admin(name);
    let made = CreatedAdminToken::of(bearer, change.secrets, input, change.author, change.now)?;
    let taken = |error: Error| match error.kind {
        ErrorKind::Conflict => {
            let text = "The token in CAPROCK_ADMIN_TOKEN was revoked, has expired, or has the id of another one.";
            Error::new(ErrorKind::Conflict, text).about(GIVEN)
        }
        _ => error,
    };
    create_admin_token(change, &Issuer::command(), &made).await.map_err(taken)?;
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
                issuer.check_role(before.role)?;
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
            if !after.only_tightens(before) {
                issuer.check(before.role, &before.scope)?;
                issuer.check(after.role, &after.scope)?;
            }
            issuer.check_own(before.id.as_str(), &before.bounds(), &after.bounds())?;
            if after != *before {
                tx.admin_token_update(&after.row()?, now).await?;
            }
            Ok((UPDATE, after))
        }
        Step::Rotate { digest, former_until } => {
            issuer.check(before.role, &before.scope)?;
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

/// The end of the audit log's chain, which the entry needs anyway, taken first.
async fn lock(tx: &mut Tx) -> Result<()> {
    tx.audit_head_lock().await.map(drop)
}

async fn insert(tx: &mut Tx, token: &AdminToken, digest: &DigestColumns) -> Result<((), Record)> {
    tx.admin_token_create(&token.row()?, digest).await?;
    let action = format!("{TARGET}.create");
    Ok(((), Record::new(&action, None, (TARGET, token.id.as_str())).after(token)))
}
