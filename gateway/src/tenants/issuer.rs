//! What whoever makes, changes, rotates or revokes a credential must stay within.
//!
//! | to | the issuer's role must cover the credential's | its scope must hold the credential's | its limits bound the credential's |
//! |---|---|---|---|
//! | make it | yes | yes | yes |
//! | give it a new secret, which is shown | yes | yes | yes |
//! | give it another name, role or scope, or a later end | before and after | before and after | |
//! | raise its limits | yes | yes | those that are raised |
//! | let it end earlier, lower its limits | yes | | |
//! | revoke it; delete what it belongs to | yes | | |
//!
//! Role and scope are checked as they are and as they will be, so nobody can rotate a credential that is mightier than
//! their own to be shown its secret, or widen any, least of all the one that they are using. What only takes something
//! away needs the role alone: whoever finds a leaked credential must be able to end it, also from one address, or with a
//! credential for less. Another role or scope is never among that, however narrow: who narrows a credential until they may
//! rotate it has its secret when somebody widens it again.
//!
//! Limits of the credential in use bind each that it makes, not all of them together: those are what a project's and a
//! tenant's limits are for. An operator's token has none.
//!
//! Not bounded: a credential may live longer than the one that made it. Machines present tokens of a trusted issuer that
//! live for minutes, and what they set up must outlast them. What a lost credential made is found by its maker
//! (`created_by`, and the audit log) and revoked. Only the end of the credential in use, and that of its service account,
//! nobody moves away from themselves.

use super::limits::fields;
use super::{Operation, Role, Scope};
use crate::clock::Micros;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ServiceAccountId;
use crate::quota::Limits;

/// Whoever makes or touches a credential.
#[derive(Debug, Clone)]
pub struct Issuer {
    role: Role,
    /// `None`: narrowed to nothing.
    scope: Option<Scope>,
    /// The public id of the credential that is used for it; `None` for a command on the machine.
    credential: Option<String>,
    /// Whose that credential is, when it is a machine's.
    service_account: Option<ServiceAccountId>,
    /// That credential's own.
    limits: Limits,
}

impl Issuer {
    /// The holder of a credential without limits that is no machine's, with its public id.
    pub fn new(role: Role, scope: Scope, credential: &str) -> Issuer {
        let (scope, credential) = (Some(scope), Some(credential.to_owned()));
        Issuer { role, scope, credential, service_account: None, limits: Limits::default() }
    }

    /// With the credential's own limits, and the machine that it belongs to.
    pub fn held_to(self, limits: Limits, service_account: Option<ServiceAccountId>) -> Issuer {
        Issuer { limits, service_account, ..self }
    }

    /// A command on the machine, which could as well write to the database.
    pub fn command() -> Issuer {
        let (role, limits) = (Role::PlatformAdmin, Limits::default());
        Issuer { role, scope: None, credential: None, service_account: None, limits }
    }

    /// Whether it may hand out, or take into its hands, a credential with this role and scope. An operator may give a
    /// tenant's credential any scope: what tenants do is not in an operator's own.
    ///
    /// # Errors
    /// `Forbidden`, naming `role` or the field below `scope`.
    pub fn check(&self, role: Role, scope: &Scope) -> Result<()> {
        self.check_role(role)?;
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

    /// Whether it may take something away from a credential with this role.
    ///
    /// # Errors
    /// `Forbidden`, naming `role`.
    pub(super) fn check_role(&self, role: Role) -> Result<()> {
        if self.role.covers(role) {
            return Ok(());
        }
        let text = format!("Your role may neither make nor touch a credential with the role {}.", role.as_str());
        Err(Error::new(ErrorKind::Forbidden, text).about("role"))
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

    /// Whether it may hand out a credential with these limits: each must be at least as tight as that of the credential in
    /// use. Given what they were `before`, only those that become looser are looked at.
    ///
    /// # Errors
    /// `Forbidden`, naming the field below `limits`.
    pub(super) fn check_limits(&self, before: Option<&Limits>, after: &Limits) -> Result<()> {
        let own = &self.limits;
        let Some(name) =
            loosened(own, after).find(|name| before.is_none_or(|b| loosened(b, after).any(|it| it == *name)))
        else {
            return Ok(());
        };
        let text =
            format!("The credential that you are using has a tighter limit `{name}`. Give one that is not looser.");
        Err(Error::new(ErrorKind::Forbidden, text).about(format!("limits.{name}")))
    }

    /// Whether it may change what bounds the credential `id` besides role and scope: not for the better, if it is the
    /// very one that it uses.
    ///
    /// # Errors
    /// `Forbidden`, naming `expires_at` or the field below `limits`.
    pub(super) fn check_own(&self, id: &str, before: &Bounds, after: &Bounds) -> Result<()> {
        let own = self.credential.as_deref() == Some(id);
        match before.loosened_by(after).filter(|_| own) {
            Some(field) => Err(widens_itself(field)),
            None => Ok(()),
        }
    }

    /// The same of a service account's end, if the credential that it uses is that account's.
    ///
    /// # Errors
    /// `Forbidden`, naming `expires_at`.
    pub(super) fn check_own_account(
        &self,
        id: &ServiceAccountId,
        before: Option<Micros>,
        after: Option<Micros>,
    ) -> Result<()> {
        let own = self.service_account.as_ref() == Some(id);
        if own && looser(before, after) { Err(widens_itself("expires_at".into())) } else { Ok(()) }
    }

    /// Whether it may let tokens of a trusted issuer act as a service account: no limits of a key bind those.
    ///
    /// # Errors
    /// `Forbidden`, naming `federated_identity`.
    pub(super) fn check_federates(&self) -> Result<()> {
        if self.limits == Limits::default() {
            return Ok(());
        }
        let text = "The credential that you are using has limits, and a federated identity's tokens would have none.";
        Err(Error::new(ErrorKind::Forbidden, text).about("federated_identity"))
    }
}

fn widens_itself(field: String) -> Error {
    Error::new(ErrorKind::Forbidden, "A credential can't be used to widen itself.").about(field)
}

/// Whether a bound was lifted or moved up; an absent one is none.
pub(super) fn looser<T: PartialOrd>(before: Option<T>, after: Option<T>) -> bool {
    before.is_some_and(|before| after.is_none_or(|after| after > before))
}

/// The limits that were lifted or moved up.
fn loosened(before: &Limits, after: &Limits) -> impl Iterator<Item = &'static str> {
    let pairs = fields(before).into_iter().zip(fields(after));
    pairs.filter(|((_, before), (_, after))| looser(*before, *after)).map(|((name, _), _)| name)
}

/// What bounds a credential besides role and scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) expires_at: Option<Micros>,
    pub(super) limits: Limits,
}

impl Bounds {
    /// The first of them, `expires_at` or a field below `limits`, that is looser in `after`.
    pub(super) fn loosened_by(&self, after: &Bounds) -> Option<String> {
        if looser(self.expires_at, after.expires_at) {
            return Some("expires_at".into());
        }
        loosened(&self.limits, &after.limits).next().map(|name| format!("limits.{name}"))
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
    fn an_issuers_limits_bind_what_it_hands_out_and_not_what_is_there() {
        let of = |requests, tokens, running| Limits {
            requests_per_minute: requests,
            tokens_per_minute: tokens,
            concurrent_requests: running,
        };
        let issuer = Issuer::new(Role::TenantOwner, wide(), "key_mine").held_to(of(Some(5), None, Some(2)), None);
        let made = |limits| param(issuer.check_limits(None, &limits));
        assert_eq!(made(of(Some(5), None, Some(2))), None);
        assert_eq!(made(of(Some(0), Some(9), Some(1))), None);
        for limits in [of(Some(6), None, Some(2)), of(None, None, Some(2)), Limits::default()] {
            assert_eq!(made(limits).as_deref(), Some("limits.requests_per_minute"));
        }
        assert_eq!(made(of(Some(5), None, None)).as_deref(), Some("limits.concurrent_requests"));
        let changed = |before, after| param(issuer.check_limits(Some(&before), &after));
        assert_eq!(changed(of(Some(90), None, None), of(Some(90), Some(1), None)), None, "as they were");
        assert_eq!(changed(of(Some(90), None, None), of(Some(80), None, None)), None, "tighter");
        assert_eq!(changed(of(Some(1), None, None), of(Some(5), None, None)), None, "up to its own");
        let raised = changed(of(Some(1), None, None), of(Some(6), None, None));
        assert_eq!(raised.as_deref(), Some("limits.requests_per_minute"));
        let lifted = changed(of(None, None, Some(1)), of(None, None, None));
        assert_eq!(lifted.as_deref(), Some("limits.concurrent_requests"));
        for unbound in [Issuer::command(), Issuer::new(Role::PlatformAdmin, Scope::operators(), "adm_x")] {
            assert_eq!(param(unbound.check_limits(None, &Limits::default())), None);
            assert_eq!(param(unbound.check_federates()), None);
        }
        assert_eq!(param(issuer.check_federates()).as_deref(), Some("federated_identity"));
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
