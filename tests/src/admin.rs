//! The admin API as a script uses it: makes tenants, projects and credentials. What is refused is a failed test.

use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// A caller of the admin API.
#[derive(Debug, Clone)]
pub struct Admin {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// A new credential: what names it, and what proves it.
#[derive(Debug, Clone)]
pub struct Made {
    /// `key_…` or `adm_…`
    pub id: String,
    /// To be sent as bearer token; of an access key, what requests are signed with.
    pub secret: String,
    /// `CKIA…`; empty for what is no access key.
    pub access_key_id: String,
}

impl Admin {
    /// With the address of the port and a token, or an API key.
    pub fn new(url: &str, token: &str) -> Admin {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Admin { http, url: url.into(), token: token.into() }
    }

    /// A call that must succeed: its body, `null` where it has none.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let reply = request.send().await.unwrap();
        let (status, text) = (reply.status(), reply.text().await.unwrap());
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    async fn make(&self, path: &str, input: &Value) -> Value {
        self.call(Method::POST, path, Some(input)).await
    }

    /// A tenant's id.
    pub async fn tenant(&self, name: &str) -> String {
        id(&self.make("/admin/v1/tenants", &json!({ "name": name })).await)
    }

    /// A project's id.
    pub async fn project(&self, tenant: &str, name: &str) -> String {
        id(&self.make(&format!("/admin/v1/tenants/{tenant}/projects"), &json!({ "name": name })).await)
    }

    /// A service account's id.
    pub async fn service_account(&self, tenant: &str, input: &Value) -> String {
        id(&self.make(&format!("/admin/v1/tenants/{tenant}/service-accounts"), input).await)
    }

    /// An API key.
    pub async fn api_key(&self, tenant: &str, input: &Value) -> Made {
        made(&self.make(&format!("/admin/v1/tenants/{tenant}/api-keys"), input).await)
    }

    /// An access key.
    pub async fn access_key(&self, tenant: &str, input: &Value) -> Made {
        made(&self.make(&format!("/admin/v1/tenants/{tenant}/access-keys"), input).await)
    }

    /// An operator's token.
    pub async fn admin_token(&self, input: &Value) -> Made {
        made(&self.make("/admin/v1/admin-tokens", input).await)
    }

    /// Deletes or revokes what is at a path.
    pub async fn delete(&self, path: &str) {
        self.call(Method::DELETE, path, None).await;
    }
}

fn id(view: &Value) -> String {
    view["id"].as_str().unwrap_or_else(|| panic!("no id: {view}")).to_owned()
}

fn made(view: &Value) -> Made {
    let text = |name: &str| view[name].as_str().map(str::to_owned);
    let secret = text("secret").or_else(|| text("secret_access_key")).unwrap_or_else(|| panic!("no secret: {view}"));
    Made { id: id(view), secret, access_key_id: text("access_key_id").unwrap_or_default() }
}
