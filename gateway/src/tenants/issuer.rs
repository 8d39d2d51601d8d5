//! What whoever makes, changes or deletes a credential must stay within.
//!
//! Role and scope of the credential are checked as they are and as they will be, so nobody can take over one that is
//! mightier than their own, or widen any, least of all the one that they are using.

use super::{Role, Scope};
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

    /// Whether it may replace the limits of the credential `id`: not by wider ones, if it is the very one that it uses.
    ///
    /// # Errors
    /// `Forbidden`, naming the limit.
    pub(super) fn check_own_limits(&self, id: &str, before: &Limits, after: &Limits) -> Result<()> {
        let wider = |before: Option<u64>, after: Option<u64>| {
            before.is_some_and(|before| after.is_none_or(|after| after > before))
        };
        let fields = [
            ("requests_per_minute", before.requests_per_minute, after.requests_per_minute),
            ("tokens_per_minute", before.tokens_per_minute, after.tokens_per_minute),
            ("concurrent_requests", before.concurrent_requests, after.concurrent_requests),
        ];
        let widened = fields.into_iter().find(|&(_, before, after)| wider(before, after));
        match widened.filter(|_| self.credential.as_deref() == Some(id)) {
            Some((field, ..)) => {
                Err(Error::new(ErrorKind::Forbidden, "A credential can't be used to widen itself.").about(field))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(operations: &[&str]) -> Scope {
        serde_json::from_value(serde_json::json!({ "operations": operations })).unwrap()
    }

    #[test]
    fn an_issuer_hands_out_what_its_role_covers_and_its_scope_holds() {
        let (narrow, wide) = (scope(&["administer"]), scope(&["administer", "inference"]));
        let refused = |issuer: Role, role: Role, child: &Scope| {
            let error = Issuer::new(issuer, narrow.clone(), "x").check(role, child).err()?;
            assert_eq!(error.kind, ErrorKind::Forbidden);
            error.param
        };
        for issuer in Role::ALL {
            for role in Role::ALL {
                let by_role = (!issuer.covers(role)).then(|| "role".to_owned());
                assert_eq!(refused(issuer, role, &narrow), by_role, "{issuer:?} {role:?}");
                let operators_do_not_count = issuer.is_platform() && !role.is_platform();
                let by_scope = (!operators_do_not_count).then(|| "scope.operations".to_owned());
                assert_eq!(refused(issuer, role, &wide), by_role.or(by_scope), "{issuer:?} {role:?}");
            }
        }
        assert!(Role::ALL.into_iter().all(|role| Issuer::command().check(role, &wide).is_ok()));
    }

    #[test]
    fn nobody_widens_the_limits_of_the_credential_in_use() {
        let issuer = Issuer::new(Role::TenantOwner, Scope::default(), "key_mine");
        let limits = |tokens_per_minute| Limits { tokens_per_minute, ..Limits::default() };
        let refused = |id: &str, before, after| {
            issuer.check_own_limits(id, &limits(before), &limits(after)).err().and_then(|error| error.param)
        };
        for after in [Some(6), None] {
            assert_eq!(refused("key_mine", Some(5), after).as_deref(), Some("tokens_per_minute"));
            assert_eq!(refused("key_other", Some(5), after), None);
        }
        for (before, after) in [(Some(5), Some(5)), (Some(5), Some(0)), (None, Some(5)), (None, None)] {
            assert_eq!(refused("key_mine", before, after), None);
        }
    }
}
