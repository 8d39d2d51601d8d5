//! What every method of the store promises, on both engines.

mod admin_tokens;
mod answers;
mod audit;
mod catalog;
mod credentials;
mod diagnosis;
mod ends;
mod lists;
mod look_ups;
mod owners;
mod projects;
mod reports;
mod requests;
mod service_accounts;
mod whole;

use super::{NewRequest, Store};
use crate::auth::Principal;
use crate::id::{ProjectId, RequestId, TenantId};
use crate::quota::Limits;

const SOME: Limits = Limits { requests_per_minute: Some(1), tokens_per_minute: None, concurrent_requests: Some(3) };

async fn create_tenant(store: &Store, name: &str) -> crate::error::Result<TenantId> {
    let (id, name) = (TenantId::new(), name.to_owned());
    let made = id.clone();
    store.transaction(move |tx| Box::pin(async move { tx.tenant_create(&id, &name, SOME, 1).await })).await?;
    Ok(made)
}

/// Changes a tenant as the domain does; `false` when it isn't there.
async fn change_tenant(
    store: &Store,
    id: &TenantId,
    now: i64,
    how: impl FnOnce(&mut super::TenantRow) + Send + 'static,
) -> bool {
    let id = id.clone();
    let work = store.transaction(move |tx| {
        Box::pin(async move {
            let Some(mut row) = tx.tenant_for_change(&id).await? else { return Ok(false) };
            how(&mut row);
            tx.tenant_update(&row, now).await.map(|()| true)
        })
    });
    work.await.unwrap()
}

/// Changes a project as the domain does; `false` when the tenant has none of that id.
async fn change_project(
    store: &Store,
    (tenant, id): (&TenantId, &ProjectId),
    now: i64,
    how: impl FnOnce(&mut super::ProjectRow) + Send + 'static,
) -> crate::error::Result<bool> {
    let (tenant, id) = (tenant.clone(), id.clone());
    let work = store.transaction(move |tx| {
        Box::pin(async move {
            let Some(mut row) = tx.project_for_change(&tenant, &id).await? else { return Ok(false) };
            how(&mut row);
            tx.project_update(&row, now).await.map(|()| true)
        })
    });
    work.await
}

fn request_of(who: &Principal) -> NewRequest {
    NewRequest {
        id: RequestId::new(),
        tenant_id: who.tenant.clone(),
        project_id: who.project.clone(),
        key_id: who.key.clone(),
        dialect: "openai_chat",
        model_asked: "asked".into(),
        model: "model".into(),
        price: r#"{"opaque":"to SQL"}"#.into(),
        input_tokens: 7,
        max_output_tokens: 9,
        decode_worker: None,
        gateway_id: "gateway-1".into(),
        lease_until: 100,
        accepted_at: 50,
    }
}

const SOURCES: [&str; 23] = [
    include_str!("../access_keys.rs"),
    include_str!("../admin_tokens.rs"),
    include_str!("../alone.rs"),
    include_str!("../answers.rs"),
    include_str!("../api_keys.rs"),
    include_str!("../credentials.rs"),
    include_str!("../audit.rs"),
    include_str!("../look_ups.rs"),
    include_str!("../audit_entries.rs"),
    include_str!("../catalog.rs"),
    include_str!("../diagnosis.rs"),
    include_str!("../door.rs"),
    include_str!("../follower.rs"),
    include_str!("../ledger.rs"),
    include_str!("../request_list.rs"),
    include_str!("../projects.rs"),
    include_str!("../requests.rs"),
    include_str!("../schema.rs"),
    include_str!("../service_accounts.rs"),
    include_str!("../tenants.rs"),
    include_str!("../uses.rs"),
    include_str!("../usage.rs"),
    include_str!("../dialect.rs"),
];

#[test]
fn every_method_is_called_here() {
    let tests = [
        include_str!("admin_tokens.rs"),
        include_str!("answers.rs"),
        include_str!("audit.rs"),
        include_str!("diagnosis.rs"),
        include_str!("ends.rs"),
        include_str!("look_ups.rs"),
        include_str!("lists.rs"),
        include_str!("catalog.rs"),
        include_str!("credentials.rs"),
        include_str!("owners.rs"),
        include_str!("projects.rs"),
        include_str!("requests.rs"),
        include_str!("service_accounts.rs"),
        include_str!("whole.rs"),
        include_str!("mod.rs"),
    ];
    let tests = tests.concat();
    let declared = SOURCES.iter().flat_map(|source| source.split("pub async fn ").skip(1));
    let names: Vec<&str> = declared.filter_map(|rest| rest.split(['(', '<']).next()).collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        let calls = [format!(".{name}("), format!(".{name}::<"), format!("::{name}(")];
        assert!(calls.iter().any(|call| tests.contains(call)), "`{name}` has no contract test");
    }
}

#[test]
fn no_statement_changes_or_removes_what_was_recorded() {
    for source in SOURCES {
        for table in
            ["ledger_entries", "usage_records", "audit_log", "requests", "tenants", "projects", "service_accounts"]
        {
            assert!(!source.contains(&format!("DELETE FROM {table}")), "{table}");
        }
        for table in ["ledger_entries", "usage_records", "audit_log"] {
            assert!(!source.contains(&format!("UPDATE {table}")), "{table}");
        }
    }
}
