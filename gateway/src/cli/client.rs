//! The admin API as commands call it: one connection per call, bounded in time and size, failures as words.

use crate::admin::problem::Problem;
use crate::https;
use bytes::Bytes;
use clap::Args;
use clap::builder::FalseyValueParser;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client as Http, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::error::Error;
use std::fmt::{Display, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

/// For a whole call, unless a command knows better; of a streamed reply, for its head and between two pieces.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const MAX_REPLY_BYTES: usize = 16 << 20;
/// Longest line of a streamed reply.
const MAX_LINE_BYTES: usize = 16 << 20;
/// Before a creating call is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Everything but what RFC 3986 never needs escaped, so that ids in a path stay readable.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where the admin API is, and who asks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// Where the admin port is, http or https. Where `admin.on_data_port` is set, a tenant's administrators give the data
    /// port.
    #[arg(long, env = "CAPROCK_ADMIN_URL", default_value = "http://127.0.0.1:8081", value_name = "URL")]
    pub(super) admin_url: String,
    /// An operator's token, or a tenant's API key for what its role may do. Give it in the environment, so that it shows in
    /// no list of processes.
    #[arg(long, env = "CAPROCK_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(super) admin_token: Option<String>,
    /// Authorities trusted for https beside the machine's own, as PEM.
    #[arg(long, env = "CAPROCK_CA_FILE", value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Send the token by plain http to another machine, too, where everybody on the way can read it.
    #[arg(long, env = "CAPROCK_INSECURE_HTTP", value_parser = FalseyValueParser::new())]
    pub(super) insecure_http: bool,
    /// For a command that makes something or rotates a secret: repeats the one that failed with this key, and gets its reply
    /// if it was carried out. Otherwise a new one is made up.
    #[arg(long, value_name = "KEY")]
    pub(super) idempotency_key: Option<String>,
}

#[cfg(test)]
impl Connection {
    pub(super) fn of(url: &str, token: &str) -> Connection {
        let (admin_url, admin_token) = (url.to_owned(), Some(token.to_owned()));
        Connection { admin_url, admin_token, ca_file: None, insecure_http: false, idempotency_key: None }
    }
}

/// A caller of the admin API.
#[derive(Debug)]
pub(super) struct Client {
    url: String,
    authorization: HeaderValue,
    idempotency_key: Option<String>,
    http: Http<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// A good reply.
#[derive(Debug)]
pub(super) struct Reply {
    /// Empty where there is nothing to say.
    pub(super) body: Bytes,
    /// What an update can be bound to.
    pub(super) etag: Option<String>,
}

/// Why there is no good reply.
#[derive(Debug)]
struct Failure {
    text: String,
    /// It may be there, or not: the same call with the same Idempotency-Key is safe.
    may_be_repeated: bool,
    /// What was asked for may have been done.
    may_be_done: bool,
}

impl From<Failure> for String {
    fn from(failure: Failure) -> String {
        failure.text
    }
}

impl Failure {
    fn with_key(self, key: &str) -> String {
        if !self.may_be_done {
            return self.text;
        }
        let text = self.text;
        format!("{text}; it may be done all the same, so repeat the command with --idempotency-key {key}")
    }
}

/// Whether what is sent to this host stays on the machine.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

impl Client {
    /// For these settings; nothing is connected yet.
    pub(super) fn new(connection: Connection) -> Result<Client, String> {
        let Connection { admin_url, admin_token, ca_file, insecure_http, idempotency_key } = connection;
        let token = admin_token.ok_or("no admin token: set CAPROCK_ADMIN_TOKEN")?;
        let url = admin_url.trim_end_matches('/').to_owned();
        let refuse = || format!("`{admin_url}` is no address such as https://host:port");
        let parsed: Uri = url.parse().map_err(|_| refuse())?;
        let https = match parsed.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refuse()),
        };
        if parsed.authority().is_none_or(|authority| authority.as_str().contains('@')) || parsed.query().is_some() {
            return Err(refuse());
        }
        if !https && !insecure_http && !parsed.host().is_some_and(is_this_machine) {
            let text = format!(
                "{admin_url} is another machine, and everybody on the way could read the token: use https, or allow it by \
                 --insecure-http"
            );
            return Err(text);
        }
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| "the admin token can't be sent in a header".to_owned())?;
        authorization.set_sensitive(true);
        let connector = https::connector(https, ca_file.as_deref())?;
        // A command makes few calls; a kept connection could break under one that must not be repeated.
        let http = Http::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Client { url, authorization, idempotency_key, http })
    }

    /// The body of a reply that says 200.
    pub(super) async fn get(&self, path: &str, patience: Duration) -> Result<Bytes, String> {
        Ok(self.whole(self.request(Method::GET, path, None)?, patience).await?.body)
    }

    /// What is there, with its ETag.
    pub(super) async fn read(&self, path: &str) -> Result<Reply, String> {
        Ok(self.whole(self.request(Method::GET, path, None)?, PATIENCE).await?)
    }

    /// Makes something, once: the call carries an Idempotency-Key, and is repeated once when the connection breaks or the
    /// gateway says that it is busy. Where it stays unknown whether it was done, the failure names the key.
    pub(super) async fn create(&self, path: &str, body: &Value) -> Result<Reply, String> {
        let mut request = self.request(Method::POST, path, Some(body))?;
        let key = self.idempotency_key.clone();
        let key = key.unwrap_or_else(|| format!("caprock-{:032x}", rand::random::<u128>()));
        let value =
            HeaderValue::try_from(&key).map_err(|_| "the idempotency key can't be sent in a header".to_owned())?;
        request.headers_mut().insert("idempotency-key", value);
        let first = match self.whole(request.clone(), PATIENCE).await {
            Err(failure) if failure.may_be_repeated => failure,
            done => return done.map_err(|failure| failure.with_key(&key)),
        };
        tracing::debug!(error = first.text, "trying again");
        tokio::time::sleep(RETRY_PAUSE).await;
        let second = self.whole(request, PATIENCE).await;
        second.map_err(|failure| {
            // One that was not heard leaves open what became of the first; an answer would have been the first one's.
            let may_be_done = failure.may_be_done || (failure.may_be_repeated && first.may_be_done);
            Failure { may_be_done, ..failure }.with_key(&key)
        })
    }

    /// Changes or removes something. With `if_match` only while it has that ETag.
    pub(super) async fn change(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Reply, String> {
        let mut request = self.request(method, path, body)?;
        if let Some(etag) = if_match {
            request.headers_mut().insert(IF_MATCH, HeaderValue::try_from(etag).map_err(|error| error.to_string())?);
        }
        Ok(self.whole(request, PATIENCE).await?)
    }

    /// Each line of a reply that says 200, without its end, as it comes.
    pub(super) async fn lines(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let request = self.request(Method::GET, path, None)?;
        let sent = timeout(PATIENCE, self.send(request)).await.map_err(|_| self.is_silent().text)?;
        let mut body = sent.map_err(String::from)?.into_body();
        let mut rest = Vec::new();
        while let Some(frame) = timeout(PATIENCE, body.frame()).await.map_err(|_| self.is_silent().text)? {
            let frame = frame.map_err(|error| format!("the reply broke off: {error}"))?;
            let Ok(data) = frame.into_data() else { continue };
            for part in data.split_inclusive(|byte| *byte == b'\n') {
                rest.extend_from_slice(part);
                if let Some(line) = rest.strip_suffix(b"\n") {
                    each(line)?;
                    rest.clear();
                } else if rest.len() > MAX_LINE_BYTES {
                    return Err(format!("a line of the reply is longer than {MAX_LINE_BYTES} bytes"));
                }
            }
        }
        if rest.is_empty() { Ok(()) } else { Err("the reply broke off within a line".into()) }
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Request<Full<Bytes>>, String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(AUTHORIZATION, self.authorization.clone())
            .header(ACCEPT, "application/json");
        let request = match body {
            Some(body) => {
                let text = serde_json::to_vec(body).map_err(|error| error.to_string())?;
                request.header(CONTENT_TYPE, "application/json").body(Full::from(text))
            }
            None => request.body(Full::default()),
        };
        request.map_err(|error| format!("{}{path}: {error}", self.url))
    }

    async fn whole(&self, request: Request<Full<Bytes>>, patience: Duration) -> Result<Reply, Failure> {
        let exchange = async {
            let response = self.send(request).await?;
            let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
            let body = Limited::new(response.into_body(), MAX_REPLY_BYTES).collect().await;
            let body = body.map_err(|error| self.broken(&*error))?.to_bytes();
            Ok(Reply { body, etag })
        };
        timeout(patience, exchange).await.unwrap_or_else(|_| Err(self.is_silent()))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let sent = self.http.request(request).await;
        let response = sent.map_err(|error| Failure { may_be_done: !error.is_connect(), ..self.broken(&error) })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // What can't be read of a refusal is not what matters about it.
        let body = Limited::new(response.into_body(), MAX_REPLY_BYTES).collect().await;
        let text = refusal(status, &body.map(|body| body.to_bytes()).unwrap_or_default());
        let may_be_repeated = status == StatusCode::SERVICE_UNAVAILABLE;
        Err(Failure { text, may_be_repeated, may_be_done: status.is_server_error() })
    }

    fn broken(&self, error: &dyn Error) -> Failure {
        let text = format!("can't reach {}: {}", self.url, root_cause(error));
        Failure { text, may_be_repeated: true, may_be_done: true }
    }

    fn is_silent(&self) -> Failure {
        Failure { text: format!("{} does not answer", self.url), may_be_repeated: true, may_be_done: true }
    }
}

/// The innermost cause, which names what happened; those around it only say where.
pub(super) fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A failure in words, with the field at fault.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<Problem>(body) {
        Ok(Problem { detail, param: Some(param), .. }) => format!("{detail} ({param})"),
        Ok(Problem { detail, .. }) => detail,
        Err(_) => format!("the admin API answered {status}"),
    }
}

/// A path with those parameters that have a value.
pub(super) fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let mut text = path.to_owned();
    for (name, value) in parameters {
        if let Some(value) = value {
            let separator = if text.contains('?') { '&' } else { '?' };
            // Writing to a string can't fail.
            let _ = write!(text, "{separator}{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
    }
    text
}

/// A part of a path, whatever is in it.
pub(super) fn segment(text: &str) -> impl Display {
    utf8_percent_encode(text, ESCAPED)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
