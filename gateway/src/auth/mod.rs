//! Who is calling: credentials in, [`Principal`] out.

use crate::id::{KeyId, ProjectId, TenantId};
use crate::quota::Limits;

/// The caller, known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Isolated and billed.
    pub tenant: TenantId,
    /// Whose key it is.
    pub project: ProjectId,
    /// The credential's public id.
    pub key: KeyId,
    /// In force for the tenant.
    pub limits: Limits,
}
