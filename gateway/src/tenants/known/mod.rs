//! Credentials as they are checked: read from the store once, then verified at each use against the clock and what the
//! caller presents. The store only gives what may be used at the time of reading; how long that stays so is for `auth`.

mod access_key;
mod admin_token;
mod api_key;
mod service_account;

use super::bearer::Bearer;
use super::{Role, stored_role, stored_scope};
use crate::auth::Principal;
use crate::catalog::Access;
use crate::clock::Micros;
use crate::error::{Error, Result};
use crate::id::KeyId;
use crate::quota::Hierarchy;
use crate::secrets::Secrets;
use crate::store::{DigestColumns, FormerDigest, Owner};
use std::sync::Arc;

pub use access_key::{AccessKey, AccessKeyId, KnownAccessKey, access_key};
pub(super) use admin_token::operator;
pub use admin_token::{KnownAdminToken, PresentedAdminToken, authenticate_admin_token};
pub use api_key::{KnownApiKey, PresentedApiKey, authenticate_api_key};
pub use service_account::KnownServiceAccount;

/// Whose a tenant's credential is, what it may do, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// With the role and the scope that count: of a service account's key those in which both meet.
    pub principal: Principal,
    /// The earliest end of all that it depends on; `None`: until revoked.
    expires_at: Option<Micros>,
}

impl Identity {
    #[cfg(test)]
    pub(crate) fn of(principal: Principal) -> Identity {
        Identity { principal, expires_at: None }
    }

    fn read(key: KeyId, owner: Owner) -> Result<Identity> {
        let (mut role, mut scope) = (stored_role(&owner.role)?, stored_scope(&owner.scope)?);
        // At use, not only when the key was made: the account may have been narrowed since.
        if let (Some(account_role), Some(account_scope)) = (&owner.account_role, &owner.account_scope) {
            role = role.meet(stored_role(account_role)?).ok_or_else(|| Error::internal(super::Unreadable("role")))?;
            scope = Arc::new(scope.meet(&*stored_scope(account_scope)?));
        }
        // A tenant's credential with a role of the platform can only be a mistake, and must not become a hole.
        if Role::is_platform(role) {
            return Err(Error::internal(super::Unreadable("role")));
        }
        let expires_at = [owner.expires_at, owner.account_expires_at].into_iter().flatten().min();
        let principal = Principal {
            tenant: owner.tenant_id,
            project: owner.project_id,
            key,
            service_account: owner.service_account_id,
            limits: Hierarchy {
                tenant: owner.limits.into(),
                project: owner.project_limits.into(),
                key: owner.key_limits.into(),
            },
            access: Arc::new(Access::from_stored(
                owner.tenant_model_access.as_deref(),
                owner.project_model_access.as_deref(),
                scope.models.as_deref(),
            )?),
            role,
            scope,
        };
        Ok(Identity { principal, expires_at })
    }

    /// Whether it has not expired.
    pub fn is_live(&self, now: Micros) -> bool {
        is_live(self.expires_at, now)
    }
}

fn is_live(expires_at: Option<Micros>, now: Micros) -> bool {
    expires_at.is_none_or(|at| at > now)
}

/// What bearer credentials are compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Digests {
    current: (String, i64),
    /// Until it ends, the secret from before the last rotation is as good.
    former: FormerDigest,
}

/// A digest that a newer pepper has made, to be put in the place of an older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redigest {
    /// As it is stored.
    pub old: String,
    /// In hex.
    pub new: String,
    /// The pepper of the new one.
    pub pepper_version: i64,
}

impl Digests {
    /// Whether `bearer` has the secret, or the former one while that is accepted.
    fn fit(&self, secrets: &Secrets, now: Micros, bearer: &Bearer) -> bool {
        let (digest, version) = &self.current;
        bearer.matches_either(secrets, Some((digest, *version)), Some(&self.former), now)
    }

    /// Set when `bearer` has the current secret and an older pepper made its digest.
    fn redigest(&self, secrets: &Secrets, bearer: &Bearer) -> Option<Redigest> {
        let (old, version) = &self.current;
        let DigestColumns { digest: new, pepper_version } = bearer.digest(secrets);
        let due = *version != pepper_version && bearer.matches(secrets, Some((old, *version)));
        due.then(|| Redigest { old: old.clone(), new, pepper_version })
    }
}

#[cfg(test)]
mod tests;
