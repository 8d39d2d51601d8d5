//! Tenants, projects and credentials: rules and life cycle. The admin API, the CLI and bootstrap all come through here.
//!
//! Two kinds of credential are kept differently: bearer keys as a keyed digest, for only equality matters; SigV4 secrets
//! sealed, for verifying a signature needs the secret itself. Whatever is wrong with one (unknown, revoked, expired, its
//! tenant suspended) the caller hears the same.

mod access_key;
mod account_bounds;
mod admin_token;
mod admin_token_changes;
mod api_key;
mod bearer;
pub(crate) mod caps;
mod credential;
mod credential_changes;
mod expiry;
mod issuer;
mod known;
mod limits;
mod permission;
mod project;
mod role;
mod scope;
mod service_account;
mod tenant;

use crate::catalog::ModelAccess;
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;

pub use access_key::{
    CreatedAccessKey, RotatedAccessKey, access_key_id, access_key_of, access_keys, create_access_key,
    revoke_access_key, rotate_access_key, update_access_key,
};
pub(crate) use account_bounds::missing_account;
pub use account_bounds::{AccountBounds, account_bounds};
pub use admin_token::{
    AdminPrincipal, AdminToken, CreateAdminToken, CreatedAdminToken, RotatedAdminToken, UpdateAdminToken, admin_token,
    admin_tokens,
};
pub use admin_token_changes::{
    create_admin_token, create_first_admin_token, register_admin_token, revoke_admin_token, rotate_admin_token,
    update_admin_token,
};
pub use api_key::{
    CreatedApiKey, RotatedApiKey, api_key, api_keys, create_api_key, revoke_api_key, rotate_api_key, update_api_key,
};
pub use credential::{CreateCredential, Credential, KeyKind, UpdateCredential};
pub use expiry::MAX_OVERLAP_SECONDS;
pub use issuer::Issuer;
pub use known::{
    AccessKey, AccessKeyId, Identity, KnownAccessKey, KnownAdminToken, KnownApiKey, KnownServiceAccount,
    PresentedAdminToken, PresentedApiKey, Redigest, access_key, authenticate_admin_token, authenticate_api_key,
};
pub use limits::{MAX_LIMIT, key_limits, set_key_limits};
pub use permission::{Operation, Permission};
pub use project::{Project, UpdateProject, create_project, delete_project, project, projects, update_project};
pub use role::Role;
pub use scope::{DialectFamily, Scope};
pub use service_account::{
    CreateServiceAccount, FederatedIdentity, ServiceAccount, UpdateServiceAccount, create_service_account,
    delete_service_account, service_account, service_accounts, update_service_account,
};
pub use tenant::{Status, Tenant, UpdateTenant, create_tenant, delete_tenant, tenant, tenants, update_tenant};

/// What people call a tenant, project or credential: 1 to 64 characters, none of them a control character, no white
/// space around them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// Most characters.
    pub const MAX_CHARS: usize = 64;

    /// From a caller's text; white space around it is dropped.
    ///
    /// # Errors
    /// `Invalid`, naming the field `name`.
    pub fn parse(text: &str) -> Result<Name> {
        let text = text.trim();
        let fits = (1..=Self::MAX_CHARS).contains(&text.chars().count());
        if !fits || text.chars().any(char::is_control) {
            let rule = format!("A name has 1 to {} characters, none of them a control character.", Self::MAX_CHARS);
            return Err(Error::invalid("name", rule));
        }
        Ok(Name(text.to_owned()))
    }

    /// From the store, where only checked names are.
    fn stored(text: String) -> Name {
        Name(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A role as it is stored.
fn stored_role(text: &str) -> Result<Role> {
    Role::parse(text).ok_or_else(|| Error::internal(Unreadable("role")))
}

/// A scope as it is stored.
fn stored_scope(text: &str) -> Result<Arc<Scope>> {
    serde_json::from_str(text).map(Arc::new).map_err(|_| Error::internal(Unreadable("scope")))
}

/// Model access as its column holds it.
fn access_column(access: &ModelAccess) -> Result<Option<String>> {
    access.patterns().map(serde_json::to_string).transpose().map_err(Error::internal)
}

/// Model access as it is stored. Only this program writes it; were it not to be read, it would allow nothing.
fn stored_access(text: Option<&str>) -> ModelAccess {
    let Some(text) = text else { return ModelAccess::ALL };
    let patterns = serde_json::from_str(text).unwrap_or_default();
    ModelAccess::only(patterns).or_else(|_| ModelAccess::only(Vec::new())).unwrap_or_default()
}

/// Something that only this program writes can't be read: not by accident more may be allowed than was meant.
#[derive(Debug, thiserror::Error)]
#[error("a credential's {0} can't be read")]
struct Unreadable(&'static str);

/// `Ok` when a row was found and changed.
fn found(done: bool, what: &str) -> Result<()> {
    if done { Ok(()) } else { Err(missing(what)) }
}

/// The same for what was never there, is deleted, or is another tenant's.
pub(crate) fn missing(what: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("No such {what}."))
}

/// Refuses a change to something that its caller has seen in another version.
fn check_version(version: i64, expected: Option<i64>) -> Result<()> {
    match expected {
        Some(expected) if expected != version => {
            let text = "It was changed in the meantime. Read it again, and send its ETag as If-Match.";
            Err(Error::new(ErrorKind::PreconditionFailed, text))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod admin_token_tests;
#[cfg(test)]
mod credential_tests;
#[cfg(test)]
mod tests;
