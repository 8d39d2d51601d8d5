//! A caller of the gateway: both dialects, and the operators' view.

use crate::eventstream::ConverseStream;
use crate::gateway::MODEL;
use crate::sse::ChatStream;
use crate::wait::{SOON, until};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use std::time::Duration;

/// A caller with an API key.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    admin_url: String,
    key: String,
    admin_token: String,
}

impl Client {
    /// With both planes' addresses and credentials.
    pub fn new(url: &str, admin_url: &str, key: &str, admin_token: &str) -> Client {
        // A request that hangs is a failed test, not a hanging one.
        let http = reqwest::Client::builder().timeout(Duration::from_secs(120)).build().unwrap();
        Client { http, url: url.into(), admin_url: admin_url.into(), key: key.into(), admin_token: admin_token.into() }
    }

    /// With another key.
    pub fn with_key(&self, key: &str) -> Client {
        Client { key: key.into(), ..self.clone() }
    }

    /// Speaking HTTP/2 without asking first.
    pub fn over_h2c(&self) -> Client {
        let http =
            reqwest::Client::builder().http2_prior_knowledge().timeout(Duration::from_secs(120)).build().unwrap();
        Client { http, ..self.clone() }
    }

    /// A request to the data plane.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key)
    }

    /// `POST` of a JSON body to the data plane.
    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    /// `GET` of the data plane.
    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    /// A chat completion that must succeed: its request id and its body.
    pub async fn chat(&self, body: &Value) -> (String, Value) {
        let reply = self.post("/v1/chat/completions", body).await;
        let (status, id) = (reply.status(), request_id(&reply));
        let body: Value = reply.json().await.unwrap();
        assert_eq!(status, 200, "{body}");
        (id, body)
    }

    /// A streamed chat completion that must succeed: its request id and its stream.
    pub async fn chat_stream(&self, body: &Value) -> (String, ChatStream) {
        let reply = self.post("/v1/chat/completions", body).await;
        assert_eq!(reply.status(), 200);
        let id = request_id(&reply);
        (id, ChatStream::read(reply).await.unwrap())
    }

    /// A `Converse` that must succeed: its request id and its body.
    pub async fn converse(&self, model: &str, body: &Value) -> (String, Value) {
        let reply = self.post(&format!("/model/{model}/converse"), body).await;
        let (status, id) = (reply.status(), request_id(&reply));
        let body: Value = reply.json().await.unwrap();
        assert_eq!(status, 200, "{body}");
        (id, body)
    }

    /// A `ConverseStream` that must succeed: its request id and its stream.
    pub async fn converse_stream(&self, model: &str, body: &Value) -> (String, ConverseStream) {
        let reply = self.post(&format!("/model/{model}/converse-stream"), body).await;
        assert_eq!(reply.status(), 200);
        let id = request_id(&reply);
        (id, ConverseStream::read(reply).await.unwrap())
    }

    /// The operators' view of a request, once it is settled.
    pub async fn record(&self, request_id: &str) -> Value {
        let what = format!("{request_id} is settled");
        until(&what, SOON, async || {
            let reply = self.admin(&format!("/admin/v1/requests/{request_id}")).await;
            assert_eq!(reply.status(), 200, "the admin API knows {request_id}");
            let record: Value = reply.json().await.unwrap();
            (record["state"] == "settled").then_some(record)
        })
        .await
    }

    /// `GET` of the operators' plane.
    pub async fn admin(&self, path: &str) -> Response {
        self.http.get(format!("{}{path}", self.admin_url)).bearer_auth(&self.admin_token).send().await.unwrap()
    }
}

/// The request's id as both dialects give it.
pub fn request_id(reply: &Response) -> String {
    let header = |name: &str| reply.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    header("x-request-id").expect("every reply of the data plane names its request in x-request-id")
}

/// A chat request to the bundled model.
pub fn chat(text: &str, max_tokens: u32) -> Value {
    json!({
        "model": MODEL, "max_tokens": max_tokens, "temperature": 0,
        "messages": [{ "role": "user", "content": text }],
    })
}

/// The same, streamed, with usage at its end.
pub fn chat_streamed(text: &str, max_tokens: u32) -> Value {
    let mut body = chat(text, max_tokens);
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    body
}

/// A Converse request.
pub fn converse(text: &str, max_tokens: u32) -> Value {
    json!({
        "messages": [{ "role": "user", "content": [{ "text": text }] }],
        "inferenceConfig": { "maxTokens": max_tokens, "temperature": 0.0 },
    })
}
