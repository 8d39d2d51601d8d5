//! Who may do what, written down a second time and on purpose not taken from the gateway: were one of the two changed by
//! mistake, they would differ.

/// O: tenant owner, A: tenant admin, D: tenant developer, B: tenant billing viewer, P: platform admin, V: platform viewer.
/// Beside it the operation that a credential's scope must include.
const TABLE: [(&str, &str, &str); 13] = [
    ("infer", "OAD", "inference"),
    ("read_models", "OADB", "control_plane"),
    ("read_settings", "OADBPV", "administer"),
    ("write_settings", "OAP", "administer"),
    ("read_credentials", "OADPV", "administer"),
    ("write_credentials", "OAP", "administer"),
    ("read_usage", "OADBPV", "read_usage"),
    ("read_requests", "OADBPV", "read_usage"),
    ("read_audit", "OAPV", "administer"),
    ("read_platform", "PV", "administer"),
    ("manage_tenants", "P", "administer"),
    ("manage_catalog", "P", "administer"),
    ("manage_operators", "P", "administer"),
];

/// All operations of scopes.
pub(super) const OPERATIONS: [&str; 4] = ["inference", "control_plane", "read_usage", "administer"];

/// A tenant's roles.
pub(super) const TENANT_ROLES: [&str; 4] =
    ["tenant_owner", "tenant_admin", "tenant_developer", "tenant_billing_viewer"];

/// Whether a role has a permission.
pub(super) fn has(role: &str, permission: &str) -> bool {
    let letter = match role {
        "tenant_owner" => 'O',
        "tenant_admin" => 'A',
        "tenant_developer" => 'D',
        "tenant_billing_viewer" => 'B',
        "platform_admin" => 'P',
        "platform_viewer" => 'V',
        _ => panic!("no role is called {role}"),
    };
    line(permission).1.contains(letter)
}

/// The operation that lets a permission through.
pub(super) fn operation(permission: &str) -> &'static str {
    line(permission).2
}

fn line(permission: &str) -> (&'static str, &'static str, &'static str) {
    let found = TABLE.into_iter().find(|(name, ..)| *name == permission);
    found.unwrap_or_else(|| panic!("no permission is called {permission}"))
}
