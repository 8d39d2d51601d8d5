//! A gateway with two tenants; calls of its operations, and what was wrong with their replies.

use super::callers::{Caller, Credential, Expected, Port};
use super::table::{Api, For, Row, TABLE};
use super::things::{Side, Things};
use caprock_tests::admin::Admin;
use caprock_tests::issuer::Issuer;
use caprock_tests::openapi::{Document, Operation};
use caprock_tests::rows::Rows;
use caprock_tests::sigv4;
use caprock_tests::stack::{Stack, StackSpec};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Says when a credential was last used, and is written behind calls' backs.
const BESIDES: [&str; 1] = ["credential_uses"];
/// Findings shown of a part.
const SHOWN: usize = 30;
/// Characters shown of a body.
const SHOWN_CHARS: usize = 300;

/// The suite's state.
#[derive(Debug)]
pub(super) struct Suite {
    /// The programs.
    pub(super) stack: Stack,
    /// A platform admin.
    pub(super) operator: Admin,
    /// The tenant that calls.
    pub(super) a: Side,
    /// The tenant that must not be touched, or seen.
    pub(super) b: Side,
    /// Whose JWTs the gateway trusts.
    pub(super) issuer: Issuer,
    http: reqwest::Client,
    documents: [Document; 2],
    canaries: Vec<String>,
    findings: Mutex<Vec<String>>,
    failed: Mutex<Vec<String>>,
    calls: AtomicUsize,
}

/// A call.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// `GET` …
    pub(super) method: Method,
    /// With ids in it.
    pub(super) path: String,
    /// Parameters.
    pub(super) query: Vec<(String, String)>,
    /// JSON.
    pub(super) body: Option<Value>,
    /// Further headers.
    pub(super) headers: Vec<(&'static str, String)>,
    /// Which API.
    pub(super) api: Api,
    /// What it asks for by name: in a reply this is no news.
    pub(super) asked: Vec<String>,
}

/// A reply, without what differs between any two of the same call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// Status.
    pub(super) status: u16,
    /// Names and values, without ids and dates.
    pub(super) headers: BTreeMap<String, String>,
    /// What was asked for, ids of requests and times are replaced.
    pub(super) body: String,
}

impl Suite {
    /// Starts all and makes both tenants.
    pub(super) async fn start(mut spec: StackSpec) -> Suite {
        let issuer = Issuer::new();
        spec.gateway = format!("{}\n{}", spec.gateway, issuer.config());
        let stack = spec.start().await;
        let token = stack.gateway.admin_token();
        let operator = Admin::new(&stack.gateway.admin_url(), token);
        // An operator who has nothing to do with either: the one who makes them is in what A may see.
        let viewer = json!({ "name": "isolation", "role": "platform_viewer" });
        let viewer = operator.admin_token(&viewer).await.id;
        let mark = |letter: char| format!("{letter}-{:016x}", rand::random::<u64>());
        let client = stack.client();
        let a = Side::make(&operator, &client, &mark('a'), &viewer).await;
        let b = Side::make(&operator, &client, &mark('b'), &viewer).await;
        let http = reqwest::Client::builder().timeout(std::time::Duration::from_secs(60)).build().unwrap();
        Suite {
            stack,
            operator,
            a,
            canaries: b.canaries(),
            b,
            issuer,
            http,
            documents: [Document::inference(), Document::admin()],
            findings: Mutex::default(),
            failed: Mutex::default(),
            calls: AtomicUsize::default(),
        }
    }

    /// All operations, each with its row.
    pub(super) fn operations(&self) -> Vec<(Row, Operation<'_>)> {
        let [inference, admin] = &self.documents;
        let of = |row: &Row| {
            let document = if row.api == Api::Inference { inference } else { admin };
            let found = document.operations().into_iter().find(|operation| operation.id == row.id);
            (*row, found.unwrap_or_else(|| panic!("no description has {}", row.id)))
        };
        TABLE.iter().map(of).collect()
    }

    /// Notes what is wrong.
    pub(super) fn note(&self, finding: String) {
        let mut findings = self.findings.lock().unwrap();
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }

    /// Ends a part. The next ones are run whatever was found: one run tells all.
    pub(super) fn ends(&self, part: &str) {
        let findings = std::mem::take(&mut *self.findings.lock().unwrap());
        let calls = self.calls.swap(0, Ordering::Relaxed);
        assert!(calls > 0, "{part}: nothing was tried");
        eprintln!("{part}: {calls} calls, {} findings", findings.len());
        if !findings.is_empty() {
            let shown: Vec<&str> = findings.iter().map(String::as_str).take(SHOWN).collect();
            let text = format!("{part}: {} findings in {calls} calls:\n{}", findings.len(), shown.join("\n"));
            self.failed.lock().unwrap().push(text);
        }
    }

    /// Fails if anything was found in any part.
    pub(super) fn passes(&self) {
        let failed = self.failed.lock().unwrap();
        assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    }

    /// Everything in the database that calls change.
    pub(super) async fn rows(&self) -> Rows {
        self.stack.gateway.books().await.all_rows(&BESIDES).await
    }

    /// Sends a call. Whatever a caller that is no operator gets has nothing of tenant B's in it.
    pub(super) async fn send(&self, caller: &Caller, port: Port, ask: &Ask) -> Reply {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let gateway = &self.stack.gateway;
        let base = if ask.api == Api::Admin && port == Port::Own { gateway.admin_url() } else { gateway.url() };
        // Ids and names, which need no encoding.
        let query: Vec<String> = ask.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let mut request = self.http.request(ask.method.clone(), format!("{base}{}{query}", ask.path));
        let body = ask.body.as_ref().map(|body| serde_json::to_vec(body).unwrap());
        match &caller.credential {
            Credential::None => {}
            Credential::Authorization(value) => request = request.header("authorization", value),
            Credential::ApiKeyHeader(key) => request = request.header("x-api-key", key),
            Credential::Signature(id, secret) => {
                let host = base.trim_start_matches("http://");
                let body = body.as_deref().unwrap_or_default();
                for (name, value) in sigv4::sign((id, secret), ask.method.as_str(), host, &ask.path, body) {
                    request = request.header(name, value);
                }
            }
        }
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let reply = request.send().await.unwrap();
        let status = reply.status().as_u16();
        let mut headers = BTreeMap::new();
        for (name, value) in reply.headers() {
            headers.insert(name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
        let own_id = headers.get("x-request-id").cloned().unwrap_or_default();
        let bytes = reply.bytes().await.unwrap();
        // Times are not of one length, so it is only compared whether it is the body's.
        if headers.get("content-length").is_some_and(|length| *length == bytes.len().to_string()) {
            headers.insert("content-length".into(), "the body's".into());
        }
        let mut body = String::from_utf8_lossy(&bytes).into_owned();
        for text in std::iter::once(&mut body).chain(headers.values_mut()) {
            for asked in &ask.asked {
                *text = text.replace(asked.as_str(), "<asked>");
            }
        }
        if !caller.is_operator() {
            for canary in &self.canaries {
                if body.contains(canary.as_str()) || headers.values().any(|value| value.contains(canary.as_str())) {
                    self.note(format!("{} {} as {}: the reply has {canary}", ask.method, ask.path, caller.name));
                }
            }
        }
        for (name, value) in &mut headers {
            if ["date", "x-request-id", "x-amzn-requestid", "x-amz-request-id"].contains(&name.as_str()) {
                value.clear();
            }
        }
        if !own_id.is_empty() {
            body = body.replace(&own_id, "<request>");
        }
        Reply { status, headers, body: without_times(&body) }
    }

    /// Sends a call and checks what became of it.
    pub(super) async fn expect(&self, caller: &Caller, port: Port, row: &Row, ask: &Ask, expected: Expected) {
        let reply = self.send(caller, port, ask).await;
        let wanted = match expected {
            Expected::Success => (200..300).contains(&reply.status),
            Expected::Unauthenticated if row.caller == For::Bedrock => {
                reply.status == 403 && reply.headers.contains_key("x-amzn-errortype")
            }
            Expected::Unauthenticated => reply.status == 401,
            Expected::Forbidden => reply.status == 403,
            Expected::NotFound => reply.status == 404,
        };
        if !wanted {
            let (id, name) = (row.id, &caller.name);
            self.note(format!("{id} as {name} ({port:?} port): expected {expected:?}, got {}", reply.in_short()));
        }
    }
}

impl Reply {
    /// For messages: status and the body's beginning.
    pub(super) fn in_short(&self) -> String {
        let body: String = self.body.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
        format!("{} {body}", self.status)
    }
}

impl Ask {
    /// A call of an operation about things, as it should be.
    pub(super) fn of(row: &Row, operation: &Operation<'_>, things: &Things, unique: &str) -> Ask {
        let value = |parameter: &str| things.in_path(operation.path, parameter).to_owned();
        Ask::at(row, operation, &value, row.body.map(|body| body(things, unique)))
    }

    /// A call of an operation with given parameters of its path.
    pub(super) fn at(row: &Row, operation: &Operation<'_>, value: &dyn Fn(&str) -> String, body: Option<Value>) -> Ask {
        let mut path = operation.path.to_owned();
        for (place, name, _) in operation.parameters() {
            if place == "path" {
                path = path.replace(&format!("{{{name}}}"), &value(name));
            }
        }
        let method = operation.method.to_uppercase().parse().unwrap();
        Ask { method, path, query: Vec::new(), body, headers: Vec::new(), api: row.api, asked: Vec::new() }
    }
}

/// Times, as RFC 3339 writes them, replaced: two replies are never made at the same one.
fn without_times(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while at < text.len() {
        match time_at(&bytes[at..]) {
            Some(length) => {
                out.push_str("<time>");
                at += length;
            }
            None => {
                let next = text[at..].chars().next().unwrap();
                out.push(next);
                at += next.len_utf8();
            }
        }
    }
    out
}

/// The length of a time like `2026-11-23T12:00:00.123456Z` at the beginning of a text.
fn time_at(bytes: &[u8]) -> Option<usize> {
    const FORM: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let fits = bytes.len() > FORM.len()
        && FORM.iter().zip(bytes).all(|(form, byte)| if *form == b'd' { byte.is_ascii_digit() } else { form == byte });
    let rest = fits.then(|| bytes[FORM.len()..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.'));
    let end = FORM.len() + rest?.count();
    (bytes.get(end) == Some(&b'Z')).then_some(end + 1)
}

#[test]
fn times_are_found_wherever_they_stand() {
    let text = r#"{"at":"2026-11-23T12:00:00Z","ü":"2026-11-23T12:00:00.123456Z x 2026-11-23"}"#;
    assert_eq!(without_times(text), r#"{"at":"<time>","ü":"<time> x 2026-11-23"}"#);
}
