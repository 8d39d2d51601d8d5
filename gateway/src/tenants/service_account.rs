//! Service accounts: machines of a project, with keys of their own, with tokens of a trusted issuer, or both.

use super::caps::{Made, leave_room};
use super::expiry::check_expiry;
use super::issuer::{Issuer, check_tenants, looser};
use super::tenant::name_is_taken;
use super::{Name, Role, Scope, check_version, missing, stored_role, stored_scope};
use crate::audit::{Change, Record};
use crate::clock::Micros;
use crate::error::{Error, Result};
use crate::id::{ProjectId, ServiceAccountId, TenantId};
use crate::store::{ServiceAccountFilter, ServiceAccountRow, Store};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Longest issuer or subject, in characters.
const MAX_CHARS: usize = 256;

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceAccount {
    /// Its id.
    pub id: ServiceAccountId,
    /// Whose it is.
    #[serde(rename = "tenant_id")]
    pub tenant: TenantId,
    /// For which project; it stays with it.
    #[serde(rename = "project_id")]
    pub project: ProjectId,
    /// Unique in its project, among those that are not deleted.
    pub name: Name,
    /// What it may do at most, whatever its keys say.
    pub role: Role,
    /// Narrows that.
    pub scope: Scope,
    /// Whose tokens it may present; `None`: it has keys only.
    pub federated_identity: Option<FederatedIdentity>,
    /// Not usable from then on, µs since 1970; `None`: until deleted.
    pub expires_at: Option<Micros>,
    /// Counts its changes, from 1.
    pub version: i64,
    /// µs since 1970.
    pub created_at: Micros,
    /// µs since 1970.
    pub updated_at: Micros,
    /// µs since 1970; `None` while it is there.
    pub deleted_at: Option<Micros>,
}

/// One subject of one trusted issuer: what a JWT must say to be this machine's. Compared character by character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"issuer": "https://issuer.example", "subject": "repo:acme/shop:ref:refs/heads/main"}))]
pub struct FederatedIdentity {
    /// A token's `iss`.
    #[schema(min_length = 1, max_length = 256)]
    pub issuer: String,
    /// A token's `sub`.
    #[schema(min_length = 1, max_length = 256)]
    pub subject: String,
}

/// A service account to be made.
#[derive(Debug, Clone)]
pub struct CreateServiceAccount {
    /// For which project.
    pub project: ProjectId,
    /// Must not be taken in that project.
    pub name: Name,
    /// A tenant's.
    pub role: Role,
    /// Narrows it.
    pub scope: Scope,
    /// Whose tokens it may present.
    pub federated_identity: Option<FederatedIdentity>,
    /// Not usable from then on.
    pub expires_at: Option<Micros>,
}

/// What can be changed of a service account; `None` keeps.
#[derive(Debug, Clone, Default)]
pub struct UpdateServiceAccount {
    /// Must not be taken in its project.
    pub name: Option<Name>,
    /// A tenant's.
    pub role: Option<Role>,
    /// The whole of it.
    pub scope: Option<Scope>,
    /// `Some(None)`: tokens are not taken any more.
    pub federated_identity: Option<Option<FederatedIdentity>>,
    /// `Some(None)`: usable until deleted.
    pub expires_at: Option<Option<Micros>>,
}

impl FederatedIdentity {
    /// Within its bounds. White space is not dropped: what a token says is compared as it is.
    fn check(&self) -> Result<()> {
        let fields = [("federated_identity.issuer", &self.issuer), ("federated_identity.subject", &self.subject)];
        for (field, text) in fields {
            let fits = (1..=MAX_CHARS).contains(&text.chars().count());
            if !fits || text.chars().any(char::is_control) || text.trim() != text.as_str() {
                let rule = format!("It has 1 to {MAX_CHARS} characters, no control character, and no space around it.");
                return Err(Error::invalid(field, rule));
            }
        }
        Ok(())
    }
}

impl ServiceAccount {
    /// A new one; not stored yet.
    ///
    /// # Errors
    /// `Invalid`, naming the field: a role of the platform, a scope or identity out of bounds, an expiry in the past or more than
    /// ten years ahead.
    pub fn new(tenant: TenantId, input: CreateServiceAccount, now: Micros) -> Result<ServiceAccount> {
        check_tenants(input.role, &input.scope)?;
        check_expiry(input.expires_at, now)?;
        input.federated_identity.as_ref().map_or(Ok(()), FederatedIdentity::check)?;
        Ok(ServiceAccount {
            id: ServiceAccountId::new(),
            tenant,
            project: input.project,
            name: input.name,
            role: input.role,
            scope: input.scope,
            federated_identity: input.federated_identity,
            expires_at: input.expires_at,
            version: 1,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        })
    }

    fn updated(&self, update: UpdateServiceAccount, now: Micros) -> Result<ServiceAccount> {
        let mut after = self.clone();
        after.name = update.name.unwrap_or(after.name);
        after.role = update.role.unwrap_or(after.role);
        after.scope = update.scope.unwrap_or(after.scope);
        check_tenants(after.role, &after.scope)?;
        if let Some(identity) = update.federated_identity {
            identity.as_ref().map_or(Ok(()), FederatedIdentity::check)?;
            after.federated_identity = identity;
        }
        // Sent back as it is, an expiry that has passed meanwhile is no mistake.
        if let Some(expires_at) = update.expires_at.filter(|expires_at| *expires_at != self.expires_at) {
            check_expiry(expires_at, now)?;
            after.expires_at = expires_at;
        }
        Ok(after)
    }

    /// Whether nothing but its end and its federated identity differ from `before`'s: the one is no later, the other gone.
    fn only_tightens(&self, before: &ServiceAccount) -> bool {
        let (identity, expires_at) = (before.federated_identity.clone(), before.expires_at);
        let alike = ServiceAccount { federated_identity: identity, expires_at, ..self.clone() };
        let kept = self.federated_identity.is_none() || self.federated_identity == before.federated_identity;
        alike == *before && kept && !looser(before.expires_at, self.expires_at)
    }

    /// Whether it takes tokens that it did not take `before`.
    fn takes_others(&self, before: Option<&ServiceAccount>) -> bool {
        let known = before.and_then(|before| before.federated_identity.as_ref());
        self.federated_identity.as_ref().is_some_and(|identity| Some(identity) != known)
    }

    fn to_row(&self) -> Result<ServiceAccountRow> {
        let identity = self.federated_identity.clone();
        let (federated_issuer, federated_subject) = identity.map(|it| (it.issuer, it.subject)).unzip();
        Ok(ServiceAccountRow {
            id: self.id.clone(),
            tenant_id: self.tenant.clone(),
            project_id: self.project.clone(),
            name: self.name.as_str().to_owned(),
            role: self.role.as_str().to_owned(),
            scope: serde_json::to_string(&self.scope).map_err(Error::internal)?,
            federated_issuer,
            federated_subject,
            expires_at: self.expires_at,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
            deleted_at: self.deleted_at,
        })
    }

    fn of_row(row: ServiceAccountRow) -> Result<ServiceAccount> {
        let identity = row.federated_issuer.zip(row.federated_subject);
        Ok(ServiceAccount {
            id: row.id,
            tenant: row.tenant_id,
            project: row.project_id,
            name: Name::stored(row.name),
            role: stored_role(&row.role)?,
            scope: (*stored_scope(&row.scope)?).clone(),
            federated_identity: identity.map(|(issuer, subject)| FederatedIdentity { issuer, subject }),
            expires_at: row.expires_at,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
            deleted_at: row.deleted_at,
        })
    }
}

/// By its id.
///
/// # Errors
/// `NotFound` unless the tenant has it; those of the store.
pub async fn service_account(store: &Store, tenant: &TenantId, id: &ServiceAccountId) -> Result<ServiceAccount> {
    let row = store.service_account(tenant, id).await?;
    ServiceAccount::of_row(row.ok_or_else(|| missing("service account"))?)
}

/// A page of a tenant's, in the order of their making.
///
/// # Errors
/// Those of the store.
pub async fn service_accounts(
    store: &Store,
    tenant: &TenantId,
    filter: &ServiceAccountFilter,
    after: Option<&ServiceAccountId>,
    limit: i64,
) -> Result<Vec<ServiceAccount>> {
    store.service_accounts(tenant, filter, after, limit).await?.into_iter().map(ServiceAccount::of_row).collect()
}

/// Stores a new service account, on behalf of `issuer`.
///
/// # Errors
/// `Forbidden`, naming the field in which it reaches further than its issuer; `NotFound` without such a project;
/// `Conflict` when the name is taken; those of the store.
pub async fn create_service_account(change: Change<'_>, issuer: &Issuer, account: &ServiceAccount) -> Result<()> {
    issuer.check(account.role, &account.scope)?;
    if account.takes_others(None) {
        issuer.check_federates()?;
    }
    let account = account.clone();
    let work = change.commit(move |tx| {
        Box::pin(async move {
            leave_room(tx, &account.tenant, Made::ServiceAccount, account.created_at).await?;
            // Held, so that it does not end meanwhile with an account in it that nobody looked at.
            tx.project_for_change(&account.tenant, &account.project)
                .await?
                .ok_or_else(|| missing("project").about("project_id"))?;
            if !tx.service_account_create(&account.to_row()?).await? {
                return Err(missing("project").about("project_id"));
            }
            let target = ("service_account", account.id.as_str());
            Ok(((), Record::new("service_account.create", Some(&account.tenant), target).after(&account)))
        })
    });
    work.await.map_err(name_is_taken)
}

/// Changes a service account, as it is after that. `expected` is the version that the caller has seen. What is as asked
/// for already gets no new version.
///
/// # Errors
/// `NotFound`; `Forbidden`, naming the field in which it reaches further than its issuer, before the change or after, and
/// for a later end of the account whose credential is used; `PreconditionFailed` when it has another version by now; `Invalid`; `Conflict` when the name is taken; those of the
/// store.
pub async fn update_service_account(
    change: Change<'_>,
    issuer: &Issuer,
    owner: (&TenantId, &ServiceAccountId),
    update: UpdateServiceAccount,
    expected: Option<i64>,
) -> Result<ServiceAccount> {
    let now = change.now;
    let work = alter(change, issuer, owner, Verb::Update, expected, move |before| before.updated(update, now));
    work.await.map_err(name_is_taken)
}

/// Deletes it: its keys and tokens are refused from then on, and running answers of them end. Its name is free again.
///
/// # Errors
/// `NotFound`; `Forbidden` when it or one of its keys has a role that the issuer's does not cover; `PreconditionFailed`;
/// those of the store.
pub async fn delete_service_account(
    change: Change<'_>,
    issuer: &Issuer,
    owner: (&TenantId, &ServiceAccountId),
    expected: Option<i64>,
) -> Result<ServiceAccount> {
    let now = change.now;
    alter(change, issuer, owner, Verb::Delete, expected, move |before| {
        Ok(ServiceAccount { deleted_at: Some(now), ..before.clone() })
    })
    .await
}

/// What is done to a service account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Update,
    Delete,
}

impl Verb {
    fn action(self) -> &'static str {
        match self {
            Verb::Update => "service_account.update",
            Verb::Delete => "service_account.delete",
        }
    }
}

/// The one way in which a service account changes: under its row's lock, so that what the issuer may touch is decided on
/// what is there.
async fn alter(
    change: Change<'_>,
    issuer: &Issuer,
    (tenant, id): (&TenantId, &ServiceAccountId),
    verb: Verb,
    expected: Option<i64>,
    how: impl FnOnce(&ServiceAccount) -> Result<ServiceAccount> + Send + 'static,
) -> Result<ServiceAccount> {
    let (issuer, tenant, id, now) = (issuer.clone(), tenant.clone(), id.clone(), change.now);
    change
        .commit(move |tx| {
            Box::pin(async move {
                let row = tx.service_account_for_change(&tenant, &id).await?;
                let before = ServiceAccount::of_row(row.ok_or_else(|| missing("service account"))?)?;
                issuer.check_role(before.role)?;
                check_version(before.version, expected)?;
                tx.project_for_change(&tenant, &before.project).await?.ok_or_else(|| missing("service account"))?;
                let mut after = how(&before)?;
                match verb {
                    // Made while the account could give more than it does now, its keys may be mightier than it is.
                    Verb::Delete => issuer.check_ends(&tx.roles_of_account(&tenant, &id).await?)?,
                    Verb::Update => check_update(&issuer, &before, &after)?,
                }
                if after == before {
                    return Ok((after, None));
                }
                tx.service_account_update(&after.to_row()?, now).await?;
                (after.version, after.updated_at) = (before.version + 1, now);
                let target = ("service_account", id.as_str());
                let record = Record::new(verb.action(), Some(&tenant), target).before(&before).after(&after);
                Ok((after, Some(record)))
            })
        })
        .await
}

fn check_update(issuer: &Issuer, before: &ServiceAccount, after: &ServiceAccount) -> Result<()> {
    if !after.only_tightens(before) {
        issuer.check(before.role, &before.scope)?;
        issuer.check(after.role, &after.scope)?;
    }
    if after.takes_others(Some(before)) {
        issuer.check_federates()?;
    }
    issuer.check_own_account(&before.id, before.expires_at, after.expires_at)
}
