//! Roles: which permissions a credential's holder has.

use super::Permission;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A role. The platform's are for operators and know no tenant; a tenant's reach no further than that tenant.
///
/// | may | owner | admin | developer | billing viewer | platform admin | platform viewer |
/// |---|---|---|---|---|---|---|
/// | run and list models | yes | yes | yes | list | | |
/// | see settings | yes | yes | yes | yes | yes | yes |
/// | change settings and credentials | yes | yes | | | yes | |
/// | see credentials | yes | yes | yes | | yes | yes |
/// | see usage and requests | yes | yes | yes | yes | yes | yes |
/// | see the audit log | yes | yes | | | yes | yes |
/// | tenants, catalog, operators | | | | | yes | see |
///
/// Owner and admin differ in one thing: an admin can neither make nor touch an owner's credential (see [`Role::covers`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Operates the installation.
    PlatformAdmin,
    /// Looks at all of it.
    PlatformViewer,
    /// Administers a tenant, its administrators included.
    TenantOwner,
    /// Administers a tenant.
    TenantAdmin,
    /// Uses models.
    TenantDeveloper,
    /// Sees what was used and what it costs.
    TenantBillingViewer,
}

impl Role {
    /// All of them, for tables and tests.
    pub const ALL: [Role; 6] = [
        Role::PlatformAdmin,
        Role::PlatformViewer,
        Role::TenantOwner,
        Role::TenantAdmin,
        Role::TenantDeveloper,
        Role::TenantBillingViewer,
    ];

    /// As store and API spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::PlatformAdmin => "platform_admin",
            Role::PlatformViewer => "platform_viewer",
            Role::TenantOwner => "tenant_owner",
            Role::TenantAdmin => "tenant_admin",
            Role::TenantDeveloper => "tenant_developer",
            Role::TenantBillingViewer => "tenant_billing_viewer",
        }
    }

    /// From the store's spelling.
    pub fn parse(text: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// Whether it is an operator's.
    pub fn is_platform(self) -> bool {
        matches!(self, Role::PlatformAdmin | Role::PlatformViewer)
    }

    /// Whether its holder has `permission`.
    pub fn has(self, permission: Permission) -> bool {
        use Permission as P;
        match self {
            Role::PlatformAdmin => !matches!(permission, P::Infer | P::ReadModels),
            Role::PlatformViewer => matches!(
                permission,
                P::ReadSettings | P::ReadCredentials | P::ReadUsage | P::ReadRequests | P::ReadAudit | P::ReadPlatform
            ),
            Role::TenantOwner | Role::TenantAdmin => {
                !matches!(permission, P::ReadPlatform | P::ManageTenants | P::ManageCatalog | P::ManageOperators)
            }
            Role::TenantDeveloper => matches!(
                permission,
                P::Infer | P::ReadModels | P::ReadSettings | P::ReadCredentials | P::ReadUsage | P::ReadRequests
            ),
            Role::TenantBillingViewer => {
                matches!(permission, P::ReadModels | P::ReadSettings | P::ReadUsage | P::ReadRequests)
            }
        }
    }

    /// Whether a holder of this role may make, change, rotate or revoke a credential of role `other`: nobody gets more out
    /// of a credential that they made, or whose new secret they are shown, than they have themselves.
    pub fn covers(self, other: Role) -> bool {
        match self {
            Role::PlatformAdmin => true,
            Role::TenantOwner => !other.is_platform(),
            Role::TenantAdmin => !other.is_platform() && other != Role::TenantOwner,
            Role::PlatformViewer | Role::TenantDeveloper | Role::TenantBillingViewer => false,
        }
    }

    /// The role that may do exactly what both may: a service account's key has at most the account's. The roles of tenants
    /// are a chain, and so are those of the platform; between the two there is none.
    pub fn meet(self, other: Role) -> Option<Role> {
        let same_family = self.is_platform() == other.is_platform();
        same_family.then(|| if self.rank() <= other.rank() { self } else { other })
    }

    /// Its place in its chain, the least first.
    fn rank(self) -> u8 {
        match self {
            Role::TenantBillingViewer | Role::PlatformViewer => 0,
            Role::TenantDeveloper | Role::PlatformAdmin => 1,
            Role::TenantAdmin => 2,
            Role::TenantOwner => 3,
        }
    }

    /// Whether it gives nothing that `bound` does not give: what a service account's credentials are held to.
    pub fn within(self, bound: Role) -> bool {
        self == bound
            || (!bound.is_platform() && bound.covers(self))
            || (bound, self) == (Role::TenantDeveloper, Role::TenantBillingViewer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_within_another_has_no_permission_that_the_other_lacks_and_touches_nobody_more() {
        for bound in Role::ALL {
            for role in Role::ALL.into_iter().filter(|role| role.within(bound)) {
                assert!(Permission::ALL.into_iter().all(|permission| !role.has(permission) || bound.has(permission)));
                assert!(Role::ALL.into_iter().all(|other| !role.covers(other) || bound.covers(other)));
            }
        }
        assert!(Role::TenantBillingViewer.within(Role::TenantDeveloper));
        assert!(!Role::TenantOwner.within(Role::TenantAdmin) && !Role::TenantDeveloper.within(Role::PlatformAdmin));
    }

    #[test]
    fn no_tenants_role_has_a_permission_of_the_platform() {
        use Permission as P;
        for role in Role::ALL.into_iter().filter(|role| !role.is_platform()) {
            for permission in [P::ReadPlatform, P::ManageTenants, P::ManageCatalog, P::ManageOperators] {
                assert!(!role.has(permission), "{role:?} {permission:?}");
            }
        }
    }

    #[test]
    fn operators_run_no_models() {
        assert!(!Role::PlatformAdmin.has(Permission::Infer) && !Role::PlatformViewer.has(Permission::Infer));
    }

    #[test]
    fn viewers_and_developers_change_nothing() {
        use Permission as P;
        let writes = [P::WriteSettings, P::WriteCredentials, P::ManageTenants, P::ManageCatalog, P::ManageOperators];
        for role in [Role::PlatformViewer, Role::TenantDeveloper, Role::TenantBillingViewer] {
            assert!(writes.iter().all(|write| !role.has(*write)), "{role:?}");
            assert!(Role::ALL.into_iter().all(|other| !role.covers(other)), "{role:?}");
        }
    }

    #[test]
    fn whoever_covers_a_tenants_role_has_all_its_permissions_but_running_models() {
        for role in Role::ALL {
            for other in Role::ALL.into_iter().filter(|other| role.covers(*other)) {
                for permission in Permission::ALL {
                    let runs = matches!(permission, Permission::Infer | Permission::ReadModels);
                    assert!(
                        runs || !other.has(permission) || role.has(permission),
                        "{role:?} {other:?} {permission:?}"
                    );
                }
            }
        }
        assert!(!Role::TenantAdmin.covers(Role::TenantOwner));
        assert!(!Role::TenantOwner.covers(Role::PlatformViewer));
    }

    #[test]
    fn two_roles_meet_in_what_both_may_do() {
        for one in Role::ALL {
            for other in Role::ALL {
                let meet = one.meet(other);
                assert_eq!(meet.is_some(), one.is_platform() == other.is_platform(), "{one:?} {other:?}");
                let Some(meet) = meet else { continue };
                for permission in Permission::ALL {
                    assert_eq!(
                        meet.has(permission),
                        one.has(permission) && other.has(permission),
                        "{one:?} {other:?} {permission:?}"
                    );
                }
                for third in Role::ALL {
                    assert_eq!(meet.covers(third), one.covers(third) && other.covers(third), "{one:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn a_role_comes_back_from_its_spelling() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert_eq!(Role::parse("root"), None);
    }
}
