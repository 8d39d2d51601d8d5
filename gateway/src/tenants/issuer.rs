//! What whoever makes, changes or deletes a credential must stay within.
//!
//! Role and scope of the credential are checked as they are and as they will be, so nobody can take over one that is
//! mightier than their own, or widen any, least of all the one that they are using.

use super::{Role, Scope};
use crate::error::{Error, ErrorKind, Result};

/// Whoever makes or touches a credential.
#[derive(Debug, Clone)]
pub struct Issuer {
    role: Role,
    /// `None`: narrowed to nothing.
    scope: Option<Scope>,
}

impl Issuer {
    /// The holder of a credential, with its public id.
    pub fn new(role: Role, scope: Scope, _credential: &str) -> Issuer {
        Issuer { role, scope: Some(scope) }
    }

    /// A command on the machine, which could as well write to the database.
    pub fn command() -> Issuer {
        Issuer { role: Role::PlatformAdmin, scope: None }
    }

    /// Whether it may hand out, or take into its hands, a credential with this role and scope. An operator may give a
    /// tenant's credential any scope: what tenants do is not in an operator's own.
    ///
    /// # Errors
    /// `Forbidden`, naming `role` or the field below `scope`.
    pub fn check(&self, role: Role, scope: &Scope) -> Result<()> {
        if !self.role.covers(role) {
            let text = format!("Your role may neither make nor touch a credential with the role {}.", role.as_str());
            return Err(Error::new(ErrorKind::Forbidden, text).about("role"));
        }
        let bounded = role.is_platform() || !self.role.is_platform();
        let bound = self.scope.as_ref().filter(|_| bounded);
        match bound.and_then(|bound| scope.exceeds(bound)) {
            Some(field) => {
                let text = "It reaches further than the scope of the credential that you are using.";
                Err(Error::new(ErrorKind::Forbidden, text).about(field))
            }
            None => Ok(()),
        }
    }
}

/// Whether a tenant's credential can have this role and scope.
///
/// # Errors
/// `Invalid`, naming `role` or the field below `scope`.
pub(super) fn check_tenants(role: Role, scope: &Scope) -> Result<()> {
    if role.is_platform() {
        return Err(Error::invalid("role", "A tenant's credential has a tenant's role."));
    }
    scope.check()
}
