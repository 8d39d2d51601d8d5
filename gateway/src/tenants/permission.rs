//! What a caller may do, as one closed list: each operation of the APIs names the one it needs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A right. [`super::Role`] says who has it, [`Permission::operation`] which scope lets it through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Run a model.
    Infer,
    /// List models on the data plane.
    ReadModels,
    /// See a tenant, its projects, limits and model access.
    ReadSettings,
    /// Make, change and delete projects; set limits and model access of projects and keys.
    WriteSettings,
    /// See service accounts and keys, never a secret.
    ReadCredentials,
    /// Make, change, rotate and revoke service accounts and keys.
    WriteCredentials,
    /// See usage.
    ReadUsage,
    /// See what became of requests.
    ReadRequests,
    /// See who changed what.
    ReadAudit,
    /// See what belongs to no tenant: the list of tenants, the catalog, workers, operators.
    ReadPlatform,
    /// Make, suspend and delete tenants; set their limits and model access.
    ManageTenants,
    /// Change the catalog.
    ManageCatalog,
    /// Make and revoke operators' tokens.
    ManageOperators,
}

impl Permission {
    /// All of them, for tables and tests.
    pub const ALL: [Permission; 13] = [
        Permission::Infer,
        Permission::ReadModels,
        Permission::ReadSettings,
        Permission::WriteSettings,
        Permission::ReadCredentials,
        Permission::WriteCredentials,
        Permission::ReadUsage,
        Permission::ReadRequests,
        Permission::ReadAudit,
        Permission::ReadPlatform,
        Permission::ManageTenants,
        Permission::ManageCatalog,
        Permission::ManageOperators,
    ];

    /// As the OpenAPI documents spell it (`x-permission`).
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::Infer => "infer",
            Permission::ReadModels => "read_models",
            Permission::ReadSettings => "read_settings",
            Permission::WriteSettings => "write_settings",
            Permission::ReadCredentials => "read_credentials",
            Permission::WriteCredentials => "write_credentials",
            Permission::ReadUsage => "read_usage",
            Permission::ReadRequests => "read_requests",
            Permission::ReadAudit => "read_audit",
            Permission::ReadPlatform => "read_platform",
            Permission::ManageTenants => "manage_tenants",
            Permission::ManageCatalog => "manage_catalog",
            Permission::ManageOperators => "manage_operators",
        }
    }

    /// The operation that a credential's scope must include.
    pub fn operation(self) -> Operation {
        match self {
            Permission::Infer => Operation::Inference,
            Permission::ReadModels => Operation::ControlPlane,
            Permission::ReadUsage | Permission::ReadRequests => Operation::ReadUsage,
            Permission::ReadSettings
            | Permission::WriteSettings
            | Permission::ReadCredentials
            | Permission::WriteCredentials
            | Permission::ReadAudit
            | Permission::ReadPlatform
            | Permission::ManageTenants
            | Permission::ManageCatalog
            | Permission::ManageOperators => Operation::Administer,
        }
    }
}

/// What a scope can let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Running models.
    Inference,
    /// Listing models and the rest of Bedrock's control plane.
    ControlPlane,
    /// Reading usage and requests.
    ReadUsage,
    /// Everything else of the admin API; the role says how much of it.
    Administer,
}

impl Operation {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Inference => "inference",
            Operation::ControlPlane => "control_plane",
            Operation::ReadUsage => "read_usage",
            Operation::Administer => "administer",
        }
    }
}
