//! What API keys, access keys and operators' tokens have in common over HTTP.

use super::call::Call;
use super::examples;
use super::time::Time;
use crate::auth::Caller;
use crate::clock::Micros;
use crate::error::{Error, Result};
use crate::id::{Id, KeyId, Named, ProjectId, ServiceAccountId};
use crate::quota::Limits;
use crate::store::CredentialFilter;
use crate::tenants::{self, CreateCredential, Credential, Name, Role, Scope, UpdateCredential};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Unless asked otherwise a former secret is accepted for a day more, in seconds.
const DEFAULT_OVERLAP_SECONDS: u32 = 24 * 3600;
/// What tenants are told in place of an operator's id.
pub const OPERATOR: &str = "operator";

/// Whether a credential is accepted, as far as that is its own doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialStatus {
    /// It is.
    Active,
    /// Its time is over; a later `expires_at` would bring it back.
    Expired,
    /// It was, and never will be again.
    Revoked,
}

impl CredentialStatus {
    /// At `now`.
    pub fn at(now: Micros, expires_at: Option<Micros>, revoked_at: Option<Micros>) -> CredentialStatus {
        match (revoked_at, expires_at) {
            (Some(_), _) => CredentialStatus::Revoked,
            (None, Some(at)) if at <= now => CredentialStatus::Expired,
            (None, _) => CredentialStatus::Active,
        }
    }
}

/// An API key or access key. Its secret is shown only by the calls that make it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::api_key())))]
pub struct CredentialView {
    /// `key_…`
    pub id: String,
    /// `prj_…`, for which it is used.
    pub project_id: String,
    /// `sva_…`, whose it is; absent: the project's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_id: Option<String>,
    /// For people; need not be unique.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// Narrows that.
    pub scope: Scope,
    /// Its own; those of its project and tenant count too, and the tightest wins.
    pub limits: Limits,
    /// Whether it is accepted.
    pub status: CredentialStatus,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// Public id of the credential that made it; to tenants `operator` for any operator's.
    pub created_by: String,
    /// Not accepted from then on; absent: until revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
    /// The secret before the last rotation is accepted until then; absent where there is none any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_secret_expires_at: Option<Time>,
    /// When it was last used, a little late; absent before its first use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Time>,
}

impl CredentialView {
    /// As this caller may see it.
    pub fn of(key: Credential, call: &Call) -> CredentialView {
        let now = call.now();
        CredentialView {
            id: key.id.to_string(),
            project_id: key.project.to_string(),
            service_account_id: key.service_account.map(|id| id.to_string()),
            name: key.name.as_str().to_owned(),
            role: key.role,
            scope: key.scope,
            limits: key.limits,
            status: CredentialStatus::at(now, key.expires_at, key.revoked_at),
            created_at: Time(key.created_at),
            updated_at: Time(key.updated_at),
            created_by: shown_author(key.created_by, call.caller()),
            expires_at: key.expires_at.map(Time),
            revoked_at: key.revoked_at.map(Time),
            previous_secret_expires_at: key.previous_expires_at.filter(|until| *until > now).map(Time),
            last_used_at: key.last_used_at.map(Time),
        }
    }
}

/// A key to be made, of a project or of a service account.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!(examples::credential_input())))]
pub struct CredentialInput {
    /// 1 to 64 characters.
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    /// `prj_…`; either this or `service_account_id`.
    pub project_id: Option<String>,
    /// `sva_…`, whose project it then has.
    pub service_account_id: Option<String>,
    /// A tenant's. Absent: `tenant_developer`, for a service account its own.
    pub role: Option<Role>,
    /// Absent: running and listing models, for a service account its own scope.
    pub scope: Option<Scope>,
    /// Its own; absent: none.
    #[serde(default)]
    pub limits: Limits,
    /// Ahead, at most ten years; absent: until revoked. It may lie beyond that of the credential that makes the key.
    pub expires_at: Option<Time>,
}

/// What changes of a key; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"scope": {"operations": ["inference"], "ip_ranges": ["10.0.0.0/8"]}, "expires_at": null}))]
pub struct CredentialPatch {
    /// 1 to 64 characters.
    #[schema(min_length = 1, max_length = 64)]
    pub name: Option<String>,
    /// A tenant's.
    pub role: Option<Role>,
    /// The whole of it.
    pub scope: Option<Scope>,
    /// All three.
    pub limits: Option<Limits>,
    /// Ahead, at most ten years; `null`: until revoked.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Time>)]
    pub expires_at: Option<Option<Time>>,
}

/// How a secret is replaced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"overlap_seconds": 3600}))]
pub struct RotateInput {
    /// For so long the former secret is accepted too; 0: not any more. Absent: a day. At most 30 days.
    #[serde(default = "default_overlap")]
    #[schema(minimum = 0, maximum = 2592000)]
    pub overlap_seconds: u32,
}

/// Which keys.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct CredentialQuery {
    /// Of this project.
    pub project_id: Option<String>,
    /// Of this service account.
    pub service_account_id: Option<String>,
    /// Exactly this name.
    pub name: Option<String>,
    /// Made with this credential, by its public id.
    pub created_by: Option<String>,
    /// Revoked ones too.
    #[serde(default)]
    pub with_revoked: bool,
    /// Most entries; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// Begin after this one: the former page's `next_after`.
    pub after: Option<String>,
}

impl Default for RotateInput {
    fn default() -> RotateInput {
        RotateInput { overlap_seconds: DEFAULT_OVERLAP_SECONDS }
    }
}

fn default_overlap() -> u32 {
    DEFAULT_OVERLAP_SECONDS
}

/// Tells `null` from absent: what is given is `Some`, whatever it is.
pub fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl CredentialQuery {
    /// What the store is asked for.
    ///
    /// # Errors
    /// `Invalid`, naming the id that is none.
    pub fn filter(&self, caller: &Caller) -> Result<CredentialFilter> {
        // A tenant who guesses an operator's id finds nothing; nothing has an empty author.
        let created_by = self.created_by.clone().map(|id| if may_know(caller, &id) { id } else { String::new() });
        Ok(CredentialFilter {
            project: parsed(self.project_id.as_deref(), "project_id")?,
            service_account: parsed(self.service_account_id.as_deref(), "service_account_id")?,
            name: self.name.clone(),
            created_by,
            with_revoked: self.with_revoked,
        })
    }

    /// Where the page begins.
    ///
    /// # Errors
    /// `Invalid`, naming `after`.
    pub fn after(&self) -> Result<Option<KeyId>> {
        parsed(self.after.as_deref(), "after")
    }
}

/// Operators are nobody's business but operators'.
fn shown_author(id: String, caller: &Caller) -> String {
    if may_know(caller, &id) { id } else { OPERATOR.to_owned() }
}

fn may_know(caller: &Caller, author_id: &str) -> bool {
    match caller {
        Caller::Operator(_) | Caller::Federated(_) => true,
        Caller::Tenant(_) => is_tenants(author_id),
    }
}

/// Whether it is the id of a credential that a tenant can have.
pub fn is_tenants(author_id: &str) -> bool {
    KeyId::parse(author_id).is_some() || ServiceAccountId::parse(author_id).is_some()
}

fn parsed<K: Named>(text: Option<&str>, param: &str) -> Result<Option<Id<K>>> {
    let refuse = || Error::invalid(param, format!("It is no id of the form {}_….", K::PREFIX));
    text.map(|text| Id::parse(text).ok_or_else(refuse)).transpose()
}

impl CredentialInput {
    /// What is to be made. A service account says what is not given.
    ///
    /// # Errors
    /// `Invalid`, naming the field; `NotFound` for a project or service account that is not the tenant's.
    pub async fn resolve(self, call: &Call) -> Result<CreateCredential> {
        let name = Name::parse(&self.name)?;
        let (service_account, project, role, scope) = match (&self.project_id, &self.service_account_id) {
            (Some(project), None) => {
                // What is no id can't be the tenant's: the same words as for one that isn't.
                let project = ProjectId::parse(project);
                let project = project.ok_or_else(|| tenants::missing("project").about("project_id"))?;
                (None, project, Role::TenantDeveloper, Scope::default())
            }
            (None, Some(account)) => {
                let account = ServiceAccountId::parse(account).ok_or_else(tenants::missing_account)?;
                let bounds = tenants::account_bounds(&call.app().store, call.tenant()?, &account).await?;
                (Some(account), bounds.project, bounds.role, bounds.scope)
            }
            (None, None) => return Err(Error::invalid("project_id", "Give project_id or service_account_id.")),
            (Some(_), Some(_)) => {
                let text = "Give project_id or service_account_id, not both: a service account has its project.";
                return Err(Error::invalid("service_account_id", text));
            }
        };
        Ok(CreateCredential {
            name,
            project,
            service_account,
            role: self.role.unwrap_or(role),
            scope: self.scope.unwrap_or(scope),
            limits: self.limits,
            expires_at: self.expires_at.map(|time| time.0),
        })
    }
}

impl CredentialPatch {
    /// What is to be changed.
    ///
    /// # Errors
    /// `Invalid`, naming `name`.
    pub fn update(self) -> Result<UpdateCredential> {
        Ok(UpdateCredential {
            name: self.name.as_deref().map(Name::parse).transpose()?,
            role: self.role,
            scope: self.scope,
            limits: self.limits,
            expires_at: self.expires_at.map(|given| given.map(|time| time.0)),
        })
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
