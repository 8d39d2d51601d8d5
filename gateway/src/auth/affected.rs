//! What an administrator's change is about, as far as credentials in use depend on it.

use crate::id::{AdminTokenId, KeyId, ProjectId, ServiceAccountId, TenantId};
use crate::tenants::Identity;

/// What changed, or ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Affected {
    /// An API key or an access key.
    Key(KeyId),
    /// A service account, and with it all its keys.
    ServiceAccount(ServiceAccountId),
    /// A project, and with it all its keys.
    Project(ProjectId),
    /// A tenant, and with it all its keys.
    Tenant(TenantId),
    /// An operator's token.
    AdminToken(AdminTokenId),
    /// Whatever it is, this version doesn't know it.
    Everything,
}

impl Affected {
    /// Whether a credential of this identity depends on it.
    pub fn concerns(&self, identity: &Identity) -> bool {
        match self {
            Affected::Key(id) => identity.principal.key == *id,
            Affected::ServiceAccount(id) => identity.principal.service_account.as_ref() == Some(id),
            Affected::Project(id) => identity.principal.project == *id,
            Affected::Tenant(id) => identity.principal.tenant == *id,
            Affected::AdminToken(_) => false,
            Affected::Everything => true,
        }
    }
}
