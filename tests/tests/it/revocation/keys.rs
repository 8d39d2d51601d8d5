//! Many API keys, made and revoked as an administrator does it.

use caprock_tests::gateway::Gateway;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Instant;

/// An API key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) text: String,
}

/// Whoever makes and revokes them, at one replica's admin port.
#[derive(Debug, Clone)]
pub(super) struct Operator {
    http: reqwest::Client,
    url: String,
    token: String,
    tenant: String,
    project: String,
}

impl Operator {
    pub(super) async fn at(gateway: &Gateway) -> Operator {
        let http = reqwest::Client::builder().timeout(std::time::Duration::from_secs(30)).build().unwrap();
        let (url, token) = (gateway.admin_url(), gateway.admin_token().to_owned());
        let mut operator = Operator { http, url, token, tenant: String::new(), project: String::new() };
        operator.tenant = operator.only("/admin/v1/tenants").await;
        operator.project = operator.only(&format!("/admin/v1/tenants/{}/projects", operator.tenant)).await;
        operator
    }

    /// The id of a list's only entry.
    async fn only(&self, path: &str) -> String {
        let list: Value = self.call(Method::GET, path, None, 200).await;
        assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list}");
        list["data"][0]["id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn make(&self, name: &str) -> Key {
        let path = format!("/admin/v1/tenants/{}/api-keys", self.tenant);
        let made = self.call(Method::POST, &path, Some(json!({"name": name, "project_id": self.project})), 201).await;
        let (id, text) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
        Key { id: id.to_owned(), text: text.to_owned() }
    }

    /// When the reply was there.
    pub(super) async fn revoke(&self, key: &Key) -> Instant {
        let path = format!("/admin/v1/tenants/{}/api-keys/{}", self.tenant, key.id);
        self.call(Method::DELETE, &path, None, 204).await;
        Instant::now()
    }

    pub(super) async fn suspend(&self) -> Instant {
        self.call(Method::POST, &format!("/admin/v1/tenants/{}/suspend", self.tenant), None, 200).await;
        Instant::now()
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>, expected: u16) -> Value {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let reply = request.send().await.unwrap();
        let (status, text) = (reply.status(), reply.text().await.unwrap());
        assert_eq!(status, expected, "{path}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}
