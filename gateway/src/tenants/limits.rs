//! Limits: their bound, and those of keys. Tenants' and projects' are set with the rest of them.

use super::issuer::Issuer;
use super::{check_version, missing, stored_role, stored_scope};
use crate::audit::{Change, Record};
use crate::error::{Error, Result};
use crate::id::{KeyId, ProjectId, TenantId};
use crate::quota::Limits;
use crate::store::{KeyLimitsRow, Store};
use serde::Serialize;

/// Highest limit: JSON's numbers are exact up to here everywhere.
pub const MAX_LIMIT: u64 = 1 << 53;

/// Kinds of key, which are stored apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// `ck_…`
    ApiKey,
    /// SigV4's.
    AccessKey,
}

/// A key's limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyLimits {
    /// The key's id.
    #[serde(rename = "id")]
    pub key: KeyId,
    /// Whose limits hold too.
    #[serde(rename = "project_id")]
    pub project: ProjectId,
    /// Its own.
    pub limits: Limits,
    /// Counts the key's changes, from 1.
    pub version: i64,
}

impl KeyKind {
    /// As the audit log spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyKind::ApiKey => "api_key",
            KeyKind::AccessKey => "access_key",
        }
    }

    fn limits_action(self) -> &'static str {
        match self {
            KeyKind::ApiKey => "api_key.limits",
            KeyKind::AccessKey => "access_key.limits",
        }
    }

    fn missing(self) -> Error {
        match self {
            KeyKind::ApiKey => missing("API key"),
            KeyKind::AccessKey => missing("access key"),
        }
    }
}

impl From<&KeyLimitsRow> for KeyLimits {
    fn from(row: &KeyLimitsRow) -> KeyLimits {
        let (key, project) = (row.id.clone(), row.project_id.clone());
        KeyLimits { key, project, limits: row.limits.into(), version: row.version }
    }
}

/// Within their bound; `place` stands before the field's name.
///
/// # Errors
/// `Invalid`, naming the limit.
pub(super) fn check_limits(limits: &Limits, place: &str) -> Result<()> {
    let fields = [
        ("requests_per_minute", limits.requests_per_minute),
        ("tokens_per_minute", limits.tokens_per_minute),
        ("concurrent_requests", limits.concurrent_requests),
    ];
    match fields.into_iter().find(|(_, limit)| limit.is_some_and(|limit| limit > MAX_LIMIT)) {
        Some((field, _)) => {
            Err(Error::invalid(format!("{place}{field}"), format!("A limit is at most {MAX_LIMIT} (2⁵³).")))
        }
        None => Ok(()),
    }
}

/// A key's.
///
/// # Errors
/// `NotFound` unless the tenant has it and it is not revoked; those of the store.
pub async fn key_limits(store: &Store, kind: KeyKind, tenant: &TenantId, key: &KeyId) -> Result<KeyLimits> {
    let row = match kind {
        KeyKind::ApiKey => store.api_key_limits(tenant, key).await?,
        KeyKind::AccessKey => store.access_key_limits(tenant, key).await?,
    };
    row.as_ref().map(KeyLimits::from).ok_or_else(|| kind.missing())
}

/// Replaces a key's, on behalf of `issuer`. `expected` is the version that the caller has seen. What is as asked for
/// already gets no new version.
///
/// # Errors
/// `NotFound`; `Forbidden`, naming the field, for a key that reaches further than its issuer's, and for widening the very
/// key in use; `PreconditionFailed` when it has another version by now; `Invalid` for a limit beyond 2⁵³; those of the
/// store.
pub async fn set_key_limits(
    change: Change<'_>,
    issuer: &Issuer,
    (kind, tenant, key): (KeyKind, &TenantId, &KeyId),
    limits: Limits,
    expected: Option<i64>,
) -> Result<KeyLimits> {
    check_limits(&limits, "")?;
    let (issuer, tenant, key, now) = (issuer.clone(), tenant.clone(), key.clone(), change.now);
    change
        .commit(move |tx| {
            Box::pin(async move {
                let found = match kind {
                    KeyKind::ApiKey => tx.api_key_limits_for_change(&tenant, &key).await?,
                    KeyKind::AccessKey => tx.access_key_limits_for_change(&tenant, &key).await?,
                };
                let mut row = found.ok_or_else(|| kind.missing())?;
                let before = KeyLimits::from(&row);
                issuer.check(stored_role(&row.role)?, &*stored_scope(&row.scope)?)?;
                issuer.check_own_limits(key.as_str(), &before.limits, &limits)?;
                check_version(row.version, expected)?;
                if before.limits == limits {
                    return Ok((before, None));
                }
                row.limits = limits.try_into()?;
                match kind {
                    KeyKind::ApiKey => tx.api_key_limits_update(&tenant, &row, now).await?,
                    KeyKind::AccessKey => tx.access_key_limits_update(&tenant, &row, now).await?,
                }
                let after = KeyLimits { limits, version: before.version + 1, ..before.clone() };
                let target = (kind.as_str(), key.as_str());
                let record = Record::new(kind.limits_action(), Some(&tenant), target).before(&before).after(&after);
                Ok((after, Some(record)))
            })
        })
        .await
}
