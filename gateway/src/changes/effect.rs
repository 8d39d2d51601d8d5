//! What a change means to a gateway that runs. Pure.

use crate::auth::Affected;
use crate::id::{AdminTokenId, KeyId, ProjectId, ServiceAccountId, TenantId};
use crate::store::ChangeRow;

/// What is to be done about a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Effect {
    /// What must be forgotten.
    pub(super) forget: Option<Affected>,
    /// Whether requests that depend on it end, too.
    pub(super) ends: bool,
    /// Whether models or aliases are others now.
    pub(super) catalog: bool,
}

/// Reads a change.
///
/// | change | forgotten | running requests |
/// |---|---|---|
/// | something is made | nothing | |
/// | a key or token is revoked, a service account deleted, a tenant suspended | what depends on it | end |
/// | a tenant or project is deleted | its keys | end by themselves |
/// | limits, role, scope, secret and so on change | what depends on it | go on as they began |
/// | models and aliases | nothing | go on |
/// | anything that this version doesn't know | everything | go on |
pub(super) fn effect(row: &ChangeRow) -> Effect {
    let did = row.action.rsplit('.').next().unwrap_or_default();
    let ends = |when: &str| did == when;
    let (forget, ends) = match row.target_kind.as_str() {
        "tenant" => (TenantId::parse(&row.target_id).map(Affected::Tenant), ends("suspend")),
        "project" => (ProjectId::parse(&row.target_id).map(Affected::Project), false),
        "service_account" => (ServiceAccountId::parse(&row.target_id).map(Affected::ServiceAccount), ends("delete")),
        "api_key" | "access_key" => (KeyId::parse(&row.target_id).map(Affected::Key), ends("revoke")),
        "admin_token" => (AdminTokenId::parse(&row.target_id).map(Affected::AdminToken), false),
        "model" | "alias" => return Effect { forget: None, ends: false, catalog: true },
        _ => (None, false),
    };
    // Only what is used can be forgotten, and what has just been made was not used yet.
    if did == "create" {
        return Effect { forget: None, ends: false, catalog: false };
    }
    Effect { forget: Some(forget.unwrap_or(Affected::Everything)), ends, catalog: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(action: &str, id: &str) -> Effect {
        let (kind, _) = action.split_once('.').unwrap();
        effect(&ChangeRow {
            seq: 1,
            tenant_id: None,
            action: action.into(),
            target_kind: kind.into(),
            target_id: id.into(),
            digest: String::new(),
        })
    }

    #[test]
    fn whatever_ends_is_forgotten_and_ended() {
        let ended = |forget| Effect { forget: Some(forget), ends: true, catalog: false };
        let key = KeyId::of("CKIAAAAAAAAAAAAAAAAA");
        assert_eq!(of("api_key.revoke", key.as_str()), ended(Affected::Key(key.clone())));
        assert_eq!(of("access_key.revoke", key.as_str()), ended(Affected::Key(key)));
        let tenant = TenantId::new();
        assert_eq!(of("tenant.suspend", tenant.as_str()), ended(Affected::Tenant(tenant)));
        let account = ServiceAccountId::new();
        assert_eq!(of("service_account.delete", account.as_str()), ended(Affected::ServiceAccount(account)));
    }

    #[test]
    fn what_only_changes_is_forgotten_and_goes_on() {
        let changed = |forget| Effect { forget: Some(forget), ends: false, catalog: false };
        let (tenant, project, key) = (TenantId::new(), ProjectId::new(), KeyId::new());
        for action in ["tenant.delete", "tenant.limits", "tenant.resume", "tenant.update", "tenant.model_access"] {
            assert_eq!(of(action, tenant.as_str()), changed(Affected::Tenant(tenant.clone())), "{action}");
        }
        assert_eq!(of("project.delete", project.as_str()), changed(Affected::Project(project)));
        for action in ["api_key.rotate", "api_key.update", "access_key.rotate"] {
            assert_eq!(of(action, key.as_str()), changed(Affected::Key(key.clone())), "{action}");
        }
        let token = AdminTokenId::new();
        assert_eq!(of("admin_token.revoke", token.as_str()), changed(Affected::AdminToken(token)));
    }

    #[test]
    fn what_is_new_costs_nothing_and_what_is_unknown_costs_everything() {
        let nothing = Effect { forget: None, ends: false, catalog: false };
        assert_eq!(of("api_key.create", KeyId::new().as_str()), nothing);
        assert_eq!(of("unheard.create", "x"), nothing);
        let everything = Effect { forget: Some(Affected::Everything), ends: false, catalog: false };
        assert_eq!(of("unheard.of", "x"), everything);
        assert_eq!(of("api_key.revoke", "no id").forget, Some(Affected::Everything));
        let catalog = Effect { forget: None, ends: false, catalog: true };
        assert_eq!((of("model.update", "m"), of("alias.create", "a")), (catalog.clone(), catalog));
    }
}
