//! Who makes a change, and from where.

use crate::id::{RequestId, TenantId};
use crate::tenants::Role;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::ToSchema;

/// Who makes a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// What kind of caller.
    pub kind: AuthorKind,
    /// The credential's public id; for programs on the machine their name.
    pub id: String,
    /// With which rights.
    pub role: Role,
    /// Whose credential it is; absent: the platform's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// Where the call came from; absent for programs on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The call's id, as its reply says; absent for programs on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
}

/// Kinds of author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthorKind {
    /// An operator's token.
    AdminToken,
    /// A tenant's API key.
    ApiKey,
    /// A JWT, as a service account or an operator.
    Jwt,
    /// A command on the machine itself.
    Command,
}

impl Author {
    /// A command that runs on the machine, with all rights.
    pub fn command(name: &str) -> Author {
        Author {
            kind: AuthorKind::Command,
            id: name.to_owned(),
            role: Role::PlatformAdmin,
            tenant_id: None,
            address: None,
            request_id: None,
        }
    }
}
