//! Callers, known.

use crate::audit::{Author, AuthorKind};
use crate::catalog::Access;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{KeyId, ProjectId, RequestId, ServiceAccountId, TenantId};
use crate::quota::Hierarchy;
use crate::tenants::{AdminPrincipal, Issuer, Permission, Role, Scope};
use std::net::IpAddr;
use std::sync::Arc;

/// A tenant's caller, known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Isolated and billed.
    pub tenant: TenantId,
    /// Whose key it is.
    pub project: ProjectId,
    /// The credential's public id.
    pub key: KeyId,
    /// Whose key it is, when it is a machine's.
    pub service_account: Option<ServiceAccountId>,
    /// In force for the tenant, the project and the key.
    pub limits: Hierarchy,
    /// Models that it may call.
    pub access: Arc<Access>,
    /// What its holder may do.
    pub role: Role,
    /// What the credential is narrowed to.
    pub scope: Arc<Scope>,
}

/// A caller of the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Of the platform; belongs to no tenant.
    Operator(AdminPrincipal),
    /// Of the platform, by the word of a trusted issuer.
    Federated(FederatedOperator),
    /// Of a tenant; reaches no further than it.
    Tenant(Principal),
}

/// An operator by the word of a trusted issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedOperator {
    /// The token's `iss`.
    pub issuer: String,
    /// The token's `sub`.
    pub subject: String,
    /// From the configuration.
    pub role: Role,
    /// All that an operator's token can be used for.
    pub scope: Arc<Scope>,
}

impl Caller {
    /// With which rights.
    pub fn role(&self) -> Role {
        match self {
            Caller::Operator(operator) => operator.role,
            Caller::Federated(operator) => operator.role,
            Caller::Tenant(principal) => principal.role,
        }
    }

    /// Narrowed to what.
    pub fn scope(&self) -> &Scope {
        match self {
            Caller::Operator(operator) => &operator.scope,
            Caller::Federated(operator) => &operator.scope,
            Caller::Tenant(principal) => &principal.scope,
        }
    }

    /// Whether role and scope both let it through.
    ///
    /// # Errors
    /// `Forbidden`, saying which of the two does not.
    pub fn check(&self, permission: Permission) -> Result<()> {
        check(self.role(), self.scope(), permission)
    }

    /// As whoever makes or touches credentials.
    pub fn issuer(&self) -> Issuer {
        let (role, scope) = (self.role(), self.scope().clone());
        match self {
            Caller::Operator(operator) => Issuer::new(role, scope, operator.token.as_str()),
            // Not a credential of the database, so not one that could be changed with it.
            Caller::Federated(operator) => Issuer::new(role, scope, &operator.subject),
            Caller::Tenant(principal) => Issuer::new(role, scope, principal.key.as_str())
                .held_to(principal.limits.key, principal.service_account.clone()),
        }
    }

    /// As the audit log names it.
    pub fn author(&self, address: Option<IpAddr>, request_id: Option<RequestId>) -> Author {
        let (kind, id, tenant_id) = match self {
            Caller::Operator(operator) => (AuthorKind::AdminToken, operator.token.to_string(), None),
            Caller::Federated(operator) => {
                (AuthorKind::Jwt, format!("{} at {}", operator.subject, operator.issuer), None)
            }
            Caller::Tenant(caller) => (AuthorKind::ApiKey, caller.key.to_string(), Some(caller.tenant.clone())),
        };
        Author { kind, id, role: self.role(), tenant_id, address, request_id }
    }
}

impl Principal {
    /// Whether role and scope both let it through.
    ///
    /// # Errors
    /// `Forbidden`, saying which of the two does not.
    pub fn check(&self, permission: Permission) -> Result<()> {
        check(self.role, &self.scope, permission)
    }
}

fn check(role: Role, scope: &Scope, permission: Permission) -> Result<()> {
    if !role.has(permission) {
        return Err(forbidden(permission));
    }
    if !scope.lets(permission) {
        let operation = permission.operation().as_str();
        let text = format!("This credential's scope does not include the operation {operation}.");
        return Err(Error::new(ErrorKind::Forbidden, text));
    }
    Ok(())
}

/// What a caller hears whose role lacks a permission.
pub fn forbidden(permission: Permission) -> Error {
    let text = format!("This credential's role does not have the permission {}.", permission.as_str());
    Error::new(ErrorKind::Forbidden, text)
}
