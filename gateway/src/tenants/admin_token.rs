//! Operators' tokens: `ckadm_…`, for the admin API. They belong to no tenant and see all.

use super::bearer::Bearer;
use super::expiry::{check_expiry, former_until};
use super::issuer::{Bounds, check_operators};
use super::{Name, Operation, Role, Scope, missing, stored_role, stored_scope};
use crate::audit::Author;
use crate::clock::Micros;
use crate::error::{Error, Result};
use crate::id::AdminTokenId;
use crate::quota::Limits;
use crate::secrets::{SecretText, Secrets};
use crate::store::{DigestColumns, OperatorFilter, OperatorRow, Store};
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;

pub(super) const PREFIX: &str = "ckadm";
pub(super) const WORD: &str = "admin token";

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

impl AdminPrincipal {
    /// Whether it may do all that an operator can, wherever it calls from.
    pub fn may_do_all(&self) -> bool {
        self.role == Role::PlatformAdmin && Scope::operators().exceeds(&self.scope).is_none()
    }
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
    pub(super) digest: DigestColumns,
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
    pub(super) digest: DigestColumns,
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

    pub(super) fn of(
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
    pub(super) fn updated(&self, update: UpdateAdminToken, now: Micros) -> Result<AdminToken> {
        // Sent back as it is, an expiry that has passed meanwhile is no mistake.
        if let Some(expires_at) = update.expires_at.filter(|expires_at| *expires_at != self.expires_at) {
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

    pub(super) fn bounds(&self) -> Bounds {
        Bounds { expires_at: self.expires_at, limits: Limits::default() }
    }

    /// Whether its holder can administer everything, at `now` and from `address`.
    pub(super) fn administers(&self, now: Micros, address: Option<IpAddr>) -> bool {
        self.role == Role::PlatformAdmin
            && self.revoked_at.is_none()
            && self.expires_at.is_none_or(|at| at > now)
            && opens(&self.scope, address)
    }

    /// Whether nothing but its end differs from `before`'s, and it is no later.
    pub(super) fn only_tightens(&self, before: &AdminToken) -> bool {
        let alike = AdminToken { expires_at: before.expires_at, ..self.clone() };
        alike == *before && before.bounds().loosened_by(&self.bounds()).is_none()
    }

    /// Whether it ends before `other` does.
    pub(super) fn ends_before(&self, other: &AdminToken) -> bool {
        self.expires_at.is_some_and(|at| other.expires_at.is_none_or(|later| at < later))
    }

    pub(super) fn row(&self) -> Result<OperatorRow> {
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

/// Whether a platform administrator with this scope can administer from `address`.
pub(super) fn opens(scope: &Scope, address: Option<IpAddr>) -> bool {
    scope.operations.contains(&Operation::Administer) && scope.lets_from(address)
}
