//! What whoever makes, changes, rotates or revokes a credential must stay within.
//!
//! Role and scope of the credential are checked as they are and as they will be, so nobody can rotate one that is
//! mightier than their own to be shown its secret, or widen any, least of all the one that they are using.
//!
//! Not bounded: a credential may live longer than the one that made it. Machines present tokens of a trusted issuer that
//! live for minutes, and what they set up must outlast them. What a lost credential made is found by its maker
//! (`created_by`, and the audit log) and revoked.

use super::{Operation, Role, Scope};
use crate::clock::Micros;
use crate::error::{Error, ErrorKind, Result};
use crate::quota::Limits;

/// Whoever makes or touches a credential.
#[derive(Debug, Clone)]
pub struct Issuer {
    role: Role,
    /// `None`: narrowed to nothing.
    scope: Option<Scope>,
    /// The public id of the credential that is used for it; `None` for a command on the machine.
    credential: Option<String>,
}

impl Issuer {
    /// The holder of a credential, with its public id.
    pub fn new(role: Role, scope: Scope, credential: &str) -> Issuer {
        Issuer { role, scope: Some(scope), credential: Some(credential.to_owned()) }
    }

    /// A command on the machine, which could as well write to the database.
    pub fn command() -> Issuer {
        Issuer { role: Role::PlatformAdmin, scope: None, credential: None }
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

    /// Whether it may end all credentials with these roles, as they are stored, at once.
    ///
    /// # Errors
    /// `Forbidden`, naming `role`; `Internal` for a role that can't be read.
    pub(super) fn check_ends(&self, roles: &[String]) -> Result<()> {
        for text in roles {
            let role = super::stored_role(text)?;
            if !self.role.covers(role) {
                let text = format!("It has a credential with the role {}, which yours may not end.", role.as_str());
                return Err(Error::new(ErrorKind::Forbidden, text).about("role"));
            }
        }
        Ok(())
    }

    /// As [`Issuer::check_own`], of limits alone.
    ///
    /// # Errors
    /// `Forbidden`, naming the limit.
    pub(super) fn check_own_limits(&self, id: &str, before: &Limits, after: &Limits) -> Result<()> {
        let bounds = |limits: &Limits| Bounds { expires_at: None, limits: *limits };
        self.check_own(id, &bounds(before), &bounds(after)).map_err(|error| match &error.param {
            // A limit's own body has no `limits` around it.
            Some(param) => error.clone().about(param.trim_start_matches("limits.")),
            None => error,
        })
    }

    /// Whether it may change what bounds the credential `id` besides role and scope: not for the better, if it is the
    /// very one that it uses.
    ///
    /// # Errors
    /// `Forbidden`, naming `expires_at` or the field below `limits`.
    pub(super) fn check_own(&self, id: &str, before: &Bounds, after: &Bounds) -> Result<()> {
        if self.credential.as_deref() != Some(id) {
            return Ok(());
        }
        let longer = looser(before.expires_at, after.expires_at);
        let more = looser::<u64>;
        let (had, has) = (before.limits, after.limits);
        let field = if longer {
            "expires_at"
        } else if more(had.requests_per_minute, has.requests_per_minute) {
            "limits.requests_per_minute"
        } else if more(had.tokens_per_minute, has.tokens_per_minute) {
            "limits.tokens_per_minute"
        } else if more(had.concurrent_requests, has.concurrent_requests) {
            "limits.concurrent_requests"
        } else {
            return Ok(());
        };
        let text = "A credential can't be used to widen itself.";
        Err(Error::new(ErrorKind::Forbidden, text).about(field))
    }
}

/// Whether a bound was lifted or moved up; an absent one is none.
fn looser<T: PartialOrd>(before: Option<T>, after: Option<T>) -> bool {
    before.is_some_and(|before| after.is_none_or(|after| after > before))
}

/// What bounds a credential besides role and scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) expires_at: Option<Micros>,
    pub(super) limits: Limits,
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

/// Whether an operator's token can have this role and scope.
///
/// # Errors
/// `Invalid`, naming `role` or the field below `scope`.
pub(super) fn check_operators(role: Role, scope: &Scope) -> Result<()> {
    if !role.is_platform() {
        return Err(Error::invalid("role", "An operator's token has a role of the platform."));
    }
    let known = |operation: &Operation| matches!(operation, Operation::ReadUsage | Operation::Administer);
    if !scope.operations.iter().all(known) {
        let text = "An operator's token can be used for the operations read_usage and administer.";
        return Err(Error::invalid("scope.operations", text));
    }
    for (field, given) in [("scope.models", scope.models.is_some()), ("scope.dialects", scope.dialects.is_some())] {
        if given {
            return Err(Error::invalid(field, "An operator's token runs no models."));
        }
    }
    scope.check()
}

/// Whether a service account lets a credential of its own have this role; its scope is a separate question.
///
/// # Errors
/// `Forbidden`, naming `role`.
pub(super) fn check_within_role(role: Role, account: Role) -> Result<()> {
    if role.within(account) {
        return Ok(());
    }
    let text = format!("The service account's role, {}, does not include that.", account.as_str());
    Err(Error::new(ErrorKind::Forbidden, text).about("role"))
}

/// Whether a service account lets a credential of its own have this scope.
///
/// # Errors
/// `Forbidden`, naming the field below `scope`.
pub(super) fn check_within_scope(scope: &Scope, account: &Scope) -> Result<()> {
    match scope.exceeds(account) {
        Some(field) => {
            Err(Error::new(ErrorKind::Forbidden, "It reaches further than the service account's scope.").about(field))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn param(result: Result<()>) -> Option<String> {
        let error = result.err()?;
        Some(error.param.unwrap_or_else(|| panic!("{} names no field", error.message)))
    }

    fn narrow() -> Scope {
        serde_json::from_value(serde_json::json!({
            "operations": ["inference", "administer"], "models": ["amazon.*"], "dialects": ["openai"],
            "ip_ranges": ["10.0.0.0/8"],
        }))
        .unwrap()
    }

    #[test]
    fn an_issuer_hands_out_what_its_role_covers_and_its_scope_holds() {
        for issuer in Role::ALL {
            let (unbound, narrowed) = (Issuer::new(issuer, wide(), "x"), Issuer::new(issuer, narrow(), "x"));
            for role in Role::ALL {
                let by_role = if issuer.covers(role) { None } else { Some("role".to_owned()) };
                assert_eq!(param(narrowed.check(role, &narrow())), by_role, "{issuer:?} {role:?}");
                assert_eq!(param(unbound.check(role, &narrow())), by_role, "{issuer:?} {role:?}");
                let freely = issuer == Role::PlatformAdmin && !role.is_platform();
                let expected = by_role.or((!freely).then(|| "scope.operations".to_owned()));
                assert_eq!(param(narrowed.check(role, &wide())), expected, "{issuer:?} {role:?}");
            }
        }
        assert!(Role::ALL.into_iter().all(|role| Issuer::command().check(role, &wide()).is_ok()));
    }

    fn wide() -> Scope {
        use Operation::{Administer, ControlPlane, Inference, ReadUsage};
        Scope { operations: BTreeSet::from([Inference, ControlPlane, ReadUsage, Administer]), ..Scope::default() }
    }

    #[test]
    fn nobody_loosens_the_bounds_of_the_credential_in_use() {
        let issuer = Issuer::new(Role::TenantOwner, wide(), "key_mine");
        let limits =
            |value| Limits { requests_per_minute: value, tokens_per_minute: Some(7), concurrent_requests: None };
        let bounds = |expires_at, value| Bounds { expires_at, limits: limits(value) };
        let before = bounds(Some(10), Some(5));
        let own = |after: Bounds| param(issuer.check_own("key_mine", &before, &after));
        for after in [bounds(Some(10), Some(5)), bounds(Some(9), Some(4)), bounds(Some(1), Some(0))] {
            assert_eq!(own(after), None);
        }
        for after in [bounds(Some(11), Some(5)), bounds(None, Some(5))] {
            assert_eq!(own(after).as_deref(), Some("expires_at"));
            assert_eq!(param(issuer.check_own("key_other", &before, &after)), None);
        }
        for after in [bounds(Some(10), Some(6)), bounds(Some(10), None)] {
            assert_eq!(own(after).as_deref(), Some("limits.requests_per_minute"));
        }
        let fewer = Limits { tokens_per_minute: None, ..limits(Some(5)) };
        assert_eq!(own(Bounds { expires_at: None, limits: fewer }).as_deref(), Some("expires_at"));
        assert_eq!(own(Bounds { expires_at: Some(10), limits: fewer }).as_deref(), Some("limits.tokens_per_minute"));
        assert_eq!(param(issuer.check_own("key_mine", &bounds(None, None), &bounds(Some(9), Some(1)))), None);
    }

    #[test]
    fn operators_and_tenants_have_their_own_roles_and_scopes() {
        let operators = Scope::operators();
        assert_eq!(param(check_operators(Role::PlatformViewer, &operators)), None);
        assert_eq!(param(check_operators(Role::TenantOwner, &operators)).as_deref(), Some("role"));
        assert_eq!(param(check_operators(Role::PlatformAdmin, &wide())).as_deref(), Some("scope.operations"));
        let models = Scope { models: Some(vec![]), ..Scope::operators() };
        assert_eq!(param(check_operators(Role::PlatformAdmin, &models)).as_deref(), Some("scope.models"));
        let dialects = Scope { dialects: Some(BTreeSet::new()), ..Scope::operators() };
        assert_eq!(param(check_operators(Role::PlatformAdmin, &dialects)).as_deref(), Some("scope.dialects"));
        assert_eq!(param(check_tenants(Role::TenantOwner, &wide())), None);
        assert_eq!(param(check_tenants(Role::PlatformViewer, &operators)).as_deref(), Some("role"));
    }
}
