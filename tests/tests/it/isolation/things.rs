//! Two tenants with one thing of each kind, and fresh things for calls that use them up.

use super::table::Victim;
use caprock_tests::admin::{Admin, Made};
use caprock_tests::client::Client;
use caprock_tests::gateway::MODEL;
use reqwest::Method;
use serde_json::{Value, json};

/// What operations are asked about.
#[derive(Debug, Clone)]
pub(super) struct Things {
    /// `ten_…`
    pub(super) tenant: String,
    /// `prj_…`
    pub(super) project: String,
    /// `sva_…`
    pub(super) service_account: String,
    /// `key_…` of an API key.
    pub(super) api_key: String,
    /// `key_…` of an access key.
    pub(super) access_key: String,
    /// `req_…`
    pub(super) request: String,
    /// `adm_…` of an operator's token; no tenant's.
    pub(super) token: String,
    /// What the catalog calls a model.
    pub(super) model: String,
    /// Another name of a model; only where an operation uses one up is there one.
    pub(super) alias: String,
}

/// A tenant with its owner.
#[derive(Debug, Clone)]
pub(super) struct Side {
    /// One of each kind.
    pub(super) things: Things,
    /// The owner's API key, with all operations.
    pub(super) owner: Made,
    /// Texts that nobody else may ever see: names, and whatever else was made up for this tenant.
    pub(super) names: Vec<String>,
    /// Secrets of its credentials.
    pub(super) secrets: Vec<String>,
}

/// Role and scope of a credential that has all operations.
pub(super) fn of_role(role: &str, project: &str, name: &str) -> Value {
    let scope = json!({ "operations": super::roles::OPERATIONS });
    json!({ "name": name, "project_id": project, "role": role, "scope": scope })
}

impl Side {
    /// Makes a tenant and all that it has; every name contains `mark`.
    pub(super) async fn make(operator: &Admin, client: &Client, mark: &str, token: &str) -> Side {
        let name = |what: &str| format!("{mark}-{what}");
        let tenant = operator.tenant(&name("tenant")).await;
        let project = operator.project(&tenant, &name("project")).await;
        let owner = operator.api_key(&tenant, &of_role("tenant_owner", &project, &name("owner"))).await;
        let narrow = json!({ "operations": ["administer"] });
        let account = json!({
            "name": name("account"), "project_id": project, "scope": narrow,
            "federated_identity": { "issuer": "https://issuer.example", "subject": name("subject") },
        });
        let service_account = operator.service_account(&tenant, &account).await;
        let input = |what: &str| json!({ "name": name(what), "project_id": project, "scope": narrow });
        let api_key = operator.api_key(&tenant, &input("key")).await;
        let access_key = operator.access_key(&tenant, &input("access-key")).await;
        // What it asks a model is nobody's business either.
        let prompt = caprock_tests::client::chat(&name("prompt"), 4);
        let (request, _) = client.with_key(&owner.secret).chat(&prompt).await;
        client.record(&request).await;
        let things = Things {
            tenant,
            project,
            service_account,
            api_key: api_key.id.clone(),
            access_key: access_key.id.clone(),
            request,
            token: token.to_owned(),
            model: MODEL.to_owned(),
            alias: "isolation-alias".to_owned(),
        };
        let secrets = [&owner, &api_key, &access_key].map(|made| made.secret.clone()).into();
        Side { things, owner, names: vec![mark.to_owned()], secrets }
    }

    /// What may be in no reply that another tenant gets.
    pub(super) fn canaries(&self) -> Vec<String> {
        let ids = self.things.ids().into_iter().filter(|id| *id != self.things.token).map(str::to_owned);
        let owner = self.owner.id.clone();
        ids.chain([owner]).chain(self.names.iter().cloned()).chain(self.secrets.iter().cloned()).collect()
    }
}

impl Things {
    /// Ids of all kinds; the last one is an operator's.
    pub(super) fn ids(&self) -> [&str; 7] {
        [
            &self.tenant,
            &self.project,
            &self.service_account,
            &self.api_key,
            &self.access_key,
            &self.request,
            &self.token,
        ]
    }

    /// What a parameter of a path is to be.
    pub(super) fn in_path(&self, path: &str, parameter: &str) -> &str {
        match parameter {
            "tenant_id" => &self.tenant,
            "project_id" => &self.project,
            "service_account_id" => &self.service_account,
            "key_id" if path.contains("/access-keys/") => &self.access_key,
            "key_id" => &self.api_key,
            "request_id" => &self.request,
            "token_id" => &self.token,
            "model" | "modelId" | "model_id" => &self.model,
            "alias_id" => &self.alias,
            _ => panic!("{path}: what is a {parameter}? The suite has no thing for it"),
        }
    }

    /// The same things, none of which was ever there.
    pub(super) fn twins(&self) -> Things {
        Things {
            tenant: twin(&self.tenant),
            project: twin(&self.project),
            service_account: twin(&self.service_account),
            api_key: twin(&self.api_key),
            access_key: twin(&self.access_key),
            request: twin(&self.request),
            token: twin(&self.token),
            model: self.model.clone(),
            alias: self.alias.clone(),
        }
    }

    /// These things, with a fresh one in place of what a call uses up.
    pub(super) async fn with_fresh(&self, victim: Victim, operator: &Admin, unique: &str) -> Things {
        let (tenant, mut things) = (&self.tenant, self.clone());
        let narrow = json!({ "operations": ["administer"] });
        let input = json!({ "name": unique, "project_id": self.project, "scope": narrow });
        match victim {
            Victim::None => {}
            Victim::Tenant => things.tenant = operator.tenant(unique).await,
            Victim::Project => things.project = operator.project(tenant, unique).await,
            Victim::ServiceAccount => things.service_account = operator.service_account(tenant, &input).await,
            Victim::ApiKey => things.api_key = operator.api_key(tenant, &input).await.id,
            Victim::AccessKey => things.access_key = operator.access_key(tenant, &input).await.id,
            Victim::AdminToken => {
                let input = json!({ "name": unique, "role": "platform_viewer", "scope": narrow });
                things.token = operator.admin_token(&input).await.id;
            }
            Victim::Model => {
                let input = model(unique);
                things.model = input["id"].as_str().unwrap().to_owned();
                operator.call(Method::POST, "/admin/v1/models", Some(&input)).await;
            }
            Victim::ModelAlias => {
                things.alias = format!("isolation.{unique}");
                let path = format!("/admin/v1/model-aliases/{}", things.alias);
                operator.call(Method::PUT, &path, Some(&json!({ "target": MODEL }))).await;
            }
        }
        things
    }
}

/// A model for the catalog.
pub(super) fn model(unique: &str) -> Value {
    json!({
        "id": format!("isolation.{unique}"), "name": "Isolation", "provider": "Example", "context_tokens": 1024,
        "price_picousd_per_token": { "input": 1, "output": 1, "source": "a test" }, "stand_in": MODEL,
    })
}

/// An id of the same form that was never there: the very next one, so that it sorts where the given one does and a list
/// that begins after it begins at the same place.
pub(super) fn twin(id: &str) -> String {
    let (front, last) = id.split_at(id.len() - 1);
    // Whatever of hex, base 32 and base 62 the last character is of, so is its stand-in.
    let other = match last {
        "2" => "3",
        digit if digit.bytes().all(|byte| byte.is_ascii_digit()) => "2",
        "a" => "b",
        "A" => "B",
        upper if upper.bytes().all(|byte| byte.is_ascii_uppercase()) => "A",
        _ => "a",
    };
    format!("{front}{other}")
}
