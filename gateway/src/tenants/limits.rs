//! Limits: their bound, and those of keys. Tenants' and projects' are set with the rest of them.

use super::credential_changes::{self as changes, Step};
use super::{Credential, Issuer, KeyKind, access_key_of, api_key, project};
use crate::audit::Change;
use crate::error::{Error, Result};
use crate::id::{KeyId, TenantId};
use crate::quota::Limits;
use crate::store::Store;

/// Highest limit: JSON's numbers are exact up to here everywhere.
pub const MAX_LIMIT: u64 = 1 << 53;

/// All three, by name.
pub(super) fn fields(limits: &Limits) -> [(&'static str, Option<u64>); 3] {
    [
        ("requests_per_minute", limits.requests_per_minute),
        ("tokens_per_minute", limits.tokens_per_minute),
        ("concurrent_requests", limits.concurrent_requests),
    ]
}

/// Within their bound; `place` stands before the field's name.
///
/// # Errors
/// `Invalid`, naming the limit.
pub(super) fn check_limits(limits: &Limits, place: &str) -> Result<()> {
    match fields(limits).into_iter().find(|(_, limit)| limit.is_some_and(|limit| limit > MAX_LIMIT)) {
        Some((field, _)) => {
            Err(Error::invalid(format!("{place}{field}"), format!("A limit is at most {MAX_LIMIT} (2⁵³).")))
        }
        None => Ok(()),
    }
}

/// A key with its limits.
///
/// # Errors
/// `NotFound` unless the tenant has it and it is not revoked, nor its project deleted; those of the store.
pub async fn key_limits(store: &Store, kind: KeyKind, tenant: &TenantId, id: &KeyId) -> Result<Credential> {
    let key = match kind {
        KeyKind::ApiKey => api_key(store, tenant, id).await?,
        KeyKind::AccessKey => access_key_of(store, tenant, id).await?,
    };
    let ended = key.revoked_at.is_some() || project(store, tenant, &key.project).await?.deleted_at.is_some();
    if ended { Err(kind.missing()) } else { Ok(key) }
}

/// Replaces a key's, on behalf of `issuer`. `expected` is the version that the caller has seen. What is as asked for
/// already gets no new version.
///
/// # Errors
/// `NotFound`; `Forbidden`, naming the limit or what else is beyond the issuer; `PreconditionFailed` when it has another
/// version by now; `Invalid` for a limit beyond 2⁵³; those of the store.
pub async fn set_key_limits(
    change: Change<'_>,
    issuer: &Issuer,
    (kind, tenant, key): (KeyKind, &TenantId, &KeyId),
    limits: Limits,
    expected: Option<i64>,
) -> Result<Credential> {
    changes::alter(change, kind, issuer, (tenant, key), Step::Limits(limits), expected).await
}
